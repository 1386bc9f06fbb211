//! From the schema that the journal and the manifest carry to Arrow's.
//!
//! Types are plain (no views, no dictionaries, offsets of 32 bits). What Arrow's types cannot say travels in field
//! metadata: the source's own type name, and the canonical extension types from which the Parquet writer takes its UUID
//! and JSON annotations.

use crate::run::schema::{Column, ColumnType, Schema, StructField};
use arrow::datatypes::{DECIMAL128_MAX_PRECISION, DataType, Field, FieldRef, Fields, SchemaRef, TimeUnit};
use std::collections::HashMap;
use std::sync::Arc;

/// Field metadata key of the source's own name for a column's type: `numeric(12,2)`, `character varying(20)`.
pub const SOURCE_TYPE: &str = "rivet.source_type";

/// Name of a list's inner field, which is the one that the Parquet format prescribes for a `LIST`'s third level.
pub const LIST_ELEMENT: &str = "element";

// Arrow's canonical extension types: https://arrow.apache.org/docs/format/CanonicalExtensions.html
const EXTENSION_NAME: &str = "ARROW:extension:name";
const EXTENSION_METADATA: &str = "ARROW:extension:metadata";

/// The Arrow type that holds values of a column type.
pub fn data_type(column_type: &ColumnType) -> DataType {
    match column_type {
        ColumnType::Bool => DataType::Boolean,
        ColumnType::Int16 => DataType::Int16,
        ColumnType::Int32 => DataType::Int32,
        ColumnType::Int64 => DataType::Int64,
        ColumnType::UInt32 => DataType::UInt32,
        ColumnType::UInt64 => DataType::UInt64,
        ColumnType::Float32 => DataType::Float32,
        ColumnType::Float64 => DataType::Float64,
        // Scales stay below 77, so they always fit.
        ColumnType::Decimal { precision, scale } if *precision <= DECIMAL128_MAX_PRECISION => {
            DataType::Decimal128(*precision, *scale as i8)
        }
        ColumnType::Decimal { precision, scale } => DataType::Decimal256(*precision, *scale as i8),
        ColumnType::Date => DataType::Date32,
        ColumnType::Time => DataType::Time64(TimeUnit::Microsecond),
        ColumnType::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
        ColumnType::TimestampUtc => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        ColumnType::Text | ColumnType::Json => DataType::Utf8,
        ColumnType::Binary => DataType::Binary,
        ColumnType::Uuid => DataType::FixedSizeBinary(16),
        ColumnType::Interval => DataType::Struct(interval_fields()),
        ColumnType::List(element) => DataType::List(list_field(element)),
        ColumnType::Struct(fields) => DataType::Struct(struct_fields(fields)),
        ColumnType::Range(element) => DataType::Struct(range_fields(element)),
        ColumnType::Map => DataType::Map(map_entries(), false),
    }
}

fn inner_field(name: &str, column_type: &ColumnType, nullable: bool) -> FieldRef {
    let mut metadata = HashMap::new();
    mark_extension(column_type, &mut metadata);
    Arc::new(Field::new(name, data_type(column_type), nullable).with_metadata(metadata))
}

/// The parts of an interval, which together are as PostgreSQL stores it.
pub fn interval_fields() -> Fields {
    let part = |name, data_type| Field::new(name, data_type, false);
    Fields::from(vec![part("months", DataType::Int32), part("days", DataType::Int32), part("micros", DataType::Int64)])
}

/// The fields of a composite value. Each may be NULL: PostgreSQL has no composite type that forbids it.
pub fn struct_fields(fields: &[StructField]) -> Fields {
    fields.iter().map(|field| inner_field(&field.name, &field.column_type, true)).collect()
}

/// A range's ends, NULL where it has none, and whether they belong to it. An empty range has neither.
pub fn range_fields(element: &ColumnType) -> Fields {
    let flag = |name| Arc::new(Field::new(name, DataType::Boolean, false));
    Fields::from(vec![
        inner_field("lower", element, true),
        inner_field("upper", element, true),
        flag("lower_inc"),
        flag("upper_inc"),
        flag("empty"),
    ])
}

/// Arrow's and Parquet's own names for the entries of a map.
pub fn map_entries() -> FieldRef {
    let entry = Fields::from(vec![Field::new("key", DataType::Utf8, false), Field::new("value", DataType::Utf8, true)]);
    Arc::new(Field::new("key_value", DataType::Struct(entry), false))
}

/// The inner field of a list of `element`. Elements may always be NULL: PostgreSQL has no array type that forbids it.
///
/// Decoders build their list arrays with this field, so that batches and schema agree to the letter.
pub fn list_field(element: &ColumnType) -> FieldRef {
    inner_field(LIST_ELEMENT, element, true)
}

/// The field of one column, with its source type and, where there is one, its extension type as metadata.
pub fn field(column: &Column) -> FieldRef {
    let mut metadata = HashMap::from([(SOURCE_TYPE.to_owned(), column.source_type.clone())]);
    mark_extension(&column.column_type, &mut metadata);
    Arc::new(Field::new(&column.name, data_type(&column.column_type), column.nullable).with_metadata(metadata))
}

/// All columns in order.
pub fn arrow_schema(schema: &Schema) -> SchemaRef {
    let fields: Fields = schema.columns.iter().map(field).collect();
    Arc::new(arrow::datatypes::Schema::new(fields))
}

/// Plain metadata, which is what Arrow's extension API stores too; that API panics on a storage type it does not like.
fn mark_extension(column_type: &ColumnType, metadata: &mut HashMap<String, String>) {
    match column_type {
        ColumnType::Uuid => {
            metadata.insert(EXTENSION_NAME.to_owned(), "arrow.uuid".to_owned());
        }
        ColumnType::Json => {
            metadata.insert(EXTENSION_NAME.to_owned(), "arrow.json".to_owned());
            metadata.insert(EXTENSION_METADATA.to_owned(), String::new());
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::DataType as D;

    #[test]
    fn decimals_change_their_width_after_38_digits() {
        assert_eq!(data_type(&ColumnType::Decimal { precision: 38, scale: 38 }), D::Decimal128(38, 38));
        assert_eq!(data_type(&ColumnType::Decimal { precision: 39, scale: 0 }), D::Decimal256(39, 0));
        assert_eq!(data_type(&ColumnType::Decimal { precision: 76, scale: 76 }), D::Decimal256(76, 76));
    }

    #[test]
    fn extension_types_become_uuid_and_json_in_the_parquet_schema_also_inside_lists() {
        let column = |name: &str, column_type| Column {
            name: name.into(),
            column_type,
            nullable: true,
            source_type: "native".into(),
        };
        let schema = arrow_schema(&Schema {
            columns: vec![
                column("u", ColumnType::Uuid),
                column("j", ColumnType::Json),
                column("us", ColumnType::List(Box::new(ColumnType::Uuid))),
                column("js", ColumnType::List(Box::new(ColumnType::Json))),
            ],
        });
        let parquet = parquet::arrow::ArrowSchemaConverter::new().convert(&schema).unwrap();
        let logical: Vec<String> =
            parquet.columns().iter().map(|leaf| format!("{:?}", leaf.logical_type_ref().unwrap())).collect();
        assert_eq!(logical, ["Uuid", "Json", "Uuid", "Json"]);
        assert_eq!(parquet.column(2).path().string(), "us.list.element");
        assert_eq!(schema.field(0).metadata().get(SOURCE_TYPE).map(String::as_str), Some("native"));
    }

    #[test]
    fn a_schema_has_as_many_leaves_as_its_parquet_schema_has_columns() {
        for text in [
            "int64",
            "interval",
            "map<text,text>",
            "range<date>",
            "list<range<timestamp>>",
            "struct<1:a:list<interval>,1:b:map<text,text>,1:c:uuid>",
        ] {
            let column_type = ColumnType::parse(text).expect(text);
            let column = Column { name: "c".into(), column_type, nullable: true, source_type: String::new() };
            let schema = Schema { columns: vec![column] };
            let parquet = parquet::arrow::ArrowSchemaConverter::new().convert(&arrow_schema(&schema)).unwrap();
            assert_eq!(schema.leaves(), parquet.num_columns(), "{text}");
        }
    }
}

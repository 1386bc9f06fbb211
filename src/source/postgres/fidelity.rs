//! How faithful a mapping is: whether a reader of the files sees the source's value, and in which clothes.

use super::catalog::SourceColumn;
use super::overrides::is_text;
use super::types::{Mapping, Select, SourceType, Wire, map, may_be_special, oid, underlying};
use crate::config::model::{ArrayShape, BareNumeric, SpecialValues, TypePolicies};
use crate::run::schema::{ColumnType, StructField};
use serde::Serialize;

/// From the best to the worst; what is made of several parts is as good as the worst of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fidelity {
    /// The same value in a type that means the same.
    Exact,
    /// The same value in another representation.
    Compatible,
    /// Text that stands for a value which text is not: numbers, JSON.
    LogicalString,
    /// Not everything that the source's value says survives.
    Lossy,
}

impl Fidelity {
    pub fn name(self) -> &'static str {
        match self {
            Fidelity::Exact => "exact",
            Fidelity::Compatible => "compatible",
            Fidelity::LogicalString => "logical_string",
            Fidelity::Lossy => "lossy",
        }
    }
}

/// The fidelity of a column of type `source` that is read and delivered by `mapping`.
pub fn of(source: &SourceType, mapping: &Mapping) -> Fidelity {
    fidelity(source, &mapping.wire, &mapping.column_type, &mapping.select)
}

fn fidelity(source: &SourceType, wire: &Wire, delivered: &ColumnType, select: &Select) -> Fidelity {
    use ColumnType as C;
    let source = underlying(source);
    let of_part = |part: Option<&SourceType>, wire: &Wire, delivered: &ColumnType| {
        part.map_or(Fidelity::Compatible, |part| fidelity(part, wire, delivered, &Select::Plain))
    };
    match (select, wire, delivered) {
        (Select::Output(_), ..) if source.oid == oid::NUMERIC => Fidelity::LogicalString,
        (Select::Output(_) | Select::Bytes(_) | Select::Elements(_), ..) => Fidelity::Compatible,
        (Select::Cast(_), ..) if is_cut_by_its_parser(source, delivered) => Fidelity::Lossy,
        (Select::Cast(_), ..) => Fidelity::Compatible,
        (Select::Plain | Select::Row(_), Wire::Record(wires), C::Struct(fields)) => {
            let parts = source.fields.iter().zip(wires).zip(fields).enumerate();
            let parts = parts.map(|(i, (((_, part), wire), StructField { column_type, .. }))| {
                let select = match select {
                    Select::Row(selects) => selects.get(i).map_or(&Select::Plain, |(_, select)| select),
                    _ => &Select::Plain,
                };
                fidelity(part, wire, column_type, select)
            });
            parts.max().unwrap_or(Fidelity::Exact)
        }
        (_, Wire::Array { element, dimensions }, C::List(_)) => {
            let scalar = (0..*dimensions).fold(delivered, |of, _| if let C::List(inner) = of { inner } else { of });
            let lists = if *dimensions > 1 { Fidelity::Compatible } else { Fidelity::Exact };
            of_part(source.element.as_deref(), element, scalar).max(lists)
        }
        (_, Wire::Range(end), C::Range(delivered)) => of_part(source.subtype.as_deref(), end, delivered),
        (_, Wire::Multirange(range), C::List(delivered)) => of_part(source.subtype.as_deref(), range, delivered),
        (_, Wire::NumericText, _) | (_, Wire::Json | Wire::Jsonb, C::Json) => Fidelity::LogicalString,
        (_, Wire::Json | Wire::Jsonb, _) => Fidelity::Compatible,
        (_, Wire::Numeric, C::Int16 | C::Int32 | C::Int64) => Fidelity::Compatible,
        _ if is_widened(wire, delivered) => Fidelity::Compatible,
        (_, Wire::Timestamp, C::TimestampUtc) | (_, Wire::Timestamptz, C::Timestamp) => Fidelity::Compatible,
        // The bytes of another type.
        (_, Wire::Bytea, _) if source.oid != oid::BYTEA && source.extension.is_none() => Fidelity::Compatible,
        (_, Wire::Text, _) if source.typtype == 'e' => Fidelity::Compatible,
        _ => Fidelity::Exact,
    }
}

/// Whether a number or a date is delivered in another type than it is sent in.
fn is_widened(wire: &Wire, delivered: &ColumnType) -> bool {
    use ColumnType as C;
    let own = match wire {
        Wire::Int2 => C::Int16,
        Wire::Int4 => C::Int32,
        Wire::Int8 => C::Int64,
        Wire::Oid => C::UInt32,
        Wire::Xid8 => C::UInt64,
        Wire::Float4 => C::Float32,
        Wire::Date => C::Date,
        _ => return false,
    };
    own != *delivered
}

/// Text that the server's parser accepts although the type has no room for all of it: a seventh digit of a second, the time
/// in what becomes a date, the offset in what becomes a time without one, the last digits of a float.
fn is_cut_by_its_parser(source: &SourceType, delivered: &ColumnType) -> bool {
    use ColumnType as C;
    let native = map(source, 0, None);
    native.is_ok_and(|native| is_text(source, &native))
        && matches!(delivered, C::Float32 | C::Float64 | C::Date | C::Timestamp | C::TimestampUtc)
}

/// What is known of a column before a row of it is read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ColumnReport {
    pub name: String,
    /// As the server's `format_type` prints it.
    pub source_type: String,
    /// The canonical column type, or [`BY_PROBE`].
    pub target: String,
    pub nullable: bool,
    pub fidelity: Fidelity,
    /// What becomes of values that the target has no room for; `None` where the source has none.
    pub policy: Option<String>,
    /// Why, in words; empty where nothing is to be said.
    pub note: String,
}

/// Stands for the decimal, or the lists, that only the values tell.
pub const BY_PROBE: &str = "by probe";

/// Describes a column as it is going to be delivered. `wanted` is its override.
pub fn report(source: &SourceColumn, wanted: Option<&ColumnType>, policies: TypePolicies) -> ColumnReport {
    let probed = probed(source, wanted, policies);
    ColumnReport {
        name: source.column.name.clone(),
        source_type: source.column.source_type.clone(),
        target: if probed.is_some() { BY_PROBE.to_owned() } else { source.column.column_type.to_string() },
        nullable: source.column.nullable,
        fidelity: if probed == Some(Probed::Number) { Fidelity::Exact } else { of(&source.source, &source.mapping) },
        policy: policy(source, wanted, policies, probed),
        note: notes(source, wanted, policies, probed).join("; "),
    }
}

/// What a run measures in a column's values before it decides on a type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probed {
    /// The digits of bare numerics.
    Number,
    /// How many dimensions arrays have.
    Array,
}

/// Whether the run measures the column's values before it decides on a type, and what of them.
pub fn probed(source: &SourceColumn, wanted: Option<&ColumnType>, policies: TypePolicies) -> Option<Probed> {
    // All numbers that can be special are text then, and a decimal cannot be NaN.
    let numbers = policies.numeric == BareNumeric::Probe && policies.special_values != SpecialValues::Text;
    match (&source.mapping.wire, &source.mapping.select) {
        _ if wanted.is_some() => None,
        (Wire::NumericText, Select::Plain) => numbers.then_some(Probed::Number),
        (Wire::Array { .. }, _) => (policies.arrays == ArrayShape::Probe).then_some(Probed::Array),
        _ => None,
    }
}

fn policy(
    source: &SourceColumn,
    wanted: Option<&ColumnType>,
    policies: TypePolicies,
    probed: Option<Probed>,
) -> Option<String> {
    let mapping = &source.mapping;
    if policies.special_values == SpecialValues::Text && wanted.is_none() {
        let natural = map(&source.source, 0, None).ok()?;
        return may_be_special(&natural.column_type).then(|| "text".to_owned());
    }
    let whole = mapping.wire == Wire::Numeric;
    let mut kinds = Kinds::of(&mapping.column_type);
    // No integer is NaN, whatever it is delivered as.
    kinds.numbers &= !is_widened(&mapping.wire, &mapping.column_type);
    kinds.numbers |= probed == Some(Probed::Number) || whole;
    let fate = |is_number: bool| match policies.special_values {
        SpecialValues::Error => "error",
        SpecialValues::Usual | SpecialValues::Text if is_number => "error",
        // NULL has no place in a required column; inside of a value it always has.
        SpecialValues::Usual | SpecialValues::Null | SpecialValues::Text
            if !source.column.nullable && !kinds.nested =>
        {
            "error"
        }
        SpecialValues::Usual | SpecialValues::Null | SpecialValues::Text => "null",
        SpecialValues::Clamp => "clamp",
    };
    let numbers = kinds.numbers.then(|| fate(true));
    let times = kinds.times.then(|| fate(false));
    match (numbers, times) {
        (Some(numbers), Some(times)) if numbers != times => Some(format!("{numbers} (numbers), {times} (times)")),
        (one, other) => one.or(other).map(str::to_owned),
    }
}

/// Which kinds of special values a column may meet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Kinds {
    numbers: bool,
    times: bool,
    nested: bool,
}

impl Kinds {
    fn of(column_type: &ColumnType) -> Kinds {
        use ColumnType as C;
        match column_type {
            C::Decimal { .. } => Kinds { numbers: true, ..Kinds::default() },
            C::Date | C::Time | C::Timestamp | C::TimestampUtc | C::Interval => {
                Kinds { times: true, ..Kinds::default() }
            }
            C::List(part) | C::Range(part) => Kinds { nested: true, ..Kinds::of(part) },
            C::Struct(fields) => fields.iter().fold(Kinds { nested: true, ..Kinds::default() }, |all, field| {
                let part = Kinds::of(&field.column_type);
                Kinds { numbers: all.numbers | part.numbers, times: all.times | part.times, nested: true }
            }),
            _ => Kinds::default(),
        }
    }
}

fn notes(
    source: &SourceColumn,
    wanted: Option<&ColumnType>,
    policies: TypePolicies,
    probed: Option<Probed>,
) -> Vec<String> {
    let (of, mapping) = (&source.source, &source.mapping);
    let family = underlying(of);
    let mut notes = vec![];
    if of.base.is_some() {
        notes.push(format!("domain over {}", family.name));
    }
    match wanted {
        Some(wanted) => notes.push(override_note(family, mapping, wanted)),
        None if probed == Some(Probed::Number) => {
            notes.push("the decimal that holds the values of the run's snapshot, or text".to_owned());
        }
        None if probed == Some(Probed::Array) => {
            notes.push("lists of as many dimensions as all values of the run's snapshot have, or text".to_owned());
        }
        None if policies.arrays == ArrayShape::Text
            && mapping.column_type == ColumnType::Text
            && map(of, 0, None).is_ok_and(|natural| matches!(natural.wire, Wire::Array { .. })) =>
        {
            notes.push("text by `types.arrays`".to_owned());
        }
        None if policies.special_values == SpecialValues::Text
            && mapping.column_type == ColumnType::Text
            && map(of, 0, None).is_ok_and(|natural| may_be_special(&natural.column_type)) =>
        {
            notes.push("text by `types.special_values`".to_owned());
        }
        None => notes.extend(why_text(family, mapping)),
    }
    if let Wire::Array { dimensions, .. } = &mapping.wire {
        match dimensions {
            _ if probed.is_some() => {}
            1 => notes.push("of 1 dimension, or the run ends".to_owned()),
            more => notes.push(format!("of {more} dimensions, or the run ends")),
        }
    }
    if !source.column.nullable {
        notes.push("NOT NULL".to_owned());
    }
    notes
}

/// Why a column whose type is not text arrives as text.
fn why_text(family: &SourceType, mapping: &Mapping) -> Option<String> {
    let why = match (&mapping.wire, &mapping.select) {
        (Wire::NumericText, _) if family.typmod < 0 => "text: numeric without a precision",
        (Wire::NumericText, _) => "text: no decimal of 76 digits holds this precision and scale",
        (Wire::Text, Select::Plain) if family.typtype == 'e' => "its labels as text",
        (Wire::Text, Select::Output(_)) if !family.has_send => "text: the type has no binary form",
        (Wire::Text, Select::Output(_)) if is_composed(family) => {
            "text: parts of it have no binary form, or it is nested too deep"
        }
        (Wire::Text, Select::Output(_)) => "text, as the server prints it",
        (_, Select::Elements(_)) => "its elements as the server prints them",
        (Wire::HalfVector, _) => "each half as the float of the same value",
        _ => return None,
    };
    Some(why.to_owned())
}

fn is_composed(family: &SourceType) -> bool {
    family.element.is_some() || family.subtype.is_some() || !family.fields.is_empty()
}

fn override_note(family: &SourceType, mapping: &Mapping, wanted: &ColumnType) -> String {
    use ColumnType as C;
    let what = match (&mapping.wire, &mapping.select, wanted) {
        (_, Select::Output(_), _) => "as the server prints it",
        (Wire::Numeric, _, _) => "a value that does not fit ends the run",
        (Wire::Int2, _, C::Int32 | C::Int64 | C::Float32 | C::Float64)
        | (Wire::Int4, _, C::Int64 | C::Float64)
        | (Wire::Oid, _, C::Int64)
        | (Wire::Float4, _, C::Float64) => "every value fits",
        (Wire::Date, Select::Plain, C::Timestamp | C::TimestampUtc) => "as midnight",
        (wire, Select::Plain, wanted) if is_widened(wire, wanted) => "a value that does not fit ends the run",
        (Wire::Timestamp, Select::Plain, C::TimestampUtc) => "its times are taken to be UTC",
        (Wire::Timestamptz, Select::Plain, C::Timestamp) => "as the time in UTC, without saying so",
        (_, Select::Cast(_), _) if is_cut_by_its_parser(family, wanted) => match wanted {
            C::Float32 | C::Float64 => "read by the server, which drops what the type has no room for",
            _ => "read by the server, year before month before day; it drops what the type has no room for",
        },
        (_, Select::Cast("text"), _) => "its text",
        (_, Select::Cast(_), _) => "converted by the server; a value that does not fit ends the run",
        (_, Select::Bytes(_), _) if map(family, 0, None).is_ok_and(|native| is_text(family, &native)) => "its bytes",
        (_, Select::Bytes(_), _) => "the bytes of its text, as the server prints it",
        (Wire::Json | Wire::Jsonb, _, C::Text) => "its text, not marked as JSON",
        (Wire::Bytea, ..) if family.oid != oid::BYTEA => "its bytes",
        _ => return "the override changes nothing".to_owned(),
    };
    format!("override: {what}")
}

#[cfg(test)]
mod tests {
    use super::super::types::tests::{array, base, made_by, numeric};
    use super::*;
    use Fidelity::{Compatible, Exact, LogicalString, Lossy};

    fn composite(fields: Vec<SourceType>) -> SourceType {
        let fields = fields.into_iter().enumerate().map(|(i, field)| (format!("f{i}"), field)).collect();
        SourceType { typtype: 'c', fields, ..base(20_000, "pair") }
    }

    fn range(of: SourceType) -> SourceType {
        SourceType { typtype: 'r', subtype: Some(Box::new(of)), ..base(3, "r") }
    }

    fn fidelity_of(source: &SourceType, dimensions: u8, wanted: &str) -> Fidelity {
        let wanted = ColumnType::parse(wanted);
        of(source, &map(source, dimensions, wanted.as_ref()).expect("the mapping is allowed"))
    }

    /// The type contract, row by row.
    #[test]
    fn without_an_override_every_type_is_as_faithful_as_the_contract_says() {
        let int4 = || base(oid::INT4, "integer");
        let mood = SourceType { typtype: 'e', ..base(20_002, "mood") };
        let price = SourceType { typtype: 'd', base: Some(Box::new(numeric(10, 2))), ..base(20_001, "price") };
        let multirange = SourceType { typtype: 'm', subtype: Some(Box::new(range(int4()))), ..base(4, "m") };
        let rows = [
            (base(oid::BOOL, "boolean"), 0, Exact),
            (base(oid::INT2, "smallint"), 0, Exact),
            (int4(), 0, Exact),
            (base(oid::INT8, "bigint"), 0, Exact),
            (base(oid::OID, "oid"), 0, Exact),
            (base(oid::XID8, "xid8"), 0, Exact),
            (base(oid::FLOAT4, "real"), 0, Exact),
            (base(oid::FLOAT8, "double precision"), 0, Exact),
            (numeric(38, 10), 0, Exact),
            (numeric(76, 0), 0, Exact),
            (numeric(77, 0), 0, LogicalString),
            (numeric(5, -2), 0, LogicalString),
            (base(oid::NUMERIC, "numeric"), 0, LogicalString),
            (base(oid::DATE, "date"), 0, Exact),
            (base(oid::TIME, "time"), 0, Exact),
            (base(1266, "timetz_"), 0, Compatible),
            (base(oid::TIMESTAMP, "timestamp"), 0, Exact),
            (base(oid::TIMESTAMPTZ, "timestamptz"), 0, Exact),
            (base(oid::INTERVAL, "interval"), 0, Exact),
            (base(oid::TEXT, "text"), 0, Exact),
            (base(oid::BPCHAR, "character(3)"), 0, Exact),
            (base(oid::CHAR, "\"char\""), 0, Exact),
            (made_by("citext", base(20_003, "citext")), 0, Exact),
            (base(oid::BYTEA, "bytea"), 0, Exact),
            (base(oid::JSON, "json"), 0, LogicalString),
            (base(oid::JSONB, "jsonb"), 0, LogicalString),
            (base(oid::UUID, "uuid"), 0, Exact),
            (mood.clone(), 0, Compatible),
            (price.clone(), 0, Exact),
            (array(int4()), 1, Exact),
            (array(price), 1, Exact),
            (array(mood), 1, Compatible),
            (array(base(oid::NUMERIC, "numeric")), 1, LogicalString),
            (array(base(869, "inet_")), 1, Compatible),
            (array(int4()), 2, Compatible),
            (composite(vec![int4(), base(oid::DATE, "date")]), 0, Exact),
            (composite(vec![int4(), base(oid::JSONB, "jsonb")]), 0, LogicalString),
            (composite(vec![int4(), base(869, "inet_")]), 0, Compatible),
            (array(composite(vec![int4(), base(869, "inet_")])), 1, Compatible),
            (range(base(oid::DATE, "date")), 0, Exact),
            (range(base(oid::NUMERIC, "numeric")), 0, LogicalString),
            (multirange, 0, Exact),
            (made_by("hstore", base(20_006, "hstore")), 0, Exact),
            (base(869, "inet_"), 0, Compatible),
            (base(oid::MONEY, "money"), 0, Compatible),
            (made_by("postgis", base(20_004, "geometry(Point,4326)")), 0, Exact),
            (made_by("vector", base(20_005, "vector(3)")), 0, Exact),
            (SourceType { has_send: false, ..base(1033, "acl") }, 0, Compatible),
        ];
        for (source, dimensions, expected) in rows {
            assert_eq!(fidelity_of(&source, dimensions, ""), expected, "{}, {dimensions} dimensions", source.name);
        }
    }

    #[test]
    fn an_override_is_compatible_unless_the_parser_of_a_text_may_drop_something() {
        let rows = [
            (base(oid::INT4, "integer"), "int64", Compatible),
            (base(oid::INT4, "integer"), "int32", Exact),
            (base(oid::INT8, "bigint"), "decimal(20,0)", Compatible),
            (base(oid::INT4, "integer"), "text", Compatible),
            (base(oid::NUMERIC, "numeric"), "decimal(20,4)", Exact),
            (base(oid::NUMERIC, "numeric"), "int64", Compatible),
            (numeric(10, 2), "text", LogicalString),
            (base(oid::TIMESTAMP, "timestamp"), "timestamp_utc", Compatible),
            (base(oid::TIMESTAMPTZ, "timestamptz"), "timestamp", Compatible),
            (base(oid::UUID, "uuid"), "binary", Compatible),
            (base(oid::JSONB, "jsonb"), "text", Compatible),
            (base(oid::TEXT, "text"), "binary", Compatible),
            (array(base(oid::TEXT, "text")), "binary", Compatible),
            (base(oid::TEXT, "text"), "int32", Compatible),
            (base(oid::TEXT, "text"), "decimal(10,2)", Compatible),
            (base(oid::TEXT, "text"), "uuid", Compatible),
            (base(oid::TEXT, "text"), "float64", Lossy),
            (base(oid::VARCHAR, "character varying(20)"), "date", Lossy),
            (base(oid::TEXT, "text"), "timestamp", Lossy),
            (base(oid::TEXT, "text"), "timestamp_utc", Lossy),
            // Of dates there is nothing to drop.
            (base(oid::DATE, "date"), "timestamp", Compatible),
        ];
        for (source, wanted, expected) in rows {
            assert_eq!(fidelity_of(&source, 0, wanted), expected, "{} as {wanted}", source.name);
        }
    }

    #[test]
    fn what_is_made_of_parts_meets_the_special_values_of_all_of_them() {
        let kinds = |text: &str| Kinds::of(&ColumnType::parse(text).expect("a canonical text"));
        assert_eq!(kinds("int64"), Kinds::default());
        assert_eq!(kinds("decimal(3,1)"), Kinds { numbers: true, times: false, nested: false });
        let both = Kinds { numbers: true, times: true, nested: true };
        assert_eq!(kinds("struct<1:a:list<decimal(3,1)>,1:b:range<date>>"), both);
    }
}

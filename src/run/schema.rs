//! The destination-facing schema of an export, and its fingerprint.

use super::ids::Fingerprint;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What a column is in the files. The canonical text ([`fmt::Display`]) is what the journal, the manifest and the
/// fingerprint carry; it is ours, so that no library's debug output becomes a contract.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ColumnType {
    Bool,
    Int16,
    Int32,
    Int64,
    UInt32,
    UInt64,
    Float32,
    Float64,
    /// `decimal(precision,scale)`, precision 1–76, 0 ≤ scale ≤ precision.
    Decimal {
        precision: u8,
        scale: u8,
    },
    /// Days since 1970-01-01.
    Date,
    /// Microseconds since midnight.
    Time,
    /// Microseconds since 1970-01-01T00:00:00, without a zone.
    Timestamp,
    /// Microseconds since 1970-01-01T00:00:00Z.
    TimestampUtc,
    Text,
    Binary,
    Json,
    Uuid,
    /// Months, days and microseconds, which have no fixed ratio: a month is not so many days, nor a day 24 hours.
    Interval,
    List(Box<ColumnType>),
    /// A composite value. Every field may be NULL.
    Struct(Vec<StructField>),
    /// A range over values of a type, with open or closed ends, or empty.
    Range(Box<ColumnType>),
    /// Texts by text; values may be NULL, keys not.
    Map,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct StructField {
    pub name: String,
    pub column_type: ColumnType,
}

/// Types nested deeper than this are no column types: their text may come from a file, and must not be able to exhaust the
/// stack. Sources that have them deliver them as text.
pub const DEEPEST_NESTING: usize = 16;

impl fmt::Display for ColumnType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ColumnType::Bool => f.write_str("bool"),
            ColumnType::Int16 => f.write_str("int16"),
            ColumnType::Int32 => f.write_str("int32"),
            ColumnType::Int64 => f.write_str("int64"),
            ColumnType::UInt32 => f.write_str("uint32"),
            ColumnType::UInt64 => f.write_str("uint64"),
            ColumnType::Float32 => f.write_str("float32"),
            ColumnType::Float64 => f.write_str("float64"),
            ColumnType::Decimal { precision, scale } => write!(f, "decimal({precision},{scale})"),
            ColumnType::Date => f.write_str("date"),
            ColumnType::Time => f.write_str("time"),
            ColumnType::Timestamp => f.write_str("timestamp"),
            ColumnType::TimestampUtc => f.write_str("timestamp_utc"),
            ColumnType::Text => f.write_str("text"),
            ColumnType::Binary => f.write_str("binary"),
            ColumnType::Json => f.write_str("json"),
            ColumnType::Uuid => f.write_str("uuid"),
            ColumnType::Interval => f.write_str("interval"),
            ColumnType::List(element) => write!(f, "list<{element}>"),
            ColumnType::Struct(fields) => {
                f.write_str("struct<")?;
                for (i, StructField { name, column_type }) in fields.iter().enumerate() {
                    let comma = if i > 0 { "," } else { "" };
                    // The length keeps two types apart whose names hold separators.
                    write!(f, "{comma}{}:{name}:{column_type}", name.len())?;
                }
                f.write_str(">")
            }
            ColumnType::Range(element) => write!(f, "range<{element}>"),
            ColumnType::Map => f.write_str("map<text,text>"),
        }
    }
}

/// A type in the words that a configuration knows, for people: see [`ColumnType::told`].
pub struct Told<'a>(&'a ColumnType);

impl fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            ColumnType::Int16 => f.write_str("int2"),
            ColumnType::Int32 => f.write_str("int4"),
            ColumnType::Int64 => f.write_str("int8"),
            ColumnType::Float32 => f.write_str("float4"),
            ColumnType::Float64 => f.write_str("float8"),
            ColumnType::TimestampUtc => f.write_str("timestamp_tz"),
            ColumnType::List(element) => write!(f, "list<{}>", element.told()),
            ColumnType::Range(element) => write!(f, "range<{}>", element.told()),
            ColumnType::Map => f.write_str("map<text, text>"),
            ColumnType::Struct(fields) => {
                f.write_str("struct<")?;
                for (i, StructField { name, column_type }) in fields.iter().enumerate() {
                    let comma = if i > 0 { ", " } else { "" };
                    write!(f, "{comma}{name}: {}", column_type.told())?;
                }
                f.write_str(">")
            }
            other => other.fmt(f),
        }
    }
}

impl ColumnType {
    /// The type for people: `struct<street: text, at: timestamp_tz>`. Unlike the canonical text it cannot be read back.
    pub fn told(&self) -> Told<'_> {
        Told(self)
    }

    /// Reads the canonical text back. `None` for anything else, and for types nested deeper than [`DEEPEST_NESTING`].
    pub fn parse(text: &str) -> Option<ColumnType> {
        let (parsed, rest) = parse_type(text, DEEPEST_NESTING)?;
        rest.is_empty().then_some(parsed)
    }

    /// Columns of scalars that it is stored as, such as three for an interval.
    pub fn leaves(&self) -> usize {
        match self {
            ColumnType::List(element) => element.leaves(),
            ColumnType::Range(end) => 2 * end.leaves() + 3,
            ColumnType::Struct(fields) => fields.iter().map(|field| field.column_type.leaves()).sum(),
            ColumnType::Interval => 3,
            ColumnType::Map => 2,
            _ => 1,
        }
    }

    /// How deep lists, structs and ranges lie within each other: 0 for a scalar.
    pub fn nesting(&self) -> usize {
        match self {
            ColumnType::List(element) | ColumnType::Range(element) => 1 + element.nesting(),
            ColumnType::Struct(fields) => 1 + fields.iter().map(|f| f.column_type.nesting()).max().unwrap_or(0),
            _ => 0,
        }
    }
}

/// The type that `text` begins with, and what follows it.
fn parse_type(text: &str, depth: usize) -> Option<(ColumnType, &str)> {
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    let inner = || parse_type(rest.strip_prefix('<')?, depth.checked_sub(1)?);
    let scalar = match word {
        "list" => {
            let (element, rest) = inner()?;
            return Some((ColumnType::List(Box::new(element)), rest.strip_prefix('>')?));
        }
        "range" => {
            let (element, rest) = inner()?;
            return Some((ColumnType::Range(Box::new(element)), rest.strip_prefix('>')?));
        }
        "struct" => {
            let (fields, rest) = parse_fields(rest.strip_prefix('<')?, depth.checked_sub(1)?)?;
            return Some((ColumnType::Struct(fields), rest.strip_prefix('>')?));
        }
        "map" => return Some((ColumnType::Map, rest.strip_prefix("<text,text>")?)),
        "decimal" => {
            let (digits, rest) = rest.strip_prefix('(')?.split_once(')')?;
            let (precision, scale) = digits.split_once(',')?;
            let (precision, scale) = (precision.parse().ok()?, scale.parse().ok()?);
            let valid = (1..=76).contains(&precision) && scale <= precision;
            return valid.then_some((ColumnType::Decimal { precision, scale }, rest));
        }
        "bool" => ColumnType::Bool,
        "int16" => ColumnType::Int16,
        "int32" => ColumnType::Int32,
        "int64" => ColumnType::Int64,
        "uint32" => ColumnType::UInt32,
        "uint64" => ColumnType::UInt64,
        "float32" => ColumnType::Float32,
        "float64" => ColumnType::Float64,
        "date" => ColumnType::Date,
        "time" => ColumnType::Time,
        "timestamp" => ColumnType::Timestamp,
        "timestamp_utc" => ColumnType::TimestampUtc,
        "text" => ColumnType::Text,
        "binary" => ColumnType::Binary,
        "json" => ColumnType::Json,
        "uuid" => ColumnType::Uuid,
        "interval" => ColumnType::Interval,
        _ => return None,
    };
    Some((scalar, rest))
}

/// One field or more: `<length>:<name>:<type>`, separated by commas.
fn parse_fields(mut text: &str, depth: usize) -> Option<(Vec<StructField>, &str)> {
    let mut fields = vec![];
    loop {
        let (length, rest) = text.split_once(':')?;
        let length: usize = length.parse().ok()?;
        let (name, rest) = rest.split_at_checked(length)?;
        let (column_type, rest) = parse_type(rest.strip_prefix(':')?, depth)?;
        fields.push(StructField { name: name.to_owned(), column_type });
        match rest.strip_prefix(',') {
            Some(more) => text = more,
            None => return Some((fields, rest)),
        }
    }
}

impl Serialize for ColumnType {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ColumnType {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        ColumnType::parse(&text).ok_or_else(|| serde::de::Error::custom(format!("unknown column type {text:?}")))
    }
}

/// One column as it is delivered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    pub name: String,
    pub column_type: ColumnType,
    pub nullable: bool,
    /// The source's own name for the type, as `format_type` prints it: `numeric(12,2)`, `character varying(20)`.
    pub source_type: String,
}

/// All columns in order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Schema {
    pub columns: Vec<Column>,
}

impl Schema {
    /// `xxh3` over names, types, nullability and order of the destination-facing columns.
    ///
    /// The canonical form is, for each column, the name's length in bytes as decimal digits, `:`, the name, `:`, the
    /// canonical type, `:`, `null` or `required`, and a line feed. The length keeps two schemas apart whose names hold
    /// separators. Source types are left out: a `varchar(20)` that becomes `varchar(30)` delivers the same column.
    pub fn fingerprint(&self) -> Fingerprint {
        let mut canonical = String::new();
        for column in &self.columns {
            let nullability = if column.nullable { "null" } else { "required" };
            canonical.push_str(&format!(
                "{}:{}:{}:{}\n",
                column.name.len(),
                column.name,
                column.column_type,
                nullability
            ));
        }
        Fingerprint::of(canonical.as_bytes())
    }

    /// Columns of scalars that a file with these columns has.
    pub fn leaves(&self) -> usize {
        self.columns.iter().map(|column| column.column_type.leaves()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn column_type() -> impl Strategy<Value = ColumnType> {
        let scalar = prop_oneof![
            Just(ColumnType::Bool),
            Just(ColumnType::TimestampUtc),
            Just(ColumnType::Interval),
            Just(ColumnType::Map),
            (1..=76u8)
                .prop_flat_map(|p| (Just(p), 0..=p))
                .prop_map(|(precision, scale)| { ColumnType::Decimal { precision, scale } }),
        ];
        scalar.prop_recursive(4, 24, 4, |inner| {
            let field =
                ("[a,:<>é(]{0,6}", inner.clone()).prop_map(|(name, column_type)| StructField { name, column_type });
            prop_oneof![
                inner.clone().prop_map(|element| ColumnType::List(Box::new(element))),
                inner.prop_map(|element| ColumnType::Range(Box::new(element))),
                prop::collection::vec(field, 1..4).prop_map(ColumnType::Struct),
            ]
        })
    }

    #[test]
    fn people_are_told_a_type_in_the_words_of_the_configuration() {
        let told = |canonical: &str| ColumnType::parse(canonical).expect("a canonical text").told().to_string();
        assert_eq!(told("timestamp_utc"), "timestamp_tz");
        assert_eq!(told("decimal(10,2)"), "decimal(10,2)");
        assert_eq!(told("uint32"), "uint32");
        assert_eq!(told("list<range<int64>>"), "list<range<int8>>");
        let nested = "struct<6:street:text,3:zip:list<int16>,1:x:struct<1:y:float64,1:z:map<text,text>>>";
        assert_eq!(told(nested), "struct<street: text, zip: list<int2>, x: struct<y: float8, z: map<text, text>>>");
    }

    proptest! {
        #[test]
        fn the_canonical_text_is_read_back_whatever_the_names_of_fields(column_type in column_type()) {
            prop_assert_eq!(ColumnType::parse(&column_type.to_string()), Some(column_type));
        }

        #[test]
        fn no_text_makes_the_reader_panic(text in "[a-z0-9:,<>()é]{0,60}") {
            if let Some(parsed) = ColumnType::parse(&text) {
                prop_assert_eq!(ColumnType::parse(&parsed.to_string()), Some(parsed));
            }
        }
    }

    #[test]
    fn types_that_are_nested_too_deep_are_no_types() {
        let nested = |depth: usize| format!("{}bool{}", "list<".repeat(depth), ">".repeat(depth));
        let deepest = ColumnType::parse(&nested(DEEPEST_NESTING)).expect("it is just deep enough");
        assert_eq!(deepest.nesting(), DEEPEST_NESTING);
        assert_eq!(ColumnType::parse(&nested(DEEPEST_NESTING + 1)), None);
        assert_eq!(ColumnType::parse(&"list<".repeat(100_000)), None);
    }

    /// Recorded once and never changed: manifests, journals and comparisons with earlier runs rest on them.
    #[test]
    fn fingerprints_are_what_they_have_always_been() {
        let column = |name: &str, column_type: &str, nullable| Column {
            name: name.to_owned(),
            column_type: ColumnType::parse(column_type).expect("a canonical text"),
            nullable,
            source_type: "anything".to_owned(),
        };
        let golden = [
            (vec![], "xxh3:2d06800538d394c2"),
            (vec![column("id", "int64", false), column("name", "text", true)], "xxh3:c4acc02d7c8cf593"),
            (vec![column("name", "text", true), column("id", "int64", false)], "xxh3:f362d79ef80e254d"),
            (vec![column("p", "struct<1:x:decimal(38,9),2:ts:list<timestamp_utc>>", true)], "xxh3:7066237efd5a56c8"),
            (vec![column("r", "range<date>", true), column("h", "map<text,text>", true)], "xxh3:3a0a8a8126eaf5af"),
            (vec![column("i", "interval", false), column("größe", "list<list<int32>>", true)], "xxh3:e6a241beb3ea30b6"),
        ];
        let (schemas, expected): (Vec<_>, Vec<_>) = golden.into_iter().unzip();
        let found: Vec<_> = schemas.into_iter().map(|columns| Schema { columns }.fingerprint().to_string()).collect();
        assert_eq!(found, expected);
    }
}

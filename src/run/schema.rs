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
    List(Box<ColumnType>),
}

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
            ColumnType::List(element) => write!(f, "list<{element}>"),
        }
    }
}

impl ColumnType {
    /// Reads the canonical text back. `None` for anything else, and for lists nested deeper than any source has them:
    /// the text may come from a file, and must not be able to exhaust the stack.
    pub fn parse(text: &str) -> Option<ColumnType> {
        ColumnType::parse_nested(text, 16)
    }

    fn parse_nested(text: &str, depth: usize) -> Option<ColumnType> {
        if let Some(element) = text.strip_prefix("list<").and_then(|rest| rest.strip_suffix('>')) {
            let element = ColumnType::parse_nested(element, depth.checked_sub(1)?)?;
            return Some(ColumnType::List(Box::new(element)));
        }
        if let Some(body) = text.strip_prefix("decimal(").and_then(|rest| rest.strip_suffix(')')) {
            let (precision, scale) = body.split_once(',')?;
            let (precision, scale) = (precision.parse().ok()?, scale.parse().ok()?);
            let valid = (1..=76).contains(&precision) && scale <= precision;
            return valid.then_some(ColumnType::Decimal { precision, scale });
        }
        Some(match text {
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
            _ => return None,
        })
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
}

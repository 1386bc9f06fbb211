//! Which Arrow-facing column a PostgreSQL type becomes, and in which binary form its values arrive.
//!
//! The rule is: whatever has an exact counterpart is read in its own binary form; everything else is cast to text by the
//! server, whose text output is canonical under the pinned session settings. No type is refused.

use crate::error::{Error, ErrorKind, Result};
use crate::run::schema::ColumnType;

/// The binary form of one value, as the type's send function writes it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Wire {
    Bool,
    Int2,
    Int4,
    Int8,
    /// Four bytes, unsigned: oid, xid, cid.
    Oid,
    /// Eight bytes, unsigned.
    Xid8,
    Float4,
    Float8,
    /// Base-10000 digits with weight, sign and display scale.
    Numeric,
    /// Days since 2000-01-01.
    Date,
    /// Microseconds since midnight.
    Time,
    /// Microseconds since 2000-01-01T00:00:00.
    Timestamp,
    /// Microseconds since 2000-01-01T00:00:00Z.
    Timestamptz,
    /// The value's bytes in the client encoding, which is pinned to UTF-8: text and its kin, enums, json.
    Text,
    /// `"char"`: one byte that need not be a character.
    Char,
    Bytea,
    Json,
    /// A version byte, then text.
    Jsonb,
    Uuid,
    /// Dimensions, then elements, each with its length.
    Array(Box<Wire>),
}

/// A type as the catalog describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceType {
    pub oid: u32,
    /// `atttypmod`, or -1. An array's type modifier belongs to its elements: [`map`] passes it on to an element that has
    /// none of its own.
    pub typmod: i32,
    /// `pg_type.typtype`: `b` base, `d` domain, `e` enum, `c` composite, `r` range, `m` multirange, `p` pseudo.
    pub typtype: char,
    /// Whether the type has a binary send function.
    pub has_send: bool,
    /// For true arrays only; not for `int2vector`, `oidvector` and others that merely have a `typelem`.
    pub element: Option<Box<SourceType>>,
    /// For domains, with the domain's own `typtypmod` in it.
    pub base: Option<Box<SourceType>>,
    /// As `format_type` prints it, with or without the modifier.
    pub name: String,
}

/// How one column is asked for, read and delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    pub wire: Wire,
    pub column_type: ColumnType,
    /// The type to which the SELECT must cast the column, so that `wire` is what arrives.
    pub cast: Option<&'static str>,
}

/// `pg_type.oid` of the built-in types that are read natively. They are fixed for ever by `pg_type.dat`.
mod oid {
    pub const BOOL: u32 = 16;
    pub const BYTEA: u32 = 17;
    pub const CHAR: u32 = 18;
    pub const NAME: u32 = 19;
    pub const INT8: u32 = 20;
    pub const INT2: u32 = 21;
    pub const INT4: u32 = 23;
    pub const TEXT: u32 = 25;
    pub const OID: u32 = 26;
    pub const XID: u32 = 28;
    pub const CID: u32 = 29;
    pub const JSON: u32 = 114;
    pub const FLOAT4: u32 = 700;
    pub const FLOAT8: u32 = 701;
    pub const MONEY: u32 = 790;
    pub const BPCHAR: u32 = 1042;
    pub const VARCHAR: u32 = 1043;
    pub const DATE: u32 = 1082;
    pub const TIME: u32 = 1083;
    pub const TIMESTAMP: u32 = 1114;
    pub const TIMESTAMPTZ: u32 = 1184;
    pub const NUMERIC: u32 = 1700;
    pub const UUID: u32 = 2950;
    pub const JSONB: u32 = 3802;
    pub const XID8: u32 = 5069;
    /// Types from here on were made by users and extensions and are recognised by name.
    pub const FIRST_USER: u32 = 16384;
}

/// Decides how a column of type `source` is read. `wanted` is the configured override.
///
/// # Errors
/// `ConfigInvalid` when the override cannot hold every value of the source type unchanged, or fail loudly.
pub fn map(source: &SourceType, wanted: Option<&ColumnType>) -> Result<Mapping> {
    let native = native(source, source.typmod).unwrap_or_else(as_text);
    let Some(wanted) = wanted else { return Ok(native) };
    if native.column_type == *wanted {
        return Ok(native);
    }
    let family = underlying(source);
    let refused = || {
        let what = format!("a column of type {} cannot be delivered as {wanted} without changing values", source.name);
        let hint = format!("Leave the override out (it is delivered as {}), or use `text`.", native.column_type);
        Error::new(ErrorKind::ConfigInvalid, what).with_hint(hint)
    };
    overridden(family, &native, wanted).ok_or_else(refused)
}

/// The type behind any number of domains.
fn underlying(mut source: &SourceType) -> &SourceType {
    while let Some(base) = &source.base {
        source = base;
    }
    source
}

fn as_text() -> Mapping {
    Mapping { wire: Wire::Text, column_type: ColumnType::Text, cast: Some("text") }
}

/// The mapping without an override, or `None` when the column has to be cast to text.
fn native(source: &SourceType, typmod: i32) -> Option<Mapping> {
    if let Some(base) = &source.base {
        return native(base, base.typmod);
    }
    let plain = |wire, column_type| Some(Mapping { wire, column_type, cast: None });
    if !source.has_send {
        return None;
    }
    if let Some(element) = &source.element {
        let typmod = if element.typmod >= 0 { element.typmod } else { typmod };
        let element = native(element, typmod)?;
        return plain(Wire::Array(Box::new(element.wire)), ColumnType::List(Box::new(element.column_type)));
    }
    match (source.typtype, source.oid) {
        ('e', _) => plain(Wire::Text, ColumnType::Text),
        (_, oid::BOOL) => plain(Wire::Bool, ColumnType::Bool),
        (_, oid::INT2) => plain(Wire::Int2, ColumnType::Int16),
        (_, oid::INT4) => plain(Wire::Int4, ColumnType::Int32),
        (_, oid::INT8) => plain(Wire::Int8, ColumnType::Int64),
        (_, oid::OID | oid::XID | oid::CID) => plain(Wire::Oid, ColumnType::UInt32),
        (_, oid::XID8) => plain(Wire::Xid8, ColumnType::UInt64),
        (_, oid::FLOAT4) => plain(Wire::Float4, ColumnType::Float32),
        (_, oid::FLOAT8) => plain(Wire::Float8, ColumnType::Float64),
        (_, oid::NUMERIC) => plain(Wire::Numeric, decimal_of(typmod)?),
        (_, oid::DATE) => plain(Wire::Date, ColumnType::Date),
        (_, oid::TIME) => plain(Wire::Time, ColumnType::Time),
        (_, oid::TIMESTAMP) => plain(Wire::Timestamp, ColumnType::Timestamp),
        (_, oid::TIMESTAMPTZ) => plain(Wire::Timestamptz, ColumnType::TimestampUtc),
        (_, oid::TEXT | oid::VARCHAR | oid::BPCHAR | oid::NAME) => plain(Wire::Text, ColumnType::Text),
        (_, oid::CHAR) => plain(Wire::Char, ColumnType::Text),
        (_, oid::BYTEA) => plain(Wire::Bytea, ColumnType::Binary),
        (_, oid::JSON) => plain(Wire::Json, ColumnType::Json),
        (_, oid::JSONB) => plain(Wire::Jsonb, ColumnType::Json),
        (_, oid::UUID) => plain(Wire::Uuid, ColumnType::Uuid),
        ('b', user) if user >= oid::FIRST_USER => match bare_name(&source.name) {
            "citext" => plain(Wire::Text, ColumnType::Text),
            // PostGIS sends EWKB, which is what its readers want to see.
            "geometry" | "geography" => plain(Wire::Bytea, ColumnType::Binary),
            _ => None,
        },
        _ => None,
    }
}

/// `public.geometry(Point,4326)` → `geometry`.
fn bare_name(name: &str) -> &str {
    let name = name.split('(').next().unwrap_or(name);
    name.rsplit('.').next().unwrap_or(name).trim_matches('"')
}

/// The decimal that holds every value of `numeric(p,s)`: `None` without a modifier, with a scale below zero or above the
/// precision (both legal since PostgreSQL 15), and beyond 76 digits.
fn decimal_of(typmod: i32) -> Option<ColumnType> {
    let packed = typmod.checked_sub(4).filter(|packed| *packed >= 0)?;
    let precision = (packed >> 16) & 0xffff;
    // Eleven bits, two's complement.
    let scale = ((packed & 0x7ff) ^ 1024) - 1024;
    if !(1..=76).contains(&precision) || !(0..=precision).contains(&scale) {
        return None;
    }
    Some(ColumnType::Decimal { precision: u8::try_from(precision).ok()?, scale: u8::try_from(scale).ok()? })
}

/// The overrides that keep every value or fail loudly, by source family.
///
/// A decimal is never cast to `numeric(p,s)`: the server would round. The bare value is read, and the decoder refuses one
/// that does not fit.
fn overridden(source: &SourceType, native: &Mapping, wanted: &ColumnType) -> Option<Mapping> {
    use ColumnType as C;
    let read = |wire| Some(Mapping { wire, column_type: wanted.clone(), cast: None });
    let cast = |wire, to| Some(Mapping { wire, column_type: wanted.clone(), cast: Some(to) });
    let textual = native.wire == Wire::Text && native.cast.is_none();
    match (&native.wire, wanted) {
        (Wire::Json, C::Text) => read(Wire::Json),
        (Wire::Jsonb, C::Text) => read(Wire::Jsonb),
        (_, C::Text) => Some(as_text()),

        // Out of range is an error of the server, never a wrapped number.
        (Wire::Int4 | Wire::Int8, C::Int16) => cast(Wire::Int2, "int2"),
        (Wire::Int2 | Wire::Int8, C::Int32) => cast(Wire::Int4, "int4"),
        (Wire::Int2 | Wire::Int4 | Wire::Oid, C::Int64) => cast(Wire::Int8, "int8"),
        (Wire::Int2 | Wire::Int4 | Wire::Int8, C::Decimal { .. }) => cast(Wire::Numeric, "numeric"),
        // Widths that hold every integer exactly.
        (Wire::Int2, C::Float32) => cast(Wire::Float4, "float4"),
        (Wire::Int2 | Wire::Int4 | Wire::Float4, C::Float64) => cast(Wire::Float8, "float8"),

        (Wire::Date, C::Timestamp) => cast(Wire::Timestamp, "timestamp"),
        // Under `TimeZone UTC` both are the same count of microseconds.
        (Wire::Date, C::TimestampUtc) => cast(Wire::Timestamptz, "timestamptz"),
        (Wire::Timestamp, C::TimestampUtc) => read(Wire::Timestamp),
        (Wire::Timestamptz, C::Timestamp) => read(Wire::Timestamptz),

        (Wire::Uuid, C::Binary) => read(Wire::Bytea),
        (Wire::Json, C::Binary) => read(Wire::Bytea),

        _ if source.oid == oid::NUMERIC => match wanted {
            C::Decimal { .. } => read(Wire::Numeric),
            _ => None,
        },
        _ if source.oid == oid::MONEY => match wanted {
            C::Decimal { .. } => cast(Wire::Numeric, "numeric"),
            _ => None,
        },
        // Text is parsed by the server, which refuses what it cannot read.
        _ if textual && source.typtype != 'e' => match wanted {
            C::Bool => cast(Wire::Bool, "bool"),
            C::Int16 => cast(Wire::Int2, "int2"),
            C::Int32 => cast(Wire::Int4, "int4"),
            C::Int64 => cast(Wire::Int8, "int8"),
            C::Decimal { .. } => cast(Wire::Numeric, "numeric"),
            C::Date => cast(Wire::Date, "date"),
            C::Timestamp => cast(Wire::Timestamp, "timestamp"),
            C::TimestampUtc => cast(Wire::Timestamptz, "timestamptz"),
            C::Uuid => cast(Wire::Uuid, "uuid"),
            C::Json => cast(Wire::Json, "json"),
            C::Binary => read(Wire::Bytea),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base(oid: u32, name: &str) -> SourceType {
        SourceType { oid, typmod: -1, typtype: 'b', has_send: true, element: None, base: None, name: name.to_owned() }
    }

    fn numeric(precision: i32, scale: i32) -> SourceType {
        let typmod = ((precision << 16) | (scale & 0x7ff)) + 4;
        SourceType { typmod, ..base(oid::NUMERIC, "numeric") }
    }

    fn array(element: SourceType) -> SourceType {
        let name = format!("{}[]", element.name);
        SourceType { element: Some(Box::new(element)), ..base(1, &name) }
    }

    fn mapped(source: &SourceType) -> (String, Option<&'static str>) {
        let mapping = map(source, None).unwrap();
        (mapping.column_type.to_string(), mapping.cast)
    }

    #[test]
    fn numeric_is_a_decimal_while_its_declared_digits_fit_and_text_otherwise() {
        assert_eq!(mapped(&numeric(15, 2)), ("decimal(15,2)".into(), None));
        assert_eq!(mapped(&numeric(38, 38)), ("decimal(38,38)".into(), None));
        assert_eq!(mapped(&numeric(76, 0)), ("decimal(76,0)".into(), None));
        assert_eq!(mapped(&numeric(77, 0)), ("text".into(), Some("text")));
        assert_eq!(mapped(&numeric(3, 5)), ("text".into(), Some("text")));
        assert_eq!(mapped(&numeric(5, -2)), ("text".into(), Some("text")));
        assert_eq!(mapped(&base(oid::NUMERIC, "numeric")), ("text".into(), Some("text")));
    }

    #[test]
    fn a_type_nobody_knows_or_without_a_send_function_is_cast_to_text() {
        assert_eq!(mapped(&base(869, "inet")), ("text".into(), Some("text")));
        assert_eq!(mapped(&base(99_999, "vector")), ("text".into(), Some("text")));
        assert_eq!(mapped(&SourceType { has_send: false, ..base(1033, "aclitem") }), ("text".into(), Some("text")));
        assert_eq!(mapped(&array(base(869, "inet"))), ("text".into(), Some("text")));
        assert_eq!(mapped(&array(base(oid::NUMERIC, "numeric"))), ("text".into(), Some("text")));
        assert_eq!(mapped(&SourceType { typtype: 'c', ..base(20_000, "pair") }), ("text".into(), Some("text")));
    }

    #[test]
    fn domains_enums_and_arrays_are_what_they_are_made_of() {
        let domain = SourceType { typtype: 'd', base: Some(Box::new(numeric(10, 2))), ..base(20_001, "price") };
        assert_eq!(mapped(&domain), ("decimal(10,2)".into(), None));
        assert_eq!(mapped(&array(domain)), ("list<decimal(10,2)>".into(), None));
        let mood = SourceType { typtype: 'e', ..base(20_002, "mood") };
        assert_eq!(mapped(&array(mood)), ("list<text>".into(), None));
        let modified = SourceType { typmod: numeric(6, 3).typmod, ..array(base(oid::NUMERIC, "numeric")) };
        assert_eq!(mapped(&modified), ("list<decimal(6,3)>".into(), None));
        assert_eq!(mapped(&base(20_003, "public.citext")), ("text".into(), None));
        assert_eq!(mapped(&base(20_004, "geometry(Point,4326)")), ("binary".into(), None));
    }

    #[test]
    fn every_type_can_be_overridden_to_text() {
        for source in [base(oid::INT8, "bigint"), array(base(oid::INT4, "integer")), base(oid::BYTEA, "bytea")] {
            assert_eq!(map(&source, Some(&ColumnType::Text)).unwrap(), as_text(), "{}", source.name);
        }
        // A cast of char(n) to text would strip the padding that the column has.
        assert_eq!(map(&base(oid::BPCHAR, "character(3)"), Some(&ColumnType::Text)).unwrap().cast, None);
    }

    #[test]
    fn an_override_that_could_change_a_value_is_refused_with_both_names() {
        let cases = [
            (base(oid::NUMERIC, "numeric"), ColumnType::Int64),
            (base(oid::FLOAT8, "double precision"), ColumnType::Float32),
            (base(oid::INT8, "bigint"), ColumnType::Float64),
            (base(oid::OID, "oid"), ColumnType::Int32),
            (base(oid::TIMESTAMP, "timestamp without time zone"), ColumnType::Date),
            (base(oid::TEXT, "text"), ColumnType::Float64),
            (base(869, "inet"), ColumnType::Uuid),
        ];
        for (source, wanted) in cases {
            let error = map(&source, Some(&wanted)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConfigInvalid);
            assert!(error.what().contains(&source.name) && error.what().contains(&wanted.to_string()), "{error}");
        }
    }

    #[test]
    fn a_decimal_override_reads_the_bare_value_so_that_the_server_cannot_round_it() {
        let wanted = ColumnType::Decimal { precision: 10, scale: 0 };
        let mapping = map(&base(oid::NUMERIC, "numeric"), Some(&wanted)).unwrap();
        assert_eq!((mapping.wire, mapping.cast), (Wire::Numeric, None));
        let mapping = map(&base(oid::INT4, "integer"), Some(&wanted)).unwrap();
        assert_eq!((mapping.wire, mapping.cast), (Wire::Numeric, Some("numeric")));
    }
}

//! Which Arrow-facing column a PostgreSQL type becomes, and in which binary form its values arrive.
//!
//! The rule is: whatever has an exact counterpart is read in its own binary form; everything else arrives as the server
//! prints it, which is canonical under the pinned session settings. No type is refused.

use super::catalog::SourceColumn;
use super::overrides::{overridden, refused};
use super::sql::ident;
use crate::config::model::{ArrayShape, SpecialValues, TypePolicies};
use crate::error::Result;
use crate::run::schema::{ColumnType, DEEPEST_NESTING, StructField};
use std::collections::BTreeMap;

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
    /// A numeric of any number of digits, to be delivered as the server prints it.
    NumericText,
    /// Microseconds, days, months.
    Interval,
    /// The header with the dimensions, then elements, each with its length.
    Array {
        element: Box<Wire>,
        dimensions: u8,
    },
    /// The number of fields, then for each its type, its length and its value.
    Record(Vec<Wire>),
    /// Flags, then the ends that there are, each with its length.
    Range(Box<Wire>),
    /// The number of ranges, then each with its length.
    Multirange(Box<Wire>),
    /// Of the extensions hstore and vector.
    Hstore,
    Vector,
    HalfVector,
}

impl Wire {
    /// Whether arrays, which may have any number of dimensions, lie somewhere in the value.
    pub fn holds_arrays(&self) -> bool {
        match self {
            Wire::Array { .. } => true,
            Wire::Record(fields) => fields.iter().any(Wire::holds_arrays),
            Wire::Range(part) | Wire::Multirange(part) => part.holds_arrays(),
            _ => false,
        }
    }
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
    pub output: Output,
    /// What stands between values of the type in an array's text: a comma, but for `box`.
    pub delimiter: char,
    /// For true arrays only; not for `int2vector`, `oidvector` and others that merely have a `typelem`.
    pub element: Option<Box<SourceType>>,
    /// For domains, with the domain's own `typtypmod` in it.
    pub base: Option<Box<SourceType>>,
    /// A range's type of ends, and a multirange's range.
    pub subtype: Option<Box<SourceType>>,
    /// A composite type's fields, in order, without dropped ones.
    pub fields: Vec<(String, SourceType)>,
    /// The extension that made the type.
    pub extension: Option<String>,
    /// Dimensions that an array was declared with where this type is used: as a field of a composite, as the base of a domain.
    /// 0 where nothing is declared.
    pub dimensions: u8,
    /// As `format_type` prints it, with or without the modifier.
    pub name: String,
}

/// How one column is asked for, read and delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    pub wire: Wire,
    pub column_type: ColumnType,
    pub select: Select,
}

/// What the SELECT has to do with a value, so that the mapping's wire form is what arrives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Select {
    Plain,
    /// To another type, whose conversion refuses what it cannot hold.
    Cast(&'static str),
    /// What the type's own output function prints, as COPY does. A cast may differ: that of an inet adds a mask.
    Output(Output),
    /// The bytes of that text, in UTF-8, or as they are in a database that has no encoding.
    Bytes(Output),
    /// Field by field.
    Row(Vec<(String, Select)>),
    /// An array's elements as the server prints them, in an array of the same dimensions and subscripts. With what separates
    /// them in the array's own text.
    Elements(char),
}

/// How the server is asked for what a type's output function prints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// By the function, qualified and quoted.
    Function(String),
    /// The function is declared for another type and cannot be called with this one: a refcursor is printed as a text is.
    Borrowed,
}

impl Output {
    fn sql(&self, value: &str) -> String {
        match self {
            Output::Function(function) => format!("pg_catalog.textin({function}({value}))"),
            // `format` takes values of every type, and prints nothing for NULL.
            Output::Borrowed => {
                format!("CASE WHEN ({value}) IS DISTINCT FROM NULL THEN pg_catalog.format('%s', {value}) END")
            }
        }
    }
}

impl Select {
    /// The expression that reads `value`, an expression in parentheses or a quoted name.
    pub fn sql(&self, value: &str) -> String {
        match self {
            Select::Plain => value.to_owned(),
            Select::Cast(to @ ("date" | "timestamp" | "timestamptz")) => {
                format!("({})::pg_catalog.{to}", without_relative_words(value))
            }
            Select::Cast(to) => format!("({value})::pg_catalog.{to}"),
            Select::Output(output) => output.sql(value),
            Select::Bytes(output) => format!(
                "pg_catalog.convert_to({}, CASE pg_catalog.getdatabaseencoding() \
                 WHEN 'SQL_ASCII' THEN 'SQL_ASCII' ELSE 'UTF8' END)",
                output.sql(value)
            ),
            Select::Row(fields) => {
                let parts = fields.iter().map(|(name, select)| select.sql(&format!("(({value}).{})", ident(name))));
                let parts: Vec<String> = parts.collect();
                // A composite value that is NULL, as opposed to one whose fields all are.
                format!("CASE WHEN ({value}) IS DISTINCT FROM NULL THEN ROW({}) END", parts.join(", "))
            }
            // The text of an array is that of an array of texts.
            Select::Elements(',') => {
                format!("pg_catalog.textin(pg_catalog.array_out({value}))::pg_catalog.text[]")
            }
            // Element by element, each through its output function: only box is separated otherwise, and has no cast to text.
            Select::Elements(_) => format!("({value})::pg_catalog.text[]"),
        }
    }
}

/// A text in which words that mean another time in each run, which the server's parsers know, stand no longer: they refuse
/// what stands in their place. Texts alone are cast to times.
fn without_relative_words(value: &str) -> String {
    format!(
        "pg_catalog.regexp_replace(({value})::pg_catalog.text COLLATE pg_catalog.\"C\", \
         '(^|[^a-z])(now|today|tomorrow|yesterday)([^a-z]|$)', ' relative ', 'i')"
    )
}

/// `pg_type.oid` of the built-in types that are read natively. They are fixed for ever by `pg_type.dat`.
pub(super) mod oid {
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
    pub const INTERVAL: u32 = 1186;
    pub const NUMERIC: u32 = 1700;
    pub const UUID: u32 = 2950;
    pub const JSONB: u32 = 3802;
    pub const XID8: u32 = 5069;
}

/// Decides how a column of type `source` is read. `dimensions` are those that an array column was declared with, 0 where only
/// its type can tell; `wanted` is the configured override.
///
/// # Errors
/// `ConfigInvalid` when the override cannot hold every value of the source type unchanged, or fail loudly.
pub fn map(source: &SourceType, dimensions: u8, wanted: Option<&ColumnType>) -> Result<Mapping> {
    let native = native(source, source.typmod, dimensions);
    let Some(wanted) = wanted else { return Ok(native) };
    if native.column_type == *wanted {
        return Ok(native);
    }
    overridden(underlying(source), &native, wanted).ok_or_else(|| refused(source, &native, wanted))
}

/// PostgreSQL's MAXDIM.
pub const MOST_DIMENSIONS: u8 = 6;

/// Delivers columns without an override as text, where a policy asks for it: all that can hold a special value, and arrays.
pub fn apply_policies(columns: &mut [SourceColumn], overrides: &BTreeMap<String, ColumnType>, policies: TypePolicies) {
    let special = policies.special_values == SpecialValues::Text;
    let arrays = policies.arrays == ArrayShape::Text;
    for SourceColumn { column, mapping, source, .. } in columns {
        let asked = (special && may_be_special(&mapping.column_type)) || (arrays && mapping.wire.holds_arrays());
        if asked && !overrides.contains_key(&column.name) {
            *mapping = as_text(source);
            column.column_type = ColumnType::Text;
        }
    }
}

/// Whether the source has values of this type for which the column has no room.
pub fn may_be_special(column_type: &ColumnType) -> bool {
    use ColumnType as C;
    match column_type {
        C::Decimal { .. } | C::Date | C::Time | C::Timestamp | C::TimestampUtc | C::Interval => true,
        C::List(element) | C::Range(element) => may_be_special(element),
        C::Struct(fields) => fields.iter().any(|field| may_be_special(&field.column_type)),
        _ => false,
    }
}

/// A mapping to the server's own text, whatever the type.
pub fn as_text(source: &SourceType) -> Mapping {
    let select = Select::Output(source.output.clone());
    Mapping { wire: Wire::Text, column_type: ColumnType::Text, select }
}

/// The type behind any number of domains.
pub(super) fn underlying(mut source: &SourceType) -> &SourceType {
    while let Some(base) = &source.base {
        source = base;
    }
    source
}

/// A text of a type beyond this would not leave room for the column's name in an event.
const LONGEST_TYPE: usize = 2048;

/// The mapping without an override.
fn native(source: &SourceType, typmod: i32, dimensions: u8) -> Mapping {
    let dimensions = if dimensions == 0 { source.dimensions } else { dimensions };
    let mapped = nested(source, typmod, dimensions).or_else(|| scalar(source, typmod)).filter(|mapping| {
        let nesting = mapping.column_type.nesting();
        nesting < DEEPEST_NESTING && (nesting == 0 || mapping.column_type.to_string().len() <= LONGEST_TYPE)
    });
    mapped.unwrap_or_else(|| as_text(source))
}

/// Types made of other types. `None` for scalars, and where a part cannot be read as it lies in the whole.
fn nested(source: &SourceType, typmod: i32, dimensions: u8) -> Option<Mapping> {
    if let Some(base) = &source.base {
        return Some(native(base, base.typmod, dimensions));
    }
    if !source.has_send {
        return None;
    }
    if let Some(element) = &source.element {
        let typmod = if element.typmod >= 0 { element.typmod } else { typmod };
        return array(native(element, typmod, 0), element.delimiter, dimensions);
    }
    let part = |source: &SourceType| Some(native(source, source.typmod, 0)).filter(|part| part.select == Select::Plain);
    match source.typtype {
        'c' if !source.fields.is_empty() => Some(composite(&source.fields)),
        'r' => {
            let end = part(source.subtype.as_ref()?)?;
            plain(Wire::Range(Box::new(end.wire)), ColumnType::Range(Box::new(end.column_type)))
        }
        'm' => {
            let range = part(source.subtype.as_ref()?)?;
            plain(Wire::Multirange(Box::new(range.wire)), ColumnType::List(Box::new(range.column_type)))
        }
        _ => None,
    }
}

fn array(element: Mapping, delimiter: char, dimensions: u8) -> Option<Mapping> {
    let dimensions = dimensions.max(1);
    let lists = (0..dimensions).fold(element.column_type, |inner, _| ColumnType::List(Box::new(inner)));
    let wire = Wire::Array { element: Box::new(element.wire), dimensions };
    match element.select {
        Select::Plain => plain(wire, lists),
        Select::Output(_) => Some(Mapping { wire, column_type: lists, select: Select::Elements(delimiter) }),
        _ => None,
    }
}

fn composite(fields: &[(String, SourceType)]) -> Mapping {
    let parts: Vec<Mapping> = fields.iter().map(|(_, field)| native(field, field.typmod, 0)).collect();
    let is_plain = parts.iter().all(|part| part.select == Select::Plain);
    let names = || fields.iter().map(|(name, _)| name.clone());
    let select = match is_plain {
        true => Select::Plain,
        false => Select::Row(names().zip(parts.iter().map(|part| part.select.clone())).collect()),
    };
    let (wires, types): (Vec<Wire>, Vec<ColumnType>) =
        parts.into_iter().map(|part| (part.wire, part.column_type)).unzip();
    let fields = names().zip(types).map(|(name, column_type)| StructField { name, column_type });
    Mapping { wire: Wire::Record(wires), column_type: ColumnType::Struct(fields.collect()), select }
}

fn plain(wire: Wire, column_type: ColumnType) -> Option<Mapping> {
    Some(Mapping { wire, column_type, select: Select::Plain })
}

/// Types that are read as they are sent, or `None`.
fn scalar(source: &SourceType, typmod: i32) -> Option<Mapping> {
    if !source.has_send {
        return None;
    }
    if let Some(extension) = &source.extension {
        return match (extension.as_str(), bare_name(&source.name)) {
            ("citext", "citext") => plain(Wire::Text, ColumnType::Text),
            ("hstore", "hstore") => plain(Wire::Hstore, ColumnType::Map),
            // PostGIS sends EWKB, which is what its readers want to see.
            ("postgis", "geometry" | "geography") => plain(Wire::Bytea, ColumnType::Binary),
            ("vector", "vector") => plain(Wire::Vector, ColumnType::List(Box::new(ColumnType::Float32))),
            ("vector", "halfvec") => plain(Wire::HalfVector, ColumnType::List(Box::new(ColumnType::Float32))),
            _ if source.typtype == 'e' => plain(Wire::Text, ColumnType::Text),
            _ => None,
        };
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
        (_, oid::NUMERIC) => match decimal_of(typmod) {
            Some(decimal) => plain(Wire::Numeric, decimal),
            None => plain(Wire::NumericText, ColumnType::Text),
        },
        (_, oid::DATE) => plain(Wire::Date, ColumnType::Date),
        (_, oid::TIME) => plain(Wire::Time, ColumnType::Time),
        (_, oid::TIMESTAMP) => plain(Wire::Timestamp, ColumnType::Timestamp),
        (_, oid::TIMESTAMPTZ) => plain(Wire::Timestamptz, ColumnType::TimestampUtc),
        (_, oid::INTERVAL) => plain(Wire::Interval, ColumnType::Interval),
        (_, oid::TEXT | oid::VARCHAR | oid::BPCHAR | oid::NAME) => plain(Wire::Text, ColumnType::Text),
        (_, oid::CHAR) => plain(Wire::Char, ColumnType::Text),
        (_, oid::BYTEA) => plain(Wire::Bytea, ColumnType::Binary),
        (_, oid::JSON) => plain(Wire::Json, ColumnType::Json),
        (_, oid::JSONB) => plain(Wire::Jsonb, ColumnType::Json),
        (_, oid::UUID) => plain(Wire::Uuid, ColumnType::Uuid),
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

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub fn base(oid: u32, name: &str) -> SourceType {
        SourceType {
            oid,
            typmod: -1,
            typtype: 'b',
            has_send: true,
            output: Output::Function(format!("pg_catalog.{name}out")),
            delimiter: ',',
            element: None,
            base: None,
            subtype: None,
            fields: vec![],
            extension: None,
            dimensions: 0,
            name: name.to_owned(),
        }
    }

    pub fn numeric(precision: i32, scale: i32) -> SourceType {
        let typmod = ((precision << 16) | (scale & 0x7ff)) + 4;
        SourceType { typmod, ..base(oid::NUMERIC, "numeric") }
    }

    pub fn array(element: SourceType) -> SourceType {
        let name = format!("{}[]", element.name);
        SourceType { element: Some(Box::new(element)), ..base(1, &name) }
    }

    pub fn made_by(extension: &str, source: SourceType) -> SourceType {
        SourceType { extension: Some(extension.to_owned()), ..source }
    }

    /// The type of the column, and the SQL that reads column `c`.
    fn mapped(source: &SourceType) -> (String, String) {
        let mapping = map(source, 0, None).unwrap();
        (mapping.column_type.to_string(), mapping.select.sql("c"))
    }

    fn output(name: &str) -> String {
        format!("pg_catalog.textin(pg_catalog.{name}out(c))")
    }

    #[test]
    fn numeric_is_a_decimal_while_its_declared_digits_fit_and_text_otherwise() {
        let read = |source: SourceType| {
            let (column_type, sql) = mapped(&source);
            assert_eq!(sql, "c", "read as it is");
            column_type
        };
        assert_eq!(read(numeric(15, 2)), "decimal(15,2)");
        assert_eq!(read(numeric(38, 38)), "decimal(38,38)");
        assert_eq!(read(numeric(76, 0)), "decimal(76,0)");
        assert_eq!(read(numeric(77, 0)), "text");
        assert_eq!(read(numeric(3, 5)), "text");
        assert_eq!(read(numeric(5, -2)), "text");
        assert_eq!(read(base(oid::NUMERIC, "numeric")), "text");
        assert_eq!(read(array(base(oid::NUMERIC, "numeric"))), "list<text>");
    }

    #[test]
    fn a_type_nobody_knows_or_without_a_send_function_arrives_as_the_server_prints_it() {
        assert_eq!(mapped(&base(869, "inet_")), ("text".into(), output("inet_")));
        // A type of that name, but of no extension.
        assert_eq!(mapped(&base(99_999, "vector_")), ("text".into(), output("vector_")));
        let borrowed = SourceType { output: Output::Borrowed, ..base(1790, "refcursor") };
        assert!(mapped(&borrowed).1.contains("pg_catalog.format('%s', c)"));
        assert_eq!(mapped(&made_by("other", base(99_999, "vector"))), ("text".into(), output("vector")));
        assert_eq!(mapped(&SourceType { has_send: false, ..base(1033, "acl") }), ("text".into(), output("acl")));
        let (column_type, sql) = mapped(&array(base(869, "inet_")));
        assert_eq!(column_type, "list<text>");
        assert_eq!(sql, "pg_catalog.textin(pg_catalog.array_out(c))::pg_catalog.text[]");
        let two = map(&array(base(869, "inet_")), 2, None).unwrap();
        assert_eq!(two.column_type.to_string(), "list<list<text>>");
        let boxes = array(SourceType { delimiter: ';', ..base(603, "box") });
        assert_eq!(mapped(&boxes), ("list<text>".into(), "(c)::pg_catalog.text[]".into()));
    }

    #[test]
    fn domains_enums_and_arrays_are_what_they_are_made_of() {
        let domain = SourceType { typtype: 'd', base: Some(Box::new(numeric(10, 2))), ..base(20_001, "price") };
        assert_eq!(mapped(&domain).0, "decimal(10,2)");
        assert_eq!(mapped(&array(domain)).0, "list<decimal(10,2)>");
        let mood = SourceType { typtype: 'e', ..base(20_002, "mood") };
        assert_eq!(mapped(&array(mood)).0, "list<text>");
        let modified = SourceType { typmod: numeric(6, 3).typmod, ..array(base(oid::NUMERIC, "numeric")) };
        assert_eq!(mapped(&modified).0, "list<decimal(6,3)>");
        assert_eq!(mapped(&made_by("citext", base(20_003, "public.citext"))), ("text".into(), "c".into()));
        let geometry = made_by("postgis", base(20_004, "geometry(Point,4326)"));
        assert_eq!(mapped(&geometry), ("binary".into(), "c".into()));
        assert_eq!(mapped(&made_by("vector", base(20_005, "vector(3)"))).0, "list<float32>");
        let grid = map(&array(base(oid::INT4, "integer")), 2, None).unwrap();
        assert_eq!(grid.column_type.to_string(), "list<list<int32>>");
        // A domain over an array, in an array: two lists, and one dimension each.
        let row = SourceType { typtype: 'd', base: Some(Box::new(array(base(oid::INT4, "int4")))), ..base(2, "row") };
        let rows = map(&array(row), 1, None).unwrap();
        let one = |element| Wire::Array { element: Box::new(element), dimensions: 1 };
        assert_eq!(rows.wire, one(one(Wire::Int4)));
    }

    #[test]
    fn composites_and_ranges_are_read_by_their_parts_where_these_can_be() {
        let range = |end: SourceType| SourceType { typtype: 'r', subtype: Some(Box::new(end)), ..base(3, "r") };
        let pair = |a: SourceType, b: SourceType| SourceType {
            typtype: 'c',
            fields: vec![("a".to_owned(), a), ("b c".to_owned(), b)],
            ..base(20_000, "pair")
        };
        let dates = range(base(oid::DATE, "date"));
        assert_eq!(mapped(&dates), ("range<date>".into(), "c".into()));
        let multi = SourceType { typtype: 'm', subtype: Some(Box::new(dates.clone())), ..base(4, "m") };
        assert_eq!(mapped(&multi).0, "list<range<date>>");
        assert_eq!(mapped(&range(base(oid::NUMERIC, "numeric"))).0, "range<text>");
        assert_eq!(mapped(&range(base(869, "inet_"))), ("text".into(), output("r")), "no part of it can be rewritten");
        let plain = pair(base(oid::INT4, "integer"), dates);
        assert_eq!(mapped(&plain), ("struct<1:a:int32,3:b c:range<date>>".into(), "c".into()));
        let (column_type, sql) = mapped(&pair(base(oid::INT4, "integer"), base(869, "inet_")));
        assert_eq!(column_type, "struct<1:a:int32,3:b c:text>");
        assert!(sql.contains("ROW(((c).\"a\"), pg_catalog.textin(pg_catalog.inet_out(((c).\"b c\"))))"), "{sql}");
        // An array of such cannot be rewritten.
        assert_eq!(mapped(&array(pair(base(oid::INT4, "int4"), base(869, "inet_")))).0, "text");
        assert_eq!(mapped(&SourceType { typtype: 'c', ..base(20_000, "empty") }).0, "text");
    }

    #[test]
    fn what_is_nested_too_deep_or_too_wide_for_an_event_arrives_as_text() {
        let wrap = |inner: SourceType, name: &str| SourceType {
            typtype: 'c',
            fields: vec![(name.to_owned(), inner)],
            ..base(20_000, "wrapped")
        };
        let deep = (0..40).fold(base(oid::INT4, "integer"), |inner, _| wrap(inner, "f"));
        let deep = map(&deep, 0, None).unwrap();
        assert!(deep.column_type.nesting() < DEEPEST_NESTING);
        let fields = (0..63).map(|i| (format!("{i:063}"), base(oid::INT4, "integer"))).collect();
        let wide = SourceType { typtype: 'c', fields, ..base(20_000, "wide") };
        assert_eq!(mapped(&wide).0, "text");
    }
}

//! `columns:` in the configuration: which other type a column may be delivered as, and how it is read then.
//!
//! An override keeps every value or fails: here, where the types already say that it cannot; else at the first value that
//! does not fit. Numbers and dates are read as they are sent, and the decoder converts them: the server rounds, and its errors
//! name neither the column nor the row. Only text is left to it, whose own parsers say what a text means.

use super::catalog::SourceColumn;
use super::types::{Mapping, Select, SourceType, Wire, as_text, map, oid, underlying};
use crate::error::{Error, ErrorKind};
use crate::run::schema::ColumnType;

/// How a column whose own mapping is `native` is read as `wanted`; `None` where that could change values without saying so.
pub(super) fn overridden(source: &SourceType, native: &Mapping, wanted: &ColumnType) -> Option<Mapping> {
    use ColumnType as C;
    let read = |wire| Some(Mapping { wire, column_type: wanted.clone(), select: Select::Plain });
    let cast = |wire, to| Some(Mapping { wire, column_type: wanted.clone(), select: Select::Cast(to) });
    match (&native.wire, wanted) {
        (Wire::Json, C::Text) => read(Wire::Json),
        (Wire::Jsonb, C::Text) => read(Wire::Jsonb),
        // `true` and `false`, where the output is `t` and `f`.
        (Wire::Bool, C::Text) => cast(Wire::Text, "text"),
        (_, C::Text) => Some(as_text(source)),

        (
            wire @ (Wire::Int2 | Wire::Int4 | Wire::Int8 | Wire::Oid | Wire::Xid8),
            C::Int16 | C::Int32 | C::Int64 | C::Decimal { .. },
        ) => read(wire.clone()),
        // Widths that hold every integer exactly.
        (Wire::Int2, C::Float32) => read(Wire::Int2),
        (wire @ (Wire::Int2 | Wire::Int4 | Wire::Float4), C::Float64) => read(wire.clone()),
        (Wire::Date, C::Timestamp | C::TimestampUtc) => read(Wire::Date),
        (Wire::Timestamp, C::TimestampUtc) => read(Wire::Timestamp),
        (Wire::Timestamptz, C::Timestamp) => read(Wire::Timestamptz),

        (Wire::Uuid, C::Binary) => read(Wire::Bytea),
        (_, C::Binary) => Some(bytes_of_text(source)),

        (Wire::Numeric | Wire::NumericText, C::Decimal { .. } | C::Int16 | C::Int32 | C::Int64) => read(Wire::Numeric),
        (_, C::Decimal { .. }) if source.oid == oid::MONEY => cast(Wire::Numeric, "numeric"),
        _ if is_text(source, native) => parsed(wanted).and_then(|(wire, to)| cast(wire, to)),
        _ => None,
    }
}

/// The bytes of what the server prints, whatever the type: the one way out for text that is not in its encoding, which the
/// server refuses to send, also from inside of arrays and composites.
fn bytes_of_text(source: &SourceType) -> Mapping {
    let select = Select::Bytes(source.output.clone());
    Mapping { wire: Wire::Bytea, column_type: ColumnType::Binary, select }
}

/// Text that a person may have written anything into. An enum's labels are not.
pub(super) fn is_text(source: &SourceType, native: &Mapping) -> bool {
    native.wire == Wire::Text && native.select == Select::Plain && source.typtype != 'e'
}

/// What the server's own parsers make of text. They refuse what they cannot read.
fn parsed(wanted: &ColumnType) -> Option<(Wire, &'static str)> {
    use ColumnType as C;
    Some(match wanted {
        C::Bool => (Wire::Bool, "bool"),
        C::Int16 => (Wire::Int2, "int2"),
        C::Int32 => (Wire::Int4, "int4"),
        C::Int64 => (Wire::Int8, "int8"),
        C::Float32 => (Wire::Float4, "float4"),
        C::Float64 => (Wire::Float8, "float8"),
        C::Decimal { .. } => (Wire::Numeric, "numeric"),
        C::Date => (Wire::Date, "date"),
        C::Timestamp => (Wire::Timestamp, "timestamp"),
        C::TimestampUtc => (Wire::Timestamptz, "timestamptz"),
        C::Uuid => (Wire::Uuid, "uuid"),
        C::Json => (Wire::Json, "json"),
        _ => return None,
    })
}

/// The error of a configuration that asks for what would change values.
pub(super) fn refused(source: &SourceType, native: &Mapping, wanted: &ColumnType) -> Error {
    let (type_name, wanted) = (&source.name, wanted.told());
    let what = format!("a column of type {type_name} cannot be delivered as {wanted} without changing values");
    let hint = format!(
        "Leave the override out (it is delivered as {}), or use `text`. Where a change is what you want, write the cast \
         into a `query`.",
        native.column_type.told()
    );
    Error::new(ErrorKind::ConfigInvalid, what).with_hint(hint)
}

/// Says, of an error that the server met in converting a value, which overrides it may be about. The server names the type
/// at most, and never the column.
pub fn blame(error: Error, columns: &[SourceColumn]) -> Error {
    if error.kind() != ErrorKind::SourceValue {
        return error;
    }
    let parsed = columns.iter().filter_map(|source| match source.mapping.select {
        Select::Cast(to) if is_parsed(&source.source) && raises(error.what(), to) => Some((source, to)),
        _ => None,
    });
    let mut concerned: Vec<(&SourceColumn, &str)> = parsed.collect();
    let is_named = |(_, to): &(&SourceColumn, &str)| names_type(error.what(), to);
    if concerned.iter().any(is_named) {
        concerned.retain(is_named);
    }
    let columns = || concerned.iter().map(|(source, _)| (&source.column.name, source.mapping.column_type.told()));
    let list: Vec<String> = columns().map(|(name, to)| format!("{name:?} to {to}")).collect();
    let (what, which) = match list.as_slice() {
        [] => return error,
        [only] => (format!("the override that converts column {only}: {}", error.what()), "the column"),
        several => {
            let several = several.join(", ");
            (format!("one of the overrides that convert columns {several}: {}", error.what()), "these columns")
        }
    };
    let remedies: Vec<String> = columns().map(|(name, _)| format!("{name}: text")).collect();
    let is_time = |(source, _): &(&SourceColumn, &str)| {
        use ColumnType as C;
        matches!(source.mapping.column_type, C::Date | C::Timestamp | C::TimestampUtc)
    };
    let relative = match concerned.iter().any(is_time) {
        true => " A word for a time relative to the run, such as `today`, is no time here.",
        false => "",
    };
    let hint = format!(
        "The server does not say in which row.{relative} Take the override out, or deliver {which} as text with `columns: {{{}}}`.",
        remedies.join(", ")
    );
    Error::new(ErrorKind::SourceValue, what).with_hint(hint)
}

/// Whether an override of such a column is left to the server's parsers. Nothing else that the server casts can fail: a bool
/// and an amount of money always have what they are cast to.
fn is_parsed(source: &SourceType) -> bool {
    let source = underlying(source);
    map(source, 0, None).is_ok_and(|native| is_text(source, &native))
}

/// Whether the parser of this type raises errors of the message's class.
fn raises(message: &str, to: &str) -> bool {
    let of = |code: &str| message.contains(&format!("(SQLSTATE {code})"));
    let is_number = matches!(to, "int2" | "int4" | "int8" | "numeric" | "float4" | "float8");
    match to {
        "date" | "timestamp" | "timestamptz" => ["22007", "22008", "22009", "22023"].into_iter().any(of),
        _ => of("22P02") || (is_number && of("22003")),
    }
}

/// Whether a message names the type, and not one whose name merely begins the same.
fn names_type(message: &str, to: &str) -> bool {
    let name = in_messages(to);
    let goes_on = |rest: &str| {
        ["with time zone", "precision"].iter().any(|more| rest.trim_start().starts_with(more))
            || rest.starts_with(|c: char| c.is_alphanumeric() || c == '/')
    };
    message.match_indices(name).any(|(at, _)| {
        let begins = !message[..at].ends_with(|c: char| c.is_alphanumeric());
        begins && !goes_on(&message[at + name.len()..])
    })
}

/// As the server's messages call the type.
fn in_messages(to: &str) -> &str {
    match to {
        "bool" => "boolean",
        "int2" => "smallint",
        "int4" => "integer",
        "int8" => "bigint",
        "float4" => "real",
        "float8" => "double precision",
        "timestamptz" => "timestamp with time zone",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::super::types::tests::{array, base, numeric};
    use super::*;

    /// Every target that the configuration can name.
    fn targets() -> Vec<ColumnType> {
        let words =
            "decimal(10,2) int16 int32 int64 float32 float64 bool text uuid json date timestamp timestamp_utc binary";
        words.split(' ').map(|word| ColumnType::parse(word).expect("a canonical text")).collect()
    }

    /// The targets that are accepted, in the order of [`targets`].
    fn accepted(source: &SourceType) -> String {
        let ok = targets().into_iter().filter(|wanted| map(source, 0, Some(wanted)).is_ok());
        ok.map(|wanted| wanted.to_string()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn each_type_takes_exactly_the_overrides_that_keep_its_values() {
        let mood = SourceType { typtype: 'e', ..base(20_002, "mood") };
        let domain = SourceType { typtype: 'd', base: Some(Box::new(base(oid::INT4, "integer"))), ..base(2, "small") };
        let cases = [
            (base(oid::BOOL, "boolean"), "bool text binary"),
            (base(oid::INT2, "smallint"), "decimal(10,2) int16 int32 int64 float32 float64 text binary"),
            (base(oid::INT4, "integer"), "decimal(10,2) int16 int32 int64 float64 text binary"),
            (base(oid::INT8, "bigint"), "decimal(10,2) int16 int32 int64 text binary"),
            (domain, "decimal(10,2) int16 int32 int64 float64 text binary"),
            (base(oid::OID, "oid"), "decimal(10,2) int16 int32 int64 text binary"),
            (base(oid::XID, "xid"), "decimal(10,2) int16 int32 int64 text binary"),
            (base(oid::XID8, "xid8"), "decimal(10,2) int16 int32 int64 text binary"),
            (base(oid::FLOAT4, "real"), "float32 float64 text binary"),
            (base(oid::FLOAT8, "double precision"), "float64 text binary"),
            (base(oid::NUMERIC, "numeric"), "decimal(10,2) int16 int32 int64 text binary"),
            (numeric(12, 4), "decimal(10,2) int16 int32 int64 text binary"),
            (base(oid::MONEY, "money"), "decimal(10,2) text binary"),
            (base(oid::DATE, "date"), "text date timestamp timestamp_utc binary"),
            (base(oid::TIME, "time"), "text binary"),
            (base(oid::TIMESTAMP, "timestamp"), "text timestamp timestamp_utc binary"),
            (base(oid::TIMESTAMPTZ, "timestamptz"), "text timestamp timestamp_utc binary"),
            (base(oid::INTERVAL, "interval"), "text binary"),
            (
                base(oid::TEXT, "text"),
                "decimal(10,2) int16 int32 int64 float32 float64 bool text uuid json date timestamp timestamp_utc binary",
            ),
            (base(oid::CHAR, "\"char\""), "text binary"),
            (base(oid::BYTEA, "bytea"), "text binary"),
            (base(oid::JSON, "json"), "text json binary"),
            (base(oid::JSONB, "jsonb"), "text json binary"),
            (base(oid::UUID, "uuid"), "text uuid binary"),
            (mood, "text binary"),
            (base(869, "inet"), "text binary"),
            (array(base(oid::INT4, "integer")), "text binary"),
        ];
        for (source, expected) in cases {
            assert_eq!(accepted(&source), expected, "{}", source.name);
        }
    }

    #[test]
    fn every_type_can_be_overridden_to_text() {
        for source in [base(oid::INT8, "bigint"), array(base(oid::INT4, "integer")), base(oid::BYTEA, "bytea")] {
            assert_eq!(map(&source, 0, Some(&ColumnType::Text)).unwrap(), as_text(&source), "{}", source.name);
        }
        // A cast of char(n) to text would strip the padding that the column has.
        let padded = map(&base(oid::BPCHAR, "character(3)"), 0, Some(&ColumnType::Text)).unwrap();
        assert_eq!(padded.select, Select::Plain);
    }

    #[test]
    fn an_override_that_could_change_a_value_is_refused_with_both_names() {
        let cases = [
            (base(oid::NUMERIC, "numeric"), ColumnType::Float64),
            (base(oid::FLOAT8, "double precision"), ColumnType::Float32),
            (base(oid::INT8, "bigint"), ColumnType::Float64),
            (base(oid::OID, "oid"), ColumnType::Float32),
            (base(oid::TIMESTAMP, "timestamp without time zone"), ColumnType::Date),
            (base(869, "inet"), ColumnType::Uuid),
        ];
        for (source, wanted) in cases {
            let error = map(&source, 0, Some(&wanted)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConfigInvalid);
            assert!(error.what().contains(&source.name), "{error}");
            assert!(error.what().contains(&wanted.told().to_string()), "{error}");
        }
    }

    #[test]
    fn a_number_is_read_bare_so_that_the_server_cannot_round_it() {
        let decimal = ColumnType::Decimal { precision: 10, scale: 0 };
        for wanted in [&decimal, &ColumnType::Int32] {
            let mapping = map(&base(oid::NUMERIC, "numeric"), 0, Some(wanted)).unwrap();
            assert_eq!((mapping.wire, mapping.select), (Wire::Numeric, Select::Plain));
        }
        let mapping = map(&base(oid::INT4, "integer"), 0, Some(&decimal)).unwrap();
        assert_eq!((mapping.wire, mapping.select), (Wire::Int4, Select::Plain));
        let unsigned = map(&base(oid::OID, "oid"), 0, Some(&ColumnType::Int32)).unwrap();
        assert_eq!((unsigned.wire, unsigned.select), (Wire::Oid, Select::Plain));
    }

    #[test]
    fn a_message_names_a_type_only_where_it_says_all_of_its_name() {
        assert!(names_type("smallint out of range", "int2"));
        assert!(names_type("invalid input syntax for type timestamp: …", "timestamp"));
        assert!(!names_type("invalid input syntax for type timestamp with time zone: …", "timestamp"));
        assert!(!names_type("invalid input syntax for type json: …", "jso"));
        assert!(!names_type("date/time field value out of range", "date"));
        assert!(raises("date/time field value out of range (SQLSTATE 22008)", "timestamptz"));
        assert!(!raises("date/time field value out of range (SQLSTATE 22008)", "uuid"));
        assert!(!raises("out of range (SQLSTATE 22003)", "json") && raises("out of range (SQLSTATE 22003)", "int2"));
        assert!(!raises("invalid input syntax (SQLSTATE 22P02)", "date"), "that is 22007");
        assert!(!raises("invalid byte sequence (SQLSTATE 22021)", "int4"));
    }
}

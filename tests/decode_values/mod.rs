//! Values of every type, what the server is asked about them, and the same said of what was delivered.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::*;
use rivet::run::schema::{ColumnType, StructField};
use rivet::source::postgres::sql::ident;

/// The expression whose text says of `v`, a value of type `name`, what [`shown`] says of the delivered one.
pub fn oracle(v: &str, name: &str, column_type: &ColumnType) -> String {
    match column_type {
        ColumnType::Bool => format!("({v})::text"),
        ColumnType::Date => format!("({v} - date '1970-01-01')::text"),
        // Whole seconds of extract() would be rounded as doubles; numeric arithmetic is exact.
        ColumnType::Time | ColumnType::Timestamp | ColumnType::TimestampUtc => {
            format!("trunc(extract(epoch FROM {v}) * 1000000)::text")
        }
        ColumnType::Interval => {
            let part = |field| format!("extract({field} FROM {v})");
            let micros = format!("(({} * 60 + {}) * 60000000 + {})", part("hour"), part("minute"), part("microsecond"));
            format!("concat_ws(' ', {} * 12 + {}, {}, trunc({micros}))", part("year"), part("month"), part("day"))
        }
        ColumnType::Binary => format!("encode({v}, 'hex')"),
        ColumnType::Range(end) => {
            let [lower, upper] = ["lower", "upper"].map(|end_of| oracle(&format!("{end_of}({v})"), "", end));
            format!(
                "concat_ws(' ', coalesce({lower}, '∅'), coalesce({upper}, '∅'), lower_inc({v})::text, upper_inc({v})::text, isempty({v})::text)"
            )
        }
        ColumnType::List(range) if matches!(**range, ColumnType::Range(_)) => {
            let one = oracle("one", "", range);
            format!("coalesce((SELECT string_agg({one}, '¦') FROM unnest({v}) one), '')")
        }
        ColumnType::Struct(fields) => {
            let part = |field: &StructField| oracle(&format!("(({v}).{})", ident(&field.name)), "", &field.column_type);
            let parts = fields.iter().map(|field| format!("coalesce({}, '∅')", part(field)));
            format!("concat_ws(' ', {})", parts.collect::<Vec<_>>().join(", "))
        }
        ColumnType::Map => format!("array_to_string(hstore_to_array({v}), ' ', '∅')"),
        ColumnType::List(_) => format!("coalesce(array_to_string({v}, '¦', '∅'), '')"),
        // A cast would take the padding away.
        ColumnType::Text if name.starts_with("character(") => format!("concat({v})"),
        // A cast would add a mask, which COPY does not print.
        ColumnType::Text if name == "inet" => format!("textin(inet_out({v}))"),
        _ => format!("({v})::text"),
    }
}

/// A delivered value in the words of [`oracle`].
pub fn shown(array: &ArrayRef, row: usize) -> String {
    macro_rules! number {
        ($type:ty) => {
            array.as_primitive::<$type>().value(row).to_string()
        };
    }
    match array.data_type() {
        DataType::Boolean => array.as_boolean().value(row).to_string(),
        DataType::Int16 => number!(Int16Type),
        DataType::Int32 => number!(Int32Type),
        DataType::Int64 => number!(Int64Type),
        DataType::UInt32 => number!(UInt32Type),
        DataType::UInt64 => number!(UInt64Type),
        DataType::Float32 => {
            float(f64::from(array.as_primitive::<Float32Type>().value(row)), |v| (v as f32).to_string())
        }
        DataType::Float64 => float(array.as_primitive::<Float64Type>().value(row), |v| v.to_string()),
        DataType::Date32 => number!(Date32Type),
        DataType::Time64(_) => number!(Time64MicrosecondType),
        DataType::Timestamp(..) => number!(TimestampMicrosecondType),
        DataType::Decimal128(..) => array.as_primitive::<Decimal128Type>().value_as_string(row),
        DataType::Decimal256(..) => array.as_primitive::<Decimal256Type>().value_as_string(row),
        DataType::Utf8 => array.as_string::<i32>().value(row).to_owned(),
        DataType::Binary => hex(array.as_binary::<i32>().value(row)),
        DataType::FixedSizeBinary(16) => {
            let hex = hex(array.as_fixed_size_binary().value(row));
            format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
        }
        DataType::List(_) => {
            let elements = array.as_list::<i32>().value(row);
            let one = |i: usize| match elements.is_null(i) {
                true => "∅".to_owned(),
                // array_to_string prints a bool by its output function, not by its cast.
                false if elements.data_type() == &DataType::Boolean => shown(&elements, i)[..1].to_owned(),
                false => shown(&elements, i),
            };
            (0..elements.len()).map(one).collect::<Vec<_>>().join("¦")
        }
        DataType::Struct(_) => shown_parts(array.as_struct().columns(), row),
        DataType::Map(..) => {
            let entries = array.as_map().value(row);
            (0..entries.len()).map(|entry| shown_parts(entries.columns(), entry)).collect::<Vec<_>>().join(" ")
        }
        other => panic!("no column is delivered as {other}"),
    }
}

fn shown_parts(parts: &[ArrayRef], row: usize) -> String {
    let one = |part: &ArrayRef| if part.is_null(row) { "∅".to_owned() } else { shown(part, row) };
    parts.iter().map(one).collect::<Vec<_>>().join(" ")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn float(value: f64, finite: impl Fn(f64) -> String) -> String {
    match value {
        value if value.is_nan() => "NaN".to_owned(),
        f64::INFINITY => "Infinity".to_owned(),
        f64::NEG_INFINITY => "-Infinity".to_owned(),
        value => finite(value),
    }
}

/// Types, the column type that each becomes, and values as SQL expressions. NULL is added to all.
pub const TYPES: &[(&str, &str, &[&str])] = &[
    ("bool", "bool", &["true", "false"]),
    ("int2", "int16", &["-32768", "32767", "0"]),
    ("int4", "int32", &["-2147483648", "2147483647", "-1"]),
    ("int8", "int64", &["-9223372036854775808", "9223372036854775807", "0"]),
    ("oid", "uint32", &["0", "4294967295"]),
    ("xid", "uint32", &["'7'", "'4294967295'"]),
    ("cid", "uint32", &["'7'"]),
    ("xid8", "uint64", &["'18446744073709551615'", "'3'"]),
    ("float4", "float32", &["1.5", "'NaN'", "'-Infinity'", "'Infinity'", "-0.1", "0"]),
    ("float8", "float64", &["1.5", "'NaN'", "'Infinity'", "0.1", "123456.789", "-2.5"]),
    (
        "numeric(15,2)",
        "decimal(15,2)",
        &["0", "0.01", "-0.01", "9999999999999.99", "-9999999999999.99", "10000", "0.1"],
    ),
    (
        "numeric(38,0)",
        "decimal(38,0)",
        &["99999999999999999999999999999999999999", "-1", "10000000000000000000000000000"],
    ),
    ("numeric(38,37)", "decimal(38,37)", &["9.9999999999999999999999999999999999999", "1e-37", "-0.5"]),
    ("numeric(5,5)", "decimal(5,5)", &["0.00001", "-0.99999", "0.1"]),
    (
        "numeric(76,30)",
        "decimal(76,30)",
        &["repeat('9',46)::numeric + 0.999999999999999999999999999999", "-1e-30", "12345.678", "0"],
    ),
    ("numeric", "text", &["'NaN'", "1.10", "-1e-400", "repeat('9', 500)::numeric", "'Infinity'"]),
    ("numeric(5,-2)", "text", &["12345", "-100"]),
    ("numeric(3,6)", "text", &["0.000999"]),
    ("date", "date", &["'2024-02-29'", "'0044-03-15 BC'", "'4713-01-01 BC'", "'5874897-12-31'", "'1969-12-31'"]),
    ("time", "time", &["'00:00'", "'23:59:59.999999'", "'00:00:00.000001'"]),
    ("timetz", "text", &["'24:00:00+05:30'", "'01:02:03.4-11'"]),
    (
        "timestamp",
        "timestamp",
        &[
            "'1969-12-31 23:59:59.999999'",
            "'0044-03-15 01:02:03 BC'",
            "'294246-12-31 23:59:59.999999'",
            "'4713-01-01 BC'",
        ],
    ),
    (
        "timestamptz",
        "timestamp_utc",
        &["'2024-03-31 02:30+02'", "'1883-11-18 12:03:57.5 America/New_York'", "'99999-01-01+00'"],
    ),
    ("interval", "interval", &["'1 year -2 days 03:04:05.678901'", "'0'", "'-178000000 years'"]),
    ("text", "text", &["''", "'plain'", "'日本語 🦀 é'", "repeat('ü', 500000)", "E'tab\\tnewline\\n\\\\N'"]),
    ("varchar(10)", "text", &["''", "'ten chars!'", "'ünïcödé'"]),
    ("char(5)", "text", &["'ab'", "''", "'éé'"]),
    ("name", "text", &["'relname'"]),
    ("\"char\"", "text", &["'x'", "''"]),
    ("bytea", "binary", &["''", "'\\x00ff7f80'", "decode(repeat('ab', 300000), 'hex')"]),
    ("json", "json", &["'{\"a\" : [1,  2]}'", "'null'", "'\"\\u00e9\"'"]),
    ("jsonb", "json", &["'{\"b\":1, \"a\" : [1,  2]}'", "'null'", "'\"é\"'", "'1e400'"]),
    ("uuid", "uuid", &["'00000000-0000-0000-0000-000000000000'", "'ffffffff-ffff-4fff-8fff-0123456789ab'"]),
    ("mood", "text", &["'sad'", "'überglücklich'"]),
    ("price", "decimal(10,2)", &["1.05", "99999999.99"]),
    ("label", "text", &["'named'"]),
    ("int_list", "list<int32>", &["'{1,NULL,3}'", "'{}'"]),
    ("bool[]", "list<bool>", &["'{t,f,NULL}'", "'{}'"]),
    ("int2[]", "list<int16>", &["'{1,-2}'"]),
    (
        "int4[]",
        "list<int32>",
        &["'{1,NULL,3}'", "'{}'", "'{NULL}'", "(SELECT array_agg(g) FROM generate_series(1, 5000) g)"],
    ),
    ("int8[]", "list<int64>", &["'{9223372036854775807}'"]),
    ("float8[]", "list<float64>", &["'{1.5,NaN,-Infinity}'"]),
    ("numeric(10,2)[]", "list<decimal(10,2)>", &["'{1.05,NULL,-99999999.99}'", "'{}'"]),
    ("numeric[]", "list<text>", &["'{1.05,NULL,NaN}'"]),
    ("text[]", "list<text>", &["'{\"\",NULL,\"NULL\",\"a,b\",é}'", "'{}'"]),
    ("mood[]", "list<text>", &["'{sad,NULL,überglücklich}'"]),
    ("price[]", "list<decimal(10,2)>", &["'{1.05}'"]),
    ("uuid[]", "list<uuid>", &["'{00000000-0000-0000-0000-000000000001,NULL}'"]),
    ("jsonb[]", "list<json>", &["array['{\"a\": 1}'::jsonb, NULL]"]),
    ("inet[]", "list<text>", &["'{10.0.0.1/8,NULL}'"]),
    ("inet", "text", &["'10.1.2.3/8'", "'::1'", "'10.1.2.3'"]),
    ("cidr", "text", &["'10.0.0.0/8'"]),
    ("macaddr8", "text", &["'08:00:2b:01:02:03:04:05'"]),
    ("money", "text", &["1234.56", "-1"]),
    ("bit(4)", "text", &["B'1010'"]),
    ("varbit", "text", &["B''", "B'1'"]),
    ("xml", "text", &["'<a>é</a>'"]),
    ("tsvector", "text", &["'fat cat'"]),
    ("tsquery", "text", &["'fat & cat'"]),
    ("pg_lsn", "text", &["'16/B374D848'"]),
    ("point", "text", &["'(1.5,-2)'"]),
    ("polygon", "text", &["'((0,0),(1,1),(1,0))'"]),
    ("jsonpath", "text", &["'$.a[*]'"]),
    ("regclass", "text", &["'pg_class'"]),
    ("int4range", "range<int32>", &["'[1,5)'", "'empty'", "'(,)'"]),
    ("int4multirange", "list<range<int32>>", &["'{[1,5),[7,9)}'", "'{}'", "'{(,)}'"]),
    ("tstzrange", "range<timestamp_utc>", &["'[2024-01-01 00:00+02,)'"]),
    ("pair", "struct<1:a:int32,1:b:text>", &["'(1,\"a,b\")'", "'(,)'"]),
    ("int2vector", "text", &["'1 2 3'"]),
    ("aclitem", "text", &["'postgres=r/postgres'"]),
    ("hstore", "map<text,text>", &["'a=>1, b=>NULL'", "''"]),
    ("citext", "text", &["'MiXed É'"]),
];

pub const MADE_TYPES: &str = "CREATE EXTENSION hstore; CREATE EXTENSION citext; CREATE TYPE mood AS ENUM ('sad', 'überglücklich'); \
    CREATE DOMAIN price AS numeric(10,2); CREATE DOMAIN label AS mood_text; CREATE TYPE pair AS (a int, b text); \
    CREATE DOMAIN int_list AS int[];";

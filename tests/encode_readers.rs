//! Two independent readers, pyarrow and DuckDB, see in our files what was put into them.
//!
//! `RIVET_TEST_PYTHON`, or the environment that `tools/setup` makes, is a Python that has both.

use arrow::array::*;
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{Decimal128Type, Decimal256Type, i256};
use rivet::encode::arrow_schema::{data_type, list_field};
use rivet::encode::parquet::{ParquetOptions, PartEncoder};
use rivet::run::schema::{Column, ColumnType, Schema};
use serde_json::{Value, json};
use std::sync::Arc;

/// A column, its values, and what every reader should see.
struct Case {
    name: String,
    column_type: ColumnType,
    array: ArrayRef,
    seen: Value,
}

fn case(name: &str, column_type: ColumnType, array: impl Array + 'static, seen: Value) -> Case {
    assert_eq!(array.data_type(), &data_type(&column_type), "{name}");
    assert_eq!(seen.as_array().map(Vec::len), Some(array.len()), "{name}");
    Case { name: name.into(), column_type, array: Arc::new(array), seen }
}

fn write(cases: &[Case], path: &std::path::Path) {
    write_with(cases, path, &ParquetOptions::default());
}

fn write_with(cases: &[Case], path: &std::path::Path, options: &ParquetOptions) {
    let columns = cases.iter().map(|case| Column {
        name: case.name.clone(),
        column_type: case.column_type.clone(),
        nullable: case.array.null_count() > 0,
        source_type: format!("native {}", case.name),
    });
    let schema = Schema { columns: columns.collect() };
    let file = std::fs::File::create(path).unwrap();
    let metadata = vec![("rivet.run_id".to_owned(), "run-1".to_owned())];
    let mut encoder = PartEncoder::new(file, &schema, options, metadata).unwrap();
    let batch = RecordBatch::try_from_iter(cases.iter().map(|case| (&case.name, case.array.clone()))).unwrap();
    encoder.write(&batch).unwrap();
    encoder.finish().unwrap();
}

/// `RIVET_TEST_PYTHON`, or the environment that `tools/setup` makes.
fn python() -> std::path::PathBuf {
    if let Some(python) = std::env::var_os("RIVET_TEST_PYTHON") {
        return python.into();
    }
    let python = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("test-venv").join("bin/python");
    assert!(python.exists(), "{} is not there; tools/setup makes it, with duckdb and pyarrow", python.display());
    python
}

fn read_back(path: &std::path::Path) -> Value {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/encode_support/read_back.py");
    let output = std::process::Command::new(python()).arg(script).arg(path).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn f32_hex(value: f32) -> String {
    format!("{:08x}", value.to_bits())
}

fn f64_hex(value: f64) -> String {
    format!("{:016x}", value.to_bits())
}

/// Five rows of every scalar type, with its extremes.
fn scalars() -> Vec<Case> {
    let (denormal32, denormal64) = (f32::from_bits(1), f64::from_bits(1));
    let uuids = [[0u8; 16], [0xff; 16], *b"0123456789abcdef"];
    let uuids = [Some(uuids[0]), Some(uuids[1]), None, Some(uuids[2]), Some(uuids[0])];
    let uuid_array = FixedSizeBinaryArray::try_from_sparse_iter_with_size(uuids.iter().copied(), 16).unwrap();
    let seen_uuids = json!([
        "00000000-0000-0000-0000-000000000000",
        "ffffffff-ffff-ffff-ffff-ffffffffffff",
        null,
        "30313233-3435-3637-3839-616263646566",
        "00000000-0000-0000-0000-000000000000"
    ]);
    let long = "ß∂🜁 ".repeat(60_000);
    vec![
        case(
            "bool",
            ColumnType::Bool,
            BooleanArray::from(vec![Some(true), Some(false), None, Some(true), None]),
            json!(["true", "false", null, "true", null]),
        ),
        case(
            "int16",
            ColumnType::Int16,
            Int16Array::from(vec![Some(i16::MIN), Some(i16::MAX), None, Some(0), Some(-1)]),
            json!(["-32768", "32767", null, "0", "-1"]),
        ),
        case(
            "int32",
            ColumnType::Int32,
            Int32Array::from(vec![i32::MIN, i32::MAX, 0, 1, -1]),
            json!(["-2147483648", "2147483647", "0", "1", "-1"]),
        ),
        case(
            "int64",
            ColumnType::Int64,
            Int64Array::from(vec![Some(i64::MIN), Some(i64::MAX), None, Some(0), Some(-1)]),
            json!(["-9223372036854775808", "9223372036854775807", null, "0", "-1"]),
        ),
        case(
            "uint32",
            ColumnType::UInt32,
            UInt32Array::from(vec![Some(0), Some(u32::MAX), None, Some(1 << 31), Some(1)]),
            json!(["0", "4294967295", null, "2147483648", "1"]),
        ),
        case(
            "uint64",
            ColumnType::UInt64,
            UInt64Array::from(vec![Some(0), Some(u64::MAX), None, Some(1 << 63), Some(1)]),
            json!(["0", "18446744073709551615", null, "9223372036854775808", "1"]),
        ),
        case(
            "float32",
            ColumnType::Float32,
            Float32Array::from(vec![Some(f32::NAN), Some(f32::NEG_INFINITY), None, Some(-0.0), Some(denormal32)]),
            json!(["nan", f32_hex(f32::NEG_INFINITY), null, f32_hex(-0.0), f32_hex(denormal32)]),
        ),
        case(
            "float64",
            ColumnType::Float64,
            Float64Array::from(vec![Some(f64::NAN), Some(f64::INFINITY), None, Some(-0.0), Some(denormal64)]),
            json!(["nan", f64_hex(f64::INFINITY), null, f64_hex(-0.0), f64_hex(denormal64)]),
        ),
        // 4713 BC, the last day that PostgreSQL has, and around 1970.
        case(
            "date",
            ColumnType::Date,
            Date32Array::from(vec![Some(-2_440_588), Some(2_145_031_948), None, Some(-1), Some(0)]),
            json!(["-2440588", "2145031948", null, "-1", "0"]),
        ),
        case(
            "time",
            ColumnType::Time,
            Time64MicrosecondArray::from(vec![Some(0), Some(86_399_999_999), None, Some(1), Some(2)]),
            json!(["0", "86399999999", null, "1", "2"]),
        ),
        case(
            "timestamp",
            ColumnType::Timestamp,
            TimestampMicrosecondArray::from(vec![Some(-210_866_803_200_000_000), Some(-1), None, Some(0), Some(1)]),
            json!(["-210866803200000000", "-1", null, "0", "1"]),
        ),
        case(
            "timestamp_utc",
            ColumnType::TimestampUtc,
            TimestampMicrosecondArray::from(vec![Some(9_224_318_015_999_999), Some(-1), None, Some(0), Some(1)])
                .with_timezone("UTC"),
            json!(["9224318015999999", "-1", null, "0", "1"]),
        ),
        case(
            "text",
            ColumnType::Text,
            StringArray::from(vec![Some(""), Some("a\"'\\\n\t\u{1}"), None, Some(long.as_str()), Some("\u{feff}é")]),
            json!(["", "a\"'\\\n\t\u{1}", null, long, "\u{feff}é"]),
        ),
        case(
            "binary",
            ColumnType::Binary,
            BinaryArray::from(vec![Some(&b""[..]), Some(&[0, 0xff, 0x80]), None, Some(b"\xc3\x28"), Some(b"x")]),
            json!(["", "00ff80", null, "c328", "78"]),
        ),
        case(
            "json",
            ColumnType::Json,
            StringArray::from(vec![Some("null"), Some(r#"{"a": 1.00}"#), None, Some("[]"), Some("\"\"")]),
            json!(["null", r#"{"a": 1.00}"#, null, "[]", "\"\""]),
        ),
        case("uuid", ColumnType::Uuid, uuid_array, seen_uuids),
        case("all null", ColumnType::Text, StringArray::new_null(5), json!([null, null, null, null, null])),
        case("a \"b\".c;", ColumnType::Int32, Int32Array::from(vec![1, 2, 3, 4, 5]), json!(["1", "2", "3", "4", "5"])),
    ]
}

/// Five rows of lists of `element`, cut out of the five rows of a scalar case: all of it, nothing, NULL, one, two.
fn list_of(element: &Case) -> Case {
    let order = [0, 1, 2, 3, 4, 2, 3, 4];
    let values: Vec<Value> = order.iter().map(|&i| element.seen[i].clone()).collect();
    let indices = UInt32Array::from(order.iter().map(|&i| i as u32).collect::<Vec<_>>());
    let taken = arrow::compute::take(&element.array, &indices, None).unwrap();
    let offsets = OffsetBuffer::new(vec![0, 5, 5, 5, 6, 8].into());
    let nulls = NullBuffer::from(vec![true, true, false, true, true]);
    let array = ListArray::new(list_field(&element.column_type), offsets, taken, Some(nulls));
    let seen = json!([values[..5], [], null, values[5..6], values[6..8]]);
    case(&format!("list of {}", element.name), ColumnType::List(Box::new(element.column_type.clone())), array, seen)
}

/// All nines, their negative, NULL, nought and one, in `precision` digits.
fn decimal(precision: u8) -> Case {
    let scale = precision / 2;
    let nines = "9".repeat(usize::from(precision));
    let text = |digits: &str| {
        let (sign, digits) = digits.strip_prefix('-').map_or(("", digits), |digits| ("-", digits));
        let digits = format!("{digits:0>width$}", width = usize::from(scale) + 1);
        let (whole, fraction) = digits.split_at(digits.len() - usize::from(scale));
        if scale == 0 { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") }
    };
    let unscaled = [Some(nines.clone()), Some(format!("-{nines}")), None, Some("0".into()), Some("1".into())];
    let seen = json!(unscaled.each_ref().map(|digits| digits.as_deref().map(text)));
    let column_type = ColumnType::Decimal { precision, scale };
    let name = format!("decimal {precision}");
    if precision <= 38 {
        let values = unscaled.iter().map(|digits| digits.as_ref().map(|digits| digits.parse::<i128>().unwrap()));
        let array = PrimitiveArray::<Decimal128Type>::from_iter(values);
        case(&name, column_type, array.with_precision_and_scale(precision, scale as i8).unwrap(), seen)
    } else {
        let values = unscaled.iter().map(|digits| digits.as_ref().map(|digits| i256::from_string(digits).unwrap()));
        let array = PrimitiveArray::<Decimal256Type>::from_iter(values);
        case(&name, column_type, array.with_precision_and_scale(precision, scale as i8).unwrap(), seen)
    }
}

fn compare(cases: &[Case], seen: &Value) {
    for case in cases {
        assert_eq!(seen["pyarrow"][&case.name], case.seen, "pyarrow, column {:?}", case.name);
        if !matches!(case.column_type, ColumnType::Decimal { precision: 39.., .. }) {
            assert_eq!(seen["duckdb"][&case.name], case.seen, "DuckDB, column {:?}", case.name);
        }
        assert_eq!(seen["nullable"][&case.name], json!(case.array.null_count() > 0), "column {:?}", case.name);
        assert_eq!(seen["source_types"][&case.name], json!(format!("native {}", case.name)));
    }
}

#[test]
fn every_scalar_type_reads_back_in_both_readers() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("part.parquet");
    let cases = scalars();
    write(&cases, &path);
    let seen = read_back(&path);
    compare(&cases, &seen);
    assert_eq!(seen["types"]["uuid"], "extension<arrow.uuid>");
    assert_eq!(seen["types"]["json"], "extension<arrow.json>");
    assert_eq!(seen["logical"]["uuid"], "UUID");
    assert_eq!(seen["logical"]["json"], "JSON");
    assert_eq!(seen["types"]["timestamp"], "timestamp[us]");
    assert_eq!(seen["types"]["timestamp_utc"], "timestamp[us, tz=UTC]");
    assert_eq!(seen["types"]["uint32"], "uint32");
    assert_eq!(seen["created_by"], concat!("rivet ", env!("CARGO_PKG_VERSION")));
    assert_eq!(seen["metadata"], json!({"rivet.run_id": "run-1"}));
}

#[test]
fn lists_of_every_type_read_back_with_empty_lists_and_nulls_at_both_levels() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("part.parquet");
    let mut cases: Vec<Case> = scalars().iter().chain(&[decimal(12), decimal(38)]).map(list_of).collect();
    let nested = cases.iter().find(|case| case.name == "list of int32").map(list_of).unwrap();
    cases.push(nested);
    write(&cases, &path);
    let seen = read_back(&path);
    compare(&cases, &seen);
    assert_eq!(seen["logical"]["list of uuid.list.element"], "UUID");
    assert_eq!(seen["logical"]["list of json.list.element"], "JSON");
    assert_eq!(seen["types"]["list of int32"], "list<element: int32>");
}

#[test]
fn decimals_of_1_to_76_digits_read_back_with_every_digit() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("part.parquet");
    let cases: Vec<Case> = (1..=76).map(decimal).collect();
    write(&cases, &path);
    let seen = read_back(&path);
    compare(&cases, &seen);
    let physical = |precision: u8| seen["physical"][&format!("decimal {precision}")].as_str().unwrap().to_owned();
    assert_eq!(
        [9, 10, 18, 19, 76].map(physical),
        ["INT32", "INT64", "INT64", "FIXED_LEN_BYTE_ARRAY", "FIXED_LEN_BYTE_ARRAY"]
    );
}

#[test]
fn a_part_without_rows_has_its_schema() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("part.parquet");
    let empty: Vec<Case> =
        scalars().into_iter().map(|case| Case { array: case.array.slice(0, 0), seen: json!([]), ..case }).collect();
    write(&empty, &path);
    let seen = read_back(&path);
    compare(&empty, &seen);
    assert_eq!(seen["types"]["timestamp_utc"], "timestamp[us, tz=UTC]");
}

#[test]
fn the_example_in_the_documentation_of_checksums_prints_the_checksum_of_the_part() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/checksums.md")).unwrap();
    let example = page.split("```python\n").nth(1).and_then(|rest| rest.split("```").next()).expect("an example");
    let dir = tempfile::tempdir().unwrap();
    let ids = Int64Array::from_iter((0..1_000).map(|i| (i % 7 > 0).then_some(i * 1_000_003 - 500_000_000)));
    let schema = Schema {
        columns: vec![Column {
            name: "id".into(),
            column_type: ColumnType::Int64,
            nullable: true,
            source_type: "bigint".into(),
        }],
    };
    let file = std::fs::File::create(dir.path().join("part-00000-0.parquet")).unwrap();
    let mut encoder = PartEncoder::new(file, &schema, &ParquetOptions::default(), vec![]).unwrap();
    encoder.write(&RecordBatch::try_from_iter([("id", Arc::new(ids) as ArrayRef)]).unwrap()).unwrap();
    let (_, part) = encoder.finish().unwrap();
    let output = std::process::Command::new(python()).args(["-c", example]).current_dir(dir.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let printed = String::from_utf8_lossy(&output.stdout);
    assert_eq!(printed.trim(), format!("sum64:{:016x}", part.column_checksums[0]));
}

/// Values in no order over the whole range of a type, every seventh of them NULL: as many bits for a delta as there are.
fn noisy<T>(name: &str, column_type: ColumnType, values: Vec<i128>, native: impl Fn(i128) -> T::Native) -> Case
where
    T: arrow::datatypes::ArrowPrimitiveType,
{
    let values: Vec<Option<i128>> = values.into_iter().enumerate().map(|(i, v)| (i % 7 > 0).then_some(v)).collect();
    let array = PrimitiveArray::<T>::from_iter(values.iter().map(|value| value.map(&native)));
    let array = array.with_data_type(data_type(&column_type));
    let seen = values.iter().map(|value| value.map(|value| value.to_string()));
    case(name, column_type, array, seen.collect())
}

#[test]
fn packed_deltas_and_lengths_read_back_over_many_pages_and_row_groups() {
    use arrow::datatypes as t;
    let rows = 30_000usize;
    let mut random = fastrand::Rng::with_seed(11);
    let mut whole = |low: i128, high: i128| -> Vec<i128> {
        // Also next to each other: the largest delta that there can be.
        (0..rows)
            .map(|i| {
                if i % 11 == 1 {
                    low
                } else if i % 11 == 2 {
                    high
                } else {
                    random.i128(low..=high)
                }
            })
            .collect()
    };
    let mut cases = vec![
        noisy::<t::Int16Type>("int16", ColumnType::Int16, whole(i16::MIN.into(), i16::MAX.into()), |v| v as i16),
        noisy::<t::Int32Type>("int32", ColumnType::Int32, whole(i32::MIN.into(), i32::MAX.into()), |v| v as i32),
        noisy::<t::Int64Type>("int64", ColumnType::Int64, whole(i64::MIN.into(), i64::MAX.into()), |v| v as i64),
        noisy::<t::UInt32Type>("uint32", ColumnType::UInt32, whole(0, u32::MAX.into()), |v| v as u32),
        noisy::<t::UInt64Type>("uint64", ColumnType::UInt64, whole(0, u64::MAX.into()), |v| v as u64),
        noisy::<t::Date32Type>("date", ColumnType::Date, whole(-2_440_588, 2_145_031_948), |v| v as i32),
        noisy::<t::TimestampMicrosecondType>(
            "timestamp",
            ColumnType::TimestampUtc,
            whole(-210_866_803_200_000_000, 9_224_318_015_999_999),
            |v| v as i64,
        ),
        noisy::<t::Int64Type>("key", ColumnType::Int64, (0..rows as i128).map(|i| i / 3).collect(), |v| v as i64),
        noisy::<Decimal128Type>(
            "decimal",
            ColumnType::Decimal { precision: 18, scale: 0 },
            whole(-999_999_999_999_999_999, 999_999_999_999_999_999),
            |v| v,
        ),
    ];
    let texts = (0..rows).map(|i| match i % 13 {
        0 => None,
        1 => Some(String::new()),
        n => Some("täxt ".repeat(n) + &i.to_string()),
    });
    let texts: Vec<Option<String>> = texts.collect();
    cases.push(case("text", ColumnType::Text, StringArray::from(texts.clone()), json!(texts)));

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("part.parquet");
    write_with(&cases, &path, &ParquetOptions { row_group_rows: Some(12_000), ..ParquetOptions::default() });
    let file = std::fs::File::open(&path).unwrap();
    let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
    assert_eq!(reader.metadata().num_row_groups(), 3);
    for (case, chunk) in cases.iter().zip(reader.metadata().row_group(0).columns()) {
        use parquet::basic::Encoding::{DELTA_BINARY_PACKED, DELTA_LENGTH_BYTE_ARRAY};
        let wanted = if case.name == "text" { DELTA_LENGTH_BYTE_ARRAY } else { DELTA_BINARY_PACKED };
        assert!(chunk.encodings().any(|used| used == wanted), "column {:?} is not what this test is about", case.name);
    }
    compare(&cases, &read_back(&path));
}

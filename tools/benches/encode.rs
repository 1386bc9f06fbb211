//! What encoding costs: time, bytes and memory for each row, on rows like those of the three bench tables.
//!
//! `cargo bench --bench encode` makes its own rows. With `RIVET_BENCH_PARQUET=a.parquet,b.parquet` it takes the rows of
//! those files instead, which may be exports of real tables. `RIVET_BENCH_ROW_GROUP_MB` sets the size of row groups.

use arrow::array::*;
use arrow::datatypes::{DataType, Decimal128Type, Schema as ArrowSchema, TimeUnit};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use rivet::encode::checksum::ColumnSums;
use rivet::encode::parquet::{ParquetOptions, PartEncoder};
use rivet::run::schema::{Column, ColumnType, Schema};
use std::io::Write;
use std::sync::Arc;

/// As the decoder sizes its batches.
const BATCH_BYTES: usize = 2 * 1024 * 1024;

fn main() {
    match std::env::var("RIVET_BENCH_PARQUET") {
        Ok(paths) => paths.split(',').for_each(|path| measure(path, &read(path))),
        Err(_) => {
            measure("lineitem", &lineitem(1_000_000));
            measure("wide", &wide(50_000));
            measure("narrow", &narrow(2_000_000));
            measure("400 columns", &many_columns(60_000));
        }
    }
}

/// Counts what an encoder writes.
#[derive(Default)]
struct Counter {
    bytes: u64,
    writes: u64,
}

impl Write for Counter {
    fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
        self.bytes += buf.len() as u64;
        self.writes += 1;
        Ok(buf.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn measure(name: &str, batches: &[RecordBatch]) {
    let schema = schema_of(batches);
    let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
    let raw: usize = batches.iter().map(RecordBatch::get_array_memory_size).sum();
    let mut options = ParquetOptions::default();
    if let Some(mb) = std::env::var("RIVET_BENCH_ROW_GROUP_MB").ok().and_then(|mb| mb.parse::<usize>().ok()) {
        options.row_group_bytes = mb * 1024 * 1024;
    }
    let before = resident_mb();
    let rounds = 3;
    let mut best = f64::MAX;
    let mut line = String::new();
    for _ in 0..rounds {
        let (cpu, mut held) = (cpu_seconds(), 0);
        let mut encoder = PartEncoder::new(Counter::default(), &schema, &options, vec![]).expect("an encoder");
        for batch in batches {
            encoder.write(batch).expect("batches encode");
            held = held.max(encoder.memory_bytes());
        }
        let (sink, part) = encoder.finish().expect("the part is finished");
        let took = cpu_seconds() - cpu;
        if took < best {
            best = took;
            line = format!(
                "{:7.1} ns/row {:7.1} MB/s raw {:7.2} bytes/row {:4} row groups {:5.1} MB held {:6} KB/write",
                took * 1e9 / rows as f64,
                raw as f64 / 1e6 / took,
                sink.bytes as f64 / rows as f64,
                part.row_groups,
                held as f64 / 1e6,
                sink.bytes / 1024 / sink.writes.max(1),
            );
        }
    }
    println!("{name:<16} {rows:>8} rows  {line} {:4.0} MB resident", peak_mb() - before);
    let begun = cpu_seconds();
    let mut sums = ColumnSums::new(schema.columns.len());
    batches.iter().for_each(|batch| sums.add(batch).expect("checksums of every type"));
    let took = cpu_seconds() - begun;
    let share = 100.0 * took / best;
    println!(
        "{:<16} {rows:>8} rows  {:7.1} ns/row, {share:.1} % of the above",
        "  its checksums",
        took * 1e9 / rows as f64
    );
}

fn cpu_seconds() -> f64 {
    let ticks = std::fs::read_to_string("/proc/self/schedstat").expect("Linux");
    ticks.split(' ').next().and_then(|ns| ns.parse::<f64>().ok()).expect("nanoseconds") / 1e9
}

fn status_mb(key: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with(key)).expect("the key");
    line.split_whitespace().nth(1).and_then(|kb| kb.parse::<f64>().ok()).expect("kilobytes") / 1024.0
}

fn resident_mb() -> f64 {
    // Begins a new peak: https://www.kernel.org/doc/html/latest/filesystems/proc.html
    std::fs::write("/proc/self/clear_refs", "5").expect("the own peak may be reset");
    status_mb("VmRSS:")
}

fn peak_mb() -> f64 {
    status_mb("VmHWM:")
}

fn read(path: &str) -> Vec<RecordBatch> {
    let open = |rows| {
        let file = std::fs::File::open(path).expect("the file to take rows from");
        ParquetRecordBatchReaderBuilder::try_new(file).expect("a Parquet file").with_batch_size(rows).build().unwrap()
    };
    let first = open(1000).next().expect("rows").expect("rows");
    let row_bytes = first.get_array_memory_size() / first.num_rows();
    open((BATCH_BYTES / row_bytes).max(1)).map(|batch| batch.expect("rows")).collect()
}

fn schema_of(batches: &[RecordBatch]) -> Schema {
    let fields = batches[0].schema();
    let columns = fields.fields().iter().enumerate().map(|(i, field)| Column {
        name: field.name().clone(),
        column_type: column_type(field.data_type()),
        nullable: batches.iter().any(|batch| batch.column(i).null_count() > 0),
        source_type: "bench".into(),
    });
    Schema { columns: columns.collect() }
}

fn column_type(data_type: &DataType) -> ColumnType {
    match data_type {
        DataType::Boolean => ColumnType::Bool,
        DataType::Int32 => ColumnType::Int32,
        DataType::Int64 => ColumnType::Int64,
        DataType::Date32 => ColumnType::Date,
        DataType::Timestamp(TimeUnit::Microsecond, None) => ColumnType::Timestamp,
        DataType::Timestamp(TimeUnit::Microsecond, Some(_)) => ColumnType::TimestampUtc,
        DataType::Utf8 => ColumnType::Text,
        DataType::Binary => ColumnType::Binary,
        DataType::FixedSizeBinary(16) => ColumnType::Uuid,
        DataType::Decimal128(precision, scale) => ColumnType::Decimal { precision: *precision, scale: *scale as u8 },
        DataType::List(element) => ColumnType::List(Box::new(column_type(element.data_type()))),
        other => panic!("the bench has no rows of type {other}"),
    }
}

fn batches(rows: usize, batch_rows: usize, mut columns: impl FnMut(usize, usize) -> Vec<ArrayRef>) -> Vec<RecordBatch> {
    let starts = (0..rows).step_by(batch_rows);
    starts.map(|start| batch(columns(start, batch_rows.min(rows - start)))).collect()
}

fn batch(columns: Vec<ArrayRef>) -> RecordBatch {
    let fields = columns.iter().enumerate();
    let fields = fields.map(|(i, c)| arrow::datatypes::Field::new(format!("c{i}"), c.data_type().clone(), true));
    RecordBatch::try_new(Arc::new(ArrowSchema::new(fields.collect::<Vec<_>>())), columns).expect("equal lengths")
}

fn decimals(values: impl Iterator<Item = i64>) -> ArrayRef {
    let array = PrimitiveArray::<Decimal128Type>::from_iter_values(values.map(i128::from));
    Arc::new(array.with_precision_and_scale(15, 2).expect("15 digits"))
}

fn words(random: &mut fastrand::Rng, bytes: usize) -> String {
    const WORDS: [&str; 24] = [
        "furiously",
        "deposits",
        "the",
        "requests",
        "special",
        "above",
        "ironic",
        "packages",
        "carefully",
        "even",
        "foxes",
        "final",
        "accounts",
        "sleep",
        "blithely",
        "pending",
        "theodolites",
        "across",
        "regular",
        "instructions",
        "quickly",
        "asymptotes",
        "express",
        "nag",
    ];
    let mut text = String::with_capacity(bytes + 12);
    while text.len() < bytes {
        text.push_str(WORDS[random.usize(..WORDS.len())]);
        text.push(' ');
    }
    text.truncate(bytes);
    text
}

fn lineitem(rows: usize) -> Vec<RecordBatch> {
    let mut r = fastrand::Rng::with_seed(1);
    batches(rows, 8_192, |start, n| {
        let mut pick = |from: &[&str]| -> ArrayRef {
            Arc::new(StringArray::from_iter_values((0..n).map(|_| from[r.usize(..from.len())])))
        };
        let flag = pick(&["A", "N", "R"]);
        let status = pick(&["F", "O"]);
        let instruct = pick(&["DELIVER IN PERSON", "COLLECT COD", "NONE", "TAKE BACK RETURN"]);
        let mode = pick(&["AIR", "RAIL", "SHIP", "TRUCK", "MAIL", "FOB", "REG AIR"]);
        let mut ints = |range: std::ops::Range<i32>| -> ArrayRef {
            Arc::new(Int32Array::from_iter_values((0..n).map(|_| r.i32(range.clone()))))
        };
        let (part, supplier, line) = (ints(1..200_000), ints(1..10_000), ints(1..8));
        let mut dates = || -> ArrayRef { Arc::new(Date32Array::from_iter_values((0..n).map(|_| r.i32(8036..10_562)))) };
        let (ship, commit, receipt) = (dates(), dates(), dates());
        let mut money =
            |scale: i64, range: std::ops::Range<i64>| decimals((0..n).map(|_| r.i64(range.clone()) * scale));
        let (quantity, price) = (money(100, 1..51), money(1, 90_000..10_500_000));
        let (discount, tax) = (money(1, 0..11), money(1, 0..9));
        let orders: ArrayRef = Arc::new(Int64Array::from_iter_values((start..start + n).map(|i| i as i64 / 4 + 1)));
        let comments: ArrayRef = Arc::new(StringArray::from_iter_values((0..n).map(|_| {
            let bytes = r.usize(10..44);
            words(&mut r, bytes)
        })));
        vec![
            orders, part, supplier, line, quantity, price, discount, tax, flag, status, ship, commit, receipt,
            instruct, mode, comments,
        ]
    })
}

fn wide(rows: usize) -> Vec<RecordBatch> {
    let mut r = fastrand::Rng::with_seed(2);
    batches(rows, 1_000, |start, n| {
        let ids: ArrayRef = Arc::new(Int64Array::from_iter_values((start..start + n).map(|i| i as i64)));
        let uuids = (0..n).map(|_| r.u128(..).to_be_bytes());
        let uuids: ArrayRef = Arc::new(FixedSizeBinaryArray::try_from_iter(uuids).expect("16 bytes each"));
        let mut texts = |bytes: usize| -> ArrayRef {
            Arc::new(StringArray::from_iter_values((0..n).map(|_| words(&mut r, bytes))))
        };
        let (title, body, json) = (texts(60), texts(1_400), texts(300));
        let price = decimals((0..n).map(|_| r.i64(0..100_000)));
        vec![ids, uuids, title, body, json, price]
    })
}

fn narrow(rows: usize) -> Vec<RecordBatch> {
    let mut r = fastrand::Rng::with_seed(3);
    batches(rows, 80_000, |start, n| {
        let range = start as i64..(start + n) as i64;
        let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(range.clone()));
        let accounts: ArrayRef = Arc::new(Int64Array::from_iter_values((0..n).map(|_| r.i64(1..1_000_000))));
        let times = range.map(|i| 1_600_000_000_000_000 + i * 1_000_000 + r.i64(0..900_000));
        let times: ArrayRef = Arc::new(TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC"));
        vec![ids, accounts, times]
    })
}

fn many_columns(rows: usize) -> Vec<RecordBatch> {
    let mut r = fastrand::Rng::with_seed(4);
    batches(rows, 600, |start, n| {
        let column = |c: usize| -> ArrayRef {
            match c % 4 {
                0 => Arc::new(Int64Array::from_iter_values((start..start + n).map(|i| (i * c) as i64))),
                1 => Arc::new(Int32Array::from_iter_values((0..n).map(|_| r.i32(0..50)))),
                2 => Arc::new(Int64Array::from_iter_values((0..n).map(|_| r.i64(..)))),
                _ => Arc::new(StringArray::from_iter_values((0..n).map(|_| words(&mut r, 12)))),
            }
        };
        (0..400).map(column).collect()
    })
}

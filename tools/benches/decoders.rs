//! What it costs to decode one value of each type, beside what rust-postgres takes for the same bytes.
//!
//! `cargo bench --profile perf --bench decoders`, or with a part of a decoder's name behind `--`.
//!
//! Both read the same CopyData messages, of rows with eight columns of one type, as a server sends them. Rivet makes Arrow
//! batches of a quarter of a MiB, as its workers do. On the other side stands `FromSql` of postgres-types, with the crates
//! that its users take, into one vector a column with room for all values: once alone, and once as a row of a COPY calls it.
//! Freeing what it made is left out. `None` is possible on both sides.

use bytes::Bytes;
use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, Utc};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use postgres_types::{FromSql, Json, Kind, Type};
use rivet::run::schema::{ColumnType as C, StructField};
use rivet::source::postgres::types::{Mapping, Select, Wire};
use rivet::source::postgres::{DecodeColumn, Decoder};
use rust_decimal::Decimal;
use serde_json::value::RawValue;
use std::collections::HashMap;
use std::hint::black_box;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

const COLUMNS: usize = 8;

/// Of a stream, about: more than the nearest caches hold, and less than the last one.
const STREAM_BYTES: usize = 1 << 20;

const BATCH_BYTES: usize = 256 * 1024;
const CHUNK_BYTES: usize = 256 * 1024;

type Random = fastrand::Rng;
/// Writes a value, without its length.
type Make = fn(&mut Random, &mut Vec<u8>);

/// CopyData messages of a whole stream, and how many values are in it.
struct Copy {
    messages: Vec<u8>,
    values: u64,
}

fn copy_of(make: Make, nulls: bool) -> Copy {
    let mut random = Random::with_seed(1);
    let mut messages = Vec::new();
    message(&mut messages, b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0");
    let (mut values, mut row, mut value) = (0, Vec::new(), Vec::new());
    while messages.len() < STREAM_BYTES {
        row.clear();
        row.extend((COLUMNS as i16).to_be_bytes());
        for _ in 0..COLUMNS {
            value.clear();
            if nulls && random.u8(..) < 26 {
                row.extend((-1_i32).to_be_bytes());
            } else {
                make(&mut random, &mut value);
                field(&mut row, &value);
            }
            values += 1;
        }
        message(&mut messages, &row);
    }
    message(&mut messages, &(-1_i16).to_be_bytes());
    Copy { messages, values }
}

fn message(out: &mut Vec<u8>, payload: &[u8]) {
    out.push(b'd');
    out.extend((payload.len() as u32 + 4).to_be_bytes());
    out.extend(payload);
}

fn field(out: &mut Vec<u8>, value: &[u8]) {
    out.extend((value.len() as i32).to_be_bytes());
    out.extend(value);
}

fn rivet(copy: &Copy, columns: &[DecodeColumn]) -> u64 {
    let mut decoder = Decoder::new(columns, 1 << 30).expect("a decoder");
    for chunk in copy.messages.chunks(CHUNK_BYTES) {
        decoder.push_messages(chunk).expect("rows");
        if decoder.buffered_bytes() >= BATCH_BYTES {
            black_box(decoder.take_batch().expect("a batch"));
        }
    }
    black_box(decoder.take_batch().expect("a batch"));
    assert!(decoder.ended());
    decoder.total_rows()
}

/// Where the values of a row lie in its message, `None` for NULL.
type Ranges = Vec<Option<Range<usize>>>;

fn int(bytes: &[u8]) -> i32 {
    i32::from_be_bytes(*bytes.first_chunk().expect("four bytes"))
}

/// `FromSql` and nothing else: the fields are found by hand, in the least possible way.
fn from_sql<T: for<'a> FromSql<'a>>(copy: &Copy, kind: &Type) -> [Vec<Option<T>>; COLUMNS] {
    let rows = copy.values as usize / COLUMNS;
    let mut columns: [Vec<Option<T>>; COLUMNS] = std::array::from_fn(|_| Vec::with_capacity(rows));
    // Behind the message with the header.
    let mut rest = &copy.messages[5 + 19..];
    for _ in 0..rows {
        rest = &rest[7..];
        for column in &mut columns {
            let length = int(rest);
            rest = &rest[4..];
            let value = usize::try_from(length).ok().map(|length| rest.split_at(length));
            rest = value.map_or(rest, |(_, behind)| behind);
            let value = value.map(|(value, _)| value);
            column.push(Option::<T>::from_sql_nullable(kind, value).expect("a value"));
        }
    }
    columns
}

/// Row by row, as rust-postgres gives a COPY to its users: `BinaryCopyOutStream` splits each message's bytes into the ranges
/// of its fields, and `BinaryCopyOutRow::get` checks the type and calls `FromSql`. What the driver needs to come by the
/// messages is left out.
fn row_get<T: for<'a> FromSql<'a>>(copy: &Bytes, values: u64, kind: &Type) -> [Vec<Option<T>>; COLUMNS] {
    let rows = values as usize / COLUMNS;
    let mut columns: [Vec<Option<T>>; COLUMNS] = std::array::from_fn(|_| Vec::with_capacity(rows));
    let types = Arc::new(vec![kind.clone(); COLUMNS]);
    let mut position = 5 + 19;
    for _ in 0..rows {
        let end = position + 1 + int(&copy[position + 1..]) as usize;
        let message = copy.slice(position + 5..end);
        position = end;
        let (row, types) = (split(&message), Arc::clone(&types));
        for (i, column) in columns.iter_mut().enumerate() {
            assert!(T::accepts(&types[i]));
            let value = row[i].clone().map(|range| &message[range]);
            column.push(Option::<T>::from_sql_nullable(&types[i], value).expect("a value"));
        }
    }
    columns
}

fn split(message: &Bytes) -> Ranges {
    let mut ranges = Vec::with_capacity(COLUMNS);
    let mut at = 2;
    for _ in 0..COLUMNS {
        let length = int(&message[at..]);
        at += 4;
        ranges.push(usize::try_from(length).ok().map(|length| at..at + length));
        at += length.max(0) as usize;
    }
    ranges
}

struct Bench<'a> {
    criterion: &'a mut Criterion,
}

impl Bench<'_> {
    /// Rivet alone, where rust-postgres has no such type.
    fn alone(&mut self, name: &str, (wire, column_type): (Wire, C), make: Make) {
        self.run(name, (wire, column_type), make, false, |_, _| {});
    }

    fn both<T: for<'a> FromSql<'a>>(&mut self, name: &str, kind: &Type, mapped: (Wire, C), make: Make) {
        self.against::<T>(name, kind, mapped, make, false);
    }

    fn against<T: for<'a> FromSql<'a>>(&mut self, name: &str, kind: &Type, mapped: (Wire, C), make: Make, nulls: bool) {
        assert!(T::accepts(kind), "{name}");
        self.run(name, mapped, make, nulls, |group, copy| {
            group.bench_function("FromSql", |b| {
                b.iter_batched(|| (), |()| from_sql::<T>(copy, kind), BatchSize::PerIteration);
            });
            let messages = Bytes::copy_from_slice(&copy.messages);
            group.bench_function("rust-postgres", |b| {
                b.iter_batched(|| (), |()| row_get::<T>(&messages, copy.values, kind), BatchSize::PerIteration);
            });
        });
    }

    fn run(
        &mut self,
        name: &str,
        (wire, column_type): (Wire, C),
        make: Make,
        nulls: bool,
        other: impl FnOnce(&mut criterion::BenchmarkGroup<'_, criterion::measurement::WallTime>, &Copy),
    ) {
        let copy = copy_of(make, nulls);
        let mapping = Mapping { wire, column_type, select: Select::Plain };
        let columns = (0..COLUMNS).map(|i| DecodeColumn::new(format!("c{i}"), true, mapping.clone()));
        let columns: Vec<_> = columns.collect();
        let mut group = self.criterion.benchmark_group(name);
        group.throughput(Throughput::Elements(copy.values));
        group.bench_function("rivet", |b| b.iter_batched(|| (), |()| rivet(&copy, &columns), BatchSize::PerIteration));
        other(&mut group, &copy);
        group.finish();
    }
}

/// A numeric of so many decimal digits with two behind the point.
fn numeric(random: &mut Random, digits: usize, out: &mut Vec<u8>) {
    // In base 10000: the last one has the two digits behind the point.
    let whole = (digits - 2).div_ceil(4);
    let leading = 10_u16.pow(((digits - 2 - 1) % 4) as u32);
    out.extend((whole as u16 + 1).to_be_bytes());
    out.extend((whole as i16 - 1).to_be_bytes());
    out.extend(if random.bool() { 0x4000_u16 } else { 0 }.to_be_bytes());
    out.extend(2_u16.to_be_bytes());
    out.extend(random.u16(leading..(10 * leading).min(10_000)).to_be_bytes());
    (1..whole).for_each(|_| out.extend(random.u16(..10_000).to_be_bytes()));
    out.extend((random.u16(1..100) * 100).to_be_bytes());
}

/// As many letters and spaces as `length`.
fn text(random: &mut Random, length: usize, out: &mut Vec<u8>) {
    out.extend((0..length).map(|i| if i % 7 == 6 { b' ' } else { random.u8(b'a'..=b'z') }));
}

fn array(kind: &Type, sizes: &[i32], out: &mut Vec<u8>, mut element: impl FnMut(&mut Vec<u8>)) {
    out.extend((sizes.len() as i32).to_be_bytes());
    out.extend(0_i32.to_be_bytes());
    out.extend(kind.oid().to_be_bytes());
    for size in sizes {
        out.extend(size.to_be_bytes());
        out.extend(1_i32.to_be_bytes());
    }
    let mut value = Vec::new();
    for _ in 0..sizes.iter().product::<i32>() {
        value.clear();
        element(&mut value);
        field(out, &value);
    }
}

fn int4(random: &mut Random, out: &mut Vec<u8>) {
    out.extend(random.i32(..).to_be_bytes());
}

/// 1995 to 2005, in days since 2000.
fn date(random: &mut Random, out: &mut Vec<u8>) {
    out.extend(random.i32(-1_826..1_826).to_be_bytes());
}

fn timestamp(random: &mut Random, out: &mut Vec<u8>) {
    out.extend(random.i64(-150_000_000_000_000..800_000_000_000_000).to_be_bytes());
}

fn range(random: &mut Random, out: &mut Vec<u8>) {
    out.push(0x02);
    for _ in 0..2 {
        out.extend(4_i32.to_be_bytes());
        date(random, out);
    }
}

/// What a composite is read into on the other side.
#[derive(Debug, FromSql)]
#[allow(dead_code)]
struct Pair {
    id: i32,
    name: String,
}

fn list(of: C) -> C {
    C::List(Box::new(of))
}

fn array_of(element: Wire, dimensions: u8) -> Wire {
    Wire::Array { element: Box::new(element), dimensions }
}

fn scalars(criterion: &mut Criterion) {
    let mut bench = Bench { criterion };
    let decimal = |precision| (Wire::Numeric, C::Decimal { precision, scale: 2 });
    bench.both::<bool>("bool", &Type::BOOL, (Wire::Bool, C::Bool), |r, out| out.push(r.u8(..2)));
    bench.both::<i16>("int2", &Type::INT2, (Wire::Int2, C::Int16), |r, out| out.extend(r.i16(..).to_be_bytes()));
    bench.both::<i32>("int4", &Type::INT4, (Wire::Int4, C::Int32), int4);
    let int8: Make = |r, out| out.extend(r.i64(..).to_be_bytes());
    bench.both::<i64>("int8", &Type::INT8, (Wire::Int8, C::Int64), int8);
    bench.against::<i64>("int8, a tenth NULL", &Type::INT8, (Wire::Int8, C::Int64), int8, true);
    bench.both::<u32>("oid", &Type::OID, (Wire::Oid, C::UInt32), |r, out| out.extend(r.u32(..).to_be_bytes()));
    let float4: Make = |r, out| out.extend(r.f32().to_be_bytes());
    bench.both::<f32>("float4", &Type::FLOAT4, (Wire::Float4, C::Float32), float4);
    let float8: Make = |r, out| out.extend(r.f64().to_be_bytes());
    bench.both::<f64>("float8", &Type::FLOAT8, (Wire::Float8, C::Float64), float8);
    bench.both::<Decimal>("numeric, 8 digits", &Type::NUMERIC, decimal(15), |r, out| numeric(r, 8, out));
    bench.both::<Decimal>("numeric, 26 digits", &Type::NUMERIC, decimal(38), |r, out| numeric(r, 26, out));
    bench.alone("numeric, 38 digits", decimal(38), |r, out| numeric(r, 38, out));
    bench.alone("numeric, 60 digits", decimal(76), |r, out| numeric(r, 60, out));
    bench.alone("numeric as text, 8 digits", (Wire::NumericText, C::Text), |r, out| numeric(r, 8, out));
    bench.alone("numeric as text, 60 digits", (Wire::NumericText, C::Text), |r, out| numeric(r, 60, out));
    bench.both::<NaiveDate>("date", &Type::DATE, (Wire::Date, C::Date), date);
    let time: Make = |r, out| out.extend(r.i64(0..86_400_000_000).to_be_bytes());
    bench.both::<NaiveTime>("time", &Type::TIME, (Wire::Time, C::Time), time);
    let stamp = (Wire::Timestamp, C::Timestamp);
    bench.both::<NaiveDateTime>("timestamp", &Type::TIMESTAMP, stamp, timestamp);
    let zoned = (Wire::Timestamptz, C::TimestampUtc);
    bench.both::<DateTime<Utc>>("timestamptz", &Type::TIMESTAMPTZ, zoned, timestamp);
    let uuid: Make = |r, out| out.extend(r.u128(..).to_be_bytes());
    bench.both::<Uuid>("uuid", &Type::UUID, (Wire::Uuid, C::Uuid), uuid);
    let interval: Make = |r, out| {
        out.extend(r.i64(0..86_400_000_000).to_be_bytes());
        out.extend(r.i32(0..31).to_be_bytes());
        out.extend(r.i32(0..12).to_be_bytes());
    };
    bench.alone("interval", (Wire::Interval, C::Interval), interval);
}

fn texts(criterion: &mut Criterion) {
    let mut bench = Bench { criterion };
    let plain = || (Wire::Text, C::Text);
    bench.both::<String>("text, 12 bytes", &Type::TEXT, plain(), |r, out| text(r, 12, out));
    bench.both::<String>("text, 10 to 43 bytes", &Type::TEXT, plain(), |r, out| {
        let length = r.usize(10..44);
        text(r, length, out);
    });
    bench.both::<String>("text, 1000 bytes", &Type::TEXT, plain(), |r, out| text(r, 1000, out));
    bench.both::<Json<Box<RawValue>>>("jsonb, 60 bytes", &Type::JSONB, (Wire::Jsonb, C::Json), |r, out| {
        out.extend(b"\x01{\"a\": 1, \"note\": \"");
        text(r, 38, out);
        out.extend(b"\"}");
    });
    bench.both::<Vec<u8>>("bytea, 32 bytes", &Type::BYTEA, (Wire::Bytea, C::Binary), |r, out| {
        out.extend((0..32).map(|_| r.u8(..)));
    });
}

fn nested(criterion: &mut Criterion) {
    let mut bench = Bench { criterion };
    let ints = (array_of(Wire::Int4, 1), list(C::Int32));
    bench.both::<Vec<Option<i32>>>("int4[], 10 elements", &Type::INT4_ARRAY, ints, |r, out| {
        array(&Type::INT4, &[10], out, |out| int4(r, out));
    });
    let words = (array_of(Wire::Text, 1), list(C::Text));
    bench.both::<Vec<Option<String>>>("text[], 5 of 12 bytes", &Type::TEXT_ARRAY, words, |r, out| {
        array(&Type::TEXT, &[5], out, |out| text(r, 12, out));
    });
    bench.alone("int4[][], 4 by 5", (array_of(Wire::Int4, 2), list(list(C::Int32))), |r, out| {
        array(&Type::INT4, &[4, 5], out, |out| int4(r, out));
    });
    let parts = [("id", Type::INT4), ("name", Type::TEXT)];
    let fields = parts.map(|(name, kind)| postgres_types::Field::new(name.to_owned(), kind));
    let pair = Type::new("Pair".to_owned(), 16_400, Kind::Composite(fields.to_vec()), "public".to_owned());
    let field = |name: &str, column_type| StructField { name: name.to_owned(), column_type };
    let composite = C::Struct(vec![field("id", C::Int32), field("name", C::Text)]);
    let record = Wire::Record(vec![Wire::Int4, Wire::Text]);
    bench.both::<Pair>("composite (int4, text)", &pair, (record, composite), |r, out| {
        out.extend(2_i32.to_be_bytes());
        out.extend(Type::INT4.oid().to_be_bytes());
        out.extend(4_i32.to_be_bytes());
        int4(r, out);
        out.extend(Type::TEXT.oid().to_be_bytes());
        out.extend(12_i32.to_be_bytes());
        text(r, 12, out);
    });
    let dates = || (Wire::Range(Box::new(Wire::Date)), C::Range(Box::new(C::Date)));
    bench.alone("daterange", dates(), range);
    let several = (Wire::Multirange(Box::new(dates().0)), list(dates().1));
    bench.alone("datemultirange, 3 ranges", several, |r, out| {
        out.extend(3_i32.to_be_bytes());
        for _ in 0..3 {
            out.extend(17_i32.to_be_bytes());
            range(r, out);
        }
    });
    let hstore = Type::new("hstore".to_owned(), 16_401, Kind::Simple, "public".to_owned());
    let map = (Wire::Hstore, C::Map);
    bench.both::<HashMap<String, Option<String>>>("hstore, 3 pairs", &hstore, map, |r, out| {
        out.extend(3_i32.to_be_bytes());
        for i in 0..6 {
            out.extend(8_i32.to_be_bytes());
            out.push(b'0' + i);
            text(r, 7, out);
        }
    });
    bench.alone("vector(256)", (Wire::Vector, list(C::Float32)), |r, out| {
        out.extend(256_u16.to_be_bytes());
        out.extend(0_u16.to_be_bytes());
        (0..256).for_each(|_| out.extend(r.f32().to_be_bytes()));
    });
}

fn configured() -> Criterion {
    let (warm_up, measured) = (Duration::from_millis(300), Duration::from_millis(1500));
    Criterion::default().warm_up_time(warm_up).measurement_time(measured).sample_size(100)
}

criterion_group! { name = decoders; config = configured(); targets = scalars, texts, nested }
criterion_main!(decoders);

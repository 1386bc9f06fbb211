//! Bytes from anywhere, against everything that parses bytes: nothing may panic, and what is accepted must be in order.
//!
//! The fuzz targets and the test that replays their corpora call the same functions.
#![allow(dead_code)]

use arrow::array::Array;
use rivet::ErrorKind;
use rivet::config::{self, LoadOptions};
use rivet::journal::{envelope, wire};
use rivet::manifest::{pointer, read};
use rivet::run::event::{Event, Recorded};
use rivet::run::ids::{ChainHash, EventSeq, RunOrdinal};
use rivet::run::schema::{ColumnType, StructField};
use rivet::run::{RunState, RunSummary, next};
use rivet::source::postgres::decode::SpecialPolicy;
use rivet::source::postgres::types::{Mapping, Select, Wire};
use rivet::source::postgres::{DecodeColumn, Decoder};
use std::path::Path;
use std::sync::LazyLock;

/// Of payloads. Those that there are not yet are refused.
const VERSIONS: std::ops::RangeInclusive<u16> = 1..=3;

/// A value of the journal's log: envelope, then payload. What can be decoded must encode to the same event again.
pub fn envelope(bytes: &[u8]) {
    if let Ok(opened) = envelope::open(bytes)
        && let Ok(event) = wire::decode(opened.header.kind, opened.header.version, opened.payload)
    {
        assert_survives(&event);
    }
}

/// A payload without the checksum in the way: its kind, then its bytes.
pub fn payload(bytes: &[u8]) {
    let Some((kind, payload)) = bytes.split_first() else { return };
    for version in VERSIONS {
        if let Ok(event) = wire::decode(u16::from(*kind), version, payload) {
            assert_survives(&event);
        }
    }
}

fn assert_survives(event: &Event) {
    let again = wire::encode(event).unwrap_or_else(|_| panic!("{event:?} was read and does not fit any more"));
    let decoded = wire::decode(again.kind, again.version, &again.bytes);
    assert!(decoded.is_ok_and(|decoded| decoded == *event), "{event:?} changes when it is written again");
}

/// A run's events in any order and with any values, folded. A frame is the kind, the payload's length in two bytes, the
/// monotonic clock in eight, and the payload; what is no event is left out.
pub fn fold(mut bytes: &[u8]) {
    let (mut state, mut summary, mut seq) = (RunState::default(), RunSummary::default(), EventSeq(0));
    while let Some(([kind, a, b, clock @ ..], rest)) = bytes.split_first_chunk::<11>() {
        let length = usize::from(u16::from_le_bytes([*a, *b])).min(rest.len());
        let (payload, behind) = rest.split_at(length);
        bytes = behind;
        let Some(event) =
            VERSIONS.into_iter().find_map(|version| wire::decode(u16::from(*kind), version, payload).ok())
        else {
            continue;
        };
        seq = seq.next();
        let mono_us = u64::from_le_bytes(*clock);
        let wall_ms = mono_us.cast_signed();
        let hash = ChainHash::GENESIS;
        let recorded = Recorded { run: RunOrdinal(1), seq, wall_ms, mono_us, hash, event };
        let before = state.clone();
        if state.apply(&recorded).is_err() {
            assert_eq!(state, before, "a refused {} changed the state", recorded.event.name());
        }
        let _ = next(&state);
        summary.apply(&recorded);
    }
    let _ = summary.check_post_run_invariants();
    serde_json::to_value(&summary).expect("a summary can be written as JSON");
}

/// `rivet.yaml`, in an environment in which every variable is set.
pub fn config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let path = Path::new("/nowhere/rivet.yaml");
    let env = |name: &str| Some(format!("value of {name}"));
    match config::read(path, text, &LoadOptions::default(), &env) {
        Ok(config) => assert!(!config.exports.is_empty(), "a configuration without an export was accepted"),
        Err(error) => assert!(error.what().contains("rivet.yaml"), "{error} does not say where"),
    }
}

/// A COPY stream, in two cuts. Memory stays in proportion to the input.
pub fn copy_stream(bytes: &[u8]) {
    let column = |name: &str, wire: Wire, column_type: ColumnType| {
        DecodeColumn::new(name, true, Mapping { wire, column_type, select: Select::Plain })
    };
    let columns = [
        column("id", Wire::Int8, ColumnType::Int64),
        column("note", Wire::Text, ColumnType::Text),
        column("amount", Wire::Numeric, ColumnType::Decimal { precision: 12, scale: 2 }),
        column("at", Wire::Timestamptz, ColumnType::TimestampUtc),
        column("data", Wire::Jsonb, ColumnType::Json),
        column(
            "tags",
            Wire::Array { element: Box::new(Wire::Text), dimensions: 1 },
            ColumnType::List(Box::new(ColumnType::Text)),
        ),
    ];
    let Ok(mut decoder) = Decoder::new(&columns, 1 << 20) else { return };
    let cut = bytes.first().map_or(0, |byte| usize::from(*byte)).min(bytes.len());
    for piece in [&bytes[..cut], &bytes[cut..]] {
        if decoder.push(piece).is_err() {
            return;
        }
    }
    if decoder.rows() > 0
        && let Ok(batch) = decoder.take_batch()
    {
        assert_eq!(batch.num_columns(), columns.len());
    }
}

/// A kind of column whose values are taken apart: how it is spelled, its wire form, and what it becomes.
pub type Kind = (&'static str, Wire, ColumnType);

/// The kinds of column that each target of values chooses among, for every decoder of values that are made of others or
/// longer than their bytes. Corpora name a kind by its place: additions go to the end.
pub static KINDS: LazyLock<Vec<(&str, Vec<Kind>)>> = LazyLock::new(|| {
    use ColumnType as C;
    let array = |element: Wire, dimensions| Wire::Array { element: Box::new(element), dimensions };
    let list = |of: C| C::List(Box::new(of));
    let field = |name: &str, column_type| StructField { name: name.to_owned(), column_type };
    let composite = |wires: Vec<Wire>, types: Vec<C>| {
        let fields = types.into_iter().enumerate().map(|(i, column_type)| field(&format!("f{i}"), column_type));
        (Wire::Record(wires), C::Struct(fields.collect()))
    };
    let range = |of: Wire, to: C| (Wire::Range(Box::new(of)), C::Range(Box::new(to)));
    let several = |of: &Wire| Wire::Multirange(Box::new(of.clone()));
    let decimal = |precision, scale| C::Decimal { precision, scale };
    let (dates, dates_type) = range(Wire::Date, C::Date);
    let (numbers, numbers_type) = range(Wire::NumericText, C::Text);
    let (wide, wide_type) = range(Wire::Numeric, decimal(60, 10));
    let (moments, moments_type) = range(Wire::Timestamptz, C::TimestampUtc);
    let (pair, pair_type) = composite(vec![Wire::Int4, Wire::Text], vec![C::Int32, C::Text]);
    let (nest, nest_type) = composite(
        vec![Wire::Bool, array(pair.clone(), 1), several(&dates), Wire::Jsonb],
        vec![C::Bool, list(pair_type.clone()), list(dates_type.clone()), C::Json],
    );
    let (mixed, mixed_type) = composite(
        vec![Wire::Interval, Wire::Hstore, Wire::Vector, Wire::NumericText, wide.clone(), pair.clone(), Wire::Uuid],
        vec![C::Interval, C::Map, list(C::Float32), C::Text, wide_type.clone(), pair_type.clone(), C::Uuid],
    );
    let (many, many_type) = composite(vec![Wire::Numeric; 200], vec![decimal(60, 10); 200]);
    vec![
        (
            "array",
            vec![
                ("int[]", array(Wire::Int4, 1), list(C::Int32)),
                ("text[][]", array(Wire::Text, 2), list(list(C::Text))),
                ("numeric(60,10)[][][]", array(Wire::Numeric, 3), list(list(list(decimal(60, 10))))),
                ("numeric[]", array(Wire::NumericText, 1), list(C::Text)),
                ("array of composites of many fields", array(many, 1), list(many_type)),
                ("hstore[]", array(Wire::Hstore, 1), list(C::Map)),
                ("vector[]", array(Wire::Vector, 1), list(list(C::Float32))),
                ("datemultirange[]", array(several(&dates), 1), list(list(dates_type.clone()))),
            ],
        ),
        (
            "record",
            vec![
                ("composite", pair, pair_type),
                ("composite of arrays of composites", nest, nest_type),
                ("composite of everything else", mixed, mixed_type),
            ],
        ),
        (
            "range",
            vec![
                ("daterange", dates.clone(), dates_type.clone()),
                ("numrange", numbers.clone(), numbers_type.clone()),
                ("datemultirange", several(&dates), list(dates_type)),
                ("nummultirange", several(&numbers), list(numbers_type)),
                ("range of numeric(60,10)", wide, wide_type),
                ("tstzrange", moments, moments_type),
            ],
        ),
        ("hstore", vec![("hstore", Wire::Hstore, C::Map)]),
        ("vector", vec![("vector", Wire::Vector, list(C::Float32)), ("halfvec", Wire::HalfVector, list(C::Float32))]),
        (
            "numeric",
            vec![
                ("numeric", Wire::NumericText, C::Text),
                ("numeric(15,2)", Wire::Numeric, decimal(15, 2)),
                ("numeric(38,10)", Wire::Numeric, decimal(38, 10)),
                ("numeric(76,20)", Wire::Numeric, decimal(76, 20)),
                ("numeric as int16", Wire::Numeric, C::Int16),
                ("numeric as int64", Wire::Numeric, C::Int64),
            ],
        ),
        ("interval", vec![("interval", Wire::Interval, C::Interval)]),
    ]
});

/// The kind that an input's first byte chooses for a target, and what becomes of special values.
pub fn chosen(target: &str, byte: u8) -> (Kind, SpecialPolicy) {
    let (_, kinds) = KINDS.iter().find(|(name, _)| *name == target).expect("a target of values");
    let policies = [SpecialPolicy::Usual, SpecialPolicy::Error, SpecialPolicy::Null, SpecialPolicy::Clamp];
    let place = usize::from(byte);
    (kinds[place % kinds.len()].clone(), policies[place / kinds.len() % policies.len()])
}

/// What one value may be, here.
pub const MOST_BYTES: usize = 1 << 20;

/// The value of a column of some kind, which the first byte chooses. It comes twice, with a NULL in between.
fn value(target: &str, bytes: &[u8]) {
    let Some((first, value)) = bytes.split_first() else { return };
    let ((name, wire, column_type), special_values) = chosen(target, *first);
    let mapping = Mapping { wire, column_type, select: Select::Plain };
    let column = DecodeColumn { special_values, ..DecodeColumn::new("v", true, mapping) };
    let mut decoder = Decoder::new(&[column], MOST_BYTES).expect("a decoder for a pair that the catalog makes");
    let stream = copy_of(&[Some(value), None, Some(value)]);
    match decoder.push(&stream).and_then(|()| decoder.take_batch()) {
        Ok(batch) => {
            assert_eq!(batch.num_rows(), 3, "{name}");
            let array = batch.column(0);
            array.to_data().validate_full().unwrap_or_else(|e| panic!("{name}: an array that is none: {e}"));
            assert_eq!(array.slice(0, 1).to_data(), array.slice(2, 1).to_data(), "{name}: the same value twice");
            assert!(array.get_array_memory_size() < 4 * MOST_BYTES, "{name}: {}", array.get_array_memory_size());
        }
        Err(error) => {
            let place = error.what().contains("at byte ") || error.what().contains("\"v\"");
            let kind = matches!(error.kind(), ErrorKind::SourceProtocol | ErrorKind::SourceValue);
            assert!(kind && place, "{name}: {error}");
            assert!(error.kind() != ErrorKind::SourceProtocol || error.what().contains("at byte "), "{name}: {error}");
        }
    }
}

pub fn array(bytes: &[u8]) {
    value("array", bytes);
}

pub fn record(bytes: &[u8]) {
    value("record", bytes);
}

/// Ranges and multiranges.
pub fn range(bytes: &[u8]) {
    value("range", bytes);
}

pub fn hstore(bytes: &[u8]) {
    value("hstore", bytes);
}

/// Those of pgvector, of floats of either width.
pub fn vector(bytes: &[u8]) {
    value("vector", bytes);
}

/// As decimals, whole numbers and text.
pub fn numeric(bytes: &[u8]) {
    value("numeric", bytes);
}

pub fn interval(bytes: &[u8]) {
    value("interval", bytes);
}

/// A COPY stream of one column.
pub fn copy_of(values: &[Option<&[u8]>]) -> Vec<u8> {
    let mut stream = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0".to_vec();
    for value in values {
        stream.extend(1_i16.to_be_bytes());
        stream.extend(value.map_or(-1, |value| value.len() as i32).to_be_bytes());
        stream.extend(value.unwrap_or_default());
    }
    stream.extend((-1_i16).to_be_bytes());
    stream
}

/// `manifest.json`, of a run or of a root.
pub fn manifest(bytes: &[u8]) {
    if let Ok(manifest) = read::parse(bytes) {
        let rows: u64 = manifest.parts.iter().filter(|part| part.status == read::COMMITTED).map(|part| part.rows).sum();
        assert_eq!(rows, manifest.row_count, "a manifest that contradicts itself was accepted");
    }
    let _ = pointer::parse(bytes);
}

/// `_SUCCESS`.
pub fn success(bytes: &[u8]) {
    if let Some(fingerprint) = read::parse_success(bytes) {
        assert!(String::from_utf8_lossy(bytes).contains(&fingerprint.to_string()));
    }
}

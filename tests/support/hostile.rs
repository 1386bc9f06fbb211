//! Bytes from anywhere, against everything that parses bytes: nothing may panic, and what is accepted must be in order.
//!
//! The fuzz targets and the test that replays their corpora call the same functions.
#![allow(dead_code)]

use rivet::config::{self, LoadOptions};
use rivet::journal::{envelope, wire};
use rivet::manifest::{pointer, read};
use rivet::run::event::{Event, Recorded};
use rivet::run::ids::{ChainHash, EventSeq, RunOrdinal};
use rivet::run::schema::ColumnType;
use rivet::run::{RunState, RunSummary, next};
use rivet::source::postgres::types::{Mapping, Select, Wire};
use rivet::source::postgres::{DecodeColumn, Decoder};
use std::path::Path;

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

//! Bytes from anywhere, against everything that parses bytes: nothing may panic, and what is accepted must be in order.
//!
//! The fuzz targets and the test that replays their corpora call the same functions.
#![allow(dead_code)]

use rivet::journal::{envelope, wire};
use rivet::manifest::{pointer, read};
use rivet::run::schema::ColumnType;
use rivet::source::postgres::types::{Mapping, Wire};
use rivet::source::postgres::{DecodeColumn, Decoder};

/// A value of the journal's log: envelope, then payload. What can be decoded must encode to the same event again.
pub fn envelope(bytes: &[u8]) {
    if let Ok(opened) = envelope::open(bytes)
        && let Ok(event) = wire::decode(opened.header.kind, opened.header.version, opened.payload)
    {
        let again = wire::encode(&event).unwrap_or_else(|_| panic!("{event:?} was read and does not fit any more"));
        let decoded = wire::decode(again.kind, again.version, &again.bytes);
        assert!(decoded.is_ok_and(|decoded| decoded == event), "{event:?} changes when it is written again");
    }
    // Payloads are reached more easily without a checksum in the way.
    if let Some((kind, payload)) = bytes.split_first() {
        let _ = wire::decode(u16::from(*kind), 1, payload);
    }
}

/// A COPY stream, in two cuts. Memory stays in proportion to the input.
pub fn copy_stream(bytes: &[u8]) {
    let column = |name: &str, wire: Wire, column_type: ColumnType| DecodeColumn {
        name: name.to_owned(),
        nullable: true,
        mapping: Mapping { wire, column_type, cast: None },
    };
    let columns = [
        column("id", Wire::Int8, ColumnType::Int64),
        column("note", Wire::Text, ColumnType::Text),
        column("amount", Wire::Numeric, ColumnType::Decimal { precision: 12, scale: 2 }),
        column("at", Wire::Timestamptz, ColumnType::TimestampUtc),
        column("data", Wire::Jsonb, ColumnType::Json),
        column("tags", Wire::Array(Box::new(Wire::Text)), ColumnType::List(Box::new(ColumnType::Text))),
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

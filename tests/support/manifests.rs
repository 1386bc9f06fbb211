//! A manifest that is in order, for tests that damage one.

use rivet::manifest::model::*;
use rivet::run::ids::{ChainHash, EventSeq, Fingerprint};
use rivet::run::schema::Schema;

pub const RUN: &str = "orders-01ARZ3NDEKTSV4RRFFQ69G5FAV";

/// Of [`RUN`], over these parts; all of them read in one snapshot.
pub fn manifest(schema: Schema, parts: Vec<ManifestPart>) -> Manifest {
    Manifest {
        manifest_version: 1,
        run_id: RUN.into(),
        export: "orders".into(),
        started_at: "2026-01-01T00:00:00Z".into(),
        finished_at: "2026-01-01T00:01:00Z".into(),
        status: "success".into(),
        source: ManifestSource {
            engine: "postgres".into(),
            location: "localhost:5432/shop".into(),
            relation: "public.orders".into(),
            schema: Some("public".into()),
            table: Some("orders".into()),
            mode: "full".into(),
            cursor: None,
        },
        destination: ManifestDestination { kind: "local".into(), uri: "file:///out".into() },
        format: "parquet".into(),
        compression: "zstd".into(),
        schema_fingerprint: schema.fingerprint(),
        schema,
        special_values: vec![],
        row_count: parts.iter().map(|part| part.rows).sum(),
        part_count: parts.len() as u64,
        consistency: Consistency {
            kind: "snapshot".into(),
            snapshots: vec![ManifestSnapshot {
                snapshot: 0,
                id: "00000003-1".into(),
                lsn: "0/1".into(),
                visible: "1:1:".into(),
            }],
        },
        journal: JournalHead { seq: EventSeq(9), hash: ChainHash::GENESIS },
        parts,
    }
}

/// A committed file of 100 bytes.
pub fn part(id: &str, path: String, rows: u64, checksums: Vec<u64>) -> ManifestPart {
    ManifestPart {
        id: id.into(),
        path,
        rows,
        size_bytes: 100,
        content_fingerprint: Fingerprint(7),
        store_checksum: None,
        column_checksums: checksums.into_iter().map(ColumnChecksum).collect(),
        key_range: None,
        snapshot: 0,
        status: "committed".into(),
    }
}

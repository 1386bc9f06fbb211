//! `manifest.json`, version 1. Additions are compatible; a removal or a change of type raises the version.

use crate::run::ids::{ChainHash, EventSeq, Fingerprint};
use crate::run::schema::Schema;
use serde::{Deserialize, Serialize};

pub const VERSION: u32 = 1;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    pub manifest_version: u32,
    pub run_id: String,
    pub export: String,
    /// RFC 3339, UTC.
    pub started_at: String,
    pub finished_at: String,
    /// `success`. No other status is ever written.
    pub status: String,
    pub source: ManifestSource,
    pub destination: ManifestDestination,
    pub format: String,
    pub compression: String,
    pub schema_fingerprint: Fingerprint,
    pub schema: Schema,
    pub row_count: u64,
    pub part_count: u64,
    pub consistency: Consistency,
    pub journal: JournalHead,
    pub parts: Vec<ManifestPart>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ManifestSource {
    pub engine: String,
    /// `host:port/database`.
    pub location: String,
    /// As the configuration writes it: `schema.table`, `table`, or `query`.
    pub relation: String,
    /// What that led to in the database. `None` for a query, and in manifests of a version that did not look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<String>,
    pub mode: String,
    /// Only where the mode has a cursor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<ManifestCursor>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ManifestCursor {
    pub column: String,
    pub from: Option<String>,
    pub to: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ManifestDestination {
    /// `local`, …
    pub kind: String,
    /// `file:///…`, the prefix under which the paths of the parts lie.
    pub uri: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Consistency {
    /// `snapshot`: every part was read in one snapshot. `mixed`: see `snapshots` and each part.
    pub kind: String,
    pub snapshots: Vec<ManifestSnapshot>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ManifestSnapshot {
    pub snapshot: u32,
    pub id: String,
    pub lsn: String,
    pub visible: String,
}

/// Where the journal stood when the manifest was written: everything up to here led to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JournalHead {
    pub seq: EventSeq,
    pub hash: ChainHash,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ManifestPart {
    /// `<slice>-<file>`.
    pub id: String,
    /// Relative to the prefix.
    pub path: String,
    pub rows: u64,
    pub size_bytes: u64,
    pub content_fingerprint: Fingerprint,
    /// What the store itself calculated over the object, where there is such a thing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store_checksum: Option<String>,
    /// One for each column, in order: see `docs/checksums.md`.
    pub column_checksums: Vec<ColumnChecksum>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_range: Option<KeyRange>,
    /// Index into `consistency.snapshots[].snapshot`.
    pub snapshot: u32,
    /// `committed`, `superseded`, `quarantined`.
    pub status: String,
}

/// `sum64:<16 hex>`: sum, modulo 2^64, of a hash of each value of the column in the part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ColumnChecksum(pub u64);

impl Serialize for ColumnChecksum {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("sum64:{:016x}", self.0))
    }
}

impl<'de> Deserialize<'de> for ColumnChecksum {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.strip_prefix("sum64:")
            .filter(|hex| hex.len() == 16)
            .and_then(|hex| u64::from_str_radix(hex, 16).ok())
            .map(ColumnChecksum)
            .ok_or_else(|| serde::de::Error::custom("expected sum64:<16 hex>"))
    }
}

/// `lower <= key < upper` in the order of the source's own comparison; an end that is missing is open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRange {
    pub columns: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lower: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upper: Option<Vec<String>>,
    /// Rows with a NULL in the key.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub null_key: bool,
}

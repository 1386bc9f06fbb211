//! `manifest.json`, version 1. Additions are compatible; a removal or a change of type raises the version.

use crate::run::ids::{ChainHash, EventSeq, Fingerprint};
use crate::run::journal::SpecialTotal;
use crate::run::schema::Schema;
use serde::{Deserialize, Serialize};

pub use crate::run::part::{ColumnChecksum, KeyRange, ManifestPart};

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
    /// Values that the columns have no room for and that were delivered as something else, by policy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub special_values: Vec<SpecialTotal>,
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

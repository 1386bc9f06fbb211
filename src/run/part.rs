//! A committed file as the summary and the manifest describe it. Its form is that of the manifest, version 1: additions are
//! compatible, a removal or a change of type is not.

use super::event::PartFacts;
use super::ids::Fingerprint;
use super::plan::{Bounds, Split};
use serde::{Deserialize, Serialize};

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

impl ManifestPart {
    /// A sealed file, as it is described once it is committed.
    pub fn of(facts: &PartFacts, checksums: &[u64], split: Option<&Split>, bounds: Option<&Bounds>) -> ManifestPart {
        let key_range = match (split, bounds) {
            (Some(Split::Key { columns, .. }), Some(Bounds::Range { lower, upper })) => Some(KeyRange {
                columns: columns.iter().map(|column| column.name.clone()).collect(),
                lower: lower.clone(),
                upper: upper.clone(),
                null_key: false,
            }),
            (Some(Split::Key { columns, .. }), Some(Bounds::NullKey)) => Some(KeyRange {
                columns: columns.iter().map(|column| column.name.clone()).collect(),
                lower: None,
                upper: None,
                null_key: true,
            }),
            _ => None,
        };
        ManifestPart {
            id: format!("{}-{}", facts.slice, facts.file),
            path: facts.path.clone(),
            rows: facts.rows,
            size_bytes: facts.bytes,
            content_fingerprint: facts.fingerprint,
            store_checksum: None,
            column_checksums: checksums.iter().copied().map(ColumnChecksum).collect(),
            key_range,
            snapshot: facts.snapshot.0,
            status: "committed".to_owned(),
        }
    }
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

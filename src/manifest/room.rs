//! How large a manifest is going to be. It is the last thing that a run writes: what does not fit has to be known before
//! the work is done, not after it.

use super::model::{KeyRange, ManifestPart};
use super::read::MANIFEST_CAP;
use crate::error::{Error, ErrorKind, Result};
use crate::failpoint;
use crate::run::schema::Schema;
use serde::Serialize;
use std::sync::atomic::{AtomicU64, Ordering};

/// Kept free for all that is neither schema nor part: names, paths, and the snapshots of a hundred resumes.
pub const RESERVE: u64 = 256 * 1024;

/// Bytes that a plan takes a boundary to have; longer ones are few.
const BOUNDARY_BYTES: usize = 512;

/// What is left of the largest manifest that readers take. Shared by the workers of a run.
#[derive(Debug)]
pub struct Room {
    used: AtomicU64,
    cap: u64,
}

impl Room {
    /// For a run of which these parts are delivered.
    ///
    /// # Errors
    /// `Internal`, should serialisation fail.
    pub fn new<'a>(schema: &Schema, delivered: impl IntoIterator<Item = &'a ManifestPart>) -> Result<Room> {
        let mut used = RESERVE + schema_bytes(schema)?;
        for part in delivered {
            used += part_bytes(part)?;
        }
        Ok(Room { used: AtomicU64::new(used), cap: failpoint::limit("manifest.cap", MANIFEST_CAP) })
    }

    /// Takes the room of a part that is about to be delivered, and says how much that is.
    ///
    /// # Errors
    /// `ManifestTooLarge` when there is none left.
    pub fn claim(&self, part: &ManifestPart) -> Result<u64> {
        let bytes = part_bytes(part)?;
        let used = self.used.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if used <= self.cap {
            return Ok(bytes);
        }
        self.give_back(bytes);
        let (columns, cap) = (part.column_checksums.len(), self.cap);
        let what = format!(
            "with {}, of {columns} columns, the manifest would be larger than the {cap} bytes that readers take",
            part.path
        );
        Err(Error::new(ErrorKind::ManifestTooLarge, what))
    }

    /// Of parts that do not count after all.
    pub fn give_back(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// How many slices a run may be planned with, so that its manifest stays well below the largest that readers take: a part
/// for each fills half of it, which leaves room for cuts beyond what was wished, and for slices of more than one file.
///
/// # Errors
/// `Internal`, should serialisation fail.
pub fn most_slices(schema: &Schema) -> Result<u64> {
    let boundary = Some(vec!["x".repeat(BOUNDARY_BYTES)]);
    let columns = vec!["x".repeat(64)];
    let part = ManifestPart {
        id: format!("{}-{}", u32::MAX, u32::MAX),
        path: format!("part-{}-{}.parquet", u32::MAX, u32::MAX),
        rows: u64::MAX,
        size_bytes: u64::MAX,
        content_fingerprint: crate::run::ids::Fingerprint(u64::MAX),
        store_checksum: None,
        column_checksums: vec![super::model::ColumnChecksum(u64::MAX); schema.columns.len()],
        key_range: Some(KeyRange { columns, lower: boundary.clone(), upper: boundary, null_key: false }),
        snapshot: u32::MAX,
        status: super::read::COMMITTED.to_owned(),
    };
    let room = MANIFEST_CAP.saturating_sub(RESERVE + schema_bytes(schema)?);
    Ok((room / 2 / part_bytes(&part)?).max(1))
}

/// What one more part adds to a manifest, as it is really written.
///
/// # Errors
/// `Internal`, should serialisation fail.
pub fn part_bytes(part: &ManifestPart) -> Result<u64> {
    #[derive(Serialize)]
    struct Listing<'a> {
        parts: &'a [&'a ManifestPart],
    }
    Ok(written_bytes(&Listing { parts: &[part, part] })? - written_bytes(&Listing { parts: &[part] })?)
}

/// What the schema takes in a manifest, as it is really written.
///
/// # Errors
/// `Internal`, should serialisation fail.
pub fn schema_bytes(schema: &Schema) -> Result<u64> {
    #[derive(Serialize)]
    struct Heading<'a> {
        schema: &'a Schema,
    }
    written_bytes(&Heading { schema })
}

fn written_bytes(value: &impl Serialize) -> Result<u64> {
    let written = serde_json::to_vec_pretty(value);
    let written = written.map_err(|e| Error::new(ErrorKind::Internal, format!("serialising the manifest: {e}")))?;
    Ok(written.len() as u64)
}

//! `manifest.json` at the root of a destination: which run of each export is the latest complete one.
//!
//! Runs keep their own folders; a reader that wants "the newest" starts here. Several exports may share a root.

use super::read::{self, MANIFEST, MANIFEST_CAP};
use crate::error::{Error, ErrorKind, Result};
use crate::run::ids::Fingerprint;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

pub const VERSION: u32 = 1;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pointer {
    pub pointer_version: u32,
    /// By export.
    pub exports: BTreeMap<String, LatestRun>,
}

/// The latest complete run of one export.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LatestRun {
    pub run_id: String,
    /// Path of the run's manifest, relative to the root.
    pub manifest: String,
    /// Over the exact bytes of that manifest.
    pub fingerprint: Fingerprint,
    pub rows: u64,
    /// RFC 3339, UTC.
    pub published_at: String,
}

impl Default for Pointer {
    fn default() -> Self {
        Pointer { pointer_version: VERSION, exports: BTreeMap::new() }
    }
}

/// Reads the pointer of a root. `None` when there is none.
///
/// # Errors
/// `ManifestInvalid` for anything that is not a pointer of a known version; otherwise by the I/O error.
pub fn read(root: &Path) -> Result<Option<Pointer>> {
    let path = root.join(MANIFEST);
    let Some(bytes) = read::read_capped(&path, MANIFEST_CAP)? else { return Ok(None) };
    parse(&bytes).map(Some).map_err(|error| error.at(path.display()))
}

/// Parses and checks a pointer's bytes.
///
/// # Errors
/// `ManifestInvalid`.
pub fn parse(bytes: &[u8]) -> Result<Pointer> {
    let invalid = |what: String| Error::new(ErrorKind::ManifestInvalid, what);
    let pointer: Pointer = serde_json::from_slice(bytes).map_err(|e| invalid(format!("not a pointer: {e}")))?;
    if pointer.pointer_version != VERSION {
        let version = pointer.pointer_version;
        return Err(invalid(format!("pointer version {version}; this rivet reads version {VERSION}")));
    }
    match pointer.exports.iter().find(|(_, latest)| !read::is_inside(&latest.manifest)) {
        Some((export, latest)) => {
            Err(invalid(format!("export {export:?} points out of the root: {:?}", latest.manifest)))
        }
        None => Ok(pointer),
    }
}

/// The pointer's exact bytes: indented JSON and a final line feed.
///
/// # Errors
/// `Internal`, should serialisation fail.
pub fn to_bytes(pointer: &Pointer) -> Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec_pretty(pointer)
        .map_err(|e| Error::new(ErrorKind::Internal, format!("serialising the pointer: {e}")))?;
    bytes.push(b'\n');
    Ok(bytes)
}

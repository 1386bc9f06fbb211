//! A manifest's exact bytes.

use super::model::Manifest;
use super::read;
use crate::error::{Error, ErrorKind, Result};
use crate::run::ids::Fingerprint;

/// The bytes of a manifest, as they stand on the disk, and their fingerprint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestBytes {
    pub bytes: Vec<u8>,
    pub fingerprint: Fingerprint,
}

/// Serialises a manifest: indented JSON and a final line feed. The same manifest always makes the same bytes.
///
/// # Errors
/// `RunInvariant` for a manifest that a reader would refuse: nothing that is wrong in itself is ever written.
/// `ManifestTooLarge` where `super::room` has not seen that coming.
pub fn to_bytes(manifest: &Manifest) -> Result<ManifestBytes> {
    let mut bytes = serde_json::to_vec_pretty(manifest)
        .map_err(|e| Error::new(ErrorKind::Internal, format!("serialising the manifest: {e}")))?;
    bytes.push(b'\n');
    if bytes.len() as u64 > read::MANIFEST_CAP {
        let what = format!("the manifest would have {} bytes, and readers take {}", bytes.len(), read::MANIFEST_CAP);
        return Err(Error::new(ErrorKind::ManifestTooLarge, what));
    }
    read::parse(&bytes).map_err(|e| Error::new(ErrorKind::RunInvariant, e.what().to_owned()))?;
    Ok(ManifestBytes { fingerprint: Fingerprint::of(&bytes), bytes })
}

/// The exact content of `_SUCCESS` for a manifest: its fingerprint, on one line.
pub fn success_line(manifest: Fingerprint) -> String {
    format!("{manifest}\n")
}

//! Reading control files that anyone may have changed: capped in size, checked against themselves, never trusted.

use super::model::{Manifest, ManifestPart, VERSION};
use crate::destination::io_error;
use crate::error::{Error, ErrorKind, Result};
use crate::run::ids::Fingerprint;
use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Component, Path};

pub const MANIFEST: &str = "manifest.json";
pub const SUCCESS: &str = "_SUCCESS";

/// Bytes of the largest manifest that is read: some hundred thousand parts.
pub const MANIFEST_CAP: u64 = 64 * 1024 * 1024;

/// Bytes of the largest marker that is read. A real one has 22.
pub const SUCCESS_CAP: u64 = 4 * 1024;

/// Reads the manifest of a prefix. `None` when there is none.
///
/// # Errors
/// `ManifestInvalid` for one that is too large, of an unknown version, or not consistent with itself; otherwise by the
/// I/O error.
pub fn manifest(prefix: &Path) -> Result<Option<(Manifest, Fingerprint)>> {
    let path = prefix.join(MANIFEST);
    let Some(bytes) = read_capped(&path, MANIFEST_CAP)? else { return Ok(None) };
    let manifest = parse(&bytes).map_err(|error| error.at(path.display()))?;
    Ok(Some((manifest, Fingerprint::of(&bytes))))
}

/// Parses and checks a manifest's bytes.
///
/// # Errors
/// `ManifestInvalid`, naming what contradicts what.
pub fn parse(bytes: &[u8]) -> Result<Manifest> {
    let value: VersionOnly =
        serde_json::from_slice(bytes).map_err(|error| invalid(format!("not a manifest: {error}")))?;
    match value.manifest_version {
        Some(VERSION) => {}
        Some(other) => return Err(invalid(format!("manifest version {other}; this rivet reads version {VERSION}"))),
        None => return Err(invalid("not a manifest: it has no `manifest_version`".to_owned())),
    }
    let manifest: Manifest =
        serde_json::from_slice(bytes).map_err(|error| invalid(format!("not a manifest: {error}")))?;
    check(&manifest)?;
    Ok(manifest)
}

#[derive(serde::Deserialize)]
struct VersionOnly {
    manifest_version: Option<u32>,
}

fn check(manifest: &Manifest) -> Result<()> {
    if manifest.status != "success" {
        return Err(invalid(format!("status is {:?}, and only successful runs have a manifest", manifest.status)));
    }
    if manifest.run_id.is_empty() || manifest.export.is_empty() {
        return Err(invalid("run or export has no name".to_owned()));
    }
    if manifest.schema.fingerprint() != manifest.schema_fingerprint {
        let (recorded, real) = (manifest.schema_fingerprint, manifest.schema.fingerprint());
        return Err(invalid(format!("schema_fingerprint is {recorded}, and the schema's is {real}")));
    }
    check_parts(manifest)?;
    check_consistency(manifest)
}

fn check_parts(manifest: &Manifest) -> Result<()> {
    let mut ids = HashSet::new();
    let mut paths = HashSet::new();
    let mut rows = 0u64;
    let mut committed = 0u64;
    for part in &manifest.parts {
        check_part(part, manifest.schema.columns.len())?;
        if !ids.insert(part.id.as_str()) {
            return Err(invalid(format!("part id {:?} stands twice", part.id)));
        }
        if !paths.insert(part.path.as_str()) {
            return Err(invalid(format!("path {:?} stands twice", part.path)));
        }
        if part.status == COMMITTED {
            committed += 1;
            rows = rows.checked_add(part.rows).ok_or_else(|| invalid("the parts' rows overflow".to_owned()))?;
        }
    }
    if committed != manifest.part_count {
        return Err(invalid(format!("part_count is {}, and {committed} parts are listed", manifest.part_count)));
    }
    if rows != manifest.row_count {
        return Err(invalid(format!("row_count is {}, and the parts hold {rows}", manifest.row_count)));
    }
    Ok(())
}

/// Status of a part that belongs to the output.
pub const COMMITTED: &str = "committed";

fn check_part(part: &ManifestPart, columns: usize) -> Result<()> {
    if !is_inside(&part.path) {
        return Err(invalid(format!("part {:?} has the path {:?}, which leaves the prefix", part.id, part.path)));
    }
    if ![COMMITTED, "superseded", "quarantined"].contains(&part.status.as_str()) {
        return Err(invalid(format!("part {:?} has the unknown status {:?}", part.id, part.status)));
    }
    if part.column_checksums.len() != columns {
        let found = part.column_checksums.len();
        return Err(invalid(format!("part {:?} has {found} column checksums for {columns} columns", part.id)));
    }
    Ok(())
}

fn check_consistency(manifest: &Manifest) -> Result<()> {
    let consistency = &manifest.consistency;
    let known: HashSet<u32> = consistency.snapshots.iter().map(|snapshot| snapshot.snapshot).collect();
    if known.len() != consistency.snapshots.len() {
        return Err(invalid("a snapshot is listed twice".to_owned()));
    }
    let committed = || manifest.parts.iter().filter(|part| part.status == COMMITTED);
    if let Some(part) = committed().find(|part| !known.contains(&part.snapshot)) {
        return Err(invalid(format!("part {:?} names snapshot {}, which is not listed", part.id, part.snapshot)));
    }
    let used: HashSet<u32> = committed().map(|part| part.snapshot).collect();
    match consistency.kind.as_str() {
        "mixed" => Ok(()),
        "snapshot" if used.len() <= 1 => Ok(()),
        "snapshot" => Err(invalid(format!("consistency is `snapshot`, and the parts name {} of them", used.len()))),
        other => Err(invalid(format!("unknown consistency {other:?}"))),
    }
}

/// Whether a path is relative and stays below where it starts. A backslash and a colon mean something elsewhere.
pub fn is_inside(path: &str) -> bool {
    !path.is_empty()
        && !path.ends_with('/')
        && !path.contains(['\\', ':', '\0'])
        && Path::new(path).components().all(|component| matches!(component, Component::Normal(_)))
        && Path::new(path).components().count() == path.split('/').count()
}

/// Reads `_SUCCESS`: the fingerprint of the manifest that it vouches for. `None` when there is no marker.
///
/// # Errors
/// `ManifestInvalid` for anything that is not one fingerprint on one line; otherwise by the I/O error.
pub fn success(prefix: &Path) -> Result<Option<Fingerprint>> {
    let path = prefix.join(SUCCESS);
    let Some(bytes) = read_capped(&path, SUCCESS_CAP)? else { return Ok(None) };
    match parse_success(&bytes) {
        Some(fingerprint) => Ok(Some(fingerprint)),
        None => Err(invalid(format!("{} does not hold one fingerprint on one line", path.display()))),
    }
}

/// The fingerprint in the marker's bytes. `None` for anything else than `xxh3:<16 hex>` and at most one line end.
pub fn parse_success(bytes: &[u8]) -> Option<Fingerprint> {
    let text = std::str::from_utf8(bytes).ok()?;
    let line = text.strip_suffix('\n').unwrap_or(text);
    Fingerprint::parse(line.strip_suffix('\r').unwrap_or(line))
}

/// The run that a prefix's manifest names, where there is a manifest. Looks at nothing else in it.
///
/// # Errors
/// `DestinationForeign` for a `manifest.json` of somebody else's; otherwise by the I/O error.
pub fn run_id_of(prefix: &Path) -> Result<Option<String>> {
    #[derive(serde::Deserialize)]
    struct RunOnly {
        run_id: String,
    }
    let path = prefix.join(MANIFEST);
    let Some(bytes) = read_capped(&path, MANIFEST_CAP)? else { return Ok(None) };
    match serde_json::from_slice::<RunOnly>(&bytes) {
        Ok(manifest) => Ok(Some(manifest.run_id)),
        Err(_) => Err(Error::new(ErrorKind::DestinationForeign, format!("{} is not rivet's", path.display()))),
    }
}

/// A whole file of at most `cap` bytes. `None` when there is none.
pub(crate) fn read_capped(path: &Path, cap: u64) -> Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error("opening", path, error)),
    };
    if !file.metadata().map_err(|e| io_error("looking at", path, e))?.is_file() {
        return Err(invalid(format!("{} is not a file", path.display())));
    }
    let mut bytes = Vec::new();
    file.take(cap + 1).read_to_end(&mut bytes).map_err(|e| io_error("reading", path, e))?;
    if bytes.len() as u64 > cap {
        return Err(invalid(format!("{} is larger than {cap} bytes", path.display())));
    }
    Ok(Some(bytes))
}

fn invalid(what: String) -> Error {
    Error::new(ErrorKind::ManifestInvalid, what)
}

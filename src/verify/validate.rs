//! Does a prefix hold what its manifest says? (Rules M3, M5 and M6 of `docs/adr/0005-part-identity.md`.)
//!
//! Three depths. `size` looks at names and lengths, which costs nothing however large the output is. `fingerprint` reads
//! every byte. `full` reads every value too: footers, and the column checksums. The source is never asked.

use super::parquet::check_values;
use crate::destination::io_error;
use crate::destination::local::{hash_file, list_files};
use crate::error::{Error, ErrorKind, Result};
use crate::manifest::model::{Manifest, ManifestPart};
use crate::manifest::{pointer, read};
use crate::run::ids::Fingerprint;
use serde::Serialize;
use std::collections::HashSet;
use std::fs;
use std::path::Path;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Depth {
    Size,
    Fingerprint,
    Full,
}

impl Depth {
    pub fn name(self) -> &'static str {
        match self {
            Depth::Size => "size",
            Depth::Fingerprint => "fingerprint",
            Depth::Full => "full",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ValidationReport {
    /// Whether the output is complete and is what the manifest says, as far as `depth` looks.
    pub passed: bool,
    pub depth: Depth,
    /// Whether the prefix has no manifest, so that nothing could be compared. Such a prefix never passes.
    pub legacy_run: bool,
    /// Checks that could not be made, a phrase each. Only for a `legacy_run`.
    pub left_out: Vec<String>,
    pub run_id: Option<String>,
    pub manifest: Option<Fingerprint>,
    pub parts_checked: u32,
    /// Rows of the parts that were found as they should be.
    pub rows: u64,
    pub findings: Vec<Finding>,
    /// Files that the manifest does not name. They do no harm to a reader of the manifest, but they do to one who reads
    /// every file in the folder.
    pub unknown_files: Vec<String>,
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Relative to the prefix.
    pub path: String,
    pub what: String,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.path, self.what)
    }
}

/// Validates the output under `prefix`.
///
/// # Errors
/// Only when nothing can be said: the prefix cannot be listed, or is a root that points to several runs (`Usage`). What
/// is wrong with the output is a finding, not an error.
pub fn validate(prefix: &Path, depth: Depth) -> Result<ValidationReport> {
    let files = list_files(prefix)?;
    let mut report = ValidationReport {
        passed: false,
        depth,
        legacy_run: false,
        left_out: Vec::new(),
        run_id: None,
        manifest: None,
        parts_checked: 0,
        rows: 0,
        findings: Vec::new(),
        unknown_files: Vec::new(),
    };
    match read::manifest(prefix) {
        Ok(Some((manifest, fingerprint))) => {
            report.run_id = Some(manifest.run_id.clone());
            report.manifest = Some(fingerprint);
            check_success(prefix, fingerprint, &mut report)?;
            check_parts(prefix, &manifest, &mut report)?;
            report.unknown_files = unknown(files, &manifest);
        }
        Ok(None) => note_legacy(files, &mut report),
        Err(error) if error.kind() == ErrorKind::ManifestInvalid => {
            refuse_pointer(prefix)?;
            report.find(read::MANIFEST, error.what());
        }
        Err(error) => return Err(error),
    }
    report.passed = report.findings.is_empty();
    Ok(report)
}

impl ValidationReport {
    fn find(&mut self, path: &str, what: impl Into<String>) {
        self.findings.push(Finding { path: path.to_owned(), what: what.into() });
    }
}

fn check_success(prefix: &Path, manifest: Fingerprint, report: &mut ValidationReport) -> Result<()> {
    match read::success(prefix) {
        Ok(Some(vouched)) if vouched == manifest => {}
        Ok(Some(vouched)) => {
            report.find(
                read::SUCCESS,
                format!("vouches for a manifest {vouched}, and the one that is here is {manifest}"),
            );
        }
        Ok(None) => report.find(read::SUCCESS, "is missing: the run was not completed"),
        Err(error) if error.kind() == ErrorKind::ManifestInvalid => report.find(read::SUCCESS, error.what()),
        Err(error) => return Err(error),
    }
    Ok(())
}

fn check_parts(prefix: &Path, manifest: &Manifest, report: &mut ValidationReport) -> Result<()> {
    for part in manifest.parts.iter().filter(|part| part.status == read::COMMITTED) {
        let findings = check_part(prefix, manifest, part, report.depth)?;
        report.parts_checked += 1;
        if findings.is_empty() {
            report.rows += part.rows;
        }
        findings.into_iter().for_each(|what| report.find(&part.path, what));
    }
    Ok(())
}

/// What is wrong with one part, a sentence each.
fn check_part(prefix: &Path, manifest: &Manifest, part: &ManifestPart, depth: Depth) -> Result<Vec<String>> {
    let path = prefix.join(&part.path);
    let metadata = match fs::metadata(&path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(vec!["is missing".to_owned()]),
        Err(error) => return Ok(vec![io_error("looking at", &path, error).what().to_owned()]),
    };
    if !metadata.is_file() {
        return Ok(vec!["is not a file".to_owned()]);
    }
    if metadata.len() != part.size_bytes {
        let what = format!("has {} bytes, and the manifest says {}", metadata.len(), part.size_bytes);
        return Ok(vec![what]);
    }
    match depth {
        Depth::Size => Ok(Vec::new()),
        Depth::Fingerprint | Depth::Full => check_bytes(&path, manifest, part, depth),
    }
}

fn check_bytes(path: &Path, manifest: &Manifest, part: &ManifestPart, depth: Depth) -> Result<Vec<String>> {
    let mut findings = Vec::new();
    match hash_file(path) {
        Ok(Some((_, found))) if found == part.content_fingerprint => {}
        Ok(Some((_, found))) => {
            let recorded = part.content_fingerprint;
            findings.push(format!("content fingerprint is {found}, and the manifest says {recorded}"));
        }
        Ok(None) => return Ok(vec!["is missing".to_owned()]),
        Err(error) => return Ok(vec![error.what().to_owned()]),
    }
    if depth == Depth::Full {
        // Also when the fingerprint already differs: the values say where.
        findings.extend(check_values(path, manifest, part)?);
    }
    Ok(findings)
}

fn unknown(files: Vec<String>, manifest: &Manifest) -> Vec<String> {
    let known: HashSet<&str> =
        manifest.parts.iter().map(|part| part.path.as_str()).chain([read::MANIFEST, read::SUCCESS]).collect();
    files.into_iter().filter(|file| !known.contains(file.as_str())).collect()
}

fn note_legacy(files: Vec<String>, report: &mut ValidationReport) {
    report.legacy_run = true;
    report.left_out =
        ["completeness", "sizes", "fingerprints", "row counts", "column checksums"].map(str::to_owned).into();
    report.find(read::MANIFEST, "is missing: nothing says what should be here");
    report.unknown_files = files;
}

/// A root is not a run. Says which runs it points to.
fn refuse_pointer(prefix: &Path) -> Result<()> {
    let Ok(Some(pointer)) = pointer::read(prefix) else { return Ok(()) };
    let runs: Vec<&str> = pointer.exports.values().map(|latest| latest.run_id.as_str()).collect();
    let what = format!("{} is a destination, not a run's output", prefix.display());
    Err(Error::new(ErrorKind::Usage, what).with_hint(format!("Name one of the folders in it: {}.", runs.join(", "))))
}

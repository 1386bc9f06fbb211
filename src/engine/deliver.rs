//! The end of a run: manifest, `_SUCCESS`, the pointer to the latest run, validation.

use super::ExportContext;
use super::ledger::Ledger;
use crate::destination::local::LocalPrefix;
use crate::error::{Error, ErrorKind, Result};
use crate::manifest::of_run::of_run;
use crate::manifest::pointer::LatestRun;
use crate::manifest::read::MANIFEST;
use crate::manifest::room::Room;
use crate::manifest::write;
use crate::run::schema::Schema;
use crate::run::state::SliceStatus;
use crate::run::{Command, RunSummary};
use crate::time::rfc3339;
use crate::verify::validate::{Depth, validate};
use std::collections::HashSet;

/// What the parts of complete slices leave of the manifest. Those of the others are read again.
///
/// # Errors
/// `Internal`, should serialisation fail.
pub fn room_left(ledger: &Ledger, schema: &Schema) -> Result<Room> {
    let complete = ledger.state().slices.iter().filter(|slice| slice.status == SliceStatus::Complete);
    let delivered: HashSet<&str> =
        complete.flat_map(|slice| slice.parts.values()).map(|part| part.facts.path.as_str()).collect();
    let parts = ledger.summary().manifest_parts.iter();
    Room::new(schema, parts.filter(|part| delivered.contains(part.path.as_str())))
}

/// Builds the manifest from the folds and writes it, atomically.
///
/// # Errors
/// The destination or the journal failed, or the summary's invariants do not hold: then there is no manifest.
pub fn write_manifest(ledger: &mut Ledger, destination: &LocalPrefix) -> Result<()> {
    let manifest = of_run(ledger.state(), ledger.summary())?;
    let written = write::to_bytes(&manifest)?;
    destination.write_manifest(&written)?;
    ledger.record(Command::RecordManifest { fingerprint: written.fingerprint, bytes: written.bytes.len() as u64 })
}

/// What must hold at a run's end, whatever led there.
///
/// # Errors
/// [`ErrorKind::RunInvariant`] with the first that is violated: the run has failed.
pub fn check_invariants(ended: &RunSummary) -> Result<()> {
    let checked = ended.check_post_run_invariants();
    let checked = checked.and_then(|()| crate::failpoint::hit("run.invariants").map_err(|error| error.to_string()));
    checked.map_err(|violated| Error::new(ErrorKind::RunInvariant, violated))
}

/// `_SUCCESS`, then the pointer at the root.
///
/// # Errors
/// The destination or the journal failed.
pub fn publish(ledger: &mut Ledger, destination: &LocalPrefix) -> Result<()> {
    let state = ledger.state();
    let fingerprint = state.manifest.ok_or_else(|| Error::new(ErrorKind::Internal, "published without a manifest"))?;
    destination.write_success(fingerprint)?;
    let latest = LatestRun {
        run_id: state.planned.run_id.clone(),
        manifest: destination.relative_to_root(MANIFEST),
        fingerprint,
        rows: state.rows(),
        published_at: rfc3339(super::clock::wall_ms()),
    };
    destination.publish_latest(&state.planned.export_name, latest)?;
    ledger.record(Command::RecordPublished)
}

/// Reads the published prefix back and records the verdict. A "no" is recorded, and is an error.
///
/// # Errors
/// [`ErrorKind::ValidationFailed`] with the first finding; the destination or the journal failed.
pub fn validate_published(context: &ExportContext<'_>, ledger: &mut Ledger, destination: &LocalPrefix) -> Result<()> {
    let depth = if context.export.verify_content { Depth::Full } else { Depth::Size };
    let report = validate(destination.path(), depth)?;
    let findings: Vec<String> = report.findings.iter().map(|finding| finding.to_string()).collect();
    let first = findings.first().cloned();
    ledger.record(Command::RecordValidation {
        passed: report.passed,
        depth: depth.name().to_owned(),
        parts_checked: report.parts_checked as u32,
        findings,
    })?;
    if report.passed {
        return Ok(());
    }
    let what = first.unwrap_or_else(|| "the output does not match its manifest".to_owned());
    Err(Error::new(ErrorKind::ValidationFailed, what).at(&context.export.name))
}

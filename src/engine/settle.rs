//! After a crash: comparing what the journal says with what lies at the destination.
//!
//! ```text
//! the journal says              the destination has          done
//! ────────────────────────────  ───────────────────────────  ──────────────────────────────────────────────
//! committed                     the same bytes               kept
//! committed                     other bytes                  quarantined, its slice is read again
//! committed                     nothing                      its slice is read again
//! sealed, slice's last file is  all of the slice's files,    adopted: a missing rename is made up for, the
//!   among the sealed ones       temporary or final           receipts are written, the slice is complete
//! sealed, otherwise             anything                     released: the slice is read again
//! nothing                       a temporary file of ours     removed
//! announced once, not counting  a file under that name       removed before the manifest is written
//! nothing                       any other file               quarantined, never deleted
//! ```

use super::ExportContext;
use super::ledger::Ledger;
use crate::destination::is_published;
use crate::destination::local::{Found, LocalPrefix};
use crate::error::Result;
use crate::manifest::read::{MANIFEST, SUCCESS};
use crate::run::Command;
use crate::run::event::PartFacts;
use crate::run::ids::SliceNo;
use crate::run::state::{SliceState, SliceStatus, Stage};
use std::collections::HashSet;

/// Adopts the files of slices whose worker died, or releases the slices.
///
/// # Errors
/// The destination or the journal failed.
pub fn settle_orphans(ledger: &mut Ledger, destination: &LocalPrefix, slices: &[SliceNo]) -> Result<()> {
    for &slice in slices {
        let Some(of) = ledger.state().slice(slice).cloned() else { continue };
        let SliceStatus::Orphaned(attempt) = of.status else { continue };
        match proof(destination, &of)? {
            Ok((rows, unreceipted)) => {
                for file in unreceipted {
                    if file.is_temporary {
                        destination.adopt_temp(&file.facts.path)?;
                    }
                    ledger.record(Command::CommitPart { slice, file: file.facts.file, attempt, adopted: true })?;
                }
                let rss_mb = super::memory::peak_rss_mb();
                ledger.record(Command::CompleteSlice { slice, attempt, rows, took_ms: 0, rss_mb })?;
            }
            Err(why) => ledger.record(Command::ReleaseOrphan { slice, why })?,
        }
    }
    Ok(())
}

struct Unreceipted {
    facts: PartFacts,
    is_temporary: bool,
}

/// The slice's rows and the files that lack a receipt, when the files prove it complete; else why they do not.
fn proof(destination: &LocalPrefix, slice: &SliceState) -> Result<Result<(u64, Vec<Unreceipted>), String>> {
    let Some(rows) = slice.announced_rows() else {
        return Ok(Err("its process ended before its last file was sealed".to_owned()));
    };
    let mut unreceipted = vec![];
    for part in slice.parts.values() {
        let facts = &part.facts;
        match destination.look_for(&facts.path, facts.bytes, facts.fingerprint)? {
            Found::Final { bytes, fingerprint } if (bytes, fingerprint) == (facts.bytes, facts.fingerprint) => {
                if !part.committed {
                    unreceipted.push(Unreceipted { facts: facts.clone(), is_temporary: false });
                }
            }
            Found::Temp { bytes, fingerprint }
                if !part.committed && (bytes, fingerprint) == (facts.bytes, facts.fingerprint) =>
            {
                unreceipted.push(Unreceipted { facts: facts.clone(), is_temporary: true });
            }
            _ => return Ok(Err(format!("{} is not there as it was sealed", facts.path))),
        }
    }
    Ok(Ok((rows, unreceipted)))
}

/// Compares every committed file with its journaled length and fingerprint. Slices whose files differ or are gone become
/// pending again.
///
/// # Errors
/// The destination or the journal failed.
pub fn check_parts(context: &ExportContext<'_>, ledger: &mut Ledger, destination: &LocalPrefix) -> Result<()> {
    let at_rest = |slice: &SliceState| matches!(slice.status, SliceStatus::Complete | SliceStatus::Pending);
    let committed: Vec<PartFacts> = {
        let slices = ledger.state().slices.iter().filter(|slice| at_rest(slice));
        slices.flat_map(|slice| slice.parts.values()).filter(|p| p.committed).map(|p| p.facts.clone()).collect()
    };
    for part in committed {
        // An earlier finding may have set this one aside with its slice.
        if !ledger.state().parts().any(|live| live.path == part.path) {
            continue;
        }
        let path = part.path;
        match destination.look(&path)? {
            Found::Final { bytes, fingerprint } if (bytes, fingerprint) == (part.bytes, part.fingerprint) => {}
            Found::Final { bytes, .. } => {
                let reason = format!("{bytes} bytes with another fingerprint, {} were written", part.bytes);
                set_aside(context, ledger, destination, &path, &reason)?;
            }
            Found::Missing | Found::Temp { .. } => {
                context.warn(ledger, "part_missing", format!("{path} is gone; its slice is read again"))?;
                ledger.record(Command::LosePart { path, reason: "it is gone from the destination".to_owned() })?;
            }
        }
    }
    Ok(())
}

/// Checks the marks of a run that had its manifest already. Where a part will be read again, `_SUCCESS` is taken away
/// before anything that it vouches for is touched; where a mark is gone or says something else, both are written again.
///
/// # Errors
/// The destination or the journal failed.
pub fn check_marks(context: &ExportContext<'_>, ledger: &mut Ledger, destination: &LocalPrefix) -> Result<()> {
    let Some(manifest) = ledger.state().manifest else { return take_back(context, ledger, destination) };
    if ledger.state().stage == Stage::Reading {
        return destination.retract_success();
    }
    let (manifest_stands, success_stands) = destination.vouches_for(manifest)?;
    if manifest_stands && (success_stands || ledger.state().stage == Stage::Manifested) {
        return Ok(());
    }
    let message = "manifest.json or _SUCCESS was removed or changed after the run wrote it; both are written again";
    context.warn(ledger, "marks_rewritten", message.to_owned())?;
    destination.retract_success()?;
    tidy(context, ledger, destination)?;
    super::deliver::write_manifest(ledger, destination)
}

/// The output of a run whose journal knows of no manifest may have been published all the same, where that journal is older than
/// the output: whoever goes on was told, and insisted. Its `_SUCCESS` goes before anything that it vouches for is touched.
fn take_back(context: &ExportContext<'_>, ledger: &mut Ledger, destination: &LocalPrefix) -> Result<()> {
    if !is_published(destination.path())? {
        return Ok(());
    }
    destination.retract_success()?;
    let slices = ledger.state().slices.iter();
    let known: HashSet<String> = slices.flat_map(|slice| slice.parts.values()).map(|p| p.facts.path.clone()).collect();
    for name in destination.list()?.into_iter().filter(|name| !known.contains(name)) {
        set_aside(context, ledger, destination, &name, "the journal does not know it")?;
    }
    Ok(())
}

/// Moves files that the journal knows nothing of aside, and removes our own leftovers.
///
/// # Errors
/// The destination or the journal failed. A file that cannot be moved is a warning.
pub fn tidy(context: &ExportContext<'_>, ledger: &mut Ledger, destination: &LocalPrefix) -> Result<()> {
    destination.sweep_temps()?;
    let live: HashSet<String> = ledger.state().parts().map(|part| part.path.clone()).collect();
    let mut superseded: Vec<String> = ledger.state().superseded.clone();
    superseded.sort_unstable();
    superseded.dedup();
    for path in superseded.iter().filter(|path| !live.contains(*path)) {
        destination.remove(path)?;
    }
    let known = |name: &str| live.contains(name) || name == MANIFEST || name == SUCCESS;
    for name in destination.list()?.into_iter().filter(|name| !known(name)) {
        set_aside(context, ledger, destination, &name, "the journal does not know it")?;
    }
    Ok(())
}

fn set_aside(
    context: &ExportContext<'_>,
    ledger: &mut Ledger,
    destination: &LocalPrefix,
    path: &str,
    reason: &str,
) -> Result<()> {
    let moved = destination.quarantine(path, &ledger.summary().run_id);
    let (moved_to, note) = match moved {
        Ok(Some(to)) => (to.clone(), format!("{path} was moved to {to}: {reason}")),
        Ok(None) => (String::new(), format!("{path} could not be moved aside: it is gone ({reason})")),
        Err(error) => (String::new(), format!("{path} could not be moved aside: {} ({reason})", error.what())),
    };
    context.warn(ledger, "quarantined", note)?;
    ledger.record(Command::Quarantine { path: path.to_owned(), moved_to, reason: reason.to_owned() })
}

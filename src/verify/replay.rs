//! Whether a journal and the output that it led to tell the same story.
//!
//! Nothing here speaks to a source. The events are folded by the code that the live run ran, and the result is held
//! against the manifest and, where that is asked for, against every byte of the files.

use crate::error::{Error, Result};
use crate::manifest::model::{Manifest, ManifestPart};
use crate::manifest::of_run::of_run;
use crate::manifest::read;
use crate::run::event::{Event, Recorded};
use crate::run::ids::{EventSeq, Fingerprint};
use crate::run::{RunState, RunSummary};
use crate::verify::validate::{Depth, validate};
use serde::Serialize;
use serde_json::Value;
use std::path::Path;

/// How far the story was checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Compared {
    /// The events among themselves: the run published nothing, or its directory is not reachable from here.
    Events,
    /// Also with the manifest.
    Manifest,
    /// Also with every byte of every file.
    Parts,
}

/// The first event after which the output is not what the journal says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Divergence {
    pub seq: EventSeq,
    pub event: &'static str,
    pub what: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Replay {
    pub events: u64,
    pub compared: Compared,
    pub divergence: Option<Divergence>,
}

/// Folds a run's events and compares what they say with what is there.
///
/// # Errors
/// [`crate::ErrorKind::RunIllegal`] at the first event that cannot follow from those before it; and the errors of
/// reading the output's directory.
pub fn replay(records: &[Recorded], summary: &RunSummary, parts: bool) -> Result<Replay> {
    RunState::fold(records)?;
    let events = records.len() as u64;
    let divergence = |compared, divergence| Ok(Replay { events, compared, divergence });
    let last = records.last();
    if let (false, Some(last), Err(what)) = (summary.status == "running", last, summary.check_post_run_invariants()) {
        return divergence(Compared::Events, Some(at(last, what)));
    }
    let prefix = Path::new(&summary.journal.planned().run.prefix);
    let written = records.iter().rev().find(|recorded| matches!(recorded.event, Event::ManifestWritten(_)));
    let is_published = records.iter().any(|recorded| matches!(recorded.event, Event::Published(_)));
    let is_gone = parts && is_published && !prefix.is_dir();
    if let (true, Some(written)) = (is_gone, written) {
        return divergence(Compared::Parts, Some(at(written, format!("{} is not there", prefix.display()))));
    }
    let Some(written) = written.filter(|_| is_published && prefix.is_dir()) else {
        return divergence(Compared::Events, None);
    };
    if let Some(found) = compare_manifest(records, summary, written, prefix)? {
        return divergence(Compared::Manifest, Some(found));
    }
    if !parts {
        return divergence(Compared::Manifest, None);
    }
    let report = validate(prefix, Depth::Full)?;
    let found = report.findings.first().map(|finding| {
        let committed = commit_of(records, &finding.path).unwrap_or(written);
        at(committed, finding.to_string())
    });
    divergence(Compared::Parts, found)
}

fn at(recorded: &Recorded, what: impl Into<String>) -> Divergence {
    Divergence { seq: recorded.seq, event: recorded.event.name(), what: what.into() }
}

/// The last event that put a file in place.
fn commit_of<'a>(records: &'a [Recorded], path: &str) -> Option<&'a Recorded> {
    let is_it = |recorded: &&Recorded| matches!(&recorded.event, Event::PartCommitted(part) if part.path == path);
    records.iter().rev().find(is_it)
}

fn compare_manifest(
    records: &[Recorded],
    summary: &RunSummary,
    written: &Recorded,
    prefix: &Path,
) -> Result<Option<Divergence>> {
    let (manifest, fingerprint) = match read::manifest(prefix) {
        Ok(Some(found)) => found,
        Ok(None) => return Ok(Some(at(written, format!("there is no manifest in {}", prefix.display())))),
        Err(error) if error.kind() == crate::ErrorKind::ManifestInvalid => {
            return Ok(Some(at(written, Error::what(&error))));
        }
        Err(error) => return Err(error),
    };
    if manifest.run_id != summary.run_id {
        return Ok(Some(at(written, format!("the manifest is that of run {}", manifest.run_id))));
    }
    Ok(against_manifest(records, summary, (&manifest, fingerprint)))
}

/// Whether a manifest is the one that a run's events led to. `found` is the manifest and the fingerprint of its bytes.
pub fn against_manifest(
    records: &[Recorded],
    summary: &RunSummary,
    (manifest, fingerprint): (&Manifest, Fingerprint),
) -> Option<Divergence> {
    let written = records.iter().rev().find(|recorded| matches!(recorded.event, Event::ManifestWritten(_)))?;
    compare_parts(records, summary, manifest, written)
        .or_else(|| compare_head(records, manifest, written))
        .or_else(|| compare_bytes(fingerprint, written))
        .or_else(|| compare_rebuilt(records, manifest, written))
}

fn compare_bytes(found: Fingerprint, written: &Recorded) -> Option<Divergence> {
    let Event::ManifestWritten(event) = &written.event else { return None };
    let what = || format!("the manifest's bytes hash to {found}, and {} were written", event.fingerprint);
    (found != event.fingerprint).then(|| at(written, what()))
}

/// Part by part, in commit order: the first difference names the event that committed the part.
fn compare_parts(
    records: &[Recorded],
    summary: &RunSummary,
    manifest: &Manifest,
    written: &Recorded,
) -> Option<Divergence> {
    let listed: Vec<&ManifestPart> = manifest.parts.iter().filter(|part| part.status == read::COMMITTED).collect();
    for part in &summary.manifest_parts {
        let committed = commit_of(records, &part.path).unwrap_or(written);
        let Some(listed) = listed.iter().find(|listed| listed.path == part.path) else {
            return Some(at(committed, format!("{} was committed, and the manifest does not list it", part.path)));
        };
        if contradiction(*listed, part).is_some() {
            let what = format!(
                "{} has {} rows and {} in the journal, {} rows and {} in the manifest",
                part.path, part.rows, part.content_fingerprint, listed.rows, listed.content_fingerprint
            );
            return Some(at(committed, what));
        }
    }
    let known = |part: &&&ManifestPart| summary.manifest_parts.iter().all(|ours| ours.path != part.path);
    let extra = listed.iter().find(known)?;
    Some(at(written, format!("the manifest lists {}, which no event committed", extra.path)))
}

/// The manifest is a function of the events before it: built again, it must say the same. Its bytes may differ, because
/// another version of rivet may have written it; that those are as they were written is [`compare_bytes`]' question.
fn compare_rebuilt(records: &[Recorded], manifest: &Manifest, written: &Recorded) -> Option<Divergence> {
    let before = records.iter().take_while(|recorded| recorded.seq < written.seq);
    let state = RunState::fold(before.clone()).ok()?;
    match of_run(&state, &RunSummary::from_events(before)) {
        Ok(rebuilt) => {
            let place = contradiction(manifest, &rebuilt)?;
            Some(at(written, format!("the events give another manifest than was written: `{place}` differs")))
        }
        Err(error) => Some(at(written, Error::what(&error))),
    }
}

/// The first place at which `rebuilt` says something else than `written` does, both as this version of rivet reads them.
///
/// A field that `written` does not have contradicts nothing: fields may be added to a manifest, and whoever wrote this
/// one did not know it. A field of a later version is unknown here, and is left out by reading.
fn contradiction<T: Serialize>(written: &T, rebuilt: &T) -> Option<String> {
    match (serde_json::to_value(written), serde_json::to_value(rebuilt)) {
        (Ok(written), Ok(rebuilt)) => first_difference(&written, &rebuilt, String::new()),
        _ => Some("what cannot be told as JSON".to_owned()),
    }
}

fn first_difference(written: &Value, rebuilt: &Value, place: String) -> Option<String> {
    let below = |key: &str| if place.is_empty() { key.to_owned() } else { format!("{place}.{key}") };
    match (written, rebuilt) {
        (Value::Object(written), Value::Object(rebuilt)) => written.iter().find_map(|(key, value)| {
            let place = below(key);
            rebuilt
                .get(key)
                .map_or_else(|| Some(place.clone()), |rebuilt| first_difference(value, rebuilt, place.clone()))
        }),
        (Value::Array(written), Value::Array(rebuilt)) if written.len() == rebuilt.len() => {
            let mut pairs = written.iter().zip(rebuilt).enumerate();
            pairs.find_map(|(i, (written, rebuilt))| first_difference(written, rebuilt, below(&i.to_string())))
        }
        _ => (written != rebuilt).then_some(place),
    }
}

/// The manifest names the event before it by number and hash: the journal must still have it.
fn compare_head(records: &[Recorded], manifest: &Manifest, written: &Recorded) -> Option<Divergence> {
    let head = &manifest.journal;
    match records.iter().find(|recorded| recorded.seq == head.seq) {
        Some(recorded) if recorded.hash == head.hash => None,
        Some(recorded) => Some(at(recorded, format!("the manifest knows this event as {}", head.hash))),
        None => Some(at(written, format!("the manifest names event {}, which the run does not have", head.seq))),
    }
}

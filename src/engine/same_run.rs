//! Whether a run that was begun may go on under the configuration as it is now.

use crate::config::{ExportConfig, Selection, SourceConfig, still_resolves_to};
use crate::error::{Error, ErrorKind, Result};
use crate::run::event::RunPlanned;
use std::path::Path;

/// A run goes on under the definition that it was planned with, and where its files lie.
///
/// # Errors
/// `RunChanged`, with what changed as far as the journal has it.
pub fn refuse_another_run(planned: &RunPlanned, export: &ExportConfig, source: &SourceConfig) -> Result<()> {
    let RunPlanned { run_id, root, .. } = planned;
    let place = still_resolves_to(export, run_id, Path::new(root));
    if planned.definition != export.definition {
        let mut changes = changes(planned, export, source);
        changes.extend(place.err().map(|now| changed("the destination", root, &now.display().to_string())));
        let changes = match changes.as_slice() {
            [] => what_only_the_fingerprint_tells(export).to_owned(),
            some => some.join("; "),
        };
        let what = format!(
            "run {run_id} is unfinished, and the export's definition has changed since it was planned: {changes}"
        );
        return Err(Error::new(ErrorKind::RunChanged, what));
    }
    place.map_err(|now| {
        let what = format!("run {run_id} delivers to {root}, and the configuration now says {}", now.display());
        let hint = "Put the directory back where it was to resume, or start anew with `rivet run --fresh`.";
        Error::new(ErrorKind::RunChanged, what).with_hint(hint)
    })
}

/// What the journal has of a definition in plain words, where the configuration says something else now.
fn changes(planned: &RunPlanned, export: &ExportConfig, source: &SourceConfig) -> Vec<String> {
    let pairs = [
        ("the source", planned.source.as_str(), source.label()),
        ("what is read", &planned.relation, export.selection.label()),
        ("the mode", &planned.mode, export.mode.name().to_owned()),
        ("the format", &planned.format, export.format.name().to_owned()),
        ("the compression", &planned.compression, export.compression.name().to_owned()),
        ("the consistency", consistency(planned.restart_on_resume), consistency(export.restart_on_resume).to_owned()),
    ];
    let differing = pairs.into_iter().filter(|(_, before, now)| before != now);
    differing.map(|(name, before, now)| changed(name, before, &now)).collect()
}

fn consistency(restart_on_resume: bool) -> &'static str {
    if restart_on_resume { "restart" } else { "snapshot" }
}

fn changed(name: &str, before: &str, now: &str) -> String {
    format!("{name} was {before} and is {now}")
}

/// The rest of a definition is in its fingerprint alone.
fn what_only_the_fingerprint_tells(export: &ExportConfig) -> &'static str {
    match export.selection {
        Selection::Query(_) => {
            "in the query, its chunks, the columns' types, the compression's level, or the size of files or row groups"
        }
        Selection::Table { .. } => {
            "in its chunks, the columns' types, the compression's level, or the size of files or row groups"
        }
    }
}

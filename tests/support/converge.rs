//! What a run that was stopped leaves behind, and what has to come of it in the end.

use super::files;
use super::rivet::{Finished, Rivet, Scratch, run_id};
use std::path::{Path, PathBuf};

/// The run that the journal knows, whatever state it is in. `None` when the kill came before its first fact was durable.
pub fn journaled_run(scratch: &Scratch) -> Option<String> {
    let journal = scratch.journal_dir("orders");
    if !journal.exists() {
        return None;
    }
    let finished = scratch.rivet(&["replay", "--journal", &journal.display().to_string(), "--json"]);
    if finished.code() != Some(0) {
        // An empty journal is no error of replay's; a damaged one is ours.
        assert!(!finished.stderr.contains("CORRUPT") && !finished.stderr.contains("TRUNCATED"), "{finished}");
        return None;
    }
    finished.summaries().last().map(run_id)
}

/// Goes on with whatever the killed process left; `killed_at` says where this process is to be killed in its turn.
pub fn go_on(scratch: &Scratch, killed_at: Option<&str>) -> Finished {
    let mut rivet = Rivet::new(scratch);
    if let Some(point) = killed_at {
        rivet = rivet.env("RIVET_FAILPOINTS", format!("{point}=kill"));
    }
    match journaled_run(scratch) {
        Some(run) => rivet.run(&["resume", &run, "-c", "rivet.yaml", "--json"]),
        None => rivet.run(&["run", "-c", "rivet.yaml", "--json"]),
    }
}

pub fn assert_no_half_part(scratch: &Scratch) {
    let Ok(runs) = std::fs::read_dir(scratch.path().join("out")) else { return };
    for run in runs.flatten() {
        files::assert_no_half_part(&run.path());
    }
}

/// After everything: the rows of the server, nothing that was not asked for, and a journal that tells the same story.
pub fn assert_converged(scratch: &Scratch, finished: Finished, expected: &[String]) {
    let replayed = || {
        let journal = scratch.journal_dir("orders").display().to_string();
        scratch.rivet(&["replay", "--journal", &journal, "--json"]).expect_exit(0).summaries()
    };
    let summary = finished.expect_exit(0).summary();
    assert_eq!(summary["status"], "success", "{summary}");
    let run_dir = scratch.run_dir(&run_id(&summary));
    let parts = files::parts(&run_dir);
    let rows = files::rows(&parts);
    assert_eq!(rows.len(), expected.len(), "rows lost or doubled in {}", run_dir.display());
    assert!(rows == expected, "rows changed in {}", run_dir.display());
    assert_only_named(&run_dir, &parts);
    let (once, twice) = (replayed(), replayed());
    assert_eq!(once, twice, "two replays differ");
    let told = once.iter().find(|told| told["run_id"] == summary["run_id"]).expect("the journal knows the run");
    assert_eq!(told, &summary, "the replay tells another story than the live run");
}

/// The run's directory holds the manifest's parts, the manifest and its mark, and what was set aside.
fn assert_only_named(run_dir: &Path, parts: &[PathBuf]) {
    for name in files::tree(run_dir) {
        let named = parts.iter().any(|part| part == &run_dir.join(&name));
        let expected = named || name == "manifest.json" || name == "_SUCCESS" || name.starts_with("_quarantine/");
        assert!(expected, "{name} was left behind in {}", run_dir.display());
    }
}

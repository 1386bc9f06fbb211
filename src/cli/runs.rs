//! `rivet runs`

use super::journals::{self, From, Run};
use super::output::Out;
use super::{errors, figures};
use crate::error::{Error, Exit, Result};
use crate::journal::reader;
use crate::run::RunSummary;
use comfy_table::{Cell, CellAlignment, Table, presets};
use serde::Serialize;
use std::time::Duration;

/// List the runs that the journals know
///
/// Reads a copy of each journal, so it never waits for a run in progress and never disturbs one. A journal that cannot
/// be read hides no other.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  rivet runs                          runs of the configuration in this directory
  rivet runs --state-dir /var/lib/rivet
  rivet runs --json | jq '.runs[] | select(.status == \"failed\") | .run_id'")]
pub struct Args {
    #[command(flatten)]
    from: From,

    /// Print all summaries as one JSON object
    #[arg(long)]
    json: bool,
}

pub fn main(args: &Args, out: &mut Out) -> Result<Exit> {
    let journals = args.from.read()?;
    let journals::AllRuns { runs, problems, unreadable } = journals::runs(&journals);
    let runs = by_time(runs);
    let problems: Vec<(&str, &Error)> =
        problems.into_iter().chain(unreadable.iter().map(|(export, error)| (export.as_str(), error))).collect();
    if args.json {
        out.json(&listed(&runs, &problems))?;
    } else if runs.is_empty() {
        errors::tell("No runs yet.\n");
    } else {
        out.line(&table(&runs).trim_fmt());
    }
    out.flush();
    report(&problems, args.json);
    // What could be read was shown; what could not decides the exit code.
    Ok(problems.first().map_or(Exit::Success, |(_, error)| error.exit()))
}

/// By the time they began, and never against the order of their journal: a clock may have been set back in between.
fn by_time(runs: Vec<Run<'_>>) -> Vec<Run<'_>> {
    let mut timed: Vec<(Option<i64>, Run<'_>)> = Vec::with_capacity(runs.len());
    for run in runs {
        let before =
            timed.last().filter(|(_, last)| std::ptr::eq(last.journal, run.journal)).and_then(|(time, _)| *time);
        timed.push((run.summary.journal.started_ms().max(before), run));
    }
    timed.sort_by_key(|(time, _)| *time);
    timed.into_iter().map(|(_, run)| run).collect()
}

/// Says which journals could not be read.
pub fn report(problems: &[(&str, &Error)], json: bool) {
    if !json {
        for (export, error) in problems {
            errors::tell(&format!("export \"{export}\" cannot be read:\n{}", errors::as_text(error)));
        }
    }
}

/// What the process that works on a run last said about itself. Its journal says the same, later.
#[derive(Debug, Serialize)]
pub struct Progress {
    pub run_id: String,
    pub rows_fetched: u64,
    pub estimated_rows: u64,
    pub slices_completed: u64,
    pub slices: u64,
}

impl Progress {
    pub fn text(&self) -> String {
        let of = if self.estimated_rows > 0 {
            format!(" of about {}", figures::count(self.estimated_rows))
        } else {
            String::new()
        };
        let rows = figures::count(self.rows_fetched);
        format!("{rows}{of} rows; {} of {} done", self.slices_completed, figures::counted(self.slices, "slice"))
    }
}

/// Progress of a live run; `None` when its process has not written any.
pub fn progress(run: &Run<'_>) -> Option<Progress> {
    let status = reader::status(&run.journal.dir).filter(|_| run.live)?;
    let number = |value: &serde_json::Value| value.as_u64().unwrap_or(0);
    let run_id = status["summary"]["run_id"].as_str().filter(|id| *id == run.summary.run_id)?.to_owned();
    // Before the slices are planned there is nothing to tell.
    status["slices"]["total"].as_u64().filter(|slices| *slices > 0)?;
    Some(Progress {
        run_id,
        rows_fetched: number(&status["rows_fetched"]),
        estimated_rows: number(&status["estimated_rows"]),
        slices_completed: number(&status["slices"]["completed"]),
        slices: number(&status["slices"]["total"]),
    })
}

/// What `runs` and `status` print with `--json`.
#[derive(Debug, Serialize)]
pub struct Listed<'a> {
    pub runs: Vec<&'a RunSummary>,
    /// Ids of those that a process works on.
    pub live: Vec<&'a str>,
    /// How far it is with them.
    pub progress: Vec<Progress>,
    /// What is unreadable.
    pub problems: Vec<Problem<'a>>,
}

/// An export whose journal, or a run of whose, cannot be read.
#[derive(Debug, Serialize)]
pub struct Problem<'a> {
    pub export: &'a str,
    pub code: &'a str,
    pub message: &'a str,
    pub hint: &'a str,
}

pub fn listed<'a>(runs: &'a [Run<'_>], problems: &[(&'a str, &'a Error)]) -> Listed<'a> {
    let problem = |(export, error): &(&'a str, &'a Error)| Problem {
        export,
        code: error.code(),
        message: error.what(),
        hint: error.hint(),
    };
    Listed {
        runs: runs.iter().map(|run| &run.summary).collect(),
        live: runs.iter().filter(|run| run.live).map(|run| run.summary.run_id.as_str()).collect(),
        progress: runs.iter().filter_map(progress).collect(),
        problems: problems.iter().map(problem).collect(),
    }
}

/// A run whose process ended without a word is not running.
pub fn status<'a>(run: &'a Run<'_>) -> &'a str {
    match run.summary.status.as_str() {
        "running" if !run.live => "killed",
        status => status,
    }
}

fn table(runs: &[Run<'_>]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["run", "status", "started (UTC)", "rows", "files", "size", "took"]);
    for run in runs {
        let summary = &run.summary;
        let started = summary.journal.started_ms().map_or("-".to_owned(), figures::instant);
        let right = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
        table.add_row([
            Cell::new(errors::single_line(&summary.run_id)),
            Cell::new(status(run)),
            Cell::new(started),
            right(figures::count(u64::try_from(summary.total_rows).unwrap_or(0))),
            right(figures::count(summary.files_committed as u64)),
            right(figures::bytes(summary.bytes_written)),
            right(figures::duration(Duration::from_millis(u64::try_from(summary.duration_ms).unwrap_or(0)))),
        ]);
    }
    table
}

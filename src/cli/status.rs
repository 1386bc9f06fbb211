//! `rivet status`

use super::journals::{self, From, Run};
use super::output::Out;
use super::{errors, runs, summary};
use crate::error::{Error, Exit, Result};

/// Show where a run stands
///
/// Without a run: the latest of each export. Reads a copy of the journal, so it never waits for a run in progress.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  rivet status                                    the latest run of each export
  rivet status orders-01JD3M8Z5W6Q9T7R2K4X1V0YBN
  rivet status --json | jq '.live'")]
pub struct Args {
    /// The run, as `rivet runs` lists it
    run_id: Option<String>,

    #[command(flatten)]
    from: From,

    /// Print the summary as one JSON object
    #[arg(long)]
    json: bool,
}

pub fn main(args: &Args, out: &mut Out) -> Result<Exit> {
    if let Some(run_id) = &args.run_id {
        let journals = args.from.read_for(run_id)?;
        let run = journals::find(&journals, run_id)?;
        show(args, out, &[run], &[])?;
        return Ok(Exit::Success);
    }
    let journals = args.from.read()?;
    let journals::AllRuns { runs: all, problems, unreadable } = journals::runs(&journals);
    let problems: Vec<(&str, &Error)> =
        problems.into_iter().chain(unreadable.iter().map(|(export, error)| (export.as_str(), error))).collect();
    let latest: Vec<Run<'_>> = all.into_iter().filter(Run::is_latest).collect();
    show(args, out, &latest, &problems)?;
    Ok(problems.first().map_or(Exit::Success, |(_, error)| error.exit()))
}

fn show(args: &Args, out: &mut Out, runs: &[Run<'_>], problems: &[(&str, &Error)]) -> Result<()> {
    if args.json {
        return out.json(&runs::listed(runs, problems));
    }
    if runs.is_empty() && problems.is_empty() {
        errors::tell("No runs yet.\n");
    }
    for run in runs {
        let place = &args.from.place;
        let typed =
            summary::Typed { config: place.config.as_deref(), params: &[], state_dir: place.state_dir.as_deref() };
        out.write(&summary::text_of(&run.summary, run.moment(), &typed));
        if let Some(progress) = runs::progress(run) {
            out.line(&format!("  {:<12} {}", "fetched", progress.text()));
        }
        if let Some(note) = &run.journal.note {
            errors::tell(&format!("  {}\n", errors::single_line(note)));
        }
    }
    out.flush();
    runs::report(problems, false);
    Ok(())
}

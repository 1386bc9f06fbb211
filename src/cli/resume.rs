//! `rivet resume`

use super::output::Out;
use super::progress::Style;
use super::state_dir::Place;
use super::{run, summary};
use crate::engine;
use crate::error::{Error, ErrorKind, Exit, Result};
use crate::journal::reader;
use crate::run::event::Event;
use std::path::PathBuf;

/// Go on with a run that was stopped, killed or failed
///
/// Folds the run's journal, keeps every file that is complete and unchanged, and reads what is left. A finished run stays
/// as it is. The configuration that the run was planned with is found through the journal.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  rivet resume orders-01JD3M8Z5W6Q9T7R2K4X1V0YBN
  rivet resume orders-01JD3M8Z5W6Q9T7R2K4X1V0YBN --state-dir /var/lib/rivet
  rivet resume orders-01JD3M8Z5W6Q9T7R2K4X1V0YBN --force    also mend files that were changed afterwards")]
pub struct Args {
    /// The run, as `rivet runs` lists it
    run_id: String,

    #[command(flatten)]
    place: Place,

    /// Fill `${KEY}` in the configuration; goes before the environment
    #[arg(long = "param", value_name = "KEY=VALUE")]
    params: Vec<String>,

    /// Go on although the output of the finished run is no longer what it was
    #[arg(long)]
    force: bool,

    /// Print the summary as one JSON object
    #[arg(long)]
    json: bool,

    /// Show no progress
    #[arg(short = 'q', long)]
    quiet: bool,
}

pub fn main(args: &Args, out: &mut Out) -> Result<Exit> {
    let state_dir = args.place.resolve()?;
    let export = engine::export_of(&args.run_id);
    let config_path = match &args.place.config {
        Some(path) => path.clone(),
        None => journaled_config(&state_dir, export, &args.run_id)?,
    };
    let config = run::load_for(&config_path, export, &args.params, &state_dir).map_err(|error| {
        if args.place.config.is_none() && error.kind() == ErrorKind::ConfigMissing {
            let what = format!("{}, which the journal of {} names", error.what(), args.run_id);
            return Error::new(ErrorKind::ConfigMissing, what).with_hint("Name the file as it is now with `-c FILE`.");
        }
        error
    })?;
    let report = run::watched(Style::choose(args.quiet, args.json), |runtime, notices, stop| {
        engine::resume(runtime, &config, &args.run_id, args.force, notices, stop)
    })?;
    if report.was_complete {
        super::errors::tell("The run is complete; nothing was changed.\n");
    }
    let (config, state_dir) = (args.place.config.as_deref(), args.place.state_dir.as_deref());
    run::show(out, vec![report], args.json, &summary::Typed { config, params: &args.params, state_dir })
}

/// The configuration file that the run was planned with, by its journal.
fn journaled_config(state_dir: &std::path::Path, export: &str, run_id: &str) -> Result<PathBuf> {
    let unknown =
        || Error::new(ErrorKind::RunUnknown, format!("no journal under {} knows {run_id}", state_dir.display()));
    let dir = state_dir.join(export);
    // The id is the user's: it must not lead out of the state directory.
    if !dir.is_dir() || dir.parent() != Some(state_dir) || export.is_empty() {
        return Err(unknown().with_hint("`rivet runs` lists the runs; name their directory with --state-dir."));
    }
    for journal in reader::read(&dir)? {
        for extent in journal.runs() {
            let records = journal.records(extent.run)?;
            if let Some(Event::RunPlanned(planned)) = records.first().map(|recorded| &recorded.event)
                && planned.run_id == run_id
            {
                return Ok(PathBuf::from(&planned.config_path));
            }
        }
    }
    Err(unknown())
}

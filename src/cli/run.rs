//! `rivet run`

use super::output::Out;
use super::progress::{self, Style};
use super::state_dir::CONFIG_FILE;
use super::summary::Typed;
use super::{errors, figures, summary};
use crate::config::{self, Config, LoadOptions};
use crate::engine::notice::Notice;
use crate::engine::{self, ExportReport, RunRequest, Stop};
use crate::error::{Error, ErrorKind, Exit, Result};
use crate::run::RunSummary;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Sender, channel};
use tokio::runtime::Runtime;

const EXAMPLES: &str = "Examples:
  rivet run                                  every export of ./rivet.yaml
  rivet run -c prod.yaml -e orders           one export
  rivet run --param since=2026-01-01         fill `${since}` in the configuration
  rivet run --validate --json > summary.json check the files, keep the summary";

/// For whoever has nothing but the binary.
const CONFIGURATION: &str = "A rivet.yaml to start from:

  source:
    type: postgres
    url_env: DATABASE_URL          # postgres://user:password@host/database
  exports:
    - name: orders
      table: public.orders
      format: parquet
      destination: { type: local, path: ./out }";

/// Run the exports of a configuration
///
/// Reads each export in one snapshot of the database and writes it as Parquet files into a directory of the run, with a
/// manifest that names every file. An unfinished run of the same export is gone on with instead.
///
/// Ctrl-C stops cleanly and prints the command that resumes.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES, after_long_help = format!("{EXAMPLES}\n\n{CONFIGURATION}"))]
pub struct Args {
    /// Configuration file
    #[arg(short = 'c', long = "config", value_name = "FILE", default_value = CONFIG_FILE)]
    config: PathBuf,

    /// Run only this export; may be given more than once
    #[arg(short = 'e', long = "export", value_name = "NAME")]
    exports: Vec<String>,

    /// Fill `${KEY}` in the configuration; goes before the environment
    #[arg(long = "param", value_name = "KEY=VALUE")]
    params: Vec<String>,

    /// Check the published files against their manifest
    #[arg(long)]
    validate: bool,

    /// Start anew even where an unfinished run could be gone on with
    #[arg(long)]
    fresh: bool,

    /// Print the summaries as one JSON object
    #[arg(long)]
    json: bool,

    /// Show no progress
    #[arg(short = 'q', long)]
    quiet: bool,

    /// Keep journals here instead of where the configuration says
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
}

pub fn main(args: &Args, out: &mut Out) -> Result<Exit> {
    let options = LoadOptions {
        params: parse_params(&args.params)?,
        state_dir: args.state_dir.clone(),
        exports: args.exports.clone(),
    };
    let config = config::load(&args.config, &options)?;
    let request = RunRequest { validate: args.validate, fresh: args.fresh };
    let reports = watched(Style::choose(args.quiet, args.json), |runtime, notices, stop| {
        engine::run(runtime, &config, request, notices, stop)
    })?;
    let (config, state_dir) = (Some(args.config.as_path()), args.state_dir.as_deref());
    show(out, reports, args.json, &Typed { config, params: &args.params, state_dir })
}

/// `KEY=VALUE`, several. No message repeats what was given: a value may be a secret, and so may a value without a key.
///
/// # Errors
/// [`ErrorKind::Usage`] for one without `=` or without a key.
pub fn parse_params(given: &[String]) -> Result<BTreeMap<String, String>> {
    let mut params = BTreeMap::new();
    for param in given {
        match param.split_once('=') {
            Some((key, value)) if !key.is_empty() => params.insert(key.to_owned(), value.to_owned()),
            _ => {
                return Err(Error::new(ErrorKind::Usage, "a --param is not KEY=VALUE")
                    .with_hint("Write `--param KEY=VALUE`; quote it where the value holds spaces."));
            }
        };
    }
    Ok(params)
}

/// Lets the engine work while this process's signals ask it to stop and its notices are shown.
pub fn watched<T>(style: Style, work: impl FnOnce(&Runtime, &Sender<Notice>, &Stop) -> T) -> Result<T> {
    let runtime = engine::runtime()?;
    let stop = Stop::default();
    engine::stop::on_signals(runtime.handle(), &stop)?;
    let (sender, receiver) = channel();
    let done = std::thread::scope(|scope| {
        scope.spawn(move || progress::follow(&receiver, style));
        let done = work(&runtime, &sender, &stop);
        // The watcher ends with the last sender.
        drop(sender);
        done
    });
    // A session that hangs in a read must not keep the process from its end.
    runtime.shutdown_background();
    Ok(done)
}

/// Shows how exports ended, and returns the exit code of all of them together.
pub fn show(out: &mut Out, reports: Vec<ExportReport>, json: bool, typed: &Typed<'_>) -> Result<Exit> {
    let summaries: Vec<&RunSummary> = reports.iter().filter_map(|report| report.summary.as_ref()).collect();
    if json {
        summary::json(out, &summaries)?;
    }
    for report in &reports {
        let Some(summary) = report.summary.as_ref().filter(|_| !json) else { continue };
        // That the run once succeeded is not what a refusal to mend it is about.
        if summary.status != "success" || report.error.is_none() {
            out.write(&summary::text(summary, report.error.as_ref(), typed));
        }
    }
    out.flush();
    let (not_begun, begun): (Vec<ExportReport>, Vec<ExportReport>) = reports.into_iter().partition(was_not_begun);
    let begun = begun.into_iter().filter_map(|report| with_command(report, typed));
    let errors: Vec<Error> = begun.chain(interrupted_before(&not_begun)).collect();
    errors.iter().for_each(|error| errors::show(error, json));
    Ok(summary::worst(&errors.iter().collect::<Vec<_>>()))
}

/// A report's error. Where its hint names the command that goes on, that is completed: the engine does not know what was
/// typed.
fn with_command(report: ExportReport, typed: &Typed<'_>) -> Option<Error> {
    let error = report.error?;
    let Some(summary) = report.summary.filter(|summary| !summary.run_id.is_empty()) else { return Some(error) };
    let hint = error.hint().replace(&format!("rivet resume {}", summary.run_id), &typed.resume(&summary.run_id));
    Some(error.with_hint(hint))
}

fn was_not_begun(report: &ExportReport) -> bool {
    report.summary.is_none() && report.error.as_ref().is_some_and(|error| error.kind() == ErrorKind::RunInterrupted)
}

/// One error for all exports that a signal kept from beginning: there is nothing of them to resume.
fn interrupted_before(reports: &[ExportReport]) -> Option<Error> {
    let names: Vec<&str> = reports.iter().map(|report| report.export.as_str()).collect();
    let verb = if names.len() == 1 { "was" } else { "were" };
    let exports = figures::counted(names.len() as u64, "export");
    let what = format!("{exports} {verb} not begun: {}", names.join(", "));
    let hint = format!("Run the same command again, with `-e {}` for what is named alone.", names.join(" -e "));
    (!names.is_empty()).then(|| Error::new(ErrorKind::RunInterrupted, what).with_hint(hint))
}

/// The configuration that a run was planned with, loaded for that one export.
pub fn load_for(path: &Path, export: &str, params: &[String], state_dir: &Path) -> Result<Config> {
    let options = LoadOptions {
        params: parse_params(params)?,
        state_dir: Some(state_dir.to_path_buf()),
        exports: vec![export.to_owned()],
    };
    config::load(path, &options)
}

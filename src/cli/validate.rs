//! `rivet validate`

use super::journals::{self, From};
use super::output::Out;
use super::{errors, figures};
use crate::error::{Error, ErrorKind, Exit, Result};
use crate::run::RunSummary;
use crate::verify::validate::{Depth, ValidationReport, validate};
use std::io;
use std::path::{Path, PathBuf};

/// Check delivered files against their manifest
///
/// `--depth size` looks at the manifest, `_SUCCESS`, and the length of each file. `--depth full` reads every byte:
/// fingerprints, row counts and the checksum of each column, recomputed from the decoded values.
///
/// Needs neither the database nor a configuration.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  rivet validate --prefix out/orders-01JD3M8Z5W6Q9T7R2K4X1V0YBN
  rivet validate orders-01JD3M8Z5W6Q9T7R2K4X1V0YBN --depth full
  rivet validate --prefix /mnt/exports/orders/latest --json")]
pub struct Args {
    /// The run, as `rivet runs` lists it; its journal says where its files are
    #[arg(required_unless_present = "prefix", conflicts_with = "prefix")]
    run_id: Option<String>,

    /// Directory that holds the files and their manifest
    #[arg(long, value_name = "DIR")]
    prefix: Option<PathBuf>,

    /// How closely to look
    #[arg(long, value_enum, default_value_t = HowDeep::Size)]
    depth: HowDeep,

    #[command(flatten)]
    from: From,

    /// Print the report as one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum HowDeep {
    /// Manifest, marker and the length of each file
    Size,
    /// Every byte, for the fingerprint of each file
    Fingerprint,
    /// Every byte and every value
    Full,
}

pub fn main(args: &Args, out: &mut Out) -> Result<Exit> {
    let prefix = match (&args.prefix, &args.run_id) {
        (Some(prefix), _) => prefix_given(prefix)?,
        (None, Some(run_id)) => {
            let journals = args.from.read_for(run_id)?;
            prefix_of(&journals::find(&journals, run_id)?.summary)?
        }
        (None, None) => return Err(Error::new(ErrorKind::Usage, "neither a run nor --prefix is given")),
    };
    let depth = match args.depth {
        HowDeep::Size => Depth::Size,
        HowDeep::Fingerprint => Depth::Fingerprint,
        HowDeep::Full => Depth::Full,
    };
    let report = validate(&prefix, depth)?;
    if args.json {
        out.json(&report)?;
    } else {
        out.write(&text(&prefix.display().to_string(), &report));
    }
    out.flush();
    if report.passed {
        return Ok(Exit::Success);
    }
    let problems = figures::counted(report.findings.len() as u64, "finding");
    let what = match report.legacy_run {
        true => format!("{} has no manifest to validate against", prefix.display()),
        false => format!("{} is not what its manifest says: {problems}", prefix.display()),
    };
    Err(Error::new(ErrorKind::ValidationFailed, what))
}

/// # Errors
/// `Usage` when there is no such directory.
fn prefix_given(prefix: &Path) -> Result<PathBuf> {
    let what = match std::fs::metadata(prefix) {
        Ok(metadata) if !metadata.is_dir() => "is not a directory",
        Err(error) if is_gone(&error) => "does not exist",
        // What else stands in the way is told by whoever lists it.
        _ => return Ok(prefix.to_owned()),
    };
    Err(Error::new(ErrorKind::Usage, format!("{} {what}", prefix.display()))
        .with_hint("Name the directory that holds a run's files and its manifest; `rivet status` shows where that is."))
}

/// Where the run delivered to.
///
/// # Errors
/// `ValidationFailed` when that is gone: the output is not what its manifest says.
fn prefix_of(summary: &RunSummary) -> Result<PathBuf> {
    let prefix = PathBuf::from(&summary.journal.planned().run.prefix);
    match std::fs::metadata(&prefix) {
        Err(error) if is_gone(&error) => {
            let (run_id, place) = (&summary.run_id, prefix.display());
            let what = match summary.status.as_str() {
                "success" => format!("the output of {run_id} is gone: {place} does not exist"),
                status => format!("{run_id} has no output, its status is {status}: {place} does not exist"),
            };
            Err(Error::new(ErrorKind::ValidationFailed, what)
                .with_hint("Put it back from a copy, or export anew with `rivet run --fresh`."))
        }
        _ => Ok(prefix),
    }
}

fn is_gone(error: &io::Error) -> bool {
    // There cannot be one of a name that is too long.
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::InvalidFilename)
}

fn text(prefix: &str, report: &ValidationReport) -> String {
    let depth = if report.depth.name() == "full" { "every byte and value" } else { "sizes" };
    let parts = figures::counted(u64::from(report.parts_checked), "part");
    let verdict = if report.passed { "✓ valid" } else { "✗ not valid" };
    let mut text = format!("{verdict}: {prefix} ({parts}, {}, {depth})\n", figures::counted(report.rows, "row"));
    for finding in &report.findings {
        text.push_str(&format!("  {}\n", errors::single_line(&finding.to_string())));
    }
    for left_out in &report.left_out {
        text.push_str(&format!("  not checked: {}\n", errors::single_line(left_out)));
    }
    for unknown in &report.unknown_files {
        text.push_str(&format!("  not in the manifest: {}\n", errors::single_line(unknown)));
    }
    text
}

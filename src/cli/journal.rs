//! `rivet journal …`

use super::journals::From;
use super::output::Out;
use super::{errors, figures};
use crate::error::{Error, ErrorKind, Exit, Result};
use crate::journal::reader::{self, ExportJournal};
use crate::journal::{Holder, OpenOptions, jsonl, upkeep};
use crate::run::RunState;
use serde_json::json;
use std::path::{Path, PathBuf};

/// Look after journals: verify, export, import, repair, prune
///
/// A journal is one directory for each export, under the state directory. Everything that rivet knows about a run is in
/// there; see docs/adr/0001-journal-on-sled.md.
#[derive(Debug, clap::Args)]
#[command(
    arg_required_else_help = false,
    after_help = "Examples:
  rivet journal verify
  rivet journal export --journal .rivet/orders > orders.jsonl
  rivet journal import orders.jsonl --into /tmp/copy/orders"
)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    Verify(Verify),
    Export(Export),
    Import(Import),
    Repair(Repair),
    Prune(Prune),
}

/// Check every event, the chain that joins them, and that each can follow from those before it
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  rivet journal verify
  rivet journal verify --journal .rivet/orders --trust-log")]
struct Verify {
    #[command(flatten)]
    from: From,

    /// Accept a log whose head is missing, as far as its chain is valid
    #[arg(long)]
    trust_log: bool,

    /// Print the verdicts as one JSON object
    #[arg(long)]
    json: bool,
}

/// Write a journal as JSON lines, which need no engine to read
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  rivet journal export --journal .rivet/orders > orders.jsonl
  rivet journal export -e orders | jq -r .event")]
struct Export {
    #[command(flatten)]
    from: From,

    /// Which export, where the state directory has several
    #[arg(short = 'e', long = "export", value_name = "NAME")]
    export: Option<String>,

    /// Accepted for symmetry: the output is JSON lines anyway
    #[arg(long)]
    json: bool,
}

/// Build a journal from JSON lines: the same events under the same hashes
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  rivet journal import orders.jsonl --into .rivet/orders")]
struct Import {
    /// A file that `rivet journal export` wrote
    file: PathBuf,

    /// The directory to make, named after the export; it must not exist, or be empty
    #[arg(long, value_name = "DIR")]
    into: PathBuf,

    /// Print the verdict as one JSON object
    #[arg(long)]
    json: bool,
}

/// Give up what a damaged journal has lost
///
/// Everything from the first event on that is missing or damaged goes. The directory is copied first, to
/// `+before-repair/` beside it, where no other verb looks. A journal that opens as it is stays as it is. Restoring a
/// backup is better; this is for when there is none.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  rivet journal repair --journal .rivet/orders --accept-loss
  rivet journal repair -e orders --trust-log")]
struct Repair {
    #[command(flatten)]
    from: From,

    /// Which export, where the state directory has several
    #[arg(short = 'e', long = "export", value_name = "NAME")]
    export: Option<String>,

    /// Say that the loss is acceptable; nothing is given up without
    #[arg(long)]
    accept_loss: bool,

    /// Only make a head where it is missing, for a log whose chain is valid to its end; nothing is given up
    #[arg(long, conflicts_with = "accept_loss")]
    trust_log: bool,

    /// Print what was done as one JSON object
    #[arg(long)]
    json: bool,
}

/// Remove all but the latest runs
///
/// The last successful run stays, and so do those after it: its columns are what the next run is compared with. The chain
/// of what is left still verifies, and numbers go on. Delivered files are not touched.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  rivet journal prune --keep 30
  rivet journal prune --journal .rivet/orders --keep 1")]
struct Prune {
    #[command(flatten)]
    from: From,

    /// Which export, where the state directory has several; every export when left out
    #[arg(short = 'e', long = "export", value_name = "NAME")]
    export: Option<String>,

    /// How many runs of each export to keep
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    keep: u32,

    /// Print what was done as one JSON object
    #[arg(long)]
    json: bool,
}

pub fn main(args: &Args, out: &mut Out) -> Result<Exit> {
    match &args.verb {
        Verb::Verify(args) => verify(args, out),
        Verb::Export(args) => export(args, out),
        Verb::Import(args) => import(args, out),
        Verb::Repair(args) => repair(args, out),
        Verb::Prune(args) => prune(args, out),
    }
}

fn verify(args: &Verify, out: &mut Out) -> Result<Exit> {
    let options = OpenOptions { trust_log: args.trust_log };
    let mut journals = args.from.look(|path| reader::read_with(path, options))?;
    let mut failures = Vec::new();
    for journal in &mut journals {
        if let Some(error) = journal.problem.take().or_else(|| check(journal).err()) {
            failures.push((journal.export.clone(), error));
        }
    }
    if args.json {
        let verdicts: Vec<_> = journals.iter().map(|journal| as_json(journal, &failures)).collect();
        out.json(&json!({"journals": verdicts}))?;
    } else {
        for journal in journals.iter().filter(|journal| failures.iter().all(|(export, _)| *export != journal.export)) {
            out.line(&describe(journal));
        }
    }
    out.flush();
    let errors: Vec<Error> =
        failures.into_iter().map(|(export, error)| error.at(format!("export \"{export}\""))).collect();
    errors.iter().for_each(|error| errors::show(error, args.json));
    Ok(super::summary::worst(&errors.iter().collect::<Vec<_>>()))
}

/// Every run folds.
fn check(journal: &ExportJournal) -> Result<()> {
    for extent in journal.runs() {
        RunState::fold(&journal.records(extent.run)?)?;
    }
    Ok(())
}

fn describe(journal: &ExportJournal) -> String {
    let (events, runs) =
        (figures::counted(journal.events(), "event"), figures::counted(journal.runs().len() as u64, "run"));
    let head = journal.head().map(|(seq, hash)| format!(", head {seq} {hash}")).unwrap_or_default();
    let live = journal.live.as_ref().map(|holder| format!(", in use by pid {}", holder.pid)).unwrap_or_default();
    let note = journal.note.as_ref().map(|note| format!("; {}", errors::single_line(note))).unwrap_or_default();
    format!("✓ {}: {events}, {runs}{head}{live}{note}", journal.export)
}

fn as_json(journal: &ExportJournal, failures: &[(String, Error)]) -> serde_json::Value {
    let failure = failures.iter().find(|(export, _)| *export == journal.export);
    json!({
        "export": journal.export,
        "passed": failure.is_none(),
        "events": journal.events(),
        "runs": journal.runs().len(),
        "head_seq": journal.head().map(|(seq, _)| seq),
        "head_hash": journal.head().map(|(_, hash)| hash),
        "note": journal.note,
        "error": failure.map(|(_, error)| errors::as_json(error)["error"].clone()),
    })
}

fn export(args: &Export, out: &mut Out) -> Result<Exit> {
    let mut journals = args.from.read()?;
    if let Some(name) = &args.export {
        journals.retain(|journal| journal.export == *name);
    }
    let names: Vec<String> = journals.iter().map(|journal| journal.export.clone()).collect();
    match journals.as_mut_slice() {
        [] => Err(Error::new(ErrorKind::JournalMissing, "no journal is that of the export that was asked for")),
        [journal] => {
            if let Some(problem) = journal.problem.take() {
                return Err(problem);
            }
            let written = out.with(|stream| jsonl::write(journal, stream));
            written.map(|()| Exit::Success)
        }
        _ => Err(Error::new(ErrorKind::Usage, format!("there are several journals: {}", names.join(", ")))
            .with_hint("Say which one with `--export NAME`.")),
    }
}

fn import(args: &Import, out: &mut Out) -> Result<Exit> {
    let journal = jsonl::import(&args.file, &args.into, &Holder::this_process(""))?;
    if args.json {
        out.json(&json!({"journals": [as_json(&journal, &[])]}))?;
    } else {
        out.line(&format!("{} → {}", describe(&journal), args.into.display()));
    }
    Ok(Exit::Success)
}

/// Directories of journals, damaged ones among them.
fn directories(from: &From, export: Option<&str>) -> Result<Vec<PathBuf>> {
    let found = from.look(reader::directories)?;
    let is_named = found.len() == 1 && from.journal.as_ref() == found.first();
    let asked = |dir: &PathBuf| export.is_none_or(|name| dir.file_name().is_some_and(|own| own == name));
    let asked: Vec<PathBuf> = found.into_iter().filter(|dir| is_named || asked(dir)).collect();
    match (asked.is_empty(), export) {
        (true, Some(name)) => Err(Error::new(ErrorKind::JournalMissing, format!("there is no journal of {name:?}"))
            .with_hint("`rivet runs` shows which exports have run.")),
        _ => Ok(asked),
    }
}

fn repair(args: &Repair, out: &mut Out) -> Result<Exit> {
    let dirs = directories(&args.from, args.export.as_deref())?;
    if !args.accept_loss && !args.trust_log {
        return Err(Error::new(ErrorKind::Usage, "a repair gives up events, and nothing says that this is acceptable")
            .with_hint(
                "Look with `rivet journal verify`; restore a backup if there is one, else add --accept-loss, or --trust-log \
                 where only the head is missing.",
            ));
    }
    let mut done = Vec::new();
    for dir in &dirs {
        let (text, verdict) = if args.trust_log { rebuild_head(dir)? } else { give_up(dir)? };
        if !args.json {
            out.line(&format!("{}: {text}", dir.display()));
        }
        done.push(verdict);
    }
    if args.json {
        out.json(&json!({"journals": done}))?;
    }
    Ok(Exit::Success)
}

/// What was done about one journal, for people and for programs.
fn give_up(dir: &Path) -> Result<(String, serde_json::Value)> {
    let repaired = upkeep::repair_accepting_loss(dir, &Holder::this_process(""))?;
    let text = match &repaired {
        None => "nothing to repair".to_owned(),
        Some(repaired) => format!(
            "ends at event {} now ({}); the directory as it was is in {}",
            repaired.last,
            errors::single_line(&repaired.because),
            repaired.backup.display()
        ),
    };
    let verdict = json!({
        "journal": dir,
        "repaired": repaired.is_some(),
        "last": repaired.as_ref().map(|repaired| repaired.last),
        "acknowledged": repaired.as_ref().and_then(|repaired| repaired.acknowledged),
        "because": repaired.as_ref().map(|repaired| &repaired.because),
        "backup": repaired.as_ref().map(|repaired| &repaired.backup),
    });
    Ok((text, verdict))
}

fn rebuild_head(dir: &Path) -> Result<(String, serde_json::Value)> {
    let last = upkeep::rebuild_head(dir, &Holder::this_process(""))?;
    let because = last.map(|_| "the head was missing or damaged");
    let text = match last {
        None => "nothing to repair".to_owned(),
        Some(last) => format!("has a head again, at event {last}"),
    };
    let verdict = json!({
        "journal": dir,
        "repaired": last.is_some(),
        "last": last,
        "acknowledged": null,
        "because": because,
        "backup": null,
    });
    Ok((text, verdict))
}

fn prune(args: &Prune, out: &mut Out) -> Result<Exit> {
    let mut done = Vec::new();
    for dir in directories(&args.from, args.export.as_deref())? {
        let pruned = upkeep::prune(&dir, args.keep as usize, &Holder::this_process(""))?;
        if !args.json {
            let runs = figures::counted(pruned.runs as u64, "run");
            let events = figures::counted(pruned.events, "event");
            out.line(&format!("{}: {runs} removed ({events}), {} kept", dir.display(), pruned.kept.len()));
        }
        done.push(json!({
            "journal": dir,
            "runs_removed": pruned.runs,
            "events_removed": pruned.events,
            "runs_kept": pruned.kept.len(),
        }));
    }
    if args.json {
        out.json(&json!({"journals": done}))?;
    }
    Ok(Exit::Success)
}

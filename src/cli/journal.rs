//! `rivet journal …`

use super::journals::From;
use super::output::Out;
use super::{errors, figures};
use crate::error::{Error, ErrorKind, Exit, Result};
use crate::journal::reader::{self, ExportJournal};
use crate::journal::{Holder, OpenOptions, jsonl};
use crate::run::RunState;
use serde_json::json;
use std::path::PathBuf;

/// Look after journals: verify, export, import, repair, prune
///
/// A journal is one directory for each export, under the state directory. Everything that rivet knows about a run is in
/// there; see docs/adr/0001-journal-on-sled.md.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  rivet journal verify
  rivet journal export --journal .rivet/orders > orders.jsonl
  rivet journal import orders.jsonl --into /tmp/copy/orders")]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    Verify(Verify),
    Export(Export),
    Import(Import),
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

    /// The directory to make; it must not exist, or be empty
    #[arg(long, value_name = "DIR")]
    into: PathBuf,

    /// Print the verdict as one JSON object
    #[arg(long)]
    json: bool,
}

pub fn main(args: &Args, out: &mut Out) -> Result<Exit> {
    match &args.verb {
        Verb::Verify(args) => verify(args, out),
        Verb::Export(args) => export(args, out),
        Verb::Import(args) => import(args, out),
    }
}

fn verify(args: &Verify, out: &mut Out) -> Result<Exit> {
    let options = OpenOptions { trust_log: args.trust_log };
    let path = match &args.from.journal {
        Some(path) => path.clone(),
        None => args.from.place.resolve()?,
    };
    let mut journals = reader::read_with(&path, options)?;
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

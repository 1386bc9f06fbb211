//! A journal as text: one JSON object a line, readable without any engine.
//!
//! The first line says what follows: format, export, number of events, hash of the last one, and where runs were pruned
//! the anchor. Each further line is one [`Recorded`] with all its fields. The chain is computed from them alone, so a
//! changed, missing or added line is found.

use super::envelope::{self, Header};
use super::head::Mark;
use super::reader::ExportJournal;
use super::recover::{Anchor, Progress, Stop};
use super::store::{Key, Store};
use super::{Holder, Journal, wire};
use crate::error::{Error, ErrorKind, Result};
use crate::run::event::Recorded;
use crate::run::ids::{ChainHash, EventSeq, RunOrdinal};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};

/// No event that fits in an envelope becomes a longer line.
const LINE_LIMIT: u64 = 256 << 10;
const FORMAT: &str = "rivet journal";

#[derive(Serialize, Deserialize)]
struct Heading {
    format: String,
    version: u32,
    export: String,
    events: u64,
    /// Of the last event, or of the anchor when there is none.
    hash: ChainHash,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    anchor: Option<TextAnchor>,
}

#[derive(Serialize, Deserialize)]
struct TextAnchor {
    run: RunOrdinal,
    seq: EventSeq,
    hash: ChainHash,
}

/// Writes a journal as lines.
///
/// # Errors
/// Those of `out`, as they are, so that a closed pipe can be told; and those of reading the journal, inside an
/// [`io::Error`].
pub fn write(journal: &ExportJournal, out: &mut dyn Write) -> io::Result<()> {
    let Anchor { run, mark: Mark { seq, hash } } = journal.anchor;
    let heading = Heading {
        format: FORMAT.into(),
        version: 1,
        export: journal.export.clone(),
        events: journal.events(),
        hash: journal.tip.hash,
        anchor: (run.0 > 0).then_some(TextAnchor { run, seq, hash }),
    };
    line(out, &heading)?;
    for extent in journal.runs() {
        for recorded in journal.records(extent.run).map_err(io::Error::other)? {
            line(out, &recorded)?;
        }
    }
    out.flush()
}

fn line(out: &mut dyn Write, value: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *out, value)?;
    out.write_all(b"\n")
}

/// Reads a file of lines and verifies the chain.
///
/// # Errors
/// `JournalForeign`, `JournalNewer`, `JournalTruncated`, `JournalCorrupt`, each naming the line.
pub fn read(path: &Path) -> Result<ExportJournal> {
    let file = File::open(path).map_err(|error| {
        Error::new(ErrorKind::JournalMissing, format!("{} cannot be read: {error}", path.display())).with_source(error)
    })?;
    parse(&mut BufReader::new(file), path.to_owned()).map_err(|error| error.at(path.display()))
}

/// Builds a journal's directory from a file of lines: the same events under the same hashes.
///
/// # Errors
/// Those of [`read`]; `JournalForeign` when `dir` exists and is not empty, or bears another name than the export.
pub fn import(path: &Path, dir: &Path, holder: &Holder) -> Result<ExportJournal> {
    let journal = read(path)?;
    refuse_another_name(&journal, dir)?;
    refuse_occupied(dir)?;
    // Built beside its place and moved there whole, so that a kill leaves no journal that ends too early.
    let building = beside(dir, "importing")?;
    let io = |error: io::Error| super::disk::unwritable(&building, "cannot be written", error);
    super::disk::remove_directory(&building).map_err(io)?;
    build(&journal, &building, holder)?;
    fs::rename(&building, dir).map_err(io)?;
    if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        super::disk::sync_directory(parent).map_err(io)?;
    }
    Ok(journal)
}

/// Writes everything that `journal` holds into a new journal in `dir`.
pub(super) fn build(journal: &ExportJournal, dir: &Path, holder: &Holder) -> Result<()> {
    Journal::open(dir, holder)?.adopt(journal.anchor, &journal.store, journal.tip)
}

/// A journal's directory bears the name of its export: whoever writes into it finds it by that name.
fn refuse_another_name(journal: &ExportJournal, dir: &Path) -> Result<()> {
    let name = dir.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let mut exports = vec![journal.export.clone()];
    for extent in journal.runs() {
        exports.extend(super::planned_for(&journal.store, *extent)?);
    }
    match exports.into_iter().find(|export| *export != name) {
        None => Ok(()),
        Some(export) => {
            let what = format!(
                "{} holds the journal of export {export:?}, and {} bears another name",
                journal.dir.display(),
                dir.display()
            );
            let hint =
                format!("Import it into a directory whose last part is {export}, such as `--into .rivet/{export}`.");
            Err(Error::new(ErrorKind::JournalForeign, what).with_hint(hint))
        }
    }
}

fn refuse_occupied(dir: &Path) -> Result<()> {
    match fs::read_dir(dir).map(|mut entries| entries.next().is_some()) {
        Ok(true) => Err(Error::new(
            ErrorKind::JournalForeign,
            format!("{} is not empty; a journal is imported into a new directory", dir.display()),
        )
        .with_hint("Name a directory that does not exist yet.")),
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(super::disk::unwritable(dir, "cannot be read", error))
        }
        _ => Ok(()),
    }
}

/// `dir` with a suffix to its name: on the same file system, and nobody's journal.
pub(super) fn beside(dir: &Path, suffix: &str) -> Result<PathBuf> {
    let Some(name) = dir.file_name() else {
        return Err(Error::new(ErrorKind::Usage, format!("{} does not name a directory", dir.display())));
    };
    let mut name = name.to_owned();
    name.push(".");
    name.push(suffix);
    Ok(dir.with_file_name(name))
}

fn parse(input: &mut dyn BufRead, path: PathBuf) -> Result<ExportJournal> {
    let heading = parse_heading(next_line(input, 1)?)?;
    let anchor = match heading.anchor {
        None => Anchor::GENESIS,
        Some(TextAnchor { run, seq, hash }) => {
            if !Anchor::is_possible(run, seq) {
                return Err(corrupt(1, "its anchor names no event"));
            }
            Anchor { run, mark: Mark { seq, hash } }
        }
    };
    let mut journal = ExportJournal::empty(heading.export, path);
    let mut progress = Progress::after(anchor, None);
    let mut number = 1;
    loop {
        number += 1;
        let Some(text) = next_line(input, number)? else { break };
        let recorded: Recorded = serde_json::from_str(&text).map_err(|error| unreadable_line(number, &error))?;
        let (key, value) = seal(&recorded, progress.scan.tip).map_err(|what| corrupt(number, &what))?;
        progress.take(&key.0, &value).map_err(|stop| match stop {
            Stop::Tail(what) => corrupt(number, &what),
            Stop::Refused(error) => error.at(format!("line {number}")),
        })?;
        // The chain just saw that this number is new.
        let _ = journal.store.insert_if_absent(key, &value);
    }
    let scan = progress.scan;
    let have = scan.tip.seq.0 - anchor.mark.seq.0;
    if have < heading.events {
        let what = format!("the file ends after {have} of {} events", heading.events);
        return Err(Error::new(ErrorKind::JournalTruncated, what).with_hint("Export the journal again."));
    }
    if have > heading.events || scan.tip.hash != heading.hash {
        return Err(corrupt(1, "its count or hash is not that of the events that follow"));
    }
    Ok(ExportJournal { anchor, tip: scan.tip, runs: scan.runs, ..journal })
}

fn parse_heading(text: Option<String>) -> Result<Heading> {
    let foreign = || {
        Error::new(ErrorKind::JournalForeign, "the file does not begin like an exported journal")
            .with_hint("Name a file that `rivet journal export` wrote, a journal's directory, or a state directory.")
    };
    let value: serde_json::Value = text.and_then(|text| serde_json::from_str(&text).ok()).ok_or_else(foreign)?;
    if value.get("format").and_then(|format| format.as_str()) != Some(FORMAT) {
        return Err(foreign());
    }
    match value.get("version").and_then(serde_json::Value::as_u64) {
        Some(1) => serde_json::from_value(value).map_err(|error| corrupt(1, &error.to_string())),
        Some(version) if version > 1 => Err(Error::new(
            ErrorKind::JournalNewer,
            format!("the exported journal has version {version}; this version reads version 1"),
        )),
        _ => Err(foreign()),
    }
}

/// The event's key and envelope as the journal would have written them after `previous`. Its own hash must come out.
fn seal(recorded: &Recorded, previous: Mark) -> std::result::Result<(Key, Vec<u8>), String> {
    let payload = wire::encode(&recorded.event).map_err(|wire::TooLarge| "the event is too large".to_owned())?;
    if payload.bytes.len() > envelope::MAX_PAYLOAD {
        return Err("the event is too large".into());
    }
    let &Recorded { run, seq, wall_ms, mono_us, .. } = recorded;
    let (kind, version, previous) = (payload.kind, payload.version, previous.hash);
    let header = Header { kind, version, run, seq, wall_ms, mono_us, previous };
    let (value, hash) = envelope::seal(&header, &payload.bytes);
    if hash != recorded.hash {
        return Err(format!(
            "event {seq} has hash {}, but its contents and those before it give {hash}",
            recorded.hash
        ));
    }
    Ok((Key::new(run, seq), value))
}

/// The next line without its end; `None` after the last one.
fn next_line(input: &mut dyn BufRead, number: u64) -> Result<Option<String>> {
    let mut bytes = Vec::new();
    let read = Read::take(input, LINE_LIMIT).read_until(b'\n', &mut bytes);
    let length = read.map_err(|error| {
        Error::new(ErrorKind::JournalMissing, format!("line {number} cannot be read: {error}")).with_source(error)
    })?;
    if length == 0 {
        return Ok(None);
    }
    if bytes.pop_if(|byte| *byte == b'\n').is_none() && length as u64 == LINE_LIMIT {
        return Err(corrupt(number, "the line is longer than any event"));
    }
    String::from_utf8(bytes).map(Some).map_err(|_| corrupt(number, "the line is not text"))
}

fn unreadable_line(number: u64, error: &serde_json::Error) -> Error {
    if error.is_eof() {
        let what = format!("the file ends within line {number}");
        return Error::new(ErrorKind::JournalTruncated, what).with_hint("Export the journal again.");
    }
    let what = error.to_string();
    if what.contains("unknown variant") {
        let what = format!("line {number} holds what only a later version of rivet knows: {what}");
        return Error::new(ErrorKind::JournalNewer, what);
    }
    corrupt(number, &what)
}

fn corrupt(line: u64, what: &str) -> Error {
    Error::new(ErrorKind::JournalCorrupt, format!("line {line}: {what}")).with_hint("Export the journal again.")
}

//! Verifying, repairing and pruning journals.

use super::disk::{self, Attempt, Paths};
use super::head::{self, Head};
use super::lock::Lock;
use super::memory_store::MemoryStore;
use super::reader::{self, ExportJournal};
use super::recover::{self, Anchor, Decision, Refusal, Scan};
use super::store::{Key, Store};
use super::{Holder, Journal, OpenOptions, Place, Recovery, RunExtent, read_run};
use crate::error::{Error, ErrorKind, Result};
use crate::run::event::{Event, Outcome};
use crate::run::ids::{ChainHash, EventSeq};
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

/// What a verification found, one entry for each export.
#[derive(Debug)]
pub struct VerifyReport {
    pub exports: Vec<Verified>,
}

#[derive(Debug)]
pub struct Verified {
    pub export: String,
    pub dir: PathBuf,
    pub runs: Vec<RunExtent>,
    pub events: u64,
    /// The last event and its chain hash.
    pub head: Option<(EventSeq, ChainHash)>,
    /// The last event that was pruned, when some were.
    pub pruned: Option<EventSeq>,
    pub live: Option<Holder>,
    pub note: Option<String>,
    /// Why the journal is not sound.
    pub problem: Option<Error>,
}

impl VerifyReport {
    /// Whether every journal is sound.
    pub fn passed(&self) -> bool {
        self.exports.iter().all(|export| export.problem.is_none())
    }
}

/// Verifies every event of one journal, of all in a state directory, or of an exported file. Writes nothing.
///
/// # Errors
/// `JournalMissing`. What is wrong with a journal that exists stands in the report.
pub fn verify(path: &Path, options: OpenOptions) -> Result<VerifyReport> {
    let journals = match reader::read_with(path, options) {
        Err(error) if error.kind() == ErrorKind::JournalMissing => return Err(error),
        Err(problem) => {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            vec![ExportJournal { problem: Some(problem), ..ExportJournal::empty(name, path.to_owned()) }]
        }
        Ok(journals) => journals,
    };
    Ok(VerifyReport { exports: journals.into_iter().map(verified).collect() })
}

fn verified(journal: ExportJournal) -> Verified {
    let (head, events) = (journal.head(), journal.events());
    let pruned = (journal.anchor != Anchor::GENESIS).then_some(journal.anchor.mark.seq);
    // The reader verified keys, chain and payloads; reading the runs again is how every other command sees them.
    let unreadable = journal.runs.iter().find_map(|extent| read_run(&journal.store, *extent).err());
    Verified {
        export: journal.export,
        dir: journal.dir,
        runs: journal.runs,
        events,
        head,
        pruned,
        live: journal.live,
        note: journal.note,
        problem: journal.problem.or(unreadable),
    }
}

/// What a repair gave up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repaired {
    /// The journal ends here now.
    pub last: EventSeq,
    /// How far it had been acknowledged, when that was known.
    pub acknowledged: Option<EventSeq>,
    /// What had been wrong.
    pub because: String,
    /// The directory as it was.
    pub backup: PathBuf,
}

/// Gives up what a damaged journal has lost: everything from the first event on that is missing or damaged. The directory
/// is copied before anything is touched.
///
/// Nothing is done, and `None` returned, when the journal opens as it is.
///
/// # Errors
/// `JournalForked` and `JournalUnopenable`, for which there is nothing to keep; `JournalBusy`; I/O errors.
pub fn repair_accepting_loss(dir: &Path, holder: &Holder) -> Result<Option<Repaired>> {
    let paths = Paths::new(dir);
    if disk::check_format(&paths)? == disk::Format::Absent {
        return Err(Error::new(ErrorKind::JournalMissing, format!("{} holds no journal", dir.display())));
    }
    let _lock = Lock::take(&paths.lock(), holder)?;
    disk::put_back_log(&paths)?;
    let backup = backup_place(dir)?;
    let io = |error: io::Error| disk::unwritable(&backup, "cannot be written", error);
    copy_all(dir, &backup).map_err(io)?;

    let head =
        head::read(&paths.head()).map_err(|error| disk::unwritable(&paths.head(), "cannot be read", error))?.mark;
    let (kept, scan) = whole_part(&paths, head)?;
    let refusal = match recover::decide(head, &scan, false) {
        Decision::Refuse(Refusal::Forked { at }) => return Err(Refusal::Forked { at }.into()),
        Decision::Refuse(refusal) => refusal,
        _ => {
            disk::remove_directory(&backup).map_err(io)?;
            // Goes only when there is no other backup in it.
            let _ = backup.parent().map(std::fs::remove_dir);
            return Ok(None);
        }
    };
    disk::wait_for_engine_lock(&paths)?;
    // A kill between the two leaves a journal that is still refused, and repaired by the next attempt.
    disk::replace_log(&paths, scan.anchor, &kept)?;
    Head::create(&paths.head(), scan.tip)
        .and_then(|_| disk::sync_directory(dir))
        .map_err(|error| disk::unwritable(&paths.head(), "cannot be written", error))?;
    // The backup holds what earlier refusals had put there.
    disk::remove_directory(&paths.aside()).map_err(io)?;
    let because = Error::from(refusal).what().to_owned();
    Ok(Some(Repaired { last: scan.tip.seq, acknowledged: head.map(|mark| mark.seq), because, backup }))
}

/// Makes a head for a journal that has none, or whose head is damaged, from a log that the caller trusts: its chain must be
/// valid to its end. Gives nothing up, and cannot know whether events were acknowledged that the log lacks.
///
/// The last event, or `None` when the journal opens as it is.
///
/// # Errors
/// Those of [`Journal::open`], for whatever else is wrong with the journal.
pub fn rebuild_head(dir: &Path, holder: &Holder) -> Result<Option<EventSeq>> {
    let paths = Paths::new(dir);
    if disk::check_format(&paths)? == disk::Format::Absent {
        return Err(Error::new(ErrorKind::JournalMissing, format!("{} holds no journal", dir.display())));
    }
    let journal = Journal::open_with(dir, holder, OpenOptions { trust_log: true })?;
    let mut recovery = journal.recovery();
    while let Recovery::LogRebuilt { then, .. } = recovery {
        recovery = then;
    }
    let Recovery::HeadRebuilt { last } = recovery else { return Ok(None) };
    // What the refusals had kept is the log that is in force again; the next refusal wants the place for its own.
    let found = paths.aside().join("log.found");
    disk::remove_directory(&found).map_err(|error| disk::unwritable(&found, "cannot be removed", error))?;
    Ok(Some(*last))
}

/// What is whole of a log, read from a copy, so that the log itself stays as it is.
fn whole_part(paths: &Paths, head: Option<head::Mark>) -> Result<(MemoryStore, Scan)> {
    let copy = paths.dir.join("log.copy");
    let io = |error: io::Error| disk::unwritable(&copy, "cannot be written", error);
    disk::remove_directory(&copy).map_err(io)?;
    std::fs::create_dir_all(paths.log()).and_then(|()| disk::copy_log(&paths.log(), &copy)).map_err(io)?;
    let whole = match disk::open_log(&copy, head)? {
        Attempt::Opened(store, scan) => reader::load(&store, &scan).map(|kept| (kept, scan)),
        Attempt::Failed(why) => Err(io::Error::other(why)),
    };
    disk::remove_directory(&copy).map_err(io)?;
    whole.map_err(|error| disk::unopenable(&paths.log(), &error.to_string()))
}

/// Where backups lie, beside the journals. No export can have this name, and there is no `FORMAT` in it, so nothing that
/// goes through a state directory takes it for a journal.
const BACKUPS: &str = "+before-repair";

/// `<state_dir>/+before-repair/<export>.1`, or the first number that is free.
fn backup_place(dir: &Path) -> Result<PathBuf> {
    let Some(name) = dir.file_name() else {
        return Err(Error::new(ErrorKind::Usage, format!("{} does not name a directory", dir.display())));
    };
    Ok(disk::free_name(&dir.with_file_name(BACKUPS), &name.to_string_lossy()))
}

/// Copies everything under a journal's directory but the lock.
fn copy_all(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            copy_all(&entry.path(), &to.join(entry.file_name()))?;
        } else if kind.is_file() && entry.file_name() != "LOCK" {
            let copy = to.join(entry.file_name());
            std::fs::copy(entry.path(), &copy)?;
            std::fs::File::open(&copy)?.sync_all()?;
        }
    }
    disk::sync_directory(to)
}

/// What a prune removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pruned {
    pub runs: usize,
    pub events: u64,
    /// Runs that are left.
    pub kept: Vec<RunExtent>,
}

/// Removes all but the last `keep` runs (at least one) and those from the last successful run on, whose columns are what
/// the next run is compared with. In their place stands an anchor with the number and hash of the
/// last event removed, so that the chain of what is left still verifies, and numbers go on.
///
/// # Errors
/// Those of [`Journal::open`].
pub fn prune(dir: &Path, keep: usize, holder: &Holder) -> Result<Pruned> {
    let paths = Paths::new(dir);
    if disk::check_format(&paths)? == disk::Format::Absent {
        return Err(Error::new(ErrorKind::JournalMissing, format!("{} holds no journal", dir.display())));
    }
    let journal = Journal::open(dir, holder)?;
    let counted = journal.runs().len().saturating_sub(keep.max(1));
    let (removed, kept) = journal.runs().split_at(last_success(&journal)?.map_or(counted, |at| at.min(counted)));
    let kept = kept.to_vec();
    let Some(last) = removed.last() else { return Ok(Pruned { runs: 0, events: 0, kept }) };
    let pruned = Pruned { runs: removed.len(), events: last.last.0 - removed[0].first.0 + 1, kept };
    let hash = journal.records(last.run)?.last().map(|recorded| recorded.hash);
    let hash = hash.ok_or_else(|| Error::new(ErrorKind::Internal, format!("run {} has no events", last.run)))?;
    let anchor = Anchor { run: last.run, mark: head::Mark { seq: last.last, hash } };
    let events = kept_events(journal.store.as_ref(), anchor)
        .map_err(|error| disk::unopenable(&paths.log(), &format!("it cannot be read: {error}")))?;
    let Place::Directory { lock: _lock, .. } = journal.close_log() else {
        return Err(Error::new(ErrorKind::Internal, "a journal in memory has nothing to prune"));
    };
    disk::wait_for_engine_lock(&paths)?;
    disk::replace_log(&paths, anchor, &events)?;
    Ok(pruned)
}

/// Index of the last run that ended well.
fn last_success(journal: &Journal) -> Result<Option<usize>> {
    for (at, extent) in journal.runs().iter().enumerate().rev() {
        let last = journal.records(extent.run)?.pop();
        if let Some(Event::RunFinished(finished)) = last.map(|recorded| recorded.event)
            && finished.outcome == Outcome::Success
        {
            return Ok(Some(at));
        }
    }
    Ok(None)
}

fn kept_events(store: &dyn Store, anchor: Anchor) -> io::Result<MemoryStore> {
    let mut memory = MemoryStore::default();
    store.scan(&recover::first_key_kept(anchor).0, None, &mut |key, value| {
        // The journal was verified when it was opened: these are keys, each once.
        let _ = key.try_into().map(|key| memory.insert_if_absent(Key(key), value));
        ControlFlow::Continue(())
    })?;
    Ok(memory)
}

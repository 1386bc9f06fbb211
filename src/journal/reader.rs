//! For commands that look and do not write: they never open a live store, never wait, and need no right to write.
//!
//! A directory is copied and the copy is opened, because opening changes a store and only one process may have it open.
//! The copy is verified against the head, which was read first: whatever the head names was on the medium before the
//! copying began. While a writer works, a copy can come out torn; then it is taken again.

use super::disk::{self, Attempt, Paths};
use super::head::{self, Mark, Witness};
use super::lock::{self, Holder};
use super::memory_store::MemoryStore;
use super::recover::{self, Anchor, Decision, Refusal, Scan};
use super::sled_store;
use super::store::{Key, Store};
use super::{OpenOptions, RunExtent};
use crate::error::{Error, ErrorKind, Result};
use crate::run::event::Recorded;
use crate::run::ids::{ChainHash, EventSeq, RunOrdinal};
use std::fs;
use std::io::{self, Read};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

/// Copies that are taken of a journal before the best of them has to do.
const COPIES: usize = 6;
const STATUS_LIMIT: u64 = 1 << 20;

/// A verified copy of one export's journal, in memory.
pub struct ExportJournal {
    /// The directory's name, or the one that an exported file says.
    pub export: String,
    /// The journal's directory, or the exported file.
    pub dir: PathBuf,
    /// Who is writing at this moment.
    pub live: Option<Holder>,
    /// What a person should know about this copy.
    pub note: Option<String>,
    /// Why there is nothing to read. Only in a state directory, where one export does not hide the others.
    pub problem: Option<Error>,
    pub(super) anchor: Anchor,
    pub(super) tip: Mark,
    pub(super) runs: Vec<RunExtent>,
    pub(super) store: MemoryStore,
}

impl ExportJournal {
    pub(super) fn empty(export: String, dir: PathBuf) -> ExportJournal {
        ExportJournal {
            export,
            dir,
            live: None,
            note: None,
            problem: None,
            anchor: Anchor::GENESIS,
            tip: Mark::GENESIS,
            runs: Vec::new(),
            store: MemoryStore::default(),
        }
    }

    /// Runs in order.
    pub fn runs(&self) -> &[RunExtent] {
        &self.runs
    }

    pub fn last_run(&self) -> Option<RunOrdinal> {
        self.runs.last().map(|extent| extent.run)
    }

    /// Events of a run, in order.
    ///
    /// # Errors
    /// `RunUnknown`.
    pub fn records(&self, run: RunOrdinal) -> Result<Vec<Recorded>> {
        let extent = self.runs.iter().find(|extent| extent.run == run);
        let extent = extent
            .ok_or_else(|| Error::new(ErrorKind::RunUnknown, format!("export {:?} has no run {run}", self.export)))?;
        super::read_run(&self.store, *extent)
    }

    /// The last event and its chain hash; `None` before the first.
    pub fn head(&self) -> Option<(EventSeq, ChainHash)> {
        (self.tip.seq.0 > 0).then_some((self.tip.seq, self.tip.hash))
    }

    /// How many events the copy holds, without those that were pruned.
    pub fn events(&self) -> u64 {
        self.tip.seq.0 - self.anchor.mark.seq.0
    }
}

/// Reads the journal of one export, all journals of a state directory, or a file that `rivet journal export` wrote.
///
/// # Errors
/// `JournalMissing` when there is none, `JournalUnopenable` when nobody can tell. The errors of [`super::Journal::open`] when `path` names one journal; in a state
/// directory they stand in [`ExportJournal::problem`].
pub fn read(path: &Path) -> Result<Vec<ExportJournal>> {
    read_with(path, OpenOptions::default())
}

/// [`read`] with options.
pub fn read_with(path: &Path, options: OpenOptions) -> Result<Vec<ExportJournal>> {
    match find(path)? {
        Found::Text => Ok(vec![super::jsonl::read(path)?]),
        Found::Journal => Ok(vec![read_directory(path, options)?]),
        Found::StateDirectory(dirs) => Ok(dirs
            .into_iter()
            .map(|dir| {
                read_directory(&dir, options).unwrap_or_else(|problem| {
                    let live = lock::holder(&Paths::new(&dir).lock());
                    let nothing = ExportJournal::empty(export_name(&dir), dir);
                    ExportJournal { problem: Some(problem), live, ..nothing }
                })
            })
            .collect()),
    }
}

/// What the live writer, or the last one, said about itself. `None` when there is nothing that can be read.
pub fn status(dir: &Path) -> Option<serde_json::Value> {
    let mut text = String::new();
    fs::File::open(Paths::new(dir).status()).ok()?.take(STATUS_LIMIT).read_to_string(&mut text).ok()?;
    serde_json::from_str(&text).ok()
}

/// Who holds the journal in `dir` at this moment.
pub fn holder(dir: &Path) -> Option<Holder> {
    lock::holder(&Paths::new(dir).lock())
}

/// Whether the directory is one journal's, as opposed to a directory of several.
///
/// # Errors
/// Nobody can tell: the directory may not be entered.
pub fn is_journal(dir: &Path) -> io::Result<bool> {
    match Paths::new(dir).format().try_exists() {
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => Ok(false),
        told => told,
    }
}

/// The journals under `path`: itself, or those in it when it is a state directory. One that may not be entered is among
/// them: what cannot be read must not pass for what is not there.
///
/// # Errors
/// `JournalUnopenable` when nobody can tell, `JournalMissing` when there is none.
pub fn directories(path: &Path) -> Result<Vec<PathBuf>> {
    match find(path)? {
        Found::Text => Err(missing(path, "is a file, and not a journal's directory")),
        Found::Journal => Ok(vec![path.to_owned()]),
        Found::StateDirectory(dirs) => Ok(dirs),
    }
}

enum Found {
    Text,
    Journal,
    StateDirectory(Vec<PathBuf>),
}

fn find(path: &Path) -> Result<Found> {
    let metadata = fs::metadata(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => missing(path, "does not exist"),
        io::ErrorKind::PermissionDenied => unreadable(path, error),
        _ => missing(path, &format!("cannot be read: {error}")).with_source(error),
    })?;
    if metadata.is_file() {
        return Ok(Found::Text);
    }
    if is_journal(path).map_err(|error| unreadable(path, error))? {
        return Ok(Found::Journal);
    }
    let mut dirs = Vec::new();
    for entry in fs::read_dir(path).map_err(|error| unreadable(path, error))? {
        let dir = entry.map_err(|error| unreadable(path, error))?.path();
        if is_journal(&dir).unwrap_or_else(|_| may_be_an_exports(&dir)) {
            dirs.push(dir);
        }
    }
    dirs.sort();
    if dirs.is_empty() {
        return Err(missing(path, "holds no journal"));
    }
    Ok(Found::StateDirectory(dirs))
}

fn missing(path: &Path, what: &str) -> Error {
    Error::new(ErrorKind::JournalMissing, format!("{} {what}", path.display()))
}

/// No export's name has a `+` in it, as `lost+found` has, and what a repair put aside.
fn may_be_an_exports(dir: &Path) -> bool {
    dir.file_name().is_some_and(|name| !name.to_string_lossy().contains('+'))
}

fn export_name(dir: &Path) -> String {
    let name = dir.file_name().map(|name| name.to_string_lossy().into_owned());
    // A path such as `.` has no name of its own.
    name.or_else(|| Some(dir.canonicalize().ok()?.file_name()?.to_string_lossy().into_owned())).unwrap_or_default()
}

fn read_directory(dir: &Path, options: OpenOptions) -> Result<ExportJournal> {
    let paths = Paths::new(dir);
    disk::check_format(&paths).map_err(|error| match error.kind() {
        // Nobody wanted to write.
        ErrorKind::JournalUnwritable => {
            Error::new(ErrorKind::JournalUnopenable, error.what()).with_hint(UNREADABLE_HINT)
        }
        _ => error,
    })?;
    let mut copies = 0;
    loop {
        copies += 1;
        let live = lock::holder(&paths.lock());
        let copy = match Copy::take(&paths) {
            Ok(copy) => copy,
            // The writer may have moved a file between listing and reading it.
            Err(_) if live.is_some() && copies < COPIES => continue,
            Err(error) => return Err(error),
        };
        let last = copies == COPIES;
        match copy.read(&paths, options, live.is_some()) {
            Ok(Reading::Whole(journal)) => return Ok(ExportJournal { live, ..journal }),
            Ok(Reading::Short(journal, _)) if last && live.is_some() => return Ok(ExportJournal { live, ..journal }),
            Ok(Reading::Short(_, refusal)) if live.is_none() && copies > 1 => {
                return Err(Error::from(refusal).at(dir.display()));
            }
            Ok(Reading::Short(..)) => {}
            Err(error) if live.is_none() || last => return Err(error.at(dir.display())),
            Err(_) => {}
        }
    }
}

/// A copy of a journal's files in a directory of its own, which goes with it.
struct Copy {
    witness: Witness,
    /// `None` when the journal has no log yet.
    log: Option<TempDirectory>,
}

enum Reading {
    Whole(ExportJournal),
    /// The copy lacks events that the head names. Torn by a writer at work, or damage.
    Short(ExportJournal, Refusal),
}

impl Copy {
    fn take(paths: &Paths) -> Result<Copy> {
        let witness = head::read(&paths.head()).map_err(|error| unreadable(&paths.head(), error))?;
        let found = disk::whereabouts(paths).map_err(|error| unreadable(&paths.log(), error))?;
        let data = sled_store::data_file(&found);
        // A log that may not be looked into is not one that is gone.
        if !data.try_exists().map_err(|error| unreadable(&data, error))? {
            return Ok(Copy { witness, log: None });
        }
        let log = TempDirectory::create()?;
        disk::copy_log(&found, &log.path)
            .and_then(|()| crate::failpoint::hit("reader.copied"))
            .map_err(|error| unreadable(&found, error))?;
        Ok(Copy { witness, log: Some(log) })
    }

    fn read(self, paths: &Paths, options: OpenOptions, live: bool) -> Result<Reading> {
        let head = self.witness.mark;
        let (store, scan) = match &self.log {
            None => (MemoryStore::default(), recover::Progress::after(Anchor::GENESIS, head).scan),
            Some(log) => {
                let (store, scan) = match disk::open_log(&log.path, head)? {
                    Attempt::Opened(store, scan) => (store, scan),
                    Attempt::Failed(why) => return Err(disk::unopenable(&paths.log(), &why)),
                };
                let memory = load(&store, &scan).map_err(|error| unreadable(&paths.log(), error))?;
                (memory, scan)
            }
        };
        let decision = recover::decide(head, &scan, options.trust_log);
        let last = scan.tip.seq;
        let mut short = None;
        let note = match decision {
            Decision::Start | Decision::Go => None,
            // What a writer has not acknowledged yet is nothing to remark on.
            Decision::AcceptGap | Decision::DropTail { .. } if live => None,
            Decision::AcceptGap => {
                let first = head.map_or(0, |head| head.seq.0) + 1;
                Some(format!("events {first} to {last} are whole, though the last writer did not acknowledge them"))
            }
            Decision::DropTail { what, .. } => {
                Some(format!("what follows event {last} was never acknowledged, is torn and is left out ({what})"))
            }
            Decision::RebuildHead => {
                Some("the head is missing; the log was trusted as far as its chain is valid".to_owned())
            }
            Decision::Refuse(refusal @ (Refusal::Truncated { .. } | Refusal::Damaged { .. })) => {
                short = Some(refusal);
                Some(format!("the writer is ahead of this copy, which ends at event {last}"))
            }
            Decision::Refuse(refusal) => return Err(refusal.into()),
        };
        let journal = ExportJournal {
            note,
            anchor: scan.anchor,
            tip: scan.tip,
            runs: scan.runs,
            store,
            ..ExportJournal::empty(export_name(&paths.dir), paths.dir.clone())
        };
        Ok(match short {
            None => Reading::Whole(journal),
            Some(refusal) => Reading::Short(journal, refusal),
        })
    }
}

/// Everything that the scan found whole, in memory.
pub(super) fn load(store: &dyn Store, scan: &Scan) -> io::Result<MemoryStore> {
    let mut memory = MemoryStore::default();
    let Some(last) = scan.runs.last() else { return Ok(memory) };
    let first = recover::first_key_kept(scan.anchor);
    store.scan(&first.0, Some(&Key::new(last.run, last.last.next()).0), &mut |key, value| {
        // A store has each key once, and the scan saw that these are keys.
        let _ = key.try_into().map(|key| memory.insert_if_absent(Key(key), value));
        ControlFlow::Continue(())
    })?;
    Ok(memory)
}

const UNREADABLE_HINT: &str = "Check the permissions of the state directory, or run as the user who exports.";

fn unreadable(path: &Path, error: io::Error) -> Error {
    Error::new(ErrorKind::JournalUnopenable, format!("{} cannot be read: {error}", path.display()))
        .with_hint(UNREADABLE_HINT)
        .with_source(error)
}

/// A directory that only we can enter, removed when it is no longer needed. A reader that is killed leaves it, and the
/// next reader of the same user sweeps it away.
struct TempDirectory {
    path: PathBuf,
    /// Locked for as long as we live, however we end.
    _held: fs::File,
}

const COPY_PREFIX: &str = "rivet-journal-";

impl TempDirectory {
    fn create() -> Result<TempDirectory> {
        use std::os::unix::fs::DirBuilderExt;
        static SWEPT: std::sync::Once = std::sync::Once::new();
        let base = std::env::temp_dir();
        SWEPT.call_once(|| sweep(&base));
        let path = base.join(format!("{COPY_PREFIX}{}-{:016x}", std::process::id(), fastrand::u64(..)));
        let made = fs::DirBuilder::new().mode(0o700).create(&path).and_then(|()| {
            let held = fs::File::open(&path)?;
            rustix::fs::flock(&held, rustix::fs::FlockOperation::NonBlockingLockExclusive)?;
            Ok(held)
        });
        match made {
            Ok(held) => Ok(TempDirectory { path, _held: held }),
            Err(error) => {
                // Nothing is in it yet.
                let _ = fs::remove_dir(&path);
                Err(disk::unwritable(&path, "cannot be created", error)
                    .with_hint("Journals are read from a copy; set TMPDIR to a directory that can be written."))
            }
        }
    }
}

impl Drop for TempDirectory {
    fn drop(&mut self) {
        // What cannot be removed now, the next reader removes.
        let _ = disk::remove_directory(&self.path);
    }
}

/// Removes the copies of readers that ended before they could. Whoever made one is gone when the process of that number
/// is, and, should the number be one of another container that shares the directory, when nobody holds the lock.
fn sweep(base: &Path) {
    let Ok(entries) = fs::read_dir(base) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.strip_prefix(COPY_PREFIX)?.split_once('-')?.0.parse().ok());
        if pid.is_none_or(lock::is_alive) || !is_abandoned(&entry.path()) {
            continue;
        }
        // Of another user, or gone already: not ours to see to.
        let _ = disk::remove_directory(&entry.path());
    }
}

fn is_abandoned(dir: &Path) -> bool {
    let is_directory = fs::symlink_metadata(dir).is_ok_and(|metadata| metadata.is_dir());
    let Some(held) = fs::File::open(dir).ok().filter(|_| is_directory) else { return false };
    rustix::fs::flock(&held, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_ok()
}

//! The directory of one export's journal, and the way from a path to an opened, verified store.
//!
//! ```text
//! <state_dir>/<export>/
//!   FORMAT        `rivet journal 1`, checked before anything else
//!   LOCK          held by the one writer
//!   log/          the store
//!   head          what was acknowledged
//!   status.json   a convenience for readers of a live run
//!   aside/        what recovery moved out of the way
//!   log.*         copies that an open or a repair is working on
//! <state_dir>/+before-repair/<export>.1   a journal as it was before a repair
//! ```

use super::contained::{Ended, bounded};
use super::head::{self, Head, Mark, Witness};
use super::recover::{self, Recovery, Scan};
use super::sled_store::{self, OpenError, SledStore};
use super::store::Store;
use crate::error::{Error, ErrorKind, Exit, Result, is_system_limit};
use rustix::fs::FlockOperation;
use rustix::io::Errno;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What `FORMAT` says in this version.
pub const FORMAT: &str = "rivet journal 1\n";
const FORMAT_PREFIX: &str = "rivet journal ";
/// Longer than any version's `FORMAT`.
const FORMAT_LIMIT: u64 = 64;

/// Opening and verifying a log takes milliseconds; a minute means that the engine waits for something that is gone.
const OPEN_LIMIT: Duration = Duration::from_secs(60);
/// sled gives its lock back on a thread of its own, a moment after it was dropped.
const ENGINE_LOCK_LIMIT: Duration = Duration::from_secs(5);
const ENGINE_LOCK_POLL: Duration = Duration::from_millis(5);

#[derive(Debug, Clone)]
pub struct Paths {
    pub dir: PathBuf,
}

impl Paths {
    pub fn new(dir: &Path) -> Paths {
        Paths { dir: dir.to_owned() }
    }
    pub fn format(&self) -> PathBuf {
        self.dir.join("FORMAT")
    }
    pub fn lock(&self) -> PathBuf {
        self.dir.join("LOCK")
    }
    pub fn log(&self) -> PathBuf {
        self.dir.join("log")
    }
    pub fn head(&self) -> PathBuf {
        self.dir.join("head")
    }
    pub fn status(&self) -> PathBuf {
        self.dir.join("status.json")
    }
    pub fn aside(&self) -> PathBuf {
        self.dir.join("aside")
    }
    /// A copy of the log that is being tried.
    fn retry(&self) -> PathBuf {
        self.dir.join("log.retry")
    }
}

/// What `FORMAT` says about a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Empty, or missing: a journal may be made here.
    Absent,
    Current,
}

/// Reads `FORMAT`. Writes nothing.
///
/// # Errors
/// `JournalNewer` for another number, `JournalForeign` for anything else that is not a journal's directory.
pub fn check_format(paths: &Paths) -> Result<Format> {
    let foreign = |what: String| Error::new(ErrorKind::JournalForeign, what);
    let file = match File::open(paths.format()) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return check_empty(paths),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            return Err(foreign(format!("{} is not a directory", paths.dir.display())));
        }
        Err(error) => return Err(unwritable(&paths.format(), "cannot be read", error)),
    };
    let mut bytes = Vec::new();
    io::Read::read_to_end(&mut io::Read::take(file, FORMAT_LIMIT), &mut bytes)
        .map_err(|error| unwritable(&paths.format(), "cannot be read", error))?;
    if bytes == FORMAT.as_bytes() {
        return Ok(Format::Current);
    }
    let number = std::str::from_utf8(&bytes).ok().and_then(|text| text.strip_prefix(FORMAT_PREFIX)).map(str::trim_end);
    match number.and_then(|number| number.parse::<u32>().ok()) {
        Some(number) if number > 1 => Err(Error::new(
            ErrorKind::JournalNewer,
            format!("the journal {} has format {number}; this version reads format 1", paths.dir.display()),
        )),
        _ => Err(foreign(format!("{} does not say that this is a journal of rivet", paths.format().display()))),
    }
}

/// Without a `FORMAT`, only what a kill leaves in the first moments may be there.
fn check_empty(paths: &Paths) -> Result<Format> {
    let entries = match fs::read_dir(&paths.dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Format::Absent),
        Err(error) => return Err(unwritable(&paths.dir, "cannot be read", error)),
    };
    for entry in entries {
        let name = entry.map_err(|error| unwritable(&paths.dir, "cannot be read", error))?.file_name();
        if name != "LOCK" && name != "FORMAT.new" {
            return Err(Error::new(
                ErrorKind::JournalForeign,
                format!("{} holds {} and no FORMAT", paths.dir.display(), name.to_string_lossy()),
            ));
        }
    }
    Ok(Format::Absent)
}

/// Creates the directory and those above it, durably.
pub fn create_directory(dir: &Path) -> Result<()> {
    if !dir.is_dir() {
        fs::create_dir_all(dir).map_err(|error| unwritable(dir, "cannot be created", error))?;
        for above in dir.ancestors().skip(1).filter(|above| !above.as_os_str().is_empty()).take(3) {
            // A directory that may be entered but not read cannot be synced by us; its owner made it durable.
            let _ = sync_directory(above);
        }
    }
    Ok(())
}

pub fn write_format(paths: &Paths) -> Result<()> {
    replace_file(&paths.format(), FORMAT.as_bytes(), true)
        .and_then(|()| sync_directory(&paths.dir))
        .map_err(|error| unwritable(&paths.format(), "cannot be written", error))
}

/// Puts `bytes` under `path` in one step; a reader sees the old file or the new one.
pub fn replace_file(path: &Path, bytes: &[u8], durable: bool) -> io::Result<()> {
    let fresh = path.with_extension("new");
    let mut file = File::create(&fresh)?;
    io::Write::write_all(&mut file, bytes)?;
    if durable {
        file.sync_all()?;
    }
    fs::rename(&fresh, path)
}

pub fn sync_directory(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// A journal's store, ready for appends.
pub struct Opened {
    pub store: SledStore,
    pub head: Head,
    pub scan: Scan,
    pub recovery: Recovery,
}

/// Opens and verifies the log under the lock that the caller holds, and applies the recovery table.
pub fn open(paths: &Paths, trust_log: bool) -> Result<Opened> {
    let witness = head::read(&paths.head()).map_err(|error| unwritable(&paths.head(), "cannot be read", error))?;
    put_back_log(paths)?;
    refuse_missing_log(paths, &witness)?;
    wait_for_engine_lock(paths)?;
    move_unfinished_aside(paths)?;
    let found = Found::keep(paths)?;
    let opened = open_kept(paths, &witness, trust_log);
    found.settle(paths, opened)
}

fn open_kept(paths: &Paths, witness: &Witness, trust_log: bool) -> Result<Opened> {
    let (mut store, scan, rebuilt) = match open_log(&paths.log(), witness.mark)? {
        Attempt::Opened(store, scan) => (store, scan, None),
        Attempt::Failed(because) => {
            let (store, scan) = open_rebuilt(paths, witness, &because)?;
            (store, scan, Some(because))
        }
    };
    hit("journal.open.verified", paths)?;
    let decision = recover::decide(witness.mark, &scan, trust_log);
    let (recovery, rewrite) =
        recover::apply(decision, witness.mark, &scan, &mut store).map_err(|error| error.at(paths.dir.display()))?;
    let head = settle_head(paths, witness, scan.tip, rewrite)
        .map_err(|error| unwritable(&paths.head(), "cannot be written", error))?;
    hit("journal.open.settled", paths)?;
    for dir in [&paths.log(), &paths.dir] {
        sync_directory(dir).map_err(|error| unwritable(dir, "cannot be synced", error))?;
    }
    let recovery = match rebuilt {
        Some(because) => Recovery::LogRebuilt { because, then: Box::new(recovery) },
        None => recovery,
    };
    Ok(Opened { store, head, scan, recovery })
}

/// Opening overwrites what the engine takes for a torn tail, and it takes a read that failed for one, too. So that a refusal
/// does not destroy what it speaks of, the log is copied before, as long as that costs next to nothing.
struct Found {
    copy: Option<PathBuf>,
}

/// Larger logs are opened without a copy.
const COPIED_UP_TO: u64 = 16 << 20;

impl Found {
    fn keep(paths: &Paths) -> Result<Found> {
        let copy = paths.dir.join("log.found");
        let io = |error| unwritable(&copy, "cannot be written", error);
        remove_directory(&copy).map_err(io)?;
        let data = sled_store::data_file(&paths.log());
        let Ok(size) = fs::metadata(&data).map(|data| data.len()) else { return Ok(Found { copy: None }) };
        if size > COPIED_UP_TO {
            // A disk that cannot read it says so here, and not to the engine.
            let read = File::open(&data).and_then(|mut data| io::copy(&mut data, &mut io::sink()));
            read.map_err(|error| unwritable(&data, "cannot be read", error))?;
            return Ok(Found { copy: None });
        }
        copy_log(&paths.log(), &copy).map_err(io)?;
        Ok(Found { copy: Some(copy) })
    }

    /// Removes the copy of a log that was opened. One that was not opened is put back as it was found; when it was refused,
    /// the copy is kept as well, and the error says where.
    fn settle(self, paths: &Paths, opened: Result<Opened>) -> Result<Opened> {
        let Some(copy) = self.copy else { return opened };
        let io = |error| unwritable(&copy, "cannot be put back", error);
        let mut error = match opened {
            Err(error) if error.exit() != Exit::Busy => error,
            opened => {
                remove_directory(&copy).map_err(io)?;
                return opened;
            }
        };
        put_back_found(paths, &copy).map_err(io)?;
        let kept = paths.aside().join("log.found");
        if error.exit() == Exit::Protected {
            let hint = format!("{} The log as it was found is kept in {}.", error.hint(), kept.display());
            error = error.with_hint(hint);
            if !kept.exists() {
                if !copy.exists() {
                    copy_log(&paths.log(), &copy).map_err(io)?;
                }
                fs::create_dir_all(paths.aside()).and_then(|()| fs::rename(&copy, &kept)).map_err(io)?;
            }
        }
        remove_directory(&copy).map_err(io)?;
        Err(error)
    }
}

/// Lets the copy of a log take its place, where the engine has changed it.
fn put_back_found(paths: &Paths, copy: &Path) -> io::Result<()> {
    let data = |log: &Path| fs::read(sled_store::data_file(log));
    if data(&paths.log()).is_ok_and(|log| data(copy).is_ok_and(|found| log == found)) {
        return Ok(());
    }
    let old = paths.dir.join("log.old");
    for leftover in [&paths.retry(), &old] {
        remove_directory(leftover)?;
    }
    fs::rename(copy, paths.retry())?;
    exchange_log(paths, &old)?;
    remove_directory(&old)
}

fn hit(point: &str, paths: &Paths) -> Result<()> {
    crate::failpoint::hit(point).map_err(|error| unwritable(&paths.dir, "cannot be opened", error))
}

fn settle_head(paths: &Paths, witness: &Witness, tip: Mark, rewrite: bool) -> io::Result<Head> {
    if witness.mark.is_none() {
        return Head::create(&paths.head(), tip);
    }
    let mut head = Head::open(&paths.head(), witness)?;
    if rewrite {
        head.write(tip)?;
    }
    Ok(head)
}

/// sled would make a new, empty log where one is missing, and hide what happened.
fn refuse_missing_log(paths: &Paths, witness: &Witness) -> Result<()> {
    let data = sled_store::data_file(&paths.log());
    // A log that may not be looked into is not one that is gone.
    let is_there = data.try_exists().map_err(|error| unwritable(&data, "cannot be read", error))?;
    match witness.mark {
        Some(mark) if mark.seq.0 > 0 && !is_there => {
            let refusal = recover::Refusal::Truncated { have: crate::run::ids::EventSeq(0), want: mark.seq };
            Err(Error::from(refusal).at(paths.dir.display()))
        }
        _ => Ok(()),
    }
}

/// Two writers can hold two files of the name LOCK, when somebody removed the first. The engine's own lock on its data
/// file then keeps the second one out.
pub fn wait_for_engine_lock(paths: &Paths) -> Result<()> {
    wait_for_engine_lock_of(&sled_store::data_file(&paths.log()), &paths.dir)
}

fn wait_for_engine_lock_of(data: &Path, dir: &Path) -> Result<()> {
    let Ok(data) = File::open(data) else { return Ok(()) };
    let began = Instant::now();
    while rustix::fs::flock(&data, FlockOperation::NonBlockingLockExclusive).is_err() {
        if began.elapsed() > ENGINE_LOCK_LIMIT {
            return Err(engine_busy(dir));
        }
        std::thread::sleep(ENGINE_LOCK_POLL);
    }
    Ok(())
}

fn engine_busy(dir: &Path) -> Error {
    Error::new(ErrorKind::JournalBusy, format!("the journal {} is held by another process", dir.display()))
}

pub enum Attempt {
    Opened(SledStore, Scan),
    /// The engine could not open the directory. Why, in a few words.
    Failed(String),
}

/// Opens and scans on a thread of its own, within bounds.
pub fn open_log(log: &Path, head: Option<Mark>) -> Result<Attempt> {
    let path = log.to_owned();
    let work = move || -> Result<Result<(SledStore, Scan), OpenError>> {
        let store = match SledStore::open(&path) {
            Ok(store) => store,
            Err(error) => return Ok(Err(error)),
        };
        let scan = recover::scan(&store, head)?;
        Ok(Ok((store, scan)))
    };
    match bounded(OPEN_LIMIT, work) {
        Ok(Ok(Ok((store, scan)))) => Ok(Attempt::Opened(store, scan)),
        Ok(Ok(Err(OpenError::Locked))) => Err(engine_busy(log)),
        Ok(Ok(Err(OpenError::Failed(error)))) if refused_by_system(&error) => {
            Err(unwritable(log, "cannot be opened", error))
        }
        Ok(Ok(Err(OpenError::Failed(error)))) => Ok(Attempt::Failed(error.to_string())),
        Ok(Err(error)) => Err(error.at(log.display())),
        Err(Ended::Panicked(message)) => Ok(Attempt::Failed(message)),
        Err(Ended::TimedOut(limit)) => Err(unopenable(log, &format!("no answer within {} s", limit.as_secs()))),
        Err(Ended::NoThread(error)) => {
            let what = format!("{} cannot be opened: no thread can be started: {error}", log.display());
            Err(Error::new(ErrorKind::SystemLimit, what).with_source(error))
        }
    }
}

/// Errors of permission, space, memory, limits and the disk itself say nothing about the log's contents, so they are no reason
/// to rebuild it, or to advise anybody to give it up.
fn refused_by_system(error: &io::Error) -> bool {
    use io::ErrorKind::{OutOfMemory, PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    matches!(error.kind(), PermissionDenied | ReadOnlyFilesystem | StorageFull | QuotaExceeded | OutOfMemory)
        || is_system_limit(error)
        || error.raw_os_error() == Some(Errno::IO.raw_os_error())
}

/// Tries once more on a copy without the files that the engine derives from its log. The copy takes the log's place
/// when it holds everything that was acknowledged, or when there never was anything; else the log stays as it is.
fn open_rebuilt(paths: &Paths, witness: &Witness, because: &str) -> Result<(SledStore, Scan)> {
    let retry = paths.retry();
    let io = |error| unwritable(&retry, "cannot be written", error);
    remove_directory(&retry).map_err(io)?;
    copy_log(&paths.log(), &retry).map_err(io)?;
    match open_log(&retry, witness.mark)? {
        Attempt::Opened(store, scan) if holds_acknowledged(witness, &scan) || was_never_used(paths, witness) => {
            drop(store);
        }
        Attempt::Opened(..) => {
            remove_directory(&retry).map_err(io)?;
            return Err(unopenable(&paths.log(), because));
        }
        Attempt::Failed(again) => {
            remove_directory(&retry).map_err(io)?;
            return Err(unopenable(&paths.log(), &format!("{because}; and on a copy: {again}")));
        }
    }
    wait_for_engine_lock_of(&sled_store::data_file(&retry), &paths.dir)?;
    fs::create_dir_all(paths.aside()).map_err(io)?;
    exchange_log(paths, &free_name(&paths.aside(), "log")).map_err(io)?;
    wait_for_engine_lock(paths)?;
    match open_log(&paths.log(), witness.mark)? {
        Attempt::Opened(store, scan) => Ok((store, scan)),
        Attempt::Failed(again) => Err(unopenable(&paths.log(), &again)),
    }
}

fn holds_acknowledged(witness: &Witness, scan: &Scan) -> bool {
    witness.mark.is_some_and(|mark| scan.at_head == Some(mark.hash) || mark == Mark::GENESIS)
}

/// Whether the process or the machine stopped during the very first open. The engine writes its configuration in two steps
/// and never syncs it, so what is left of it can be half a file; the head comes after it, and the first event after that.
fn was_never_used(paths: &Paths, witness: &Witness) -> bool {
    let bytes = fs::metadata(sled_store::data_file(&paths.log())).map(|data| data.len());
    let holds_nothing = match bytes {
        Ok(bytes) => bytes == 0,
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    };
    witness.mark.is_none() && holds_nothing
}

/// Puts the log that was made in `log.retry` into its place, and the one that was there under `old`. What takes the place
/// of something durable is durable before, with its name: a power cut between the renames must find it.
fn exchange_log(paths: &Paths, old: &Path) -> io::Result<()> {
    for entry in fs::read_dir(paths.retry())? {
        File::open(entry?.path())?.sync_all()?;
    }
    sync_directory(&paths.retry())?;
    sync_directory(&paths.dir)?;
    fs::rename(paths.log(), old)?;
    fs::rename(paths.retry(), paths.log())?;
    sync_directory(&paths.dir)
}

/// Replaces the log by one that holds `anchor` and `events`, durably and in one step: a kill leaves the old one or the
/// new one. Under the caller's lock, with the log closed.
pub fn replace_log(paths: &Paths, anchor: recover::Anchor, events: &dyn Store) -> Result<()> {
    let (retry, old) = (paths.retry(), paths.dir.join("log.old"));
    let io = |error| unwritable(&retry, "cannot be written", error);
    for leftover in [&retry, &old] {
        remove_directory(leftover).map_err(io)?;
    }
    let mut store = match SledStore::open(&retry) {
        Ok(store) => store,
        Err(OpenError::Locked) => return Err(engine_busy(&paths.dir)),
        Err(OpenError::Failed(error)) => return Err(io(error)),
    };
    recover::fill(&mut store, anchor, events).and_then(|()| store.sync()).map_err(io)?;
    drop(store);
    wait_for_engine_lock_of(&sled_store::data_file(&retry), &paths.dir)?;
    exchange_log(paths, &old).map_err(io)?;
    remove_directory(&old).map_err(io)
}

/// Where the log lies: a stop between the two renames of [`exchange_log`] leaves the verified copy under its own name.
pub fn whereabouts(paths: &Paths) -> io::Result<PathBuf> {
    let retry = paths.retry();
    let is_retry = !paths.log().try_exists()? && sled_store::data_file(&retry).try_exists()?;
    Ok(if is_retry { retry } else { paths.log() })
}

/// Gives such a copy the name of the log.
pub fn put_back_log(paths: &Paths) -> Result<()> {
    let found = whereabouts(paths).map_err(|error| unwritable(&paths.log(), "cannot be read", error))?;
    if found != paths.log() {
        fs::rename(&found, paths.log()).map_err(|error| unwritable(&paths.log(), "cannot be put back", error))?;
    }
    Ok(())
}

/// Snapshots that a kill left unfinished are moved out of the engine's sight.
fn move_unfinished_aside(paths: &Paths) -> Result<()> {
    let Ok(entries) = fs::read_dir(paths.log()) else { return Ok(()) };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if sled_store::is_unfinished(&name.to_string_lossy()) {
            let io = |error| unwritable(&entry.path(), "cannot be moved aside", error);
            fs::create_dir_all(paths.aside()).map_err(io)?;
            fs::rename(entry.path(), paths.aside().join(&name)).map_err(io)?;
        }
    }
    Ok(())
}

/// Copies a log without its derived files. The log may belong to a writer that is at work.
pub fn copy_log(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let name = entry.file_name();
        if sled_store::is_derived(&name.to_string_lossy()) {
            continue;
        }
        let kind = entry.file_type()?;
        if kind.is_dir() {
            copy_log(&entry.path(), &to.join(&name))?;
        } else if kind.is_file() {
            // Only the bytes: a copy of a read-only file must still be writable.
            let mut source = File::open(entry.path())?;
            let mut copy = File::create(to.join(&name))?;
            io::copy(&mut source, &mut copy)?;
        }
    }
    Ok(())
}

pub fn remove_directory(dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// `dir/stem.1`, or the first number that is free.
pub fn free_name(dir: &Path, stem: &str) -> PathBuf {
    let mut number = 1u32;
    loop {
        let path = dir.join(format!("{stem}.{number}"));
        if !path.exists() || number == u32::MAX {
            return path;
        }
        number += 1;
    }
}

pub fn unwritable(path: &Path, what: &str, error: io::Error) -> Error {
    Error::new(ErrorKind::JournalUnwritable, format!("{} {what}: {error}", path.display())).with_source(error)
}

pub fn unopenable(log: &Path, why: &str) -> Error {
    Error::new(ErrorKind::JournalUnopenable, format!("the log {} cannot be opened: {why}", log.display()))
}

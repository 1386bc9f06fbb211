//! The durable journal of an export: an append-only, chained log of events that survives kills and power cuts, and that
//! says so when it did not.
//!
//! ```text
//! Event ──wire──▶ payload ──envelope──▶ value ──store──▶ flush ──▶ fdatasync ──▶ head ──▶ acknowledged
//! ```
//!
//! * [`Journal`] is the one writer of an export's directory. Commands that only look use [`reader`].
//! * [`envelope`], [`wire`] and [`head`] are the bytes on disk; ADR 0002 and golden files hold them still.
//! * [`recover`] is the table of what is done with what is found.
//! * [`store`] is what the journal asks of a storage engine; [`sled_store`] is the only file that knows one (ADR 0001).

mod contained;
mod costs;
mod disk;
pub mod envelope;
mod head;
pub mod jsonl;
mod lock;
mod memory_store;
pub mod reader;
mod recover;
#[cfg(test)]
mod recovery_table;
mod sled_store;
mod store;
#[cfg(test)]
mod store_script;
pub mod upkeep;
#[cfg(test)]
mod upkeep_table;
pub mod wire;

pub use costs::JournalCosts;
pub use lock::Holder;
pub use recover::Recovery;

use crate::error::{Error, ErrorKind, Result};
use crate::failpoint;
use crate::run::event::{Durability, Event, Recorded};
use crate::run::ids::{ChainHash, EventSeq, RunOrdinal};
use costs::Meter;
use envelope::Header;
use head::{Head, Mark};
use lock::Lock;
use recover::Anchor;
use std::io;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;
use store::{Key, Store};

/// Where a run's events lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct RunExtent {
    pub run: RunOrdinal,
    pub first: EventSeq,
    pub last: EventSeq,
}

/// When an event happened, by two clocks. Both are notes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stamp {
    /// Milliseconds since 1970-01-01T00:00:00Z.
    pub wall_ms: i64,
    /// Microseconds since this invocation began.
    pub mono_us: u64,
}

#[derive(Debug, Clone, Copy, Default)]
pub struct OpenOptions {
    /// Accept a log whose head is missing, as far as its chain is valid.
    pub trust_log: bool,
}

/// The one writer of an export's journal.
///
/// Events are numbered 1, 2, 3, … over all runs of the export. Only the last run grows, so that the order of keys, of
/// numbers and of the chain is one order. The first I/O error ends the journal's life: what is on disk after it is
/// unknown, so nothing more is appended, and the next open finds out.
pub struct Journal {
    // Declared before the lock, and therefore closed before it is released.
    store: Box<dyn Store>,
    head: Head,
    /// The last event, acknowledged or not.
    tip: Mark,
    acknowledged: Mark,
    anchor: Anchor,
    runs: Vec<RunExtent>,
    recovery: Recovery,
    /// What went wrong, once something did.
    poison: Option<String>,
    meter: Meter,
    place: Place,
}

enum Place {
    Memory,
    Directory { paths: disk::Paths, lock: Lock },
}

impl Journal {
    /// Opens the journal in `dir`, making it when the directory is missing or empty.
    ///
    /// # Errors
    /// `JournalBusy` when somebody holds it, `JournalForeign`, `JournalNewer`, `JournalUnwritable`, and the refusals of
    /// the recovery table.
    pub fn open(dir: &Path, holder: &Holder) -> Result<Journal> {
        Journal::open_with(dir, holder, OpenOptions::default())
    }

    /// [`Journal::open`] with options.
    pub fn open_with(dir: &Path, holder: &Holder, options: OpenOptions) -> Result<Journal> {
        let paths = disk::Paths::new(dir);
        // Looked at before the lock, so that nothing is written into a directory that is not ours.
        disk::check_format(&paths)?;
        disk::create_directory(dir)?;
        let lock = Lock::take(&paths.lock(), holder)?;
        if disk::check_format(&paths)? == disk::Format::Absent {
            disk::write_format(&paths)?;
        }
        let opened = disk::open(&paths, options.trust_log)?;
        let tip = opened.scan.tip;
        Ok(Journal {
            store: Box::new(opened.store),
            head: opened.head,
            tip,
            acknowledged: tip,
            anchor: opened.scan.anchor,
            runs: opened.scan.runs,
            recovery: opened.recovery,
            poison: None,
            meter: Meter::default(),
            place: Place::Directory { paths, lock },
        })
    }

    /// The same journal over memory: for tests of what is built on it.
    pub fn in_memory() -> Journal {
        Journal {
            store: Box::new(memory_store::MemoryStore::default()),
            head: Head::in_memory(),
            tip: Mark::GENESIS,
            acknowledged: Mark::GENESIS,
            anchor: Anchor::GENESIS,
            runs: Vec::new(),
            recovery: Recovery::Fresh,
            poison: None,
            meter: Meter::default(),
            place: Place::Memory,
        }
    }

    /// What was found when the journal was opened.
    pub fn recovery(&self) -> &Recovery {
        &self.recovery
    }

    /// Runs in order. Those that were pruned are not among them.
    pub fn runs(&self) -> &[RunExtent] {
        &self.runs
    }

    pub fn last_run(&self) -> Option<RunOrdinal> {
        self.runs.last().map(|extent| extent.run)
    }

    /// Events of a run, in order, read from the store.
    ///
    /// # Errors
    /// `RunUnknown`; `JournalCorrupt` when the store reads differently from when it was opened.
    pub fn records(&self, run: RunOrdinal) -> Result<Vec<Recorded>> {
        let extent = self.runs.iter().find(|extent| extent.run == run);
        let extent =
            extent.ok_or_else(|| Error::new(ErrorKind::RunUnknown, format!("the journal has no run {run}")))?;
        read_run(self.store.as_ref(), *extent)
    }

    /// The export that the last run was planned for. `None` when there is no run.
    ///
    /// # Errors
    /// As [`Journal::records`].
    pub fn export_name(&self) -> Result<Option<String>> {
        self.runs.last().map_or(Ok(None), |extent| planned_for(self.store.as_ref(), *extent))
    }

    /// The ordinal of the next run. It exists from its first event on.
    pub fn begin_run(&self) -> RunOrdinal {
        self.last_run().unwrap_or(self.anchor.run).next()
    }

    /// The last event and its chain hash; `None` before the first.
    pub fn head(&self) -> Option<(EventSeq, ChainHash)> {
        (self.tip.seq.0 > 0).then_some((self.tip.seq, self.tip.hash))
    }

    /// How far the log is known to be on the medium.
    pub fn acknowledged(&self) -> EventSeq {
        self.acknowledged.seq
    }

    pub fn costs(&self) -> JournalCosts {
        self.meter.costs()
    }

    /// [`Journal::append_all`] of one event.
    pub fn append(&mut self, run: RunOrdinal, event: Event, stamp: Stamp) -> Result<Recorded> {
        let mut recorded = self.append_all(run, vec![event], stamp)?;
        recorded.pop().ok_or_else(|| Error::new(ErrorKind::Internal, "an event was appended and not returned"))
    }

    /// Appends events, in order, to the last run, or to the one that [`Journal::begin_run`] named. When this returns, the
    /// last durable event among them is on the medium, with everything before it: they share one flush. A crash before
    /// that keeps a beginning of them, so each has to be a fact whether or not those after it are kept.
    ///
    /// # Errors
    /// `JournalEventTooLarge` leaves the journal as it was. `JournalIo` and `JournalForked` end its life.
    pub fn append_all(&mut self, run: RunOrdinal, events: Vec<Event>, stamp: Stamp) -> Result<Vec<Recorded>> {
        let began = Instant::now();
        if let Some(poison) = &self.poison {
            return Err(Error::new(ErrorKind::JournalIo, format!("the journal takes no more events since {poison}")));
        }
        if self.last_run() != Some(run) && run != self.begin_run() {
            return Err(Error::new(
                ErrorKind::Internal,
                format!("an event was to be appended to run {run}, which is not the last"),
            ));
        }
        let sealed = self.seal_all(run, events, stamp)?;
        let first = sealed.first().map_or(self.tip.seq.next(), |(recorded, _)| recorded.seq);
        if let Err(broken) = self.write_all(&sealed) {
            return Err(self.poisoned(broken, first));
        }
        let recorded: Vec<Recorded> = sealed.into_iter().map(|(recorded, _)| recorded).collect();
        self.meter.note(&recorded, began.elapsed());
        Ok(recorded)
    }

    /// Says in the lock what the journal is held for, for whoever is sent away by it. In memory, nothing.
    ///
    /// # Errors
    /// `JournalUnwritable`.
    pub fn hold_for(&self, run_id: &str) -> Result<()> {
        let Place::Directory { paths, lock } = &self.place else { return Ok(()) };
        let rewritten = lock.rewrite(&Holder::this_process(run_id));
        rewritten.map_err(|error| disk::unwritable(&paths.lock(), "cannot be written", error))
    }

    /// Replaces `status.json`: a convenience for whoever watches a live run, not a record. In memory, nothing.
    pub fn write_status(&self, status: &serde_json::Value) -> Result<()> {
        let Place::Directory { paths, .. } = &self.place else { return Ok(()) };
        let text = format!("{status}\n");
        disk::replace_file(&paths.status(), text.as_bytes(), false)
            .map_err(|error| disk::unwritable(&paths.status(), "cannot be written", error))
    }

    /// Closes the log and keeps the lock, for what replaces the log as a whole.
    fn close_log(self) -> Place {
        self.place
    }

    /// Fills a new journal with the events of another, as they are, durably. What was verified on the way in needs no
    /// second look here; the next open takes it anyway.
    fn adopt(mut self, anchor: Anchor, events: &dyn Store, tip: Mark) -> Result<()> {
        debug_assert_eq!(self.tip, Mark::GENESIS, "only a new journal adopts");
        let filled = recover::fill(self.store.as_mut(), anchor, events)
            .and_then(|()| self.store.sync())
            .and_then(|()| self.head.write(tip));
        filled.map_err(|error| {
            Error::new(ErrorKind::JournalIo, format!("events could not be journaled: {error}")).with_source(error)
        })
    }

    /// The events with their places, and the bytes that say so.
    fn seal_all(&self, run: RunOrdinal, events: Vec<Event>, stamp: Stamp) -> Result<Vec<(Recorded, Vec<u8>)>> {
        let mut previous = self.tip;
        let sealed = events.into_iter().map(|event| {
            let (recorded, value) = seal(previous, run, event, stamp)?;
            previous = Mark { seq: recorded.seq, hash: recorded.hash };
            Ok((recorded, value))
        });
        sealed.collect()
    }

    fn write_all(&mut self, sealed: &[(Recorded, Vec<u8>)]) -> Result<(), Broken> {
        let (Some((first, _)), Some((last, _))) = (sealed.first(), sealed.last()) else { return Ok(()) };
        for (recorded, value) in sealed {
            failpoint::hit("journal.append.before")?;
            if !self.store.insert_if_absent(Key::new(recorded.run, recorded.seq), value)? {
                return Err(Broken::Taken);
            }
        }
        let mark = Mark { seq: last.seq, hash: last.hash };
        if sealed.iter().any(|(recorded, _)| recorded.event.durability() == Durability::Durable) {
            self.acknowledge(mark)?;
        }
        sealed.iter().try_for_each(|_| failpoint::hit("journal.append.after"))?;
        self.tip = mark;
        match self.runs.last_mut().filter(|extent| extent.run == last.run) {
            Some(extent) => extent.last = last.seq,
            None => self.runs.push(RunExtent { run: last.run, first: first.seq, last: last.seq }),
        }
        Ok(())
    }

    /// Makes everything up to `mark` durable. The order is the promise: the head never names what is not on the medium.
    fn acknowledge(&mut self, mark: Mark) -> io::Result<()> {
        failpoint::hit("journal.inserted")?;
        self.store.flush()?;
        failpoint::hit("journal.flushed")?;
        self.store.sync()?;
        failpoint::hit("journal.synced")?;
        self.head.write(mark)?;
        failpoint::hit("journal.head_written")?;
        self.acknowledged = mark;
        Ok(())
    }

    fn poisoned(&mut self, broken: Broken, seq: EventSeq) -> Error {
        let error = match broken {
            Broken::Io(error) => {
                Error::new(ErrorKind::JournalIo, format!("event {seq} could not be journaled: {error}"))
                    .with_source(error)
            }
            Broken::Taken => Error::new(
                ErrorKind::JournalForked,
                format!("event {seq} is already in the log: another process wrote into this journal"),
            ),
        };
        self.poison = Some(format!("this happened: {}", error.what()));
        error
    }
}

/// Whether the event fits in an envelope.
///
/// # Errors
/// `JournalEventTooLarge`.
pub fn check_size(event: &Event) -> Result<()> {
    payload(event).map(drop)
}

fn payload(event: &Event) -> Result<wire::Payload> {
    let payload = wire::encode(event).map_err(|wire::TooLarge| too_large(event, None))?;
    if payload.bytes.len() > envelope::MAX_PAYLOAD {
        return Err(too_large(event, Some(payload.bytes.len())));
    }
    Ok(payload)
}

/// The event with its place after `previous`, and the bytes that say so.
fn seal(previous: Mark, run: RunOrdinal, event: Event, stamp: Stamp) -> Result<(Recorded, Vec<u8>)> {
    let seq = previous.seq.next();
    let Stamp { wall_ms, mono_us } = stamp;
    let payload = payload(&event)?;
    // What cannot be read back must not be written: it would make the whole journal unreadable.
    if wire::decode(payload.kind, payload.version, &payload.bytes).as_ref() != Ok(&event) {
        return Err(Error::new(ErrorKind::Internal, format!("event {} does not survive its encoding", event.name())));
    }
    let header =
        Header { kind: payload.kind, version: payload.version, run, seq, wall_ms, mono_us, previous: previous.hash };
    let (value, hash) = envelope::seal(&header, &payload.bytes);
    Ok((Recorded { run, seq, wall_ms, mono_us, hash, event }, value))
}

/// Why an append ends the journal's life.
enum Broken {
    Io(io::Error),
    /// The key was taken by somebody else.
    Taken,
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Broken {
        Broken::Io(error)
    }
}

fn too_large(event: &Event, bytes: Option<usize>) -> Error {
    let size = bytes.map(|bytes| format!(" of {bytes} bytes")).unwrap_or_default();
    Error::new(
        ErrorKind::JournalEventTooLarge,
        format!("an event {}{size} is larger than the {} that fit", event.name(), envelope::MAX_PAYLOAD),
    )
}

/// The export that a run was planned for, by its first event.
fn planned_for(store: &dyn Store, extent: RunExtent) -> Result<Option<String>> {
    let first = read_run(store, RunExtent { last: extent.first, ..extent })?.pop();
    Ok(match first.map(|recorded| recorded.event) {
        Some(Event::RunPlanned(planned)) => Some(planned.export_name),
        _ => None,
    })
}

/// Events of a run, decoded and chained.
fn read_run(store: &dyn Store, extent: RunExtent) -> Result<Vec<Recorded>> {
    let mut records: Vec<Recorded> = Vec::new();
    let mut refused = None;
    let from = Key::new(extent.run, extent.first);
    let to = Key::new(extent.run, extent.last.next());
    let read = store.scan(&from.0, Some(&to.0), &mut |key, value| match recover::read_event(key, value) {
        Ok((recorded, previous)) if records.last().is_none_or(|last| last.hash == previous) => {
            records.push(recorded);
            ControlFlow::Continue(())
        }
        Ok((recorded, _)) => {
            let what = format!("event {} does not continue the chain", recorded.seq);
            refused = Some(Error::new(ErrorKind::JournalCorrupt, what));
            ControlFlow::Break(())
        }
        Err(error) => {
            refused = Some(error);
            ControlFlow::Break(())
        }
    });
    if let Some(error) = refused {
        return Err(error);
    }
    read.map_err(|error| {
        Error::new(ErrorKind::JournalCorrupt, format!("run {} cannot be read: {error}", extent.run)).with_source(error)
    })?;
    let expected = extent.last.0 - extent.first.0 + 1;
    if records.len() as u64 != expected {
        let what = format!("run {} has {} events instead of {expected}", extent.run, records.len());
        return Err(Error::new(ErrorKind::JournalCorrupt, what));
    }
    Ok(records)
}

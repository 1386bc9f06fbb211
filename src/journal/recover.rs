//! What the journal does with what it finds when it is opened.

use super::RunExtent;
use super::envelope::{self, Header, Unreadable};
use super::head::Mark;
use super::store::{Key, Store};
use super::wire::{self, Undecodable};
use crate::error::{Error, ErrorKind, Result};
use crate::run::event::Recorded;
use crate::run::ids::{ChainHash, EventSeq, RunOrdinal};
use std::fmt;
use std::ops::ControlFlow;

/// Which row of the recovery table applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recovery {
    /// A new journal.
    Fresh,
    /// Log and head agree.
    Clean,
    /// Events after the last acknowledged one were whole: buffered facts, or a crash before the head was written.
    AcknowledgementGap { acknowledged: EventSeq, accepted: EventSeq },
    /// What stood after the last whole event was never acknowledged and is dropped.
    TornTailDropped { acknowledged: EventSeq, accepted: EventSeq, dropped: String },
    /// The head was missing, and the log was trusted as the caller asked.
    HeadRebuilt { last: EventSeq },
    /// The log could not be opened as it was; a copy without its derived files could, and took its place.
    LogRebuilt { because: String, then: Box<Recovery> },
}

impl Recovery {
    /// A sentence for the screen, when something happened that a person should know.
    pub fn note(&self) -> Option<String> {
        match self {
            Recovery::Fresh | Recovery::Clean => None,
            Recovery::AcknowledgementGap { acknowledged, accepted } => Some(format!(
                "the journal was not closed in order: events {} to {accepted} are whole and were accepted",
                acknowledged.next()
            )),
            Recovery::TornTailDropped { accepted, dropped, .. } => Some(format!(
                "the journal was not closed in order: an unacknowledged event after {accepted} was torn and is dropped ({dropped})"
            )),
            Recovery::HeadRebuilt { last } => {
                Some(format!("the journal's head was missing and was written anew from the log, up to event {last}"))
            }
            Recovery::LogRebuilt { because, then } => {
                let then = then.note().map(|note| format!("; {note}")).unwrap_or_default();
                Some(format!(
                    "the journal's log could not be opened ({because}) and was rebuilt from its own data{then}"
                ))
            }
        }
    }
}

/// The place before the first event that the log still has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Anchor {
    /// The last run that was pruned; 0 when none was.
    pub run: RunOrdinal,
    pub mark: Mark,
}

impl Anchor {
    pub const GENESIS: Anchor = Anchor { run: RunOrdinal(0), mark: Mark::GENESIS };

    /// Whether an anchor can stand after this event: within bounds that no journal reaches, so that counting on from
    /// here cannot overflow.
    pub fn is_possible(run: RunOrdinal, seq: EventSeq) -> bool {
        (1..1 << 30).contains(&run.0) && (1..1 << 60).contains(&seq.0)
    }
}

/// What the log holds after its last whole event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tail {
    Ends,
    /// A key or value that does not continue the chain.
    Invalid {
        key: Vec<u8>,
        what: String,
    },
    /// The store itself failed to read on.
    Unreadable(String),
}

/// The log as a whole: what is in it up to the first thing that does not continue the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scan {
    pub anchor: Anchor,
    /// The last whole event, or the anchor.
    pub tip: Mark,
    pub runs: Vec<RunExtent>,
    /// The chain hash at the head's seq, when the log reaches that far.
    pub at_head: Option<ChainHash>,
    pub tail: Tail,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    Start,
    Go,
    AcceptGap,
    DropTail { key: Vec<u8>, what: String },
    RebuildHead,
    Refuse(Refusal),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// Acknowledged events are missing from the end.
    Truncated { have: EventSeq, want: EventSeq },
    /// An acknowledged event is damaged or missing, and others follow it.
    Damaged { at: EventSeq, what: String },
    /// The log has another history than the head saw.
    Forked { at: EventSeq },
    /// Nothing says how far the log was acknowledged.
    Headless { have: EventSeq },
}

/// The recovery table. H is the seq of the highest valid head slot, M the highest seq up to which the log is dense and
/// its chain valid (both count from the anchor of a pruned journal), and the tail is what the log holds after M.
///
/// | case                    | H    | M    | hash at H | tail    | decision                                            |
/// |-------------------------|------|------|-----------|---------|-----------------------------------------------------|
/// | fresh                   | none | 0    | –         | ends    | start                                               |
/// | clean                   | n    | n    | equal     | ends    | go                                                  |
/// | acknowledgement gap     | n    | > n  | equal     | ends    | accept, rewrite the head, note it                   |
/// | torn, not acknowledged  | n    | ≥ n  | equal     | invalid | drop the invalid tail, rewrite the head, note it    |
/// | lost                    | n    | < n  | –         | ends    | refuse: truncated, have M and want n                |
/// | damaged                 | n    | < n  | –         | invalid | refuse: corrupt at M + 1                            |
/// | fork                    | n    | ≥ n  | differs   | any     | refuse: directories were mixed or copied            |
/// | no head                 | none | > 0  | –         | any     | refuse, or rebuild the head when the log is trusted |
/// | no head, nothing whole  | none | 0    | –         | invalid | refuse: corrupt at 1                                |
/// | cannot be read further  | any  | any  | any       | unreadable | refuse: corrupt at M + 1                         |
///
/// The row "cannot be opened" is not a decision about contents: [`super::disk`] tries once more on a copy.
/// An event of a later version is none of these; [`scan`] refuses it by name, wherever it stands.
pub fn decide(head: Option<Mark>, scan: &Scan, trust_log: bool) -> Decision {
    let have = scan.tip.seq;
    let damaged = |what: &String| Decision::Refuse(Refusal::Damaged { at: have.next(), what: what.clone() });
    let Some(head) = head else {
        return match &scan.tail {
            Tail::Unreadable(what) => damaged(what),
            Tail::Invalid { what, .. } if scan.runs.is_empty() => damaged(what),
            Tail::Ends if have == EventSeq(0) => Decision::Start,
            _ if !trust_log => Decision::Refuse(Refusal::Headless { have }),
            Tail::Ends => Decision::RebuildHead,
            // A log that is trusted is still not trusted to end where it is damaged.
            Tail::Invalid { what, .. } => damaged(what),
        };
    };
    if have < head.seq {
        return match &scan.tail {
            Tail::Ends => Decision::Refuse(Refusal::Truncated { have, want: head.seq }),
            Tail::Invalid { what, .. } | Tail::Unreadable(what) => damaged(what),
        };
    }
    if scan.at_head != Some(head.hash) {
        return Decision::Refuse(Refusal::Forked { at: head.seq });
    }
    match &scan.tail {
        Tail::Ends if have == head.seq => Decision::Go,
        Tail::Ends => Decision::AcceptGap,
        Tail::Invalid { key, what } => Decision::DropTail { key: key.clone(), what: what.clone() },
        Tail::Unreadable(what) => damaged(what),
    }
}

/// Does what was decided: afterwards the log ends at `scan.tip`, durably. Says whether the head is to be written.
///
/// # Errors
/// The refusal, or an I/O error of the store.
pub fn apply(decision: Decision, head: Option<Mark>, scan: &Scan, store: &mut dyn Store) -> Result<(Recovery, bool)> {
    let io = |error: std::io::Error| {
        Error::new(ErrorKind::JournalIo, format!("the journal cannot be recovered: {error}")).with_source(error)
    };
    let acknowledged = head.map_or(EventSeq(0), |mark| mark.seq);
    let accepted = scan.tip.seq;
    match decision {
        Decision::Start => Ok((Recovery::Fresh, false)),
        Decision::Go => Ok((if accepted.0 == 0 { Recovery::Fresh } else { Recovery::Clean }, false)),
        Decision::AcceptGap => {
            store.flush().and_then(|()| store.sync()).map_err(io)?;
            Ok((Recovery::AcknowledgementGap { acknowledged, accepted }, true))
        }
        Decision::DropTail { key, what } => {
            store.remove(&key, None).map_err(io)?;
            store.flush().and_then(|()| store.sync()).map_err(io)?;
            Ok((Recovery::TornTailDropped { acknowledged, accepted, dropped: what }, accepted > acknowledged))
        }
        Decision::RebuildHead => {
            store.flush().and_then(|()| store.sync()).map_err(io)?;
            Ok((Recovery::HeadRebuilt { last: accepted }, true))
        }
        Decision::Refuse(refusal) => Err(refusal.into()),
    }
}

/// The first key that belongs to a run after the anchor.
pub fn first_key_kept(anchor: Anchor) -> Key {
    Key::new(RunOrdinal(anchor.run.0.saturating_add(1)), EventSeq(0))
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Error {
        match refusal {
            Refusal::Truncated { have, want } => Error::new(
                ErrorKind::JournalTruncated,
                format!("the journal ends at event {have}, but events up to {want} had been acknowledged"),
            )
            .with_hint(
                "Restore the journal from a backup, or give the missing events up with `rivet journal repair --accept-loss`.",
            ),
            Refusal::Damaged { at, what } => {
                Error::new(ErrorKind::JournalCorrupt, format!("the journal is damaged at event {at}: {what}"))
            }
            Refusal::Forked { at } => Error::new(
                ErrorKind::JournalForked,
                format!("event {at} of the journal is not the one that its head has seen"),
            ),
            Refusal::Headless { have } => Error::new(
                ErrorKind::JournalHeadless,
                format!("the journal holds {have} events, but its `head` is missing or damaged"),
            ),
        }
    }
}

/// Reads the whole log in order and verifies keys, envelopes, chain and payloads.
///
/// # Errors
/// `JournalNewer` for an event of a later version, `JournalCorrupt` for an event that is whole but makes no sense.
pub fn scan(store: &dyn Store, head: Option<Mark>) -> Result<Scan> {
    let mut anchor = Anchor::GENESIS;
    let mut refusal = None;
    // The anchor's key comes before every other; a log without one begins with its first event.
    let after_anchor = [&Key::ANCHOR.0[..], &[0]].concat();
    let read = store.scan(&Key::ANCHOR.0, Some(&after_anchor), &mut |_, value| {
        match read_anchor(value) {
            Ok(found) => anchor = found,
            Err(error) => refusal = Some(error),
        }
        ControlFlow::Break(())
    });
    let mut progress = Progress::after(anchor, head);
    let read = read.and_then(|()| {
        if refusal.is_some() {
            return Ok(());
        }
        store.scan(&after_anchor, None, &mut |key, value| match progress.take(key, value) {
            Ok(()) => ControlFlow::Continue(()),
            Err(Stop::Tail(what)) => {
                progress.scan.tail = Tail::Invalid { key: key.to_vec(), what };
                ControlFlow::Break(())
            }
            Err(Stop::Refused(error)) => {
                refusal = Some(error);
                ControlFlow::Break(())
            }
        })
    });
    if let Some(error) = refusal {
        return Err(error);
    }
    if let Err(error) = read {
        progress.scan.tail = Tail::Unreadable(error.to_string());
    }
    Ok(progress.scan)
}

/// Reads and decodes one event; its place in the chain is the caller's to check.
///
/// # Errors
/// `JournalCorrupt` or `JournalNewer`, naming the event.
pub fn read_event(key: &[u8], value: &[u8]) -> Result<(Recorded, ChainHash)> {
    let at = Key::parse(key);
    let place = at.map_or_else(|| "a key that is not one".to_owned(), |(_, seq)| format!("event {seq}"));
    let opened = envelope::open(value).map_err(|error| match error {
        Unreadable::Damaged(what) => corrupt(format!("{place}: {what}")),
        Unreadable::Newer(what) => newer(format!("{place} of the journal: {what}")),
    })?;
    let recorded = decoded(&opened)?;
    if at != Some((recorded.run, recorded.seq)) {
        return Err(corrupt(format!("{place}: the event under it is {} of run {}", recorded.seq, recorded.run)));
    }
    Ok((recorded, opened.header.previous))
}

fn decoded(opened: &envelope::Opened<'_>) -> Result<Recorded> {
    let header = &opened.header;
    let (kind, version, seq) = (header.kind, header.version, header.seq);
    let event = wire::decode(kind, version, opened.payload).map_err(|error| match error {
        Undecodable::Unknown => newer(format!("event {seq} of the journal has kind {kind} in version {version}")),
        Undecodable::Malformed(what) => corrupt(format!("event {seq} (kind {kind}) cannot be decoded: {what}")),
    })?;
    let Header { run, wall_ms, mono_us, .. } = *header;
    Ok(Recorded { run, seq, wall_ms, mono_us, hash: opened.hash, event })
}

/// Bytes of an anchor, to stand under [`Key::ANCHOR`].
fn anchor_value(anchor: Anchor) -> Vec<u8> {
    let header = Header {
        kind: envelope::ANCHOR_KIND,
        version: 1,
        run: anchor.run,
        seq: anchor.mark.seq,
        wall_ms: 0,
        mono_us: 0,
        previous: anchor.mark.hash,
    };
    envelope::seal(&header, &[]).0
}

/// Fills an empty store with an anchor and the events after it, and flushes it.
pub fn fill(store: &mut dyn Store, anchor: Anchor, events: &dyn Store) -> std::io::Result<()> {
    if anchor.run.0 > 0 {
        store.insert_if_absent(Key::ANCHOR, &anchor_value(anchor))?;
    }
    let mut filled = Ok(());
    events.scan(&first_key_kept(anchor).0, None, &mut |key, value| {
        // The source was verified: its keys are keys.
        let Ok(key) = key.try_into() else { return ControlFlow::Continue(()) };
        filled = store.insert_if_absent(Key(key), value).map(drop);
        if filled.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    filled?;
    store.flush()
}

fn read_anchor(value: &[u8]) -> Result<Anchor> {
    let opened = envelope::open(value).map_err(|error| match error {
        Unreadable::Damaged(what) => corrupt(format!("the anchor of pruned runs: {what}")),
        Unreadable::Newer(what) => newer(format!("the anchor of pruned runs: {what}")),
    })?;
    let header = opened.header;
    if header.kind != envelope::ANCHOR_KIND {
        return Err(corrupt("an event stands where the anchor of pruned runs belongs".into()));
    }
    if header.version != 1 || !opened.payload.is_empty() {
        return Err(newer(format!("the anchor of pruned runs has version {}", header.version)));
    }
    if !Anchor::is_possible(header.run, header.seq) {
        return Err(corrupt("the anchor of pruned runs names no event".into()));
    }
    Ok(Anchor { run: header.run, mark: Mark { seq: header.seq, hash: header.previous } })
}

pub enum Stop {
    /// This and all that follows does not continue the chain.
    Tail(String),
    Refused(Error),
}

/// A chain that is followed from its anchor, an event at a time.
pub struct Progress {
    pub scan: Scan,
    head: Option<Mark>,
    last_run: RunOrdinal,
}

impl Progress {
    pub fn after(anchor: Anchor, head: Option<Mark>) -> Progress {
        let at_head = head.filter(|head| head.seq == anchor.mark.seq).map(|_| anchor.mark.hash);
        let scan = Scan { anchor, tip: anchor.mark, runs: Vec::new(), at_head, tail: Tail::Ends };
        Progress { scan, head, last_run: anchor.run }
    }

    /// Takes the next event, or says why it is not the next.
    pub fn take(&mut self, key: &[u8], value: &[u8]) -> std::result::Result<(), Stop> {
        let Some((run, seq)) = Key::parse(key) else {
            return Err(Stop::Tail(format!("a key of {} bytes is none of the journal's", key.len())));
        };
        let opened = envelope::open(value).map_err(|error| match error {
            Unreadable::Damaged(what) => Stop::Tail(what),
            Unreadable::Newer(what) => Stop::Refused(newer(format!("event {seq} of the journal: {what}"))),
        })?;
        self.check_place(run, seq, &opened).map_err(Stop::Tail)?;
        decoded(&opened).map_err(Stop::Refused)?;
        self.scan.tip = Mark { seq, hash: opened.hash };
        self.last_run = run;
        match self.scan.runs.last_mut().filter(|extent| extent.run == run) {
            Some(extent) => extent.last = seq,
            None => self.scan.runs.push(RunExtent { run, first: seq, last: seq }),
        }
        if self.head.is_some_and(|head| head.seq == seq) {
            self.scan.at_head = Some(opened.hash);
        }
        Ok(())
    }

    /// Dense in seq, dense in runs, and chained to the event before.
    fn check_place(
        &self,
        run: RunOrdinal,
        seq: EventSeq,
        opened: &envelope::Opened<'_>,
    ) -> std::result::Result<(), String> {
        let header = &opened.header;
        if (header.run, header.seq) != (run, seq) {
            return Err(format!("event {} of run {} stands in its place", header.seq, header.run));
        }
        let expected = self.scan.tip.seq.next();
        if seq != expected {
            return Err(format!("event {expected} is missing, {seq} follows"));
        }
        if run != self.last_run && run != self.last_run.next() {
            return Err(format!("run {run} follows run {}", self.last_run));
        }
        // A journal whose first runs were pruned begins with a new run, every other with run 1.
        if run == self.scan.anchor.run {
            return Err(format!("run {run} was pruned"));
        }
        if header.previous != self.scan.tip.hash {
            return Err("it does not continue the chain".into());
        }
        Ok(())
    }
}

fn corrupt(what: String) -> Error {
    Error::new(ErrorKind::JournalCorrupt, what)
}

fn newer(what: String) -> Error {
    Error::new(ErrorKind::JournalNewer, format!("{what}; it was written by a later version of rivet"))
}

impl fmt::Display for Anchor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "after event {} of run {}", self.mark.seq, self.run)
    }
}

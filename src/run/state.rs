//! Where a run stands: the fold of its events.
//!
//! ```text
//! life       event                                  becomes
//! ─────────  ─────────────────────────────────────  ──────────
//! (none)     run_planned                            planned
//! planned    invocation_started                     live
//! live       invocation_started                     live        the process before it died without a word
//! ended      invocation_started                     live        resume of a failed or interrupted run
//! closed     invocation_started                     live        forced, to mend a damaged output
//! live       run_finished (failed, interrupted)     ended
//! live       run_finished (success, skipped)        closed
//! planned, live, ended   run_abandoned              abandoned   a later run took its place
//!
//! stage       event (only while live)               becomes
//! ──────────  ────────────────────────────────────  ──────────
//! reading     manifest_written                      manifested  every slice is complete, and the sums agree
//! manifested, published  manifest_written           manifested  written again by a resume that found it gone
//! manifested  published                             published
//! published   validated                             published
//! any         part_superseded, part_quarantined     reading     when the part counted
//! any         work_restarted                        reading
//! any         relation_resolved                     (same)      other relations than before only while nothing counts
//!
//! slice     event                                   becomes
//! ────────  ──────────────────────────────────────  ──────────
//! pending   slice_started                           running     the attempt counts up by one
//! running   batch_fetched, part_checksums,          running
//!           part_sealed, part_committed,
//!           special_values_counted
//! running   slice_completed                         complete    every sealed part is committed, the sums agree
//! running   slice_failed                            pending
//! running   invocation_started                      orphaned    its worker died with the process
//! orphaned  part_committed                          orphaned    the sealed file was found whole
//! orphaned  slice_completed                         complete
//! orphaned  slice_failed                            pending
//! complete  part_superseded, part_quarantined       pending
//! ```
//!
//! Everything else is an [`IllegalTransition`].

use super::event::{Event, Outcome, PartFacts, Recorded, RelationResolved, RunPlanned, SnapshotOpened};
use super::ids::{Attempt, EventSeq, FileNo, Fingerprint, SliceNo, SnapshotNo};
use super::plan::{KeyOrdering, SlicePlan, Split};
use super::schema::Schema;
use std::collections::BTreeMap;
use std::fmt;

/// Flags of [`RunPlanned::fold_flags`] that this fold understands: none yet.
const KNOWN_FLAGS: u32 = 0;

/// An event that cannot follow from where the run stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IllegalTransition {
    /// 0 when the event was not in a journal yet.
    pub seq: EventSeq,
    pub event: &'static str,
    pub life: &'static str,
    pub stage: &'static str,
    pub why: String,
}

impl fmt::Display for IllegalTransition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let IllegalTransition { seq, event, life, stage, why } = self;
        write!(f, "event {seq} ({event}) cannot follow in a run that is {life}, {stage}: {why}")
    }
}

impl std::error::Error for IllegalTransition {}

impl From<IllegalTransition> for crate::Error {
    fn from(illegal: IllegalTransition) -> Self {
        crate::Error::new(crate::ErrorKind::RunIllegal, illegal.to_string())
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Life {
    #[default]
    None,
    Planned,
    Live,
    /// Failed or interrupted; a resume may go on.
    Ended(Outcome),
    /// Succeeded or skipped.
    Closed(Outcome),
    Abandoned,
}

impl Life {
    pub fn name(self) -> &'static str {
        match self {
            Life::None => "not planned",
            Life::Planned => "planned",
            Life::Live => "live",
            Life::Ended(_) => "ended",
            Life::Closed(_) => "closed",
            Life::Abandoned => "abandoned",
        }
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Stage {
    #[default]
    Reading,
    Manifested,
    Published,
}

impl Stage {
    pub fn name(self) -> &'static str {
        match self {
            Stage::Reading => "reading",
            Stage::Manifested => "manifested",
            Stage::Published => "published",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SliceStatus {
    Pending,
    Running(Attempt),
    Orphaned(Attempt),
    Complete,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    pub facts: PartFacts,
    pub committed: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SliceState {
    pub plan: SlicePlan,
    pub status: SliceStatus,
    /// The last attempt that was started; 0 before the first.
    pub attempts: Attempt,
    /// Failures since this invocation began, which is what a retry limit counts.
    pub failures: u32,
    /// The snapshot of the last attempt.
    pub snapshot: Option<SnapshotNo>,
    /// Files of the current attempt.
    pub parts: BTreeMap<FileNo, Part>,
}

impl SliceState {
    fn new(plan: SlicePlan) -> Self {
        SliceState {
            plan,
            status: SliceStatus::Pending,
            attempts: Attempt(0),
            failures: 0,
            snapshot: None,
            parts: BTreeMap::new(),
        }
    }

    /// Rows of the sealed files.
    pub fn rows(&self) -> u64 {
        self.parts.values().map(|part| part.facts.rows).fold(0, u64::saturating_add)
    }

    /// Rows of the slice as the server counted them, once its last file is sealed.
    pub fn announced_rows(&self) -> Option<u64> {
        self.parts.values().next_back().and_then(|part| part.facts.slice_rows)
    }
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct RunState {
    pub life: Life,
    pub stage: Stage,
    pub planned: RunPlanned,
    pub invocation: u32,
    /// `None` in runs of a version that did not look.
    pub relation: Option<RelationResolved>,
    pub schema: Option<Schema>,
    pub schema_fingerprint: Option<Fingerprint>,
    /// Whether this invocation has read the catalog.
    pub schema_is_fresh: bool,
    pub snapshots: Vec<SnapshotOpened>,
    /// The snapshot that slices may start in; `None` until this invocation opens one.
    pub snapshot: Option<SnapshotNo>,
    pub split: Option<Split>,
    /// By what the split's boundaries are ordered; empty where that cannot change or is not known.
    pub ordering: Vec<KeyOrdering>,
    pub estimated_rows: u64,
    /// Whether the plan is whole.
    pub is_planned: bool,
    pub slices: Vec<SliceState>,
    /// Files that the run made under final names and that count no longer. Those that no counting part took over the
    /// name of are removed before the manifest is written.
    pub superseded: Vec<String>,
    pub manifest: Option<Fingerprint>,
    pub validated: Option<bool>,
    pub last_seq: EventSeq,
    columns_announced: u32,
    slices_announced: u32,
}

impl RunState {
    /// Folds a run's events from the beginning.
    ///
    /// # Errors
    /// The first event that cannot follow from those before it.
    pub fn fold<'a>(events: impl IntoIterator<Item = &'a Recorded>) -> Result<RunState, IllegalTransition> {
        let mut state = RunState::default();
        for recorded in events {
            state.apply(recorded)?;
        }
        Ok(state)
    }

    /// Takes one recorded event in. Total: an event is either applied or refused, and a refused one changes nothing.
    ///
    /// # Errors
    /// The event cannot follow from where the run stands.
    pub fn apply(&mut self, recorded: &Recorded) -> Result<(), IllegalTransition> {
        self.apply_event(&recorded.event).map_err(|why| self.illegal(recorded.seq, &recorded.event, why))?;
        self.last_seq = recorded.seq;
        Ok(())
    }

    /// The error for `event` in this state.
    pub fn illegal(&self, seq: EventSeq, event: &Event, why: String) -> IllegalTransition {
        IllegalTransition { seq, event: event.name(), life: self.life.name(), stage: self.stage.name(), why }
    }

    pub fn slice(&self, slice: SliceNo) -> Option<&SliceState> {
        self.slices.get(slice.0 as usize)
    }

    /// Committed files, in the order of slices and files.
    pub fn parts(&self) -> impl Iterator<Item = &PartFacts> {
        self.slices.iter().flat_map(|slice| slice.parts.values()).filter(|p| p.committed).map(|p| &p.facts)
    }

    pub fn slices_in(&self, wanted: impl Fn(SliceStatus) -> bool) -> impl Iterator<Item = SliceNo> {
        self.slices.iter().filter(move |slice| wanted(slice.status)).map(|slice| slice.plan.slice)
    }

    pub fn is_read(&self) -> bool {
        self.is_planned && self.slices.iter().all(|slice| slice.status == SliceStatus::Complete)
    }

    pub fn rows(&self) -> u64 {
        self.slices.iter().map(SliceState::rows).fold(0, u64::saturating_add)
    }

    /// Whether something was read that counts. A slice may be complete without a part: it had no rows, as of its snapshot.
    pub fn has_work(&self) -> bool {
        self.slices.iter().any(|slice| slice.status == SliceStatus::Complete || !slice.parts.is_empty())
    }

    /// Whether a resume has something to go on with.
    pub fn is_unfinished(&self) -> bool {
        matches!(self.life, Life::Planned | Life::Live | Life::Ended(_))
    }

    fn apply_event(&mut self, event: &Event) -> Result<(), String> {
        match event {
            Event::RunPlanned(planned) => {
                require(self.life == Life::None, || "a run is planned once".into())?;
                require(planned.fold_flags & !KNOWN_FLAGS == 0, || {
                    format!("a later rivet wrote it, under fold flags {:#x}", planned.fold_flags)
                })?;
                self.planned = (**planned).clone();
                self.life = Life::Planned;
            }
            Event::InvocationStarted(started) => self.begin_invocation(started.invocation)?,
            Event::RunAbandoned(_) => {
                require(self.is_unfinished(), || "only an unfinished run can be abandoned".into())?;
                self.life = Life::Abandoned;
            }
            _ => {
                require(self.life == Life::Live, || "no invocation is at work".into())?;
                self.apply_work(event)?;
            }
        }
        Ok(())
    }

    fn begin_invocation(&mut self, invocation: u32) -> Result<(), String> {
        let may_begin = matches!(self.life, Life::Planned | Life::Live | Life::Ended(_) | Life::Closed(_));
        require(may_begin, || "this run takes no further invocation".into())?;
        require(invocation == self.invocation + 1, || {
            format!("invocation {invocation} after invocation {}", self.invocation)
        })?;
        self.invocation = invocation;
        self.life = Life::Live;
        self.snapshot = None;
        self.schema_is_fresh = false;
        self.validated = None;
        if !self.is_planned {
            self.forget_plan();
        }
        for slice in &mut self.slices {
            slice.failures = 0;
            if let SliceStatus::Running(attempt) = slice.status {
                slice.status = SliceStatus::Orphaned(attempt);
            }
        }
        Ok(())
    }

    fn apply_work(&mut self, event: &Event) -> Result<(), String> {
        match event {
            Event::RelationResolved(resolved) => {
                let same = self.relation.as_ref().is_none_or(|known| known.fingerprint == resolved.fingerprint);
                require(same || !self.has_work(), || "rows of other relations count already".into())?;
                self.relation = Some(resolved.clone());
            }
            Event::SchemaResolved(resolved) => {
                let same = self.schema_fingerprint.is_none_or(|known| known == resolved.fingerprint);
                require(same, || "the columns changed within the run".into())?;
                self.schema_fingerprint = Some(resolved.fingerprint);
                self.schema = Some(Schema::default());
                self.columns_announced = resolved.columns;
                self.schema_is_fresh = false;
            }
            Event::SchemaColumns(columns) => {
                let schema = self.schema.as_mut().ok_or("columns before their schema")?;
                require(!self.schema_is_fresh, || "columns after the last".into())?;
                let total = schema.columns.len() + columns.columns.len();
                let announced = self.columns_announced as usize;
                require(total <= announced && columns.last == (total == announced), || {
                    format!("{total} of {announced} columns, last = {}", columns.last)
                })?;
                schema.columns.extend(columns.columns.iter().cloned());
                self.schema_is_fresh = columns.last;
            }
            Event::SnapshotOpened(opened) => {
                let expected = SnapshotNo(self.snapshots.len() as u32);
                require(opened.snapshot == expected, || {
                    format!("snapshot {} after {expected} others", opened.snapshot)
                })?;
                self.snapshot = Some(expected);
                self.snapshots.push(opened.clone());
                // The columns may have changed between the two: they are read again, in the new one.
                self.schema_is_fresh = false;
            }
            Event::SplitChosen(chosen) => {
                require(!self.is_planned, || "the plan is made already".into())?;
                require(self.snapshot.is_some(), || "a plan is made in a snapshot".into())?;
                require(chosen.slices > 0, || "a plan has at least one slice".into())?;
                self.forget_plan();
                self.split = Some(chosen.split.clone());
                self.estimated_rows = chosen.estimated_rows;
                self.slices_announced = chosen.slices;
            }
            Event::SplitOrdering(ordering) => {
                let begins = self.split.is_some() && self.slices.is_empty() && !self.is_planned;
                require(begins, || "an order outside of a plan's beginning".into())?;
                self.ordering.extend(ordering.columns.iter().cloned());
            }
            Event::SlicesPlanned(planned) => {
                require(self.split.is_some() && !self.is_planned, || "slices outside of a plan".into())?;
                let total = self.slices.len() + planned.slices.len();
                let announced = self.slices_announced as usize;
                require(total <= announced && planned.last == (total == announced), || {
                    format!("{total} of {announced} slices, last = {}", planned.last)
                })?;
                let numbers = planned.slices.iter().map(|slice| slice.slice.0 as usize);
                require(numbers.eq(self.slices.len()..total), || "slices are numbered 0, 1, 2, …".into())?;
                self.slices.extend(planned.slices.iter().cloned().map(SliceState::new));
                self.is_planned = planned.last;
            }
            Event::WorkRestarted(_) => {
                require(self.parts().next().is_none(), || "its parts must be superseded first".into())?;
                self.forget_plan();
                self.snapshot = None;
                self.stage = Stage::Reading;
            }
            Event::ManifestWritten(written) => {
                require(self.is_read(), || "not every slice is complete".into())?;
                let (rows, parts) = (self.rows(), self.parts().count() as u64);
                require((written.rows, u64::from(written.parts)) == (rows, parts), || {
                    format!("it lists {} rows in {} parts, the run has {rows} in {parts}", written.rows, written.parts)
                })?;
                self.manifest = Some(written.fingerprint);
                self.stage = Stage::Manifested;
            }
            Event::Published(published) => {
                require(self.stage == Stage::Manifested, || "there is no manifest to publish".into())?;
                require(self.manifest == Some(published.manifest), || "it is another manifest".into())?;
                self.stage = Stage::Published;
            }
            Event::Validated(validated) => {
                require(self.stage == Stage::Published, || "nothing is published yet".into())?;
                self.validated = Some(validated.passed);
            }
            Event::RunFinished(finished) => self.finish(finished.outcome)?,
            Event::WarningNoted(_) => {}
            Event::SliceStarted(_)
            | Event::BatchFetched(_)
            | Event::PartChecksums(_)
            | Event::SpecialValuesCounted(_)
            | Event::PartSealed(_)
            | Event::PartCommitted(_)
            | Event::SliceCompleted(_)
            | Event::SliceFailed(_)
            | Event::RetryScheduled(_)
            | Event::PartSuperseded(_)
            | Event::PartQuarantined(_) => self.apply_slice(event)?,
            Event::RunPlanned(_) | Event::InvocationStarted(_) | Event::RunAbandoned(_) => {
                return Err("it changes a run's life, not its work".into());
            }
        }
        Ok(())
    }

    fn finish(&mut self, outcome: Outcome) -> Result<(), String> {
        self.life = match outcome {
            Outcome::Success => {
                require(self.stage == Stage::Published, || "success before it is published".into())?;
                require(self.validated != Some(false), || "success although validation failed".into())?;
                Life::Closed(outcome)
            }
            Outcome::Skipped => {
                let empty = self.is_read() && self.parts().next().is_none() && self.stage == Stage::Reading;
                require(empty, || "skipped although there is something to deliver".into())?;
                Life::Closed(outcome)
            }
            Outcome::Failed | Outcome::Interrupted => Life::Ended(outcome),
        };
        Ok(())
    }

    fn apply_slice(&mut self, event: &Event) -> Result<(), String> {
        match event {
            Event::SliceStarted(started) => {
                require(self.is_planned, || "the plan is not whole".into())?;
                require(self.snapshot == Some(started.snapshot), || {
                    "it is not the snapshot of this invocation".into()
                })?;
                let slice = slice_mut(&mut self.slices, started.slice)?;
                require(slice.status == SliceStatus::Pending, || format!("slice {} is not pending", started.slice))?;
                require(started.attempt == slice.attempts.next(), || {
                    format!("attempt {} after attempt {}", started.attempt, slice.attempts)
                })?;
                require(slice.parts.is_empty(), || "its earlier parts still count".into())?;
                slice.status = SliceStatus::Running(started.attempt);
                slice.attempts = started.attempt;
                slice.snapshot = Some(started.snapshot);
            }
            Event::BatchFetched(batch) => {
                slice_mut(&mut self.slices, batch.slice)?.require_running(batch.attempt)?;
            }
            Event::SpecialValuesCounted(counted) => {
                slice_mut(&mut self.slices, counted.slice)?.require_running(counted.attempt)?;
            }
            Event::PartChecksums(sums) => {
                slice_mut(&mut self.slices, sums.slice)?.require_running(sums.attempt)?;
            }
            Event::PartSealed(facts) => {
                let slice = slice_mut(&mut self.slices, facts.slice)?;
                slice.require_running(facts.attempt)?;
                require(facts.file.0 as usize == slice.parts.len(), || "files are numbered 0, 1, 2, …".into())?;
                require(slice.announced_rows().is_none(), || "a file after the last".into())?;
                let rows = slice.rows().checked_add(facts.rows).ok_or("more rows than can be counted")?;
                require(facts.slice_rows.is_none_or(|counted| counted == rows), || {
                    format!("the server counted {:?} rows, the files hold {rows}", facts.slice_rows)
                })?;
                slice.parts.insert(facts.file, Part { facts: facts.clone(), committed: false });
            }
            Event::PartCommitted(receipt) => {
                let slice = slice_mut(&mut self.slices, receipt.slice)?;
                match slice.status {
                    SliceStatus::Running(attempt) | SliceStatus::Orphaned(attempt) if attempt == receipt.attempt => {}
                    _ => return Err(format!("attempt {} is not at work", receipt.attempt)),
                }
                let part = slice.parts.get_mut(&receipt.file).ok_or("a receipt for a file that was not sealed")?;
                let sealed = (&part.facts.path, part.facts.bytes, part.facts.rows, part.facts.fingerprint);
                let stored = (&receipt.path, receipt.bytes, receipt.rows, receipt.fingerprint);
                require(sealed == stored && !part.committed, || "the receipt is not for the sealed file".into())?;
                part.committed = true;
            }
            Event::SliceCompleted(completed) => {
                let slice = slice_mut(&mut self.slices, completed.slice)?;
                match slice.status {
                    SliceStatus::Running(attempt) | SliceStatus::Orphaned(attempt) if attempt == completed.attempt => {}
                    _ => return Err(format!("attempt {} is not at work", completed.attempt)),
                }
                let all_committed = slice.parts.values().all(|part| part.committed);
                require(all_committed, || "a sealed file has no receipt".into())?;
                let sums = (slice.rows(), slice.parts.len());
                require(sums == (completed.rows, completed.files as usize), || {
                    format!("{} rows in {} files, its parts hold {sums:?}", completed.rows, completed.files)
                })?;
                let counted = slice.parts.is_empty() || slice.announced_rows() == Some(completed.rows);
                require(counted, || "its last file is not sealed".into())?;
                slice.status = SliceStatus::Complete;
            }
            Event::SliceFailed(failed) => {
                let slice = slice_mut(&mut self.slices, failed.slice)?;
                match slice.status {
                    SliceStatus::Running(attempt) => {
                        require(attempt == failed.attempt, || format!("attempt {attempt} is at work"))?;
                        slice.failures += 1;
                    }
                    SliceStatus::Orphaned(attempt) => {
                        require(attempt == failed.attempt, || format!("attempt {attempt} was at work"))?;
                    }
                    _ => return Err(format!("slice {} is not at work", failed.slice)),
                }
                slice.status = SliceStatus::Pending;
                // A sealed file without a receipt never counted, though it may stand under its final name. Committed ones
                // still do, until they are superseded.
                let unstored = slice.parts.values().filter(|part| !part.committed);
                self.superseded.extend(unstored.map(|part| part.facts.path.clone()));
                slice.parts.retain(|_, part| part.committed);
            }
            Event::RetryScheduled(retry) => {
                let slice = slice_mut(&mut self.slices, retry.slice)?;
                let fits = slice.status == SliceStatus::Pending && retry.attempt == slice.attempts.next();
                require(fits, || format!("slice {} does not wait for attempt {}", retry.slice, retry.attempt))?;
            }
            Event::PartSuperseded(superseded) => {
                let slice = slice_mut(&mut self.slices, superseded.slice)?;
                let part = slice.parts.get(&superseded.file).filter(|part| part.committed);
                require(part.is_some_and(|part| part.facts.path == superseded.path), || {
                    format!("{} is not a part of the run", superseded.path)
                })?;
                slice.drop_part(superseded.file)?;
                self.superseded.push(superseded.path.clone());
                self.stage = Stage::Reading;
            }
            Event::PartQuarantined(quarantined) => {
                let found = self.slices.iter_mut().find_map(|slice| {
                    let file =
                        slice.parts.iter().find(|(_, part)| part.facts.path == quarantined.path).map(|(f, _)| *f);
                    file.map(|file| (slice, file))
                });
                if let Some((slice, file)) = found {
                    slice.drop_part(file)?;
                    self.stage = Stage::Reading;
                }
            }
            _ => return Err("it is not about a slice".into()),
        }
        Ok(())
    }

    fn forget_plan(&mut self) {
        self.split = None;
        self.ordering.clear();
        self.slices.clear();
        self.slices_announced = 0;
        self.is_planned = false;
    }
}

impl SliceState {
    fn require_running(&self, attempt: Attempt) -> Result<(), String> {
        require(self.status == SliceStatus::Running(attempt), || {
            format!("attempt {attempt} of slice {} is not running", self.plan.slice)
        })
    }

    /// A part of a complete or pending slice stops counting; the slice has to be read again.
    fn drop_part(&mut self, file: FileNo) -> Result<(), String> {
        let at_rest = matches!(self.status, SliceStatus::Pending | SliceStatus::Complete);
        require(at_rest, || format!("slice {} is at work", self.plan.slice))?;
        self.parts.remove(&file);
        self.status = SliceStatus::Pending;
        Ok(())
    }
}

fn require(holds: bool, why: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(why()) }
}

fn slice_mut(slices: &mut [SliceState], slice: SliceNo) -> Result<&mut SliceState, String> {
    slices.get_mut(slice.0 as usize).ok_or_else(|| format!("slice {slice} is not in the plan"))
}

//! [`RunJournal`]: the structured log of one run, folded so that it answers four questions without keeping every event:
//! what was planned, what happened, what was degraded, what was the outcome.

use super::event::{Event, Outcome, PartFacts, Recorded, RunPlanned, SnapshotOpened, SpecialCount};
use super::ids::{ChainHash, EventSeq, FileNo, SliceNo};
use super::plan::{Bounds, Split};
use super::schema::Schema;
use crate::error::ErrorKind;
use serde::ser::SerializeStruct;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Warnings beyond this many are counted, not kept.
const MAX_WARNINGS: usize = 1000;

/// What was planned?
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Planned {
    pub run: RunPlanned,
    pub split: Option<Split>,
    pub slices: u32,
    pub estimated_rows: u64,
    /// Why the source was divided in this way.
    pub reason: String,
}

/// What happened?
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Happened {
    pub files: u32,
    pub adopted: u32,
    pub superseded: u32,
    pub quarantined: u32,
    pub retries: u32,
    /// Note.
    pub last_retry_delay_ms: u64,
    pub failures: u32,
    pub slices_completed: u32,
    pub rows_fetched: u64,
    /// Bytes of the COPY streams, over all attempts.
    pub bytes_fetched: u64,
    /// The slice that took longest, and its milliseconds.
    pub slowest_slice: Option<(SliceNo, u64)>,
}

/// What was degraded?
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Degraded {
    /// Code and message, in order.
    pub warnings: Vec<(String, String)>,
    /// Warnings that were not kept.
    pub more_warnings: u64,
    pub schema_changed: bool,
    pub quality_issues: Vec<String>,
}

/// Values of a column that were delivered as something else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpecialTotal {
    pub column: String,
    /// As in [`SpecialCount::kind`].
    pub kind: String,
    pub count: u64,
}

/// What was the outcome? `None` while the run is going on, and after a crash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    pub outcome: Outcome,
    pub code: Option<String>,
    pub message: Option<String>,
}

/// A sealed file and its checksums, until the next attempt at its slice.
#[derive(Debug, Clone, PartialEq)]
pub struct Sealed {
    pub facts: PartFacts,
    pub checksums: Vec<u64>,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct RunJournal {
    events: u64,
    head_seq: EventSeq,
    head_hash: Option<ChainHash>,
    append_p99_us: u64,
    time_ms: u64,
    planned: Planned,
    happened: Happened,
    degraded: Degraded,
    outcome: Option<Finished>,
    invocations: u32,
    snapshots: Vec<SnapshotOpened>,
    started_ms: Option<i64>,
    ended_ms: Option<i64>,
    /// Of the invocations before this one.
    earlier_us: u64,
    /// Of this one, so far.
    current_us: u64,
    bounds: BTreeMap<u32, Bounds>,
    /// In which snapshot each slice was last begun.
    slice_snapshots: BTreeMap<u32, u32>,
    /// Slices that are complete, and not open again since a part of theirs was withdrawn.
    complete: BTreeSet<u32>,
    /// The slice of each part that counted when it was committed, by path.
    slice_of: BTreeMap<String, u32>,
    /// By slice, then by column and kind.
    special_values: BTreeMap<u32, BTreeMap<(u32, String), u64>>,
    schema: Schema,
    sums: BTreeMap<(u32, u32), Vec<u64>>,
    sealed: BTreeMap<(u32, u32), Sealed>,
}

impl RunJournal {
    pub fn planned(&self) -> &Planned {
        &self.planned
    }

    pub fn happened(&self) -> &Happened {
        &self.happened
    }

    pub fn degraded(&self) -> &Degraded {
        &self.degraded
    }

    pub fn outcome(&self) -> Option<&Finished> {
        self.outcome.as_ref()
    }

    /// How often a process worked on the run.
    pub fn invocations(&self) -> u32 {
        self.invocations
    }

    pub fn snapshots(&self) -> &[SnapshotOpened] {
        &self.snapshots
    }

    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    pub fn events(&self) -> u64 {
        self.events
    }

    pub fn head_seq(&self) -> EventSeq {
        self.head_seq
    }

    pub fn head_hash(&self) -> ChainHash {
        self.head_hash.unwrap_or(ChainHash::GENESIS)
    }

    /// p99 of the durable appends of the last invocation that ended, in microseconds.
    pub fn append_p99_us(&self) -> u64 {
        self.append_p99_us
    }

    /// Time spent in the journal, summed over the invocations that ended.
    pub fn time_ms(&self) -> u64 {
        self.time_ms
    }

    /// Wall time of the first event, in milliseconds since 1970. A note.
    pub fn started_ms(&self) -> Option<i64> {
        self.started_ms
    }

    /// Wall time of the last event, in milliseconds since 1970. A note.
    pub fn ended_ms(&self) -> Option<i64> {
        self.ended_ms
    }

    /// Milliseconds of work, summed over the invocations.
    pub fn duration_ms(&self) -> i64 {
        (self.earlier_us.saturating_add(self.current_us) / 1000).cast_signed()
    }

    /// The snapshots that slices were read in. A slice without rows counts too: that it had none is true of its snapshot.
    pub fn snapshots_read(&self) -> BTreeSet<u32> {
        self.slice_snapshots.values().copied().collect()
    }

    /// How many of the planned slices are complete as things stand.
    pub fn slices_complete(&self) -> usize {
        self.complete.len()
    }

    /// Whether one of the planned slices is not a range of the key but the rows without one.
    pub fn has_null_slice(&self) -> bool {
        self.bounds.values().any(|bounds| *bounds == Bounds::NullKey)
    }

    /// `snapshot` when every slice was read in one, else `mixed`.
    pub fn consistency(&self) -> &'static str {
        if self.snapshots_read().len() > 1 { "mixed" } else { "snapshot" }
    }

    pub(super) fn sealed(&self, slice: u32, file: FileNo) -> Option<&Sealed> {
        self.sealed.get(&(slice, file.0))
    }

    pub(super) fn bounds(&self, slice: u32) -> Option<&Bounds> {
        self.bounds.get(&slice)
    }

    /// Values that were delivered as something else, in the slices that count: by column, then by kind.
    pub fn special_values(&self) -> Vec<SpecialTotal> {
        let mut totals: BTreeMap<(u32, &str), u64> = BTreeMap::new();
        for ((column, kind), count) in self.special_values.values().flatten() {
            *totals.entry((*column, kind)).or_default() += count;
        }
        let named = totals.into_iter().map(|((column, kind), count)| SpecialTotal {
            column: self.schema.columns.get(column as usize).map_or_else(String::new, |column| column.name.clone()),
            kind: kind.to_owned(),
            count,
        });
        named.collect()
    }

    pub(super) fn apply(&mut self, recorded: &Recorded) {
        self.events += 1;
        self.head_seq = recorded.seq;
        self.head_hash = Some(recorded.hash);
        self.started_ms.get_or_insert(recorded.wall_ms);
        self.ended_ms = Some(recorded.wall_ms);
        if let Event::InvocationStarted(started) = &recorded.event {
            // The first invocation's clock has run since before its run was planned.
            if started.invocation > 1 {
                self.earlier_us = self.earlier_us.saturating_add(self.current_us);
                self.current_us = 0;
            }
            self.invocations = started.invocation;
            self.outcome = None;
        }
        self.current_us = self.current_us.max(recorded.mono_us);
        self.apply_event(&recorded.event);
    }

    fn apply_event(&mut self, event: &Event) {
        match event {
            Event::RunPlanned(planned) => self.planned.run = (**planned).clone(),
            Event::SchemaResolved(resolved) => {
                self.schema = Schema::default();
                self.degraded.schema_changed |= resolved.changed == Some(true);
            }
            Event::SchemaColumns(columns) => self.schema.columns.extend(columns.columns.iter().cloned()),
            Event::SnapshotOpened(opened) => self.snapshots.push(opened.clone()),
            Event::SplitChosen(chosen) => {
                self.planned.split = Some(chosen.split.clone());
                self.planned.slices = chosen.slices;
                self.planned.estimated_rows = chosen.estimated_rows;
                self.planned.reason.clone_from(&chosen.reason);
                self.bounds.clear();
                self.slice_snapshots.clear();
            }
            Event::SlicesPlanned(planned) => {
                self.bounds.extend(planned.slices.iter().map(|slice| (slice.slice.0, slice.bounds.clone())));
            }
            Event::SpecialValuesCounted(counted) => {
                let counts = self.special_values.entry(counted.slice.0).or_default();
                for SpecialCount { column, kind, count } in &counted.counts {
                    *counts.entry((*column, kind.clone())).or_default() += count;
                }
            }
            Event::SliceStarted(started) => {
                self.special_values.remove(&started.slice.0);
                self.slice_snapshots.insert(started.slice.0, started.snapshot.0);
                self.complete.remove(&started.slice.0);
                self.forget_files(started.slice);
            }
            Event::BatchFetched(batch) => {
                self.happened.rows_fetched = self.happened.rows_fetched.saturating_add(batch.rows);
                self.happened.bytes_fetched = self.happened.bytes_fetched.saturating_add(batch.bytes);
            }
            Event::PartChecksums(part) => {
                self.sums.entry((part.slice.0, part.file.0)).or_default().extend(&part.sums);
            }
            Event::PartSealed(facts) => {
                let place = (facts.slice.0, facts.file.0);
                let checksums = self.sums.remove(&place).unwrap_or_default();
                self.sealed.insert(place, Sealed { facts: facts.clone(), checksums });
            }
            Event::PartCommitted(receipt) => {
                self.slice_of.insert(receipt.path.clone(), receipt.slice.0);
                self.happened.files += 1;
                self.happened.adopted += u32::from(receipt.adopted);
            }
            Event::SliceCompleted(completed) => {
                self.complete.insert(completed.slice.0);
                self.happened.slices_completed += 1;
                if self.happened.slowest_slice.is_none_or(|(_, slowest)| completed.took_ms > slowest) {
                    self.happened.slowest_slice = Some((completed.slice, completed.took_ms));
                }
                self.forget_files(completed.slice);
            }
            Event::SliceFailed(_) => self.happened.failures += 1,
            Event::RetryScheduled(retry) => {
                self.happened.retries += 1;
                self.happened.last_retry_delay_ms = retry.delay_ms;
            }
            Event::PartSuperseded(superseded) => {
                self.reopen(&superseded.path);
                self.happened.superseded += 1;
            }
            Event::PartQuarantined(quarantined) => {
                self.reopen(&quarantined.path);
                self.happened.quarantined += 1;
            }
            Event::WorkRestarted(_) => {
                self.complete.clear();
                self.slice_of.clear();
                self.special_values.clear();
                self.planned.split = None;
                self.bounds.clear();
                self.slice_snapshots.clear();
            }
            Event::WarningNoted(warning) => {
                if self.degraded.warnings.len() < MAX_WARNINGS {
                    self.degraded.warnings.push((warning.code.clone(), warning.message.clone()));
                } else {
                    self.degraded.more_warnings += 1;
                }
            }
            Event::RunFinished(finished) => {
                let (outcome, code, message) = (finished.outcome, finished.code.clone(), finished.message.clone());
                self.outcome = Some(Finished { outcome, code, message });
                self.append_p99_us = finished.append_p99_us;
                self.time_ms = self.time_ms.saturating_add(finished.journal_time_ms);
                self.current_us = self.current_us.max(finished.duration_ms.saturating_mul(1000));
            }
            Event::RunAbandoned(abandoned) => {
                self.outcome = Some(Finished {
                    outcome: Outcome::Failed,
                    code: Some(ErrorKind::RunSuperseded.class().code.to_owned()),
                    message: Some(format!("abandoned: {}", abandoned.reason)),
                });
            }
            Event::RelationResolved(_)
            | Event::SplitOrdering(_)
            | Event::InvocationStarted(_)
            | Event::ManifestWritten(_)
            | Event::Published(_)
            | Event::Validated(_) => {}
        }
    }

    /// The slice of a part that no longer counts has to be read again.
    fn reopen(&mut self, path: &str) {
        if let Some(slice) = self.slice_of.remove(path) {
            self.complete.remove(&slice);
        }
    }

    fn forget_files(&mut self, slice: SliceNo) {
        self.sums.retain(|(of, _), _| *of != slice.0);
        self.sealed.retain(|(of, _), _| *of != slice.0);
    }
}

/// `{events, head_seq, head_hash, append_p99_us, time_ms}`.
impl Serialize for RunJournal {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut journal = serializer.serialize_struct("RunJournal", 5)?;
        journal.serialize_field("events", &self.events)?;
        journal.serialize_field("head_seq", &self.head_seq)?;
        journal.serialize_field("head_hash", &self.head_hash())?;
        journal.serialize_field("append_p99_us", &self.append_p99_us)?;
        journal.serialize_field("time_ms", &self.time_ms)?;
        journal.end()
    }
}

//! The journal, the state and the summary of a run, kept in step.

use super::clock::{Clock, wall_ms};
use crate::error::Result;
use crate::journal::{Journal, Stamp, check_size};
use crate::run::event::{Event, Recorded};
use crate::run::ids::{ChainHash, EventSeq, RunOrdinal};
use crate::run::{Command, RunState, RunSummary, decide};
use std::time::{Duration, Instant};

/// How often `status.json` follows a run that makes progress.
const STATUS_EVERY: Duration = Duration::from_millis(500);

/// One run's record: whatever happens to the run goes through [`Ledger::record`].
pub struct Ledger {
    journal: Journal,
    run: RunOrdinal,
    state: RunState,
    summary: RunSummary,
    clock: Clock,
    status_written: Option<Instant>,
}

impl Ledger {
    /// A run that is about to be planned.
    pub fn new_run(journal: Journal, clock: Clock) -> Self {
        let run = journal.begin_run();
        Ledger { journal, run, state: RunState::default(), summary: RunSummary::default(), clock, status_written: None }
    }

    /// A run that the journal knows, folded from its events.
    ///
    /// # Errors
    /// The journal cannot be read, or holds an event that cannot follow from those before it.
    pub fn reopen(journal: Journal, run: RunOrdinal, clock: Clock) -> Result<Self> {
        let records = journal.records(run)?;
        let state = RunState::fold(&records)?;
        let summary = RunSummary::from_events(&records);
        Ok(Ledger { journal, run, state, summary, clock, status_written: None })
    }

    /// Takes state and summary from the journal again.
    ///
    /// # Errors
    /// As [`Ledger::reopen`].
    pub fn fold_again(&mut self) -> Result<()> {
        let records = self.journal.records(self.run)?;
        self.state = RunState::fold(&records)?;
        self.summary = RunSummary::from_events(&records);
        Ok(())
    }

    /// [`Ledger::record_all`] of one command.
    pub fn record(&mut self, command: Command) -> Result<()> {
        self.record_all([command])
    }

    /// Decides, appends, applies. When this returns, what the commands report is as durable as its events have to be; all
    /// of their events share one flush.
    ///
    /// An event is applied to the state before it is appended, because applying is what finds it illegal, and an illegal
    /// event must never reach the disk. What could still keep it from being appended is looked at before that, or ends the
    /// journal, which then refuses everything else: a state that is ahead of it has no consequences.
    ///
    /// # Errors
    /// A command is refused: those before it are recorded, those after it are not. Or the journal failed.
    pub fn record_all(&mut self, commands: impl IntoIterator<Item = Command>) -> Result<()> {
        let stamp = self.clock.stamp();
        let mut events = vec![];
        let decided = commands.into_iter().try_for_each(|command| self.propose(command, stamp, &mut events));
        if !events.is_empty() {
            for recorded in self.journal.append_all(self.run, events, stamp)? {
                self.summary.apply(&recorded);
            }
            self.follow_with_status();
        }
        decided
    }

    /// Adds what follows from `command` to the events that are to be appended, and to the state.
    fn propose(&mut self, command: Command, stamp: Stamp, events: &mut Vec<Event>) -> Result<()> {
        let next = self.journal.head().map_or(EventSeq(1), |(seq, _)| seq.next());
        let (wall_ms, mono_us) = (stamp.wall_ms, stamp.mono_us);
        for event in decide(&self.state, command)? {
            check_size(&event)?;
            let seq = EventSeq(next.0 + events.len() as u64);
            let proposed = Recorded { run: self.run, seq, wall_ms, mono_us, hash: ChainHash::GENESIS, event };
            self.state.apply(&proposed)?;
            events.push(proposed.event);
        }
        Ok(())
    }

    /// The summary as it would be after `command`. Nothing is recorded.
    ///
    /// # Errors
    /// The command would be refused.
    pub fn foresee(&self, command: Command) -> Result<RunSummary> {
        let mut foreseen = self.summary.clone();
        let (run, stamp) = (self.run, self.clock.stamp());
        for event in decide(&self.state, command)? {
            let (seq, hash) = (EventSeq::default(), ChainHash::GENESIS);
            foreseen.apply(&Recorded { run, seq, wall_ms: stamp.wall_ms, mono_us: stamp.mono_us, hash, event });
        }
        Ok(foreseen)
    }

    pub fn state(&self) -> &RunState {
        &self.state
    }

    pub fn summary(&self) -> &RunSummary {
        &self.summary
    }

    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Whether the export has no later run.
    pub fn is_last(&self) -> bool {
        self.journal.last_run() == Some(self.run)
    }

    /// Gives the journal back, for the next run of the export.
    pub fn into_journal(self) -> Journal {
        self.journal
    }

    /// Writes `status.json`, for those who look at a live run.
    pub fn write_status(&mut self) {
        self.status_written = Some(Instant::now());
        // The parts are in the journal; a long list of them would be copied twice a second.
        let parts = std::mem::take(&mut self.summary.manifest_parts);
        let status = serde_json::json!({
            "pid": std::process::id(),
            "updated_ms": wall_ms(),
            "slices": {
                "total": self.summary.journal.planned().slices,
                "completed": self.state.slices_in(|status| status == crate::run::state::SliceStatus::Complete).count(),
            },
            "estimated_rows": self.summary.journal.planned().estimated_rows,
            "rows_fetched": self.summary.journal.happened().rows_fetched,
            "summary": self.summary,
        });
        self.summary.manifest_parts = parts;
        // A convenience beside the journal: a run does not fail because nobody can watch it.
        let _ = self.journal.write_status(&status);
    }

    fn follow_with_status(&mut self) {
        if self.status_written.is_none_or(|written| written.elapsed() >= STATUS_EVERY) {
            self.write_status();
        }
    }
}

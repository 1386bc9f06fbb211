//! Reading the slices of a run: hands slices to workers, journals what they report, and lets them go on.

use super::ExportContext;
use super::ledger::Ledger;
use super::notice::Notice;
use super::stop::{Stop, interrupted};
use super::worker;
use crate::config::SourceConfig;
use crate::destination::local::LocalPrefix;
use crate::encode::parquet::ParquetOptions;
use crate::error::{Error, ErrorKind, Result, Retry};
use crate::run::decide::Failure;
use crate::run::event::PartFacts;
use crate::run::ids::{Attempt, FileNo, SliceNo, SnapshotNo};
use crate::run::plan::{SlicePlan, Split};
use crate::run::schema::Schema;
use crate::run::state::SliceStatus;
use crate::run::{Command, Step, next};
use crate::source::postgres::catalog::Described;
use crate::source::postgres::session::{Session, SessionSettings};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};

/// Everything that the workers of a run share. Nothing in it changes while they work.
pub struct Reading<'a> {
    pub runtime: &'a tokio::runtime::Handle,
    pub source: &'a SourceConfig,
    pub settings: SessionSettings,
    pub described: &'a Described,
    pub schema: &'a Schema,
    pub split: &'a Split,
    pub destination: &'a LocalPrefix,
    /// Stops the workers of this reading: after a request to stop, or when one of them failed for good.
    pub halt: Stop,
    pub limits: Limits,
    pub options: ParquetOptions,
    /// Key-value metadata that every part carries.
    pub metadata: Vec<(String, String)>,
}

/// Sizes and pauses, derived from the tuning.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// A batch is handed on when it holds so many rows, or so many bytes.
    pub batch_rows: usize,
    pub batch_bytes: usize,
    /// Encoded bytes after which a part is closed.
    pub part_bytes: u64,
    pub max_value_bytes: usize,
    /// Pause per `throttle_rows` rows.
    pub throttle: Duration,
    pub throttle_rows: u64,
    /// Whether an export without rows still gets one file, which then carries the schema.
    pub writes_empty_file: bool,
}

/// One attempt at one slice.
#[derive(Clone)]
pub struct Assignment {
    pub worker: usize,
    pub plan: SlicePlan,
    pub attempt: Attempt,
    pub snapshot: SnapshotNo,
    pub snapshot_id: String,
    /// The session that holds the snapshot, lent where a single slice makes a second connection a waste.
    pub lent_session: Option<Arc<Session>>,
}

/// A worker waits on this until its report is durable. Dropped unanswered: the report was refused, stop.
pub type Acknowledge = mpsc::SyncSender<()>;

/// What a worker reports.
pub enum Receipt {
    Batch {
        slice: SliceNo,
        attempt: Attempt,
        rows: u64,
        bytes: u64,
    },
    /// A file is complete and synced under its temporary name.
    Sealed {
        facts: PartFacts,
        checksums: Vec<u64>,
        acknowledge: Acknowledge,
    },
    /// A sealed file is durable under its final name, and the slice goes on with another.
    Stored {
        slice: SliceNo,
        file: FileNo,
        attempt: Attempt,
        acknowledge: Acknowledge,
    },
    /// The stream ended well, every file is stored, and the worker is free. `last_file` still wants its receipt; a slice
    /// without rows may have none. `rows` is the server's count.
    Drained {
        worker: usize,
        slice: SliceNo,
        attempt: Attempt,
        last_file: Option<FileNo>,
        rows: u64,
        /// By index of the column: values that it has no room for and that were delivered as NULL.
        special_values: Vec<(usize, u64)>,
        took: Duration,
    },
    Failed {
        worker: usize,
        slice: SliceNo,
        attempt: Attempt,
        error: Error,
    },
    StopRequested,
}

/// Reads pending slices until none is left. Workers see a request to stop, and a fatal failure of one of them, through
/// `reading.halt`.
///
/// # Errors
/// [`ErrorKind::RunInterrupted`] after a stop request; [`ErrorKind::SourceSnapshotLost`] when the rest has to be read in a
/// new snapshot; else the first failure that retrying cannot mend. In each case no worker is at work any more, and the
/// journal says where each slice stands.
pub fn read_slices(
    context: &ExportContext<'_>,
    ledger: &mut Ledger,
    reading: &Reading<'_>,
    holder: &Arc<Session>,
) -> Result<()> {
    let slices = ledger.state().slices.len();
    let pending = match next(ledger.state()) {
        Step::Read { pending, .. } => pending.len(),
        _ => 0,
    };
    let workers = context.export.tuning.parallel.clamp(1, pending.max(1));
    let lent = (slices == 1).then(|| Arc::clone(holder));
    let (receipts, inbox) = mpsc::channel();
    let watcher = watch_for_stop(context, reading, &receipts);
    let outcome = std::thread::scope(|scope| {
        let desks: Vec<Sender<Assignment>> = (0..workers)
            .map_while(|_| {
                let (desk, assignments) = mpsc::channel();
                let receipts = receipts.clone();
                let work = move || worker::work(reading, &assignments, &receipts);
                std::thread::Builder::new().name("rivet-worker".to_owned()).spawn_scoped(scope, work).ok().map(|_| desk)
            })
            .collect();
        if desks.is_empty() {
            return Err(Error::new(ErrorKind::SystemLimit, "the system gives no thread to a worker"));
        }
        let workers = desks.len();
        let mut coordinator = Coordinator {
            context,
            ledger,
            desks,
            idle: (0..workers).collect(),
            waiting: HashMap::new(),
            failed: None,
            fetched: HashMap::new(),
            special_values: BTreeMap::new(),
            lent,
            halt: &reading.halt,
        };
        let outcome = coordinator.coordinate(&inbox);
        if outcome.is_err() {
            reading.halt.request();
        }
        // Where the journal is what failed, the first error is the one worth reading.
        outcome.and(coordinator.tell_of_special_values(reading.schema))
    });
    watcher.abort();
    outcome
}

fn watch_for_stop(
    context: &ExportContext<'_>,
    reading: &Reading<'_>,
    receipts: &Sender<Receipt>,
) -> tokio::task::JoinHandle<()> {
    let (stop, halt, receipts) = (context.stop.clone(), reading.halt.clone(), receipts.clone());
    reading.runtime.spawn(async move {
        stop.requested().await;
        halt.request();
        // The coordinator may be gone already; then nobody needs to know.
        let _ = receipts.send(Receipt::StopRequested);
    })
}

struct Coordinator<'a, 'c> {
    context: &'a ExportContext<'c>,
    ledger: &'a mut Ledger,
    desks: Vec<Sender<Assignment>>,
    idle: Vec<usize>,
    /// Slices that wait for their retry, and until when.
    waiting: HashMap<SliceNo, Instant>,
    /// Why no further slice is handed out. Workers that are busy are heard to their end.
    failed: Option<Error>,
    /// Rows and bytes of the attempts at work, for the eyes.
    fetched: HashMap<SliceNo, (u64, u64)>,
    /// What the slices that are complete delivered as NULL, by index of the column.
    special_values: BTreeMap<usize, u64>,
    /// The holder's session, where it also reads.
    lent: Option<Arc<Session>>,
    halt: &'a Stop,
}

impl Coordinator<'_, '_> {
    fn coordinate(&mut self, inbox: &Receiver<Receipt>) -> Result<()> {
        loop {
            let (pending, running) = match next(self.ledger.state()) {
                Step::Read { pending, running } => (pending, running),
                _ => (vec![], 0),
            };
            let all_idle = self.idle.len() == self.desks.len();
            if all_idle && running == 0 {
                if let Some(error) = self.failed.take() {
                    return Err(error);
                }
                if pending.is_empty() {
                    return Ok(());
                }
            }
            self.hand_out()?;
            match self.wait(inbox) {
                Some(receipt) => self.take(receipt)?,
                None => continue,
            }
        }
    }

    /// Gives pending slices that are due to idle workers.
    fn hand_out(&mut self) -> Result<()> {
        while let (Some(slice), Some(worker)) = (self.next_due(), self.idle.last().copied()) {
            self.ledger.record(Command::StartSlice { slice })?;
            self.idle.pop();
            self.assign(worker, slice)?;
        }
        Ok(())
    }

    /// A pending slice that is not waiting for its retry. None once something failed.
    fn next_due(&self) -> Option<SliceNo> {
        if self.failed.is_some() {
            return None;
        }
        let now = Instant::now();
        let is_due = |slice: &SliceNo| self.waiting.get(slice).is_none_or(|until| *until <= now);
        self.ledger.state().slices_in(|status| status == SliceStatus::Pending).find(is_due)
    }

    /// Sends a slice that was started to its worker.
    fn assign(&mut self, worker: usize, slice: SliceNo) -> Result<()> {
        self.waiting.remove(&slice);
        let state = self.ledger.state();
        let (Some(of), Some(opened)) = (state.slice(slice), state.snapshots.last()) else {
            return Err(Error::new(ErrorKind::Internal, format!("slice {slice} vanished while it was started")));
        };
        let assignment = Assignment {
            worker,
            plan: of.plan.clone(),
            attempt: of.attempts,
            snapshot: opened.snapshot,
            snapshot_id: opened.id.clone(),
            lent_session: self.lent.clone(),
        };
        let sent = self.desks[worker].send(assignment);
        sent.map_err(|_| Error::new(ErrorKind::Internal, format!("worker {worker} ended early")))
    }

    /// The next receipt, or `None` when a retry became due first.
    fn wait(&self, inbox: &Receiver<Receipt>) -> Option<Receipt> {
        let due = self.waiting.values().min().filter(|_| self.failed.is_none() && !self.idle.is_empty());
        match due {
            Some(due) => inbox.recv_timeout(due.saturating_duration_since(Instant::now())).ok(),
            // This coordinator's own sender keeps the channel open.
            None => inbox.recv().ok(),
        }
    }

    fn take(&mut self, receipt: Receipt) -> Result<()> {
        let export = &self.context.export.name;
        match receipt {
            Receipt::Batch { slice, attempt, rows, bytes } => {
                self.ledger.record(Command::NoteBatch { slice, attempt, rows, bytes })?;
                let fetched = self.fetched.entry(slice).or_default();
                *fetched = (fetched.0 + rows, fetched.1 + bytes);
                self.context.notify(Notice::Rows { export: export.clone(), rows, bytes });
            }
            Receipt::Sealed { facts, checksums, acknowledge } => {
                self.ledger.record(Command::SealPart { facts, checksums })?;
                // A worker that is gone has reported its failure, or will.
                let _ = acknowledge.send(());
            }
            Receipt::Stored { slice, file, attempt, acknowledge } => {
                self.ledger.record(Command::CommitPart { slice, file, attempt, adopted: false })?;
                let _ = acknowledge.send(());
                self.tell_of_part();
            }
            Receipt::Drained { worker, slice, attempt, last_file, rows, special_values, took } => {
                let (took_ms, rss_mb) = (took.as_millis() as u64, super::memory::peak_rss_mb());
                // One flush for the slice's end and the next one's beginning: nothing depends on the one alone.
                let next = self.next_due();
                let receipt = last_file.map(|file| Command::CommitPart { slice, file, attempt, adopted: false });
                let completed = Command::CompleteSlice { slice, attempt, rows, took_ms, rss_mb };
                let started = next.map(|slice| Command::StartSlice { slice });
                self.ledger.record_all(receipt.into_iter().chain([completed]).chain(started))?;
                self.fetched.remove(&slice);
                for (column, count) in special_values {
                    *self.special_values.entry(column).or_default() += count;
                }
                if last_file.is_some() {
                    self.tell_of_part();
                }
                self.context.notify(Notice::SliceDone { export: self.context.export.name.clone(), slice: slice.0 });
                match next {
                    Some(next) => self.assign(worker, next)?,
                    None => self.idle.push(worker),
                }
            }
            Receipt::Failed { worker, slice, attempt, error } => {
                self.idle.push(worker);
                self.take_failure(slice, attempt, error)?;
            }
            Receipt::StopRequested => {
                self.failed.get_or_insert_with(interrupted);
                self.context.notify(Notice::Stopping { export: export.clone() });
            }
        }
        Ok(())
    }

    /// One total for each column, at the end of the reading.
    fn tell_of_special_values(&mut self, schema: &Schema) -> Result<()> {
        for (column, count) in std::mem::take(&mut self.special_values) {
            let name = schema.columns.get(column).map_or("?", |column| column.name.as_str());
            let message = format!(
                "column \"{name}\": {count} infinite values were delivered as NULL; `columns: {{{name}: text}}` keeps them"
            );
            self.context.warn(self.ledger, "special_values", message)?;
        }
        Ok(())
    }

    /// Tells of the part that was committed last.
    fn tell_of_part(&self) {
        if let Some(part) = self.ledger.summary().manifest_parts.last() {
            let (export, path) = (self.context.export.name.clone(), part.path.clone());
            self.context.notify(Notice::Part { export, path, rows: part.rows, bytes: part.size_bytes });
        }
    }

    fn take_failure(&mut self, slice: SliceNo, attempt: Attempt, error: Error) -> Result<()> {
        let tuning = &self.context.export.tuning;
        let failure = Failure {
            slice,
            attempt,
            kind: error.kind(),
            message: error.what().to_owned(),
            max_retries: if self.failed.is_some() { 0 } else { tuning.max_retries },
            backoff_ms: tuning.retry_backoff.as_millis() as u64,
            dice: fastrand::f64(),
        };
        if let Some((rows, bytes)) = self.fetched.remove(&slice) {
            self.context.notify(Notice::RowsDiscarded { export: self.context.export.name.clone(), rows, bytes });
        }
        let retries_before = self.ledger.summary().retries;
        self.ledger.record(Command::FailSlice(failure))?;
        let scheduled = self.ledger.summary().retries > retries_before;
        if error.retry() == Retry::NewSnapshot {
            // The others still are inside the lost snapshot, and may end their slices in it.
            self.failed.get_or_insert(error);
            return Ok(());
        }
        if !scheduled {
            self.failed.get_or_insert(error);
            self.halt.request();
            return Ok(());
        }
        if self.lent.is_some() {
            // The failed statement took the holder's transaction with it, and the transaction its snapshot.
            let lost = Error::new(
                ErrorKind::SourceSnapshotLost,
                format!("the snapshot's own session failed: {}", error.what()),
            );
            self.failed.get_or_insert(lost);
            return Ok(());
        }
        let delay = Duration::from_millis(self.ledger.summary().journal.happened().last_retry_delay_ms);
        self.waiting.insert(slice, Instant::now() + delay);
        self.context.notify(Notice::Retry {
            export: self.context.export.name.clone(),
            slice: slice.0,
            attempt: attempt.next().0,
            delay_ms: delay.as_millis() as u64,
            reason: error.to_string(),
        });
        Ok(())
    }
}

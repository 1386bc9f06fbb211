//! Reading the slices of a run: hands slices to workers, journals what they report, and lets them go on.

use super::ExportContext;
use super::ledger::Ledger;
use super::notice::Notice;
use super::stop::{Stop, interrupted};
use super::worker::{self, Order};
use crate::config::SourceConfig;
use crate::destination::local::LocalPrefix;
use crate::encode::parquet::ParquetOptions;
use crate::error::{Error, ErrorKind, Result, Retry};
use crate::manifest::room::Room;
use crate::run::Command;
use crate::run::command::Failure;
use crate::run::event::{PartFacts, SpecialCount};
use crate::run::ids::{Attempt, FileNo, SliceNo, SnapshotNo};
use crate::run::plan::{SlicePlan, Split};
use crate::run::schema::Schema;
use crate::run::state::SliceStatus;
use crate::source::postgres::catalog::Described;
use crate::source::postgres::decode::SpecialPolicy;
use crate::source::postgres::hold::Hold;
use crate::source::postgres::session::{Session, SessionSettings};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};

/// Everything that the workers of a run share. Nothing in it changes while they work.
pub struct Reading<'a> {
    pub runtime: &'a tokio::runtime::Handle,
    pub source: &'a SourceConfig,
    pub settings: SessionSettings,
    pub described: &'a Described,
    /// Under which names in a query mean what they meant when it was described.
    pub search_path: &'a str,
    pub schema: &'a Schema,
    pub split: &'a Split,
    pub hold: &'a Hold,
    pub room: Room,
    pub destination: &'a LocalPrefix,
    pub snapshot: SnapshotNo,
    /// The server's name of the snapshot.
    pub snapshot_id: String,
    /// The session that holds the snapshot, where a single slice makes a second connection a waste.
    pub lent: Option<Arc<Session>>,
    /// How many slices are read at once.
    pub workers: usize,
    /// Stops the workers of this reading: after a request to stop, or when one of them failed for good.
    pub halt: Stop,
    pub limits: Limits,
    pub special_values: SpecialPolicy,
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
    /// Longest time of a slice's statement, pauses included; zero = any.
    pub statement_timeout: Duration,
    /// Pause per `throttle_rows` rows.
    pub throttle: Duration,
    pub throttle_rows: u64,
    /// Whether an export without rows still gets one file, which then carries the schema.
    pub writes_empty_file: bool,
}

/// One attempt at one slice.
pub struct Assignment {
    pub plan: SlicePlan,
    pub attempt: Attempt,
}

/// A worker waits on this until its report is durable. Dropped unanswered: the report was refused, stop.
pub type Acknowledge = mpsc::SyncSender<()>;

/// What a worker reports.
pub enum Receipt {
    /// The worker has a session, and waits for a slice.
    Seated {
        worker: usize,
    },
    /// The worker got no session.
    Unseated {
        worker: usize,
        error: Error,
    },
    /// Rows fetched and handed to the encoder since the last report.
    Batch {
        slice: SliceNo,
        attempt: Attempt,
        rows: u64,
        bytes: u64,
    },
    /// What was delivered as something else in the whole slice. Comes before its last file is sealed, since that file may be all
    /// that a later process needs to take the slice for complete.
    Counted {
        slice: SliceNo,
        attempt: Attempt,
        special_values: Vec<SpecialCount>,
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
pub fn read_slices(context: &ExportContext<'_>, ledger: &mut Ledger, reading: &Reading<'_>) -> Result<()> {
    let (receipts, inbox) = mpsc::channel();
    let watcher = watch_for_stop(context, reading, &receipts);
    let outcome = std::thread::scope(|scope| {
        let desks: Vec<Desk> = (0..reading.workers)
            .map_while(|worker| {
                let (orders, ordered) = mpsc::channel();
                let receipts = receipts.clone();
                let work = move || worker::work(reading, worker, &ordered, &receipts);
                let thread = std::thread::Builder::new().name("rivet-worker".to_owned()).spawn_scoped(scope, work);
                thread.ok().map(|_| Desk { orders, place: Place::Standing(Instant::now()), refusals: 0 })
            })
            .collect();
        if desks.is_empty() {
            return Err(Error::new(ErrorKind::SystemLimit, "the system gives no thread to a worker"));
        }
        let mut coordinator = Coordinator {
            context,
            ledger,
            reading,
            desks,
            waiting: HashMap::new(),
            failed: None,
            refusal: None,
            fetched: HashMap::new(),
        };
        let outcome = coordinator.coordinate(&inbox);
        // After a failure, whoever still works stops; after success, only who still tries to connect. Reports that were not
        // taken any more go with the inbox: who waits for one to be durable learns that it never will be.
        reading.halt.request();
        drop(inbox);
        outcome
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

/// A worker, as the coordinator sees it.
struct Desk {
    orders: Sender<Order>,
    place: Place,
    /// Times in a row that it got no session.
    refusals: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Without a session until it tries again.
    Standing(Instant),
    /// Connecting.
    Sitting,
    /// Has a session, and no slice.
    Idle,
    Reading,
    /// Got no session as often as the tuning allows. The others go on without it.
    Left,
}

struct Coordinator<'a, 'c> {
    context: &'a ExportContext<'c>,
    ledger: &'a mut Ledger,
    reading: &'a Reading<'a>,
    desks: Vec<Desk>,
    /// Slices that wait for their retry, and until when.
    waiting: HashMap<SliceNo, Instant>,
    /// Why no further slice is handed out. Workers that are busy are heard to their end.
    failed: Option<Error>,
    /// Why a worker left last.
    refusal: Option<Error>,
    /// Rows and bytes of the attempts at work, for the eyes.
    fetched: HashMap<SliceNo, (u64, u64)>,
}

impl Coordinator<'_, '_> {
    fn coordinate(&mut self, inbox: &Receiver<Receipt>) -> Result<()> {
        loop {
            if self.failed.is_none() {
                self.hand_out()?;
                self.seat_workers()?;
            }
            if !self.desks.iter().any(|desk| desk.place == Place::Reading) {
                if let Some(error) = self.failed.take() {
                    return Err(self.wait_out(inbox, error));
                }
                if !self.is_pending() {
                    return Ok(());
                }
                if self.desks.iter().all(|desk| desk.place == Place::Left) {
                    let nobody = || Error::new(ErrorKind::Internal, "slices are pending and every worker has left");
                    return Err(self.refusal.take().unwrap_or_else(nobody));
                }
            }
            if let Some(receipt) = self.wait(inbox) {
                self.take(receipt)?;
            }
        }
    }

    fn is_pending(&self) -> bool {
        self.ledger.state().slices_in(|status| status == SliceStatus::Pending).next().is_some()
    }

    /// Gives pending slices that are due to idle workers.
    fn hand_out(&mut self) -> Result<()> {
        while let Some(worker) = self.desks.iter().position(|desk| desk.place == Place::Idle)
            && let Some(slice) = self.next_due()
        {
            self.ledger.record(Command::StartSlice { slice })?;
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
        let Some(of) = self.ledger.state().slice(slice) else {
            return Err(Error::new(ErrorKind::Internal, format!("slice {slice} vanished while it was started")));
        };
        let assignment = Assignment { plan: of.plan.clone(), attempt: of.attempts };
        self.order(worker, Order::Read(assignment), Place::Reading)
    }

    /// Lets workers connect whose time has come, as long as there is something for them to read.
    fn seat_workers(&mut self) -> Result<()> {
        let now = Instant::now();
        let due = |desk: &Desk| matches!(desk.place, Place::Standing(until) if until <= now);
        while self.is_pending()
            && let Some(worker) = self.desks.iter().position(due)
        {
            self.order(worker, Order::TakeSeat, Place::Sitting)?;
        }
        Ok(())
    }

    fn order(&mut self, worker: usize, order: Order, place: Place) -> Result<()> {
        let desk = &mut self.desks[worker];
        desk.place = place;
        let sent = desk.orders.send(order);
        sent.map_err(|_| Error::new(ErrorKind::Internal, format!("worker {worker} ended early")))
    }

    /// The next receipt, or `None` when a retry became due first.
    fn wait(&self, inbox: &Receiver<Receipt>) -> Option<Receipt> {
        let is_idle = self.desks.iter().any(|desk| desk.place == Place::Idle);
        let slices = self.waiting.values().copied().filter(|_| is_idle);
        let workers = self.desks.iter().filter_map(|desk| match desk.place {
            Place::Standing(until) => Some(until),
            _ => None,
        });
        match slices.chain(workers).min().filter(|_| self.failed.is_none()) {
            Some(due) => inbox.recv_timeout(due.saturating_duration_since(Instant::now())).ok(),
            // This coordinator's own sender keeps the channel open.
            None => inbox.recv().ok(),
        }
    }

    /// Before the rest is read in a new snapshot, the retries that were scheduled in the old one wait their time.
    fn wait_out(&self, inbox: &Receiver<Receipt>, error: Error) -> Error {
        let due = self.waiting.values().max().filter(|_| error.retry() == Retry::NewSnapshot);
        let Some(due) = due else { return error };
        while let Ok(receipt) = inbox.recv_timeout(due.saturating_duration_since(Instant::now())) {
            if matches!(receipt, Receipt::StopRequested) {
                return interrupted();
            }
        }
        error
    }

    fn take(&mut self, receipt: Receipt) -> Result<()> {
        let export = &self.context.export.name;
        match receipt {
            Receipt::Seated { worker } => {
                self.desks[worker].refusals = 0;
                self.desks[worker].place = Place::Idle;
            }
            Receipt::Unseated { worker, error } => self.take_refusal(worker, error)?,
            Receipt::Batch { slice, attempt, rows, bytes } => {
                self.ledger.record(Command::NoteBatch { slice, attempt, rows, bytes })?;
                let fetched = self.fetched.entry(slice).or_default();
                *fetched = (fetched.0 + rows, fetched.1 + bytes);
                self.context.notify(Notice::Rows { export: export.clone(), rows, bytes });
            }
            Receipt::Counted { slice, attempt, special_values } => {
                self.ledger.record(Command::CountSpecialValues { slice, attempt, counts: special_values })?;
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
            Receipt::Drained { worker, slice, attempt, last_file, rows, took } => {
                let (took_ms, rss_mb) = (took.as_millis() as u64, super::memory::peak_rss_mb());
                // One flush for the slice's end and the next one's beginning: nothing depends on the one alone.
                let next = self.next_due();
                let receipt = last_file.map(|file| Command::CommitPart { slice, file, attempt, adopted: false });
                let completed = Command::CompleteSlice { slice, attempt, rows, took_ms, rss_mb };
                let started = next.map(|slice| Command::StartSlice { slice });
                self.ledger.record_all(receipt.into_iter().chain([completed]).chain(started))?;
                self.fetched.remove(&slice);
                if last_file.is_some() {
                    self.tell_of_part();
                }
                self.context.notify(Notice::SliceDone { export: self.context.export.name.clone(), slice: slice.0 });
                match next {
                    Some(next) => self.assign(worker, next)?,
                    None => self.desks[worker].place = Place::Idle,
                }
            }
            Receipt::Failed { worker, slice, attempt, error } => {
                self.desks[worker].place = Place::Standing(Instant::now());
                self.take_failure(slice, attempt, error)?;
            }
            Receipt::StopRequested => {
                self.failed.get_or_insert_with(interrupted);
                self.context.notify(Notice::Stopping { export: export.clone() });
            }
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
        if scheduled {
            self.schedule(slice, attempt.next(), &error);
        }
        if error.retry() == Retry::NewSnapshot {
            // The others still are inside the lost snapshot, and may end their slices in it.
            self.failed.get_or_insert(error);
        } else if !scheduled {
            self.fail(error);
        } else if self.reading.lent.is_some() {
            // The failed statement took the holder's transaction with it, and the transaction its snapshot.
            let what = format!("the snapshot's own session failed: {}", error.what());
            self.failed.get_or_insert(Error::new(ErrorKind::SourceSnapshotLost, what));
        }
        Ok(())
    }

    fn schedule(&mut self, slice: SliceNo, attempt: Attempt, error: &Error) {
        let delay = Duration::from_millis(self.ledger.summary().journal.happened().last_retry_delay_ms);
        self.waiting.insert(slice, Instant::now() + delay);
        self.context.notify(Notice::Retry {
            export: self.context.export.name.clone(),
            slice: slice.0,
            attempt: attempt.0,
            delay_ms: delay.as_millis() as u64,
            reason: error.to_string(),
        });
    }

    /// A worker that gets no session costs no slice an attempt: it tries again later, and in the end the others go on
    /// without it.
    fn take_refusal(&mut self, worker: usize, error: Error) -> Result<()> {
        self.desks[worker].place = Place::Left;
        match error.retry() {
            _ if self.failed.is_some() => {}
            Retry::Never => self.fail(error),
            Retry::NewSnapshot => self.failed = Some(error),
            Retry::Again => {
                let refusals = self.desks[worker].refusals;
                if refusals < self.context.export.tuning.max_retries {
                    let pause = self.context.retry_pause(refusals);
                    self.desks[worker].place = Place::Standing(Instant::now() + pause);
                    self.desks[worker].refusals += 1;
                } else {
                    if self.desks.iter().any(|desk| desk.place != Place::Left) {
                        let message = format!("{}; the other workers go on without this one", error.what());
                        self.context.warn(self.ledger, "worker_left", message)?;
                    }
                    self.refusal = Some(error);
                }
            }
        }
        Ok(())
    }

    /// The first failure that retrying cannot mend stops the workers.
    fn fail(&mut self, error: Error) {
        self.failed.get_or_insert(error);
        self.reading.halt.request();
    }
}

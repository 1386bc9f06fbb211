//! One slice: COPY stream → decoder → Arrow batches → encoder → files.
//!
//! A worker decides nothing. It reports what it did and, where the next thing depends on the journal, waits for the
//! report to be durable: a file appears under its final name only after its [`Receipt::Sealed`] was acknowledged.

use super::reading::{Acknowledge, Assignment, Reading, Receipt};
use super::stop::interrupted;
use crate::destination::local::PartFile;
use crate::encode::parquet::PartEncoder;
use crate::error::{Error, ErrorKind, Result};
use crate::run::event::{PartFacts, SpecialCount};
use crate::run::ids::FileNo;
use crate::run::part::ManifestPart;
use crate::source::postgres::copy::CopyStream;
use crate::source::postgres::decode::{DecodeColumn, Decoder, Special};
use crate::source::postgres::session::{Session, set_statement_timeout};
use crate::source::postgres::{fault, overrides, snapshot, sql};
use arrow::array::RecordBatch;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};

/// What a worker is told to do.
pub enum Order {
    /// Get a session inside the reading's snapshot. Answered by [`Receipt::Seated`] or [`Receipt::Unseated`].
    TakeSeat,
    /// Read a slice. Answered, after what happens on the way, by [`Receipt::Drained`] or [`Receipt::Failed`]; a failure costs
    /// the seat.
    Read(Assignment),
}

/// Carries out orders until there are no more.
pub fn work(reading: &Reading<'_>, worker: usize, orders: &Receiver<Order>, receipts: &Sender<Receipt>) {
    let mut seat: Option<Arc<Session>> = None;
    while let Ok(order) = orders.recv() {
        let receipt = match order {
            Order::TakeSeat => match contained("connecting", || take_seat(reading)) {
                Ok(session) => {
                    seat = Some(session);
                    Receipt::Seated { worker }
                }
                Err(error) => Receipt::Unseated { worker, error },
            },
            Order::Read(assignment) => {
                let (slice, attempt) = (assignment.plan.slice, assignment.attempt);
                // After a failure the session is dropped, with whatever state the failure left it in.
                let session = seat.take();
                let read = || {
                    let standing =
                        || Error::new(ErrorKind::Internal, format!("slice {slice}: its worker has no session"));
                    read_slice(reading, session.as_ref().ok_or_else(standing)?, worker, &assignment, receipts)
                };
                match contained(&format!("slice {slice}"), read) {
                    Ok(drained) => {
                        seat = session;
                        drained
                    }
                    Err(error) => Receipt::Failed { worker, slice, attempt, error },
                }
            }
        };
        if receipts.send(receipt).is_err() {
            return;
        }
    }
}

/// A panic in a decoder or a codec ends the attempt, and not the coordinator's wait for it.
fn contained<T>(what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(Error::new(ErrorKind::Internal, format!("{what}: the worker panicked"))))
}

/// A session inside the reading's snapshot: the holder's own when it is lent, else a new one.
fn take_seat(reading: &Reading<'_>) -> Result<Arc<Session>> {
    if let Some(lent) = &reading.lent {
        if lent.is_lost() {
            return Err(Error::new(ErrorKind::SourceSnapshotLost, "the session that held the snapshot was lost"));
        }
        return Ok(Arc::clone(lent));
    }
    unless_stopped(reading, async {
        let session = Session::connect(reading.source, &reading.settings).await?;
        let joined = async {
            snapshot::join(session.client(), &reading.snapshot_id).await?;
            snapshot::look_in(session.client(), reading.search_path).await
        };
        super::context::in_time(reading.settings.stall_timeout, joined).await?;
        Ok(Arc::new(session))
    })
}

/// Waits for `work`, or for a request to stop, whichever comes first.
fn unless_stopped<T>(reading: &Reading<'_>, work: impl Future<Output = Result<T>>) -> Result<T> {
    reading.runtime.block_on(async {
        tokio::select! {
            done = work => done,
            () = reading.halt.requested() => Err(interrupted()),
        }
    })
}

/// Reads a slice to its end, and says so.
fn read_slice(
    reading: &Reading<'_>,
    session: &Session,
    worker: usize,
    assignment: &Assignment,
    receipts: &Sender<Receipt>,
) -> Result<Receipt> {
    let started = Instant::now();
    let (slice, attempt) = (assignment.plan.slice, assignment.attempt);
    let place = |error: Error| error.at(format_args!("slice {slice}"));
    let copy = sql::copy_statement(reading.described, reading.split, &assignment.plan.bounds)?;
    let statement = format!("{copy}; {}", reading.hold.question());
    let settings = slice_settings(reading);
    if !settings.is_empty() {
        let pinned = async { session.client().batch_execute(&settings).await.map_err(fault::from_driver) };
        let pinned = super::context::in_time(reading.settings.stall_timeout, pinned);
        unless_stopped(reading, pinned).map_err(place)?;
    }
    let mut stream = session.copy_out_within(&statement, reading.limits.statement_timeout);
    let _watch = stop_with(reading, &stream);
    let decoder = Decoder::new(&decode_columns(reading), reading.limits.max_value_bytes)?;
    let mut decoder = decoder.with_key(reading.described.key());
    let mut files = Files::new(reading, assignment, receipts);
    let told = |error: Error| place(overrides::blame(error, &reading.described.columns));
    while let Some(chunk) = stream.next_chunk().map_err(told)? {
        let mut messages = chunk.messages();
        while !messages.is_empty() {
            let taken = decoder.push_rows(messages, reading.limits.batch_rows).map_err(place)?;
            messages = &messages[taken..];
            if decoder.rows() >= reading.limits.batch_rows || decoder.buffered_bytes() >= reading.limits.batch_bytes {
                files.write(&decoder.take_batch().map_err(place)?, stream.bytes())?;
            }
        }
    }
    let (bytes, others) = (stream.bytes(), stream.answer());
    let counted = stream.finish(&decoder).map_err(place)?;
    if let Some(others) = others {
        refuse_arrivals(reading, &others).map_err(place)?;
    }
    if decoder.rows() > 0 {
        files.write(&decoder.take_batch().map_err(place)?, bytes)?;
    }
    files.report_fetched()?;
    if files.rows != counted {
        let what = format!("the server counted {counted} rows, {} were handed to the encoder", files.rows);
        return Err(place(Error::new(ErrorKind::CountMismatch, what)));
    }
    let special_values = special_counts(&decoder);
    if !special_values.is_empty() {
        report(receipts, Receipt::Counted { slice, attempt, special_values })?;
    }
    let writes_empty = matches!(reading.split, crate::run::plan::Split::Whole) && reading.limits.writes_empty_file;
    let last_file = files.finish(counted, writes_empty)?;
    Ok(Receipt::Drained { worker, slice, attempt, last_file, rows: counted, took: started.elapsed() })
}

/// What has to be set on a session before it reads, beyond what it was pinned to.
fn slice_settings(reading: &Reading<'_>) -> String {
    let mut settings = vec![sql::slice_settings(reading.split).to_owned()];
    if reading.limits.statement_timeout != reading.settings.statement_timeout {
        settings.push(set_statement_timeout(reading.limits.statement_timeout));
    }
    settings.retain(|setting| !setting.is_empty());
    settings.join("; ")
}

fn special_counts(decoder: &Decoder) -> Vec<SpecialCount> {
    let counts =
        decoder.special_values().into_iter().flat_map(|(column, counts)| {
            Special::ALL.into_iter().zip(counts).filter(|(_, count)| *count > 0).map(move |(special, count)| {
                SpecialCount { column: column as u32, kind: special.word().to_owned(), count }
            })
        });
    counts.collect()
}

/// Before the slice's last file: a slice that has read a table which its snapshot does not know never counts.
fn refuse_arrivals(reading: &Reading<'_>, others: &str) -> Result<()> {
    unless_stopped(reading, async {
        let outside = Session::connect(reading.source, &reading.settings).await?;
        super::context::in_time(reading.settings.stall_timeout, reading.hold.refuse_arrivals(&outside, others)).await
    })
}

fn decode_columns(reading: &Reading<'_>) -> Vec<DecodeColumn> {
    let columns = reading.described.columns.iter();
    columns
        .map(|source| DecodeColumn {
            name: source.column.name.clone(),
            nullable: source.column.nullable,
            mapping: source.mapping.clone(),
            special_values: reading.special_values,
        })
        .collect()
}

/// Ends the stream's wait when the workers are to stop. The watch ends with the value that is returned.
fn stop_with(reading: &Reading<'_>, stream: &CopyStream) -> tokio::task::JoinSet<()> {
    let (halt, stopper) = (reading.halt.clone(), stream.stopper());
    let mut watch = tokio::task::JoinSet::new();
    watch.spawn_on(
        async move {
            halt.requested().await;
            stopper.stop(interrupted());
        },
        reading.runtime,
    );
    watch
}

fn report(receipts: &Sender<Receipt>, receipt: Receipt) -> Result<()> {
    receipts.send(receipt).map_err(|_| interrupted())
}

/// The files of one attempt, one after the other.
struct Files<'a> {
    reading: &'a Reading<'a>,
    assignment: &'a Assignment,
    receipts: &'a Sender<Receipt>,
    next: FileNo,
    open: Option<OpenFile>,
    /// Rows in all of them.
    rows: u64,
    /// Of the rows, and of the bytes of the stream, those that were reported, and when.
    reported: (u64, u64),
    reported_at: Option<Instant>,
    /// Bytes of the stream that are written.
    bytes: u64,
    /// What they take in the manifest. Given back where the attempt comes to nothing.
    claimed: u64,
}

impl Drop for Files<'_> {
    fn drop(&mut self) {
        self.reading.room.give_back(self.claimed);
    }
}

/// How often a worker says how far it has come. Each time is an event.
const REPORT_EVERY: Duration = Duration::from_millis(200);

struct OpenFile {
    name: String,
    encoder: PartEncoder<PartFile>,
}

impl<'a> Files<'a> {
    fn new(reading: &'a Reading<'a>, assignment: &'a Assignment, receipts: &'a Sender<Receipt>) -> Files<'a> {
        Files {
            reading,
            assignment,
            receipts,
            next: FileNo(0),
            open: None,
            rows: 0,
            reported: (0, 0),
            reported_at: None,
            bytes: 0,
            claimed: 0,
        }
    }

    /// Writes one batch, with which `bytes` of the stream have been read. A file that has grown to its size is closed when
    /// the next batch arrives, so that the last file of a slice is never empty.
    fn write(&mut self, batch: &RecordBatch, bytes: u64) -> Result<()> {
        let rows = batch.num_rows() as u64;
        let Assignment { attempt, plan } = self.assignment;
        if self.open.as_ref().is_some_and(|open| open.encoder.is_full(self.reading.limits.part_bytes))
            && let Some(file) = self.close(None)?
        {
            let (slice, attempt) = (plan.slice, *attempt);
            self.await_durable(|acknowledge| Receipt::Stored { slice, file, attempt, acknowledge })?;
        }
        let mut open = match self.open.take() {
            Some(open) => open,
            None => self.create()?,
        };
        open.encoder.write(batch)?;
        self.open = Some(open);
        self.rows += rows;
        self.bytes = bytes;
        if self.reported_at.is_none_or(|at| at.elapsed() >= REPORT_EVERY) {
            self.report_fetched()?;
        }
        self.throttle(rows)
    }

    /// Reports what was fetched since the last report.
    fn report_fetched(&mut self) -> Result<()> {
        let (rows, bytes) = (self.rows - self.reported.0, self.bytes - self.reported.1);
        if rows > 0 {
            let Assignment { attempt, plan } = self.assignment;
            report(self.receipts, Receipt::Batch { slice: plan.slice, attempt: *attempt, rows, bytes })?;
            self.reported = (self.rows, self.bytes);
        }
        self.reported_at = Some(Instant::now());
        Ok(())
    }

    fn create(&mut self) -> Result<OpenFile> {
        let slice = self.assignment.plan.slice;
        let name = part_name(slice.0, self.next.0);
        let file = self.reading.destination.create_part(&name)?;
        let mut metadata = self.reading.metadata.clone();
        metadata.push(("rivet.slice".to_owned(), slice.to_string()));
        metadata.push(("rivet.file".to_owned(), self.next.to_string()));
        metadata.push(("rivet.snapshot".to_owned(), self.reading.snapshot_id.clone()));
        let encoder = PartEncoder::new(file, self.reading.schema, &self.reading.options, metadata)?;
        Ok(OpenFile { name, encoder })
    }

    /// Closes the last file, whose receipt is the slice's. `slice_rows` is the server's count of the whole slice.
    fn finish(mut self, slice_rows: u64, writes_empty: bool) -> Result<Option<FileNo>> {
        if self.open.is_none() && writes_empty {
            self.open = Some(self.create()?);
        }
        let last_file = self.close(Some(slice_rows))?;
        self.claimed = 0;
        Ok(last_file)
    }

    /// Encoder's footer → sync → durable announcement → final name. The file's receipt is what is left to do.
    fn close(&mut self, slice_rows: Option<u64>) -> Result<Option<FileNo>> {
        let Some(OpenFile { name, encoder }) = self.open.take() else { return Ok(None) };
        let written = encoder.rows();
        let (file, encoded) = encoder.finish()?;
        if encoded.rows != written {
            let what = format!("{name}: the footer counts {} rows, {written} were written", encoded.rows);
            return Err(Error::new(ErrorKind::CountMismatch, what));
        }
        let sealed = file.seal()?;
        let (slice, attempt, file) = (self.assignment.plan.slice, self.assignment.attempt, self.next);
        let facts = PartFacts {
            slice,
            file,
            attempt,
            path: name,
            rows: encoded.rows,
            bytes: sealed.bytes,
            fingerprint: sealed.fingerprint,
            snapshot: self.reading.snapshot,
            slice_rows,
        };
        let checksums = encoded.column_checksums;
        let bounds = &self.assignment.plan.bounds;
        let part = ManifestPart::of(&facts, &checksums, Some(self.reading.split), Some(bounds));
        self.claimed += self.reading.room.claim(&part)?;
        self.await_durable(|acknowledge| Receipt::Sealed { facts, checksums, acknowledge })?;
        sealed.publish()?;
        self.next = file.next();
        Ok(Some(file))
    }

    fn await_durable(&self, receipt: impl FnOnce(Acknowledge) -> Receipt) -> Result<()> {
        let (acknowledge, acknowledged) = mpsc::sync_channel(1);
        report(self.receipts, receipt(acknowledge))?;
        // A coordinator that dropped the report has failed over it, and says so itself.
        acknowledged.recv().map_err(|_| interrupted())
    }

    fn throttle(&self, rows: u64) -> Result<()> {
        let limits = &self.reading.limits;
        if limits.throttle.is_zero() {
            return Ok(());
        }
        let pause = limits.throttle.mul_f64(rows as f64 / limits.throttle_rows.max(1) as f64);
        unless_stopped(self.reading, async {
            tokio::time::sleep(pause).await;
            Ok(())
        })
    }
}

/// A function of slice and file number alone: a redo overwrites its own file and never leaves a twin.
fn part_name(slice: u32, file: u32) -> String {
    format!("part-{slice:05}-{file}.parquet")
}

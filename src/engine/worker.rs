//! One slice: COPY stream → decoder → Arrow batches → encoder → files.
//!
//! A worker decides nothing. It reports what it did and, where the next thing depends on the journal, waits for the
//! report to be durable: a file appears under its final name only after its [`Receipt::Sealed`] was acknowledged.

use super::reading::{Acknowledge, Assignment, Reading, Receipt};
use super::stop::interrupted;
use crate::destination::local::PartFile;
use crate::encode::parquet::PartEncoder;
use crate::error::{Error, ErrorKind, Result};
use crate::run::event::PartFacts;
use crate::run::ids::{FileNo, SnapshotNo};
use crate::source::postgres::copy::CopyStream;
use crate::source::postgres::decode::{DecodeColumn, Decoder};
use crate::source::postgres::session::Session;
use crate::source::postgres::{fault, snapshot, sql};
use arrow::array::RecordBatch;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Instant;

/// A session that is inside a snapshot.
struct Seat {
    session: Arc<Session>,
    snapshot: SnapshotNo,
}

/// Works on assignments until there are no more. Each ends in [`Receipt::Drained`] or [`Receipt::Failed`].
pub fn work(reading: &Reading<'_>, assignments: &Receiver<Assignment>, receipts: &Sender<Receipt>) {
    let mut seat: Option<Seat> = None;
    while let Ok(assignment) = assignments.recv() {
        let (worker, slice, attempt) = (assignment.worker, assignment.plan.slice, assignment.attempt);
        let (at_hand, assigned) = (seat.take(), &assignment);
        // A panic in a decoder or a codec ends the attempt and not the coordinator's wait for it.
        let outcome = catch_unwind(AssertUnwindSafe(move || {
            let taken = take_seat(reading, assigned, at_hand)?;
            let drained = read_slice(reading, &taken.session, assigned, receipts)?;
            Ok((taken, drained))
        }))
        .unwrap_or_else(|_| Err(Error::new(ErrorKind::Internal, format!("slice {slice}: its worker panicked"))));
        let receipt = match outcome {
            Ok((taken, drained)) => {
                seat = Some(taken);
                drained
            }
            // The session is dropped with whatever state the failure left it in; the next attempt opens its own.
            Err(error) => Receipt::Failed { worker, slice, attempt, error },
        };
        if receipts.send(receipt).is_err() {
            return;
        }
    }
}

/// A session inside the assignment's snapshot: the one at hand if it fits, the holder's own when it is lent, else a new
/// one.
fn take_seat(reading: &Reading<'_>, assignment: &Assignment, seat: Option<Seat>) -> Result<Seat> {
    let snapshot = assignment.snapshot;
    if let Some(seat) = seat.filter(|seat| seat.snapshot == snapshot) {
        return Ok(seat);
    }
    if let Some(lent) = &assignment.lent_session {
        if lent.is_lost() {
            return Err(Error::new(ErrorKind::SourceSnapshotLost, "the session that held the snapshot was lost"));
        }
        return Ok(Seat { session: Arc::clone(lent), snapshot });
    }
    unless_stopped(reading, async {
        let session = Session::connect(reading.source, &reading.settings).await?;
        let joined = async {
            snapshot::join(session.client(), &assignment.snapshot_id).await?;
            snapshot::look_in(session.client(), reading.search_path).await
        };
        super::export::in_time(reading.settings.stall_timeout, joined).await?;
        Ok(Seat { session: Arc::new(session), snapshot })
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
    assignment: &Assignment,
    receipts: &Sender<Receipt>,
) -> Result<Receipt> {
    let started = Instant::now();
    let (worker, slice, attempt) = (assignment.worker, assignment.plan.slice, assignment.attempt);
    let place = |error: Error| error.at(format_args!("slice {slice}"));
    let statement = sql::copy_statement(reading.described, reading.split, &assignment.plan.bounds)?;
    let settings = sql::slice_settings(reading.split);
    if !settings.is_empty() {
        let pinned = async { session.client().batch_execute(settings).await.map_err(fault::from_driver) };
        let pinned = super::export::in_time(reading.settings.stall_timeout, pinned);
        unless_stopped(reading, pinned).map_err(place)?;
    }
    let mut stream = session.copy_out(&statement);
    let _watch = stop_with(reading, &stream);
    let mut decoder = Decoder::new(&decode_columns(reading), reading.limits.max_value_bytes)?;
    let mut files = Files { reading, assignment, receipts, next: FileNo(0), open: None, rows: 0 };
    let mut reported = 0;
    while let Some(chunk) = stream.next_chunk().map_err(place)? {
        for piece in chunk.messages().chunks(reading.limits.piece_bytes) {
            decoder.push_messages(piece).map_err(place)?;
            if decoder.rows() >= reading.limits.batch_rows || decoder.buffered_bytes() >= reading.limits.batch_bytes {
                let bytes = stream.bytes() - std::mem::replace(&mut reported, stream.bytes());
                files.write(&decoder.take_batch().map_err(place)?, bytes)?;
            }
        }
    }
    let bytes = stream.bytes() - reported;
    let counted = stream.finish(&decoder).map_err(place)?;
    if decoder.rows() > 0 {
        files.write(&decoder.take_batch().map_err(place)?, bytes)?;
    }
    if files.rows != counted {
        let what = format!("the server counted {counted} rows, {} were handed to the encoder", files.rows);
        return Err(place(Error::new(ErrorKind::CountMismatch, what)));
    }
    report_special_values(&decoder, reading, receipts);
    let writes_empty = matches!(reading.split, crate::run::plan::Split::Whole) && reading.limits.writes_empty_file;
    let last_file = files.finish(counted, writes_empty)?;
    Ok(Receipt::Drained { worker, slice, attempt, last_file, rows: counted, took: started.elapsed() })
}

fn decode_columns(reading: &Reading<'_>) -> Vec<DecodeColumn> {
    let columns = reading.described.columns.iter();
    columns
        .map(|source| DecodeColumn {
            name: source.column.name.clone(),
            nullable: source.column.nullable,
            mapping: source.mapping.clone(),
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

fn report_special_values(decoder: &Decoder, reading: &Reading<'_>, receipts: &Sender<Receipt>) {
    for (column, count) in decoder.special_values() {
        let name = reading.schema.columns.get(column).map_or("?", |column| column.name.as_str());
        let message = format!(
            "column \"{name}\": {count} infinite values were delivered as NULL; `columns: {{{name}: text}}` keeps them"
        );
        let _ = receipts.send(Receipt::Warning { code: "special_values", message });
    }
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
}

struct OpenFile {
    name: String,
    encoder: PartEncoder<PartFile>,
}

impl Files<'_> {
    /// Writes one batch and reports it. A file that has grown to its size is closed when the next batch arrives, so that
    /// the last file of a slice is never empty.
    fn write(&mut self, batch: &RecordBatch, bytes: u64) -> Result<()> {
        let rows = batch.num_rows() as u64;
        let Assignment { attempt, plan, .. } = self.assignment;
        report(self.receipts, Receipt::Batch { slice: plan.slice, attempt: *attempt, rows, bytes })?;
        if self.open.as_ref().is_some_and(|open| open.encoder.encoded_bytes() >= self.reading.limits.part_bytes)
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
        self.throttle(rows)
    }

    fn create(&mut self) -> Result<OpenFile> {
        let slice = self.assignment.plan.slice;
        let name = part_name(slice.0, self.next.0);
        let file = self.reading.destination.create_part(&name)?;
        let mut metadata = self.reading.metadata.clone();
        metadata.push(("rivet.slice".to_owned(), slice.to_string()));
        metadata.push(("rivet.file".to_owned(), self.next.to_string()));
        metadata.push(("rivet.snapshot".to_owned(), self.assignment.snapshot_id.clone()));
        let encoder = PartEncoder::new(file, self.reading.schema, &self.reading.options, metadata)?;
        Ok(OpenFile { name, encoder })
    }

    /// Closes the last file, whose receipt is the slice's. `slice_rows` is the server's count of the whole slice.
    fn finish(mut self, slice_rows: u64, writes_empty: bool) -> Result<Option<FileNo>> {
        if self.open.is_none() && writes_empty {
            self.open = Some(self.create()?);
        }
        self.close(Some(slice_rows))
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
            snapshot: self.assignment.snapshot,
            slice_rows,
        };
        let checksums = encoded.column_checksums;
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
pub fn part_name(slice: u32, file: u32) -> String {
    format!("part-{slice:05}-{file}.parquet")
}

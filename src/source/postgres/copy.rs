//! The stream of a running `COPY … TO STDOUT`: chunks of the wire, from the connection's thread to a plain one.
//!
//! The [tap](super::tap) puts chunks in, in order, and stops reading the socket while the pipe is full; that is the back
//! pressure which reaches the server through the transport. The end of the pipe is the outcome of the statement itself: the
//! row count of the server's own `COPY n`, or a classified error.

use super::decode::Decoder;
use crate::error::{Error, ErrorKind, Result};
use crate::failpoint;
use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// Bytes of one read buffer, and so the largest chunk. Large enough that a hand-over costs nothing per row, small enough that
/// the decoder still finds it in a cache.
pub const CHUNK_BYTES: usize = 256 * 1024;

/// Chunks that may wait in a pipe.
const CHUNKS_WAITING: usize = 4;

/// Read buffers that are kept for reuse: those waiting, one with the reader and one with the decoder.
const SPARE_BUFFERS: usize = CHUNKS_WAITING + 2;

/// Buffers of [`CHUNK_BYTES`], all initialised, so that reading into them needs neither zeroing nor page faults.
#[derive(Default)]
pub(super) struct Buffers {
    spare: Mutex<Vec<Vec<u8>>>,
}

impl Buffers {
    pub(super) fn take(&self) -> Vec<u8> {
        lock(&self.spare).pop().unwrap_or_else(|| vec![0; CHUNK_BYTES])
    }

    fn give_back(&self, buffer: Vec<u8>) {
        let mut spare = lock(&self.spare);
        if spare.len() < SPARE_BUFFERS && buffer.len() == CHUNK_BYTES {
            spare.push(buffer);
        }
    }
}

/// A piece of the wire: CopyData messages back to back, each with its five bytes of header. A chunk may begin and end inside
/// a message; [`Decoder::push_messages`] puts them together again.
pub struct Chunk {
    buffer: Vec<u8>,
    range: Range<usize>,
    buffers: Arc<Buffers>,
}

impl Chunk {
    pub(super) fn new(buffer: Vec<u8>, range: Range<usize>, buffers: Arc<Buffers>) -> Self {
        Chunk { buffer, range, buffers }
    }

    pub fn messages(&self) -> &[u8] {
        self.buffer.get(self.range.clone()).unwrap_or_default()
    }
}

impl fmt::Debug for Chunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Chunk of {} bytes", self.range.len())
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        self.buffers.give_back(std::mem::take(&mut self.buffer));
    }
}

/// What connects the tap, the statement and the consumer of one COPY.
pub(super) struct Pipe {
    state: Mutex<State>,
    /// Wakes the consumer.
    arrived: Condvar,
    /// Wakes the statement, so that it cancels itself.
    pub(super) given_up: Notify,
}

struct State {
    chunks: VecDeque<Chunk>,
    /// The tap, while it waits for room.
    tap: Option<Waker>,
    /// The consumer went away: whatever still comes is dropped.
    abandoned: bool,
    outcome: Option<Result<Copied>>,
    last_arrival: Instant,
}

/// How a statement that succeeded ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Copied {
    /// `COPY n`
    pub rows: u64,
    /// What the question behind the COPY was answered; `None` for NULL and where there was none.
    pub answer: Option<String>,
}

impl Pipe {
    pub(super) fn new() -> Self {
        let state = State {
            chunks: VecDeque::with_capacity(CHUNKS_WAITING),
            tap: None,
            abandoned: false,
            outcome: None,
            last_arrival: Instant::now(),
        };
        Pipe { state: Mutex::new(state), arrived: Condvar::new(), given_up: Notify::new() }
    }

    /// Notes that the server sent something, even if it is not handed over yet.
    pub(super) fn heard(&self, now: Instant) {
        lock(&self.state).last_arrival = now;
    }

    pub(super) fn poll_room(&self, cx: &Context<'_>) -> Poll<()> {
        let mut state = lock(&self.state);
        if state.abandoned || state.chunks.len() < CHUNKS_WAITING {
            return Poll::Ready(());
        }
        state.tap = Some(cx.waker().clone());
        Poll::Pending
    }

    pub(super) fn put(&self, chunk: Chunk) {
        let mut state = lock(&self.state);
        if !state.abandoned {
            state.chunks.push_back(chunk);
            drop(state);
            self.arrived.notify_one();
        }
    }

    /// The statement has ended. The first outcome counts.
    pub(super) fn end(&self, outcome: Result<Copied>) {
        lock(&self.state).outcome.get_or_insert(outcome);
        self.arrived.notify_one();
    }

    pub(super) fn is_abandoned(&self) -> bool {
        lock(&self.state).abandoned
    }

    fn abandon(&self) {
        let mut state = lock(&self.state);
        state.abandoned = true;
        state.chunks.clear();
        let (tap, ended) = (state.tap.take(), state.outcome.is_some());
        drop(state);
        if let Some(tap) = tap {
            tap.wake();
        }
        if !ended {
            self.given_up.notify_one();
        }
    }

    /// The next chunk, or `None` when the statement has ended. Blocks.
    fn next(&self, stall_timeout: Duration) -> Result<Option<Chunk>> {
        let mut state = lock(&self.state);
        // Time during which nobody asked is not the server's.
        let asked = Instant::now();
        loop {
            if let Some(chunk) = state.chunks.pop_front() {
                let tap = state.tap.take();
                drop(state);
                if let Some(tap) = tap {
                    tap.wake();
                }
                return Ok(Some(chunk));
            }
            match state.outcome.take() {
                Some(Ok(copied)) => {
                    state.outcome = Some(Ok(copied));
                    return Ok(None);
                }
                Some(Err(error)) => {
                    let again = Error::new(error.kind(), error.what()).with_hint(error.hint());
                    state.outcome = Some(Err(again));
                    return Err(error);
                }
                None => {}
            }
            let silent = asked.max(state.last_arrival).elapsed();
            let Some(patience) = stall_timeout.checked_sub(silent).filter(|left| !left.is_zero()) else {
                let what = format!("the server has sent nothing for {} s", stall_timeout.as_secs_f64());
                return Err(Error::new(ErrorKind::SourceStalled, what));
            };
            let waited = self.arrived.wait_timeout(state, patience);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn copied(&self) -> Option<Copied> {
        match &lock(&self.state).outcome {
            Some(Ok(copied)) => Some(copied.clone()),
            _ => None,
        }
    }
}

/// A poisoned lock only says that another thread panicked; every state behind these locks is valid at each step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A running `COPY … TO STDOUT (FORMAT binary)`.
///
/// It is made to be read from a plain thread; its calls block. Dropping it before its end cancels the statement, without
/// waiting, and leaves the session usable.
pub struct CopyStream {
    pipe: Arc<Pipe>,
    stall_timeout: Duration,
    ended: bool,
    bytes: u64,
}

impl CopyStream {
    pub(super) fn new(pipe: Arc<Pipe>, stall_timeout: Duration) -> Self {
        CopyStream { pipe, stall_timeout, ended: false, bytes: 0 }
    }

    /// The next piece of the wire, or `None` at the end of a statement that succeeded.
    ///
    /// # Errors
    /// Whatever the server said instead of a row, classified; `SourceLost` when the connection broke; `SourceStalled` when
    /// nothing came for the stall timeout.
    pub fn next_chunk(&mut self) -> Result<Option<Chunk>> {
        if let Err(injected) = failpoint::hit("source.copy.chunk") {
            return Err(Error::new(ErrorKind::SourceLost, injected.to_string()));
        }
        let next = self.pipe.next(self.stall_timeout);
        match &next {
            Ok(Some(chunk)) => self.bytes += chunk.messages().len() as u64,
            // Stalled or stopped from outside, the statement still runs: it is cancelled when this is dropped.
            Err(error) if matches!(error.kind(), ErrorKind::SourceStalled | ErrorKind::RunInterrupted) => {}
            Ok(None) | Err(_) => self.ended = true,
        }
        next
    }

    /// Ends the wait of [`CopyStream::next_chunk`] from another thread.
    pub fn stopper(&self) -> Stopper {
        Stopper(self.pipe.clone())
    }

    /// Bytes received so far, message headers included.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What the question behind the COPY was answered, once [`CopyStream::next_chunk`] has returned `None`; `None` when
    /// that was NULL, or nothing was asked.
    pub fn answer(&self) -> Option<String> {
        self.pipe.copied()?.answer
    }

    /// Rows of the server's `COPY n`. To be called after [`CopyStream::next_chunk`] has returned `None`.
    ///
    /// # Errors
    /// `SourceProtocol` when the stream ended without its trailer, `CountMismatch` when the server counted other rows than
    /// arrived, `Internal` when the stream was not read to its end.
    pub fn finish(self, decoder: &Decoder) -> Result<u64> {
        let Some(Copied { rows, .. }) = self.pipe.copied().filter(|_| self.ended) else {
            return Err(Error::new(ErrorKind::Internal, "a COPY stream was finished before its end"));
        };
        if !decoder.ended() {
            let at = decoder.stream_offset();
            let what = format!("the COPY stream ended at byte {at} without its trailer");
            return Err(Error::new(ErrorKind::SourceProtocol, what));
        }
        if decoder.total_rows() != rows {
            let what = format!("the server sent {rows} rows, {} were decoded", decoder.total_rows());
            return Err(Error::new(ErrorKind::CountMismatch, what));
        }
        Ok(rows)
    }
}

/// See [`CopyStream::stopper`].
pub struct Stopper(Arc<Pipe>);

impl Stopper {
    /// The stream ends with `error`, unless it has ended already. Chunks that wait are not handed out any more then.
    pub fn stop(self, error: Error) {
        {
            let mut state = lock(&self.0.state);
            if state.outcome.is_some() {
                return;
            }
            state.chunks.clear();
            state.outcome = Some(Err(error));
        }
        self.0.arrived.notify_one();
        self.0.given_up.notify_one();
    }
}

impl Drop for CopyStream {
    fn drop(&mut self) {
        if !self.ended {
            self.pipe.abandon();
        }
    }
}

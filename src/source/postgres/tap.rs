//! The stream between the socket and the driver, which takes the rows of a COPY out before the driver sees them.
//!
//! The driver would make a `Bytes` of every row and send it through two channels: more than half of what receiving costs.
//! So the tap reads with a large buffer and follows the framing of the protocol (one type byte, four bytes of length). Normally
//! all bytes pass. While a COPY is armed, it keeps CopyOutResponse, CopyData and CopyDone to itself and hands the CopyData
//! messages over as whole buffers. Everything else, authentication, notices, errors, CommandComplete and ReadyForQuery, still
//! passes to the driver, which therefore sees the COPY as a plain statement without rows.

use super::copy::{Buffers, CHUNK_BYTES, Chunk, Pipe};
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_postgres::tls::{ChannelBinding, TlsStream};

/// A chunk is handed over when it has this many bytes, so that the next read still has room for a good piece.
const HAND_OVER_BYTES: usize = CHUNK_BYTES - 96 * 1024;

/// … or when bytes lie in it for this long and more arrive: a slow statement still shows progress.
const HAND_OVER_AFTER: Duration = Duration::from_millis(50);

/// A read that brought less than this found the socket nearly empty.
const SMALL_READ: usize = 64 * 1024;

/// How long the socket may fill before the next read. The server sends 8 KiB at a time; waking for each would cost more, on
/// both sides, than moving the bytes.
const NAP: Duration = Duration::from_micros(400);

/// Where a session's tap and its statements meet.
#[derive(Default)]
pub(super) struct Diversion {
    armed: Mutex<Option<Arc<Pipe>>>,
    /// Rows are being diverted: the socket may be read with naps.
    flowing: AtomicBool,
    pub(super) buffers: Arc<Buffers>,
}

impl Diversion {
    /// The next COPY that starts goes into `pipe`.
    pub(super) fn arm(&self, pipe: Arc<Pipe>) {
        *self.armed.lock().unwrap_or_else(PoisonError::into_inner) = Some(pipe);
    }

    /// The statement is over, whether its COPY started or not.
    pub(super) fn disarm(&self) {
        self.armed.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    fn take(&self) -> Option<Arc<Pipe>> {
        self.armed.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Type bytes of the messages that the tap knows.
mod tag {
    pub const COPY_OUT_RESPONSE: u8 = b'H';
    pub const COPY_DATA: u8 = b'd';
    pub const COPY_DONE: u8 = b'c';
    pub const ERROR_RESPONSE: u8 = b'E';
    pub const READY_FOR_QUERY: u8 = b'Z';
}

const HEADER: usize = 5;

/// What the bytes at the cursor are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Header,
    /// This many bytes belong to the driver.
    Pass(usize),
    /// This many bytes belong to the row message that is being diverted.
    Divert(usize),
    /// This many bytes belong to nobody.
    Swallow(usize),
}

pub(super) struct Tap<S> {
    inner: S,
    diversion: Arc<Diversion>,
    buffer: Vec<u8>,
    /// `buffer[kept..cursor]` are row messages to hand over, `buffer[cursor..end]` are bytes not looked at yet.
    kept: usize,
    cursor: usize,
    end: usize,
    kept_since: Instant,
    next: Next,
    copying: Option<Arc<Pipe>>,
}

impl<S> Tap<S> {
    pub(super) fn new(inner: S, diversion: Arc<Diversion>) -> Self {
        let buffer = diversion.buffers.take();
        let now = Instant::now();
        Tap { inner, diversion, buffer, kept: 0, cursor: 0, end: 0, kept_since: now, next: Next::Header, copying: None }
    }

    /// Hands the row messages that were kept so far to the consumer and starts a fresh buffer with the bytes behind them.
    /// Pending while the consumer has enough.
    fn poll_hand_over(&mut self, cx: &Context<'_>) -> Poll<()> {
        if let Some(pipe) = self.copying.as_ref().filter(|_| self.kept < self.cursor) {
            ready!(pipe.poll_room(cx));
            let mut fresh = self.diversion.buffers.take();
            let behind = &self.buffer[self.cursor..self.end];
            fresh[..behind.len()].copy_from_slice(behind);
            let behind = behind.len();
            let full = std::mem::replace(&mut self.buffer, fresh);
            pipe.put(Chunk::new(full, self.kept..self.cursor, self.diversion.buffers.clone()));
            (self.kept, self.cursor, self.end) = (0, 0, behind);
        }
        Poll::Ready(())
    }

    /// Looks at what has been read. Stops at bytes for the driver, at the end of what is there, or (pending) at a full pipe.
    fn poll_sort(&mut self, cx: &Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let there = self.end - self.cursor;
            match self.next {
                Next::Pass(_) => return Poll::Ready(Ok(())),
                Next::Divert(left) => {
                    let taken = left.min(there);
                    self.cursor += taken;
                    self.next = if taken == left { Next::Header } else { Next::Divert(left - taken) };
                    if taken < left {
                        return Poll::Ready(Ok(()));
                    }
                }
                Next::Swallow(left) => {
                    let taken = left.min(there);
                    self.cursor += taken;
                    self.kept = self.cursor;
                    self.next = if taken == left { Next::Header } else { Next::Swallow(left - taken) };
                    if taken < left {
                        return Poll::Ready(Ok(()));
                    }
                }
                Next::Header => {
                    let Some(header) = self.buffer[self.cursor..self.end].first_chunk::<HEADER>() else {
                        return Poll::Ready(Ok(()));
                    };
                    let [kind, length @ ..] = *header;
                    let length = u32::from_be_bytes(length);
                    if kind == tag::COPY_DATA && self.copying.is_some() && length >= 4 {
                        self.cursor += HEADER;
                        self.next = Next::Divert(length as usize - 4);
                        continue;
                    }
                    ready!(self.poll_hand_over(cx));
                    self.turn(kind, length)?;
                }
            }
        }
    }

    /// Decides about a message that is not a diverted row.
    fn turn(&mut self, kind: u8, length: u32) -> io::Result<()> {
        if !(4..=i32::MAX as u32).contains(&length) {
            let what = format!("a message of type {kind:#04x} claims a length of {length}");
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        let whole = 1 + length as usize;
        self.next = Next::Pass(whole);
        match kind {
            tag::COPY_OUT_RESPONSE => {
                self.copying = self.diversion.take();
                if self.copying.is_some() {
                    self.next = Next::Swallow(whole);
                }
            }
            tag::COPY_DONE if self.copying.take().is_some() => self.next = Next::Swallow(whole),
            tag::ERROR_RESPONSE | tag::READY_FOR_QUERY => self.copying = None,
            _ => {}
        }
        self.diversion.flowing.store(self.copying.is_some(), Ordering::Relaxed);
        self.kept = self.cursor;
        Ok(())
    }
}

impl<S: AsyncRead + Unpin> Tap<S> {
    /// Reads more from the socket. `Ok(false)` at its end.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let waiting = self.cursor - self.kept;
        if waiting >= HAND_OVER_BYTES || (waiting > 0 && self.kept_since.elapsed() > HAND_OVER_AFTER) {
            ready!(self.poll_hand_over(cx));
        }
        if self.kept == self.end {
            (self.kept, self.cursor, self.end) = (0, 0, 0);
        } else if self.end == self.buffer.len() {
            // Only bytes for the driver, or the beginning of a header, are left: what was kept has been handed over.
            self.buffer.copy_within(self.kept..self.end, 0);
            (self.cursor, self.end) = (self.cursor - self.kept, self.end - self.kept);
            self.kept = 0;
        }
        let mut room = ReadBuf::new(&mut self.buffer[self.end..]);
        ready!(Pin::new(&mut self.inner).poll_read(cx, &mut room))?;
        let read = room.filled().len();
        if let Some(pipe) = &self.copying {
            let now = Instant::now();
            pipe.heard(now);
            if self.kept == self.cursor {
                self.kept_since = now;
            }
        }
        self.end += read;
        Poll::Ready(Ok(read > 0))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Tap<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = out.filled().len();
        loop {
            let sorted = this.poll_sort(cx);
            if let (Poll::Ready(Ok(())), Next::Pass(left)) = (&sorted, this.next) {
                let taken = left.min(this.end - this.cursor).min(out.remaining());
                out.put_slice(&this.buffer[this.cursor..this.cursor + taken]);
                this.cursor += taken;
                this.kept = this.cursor;
                this.next = if taken == left { Next::Header } else { Next::Pass(left - taken) };
                if out.remaining() == 0 {
                    return Poll::Ready(Ok(()));
                }
                if taken == left {
                    continue;
                }
            }
            // What the driver can have now it gets now; a wait or an error comes to light again at the next call.
            if out.filled().len() > before {
                return Poll::Ready(Ok(()));
            }
            ready!(sorted)?;
            if !ready!(this.poll_fill(cx))? {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Tap<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

impl<S: TlsStream + Unpin> TlsStream for Tap<S> {
    fn channel_binding(&self) -> ChannelBinding {
        self.inner.channel_binding()
    }
}

/// The socket, read in large pieces while rows flow.
pub(super) struct Socket {
    stream: Transport,
    diversion: Arc<Diversion>,
    nearly_empty: bool,
}

pub(super) enum Transport {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    pub(super) fn new(stream: Transport, diversion: Arc<Diversion>) -> Self {
        Socket { stream, diversion, nearly_empty: false }
    }
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        // The thread belongs to this connection alone, so it may sleep. Waiting in epoll instead would wake it for every
        // piece that arrives: the readiness of a socket cannot be asked for by amount.
        if this.nearly_empty && this.diversion.flowing.load(Ordering::Relaxed) {
            std::thread::sleep(NAP);
        }
        this.nearly_empty = false;
        let before = out.filled().len();
        match &mut this.stream {
            Transport::Tcp(stream) => ready!(Pin::new(stream).poll_read(cx, out))?,
            Transport::Unix(stream) => ready!(Pin::new(stream).poll_read(cx, out))?,
        }
        let read = out.filled().len() - before;
        this.nearly_empty = read < SMALL_READ && out.remaining() > 0;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Transport::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Transport::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Transport::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Transport::Unix(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Transport::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Transport::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

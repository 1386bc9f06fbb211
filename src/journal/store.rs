//! What the journal asks of a store: an ordered map from bytes to bytes, and a way to make it durable.
//!
//! Two exist: [`super::sled_store`] on disk and [`super::memory_store`] for tests and for journals read from text. One
//! property test runs the same script against both.

use crate::run::ids::{EventSeq, RunOrdinal};
use std::io;
use std::ops::ControlFlow;

/// `run ordinal ‖ seq`, big-endian, so that byte order is the order of the events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key(pub [u8; Key::LENGTH]);

impl Key {
    pub const LENGTH: usize = 12;
    /// Below every event: where the anchor of a pruned journal stands.
    pub const ANCHOR: Key = Key([0; Key::LENGTH]);

    pub fn new(run: RunOrdinal, seq: EventSeq) -> Key {
        let mut bytes = [0; Key::LENGTH];
        bytes[..4].copy_from_slice(&run.0.to_be_bytes());
        bytes[4..].copy_from_slice(&seq.0.to_be_bytes());
        Key(bytes)
    }

    /// `None` when the bytes are not a key.
    pub fn parse(bytes: &[u8]) -> Option<(RunOrdinal, EventSeq)> {
        let (run, seq) = (bytes.get(..4)?.try_into().ok()?, bytes.get(4..)?.try_into().ok()?);
        Some((RunOrdinal(u32::from_be_bytes(run)), EventSeq(u64::from_be_bytes(seq))))
    }
}

/// Gets each key and value in turn; says whether to go on.
pub type Visit<'a> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'a;

/// Errors are I/O errors; the journal treats the first one as final.
pub trait Store: Send {
    /// Stores the value unless the key is taken. Returns whether it was stored.
    fn insert_if_absent(&mut self, key: Key, value: &[u8]) -> io::Result<bool>;
    /// Hands everything inserted so far to the operating system: safe from a kill, not from a power cut.
    fn flush(&mut self) -> io::Result<()>;
    /// Puts everything flushed so far on the medium.
    fn sync(&mut self) -> io::Result<()>;
    /// Visits keys from `from` on, below `to` where there is one, in order.
    fn scan(&self, from: &[u8], to: Option<&[u8]>, visit: &mut Visit<'_>) -> io::Result<()>;
    /// Removes the keys that [`Store::scan`] would visit. Returns how many.
    fn remove(&mut self, from: &[u8], to: Option<&[u8]>) -> io::Result<u64>;
}

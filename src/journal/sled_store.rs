//! The store on disk. The only file that names sled; what is known about it, and worked around here, is in ADR 0001.

use super::contained::contained;
use super::store::{Key, Store, Visit};
use std::fs::File;
use std::io;
use std::path::Path;

/// The journal is written at its end and read from its beginning; a cache has little to do.
const CACHE_BYTES: u64 = 8 << 20;
/// Keys are collected before they are removed, this many at a time.
const REMOVED_AT_ONCE: usize = 1024;

pub struct SledStore {
    /// `None` only while it is dropped.
    db: Option<sled::Db>,
    /// Our own descriptor of the log's data file. sled's flush ends in `sync_file_range`, which survives a kill but not
    /// a power cut; an fdatasync on any descriptor of the file makes it durable. Opened once, so that an error of the
    /// medium is reported to it.
    data: File,
}

/// Why a directory does not become a store.
#[derive(Debug)]
pub enum OpenError {
    /// Another open store holds the directory.
    Locked,
    Failed(io::Error),
}

impl SledStore {
    /// Opens or creates the store in `dir`. May panic or hang on damage: the caller contains and bounds it.
    pub fn open(dir: &Path) -> Result<SledStore, OpenError> {
        // The background flusher only logs the errors of its fsync, so it stays off.
        let config = sled::Config::new().path(dir).cache_capacity(CACHE_BYTES).flush_every_ms(None);
        let db = config.open().map_err(|error| match error {
            sled::Error::Io(io) if io.to_string().contains("could not acquire lock") => OpenError::Locked,
            other => OpenError::Failed(plain(other)),
        })?;
        let data = File::options().read(true).write(true).open(data_file(dir)).map_err(OpenError::Failed)?;
        Ok(SledStore { db: Some(db), data })
    }

    fn with<T>(&self, f: impl FnOnce(&sled::Db) -> sled::Result<T>) -> io::Result<T> {
        let Some(db) = &self.db else { return Err(io::Error::other("the store is closed")) };
        contained(|| f(db)).map_err(panicked)?.map_err(plain)
    }
}

/// The file that holds the log, in the store's directory.
pub fn data_file(dir: &Path) -> std::path::PathBuf {
    dir.join("db")
}

/// Whether a file of the store's directory is a snapshot that a kill left unfinished. sled would take it for a whole
/// one and refuse to open.
pub fn is_unfinished(file_name: &str) -> bool {
    file_name.starts_with("snap.") && file_name.ends_with(".generating")
}

/// Whether a file can be left out of a copy: a snapshot, which sled makes again from the log, or its configuration,
/// which in this format of the journal is always the one that [`SledStore::open`] gives.
pub fn is_derived(file_name: &str) -> bool {
    file_name.starts_with("snap.") || file_name == "conf"
}

impl Store for SledStore {
    fn insert_if_absent(&mut self, key: Key, value: &[u8]) -> io::Result<bool> {
        let swapped = self.with(|db| db.compare_and_swap(key.0, None::<&[u8]>, Some(value)))?;
        Ok(swapped.is_ok())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.with(|db| db.flush()).map(drop)
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(rustix::fs::fdatasync(&self.data)?)
    }

    fn scan(&self, from: &[u8], to: Option<&[u8]>, visit: &mut Visit<'_>) -> io::Result<()> {
        if to.is_some_and(|to| to <= from) {
            return Ok(());
        }
        self.with(|db| {
            let range = match to {
                Some(to) => db.range(from..to),
                None => db.range(from..),
            };
            for entry in range {
                let (key, value) = entry?;
                if visit(&key, &value).is_break() {
                    break;
                }
            }
            Ok(())
        })
    }

    fn remove(&mut self, from: &[u8], to: Option<&[u8]>) -> io::Result<u64> {
        let mut removed = 0;
        loop {
            let mut doomed: Vec<Vec<u8>> = Vec::new();
            self.scan(from, to, &mut |key, _| {
                doomed.push(key.to_vec());
                if doomed.len() < REMOVED_AT_ONCE {
                    std::ops::ControlFlow::Continue(())
                } else {
                    std::ops::ControlFlow::Break(())
                }
            })?;
            for key in &doomed {
                self.with(|db| db.remove(key))?;
            }
            removed += doomed.len() as u64;
            if doomed.len() < REMOVED_AT_ONCE {
                return Ok(removed);
            }
        }
    }
}

impl Drop for SledStore {
    fn drop(&mut self) {
        let db = self.db.take();
        // sled unwraps an fsync when it is dropped. What had to be durable already is.
        let _ = contained(move || drop(db));
    }
}

/// An error of the engine as an I/O error that keeps the system's kind, so that a full disk can be told from damage.
fn plain(error: sled::Error) -> io::Error {
    match error {
        sled::Error::Io(io) => io,
        sled::Error::Corruption { .. } => io::Error::new(io::ErrorKind::InvalidData, "the storage engine found damage"),
        other => io::Error::other(other.to_string()),
    }
}

fn panicked(message: String) -> io::Error {
    io::Error::other(format!("the storage engine gave up: {message}"))
}

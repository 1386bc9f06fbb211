//! The end of a run: manifest, then `_SUCCESS`, then the pointer at the root. Each is written whole or not at all.

use super::io_error;
use super::local::{LocalPrefix, Names, remove_if_there, sync_dir};
use crate::error::{Error, ErrorKind, Result};
use crate::failpoint;
use crate::manifest::pointer::{self, LatestRun};
use crate::manifest::read::{MANIFEST, MANIFEST_CAP, SUCCESS, read_capped};
use crate::manifest::write::{ManifestBytes, success_line};
use crate::run::ids::Fingerprint;
use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long a writer waits for another that updates the same pointer, which takes milliseconds.
const POINTER_WAIT: Duration = Duration::from_secs(30);

impl LocalPrefix {
    /// Writes `manifest.json`, durably, and reads it back (rules M2, M4, M7). A `_SUCCESS` that vouches for another
    /// manifest is taken away first, so that no reader ever sees the two contradict each other.
    ///
    /// # Errors
    /// `DestinationMismatch` when other bytes come back, otherwise by the I/O error.
    pub fn write_manifest(&self, manifest: &ManifestBytes) -> Result<()> {
        let success = self.prefix.join(SUCCESS);
        let vouched = fs::read(&success).is_ok_and(|line| line == success_line(manifest.fingerprint).as_bytes());
        if !vouched && remove_if_there(&success)? {
            sync_dir(&self.prefix)?;
        }
        replace(&self.prefix, MANIFEST, &manifest.bytes, "manifest.written", "manifest.renamed")?;
        let path = self.prefix.join(MANIFEST);
        match read_capped(&path, MANIFEST_CAP)? {
            Some(back) if back == manifest.bytes => Ok(()),
            _ => {
                let what = format!("{} does not read back as it was written", path.display());
                Err(Error::new(ErrorKind::DestinationMismatch, what))
            }
        }
    }

    /// Writes `_SUCCESS`, durably: the run is official from here on.
    ///
    /// # Errors
    /// By the I/O error.
    pub fn write_success(&self, manifest: Fingerprint) -> Result<()> {
        replace(&self.prefix, SUCCESS, success_line(manifest).as_bytes(), "success.synced", "success.written")
    }

    /// Takes `_SUCCESS` away, durably, before the files that it vouches for are touched.
    ///
    /// # Errors
    /// By the I/O error.
    pub fn retract_success(&self) -> Result<()> {
        if remove_if_there(&self.prefix.join(SUCCESS))? { sync_dir(&self.prefix) } else { Ok(()) }
    }

    /// Whether `manifest.json` has that fingerprint, and `_SUCCESS` vouches for it.
    ///
    /// # Errors
    /// By the I/O error.
    pub fn vouches_for(&self, manifest: Fingerprint) -> Result<(bool, bool)> {
        let bytes = read_capped(&self.prefix.join(MANIFEST), MANIFEST_CAP)?;
        let success = read_capped(&self.prefix.join(SUCCESS), MANIFEST_CAP)?;
        let is_there = bytes.is_some_and(|bytes| Fingerprint::of(&bytes) == manifest);
        Ok((is_there, success.is_some_and(|line| line == success_line(manifest).as_bytes())))
    }

    /// Names this run as the latest of its export in the pointer at the root. Does nothing where prefix and root are
    /// the same, since the manifest itself is there.
    ///
    /// # Errors
    /// `DestinationForeign` when the root has a `manifest.json` that is no pointer, otherwise by the I/O error.
    pub fn publish_latest(&self, export: &str, latest: LatestRun) -> Result<()> {
        if self.prefix == self.root {
            return Ok(());
        }
        let _lock = lock_root(&self.root)?;
        let mut pointer = pointer::read(&self.root)
            .map_err(|error| match error.kind() {
                ErrorKind::ManifestInvalid => Error::new(ErrorKind::DestinationForeign, error.what().to_owned()),
                _ => error,
            })?
            .unwrap_or_default();
        pointer.exports.insert(export.to_owned(), latest);
        replace(&self.root, MANIFEST, &pointer::to_bytes(&pointer)?, "latest.synced", "latest.written")
    }

    /// Path of a file under the prefix as the pointer names it: relative to the root.
    pub fn relative_to_root(&self, name: &str) -> String {
        let below = self.prefix.strip_prefix(&self.root).unwrap_or(Path::new(""));
        below.join(name).to_string_lossy().into_owned()
    }
}

/// Puts `bytes` under `name` in `dir`: temporary file, sync, rename, sync of the directory.
fn replace(dir: &Path, name: &str, bytes: &[u8], synced: &str, renamed: &str) -> Result<()> {
    let names = Names::of(dir, name)?;
    let written = write_synced(&names.temp, bytes).and_then(|()| failpoint::hit(synced));
    if let Err(error) = written {
        // Best effort: the next attempt overwrites it.
        let _ = fs::remove_file(&names.temp);
        return Err(io_error("writing", &names.temp, error));
    }
    fs::rename(&names.temp, &names.last).map_err(|e| io_error("renaming", &names.temp, e))?;
    failpoint::hit(renamed).map_err(|e| io_error("renaming", &names.temp, e))?;
    sync_dir(dir)
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_data()
}

/// Holds the root for one change of its pointer. The lock is on the directory itself, so that nothing is left in it;
/// file systems that lock files only get a `.rivet.lock`.
fn lock_root(root: &Path) -> Result<File> {
    let dir = File::open(root).map_err(|e| io_error("opening", root, e))?;
    match lock_in_time(&dir, root) {
        Err(error) if error.kind() == ErrorKind::DestinationIo => {
            let path = root.join(".rivet.lock");
            let file = File::options().create(true).truncate(false).write(true).open(&path);
            let file = file.map_err(|e| io_error("creating", &path, e))?;
            lock_in_time(&file, &path).map(|()| file)
        }
        locked => locked.map(|()| dir),
    }
}

fn lock_in_time(file: &File, path: &Path) -> Result<()> {
    let begun = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::Error(error)) => return Err(io_error("locking", path, error)),
            Err(TryLockError::WouldBlock) if begun.elapsed() > POINTER_WAIT => {
                let what = format!("another process has held {} for {} s", path.display(), POINTER_WAIT.as_secs());
                return Err(Error::new(ErrorKind::JournalBusy, what)
                    .with_hint("Find the process that holds the directory (`fuser`), then resume the run."));
            }
            // flock has no time-out of its own, and the other needs milliseconds.
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

/// Whether the output under `prefix` has a `_SUCCESS`, whatever that says.
///
/// # Errors
/// By the I/O error.
pub fn is_published(prefix: &Path) -> Result<bool> {
    let path = prefix.join(SUCCESS);
    path.try_exists().map_err(|error| io_error("looking at", &path, error))
}

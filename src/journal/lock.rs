//! One writer for each export: an advisory lock on the file `LOCK`.
//!
//! The lock ends with the process, however it ends. The file stays; it says who holds it:
//!
//! ```text
//! pid 4711
//! host db-7
//! run orders-01J…
//! ```

use crate::error::{Error, ErrorKind, Result};
use rustix::fs::FlockOperation;
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

/// Each turn means that the file was replaced between opening and locking it, which nobody does on purpose.
const TURNS: usize = 16;
/// More than a process writes into its lock.
const CONTENT_LIMIT: u64 = 4096;

/// Who holds an export.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    pub pid: u32,
    pub host: String,
    pub run_id: String,
}

impl Holder {
    /// This process, about to work on `run_id`.
    pub fn this_process(run_id: &str) -> Holder {
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        Holder { pid: std::process::id(), host, run_id: run_id.to_owned() }
    }

    fn to_text(&self) -> String {
        let line = |text: &str| text.replace(['\n', '\r'], " ");
        format!("pid {}\nhost {}\nrun {}\n", self.pid, line(&self.host), line(&self.run_id))
    }

    fn parse(text: &str) -> Option<Holder> {
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        Some(Holder {
            pid: field("pid")?.parse().ok()?,
            host: field("host")?.to_owned(),
            run_id: field("run")?.to_owned(),
        })
    }
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "process {} on {}", self.pid, self.host)?;
        if self.run_id.is_empty() { Ok(()) } else { write!(f, " (run {})", self.run_id) }
    }
}

/// A lock that is held. Dropping it releases it and empties the file.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

impl Lock {
    /// Takes the lock at once or says who has it.
    pub fn take(path: &Path, holder: &Holder) -> Result<Lock> {
        for _ in 0..TURNS {
            let opened = File::options().read(true).write(true).create(true).truncate(false).open(path);
            let file = opened.map_err(|error| unwritable(path, error))?;
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) => return Err(busy(path, &file)),
                Err(Errno::INTR) => continue,
                Err(error) => return Err(unwritable(path, error.into())),
            }
            // Somebody may have removed or replaced the file between the two calls; a lock on a file that has no name
            // any more keeps nobody out.
            let still_there = same_file(&file, path).map_err(|error| unwritable(path, error))?;
            if still_there {
                let text = holder.to_text();
                file.set_len(0)
                    .and_then(|()| file.write_all_at(text.as_bytes(), 0))
                    .map_err(|error| unwritable(path, error))?;
                return Ok(Lock { file });
            }
        }
        Err(unwritable(path, io::Error::other("the file is being replaced all the time")))
    }
}

impl Lock {
    /// Says what the lock is held for. In between the file holds the new text and, behind it, the end of a longer old one.
    pub fn rewrite(&self, holder: &Holder) -> io::Result<()> {
        let text = holder.to_text();
        self.file.write_all_at(text.as_bytes(), 0)?;
        self.file.set_len(text.len() as u64)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // An empty lock says that nobody holds it, and saves readers from asking the system.
        let _ = self.file.set_len(0);
    }
}

/// Who holds the lock now. Never waits, writes nothing, and takes no lock unless the file names a process that lives.
pub fn holder(path: &Path) -> Option<Holder> {
    let file = File::open(path).ok()?;
    let holder = Holder::parse(&content(&file)?)?;
    let this_host = Holder::this_process("").host;
    if holder.host == this_host && !is_alive(holder.pid) {
        return None;
    }
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared) {
        Err(Errno::WOULDBLOCK) => Some(holder),
        // Nobody holds it, or nobody can tell; the descriptor is closed right here.
        _ => None,
    }
}

fn is_alive(pid: u32) -> bool {
    let Some(pid) = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw) else { return false };
    // EPERM: it lives and belongs to somebody else.
    !matches!(rustix::process::test_kill_process(pid), Err(Errno::SRCH))
}

fn content(file: &File) -> Option<String> {
    let mut text = String::new();
    file.take(CONTENT_LIMIT).read_to_string(&mut text).ok()?;
    Some(text)
}

fn same_file(file: &File, path: &Path) -> io::Result<bool> {
    let held = file.metadata()?;
    match std::fs::metadata(path) {
        Ok(named) => Ok(held.dev() == named.dev() && held.ino() == named.ino()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn busy(path: &Path, file: &File) -> Error {
    let by = match content(file).as_deref().and_then(Holder::parse) {
        Some(holder) => holder.to_string(),
        None => "another process".to_owned(),
    };
    let dir = path.parent().unwrap_or(path);
    Error::new(ErrorKind::JournalBusy, format!("the journal {} is held by {by}", dir.display()))
}

fn unwritable(path: &Path, error: io::Error) -> Error {
    Error::new(ErrorKind::JournalUnwritable, format!("{} cannot be locked: {error}", path.display())).with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn someone(run: &str) -> Holder {
        Holder::this_process(run)
    }

    #[test]
    fn a_held_lock_is_refused_at_once_and_names_its_holder() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("LOCK");
        assert_eq!(holder(&path), None);
        let held = Lock::take(&path, &someone("orders-1")).unwrap();
        assert_eq!(holder(&path), Some(someone("orders-1")));
        let refused = Lock::take(&path, &someone("orders-2")).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::JournalBusy);
        for part in ["orders-1", &std::process::id().to_string(), &someone("").host] {
            assert!(refused.what().contains(part), "{}", refused.what());
        }
        drop(held);
        assert_eq!(holder(&path), None);
        Lock::take(&path, &someone("orders-2")).unwrap();
    }

    #[test]
    fn a_held_lock_says_what_it_is_held_for_once_that_is_known() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("LOCK");
        let held = Lock::take(&path, &someone("")).unwrap();
        for run in ["orders-1", "orders-1234", "o-1"] {
            held.rewrite(&someone(run)).unwrap();
            assert_eq!(holder(&path), Some(someone(run)));
            assert_eq!(std::fs::read_to_string(&path).unwrap(), someone(run).to_text());
        }
    }

    #[test]
    fn a_lock_whose_file_was_replaced_is_not_taken_for_held() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("LOCK");
        let first = Lock::take(&path, &someone("a")).unwrap();
        std::fs::remove_file(&path).unwrap();
        // The name is free, so a second lock can be had; the two are on different files, and each knows its own.
        let second = Lock::take(&path, &someone("b")).unwrap();
        assert!(!same_file(&first.file, &path).unwrap());
        assert!(same_file(&second.file, &path).unwrap());
    }

    #[test]
    fn a_process_that_ended_holds_nothing_whatever_the_file_says() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("LOCK");
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        std::fs::write(&path, Holder { pid: child.id(), ..someone("gone") }.to_text()).unwrap();
        assert_eq!(holder(&path), None);
        std::fs::write(&path, b"pid \xff\nhost\n").unwrap();
        assert_eq!(holder(&path), None);
        Lock::take(&path, &someone("next")).unwrap();
    }
}

//! Torn and damaged files: the same events, or a typed error, in bounded time.

mod journal_support;

use journal_support::*;
use rivet::journal::{Journal, reader};
use rivet::run::event::Recorded;
use rivet::{Error, ErrorKind};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What damage may be called.
const DAMAGE: [ErrorKind; 6] = [
    ErrorKind::JournalTruncated,
    ErrorKind::JournalCorrupt,
    ErrorKind::JournalForked,
    ErrorKind::JournalHeadless,
    ErrorKind::JournalUnopenable,
    ErrorKind::JournalForeign,
];
const BOUND: Duration = Duration::from_secs(20);

/// In memory where the system has such a place: these tests sync thousands of times.
fn scratch() -> tempfile::TempDir {
    let shm = Path::new("/dev/shm");
    if shm.is_dir() { tempfile::tempdir_in(shm).unwrap() } else { tempfile::tempdir().unwrap() }
}

/// A closed journal and what it held.
struct Original {
    files: Vec<(PathBuf, Vec<u8>)>,
    written: Vec<Recorded>,
    acknowledged: usize,
    /// Where the log's data ended when the last acknowledged event was written, and where it ends.
    acknowledged_end: usize,
    end: usize,
}

const LOG: &str = "log/db";

impl Original {
    fn make(durables: u64, buffered: u64) -> Original {
        let dir = scratch();
        let mut journal = open(dir.path());
        let mut written = append_all(&mut journal, every_kind());
        // Opened twice, so that the engine has made a snapshot of its own.
        drop(journal);
        let mut journal = open(dir.path());
        written.extend(append_all(&mut journal, (1..=durables).map(commit)));
        let acknowledged = written.len();
        let acknowledged_end = end_of_data(&fs::read(dir.path().join(LOG)).unwrap());
        written.extend(append_all(&mut journal, (1..=buffered).map(batch)));
        drop(journal);
        let mut files = Vec::new();
        collect(dir.path(), dir.path(), &mut files);
        let end = files.iter().find(|(path, _)| path == Path::new(LOG)).map(|(_, bytes)| end_of_data(bytes)).unwrap();
        Original { files, written, acknowledged, acknowledged_end, end }
    }

    fn file(&self, name: &str) -> &[u8] {
        &self.files.iter().find(|(path, _)| path == Path::new(name)).unwrap().1
    }

    /// The directory again, with one file changed.
    fn with(&self, dir: &Path, changed: &Path, bytes: &[u8]) {
        let _ = fs::remove_dir_all(dir);
        fs::create_dir_all(dir.join("log/blobs")).unwrap();
        for (path, original) in &self.files {
            fs::write(dir.join(path), if path == changed { bytes } else { original }).unwrap();
        }
    }

    /// Opens the damaged directory: events that are a prefix with everything acknowledged, or a typed error.
    fn outcome(&self, dir: &Path, what: &str) -> Result<usize, ErrorKind> {
        let began = Instant::now();
        let result = Journal::open(dir, &me());
        assert!(began.elapsed() < BOUND, "{what}: {:?}", began.elapsed());
        let events = match result {
            Ok(journal) => {
                let events = everything(&journal);
                assert!(events.len() >= self.acknowledged, "{what}: {} of {}", events.len(), self.acknowledged);
                assert_eq!(events, self.written[..events.len()], "{what}");
                events.len()
            }
            Err(error) => return Err(typed(&error, what)),
        };
        // Recovery repaired what it accepted.
        let again = Journal::open(dir, &me()).unwrap_or_else(|error| panic!("{what}, again: {error}"));
        assert_eq!(again.head().map_or(0, |(seq, _)| seq.0 as usize), events, "{what}, again");
        Ok(events)
    }
}

fn typed(error: &Error, what: &str) -> ErrorKind {
    // A number in FORMAT is taken at its word.
    let newer = error.kind() == ErrorKind::JournalNewer && what.contains("of FORMAT");
    assert!(newer || DAMAGE.contains(&error.kind()), "{what}: {error}");
    error.kind()
}

fn end_of_data(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)
}

fn collect(root: &Path, dir: &Path, files: &mut Vec<(PathBuf, Vec<u8>)>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(root, &path, files);
        } else {
            files.push((path.strip_prefix(root).unwrap().to_owned(), fs::read(&path).unwrap()));
        }
    }
}

fn torn(bytes: &[u8], at: usize, how: &str) -> Vec<u8> {
    let mut torn = bytes.to_vec();
    match how {
        "truncated" => torn.truncate(at),
        "zeroed" => torn[at..].fill(0),
        _ => {
            let mut random = fastrand::Rng::with_seed(at as u64);
            let end = (at + 700).min(torn.len());
            torn[at..end].fill_with(|| random.u8(..));
        }
    }
    torn
}

#[test]
fn a_log_torn_at_any_byte_keeps_a_prefix_with_everything_acknowledged_or_says_what_is_lost() {
    let original = Original::make(3, 6);
    let log = original.file(LOG);
    let (from, to) = (original.acknowledged_end.saturating_sub(600), original.end);
    assert!(original.acknowledged_end < to, "the unacknowledged events are in the log");
    let dir = scratch();
    let (mut whole, mut refused) = (0, 0);
    for how in ["truncated", "zeroed", "garbage"] {
        for at in from..=to {
            let what = format!("{how} at {at} of {to}, acknowledged up to {}", original.acknowledged_end);
            original.with(dir.path(), Path::new(LOG), &torn(log, at, how));
            match original.outcome(dir.path(), &what) {
                Ok(_) => whole += 1,
                Err(kind) => {
                    assert!(at < original.acknowledged_end, "{what}: {kind:?}");
                    refused += 1;
                }
            }
        }
    }
    assert!(whole > 500 && refused > 500, "{whole} whole, {refused} refused");
}

#[test]
fn a_log_torn_anywhere_else_is_whole_or_refused() {
    let original = Original::make(40, 0);
    let log = original.file(LOG);
    let dir = scratch();
    for how in ["truncated", "zeroed", "garbage"] {
        for at in (0..original.end).step_by(211) {
            original.with(dir.path(), Path::new(LOG), &torn(log, at, how));
            let _ = original.outcome(dir.path(), &format!("{how} at {at}"));
        }
    }
}

#[test]
fn a_flipped_bit_in_any_file_leaves_the_same_events_or_a_typed_error() {
    let original = Original::make(40, 0);
    let dir = scratch();
    let mut random = fastrand::Rng::with_seed(8);
    for (path, bytes) in &original.files {
        // Every bit of what is small, and many of what is not.
        let bits = if path == Path::new(LOG) { original.end * 8 } else { bytes.len() * 8 };
        let flips: Vec<usize> = match path.to_str().unwrap() {
            "FORMAT" => (0..bits).collect(),
            "LOCK" | "status.json" => (0..bits).step_by(5).collect(),
            LOG => (0..900).map(|_| random.usize(..bits)).chain(0..20 * 8).collect(),
            _ => (0..250).map(|_| random.usize(..bits)).collect(),
        };
        let (mut same, mut refused) = (0, 0);
        for bit in flips {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            original.with(dir.path(), path, &flipped);
            let what = format!("bit {bit} of {}", path.display());
            match original.outcome(dir.path(), &what) {
                Ok(events) => {
                    assert_eq!(events, original.written.len(), "{what}");
                    same += 1;
                }
                Err(_) => refused += 1,
            }
        }
        println!("{}: {same} the same, {refused} refused", path.display());
        match path.to_str().unwrap() {
            "FORMAT" => assert_eq!(same, 0),
            // What the engine derives can be made anew, and the head has two slots.
            "log/conf" | "head" | "LOCK" => assert_eq!(refused, 0, "{}", path.display()),
            _ => {}
        }
    }
}

#[test]
fn a_reader_of_a_damaged_journal_gives_the_same_events_or_a_typed_error() {
    let original = Original::make(20, 3);
    let dir = scratch();
    let mut random = fastrand::Rng::with_seed(9);
    for (path, bytes) in &original.files {
        let bits = if path == Path::new(LOG) { original.end * 8 } else { bytes.len() * 8 };
        for _ in 0..if path == Path::new(LOG) { 300 } else { 40 } {
            if bits == 0 {
                continue;
            }
            let bit = random.usize(..bits);
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            original.with(dir.path(), path, &flipped);
            let what = format!("bit {bit} of {}", path.display());
            let began = Instant::now();
            match reader::read(dir.path()) {
                Ok(journals) => {
                    let journal = &journals[0];
                    let events: Vec<Recorded> =
                        journal.runs().iter().flat_map(|extent| journal.records(extent.run).unwrap()).collect();
                    assert!(events.len() >= original.acknowledged, "{what}: {:?}", journal.note);
                    assert_eq!(events, original.written[..events.len()], "{what}");
                }
                Err(error) => drop(typed(&error, &what)),
            }
            assert!(began.elapsed() < BOUND, "{what}: {:?}", began.elapsed());
        }
    }
}

//! Repairs, prunes and verifications, on a real directory.

use super::disk::Paths;
use super::head::{Head, Mark};
use super::recovery_table::*;
use super::store::{Key, Store};
use super::*;
use std::fs;

#[test]
fn a_repair_keeps_a_backup_and_everything_before_the_loss() {
    for (what, at) in [("truncated", 6), ("damaged", 4), ("gap", 1)] {
        let state = tempfile::tempdir().unwrap();
        let dir = state.path().join("orders");
        let written = journal(&dir, 8);
        let mut behind = store(&dir);
        if what == "truncated" {
            behind.remove(&key(at).0, None).unwrap();
        } else {
            remove(&mut behind, at);
        }
        if what == "damaged" {
            put(&mut behind, at, b"damage");
        }
        drop(behind);
        let refused = refusal(&dir);
        let repaired = upkeep::repair_accepting_loss(&dir, &me()).unwrap().unwrap();
        assert_eq!((repaired.last, repaired.acknowledged), (EventSeq(at - 1), Some(EventSeq(8))), "{what}");
        assert!(refused.what().ends_with(&repaired.because), "{what}: {refused} / {}", repaired.because);
        let mut opened = open(&dir).unwrap();
        assert_eq!(records(&opened), written[..at as usize - 1], "{what}");
        append(&mut opened, [durable(1)]);
        drop(opened);
        assert_eq!(*open(&dir).unwrap().recovery(), Recovery::Clean);
        // The backup is the journal as it was: refused for the same reason.
        assert_eq!(refusal(&repaired.backup).kind(), refused.kind());
        // A sound journal is left alone.
        assert_eq!(upkeep::repair_accepting_loss(&dir, &me()).unwrap(), None);
        assert_eq!(fs::read_dir(repaired.backup.parent().unwrap()).unwrap().count(), 1, "no second backup");
        // Who goes through the state directory meets the journal, and not its backup.
        let found: Vec<_> = reader::read(state.path()).unwrap().into_iter().map(|journal| journal.export).collect();
        assert_eq!(found, ["orders"], "{what}");
    }
}

#[test]
fn a_repair_makes_a_head_where_there_is_none_and_does_not_touch_a_fork() {
    let state = tempfile::tempdir().unwrap();
    let dir = state.path().join("orders");
    let written = journal(&dir, 4);
    fs::remove_file(dir.join("head")).unwrap();
    let repaired = upkeep::repair_accepting_loss(&dir, &me()).unwrap().unwrap();
    assert_eq!((repaired.last, repaired.acknowledged), (EventSeq(4), None));
    assert_eq!(records(&open(&dir).unwrap()), written);
    Head::create(&dir.join("head"), Mark { seq: EventSeq(4), hash: ChainHash([1; 16]) }).unwrap();
    assert_eq!(upkeep::repair_accepting_loss(&dir, &me()).unwrap_err().kind(), ErrorKind::JournalForked);
    let held = Lock::take(&dir.join("LOCK"), &me()).unwrap();
    assert_eq!(upkeep::repair_accepting_loss(&dir, &me()).unwrap_err().kind(), ErrorKind::JournalBusy);
    drop(held);
    let missing = upkeep::repair_accepting_loss(&state.path().join("none"), &me()).unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::JournalMissing);
    assert!(!state.path().join("none").exists());
}

/// Runs 1 to `runs`, of three events each.
fn runs(dir: &Path, runs: u32) -> Vec<Recorded> {
    let mut journal = open(dir).unwrap();
    let mut written = Vec::new();
    for run in 1..=runs {
        for event in [buffered(1), durable(2), durable(3)] {
            written.push(journal.append(RunOrdinal(run), event, Stamp::default()).unwrap());
        }
    }
    written
}

#[test]
fn a_prune_keeps_the_last_runs_their_numbers_and_a_chain_that_verifies() {
    let state = tempfile::tempdir().unwrap();
    let dir = state.path().join("orders");
    let mut written = runs(&dir, 6);
    assert_eq!(upkeep::prune(&dir, 10, &me()).unwrap().runs, 0);
    for (keep, left) in [(4, 4), (2, 2), (0, 1)] {
        let pruned = upkeep::prune(&dir, keep, &me()).unwrap();
        assert_eq!((pruned.kept.len(), pruned.events), (left, pruned.runs as u64 * 3));
        let mut opened = open(&dir).unwrap();
        assert_eq!(opened.recovery(), &Recovery::Clean);
        assert_eq!(records(&opened), written[written.len() - left * 3..]);
        assert_eq!(opened.begin_run(), opened.last_run().unwrap().next());
        let run = opened.begin_run();
        for event in [buffered(1), durable(2), durable(3)] {
            written.push(opened.append(run, event, Stamp::default()).unwrap());
        }
        drop(opened);
        let report = upkeep::verify(&dir, OpenOptions::default()).unwrap();
        assert!(report.passed(), "{report:?}");
        let first = written.len() as u64 - 3 * (left as u64 + 1);
        assert_eq!(report.exports[0].pruned, Some(EventSeq(first)));
    }
    // As text, it keeps its anchor.
    let (file, copy) = (state.path().join("o.jsonl"), state.path().join("copy/orders"));
    let mut text = Vec::new();
    jsonl::write(&reader::read(&dir).unwrap()[0], &mut text).unwrap();
    fs::write(&file, text).unwrap();
    jsonl::import(&file, &copy, &me()).unwrap();
    assert_eq!(records(&open(&copy).unwrap()), written[written.len() - 6..]);
}

#[test]
fn a_kill_anywhere_in_a_prune_leaves_the_whole_log_or_the_pruned_one() {
    let dir = tempfile::tempdir().unwrap();
    let written = runs(dir.path(), 3);
    let before = tempfile::tempdir().unwrap();
    super::disk::copy_log(dir.path(), before.path()).unwrap();
    upkeep::prune(dir.path(), 1, &me()).unwrap();
    let paths = Paths::new(before.path());
    let open_again = |left: usize| {
        let opened = open(before.path()).unwrap();
        assert_eq!((opened.recovery(), records(&opened)), (&Recovery::Clean, written[9 - left..].to_vec()));
    };
    // Killed while the new log is built, then before, between and after the renames.
    fs::create_dir(before.path().join("log.retry")).unwrap();
    fs::write(before.path().join("log.retry/db"), b"unfinished").unwrap();
    open_again(9);
    fs::remove_dir_all(before.path().join("log.retry")).unwrap();
    fs::rename(dir.path().join("log"), before.path().join("log.retry")).unwrap();
    open_again(9);
    fs::rename(paths.log(), before.path().join("log.old")).unwrap();
    open_again(3);
    upkeep::prune(before.path(), 1, &me()).unwrap();
    open_again(3);
}

#[test]
fn a_pruned_journal_without_its_anchor_or_with_a_damaged_one_is_refused() {
    for damage in [None, Some(&b"damage"[..])] {
        let dir = tempfile::tempdir().unwrap();
        runs(dir.path(), 3);
        upkeep::prune(dir.path(), 1, &me()).unwrap();
        let mut behind = store(dir.path());
        assert_eq!(behind.remove(&Key::ANCHOR.0, Some(&key(0).0)).unwrap(), 1);
        if let Some(bytes) = damage {
            assert!(behind.insert_if_absent(Key::ANCHOR, bytes).unwrap());
        }
        drop(behind);
        assert_eq!(refusal(dir.path()).kind(), ErrorKind::JournalCorrupt);
    }
}

#[test]
fn a_verification_says_what_is_wrong_with_which_export() {
    let state = tempfile::tempdir().unwrap();
    for export in ["a", "b", "c"] {
        journal(&state.path().join(export), 4);
    }
    fs::remove_file(state.path().join("b/head")).unwrap();
    let report = upkeep::verify(state.path(), OpenOptions::default()).unwrap();
    let found: Vec<_> =
        report.exports.iter().map(|e| (e.export.as_str(), e.events, e.problem.as_ref().map(Error::kind))).collect();
    assert_eq!(found, [("a", 4, None), ("b", 0, Some(ErrorKind::JournalHeadless)), ("c", 4, None)]);
    assert!(!report.passed());
    let trusting = upkeep::verify(&state.path().join("b"), OpenOptions { trust_log: true }).unwrap();
    assert!(trusting.passed() && trusting.exports[0].note.is_some());
    assert_eq!(refusal(&state.path().join("b")).kind(), ErrorKind::JournalHeadless, "a verification writes nothing");
    let missing = upkeep::verify(&state.path().join("none"), OpenOptions::default()).unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::JournalMissing);
}

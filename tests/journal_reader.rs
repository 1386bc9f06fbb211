//! Looking at journals without opening them, and journals as text.

mod journal_support;

use journal_support::*;
use rivet::journal::reader::{self, ExportJournal};
use rivet::journal::{Journal, jsonl};
use rivet::run::event::*;
use rivet::run::ids::*;
use rivet::{Error, ErrorKind};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

fn records(journal: &ExportJournal) -> Vec<Recorded> {
    journal.runs().iter().flat_map(|extent| journal.records(extent.run).unwrap()).collect()
}

fn read_one(path: &Path) -> ExportJournal {
    let mut journals = reader::read(path).unwrap();
    assert_eq!(journals.len(), 1);
    journals.remove(0)
}

fn refusal(path: &Path) -> Error {
    match reader::read(path) {
        Ok(_) => panic!("{} was read", path.display()),
        Err(error) => error,
    }
}

/// Two runs, all kinds.
fn two_runs(dir: &Path) -> Vec<Recorded> {
    let mut journal = open(dir);
    append_all(&mut journal, every_kind());
    let run = journal.begin_run();
    for n in 1..=3 {
        journal.append(run, commit(n), stamp(n)).unwrap();
    }
    everything(&journal)
}

fn exported(dir: &Path) -> String {
    let mut text = Vec::new();
    jsonl::write(&read_one(dir), &mut text).unwrap();
    String::from_utf8(text).unwrap()
}

#[test]
fn a_reader_sees_what_was_written_and_changes_nothing() {
    let state = tempfile::tempdir().unwrap();
    let dir = state.path().join("orders");
    let written = two_runs(&dir);
    let before = listing(&dir);
    let journal = read_one(&dir);
    assert_eq!(records(&journal), written);
    assert_eq!((journal.export.as_str(), &journal.dir, journal.note.as_deref()), ("orders", &dir, None));
    assert_eq!((journal.live.as_ref(), journal.last_run()), (None, Some(RunOrdinal(2))));
    assert_eq!(journal.head(), written.last().map(|r| (r.seq, r.hash)));
    assert_eq!(journal.records(RunOrdinal(7)).unwrap_err().kind(), ErrorKind::RunUnknown);
    assert_eq!(listing(&dir), before);
}

/// Names, sizes and contents of everything under `dir`.
fn listing(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(listing(&path));
        } else {
            files.push((path.clone(), std::fs::read(&path).unwrap()));
        }
    }
    files.sort();
    files
}

#[test]
fn a_reader_of_a_live_export_neither_waits_nor_disturbs_and_sees_all_that_is_acknowledged() {
    let state = tempfile::tempdir().unwrap();
    let dir = state.path().join("orders");
    let mut journal = open(&dir);
    let done = std::sync::atomic::AtomicBool::new(false);
    let acknowledged = std::sync::atomic::AtomicU64::new(0);
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| {
            let mut reads = 0;
            while !done.load(std::sync::atomic::Ordering::SeqCst) || reads == 0 {
                let floor = acknowledged.load(std::sync::atomic::Ordering::SeqCst);
                let journal = read_one(&dir);
                assert!(journal.events() >= floor, "{} of {floor}: {:?}", journal.events(), journal.note);
                assert_eq!(journal.live, Some(me()));
                let events = records(&journal);
                assert_eq!(events.len() as u64, journal.events());
                reads += 1;
            }
            reads
        });
        for n in 0..300 {
            append_all(&mut journal, (0..20).map(|i| batch(20 * n + i)));
            append_all(&mut journal, [commit(n)]);
            acknowledged.store(journal.acknowledged().0, std::sync::atomic::Ordering::SeqCst);
        }
        done.store(true, std::sync::atomic::Ordering::SeqCst);
        assert!(reading.join().unwrap() > 1);
    });
    drop(journal);
    assert_eq!(open(&dir).head().unwrap().0, EventSeq(300 * 21));
}

#[test]
fn a_directory_that_cannot_be_written_can_be_read() {
    let state = tempfile::tempdir().unwrap();
    let dir = state.path().join("orders");
    let written = two_runs(&dir);
    let all: Vec<PathBuf> = listing(&dir).into_iter().map(|(path, _)| path).collect();
    let dirs = [dir.join("log/blobs"), dir.join("log"), dir.clone()];
    let mode = |path: &Path, mode: u32| std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    all.iter().for_each(|path| mode(path, 0o444));
    dirs.iter().for_each(|path| mode(path, 0o555));
    assert_eq!(records(&read_one(&dir)), written);
    dirs.iter().rev().for_each(|path| mode(path, 0o755));
}

#[test]
fn one_damaged_export_does_not_hide_the_others() {
    let state = tempfile::tempdir().unwrap();
    for export in ["a", "b", "c"] {
        two_runs(&state.path().join(export));
    }
    std::fs::create_dir(state.path().join("not a journal")).unwrap();
    std::fs::write(state.path().join("b/FORMAT"), "rivet journal 2\n").unwrap();
    let journals = reader::read(state.path()).unwrap();
    let found: Vec<(&str, u64, Option<ErrorKind>)> =
        journals.iter().map(|j| (j.export.as_str(), j.events(), j.problem.as_ref().map(Error::kind))).collect();
    assert_eq!(found, [("a", 27, None), ("b", 0, Some(ErrorKind::JournalNewer)), ("c", 27, None)]);
    assert_eq!(refusal(&state.path().join("b")).kind(), ErrorKind::JournalNewer);
}

#[test]
fn what_is_not_a_journal_is_called_missing_or_foreign() {
    let state = tempfile::tempdir().unwrap();
    assert_eq!(refusal(&state.path().join("nothing")).kind(), ErrorKind::JournalMissing);
    assert_eq!(refusal(state.path()).kind(), ErrorKind::JournalMissing);
    let file = state.path().join("notes.txt");
    for contents in ["", "hello\n", "{}\n", "{\"format\":\"rivet journal\"}\n", "\u{feff}{}"] {
        std::fs::write(&file, contents).unwrap();
        assert_eq!(refusal(&file).kind(), ErrorKind::JournalForeign, "{contents:?}");
    }
}

#[test]
fn a_status_is_what_the_writer_last_said() {
    let state = tempfile::tempdir().unwrap();
    let dir = state.path().join("orders");
    assert_eq!(reader::status(&dir), None);
    let journal = open(&dir);
    assert_eq!(reader::status(&dir), None);
    assert_eq!(reader::holder(&dir), Some(me()));
    journal.write_status(&serde_json::json!({"rows": 12})).unwrap();
    assert_eq!(reader::status(&dir), Some(serde_json::json!({"rows": 12})));
    drop(journal);
    assert_eq!(reader::holder(&dir), None);
    std::fs::write(dir.join("status.json"), "{\"rows\":").unwrap();
    assert_eq!(reader::status(&dir), None);
}

#[test]
fn text_holds_the_whole_journal_and_makes_the_same_one_again() {
    let state = tempfile::tempdir().unwrap();
    let (dir, file, copy) =
        (state.path().join("orders"), state.path().join("o.jsonl"), state.path().join("copy/orders"));
    let written = two_runs(&dir);
    let text = exported(&dir);
    assert_eq!(text.lines().count(), written.len() + 1);
    std::fs::write(&file, &text).unwrap();
    let journal = read_one(&file);
    assert_eq!((journal.export.as_str(), records(&journal)), ("orders", written.clone()));

    let imported = jsonl::import(&file, &copy, &me()).unwrap();
    assert_eq!(imported.events(), 27);
    assert_eq!(exported(&copy), text);
    let mut journal = open(&copy);
    assert_eq!(everything(&journal), written);
    // It is a journal like any other.
    append_all(&mut journal, [commit(9)]);
    drop(journal);
    let refused = jsonl::import(&file, &copy, &me()).map(|j| j.events()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::JournalForeign);
    assert_eq!(open(&copy).head().unwrap().0, EventSeq(28));
}

#[test]
fn any_change_to_the_text_is_found() {
    let state = tempfile::tempdir().unwrap();
    let (dir, file) = (state.path().join("orders"), state.path().join("o.jsonl"));
    two_runs(&dir);
    let text = exported(&dir);
    let lines: Vec<&str> = text.lines().collect();
    let kind_of = |lines: &[&str]| {
        std::fs::write(&file, format!("{}\n", lines.join("\n"))).unwrap();
        refusal(&file).kind()
    };
    for at in 1..lines.len() {
        let without: Vec<&str> = lines.iter().enumerate().filter(|(i, _)| *i != at).map(|(_, l)| *l).collect();
        let expected = if at + 1 == lines.len() { ErrorKind::JournalTruncated } else { ErrorKind::JournalCorrupt };
        assert_eq!(kind_of(&without), expected, "without line {at}");
        let mut twice = lines.clone();
        twice.insert(at, lines[at]);
        assert_eq!(kind_of(&twice), ErrorKind::JournalCorrupt, "line {at} twice");
        if at + 1 < lines.len() {
            let mut swapped = lines.clone();
            swapped.swap(at, at + 1);
            assert_eq!(kind_of(&swapped), ErrorKind::JournalCorrupt, "line {at} swapped");
        }
    }
    for (what, with) in [("4711", "4712"), ("\"rows\":8192", "\"rows\":8193"), ("1700000000009", "1700000000010")] {
        let changed = text.replacen(what, with, 1);
        assert_ne!(changed, text, "{what}");
        std::fs::write(&file, changed).unwrap();
        assert_eq!(refusal(&file).kind(), ErrorKind::JournalCorrupt, "{what}");
    }
    std::fs::write(&file, text.replacen("\"event\":\"published\"", "\"event\":\"teleported\"", 1)).unwrap();
    assert_eq!(refusal(&file).kind(), ErrorKind::JournalNewer);
    std::fs::write(&file, text.replacen("\"version\":1", "\"version\":2", 1)).unwrap();
    assert_eq!(refusal(&file).kind(), ErrorKind::JournalNewer);
}

#[test]
fn text_that_ends_anywhere_is_whole_or_refused() {
    let state = tempfile::tempdir().unwrap();
    let (dir, file) = (state.path().join("orders"), state.path().join("o.jsonl"));
    two_runs(&dir);
    let text = exported(&dir);
    for length in (0..text.len()).rev().step_by(7) {
        if !text.is_char_boundary(length) || length + 1 == text.len() {
            continue;
        }
        std::fs::write(&file, &text[..length]).unwrap();
        let kind = refusal(&file).kind();
        let expected = [ErrorKind::JournalTruncated, ErrorKind::JournalForeign];
        assert!(expected.contains(&kind), "{kind:?} at {length}");
    }
}

#[test]
fn a_hostile_line_is_refused_in_bounded_memory_and_stack() {
    let state = tempfile::tempdir().unwrap();
    let (dir, file) = (state.path().join("orders"), state.path().join("o.jsonl"));
    two_runs(&dir);
    let heading = exported(&dir).lines().next().unwrap().to_owned();
    let deep = format!("{}bool{}", "list<".repeat(30_000), ">".repeat(30_000));
    let column = format!(
        "{{\"run\":1,\"seq\":1,\"wall_ms\":0,\"mono_us\":0,\"hash\":\"{}\",\"event\":\"schema_columns\",\"last\":true,\
         \"columns\":[{{\"name\":\"a\",\"column_type\":\"{deep}\",\"nullable\":true,\"source_type\":\"\"}}]}}",
        "0".repeat(32)
    );
    for line in [column, "[".repeat(200_000), "x".repeat(3 << 20), "\u{0}".repeat(100), "{\"run\":-1}".into()] {
        std::fs::write(&file, format!("{heading}\n{line}\n")).unwrap();
        let kind = refusal(&file).kind();
        assert!(matches!(kind, ErrorKind::JournalCorrupt | ErrorKind::JournalTruncated), "{kind:?} for {line:.60}");
    }
}

#[test]
fn an_empty_journal_reads_as_empty() {
    let state = tempfile::tempdir().unwrap();
    let dir = state.path().join("orders");
    drop(open(&dir));
    let journal = read_one(&dir);
    assert_eq!((journal.events(), journal.head(), journal.runs().len()), (0, None, 0));
    assert_eq!(exported(&dir).lines().count(), 1);
    let _: Journal = open(&dir);
}

//! Format 1 on disk, held still. A released format is read for ever.
//!
//! `RIVET_REGENERATE_GOLDEN=1` writes the files anew. That is right while a format is being made, and wrong once a
//! version that writes it was released: a changed byte here is a changed format.

mod journal_support;

use journal_support::*;
use rivet::journal::envelope::{self, Header};
use rivet::journal::{Recovery, jsonl, reader, wire};
use rivet::run::event::Event;
use rivet::run::ids::*;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/journal-v1").join(name)
}

fn regenerate() -> bool {
    std::env::var_os("RIVET_REGENERATE_GOLDEN").is_some()
}

fn compare(name: &str, found: &str) {
    let path = golden(name);
    if regenerate() {
        std::fs::write(&path, found).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap();
    for (line, (expected, found)) in expected.lines().zip(found.lines()).enumerate() {
        assert_eq!(expected, found, "line {} of {}", line + 1, path.display());
    }
    assert_eq!(expected, found, "{}", path.display());
}

/// Two runs; the second ends in progress that was not acknowledged.
fn history() -> Vec<(u32, Event)> {
    let first = every_kind().into_iter().map(|event| (1, event));
    let second = [commit(1), batch(2), commit(3), batch(4), batch(5)].map(|event| (2, event));
    first.chain(second).collect()
}

#[test]
fn every_kind_has_the_bytes_it_always_had() {
    let mut text = String::new();
    let mut previous = ChainHash::GENESIS;
    let mut kinds = BTreeSet::new();
    for (event, n) in every_kind().iter().zip(1..) {
        let payload = wire::encode(event).unwrap();
        kinds.insert(payload.kind);
        let (run, seq, stamp) = (RunOrdinal(1), EventSeq(n), stamp(n));
        let (kind, version, wall_ms, mono_us) = (payload.kind, payload.version, stamp.wall_ms, stamp.mono_us);
        let header = Header { kind, version, run, seq, wall_ms, mono_us, previous };
        let (bytes, hash) = envelope::seal(&header, &payload.bytes);
        write!(text, "{kind} {} ", event.name()).unwrap();
        bytes.iter().try_for_each(|byte| write!(text, "{byte:02x}")).unwrap();
        text.push('\n');
        previous = hash;
        assert_eq!(wire::decode(kind, version, &payload.bytes).as_ref(), Ok(event));
        // Every byte counts: less is not enough, and more is too much.
        for length in 0..payload.bytes.len() {
            assert_ne!(wire::decode(kind, version, &payload.bytes[..length]).as_ref(), Ok(event));
        }
        let longer = [payload.bytes.as_slice(), &[0]].concat();
        assert!(matches!(wire::decode(kind, version, &longer), Err(wire::Undecodable::Malformed(_))));
    }
    assert_eq!(kinds, (1..=24).collect(), "a sample of every kind");
    compare("envelopes.txt", &text);
}

#[test]
fn relations_have_the_bytes_and_the_text_that_they_always_had() {
    assert_later_kind(26, &relations_resolved(), "relation_resolved.txt");
}

#[test]
fn special_values_have_the_bytes_and_the_text_that_they_always_had() {
    assert_later_kind(27, &special_values_counted(), "special_values_counted.txt");
}

#[test]
fn orders_of_a_key_have_the_bytes_and_the_text_that_they_always_had() {
    assert_later_kind(25, &orderings_of_a_key(), "split_ordering.txt");
}

/// A kind that came after the first envelopes were written has a file of its own.
fn assert_later_kind(kind: u16, events: &[Event], golden: &str) {
    let mut text = String::new();
    for event in events {
        let payload = wire::encode(event).unwrap();
        assert_eq!((payload.kind, payload.version), (kind, 1));
        write!(text, "{} ", payload.kind).unwrap();
        payload.bytes.iter().try_for_each(|byte| write!(text, "{byte:02x}")).unwrap();
        writeln!(text, "\n{}", serde_json::to_string(event).unwrap()).unwrap();
        assert_eq!(wire::decode(kind, 1, &payload.bytes).as_ref(), Ok(event));
        for length in 0..payload.bytes.len() {
            assert_ne!(wire::decode(kind, 1, &payload.bytes[..length]).as_ref(), Ok(event));
        }
    }
    compare(golden, &text);
    let read_back = text.lines().filter(|line| line.starts_with('{')).map(|line| serde_json::from_str(line).unwrap());
    assert_eq!(read_back.collect::<Vec<Event>>(), events);
}

#[test]
fn a_journal_of_format_1_is_read_as_it_was_written() {
    let original = golden("orders");
    if regenerate() {
        write_journal(&original);
    }
    let mut text = Vec::new();
    let journals = reader::read(&original).unwrap();
    jsonl::write(&journals[0], &mut text).unwrap();
    compare("orders.jsonl", &String::from_utf8(text).unwrap());

    let scratch = tempfile::tempdir().unwrap();
    copy(&original, &scratch.path().join("orders"));
    let mut journal = open(&scratch.path().join("orders"));
    let gap = Recovery::AcknowledgementGap { acknowledged: EventSeq(27), accepted: EventSeq(29) };
    assert_eq!(*journal.recovery(), gap);
    let found: Vec<(u32, Event)> = everything(&journal).into_iter().map(|r| (r.run.0, r.event)).collect();
    assert_eq!(found, history());
    append_all(&mut journal, [commit(6)]);
    drop(journal);
    assert_eq!(open(&scratch.path().join("orders")).head().unwrap().0, EventSeq(30));
}

#[test]
fn text_of_format_1_is_imported_as_it_was_exported() {
    let scratch = tempfile::tempdir().unwrap();
    jsonl::import(&golden("orders.jsonl"), &scratch.path().join("orders"), &me()).unwrap();
    let mut text = Vec::new();
    jsonl::write(&reader::read(&scratch.path().join("orders")).unwrap()[0], &mut text).unwrap();
    assert_eq!(String::from_utf8(text).unwrap(), std::fs::read_to_string(golden("orders.jsonl")).unwrap());
}

fn write_journal(to: &Path) {
    let _ = std::fs::remove_dir_all(to);
    let scratch = tempfile::tempdir().unwrap();
    for half in [0..15, 15..29] {
        let mut journal = open(scratch.path());
        for (at, (run, event)) in history().into_iter().enumerate().filter(|(at, _)| half.contains(at)) {
            journal.append(RunOrdinal(run), event, stamp(at as u64)).unwrap();
        }
    }
    copy(scratch.path(), to);
    std::fs::remove_file(to.join("LOCK")).unwrap();
}

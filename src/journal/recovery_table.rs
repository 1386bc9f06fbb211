//! Every row of the recovery table, on a real directory.

use super::disk::Paths;
use super::envelope::{self, Header};
use super::head::{self, Head, Mark};
use super::lock::Holder;
use super::sled_store::SledStore;
use super::store::{Key, Store};
use super::*;
use crate::run::event::{SliceStarted, WarningNoted};
use crate::run::ids::{Attempt, SliceNo, SnapshotNo};
use std::fs;

pub fn durable(n: u64) -> Event {
    Event::SliceStarted(SliceStarted { slice: SliceNo(n as u32), attempt: Attempt(1), snapshot: SnapshotNo(0) })
}

pub fn buffered(n: u64) -> Event {
    Event::WarningNoted(WarningNoted { code: "n".into(), message: n.to_string() })
}

pub fn me() -> Holder {
    Holder::this_process("orders-1")
}

pub fn open(dir: &Path) -> Result<Journal> {
    Journal::open(dir, &me())
}

pub fn refusal(dir: &Path) -> Error {
    match open(dir) {
        Ok(journal) => panic!("opened: {:?}", journal.recovery()),
        Err(error) => error,
    }
}

/// A journal of one run with `durables` durable events, closed.
pub fn journal(dir: &Path, durables: u64) -> Vec<Recorded> {
    let mut journal = open(dir).unwrap();
    append(&mut journal, (1..=durables).map(durable))
}

pub fn append(journal: &mut Journal, events: impl IntoIterator<Item = Event>) -> Vec<Recorded> {
    events.into_iter().map(|event| journal.append(RunOrdinal(1), event, Stamp::default()).unwrap()).collect()
}

pub fn records(journal: &Journal) -> Vec<Recorded> {
    journal.runs().iter().flat_map(|extent| journal.records(extent.run).unwrap()).collect()
}

/// Opens the store behind the journal's back.
pub fn store(dir: &Path) -> SledStore {
    super::disk::wait_for_engine_lock(&Paths::new(dir)).unwrap();
    SledStore::open(&Paths::new(dir).log()).unwrap()
}

pub fn key(seq: u64) -> Key {
    Key::new(RunOrdinal(1), EventSeq(seq))
}

pub fn remove(store: &mut SledStore, seq: u64) {
    assert_eq!(store.remove(&key(seq).0, Some(&key(seq + 1).0)).unwrap(), 1);
}

pub fn put(store: &mut SledStore, at: u64, value: &[u8]) {
    assert!(store.insert_if_absent(key(at), value).unwrap());
    store.flush().unwrap();
}

fn value(store: &SledStore, seq: u64) -> Vec<u8> {
    let mut found = Vec::new();
    store
        .scan(&key(seq).0, Some(&key(seq + 1).0), &mut |_, value| {
            found = value.to_vec();
            ControlFlow::Break(())
        })
        .unwrap();
    found
}

fn head_mark(dir: &Path) -> Option<Mark> {
    head::read(&Paths::new(dir).head()).unwrap().mark
}

#[test]
fn fresh_starts() {
    let dir = tempfile::tempdir().unwrap();
    let opened = open(&dir.path().join("state/orders")).unwrap();
    assert_eq!((opened.recovery(), opened.head()), (&Recovery::Fresh, None));
    drop(opened);
    // And again, when nothing was written.
    assert_eq!(*open(&dir.path().join("state/orders")).unwrap().recovery(), Recovery::Fresh);
}

#[test]
fn a_kill_at_any_moment_of_the_first_open_leaves_a_fresh_journal() {
    let whole = tempfile::tempdir().unwrap();
    drop(open(whole.path()).unwrap());
    // In the order in which they come into being.
    let files = ["LOCK", "FORMAT.new", "FORMAT", "log", "head.new", "head"];
    for present in 0..=files.len() {
        let dir = tempfile::tempdir().unwrap();
        for file in &files[..present] {
            match *file {
                "log" => fs::create_dir(dir.path().join("log")).unwrap(),
                // Unfinished, as the kill left it.
                "FORMAT.new" if present == 2 => fs::write(dir.path().join(file), "rivet jou").unwrap(),
                "head.new" if present == 5 => fs::write(dir.path().join(file), "RIVET").unwrap(),
                "FORMAT.new" | "head.new" => {}
                _ => drop(fs::copy(whole.path().join(file), dir.path().join(file)).unwrap()),
            }
        }
        let mut opened = open(dir.path()).unwrap_or_else(|error| panic!("with {:?}: {error}", &files[..present]));
        assert_eq!(*opened.recovery(), Recovery::Fresh);
        append(&mut opened, [durable(1)]);
        drop(opened);
        assert_eq!(records(&open(dir.path()).unwrap()).len(), 1);
    }
}

#[test]
fn clean_goes() {
    let dir = tempfile::tempdir().unwrap();
    let written = journal(dir.path(), 5);
    let opened = open(dir.path()).unwrap();
    assert_eq!((opened.recovery(), records(&opened)), (&Recovery::Clean, written));
}

#[test]
fn an_acknowledgement_gap_of_buffered_events_is_accepted_and_closed() {
    let dir = tempfile::tempdir().unwrap();
    let mut written = journal(dir.path(), 3);
    let mut opened = open(dir.path()).unwrap();
    written.extend(append(&mut opened, (1..=4).map(buffered)));
    drop(opened);
    assert_eq!(head_mark(dir.path()).unwrap().seq, EventSeq(3));
    let opened = open(dir.path()).unwrap();
    let gap = Recovery::AcknowledgementGap { acknowledged: EventSeq(3), accepted: EventSeq(7) };
    assert_eq!((opened.recovery(), records(&opened)), (&gap, written));
    assert!(opened.recovery().note().unwrap().contains("4 to 7"));
    drop(opened);
    assert_eq!(head_mark(dir.path()).unwrap().seq, EventSeq(7));
    assert_eq!(*open(dir.path()).unwrap().recovery(), Recovery::Clean);
}

#[test]
fn an_acknowledgement_gap_of_a_durable_event_whose_head_was_not_written_is_accepted() {
    let dir = tempfile::tempdir().unwrap();
    journal(dir.path(), 3);
    let old = fs::read(dir.path().join("head")).unwrap();
    append(&mut open(dir.path()).unwrap(), [durable(4)]);
    fs::write(dir.path().join("head"), old).unwrap();
    let opened = open(dir.path()).unwrap();
    let gap = Recovery::AcknowledgementGap { acknowledged: EventSeq(3), accepted: EventSeq(4) };
    assert_eq!((opened.recovery(), records(&opened).len()), (&gap, 4));
}

#[test]
fn a_torn_tail_that_was_not_acknowledged_is_dropped_for_good() {
    let damaged = |store: &SledStore| {
        let mut torn = value(store, 5);
        torn[70] ^= 1;
        torn
    };
    type Bytes<'a> = &'a dyn Fn(&SledStore) -> Vec<u8>;
    let torn: [(&str, u64, Bytes<'_>); 4] = [
        ("a damaged value", 6, &damaged),
        ("half a value", 6, &|store| value(store, 5)[..30].to_vec()),
        ("an event that is not the next", 6, &|store| value(store, 5)),
        ("a gap", 7, &|store| value(store, 5)),
    ];
    for (what, at, bytes) in torn {
        let dir = tempfile::tempdir().unwrap();
        let written = journal(dir.path(), 5);
        let mut behind = store(dir.path());
        let bytes = bytes(&behind);
        put(&mut behind, at, &bytes);
        put(&mut behind, 9, &bytes);
        drop(behind);
        let mut opened = open(dir.path()).unwrap_or_else(|error| panic!("{what}: {error}"));
        let Recovery::TornTailDropped { acknowledged, accepted, .. } = opened.recovery() else {
            panic!("{what}: {:?}", opened.recovery())
        };
        assert_eq!((*acknowledged, *accepted), (EventSeq(5), EventSeq(5)), "{what}");
        assert_eq!(records(&opened), written, "{what}");
        append(&mut opened, (6..=10).map(durable));
        drop(opened);
        let opened = open(dir.path()).unwrap();
        assert_eq!((opened.recovery(), records(&opened).len()), (&Recovery::Clean, 10), "{what}");
    }
}

#[test]
fn a_torn_tail_behind_a_gap_keeps_what_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    let mut opened = open(dir.path()).unwrap();
    let mut written = append(&mut opened, [durable(1), buffered(2), buffered(3)]);
    drop(opened);
    let mut behind = store(dir.path());
    put(&mut behind, 4, b"torn");
    drop(behind);
    let mut opened = open(dir.path()).unwrap();
    let torn = Recovery::TornTailDropped {
        acknowledged: EventSeq(1),
        accepted: EventSeq(3),
        dropped: "4 bytes are too few for an envelope".into(),
    };
    assert_eq!((opened.recovery(), &records(&opened)), (&torn, &written));
    written.extend(append(&mut opened, [durable(4)]));
    drop(opened);
    assert_eq!(records(&open(dir.path()).unwrap()), written);
}

#[test]
fn lost_events_are_refused_with_what_is_there_and_what_should_be() {
    let dir = tempfile::tempdir().unwrap();
    journal(dir.path(), 8);
    let mut behind = store(dir.path());
    (6..=8).for_each(|seq| remove(&mut behind, seq));
    drop(behind);
    let refused = refusal(dir.path());
    assert_eq!(refused.kind(), ErrorKind::JournalTruncated);
    assert!(refused.what().contains("event 5") && refused.what().contains("up to 8"), "{refused}");
    assert!(refused.hint().contains("--accept-loss"), "{}", refused.hint());
    // A refusal changes nothing: the next open refuses as well.
    assert_eq!(refusal(dir.path()).what(), refused.what());
    let lost_all = tempfile::tempdir().unwrap();
    journal(lost_all.path(), 2);
    fs::remove_dir_all(lost_all.path().join("log")).unwrap();
    assert_eq!(refusal(lost_all.path()).kind(), ErrorKind::JournalTruncated);
    assert!(!lost_all.path().join("log").exists(), "an empty log would hide what happened");
}

#[test]
fn damage_before_the_head_is_refused_and_named() {
    for at in [1, 4, 7, 8] {
        for gap in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            journal(dir.path(), 8);
            let mut behind = store(dir.path());
            let mut bytes = value(&behind, at);
            remove(&mut behind, at);
            if !gap {
                bytes[64] ^= 0x10;
                put(&mut behind, at, &bytes);
            }
            drop(behind);
            let refused = refusal(dir.path());
            let expected = if gap && at == 8 { ErrorKind::JournalTruncated } else { ErrorKind::JournalCorrupt };
            assert_eq!(refused.kind(), expected, "{refused}");
            let place = if expected == ErrorKind::JournalCorrupt { at } else { at - 1 };
            assert!(refused.what().contains(&format!("event {place}")), "{at} {gap}: {refused}");
        }
    }
}

/// The header of event 5, a `slice_started`.
fn fifth(previous: ChainHash) -> Header {
    Header { kind: 8, version: 1, run: RunOrdinal(1), seq: EventSeq(5), wall_ms: 0, mono_us: 0, previous }
}

#[test]
fn an_event_in_another_ones_place_breaks_the_chain() {
    let dir = tempfile::tempdir().unwrap();
    journal(dir.path(), 8);
    let mut behind = store(dir.path());
    let (other, _) = envelope::seal(&fifth(ChainHash([1; 16])), &[9, 1, 0]);
    remove(&mut behind, 5);
    put(&mut behind, 5, &other);
    drop(behind);
    let refused = refusal(dir.path());
    assert_eq!(refused.kind(), ErrorKind::JournalCorrupt);
    assert!(refused.what().contains("event 5") && refused.what().contains("chain"), "{refused}");
}

#[test]
fn a_fork_is_refused() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    journal(one.path(), 4);
    let mut opened = open(other.path()).unwrap();
    append(&mut opened, (11..=20).map(durable));
    drop(opened);
    fs::remove_dir_all(other.path().join("log")).unwrap();
    fs::rename(one.path().join("log"), other.path().join("log")).unwrap();
    // Fewer events than the head names: lost. As many or more, with another hash: forked.
    assert_eq!(refusal(other.path()).kind(), ErrorKind::JournalTruncated);
    Head::create(&other.path().join("head"), Mark { seq: EventSeq(3), hash: ChainHash([7; 16]) }).unwrap();
    let refused = refusal(other.path());
    assert_eq!(refused.kind(), ErrorKind::JournalForked);
    assert!(refused.what().contains("event 3"), "{refused}");
}

#[test]
fn a_missing_head_is_refused_unless_the_log_is_trusted() {
    let dir = tempfile::tempdir().unwrap();
    let written = journal(dir.path(), 4);
    for damage in [None, Some(vec![0; 8192]), Some(vec![])] {
        match damage {
            None => fs::remove_file(dir.path().join("head")).unwrap(),
            Some(bytes) => fs::write(dir.path().join("head"), bytes).unwrap(),
        }
        assert_eq!(refusal(dir.path()).kind(), ErrorKind::JournalHeadless);
    }
    let opened = Journal::open_with(dir.path(), &me(), OpenOptions { trust_log: true }).unwrap();
    assert_eq!(opened.recovery(), &Recovery::HeadRebuilt { last: EventSeq(4) });
    drop(opened);
    let opened = open(dir.path()).unwrap();
    assert_eq!((opened.recovery(), records(&opened)), (&Recovery::Clean, written));
}

#[test]
fn a_missing_head_over_a_damaged_log_is_refused_even_when_the_log_is_trusted() {
    for at in [1, 5] {
        let dir = tempfile::tempdir().unwrap();
        journal(dir.path(), 4);
        let mut behind = store(dir.path());
        behind.remove(&key(at).0, None).unwrap();
        put(&mut behind, at, b"damage");
        drop(behind);
        fs::remove_file(dir.path().join("head")).unwrap();
        let refused = Journal::open_with(dir.path(), &me(), OpenOptions { trust_log: true }).err().unwrap();
        assert_eq!(refused.kind(), ErrorKind::JournalCorrupt);
        assert!(refused.what().contains(&format!("event {at}")), "{refused}");
    }
}

#[test]
fn an_unfinished_snapshot_of_the_engine_is_moved_aside() {
    let dir = tempfile::tempdir().unwrap();
    let written = journal(dir.path(), 4);
    let unfinished = dir.path().join("log/snap.FFFFFFFFFFFFFFFF.generating");
    fs::write(&unfinished, b"").unwrap();
    let opened = open(dir.path()).unwrap();
    assert_eq!((opened.recovery(), records(&opened)), (&Recovery::Clean, written));
    assert!(!unfinished.exists());
    assert!(dir.path().join("aside/snap.FFFFFFFFFFFFFFFF.generating").exists());
}

#[test]
fn a_log_that_cannot_be_opened_is_rebuilt_from_its_own_data_when_nothing_is_lost_by_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut written = journal(dir.path(), 4);
    written.extend(append(&mut open(dir.path()).unwrap(), [durable(5)]));
    let derived = |file: &fs::DirEntry| super::sled_store::is_derived(&file.file_name().to_string_lossy());
    let derived = fs::read_dir(dir.path().join("log")).unwrap().flatten().filter(derived);
    let damaged = derived.map(|file| fs::write(file.path(), b"damage of the engine's own making").unwrap()).count();
    assert!(damaged >= 2, "a snapshot and the configuration");
    let mut opened = open(dir.path()).unwrap();
    let Recovery::LogRebuilt { then, .. } = opened.recovery() else { panic!("{:?}", opened.recovery()) };
    assert_eq!((then.as_ref(), &records(&opened)), (&Recovery::Clean, &written));
    assert!(opened.recovery().note().is_some());
    assert!(dir.path().join("aside/log.1/db").exists(), "the log as it was found is kept");
    written.extend(append(&mut opened, [durable(6)]));
    drop(opened);
    let opened = open(dir.path()).unwrap();
    assert_eq!((opened.recovery(), records(&opened)), (&Recovery::Clean, written));
}

#[test]
fn half_a_configuration_of_the_engine_is_no_damage_before_the_first_event_and_is_one_without_a_head_after_it() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()).unwrap());
    // As after a stop in the middle of the first open: an empty log, half a configuration, no head yet.
    let stop_in_first_open = |dir: &Path| {
        let conf = dir.join("log/conf");
        let half = fs::read(&conf).unwrap().len() - 4;
        fs::File::options().write(true).open(&conf).unwrap().set_len(half as u64).unwrap();
        fs::remove_file(dir.join("head")).unwrap();
    };
    fs::write(dir.path().join("log/db"), b"").unwrap();
    stop_in_first_open(dir.path());
    let mut opened = open(dir.path()).unwrap();
    assert!(matches!(opened.recovery(), Recovery::LogRebuilt { then, .. } if **then == Recovery::Fresh));
    let written = append(&mut opened, [durable(1)]);
    drop(opened);
    assert_eq!(records(&open(dir.path()).unwrap()), written);
    stop_in_first_open(dir.path());
    assert_eq!(refusal(dir.path()).kind(), ErrorKind::JournalUnopenable);
}

#[test]
fn a_log_that_cannot_be_opened_and_not_be_rebuilt_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    journal(dir.path(), 4);
    fs::write(dir.path().join("log/conf"), b"damage of the engine's own making").unwrap();
    // Acknowledged data is missing as well, so that the copy opens and turns out to be too short.
    let mut data = fs::read(dir.path().join("log/db")).unwrap();
    data[100..].fill(0);
    fs::write(dir.path().join("log/db"), &data).unwrap();
    let refused = refusal(dir.path());
    assert_eq!(refused.kind(), ErrorKind::JournalUnopenable);
    assert_eq!(fs::read(dir.path().join("log/db")).unwrap(), data);
    assert!(!dir.path().join("log.retry").exists());
}

#[test]
fn a_kill_between_the_renames_of_a_rebuilt_log_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let written = journal(dir.path(), 4);
    fs::rename(dir.path().join("log"), dir.path().join("log.retry")).unwrap();
    let looked_at = reader::read(dir.path()).unwrap().remove(0);
    assert_eq!(looked_at.head().map(|(seq, _)| seq), written.last().map(|last| last.seq), "a reader finds it too");
    assert_eq!(records(&open(dir.path()).unwrap()), written);
}

#[test]
fn an_event_of_a_later_version_is_refused_by_name_wherever_it_stands() {
    for (kind, version, acknowledged) in [(999, 1, true), (8, 2, true), (u16::MAX, 1, false), (8, 0, false)] {
        let dir = tempfile::tempdir().unwrap();
        let last = journal(dir.path(), 4).pop().unwrap();
        let header =
            Header { kind, version, run: RunOrdinal(1), seq: EventSeq(5), wall_ms: 0, mono_us: 0, previous: last.hash };
        let (bytes, hash) = envelope::seal(&header, b"what it means is for a later version to say");
        let mut behind = store(dir.path());
        put(&mut behind, 5, &bytes);
        drop(behind);
        if acknowledged {
            Head::create(&dir.path().join("head"), Mark { seq: EventSeq(5), hash }).unwrap();
        }
        let refused = refusal(dir.path());
        assert_eq!(refused.kind(), ErrorKind::JournalNewer);
        assert!(refused.what().contains("event 5") && refused.what().contains(&kind.to_string()), "{refused}");
        let read = super::reader::read(dir.path()).map(|_| ()).unwrap_err();
        assert_eq!(read.kind(), ErrorKind::JournalNewer);
    }
}

#[test]
fn a_payload_that_is_whole_but_makes_no_sense_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    let last = journal(dir.path(), 4).pop().unwrap();
    for payload in [&[][..], &[9], &[9, 1, 0, 0], &[0xff; 100]] {
        let header = fifth(last.hash);
        let mut behind = store(dir.path());
        put(&mut behind, 5, &envelope::seal(&header, payload).0);
        drop(behind);
        let refused = refusal(dir.path());
        assert_eq!(refused.kind(), ErrorKind::JournalCorrupt);
        assert!(refused.what().contains("event 5"), "{refused}");
        let mut behind = store(dir.path());
        remove(&mut behind, 5);
    }
}

#[test]
fn a_directory_that_is_not_ours_is_refused_and_left_as_it_is() {
    let foreign = [
        ("notes.txt", "x", ErrorKind::JournalForeign),
        ("FORMAT", "", ErrorKind::JournalForeign),
        ("FORMAT", "rivet journal", ErrorKind::JournalForeign),
        ("FORMAT", "rivet journal 0\n", ErrorKind::JournalForeign),
        ("FORMAT", "rivet journal one\n", ErrorKind::JournalForeign),
        ("FORMAT", "\u{0}\u{0}\u{0}", ErrorKind::JournalForeign),
        ("FORMAT", "rivet journal 2\n", ErrorKind::JournalNewer),
        ("FORMAT", "rivet journal 4294967295\n", ErrorKind::JournalNewer),
    ];
    for (name, contents, kind) in foreign {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(name), contents).unwrap();
        assert_eq!(refusal(dir.path()).kind(), kind, "{name} {contents:?}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "x").unwrap();
    assert_eq!(refusal(&dir.path().join("file")).kind(), ErrorKind::JournalForeign);
    // The journal's own files without their FORMAT are nobody's either.
    let dir = tempfile::tempdir().unwrap();
    journal(dir.path(), 2);
    fs::remove_file(dir.path().join("FORMAT")).unwrap();
    assert_eq!(refusal(dir.path()).kind(), ErrorKind::JournalForeign);
}

#[test]
fn an_event_that_is_already_there_ends_the_journal() {
    let dir = tempfile::tempdir().unwrap();
    let mut opened = open(dir.path()).unwrap();
    append(&mut opened, [durable(1)]);
    // Somebody else writes the next event under us.
    let value = envelope::seal(
        &Header {
            kind: 8,
            version: 1,
            run: RunOrdinal(1),
            seq: EventSeq(2),
            wall_ms: 0,
            mono_us: 0,
            previous: opened.tip.hash,
        },
        &[9, 1, 0],
    )
    .0;
    assert!(opened.store.insert_if_absent(key(2), &value).unwrap());
    let refused = opened.append(RunOrdinal(1), durable(2), Stamp::default()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::JournalForked);
    let again = opened.append(RunOrdinal(1), durable(2), Stamp::default()).unwrap_err();
    assert_eq!(again.kind(), ErrorKind::JournalIo);
    assert_eq!(head_mark(dir.path()).unwrap().seq, EventSeq(1));
}

#[test]
fn a_refused_log_is_kept_as_it_was_found_and_the_first_one_counts() {
    let dir = tempfile::tempdir().unwrap();
    journal(dir.path(), 8);
    let log = dir.path().join("log/db");
    let mut data = fs::read(&log).unwrap();
    let middle = data.iter().rposition(|byte| *byte != 0).unwrap() / 2;
    data[middle] ^= 1;
    fs::write(&log, &data).unwrap();
    let kept = dir.path().join("aside/log.found");
    for _ in 0..2 {
        let refused = refusal(dir.path());
        assert_eq!(refused.kind(), ErrorKind::JournalTruncated);
        assert_eq!(fs::read(kept.join("db")).unwrap(), data);
        assert_eq!(fs::read(&log).unwrap(), data, "the engine overwrote what follows the damage, and it was put back");
    }
    for leftover in ["log.found", "log.retry", "log.old"] {
        assert!(!dir.path().join(leftover).exists(), "{leftover}");
    }
    // With the damage mended, it is the journal again, where it lies and where it is kept.
    data[middle] ^= 1;
    fs::write(&log, &data).unwrap();
    assert_eq!(records(&open(dir.path()).unwrap()).len(), 8);
    fs::write(kept.join("db"), &data).unwrap();
    fs::remove_dir_all(dir.path().join("log")).unwrap();
    fs::rename(&kept, dir.path().join("log")).unwrap();
    assert_eq!(records(&open(dir.path()).unwrap()).len(), 8);
}

//! Appending and reading back.

mod journal_support;

use journal_support::*;
use rivet::ErrorKind;
use rivet::journal::{Journal, Recovery};
use rivet::run::event::*;
use rivet::run::ids::*;
use rivet::run::plan::{Bounds, SlicePlan};

#[test]
fn what_is_appended_is_read_back_by_this_journal_and_by_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(dir.path());
    assert_eq!(*journal.recovery(), Recovery::Fresh);
    assert_eq!((journal.head(), journal.last_run()), (None, None));
    let run = journal.begin_run();
    assert_eq!(run, RunOrdinal(1));
    let mut written = append_all(&mut journal, every_kind());
    assert_eq!(everything(&journal), written);
    let second = journal.begin_run();
    assert_eq!(second, RunOrdinal(2));
    written.push(journal.append(second, commit(1), stamp(100)).unwrap());
    assert_eq!(written.iter().map(|r| r.seq.0).collect::<Vec<_>>(), (1..=25).collect::<Vec<_>>());
    assert_eq!(journal.head(), written.last().map(|r| (r.seq, r.hash)));
    drop(journal);

    let journal = open(dir.path());
    assert_eq!(*journal.recovery(), Recovery::Clean);
    assert_eq!(everything(&journal), written);
    assert_eq!(journal.last_run(), Some(second));
    assert_eq!((journal.runs()[0].first, journal.runs()[0].last), (EventSeq(1), EventSeq(24)));
    assert_eq!((journal.runs()[1].first, journal.runs()[1].last), (EventSeq(25), EventSeq(25)));
    assert_eq!(journal.records(RunOrdinal(3)).unwrap_err().kind(), ErrorKind::RunUnknown);
}

#[test]
fn the_twin_in_memory_records_the_same_as_the_journal_on_disk() {
    let dir = tempfile::tempdir().unwrap();
    let (mut disk, mut memory) = (open(dir.path()), Journal::in_memory());
    assert_eq!(append_all(&mut disk, every_kind()), append_all(&mut memory, every_kind()));
    assert_eq!(everything(&disk), everything(&memory));
    assert_eq!((disk.head(), disk.runs()), (memory.head(), memory.runs()));
    assert_eq!(disk.costs().durable_appends, memory.costs().durable_appends);
}

#[test]
fn only_the_last_run_grows() {
    let mut journal = Journal::in_memory();
    let refuses = |journal: &mut Journal, run: u32| {
        let error = journal.append(RunOrdinal(run), batch(1), stamp(1)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Internal, "{error}");
    };
    refuses(&mut journal, 0);
    refuses(&mut journal, 2);
    journal.append(RunOrdinal(1), batch(1), stamp(1)).unwrap();
    journal.append(RunOrdinal(2), batch(1), stamp(1)).unwrap();
    refuses(&mut journal, 1);
    refuses(&mut journal, 4);
    // A refusal of the caller's mistake is not the end of the journal.
    journal.append(RunOrdinal(2), batch(2), stamp(2)).unwrap();
    assert_eq!(everything(&journal).len(), 3);
}

#[test]
fn an_event_that_does_not_fit_is_refused_by_name_and_leaves_no_trace() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(dir.path());
    let run = journal.begin_run();
    let warning = |bytes: usize| Event::WarningNoted(WarningNoted { code: "long".into(), message: "x".repeat(bytes) });
    // Code: 1 + 4 bytes; the message's length takes 3.
    let largest = rivet::journal::envelope::MAX_PAYLOAD - 8;
    let refused = journal.append(run, warning(largest + 1), stamp(1)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::JournalEventTooLarge);
    assert!(refused.what().contains("warning_noted"), "{refused}");
    assert_eq!(journal.append(run, warning(10_000_000), stamp(1)).unwrap_err().kind(), refused.kind());
    assert_eq!(journal.head(), None);
    let kept = journal.append(run, warning(largest), stamp(1)).unwrap();
    assert_eq!(kept.seq, EventSeq(1));
    let written = append_all(&mut journal, (0..100).map(|_| warning(largest)));
    append_all(&mut journal, [commit(1)]);
    drop(journal);
    let journal = open(dir.path());
    assert_eq!(everything(&journal)[1..101], written);
    // Values of this size stay in the log itself; the engine never syncs the files that larger ones go to.
    assert_eq!(std::fs::read_dir(dir.path().join("log/blobs")).unwrap().count(), 0);
}

#[test]
fn as_many_small_things_as_fit_are_read_back() {
    let mut journal = Journal::in_memory();
    let run = journal.begin_run();
    let slice = |n| SlicePlan { slice: SliceNo(n), bounds: Bounds::NullKey, estimated_rows: 0 };
    let slices = |n: u32| Event::SlicesPlanned(SlicesPlanned { slices: (0..n).map(slice).collect(), last: true });
    let findings = |n: usize| {
        let findings = vec![String::new(); n];
        Event::Validated(Validated { passed: true, depth: String::new(), parts_checked: 0, findings })
    };
    let sums = |n: usize| {
        let (slice, file, attempt) = (SliceNo(0), FileNo(0), Attempt(1));
        Event::PartChecksums(PartChecksums { slice, file, attempt, first_column: 0, sums: vec![0; n] })
    };
    for event in [slices(800), findings(4000), sums(4000)] {
        let recorded = journal.append(run, event.clone(), stamp(1)).unwrap();
        assert_eq!(journal.records(run).unwrap().last(), Some(&recorded));
        assert_eq!(recorded.event, event);
    }
}

#[test]
fn an_event_that_would_not_be_read_back_is_never_written() {
    let mut journal = Journal::in_memory();
    let run = journal.begin_run();
    let mut columns = columns();
    columns[0].column_type = rivet::run::schema::ColumnType::Decimal { precision: 0, scale: 0 };
    let refused =
        journal.append(run, Event::SchemaColumns(SchemaColumns { columns, last: true }), stamp(1)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Internal);
    assert_eq!(journal.head(), None);
    append_all(&mut journal, every_kind());
}

#[test]
fn clocks_that_run_backwards_change_nothing_but_the_notes() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(dir.path());
    let run = journal.begin_run();
    for (n, wall_ms) in [(1, i64::MAX), (2, 0), (3, i64::MIN), (4, 1_700_000_000_000)] {
        journal.append(run, commit(n), rivet::journal::Stamp { wall_ms, mono_us: u64::MAX - n }).unwrap();
    }
    drop(journal);
    let records = everything(&open(dir.path()));
    assert_eq!(records.iter().map(|r| r.event.clone()).collect::<Vec<_>>(), (1..=4).map(commit).collect::<Vec<_>>());
    assert_eq!(records[2].wall_ms, i64::MIN);
}

#[test]
fn the_costs_count_what_was_appended() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(dir.path());
    append_all(&mut journal, (0..20).map(batch));
    assert_eq!((journal.costs().durable_appends, journal.costs().append_p99_us), (0, 0));
    append_all(&mut journal, (0..5).map(commit));
    let costs = journal.costs();
    assert_eq!((costs.durable_appends, costs.buffered_appends), (5, 20));
    assert!(costs.append_p99_us > 0 && costs.time.as_micros() as u64 >= costs.append_p99_us / 2, "{costs:?}");
}

#[test]
fn events_of_one_append_share_a_flush_and_stand_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(dir.path());
    let run = journal.begin_run();
    assert_eq!(journal.append_all(run, vec![], stamp(1)).unwrap(), []);
    let mut written = journal.append_all(run, vec![batch(1), commit(2), batch(3)], stamp(1)).unwrap();
    assert_eq!(journal.acknowledged(), EventSeq(3), "what follows the durable one in its append is flushed with it");
    written.extend(journal.append_all(run, vec![batch(4), batch(5)], stamp(2)).unwrap());
    assert_eq!(journal.acknowledged(), EventSeq(3));
    written.extend(journal.append_all(journal.begin_run(), vec![commit(6), commit(7)], stamp(3)).unwrap());
    let costs = journal.costs();
    assert_eq!((costs.durable_appends, costs.buffered_appends), (2, 4));
    drop(journal);
    let journal = open(dir.path());
    assert_eq!(everything(&journal), written);
    assert_eq!((journal.runs()[0].last, journal.runs()[1].first), (EventSeq(5), EventSeq(6)));
}

#[test]
fn an_event_that_does_not_fit_keeps_those_of_its_append_out_too() {
    let mut journal = Journal::in_memory();
    let long = Event::WarningNoted(WarningNoted { code: "long".into(), message: "x".repeat(5000) });
    let refused = journal.append_all(RunOrdinal(1), vec![commit(1), long], stamp(1)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::JournalEventTooLarge);
    assert_eq!((journal.head(), journal.runs()), (None, &[][..]));
    append_all(&mut journal, [commit(1)]);
}

#[test]
fn a_status_is_replaced_as_a_whole() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path());
    for rows in [1, 2] {
        journal.write_status(&serde_json::json!({ "rows": rows })).unwrap();
        assert_eq!(std::fs::read_to_string(dir.path().join("status.json")).unwrap(), format!("{{\"rows\":{rows}}}\n"));
    }
    Journal::in_memory().write_status(&serde_json::json!({})).unwrap();
}

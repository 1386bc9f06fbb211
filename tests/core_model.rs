//! The core against a model: random scripts of progress, failures, crashes and damage, all of it in memory.
//!
//! The model's world is a source of a few slices and a directory of files. Whatever the script does, a run that is
//! resumed often enough ends with every slice delivered once, and the fold of its events equals the live state.

#[path = "support/contract.rs"]
mod contract;

use contract::SUMMARY_FIELDS;
use proptest::prelude::*;
use rivet::error::ErrorKind;
use rivet::run::command::{DriftPolicy, Failure, OpenedSnapshot};
use rivet::run::event::*;
use rivet::run::ids::*;
use rivet::run::plan::{Bounds, KeyColumn, KeyOrdering, SlicePlan, Split};
use rivet::run::schema::{Column, ColumnType, Schema};
use rivet::run::state::{Life, SliceStatus};
use rivet::run::{Command, RunState, RunSummary, Step, decide, next};
use std::collections::{BTreeMap, BTreeSet};

/// What the script does when the engine asks for the next effect.
#[derive(Debug, Clone)]
enum Turn {
    Go,
    /// The worker's attempt fails: transiently, for good, or because the snapshot went away.
    Fail(u8),
    /// The process dies; buffered events after the last durable one are lost when the flag is set.
    Crash {
        drop_buffered: bool,
    },
    /// A signal.
    Interrupt,
    /// The process dies, and with the server the library that orders the key is upgraded.
    Upgrade,
    /// Somebody removes (0) or damages (1) a committed file, then the process dies.
    Damage(u8),
}

fn turns() -> impl Strategy<Value = Turn> {
    prop_oneof![
        8 => Just(Turn::Go),
        1 => (0u8..3).prop_map(Turn::Fail),
        1 => any::<bool>().prop_map(|drop_buffered| Turn::Crash { drop_buffered }),
        1 => Just(Turn::Interrupt),
        1 => Just(Turn::Upgrade),
        1 => (0u8..2).prop_map(Turn::Damage),
    ]
}

struct World {
    /// Rows of each slice, and into how many files it goes.
    slices: Vec<(u64, u32)>,
    pages: bool,
    restart: bool,
    log: Vec<Recorded>,
    /// How much of the log would survive a power cut.
    durable: usize,
    files: BTreeMap<String, Fingerprint>,
    /// Version of what orders the key, and in which one each file was written.
    library: u32,
    written_under: BTreeMap<String, u32>,
    state: RunState,
    summary: RunSummary,
    mono: u64,
}

impl World {
    fn record(&mut self, command: Command) -> Result<(), rivet::Error> {
        for event in decide(&self.state, command)? {
            self.mono += 7;
            let seq = EventSeq(self.log.len() as u64 + 1);
            let durability = event.durability();
            let hash = ChainHash([seq.0 as u8; 16]);
            let recorded = Recorded { run: RunOrdinal(1), seq, wall_ms: 0, mono_us: self.mono, hash, event };
            self.state.apply(&recorded)?;
            self.summary.apply(&recorded);
            self.log.push(recorded);
            if durability == Durability::Durable {
                self.durable = self.log.len();
            }
        }
        Ok(())
    }

    fn reopen(&mut self, drop_buffered: bool) {
        if drop_buffered {
            self.log.truncate(self.durable);
        }
        self.state = RunState::fold(&self.log).expect("what was applied live can be folded");
        self.summary = RunSummary::from_events(&self.log);
        self.mono = 0;
    }

    fn schema() -> Schema {
        let column = |name: &str, column_type| Column {
            name: name.into(),
            column_type,
            nullable: true,
            source_type: "bigint".into(),
        };
        Schema { columns: vec![column("id", ColumnType::Int64), column("note", ColumnType::Text)] }
    }

    fn plan(&self) -> (Split, Vec<SlicePlan>) {
        let split = if self.pages {
            Split::Pages { pages: self.slices.len() as u32 }
        } else {
            let column = KeyColumn { name: "id".into(), type_name: "bigint".into() };
            Split::Key { columns: vec![column], evidence: "sample".into() }
        };
        let count = self.slices.len() as u32;
        let bounds = |i: u32| match self.pages {
            true => Bounds::Pages { first: i, end: (i + 1 < count).then_some(i + 1) },
            false => Bounds::Range {
                lower: (i > 0).then(|| vec![i.to_string()]),
                upper: (i + 1 < count).then(|| vec![(i + 1).to_string()]),
            },
        };
        let slices = (0..count).map(|i| SlicePlan { slice: SliceNo(i), bounds: bounds(i), estimated_rows: 10 });
        (split, slices.collect())
    }

    fn ordering(&self) -> Vec<KeyOrdering> {
        let (column, collation) = ("id".to_owned(), "pg_catalog.de-x-icu".to_owned());
        vec![KeyOrdering { column, collation, version: Some(self.library.to_string()) }]
    }

    /// One slice from start to completion; the turns decide whether it gets there. `false` = the process is gone.
    fn read(&mut self, slice: SliceNo, script: &mut impl Iterator<Item = Turn>) -> bool {
        self.record(Command::StartSlice { slice }).expect("a pending slice can start");
        let state = self.state.slice(slice).expect("it was planned");
        let attempt = state.attempts;
        let (rows, files) = self.slices[slice.0 as usize];
        let snapshot = self.state.snapshot.expect("slices start in a snapshot");
        for file in (0..files).map(FileNo) {
            if !self.turn(slice, attempt, script) {
                return false;
            }
            if self.state.slice(slice).is_none_or(|slice| slice.status == SliceStatus::Pending) {
                return true;
            }
            let share = rows / u64::from(files) + if file.0 == 0 { rows % u64::from(files) } else { 0 };
            self.record(Command::NoteBatch { slice, attempt, rows: share, bytes: share * 9 }).expect("running");
            let path = format!("part-{slice}-{file}.parquet");
            let fingerprint = Fingerprint::of(format!("{slice} {file} {attempt} {}", self.library).as_bytes());
            let slice_rows = (file.0 + 1 == files).then_some(rows);
            let facts = PartFacts {
                slice,
                file,
                attempt,
                path: path.clone(),
                rows: share,
                bytes: share * 5 + 8,
                fingerprint,
                snapshot,
                slice_rows,
            };
            self.record(Command::SealPart { facts, checksums: vec![share, share + 1] }).expect("running");
            if !self.turn(slice, attempt, script) {
                return false;
            }
            if self.state.slice(slice).is_none_or(|slice| slice.status == SliceStatus::Pending) {
                return true;
            }
            self.written_under.insert(path.clone(), self.library);
            self.files.insert(path, fingerprint);
            if let Some(Turn::Crash { drop_buffered }) = script.next() {
                self.reopen(drop_buffered);
                return false;
            }
            self.record(Command::CommitPart { slice, file, attempt, adopted: false }).expect("sealed");
        }
        self.record(Command::CompleteSlice { slice, attempt, rows, took_ms: 3, rss_mb: 40 })
            .expect("all files are there");
        true
    }

    /// `false` = the process is gone.
    fn turn(&mut self, slice: SliceNo, attempt: Attempt, script: &mut impl Iterator<Item = Turn>) -> bool {
        match script.next() {
            Some(Turn::Fail(how)) => {
                let kind = match how {
                    0 => ErrorKind::SourceLost,
                    1 => ErrorKind::SourceSnapshotLost,
                    _ => ErrorKind::SourceQuery,
                };
                let message = "as the script says".to_owned();
                let failure = Failure { slice, attempt, kind, message, max_retries: 2, backoff_ms: 10, dice: 0.5 };
                self.record(Command::FailSlice(failure)).expect("a running attempt can fail");
                if how == 1 {
                    self.open_snapshot();
                }
                true
            }
            Some(Turn::Crash { drop_buffered }) => {
                self.reopen(drop_buffered);
                false
            }
            Some(Turn::Damage(how)) => {
                if let Some(path) = self.files.keys().next().cloned() {
                    match how {
                        0 => drop(self.files.remove(&path)),
                        _ => drop(self.files.insert(path, Fingerprint(13))),
                    }
                }
                self.reopen(true);
                false
            }
            Some(Turn::Upgrade) => {
                self.library += 1;
                self.reopen(true);
                false
            }
            Some(Turn::Interrupt) => {
                let kind = ErrorKind::RunInterrupted;
                let message = "stopped".to_owned();
                let failure = Failure { slice, attempt, kind, message, max_retries: 2, backoff_ms: 10, dice: 0.5 };
                self.record(Command::FailSlice(failure)).expect("a running attempt can be interrupted");
                self.record(Command::Finish(finished(Outcome::Interrupted))).expect("a live run can be interrupted");
                self.reopen(false);
                false
            }
            Some(Turn::Go) | None => true,
        }
    }

    fn open_snapshot(&mut self) {
        let opened = OpenedSnapshot {
            id: format!("0000000A-{}", self.log.len()),
            lsn: "0/1".into(),
            visible: "1:1:".into(),
            server: "15".into(),
            standby: false,
        };
        self.record(Command::OpenSnapshot(opened)).expect("a snapshot can be opened");
    }

    /// Files that are not what the journal says: gone or different.
    fn check_files(&mut self) {
        let listed: Vec<PartFacts> = self.state.parts().cloned().collect();
        for part in listed {
            if !self.state.parts().any(|live| live.path == part.path) {
                continue;
            }
            match self.files.get(&part.path).copied() {
                Some(found) if found == part.fingerprint => {}
                Some(_) => {
                    self.files.remove(&part.path);
                    let moved_to = format!("_quarantine/{}", part.path);
                    let reason = "different bytes".to_owned();
                    self.record(Command::Quarantine { path: part.path, moved_to, reason }).expect("a part at rest");
                }
                None => {
                    let reason = "missing".to_owned();
                    self.record(Command::LosePart { path: part.path, reason }).expect("a part at rest");
                }
            }
        }
    }

    fn settle(&mut self, slice: SliceNo) {
        let of = self.state.slice(slice).expect("planned").clone();
        let SliceStatus::Orphaned(attempt) = of.status else { panic!("only orphans are settled") };
        let all_there = of.parts.values().all(|part| self.files.get(&part.facts.path) == Some(&part.facts.fingerprint));
        if let (Some(rows), true) = (of.announced_rows(), all_there) {
            for (file, _) in of.parts.iter().filter(|(_, part)| !part.committed) {
                let file = *file;
                self.record(Command::CommitPart { slice, file, attempt, adopted: true }).expect("a sealed file");
            }
            self.record(Command::CompleteSlice { slice, attempt, rows, took_ms: 0, rss_mb: 1 }).expect("complete");
        } else {
            self.record(Command::ReleaseOrphan { slice, why: "not whole".into() }).expect("an orphan");
        }
    }

    fn begin(&mut self) {
        let (host, version) = ("model".to_owned(), "0".to_owned());
        self.record(Command::Begin { pid: 1, host, version }).expect("an invocation");
    }

    /// Works until the process is gone or the run is closed.
    fn invoke(&mut self, script: &mut impl Iterator<Item = Turn>) {
        if self.state.life == Life::Live {
            // Only the new process can know that the old one is dead.
            self.begin();
        }
        loop {
            match next(&self.state) {
                Step::Begin if self.state.life == Life::None => {
                    let planned = RunPlanned {
                        run_id: "orders-1".into(),
                        restart_on_resume: self.restart,
                        ..RunPlanned::default()
                    };
                    self.record(Command::Plan(Box::new(planned))).expect("a new run");
                }
                Step::Begin => self.begin(),
                Step::Settle(slices) => slices.into_iter().for_each(|slice| self.settle(slice)),
                Step::OpenSnapshot => self.open_snapshot(),
                Step::ResolveSchema => {
                    let (schema, policy) = (World::schema(), DriftPolicy::Warn);
                    self.record(Command::ResolveSchema { schema, policy, previous: None }).expect("the same schema");
                    if self.state.is_planned && !self.pages {
                        self.record(Command::ConfirmOrdering(self.ordering())).expect("an order to compare");
                    }
                }
                Step::ChooseSplit => {
                    let (split, slices) = self.plan();
                    let ordering = if self.pages { vec![] } else { self.ordering() };
                    let reason = "the model says so".to_owned();
                    let chosen = Command::ChooseSplit { split, ordering, slices, estimated_rows: 30, reason };
                    self.record(chosen).expect("a plan");
                }
                Step::Read { pending, running } => {
                    assert_eq!(running, 0, "the model reads one slice at a time");
                    if !self.read(pending[0], script) {
                        return;
                    }
                }
                Step::WriteManifest => {
                    self.check_files();
                    if next(&self.state) == Step::WriteManifest {
                        let fingerprint = Fingerprint::of(b"manifest");
                        self.record(Command::RecordManifest { fingerprint, bytes: 8 }).expect("everything is read");
                    }
                }
                Step::Publish => self.record(Command::RecordPublished).expect("a manifest"),
                Step::Finish => self.record(Command::Finish(finished(Outcome::Success))).expect("published"),
                Step::Done => return,
                Step::Skip | Step::Validate => panic!("the model neither skips nor validates"),
            }
        }
    }
}

fn finished(outcome: Outcome) -> RunFinished {
    RunFinished {
        outcome,
        code: None,
        message: (outcome != Outcome::Success).then(|| "as the script says".to_owned()),
        skip_reason: None,
        duration_ms: 1,
        peak_rss_mb: 50,
        pg_temp_bytes_delta: None,
        append_p99_us: 10,
        journal_time_ms: 1,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_a_run_resumed_often_enough_delivers_every_slice_once(
        slices in prop::collection::vec((1u64..50, 1u32..4), 1..6),
        pages in any::<bool>(),
        restart in any::<bool>(),
        script in prop::collection::vec(turns(), 0..60),
    ) {
        let rows: u64 = slices.iter().map(|(rows, _)| rows).sum();
        let files: u32 = slices.iter().map(|(_, files)| files).sum();
        let mut world = World {
            slices, pages, restart,
            log: vec![], durable: 0, files: BTreeMap::new(), library: 1, written_under: BTreeMap::new(),
            state: RunState::default(), summary: RunSummary::default(), mono: 0,
        };
        let mut script = script.into_iter();
        // A script of n turns stops the run at most n times.
        for _ in 0..62 {
            world.invoke(&mut script);
            if world.state.life == Life::Closed(Outcome::Success) {
                break;
            }
        }
        prop_assert_eq!(world.state.life, Life::Closed(Outcome::Success));

        // Every slice once: by the state, by the summary, and by the files themselves.
        prop_assert_eq!(world.state.rows(), rows);
        prop_assert_eq!(world.summary.total_rows, rows as i64);
        prop_assert_eq!(world.summary.manifest_parts.len(), files as usize);
        prop_assert_eq!(world.summary.check_post_run_invariants(), Ok(()));
        for part in &world.summary.manifest_parts {
            prop_assert_eq!(world.files.get(&part.path), Some(&part.content_fingerprint));
            prop_assert_eq!(part.column_checksums.len(), 2, "checksums of {}", part.path);
        }
        if pages || restart {
            let snapshots: Vec<u32> = world.summary.manifest_parts.iter().map(|part| part.snapshot).collect();
            prop_assert!(snapshots.windows(2).all(|pair| pair[0] == pair[1]), "mixed in spite of the policy: {:?}", snapshots);
        }

        if !pages {
            let libraries: BTreeSet<u32> =
                world.summary.manifest_parts.iter().map(|part| world.written_under[&part.path]).collect();
            prop_assert!(libraries.len() <= 1, "slices in several orders of the key: {:?}", libraries);
        }

        // The fold is the live state, twice.
        prop_assert_eq!(&RunState::fold(&world.log).unwrap(), &world.state);
        prop_assert_eq!(&RunSummary::from_events(&world.log), &world.summary);

        // A finished run has nothing left to do.
        prop_assert_eq!(next(&world.state), Step::Done);

        // Every prefix folds: a crash can leave any of them behind.
        for end in 0..=world.log.len() {
            prop_assert!(RunState::fold(&world.log[..end]).is_ok());
        }
    }

    #[test]
    fn a_fold_over_shuffled_events_is_refused_or_consistent_but_never_panics(
        swaps in prop::collection::vec((0usize..40, 0usize..40), 1..6),
    ) {
        let mut world = World {
            slices: vec![(3, 1), (4, 2)], pages: false, restart: false,
            log: vec![], durable: 0, files: BTreeMap::new(), library: 1, written_under: BTreeMap::new(),
            state: RunState::default(), summary: RunSummary::default(), mono: 0,
        };
        world.invoke(&mut std::iter::empty());
        let mut log = world.log;
        for (a, b) in swaps {
            let len = log.len();
            log.swap(a % len, b % len);
        }
        let _ = RunState::fold(&log);
        let _ = RunSummary::from_events(&log).check_post_run_invariants();
    }
}

#[test]
fn an_illegal_event_is_refused_with_its_phase_and_changes_nothing() {
    let mut state = RunState::default();
    let event = Event::SliceStarted(SliceStarted { slice: SliceNo(0), attempt: Attempt(1), snapshot: SnapshotNo(0) });
    let recorded =
        Recorded { run: RunOrdinal(1), seq: EventSeq(9), wall_ms: 0, mono_us: 0, hash: ChainHash::GENESIS, event };
    let refused = state.apply(&recorded).unwrap_err();
    assert_eq!((refused.seq, refused.event, refused.life), (EventSeq(9), "slice_started", "not planned"));
    assert_eq!(state, RunState::default());
}

#[test]
fn a_plan_whose_order_is_another_is_given_up_and_one_whose_order_is_not_known_is_kept() {
    let ordering = |collation: &str, version: Option<&str>| {
        let (column, collation, version) = ("id".to_owned(), collation.to_owned(), version.map(str::to_owned));
        vec![KeyOrdering { column, collation, version }]
    };
    let known = ordering("pg_catalog.de-x-icu", Some("153.14"));
    let cases = [
        (known.clone(), known.clone(), None),
        (
            known.clone(),
            ordering("pg_catalog.de-x-icu", Some("153.120")),
            Some("from pg_catalog.de-x-icu in version 153.14 to pg_catalog.de-x-icu in version 153.120"),
        ),
        (known.clone(), ordering("pg_catalog.C", None), Some("to pg_catalog.C;")),
        (
            ordering("default C", None),
            ordering("default de", Some("2.36")),
            Some("from default C to default de in version 2.36"),
        ),
        (known.clone(), vec![], Some("to nothing;")),
        // A journal of the time before this was recorded.
        (vec![], known, None),
    ];
    for (before, now, reason) in cases {
        let mut state = RunState::default();
        state.ordering.clone_from(&before);
        let events = decide(&state, Command::ConfirmOrdering(now)).unwrap();
        let given = events.iter().find_map(|event| match event {
            Event::WorkRestarted(restarted) => Some(restarted.reason.as_str()),
            _ => None,
        });
        assert_eq!(given.is_some(), reason.is_some(), "{before:?}: {events:?}");
        assert!(given.unwrap_or_default().contains(reason.unwrap_or_default()), "{before:?}: {given:?}");
    }
}

#[test]
fn the_first_violated_invariant_is_named_with_its_size() {
    let mut world = World {
        slices: vec![(5, 1)],
        pages: false,
        restart: false,
        log: vec![],
        durable: 0,
        files: BTreeMap::new(),
        library: 1,
        written_under: BTreeMap::new(),
        state: RunState::default(),
        summary: RunSummary::default(),
        mono: 0,
    };
    world.invoke(&mut std::iter::empty());
    let mut summary = world.summary;
    summary.total_rows += 3;
    let violated = summary.check_post_run_invariants().unwrap_err();
    assert_eq!(violated, "total_rows is 8, must be exactly 5 (the parts): off by 3");
}

#[test]
fn the_summary_has_exactly_the_29_fields_of_its_contract() {
    let json = serde_json::to_value(RunSummary::default()).unwrap();
    let names: Vec<&str> = json.as_object().unwrap().keys().map(String::as_str).collect();
    let mut contract = SUMMARY_FIELDS.to_vec();
    contract.sort_unstable();
    let mut names = names;
    names.sort_unstable();
    assert_eq!(names, contract);
    let journal: Vec<&String> = json["journal"].as_object().unwrap().keys().collect();
    assert_eq!(journal.len(), 5, "{journal:?}");
}

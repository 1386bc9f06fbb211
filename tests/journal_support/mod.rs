//! Events of every kind, and journals made of them.

#![allow(dead_code, reason = "each test binary uses its own part of this")]

use rivet::journal::{Holder, Journal, Stamp};
use rivet::run::event::*;
use rivet::run::ids::*;
use rivet::run::plan::{Bounds, KeyColumn, KeyOrdering, SlicePlan, Split};
use rivet::run::relation::RelationIdentity;
use rivet::run::schema::{Column, ColumnType};
use std::path::Path;

/// Every kind at least once, in the order of their numbers, with every variant of what they hold.
pub fn every_kind() -> Vec<Event> {
    let text = |text: &str| text.to_owned();
    vec![
        Event::RunPlanned(Box::new(RunPlanned {
            run_id: text("orders-01JD3Q0000000000000000TEST"),
            export_name: text("orders"),
            fold_flags: 0,
            definition: Fingerprint(0x0123_4567_89ab_cdef),
            config_path: text("/etc/rivet/rivet.yaml"),
            engine: text("postgres"),
            source: text("db-7:5432/shop"),
            relation: text("public.orders"),
            mode: text("full"),
            format: text("parquet"),
            compression: text("zstd"),
            tuning_profile: text("balanced"),
            batch_size: 8192,
            batch_size_memory_mb: Some(2),
            destination: text("local"),
            root: text("/data/orders"),
            prefix: text("/data/orders/orders-01JD3Q0000000000000000TEST"),
            validate: true,
            verify_content: false,
            restart_on_resume: true,
            skip_empty: false,
            refuse_drift: true,
            previous_schema: Some(Fingerprint(u64::MAX)),
        })),
        Event::InvocationStarted(InvocationStarted {
            invocation: 1,
            pid: 4711,
            host: text("export-1"),
            version: text("0.1.0"),
        }),
        Event::SchemaResolved(SchemaResolved { fingerprint: Fingerprint(7), columns: 3, changed: Some(false) }),
        Event::SchemaColumns(SchemaColumns { columns: columns(), last: true }),
        Event::SnapshotOpened(SnapshotOpened {
            snapshot: SnapshotNo(0),
            id: text("00000003-0000001B-1"),
            lsn: text("0/16B3748"),
            visible: text("742:750:745,747"),
            server: text("PostgreSQL 15.8"),
            standby: false,
        }),
        Event::SplitChosen(SplitChosen {
            split: Split::Key {
                columns: vec![KeyColumn { name: text("id"), type_name: text("bigint") }],
                evidence: text("histogram"),
            },
            slices: 4,
            estimated_rows: 1_000_000,
            reason: text("the key follows the heap"),
        }),
        Event::SlicesPlanned(SlicesPlanned { slices: slices(), last: true }),
        Event::SliceStarted(SliceStarted { slice: SliceNo(2), attempt: Attempt(1), snapshot: SnapshotNo(0) }),
        Event::BatchFetched(BatchFetched { slice: SliceNo(2), attempt: Attempt(1), rows: 8192, bytes: 1 << 33 }),
        Event::PartChecksums(PartChecksums {
            slice: SliceNo(2),
            file: FileNo(0),
            attempt: Attempt(1),
            first_column: 0,
            sums: vec![0, 1, 250, 251, 65_535, 65_536, u64::MAX],
        }),
        Event::PartSealed(PartFacts {
            slice: SliceNo(2),
            file: FileNo(0),
            attempt: Attempt(1),
            path: text("part-00002-000.parquet"),
            rows: 250_000,
            bytes: 12_345_678,
            fingerprint: Fingerprint(0xfeed),
            snapshot: SnapshotNo(0),
            slice_rows: Some(250_000),
        }),
        Event::PartCommitted(PartCommitted {
            slice: SliceNo(2),
            file: FileNo(0),
            attempt: Attempt(1),
            path: text("part-00002-000.parquet"),
            rows: 250_000,
            bytes: 12_345_678,
            fingerprint: Fingerprint(0xfeed),
            adopted: true,
        }),
        Event::SliceCompleted(SliceCompleted {
            slice: SliceNo(2),
            attempt: Attempt(1),
            rows: 250_000,
            files: 1,
            took_ms: 1234,
            rss_mb: 96,
        }),
        Event::SliceFailed(SliceFailed {
            slice: SliceNo(3),
            attempt: Attempt(1),
            code: text("RIVET_SOURCE_LOST"),
            message: text("the connection broke: größer als ½"),
        }),
        Event::RetryScheduled(RetryScheduled { slice: SliceNo(3), attempt: Attempt(2), delay_ms: 500 }),
        Event::PartSuperseded(PartSuperseded {
            slice: SliceNo(3),
            file: FileNo(1),
            path: text("part-00003-001.parquet"),
            reason: text("the slice is read again"),
        }),
        Event::PartQuarantined(PartQuarantined {
            path: text("part-00003-002.parquet"),
            moved_to: text(""),
            reason: text("its length differs"),
        }),
        Event::WorkRestarted(WorkRestarted { reason: text("the snapshot is gone") }),
        Event::ManifestWritten(ManifestWritten { fingerprint: Fingerprint(9), bytes: 4096, parts: 4, rows: 1_000_000 }),
        Event::Published(Published { manifest: Fingerprint(9) }),
        Event::Validated(Validated {
            passed: false,
            depth: text("full"),
            parts_checked: 4,
            findings: vec![text("part-00001-000.parquet: too short"), text("\"quoted\"\n and more")],
        }),
        Event::WarningNoted(WarningNoted { code: text("mixed_snapshots"), message: text("\u{0}control\u{1f}") }),
        Event::RunFinished(RunFinished {
            outcome: Outcome::Interrupted,
            code: None,
            message: Some(text("stopped by a signal")),
            skip_reason: None,
            duration_ms: 60_000,
            peak_rss_mb: 120,
            pg_temp_bytes_delta: Some(-1),
            append_p99_us: 4000,
            journal_time_ms: 30,
        }),
        Event::RunAbandoned(RunAbandoned { reason: text("a later run took its place") }),
    ]
}

/// Kind 25, which came later: a collation with a version and one without, and names as long as they come.
pub fn orderings_of_a_key() -> Vec<Event> {
    let column = |column: &str, collation: &str, version: Option<&str>| KeyOrdering {
        column: column.into(),
        collation: collation.into(),
        version: version.map(str::to_owned),
    };
    let named = column("name", "pg_catalog.de-x-icu", Some("153.120"));
    let others = [column("größe", "default C", None), column(&"l".repeat(63), "s.\"c\"", Some(""))];
    let chosen = |columns: &[KeyOrdering]| Event::SplitOrdering(SplitOrdering { columns: columns.to_vec() });
    vec![chosen(&[named]), chosen(&others), chosen(&[])]
}

/// Kind 27, which came later: some, many, and none.
pub fn special_values_counted() -> Vec<Event> {
    let count = |column, kind: &str, count| SpecialCount { column, kind: kind.into(), count };
    let counted = |slice, attempt, counts| {
        Event::SpecialValuesCounted(SpecialValuesCounted { slice: SliceNo(slice), attempt: Attempt(attempt), counts })
    };
    vec![
        counted(0, 1, vec![count(3, "infinity", 2)]),
        counted(70_000, 300, vec![count(0, "nan", 1), count(1599, "lower_bound", u64::MAX), count(300, "größe", 0)]),
        counted(1, 1, vec![]),
    ]
}

/// Kind 26, which came later: a table, a view, a query, and a query of nothing but functions.
pub fn relations_resolved() -> Vec<Event> {
    let relation = |schema: &str, name: &str, oid, definition| RelationIdentity {
        schema: schema.into(),
        name: name.into(),
        oid,
        definition,
    };
    let (orders, others) = (relation("public", "orders", 16_390, None), relation("größer", "a.b", u32::MAX, None));
    let view = relation("public", "open_orders", 70_000, Some(u64::MAX - 1));
    let resolved = |named, below: Vec<RelationIdentity>, relations| {
        Event::RelationResolved(RelationResolved {
            database: "shop".into(),
            database_oid: 16_384,
            named,
            below,
            relations,
            fingerprint: Fingerprint(0x0123_4567_89ab_cdef),
        })
    };
    vec![
        resolved(Some(orders.clone()), vec![], 0),
        resolved(Some(view.clone()), vec![others.clone(), orders.clone()], 2),
        resolved(None, vec![others, view, orders], 300),
        resolved(None, vec![], 0),
    ]
}

pub fn columns() -> Vec<Column> {
    use ColumnType::*;
    let types = [
        Bool,
        Int16,
        Int32,
        Int64,
        UInt32,
        UInt64,
        Float32,
        Float64,
        Decimal { precision: 76, scale: 0 },
        Decimal { precision: 12, scale: 2 },
        Date,
        Time,
        Timestamp,
        TimestampUtc,
        Text,
        Binary,
        Json,
        Uuid,
        List(Box::new(Decimal { precision: 1, scale: 1 })),
    ];
    let column = |(i, column_type)| Column {
        name: format!("column {i}"),
        column_type,
        nullable: i % 2 == 0,
        source_type: "numeric(12,2)".into(),
    };
    types.into_iter().enumerate().map(column).collect()
}

pub fn slices() -> Vec<SlicePlan> {
    let bounds = [
        Bounds::Whole,
        Bounds::Range { lower: None, upper: Some(vec!["10".into(), "b".into()]) },
        Bounds::Range { lower: Some(vec!["10".into(), String::new()]), upper: None },
        Bounds::NullKey,
        Bounds::Pages { first: 0, end: Some(128) },
        Bounds::Pages { first: u32::MAX, end: None },
    ];
    let slice = |(i, bounds)| SlicePlan { slice: SliceNo(i as u32), bounds, estimated_rows: 1u64 << i };
    bounds.into_iter().enumerate().map(slice).collect()
}

/// A buffered event.
pub fn batch(n: u64) -> Event {
    Event::BatchFetched(BatchFetched { slice: SliceNo(0), attempt: Attempt(1), rows: n, bytes: n * 100 })
}

/// A durable event.
pub fn commit(n: u64) -> Event {
    Event::PartCommitted(PartCommitted {
        slice: SliceNo(n as u32),
        file: FileNo(0),
        attempt: Attempt(1),
        path: format!("part-{n:05}-000.parquet"),
        rows: n,
        bytes: n * 1000,
        fingerprint: Fingerprint(n),
        adopted: false,
    })
}

pub fn stamp(n: u64) -> Stamp {
    Stamp { wall_ms: 1_700_000_000_000 + n as i64, mono_us: n * 1000 }
}

pub fn me() -> Holder {
    Holder::this_process("orders-test")
}

pub fn open(dir: &Path) -> Journal {
    Journal::open(dir, &me()).unwrap_or_else(|error| panic!("{error}\n{}", error.hint()))
}

/// Appends `events` to the last run, or to the first.
pub fn append_all(journal: &mut Journal, events: impl IntoIterator<Item = Event>) -> Vec<Recorded> {
    let run = journal.last_run().unwrap_or_else(|| journal.begin_run());
    let next = journal.head().map_or(1, |(seq, _)| seq.0 + 1);
    (next..).zip(events).map(|(n, event)| journal.append(run, event, stamp(n)).unwrap()).collect()
}

/// Everything a journal holds.
pub fn everything(journal: &Journal) -> Vec<Recorded> {
    journal.runs().iter().flat_map(|extent| journal.records(extent.run).unwrap()).collect()
}

pub fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to.join(entry.file_name()));
        } else {
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

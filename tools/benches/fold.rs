//! What it costs to fold a journal: `cargo bench --profile perf --bench fold`, a million events unless told otherwise.

use rivet::run::command::{DriftPolicy, OpenedSnapshot};
use rivet::run::event::{Event, Recorded, RunPlanned};
use rivet::run::ids::{ChainHash, EventSeq, RunOrdinal, SliceNo};
use rivet::run::plan::{Bounds, SlicePlan, Split};
use rivet::run::schema::{Column, ColumnType, Schema};
use rivet::run::{Command, RunState, RunSummary, decide};
use std::time::Instant;

fn main() {
    let wanted = std::env::args().find_map(|argument| argument.parse().ok()).unwrap_or(1_000_000);
    let events = events(wanted);
    let began = Instant::now();
    let state = RunState::fold(&events).expect("the events were decided, so they can be folded");
    let folded = began.elapsed();
    let began = Instant::now();
    let summary = RunSummary::from_events(&events);
    let summed = began.elapsed();
    assert_eq!(summary.journal.events(), state.last_seq.0);
    println!("{} events: state {:.3} s, summary {:.3} s", events.len(), folded.as_secs_f64(), summed.as_secs_f64());
}

/// A run of 64 slices in the middle of its reading.
fn events(wanted: usize) -> Vec<Recorded> {
    let mut state = RunState::default();
    let mut events: Vec<Recorded> = Vec::with_capacity(wanted);
    let mut record = |state: &mut RunState, command: Command| {
        for event in decide(state, command).expect("the commands fit") {
            push(&mut events, state, event);
        }
        events.len()
    };
    record(&mut state, Command::Plan(Box::new(RunPlanned { run_id: "orders-1".to_owned(), ..RunPlanned::default() })));
    record(&mut state, Command::Begin { pid: 1, host: "bench".to_owned(), version: "0".to_owned() });
    record(
        &mut state,
        Command::OpenSnapshot(OpenedSnapshot {
            id: "1-1".to_owned(),
            lsn: "0/1".to_owned(),
            visible: "1:1:".to_owned(),
            server: "15".to_owned(),
            standby: false,
        }),
    );
    let column = Column {
        name: "id".to_owned(),
        column_type: ColumnType::Int64,
        nullable: false,
        source_type: "bigint".to_owned(),
    };
    let schema = Schema { columns: vec![column] };
    record(&mut state, Command::ResolveSchema { schema, policy: DriftPolicy::Warn, previous: None });
    let slices = (0..64).map(|slice| SlicePlan {
        slice: SliceNo(slice),
        bounds: Bounds::Pages { first: slice, end: Some(slice + 1) },
        estimated_rows: 1,
    });
    let (split, slices) = (Split::Pages { pages: 64 }, slices.collect());
    let (ordering, reason) = (vec![], "a bench".to_owned());
    record(&mut state, Command::ChooseSplit { split, ordering, slices, estimated_rows: 64, reason });
    for slice in (0..64).map(SliceNo) {
        record(&mut state, Command::StartSlice { slice });
    }
    for i in 0.. {
        let slice = SliceNo(i % 64);
        let attempt = state.slice(slice).expect("it was planned").attempts;
        if record(&mut state, Command::NoteBatch { slice, attempt, rows: 10_000, bytes: 1 << 20 }) >= wanted {
            break;
        }
    }
    events
}

fn push(events: &mut Vec<Recorded>, state: &mut RunState, event: Event) {
    let seq = EventSeq(events.len() as u64 + 1);
    let hash = ChainHash(u128::from(seq.0).to_le_bytes());
    let recorded = Recorded { run: RunOrdinal(1), seq, wall_ms: 1, mono_us: seq.0, hash, event };
    state.apply(&recorded).expect("what was decided can be applied");
    events.push(recorded);
}

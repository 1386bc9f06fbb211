//! Wall clocks that are set back and forward, within a run, between a kill and its resume, and between runs. What happened
//! is ordered by number; what took time is measured by another clock.

#![cfg(feature = "failpoints")]

mod support;

use rivet::journal::reader;
use rivet::run::event::Recorded;
use std::time::Instant;
use support::converge::assert_converged;
use support::database::Database;
use support::rivet::{Rivet, Scratch, export, run_id};
use support::{files, oracle};

const SLICED: &str = "table: t\nmode: chunked\nchunk_count: 3\ntuning: { parallel: 2, batch_size: 100 }";
const HOUR: i64 = 3600;
const YEAR: i64 = 365 * 24 * HOUR;

fn database(name: &str) -> Database {
    let database = Database::create(name);
    database.execute("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 300); ANALYZE t;");
    database
}

/// From the `n`-th event of an invocation on, the wall clock is off by so many seconds.
fn set(n: u32, seconds: i64) -> String {
    format!("journal.append.before@{n}=clock:{seconds};")
}

fn journaled(scratch: &Scratch) -> Vec<Recorded> {
    let journal = reader::read(&scratch.journal_dir("orders")).expect("the journal is read").remove(0);
    journal.runs().iter().flat_map(|extent| journal.records(extent.run).expect("the run is read")).collect()
}

/// Steps of the wall clock from one event to the next that no run of these takes: (back, forward).
fn jumps(records: &[Recorded]) -> (usize, usize) {
    let steps = || records.windows(2).map(|pair| pair[1].wall_ms - pair[0].wall_ms);
    (steps().filter(|&step| step < -HOUR * 500).count(), steps().filter(|&step| step > HOUR * 500).count())
}

#[test]
fn a_run_under_a_clock_that_jumps_is_ordered_by_number_and_takes_no_negative_time() {
    let database = database("jumps");
    let scratch = Scratch::in_memory(&database, &[export("orders", SLICED)]);
    let began = Instant::now();
    let jumping = set(3, YEAR) + &set(6, -HOUR) + &set(9, YEAR) + &set(12, 0) + &set(15, -HOUR);
    let first = Rivet::new(&scratch).env("RIVET_FAILPOINTS", jumping.clone() + "part.dir_synced@2=kill");
    let killed = first.run(&["run", "-c", "rivet.yaml", "--json"]);
    assert!(killed.killed(), "{killed}");
    let run = support::converge::journaled_run(&scratch).expect("the run is journaled");
    // Resumed an hour before it began, and then a year later.
    let second = Rivet::new(&scratch).env("RIVET_FAILPOINTS", set(1, -HOUR) + &set(5, YEAR) + &set(8, -HOUR));
    let finished = second.run(&["resume", &run, "-c", "rivet.yaml", "--json"]).expect_exit(0);
    let elapsed = began.elapsed().as_millis() as i64;

    let records = journaled(&scratch);
    assert!((1..).zip(&records).all(|(n, recorded)| recorded.seq.0 == n));
    let (back, forward) = jumps(&records);
    assert!(back >= 4 && forward >= 3, "the clock hardly jumped: {back} times back, {forward} forward");
    let summary = finished.summary();
    let took = summary["duration_ms"].as_i64().expect("a duration is a number");
    assert!((0..=elapsed).contains(&took), "{took} ms of {elapsed}");
    let run_dir = scratch.run_dir(&run);
    oracle::assert_same_rows(&database, "SELECT * FROM t", &run_dir);
    let rows = files::rows(&files::parts(&run_dir));
    assert_converged(&scratch, finished, &rows);

    // Whoever looks sees the events in their order, and nothing negative.
    let journal = scratch.journal_dir("orders").display().to_string();
    let story = scratch.rivet(&["replay", "--journal", &journal, "--events"]).expect_exit(0);
    let numbered = |line: &str| line.split_whitespace().next()?.split('–').next()?.parse::<u64>().ok();
    let numbers: Vec<u64> = story.stdout.lines().filter_map(numbered).collect();
    assert!(numbers.len() > 10 && numbers.is_sorted(), "{story}");
    for looked_at in [story, scratch.rivet(&["runs"]), scratch.rivet(&["status"])] {
        let negative = |word: &str| word.starts_with('-') && word[1..].starts_with(|c: char| c.is_ascii_digit());
        let words = looked_at.stdout.split_whitespace();
        assert!(looked_at.code() == Some(0) && !words.clone().any(negative), "{looked_at}");
    }
}

#[test]
fn runs_are_listed_in_the_order_of_their_journal_whatever_the_clock_said() {
    let database = database("between");
    let scratch = Scratch::in_memory(&database, &[export("orders", SLICED)]);
    let mut ids = Vec::new();
    for seconds in [YEAR, -HOUR, 0] {
        // The first event of a run is stamped before it passes a failpoint of its own.
        let shifted = Rivet::new(&scratch).env("RIVET_FAILPOINTS", format!("journal.open.settled=clock:{seconds}"));
        ids.push(run_id(&shifted.run(&["run", "-c", "rivet.yaml", "--json"]).expect_exit(0).summary()));
    }
    let (back, _) = jumps(&journaled(&scratch));
    assert_eq!(back, 1, "the second run began long before the first");
    let listed: Vec<String> =
        scratch.rivet(&["runs", "--json"]).expect_exit(0).summaries().iter().map(run_id).collect();
    assert_eq!(listed, ids);
    let latest = std::fs::read_to_string(scratch.path().join("out/manifest.json")).expect("the pointer is there");
    assert!(latest.contains(&ids[2]), "{latest}");
}

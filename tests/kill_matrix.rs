//! SIGKILL at every place that a run passes, and what a resume makes of it.
//!
//! A probe run writes down every passage of every failpoint: before and after each append to the journal, between its
//! insert, flush, sync and head, around each step of a part's life, and at the end's manifest, `_SUCCESS` and pointer.
//!
//! Every one of these passages is taken: a run is killed there, or meets an error there, and is resumed. Kills of the
//! resumes themselves are in `kill_nested.rs`.
//!
//! The rows are compared with what the probe run delivered, which DuckDB and pyarrow have compared with the server.

#![cfg(feature = "failpoints")]

mod support;

use serde_json::Value;
use std::sync::atomic::{AtomicUsize, Ordering};
use support::converge::{assert_converged, assert_no_half_part, go_on};
use support::database::Database;
use support::matrix::{caught, in_parallel, tell};
use support::probe::{self, probe, run_into, scratch};
use support::rivet::run_id;
use support::{files, oracle};

const ROWS: u32 = 600;

const SLICED: &str = "table: t\nmode: chunked\nchunk_count: 4\ntuning: { parallel: 3, batch_size: 100 }";

#[track_caller]
fn report(what: &str, points: usize, killed: usize, wrong: &[String]) {
    tell(&format!("{what}: {points} points, {killed} reached, {} differences", wrong.len()));
    assert!(wrong.is_empty(), "{what}: {} of {points} points went wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert!(
        killed * 10 >= points * 9,
        "{what}: only {killed} of {points} points were reached; the matrix proves little"
    );
}

/// Kills a run at every passage, resumes it undisturbed, and compares.
fn kill_everywhere(what: &str, database: &Database, lines: &str) {
    let probe = probe(database, lines);
    let killed = AtomicUsize::new(0);
    let wrong = in_parallel(probe.points.len(), |i| {
        let point = &probe.points[i];
        caught(point, || {
            let scratch = scratch(database, lines);
            let first = run_into(&scratch, &format!("{point}=kill"));
            assert_no_half_part(&scratch);
            if first.killed() {
                killed.fetch_add(1, Ordering::Relaxed);
                assert_converged(&scratch, go_on(&scratch, None), &probe.rows);
            } else {
                // Threads interleave in other ways; a passage that this run did not have leaves it undisturbed.
                assert_converged(&scratch, first, &probe.rows);
            }
        })
    });
    report(what, probe.points.len(), killed.into_inner(), &wrong);
}

#[test]
fn a_run_of_several_slices_and_workers_survives_a_kill_at_every_passage() {
    kill_everywhere("several slices", &probe::database("several", ROWS), SLICED);
}

#[test]
fn a_run_of_one_slice_survives_a_kill_at_every_passage() {
    kill_everywhere("one slice", &probe::database("one", ROWS), "table: t");
}

#[test]
fn a_run_by_pages_starts_over_after_a_kill_and_still_delivers_every_row_once() {
    let database = probe::database("pages", ROWS);
    database.execute("ALTER TABLE t DROP CONSTRAINT t_pkey; ANALYZE t");
    kill_everywhere("pages", &database, SLICED);
}

#[test]
fn an_input_output_error_at_any_passage_is_a_typed_failure_and_the_run_can_be_resumed() {
    let database = probe::database("errors", ROWS);
    let probe = probe(&database, SLICED);
    let failed = AtomicUsize::new(0);
    let wrong = in_parallel(probe.points.len(), |i| {
        let point = &probe.points[i];
        caught(point, || {
            let scratch = scratch(&database, SLICED);
            let first = run_into(&scratch, &format!("{point}=error"));
            assert_no_half_part(&scratch);
            assert!(!first.stderr.contains("panicked at"), "{first}");
            if first.code() == Some(0) {
                // Either the passage was not there, or a retry made it good.
                return assert_converged(&scratch, first, &probe.rows);
            }
            failed.fetch_add(1, Ordering::Relaxed);
            assert!(first.stderr.contains("RIVET_") && first.stderr.contains("injected at"), "{first}");
            // Where a run checks itself, an error is a contradiction, and no fault of the disk.
            let exit = if point.starts_with("run.invariants@") { 3 } else { 6 };
            assert_eq!(first.code(), Some(exit), "{first}");
            assert_converged(&scratch, go_on(&scratch, None), &probe.rows);
        })
    });
    report("errors", probe.points.len(), failed.into_inner(), &wrong);
}

#[test]
fn a_finished_run_is_not_changed_by_a_resume() {
    let database = probe::database("finished", ROWS);
    let scratch = scratch(&database, SLICED);
    let summary = scratch.run_ok(&[]);
    let run_dir = scratch.run_dir(&run_id(&summary));
    let stamp = |name: &String| {
        let meta = std::fs::metadata(run_dir.join(name)).expect("it is there");
        (name.clone(), meta.len(), meta.modified().expect("the file system keeps times"))
    };
    let before: Vec<_> = files::tree(&run_dir).iter().map(stamp).collect();
    let again = scratch.resume_ok(&run_id(&summary));
    assert_eq!(again, summary, "a finished run has one story");
    let after: Vec<_> = files::tree(&run_dir).iter().map(stamp).collect();
    assert_eq!(before, after);
}

#[test]
fn rows_that_change_between_the_kill_and_the_resume_are_labelled_or_read_again() {
    // Page ranges mean nothing in another snapshot: without a key everything is read again, whatever the policy.
    for (policy, has_key, kind) in
        [("", true, "mixed"), ("\nconsistency: restart", true, "snapshot"), ("", false, "snapshot")]
    {
        let database = probe::database("between", ROWS);
        if !has_key {
            database.execute("ALTER TABLE t DROP CONSTRAINT t_pkey; ANALYZE t");
        }
        let lines = format!("{SLICED}{policy}");
        let scratch = scratch(&database, &lines);
        assert!(run_into(&scratch, "part.dir_synced@2=kill").killed());
        database.execute("UPDATE t SET name = 'changed'; DELETE FROM t WHERE id % 10 = 0; INSERT INTO t SELECT g, 'new' FROM generate_series(601, 650) AS g");
        let summary: Value = go_on(&scratch, None).expect_exit(0).summary();
        let run_dir = scratch.run_dir(&run_id(&summary));
        let manifest = files::manifest(&run_dir);
        assert_eq!(manifest["consistency"]["kind"], kind, "{manifest}");
        match kind {
            "snapshot" => oracle::assert_same_rows(&database, "SELECT * FROM t", &run_dir),
            _ => {
                let snapshots = manifest["consistency"]["snapshots"].as_array().expect("snapshots are listed").len();
                assert_eq!(snapshots, 2);
                // Every key once, and each part names a snapshot that is listed.
                let rows = files::rows(&files::parts(&run_dir));
                let mut keys: Vec<&str> = rows.iter().filter_map(|row| row.split('\t').next()).collect();
                let all = keys.len();
                keys.sort_unstable();
                keys.dedup();
                assert_eq!(keys.len(), all, "a key stands twice");
                for part in manifest["parts"].as_array().expect("parts are listed") {
                    assert!(part["snapshot"].as_u64().is_some_and(|snapshot| snapshot < 2), "{part}");
                }
            }
        }
    }
}

//! SIGKILL at every place that a run passes, and what a resume makes of it.
//!
//! A probe run writes down every passage of every failpoint: before and after each append to the journal, between its
//! insert, flush, sync and head, around each step of a part's life, and at the end's manifest, `_SUCCESS` and pointer.
//!
//! The flat matrices take every one of these passages: a run is killed there, or meets an error there, and is resumed. The
//! nested one does not take every combination: its first kill is at every fifth passage, and at each depth below that the
//! resume is killed at one passage, another for each first kill and depth, spread over the first two thirds of the list.
//!
//! The rows are compared with what the probe run delivered, which DuckDB and pyarrow have compared with the server.

#![cfg(feature = "failpoints")]

mod support;

use serde_json::Value;
use std::sync::atomic::{AtomicUsize, Ordering};
use support::converge::{assert_converged, assert_no_half_part, go_on};
use support::database::Database;
use support::matrix::{caught, in_parallel, tell};
use support::rivet::{Finished, Rivet, Scratch, export, run_id};
use support::{files, oracle};

const SLICED: &str = "table: t\nmode: chunked\nchunk_count: 4\ntuning: { parallel: 3, batch_size: 100 }";

fn database(name: &str) -> Database {
    let database = Database::create(name);
    database.execute(
        "CREATE TABLE t (id int PRIMARY KEY, name text, amount numeric(12,2), at timestamptz, tags text[]);
         INSERT INTO t SELECT g, CASE WHEN g % 9 > 0 THEN 'name ' || g END, g * 1.37,
                timestamptz '2026-01-01' + g * interval '1 minute', ARRAY['a' || g % 3, NULL]
         FROM generate_series(1, 600) AS g; ANALYZE t;",
    );
    database
}

/// Every passage of a command's failpoints, in the order in which they were passed: `name@ordinal`.
fn traced(scratch: &Scratch, arguments: &[&str]) -> (Finished, Vec<String>) {
    let path = scratch.path().join("trace");
    let _ = std::fs::remove_file(&path);
    let finished = Rivet::new(scratch).env("RIVET_FAILPOINTS_TRACE", &path).run(arguments);
    let trace = std::fs::read_to_string(&path).unwrap_or_default();
    (finished, trace.lines().map(str::to_owned).collect())
}

/// What the server has, by way of a run that nothing disturbed.
struct Probe {
    rows: Vec<String>,
    points: Vec<String>,
}

fn probe(database: &Database, lines: &str) -> Probe {
    let scratch = Scratch::in_memory(database, &[export("orders", lines)]);
    let (finished, points) = traced(&scratch, &["run", "-c", "rivet.yaml", "--json"]);
    let summary = finished.expect_exit(0).summary();
    let run_dir = scratch.run_dir(&run_id(&summary));
    oracle::assert_same_rows(database, "SELECT * FROM t", &run_dir);
    for point in
        ["journal.append.before", "journal.append.after", "part.renamed", "manifest.renamed", "success.written"]
    {
        assert!(points.iter().any(|p| p.starts_with(&format!("{point}@"))), "the run never passes {point}");
    }
    Probe { rows: files::rows(&files::parts(&run_dir)), points }
}

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
            let scratch = Scratch::in_memory(database, &[export("orders", lines)]);
            let rivet = Rivet::new(&scratch).env("RIVET_FAILPOINTS", format!("{point}=kill"));
            let first = rivet.run(&["run", "-c", "rivet.yaml", "--json"]);
            assert_no_half_part(&scratch);
            if first.killed() {
                killed.fetch_add(1, Ordering::Relaxed);
                let finished = go_on(&scratch, None);
                assert_converged(&scratch, finished, &probe.rows);
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
    kill_everywhere("several slices", &database("several"), SLICED);
}

#[test]
fn a_run_of_one_slice_survives_a_kill_at_every_passage() {
    kill_everywhere("one slice", &database("one"), "table: t");
}

#[test]
fn a_run_by_pages_starts_over_after_a_kill_and_still_delivers_every_row_once() {
    let database = database("pages");
    database.execute("ALTER TABLE t DROP CONSTRAINT t_pkey; ANALYZE t");
    kill_everywhere("pages", &database, SLICED);
}

#[test]
fn kills_during_the_resume_and_during_the_resume_of_that_converge_too() {
    let database = database("nested");
    let probe = probe(&database, SLICED);
    let kills = AtomicUsize::new(0);
    // Every fifth first place, and at each of them three kills deep; which places the resumes die at moves along.
    let firsts: Vec<&String> = probe.points.iter().step_by(5).collect();
    let wrong = in_parallel(firsts.len(), |i| {
        caught(firsts[i], || {
            let scratch = Scratch::in_memory(&database, &[export("orders", SLICED)]);
            let rivet = Rivet::new(&scratch).env("RIVET_FAILPOINTS", format!("{}=kill", firsts[i]));
            let mut last = rivet.run(&["run", "-c", "rivet.yaml", "--json"]);
            for depth in 1..=3 {
                if !last.killed() {
                    break;
                }
                kills.fetch_add(1, Ordering::Relaxed);
                assert_no_half_part(&scratch);
                // A resume passes fewer places than a run; early ones are in every resume.
                let place = (i * 7 + depth * 13) % (probe.points.len() * 2 / 3);
                last = go_on(&scratch, Some(&probe.points[place]));
            }
            if last.killed() {
                kills.fetch_add(1, Ordering::Relaxed);
                last = go_on(&scratch, None);
            }
            assert_converged(&scratch, last, &probe.rows);
        })
    });
    let kills = kills.into_inner();
    tell(&format!("nested: {} first points, {kills} kills in all, {} differences", firsts.len(), wrong.len()));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(kills > firsts.len() * 3 / 2, "only {kills} kills over {} first points: hardly any nested", firsts.len());
}

#[test]
fn an_input_output_error_at_any_passage_is_a_typed_failure_and_the_run_can_be_resumed() {
    let database = database("errors");
    let probe = probe(&database, SLICED);
    let failed = AtomicUsize::new(0);
    let wrong = in_parallel(probe.points.len(), |i| {
        let point = &probe.points[i];
        caught(point, || {
            let scratch = Scratch::in_memory(&database, &[export("orders", SLICED)]);
            let rivet = Rivet::new(&scratch).env("RIVET_FAILPOINTS", format!("{point}=error"));
            let first = rivet.run(&["run", "-c", "rivet.yaml", "--json"]);
            assert_no_half_part(&scratch);
            assert!(!first.stderr.contains("panicked at"), "{first}");
            if first.code() == Some(0) {
                // Either the passage was not there, or a retry made it good.
                return assert_converged(&scratch, first, &probe.rows);
            }
            failed.fetch_add(1, Ordering::Relaxed);
            assert!(first.stderr.contains("RIVET_") && first.stderr.contains("injected at"), "{first}");
            assert_eq!(first.code(), Some(6), "{first}");
            let finished = go_on(&scratch, None);
            assert_converged(&scratch, finished, &probe.rows);
        })
    });
    report("errors", probe.points.len(), failed.into_inner(), &wrong);
}

#[test]
fn a_finished_run_is_not_changed_by_a_resume() {
    let database = database("finished");
    let scratch = Scratch::in_memory(&database, &[export("orders", SLICED)]);
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
        let database = database("between");
        if !has_key {
            database.execute("ALTER TABLE t DROP CONSTRAINT t_pkey; ANALYZE t");
        }
        let lines = format!("{SLICED}{policy}");
        let scratch = Scratch::in_memory(&database, &[export("orders", &lines)]);
        let rivet = Rivet::new(&scratch).env("RIVET_FAILPOINTS", "part.dir_synced@2=kill");
        assert!(rivet.run(&["run", "-c", "rivet.yaml", "--json"]).killed());
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

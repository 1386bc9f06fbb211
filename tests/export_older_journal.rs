//! A journal that is older than the output: put back from a copy, or cut by a repair. What readers were told to rely on stays as
//! it is until somebody insists.

mod support;

use std::path::Path;
use std::process::Command;
use support::database::Database;
use support::rivet::{Rivet, Scratch, export};
use support::{converge, files, oracle};

fn copy(from: &Path, to: &Path) {
    let _ = std::fs::remove_dir_all(to);
    let status = Command::new("cp").arg("-a").arg(from).arg(to).status();
    assert!(status.expect("cp can be started").success(), "{} can be copied", from.display());
}

/// A finished run, with the journal as it was when the run was killed for the first time, at a failpoint.
fn finished_and_put_back(database: &Database, killed_at: &str) -> (Scratch, String) {
    let lines = "table: t\nmode: chunked\nchunk_count: 4\nparallel: 1";
    let scratch = Scratch::with(database, &[export("orders", lines)]);
    let killed = Rivet::new(&scratch).env("RIVET_FAILPOINTS", format!("{killed_at}=kill")).run(&["run"]);
    assert!(killed.killed(), "{killed}");
    let run = converge::journaled_run(&scratch).expect("the run is in the journal");
    let (state, kept) = (scratch.path().join(".rivet"), scratch.path().join("kept"));
    copy(&state, &kept);
    scratch.resume_ok(&run);
    copy(&kept, &state);
    (scratch, run)
}

fn numbers(name: &str) -> Database {
    let database = Database::create(name);
    database.execute(
        "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT g, 'v' || g FROM generate_series(1, 4000) g; ANALYZE t",
    );
    database
}

/// Before there was a plan, with one of four slices read, with all of them, and with the manifest written.
const KILLS: [&str; 4] = ["journal.append.after@3", "part.created@2", "manifest.written", "manifest.renamed"];

#[test]
fn output_that_was_published_is_not_overwritten_by_a_run_that_does_not_know_it() {
    for killed_at in KILLS {
        let database = numbers("older_journal");
        let (scratch, run) = finished_and_put_back(&database, killed_at);
        let run_dir = scratch.run_dir(&run);
        let published = files::tree(&run_dir);
        // Other rows than were delivered: a part that is written anew shows.
        database.execute("UPDATE t SET v = v || '!'");
        for verb in [&["run"][..], &["resume", &run]] {
            let refused = scratch.rivet(verb).expect_error(5, "RIVET_DESTINATION_MISMATCH");
            drop(refused.expect_in_stderr("older than the output").expect_in_stderr("rivet run --fresh"));
        }
        scratch.rivet(&["validate", "--prefix", &run_dir.display().to_string(), "--depth", "full"]).expect_exit(0);

        let fresh = scratch.run_ok(&["--fresh"]);
        oracle::assert_same_rows(&database, "SELECT * FROM t", &scratch.run_dir(&support::rivet::run_id(&fresh)));
        assert_eq!(files::tree(&run_dir), published, "{killed_at}: the output that was there is touched");
    }
}

#[test]
fn whoever_insists_gets_the_rest_read_anew_and_no_mark_vouches_for_it_in_between() {
    for killed_at in KILLS {
        let database = numbers("older_journal_forced");
        let (scratch, run) = finished_and_put_back(&database, killed_at);
        let run_dir = scratch.run_dir(&run);
        let again =
            Rivet::new(&scratch).env("RIVET_FAILPOINTS", "manifest.written=kill").run(&["resume", &run, "--force"]);
        assert!(again.killed(), "{again}");
        assert!(!run_dir.join("_SUCCESS").exists(), "{killed_at}: it vouches for parts that were written since");
        let summary = scratch.resume_ok(&run);
        assert_eq!(summary["total_rows"], 4000);
        scratch.rivet(&["validate", &run, "--depth", "full"]).expect_exit(0);
        oracle::assert_same_rows(&database, "SELECT * FROM t", &run_dir);
        let quarantined = files::tree(&run_dir.join("_quarantine")).len();
        assert!(quarantined > 0, "{killed_at}: parts that the journal does not know were not set aside");
    }
}

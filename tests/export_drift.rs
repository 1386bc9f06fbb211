//! Columns that differ from those of the previous run, under each policy, and policies that change between a run and what
//! goes on with it.

mod support;

use serde_json::Value;
use support::database::Database;
use support::oracle;
use support::rivet::{Finished, Scratch, config, export, run_id};

fn before(name: &str) -> Database {
    let database = Database::create(name);
    database.execute("CREATE TABLE t (id int PRIMARY KEY, name text); INSERT INTO t SELECT g, 'n' || g FROM generate_series(1, 200) AS g; ANALYZE t");
    database
}

fn change(database: &Database) {
    database.execute("ALTER TABLE t ADD COLUMN extra int DEFAULT 7");
}

fn policy(scratch: &Scratch, database: &Database, lines: &str) {
    scratch.write_config(&config(&database.url(), &[export("a", &format!("table: t\n{lines}"))]));
}

/// A first run, then another column.
fn drifted(name: &str, lines: &str) -> (Database, Scratch) {
    let database = before(name);
    let scratch = Scratch::new();
    policy(&scratch, &database, lines);
    assert_eq!(scratch.run_ok(&[])["schema_changed"], Value::Null);
    assert_eq!(scratch.run_ok(&[])["schema_changed"], false);
    change(&database);
    (database, scratch)
}

/// Codes of the warnings that a run's journal holds.
fn warnings(scratch: &Scratch, summary: &Value) -> Vec<String> {
    let told = scratch.rivet(&["replay", "--run", &run_id(summary), "--events", "--json"]).expect_exit(0);
    let events = told.stdout.lines().map(|line| serde_json::from_str::<Value>(line).expect("an event is JSON"));
    let codes = events.filter(|event| event["event"] == "warning_noted");
    codes.map(|warning| warning["code"].as_str().expect("a warning has a code").to_owned()).collect()
}

fn complete(database: &Database, scratch: &Scratch, finished: Finished) -> Value {
    let summary = finished.expect_exit(0).summary();
    oracle::assert_same_rows(database, "SELECT * FROM t", &scratch.run_dir(&run_id(&summary)));
    summary
}

#[test]
fn warn_goes_on_and_says_so_while_it_happens_and_afterwards() {
    let (database, scratch) = drifted("drift_warn", "on_schema_drift: warn");
    let finished = scratch.rivet(&["run"]).expect_exit(0).expect_in_stderr("warning[schema_changed]");
    // What changed is named.
    assert!(finished.stderr.contains("\"extra\" int4"), "{finished}");
    assert!(finished.stdout.contains("schema       changed since the previous run"), "{finished}");
    assert!(finished.stdout.contains("schema_changed: "), "{finished}");
    let summary = scratch.rivet(&["status", "--json"]).expect_exit(0).summary();
    assert_eq!(
        (&summary["schema_changed"], warnings(&scratch, &summary)),
        (&Value::Bool(true), vec!["schema_changed".to_owned()])
    );
    let next = complete(&database, &scratch, scratch.rivet(&["run", "--json"]));
    assert_eq!(next["schema_changed"], false, "what was delivered is the new baseline");
}

#[test]
fn continue_goes_on_and_keeps_the_change_on_record_without_a_warning() {
    let (database, scratch) = drifted("drift_continue", "on_schema_drift: continue");
    let finished = scratch.rivet(&["run"]).expect_exit(0);
    assert!(!finished.stderr.contains("warning[") && !finished.stdout.contains("warning"), "{finished}");
    let summary = scratch.rivet(&["status", "--json"]).expect_exit(0).summary();
    assert_eq!((&summary["schema_changed"], warnings(&scratch, &summary)), (&Value::Bool(true), vec![]));
    oracle::assert_same_rows(&database, "SELECT * FROM t", &scratch.run_dir(&run_id(&summary)));
}

#[test]
fn fail_refuses_until_somebody_says_fresh_and_then_the_new_columns_are_the_baseline() {
    let (database, scratch) = drifted("drift_fail", "on_schema_drift: fail");
    for _ in 0..2 {
        let refused = scratch.rivet(&["run"]).expect_error(4, "RIVET_SCHEMA_DRIFT").expect_in_stderr("\"extra\" int4");
        drop(refused.expect_in_stderr("rivet run --fresh"));
    }
    let run = run_id(&scratch.rivet(&["status", "--json"]).expect_exit(0).summary());
    assert!(!scratch.run_dir(&run).exists(), "nothing is written before the columns are known to be right");
    scratch.rivet(&["resume", &run]).expect_error(4, "RIVET_SCHEMA_DRIFT");
    let fresh = complete(&database, &scratch, scratch.rivet(&["run", "--fresh", "--json"]));
    assert_ne!(run_id(&fresh), run);
    assert_eq!(complete(&database, &scratch, scratch.rivet(&["run", "--json"]))["schema_changed"], false);
    database.execute("ALTER TABLE t DROP COLUMN extra");
    scratch.rivet(&["run"]).expect_error(4, "RIVET_SCHEMA_DRIFT");
}

#[test]
fn fresh_accepts_what_was_refused_before_and_nothing_that_nobody_has_seen() {
    let (database, scratch) = drifted("drift_fresh", "on_schema_drift: fail");
    scratch.rivet(&["run", "--fresh"]).expect_error(4, "RIVET_SCHEMA_DRIFT");
    complete(&database, &scratch, scratch.rivet(&["run", "--fresh", "--json"]));
}

#[test]
fn a_change_that_is_taken_back_is_no_drift() {
    let (database, scratch) = drifted("drift_back", "on_schema_drift: fail");
    scratch.rivet(&["run"]).expect_error(4, "RIVET_SCHEMA_DRIFT");
    database.execute("ALTER TABLE t DROP COLUMN extra");
    assert_eq!(complete(&database, &scratch, scratch.rivet(&["run", "--json"]))["schema_changed"], false);
}

#[test]
fn the_policies_of_the_current_configuration_apply_to_a_run_that_was_refused_or_stopped() {
    let (database, scratch) = drifted("drift_policy", "on_schema_drift: fail");
    scratch.rivet(&["run"]).expect_error(4, "RIVET_SCHEMA_DRIFT");
    let run = run_id(&scratch.rivet(&["status", "--json"]).expect_exit(0).summary());
    policy(&scratch, &database, "on_schema_drift: warn");
    let summary = complete(&database, &scratch, scratch.rivet(&["resume", &run, "--json"]));
    assert_eq!(
        (&summary["schema_changed"], warnings(&scratch, &summary)),
        (&Value::Bool(true), vec!["schema_changed".to_owned()])
    );

    // The other way round: planned under `warn`, refused under `fail`.
    database.execute("ALTER TABLE t RENAME TO u");
    scratch.rivet(&["run"]).expect_error(2, "RIVET_SOURCE_MISSING");
    database.execute("ALTER TABLE u RENAME TO t; ALTER TABLE t DROP COLUMN extra");
    policy(&scratch, &database, "on_schema_drift: fail");
    scratch.rivet(&["run"]).expect_error(4, "RIVET_SCHEMA_DRIFT");
}

#[test]
fn the_depth_of_the_validation_and_skip_empty_may_change_before_a_resume() {
    let database = before("policies");
    let scratch = Scratch::new();
    policy(&scratch, &database, "skip_empty: false");
    database.execute("ALTER TABLE t RENAME TO u");
    scratch.rivet(&["run", "--validate"]).expect_error(2, "RIVET_SOURCE_MISSING");
    database.execute("ALTER TABLE u RENAME TO t");
    policy(&scratch, &database, "verify: content");
    let summary = complete(&database, &scratch, scratch.rivet(&["run", "--validate", "--json"]));
    assert_eq!(summary["manifest_verification"]["depth"], "full");
    assert_eq!(warnings(&scratch, &summary), [] as [&str; 0]);

    database.execute("TRUNCATE t; ALTER TABLE t RENAME TO u");
    scratch.rivet(&["run"]).expect_error(2, "RIVET_SOURCE_MISSING");
    database.execute("ALTER TABLE u RENAME TO t");
    policy(&scratch, &database, "skip_empty: true");
    let skipped = scratch.rivet(&["run", "--json"]).expect_exit(0).summary();
    assert_eq!((&skipped["status"], &skipped["files_committed"]), (&"skipped".into(), &0.into()));
}

#[test]
fn fresh_abandons_the_unfinished_run_which_can_then_not_be_resumed() {
    let database = before("fresh");
    let lines = "tuning: { batch_size: 10, throttle_ms: 100 }";
    let scratch = Scratch::new();
    policy(&scratch, &database, lines);
    let mut first = support::rivet::Rivet::new(&scratch).spawn(&["run", "-q"]);
    let run = loop {
        assert!(first.is_running(), "{}", first.wait());
        let runs = scratch.rivet(&["runs", "--json"]);
        if runs.code() == Some(0) && !runs.summaries().is_empty() {
            break run_id(&runs.summary());
        }
        std::thread::yield_now();
    };
    first.signal(rustix::process::Signal::KILL);
    assert!(first.wait().killed());
    policy(&scratch, &database, "");
    let fresh = complete(&database, &scratch, scratch.rivet(&["run", "--fresh", "--json"]));
    assert_ne!(run_id(&fresh), run);
    let runs = scratch.rivet(&["runs", "--json"]).expect_exit(0).summaries();
    assert_eq!(runs.len(), 2);
    assert_eq!(runs[0]["error_message"], "abandoned: a new run was started with --fresh");
    let refused = scratch.rivet(&["resume", &run]).expect_error(5, "RIVET_RUN_SUPERSEDED");
    drop(refused.expect_in_stderr("abandoned"));
    assert!(!scratch.run_dir(&run).join("_SUCCESS").exists());
    scratch.rivet(&["replay", "--run", &run]).expect_exit(0);
}

#[cfg(feature = "failpoints")]
#[test]
fn a_run_that_has_delivered_files_ends_as_it_was_planned_and_says_so() {
    let database = before("policy_kept");
    let scratch = Scratch::new();
    policy(&scratch, &database, "skip_empty: false");
    let stopped = support::rivet::Rivet::new(&scratch).env("RIVET_FAILPOINTS", "manifest.written=error");
    let run = run_id(&stopped.run(&["run", "--json"]).expect_exit(6).summary());
    policy(&scratch, &database, "skip_empty: true");
    let summary = complete(&database, &scratch, scratch.rivet(&["run", "--json"]));
    assert_eq!((run_id(&summary), warnings(&scratch, &summary)), (run, vec!["policy_kept".to_owned()]));
}

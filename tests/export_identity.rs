//! Rows of two relations are never mixed in one run, whatever name leads to them.

#![cfg(feature = "failpoints")]

mod support;

use support::database::Database;
use support::rivet::{Rivet, Scratch, config, export, run_id};
use support::{files, oracle};

const SLICED: &str = "table: tt\nmode: chunked\nchunk_count: 3\ntuning: { parallel: 1 }";

/// Two schemas with a table of the same name and shape each; the search path leads to the first.
fn two_schemas(name: &str) -> Database {
    let database = Database::create(name);
    for (schema, rows) in [("sa", 3000), ("sb", 5000)] {
        database.execute(&format!(
            "CREATE SCHEMA {schema}; CREATE TABLE {schema}.tt (id int PRIMARY KEY, note text);
             INSERT INTO {schema}.tt SELECT g, '{schema} ' || g FROM generate_series(1, {rows}) AS g; ANALYZE {schema}.tt;"
        ));
    }
    look_in(&database, "sa");
    database
}

fn look_in(database: &Database, schema: &str) {
    database.execute(&format!(
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET search_path = {schema}', current_database()); END $$"
    ));
}

/// Killed when the second of three slices begins its file: one part counts.
fn killed_in_the_middle(database: &Database, lines: &str) -> (Scratch, String) {
    killed_at(database, lines, "part.created@2=kill")
}

fn killed_at(database: &Database, lines: &str, place: &str) -> (Scratch, String) {
    let scratch = Scratch::with(database, &[export("a", lines)]);
    let killed = Rivet::new(&scratch).env("RIVET_FAILPOINTS", place).run(&["run"]);
    assert!(killed.killed(), "{killed}");
    let runs = scratch.rivet(&["runs", "--json"]).expect_exit(0).summaries();
    (scratch, run_id(&runs[0]))
}

#[track_caller]
fn assert_refused(scratch: &Scratch, run: &str, named: &[&str]) {
    for arguments in [&["run"][..], &["resume", run]] {
        let refused = scratch.rivet(arguments).expect_error(5, "RIVET_RUN_CHANGED");
        named.iter().fold(refused, |refused, name| refused.expect_in_stderr(name)).expect_in_stderr("--fresh");
    }
    assert!(!scratch.run_dir(run).join("manifest.json").exists(), "a run that was refused has a manifest");
}

#[test]
fn a_manifest_names_the_schema_and_the_table_that_a_name_led_to() {
    let database = two_schemas("identity_named");
    let scratch = Scratch::with(&database, &[export("a", SLICED)]);
    let run = run_id(&scratch.run_ok(&[]));
    let source = files::manifest(&scratch.run_dir(&run))["source"].clone();
    assert_eq!((&source["relation"], &source["schema"], &source["table"]), (&"tt".into(), &"sa".into(), &"tt".into()));
    scratch.rivet(&["replay", "--parts"]).expect_exit(0).expect_in_stdout("sa.tt, number ");
    scratch.write_config(&config(&database.url(), &[export("a", "query: SELECT * FROM tt")]));
    let run = run_id(&scratch.run_ok(&[]));
    let source = files::manifest(&scratch.run_dir(&run))["source"].clone();
    assert_eq!((source.get("schema"), source.get("table")), (None, None), "{source}");
    scratch.rivet(&["replay", "--parts"]).expect_exit(0).expect_in_stdout("query, reads sa.tt");
}

#[test]
fn a_name_that_leads_to_another_table_is_not_resumed_until_it_leads_back() {
    let database = two_schemas("identity_path");
    let (scratch, run) = killed_in_the_middle(&database, SLICED);
    look_in(&database, "sb");
    assert_refused(&scratch, &run, &["sa.tt", "sb.tt", &run]);
    look_in(&database, "sa");
    scratch.resume_ok(&run);
    oracle::assert_same_rows(&database, "SELECT * FROM sa.tt", &scratch.run_dir(&run));
}

#[test]
fn a_table_that_was_dropped_and_created_again_is_another_table() {
    let database = two_schemas("identity_dropped");
    let (scratch, run) = killed_in_the_middle(&database, SLICED);
    database.execute("CREATE TABLE sa.copy (LIKE sa.tt INCLUDING ALL); INSERT INTO sa.copy SELECT * FROM sa.tt; DROP TABLE sa.tt; ALTER TABLE sa.copy RENAME TO tt");
    assert_refused(&scratch, &run, &["sa.tt", "dropped and created again"]);
    let fresh = run_id(&scratch.run_ok(&["--fresh"]));
    oracle::assert_same_rows(&database, "SELECT * FROM sa.tt", &scratch.run_dir(&fresh));
}

#[test]
fn a_table_that_was_rewritten_truncated_and_filled_is_the_same_table() {
    let database = two_schemas("identity_rewritten");
    let (scratch, run) = killed_in_the_middle(&database, SLICED);
    database.execute("CREATE TABLE kept AS SELECT * FROM sa.tt; TRUNCATE sa.tt; INSERT INTO sa.tt SELECT * FROM kept");
    database.execute("VACUUM FULL sa.tt");
    scratch.resume_ok(&run);
    oracle::assert_same_rows(&database, "SELECT * FROM sa.tt", &scratch.run_dir(&run));
}

#[test]
fn where_nothing_counts_yet_the_new_table_is_read_and_that_is_said() {
    let database = two_schemas("identity_early");
    let (scratch, run) = killed_at(&database, SLICED, "part.created=kill");
    look_in(&database, "sb");
    let resumed = scratch.rivet(&["resume", &run]).expect_exit(0).expect_in_stderr("relation_changed");
    let _ = resumed.expect_in_stderr("sb.tt");
    oracle::assert_same_rows(&database, "SELECT * FROM sb.tt", &scratch.run_dir(&run));
    assert_eq!(files::manifest(&scratch.run_dir(&run))["source"]["schema"], "sb");
    scratch.rivet(&["replay", "--parts"]).expect_exit(0);
}

#[test]
fn where_a_resume_starts_over_anyway_the_new_table_is_read_whole() {
    let database = two_schemas("identity_restart");
    let (scratch, run) = killed_in_the_middle(&database, &format!("{SLICED}\nconsistency: restart"));
    look_in(&database, "sb");
    scratch.resume_ok(&run);
    oracle::assert_same_rows(&database, "SELECT * FROM sb.tt", &scratch.run_dir(&run));
    assert_eq!(files::manifest(&scratch.run_dir(&run))["source"]["schema"], "sb");
}

#[test]
fn what_lies_below_a_view_is_part_of_what_is_read() {
    let database = two_schemas("identity_view");
    database.execute(
        "CREATE VIEW sa.inner AS SELECT * FROM sa.tt; CREATE VIEW sa.v AS SELECT * FROM sa.inner WHERE id > 0",
    );
    let lines = SLICED.replace("table: tt", "table: sa.v\nchunk_column: id");
    let (scratch, run) = killed_in_the_middle(&database, &lines);
    database.execute("CREATE OR REPLACE VIEW sa.v AS SELECT * FROM sb.tt");
    assert_refused(&scratch, &run, &["sa.v"]);
    database.execute("CREATE OR REPLACE VIEW sa.v AS SELECT * FROM sa.inner WHERE id > 0");
    database.execute("CREATE OR REPLACE VIEW sa.inner AS SELECT * FROM sb.tt");
    assert_refused(&scratch, &run, &["sa.inner"]);
    database.execute("CREATE OR REPLACE VIEW sa.inner AS SELECT * FROM sa.tt");
    scratch.resume_ok(&run);
    oracle::assert_same_rows(&database, "SELECT * FROM sa.v", &scratch.run_dir(&run));
    let told = scratch.rivet(&["replay", "--parts"]).expect_exit(0);
    let _ = told.expect_in_stdout("sa.v, number ").expect_in_stdout("reads sa.inner and 1 more");
}

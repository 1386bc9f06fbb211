//! Tables that are attached to what is read while it is read. A snapshot does not keep them away: every statement that is
//! planned after the attaching reads them too. So a slice that has read one does not count, and the rest is read in a new
//! snapshot, as every part says.

#![cfg(feature = "failpoints")]

mod support;

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use support::database::Database;
use support::rivet::{Rivet, Scratch, export, run_id};
use support::{files, oracle};

/// A table of 1,000 rows, and a table that is not yet a part of it.
fn gated(name: &str, parent: &str) -> Database {
    let database = Database::create(name);
    database.execute(&format!(
        "{parent};
         INSERT INTO t SELECT n, (ARRAY['east', 'west'])[1 + n % 2] FROM generate_series(1, 1000) n;
         CREATE TABLE late (LIKE t);
         INSERT INTO late SELECT n, 'late' FROM generate_series(1, 1000) n;
         ANALYZE t;"
    ));
    database
}

const PARTITIONED: &str = "CREATE TABLE t (id int, region text, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
     CREATE TABLE t_east PARTITION OF t FOR VALUES IN ('east'); CREATE TABLE t_west PARTITION OF t FOR VALUES IN ('west')";
const PLAIN: &str = "CREATE TABLE t (id int PRIMARY KEY, region text)";

/// Runs the export `t`, does `change` while the third of its four slices, whose statement runs, stands before the gate, and
/// opens it.
fn run_and_change(database: &Database, scratch: &Scratch, change: &str) -> Value {
    let gate = scratch.path().join("gate.shut");
    std::fs::write(&gate, "").expect("a scratch directory can be written");
    let rivet = Rivet::new(scratch).env("RIVET_FAILPOINTS", format!("part.created@3=gate:{}", gate.display()));
    let mut running = rivet.spawn(&["run", "-c", "rivet.yaml", "--json"]);
    let begun = Instant::now();
    while !gate.with_extension("reached").exists() {
        assert!(running.is_running(), "{}", running.wait());
        assert!(begun.elapsed() < Duration::from_secs(60), "nobody comes to the gate");
        std::thread::yield_now();
    }
    database.execute(change);
    std::fs::remove_file(&gate).expect("the gate is there");
    running.wait().expect_exit(0).summary()
}

/// Files and lower bounds of the parts that were read in a snapshot.
fn parts_in(run_dir: &Path, snapshot: u32) -> (Vec<PathBuf>, Vec<i64>) {
    let manifest = files::manifest(run_dir);
    let parts = manifest["parts"].as_array().expect("a manifest has parts").iter();
    let parts: Vec<&Value> = parts.filter(|part| part["snapshot"] == snapshot).collect();
    let path = |part: &&Value| run_dir.join(part["path"].as_str().expect("a part has a path"));
    let lower = |part: &&Value| match part["key_range"]["lower"][0].as_str() {
        Some(bound) => bound.parse().expect("the key is a number"),
        None => i64::MIN,
    };
    (parts.iter().map(path).collect(), parts.iter().map(lower).collect())
}

#[test]
fn a_table_that_is_attached_during_a_run_is_in_no_slice_that_was_read_before_and_in_all_that_are_read_after() {
    let sliced = "mode: chunked\nchunk_count: 4\ntuning: { parallel: 1, retry_backoff_ms: 20 }";
    let view = format!("{PARTITIONED}; CREATE VIEW v AS SELECT id, region FROM t WHERE id > 0");
    let partition = "ALTER TABLE t ATTACH PARTITION late FOR VALUES IN ('late')";
    let cases = [
        ("attach_partition", PARTITIONED, format!("table: t\n{sliced}"), partition),
        ("attach_child", PLAIN, format!("table: t\n{sliced}"), "ALTER TABLE late INHERIT t"),
        ("attach_below_view", &view, format!("table: v\nchunk_column: id\n{sliced}"), partition),
        (
            "attach_below_query",
            PARTITIONED,
            format!("query: SELECT id, region FROM t\nchunk_column: id\n{sliced}"),
            partition,
        ),
    ];
    for (name, parent, lines, change) in cases {
        let database = gated(name, parent);
        let scratch = Scratch::with(&database, &[export("t", &lines)]);
        let summary = run_and_change(&database, &scratch, change);
        let run_dir = scratch.run_dir(&run_id(&summary));
        let (before, after) = (parts_in(&run_dir, 0), parts_in(&run_dir, 1));
        assert_eq!(before.0.len() + after.0.len(), files::parts(&run_dir).len(), "{name}");
        let first_after = *after.1.iter().min().unwrap_or_else(|| panic!("{name}: nothing was read anew"));
        assert!(before.1.iter().all(|lower| *lower < first_after), "{name}: {before:?} {after:?}");
        // What each snapshot promises of the keys that were read in it, by the server's own word.
        let rows = |what: &str| format!("SELECT id, region FROM t WHERE {what}");
        let promised = rows(&format!("id < {first_after} AND region <> 'late'"));
        oracle::compare(&database, &promised, &before.0).unwrap_or_else(|e| panic!("{name}, before: {e}"));
        let promised = rows(&format!("id >= {first_after}"));
        oracle::compare(&database, &promised, &after.0).unwrap_or_else(|e| panic!("{name}, after: {e}"));
        assert_eq!(files::manifest(&run_dir)["consistency"]["kind"], "mixed", "{name}");
        let story = scratch.rivet(&["replay"]).expect_exit(0);
        assert!(story.stdout.contains("late was attached after the snapshot was taken"), "{name}: {story}");
    }
}

#[test]
fn with_restart_a_table_that_is_attached_during_a_run_is_in_all_of_it() {
    let database = gated("attach_restart", PARTITIONED);
    let lines = "table: t\nmode: chunked\nchunk_count: 4\nconsistency: restart\ntuning: { parallel: 1 }";
    let scratch = Scratch::with(&database, &[export("t", lines)]);
    let change = "ALTER TABLE t ATTACH PARTITION late FOR VALUES IN ('late')";
    let run_dir = scratch.run_dir(&run_id(&run_and_change(&database, &scratch, change)));
    oracle::assert_same_rows(&database, "SELECT id, region FROM t", &run_dir);
    assert_eq!(files::manifest(&run_dir)["consistency"]["kind"], "snapshot");
}

#[test]
fn indexes_that_are_made_and_tables_that_functions_read_are_no_reason_to_read_anything_again() {
    let database = gated("attach_nothing", PARTITIONED);
    database.execute(
        "CREATE TABLE names (region text, name text); INSERT INTO names VALUES ('east', 'Ost'), ('west', 'West');
         CREATE FUNCTION looked_up(wanted text) RETURNS text LANGUAGE plpgsql STABLE AS $$
             BEGIN RETURN (SELECT name FROM names WHERE region = wanted); END $$;",
    );
    database.execute("CREATE VIEW v AS SELECT id, looked_up(region) AS name FROM t");
    let lines = "table: v\nmode: chunked\nchunk_count: 4\nchunk_column: id\ntuning: { parallel: 1 }";
    let scratch = Scratch::with(&database, &[export("t", lines)]);
    let change = "CREATE INDEX ON t (region, id); CREATE TABLE other (LIKE t) PARTITION BY LIST (region);
                  ALTER TABLE other ATTACH PARTITION late FOR VALUES IN ('late')";
    let summary = run_and_change(&database, &scratch, change);
    let run_dir = scratch.run_dir(&run_id(&summary));
    let rows = "SELECT id, looked_up(region) AS name FROM t";
    oracle::assert_same_rows(&database, rows, &run_dir);
    assert_eq!(
        (files::manifest(&run_dir)["consistency"]["kind"].as_str(), &summary["retries"]),
        (Some("snapshot"), &0.into())
    );
}

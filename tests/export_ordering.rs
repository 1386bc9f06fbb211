//! A key whose order is another when a run is resumed. A library that orders text comes in versions; rows move across
//! boundaries that themselves still rise. An upgrade cannot be made here, another collation can: it does the same.

mod support;

use serde_json::Value;
use support::database::Database;
use support::oracle;
use support::rivet::{Rivet, Scratch, export, run_id};

/// A text key: a tenth begins with a capital, which lies below all others by its bytes and among them in a dictionary.
fn lettered(name: &str, collation: &str) -> Database {
    let database = Database::create(name);
    database.execute(&format!(
        "CREATE TABLE t (k text COLLATE {collation} PRIMARY KEY, n int);
         INSERT INTO t SELECT chr(97 + n % 26) || lpad(n::text, 5, '0'), n FROM generate_series(1, 3600) n;
         INSERT INTO t SELECT chr(65 + n % 26) || lpad(n::text, 5, '0'), n FROM generate_series(1, 400) n;
         ANALYZE t;"
    ));
    database
}

/// Kills a run in the middle of its second of four slices.
fn killed(database: &Database, source: &str) -> (Scratch, String) {
    let lines = format!("{source}\nmode: chunked\nchunk_count: 4\ntuning: {{ parallel: 1 }}");
    let scratch = Scratch::with(database, &[export("t", &lines)]);
    let rivet = Rivet::new(&scratch).env("RIVET_FAILPOINTS", "part.created@2=kill");
    assert!(rivet.run(&["run", "-c", "rivet.yaml"]).killed());
    let run = run_id(&scratch.rivet(&["status", "--json"]).expect_exit(0).summary());
    (scratch, run)
}

#[test]
fn a_resume_in_another_order_of_the_key_reads_everything_again() {
    for source in ["table: t", "query: SELECT k, n FROM t\nchunk_column: k"] {
        assert_read_again(source);
    }
}

fn assert_read_again(source: &str) {
    let database = lettered("reordered", "\"C\"");
    let (scratch, run) = killed(&database, source);
    database.execute("ALTER TABLE t ALTER k TYPE text COLLATE \"de-x-icu\"");
    let summary = scratch.resume_ok(&run);
    oracle::assert_same_rows(&database, "SELECT * FROM t", &scratch.run_dir(&run));
    assert_eq!(summary["manifest_parts"].as_array().map(Vec::len), Some(4));
    let restarted = scratch.events_of("work_restarted");
    let reason = restarted.first().and_then(|event| event["reason"].as_str()).unwrap_or_default();
    assert!(
        reason.starts_with("the order of key column \"k\" changed, from pg_catalog.C to pg_catalog.de-x-icu"),
        "{reason}"
    );
    let orderings = scratch.events_of("split_ordering");
    assert_eq!(orderings.len(), 2, "{orderings:?}");
    scratch.rivet(&["replay", "--parts"]).expect_exit(0);
}

#[test]
fn the_version_that_is_recorded_is_the_servers_own_and_the_same_version_is_gone_on_with() {
    for (collation, named) in
        [("\"de-x-icu\"", "pg_catalog.de-x-icu"), ("\"default\"", "default "), ("\"C\"", "pg_catalog.C")]
    {
        let database = lettered("ordered", collation);
        let (scratch, run) = killed(&database, "table: t");
        scratch.resume_ok(&run);
        oracle::assert_same_rows(&database, "SELECT * FROM t", &scratch.run_dir(&run));
        assert_eq!(scratch.events_of("work_restarted"), Vec::<Value>::new(), "{collation}");
        let orderings = scratch.events_of("split_ordering");
        let column = &orderings[0]["columns"][0];
        assert_eq!((orderings.len(), column["column"].as_str()), (1, Some("k")));
        assert!(column["collation"].as_str().is_some_and(|shown| shown.starts_with(named)), "{column}");
        let asked = match collation {
            "\"default\"" => {
                "SELECT pg_database_collation_actual_version(oid) FROM pg_database WHERE datname = current_database()"
            }
            _ => &format!("SELECT pg_collation_actual_version('{collation}'::regcollation)"),
        };
        assert_eq!(column["version"].as_str().unwrap_or_default(), database.value(asked), "{collation}");
        assert_eq!(column["version"].is_string(), collation.contains("icu"), "{column}");
    }
}

#[test]
fn of_a_key_without_a_collation_nothing_is_recorded() {
    let database = Database::create("unordered");
    database.execute("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 1000); ANALYZE t");
    let (scratch, run) = killed(&database, "table: t");
    scratch.resume_ok(&run);
    oracle::assert_same_rows(&database, "SELECT * FROM t", &scratch.run_dir(&run));
    assert_eq!(scratch.events_of("split_ordering"), Vec::<Value>::new());
}

//! Queries that are read in slices.

mod support;

use serde_json::Value;
use support::database::Database;
use support::rivet::{Rivet, Scratch, export, run_id};
use support::{files, oracle};

const JOINED: &str =
    "SELECT c.region, o.id AS order_id, o.amount FROM o JOIN c ON c.id = o.customer WHERE o.amount > 3";

fn shop(name: &str) -> Database {
    let database = Database::create(name);
    database.execute(
        "CREATE TABLE c (id int PRIMARY KEY, region text);
         INSERT INTO c SELECT g, 'region ' || g % 5 FROM generate_series(1, 50) AS g;
         CREATE TABLE o (id bigint PRIMARY KEY, customer int, amount numeric(10,2));
         INSERT INTO o SELECT g * g, 1 + g % 50, g % 97 FROM generate_series(1, 8000) AS g; ANALYZE;",
    );
    database
}

fn chunked(query: &str, column: &str) -> String {
    export(
        "q",
        &format!("query: {query}\nmode: chunked\nchunk_column: {column}\nchunk_count: 6\ntuning: {{ parallel: 3 }}"),
    )
}

fn parts(summary: &Value) -> usize {
    summary["manifest_parts"].as_array().map_or(0, Vec::len)
}

#[test]
fn a_query_is_divided_by_the_column_that_is_named_and_says_what_that_asks_of_it() {
    let database = shop("query_sliced");
    let scratch = Scratch::with(&database, &[chunked(JOINED, "order_id")]);
    let finished = scratch.rivet(&["run", "--validate"]).expect_exit(0);
    let _ = finished.expect_in_stderr("each slice evaluates everything again");
    let summary = scratch.rivet(&["runs", "--json"]).expect_exit(0).summary();
    assert_eq!(parts(&summary), 6);
    oracle::assert_same_rows(&database, JOINED, &scratch.run_dir(&run_id(&summary)));
    scratch.rivet(&["replay", "--parts"]).expect_exit(0);
}

#[test]
fn a_query_in_a_file_whose_column_has_nulls_and_ties_loses_no_row() {
    let database = shop("query_nulls");
    let query = "SELECT nullif(o.id % 7, 3) AS k, o.id, c.region FROM o LEFT JOIN c ON c.id = o.customer - 10";
    let lines = "query_file: q.sql\nmode: chunked\nchunk_by_key: k\nchunk_size: 1000\nparallel: 2";
    let scratch = Scratch::with(&database, &[export("q", lines)]);
    scratch.write("q.sql", format!("-- ties\n{query};\n").as_bytes());
    let summary = scratch.run_ok(&[]);
    assert!(parts(&summary) >= 4, "{} parts", parts(&summary));
    oracle::assert_same_rows(&database, query, &scratch.run_dir(&run_id(&summary)));
}

#[test]
fn a_query_that_cuts_rows_off_is_read_in_one_slice() {
    let database = shop("query_limit");
    let query = "SELECT id FROM o ORDER BY id LIMIT 4000";
    let scratch = Scratch::with(&database, &[chunked(query, "id")]);
    let _ = scratch.rivet(&["run"]).expect_exit(0).expect_in_stderr("LIMIT");
    let summary = scratch.rivet(&["runs", "--json"]).expect_exit(0).summary();
    assert_eq!(parts(&summary), 1);
    oracle::assert_same_rows(&database, query, &scratch.run_dir(&run_id(&summary)));
}

#[test]
fn a_column_that_the_query_does_not_return_is_named() {
    let database = shop("query_no_column");
    let scratch = Scratch::with(&database, &[chunked(JOINED, "id")]);
    let _ = scratch.rivet(&["run"]).expect_error(2, "RIVET_CONFIG_INVALID").expect_in_stderr("chunk_column");
}

#[cfg(feature = "failpoints")]
#[test]
fn a_query_is_resumed_slice_by_slice() {
    let database = shop("query_resumed");
    let scratch = Scratch::with(&database, &[chunked(JOINED, "order_id").replace("parallel: 3", "parallel: 1")]);
    let killed = Rivet::new(&scratch).env("RIVET_FAILPOINTS", "part.created@4=kill").run(&["run"]);
    assert!(killed.killed(), "{killed}");
    let run = run_id(&scratch.rivet(&["runs", "--json"]).expect_exit(0).summaries()[0]);
    let written = |name: &String| std::fs::metadata(scratch.path().join("out").join(name)).and_then(|m| m.modified());
    let before: Vec<String> =
        files::tree(&scratch.path().join("out")).into_iter().filter(|name| name.ends_with(".parquet")).collect();
    assert_eq!(before.len(), 3, "{before:?}");
    let times: Vec<_> = before.iter().map(|name| written(name).expect("a part has a time")).collect();
    let summary = scratch.resume_ok(&run);
    assert_eq!(parts(&summary), 6);
    let kept: Vec<_> = before.iter().map(|name| written(name).expect("a part has a time")).collect();
    assert_eq!(kept, times, "a slice that was complete was read again");
    oracle::assert_same_rows(&database, JOINED, &scratch.run_dir(&run));
    scratch.rivet(&["replay", "--parts"]).expect_exit(0);
}

#[test]
fn names_in_a_query_mean_the_same_to_a_session_that_comes_later() {
    let database = Database::create("query_path");
    for schema in ["sa", "sb"] {
        database.execute(&format!(
            "CREATE SCHEMA {schema}; CREATE TABLE {schema}.tt (id int PRIMARY KEY, note text);
             INSERT INTO {schema}.tt SELECT g, '{schema}' FROM generate_series(1, 20000) AS g; ANALYZE {schema}.tt;"
        ));
    }
    let look_in = |schema: &str| {
        database.execute(&format!(
            "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET search_path = {schema}', current_database()); END $$"
        ));
    };
    look_in("sa");
    let tuning = "tuning: { parallel: 2, batch_size: 200, throttle_ms: 20, max_retries: 5, retry_backoff_ms: 10 }";
    let lines = format!("query: SELECT * FROM tt\nmode: chunked\nchunk_column: id\nchunk_count: 6\n{tuning}");
    let scratch = Scratch::with(&database, &[export("q", &lines)]);
    let mut running = Rivet::new(&scratch).spawn(&["run", "-c", "rivet.yaml", "--json"]);
    while !files::tree(&scratch.path().join("out")).iter().any(|name| name.ends_with(".parquet")) {
        assert!(running.is_running(), "{}", running.wait());
        std::thread::yield_now();
    }
    look_in("sb");
    let ended = database.query(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
         WHERE datname = current_database() AND pid <> pg_backend_pid() AND query ILIKE '%COPY (%'",
    );
    assert!(!ended.is_empty(), "no COPY was running");
    let finished = running.wait();
    let summary = finished.expect_exit(0).summary();
    oracle::assert_same_rows(&database, "SELECT * FROM sa.tt", &scratch.run_dir(&run_id(&summary)));
}

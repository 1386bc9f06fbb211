//! What a run does when the server gives it less than it asked for: time, connections, statements; and what its own budget
//! allows.

mod support;

use serde_json::Value;
use support::database::Database;
use support::oracle;
use support::rivet::{Rivet, Scratch, config, export, run_id};

fn of_kind<'a>(events: &'a [Value], name: &str) -> Vec<&'a Value> {
    events.iter().filter(|event| event["event"] == name).collect()
}

fn warnings(events: &[Value], code: &str) -> usize {
    of_kind(events, "warning_noted").iter().filter(|event| event["code"] == code).count()
}

/// More than the buffers between the server and the reader hold, so that a reader that pauses holds the server up.
fn large_values(database: &Database) {
    database.execute(
        "CREATE TABLE t (id int PRIMARY KEY, body text); ALTER TABLE t ALTER body SET STORAGE EXTERNAL;
         INSERT INTO t SELECT g, repeat(md5(g::text), 3000) FROM generate_series(1, 400) AS g; ANALYZE t;",
    );
}

#[test]
fn a_retry_waits_its_time_also_where_the_whole_table_is_one_slice() {
    let database = Database::create("waits");
    large_values(&database);
    let lines = "query: SELECT * FROM t\n\
                 tuning: { batch_size: 10, throttle_ms: 20, max_retries: 2, retry_backoff_ms: 1500 }";
    let scratch = Scratch::with(&database, &[export("orders", lines)]);
    let mut running = Rivet::new(&scratch).spawn(&["run", "-c", "rivet.yaml", "--json"]);
    let cancel = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity
                  WHERE datname = current_database() AND pid <> pg_backend_pid() AND query ILIKE '%COPY (%'";
    while database.query(cancel).is_empty() {
        assert!(running.is_running(), "{}", running.wait());
    }
    let summary = running.wait().expect_exit(0).summary();
    oracle::assert_same_rows(&database, "SELECT * FROM t", &scratch.run_dir(&run_id(&summary)));
    assert_eq!(summary["retries"], 1);
    let events = scratch.events();
    let scheduled = of_kind(&events, "retry_scheduled")[0];
    let again = of_kind(&events, "slice_started")[1];
    let number = |event: &Value, field: &str| event[field].as_u64().expect("it is a number");
    let waited_us = number(again, "mono_us") - number(scheduled, "mono_us");
    let delay_us = 1000 * number(scheduled, "delay_ms");
    assert!(waited_us >= delay_us, "attempt 2 began after {waited_us} µs instead of {delay_us}");
}

#[test]
fn workers_that_get_no_connection_cost_no_slice_an_attempt() {
    let database = Database::create("few_connections");
    database.execute(
        "CREATE TABLE t (id int PRIMARY KEY, noise text);
         INSERT INTO t SELECT g, md5(g::text) FROM generate_series(1, 4000) AS g; ANALYZE t;
         DROP ROLE IF EXISTS few; CREATE ROLE few LOGIN CONNECTION LIMIT 3; GRANT SELECT ON t TO few;",
    );
    let url = format!("postgres://few@127.0.0.1:{}/{}", database.server.port, database.name);
    let lines = "table: t\nmode: chunked\nchunk_count: 32\n\
                 tuning: { parallel: 8, max_retries: 1, retry_backoff_ms: 10, batch_size: 50, throttle_ms: 5 }";
    let scratch = Scratch::new();
    scratch.write_config(&config(&url, &[export("orders", lines)]));
    let summary = scratch.run_ok(&[]);
    oracle::assert_same_rows(&database, "SELECT * FROM t", &scratch.run_dir(&run_id(&summary)));
    assert_eq!(summary["retries"], 0, "a slice paid for a worker without a connection");
    let events = scratch.events();
    assert_eq!(of_kind(&events, "slice_started").len(), of_kind(&events, "slice_completed").len());
    // The holder of the snapshot and two workers have the three connections.
    assert_eq!(warnings(&events, "worker_left"), 6);
}

#[test]
fn a_run_without_any_connection_for_its_workers_fails_with_the_reason() {
    let database = Database::create("no_connections");
    database.execute(
        "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 4000); ANALYZE t;
         DROP ROLE IF EXISTS one; CREATE ROLE one LOGIN CONNECTION LIMIT 1; GRANT SELECT ON t TO one;",
    );
    let url = format!("postgres://one@127.0.0.1:{}/{}", database.server.port, database.name);
    let lines =
        "table: t\nmode: chunked\nchunk_count: 4\ntuning: { parallel: 2, max_retries: 1, retry_backoff_ms: 10 }";
    let scratch = Scratch::new();
    scratch.write_config(&config(&url, &[export("orders", lines)]));
    scratch.rivet(&["run", "-c", "rivet.yaml"]).expect_error(6, "RIVET_SOURCE_TOO_MANY_CONNECTIONS");
}

#[test]
fn pauses_of_the_throttle_do_not_run_into_the_statement_timeout() {
    let database = Database::create("throttled");
    large_values(&database);
    let tuning = "tuning: { batch_size: 10, throttle_ms: 60, statement_timeout_s: 1, max_retries: 0 }";
    for (source, slices) in [("table: t", 5), ("query: SELECT * FROM t", 1)] {
        let scratch = Scratch::with(&database, &[export("orders", &format!("{source}\n{tuning}"))]);
        let summary = scratch.run_ok(&[]);
        oracle::assert_same_rows(&database, "SELECT * FROM t", &scratch.run_dir(&run_id(&summary)));
        assert_eq!(of_kind(&scratch.events(), "slice_completed").len(), slices, "{source}");
    }
}

#[test]
fn the_memory_budget_bounds_how_many_slices_are_read_at_once() {
    let database = Database::create("budget");
    database.execute(
        "CREATE TABLE t (id int PRIMARY KEY, noise text);
         INSERT INTO t SELECT g, repeat(md5(g::text), 8) FROM generate_series(1, 320000) AS g; ANALYZE t;",
    );
    let lines = "table: t\nmode: chunked\nchunk_count: 32\ntuning: { parallel: 32, memory_budget_mb: 32 }";
    let scratch = Scratch::with(&database, &[export("orders", lines)]);
    let summary = scratch.run_ok(&[]);
    assert_eq!(summary["total_rows"], 320_000);
    assert_eq!(warnings(&scratch.events(), "parallel_reduced"), 1);
    // The budget, and what the program is without any work: code, stacks, the journal's cache.
    let peak = summary["peak_rss_mb"].as_i64().expect("it is a number");
    assert!(peak < 32 + 64, "{peak} MB under a budget of 32 MB");
}

#[test]
fn files_of_very_many_columns_are_written_by_as_few_workers_as_the_budget_has_room_for() {
    let database = Database::create("wide_budget");
    let columns: Vec<String> = (0..1500).map(|i| format!("g AS c{i}")).collect();
    database.execute(&format!(
        "CREATE TABLE t AS SELECT {} FROM generate_series(1, 40) AS g; ANALYZE t",
        columns.join(", ")
    ));
    let lines =
        "table: t\nmode: chunked\nchunk_column: c0\nchunk_count: 4\ntuning: { parallel: 4, memory_budget_mb: 128 }";
    let scratch = Scratch::with(&database, &[export("orders", lines)]);
    let summary = scratch.run_ok(&[]);
    assert_eq!(summary["total_rows"], 40);
    let told = scratch.events_of("warning_noted");
    let reduced =
        told.iter().filter_map(|event| event["message"].as_str()).find(|text| text.contains("memory_budget_mb"));
    assert!(reduced.is_some_and(|text| text.starts_with("1 slices")), "{told:?}");
}

#[cfg(feature = "failpoints")]
#[test]
fn a_violated_invariant_fails_the_run_before_anybody_is_told_of_success() {
    let database = Database::create("invariants");
    database.execute("CREATE TABLE t AS SELECT generate_series(1, 100) AS id");
    // The first look is before `_SUCCESS`, the second at the very end.
    for (place, published) in [("run.invariants@1", false), ("run.invariants@2", true)] {
        let scratch = Scratch::with(&database, &[export("orders", "table: t")]);
        let rivet = Rivet::new(&scratch).env("RIVET_FAILPOINTS", format!("{place}=error"));
        let finished = rivet.run(&["run", "-c", "rivet.yaml", "--json"]).expect_error(3, "RIVET_RUN_INVARIANT");
        let summary = finished.summary();
        assert_eq!(summary["status"], "failed", "{place}");
        let success = scratch.run_dir(&run_id(&summary)).join("_SUCCESS");
        assert_eq!(success.exists(), published, "{place}");
        assert_eq!(scratch.resume_ok(&run_id(&summary))["status"], "success");
    }
}

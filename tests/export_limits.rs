//! What the tuning promises about batches, values and statements, seen from outside.

mod support;

use std::fs;
use support::database::Database;
use support::proxy::{Fault, Proxy};
use support::rivet::{Scratch, config, export, run_id};
use support::{files, oracle};

#[test]
fn a_batch_ends_at_its_rows_and_where_memory_is_capped_at_its_bytes() {
    let database = Database::create("batches");
    database.execute(
        "CREATE TABLE t (id int PRIMARY KEY, name text); INSERT INTO t SELECT g, 'n' || g FROM generate_series(1, 2100) AS g;
         CREATE TABLE wide (id int PRIMARY KEY, filler text);
         INSERT INTO wide SELECT g, repeat(md5(g::text), 2000) FROM generate_series(1, 60) AS g; ANALYZE;",
    );
    // Batches that follow each other quickly are reported together, so each is followed by a pause.
    let rows_of = |table: &str, tuning: &str| -> Vec<u64> {
        let lines = format!("table: {table}\ntuning: {{ {tuning} }}");
        let scratch = Scratch::with(&database, &[export("a", &lines)]);
        let summary = scratch.run_ok(&[]);
        oracle::assert_same_rows(&database, &format!("SELECT * FROM {table}"), &scratch.run_dir(&run_id(&summary)));
        scratch.events_of("batch_fetched").iter().map(|batch| batch["rows"].as_u64().expect("a number")).collect()
    };
    let even = [500, 500, 500, 500, 100];
    assert_eq!(rows_of("t", "batch_size: 500, throttle_ms: 220"), even);
    // A cap on the memory of a batch is a second limit, and not another unit.
    assert_eq!(rows_of("t", "batch_size: 500, max_batch_memory_mb: 1, throttle_ms: 220"), even);
    // 64 KB a row: a batch is full of bytes long before it has 60 rows.
    let capped = rows_of("wide", "batch_size: 60, max_batch_memory_mb: 1, throttle_ms: 3500");
    assert!(capped.len() >= 4 && capped.iter().all(|rows| *rows < 25), "{capped:?}");
}

/// Infinite dates become NULL. One warning a column says how many, whatever the number of slices and attempts.
#[test]
fn special_values_are_counted_over_the_run_and_told_once_a_column() {
    let database = Database::create("special_totals");
    database.execute(
        "CREATE TABLE t (id int PRIMARY KEY, day date, at timestamp);
         INSERT INTO t SELECT g, CASE WHEN g % 2 = 0 THEN 'infinity' ELSE DATE '2026-01-01' END,
                              CASE WHEN g % 4 = 0 THEN '-infinity' ELSE TIMESTAMP '2026-01-01' END
         FROM generate_series(1, 4000) AS g; ANALYZE t;",
    );
    let lines = "table: t\nmode: chunked\nchunk_count: 40\ntuning: { parallel: 2, retry_backoff_ms: 20 }";
    // One connection breaks on the way: what its attempt had counted does not count.
    let proxy = Proxy::start(database.server.port, Fault::CutAfter(30_000));
    let url = format!("postgres://postgres@127.0.0.1:{}/{}", proxy.port, database.name);
    let scratch = Scratch::new();
    scratch.write_config(&config(&url, &[export("a", lines)]));
    let summary = scratch.run_ok(&[]);
    assert!(proxy.fault_happened(), "no attempt failed");
    assert_eq!(summary["total_rows"], 4000);
    let warnings: Vec<String> = scratch
        .events_of("warning_noted")
        .iter()
        .filter(|warning| warning["code"] == "special_values")
        .map(|warning| warning["message"].as_str().expect("a message is text").to_owned())
        .collect();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    let told = |column: &str, value: &str, times: u32| {
        format!(
            "column \"{column}\": {value} was delivered as NULL, {times} times; `columns: {{{column}: text}}` keeps it"
        )
    };
    assert_eq!(warnings, [told("day", "infinity", 2000), told("at", "-infinity", 1000)]);
}

#[test]
fn a_statement_that_runs_into_its_timeout_is_unavailable_and_says_what_to_change() {
    let database = Database::create("statement_timeout");
    database.execute("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1), (2); ANALYZE t");
    let lines =
        "query: SELECT id, pg_sleep(30)::text AS slept FROM t\ntuning: { statement_timeout_s: 1, max_retries: 3 }";
    let scratch = Scratch::with(&database, &[export("a", lines)]);
    let finished = scratch.rivet(&["run", "--json"]).expect_error(6, "RIVET_SOURCE_TIMEOUT");
    let finished = finished.expect_in_stderr("tuning.statement_timeout_s");
    assert_eq!(finished.summary()["retries"], 0, "the same statement would run as long again: {finished}");
    let run = run_id(&finished.summary());
    files::assert_no_half_part(&scratch.run_dir(&run));
}

#[test]
fn a_value_beyond_the_limit_ends_the_export_with_its_column_and_a_raised_limit_delivers_it() {
    let database = Database::create("max_value");
    database.execute(
        "CREATE TABLE t (id int PRIMARY KEY, filler text);
         INSERT INTO t VALUES (1, 'small'), (2, repeat('x', 1500000)); ANALYZE t",
    );
    let scratch = Scratch::with(&database, &[export("a", "table: t\ntuning: { max_value_mb: 1 }")]);
    let refused = scratch.rivet(&["run"]).expect_error(1, "RIVET_SOURCE_VALUE");
    let refused = refused.expect_in_stderr("\"filler\"").expect_in_stderr("1500000").expect_in_stderr("max_value_mb");
    drop(refused.expect_in_stderr("(id = 2)"));
    scratch.write_config(&config(&database.url(), &[export("a", "table: t\ntuning: { max_value_mb: 2 }")]));
    let summary = scratch.run_ok(&[]);
    oracle::assert_same_rows(&database, "SELECT * FROM t", &scratch.run_dir(&run_id(&summary)));
}

#[test]
fn the_url_may_lie_in_a_file_whose_text_is_never_shown() {
    let database = Database::create("url_file");
    database.execute("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1); ANALYZE t");
    let scratch = Scratch::new();
    let exports = export("a", "table: t");
    scratch.write_config(&format!("source:\n  type: postgres\n  url_file: secrets/url\nexports:\n{exports}"));
    fs::create_dir(scratch.path().join("secrets")).expect("a scratch directory can be written");
    scratch.write("secrets/url", format!("{}\n", database.url()).as_bytes());
    let run = run_id(&scratch.run_ok(&[]));
    oracle::assert_same_rows(&database, "SELECT * FROM t", &scratch.run_dir(&run));
    scratch.write("secrets/url", b"postgres://reader:hunter2@[nowhere/db\n");
    scratch
        .rivet(&["run"])
        .expect_error(2, "RIVET_CONFIG_INVALID")
        .expect_in_stderr("url_file")
        .expect_nowhere("hunter2");
    fs::remove_file(scratch.path().join("secrets/url")).expect("it can be removed");
    scratch.rivet(&["run"]).expect_error(2, "RIVET_CONFIG_INVALID").expect_in_stderr("secrets/url");
}

/// A server, or something in front of it, that claims to have sent another number of rows than arrived.
#[test]
fn a_count_that_is_not_that_of_the_rows_is_never_delivered() {
    let database = Database::create("count_mismatch");
    database.execute(
        "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t SELECT g FROM generate_series(1, 321) g; ANALYZE t",
    );
    let proxy = Proxy::start(database.server.port, Fault::Rewrite(b"COPY 321\0", b"COPY 322\0"));
    let url = format!("postgres://postgres@127.0.0.1:{}/{}", proxy.port, database.name);
    let scratch = Scratch::new();
    scratch.write_config(&config(&url, &[export("a", "table: t")]));
    let finished = scratch.rivet(&["run", "--json"]).expect_error(3, "RIVET_COUNT_MISMATCH");
    let finished = finished.expect_in_stderr("322").expect_in_stderr("321");
    assert!(proxy.fault_happened(), "nothing was rewritten");
    let run = run_id(&finished.summary());
    assert!(!scratch.run_dir(&run).join("_SUCCESS").exists());
    assert_eq!(finished.summary()["files_committed"], 0);
}

#[test]
fn a_server_that_is_too_old_is_refused_with_its_version() {
    let database = Database::create("too_old");
    database.execute("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1); ANALYZE t");
    let version = database.value("SHOW server_version");
    let greeting = |major: &str| -> &'static [u8] { format!("server_version\0{major}").into_bytes().leak() };
    let proxy = Proxy::start(database.server.port, Fault::Rewrite(greeting(&version[..2]), greeting("12")));
    let url = format!("postgres://postgres@127.0.0.1:{}/{}", proxy.port, database.name);
    let scratch = Scratch::new();
    scratch.write_config(&config(&url, &[export("a", "table: t")]));
    let finished = scratch.rivet(&["run"]).expect_error(2, "RIVET_SOURCE_UNSUPPORTED");
    drop(finished.expect_in_stderr(&format!("PostgreSQL 12{}", &version[2..])).expect_in_stderr("PostgreSQL 13"));
    assert!(proxy.fault_happened(), "nothing was rewritten");
}

#[test]
fn a_file_that_would_have_more_row_groups_than_the_format_counts_is_closed_before() {
    let database = Database::create("row_groups");
    database.execute(
        "CREATE TABLE t AS SELECT g AS id, repeat('x', 90) AS v FROM generate_series(1, 40000) AS g; ANALYZE t",
    );
    let lines = "table: t\nparquet: { row_group_strategy: fixed_rows, row_group_rows: 1 }";
    let scratch = Scratch::with(&database, &[export("rows", lines)]);
    let summary = scratch.run_ok(&[]);
    assert_eq!(
        (summary["total_rows"].as_u64(), summary["files_committed"].as_u64()),
        (Some(40_000), Some(3)),
        "{summary}"
    );
}

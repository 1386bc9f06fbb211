//! Slices: however a table is divided, every row is in exactly one of them.

mod support;

use serde_json::Value;
use support::database::Database;
use support::rivet::{Rivet, Scratch, export, run_id};
use support::{files, oracle};

/// Exports `t` in `slices` slices by four workers, compares with the server, and returns the summary.
#[track_caller]
fn assert_sliced(database: &Database, lines: &str, slices: u32) -> Value {
    let lines = format!("table: t\nmode: chunked\nchunk_count: {slices}\ntuning: {{ parallel: 4 }}\n{lines}");
    let scratch = Scratch::with(database, &[export("slices", &lines)]);
    let summary = scratch.run_ok(&[]);
    oracle::assert_same_rows(database, "SELECT * FROM t", &scratch.run_dir(&run_id(&summary)));
    summary
}

fn parts_of(summary: &Value) -> usize {
    summary["manifest_parts"].as_array().expect("a summary lists its parts").len()
}

#[test]
fn an_integer_key_is_cut_into_slices_of_similar_size_even_when_it_is_skewed() {
    let database = Database::create("skewed");
    database.execute(
        "CREATE TABLE t (id bigint PRIMARY KEY, filler text);
         INSERT INTO t SELECT CASE WHEN g <= 9000 THEN g ELSE g::bigint * 1000000000 END, repeat('x', 200) FROM generate_series(1, 10000) AS g;
         ANALYZE t;",
    );
    let summary = assert_sliced(&database, "", 5);
    assert!(parts_of(&summary) >= 3, "{} parts", parts_of(&summary));
    let rows: Vec<u64> = summary["manifest_parts"]
        .as_array()
        .expect("a summary lists its parts")
        .iter()
        .map(|part| part["rows"].as_u64().expect("a part counts its rows"))
        .collect();
    let largest = *rows.iter().max().expect("there are parts");
    assert!(largest < 5_000, "a slice holds {largest} of 10000 rows: {rows:?}");
}

#[test]
fn rows_whose_key_is_null_are_in_a_slice_of_their_own() {
    let database = Database::create("null_keys");
    database.execute(
        "CREATE TABLE t (id int UNIQUE, name text);
         INSERT INTO t SELECT CASE WHEN g % 3 > 0 THEN g END, 'name ' || g FROM generate_series(1, 5000) AS g; ANALYZE t;",
    );
    assert_sliced(&database, "chunk_column: id", 4);
}

#[test]
fn a_key_that_is_null_in_every_row_loses_nothing() {
    let database = Database::create("all_null");
    database.execute(
        "CREATE TABLE t (id int UNIQUE, name text);
         INSERT INTO t SELECT NULL, 'name ' || g FROM generate_series(1, 1000) AS g; ANALYZE t;",
    );
    assert_sliced(&database, "chunk_column: id", 4);
}

#[test]
fn keys_of_every_ordered_type_divide_the_table() {
    let database = Database::create("key_types");
    let keys = [
        ("text", "md5(g::text)"),
        ("text COLLATE \"C\"", "chr(32 + g % 90) || '''\"\\' || g"),
        ("varchar(40)", "'é' || (g * 7919 % 5000) || 'Zz'"),
        ("uuid", "md5(g::text)::uuid"),
        ("timestamptz", "timestamptz '2020-01-01' + g * interval '7.000013 hours'"),
        ("timestamp", "timestamp '0050-01-01 BC' + g * interval '1 year'"),
        ("date", "date '1900-01-01' + g"),
        ("numeric", "g * 1.000000000000000000001"),
        ("numeric(20,5)", "g - 2500.5"),
        ("double precision", "g / 3.0 - 700"),
        ("smallint", "g - 2500"),
        ("bytea", "decode(md5(g::text), 'hex')"),
        ("boolean", "g % 2 = 0"),
        ("macaddr", "('08002b' || lpad(to_hex(g), 6, '0'))::macaddr"),
    ];
    for (key, expression) in keys {
        database.execute(&format!(
            "DROP TABLE IF EXISTS t; CREATE TABLE t (k {key}, n int);
             INSERT INTO t SELECT {expression}, g FROM generate_series(1, 5000) AS g; CREATE INDEX ON t (k); ANALYZE t;"
        ));
        assert_sliced(&database, "chunk_column: k", 6);
    }
}

#[test]
fn special_values_of_a_key_stay_inside_the_slices() {
    let database = Database::create("special_keys");
    database.execute(
        "CREATE TABLE t (k double precision, n int);
         INSERT INTO t SELECT g, g FROM generate_series(1, 3000) AS g;
         INSERT INTO t VALUES ('NaN', -1), ('Infinity', -2), ('-Infinity', -3), ('-0', -4), (NULL, -5), ('NaN', -6);
         CREATE INDEX ON t (k); ANALYZE t;",
    );
    assert_sliced(&database, "chunk_column: k", 4);
    database.execute(
        "DROP TABLE t; CREATE TABLE t (k timestamptz, n int);
         INSERT INTO t SELECT timestamptz '2020-01-01' + g * interval '1 hour', g FROM generate_series(1, 3000) AS g;
         INSERT INTO t VALUES (NULL, -5), ('4713-01-01 BC', -6), ('12345-01-01', -7);
         CREATE INDEX ON t (k); ANALYZE t;",
    );
    assert_sliced(&database, "chunk_column: k", 4);
}

#[test]
fn a_composite_key_is_compared_as_a_row() {
    let database = Database::create("composite");
    database.execute(
        "CREATE TABLE t (a text, b int, c date, PRIMARY KEY (a, b, c));
         INSERT INTO t SELECT (ARRAY['x', 'y', 'it''s', ''])[1 + g % 4], g % 100, date '2026-01-01' + g
         FROM generate_series(1, 6000) AS g; ANALYZE t;",
    );
    assert_sliced(&database, "", 7);
}

#[test]
fn a_table_without_a_key_is_divided_by_its_pages() {
    let database = Database::create("pages");
    database.execute(
        "CREATE TABLE t (n int, filler text);
         INSERT INTO t SELECT g, repeat('x', 300) FROM generate_series(1, 10000) AS g;
         DELETE FROM t WHERE n % 5 = 0; UPDATE t SET n = -n WHERE n % 7 = 0;",
    );
    let before_analyze = assert_sliced(&database, "", 4);
    assert!(parts_of(&before_analyze) >= 2, "{} parts", parts_of(&before_analyze));
    database.execute("VACUUM ANALYZE t");
    assert_sliced(&database, "", 4);
}

#[test]
fn a_key_that_the_heap_does_not_follow_is_no_reason_to_lose_a_row() {
    let database = Database::create("shuffled");
    database.execute(
        "CREATE TABLE t (id bigint PRIMARY KEY, filler text);
         INSERT INTO t SELECT (g * 7919::bigint) % 20011, repeat('y', 100) FROM generate_series(1, 20000) AS g; ANALYZE t;",
    );
    assert_sliced(&database, "", 5);
}

#[test]
fn duplicates_of_one_key_value_all_arrive() {
    let database = Database::create("duplicates");
    database.execute(
        "CREATE TABLE t (k int, n int); INSERT INTO t SELECT g % 3, g FROM generate_series(1, 9000) AS g;
         INSERT INTO t SELECT 1, 1 FROM generate_series(1, 500); CREATE INDEX ON t (k); ANALYZE t;",
    );
    assert_sliced(&database, "chunk_column: k", 8);
}

#[test]
fn statistics_that_know_nothing_of_the_present_rows_do_no_harm() {
    let database = Database::create("stale");
    database.execute(
        "CREATE TABLE t (id bigint PRIMARY KEY, name text);
         INSERT INTO t SELECT g, 'old' FROM generate_series(1, 5000) AS g; ANALYZE t;
         ALTER TABLE t SET (autovacuum_enabled = off);
         DELETE FROM t; INSERT INTO t SELECT g + 1000000, 'new' FROM generate_series(1, 5000) AS g;
         INSERT INTO t SELECT -g, 'negative' FROM generate_series(1, 100) AS g;",
    );
    assert_sliced(&database, "", 6);
}

#[test]
fn all_slices_see_one_snapshot_while_others_write() {
    let database = Database::create("snapshot");
    database.execute(
        "CREATE TABLE t (id int PRIMARY KEY, version int, filler text);
         INSERT INTO t SELECT g, 0, repeat('x', 200) FROM generate_series(1, 20000) AS g; ANALYZE t;",
    );
    let lines = "table: t\nmode: chunked\nchunk_count: 8\ntuning: { parallel: 2, batch_size: 500, throttle_ms: 20 }";
    let scratch = Scratch::with(&database, &[export("slices", lines)]);
    let mut running = Rivet::new(&scratch).spawn(&["run", "-c", "rivet.yaml", "--json"]);
    // Each transaction moves every row and keeps the sum of the versions a multiple of the number of rows.
    let mut writes = 0;
    while running.is_running() {
        database.execute("BEGIN; UPDATE t SET version = version + 1; COMMIT");
        writes += 1;
    }
    let summary = running.wait().expect_exit(0).summary();
    assert!(writes > 1, "nothing was written while the export ran");
    let rows = files::rows(&files::parts(&scratch.run_dir(&run_id(&summary))));
    assert_eq!(rows.len(), 20_000);
    let versions: std::collections::BTreeSet<&str> = rows.iter().filter_map(|row| row.split('\t').nth(1)).collect();
    assert_eq!(versions.len(), 1, "rows of several moments in one export: {versions:?}");
}

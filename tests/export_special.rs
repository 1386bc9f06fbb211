//! Values that a column's type has no room for, under each policy: what is delivered, and that it is counted everywhere.

mod support;

use serde_json::{Value, json};
use support::database::Database;
use support::rivet::{Finished, Rivet, Scratch, export, run_id};
use support::{files, oracle};

const TABLE: &str = "
CREATE TABLE t (id int PRIMARY KEY, d date, ts timestamp, tz timestamptz, tm time, ds date[], r daterange, late timestamp);
INSERT INTO t VALUES
    (1, 'infinity', '-infinity', 'infinity', '24:00:00', '{infinity,2026-01-01,NULL}', '[2026-01-01,infinity)', NULL),
    (2, '-infinity', '2026-01-01', '-infinity', '23:59:59.999999', NULL, '(,)', '294247-01-11'),
    (3, '2026-01-01', NULL, NULL, '12:00', '{-infinity,-infinity}', 'empty', '294247-01-10 04:00:54.775806');";

/// Each with its count, in the order of columns and words.
const COUNTED: [(&str, &str, u64); 10] = [
    ("d", "infinity", 1),
    ("d", "minus_infinity", 1),
    ("ts", "minus_infinity", 1),
    ("tz", "infinity", 1),
    ("tz", "minus_infinity", 1),
    ("tm", "end_of_day", 1),
    ("ds", "infinity", 1),
    ("ds", "minus_infinity", 2),
    ("r", "infinity", 1),
    ("late", "beyond_range", 1),
];

fn counted() -> Vec<Value> {
    let of = |(column, kind, count)| json!({"column": column, "kind": kind, "count": count});
    COUNTED.into_iter().map(of).collect()
}

fn with_policy(database: &Database, policy: &str, lines: &str) -> Scratch {
    let types = if policy.is_empty() { String::new() } else { format!("\ntypes: {{special_values: {policy}}}") };
    Scratch::with(database, &[export("values", &format!("{lines}{types}"))])
}

fn run(scratch: &Scratch) -> Finished {
    scratch.rivet(&["run", "-c", "rivet.yaml", "--json"])
}

/// As a person sees it.
fn run_on_screen(scratch: &Scratch) -> Finished {
    scratch.rivet(&["run", "-c", "rivet.yaml"])
}

/// The events of one kind in the run's journal.
fn events(scratch: &Scratch, name: &str) -> Vec<Value> {
    let journal = scratch.journal_dir("values").display().to_string();
    let text = scratch.rivet(&["replay", "--journal", &journal, "--events", "--json"]).expect_exit(0).stdout;
    let events = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("an event is JSON"));
    events.filter(|event| event["event"] == name).collect()
}

#[test]
fn infinite_dates_and_times_become_null_by_default_and_are_counted_in_journal_manifest_warnings_and_on_the_screen() {
    for policy in ["", "null"] {
        let database = Database::create("special_null");
        database.execute(TABLE);
        let scratch = with_policy(&database, policy, "table: t");
        let finished = run(&scratch).expect_exit(0);
        let run_dir = scratch.run_dir(&run_id(&finished.summary()));
        let delivered = "SELECT id, nullif(nullif(d, 'infinity'), '-infinity') AS d, nullif(ts, '-infinity') AS ts,
            nullif(nullif(tz, 'infinity'), '-infinity') AS tz, nullif(tm, '24:00') AS tm,
            array_replace(array_replace(ds, 'infinity', NULL), '-infinity', NULL) AS ds,
            CASE WHEN id = 1 THEN '[2026-01-01,)' ELSE r END AS r, nullif(late, '294247-01-11') AS late FROM t";
        oracle::assert_same_rows(&database, delivered, &run_dir);
        assert_eq!(files::manifest(&run_dir)["special_values"], json!(counted()));

        let journaled = events(&scratch, "special_values_counted");
        let [one] = journaled.as_slice() else { panic!("one slice counts: {journaled:?}") };
        let counts: Vec<u64> =
            one["counts"].as_array().expect("counts").iter().filter_map(|count| count["count"].as_u64()).collect();
        assert_eq!(counts, counted().iter().filter_map(|count| count["count"].as_u64()).collect::<Vec<_>>());

        let screen = run_on_screen(&scratch).expect_exit(0);
        let told = finished.json()["warnings"].clone();
        let told = told.as_array().expect("a list of warnings");
        assert_eq!(told.len(), counted().len(), "{finished}");
        for said in [
            "column \"d\": infinity was delivered as NULL, once; `columns: {d: text}` keeps it",
            "column \"ds\": -infinity was delivered as NULL, 2 times; `columns: {ds: text}` keeps it",
            "column \"tm\": 24:00:00 was delivered as NULL, once; `columns: {tm: text}` keeps it",
            "column \"late\": a time after the year 294247 was delivered as NULL, once; `columns: {late: text}` keeps it",
        ] {
            let warned = |warning: &Value| warning["code"] == "special_values" && warning["message"] == said;
            assert!(told.iter().any(warned), "no warning says {said}: {finished}");
            assert!(screen.stderr.contains(said), "the screen does not say {said}: {screen}");
        }
    }
}

#[test]
fn clamped_values_are_the_nearest_that_fit() {
    let database = Database::create("special_clamp");
    database.execute(TABLE);
    let scratch = with_policy(&database, "clamp", "table: t");
    let finished = run(&scratch).expect_exit(0);
    let run_dir = scratch.run_dir(&run_id(&finished.summary()));
    let (first, last, latest) = ("4714-11-24 BC", "5874897-12-31", "294247-01-10 04:00:54.775807");
    let delivered = format!(
        "SELECT id, CASE d WHEN 'infinity' THEN '{last}' WHEN '-infinity' THEN '{first}' ELSE d END AS d,
            CASE ts WHEN '-infinity' THEN '{first}' ELSE ts END AS ts,
            CASE tz WHEN 'infinity' THEN '{latest}+00' WHEN '-infinity' THEN '{first}' ELSE tz END AS tz,
            least(tm, '23:59:59.999999') AS tm,
            array_replace(array_replace(ds, 'infinity', '{last}'), '-infinity', '{first}') AS ds,
            CASE id WHEN 1 THEN '[2026-01-01,{last})' ELSE r END AS r, CASE id WHEN 2 THEN '{latest}' ELSE late END AS late FROM t"
    );
    oracle::assert_same_rows(&database, &delivered, &run_dir);
    assert_eq!(files::manifest(&run_dir)["special_values"], json!(counted()));
    run_on_screen(&scratch)
        .expect_exit(0)
        .expect_in_stderr("column \"d\": -infinity was delivered as the nearest value that fits, once");
}

#[test]
fn as_text_every_column_that_could_hold_such_a_value_keeps_it() {
    let database = Database::create("special_text");
    database.execute(TABLE);
    let scratch = with_policy(&database, "text", "table: t");
    let finished = run(&scratch).expect_exit(0);
    let run_dir = scratch.run_dir(&run_id(&finished.summary()));
    oracle::assert_same_rows(&database, "SELECT * FROM t", &run_dir);
    let manifest = files::manifest(&run_dir);
    let types: Vec<&str> =
        manifest["schema"].as_array().expect("columns").iter().filter_map(|c| c["column_type"].as_str()).collect();
    assert_eq!(types, ["int32", "text", "text", "text", "text", "text", "text", "text"]);
    assert!(manifest.get("special_values").is_none());
    assert_eq!(finished.json()["warnings"], json!([]));
}

#[test]
fn as_errors_each_is_refused_by_column_and_value() {
    let database = Database::create("special_error");
    database.execute(TABLE);
    for (column, value) in [
        ("d", "infinity"),
        ("ts", "-infinity"),
        ("tz", "infinity"),
        ("tm", "24:00:00"),
        ("ds", "infinity"),
        ("r", "infinity"),
        ("late", "a time after the year 294247"),
    ] {
        let scratch = with_policy(&database, "error", &format!("query: \"SELECT {column} FROM t ORDER BY id\""));
        let finished = run_on_screen(&scratch).expect_error(1, "RIVET_SOURCE_VALUE");
        assert!(finished.stderr.contains(&format!("column \"{column}\"")), "{finished}");
        let finished = finished.expect_in_stderr(&format!("holds {value}, which"));
        finished.expect_in_stderr(&format!("columns: {{{column}: text}}"));
    }
    database.execute("CREATE TABLE shifted (a int[]); INSERT INTO shifted VALUES ('[0:0]={1}')");
    let scratch = with_policy(&database, "error", "table: shifted");
    run_on_screen(&scratch).expect_error(1, "RIVET_SOURCE_VALUE").expect_in_stderr("subscripts do not begin at 1");
}

#[test]
fn numbers_that_are_none_are_errors_by_default_and_otherwise_as_the_policy_says() {
    let database = Database::create("special_numbers");
    database.execute(
        "CREATE TABLE t (id int PRIMARY KEY, n numeric(5,2), b numeric);
         INSERT INTO t VALUES (1, 'NaN', '1.5'), (2, 1.25, 'Infinity'), (3, NULL, '-Infinity');",
    );
    for policy in ["", "error", "clamp"] {
        let scratch = with_policy(&database, policy, "query: \"SELECT id, n FROM t\"");
        run_on_screen(&scratch)
            .expect_error(1, "RIVET_SOURCE_VALUE")
            .expect_in_stderr("column \"n\": row 1 of the stream holds NaN");
    }
    let bare = "query: \"SELECT id, b FROM t\"\ncolumns: {b: 'decimal(5,2)'}";
    for policy in ["", "error"] {
        let scratch = with_policy(&database, policy, bare);
        run_on_screen(&scratch)
            .expect_error(1, "RIVET_SOURCE_VALUE")
            .expect_in_stderr("column \"b\": row 2 of the stream holds infinity");
    }
    let delivered = |policy: &str, lines: &str, query: &str, counted: Value| {
        let scratch = with_policy(&database, policy, lines);
        let run_dir = scratch.run_dir(&run_id(&run(&scratch).expect_exit(0).summary()));
        oracle::assert_same_rows(&database, query, &run_dir);
        assert_eq!(files::manifest(&run_dir)["special_values"], counted);
    };
    let one = |column: &str, kind: &str| json!({"column": column, "kind": kind, "count": 1});
    let (largest, least) = ("999.99", "-999.99");
    delivered(
        "null",
        "table: t\ncolumns: {b: 'decimal(5,2)'}",
        "SELECT id, nullif(n, 'NaN') AS n,
        CASE WHEN id = 1 THEN '1.50' END AS b FROM t",
        json!([one("n", "nan"), one("b", "infinity"), one("b", "minus_infinity")]),
    );
    delivered(
        "clamp",
        bare,
        &format!("SELECT id, CASE id WHEN 1 THEN '1.50' WHEN 2 THEN '{largest}' ELSE '{least}' END AS b FROM t"),
        json!([one("b", "infinity"), one("b", "minus_infinity")]),
    );
    delivered("text", "table: t", "SELECT * FROM t", Value::Null);
}

#[test]
fn a_column_that_is_declared_not_null_never_gets_one_by_policy() {
    let database = Database::create("special_required");
    database.execute(
        "CREATE TABLE t (d date NOT NULL, a date[] NOT NULL); INSERT INTO t VALUES ('infinity', '{infinity}')",
    );
    for policy in ["", "null", "error"] {
        let finished = run(&with_policy(&database, policy, "query: \"SELECT d FROM t\""));
        // A query promises nothing about NULL: the column is nullable there.
        let expected = if policy == "error" { 1 } else { 0 };
        finished.expect_exit(expected);
        let finished = run_on_screen(&with_policy(&database, policy, "table: t")).expect_error(1, "RIVET_SOURCE_VALUE");
        finished
            .expect_in_stderr("column \"d\": row 1 of the stream holds infinity")
            .expect_in_stderr("columns: {d: text}");
    }
    // What an error advises is no error itself: nothing is near NaN.
    database.execute("CREATE TABLE n (v numeric(5,2) NOT NULL); INSERT INTO n VALUES ('NaN')");
    let finished = run_on_screen(&with_policy(&database, "null", "table: n")).expect_error(1, "RIVET_SOURCE_VALUE");
    finished.expect_in_stderr("holds NaN, and is declared NOT NULL").expect_nowhere("clamp");
    database.execute("UPDATE n SET v = 1; ALTER TABLE n ALTER v TYPE numeric; UPDATE n SET v = 'infinity'");
    let scratch = with_policy(&database, "null", "table: n\ncolumns: {v: 'decimal(5,2)'}");
    run_on_screen(&scratch).expect_error(1, "RIVET_SOURCE_VALUE").expect_in_stderr("special_values: clamp");
    let scratch = with_policy(&database, "clamp", "table: t");
    let run_dir = scratch.run_dir(&run_id(&run(&scratch).expect_exit(0).summary()));
    oracle::assert_same_rows(&database, "SELECT '5874897-12-31' AS d, '{5874897-12-31}' AS a", &run_dir);
    let scratch = with_policy(&database, "text", "table: t");
    let run_dir = scratch.run_dir(&run_id(&run(&scratch).expect_exit(0).summary()));
    oracle::assert_same_rows(&database, "SELECT * FROM t", &run_dir);
}

#[test]
fn counts_of_slices_add_up_and_those_of_an_attempt_that_failed_do_not() {
    let database = Database::create("special_slices");
    database.execute(
        "CREATE TABLE t (id int PRIMARY KEY, d date);
         INSERT INTO t SELECT g, CASE WHEN g % 10 = 0 THEN 'infinity' ELSE date '2026-01-01' + g END FROM generate_series(1, 4000) g;
         ANALYZE t",
    );
    let scratch = with_policy(&database, "", "table: t\nmode: chunked\nchunk_count: 4\nparallel: 2");
    let run_dir = scratch.run_dir(&run_id(&run(&scratch).expect_exit(0).summary()));
    assert_eq!(files::manifest(&run_dir)["special_values"], json!([{"column": "d", "kind": "infinity", "count": 400}]));
    assert_eq!(events(&scratch, "special_values_counted").len(), 4);
    oracle::assert_same_rows(&database, "SELECT id, nullif(d, 'infinity') AS d FROM t", &run_dir);
}

#[test]
fn counts_survive_a_kill_behind_the_last_file_of_their_slice() {
    // From there on the files alone prove the slice complete, and nothing is read again.
    let database = Database::create("special_kill");
    database.execute(TABLE);
    for place in ["part.renamed", "manifest.renamed"] {
        let scratch = with_policy(&database, "", "table: t");
        let killed = Rivet::new(&scratch).env("RIVET_FAILPOINTS", format!("{place}=kill"));
        assert!(killed.run(&["run", "-c", "rivet.yaml"]).killed(), "{place} is passed");
        let started = events(&scratch, "run_planned");
        let id = started[0]["run_id"].as_str().expect("a run has an id").to_owned();
        scratch.resume_ok(&id);
        assert_eq!(files::manifest(&scratch.run_dir(&id))["special_values"], json!(counted()), "{place}");
        assert_eq!(events(&scratch, "slice_started").len(), 1, "{place}: nothing is read again");
        assert_eq!(events(&scratch, "warning_noted").len(), counted().len(), "{place}: each is said once");
    }
}

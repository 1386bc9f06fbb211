//! Shapes: every kind of relation, name and key arrives with all of its rows.

mod support;

use serde_json::Value;
use support::contract::SUMMARY_FIELDS;
use support::database::Database;
use support::rivet::{Scratch, export, run_id};
use support::{files, oracle};

/// Runs the export `rows` of these lines and compares it with `query`.
#[track_caller]
fn assert_exported(database: &Database, lines: &str, query: &str) -> Value {
    let scratch = Scratch::with(database, &[export("rows", lines)]);
    let summary = scratch.run_ok(&[]);
    assert_eq!(summary["status"], "success");
    let run_dir = scratch.run_dir(&run_id(&summary));
    oracle::assert_same_rows(database, query, &run_dir);
    let promised = files::manifest(&run_dir)["row_count"].as_i64();
    assert_eq!(promised, summary["total_rows"].as_i64());
    summary
}

fn numbers(database: &Database, rows: u32) {
    database.execute(&format!(
        "CREATE TABLE t (id bigint PRIMARY KEY, name text);
         INSERT INTO t SELECT g, 'name ' || g FROM generate_series(1, {rows}) AS g; ANALYZE t;"
    ));
}

#[test]
fn a_table_arrives_with_a_manifest_and_a_mark_of_success() {
    let database = Database::create("plain");
    numbers(&database, 10_000);
    let scratch = Scratch::with(&database, &[export("rows", "table: t")]);
    let summary = scratch.run_ok(&["--validate"]);
    let run_dir = scratch.run_dir(&run_id(&summary));
    oracle::assert_same_rows(&database, "SELECT * FROM t", &run_dir);
    assert_eq!(summary["total_rows"], 10_000);
    assert_eq!(summary["validated"], true);
    assert_eq!(summary["files_committed"], summary["files_produced"]);
    let mut expected: Vec<String> = vec!["_SUCCESS".into(), "manifest.json".into()];
    expected.extend(files::parts(&run_dir).iter().filter_map(|p| Some(p.file_name()?.to_string_lossy().into_owned())));
    expected.sort();
    assert_eq!(files::tree(&run_dir), expected, "nothing else stays in the run's directory");
}

#[test]
fn a_summary_has_its_twenty_nine_fields_in_order() {
    let database = Database::create("fields");
    numbers(&database, 10);
    let summary = assert_exported(&database, "table: t", "SELECT * FROM t");
    let fields: Vec<&String> = summary.as_object().expect("a summary is an object").keys().collect();
    let mut expected = SUMMARY_FIELDS.to_vec();
    // A JSON object has no order of its own.
    expected.sort_unstable();
    let mut fields = fields;
    fields.sort_unstable();
    assert_eq!(fields, expected);
}

#[test]
fn an_empty_table_ends_in_success_without_rows() {
    let database = Database::create("empty");
    database.execute("CREATE TABLE t (id int PRIMARY KEY, name text)");
    let summary = assert_exported(&database, "table: t", "SELECT * FROM t");
    assert_eq!(summary["total_rows"], 0);
}

#[test]
fn an_empty_table_is_skipped_when_that_is_asked_for_and_leaves_no_files() {
    let database = Database::create("skipped");
    database.execute("CREATE TABLE t (id int PRIMARY KEY)");
    let scratch = Scratch::with(&database, &[export("rows", "table: t\nskip_empty: true")]);
    let summary = scratch.run_ok(&[]);
    assert_eq!(summary["status"], "skipped");
    assert!(summary["skip_reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{summary}");
    let left: Vec<String> = files::tree(&scratch.path().join("out"));
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn names_need_no_care_from_whoever_chose_them() {
    let database = Database::create("names");
    let long = "l".repeat(63);
    database.execute(&format!(
        r#"CREATE SCHEMA "Odd Schema";
           CREATE TABLE "Odd Schema"."a ""quoted"" table" ("Id" int PRIMARY KEY, "select" text, "with space" int, "ünï 字" text, "back\slash'n'quote" text, "{long}" int);
           INSERT INTO "Odd Schema"."a ""quoted"" table" SELECT g, 'x', g, 'y', 'z', g FROM generate_series(1, 100) AS g;
           CREATE TABLE "Upper" (a int); INSERT INTO "Upper" VALUES (1);
           CREATE TABLE upper_ (a int);
           CREATE TABLE "dotted.name" (a int); INSERT INTO "dotted.name" VALUES (2);"#
    ));
    let quoted = r#""Odd Schema"."a ""quoted"" table""#;
    assert_exported(&database, &format!("table: '{quoted}'"), &format!("SELECT * FROM {quoted}"));
    assert_exported(&database, "table: '\"Upper\"'", "SELECT * FROM \"Upper\"");
    assert_exported(&database, "table: '\"dotted.name\"'", "SELECT * FROM \"dotted.name\"");
}

#[test]
fn views_materialized_views_and_queries_are_exported_like_tables() {
    let database = Database::create("views");
    numbers(&database, 500);
    database.execute(
        "CREATE VIEW v AS SELECT id, name || '!' AS shouted FROM t WHERE id % 2 = 0;
         CREATE MATERIALIZED VIEW m AS SELECT id % 10 AS digit, count(*) AS n FROM t GROUP BY 1;",
    );
    assert_exported(&database, "table: v", "SELECT * FROM v");
    assert_exported(&database, "table: m", "SELECT * FROM m");
    let query = "SELECT id, upper(name) AS name, id * 1.5 AS more FROM t WHERE name LIKE '%1%'";
    assert_exported(&database, &format!("query: \"{query}\""), query);
    assert_exported(&database, "query: \"SELECT 1 AS one -- with a comment\"", "SELECT 1 AS one");
}

#[test]
fn a_partitioned_table_arrives_with_the_rows_of_all_its_partitions() {
    let database = Database::create("partitioned");
    database.execute(
        "CREATE TABLE t (id bigint, region text, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
         CREATE TABLE t_north PARTITION OF t FOR VALUES IN ('north');
         CREATE TABLE t_rest PARTITION OF t DEFAULT PARTITION BY RANGE (id);
         CREATE TABLE t_rest_low PARTITION OF t_rest FOR VALUES FROM (MINVALUE) TO (500);
         CREATE TABLE t_rest_high PARTITION OF t_rest FOR VALUES FROM (500) TO (MAXVALUE);
         INSERT INTO t SELECT g, (ARRAY['north', 'south', 'east'])[1 + g % 3] FROM generate_series(1, 1000) AS g;
         ANALYZE t;",
    );
    assert_exported(&database, "table: t", "SELECT * FROM t");
    assert_exported(&database, "table: t\nmode: chunked\nchunk_count: 4", "SELECT * FROM t");
    assert_exported(&database, "table: t_rest", "SELECT * FROM t_rest");
}

#[test]
fn inherited_rows_are_part_of_the_table_as_they_are_of_a_select() {
    let database = Database::create("inherited");
    database.execute(
        "CREATE TABLE parent (id int PRIMARY KEY, name text);
         CREATE TABLE child (extra text) INHERITS (parent);
         INSERT INTO parent SELECT g, 'parent' FROM generate_series(1, 300) AS g;
         INSERT INTO child SELECT g, 'child', 'x' FROM generate_series(200, 500) AS g;
         ANALYZE parent; ANALYZE child;",
    );
    assert_exported(&database, "table: parent", "SELECT * FROM parent");
    assert_exported(&database, "table: parent\nmode: chunked\nchunk_count: 3", "SELECT * FROM parent");
}

#[test]
fn dropped_and_generated_columns_and_columns_added_later_are_no_surprise() {
    let database = Database::create("columns");
    database.execute(
        "CREATE TABLE t (id int PRIMARY KEY, gone text, kept text, twice int GENERATED ALWAYS AS (id * 2) STORED);
         INSERT INTO t SELECT g, 'gone', 'kept' FROM generate_series(1, 50) AS g;
         ALTER TABLE t DROP COLUMN gone;
         ALTER TABLE t ADD COLUMN added int DEFAULT 7;
         INSERT INTO t (id, kept, added) SELECT g, 'new', NULL FROM generate_series(51, 100) AS g;",
    );
    assert_exported(&database, "table: t", "SELECT * FROM t");
}

#[test]
fn a_wide_table_arrives_with_all_its_columns() {
    let database = Database::create("wide");
    let columns: Vec<String> = (0..800).map(|i| format!("column_number_{i} int")).collect();
    let values: Vec<String> = (0..800).map(|i| format!("g + {i}")).collect();
    database.execute(&format!(
        "CREATE TABLE t ({}); INSERT INTO t SELECT {} FROM generate_series(1, 20) AS g;",
        columns.join(", "),
        values.join(", ")
    ));
    assert_exported(&database, "table: t", "SELECT * FROM t");
}

#[test]
fn max_file_size_cuts_a_slice_into_several_files_that_all_count() {
    let database = Database::create("rotated");
    database.execute(
        "CREATE TABLE t (id int PRIMARY KEY, noise text);
         INSERT INTO t SELECT g, md5(g::text) || md5((g * 7)::text) || md5((g * 11)::text) FROM generate_series(1, 60000) AS g;
         ANALYZE t;",
    );
    let lines = "table: t\nmax_file_size: 1MB\nparquet: { row_group_rows: 2000 }\nmode: chunked\nchunk_count: 1";
    let summary = assert_exported(&database, lines, "SELECT * FROM t");
    let parts = summary["manifest_parts"].as_array().expect("a summary lists its parts").len();
    assert!(parts > 1, "one file of about 4 MB where 1 MB was the limit");
}

#[test]
fn several_exports_of_one_file_are_independent_runs() {
    let database = Database::create("several");
    numbers(&database, 100);
    database.execute("CREATE TABLE u AS SELECT g AS a FROM generate_series(1, 5) AS g");
    let scratch = Scratch::with(&database, &[export("one", "table: t"), export("two", "table: u")]);
    let summaries = scratch.rivet(&["run", "-c", "rivet.yaml", "--json"]).expect_exit(0).summaries();
    assert_eq!(summaries.len(), 2);
    for summary in &summaries {
        let table = if summary["export_name"] == "one" { "t" } else { "u" };
        oracle::assert_same_rows(&database, &format!("SELECT * FROM {table}"), &scratch.run_dir(&run_id(summary)));
    }
    let only = scratch.rivet(&["run", "-c", "rivet.yaml", "--json", "-e", "two"]).expect_exit(0).summaries();
    assert_eq!(only.len(), 1);
    assert_eq!(only[0]["export_name"], "two");
}

#[test]
fn a_second_run_does_not_touch_the_first_ones_files() {
    let database = Database::create("again");
    numbers(&database, 100);
    let scratch = Scratch::with(&database, &[export("rows", "table: t")]);
    let first = scratch.run_dir(&run_id(&scratch.run_ok(&[])));
    let before: Vec<Vec<u8>> =
        files::parts(&first).iter().map(|p| std::fs::read(p).expect("a part is there")).collect();
    database.execute("INSERT INTO t VALUES (101, 'new')");
    let second = scratch.run_ok(&[]);
    assert_eq!(second["schema_changed"], false);
    oracle::assert_same_rows(&database, "SELECT * FROM t", &scratch.run_dir(&run_id(&second)));
    let after: Vec<Vec<u8>> = files::parts(&first).iter().map(|p| std::fs::read(p).expect("a part is there")).collect();
    assert_eq!(before, after);
}

//! `types.numeric: probe`: the decimal that holds the values is found in the values, and stays what it is for a whole run.

mod support;

use serde_json::Value;
use support::database::Database;
use support::rivet::{Rivet, Scratch, export, run_id};
use support::{converge, files, oracle};

fn scratch(database: &Database, lines: &str) -> Scratch {
    Scratch::with(database, &[export("orders", &format!("table: t\n{lines}"))])
}

/// The type of each column in the manifest of a run.
fn types(scratch: &Scratch, summary: &Value) -> Vec<String> {
    let manifest = files::manifest(&scratch.run_dir(&run_id(summary)));
    let columns = manifest["schema"].as_array().expect("a schema is a list of columns");
    columns.iter().map(|column| column["column_type"].as_str().expect("a column has a type").to_owned()).collect()
}

#[test]
fn a_bare_numeric_becomes_the_narrowest_decimal_that_holds_its_values() {
    let database = Database::create("probe_types");
    database.execute(
        "CREATE DOMAIN amount AS numeric;
         CREATE TABLE t (id int PRIMARY KEY, a numeric, b numeric, c numeric, d amount, \"e \"\"x\"\"\" numeric, f numeric, g numeric,
                         h numeric(10,2), i numeric[], j numeric, k numeric NOT NULL);
         INSERT INTO t VALUES
           (1, 12.50, 0.0001, 0, -7, 1e20, NULL, repeat('9', 60)::numeric, 1, '{1.5}', 3.10, 1),
           (2, -123.4, -0.5, 0.0, 1234567890123456789012345678901234567890.5, NULL, NULL, 1e-20, 2, NULL, 4, 0.5)",
    );
    let scratch = scratch(&database, "types: { numeric: probe }\ncolumns: { j: text }");
    let finished = scratch.rivet(&["run", "--json"]).expect_exit(0);
    let summary = finished.summary();
    let expected = [
        "int32",
        "decimal(5,2)",
        "decimal(4,4)",
        "decimal(1,1)",
        "decimal(41,1)",
        "decimal(21,0)",
        "decimal(1,0)",
        "text",
        "decimal(10,2)",
        "list<text>",
        "text",
        "decimal(2,1)",
    ];
    assert_eq!(types(&scratch, &summary), expected);
    let warning = &finished.json()["warnings"][0];
    assert_eq!(warning["code"], "numeric_too_wide", "{finished}");
    let message = warning["message"].as_str().expect("a warning has a message");
    assert!(message.contains("\"g\"") && message.contains("60 digits before the point and 20 after"), "{message}");
    let decimals = "SELECT id, a::numeric(5,2), b::numeric(4,4), c::numeric(1,1), d::numeric(41,1) AS d, \"e \"\"x\"\"\"::numeric(21,0), \
                    f::numeric(1,0), g, h, i, j, k::numeric(2,1) FROM t";
    oracle::assert_same_rows(&database, decimals, &scratch.run_dir(&run_id(&summary)));
    let next = scratch.run_ok(&[]);
    assert_eq!(next["schema_changed"], false, "the same values, the same types");
}

#[test]
fn what_has_no_digits_is_left_out_of_the_measure_and_falls_under_the_policy() {
    let database = Database::create("probe_special");
    database.execute(
        "CREATE TABLE t (id int PRIMARY KEY, v numeric);
         INSERT INTO t VALUES (1, 12.5), (2, 'NaN'), (3, 'Infinity'), (4, '-Infinity')",
    );
    let refused = scratch(&database, "types: { numeric: probe }").rivet(&["run"]).expect_error(1, "RIVET_SOURCE_VALUE");
    drop(refused.expect_in_stderr("(id = 2) holds NaN").expect_in_stderr("decimal(3,1)"));
    let nulled = scratch(&database, "types: { numeric: probe, special_values: 'null' }");
    let summary = nulled.run_ok(&[]);
    assert_eq!(types(&nulled, &summary), ["int32", "decimal(3,1)"]);
    let finite = "SELECT id, CASE WHEN id = 1 THEN v::numeric(3,1) END AS v FROM t";
    oracle::assert_same_rows(&database, finite, &nulled.run_dir(&run_id(&summary)));
    // Where whatever may be special is to be text, there is nothing to be measured.
    let text = scratch(&database, "types: { numeric: probe, special_values: text }");
    assert_eq!(types(&text, &text.run_ok(&[])), ["int32", "text"]);
}

#[test]
fn an_empty_table_and_a_query_are_measured_as_well() {
    let database = Database::create("probe_empty");
    database.execute("CREATE TABLE t (v numeric)");
    let empty = scratch(&database, "types: { numeric: probe }");
    assert_eq!(types(&empty, &empty.run_ok(&[])), ["decimal(1,0)"]);
    let query = export(
        "orders",
        "query: SELECT g AS id, g / 8.0 AS v FROM generate_series(1, 100) g\ntypes: { numeric: probe }",
    );
    let scratch = Scratch::with(&database, &[query]);
    let summary = scratch.run_ok(&[]);
    let expected = "SELECT g AS id, (g / 8.0)::numeric(22,20) AS v FROM generate_series(1, 100) g";
    assert_eq!(types(&scratch, &summary), ["int32", "decimal(22,20)"]);
    oracle::assert_same_rows(&database, expected, &scratch.run_dir(&run_id(&summary)));
}

/// A run that was killed after its first slice.
fn stopped(name: &str) -> (Database, Scratch, String) {
    let database = Database::create(name);
    database.execute(
        "CREATE TABLE t (id int PRIMARY KEY, v numeric); INSERT INTO t SELECT g, g + 0.5 FROM generate_series(1, 400) g; ANALYZE t",
    );
    let scratch = scratch(&database, "types: { numeric: probe }\nmode: chunked\nchunk_count: 4\nparallel: 1");
    let killed = Rivet::new(&scratch).env("RIVET_FAILPOINTS", "part.created@2=kill").run(&["run"]);
    assert!(killed.killed(), "{killed}");
    let run = converge::journaled_run(&scratch).expect("the run is in the journal");
    (database, scratch, run)
}

#[test]
fn a_resume_keeps_the_type_that_the_run_began_with_while_it_holds_the_values() {
    let (database, scratch, run) = stopped("probe_resume");
    // Of what is there now, decimal(2,0) would be the narrowest.
    database.execute("DELETE FROM t WHERE id > 90; UPDATE t SET v = trunc(v)");
    let summary = scratch.resume_ok(&run);
    assert_eq!(
        (summary["status"].as_str(), types(&scratch, &summary)),
        (Some("success"), vec!["int32".into(), "decimal(4,1)".into()])
    );
}

#[test]
fn a_resume_that_finds_wider_values_is_refused_and_says_what_to_do() {
    for change in ["v = 12345", "v = 1.25"] {
        let (database, scratch, run) = stopped("probe_wider");
        database.execute(&format!("UPDATE t SET {change} WHERE id = 400"));
        let refused = scratch.rivet(&["resume", &run]).expect_error(4, "RIVET_SCHEMA_DRIFT");
        let refused = refused.expect_in_stderr("\"v\" began as decimal(4,1)").expect_in_stderr("rivet run --fresh");
        drop(refused.expect_nowhere("12345"));
        let summary = scratch.run_ok(&["--fresh"]);
        oracle::assert_same_rows(
            &database,
            &format!("SELECT id, v::numeric({}) FROM t", if change.contains("12345") { "6,1" } else { "5,2" }),
            &scratch.run_dir(&run_id(&summary)),
        );
    }
}

const ARRAYS: &str = "
CREATE DOMAIN grid AS int[];
CREATE TABLE t (id int PRIMARY KEY, flat int[], square int[], deep text[][], mixed int[], bare int[], wide inet[], g grid,
                numbers numeric[], own int[]);
INSERT INTO t VALUES
  (1, '{1,NULL}', '{{1,2},{3,4}}', '{{{a}},{{\"b,c\"}}}', '{1}', '{}', '{{::1},{10.0.0.1/8}}', '{{1},{2}}', '{{1.5},{2}}', '{{1}}'),
  (2, '{}', '{}', NULL, '{{1}}', NULL, NULL, '{}', NULL, '{1}'),
  (3, NULL, '[0:0][5:6]={{7,NULL}}', '{}', '{}', '{}', '{{NULL}}', NULL, '{}', NULL);";

#[test]
fn arrays_become_lists_of_as_many_dimensions_as_all_values_have_or_text_where_they_differ() {
    let database = Database::create("probe_arrays");
    database.execute(ARRAYS);
    let scratch = scratch(&database, "types: { arrays: probe, numeric: probe }\ncolumns: { own: text }");
    let finished = scratch.rivet(&["run", "--json"]).expect_exit(0);
    let summary = finished.summary();
    let expected = [
        "int32",
        "list<int32>",
        "list<list<int32>>",
        "list<list<list<text>>>",
        "text",
        "list<int32>",
        "list<list<text>>",
        "list<list<int32>>",
        "list<list<text>>",
        "text",
    ];
    assert_eq!(types(&scratch, &summary), expected);
    let warnings = finished.json()["warnings"].to_string();
    assert!(warnings.contains("arrays_differ") && warnings.contains("\\\"mixed\\\""), "{warnings}");
    assert!(warnings.contains("from 1 to 2 dimensions") && warnings.contains("do not begin at 1"), "{warnings}");
    let delivered =
        "SELECT id, flat, CASE id WHEN 3 THEN '{{7,NULL}}' ELSE square END AS square, deep, mixed::text, bare, wide, g,
                     numbers, own::text FROM t";
    oracle::assert_same_rows(&database, delivered, &scratch.run_dir(&run_id(&summary)));
    let next = scratch.run_ok(&[]);
    assert_eq!(next["schema_changed"], false, "the same values, the same types");

    let scratch = self::scratch(&database, "types: { arrays: text }");
    let summary = scratch.run_ok(&[]);
    assert_eq!(types(&scratch, &summary)[1..], ["text"; 9]);
    let texts =
        "SELECT id, flat::text, square::text, deep::text, mixed::text, bare::text, wide::text, g::text, numbers::text,
                 own::text FROM t";
    oracle::assert_same_rows(&database, texts, &scratch.run_dir(&run_id(&summary)));
}

#[test]
fn a_resume_keeps_the_dimensions_that_the_run_began_with_and_refuses_arrays_of_others() {
    for (change, refused) in [("'{}'", false), ("'{{1,2}}'", true)] {
        let database = Database::create("probe_arrays_resume");
        database.execute(
            "CREATE TABLE t (id int PRIMARY KEY, v int[]); INSERT INTO t SELECT g, ARRAY[g] FROM generate_series(1, 400) g; ANALYZE t",
        );
        let scratch = scratch(&database, "types: { arrays: probe }\nmode: chunked\nchunk_count: 4\nparallel: 1");
        let killed = Rivet::new(&scratch).env("RIVET_FAILPOINTS", "part.created@2=kill").run(&["run"]);
        assert!(killed.killed(), "{killed}");
        let run = converge::journaled_run(&scratch).expect("the run is in the journal");
        database.execute(&format!("UPDATE t SET v = {change} WHERE id > 100"));
        if refused {
            let error = scratch.rivet(&["resume", &run]).expect_error(4, "RIVET_SCHEMA_DRIFT");
            drop(error.expect_in_stderr("\"v\" began as lists of 1 dimensions").expect_in_stderr("rivet run --fresh"));
        } else {
            let summary = scratch.resume_ok(&run);
            assert_eq!(types(&scratch, &summary), ["int32", "list<int32>"]);
        }
    }
}

#[test]
fn dimensions_are_those_of_the_declaration_also_inside_of_other_values() {
    let database = Database::create("declared_inside");
    database.execute(
        "CREATE TYPE matrix AS (m int[][], t text); CREATE DOMAIN grid AS int[][]; CREATE TYPE holder AS (g grid, ms matrix[]);
         CREATE TABLE t (id int PRIMARY KEY, c matrix, d grid, ds grid[], h holder);
         INSERT INTO t VALUES (1, ROW('{{1,2},{3,NULL}}', 'x'), '{{1},{2}}', '{\"{{5}}\",NULL}',
                               ROW('{{7,8}}', ARRAY[ROW('{{9}}', NULL)::matrix])),
                              (2, NULL, '{}', NULL, NULL);",
    );
    let scratch = scratch(&database, "");
    let summary = scratch.run_ok(&[]);
    let expected = [
        "int32",
        "struct<1:m:list<list<int32>>,1:t:text>",
        "list<list<int32>>",
        "list<list<list<int32>>>",
        "struct<1:g:list<list<int32>>,2:ms:list<struct<1:m:list<list<int32>>,1:t:text>>>",
    ];
    assert_eq!(types(&scratch, &summary), expected);
    let read = shown(&files::parts(&scratch.run_dir(&run_id(&summary))));
    let first = "[1, {'m': [[1, 2], [3, None]], 't': 'x'}, [[1], [2]], [[[5]], None], {'g': [[7, 8]], 'ms': [{'m': [[9]], 't': None}]}]";
    assert_eq!(read, [first, "[2, None, [], None, None]"]);
    // Where they are not those of the declaration, text holds all of them, however deep they lie.
    database.execute("INSERT INTO t VALUES (3, ROW('{1}', 'x'), '{1}', NULL, ROW('{{{1}}}', NULL))");
    drop(scratch.rivet(&["run"]).expect_error(1, "RIVET_SOURCE_VALUE"));
    let scratch = self::scratch(&database, "types: { arrays: text }");
    let summary = scratch.run_ok(&[]);
    assert_eq!(types(&scratch, &summary), ["int32", "text", "text", "text", "text"]);
    let texts = "SELECT id, c::text, d::text, ds::text, h::text FROM t";
    oracle::assert_same_rows(&database, texts, &scratch.run_dir(&run_id(&summary)));
}

/// Rows as pyarrow shows them, in the order of their first column.
fn shown(parts: &[std::path::PathBuf]) -> Vec<String> {
    let script = "import sys, pyarrow.parquet as pq\n\
                  rows = [list(row.values()) for path in sys.argv[1:] for row in pq.read_table(path).to_pylist()]\n\
                  for row in sorted(rows, key=lambda row: row[0]): print(row)";
    let output = std::process::Command::new(oracle::python()).args(["-c", script]).args(parts).output();
    let output = output.expect("python starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

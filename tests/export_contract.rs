//! The whole type contract against a real server: what it prints is what two independent readers find in the files.

mod contract_types;
mod support;

use contract_types::{MADE_TYPES, TYPES};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use std::fs::File;
use std::path::Path;
use support::database::Database;
use support::rivet::{Scratch, export, run_id};
use support::{files, oracle};

/// Exports `lines` and compares with `query`, the server's own view of what has to be in the files.
#[track_caller]
fn assert_exported(database: &Database, lines: &str, query: &str) -> serde_json::Value {
    let scratch = Scratch::with(database, &[export("values", lines)]);
    let summary = scratch.run_ok(&[]);
    let run_dir = scratch.run_dir(&run_id(&summary));
    oracle::assert_same_rows(database, query, &run_dir);
    files::manifest(&run_dir)
}

#[test]
fn every_type_arrives_as_the_server_prints_it_and_as_the_type_that_is_documented() {
    let database = Database::create("contract");
    database.execute(MADE_TYPES);
    database.execute(&contract_types::table("t"));
    let manifest = assert_exported(&database, "table: t", "SELECT * FROM t");
    let columns = manifest["schema"].as_array().expect("a schema is a list of columns");
    for (column, (declaration, delivered, _)) in columns[1..].iter().zip(TYPES) {
        assert_eq!(column["column_type"], *delivered, "{declaration}");
        assert_eq!(column["nullable"], true, "{declaration}");
    }
    assert!(manifest.get("special_values").is_none(), "nothing was delivered as something else");
}

#[test]
fn the_same_values_arrive_where_null_is_forbidden_and_its_columns_are_required() {
    let database = Database::create("contract_required");
    database.execute(MADE_TYPES);
    let columns: Vec<String> = (0..TYPES.len()).map(|i| format!("c{i}")).collect();
    let typed = |f: &dyn Fn(&str, &str) -> String| {
        let parts = columns.iter().zip(TYPES).map(|(name, (declaration, ..))| f(name, declaration));
        parts.collect::<Vec<_>>().join(", ")
    };
    // One row for the first value of each type: no column is left out.
    let declared = typed(&|name, declaration| format!("{name} {declaration} NOT NULL"));
    let values: Vec<&str> = TYPES.iter().map(|(_, _, values)| values[0]).collect();
    database.execute(&format!("CREATE TABLE t ({declared}); INSERT INTO t VALUES ({});", values.join(", ")));
    let manifest = assert_exported(&database, "table: t", "SELECT * FROM t");
    for column in manifest["schema"].as_array().expect("a schema is a list of columns") {
        assert_eq!(column["nullable"], false, "{column}");
    }
}

/// The `CREATE TABLE` that a reader of the files can write, from nothing but what is in one of them.
fn ddl_of(part: &Path, table: &str) -> String {
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(part).expect("a part can be opened"));
    let schema = reader.expect("a part is a Parquet file").schema().clone();
    let columns = schema.fields().iter().map(|field| {
        let source_type = &field.metadata()["rivet.source_type"];
        let required = if field.is_nullable() { "" } else { " NOT NULL" };
        format!("\"{}\" {source_type}{required}", field.name().replace('"', "\"\""))
    });
    format!("CREATE TABLE {table} ({})", columns.collect::<Vec<_>>().join(", "))
}

#[test]
fn a_table_rebuilt_from_a_file_has_the_same_schema() {
    let database = Database::create("round_trip");
    database.execute(MADE_TYPES);
    let declared: Vec<String> = TYPES.iter().enumerate().map(|(i, (d, ..))| format!("c{i} {d}")).collect();
    database.execute(&format!(
        "CREATE TABLE original (id bigint PRIMARY KEY, \"Größe, \"\"x\"\"\" numeric(12,2) NOT NULL, {});
         INSERT INTO original (id, \"Größe, \"\"x\"\"\") VALUES (1, 1.5);",
        declared.join(", ")
    ));
    let exported = |table: &str| {
        let scratch = Scratch::with(&database, &[export("values", &format!("table: {table}"))]);
        let summary = scratch.run_ok(&[]);
        let run_dir = scratch.run_dir(&run_id(&summary));
        let ddl = files::parts(&run_dir).first().map(|part| ddl_of(part, "rebuilt"));
        let fingerprint = summary["schema_fingerprint"].as_str().expect("a fingerprint").to_owned();
        (fingerprint, files::manifest(&run_dir)["schema"].clone(), ddl)
    };
    let (fingerprint, schema, ddl) = exported("original");
    database.execute(&ddl.expect("there is a part"));
    database.execute("INSERT INTO rebuilt SELECT * FROM original");
    let (rebuilt_fingerprint, rebuilt_schema, _) = exported("rebuilt");
    assert_eq!(rebuilt_schema, schema);
    assert_eq!(rebuilt_fingerprint, fingerprint);
}

#[test]
fn money_is_the_same_text_whatever_the_locale_of_the_server() {
    let database = Database::create("money");
    database
        .execute("CREATE TABLE t (m money, ms money[]); INSERT INTO t VALUES (1234.5, '{-1.25}'::numeric[]::money[])");
    let locales =
        database.query("SELECT collname FROM pg_collation WHERE collname IN ('de_DE.utf8', 'fr_FR.utf8', 'C.utf8')");
    for locale in locales {
        database.execute(&format!("ALTER DATABASE {} SET lc_monetary = '{locale}'", database.name));
        assert_exported(&database, "table: t", "SELECT '$1,234.50' AS m, '{-$1.25}' AS ms");
    }
}

#[test]
fn settings_that_change_what_is_printed_and_how_it_is_read_do_not_reach_the_values() {
    let database = Database::create("printed");
    database.execute(&format!(
        "CREATE TABLE \"odd\" (a inet[], r regclass, rs regclass[]);
         INSERT INTO odd VALUES ('{{10.1.2.3,NULL}}', 'pg_class', '{{pg_class,NULL}}');
         ALTER DATABASE {name} SET array_nulls = off; ALTER DATABASE {name} SET quote_all_identifiers = on;",
        name = database.name
    ));
    let printed = "SELECT '{10.1.2.3,NULL}' AS a, 'pg_class' AS r, '{pg_class,NULL}' AS rs";
    assert_exported(&database, "table: odd", printed);
}

#[test]
fn pseudo_types_of_queries_and_of_the_catalogs_own_views_arrive_as_text() {
    let database = Database::create("pseudo");
    database.execute("CREATE TABLE t AS SELECT g AS n, 'w' || g % 3 AS w FROM generate_series(1, 1000) g; ANALYZE t");
    let statistics = "SELECT attname, most_common_vals, histogram_bounds FROM pg_stats WHERE tablename = 't'";
    assert_exported(&database, &format!("query: \"{statistics}\""), statistics);
    let pseudo = "SELECT ROW(1, 'x y') AS r, pg_sleep(0) AS v, 'abc'::cstring AS c, NULL AS u, ARRAY[ROW(1)] AS rs";
    assert_exported(&database, &format!("query: \"{pseudo}\""), pseudo);
}

#[test]
fn arrays_that_do_not_begin_at_one_keep_their_elements_and_are_counted() {
    let database = Database::create("lower_bounds");
    database.execute(
        "CREATE TABLE t (id int PRIMARY KEY, a int[], n inet[], g int[][]);
         INSERT INTO t VALUES (1, '[0:1]={1,NULL}', '[5:5]={10.1.2.3}', '[0:0][2:3]={{1,2}}'), (2, '{3}', NULL, '{{4}}'),
                              (3, '[-3:-2]={5,6}', '{::1}', '{}');",
    );
    let manifest = assert_exported(&database, "table: t", "SELECT id, a[:] AS a, n[:] AS n, g[:][:] AS g FROM t");
    let counted = serde_json::json!([
        {"column": "a", "kind": "lower_bound", "count": 2},
        {"column": "n", "kind": "lower_bound", "count": 1},
        {"column": "g", "kind": "lower_bound", "count": 1},
    ]);
    assert_eq!(manifest["special_values"], counted);
}

#[test]
fn an_array_of_more_dimensions_than_it_was_declared_with_is_refused_by_name_and_can_be_had_as_text() {
    let database = Database::create("dimensions");
    database
        .execute("CREATE TABLE t (c int[], n inet[]); INSERT INTO t VALUES ('{{1,2},{3,4}}', NULL), (NULL, '{{::1}}')");
    for column in ["c", "n"] {
        let query = format!("query: \"SELECT {column} FROM t\"");
        let scratch = Scratch::with(&database, &[export("values", &query)]);
        let refused = scratch.rivet(&["run", "-c", "rivet.yaml"]).expect_error(1, "RIVET_SOURCE_VALUE");
        let refused = refused.expect_in_stderr("holds an array of 2 dimensions, and the column takes those of 1");
        let refused = refused.expect_in_stderr(&format!("columns: {{{column}: text}}"));
        refused.expect_in_stderr("types: {arrays: probe}");
    }
    // One inside of another value is not looked at beforehand.
    database.execute(
        "CREATE TYPE holder AS (a int[]);
         CREATE TABLE g (g int[][]); INSERT INTO g VALUES ('{1}');
         CREATE TABLE h (h holder); INSERT INTO h VALUES (ROW('{{1,2}}'::int[])::holder)",
    );
    for (column, said) in
        [("g", "an array of 1 dimension, and the column takes those of 2"), ("h", "an array of 2 dimensions")]
    {
        let scratch = Scratch::with(&database, &[export("values", &format!("table: {column}"))]);
        let refused = scratch.rivet(&["run"]).expect_error(1, "RIVET_SOURCE_VALUE").expect_in_stderr(said);
        assert_eq!(refused.stderr.contains("arrays: probe"), column == "g", "{refused}");
    }
    assert_exported(&database, "table: t\ncolumns: {c: text, n: text}", "SELECT * FROM t");
}

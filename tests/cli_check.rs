//! `rivet check`: what an export would be, told without running it.

mod support;

use serde_json::{Value, json};
use support::database::Database;
use support::files;
use support::rivet::{Finished, Rivet, Scratch, config, export, run_id};

const EVERYTHING: &str = "
    CREATE TYPE mood AS ENUM ('sad', 'ok');
    CREATE DOMAIN price AS numeric(10,2);
    CREATE TYPE pair AS (a int, at timestamptz);
    CREATE TABLE shop (
        id bigint PRIMARY KEY, note text, price price, amount numeric, day date NOT NULL, moods mood[], grid int[][], doc jsonb,
        host inet, pair pair, during tstzrange, acl aclitem, when_text text, code int);
    INSERT INTO shop (id, day) SELECT g, '2026-01-01' FROM generate_series(1, 50) g;
    ANALYZE shop";

const SHOP: &str = "table: public.shop\ncolumns: { when_text: date, code: int8 }";

fn shop(name: &str, lines: &str) -> (Database, Scratch) {
    let database = Database::create(name);
    database.execute(EVERYTHING);
    let scratch = Scratch::with(&database, &[export("shop", lines)]);
    (database, scratch)
}

/// The columns of the only export.
fn columns(finished: &Finished) -> Vec<Value> {
    let exports = finished.json()["exports"].clone();
    assert_eq!(exports.as_array().map(Vec::len), Some(1), "{finished}");
    exports[0]["columns"].as_array().expect("an export has columns").clone()
}

fn column(columns: &[Value], name: &str) -> Value {
    columns.iter().find(|column| column["name"] == name).unwrap_or_else(|| panic!("{name}: {columns:?}")).clone()
}

#[test]
fn every_column_is_told_with_its_types_its_fidelity_its_policy_and_why() {
    let (_database, scratch) = shop("check_types", SHOP);
    let finished = scratch.rivet(&["check", "-c", "rivet.yaml", "--types", "--json"]).expect_exit(0);
    assert_eq!(finished.stderr, "", "{finished}");
    let columns = columns(&finished);
    let told: Vec<[&str; 5]> = columns
        .iter()
        .map(|c| ["name", "source_type", "target", "fidelity", "policy"].map(|key| c[key].as_str().unwrap_or("-")))
        .collect();
    let expected = [
        ["id", "bigint", "int64", "exact", "-"],
        ["note", "text", "text", "exact", "-"],
        ["price", "public.price", "decimal(10,2)", "exact", "error"],
        ["amount", "numeric", "text", "logical_string", "-"],
        ["day", "date", "date", "exact", "error"],
        ["moods", "public.mood[]", "list<text>", "compatible", "-"],
        ["grid", "integer[][]", "list<list<int32>>", "compatible", "-"],
        ["doc", "jsonb", "json", "logical_string", "-"],
        ["host", "inet", "text", "compatible", "-"],
        ["pair", "public.pair", "struct<1:a:int32,2:at:timestamp_utc>", "exact", "null"],
        ["during", "tstzrange", "range<timestamp_utc>", "exact", "null"],
        ["acl", "aclitem", "text", "compatible", "-"],
        ["when_text", "text", "date", "lossy", "null"],
        ["code", "integer", "int64", "compatible", "-"],
    ];
    assert_eq!(told, expected);
    for (name, note) in [
        ("id", "NOT NULL"),
        ("price", "domain over numeric(10,2)"),
        ("amount", "numeric without a precision"),
        ("grid", "of 2 dimensions, or the run ends"),
        ("host", "as the server prints it"),
        ("acl", "no binary form"),
        ("when_text", "year before month before day; it drops what the type has no room for"),
        ("code", "override: every value fits"),
    ] {
        let told = column(&columns, name)["note"].clone();
        assert!(told.as_str().is_some_and(|told| told.contains(note)), "{name}: {told}");
    }
    assert_eq!(
        (&column(&columns, "id")["nullable"], &column(&columns, "doc")["nullable"]),
        (&json!(false), &json!(true))
    );
}

/// What an override may meet is said of the values that its column can hold.
#[test]
fn the_policy_and_the_note_of_an_override_are_about_values_that_there_can_be() {
    let database = Database::create("check_overrides");
    database.execute("CREATE TABLE t (a smallint, b bigint, c numeric, d date, e oid, f real, g json, h jsonb, i int)");
    let overrides =
        "a: 'decimal(10,2)', b: int4, c: int4, d: timestamp_tz, e: int8, f: float8, g: text, h: text, i: int4";
    let scratch = Scratch::with(&database, &[export("t", &format!("table: t\ncolumns: {{ {overrides} }}"))]);
    let columns = columns(&scratch.rivet(&["check", "--json"]).expect_exit(0));
    let told = ["a", "b", "c", "d", "e", "f", "g", "h", "i"].map(|name| {
        let column = column(&columns, name);
        (column["policy"].as_str().unwrap_or("-").to_owned(), column["note"].as_str().unwrap_or("-").to_owned())
    });
    let ends = "override: a value that does not fit ends the run";
    let expected = [
        ("-", ends),
        ("-", ends),
        ("error", ends),
        ("null", "override: as midnight"),
        ("-", "override: every value fits"),
        ("-", "override: every value fits"),
        ("-", "override: its text, not marked as JSON"),
        ("-", "override: its text, not marked as JSON"),
        ("-", "the override changes nothing"),
    ];
    assert_eq!(told, expected.map(|(policy, note)| (policy.to_owned(), note.to_owned())));
}

/// Programs read the canonical types of the manifest, people the words that they would write.
#[test]
fn the_table_speaks_the_language_of_the_configuration() {
    let (_database, scratch) = shop("check_words", SHOP);
    let shown = scratch.rivet(&["check", "--types"]).expect_exit(0);
    for (name, target) in [
        ("id", "int8"),
        ("moods", "list<text>"),
        ("grid", "list<list<int4>>"),
        ("pair", "struct<a: int4, at: timestamp_tz>"),
        ("during", "range<timestamp_tz>"),
    ] {
        let line = shown.stdout.lines().find(|line| line.trim_start().starts_with(&format!("{name} ")));
        assert!(line.is_some_and(|line| line.contains(&format!(" {target} "))), "{name}: {line:?}");
        assert!(line.is_some_and(|line| line.chars().count() < 140), "{name}: {line:?}");
    }
}

#[test]
fn what_is_told_is_what_a_run_delivers() {
    let (_database, scratch) = shop("check_and_run", SHOP);
    let checked = scratch.rivet(&["check", "--json"]).expect_exit(0).json()["exports"][0].clone();
    let summary = scratch.run_ok(&[]);
    let manifest = files::manifest(&scratch.run_dir(&run_id(&summary)));
    assert_eq!(checked["schema_fingerprint"], manifest["schema_fingerprint"]);
    let delivered = manifest["schema"].as_array().expect("a schema is a list of columns").iter();
    let delivered: Vec<_> =
        delivered.map(|c| (c["name"].clone(), c["column_type"].clone(), c["nullable"].clone())).collect();
    let told = checked["columns"].as_array().expect("an export has columns").iter();
    let told: Vec<_> = told.map(|c| (c["name"].clone(), c["target"].clone(), c["nullable"].clone())).collect();
    assert_eq!(told, delivered);
}

#[test]
fn strict_fails_over_columns_that_are_lossy_and_names_them() {
    let (_database, scratch) = shop("check_strict", SHOP);
    let refused = scratch.rivet(&["check", "--strict"]).expect_error(2, "RIVET_TYPES_LOSSY");
    drop(refused.expect_in_stderr("column \"when_text\" loses").expect_in_stdout("1 lossy"));
    let json = scratch.rivet(&["check", "--strict", "--json"]).expect_exit(2);
    assert_eq!(columns(&json).len(), 14, "what was found out is told all the same: {json}");
    let error: Value = serde_json::from_str(&json.stderr).expect("an error is JSON");
    assert_eq!(error["error"]["code"], "RIVET_TYPES_LOSSY");
    let (_database, scratch) = shop("check_not_lossy", "table: shop");
    drop(scratch.rivet(&["check", "--strict", "--types"]).expect_exit(0));
}

#[test]
fn nothing_is_written_and_no_row_is_read() {
    let (database, scratch) = shop("check_writes_nothing", "query: SELECT id, 1 / (id - 1) AS v FROM shop");
    let before = files::tree(scratch.path());
    let finished = scratch.rivet(&["check", "--types"]).expect_exit(0).expect_in_stdout("✓ shop  query");
    assert_eq!(files::tree(scratch.path()), before, "{finished}");
    assert!(!scratch.path().join("out").exists() && !scratch.path().join(".rivet").exists(), "{finished}");
    // A row that was read would have been divided by zero.
    drop(scratch.rivet(&["run"]).expect_exit(1));
    // Nor does it need what only a run needs.
    database.execute("CREATE ROLE check_reader LOGIN; GRANT SELECT ON shop TO check_reader");
    scratch.write_config(&config(&database.url_as("check_reader"), &[export("shop", "table: shop")]));
    drop(scratch.rivet(&["check"]).expect_exit(0));
    database.execute("REVOKE SELECT ON shop FROM check_reader");
    drop(scratch.rivet(&["check"]).expect_error(2, "RIVET_SOURCE_DENIED"));
    database.execute("DROP ROLE check_reader");
}

#[test]
fn the_short_verdict_names_relation_columns_rows_and_destination() {
    let (_database, scratch) = shop("check_short", SHOP);
    let finished = scratch.rivet(&["check"]).expect_exit(0);
    let out = scratch.path().join("out").display().to_string();
    for said in [
        "✓ shop  public.shop",
        "14 columns: 6 exact, 5 compatible, 2 logical_string, 1 lossy",
        "about 50",
        &out,
        "xxh3:",
    ] {
        assert!(finished.stdout.contains(said), "{said:?}: {finished}");
    }
    assert!(!finished.stdout.contains("tstzrange"), "columns are for --types: {finished}");
    assert_eq!(finished.stderr, "", "{finished}");
}

#[test]
fn an_export_that_cannot_be_hides_no_other() {
    let database = Database::create("check_several");
    database.execute("CREATE TABLE orders (id int PRIMARY KEY)");
    let exports = [
        export("gone", "table: ordres"),
        export("orders", "table: orders"),
        export("bad", "query: SELECT 1 AS a, 2 AS a"),
    ];
    let scratch = Scratch::with(&database, &exports);
    let finished = scratch.rivet(&["check"]).expect_exit(2).expect_in_stdout("✓ orders  public.orders");
    let finished = finished.expect_in_stderr("export \"gone\"").expect_in_stderr("RIVET_SOURCE_MISSING");
    drop(finished.expect_in_stderr("export \"bad\"").expect_in_stderr("RIVET_CONFIG_INVALID"));
    let one = scratch.rivet(&["check", "-e", "orders", "--json"]).expect_exit(0).json();
    assert_eq!(one["exports"][0]["export"], "orders");
    drop(scratch.rivet(&["check", "-e", "ordrs"]).expect_error(2, "RIVET_CONFIG_UNKNOWN_EXPORT"));
}

#[test]
fn a_destination_that_could_not_be_written_is_told_beforehand() {
    let database = Database::create("check_destination");
    database.execute("CREATE TABLE orders (id int PRIMARY KEY)");
    let scratch = Scratch::with(&database, &[export("orders", "table: orders")]);
    scratch.write("out", b"a file");
    drop(scratch.rivet(&["check"]).expect_error(5, "RIVET_DESTINATION_FOREIGN").expect_in_stdout("✗ orders"));
    std::fs::remove_file(scratch.path().join("out")).expect("it is there");
    std::fs::create_dir(scratch.path().join("out")).expect("it is not there any more");
    let read_only = std::os::unix::fs::PermissionsExt::from_mode(0o555);
    std::fs::set_permissions(scratch.path().join("out"), read_only).expect("it is ours");
    let finished = Rivet::new(&scratch).bound_by_permissions().run(&["check"]);
    drop(finished.expect_error(6, "RIVET_DESTINATION_UNWRITABLE"));
}

#[test]
fn a_decimal_that_only_the_values_tell_is_announced_as_such() {
    let (_database, scratch) = shop("check_probe", "table: shop\ntypes: { numeric: probe }");
    let finished = scratch.rivet(&["check", "--json"]).expect_exit(0);
    let amount = column(&columns(&finished), "amount");
    assert_eq!(
        (&amount["target"], &amount["fidelity"], &amount["policy"]),
        (&json!("by probe"), &json!("exact"), &json!("error"))
    );
    assert_eq!(finished.json()["exports"][0]["schema_fingerprint"], Value::Null, "{finished}");
    drop(scratch.rivet(&["check", "--types"]).expect_exit(0).expect_in_stdout("by probe"));
}

#[test]
fn what_becomes_of_arrays_is_told_before_one_of_other_dimensions_ends_a_run() {
    let database = Database::create("check_arrays");
    database.execute("CREATE TABLE t (id int PRIMARY KEY, v int[], w int[][])");
    let told = |types: &str| {
        let scratch = Scratch::with(&database, &[export("lists", &format!("table: t\n{types}"))]);
        let columns = columns(&scratch.rivet(&["check", "--json"]).expect_exit(0));
        ["v", "w"].map(|name| {
            let found = column(&columns, name);
            (found["target"].as_str().unwrap_or("").to_owned(), found["note"].as_str().unwrap_or("").to_owned())
        })
    };
    let [(v, why_v), (w, why_w)] = told("");
    assert!(v == "list<int32>" && why_v == "of 1 dimension, or the run ends", "{v}: {why_v}");
    assert!(w == "list<list<int32>>" && why_w == "of 2 dimensions, or the run ends", "{w}: {why_w}");
    for (target, note) in told("types: { arrays: probe }") {
        assert!(target == "by probe" && note.contains("as many dimensions as all values"), "{target}: {note}");
    }
    for (target, note) in told("types: { arrays: text }") {
        assert!(target == "text" && note.contains("text by `types.arrays`"), "{target}: {note}");
    }
}

#[test]
fn the_policy_is_the_one_in_force() {
    let (_database, scratch) = shop("check_policy", "table: shop");
    let told = |scratch: &Scratch, types: &str| {
        let lines = format!("table: shop\ntypes: {{ special_values: {types} }}");
        scratch.write_config(&config(&_database.url(), &[export("shop", &lines)]));
        let columns = columns(&scratch.rivet(&["check", "--json"]).expect_exit(0));
        ["price", "day", "pair"].map(|name| column(&columns, name)["policy"].as_str().unwrap_or("-").to_owned())
    };
    assert_eq!(told(&scratch, "error"), ["error", "error", "error"]);
    assert_eq!(told(&scratch, "'null'"), ["null", "error", "null"]);
    assert_eq!(told(&scratch, "clamp"), ["clamp", "clamp", "clamp"]);
    assert_eq!(told(&scratch, "text"), ["text", "text", "text"]);
}

#[test]
fn a_server_that_is_not_there_is_told_once() {
    let scratch = Scratch::new();
    scratch.write_config(&config("postgres://u@127.0.0.1:1/d", &[export("a", "table: a"), export("b", "table: b")]));
    let finished = scratch.rivet(&["check"]).expect_error(6, "RIVET_SOURCE_UNREACHABLE");
    assert_eq!(finished.stderr.matches("error[").count(), 1, "{finished}");
}

//! Names of the greatest length that a server or a file system allows: an event holds 4 KiB, and no table is refused for
//! that.

mod support;

use serde_json::Value;
use support::database::Database;
use support::rivet::{Scratch, config, export, run_id};
use support::{files, oracle};

/// 32 columns, as many as a key can have, with names of 63 bytes.
fn names() -> Vec<String> {
    (0..32).map(|i| format!("{i:02}_{}", "k".repeat(60))).collect()
}

fn listed(item: impl Fn(&str) -> String) -> String {
    names().iter().map(|name| item(name)).collect::<Vec<_>>().join(", ")
}

/// Cuts `t` into seven slices, compares it with the server, and returns what it was divided by.
#[track_caller]
fn divided_by(database: &Database) -> Value {
    let scratch = Scratch::with(database, &[export("a", "table: t\nmode: chunked\nchunk_count: 7")]);
    let run = run_id(&scratch.run_ok(&["--validate"]));
    oracle::assert_same_rows(database, "SELECT * FROM t", &scratch.run_dir(&run));
    assert_eq!(files::parts(&scratch.run_dir(&run)).len(), 7);
    let told = scratch.rivet(&["replay", "--parts", "--events", "--json"]).expect_exit(0);
    let events = told.stdout.lines().map(|line| serde_json::from_str::<Value>(line).expect("an event is JSON"));
    let chosen: Vec<Value> = events.filter(|event| event["event"] == "split_chosen").collect();
    assert_eq!(chosen.len(), 1);
    chosen[0]["split"].clone()
}

#[test]
fn a_key_of_thirty_two_columns_with_the_longest_names_divides_its_table() {
    let database = Database::create("long_key");
    // Only the last column tells rows apart.
    database.execute(&format!(
        "CREATE TABLE t ({}, PRIMARY KEY ({}));
         INSERT INTO t SELECT {} FROM generate_series(1, 4000) AS g; ANALYZE t;",
        listed(|name| format!("\"{name}\" int")),
        listed(|name| format!("\"{name}\"")),
        listed(|name| if name.starts_with("31") { "g".to_owned() } else { "0".to_owned() }),
    ));
    let split = divided_by(&database);
    assert_eq!(split["columns"].as_array().map(Vec::len), Some(32), "{split}");
}

/// A table whose key has columns of a type with the longest name. Six of them, from the one numbered `first` on, are the
/// digits of a number to the base four; the others are the same in every row.
fn digits(name: &str, first: u32) -> Database {
    let database = Database::create(name);
    let of_type = format!("\"{}\".\"{}\"", "s".repeat(63), "t".repeat(63));
    database.execute(&format!(
        "CREATE SCHEMA \"{}\"; CREATE TYPE {of_type} AS ENUM ('a', 'b', 'c', 'd');
         CREATE TABLE t ({}, PRIMARY KEY ({}));
         INSERT INTO t SELECT {} FROM generate_series(0, 4095) AS g; ANALYZE t;",
        "s".repeat(63),
        listed(|name| format!("\"{name}\" {of_type}")),
        listed(|name| format!("\"{name}\"")),
        listed(|name| match name[..2].parse::<u32>().expect("a name begins with its number") {
            i if (first..first + 6).contains(&i) =>
                format!("(ARRAY['a', 'b', 'c', 'd'])[1 + (g >> {}) % 4]::{of_type}", 2 * (first + 5 - i)),
            _ => format!("'a'::{of_type}"),
        }),
    ));
    database
}

#[test]
fn a_key_whose_types_have_the_longest_names_too_divides_its_table_by_the_columns_that_fit() {
    let split = divided_by(&digits("long_types", 2));
    let columns = split["columns"].as_array().map(Vec::len).expect("it is divided by its key");
    assert!((8..32).contains(&columns), "{columns} columns");
}

#[test]
fn a_key_whose_columns_that_fit_tell_no_rows_apart_leaves_the_table_to_its_pages() {
    let split = divided_by(&digits("long_tail", 26));
    assert_eq!(split["kind"], "pages", "{split}");
}

#[cfg(feature = "failpoints")]
#[test]
fn a_file_that_nobody_knows_is_set_aside_however_long_its_path_is() {
    let database = Database::create("long_path");
    database.execute("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 100)");
    let scratch = Scratch::with(&database, &[export("a", "table: t")]);
    let killed = support::rivet::Rivet::new(&scratch).env("RIVET_FAILPOINTS", "part.synced=kill").run(&["run"]);
    assert!(killed.killed(), "{killed}");
    let run = run_id(&scratch.rivet(&["runs", "--json"]).expect_exit(0).summaries()[0]);
    let folder = vec!["f".repeat(200); 9].join("/");
    let unknown = format!("{folder}/{}", "x".repeat(200));
    std::fs::create_dir_all(scratch.run_dir(&run).join(&folder)).expect("deep folders can be made");
    std::fs::write(scratch.run_dir(&run).join(&unknown), "unknown").expect("a file can be written");
    scratch.resume_ok(&run);
    let shelf = scratch.run_dir(&run).join("_quarantine").join(&run).join(&unknown);
    assert_eq!(std::fs::read(shelf).expect("it was moved there"), b"unknown");
    scratch.rivet(&["replay", "--parts"]).expect_exit(0);
}

#[test]
fn a_destination_whose_path_does_not_fit_is_named() {
    let scratch = Scratch::new();
    let path = vec!["d".repeat(200); 11].join("/");
    let export = export("a", "table: t").replace("path: ./out", &format!("path: '{path}'"));
    scratch.write_config(&config("postgres://postgres@127.0.0.1:1/x", &[export]));
    let refused = scratch.rivet(&["run"]).expect_error(1, "RIVET_JOURNAL_EVENT_TOO_LARGE");
    let _ = refused.expect_in_stderr("destination").expect_in_stderr("dddd");
}

//! What an error says to do next can be done, and helps.

mod support;

use support::database::Database;
use support::rivet::{Scratch, config, export, run_id};

fn small(name: &str) -> Database {
    let database = Database::create(name);
    database.execute("CREATE TABLE t (id int PRIMARY KEY, name text); INSERT INTO t SELECT g, 'n' || g FROM generate_series(1, 200) AS g; ANALYZE t");
    database
}

#[test]
fn an_output_that_is_gone_does_not_match_and_a_directory_that_never_was_is_a_wrong_name() {
    let database = small("gone");
    let scratch = Scratch::with(&database, &[export("a", "table: t"), export("b", "table: nothing")]);
    let runs = scratch.rivet(&["run", "-q", "--json"]).expect_exit(2).summaries();
    let (done, failed) = (run_id(&runs[0]), run_id(&runs[1]));
    std::fs::remove_dir_all(scratch.run_dir(&done)).expect("an output can be removed");
    let gone = scratch.rivet(&["validate", &done]).expect_error(3, "RIVET_VALIDATION_FAILED");
    gone.expect_in_stderr(&format!("the output of {done} is gone")).expect_in_stderr("rivet run --fresh");
    let gone = scratch.rivet(&["validate", &done, "--json"]).expect_error(3, "RIVET_VALIDATION_FAILED");
    assert_eq!(gone.stdout, "", "{gone}");
    // A run that ended before it made its directory never had one.
    let _ = std::fs::remove_dir_all(scratch.run_dir(&failed));
    let none = scratch.rivet(&["validate", &failed]).expect_error(3, "RIVET_VALIDATION_FAILED");
    none.expect_in_stderr("has no output, its status is failed");
    let long = "n".repeat(300);
    for (prefix, what) in [
        ("nosuch", "does not exist"),
        ("rivet.yaml", "is not a directory"),
        ("rivet.yaml/x", "does not exist"),
        (&long, "does not exist"),
    ] {
        let wrong = scratch.rivet(&["validate", "--prefix", prefix]).expect_error(2, "RIVET_USAGE");
        wrong.expect_in_stderr(what).expect_nowhere("system's log");
    }
}

#[test]
fn a_path_that_is_too_long_is_to_be_shortened_and_not_blamed_on_the_disk() {
    let database = small("too_long");
    let scratch = Scratch::new();
    let entry = export("a", "table: t").replace("./out", &format!("./{}", "n".repeat(256)));
    scratch.write_config(&config(&database.url(), &[entry]));
    for words in [&["run", "-q"][..], &["check"]] {
        let refused = scratch.rivet(words).expect_error(6, "RIVET_DESTINATION_IO");
        refused.expect_in_stderr("Shorten the path").expect_nowhere("system's log");
    }
}

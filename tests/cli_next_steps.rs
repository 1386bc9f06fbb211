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

/// A project whose run was killed when its first part counted.
#[cfg(feature = "failpoints")]
fn killed(database: &Database) -> (Scratch, String) {
    let scratch = Scratch::with(database, &[export("a", SLICED)]);
    let rivet = support::rivet::Rivet::new(&scratch).env("RIVET_FAILPOINTS", "part.created@2=kill");
    let killed = rivet.run(&["run", "-q"]);
    assert!(killed.killed(), "{killed}");
    let run = run_id(&scratch.rivet(&["runs", "--json"]).expect_exit(0).summaries()[0]);
    (scratch, run)
}

#[cfg(feature = "failpoints")]
const SLICED: &str = "table: t\nmode: chunked\nchunk_count: 3\ntuning: { parallel: 1 }";

#[cfg(feature = "failpoints")]
#[test]
fn a_run_that_was_abandoned_has_no_next_step() {
    let database = small("abandoned");
    let (scratch, run) = killed(&database);
    scratch.rivet(&["status", &run]).expect_exit(0).expect_in_stdout(&format!("rivet resume {run}"));
    scratch.rivet(&["run", "-q", "--fresh"]).expect_exit(0);
    for (words, exit) in [(&["status", &run][..], 0), (&["replay", "--run", &run], 0), (&["resume", &run], 5)] {
        let told = scratch.rivet(words).expect_exit(exit).expect_in_stdout("abandoned: ");
        told.expect_nowhere("rivet resume a-");
    }
}

#[cfg(feature = "failpoints")]
#[test]
fn what_keeps_a_run_from_going_on_is_named_and_the_same_command_is_not_the_next_step() {
    let database = small("changed");
    let (scratch, run) = killed(&database);
    let as_it_was = std::fs::read_to_string(scratch.path().join("rivet.yaml")).expect("it is there");
    for (from, to, said) in [
        ("table: t", "table: public.t", "what is read was t and is public.t"),
        ("table: t", "query: SELECT * FROM t\n    chunk_column: id", "what is read was t and is query"),
        ("parallel: 1 }", "parallel: 1 }\n    compression: snappy", "the compression was zstd and is snappy"),
        ("parallel: 1 }", "parallel: 1 }\n    consistency: restart", "the consistency was snapshot and is restart"),
        ("path: ./out", "path: ./elsewhere", "elsewhere"),
        ("chunk_count: 3", "chunk_count: 4", "in its chunks, the columns' types"),
        ("parallel: 1 }", "parallel: 1 }\n    compression_level: 3", "the compression's level"),
    ] {
        let changed = as_it_was.replacen(from, to, 1);
        assert_ne!(changed, as_it_was, "{from}");
        scratch.write_config(&changed);
        scratch.rivet(&["run", "-q"]).expect_error(5, "RIVET_RUN_CHANGED").expect_in_stderr(said);
        let refused = scratch.rivet(&["resume", &run, "-c", "rivet.yaml"]).expect_error(5, "RIVET_RUN_CHANGED");
        refused.expect_in_stderr(said).expect_nowhere("rivet resume");
    }
    scratch.write_config(&as_it_was);
    scratch.resume_ok(&run);
}

#[test]
fn a_resume_that_is_refused_does_not_say_success() {
    let database = small("refused");
    let scratch = Scratch::with(&database, &[export("a", "table: t")]);
    let summary = scratch.run_ok(&[]);
    let (run, part) = (run_id(&summary), summary["manifest_parts"][0]["path"].as_str().expect("a part has a path"));
    scratch.rivet(&["resume", &run]).expect_exit(0).expect_in_stdout("success");
    std::fs::remove_file(scratch.run_dir(&run).join(part)).expect("a part can be removed");
    let refused = scratch.rivet(&["resume", &run]).expect_error(5, "RIVET_DESTINATION_MISMATCH");
    assert_eq!(refused.stdout, "", "{refused}");
}

#[test]
fn a_configuration_that_the_journal_names_and_that_is_gone_is_looked_for_by_name() {
    let database = small("config_gone");
    let scratch = Scratch::with(&database, &[export("a", "table: t")]);
    let run = run_id(&scratch.run_ok(&[]));
    let (before, now) = (scratch.path().join("rivet.yaml"), scratch.path().join("moved.yaml"));
    std::fs::rename(before, now).expect("a file can be renamed");
    let missing = scratch.rivet(&["resume", &run]).expect_error(2, "RIVET_CONFIG_MISSING");
    missing.expect_in_stderr(&format!("which the journal of {run} names")).expect_in_stderr("with `-c FILE`");
    scratch.rivet(&["resume", &run, "-c", "moved.yaml"]).expect_exit(0);
    let other = scratch.rivet(&["resume", &run, "-c", "rivet.yaml", "--state-dir", ".rivet"]);
    other.expect_error(2, "RIVET_CONFIG_MISSING").expect_nowhere("the journal");
}

#[test]
fn before_the_first_run_there_is_nothing_to_read_and_that_is_how_it_is_put() {
    let scratch = Scratch::new();
    let told = |words: &[&str], hint: &str| {
        let missing = scratch.rivet(words).expect_error(2, "RIVET_JOURNAL_MISSING").expect_in_stderr(hint);
        missing.expect_in_stderr("nothing has run here yet: ").expect_nowhere("Name a journal directory");
    };
    let verbs = [&["runs"][..], &["status"], &["replay"], &["journal", "verify"], &["journal", "prune", "--keep", "1"]];
    verbs.iter().for_each(|words| told(words, "`rivet run -c FILE` begins"));
    scratch.write("my shop.yaml", b"source: {}\n");
    told(&["runs", "-c", "my shop.yaml"], "`rivet run -c 'my shop.yaml'` begins");
    told(&["status", "orders-01JD3M8Z5W6Q9T7R2K4X1V0YBN", "-c", "my shop.yaml"], "begins");
    scratch.write("rivet.yaml", b"source: {}\n");
    told(&["runs"], "`rivet run` begins");
    std::fs::create_dir(scratch.path().join(".rivet")).expect("a scratch directory can be written");
    told(&["runs"], "holds no journal");
    // A place that somebody named is more likely to be the wrong one.
    for words in [&["runs", "--state-dir", "nosuch"][..], &["replay", "--journal", "nosuch"]] {
        let missing = scratch.rivet(words).expect_error(2, "RIVET_JOURNAL_MISSING");
        missing.expect_in_stderr("Name a journal directory").expect_nowhere("nothing has run");
    }
}

#[test]
fn a_file_that_is_no_journal_is_not_called_a_directory() {
    let scratch = Scratch::new();
    scratch.write("notes.txt", b"hello\n");
    let foreign = scratch.rivet(&["replay", "--journal", "notes.txt"]).expect_error(5, "RIVET_JOURNAL_FOREIGN");
    foreign.expect_in_stderr("Name a file that `rivet journal export` wrote").expect_nowhere("state_dir");
}

/// The command after `next` on a screen, and what it says to do before.
#[track_caller]
fn next_of(finished: &support::rivet::Finished) -> (String, Vec<String>) {
    let next = finished.stdout.lines().find_map(|line| line.trim().strip_prefix("next"));
    let next = next.unwrap_or_else(|| panic!("no next step: {finished}")).trim();
    let (before, command) = next.split_once("rivet ").unwrap_or_else(|| panic!("no command: {next}"));
    (before.to_owned(), command.split(' ').map(str::to_owned).collect())
}

/// A value that has no room in its column is still there when the run is gone on with.
#[test]
fn after_a_value_that_does_not_fit_the_next_step_is_a_run_under_the_mended_configuration() {
    let database = small("unfit");
    database.execute("ALTER TABLE t ADD n numeric DEFAULT 1; UPDATE t SET n = 'NaN' WHERE id = 200");
    let lines = "table: t\nmode: chunked\nchunk_count: 3\ntuning: { parallel: 1 }\ncolumns: { n: 'decimal(10,2)' }";
    for (lines, has_parts) in [("table: t\ncolumns: { n: 'decimal(10,2)' }", false), (lines, true)] {
        let scratch = Scratch::new();
        scratch.write("shop.yaml", config(&database.url(), &[export("a", lines)]).as_bytes());
        let failed = scratch.rivet(&["run", "-q", "-c", "shop.yaml"]).expect_error(1, "RIVET_SOURCE_VALUE");
        let (before, next) = next_of(&failed);
        assert_eq!(before, "change what the error names, then ", "{failed}");
        let expected = if has_parts { "run -e a --fresh -c shop.yaml" } else { "run -e a -c shop.yaml" };
        assert_eq!(next.join(" "), expected, "{failed}");
        let run = run_id(&scratch.rivet(&["runs", "--json"]).expect_exit(0).summaries()[0]);
        // Wherever the run is shown, also where the journal alone knows the configuration.
        for words in [&["status"][..], &["resume", &run, "-q"], &["replay"]] {
            assert_eq!(next_of(&scratch.rivet(words)), (before.clone(), next.clone()), "{words:?}");
        }
        let mended = config(&database.url(), &[export("a", &lines.replace("'decimal(10,2)'", "text"))]);
        scratch.write("shop.yaml", mended.as_bytes());
        if has_parts {
            drop(scratch.rivet(&["run", "-q", "-c", "shop.yaml"]).expect_error(5, "RIVET_RUN_CHANGED"));
        }
        let next: Vec<&str> = next.iter().map(String::as_str).collect();
        drop(scratch.rivet(&next).expect_exit(0).expect_in_stdout("success"));
    }
}

/// A larger limit is no other definition: what was delivered stays.
#[test]
fn a_run_that_met_a_value_over_the_limit_is_gone_on_with_under_a_larger_one() {
    let database = small("oversize");
    database.execute("UPDATE t SET name = repeat('x', 2 << 20) WHERE id = 200");
    let lines = "table: t\nmode: chunked\nchunk_count: 3\ntuning: { parallel: 1, max_value_mb: 1 }";
    let scratch = Scratch::with(&database, &[export("a", lines)]);
    let failed = scratch.rivet(&["run", "-q"]).expect_error(1, "RIVET_SOURCE_VALUE");
    drop(failed.expect_in_stderr("Raise `tuning.max_value_mb`, with which the run can be resumed as well"));
    let run = run_id(&scratch.rivet(&["runs", "--json"]).expect_exit(0).summaries()[0]);
    scratch
        .write_config(&config(&database.url(), &[export("a", &lines.replace("max_value_mb: 1 ", "max_value_mb: 4 "))]));
    scratch.resume_ok(&run);
}

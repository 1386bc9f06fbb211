//! Journals from the command line: what hides nothing, what is repaired, what is kept, and who may write where.

mod support;

use std::fs;
use support::database::Database;
use support::rivet::{Rivet, Scratch, export, run_id};

fn small(name: &str) -> Database {
    let database = Database::create(name);
    database.execute("CREATE TABLE t (id int PRIMARY KEY, name text); INSERT INTO t SELECT g, 'n' || g FROM generate_series(1, 200) AS g; ANALYZE t");
    database
}

fn two_exports(name: &str) -> (Database, Scratch) {
    let database = small(name);
    let scratch = Scratch::with(&database, &[export("a", "table: t"), export("b", "table: t")]);
    scratch.rivet(&["run", "-q"]).expect_exit(0);
    (database, scratch)
}

#[test]
fn one_damaged_journal_hides_no_other_from_a_replay() {
    let (_database, scratch) = two_exports("replay_hidden");
    fs::remove_file(scratch.journal_dir("a").join("head")).expect("a journal has a head");
    let told = scratch.rivet(&["replay"]).expect_error(5, "RIVET_JOURNAL_HEADLESS").expect_in_stderr("export \"a\"");
    assert!(told.stdout.contains("✓ b  success"), "{told}");
    let json = scratch.rivet(&["replay", "--json"]).expect_exit(5);
    let names: Vec<_> = json.summaries().iter().map(|summary| summary["export_name"].clone()).collect();
    assert_eq!(names, ["b"]);
    let error: serde_json::Value = serde_json::from_str(json.stderr.trim()).expect("an error is JSON");
    assert_eq!(error["error"]["code"], "RIVET_JOURNAL_HEADLESS");
    let events = scratch.rivet(&["replay", "--events", "--json"]).expect_error(5, "RIVET_JOURNAL_HEADLESS");
    assert!(events.stdout.contains("run_planned"), "{events}");
}

#[test]
fn a_journal_without_a_head_gets_one_when_its_log_is_trusted() {
    let (database, scratch) = two_exports("headless");
    let head = scratch.journal_dir("a").join("head");
    fs::remove_file(&head).expect("a journal has a head");
    let refused = scratch.rivet(&["run", "-q", "-e", "a"]).expect_error(5, "RIVET_JOURNAL_HEADLESS");
    // The hint leads out.
    let refused = refused.expect_in_stderr("rivet journal repair --trust-log");
    drop(refused);
    scratch.rivet(&["journal", "verify", "--trust-log"]).expect_exit(0);
    assert!(!head.exists(), "a verification writes nothing");
    scratch.rivet(&["journal", "repair", "--trust-log", "--accept-loss"]).expect_error(2, "RIVET_USAGE");
    let repaired = scratch.rivet(&["journal", "repair", "--trust-log", "--json"]).expect_exit(0).json();
    let outcomes: Vec<_> =
        repaired["journals"].as_array().expect("a list").iter().map(|j| j["repaired"].clone()).collect();
    assert_eq!(outcomes, [true, false]);
    scratch.rivet(&["journal", "verify"]).expect_exit(0);
    scratch.rivet(&["replay"]).expect_exit(0);
    scratch.rivet(&["run", "-q"]).expect_exit(0);
    assert_eq!(scratch.rivet(&["runs", "--json"]).expect_exit(0).summaries().len(), 4, "no run was given up");
    drop(database);

    // What is lost beyond the head is not trusted away.
    fs::remove_dir_all(scratch.journal_dir("b").join("log")).expect("a journal has a log");
    scratch.rivet(&["journal", "repair", "-e", "b", "--trust-log"]).expect_error(5, "RIVET_JOURNAL_TRUNCATED");
}

#[test]
fn a_lock_names_the_run_that_is_worked_on() {
    let database = small("lock");
    let lines = "table: t\ntuning: { batch_size: 10, throttle_ms: 200 }";
    let scratch = Scratch::with(&database, &[export("a", lines)]);
    let mut first = Rivet::new(&scratch).spawn(&["run", "-q"]);
    let run = loop {
        assert!(first.is_running(), "{}", first.wait());
        let runs = scratch.rivet(&["runs", "--json"]);
        if runs.code() == Some(0) && !runs.summaries().is_empty() {
            break run_id(&runs.summary());
        }
        std::thread::yield_now();
    };
    let lock = fs::read_to_string(scratch.journal_dir("a").join("LOCK")).expect("a lock can be read");
    assert!(lock.contains(&format!("pid {}\n", first.id())) && lock.ends_with(&format!("run {run}\n")), "{lock}");
    scratch.rivet(&["run"]).expect_error(7, "RIVET_JOURNAL_BUSY").expect_in_stderr(&run);
    scratch.rivet(&["resume", &run]).expect_error(7, "RIVET_JOURNAL_BUSY").expect_in_stderr(&run);
    first.signal(rustix::process::Signal::INT);
    first.wait().expect_exit(130);
    assert_eq!(fs::read(scratch.journal_dir("a").join("LOCK")).expect("the file stays"), b"", "nobody holds it");
}

#[test]
fn a_prune_keeps_the_last_success_since_its_columns_are_what_the_next_run_is_compared_with() {
    let database = small("prune_baseline");
    let scratch = Scratch::with(&database, &[export("a", "table: t\non_schema_drift: fail")]);
    let ids: Vec<String> = (0..2).map(|_| run_id(&scratch.run_ok(&[]))).collect();
    database.execute("ALTER TABLE t ADD COLUMN extra int");
    scratch.rivet(&["run", "-q"]).expect_error(4, "RIVET_SCHEMA_DRIFT");
    let pruned = scratch.rivet(&["journal", "prune", "--keep", "1", "--json"]).expect_exit(0).json();
    assert_eq!((&pruned["journals"][0]["runs_removed"], &pruned["journals"][0]["runs_kept"]), (&1.into(), &2.into()));
    let left = scratch.rivet(&["runs", "--json"]).expect_exit(0).summaries();
    assert_eq!(run_id(&left[0]), ids[1]);
    scratch.rivet(&["run", "-q"]).expect_error(4, "RIVET_SCHEMA_DRIFT");
}

#[test]
fn a_journal_is_that_of_the_export_whose_name_its_directory_bears() {
    let (_database, scratch) = two_exports("import_other");
    let exported = scratch.rivet(&["journal", "export", "-e", "a"]).expect_exit(0);
    scratch.write("a.jsonl", exported.stdout.as_bytes());
    for into in ["copy/c", "copy/A", "a.copy"] {
        let refused = scratch.rivet(&["journal", "import", "a.jsonl", "--into", into]);
        refused.expect_error(5, "RIVET_JOURNAL_FOREIGN").expect_in_stderr("\"a\"");
        assert!(!scratch.path().join(into).exists(), "{into}");
    }
    scratch.rivet(&["journal", "import", "a.jsonl", "--into", "copy/a"]).expect_exit(0);
    // Put there by hand, it can be looked at and is not written into.
    fs::remove_dir_all(scratch.journal_dir("b")).expect("a journal can be removed");
    fs::rename(scratch.path().join("copy/a"), scratch.journal_dir("b")).expect("a journal can be moved");
    let before = support::files::tree(&scratch.path().join("out"));
    scratch.rivet(&["run", "-q", "-e", "b"]).expect_error(5, "RIVET_JOURNAL_FOREIGN").expect_in_stderr("\"a\"");
    assert_eq!(support::files::tree(&scratch.path().join("out")), before);
    assert_eq!(scratch.rivet(&["runs", "--json"]).expect_exit(0).summaries().len(), 2);
}

/// The verbs that are given a run read the journal of its export and no other: with hundreds of exports that is what
/// takes the time.
#[cfg(feature = "failpoints")]
#[test]
fn a_run_that_is_named_is_looked_for_in_the_journal_of_its_export() {
    let (_database, scratch) = two_exports("named");
    let runs = scratch.rivet(&["runs", "--json"]).expect_exit(0).summaries();
    let run = runs.iter().find(|run| run["export_name"] == "a").map(run_id).expect("there is a run of a");
    let trace = scratch.path().join("trace");
    let traced = Rivet::new(&scratch).env("RIVET_FAILPOINTS_TRACE", &trace);
    let copied = |words: &[&str]| {
        traced.run(words).expect_exit(0);
        let text = fs::read_to_string(&trace).expect("a trace is written");
        fs::remove_file(&trace).expect("it can be removed");
        text.lines().filter(|line| line.starts_with("reader.copied@")).count()
    };
    assert_eq!(copied(&["status"]), 2, "without a run both are read");
    for words in [&["status", &run][..], &["validate", &run], &["replay", "--run", &run]] {
        assert_eq!(copied(words), 1, "{words:?}");
    }
    // A journal under another name is found all the same, and an id leads nowhere else.
    fs::rename(scratch.journal_dir("a"), scratch.journal_dir("a-copy")).expect("a journal can be moved");
    assert_eq!(run_id(&scratch.rivet(&["status", &run, "--json"]).expect_exit(0).summary()), run);
    scratch.rivet(&["status", "../b-1"]).expect_error(2, "RIVET_RUN_UNKNOWN");
    scratch.rivet(&["status", "a-1"]).expect_error(2, "RIVET_RUN_UNKNOWN");
}

#[cfg(feature = "failpoints")]
#[test]
fn copies_that_a_killed_reader_left_are_swept_by_the_next_and_those_of_a_live_one_are_not() {
    use std::os::unix::fs::PermissionsExt;
    let (_database, scratch) = two_exports("copies");
    let temporary = scratch.path().join("tmp");
    fs::create_dir(&temporary).expect("a scratch directory can be written");
    let reader = Rivet::new(&scratch).env("TMPDIR", &temporary);
    let copies = || -> Vec<String> {
        let entries = fs::read_dir(&temporary).expect("it is there").flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    };
    let mut paused = reader.clone().env("RIVET_FAILPOINTS", "reader.copied=pause:600000").spawn(&["runs"]);
    while copies().is_empty() || !holds_a_log(&temporary.join(&copies()[0])) {
        assert!(paused.is_running(), "{}", paused.wait());
        std::thread::yield_now();
    }
    let left = copies();
    let mode = fs::metadata(temporary.join(&left[0])).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o700, "others may not look into the copy");
    reader.run(&["runs"]).expect_exit(0);
    assert_eq!(copies(), left, "a reader that lives keeps its copy");
    paused.signal(rustix::process::Signal::KILL);
    assert!(paused.wait().killed());
    fs::create_dir(temporary.join("rivet-journal-of-somebody")).expect("it can be made");
    reader.run(&["runs"]).expect_exit(0);
    assert_eq!(copies(), ["rivet-journal-of-somebody"], "what a killed reader left is gone, and nothing else");
}

#[cfg(feature = "failpoints")]
fn holds_a_log(copy: &std::path::Path) -> bool {
    copy.join("db").exists()
}

#[test]
fn every_verb_that_needs_descriptors_says_so_when_there_are_none() {
    let database = small("descriptors");
    let scratch =
        Scratch::with(&database, &[export("a", "table: t\nmode: chunked\nchunk_count: 4\ntuning: { parallel: 4 }")]);
    let mut seen = 0;
    for (words, limits) in [(["run", "-q"], 4..48), (["runs", "--json"], 4..24)] {
        for limit in limits {
            let script = format!("ulimit -n {limit}; exec \"$0\" \"$@\"");
            let finished = Rivet::new(&scratch).through(&["sh", "-c", &script]).run(&words);
            assert!(!finished.stderr.contains("panicked"), "ulimit -n {limit}: {finished}");
            match finished.code() {
                Some(0) => {}
                // The loader or the shell itself found no descriptor: rivet did not begin.
                Some(126 | 127) if !finished.stderr.contains("RIVET_") => {}
                _ => {
                    seen += 1;
                    let told = finished.expect_exit(6);
                    assert!(
                        format!("{}{}", told.stdout, told.stderr).contains("RIVET_SYSTEM_LIMIT"),
                        "ulimit -n {limit}: {told}"
                    );
                }
            }
        }
    }
    assert!(seen >= 5, "{seen} limits were too low");
    scratch.rivet(&["run", "-q"]).expect_exit(0);
}

#[test]
fn a_journal_that_may_not_be_read_is_named_hides_no_other_and_is_not_called_damaged() {
    use std::os::unix::fs::PermissionsExt;
    let (_database, scratch) = two_exports("forbidden");
    let bound = Rivet::new(&scratch).bound_by_permissions();
    let state = scratch.path().join(".rivet");
    fs::create_dir(state.join("lost+found")).expect("a state directory can be written");
    let mode = |path: &str, mode: u32| {
        fs::set_permissions(state.join(path), PermissionsExt::from_mode(mode)).expect("the owner may");
    };
    // What no export can be named is nobody's journal.
    mode("lost+found", 0);
    bound.run(&["runs"]).expect_exit(0);
    for (path, was) in [("a", 0o755), ("a/log", 0o755), ("a/log/db", 0o644), ("a/FORMAT", 0o644), ("a/head", 0o644)] {
        mode(path, 0);
        for words in [&["runs"][..], &["status"], &["replay"], &["journal", "verify"]] {
            let told = bound.run(words).expect_error(5, "RIVET_JOURNAL_UNOPENABLE").expect_in_stderr("export \"a\"");
            let told = told.expect_in_stderr("Check the permissions").expect_nowhere("--accept-loss");
            assert!(told.stdout.contains("b"), "{path}: {told}");
        }
        let one = bound.run(&["runs", "--journal", ".rivet/a"]).expect_error(5, "RIVET_JOURNAL_UNOPENABLE");
        one.expect_in_stderr("Check the permissions");
        bound.run(&["run", "-q", "-e", "a"]).expect_error(6, "RIVET_JOURNAL_UNWRITABLE");
        bound.run(&["journal", "repair", "--accept-loss"]).expect_error(6, "RIVET_JOURNAL_UNWRITABLE");
        bound.run(&["journal", "prune", "--keep", "1"]).expect_error(6, "RIVET_JOURNAL_UNWRITABLE");
        mode(path, was);
    }
    mode("a", 0);
    mode("b", 0);
    bound.run(&["runs"]).expect_error(5, "RIVET_JOURNAL_UNOPENABLE").expect_in_stderr("export \"b\"");
    mode("", 0);
    bound.run(&["runs"]).expect_error(5, "RIVET_JOURNAL_UNOPENABLE").expect_in_stderr("Check the permissions");
    for path in ["", "a", "b", "lost+found"] {
        mode(path, 0o755);
    }
    scratch.rivet(&["journal", "verify"]).expect_exit(0);
    assert_eq!(scratch.rivet(&["runs", "--json"]).expect_exit(0).summaries().len(), 2, "nothing was given up");
}

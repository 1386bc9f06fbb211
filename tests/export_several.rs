//! Several exports in one command: side by side, stopped, and one of them in trouble.

mod support;

use rustix::process::Signal;
use std::fs;
use support::database::Database;
use support::rivet::{Rivet, Scratch, config, export, run_id};
use support::{files, oracle};

fn filled(name: &str) -> Database {
    let database = Database::create(name);
    database.execute("CREATE TABLE t (id int PRIMARY KEY, name text); INSERT INTO t SELECT g, 'n' || g FROM generate_series(1, 2000) AS g; ANALYZE t");
    database
}

#[test]
fn exports_that_a_signal_kept_from_beginning_are_one_line_with_a_next_step_that_exists() {
    let database = filled("not_begun");
    let slow = "table: t\ntuning: { batch_size: 20, throttle_ms: 100 }";
    let exports =
        [export("done", "table: t"), export("slow", slow), export("third", "table: t"), export("fourth", "table: t")];
    let scratch = Scratch::with(&database, &exports);
    let mut running = Rivet::new(&scratch).spawn(&["run", "-q"]);
    while !scratch.journal_dir("slow").join("log").exists() {
        assert!(running.is_running(), "{}", running.wait());
        std::thread::yield_now();
    }
    running.signal(Signal::INT);
    let stopped = running.wait().expect_exit(130);
    assert_eq!(stopped.stderr.matches("error[RIVET_RUN_INTERRUPTED]").count(), 2, "{stopped}");
    assert!(stopped.stderr.contains("2 exports were not begun: third, fourth"), "{stopped}");
    assert!(stopped.stderr.contains("Run the same command again, with `-e third -e fourth`"), "{stopped}");
    assert!(!stopped.stderr.contains("Resume it with the command that is printed"), "{stopped}");
    assert!(stopped.stdout.contains("rivet resume slow-"), "{stopped}");
}

#[cfg(feature = "failpoints")]
#[test]
fn a_panic_is_a_defect_of_one_run_whose_journal_says_so_and_which_can_be_resumed() {
    let database = filled("panic");
    let scratch = Scratch::with(&database, &[export("a", "table: t"), export("b", "table: t")]);
    let panicking = Rivet::new(&scratch).env("RIVET_FAILPOINTS", "manifest.written=panic");
    let finished = panicking.run(&["run", "--json"]);
    assert_eq!(finished.code(), Some(1), "{finished}");
    let summaries = finished.summaries();
    assert_eq!((&summaries[0]["status"], &summaries[1]["status"]), (&"failed".into(), &"success".into()), "{finished}");
    assert!(finished.stderr.contains("RIVET_INTERNAL"), "{finished}");
    let run = run_id(&summaries[0]);
    let told = scratch.rivet(&["replay", "--run", &run]).expect_exit(0);
    assert!(told.stdout.contains("run_finished"), "the journal does not know how the run ended: {told}");

    // The same in a resume.
    let again = panicking.run(&["resume", &run, "--json"]);
    assert_eq!(again.code(), Some(1), "{again}");
    assert_eq!((run_id(&again.summary()), &again.summary()["status"]), (run.clone(), &"failed".into()));
    // And in the middle of an event's way into the journal.
    let torn =
        Rivet::new(&scratch).env("RIVET_FAILPOINTS", "journal.append.before@2=panic").run(&["resume", &run, "--json"]);
    assert_eq!((torn.code(), &torn.summary()["status"]), (Some(1), &"failed".into()), "{torn}");
    let summary = scratch.resume_ok(&run);
    assert_eq!(summary["status"], "success");
    oracle::assert_same_rows(&database, "SELECT * FROM t", &scratch.run_dir(&run));
    scratch.rivet(&["replay"]).expect_exit(0);
}

/// A process of several threads runs the exports in lanes. What they share is the budget, the pointer at the destination
/// and the two streams of output.
#[test]
fn exports_side_by_side_share_the_pointer_and_the_budget_and_each_delivers() {
    let database = filled("parallel");
    let lines = "table: t\nmode: chunked\nchunk_count: 3\ntuning: { parallel: 2, memory_budget_mb: 16 }";
    let names = ["a", "b", "c", "d", "e"];
    let exports: Vec<String> = names.iter().map(|name| export(name, lines)).collect();
    let scratch = Scratch::new();
    let mut yaml = config(&database.url(), &exports);
    yaml.push_str("parallel_exports: true\n");
    scratch.write_config(&yaml);
    // With the failpoints compiled in, the first to change the pointer takes its time between reading and replacing it.
    let rivet = Rivet::new(&scratch).env("RIVET_FAILPOINTS", "latest.synced@1=pause:1000");
    for round in 1..=2 {
        let finished = rivet.run(&["run", "--json", "--validate"]).expect_exit(0);
        let summaries = finished.summaries();
        let told: Vec<_> =
            summaries.iter().map(|summary| summary["export_name"].as_str().unwrap_or_default()).collect();
        assert_eq!(told, names, "in the order of the file, round {round}");
        for summary in &summaries {
            assert_eq!((&summary["status"], &summary["validated"]), (&"success".into(), &true.into()));
            oracle::assert_same_rows(&database, "SELECT * FROM t", &scratch.run_dir(&run_id(summary)));
        }
        // One pointer for all of them: each lane took its turn, and nobody's entry was lost.
        let pointer = files::tree(&scratch.path().join("out"))
            .into_iter()
            .find(|name| !name.contains('/') && name.ends_with(".json"));
        let pointer = pointer.expect("the destination has a pointer");
        let text = fs::read_to_string(scratch.path().join("out").join(&pointer)).expect("the pointer can be read");
        for summary in &summaries {
            assert!(text.contains(&run_id(summary)), "{pointer} does not name {}: {text}", run_id(summary));
        }
    }
}

#[test]
fn exports_side_by_side_overlap_in_time() {
    let database = filled("overlap");
    if std::thread::available_parallelism().map_or(1, usize::from) < 2 {
        // One core is one lane; there is nothing to overlap.
        return;
    }
    let slow = "table: t\ntuning: { batch_size: 100, throttle_ms: 60 }";
    let scratch = Scratch::new();
    let mut yaml = config(&database.url(), &[export("a", slow), export("b", slow)]);
    yaml.push_str("parallel_exports: true\n");
    scratch.write_config(&yaml);
    let mut running = Rivet::new(&scratch).spawn(&["run", "-q"]);
    loop {
        assert!(running.is_running(), "the two were never at work at once: {}", running.wait());
        let status = scratch.rivet(&["status", "--json"]);
        if status.code() == Some(0) && status.json()["live"].as_array().is_some_and(|live| live.len() == 2) {
            break;
        }
    }
    running.wait().expect_exit(0);
}

/// The budget bounds how many slices an export reads at once: two exports at a time have half of it each.
#[test]
fn exports_side_by_side_divide_the_memory_budget() {
    let database = Database::create("budget");
    database.execute("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 5000); ANALYZE t");
    if std::thread::available_parallelism().map_or(1, usize::from) < 2 {
        // One core is one lane, which has the whole budget.
        return;
    }
    let lines = "table: t\nmode: chunked\nchunk_count: 8\ntuning: { parallel: 8, memory_budget_mb: 32 }";
    let at_once = |parallel: bool| -> u32 {
        let scratch = Scratch::new();
        let exports = [export("a", lines), export("b", lines)];
        scratch.write_config(&format!("{}parallel_exports: {parallel}\n", config(&database.url(), &exports)));
        let printed = scratch.rivet(&["run", "-q", "--json"]).expect_exit(0).json();
        let warnings = printed["warnings"].as_array().expect("warnings are listed").iter();
        let reduced = warnings.filter(|warning| warning["code"] == "parallel_reduced" && warning["export"] == "a");
        let messages: Vec<&str> = reduced.filter_map(|warning| warning["message"].as_str()).collect();
        let [message] = messages[..] else { panic!("one warning: {printed}") };
        message.split(' ').next().and_then(|word| word.parse().ok()).expect("a number of slices")
    };
    let (alone, beside) = (at_once(false), at_once(true));
    assert!(beside < alone && alone < 8, "{alone} slices at once alone, {beside} beside another export");
}

//! A server, a network and a person that interrupt an export: it retries, or stops with a class and is resumed, and the
//! rows are those of the server.

mod support;

use rustix::process::Signal;
use std::time::{Duration, Instant};
use support::cluster::OwnCluster;
use support::database::Database;
use support::proxy::{Fault, Proxy};
use support::rivet::{Finished, Rivet, Running, Scratch, config, export, run_id};
use support::{files, oracle};

const ROWS: u32 = 20_000;

fn filled(database: &Database) {
    database.execute(&format!(
        "CREATE TABLE t (id int PRIMARY KEY, noise text);
         INSERT INTO t SELECT g, md5(g::text) || md5((g + 1)::text) FROM generate_series(1, {ROWS}) AS g; ANALYZE t;"
    ));
}

/// Slow enough that there is a middle, in ten slices of 2,000 rows.
fn slow(retries: u32) -> String {
    format!(
        "table: t\nmode: chunked\nchunk_count: 10\n\
         tuning: {{ parallel: 2, batch_size: 200, throttle_ms: 15, max_retries: {retries}, retry_backoff_ms: 20 }}"
    )
}

/// A run that has delivered something and has something left.
fn in_the_middle(scratch: &Scratch) -> Running {
    let mut running = Rivet::new(scratch).spawn(&["run", "-c", "rivet.yaml", "--json"]);
    while !files::tree(&scratch.path().join("out")).iter().any(|name| name.ends_with(".parquet")) {
        assert!(running.is_running(), "{}", running.wait());
        std::thread::yield_now();
    }
    running
}

/// Success at once, or a class that says that trying again makes sense, and then success.
#[track_caller]
fn assert_delivered(database: &Database, scratch: &Scratch, finished: Finished) -> String {
    let summary = match finished.code() {
        Some(0) => finished.expect_exit(0).summary(),
        code => {
            let run = run_id(&finished.summary());
            assert!(!scratch.run_dir(&run).join("_SUCCESS").exists(), "success was claimed: {finished}");
            files::assert_no_half_part(&scratch.run_dir(&run));
            assert_eq!(code, Some(6), "{finished}");
            scratch.resume_ok(&run)
        }
    };
    assert_eq!(summary["total_rows"], ROWS);
    let run = run_id(&summary);
    oracle::assert_same_rows(database, "SELECT * FROM t", &scratch.run_dir(&run));
    run
}

#[test]
fn a_connection_that_breaks_anywhere_is_retried_and_no_row_is_lost_or_doubled() {
    let database = Database::create("cut");
    filled(&database);
    let mut happened = 0;
    for limit in [1, 100, 400, 1_000, 3_000, 10_000, 50_000, 120_000, 200_000] {
        let proxy = Proxy::start(database.server.port, Fault::CutAfter(limit));
        let url = format!("postgres://postgres@127.0.0.1:{}/{}", proxy.port, database.name);
        let lines = "table: t\nmode: chunked\nchunk_count: 5\ntuning: { parallel: 2, retry_backoff_ms: 20 }";
        let scratch = Scratch::new();
        scratch.write_config(&config(&url, &[export("orders", lines)]));
        let finished = scratch.rivet(&["run", "-c", "rivet.yaml", "--json"]);
        happened += u32::from(proxy.fault_happened());
        assert_delivered(&database, &scratch, finished);
    }
    assert!(happened >= 7, "only {happened} of 9 connections were cut: the proxy was not in the way");
}

#[test]
fn a_connection_on_which_nothing_comes_any_more_is_given_up_in_bounded_time() {
    let database = Database::create("stall");
    filled(&database);
    for limit in [1, 1_000, 50_000] {
        let proxy = Proxy::start(database.server.port, Fault::StallAfter(limit));
        let url = format!("postgres://postgres@127.0.0.1:{}/{}", proxy.port, database.name);
        let lines = "table: t\nmode: chunked\nchunk_count: 5\n\
                     tuning: { parallel: 2, stall_timeout_s: 1, retry_backoff_ms: 20 }";
        let scratch = Scratch::new();
        scratch.write_config(&config(&url, &[export("orders", lines)]));
        let started = Instant::now();
        let finished = scratch.rivet(&["run", "-c", "rivet.yaml", "--json"]);
        assert!(proxy.fault_happened(), "no connection sent {limit} bytes");
        assert!(started.elapsed() < Duration::from_secs(60), "{:?} for a stall of one second", started.elapsed());
        assert_delivered(&database, &scratch, finished);
    }
}

#[test]
fn backends_that_an_administrator_ends_are_replaced() {
    let database = Database::create("terminated");
    filled(&database);
    let scratch = Scratch::with(&database, &[export("orders", &slow(3))]);
    let running = in_the_middle(&scratch);
    let ended = database.query(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
         WHERE datname = current_database() AND pid <> pg_backend_pid() AND query ILIKE '%COPY (%'",
    );
    assert!(!ended.is_empty(), "no COPY was running");
    assert_delivered(&database, &scratch, running.wait());
}

#[test]
fn losing_every_session_and_with_them_the_snapshot_is_survived() {
    let database = Database::create("all_sessions");
    filled(&database);
    let scratch = Scratch::with(&database, &[export("orders", &slow(3))]);
    let running = in_the_middle(&scratch);
    let ended = database.query(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
         WHERE datname = current_database() AND pid <> pg_backend_pid()",
    );
    assert!(ended.len() >= 2, "{} sessions", ended.len());
    let run = assert_delivered(&database, &scratch, running.wait());
    // Nothing that was delivered is read again, and each part says which snapshot it is from.
    let manifest = files::manifest(&scratch.run_dir(&run));
    let consistency = &manifest["consistency"];
    let snapshots = consistency["snapshots"].as_array().expect("a manifest lists its snapshots");
    assert_eq!((&consistency["kind"], snapshots.len()), (&"mixed".into(), 2), "{manifest}");
    let read_in = |number: u64| {
        manifest["parts"].as_array().expect("parts").iter().filter(|part| part["snapshot"] == number).count()
    };
    assert!(read_in(0) >= 1 && read_in(1) >= 1 && read_in(0) + read_in(1) == 10, "{manifest}");
}

#[test]
fn cancelled_statements_are_tried_again() {
    let database = Database::create("cancelled");
    filled(&database);
    let scratch = Scratch::with(&database, &[export("orders", &slow(3))]);
    let running = in_the_middle(&scratch);
    database.query(
        "SELECT pg_cancel_backend(pid) FROM pg_stat_activity
         WHERE datname = current_database() AND pid <> pg_backend_pid() AND query ILIKE '%COPY (%'",
    );
    assert_delivered(&database, &scratch, running.wait());
}

#[test]
fn a_server_that_restarts_in_the_middle_is_resumed_from_when_it_is_back() {
    for mode in ["fast", "immediate"] {
        let cluster = OwnCluster::start();
        let database = Database::create_in(&cluster.server, "restart");
        filled(&database);
        database.execute("CHECKPOINT");
        let scratch = Scratch::with(&database, &[export("orders", &slow(0))]);
        let running = in_the_middle(&scratch);
        cluster.stop(mode);
        let finished = running.wait();
        assert_eq!(finished.code(), Some(6), "{finished}");
        let run = run_id(&finished.summary());
        // While it is away, a resume says so and spoils nothing.
        scratch.rivet(&["resume", &run, "-c", "rivet.yaml", "--json"]).expect_error(6, "RIVET_SOURCE_UNREACHABLE");
        cluster.start_again();
        assert_delivered(&database, &scratch, finished);
    }
}

#[test]
fn a_signal_stops_a_run_cleanly_and_it_can_be_resumed() {
    // Two that come at once are one request: shells and timeout(1) signal a process and its group.
    for signals in [&[Signal::INT][..], &[Signal::TERM], &[Signal::INT, Signal::INT], &[Signal::TERM, Signal::INT]] {
        let database = Database::create("signals");
        filled(&database);
        let scratch = Scratch::with(&database, &[export("orders", &slow(3))]);
        let running = in_the_middle(&scratch);
        signals.iter().for_each(|&signal| running.signal(signal));
        let started = Instant::now();
        let finished = running.wait().expect_exit(130);
        assert!(started.elapsed() < Duration::from_secs(15), "{:?} to stop", started.elapsed());
        let runs =
            scratch.rivet(&["replay", "--journal", &scratch.journal_dir("orders").display().to_string(), "--json"]);
        let run = run_id(&runs.expect_exit(0).summary());
        files::assert_no_half_part(&scratch.run_dir(&run));
        // The server is left without sessions of a process that has gone.
        let deadline = Instant::now() + Duration::from_secs(10);
        let sessions =
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";
        while database.value(sessions) != "0" {
            assert!(Instant::now() < deadline, "sessions stay open after {finished}");
        }
        let summary = scratch.resume_ok(&run);
        oracle::assert_same_rows(&database, "SELECT * FROM t", &scratch.run_dir(&run_id(&summary)));
    }
}

/// The stop is held up where a part is written. The second signal, later than the half second within which two are one,
/// ends the process all the same.
#[cfg(feature = "failpoints")]
#[test]
fn a_second_signal_ends_the_process_at_once_and_the_run_can_be_resumed() {
    use std::io::{BufRead, BufReader};
    use std::process::Stdio;
    let database = Database::create("second_signal");
    filled(&database);
    let scratch = Scratch::with(&database, &[export("orders", &slow(3))]);
    // An hour: only a process that ends without waiting for it ends within the test's patience.
    let trace = scratch.path().join("trace");
    let held = Rivet::new(&scratch).env("RIVET_FAILPOINTS", "part.synced@3=pause:3600000");
    let held = held.env("RIVET_FAILPOINTS_TRACE", &trace);
    for second in [Signal::INT, Signal::TERM] {
        let mut child = held.command(&["run"]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it starts");
        let pid = rustix::process::Pid::from_child(&child);
        let signal = |signal| rustix::process::kill_process(pid, signal).expect("a child that lives can be signalled");
        let stderr = BufReader::new(child.stderr.take().expect("it is piped"));
        let (sender, lines) = std::sync::mpsc::channel();
        let reading = std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                // The test has what it waited for, and listens no more.
                let _ = sender.send(line);
            }
        });
        let is_held = || std::fs::read_to_string(&trace).is_ok_and(|passed| passed.contains("part.synced@3\n"));
        while !is_held() {
            assert!(child.try_wait().expect("a child has a state").is_none(), "the run ended before it was held up");
            std::thread::yield_now();
        }
        signal(Signal::INT);
        let asked = Instant::now();
        let stopping = lines.iter().find(|line| line.contains("stopping; a second signal ends the process at once"));
        assert!(stopping.is_some(), "the first signal was not announced");
        // What comes earlier is the same request, heard twice.
        while asked.elapsed() < Duration::from_millis(600) {
            std::thread::yield_now();
        }
        assert!(child.try_wait().expect("a child has a state").is_none(), "one signal ended a run that is held up");
        signal(second);
        let deadline = Instant::now() + Duration::from_secs(30);
        let status = loop {
            if let Some(status) = child.try_wait().expect("a child has a state") {
                break status;
            }
            if Instant::now() > deadline {
                signal(Signal::KILL);
                panic!("the second signal was not obeyed");
            }
            std::thread::yield_now();
        };
        assert_eq!(status.code(), Some(130));
        reading.join().expect("reading does not panic");
        let run = run_id(&scratch.rivet(&["status", "--json"]).expect_exit(0).summary());
        files::assert_no_half_part(&scratch.run_dir(&run));
        let summary = scratch.resume_ok(&run);
        oracle::assert_same_rows(&database, "SELECT * FROM t", &scratch.run_dir(&run_id(&summary)));
        std::fs::remove_file(&trace).expect("a trace was written");
    }
}

/// A worker that waits for its report to become durable is let go when the journal fails over another one's.
#[cfg(feature = "failpoints")]
#[test]
fn a_journal_that_fails_while_workers_report_ends_the_run_and_leaves_nobody_waiting() {
    let database = Database::create("journal_fails");
    filled(&database);
    let lines = "table: t\nmode: chunked\nchunk_count: 10\ntuning: { parallel: 4, batch_size: 200 }";
    for flush in 5..25 {
        let scratch = Scratch::with(&database, &[export("orders", lines)]);
        let failing = Rivet::new(&scratch).env("RIVET_FAILPOINTS", format!("journal.inserted@{flush}=error"));
        let finished = failing.run(&["run", "-c", "rivet.yaml"]).expect_error(6, "RIVET_JOURNAL_");
        drop(finished.expect_in_stderr("injected"));
    }
}

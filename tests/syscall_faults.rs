//! Whole runs under `strace`, which makes single system calls fail, lie or never return.
//!
//! A probe run shows which calls there are. Then, for each kind of call, one run for every place at which it is made meets
//! the fault there, once or from there on. strace counts for each thread by itself, so "the k-th call" is every thread's
//! k-th. A fault in a call on one file is made during a resume, whose files have names that are known beforehand.
//!
//! An ordinary run of the tests takes a share of the places; `tools/syscall-faults` takes all of them.

#![cfg(feature = "failpoints")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Mutex;
use support::converge::{assert_converged, assert_no_half_part, go_on};
use support::database::Database;
use support::matrix::{caught, in_parallel, tell};
use support::rivet::{Finished, Rivet, Scratch, export, run_id};
use support::trace::{self, Call};
use support::{files, oracle};

/// Set by tools/syscall-faults: every place instead of a share.
const ALL: &str = "RIVET_TEST_SYSCALLS_ALL";
/// What an ordinary run of the tests takes of each kind of fault: about so many places, or files; and so many places in
/// files beyond each one's first.
const SHARE: usize = 6;
const SHARE_OF_LATER: usize = 2;

const SLICED: &str = "table: t\nmode: chunked\nchunk_count: 3\ntuning: { parallel: 2, batch_size: 100 }";

/// With one worker, so that a kill after the first part always leaves the same parts to do.
const IN_ORDER: &str = "table: t\nmode: chunked\nchunk_count: 3\ntuning: { parallel: 1, batch_size: 100 }";

/// A fault in strace's words, and the calls in which it is made.
struct Fault {
    call: &'static str,
    fault: &'static str,
    /// From the k-th call on, instead of in the k-th.
    sticky: bool,
}

const fn once(call: &'static str, fault: &'static str) -> Fault {
    Fault { call, fault, sticky: false }
}

const fn sticky(call: &'static str, fault: &'static str) -> Fault {
    Fault { call, fault, sticky: true }
}

/// Faults in calls that only files see, so that no path has to be named: rows 2, 5 and 6 of the plan of faults.
const ANYWHERE: [Fault; 17] = [
    once("fdatasync", "error=EIO"),
    sticky("fdatasync", "error=EIO"),
    once("fdatasync", "error=EINTR"),
    once("fdatasync", "signal=SIGKILL"),
    once("fsync", "error=EIO"),
    sticky("fsync", "error=EIO"),
    once("fsync", "signal=SIGKILL"),
    once("pwrite64", "error=EIO"),
    sticky("pwrite64", "error=ENOSPC"),
    once("pwrite64", "error=EINTR"),
    once("pwrite64", "retval=0"),
    once("pwrite64", "signal=SIGKILL"),
    once("rename", "error=EACCES"),
    sticky("rename", "error=EIO"),
    once("rename", "signal=SIGKILL"),
    once("mkdir", "error=EIO"),
    once("mkdir", "signal=SIGKILL"),
];

/// Faults in calls on one file, which would hit sockets, libraries and the terminal as well.
///
/// Those of every file's syncs and renames are here once more, since a worker's k-th call is never reached where the main
/// thread's k-th ends the run before it.
const ON_A_FILE: [Fault; 17] = [
    once("fdatasync", "error=EIO"),
    sticky("fdatasync", "error=EIO"),
    once("fsync", "error=EIO"),
    once("rename", "error=EIO"),
    sticky("rename", "error=EACCES"),
    once("rename", "signal=SIGKILL"),
    once("read", "error=EIO"),
    once("pread64", "error=EIO"),
    once("openat", "error=EIO"),
    once("write", "error=EIO"),
    sticky("write", "error=ENOSPC"),
    once("write", "error=EINTR"),
    once("write", "retval=0"),
    once("write", "signal=SIGKILL"),
    once("openat", "error=EMFILE"),
    sticky("openat", "error=EMFILE"),
    once("openat", "signal=SIGKILL"),
];

/// The calls of these faults.
const ON_FILES: &str = "trace=read,pread64,write,openat,fdatasync,fsync,rename";

fn database(name: &str) -> Database {
    let database = Database::create(name);
    database.execute(
        "CREATE TABLE t (id int PRIMARY KEY, name text, amount numeric(12,2));
         INSERT INTO t SELECT g, CASE WHEN g % 9 > 0 THEN 'name ' || g END, g * 1.37 FROM generate_series(1, 300) AS g;
         ANALYZE t;",
    );
    database
}

/// Runs rivet under strace with further arguments for it. Returns the calls that it recorded.
fn traced(scratch: &Scratch, strace: &[&str], arguments: &[&str]) -> (Finished, Vec<Call>) {
    let record = scratch.path().with_extension("calls");
    let path = record.display().to_string();
    // The quick way of stopping at these calls only loses the signals that are to be sent there.
    let quick: &[&str] = if strace.iter().any(|word| word.contains("signal=")) { &[] } else { &["--seccomp-bpf"] };
    let words = [&["strace", "-f", "-y", "-xx", "-s", "4096", "-o", &path], quick, strace, &["--"]].concat();
    let finished = Rivet::new(scratch).through(&words).run(arguments);
    let text = std::fs::read_to_string(&record).expect("strace records what it is asked for; tools/setup installs it");
    std::fs::remove_file(&record).expect("the record can be removed");
    (finished, trace::parse(&text))
}

const RUN: [&str; 4] = ["run", "-c", "rivet.yaml", "--json"];

/// The most calls that one thread makes.
fn most(calls: &[Call], name: &str, wanted: impl Fn(&Call) -> bool) -> usize {
    let mut threads: BTreeMap<&str, usize> = BTreeMap::new();
    for call in calls.iter().filter(|call| call.name == name && wanted(call)) {
        *threads.entry(&call.thread).or_default() += 1;
    }
    threads.into_values().max().unwrap_or(0)
}

/// About `count` of what could be done, spread over it; everything when that was asked for.
fn share<T>(places: Vec<T>, count: usize) -> Vec<T> {
    if std::env::var_os(ALL).is_some() {
        return places;
    }
    let stride = places.len().div_ceil(count).max(1);
    // The first of them is often a special one, and so is the last.
    let last = places.len().saturating_sub(1);
    places.into_iter().enumerate().filter(|(i, _)| i % stride == 0 || *i == last).map(|(_, place)| place).collect()
}

fn injection(fault: &Fault, k: usize) -> String {
    let from = if fault.sticky { "+" } else { "" };
    format!("inject={}:{}:when={k}{from}", fault.call, fault.fault)
}

/// What has to be true of a run that met a fault, however it ended.
fn assert_honest(scratch: &Scratch, finished: &Finished, calls: &[Call], fault: &Fault) {
    assert!(!finished.stderr.contains("panicked at"), "a panic: {finished}");
    assert_no_half_part(scratch);
    if !finished.killed() && finished.code() != Some(0) {
        let typed = finished.stderr.contains("\"code\":\"RIVET_") && finished.stderr.contains("\"hint\":\"");
        assert!(typed, "no typed error: {finished}");
        // A journal that cannot be read is refused, in order to protect what is in it.
        let protected = fault.call.contains("read") || (fault.call, fault.fault) == ("openat", "error=EIO");
        let expected: &[i32] = if protected { &[5, 6] } else { &[6] };
        assert!(finished.code().is_some_and(|code| expected.contains(&code)), "{finished}");
    }
    assert_stopped(calls, &scratch.journal_dir("orders"));
}

/// A sync that failed is not repeated, and nothing that rests on it is done: the journal acknowledges nothing more, and no
/// file whose bytes may not be there gets its final name before it was written again.
fn assert_stopped(calls: &[Call], journal: &Path) {
    let mut unsynced = BTreeSet::new();
    let mut ended = false;
    for call in calls {
        match (call.name.as_str(), call.returned < 0) {
            ("fdatasync" | "fsync", true) if !call.failed_with("EINTR") => {
                let path = call.descriptor(0).1.expect("strace names every descriptor");
                ended |= path == journal.join("log/db") || path == journal.join("head");
                unsynced.insert(path);
            }
            ("fdatasync", false) => {
                let path = call.descriptor(0).1.expect("strace names every descriptor");
                assert!(!unsynced.contains(&path), "a failed sync of {} was repeated", path.display());
            }
            ("pwrite64", false) => {
                let to_head = call.descriptor(0).1.is_some_and(|path| path == journal.join("head"));
                assert!(!(ended && to_head), "an event was acknowledged after a failed sync of the journal");
            }
            ("openat", false) if call.has_flag(2, "O_TRUNC") => {
                unsynced.retain(|path| Some(path) != call.opened.as_ref());
            }
            ("rename", false) => {
                let path = call.path(0);
                let is_new = path.extension().is_some_and(|kind| kind == "tmp" || kind == "new");
                assert!(!(is_new && unsynced.contains(&path)), "{} was not synced, and got its name", path.display());
            }
            _ => {}
        }
    }
}

/// I6: as it is after a fault, or after a kill, undisturbed.
fn assert_ends_well(scratch: &Scratch, finished: Finished, rows: &[String]) {
    let last = if finished.code() == Some(0) { finished } else { go_on(scratch, None) };
    assert_converged(scratch, last, rows);
}

/// How often a fault was really met.
#[derive(Default)]
struct Met(Mutex<BTreeMap<String, usize>>);

impl Met {
    fn note(&self, fault: &Fault, calls: &[Call], finished: &Finished) {
        let met = finished.killed() || calls.iter().any(|call| call.injected);
        let what = format!("{} {}{}", fault.call, fault.fault, if fault.sticky { " from there on" } else { "" });
        *self.0.lock().expect("nothing panics while it counts").entry(what).or_default() += usize::from(met);
    }

    #[track_caller]
    fn report(self, what: &str, attempts: usize, wrong: &[String]) {
        let met = self.0.into_inner().expect("nothing panics while it counts");
        let all: usize = met.values().sum();
        tell(&format!("{what}: {attempts} runs, {all} met their fault, {} differences", wrong.len()));
        for (fault, times) in &met {
            tell(&format!("  {times:4}  {fault}"));
        }
        assert!(wrong.is_empty(), "{what}: {} of {attempts} went wrong:\n{}", wrong.len(), wrong.join("\n"));
        assert!(met.values().all(|&times| times > 0), "a fault was never met: {met:?}");
        assert!(all * 4 >= attempts * 3, "only {all} of {attempts} runs met their fault");
    }
}

#[test]
fn a_system_call_that_fails_lies_or_never_returns_costs_nothing_but_time() {
    let database = database("calls");
    let probe = Scratch::in_memory(&database, &[export("orders", SLICED)]);
    let (finished, calls) = traced(&probe, &["-e", "fdatasync,fsync,pwrite64,rename,mkdir"], &RUN);
    let run_dir = probe.run_dir(&run_id(&finished.expect_exit(0).summary()));
    oracle::assert_same_rows(&database, "SELECT * FROM t", &run_dir);
    let rows = files::rows(&files::parts(&run_dir));
    let mut attempts = Vec::new();
    for fault in &ANYWHERE {
        let places = most(&calls, fault.call, |_| true);
        assert!(places >= 3, "a run makes {places} calls of {}", fault.call);
        attempts.extend(share((1..=places).map(|k| (fault, k)).collect(), SHARE));
    }
    let met = Met::default();
    let wrong = in_parallel(attempts.len(), |i| {
        let (fault, k) = attempts[i];
        let injection = injection(fault, k);
        caught(&injection, || {
            let scratch = Scratch::in_memory(&database, &[export("orders", SLICED)]);
            let seen = "trace=fdatasync,fsync,pwrite64,rename,mkdir,openat";
            let (finished, calls) = traced(&scratch, &["-e", seen, "-e", &injection], &RUN);
            met.note(fault, &calls, &finished);
            assert_honest(&scratch, &finished, &calls, fault);
            assert_ends_well(&scratch, finished, &rows);
        })
    });
    met.report("faults of calls", attempts.len(), &wrong);
}

/// A run that was killed after its first part, with what a resume of it does to which file.
struct Half {
    scratch: Scratch,
    run: String,
}

impl Half {
    fn new(database: &Database) -> Half {
        let scratch = Scratch::in_memory(database, &[export("orders", IN_ORDER)]);
        let killed = Rivet::new(&scratch).env("RIVET_FAILPOINTS", "part.dir_synced@1=kill").run(&RUN);
        assert!(killed.killed(), "{killed}");
        let run = support::converge::journaled_run(&scratch).expect("the run is journaled");
        Half { scratch, run }
    }

    fn resume(&self, strace: &[&str]) -> (Finished, Vec<Call>) {
        traced(&self.scratch, strace, &["resume", &self.run, "-c", "rivet.yaml", "--json"])
    }

    /// The same path in every such run.
    fn plain(&self, path: &Path) -> Option<String> {
        let below = path.strip_prefix(self.scratch.path()).ok()?;
        // The configuration is read before there is anything to protect.
        if !below.starts_with(".rivet") && !below.starts_with("out") {
            return None;
        }
        Some(below.display().to_string().replace(&self.run, "RUN"))
    }

    fn real(&self, plain: &str) -> String {
        self.scratch.path().join(plain.replace("RUN", &self.run)).display().to_string()
    }
}

#[test]
fn a_file_that_cannot_be_opened_or_written_costs_nothing_but_time() {
    let database = database("files");
    let probe = Half::new(&database);
    let (finished, calls) = probe.resume(&["-e", ON_FILES]);
    let run_dir = probe.scratch.run_dir(&run_id(&finished.expect_exit(0).summary()));
    oracle::assert_same_rows(&database, "SELECT * FROM t", &run_dir);
    let rows = files::rows(&files::parts(&run_dir));
    let mut attempts = Vec::new();
    for fault in &ON_A_FILE {
        let path = |call: &Call| match fault.call {
            "openat" => call.opened.as_deref().and_then(|path| probe.plain(path)),
            "rename" => probe.plain(&call.path(0)),
            _ => call.descriptor(0).1.and_then(|path| probe.plain(&path)),
        };
        let named: BTreeSet<String> = calls.iter().filter(|call| call.name == fault.call).filter_map(path).collect();
        let places = named.iter().flat_map(|name| {
            let most = most(&calls, fault.call, |call| path(call).as_ref() == Some(name));
            (1..=most).map(move |k| (fault, name.clone(), k))
        });
        let (first, later): (Vec<_>, Vec<_>) = places.partition(|(_, _, k)| *k == 1);
        attempts.extend(share(first, SHARE));
        attempts.extend(share(later, SHARE_OF_LATER));
    }
    let met = Met::default();
    let wrong = in_parallel(attempts.len(), |i| {
        let (fault, name, k) = &attempts[i];
        let injection = injection(fault, *k);
        caught(&format!("{injection} on {name}"), || {
            let half = Half::new(&database);
            // strace sees nothing but calls on this path, and therefore counts nothing else.
            let (finished, calls) = half.resume(&["-P", &half.real(name), "-e", ON_FILES, "-e", &injection]);
            met.note(fault, &calls, &finished);
            assert_honest(&half.scratch, &finished, &calls, fault);
            assert_ends_well(&half.scratch, finished, &rows);
        })
    });
    met.report("faults on files", attempts.len(), &wrong);
}

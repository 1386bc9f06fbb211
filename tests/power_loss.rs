//! Power cuts. What is acknowledged survives them, whatever the disk had done with everything that was not synced.
//!
//! The images are built by `tests/power`, from the record of a process that appends to a journal and of whole runs. Each is
//! opened as a machine would that came up again. What the rules of syncing are worth is proven the other way round: an
//! image builder that takes one of the syncs for nothing has to find violations.
//!
//! `tools/power-loss --minutes N` goes on with other seeds for that long.

mod journal_support;
mod power;
mod support;

use journal_support::{batch, commit, copy, everything, me, stamp};
use power::disk::{Data, Heeded, History, Image, Names};
use power::record::record;
use rivet::journal::{Journal, reader};
use rivet::run::event::{Event, PartCommitted, Recorded};
use std::collections::{BTreeMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use support::database::Database;
use support::matrix::{caught, in_parallel, tell};
use support::rivet::{Rivet, Scratch, export, run_id};
use support::{converge, files, oracle};

const ROLE: &str = "RIVET_TEST_POWER_ROLE";
const DIRECTORY: &str = "RIVET_TEST_POWER_DIR";
/// What tools/power-loss sets: how long to go on, and from which seed.
const MINUTES: &str = "RIVET_TEST_POWER_MINUTES";
const SEED: &str = "RIVET_TEST_POWER_SEED";

/// How long to go on beyond the ordinary test, and the seed to begin with.
fn campaign() -> (Duration, u64) {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    (Duration::from_secs(number(MINUTES).unwrap_or(0) * 60), number(SEED).unwrap_or(1))
}

/// Every combination of what can become of data and names, with chance having two turns where it decides.
fn fates() -> Vec<(Data, Names)> {
    let data = [Data::Dropped, Data::Kept, Data::Zeroed, Data::Torn, Data::Random, Data::Random];
    let names = [Names::Strict, Names::Early, Names::Random];
    names.iter().flat_map(|&names| data.iter().map(move |&data| (data, names))).collect()
}

/// An image, and what had been promised when the power went.
struct Case {
    image: Image,
    promised: String,
    what: String,
}

/// Every different image of a history, in the order of its moments.
fn cases(history: &History, heeded: Heeded<'_>, seed: u64) -> (usize, Vec<Case>) {
    let mut random = fastrand::Rng::with_seed(seed);
    let (mut built, mut seen, mut cases) = (0, HashSet::new(), Vec::new());
    for &moment in history.moments() {
        let promised = history.said(moment);
        for (data, names) in fates() {
            let image = history.image(moment, data, names, &mut random, heeded);
            built += 1;
            let mut hasher = DefaultHasher::new();
            (&image, &promised).hash(&mut hasher);
            if seen.insert(hasher.finish()) {
                let what = format!("seed {seed}, line {moment}, data {data:?}, names {names:?}");
                cases.push(Case { image, promised: promised.clone(), what });
            }
        }
    }
    (built, cases)
}

/// Calls `check` with every case and a directory that holds its image, and collects what went wrong.
fn check_all(cases: &[Case], check: impl Fn(&Case, &Path) -> Result<(), String> + Sync) -> Vec<String> {
    in_parallel(cases.len(), |i| {
        let (case, dir) = (&cases[i], in_memory());
        case.image.write(dir.path());
        check(case, dir.path()).map_err(|message| format!("{}: {message}", case.what))
    })
}

fn in_memory() -> tempfile::TempDir {
    let mut builder = tempfile::Builder::new();
    let builder = builder.prefix("rivet-test-");
    builder.tempdir_in("/dev/shm").or_else(|_| builder.tempdir()).expect("a temporary directory can be made")
}

// A process that appends.

/// Event `n` of every journal here: mostly progress; every third is durable, and up to five sectors long.
fn event(n: u64) -> Event {
    match commit(n) {
        Event::PartCommitted(part) if n.is_multiple_of(3) => {
            let path = format!("{:/>width$}", part.path, width = (n % 7 * 400) as usize);
            Event::PartCommitted(PartCommitted { path, ..part })
        }
        _ => batch(n),
    }
}

/// The body of the recorded process. Without the environment that asks for it, there is nothing to do.
#[test]
fn child() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let dir = std::env::var(DIRECTORY).expect("a child is told its directory");
    let mut out = std::io::stdout();
    let mut say = |n: u64| out.write_all(format!("\nack {n}\n").as_bytes()).and_then(|()| out.flush()).expect("a pipe");
    let mut journal = Journal::open(Path::new(&dir), &me()).expect("the journal opens");
    // What an open accepted is as good as acknowledged.
    say(journal.acknowledged().0);
    let run = journal.last_run().unwrap_or_else(|| journal.begin_run());
    for _ in 0..role.parse::<u64>().expect("a number of events") {
        let n = journal.head().map_or(1, |(seq, _)| seq.0 + 1);
        journal.append(run, event(n), stamp(n)).expect("the journal takes an event");
        if journal.acknowledged().0 == n {
            say(n);
        }
    }
}

fn appending(state: &Path, events: u64) -> History {
    let mut command = Command::new(std::env::current_exe().expect("a test knows itself"));
    command.args(["child", "--exact", "--nocapture", "--test-threads=1"]);
    command.env(ROLE, events.to_string()).env(DIRECTORY, state.join("orders"));
    let recorded = record(&command, state);
    assert!(recorded.output.status.success(), "{}", String::from_utf8_lossy(&recorded.output.stderr));
    recorded.history
}

fn last_ack(said: &str) -> u64 {
    said.lines().filter_map(|line| line.strip_prefix("ack ")?.parse().ok()).max().unwrap_or(0)
}

/// The highest number in the two slots of a `head`, by the layout that ADR 0002 fixes.
fn witnessed(head: &[u8]) -> u64 {
    let slot = |at: usize| {
        let bytes = head.get(at..at + 40)?;
        let sum = xxhash_rust::xxh3::xxh3_64(&bytes[..32]).to_le_bytes();
        let whole = bytes.starts_with(b"RIVETHD1") && bytes[32..] == sum;
        whole.then(|| u64::from_le_bytes(bytes[8..16].try_into().expect("eight bytes")))
    };
    [0, 4096].into_iter().filter_map(slot).max().unwrap_or(0)
}

/// I1, of a state directory with one journal: a prefix of what was appended, with everything acknowledged, to the writer and
/// to a reader; the head names what was acknowledged; and the journal goes on from there.
fn check_journal(state: &Path, acknowledged: u64) -> Result<(), String> {
    let dir = state.join("orders");
    let head = std::fs::read(dir.join("head")).unwrap_or_default();
    if witnessed(&head) < acknowledged {
        return Err(format!("the head names {} of {acknowledged} acknowledged events", witnessed(&head)));
    }
    let in_place = |records: &[Recorded]| {
        let expected = (1..).zip(records).all(|(n, record)| record.seq.0 == n && record.event == event(n));
        match expected && records.len() as u64 >= acknowledged {
            true => Ok(()),
            false => Err(format!("{} events of {acknowledged} acknowledged, or other ones", records.len())),
        }
    };
    let looked_at = match reader::read(&dir) {
        Ok(read) => read[0].head(),
        Err(error) if acknowledged == 0 && error.kind() == rivet::ErrorKind::JournalMissing => None,
        Err(error) => return Err(format!("a reader: {error}")),
    };
    let mut journal = Journal::open(&dir, &me()).map_err(|error| error.to_string())?;
    in_place(&everything(&journal))?;
    if looked_at != journal.head() {
        return Err(format!("a reader saw {looked_at:?}, the writer {:?}", journal.head()));
    }
    let run = journal.last_run().unwrap_or_else(|| journal.begin_run());
    let found = journal.head().map_or(0, |(seq, _)| seq.0);
    let last = (found + 1).next_multiple_of(3);
    for n in found + 1..=last {
        journal.append(run, event(n), stamp(n)).map_err(|error| format!("going on: {error}"))?;
    }
    drop(journal);
    // From a copy, since in a process with many stores the engine gives a lock back when it likes.
    let later = state.join("later");
    copy(&dir, &later);
    let again = Journal::open(&later, &me()).map_err(|error| format!("opened again: {error}"))?;
    match again.head() {
        Some((seq, _)) if seq.0 == last => in_place(&everything(&again)),
        head => Err(format!("opened again: {head:?} after {found} and what followed up to {last}")),
    }
}

#[test]
fn whatever_was_acknowledged_survives_a_power_cut_at_any_moment_and_the_next_one() {
    let (time, first) = campaign();
    let began = Instant::now();
    let (mut built, mut opened, mut wrong) = (0, 0, Vec::new());
    let mut seed = first;
    while seed == first || began.elapsed() < time {
        let mut random = fastrand::Rng::with_seed(seed);
        let state = in_memory();
        // A new journal, then one that lost its power, then one that lost it again.
        for generation in 1..=3 {
            let root = state.path().join(generation.to_string());
            std::fs::create_dir_all(&root).expect("a directory can be made");
            let history = appending(&root, random.u64(3..12));
            let (images, cases) = cases(&history, &|_| true, seed);
            built += images;
            opened += cases.len();
            wrong.extend(check_all(&cases, |case, dir| check_journal(dir, last_ack(&case.promised))));
            let next = &cases[random.usize(cases.len() / 2..cases.len())];
            next.image.write(&state.path().join((generation + 1).to_string()));
        }
        seed += 1;
    }
    let seeds = seed - first;
    tell(&format!("power cuts of a journal: {seeds} seeds, {built} images built, {opened} different ones opened"));
    assert!(wrong.is_empty(), "{} of {opened} images:\n{}", wrong.len(), wrong.join("\n"));
    assert!(opened as u64 > 300 * seeds, "only {opened} images");
}

/// The engine writes its log in segments of half a megabyte.
#[test]
fn a_power_cut_around_the_beginning_of_a_new_segment_loses_nothing_acknowledged() {
    let state = in_memory();
    let dir = state.path().join("orders");
    let mut journal = Journal::open(&dir, &me()).expect("the journal opens");
    let run = journal.begin_run();
    for n in 1.. {
        journal.append(run, event(n), stamp(n)).expect("the journal takes an event");
        let length = std::fs::metadata(dir.join("log/db")).expect("the log is there").len();
        if length > 508 << 10 {
            break;
        }
    }
    drop(journal);
    let history = appending(state.path(), 60);
    let (built, mut cases) = cases(&history, &|_| true, 1);
    let segments = |case: &Case| {
        let log = case.image.entries.get(Path::new("orders/log/db"));
        log.and_then(Option::as_ref).map_or(0, |log| log.len().div_ceil(512 << 10))
    };
    let (before, after) = (cases.iter().map(segments).min(), cases.iter().map(segments).max());
    assert_eq!((before, after), (Some(1), Some(2)), "the record begins in one segment and ends in the next");
    fastrand::Rng::with_seed(1).shuffle(&mut cases);
    cases.truncate(300);
    let wrong = check_all(&cases, |case, dir| check_journal(dir, last_ack(&case.promised)));
    tell(&format!("power cuts around a new segment: {built} images built, {} of them opened", cases.len()));
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

/// What the engine derives from its log is gone, so the first thing that is done is to make a new log from the old one's data.
#[test]
fn a_power_cut_while_a_log_is_rebuilt_loses_nothing_acknowledged() {
    let state = in_memory();
    let dir = state.path().join("orders");
    let mut journal = Journal::open(&dir, &me()).expect("the journal opens");
    let run = journal.begin_run();
    for n in 1..=12 {
        journal.append(run, event(n), stamp(n)).expect("the journal takes an event");
    }
    drop(journal);
    std::fs::write(dir.join("log/conf"), [0; 62]).expect("a file can be written");
    let history = appending(state.path(), 6);
    assert!(dir.join("aside/log.1").exists(), "the log was rebuilt");
    let (built, cases) = cases(&history, &|_| true, 1);
    let wrong = check_all(&cases, |case, dir| check_journal(dir, last_ack(&case.promised).max(12)));
    tell(&format!("power cuts of a rebuilding: {built} images built, {} different ones opened", cases.len()));
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

/// The same record, read by a disk for which one kind of sync does nothing: the images have to show it.
#[test]
fn each_sync_of_the_journal_is_missed_when_it_does_nothing() {
    let state = in_memory();
    let history = appending(state.path(), 9);
    let synced = ["orders/log/db", "orders/head", "orders/head.new", "orders/FORMAT.new", "", "orders", "orders/log"];
    for ignored in synced {
        let (_, cases) = cases(&history, &|path| path != Path::new(ignored), 1);
        let wrong = check_all(&cases, |case, dir| check_journal(dir, last_ack(&case.promised)));
        tell(&format!("without the syncs of {ignored:?}: {} violations in {} images", wrong.len(), cases.len()));
        assert!(!wrong.is_empty(), "the syncs of {ignored:?} are not needed, or these tests cannot see that they are");
    }
}

// Whole runs.

const SLICED: &str = "table: t\nmode: chunked\nchunk_count: 3\ntuning: { parallel: 2, batch_size: 100 }";

fn database(name: &str) -> Database {
    let database = Database::create(name);
    database.execute(
        "CREATE TABLE t (id int PRIMARY KEY, name text, amount numeric(12,2));
         INSERT INTO t SELECT g, CASE WHEN g % 9 > 0 THEN 'name ' || g END, g * 1.37 FROM generate_series(1, 300) AS g;
         ANALYZE t;",
    );
    database
}

/// What a run journaled and delivered in the end, to compare with.
struct Ended {
    run_dir: PathBuf,
    events: Vec<Recorded>,
}

fn journaled(dir: &Path) -> Result<Vec<Recorded>, String> {
    let journal = Journal::open(dir, &me()).map_err(|error| error.to_string())?;
    Ok(everything(&journal))
}

/// A file as the journal names it: length and fingerprint.
type Identity = (u64, String);

fn identity(bytes: u64, fingerprint: rivet::run::ids::Fingerprint) -> Identity {
    (bytes, format!("xxh3:{:016x}", fingerprint.0))
}

/// I1, I4 and I5 of a machine that came up with `.rivet` and `out` in `dir`.
fn check_run(dir: &Path, promised: &str, ended: &Ended) -> Result<(), String> {
    let run_dir = dir.join(&ended.run_dir);
    let events = journaled(&dir.join(".rivet/orders"))?;
    if events.iter().zip(&ended.events).any(|(found, appended)| found.hash != appended.hash) {
        return Err("other events than were appended".to_owned());
    }
    let (mut sealed, mut committed) = (BTreeMap::new(), BTreeMap::new());
    for recorded in &events {
        match &recorded.event {
            Event::PartSealed(part) => drop(sealed.insert(part.path.clone(), identity(part.bytes, part.fingerprint))),
            Event::PartCommitted(part) => {
                committed.insert(part.path.clone(), identity(part.bytes, part.fingerprint));
            }
            _ => {}
        }
    }
    let mut found = BTreeMap::new();
    for name in files::tree(&run_dir).into_iter().filter(|name| name.starts_with("part-")) {
        let bytes = std::fs::read(run_dir.join(&name)).map_err(|error| error.to_string())?;
        found.insert(name, (bytes.len() as u64, files::fingerprint(&bytes)));
    }
    // Nothing that was not announced, and nothing half; everything that was committed.
    for (name, file) in &found {
        if sealed.get(name) != Some(file) {
            return Err(format!("{name} is {file:?}, and was announced as {:?}", sealed.get(name)));
        }
    }
    if let Some((name, _)) = committed.iter().find(|(name, file)| found.get(*name) != Some(*file)) {
        return Err(format!("{name} is committed and {:?}", found.get(name)));
    }
    if run_dir.join("_SUCCESS").exists() {
        verified(&run_dir)?;
    } else if !promised.is_empty() {
        return Err("the run was reported, and its output is not official".to_owned());
    }
    if !promised.is_empty() && events.len() != ended.events.len() {
        return Err("the run was reported, and its journal does not end".to_owned());
    }
    Ok(())
}

/// Manifest, mark and parts agree.
fn verified(run_dir: &Path) -> Result<(), String> {
    let panic = std::panic::catch_unwind(|| drop(files::parts(run_dir)));
    panic.map_err(|panic| panic.downcast_ref::<String>().cloned().unwrap_or_else(|| "no manifest".to_owned()))
}

/// A whole run of several slices, recorded.
fn running(database: &Database, scratch: &Scratch) -> (History, Ended) {
    let command = Rivet::new(scratch).command(&["run", "-c", "rivet.yaml", "--json"]);
    let recorded = record(&command, scratch.path());
    let printed = String::from_utf8_lossy(&recorded.output.stdout).into_owned();
    assert!(recorded.output.status.success(), "{}", String::from_utf8_lossy(&recorded.output.stderr));
    let summary: serde_json::Value = serde_json::from_str(&printed).expect("a summary is JSON");
    let run_dir = PathBuf::from("out").join(run_id(&summary["runs"][0]));
    oracle::assert_same_rows(database, "SELECT * FROM t", &scratch.path().join(&run_dir));
    let events = journaled(&scratch.journal_dir("orders")).expect("the journal opens");
    (recorded.history, Ended { run_dir, events })
}

#[test]
fn a_run_whose_machine_loses_power_at_any_moment_keeps_what_is_committed_and_is_gone_on_with() {
    let (time, first) = campaign();
    let (mut built, mut opened, mut resumed, mut seed) = (0, 0, 0, first);
    let mut wrong = Vec::new();
    let began = Instant::now();
    let database = database("power");
    while seed == first || began.elapsed() < time {
        let mut random = fastrand::Rng::with_seed(seed);
        let scratch = Scratch::in_memory(&database, &[export("orders", SLICED)]);
        let (history, ended) = running(&database, &scratch);
        let rows = files::rows(&files::parts(&scratch.path().join(&ended.run_dir)));
        let (images, mut cases) = cases(&history, &|_| true, seed);
        built += images;
        random.shuffle(&mut cases);
        if time.is_zero() {
            cases.truncate(400);
        }
        opened += cases.len();
        wrong.extend(check_all(&cases, |case, dir| check_run(dir, &case.promised, &ended)));
        // A journal names its directories, so what is gone on with has to lie where it was made.
        let resumes = if time.is_zero() { 12 } else { 60 };
        for case in cases.iter().take(resumes) {
            wrong.extend(goes_on(&scratch, case, &rows).err());
            resumed += 1;
        }
        seed += 1;
    }
    let seeds = seed - first;
    tell(&format!(
        "power cuts of a run: {seeds} seeds, {built} images built, {opened} different ones opened, {resumed} gone on with"
    ));
    assert!(wrong.is_empty(), "{} of {opened} images:\n{}", wrong.len(), wrong.join("\n"));
}

/// I6: the machine came up with `case`, and whoever starts rivet again ends with the server's rows.
fn goes_on(scratch: &Scratch, case: &Case, rows: &[String]) -> Result<(), String> {
    for dir in ["out", ".rivet"] {
        let gone = std::fs::remove_dir_all(scratch.path().join(dir));
        assert!(gone.is_ok() || !scratch.path().join(dir).exists(), "{gone:?}");
    }
    case.image.write(scratch.path());
    caught(&case.what, || {
        let finished = converge::go_on(scratch, None);
        converge::assert_converged(scratch, finished, rows);
    })
}

#[test]
fn each_sync_of_a_run_is_missed_when_it_does_nothing() {
    let database = database("unsynced");
    let scratch = Scratch::in_memory(&database, &[export("orders", SLICED)]);
    let (history, ended) = running(&database, &scratch);
    let is_part = |path: &Path| path.to_string_lossy().ends_with(".parquet.tmp");
    let run_dir = ended.run_dir.clone();
    let is_temp = |name: &'static str| move |path: &Path| path.ends_with(format!(".{name}.tmp"));
    let ignored: [(&str, Heeded<'_>); 6] = [
        ("the journal's log", &|path| path.ends_with("log/db")),
        ("parts", &is_part),
        ("the run's directory", &|path| path == run_dir),
        ("the directory of runs", &|path| path == Path::new("out")),
        ("the manifest", &is_temp("manifest.json")),
        ("the directory of both", &|path| path == Path::new("")),
    ];
    for (what, ignores) in ignored {
        let (_, cases) = cases(&history, &|path| !ignores(path), 1);
        // The later the moment, the more there is to miss; a third of them is enough to see it.
        let some: Vec<Case> = cases.into_iter().rev().step_by(3).collect();
        let wrong = check_all(&some, |case, dir| check_run(dir, &case.promised, &ended));
        tell(&format!("without the syncs of {what}: {} violations in {} images", wrong.len(), some.len()));
        assert!(!wrong.is_empty(), "the syncs of {what} are not needed, or these tests cannot see that they are");
    }
}

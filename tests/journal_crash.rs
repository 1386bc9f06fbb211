//! Processes that are killed, refused, or run into I/O errors in the middle of their work.

mod journal_support;

use journal_support::*;
use rivet::ErrorKind;
use rivet::journal::{Journal, Recovery, reader};
use rivet::run::event::{Event, Recorded};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

const ROLE: &str = "RIVET_TEST_JOURNAL_ROLE";
const DIRECTORY: &str = "RIVET_TEST_JOURNAL_DIR";

/// Event `n` of every journal in this file: mostly progress, every fourth durable.
fn event(n: u64) -> Event {
    if n.is_multiple_of(4) { commit(n) } else { batch(n) }
}

/// The body of a child process. Without the environment that asks for one, there is nothing to do.
#[test]
fn child() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let dir = std::env::var(DIRECTORY).unwrap();
    let mut out = std::io::stdout();
    let mut say = |line: String| {
        out.write_all(format!("\n> {line}\n").as_bytes()).and_then(|()| out.flush()).unwrap();
    };
    let mut journal = match Journal::open(Path::new(&dir), &me()) {
        Ok(journal) => journal,
        Err(error) => return say(format!("refused {} {}", error.code(), error.what())),
    };
    say("opened".into());
    if role == "hold" {
        let _ = std::io::stdin().read_line(&mut String::new());
        return;
    }
    let appends = role.strip_prefix("append ").unwrap();
    let (appends, at_once) = appends.split_once(" of ").unwrap_or((appends, "1"));
    let (appends, at_once): (u64, u64) = (appends.parse().unwrap(), at_once.parse().unwrap());
    let run = journal.last_run().unwrap_or_else(|| journal.begin_run());
    for _ in 0..appends {
        let n = journal.head().map_or(1, |(seq, _)| seq.0 + 1);
        match journal.append_all(run, (n..n + at_once).map(event).collect(), stamp(n)) {
            Ok(_) if journal.acknowledged().0 >= n => say(format!("ack {}", journal.acknowledged())),
            Ok(_) => {}
            Err(error) => say(format!("error {n} {}", error.code())),
        }
        if journal.head().map_or(0, |(seq, _)| seq.0) < n && journal.acknowledged().0 < n {
            // The journal took no more; what it says to the next event is all that is left to see.
            let again = journal.append(run, event(n), stamp(n)).unwrap_err();
            return say(format!("again {}", again.code()));
        }
    }
}

fn spawn(role: &str, dir: &Path, settings: &[(&str, &str)]) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["child", "--exact", "--nocapture", "--test-threads=1"]);
    command.env(ROLE, role).env(DIRECTORY, dir).envs(settings.iter().copied());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
}

/// Lines that the child says, up to its end or to the one that `stop` accepts; then it is killed.
fn listen(child: &mut Child, mut stop: impl FnMut(&str) -> bool) -> (Vec<String>, ExitStatus) {
    let mut said = Vec::new();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let Some(line) = line.unwrap().strip_prefix("> ").map(str::to_owned) else { continue };
        let enough = stop(&line);
        said.push(line);
        if enough {
            child.kill().unwrap();
            break;
        }
    }
    (said, child.wait().unwrap())
}

fn last_ack(said: &[String]) -> u64 {
    said.iter().filter_map(|line| line.strip_prefix("ack ")?.parse().ok()).max().unwrap_or(0)
}

/// Opens the journal and checks that it is a prefix of what was appended, with everything acknowledged.
fn recovered(dir: &Path, acknowledged: u64, what: &str) -> Vec<Recorded> {
    let looked_at = reader::read(dir).unwrap_or_else(|error| panic!("{what}: {error}"));
    let journal = Journal::open(dir, &me()).unwrap_or_else(|error| panic!("{what}: {error}"));
    let records = everything(&journal);
    assert!(records.len() as u64 >= acknowledged, "{what}: {} of {acknowledged}", records.len());
    for (record, n) in records.iter().zip(1..) {
        assert_eq!((record.seq.0, &record.event), (n, &event(n)), "{what}");
    }
    assert_eq!(looked_at[0].head(), journal.head(), "{what}: a reader saw it differently");
    records
}

#[test]
fn whatever_was_acknowledged_survives_kills_at_any_time() {
    let dir = tempfile::tempdir().unwrap();
    let mut random = fastrand::Rng::with_seed(1);
    let mut acknowledged = 0;
    let mut grown = 0;
    for round in 0..30 {
        let mut child = spawn(&format!("append 1000000 of {}", 1 + round % 3), dir.path(), &[]);
        let mut wanted = random.u32(0..40);
        let (said, _) = listen(&mut child, |line| {
            wanted = wanted.saturating_sub(u32::from(line.starts_with("ack")));
            wanted == 0
        });
        acknowledged = acknowledged.max(last_ack(&said));
        let records = recovered(dir.path(), acknowledged, &format!("round {round}"));
        assert!(records.len() >= grown, "round {round}");
        grown = records.len();
    }
    assert!(acknowledged > 200, "{acknowledged}");
}

#[cfg(feature = "failpoints")]
#[test]
fn a_kill_at_every_point_of_every_append_loses_nothing_acknowledged() {
    let points = [
        "journal.append.before",
        "journal.inserted",
        "journal.flushed",
        "journal.synced",
        "journal.head_written",
        "journal.append.after",
    ];
    for point in points {
        let per_append = point.starts_with("journal.append");
        for passage in 1..=if per_append { 13 } else { 3 } {
            let what = format!("{point}@{passage}");
            let dir = tempfile::tempdir().unwrap();
            let mut child = spawn("append 13", dir.path(), &[("RIVET_FAILPOINTS", &format!("{what}=kill"))]);
            let (said, status) = listen(&mut child, |_| false);
            assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9), "{what}: {said:?}");
            let durable = if per_append { (passage - 1) / 4 } else { passage - 1 };
            assert_eq!(last_ack(&said), durable * 4, "{what}");
            let records = recovered(dir.path(), last_ack(&said), &what);
            // What was durable is there even when its acknowledgement was never heard.
            let reached = match point {
                "journal.synced" | "journal.head_written" | "journal.flushed" => passage * 4,
                "journal.append.after" => passage / 4 * 4,
                _ => 0,
            };
            assert!(records.len() as u64 >= reached, "{what}: {} of {reached}", records.len());
            // And the run goes on from there.
            let (said, _) = listen(&mut spawn("append 8", dir.path(), &[]), |_| false);
            assert!(said.iter().all(|line| line.starts_with("ack") || line == "opened"), "{what}: {said:?}");
            recovered(dir.path(), last_ack(&said), &what);
        }
    }
}

#[cfg(feature = "failpoints")]
#[test]
fn a_kill_within_an_append_of_several_events_keeps_a_beginning_of_them() {
    // The second append of six begins with event 7; 8 and 12 are durable.
    for passage in 7..=12 {
        for point in [format!("journal.append.before@{passage}"), format!("journal.append.after@{passage}")] {
            let dir = tempfile::tempdir().unwrap();
            let mut child = spawn("append 3 of 6", dir.path(), &[("RIVET_FAILPOINTS", &format!("{point}=kill"))]);
            let (said, status) = listen(&mut child, |_| false);
            assert!(!status.success(), "{point}: {said:?}");
            assert_eq!(last_ack(&said), 6, "{point}");
            let records = recovered(dir.path(), 6, &point);
            let whole = point.starts_with("journal.append.after");
            assert!(records.len() <= 12 && (records.len() == 12 || !whole), "{point}: {}", records.len());
        }
    }
}

#[cfg(feature = "failpoints")]
#[test]
fn kills_during_recovery_itself_three_deep_lose_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let kill = |role: &str, script: &str| {
        let (said, status) = listen(&mut spawn(role, dir.path(), &[("RIVET_FAILPOINTS", script)]), |_| false);
        assert!(!status.success(), "{script}: {said:?}");
        last_ack(&said)
    };
    // The very first open, and then one that finds a gap.
    for script in ["journal.open.verified=kill", "journal.open.settled=kill", "journal.open.verified=kill"] {
        assert_eq!(kill("append 1", script), 0);
    }
    let acknowledged = kill("append 100", "journal.flushed@5=kill");
    assert_eq!(acknowledged, 16);
    for script in ["journal.open.verified=kill", "journal.open.settled=kill", "journal.open.verified=kill"] {
        kill("append 1", script);
    }
    assert_eq!(recovered(dir.path(), acknowledged, "after three kills").len(), 20);
}

#[cfg(feature = "failpoints")]
#[test]
fn the_first_io_error_ends_the_journal_and_the_next_one_finds_everything_acknowledged() {
    let points = [
        "journal.append.before@8",
        "journal.inserted@2",
        "journal.flushed@2",
        "journal.synced@2",
        "journal.head_written@2",
        "journal.append.after@8",
    ];
    for point in points {
        let dir = tempfile::tempdir().unwrap();
        let script = format!("{point}=error");
        let mut child = spawn("append 100", dir.path(), &[("RIVET_FAILPOINTS", &script)]);
        let (said, status) = listen(&mut child, |_| false);
        assert!(status.success(), "{point}: {said:?}");
        let mut expected = vec!["opened", "ack 4", "error 8 RIVET_JOURNAL_IO"];
        // After the head was written the event is acknowledged on disk, though nobody was told.
        let told = !matches!(point, "journal.append.after@8");
        if told {
            expected.push("again RIVET_JOURNAL_IO");
            assert_eq!(said, expected, "{point}");
        } else {
            assert_eq!(said[..3], expected, "{point}");
        }
        recovered(dir.path(), 4, point);
    }
}

#[test]
fn a_full_disk_ends_the_journal_with_a_typed_error_and_space_brings_it_back() {
    let dir = tempfile::tempdir().unwrap();
    // Files may not grow past a limit; without the signal, writing on is an error like that of a full disk.
    let shell = format!(
        "trap '' XFSZ; ulimit -f 700; exec {} child --exact --nocapture --test-threads=1",
        std::env::current_exe().unwrap().display()
    );
    let mut command = Command::new("bash");
    command.args(["-c", &shell]).env(ROLE, "append 100000").env(DIRECTORY, dir.path());
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let (said, status) = listen(&mut child, |_| false);
    assert!(status.success(), "{:?}", said.last());
    let end: Vec<&str> = said.iter().rev().take(2).rev().map(String::as_str).collect();
    assert!(end[0].starts_with("error") && end[0].ends_with("RIVET_JOURNAL_IO"), "{end:?}");
    assert_eq!(end[1], "again RIVET_JOURNAL_IO");
    let acknowledged = last_ack(&said);
    assert!(acknowledged > 100, "{acknowledged}");
    recovered(dir.path(), acknowledged, "after the disk was full");
    let (said, _) = listen(&mut spawn("append 50", dir.path(), &[]), |_| false);
    recovered(dir.path(), last_ack(&said), "with space again");
}

#[test]
fn two_processes_cannot_hold_one_export_and_the_second_learns_who_has_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut holder = spawn("hold", dir.path(), &[]);
    let mut lines = BufReader::new(holder.stdout.take().unwrap()).lines();
    assert!(lines.by_ref().any(|line| line.unwrap() == "> opened"));
    let refused = Journal::open(dir.path(), &me()).err().expect("the journal is held");
    assert_eq!(refused.kind(), ErrorKind::JournalBusy);
    for part in [holder.id().to_string(), me().host, me().run_id] {
        assert!(refused.what().contains(&part), "{} lacks {part}", refused.what());
    }
    assert_eq!(reader::holder(dir.path()).map(|found| found.pid), Some(holder.id()));
    let (said, _) = listen(&mut spawn("hold", dir.path(), &[]), |_| false);
    assert!(said[0].starts_with("refused RIVET_JOURNAL_BUSY"), "{said:?}");
    // However it ends, the lock ends with it; the file that names it stays and means nothing.
    holder.kill().unwrap();
    holder.wait().unwrap();
    assert!(std::fs::read_to_string(dir.path().join("LOCK")).unwrap().contains(&holder.id().to_string()));
    assert_eq!(reader::holder(dir.path()), None);
    assert_eq!(*open(dir.path()).recovery(), Recovery::Fresh);
}

#[test]
fn a_lock_file_that_is_deleted_while_held_lets_nobody_else_in() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(dir.path());
    append_all(&mut journal, (1..=4).map(event));
    std::fs::remove_file(dir.path().join("LOCK")).unwrap();
    let (said, _) = listen(&mut spawn("append 4", dir.path(), &[]), |_| false);
    assert!(said[0].starts_with("refused RIVET_JOURNAL_BUSY"), "{said:?}");
    append_all(&mut journal, (5..=8).map(event));
    drop(journal);
    recovered(dir.path(), 8, "afterwards");
}

#[test]
fn a_state_directory_that_cannot_be_written_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "x").unwrap();
    for place in [file.join("orders"), Path::new("/proc/rivet/orders").to_owned()] {
        let refused = Journal::open(&place, &me()).err().expect("nothing can be made there");
        let kinds = [ErrorKind::JournalUnwritable, ErrorKind::JournalForeign];
        assert!(kinds.contains(&refused.kind()), "{refused}");
        assert!(refused.what().contains(&place.display().to_string()), "{refused}");
    }
}

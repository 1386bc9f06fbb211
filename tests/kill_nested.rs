//! SIGKILL of a run, of the resume that follows, and of the resume after that.
//!
//! The first kill is at every boundary of an event: before and after each append to the journal. The resume that follows
//! is traced, and killed at each boundary that it passes itself, those of opening the journal among them: every pair is
//! taken, none is sampled. The resume after that is traced again and killed once, at another of its own passages for each
//! pair, inside an append and around a part's steps as well. What has to hold is asked after one kill, after two and after
//! three.
//!
//! With `RIVET_KILL_CAMPAIGN_MINUTES`, which `tools/kill-campaign` sets, first and second kill are at every passage, and
//! all pairs are taken again with another third passage each time, until there is none left or the time is over.

#![cfg(feature = "failpoints")]

mod support;

use rivet::error::Exit;
use rivet::journal::reader;
use rivet::run::RunSummary;
use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use support::converge::{assert_delivered, assert_no_half_part, go_on_with};
use support::database::Database;
use support::matrix::{caught, in_parallel, tell};
use support::probe::{self, run_into, traced};
use support::rivet::{Finished, Kept, Rivet, Scratch};

/// Two slices, read by two workers at once.
const SMALL: &str = "table: t\nmode: chunked\nchunk_count: 2\ntuning: { parallel: 2, batch_size: 100 }";
const ROWS: u32 = 60;

struct Campaign<'a> {
    database: &'a Database,
    expected: &'a [String],
    firsts: &'a [String],
    /// Whether a passage is one to kill the first resume at.
    second: fn(&str) -> bool,
    /// Which of a pair's third passages is taken, counted from where the pair begins.
    round: usize,
    until: Option<Instant>,
    counts: Counts,
}

#[derive(Default)]
struct Counts {
    /// First kills that were tried, those that happened, and those whose pairs were all taken.
    firsts: [AtomicUsize; 3],
    /// Second kills that were tried, and those that happened. The same for the third ones.
    pairs: [AtomicUsize; 2],
    thirds: [AtomicUsize; 2],
    /// The longest resume that was killed third.
    longest: AtomicUsize,
    /// Passages of the resumes that were killed third: all of them, and those at which one was killed.
    passages: Mutex<[BTreeSet<String>; 2]>,
}

fn count(counter: &AtomicUsize) {
    counter.fetch_add(1, Ordering::Relaxed);
}

fn is_boundary(point: &str) -> bool {
    point.starts_with("journal.append.") || point.starts_with("journal.open.")
}

/// Goes on with this run, and is killed at `point` in its turn.
fn killed_at(scratch: &Scratch, run: Option<&str>, point: &str) -> Finished {
    go_on_with(&Rivet::new(scratch).env("RIVET_FAILPOINTS", format!("{point}=kill")), run)
}

/// The journal's last run, folded here and now: thousands of processes for that would take most of the time. `None` when
/// the kill came before its first fact was durable.
fn folded(scratch: &Scratch) -> Option<RunSummary> {
    let journal = match reader::read(&scratch.journal_dir("orders")) {
        Ok(mut journals) => journals.remove(0),
        // There may be none yet. A damaged one is never what a kill leaves.
        Err(error) => {
            assert_ne!(error.exit(), Exit::Protected, "{error}");
            return None;
        }
    };
    let records = journal.records(journal.last_run()?).expect("a journal holds the runs that it lists");
    Some(RunSummary::from_events(&records))
}

fn journaled_run(scratch: &Scratch) -> Option<String> {
    folded(scratch).map(|summary| summary.run_id)
}

/// The rows of the server, nothing that was not asked for, and a journal that tells the same story.
fn assert_converged(scratch: &Scratch, finished: Finished, expected: &[String]) {
    let summary = assert_delivered(scratch, finished, expected);
    let told = folded(scratch).map(|summary| serde_json::to_value(summary).expect("a summary can be written"));
    assert_eq!(told, Some(summary), "the journal tells another story than the live run");
}

/// What the first kill left, and where the resume of it passes.
struct Left {
    run: Option<String>,
    kept: Kept,
    passages: Vec<String>,
}

impl Campaign<'_> {
    fn is_over(&self) -> bool {
        self.until.is_some_and(|until| Instant::now() >= until)
    }

    /// Kills a run at the `i`-th place, and takes every pair that begins there.
    fn first_kill(&self, i: usize) -> Result<(), String> {
        if self.is_over() {
            return Ok(());
        }
        count(&self.counts.firsts[0]);
        let (first, scratch) = (&self.firsts[i], probe::scratch(self.database, SMALL));
        let mut left = None;
        caught(first, || left = self.leave(&scratch, first))?;
        let Some(left) = left else { return Ok(()) };
        let mut wrong = Vec::new();
        let seconds = left.passages.iter().filter(|point| (self.second)(point));
        for (j, second) in seconds.enumerate() {
            if self.is_over() {
                break;
            }
            scratch.put_back(&left.kept);
            // Pairs begin at different places, so that the third kills walk through everything that a resume passes.
            let begin = i * 7 + j;
            let pair = caught(&format!("{first}, {second}"), || {
                self.second_kill(&scratch, left.run.as_deref(), second, begin);
            });
            wrong.extend(pair.err());
        }
        if !self.is_over() {
            count(&self.counts.firsts[2]);
        }
        if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
    }

    /// `None` when the run did not come to that place. Threads interleave in other ways each time.
    fn leave(&self, scratch: &Scratch, first: &str) -> Option<Left> {
        let killed = run_into(scratch, &format!("{first}=kill"));
        assert_no_half_part(scratch);
        if !killed.killed() {
            assert_converged(scratch, killed, self.expected);
            return None;
        }
        count(&self.counts.firsts[1]);
        let (run, kept) = (journaled_run(scratch), scratch.keep());
        let (resumed, passages) = traced(scratch, run.as_deref());
        assert_converged(scratch, resumed, self.expected);
        Some(Left { run, kept, passages })
    }

    fn second_kill(&self, scratch: &Scratch, run: Option<&str>, second: &str, begin: usize) {
        count(&self.counts.pairs[0]);
        let killed = killed_at(scratch, run, second);
        assert_no_half_part(scratch);
        if !killed.killed() {
            return assert_converged(scratch, killed, self.expected);
        }
        count(&self.counts.pairs[1]);
        let run = run.map(str::to_owned).or_else(|| journaled_run(scratch));
        let kept = scratch.keep();
        let (resumed, passages) = traced(scratch, run.as_deref());
        assert_converged(scratch, resumed, self.expected);
        self.counts.longest.fetch_max(passages.len(), Ordering::Relaxed);
        if self.round < passages.len() {
            scratch.put_back(&kept);
            let third = &passages[(begin + self.round) % passages.len()];
            let wrong = caught(third, || self.third_kill(scratch, run.as_deref(), third));
            self.note(&passages, third);
            if let Err(wrong) = wrong {
                panic!("{wrong}");
            }
        }
    }

    fn third_kill(&self, scratch: &Scratch, run: Option<&str>, third: &str) {
        count(&self.counts.thirds[0]);
        let killed = killed_at(scratch, run, third);
        assert_no_half_part(scratch);
        if !killed.killed() {
            return assert_converged(scratch, killed, self.expected);
        }
        count(&self.counts.thirds[1]);
        assert_converged(scratch, go_on_with(&Rivet::new(scratch), journaled_run(scratch).as_deref()), self.expected);
    }

    fn note(&self, passages: &[String], third: &str) {
        let mut noted = self.counts.passages.lock().expect("nothing panics while it notes a passage");
        noted[0].extend(passages.iter().cloned());
        noted[1].insert(third.to_owned());
    }

    /// Prints the counts, and fails when something differed or when hardly anything was killed.
    fn report(&self, wrong: &[String]) {
        let loaded = |counts: &[AtomicUsize]| (counts[0].load(Ordering::Relaxed), counts[1].load(Ordering::Relaxed));
        let [firsts, pairs, thirds] =
            [loaded(&self.counts.firsts), loaded(&self.counts.pairs), loaded(&self.counts.thirds)];
        let [passages, places] = self.counts.passages.lock().expect("nothing panics while it notes a passage").clone();
        tell(&format!(
            "nested: {} first points, {} killed; {} pairs, {} killed; {} third points, {} killed, at {} of {} passages; \
             {} kills in all, {} differences",
            firsts.0,
            firsts.1,
            pairs.0,
            pairs.1,
            thirds.0,
            thirds.1,
            places.len(),
            passages.len(),
            firsts.1 + pairs.1 + thirds.1,
            wrong.len(),
        ));
        assert!(wrong.is_empty(), "{} went wrong:\n{}", wrong.len(), wrong.join("\n"));
        for (tried, killed) in [firsts, pairs, thirds] {
            assert!(killed * 10 >= tried * 9, "only {killed} of {tried} kills happened; they prove little");
        }
    }
}

/// Minutes that `tools/kill-campaign` gives. Without them, the share of the ordinary tests.
fn minutes() -> Option<u64> {
    let minutes = std::env::var("RIVET_KILL_CAMPAIGN_MINUTES").ok()?;
    Some(minutes.parse().expect("RIVET_KILL_CAMPAIGN_MINUTES is a whole number"))
}

#[test]
fn kills_nested_three_deep_converge_wherever_they_happen() {
    let database = probe::database("nested", ROWS);
    let probe = probe::probe(&database, SMALL);
    let minutes = minutes();
    let mut firsts = probe.points;
    if minutes.is_none() {
        firsts.retain(|point| is_boundary(point));
    }
    let until = minutes.map(|minutes| Instant::now() + Duration::from_secs(60 * minutes));
    for round in 0.. {
        let campaign = Campaign {
            database: &database,
            expected: &probe.rows,
            firsts: &firsts,
            second: if minutes.is_some() { |_| true } else { is_boundary },
            round,
            until,
            counts: Counts::default(),
        };
        let wrong = in_parallel(firsts.len(), |i| campaign.first_kill(i));
        campaign.report(&wrong);
        let longest = campaign.counts.longest.load(Ordering::Relaxed);
        let Some(minutes) = minutes else {
            return assert_every_kind_of_passage_was_third(&campaign);
        };
        let taken = campaign.counts.firsts[2].load(Ordering::Relaxed);
        let came =
            format!("{taken} of {} first points with all their pairs, round {} of {longest}", firsts.len(), round + 1);
        if campaign.is_over() {
            return tell(&format!("nested: the {minutes} minutes were over at {came}"));
        }
        tell(&format!("nested: {came}"));
        if round + 1 >= longest {
            return tell("nested: the campaign is complete");
        }
    }
}

fn assert_every_kind_of_passage_was_third(campaign: &Campaign) {
    let noted = campaign.counts.passages.lock().expect("nothing panics while it notes a passage");
    let [passed, killed] = noted.each_ref().map(|points| {
        let names = points.iter().map(|point| point.split('@').next().expect("splitting yields at least one piece"));
        names.collect::<BTreeSet<&str>>()
    });
    assert!(killed.len() > 10, "{killed:?}");
    assert_eq!(passed, killed, "a resume was never killed third at some places that it passes");
}

//! `rivet replay`

use super::journals::{self, From, Run};
use super::output::Out;
use super::summary::{self, Moment, Warning};
use super::{errors, timeline};
use crate::error::{Error, ErrorKind, Exit, Result};
use crate::run::event::Recorded;
use crate::run::ids::EventSeq;
use crate::run::{RunState, RunSummary};
use crate::verify::replay::{Compared, Replay, replay};
use serde::Serialize;

/// Tell a run's story from its journal, without a database
///
/// Folds the events with the code that the live run ran, prints them as a timeline, rebuilds the summary, and compares it
/// with the manifest where that can be reached. The first event that does not fit is named.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  rivet replay                                             the latest run of each export
  rivet replay --journal .rivet/orders --run orders-01JD3M8Z5W6Q9T7R2K4X1V0YBN
  rivet replay --journal orders.jsonl --until 40           how things stood after event 40
  rivet replay --parts                                     read every file, too
  rivet replay --events --json                             the events, one on a line")]
pub struct Args {
    #[command(flatten)]
    from: From,

    /// The run; the latest of each export when left out
    #[arg(long, value_name = "RUN_ID")]
    run: Option<String>,

    /// Stop after this event
    #[arg(long, value_name = "SEQ")]
    until: Option<u64>,

    /// Show every batch; with --json, one event on a line and nothing else
    #[arg(long)]
    events: bool,

    /// Compare every byte of the files, too
    #[arg(long, conflicts_with = "until")]
    parts: bool,

    /// Print the summaries as one JSON object
    #[arg(long)]
    json: bool,
}

pub fn main(args: &Args, out: &mut Out) -> Result<Exit> {
    let journals = match &args.run {
        Some(run_id) => args.from.read_for(run_id)?,
        None => args.from.read()?,
    };
    let (runs, unread) = match &args.run {
        Some(run_id) => (vec![journals::find(&journals, run_id)?], vec![]),
        None => latest(&journals)?,
    };
    if args.events && args.json {
        events(args, out, runs)?;
        return Ok(conclude(out, unread, args.json));
    }
    let mut stories = Vec::new();
    for run in runs {
        let story = Story::tell(run, args)?;
        if !args.json {
            story.show(out, args);
        }
        // The events of one run are enough to hold at a time.
        stories.push(Story { records: Vec::new(), ..story });
    }
    if args.json {
        let summaries: Vec<&RunSummary> = stories.iter().map(|story| &story.run.summary).collect();
        let replays: Vec<_> = stories.iter().map(Story::as_json).collect();
        let warnings = summary::warnings(&summaries);
        out.json(&Told { runs: summaries, warnings, replays })?;
    }
    let problems = stories.into_iter().filter_map(Story::problem).chain(unread).collect();
    Ok(conclude(out, problems, args.json))
}

/// What could be told was told; what could not is named after it, and decides the exit code.
fn conclude(out: &mut Out, problems: Vec<Error>, json: bool) -> Exit {
    out.flush();
    problems.iter().for_each(|error| errors::show(error, json));
    summary::worst(&problems.iter().collect::<Vec<_>>())
}

/// What `replay` prints with `--json`.
#[derive(Debug, Serialize)]
struct Told<'a> {
    runs: Vec<&'a RunSummary>,
    warnings: Vec<Warning<'a>>,
    replays: Vec<Replayed<'a>>,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Replayed<'a> {
    Compared(&'a Replay),
    Refused(serde_json::Value),
}

/// A run, as far as it is told, and what came of comparing it.
struct Story<'a> {
    run: Run<'a>,
    records: Vec<Recorded>,
    replayed: Result<Replay>,
}

impl Story<'_> {
    fn tell<'a>(mut run: Run<'a>, args: &Args) -> Result<Story<'a>> {
        let records = records(&run, args.until)?;
        let replayed = match args.until {
            None => replay(&records, &run.summary, args.parts),
            // A story that is cut short has no end to compare.
            Some(_) => {
                run.summary = RunSummary::from_events(&records);
                let events = records.len() as u64;
                let untouched = Replay { events, compared: Compared::Events, divergence: None };
                RunState::fold(&records).map(|_| untouched).map_err(Error::from)
            }
        };
        Ok(Story { run, records, replayed })
    }

    fn show(&self, out: &mut Out, args: &Args) {
        let lines = timeline::lines(&self.records, args.events);
        let width =
            |of: fn(&timeline::Line) -> &str| lines.iter().map(|line| of(line).chars().count()).max().unwrap_or(0);
        let (seq, event) = (width(|line| &line.seq), width(|line| &line.event));
        for line in &lines {
            if out.is_over() {
                return;
            }
            let details = errors::single_line(&line.details);
            out.line(&format!("{:>seq$}  {}  {:<event$}  {details}", line.seq, line.time, line.event));
        }
        let summary = &self.run.summary;
        let place = &args.from.place;
        let typed =
            summary::Typed { config: place.config.as_deref(), params: &[], state_dir: place.state_dir.as_deref() };
        let moment = match args.until {
            Some(_) => Moment::Past,
            None => self.run.moment(),
        };
        out.write(&format!("\n{}", summary::text_of(summary, moment, &typed)));
        if let (Ok(replay), None) = (&self.replayed, args.until) {
            out.line(&format!("  {:<12} {}", "replay", told(replay)));
        }
        out.line("");
    }

    fn as_json(&self) -> Replayed<'_> {
        match &self.replayed {
            Ok(replay) => Replayed::Compared(replay),
            Err(error) => Replayed::Refused(errors::as_json(error)),
        }
    }

    fn problem(self) -> Option<Error> {
        let run_id = self.run.summary.run_id;
        match self.replayed {
            Err(error) => Some(error.at(run_id)),
            Ok(replay) => replay.divergence.map(|found| {
                let what = format!("{run_id}: event {} ({}): {}", found.seq, found.event, found.what);
                Error::new(ErrorKind::ReplayDiverged, what)
            }),
        }
    }
}

/// The latest run of each export, and why those that are missing cannot be read.
fn latest(journals: &[crate::journal::reader::ExportJournal]) -> Result<(Vec<Run<'_>>, Vec<Error>)> {
    let journals::AllRuns { runs, problems, unreadable } = journals::runs(journals);
    let named = |export: &str, problem: &Error| {
        let what = format!("export \"{export}\": {}", problem.what());
        Error::new(problem.kind(), what).with_hint(problem.hint())
    };
    let problems = problems.into_iter().map(|(export, problem)| named(export, problem));
    let unread: Vec<Error> =
        problems.chain(unreadable.iter().map(|(export, problem)| named(export, problem))).collect();
    let latest: Vec<Run<'_>> = runs.into_iter().filter(Run::is_latest).collect();
    match latest.is_empty() && unread.is_empty() {
        true => Err(Error::new(ErrorKind::RunUnknown, "the journal holds no run")),
        false => Ok((latest, unread)),
    }
}

/// A run's events, up to one of them.
fn records(run: &Run<'_>, until: Option<u64>) -> Result<Vec<Recorded>> {
    let mut records = run.records()?;
    if let Some(until) = until {
        records.retain(|recorded| recorded.seq <= EventSeq(until));
    }
    if records.is_empty() {
        let what = format!("{} has no event so early", run.summary.run_id);
        return Err(Error::new(ErrorKind::Usage, what).with_hint("`rivet replay --events` shows the numbers."));
    }
    Ok(records)
}

fn events(args: &Args, out: &mut Out, runs: Vec<Run<'_>>) -> Result<()> {
    for run in runs {
        for recorded in records(&run, args.until)? {
            if out.is_over() {
                return Ok(());
            }
            out.json(&recorded)?;
        }
    }
    Ok(())
}

fn told(replay: &Replay) -> &'static str {
    match (&replay.divergence, replay.compared) {
        (Some(_), _) => "DIVERGED; the first event that does not fit is named below",
        (None, Compared::Events) => "every event follows from those before it; no output was compared",
        (None, Compared::Manifest) => "every event follows from those before it, and the manifest says the same",
        (None, Compared::Parts) => "every event follows from those before it; manifest and every file say the same",
    }
}

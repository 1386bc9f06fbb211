//! `rivet replay`

use super::journals::{self, From, Run};
use super::output::Out;
use super::{errors, summary, timeline};
use crate::error::{Error, ErrorKind, Exit, Result};
use crate::run::RunSummary;
use crate::run::event::Recorded;
use crate::run::ids::EventSeq;
use crate::verify::replay::{Compared, Replay, replay};
use serde_json::json;

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
    let journals = args.from.read()?;
    let runs = match &args.run {
        Some(run_id) => vec![journals::find(&journals, run_id)?],
        None => latest(&journals)?,
    };
    let runs: Vec<Run<'_>> = runs.into_iter().map(|run| cut(run, args.until)).collect::<Result<_>>()?;
    if args.events && args.json {
        return events(out, &runs);
    }
    let mut replays = Vec::new();
    for run in &runs {
        // A story that is cut short has no end to compare.
        let replayed = match args.until {
            None => replay(&run.records, &run.summary, args.parts),
            Some(_) => crate::run::RunState::fold(&run.records).map_err(Error::from).map(|_| Replay {
                events: run.records.len() as u64,
                compared: Compared::Events,
                divergence: None,
            }),
        };
        if !args.json {
            show(out, run, args, replayed.as_ref());
        }
        replays.push(replayed);
    }
    if args.json {
        let ok = |replayed: &Result<Replay>| match replayed {
            Ok(replay) => json!(replay),
            Err(error) => errors::as_json(error),
        };
        let summaries: Vec<&RunSummary> = runs.iter().map(|run| &run.summary).collect();
        out.json(&json!({"runs": summaries, "replays": replays.iter().map(ok).collect::<Vec<_>>()}))?;
    }
    out.flush();
    verdict(&runs, replays, args.json)
}

/// The first run whose story does not hold decides.
fn verdict(runs: &[Run<'_>], replays: Vec<Result<Replay>>, json: bool) -> Result<Exit> {
    let mut worst: Vec<Error> = Vec::new();
    for (run, replayed) in runs.iter().zip(replays) {
        match replayed {
            Err(error) => worst.push(error.at(&run.summary.run_id)),
            Ok(Replay { divergence: Some(found), .. }) => {
                let what = format!("{}: event {} ({}): {}", run.summary.run_id, found.seq, found.event, found.what);
                worst.push(Error::new(ErrorKind::ReplayDiverged, what));
            }
            Ok(_) => {}
        }
    }
    worst.iter().for_each(|error| errors::show(error, json));
    Ok(summary::worst(&worst.iter().collect::<Vec<_>>()))
}

fn latest(journals: &[crate::journal::reader::ExportJournal]) -> Result<Vec<Run<'_>>> {
    let journals::AllRuns { runs, problems, mut unreadable } = journals::runs(journals);
    if let Some((_, problem)) = problems.first() {
        return Err(Error::new(problem.kind(), problem.what()).with_hint(problem.hint()));
    }
    if let Some((_, error)) = unreadable.pop() {
        return Err(error);
    }
    let is_latest = |run: &Run<'_>| run.records.first().map(|first| first.run) == run.journal.last_run();
    let latest: Vec<Run<'_>> = runs.into_iter().filter(is_latest).collect();
    match latest.is_empty() {
        true => Err(Error::new(ErrorKind::RunUnknown, "the journal holds no run")),
        false => Ok(latest),
    }
}

fn cut(mut run: Run<'_>, until: Option<u64>) -> Result<Run<'_>> {
    let Some(until) = until else { return Ok(run) };
    let kept: Vec<Recorded> = run.records.into_iter().filter(|recorded| recorded.seq <= EventSeq(until)).collect();
    if kept.is_empty() {
        let what = format!("{} has no event up to {until}", run.summary.run_id);
        return Err(Error::new(ErrorKind::Usage, what).with_hint("`rivet replay --events` shows the numbers."));
    }
    run.summary = RunSummary::from_events(&kept);
    run.records = kept;
    Ok(run)
}

fn events(out: &mut Out, runs: &[Run<'_>]) -> Result<Exit> {
    for recorded in runs.iter().flat_map(|run| &run.records) {
        if out.is_over() {
            break;
        }
        out.json(recorded)?;
    }
    Ok(Exit::Success)
}

fn show(out: &mut Out, run: &Run<'_>, args: &Args, replayed: Result<&Replay, &Error>) {
    let lines = timeline::lines(&run.records, args.events);
    let width = |of: fn(&timeline::Line) -> &str| lines.iter().map(|line| of(line).chars().count()).max().unwrap_or(0);
    let (seq, event) = (width(|line| &line.seq), width(|line| &line.event));
    for line in &lines {
        if out.is_over() {
            return;
        }
        let details = errors::single_line(&line.details);
        out.line(&format!("{:>seq$}  {}  {:<event$}  {details}", line.seq, line.time, line.event));
    }
    let place = &args.from.place;
    let resume = summary::resume_command(&run.summary.run_id, place.config.as_deref(), place.state_dir.as_deref());
    let live = run.journal.live.as_ref().filter(|_| run.live);
    out.line("");
    out.write(&summary::text_of(&run.summary, live, &resume));
    if let (Ok(replay), None) = (replayed, args.until) {
        let told = match (&replay.divergence, replay.compared) {
            (Some(_), _) => continue_in_errors(),
            (None, Compared::Events) => "every event follows from those before it; no output was compared",
            (None, Compared::Manifest) => "every event follows from those before it, and the manifest says the same",
            (None, Compared::Parts) => "every event follows from those before it; manifest and every file say the same",
        };
        out.line(&format!("  {:<12} {told}", "replay"));
    }
    out.line("");
}

fn continue_in_errors() -> &'static str {
    "DIVERGED; the first event that does not fit is named below"
}

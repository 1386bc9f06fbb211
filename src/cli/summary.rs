//! A run's summary: a compact block for people, one schema for programs.

use super::{errors, figures};
use crate::error::{Error, ErrorKind, Exit, Result};
use crate::journal::Holder;
use crate::run::RunSummary;
use crate::run::plan::Split;
use serde::Serialize;
use std::borrow::Cow;
use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

const GREEN: anstyle::Style = anstyle::AnsiColor::Green.on_default().bold();
const RED: anstyle::Style = anstyle::AnsiColor::Red.on_default().bold();
const YELLOW: anstyle::Style = anstyle::AnsiColor::Yellow.on_default().bold();
const BOLD: anstyle::Style = anstyle::Style::new().bold();
const DIM: anstyle::Style = anstyle::Style::new().dimmed();

/// `{"runs":[…],"warnings":[…]}`: what `run` and `resume` print with `--json`.
#[derive(Debug, Serialize)]
pub struct Runs<'a> {
    pub runs: Vec<&'a RunSummary>,
    pub warnings: Vec<Warning<'a>>,
}

/// What a run's journal notes as degraded. Stands beside the summaries, whose fields are a contract.
#[derive(Debug, Serialize)]
pub struct Warning<'a> {
    pub run_id: &'a str,
    pub export: &'a str,
    pub code: &'a str,
    pub message: Cow<'a, str>,
}

/// The warnings of several runs, in the order of the runs and of their events.
pub fn warnings<'a>(summaries: &[&'a RunSummary]) -> Vec<Warning<'a>> {
    let of_run = |summary: &&'a RunSummary| {
        let summary: &'a RunSummary = summary;
        let warning = |code: &'a str, message: Cow<'a, str>| Warning {
            run_id: &summary.run_id,
            export: &summary.export_name,
            code,
            message,
        };
        let degraded = summary.journal.degraded();
        let kept = degraded.warnings.iter().map(move |(code, message)| warning(code, message.into()));
        let more = (degraded.more_warnings > 0)
            .then(|| warning("more_warnings", figures::counted(degraded.more_warnings, "more warning").into()));
        kept.chain(more).collect::<Vec<_>>()
    };
    summaries.iter().flat_map(of_run).collect()
}

/// The one schema of `--json`, on one line.
///
/// # Errors
/// As [`super::output::Out::json`].
pub fn json(out: &mut super::output::Out, summaries: &[&RunSummary]) -> Result<()> {
    out.json(&Runs { runs: summaries.to_vec(), warnings: warnings(summaries) })
}

/// The block for a run that this process worked on, or was kept from working on by `error`.
pub fn text(summary: &RunSummary, error: Option<&Error>, typed: &Typed<'_>) -> String {
    // The same command would be refused once more.
    let is_refused = error.is_some_and(|error| needs_a_person(error.exit()));
    block(summary, Moment::Ended, if is_refused { None } else { Some(typed) })
}

/// How what is shown relates to now.
#[derive(Debug, Clone, Copy)]
pub enum Moment<'a> {
    /// No process works on the run.
    Ended,
    /// This one does.
    Live(&'a Holder),
    /// How the run once stood.
    Past,
}

/// The block for any run.
pub fn text_of(summary: &RunSummary, moment: Moment<'_>, typed: &Typed<'_>) -> String {
    block(summary, moment, Some(typed))
}

fn block(summary: &RunSummary, moment: Moment<'_>, typed: Option<&Typed<'_>>) -> String {
    let mut block = heading(summary, moment);
    for (label, value) in rows(summary) {
        // Writing to a String cannot fail.
        let _ = writeln!(block, "  {DIM}{label:<12}{DIM:#} {}", errors::single_line(&value));
    }
    let degraded = summary.journal.degraded();
    let warnings = folded(&degraded.warnings);
    for (code, message, times) in warnings.iter().take(MAX_WARNINGS) {
        let times = if *times > 1 { format!(" (×{times})") } else { String::new() };
        let message = errors::single_line(message);
        let _ = writeln!(block, "  {YELLOW}{:<12}{YELLOW:#} {code}: {message}{times}", "warning");
    }
    let unseen: u64 = warnings.iter().skip(MAX_WARNINGS).map(|(.., times)| times).sum();
    let more = unseen + degraded.more_warnings;
    if more > 0 {
        let _ = writeln!(block, "  {YELLOW}{:<12}{YELLOW:#} {}", "", figures::counted(more, "more warning"));
    }
    let next = typed.filter(|_| matches!(moment, Moment::Ended)).and_then(|typed| next_step(summary, typed));
    if let Some(Next { before, command }) = next {
        let _ = writeln!(block, "  {DIM}{:<12}{DIM:#} {before}{BOLD}{command}{BOLD:#}", "next");
    }
    block
}

/// More than these stay in the journal.
const MAX_WARNINGS: usize = 8;

/// Each warning once, in the order in which they came, with how often it did: each resume may note the same one again.
fn folded(warnings: &[(String, String)]) -> Vec<(&str, &str, u64)> {
    let mut folded: Vec<(&str, &str, u64)> = Vec::new();
    for (code, message) in warnings {
        match folded.iter_mut().find(|(of, what, _)| of == code && what == message) {
            Some((.., times)) => *times += 1,
            None => folded.push((code, message, 1)),
        }
    }
    folded
}

fn heading(summary: &RunSummary, moment: Moment<'_>) -> String {
    let (style, sign) = match summary.status.as_str() {
        "success" => (GREEN, "✓"),
        "skipped" => (GREEN, "–"),
        "running" if matches!(moment, Moment::Live(_)) => (GREEN, "●"),
        "interrupted" | "running" => (YELLOW, "■"),
        _ => (RED, "✗"),
    };
    let mut took = figures::duration(took(summary));
    if summary.journal.invocations() > 1 {
        took.push_str(&format!(", in {} invocations", summary.journal.invocations()));
    }
    let status = match (summary.status.as_str(), &summary.skip_reason) {
        ("success", _) => format!("success in {took}"),
        ("skipped", Some(reason)) => format!("skipped ({})", errors::single_line(reason)),
        ("running", _) => match moment {
            // Its clock stands still between two durable events; the wall's does not.
            Moment::Live(holder) => {
                let since = summary.journal.started_ms().map_or("-".to_owned(), figures::instant);
                format!("running since {since} (pid {} on {})", holder.pid, errors::single_line(&holder.host))
            }
            Moment::Past => format!("running, after {took}"),
            Moment::Ended => format!("ended without a word after {took}: killed, or the machine went down"),
        },
        (status, _) => format!("{status} after {took}"),
    };
    format!("{style}{sign} {}{style:#}  {status}\n", summary.export_name)
}

fn took(summary: &RunSummary) -> Duration {
    Duration::from_millis(u64::try_from(summary.duration_ms).unwrap_or(0))
}

/// Label and value, in the order in which people ask.
fn rows(summary: &RunSummary) -> Vec<(&'static str, String)> {
    let journal = &summary.journal;
    let planned = journal.planned();
    let mut rows = vec![("run", summary.run_id.clone())];
    let total = u64::try_from(summary.total_rows).unwrap_or(0);
    if summary.status != "skipped" {
        rows.push(("rows", with_rate(figures::count(total), total, summary, figures::count, " rows/s")));
        let files = format!(
            "{}, {}",
            figures::counted(summary.files_committed as u64, "file"),
            figures::bytes(summary.bytes_written)
        );
        rows.push(("written", with_rate(files, summary.bytes_written, summary, figures::bytes, "/s")));
    }
    if let Some(split) = &planned.split {
        rows.push(("read", read_as(summary, split)));
    }
    if !summary.manifest_parts.is_empty() {
        rows.push(("consistency", consistency(summary)));
    }
    if summary.schema_changed == Some(true) {
        rows.push(("schema", "changed since the previous run".to_owned()));
    }
    if let Some(verification) = &summary.manifest_verification {
        let depth = if verification.depth == "full" { "every byte" } else { "sizes" };
        let parts = figures::counted(u64::from(verification.parts_checked), "part");
        let verdict = if verification.passed { "yes" } else { "NO" };
        rows.push(("validated", format!("{verdict} ({parts}, {depth})")));
        rows.extend(verification.findings.iter().map(|finding| ("", finding.clone())));
    }
    if summary.status == "success" {
        rows.push(("manifest", Path::new(&planned.run.prefix).join("manifest.json").display().to_string()));
    } else if summary.files_committed > 0 {
        rows.push(("files under", planned.run.prefix.clone()));
    }
    if summary.retries > 0 {
        rows.push(("retries", figures::count(u64::from(summary.retries))));
    }
    if let Some(spilled) = summary.pg_temp_bytes_delta.filter(|bytes| *bytes > 64 << 20) {
        let spilled = figures::bytes(spilled as u64);
        rows.push((
            "server",
            format!("spilled {spilled} to disk; a smaller `tuning.batch_size` or more work_mem helps"),
        ));
    }
    rows.push(("journal", journal_cost(summary)));
    // An interrupted run was interrupted because somebody interrupted it.
    if let (Some(message), "failed") = (&summary.error_message, summary.status.as_str()) {
        rows.push(("because", message.clone()));
    }
    rows
}

fn with_rate(text: String, amount: u64, summary: &RunSummary, show: fn(u64) -> String, unit: &str) -> String {
    // The clock runs over all invocations, as the rows do.
    match figures::per_second(amount, took(summary)) {
        Some(rate) if amount > 0 => format!("{text}  ({}{unit})", show(rate)),
        _ => text,
    }
}

fn read_as(summary: &RunSummary, split: &Split) -> String {
    let journal = &summary.journal;
    let planned = journal.planned();
    let mut text = match split {
        Split::Whole => "in one piece".to_owned(),
        Split::Key { columns, .. } => {
            let names: Vec<_> = columns.iter().map(|column| column.name.as_str()).collect();
            let (nulls, without) = if journal.has_null_slice() { (1, " and the rows without one") } else { (0, "") };
            let ranges = u64::from(planned.slices.saturating_sub(nulls));
            format!("{} of {}{without}", figures::counted(ranges, "range"), names.join(", "))
        }
        Split::Pages { .. } => format!("{} of pages", figures::counted(u64::from(planned.slices), "range")),
    };
    if journal.slices_complete() < planned.slices as usize {
        let _ = write!(text, ", {} of them complete", journal.slices_complete());
    }
    if summary.peak_rss_mb > 0 {
        let _ = write!(text, "; peak memory {} MB", summary.peak_rss_mb);
    }
    text
}

fn consistency(summary: &RunSummary) -> String {
    let read = summary.journal.snapshots_read();
    let opened = summary.journal.snapshots().iter().filter(|opened| read.contains(&opened.snapshot.0));
    let at: Vec<&str> = opened.map(|opened| opened.lsn.as_str()).collect();
    match at.as_slice() {
        [] => "one snapshot".to_owned(),
        [at] => format!("one snapshot, at {at}"),
        several => {
            let at = several.join(", ");
            format!("mixed: {} snapshots, at {at}; the manifest names each part's", several.len())
        }
    }
}

fn journal_cost(summary: &RunSummary) -> String {
    let journal = &summary.journal;
    let mut text = figures::counted(journal.events(), "event");
    if journal.append_p99_us() > 0 {
        let _ = write!(text, ", p99 append {:.1} ms", journal.append_p99_us() as f64 / 1e3);
    }
    let took = took(summary).as_millis() as u64;
    if took > 0 && journal.time_ms() > 0 {
        let _ = write!(text, ", {:.1} % of the time", journal.time_ms() as f64 * 100.0 / took as f64);
    }
    text
}

/// What goes on with the run or replaces it, and what somebody has to do before.
struct Next {
    before: &'static str,
    command: String,
}

/// `None` where no command is the next step.
fn next_step(summary: &RunSummary, typed: &Typed<'_>) -> Option<Next> {
    let resume = || Some(Next { before: "", command: typed.resume(&summary.run_id) });
    match summary.status.as_str() {
        // A run that says it is running and is shown after its process ended was killed.
        "interrupted" | "running" => resume(),
        "failed" => {
            let code = summary.journal.outcome().and_then(|finished| finished.code.as_deref());
            match code.and_then(ErrorKind::from_code) {
                // The value is still there, and a run does not go on under another definition once it has delivered.
                Some(ErrorKind::SourceValue) => {
                    let command = typed.run(summary, summary.files_committed > 0);
                    Some(Next { before: "change what the error names, then ", command })
                }
                Some(kind) if needs_a_person(kind.class().exit) => None,
                _ => resume(),
            }
        }
        _ => None,
    }
}

/// Whether repeating the same command is of no use before somebody has changed something.
fn needs_a_person(exit: Exit) -> bool {
    matches!(exit, Exit::Integrity | Exit::Drift | Exit::Protected | Exit::Usage)
}

/// What was typed that a further command needs as well.
#[derive(Debug, Clone, Copy)]
pub struct Typed<'a> {
    pub config: Option<&'a Path>,
    pub params: &'a [String],
    pub state_dir: Option<&'a Path>,
}

impl Typed<'_> {
    /// `rivet resume RUN -c FILE --param NAME=…`, with what is the default left out.
    pub fn resume(&self, run_id: &str) -> String {
        format!("rivet resume {}{}", shell_word(run_id), self.options(self.config))
    }

    /// `rivet run -e EXPORT --fresh …`, in place of a run.
    fn run(&self, summary: &RunSummary, fresh: bool) -> String {
        // Unlike a resume it is not told by the journal which configuration it was.
        let journaled = Path::new(&summary.journal.planned().run.config_path);
        let fresh = if fresh { " --fresh" } else { "" };
        let here = std::env::current_dir().unwrap_or_default();
        let journaled = journaled.strip_prefix(here).unwrap_or(journaled);
        let options = self.options(self.config.or(Some(journaled)));
        format!("rivet run -e {}{fresh}{options}", shell_word(&summary.export_name))
    }

    /// The values of parameters are left out: they may be secrets, and whoever gave them knows them.
    fn options(&self, config: Option<&Path>) -> String {
        let mut options = String::new();
        if let Some(config) = config.filter(|path| *path != Path::new(super::state_dir::CONFIG_FILE)) {
            options.push_str(&format!(" -c {}", shell_word(&config.display().to_string())));
        }
        for param in self.params {
            let name = param.split_once('=').map_or("", |(name, _)| name);
            options.push_str(&format!(" --param {}=…", shell_word(name)));
        }
        if let Some(dir) = self.state_dir {
            options.push_str(&format!(" --state-dir {}", shell_word(&dir.display().to_string())));
        }
        options
    }
}

pub fn shell_word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/' | ',' | ':' | '@' | '%' | '+');
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}

/// The exit code of several exports together: the one that most needs a person.
pub fn worst(errors: &[&Error]) -> Exit {
    let rank = |exit: &Exit| match exit {
        Exit::Success => 0,
        Exit::Busy => 1,
        Exit::Unavailable => 2,
        Exit::Failed => 3,
        Exit::Usage => 4,
        Exit::Drift => 5,
        Exit::Protected => 6,
        Exit::Integrity => 7,
        // Whoever pressed Ctrl-C wants to hear that it worked.
        Exit::Interrupted => 8,
    };
    errors.iter().map(|error| error.exit()).max_by_key(rank).unwrap_or(Exit::Success)
}

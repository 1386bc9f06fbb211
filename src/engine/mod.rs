//! The shell around the core: asks [`crate::run::next`] what is left, performs it, journals the receipt, asks again.
//!
//! There is one loop (`export::work`) for a new run and for a resumed one; what differs is only where the fold of the
//! journal says they stand.

pub mod check;
pub mod clock;
mod context;
mod deliver;
mod export;
mod ledger;
mod memory;
pub mod notice;
mod planning;
mod reading;
mod same_run;
mod settle;
pub mod stop;
mod worker;

pub use context::ExportContext;
pub use ledger::Ledger;
pub use memory::peak_rss_mb;
pub use stop::Stop;

use crate::config::{Config, ExportConfig, resolve_destination};
use crate::destination::is_published;
use crate::error::{Error, ErrorKind, Result};
use crate::journal::{Holder, Journal};
use crate::run::command::DriftPolicy;
use crate::run::event::{Event, Outcome, RunPlanned};
use crate::run::ids::{Fingerprint, RunOrdinal};
use crate::run::state::Life;
use crate::run::{Command, RunState, RunSummary};
use crate::verify::validate::{Depth, validate};
use notice::Notice;
use same_run::refuse_another_run;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::Sender;
use tokio::runtime::{Builder, Runtime};

/// What `rivet run` was asked to do beyond its configuration.
#[derive(Debug, Clone, Copy, Default)]
pub struct RunRequest {
    pub validate: bool,
    /// Start anew even where an unfinished run could be resumed.
    pub fresh: bool,
}

/// How one export ended. A summary is missing only when no run came to be; an error is missing only on success. Where a
/// request to stop came first, there is no summary and the error is that.
#[derive(Debug)]
pub struct ExportReport {
    pub export: String,
    pub summary: Option<RunSummary>,
    pub error: Option<Error>,
    /// A resume found the run complete and changed nothing.
    pub was_complete: bool,
}

/// Threads that move bytes between sockets and workers. Decoding and encoding have threads of their own.
const RUNTIME_THREADS: usize = 2;

/// What the runtime opens before anything else: an epoll instance, an eventfd and a pair of sockets for signals, some of
/// them twice.
const RUNTIME_DESCRIPTORS: usize = 8;

/// # Errors
/// The operating system gives no threads, or no descriptors.
pub fn runtime() -> Result<Runtime> {
    // The runtime panics where it finds none for its signals. So it is asked for them first.
    let spare: std::io::Result<Vec<File>> = (0..RUNTIME_DESCRIPTORS).map(|_| File::open("/dev/null")).collect();
    spare
        .map_err(|e| Error::new(ErrorKind::Internal, format!("no descriptors for the network: {e}")).with_source(e))?;
    let built = Builder::new_multi_thread().worker_threads(RUNTIME_THREADS).enable_all().build();
    built.map_err(|e| Error::new(ErrorKind::SystemLimit, format!("no threads for the network: {e}")).with_source(e))
}

/// Runs every export of `config`, in its order; several at once with `parallel_exports`.
pub fn run(
    runtime: &Runtime,
    config: &Config,
    request: RunRequest,
    notices: &Sender<Notice>,
    stop: &Stop,
) -> Vec<ExportReport> {
    let at_once = if config.parallel_exports {
        std::thread::available_parallelism().map_or(1, usize::from).min(config.exports.len())
    } else {
        1
    };
    let one = |export: &ExportConfig, notices: Sender<Notice>| {
        let mut context = ExportContext::new(runtime.handle(), config, export, notices, stop, at_once);
        context.validate = request.validate;
        contained(&export.name, || run_export(&context, request))
    };
    if at_once <= 1 {
        return config.exports.iter().map(|export| one(export, notices.clone())).collect();
    }
    let next = AtomicUsize::new(0);
    let lane = || {
        let mut done = vec![];
        while let Some((i, export)) = {
            let i = next.fetch_add(1, Ordering::Relaxed);
            config.exports.get(i).map(|export| (i, export))
        } {
            done.push((i, one(export, notices.clone())));
        }
        done
    };
    let mut reports: Vec<(usize, ExportReport)> = std::thread::scope(|scope| {
        // This thread is a lane too: however few threads the system gives, every export gets its turn.
        let spawn = |_| std::thread::Builder::new().name("rivet-export".to_owned()).spawn_scoped(scope, lane).ok();
        let lanes: Vec<_> = (1..at_once).filter_map(spawn).collect();
        let mut reports = lane();
        for lane in lanes {
            // A lane catches the panics of its exports, so it has nothing left to panic with.
            reports.extend(lane.join().unwrap_or_default());
        }
        reports
    });
    reports.sort_by_key(|(i, _)| *i);
    reports.into_iter().map(|(_, report)| report).collect()
}

/// A panic before there is a run, or after it, ends this export and no other.
fn contained(export: &str, work: impl FnOnce() -> ExportReport) -> ExportReport {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| failed_before_its_run(export, Error::new(ErrorKind::Internal, PANICKED)))
}

const PANICKED: &str = "the export's own thread panicked";

/// The report of an export for which no run came to be.
fn failed_before_its_run(export: &str, error: Error) -> ExportReport {
    let error = Some(error.at(format_args!("export \"{export}\"")));
    ExportReport { export: export.to_owned(), summary: None, error, was_complete: false }
}

/// One export: resumes its unfinished run, or plans a new one.
fn run_export(context: &ExportContext<'_>, request: RunRequest) -> ExportReport {
    let name = context.export.name.clone();
    let failed = |error: Error| failed_before_its_run(&name, error);
    if context.stop.is_requested() {
        return ExportReport { export: name, summary: None, error: Some(stop::interrupted()), was_complete: false };
    }
    let ledger =
        open_journal(&context.config.state_dir, &name, "").and_then(|journal| begin(context, journal, request));
    let held = ledger.and_then(|(ledger, resumed)| {
        // Which run it would be was not known when the lock was taken.
        ledger.journal().hold_for(&ledger.summary().run_id)?;
        Ok((ledger, resumed))
    });
    match held {
        Ok((ledger, resumed)) => finish(context, ledger, resumed),
        Err(error) => failed(error),
    }
}

fn finish(context: &ExportContext<'_>, mut ledger: Ledger, resumed: bool) -> ExportReport {
    // A panic ends the run's work like any error: the journal says how, and a resume can go on.
    let worked = catch_unwind(AssertUnwindSafe(|| export::work(context, &mut ledger, resumed)));
    let error = match worked {
        Ok(worked) => worked.err(),
        Err(_) => Some(export::fail_after_panic(context, &mut ledger, Error::new(ErrorKind::Internal, PANICKED))),
    };
    ledger.write_status();
    let summary = ledger.summary().clone();
    context.notify(Notice::Finished {
        export: context.export.name.clone(),
        run_id: summary.run_id.clone(),
        status: summary.status.clone(),
        rows: summary.total_rows as u64,
        files: summary.manifest_parts.len() as u64,
        bytes: summary.bytes_written,
    });
    ExportReport { export: context.export.name.clone(), summary: Some(summary), error, was_complete: false }
}

/// Opens the export's journal for writing, which is also what keeps two processes off one export.
///
/// # Errors
/// Another process holds it; it is damaged, foreign or another export's, newer, or cannot be written.
pub fn open_journal(state_dir: &Path, export: &str, run_id: &str) -> Result<Journal> {
    let dir = state_dir.join(export);
    let journal = Journal::open(&dir, &Holder::this_process(run_id))?;
    match journal.export_name()? {
        Some(other) if other != export => {
            let what = format!("{} holds the journal of export {other:?}", dir.display());
            let hint = "Move it into a directory of that name, or choose another `state_dir`.";
            Err(Error::new(ErrorKind::JournalForeign, what).with_hint(hint))
        }
        _ => Ok(journal),
    }
}

/// The run to work on, and whether it is an earlier one.
fn begin(context: &ExportContext<'_>, journal: Journal, request: RunRequest) -> Result<(Ledger, bool)> {
    let Some(last) = journal.last_run() else {
        return Ok((plan(context, journal, None, request)?, false));
    };
    let mut ledger = Ledger::reopen(journal, last, context.clock)?;
    if ledger.state().is_unfinished() {
        let changed = refuse_another_run(&ledger.state().planned, context.export, &context.config.source).err();
        let has_parts = ledger.state().parts().next().is_some();
        let same_policy = ledger.state().planned.skip_empty == context.export.skip_empty;
        let reason = match changed {
            _ if request.fresh => "a new run was started with --fresh",
            None if same_policy || has_parts => {
                refuse_published(ledger.state())?;
                return Ok((ledger, true));
            }
            None => "`skip_empty` changed before anything was delivered",
            // Nothing was delivered that the new definition could contradict.
            Some(_) if !has_parts => "its definition or destination changed before anything was delivered",
            Some(refusal) => return Err(refusal),
        };
        ledger.record(Command::Abandon { reason: reason.to_owned() })?;
    }
    let journal = ledger.into_journal();
    let previous = previous_schema(&journal, context.export, request)?;
    Ok((plan(context, journal, previous, request)?, false))
}

/// The schema that the new run's is compared with: that of the export's last successful run. None where the change since
/// then is accepted: a run was refused over it, and `--fresh` is what somebody says who has seen that.
fn previous_schema(journal: &Journal, export: &ExportConfig, request: RunRequest) -> Result<Option<Fingerprint>> {
    if request.fresh && export.on_schema_drift == DriftPolicy::Fail && was_refused_over_drift(journal)? {
        return Ok(None);
    }
    Ok(last_success(journal)?.and_then(|state| state.schema_fingerprint))
}

/// The state of the export's last successful run.
fn last_success(journal: &Journal) -> Result<Option<RunState>> {
    for extent in journal.runs().iter().rev() {
        let state = RunState::fold(&journal.records(extent.run)?)?;
        if state.life == Life::Closed(Outcome::Success) {
            return Ok(Some(state));
        }
    }
    Ok(None)
}

/// Whether an attempt since the last success ended because the columns had changed.
fn was_refused_over_drift(journal: &Journal) -> Result<bool> {
    let drift = ErrorKind::SchemaDrift.class().code;
    for extent in journal.runs().iter().rev() {
        for recorded in journal.records(extent.run)?.iter().rev() {
            match &recorded.event {
                Event::RunFinished(finished) if finished.outcome == Outcome::Success => return Ok(false),
                Event::RunFinished(finished) if finished.code.as_deref() == Some(drift) => return Ok(true),
                _ => {}
            }
        }
    }
    Ok(false)
}

fn plan(
    context: &ExportContext<'_>,
    journal: Journal,
    previous_schema: Option<Fingerprint>,
    request: RunRequest,
) -> Result<Ledger> {
    let export = context.export;
    let run_id = format!("{}-{}", export.name, ulid::Ulid::generate());
    let date = crate::time::rfc3339(clock::wall_ms());
    let (root, prefix) = resolve_destination(export, &run_id, date.get(..10).unwrap_or(&date));
    let planned = RunPlanned {
        run_id,
        export_name: export.name.clone(),
        fold_flags: 0,
        definition: export.definition,
        config_path: context.config.path.display().to_string(),
        engine: "postgres".to_owned(),
        source: context.config.source.label(),
        relation: export.selection.label(),
        mode: export.mode.name().to_owned(),
        format: export.format.name().to_owned(),
        compression: export.compression.name().to_owned(),
        tuning_profile: export.tuning.profile.name().to_owned(),
        batch_size: export.tuning.batch_size as u64,
        batch_size_memory_mb: export.tuning.batch_size_memory_mb.map(|mb| mb as u64),
        destination: "local".to_owned(),
        root: root.display().to_string(),
        prefix: prefix.display().to_string(),
        validate: request.validate,
        verify_content: export.verify_content,
        restart_on_resume: export.restart_on_resume,
        skip_empty: export.skip_empty,
        refuse_drift: export.on_schema_drift == DriftPolicy::Fail,
        previous_schema,
    };
    let mut ledger = Ledger::new_run(journal, context.clock);
    ledger.record(Command::Plan(Box::new(planned)))?;
    Ok(ledger)
}

/// Goes on with `run_id`, or says that there is nothing to go on with.
///
/// `config` must name the run's export with the definition it was planned under.
pub fn resume(
    runtime: &Runtime,
    config: &Config,
    run_id: &str,
    force: bool,
    notices: &Sender<Notice>,
    stop: &Stop,
) -> ExportReport {
    contained(export_of(run_id), || resume_export(runtime, config, run_id, force, notices, stop))
}

fn resume_export(
    runtime: &Runtime,
    config: &Config,
    run_id: &str,
    force: bool,
    notices: &Sender<Notice>,
    stop: &Stop,
) -> ExportReport {
    let export = export_of(run_id);
    let failed = |error: Error| ExportReport {
        export: export.to_owned(),
        summary: None,
        error: Some(error),
        was_complete: false,
    };
    let Some(export_config) = config.exports.iter().find(|candidate| candidate.name == export) else {
        let what = format!("the configuration {} has no export \"{export}\"", config.path.display());
        return failed(Error::new(ErrorKind::ConfigUnknownExport, what));
    };
    let mut context = ExportContext::new(runtime.handle(), config, export_config, notices.clone(), stop, 1);
    let reopened =
        open_journal(&config.state_dir, export, run_id).and_then(|journal| reopen(journal, run_id, context.clock));
    let mut ledger = match reopened {
        Ok(ledger) => ledger,
        Err(error) => return failed(error),
    };
    match refuse_to_go_on(&mut ledger, config, export_config, force) {
        Ok(GoOn::Yes { forced }) => {
            context.forced = forced;
            finish(&context, ledger, true)
        }
        Ok(GoOn::NothingLeft) => {
            context.tell_of_recovery(ledger.journal());
            let summary = Some(ledger.summary().clone());
            ExportReport { export: export.to_owned(), summary, error: None, was_complete: true }
        }
        Err(error) => {
            let summary = Some(ledger.summary().clone());
            ExportReport { export: export.to_owned(), summary, error: Some(error), was_complete: false }
        }
    }
}

/// `<export>-<ULID>` without the ULID.
pub fn export_of(run_id: &str) -> &str {
    run_id.rsplit_once('-').map_or(run_id, |(export, _)| export)
}

fn reopen(journal: Journal, run_id: &str, clock: clock::Clock) -> Result<Ledger> {
    let runs: Vec<RunOrdinal> = journal.runs().iter().map(|extent| extent.run).collect();
    let last = journal.last_run();
    for run in runs.into_iter().rev() {
        let first = journal.records(run)?;
        if RunSummary::from_events(first.iter().take(1)).run_id != run_id {
            continue;
        }
        let ledger = Ledger::reopen(journal, run, clock)?;
        if Some(run) != last && ledger.state().is_unfinished() {
            return Err(Error::new(ErrorKind::RunSuperseded, format!("{run_id} is not the export's latest run")));
        }
        return Ok(ledger);
    }
    Err(Error::new(ErrorKind::RunUnknown, format!("the journal does not know {run_id}")))
}

enum GoOn {
    /// `forced`: what --force bypassed.
    Yes { forced: Option<String> },
    /// The run is complete, and its output is as it was.
    NothingLeft,
}

fn refuse_to_go_on(ledger: &mut Ledger, config: &Config, export: &ExportConfig, force: bool) -> Result<GoOn> {
    let run_id = ledger.summary().run_id.clone();
    match ledger.state().life {
        Life::Abandoned => Err(Error::new(ErrorKind::RunSuperseded, format!("{run_id} was abandoned for a later run"))),
        Life::Closed(Outcome::Skipped) => Ok(GoOn::NothingLeft),
        Life::Closed(_) => match check_complete(ledger) {
            Ok(()) => Ok(GoOn::NothingLeft),
            Err(error) if force && ledger.is_last() => {
                refuse_another_run(&ledger.state().planned, export, &config.source)?;
                Ok(GoOn::Yes { forced: Some(error.what().to_owned()) })
            }
            Err(error) if force => {
                let what = format!("{}; only the export's latest run can be mended", error.what());
                Err(Error::new(ErrorKind::RunSuperseded, what))
            }
            Err(error) => Err(error),
        },
        _ => {
            refuse_another_run(&ledger.state().planned, export, &config.source)?;
            match refuse_published(ledger.state()) {
                Ok(()) => Ok(GoOn::Yes { forced: None }),
                Err(error) if force => Ok(GoOn::Yes { forced: Some(error.what().to_owned()) }),
                Err(error) => Err(error),
            }
        }
    }
}

/// A journal that was put back from a copy, or cut by a repair, may know less of a run than its output says. Going on with it
/// would replace files that readers were told to rely on.
fn refuse_published(state: &RunState) -> Result<()> {
    let RunPlanned { run_id, prefix, .. } = &state.planned;
    if state.manifest.is_some() || !is_published(Path::new(prefix))? {
        return Ok(());
    }
    let what = format!(
        "run {run_id} is unfinished by its journal, but its output was published: {prefix} has a _SUCCESS, so the journal is \
         older than the output"
    );
    let hint = format!(
        "`rivet run --fresh` exports anew and leaves that output as it is; `rivet resume {run_id} --force` takes its _SUCCESS \
         away and goes on in its place."
    );
    Err(Error::new(ErrorKind::DestinationMismatch, what).with_hint(hint))
}

/// Reads every file of the output, for its fingerprint.
///
/// # Errors
/// [`ErrorKind::DestinationMismatch`] when the output of a complete run is not what its manifest says.
pub fn check_complete(ledger: &Ledger) -> Result<()> {
    let planned = &ledger.state().planned;
    let prefix = Path::new(&planned.prefix);
    if !prefix.is_dir() {
        let what = format!("{} is complete, but its output is gone: {}", planned.run_id, prefix.display());
        return Err(Error::new(ErrorKind::DestinationMismatch, what));
    }
    let report = validate(prefix, Depth::Fingerprint)?;
    match report.findings.first() {
        None if report.passed => Ok(()),
        finding => {
            let finding = finding.map_or("its manifest is gone".to_owned(), ToString::to_string);
            let what = format!("{} is complete, but its output is not what it was: {finding}", planned.run_id);
            let hint = match ledger.is_last() {
                true => {
                    format!("Mend it from the source with `rivet resume {} --force`, or export anew.", planned.run_id)
                }
                false => "A later run of the export has its rows; only that one can be mended.".to_owned(),
            };
            Err(Error::new(ErrorKind::DestinationMismatch, what).with_hint(hint))
        }
    }
}

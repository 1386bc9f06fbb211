//! One export: the loop that asks what is left to do, and does it.

use super::clock::Clock;
use super::context::ExportContext;
use super::ledger::Ledger;
use super::notice::Notice;
use super::planning::{SnapshotHolder, choose_split, no_session, open_snapshot, release, resolve_schema};
use super::reading::{Limits, Reading, read_slices};
use super::stop::Stop;
use super::{deliver, memory, settle};
use crate::config::Tuning;
use crate::config::model::SpecialValues;
use crate::destination::local::LocalPrefix;
use crate::encode::parquet::ParquetOptions;
use crate::error::{Error, ErrorKind, Exit, Result, Retry};
use crate::journal::Holder;
use crate::run::event::{Outcome, RunFinished};
use crate::run::journal::SpecialTotal;
use crate::run::state::SliceStatus;
use crate::run::{Command, Step, next};
use crate::source::postgres::decode::SpecialPolicy;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Works on the run until it is closed, and records how the work ended.
///
/// # Errors
/// Why the run did not succeed; it is in the journal too, unless the journal is what failed.
pub fn work(context: &ExportContext<'_>, ledger: &mut Ledger, resumed: bool) -> Result<()> {
    context.notify(Notice::Started {
        export: context.export.name.clone(),
        run_id: ledger.summary().run_id.clone(),
        resumed,
        source: ledger.state().planned.source.clone(),
        location: ledger.state().planned.prefix.clone(),
    });
    let mut holder = None;
    let worked = begin_invocation(ledger)
        .and_then(|()| note_recovery(context, ledger))
        .and_then(|()| drive(context, ledger, &mut holder));
    let temp_bytes = holder.take().and_then(|holder| release(context, holder));
    let ended = worked.and_then(|outcome| {
        let finish = finished(ledger, outcome, None, temp_bytes);
        deliver::check_invariants(&ledger.foresee(finish.clone())?)?;
        ledger.record(finish)
    });
    match ended {
        Ok(()) => Ok(()),
        Err(error) => {
            let outcome = if error.exit() == Exit::Interrupted { Outcome::Interrupted } else { Outcome::Failed };
            let mut error = error.at(format_args!("export \"{}\"", context.export.name));
            if outcome == Outcome::Interrupted {
                error = error.with_hint(format!("Go on with `rivet resume {}`.", ledger.summary().run_id));
            }
            // Where the journal itself failed this fails too, and the first error is the one worth reading.
            let _ = ledger.record(finished(ledger, outcome, Some(&error), temp_bytes));
            Err(error)
        }
    }
}

/// Records that the work ended in a panic. The state may be ahead of the journal then, which alone says where the run
/// stands.
pub fn fail_after_panic(context: &ExportContext<'_>, ledger: &mut Ledger, error: Error) -> Error {
    let error = error.at(format_args!("export \"{}\"", context.export.name));
    // Where the journal cannot be read or written any more, the run is one that ended without a word.
    if ledger.fold_again().is_ok() {
        let _ = ledger.record(finished(ledger, Outcome::Failed, Some(&error), None));
    }
    error
}

/// What opening the journal found, where a person should know: for the eyes, and for whoever reads the run's story later.
fn note_recovery(context: &ExportContext<'_>, ledger: &mut Ledger) -> Result<()> {
    match ledger.journal().recovery().note() {
        Some(message) => context.warn(ledger, "journal_recovered", message),
        None => Ok(()),
    }
}

fn begin_invocation(ledger: &mut Ledger) -> Result<()> {
    let Holder { pid, host, .. } = Holder::this_process(&ledger.summary().run_id);
    let version = env!("CARGO_PKG_VERSION").to_owned();
    ledger.record(Command::Begin { pid, host, version })
}

fn finished(ledger: &Ledger, outcome: Outcome, error: Option<&Error>, temp_bytes: Option<i64>) -> Command {
    let costs = ledger.journal().costs();
    let clock: &Clock = ledger.clock();
    Command::Finish(RunFinished {
        outcome,
        code: error.map(|error| error.code().to_owned()),
        message: error.map(|error| error.what().to_owned()),
        skip_reason: (outcome == Outcome::Skipped).then(|| "the source has no rows".to_owned()),
        duration_ms: clock.elapsed_ms(),
        peak_rss_mb: memory::peak_rss_mb(),
        pg_temp_bytes_delta: temp_bytes,
        append_p99_us: costs.append_p99_us,
        journal_time_ms: costs.time.as_millis() as u64,
    })
}

/// The loop. Each turn performs the one step that the core says is next.
fn drive(context: &ExportContext<'_>, ledger: &mut Ledger, holder: &mut Option<SnapshotHolder>) -> Result<Outcome> {
    let mut destination: Option<LocalPrefix> = None;
    if let Some(forced) = &context.forced {
        context.warn(ledger, "forced", format!("gone on with by --force although {forced}"))?;
    }
    let planned = &ledger.state().planned;
    if planned.skip_empty != context.export.skip_empty {
        let message = format!("`skip_empty` stays as it was when the run was planned: {}", planned.skip_empty);
        context.warn(ledger, "policy_kept", message)?;
    }
    // Forced, there may be marks of a run that knew its plan, while the journal knows it no longer.
    if ledger.state().invocation > 1 && (ledger.state().is_planned || context.forced.is_some()) {
        let prefix = prepare(ledger)?;
        settle::check_parts(context, ledger, &prefix)?;
        settle::check_marks(context, ledger, &prefix)?;
        destination = Some(prefix);
    }
    let mut reopened = 0;
    loop {
        context.stop.check()?;
        let step = next(ledger.state());
        let asks_the_source = matches!(step, Step::ResolveSchema | Step::ChooseSplit);
        let error = match perform(context, ledger, holder, &mut destination, step) {
            Ok(None) => continue,
            Ok(Some(outcome)) => return Ok(outcome),
            Err(error) => error,
        };
        let lost = error.retry() == Retry::NewSnapshot;
        let may_reopen = lost || (asks_the_source && error.retry() == Retry::Again);
        if !may_reopen || reopened >= context.export.tuning.max_retries {
            return Err(error);
        }
        // The snapshot is gone, or the session that holds it: the rest is read in a new one.
        let code = if lost { "snapshot_lost" } else { "planning_retried" };
        context.warn(ledger, code, format!("{}; the rest is read in a new snapshot", error.what()))?;
        // The old session goes first: connections may be what is scarce.
        let temp_bytes = holder.take().and_then(|holder| holder.temp_bytes);
        if asks_the_source {
            // Slices have waited their retries' time by now, questions have not.
            context.pause(context.retry_pause(reopened))?;
        }
        reopened += 1;
        let mut opened = open_snapshot(context, ledger)?;
        opened.temp_bytes = temp_bytes.or(opened.temp_bytes);
        *holder = Some(opened);
    }
}

/// Performs one step. An outcome when it was the last.
fn perform(
    context: &ExportContext<'_>,
    ledger: &mut Ledger,
    holder: &mut Option<SnapshotHolder>,
    destination: &mut Option<LocalPrefix>,
    step: Step,
) -> Result<Option<Outcome>> {
    match step {
        Step::Settle(slices) => settle::settle_orphans(ledger, ready(destination, ledger)?, &slices)?,
        Step::OpenSnapshot => *holder = Some(open_snapshot(context, ledger)?),
        Step::ResolveSchema => resolve_schema(context, ledger, holder.as_mut())?,
        Step::ChooseSplit => {
            // Before the first row is read, so that a destination that refuses costs the server nothing.
            ready(destination, ledger)?;
            choose_split(context, ledger, holder.as_mut())?;
        }
        Step::Read { .. } => {
            let prefix = ready(destination, ledger)?.clone();
            read(context, ledger, holder.as_ref(), &prefix)?;
        }
        Step::Skip => return Ok(Some(Outcome::Skipped)),
        Step::WriteManifest => {
            closing(context, "manifest");
            tell_of_special_values(context, ledger)?;
            let prefix = ready(destination, ledger)?.clone();
            settle::tidy(context, ledger, &prefix)?;
            deliver::write_manifest(ledger, &prefix)?;
        }
        Step::Publish => {
            closing(context, "publish");
            // Before anybody is told of success; the run's end looks again.
            deliver::check_invariants(&ledger.foresee(finished(ledger, Outcome::Success, None, None))?)?;
            let prefix = ready(destination, ledger)?.clone();
            deliver::publish(ledger, &prefix)?;
        }
        Step::Validate => validate(context, ledger, destination)?,
        // A run that was planned without it may be gone on with by one that asks.
        Step::Finish if context.validate && ledger.state().validated.is_none() => {
            validate(context, ledger, destination)?;
        }
        Step::Finish => return Ok(Some(Outcome::Success)),
        Step::Begin | Step::Done => {
            return Err(Error::new(ErrorKind::Internal, "the run is not at work, yet work was asked for"));
        }
    }
    Ok(None)
}

fn validate(context: &ExportContext<'_>, ledger: &mut Ledger, destination: &mut Option<LocalPrefix>) -> Result<()> {
    closing(context, "validate");
    let prefix = ready(destination, ledger)?.clone();
    deliver::validate_published(context, ledger, &prefix)
}

/// A warning for each column and kind of special value, with its total over the slices that count.
fn tell_of_special_values(context: &ExportContext<'_>, ledger: &mut Ledger) -> Result<()> {
    let policy = context.export.types.special_values;
    for SpecialTotal { column, kind, count } in ledger.summary().journal.special_values() {
        let value = match kind.as_str() {
            "nan" => "NaN",
            "minus_infinity" => "-infinity",
            "end_of_day" => "24:00:00",
            "beyond_range" => "a time after the year 294247",
            "lower_bound" => "an array whose subscripts do not begin at 1",
            other => other,
        };
        let became = match (kind.as_str(), policy) {
            ("lower_bound", _) => "without its subscripts",
            (_, SpecialValues::Clamp) => "as the nearest value that fits",
            _ => "as NULL",
        };
        let times = if count == 1 { "once".to_owned() } else { format!("{count} times") };
        let message = format!(
            "column {column:?}: {value} was delivered {became}, {times}; `columns: {{{column}: text}}` keeps it"
        );
        // A run that was killed behind this point and goes on has said it already.
        let warning = ("special_values".to_owned(), message);
        if !ledger.summary().journal.degraded().warnings.contains(&warning) {
            context.warn(ledger, "special_values", warning.1)?;
        }
    }
    Ok(())
}

fn closing(context: &ExportContext<'_>, stage: &str) {
    context.notify(Notice::Closing { export: context.export.name.clone(), stage: stage.to_owned() });
}

fn prepare(ledger: &Ledger) -> Result<LocalPrefix> {
    let planned = &ledger.state().planned;
    LocalPrefix::prepare(Path::new(&planned.root), Path::new(&planned.prefix), &planned.run_id)
}

/// The destination, prepared when it is first needed.
fn ready<'d>(destination: &'d mut Option<LocalPrefix>, ledger: &Ledger) -> Result<&'d LocalPrefix> {
    match destination {
        Some(prefix) => Ok(prefix),
        empty => Ok(empty.insert(prepare(ledger)?)),
    }
}

/// Reads what is pending.
fn read(
    context: &ExportContext<'_>,
    ledger: &mut Ledger,
    holder: Option<&SnapshotHolder>,
    prefix: &LocalPrefix,
) -> Result<()> {
    let at = holder.ok_or_else(no_session)?;
    let described = at.described.as_ref().ok_or_else(no_session)?;
    let state = ledger.state();
    let (Some(split), Some(schema), Some(opened)) =
        (state.split.clone(), state.schema.clone(), state.snapshots.last().cloned())
    else {
        return Err(Error::new(ErrorKind::Internal, "slices are read before they are planned"));
    };
    let pending: Vec<u64> = {
        let pending = state.slices.iter().filter(|slice| slice.status == SliceStatus::Pending);
        pending.map(|slice| slice.plan.estimated_rows).collect()
    };
    let lent = (state.slices.len() == 1).then(|| Arc::clone(&at.session));
    announce_plan(context, ledger);
    let tuning = &context.export.tuning;
    let budget_mb = tuning.memory_budget_mb / context.exports_at_once;
    let wanted = tuning.parallel.clamp(1, pending.len().max(1));
    let workers = memory::workers(budget_mb, schema.leaves(), wanted);
    if workers < wanted {
        let message =
            format!("{workers} slices are read at once instead of {wanted}: `memory_budget_mb` has no room for more");
        context.warn(ledger, "parallel_reduced", message)?;
    }
    let reading = Reading {
        runtime: context.runtime,
        source: &context.config.source,
        settings: context.settings(),
        described,
        search_path: &at.search_path,
        schema: &schema,
        split: &split,
        hold: &at.hold,
        room: deliver::room_left(ledger, &schema)?,
        destination: prefix,
        snapshot: opened.snapshot,
        snapshot_id: opened.id,
        lent,
        workers,
        halt: Stop::default(),
        limits: Limits {
            batch_rows: batch_rows(tuning),
            // Every limit that the tuning can name is above it.
            batch_bytes: memory::BATCH_BYTES,
            part_bytes: context.export.max_file_size,
            max_value_bytes: tuning.max_value_mb << 20,
            statement_timeout: statement_timeout(tuning, pending.iter().copied().max().unwrap_or(0)),
            throttle: tuning.throttle,
            throttle_rows: tuning.batch_size as u64,
            writes_empty_file: !ledger.state().planned.skip_empty,
        },
        special_values: special_policy(context.export.types.special_values),
        options: ParquetOptions {
            compression: context.export.compression,
            row_group_rows: context.export.row_group_rows,
            row_group_bytes: memory::row_group_bytes(budget_mb, workers, context.export.row_group_bytes),
        },
        metadata: vec![
            ("rivet.run_id".to_owned(), ledger.summary().run_id.clone()),
            ("rivet.schema_fingerprint".to_owned(), schema.fingerprint().to_string()),
        ],
    };
    read_slices(context, ledger, &reading)
}

fn special_policy(configured: SpecialValues) -> SpecialPolicy {
    match configured {
        SpecialValues::Usual => SpecialPolicy::Usual,
        SpecialValues::Error => SpecialPolicy::Error,
        SpecialValues::Null => SpecialPolicy::Null,
        SpecialValues::Clamp => SpecialPolicy::Clamp,
        // Nothing that could be special is left but the subscripts of arrays.
        SpecialValues::Text => SpecialPolicy::Usual,
    }
}

/// The time that a slice's statement may take: the configured one, and the pauses that the throttle makes in it, which are
/// not the server's. Twice over, since `rows` is an estimate. Zero = any.
fn statement_timeout(tuning: &Tuning, rows: u64) -> Duration {
    if tuning.statement_timeout.is_zero() {
        return Duration::ZERO;
    }
    let pauses = tuning.throttle.as_secs_f64() * rows as f64 / tuning.batch_size.max(1) as f64;
    tuning.statement_timeout.saturating_add(Duration::try_from_secs_f64(2.0 * pauses).unwrap_or(Duration::MAX))
}

/// Rows per batch: as configured, or unbounded where bytes decide.
fn batch_rows(tuning: &Tuning) -> usize {
    if tuning.batch_size_memory_mb.is_none() { tuning.batch_size } else { usize::MAX }
}

fn announce_plan(context: &ExportContext<'_>, ledger: &Ledger) {
    let (state, planned) = (ledger.state(), ledger.summary().journal.planned());
    let done = state.slices_in(|status| status == SliceStatus::Complete).count();
    context.notify(Notice::Planned {
        export: context.export.name.clone(),
        slices: planned.slices,
        slices_done: done as u32,
        estimated_rows: planned.estimated_rows,
        rows_done: ledger.summary().total_rows as u64,
        reason: planned.reason.clone(),
    });
}

//! Before a slice is read: the snapshot, the columns, and the split.

use super::context::{ExportContext, in_time};
use super::last_success;
use super::ledger::Ledger;
use super::notice::Notice;
use crate::config::Tuning;
use crate::error::{Error, ErrorKind, Result, Retry};
use crate::manifest::room;
use crate::run::Command;
use crate::run::command::OpenedSnapshot;
use crate::run::plan::{SlicePlan, Split};
use crate::source::postgres::catalog::{self, Described};
use crate::source::postgres::hold::Hold;
use crate::source::postgres::identity::{self, Identified};
use crate::source::postgres::session::Session;
use crate::source::postgres::{probe, snapshot, split};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// Bytes of the relation that a slice should hold: a failure costs the time of one slice, and so does a resume.
const SLICE_BYTES: u64 = 192 << 20;

/// A session that has nothing else to do answers within the first; nobody waits for one longer than the second.
const SHORT_ANSWER: Duration = Duration::from_millis(100);
const LONG_ANSWER: Duration = Duration::from_secs(2);

/// Planning without a statement timeout ends after this.
const LONGEST_PLANNING: Duration = Duration::from_secs(3600);
/// The session that holds the run's snapshot, and what was learnt over it.
pub(super) struct SnapshotHolder {
    pub session: Arc<Session>,
    pub temp_bytes: Option<i64>,
    pub described: Option<Described>,
    /// Under which it was described.
    pub search_path: String,
    /// What its transaction has locked.
    pub hold: Hold,
}

/// Connects and opens the snapshot that all slices of this invocation are read in. A server that is starting, full, or
/// drops the connection is tried again as often as the tuning says.
pub(super) fn open_snapshot(context: &ExportContext<'_>, ledger: &mut Ledger) -> Result<SnapshotHolder> {
    let tuning = &context.export.tuning;
    let was_connected = ledger.state().snapshot.is_some();
    let mut tries = 0;
    let (session, opened, temp_bytes) = loop {
        let settings = context.settings();
        let opening = async {
            let session = Session::connect(&context.config.source, &settings).await?;
            let temp_bytes = snapshot::temp_bytes(session.client()).await;
            let opened = snapshot::open(session.client()).await?;
            Ok((session, opened, temp_bytes))
        };
        match context.ask_server(opening) {
            Ok(opened) => break opened,
            // Nobody listens: at first more often a wrong address than a passing fault, so the answer comes at once.
            Err(error) if error.kind() == ErrorKind::SourceUnreachable && !was_connected => return Err(error),
            Err(error) if error.retry() == Retry::Never || tries >= tuning.max_retries => return Err(error),
            Err(error) => {
                let pause = context.retry_pause(tries);
                context.warn(
                    ledger,
                    "connect_retried",
                    format!("{}; trying again in {} ms", error.what(), pause.as_millis()),
                )?;
                tries += 1;
                context.pause(pause)?;
            }
        }
    };
    let snapshot::OpenSnapshot { id, lsn, visible, server, standby } = opened;
    let opened = Command::OpenSnapshot(OpenedSnapshot { id, lsn, visible, server, standby });
    record_aloud(context, ledger, [opened])?;
    let (described, search_path, hold) = (None, String::new(), Hold::default());
    Ok(SnapshotHolder { session: Arc::new(session), temp_bytes, described, search_path, hold })
}

/// Records, and tells of the warnings that came of it.
fn record_aloud(
    context: &ExportContext<'_>,
    ledger: &mut Ledger,
    commands: impl IntoIterator<Item = Command>,
) -> Result<()> {
    let warnings_before = ledger.summary().journal.degraded().warnings.len();
    let recorded = ledger.record_all(commands);
    for (code, message) in ledger.summary().journal.degraded().warnings.iter().skip(warnings_before) {
        let (export, code, message) = (context.export.name.clone(), code.clone(), message.clone());
        context.notify(Notice::Warning { export, code, message });
    }
    recorded
}

pub(super) fn resolve_schema(
    context: &ExportContext<'_>,
    ledger: &mut Ledger,
    holder: Option<&mut SnapshotHolder>,
) -> Result<()> {
    let holder = holder.ok_or_else(no_session)?;
    let export = context.export;
    let mut described = context.ask_server(catalog::describe(
        holder.session.client(),
        &export.selection,
        &export.columns,
        export.types,
    ))?;
    let Identified { relations, search_path } =
        context.ask_server(identity::identify(holder.session.client(), &described))?;
    let warnings = probe_values(context, ledger, holder, &mut described)?;
    let schema = described.schema();
    let changed = ledger.state().planned.previous_schema.is_some_and(|previous| previous != schema.fingerprint());
    let previous = if changed { last_success(ledger.journal())?.and_then(|state| state.schema) } else { None };
    let policy = export.on_schema_drift;
    // In this order: of another table it is of no interest that its columns are others.
    let resolved = [Command::ResolveRelations(relations), Command::ResolveSchema { schema, policy, previous }];
    record_aloud(context, ledger, resolved)?;
    if described.relation.as_ref().is_some_and(|relation| relation.row_security) {
        let message = "row security is in force: only the rows that this role may see are exported".to_owned();
        context.warn(ledger, "row_security", message)?;
    }
    for (code, message) in warnings {
        context.warn(ledger, code, message)?;
    }
    if ledger.state().is_planned {
        carry_on(context, ledger, holder, &described)?;
    }
    holder.described = Some(described);
    holder.search_path = search_path;
    Ok(())
}

/// `types.numeric: probe`, `types.arrays: probe`: measures the columns that ask for it. Codes and messages of those that came out
/// as text.
fn probe_values(
    context: &ExportContext<'_>,
    ledger: &Ledger,
    holder: &SnapshotHolder,
    described: &mut Described,
) -> Result<Vec<(&'static str, String)>> {
    let export = context.export;
    let columns = probe::columns(described, &export.columns, export.types);
    if columns.is_empty() {
        return Ok(vec![]);
    }
    // Every row is read: that is the statement's time, not a silence.
    let measuring = probe::measure(holder.session.client(), described, &columns);
    let measured = context.ask(in_time(longest_planning(&export.tuning), measuring))?;
    probe::decide(described, &columns, &measured, ledger.state().schema.as_ref())
}

/// How long a question may take that reads the relation.
fn longest_planning(tuning: &Tuning) -> Duration {
    let limit = if tuning.statement_timeout.is_zero() { LONGEST_PLANNING } else { tuning.statement_timeout };
    limit.max(tuning.stall_timeout)
}

/// A plan that was made in an earlier snapshot: it still has to mean the same, and what planning it would have locked is
/// locked now. In another order of its key it means something else, and is given up with what was read by it.
fn carry_on(
    context: &ExportContext<'_>,
    ledger: &mut Ledger,
    holder: &mut SnapshotHolder,
    described: &Described,
) -> Result<()> {
    let Some(split) = ledger.state().split.clone() else { return Ok(()) };
    let client = holder.session.client();
    if let (Split::Key { columns, .. }, false) = (&split, ledger.state().ordering.is_empty()) {
        let version = holder.session.server_version();
        let now = context.ask_server(split::ordering(client, described, columns, version))?;
        record_aloud(context, ledger, [Command::ConfirmOrdering(now)])?;
        if !ledger.state().is_planned {
            return Ok(());
        }
    }
    let slices: Vec<SlicePlan> = ledger.state().slices.iter().map(|slice| slice.plan.clone()).collect();
    holder.hold = context.ask_server(split::carry_on(client, described, &split, &slices))?;
    Ok(())
}

pub(super) fn choose_split(
    context: &ExportContext<'_>,
    ledger: &mut Ledger,
    holder: Option<&mut SnapshotHolder>,
) -> Result<()> {
    let holder = holder.ok_or_else(no_session)?;
    let described = holder.described.as_ref().ok_or_else(no_session)?;
    let chunks = &context.export.chunks;
    let request = split::SplitRequest {
        parallel: context.export.tuning.parallel,
        slices: chunks.count,
        rows_per_slice: chunks.size,
        column: chunks.column.clone(),
        target_bytes: SLICE_BYTES,
        most_rows: most_rows(&context.export.tuning),
        most_slices: room::most_slices(&described.schema())?,
    };
    // A split of a query by a column may have to read it once: that is the statement's time, not a silence.
    let planning = split::plan(holder.session.client(), described, &request);
    let planned = context.ask(in_time(longest_planning(&context.export.tuning), planning))?;
    holder.hold = planned.hold;
    ledger.record(Command::ChooseSplit {
        split: planned.split,
        ordering: planned.ordering,
        slices: planned.slices,
        estimated_rows: planned.estimated_rows,
        reason: planned.reason,
    })
}
/// Rows that a throttled slice may have, so that its pauses take no more than half of the time that a statement may take.
fn most_rows(tuning: &Tuning) -> Option<u64> {
    if tuning.throttle.is_zero() || tuning.statement_timeout.is_zero() {
        return None;
    }
    let rows = tuning.statement_timeout.as_secs_f64() / 2.0 / tuning.throttle.as_secs_f64() * tuning.batch_size as f64;
    Some((rows as u64).max(1))
}
/// Ends the snapshot and measures what the run cost the server. `None` where that cannot be known.
pub(super) fn release(context: &ExportContext<'_>, holder: SnapshotHolder) -> Option<i64> {
    let before = holder.temp_bytes?;
    // Also after a stop was requested: the question is short, and the run wants its answer.
    let after = context.runtime.block_on(async {
        let mut closing = pin!(async {
            // A COPY that was given up is still being cancelled; the cancellation must not hit what follows.
            holder.session.quiet().await;
            snapshot::close(holder.session.client()).await.ok()?;
            snapshot::temp_bytes(holder.session.client()).await
        });
        match timeout(SHORT_ANSWER, &mut closing).await {
            Ok(temp_bytes) => temp_bytes,
            // A question of the planning that was given up still runs before it.
            Err(_) => {
                timeout(LONG_ANSWER, holder.session.cancel()).await.ok()?.ok()?;
                timeout(LONG_ANSWER, closing).await.ok()?
            }
        }
    })?;
    Some(after - before)
}

pub(super) fn no_session() -> Error {
    Error::new(ErrorKind::Internal, "a step needs the source before a session was opened")
}

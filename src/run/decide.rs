//! From a wish to facts. `decide` may refuse; it never performs anything. Its events are appended in order, and only then
//! applied.

use super::command::{Command, DriftPolicy, Failure, OpenedSnapshot};
use super::event::*;
use super::ids::{Attempt, FileNo, SliceNo, SnapshotNo};
use super::plan::{Bounds, KeyOrdering, SlicePlan, Split};
use super::relation::{Relations, difference as difference_of_relations};
use super::schema::Schema;
use super::state::{RunState, SliceStatus};
use crate::error::{Error, ErrorKind, Retry};

/// Columns per [`SchemaColumns`] and checksums per [`PartChecksums`] are bounded so that an event fits in 4 KiB; names
/// and types are counted in bytes.
const EVENT_PAYLOAD_BYTES: usize = 3 * 1024;

/// A sentence for people, where an event holds other things too.
const NOTE_BYTES: usize = 512;

/// The path of a file that is not rivet's: one of rivet's own is never as long.
const PATH_BYTES: usize = 1024;

/// All texts of [`RunPlanned`] together; with its numbers it then fits in an event.
const PLANNED_BYTES: usize = 3_900;

/// The longest pause before a retry.
const LONGEST_RETRY_PAUSE_MS: u64 = 60_000;

/// Turns a command into the events that record it.
///
/// # Errors
/// The command does not fit where the run stands ([`ErrorKind::RunIllegal`]), or a promise would be broken by it:
/// the schema moved ([`ErrorKind::SchemaDrift`]), counts differ ([`ErrorKind::CountMismatch`]).
pub fn decide(state: &RunState, command: Command) -> Result<Vec<Event>, Error> {
    Ok(match command {
        Command::Plan(planned) => plan_run(planned)?,
        Command::Begin { pid, host, version } => {
            vec![Event::InvocationStarted(InvocationStarted { invocation: state.invocation + 1, pid, host, version })]
        }
        Command::ResolveRelations(relations) => resolve_relations(state, relations)?,
        Command::ResolveSchema { schema, policy, previous } => {
            resolve_schema(state, schema, policy, previous.as_ref())?
        }
        Command::OpenSnapshot(opened) => open_snapshot(state, opened),
        Command::ChooseSplit { split, ordering, slices, estimated_rows, reason } => {
            choose_split(split, ordering, slices, estimated_rows, reason)?
        }
        Command::ConfirmOrdering(now) => confirm_ordering(state, &now),
        Command::StartSlice { slice } => start_slice(state, slice)?,
        Command::NoteBatch { slice, attempt, rows, bytes } => {
            vec![Event::BatchFetched(BatchFetched { slice, attempt, rows, bytes })]
        }
        Command::SealPart { facts, checksums } => seal_part(facts, &checksums),
        Command::CommitPart { slice, file, attempt, adopted } => commit_part(state, slice, file, attempt, adopted)?,
        Command::CompleteSlice { slice, attempt, rows, took_ms, rss_mb } => {
            complete_slice(state, slice, attempt, rows, took_ms, rss_mb)?
        }
        Command::CountSpecialValues { slice, attempt, counts } => {
            let counts = chunked(counts, |count| 16 + count.kind.len()).into_iter().filter(|counts| !counts.is_empty());
            let event = |counts| Event::SpecialValuesCounted(SpecialValuesCounted { slice, attempt, counts });
            counts.map(event).collect()
        }
        Command::FailSlice(failure) => fail_slice(state, failure)?,
        Command::ReleaseOrphan { slice, why } => release_orphan(state, slice, why)?,
        Command::Quarantine { path, moved_to, reason } => {
            let siblings =
                siblings_superseded(state, &path, "another file of its slice was damaged").collect::<Vec<_>>();
            let (moved_to, reason) = (clipped(moved_to, PATH_BYTES), clipped(reason, NOTE_BYTES));
            let quarantined = PartQuarantined { path: clipped(path, PATH_BYTES), moved_to, reason };
            let mut events = vec![Event::PartQuarantined(quarantined)];
            events.extend(siblings);
            events
        }
        Command::LosePart { path, reason } => lose_part(state, &path, &reason)?,
        Command::RecordManifest { fingerprint, bytes } => {
            let (parts, rows) = (state.parts().count() as u32, state.rows());
            vec![Event::ManifestWritten(ManifestWritten { fingerprint, bytes, parts, rows })]
        }
        Command::RecordPublished => {
            let manifest = state.manifest.ok_or_else(|| refused("there is no manifest to publish"))?;
            vec![Event::Published(Published { manifest })]
        }
        Command::RecordValidation { passed, depth, parts_checked, findings } => {
            vec![Event::Validated(Validated { passed, depth, parts_checked, findings: bounded(findings) })]
        }
        Command::Warn { code, message } => vec![warning(&code, message)],
        Command::Finish(finished) => vec![Event::RunFinished(RunFinished {
            message: finished.message.map(|message| clipped(message, EVENT_PAYLOAD_BYTES)),
            ..finished
        })],
        Command::Abandon { reason } => {
            vec![Event::RunAbandoned(RunAbandoned { reason: clipped(reason, NOTE_BYTES) })]
        }
    })
}

/// What was resolved for a run is kept whole: none of it can be clipped.
fn plan_run(planned: Box<RunPlanned>) -> Result<Vec<Event>, Error> {
    let RunPlanned { run_id, export_name, config_path, source, relation, root, prefix, .. } = &*planned;
    let RunPlanned { engine, mode, format, compression, tuning_profile, destination, .. } = &*planned;
    let words = [engine, mode, format, compression, tuning_profile, destination];
    let names = [("export", export_name), ("table", relation), ("source", source), ("configuration", config_path)];
    let named = names.into_iter().chain([("destination", root)]);
    let bytes: usize = named.clone().map(|(_, text)| text.len()).sum();
    let bytes = bytes + words.iter().chain(&[run_id, prefix]).map(|text| text.len()).sum::<usize>();
    let longest = named.max_by_key(|(_, text)| text.len()).filter(|_| bytes > PLANNED_BYTES);
    let Some((what, text)) = longest else { return Ok(vec![Event::RunPlanned(planned)]) };
    let (length, shown) = (text.len(), clipped(text.clone(), 200));
    let what =
        format!("the {what} has a name of {length} bytes, which leaves no room in the run's first event: {shown}");
    Err(Error::new(ErrorKind::JournalEventTooLarge, what))
}

/// Rows of two relations are never mixed, whatever name led to them.
fn resolve_relations(state: &RunState, relations: Relations) -> Result<Vec<Event>, Error> {
    let resolved = relations.resolved(EVENT_PAYLOAD_BYTES - 512);
    let Some(known) = &state.relation else { return Ok(vec![Event::RelationResolved(resolved)]) };
    let Some(differs) = difference_of_relations(known, &resolved) else { return Ok(vec![]) };
    if state.has_work() {
        let what = format!("run {} reads one source only: {differs}", state.planned.run_id);
        let hint = "Let the name lead to the same relation again to resume, or start anew with `rivet run --fresh`.";
        return Err(Error::new(ErrorKind::RunChanged, what).with_hint(hint));
    }
    Ok(vec![warning("relation_changed", differs), Event::RelationResolved(resolved)])
}

fn resolve_schema(
    state: &RunState,
    schema: Schema,
    policy: DriftPolicy,
    previous: Option<&Schema>,
) -> Result<Vec<Event>, Error> {
    let fingerprint = schema.fingerprint();
    if state.schema_fingerprint.is_some_and(|known| known != fingerprint) {
        let why = "the columns changed after the run began; files of two schemas are never mixed";
        return Err(Error::new(ErrorKind::SchemaDrift, difference(why, state.schema.as_ref(), &schema)));
    }
    let changed = state.planned.previous_schema.map(|previous| previous != fingerprint);
    let differs = |why: &str| match previous {
        Some(_) => difference(why, previous, &schema),
        None => why.to_owned(),
    };
    if changed == Some(true) && policy == DriftPolicy::Fail {
        let why = "the columns differ from those of the previous run, and `on_schema_drift` is `fail`";
        return Err(Error::new(ErrorKind::SchemaDrift, differs(why)));
    }
    let mut events = vec![];
    if changed == Some(true) && policy == DriftPolicy::Warn && state.schema_fingerprint.is_none() {
        events.push(warning("schema_changed", differs("the columns differ from those of the previous run")));
    }
    let columns = schema.columns.len() as u32;
    events.push(Event::SchemaResolved(SchemaResolved { fingerprint, columns, changed }));
    let size = |column: &super::schema::Column| column.name.len() + column.source_type.len() + 64;
    let chunks = chunked(schema.columns, size);
    let count = chunks.len();
    events.extend(
        chunks
            .into_iter()
            .enumerate()
            .map(|(i, columns)| Event::SchemaColumns(SchemaColumns { columns, last: i + 1 == count })),
    );
    Ok(events)
}

/// Names the first column in which two schemas differ.
fn difference(why: &str, before: Option<&Schema>, now: &Schema) -> String {
    let before = before.map_or(&[][..], |schema| &schema.columns);
    let show = |column: Option<&super::schema::Column>| match column {
        Some(c) => format!("\"{}\" {}{}", c.name, c.column_type.told(), if c.nullable { "" } else { " required" }),
        None => "nothing".to_owned(),
    };
    let longest = before.len().max(now.columns.len());
    let first = (0..longest).find(|&i| before.get(i) != now.columns.get(i));
    match first {
        Some(i) => format!("{why} (column {}: was {}, is {})", i + 1, show(before.get(i)), show(now.columns.get(i))),
        None => why.to_owned(),
    }
}

/// A new snapshot. What was read in an earlier one is kept and labelled, or set aside: by policy, or because its
/// slices have no meaning in another snapshot.
fn open_snapshot(state: &RunState, opened: OpenedSnapshot) -> Vec<Event> {
    let mut events = vec![];
    let has_work = state.has_work();
    let split_is_lost = state.split.as_ref().is_some_and(|split| !split.survives_its_snapshot());
    let reason = if state.snapshots.is_empty() {
        None
    } else if split_is_lost {
        Some("page ranges are only valid inside the snapshot they were planned in")
    } else if state.planned.restart_on_resume && has_work {
        Some("`consistency: restart` starts over rather than mix two snapshots")
    } else {
        None
    };
    if let Some(reason) = reason {
        events.extend(restarted(state, reason));
    } else if has_work {
        let message = "the rest of the rows is read in a new snapshot; each part names the one it was read in";
        events.push(warning("mixed_snapshots", message.to_owned()));
    }
    let OpenedSnapshot { id, lsn, visible, server, standby } = opened;
    let snapshot = SnapshotNo(state.snapshots.len() as u32);
    events.push(Event::SnapshotOpened(SnapshotOpened {
        snapshot,
        id,
        lsn,
        visible: clipped(visible, 2048),
        server,
        standby,
    }));
    events
}

/// Everything that was read is set aside, and so is the plan.
fn restarted(state: &RunState, reason: &str) -> Vec<Event> {
    let mut events: Vec<Event> = state.parts().map(|part| superseded(part, reason)).collect();
    events.push(Event::WorkRestarted(WorkRestarted { reason: reason.to_owned() }));
    events.push(warning("restarted", format!("the table is read from the start: {reason}")));
    events
}

/// Boundaries mean something in the order that they were chosen in. In another one, rows that lie between them may belong
/// to another slice, and be read twice or never, although the boundaries themselves still rise.
fn confirm_ordering(state: &RunState, now: &[KeyOrdering]) -> Vec<Event> {
    let shown = |ordering: &KeyOrdering| match &ordering.version {
        Some(version) => format!("{} in version {version}", ordering.collation),
        None => ordering.collation.clone(),
    };
    let of = |column: &str| now.iter().find(|ordering| ordering.column == column);
    let changed = state.ordering.iter().find(|before| of(&before.column) != Some(before));
    let Some(before) = changed else { return vec![] };
    let after = of(&before.column).map_or("nothing".to_owned(), shown);
    let reason = format!(
        "the order of key column \"{}\" changed, from {} to {after}; slices before and after would overlap",
        before.column,
        shown(before)
    );
    restarted(state, &clipped(reason, 2048))
}

fn choose_split(
    split: Split,
    ordering: Vec<KeyOrdering>,
    plans: Vec<SlicePlan>,
    estimated_rows: u64,
    reason: String,
) -> Result<Vec<Event>, Error> {
    if plans.is_empty() {
        return Err(Error::new(ErrorKind::EmptyPlan, "no slice was planned"));
    }
    let slices = u32::try_from(plans.len()).map_err(|_| Error::new(ErrorKind::Internal, "a plan of 2^32 slices"))?;
    let reason = clipped(reason, NOTE_BYTES);
    let mut events = vec![Event::SplitChosen(SplitChosen { split, slices, estimated_rows, reason })];
    if !ordering.is_empty() {
        let size = |key: &KeyOrdering| {
            key.column.len() + key.collation.len() + key.version.as_ref().map_or(0, String::len) + 8
        };
        let chunks = chunked(ordering, size);
        events.extend(chunks.into_iter().map(|columns| Event::SplitOrdering(SplitOrdering { columns })));
    }
    let chunks = chunked(plans, |plan| 24 + bounds_bytes(&plan.bounds));
    let count = chunks.len();
    events.extend(
        chunks
            .into_iter()
            .enumerate()
            .map(|(i, slices)| Event::SlicesPlanned(SlicesPlanned { slices, last: i + 1 == count })),
    );
    Ok(events)
}

fn bounds_bytes(bounds: &Bounds) -> usize {
    match bounds {
        Bounds::Range { lower, upper } => lower.iter().chain(upper).flatten().map(|value| value.len() + 8).sum(),
        Bounds::Whole | Bounds::NullKey | Bounds::Pages { .. } => 16,
    }
}

/// An earlier attempt's files stop counting before a new one may write under their names.
fn start_slice(state: &RunState, slice: SliceNo) -> Result<Vec<Event>, Error> {
    let of = state.slice(slice).ok_or_else(|| refused("the slice is not in the plan"))?;
    let snapshot = state.snapshot.ok_or_else(|| refused("no snapshot is open"))?;
    let again = "its slice is read again";
    let mut events: Vec<Event> = of.parts.values().map(|part| superseded(&part.facts, again)).collect();
    events.push(Event::SliceStarted(SliceStarted { slice, attempt: of.attempts.next(), snapshot }));
    Ok(events)
}

fn seal_part(facts: PartFacts, checksums: &[u64]) -> Vec<Event> {
    let PartFacts { slice, file, attempt, .. } = facts;
    let per_event = EVENT_PAYLOAD_BYTES / 10;
    let mut events: Vec<Event> = checksums
        .chunks(per_event)
        .enumerate()
        .map(|(i, sums)| {
            let first_column = (i * per_event) as u32;
            Event::PartChecksums(PartChecksums { slice, file, attempt, first_column, sums: sums.to_vec() })
        })
        .collect();
    events.push(Event::PartSealed(facts));
    events
}

fn commit_part(
    state: &RunState,
    slice: SliceNo,
    file: FileNo,
    attempt: Attempt,
    adopted: bool,
) -> Result<Vec<Event>, Error> {
    let sealed = state.slice(slice).and_then(|slice| slice.parts.get(&file));
    let facts = &sealed.ok_or_else(|| refused("a receipt for a file that was not sealed"))?.facts;
    let (path, rows, bytes, fingerprint) = (facts.path.clone(), facts.rows, facts.bytes, facts.fingerprint);
    Ok(vec![Event::PartCommitted(PartCommitted { slice, file, attempt, path, rows, bytes, fingerprint, adopted })])
}

/// `rows` is the server's own count; the files must hold as many.
fn complete_slice(
    state: &RunState,
    slice: SliceNo,
    attempt: Attempt,
    rows: u64,
    took_ms: u64,
    rss_mb: u32,
) -> Result<Vec<Event>, Error> {
    let of = state.slice(slice).ok_or_else(|| refused("the slice is not in the plan"))?;
    if of.rows() != rows {
        let what = format!("slice {slice}: the server sent {rows} rows, the files hold {}", of.rows());
        return Err(Error::new(ErrorKind::CountMismatch, what));
    }
    let files = of.parts.len() as u32;
    Ok(vec![Event::SliceCompleted(SliceCompleted { slice, attempt, rows, files, took_ms, rss_mb })])
}

fn fail_slice(state: &RunState, failure: Failure) -> Result<Vec<Event>, Error> {
    let Failure { slice, attempt, kind, message, max_retries, backoff_ms, dice } = failure;
    let of = state.slice(slice).ok_or_else(|| refused("the slice is not in the plan"))?;
    let class = kind.class();
    let failed = SliceFailed { slice, attempt, code: class.code.to_owned(), message: clipped(message, 2048) };
    let mut events = vec![Event::SliceFailed(failed)];
    if class.retry != Retry::Never && of.failures < max_retries {
        let delay_ms = retry_pause_ms(backoff_ms, of.failures, dice);
        events.push(Event::RetryScheduled(RetryScheduled { slice, attempt: attempt.next(), delay_ms }));
    }
    Ok(events)
}

/// Milliseconds to wait before the next try after `failures` earlier ones: exponential, capped at a minute, with full
/// jitter. `dice` is between 0 and 1.
///
/// Source: "Exponential Backoff and Jitter", AWS Architecture Blog, 2015.
pub fn retry_pause_ms(backoff_ms: u64, failures: u32, dice: f64) -> u64 {
    let ceiling = backoff_ms.saturating_mul(1 << failures.min(16)).min(LONGEST_RETRY_PAUSE_MS);
    (ceiling as f64 * dice.clamp(0.0, 1.0)) as u64
}

fn release_orphan(state: &RunState, slice: SliceNo, why: String) -> Result<Vec<Event>, Error> {
    let status = state.slice(slice).map(|slice| slice.status);
    let Some(SliceStatus::Orphaned(attempt)) = status else {
        return Err(refused("the slice is not one that a dead process left"));
    };
    let code = ErrorKind::RunInterrupted.class().code.to_owned();
    let message = clipped(why, 2048);
    Ok(vec![Event::SliceFailed(SliceFailed { slice, attempt, code, message })])
}

fn lose_part(state: &RunState, path: &str, reason: &str) -> Result<Vec<Event>, Error> {
    let part = state.parts().find(|part| part.path == path).ok_or_else(|| refused("it is not a part of the run"))?;
    let mut events = vec![superseded(part, reason)];
    events.extend(siblings_superseded(state, path, reason));
    Ok(events)
}

/// A slice is read whole or not at all: when one of its files stops counting, so do the others.
fn siblings_superseded<'a>(state: &'a RunState, path: &'a str, reason: &'a str) -> impl Iterator<Item = Event> + 'a {
    let slice = state.parts().find(|part| part.path == path).map(|part| part.slice);
    let siblings = state.parts().filter(move |part| Some(part.slice) == slice && part.path != path);
    siblings.map(move |part| superseded(part, reason))
}

fn superseded(part: &PartFacts, reason: &str) -> Event {
    let (slice, file, path) = (part.slice, part.file, part.path.clone());
    Event::PartSuperseded(PartSuperseded { slice, file, path, reason: clipped(reason.to_owned(), NOTE_BYTES) })
}

fn warning(code: &str, message: String) -> Event {
    Event::WarningNoted(WarningNoted { code: code.to_owned(), message: clipped(message, EVENT_PAYLOAD_BYTES) })
}

fn refused(why: &str) -> Error {
    Error::new(ErrorKind::RunIllegal, why)
}

/// At most `bytes` of a text, cut at a character.
fn clipped(mut text: String, bytes: usize) -> String {
    if text.len() > bytes {
        let end = (0..=bytes).rev().find(|&i| text.is_char_boundary(i)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}

/// The first findings that fit in an event; the rest is counted.
fn bounded(findings: Vec<String>) -> Vec<String> {
    const MOST: usize = 8;
    let rest = findings.len().saturating_sub(MOST);
    let mut kept: Vec<String> = findings.into_iter().take(MOST).map(|finding| clipped(finding, 320)).collect();
    if rest > 0 {
        kept.push(format!("and {rest} more"));
    }
    kept
}

/// Splits `items` so that each piece stays under the payload of an event. At least one piece, so that a `last` exists.
fn chunked<T>(items: Vec<T>, size: impl Fn(&T) -> usize) -> Vec<Vec<T>> {
    let mut chunks = vec![vec![]];
    let mut bytes = 0;
    for item in items {
        let item_bytes = size(&item);
        if bytes + item_bytes > EVENT_PAYLOAD_BYTES && bytes > 0 {
            chunks.push(vec![]);
            bytes = 0;
        }
        bytes += item_bytes;
        if let Some(chunk) = chunks.last_mut() {
            chunk.push(item);
        }
    }
    chunks
}

//! A run's events as lines.

use super::figures;
use crate::run::event::{Event, Outcome, Recorded};
use crate::run::plan::{Bounds, SlicePlan, Split};
use std::time::Duration;

/// One line of a timeline: an event, or a row of batches.
#[derive(Debug, PartialEq, Eq)]
pub struct Line {
    pub seq: String,
    pub time: String,
    pub event: String,
    pub details: String,
}

/// The lines of a run. `every_batch`: one for each batch; otherwise batches in a row are one line.
pub fn lines(records: &[Recorded], every_batch: bool) -> Vec<Line> {
    let is_batch = |recorded: &Recorded| matches!(recorded.event, Event::BatchFetched(_));
    let mut lines = Vec::new();
    // Groups of batches in a row; everything else stands alone.
    for group in records.chunk_by(|a, b| !every_batch && is_batch(a) && is_batch(b)) {
        match group {
            [single] => lines.push(line(single)),
            [first, .., last] => lines.push(folded(first, last, group)),
            [] => {}
        }
    }
    lines
}

fn line(recorded: &Recorded) -> Line {
    Line {
        seq: recorded.seq.to_string(),
        time: time(recorded.wall_ms),
        event: recorded.event.name().to_owned(),
        details: details(&recorded.event),
    }
}

fn folded(first: &Recorded, last: &Recorded, group: &[Recorded]) -> Line {
    let (mut rows, mut bytes) = (0, 0);
    let mut slices = Vec::new();
    for recorded in group {
        if let Event::BatchFetched(batch) = &recorded.event {
            rows += batch.rows;
            bytes += batch.bytes;
            slices.push(batch.slice.0);
        }
    }
    slices.sort_unstable();
    slices.dedup();
    let which = match slices.as_slice() {
        [one] => format!("slice {one}"),
        many => figures::counted(many.len() as u64, "slice"),
    };
    Line {
        seq: format!("{}–{}", first.seq, last.seq),
        time: time(last.wall_ms),
        event: format!("batch_fetched ×{}", group.len()),
        details: format!("{which}, {}, {}", figures::counted(rows, "row"), figures::bytes(bytes)),
    }
}

fn time(wall_ms: i64) -> String {
    match jiff::Timestamp::from_millisecond(wall_ms) {
        Ok(time) => time.strftime("%Y-%m-%d %H:%M:%S%.3f").to_string(),
        Err(_) => "-".to_owned(),
    }
}

/// What the event says, in a few words.
pub fn details(event: &Event) -> String {
    let rows = |n: u64| figures::counted(n, "row");
    match event {
        Event::RunPlanned(e) => {
            format!("{}: {} of {} → {}, definition {}", e.run_id, e.relation, e.source, e.prefix, e.definition)
        }
        Event::InvocationStarted(e) => {
            format!("invocation {}, rivet {}, pid {} on {}", e.invocation, e.version, e.pid, e.host)
        }
        Event::SchemaResolved(e) => {
            let changed = match e.changed {
                None => "",
                Some(false) => ", as before",
                Some(true) => ", CHANGED",
            };
            format!("{}, {}{changed}", figures::counted(u64::from(e.columns), "column"), e.fingerprint)
        }
        Event::SchemaColumns(e) => {
            let column = |c: &crate::run::schema::Column| {
                format!("{} {}{}", c.name, c.column_type.told(), if c.nullable { "" } else { " required" })
            };
            e.columns.iter().map(column).collect::<Vec<_>>().join(", ")
        }
        Event::SnapshotOpened(e) => {
            let standby = if e.standby { ", a standby" } else { "" };
            format!("snapshot {}: {} at {}, PostgreSQL {}{standby}", e.snapshot, e.id, e.lsn, e.server)
        }
        Event::SplitChosen(e) => {
            let slices = figures::counted(u64::from(e.slices), "slice");
            format!("{slices}{}, about {} rows: {}", split(&e.split), figures::count(e.estimated_rows), e.reason)
        }
        Event::SplitOrdering(e) => {
            let column = |c: &crate::run::plan::KeyOrdering| {
                let version = c.version.as_ref().map(|version| format!(", version {version}")).unwrap_or_default();
                format!("{} by {}{version}", c.column, c.collation)
            };
            e.columns.iter().map(column).collect::<Vec<_>>().join("; ")
        }
        Event::SlicesPlanned(e) => match e.slices.as_slice() {
            [] => "none".to_owned(),
            [one] => slice(one),
            [first, .., last] => format!("slices {} to {}", first.slice, last.slice),
        },
        Event::SliceStarted(e) => format!("slice {}, attempt {}, snapshot {}", e.slice, e.attempt, e.snapshot),
        Event::BatchFetched(e) => format!("slice {}, {}, {}", e.slice, rows(e.rows), figures::bytes(e.bytes)),
        Event::PartChecksums(e) => {
            let last = e.first_column as usize + e.sums.len();
            format!("slice {} file {}, columns {} to {last}", e.slice, e.file, e.first_column + 1)
        }
        Event::PartSealed(e) => {
            let whole = match e.slice_rows {
                Some(n) => format!("; the server counted {} in the slice", rows(n)),
                None => String::new(),
            };
            format!("{}, {}, {}, {}{whole}", e.path, rows(e.rows), figures::bytes(e.bytes), e.fingerprint)
        }
        Event::PartCommitted(e) => {
            let adopted = if e.adopted { ", found whole by the resume" } else { "" };
            format!("{}, {}, {}{adopted}", e.path, rows(e.rows), figures::bytes(e.bytes))
        }
        Event::SliceCompleted(e) => {
            let (files, took) =
                (figures::counted(u64::from(e.files), "file"), figures::duration(Duration::from_millis(e.took_ms)));
            format!("slice {}, {}, {files}, {took}", e.slice, rows(e.rows))
        }
        Event::SliceFailed(e) => format!("slice {}, attempt {}: {}: {}", e.slice, e.attempt, e.code, e.message),
        Event::RetryScheduled(e) => {
            let delay = figures::duration(Duration::from_millis(e.delay_ms));
            format!("slice {}, attempt {} in {delay}", e.slice, e.attempt)
        }
        Event::PartSuperseded(e) => format!("{}: {}", e.path, e.reason),
        Event::PartQuarantined(e) if e.moved_to.is_empty() => format!("{} could not be moved: {}", e.path, e.reason),
        Event::PartQuarantined(e) => format!("{} → {}: {}", e.path, e.moved_to, e.reason),
        Event::WorkRestarted(e) => e.reason.clone(),
        Event::ManifestWritten(e) => {
            format!("{}, {}, {}", figures::counted(u64::from(e.parts), "part"), rows(e.rows), e.fingerprint)
        }
        Event::Published(e) => format!("manifest {}", e.manifest),
        Event::Validated(e) => {
            let parts = figures::counted(u64::from(e.parts_checked), "part");
            match (e.passed, e.findings.first()) {
                (true, _) => format!("passed, {parts}, depth {}", e.depth),
                (false, first) => format!("FAILED, {parts}, depth {}: {}", e.depth, first.map_or("", String::as_str)),
            }
        }
        Event::WarningNoted(e) => format!("{}: {}", e.code, e.message),
        Event::RunFinished(e) => {
            let outcome = match e.outcome {
                Outcome::Success => "success",
                Outcome::Failed => "failed",
                Outcome::Skipped => "skipped",
                Outcome::Interrupted => "interrupted",
            };
            let why = e.message.as_ref().or(e.skip_reason.as_ref()).map(|why| format!(": {why}")).unwrap_or_default();
            format!("{outcome} after {}{why}", figures::duration(Duration::from_millis(e.duration_ms)))
        }
        Event::RunAbandoned(e) => e.reason.clone(),
        Event::SpecialValuesCounted(e) => {
            let counts = e.counts.iter().map(|c| format!("{} {} in column {}", c.count, c.kind, c.column + 1));
            format!("slice {} attempt {}: {}", e.slice, e.attempt, counts.collect::<Vec<_>>().join(", "))
        }
        Event::RelationResolved(e) => {
            let below = match (e.below.first(), e.relations) {
                (None, _) => String::new(),
                (Some(first), 1) => format!(", reads {first}"),
                (Some(first), n) => format!(", reads {first} and {} more", n - 1),
            };
            match &e.named {
                Some(named) => format!("{named}, number {}{below}", named.oid),
                None => format!("query{below}"),
            }
        }
    }
}

fn split(split: &Split) -> String {
    match split {
        Split::Whole => String::new(),
        Split::Key { columns, evidence } => {
            let names: Vec<_> = columns.iter().map(|column| column.name.as_str()).collect();
            format!(" by {} ({evidence})", names.join(", "))
        }
        Split::Pages { pages } => format!(" of {} pages", figures::count(u64::from(*pages))),
    }
}

fn slice(plan: &SlicePlan) -> String {
    let end = |values: &Option<Vec<String>>| match values {
        Some(values) => format!("({})", values.join(", ")),
        None => "…".to_owned(),
    };
    let bounds = match &plan.bounds {
        Bounds::Whole => "everything".to_owned(),
        Bounds::Range { lower, upper } => format!("{} ≤ key < {}", end(lower), end(upper)),
        Bounds::NullKey => "rows without a key".to_owned(),
        Bounds::Pages { first, end: Some(end) } => format!("pages {first} to {}", end.saturating_sub(1)),
        Bounds::Pages { first, end: None } => format!("pages from {first}"),
    };
    format!("slice {}: {bounds}", plan.slice)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::event::{BatchFetched, Published};
    use crate::run::ids::{Attempt, ChainHash, EventSeq, Fingerprint, RunOrdinal, SliceNo};

    fn recorded(seq: u64, event: Event) -> Recorded {
        Recorded {
            run: RunOrdinal(1),
            seq: EventSeq(seq),
            wall_ms: seq as i64,
            mono_us: 0,
            hash: ChainHash::GENESIS,
            event,
        }
    }

    #[test]
    fn batches_in_a_row_are_one_line_unless_every_event_is_wanted() {
        let batch = |seq, slice| {
            let fetched = BatchFetched { slice: SliceNo(slice), attempt: Attempt(1), rows: 1000, bytes: 1 << 20 };
            recorded(seq, Event::BatchFetched(fetched))
        };
        let published = recorded(4, Event::Published(Published { manifest: Fingerprint(1) }));
        let records = [batch(1, 0), batch(2, 1), batch(3, 0), published, batch(5, 0)];
        let folded: Vec<_> =
            lines(&records, false).into_iter().map(|line| (line.seq, line.event, line.details)).collect();
        let text = |a: &str, b: &str, c: &str| (a.to_owned(), b.to_owned(), c.to_owned());
        assert_eq!(
            folded,
            [
                text("1–3", "batch_fetched ×3", "2 slices, 3,000 rows, 3.00 MB"),
                text("4", "published", "manifest xxh3:0000000000000001"),
                text("5", "batch_fetched", "slice 0, 1,000 rows, 1.00 MB"),
            ]
        );
        assert_eq!(lines(&records, true).len(), 5);
        assert_eq!(lines(&records, true)[0].time, "1970-01-01 00:00:00.001");
    }
}

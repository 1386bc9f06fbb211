//! The facts of a run. Past tense, and the whole vocabulary: whatever rivet knows about a run, it knows from these.
//!
//! A fact that decides what happens next is [`Durability::Durable`]: it is on disk before anything depends on it.
//! Progress is [`Durability::Buffered`]: in order, and on disk with the next durable fact.
//!
//! Times, durations, host names and message texts are *notes*: they live in [`Recorded`], or in fields whose doc says
//! so, and no replay compares them.

use super::ids::{Attempt, ChainHash, EventSeq, FileNo, Fingerprint, RunOrdinal, SliceNo, SnapshotNo};
use super::plan::{KeyOrdering, SlicePlan, Split};
use super::relation::RelationIdentity;
use super::schema::Column;
use serde::{Deserialize, Serialize};

/// An event with its place in the journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recorded {
    pub run: RunOrdinal,
    pub seq: EventSeq,
    /// Note: milliseconds since 1970-01-01T00:00:00Z by the host's clock. Never used to order anything.
    pub wall_ms: i64,
    /// Note: microseconds since the invocation that wrote this began, by a monotonic clock.
    pub mono_us: u64,
    /// Chain hash including this event.
    pub hash: ChainHash,
    #[serde(flatten)]
    pub event: Event,
}

/// When an appended event must be on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Before `append` returns.
    Durable,
    /// Together with the next durable event.
    Buffered,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    RunPlanned(Box<RunPlanned>),
    InvocationStarted(InvocationStarted),
    SchemaResolved(SchemaResolved),
    SchemaColumns(SchemaColumns),
    SnapshotOpened(SnapshotOpened),
    SplitChosen(SplitChosen),
    SplitOrdering(SplitOrdering),
    SlicesPlanned(SlicesPlanned),
    SliceStarted(SliceStarted),
    BatchFetched(BatchFetched),
    PartChecksums(PartChecksums),
    PartSealed(PartFacts),
    PartCommitted(PartCommitted),
    SliceCompleted(SliceCompleted),
    SliceFailed(SliceFailed),
    RetryScheduled(RetryScheduled),
    PartSuperseded(PartSuperseded),
    PartQuarantined(PartQuarantined),
    WorkRestarted(WorkRestarted),
    ManifestWritten(ManifestWritten),
    Published(Published),
    Validated(Validated),
    WarningNoted(WarningNoted),
    RunFinished(RunFinished),
    RunAbandoned(RunAbandoned),
    RelationResolved(RelationResolved),
    SpecialValuesCounted(SpecialValuesCounted),
}

impl Event {
    pub fn durability(&self) -> Durability {
        match self {
            // Each of these is followed, before anything depends on it, by a durable event of the same append:
            // columns by the rest of the schema, slices by the last of their plan, checksums by their part.
            Event::BatchFetched(_) | Event::PartChecksums(_) | Event::WarningNoted(_) => Durability::Buffered,
            // Stand before the schema in the same append, and before the last part of their slice.
            Event::RelationResolved(_) | Event::SpecialValuesCounted(_) => Durability::Buffered,
            Event::SchemaColumns(columns) if !columns.last => Durability::Buffered,
            Event::SlicesPlanned(slices) if !slices.last => Durability::Buffered,
            Event::RunPlanned(_) | Event::SchemaResolved(_) | Event::SplitChosen(_) | Event::SplitOrdering(_) => {
                Durability::Buffered
            }
            _ => Durability::Durable,
        }
    }

    /// The event's name in JSON and in timelines.
    pub fn name(&self) -> &'static str {
        match self {
            Event::RunPlanned(_) => "run_planned",
            Event::InvocationStarted(_) => "invocation_started",
            Event::SchemaResolved(_) => "schema_resolved",
            Event::SchemaColumns(_) => "schema_columns",
            Event::SnapshotOpened(_) => "snapshot_opened",
            Event::SplitChosen(_) => "split_chosen",
            Event::SplitOrdering(_) => "split_ordering",
            Event::SlicesPlanned(_) => "slices_planned",
            Event::SliceStarted(_) => "slice_started",
            Event::BatchFetched(_) => "batch_fetched",
            Event::PartChecksums(_) => "part_checksums",
            Event::PartSealed(_) => "part_sealed",
            Event::PartCommitted(_) => "part_committed",
            Event::SliceCompleted(_) => "slice_completed",
            Event::SliceFailed(_) => "slice_failed",
            Event::RetryScheduled(_) => "retry_scheduled",
            Event::PartSuperseded(_) => "part_superseded",
            Event::PartQuarantined(_) => "part_quarantined",
            Event::WorkRestarted(_) => "work_restarted",
            Event::ManifestWritten(_) => "manifest_written",
            Event::Published(_) => "published",
            Event::Validated(_) => "validated",
            Event::WarningNoted(_) => "warning_noted",
            Event::RunFinished(_) => "run_finished",
            Event::RunAbandoned(_) => "run_abandoned",
            Event::RelationResolved(_) => "relation_resolved",
            Event::SpecialValuesCounted(_) => "special_values_counted",
        }
    }
}

/// The first event of every run: everything that was asked for and resolved before a server was spoken to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunPlanned {
    /// `<export>-<ULID>`.
    pub run_id: String,
    pub export_name: String,
    /// Numbered changes in what the fold means, all of which this run was written under. 0 in this version.
    pub fold_flags: u32,
    /// Over everything that decides which rows and bytes come out. A resume under another definition is refused.
    pub definition: Fingerprint,
    /// Absolute path of the configuration file, so that a resume needs no `-c`.
    pub config_path: String,
    /// `postgres`, …
    pub engine: String,
    /// Where the rows come from, without credentials: `host:port/database`.
    pub source: String,
    /// `schema.table` as written, or `query`.
    pub relation: String,
    pub mode: String,
    pub format: String,
    pub compression: String,
    pub tuning_profile: String,
    pub batch_size: u64,
    pub batch_size_memory_mb: Option<u64>,
    /// `local`, …
    pub destination: String,
    /// Absolute path of the configured destination, tokens resolved. Holds the pointer to the latest complete run.
    pub root: String,
    /// Absolute path under which this run's parts, manifest and `_SUCCESS` lie. Equal to `root` when the configured
    /// path names `{run_id}` itself.
    pub prefix: String,
    /// Whether `--validate` was asked for.
    pub validate: bool,
    /// `--validate`'s depth as planned: false = sizes, true = every byte.
    pub verify_content: bool,
    /// What a resume does with work done in an earlier snapshot: false = keep it and say `mixed`, true = start over.
    pub restart_on_resume: bool,
    /// Whether an export without rows ends as `skipped` and leaves no files.
    pub skip_empty: bool,
    /// Whether a schema that differs from the previous run's was to be refused when the run was planned. What happens is
    /// what the configuration says when the columns are looked at.
    pub refuse_drift: bool,
    /// The schema of the export's previous successful run. `None` also when a change of it was accepted with `--fresh`.
    pub previous_schema: Option<Fingerprint>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InvocationStarted {
    /// 1 for the run itself, 2, 3, … for its resumes.
    pub invocation: u32,
    /// Notes.
    pub pid: u32,
    pub host: String,
    pub version: String,
}

/// Header of the schema; `columns` columns follow in [`SchemaColumns`]. Always a new reading of the live catalog.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SchemaResolved {
    pub fingerprint: Fingerprint,
    pub columns: u32,
    /// Against the previous run of the export. `None`: nothing to compare with.
    pub changed: Option<bool>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SchemaColumns {
    pub columns: Vec<Column>,
    /// Whether the schema is complete with these.
    pub last: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotOpened {
    pub snapshot: SnapshotNo,
    /// What `pg_export_snapshot()` returned.
    pub id: String,
    /// WAL position: `pg_current_wal_insert_lsn()`, on a standby `pg_last_wal_replay_lsn()`.
    pub lsn: String,
    /// `pg_current_snapshot()`: which transactions this snapshot sees.
    pub visible: String,
    /// Note: the server's version.
    pub server: String,
    pub standby: bool,
}

/// Header of a plan; `slices` slices follow in [`SlicesPlanned`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SplitChosen {
    pub split: Split,
    pub slices: u32,
    pub estimated_rows: u64,
    /// Why this split, in a sentence. A note.
    pub reason: String,
}

/// By what the boundaries of the plan are ordered, between [`SplitChosen`] and its slices; more than one where the names are
/// long. Not there when no key column has a collation, nor in journals of the time before this was recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SplitOrdering {
    pub columns: Vec<KeyOrdering>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlicesPlanned {
    pub slices: Vec<SlicePlan>,
    /// Whether the plan is complete with these.
    pub last: bool,
}

/// Announces the attempt, and with it the names of the files it may write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SliceStarted {
    pub slice: SliceNo,
    pub attempt: Attempt,
    pub snapshot: SnapshotNo,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchFetched {
    pub slice: SliceNo,
    pub attempt: Attempt,
    pub rows: u64,
    /// Bytes of the COPY stream.
    pub bytes: u64,
}

/// Value checksums of a part's columns, a piece at a time so that wide tables fit. Stands before the part's
/// [`Event::PartSealed`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartChecksums {
    pub slice: SliceNo,
    pub file: FileNo,
    pub attempt: Attempt,
    /// Index of the first column in `sums`.
    pub first_column: u32,
    pub sums: Vec<u64>,
}

/// What a verifier needs to know of one file. As [`Event::PartSealed`]: its bytes are complete and synced under a
/// temporary name, and about to appear under `path`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartFacts {
    pub slice: SliceNo,
    pub file: FileNo,
    pub attempt: Attempt,
    /// Relative to the run's prefix.
    pub path: String,
    pub rows: u64,
    pub bytes: u64,
    /// Over the file's bytes.
    pub fingerprint: Fingerprint,
    pub snapshot: SnapshotNo,
    /// Set on the last file of a slice whose stream ended well: rows of the whole slice as the server counted them.
    pub slice_rows: Option<u64>,
}

/// Receipt: the sealed file is durable under its final name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartCommitted {
    pub slice: SliceNo,
    pub file: FileNo,
    pub attempt: Attempt,
    pub path: String,
    pub rows: u64,
    pub bytes: u64,
    pub fingerprint: Fingerprint,
    /// Whether a resume found the file complete instead of writing it.
    pub adopted: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SliceCompleted {
    pub slice: SliceNo,
    pub attempt: Attempt,
    pub rows: u64,
    pub files: u32,
    /// Note: milliseconds from the attempt's start; 0 when the completion was found by a resume.
    pub took_ms: u64,
    /// Note: resident memory of the process, in MiB.
    pub rss_mb: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SliceFailed {
    pub slice: SliceNo,
    pub attempt: Attempt,
    /// Stable error code.
    pub code: String,
    /// Note, secrets redacted.
    pub message: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetryScheduled {
    pub slice: SliceNo,
    /// The attempt to come.
    pub attempt: Attempt,
    /// Note.
    pub delay_ms: u64,
}

/// A committed file stopped counting: its slice is read again, and the file will be overwritten or removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartSuperseded {
    pub slice: SliceNo,
    pub file: FileNo,
    pub path: String,
    pub reason: String,
}

/// A file that is not what the journal says moved aside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartQuarantined {
    pub path: String,
    /// Relative to the run's prefix. Empty when the move failed and the file stays where it is.
    pub moved_to: String,
    pub reason: String,
}

/// Everything read so far is set aside; slices are planned anew in a new snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkRestarted {
    pub reason: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestWritten {
    /// Over the exact bytes of `manifest.json`.
    pub fingerprint: Fingerprint,
    pub bytes: u64,
    pub parts: u32,
    pub rows: u64,
}

/// `_SUCCESS` is in place, and the pointer at the root names this run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// The manifest that was made official.
    pub manifest: Fingerprint,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Validated {
    pub passed: bool,
    /// `size` or `full`.
    pub depth: String,
    pub parts_checked: u32,
    /// What is wrong, a line each; at most the first few.
    pub findings: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WarningNoted {
    /// Stable word to match on, such as `mixed_snapshots`.
    pub code: String,
    pub message: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Success,
    Failed,
    Skipped,
    Interrupted,
}

/// The end of a run, or, when interrupted or failed, of this invocation's work on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunFinished {
    pub outcome: Outcome,
    /// Stable error code, when failed.
    pub code: Option<String>,
    /// Notes from here on. The error's text, secrets redacted.
    pub message: Option<String>,
    pub skip_reason: Option<String>,
    pub duration_ms: u64,
    pub peak_rss_mb: u32,
    pub pg_temp_bytes_delta: Option<i64>,
    /// p99 of this invocation's durable appends, and time spent in the journal.
    pub append_p99_us: u64,
    pub journal_time_ms: u64,
}

/// A later run took this one's place. Nothing follows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunAbandoned {
    pub reason: String,
}

/// What the configured name, or the names in a query, led to. Written again only when they lead to something else and
/// nothing that was read counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelationResolved {
    pub database: String,
    pub database_oid: u32,
    /// The table or view that the configuration names; `None` for a query.
    pub named: Option<RelationIdentity>,
    /// What a view or a query reads, at any depth, in the order of names; as many as fit.
    pub below: Vec<RelationIdentity>,
    /// How many there are below.
    pub relations: u32,
    /// Over the database and all of them.
    pub fingerprint: Fingerprint,
}

/// Values of a slice that its columns have no room for, and that were delivered as something else by policy. Stands before the
/// [`Event::PartSealed`] that announces the slice's rows; a later attempt at the slice counts anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpecialValuesCounted {
    pub slice: SliceNo,
    pub attempt: Attempt,
    pub counts: Vec<SpecialCount>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpecialCount {
    /// Index of the column.
    pub column: u32,
    /// `nan`, `infinity`, `minus_infinity`, `end_of_day`, `beyond_range` or `lower_bound`.
    pub kind: String,
    pub count: u64,
}

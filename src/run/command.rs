//! What the engine wants of a run, or has done for it.

use super::event::{PartFacts, RunFinished, RunPlanned, SpecialCount};
use super::ids::{Attempt, FileNo, Fingerprint, SliceNo};
use super::plan::{KeyOrdering, SlicePlan, Split};
use super::relation::Relations;
use super::schema::Schema;
use crate::error::ErrorKind;

/// A wish, or a receipt of something performed.
#[derive(Debug, Clone)]
pub enum Command {
    Plan(Box<RunPlanned>),
    Begin {
        pid: u32,
        host: String,
        version: String,
    },
    ResolveRelations(Relations),
    ResolveSchema {
        schema: Schema,
        policy: DriftPolicy,
        /// Columns of the run that this one is compared with, to say what changed. `None` where they are not known.
        previous: Option<Schema>,
    },
    OpenSnapshot(OpenedSnapshot),
    ChooseSplit {
        split: Split,
        /// Of the split's key columns, those with a collation.
        ordering: Vec<KeyOrdering>,
        slices: Vec<SlicePlan>,
        estimated_rows: u64,
        reason: String,
    },
    /// By what the planned split's key is ordered now, in the snapshot in which the rest is to be read.
    ConfirmOrdering(Vec<KeyOrdering>),
    StartSlice {
        slice: SliceNo,
    },
    NoteBatch {
        slice: SliceNo,
        attempt: Attempt,
        rows: u64,
        bytes: u64,
    },
    SealPart {
        facts: PartFacts,
        checksums: Vec<u64>,
    },
    CommitPart {
        slice: SliceNo,
        file: FileNo,
        attempt: Attempt,
        adopted: bool,
    },
    /// Index of the column, kind and count.
    CountSpecialValues {
        slice: SliceNo,
        attempt: Attempt,
        counts: Vec<SpecialCount>,
    },
    CompleteSlice {
        slice: SliceNo,
        attempt: Attempt,
        rows: u64,
        took_ms: u64,
        rss_mb: u32,
    },
    FailSlice(Failure),
    /// A slice whose worker died with an earlier process, and whose files do not prove it complete.
    ReleaseOrphan {
        slice: SliceNo,
        why: String,
    },
    Quarantine {
        path: String,
        moved_to: String,
        reason: String,
    },
    /// A committed file is gone.
    LosePart {
        path: String,
        reason: String,
    },
    RecordManifest {
        fingerprint: Fingerprint,
        bytes: u64,
    },
    RecordPublished,
    RecordValidation {
        passed: bool,
        depth: String,
        parts_checked: u32,
        findings: Vec<String>,
    },
    Warn {
        code: String,
        message: String,
    },
    Finish(RunFinished),
    Abandon {
        reason: String,
    },
}

/// What is done when the columns differ from those of the previous run. That of the configuration which is in force, also
/// for a run that was planned under another: nothing is published before it was asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DriftPolicy {
    /// Go on, and say so.
    #[default]
    Warn,
    /// Go on. The summary has it on record.
    Continue,
    Fail,
}

/// [`super::event::SnapshotOpened`] before it has its number.
#[derive(Debug, Clone)]
pub struct OpenedSnapshot {
    pub id: String,
    pub lsn: String,
    pub visible: String,
    pub server: String,
    pub standby: bool,
}

/// A failed attempt, and what the caller's tuning says about trying again.
#[derive(Debug, Clone)]
pub struct Failure {
    pub slice: SliceNo,
    pub attempt: Attempt,
    pub kind: ErrorKind,
    pub message: String,
    pub max_retries: u32,
    pub backoff_ms: u64,
    /// Uniform in 0..1, for full jitter.
    pub dice: f64,
}

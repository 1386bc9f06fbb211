//! From where a run stands to what is left to do.

use super::ids::SliceNo;
use super::state::{Life, RunState, SliceStatus, Stage};

/// What is left to do. The engine performs it, journals the receipts, and asks again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// No invocation is at work: start one, or leave the run alone.
    Begin,
    /// Look at the files of slices whose worker died: adopt them or release the slice.
    Settle(Vec<SliceNo>),
    OpenSnapshot,
    ResolveSchema,
    ChooseSplit,
    /// Slices that wait for a worker, and how many are with one.
    Read {
        pending: Vec<SliceNo>,
        running: usize,
    },
    /// Nothing to deliver, and the configuration wants no files then.
    Skip,
    WriteManifest,
    Publish,
    Validate,
    /// Everything is done; record the outcome.
    Finish,
    /// The run is closed.
    Done,
}

/// The first thing that is left to do, in the order that makes every later one safe: parts, manifest, `_SUCCESS`.
pub fn next(state: &RunState) -> Step {
    match state.life {
        Life::None | Life::Planned | Life::Ended(_) => return Step::Begin,
        Life::Closed(_) | Life::Abandoned => return Step::Done,
        Life::Live => {}
    }
    let orphaned: Vec<SliceNo> = state.slices_in(|status| matches!(status, SliceStatus::Orphaned(_))).collect();
    if !orphaned.is_empty() {
        return Step::Settle(orphaned);
    }
    if !state.is_read() {
        return next_to_read(state);
    }
    match state.stage {
        Stage::Reading if state.planned.skip_empty && state.rows() == 0 => Step::Skip,
        Stage::Reading => Step::WriteManifest,
        Stage::Manifested => Step::Publish,
        Stage::Published if state.planned.validate && state.validated.is_none() => Step::Validate,
        Stage::Published => Step::Finish,
    }
}

fn next_to_read(state: &RunState) -> Step {
    if state.snapshot.is_none() {
        return Step::OpenSnapshot;
    }
    if !state.schema_is_fresh {
        return Step::ResolveSchema;
    }
    if !state.is_planned {
        return Step::ChooseSplit;
    }
    let running = state.slices_in(|status| matches!(status, SliceStatus::Running(_))).count();
    Step::Read { pending: state.slices_in(|status| status == SliceStatus::Pending).collect(), running }
}

//! The manifest as a function of a run's folds.

use super::model::{
    Consistency, JournalHead, Manifest, ManifestDestination, ManifestSnapshot, ManifestSource, VERSION,
};
use crate::error::{Error, ErrorKind, Result};
use crate::run::{RunState, RunSummary};
use crate::time::rfc3339;
use std::collections::HashMap;

/// Builds the manifest of a run that is read to its end. The same folds always give the same manifest, which is how a
/// replay proves that the one on disk came from this journal.
///
/// # Errors
/// [`ErrorKind::RunInvariant`] when the summary contradicts itself: then there must be no manifest.
pub fn of_run(state: &RunState, summary: &RunSummary) -> Result<Manifest> {
    let mut expected = summary.clone();
    "success".clone_into(&mut expected.status);
    expected.check_post_run_invariants().map_err(|violated| Error::new(ErrorKind::RunInvariant, violated))?;

    let planned = &state.planned;
    let mut parts = summary.manifest_parts.clone();
    let order: HashMap<&str, usize> = state.parts().enumerate().map(|(i, part)| (part.path.as_str(), i)).collect();
    parts.sort_by_key(|part| order.get(part.path.as_str()).copied());
    let read = summary.journal.snapshots_read();
    let snapshots = state.snapshots.iter().filter(|opened| read.contains(&opened.snapshot.0));
    let snapshots = snapshots.map(|opened| ManifestSnapshot {
        snapshot: opened.snapshot.0,
        id: opened.id.clone(),
        lsn: opened.lsn.clone(),
        visible: opened.visible.clone(),
    });
    let schema = state.schema.clone().ok_or_else(|| Error::new(ErrorKind::Internal, "a manifest without a schema"))?;
    let journal = &summary.journal;
    let named = state.relation.as_ref().and_then(|resolved| resolved.named.as_ref());
    Ok(Manifest {
        manifest_version: VERSION,
        run_id: planned.run_id.clone(),
        export: planned.export_name.clone(),
        started_at: rfc3339(journal.started_ms().unwrap_or_default()),
        finished_at: rfc3339(journal.ended_ms().unwrap_or_default()),
        status: "success".to_owned(),
        source: ManifestSource {
            engine: planned.engine.clone(),
            location: planned.source.clone(),
            relation: planned.relation.clone(),
            schema: named.map(|relation| relation.schema.clone()),
            table: named.map(|relation| relation.name.clone()),
            mode: planned.mode.clone(),
            cursor: None,
        },
        destination: ManifestDestination {
            kind: planned.destination.clone(),
            uri: format!("file://{}", planned.prefix),
        },
        format: planned.format.clone(),
        compression: planned.compression.clone(),
        schema_fingerprint: schema.fingerprint(),
        schema,
        special_values: journal.special_values(),
        row_count: state.rows(),
        part_count: parts.len() as u64,
        consistency: Consistency { kind: journal.consistency().to_owned(), snapshots: snapshots.collect() },
        journal: JournalHead { seq: journal.head_seq(), hash: journal.head_hash() },
        parts,
    })
}

//! [`RunSummary`]: the record every run ends with. A fold of its events, and never anything else.
//!
//! The live run, `rivet resume` and `rivet replay` all call [`RunSummary::apply`]; what one prints, the others print.

use super::event::{Event, Outcome, Recorded};
use super::ids::FileNo;
use super::journal::RunJournal;
use super::part::ManifestPart;
use serde::Serialize;

/// Result of the manifest-aware validation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ManifestVerification {
    pub passed: bool,
    /// `size` or `full`.
    pub depth: String,
    pub parts_checked: u32,
    pub findings: Vec<String>,
}

/// How a sealed plan was applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ApplyContext {
    pub plan_id: String,
    pub forced: bool,
    /// Checks that `--force` bypassed.
    pub bypassed: Vec<String>,
}

/// Twenty-nine fields; names and types are a contract, and `--json` prints exactly these.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunSummary {
    /// Identity of the run: `<export>-<ULID>`.
    pub run_id: String,
    pub export_name: String,
    /// `running`, then `success`, `failed`, `skipped` or `interrupted`.
    pub status: String,
    /// Rows delivered.
    pub total_rows: i64,
    /// Files this run produced.
    pub files_produced: usize,
    /// Encoded bytes at the destination.
    pub bytes_written: u64,
    /// Goes up after each successful write to the destination. Non-zero means that data is out there already.
    pub files_committed: usize,
    /// Monotonic, summed over the invocations that worked on the run.
    pub duration_ms: i64,
    /// Highest resident memory of any invocation.
    pub peak_rss_mb: i64,
    /// Retried attempts.
    pub retries: u32,
    /// Verdict of `--validate`; `None` = not asked.
    pub validated: Option<bool>,
    /// Against the previous run of the export; `None` = nothing to compare with.
    pub schema_changed: Option<bool>,
    /// Verdict of the export's quality rules; `None` = none configured.
    pub quality_passed: Option<bool>,
    /// Why it failed, secrets redacted.
    pub error_message: Option<String>,
    pub tuning_profile: String,
    /// Configured rows per batch, before any memory-derived override.
    pub batch_size: usize,
    /// When set, the real batch size is derived from the schema's row width.
    pub batch_size_memory_mb: Option<usize>,
    pub format: String,
    pub mode: String,
    pub compression: String,
    /// Growth of `pg_stat_database.temp_bytes` around the run; `None` where the probe failed.
    pub pg_temp_bytes_delta: Option<i64>,
    /// Only with `status = skipped`.
    pub skip_reason: Option<String>,
    /// The source's own count, for reconciliation; `None` = not requested.
    pub source_count: Option<i64>,
    /// Verdict of the reconciliation; `None` = skipped.
    pub reconciled: Option<bool>,
    /// Committed parts in commit order; they become the manifest.
    pub manifest_parts: Vec<ManifestPart>,
    /// `xxh3:<16 hex>` of the destination-facing columns.
    pub schema_fingerprint: Option<String>,
    pub manifest_verification: Option<ManifestVerification>,
    /// `None` when the run did not come from `rivet apply`.
    pub apply_context: Option<ApplyContext>,
    /// The structured event log of this run.
    pub journal: RunJournal,
}

impl Default for RunSummary {
    fn default() -> Self {
        RunSummary {
            run_id: String::new(),
            export_name: String::new(),
            status: "running".to_owned(),
            total_rows: 0,
            files_produced: 0,
            bytes_written: 0,
            files_committed: 0,
            duration_ms: 0,
            peak_rss_mb: 0,
            retries: 0,
            validated: None,
            schema_changed: None,
            quality_passed: None,
            error_message: None,
            tuning_profile: String::new(),
            batch_size: 0,
            batch_size_memory_mb: None,
            format: String::new(),
            mode: String::new(),
            compression: String::new(),
            pg_temp_bytes_delta: None,
            skip_reason: None,
            source_count: None,
            reconciled: None,
            manifest_parts: Vec::new(),
            schema_fingerprint: None,
            manifest_verification: None,
            apply_context: None,
            journal: RunJournal::default(),
        }
    }
}

impl RunSummary {
    /// Folds a run's events from the beginning.
    pub fn from_events<'a>(events: impl IntoIterator<Item = &'a Recorded>) -> RunSummary {
        let mut summary = RunSummary::default();
        for recorded in events {
            summary.apply(recorded);
        }
        summary
    }

    /// Takes one event in. Total: whether an event may follow is [`super::state::RunState::apply`]'s question.
    pub fn apply(&mut self, recorded: &Recorded) {
        self.journal.apply(recorded);
        self.duration_ms = self.journal.duration_ms();
        match &recorded.event {
            Event::RunPlanned(planned) => {
                self.run_id.clone_from(&planned.run_id);
                self.export_name.clone_from(&planned.export_name);
                self.tuning_profile.clone_from(&planned.tuning_profile);
                self.batch_size = planned.batch_size as usize;
                self.batch_size_memory_mb = planned.batch_size_memory_mb.map(|mb| mb as usize);
                self.format.clone_from(&planned.format);
                self.mode.clone_from(&planned.mode);
                self.compression.clone_from(&planned.compression);
            }
            Event::InvocationStarted(_) => {
                self.status = "running".to_owned();
                self.error_message = None;
                self.skip_reason = None;
                self.validated = None;
                self.manifest_verification = None;
            }
            Event::SchemaResolved(resolved) => {
                // All slices share one schema: the first reading stands.
                self.schema_fingerprint.get_or_insert_with(|| resolved.fingerprint.to_string());
                self.schema_changed = self.schema_changed.or(resolved.changed);
            }
            Event::PartCommitted(receipt) => self.commit(receipt.slice.0, receipt.file, &receipt.path),
            Event::PartSuperseded(superseded) => self.withdraw(&superseded.path),
            Event::PartQuarantined(quarantined) => self.withdraw(&quarantined.path),
            Event::RetryScheduled(_) => self.retries += 1,
            Event::SliceCompleted(completed) => {
                self.peak_rss_mb = self.peak_rss_mb.max(i64::from(completed.rss_mb));
            }
            Event::Validated(validated) => {
                self.validated = Some(validated.passed);
                self.manifest_verification = Some(ManifestVerification {
                    passed: validated.passed,
                    depth: validated.depth.clone(),
                    parts_checked: validated.parts_checked,
                    findings: validated.findings.clone(),
                });
            }
            Event::RunFinished(finished) => {
                self.status = match finished.outcome {
                    Outcome::Success => "success",
                    Outcome::Failed => "failed",
                    Outcome::Skipped => "skipped",
                    Outcome::Interrupted => "interrupted",
                }
                .to_owned();
                self.error_message.clone_from(&finished.message);
                self.skip_reason.clone_from(&finished.skip_reason);
                self.peak_rss_mb = self.peak_rss_mb.max(i64::from(finished.peak_rss_mb));
                self.pg_temp_bytes_delta = match (self.pg_temp_bytes_delta, finished.pg_temp_bytes_delta) {
                    (Some(earlier), Some(now)) => Some(earlier.saturating_add(now)),
                    (earlier, now) => now.or(earlier),
                };
            }
            Event::RunAbandoned(abandoned) => {
                self.status = "failed".to_owned();
                self.error_message = Some(format!("abandoned: {}", abandoned.reason));
            }
            _ => {}
        }
    }

    fn commit(&mut self, slice: u32, file: FileNo, path: &str) {
        let Some(sealed) = self.journal.sealed(slice, file) else { return };
        let (split, bounds) = (self.journal.planned().split.as_ref(), self.journal.bounds(slice));
        let part =
            ManifestPart { path: path.to_owned(), ..ManifestPart::of(&sealed.facts, &sealed.checksums, split, bounds) };
        self.total_rows = self.total_rows.saturating_add(signed(part.rows));
        self.bytes_written = self.bytes_written.saturating_add(part.size_bytes);
        self.files_committed += 1;
        self.files_produced += 1;
        self.manifest_parts.push(part);
    }

    fn withdraw(&mut self, path: &str) {
        if let Some(at) = self.manifest_parts.iter().position(|part| part.path == path) {
            let part = self.manifest_parts.remove(at);
            self.total_rows = self.total_rows.saturating_sub(signed(part.rows));
            self.bytes_written = self.bytes_written.saturating_sub(part.size_bytes);
            self.files_committed -= 1;
            self.files_produced -= 1;
        }
    }

    /// Checks what must hold at a run's end, in release builds too.
    ///
    /// # Errors
    /// The first invariant that is violated, and by how much.
    pub fn check_post_run_invariants(&self) -> Result<(), String> {
        let parts_rows: i128 = self.manifest_parts.iter().map(|part| i128::from(part.rows)).sum();
        let parts_bytes: i128 = self.manifest_parts.iter().map(|part| i128::from(part.size_bytes)).sum();
        let parts = self.manifest_parts.len();
        let resumed = self.journal.invocations() > 1;
        let bounded = |name: &str, counted: i128, listed: i128| {
            let holds = if resumed { counted <= listed } else { counted == listed };
            if holds {
                Ok(())
            } else {
                let relation = if resumed { "at most" } else { "exactly" };
                let off = (counted - listed).abs();
                Err(format!("{name} is {counted}, must be {relation} {listed} (the parts): off by {off}"))
            }
        };
        bounded("total_rows", i128::from(self.total_rows), parts_rows)?;
        bounded("bytes_written", i128::from(self.bytes_written), parts_bytes)?;
        bounded("files_committed", self.files_committed as i128, parts as i128)?;
        bounded("files_produced", self.files_produced as i128, parts as i128)?;
        let mut paths: Vec<&str> = self.manifest_parts.iter().map(|part| part.path.as_str()).collect();
        paths.sort_unstable();
        if let Some([twice, _]) = paths.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(format!("manifest_parts lists {twice} twice"));
        }
        let consistent = [
            ("a known status", matches!(self.status.as_str(), "success" | "failed" | "skipped" | "interrupted")),
            ("an error_message with status failed", self.status != "failed" || self.error_message.is_some()),
            ("no error_message with status success", self.status != "success" || self.error_message.is_none()),
            ("a skip_reason exactly with status skipped", (self.status == "skipped") == self.skip_reason.is_some()),
            (
                "no rows and no files with status skipped",
                self.status != "skipped" || (self.total_rows, parts) == (0, 0),
            ),
            ("a schema_fingerprint with status success", self.status != "success" || self.schema_fingerprint.is_some()),
            (
                "validated together with manifest_verification",
                self.validated == self.manifest_verification.as_ref().map(|v| v.passed),
            ),
            ("no negative duration", self.duration_ms >= 0),
        ];
        match consistent.iter().find(|(_, holds)| !holds) {
            Some((what, _)) => Err(format!("there must be {what} (status {:?}, {} parts)", self.status, parts)),
            None => Ok(()),
        }
    }
}

/// A count that no table reaches stays a count.
fn signed(rows: u64) -> i64 {
    i64::try_from(rows).unwrap_or(i64::MAX)
}

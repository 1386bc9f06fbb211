//! Looking at what the exports of a configuration would be, without running any: the server is asked, the destination is
//! looked at, no row is read, and nothing is written.

use super::clock;
use super::context::in_time;
use crate::config::{Config, ExportConfig, resolve_destination};
use crate::destination::local;
use crate::error::{Error, ErrorKind, Result};
use crate::source::postgres::catalog::{self, Described};
use crate::source::postgres::fidelity::{self, BY_PROBE, ColumnReport, Fidelity};
use crate::source::postgres::probe;
use crate::source::postgres::session::{Session, SessionSettings};
use crate::{config::model::Tuning, run::ids::Fingerprint};
use serde::Serialize;
use tokio::runtime::Runtime;

/// What is known of an export before it runs.
#[derive(Debug, Clone, Serialize)]
pub struct CheckedExport {
    pub export: String,
    /// `schema.table`, or the words `query`.
    pub relation: String,
    pub columns: Vec<ColumnReport>,
    /// `None` where a column's type is found in the values, which only a run reads.
    pub schema_fingerprint: Option<Fingerprint>,
    /// As the server's planner expects.
    pub rows_expected: u64,
    /// The directory under which a run would deliver.
    pub destination: String,
}

impl CheckedExport {
    pub fn lossy(&self) -> impl Iterator<Item = &ColumnReport> {
        self.columns.iter().filter(|column| column.fidelity == Fidelity::Lossy)
    }

    /// # Errors
    /// `TypesLossy`, with the names of the columns whose values lose something on the way.
    pub fn refuse_lossy(&self) -> Result<()> {
        let lossy: Vec<String> = self.lossy().map(|column| format!("{:?}", column.name)).collect();
        if lossy.is_empty() {
            return Ok(());
        }
        let (noun, verb) = if lossy.len() == 1 { ("column", "loses") } else { ("columns", "lose") };
        let what = format!("export \"{}\": {noun} {} {verb} a part of some values", self.export, lossy.join(", "));
        Err(Error::new(ErrorKind::TypesLossy, what))
    }
}

/// One export: what was found out, and what stands in the way.
#[derive(Debug)]
pub struct CheckReport {
    pub checked: Option<CheckedExport>,
    pub errors: Vec<Error>,
}

/// Looks at every export of `config`, in its order, over one session.
///
/// # Errors
/// There is no session to be had.
pub fn check(runtime: &Runtime, config: &Config) -> Result<Vec<CheckReport>> {
    let Some(first) = config.exports.first() else { return Ok(vec![]) };
    let session = runtime.block_on(Session::connect(&config.source, &settings(&first.tuning)))?;
    Ok(config.exports.iter().map(|export| check_export(runtime, &session, export)).collect())
}

fn settings(tuning: &Tuning) -> SessionSettings {
    SessionSettings {
        statement_timeout: tuning.statement_timeout,
        lock_timeout: tuning.lock_timeout,
        stall_timeout: tuning.stall_timeout,
    }
}

fn check_export(runtime: &Runtime, session: &Session, export: &ExportConfig) -> CheckReport {
    let place = |error: Error| error.at(format_args!("export \"{}\"", export.name));
    let asked = runtime.block_on(in_time(export.tuning.stall_timeout, ask(session, export)));
    let usable = look_at_destination(export);
    let mut errors = vec![];
    let checked = match asked {
        Ok((described, rows_expected)) => {
            let destination = usable.as_ref().map_or_else(|_| destination(export), Clone::clone);
            Some(report(export, &described, rows_expected, destination))
        }
        Err(error) => {
            errors.push(place(error));
            None
        }
    };
    errors.extend(usable.err().map(place));
    CheckReport { checked, errors }
}

async fn ask(session: &Session, export: &ExportConfig) -> Result<(Described, u64)> {
    let described = catalog::describe(session.client(), &export.selection, &export.columns, export.types).await?;
    let rows = probe::expected_rows(session.client(), &described).await?;
    Ok((described, rows))
}

fn report(export: &ExportConfig, described: &Described, rows_expected: u64, destination: String) -> CheckedExport {
    let column = |source: &catalog::SourceColumn| {
        fidelity::report(source, export.columns.get(&source.column.name), export.types)
    };
    let columns: Vec<ColumnReport> = described.columns.iter().map(column).collect();
    let is_known = columns.iter().all(|column| column.target != BY_PROBE);
    let relation = match &described.relation {
        Some(relation) => format!("{}.{}", relation.schema, relation.name),
        None => "query".to_owned(),
    };
    CheckedExport {
        export: export.name.clone(),
        relation,
        columns,
        schema_fingerprint: is_known.then(|| described.schema().fingerprint()),
        rows_expected,
        destination,
    }
}

/// A run's identifier as it could be, for a directory that is named after it.
fn run_id(export: &ExportConfig) -> String {
    format!("{}-{}", export.name, ulid::Ulid::nil())
}

fn today() -> String {
    crate::time::rfc3339(clock::wall_ms()).chars().take("2026-01-31".len()).collect()
}

fn destination(export: &ExportConfig) -> String {
    resolve_destination(export, "{run_id}", &today()).0.display().to_string()
}

fn look_at_destination(export: &ExportConfig) -> Result<String> {
    let run_id = run_id(export);
    let (root, prefix) = resolve_destination(export, &run_id, &today());
    local::look_whether_usable(&root, &prefix, &run_id)?;
    Ok(destination(export))
}

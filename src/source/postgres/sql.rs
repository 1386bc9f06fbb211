//! SQL text: quoting, the predicate of a slice, and the COPY statement that reads it.

use super::catalog::{Described, SourceColumn};
use crate::error::{Error, ErrorKind, Result};
use crate::run::plan::{Bounds, KeyColumn, Split};

/// A quoted identifier, whatever is in the name.
pub fn ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A string literal. It means the same under either setting of `standard_conforming_strings`.
pub fn literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if quoted.contains('\\') { format!("E'{}'", quoted.replace('\\', "\\\\")) } else { format!("'{quoted}'") }
}

/// The statement that reads one slice, in the column order of the schema.
///
/// A table is named without ONLY: rows of inheritance children and partitions belong to it as SELECT sees them.
///
/// # Errors
/// `Internal` when bounds and split do not belong together, `SourceMissing` when a key column is not in the schema.
pub fn copy_statement(described: &Described, split: &Split, bounds: &Bounds) -> Result<String> {
    let predicate = predicate(described, split, bounds)?;
    let filter = if predicate.is_empty() { String::new() } else { format!(" WHERE {predicate}") };
    Ok(format!("COPY ({}{filter}) TO STDOUT (FORMAT binary)", select(described)))
}

/// Every row, in the column order of the schema.
pub fn select(described: &Described) -> String {
    let columns: Vec<String> = described.columns.iter().map(projection).collect();
    format!("SELECT {} FROM {}", columns.join(", "), described.from)
}

/// Settings of the transaction that reads a slice, to be executed before its COPY.
///
/// The ranges of a split add up to the whole relation, and the planner prices each alone: without these it reads the
/// whole heap and filters, once for each slice.
pub fn slice_settings(split: &Split) -> &'static str {
    match split {
        // The relation is a query or a view, or has no index on the key: its plan is the server's business.
        Split::Key { evidence, .. } if evidence == super::split::EVIDENCE_SCAN => "",
        Split::Key { .. } | Split::Pages { .. } => "SET LOCAL enable_seqscan = off",
        Split::Whole => "",
    }
}

/// The condition that holds for exactly the rows of a slice; empty for all rows.
///
/// # Errors
/// As [`copy_statement`].
pub fn predicate(described: &Described, split: &Split, bounds: &Bounds) -> Result<String> {
    match (split, bounds) {
        (Split::Whole, Bounds::Whole) => Ok(String::new()),
        (Split::Pages { .. }, Bounds::Pages { first, end }) => Ok(pages(*first, *end)),
        (Split::Key { columns, .. }, Bounds::NullKey) => {
            let tests: Vec<String> = columns.iter().map(|key| format!("{} IS NULL", ident(&key.name))).collect();
            Ok(format!("({})", tests.join(" OR ")))
        }
        (Split::Key { columns, .. }, Bounds::Range { lower, upper }) => {
            range(described, columns, lower.as_deref(), upper.as_deref())
        }
        _ => {
            Err(Error::new(ErrorKind::Internal, format!("bounds {bounds:?} do not belong to a {} split", split.name())))
        }
    }
}

fn projection(source: &SourceColumn) -> String {
    source.mapping.select.sql(&ident(&source.column.name))
}

fn pages(first: u32, end: Option<u32>) -> String {
    let lower = format!("ctid >= '({first},0)'::tid");
    match end {
        Some(end) => format!("{lower} AND ctid < '({end},0)'::tid"),
        None => lower,
    }
}

fn range(
    described: &Described,
    key: &[KeyColumn],
    lower: Option<&[String]>,
    upper: Option<&[String]>,
) -> Result<String> {
    if key.is_empty() {
        return Err(Error::new(ErrorKind::Internal, "a key split without a key column"));
    }
    let mut terms = Vec::new();
    for (bound, leading, full) in [(lower, ">=", ">="), (upper, "<=", "<")] {
        let Some(values) = bound else { continue };
        if values.len() != key.len() {
            let what = format!("a boundary of {} values for a key of {} columns", values.len(), key.len());
            return Err(Error::new(ErrorKind::Internal, what));
        }
        terms.extend(compared(key, values, leading, full));
    }
    // A comparison with NULL is not true, so one column excludes its own NULLs as soon as there is a bound. A row
    // comparison is decided by the first columns that differ and would let a NULL behind them pass.
    for column in key {
        let guarded = key.len() == 1 && !terms.is_empty();
        if described.column(&column.name)?.column.nullable && !guarded {
            terms.push(format!("{} IS NOT NULL", ident(&column.name)));
        }
    }
    Ok(terms.join(" AND "))
}

/// `key full bound`. A composite key is bounded by its leading column as well: the index is entered there, and the
/// cheap comparison of one column settles most rows.
fn compared(key: &[KeyColumn], values: &[String], leading: &str, full: &str) -> Vec<String> {
    let names: Vec<String> = key.iter().map(|column| ident(&column.name)).collect();
    let constants: Vec<String> =
        key.iter().zip(values).map(|(column, value)| format!("{}::{}", literal(value), column.type_name)).collect();
    match (&names[..], &constants[..]) {
        ([name], [constant]) => vec![format!("{name} {full} {constant}")],
        _ => vec![
            format!("{} {leading} {}", names[0], constants[0]),
            format!("({}) {full} ({})", names.join(", "), constants.join(", ")),
        ],
    }
}

//! `types.numeric: probe`: the decimal that holds the values of a bare numeric is found in the values.
//!
//! What is measured, in the snapshot in which the rows are read afterwards, are the digits before the point of the largest
//! value and the largest display scale. NaN and infinities have neither; they are special values of the decimal then.

use super::catalog::{Described, SourceColumn, failed};
use super::fidelity::is_probed;
use super::sql::ident;
use super::types::Wire;
use crate::config::model::TypePolicies;
use crate::error::{Error, ErrorKind, Result};
use crate::run::schema::{ColumnType, Schema};
use std::collections::BTreeMap;
use tokio_postgres::{Client, SimpleQueryMessage};

/// The most digits that a decimal column has.
const MOST_DIGITS: u32 = 76;

/// How wide the values of a column are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Width {
    /// Digits before the point of the largest value; none below 1.
    pub integral: u32,
    /// Digits after the point.
    pub scale: u32,
}

impl Width {
    /// The narrowest decimal that holds such values, `decimal(1,0)` where there are none; `None` beyond 76 digits.
    pub fn decimal(self) -> Option<ColumnType> {
        let precision = self.integral.checked_add(self.scale).filter(|digits| *digits <= MOST_DIGITS)?.max(1);
        Some(ColumnType::Decimal { precision: u8::try_from(precision).ok()?, scale: u8::try_from(self.scale).ok()? })
    }

    fn fits(self, column_type: &ColumnType) -> bool {
        match column_type {
            ColumnType::Decimal { precision, scale } => {
                self.integral <= u32::from(precision - scale) && self.scale <= u32::from(*scale)
            }
            other => *other == ColumnType::Text,
        }
    }
}

/// The columns that are to be measured, by their indexes.
pub fn columns(described: &Described, overrides: &BTreeMap<String, ColumnType>, policies: TypePolicies) -> Vec<usize> {
    let probed = |source: &SourceColumn| is_probed(source, overrides.get(&source.column.name), policies);
    (0..described.columns.len()).filter(|&i| probed(&described.columns[i])).collect()
}

/// Measures columns in one statement over all rows. To be called in the transaction that holds the snapshot.
///
/// # Errors
/// Whatever the server says.
pub async fn measure(client: &Client, described: &Described, columns: &[usize]) -> Result<Vec<Width>> {
    let context = described.selection.label();
    let each = columns.iter().filter_map(|&i| described.columns.get(i)).map(|source| {
        let name = ident(&source.column.name);
        // NaN and the infinities have no scale.
        format!(
            "pg_catalog.max(pg_catalog.trunc(pg_catalog.abs({name}))) FILTER (WHERE pg_catalog.scale({name}) IS NOT NULL), \
             pg_catalog.max(pg_catalog.scale({name}))::pg_catalog.numeric"
        )
    });
    // In an array, because a statement has fewer result columns than these would be.
    let list: Vec<String> = each.collect();
    let sql = format!("SELECT ARRAY[{}]::pg_catalog.text[] FROM {}", list.join(", "), described.from);
    let rows = client.query_typed(&sql, &[]).await.map_err(|error| failed(error, &context))?;
    let odd = || Error::new(ErrorKind::SourceProtocol, format!("{context}: the server measured something else"));
    let measured: Vec<Option<String>> =
        rows.first().ok_or_else(odd)?.try_get(0).map_err(|error| failed(error, &context))?;
    if measured.len() != 2 * columns.len() {
        return Err(odd());
    }
    let width = |pair: &[Option<String>]| {
        let digits = pair[0].as_deref().unwrap_or("0");
        let integral = if digits == "0" { 0 } else { digits.len() as u32 };
        let scale = pair[1].as_deref().unwrap_or("0").parse().map_err(|_| odd())?;
        Ok(Width { integral, scale })
    };
    measured.chunks_exact(2).map(width).collect()
}

/// Decides on the types of the measured columns, and says what a person should know of it.
///
/// A run that has begun keeps the types that it began with, as long as they hold what there is now: less does no harm.
///
/// # Errors
/// `SchemaDrift` when they do not.
pub fn decide(
    described: &mut Described,
    columns: &[usize],
    widths: &[Width],
    begun: Option<&Schema>,
) -> Result<Vec<String>> {
    let mut warnings = vec![];
    for (&i, width) in columns.iter().zip(widths) {
        let SourceColumn { column, mapping, .. } = &mut described.columns[i];
        let begun = begun.and_then(|schema| schema.columns.iter().find(|known| known.name == column.name));
        let decided = match begun {
            Some(known) if width.fits(&known.column_type) => known.column_type.clone(),
            Some(known) if matches!(known.column_type, ColumnType::Decimal { .. }) => {
                return Err(wider(&column.name, &known.column_type, *width));
            }
            _ => width.decimal().unwrap_or(ColumnType::Text),
        };
        if decided == ColumnType::Text {
            let Width { integral, scale } = width;
            warnings.push(format!(
                "column {:?} is delivered as text: its numbers have up to {integral} digits before the point and {scale} \
                 after it, and a decimal has {MOST_DIGITS} in all",
                column.name
            ));
        } else {
            mapping.wire = Wire::Numeric;
        }
        mapping.column_type = decided.clone();
        column.column_type = decided;
    }
    Ok(warnings)
}

fn wider(name: &str, began: &ColumnType, width: Width) -> Error {
    let Width { integral, scale } = width;
    let what = format!(
        "column {name:?} began as {began}, which `types.numeric: probe` found in the run's first snapshot; the present one \
         has numbers of up to {integral} digits before the point and {scale} after it"
    );
    Error::new(ErrorKind::SchemaDrift, what).with_hint(format!(
        "Start anew with `rivet run --fresh`; `columns: {{{name}: decimal(p,s)}}` with room to spare, or \
         `types: {{numeric: string}}`, does not depend on the values."
    ))
}

/// How many rows the planner expects. Nothing is read.
///
/// # Errors
/// Whatever the server says.
pub async fn expected_rows(client: &Client, described: &Described) -> Result<u64> {
    let context = described.selection.label();
    let sql = format!("EXPLAIN (FORMAT JSON) SELECT * FROM {}", described.from);
    let messages = client.simple_query(&sql).await.map_err(|error| failed(error, &context))?;
    let explained = messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    let plan = explained.and_then(|text| serde_json::from_str::<serde_json::Value>(text).ok());
    let rows = plan.and_then(|plan| plan.pointer("/0/Plan/Plan Rows").and_then(serde_json::Value::as_f64));
    let odd =
        || Error::new(ErrorKind::SourceProtocol, format!("{context}: the server's answer to EXPLAIN is incomplete"));
    // An empty table that was never analysed is taken for ten pages of rows.
    let empty = described.relation.as_ref().is_some_and(|relation| relation.has_pages() && relation.pages == 0);
    if empty { Ok(0) } else { rows.map(|rows| rows as u64).ok_or_else(odd) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decimal(precision: u8, scale: u8) -> ColumnType {
        ColumnType::Decimal { precision, scale }
    }

    #[test]
    fn the_decimal_is_the_narrowest_that_holds_what_was_measured() {
        let of = |integral, scale| Width { integral, scale }.decimal();
        assert_eq!(of(0, 0), Some(decimal(1, 0)));
        assert_eq!(of(0, 2), Some(decimal(2, 2)));
        assert_eq!(of(3, 0), Some(decimal(3, 0)));
        assert_eq!(of(40, 36), Some(decimal(76, 36)));
        assert_eq!(of(40, 37), None);
        assert_eq!(of(u32::MAX, 1), None);
    }

    #[test]
    fn a_type_fits_what_has_no_more_digits_on_either_side_of_the_point() {
        let width = Width { integral: 3, scale: 2 };
        assert!(width.fits(&decimal(5, 2)) && width.fits(&decimal(7, 3)) && width.fits(&ColumnType::Text));
        assert!(!width.fits(&decimal(5, 3)) && !width.fits(&decimal(9, 1)) && !width.fits(&ColumnType::Int64));
    }
}

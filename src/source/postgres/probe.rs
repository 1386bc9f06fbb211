//! `types.numeric: probe` and `types.arrays: probe`: what a column becomes is found in its values.
//!
//! What is measured, in the snapshot in which the rows are read afterwards, are of a bare numeric the digits before the point of
//! the largest value and the largest display scale, and of arrays the least and the largest number of dimensions. NaN and
//! infinities have no digits; they are special values of the decimal then. Empty arrays have no dimensions; every list holds them.

use super::catalog::{Described, SourceColumn, failed};
use super::fidelity::{Probed, probed};
use super::sql::ident;
use super::types::{MOST_DIMENSIONS, SourceType, Wire, as_text, map};
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

/// How many dimensions the arrays of a column have; `None` where all are empty or NULL.
pub type Dimensions = Option<(u8, u8)>;

/// What was measured of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measured {
    Number(Width),
    /// The least and the most.
    Array(Dimensions),
}

/// The columns that are to be measured, by their indexes.
pub fn columns(
    described: &Described,
    overrides: &BTreeMap<String, ColumnType>,
    policies: TypePolicies,
) -> Vec<(usize, Probed)> {
    let probed = |source: &SourceColumn| probed(source, overrides.get(&source.column.name), policies);
    described.columns.iter().enumerate().filter_map(|(i, source)| Some((i, probed(source)?))).collect()
}

/// Measures columns in one statement over all rows. To be called in the transaction that holds the snapshot.
///
/// # Errors
/// Whatever the server says.
pub async fn measure(client: &Client, described: &Described, columns: &[(usize, Probed)]) -> Result<Vec<Measured>> {
    let context = described.selection.label();
    let each = columns.iter().filter_map(|&(i, probed)| {
        let name = ident(&described.columns.get(i)?.column.name);
        Some(match probed {
            // NaN and the infinities have no scale.
            Probed::Number => format!(
                "pg_catalog.max(pg_catalog.trunc(pg_catalog.abs({name}))) FILTER (WHERE pg_catalog.scale({name}) IS NOT NULL), \
                 pg_catalog.max(pg_catalog.scale({name}))::pg_catalog.numeric"
            ),
            Probed::Array => format!(
                "pg_catalog.min(pg_catalog.array_ndims({name}))::pg_catalog.numeric, \
                 pg_catalog.max(pg_catalog.array_ndims({name}))::pg_catalog.numeric"
            ),
        })
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
    let read = |(pair, &(_, probed)): (&[Option<String>], &(usize, Probed))| match probed {
        Probed::Number => {
            let digits = pair[0].as_deref().unwrap_or("0");
            let integral = if digits == "0" { 0 } else { digits.len() as u32 };
            let scale = pair[1].as_deref().unwrap_or("0").parse().map_err(|_| odd())?;
            Ok(Measured::Number(Width { integral, scale }))
        }
        Probed::Array => {
            let [Some(least), Some(most)] = pair else { return Ok(Measured::Array(None)) };
            let bounds = least.parse().ok().zip(most.parse().ok());
            bounds.map(|bounds| Measured::Array(Some(bounds))).ok_or_else(odd)
        }
    };
    measured.chunks_exact(2).zip(columns).map(read).collect()
}

/// Decides on the types of the measured columns. Codes and messages of what a person should know of it.
///
/// A run that has begun keeps the types that it began with, as long as they hold what there is now: less does no harm.
///
/// # Errors
/// `SchemaDrift` when they do not.
pub fn decide(
    described: &mut Described,
    columns: &[(usize, Probed)],
    measured: &[Measured],
    begun: Option<&Schema>,
) -> Result<Vec<(&'static str, String)>> {
    let mut warnings = vec![];
    for (&(i, _), measured) in columns.iter().zip(measured) {
        let source = &mut described.columns[i];
        let begun = begun.and_then(|schema| schema.columns.iter().find(|known| known.name == source.column.name));
        let begun = begun.map(|known| &known.column_type);
        warnings.extend(match measured {
            Measured::Number(width) => decide_number(source, *width, begun)?,
            Measured::Array(dimensions) => decide_array(source, *dimensions, begun)?,
        });
    }
    Ok(warnings)
}

type Warning = Option<(&'static str, String)>;

fn decide_number(source: &mut SourceColumn, width: Width, begun: Option<&ColumnType>) -> Result<Warning> {
    let SourceColumn { column, mapping, .. } = source;
    let decided = match begun {
        Some(known) if width.fits(known) => known.clone(),
        Some(known @ ColumnType::Decimal { .. }) => return Err(wider(&column.name, known, width)),
        _ => width.decimal().unwrap_or(ColumnType::Text),
    };
    let mut warning = None;
    if decided == ColumnType::Text {
        let Width { integral, scale } = width;
        let message = format!(
            "column {:?} is delivered as text: its numbers have up to {integral} digits before the point and {scale} after it, \
             and a decimal has {MOST_DIGITS} in all",
            column.name
        );
        warning = Some(("numeric_too_wide", message));
    } else {
        mapping.wire = Wire::Numeric;
    }
    mapping.column_type = decided.clone();
    column.column_type = decided;
    Ok(warning)
}

fn decide_array(source: &mut SourceColumn, dimensions: Dimensions, begun: Option<&ColumnType>) -> Result<Warning> {
    let SourceColumn { column, mapping, source, .. } = source;
    let begun_with = begun.map(|known| dimensions_of(source, known));
    let mut warning = None;
    let decided = match (dimensions, begun_with) {
        (_, Some(None)) => None,
        (None, Some(Some(begun))) => Some(begun),
        (Some((least, most)), Some(Some(begun))) if least == begun && most == begun => Some(begun),
        (Some((least, most)), Some(Some(begun))) => {
            let what = format!(
                "column {:?} began as lists of {begun} dimensions, which `types.arrays: probe` found in the run's first \
                 snapshot; the present one has arrays of {least} to {most}",
                column.name
            );
            return Err(Error::new(ErrorKind::SchemaDrift, what).with_hint(
                "Start anew with `rivet run --fresh`; `types: {arrays: text}` does not depend on the values."
                    .to_owned(),
            ));
        }
        (None, None) => return Ok(None),
        (Some((least, most)), None) if least == most => Some(least),
        (Some((least, most)), None) => {
            let message = format!(
                "column {:?} is delivered as text: its arrays have from {least} to {most} dimensions, and lists all have as many",
                column.name
            );
            warning = Some(("arrays_differ", message));
            None
        }
    };
    *mapping = match decided {
        Some(dimensions) => map(source, dimensions, None)?,
        None => as_text(source),
    };
    column.column_type = mapping.column_type.clone();
    Ok(warning)
}

/// With how many dimensions an array is delivered as a column type; `None` for text.
fn dimensions_of(source: &SourceType, delivered: &ColumnType) -> Option<u8> {
    (1..=MOST_DIMENSIONS)
        .find(|&dimensions| map(source, dimensions, None).is_ok_and(|mapping| mapping.column_type == *delivered))
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

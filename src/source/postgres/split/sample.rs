//! Points of a key from a sample of blocks.
//!
//! Of some blocks, evenly spaced over the heap, every n-th line is read; the database sorts those rows, ranks them and
//! hands over a few points around each wished boundary. What is read is bounded in blocks, what is sorted in rows, and
//! what is sent in points, however large the table is.

use super::{EVIDENCE_SAMPLE, EVIDENCE_SCAN, MOST_BOUNDARY_BYTES, Point, Points, choose, key_column};
use crate::error::{Error, ErrorKind, Result};
use crate::source::postgres::catalog::{Described, SourceColumn, failed};
use crate::source::postgres::sql::ident;
use tokio_postgres::{Client, Row};

/// Blocks for each wished slice. Where the heap follows the key a slice is a run of blocks, and even spacing makes it
/// right to within one of them.
const BLOCKS_PER_SLICE: u64 = 16;
const LEAST_BLOCKS: u64 = 2_000;
const MOST_BLOCKS: u64 = 8_000;
/// Lines that a page of the usual 8 KiB can hold: `MaxHeapTuplesPerPage`.
const MOST_LINES: u64 = 291;
const MOST_ROWS: u64 = 30_000;
/// Points that are handed over for each wanted slice.
const POINTS_PER_SLICE: usize = 8;

/// Points of the whole key, or of its leading column where that divides as well.
///
/// # Errors
/// `ConfigInvalid` when the database has no order for the column, else whatever the server says.
pub async fn points(
    client: &Client,
    described: &Described,
    key: &[&SourceColumn],
    rows: u64,
    wanted: usize,
) -> Result<Points> {
    let from = From::of(described, rows, wanted);
    let sql = statement(&from, key, wanted);
    let rows = client.query_typed(&sql, &[]).await.map_err(|error| unordered(error, described, key))?;
    let drawn: Vec<Drawn> = rows.iter().map(|row| Drawn::of(row, key.len())).collect();
    let (evidence, null_share, correlation) =
        (from.evidence, drawn.first().map_or(0.0, Drawn::null_share), drawn.first().and_then(|one| one.correlation));
    let names: Vec<_> = key.iter().map(|column| key_column(column)).collect();
    let point =
        |values: &[String], below: i64, of: i64| Point { values: values.to_vec(), below: below as f64 / of as f64 };
    let full: Vec<Point> = drawn.iter().map(|one| point(&one.values, one.below, one.present)).collect();
    if key.len() > 1 && leading_is_enough(&drawn, &full, wanted) {
        let mut leading: Vec<Point> =
            drawn.iter().map(|one| point(&one.values[..1], one.below_leading, one.present)).collect();
        leading.dedup_by(|later, earlier| later.below == earlier.below);
        return Ok(Points { key: names[..1].to_vec(), points: leading, null_share, correlation, evidence });
    }
    Ok(Points { key: names, points: full, null_share, correlation, evidence })
}

/// What is read, and how much of it is kept.
struct From {
    sql: String,
    /// Every how many-th row is kept.
    step: u64,
    evidence: &'static str,
}

impl From {
    fn of(described: &Described, rows: u64, wanted: usize) -> From {
        let step = |rows: u64| rows.div_ceil(MOST_ROWS).max(1);
        let table = &described.from;
        let Some(relation) = described.relation.as_ref().filter(|relation| relation.has_pages()) else {
            return From { sql: table.clone(), step: step(rows), evidence: EVIDENCE_SCAN };
        };
        let (pages, blocks) = (relation.pages, (BLOCKS_PER_SLICE * wanted as u64).clamp(LEAST_BLOCKS, MOST_BLOCKS));
        if pages <= blocks {
            return From { sql: table.clone(), step: step(rows), evidence: EVIDENCE_SAMPLE };
        }
        let expected = (rows as f64 / pages as f64 * blocks as f64) as u64;
        if !relation.heap || relation.children > 0 {
            // Block numbers mean nothing across several heaps. The constant seed samples the same table the same way.
            let sql = format!("{table} TABLESAMPLE SYSTEM ({}) REPEATABLE (1)", blocks as f64 / pages as f64 * 100.0);
            return From { sql, step: step(expected), evidence: EVIDENCE_SAMPLE };
        }
        // Lines are thinned here and not later, so that few are fetched; beyond the expected number, because updates
        // push lines up. One that does not exist or is not visible is passed over. Full pages weigh more than empty ones.
        let lines = (3 * rows / pages + 16).min(MOST_LINES);
        let apart = step(expected);
        let sql = format!(
            "{table} WHERE ctid = ANY (ARRAY(
                 SELECT format('(%s,%s)', b * {pages} / {blocks}, line)::tid
                 FROM generate_series(0::int8, {blocks} - 1) b, generate_series(1 + b * 7 % {apart}, {lines}, {apart}) line))"
        );
        From { sql, step: 1, evidence: EVIDENCE_SAMPLE }
    }
}

/// Ranks, over the whole key and over its leading column, of the sampled rows without a NULL in the key; of each stretch
/// of equal size the first value.
///
/// `rank()` counts the rows strictly below a value and is equal for values that compare as equal, so that no two points
/// are the same boundary. Values that are too long are left out before the choice, not after it.
fn statement(from: &From, key: &[&SourceColumn], wanted: usize) -> String {
    let listed = |item: &dyn Fn(usize, &SourceColumn) -> String, separator: &str| {
        key.iter().enumerate().map(|(i, column)| item(i, column)).collect::<Vec<_>>().join(separator)
    };
    let selected = listed(&|i, column| format!("{} AS k{i}", ident(&column.column.name)), ", ");
    let names = listed(&|i, _| format!("k{i}"), ", ");
    let present = listed(&|i, _| format!("k{i} IS NOT NULL"), " AND ");
    let texts = listed(&|i, _| format!("k{i}::text"), ", ");
    let length = listed(&|i, _| format!("octet_length(k{i}::text)"), " + ");
    let stretches = POINTS_PER_SLICE * wanted;
    let (step, source) = (from.step, &from.sql);
    format!(
        "WITH sampled AS MATERIALIZED (
            SELECT * FROM (SELECT {selected}, row_number() OVER () AS place FROM {source}) s WHERE place % {step} = 0
        ), ranked AS MATERIALIZED (
            SELECT {names}, place, rank() OVER (ORDER BY {names}) - 1 AS below,
                   rank() OVER (ORDER BY k0) - 1 AS below_leading, count(*) OVER () AS present
            FROM sampled WHERE {present}
        )
        SELECT DISTINCT ON (below * {stretches} / present)
               below, below_leading, present, (SELECT count(*) FROM sampled), (SELECT corr(below, place) FROM ranked),
               {texts}
        FROM ranked WHERE {length} <= {MOST_BOUNDARY_BYTES}
        ORDER BY below * {stretches} / present, below"
    )
}

/// A sampled value.
struct Drawn {
    values: Vec<String>,
    /// Sampled rows strictly below, by the whole key and by its leading column.
    below: i64,
    below_leading: i64,
    /// Sampled rows without a NULL in the key, and all.
    present: i64,
    sampled: i64,
    correlation: Option<f64>,
}

impl Drawn {
    fn of(row: &Row, columns: usize) -> Drawn {
        Drawn {
            below: row.get(0),
            below_leading: row.get(1),
            present: row.get(2),
            sampled: row.get(3),
            correlation: row.get(4),
            values: (0..columns).map(|i| row.get(5 + i)).collect(),
        }
    }

    fn null_share(&self) -> f64 {
        (self.sampled - self.present) as f64 / self.sampled.max(1) as f64
    }
}

/// Whether the boundaries that would be chosen stay where they are, give or take an eighth of a slice, when only their
/// leading column is kept. One column is cheaper to compare than several, for every row that is read.
fn leading_is_enough(drawn: &[Drawn], full: &[Point], wanted: usize) -> bool {
    let below: Vec<f64> = full.iter().map(|point| point.below).collect();
    choose::cuts(&below, wanted).into_iter().all(|i| {
        let moved = (drawn[i].below - drawn[i].below_leading) as f64 / drawn[i].present as f64;
        moved * wanted as f64 <= 0.125
    })
}

fn unordered(error: tokio_postgres::Error, described: &Described, key: &[&SourceColumn]) -> Error {
    // 42883: no ordering operator for the type.
    if error.code().is_some_and(|code| code.code() == "42883") {
        let names: Vec<&str> = key.iter().map(|column| column.column.name.as_str()).collect();
        let types: Vec<&str> = key.iter().map(|column| column.column.source_type.as_str()).collect();
        let what = format!("chunk_column {:?} is of type {}, which has no order", names.join(", "), types.join(", "));
        return Error::new(ErrorKind::ConfigInvalid, what).with_source(error);
    }
    failed(error, &format!("sample of {}", described.selection.label()))
}

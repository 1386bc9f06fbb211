//! Points of a key from the statistics that ANALYZE left: free of charge, when they are fresh and fine enough.

use super::{EVIDENCE_HISTOGRAM, MOST_BOUNDARY_BYTES, Point, Points, choose, key_column};
use crate::error::Result;
use crate::source::postgres::catalog::{Relation, SourceColumn, failed};
use tokio_postgres::Client;
use tokio_postgres::types::Type;

/// Points that a histogram must offer for each wanted slice. With fewer, the rounding to whole buckets alone makes one
/// slice twice as large as another.
const POINTS_PER_SLICE: usize = 4;

/// Pages by which a table may have grown unnoticed.
const SLACK_PAGES: u64 = 16;

/// What is known about a column without reading it.
pub struct Stats {
    pub correlation: Option<f64>,
    null_share: f64,
    common: i32,
    buckets: i32,
    changed_rows: i64,
    present: bool,
}

/// # Errors
/// Whatever the server says.
pub async fn stats(client: &Client, relation: &Relation, column: &SourceColumn) -> Result<Stats> {
    let sql = "SELECT s.correlation::float8, s.null_frac::float8,
                      coalesce(array_length(s.most_common_vals, 1), 0), coalesce(array_length(s.histogram_bounds, 1), 0),
                      coalesce(pg_stat_get_mod_since_analyze($4), 0)
               FROM pg_catalog.pg_stats s
               WHERE s.schemaname = $1 AND s.tablename = $2 AND s.attname = $3 AND NOT s.inherited";
    let rows = client
        .query_typed(
            sql,
            &[
                (&relation.schema, Type::TEXT),
                (&relation.name, Type::TEXT),
                (&column.column.name, Type::TEXT),
                (&relation.oid, Type::OID),
            ],
        )
        .await
        .map_err(|error| failed(error, "statistics"))?;
    Ok(match rows.first() {
        Some(row) => Stats {
            correlation: row.get(0),
            null_share: row.get::<_, Option<f64>>(1).unwrap_or(0.0),
            common: row.get(2),
            buckets: row.get(3),
            changed_rows: row.get(4),
            present: true,
        },
        None => Stats { correlation: None, null_share: 0.0, common: 0, buckets: 0, changed_rows: 0, present: false },
    })
}

impl Stats {
    /// Whether the statistics are fine enough for `wanted` slices, and so fresh that what changed since is less than a
    /// quarter of a slice: rows that were added lie at the end of a growing key, all in one slice. Statistics of a tree
    /// of tables do not say how old they are; nothing but an ANALYZE of the parent renews them.
    fn serves(&self, relation: &Relation, wanted: usize) -> bool {
        let points = usize::try_from(self.common + self.buckets).unwrap_or(0);
        let part = 4 * wanted as u64;
        let grown = relation.pages.abs_diff(relation.relpages);
        self.present
            && relation.children == 0
            && points >= POINTS_PER_SLICE * wanted
            && relation.reltuples > 0.0
            && self.changed_rows as f64 <= relation.reltuples / part as f64
            && grown <= SLACK_PAGES.max(relation.relpages / part)
    }
}

/// Points of the leading column of a key, if the statistics serve and divide the rows well. `alone`: the key has no
/// second column by which a heavy value could be divided further.
///
/// # Errors
/// Whatever the server says.
pub async fn points(
    client: &Client,
    relation: &Relation,
    column: &SourceColumn,
    stats: &Stats,
    wanted: usize,
    alone: bool,
) -> Result<Option<Points>> {
    // An array of arrays has no text form that could be read back as one.
    if column.bound_is_array || !stats.serves(relation, wanted) {
        return Ok(None);
    }
    let collate = column.collation.as_ref().map_or_else(String::new, |name| format!("COLLATE {name}"));
    let array = format!("{}[]", column.bound_type);
    // The values are sorted and told apart here, under the column's own collation.
    let sql = format!(
        "WITH s AS (
            SELECT most_common_vals::text AS common, most_common_freqs AS freqs, histogram_bounds::text AS bounds
            FROM pg_catalog.pg_stats
            WHERE schemaname = $1 AND tablename = $2 AND attname = $3 AND NOT inherited
        ), points AS (
            SELECT m.value, m.share::float8, false AS bound
            FROM s, ROWS FROM (unnest(s.common::{array}), unnest(s.freqs)) AS m(value, share)
            UNION ALL
            SELECT h.value, 0, true FROM s, unnest(s.bounds::{array}) AS h(value)
        )
        SELECT p.value::text AS shown, p.share, p.bound, dense_rank() OVER (ORDER BY p.value {collate}),
               octet_length(p.value::text) <= {MOST_BOUNDARY_BYTES}
        FROM points p ORDER BY p.value {collate}, p.bound DESC"
    );
    let rows = client
        .query_typed(
            &sql,
            &[(&relation.schema, Type::TEXT), (&relation.name, Type::TEXT), (&column.column.name, Type::TEXT)],
        )
        .await
        .map_err(|error| failed(error, "statistics"))?;
    let entries: Vec<Entry> = rows
        .iter()
        .map(|row| Entry {
            value: row.get(0),
            share: row.get(1),
            bound: row.get(2),
            rank: row.get(3),
            short: row.get(4),
        })
        .collect();
    let points = weighed(&entries, 1.0 - stats.null_share);
    let below: Vec<f64> = points.iter().map(|point| point.below).collect();
    let largest = choose::shares(&below, &choose::cuts(&below, wanted)).into_iter().fold(0.0, f64::max);
    if !alone && largest * wanted as f64 > 1.5 {
        return Ok(None);
    }
    Ok(Some(Points {
        key: vec![key_column(column)],
        points,
        null_share: stats.null_share,
        correlation: stats.correlation,
        evidence: EVIDENCE_HISTOGRAM,
    }))
}

struct Entry {
    value: String,
    share: f64,
    bound: bool,
    rank: i64,
    short: bool,
}

/// Shares below each distinct value: buckets between bounds hold equal shares of what the common values leave over, and
/// a common value inside a bucket is taken to stand in its middle.
fn weighed(entries: &[Entry], present: f64) -> Vec<Point> {
    let common: f64 = entries.iter().map(|entry| entry.share).sum();
    let bounds = entries.iter().filter(|entry| entry.bound).count();
    let bucket = if bounds > 1 { (present - common).max(0.0) / (bounds - 1) as f64 } else { 0.0 };
    // Without a histogram the common values are all there are.
    let total = if bounds > 1 { present } else { common };
    let (mut passed, mut shares, mut last) = (0_usize, 0.0, None);
    let mut points: Vec<Point> = Vec::new();
    for entry in entries {
        let buckets = match entry.bound {
            true => passed as f64,
            false if passed == 0 => 0.0,
            false if passed >= bounds => (passed - 1) as f64,
            false => passed as f64 - 0.5,
        };
        let below = (buckets * bucket + shares) / total.max(f64::MIN_POSITIVE);
        if last != Some(entry.rank) && entry.short {
            let floor = points.last().map_or(0.0, |point| point.below);
            points.push(Point { values: vec![entry.value.clone()], below: below.clamp(floor, 1.0) });
        }
        last = Some(entry.rank);
        passed += usize::from(entry.bound);
        shares += entry.share;
    }
    points
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(value: &str, share: f64, bound: bool, rank: i64) -> Entry {
        Entry { value: value.into(), share, bound, rank, short: true }
    }

    #[test]
    fn a_common_value_weighs_what_the_statistics_say_and_buckets_share_the_rest() {
        let entries = [
            entry("0", 0.0, true, 1),
            entry("10", 0.0, true, 2),
            entry("15", 0.5, false, 3),
            entry("20", 0.0, true, 4),
            entry("30", 0.0, true, 5),
            entry("40", 0.0, true, 6),
        ];
        let below: Vec<f64> = weighed(&entries, 0.9).iter().map(|point| (point.below * 90.0).round()).collect();
        assert_eq!(below, [0.0, 10.0, 15.0, 70.0, 80.0, 90.0]);
    }

    #[test]
    fn without_a_histogram_the_common_values_are_everything() {
        let entries = [entry("a", 0.5, false, 1), entry("b", 0.25, false, 2), entry("c", 0.25, false, 3)];
        let below: Vec<f64> = weighed(&entries, 1.0).iter().map(|point| point.below).collect();
        assert_eq!(below, [0.0, 0.5, 0.75]);
    }
}

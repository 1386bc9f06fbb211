//! Dividing a relation into slices of about equal rows.
//!
//! | relation | slices |
//! |---|---|
//! | small, or nothing to be gained | one, whole |
//! | has a key and the heap follows it | ranges of the key |
//! | has no key, or is large and lies in another order | ranges of heap pages |
//! | view, query, foreign table | one, whole; ranges of a column when the configuration names one |
//!
//! Boundaries are chosen by weight ([`choose`]) among points that the server's statistics ([`histogram`]) or a block
//! sample ([`sample`]) offer. All sorting, ranking and telling apart of values happens in the database, by the comparison
//! that the slices will be read with. Estimates decide how equal slices are, never which rows they hold: the ranges of a
//! plan always join up from one open end to the other.

pub mod choose;
mod histogram;
mod ordering;
mod sample;

pub use ordering::ordering;

use super::catalog::{Described, Index, Relation, RelationKind, SourceColumn, failed};
use super::hold::{Held, Hold, held};
use super::sql::ident;
use crate::error::{Error, ErrorKind, Result};
use crate::run::ids::SliceNo;
use crate::run::plan::{Bounds, KeyColumn, KeyOrdering, SlicePlan, Split};
use tokio_postgres::Client;
use tokio_postgres::types::{ToSql, Type};

/// [`Split::Key`] evidence: the server's own statistics of the leading column.
pub const EVIDENCE_HISTOGRAM: &str = "histogram";
/// [`Split::Key`] evidence: some blocks of the relation.
pub const EVIDENCE_SAMPLE: &str = "sample";
/// [`Split::Key`] evidence: everything was read once, and will be once for each slice.
pub const EVIDENCE_SCAN: &str = "scan";

const MIB: u64 = 1 << 20;
/// Below this a table is one slice unless the configuration asks for more.
const SMALL_BYTES: u64 = 32 * MIB;
/// A table is not cut into pieces smaller than this only to keep workers busy.
const LEAST_SLICE_BYTES: u64 = 16 * MIB;
/// From here on reading the heap in another order than its own costs more than a key is worth.
const LARGE_BYTES: u64 = 256 * MIB;
/// How well the heap has to follow the key, from 0 to 1.
const LEAST_CORRELATION: f64 = 0.5;
/// A bound on the journal and on everything that is kept for each slice.
const MOST_SLICES: u64 = 16_384;
/// Longest text of a boundary, over all columns of the key: a slice names two, and an event has to fit in 4 KiB.
const MOST_BOUNDARY_BYTES: i32 = 512;
/// Names and types of a key's columns together, for the same reason.
const MOST_KEY_BYTES: usize = 3_000;
/// TID range scans came with PostgreSQL 14. Before, a page range would read the whole heap.
const PAGES_SINCE: u32 = 140_000;

/// What the configuration wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SplitRequest {
    /// Slices that will be read at once.
    pub parallel: usize,
    /// `chunk_count`
    pub slices: Option<u32>,
    /// `chunk_size`
    pub rows_per_slice: Option<u64>,
    /// `chunk_column`
    pub column: Option<String>,
    /// Bytes of the relation that a slice should hold, 128 to 256 MiB.
    pub target_bytes: u64,
    /// Rows that a slice should not exceed, where the configuration does not say how many slices it wants.
    pub most_rows: Option<u64>,
    /// Slices that the run's manifest has room for.
    pub most_slices: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedSplit {
    pub split: Split,
    /// Of the split's key columns, those with a collation.
    pub ordering: Vec<KeyOrdering>,
    /// Ranges in the key's order, then the rows with a NULL in it.
    pub slices: Vec<SlicePlan>,
    pub estimated_rows: u64,
    /// Why this split, in a sentence.
    pub reason: String,
    /// What was locked for it.
    pub hold: Hold,
}

/// A point of the key that could become a boundary.
#[derive(Debug, Clone, PartialEq)]
struct Point {
    /// The server's text, one for each column of the key.
    values: Vec<String>,
    /// Share of the rows without NULL in the key that lie strictly below.
    below: f64,
}

/// Points in rising order, and what was learned on the way.
#[derive(Debug)]
struct Points {
    key: Vec<KeyColumn>,
    points: Vec<Point>,
    /// Share of the rows with a NULL in the key.
    null_share: f64,
    /// How well the heap follows the key, where that is known.
    correlation: Option<f64>,
    evidence: &'static str,
}

impl Points {
    fn below(&self) -> Vec<f64> {
        self.points.iter().map(|point| point.below).collect()
    }

    fn cuts(&self, wanted: usize) -> Vec<usize> {
        choose::cuts(&self.below(), wanted)
    }
}

/// Plans the slices of a run. To be called in the transaction that holds the run's snapshot: it also takes the lock that
/// keeps TRUNCATE and rewriting DDL away, which other transactions would see in spite of the snapshot, until that
/// transaction ends.
///
/// # Errors
/// `SourceSnapshotLost` when a table was truncated, rewritten or attached between the snapshot and now, `ConfigInvalid`
/// for a `chunk_column` that cannot be one, and whatever the server says. The transaction may be aborted then.
pub async fn plan(client: &Client, described: &Described, request: &SplitRequest) -> Result<PlannedSplit> {
    let held = held(client, described).await?;
    let column = request.column.as_deref().map(|name| chunk_column(described, name)).transpose()?;
    let (wished, most) = (wanted(described, request, &held), request.most_slices.clamp(1, MOST_SLICES));
    let wanted = usize::try_from(wished.clamp(1, most)).unwrap_or(1);
    let mut planned = if wanted <= 1 {
        whole(&held, "it is small enough for one slice")
    } else {
        match &described.relation {
            Some(relation) => of_relation(client, described, relation, column, wanted, &held).await?,
            None => of_query(client, described, column, wanted, &held).await?,
        }
    };
    if wished > most {
        planned
            .reason
            .push_str(&format!("; {wished} were wanted, a run with so many columns has at most about {most}"));
    }
    assert_covered(described, &planned)?;
    if let Split::Key { columns, .. } = &planned.split {
        assert_rising(client, described, columns, &planned.slices).await?;
        planned.ordering = ordering(client, described, columns, held.server_version).await?;
    }
    Ok(planned)
}

/// What [`plan`] does first, for a snapshot in which a plan that was made earlier is carried on: locks what will be read
/// until the transaction ends, and checks that nothing was truncated, rewritten or attached since the snapshot was taken.
///
/// # Errors
/// `SourceSnapshotLost` when something was, and whatever the server says.
pub async fn hold(client: &Client, described: &Described) -> Result<Hold> {
    held(client, described).await.map(|held| held.hold)
}

/// [`hold`], and the proof that the plan's ranges still rise: in another order than the one they were chosen in, ranges
/// that were disjoint overlap. Whether it is another the caller has learnt from [`ordering()`], where a server tells.
///
/// # Errors
/// As [`hold`] and [`plan`].
pub async fn carry_on(client: &Client, described: &Described, split: &Split, slices: &[SlicePlan]) -> Result<Hold> {
    let hold = hold(client, described).await?;
    if let Split::Key { columns, .. } = split {
        assert_rising(client, described, columns, slices).await?;
    }
    Ok(hold)
}

impl Relation {
    /// Whether the relation's rows lie in pages of this server, so that `pages` and `bytes` mean something.
    pub(in crate::source::postgres) fn has_pages(&self) -> bool {
        self.heap || self.kind == RelationKind::Partitioned
    }

    /// Whether a range of pages is a range of rows: one heap, nothing below it.
    fn has_page_ranges(&self, held: &Held) -> bool {
        self.heap && self.children == 0 && held.server_version >= PAGES_SINCE
    }
}

/// How many slices to aim for, were there no bound.
fn wanted(described: &Described, request: &SplitRequest, held: &Held) -> u64 {
    let parallel = request.parallel.max(1) as u64;
    let sized = described.relation.as_ref().filter(|relation| relation.has_pages());
    let by_rows = request.most_rows.map_or(1, |most| held.rows.div_ceil(most.max(1)));
    let asked = request.slices.map(u64::from).or_else(|| Some(held.rows.div_ceil(request.rows_per_slice?.max(1))));
    match (asked, sized) {
        (_, Some(relation)) if relation.pages == 0 => 1,
        (Some(asked), _) => asked,
        (None, Some(relation)) if relation.bytes < SMALL_BYTES => by_rows,
        (None, Some(relation)) => {
            let by_size = relation.bytes.div_ceil(request.target_bytes.max(MIB)).max(by_rows);
            // One worker gains nothing from slices that are smaller than what a resume may redo.
            let busy = if parallel == 1 { 1 } else { (2 * parallel).min(relation.bytes / LEAST_SLICE_BYTES) };
            by_size.max(busy)
        }
        (None, None) if request.column.is_some() => 2 * parallel,
        (None, None) => 1,
    }
}

async fn of_relation(
    client: &Client,
    described: &Described,
    relation: &Relation,
    column: Option<&SourceColumn>,
    wanted: usize,
    held: &Held,
) -> Result<PlannedSplit> {
    let pages_possible = relation.has_page_ranges(held);
    let key: Vec<&SourceColumn> = match column {
        Some(column) if pages_possible && !relation.leads_an_index(&column.column.name) => {
            let why =
                format!("no index begins with {:?}, so that each key range would read everything", column.column.name);
            return Ok(by_pages(relation, held, wanted, &why));
        }
        Some(column) => vec![column],
        None => usable_key(described, relation),
    };
    if key.is_empty() {
        return Ok(match pages_possible {
            true => by_pages(relation, held, wanted, "it has no key"),
            false => whole(held, "it has no key to be divided by, and is not a single heap"),
        });
    }
    if held.unstable {
        return Ok(whole(held, "the view has a LIMIT or a sample, and could return other rows to each slice"));
    }
    let scattered = |correlation: Option<f64>| {
        let unlike = correlation.is_some_and(|c| c.abs() < LEAST_CORRELATION);
        unlike && relation.bytes >= LARGE_BYTES && pages_possible && column.is_none()
    };
    let stats = histogram::stats(client, relation, key[0]).await?;
    // Known without a sample; of a composite key the leading column alone says little.
    if key.len() == 1 && scattered(stats.correlation) {
        return Ok(by_pages(relation, held, wanted, "the heap does not follow the key"));
    }
    let points = match histogram::points(client, relation, key[0], &stats, wanted, key.len() == 1).await? {
        Some(points) => points,
        None => sample::points(client, described, &key, held.rows, wanted).await?,
    };
    if scattered(points.correlation) {
        return Ok(by_pages(relation, held, wanted, "the heap does not follow the key"));
    }
    let cuts = points.cuts(wanted);
    Ok(match cuts.is_empty() {
        false => by_key(described, held, wanted, points, &cuts),
        true if pages_possible => by_pages(relation, held, wanted, "no boundary was found in its key"),
        true => whole(held, "no boundary was found in its key"),
    })
}

async fn of_query(
    client: &Client,
    described: &Described,
    column: Option<&SourceColumn>,
    wanted: usize,
    held: &Held,
) -> Result<PlannedSplit> {
    let Some(column) = column else { return Ok(whole(held, "a query is divided only by a `chunk_column`")) };
    if held.unstable {
        return Ok(whole(held, "the query has a LIMIT or a sample, and could return other rows to each slice"));
    }
    let points = sample::points(client, described, &[column], held.rows, wanted).await?;
    let cuts = points.cuts(wanted);
    Ok(match cuts.is_empty() {
        true => whole(held, "no boundary was found in its `chunk_column`"),
        false => by_key(described, held, wanted, points, &cuts),
    })
}

/// The configured column, if the database can put it in order.
fn chunk_column<'a>(described: &'a Described, name: &str) -> Result<&'a SourceColumn> {
    let column = described.column(name).map_err(|error| {
        Error::new(ErrorKind::ConfigInvalid, format!("chunk_column: {}", error.what())).with_hint(error.hint())
    })?;
    if !comparable(column) {
        let what = format!("chunk_column {name:?} is of type {}, which cannot be one", column.column.source_type);
        return Err(
            Error::new(ErrorKind::ConfigInvalid, what).with_hint("Name a column with an ordinary, sorted type.")
        );
    }
    Ok(column)
}

/// `IS NULL` of a composite value asks for its fields, so that such a column is no key.
fn comparable(column: &SourceColumn) -> bool {
    column.bound_kind != 'c'
}

/// Columns of the best key; empty when there is none. Where they do not fit in an event, as many of the leading ones as
/// do: ranges of those hold every row too, only that heavy values cannot be divided further.
fn usable_key<'a>(described: &'a Described, relation: &Relation) -> Vec<&'a SourceColumn> {
    // Parents of plain inheritance have keys that do not reach their children.
    if relation.children > 0 && relation.kind != RelationKind::Partitioned {
        return Vec::new();
    }
    let columns = |index: &Index| -> Option<Vec<&'a SourceColumn>> {
        index.columns.iter().map(|name| described.column(name).ok().filter(|column| comparable(column))).collect()
    };
    let mut key = relation.indexes.iter().filter(|index| index.unique).find_map(columns).unwrap_or_default();
    let mut room = MOST_KEY_BYTES;
    let fitting = key.iter().take_while(|column| {
        let size = column.column.name.len() + column.bound_type.len() + 8;
        room.checked_sub(size).map(|left| room = left).is_some()
    });
    key.truncate(fitting.count());
    key
}

fn whole(held: &Held, why: &str) -> PlannedSplit {
    let slice = SlicePlan { slice: SliceNo(0), bounds: Bounds::Whole, estimated_rows: held.rows };
    PlannedSplit {
        split: Split::Whole,
        ordering: Vec::new(),
        slices: vec![slice],
        estimated_rows: held.rows,
        reason: format!("one slice: {why}"),
        hold: held.hold.clone(),
    }
}

/// Equal ranges of pages; the last is open, because the relation may have grown since its length was read.
fn by_pages(relation: &Relation, held: &Held, wanted: usize, why: &str) -> PlannedSplit {
    // The highest page number is 2^32 - 2: the one after it means "no page".
    let pages = u32::try_from(relation.pages).unwrap_or(u32::MAX).min(u32::MAX - 1);
    let count = u64::from(pages).min(wanted as u64).max(1);
    let start = |i: u64| u32::try_from(u64::from(pages) * i / count).unwrap_or(pages);
    let slices = (0..count).map(|i| {
        let (first, next) = (start(i), start(i + 1));
        let end = (i + 1 < count).then_some(next);
        let share = f64::from(next - first) / f64::from(pages.max(1));
        (Bounds::Pages { first, end }, share)
    });
    let slices = numbered(slices, held.rows as f64);
    PlannedSplit {
        split: Split::Pages { pages },
        ordering: Vec::new(),
        reason: format!("{} ranges of heap pages: {why}", slices.len()),
        slices,
        estimated_rows: held.rows,
        hold: held.hold.clone(),
    }
}

fn by_key(described: &Described, held: &Held, wanted: usize, found: Points, cuts: &[usize]) -> PlannedSplit {
    let bounds: Vec<Vec<String>> = cuts.iter().map(|&i| found.points[i].values.clone()).collect();
    let lowers = [None].into_iter().chain(bounds.iter().cloned().map(Some));
    let uppers = bounds.iter().cloned().map(Some).chain([None]);
    let present = 1.0 - found.null_share;
    let ranges = lowers
        .zip(uppers)
        .zip(choose::shares(&found.below(), cuts))
        .map(|((lower, upper), share)| (Bounds::Range { lower, upper }, share * present));
    let nulls = nullable(described, &found.key).then_some((Bounds::NullKey, found.null_share));
    let without = if nulls.is_some() { " and the rows without one" } else { "" };
    let slices = numbered(ranges.chain(nulls), held.rows as f64);
    let names: Vec<&str> = found.key.iter().map(|column| column.name.as_str()).collect();
    let source = match found.evidence {
        EVIDENCE_HISTOGRAM => "boundaries from the server's statistics",
        EVIDENCE_SAMPLE => "boundaries from a sample of blocks",
        _ => {
            "boundaries from a full scan; each slice evaluates everything again, and the rows must be the same each time"
        }
    };
    let indexed = described.relation.as_ref().is_none_or(|relation| relation.leads_an_index(names[0]));
    let slow = if indexed || found.evidence == EVIDENCE_SCAN {
        ""
    } else {
        "; no index begins with it, so that each slice reads everything"
    };
    let few = if cuts.len() + 1 < wanted {
        format!("; {wanted} were wanted, its values allow no more")
    } else {
        String::new()
    };
    PlannedSplit {
        reason: format!("{} ranges of {}{without}: {source}{slow}{few}", cuts.len() + 1, names.join(", ")),
        split: Split::Key { columns: found.key, evidence: found.evidence.to_owned() },
        ordering: Vec::new(),
        slices,
        estimated_rows: held.rows,
        hold: held.hold.clone(),
    }
}

fn numbered(slices: impl IntoIterator<Item = (Bounds, f64)>, rows: f64) -> Vec<SlicePlan> {
    let numbers = (0..).map(SliceNo);
    let slices = numbers.zip(slices);
    slices
        .map(|(slice, (bounds, share))| SlicePlan { slice, bounds, estimated_rows: (share * rows).round() as u64 })
        .collect()
}

fn nullable(described: &Described, key: &[KeyColumn]) -> bool {
    key.iter().any(|key| described.column(&key.name).is_ok_and(|column| column.column.nullable))
}

fn key_column(column: &SourceColumn) -> KeyColumn {
    KeyColumn { name: column.column.name.clone(), type_name: column.bound_type.clone() }
}

/// The invariant of every plan: its slices join up from one open end to the other, and rows with a NULL in the key have
/// a slice of their own where there can be any.
fn assert_covered(described: &Described, planned: &PlannedSplit) -> Result<()> {
    let bounds: Vec<&Bounds> = planned.slices.iter().map(|slice| &slice.bounds).collect();
    let covered = match &planned.split {
        Split::Whole => matches!(bounds[..], [Bounds::Whole]),
        Split::Pages { .. } => pages_join_up(&bounds),
        Split::Key { columns, .. } => match (nullable(described, columns), bounds.split_last()) {
            (true, Some((Bounds::NullKey, ranges))) => ranges_join_up(ranges),
            (false, _) => ranges_join_up(&bounds),
            _ => false,
        },
    };
    if covered {
        return Ok(());
    }
    let what = format!("{}: {} slices do not cover it", described.selection.label(), bounds.len());
    Err(Error::new(ErrorKind::EmptyPlan, what))
}

/// The other half of the invariant: each boundary lies above the one before it, as the database compares them. Ranges
/// that join up in any other order would hold rows twice.
async fn assert_rising(client: &Client, described: &Described, key: &[KeyColumn], slices: &[SlicePlan]) -> Result<()> {
    let boundaries: Vec<&Vec<String>> = slices
        .iter()
        .filter_map(|slice| match &slice.bounds {
            Bounds::Range { upper, .. } => upper.as_ref(),
            _ => None,
        })
        .collect();
    if boundaries.len() < 2 {
        return Ok(());
    }
    let columns: Vec<Vec<&str>> =
        (0..key.len()).map(|i| boundaries.iter().map(|values| values[i].as_str()).collect()).collect();
    let listed = |item: &dyn Fn(usize, &KeyColumn) -> String| {
        key.iter().enumerate().map(|(i, column)| item(i, column)).collect::<Vec<_>>().join(", ")
    };
    let own = listed(&|i, column| format!("{} AS k{i}", ident(&column.name)));
    let cast = listed(&|i, column| format!("u.k{i}::{}", column.type_name));
    let (arrays, names) = (listed(&|i, _| format!("unnest(${})", i + 1)), listed(&|i, _| format!("k{i}")));
    let previous = listed(&|i, _| format!("lag(k{i}) OVER (ORDER BY n)"));
    let (before, after) = (listed(&|i, _| format!("p{i}")), listed(&|i, _| format!("k{i}")));
    // The empty branch lends the values the columns' own collations.
    let sql = format!(
        "SELECT count(*) FROM (
            SELECT {names}, n, {previous} FROM (
                SELECT {own}, 0::int8 AS n FROM {} WHERE false
                UNION ALL
                SELECT {cast}, u.n FROM ROWS FROM ({arrays}) WITH ORDINALITY AS u({names}, n)
            ) boundaries
         ) AS pairs({names}, n, {before})
         WHERE n > 1 AND ({before}) < ({after})",
        described.from
    );
    let parameters: Vec<(&(dyn ToSql + Sync), Type)> =
        columns.iter().map(|values| (values as &(dyn ToSql + Sync), Type::TEXT_ARRAY)).collect();
    let place = described.selection.label();
    let rows = client.query_typed(&sql, &parameters).await.map_err(|error| failed(error, &place))?;
    let rising: i64 = rows.first().map_or(0, |row| row.get(0));
    if usize::try_from(rising) == Ok(boundaries.len() - 1) {
        return Ok(());
    }
    Err(Error::new(ErrorKind::EmptyPlan, format!("{place}: the boundaries of its slices are not in rising order")))
}

fn pages_join_up(bounds: &[&Bounds]) -> bool {
    let mut next = Some(0);
    for bound in bounds {
        match bound {
            Bounds::Pages { first, end } if next == Some(*first) && end.is_none_or(|end| end > *first) => next = *end,
            _ => return false,
        }
    }
    !bounds.is_empty() && next.is_none()
}

fn ranges_join_up(bounds: &[&Bounds]) -> bool {
    let mut open: Option<&Option<Vec<String>>> = Some(&None);
    for bound in bounds {
        match (bound, open) {
            (Bounds::Range { lower, upper }, Some(expected)) if lower == expected => {
                open = upper.is_some().then_some(upper);
            }
            _ => return false,
        }
    }
    !bounds.is_empty() && open.is_none()
}

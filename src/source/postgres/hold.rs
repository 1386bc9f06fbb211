//! What a run holds on to: the locks that keep TRUNCATE and rewrites away, and the tables that are read under them.
//!
//! TRUNCATE and rewrites of a table are not bound by snapshots: a session that comes to the table afterwards finds it
//! empty (PostgreSQL, chapter 13.6, Caveats). Nor is what lies below a table: a partition or a child that is attached is
//! read by every statement that is planned from then on, in whatever snapshot. No lock of a reader keeps that away, so it
//! is looked for, in the locks of those who read:
//!
//! ```text
//! between the snapshot and the hold   a partition whose link the snapshot does not see   the snapshot is lost
//! between the hold and a slice        the slice locked a table that the holder did not,  the slice does not count,
//!                                     and that a new look at the catalog finds below     the snapshot is lost
//! ```

use super::catalog::{Described, failed};
use super::session::Session;
use super::sql;
use crate::error::{Error, ErrorKind, Result};
use tokio_postgres::types::Type;
use tokio_postgres::{Client, SimpleQueryMessage};

/// The relations that this session has locked. Those below this number are the server's own, and have nothing below them.
const MINE: &str = "SELECT DISTINCT l.relation FROM pg_catalog.pg_locks l
     WHERE l.pid = pg_backend_pid() AND l.locktype = 'relation' AND l.granted AND l.relation >= 16384";

/// Whether a relation is none of the indexes, which come and go; also of one that the snapshot does not see.
const IS_NO_INDEX: &str = "pg_index_has_property(relation, 'index_scan') IS NULL";

/// The tables that the session with the snapshot has locked for a run. Those below another, as the snapshot has it, go
/// without saying: a list of thousands of partitions would be sent with each slice.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hold {
    roots: Vec<u32>,
}

/// What holding told about the relation or query.
pub(super) struct Held {
    pub hold: Hold,
    pub rows: u64,
    pub server_version: u32,
    /// The query's own plan cuts rows off or draws them by lot.
    pub unstable: bool,
}

/// Locks what will be read until the transaction ends, and asks the planner how many rows it expects.
///
/// EXPLAIN locks everything below a table, a view or a query, and so keeps TRUNCATE and rewrites out from here on. One
/// that slipped in between the snapshot and the lock gave a table a new file, which the catalog as the snapshot sees it
/// does not know. All columns are asked for, since the planner leaves out what only unused ones need.
///
/// # Errors
/// `SourceSnapshotLost` when a table was truncated, rewritten or attached since the snapshot was taken, and whatever the
/// server says.
pub(super) async fn held(client: &Client, described: &Described) -> Result<Held> {
    let context = described.selection.label();
    let sql = format!(
        "EXPLAIN (FORMAT JSON) {};
         WITH mine AS MATERIALIZED ({MINE})
         SELECT current_setting('server_version_num'),
                (SELECT string_agg(relation::text, ',') FROM mine
                 WHERE {IS_NO_INDEX}
                   AND NOT EXISTS (SELECT FROM pg_catalog.pg_inherits i
                                   WHERE i.inhrelid = mine.relation AND i.inhparent IN (SELECT relation FROM mine))),
                (SELECT string_agg(c.oid::regclass::text, ', ')
                 FROM mine JOIN pg_catalog.pg_class c ON c.oid = mine.relation
                 WHERE c.relfilenode <> 0 AND c.relfilenode IS DISTINCT FROM pg_relation_filenode(c.oid)),
                (SELECT string_agg(relation::regclass::text, ', ')
                 FROM mine CROSS JOIN LATERAL pg_partition_ancestors(relation) WITH ORDINALITY above(relid, n)
                 WHERE n = 2 AND above.relid IN (SELECT relation FROM mine) AND {IS_NO_INDEX}
                   AND NOT EXISTS (SELECT FROM pg_catalog.pg_inherits i
                                   WHERE i.inhrelid = mine.relation AND i.inhparent = above.relid))",
        sql::select(described)
    );
    let messages = client.simple_query(&sql).await.map_err(|error| failed(error, &context))?;
    let rows: Vec<_> = messages
        .iter()
        .filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        })
        .collect();
    let odd =
        || Error::new(ErrorKind::SourceProtocol, format!("{context}: the server's answer to EXPLAIN is incomplete"));
    let [explained, checked] = rows[..] else { return Err(odd()) };
    let (Some(explained), Some(version)) = (explained.get(0), checked.get(0)) else { return Err(odd()) };
    for (column, change) in [(2, "truncated or rewritten"), (3, "attached")] {
        if let Some(changed) = checked.get(column) {
            let what = format!("{context}: {changed} was {change} after the snapshot was taken");
            return Err(Error::new(ErrorKind::SourceSnapshotLost, what));
        }
    }
    let plan: serde_json::Value = serde_json::from_str(explained).map_err(|error| odd().with_source(error))?;
    let expected = plan.pointer("/0/Plan/Plan Rows").and_then(serde_json::Value::as_f64).ok_or_else(odd)?;
    // An empty table that was never analysed is taken for ten pages of rows.
    let empty = described.relation.as_ref().is_some_and(|relation| relation.has_pages() && relation.pages == 0);
    Ok(Held {
        hold: Hold { roots: numbers(checked.get(1).unwrap_or_default()) },
        rows: if empty { 0 } else { expected as u64 },
        server_version: version.parse().map_err(|_| odd())?,
        unstable: ["\"Limit\"", "\"Sample Scan\""].iter().any(|node| explained.contains(node)),
    })
}

impl Hold {
    /// The question behind the COPY of a slice, in the same session: which tables did it lock that are neither held nor,
    /// as the snapshot has it, below one that is? NULL for none; then the slice has read what its snapshot promises.
    ///
    /// A lock stays until the transaction ends, so whatever the slice has read is among them.
    pub fn question(&self) -> String {
        let held = self.roots.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
        format!(
            "WITH RECURSIVE known(relid) AS (
                 SELECT unnest('{{{held}}}'::oid[])
                 UNION
                 SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN known ON i.inhparent = known.relid
             )
             SELECT string_agg(relation::text, ',') FROM ({MINE} EXCEPT SELECT relid FROM known) others
             WHERE {IS_NO_INDEX}"
        )
    }

    /// Judges the answer to [`Hold::question`]. A function in a query may read tables of its own; what counts is whether
    /// they are below what is held by now. Only a session outside the snapshot sees that.
    ///
    /// # Errors
    /// `SourceSnapshotLost` when there is such a table.
    pub async fn refuse_arrivals(&self, outside: &Session, others: &str) -> Result<()> {
        let sql = "WITH RECURSIVE below(relid) AS (
                       SELECT unnest($1)
                       UNION
                       SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN below ON i.inhparent = below.relid
                   )
                   SELECT string_agg(relid::regclass::text, ', ') FROM below WHERE relid = ANY ($2)";
        let others = numbers(others);
        let parameters = [(&self.roots as _, Type::OID_ARRAY), (&others as _, Type::OID_ARRAY)];
        let rows = outside.client().query_typed(sql, &parameters).await;
        let rows = rows.map_err(|error| failed(error, "tables that were attached"))?;
        match rows.first().and_then(|row| row.get::<_, Option<String>>(0)) {
            None => Ok(()),
            Some(arrived) => Err(Error::new(
                ErrorKind::SourceSnapshotLost,
                format!("{arrived} was attached after the snapshot was taken"),
            )
            .with_hint("Tables are being attached to what is read; resume the run when that is done.")),
        }
    }
}

/// The server's own list of identifiers.
fn numbers(list: &str) -> Vec<u32> {
    list.split(',').filter_map(|number| number.parse().ok()).collect()
}

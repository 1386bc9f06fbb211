//! Which relations a described selection reads, by their numbers in the catalog.

use super::catalog::{Described, failed};
use crate::error::{Error, ErrorKind, Result};
use crate::run::relation::{RelationIdentity, Relations};
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Row};

/// A table or view is known by number. What a query names is known by the locks that analysing it took, and nothing but
/// that: its plan would add indexes and partitions, as many as statistics want. Below a view stands what its rule
/// depends on. The catalog's own relations, whose numbers are below 16384, never change.
///
/// `ev_action` is a view's definition with its names resolved and, left out here, the places where its words stood in the
/// statement that made it.
const RELATIONS: &str = "
WITH RECURSIVE here AS (
    SELECT oid, datname FROM pg_catalog.pg_database WHERE datname = current_database()
), found(oid) AS (
    SELECT $1 WHERE $1 <> 0
    UNION
    SELECT l.relation
    FROM pg_catalog.pg_locks l
    WHERE $1 = 0 AND l.pid = pg_backend_pid() AND l.locktype = 'relation' AND l.granted
      AND l.database = (SELECT oid FROM here) AND l.relation >= 16384
    UNION
    SELECT d.refobjid
    FROM found f
    JOIN pg_catalog.pg_class v ON v.oid = f.oid AND v.relkind = 'v'
    JOIN pg_catalog.pg_rewrite r ON r.ev_class = v.oid
    JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_rewrite'::regclass AND d.objid = r.oid
    WHERE d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjid >= 16384
)
SELECT current_setting('search_path'), here.datname::text, here.oid, n.nspname::text, c.relname::text, c.oid,
       (SELECT hashtextextended(regexp_replace(r.ev_action::text, ' :(stmt_)?(location|len) -?[0-9]+', '', 'g'), 0)
        FROM pg_catalog.pg_rewrite r WHERE r.ev_class = c.oid AND r.ev_type = '1' AND c.relkind = 'v')
FROM here
LEFT JOIN (found f
           JOIN pg_catalog.pg_class c ON c.oid = f.oid AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
           JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace) ON true";

/// What [`identify`] found out.
#[derive(Debug)]
pub struct Identified {
    pub relations: Relations,
    /// The search path under which they were found.
    pub search_path: String,
}

/// Identifies what `described` reads. To be called in the transaction in which it was described, before anything else is
/// planned there. One round trip.
///
/// # Errors
/// Whatever the server says.
pub async fn identify(client: &Client, described: &Described) -> Result<Identified> {
    let place = described.selection.label();
    let oid = described.relation.as_ref().map_or(0, |relation| relation.oid);
    let rows = client.query_typed(RELATIONS, &[(&oid, Type::OID)]).await.map_err(|error| failed(error, &place))?;
    let Some(first) = rows.first() else {
        return Err(Error::new(ErrorKind::SourceProtocol, format!("{place}: the server does not know its database")));
    };
    let (search_path, database, database_oid) = (first.get(0), first.get(1), first.get(2));
    let mut below: Vec<RelationIdentity> = rows.iter().filter_map(relation).collect();
    below.sort_unstable();
    let named = below.iter().position(|relation| relation.oid == oid).map(|at| below.remove(at));
    Ok(Identified { relations: Relations { database, database_oid, named, below }, search_path })
}

fn relation(row: &Row) -> Option<RelationIdentity> {
    let schema: Option<String> = row.get(3);
    let definition: Option<i64> = row.get(6);
    Some(RelationIdentity {
        schema: schema?,
        name: row.get(4),
        oid: row.get(5),
        definition: definition.map(i64::cast_unsigned),
    })
}

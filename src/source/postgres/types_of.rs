//! Types of columns, resolved through domains and arrays in one catalog query.

use super::types::SourceType;
use crate::error::{Error, ErrorKind, Result};
use std::collections::HashMap;
use tokio_postgres::Row;

/// A query for all types that `seeds`, a SELECT of (type oid, type modifier), leads to.
///
/// An array's modifier is its element's, and a domain's base has the modifier that the domain names. A domain also carries
/// its base type's element and output function, so it is recognised first; true arrays are those with the array output
/// function.
pub fn sql(seeds: &str) -> String {
    format!(
        "WITH RECURSIVE seen(oid, typmod) AS (
            {seeds}
            UNION
            SELECT child.oid, child.typmod
            FROM seen
            JOIN pg_catalog.pg_type t ON t.oid = seen.oid
            CROSS JOIN LATERAL (
                SELECT t.typbasetype AS oid, t.typtypmod AS typmod WHERE t.typtype = 'd'
                UNION ALL
                SELECT t.typelem, seen.typmod
                WHERE t.typtype <> 'd' AND t.typelem <> 0 AND t.typoutput = 'pg_catalog.array_out'::regproc
            ) child
        )
        SELECT t.oid, seen.typmod, t.typtype::text, t.typsend::oid <> 0,
               CASE WHEN t.typtype <> 'd' AND t.typoutput = 'pg_catalog.array_out'::regproc THEN t.typelem ELSE 0 END,
               t.typbasetype, t.typtypmod, format_type(t.oid, seen.typmod), format_type(t.oid, -1)
        FROM seen JOIN pg_catalog.pg_type t ON t.oid = seen.oid"
    )
}

struct Entry {
    typtype: char,
    has_send: bool,
    element: u32,
    base: u32,
    base_typmod: i32,
    name: String,
    bare_name: String,
}

/// The answer to [`sql`].
pub struct Types {
    entries: HashMap<(u32, i32), Entry>,
}

impl Types {
    pub fn read(rows: &[Row]) -> Result<Types, tokio_postgres::Error> {
        let mut entries = HashMap::new();
        for row in rows {
            let entry = Entry {
                typtype: row.try_get::<_, String>(2)?.chars().next().unwrap_or('b'),
                has_send: row.try_get(3)?,
                element: row.try_get(4)?,
                base: row.try_get(5)?,
                base_typmod: row.try_get(6)?,
                name: row.try_get(7)?,
                bare_name: row.try_get(8)?,
            };
            entries.insert((row.try_get(0)?, row.try_get(1)?), entry);
        }
        Ok(Types { entries })
    }

    /// # Errors
    /// `SourceMissing` when the type went away between two statements.
    pub fn resolve(&self, oid: u32, typmod: i32) -> Result<SourceType> {
        let Some(entry) = self.entries.get(&(oid, typmod)) else {
            return Err(Error::new(ErrorKind::SourceMissing, format!("the type with oid {oid} is gone")));
        };
        let element = (entry.element != 0).then(|| self.resolve(entry.element, typmod)).transpose()?;
        let base = (entry.typtype == 'd').then(|| self.resolve(entry.base, entry.base_typmod)).transpose()?;
        Ok(SourceType {
            oid,
            typmod,
            typtype: entry.typtype,
            has_send: entry.has_send,
            element: element.map(Box::new),
            base: base.map(Box::new),
            name: entry.name.clone(),
        })
    }

    /// The type's name without a modifier.
    pub fn bare_name(&self, source: &SourceType) -> String {
        self.entries.get(&(source.oid, source.typmod)).map_or_else(|| source.name.clone(), |e| e.bare_name.clone())
    }
}

/// The type behind any number of domains.
pub fn behind_domains(mut source: &SourceType) -> &SourceType {
    while let Some(base) = &source.base {
        source = base;
    }
    source
}

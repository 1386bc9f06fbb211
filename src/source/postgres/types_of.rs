//! Types of columns, resolved through domains, arrays, composites and ranges in one catalog query.

use super::types::{MOST_DIMENSIONS, Output, SourceType};
use crate::error::{Error, ErrorKind, Result};
use crate::run::schema::DEEPEST_NESTING;
use std::collections::HashMap;
use tokio_postgres::Row;

/// A query for all types that `seeds`, a SELECT of (type oid, type modifier), leads to.
///
/// An array's modifier is its element's, and a domain's base has the modifier that the domain names. A domain also carries
/// its base type's element and output function, so it is recognised first; true arrays are those with the array output
/// function. An output function is named where it can be called with the type, which is its own or one of the kind that it takes, and by the
/// role, which needs no such right to read a value.
/// Multiranges came with PostgreSQL 14, and with them a column of `pg_range` that older servers do not have.
pub fn sql(seeds: &str) -> String {
    const IS_ARRAY: &str = "t.typtype <> 'd' AND t.typelem <> 0 AND t.typoutput = 'pg_catalog.array_out'::regproc";
    const FIELDS: &str = "FROM pg_catalog.pg_attribute a \
                          WHERE t.typtype = 'c' AND a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped";
    const SUBTYPE: &str =
        "SELECT r.rngsubtype AS oid FROM pg_catalog.pg_range r WHERE t.typtype = 'r' AND r.rngtypid = t.oid
                UNION ALL
                SELECT r.rngtypid FROM pg_catalog.pg_range r
                WHERE t.typtype = 'm' AND (pg_catalog.to_jsonb(r) ->> 'rngmultitypid')::oid = t.oid";
    // `format_type` leaves out a schema that is on the search path, and with it whose type it is.
    const SCHEMA: &str = "CASE WHEN nn.nspname <> 'pg_catalog' AND pg_type_is_visible(named.oid)
                               THEN quote_ident(nn.nspname) || '.' ELSE '' END";
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
                SELECT t.typelem, seen.typmod WHERE {IS_ARRAY}
                UNION ALL
                SELECT a.atttypid, a.atttypmod {FIELDS}
                UNION ALL
                SELECT subtype.oid, -1 FROM ({SUBTYPE}) subtype
            ) child
        )
        SELECT t.oid, seen.typmod, t.typtype::text, t.typsend::oid <> 0, CASE WHEN {IS_ARRAY} THEN t.typelem ELSE 0 END,
               t.typbasetype, t.typtypmod, {SCHEMA} || format_type(t.oid, seen.typmod), {SCHEMA} || format_type(t.oid, -1),
               CASE WHEN (p.proargtypes[0] = t.oid OR t.typtype IN ('c', 'e', 'r', 'm') OR {IS_ARRAY})
                     AND has_schema_privilege(n.oid, 'USAGE') AND has_function_privilege(p.oid, 'EXECUTE')
                    THEN quote_ident(n.nspname) || '.' || quote_ident(p.proname) END,
               coalesce((SELECT subtype.oid FROM ({SUBTYPE}) subtype LIMIT 1), 0),
               ARRAY(SELECT a.attname::text {FIELDS} ORDER BY a.attnum), ARRAY(SELECT a.atttypid {FIELDS} ORDER BY a.attnum),
               ARRAY(SELECT a.atttypmod {FIELDS} ORDER BY a.attnum),
               (SELECT e.extname::text FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid
                WHERE d.classid = 'pg_catalog.pg_type'::regclass AND d.objid = t.oid AND d.deptype = 'e'
                  AND d.refclassid = 'pg_catalog.pg_extension'::regclass LIMIT 1),
               t.typdelim::text, t.typndims::int2, ARRAY(SELECT a.attndims::int2 {FIELDS} ORDER BY a.attnum)
        FROM seen JOIN pg_catalog.pg_type t ON t.oid = seen.oid
        JOIN pg_catalog.pg_type named ON named.oid = CASE WHEN {IS_ARRAY} THEN t.typelem ELSE t.oid END
        JOIN pg_catalog.pg_namespace nn ON nn.oid = named.typnamespace
        JOIN pg_catalog.pg_proc p ON p.oid = t.typoutput JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace"
    )
}

struct Entry {
    typtype: char,
    has_send: bool,
    output: Output,
    delimiter: char,
    element: u32,
    base: u32,
    base_typmod: i32,
    subtype: u32,
    /// Of a domain over an array.
    dimensions: u8,
    fields: Vec<Field>,
    extension: Option<String>,
    name: String,
    bare_name: String,
}

/// Of a composite.
struct Field {
    name: String,
    oid: u32,
    typmod: i32,
    dimensions: u8,
}

/// The answer to [`sql`].
pub struct Types {
    entries: HashMap<(u32, i32), Entry>,
}

impl Types {
    pub fn read(rows: &[Row]) -> Result<Types, tokio_postgres::Error> {
        let mut entries = HashMap::new();
        for row in rows {
            let names: Vec<String> = row.try_get(11)?;
            let (oids, typmods): (Vec<u32>, Vec<i32>) = (row.try_get(12)?, row.try_get(13)?);
            let declared: Vec<i16> = row.try_get(17)?;
            let fields = names.into_iter().zip(oids).zip(typmods).zip(declared);
            let fields = fields.map(|(((name, oid), typmod), declared)| {
                let dimensions = dimensions(declared);
                Field { name, oid, typmod, dimensions }
            });
            let entry = Entry {
                typtype: row.try_get::<_, String>(2)?.chars().next().unwrap_or('b'),
                has_send: row.try_get(3)?,
                element: row.try_get(4)?,
                base: row.try_get(5)?,
                base_typmod: row.try_get(6)?,
                name: row.try_get(7)?,
                bare_name: row.try_get(8)?,
                output: row.try_get::<_, Option<String>>(9)?.map_or(Output::Borrowed, Output::Function),
                subtype: row.try_get(10)?,
                dimensions: dimensions(row.try_get(16)?),
                fields: fields.collect(),
                extension: row.try_get(14)?,
                delimiter: row.try_get::<_, String>(15)?.chars().next().unwrap_or(','),
            };
            entries.insert((row.try_get(0)?, row.try_get(1)?), entry);
        }
        Ok(Types { entries })
    }

    /// # Errors
    /// `SourceMissing` when the type went away between two statements.
    pub fn resolve(&self, oid: u32, typmod: i32) -> Result<SourceType> {
        self.resolve_nested(oid, typmod, 0)
    }

    fn resolve_nested(&self, oid: u32, typmod: i32, depth: usize) -> Result<SourceType> {
        let entry = self.entries.get(&(oid, typmod)).filter(|_| depth < DEEPEST);
        let Some(entry) = entry else {
            return Err(Error::new(ErrorKind::SourceMissing, format!("the type with oid {oid} is gone")));
        };
        let inner = |oid, typmod| self.resolve_nested(oid, typmod, depth + 1);
        let element = (entry.element != 0).then(|| inner(entry.element, typmod)).transpose()?;
        let used = |oid, typmod, dimensions| inner(oid, typmod).map(|source| SourceType { dimensions, ..source });
        let base = (entry.typtype == 'd').then(|| used(entry.base, entry.base_typmod, entry.dimensions)).transpose()?;
        let subtype = (entry.subtype != 0).then(|| inner(entry.subtype, -1)).transpose()?;
        // Beyond this a type is delivered as text, whatever its fields are.
        let fields = if depth > DEEPEST_NESTING { &[][..] } else { &entry.fields };
        let fields = fields.iter().map(|field| {
            let Field { name, oid, typmod, dimensions } = field;
            Ok((name.clone(), used(*oid, *typmod, *dimensions)?))
        });
        Ok(SourceType {
            oid,
            typmod,
            typtype: entry.typtype,
            has_send: entry.has_send,
            output: entry.output.clone(),
            delimiter: entry.delimiter,
            fields: fields.collect::<Result<_>>()?,
            element: element.map(Box::new),
            base: base.map(Box::new),
            subtype: subtype.map(Box::new),
            extension: entry.extension.clone(),
            dimensions: 0,
            name: entry.name.clone(),
        })
    }

    /// The type's name without a modifier.
    pub fn bare_name(&self, source: &SourceType) -> String {
        self.entries.get(&(source.oid, source.typmod)).map_or_else(|| source.name.clone(), |e| e.bare_name.clone())
    }
}

/// `attndims` or `typndims`, which the server neither checks nor bounds.
pub fn dimensions(declared: i16) -> u8 {
    u8::try_from(declared).unwrap_or(0).min(MOST_DIMENSIONS)
}

/// Domains over domains, and what else may lie within each other without being a nested value.
const DEEPEST: usize = 1000;

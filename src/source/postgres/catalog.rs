//! What the server's catalog says about the thing to be exported.
//!
//! Two round trips for a table, whatever it looks like: the relation, then its columns, types and indexes at once.

use super::sql::ident;
use super::types::{self, Mapping, SourceType};
use super::{fault, query, types_of};
use crate::config::model::{Selection, TypePolicies};
use crate::error::{Error, ErrorKind, Result};
use crate::run::schema::{Column, ColumnType, Schema};
use std::collections::{BTreeMap, HashSet};
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Row};

/// A table or query with everything that planning, reading and decoding need to know.
#[derive(Debug, Clone)]
pub struct Described {
    pub selection: Selection,
    /// `None` for a query.
    pub relation: Option<Relation>,
    pub columns: Vec<SourceColumn>,
    /// What stands behind FROM: `"schema"."table"`, or `(query) AS q`.
    pub from: String,
}

/// One column: as it is delivered, as it is read, and as it is compared.
#[derive(Debug, Clone)]
pub struct SourceColumn {
    pub column: Column,
    pub mapping: Mapping,
    pub source: SourceType,
    /// Type to which a boundary of this column is cast: behind all domains, without a modifier, so that no boundary is
    /// rounded, shortened or refused.
    pub bound_type: String,
    /// `pg_type.typtype` of `bound_type`.
    pub bound_kind: char,
    /// Whether `bound_type` is an array.
    pub bound_is_array: bool,
    /// The column's collation, qualified and quoted; `None` where the type has none and for queries.
    pub collation: Option<String>,
}

#[derive(Debug, Clone)]
pub struct Relation {
    pub oid: u32,
    pub schema: String,
    pub name: String,
    pub kind: RelationKind,
    /// Inheritance children or partitions, at any depth.
    pub children: u64,
    /// Whether pages of the heap access method lie below, so that a `ctid` is a page and a line.
    pub heap: bool,
    /// `pg_class.reltuples` over the tree; -1 when a member was never analysed.
    pub reltuples: f64,
    /// `pg_class.relpages` over the tree.
    pub relpages: u64,
    /// Pages of the heap now, over the tree.
    pub pages: u64,
    /// Bytes now, with what is stored out of line, over the tree.
    pub bytes: u64,
    /// Row security filters what this role sees.
    pub row_security: bool,
    /// Complete B-tree indexes over plain columns in the default order: no predicate, no expression. Best key first.
    pub indexes: Vec<Index>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RelationKind {
    Table,
    Partitioned,
    View,
    MaterializedView,
    Foreign,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    pub name: String,
    pub primary: bool,
    pub unique: bool,
    pub columns: Vec<String>,
}

impl Described {
    /// The destination-facing schema.
    pub fn schema(&self) -> Schema {
        Schema { columns: self.columns.iter().map(|source| source.column.clone()).collect() }
    }

    /// The columns of the best key, by index, by which a row is named; empty where there is none.
    pub fn key(&self) -> Vec<usize> {
        let key = self.relation.as_ref().and_then(Relation::best_key);
        let names = key.map_or(&[][..], |key| &key.columns);
        let index = |name: &String| self.columns.iter().position(|source| source.column.name == *name);
        names.iter().filter_map(index).collect()
    }

    /// # Errors
    /// `SourceMissing`, with the nearest name.
    pub fn column(&self, name: &str) -> Result<&SourceColumn> {
        let found = self.columns.iter().find(|source| source.column.name == name);
        found.ok_or_else(|| {
            let error =
                Error::new(ErrorKind::SourceMissing, format!("{} has no column {name:?}", self.selection.label()));
            match nearest(name, self.columns.iter().map(|source| source.column.name.as_str())) {
                Some(near) => error.with_hint(format!("Is it {near:?}? Names are case-sensitive as written.")),
                None => error,
            }
        })
    }
}

impl Relation {
    /// The key by which rows are best told apart: the primary key, else a unique index without NULLs, else one with.
    pub fn best_key(&self) -> Option<&Index> {
        self.indexes.first().filter(|index| index.unique)
    }

    /// Whether an index is ordered by `column` first.
    pub fn leads_an_index(&self, column: &str) -> bool {
        self.indexes.iter().any(|index| index.columns.first().is_some_and(|first| first == column))
    }
}

/// Looks up a table, or has the server analyse a query, and decides how each column is read.
///
/// # Errors
/// `SourceMissing`, `SourceDenied`, `SourceUnsupported` for what is not a relation with rows and columns, `ConfigInvalid`
/// for an override or a query that cannot be, `SourceQuery` for what the server dislikes about the query.
pub async fn describe(
    client: &Client,
    selection: &Selection,
    overrides: &BTreeMap<String, ColumnType>,
    policies: TypePolicies,
) -> Result<Described> {
    let described = match selection {
        Selection::Table { schema, name } => table(client, selection, schema.as_deref(), name, overrides).await,
        Selection::Query(text) => of_query(client, selection, text, overrides).await,
    };
    let mut described = described?;
    types::apply_policies(&mut described.columns, overrides, policies);
    if let Some(unknown) = overrides.keys().find(|name| described.column(name).is_err()) {
        let error = Error::new(
            ErrorKind::ConfigInvalid,
            format!("{} has no column {unknown:?}, but an override for it", selection.label()),
        );
        return Err(match nearest(unknown, described.columns.iter().map(|source| source.column.name.as_str())) {
            Some(near) => error.with_hint(format!("Is it {near:?}? Names are case-sensitive as written.")),
            None => error,
        });
    }
    if described.columns.is_empty() {
        // The server would send a row of zero fields for each, but no reader opens a Parquet file without a column.
        let what = format!("{} has no columns", selection.label());
        return Err(Error::new(ErrorKind::SourceUnsupported, what)
            .with_hint("Take the export out, or count its rows through a query."));
    }
    Ok(described)
}

const RELATION: &str = "
SELECT c.oid, n.nspname::text, c.relname::text, c.relkind::text, coalesce(am.amname = 'heap', false),
       has_schema_privilege(n.oid, 'USAGE'), row_security_active(c.oid), tree.children, tree.tuples, tree.relpages,
       tree.heap_bytes, tree.bytes, current_setting('block_size')::int8, tree.foreign_children
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_catalog.pg_am am ON am.oid = c.relam
CROSS JOIN LATERAL (
    WITH RECURSIVE tree(relid) AS (
        SELECT c.oid
        UNION
        SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN tree ON i.inhparent = tree.relid
    )
    SELECT count(*) - 1 AS children,
           count(*) FILTER (WHERE m.relkind = 'f' AND m.oid <> c.oid) AS foreign_children,
           CASE WHEN bool_and(m.reltuples >= 0 AND (m.relpages > 0 OR m.reltuples > 0)) FILTER (WHERE m.relkind <> 'p')
                THEN sum(m.reltuples::float8) FILTER (WHERE m.relkind <> 'p') ELSE -1 END AS tuples,
           coalesce(sum(m.relpages::int8) FILTER (WHERE m.relkind <> 'p'), 0)::int8 AS relpages,
           coalesce(sum(pg_relation_size(m.oid)) FILTER (WHERE m.relkind IN ('r', 'm')), 0)::int8 AS heap_bytes,
           coalesce(sum(pg_table_size(m.oid)) FILTER (WHERE m.relkind IN ('r', 'm')), 0)::int8 AS bytes
    FROM tree JOIN pg_catalog.pg_class m ON m.oid = tree.relid
) tree
WHERE c.relname = $1 AND ";

async fn table(
    client: &Client,
    selection: &Selection,
    schema: Option<&str>,
    name: &str,
    overrides: &BTreeMap<String, ColumnType>,
) -> Result<Described> {
    let context = format!("table {:?}", selection.label());
    let found = match schema {
        Some(schema) => {
            let sql = format!("{RELATION} n.nspname = $2");
            client.query_typed(&sql, &[(&name, Type::TEXT), (&schema, Type::TEXT)]).await
        }
        None => {
            let sql = format!("{RELATION} pg_table_is_visible(c.oid)");
            client.query_typed(&sql, &[(&name, Type::TEXT)]).await
        }
    };
    let found = found.map_err(|error| failed(error, &context))?;
    let Some(row) = found.first() else { return Err(missing(client, selection, name).await) };
    let (mut relation, rows_may_break_not_null) = relation(row, &context)?;

    let oid = [(&relation.oid as _, Type::OID)];
    let columns_sql =
        columns_sql(rows_may_break_not_null, relation.children > 0 && relation.kind == RelationKind::Table);
    let seeds = "SELECT atttypid, atttypmod FROM pg_catalog.pg_attribute \
                 WHERE attrelid = $1 AND attnum > 0 AND NOT attisdropped";
    let types_sql = types_of::sql(seeds);
    let (columns, types, indexes) = futures_util::future::try_join3(
        client.query_typed(&columns_sql, &oid),
        client.query_typed(&types_sql, &oid),
        client.query_typed(INDEXES, &oid),
    )
    .await
    .map_err(|error| failed(error, &context))?;

    let types = types_of::Types::read(&types).map_err(|error| failed(error, &context))?;
    let denied: Vec<String> = columns.iter().filter(|row| !row.get::<_, bool>(4)).map(|row| row.get(1)).collect();
    if !denied.is_empty() {
        let what = format!("{context}: no SELECT on column {}", denied.join(", "));
        return Err(Error::new(ErrorKind::SourceDenied, what));
    }
    let columns: Result<Vec<SourceColumn>> = columns
        .iter()
        .map(|row| {
            let name: String = row.get(1);
            let source = types.resolve(row.get(2), row.get(3)).map_err(|error| error.at(&context))?;
            source_column(
                name,
                source,
                types_of::dimensions(row.get(7)),
                !row.get::<_, bool>(5),
                row.get(6),
                overrides,
                &types,
            )
        })
        .collect();
    let columns = columns?;
    relation.indexes = indexes_of(&indexes, &columns);
    let from = format!("{}.{}", ident(&relation.schema), ident(&relation.name));
    Ok(Described { selection: selection.clone(), relation: Some(relation), columns, from })
}

/// The relation, and whether its NOT NULL constraints bind nobody.
fn relation(row: &Row, context: &str) -> Result<(Relation, bool)> {
    let refused = |what: &str| Error::new(ErrorKind::SourceUnsupported, format!("{context} is {what}"));
    let kind = match row.get::<_, String>(3).as_str() {
        "r" => RelationKind::Table,
        "p" => RelationKind::Partitioned,
        "v" => RelationKind::View,
        "m" => RelationKind::MaterializedView,
        "f" => RelationKind::Foreign,
        "i" | "I" => return Err(refused("an index").with_hint("Name the table instead.")),
        "S" => return Err(refused("a sequence")),
        "c" => return Err(refused("a composite type").with_hint("Name a table instead.")),
        other => return Err(refused(&format!("a relation of kind {other:?}"))),
    };
    let schema: String = row.get(1);
    if !row.get::<_, bool>(5) {
        return Err(Error::new(ErrorKind::SourceDenied, format!("{context}: no USAGE on schema {schema:?}")));
    }
    let unsigned = |column: usize| u64::try_from(row.get::<_, i64>(column)).unwrap_or(0);
    let relation = Relation {
        oid: row.get(0),
        schema,
        name: row.get(2),
        kind,
        children: unsigned(7),
        heap: row.get(4),
        reltuples: row.get::<_, Option<f64>>(8).unwrap_or(-1.0),
        relpages: unsigned(9),
        pages: unsigned(10) / unsigned(12).max(1),
        bytes: unsigned(11),
        row_security: row.get(6),
        indexes: Vec::new(),
    };
    // Constraints of foreign tables are a promise that nobody checks.
    let unchecked = kind == RelationKind::Foreign || unsigned(13) > 0;
    Ok((relation, unchecked))
}

/// Number, name, type, modifier, SELECT allowed, never NULL, collation, declared dimensions of an array.
fn columns_sql(not_null_binds_nobody: bool, children_may_differ: bool) -> String {
    let required = if not_null_binds_nobody {
        "false"
    } else if children_may_differ {
        // A child of a plain table may have dropped the constraint that its parent still has.
        "a.attnotnull AND NOT EXISTS (
            WITH RECURSIVE tree(relid) AS (
                SELECT a.attrelid
                UNION
                SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN tree ON i.inhparent = tree.relid
            )
            SELECT FROM tree JOIN pg_catalog.pg_attribute x ON x.attrelid = tree.relid
            WHERE x.attname = a.attname AND NOT x.attisdropped AND NOT x.attnotnull)"
    } else {
        "a.attnotnull"
    };
    // From PostgreSQL 18 on, a NOT NULL constraint may be there without having been checked yet.
    format!(
        "SELECT a.attnum, a.attname::text, a.atttypid, a.atttypmod, has_column_privilege(a.attrelid, a.attnum, 'SELECT'),
                {required} AND NOT EXISTS (
                    SELECT FROM pg_catalog.pg_constraint k
                    WHERE k.conrelid = a.attrelid AND k.contype = 'n' AND NOT k.convalidated AND a.attnum = ANY (k.conkey)),
                quote_ident(cn.nspname) || '.' || quote_ident(co.collname), a.attndims::int2
         FROM pg_catalog.pg_attribute a
         LEFT JOIN pg_catalog.pg_collation co ON co.oid = a.attcollation
         LEFT JOIN pg_catalog.pg_namespace cn ON cn.oid = co.collnamespace
         WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped
         ORDER BY a.attnum"
    )
}

/// Complete B-tree indexes over plain columns, in the order in which the column's own comparison sorts.
///
/// A partial index does not see every row, an index in another operator class or collation sorts otherwise, and columns
/// behind INCLUDE are not part of the key.
const INDEXES: &str = "
SELECT ic.relname::text, i.indisprimary, i.indisunique, key.columns
FROM pg_catalog.pg_index i
JOIN pg_catalog.pg_class ic ON ic.oid = i.indexrelid
JOIN pg_catalog.pg_am am ON am.oid = ic.relam
CROSS JOIN LATERAL (
    SELECT array_agg(a.attname::text ORDER BY k.ord) AS columns,
           bool_and(o.opcdefault AND i.indcollation[k.ord - 1] = a.attcollation) AS ordinary
    FROM unnest(i.indkey::int2[]) WITH ORDINALITY k(attnum, ord)
    JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
    JOIN pg_catalog.pg_opclass o ON o.oid = i.indclass[k.ord - 1]
    WHERE k.ord <= i.indnkeyatts
) key
WHERE i.indrelid = $1 AND am.amname = 'btree' AND i.indisvalid AND i.indisready AND i.indislive
  AND i.indpred IS NULL AND i.indexprs IS NULL AND key.ordinary
ORDER BY i.indisprimary DESC, i.indisunique DESC, i.indnkeyatts, ic.relname";

fn indexes_of(rows: &[Row], columns: &[SourceColumn]) -> Vec<Index> {
    let mut indexes: Vec<Index> = rows
        .iter()
        .map(|row| Index { name: row.get(0), primary: row.get(1), unique: row.get(2), columns: row.get(3) })
        .collect();
    let nullable = |name: &String| columns.iter().any(|source| source.column.name == *name && source.column.nullable);
    // Stable: within a rank the server's order stays.
    indexes.sort_by_key(|index| (!index.primary, !index.unique, index.columns.iter().any(nullable)));
    indexes
}

async fn of_query(
    client: &Client,
    selection: &Selection,
    text: &str,
    overrides: &BTreeMap<String, ColumnType>,
) -> Result<Described> {
    let from = format!("({}\n) AS q", query::body(text)?);
    // Prepared and never executed.
    let statement = client.prepare(&format!("SELECT * FROM {from} LIMIT 0")).await;
    let statement = statement.map_err(|error| failed(error, "query"))?;
    if !statement.params().is_empty() {
        return Err(Error::new(ErrorKind::ConfigInvalid, "the query has parameters ($1), which nothing fills in")
            .with_hint("Write the values into the query, or use ${NAME} in the configuration."));
    }
    let mut seen = HashSet::new();
    if let Some(twice) = statement.columns().iter().find(|column| !seen.insert(column.name())) {
        let what = format!("the query returns two columns named {:?}", twice.name());
        return Err(Error::new(ErrorKind::ConfigInvalid, what).with_hint("Give each column its own name with AS."));
    }
    let (oids, typmods): (Vec<u32>, Vec<i32>) =
        statement.columns().iter().map(|column| (column.type_().oid(), column.type_modifier())).unzip();
    let types_sql = types_of::sql("SELECT * FROM unnest($1, $2)");
    let rows = client.query_typed(&types_sql, &[(&oids, Type::OID_ARRAY), (&typmods, Type::INT4_ARRAY)]).await;
    let rows = rows.map_err(|error| failed(error, "query"))?;
    let types = types_of::Types::read(&rows).map_err(|error| failed(error, "query"))?;
    let columns: Result<Vec<SourceColumn>> = statement
        .columns()
        .iter()
        .map(|column| {
            let source = types.resolve(column.type_().oid(), column.type_modifier())?;
            source_column(column.name().to_owned(), source, 0, true, None, overrides, &types)
        })
        .collect();
    Ok(Described { selection: selection.clone(), relation: None, columns: columns?, from })
}

fn source_column(
    name: String,
    mut source: SourceType,
    dimensions: u8,
    nullable: bool,
    collation: Option<String>,
    overrides: &BTreeMap<String, ColumnType>,
    types: &types_of::Types,
) -> Result<SourceColumn> {
    let mapping =
        types::map(&source, dimensions, overrides.get(&name)).map_err(|error| error.at(format!("column {name:?}")))?;
    // `format_type` knows of one pair of brackets, whatever the declaration says.
    if source.element.is_some() {
        source.name.push_str(&"[]".repeat(usize::from(dimensions.max(1)) - 1));
    }
    let bound = types::underlying(&source);
    Ok(SourceColumn {
        bound_type: types.bare_name(bound),
        bound_kind: bound.typtype,
        bound_is_array: bound.element.is_some(),
        collation,
        column: Column { column_type: mapping.column_type.clone(), nullable, source_type: source.name.clone(), name },
        mapping,
        source,
    })
}

async fn missing(client: &Client, selection: &Selection, name: &str) -> Error {
    let error = Error::new(ErrorKind::SourceMissing, format!("there is no table {:?}", selection.label()));
    let names = "SELECT n.nspname::text, c.relname::text FROM pg_catalog.pg_class c
                 JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
                 WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname !~ '^(pg_|information_schema$)' LIMIT 5000";
    // Only for the hint: when it fails as well, the message stands without one.
    let Ok(rows) = client.query_typed(names, &[]).await else { return error };
    let known: Vec<(String, String)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    let Some(near) = nearest(name, known.iter().map(|(_, name)| name.as_str())) else { return error };
    match known.iter().find(|(_, name)| name == near) {
        Some((schema, name)) => {
            error.with_hint(format!("Is it {name:?} in schema {schema:?}? Names are case-sensitive as written."))
        }
        None => error,
    }
}

/// The known name that is most like `name`, if any is alike at all.
fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let folded = name.to_lowercase();
    let scored = known.map(|other| (strsim::jaro_winkler(&folded, &other.to_lowercase()), other));
    scored.filter(|(score, _)| *score >= 0.8).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, other)| other)
}

/// Classifies what the driver or the server reported, and names the place.
pub(super) fn failed(error: tokio_postgres::Error, context: &str) -> Error {
    fault::from_driver(error).at(context)
}

//! By what the server orders the columns of a key, and in which version of that.

use super::super::catalog::{Described, failed};
use super::super::sql::{ident, literal};
use crate::error::Result;
use crate::run::plan::{KeyColumn, KeyOrdering};
use tokio_postgres::Client;

/// From here on the server tells the version of a database's own locale.
const DATABASE_VERSION_SINCE: u32 = 150_000;

/// The collations of the key's columns, with the versions that the libraries of this server have now. Columns without a
/// collation are left out. One round trip, and none where the catalog has shown that no column has one; of a query's
/// columns it shows nothing.
///
/// # Errors
/// Whatever the server says.
pub async fn ordering(
    client: &Client,
    described: &Described,
    key: &[KeyColumn],
    server_version: u32,
) -> Result<Vec<KeyOrdering>> {
    let plain = |key: &KeyColumn| described.column(&key.name).is_ok_and(|column| column.collation.is_none());
    if described.relation.is_some() && key.iter().all(plain) {
        return Ok(Vec::new());
    }
    let rows = client.query_typed(&statement(described, key, server_version), &[]).await;
    let rows = rows.map_err(|error| failed(error, &described.selection.label()))?;
    let ordering =
        rows.iter().map(|row| KeyOrdering { column: row.get(0), collation: row.get(1), version: row.get(2) });
    Ok(ordering.collect())
}

fn statement(described: &Described, key: &[KeyColumn], server_version: u32) -> String {
    let listed = |item: &dyn Fn(usize, &KeyColumn) -> String| {
        key.iter().enumerate().map(|(i, column)| item(i, column)).collect::<Vec<_>>().join(", ")
    };
    let own = listed(&|i, column| format!("{} AS k{i}", ident(&column.name)));
    let nulls = listed(&|_, column| format!("NULL::{}", column.type_name));
    // Asked about a type that has no collations, the function raises an error.
    let asked = listed(&|i, column| {
        let collations = "SELECT typcollation FROM pg_catalog.pg_type WHERE oid = pg_typeof(k";
        let name = literal(&column.name);
        format!("({i}, {name}, CASE WHEN ({collations}{i})::oid) <> 0 THEN pg_collation_for(k{i}) END)")
    });
    let of_database = if server_version >= DATABASE_VERSION_SINCE {
        "pg_database_collation_actual_version(d.oid)"
    } else {
        // The locales of one operating system all come in one version.
        "CASE WHEN d.datcollate NOT IN ('C', 'POSIX') THEN
            (SELECT max(pg_collation_actual_version(x.oid)) FROM pg_catalog.pg_collation x
             WHERE x.collprovider = 'c' AND x.collencoding IN (-1, d.encoding)) END"
    };
    // The empty branch lends the columns' own collations. The column that holds a database's locale has changed its name
    // twice.
    format!(
        "SELECT key.name, CASE WHEN c.collprovider = 'd'
                    THEN 'default ' || coalesce(to_jsonb(d) ->> 'datlocale', to_jsonb(d) ->> 'daticulocale', d.datcollate)
                    ELSE n.nspname::text || '.' || c.collname END,
                CASE WHEN c.collprovider = 'd' THEN {of_database} ELSE pg_collation_actual_version(c.oid) END
         FROM (SELECT {own} FROM {} WHERE false UNION ALL SELECT {nulls}) AS k
         CROSS JOIN LATERAL (VALUES {asked}) AS key(place, name, named)
         JOIN pg_catalog.pg_collation c ON c.oid = key.named::regcollation
         JOIN pg_catalog.pg_namespace n ON n.oid = c.collnamespace
         JOIN pg_catalog.pg_database d ON d.datname = current_database()
         ORDER BY key.place",
        described.from
    )
}

//! One exported snapshot, shared by all sessions of a run.

use super::catalog::failed;
use super::sql::literal;
use crate::error::{Error, ErrorKind, Result};
use tokio_postgres::{Client, SimpleQueryMessage, SimpleQueryRow};

/// A snapshot that this session holds open and others can join.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenSnapshot {
    /// What `pg_export_snapshot()` returned. Valid while the session's transaction is open.
    pub id: String,
    /// WAL position, read just *before* the snapshot was taken: whoever replays changes from here on sees some that the
    /// snapshot holds already, but misses none that were written later.
    pub lsn: String,
    /// `pg_current_snapshot()`. Longer than 2 KiB (hundreds of open transactions), it is replaced by the older
    /// snapshot `xmin:xmin:`, which sees less: a reader that asks for what was not visible gets more, never less.
    pub visible: String,
    /// The server's version, as it prints it.
    pub server: String,
    pub standby: bool,
}

const LSN: &str = "SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() \
                   ELSE pg_current_wal_insert_lsn() END::text, pg_is_in_recovery(), current_setting('server_version')";

const OPEN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; \
                    SELECT pg_export_snapshot(), pg_current_snapshot()::text";

/// Begins the transaction that holds a run's snapshot, and exports it. One round trip.
///
/// # Errors
/// Whatever the server says; the session is outside a transaction then.
pub async fn open(client: &Client) -> Result<OpenSnapshot> {
    // Both requests are on their way before the first answer is awaited, in this order.
    let (before, opened) = futures_util::future::join(client.simple_query(LSN), client.simple_query(OPEN)).await;
    let (before, opened) = match (before, opened) {
        (Ok(before), Ok(opened)) => (before, opened),
        (Err(error), _) | (_, Err(error)) => return Err(rolled_back(client, error).await),
    };
    let (before, opened) = (only_row(&before)?, only_row(&opened)?);
    Ok(OpenSnapshot {
        id: text(opened, 0)?,
        lsn: text(before, 0)?,
        visible: bounded(text(opened, 1)?),
        server: text(before, 2)?,
        standby: text(before, 1)? == "t",
    })
}

/// Begins a transaction in the snapshot `id`. One round trip.
///
/// # Errors
/// `SourceSnapshotLost` when the session that exported it is gone. The session is outside a transaction then.
pub async fn join(client: &Client, id: &str) -> Result<()> {
    // The statement takes no parameters, so the identifier is checked to be what the server makes: 00000003-0000001B-1.
    if id.is_empty() || id.len() > 64 || !id.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-') {
        return Err(Error::new(ErrorKind::Internal, format!("{id:?} is not the identifier of a snapshot")));
    }
    let begin = format!("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT '{id}'");
    let Err(error) = client.batch_execute(&begin).await else { return Ok(()) };
    Err(rolled_back(client, error).await.at(format_args!("snapshot {id}")))
}

/// Lets names in this transaction mean what they mean to the session that opened the snapshot: the default of a role or a
/// database may have changed since, and a query names relations without their schemas.
///
/// # Errors
/// Whatever the server says.
pub async fn look_in(client: &Client, search_path: &str) -> Result<()> {
    let set = format!("SELECT pg_catalog.set_config('search_path', {}, true)", literal(search_path));
    client.batch_execute(&set).await.map_err(|error| failed(error, "while the search path was set"))
}

/// Ends the transaction of [`open`] or [`join`].
///
/// # Errors
/// Whatever the server says.
pub async fn close(client: &Client) -> Result<()> {
    client.batch_execute("COMMIT").await.map_err(|error| failed(error, "while the snapshot was closed"))
}

/// Bytes that this database has written to temporary files so far, over all sessions. The server counts a transaction's
/// share when it ends, and shows a transaction the same number throughout: ask before [`open`] and after [`close`].
/// `None` where the server does not tell.
pub async fn temp_bytes(client: &Client) -> Option<i64> {
    let asked = "SELECT temp_bytes::text FROM pg_catalog.pg_stat_database WHERE datname = current_database()";
    let answer = client.simple_query(asked).await.ok()?;
    text(only_row(&answer).ok()?, 0).ok()?.parse().ok()
}

async fn rolled_back(client: &Client, error: tokio_postgres::Error) -> Error {
    // When this fails as well the connection is gone, and the first error says why.
    let _ = client.batch_execute("ROLLBACK").await;
    failed(error, "while a snapshot was opened")
}

/// An event has to fit in 4 KiB.
fn bounded(visible: String) -> String {
    if visible.len() <= 2048 {
        return visible;
    }
    let xmin = visible.split(':').next().unwrap_or_default();
    format!("{xmin}:{xmin}:")
}

fn only_row(messages: &[SimpleQueryMessage]) -> Result<&SimpleQueryRow> {
    let row = messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    row.ok_or_else(|| Error::new(ErrorKind::SourceProtocol, "the server answered a snapshot statement without a row"))
}

fn text(row: &SimpleQueryRow, column: usize) -> Result<String> {
    let value = row.try_get(column).map_err(|error| failed(error, "while a snapshot was opened"))?;
    // A standby that has replayed nothing has no position yet.
    Ok(value.unwrap_or("0/0").to_owned())
}

#[cfg(test)]
mod tests {
    use super::bounded;

    #[test]
    fn a_list_of_transactions_too_long_for_an_event_becomes_an_older_snapshot() {
        assert_eq!(bounded("10:20:10,14".to_owned()), "10:20:10,14");
        let long = format!("1000:99999:{}", vec!["1234567"; 400].join(","));
        assert_eq!(bounded(long), "1000:1000:");
    }
}

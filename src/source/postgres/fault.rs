//! From what the driver, the server and the socket report to the one table of [`ErrorKind`]s.
//!
//! The server's own text and SQLSTATE are kept: they are what one searches for. A message never holds the password,
//! because neither the server nor the driver ever puts it in one.

use crate::error::{Error, ErrorKind, is_system_limit};
use std::error::Error as _;
use std::io;
use tokio_postgres::error::DbError;

/// What the text of an error says about bytes that are no text.
pub const NOT_IN_ITS_ENCODING: &str = "(SQLSTATE 22021)";

/// Classifies a failure on an established connection.
pub fn from_driver(error: tokio_postgres::Error) -> Error {
    if let Some(report) = error.as_db_error() {
        return from_server(report);
    }
    if error.is_closed() {
        return Error::new(ErrorKind::SourceLost, "the connection to the server was closed");
    }
    if let Some(cause) = error.source().and_then(|cause| cause.downcast_ref::<io::Error>()) {
        let kind = match cause.kind() {
            io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => ErrorKind::SourceProtocol,
            _ => ErrorKind::SourceLost,
        };
        return Error::new(kind, format!("the connection to the server broke: {cause}"));
    }
    let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
    // The driver keeps its kinds to itself; its texts are all there is to tell them apart.
    let text = error.to_string();
    let kind = match text.as_str() {
        "error performing TLS handshake" => ErrorKind::SourceTls,
        "authentication error" | "invalid configuration" => ErrorKind::SourceAuth,
        "unexpected message from server" | "error parsing response from server" => ErrorKind::SourceProtocol,
        _ => ErrorKind::SourceQuery,
    };
    Error::new(kind, format!("{text}{cause}"))
}

/// Classifies a failure while a connection to `place` is being made.
pub fn from_connecting(error: tokio_postgres::Error, place: &str) -> Error {
    let tls = error.to_string() == "error performing TLS handshake";
    let classified = from_driver(error);
    let kind = match classified.kind() {
        // A handshake that fails on the certificate surfaces as an I/O error inside a TLS error.
        _ if tls => ErrorKind::SourceTls,
        ErrorKind::SourceLost | ErrorKind::SourceProtocol => ErrorKind::SourceUnreachable,
        other => other,
    };
    Error::new(kind, classified.what()).at(format_args!("connecting to {place}"))
}

/// Classifies an I/O error of the socket while a connection to `place` is being made.
pub fn from_socket(error: &io::Error, place: &str) -> Error {
    let kind = if is_system_limit(error) { ErrorKind::SystemLimit } else { ErrorKind::SourceUnreachable };
    Error::new(kind, format!("connecting to {place}: {error}"))
}

/// Classifies an error that the server reported.
pub fn from_server(report: &DbError) -> Error {
    let code = report.code().code();
    let kind = kind_of(code, report.message(), report.routine().unwrap_or_default());
    // A message about data repeats the value that it is about.
    let message = match (code, code.get(..2)) {
        // `… for encoding "UTF8": 0xe9`
        ("22021", _) => report.message().split(": 0x").next().unwrap_or_default().to_owned(),
        (_, Some("22")) => without_values(report.message()),
        _ => report.message().to_owned(),
    };
    let mut what = format!("{message} (SQLSTATE {code})");
    // Details of these classes describe the server's state; those of others may quote rows.
    if let (Some(detail), Some("40" | "53" | "57")) = (report.detail(), code.get(..2)) {
        what = format!("{what}: {detail}");
    }
    let error = Error::new(kind, what);
    match code.get(..2) {
        _ if code == "22021" => error.with_hint(
            "The server does not say which column it is. Deliver it as its bytes with `columns: {NAME: binary}`.",
        ),
        Some("53") if code != "53300" => {
            error.with_hint("The server is short of memory, disk or locks; try again when it is not.")
        }
        _ => error,
    }
}

/// Cuts out what is quoted, in whichever language: from the first quotation mark to the last one, because the value may
/// have some of its own.
fn without_values(message: &str) -> String {
    const MARKS: [char; 8] = ['"', '«', '»', '„', '“', '”', '‹', '›'];
    let (Some(first), Some(last)) = (message.find(MARKS), message.rfind(MARKS)) else { return message.to_owned() };
    let end = last + message[last..].chars().next().map_or(0, char::len_utf8);
    // A cast's subject comes last, or first: `value "…" is out of range for type integer`.
    let quoted = message[first..end].trim_matches(MARKS).trim();
    format!("{}text of {} characters{}", &message[..first], quoted.chars().count(), &message[end..])
}

/// The table. `routine` is the server's function that raised the error: unlike the text it is never translated.
fn kind_of(code: &str, message: &str, routine: &str) -> ErrorKind {
    let says = |word: &str| message.contains(word);
    match code {
        "57014" if says("statement timeout") => ErrorKind::SourceTimeout,
        "57014" if says("lock timeout") => ErrorKind::SourceLocked,
        "57014" => ErrorKind::SourceConflict,
        "25P04" => ErrorKind::SourceTimeout,
        "57P01" | "57P02" | "57P05" | "25P03" => ErrorKind::SourceLost,
        "57P03" => ErrorKind::SourceStarting,
        "57P04" | "3D000" => ErrorKind::SourceMissing,
        "55P03" => ErrorKind::SourceLocked,
        "53300" => ErrorKind::SourceTooManyConnections,
        "72000" => ErrorKind::SourceSnapshotLost,
        "22023" | "55000" | "42704"
            if says("snapshot") || matches!(routine, "ImportSnapshot" | "SetTransactionSnapshot") =>
        {
            ErrorKind::SourceSnapshotLost
        }
        // `time zone "…" not recognized`
        "22023" if matches!(routine, "DecodeDateTime" | "DateTimeParseError") => ErrorKind::SourceValue,
        "42P01" | "42703" | "42704" | "3F000" => ErrorKind::SourceMissing,
        "42501" => ErrorKind::SourceDenied,
        // What a cast finds no room for, or cannot read.
        "22003" | "22007" | "22008" | "22009" | "22015" | "22018" | "22021" | "22P02" | "22P03" => {
            ErrorKind::SourceValue
        }
        "0A000" => ErrorKind::SourceUnsupported,
        "08P01" => ErrorKind::SourceProtocol,
        _ => match code.get(..2) {
            Some("08") => ErrorKind::SourceLost,
            Some("28") => ErrorKind::SourceAuth,
            Some("40" | "53" | "57") => ErrorKind::SourceConflict,
            _ => ErrorKind::SourceQuery,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_an_administrator_and_a_lock_are_told_apart() {
        let timeout = kind_of("57014", "canceling statement due to statement timeout", "ProcessInterrupts");
        assert_eq!(timeout, ErrorKind::SourceTimeout);
        let cancel = kind_of("57014", "canceling statement due to user request", "ProcessInterrupts");
        assert_eq!(cancel, ErrorKind::SourceConflict);
        assert_eq!(kind_of("55P03", "canceling statement due to lock timeout", ""), ErrorKind::SourceLocked);
        assert_eq!(kind_of("57P01", "terminating connection", ""), ErrorKind::SourceLost);
        assert_eq!(kind_of("40001", "conflict with recovery", ""), ErrorKind::SourceConflict);
    }

    #[test]
    fn a_lost_snapshot_is_recognised_in_any_language() {
        assert_eq!(kind_of("22023", "invalid snapshot identifier: \"x\"", ""), ErrorKind::SourceSnapshotLost);
        assert_eq!(kind_of("22023", "ungültiger Bezeichner", "ImportSnapshot"), ErrorKind::SourceSnapshotLost);
        assert_eq!(kind_of("22023", "invalid value for parameter", "set_config"), ErrorKind::SourceQuery);
    }

    #[test]
    fn classes_without_an_own_row_fall_to_their_family() {
        assert_eq!(kind_of("53200", "out of memory", ""), ErrorKind::SourceConflict);
        assert_eq!(kind_of("28P01", "password authentication failed", ""), ErrorKind::SourceAuth);
        assert_eq!(kind_of("22012", "division by zero", ""), ErrorKind::SourceQuery);
        assert_eq!(kind_of("22003", "smallint out of range", ""), ErrorKind::SourceValue);
        assert_eq!(kind_of("", "", ""), ErrorKind::SourceQuery);
    }

    #[test]
    fn a_message_about_data_does_not_repeat_it() {
        let cut = [
            (
                "invalid input syntax for type integer: \"s3cr3t\"",
                "invalid input syntax for type integer: text of 6 characters",
            ),
            (
                "value \"99 \"x\" 9\" is out of range for type integer",
                "value text of 8 characters is out of range for type integer",
            ),
            (
                "Wert »s3cr3t« ist außerhalb des gültigen Bereichs",
                "Wert text of 6 characters ist außerhalb des gültigen Bereichs",
            ),
            ("syntaxe invalide : « s3cr3t »", "syntaxe invalide : text of 6 characters"),
            ("smallint out of range", "smallint out of range"),
            ("\"", "text of 0 characters"),
        ];
        for (message, expected) in cut {
            assert_eq!(without_values(message), expected);
        }
    }
}

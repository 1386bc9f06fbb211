//! Wall times as people read them.

/// RFC 3339 in UTC with milliseconds, for manifests and screens.
pub fn rfc3339(wall_ms: i64) -> String {
    match jiff::Timestamp::from_millisecond(wall_ms) {
        Ok(time) => format!("{time:.3}"),
        // Beyond the year 9999: the clock is wrong, and saying so is better than failing over a note.
        Err(_) => format!("{wall_ms} ms since 1970"),
    }
}

//! Numbers and times as people read them.

use std::time::Duration;

/// `1,234,567`
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// `1 row`, `2 rows`
pub fn counted(n: u64, noun: &str) -> String {
    let plural = if n == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", count(n))
}

/// `512 B`, `1.4 MB`: powers of 1024, three digits.
pub fn bytes(n: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KB", "MB", "GB", "TB", "PB"];
    let mut value = n as f64;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    match unit {
        0 => format!("{n} B"),
        _ if value < 9.995 => format!("{value:.2} {}", UNITS[unit]),
        _ if value < 99.95 => format!("{value:.1} {}", UNITS[unit]),
        _ => format!("{value:.0} {}", UNITS[unit]),
    }
}

/// `840 ms`, `4.2 s`, `3 min 05 s`, `2 h 07 min`
pub fn duration(time: Duration) -> String {
    let ms = time.as_millis();
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..60_000 => format!("{:.1} s", ms as f64 / 1e3),
        60_000..3_600_000 => format!("{} min {:02} s", ms / 60_000, ms / 1_000 % 60),
        _ => format!("{} h {:02} min", ms / 3_600_000, ms / 60_000 % 60),
    }
}

/// What passes in a second; `None` where the time is too short to say.
pub fn per_second(amount: u64, time: Duration) -> Option<u64> {
    let seconds = time.as_secs_f64();
    (seconds >= 0.001).then(|| (amount as f64 / seconds) as u64)
}

/// Milliseconds since 1970 as `2026-01-31 12:34:56`, in UTC.
pub fn instant(wall_ms: i64) -> String {
    match jiff::Timestamp::from_millisecond(wall_ms) {
        Ok(time) => time.strftime("%Y-%m-%d %H:%M:%S").to_string(),
        Err(_) => "-".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well_at_every_size() {
        assert_eq!([0, 999, 1000, 1234567].map(count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(
            [0, 999, 1000, 1024, 1536, 10 << 20, 999 << 20, u64::MAX].map(bytes),
            ["0 B", "999 B", "0.98 KB", "1.00 KB", "1.50 KB", "10.0 MB", "999 MB", "16384 PB"]
        );
        let times = [0, 999, 1_000, 59_949, 61_000, 3_599_999, 7_620_000].map(Duration::from_millis).map(duration);
        assert_eq!(times, ["0 ms", "999 ms", "1.0 s", "59.9 s", "1 min 01 s", "59 min 59 s", "2 h 07 min"]);
        assert_eq!(instant(0), "1970-01-01 00:00:00");
        assert_eq!(instant(i64::MAX), "-");
        assert_eq!(per_second(10, Duration::ZERO), None);
        assert_eq!((counted(1, "row"), counted(0, "row")), ("1 row".to_owned(), "0 rows".to_owned()));
    }
}

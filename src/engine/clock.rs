//! The only place where an export reads a clock for its events.

use crate::failpoint;
use crate::journal::Stamp;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Wall time for people, monotonic time for durations. Nothing is ordered by either: order is the sequence number.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    started: Instant,
}

impl Clock {
    pub fn start() -> Self {
        Clock { started: Instant::now() }
    }

    pub fn stamp(&self) -> Stamp {
        Stamp { wall_ms: wall_ms(), mono_us: self.started.elapsed().as_micros() as u64 }
    }

    pub fn elapsed_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }
}

/// Milliseconds since 1970. A clock set before that year reads as 0.
pub fn wall_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64);
    since.saturating_add(failpoint::clock_shift_ms())
}

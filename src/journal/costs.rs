//! What the journal costs a run: part of every summary.

use crate::run::event::{Durability, Recorded};
use std::time::Duration;

/// Counts and times of one opened journal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct JournalCosts {
    /// Appends that ended on the medium, of one durable event or of several together.
    pub durable_appends: u64,
    /// Events that became durable with a later one, or with a durable one of the same append.
    pub buffered_appends: u64,
    /// 99 of 100 durable appends took no longer, within an eighth. Microseconds; 0 before the first.
    pub append_p99_us: u64,
    /// Spent in appends of both kinds.
    pub time: Duration,
}

/// Durations in buckets that grow by an eighth, so that memory stays fixed however many there are.
#[derive(Debug, Clone)]
pub struct Meter {
    buckets: [u32; BUCKETS],
    flushes: u64,
    buffered: u64,
    time: Duration,
}

/// Eight to each power of two, up to 2^36 µs: 19 hours.
const BUCKETS: usize = 8 * 36;

impl Default for Meter {
    fn default() -> Self {
        Meter { buckets: [0; BUCKETS], flushes: 0, buffered: 0, time: Duration::ZERO }
    }
}

impl Meter {
    /// Notes one append of `events`, which took one flush if any of them had to be durable.
    pub fn note(&mut self, events: &[Recorded], took: Duration) {
        let durable = events.iter().filter(|recorded| recorded.event.durability() == Durability::Durable).count();
        self.buffered += (events.len() - durable) as u64;
        self.time += took;
        if durable > 0 {
            self.note_flush(took);
        }
    }

    fn note_flush(&mut self, took: Duration) {
        self.flushes += 1;
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = &mut self.buckets[bucket_of(us)];
        *bucket = bucket.saturating_add(1);
    }

    pub fn costs(&self) -> JournalCosts {
        JournalCosts {
            durable_appends: self.flushes,
            buffered_appends: self.buffered,
            append_p99_us: self.p99(),
            time: self.time,
        }
    }

    fn p99(&self) -> u64 {
        let rank = self.flushes - self.flushes / 100;
        let mut seen = 0u64;
        for (bucket, &count) in self.buckets.iter().enumerate() {
            seen += u64::from(count);
            if seen >= rank && count > 0 {
                return upper_bound(bucket);
            }
        }
        0
    }
}

/// Below eight, a bucket for each value; from there on the highest bit and the three bits after it.
fn bucket_of(us: u64) -> usize {
    if us < 8 {
        return us as usize;
    }
    let magnitude = us.ilog2() as usize;
    let eighth = (us >> (magnitude - 3)) as usize & 7;
    ((magnitude - 2) * 8 + eighth).min(BUCKETS - 1)
}

/// The largest value of a bucket.
fn upper_bound(bucket: usize) -> u64 {
    if bucket < 8 {
        return bucket as u64;
    }
    let (magnitude, eighth) = (bucket / 8 + 2, (bucket % 8) as u64);
    ((8 + eighth + 1) << (magnitude - 3)) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_duration_lies_in_a_bucket_that_is_at_most_an_eighth_wide() {
        let mut last = 0;
        for us in (0..5000).chain((13..36).flat_map(|bits| [(1u64 << bits) - 1, 1 << bits, (1 << bits) + 1])) {
            let bucket = bucket_of(us);
            assert!(bucket >= last, "{us}");
            last = bucket;
            let bound = upper_bound(bucket);
            assert!(us <= bound && bound - us <= us / 8, "{us} in a bucket up to {bound}");
        }
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn p99_is_the_time_that_one_in_a_hundred_exceeds() {
        let mut meter = Meter::default();
        assert_eq!(meter.costs(), JournalCosts::default());
        for us in 1..=1000 {
            meter.note_flush(Duration::from_micros(us));
        }
        let p99 = meter.costs().append_p99_us;
        assert!((990..=1115).contains(&p99), "{p99}");
        meter.note(&[], Duration::from_secs(1));
        assert_eq!(meter.costs().append_p99_us, p99, "what was not flushed has no part in it");
        assert_eq!(meter.costs().durable_appends, 1000);
        assert_eq!(meter.costs().time, Duration::from_secs(1));
    }
}

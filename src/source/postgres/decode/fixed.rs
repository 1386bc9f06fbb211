//! Values of fixed width, straight from the wire into their buffer.

use super::cells::{Cells, Flaw, NULL, Nulls, Problem, Special, length};

/// PostgreSQL counts days and microseconds from 2000-01-01, Arrow from 1970-01-01.
const EPOCH_DAYS: i32 = 10_957;
const EPOCH_MICROS: i64 = EPOCH_DAYS as i64 * 86_400_000_000;
pub(super) const DAY_MICROS: i64 = 86_400_000_000;

/// Why bytes are no value of the column.
pub(super) enum Odd<T> {
    /// A special value, and the nearest one that the column holds.
    Special(Special, T),
    Broken(Problem),
}

/// Decodes fields of `N` bytes; `WHOLE` is that and the four of the length, so that one comparison finds both there.
pub(super) fn decode<const N: usize, const WHOLE: usize, T: Copy + Default>(
    cells: Cells<'_>,
    nulls: &mut Nulls,
    out: &mut Vec<T>,
    read: impl Fn([u8; N]) -> Result<T, Odd<T>>,
) -> Result<(), Flaw> {
    let begun = out.len();
    out.resize(begun + cells.len(), T::default());
    let mut slots = &mut out[begun..];
    let mut cells = cells;
    loop {
        let run = decode_run::<N, WHOLE, T>(cells, slots, &read);
        nulls.valid(run);
        let Some((slot, behind)) = slots.get_mut(run..).and_then(|rest| rest.split_first_mut()) else { return Ok(()) };
        let (at, field) = cells.field(run);
        match odd(at, field, nulls, &read)? {
            Some(value) => {
                *slot = value;
                nulls.valid(1);
            }
            None => nulls.null(at)?,
        }
        (slots, cells) = (behind, cells.behind(run + 1));
    }
}

/// Decodes fields up to the first that is no ordinary value, and returns how many these are.
///
/// A function of its own, without anything rare in it: with that in its loop, a value takes twice as long.
#[inline(never)]
fn decode_run<const N: usize, const WHOLE: usize, T>(
    cells: Cells<'_>,
    slots: &mut [T],
    read: &impl Fn([u8; N]) -> Result<T, Odd<T>>,
) -> usize {
    let mut run = 0;
    for (places, slot) in cells.at.chunks(cells.stride).zip(slots) {
        let Some(at) = places.first().map(|at| *at as usize) else { break };
        let Some((length, value)) = cells.data.get(at..at + WHOLE).and_then(|whole| whole.split_first_chunk()) else {
            break;
        };
        let Some(value) = value.first_chunk().filter(|_| i32::from_be_bytes(*length) == N as i32) else { break };
        let Ok(value) = read(*value) else { break };
        *slot = value;
        run += 1;
    }
    run
}

/// A field that is no ordinary value: what takes its place, `None` for NULL.
fn odd<const N: usize, T>(
    at: u32,
    field: &[u8],
    nulls: &mut Nulls,
    read: &impl Fn([u8; N]) -> Result<T, Odd<T>>,
) -> Result<Option<T>, Flaw> {
    let length = length(field);
    let value = field.get(4..).and_then(|value| value.first_chunk()).filter(|_| length == N as i32);
    match value.map(|value| read(*value)) {
        Some(Ok(value)) => Ok(Some(value)),
        Some(Err(Odd::Special(special, nearest))) => Ok(nulls.replaced(special, at)?.then_some(nearest)),
        Some(Err(Odd::Broken(problem))) => Err(Flaw { at, problem }),
        None if length == NULL => Ok(None),
        None => Err(Flaw { at, problem: Problem::Width { expected: N, got: length } }),
    }
}

/// A byte for each; they become bits with the batch.
pub(super) fn boolean([byte]: [u8; 1]) -> Result<u8, Odd<u8>> {
    match byte {
        0 | 1 => Ok(byte),
        _ => Err(Odd::Broken(Problem::Malformed("a bool that is neither 0 nor 1"))),
    }
}

/// Days since 1970-01-01. The ends of the range stand for the infinities.
pub(super) fn date(bytes: [u8; 4]) -> Result<i32, Odd<i32>> {
    match i32::from_be_bytes(bytes) {
        i32::MIN => Err(Odd::Special(Special::MinusInfinity, FIRST_DATE)),
        i32::MAX => Err(Odd::Special(Special::Infinity, LAST_DATE)),
        days => days.checked_add(EPOCH_DAYS).ok_or(Odd::Broken(Problem::Malformed("a date beyond the calendar"))),
    }
}

/// PostgreSQL's first and last date, 4714-11-24 BC and 5874897-12-31, in days since 1970-01-01.
const FIRST_DATE: i32 = -2_451_545 + EPOCH_DAYS;
const LAST_DATE: i32 = 2_145_031_948 + EPOCH_DAYS;

/// Microseconds since 1970-01-01T00:00:00. The ends of the range stand for the infinities.
pub(super) fn timestamp(bytes: [u8; 8]) -> Result<i64, Odd<i64>> {
    match i64::from_be_bytes(bytes) {
        i64::MIN => Err(Odd::Special(Special::MinusInfinity, FIRST_TIMESTAMP)),
        i64::MAX => Err(Odd::Special(Special::Infinity, i64::MAX)),
        // PostgreSQL's last thirty years, counted from its own epoch, do not fit when counted from 1970.
        micros => micros.checked_add(EPOCH_MICROS).ok_or(Odd::Special(Special::BeyondRange, i64::MAX)),
    }
}

/// PostgreSQL's first timestamp, 4714-11-24 00:00:00 BC.
pub(super) const FIRST_TIMESTAMP: i64 = FIRST_DATE as i64 * DAY_MICROS;

/// Microseconds since midnight.
pub(super) fn time(bytes: [u8; 8]) -> Result<i64, Odd<i64>> {
    match i64::from_be_bytes(bytes) {
        micros @ 0..DAY_MICROS => Ok(micros),
        DAY_MICROS => Err(Odd::Special(Special::EndOfDay, DAY_MICROS - 1)),
        _ => Err(Odd::Broken(Problem::Malformed("a time of day beyond 24:00:00"))),
    }
}

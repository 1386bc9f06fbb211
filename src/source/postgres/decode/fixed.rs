//! Values of fixed width, straight from the wire into their buffer.

use super::cells::{Cells, Flaw, NULL, Nulls, Problem, Special, length};
use arrow::array::BooleanBufferBuilder;

/// PostgreSQL counts days and microseconds from 2000-01-01, Arrow from 1970-01-01.
const EPOCH_DAYS: i32 = 10_957;
const EPOCH_MICROS: i64 = EPOCH_DAYS as i64 * 86_400_000_000;
const DAY_MICROS: i64 = 86_400_000_000;

/// Why bytes are no value of the column.
pub(super) enum Odd<T> {
    /// A special value, and the nearest one that the column holds.
    Special(Special, T),
    Broken(Problem),
}

/// Decodes fields of `N` bytes.
#[inline(always)]
pub(super) fn decode<const N: usize, T: Copy + Default>(
    cells: Cells<'_>,
    nulls: &mut Nulls,
    out: &mut Vec<T>,
    read: impl Fn([u8; N]) -> Result<T, Odd<T>>,
) -> Result<(), Flaw> {
    out.reserve(cells.len());
    let mut valid = 0;
    for (at, field) in cells.fields() {
        let got = length(field);
        let bytes = field.get(4..).and_then(|rest| rest.first_chunk::<N>());
        match bytes {
            Some(bytes) if got == N as i32 => match read(*bytes) {
                Ok(value) => {
                    out.push(value);
                    valid += 1;
                    continue;
                }
                Err(Odd::Special(special, nearest)) => {
                    if nulls.replaced(special, at)? {
                        out.push(nearest);
                        valid += 1;
                        continue;
                    }
                }
                Err(Odd::Broken(problem)) => return Err(Flaw { at, problem }),
            },
            _ if got == NULL => {}
            _ => return Err(Flaw { at, problem: Problem::Width { expected: N, got } }),
        }
        nulls.valid(std::mem::take(&mut valid));
        nulls.null(at)?;
        out.push(T::default());
    }
    nulls.valid(valid);
    Ok(())
}

pub(super) fn decode_bool(cells: Cells<'_>, nulls: &mut Nulls, out: &mut BooleanBufferBuilder) -> Result<(), Flaw> {
    out.reserve(cells.len());
    let mut valid = 0;
    for (at, field) in cells.fields() {
        match (length(field), field.get(4)) {
            (1, Some(byte @ (0 | 1))) => {
                out.append(*byte == 1);
                valid += 1;
            }
            (1, _) => return Err(Flaw { at, problem: Problem::Malformed("a bool that is neither 0 nor 1") }),
            (NULL, _) => {
                nulls.valid(std::mem::take(&mut valid));
                nulls.null(at)?;
                out.append(false);
            }
            (got, _) => return Err(Flaw { at, problem: Problem::Width { expected: 1, got } }),
        }
    }
    nulls.valid(valid);
    Ok(())
}

pub(super) fn decode_uuid(cells: Cells<'_>, nulls: &mut Nulls, out: &mut Vec<u8>) -> Result<(), Flaw> {
    out.reserve(cells.len() * 16);
    let mut valid = 0;
    for (at, field) in cells.fields() {
        match (length(field), field.get(4..20)) {
            (16, Some(bytes)) => {
                out.extend_from_slice(bytes);
                valid += 1;
            }
            (NULL, _) => {
                nulls.valid(std::mem::take(&mut valid));
                nulls.null(at)?;
                out.extend_from_slice(&[0; 16]);
            }
            (got, _) => return Err(Flaw { at, problem: Problem::Width { expected: 16, got } }),
        }
    }
    nulls.valid(valid);
    Ok(())
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
const FIRST_TIMESTAMP: i64 = FIRST_DATE as i64 * DAY_MICROS;

/// Microseconds since midnight.
pub(super) fn time(bytes: [u8; 8]) -> Result<i64, Odd<i64>> {
    match i64::from_be_bytes(bytes) {
        micros @ 0..DAY_MICROS => Ok(micros),
        DAY_MICROS => Err(Odd::Special(Special::EndOfDay, DAY_MICROS - 1)),
        _ => Err(Odd::Broken(Problem::Malformed("a time of day beyond 24:00:00"))),
    }
}

//! Values of fixed width, straight from the wire into their buffer.

use super::cells::{Cells, Flaw, NULL, Nulls, Problem, length};
use arrow::array::BooleanBufferBuilder;

/// PostgreSQL counts days and microseconds from 2000-01-01, Arrow from 1970-01-01.
const EPOCH_DAYS: i32 = 10_957;
const EPOCH_MICROS: i64 = EPOCH_DAYS as i64 * 86_400_000_000;
const DAY_MICROS: i64 = 86_400_000_000;

/// Decodes fields of `N` bytes. `read` gives `None` for a special value, which becomes a counted NULL.
#[inline(always)]
pub(super) fn decode<const N: usize, T: Copy + Default>(
    cells: Cells<'_>,
    nulls: &mut Nulls,
    out: &mut Vec<T>,
    read: impl Fn([u8; N]) -> Result<Option<T>, Problem>,
) -> Result<(), Flaw> {
    out.reserve(cells.len());
    let mut valid = 0;
    for (at, field) in cells.fields() {
        let got = length(field);
        let bytes = field.get(4..).and_then(|rest| rest.first_chunk::<N>());
        match bytes {
            Some(bytes) if got == N as i32 => {
                if let Some(value) = read(*bytes).map_err(|problem| Flaw { at, problem })? {
                    out.push(value);
                    valid += 1;
                    continue;
                }
                if !nulls.allowed {
                    return Err(Flaw {
                        at,
                        problem: Problem::Unfit("infinity, in a column that is declared NOT NULL"),
                    });
                }
                nulls.special += 1;
            }
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
pub(super) fn date(bytes: [u8; 4]) -> Result<Option<i32>, Problem> {
    match i32::from_be_bytes(bytes) {
        i32::MIN | i32::MAX => Ok(None),
        days => days.checked_add(EPOCH_DAYS).map(Some).ok_or(Problem::Malformed("a date beyond the calendar")),
    }
}

/// Microseconds since 1970-01-01T00:00:00. The ends of the range stand for the infinities.
pub(super) fn timestamp(bytes: [u8; 8]) -> Result<Option<i64>, Problem> {
    match i64::from_be_bytes(bytes) {
        i64::MIN | i64::MAX => Ok(None),
        // PostgreSQL's last thirty years, counted from its own epoch, do not fit when counted from 1970.
        micros => micros.checked_add(EPOCH_MICROS).map(Some).ok_or(Problem::Unfit("a time after the year 294247")),
    }
}

/// Microseconds since midnight.
pub(super) fn time(bytes: [u8; 8]) -> Result<Option<i64>, Problem> {
    match i64::from_be_bytes(bytes) {
        micros @ 0..DAY_MICROS => Ok(Some(micros)),
        DAY_MICROS => Err(Problem::Unfit("24:00:00")),
        _ => Err(Problem::Malformed("a time of day beyond 24:00:00")),
    }
}

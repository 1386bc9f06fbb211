//! PostgreSQL's numeric: digits in base 10000, most significant first.
//!
//! On the wire: number of digits, weight (the exponent, in base 10000, of the first digit), sign, display scale, and the digits,
//! 16 bits each. An Arrow decimal wants the unscaled integer `value × 10^scale`.

use super::cells::{Cells, Flaw, NULL, Nulls, Problem, Special, length, value};
use super::fixed::Odd;
use arrow::datatypes::i256;

const HEADER: usize = 8;
const POSITIVE: u16 = 0x0000;
const NEGATIVE: u16 = 0x4000;
const NAN: u16 = 0xc000;
const INFINITY: u16 = 0xd000;
const MINUS_INFINITY: u16 = 0xf000;

pub(super) const TOO_WIDE: Problem = Problem::Unfit("a number that is too large");
const TOO_FINE: Problem = Problem::Unfit("a number with too many digits after the point");
const BAD_DIGIT: Problem = Problem::Malformed("a numeric with a digit beyond 9999");

const POWERS: [u64; 20] = {
    let mut powers = [1; 20];
    let mut i = 1;
    while i < 20 {
        powers[i] = powers[i - 1] * 10;
        i += 1;
    }
    powers
};

/// A numeric, taken apart.
struct Parts<'a> {
    digits: &'a [u8],
    weight: i32,
    negative: bool,
}

#[inline(always)]
fn parts(bytes: &[u8]) -> Result<Parts<'_>, Unread> {
    let Some((header, digits)) = bytes.split_first_chunk::<HEADER>() else {
        return Err(Problem::Malformed("a numeric of less than eight bytes").into());
    };
    let count = u16::from_be_bytes([header[0], header[1]]);
    let weight = i32::from(i16::from_be_bytes([header[2], header[3]]));
    let sign = u16::from_be_bytes([header[4], header[5]]);
    if digits.len() != 2 * usize::from(count) {
        return Err(Problem::Malformed("a numeric whose length disagrees with its number of digits").into());
    }
    match sign {
        POSITIVE | NEGATIVE => Ok(Parts { digits, weight, negative: sign == NEGATIVE }),
        NAN => Err(Unread::Special(Special::NotANumber)),
        INFINITY => Err(Unread::Special(Special::InfiniteNumber)),
        MINUS_INFINITY => Err(Unread::Special(Special::MinusInfiniteNumber)),
        _ => Err(Unread::Broken(Problem::Malformed("a numeric with an unknown sign"))),
    }
}

/// Why a numeric has no unscaled value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unread {
    Special(Special),
    Broken(Problem),
}

impl From<Problem> for Unread {
    fn from(problem: Problem) -> Unread {
        Unread::Broken(problem)
    }
}

impl Unread {
    /// `largest` is what an infinity is clamped to.
    #[cold]
    fn odd<T: Copy>(self, largest: T, least: T) -> Odd<T> {
        match self {
            Unread::Special(special @ Special::MinusInfiniteNumber) => Odd::Special(special, least),
            Unread::Special(special) => Odd::Special(special, largest),
            Unread::Broken(problem) => Odd::Broken(problem),
        }
    }
}

/// The common case: at most 16 digits on the wire and at most 18 in the result, so that nothing overflows an u64. `None` when
/// it is not one.
#[inline(always)]
fn unscaled_small(parts: &Parts<'_>, scale: i32) -> Option<Result<u64, Problem>> {
    let count = parts.digits.len() / 2;
    if count > 4 || 4 * (parts.weight + 1) + scale > 18 {
        return None;
    }
    let mut sum = 0;
    for pair in parts.digits.chunks_exact(2) {
        let digit = u64::from(u16::from_be_bytes([pair[0], pair[1]]));
        if digit > 9999 {
            return Some(Err(BAD_DIGIT));
        }
        sum = sum * 10_000 + digit;
    }
    // The decimal exponent of the last digit, in units of the result.
    let exponent = 4 * (parts.weight + 1 - count as i32) + scale;
    let exact = |quotient: u64, rest: u64| if rest == 0 { Ok(quotient) } else { Err(TOO_FINE) };
    Some(match exponent {
        0 => Ok(sum),
        // Constants, so that the compiler multiplies instead of dividing.
        -1 => exact(sum / 10, sum % 10),
        -2 => exact(sum / 100, sum % 100),
        -3 => exact(sum / 1000, sum % 1000),
        // At most 18 digits result, by the bound above: the exponent is in the table and the product in range.
        1..=18 => Ok(sum * POWERS[exponent as usize]),
        _ => return if sum == 0 { Some(Ok(0)) } else { None },
    })
}

/// Any numeric, into any accumulator. `step(sum, factor, digit)` is `sum × factor + digit`, `None` when that overflows.
fn unscaled<A: Copy + PartialEq>(
    parts: &Parts<'_>,
    scale: i32,
    zero: A,
    step: impl Fn(A, u64, u64) -> Option<A>,
) -> Result<A, Problem> {
    let mut sum = zero;
    let mut exponent = 4 * parts.weight + scale;
    for pair in parts.digits.chunks_exact(2) {
        let digit = u64::from(u16::from_be_bytes([pair[0], pair[1]]));
        if digit > 9999 {
            return Err(BAD_DIGIT);
        }
        sum = match exponent {
            0.. => step(sum, 10_000, digit).ok_or(TOO_WIDE)?,
            -3..0 => {
                // The scale ends inside this digit.
                let beyond = POWERS[exponent.unsigned_abs() as usize];
                if digit % beyond != 0 {
                    return Err(TOO_FINE);
                }
                step(sum, 10_000 / beyond, digit / beyond).ok_or(TOO_WIDE)?
            }
            _ if digit == 0 => sum,
            _ => return Err(TOO_FINE),
        };
        exponent -= 4;
    }
    if sum == zero {
        return Ok(zero);
    }
    // Trailing zeros are not sent. A sum that is not zero overflows long before this loop gets long.
    let mut missing = exponent + 4;
    while missing > 0 {
        let now = missing.min(4);
        sum = step(sum, POWERS[now as usize], 0).ok_or(TOO_WIDE)?;
        missing -= now;
    }
    Ok(sum)
}

fn step_i128(sum: i128, factor: u64, digit: u64) -> Option<i128> {
    sum.checked_mul(i128::from(factor))?.checked_add(i128::from(digit))
}

fn step_i256(sum: i256, factor: u64, digit: u64) -> Option<i256> {
    sum.checked_mul(i256::from_i128(i128::from(factor)))?.checked_add(i256::from_i128(i128::from(digit)))
}

/// The unscaled value of a decimal of up to 38 digits; `limit` is 10^precision.
#[inline(always)]
fn decimal128(bytes: &[u8], scale: i32, limit: i128) -> Result<i128, Unread> {
    let parts = parts(bytes)?;
    let sum = match unscaled_small(&parts, scale) {
        Some(small) => i128::from(small?),
        None => unscaled(&parts, scale, 0, step_i128)?,
    };
    if sum >= limit {
        return Err(TOO_WIDE.into());
    }
    Ok(if parts.negative { -sum } else { sum })
}

fn decimal256(bytes: &[u8], scale: i32, limit: i256) -> Result<i256, Unread> {
    let parts = parts(bytes)?;
    let sum = match unscaled_small(&parts, scale) {
        Some(small) => i256::from_i128(i128::from(small?)),
        None => unscaled(&parts, scale, i256::ZERO, step_i256)?,
    };
    if sum >= limit {
        return Err(TOO_WIDE.into());
    }
    Ok(if parts.negative { sum.wrapping_neg() } else { sum })
}

/// PostgreSQL's NUMERIC_DSCALE_MASK: digits behind the point that can be displayed.
const MOST_DISPLAYED: usize = 0x3fff;

/// Bytes that [`push_numeric`] appends for `bytes`, at most.
pub(super) fn printed_length(bytes: &[u8]) -> usize {
    let Some(&[_, _, w0, w1, _, _, s0, s1]) = bytes.first_chunk::<HEADER>() else { return 0 };
    let weight = i16::from_be_bytes([w0, w1]);
    let display_scale = usize::from(u16::from_be_bytes([s0, s1]));
    // Sign, digits before the point, the point, digits behind it; or the word for an infinity.
    1 + 4 * usize::try_from(i32::from(weight.max(0)) + 1).unwrap_or(0) + 1 + display_scale.min(MOST_DISPLAYED) + 8
}

/// Appends a numeric as `numeric_out` prints it: all digits before the point, and as many behind it as its display scale says.
pub(super) fn push_numeric(out: &mut Vec<u8>, bytes: &[u8]) -> Result<(), Problem> {
    let parts = match parts(bytes) {
        Ok(parts) => parts,
        Err(Unread::Special(special)) => {
            out.extend_from_slice(match special {
                Special::InfiniteNumber => b"Infinity",
                Special::MinusInfiniteNumber => b"-Infinity",
                _ => b"NaN",
            });
            return Ok(());
        }
        Err(Unread::Broken(problem)) => return Err(problem),
    };
    let display_scale = bytes.get(6..8).map_or(0, |scale| usize::from(u16::from_be_bytes([scale[0], scale[1]])));
    if display_scale > MOST_DISPLAYED {
        return Err(Problem::Malformed("a numeric with an impossible display scale"));
    }
    let count = (parts.digits.len() / 2) as i32;
    let digit = |exponent: i32| {
        let index = parts.weight - exponent;
        match parts.digits.get(2 * index.max(0) as usize..) {
            Some([high, low, ..]) if index >= 0 && index < count => u16::from_be_bytes([*high, *low]),
            _ => 0,
        }
    };
    if parts.digits.chunks_exact(2).any(|pair| u16::from_be_bytes([pair[0], pair[1]]) > 9999) {
        return Err(BAD_DIGIT);
    }
    if parts.negative {
        out.push(b'-');
    }
    let begun = out.len();
    for exponent in (0..=parts.weight.max(0)).rev() {
        push_digits(out, digit(exponent), out.len() > begun);
    }
    if out.len() == begun {
        out.push(b'0');
    }
    if display_scale > 0 {
        out.push(b'.');
        let point = out.len();
        let mut exponent = -1;
        while out.len() - point < display_scale {
            push_digits(out, digit(exponent), true);
            exponent -= 1;
        }
        out.truncate(point + display_scale);
    }
    Ok(())
}

/// The four decimal digits of one in base 10000; without leading zeros where none are wanted.
#[inline(always)]
fn push_digits(out: &mut Vec<u8>, digit: u16, with_zeros: bool) {
    let decimals = [digit / 1000, digit / 100 % 10, digit / 10 % 10, digit % 10].map(|decimal| b'0' + decimal as u8);
    let skipped = match digit {
        _ if with_zeros => 0,
        0 => 4,
        1..10 => 3,
        10..100 => 2,
        100..1000 => 1,
        _ => 0,
    };
    out.extend_from_slice(&decimals[skipped..]);
}

/// What all values of a decimal column share.
#[derive(Clone, Copy)]
pub(super) struct Decimal {
    pub precision: u8,
    pub scale: u8,
}

impl Decimal {
    pub fn decode128(self, cells: Cells<'_>, nulls: &mut Nulls, out: &mut Vec<i128>) -> Result<(), Flaw> {
        let limit = 10_i128.checked_pow(u32::from(self.precision)).unwrap_or(i128::MAX);
        let scale = i32::from(self.scale);
        decode(cells, nulls, out, 0, |bytes| {
            decimal128(bytes, scale, limit).map_err(|unread| unread.odd(limit - 1, 1 - limit))
        })
    }

    pub fn decode256(self, cells: Cells<'_>, nulls: &mut Nulls, out: &mut Vec<i256>) -> Result<(), Flaw> {
        let limit = i256::from_i128(10).checked_pow(u32::from(self.precision)).unwrap_or(i256::MAX);
        let scale = i32::from(self.scale);
        let (largest, least) = (limit.wrapping_sub(i256::ONE), i256::ONE.wrapping_sub(limit));
        decode(cells, nulls, out, i256::ZERO, |bytes| {
            decimal256(bytes, scale, limit).map_err(|unread| unread.odd(largest, least))
        })
    }
}

/// Numbers without a fraction, from `least` to `largest`.
pub(super) fn decode_whole(
    cells: Cells<'_>,
    nulls: &mut Nulls,
    out: &mut Vec<i64>,
    (least, largest): (i64, i64),
) -> Result<(), Flaw> {
    decode(cells, nulls, out, 0, |bytes| {
        let whole = decimal128(bytes, 0, i128::MAX).map_err(|unread| unread.odd(largest, least))?;
        let whole = i64::try_from(whole).ok().filter(|whole| (least..=largest).contains(whole));
        whole.ok_or(Odd::Broken(TOO_WIDE))
    })
}

#[inline(always)]
fn decode<T: Copy>(
    cells: Cells<'_>,
    nulls: &mut Nulls,
    out: &mut Vec<T>,
    zero: T,
    read: impl Fn(&[u8]) -> Result<T, Odd<T>>,
) -> Result<(), Flaw> {
    out.reserve(cells.len());
    let mut valid = 0;
    for (at, field) in cells.fields() {
        let length = length(field);
        if length != NULL {
            match read(value(field, length)) {
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
            }
        }
        nulls.valid(std::mem::take(&mut valid));
        nulls.null(at)?;
        out.push(zero);
    }
    nulls.valid(valid);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(weight: i16, sign: u16, digits: &[u16]) -> Vec<u8> {
        let mut bytes = (digits.len() as u16).to_be_bytes().to_vec();
        bytes.extend(weight.to_be_bytes());
        bytes.extend(sign.to_be_bytes());
        bytes.extend(0_u16.to_be_bytes());
        digits.iter().for_each(|digit| bytes.extend(digit.to_be_bytes()));
        bytes
    }

    fn read(scale: i32, bytes: &[u8]) -> Result<i128, Unread> {
        let narrow = decimal128(bytes, scale, 10_i128.pow(38));
        let wide = decimal256(bytes, scale, i256::from_i128(10).checked_pow(76).unwrap());
        if let Ok(narrow) = narrow {
            assert_eq!(wide, Ok(i256::from_i128(narrow)), "both widths agree");
        }
        narrow
    }

    #[test]
    fn digits_weight_and_scale_make_the_unscaled_value() {
        assert_eq!(read(2, &wire(1, POSITIVE, &[1, 2345, 6700])), Ok(1_234_567)); // 12345.67
        assert_eq!(read(2, &wire(1, NEGATIVE, &[1, 2345, 6700])), Ok(-1_234_567));
        assert_eq!(read(0, &wire(0, POSITIVE, &[7])), Ok(7));
        assert_eq!(read(3, &wire(-1, POSITIVE, &[500])), Ok(50)); // 0.05
        assert_eq!(read(2, &wire(2, POSITIVE, &[1])), Ok(10_000_000_000)); // 100000000.00
        assert_eq!(read(0, &wire(0, POSITIVE, &[])), Ok(0));
        assert_eq!(read(10, &wire(-3, POSITIVE, &[100])), Ok(1)); // 0.0000000001
    }

    #[test]
    fn the_largest_decimals_take_the_wide_path() {
        let nines = wire(9, POSITIVE, &[99, 9999, 9999, 9999, 9999, 9999, 9999, 9999, 9999, 9999]);
        assert_eq!(read(0, &nines), Ok(10_i128.pow(38) - 1));
        // 0.9999… with 37 digits after the point: the last digit is cut by the scale.
        let fine = wire(-1, POSITIVE, &[9999, 9999, 9999, 9999, 9999, 9999, 9999, 9999, 9999, 9000]);
        assert_eq!(read(37, &fine), Ok(10_i128.pow(37) - 1));
    }

    #[test]
    fn a_value_that_does_not_fit_is_refused_and_never_rounded() {
        assert_eq!(read(0, &wire(0, POSITIVE, &[1, 500])), Err(Unread::Broken(TOO_FINE))); // 1.05
        assert_eq!(read(1, &wire(0, POSITIVE, &[1, 500])), Err(Unread::Broken(TOO_FINE)));
        assert_eq!(read(2, &wire(0, POSITIVE, &[1, 50])), Err(Unread::Broken(TOO_FINE))); // 1.005
        assert_eq!(read(3, &wire(0, POSITIVE, &[1, 5])), Err(Unread::Broken(TOO_FINE))); // 1.0005
        assert_eq!(read(0, &wire(0, POSITIVE, &[1, 0, 0, 0, 0, 1])), Err(Unread::Broken(TOO_FINE)));
        assert_eq!(decimal128(&wire(0, POSITIVE, &[100]), 0, 100), Err(Unread::Broken(TOO_WIDE)));
        assert_eq!(read(0, &wire(32767, POSITIVE, &[1])), Err(Unread::Broken(TOO_WIDE)));
        assert_eq!(read(0, &wire(-32768, POSITIVE, &[1])), Err(Unread::Broken(TOO_FINE)));
    }

    #[test]
    fn special_and_broken_values_are_named() {
        assert_eq!(read(2, &wire(0, NAN, &[])), Err(Unread::Special(Special::NotANumber)));
        assert_eq!(read(2, &wire(0, INFINITY, &[])), Err(Unread::Special(Special::InfiniteNumber)));
        assert_eq!(read(2, &wire(0, MINUS_INFINITY, &[])), Err(Unread::Special(Special::MinusInfiniteNumber)));
        assert!(matches!(read(2, &wire(0, 0x1234, &[])), Err(Unread::Broken(Problem::Malformed(_)))));
        assert_eq!(read(2, &wire(0, POSITIVE, &[10_000])), Err(Unread::Broken(BAD_DIGIT)));
        assert!(matches!(read(2, &[0, 1, 0, 0, 0, 0, 0, 0]), Err(Unread::Broken(Problem::Malformed(_)))));
        assert!(matches!(read(2, &[0]), Err(Unread::Broken(Problem::Malformed(_)))));
    }
}

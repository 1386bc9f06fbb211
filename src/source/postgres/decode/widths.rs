//! Overrides of fixed width: numbers and dates that are delivered in another type than they are sent in.
//!
//! The server could convert them, but its error names neither the column nor the row.

use super::cells::{Cells, Flaw, Nulls, Problem, Special};
use super::fixed::{self, DAY_MICROS, Odd};
use super::numeric::{Decimal, TOO_WIDE};
use crate::run::schema::ColumnType;
use crate::source::postgres::types::Wire;
use arrow::datatypes::i256;

/// The form on the wire, where it is not the column's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sent {
    Int2,
    Int4,
    Int8,
    /// Four and eight bytes, unsigned.
    Oid,
    Xid8,
    Float4,
    Date,
}

impl Sent {
    /// `None` for a pair that is read as it is sent, and for one of which nothing is known here.
    pub fn of(wire: &Wire, column_type: &ColumnType) -> Option<Sent> {
        use ColumnType as C;
        match (wire, column_type) {
            (Wire::Int2, C::Int32 | C::Int64 | C::Decimal { .. } | C::Float32 | C::Float64) => Some(Sent::Int2),
            (Wire::Int4, C::Int16 | C::Int64 | C::Decimal { .. } | C::Float64) => Some(Sent::Int4),
            (Wire::Int8, C::Int16 | C::Int32 | C::Decimal { .. }) => Some(Sent::Int8),
            (Wire::Oid, C::Int16 | C::Int32 | C::Int64 | C::Decimal { .. }) => Some(Sent::Oid),
            (Wire::Xid8, C::Int16 | C::Int32 | C::Int64 | C::Decimal { .. }) => Some(Sent::Xid8),
            (Wire::Float4, C::Float64) => Some(Sent::Float4),
            (Wire::Date, C::Timestamp | C::TimestampUtc) => Some(Sent::Date),
            _ => None,
        }
    }

    /// Bytes of a value on the wire.
    pub fn width(self) -> u32 {
        match self {
            Sent::Int2 => 2,
            Sent::Int4 | Sent::Oid | Sent::Float4 | Sent::Date => 4,
            Sent::Int8 | Sent::Xid8 => 8,
        }
    }

    /// Whole numbers that `T` has room for, or a flaw.
    pub fn whole<T: Copy + Default + TryFrom<i128>>(
        self,
        cells: Cells<'_>,
        nulls: &mut Nulls,
        out: &mut Vec<T>,
    ) -> Result<(), Flaw> {
        self.converted(cells, nulls, out, |whole| T::try_from(whole).ok())
    }

    pub fn decimal128(
        self,
        cells: Cells<'_>,
        nulls: &mut Nulls,
        out: &mut Vec<i128>,
        decimal: Decimal,
    ) -> Result<(), Flaw> {
        let power = |digits: u8| 10_i128.checked_pow(u32::from(digits)).unwrap_or(i128::MAX);
        let (factor, limit) = (power(decimal.scale), power(decimal.precision));
        self.converted(cells, nulls, out, |whole| {
            whole.checked_mul(factor).filter(|unscaled| -limit < *unscaled && *unscaled < limit)
        })
    }

    pub fn decimal256(
        self,
        cells: Cells<'_>,
        nulls: &mut Nulls,
        out: &mut Vec<i256>,
        decimal: Decimal,
    ) -> Result<(), Flaw> {
        let power = |digits: u8| i256::from_i128(10).checked_pow(u32::from(digits)).unwrap_or(i256::MAX);
        let (factor, limit) = (power(decimal.scale), power(decimal.precision));
        self.converted(cells, nulls, out, |whole| {
            let unscaled = i256::from_i128(whole).checked_mul(factor);
            unscaled.filter(|unscaled| limit.wrapping_neg() < *unscaled && *unscaled < limit)
        })
    }

    /// Whole numbers by way of one type that holds them all; `None` where the column has no room.
    fn converted<T: Copy + Default>(
        self,
        cells: Cells<'_>,
        nulls: &mut Nulls,
        out: &mut Vec<T>,
        convert: impl Fn(i128) -> Option<T>,
    ) -> Result<(), Flaw> {
        let convert = |whole: i128| convert(whole).ok_or(Odd::Broken(TOO_WIDE));
        match self {
            Sent::Int2 => {
                fixed::decode::<2, 6, _>(cells, nulls, out, |bytes| convert(i16::from_be_bytes(bytes).into()))
            }
            Sent::Int4 => {
                fixed::decode::<4, 8, _>(cells, nulls, out, |bytes| convert(i32::from_be_bytes(bytes).into()))
            }
            Sent::Int8 => {
                fixed::decode::<8, 12, _>(cells, nulls, out, |bytes| convert(i64::from_be_bytes(bytes).into()))
            }
            Sent::Oid => fixed::decode::<4, 8, _>(cells, nulls, out, |bytes| convert(u32::from_be_bytes(bytes).into())),
            Sent::Xid8 => {
                fixed::decode::<8, 12, _>(cells, nulls, out, |bytes| convert(u64::from_be_bytes(bytes).into()))
            }
            Sent::Float4 | Sent::Date => Err(STRANGE),
        }
    }

    /// Numbers that a float holds to the last digit.
    pub fn float32(self, cells: Cells<'_>, nulls: &mut Nulls, out: &mut Vec<f32>) -> Result<(), Flaw> {
        match self {
            Sent::Int2 => fixed::decode::<2, 6, _>(cells, nulls, out, |bytes| Ok(i16::from_be_bytes(bytes).into())),
            _ => Err(STRANGE),
        }
    }

    pub fn float64(self, cells: Cells<'_>, nulls: &mut Nulls, out: &mut Vec<f64>) -> Result<(), Flaw> {
        match self {
            Sent::Int2 => fixed::decode::<2, 6, _>(cells, nulls, out, |bytes| Ok(i16::from_be_bytes(bytes).into())),
            Sent::Int4 => fixed::decode::<4, 8, _>(cells, nulls, out, |bytes| Ok(i32::from_be_bytes(bytes).into())),
            Sent::Float4 => fixed::decode::<4, 8, _>(cells, nulls, out, |bytes| Ok(f32::from_be_bytes(bytes).into())),
            _ => Err(STRANGE),
        }
    }

    /// Microseconds since 1970-01-01T00:00:00.
    pub fn timestamp(self, cells: Cells<'_>, nulls: &mut Nulls, out: &mut Vec<i64>) -> Result<(), Flaw> {
        match self {
            Sent::Date => fixed::decode::<4, 8, _>(cells, nulls, out, midnight),
            _ => Err(STRANGE),
        }
    }
}

/// Of a pair that [`Sent::of`] does not make.
pub(super) const STRANGE: Flaw = Flaw { at: 0, problem: Problem::Malformed("a value of another kind than its column") };

/// PostgreSQL's last timestamp is at the end of 294276-12-31: dates go on, and are nothing that a timestamp could be.
const LAST_DAY_OF_TIMESTAMPS: i32 = 106_762_939;

/// The first moment of a day, with the same special values as a timestamp has.
fn midnight(bytes: [u8; 4]) -> Result<i64, Odd<i64>> {
    match fixed::date(bytes) {
        Ok(days) if days > LAST_DAY_OF_TIMESTAMPS => {
            Err(Odd::Broken(Problem::Unfit("a date after the year 294276, where timestamps end")))
        }
        Ok(days) => i64::from(days).checked_mul(DAY_MICROS).ok_or(Odd::Special(Special::BeyondRange, i64::MAX)),
        Err(Odd::Special(Special::MinusInfinity, _)) => {
            Err(Odd::Special(Special::MinusInfinity, fixed::FIRST_TIMESTAMP))
        }
        Err(Odd::Special(special, _)) => Err(Odd::Special(special, i64::MAX)),
        Err(Odd::Broken(problem)) => Err(Odd::Broken(problem)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_midnight_as_far_as_timestamps_go() {
        let at = |days: i32| match midnight(days.to_be_bytes()) {
            Ok(micros) => micros.to_string(),
            Err(Odd::Special(special, nearest)) => format!("{} {nearest}", special.word()),
            Err(Odd::Broken(problem)) => format!("{problem:?}"),
        };
        assert_eq!(at(-10_957), "0");
        assert_eq!(at(0), "946684800000000");
        // 294247-01-10 and the day after it, in days since 2000.
        assert_eq!(at(106_751_991 - 10_957), "9223372022400000000");
        assert_eq!(at(106_751_992 - 10_957), format!("beyond_range {}", i64::MAX));
        assert_eq!(at(LAST_DAY_OF_TIMESTAMPS - 10_957), format!("beyond_range {}", i64::MAX));
        assert!(at(LAST_DAY_OF_TIMESTAMPS - 10_956).contains("294276"));
        assert_eq!(at(i32::MAX), format!("infinity {}", i64::MAX));
        assert_eq!(at(i32::MIN), format!("minus_infinity {}", fixed::FIRST_TIMESTAMP));
    }

    #[test]
    fn only_pairs_that_differ_are_converted() {
        assert_eq!(Sent::of(&Wire::Int2, &ColumnType::Int16), None);
        assert_eq!(Sent::of(&Wire::Int4, &ColumnType::Float32), None, "a float32 has 24 bits");
        assert_eq!(Sent::of(&Wire::Int8, &ColumnType::Int16), Some(Sent::Int8));
    }
}

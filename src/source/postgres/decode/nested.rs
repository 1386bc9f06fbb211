//! Values made of several: composites, ranges, intervals, hstore and vectors.
//!
//! The parts of a value lie inside it as if they were fields of a row, so that each part has a column of its own, which runs over
//! its cells like any other. A part that is missing is a cell at [`NOWHERE`].

use super::bytes::{Bytes, Form, roomy};
use super::cells::{Cells, Flaw, NOWHERE, NULL, Nulls, Problem, Special, SpecialPolicy, length, value};
use super::column::Column;
use super::list::{clear, values_of};
use arrow::array::{
    ArrayRef, BooleanArray, BooleanBufferBuilder, Float32Array, Int32Array, Int64Array, ListArray, MapArray,
    StructArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, FieldRef, Fields};
use std::sync::Arc;

/// A composite value: the number of fields, then for each its type, its length and its bytes (`record_send`).
pub(super) struct Record {
    pub fields: Vec<Column>,
    arrow: Fields,
    /// For each field its positions in the block.
    at: Vec<Vec<u32>>,
}

impl Record {
    pub fn new(fields: Vec<Column>, arrow: Fields) -> Record {
        let at = fields.iter().map(|_| Vec::new()).collect();
        Record { fields, arrow, at }
    }

    pub fn size(&self) -> usize {
        self.fields.iter().map(Column::size).sum()
    }

    /// Arrow bytes that the fields of `value` take, at most.
    pub fn room(&self, value: &[u8]) -> usize {
        let parts = self.fields.iter().zip(values_of(value, 4, 4));
        parts.map(|(field, part)| field.room(part)).fold(0, usize::saturating_add)
    }

    pub fn decode(&mut self, cells: Cells<'_>, nulls: &mut Nulls) -> Result<(), Flaw> {
        self.at.iter_mut().for_each(clear);
        for (at, cell) in cells.fields() {
            let length = length(cell);
            if length == NULL {
                nulls.null(at)?;
                self.at.iter_mut().for_each(|positions| positions.push(NOWHERE));
            } else {
                self.take(value(cell, length), at + 4).map_err(|problem| Flaw { at, problem })?;
                nulls.valid(1);
            }
        }
        for (field, at) in self.fields.iter_mut().zip(&self.at) {
            field.decode(Cells { data: cells.data, at, stride: 1 })?;
        }
        Ok(())
    }

    fn take(&mut self, record: &[u8], start: u32) -> Result<(), Problem> {
        const BROKEN: Problem = Problem::Malformed("a composite value of another length than its fields");
        let int = |at: usize| record.get(at..at + 4)?.first_chunk().map(|bytes| i32::from_be_bytes(*bytes));
        if int(0).and_then(|count| usize::try_from(count).ok()) != Some(self.fields.len()) {
            return Err(Problem::Malformed("a composite value of another number of fields"));
        }
        let mut position = 4;
        for positions in &mut self.at {
            // Behind the field's type.
            position += 4;
            positions.push(start + position as u32);
            position += match int(position).ok_or(BROKEN)? {
                NULL => 4,
                length => 4 + usize::try_from(length).map_err(|_| BROKEN)?,
            };
            if position > record.len() {
                return Err(BROKEN);
            }
        }
        if position == record.len() { Ok(()) } else { Err(BROKEN) }
    }

    /// # Errors
    /// The first row, counted within the batch, that holds text which is not UTF-8.
    pub fn finish(&mut self, nulls: Option<NullBuffer>) -> Result<ArrayRef, usize> {
        let fields = self.fields.iter_mut().map(Column::finish).collect::<Result<Vec<_>, _>>()?;
        structure(&self.arrow, fields, nulls)
    }
}

/// A range: a byte of flags, then the ends that it has, each with its length (`range_send`).
pub(super) struct Range {
    pub ends: [Column; 2],
    arrow: Fields,
    at: [Vec<u32>; 2],
    /// lower_inc, upper_inc, empty
    flags: [BooleanBufferBuilder; 3],
}

/// `RANGE_*` of PostgreSQL's rangetypes.h.
const EMPTY: u8 = 0x01;
const INCLUSIVE: [u8; 2] = [0x02, 0x04];
const INFINITE: [u8; 2] = [0x08, 0x10];

impl Range {
    pub fn new(ends: [Column; 2], arrow: Fields) -> Range {
        Range {
            ends,
            arrow,
            at: [Vec::new(), Vec::new()],
            flags: std::array::from_fn(|_| BooleanBufferBuilder::new(0)),
        }
    }

    pub fn size(&self) -> usize {
        self.ends.iter().map(Column::size).sum::<usize>() + 3 * self.flags[0].len() / 8
    }

    /// Arrow bytes that the ends of `value` take, at most.
    pub fn room(&self, value: &[u8]) -> usize {
        let end = &self.ends[0];
        values_of(value, 1, 0).take(2).map(|part| end.room(part)).fold(2 * end.null_bytes(), usize::saturating_add)
    }

    pub fn decode(&mut self, cells: Cells<'_>, nulls: &mut Nulls) -> Result<(), Flaw> {
        self.at.iter_mut().for_each(clear);
        for (at, cell) in cells.fields() {
            let length = length(cell);
            if length == NULL {
                nulls.null(at)?;
                self.at.iter_mut().for_each(|positions| positions.push(NOWHERE));
                self.flags.iter_mut().for_each(|flag| flag.append(false));
            } else {
                self.take(value(cell, length), at + 4).map_err(|problem| Flaw { at, problem })?;
                nulls.valid(1);
            }
        }
        for (end, at) in self.ends.iter_mut().zip(&self.at) {
            end.decode(Cells { data: cells.data, at, stride: 1 })?;
        }
        Ok(())
    }

    fn take(&mut self, range: &[u8], start: u32) -> Result<(), Problem> {
        const BROKEN: Problem = Problem::Malformed("a range of another length than its ends");
        let flags = *range.first().ok_or(Problem::Malformed("a range without flags"))?;
        let mut position = 1;
        for (positions, infinite) in self.at.iter_mut().zip(INFINITE) {
            if flags & (EMPTY | infinite) != 0 {
                positions.push(NOWHERE);
                continue;
            }
            let length = range.get(position..).and_then(|rest| rest.first_chunk()).ok_or(BROKEN)?;
            positions.push(start + position as u32);
            // An end that is there is never NULL.
            position += 4 + usize::try_from(i32::from_be_bytes(*length)).map_err(|_| BROKEN)?;
        }
        let [lower_inc, upper_inc, empty] = &mut self.flags;
        lower_inc.append(flags & INCLUSIVE[0] != 0);
        upper_inc.append(flags & INCLUSIVE[1] != 0);
        empty.append(flags & EMPTY != 0);
        if position == range.len() { Ok(()) } else { Err(BROKEN) }
    }

    /// # Errors
    /// The first row, counted within the batch, that holds text which is not UTF-8.
    pub fn finish(&mut self, nulls: Option<NullBuffer>) -> Result<ArrayRef, usize> {
        let mut arrays = self.ends.iter_mut().map(Column::finish).collect::<Result<Vec<_>, _>>()?;
        let flags = self.flags.iter_mut().map(|flag| Arc::new(BooleanArray::new(flag.finish(), None)) as ArrayRef);
        arrays.extend(flags);
        structure(&self.arrow, arrays, nulls)
    }
}

/// An interval: microseconds, days, months (`interval_send`).
pub(super) struct Interval {
    arrow: Fields,
    months: Vec<i32>,
    days: Vec<i32>,
    micros: Vec<i64>,
}

impl Interval {
    pub fn new(arrow: Fields) -> Interval {
        Interval { arrow, months: Vec::new(), days: Vec::new(), micros: Vec::new() }
    }

    pub fn size(&self) -> usize {
        16 * self.micros.len()
    }

    pub fn decode(&mut self, cells: Cells<'_>, nulls: &mut Nulls) -> Result<(), Flaw> {
        for (at, cell) in cells.fields() {
            let (micros, days, months) = match (length(cell), cell.get(4..).and_then(|rest| rest.first_chunk::<16>())) {
                (16, Some(&[a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p])) => (
                    i64::from_be_bytes([a, b, c, d, e, f, g, h]),
                    i32::from_be_bytes([i, j, k, l]),
                    i32::from_be_bytes([m, n, o, p]),
                ),
                (NULL, _) => {
                    nulls.null(at)?;
                    self.push(0, 0, 0);
                    continue;
                }
                (got, _) => return Err(Flaw { at, problem: Problem::Width { expected: 16, got } }),
            };
            // Since PostgreSQL 17 the ends of the range stand for the infinities, as in dates.
            let special = match (micros, days, months) {
                (i64::MIN, i32::MIN, i32::MIN) => Some(Special::MinusInfinity),
                (i64::MAX, i32::MAX, i32::MAX) => Some(Special::Infinity),
                _ => None,
            };
            match special {
                // Clamped, an infinite interval is the longest there is: the same numbers.
                Some(special) if !nulls.replaced(special, at)? => {
                    nulls.null(at)?;
                    self.push(0, 0, 0);
                }
                _ => {
                    nulls.valid(1);
                    self.push(micros, days, months);
                }
            }
        }
        Ok(())
    }

    fn push(&mut self, micros: i64, days: i32, months: i32) {
        self.micros.push(micros);
        self.days.push(days);
        self.months.push(months);
    }

    pub fn finish(&mut self, nulls: Option<NullBuffer>) -> Result<ArrayRef, usize> {
        let rows = roomy(self.micros.len());
        let ints = |values: &mut Vec<i32>| {
            Arc::new(Int32Array::from(std::mem::replace(values, Vec::with_capacity(rows)))) as ArrayRef
        };
        let (months, days) = (ints(&mut self.months), ints(&mut self.days));
        let micros = Int64Array::from(std::mem::replace(&mut self.micros, Vec::with_capacity(rows)));
        structure(&self.arrow, vec![months, days, Arc::new(micros)], nulls)
    }
}

/// hstore: the number of pairs, then for each a key and a value, both with their lengths (`hstore_send`).
pub(super) struct Hstore {
    entries: FieldRef,
    keys: Bytes,
    values: Bytes,
    value_nulls: Nulls,
    offsets: Vec<i32>,
    at: [Vec<u32>; 2],
}

impl Hstore {
    pub fn new(entries: FieldRef) -> Hstore {
        let text = || Bytes::new(Form::Plain, true);
        let (value_nulls, at) = (Nulls::new(true, SpecialPolicy::Usual), [Vec::new(), Vec::new()]);
        Hstore { entries, keys: text(), values: text(), value_nulls, offsets: vec![0], at }
    }

    pub fn size(&self) -> usize {
        self.keys.size() + self.values.size() + 4 * self.offsets.len()
    }

    pub fn decode(&mut self, cells: Cells<'_>, nulls: &mut Nulls) -> Result<(), Flaw> {
        self.at.iter_mut().for_each(clear);
        let before = self.offsets.last().copied().unwrap_or(0);
        if before as usize + cells.data.len() / 8 > i32::MAX as usize {
            let at = cells.at.first().copied().unwrap_or_default();
            return Err(Flaw { at, problem: Problem::Overfull });
        }
        for (at, cell) in cells.fields() {
            let length = length(cell);
            if length == NULL {
                nulls.null(at)?;
            } else {
                self.take(value(cell, length), at + 4).map_err(|problem| Flaw { at, problem })?;
                nulls.valid(1);
            }
            self.offsets.push(before + self.at[0].len() as i32);
        }
        let mut keys_have_no_nulls = Nulls::new(false, SpecialPolicy::Usual);
        self.keys.decode(Cells { data: cells.data, at: &self.at[0], stride: 1 }, &mut keys_have_no_nulls)?;
        self.values.decode(Cells { data: cells.data, at: &self.at[1], stride: 1 }, &mut self.value_nulls)
    }

    fn take(&mut self, hstore: &[u8], start: u32) -> Result<(), Problem> {
        const BROKEN: Problem = Problem::Malformed("an hstore of another length than its pairs");
        let int = |at: usize| hstore.get(at..at + 4)?.first_chunk().map(|bytes| i32::from_be_bytes(*bytes));
        let count = int(0).and_then(|count| usize::try_from(count).ok()).ok_or(BROKEN)?;
        let mut position = 4;
        for _ in 0..count {
            for (side, positions) in self.at.iter_mut().enumerate() {
                positions.push(start + position as u32);
                position += match int(position).ok_or(BROKEN)? {
                    NULL if side == 1 => 4,
                    length => 4 + usize::try_from(length).map_err(|_| BROKEN)?,
                };
                if position > hstore.len() {
                    return Err(BROKEN);
                }
            }
        }
        if position == hstore.len() { Ok(()) } else { Err(BROKEN) }
    }

    /// # Errors
    /// The first row, counted within the batch, that holds text which is not UTF-8.
    pub fn finish(&mut self, nulls: Option<NullBuffer>) -> Result<ArrayRef, usize> {
        let mut fresh = Vec::with_capacity(roomy(self.offsets.len()));
        fresh.push(0);
        let offsets = std::mem::replace(&mut self.offsets, fresh);
        let row_of = |entry: usize| offsets.partition_point(|&end| end as usize <= entry).saturating_sub(1);
        let keys = self.keys.finish(None).map_err(row_of)?;
        let values = self.values.finish(self.value_nulls.finish()).map_err(row_of)?;
        let DataType::Struct(fields) = self.entries.data_type() else { return Err(0) };
        let entries = StructArray::try_new(fields.clone(), vec![keys, values], None).map_err(|_| 0_usize)?;
        let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
        let map = MapArray::try_new(self.entries.clone(), offsets, entries, nulls, false);
        map.map(|map| Arc::new(map) as ArrayRef).map_err(|_| 0)
    }
}

/// pgvector's vectors: the number of dimensions, an unused field, then floats of four or of two bytes (`vector_send`,
/// `halfvec_send`).
pub(super) struct Vector {
    element: FieldRef,
    half: bool,
    offsets: Vec<i32>,
    values: Vec<f32>,
}

impl Vector {
    pub fn new(element: FieldRef, half: bool) -> Vector {
        Vector { element, half, offsets: vec![0], values: Vec::new() }
    }

    pub fn size(&self) -> usize {
        4 * (self.offsets.len() + self.values.len())
    }

    pub fn decode(&mut self, cells: Cells<'_>, nulls: &mut Nulls) -> Result<(), Flaw> {
        if self.values.len() + cells.data.len() / 2 > i32::MAX as usize {
            let at = cells.at.first().copied().unwrap_or_default();
            return Err(Flaw { at, problem: Problem::Overfull });
        }
        for (at, cell) in cells.fields() {
            let length = length(cell);
            if length == NULL {
                nulls.null(at)?;
            } else {
                self.take(value(cell, length)).map_err(|problem| Flaw { at, problem })?;
                nulls.valid(1);
            }
            self.offsets.push(self.values.len() as i32);
        }
        Ok(())
    }

    fn take(&mut self, vector: &[u8]) -> Result<(), Problem> {
        const BROKEN: Problem = Problem::Malformed("a vector of another length than its dimensions");
        let Some((&[high, low, _, _], numbers)) = vector.split_first_chunk() else { return Err(BROKEN) };
        let width = if self.half { 2 } else { 4 };
        if numbers.len() != width * usize::from(u16::from_be_bytes([high, low])) {
            return Err(BROKEN);
        }
        if self.half {
            self.values.extend(numbers.chunks_exact(2).map(|half| widened(u16::from_be_bytes([half[0], half[1]]))));
        } else {
            let floats = numbers.chunks_exact(4).filter_map(|float| float.first_chunk());
            self.values.extend(floats.map(|float| f32::from_be_bytes(*float)));
        }
        Ok(())
    }

    pub fn finish(&mut self, nulls: Option<NullBuffer>) -> Result<ArrayRef, usize> {
        let mut fresh = Vec::with_capacity(roomy(self.offsets.len()));
        fresh.push(0);
        let offsets = OffsetBuffer::new(ScalarBuffer::from(std::mem::replace(&mut self.offsets, fresh)));
        let fresh = Vec::with_capacity(roomy(self.values.len()));
        let values = Arc::new(Float32Array::from(std::mem::replace(&mut self.values, fresh)));
        let list = ListArray::try_new(self.element.clone(), offsets, values, nulls);
        list.map(|list| Arc::new(list) as ArrayRef).map_err(|_| 0)
    }
}

/// A float of 16 bits (IEEE 754 binary16), exactly.
fn widened(half: u16) -> f32 {
    let sign = u32::from(half >> 15) << 31;
    let (exponent, fraction) = (u32::from(half >> 10) & 0x1f, u32::from(half) & 0x3ff);
    match exponent {
        // Below the smallest normal number: a multiple of 2^-24, which binary32 holds as it is.
        0 => f32::from_bits(sign | (fraction as f32 / 16_777_216.0).to_bits()),
        0x1f => f32::from_bits(sign | 0x7f80_0000 | (fraction << 13)),
        _ => f32::from_bits(sign | ((exponent + 112) << 23) | (fraction << 13)),
    }
}

fn structure(fields: &Fields, arrays: Vec<ArrayRef>, nulls: Option<NullBuffer>) -> Result<ArrayRef, usize> {
    StructArray::try_new(fields.clone(), arrays, nulls).map(|array| Arc::new(array) as ArrayRef).map_err(|_| 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_become_floats_of_the_same_value() {
        let cases = [
            (0x0000, 0.0),
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x7bff, 65504.0),
            (0x0400, 6.103_515_6e-5),
            (0x0001, 5.960_464_5e-8),
            (0x83ff, -1023.0 / 16_777_216.0),
            (0x7c00, f32::INFINITY),
        ];
        for (half, float) in cases {
            assert_eq!(widened(half).to_bits(), f32::to_bits(float), "{half:#06x}");
        }
        assert!(widened(0x7e00).is_nan());
        assert_eq!(widened(0x8000).to_bits(), f32::to_bits(-0.0));
    }
}

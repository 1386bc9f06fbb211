//! Arrays become lists, one list in another for each dimension; multiranges become lists of ranges.
//!
//! An array on the wire: number of dimensions, a flag for NULL elements, the element type, for each dimension its size and lower
//! bound, then the elements, the last subscript running fastest, as if they were fields of a row. A multirange: the number of
//! ranges, then the ranges as if they were fields.

use super::bytes::roomy;
use super::cells::{Cells, Flaw, NULL, Nulls, Problem, Special, length, value};
use super::column::Column;
use arrow::array::{ArrayRef, ListArray};
use arrow::buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, FieldRef};
use std::sync::Arc;

/// How the elements of a value lie on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    Array { dimensions: usize },
    Multirange,
}

pub(super) struct List {
    layout: Layout,
    pub elements: Column,
    /// The outermost list first. Each has one list of the next one in for each of its elements.
    levels: Vec<Level>,
    /// Positions of the elements of a block, as the scanner's are of the fields.
    at: Vec<u32>,
}

struct Level {
    field: FieldRef,
    offsets: Vec<i32>,
}

/// PostgreSQL's MAXDIM.
const MOST_DIMENSIONS: usize = 6;
const HEADER: usize = 12;
const DIMENSION: usize = 8;

const SHORT: Problem = Problem::Malformed("an array that ends early");

impl List {
    /// `field` is that of the outermost list's elements. `None` when it does not have as many lists as the layout.
    pub fn new(layout: Layout, elements: Column, mut field: FieldRef) -> Option<Self> {
        let depth = match layout {
            Layout::Array { dimensions } => dimensions,
            Layout::Multirange => 1,
        };
        let mut levels = vec![Level { field: field.clone(), offsets: vec![0] }];
        while levels.len() < depth {
            let DataType::List(inner) = field.data_type() else { return None };
            field = inner.clone();
            levels.push(Level { field: field.clone(), offsets: vec![0] });
        }
        Some(List { layout, elements, levels, at: Vec::new() })
    }

    pub fn size(&self) -> usize {
        4 * self.levels.iter().map(|level| level.offsets.len()).sum::<usize>() + self.elements.size()
    }

    /// Arrow bytes that the elements of `value` take, at most.
    pub fn room(&self, value: &[u8]) -> usize {
        let start = match self.layout {
            Layout::Array { dimensions } => HEADER + DIMENSION * dimensions,
            Layout::Multirange => 4,
        };
        values_of(value, start, 0).map(|element| self.elements.room(element)).fold(0, usize::saturating_add)
    }

    pub fn decode(&mut self, cells: Cells<'_>, nulls: &mut Nulls) -> Result<(), Flaw> {
        clear(&mut self.at);
        let innermost = self.levels.last().and_then(|level| level.offsets.last()).copied().unwrap_or(0);
        // Every element takes four bytes and more.
        if innermost as usize + cells.data.len() / 4 > i32::MAX as usize {
            let at = cells.at.first().copied().unwrap_or_default();
            return Err(Flaw { at, problem: Problem::Overfull });
        }
        for (at, field) in cells.fields() {
            let length = length(field);
            if length == NULL {
                nulls.null(at)?;
                self.close(0);
                continue;
            }
            let taken = match self.layout {
                Layout::Array { dimensions } => self.take_array(value(field, length), at + 4, dimensions, nulls),
                Layout::Multirange => self.take_multirange(value(field, length), at + 4),
            };
            taken.map_err(|problem| Flaw { at, problem })?;
            nulls.valid(1);
        }
        self.elements.decode(Cells { data: cells.data, at: &self.at, stride: 1 })
    }

    /// Ends a list of the outermost level that got `count` elements in this row.
    fn close(&mut self, count: usize) {
        if let Some(level) = self.levels.first_mut() {
            let before = level.offsets.last().copied().unwrap_or(0);
            // In range: there are no more lists than elements, of which `decode` made sure.
            level.offsets.push(before + count as i32);
        }
    }

    /// `start` is the position of the array itself.
    fn take_array(&mut self, array: &[u8], start: u32, dimensions: usize, nulls: &mut Nulls) -> Result<(), Problem> {
        let have = usize::try_from(int(array, 0).ok_or(SHORT)?).unwrap_or(usize::MAX);
        if have == 0 && array.len() == HEADER {
            self.close(0);
            return Ok(());
        }
        if have == 0 || have > MOST_DIMENSIONS {
            return Err(Problem::Malformed("an array of an impossible number of dimensions"));
        }
        if have != dimensions {
            return Err(Problem::Dimensions { have, declared: dimensions });
        }
        let mut sizes = [1_usize; MOST_DIMENSIONS];
        let mut shifted = false;
        for (i, size) in sizes.iter_mut().take(have).enumerate() {
            let at = HEADER + DIMENSION * i;
            let (Some(count), Some(lower_bound)) = (int(array, at), int(array, at + 4)) else { return Err(SHORT) };
            *size = usize::try_from(count).map_err(|_| Problem::Malformed("an array dimension of negative size"))?;
            shifted |= lower_bound != 1;
        }
        let begun = self.at.len();
        // A hostile count ends at the first element that is not there: nothing is reserved for it.
        let end = fields_of(array, HEADER + DIMENSION * have, start, &mut self.at, None)?;
        let elements = self.at.len() - begun;
        let claimed = sizes.iter().take(have).try_fold(1_usize, |product, size| product.checked_mul(*size));
        if end != array.len() || claimed != Some(elements) {
            return Err(Problem::Malformed("an array whose elements are not as many as its dimensions say"));
        }
        // The server prints it as `{}`, whatever the other dimensions claim, and sends one itself: an empty int2vector cast to an array.
        if elements == 0 {
            self.close(0);
            return Ok(());
        }
        if shifted {
            nulls.keep(Special::LowerBound)?;
        }
        self.close(sizes[0]);
        let mut lists = sizes[0];
        for (level, size) in self.levels.iter_mut().skip(1).zip(&sizes[1..]) {
            let mut last = level.offsets.last().copied().unwrap_or(0);
            for _ in 0..lists {
                last += *size as i32;
                level.offsets.push(last);
            }
            lists *= size;
        }
        Ok(())
    }

    fn take_multirange(&mut self, multirange: &[u8], start: u32) -> Result<(), Problem> {
        let count = int(multirange, 0).and_then(|count| usize::try_from(count).ok());
        let count = count.ok_or(Problem::Malformed("a multirange without a count"))?;
        let begun = self.at.len();
        let end = fields_of(multirange, 4, start, &mut self.at, Some(count))?;
        if end != multirange.len() || self.at.len() - begun != count {
            return Err(Problem::Malformed("a multirange of another length than its ranges"));
        }
        self.close(count);
        Ok(())
    }

    /// # Errors
    /// The first row, counted within the batch, that holds text which is not UTF-8.
    pub fn finish(&mut self, nulls: Option<NullBuffer>) -> Result<ArrayRef, usize> {
        let taken: Vec<(FieldRef, Vec<i32>)> = self
            .levels
            .iter_mut()
            .map(|level| {
                let mut fresh = Vec::with_capacity(roomy(level.offsets.len()));
                fresh.push(0);
                (level.field.clone(), std::mem::replace(&mut level.offsets, fresh))
            })
            .collect();
        // From an element outwards to its row.
        let row_of = |element: usize| {
            taken.iter().rev().fold(element, |inner, (_, offsets)| {
                offsets.partition_point(|&end| end as usize <= inner).saturating_sub(1)
            })
        };
        let mut values = self.elements.finish().map_err(row_of)?;
        for (level, (field, offsets)) in taken.into_iter().enumerate().rev() {
            let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
            let nulls = nulls.clone().filter(|_| level == 0);
            values = Arc::new(ListArray::try_new(field, offsets, values, nulls).map_err(|_| 0_usize)?);
        }
        Ok(values)
    }
}

fn int(bytes: &[u8], at: usize) -> Option<i32> {
    bytes.get(at..at + 4)?.first_chunk().map(|bytes| i32::from_be_bytes(*bytes))
}

/// Notes the positions of the fields that follow each other from `position` on, up to the end or to `most` of them, and
/// returns where the last one ends. `start` is the position of `bytes` in the data.
pub(super) fn fields_of(
    bytes: &[u8],
    mut position: usize,
    start: u32,
    at: &mut Vec<u32>,
    most: Option<usize>,
) -> Result<usize, Problem> {
    let first = at.len();
    while position < bytes.len() && most.is_none_or(|most| at.len() - first < most) {
        let length = int(bytes, position).ok_or(SHORT)?;
        at.push(start + position as u32);
        position += 4;
        match length {
            NULL => {}
            0.. => position += length as usize,
            _ => return Err(Problem::Malformed("an element of negative length")),
        }
        if position > bytes.len() {
            return Err(SHORT);
        }
    }
    Ok(position)
}

/// The values that lie in `bytes` from `position` on, each behind `skipped` bytes and its length; `None` is NULL. Ends before
/// what is no value.
pub(super) fn values_of(
    bytes: &[u8],
    mut position: usize,
    skipped: usize,
) -> impl Iterator<Item = Option<&[u8]>> + use<'_> {
    std::iter::from_fn(move || {
        let start = position + skipped;
        let length = int(bytes, start)?;
        let value = match length {
            NULL => None,
            _ => Some(bytes.get(start + 4..)?.get(..usize::try_from(length).ok()?)?),
        };
        position = start + 4 + value.map_or(0, <[u8]>::len);
        Some(value)
    })
}

/// Positions that a block may leave behind without giving their memory back.
const POSITIONS_KEPT: usize = 1 << 18;

/// Empties positions, and gives memory back that only an unusually large value needed.
pub(super) fn clear(at: &mut Vec<u32>) {
    at.clear();
    at.shrink_to(POSITIONS_KEPT);
}

//! Arrays of one dimension become lists.
//!
//! On the wire: number of dimensions, a flag for NULL elements, the element type, for each dimension its size and lower bound,
//! then the elements as if they were fields of a row.

use super::bytes::roomy;
use super::cells::{Cells, Flaw, NULL, Nulls, Problem, length, value};
use super::column::Column;
use arrow::array::{ArrayRef, ListArray};
use arrow::buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::FieldRef;
use std::sync::Arc;

pub(super) struct List {
    pub elements: Column,
    field: FieldRef,
    offsets: Vec<i32>,
    /// Positions of the elements of a block, as the scanner's are of the fields.
    at: Vec<u32>,
}

/// PostgreSQL's MAXDIM.
const MOST_DIMENSIONS: i32 = 6;
const NO_DIMENSION: usize = 12;
const ONE_DIMENSION: usize = 20;

impl List {
    pub fn new(elements: Column, field: FieldRef) -> Self {
        List { elements, field, offsets: vec![0], at: Vec::new() }
    }

    pub fn size(&self) -> usize {
        4 * self.offsets.len() + self.elements.size()
    }

    pub fn decode(&mut self, cells: Cells<'_>, nulls: &mut Nulls) -> Result<(), Flaw> {
        self.at.clear();
        let before = *self.offsets.last().unwrap_or(&0);
        // Every element takes four bytes and more.
        if before as usize + cells.data.len() / 4 > i32::MAX as usize {
            let at = cells.at.first().copied().unwrap_or_default();
            return Err(Flaw { at, problem: Problem::Overfull });
        }
        for (at, field) in cells.fields() {
            let length = length(field);
            if length == NULL {
                nulls.null(at)?;
            } else {
                elements_of(value(field, length), at + 4, &mut self.at).map_err(|problem| Flaw { at, problem })?;
                nulls.valid(1);
            }
            self.offsets.push(before + self.at.len() as i32);
        }
        self.elements.decode(Cells { data: cells.data, at: &self.at, stride: 1 })
    }

    /// # Errors
    /// The first row, counted within the batch, that holds text which is not UTF-8.
    pub fn finish(&mut self, nulls: Option<NullBuffer>) -> Result<ArrayRef, usize> {
        let mut fresh = Vec::with_capacity(roomy(self.offsets.len()));
        fresh.push(0);
        let offsets = std::mem::replace(&mut self.offsets, fresh);
        let row_of = |element: usize| offsets.partition_point(|&end| end as usize <= element).saturating_sub(1);
        let elements = self.elements.finish().map_err(row_of)?;
        let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
        ListArray::try_new(self.field.clone(), offsets, elements, nulls)
            .map(|list| Arc::new(list) as ArrayRef)
            .map_err(|_| 0)
    }
}

/// Adds the positions of an array's elements. `start` is the position of the array itself.
fn elements_of(array: &[u8], start: u32, at: &mut Vec<u32>) -> Result<(), Problem> {
    const SHORT: Problem = Problem::Malformed("an array that ends early");
    let int = |at: usize| array.get(at..at + 4)?.first_chunk().map(|bytes| i32::from_be_bytes(*bytes));
    match int(0).ok_or(SHORT)? {
        0 if array.len() == NO_DIMENSION => return Ok(()),
        1 => {}
        2..=MOST_DIMENSIONS => return Err(Problem::Unfit("an array of several dimensions")),
        _ => return Err(Problem::Malformed("an array of an impossible number of dimensions")),
    }
    let (Some(count), Some(lower_bound)) = (int(12), int(16)) else { return Err(SHORT) };
    if lower_bound != 1 {
        return Err(Problem::Unfit("an array whose subscripts do not begin at 1"));
    }
    // A hostile count ends at the first element that is not there: nothing is reserved for it.
    let mut position = ONE_DIMENSION;
    for _ in 0..count {
        let length = int(position).ok_or(SHORT)?;
        at.push(start + position as u32);
        position += 4;
        match length {
            NULL => {}
            0.. => position += length as usize,
            _ => return Err(Problem::Malformed("an array element of negative length")),
        }
        if position > array.len() {
            return Err(SHORT);
        }
    }
    if count < 0 || position != array.len() {
        return Err(Problem::Malformed("an array that is longer than its elements"));
    }
    Ok(())
}

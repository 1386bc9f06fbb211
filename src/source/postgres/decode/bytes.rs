//! Values of any length: one buffer of bytes, and offsets into it.

use super::cells::{Cells, Flaw, NULL, Nulls, Problem, length, value};
use super::numeric::{printed_length, push_numeric};
use arrow::array::{ArrayRef, BinaryArray, StringArray};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use std::sync::Arc;

/// How the bytes on the wire become the bytes of the column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// As they are.
    Plain,
    /// Behind jsonb's version byte.
    Jsonb,
    /// A numeric, as the server prints it.
    Numeric,
    /// `"char"`: nothing for zero, the byte itself, or `\ooo` beyond ASCII, as the server prints it.
    Char,
}

pub(super) struct Bytes {
    form: Form,
    /// Text is checked to be UTF-8, once per batch.
    text: bool,
    values: Vec<u8>,
    offsets: Vec<i32>,
}

const JSONB_VERSION: u8 = 1;

/// Values up to this size are copied in one piece of fixed size, which compiles to two moves instead of a call.
const SHORT: usize = 32;

impl Bytes {
    pub fn new(form: Form, text: bool) -> Self {
        Bytes { form, text, values: Vec::new(), offsets: vec![0] }
    }

    /// Whether a few bytes on the wire may become many.
    pub fn prints(&self) -> bool {
        self.form == Form::Numeric
    }

    /// Bytes that `value` becomes, at most.
    pub fn room(&self, value: &[u8]) -> usize {
        if self.prints() { printed_length(value) } else { value.len() }
    }

    pub fn size(&self) -> usize {
        self.values.len() + 4 * self.offsets.len()
    }

    pub fn decode(&mut self, cells: Cells<'_>, nulls: &mut Nulls) -> Result<(), Flaw> {
        // No block adds more bytes than its data has, except that a "char" may become four.
        let most = match self.form {
            Form::Plain | Form::Jsonb => cells.data.len(),
            Form::Char => 4 * cells.len(),
            // Checked number by number: a few bytes may stand for a hundred thousand digits.
            Form::Numeric => 0,
        };
        if self.values.len() + most > i32::MAX as usize {
            let at = cells.at.first().copied().unwrap_or_default();
            return Err(Flaw { at, problem: Problem::Overfull });
        }
        match self.form {
            Form::Plain => self.append(cells, nulls, push_plain),
            Form::Jsonb => self.append(cells, nulls, push_jsonb),
            Form::Char => self.append(cells, nulls, push_char),
            Form::Numeric => self.append(cells, nulls, |values, field, length| {
                push_numeric(values, value(field, length))?;
                if values.len() > i32::MAX as usize { Err(Problem::Overfull) } else { Ok(()) }
            }),
        }
    }

    #[inline(always)]
    fn append(
        &mut self,
        cells: Cells<'_>,
        nulls: &mut Nulls,
        push: impl Fn(&mut Vec<u8>, &[u8], i32) -> Result<(), Problem>,
    ) -> Result<(), Flaw> {
        self.offsets.reserve(cells.len());
        let mut valid = 0;
        for (at, field) in cells.fields() {
            let length = length(field);
            if length == NULL {
                nulls.valid(std::mem::take(&mut valid));
                nulls.null(at)?;
            } else {
                push(&mut self.values, field, length).map_err(|problem| Flaw { at, problem })?;
                valid += 1;
            }
            // In range: `decode` made sure of it for the whole block.
            self.offsets.push(self.values.len() as i32);
        }
        nulls.valid(valid);
        Ok(())
    }

    /// The column so far; what is decoded next begins a new one, in buffers of the size that this one needed.
    ///
    /// # Errors
    /// The first row, counted within the batch, that is not UTF-8.
    pub fn finish(&mut self, nulls: Option<NullBuffer>) -> Result<ArrayRef, usize> {
        let fresh = Vec::with_capacity(roomy(self.values.len()));
        let values = std::mem::replace(&mut self.values, fresh);
        let mut fresh = Vec::with_capacity(roomy(self.offsets.len()));
        fresh.push(0);
        let offsets = std::mem::replace(&mut self.offsets, fresh);
        let values = Buffer::from_vec(values);
        let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
        if !self.text {
            return BinaryArray::try_new(offsets, values, nulls)
                .map(|array| Arc::new(array) as ArrayRef)
                .map_err(|_| 0);
        }
        let (kept_values, kept_offsets) = (values.clone(), offsets.clone());
        match StringArray::try_new(offsets, values, nulls) {
            Ok(array) => Ok(Arc::new(array)),
            Err(_) => Err(first_not_utf8(&kept_values, &kept_offsets)),
        }
    }
}

/// Room for what was needed the last time, and a little more; not for what only an unusually large value needed.
pub(super) fn roomy(used: usize) -> usize {
    const MOST: usize = 1 << 20;
    (used + used / 8).min(MOST)
}

/// A buffer may be UTF-8 as a whole while its values are not: one ends inside a character that the next one completes.
fn first_not_utf8(values: &[u8], offsets: &[i32]) -> usize {
    let bad = |pair: &[i32]| {
        let value = values.get(pair[0] as usize..pair[1] as usize).unwrap_or_default();
        std::str::from_utf8(value).is_err()
    };
    offsets.windows(2).position(bad).unwrap_or_default()
}

#[inline(always)]
fn push_plain(values: &mut Vec<u8>, field: &[u8], length: i32) -> Result<(), Problem> {
    let end = values.len() + length as usize;
    match field.get(4..).and_then(|rest| rest.first_chunk::<SHORT>()) {
        Some(window) if length as usize <= SHORT => {
            values.extend_from_slice(window);
            values.truncate(end);
        }
        _ => values.extend_from_slice(value(field, length)),
    }
    Ok(())
}

fn push_jsonb(values: &mut Vec<u8>, field: &[u8], length: i32) -> Result<(), Problem> {
    match value(field, length).split_first() {
        Some((&JSONB_VERSION, text)) => {
            values.extend_from_slice(text);
            Ok(())
        }
        _ => Err(Problem::Malformed("a jsonb of unknown version")),
    }
}

fn push_char(values: &mut Vec<u8>, field: &[u8], length: i32) -> Result<(), Problem> {
    match value(field, length) {
        [0] => {}
        [byte @ 1..=0x7f] => values.push(*byte),
        [byte] => values.extend([b'\\', b'0' + (byte >> 6), b'0' + (byte >> 3 & 7), b'0' + (byte & 7)]),
        _ => return Err(Problem::Width { expected: 1, got: length }),
    }
    Ok(())
}

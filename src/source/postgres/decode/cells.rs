//! What the scanner hands to the column decoders, and what they hand back when a value is not as it should be.

use arrow::array::NullBufferBuilder;
use arrow::buffer::NullBuffer;

/// The fields of one column in a block of rows.
///
/// Each position is that of a field's four bytes of length in `data`. The scanner has seen every field whole: the length is
/// -1, for NULL, or so many bytes follow.
#[derive(Clone, Copy)]
pub(super) struct Cells<'a> {
    pub data: &'a [u8],
    /// Positions, row by row; this column's is every `stride`-th.
    pub at: &'a [u32],
    pub stride: usize,
}

impl<'a> Cells<'a> {
    pub fn len(&self) -> usize {
        self.at.len().div_ceil(self.stride)
    }

    /// The fields from their lengths on, to the end of the data.
    #[inline(always)]
    pub fn fields(&self) -> impl Iterator<Item = (u32, &'a [u8])> + use<'a> {
        let data = self.data;
        self.at.iter().step_by(self.stride).map(move |&at| (at, data.get(at as usize..).unwrap_or_default()))
    }
}

/// The length of a field.
#[inline(always)]
pub(super) fn length(field: &[u8]) -> i32 {
    field.first_chunk().map_or(NULL, |bytes| i32::from_be_bytes(*bytes))
}

/// The value of a field whose length is not negative.
#[inline(always)]
pub(super) fn value(field: &[u8], length: i32) -> &[u8] {
    field.get(4..4 + length as usize).unwrap_or_default()
}

pub(super) const NULL: i32 = -1;

/// A value that cannot be taken, and where in the data its field begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Flaw {
    pub at: u32,
    pub problem: Problem,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Problem {
    /// NULL where the column is declared to have none.
    Null,
    /// The type is sent in so many bytes, this field has others.
    Width { expected: usize, got: i32 },
    /// Bytes that the type's send function does not write.
    Malformed(&'static str),
    /// A good value of the source type for which the column has no room.
    Unfit(&'static str),
    /// The batch has grown beyond what 32-bit offsets reach.
    Overfull,
}

/// Validity of one column, without a bitmap until its first NULL.
pub(super) struct Nulls {
    bits: NullBufferBuilder,
    pub allowed: bool,
    /// Special values that were replaced by NULL.
    pub special: u64,
}

impl Nulls {
    pub fn new(allowed: bool) -> Self {
        Nulls { bits: NullBufferBuilder::new(1024), allowed, special: 0 }
    }

    #[inline(always)]
    pub fn valid(&mut self, count: usize) {
        self.bits.append_n_non_nulls(count);
    }

    #[inline(always)]
    pub fn null(&mut self, at: u32) -> Result<(), Flaw> {
        if !self.allowed {
            return Err(Flaw { at, problem: Problem::Null });
        }
        self.bits.append_null();
        Ok(())
    }

    pub fn finish(&mut self) -> Option<NullBuffer> {
        self.bits.finish()
    }
}

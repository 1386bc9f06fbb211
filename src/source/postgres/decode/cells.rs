//! What the scanner hands to the column decoders, and what they hand back when a value is not as it should be.

use arrow::buffer::{BooleanBuffer, Buffer, NullBuffer};

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

    /// Those of the rows from `row` on.
    pub fn behind(self, row: usize) -> Cells<'a> {
        Cells { at: self.at.get(row * self.stride..).unwrap_or_default(), ..self }
    }

    /// A field from its length on, to the end of the data.
    #[inline(always)]
    pub fn field(&self, row: usize) -> (u32, &'a [u8]) {
        let at = self.at.get(row * self.stride).copied().unwrap_or(NOWHERE);
        (at, self.data.get(at as usize..).unwrap_or_default())
    }

    #[inline(always)]
    pub fn fields(&self) -> impl Iterator<Item = (u32, &'a [u8])> + use<'a> {
        let cells = *self;
        (0..self.len()).map(move |row| cells.field(row))
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

/// A position beyond all data: a part of a value that is not there, and reads as NULL.
pub(super) const NOWHERE: u32 = u32::MAX;

/// Good values of the source type that the column's type has no room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Special {
    /// `NaN`, `infinity` and `-infinity` of a numeric.
    NotANumber,
    InfiniteNumber,
    MinusInfiniteNumber,
    /// `infinity` and `-infinity` of a date, a timestamp or an interval.
    Infinity,
    MinusInfinity,
    /// `24:00:00`
    EndOfDay,
    /// A timestamp after the year 294247, whose microseconds since 1970 exceed 63 bits.
    BeyondRange,
    /// Subscripts of an array that do not begin at 1, which lists cannot tell. Its elements are kept.
    LowerBound,
}

impl Special {
    pub const ALL: [Special; 8] = [
        Special::NotANumber,
        Special::InfiniteNumber,
        Special::MinusInfiniteNumber,
        Special::Infinity,
        Special::MinusInfinity,
        Special::EndOfDay,
        Special::BeyondRange,
        Special::LowerBound,
    ];

    /// The stable word under which such values are counted.
    pub fn word(self) -> &'static str {
        match self {
            Special::NotANumber => "nan",
            Special::InfiniteNumber | Special::Infinity => "infinity",
            Special::MinusInfiniteNumber | Special::MinusInfinity => "minus_infinity",
            Special::EndOfDay => "end_of_day",
            Special::BeyondRange => "beyond_range",
            Special::LowerBound => "lower_bound",
        }
    }

    /// The value, as an error names it.
    pub(super) fn shown(self) -> &'static str {
        match self {
            Special::NotANumber => "NaN",
            Special::InfiniteNumber | Special::Infinity => "infinity",
            Special::MinusInfiniteNumber | Special::MinusInfinity => "-infinity",
            Special::EndOfDay => "24:00:00",
            Special::BeyondRange => "a time after the year 294247",
            Special::LowerBound => "an array whose subscripts do not begin at 1",
        }
    }
}

/// How many special values of each kind, in the order of [`Special::ALL`].
pub type SpecialCounts = [u64; Special::ALL.len()];

/// What becomes of special values.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum SpecialPolicy {
    /// An error for numbers, NULL for dates and times; the elements of an array are kept.
    #[default]
    Usual,
    Error,
    Null,
    /// The nearest value that the column holds.
    Clamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Error,
    Null,
    Clamp,
}

impl SpecialPolicy {
    fn fate(self, special: Special) -> Fate {
        let is_number = matches!(special, Special::NotANumber | Special::InfiniteNumber | Special::MinusInfiniteNumber);
        match self {
            SpecialPolicy::Error => Fate::Error,
            // The elements are what counts; their subscripts are noted as lost.
            _ if special == Special::LowerBound => Fate::Clamp,
            SpecialPolicy::Usual if is_number => Fate::Error,
            // Nothing is near to what is no number.
            SpecialPolicy::Clamp if special == Special::NotANumber => Fate::Error,
            SpecialPolicy::Usual | SpecialPolicy::Null => Fate::Null,
            SpecialPolicy::Clamp => Fate::Clamp,
        }
    }
}

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
    /// The same, in a column that is declared NOT NULL, where NULL would have stood for it.
    UnfitForRequired(Special),
    /// An array of so many dimensions, in a column whose lists are as deep as was declared.
    Dimensions { have: usize, declared: usize },
    /// The batch has grown beyond what 32-bit offsets reach.
    Overfull,
}

/// Validity of one column, without a bitmap until its first NULL, and what became of its special values.
pub(super) struct Nulls {
    /// Bits of the rows before those of `last`, least significant first. Empty while no value is NULL.
    words: Vec<u64>,
    /// Those of the last rows, fewer than 64.
    last: u64,
    rows: usize,
    has_nulls: bool,
    allowed: bool,
    policy: SpecialPolicy,
    pub special: SpecialCounts,
}

impl Nulls {
    pub fn new(allowed: bool, policy: SpecialPolicy) -> Self {
        let (words, special) = (Vec::new(), SpecialCounts::default());
        Nulls { words, last: 0, rows: 0, has_nulls: false, allowed, policy, special }
    }

    #[inline(always)]
    pub fn valid(&mut self, count: usize) {
        if self.has_nulls {
            self.push(count);
        } else {
            self.rows += count;
        }
    }

    /// Appends so many bits that are set.
    #[inline(always)]
    fn push(&mut self, mut count: usize) {
        while count > 0 {
            let begun = self.rows % 64;
            let now = count.min(64 - begun);
            self.last |= (u64::MAX >> (64 - now)) << begun;
            self.advance(now);
            count -= now;
        }
    }

    /// Behind bits that are in `last` already, and do not go beyond it.
    #[inline(always)]
    fn advance(&mut self, count: usize) {
        self.rows += count;
        if self.rows.is_multiple_of(64) {
            self.words.push(std::mem::take(&mut self.last).to_le());
        }
    }

    #[inline(always)]
    pub fn null(&mut self, at: u32) -> Result<(), Flaw> {
        if !self.allowed {
            return Err(Flaw { at, problem: Problem::Null });
        }
        if !self.has_nulls {
            self.begin();
        }
        self.advance(1);
        Ok(())
    }

    /// The bitmap, for rows that are all valid so far.
    #[cold]
    fn begin(&mut self) {
        self.has_nulls = true;
        let rows = std::mem::take(&mut self.rows);
        self.push(rows);
    }

    /// Counts a special value. Whether the nearest value that fits takes its place; else NULL does.
    ///
    /// # Errors
    /// By policy, or because NULL is not allowed.
    #[cold]
    pub fn replaced(&mut self, special: Special, at: u32) -> Result<bool, Flaw> {
        let flaw = |problem| Err(Flaw { at, problem });
        let fate = self.policy.fate(special);
        match fate {
            Fate::Error => return flaw(Problem::Unfit(special.shown())),
            Fate::Null if !self.allowed => return flaw(Problem::UnfitForRequired(special)),
            Fate::Null | Fate::Clamp => self.special[special as usize] += 1,
        }
        Ok(fate == Fate::Clamp)
    }

    /// Counts an array whose subscripts are lost.
    ///
    /// # Errors
    /// By policy.
    #[cold]
    pub fn keep(&mut self, special: Special) -> Result<(), Problem> {
        self.replaced(special, NOWHERE).map(drop).map_err(|flaw| flaw.problem)
    }

    pub fn finish(&mut self) -> Option<NullBuffer> {
        let rows = std::mem::take(&mut self.rows);
        if !std::mem::take(&mut self.has_nulls) {
            return None;
        }
        let mut words = std::mem::take(&mut self.words);
        words.push(std::mem::take(&mut self.last).to_le());
        Some(NullBuffer::new(BooleanBuffer::new(Buffer::from_vec(words), 0, rows)))
    }
}

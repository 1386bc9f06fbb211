//! How each column is encoded: judged on the first rows of a part, corrected by its first row group.
//!
//! * A **dictionary** costs a hash look-up for each value and pays when few values repeat often. With too many of them
//!   the writer gives up half-way, and the work is lost. So the number of distinct values is estimated beforehand.
//! * **Deltas** (`DELTA_BINARY_PACKED`) store an integer in as many bits as its distance from the one before needs. On
//!   keys and timestamps that halves the file, and there is less left to compress. Decimals of up to 18 digits, dates
//!   and times are integers in Parquet too.
//! * **Delta lengths** (`DELTA_LENGTH_BYTE_ARRAY`) put the lengths of short texts in front of all their bytes instead of
//!   between them, and text compresses 5 % better.
//! * **Plain** is for everything else.
//!
//! All of these are in the Parquet format since version 2 (2013), and readers of the last years know them.
//!
//! What that brings on the three bench tables, in CPU and size for each row, against dictionaries where they pay and plain
//! values otherwise: `narrow` 90 → 38 ns and 7.3 → 4.9 bytes; `lineitem` 560 → 450 ns and 27.2 → 25.0 bytes; wide rows
//! 1 % smaller at the same cost, which is nearly all compression.

use super::checksum::row_hashes;
use crate::error::Result;
use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{self as t, DataType, TimeUnit};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnEncoding {
    /// A dictionary, and deltas where it has to be given up and the values are integers.
    Dictionary,
    Delta,
    DeltaLength,
    Plain,
}

impl ColumnEncoding {
    /// Whether parquet's encoder for it begins with a large buffer, which very wide tables cannot afford.
    pub fn has_a_buffer(self) -> bool {
        matches!(self, ColumnEncoding::Delta | ColumnEncoding::DeltaLength)
    }
}

/// Rows looked at. Enough to tell ten thousand values from a million by their collisions.
pub const SAMPLE_ROWS: usize = 16_384;

/// Fewer values than this say nothing; the Parquet writer's own rule (a dictionary until it grows too large) then holds.
const ENOUGH: usize = 256;

/// The encoding for a leaf of a column, of which these are the first values of a part.
///
/// `group_rows` is how many rows a row group is expected to hold; dictionaries do not outlive a group.
///
/// # Errors
/// `Internal`, for a type that no column of rivet's has.
pub fn choose(leaf: &ArrayRef, group_rows: usize) -> Result<ColumnEncoding> {
    let sample = leaf.slice(0, leaf.len().min(SAMPLE_ROWS));
    if matches!(sample.data_type(), DataType::Boolean | DataType::FixedSizeBinary(_)) {
        return Ok(ColumnEncoding::Plain);
    }
    let values = sample.len() - sample.null_count();
    if values < ENOUGH {
        return Ok(ColumnEncoding::Dictionary);
    }
    let group_values = (group_rows as f64) * (values as f64 / sample.len() as f64);
    let distinct = estimate_distinct(row_hashes(&sample)?, group_values);
    let plain_bits = 8.0 * average_width(&sample);
    let delta_bits = integers(&sample).map(|integers| delta_bits(&integers));
    Ok(match cheapest(distinct, plain_bits, delta_bits, group_values) {
        ColumnEncoding::Plain if is_text(&sample) && plain_bits <= 8.0 * SHORT_TEXT => ColumnEncoding::DeltaLength,
        chosen => chosen,
    })
}

/// Bytes of an average text up to which its length is worth storing elsewhere.
const SHORT_TEXT: f64 = 256.0;

fn is_text(array: &ArrayRef) -> bool {
    matches!(array.data_type(), DataType::Utf8 | DataType::Binary)
}

/// Largest dictionary, in bytes of values, that is worth building. The page limit leaves room for a bad estimate.
pub const DICTIONARY_BYTES: usize = 512 * 1024;

fn cheapest(distinct: f64, plain_bits: f64, delta_bits: Option<f64>, values: f64) -> ColumnEncoding {
    // An index of so many bits for each value, and each distinct value once.
    let index_bits = distinct.max(2.0).log2().ceil();
    let dictionary_bits = index_bits + plain_bits * distinct / values;
    let fits = distinct * plain_bits / 8.0 <= DICTIONARY_BYTES as f64;
    // Compression makes up for much of what plain and delta lose, and neither costs a look-up for each value.
    if fits && dictionary_bits <= 0.8 * delta_bits.unwrap_or(0.9 * plain_bits) {
        return ColumnEncoding::Dictionary;
    }
    match delta_bits {
        // Few values far apart: most deltas are nothing, and some of them are huge, which widens all their neighbours.
        // A compressor sees through repeated plain values, and not through packed bits.
        Some(bits) if bits > 0.5 * plain_bits && distinct < 0.25 * values => ColumnEncoding::Plain,
        Some(_) => ColumnEncoding::Delta,
        None => ColumnEncoding::Plain,
    }
}

/// Bits that a value takes in `DELTA_BINARY_PACKED`, on average: values are packed in miniblocks of 32, each with the
/// width of its largest delta over the least of its block, which is close enough to the least of the miniblock.
fn delta_bits(values: &[i64]) -> f64 {
    let deltas: Vec<i64> = values.windows(2).map(|pair| pair[1].wrapping_sub(pair[0])).collect();
    let width = |block: &[i64]| {
        let (least, most) = block.iter().fold((i64::MAX, i64::MIN), |(a, b), d| (a.min(*d), b.max(*d)));
        f64::from(64 - (most.wrapping_sub(least) as u64).leading_zeros())
    };
    let blocks = deltas.chunks(32);
    let count = blocks.len().max(1) as f64;
    // Eight bits of width for each miniblock.
    blocks.map(width).sum::<f64>() / count + 8.0 / 32.0
}

/// The values as Parquet's integers. `None` where Parquet stores something else.
#[allow(clippy::cast_lossless, reason = "one expression for every width, of which the widest unsigned one is cast")]
fn integers(array: &ArrayRef) -> Option<Vec<i64>> {
    macro_rules! values {
        ($type:ty) => {
            array.as_primitive::<$type>().iter().flatten().map(|value| value as i64).collect()
        };
    }
    Some(match array.data_type() {
        DataType::Int16 => values!(t::Int16Type),
        DataType::Int32 => values!(t::Int32Type),
        DataType::Int64 => values!(t::Int64Type),
        DataType::UInt32 => values!(t::UInt32Type),
        DataType::UInt64 => values!(t::UInt64Type),
        DataType::Date32 => values!(t::Date32Type),
        DataType::Time64(TimeUnit::Microsecond) => values!(t::Time64MicrosecondType),
        DataType::Timestamp(TimeUnit::Microsecond, _) => values!(t::TimestampMicrosecondType),
        DataType::Decimal128(precision, _) if *precision <= 18 => values!(t::Decimal128Type),
        _ => return None,
    })
}

/// Distinct values to be expected among `among` of the population that the hashes were drawn from.
///
/// Chao's estimator (1984) reads the number of unseen values off those seen once and twice. It assumes that rows come in
/// no order. Where they come sorted, as keys do, values repeat next to each other and new ones keep coming: then the
/// second half of the sample brings as many new values as the first, and so will the rest. That is also the most that
/// any column can bring.
fn estimate_distinct(hashes: Vec<u64>, among: f64) -> f64 {
    let rows = hashes.len() as f64;
    let first_half = count_runs(hashes[..hashes.len() / 2].to_vec()).distinct as f64;
    let seen = count_runs(hashes);
    let distinct = seen.distinct as f64;
    let growing_on = (distinct * among / rows).max(distinct);
    if distinct >= 1.9 * first_half {
        return growing_on;
    }
    let (once, twice) = (seen.once as f64, seen.twice as f64);
    let unseen = if twice > 0.0 { once * once / (2.0 * twice) } else { once * (once - 1.0).max(0.0) / 2.0 };
    (distinct + unseen).min(growing_on)
}

struct Runs {
    distinct: usize,
    once: usize,
    twice: usize,
}

fn count_runs(mut hashes: Vec<u64>) -> Runs {
    hashes.sort_unstable();
    let mut runs = Runs { distinct: 0, once: 0, twice: 0 };
    for run in hashes.chunk_by(|a, b| a == b) {
        runs.distinct += 1;
        runs.once += usize::from(run.len() == 1);
        runs.twice += usize::from(run.len() == 2);
    }
    runs
}

/// What Parquet stores of a column, in its order: the innermost elements of lists, the fields of structs, a map's keys and
/// values.
pub fn leaves(column: &ArrayRef) -> Vec<ArrayRef> {
    match column.data_type() {
        DataType::List(_) => leaves(column.as_list::<i32>().values()),
        DataType::Struct(_) => column.as_struct().columns().iter().flat_map(leaves).collect(),
        DataType::Map(..) => column.as_map().entries().columns().iter().flat_map(leaves).collect(),
        _ => vec![column.clone()],
    }
}

/// Bytes of a value in a plain page.
fn average_width(array: &ArrayRef) -> f64 {
    let bytes = match array.data_type() {
        DataType::Utf8 => {
            let offsets = array.as_string::<i32>().value_offsets();
            f64::from(offsets[array.len()] - offsets[0]) + 4.0 * array.len() as f64
        }
        DataType::Binary => {
            let offsets = array.as_binary::<i32>().value_offsets();
            f64::from(offsets[array.len()] - offsets[0]) + 4.0 * array.len() as f64
        }
        // Parquet keeps decimals of few digits in 4 or 8 bytes.
        DataType::Decimal128(precision, _) if *precision <= 9 => return 4.0,
        DataType::Decimal128(precision, _) if *precision <= 18 => return 8.0,
        DataType::Int16 => return 4.0,
        other => return other.primitive_width().unwrap_or(16) as f64,
    };
    bytes / array.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Int64Array, StringArray};
    use std::sync::Arc;

    const GROUP: usize = 1_000_000;

    fn ints(values: impl Iterator<Item = i64>) -> ArrayRef {
        Arc::new(Int64Array::from_iter_values(values.take(SAMPLE_ROWS)))
    }

    fn chosen(array: &ArrayRef) -> ColumnEncoding {
        choose(array, GROUP).unwrap()
    }

    #[test]
    fn few_values_get_a_dictionary() {
        let mut r = fastrand::Rng::with_seed(7);
        assert_eq!(chosen(&ints(std::iter::repeat_with(|| 100 * r.i64(0..50)))), ColumnEncoding::Dictionary);
        assert_eq!(chosen(&ints(std::iter::repeat_with(|| 1_000_003 * r.i64(0..9_000)))), ColumnEncoding::Dictionary);
        let words = ["AIR", "RAIL", "SHIP"];
        let words: ArrayRef = Arc::new(StringArray::from_iter_values((0..SAMPLE_ROWS).map(|i| words[i % 3])));
        assert_eq!(chosen(&words), ColumnEncoding::Dictionary);
    }

    #[test]
    fn sorted_texts_that_repeat_keep_bringing_new_ones_and_get_no_dictionary() {
        let sorted = (0..SAMPLE_ROWS).map(|i| format!("customer {:08}", i / 4));
        let sorted: ArrayRef = Arc::new(StringArray::from_iter_values(sorted));
        assert_eq!(chosen(&sorted), ColumnEncoding::DeltaLength);
    }

    #[test]
    fn keys_and_clocks_are_stored_as_deltas() {
        let mut r = fastrand::Rng::with_seed(7);
        assert_eq!(chosen(&ints(0..)), ColumnEncoding::Delta, "a sequence");
        assert_eq!(chosen(&ints((0..).map(|i| i / 4))), ColumnEncoding::Delta, "a sorted key that repeats");
        assert_eq!(chosen(&ints((0..).map(|i| 3_000_000 * i + r.i64(0..900_000)))), ColumnEncoding::Delta, "a clock");
        assert_eq!(chosen(&ints(std::iter::repeat_with(|| r.i64(0..10_000_000)))), ColumnEncoding::Delta, "noise");
    }

    #[test]
    fn short_texts_have_their_lengths_apart_and_the_rest_is_plain() {
        let mut r = fastrand::Rng::with_seed(7);
        let texts = |suffix: &str| -> ArrayRef {
            Arc::new(StringArray::from_iter_values((0..SAMPLE_ROWS).map(|i| format!("text {i}{suffix}"))))
        };
        assert_eq!(chosen(&texts("")), ColumnEncoding::DeltaLength);
        assert_eq!(chosen(&texts(&"long".repeat(100))), ColumnEncoding::Plain);
        // Almost always nought, and now and then anything at all.
        let rare = std::iter::repeat_with(|| if r.u8(..) < 40 { r.i64(..) } else { 0 });
        assert_eq!(chosen(&ints(rare)), ColumnEncoding::Plain);
    }

    #[test]
    fn a_sample_without_values_decides_nothing() {
        let nulls: ArrayRef = Arc::new(Int64Array::new_null(SAMPLE_ROWS));
        assert_eq!(chosen(&nulls), ColumnEncoding::Dictionary);
        assert_eq!(chosen(&ints(0..3)), ColumnEncoding::Dictionary);
    }

    #[test]
    fn extremes_of_64_bits_have_a_width_too() {
        assert_eq!(delta_bits(&[i64::MIN, i64::MAX, i64::MIN, 0]), 64.25);
        assert_eq!(delta_bits(&[5; 100]), 0.25);
        assert_eq!(delta_bits(&[]), 0.25);
    }
}

//! Which columns deserve a dictionary: judged on the first rows of a part, corrected by its first row group.
//!
//! A dictionary costs a hash look-up for each value and pays when few values repeat often. With too many of them the
//! writer gives up half-way, and the work is lost. So the number of distinct values is estimated beforehand.

use super::checksum::row_hashes;
use crate::error::Result;
use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::DataType;

/// Rows looked at. Enough to tell ten thousand values from a million by their collisions.
pub const SAMPLE_ROWS: usize = 16_384;

/// Fewer values than this say nothing; the Parquet writer's own rule (a dictionary until it grows too large) then holds.
const ENOUGH: usize = 256;

/// Whether values of `column`, the first rows of a part, should go through a dictionary.
///
/// `group_rows` is how many rows a row group is expected to hold; dictionaries do not outlive a group.
///
/// # Errors
/// `Internal`, for a type that no column of rivet's has.
pub fn pays(column: &ArrayRef, group_rows: usize) -> Result<bool> {
    let leaf = leaf(column);
    let sample = leaf.slice(0, leaf.len().min(SAMPLE_ROWS));
    if matches!(sample.data_type(), DataType::Boolean) {
        return Ok(false);
    }
    let values = sample.len() - sample.null_count();
    if values < ENOUGH {
        return Ok(true);
    }
    let width = average_width(&sample);
    let hashes = row_hashes(&sample)?;
    let group_values = (group_rows as f64) * (values as f64 / sample.len() as f64);
    Ok(worth_it(estimate_distinct(hashes, group_values), width, group_values))
}

/// Largest dictionary, in bytes of values, that is worth building. The page limit leaves room for a bad estimate.
pub const PAGE_LIMIT: usize = 512 * 1024;

fn worth_it(distinct: f64, width: f64, values: f64) -> bool {
    let fits = distinct * width <= PAGE_LIMIT as f64;
    // An index of so many bits, once for each value, against the value itself.
    let index_bytes = (distinct.max(2.0).log2() / 8.0).max(0.125);
    let with_dictionary = distinct * width + values * index_bytes;
    fits && with_dictionary <= 0.7 * values * width
}

/// Distinct values to be expected among `among` of the population that the hashes were drawn from.
///
/// Two views of the sample, the larger of which counts. Chao's estimator (1984) reads the number of unseen values off
/// those seen once and twice; it assumes that rows come in no order. Where they come sorted, as keys do, values repeat
/// next to each other and new ones keep coming: then the second half brings as many new values as the first.
fn estimate_distinct(hashes: Vec<u64>, among: f64) -> f64 {
    let rows = hashes.len() as f64;
    let first_half = count_runs(hashes[..hashes.len() / 2].to_vec()).distinct as f64;
    let seen = count_runs(hashes);
    let distinct = seen.distinct as f64;
    let (once, twice) = (seen.once as f64, seen.twice as f64);
    let unseen = if twice > 0.0 { once * once / (2.0 * twice) } else { once * (once - 1.0).max(0.0) / 2.0 };
    let unordered = distinct + unseen;
    let still_growing = distinct >= 1.9 * first_half;
    let ordered = if still_growing { distinct * among / rows } else { 0.0 };
    unordered.max(ordered).min(among)
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

/// The values that Parquet stores for a column: for a list, those of its innermost elements.
fn leaf(column: &ArrayRef) -> ArrayRef {
    match column.data_type() {
        DataType::List(_) => leaf(column.as_list::<i32>().values()),
        _ => column.clone(),
    }
}

/// Bytes of a value in a plain page.
fn average_width(array: &ArrayRef) -> f64 {
    let bytes = match array.data_type() {
        DataType::Utf8 => {
            let offsets = array.as_string::<i32>().value_offsets();
            (offsets[array.len()] - offsets[0]) as f64 + 4.0 * array.len() as f64
        }
        DataType::Binary => {
            let offsets = array.as_binary::<i32>().value_offsets();
            (offsets[array.len()] - offsets[0]) as f64 + 4.0 * array.len() as f64
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

    #[test]
    fn few_values_get_a_dictionary_and_keys_do_not() {
        let mut random = fastrand::Rng::with_seed(7);
        assert!(pays(&ints(std::iter::repeat_with(|| random.i64(0..50))), GROUP).unwrap());
        assert!(pays(&ints(std::iter::repeat_with(|| random.i64(0..10_000))), GROUP).unwrap());
        assert!(!pays(&ints(std::iter::repeat_with(|| random.i64(0..10_000_000))), GROUP).unwrap());
        assert!(!pays(&ints(0..), GROUP).unwrap(), "a sequence");
        assert!(!pays(&ints((0..).map(|i| i / 4)), GROUP).unwrap(), "a sorted key that repeats");
        let words: ArrayRef =
            Arc::new(StringArray::from_iter_values((0..SAMPLE_ROWS).map(|i| ["AIR", "RAIL", "SHIP"][i % 3])));
        assert!(pays(&words, GROUP).unwrap());
    }

    #[test]
    fn a_sample_without_values_decides_nothing() {
        let nulls: ArrayRef = Arc::new(Int64Array::new_null(SAMPLE_ROWS));
        assert!(pays(&nulls, GROUP).unwrap());
        assert!(pays(&ints(0..3), GROUP).unwrap());
    }
}

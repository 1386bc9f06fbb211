//! Checksums over the values of a column: `docs/checksums.md` defines them so that anyone can recompute them.
//!
//! A column's checksum is the sum, modulo 2^64, of one 64-bit hash for each row. A sum does not depend on the order of
//! the rows, and unlike an XOR it does not cancel values that occur twice. Hashes are taken of values, not of any
//! library's representation of them: the arrays that a Parquet reader gives back yield the same sums as those that went
//! in.

use crate::error::{Error, ErrorKind, Result};
use arrow::array::{Array, ArrayRef, AsArray, GenericByteArray, OffsetSizeTrait, PrimitiveArray, RecordBatch};
use arrow::datatypes::{self as t, ArrowNativeType, ArrowPrimitiveType, ByteArrayType, DataType, TimeUnit, i256};
use xxhash_rust::xxh3::xxh3_64;

/// What a NULL contributes, alone or as an element of a list.
pub const NULL_HASH: u64 = 0x9ae1_6a3b_2f90_404f;

/// Start of a list's hash, before its length is mixed in.
pub const LIST_SEED: u64 = 0xc3a5_c85c_97cb_3127;

/// Start of the hash of a struct, a range or an interval.
pub const STRUCT_SEED: u64 = 0x94d0_49bb_1331_11ec;

/// The finaliser of SplitMix64 (Steele, Lea and Flood 2014, with Stafford's constants, variant 13). A bijection: two
/// different values of 64 bits never hash alike.
#[inline(always)]
pub fn mix(value: u64) -> u64 {
    let mut x = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Running sums of all columns of a part.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ColumnSums(Vec<u64>);

impl ColumnSums {
    pub fn new(columns: usize) -> Self {
        ColumnSums(vec![0; columns])
    }

    /// Adds every row of `batch`.
    ///
    /// # Errors
    /// `Internal`, when the batch has another number of columns or a type that no column of rivet's has.
    pub fn add(&mut self, batch: &RecordBatch) -> Result<()> {
        if batch.num_columns() != self.0.len() {
            let what = format!("a batch of {} columns met checksums of {}", batch.num_columns(), self.0.len());
            return Err(Error::new(ErrorKind::Internal, what));
        }
        for (sum, column) in self.0.iter_mut().zip(batch.columns()) {
            *sum = sum.wrapping_add(column_sum(column)?);
        }
        Ok(())
    }

    pub fn into_sums(self) -> Vec<u64> {
        self.0
    }
}

/// The checksum of one array's rows.
///
/// # Errors
/// `Internal`, for a type that no column of rivet's has.
pub fn column_sum(array: &ArrayRef) -> Result<u64> {
    let mut sum = 0u64;
    each_hash(array, &mut |hash| sum = sum.wrapping_add(hash))?;
    Ok(sum)
}

/// The hashes of the array's rows, in order.
///
/// # Errors
/// `Internal`, for a type that no column of rivet's has.
pub fn row_hashes(array: &dyn Array) -> Result<Vec<u64>> {
    let mut hashes = Vec::with_capacity(array.len());
    each_hash(array, &mut |hash| hashes.push(hash))?;
    Ok(hashes)
}

/// Calls `sink` with the hash of each row, in order. Generic over the sink so that a sum stays in a register.
fn each_hash<F: FnMut(u64)>(array: &dyn Array, sink: &mut F) -> Result<()> {
    use TimeUnit::Microsecond;
    match array.data_type() {
        DataType::Boolean => {
            let values = array.as_boolean();
            for row in 0..values.len() {
                sink(if values.is_valid(row) { mix(u64::from(values.value(row))) } else { NULL_HASH });
            }
        }
        DataType::Int16 => each_primitive::<t::Int16Type, F>(array, sink, |v| mix(i64::from(v) as u64)),
        DataType::Int32 => each_primitive::<t::Int32Type, F>(array, sink, |v| mix(i64::from(v) as u64)),
        DataType::Int64 => each_primitive::<t::Int64Type, F>(array, sink, |v| mix(v as u64)),
        DataType::UInt32 => each_primitive::<t::UInt32Type, F>(array, sink, |v| mix(u64::from(v))),
        DataType::UInt64 => each_primitive::<t::UInt64Type, F>(array, sink, mix),
        DataType::Float32 => each_primitive::<t::Float32Type, F>(array, sink, |v| mix(u64::from(float32_bits(v)))),
        DataType::Float64 => each_primitive::<t::Float64Type, F>(array, sink, |v| mix(float64_bits(v))),
        DataType::Decimal32(..) => each_primitive::<t::Decimal32Type, F>(array, sink, |v| mix(i64::from(v) as u64)),
        DataType::Decimal64(..) => each_primitive::<t::Decimal64Type, F>(array, sink, |v| mix(v as u64)),
        DataType::Decimal128(..) => each_primitive::<t::Decimal128Type, F>(array, sink, decimal128_hash),
        DataType::Decimal256(..) => each_primitive::<t::Decimal256Type, F>(array, sink, decimal256_hash),
        DataType::Date32 => each_primitive::<t::Date32Type, F>(array, sink, |v| mix(i64::from(v) as u64)),
        DataType::Time64(Microsecond) => {
            each_primitive::<t::Time64MicrosecondType, F>(array, sink, |v| mix(v as u64));
        }
        DataType::Timestamp(Microsecond, _) => {
            each_primitive::<t::TimestampMicrosecondType, F>(array, sink, |v| mix(v as u64));
        }
        DataType::Utf8 => each_slice(array.as_string::<i32>(), sink),
        DataType::LargeUtf8 => each_slice(array.as_string::<i64>(), sink),
        DataType::Utf8View => each_bytes(array.as_string_view().iter(), sink),
        DataType::Binary => each_slice(array.as_binary::<i32>(), sink),
        DataType::LargeBinary => each_slice(array.as_binary::<i64>(), sink),
        DataType::BinaryView => each_bytes(array.as_binary_view().iter(), sink),
        DataType::FixedSizeBinary(_) => each_bytes(array.as_fixed_size_binary().iter(), sink),
        DataType::List(_) => each_list::<i32, F>(array, sink)?,
        DataType::LargeList(_) => each_list::<i64, F>(array, sink)?,
        DataType::Struct(_) => each_struct(array, sink)?,
        // A map is a list of entries, in the order in which they are stored.
        DataType::Map(..) => {
            let map = array.as_map();
            let entries = row_hashes(map.entries())?;
            each_run(map.value_offsets(), &entries, 0, |row| map.is_null(row), sink);
        }
        DataType::Dictionary(..) => each_dictionary(array, sink)?,
        other => {
            let what = format!("there is no checksum for values of Arrow's type {other}");
            return Err(Error::new(ErrorKind::Internal, what));
        }
    }
    Ok(())
}

#[inline(always)]
fn each_primitive<T: ArrowPrimitiveType, F: FnMut(u64)>(
    array: &dyn Array,
    sink: &mut F,
    hash: impl Fn(T::Native) -> u64,
) {
    let array: &PrimitiveArray<T> = array.as_primitive();
    match array.nulls() {
        None => array.values().iter().for_each(|value| sink(hash(*value))),
        Some(nulls) => {
            for (value, valid) in array.values().iter().zip(nulls) {
                sink(if valid { hash(*value) } else { NULL_HASH });
            }
        }
    }
}

/// The path of every text column: offsets into one buffer.
#[inline(always)]
fn each_slice<T: ByteArrayType, F: FnMut(u64)>(array: &GenericByteArray<T>, sink: &mut F) {
    let (data, offsets) = (array.value_data(), array.value_offsets());
    let slices = offsets.windows(2).map(|ends| &data[ends[0].as_usize()..ends[1].as_usize()]);
    match array.nulls() {
        None => slices.for_each(|bytes| sink(xxh3_64(bytes))),
        Some(nulls) => {
            for (bytes, valid) in slices.zip(nulls) {
                sink(if valid { xxh3_64(bytes) } else { NULL_HASH });
            }
        }
    }
}

#[inline(always)]
fn each_bytes<B: AsRef<[u8]>, F: FnMut(u64)>(values: impl Iterator<Item = Option<B>>, sink: &mut F) {
    values.for_each(|value| sink(value.map_or(NULL_HASH, |bytes| xxh3_64(bytes.as_ref()))));
}

fn each_list<O: OffsetSizeTrait, F: FnMut(u64)>(array: &dyn Array, sink: &mut F) -> Result<()> {
    let lists = array.as_list::<O>();
    let offsets = lists.value_offsets();
    let (first, last) = (offsets[0].as_usize(), offsets[lists.len()].as_usize());
    // Elements outside of the slice that this array is belong to other rows.
    let elements = row_hashes(&lists.values().slice(first, last - first))?;
    each_run(offsets, &elements, first, |row| lists.is_null(row), sink);
    Ok(())
}

/// The hash of each row's run of elements, whose hashes begin with that of element number `first`.
fn each_run<O: OffsetSizeTrait, F: FnMut(u64)>(
    offsets: &[O],
    elements: &[u64],
    first: usize,
    is_null: impl Fn(usize) -> bool,
    sink: &mut F,
) {
    for (row, ends) in offsets.windows(2).enumerate() {
        if is_null(row) {
            sink(NULL_HASH);
            continue;
        }
        let run = &elements[ends[0].as_usize() - first..ends[1].as_usize() - first];
        let start = mix(LIST_SEED ^ run.len() as u64);
        sink(run.iter().fold(start, |hash, element| mix(hash ^ element)));
    }
}

/// Fields in order; names do not count.
fn each_struct<F: FnMut(u64)>(array: &dyn Array, sink: &mut F) -> Result<()> {
    let values = array.as_struct();
    let mut hashes = vec![mix(STRUCT_SEED ^ values.num_columns() as u64); values.len()];
    for field in values.columns() {
        for (hash, value) in hashes.iter_mut().zip(row_hashes(field)?) {
            *hash = mix(*hash ^ value);
        }
    }
    for (row, hash) in hashes.into_iter().enumerate() {
        sink(if values.is_null(row) { NULL_HASH } else { hash });
    }
    Ok(())
}

/// Parquet files that carry no Arrow schema, or one with dictionaries, may come back as dictionary arrays.
fn each_dictionary<F: FnMut(u64)>(array: &dyn Array, sink: &mut F) -> Result<()> {
    let dictionary = array.as_any_dictionary();
    let values = row_hashes(dictionary.values())?;
    let keys = dictionary.normalized_keys();
    for (row, key) in keys.into_iter().enumerate() {
        sink(if dictionary.is_null(row) { NULL_HASH } else { values.get(key).copied().unwrap_or(NULL_HASH) });
    }
    Ok(())
}

/// Every NaN counts as the same value. Zeros of either sign are different ones.
fn float32_bits(value: f32) -> u32 {
    if value.is_nan() { 0x7fc0_0000 } else { value.to_bits() }
}

fn float64_bits(value: f64) -> u64 {
    if value.is_nan() { 0x7ff8_0000_0000_0000 } else { value.to_bits() }
}

#[inline(always)]
fn decimal128_hash(unscaled: i128) -> u64 {
    match i64::try_from(unscaled) {
        Ok(small) => mix(small as u64),
        Err(_) => xxh3_64(&i256::from_i128(unscaled).to_le_bytes()),
    }
}

fn decimal256_hash(unscaled: i256) -> u64 {
    match unscaled.to_i128() {
        Some(narrow) => decimal128_hash(narrow),
        None => xxh3_64(&unscaled.to_le_bytes()),
    }
}

//! Decoding costs no allocation per value: buffers grow and are handed on with a batch, whatever is in it.
//!
//! Alone in its binary, since allocations are counted over the whole process.

#[path = "support/hostile.rs"]
mod hostile;

use rivet::run::schema::ColumnType as C;
use rivet::source::postgres::types::{Mapping, Select, Wire};
use rivet::source::postgres::{DecodeColumn, Decoder};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;
use std::fs;
use std::path::Path;

#[global_allocator]
static GLOBAL: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const ROWS: usize = 20_000;

/// Allocations of one batch of [`ROWS`] rows of a column, after a first one like it: buffers that follow the last batch's
/// sizes are allocated once, the arrays of a batch a few times each, and positions not at all.
fn allocations(wire: Wire, column_type: C, value: &[u8]) -> usize {
    let mapping = Mapping { wire, column_type, select: Select::Plain };
    let column = DecodeColumn::new("v", true, mapping);
    let whole = hostile::copy_of(&vec![Some(value); 2 * ROWS]);
    let (header, rows) = whole.split_at(19);
    let (first, second) = rows[..rows.len() - 2].split_at((rows.len() - 2) / 2);
    let mut decoder = Decoder::new(&[column], 1 << 20).expect("a decoder");
    decoder.push(header).expect("a header");
    decoder.push(first).expect("rows");
    assert_eq!(decoder.take_batch().expect("a batch").num_rows(), ROWS);
    let region = Region::new(GLOBAL);
    decoder.push(second).expect("rows");
    let batch = decoder.take_batch().expect("a batch");
    let change = region.change();
    assert_eq!(batch.num_rows(), ROWS);
    change.allocations + change.reallocations
}

#[test]
fn a_batch_costs_as_many_allocations_as_it_has_buffers_and_none_per_value() {
    let decimal = |precision| C::Decimal { precision, scale: 2 };
    let number = [0, 2, 0, 0, 0x40, 0, 0, 2, 0, 7, 0x13, 0x88];
    let scalars: [(Wire, C, &[u8]); 22] = [
        (Wire::Bool, C::Bool, &[1]),
        (Wire::Int2, C::Int16, &[1; 2]),
        (Wire::Int4, C::Int32, &[1; 4]),
        (Wire::Int8, C::Int16, &[0, 0, 0, 0, 0, 0, 1, 1]),
        (Wire::Oid, C::Int64, &[1; 4]),
        (Wire::Int4, decimal(15), &[1; 4]),
        (Wire::Int8, decimal(76), &[1; 8]),
        (Wire::Date, C::Timestamp, &[0, 0, 1, 1]),
        (Wire::Int8, C::Int64, &[1; 8]),
        (Wire::Oid, C::UInt32, &[1; 4]),
        (Wire::Float4, C::Float32, &[1; 4]),
        (Wire::Float8, C::Float64, &[1; 8]),
        (Wire::Numeric, decimal(15), &number),
        (Wire::Numeric, decimal(76), &number),
        (Wire::NumericText, C::Text, &number),
        (Wire::Date, C::Date, &[1; 4]),
        (Wire::Time, C::Time, &[0, 0, 0, 1, 1, 1, 1, 1]),
        (Wire::Timestamptz, C::TimestampUtc, &[0, 0, 0, 1, 1, 1, 1, 1]),
        (Wire::Uuid, C::Uuid, &[1; 16]),
        (Wire::Text, C::Text, b"some text of more than thirty-two bytes"),
        (Wire::Jsonb, C::Json, b"\x01{}"),
        (Wire::Char, C::Text, &[0xe9]),
    ];
    for (wire, column_type, value) in scalars {
        let name = format!("{wire:?}");
        let counted = allocations(wire, column_type, value);
        assert!(counted < 40, "{name}: {counted} allocations for {ROWS} values");
    }
    for (target, seeds) in [
        ("array", &["int_array", "text_grid", "decimal_cube", "hstores", "vectors", "multiranges"][..]),
        ("record", &["composite", "nest", "everything_else"]),
        ("range", &["daterange", "multirange", "nummultirange", "decimal_range"]),
        ("numeric", &["numeric", "decimal_15", "decimal_38", "decimal_76", "int16", "int64"]),
        ("hstore", &["hstore"]),
        ("vector", &["vector", "halfvec"]),
        ("interval", &["interval"]),
    ] {
        for seed in seeds {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target).join(seed);
            let bytes = fs::read(path).expect("the corpus is there");
            let ((name, wire, column_type), _) = hostile::chosen(target, bytes[0]);
            let counted = allocations(wire, column_type, &bytes[1..]);
            assert!(counted < 200, "{name}: {counted} allocations for {ROWS} values");
        }
    }
}

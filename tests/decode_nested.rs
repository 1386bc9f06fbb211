//! Decoders of values that no server here can send, over bytes made by hand: the infinite intervals of PostgreSQL 17, and
//! the vectors of the extension pgvector. And arrays whose header lies.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Float32Type, Int32Type, Int64Type};
use rivet::ErrorKind;
use rivet::run::schema::ColumnType;
use rivet::source::postgres::decode::{Special, SpecialCounts, SpecialPolicy};
use rivet::source::postgres::types::{Mapping, Select, Wire};
use rivet::source::postgres::{DecodeColumn, Decoder};

fn column(wire: Wire, column_type: ColumnType, nullable: bool, special_values: SpecialPolicy) -> DecodeColumn {
    let mapping = Mapping { wire, column_type, select: Select::Plain };
    DecodeColumn { special_values, ..DecodeColumn::new("v", nullable, mapping) }
}

/// Decodes one column of values.
fn decode(column: DecodeColumn, values: &[Option<Vec<u8>>]) -> rivet::Result<(RecordBatch, SpecialCounts)> {
    let mut bytes = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0".to_vec();
    for value in values {
        bytes.extend(1_i16.to_be_bytes());
        bytes.extend(value.as_ref().map_or(-1, |value| value.len() as i32).to_be_bytes());
        bytes.extend(value.as_deref().unwrap_or_default());
    }
    bytes.extend((-1_i16).to_be_bytes());
    let mut decoder = Decoder::new(&[column], 1 << 20)?;
    decoder.push(&bytes)?;
    let counts = decoder.special_values().first().map(|(_, counts)| *counts).unwrap_or_default();
    Ok((decoder.take_batch()?, counts))
}

fn interval(micros: i64, days: i32, months: i32) -> Option<Vec<u8>> {
    Some([&micros.to_be_bytes()[..], &days.to_be_bytes(), &months.to_be_bytes()].concat())
}

#[test]
fn infinite_intervals_are_null_or_the_longest_or_an_error_and_counted() {
    let values = [
        interval(i64::MAX, i32::MAX, i32::MAX),
        interval(i64::MIN, i32::MIN, i32::MIN),
        interval(i64::MIN, -1, i32::MIN),
        None,
    ];
    let of = |nullable, policy| decode(column(Wire::Interval, ColumnType::Interval, nullable, policy), &values);
    let mut both = SpecialCounts::default();
    both[Special::Infinity as usize] = 1;
    both[Special::MinusInfinity as usize] = 1;
    for policy in [SpecialPolicy::Usual, SpecialPolicy::Null] {
        let (batch, counts) = of(true, policy).unwrap();
        let found = batch.column(0);
        assert_eq!((0..4).map(|row| found.is_null(row)).collect::<Vec<_>>(), [true, true, false, true]);
        assert_eq!(found.as_struct().column(2).as_primitive::<Int64Type>().value(2), i64::MIN);
        assert_eq!(counts, both);
    }
    let (batch, counts) = of(true, SpecialPolicy::Clamp).unwrap();
    let parts = batch.column(0).as_struct();
    assert_eq!(parts.column(0).as_primitive::<Int32Type>().values()[..2], [i32::MAX, i32::MIN]);
    assert_eq!(parts.column(2).as_primitive::<Int64Type>().values()[..2], [i64::MAX, i64::MIN]);
    assert_eq!((parts.null_count(), counts), (1, both));
    for (nullable, policy) in [(true, SpecialPolicy::Error), (false, SpecialPolicy::Usual)] {
        let error = of(nullable, policy).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::SourceValue);
        assert!(error.what().contains("\"v\": row 1 of the stream holds infinity"), "{error}");
    }
}

fn list_of_floats() -> ColumnType {
    ColumnType::List(Box::new(ColumnType::Float32))
}

#[test]
fn vectors_are_lists_of_floats_whatever_their_width() {
    let header = |dimensions: u16| [dimensions.to_be_bytes(), [0, 0]].concat();
    let whole = |floats: &[f32]| {
        let floats: Vec<u8> = floats.iter().flat_map(|float| float.to_be_bytes()).collect();
        Some([header((floats.len() / 4) as u16), floats].concat())
    };
    let halves = |halves: &[u16]| {
        let bytes: Vec<u8> = halves.iter().flat_map(|half| half.to_be_bytes()).collect();
        Some([header(halves.len() as u16), bytes].concat())
    };
    let vectors = [whole(&[1.5, -0.0, f32::MIN_POSITIVE]), None, whole(&[3.25]), whole(&[])];
    let halved = [halves(&[0x3e00, 0x8000, 0x0001]), None, halves(&[0x4280]), halves(&[])];
    for (wire, values, small) in
        [(Wire::Vector, vectors, f32::MIN_POSITIVE), (Wire::HalfVector, halved, 2_f32.powi(-24))]
    {
        let (batch, _) = decode(column(wire, list_of_floats(), true, SpecialPolicy::Usual), &values).unwrap();
        let lists = batch.column(0).as_list::<i32>();
        let bits: Vec<u32> =
            lists.value(0).as_primitive::<Float32Type>().values().iter().map(|v| v.to_bits()).collect();
        assert_eq!(bits, [1.5_f32.to_bits(), (-0.0_f32).to_bits(), small.to_bits()]);
        assert!(lists.is_null(1) && lists.is_valid(3));
        assert_eq!(lists.value(2).as_primitive::<Float32Type>().values()[..], [3.25]);
        assert_eq!(lists.value_length(3), 0);
    }
}

#[test]
fn a_vector_whose_dimensions_are_not_as_many_as_it_says_is_refused() {
    for (wire, bytes) in [
        (Wire::Vector, &[0, 2, 0, 0, 0, 0, 0, 0][..]),
        (Wire::Vector, &[0, 0, 0, 0, 1]),
        (Wire::Vector, &[0, 1]),
        (Wire::HalfVector, &[0, 1, 0, 0, 0]),
        (Wire::HalfVector, &[0xff, 0xff, 0, 0]),
    ] {
        let column = column(wire, list_of_floats(), true, SpecialPolicy::Usual);
        let error = decode(column, &[Some(bytes.to_vec())]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::SourceProtocol);
        assert!(error.what().contains("a vector of another length"), "{error}");
    }
}

#[test]
fn an_array_without_elements_is_empty_whatever_its_dimensions_claim_and_takes_no_memory() {
    let grid = ColumnType::List(Box::new(ColumnType::List(Box::new(ColumnType::Int32))));
    let wire = Wire::Array { element: Box::new(Wire::Int4), dimensions: 2 };
    let claiming = |sizes: [i32; 2]| {
        let header = [2, 0, 23, sizes[0], 1, sizes[1], 1];
        Some(header.iter().flat_map(|word| word.to_be_bytes()).collect::<Vec<u8>>())
    };
    let values = [claiming([i32::MAX, 0]), claiming([0, i32::MAX]), claiming([0, 0])];
    let (batch, counts) = decode(column(wire, grid, true, SpecialPolicy::Usual), &values).unwrap();
    let lists = batch.column(0).as_list::<i32>();
    assert_eq!((0..3).map(|row| lists.value_length(row)).collect::<Vec<_>>(), [0, 0, 0]);
    assert_eq!((lists.values().len(), counts), (0, SpecialCounts::default()));
}

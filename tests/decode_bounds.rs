//! Memory stays in proportion to the bytes that arrive, also where few of them stand for many.

#[path = "support/hostile.rs"]
mod hostile;

use arrow::array::{Array, AsArray, RecordBatch};
use rivet::source::postgres::types::{Mapping, Select};
use rivet::source::postgres::{DecodeColumn, Decoder};
use rivet::{ErrorKind, Result};

const MOST: usize = 1 << 20;
const ROWS: usize = 1_000;

fn decoder(kind: &str, most: usize) -> Decoder {
    let found = hostile::KINDS.iter().flat_map(|(_, kinds)| kinds).find(|(name, ..)| *name == kind);
    let (_, wire, column_type) = found.unwrap_or_else(|| panic!("no kind {kind:?}")).clone();
    let mapping = Mapping { wire, column_type, select: Select::Plain };
    Decoder::new(&[DecodeColumn::new("v", true, mapping)], most).expect("a decoder")
}

fn one(kind: &str, value: &[u8]) -> Result<RecordBatch> {
    let mut decoder = decoder(kind, MOST);
    decoder.push(&hostile::copy_of(&[Some(value)]))?;
    decoder.take_batch()
}

/// `digit` × 10000^`weight`, with so many digits displayed behind the point.
fn numeric(digit: u16, weight: i16, displayed: u16) -> Vec<u8> {
    [1_u16.to_be_bytes(), weight.to_be_bytes(), [0, 0], displayed.to_be_bytes(), digit.to_be_bytes()].concat()
}

fn array(sizes: &[i32], elements: &[Option<&[u8]>]) -> Vec<u8> {
    let mut bytes = [(sizes.len() as i32).to_be_bytes(), [0; 4], [0; 4]].concat();
    sizes.iter().for_each(|size| bytes.extend([size.to_be_bytes(), 1_i32.to_be_bytes()].concat()));
    for element in elements {
        bytes.extend(element.map_or(-1, |element| element.len() as i32).to_be_bytes());
        bytes.extend(element.unwrap_or_default());
    }
    bytes
}

/// As many rows as one chunk of the wire holds, each in a message of its own; handed on as the workers do it. The largest
/// batch, and how many there were.
fn batches(kind: &str, value: Option<&[u8]>, mut check: impl FnMut(&RecordBatch)) -> (usize, usize) {
    let message = |payload: &[u8]| [b"d", &(payload.len() as u32 + 4).to_be_bytes()[..], payload].concat();
    let whole = hostile::copy_of(&[value]);
    let (header, rest) = whole.split_at(19);
    let (row, trailer) = rest.split_at(rest.len() - 2);
    let chunk = [message(header), message(row).repeat(ROWS), message(trailer)].concat();
    let mut decoder = decoder(kind, MOST);
    let (mut largest, mut count, mut rows) = (0, 0, 0);
    let mut rest = &chunk[..];
    while !rest.is_empty() {
        let taken = decoder.push_rows(rest, usize::MAX).expect("rows");
        assert!(taken > 0, "nothing is taken, for ever");
        rest = &rest[taken..];
        largest = largest.max(decoder.buffered_bytes());
        let batch = decoder.take_batch().expect("a batch");
        check(&batch);
        (count, rows) = (count + 1, rows + batch.num_rows());
    }
    assert!(decoder.ended());
    assert_eq!(rows, ROWS);
    (largest, count)
}

#[test]
fn numbers_of_ten_bytes_that_print_as_a_hundred_thousand_digits_do_not_fill_the_memory() {
    let text = format!("7{}.{}", "0".repeat(131_068), "0".repeat(16_383));
    let (largest, count) = batches("numeric", Some(&numeric(7, 32_767, 16_383)), |batch| {
        let printed = batch.column(0).as_string::<i32>();
        assert!(printed.len() < 40 && printed.iter().all(|number| number == Some(&text)));
    });
    assert!(largest < 6 << 20 && count > 25, "{count} batches, the largest of {largest} bytes");
    // Numbers of usual length are not cut into small batches.
    let (_, count) = batches("numeric", Some(&numeric(7, 3, 2)), |_| ());
    assert_eq!(count, 1);
}

#[test]
fn nulls_of_composites_of_many_fields_do_not_fill_the_memory() {
    let (largest, count) = batches("array of composites of many fields", Some(&array(&[2], &[None, None])), |batch| {
        assert!(batch.column(0).as_list::<i32>().iter().flatten().all(|list| list.null_count() == 2));
    });
    assert!(largest < 6 << 20 && count > 2, "{count} batches, the largest of {largest} bytes");
}

#[test]
fn a_value_that_would_take_more_than_the_limit_when_decoded_is_refused_with_its_column() {
    let long = numeric(7, 32_767, 0);
    let refused = |kind: &str, value: &[u8]| {
        let error = one(kind, value).expect_err("it is far too long");
        assert_eq!(error.kind(), ErrorKind::SourceValue, "{error}");
        assert!(error.what().contains("\"v\"") && error.what().contains("when decoded"), "{error}");
        assert!(error.hint().contains("max_value_mb"), "{}", error.hint());
    };
    refused("numeric[]", &array(&[8], &[Some(&long[..]); 8]));
    refused("array of composites of many fields", &array(&[200], &[None; 200]));
    let seven = one("numeric[]", &array(&[7], &[Some(&long[..]); 7])).expect("seven are within the limit");
    assert_eq!(seven.column(0).as_list::<i32>().value(0).as_string::<i32>().value(6).len(), 131_069);
}

#[test]
fn dimensions_that_multiply_to_no_elements_make_no_lists() {
    // The server sends the first, of an empty int2vector that was cast to an array.
    let empty = one("int[]", &array(&[0], &[])).expect("an empty array");
    assert_eq!(empty.column(0).as_list::<i32>().value_length(0), 0);
    for sizes in [[i32::MAX, 0], [0, i32::MAX], [0, 0]] {
        let grid = one("text[][]", &array(&sizes, &[])).expect("an empty array, however it is spelled");
        assert_eq!(grid.column(0).as_list::<i32>().value_length(0), 0, "{sizes:?}");
    }
    // 2^31 × 2^31 × 4 is 2^64, and 0 in 64 bits.
    for sizes in [[i32::MAX, i32::MAX, 4], [1 << 30, 1 << 30, 16], [-1, 1, 1], [1, 1, 2]] {
        let error = one("numeric(60,10)[][][]", &array(&sizes, &[None])).expect_err("there is one element");
        assert_eq!(error.kind(), ErrorKind::SourceProtocol, "{error}");
        assert!(error.what().contains("at byte 21"), "{error}");
    }
    let _ = one("numeric(60,10)[][][]", &array(&[1 << 30, 1 << 30, 16], &[])).expect_err("no element is no product");
}

#[test]
fn a_display_scale_that_no_server_sends_is_refused() {
    let error = one("numeric", &numeric(7, 0, 0x4000)).expect_err("16,383 digits are the most");
    assert!(error.kind() == ErrorKind::SourceProtocol && error.what().contains("display scale"), "{error}");
}

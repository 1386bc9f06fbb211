//! The decoder over bytes made by hand: every cut gives the same batches, and no bytes make it panic.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{Date32Type, Decimal128Type, Int32Type, Int64Type, TimestampMicrosecondType};
use proptest::prelude::*;
use rivet::ErrorKind;
use rivet::run::schema::ColumnType;
use rivet::source::postgres::decode::{Special, SpecialCounts};
use rivet::source::postgres::types::{Mapping, Select, Wire};
use rivet::source::postgres::{DecodeColumn, Decoder};

type Field = Option<Vec<u8>>;

const MOST: usize = 1 << 20;

fn column(name: &str, nullable: bool, wire: Wire, column_type: ColumnType) -> DecodeColumn {
    DecodeColumn::new(name, nullable, Mapping { wire, column_type, select: Select::Plain })
}

fn header() -> Vec<u8> {
    let mut bytes = b"PGCOPY\n\xff\r\n\0".to_vec();
    bytes.extend([0; 8]);
    bytes
}

fn row(fields: &[Field]) -> Vec<u8> {
    let mut bytes = (fields.len() as i16).to_be_bytes().to_vec();
    for field in fields {
        match field {
            Some(value) => {
                bytes.extend((value.len() as i32).to_be_bytes());
                bytes.extend(value);
            }
            None => bytes.extend((-1_i32).to_be_bytes()),
        }
    }
    bytes
}

fn stream(rows: &[Vec<Field>]) -> Vec<u8> {
    let mut bytes = header();
    rows.iter().for_each(|fields| bytes.extend(row(fields)));
    bytes.extend((-1_i16).to_be_bytes());
    bytes
}

fn decode(columns: &[DecodeColumn], bytes: &[u8]) -> rivet::Result<RecordBatch> {
    let mut decoder = Decoder::new(columns, MOST)?;
    decoder.push(bytes)?;
    decoder.take_batch()
}

/// Decodes one value in a column of its own.
fn one(wire: Wire, column_type: ColumnType, value: &[u8]) -> rivet::Result<RecordBatch> {
    decode(&[column("v", true, wire, column_type)], &stream(&[vec![Some(value.to_vec())]]))
}

#[track_caller]
fn refused(result: rivet::Result<RecordBatch>, kind: ErrorKind, saying: &str) {
    let error = result.expect_err("these bytes are refused");
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.what().contains(saying), "{error}");
}

fn int4(value: i32) -> Field {
    Some(value.to_be_bytes().to_vec())
}

fn text(value: &str) -> Field {
    Some(value.as_bytes().to_vec())
}

#[test]
fn a_stream_of_no_rows_has_a_header_and_a_trailer() {
    let columns = [column("v", true, Wire::Int4, ColumnType::Int32)];
    let mut decoder = Decoder::new(&columns, MOST).unwrap();
    decoder.push(&header()).unwrap();
    assert!(!decoder.ended(), "without a trailer the stream may have been cut");
    decoder.push(&(-1_i16).to_be_bytes()).unwrap();
    assert!(decoder.ended());
    assert_eq!(decoder.take_batch().unwrap().num_rows(), 0);
    assert_eq!(decoder.stream_offset(), 21);
}

#[test]
fn a_table_without_columns_still_has_rows() {
    let batch = decode(&[], &stream(&[vec![], vec![], vec![]])).unwrap();
    assert_eq!((batch.num_columns(), batch.num_rows()), (0, 3));
}

#[test]
fn a_column_without_nulls_has_no_bitmap_and_one_with_nulls_has_them_in_place() {
    let columns = [
        column("full", false, Wire::Int4, ColumnType::Int32),
        column("holes", true, Wire::Int4, ColumnType::Int32),
        column("words", true, Wire::Text, ColumnType::Text),
    ];
    let rows: Vec<_> = (0..1000)
        .map(|i| {
            let hole = i % 7 == 3;
            vec![
                int4(i),
                (!hole).then_some(()).and_then(|()| int4(-i)),
                if hole { None } else { text(&"é".repeat(i as usize % 40)) },
            ]
        })
        .collect();
    let batch = decode(&columns, &stream(&rows)).unwrap();
    assert!(batch.column(0).nulls().is_none());
    for i in 0..1000 {
        assert_eq!(batch.column(0).as_primitive::<Int32Type>().value(i), i as i32);
        assert_eq!(batch.column(1).is_null(i), i % 7 == 3);
        assert_eq!(batch.column(2).is_null(i), i % 7 == 3);
        if i % 7 != 3 {
            assert_eq!(batch.column(1).as_primitive::<Int32Type>().value(i), -(i as i32));
            assert_eq!(batch.column(2).as_string::<i32>().value(i), "é".repeat(i % 40));
        }
    }
}

#[test]
fn batches_are_cut_where_the_caller_says_and_nothing_is_lost_between_them() {
    let columns = [column("v", true, Wire::Int4, ColumnType::Int32), column("t", true, Wire::Text, ColumnType::Text)];
    let mut decoder = Decoder::new(&columns, MOST).unwrap();
    decoder.push(&header()).unwrap();
    let mut batches = Vec::new();
    for i in 0..100 {
        decoder.push(&row(&[int4(i), if i % 2 == 0 { None } else { text("odd") }])).unwrap();
        assert!(decoder.buffered_bytes() > 0);
        if i % 30 == 29 {
            batches.push(decoder.take_batch().unwrap());
            assert_eq!(decoder.rows(), 0);
        }
    }
    batches.push(decoder.take_batch().unwrap());
    assert_eq!(decoder.total_rows(), 100);
    assert_eq!(batches.iter().map(RecordBatch::num_rows).collect::<Vec<_>>(), [30, 30, 30, 10]);
    let whole = concat_batches(decoder.schema(), &batches).unwrap();
    for i in 0..100 {
        assert_eq!(whole.column(0).as_primitive::<Int32Type>().value(i), i as i32);
        assert_eq!(whole.column(1).is_null(i), i % 2 == 0);
    }
}

#[test]
fn a_batch_has_as_many_rows_as_are_asked_for_however_the_messages_are_cut() {
    let columns = [column("v", true, Wire::Int4, ColumnType::Int32), column("t", true, Wire::Text, ColumnType::Text)];
    let message = |payload: &[u8]| [&b"d"[..], &(payload.len() as u32 + 4).to_be_bytes(), payload].concat();
    let mut bytes = message(&header());
    (0..50).for_each(|n| bytes.extend(message(&row(&[int4(n), text(&"x".repeat(n as usize % 7))]))));
    bytes.extend(message(&(-1_i16).to_be_bytes()));
    for most in [1, 7, 50, 51] {
        for cut in 1..60 {
            let mut decoder = Decoder::new(&columns, MOST).unwrap();
            let (mut sizes, mut values) = (vec![], vec![]);
            let mut take = |batch: RecordBatch| {
                sizes.push(batch.num_rows());
                values.extend(batch.column(0).as_primitive::<Int32Type>().values().iter().copied());
            };
            for chunk in bytes.chunks(cut) {
                let mut messages = chunk;
                while !messages.is_empty() {
                    let taken = decoder.push_rows(messages, most).unwrap();
                    messages = &messages[taken..];
                    if decoder.rows() >= most {
                        take(decoder.take_batch().unwrap());
                    }
                }
            }
            assert!(decoder.ended());
            take(decoder.take_batch().unwrap());
            let whole = 50 / most;
            assert!(sizes[..whole].iter().all(|rows| *rows == most), "{most} rows, cut at {cut}: {sizes:?}");
            assert_eq!(sizes[whole..], [50 % most], "{most} rows, cut at {cut}");
            assert!(values.into_iter().eq(0..50), "{most} rows, cut at {cut}");
        }
    }
}

#[test]
fn the_epoch_is_moved_and_infinities_are_counted() {
    let columns = [
        column("d", true, Wire::Date, ColumnType::Date),
        column("t", true, Wire::Timestamptz, ColumnType::TimestampUtc),
    ];
    let time = |micros: i64| Some(micros.to_be_bytes().to_vec());
    let rows = [
        vec![int4(0), time(0)],
        vec![int4(i32::MAX), time(i64::MIN)],
        vec![int4(i32::MIN), time(-1)],
        vec![int4(-730_119), time(i64::MAX)],
    ];
    let mut decoder = Decoder::new(&columns, MOST).unwrap();
    decoder.push(&stream(&rows)).unwrap();
    let batch = decoder.take_batch().unwrap();
    let (dates, times) = (batch.column(0).as_primitive::<Date32Type>(), batch.column(1));
    let times = times.as_primitive::<TimestampMicrosecondType>();
    assert_eq!((dates.value(0), times.value(0)), (10_957, 946_684_800_000_000));
    assert!(dates.is_null(1) && times.is_null(1) && dates.is_null(2) && times.is_null(3));
    assert_eq!((dates.value(3), times.value(2)), (-719_162, 946_684_799_999_999));
    let counted = |infinity: usize, minus_infinity: usize| {
        let mut counts = SpecialCounts::default();
        counts[infinity] = 1;
        counts[minus_infinity] = 1;
        counts
    };
    let both = counted(Special::Infinity as usize, Special::MinusInfinity as usize);
    assert_eq!(decoder.special_values(), [(0, both), (1, both)]);
}

#[test]
fn an_infinity_in_a_column_without_nulls_is_refused_instead_of_becoming_one() {
    let columns = [column("until", false, Wire::Date, ColumnType::Date)];
    let error = decode(&columns, &stream(&[vec![int4(1)], vec![int4(i32::MAX)]])).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SourceValue);
    assert!(error.what().contains("\"until\"") && error.what().contains("row 2"), "{error}");
    assert!(error.hint().contains("until: text"), "{}", error.hint());
}

#[test]
fn a_value_for_which_the_column_has_no_room_names_column_row_and_remedy() {
    let midnight = 86_400_000_000_i64.to_be_bytes().to_vec();
    let required = [column("v", false, Wire::Time, ColumnType::Time)];
    refused(decode(&required, &stream(&[vec![Some(midnight)]])), ErrorKind::SourceValue, "24:00:00");
    let nan = [0, 0, 0, 0, 0xc0, 0, 0, 0];
    let decimal = ColumnType::Decimal { precision: 10, scale: 2 };
    refused(one(Wire::Numeric, decimal.clone(), &nan), ErrorKind::SourceValue, "NaN");
    let late = (i64::MAX - 1).to_be_bytes();
    let required = [column("v", false, Wire::Timestamp, ColumnType::Timestamp)];
    refused(decode(&required, &stream(&[vec![Some(late.to_vec())]])), ErrorKind::SourceValue, "294247");
    let hint = one(Wire::Numeric, decimal, &nan).unwrap_err().hint().to_owned();
    assert!(hint.contains("columns: {v: text}"), "{hint}");
}

#[test]
fn a_null_in_a_column_that_is_declared_to_have_none_is_refused() {
    let columns = [column("id", false, Wire::Int8, ColumnType::Int64)];
    refused(decode(&columns, &stream(&[vec![None]])), ErrorKind::SourceValue, "\"id\" is declared NOT NULL");
    for wire in [Wire::Bool, Wire::Text, Wire::Uuid, Wire::Numeric] {
        let column_type = match wire {
            Wire::Bool => ColumnType::Bool,
            Wire::Uuid => ColumnType::Uuid,
            Wire::Numeric => ColumnType::Decimal { precision: 5, scale: 0 },
            _ => ColumnType::Text,
        };
        let columns = [column("id", false, wire, column_type)];
        refused(decode(&columns, &stream(&[vec![None]])), ErrorKind::SourceValue, "\"id\" is declared NOT NULL");
    }
}

#[test]
fn text_is_checked_value_by_value_even_where_the_whole_buffer_is_utf8() {
    let columns = [column("t", true, Wire::Text, ColumnType::Text)];
    // The two halves of an "é" in two rows.
    let rows = [vec![text("fine")], vec![Some(vec![0xc3])], vec![Some(vec![0xa9])]];
    refused(decode(&columns, &stream(&rows)), ErrorKind::SourceValue, "row 2");
    refused(decode(&columns, &stream(&[vec![text("a")], vec![Some(vec![0xff])]])), ErrorKind::SourceValue, "row 2");
}

#[test]
fn a_value_that_is_too_large_is_refused_before_it_has_arrived() {
    let columns =
        [column("a", true, Wire::Int4, ColumnType::Int32), column("blob", true, Wire::Bytea, ColumnType::Binary)];
    let mut decoder = Decoder::new(&columns, 1000).unwrap();
    decoder.push(&header()).unwrap();
    let mut bytes = 2_i16.to_be_bytes().to_vec();
    bytes.extend((-1_i32).to_be_bytes());
    bytes.extend(1001_i32.to_be_bytes());
    let error = decoder.push(&bytes).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SourceValue);
    assert!(error.what().contains("\"blob\"") && error.what().contains("1001"), "{error}");
}

#[test]
fn bytes_that_are_no_copy_stream_are_refused_with_their_place() {
    let columns = [column("a", true, Wire::Int4, ColumnType::Int32)];
    let protocol = ErrorKind::SourceProtocol;
    refused(decode(&columns, b"id,name\n"), protocol, "byte 0");
    let mut flagged = header();
    flagged[12] = 1;
    refused(decode(&columns, &flagged), protocol, "flags 0x00010000");
    refused(decode(&columns, &stream(&[vec![int4(1), int4(2)]])), protocol, "2 fields instead of 1");
    refused(decode(&columns, &stream(&[vec![int4(1)], vec![Some(vec![1, 2, 3])]])), protocol, "byte 31: column \"a\"");
    let mut negative = header();
    negative.extend([0, 1, 0xff, 0xff, 0xff, 0xfe]);
    refused(decode(&columns, &negative), protocol, "length of -2");
    let mut after = stream(&[]);
    after.push(0);
    refused(decode(&columns, &after), protocol, "follow the trailer");
    refused(one(Wire::Bool, ColumnType::Bool, &[2]), protocol, "bool");
    refused(one(Wire::Jsonb, ColumnType::Json, b"\x02{}"), protocol, "jsonb");
}

#[test]
fn a_header_extension_is_skipped() {
    let columns = [column("a", true, Wire::Int4, ColumnType::Int32)];
    let mut bytes = header();
    bytes[18] = 3;
    bytes.extend(b"ext");
    bytes.extend(row(&[int4(7)]));
    let batch = decode(&columns, &bytes).unwrap();
    assert_eq!(batch.column(0).as_primitive::<Int32Type>().values(), &[7]);
}

fn array(dimensions: &[(i32, i32)], elements: &[Field]) -> Vec<u8> {
    let mut bytes = (dimensions.len() as i32).to_be_bytes().to_vec();
    bytes.extend(0_i32.to_be_bytes());
    bytes.extend(23_u32.to_be_bytes());
    for (size, lower_bound) in dimensions {
        bytes.extend(size.to_be_bytes());
        bytes.extend(lower_bound.to_be_bytes());
    }
    bytes.extend(&row(elements)[2..]);
    bytes
}

fn int_list() -> (Wire, ColumnType) {
    (Wire::Array { element: Box::new(Wire::Int4), dimensions: 1 }, ColumnType::List(Box::new(ColumnType::Int32)))
}

#[test]
fn an_array_becomes_a_list_and_keeps_its_null_elements() {
    let (wire, column_type) = int_list();
    let columns = [column("l", true, wire, column_type)];
    let rows = [
        vec![Some(array(&[(3, 1)], &[int4(1), None, int4(3)]))],
        vec![None],
        vec![Some(array(&[], &[]))],
        vec![Some(array(&[(1, 1)], &[int4(4)]))],
    ];
    let batch = decode(&columns, &stream(&rows)).unwrap();
    let lists = batch.column(0).as_list::<i32>();
    let first = lists.value(0);
    assert_eq!(first.as_primitive::<Int32Type>().iter().collect::<Vec<_>>(), [Some(1), None, Some(3)]);
    assert!(lists.is_null(1) && lists.is_valid(2));
    assert_eq!((lists.value_length(2), lists.value_length(3)), (0, 1));
    assert_eq!(lists.value(3).as_primitive::<Int32Type>().value(0), 4);
}

#[test]
fn an_array_that_a_list_cannot_hold_is_refused_with_a_remedy() {
    let one = |array: &[u8]| one(int_list().0, int_list().1, array);
    let matrix = array(&[(2, 1), (1, 1)], &[int4(1), int4(2)]);
    refused(one(&matrix), ErrorKind::SourceValue, "an array of 2 dimensions, and the column takes those of 1");
    assert!(one(&matrix).unwrap_err().hint().contains("v: text"));
    refused(one(&array(&[(2, 1)], &[int4(1)])), ErrorKind::SourceProtocol, "its dimensions say");
    refused(one(&array(&[(i32::MAX, 1)], &[int4(1)])), ErrorKind::SourceProtocol, "its dimensions say");
    refused(one(&array(&[(0, 1)], &[int4(1)])), ErrorKind::SourceProtocol, "its dimensions say");
    refused(one(&array(&[(-1, 1)], &[])), ErrorKind::SourceProtocol, "negative size");
    refused(one(&array(&[(1, 1); 7], &[int4(1)])), ErrorKind::SourceProtocol, "dimensions");
    let mut cut = array(&[(2, 1)], &[int4(1), int4(2)]);
    cut.truncate(cut.len() - 2);
    refused(one(&cut), ErrorKind::SourceProtocol, "ends early");
}

#[test]
fn a_char_is_what_the_server_prints() {
    let columns = [column("c", true, Wire::Char, ColumnType::Text)];
    let rows = [vec![Some(vec![b'x'])], vec![Some(vec![0])], vec![Some(vec![0xe9])]];
    let batch = decode(&columns, &stream(&rows)).unwrap();
    assert_eq!(batch.column(0).as_string::<i32>().iter().flatten().collect::<Vec<_>>(), ["x", "", "\\351"]);
}

/// A table of many kinds of columns.
fn wide() -> Vec<DecodeColumn> {
    let decimal = |precision, scale| ColumnType::Decimal { precision, scale };
    let (list, list_type) = int_list();
    vec![
        column("a", true, Wire::Int8, ColumnType::Int64),
        column("b", true, Wire::Text, ColumnType::Text),
        column("c", true, Wire::Numeric, decimal(12, 2)),
        column("d", true, Wire::Bool, ColumnType::Bool),
        column("e", true, Wire::Uuid, ColumnType::Uuid),
        column("f", true, list, list_type),
        column("g", true, Wire::Numeric, decimal(60, 10)),
        column("h", true, Wire::Bytea, ColumnType::Binary),
        column("i", true, Wire::Timestamp, ColumnType::Timestamp),
    ]
}

fn numeric() -> impl Strategy<Value = Vec<u8>> {
    (0_u16..9999, 0_u16..99, any::<bool>()).prop_map(|(whole, hundredths, negative)| {
        let mut bytes = vec![0, 2, 0, 0, if negative { 0x40 } else { 0 }, 0, 0, 2];
        bytes.extend(whole.to_be_bytes());
        bytes.extend((hundredths * 100).to_be_bytes());
        bytes
    })
}

fn wide_row() -> impl Strategy<Value = Vec<Field>> {
    let bytes = |most: usize| prop::collection::vec(any::<u8>(), 0..most);
    let elements = prop::collection::vec(prop::option::of(any::<i32>().prop_map(|v| v.to_be_bytes().to_vec())), 0..5);
    let list = elements.prop_map(|elements| match elements.len() {
        0 => array(&[], &[]),
        size => array(&[(size as i32, 1)], &elements),
    });
    (
        prop::option::of(any::<i64>().prop_map(|v| v.to_be_bytes().to_vec())),
        prop::option::of("\\PC{0,50}".prop_map(String::into_bytes)),
        prop::option::of(numeric()),
        prop::option::of((0_u8..2).prop_map(|b| vec![b])),
        prop::option::of(any::<[u8; 16]>().prop_map(|b| b.to_vec())),
        prop::option::of(list),
        prop::option::of(numeric()),
        prop::option::of(bytes(300)),
        prop::option::of((-1_000_000_000_i64..1_000_000_000).prop_map(|v| v.to_be_bytes().to_vec())),
    )
        .prop_map(|(a, b, c, d, e, f, g, h, i)| vec![a, b, c, d, e, f, g, h, i])
}

/// `bytes` in pieces, cut at the given fractions of its length.
fn cut<'a>(bytes: &'a [u8], cuts: &[f64]) -> Vec<&'a [u8]> {
    let mut places: Vec<usize> = cuts.iter().map(|cut| (cut * bytes.len() as f64) as usize).collect();
    places.extend([0, bytes.len()]);
    places.sort_unstable();
    places.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect()
}

/// Every piece as a CopyData message.
fn messages(pieces: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for piece in pieces {
        bytes.push(b'd');
        bytes.extend((piece.len() as u32 + 4).to_be_bytes());
        bytes.extend(*piece);
    }
    bytes
}

proptest! {
    #[test]
    fn a_stream_means_the_same_wherever_it_is_cut(
        rows in prop::collection::vec(wide_row(), 0..40),
        cuts in prop::collection::vec(0.0..1.0, 0..30),
        chunk_cuts in prop::collection::vec(0.0..1.0, 0..30),
        batch_after in 1..5_usize,
    ) {
        let columns = wide();
        let bytes = stream(&rows);
        let whole = decode(&columns, &bytes).unwrap();
        prop_assert_eq!(whole.num_rows(), rows.len());

        let mut decoder = Decoder::new(&columns, MOST).unwrap();
        let mut batches = Vec::new();
        for (i, piece) in cut(&bytes, &cuts).into_iter().enumerate() {
            decoder.push(piece).unwrap();
            if i % batch_after == 0 {
                batches.push(decoder.take_batch().unwrap());
            }
        }
        batches.push(decoder.take_batch().unwrap());
        prop_assert!(decoder.ended());
        prop_assert_eq!(decoder.stream_offset(), bytes.len() as u64);
        prop_assert_eq!(&concat_batches(decoder.schema(), &batches).unwrap(), &whole);

        let framed = messages(&cut(&bytes, &cuts));
        let mut decoder = Decoder::new(&columns, MOST).unwrap();
        for chunk in cut(&framed, &chunk_cuts) {
            decoder.push_messages(chunk).unwrap();
        }
        prop_assert!(decoder.ended());
        prop_assert_eq!(decoder.stream_offset(), bytes.len() as u64);
        prop_assert_eq!(&decoder.take_batch().unwrap(), &whole);
    }

    #[test]
    fn no_damage_makes_the_decoder_panic_or_grow(
        rows in prop::collection::vec(wide_row(), 1..10),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20),
        cuts in prop::collection::vec(0.0..1.0, 0..5),
        framed in any::<bool>(),
    ) {
        let mut bytes = stream(&rows);
        if framed {
            bytes = messages(&cut(&bytes, &cuts));
        }
        for (place, value) in damage {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        let mut decoder = Decoder::new(&wide(), MOST).unwrap();
        for piece in cut(&bytes, &cuts) {
            let pushed = if framed { decoder.push_messages(piece) } else { decoder.push(piece) };
            let outcome = pushed.and_then(|()| {
                assert!(decoder.buffered_bytes() < 100 * bytes.len() + 10_000);
                decoder.take_batch().map(drop)
            });
            if let Err(error) = outcome {
                prop_assert!(matches!(error.kind(), ErrorKind::SourceProtocol | ErrorKind::SourceValue), "{}", error);
                return Ok(());
            }
        }
    }

    #[test]
    fn arbitrary_bytes_are_refused_politely(bytes in prop::collection::vec(any::<u8>(), 0..500)) {
        let mut rows = header();
        rows.extend(&bytes);
        for (decoded, stream) in [(true, &rows), (true, &bytes), (false, &bytes)] {
            let mut decoder = Decoder::new(&wide(), MOST).unwrap();
            let pushed = if decoded { decoder.push(stream) } else { decoder.push_messages(stream) };
            if let Err(error) = pushed {
                prop_assert!(matches!(error.kind(), ErrorKind::SourceProtocol | ErrorKind::SourceValue), "{}", error);
            }
        }
    }

    #[test]
    fn decimals_are_what_their_digits_say(unscaled in -999_999_999_999_i64..=999_999_999_999) {
        // In base 10000, point after the second digit from the right in decimal.
        let mut whole = (unscaled.unsigned_abs() / 100) as i64;
        let mut digits = Vec::new();
        while whole > 0 {
            digits.insert(0, (whole % 10_000) as u16);
            whole /= 10_000;
        }
        let weight = digits.len() as i16 - 1;
        digits.push((unscaled.unsigned_abs() % 100) as u16 * 100);
        while digits.last() == Some(&0) {
            digits.pop();
        }
        let mut bytes = (digits.len() as u16).to_be_bytes().to_vec();
        bytes.extend(weight.to_be_bytes());
        bytes.extend(if unscaled < 0 { [0x40, 0, 0, 2] } else { [0, 0, 0, 2] });
        digits.iter().for_each(|digit| bytes.extend(digit.to_be_bytes()));
        let batch = one(Wire::Numeric, ColumnType::Decimal { precision: 12, scale: 2 }, &bytes).unwrap();
        prop_assert_eq!(batch.column(0).as_primitive::<Decimal128Type>().value(0), i128::from(unscaled));
    }

    #[test]
    fn integers_survive(values in prop::collection::vec(prop::option::of(any::<i64>()), 0..300)) {
        let rows: Vec<_> = values.iter().map(|v| vec![v.map(|v| v.to_be_bytes().to_vec())]).collect();
        let batch = decode(&[column("v", true, Wire::Int8, ColumnType::Int64)], &stream(&rows)).unwrap();
        prop_assert_eq!(batch.column(0).as_primitive::<Int64Type>().iter().collect::<Vec<_>>(), values);
    }
}

//! A column's checksum says whether its values are the same, and nothing about how they are stored.

use arrow::array::*;
use arrow::compute::{cast, concat, take};
use arrow::datatypes::{DataType, Decimal128Type, Decimal256Type, Int32Type, Int64Type, i256};
use proptest::prelude::*;
use rivet::encode::checksum::{LIST_SEED, NULL_HASH, column_sum, mix, row_hashes};
use rivet::encode::parquet::{ParquetOptions, PartEncoder};
use rivet::run::schema::{Column, ColumnType, Schema};
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64;

fn sum(array: impl Array + 'static) -> u64 {
    column_sum(&(Arc::new(array) as ArrayRef)).unwrap()
}

#[test]
fn the_definition_holds_for_each_kind_of_value() {
    // Known answers of SplitMix64, from its author's reference: the first output of the generator with these seeds.
    assert_eq!(mix(0), 0xe220_a839_7b1d_cdaf);
    assert_eq!(mix(1_234_567), 0x599e_d017_fb08_fc85);

    assert_eq!(sum(Int16Array::from(vec![-2])), mix(-2i64 as u64));
    assert_eq!(sum(Int32Array::from(vec![-2])), mix(-2i64 as u64));
    assert_eq!(sum(Int64Array::from(vec![-2])), mix(-2i64 as u64));
    assert_eq!(sum(UInt32Array::from(vec![u32::MAX])), mix(0xffff_ffff));
    assert_eq!(sum(UInt64Array::from(vec![u64::MAX])), mix(u64::MAX));
    assert_eq!(sum(BooleanArray::from(vec![true, false])), mix(1).wrapping_add(mix(0)));
    assert_eq!(sum(Float64Array::from(vec![1.5])), mix(1.5f64.to_bits()));
    assert_eq!(sum(Float32Array::from(vec![1.5])), mix(u64::from(1.5f32.to_bits())));
    assert_eq!(sum(Date32Array::from(vec![-1])), mix(u64::MAX));
    assert_eq!(sum(TimestampMicrosecondArray::from(vec![7]).with_timezone("UTC")), mix(7));
    assert_eq!(sum(StringArray::from(vec!["päper"])), xxh3_64("päper".as_bytes()));
    assert_eq!(sum(BinaryArray::from(vec![&b"\x00"[..]])), xxh3_64(b"\x00"));
    assert_eq!(sum(Int64Array::new_null(3)), NULL_HASH.wrapping_mul(3));

    let small = PrimitiveArray::<Decimal128Type>::from(vec![-125]).with_precision_and_scale(12, 2).unwrap();
    assert_eq!(sum(small), mix(-125i64 as u64));
    let large = i128::from(i64::MAX) + 1;
    let mut bytes = [0u8; 32];
    bytes[..16].copy_from_slice(&large.to_le_bytes());
    let wide = PrimitiveArray::<Decimal128Type>::from(vec![large]).with_precision_and_scale(38, 2).unwrap();
    assert_eq!(sum(wide), xxh3_64(&bytes));

    let list = ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(5), None])]);
    let start = mix(LIST_SEED ^ 2);
    assert_eq!(sum(list), mix(mix(start ^ mix(5)) ^ NULL_HASH));
}

#[test]
fn every_nan_is_the_same_value_and_the_two_zeros_are_not() {
    let quiet = sum(Float64Array::from(vec![f64::NAN]));
    assert_eq!(sum(Float64Array::from(vec![f64::from_bits(0xfff8_0000_0000_0001)])), quiet);
    assert_ne!(sum(Float64Array::from(vec![0.0])), sum(Float64Array::from(vec![-0.0])));
    assert_eq!(sum(Float32Array::from(vec![f32::NAN])), sum(Float32Array::from(vec![f32::from_bits(0xffc0_0001)])));
}

#[test]
fn the_same_values_in_another_representation_have_the_same_checksum() {
    let text: ArrayRef =
        Arc::new(StringArray::from(vec![Some("a"), None, Some(""), Some("a"), Some("long enough for a view")]));
    let expected = row_hashes(&text).unwrap();
    let dictionary = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
    for other in [DataType::LargeUtf8, DataType::Utf8View, DataType::Binary, DataType::BinaryView, dictionary] {
        assert_eq!(row_hashes(&cast(&text, &other).unwrap()).unwrap(), expected, "{other}");
    }
    let narrow: ArrayRef = Arc::new(
        PrimitiveArray::<Decimal128Type>::from(vec![i128::MAX / 10, i128::MIN / 10, -1, 0, i128::from(i64::MIN)])
            .with_precision_and_scale(38, 0)
            .unwrap(),
    );
    let wide: ArrayRef = Arc::new(PrimitiveArray::<Decimal256Type>::from_iter_values(
        narrow.as_primitive::<Decimal128Type>().values().iter().map(|value| i256::from_i128(*value)),
    ));
    assert_eq!(row_hashes(&narrow).unwrap(), row_hashes(&wide).unwrap());

    let lists: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>([
        Some(vec![Some(1), Some(2)]),
        None,
        Some(vec![]),
        Some(vec![None]),
    ]));
    let large = DataType::LargeList(Arc::new(arrow::datatypes::Field::new("item", DataType::Int64, true)));
    assert_eq!(row_hashes(&cast(&lists, &large).unwrap()).unwrap(), row_hashes(&lists).unwrap());
    // Rows keep their hashes in a slice, whose offsets do not begin at nought.
    assert_eq!(row_hashes(&lists.slice(2, 2)).unwrap(), row_hashes(&lists).unwrap()[2..]);
}

#[test]
fn lists_that_hold_the_same_elements_otherwise_are_other_values() {
    let list = |values: Vec<Option<i32>>| ListArray::from_iter_primitive::<Int32Type, _, _>([Some(values)]);
    let all = [
        sum(list(vec![Some(1), Some(2)])),
        sum(list(vec![Some(2), Some(1)])),
        sum(list(vec![Some(1), Some(2), None])),
        sum(list(vec![Some(1)])),
        sum(list(vec![])),
        sum(list(vec![None])),
        sum(ListArray::new_null(list(vec![]).data_type().clone().into_list_field(), 1)),
    ];
    let distinct: std::collections::HashSet<_> = all.iter().collect();
    assert_eq!(distinct.len(), all.len(), "{all:x?}");
}

trait IntoListField {
    fn into_list_field(self) -> arrow::datatypes::FieldRef;
}

impl IntoListField for DataType {
    fn into_list_field(self) -> arrow::datatypes::FieldRef {
        match self {
            DataType::List(field) => field,
            other => panic!("{other} is not a list"),
        }
    }
}

fn texts() -> impl Strategy<Value = Vec<Option<String>>> {
    proptest::collection::vec(proptest::option::weighted(0.8, "[a-c]{0,3}"), 2..40)
}

proptest! {
    #[test]
    fn order_does_not_matter_and_any_other_change_does(
        values in texts(),
        shuffle in any::<u64>(),
        at in any::<prop::sample::Index>(),
        new in proptest::option::of("[a-c]{0,3}"),
    ) {
        let array: ArrayRef = Arc::new(StringArray::from(values.clone()));
        let original = column_sum(&array).unwrap();

        let mut order: Vec<u32> = (0..values.len() as u32).collect();
        fastrand::Rng::with_seed(shuffle).shuffle(&mut order);
        let shuffled = take(&array, &UInt32Array::from(order), None).unwrap();
        prop_assert_eq!(column_sum(&shuffled).unwrap(), original);

        let at = at.index(values.len());
        let mut changed = values.clone();
        changed[at] = new.clone();
        let same = changed == values;
        prop_assert_eq!(sum(StringArray::from(changed)) == original, same, "one value changed");

        let mut dropped = values.clone();
        dropped.remove(at);
        prop_assert_ne!(sum(StringArray::from(dropped)), original, "one row dropped");

        // An exclusive or would cancel the pair.
        let pair = array.slice(at, 1);
        let doubled = concat(&[&array, &pair, &pair]).unwrap();
        prop_assert_ne!(column_sum(&doubled).unwrap(), original, "one row twice more");

        // Two columns that swap a NULL and a value both change.
        if let (Some(null), Some(value)) = (values.iter().position(Option::is_none), values.iter().position(Option::is_some)) {
            let mut other = values.clone();
            other[null] = values[value].clone();
            prop_assert_ne!(sum(StringArray::from(other)), original, "NULL became a value");
        }
    }
}

#[test]
fn batches_add_up_however_the_rows_are_cut() {
    let values: Vec<Option<i64>> = (0..10_000).map(|i| (i % 7 != 0).then_some(i * i)).collect();
    let array: ArrayRef = Arc::new(Int64Array::from(values));
    let whole = column_sum(&array).unwrap();
    for cut in [1, 63, 64, 65, 5_000, 9_999] {
        let (a, b) = (array.slice(0, cut), array.slice(cut, array.len() - cut));
        assert_eq!(column_sum(&a).unwrap().wrapping_add(column_sum(&b).unwrap()), whole, "cut at {cut}");
    }
}

#[test]
fn a_file_without_arrows_schema_recomputes_to_the_same_checksums() {
    let column =
        |name: &str, column_type| Column { name: name.into(), column_type, nullable: true, source_type: String::new() };
    let schema = Schema {
        columns: vec![
            column("small", ColumnType::Decimal { precision: 7, scale: 2 }),
            column("wide", ColumnType::Decimal { precision: 60, scale: 2 }),
            column("text", ColumnType::Text),
            column("int16", ColumnType::Int16),
        ],
    };
    let small = PrimitiveArray::<Decimal128Type>::from(vec![Some(-125), None, Some(9_999_999)]);
    let wide =
        PrimitiveArray::<Decimal256Type>::from(vec![Some(i256::from_i128(-1)), None, Some(i256::from_i128(i128::MAX))]);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(small.with_precision_and_scale(7, 2).unwrap()),
        Arc::new(wide.with_precision_and_scale(60, 2).unwrap()),
        Arc::new(StringArray::from(vec![Some("x"), None, Some("")])),
        Arc::new(Int16Array::from(vec![Some(-1), None, Some(3)])),
    ];
    let batch = RecordBatch::try_from_iter(["a", "b", "c", "d"].into_iter().zip(columns)).unwrap();
    let mut encoder = PartEncoder::new(Vec::new(), &schema, &ParquetOptions::default(), vec![]).unwrap();
    encoder.write(&batch).unwrap();
    let (file, part) = encoder.finish().unwrap();
    use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let reader = ParquetRecordBatchReaderBuilder::try_new_with_options(bytes::Bytes::from(file), options).unwrap();
    let back = reader.build().unwrap().next().unwrap().unwrap();
    let sums: Vec<u64> = back.columns().iter().map(|column| column_sum(column).unwrap()).collect();
    assert_eq!(sums, part.column_checksums);
}

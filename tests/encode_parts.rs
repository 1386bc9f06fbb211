//! What goes into a part comes out of it, in files of the promised shape.

use arrow::array::*;
use rivet::encode::checksum::ColumnSums;
use rivet::encode::parquet::{ParquetOptions, PartEncoder};
use rivet::run::schema::{Column, ColumnType, Schema};
use std::sync::Arc;

fn schema(columns: &[(&str, ColumnType, bool)]) -> Schema {
    let column = |(name, column_type, nullable): &(&str, ColumnType, bool)| Column {
        name: (*name).into(),
        column_type: column_type.clone(),
        nullable: *nullable,
        source_type: column_type.to_string(),
    };
    Schema { columns: columns.iter().map(column).collect() }
}

fn batch(columns: Vec<ArrayRef>) -> RecordBatch {
    RecordBatch::try_from_iter(columns.into_iter().enumerate().map(|(i, c)| (format!("c{i}"), c))).unwrap()
}

#[test]
fn rows_come_back_in_order_and_the_checksums_recompute() {
    let schema = schema(&[("id", ColumnType::Int64, false), ("name", ColumnType::Text, true)]);
    let mut encoder = PartEncoder::new(Vec::new(), &schema, &ParquetOptions::default(), vec![]).unwrap();
    let rows = 100_000i64;
    for start in (0..rows).step_by(10_000) {
        let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(start..start + 10_000));
        let names: ArrayRef =
            Arc::new(StringArray::from_iter((start..start + 10_000).map(|i| (i % 3 > 0).then(|| format!("name {i}")))));
        encoder.write(&batch(vec![ids, names])).unwrap();
    }
    let (file, part) = encoder.finish().unwrap();
    assert_eq!((part.rows, part.row_groups), (100_000, 1));

    let reader =
        parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(file)).unwrap();
    let mut sums = ColumnSums::new(2);
    let mut next = 0;
    for back in reader.build().unwrap() {
        let back = back.unwrap();
        sums.add(&back).unwrap();
        for id in back.column(0).as_primitive::<arrow::datatypes::Int64Type>().values() {
            assert_eq!(*id, next);
            next += 1;
        }
    }
    assert_eq!(next, rows);
    assert_eq!(sums.into_sums(), part.column_checksums);
}

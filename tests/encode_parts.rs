//! What goes into a part comes out of it, in files of the promised shape.

use arrow::array::*;
use arrow::compute::concat_batches;
use parquet::file::metadata::RowGroupMetaData;
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

fn reader(file: Vec<u8>) -> parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder<bytes::Bytes> {
    parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(file)).unwrap()
}

/// Text that no compressor makes much of.
fn noise(random: &mut fastrand::Rng, rows: usize, bytes: usize) -> ArrayRef {
    let text = |r: &mut fastrand::Rng| std::iter::repeat_with(|| r.alphanumeric()).take(bytes).collect::<String>();
    Arc::new(StringArray::from_iter_values((0..rows).map(|_| text(random))))
}

#[test]
fn row_groups_of_wide_rows_are_bounded_in_bytes_and_so_is_the_encoder() {
    let schema = schema(&[("id", ColumnType::Int64, false), ("body", ColumnType::Text, false)]);
    let target = 1024 * 1024;
    let options = ParquetOptions { row_group_bytes: target, ..ParquetOptions::default() };
    let mut encoder = PartEncoder::new(Vec::new(), &schema, &options, vec![]).unwrap();
    let mut random = fastrand::Rng::with_seed(1);
    let mut held = 0;
    for _ in 0..20 {
        let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..100));
        encoder.write(&batch(vec![ids, noise(&mut random, 100, 5_000)])).unwrap();
        held = held.max(encoder.memory_bytes());
    }
    let before_the_end = encoder.encoded_bytes();
    let (file, part) = encoder.finish().unwrap();
    assert!(before_the_end.abs_diff(file.len() as u64) < file.len() as u64 / 10, "{before_the_end} of {}", file.len());
    // Ten megabytes of noise, of which a quarter compresses away.
    assert!((5..=12).contains(&part.row_groups), "{} row groups", part.row_groups);
    assert!(held < 3 * target, "{held} bytes held");
    for group in reader(file).metadata().row_groups() {
        assert!(group.compressed_size() < 2 * target as i64, "{} bytes", group.compressed_size());
    }
}

#[test]
fn a_single_batch_larger_than_a_row_group_is_cut_into_several() {
    let schema = schema(&[("body", ColumnType::Text, false)]);
    let options = ParquetOptions { row_group_bytes: 2 * 1024 * 1024, ..ParquetOptions::default() };
    let mut encoder = PartEncoder::new(Vec::new(), &schema, &options, vec![]).unwrap();
    encoder.write(&batch(vec![noise(&mut fastrand::Rng::with_seed(2), 4_000, 5_000)])).unwrap();
    let (file, part) = encoder.finish().unwrap();
    assert!(part.row_groups >= 4, "{} row groups", part.row_groups);
    assert_eq!(reader(file).metadata().file_metadata().num_rows(), 4_000);
}

#[test]
fn a_fixed_number_of_rows_makes_row_groups_of_exactly_that_many() {
    let schema = schema(&[("id", ColumnType::Int64, false)]);
    let options = ParquetOptions { row_group_rows: Some(1_000), ..ParquetOptions::default() };
    let mut encoder = PartEncoder::new(Vec::new(), &schema, &options, vec![]).unwrap();
    for _ in 0..5 {
        encoder.write(&batch(vec![Arc::new(Int64Array::from_iter_values(0..700))])).unwrap();
    }
    let (file, part) = encoder.finish().unwrap();
    let rows: Vec<i64> = reader(file).metadata().row_groups().iter().map(|group| group.num_rows()).collect();
    assert_eq!(rows, [1_000, 1_000, 1_000, 500]);
    assert_eq!((part.rows, part.row_groups), (3_500, 4));
}

#[test]
fn dictionaries_are_for_columns_with_few_values_and_deltas_for_keys() {
    use parquet::basic::Encoding::{DELTA_BINARY_PACKED, RLE_DICTIONARY};
    let schema = schema(&[
        ("mode", ColumnType::Text, false),
        ("key", ColumnType::Int64, false),
        ("uuid", ColumnType::Uuid, false),
        ("tags", ColumnType::List(Box::new(ColumnType::Text)), false),
    ]);
    let mut encoder = PartEncoder::new(Vec::new(), &schema, &ParquetOptions::default(), vec![]).unwrap();
    let mut random = fastrand::Rng::with_seed(3);
    for start in (0..80_000i64).step_by(8_000) {
        let modes: ArrayRef =
            Arc::new(StringArray::from_iter_values((0..8_000).map(|i| ["AIR", "SHIP", "RAIL"][i % 3])));
        let keys: ArrayRef = Arc::new(Int64Array::from_iter_values(start..start + 8_000));
        let uuids = (0..8_000).map(|_| random.u128(..).to_be_bytes());
        let uuids: ArrayRef = Arc::new(FixedSizeBinaryArray::try_from_iter(uuids).unwrap());
        let mut tags = ListBuilder::new(StringBuilder::new())
            .with_field(rivet::encode::arrow_schema::list_field(&ColumnType::Text));
        for i in 0..8_000 {
            (0..i % 3).for_each(|_| tags.values().append_value(format!("tag-{}", random.u8(0..20))));
            tags.append(true);
        }
        encoder.write(&batch(vec![modes, keys, uuids, Arc::new(tags.finish())])).unwrap();
    }
    let (file, _) = encoder.finish().unwrap();
    let reader = reader(file);
    let group = reader.metadata().row_group(0);
    let uses = |encoding| -> Vec<bool> {
        group.columns().iter().map(|chunk| chunk.encodings().any(|used| used == encoding)).collect()
    };
    assert_eq!(uses(RLE_DICTIONARY), [true, false, false, true]);
    assert_eq!(uses(DELTA_BINARY_PACKED), [false, true, false, false]);
}

#[test]
fn every_compression_reads_back() {
    use rivet::config::model::Compression;
    let schema = schema(&[("id", ColumnType::Int64, false)]);
    for compression in [
        Compression::Zstd(1),
        Compression::Zstd(19),
        Compression::Snappy,
        Compression::Gzip(6),
        Compression::Lz4,
        Compression::None,
    ] {
        let options = ParquetOptions { compression, ..ParquetOptions::default() };
        let mut encoder = PartEncoder::new(Vec::new(), &schema, &options, vec![]).unwrap();
        encoder.write(&batch(vec![Arc::new(Int64Array::from_iter_values(0..1_000))])).unwrap();
        let (file, _) = encoder.finish().unwrap();
        let back = reader(file).build().unwrap().next().unwrap().unwrap();
        assert_eq!(back.column(0).as_primitive::<arrow::datatypes::Int64Type>().value(999), 999, "{compression:?}");
    }
    let options = ParquetOptions { compression: Compression::Zstd(99), ..ParquetOptions::default() };
    let refused = PartEncoder::new(Vec::new(), &schema, &options, vec![]).err().unwrap();
    assert_eq!(refused.kind(), rivet::ErrorKind::ConfigInvalid);
}

#[test]
fn batches_that_do_not_fit_the_schema_are_refused_by_name() {
    let schema = schema(&[("id", ColumnType::Int64, false)]);
    let encoder = || PartEncoder::new(Vec::new(), &schema, &ParquetOptions::default(), vec![]).unwrap();
    let nulls: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None]));
    let error = encoder().write(&batch(vec![nulls])).unwrap_err();
    assert_eq!(error.kind(), rivet::ErrorKind::SourceValue);
    assert!(error.what().contains("\"id\""), "{}", error.what());

    let other: ArrayRef = Arc::new(Int32Array::from(vec![1]));
    assert_eq!(encoder().write(&batch(vec![other.clone()])).unwrap_err().kind(), rivet::ErrorKind::Internal);
    assert_eq!(encoder().write(&batch(vec![other.clone(), other])).unwrap_err().kind(), rivet::ErrorKind::Internal);
    let none = PartEncoder::new(Vec::new(), &Schema::default(), &ParquetOptions::default(), vec![]).err().unwrap();
    assert_eq!(none.kind(), rivet::ErrorKind::SourceUnsupported);
}

/// Takes a number of bytes, then reports what a full disk reports.
struct Full(usize);

impl std::io::Write for Full {
    fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
        if self.0 == 0 {
            return Err(std::io::Error::from_raw_os_error(28));
        }
        let taken = buf.len().min(self.0);
        self.0 -= taken;
        Ok(taken)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_sink_that_is_full_keeps_its_class_wherever_in_the_file_that_happens() {
    let schema = schema(&[("body", ColumnType::Text, false)]);
    let options = ParquetOptions { row_group_bytes: 100_000, ..ParquetOptions::default() };
    let encode = |room: usize| {
        let mut encoder = PartEncoder::new(Full(room), &schema, &options, vec![])?;
        let mut random = fastrand::Rng::with_seed(4);
        for _ in 0..15 {
            encoder.write(&batch(vec![noise(&mut random, 100, 1_000)]))?;
        }
        encoder.finish().map(|(sink, _)| room - sink.0)
    };
    let bytes = encode(usize::MAX).unwrap();
    for room in [0, 1, 4, 600_000, bytes - 100, bytes - 8, bytes - 1] {
        assert_eq!(encode(room).unwrap_err().kind(), rivet::ErrorKind::DestinationFull, "room for {room}");
    }
    assert_eq!(encode(bytes).unwrap(), bytes);
}

#[test]
fn a_giant_value_is_in_a_row_group_with_few_others_and_its_neighbours_keep_their_dictionaries() {
    let schema =
        schema(&[("id", ColumnType::Int64, false), ("word", ColumnType::Text, true), ("body", ColumnType::Text, true)]);
    let giant = "giant ".repeat(3 << 20);
    let words = ["yes", "no", "perhaps"];
    let rows = 3_000_i64;
    let batch = batch(vec![
        Arc::new(Int64Array::from_iter_values(0..rows)),
        Arc::new(StringArray::from_iter_values((0..rows).map(|i| words[i as usize % 3]))),
        Arc::new(StringArray::from_iter((0..rows).map(|i| match i {
            1_000 => Some(giant.as_str()),
            i => (i % 2 == 0).then_some("small"),
        }))),
    ]);
    let mut encoder = PartEncoder::new(Vec::new(), &schema, &ParquetOptions::default(), vec![]).unwrap();
    encoder.write(&batch).unwrap();
    let (file, part) = encoder.finish().unwrap();
    let reader = reader(file);
    let groups = reader.metadata().row_groups().to_vec();
    let counted: Vec<_> = groups.iter().map(RowGroupMetaData::num_rows).collect();
    assert!(part.row_groups == 3 && counted[1] < 1_000, "{counted:?}");
    assert!((counted[0]..counted[0] + counted[1]).contains(&1_000), "{counted:?}");
    let least = |group: usize, column: usize| {
        groups[group].column(column).statistics().and_then(|statistics| statistics.min_bytes_opt().map(<[u8]>::to_vec))
    };
    assert_eq!(least(1, 0), Some(counted[0].to_le_bytes().to_vec()), "the statistics of the other columns stay");
    assert_eq!((least(1, 2), least(2, 2)), (None, Some(b"small".to_vec())));
    assert!(
        groups[2].column(1).dictionary_page_offset().is_some()
            && groups[1].column(1).dictionary_page_offset().is_none()
    );
    let back: Vec<RecordBatch> = reader.build().unwrap().collect::<Result<_, _>>().unwrap();
    assert_eq!(concat_batches(&back[0].schema(), &back).unwrap().columns(), batch.columns());
}

//! One Parquet file against its manifest entry, by its values.

use crate::encode::arrow_schema::arrow_schema;
use crate::encode::checksum::column_sum;
use crate::error::{Error, ErrorKind, Result};
use crate::manifest::model::{Manifest, ManifestPart};
use ::parquet::arrow::ProjectionMask;
use ::parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use ::parquet::file::metadata::RowGroupMetaData;
use ::parquet::schema::types::SchemaDescriptor;
use arrow::datatypes::Schema;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// Decoded bytes of a column that are held at once, about.
const BATCH_BYTES: i64 = 4 * 1024 * 1024;

/// Findings about a file beyond this many say nothing new.
const ENOUGH: usize = 10;

/// Reads every value of a part. Returns what differs from the manifest, a sentence each, with row group and column.
///
/// # Errors
/// `Internal`, for a column type without checksums. Whatever is wrong with the file is a finding.
pub fn check_values(path: &Path, manifest: &Manifest, part: &ManifestPart) -> Result<Vec<String>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) => return Ok(vec![format!("cannot be opened: {error}")]),
    };
    // The reader is not ours, and the bytes may be anybody's: should it panic, that is a finding like any other.
    match catch_unwind(AssertUnwindSafe(|| check_file(&file, manifest, part))) {
        Ok(findings) => findings,
        Err(_) => Ok(vec!["is so damaged that the Parquet reader gave up on it".to_owned()]),
    }
}

fn check_file(file: &File, manifest: &Manifest, part: &ManifestPart) -> Result<Vec<String>> {
    let metadata = match ArrowReaderMetadata::load(file, ArrowReaderOptions::new()) {
        Ok(metadata) => metadata,
        Err(error) => return Ok(vec![format!("footer: {error}")]),
    };
    let footer_rows = metadata.metadata().file_metadata().num_rows();
    if u64::try_from(footer_rows) != Ok(part.rows) {
        return Ok(vec![format!("footer: {footer_rows} rows, and the manifest says {}", part.rows)]);
    }
    if let Some(finding) = compare_schemas(metadata.schema(), &arrow_schema(&manifest.schema)) {
        return Ok(vec![finding]);
    }
    let mut findings = Vec::new();
    for (index, (column, recorded)) in manifest.schema.columns.iter().zip(&part.column_checksums).enumerate() {
        if findings.len() >= ENOUGH {
            break;
        }
        match sum_of_column(file, &metadata, index)? {
            Ok(sum) if sum == recorded.0 => {}
            Ok(sum) => {
                let recorded = recorded.0;
                findings.push(format!(
                    "column {:?}: checksum sum64:{sum:016x}, and the manifest says sum64:{recorded:016x}",
                    column.name
                ));
            }
            Err((group, error)) => findings.push(format!("row group {group}, column {:?}: {error}", column.name)),
        }
    }
    Ok(findings)
}

fn compare_schemas(found: &Schema, expected: &Schema) -> Option<String> {
    let (have, want) = (found.fields().len(), expected.fields().len());
    if have != want {
        return Some(format!("footer: {have} columns, and the manifest says {want}"));
    }
    let differs = found.fields().iter().zip(expected.fields()).find(|(a, b)| {
        a.name() != b.name() || a.is_nullable() != b.is_nullable() || !a.data_type().equals_datatype(b.data_type())
    });
    differs.map(|(a, b)| {
        let show = |f: &arrow::datatypes::Field| {
            format!("{:?} {}{}", f.name(), f.data_type(), if f.is_nullable() { "" } else { " not null" })
        };
        format!("footer: column {}, and the manifest says {}", show(a), show(b))
    })
}

/// A column's checksum over all row groups; or the row group in which reading it failed, and why.
type ColumnSum = std::result::Result<u64, (usize, String)>;

fn sum_of_column(file: &File, metadata: &ArrowReaderMetadata, column: usize) -> Result<ColumnSum> {
    let mut sum = 0u64;
    for (group, group_metadata) in metadata.metadata().row_groups().iter().enumerate() {
        let reader = file.try_clone().map_err(::parquet::errors::ParquetError::from).and_then(|file| {
            ParquetRecordBatchReaderBuilder::new_with_metadata(file, metadata.clone())
                .with_row_groups(vec![group])
                .with_projection(ProjectionMask::roots(metadata.parquet_schema(), [column]))
                .with_batch_size(batch_rows(metadata.parquet_schema(), group_metadata, column))
                .build()
        });
        let reader = match reader {
            Ok(reader) => reader,
            Err(error) => return Ok(Err((group, error.to_string()))),
        };
        for batch in reader {
            match batch {
                Ok(batch) if batch.num_columns() == 1 => sum = sum.wrapping_add(column_sum(batch.column(0))?),
                Ok(_) => return Err(Error::new(ErrorKind::Internal, "a projection of one column has another number")),
                Err(error) => return Ok(Err((group, error.to_string()))),
            }
        }
    }
    Ok(Ok(sum))
}

/// Rows of a column that decode to about [`BATCH_BYTES`], over all of its leaves.
fn batch_rows(schema: &SchemaDescriptor, group: &RowGroupMetaData, column: usize) -> usize {
    let leaves = group.columns().iter().enumerate().filter(|(leaf, _)| schema.get_column_root_idx(*leaf) == column);
    let bytes: i64 = leaves.map(|(_, chunk)| chunk.uncompressed_size()).sum();
    let row_bytes = bytes / group.num_rows().max(1) + 1;
    (BATCH_BYTES / row_bytes).clamp(1, 65_536) as usize
}

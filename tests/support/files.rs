//! What a run leaves on disk, read without rivet.

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::Value;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

#[track_caller]
pub fn manifest(run_dir: &Path) -> Value {
    let path = run_dir.join("manifest.json");
    let bytes = fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_slice(&bytes).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The parts that the manifest names, after a check of the whole directory: `_SUCCESS` is the fingerprint of the
/// manifest's bytes, and every part has the size and the fingerprint that the manifest gives it.
#[track_caller]
pub fn parts(run_dir: &Path) -> Vec<PathBuf> {
    let bytes = fs::read(run_dir.join("manifest.json")).unwrap_or_else(|e| panic!("{}: {e}", run_dir.display()));
    let success = fs::read_to_string(run_dir.join("_SUCCESS")).unwrap_or_else(|e| panic!("{}: {e}", run_dir.display()));
    assert_eq!(success.trim_end(), fingerprint(&bytes), "_SUCCESS does not name the manifest beside it");
    let manifest = manifest(run_dir);
    let parts = manifest["parts"].as_array().expect("a manifest has parts");
    let mut paths = Vec::new();
    for part in parts.iter().filter(|part| part["status"] == "committed") {
        let path = run_dir.join(part["path"].as_str().expect("a part has a path"));
        let bytes = fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        assert_eq!(part["size_bytes"], bytes.len() as u64, "{}", path.display());
        assert_eq!(part["content_fingerprint"], fingerprint(&bytes), "{}", path.display());
        paths.push(path);
    }
    paths
}

pub fn fingerprint(bytes: &[u8]) -> String {
    format!("xxh3:{:016x}", xxhash_rust::xxh3::xxh3_64(bytes))
}

/// Every row of the files as text, sorted. Quick, and in this process: for comparing many outputs of small tables.
#[track_caller]
pub fn rows(parts: &[PathBuf]) -> Vec<String> {
    let mut rows = Vec::new();
    let options = FormatOptions::new().with_null("\\N");
    for path in parts {
        let file = File::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let reader =
            ParquetRecordBatchReaderBuilder::try_new(file).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        for batch in reader.build().expect("a reader can be built") {
            let batch = batch.unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            let zoneless: Vec<ArrayRef> = batch.columns().iter().map(without_zone).collect();
            let columns: Vec<ArrayFormatter> = zoneless
                .iter()
                .map(|column| ArrayFormatter::try_new(column, &options).expect("every column can be shown"))
                .collect();
            for row in 0..batch.num_rows() {
                let cells: Vec<String> = columns.iter().map(|column| column.value(row).to_string()).collect();
                rows.push(cells.join("\t"));
            }
        }
    }
    rows.sort_unstable();
    rows
}

/// Times with a zone cannot be shown without a list of zones, and their instants are what is compared.
fn without_zone(column: &ArrayRef) -> ArrayRef {
    match column.data_type() {
        DataType::Timestamp(unit, Some(_)) => {
            arrow::compute::cast(column, &DataType::Timestamp(*unit, None)).expect("a zone can be taken away")
        }
        _ => column.clone(),
    }
}

/// Paths of all files under a directory, relative to it, sorted.
pub fn tree(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![root.to_owned()];
    while let Some(dir) = open.pop() {
        let Ok(entries) = fs::read_dir(&dir) else { continue };
        for entry in entries.flatten() {
            let path = entry.path();
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                open.push(path);
            } else {
                found.push(path.strip_prefix(root).expect("it lies under the root").display().to_string());
            }
        }
    }
    found.sort();
    found
}

/// Every file that has a final part name opens as Parquet and has a footer: no half file, whatever happened.
#[track_caller]
pub fn assert_no_half_part(run_dir: &Path) {
    for name in tree(run_dir) {
        let part = name.starts_with("part-") && name.ends_with(".parquet");
        if part {
            let path = run_dir.join(&name);
            let file = File::open(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            let reader = ParquetRecordBatchReaderBuilder::try_new(file)
                .unwrap_or_else(|e| panic!("half a file under a final name: {}: {e}", path.display()));
            let promised = reader.metadata().file_metadata().num_rows();
            let batches = reader.build().expect("a reader can be built");
            let read: usize = batches.map(|batch| batch.unwrap_or_else(|e| panic!("{name}: {e}")).num_rows()).sum();
            assert_eq!(read as i64, promised, "{}", path.display());
        }
    }
}

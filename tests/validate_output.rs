//! Damage of every kind to a run's output is found and named.

#[path = "support/manifests.rs"]
mod manifests;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use manifests::{RUN, manifest};
use rivet::ErrorKind;
use rivet::destination::local::LocalPrefix;
use rivet::encode::parquet::{ParquetOptions, PartEncoder};
use rivet::manifest::model::*;
use rivet::manifest::pointer::LatestRun;
use rivet::manifest::write;
use rivet::run::schema::{Column, ColumnType, Schema};
use rivet::verify::validate::{Depth, ValidationReport, validate};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const ROWS: i64 = 3_000;

fn schema() -> Schema {
    let column = |name: &str, column_type, nullable| Column {
        name: name.into(),
        column_type,
        nullable,
        source_type: "native".into(),
    };
    Schema { columns: vec![column("id", ColumnType::Int64, false), column("note", ColumnType::Text, true)] }
}

fn write_part(prefix: &LocalPrefix, slice: u32, checksums: &mut dyn FnMut(&mut Vec<u64>)) -> ManifestPart {
    let path = format!("part-{slice:06}-000.parquet");
    let options = ParquetOptions { row_group_rows: Some(1_000), ..ParquetOptions::default() };
    let mut encoder = PartEncoder::new(prefix.create_part(&path).unwrap(), &schema(), &options, vec![]).unwrap();
    let ids = i64::from(slice) * ROWS..i64::from(slice + 1) * ROWS;
    let notes = StringArray::from_iter(ids.clone().map(|i| (i % 5 > 0).then(|| format!("note {}", i * i))));
    let columns: [(&str, ArrayRef); 2] =
        [("id", Arc::new(Int64Array::from_iter_values(ids))), ("note", Arc::new(notes))];
    encoder.write(&RecordBatch::try_from_iter(columns).unwrap()).unwrap();
    let (file, mut part) = encoder.finish().unwrap();
    let sealed = file.seal().unwrap();
    checksums(&mut part.column_checksums);
    let entry = ManifestPart {
        size_bytes: sealed.bytes,
        content_fingerprint: sealed.fingerprint,
        ..manifests::part(&format!("{slice}-0"), path, part.rows, part.column_checksums)
    };
    sealed.publish().unwrap();
    entry
}

/// A complete run of three parts; `tamper` may change the recorded checksums of each.
fn deliver_with(tamper: &mut dyn FnMut(&mut Vec<u64>)) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("out");
    let prefix = LocalPrefix::prepare(&root, &root.join(RUN), RUN).unwrap();
    let parts = (0..3).map(|slice| write_part(&prefix, slice, tamper)).collect();
    let manifest = write::to_bytes(&manifest(schema(), parts)).unwrap();
    prefix.write_manifest(&manifest).unwrap();
    prefix.write_success(manifest.fingerprint).unwrap();
    let latest = LatestRun {
        run_id: RUN.into(),
        manifest: prefix.relative_to_root("manifest.json"),
        fingerprint: manifest.fingerprint,
        rows: 9_000,
        published_at: "2026-01-01T00:01:00Z".into(),
    };
    prefix.publish_latest("orders", latest).unwrap();
    (dir, root.join(RUN))
}

fn deliver() -> (tempfile::TempDir, PathBuf) {
    deliver_with(&mut |_| {})
}

fn part(prefix: &Path) -> PathBuf {
    prefix.join("part-000001-000.parquet")
}

/// The only finding, as a line.
fn finding(report: &ValidationReport) -> String {
    assert!(!report.passed);
    let lines: Vec<String> = report.findings.iter().map(ToString::to_string).collect();
    assert_eq!(lines.len(), 1, "{lines:#?}");
    lines.into_iter().next().unwrap()
}

#[test]
fn an_output_as_it_was_written_passes_at_both_depths() {
    let (_dir, prefix) = deliver();
    for depth in [Depth::Size, Depth::Full] {
        let report = validate(&prefix, depth).unwrap();
        assert!(report.passed, "{:#?}", report.findings);
        assert_eq!((report.parts_checked, report.rows, report.legacy_run), (3, 9_000, false));
        assert_eq!((report.run_id.as_deref(), report.unknown_files.len()), (Some(RUN), 0));
    }
}

#[test]
fn missing_longer_and_shorter_parts_are_found_without_reading_them() {
    let (_dir, prefix) = deliver();
    let good = fs::read(part(&prefix)).unwrap();
    let path = "part-000001-000.parquet";
    for bytes in [&good[..good.len() - 1], &good[..0], &[&good[..], b"x"].concat()] {
        fs::write(part(&prefix), bytes).unwrap();
        let report = validate(&prefix, Depth::Size).unwrap();
        assert_eq!(
            finding(&report),
            format!("{path}: has {} bytes, and the manifest says {}", bytes.len(), good.len())
        );
        assert_eq!((report.parts_checked, report.rows), (3, 6_000));
    }
    fs::remove_file(part(&prefix)).unwrap();
    assert_eq!(finding(&validate(&prefix, Depth::Size).unwrap()), format!("{path}: is missing"));
    fs::create_dir(part(&prefix)).unwrap();
    assert_eq!(finding(&validate(&prefix, Depth::Size).unwrap()), format!("{path}: is not a file"));
}

#[test]
fn a_bit_flipped_anywhere_in_a_part_is_found_at_full_depth_and_never_a_panic() {
    let (_dir, prefix) = deliver();
    let good = fs::read(part(&prefix)).unwrap();
    let mut named_a_column = 0;
    let flips: Vec<usize> = (0..good.len()).step_by(37).collect();
    for &at in &flips {
        let mut flipped = good.clone();
        flipped[at] ^= 1 << (at % 8);
        fs::write(part(&prefix), &flipped).unwrap();
        assert!(validate(&prefix, Depth::Size).unwrap().passed, "the size is the same");
        let report = validate(&prefix, Depth::Full).unwrap();
        assert!(!report.passed, "byte {at}");
        assert!(report.findings.iter().all(|finding| finding.path == "part-000001-000.parquet"));
        assert!(report.findings[0].what.starts_with("content fingerprint is xxh3:"), "{}", report.findings[0]);
        named_a_column += usize::from(report.findings.iter().any(|finding| finding.what.contains("column \"")));
    }
    assert!(named_a_column > flips.len() / 2, "{named_a_column} of {} findings say where", flips.len());
}

#[test]
fn a_file_of_the_right_bytes_with_other_values_than_went_in_is_found() {
    let mut parts = 0;
    let (_dir, prefix) = deliver_with(&mut |sums| {
        parts += 1;
        if parts == 2 {
            sums[1] ^= 1;
        }
    });
    assert!(validate(&prefix, Depth::Size).unwrap().passed);
    let line = finding(&validate(&prefix, Depth::Full).unwrap());
    assert!(line.starts_with("part-000001-000.parquet: column \"note\": checksum sum64:"), "{line}");
}

#[test]
fn another_complete_parquet_file_in_a_parts_place_is_found() {
    let (_dir, prefix) = deliver();
    let mut manifest: serde_json::Value =
        serde_json::from_slice(&fs::read(prefix.join("manifest.json")).unwrap()).unwrap();
    // Parts 0 and 1 exchanged, sizes and fingerprints adjusted: only the values can tell.
    let (a, b) = (manifest["parts"][0].clone(), manifest["parts"][1].clone());
    for key in ["size_bytes", "content_fingerprint"] {
        manifest["parts"][0][key] = b[key].clone();
        manifest["parts"][1][key] = a[key].clone();
    }
    fs::rename(prefix.join("part-000000-000.parquet"), prefix.join("x")).unwrap();
    fs::rename(part(&prefix), prefix.join("part-000000-000.parquet")).unwrap();
    fs::rename(prefix.join("x"), part(&prefix)).unwrap();
    let bytes = serde_json::to_vec(&manifest).unwrap();
    fs::write(prefix.join("manifest.json"), &bytes).unwrap();
    fs::write(prefix.join("_SUCCESS"), write::success_line(rivet::run::ids::Fingerprint::of(&bytes))).unwrap();
    assert!(validate(&prefix, Depth::Size).unwrap().passed);
    let report = validate(&prefix, Depth::Full).unwrap();
    assert_eq!(report.findings.len(), 4, "both columns of both parts: {:#?}", report.findings);
}

#[test]
fn a_marker_that_is_missing_damaged_or_of_another_manifest_is_found() {
    let (_dir, prefix) = deliver();
    let marker = prefix.join("_SUCCESS");
    fs::write(&marker, "xxh3:0000000000000001\n").unwrap();
    assert!(
        finding(&validate(&prefix, Depth::Size).unwrap())
            .starts_with("_SUCCESS: vouches for a manifest xxh3:0000000000000001")
    );
    for bytes in [&b""[..], b"123456789012345678901", b"\xff\xfe\x00", &[b'x'; 10_000]] {
        fs::write(&marker, bytes).unwrap();
        assert!(finding(&validate(&prefix, Depth::Size).unwrap()).starts_with("_SUCCESS: "));
    }
    fs::remove_file(&marker).unwrap();
    assert_eq!(finding(&validate(&prefix, Depth::Size).unwrap()), "_SUCCESS: is missing: the run was not completed");
}

#[test]
fn a_manifest_cut_or_flipped_anywhere_never_passes_and_never_panics() {
    let (_dir, prefix) = deliver();
    let path = prefix.join("manifest.json");
    let good = fs::read(&path).unwrap();
    for end in (0..good.len()).step_by(97) {
        fs::write(&path, &good[..end]).unwrap();
        assert!(!validate(&prefix, Depth::Size).unwrap().passed, "cut at {end}");
    }
    for at in 0..good.len() {
        let mut flipped = good.clone();
        flipped[at] ^= 1 << (at % 8);
        fs::write(&path, &flipped).unwrap();
        assert!(!validate(&prefix, Depth::Size).unwrap().passed, "byte {at}");
    }
}

#[test]
fn files_that_the_manifest_does_not_name_are_reported_and_do_not_fail_it() {
    let (_dir, prefix) = deliver();
    fs::write(prefix.join("part-000009-000.parquet"), b"?").unwrap();
    fs::create_dir(prefix.join("day=1")).unwrap();
    fs::write(prefix.join("day=1/x.csv"), b"?").unwrap();
    let report = validate(&prefix, Depth::Full).unwrap();
    assert!(report.passed);
    assert_eq!(report.unknown_files, ["day=1/x.csv", "part-000009-000.parquet"]);
}

#[test]
fn a_prefix_without_a_manifest_is_labelled_and_never_passes() {
    let (_dir, prefix) = deliver();
    fs::remove_file(prefix.join("manifest.json")).unwrap();
    let report = validate(&prefix, Depth::Size).unwrap();
    assert!(report.legacy_run && !report.left_out.is_empty());
    assert_eq!(finding(&report), "manifest.json: is missing: nothing says what should be here");
    assert_eq!(report.unknown_files.len(), 4);
}

#[test]
fn a_root_is_not_a_run_and_says_which_runs_it_has() {
    let (_dir, prefix) = deliver();
    let error = validate(prefix.parent().unwrap(), Depth::Size).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert!(error.hint().contains(RUN), "{}", error.hint());
    assert_eq!(validate(&prefix.join("nowhere"), Depth::Size).unwrap_err().kind(), ErrorKind::DestinationIo);
}

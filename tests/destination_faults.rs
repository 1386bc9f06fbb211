//! Kills, failed calls and full disks while a run's files are written: never half a file under a final name.

#![cfg(feature = "failpoints")]

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use rivet::destination::local::{Found, LocalPrefix};
use rivet::encode::parquet::{EncodedPart, ParquetOptions, PartEncoder};
use rivet::manifest::pointer::LatestRun;
use rivet::manifest::read;
use rivet::manifest::write::ManifestBytes;
use rivet::run::ids::Fingerprint;
use rivet::run::schema::{Column, ColumnType, Schema};
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

const RUN: &str = "orders-01ARZ3NDEKTSV4RRFFQ69G5FAV";
const PARTS: [&str; 2] = ["part-000000-000.parquet", "part-000001-000.parquet"];

/// Names the directory to work in, and makes this process the one that a test stops.
const CHILD: &str = "RIVET_TEST_CHILD_ROOT";

fn schema() -> Schema {
    let column =
        Column { name: "id".into(), column_type: ColumnType::Int64, nullable: false, source_type: "bigint".into() };
    Schema { columns: vec![column] }
}

/// A part of about two megabytes, in several writes; always the same bytes.
fn write_part(prefix: &LocalPrefix, name: &str) -> rivet::Result<EncodedPart> {
    let options = ParquetOptions { row_group_bytes: 600_000, ..ParquetOptions::default() };
    let mut encoder = PartEncoder::new(prefix.create_part(name)?, &schema(), &options, vec![])?;
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..25 {
        let ids: ArrayRef = Arc::new(Int64Array::from_iter_values((0..10_000).map(|_| random.i64(..))));
        encoder.write(&RecordBatch::try_from_iter([("id", ids)]).unwrap())?;
    }
    let (file, part) = encoder.finish()?;
    file.seal()?.publish()?;
    Ok(part)
}

fn manifest() -> ManifestBytes {
    let bytes = format!("{{\"run_id\": \"{RUN}\"}}\n").into_bytes();
    ManifestBytes { fingerprint: Fingerprint::of(&bytes), bytes }
}

/// What a run does, and what a resume of it does: keep the parts that are whole, write the others, then publish.
fn deliver(root: &Path) -> rivet::Result<()> {
    let prefix = LocalPrefix::prepare(root, &root.join(RUN), RUN)?;
    prefix.sweep_temps()?;
    for name in PARTS {
        if prefix.look(name)? == Found::Missing {
            write_part(&prefix, name)?;
        }
    }
    let manifest = manifest();
    prefix.write_manifest(&manifest)?;
    prefix.write_success(manifest.fingerprint)?;
    let latest = LatestRun {
        run_id: RUN.into(),
        manifest: prefix.relative_to_root(read::MANIFEST),
        fingerprint: manifest.fingerprint,
        rows: 500_000,
        published_at: "2026-01-01T00:00:00Z".into(),
    };
    prefix.publish_latest("orders", latest)
}

/// Runs `test` of this binary again, as the process to be stopped. `script` is for the failpoints.
fn run_child(test: &str, root: &Path, script: &str, trace: Option<&Path>) -> Output {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture"]).env(CHILD, root).env("RIVET_FAILPOINTS", script);
    if let Some(trace) = trace {
        command.env("RIVET_FAILPOINTS_TRACE", trace);
    }
    command.output().unwrap()
}

/// Where the child should work, in the child.
fn child_root() -> Option<PathBuf> {
    std::env::var_os(CHILD).map(PathBuf::from)
}

/// All files with final names, relative to the root, with their bytes.
fn visible(root: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    let mut dirs = vec![root.to_owned()];
    while let Some(dir) = dirs.pop() {
        let Ok(entries) = fs::read_dir(&dir) else { continue };
        for path in entries.map(|entry| entry.unwrap().path()) {
            let name = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
            let hidden = path.file_name().unwrap().to_string_lossy().starts_with('.');
            match path.is_dir() {
                true => dirs.push(path),
                false if !hidden => found.push((name, fs::read(&path).unwrap())),
                false => {}
            }
        }
    }
    found.sort();
    found
}

/// Every place at which a run can be stopped, from a run that was not, and what that run delivered.
fn probe(test: &str) -> (Vec<String>, Vec<(String, Vec<u8>)>) {
    let dir = tempfile::tempdir().unwrap();
    let (root, trace) = (dir.path().join("out"), dir.path().join("trace"));
    let output = run_child(test, &root, "", Some(&trace));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let points: Vec<String> = fs::read_to_string(trace).unwrap().lines().map(str::to_owned).collect();
    (points, visible(&root))
}

/// Parts before manifest, manifest before success, success before the pointer.
fn assert_nothing_is_half_done(point: &str, whole: &[(String, Vec<u8>)], found: &[(String, Vec<u8>)]) {
    for file in found {
        assert!(whole.contains(file), "{point}: {} is not the file that it should be", file.0);
    }
    let there = |name: &str| found.iter().any(|(found, _)| *found == name);
    let in_run = |name: &str| there(&format!("{RUN}/{name}"));
    assert!(!in_run("manifest.json") || PARTS.iter().all(|part| in_run(part)), "{point}: manifest before parts");
    assert!(!in_run("_SUCCESS") || in_run("manifest.json"), "{point}: success before manifest");
    assert!(!there("manifest.json") || in_run("_SUCCESS"), "{point}: pointer before success");
}

#[test]
fn a_run_killed_at_any_point_leaves_whole_files_only_and_converges_when_it_is_resumed() {
    if let Some(root) = child_root() {
        return deliver(&root).unwrap();
    }
    let test = "a_run_killed_at_any_point_leaves_whole_files_only_and_converges_when_it_is_resumed";
    let (points, whole) = probe(test);
    for name in ["part.created", "part.written", "part.synced", "part.renamed", "part.dir_synced"] {
        assert!(points.contains(&format!("{name}@2")), "{name} is passed for each part: {points:?}");
    }
    for name in ["manifest.written@1", "manifest.renamed@1", "success.written@1", "latest.written@1"] {
        assert!(points.contains(&name.to_owned()), "{name} is passed: {points:?}");
    }
    assert_eq!(whole.len(), 5);
    for point in &points {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("out");
        let killed = run_child(test, &root, &format!("{point}=kill"), None);
        assert_eq!(killed.status.signal(), Some(9), "{point}: {}", String::from_utf8_lossy(&killed.stderr));
        assert_nothing_is_half_done(point, &whole, &visible(&root));
        deliver(&root).unwrap();
        assert_eq!(visible(&root), whole, "{point}");
        let left = LocalPrefix::open(&root, &root.join(RUN)).list().unwrap();
        assert!(left.iter().all(|name| !name.ends_with(".tmp")), "{point}: {left:?}");
    }
}

#[test]
fn a_call_that_fails_at_any_point_is_a_typed_error_and_leaves_whole_files_only() {
    if let Some(root) = child_root() {
        let error = deliver(&root).unwrap_err();
        assert_eq!(error.kind(), rivet::ErrorKind::DestinationIo);
        assert!(error.what().contains("injected at") && error.what().contains("/out"), "{}", error.what());
        return;
    }
    let (points, whole) = probe("a_run_killed_at_any_point_leaves_whole_files_only_and_converges_when_it_is_resumed");
    for point in &points {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("out");
        let test = "a_call_that_fails_at_any_point_is_a_typed_error_and_leaves_whole_files_only";
        let failed = run_child(test, &root, &format!("{point}=error"), None);
        assert!(failed.status.success(), "{point}: {}", String::from_utf8_lossy(&failed.stderr));
        assert_nothing_is_half_done(point, &whole, &visible(&root));
        deliver(&root).unwrap();
        assert_eq!(visible(&root), whole, "{point}");
    }
}

/// Writes one small part, then one that does not fit. In a directory that is already prepared, as after a start.
fn fill_up(root: &Path) {
    let prefix = LocalPrefix::prepare(root, &root.join(RUN), RUN).unwrap();
    let mut small = prefix.create_part("small.parquet").unwrap();
    std::io::Write::write_all(&mut small, b"fits").unwrap();
    small.seal().unwrap().publish().unwrap();
    let error = write_part(&prefix, PARTS[0]).unwrap_err();
    assert_eq!(error.kind(), rivet::ErrorKind::DestinationFull, "{}", error.what());
    assert!(error.what().contains(PARTS[0]), "{}", error.what());
    assert_eq!(prefix.list().unwrap(), ["small.parquet"], "the space is given back");
    println!("the disk was full");
}

/// Runs `test` as a child of a shell that first executes `setup`; `$ROOT` is the directory to work in.
fn run_in_shell(test: &str, root: &Path, wrapper: &[&str], setup: &str) -> Output {
    let exe = std::env::current_exe().unwrap();
    let script = format!("{setup} && exec \"$0\" --exact {test} --nocapture");
    let (program, args) = wrapper.split_first().unwrap();
    Command::new(program)
        .args(args)
        .arg("sh")
        .arg("-c")
        .arg(script)
        .arg(exe)
        .env(CHILD, root)
        .env("ROOT", root)
        .output()
        .unwrap()
}

fn assert_was_full(output: &Output) {
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("the disk was full"),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn a_file_that_may_not_grow_is_a_full_destination() {
    if let Some(root) = child_root() {
        return fill_up(&root);
    }
    let dir = tempfile::tempdir().unwrap();
    // In blocks of 512 bytes. The signal that comes with the limit is ignored, as the program does.
    let setup = "trap '' XFSZ; ulimit -f 2000";
    assert_was_full(&run_in_shell("a_file_that_may_not_grow_is_a_full_destination", dir.path(), &["env"], setup));
}

#[test]
fn a_full_disk_is_a_full_destination_and_gets_its_space_back() {
    if let Some(root) = child_root() {
        return fill_up(&root);
    }
    let dir = tempfile::tempdir().unwrap();
    let test = "a_full_disk_is_a_full_destination_and_gets_its_space_back";
    let namespace = ["unshare", "-Urm"];
    let mount = "mount -t tmpfs -o size=1m tmpfs \"$ROOT\"";
    let probe = Command::new("unshare").args(["-Urm", "sh", "-c", mount]).env("ROOT", dir.path()).status();
    if probe.is_ok_and(|status| status.success()) {
        assert_was_full(&run_in_shell(test, dir.path(), &namespace, mount));
    } else {
        assert!(
            std::env::var_os("RIVET_TEST_WITHOUT_MOUNT").is_some(),
            "no file system can be mounted here; set RIVET_TEST_WITHOUT_MOUNT=1 to make do with a limit on a file's size"
        );
        assert_was_full(&run_in_shell(test, dir.path(), &["env"], "trap '' XFSZ; ulimit -f 1000"));
    }
}

//! A run's directory: what is refused, what is left alone, and what a part's file goes through.

use rivet::ErrorKind;
use rivet::destination::local::{Found, LocalPrefix};
use rivet::manifest::pointer::{self, LatestRun};
use rivet::manifest::read;
use rivet::manifest::write::ManifestBytes;
use rivet::run::ids::Fingerprint;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

const RUN: &str = "orders-01ARZ3NDEKTSV4RRFFQ69G5FAV";
const PART: &str = "part-000000-000.parquet";

fn root() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("out");
    (dir, root)
}

fn prepare(root: &Path) -> LocalPrefix {
    LocalPrefix::prepare(root, &root.join(RUN), RUN).unwrap()
}

fn refusal(root: &Path, prefix: &Path) -> (ErrorKind, String) {
    let error = LocalPrefix::prepare(root, prefix, RUN).unwrap_err();
    (error.kind(), error.what().to_owned())
}

fn bytes(text: &str) -> ManifestBytes {
    ManifestBytes { bytes: text.into(), fingerprint: Fingerprint::of(text.as_bytes()) }
}

fn latest(run_id: &str) -> LatestRun {
    LatestRun {
        run_id: run_id.into(),
        manifest: format!("{run_id}/manifest.json"),
        fingerprint: Fingerprint(1),
        rows: 1,
        published_at: "2026-01-01T00:00:00Z".into(),
    }
}

/// Every file below a directory with its bytes, to see that nothing changed.
fn everything(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.push((path.clone(), Vec::new()));
            found.extend(everything(&path));
        } else {
            found.push((path.clone(), fs::read(&path).unwrap()));
        }
    }
    found.sort();
    found
}

#[test]
fn a_part_appears_whole_and_with_the_fingerprint_of_its_bytes() {
    let (_dir, root) = root();
    let prefix = prepare(&root);
    let mut part = prefix.create_part(PART).unwrap();
    part.write_all(b"PAR1").unwrap();
    part.write_all(&[7; 100_000]).unwrap();
    assert_eq!(part.bytes(), 100_004);
    assert_eq!(prefix.list().unwrap(), [format!(".{PART}.tmp")]);

    let sealed = part.seal().unwrap();
    assert_eq!(
        (sealed.bytes, fs::metadata(root.join(RUN).join(format!(".{PART}.tmp"))).unwrap().len()),
        (100_004, 100_004)
    );
    let fingerprint = sealed.fingerprint;
    assert_eq!(prefix.look(PART).unwrap(), Found::Temp { bytes: 100_004, fingerprint });

    sealed.publish().unwrap();
    assert_eq!(prefix.list().unwrap(), [PART]);
    assert_eq!(prefix.look(PART).unwrap(), Found::Final { bytes: 100_004, fingerprint });
    assert_eq!(Fingerprint::of(&fs::read(root.join(RUN).join(PART)).unwrap()), fingerprint);
}

#[test]
fn a_part_given_up_leaves_nothing_and_a_redo_overwrites_its_own_file() {
    let (_dir, root) = root();
    let prefix = prepare(&root);
    let mut part = prefix.create_part(PART).unwrap();
    part.write_all(b"half").unwrap();
    drop(part);
    assert_eq!(prefix.look(PART).unwrap(), Found::Missing);

    // What a killed process leaves behind is longer than what the next attempt writes.
    fs::write(root.join(RUN).join(format!(".{PART}.tmp")), vec![1; 5_000]).unwrap();
    for text in ["first", "2nd"] {
        let mut part = prefix.create_part(PART).unwrap();
        part.write_all(text.as_bytes()).unwrap();
        part.seal().unwrap().publish().unwrap();
        assert_eq!(fs::read_to_string(root.join(RUN).join(PART)).unwrap(), text);
    }
    assert_eq!(prefix.list().unwrap(), [PART]);
}

#[test]
fn a_redo_that_was_sealed_but_not_renamed_is_found_behind_the_file_it_replaces() {
    let (_dir, root) = root();
    let prefix = prepare(&root);
    let mut part = prefix.create_part(PART).unwrap();
    part.write_all(b"superseded").unwrap();
    part.seal().unwrap().publish().unwrap();
    let mut part = prefix.create_part(PART).unwrap();
    part.write_all(b"the redo").unwrap();
    let sealed = part.seal().unwrap();
    let (bytes, fingerprint) = (sealed.bytes, sealed.fingerprint);

    assert!(matches!(prefix.look(PART).unwrap(), Found::Final { bytes: 10, .. }));
    assert_eq!(prefix.look_for(PART, bytes, fingerprint).unwrap(), Found::Temp { bytes, fingerprint });
    assert!(matches!(prefix.look_for(PART, bytes, Fingerprint(1)).unwrap(), Found::Final { bytes: 10, .. }));
    prefix.adopt_temp(PART).unwrap();
    assert_eq!(prefix.look_for(PART, bytes, fingerprint).unwrap(), Found::Final { bytes, fingerprint });
    assert_eq!(prefix.list().unwrap(), [PART]);
    assert!(prefix.adopt_temp(PART).is_err(), "there is nothing left to adopt");
}

#[test]
fn names_that_leave_the_prefix_are_refused() {
    let (_dir, root) = root();
    let prefix = prepare(&root);
    for name in ["", ".", "..", "../x", "a/../../x", "/etc/passwd", "a/", "./a"] {
        assert_eq!(prefix.create_part(name).err().map(|e| e.kind()), Some(ErrorKind::Internal), "{name:?}");
        assert_eq!(prefix.remove(name).err().map(|e| e.kind()), Some(ErrorKind::Internal), "{name:?}");
    }
    prefix.create_part("day=1/part.parquet").unwrap().seal().unwrap().publish().unwrap();
    assert_eq!(prefix.list().unwrap(), ["day=1/part.parquet"]);
}

#[test]
fn files_beside_the_runs_folder_are_left_alone_and_those_inside_are_the_runs() {
    let (_dir, root) = root();
    fs::create_dir_all(root.join("someone elses")).unwrap();
    fs::write(root.join("someone elses/data.parquet"), b"mine").unwrap();
    fs::write(root.join("notes.txt"), b"mine too").unwrap();
    let before = everything(&root);
    let prefix = prepare(&root);
    prefix.create_part(PART).unwrap().seal().unwrap().publish().unwrap();
    prefix.write_manifest(&bytes(&format!("{{\"run_id\": \"{RUN}\"}}"))).unwrap();
    prefix.write_success(Fingerprint(1)).unwrap();
    prefix.publish_latest("orders", latest(RUN)).unwrap();
    let after = everything(&root);
    assert!(before.iter().all(|file| after.contains(file)));
    // A second preparation is what a resume does.
    prepare(&root);
    assert_eq!(everything(&root), after);
    let names: Vec<_> = fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 4, "only our folder and the pointer were added: {names:?}");
}

#[test]
fn foreign_directories_are_refused_and_not_touched() {
    let (_dir, root) = root();
    fs::create_dir_all(root.join("data")).unwrap();
    fs::write(root.join("data/precious.parquet"), b"!").unwrap();
    let before = everything(&root);
    // Neither root nor prefix says whose it is.
    let (kind, what) = refusal(&root, &root);
    assert_eq!(kind, ErrorKind::DestinationForeign);
    assert!(what.contains(root.to_str().unwrap()), "{what}");
    assert_eq!(refusal(&root, &root.join("data")).0, ErrorKind::DestinationForeign);
    // Under the right name, but with another run's manifest.
    fs::create_dir(root.join(RUN)).unwrap();
    fs::write(root.join(RUN).join("manifest.json"), r#"{"run_id": "other"}"#).unwrap();
    let (kind, what) = refusal(&root, &root.join(RUN));
    assert_eq!(kind, ErrorKind::DestinationForeign);
    assert!(what.contains("run other"), "{what}");
    fs::write(root.join(RUN).join("manifest.json"), "not json").unwrap();
    // Under the right name one that cannot be read is this run's, damaged: it is there to be mended, and not touched yet.
    prepare(&root);
    assert_eq!(fs::read(root.join(RUN).join("manifest.json")).unwrap(), b"not json");
    fs::remove_dir_all(root.join(RUN)).unwrap();
    // A manifest at the root that is no pointer.
    fs::write(root.join("manifest.json"), r#"{"files": []}"#).unwrap();
    let (kind, what) = refusal(&root, &root.join(RUN));
    assert_eq!(kind, ErrorKind::DestinationForeign);
    assert!(what.contains("manifest.json"), "{what}");
    assert!(!root.join(RUN).exists());
    fs::remove_file(root.join("manifest.json")).unwrap();
    assert_eq!(everything(&root), before);
}

#[test]
fn a_root_that_is_a_file_or_lies_below_one_is_refused() {
    let (_dir, root) = root();
    fs::write(&root, b"a file").unwrap();
    assert_eq!(refusal(&root, &root.join(RUN)).0, ErrorKind::DestinationForeign);
    let below = root.join("deeper");
    assert_eq!(refusal(&below, &below.join(RUN)).0, ErrorKind::DestinationForeign);
    assert_eq!(fs::read(&root).unwrap(), b"a file");
}

#[test]
fn a_place_that_cannot_be_written_to_is_refused_by_name() {
    // Nobody makes directories there, not even root.
    let root = Path::new("/sys/kernel/rivet");
    let (kind, what) = refusal(root, &root.join(RUN));
    assert_eq!(kind, ErrorKind::DestinationUnwritable);
    assert!(what.contains("/sys/kernel/rivet"), "{what}");
}

#[test]
fn a_prefix_that_is_the_root_is_fine_when_it_is_empty_or_named_after_the_run() {
    let (_dir, root) = root();
    fs::create_dir_all(&root).unwrap();
    LocalPrefix::prepare(&root, &root, RUN).unwrap();
    let named = root.join(format!("daily {RUN}"));
    let prefix = LocalPrefix::prepare(&named, &named, RUN).unwrap();
    prefix.create_part(PART).unwrap().seal().unwrap().publish().unwrap();
    LocalPrefix::prepare(&named, &named, RUN).unwrap();
    prefix.publish_latest("orders", latest(RUN)).unwrap();
    assert_eq!(prefix.list().unwrap(), [PART], "no pointer where the manifest itself lies");
    assert_eq!(LocalPrefix::prepare(&root, Path::new("/tmp"), RUN).unwrap_err().kind(), ErrorKind::Internal);
}

#[test]
fn quarantine_keeps_everything_that_was_ever_put_there() {
    let (_dir, root) = root();
    let prefix = prepare(&root);
    let aside = format!("_quarantine/{RUN}/{PART}");
    assert_eq!(prefix.quarantine(PART, RUN).unwrap(), None);
    for (text, target) in [("one", aside.clone()), ("two", format!("{aside}.1")), ("three", format!("{aside}.2"))] {
        fs::write(root.join(RUN).join(PART), text).unwrap();
        assert_eq!(prefix.quarantine(PART, RUN).unwrap(), Some(target.clone()));
        assert_eq!(fs::read_to_string(root.join(RUN).join(target)).unwrap(), text);
        assert_eq!(prefix.look(PART).unwrap(), Found::Missing);
    }
    assert!(prefix.list().unwrap().is_empty(), "quarantined files are not listed");
    // A shelf that cannot be made is an error for the caller to warn of; the file stays.
    let blocked = prefix.quarantine(PART, "x");
    assert_eq!(blocked.unwrap(), None);
    fs::write(root.join(RUN).join(PART), "four").unwrap();
    fs::write(root.join(RUN).join("_quarantine/y"), "in the way").unwrap();
    assert!(prefix.quarantine(PART, "y").is_err());
    assert_eq!(fs::read_to_string(root.join(RUN).join(PART)).unwrap(), "four");
}

#[test]
fn only_temporary_files_of_our_own_making_are_swept() {
    let (_dir, root) = root();
    let prefix = prepare(&root);
    let ours = [".part-1.parquet.tmp", ".manifest.json.tmp", "._SUCCESS.tmp"];
    let theirs = [".nfs0001.tmp", "x.tmp", ".part-1.parquet", "part.parquet.tmp", ".hidden"];
    for name in ours.iter().chain(&theirs) {
        fs::write(root.join(RUN).join(name), b"x").unwrap();
    }
    let mut expected = ours.to_vec();
    expected.sort_unstable();
    assert_eq!(prefix.sweep_temps().unwrap(), expected);
    let mut left = theirs.to_vec();
    left.sort_unstable();
    assert_eq!(prefix.list().unwrap(), left);
}

#[test]
fn removal_takes_a_part_and_its_temporary_file_and_nothing_else() {
    let (_dir, root) = root();
    let prefix = prepare(&root);
    for name in [PART, ".part-000000-000.parquet.tmp", "part-000000-0001.parquet", "part-000000-000.parquet.bak"] {
        fs::write(root.join(RUN).join(name), b"x").unwrap();
    }
    prefix.remove(PART).unwrap();
    prefix.remove(PART).unwrap();
    assert_eq!(prefix.list().unwrap(), ["part-000000-000.parquet.bak", "part-000000-0001.parquet"]);
}

#[test]
fn a_new_manifest_takes_the_old_success_away_and_the_same_one_does_not() {
    let (_dir, root) = root();
    let prefix = prepare(&root);
    let first = bytes("{\"a\": 1}\n");
    prefix.write_manifest(&first).unwrap();
    prefix.write_success(first.fingerprint).unwrap();
    assert_eq!(read::success(prefix.path()).unwrap(), Some(first.fingerprint));
    prefix.write_manifest(&first).unwrap();
    assert_eq!(read::success(prefix.path()).unwrap(), Some(first.fingerprint));
    prefix.write_manifest(&bytes("{\"a\": 2}\n")).unwrap();
    assert_eq!(read::success(prefix.path()).unwrap(), None);
    assert_eq!(prefix.list().unwrap(), ["manifest.json"]);
}

#[test]
fn exports_that_share_a_root_do_not_lose_each_others_pointers() {
    let (_dir, root) = root();
    let exports: Vec<String> = (0..8).map(|i| format!("export-{i}")).collect();
    std::thread::scope(|scope| {
        for export in &exports {
            let root = root.clone();
            scope.spawn(move || {
                let run_id = format!("{export}-01ARZ3NDEKTSV4RRFFQ69G5FAV");
                for round in 0..20 {
                    let prefix = LocalPrefix::prepare(&root, &root.join(&run_id), &run_id).unwrap();
                    prefix.publish_latest(export, LatestRun { rows: round, ..latest(&run_id) }).unwrap();
                }
            });
        }
    });
    let pointer = pointer::read(&root).unwrap().unwrap();
    assert_eq!(pointer.exports.keys().collect::<Vec<_>>(), exports.iter().collect::<Vec<_>>());
    assert!(pointer.exports.values().all(|latest| latest.rows == 19));
    assert!(!root.join(".rivet.lock").exists(), "the directory itself was locked");

    let prefix = LocalPrefix::open(&root, &root.join("export-0-01ARZ3NDEKTSV4RRFFQ69G5FAV"));
    assert_eq!(prefix.relative_to_root("manifest.json"), "export-0-01ARZ3NDEKTSV4RRFFQ69G5FAV/manifest.json");
}

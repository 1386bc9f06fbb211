//! Manifests, markers and pointers as anyone may have left them.

#[path = "support/manifests.rs"]
mod manifests;

use rivet::ErrorKind;
use rivet::manifest::model::*;
use rivet::manifest::{pointer, read, write};
use rivet::run::ids::Fingerprint;
use rivet::run::schema::{Column, ColumnType, Schema};

fn part(id: &str, rows: u64) -> ManifestPart {
    manifests::part(id, format!("part-{id}.parquet"), rows, vec![u64::MAX])
}

fn manifest() -> Manifest {
    let column =
        Column { name: "id".into(), column_type: ColumnType::Int64, nullable: false, source_type: "bigint".into() };
    manifests::manifest(Schema { columns: vec![column] }, vec![part("0-0", 10), part("1-0", 20)])
}

#[test]
fn a_manifest_reads_back_as_it_was_written_and_always_makes_the_same_bytes() {
    let written = write::to_bytes(&manifest()).unwrap();
    assert_eq!(written, write::to_bytes(&manifest()).unwrap());
    assert_eq!(written.bytes.last(), Some(&b'\n'));
    assert_eq!(written.fingerprint, Fingerprint::of(&written.bytes));
    assert_eq!(read::parse(&written.bytes).unwrap(), manifest());
}

/// What is wrong, and a word of the message that says so.
type Damage = (fn(&mut Manifest), &'static str);

#[test]
fn a_manifest_that_contradicts_itself_is_neither_written_nor_read() {
    let damages: &[Damage] = &[
        (|m| m.manifest_version = 2, "version 2"),
        (|m| m.status = "failed".into(), "status"),
        (|m| m.run_id.clear(), "no name"),
        (|m| m.row_count = 31, "row_count is 31"),
        (|m| m.part_count = 3, "part_count is 3"),
        (|m| m.parts[1].rows = u64::MAX, "overflow"),
        (|m| m.parts[1].id = "0-0".into(), "stands twice"),
        (|m| m.parts[1].path = m.parts[0].path.clone(), "stands twice"),
        (|m| m.parts[0].path = "../elsewhere.parquet".into(), "leaves the prefix"),
        (|m| m.parts[0].path = "/etc/passwd".into(), "leaves the prefix"),
        (|m| m.parts[0].path = "a/../../b".into(), "leaves the prefix"),
        (|m| m.parts[0].path = "C:\\x".into(), "leaves the prefix"),
        (|m| m.parts[0].path = "a//b".into(), "leaves the prefix"),
        (|m| m.parts[0].path = String::new(), "leaves the prefix"),
        (|m| m.parts[0].status = "lost".into(), "unknown status"),
        (|m| m.parts[0].column_checksums.clear(), "column checksums"),
        (|m| m.parts[0].snapshot = 4, "snapshot 4"),
        (|m| m.consistency.kind = "eventual".into(), "eventual"),
        (|m| m.consistency.snapshots.push(m.consistency.snapshots[0].clone()), "listed twice"),
        (|m| m.schema.columns[0].name = "di".into(), "schema_fingerprint"),
    ];
    for (damage, word) in damages {
        let mut damaged = manifest();
        damage(&mut damaged);
        let bytes = serde_json::to_vec(&damaged).unwrap();
        let read = read::parse(&bytes).unwrap_err();
        assert_eq!(read.kind(), ErrorKind::ManifestInvalid);
        assert!(read.what().contains(word), "{word:?} is not in {:?}", read.what());
        assert_eq!(write::to_bytes(&damaged).unwrap_err().kind(), ErrorKind::RunInvariant, "{word}");
    }
    let two_snapshots = |kind: &str| {
        let mut m = manifest();
        m.consistency.snapshots.push(ManifestSnapshot { snapshot: 1, ..m.consistency.snapshots[0].clone() });
        m.parts[1].snapshot = 1;
        m.consistency.kind = kind.into();
        read::parse(&serde_json::to_vec(&m).unwrap())
    };
    assert!(two_snapshots("snapshot").unwrap_err().what().contains("name 2 of them"));
    two_snapshots("mixed").unwrap();
}

#[test]
fn a_manifest_cut_off_anywhere_or_with_any_byte_flipped_is_an_error_or_another_fingerprint_and_never_a_panic() {
    let good = write::to_bytes(&manifest()).unwrap();
    for end in 0..good.bytes.len() - 2 {
        assert!(read::parse(&good.bytes[..end]).is_err(), "cut at {end}");
    }
    for at in 0..good.bytes.len() {
        for bit in 0..8 {
            let mut flipped = good.bytes.clone();
            flipped[at] ^= 1 << bit;
            let _ = read::parse(&flipped);
            assert_ne!(Fingerprint::of(&flipped), good.fingerprint, "byte {at}, bit {bit}");
        }
    }
}

#[test]
fn unknown_keys_are_compatible_additions() {
    let mut value: serde_json::Value = serde_json::to_value(manifest()).unwrap();
    value["added_later"] = serde_json::json!({"x": 1});
    value["parts"][0]["added_later"] = serde_json::json!(2);
    assert_eq!(read::parse(&serde_json::to_vec(&value).unwrap()).unwrap(), manifest());
}

#[test]
fn a_success_marker_is_one_fingerprint_on_one_line_and_nothing_else() {
    let good = "xxh3:00000000000000ff";
    assert_eq!(good.len(), 21);
    assert_eq!(read::parse_success(good.as_bytes()), Some(Fingerprint(255)));
    assert_eq!(read::parse_success(write::success_line(Fingerprint(255)).as_bytes()), Some(Fingerprint(255)));
    assert_eq!(read::parse_success(b"xxh3:00000000000000ff\r\n"), Some(Fingerprint(255)));
    let bad: &[&[u8]] = &[
        b"",
        b"\n",
        b"xxh3:",
        b"xxh3:00000000000000f",
        b"xxh3:00000000000000FF",
        b"xxh3:+0000000000000ff",
        b"xxh3:00000000000000ff\n\n",
        b" xxh3:00000000000000ff",
        b"\xff\xfe\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10\x11\x12",
        "xxh3:0000000000000\u{20ac}".as_bytes(),
        b"123456789012345678901",
    ];
    for bytes in bad {
        assert_eq!(read::parse_success(bytes), None, "{bytes:?}");
    }
}

#[test]
fn control_files_are_read_up_to_their_cap_only() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(read::success(dir.path()).unwrap(), None);
    assert!(read::manifest(dir.path()).unwrap().is_none());

    std::fs::write(dir.path().join("_SUCCESS"), vec![b'x'; read::SUCCESS_CAP as usize + 1]).unwrap();
    let error = read::success(dir.path()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ManifestInvalid);
    assert!(error.what().contains("_SUCCESS is larger than 4096 bytes"), "{}", error.what());

    // A sparse file: large without being there.
    let huge = std::fs::File::create(dir.path().join("manifest.json")).unwrap();
    huge.set_len(read::MANIFEST_CAP + 1).unwrap();
    assert!(read::manifest(dir.path()).unwrap_err().what().contains("is larger than"));
    assert_eq!(pointer::read(dir.path()).unwrap_err().kind(), ErrorKind::ManifestInvalid);

    std::fs::remove_file(dir.path().join("manifest.json")).unwrap();
    std::fs::create_dir(dir.path().join("manifest.json")).unwrap();
    assert_eq!(read::manifest(dir.path()).unwrap_err().kind(), ErrorKind::ManifestInvalid);
}

#[test]
fn a_pointer_only_points_below_its_root() {
    let text = |version: u32, path: &str| {
        format!(
            r#"{{"pointer_version":{version},"exports":{{"orders":{{"run_id":"r","manifest":{path:?},
               "fingerprint":"xxh3:0000000000000001","rows":1,"published_at":"2026-01-01T00:00:00Z"}}}}}}"#
        )
    };
    let pointer = pointer::parse(text(1, "r/manifest.json").as_bytes()).unwrap();
    assert_eq!(pointer.exports["orders"].fingerprint, Fingerprint(1));
    assert_eq!(pointer::parse(&pointer::to_bytes(&pointer).unwrap()).unwrap(), pointer);
    for refused in [text(2, "r/manifest.json"), text(1, "../manifest.json"), "{}".into(), "[1]".into()] {
        assert_eq!(pointer::parse(refused.as_bytes()).unwrap_err().kind(), ErrorKind::ManifestInvalid, "{refused}");
    }
}

//! A manifest that would be too large is known of before the work is done.

mod support;

use rivet::manifest::model::{ColumnChecksum, Manifest};
use rivet::manifest::read::MANIFEST_CAP;
use rivet::manifest::room::{RESERVE, Room, most_slices, part_bytes, schema_bytes};
use rivet::manifest::write;
use rivet::run::schema::{Column, ColumnType, Schema};
use support::database::Database;
use support::rivet::{Finished, Rivet, Scratch, export, run_id};
use support::{files, oracle};

/// A run of six files.
fn six_files(name: &str) -> (Database, Scratch) {
    let database = Database::create(name);
    database.execute(
        "CREATE TABLE t (id int PRIMARY KEY, noise text);
         INSERT INTO t SELECT g, md5(g::text) FROM generate_series(1, 6000) g; ANALYZE t;",
    );
    let lines = "table: t\nmode: chunked\nchunk_count: 6\ntuning: { parallel: 1 }";
    let scratch = Scratch::with(&database, &[export("t", lines)]);
    (database, scratch)
}

fn manifest_of(scratch: &Scratch, run: &str) -> (Manifest, u64) {
    let bytes = std::fs::read(scratch.run_dir(run).join("manifest.json")).expect("a finished run has a manifest");
    (serde_json::from_slice(&bytes).expect("a manifest is one"), bytes.len() as u64)
}

fn estimated(manifest: &Manifest) -> u64 {
    let parts = manifest.parts.iter().map(|part| part_bytes(part).expect("a part can be written"));
    schema_bytes(&manifest.schema).expect("a schema can be written") + parts.sum::<u64>()
}

#[test]
fn what_is_counted_is_what_is_written() {
    let (_database, scratch) = six_files("room_counted");
    let (manifest, bytes) = manifest_of(&scratch, &run_id(&scratch.run_ok(&[])));
    assert_eq!(manifest.parts.len(), 6);
    let counted = estimated(&manifest);
    assert!(counted < bytes && bytes - counted < 4096, "{counted} of {bytes} bytes are accounted for");
    // To the byte, where only the parts differ.
    let mut fewer = manifest.clone();
    let gone = fewer.parts.pop().expect("there are parts");
    (fewer.part_count, fewer.row_count) = (fewer.part_count - 1, fewer.row_count - gone.rows);
    let written = write::to_bytes(&fewer).expect("it is still consistent").bytes.len() as u64;
    let digits = |n: u64| n.to_string().len() as u64;
    let counts =
        digits(manifest.part_count) + digits(manifest.row_count) - digits(fewer.part_count) - digits(fewer.row_count);
    assert_eq!(bytes - written, part_bytes(&gone).unwrap() + counts);
}

#[test]
fn as_many_parts_as_a_plan_may_have_fit_twice_however_wide_the_table_is() {
    for columns in [1, 10, 350, 1600] {
        let column = |i: usize| Column {
            name: format!("a_column_with_a_long_name_{i}"),
            column_type: ColumnType::TimestampUtc,
            nullable: true,
            source_type: "timestamp with time zone".to_owned(),
        };
        let schema = Schema { columns: (0..columns).map(column).collect() };
        let most = most_slices(&schema).unwrap();
        let room = Room::new(&schema, []).unwrap();
        let mut part = some_part(columns);
        let each = part_bytes(&part).unwrap();
        assert!(
            RESERVE + schema_bytes(&schema).unwrap() + 2 * most * each <= MANIFEST_CAP,
            "{columns} columns: {most} slices"
        );
        println!("{columns} columns: {most} slices, {each} bytes for a part");
        // And not far fewer than would fit.
        assert!(
            4 * most * (each + 1400) >= MANIFEST_CAP - RESERVE - schema_bytes(&schema).unwrap(),
            "{columns} columns: {most} slices"
        );
        if columns < 100 {
            continue;
        }
        let mut claimed = 0;
        let refused = loop {
            part.path = format!("part-{claimed:05}-0.parquet");
            match room.claim(&part) {
                Ok(_) => claimed += 1,
                Err(error) => break error,
            }
        };
        assert_eq!((refused.code(), refused.exit().code()), ("RIVET_MANIFEST_TOO_LARGE", 2));
        assert!(claimed >= 2 * most, "{columns} columns: {claimed} parts, {most} slices");
        room.give_back(each);
        room.claim(&part).expect("what is given back can be taken");
    }
}

fn some_part(columns: usize) -> rivet::manifest::model::ManifestPart {
    rivet::manifest::model::ManifestPart {
        id: "12345-0".to_owned(),
        path: "part-12345-0.parquet".to_owned(),
        rows: 1_000_000,
        size_bytes: 100_000_000,
        content_fingerprint: rivet::run::ids::Fingerprint(1),
        store_checksum: None,
        column_checksums: vec![ColumnChecksum(7); columns],
        key_range: None,
        snapshot: 0,
        status: "committed".to_owned(),
    }
}

#[test]
fn the_file_with_which_a_manifest_would_be_too_large_ends_the_run_before_it_is_delivered() {
    let (database, scratch) = six_files("room_full");
    let (manifest, _) = manifest_of(&scratch, &run_id(&scratch.run_ok(&[])));
    let parts = manifest.parts.len();
    let all = RESERVE + estimated(&manifest);
    let run = |cap: u64| -> Finished {
        let rivet = Rivet::new(&scratch).env("RIVET_FAILPOINTS", format!("manifest.cap=limit:{cap}"));
        rivet.run(&["run", "--fresh", "--json"])
    };
    let failed = run(all - 1).expect_error(2, "RIVET_MANIFEST_TOO_LARGE");
    let summary = failed.summary();
    assert_eq!(
        (summary["status"].as_str(), summary["files_committed"].as_u64()),
        (Some("failed"), Some(parts as u64 - 1))
    );
    let events = scratch.rivet(&["replay", "--events", "--json"]).expect_exit(0);
    assert_eq!(events.stdout.matches("\"part_sealed\"").count(), parts - 1, "the last file was not even announced");
    assert!(!scratch.run_dir(&run_id(&summary)).join("manifest.json").exists());
    // Exactly enough is enough: the same rows make the same files.
    let done = run(all).expect_exit(0).summary();
    oracle::assert_same_rows(&database, "SELECT * FROM t", &scratch.run_dir(&run_id(&done)));
    assert_eq!(files::parts(&scratch.run_dir(&run_id(&done))).len(), parts);
}

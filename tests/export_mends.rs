//! What a resume mends, and what it leaves alone: marks that were removed, parts that were damaged, definitions that
//! changed before anything was delivered.

mod support;

use std::fs;
use support::database::Database;
use support::rivet::{Scratch, export, run_id};
use support::{files, oracle};

const SLICED: &str = "table: t\nmode: chunked\nchunk_count: 3";

fn numbers(name: &str) -> Database {
    let database = Database::create(name);
    database.execute(
        "CREATE TABLE t (id bigint PRIMARY KEY, name text);
         INSERT INTO t SELECT g, 'name ' || g FROM generate_series(1, 9000) AS g; ANALYZE t;",
    );
    database
}

#[test]
fn a_manifest_or_a_mark_that_was_removed_is_refused_and_with_force_written_again() {
    let database = numbers("marks");
    let scratch = Scratch::with(&database, &[export("rows", SLICED)]);
    let run = run_id(&scratch.run_ok(&[]));
    let run_dir = scratch.run_dir(&run);
    let before = files::tree(&run_dir);
    for gone in [&["_SUCCESS"][..], &["manifest.json"], &["manifest.json", "_SUCCESS"]] {
        for name in gone {
            fs::remove_file(run_dir.join(name)).expect("the run left it");
        }
        scratch.rivet(&["resume", &run]).expect_error(5, "RIVET_DESTINATION_MISMATCH");
        scratch.rivet(&["resume", &run, "--force"]).expect_exit(0);
        assert_eq!(files::tree(&run_dir), before, "after {gone:?} was removed");
        scratch.rivet(&["validate", &run, "--depth", "full"]).expect_exit(0);
        scratch.rivet(&["replay", "--parts"]).expect_exit(0);
    }
    fs::write(run_dir.join("manifest.json"), "{").expect("the run left it");
    scratch.rivet(&["resume", &run, "--force"]).expect_exit(0);
    scratch.rivet(&["validate", &run, "--depth", "full"]).expect_exit(0);
    oracle::assert_same_rows(&database, "SELECT * FROM t", &run_dir);
}

#[test]
fn a_damaged_part_is_set_aside_and_only_its_slice_is_read_again() {
    let database = numbers("damaged_part");
    let scratch = Scratch::with(&database, &[export("rows", SLICED)]);
    let run = run_id(&scratch.run_ok(&[]));
    let run_dir = scratch.run_dir(&run);
    let parts = files::parts(&run_dir);
    let mut bytes = fs::read(&parts[1]).expect("a part can be read");
    bytes.push(0);
    fs::write(&parts[1], bytes).expect("a part can be written");
    let untouched = fs::metadata(&parts[0]).and_then(|metadata| metadata.modified()).expect("a part has a time");
    scratch.rivet(&["resume", &run]).expect_error(5, "RIVET_DESTINATION_MISMATCH");
    let mended = scratch.rivet(&["resume", &run, "--force", "--json"]).expect_exit(0).summary();
    assert_eq!(mended["total_rows"], 9000);
    let after = fs::metadata(&parts[0]).and_then(|metadata| metadata.modified()).expect("a part has a time");
    assert_eq!(after, untouched, "a part that was whole was written again");
    assert!(run_dir.join("_quarantine").join(&run).exists(), "the damaged bytes are gone");
    oracle::assert_same_rows(&database, "SELECT * FROM t", &run_dir);
    scratch.rivet(&["replay", "--parts"]).expect_exit(0);
}

#[test]
fn a_byte_that_changed_is_noticed_where_the_length_did_not() {
    let database = numbers("changed_byte");
    let scratch = Scratch::with(&database, &[export("rows", SLICED)]);
    let run = run_id(&scratch.run_ok(&[]));
    let part = &files::parts(&scratch.run_dir(&run))[1];
    let mut bytes = fs::read(part).expect("a part can be read");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(part, bytes).expect("a part can be written");
    drop(scratch.rivet(&["validate", &run]).expect_exit(0));
    drop(scratch.rivet(&["validate", &run, "--depth", "fingerprint"]).expect_exit(3).expect_in_stdout("fingerprint"));
    drop(scratch.rivet(&["resume", &run]).expect_error(5, "RIVET_DESTINATION_MISMATCH").expect_in_stderr("--force"));
    scratch.rivet(&["resume", &run, "--force"]).expect_exit(0);
    scratch.rivet(&["validate", &run, "--depth", "full"]).expect_exit(0);
    oracle::assert_same_rows(&database, "SELECT * FROM t", &scratch.run_dir(&run));
}

#[test]
fn only_the_latest_run_is_told_to_be_mendable() {
    let database = numbers("older_run");
    let scratch = Scratch::with(&database, &[export("rows", SLICED)]);
    let run = run_id(&scratch.run_ok(&[]));
    scratch.run_ok(&[]);
    fs::remove_dir_all(scratch.run_dir(&run)).expect("the run's directory can be removed");
    let refused = scratch.rivet(&["resume", &run]).expect_error(5, "RIVET_DESTINATION_MISMATCH");
    drop(refused.expect_in_stderr("its output is gone"));
    let run = run_id(&scratch.run_ok(&[]));
    scratch.run_ok(&[]);
    fs::remove_file(scratch.run_dir(&run).join("_SUCCESS")).expect("a run leaves its mark");
    let refused = scratch.rivet(&["resume", &run]).expect_error(5, "RIVET_DESTINATION_MISMATCH");
    drop(refused.expect_in_stderr("A later run of the export").expect_nowhere("--force"));
}

#[test]
fn an_output_that_is_gone_is_a_mismatch_for_resume_and_for_a_replay_that_asks_for_parts() {
    let database = numbers("gone");
    let scratch = Scratch::with(&database, &[export("rows", SLICED)]);
    let run = run_id(&scratch.run_ok(&[]));
    fs::remove_dir_all(scratch.run_dir(&run)).expect("the run's directory can be removed");
    scratch.rivet(&["resume", &run]).expect_error(5, "RIVET_DESTINATION_MISMATCH");
    scratch.rivet(&["replay"]).expect_exit(0);
    scratch.rivet(&["replay", "--parts"]).expect_error(3, "RIVET_REPLAY_DIVERGED");
}

#[test]
fn a_definition_that_is_corrected_before_anything_was_delivered_starts_anew() {
    let database = numbers("corrected");
    let scratch = Scratch::with(&database, &[export("rows", "table: tt")]);
    let failed = scratch.rivet(&["run"]).expect_error(2, "RIVET_SOURCE_MISSING");
    assert!(!failed.stdout.contains("rivet resume"), "a resume cannot help: {}", failed.stdout);
    scratch.write_config(&support::rivet::config(&database.url(), &[export("rows", "table: t")]));
    let run = run_id(&scratch.run_ok(&[]));
    oracle::assert_same_rows(&database, "SELECT * FROM t", &scratch.run_dir(&run));
}

#[cfg(feature = "failpoints")]
#[test]
fn a_slice_without_rows_in_a_later_snapshot_makes_the_run_mixed() {
    let database = numbers("mixed_empty");
    let scratch =
        Scratch::with(&database, &[export("rows", "table: t\nmode: chunked\nchunk_count: 3\ntuning: { parallel: 1 }")]);
    // Killed when two of the three slices are complete: each has one part.
    let killed = support::rivet::Rivet::new(&scratch).env("RIVET_FAILPOINTS", "part.created@3=kill").run(&["run"]);
    assert!(killed.killed(), "{killed}");
    database.execute("DELETE FROM t WHERE id > 5000");
    let summary = scratch.run_ok(&[]);
    let manifest = files::manifest(&scratch.run_dir(&run_id(&summary)));
    assert_eq!(manifest["consistency"]["kind"], "mixed", "{manifest}");
    assert_eq!(manifest["consistency"]["snapshots"].as_array().map(Vec::len), Some(2));
}

/// A project in `one/` whose run was killed when a part counted.
#[cfg(feature = "failpoints")]
fn killed_in_one(database: &Database, path: &str) -> (Scratch, String) {
    let scratch = Scratch::new();
    fs::create_dir(scratch.path().join("one")).expect("a scratch directory can be written");
    let export = export("rows", "table: t\nmode: chunked\nchunk_count: 3\ntuning: { parallel: 1 }");
    let yaml = support::rivet::config(&database.url(), &[export.replace("path: ./out", &format!("path: '{path}'"))]);
    scratch.write("one/rivet.yaml", yaml.as_bytes());
    let rivet = support::rivet::Rivet::new(&scratch).env("RIVET_FAILPOINTS", "part.created@2=kill");
    let killed = rivet.run(&["run", "-c", "one/rivet.yaml"]);
    assert!(killed.killed(), "{killed}");
    let run = run_id(&scratch.rivet(&["runs", "-c", "one/rivet.yaml", "--json"]).expect_exit(0).summaries()[0]);
    (scratch, run)
}

#[cfg(feature = "failpoints")]
#[test]
fn a_project_that_was_moved_is_not_resumed_into_its_old_place() {
    let database = numbers("moved");
    let (scratch, run) = killed_in_one(&database, "./out/{date}/{table}");
    let (one, two) = (scratch.path().join("one"), scratch.path().join("two"));
    let before = files::tree(&one.join("out"));
    fs::rename(&one, &two).expect("the project can be moved");
    for arguments in [&["run", "-c", "two/rivet.yaml"][..], &["resume", &run, "-c", "two/rivet.yaml"]] {
        let refused = scratch.rivet(arguments).expect_error(5, "RIVET_RUN_CHANGED");
        let named = |place: &std::path::Path| place.join("out").display().to_string();
        let _ = refused.expect_in_stderr(&named(&one)).expect_in_stderr(&named(&two)).expect_in_stderr("--fresh");
    }
    assert!(!one.exists(), "the old place was made again");
    assert_eq!(files::tree(&two.join("out")), before, "parts of a run that was refused");

    fs::rename(&two, &one).expect("the project can be moved back");
    let resumed = scratch.rivet(&["resume", &run, "-c", "one/rivet.yaml", "--json"]).expect_exit(0).summary();
    assert_eq!(resumed["total_rows"], 9000);
    let parts = |tree: Vec<String>| tree.into_iter().filter(|name| name.ends_with(".parquet")).collect::<Vec<_>>();
    let (kept, delivered) = (parts(before), parts(files::tree(&one.join("out"))));
    assert_eq!((kept.len(), delivered.len()), (1, 3), "{kept:?}, {delivered:?}");
    assert!(delivered.contains(&kept[0]), "{kept:?}, {delivered:?}");
}

#[cfg(feature = "failpoints")]
#[test]
fn another_name_of_the_same_directory_is_the_same_place() {
    let database = numbers("moved_link");
    let (scratch, run) = killed_in_one(&database, "./out");
    let (one, two) = (scratch.path().join("one"), scratch.path().join("two"));
    fs::rename(&one, &two).expect("the project can be moved");
    std::os::unix::fs::symlink(&two, &one).expect("a link can be made");
    let resumed = scratch.rivet(&["resume", &run, "-c", "two/rivet.yaml", "--json"]).expect_exit(0).summary();
    assert_eq!(resumed["total_rows"], 9000);
    oracle::assert_same_rows(&database, "SELECT * FROM t", &two.join("out").join(&run));
}

#[cfg(feature = "failpoints")]
#[test]
fn a_moved_project_starts_anew_when_that_is_asked_for() {
    let database = numbers("moved_fresh");
    let (scratch, run) = killed_in_one(&database, "./out");
    let (one, two) = (scratch.path().join("one"), scratch.path().join("two"));
    fs::rename(&one, &two).expect("the project can be moved");
    let fresh = scratch.rivet(&["run", "-c", "two/rivet.yaml", "--fresh", "--json"]).expect_exit(0).summary();
    assert_ne!(run_id(&fresh), run);
    assert!(!one.exists(), "the old place was made again");
    oracle::assert_same_rows(&database, "SELECT * FROM t", &two.join("out").join(run_id(&fresh)));
}

//! The tests' own foundation: an oracle that cannot tell a difference would make every other test worthless.

mod support;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use parquet::arrow::ArrowWriter;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use support::cluster::OwnCluster;
use support::database::Database;
use support::{oracle, trace};

fn write_parquet(path: &Path, ids: Vec<i64>, names: Vec<Option<&str>>) -> PathBuf {
    let columns: Vec<(&str, ArrayRef)> =
        vec![("id", Arc::new(Int64Array::from(ids))), ("name", Arc::new(StringArray::from(names)))];
    let batch = RecordBatch::try_from_iter(columns).expect("two columns of one length");
    let file = std::fs::File::create(path).expect("a temporary file can be made");
    let mut writer = ArrowWriter::try_new(file, batch.schema(), None).expect("a writer can be made");
    writer.write(&batch).expect("a batch can be written");
    writer.close().expect("a file can be finished");
    path.to_owned()
}

#[test]
fn the_oracle_accepts_equal_rows_and_names_what_is_missing_doubled_or_changed() {
    let database = Database::create("oracle");
    database.execute(
        "CREATE TABLE t (id bigint, name text); INSERT INTO t VALUES (1, 'a'), (2, NULL), (2, NULL), (3, E'x\\ty')",
    );
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let compare = |ids, names| {
        let part = write_parquet(&dir.path().join("part.parquet"), ids, names);
        oracle::compare(&database, "SELECT * FROM t", &[part])
    };
    compare(vec![3, 2, 1, 2], vec![Some("x\ty"), None, Some("a"), None]).expect("the same rows in another order");
    let missing = compare(vec![3, 2, 1], vec![Some("x\ty"), None, Some("a")]).expect_err("a row is missing");
    assert!(missing.contains("pyarrow: 1 rows of the server are missing"), "{missing}");
    assert!(missing.contains("DuckDB: 1 rows of the server are missing"), "{missing}");
    let doubled = compare(vec![3, 2, 1, 2, 3], vec![Some("x\ty"), None, Some("a"), None, Some("x\ty")]);
    assert!(doubled.expect_err("a row is there twice").contains("1 are too many"));
    let changed = compare(vec![3, 2, 1, 2], vec![Some("x\ty"), Some(""), Some("a"), None]);
    assert!(changed.expect_err("a NULL became empty").contains("1 rows of the server are missing, 1 are too many"));
}

#[test]
fn every_test_has_a_database_of_its_own() {
    let (one, two) = (Database::create("same"), Database::create("same"));
    one.execute("CREATE TABLE t AS SELECT 1 AS a");
    assert_eq!(one.value("SELECT count(*) FROM t"), "1");
    assert_eq!(two.value("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"), "0");
}

#[test]
fn a_session_keeps_its_transaction_open_between_statements() {
    let database = Database::create("session");
    database.execute("CREATE TABLE t (a int)");
    let mut session = database.session();
    session.execute("BEGIN; INSERT INTO t VALUES (1)");
    assert_eq!(session.execute("SELECT count(*) FROM t"), ["1"]);
    assert_eq!(database.value("SELECT count(*) FROM t"), "0");
    session.execute("COMMIT");
    assert_eq!(database.value("SELECT count(*) FROM t"), "1");
}

#[test]
fn a_cluster_of_a_test_survives_its_restart_and_goes_with_the_test() {
    let cluster = OwnCluster::start();
    let database = Database::create_in(&cluster.server, "restart");
    database.execute("CREATE TABLE t AS SELECT 1 AS a");
    cluster.restart("fast");
    assert_eq!(database.value("SELECT a FROM t"), "1");
    let socket_dir = cluster.server.socket_dir.clone().expect("a private cluster has a socket directory");
    assert!(socket_dir.exists());
    drop(database);
    drop(cluster);
    assert!(!socket_dir.exists(), "the cluster left {} behind", socket_dir.display());
}

#[test]
fn calls_that_overlap_are_put_together_and_failures_are_told_from_faults() {
    let text = r#"7  openat(AT_FDCWD<\x2f\x77>, "\x61", O_WRONLY|O_CREAT, 0666) = 4<\x2f\x77\x2f\x61>
8  pwrite64(4<\x2f\x77\x2f\x61>, "\x00\xff", 2, 4096 <unfinished ...>
7  rename("\x61", "\x62") = -1 ENOENT (No such file or directory)
7  writev(1<\x70>, [{iov_base="\x61\x62", iov_len=2}, {iov_base="\x63", iov_len=1}], 2) = 3
8  <... pwrite64 resumed>) = 2
9  fdatasync(5<\x2f\x77>) = -1 EIO (Input/output error) (INJECTED)
7  +++ exited with 0 +++"#;
    let calls = trace::parse(text);
    let seen: Vec<_> = calls.iter().map(|call| (call.name.as_str(), call.began, call.ended, call.returned)).collect();
    let expected = [("openat", 0, 0, 4), ("rename", 2, 2, -1), ("writev", 3, 3, 3), ("pwrite64", 1, 4, 2)];
    assert_eq!(seen, [&expected[..], &[("fdatasync", 5, 5, -1)]].concat());
    assert!(calls[1].failed_with("ENOENT") && !calls[1].injected);
    assert!(calls[4].failed_with("EIO") && calls[4].injected && calls[4].thread == "9");
    assert_eq!((calls[0].path(1), calls[0].opened.clone()), ("a".into(), Some("/w/a".into())));
    assert!(calls[0].has_flag(2, "O_CREAT") && !calls[0].has_flag(2, "O_TRUNC"));
    assert_eq!(calls[0].descriptor(0), (-100, Some("/w".into())));
    assert_eq!(calls[2].gathered(1), b"abc");
    assert_eq!((calls[3].bytes(1), calls[3].number(3)), (vec![0, 255], 4096));
}

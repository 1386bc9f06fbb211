//! Values of a hundred megabytes: delivered as they are, in memory that follows from the largest of them.

mod support;

use std::path::Path;
use std::process::Command;
use support::database::Database;
use support::rivet::{Scratch, export, run_id};
use support::{files, oracle};

/// Lengths and MD5 sums of everything, by each of the two readers.
const SUMS: &str = r#"
import hashlib, sys
import duckdb, pyarrow.parquet as pq
def show(rows):
    for row in sorted(rows):
        print("|".join("" if value is None else str(value) for value in row))
def summed(value):
    value = value.encode() if isinstance(value, str) else value
    return (None, None) if value is None else (len(value), hashlib.md5(value).hexdigest())
read = duckdb.connect()
show(read.execute("SELECT id, strlen(body), md5(body), octet_length(data), md5(data) FROM read_parquet(?)", [sys.argv[1:]]).fetchall())
rows = []
for path in sys.argv[1:]:
    for batch in pq.ParquetFile(path).iter_batches(batch_size=1):
        for row in batch.to_pylist():
            rows.append((row["id"], *summed(row["body"]), *summed(row["data"])))
show(rows)
"#;

fn sums(run_dir: &Path) -> Vec<String> {
    let output = Command::new(oracle::python()).args(["-c", SUMS]).args(files::parts(run_dir)).output();
    let output = output.expect("the oracle's interpreter can be started");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

#[test]
fn values_of_a_hundred_megabytes_are_delivered_within_the_memory_that_is_promised_for_them() {
    let database = Database::create("large_values");
    database.execute(
        "CREATE TABLE t (id int PRIMARY KEY, body text, data bytea);
         INSERT INTO t VALUES (1, 'small', '\\x00'), (3, NULL, NULL),
                              (2, repeat(md5('a'), 3276800), NULL),
                              (4, NULL, (SELECT string_agg(sha512(int4send(i)), '') FROM generate_series(1, 1638400) i)),
                              (5, repeat('é' || md5('c'), 3000000), '\\xff');
         ANALYZE t;",
    );
    let tuned =
        |most: usize| format!("table: t\ntuning: {{ max_value_mb: {most}, memory_budget_mb: 64, parallel: 1 }}");
    let scratch = Scratch::with(&database, &[export("a", &tuned(256))]);
    let summary = scratch.run_ok(&[]);
    let run_dir = scratch.run_dir(&run_id(&summary));
    let query = "SELECT id, octet_length(body), md5(body), octet_length(data), md5(data) FROM t ORDER BY id";
    let served = database.query(query);
    let read = sums(&run_dir);
    assert_eq!(read.len(), 2 * served.len(), "both readers see every row");
    assert!(read.chunks(served.len()).all(|seen| seen == served), "{served:#?}\n{read:#?}");

    let largest_mb = 105;
    let peak = summary["peak_rss_mb"].as_u64().expect("a number");
    eprintln!("peak {peak} MB");
    assert!(peak > largest_mb && peak <= 64 + 4 * largest_mb, "{peak} MB for values of {largest_mb} MB");

    // The longest value has 104,857,600 bytes, one of them more than a hundred MiB has not.
    let scratch = Scratch::with(&database, &[export("a", &tuned(99))]);
    let refused = scratch.rivet(&["run"]).expect_error(1, "RIVET_SOURCE_VALUE").expect_in_stderr("max_value_mb");
    drop(refused.expect_in_stderr("\"body\"").expect_in_stderr("(id = 2)").expect_in_stderr("104857600"));
}

//! The table that the kill matrices export, and the places at which they kill.

use super::converge::go_on_with;
use super::database::Database;
use super::rivet::{Finished, Rivet, Scratch, export, run_id};
use super::{files, oracle};

/// A database with a table `t` of so many rows.
pub fn database(name: &str, rows: u32) -> Database {
    let database = Database::create(name);
    database.execute(&format!(
        "CREATE TABLE t (id int PRIMARY KEY, name text, amount numeric(12,2), at timestamptz, tags text[]);
         INSERT INTO t SELECT g, CASE WHEN g % 9 > 0 THEN 'name ' || g END, g * 1.37,
                timestamptz '2026-01-01' + g * interval '1 minute', ARRAY['a' || g % 3, NULL]
         FROM generate_series(1, {rows}) AS g; ANALYZE t;"
    ));
    database
}

/// A directory with the one export `orders`, of these lines.
pub fn scratch(database: &Database, lines: &str) -> Scratch {
    Scratch::in_memory(database, &[export("orders", lines)])
}

/// A new run in which `failpoint`, such as `part.renamed@2=kill`, happens.
pub fn run_into(scratch: &Scratch, failpoint: &str) -> Finished {
    go_on_with(&Rivet::new(scratch).env("RIVET_FAILPOINTS", failpoint), None)
}

/// Goes on undisturbed with this run, or begins one, and returns every passage of a failpoint in the order in which they
/// were passed: `name@ordinal`.
pub fn traced(scratch: &Scratch, run: Option<&str>) -> (Finished, Vec<String>) {
    let trace = scratch.path().join("trace");
    let finished = go_on_with(&Rivet::new(scratch).env("RIVET_FAILPOINTS_TRACE", &trace), run);
    let text = std::fs::read_to_string(&trace).unwrap_or_default();
    // A later process in this directory would add to what it finds.
    let _ = std::fs::remove_file(&trace);
    (finished, text.lines().map(str::to_owned).collect())
}

/// What the server has, by way of a run that nothing disturbed.
pub struct Probe {
    pub rows: Vec<String>,
    /// The passages of that run.
    pub points: Vec<String>,
}

pub fn probe(database: &Database, lines: &str) -> Probe {
    let scratch = scratch(database, lines);
    let (finished, points) = traced(&scratch, None);
    let summary = finished.expect_exit(0).summary();
    let run_dir = scratch.run_dir(&run_id(&summary));
    oracle::assert_same_rows(database, "SELECT * FROM t", &run_dir);
    for point in
        ["journal.append.before", "journal.append.after", "part.renamed", "manifest.renamed", "success.written"]
    {
        assert!(points.iter().any(|p| p.starts_with(&format!("{point}@"))), "the run never passes {point}");
    }
    Probe { rows: files::rows(&files::parts(&run_dir)), points }
}

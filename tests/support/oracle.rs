//! The server's own rows, against what two independent readers see in the files.

use super::database::Database;
use super::files;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Asserts that the files named by the manifest in `run_dir` hold exactly the rows of `query`, each as often, with the
/// same column names in the same order, by the word of DuckDB and of pyarrow.
#[track_caller]
pub fn assert_same_rows(database: &Database, query: &str, run_dir: &Path) {
    let parts = files::parts(run_dir);
    if let Err(difference) = compare(database, query, &parts) {
        panic!("{} does not hold the rows of {query}\n{difference}", run_dir.display());
    }
}

/// The same over files that a test chooses. `Err` names the first rows that differ.
pub fn compare(database: &Database, query: &str, parts: &[PathBuf]) -> Result<String, String> {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let header = directory.path().join("header.csv");
    std::fs::write(&header, database.header(query)).expect("a temporary file can be written");
    let rows = database.copy_out(query);
    let mut child = Command::new(python())
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/oracle.py"))
        .arg(&header)
        .args(parts)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("{} cannot be started: {e}", python().display()));
    // The script may refuse before it has read everything; its exit code says so.
    let _ = child.stdin.take().expect("it is piped").write_all(&rows);
    let output = child.wait_with_output().expect("a child can be waited for");
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

/// An interpreter with duckdb and pyarrow: `RIVET_TEST_PYTHON`, or the environment that `tools/setup` makes.
pub fn python() -> PathBuf {
    if let Some(python) = std::env::var_os("RIVET_TEST_PYTHON") {
        return python.into();
    }
    let python = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("test-venv").join("bin/python");
    assert!(
        python.exists(),
        "the oracle needs Python with duckdb and pyarrow, and {} is not there. Run tools/setup, or set \
         RIVET_TEST_PYTHON to such an interpreter",
        python.display()
    );
    python
}

//! A fresh database for each test, spoken to through `psql`.

use super::cluster::{Server, bin_dir};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// What the tests' own sessions pin, so that the text they compare with does not depend on the server's defaults.
const OPTIONS: &str = "-c timezone=UTC -c datestyle=ISO,YMD -c intervalstyle=iso_8601 -c bytea_output=hex \
                       -c extra_float_digits=1 -c lc_monetary=C -c standard_conforming_strings=on -c client_min_messages=warning";

/// Dropped, with whoever is still connected to it, when the value is dropped.
pub struct Database {
    pub server: Server,
    pub name: String,
}

impl Database {
    /// A fresh, empty database in the shared server. `name` helps a reader of the server's log.
    pub fn create(name: &str) -> Database {
        Database::create_in(Server::shared(), name)
    }

    pub fn create_in(server: &Server, name: &str) -> Database {
        static ORDINAL: AtomicU32 = AtomicU32::new(0);
        let ordinal = ORDINAL.fetch_add(1, Ordering::Relaxed);
        let stem: String = name.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '_').take(40).collect();
        let name = format!("t_{}_{}_{ordinal}", stem.to_ascii_lowercase(), std::process::id());
        let database = Database { server: server.clone(), name };
        database.maintenance(&format!("CREATE DATABASE {} TEMPLATE template0 ENCODING 'UTF8'", database.name));
        database
    }

    /// As the superuser.
    pub fn url(&self) -> String {
        self.server.url(&self.name)
    }

    /// As another role: `user` or `user:password`, encoded for a URL.
    pub fn url_as(&self, credentials: &str) -> String {
        self.server.url_as(credentials, &self.name)
    }

    /// Runs statements, stopping at the first error.
    pub fn execute(&self, sql: &str) {
        feed(&self.url(), sql);
    }

    /// The rows of one statement, columns separated by `|`.
    pub fn query(&self, sql: &str) -> Vec<String> {
        let output = psql(&self.url()).args(["-A", "-t", "-c", sql]).output().expect("psql can be started");
        checked(&output, sql);
        String::from_utf8(output.stdout).expect("the server sends UTF-8").lines().map(str::to_owned).collect()
    }

    /// The only value of a statement.
    pub fn value(&self, sql: &str) -> String {
        let rows = self.query(sql);
        assert_eq!(rows.len(), 1, "{sql} has one row");
        rows.into_iter().next().expect("there is one row")
    }

    /// `COPY (query) TO STDOUT` in text format.
    pub fn copy_out(&self, query: &str) -> Vec<u8> {
        let sql = format!("COPY ({query}) TO STDOUT");
        let output = psql(&self.url()).args(["-c", &sql]).output().expect("psql can be started");
        checked(&output, &sql);
        output.stdout
    }

    /// The column names of a query, as one line of CSV.
    pub fn header(&self, query: &str) -> Vec<u8> {
        let sql = format!("SELECT * FROM ({query}) AS q LIMIT 0");
        let output = psql(&self.url()).args(["--csv", "-c", &sql]).output().expect("psql can be started");
        checked(&output, &sql);
        output.stdout
    }

    /// A session that stays open, for locks and for transactions that end later.
    pub fn session(&self) -> Session {
        let mut child = psql(&self.url())
            .args(["-A", "-t"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("psql can be started");
        let stdin = child.stdin.take().expect("it is piped");
        let stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        Session { child, stdin: Some(stdin), stdout }
    }

    fn maintenance(&self, sql: &str) {
        let output = psql(&self.server.url("postgres")).args(["-c", sql]).output().expect("psql can be started");
        checked(&output, sql);
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // Best effort: a server that a test stopped takes its databases with it.
        let sql = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name);
        let _ = psql(&self.server.url("postgres")).args(["-c", &sql]).stderr(Stdio::null()).output();
    }
}

fn psql(url: &str) -> Command {
    let mut command = Command::new(bin_dir().join("psql"));
    command.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", url]).env("PGOPTIONS", OPTIONS).stdin(Stdio::null());
    command
}

fn feed(url: &str, sql: &str) {
    let mut child = psql(url)
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("psql can be started");
    // psql may stop reading at an error; its exit code says so.
    let _ = child.stdin.take().expect("it is piped").write_all(sql.as_bytes());
    let output = child.wait_with_output().expect("psql can be waited for");
    checked(&output, sql);
}

fn checked(output: &std::process::Output, sql: &str) {
    let shown: String = sql.chars().take(2_000).collect();
    assert!(output.status.success(), "psql failed: {}\n{shown}", String::from_utf8_lossy(&output.stderr));
}

/// An open session; ends, and rolls back, when dropped.
pub struct Session {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Session {
    /// Runs statements and waits until the server is done with them.
    pub fn execute(&mut self, sql: &str) -> Vec<String> {
        let stdin = self.stdin.as_mut().expect("the session is open");
        writeln!(stdin, "{sql};\n\\echo done").expect("psql takes statements");
        let mut rows = Vec::new();
        loop {
            let mut line = String::new();
            let read = self.stdout.read_line(&mut line).expect("psql prints text");
            assert!(read > 0, "the session ended during {sql}");
            match line.trim_end_matches('\n') {
                "done" => return rows,
                row => rows.push(row.to_owned()),
            }
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        drop(self.stdin.take());
        let _ = self.child.wait();
    }
}

//! The built binary, run in a directory of its own.

use super::database::Database;
use serde_json::Value;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// Longer than any run of these small tables takes; what runs into it hangs.
const PATIENCE: Duration = Duration::from_secs(120);

/// A directory with a `rivet.yaml`, its `.rivet/` and its `out/`. Removed when dropped.
pub struct Scratch {
    dir: tempfile::TempDir,
}

impl Scratch {
    pub fn new() -> Scratch {
        let dir = tempfile::Builder::new().prefix("rivet-test-").tempdir().expect("a temporary directory can be made");
        Scratch { dir }
    }

    /// In memory where the system offers that: for hundreds of runs whose waiting for a disk proves nothing, since a kill
    /// loses nothing that was written.
    pub fn in_memory(database: &Database, exports: &[String]) -> Scratch {
        let mut builder = tempfile::Builder::new();
        let builder = builder.prefix("rivet-test-");
        let dir = builder.tempdir_in("/dev/shm").or_else(|_| builder.tempdir());
        let scratch = Scratch { dir: dir.expect("a temporary directory can be made") };
        scratch.write_config(&config(&database.url(), exports));
        scratch
    }

    /// With a `rivet.yaml` of these exports over the database.
    pub fn with(database: &Database, exports: &[String]) -> Scratch {
        let scratch = Scratch::new();
        scratch.write_config(&config(&database.url(), exports));
        scratch
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// A copy of everything in the directory, to be put back under the same path: journals and manifests name absolute
    /// paths, so that a copy elsewhere would be another run's.
    pub fn keep(&self) -> Kept {
        let dir = tempfile::tempdir_in(self.path().parent().expect("a scratch directory lies in a directory"));
        let kept = Kept { dir: dir.expect("a temporary directory can be made") };
        copy_tree(self.path(), kept.dir.path());
        kept
    }

    /// Replaces everything in the directory with what was kept.
    pub fn put_back(&self, kept: &Kept) {
        std::fs::remove_dir_all(self.path()).expect("a scratch directory can be emptied");
        copy_tree(kept.dir.path(), self.path());
    }

    pub fn write_config(&self, yaml: &str) {
        self.write("rivet.yaml", yaml.as_bytes());
    }

    pub fn write(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.path().join(name), bytes).expect("a scratch directory can be written");
    }

    /// Directory of a run's parts and manifest.
    pub fn run_dir(&self, run_id: &str) -> PathBuf {
        self.path().join("out").join(run_id)
    }

    /// Journal directory of an export.
    pub fn journal_dir(&self, export: &str) -> PathBuf {
        self.path().join(".rivet").join(export)
    }

    /// Events of all runs here, in order, as `replay` prints them.
    pub fn events(&self) -> Vec<Value> {
        let told = self.rivet(&["replay", "--events", "--json"]).expect_exit(0);
        told.stdout.lines().map(|line| serde_json::from_str(line).expect("an event is JSON")).collect()
    }

    /// Those of one kind.
    pub fn events_of(&self, kind: &str) -> Vec<Value> {
        self.events().into_iter().filter(|event| event["event"] == kind).collect()
    }

    /// Runs the binary here and waits for its end.
    pub fn rivet(&self, arguments: &[&str]) -> Finished {
        Rivet::new(self).run(arguments)
    }

    /// Runs `rivet run --json` with further arguments, expects success, and returns the summary of the only run.
    pub fn run_ok(&self, arguments: &[&str]) -> Value {
        let mut all = vec!["run", "-c", "rivet.yaml", "--json"];
        all.extend(arguments);
        self.rivet(&all).expect_exit(0).summary()
    }

    pub fn resume_ok(&self, run_id: &str) -> Value {
        self.rivet(&["resume", run_id, "-c", "rivet.yaml", "--json"]).expect_exit(0).summary()
    }
}

/// The content of a scratch directory at some time.
pub struct Kept {
    dir: tempfile::TempDir,
}

fn copy_tree(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap_or_else(|e| panic!("{}: {e}", to.display()));
    for entry in std::fs::read_dir(from).unwrap_or_else(|e| panic!("{}: {e}", from.display())) {
        let entry = entry.unwrap_or_else(|e| panic!("{}: {e}", from.display()));
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        match entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            true => copy_tree(&from, &to),
            false => drop(std::fs::copy(&from, &to).unwrap_or_else(|e| panic!("{}: {e}", from.display()))),
        }
    }
}

/// A whole `rivet.yaml`. The URL is a YAML string in single quotes, whatever is in it.
pub fn config(url: &str, exports: &[String]) -> String {
    format!("source:\n  type: postgres\n  url: '{}'\nexports:\n{}", url.replace('\'', "''"), exports.concat())
}

/// One entry of `exports`, to the local directory `./out`. `lines` are further keys, such as
/// `table: public.orders\nmode: chunked\nchunk_count: 4`.
pub fn export(name: &str, lines: &str) -> String {
    let mut yaml = format!("  - name: {name}\n");
    for line in lines.lines() {
        yaml.push_str(&format!("    {line}\n"));
    }
    yaml.push_str("    format: parquet\n    destination: { type: local, path: ./out }\n");
    yaml
}

/// How to start the binary: environment and prefix.
#[derive(Clone)]
pub struct Rivet {
    dir: PathBuf,
    env: BTreeMap<String, OsString>,
    prefix: Vec<String>,
}

impl Rivet {
    pub fn new(scratch: &Scratch) -> Rivet {
        Rivet { dir: scratch.path().to_owned(), env: BTreeMap::new(), prefix: Vec::new() }
    }

    pub fn env(mut self, name: &str, value: impl Into<OsString>) -> Rivet {
        self.env.insert(name.to_owned(), value.into());
        self
    }

    /// Runs the binary through another program, such as `strace -f …`.
    pub fn through(mut self, prefix: &[&str]) -> Rivet {
        self.prefix = prefix.iter().map(|&part| part.to_owned()).collect();
        self
    }

    /// Without the rights that let root write where the permissions forbid it.
    pub fn bound_by_permissions(self) -> Rivet {
        if rustix::process::geteuid().is_root() {
            self.through(&["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--"])
        } else {
            self
        }
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut words = self.prefix.clone();
        words.push(binary().to_owned());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).args(arguments).current_dir(&self.dir);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("RIVET_") || name.to_string_lossy().starts_with("PG") {
                command.env_remove(name);
            }
        }
        command.envs(&self.env).stdin(Stdio::null());
        command
    }

    /// Starts it with its output captured; the caller waits, or kills it by its id.
    pub fn spawn(&self, arguments: &[&str]) -> Running {
        let mut command = self.command(arguments);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap_or_else(|e| {
            panic!("{command:?} cannot be started: {e}");
        });
        Running { child, arguments: arguments.join(" ") }
    }

    pub fn run(&self, arguments: &[&str]) -> Finished {
        self.spawn(arguments).wait()
    }
}

pub fn binary() -> &'static str {
    env!("CARGO_BIN_EXE_rivet")
}

pub struct Running {
    child: Child,
    arguments: String,
}

impl Running {
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).expect("a child that was not waited for can be signalled");
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("a child can be asked for its state").is_none()
    }

    /// Waits for the end; a run that does not end is killed and fails the test.
    pub fn wait(self) -> Finished {
        let pid = rustix::process::Pid::from_child(&self.child);
        let (sender, receiver) = mpsc::channel();
        let child = self.child;
        let waiting = std::thread::spawn(move || {
            let output = child.wait_with_output();
            // The receiver has gone when patience ran out.
            let _ = sender.send(());
            output
        });
        let hung = receiver.recv_timeout(PATIENCE).is_err();
        if hung {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        let output = waiting.join().expect("waiting does not panic").expect("a child can be waited for");
        let finished = Finished {
            arguments: self.arguments,
            status: output.status,
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        };
        assert!(!hung, "no end after {} s: {finished}", PATIENCE.as_secs());
        finished
    }
}

/// What an ended process left behind.
pub struct Finished {
    pub arguments: String,
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl std::fmt::Display for Finished {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Finished { arguments, status, stdout, stderr } = self;
        write!(f, "`rivet {arguments}` ended with {status}\n--- stdout\n{stdout}--- stderr\n{stderr}---")
    }
}

impl Finished {
    /// `None` when a signal ended it.
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    pub fn killed(&self) -> bool {
        use std::os::unix::process::ExitStatusExt;
        self.status.signal() == Some(9)
    }

    /// Exit code as expected, and no panic whatever it is.
    #[track_caller]
    pub fn expect_exit(self, code: i32) -> Finished {
        assert!(!self.stderr.contains("panicked at"), "a panic: {self}");
        assert_eq!(self.code(), Some(code), "{self}");
        self
    }

    /// The stable code, and a hint, in what a person sees.
    #[track_caller]
    pub fn expect_error(self, exit: i32, code: &str) -> Finished {
        let finished = self.expect_exit(exit);
        assert!(finished.stderr.contains(code), "{code} is not named: {finished}");
        finished
    }

    #[track_caller]
    pub fn expect_in_stderr(self, text: &str) -> Finished {
        assert!(self.stderr.contains(text), "{text:?} is not in stderr: {self}");
        self
    }

    #[track_caller]
    pub fn expect_in_stdout(self, text: &str) -> Finished {
        assert!(self.stdout.contains(text), "{text:?} is not in stdout: {self}");
        self
    }

    /// The text is nowhere in what was printed.
    #[track_caller]
    pub fn expect_nowhere(self, secret: &str) -> Finished {
        assert!(!self.stdout.contains(secret) && !self.stderr.contains(secret), "{secret:?} was printed: {self}");
        self
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("stdout is not JSON ({e}): {self}"))
    }

    /// The summaries in `{"runs":[…]}`.
    #[track_caller]
    pub fn summaries(&self) -> Vec<Value> {
        match self.json()["runs"].as_array() {
            Some(runs) => runs.clone(),
            None => panic!("stdout has no `runs`: {self}"),
        }
    }

    /// The summary of the only run.
    #[track_caller]
    pub fn summary(&self) -> Value {
        let mut runs = self.summaries();
        assert_eq!(runs.len(), 1, "one run: {self}");
        runs.remove(0)
    }
}

/// `run_id` of a summary.
#[track_caller]
pub fn run_id(summary: &Value) -> String {
    summary["run_id"].as_str().unwrap_or_else(|| panic!("a summary names its run: {summary}")).to_owned()
}

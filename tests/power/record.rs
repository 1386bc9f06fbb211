//! A process under strace, and the history of the directory that it changed.

use super::disk::{History, Image};
use crate::support::trace;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// Every call that changes a file or a name, makes either durable, or moves a position; and those that the model does not
/// know, so that it can say so.
const CALLS: &str = "openat,open,creat,write,writev,pwrite64,pwritev,ftruncate,truncate,fallocate,lseek,copy_file_range,\
                     sendfile,fsync,fdatasync,sync_file_range,rename,renameat,renameat2,unlink,unlinkat,rmdir,mkdir,\
                     mkdirat,link,linkat,symlink,symlinkat,dup,dup2,dup3";

/// Whatever is written has to stand in the record in full.
const LONGEST_TEXT: &str = "67108864";

pub struct Recorded {
    pub history: History,
    pub output: Output,
}

/// Runs `command` under strace and replays what it did below `root`, which exists.
///
/// The replay has to end in the directory that is really there, byte for byte: what the model gets wrong shows here.
pub fn record(command: &Command, root: &Path) -> Recorded {
    let root = root.canonicalize().expect("the directory is there");
    let cwd = command.get_current_dir().map_or_else(|| std::env::current_dir().expect("there is one"), Path::to_owned);
    let before = Image::of(&root);
    let scratch = tempfile::tempdir().expect("a temporary directory can be made");
    let path = scratch.path().join("calls");
    let mut traced = Command::new("strace");
    traced.args(["-f", "--seccomp-bpf", "-y", "-xx", "-s", LONGEST_TEXT, "-e", CALLS, "-e", "signal=none", "-o"]);
    traced.arg(&path).arg(command.get_program()).args(command.get_args()).current_dir(&cwd);
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => traced.env(name, value),
            None => traced.env_remove(name),
        };
    }
    let output = traced.stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|e| panic!("strace cannot be started ({e}); tools/setup installs it"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| {
        panic!("strace recorded nothing ({e}): {}", String::from_utf8_lossy(&output.stderr));
    });
    let history = History::replay(&root, &cwd, &before, &trace::parse(&text));
    let (replayed, there) = (history.end(), Image::of(&root));
    for path in replayed.entries.keys().chain(there.entries.keys()) {
        let same = replayed.entries.get(path) == there.entries.get(path);
        assert!(same, "the replay of the record ends with another {} than the directory", path.display());
    }
    Recorded { history, output }
}

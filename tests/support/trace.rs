//! The output of `strace -f -y -xx`, as calls with their arguments.

use std::collections::HashMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// One system call that returned. Several may be under way at once; lines of the output are the clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    pub thread: String,
    pub name: String,
    pub arguments: Vec<String>,
    pub returned: i64,
    /// The line on which it began, and the one on which it had returned.
    pub began: usize,
    pub ended: usize,
    /// What stands behind the number that was returned: the path of a descriptor.
    pub opened: Option<PathBuf>,
    /// The error's name, when it failed.
    pub error: Option<String>,
    /// Whether strace did something to it.
    pub injected: bool,
}

impl Call {
    pub fn failed_with(&self, error: &str) -> bool {
        self.error.as_deref() == Some(error)
    }

    /// A text argument.
    pub fn bytes(&self, index: usize) -> Vec<u8> {
        quoted(&self.arguments[index])
    }

    pub fn path(&self, index: usize) -> PathBuf {
        as_path(self.bytes(index))
    }

    /// A descriptor and the path that it stands for. `AT_FDCWD` is -100, as the kernel has it.
    pub fn descriptor(&self, index: usize) -> (i32, Option<PathBuf>) {
        described(&self.arguments[index])
    }

    pub fn number(&self, index: usize) -> u64 {
        let text = &self.arguments[index];
        text.parse().unwrap_or_else(|e| panic!("{text:?} is no number ({e}) in {self:?}"))
    }

    pub fn has_flag(&self, index: usize, flag: &str) -> bool {
        self.arguments[index].split('|').any(|word| word == flag)
    }

    /// Everything in the buffers of a `writev` or `pwritev`.
    pub fn gathered(&self, index: usize) -> Vec<u8> {
        let pieces = self.arguments[index].split("iov_base=").skip(1);
        pieces.flat_map(|piece| quoted(piece.split(", iov_len").next().unwrap_or(piece))).collect()
    }
}

/// The calls that returned, in the order in which they did; those that failed too.
pub fn parse(text: &str) -> Vec<Call> {
    let mut calls = Vec::new();
    let mut under_way: HashMap<&str, (usize, &str)> = HashMap::new();
    for (line, printed) in text.lines().enumerate() {
        // The number of the process is padded.
        let (process, rest) = printed.split_once(' ').unwrap_or_else(|| panic!("no process on line {line}: {printed}"));
        let rest = rest.trim_start();
        if rest.starts_with("+++") || rest.starts_with("---") {
            continue;
        }
        if let Some(begun) = rest.strip_suffix("<unfinished ...>") {
            under_way.insert(process, (line, begun.trim_end()));
            continue;
        }
        let (began, whole) = match rest.strip_prefix("<... ") {
            Some(resumed) => {
                let (_, end) = resumed.split_once("resumed>").unwrap_or_else(|| panic!("line {line}: {printed}"));
                let (began, start) = under_way.remove(process).unwrap_or_else(|| panic!("line {line}: {printed}"));
                (began, format!("{start}{end}"))
            }
            None => (line, rest.to_owned()),
        };
        calls.extend(call(process, &whole, began, line));
    }
    calls
}

fn call(thread: &str, text: &str, began: usize, ended: usize) -> Option<Call> {
    let (text, injected) = match text.strip_suffix(" (INJECTED)") {
        Some(text) => (text, true),
        None => (text, false),
    };
    let (name, rest) = text.split_once('(').unwrap_or_else(|| panic!("no call: {text}"));
    let (inside, result) = rest.rsplit_once(") ").unwrap_or_else(|| panic!("no result: {text}"));
    let result = result.trim_start().strip_prefix("= ").unwrap_or_else(|| panic!("no result: {text}"));
    let mut words = result.split(' ');
    let first = words.next().unwrap_or(result);
    // A call that never came back has a question mark here.
    let returned: i64 = first.split('<').next()?.parse().ok()?;
    let error = words.next().filter(|_| returned < 0).map(str::to_owned);
    let (thread, name, opened) = (thread.to_owned(), name.to_owned(), described(first).1);
    Some(Call { thread, name, arguments: split(inside), returned, began, ended, opened, error, injected })
}

/// Arguments at the commas that are in no bracket. Texts are hexadecimal and hold none of these characters.
fn split(inside: &str) -> Vec<String> {
    let (mut depth, mut start, mut pieces) = (0, 0, Vec::new());
    for (at, c) in inside.char_indices() {
        match c {
            '[' | '{' => depth += 1,
            ']' | '}' => depth -= 1,
            ',' if depth == 0 => {
                pieces.push(inside[start..at].trim().to_owned());
                start = at + 1;
            }
            _ => {}
        }
    }
    pieces.push(inside[start..].trim().to_owned());
    pieces
}

fn described(text: &str) -> (i32, Option<PathBuf>) {
    let (number, path) = text.split_once('<').unwrap_or((text, ""));
    let number = if number == "AT_FDCWD" { -100 } else { number.parse().unwrap_or(-1) };
    let path = path.strip_suffix('>').filter(|path| path.starts_with("\\x"));
    (number, path.map(|path| as_path(unhex(path))))
}

fn quoted(text: &str) -> Vec<u8> {
    let inside = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    // A text that was cut ends in dots behind its quotes, and would be a lie to go on with.
    unhex(inside.unwrap_or_else(|| panic!("not a whole text: {}", &text[..text.len().min(80)])))
}

fn unhex(text: &str) -> Vec<u8> {
    let digit = |c: u8| char::from(c).to_digit(16).unwrap_or_else(|| panic!("not hexadecimal: {text}")) as u8;
    text.split("\\x").skip(1).map(|pair| digit(pair.as_bytes()[0]) << 4 | digit(pair.as_bytes()[1])).collect()
}

fn as_path(bytes: Vec<u8>) -> PathBuf {
    OsString::from_vec(bytes).into()
}

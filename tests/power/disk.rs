//! A directory's life, replayed from the calls of the process that changed it, and what a disk could hold of it when the
//! power goes.

use crate::support::trace::Call;
use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

const SECTOR: usize = 512;

/// What happens to what was written and not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Data {
    Dropped,
    Kept,
    /// The file has its new length, and zeros where the bytes belong.
    Zeroed,
    /// Everything but the last write to each file, which arrives in some of its sectors.
    Torn,
    /// Each write by itself: there, missing, zeroed or torn.
    Random,
}

/// What happens to names that were made, changed or removed, and whose directory was not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Names {
    /// As if nothing had happened.
    Strict,
    /// Everything arrived before the data did.
    Early,
    /// Each change by itself.
    Random,
}

/// A disk at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Image {
    /// Directories have no bytes. Parents come before what is in them.
    pub entries: BTreeMap<PathBuf, Option<Vec<u8>>>,
}

impl Image {
    /// What is really there.
    pub fn of(root: &Path) -> Image {
        let mut image = Image::default();
        let mut open = vec![PathBuf::new()];
        while let Some(dir) = open.pop() {
            for entry in std::fs::read_dir(root.join(&dir)).expect("a directory can be listed") {
                let entry = entry.expect("a directory can be listed");
                let path = dir.join(entry.file_name());
                if entry.file_type().expect("an entry has a type").is_dir() {
                    open.push(path.clone());
                    image.entries.insert(path, None);
                } else {
                    let bytes = std::fs::read(entry.path()).expect("a file can be read");
                    image.entries.insert(path, Some(bytes));
                }
            }
        }
        image
    }

    /// Makes it real in `root`, which is made where it is missing.
    pub fn write(&self, root: &Path) {
        std::fs::create_dir_all(root).expect("a directory can be made");
        for (path, bytes) in &self.entries {
            match bytes {
                None => std::fs::create_dir_all(root.join(path)).expect("a directory can be made"),
                Some(bytes) => std::fs::write(root.join(path), bytes).expect("a file can be written"),
            }
        }
    }
}

/// When something happened, in lines of the record.
#[derive(Debug, Clone)]
struct Timed<T> {
    began: usize,
    ended: usize,
    what: T,
}

#[derive(Debug, Clone)]
enum Change {
    Write { at: usize, bytes: Vec<u8> },
    Resize(usize),
}

/// A file or a directory, whatever its name is.
#[derive(Debug, Clone, Default)]
struct Node {
    is_dir: bool,
    before: Vec<u8>,
    changes: Vec<Timed<Change>>,
    /// Under which path it was synced.
    syncs: Vec<Timed<PathBuf>>,
}

type NodeNo = usize;
const ROOT: NodeNo = 0;

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Name {
    dir: NodeNo,
    name: OsString,
}

#[derive(Debug, Clone)]
enum Renaming {
    Link(Name, NodeNo),
    Unlink(Name),
    Move(Name, Name),
}

/// Which syncs of the record are taken for real.
pub type Heeded<'a> = &'a (dyn Fn(&Path) -> bool + Sync);

/// Everything that happened to a directory.
pub struct History {
    root: PathBuf,
    nodes: Vec<Node>,
    before: BTreeMap<Name, NodeNo>,
    renamings: Vec<Timed<Renaming>>,
    /// What the process wrote to its standard output, and the line on which that began.
    said: Vec<(usize, String)>,
    /// The lines after which a disk can differ from before.
    moments: Vec<usize>,
}

impl History {
    /// `before` is what lay in `root` when the process started, all of it durable; `cwd` is where it was started.
    pub fn replay(root: &Path, cwd: &Path, before: &Image, calls: &[Call]) -> History {
        let mut replay = Replay::new(root, cwd, before);
        // A call that failed changed nothing.
        for call in calls.iter().filter(|call| call.error.is_none()) {
            replay.take(call);
        }
        let mut history = replay.history;
        history.moments.sort_unstable();
        history.moments.dedup();
        history
    }

    pub fn moments(&self) -> &[usize] {
        &self.moments
    }

    /// What had been said when the power went.
    pub fn said(&self, moment: usize) -> String {
        self.said.iter().filter(|(began, _)| *began <= moment).map(|(_, text)| text.as_str()).collect()
    }

    /// The directory as the process saw it after everything.
    pub fn end(&self) -> Image {
        self.image(usize::MAX, Data::Kept, Names::Early, &mut fastrand::Rng::with_seed(0), &|_| true)
    }

    /// What a disk could hold after `moment`. Syncs of paths that are not `heeded` count for nothing.
    pub fn image(
        &self,
        moment: usize,
        data: Data,
        names: Names,
        random: &mut fastrand::Rng,
        heeded: Heeded<'_>,
    ) -> Image {
        let names = self.names(moment, names, random, heeded);
        let mut image = Image::default();
        let mut open = vec![(ROOT, PathBuf::new())];
        while let Some((dir, path)) = open.pop() {
            let first = Name { dir, name: OsString::new() };
            for (name, &node) in names.range(first..).take_while(|(name, _)| name.dir == dir) {
                let path = path.join(&name.name);
                if self.nodes[node].is_dir {
                    open.push((node, path.clone()));
                    image.entries.insert(path, None);
                } else {
                    image.entries.insert(path, Some(self.bytes(node, moment, data, random, heeded)));
                }
            }
        }
        image
    }

    fn names(
        &self,
        moment: usize,
        rule: Names,
        random: &mut fastrand::Rng,
        heeded: Heeded<'_>,
    ) -> BTreeMap<Name, NodeNo> {
        let mut names = self.before.clone();
        for renaming in self.renamings.iter().filter(|renaming| renaming.began <= moment) {
            let dirs = match &renaming.what {
                Renaming::Link(name, _) | Renaming::Unlink(name) => [name.dir, name.dir],
                Renaming::Move(from, to) => [from.dir, to.dir],
            };
            let durable = dirs.iter().all(|&dir| self.is_synced(dir, renaming.ended, moment, heeded));
            let arrived = durable
                || match rule {
                    Names::Strict => false,
                    Names::Early => true,
                    Names::Random => random.bool(),
                };
            if !arrived {
                continue;
            }
            match &renaming.what {
                Renaming::Link(name, node) => drop(names.insert(name.clone(), *node)),
                Renaming::Unlink(name) => drop(names.remove(name)),
                Renaming::Move(from, to) => {
                    // A source whose own making was lost still is what the rename moved.
                    let node = names.remove(from).or_else(|| self.named(from, renaming.began));
                    names.extend(node.map(|node| (to.clone(), node)));
                }
            }
        }
        names
    }

    /// What the process itself last made or moved under a name before a line.
    fn named(&self, name: &Name, before: usize) -> Option<NodeNo> {
        let mut last = self.before.get(name).copied();
        for renaming in self.renamings.iter().filter(|renaming| renaming.ended < before) {
            match &renaming.what {
                Renaming::Link(made, node) if made == name => last = Some(*node),
                Renaming::Unlink(gone) if gone == name => last = None,
                Renaming::Move(gone, _) if gone == name => last = None,
                Renaming::Move(from, to) if to == name => last = self.named(from, renaming.began),
                _ => {}
            }
        }
        last
    }

    fn is_synced(&self, node: NodeNo, ended: usize, moment: usize, heeded: Heeded<'_>) -> bool {
        let covers = |sync: &Timed<PathBuf>| sync.began > ended && sync.ended <= moment && heeded(&sync.what);
        self.nodes[node].syncs.iter().any(covers)
    }

    fn bytes(
        &self,
        node: NodeNo,
        moment: usize,
        data: Data,
        random: &mut fastrand::Rng,
        heeded: Heeded<'_>,
    ) -> Vec<u8> {
        let mut bytes = self.nodes[node].before.clone();
        let issued: Vec<_> = self.nodes[node].changes.iter().filter(|change| change.began <= moment).collect();
        for (i, change) in issued.iter().enumerate() {
            let fate = match data {
                _ if self.is_synced(node, change.ended, moment, heeded) => Data::Kept,
                Data::Torn if i + 1 < issued.len() => Data::Kept,
                Data::Random => [Data::Kept, Data::Dropped, Data::Zeroed, Data::Torn][random.usize(..4)],
                fate => fate,
            };
            apply(&mut bytes, &change.what, fate, random);
        }
        bytes
    }
}

fn apply(bytes: &mut Vec<u8>, change: &Change, fate: Data, random: &mut fastrand::Rng) {
    match (change, fate) {
        (_, Data::Dropped) => {}
        (Change::Resize(length), _) => bytes.resize(*length, 0),
        (Change::Write { at, bytes: written }, fate) => {
            let end = at + written.len();
            if bytes.len() < end {
                bytes.resize(end, 0);
            }
            let mut from = *at;
            while from < end {
                let to = (from / SECTOR * SECTOR + SECTOR).min(end);
                if fate == Data::Kept || fate == Data::Torn && random.bool() {
                    bytes[from..to].copy_from_slice(&written[from - at..to - at]);
                }
                from = to;
            }
        }
    }
}

/// An open descriptor of a file under the root.
#[derive(Debug, Clone, Copy)]
struct Open {
    node: NodeNo,
    position: usize,
}

struct Replay {
    history: History,
    cwd: PathBuf,
    /// As the process sees them now.
    names: BTreeMap<Name, NodeNo>,
    contents: HashMap<NodeNo, Vec<u8>>,
    open: HashMap<i32, Open>,
}

impl Replay {
    fn new(root: &Path, cwd: &Path, before: &Image) -> Replay {
        let mut nodes = vec![Node { is_dir: true, ..Node::default() }];
        let (mut names, mut contents) = (BTreeMap::new(), HashMap::new());
        let mut dirs = HashMap::from([(PathBuf::new(), ROOT)]);
        for (path, bytes) in &before.entries {
            let node = nodes.len();
            let dir = dirs[path.parent().expect("a path below the root has a parent")];
            let name = path.file_name().expect("a path below the root has a name").to_owned();
            names.insert(Name { dir, name }, node);
            match bytes {
                None => drop(dirs.insert(path.clone(), node)),
                Some(bytes) => drop(contents.insert(node, bytes.clone())),
            }
            let (is_dir, before) = (bytes.is_none(), bytes.clone().unwrap_or_default());
            nodes.push(Node { is_dir, before, ..Node::default() });
        }
        let history = History {
            root: root.to_owned(),
            nodes,
            before: names.clone(),
            renamings: Vec::new(),
            said: Vec::new(),
            moments: vec![0],
        };
        Replay { history, cwd: cwd.to_owned(), names, contents, open: HashMap::new() }
    }

    fn take(&mut self, call: &Call) {
        match call.name.as_str() {
            "openat" => self.opened(call, 1, 2),
            "open" => self.opened(call, 0, 1),
            "write" if call.descriptor(0).0 == 1 => {
                let text = String::from_utf8_lossy(&call.bytes(1)).into_owned();
                self.history.said.push((call.began, text));
                self.history.moments.extend([call.began.saturating_sub(1), call.began]);
            }
            "write" => self.written(call, None, call.returned_of(call.bytes_if(self.is_ours(call), 1))),
            "writev" => self.written(call, None, call.returned_of(call.gathered_if(self.is_ours(call), 1))),
            "pwrite64" if self.is_ours(call) => {
                self.written(call, Some(call.number(3) as usize), call.returned_of(call.bytes(1)));
            }
            "pwritev" if self.is_ours(call) => {
                self.written(call, Some(call.number(3) as usize), call.returned_of(call.gathered(1)));
            }
            "ftruncate" if self.is_ours(call) => {
                let open = self.descriptor(call, 0).expect("it is ours");
                self.change(call, open.node, Change::Resize(call.number(1) as usize));
            }
            "copy_file_range" => self.copied(call, 0, 2),
            "sendfile" => self.copied(call, 1, 0),
            "lseek" => self.sought(call),
            "fsync" | "fdatasync" => self.synced(call),
            "rename" => self.renamed(call, self.cwd.join(call.path(0)), self.cwd.join(call.path(1))),
            "renameat" | "renameat2" => self.renamed(call, self.at(call, 0), self.at(call, 2)),
            "unlink" | "rmdir" => self.unlinked(call, self.cwd.join(call.path(0))),
            "unlinkat" => self.unlinked(call, self.at(call, 0)),
            "mkdir" => self.directory_made(call, self.cwd.join(call.path(0))),
            "mkdirat" => self.directory_made(call, self.at(call, 0)),
            // What the rules do not model must not happen unseen.
            "fallocate" | "link" | "linkat" | "symlink" | "symlinkat" | "creat" | "dup" | "dup2" | "dup3"
            | "truncate" => {
                let strange = call.arguments.iter().any(|argument| argument.contains(&hex(&self.history.root)));
                assert!(!strange, "the model knows no {}: {call:?}", call.name);
            }
            _ => {}
        }
    }

    /// Whether the call's first argument is a descriptor of a file under the root.
    fn is_ours(&self, call: &Call) -> bool {
        self.descriptor(call, 0).is_some()
    }

    fn descriptor(&self, call: &Call, index: usize) -> Option<Open> {
        let (number, path) = call.descriptor(index);
        let path = path.filter(|path| path.starts_with(&self.history.root))?;
        let open = *self.open.get(&number).unwrap_or_else(|| panic!("an unknown descriptor: {call:?}"));
        let named = self.find(&path);
        assert!(named.is_none_or(|node| node == open.node), "another file than was opened: {call:?}");
        Some(open)
    }

    fn at(&self, call: &Call, index: usize) -> PathBuf {
        let (_, dir) = call.descriptor(index);
        dir.unwrap_or_else(|| self.cwd.clone()).join(call.path(index + 1))
    }

    fn name(&self, path: &Path) -> Option<Name> {
        let below = path.strip_prefix(&self.history.root).ok()?;
        let name = below.file_name()?.to_owned();
        let dir = self.find(&self.history.root.join(below.parent()?))?;
        Some(Name { dir, name })
    }

    fn find(&self, path: &Path) -> Option<NodeNo> {
        if path == self.history.root {
            return Some(ROOT);
        }
        self.names.get(&self.name(path)?).copied()
    }

    fn moment(&mut self, call: &Call) {
        // Before it, while it was under way, and after it.
        let moments = [call.began.saturating_sub(1), call.began, call.ended.saturating_sub(1), call.ended];
        self.history.moments.extend(moments);
    }

    fn rename(&mut self, call: &Call, what: Renaming) {
        match &what {
            Renaming::Link(name, node) => drop(self.names.insert(name.clone(), *node)),
            Renaming::Unlink(name) => drop(self.names.remove(name)),
            Renaming::Move(from, to) => {
                let node = self.names.remove(from).unwrap_or_else(|| panic!("moved from nowhere: {call:?}"));
                self.names.insert(to.clone(), node);
            }
        }
        self.history.renamings.push(Timed { began: call.began, ended: call.ended, what });
        self.moment(call);
    }

    fn change(&mut self, call: &Call, node: NodeNo, what: Change) {
        apply(self.contents.entry(node).or_default(), &what, Data::Kept, &mut fastrand::Rng::with_seed(0));
        self.history.nodes[node].changes.push(Timed { began: call.began, ended: call.ended, what });
        self.moment(call);
    }

    fn opened(&mut self, call: &Call, path: usize, flags: usize) {
        let Some(opened) = call.opened.clone().filter(|path| path.starts_with(&self.history.root)) else { return };
        let node = match self.find(&opened) {
            Some(node) => node,
            None => {
                assert!(call.has_flag(flags, "O_CREAT"), "{} appeared from nowhere: {call:?}", opened.display());
                let node = self.make(false);
                let name = self.name(&opened).unwrap_or_else(|| panic!("no directory for {call:?}"));
                self.rename(call, Renaming::Link(name, node));
                node
            }
        };
        assert!(!call.has_flag(flags, "O_APPEND"), "the model knows no appending: {call:?} {path}");
        if call.has_flag(flags, "O_TRUNC") && self.contents.get(&node).is_some_and(|bytes| !bytes.is_empty()) {
            self.change(call, node, Change::Resize(0));
        }
        self.open.insert(call.returned as i32, Open { node, position: 0 });
    }

    fn make(&mut self, is_dir: bool) -> NodeNo {
        self.history.nodes.push(Node { is_dir, ..Node::default() });
        self.history.nodes.len() - 1
    }

    fn written(&mut self, call: &Call, at: Option<usize>, bytes: Vec<u8>) {
        let Some(open) = self.descriptor(call, 0) else { return };
        let position = at.unwrap_or(open.position);
        if at.is_none() {
            self.advance(call, 0, bytes.len());
        }
        self.change(call, open.node, Change::Write { at: position, bytes });
    }

    fn advance(&mut self, call: &Call, index: usize, by: usize) {
        let number = call.descriptor(index).0;
        self.open.get_mut(&number).expect("the descriptor was found before").position += by;
    }

    /// Bytes that the kernel moved from one file into another.
    fn copied(&mut self, call: &Call, from: usize, to: usize) {
        let Some(target) = self.descriptor(call, to) else { return };
        let source = self.descriptor(call, from).unwrap_or_else(|| panic!("a copy from outside: {call:?}"));
        let length = call.returned as usize;
        let bytes = self.contents.get(&source.node).cloned().unwrap_or_default();
        let bytes = bytes[source.position..source.position + length].to_vec();
        self.advance(call, from, length);
        self.advance(call, to, length);
        self.change(call, target.node, Change::Write { at: target.position, bytes });
    }

    fn sought(&mut self, call: &Call) {
        if self.is_ours(call) {
            let number = call.descriptor(0).0;
            self.open.get_mut(&number).expect("it is ours").position = call.returned as usize;
        }
    }

    fn synced(&mut self, call: &Call) {
        let Some(open) = self.descriptor(call, 0) else { return };
        let path = call.descriptor(0).1.expect("it is ours");
        let what = path.strip_prefix(&self.history.root).expect("it is ours").to_owned();
        self.history.nodes[open.node].syncs.push(Timed { began: call.began, ended: call.ended, what });
        self.moment(call);
    }

    fn renamed(&mut self, call: &Call, from: PathBuf, to: PathBuf) {
        if let (Some(from), Some(to)) = (self.name(&from), self.name(&to)) {
            self.rename(call, Renaming::Move(from, to));
        }
    }

    fn unlinked(&mut self, call: &Call, path: PathBuf) {
        if let Some(name) = self.name(&path) {
            self.rename(call, Renaming::Unlink(name));
        }
    }

    fn directory_made(&mut self, call: &Call, path: PathBuf) {
        if let Some(name) = self.name(&path) {
            let node = self.make(true);
            self.rename(call, Renaming::Link(name, node));
        }
    }
}

impl Call {
    /// As much of what was given as was taken.
    fn returned_of(&self, mut bytes: Vec<u8>) -> Vec<u8> {
        bytes.truncate(self.returned as usize);
        bytes
    }

    fn bytes_if(&self, wanted: bool, index: usize) -> Vec<u8> {
        if wanted { self.bytes(index) } else { Vec::new() }
    }

    fn gathered_if(&self, wanted: bool, index: usize) -> Vec<u8> {
        if wanted { self.gathered(index) } else { Vec::new() }
    }
}

fn hex(path: &Path) -> String {
    use std::os::unix::ffi::OsStrExt;
    path.as_os_str().as_bytes().iter().map(|byte| format!("\\x{byte:02x}")).collect()
}

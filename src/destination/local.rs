//! A run's directory on a local file system: parts that appear whole or not at all.
//!
//! A part is written under a temporary name beside its final one (`.<name>.tmp`), synced, renamed, and the directory
//! synced. So under a final name there is never half a file, whenever the process or the machine stops. What belongs to
//! the run, and what may therefore be overwritten or removed, is decided in `docs/adr/0005-part-identity.md`.

use super::io_error;
use crate::error::{Error, ErrorKind, Result};
use crate::failpoint;
use crate::manifest::{pointer, read};
use crate::run::ids::Fingerprint;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Component, Path, PathBuf};
use xxhash_rust::xxh3::Xxh3;

/// Where files go that are not what the journal says, relative to the prefix.
pub const QUARANTINE: &str = "_quarantine";

/// Whether a run could deliver to `prefix` under `root`, for looking only: nothing is created. What is not there yet could
/// be made in the nearest directory that is.
///
/// # Errors
/// As [`LocalPrefix::prepare`].
pub fn look_whether_usable(root: &Path, prefix: &Path, run_id: &str) -> Result<()> {
    refuse_foreign_root(root, prefix)?;
    refuse_foreign_prefix(prefix, run_id)?;
    let there = prefix.ancestors().find(|ancestor| ancestor.exists()).unwrap_or(Path::new("/"));
    if !there.is_dir() {
        return Err(Error::new(ErrorKind::DestinationForeign, format!("{} is not a directory", there.display())));
    }
    let access = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
    rustix::fs::access(there, access).map_err(|errno| io_error("writing to", there, errno.into()))
}

/// The directory of one run. Cheap to clone; every worker may have one.
#[derive(Debug, Clone)]
pub struct LocalPrefix {
    pub(super) root: PathBuf,
    pub(super) prefix: PathBuf,
}

/// What stands under a part's name. Fingerprints are over all bytes, which were read for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    Missing,
    /// Under its final name.
    Final {
        bytes: u64,
        fingerprint: Fingerprint,
    },
    /// Only under its temporary name.
    Temp {
        bytes: u64,
        fingerprint: Fingerprint,
    },
}

impl LocalPrefix {
    /// Makes sure that the run may write under `prefix`, and creates it where it is missing. Touches nothing else.
    ///
    /// `prefix` is `root` itself or lies below it. A directory belongs to the run when its path names the run's id,
    /// which no other run shares; any other directory has to be empty.
    ///
    /// # Errors
    /// `DestinationForeign` when something else is there, otherwise by the I/O error.
    pub fn prepare(root: &Path, prefix: &Path, run_id: &str) -> Result<LocalPrefix> {
        if run_id.is_empty() || !root.is_absolute() || !prefix.starts_with(root) {
            let what = format!("{} is no prefix of run {run_id:?} under {}", prefix.display(), root.display());
            return Err(Error::new(ErrorKind::Internal, what));
        }
        refuse_foreign_root(root, prefix)?;
        refuse_foreign_prefix(prefix, run_id)?;
        create_dirs(prefix)?;
        for dir in [root, prefix] {
            let access = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
            rustix::fs::access(dir, access).map_err(|errno| io_error("writing to", dir, errno.into()))?;
        }
        Ok(LocalPrefix { root: root.to_owned(), prefix: prefix.to_owned() })
    }

    /// The prefix of a run that was prepared before, for looking only: nothing is checked, nothing is created.
    pub fn open(root: &Path, prefix: &Path) -> LocalPrefix {
        LocalPrefix { root: root.to_owned(), prefix: prefix.to_owned() }
    }

    pub fn path(&self) -> &Path {
        &self.prefix
    }

    /// Begins the part `name` under its temporary name. A file left there by an earlier attempt is emptied.
    ///
    /// # Errors
    /// `Internal` for a name that leaves the prefix, otherwise by the I/O error.
    pub fn create_part(&self, name: &str) -> Result<PartFile> {
        let names = self.names(name)?;
        if names.dir != self.prefix {
            create_dirs(&names.dir)?;
        }
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .open(&names.temp)
            .map_err(|e| io_error("creating", &names.temp, e))?;
        failpoint::hit("part.created").map_err(|e| io_error("creating", &names.temp, e))?;
        Ok(PartFile { file, names: Some(names), hasher: Box::new(Xxh3::new()), bytes: 0 })
    }

    /// What is there of the part `name`. Reads the file, in pieces.
    ///
    /// # Errors
    /// By the I/O error.
    pub fn look(&self, name: &str) -> Result<Found> {
        let names = self.names(name)?;
        if let Some((bytes, fingerprint)) = hash_file(&names.last)? {
            return Ok(Found::Final { bytes, fingerprint });
        }
        Ok(match hash_file(&names.temp)? {
            Some((bytes, fingerprint)) => Found::Temp { bytes, fingerprint },
            None => Found::Missing,
        })
    }

    /// As [`LocalPrefix::look`], but where both names exist and only the temporary file has the given identity, that
    /// one is found: a redo sealed it and was stopped before it could take the older file's place.
    ///
    /// # Errors
    /// By the I/O error.
    pub fn look_for(&self, name: &str, bytes: u64, fingerprint: Fingerprint) -> Result<Found> {
        let found = self.look(name)?;
        let wanted = Found::Final { bytes, fingerprint };
        if found == wanted || !matches!(found, Found::Final { .. }) {
            return Ok(found);
        }
        let temp = hash_file(&self.names(name)?.temp)?;
        Ok(if temp == Some((bytes, fingerprint)) { Found::Temp { bytes, fingerprint } } else { found })
    }

    /// Gives a complete temporary file its final name, durably.
    ///
    /// # Errors
    /// By the I/O error.
    pub fn adopt_temp(&self, name: &str) -> Result<()> {
        let names = self.names(name)?;
        // What was read just now may have come from memory: make sure that it is on the disk before it counts.
        File::open(&names.temp).and_then(|file| file.sync_data()).map_err(|e| io_error("syncing", &names.temp, e))?;
        rename_durably(&names)
    }

    /// Removes the part `name`, finished or not. Only for names that the journal announced.
    ///
    /// # Errors
    /// By the I/O error. A file that is not there is no error.
    pub fn remove(&self, name: &str) -> Result<()> {
        let names = self.names(name)?;
        let removed = [remove_if_there(&names.last)?, remove_if_there(&names.temp)?];
        if removed.contains(&true) { sync_dir(&names.dir) } else { Ok(()) }
    }

    /// Moves the file `name` to `_quarantine/<run_id>/<name>` and returns that path, relative to the prefix. `None` when
    /// there is no such file. Never overwrites what was put there before.
    ///
    /// # Errors
    /// By the I/O error; the file then stays where it is, which is worth a warning and not a failure.
    pub fn quarantine(&self, name: &str, run_id: &str) -> Result<Option<String>> {
        let names = self.names(name)?;
        if !names.last.try_exists().map_err(|e| io_error("looking at", &names.last, e))? {
            return Ok(None);
        }
        let shelf = format!("{QUARANTINE}/{run_id}/{name}");
        let free =
            (0..1000u32).map(|n| if n == 0 { shelf.clone() } else { format!("{shelf}.{n}") }).find(|candidate| {
                // A dangling link counts as taken.
                fs::symlink_metadata(self.prefix.join(candidate)).is_err()
            });
        let Some(target) = free else {
            return Err(Error::new(ErrorKind::DestinationIo, format!("{shelf} and a thousand like it are taken")));
        };
        let path = self.prefix.join(&target);
        let shelf_dir = parent(&path);
        create_dirs(shelf_dir)?;
        fs::rename(&names.last, &path).map_err(|e| io_error("moving aside", &names.last, e))?;
        sync_dir(shelf_dir)?;
        sync_dir(&names.dir)?;
        Ok(Some(target))
    }

    /// Every file under the prefix, with `/` between folders, sorted. Quarantined files are left out; links are names,
    /// and not followed.
    ///
    /// # Errors
    /// By the I/O error.
    pub fn list(&self) -> Result<Vec<String>> {
        list_files(&self.prefix)
    }

    /// Removes temporary files of rivet's own making. For a prefix in which nothing is being written.
    ///
    /// # Errors
    /// By the I/O error.
    pub fn sweep_temps(&self) -> Result<Vec<String>> {
        let mut swept = Vec::new();
        for name in self.list()? {
            if is_temp(&name) && remove_if_there(&self.prefix.join(&name))? {
                swept.push(name);
            }
        }
        Ok(swept)
    }

    fn names(&self, name: &str) -> Result<Names> {
        Names::of(&self.prefix, name)
    }
}

/// A file's two names.
#[derive(Debug, Clone)]
pub(super) struct Names {
    dir: PathBuf,
    pub(super) temp: PathBuf,
    pub(super) last: PathBuf,
}

impl Names {
    /// # Errors
    /// `Internal` for a name that leaves the directory or is none.
    pub(super) fn of(dir: &Path, name: &str) -> Result<Names> {
        let relative = Path::new(name);
        let plain = relative.components().all(|component| matches!(component, Component::Normal(_)));
        let (Some(file), true, false) = (relative.file_name(), plain, name.ends_with('/')) else {
            return Err(Error::new(ErrorKind::Internal, format!("{name:?} is no name for a file under the prefix")));
        };
        let last = dir.join(relative);
        let dir = parent(&last).to_owned();
        let mut temp = std::ffi::OsString::from(".");
        temp.push(file);
        temp.push(".tmp");
        Ok(Names { temp: dir.join(temp), last, dir })
    }
}

/// Whether the last component of `name` is that of a temporary file of a part, a manifest, a marker or a pointer.
fn is_temp(name: &str) -> bool {
    let file = name.rsplit('/').next().unwrap_or(name);
    let Some(final_name) = file.strip_prefix('.').and_then(|rest| rest.strip_suffix(".tmp")) else { return false };
    final_name.ends_with(".parquet") || [read::MANIFEST, read::SUCCESS].contains(&final_name)
}

/// A part that is being written. Dropped before it is sealed, it removes itself.
pub struct PartFile {
    file: File,
    /// `None` once sealed.
    names: Option<Names>,
    hasher: Box<Xxh3>,
    bytes: u64,
}

impl PartFile {
    /// Bytes written so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Makes the file's bytes durable under the temporary name.
    ///
    /// # Errors
    /// By the I/O error. After a failed sync nobody knows what is on the disk: the file is removed, and has to be
    /// written again.
    pub fn seal(mut self) -> Result<SealedFile> {
        let Some(names) = self.names.clone() else {
            return Err(Error::new(ErrorKind::Internal, "a part was sealed twice"));
        };
        self.file.sync_data().map_err(|e| io_error("syncing", &names.temp, e))?;
        failpoint::hit("part.synced").map_err(|e| io_error("syncing", &names.temp, e))?;
        self.names = None;
        Ok(SealedFile { names, bytes: self.bytes, fingerprint: Fingerprint(self.hasher.digest()) })
    }

    fn write_hashed(&mut self, buf: &[u8]) -> io::Result<usize> {
        let written = self.file.write(buf)?;
        self.hasher.update(&buf[..written]);
        self.bytes += written as u64;
        failpoint::hit("part.written")?;
        Ok(written)
    }
}

impl Write for PartFile {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.write_hashed(buf).map_err(|error| match &self.names {
            // An interrupted call is repeated by the caller, who looks at the kind.
            Some(names) if error.kind() != io::ErrorKind::Interrupted => {
                io::Error::new(error.kind(), format!("writing {}: {error}", names.temp.display()))
            }
            _ => error,
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for PartFile {
    fn drop(&mut self) {
        if let Some(names) = self.names.take() {
            // Best effort: what stays is overwritten by the next attempt, or swept.
            let _ = fs::remove_file(&names.temp);
        }
    }
}

/// A part whose bytes are durable, and which has not yet appeared.
#[derive(Debug)]
#[must_use = "a sealed part counts for nothing until it is published"]
pub struct SealedFile {
    names: Names,
    pub bytes: u64,
    pub fingerprint: Fingerprint,
}

impl SealedFile {
    /// Gives the file its final name, durably.
    ///
    /// # Errors
    /// By the I/O error.
    pub fn publish(self) -> Result<()> {
        rename_durably(&self.names)
    }
}

fn rename_durably(names: &Names) -> Result<()> {
    fs::rename(&names.temp, &names.last).map_err(|e| io_error("renaming", &names.temp, e))?;
    failpoint::hit("part.renamed").map_err(|e| io_error("renaming", &names.temp, e))?;
    sync_dir(&names.dir)?;
    failpoint::hit("part.dir_synced").map_err(|e| io_error("syncing", &names.dir, e))
}

/// Length and fingerprint of a file, read in pieces. `None` when there is none.
///
/// # Errors
/// By the I/O error; `DestinationForeign` for something that is no file.
pub fn hash_file(path: &Path) -> Result<Option<(u64, Fingerprint)>> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error("opening", path, error)),
    };
    let metadata = file.metadata().map_err(|e| io_error("looking at", path, e))?;
    if !metadata.is_file() {
        return Err(Error::new(ErrorKind::DestinationForeign, format!("{} is not a file", path.display())));
    }
    let mut hasher = Xxh3::new();
    let mut bytes = 0u64;
    let mut piece = vec![0; 256 * 1024];
    loop {
        match file.read(&mut piece) {
            Ok(0) => return Ok(Some((bytes, Fingerprint(hasher.digest())))),
            Ok(n) => {
                hasher.update(&piece[..n]);
                bytes += n as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(io_error("reading", path, error)),
        }
    }
}

pub(crate) fn list_files(prefix: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    let mut folders = vec![String::new()];
    while let Some(folder) = folders.pop() {
        let path = prefix.join(&folder);
        for entry in fs::read_dir(&path).map_err(|e| io_error("listing", &path, e))? {
            let entry = entry.map_err(|e| io_error("listing", &path, e))?;
            let name = format!("{folder}{}", entry.file_name().to_string_lossy());
            let kind = entry.file_type().map_err(|e| io_error("looking at", &entry.path(), e))?;
            if !kind.is_dir() {
                names.push(name);
            } else if name != QUARANTINE {
                folders.push(format!("{name}/"));
            }
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// The root may hold anything beside our folder, except a `manifest.json` that is not the pointer rivet keeps there.
fn refuse_foreign_root(root: &Path, prefix: &Path) -> Result<()> {
    match fs::metadata(root) {
        Ok(metadata) if !metadata.is_dir() => {
            return Err(Error::new(ErrorKind::DestinationForeign, format!("{} is not a directory", root.display())));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            let what = format!("a part of the path {} is not a directory", root.display());
            return Err(Error::new(ErrorKind::DestinationForeign, what));
        }
        Err(error) => return Err(io_error("looking at", root, error)),
        Ok(_) => {}
    }
    if prefix == root {
        return Ok(());
    }
    pointer::read(root).map(|_| ()).map_err(|error| match error.kind() {
        ErrorKind::ManifestInvalid => {
            let what = format!("{} is there and was not made by rivet", root.join(read::MANIFEST).display());
            Error::new(ErrorKind::DestinationForeign, what).with_source(error)
        }
        _ => error,
    })
}

fn refuse_foreign_prefix(prefix: &Path, run_id: &str) -> Result<()> {
    let foreign = |why: &str| {
        let what = format!("{} {why}", prefix.display());
        Err(Error::new(ErrorKind::DestinationForeign, what))
    };
    match fs::metadata(prefix) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io_error("looking at", prefix, error)),
        Ok(metadata) if !metadata.is_dir() => return foreign("is not a directory"),
        Ok(_) => {}
    }
    let named_after_the_run =
        prefix.components().any(|component| component.as_os_str().to_string_lossy().contains(run_id));
    let first = fs::read_dir(prefix).map_err(|e| io_error("listing", prefix, e))?.next();
    if first.is_some() && !named_after_the_run {
        return foreign("already holds files, and nothing in its name says that they are this run's");
    }
    let run = match read::run_id_of(prefix) {
        // The directory says whose it is; a manifest that is damaged is mended with the rest.
        Err(error) if named_after_the_run && error.kind() == ErrorKind::DestinationForeign => return Ok(()),
        run => run?,
    };
    match run {
        Some(other) if other != run_id => foreign(&format!("holds the output of run {other}")),
        _ => Ok(()),
    }
}

/// Creates `dir` and what is missing above it, each durable before the next.
pub(super) fn create_dirs(dir: &Path) -> Result<()> {
    let missing: Vec<&Path> = dir.ancestors().take_while(|ancestor| !ancestor.exists()).collect();
    for dir in missing.into_iter().rev() {
        match fs::create_dir(dir) {
            Ok(()) => sync_dir(parent(dir))?,
            // Another export of the same root was faster.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => {}
            Err(error) => return Err(io_error("creating", dir, error)),
        }
    }
    Ok(())
}

pub(super) fn sync_dir(dir: &Path) -> Result<()> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(|e| io_error("syncing", dir, e))
}

pub(super) fn remove_if_there(path: &Path) -> Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(io_error("removing", path, error)),
    }
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(path)
}

//! `rivet.yaml`, read and validated. What comes out of here needs no further checks, and prints no secret.
//!
//! ```text
//! text ──yaml──▶ tree with places ──interpolate──▶ filled tree ──source, export, …──▶ Config
//! ```

mod definition;
mod destination;
mod export;
mod interpolate;
pub mod model;
pub mod secret;
mod section;
mod source;
mod tuning;
mod url;
mod yaml;

pub use destination::{resolve_destination, still_resolves_to};
pub use model::*;
pub use secret::Secret;

use crate::error::{Error, ErrorKind, Result};
use interpolate::Values;
pub(crate) use section::nearest;
use section::{Field, Section};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Read;
use std::path::{Path, PathBuf};

/// What the command line adds to a file.
#[derive(Debug, Clone, Default)]
pub struct LoadOptions {
    /// `--param KEY=VALUE`.
    pub params: BTreeMap<String, String>,
    /// Replaces the file's `state_dir`; relative to the working directory.
    pub state_dir: Option<PathBuf>,
    /// Names asked for with `-e`; empty = all.
    pub exports: Vec<String>,
}

const KEYS: &[&str] = &[
    "source",
    "exports",
    "parallel_exports",
    "parallel_export_processes",
    "notifications",
    "state_dir",
    "snapshot_group",
];

/// What every part of the reading needs to know of its surroundings.
struct Context<'a> {
    /// The file as the user named it; what errors begin with.
    file: String,
    /// The file's directory, absolute.
    dir: PathBuf,
    /// Where journals are kept, absolute.
    state_dir: PathBuf,
    params: &'a BTreeMap<String, String>,
    env: &'a dyn Fn(&str) -> Option<String>,
    /// Parameters that filled something.
    used: &'a RefCell<BTreeSet<String>>,
}

impl<'a> Context<'a> {
    /// A path in the file is relative to the file.
    fn beside(&self, path: &str) -> PathBuf {
        lexically_clean(&self.dir.join(path))
    }

    /// [`Context::beside`] of a directory that is made when it is missing. What a shell or a browser would have understood is
    /// not made as a folder of that name.
    fn directory(&self, field: &Field<'_>) -> Result<PathBuf> {
        let path = field.text()?;
        let scheme = path.split_once("://").map(|(scheme, _)| scheme).filter(|scheme| {
            let mut chars = scheme.chars();
            chars.next().is_some_and(|c| c.is_ascii_alphabetic())
                && chars.all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
        });
        match scheme {
            Some("file") => {
                return Err(field.invalid("is a URL").with_hint("Write the directory alone, without `file://`."));
            }
            Some(_) => {
                let what = "is a URL, and this version writes to local directories only";
                return Err(field.invalid(what).with_hint("Write to a directory, and copy or mount it from there."));
            }
            None => {}
        }
        if path.starts_with('~') {
            let hint = "Write the absolute path, or `${HOME}/…`; `./~` is a folder of that name.";
            return Err(field.invalid("begins with `~`, which only a shell resolves").with_hint(hint));
        }
        Ok(self.beside(path))
    }

    fn values(&self) -> Values<'a> {
        Values { params: self.params, env: self.env, used: self.used }
    }
}

/// Reads and validates the file. The exports of the result are those that were asked for, in the order of the file.
///
/// # Errors
/// The `Config…` kinds, each with `file:line:column` and the key. The whole file is checked, also what was not asked
/// for; only what this version cannot do yet, and what is not given for `${…}`, does not matter there.
pub fn load(path: &Path, options: &LoadOptions) -> Result<Config> {
    load_with(path, options, &|name| std::env::var(name).ok())
}

/// As [`load`], in another environment than that of the process.
pub fn load_with(path: &Path, options: &LoadOptions, env: &dyn Fn(&str) -> Option<String>) -> Result<Config> {
    read(path, &read_text(path, yaml::MAX_FILE_BYTES, ErrorKind::ConfigMissing)?, options, env)
}

/// As [`load_with`], of a text that is read already. The path says what its errors and its relative paths refer to.
pub fn read(path: &Path, text: &str, options: &LoadOptions, env: &dyn Fn(&str) -> Option<String>) -> Result<Config> {
    let absolute = absolute(path)?;
    let dir = absolute.parent().unwrap_or(Path::new("/")).to_path_buf();
    let used = RefCell::default();
    let state_dir = dir.join(".rivet");
    let file = path.display().to_string();
    let mut context = Context { file, dir, state_dir, params: &options.params, env, used: &used };
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut root = yaml::parse(&context.file, text)?;
    if matches!(root.value, yaml::Value::Null(_)) {
        let what = format!("{} is empty", context.file);
        let hint = "Add `source` and `exports`; docs/config.md has an example.";
        return Err(Error::new(ErrorKind::ConfigInvalid, what).with_hint(hint));
    }
    let unfilled = fill(&context, &mut root, &options.exports)?;
    let section = Section::open(&context.file, "", &root, KEYS)?;
    context.state_dir = match (&options.state_dir, section.get("state_dir")) {
        (Some(dir), _) => self::absolute(dir)?,
        (None, Some(field)) => context.directory(&field)?,
        (None, None) => context.state_dir,
    };
    let source = source::read(&context, &section.required("source")?)?;
    let (exports, all_read) = read_exports(&context, &section, &source, &options.exports, &unfilled)?;
    refuse_what_is_not_built(&section)?;
    if all_read {
        refuse_unused_params(&context)?;
    }
    let flag = |key| section.get(key).map(|field| field.flag()).transpose().map(Option::unwrap_or_default);
    let parallel_exports = flag("parallel_exports")? | flag("parallel_export_processes")?;
    Ok(Config { path: absolute, source: source.config, exports, parallel_exports, state_dir: context.state_dir })
}

/// Fills every value. An export that was not asked for, and for which something is not given, stays unfilled but for its
/// name; what is returned are the places of those in the list.
fn fill(context: &Context<'_>, root: &mut yaml::Node, asked: &[String]) -> Result<BTreeSet<usize>> {
    let mut unfilled = BTreeSet::new();
    let fill = |node: &mut yaml::Node| interpolate::fill(&context.file, node, &context.values());
    let yaml::Value::Mapping(entries) = &mut root.value else { return fill(root).map(|()| unfilled) };
    for entry in entries {
        let yaml::Value::Sequence(exports) = &mut entry.node.value else {
            fill(&mut entry.node)?;
            continue;
        };
        for (index, export) in exports.iter_mut().enumerate() {
            let name = name_of(export).cloned();
            match fill(export) {
                Err(error) if entry.key == "exports" && error.kind() == ErrorKind::ConfigUnset => {
                    let Some(mut name) = name else { return Err(error) };
                    fill(&mut name)?;
                    let wanted = |text: &str| asked.is_empty() || asked.iter().any(|asked| asked == text);
                    match (&name.value, name_of(export)) {
                        (yaml::Value::Scalar(scalar), Some(place)) if !wanted(&scalar.text) => *place = name,
                        _ => return Err(error),
                    }
                    unfilled.insert(index);
                }
                filled => filled?,
            }
        }
    }
    Ok(unfilled)
}

/// An export's `name`, as far as it has one.
fn name_of(export: &mut yaml::Node) -> Option<&mut yaml::Node> {
    let yaml::Value::Mapping(entries) = &mut export.value else { return None };
    entries.iter_mut().find(|entry| entry.key == "name").map(|entry| &mut entry.node)
}

/// The state directory that a file names, for commands that read journals: nothing else in the file has to be valid.
///
/// # Errors
/// The file cannot be read, is not YAML, or its `state_dir` cannot be filled in.
pub fn state_dir_of(path: &Path) -> Result<PathBuf> {
    let absolute = absolute(path)?;
    let dir = absolute.parent().unwrap_or(Path::new("/")).to_path_buf();
    let (params, used) = (BTreeMap::new(), RefCell::default());
    let env = &|name: &str| std::env::var(name).ok();
    let (file, state_dir) = (path.display().to_string(), dir.join(".rivet"));
    let context = Context { file, dir, state_dir, params: &params, env, used: &used };
    let root = yaml::parse(&context.file, &read_text(path, yaml::MAX_FILE_BYTES, ErrorKind::ConfigMissing)?)?;
    let yaml::Value::Mapping(entries) = root.value else { return Ok(context.state_dir) };
    let Some(mut entry) = entries.into_iter().find(|entry| entry.key == "state_dir") else {
        return Ok(context.state_dir);
    };
    interpolate::fill(&context.file, &mut entry.node, &context.values())?;
    let only = yaml::Node { place: entry.place, value: yaml::Value::Mapping(vec![entry]) };
    match Section::open(&context.file, "", &only, KEYS)?.get("state_dir") {
        Some(field) => context.directory(&field),
        None => Ok(context.state_dir),
    }
}

/// A parameter that fills nothing is misspelt, or meant for another file.
fn refuse_unused_params(context: &Context<'_>) -> Result<()> {
    let used = context.used.borrow();
    let Some(unused) = context.params.keys().find(|key| !used.contains(*key)) else { return Ok(()) };
    let shown: String = unused.chars().take(64).collect();
    let what = format!("--param {shown} fills nothing: {} holds no `${{{shown}}}`", context.file);
    let error = Error::new(ErrorKind::Usage, what);
    Err(match nearest(unused, used.iter().map(String::as_str)) {
        Some(near) => error.with_hint(format!("Did you mean `{near}`?")),
        None => error.with_hint("Take it out, or name the file that uses it."),
    })
}

/// The exports that were asked for, and whether every export could be read to its end.
fn read_exports(
    context: &Context<'_>,
    section: &Section<'_>,
    source: &source::Source,
    asked: &[String],
    unfilled: &BTreeSet<usize>,
) -> Result<(Vec<ExportConfig>, bool)> {
    let list = section.required("exports")?;
    let fields = list.items()?;
    if fields.is_empty() {
        return Err(list.invalid("is empty").with_hint("Add at least one export."));
    }
    let names = read_names(&fields)?;
    for name in asked {
        if !names.contains(name) {
            let shown: String = name.chars().take(64).collect();
            let error = Error::new(ErrorKind::ConfigUnknownExport, format!("{} has no export {shown:?}", context.file));
            return Err(match nearest(name, names.iter().map(String::as_str)) {
                Some(near) => error.with_hint(format!("Did you mean {near:?}?")),
                None => error.with_hint(format!("It has: {}.", names.join(", "))),
            });
        }
    }
    let (mut exports, mut all_read) = (Vec::new(), true);
    for (index, (field, name)) in fields.iter().zip(&names).enumerate() {
        if unfilled.contains(&index) {
            all_read = false;
            continue;
        }
        let wanted = asked.is_empty() || asked.contains(name);
        match export::read(context, field, source) {
            Ok(export) if wanted => exports.push(export),
            Ok(_) => {}
            // Another export may use what this version lacks, or what was not given: that is nobody's trouble today.
            Err(error) if !wanted && matches!(error.kind(), ErrorKind::ConfigUnsupported | ErrorKind::ConfigUnset) => {
                all_read = false;
            }
            Err(error) => return Err(error),
        }
    }
    Ok((exports, all_read))
}

fn read_names(fields: &[Field<'_>]) -> Result<Vec<String>> {
    let mut seen: HashMap<String, String> = HashMap::new();
    let mut names = Vec::with_capacity(fields.len());
    for field in fields {
        let (name, at) = export::read_name(field)?;
        if let Some(first) = seen.insert(name.to_ascii_lowercase(), at.clone()) {
            // Names become file names, and some file systems do not tell `Orders` from `orders`.
            let what = format!("{at}: the name `{name}` is taken; the first is at {first}");
            return Err(Error::new(ErrorKind::ConfigInvalid, what)
                .with_hint("Give each export a name of its own, also when case is ignored."));
        }
        names.push(name);
    }
    Ok(names)
}

fn refuse_what_is_not_built(section: &Section<'_>) -> Result<()> {
    if let Some(field) = section.get("snapshot_group")
        && field.flag()?
    {
        let what = "asks for one snapshot over several exports, which this version cannot do yet";
        return Err(field.unsupported(what, "Take it out; each export is read in one snapshot of its own."));
    }
    if let Some(field) = section.get("notifications")
        && field.section(&["slack", "webhook"])?.entries().next().is_some()
    {
        let what = "asks for messages that this version does not send";
        return Err(field.unsupported(what, "Take it out, and act on the exit code or on `--json`."));
    }
    Ok(())
}

fn absolute(path: &Path) -> Result<PathBuf> {
    let made = std::path::absolute(path).map(|path| lexically_clean(&path));
    made.map_err(|error| {
        Error::new(ErrorKind::Usage, format!("{:?} is not a path: {error}", path.display().to_string()))
            .with_source(error)
    })
}

/// Takes out `.` and, where a directory's own name stands before it, `..`. Symbolic links stay as they are written.
fn lexically_clean(path: &Path) -> PathBuf {
    use std::path::Component;
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            // `link/..` is the parent of what the link points to, and only the system knows that.
            Component::ParentDir
                if matches!(clean.components().next_back(), Some(Component::Normal(_))) && !clean.is_symlink() =>
            {
                clean.pop();
            }
            Component::ParentDir if clean.has_root() => {}
            other => clean.push(other),
        }
    }
    clean
}

/// Reads a text file that the configuration names.
fn read_named_text(context: &Context<'_>, field: &Field<'_>, limit: u64) -> Result<(PathBuf, String)> {
    let path = context.beside(field.text()?);
    match read_text(&path, limit, ErrorKind::ConfigInvalid) {
        Ok(text) => Ok((path, text)),
        Err(error) => {
            let hint = "Check the path; it is relative to the configuration file's directory.";
            Err(error.at(format!("{}: `{}`", field.at(), field.path)).with_hint(hint))
        }
    }
}

/// Reads a text file of at most `limit` bytes; `missing` is what it means when it is not there.
fn read_text(path: &Path, limit: u64, missing: ErrorKind) -> Result<String> {
    let name = path.display();
    let unreadable = |what: String| Error::new(ErrorKind::ConfigUnreadable, what);
    let opened = std::fs::File::open(path).and_then(|file| Ok((file.metadata()?, file)));
    let (metadata, file) = opened.map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Error::new(missing, format!("there is no file {name}")),
        _ => unreadable(format!("{name} cannot be read: {error}")).with_source(error),
    })?;
    if metadata.is_dir() {
        return Err(unreadable(format!("{name} is a directory")).with_hint("Name the file in it."));
    }
    let mut bytes = Vec::new();
    let read = file.take(limit + 1).read_to_end(&mut bytes);
    read.map_err(|error| unreadable(format!("{name} cannot be read: {error}")).with_source(error))?;
    if bytes.len() as u64 > limit {
        return Err(unreadable(format!("{name} is longer than {limit} bytes")).with_hint("Name the right file."));
    }
    String::from_utf8(bytes).map_err(|error| {
        let line = error.as_bytes()[..error.utf8_error().valid_up_to()].iter().filter(|b| **b == b'\n').count() + 1;
        unreadable(format!("{name}:{line}: this is not UTF-8 text"))
    })
}

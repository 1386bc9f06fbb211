//! `destination`: where an export's files go, and the tokens in its path.

use super::section::{Field, Section, nearest};
use super::{Context, DestinationConfig, ExportConfig, Selection};
use crate::error::Result;
use std::path::{Path, PathBuf};

pub const KEYS: &[&str] = &[
    "type",
    "path",
    "bucket",
    "prefix",
    "region",
    "endpoint",
    "credentials_file",
    "access_key_env",
    "secret_key_env",
    "session_token_env",
    "aws_profile",
    "account_name",
    "account_key_env",
    "sas_token_env",
    "allow_anonymous",
];
const TOKENS: &[&str] = &["date", "export", "table", "run_id"];

pub fn read(context: &Context<'_>, field: &Field<'_>) -> Result<DestinationConfig> {
    let section = field.section(KEYS)?;
    let kind = section.required("type")?;
    let local = kind.word(&[("local", true), ("s3", false), ("gcs", false), ("azure", false), ("stdout", false)])?;
    if !local {
        let what = "names a store that this version does not write to";
        return Err(kind.unsupported(what, "`local` is what it writes to; copy or mount the directory from there."));
    }
    let path = section.required("path")?;
    refuse_keys_of_other_stores(&section)?;
    check_tokens(&path)?;
    Ok(DestinationConfig { path: context.directory(&path)? })
}

/// What a run delivers and what rivet remembers stay apart: whoever clears the one must not lose the other, and a run's folder
/// in between would be taken for a journal.
pub fn refuse_state_dir(context: &Context<'_>, export: &ExportConfig, path: &Field<'_>) -> Result<()> {
    let (root, _) = resolve_destination(export, "{run_id}", "{date}");
    if !real(&root).starts_with(real(&context.state_dir)) {
        return Ok(());
    }
    let what = format!("lies in the state directory {}", context.state_dir.display());
    Err(path.invalid(&what).with_hint("Choose a directory outside of it, such as `./out`; journals are kept there."))
}

fn refuse_keys_of_other_stores(section: &Section<'_>) -> Result<()> {
    match section.entries().find(|(key, _)| !matches!(*key, "type" | "path")) {
        Some((_, field)) => Err(field.invalid("belongs to another type of destination than `local`")),
        None => Ok(()),
    }
}

fn check_tokens(field: &Field<'_>) -> Result<()> {
    let mut rest = field.text()?;
    while let Some(at) = rest.find(['{', '}']) {
        if rest[at..].starts_with('}') {
            return Err(field.invalid("has a `}` without a `{`"));
        }
        let inner = &rest[at + 1..];
        let Some(end) = inner.find('}') else { return Err(field.invalid("has a `{` without a `}`")) };
        let token = &inner[..end];
        if token == "partition" {
            let what = "divides by `{partition}`, which this version cannot do yet";
            return Err(field.unsupported(what, "Take the token and `partition_by` out."));
        }
        if !TOKENS.contains(&token) {
            let error = field.invalid("has a token that is not known");
            return Err(match nearest(token, TOKENS.iter().copied()) {
                Some(near) => error.with_hint(format!("Did you mean `{{{near}}}`?")),
                None => error.with_hint("Known tokens: {date}, {export}, {table}, {run_id}."),
            });
        }
        rest = &inner[end + 1..];
    }
    Ok(())
}

/// Where a run writes: `(root, prefix)`, both absolute.
///
/// `root` is the configured path with its tokens resolved, `prefix` the directory of this run under it, `root/run_id`.
/// A path that names `{run_id}` itself already is one directory for each run: both are the same then.
///
/// `date` is the UTC date of the run's planning, `YYYY-MM-DD`. Called once for a run; the journal keeps the answer.
pub fn resolve_destination(export: &ExportConfig, run_id: &str, date: &str) -> (PathBuf, PathBuf) {
    let template = export.destination.path.to_string_lossy();
    let table = match &export.selection {
        Selection::Table { name, .. } => file_name(name),
        Selection::Query(_) => export.name.clone(),
    };
    // In one pass, so that a name that happens to look like a token stays what it is.
    let mut resolved = String::with_capacity(template.len() + run_id.len());
    let mut rest = &*template;
    let mut names_run = false;
    while let Some((before, inner)) = rest.split_once('{') {
        resolved.push_str(before);
        // The directory of the configuration file may hold braces of its own.
        let Some((token, after)) = inner.split_once('}') else {
            resolved.push('{');
            rest = inner;
            break;
        };
        match token {
            "date" => resolved.push_str(date),
            "export" => resolved.push_str(&export.name),
            "table" => resolved.push_str(&table),
            "run_id" => {
                names_run = true;
                resolved.push_str(run_id);
            }
            other => resolved.push_str(&format!("{{{other}}}")),
        }
        rest = after;
    }
    resolved.push_str(rest);
    let root = PathBuf::from(resolved);
    let prefix = if names_run { root.clone() } else { root.join(run_id) };
    (root, prefix)
}

/// Whether a run that resolved its root to `root` would do so today, apart from the date: a project that was moved, or a
/// relative path under another directory, leads elsewhere. Two names of one directory are the same.
///
/// # Errors
/// The root as it would be resolved now.
pub fn still_resolves_to(export: &ExportConfig, run_id: &str, root: &Path) -> Result<(), PathBuf> {
    let planned = root.to_string_lossy();
    let date = |at: &&[u8]| {
        at.iter().enumerate().all(|(i, b)| if matches!(i, 4 | 7) { *b == b'-' } else { b.is_ascii_digit() })
    };
    let dates = planned.as_bytes().windows("2026-01-31".len()).filter(date);
    let mut candidates = dates.filter_map(|date| std::str::from_utf8(date).ok()).chain(["{date}"]);
    let now = |date: &str| resolve_destination(export, run_id, date).0;
    if candidates.any(|date| now(date) == root || real(&now(date)) == real(root)) { Ok(()) } else { Err(now("{date}")) }
}

/// Without symbolic links, as far as there is anything.
fn real(path: &Path) -> PathBuf {
    let resolved = path.ancestors().find_map(|ancestor| {
        let below = path.strip_prefix(ancestor).ok()?;
        Some(ancestor.canonicalize().ok()?.join(below))
    });
    resolved.unwrap_or_else(|| path.to_owned())
}

/// A table's name as one component of a path, whatever characters the name holds.
fn file_name(name: &str) -> String {
    let safe = |c: char| if c.is_alphanumeric() || matches!(c, '_' | '-' | '.') { c } else { '_' };
    let name: String = name.chars().map(safe).collect();
    if Path::new(&name).file_name().is_some_and(|n| n == name.as_str()) { name } else { format!("_{name}") }
}

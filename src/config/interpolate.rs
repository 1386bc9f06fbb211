//! `${key}`: filled from `--param` first, then from the environment.
//!
//! Filling happens in the values of the parsed tree, never in the text of the file, so that nothing that comes from
//! outside can add a key or a line. `$${` stands for a literal `${`; every other `$` stands for itself, because SQL has
//! uses for it.

use super::yaml::{Node, Place, Scalar, Value};
use crate::error::{Error, ErrorKind, Result};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

/// One value grows to at most this many bytes.
const MAX_FILLED_BYTES: usize = 4 << 20;

/// Where values come from.
pub struct Values<'a> {
    pub params: &'a BTreeMap<String, String>,
    /// The environment, as a function so that tests need not change their process.
    pub env: &'a dyn Fn(&str) -> Option<String>,
    /// Keys of `params` that filled something.
    pub used: &'a RefCell<BTreeSet<String>>,
}

impl Values<'_> {
    fn find(&self, key: &str) -> Option<String> {
        let Some(value) = self.params.get(key) else { return (self.env)(key) };
        self.used.borrow_mut().insert(key.to_owned());
        Some(value.clone())
    }
}

/// Fills every value under `node`.
///
/// # Errors
/// [`ErrorKind::ConfigUnset`] with the key and its place; [`ErrorKind::ConfigSyntax`] for a `${` without a name or end.
pub fn fill(file: &str, node: &mut Node, values: &Values<'_>) -> Result<()> {
    match &mut node.value {
        Value::Null(_) => Ok(()),
        Value::Scalar(scalar) => fill_scalar(scalar, values).map_err(|fault| fault.error(file, node.place)),
        Value::Sequence(items) => items.iter_mut().try_for_each(|item| fill(file, item, values)),
        Value::Mapping(entries) => entries.iter_mut().try_for_each(|entry| fill(file, &mut entry.node, values)),
    }
}

/// Fills a text that stands in a file of its own, such as a query.
pub fn fill_text(file: &str, text: String, values: &Values<'_>) -> Result<Scalar> {
    let mut scalar = Scalar { text, filled: false };
    match fill_scalar(&mut scalar, values) {
        Ok(()) => Ok(scalar),
        Err(fault) => {
            let before = scalar.text.get(..fault.offset).unwrap_or_default();
            let line = before.matches('\n').count() as u64 + 1;
            let column = before.rsplit('\n').next().unwrap_or_default().chars().count() as u64 + 1;
            Err(fault.error(file, Place { line, column }))
        }
    }
}

struct Fault {
    kind: ErrorKind,
    what: String,
    hint: Option<String>,
    /// Byte offset of the `${` in the text.
    offset: usize,
}

impl Fault {
    fn error(self, file: &str, place: Place) -> Error {
        let error = Error::new(self.kind, format!("{file}:{place}: {}", self.what));
        match self.hint {
            Some(hint) => error.with_hint(hint),
            None => error,
        }
    }
}

fn fill_scalar(scalar: &mut Scalar, values: &Values<'_>) -> Result<(), Fault> {
    let text = &scalar.text;
    if !text.contains("${") {
        return Ok(());
    }
    let syntax = |what: &str, offset| Fault {
        kind: ErrorKind::ConfigSyntax,
        what: what.to_owned(),
        hint: Some("Write `${NAME}`, or `$${` for a literal `${`.".to_owned()),
        offset,
    };
    let mut out = String::with_capacity(text.len());
    let mut filled = false;
    let mut rest = text.as_str();
    while let Some(at) = rest.find("${") {
        let offset = text.len() - rest.len() + at;
        // `$${` is the escape. Of `$$${x}` the first dollar stands for itself.
        if rest[..at].ends_with('$') {
            out.push_str(&rest[..at]);
            out.push('{');
            rest = &rest[at + 2..];
            continue;
        }
        out.push_str(&rest[..at]);
        let inner = &rest[at + 2..];
        let Some(end) = inner.find('}') else { return Err(syntax("a `${` is never closed", offset)) };
        let key = &inner[..end];
        if !is_key(key) {
            return Err(syntax("what stands in a `${…}` is not a name (letters, digits, `_`, `-`, `.`)", offset));
        }
        let Some(value) = values.find(key) else {
            return Err(Fault {
                kind: ErrorKind::ConfigUnset,
                what: format!("`${{{key}}}` is neither a --param nor set in the environment"),
                hint: Some(format!("Export {key}, or pass `--param {key}=VALUE`.")),
                offset,
            });
        };
        if out.len() + value.len() > MAX_FILLED_BYTES {
            return Err(syntax("a value grows beyond 4 MiB when it is filled in", offset));
        }
        out.push_str(&value);
        filled = true;
        rest = &inner[end + 1..];
    }
    out.push_str(rest);
    scalar.text = out;
    scalar.filled = filled;
    Ok(())
}

fn is_key(key: &str) -> bool {
    !key.is_empty()
        && key.len() <= 128
        && key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(text: &str) -> Result<Scalar> {
        let params = BTreeMap::from([("a".to_owned(), "1".to_owned()), ("both".to_owned(), "param".to_owned())]);
        let env = |key: &str| match key {
            "E" => Some("env ${a} $".to_owned()),
            "both" => Some("env".to_owned()),
            _ => None,
        };
        fill_text("q.sql", text.to_owned(), &Values { params: &params, env: &env, used: &RefCell::default() })
    }

    #[test]
    fn params_come_first_then_the_environment_and_values_are_not_filled_again() {
        assert_eq!(filled("x${a}y${E}z${both}").unwrap().text, "x1yenv ${a} $zparam");
        assert!(filled("${a}").unwrap().filled);
        assert!(!filled("a").unwrap().filled);
    }

    #[test]
    fn a_doubled_dollar_before_a_brace_is_the_only_escape() {
        for (text, expected) in [
            ("$${a}", "${a}"),
            ("$$ body $$", "$$ body $$"),
            ("$1 $", "$1 $"),
            ("$${a}${a}", "${a}1"),
            ("pa$$word", "pa$$word"),
            ("$a", "$a"),
        ] {
            assert_eq!(filled(text).unwrap().text, expected, "{text}");
        }
    }

    #[test]
    fn what_is_missing_is_named_with_its_place() {
        let error = filled("select 1\n where é = ${region}").err().unwrap();
        assert_eq!(error.kind(), ErrorKind::ConfigUnset);
        assert!(error.what().starts_with("q.sql:2:12: `${region}`"), "{error}");
        assert!(error.hint().contains("--param region=VALUE"));
        for text in ["${", "${}", "${a b}", "x ${a"] {
            assert_eq!(filled(text).err().unwrap().kind(), ErrorKind::ConfigSyntax, "{text}");
        }
    }
}

//! YAML text → a tree in which every key and value knows its place.
//!
//! The tree keeps scalars as they were written. What a scalar means (a number, a size, a name) is decided by the key it
//! belongs to, so a password `0123` or a version `1.10` never passes through a number.

use crate::error::{Error, ErrorKind, Result};
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Location, Spanned};
use std::fmt;

/// No configuration is longer. A file beyond this is something else, named by mistake.
pub const MAX_FILE_BYTES: u64 = 1 << 20;

/// 1-based line and column of a key or value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub line: u64,
    pub column: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

#[derive(Clone)]
pub struct Node {
    pub place: Place,
    pub value: Value,
}

#[derive(Clone)]
pub enum Value {
    /// Nothing, or a word that YAML takes for it, as written.
    Null(String),
    Scalar(Scalar),
    Sequence(Vec<Node>),
    Mapping(Vec<Entry>),
}

#[derive(Clone)]
pub struct Scalar {
    /// As written; quotes and escapes are resolved.
    pub text: String,
    /// Whether a `${…}` was filled in. Such text may hold a secret and is never repeated in a message.
    pub filled: bool,
}

impl Value {
    fn written(text: String) -> Value {
        Value::Scalar(Scalar { text, filled: false })
    }

    pub fn kind(&self) -> &'static str {
        match self {
            Value::Null(_) => "nothing",
            Value::Scalar(_) => "a single value",
            Value::Sequence(_) => "a list",
            Value::Mapping(_) => "a mapping",
        }
    }
}

#[derive(Clone)]
pub struct Entry {
    pub key: String,
    pub place: Place,
    pub node: Node,
}

/// Parses one document. `file` is the name that errors carry.
///
/// # Errors
/// [`ErrorKind::ConfigSyntax`] with `file:line:column`. The text of the file is never quoted: it may hold a password.
pub fn parse(file: &str, text: &str) -> Result<Node> {
    let options = serde_saphyr::options! {
        // A handful of anchors in a hand-written file, or nothing: a document that unfolds into more is a bomb.
        budget: serde_saphyr::budget! {
            max_depth: 24,
            max_events: 200_000,
            max_nodes: 100_000,
            max_aliases: 1_000,
            max_anchors: 1_000,
            // One more than is accepted, so that a second document is called that.
            max_documents: 2,
            max_total_scalar_bytes: 4 << 20,
            max_merge_keys: 1_000,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 100_000,
            max_replay_stack_depth: 16,
        },
        with_snippet: false,
        // `.inf` is a word like any other here.
        non_finite_float_policy: serde_saphyr::options::NonFiniteFloatPolicy::AsString,
    };
    match serde_saphyr::from_str_with_options::<Spanned<Raw>>(text, options) {
        Ok(raw) => Ok(locate(raw, text)),
        Err(error) => Err(syntax_error(file, &error)),
    }
}

/// A value as the YAML reader types it. Untyped scalars are replaced by their own spelling in [`locate`].
enum Raw {
    Null,
    /// Text that is not a number, a boolean or null.
    Text(String),
    /// Looks like something else than text; holds a spelling in case that the source's own cannot be found.
    Other(String),
    Sequence(Vec<Spanned<Raw>>),
    Mapping(Vec<(Spanned<String>, Spanned<Raw>)>),
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value, a list or a mapping")
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_none<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
        Ok(Raw::Other(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Raw, E> {
        Ok(Raw::Other(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Raw, E> {
        Ok(Raw::Other(value.to_string()))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Raw, E> {
        Ok(Raw::Other(value.to_string()))
    }

    fn visit_u128<E>(self, value: u128) -> Result<Raw, E> {
        Ok(Raw::Other(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Raw, E> {
        Ok(Raw::Other(value.to_string()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Raw, E> {
        Ok(Raw::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Raw, E> {
        Ok(Raw::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Raw, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Raw::Sequence(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Raw, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = map.next_key()? {
            entries.push((key, map.next_value()?));
        }
        Ok(Raw::Mapping(entries))
    }
}

/// Turns typed values back into their spelling. Depth is bounded by the reader's budget.
fn locate(raw: Spanned<Raw>, text: &str) -> Node {
    let place = place_of(&raw.referenced);
    let value = match raw.value {
        Raw::Null => Value::Null(spelling(&raw.defined, text).unwrap_or_default()),
        Raw::Text(text) => Value::written(text),
        Raw::Other(fallback) => Value::written(spelling(&raw.defined, text).unwrap_or(fallback)),
        Raw::Sequence(items) => Value::Sequence(items.into_iter().map(|item| locate(item, text)).collect()),
        Raw::Mapping(entries) => {
            let entry = |(key, value): (Spanned<String>, Spanned<Raw>)| Entry {
                place: place_of(&key.referenced),
                key: key.value,
                node: locate(value, text),
            };
            Value::Mapping(entries.into_iter().map(entry).collect())
        }
    };
    Node { place, value }
}

fn place_of(location: &Location) -> Place {
    Place { line: location.line().max(1), column: location.column().max(1) }
}

/// The characters that were written for a plain scalar.
fn spelling(location: &Location, text: &str) -> Option<String> {
    let start = usize::try_from(location.span().byte_offset()?).ok()?;
    let length = usize::try_from(location.span().byte_len()?).ok()?;
    let written = text.get(start..start.checked_add(length)?)?.trim();
    (!written.is_empty()).then(|| written.to_owned())
}

/// What is wrong with the text, in words that never repeat a value: the value may be a secret that was not quoted.
fn syntax_error(file: &str, error: &serde_saphyr::Error) -> Error {
    use serde_saphyr::Error as Yaml;
    let what = match error.without_snippet() {
        Yaml::DuplicateMappingKey { key: Some(key), .. } => format!("the key {key:?} stands twice in one mapping"),
        Yaml::DuplicateMappingKey { .. } => "a key stands twice in one mapping".to_owned(),
        Yaml::UnknownAnchor { .. } => {
            "an alias names no anchor; a value that begins with `*` or `&` needs quotes".to_owned()
        }
        Yaml::Budget { .. } | Yaml::AliasReplayLimitExceeded { .. } | Yaml::AliasExpansionLimitExceeded { .. } => {
            "the file unfolds into far more than a configuration holds (deep nesting, or aliases of aliases)".to_owned()
        }
        Yaml::AliasReplayStackDepthExceeded { .. } => "aliases are nested too deep".to_owned(),
        Yaml::MultipleDocuments { .. } => "there is a second document; one file holds one configuration".to_owned(),
        Yaml::Eof { .. } => "the text ends in the middle of a value".to_owned(),
        _ => "this is not valid YAML; a value with special characters in it needs quotes".to_owned(),
    };
    let at = error.location().map(|location| format!("{file}:{}", place_of(&location)));
    Error::new(ErrorKind::ConfigSyntax, format!("{}: {what}", at.unwrap_or_else(|| file.to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scalar<'a>(node: &'a Node, key: &str) -> &'a str {
        let Value::Mapping(entries) = &node.value else { panic!("not a mapping") };
        match &entries.iter().find(|e| e.key == key).expect("the key is there").node.value {
            Value::Scalar(scalar) => &scalar.text,
            other => panic!("{key} is {}", other.kind()),
        }
    }

    #[test]
    fn scalars_keep_the_spelling_that_was_written() {
        let node = parse(
            "f",
            "é: x\na: 0123\nb: 1.10\nc: 1e5\nd: yes\ne: 0x1F\nf: 'it''s'\ng: \"a\\tb\" # c\nh: 1_000   \ni: [007]\nj: !!int 5\nk: 99999999999999999999999999999999999999999999\nl: .inf\n",
        )
        .unwrap();
        for (key, expected) in [
            ("a", "0123"),
            ("b", "1.10"),
            ("c", "1e5"),
            ("d", "yes"),
            ("e", "0x1F"),
            ("f", "it's"),
            ("g", "a\tb"),
            ("h", "1_000"),
            ("j", "5"),
            ("k", "99999999999999999999999999999999999999999999"),
            ("l", ".inf"),
        ] {
            assert_eq!(scalar(&node, key), expected, "{key}");
        }
    }

    #[test]
    fn anchors_and_merge_keys_work_and_keep_their_spelling() {
        let node = parse("f", "base: &b\n  p: 010\nx:\n  <<: *b\n  q: 2\ny: *b\n").unwrap();
        let Value::Mapping(entries) = &node.value else { panic!() };
        assert_eq!(scalar(&entries[1].node, "p"), "010");
        assert_eq!(scalar(&entries[2].node, "p"), "010");
    }

    #[test]
    fn places_are_one_based_lines_and_columns_of_keys_and_values() {
        let node = parse("f", "a:\n  - b: 1\n    cé: 22\n").unwrap();
        let Value::Mapping(entries) = &node.value else { panic!() };
        let Value::Sequence(items) = &entries[0].node.value else { panic!() };
        let Value::Mapping(inner) = &items[0].value else { panic!() };
        assert_eq!(inner[1].place, Place { line: 3, column: 5 });
        assert_eq!(inner[1].node.place, Place { line: 3, column: 9 });
    }

    #[test]
    fn a_bomb_of_aliases_is_refused_quickly() {
        let mut text = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n".to_owned();
        for i in 1..12 {
            let items = vec![format!("*a{}", i - 1); 9].join(",");
            text.push_str(&format!("a{i}: &a{i} [{items}]\n"));
        }
        let error = parse("f", &text).err().expect("refused");
        assert_eq!(error.kind(), ErrorKind::ConfigSyntax);
        let deep = "[".repeat(100_000);
        assert_eq!(parse("f", &deep).err().expect("refused").kind(), ErrorKind::ConfigSyntax);
    }

    #[test]
    fn a_broken_value_is_never_quoted_back() {
        for text in [
            "password: s3cret: x\n",
            "password: *s3cret\n",
            "password: @s3cret\n",
            "password: \"s3cret\n",
            "password: {s3cret\n",
            "password: !!int s3cret\n",
            "password: %s3cret\n",
            "password: `s3cret\n",
            "- a\npassword: s3cret\n",
            "password: 'a' s3cret\n",
            "a: 1\n---\ns3cret: 2\n",
        ] {
            let error = parse("rivet.yaml", text).err().unwrap_or_else(|| panic!("accepted {text:?}"));
            assert_eq!(error.kind(), ErrorKind::ConfigSyntax, "{text:?}");
            assert!(!format!("{error} {error:?}").contains("s3cret"), "{text:?}: {error}");
            assert!(error.what().starts_with("rivet.yaml:"), "{error}");
        }
    }
}

//! Reading one mapping of the file: known keys, required keys, typed values, and errors that name key and place.

use super::yaml::{Entry, Node, Place, Scalar, Value};
use crate::error::{Error, ErrorKind, Result};

/// Keys that may be looked for one level too high, by the section that they belong under.
const SECTIONS: &[(&str, &[&str])] = &[
    ("tuning", super::tuning::KEYS),
    ("destination", super::destination::KEYS),
    ("types", super::export::TYPES_KEYS),
    ("parquet", super::export::PARQUET_KEYS),
];

/// One mapping, checked to hold known keys only.
pub struct Section<'a> {
    file: &'a str,
    /// `exports[0].tuning`; empty at the root.
    path: String,
    place: Place,
    entries: &'a [Entry],
}

impl<'a> Section<'a> {
    /// # Errors
    /// [`ErrorKind::ConfigInvalid`] when `node` is not a mapping, [`ErrorKind::ConfigUnknownKey`] with the nearest of
    /// `known` for a key that is not among them.
    pub fn open(file: &'a str, path: &str, node: &'a Node, known: &[&str]) -> Result<Self> {
        let entries = match &node.value {
            Value::Mapping(entries) => entries.as_slice(),
            // `tuning:` with nothing under it says nothing.
            Value::Null(_) => &[],
            other => {
                let name = if path.is_empty() { "the file" } else { path };
                let what = format!("{file}:{}: `{name}` must be a mapping of keys, not {}", node.place, other.kind());
                return Err(Error::new(ErrorKind::ConfigInvalid, what));
            }
        };
        let section = Section { file, path: path.to_owned(), place: node.place, entries };
        match entries.iter().find(|entry| !known.contains(&entry.key.as_str())) {
            Some(unknown) => Err(section.unknown_key(unknown, known)),
            None => Ok(section),
        }
    }

    fn unknown_key(&self, entry: &Entry, known: &[&str]) -> Error {
        let place = if self.path.is_empty() { "at the top".to_owned() } else { format!("in `{}`", self.path) };
        let shown: String = entry.key.chars().take(64).collect();
        let what = format!("{}:{}: unknown key `{shown}` {place}", self.file, entry.place);
        let error = Error::new(ErrorKind::ConfigUnknownKey, what);
        let key = entry.key.as_str();
        // `type` is everywhere.
        let belongs =
            |(section, keys): &&(&str, &[&str])| known.contains(section) && keys.contains(&key) && key != "type";
        match (SECTIONS.iter().find(belongs), nearest(key, known.iter().copied())) {
            (Some((section, _)), _) => error.with_hint(format!("It belongs under `{section}`.")),
            (None, Some(near)) => error.with_hint(format!("Did you mean `{near}`?")),
            (None, None) => error.with_hint(format!("Known keys here: {}.", known.join(", "))),
        }
    }

    /// The key's value; `None` when it is not there, or holds nothing.
    pub fn get(&self, key: &str) -> Option<Field<'a>> {
        let entry = self.entries.iter().find(|entry| entry.key == key)?;
        if matches!(entry.node.value, Value::Null(_)) {
            return None;
        }
        Some(Field { file: self.file, path: self.path_of(key), key_place: entry.place, node: &entry.node })
    }

    /// Whether the key is there with the plain word `null`, for keys that have it as a word. Nothing at all and `~` are not
    /// that word, although YAML takes them for the same.
    pub fn is_null_word(&self, key: &str) -> bool {
        let is_word = |value: &Value| matches!(value, Value::Null(written) if written == "null");
        self.entries.iter().any(|entry| entry.key == key && is_word(&entry.node.value))
    }

    /// As [`Self::get`], but a key with nothing after it is an error: for keys where nothing is a lost value.
    pub fn get_filled(&self, key: &str) -> Result<Option<Field<'a>>> {
        let empty = self.entries.iter().find(|entry| entry.key == key && matches!(entry.node.value, Value::Null(_)));
        match empty {
            Some(entry) => {
                let path = self.path_of(key);
                let what = format!("{}:{}: `{path}` holds nothing", self.file, entry.place);
                Err(Error::new(ErrorKind::ConfigInvalid, what).with_hint(
                    "Give it a value, or take the key out. A value that begins with `#`, `&`, `!` or `~` needs quotes.",
                ))
            }
            None => Ok(self.get(key)),
        }
    }

    pub fn required(&self, key: &str) -> Result<Field<'a>> {
        match self.get_filled(key)? {
            Some(field) => Ok(field),
            None => Err(self.missing(&format!("`{}` is missing", self.path_of(key)))),
        }
    }

    /// Something that this section should hold and does not.
    pub fn missing(&self, what: &str) -> Error {
        Error::new(ErrorKind::ConfigInvalid, format!("{}:{}: {what}", self.file, self.place))
            .with_hint("Add what is named. docs/config.md describes every key.")
    }

    /// The first of `keys` that is present.
    pub fn first_of(&self, keys: &[&str]) -> Option<Field<'a>> {
        keys.iter().find_map(|key| self.get(key))
    }

    pub fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    pub fn entries(&self) -> impl Iterator<Item = (&'a str, Field<'a>)> + '_ {
        let (file, entries) = (self.file, self.entries);
        entries.iter().map(move |entry| {
            let path = self.path_of(&entry.key);
            (entry.key.as_str(), Field { file, path, key_place: entry.place, node: &entry.node })
        })
    }
}

/// One value, with its name and place.
#[derive(Clone)]
pub struct Field<'a> {
    file: &'a str,
    pub path: String,
    key_place: Place,
    pub node: &'a Node,
}

impl<'a> Field<'a> {
    /// # Errors
    /// When there is a list, a mapping or nothing.
    pub fn scalar(&self) -> Result<&'a Scalar> {
        match &self.node.value {
            Value::Scalar(scalar) => Ok(scalar),
            other => Err(self.invalid(&format!("must be a single value, not {}", other.kind()))),
        }
    }

    /// Text that is not empty.
    pub fn text(&self) -> Result<&'a str> {
        let text = self.scalar()?.text.as_str();
        match text {
            "" => Err(self.invalid("must not be empty")),
            text if text.contains('\0') => Err(self.invalid("holds a NUL byte")),
            text => Ok(text),
        }
    }

    pub fn flag(&self) -> Result<bool> {
        match self.scalar()?.text.as_str() {
            "true" | "True" | "TRUE" | "yes" | "on" => Ok(true),
            "false" | "False" | "FALSE" | "no" | "off" => Ok(false),
            _ => Err(self.not(" `true` or `false`")),
        }
    }

    pub fn number(&self, range: std::ops::RangeInclusive<u64>) -> Result<u64> {
        let digits = self.scalar()?.text.replace('_', "");
        let number = digits.parse::<u64>().ok().filter(|number| range.contains(number));
        number.ok_or_else(|| self.not(&format!(" a whole number from {} to {}", range.start(), range.end())))
    }

    pub fn items(&self) -> Result<Vec<Field<'a>>> {
        let Value::Sequence(items) = &self.node.value else {
            return Err(self.invalid(&format!("must be a list, not {}", self.node.value.kind())));
        };
        let item = |(index, node): (usize, &'a Node)| Field {
            file: self.file,
            path: format!("{}[{index}]", self.path),
            key_place: node.place,
            node,
        };
        Ok(items.iter().enumerate().map(item).collect())
    }

    pub fn section(&self, known: &[&str]) -> Result<Section<'a>> {
        Section::open(self.file, &self.path, self.node, known)
    }

    /// One of a few words. A word that this version only knows by name is looked up by the caller.
    pub fn word<T: Copy>(&self, words: &[(&str, T)]) -> Result<T> {
        let text = self.scalar()?.text.as_str();
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
            return Ok(*value);
        }
        let list = words.iter().map(|(word, _)| format!("`{word}`")).collect::<Vec<_>>().join(", ");
        let error = self.not(&format!(" one of {list}"));
        match nearest(text, words.iter().map(|(word, _)| *word)) {
            Some(near) => Err(error.with_hint(format!("Did you mean `{near}`?"))),
            None => Err(error),
        }
    }

    /// `must be…, not "…"`; the value is shown unless it was filled in from outside.
    pub fn not(&self, expected: &str) -> Error {
        let shown = match &self.node.value {
            Value::Scalar(Scalar { text, filled: false }) if text.chars().count() <= 64 => format!(", not {text:?}"),
            _ => String::new(),
        };
        self.invalid(&format!("must be{expected}{shown}"))
    }

    /// `what` continues a sentence that begins with the key.
    pub fn invalid(&self, what: &str) -> Error {
        Error::new(ErrorKind::ConfigInvalid, format!("{}: `{}` {what}", self.at(), self.path))
    }

    /// The vocabulary has it, this version cannot do it. `instead` is a full sentence.
    pub fn unsupported(&self, what: &str, instead: &str) -> Error {
        let what = format!("{}: `{}` {what}", self.at(), self.path);
        Error::new(ErrorKind::ConfigUnsupported, what).with_hint(instead)
    }

    /// `file:line:column` of the value, or of the key when the value is a block below it.
    pub fn at(&self) -> String {
        let place = match self.node.value {
            Value::Scalar(_) => self.node.place,
            _ => self.key_place,
        };
        format!("{}:{place}", self.file)
    }
}

/// The candidate that `word` was probably meant to be.
pub fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // Distances cost the product of the lengths; no name of ours is anywhere near as long.
    if word.chars().count() > 64 {
        return None;
    }
    let scored = candidates.map(|candidate| (strsim::jaro_winkler(word, candidate), candidate));
    scored.filter(|(score, _)| *score >= 0.8).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, candidate)| candidate)
}

/// `64MB`, `1GB`, `512 KiB`, `1000`: bytes. Units are powers of 1024, as users of the vocabulary expect.
pub fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim();
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.' && c != '_').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" | "kib" => 1 << 10,
        "m" | "mb" | "mib" => 1 << 20,
        "g" | "gb" | "gib" => 1 << 30,
        "t" | "tb" | "tib" => 1 << 40,
        _ => return None,
    };
    let number = number.replace('_', "");
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(factor);
    }
    let fraction = number.parse::<f64>().ok().filter(|n| n.is_finite() && *n >= 0.0)?;
    let bytes = fraction * factor as f64;
    // 2^53: beyond it a fraction of a unit no longer names one byte.
    (bytes < 9_007_199_254_740_992.0).then_some(bytes as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_in_powers_of_1024() {
        for (text, bytes) in [
            ("64MB", Some(64 << 20)),
            ("1GB", Some(1 << 30)),
            ("1.5 GiB", Some(3 << 29)),
            ("512kb", Some(512 << 10)),
            ("1_000", Some(1000)),
            ("10b", Some(10)),
            ("", None),
            ("MB", None),
            ("12 parsecs", None),
            ("-1MB", None),
            ("99999999999999TB", None),
            ("1.2.3MB", None),
        ] {
            assert_eq!(parse_size(text), bytes, "{text:?}");
        }
    }
}

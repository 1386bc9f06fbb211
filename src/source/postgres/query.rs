//! The text of a configured query, read just far enough to be wrapped as `(query) AS q`.
//!
//! The server parses the query; this only has to find its first word and its last significant character, so that
//! trailing semicolons and comments can go, and to see a second statement. For that, strings, quoted names, dollar
//! quotes and nested comments have to be recognised (PostgreSQL, chapter 4.1, Lexical Structure).

use crate::error::{Error, ErrorKind, Result};

/// Statements that somebody may take for a query.
const STATEMENTS: [&str; 20] = [
    "ALTER", "ANALYZE", "BEGIN", "CALL", "COPY", "CREATE", "DECLARE", "DELETE", "DO", "DROP", "EXECUTE", "EXPLAIN",
    "FETCH", "INSERT", "MERGE", "PREPARE", "SET", "SHOW", "TRUNCATE", "UPDATE",
];

/// The query without surrounding white space and comments and without trailing semicolons.
///
/// # Errors
/// `ConfigInvalid` for an empty text, an unterminated string, more than one statement, a stray parenthesis, or a
/// statement that does not begin like a query.
pub fn body(text: &str) -> Result<&str> {
    let mut start = None;
    let mut end = 0;
    let mut closed = false;
    let mut depth = 0_i64;
    let mut at = 0;
    while at < text.len() {
        let token = token(text, at)?;
        match token.kind {
            Kind::Blank => {}
            Kind::Semicolon if start.is_some() => closed = true,
            Kind::Semicolon => {}
            Kind::Text | Kind::Open | Kind::Close => {
                if closed {
                    return Err(invalid("the query holds more than one statement"));
                }
                depth += i64::from(token.kind == Kind::Open) - i64::from(token.kind == Kind::Close);
                if depth < 0 {
                    return Err(invalid("the query closes a parenthesis that it did not open"));
                }
                start.get_or_insert(at);
                end = token.end;
            }
        }
        at = token.end;
    }
    let body = &text[start.unwrap_or(0)..end];
    if body.is_empty() {
        return Err(invalid("the query is empty"));
    }
    let word: String = body.chars().take_while(|c| c.is_ascii_alphabetic()).collect();
    let reads = ["select", "with", "values", "table"].iter().any(|verb| word.eq_ignore_ascii_case(verb));
    if !reads && !body.starts_with('(') {
        let first = body.split(char::is_whitespace).next().unwrap_or_default().to_ascii_uppercase();
        // Any other word may have been filled in from outside, and be a secret.
        let what = match STATEMENTS.iter().find(|verb| **verb == first) {
            Some(verb) => format!("the query begins with {verb:?}, which does not return rows"),
            None => "the query does not begin with a word that returns rows".to_owned(),
        };
        return Err(invalid(what).with_hint("Write a query that begins with SELECT, WITH, VALUES or TABLE."));
    }
    Ok(body)
}

fn invalid(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::ConfigInvalid, what)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// White space and comments.
    Blank,
    Semicolon,
    Open,
    Close,
    /// Anything else.
    Text,
}

struct Token {
    kind: Kind,
    /// Where the next one begins: always after this one's start, always on a character boundary.
    end: usize,
}

fn token(text: &str, at: usize) -> Result<Token> {
    let rest = &text[at..];
    let upto = |kind, length| Ok(Token { kind, end: at + length });
    if rest.starts_with("--") {
        return upto(Kind::Blank, rest.find(['\n', '\r']).unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        return upto(Kind::Blank, comment(rest)?);
    }
    let first = rest.chars().next().unwrap_or(' ');
    match first {
        c if c.is_ascii_whitespace() || c == '\u{b}' => upto(Kind::Blank, 1),
        ';' => upto(Kind::Semicolon, 1),
        '(' => upto(Kind::Open, 1),
        ')' => upto(Kind::Close, 1),
        '\'' => upto(Kind::Text, quoted(rest, '\'', false)?),
        '"' => upto(Kind::Text, quoted(rest, '"', false)?),
        'e' | 'E' if rest[1..].starts_with('\'') => upto(Kind::Text, 1 + quoted(&rest[1..], '\'', true)?),
        '$' => upto(Kind::Text, dollar_quoted(rest)?),
        c if is_word(c) => upto(Kind::Text, rest.find(|c| !is_word(c) && c != '$').unwrap_or(rest.len())),
        c => upto(Kind::Text, c.len_utf8()),
    }
}

/// Characters of names and keywords: ASCII letters, digits, underscore, and everything beyond ASCII.
fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || !c.is_ascii()
}

/// Length of the comment at the start of `rest`; comments nest.
fn comment(rest: &str) -> Result<usize> {
    let bytes = rest.as_bytes();
    let (mut depth, mut at) = (0_usize, 0);
    while at + 1 < bytes.len() {
        match &bytes[at..at + 2] {
            b"/*" => (depth, at) = (depth + 1, at + 2),
            b"*/" => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return Ok(at);
        }
    }
    Err(invalid("the query holds a comment that does not end"))
}

/// Length of the string or quoted name at the start of `rest`. A doubled quote is seen as two adjacent literals, which
/// end at the same place.
fn quoted(rest: &str, quote: char, escapes: bool) -> Result<usize> {
    let mut characters = rest.char_indices().skip(1);
    while let Some((at, c)) = characters.next() {
        if c == '\\' && escapes {
            characters.next();
        } else if c == quote {
            // In an escape string the doubled quote must not leave escape mode.
            if escapes && rest[at + 1..].starts_with(quote) {
                characters.next();
                continue;
            }
            return Ok(at + 1);
        }
    }
    Err(invalid(format!("the query holds a {quote} that is not closed")))
}

/// Length of the `$tag$ … $tag$` at the start of `rest`, or of the dollar alone when it begins a parameter.
fn dollar_quoted(rest: &str) -> Result<usize> {
    let Some(close) = rest[1..].find('$') else { return Ok(1) };
    let tag = &rest[..close + 2];
    let name = &tag[1..tag.len() - 1];
    if !name.chars().all(is_word) || name.starts_with(|c: char| c.is_ascii_digit()) {
        return Ok(1);
    }
    match rest[tag.len()..].find(tag) {
        Some(end) => Ok(tag.len() + end + tag.len()),
        // What stands between the dollars may have been filled in.
        None => Err(invalid("the query holds a dollar quote that is not closed")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trailing_semicolons_and_comments_go_and_everything_inside_stays() {
        let cases = [
            ("select 1", "select 1"),
            ("  select 1 ;; \n", "select 1"),
            ("-- why\nselect 1 -- because;\n", "select 1"),
            ("/* a /* b */ ; */ SELECT 1; /* c */ -- d", "SELECT 1"),
            ("select ';' as \"a;b\" -- x", "select ';' as \"a;b\""),
            ("select 'it''s; -- fine'", "select 'it''s; -- fine'"),
            ("select e'it\\'s;' ;", "select e'it\\'s;'"),
            ("select e'a''\\';b'", "select e'a''\\';b'"),
            ("select $x$;--$$;$x$;", "select $x$;--$$;$x$"),
            ("select 'C:\\' ;", "select 'C:\\'"),
            ("(select 1) union (select 2);", "(select 1) union (select 2)"),
            ("with é as (select 1) table é;", "with é as (select 1) table é"),
            ("select a /* inside */ from t /* end */;", "select a /* inside */ from t"),
            ("select 1 a$b$c", "select 1 a$b$c"),
        ];
        for (text, expected) in cases {
            assert_eq!(body(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_not_one_query_is_refused_as_a_configuration_error() {
        let cases = [
            "",
            " -- nothing\n;",
            "select 1; select 2",
            "delete from t",
            "insert into t values (1)",
            "select 1) q; drop table t; --",
            "select 'open",
            "select \"open",
            "select /* open",
            "select $a$ open",
            "select e'open\\'",
            "copy t to stdout",
        ];
        for text in cases {
            assert_eq!(body(text).unwrap_err().kind(), ErrorKind::ConfigInvalid, "{text}");
        }
    }

    #[test]
    fn only_words_of_the_language_are_repeated_since_any_other_may_have_been_filled_in() {
        let what = |text: &str| body(text).unwrap_err().what().to_owned();
        assert!(what("Update t set a = 1").contains("UPDATE"));
        for text in [
            "hunter2",
            "hunter2 from t",
            "'hunter2'",
            "updatehunter2 t",
            "\"hunter2\"",
            "-- c\nhunter2",
            "select $hunter2$ x",
        ] {
            assert!(!what(text).contains("hunter2"), "{}", what(text));
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text in "[a$'\"/*;()\\\\e é-]{0,40}") {
            if let Ok(body) = body(&text) {
                proptest::prop_assert!(text.contains(body));
            }
        }
    }
}

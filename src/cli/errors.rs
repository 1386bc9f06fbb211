//! The one place that turns an [`Error`] into what a person or a program reads.

use crate::error::Error;
use serde_json::json;
use std::io::Write;

const RED: anstyle::Style = anstyle::AnsiColor::Red.on_default().bold();
const BOLD: anstyle::Style = anstyle::Style::new().bold();
const DIM: anstyle::Style = anstyle::Style::new().dimmed();

/// Writes an error to standard error: as text, or as one JSON object on a line.
pub fn show(error: &Error, json: bool) {
    tell(&if json { format!("{}\n", as_json(error)) } else { as_text(error) });
}

/// Writes to standard error. Nobody listening is no reason to stop.
pub fn tell(text: &str) {
    let mut stderr = anstream::AutoStream::auto(std::io::stderr().lock());
    let _ = stderr.write_all(text.as_bytes());
    let _ = stderr.flush();
}

/// ```text
/// error[RIVET_CONFIG_UNKNOWN_KEY]: rivet.yaml:4:3: unknown key `parralel` in `source.tuning`
///   → Did you mean `parallel`?
/// ```
pub fn as_text(error: &Error) -> String {
    let (code, what, hint) = (error.code(), single_line(error.what()), single_line(error.hint()));
    format!("{RED}error[{code}]{RED:#}{BOLD}: {what}{BOLD:#}\n  {DIM}→{DIM:#} {hint}\n")
}

/// `{"error":{"code","message","hint","exit"}}`
pub fn as_json(error: &Error) -> serde_json::Value {
    json!({"error": {
        "code": error.code(),
        "message": error.what(),
        "hint": error.hint(),
        "exit": error.exit().code(),
    }})
}

/// A server's message may hold line feeds and worse; control characters do not reach a terminal.
pub fn single_line(text: &str) -> String {
    let visible = |c: char| if c.is_control() { ' ' } else { c };
    text.split('\n').map(str::trim_end).collect::<Vec<_>>().join("; ").chars().map(visible).collect()
}

/// What clap says about a command line that it refuses, under our code.
pub fn show_usage(refusal: &clap::Error) {
    let text = redact_values(&refusal.render().ansi().to_string());
    let code = crate::error::ErrorKind::Usage.class().code;
    // clap's own first word, styled or not.
    tell(&text.replacen("error:", &format!("error[{code}]:"), 1));
}

pub fn usage_text(refusal: &clap::Error) -> String {
    redact_values(&refusal.render().to_string())
}

/// Cuts quoted `name=value` after the `=`: what somebody passes as a value may be a secret.
fn redact_values(text: &str) -> String {
    let cut = |(index, piece): (usize, &str)| match piece.split_once('=') {
        Some((name, _)) if index % 2 == 1 => format!("{name}=…"),
        _ => piece.to_owned(),
    };
    text.split('\n')
        .map(|line| line.split('\'').enumerate().map(cut).collect::<Vec<_>>().join("'"))
        .collect::<Vec<_>>()
        .join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn control_characters_of_a_message_do_not_reach_the_terminal() {
        let error = Error::new(ErrorKind::SourceQuery, "bad\u{1b}[31m\nthing\r");
        let text = anstream::adapter::strip_str(&as_text(&error)).to_string();
        assert_eq!(text.lines().next(), Some("error[RIVET_SOURCE_QUERY]: bad [31m; thing"));
    }

    #[test]
    fn values_on_the_command_line_are_not_repeated() {
        let text =
            redact_values("error: unexpected argument 'password=hunter2' found\n\nUsage: rivet run --param <K=V>");
        assert_eq!(text, "error: unexpected argument 'password=…' found\n\nUsage: rivet run --param <K=V>");
    }
}

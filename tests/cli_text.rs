//! What the command line says: help, usage, errors, and where it says it.

mod support;

use rivet::ErrorKind;
use rivet::error::Exit;
use serde_json::Value;
use support::rivet::{Finished, Rivet, Scratch};

const VERBS: &[&[&str]] = &[
    &[],
    &["run"],
    &["resume"],
    &["check"],
    &["replay"],
    &["runs"],
    &["status"],
    &["journal"],
    &["journal", "verify"],
    &["journal", "export"],
    &["journal", "import"],
    &["journal", "repair"],
    &["journal", "prune"],
    &["validate"],
    &["completions"],
];

fn error(finished: &Finished) -> Value {
    let error: Value = serde_json::from_str(&finished.stderr).unwrap_or_else(|e| panic!("not JSON ({e}): {finished}"));
    error["error"].clone()
}

#[test]
fn help_texts_are_as_reviewed() {
    let scratch = Scratch::new();
    let mut all = String::new();
    for verb in VERBS {
        for flag in ["-h", "--help"] {
            let words = [*verb, &[flag]].concat();
            let finished = Rivet::new(&scratch).env("COLUMNS", "100").run(&words).expect_exit(0);
            assert_eq!(finished.stderr, "", "{finished}");
            all.push_str(&format!("$ rivet {}\n{}\n", words.join(" "), finished.stdout));
        }
    }
    insta::assert_snapshot!("help", all);
}

#[test]
fn every_help_has_a_line_about_it_and_an_example() {
    let mut command = rivet::cli::command();
    command.build();
    fn check(command: &clap::Command, path: &str) {
        for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
            let path = format!("{path} {}", sub.get_name());
            let about = sub.get_about().map(ToString::to_string).unwrap_or_default();
            assert!(!about.is_empty() && !about.ends_with('.') && !about.contains('\n'), "{path}: {about:?}");
            let after = sub.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(after.starts_with("Examples:\n  rivet "), "{path}: {after:?}");
            check(sub, &path);
        }
    }
    check(&command, "rivet");
}

#[test]
fn help_is_a_verb_too() {
    let scratch = Scratch::new();
    for (words, same) in [
        (&["help"][..], &["--help"][..]),
        (&["help", "run"], &["run", "--help"]),
        (&["journal", "help", "repair"], &["journal", "repair", "--help"]),
    ] {
        let (help, flag) = (scratch.rivet(words).expect_exit(0), scratch.rivet(same).expect_exit(0));
        assert_eq!((help.stdout.as_str(), help.stderr.as_str()), (flag.stdout.as_str(), ""), "{words:?}");
    }
}

/// Whoever has the binary alone finds in it what a first configuration looks like, and it is one.
#[test]
fn the_help_of_run_holds_a_configuration_that_is_accepted() {
    let scratch = Scratch::new();
    let help = scratch.rivet(&["run", "--help"]).expect_exit(0);
    let begin = help.stdout.find("  source:\n").unwrap_or_else(|| panic!("no configuration: {help}"));
    let block: String = help.stdout[begin..]
        .lines()
        .take_while(|line| line.starts_with("  "))
        .map(|line| format!("{}\n", &line[2..]))
        .collect();
    scratch.write_config(&block);
    // Nobody listens there: the file was understood.
    let url = "postgres://reader@127.0.0.1:1/shop";
    Rivet::new(&scratch).env("DATABASE_URL", url).run(&["run"]).expect_error(6, "RIVET_SOURCE_UNREACHABLE");
    let missing = Scratch::new().rivet(&["run"]).expect_error(2, "RIVET_CONFIG_MISSING");
    drop(missing.expect_in_stderr("rivet run --help"));
}

#[test]
fn the_version_is_printed_and_nothing_else() {
    let finished = Scratch::new().rivet(&["--version"]).expect_exit(0);
    assert_eq!(
        (finished.stdout.as_str(), finished.stderr.as_str()),
        (concat!("rivet ", env!("CARGO_PKG_VERSION"), "\n"), "")
    );
}

#[test]
fn wrong_usage_exits_with_2_and_names_what_is_near() {
    let scratch = Scratch::new();
    for (words, said) in [
        (&["rsume"][..], "'resume'"),
        (&[][..], "Usage: rivet"),
        (&["run", "--pram", "a=b"], "'--param'"),
        (&["run", "--param", "hunter2"], "KEY=VALUE"),
        (&["run", "--param", "=hunter2"], "KEY=VALUE"),
        (&["validate"], "<RUN_ID>"),
        (&["validate", "x", "--prefix", "y"], "cannot be used with"),
        (&["validate", "x", "--depth", "deep"], "size, fingerprint, full"),
        (&["replay", "--until", "x"], "--until"),
        (&["replay", "--journal", "x", "--state-dir", "y"], "cannot be used with"),
        (&["journal"], "Usage"),
        (&["run", "password=hunter2"], "password=…"),
        (&["run", "--sate-dir=hunter2"], "'--state-dir'"),
    ] {
        let finished = scratch.rivet(words).expect_error(2, "error[RIVET_USAGE]").expect_in_stderr(said);
        let finished = finished.expect_nowhere("hunter2");
        assert_eq!(finished.stdout, "", "{finished}");
        let json = scratch.rivet(&[words, &["--json"]].concat()).expect_exit(2).expect_nowhere("hunter2");
        if json.stderr.starts_with('{') {
            assert_eq!(error(&json)["code"], "RIVET_USAGE", "{json}");
            assert_eq!(error(&json)["exit"], 2, "{json}");
        }
        assert_eq!(json.stdout, "", "{json}");
    }
}

#[test]
fn an_error_names_its_code_what_happened_and_the_next_step() {
    let scratch = Scratch::new();
    let finished = scratch.rivet(&["run"]).expect_exit(2);
    insta::assert_snapshot!(finished.stderr, @"
    error[RIVET_CONFIG_MISSING]: there is no file rivet.yaml
      → Name the file with `-c FILE`; `rivet run --help` shows a small one to start from.
    ");
    assert_eq!(finished.stdout, "");

    scratch.write_config(
        "source:\n  type: postgres\n  url: postgres://u@localhost/d\n  tuning:\n    parralel: 4\nexports: []\n",
    );
    let finished = scratch.rivet(&["run"]).expect_exit(2);
    insta::assert_snapshot!(finished.stderr, @"
    error[RIVET_CONFIG_UNKNOWN_KEY]: rivet.yaml:5:5: unknown key `parralel` in `source.tuning`
      → Did you mean `parallel`?
    ");

    let finished = scratch.rivet(&["run", "--json"]).expect_exit(2);
    assert_eq!(finished.stdout, "");
    insta::assert_snapshot!(finished.stderr, @r#"{"error":{"code":"RIVET_CONFIG_UNKNOWN_KEY","exit":2,"hint":"Did you mean `parallel`?","message":"rivet.yaml:5:5: unknown key `parralel` in `source.tuning`"}}"#);
}

#[test]
fn colours_are_for_terminals_and_for_those_who_want_them() {
    let scratch = Scratch::new();
    let run = |env: &[(&str, &str)]| {
        let rivet = env.iter().fold(Rivet::new(&scratch), |rivet, (name, value)| rivet.env(name, *value));
        rivet.run(&["run"]).expect_exit(2).stderr.clone()
    };
    assert!(!run(&[]).contains('\u{1b}'));
    assert!(run(&[("CLICOLOR_FORCE", "1")]).contains('\u{1b}'), "the check below can tell a difference");
    // A pseudo-terminal, with and without the wish for no colours.
    let terminal = |env: &[(&str, &str)]| {
        let rivet = Rivet::new(&scratch).env("TERM", "xterm").through(&["script", "-qec"]);
        let mut command = env.iter().fold(rivet, |rivet, (name, value)| rivet.env(name, *value)).command(&[]);
        // `script` takes the command as one word, which the binary's path is.
        let output = command.arg("/dev/null").output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert!(terminal(&[]).contains("\u{1b}["));
    assert!(!terminal(&[("NO_COLOR", "1")]).contains("\u{1b}["));
}

#[test]
fn verbs_that_read_say_so_when_there_is_nothing_to_read() {
    let scratch = Scratch::new();
    for words in [
        &["runs"][..],
        &["status"],
        &["replay"],
        &["journal", "verify"],
        &["journal", "export"],
        &["runs", "--state-dir", "/nowhere"],
        &["replay", "--journal", "nowhere.jsonl"],
        &["validate", "orders-01JD3M8Z5W6Q9T7R2K4X1V0YBN"],
    ] {
        let finished = scratch.rivet(words).expect_error(2, "RIVET_JOURNAL_MISSING");
        assert_eq!(finished.stdout, "", "{finished}");
    }
    scratch.rivet(&["runs", "-c", "other.yaml"]).expect_error(2, "RIVET_CONFIG_MISSING");
    for id in ["orders-01JD3M8Z5W6Q9T7R2K4X1V0YBN", "", "../..", "/etc", "x"] {
        scratch.rivet(&["resume", id]).expect_error(2, "RIVET_RUN_UNKNOWN");
    }
    assert!(!scratch.path().join(".rivet").exists(), "looking makes nothing");
}

#[test]
fn completions_name_every_verb() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let finished = Scratch::new().rivet(&["completions", shell]).expect_exit(0);
        for verb in ["run", "resume", "replay", "journal", "completions"] {
            assert!(finished.stdout.contains(verb), "{shell} lacks {verb}");
        }
    }
}

#[test]
fn output_that_cannot_be_written_is_an_error_and_a_closed_pipe_is_none() {
    let scratch = Scratch::new();
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let output = Rivet::new(&scratch).command(&["completions", "bash"]).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(Exit::Failed.code()));
    assert!(String::from_utf8_lossy(&output.stderr).contains("RIVET_OUTPUT_UNWRITABLE"));

    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = Rivet::new(&scratch).command(&["completions", "bash"]).stdout(writer).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

/// `docs/errors.md` is written by this test: run it with `RIVET_WRITE_DOCS=1` after a change of the table.
#[test]
fn the_list_of_errors_is_the_table_of_errors() {
    let mut text = String::from(
        "# Errors\n\nEvery error has a stable code, says what happened and where, and ends with the next step. With `--json` it is one\n\
         object on standard error: `{\"error\":{\"code\",\"message\",\"hint\",\"exit\"}}`. This page is generated from the table in\n\
         `src/error.rs`; a test holds the two together.\n\n\
         *Again* says what rivet itself does within a run: `again` is a new attempt after a pause, on a new connection, up to\n\
         `tuning.max_retries`; `new snapshot` the same in a new snapshot.\n\n\
         | code | exit | again | next step |\n|---|---|---|---|\n",
    );
    for kind in ErrorKind::ALL {
        let class = kind.class();
        let again = match class.retry {
            rivet::error::Retry::Never => "",
            rivet::error::Retry::Again => "again",
            rivet::error::Retry::NewSnapshot => "new snapshot",
        };
        text.push_str(&format!(
            "| `{}` | {} | {again} | {} |\n",
            class.code,
            class.exit.code(),
            class.hint.replace('|', "\\|")
        ));
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/errors.md");
    if std::env::var_os("RIVET_WRITE_DOCS").is_some() {
        std::fs::write(path, &text).unwrap();
    }
    let written = std::fs::read_to_string(path).unwrap_or_default();
    assert!(written == text, "docs/errors.md is not the table; write it with RIVET_WRITE_DOCS=1");
}

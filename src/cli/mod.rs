//! What a person types and sees. One file for each verb: parse, call, render. Nothing is decided here.

mod check;
mod completions;
mod errors;
mod figures;
mod journal;
mod journals;
mod output;
mod progress;
mod replay;
mod resume;
mod run;
mod runs;
mod state_dir;
mod status;
mod summary;
mod timeline;
mod validate;

use crate::error::{Error, ErrorKind, Exit};
use clap::{CommandFactory, Parser, Subcommand};
use output::Out;
use std::ffi::OsString;

/// The command line.
#[derive(Debug, Parser)]
#[command(
    name = "rivet",
    version,
    about = "Moves tables and queries out of PostgreSQL into Parquet files that analysts trust",
    long_about = "Moves tables and queries out of PostgreSQL into Parquet files that analysts trust.\n\n\
        Whatever happens to the process, the machine, the network or the server: the files that a manifest names hold \
        every row once, and the journal can prove how they came to be. A run that was stopped goes on with `rivet resume`.",
    after_help = "Exit codes: 0 success, 1 failed, 2 usage or configuration, 3 integrity, 4 schema drift, \
        5 refused to protect data, 6 unavailable (try again), 7 busy, 130 interrupted (resumable).",
    after_long_help = EXIT_CODES,
    subcommand_required = true,
    arg_required_else_help = false
)]
pub struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

const EXIT_CODES: &str = "Exit codes:
    0  success
    1  failed, and no other class fits
    2  wrong usage or configuration
    3  integrity: validation or replay said no
    4  the schema changed, and the configuration says to stop
    5  refused, to protect data that is already there
    6  source or destination unavailable: trying again makes sense
    7  busy: another process holds the export
  130  interrupted; `rivet resume` goes on

Data goes to standard output, everything else to standard error. Every verb that reports takes --json.
docs/config.md describes the configuration, docs/errors.md every error.";

#[derive(Debug, Subcommand)]
enum Verb {
    Run(run::Args),
    Resume(resume::Args),
    Check(check::Args),
    Replay(replay::Args),
    Runs(runs::Args),
    Status(status::Args),
    Journal(journal::Args),
    Validate(validate::Args),
    Completions(completions::Args),
}

/// The definition of the command line, for completions and tests.
pub fn command() -> clap::Command {
    Cli::command()
}

/// Runs one command line. Returns the process's exit code.
pub fn main(args: impl Iterator<Item = OsString>) -> u8 {
    let args: Vec<OsString> = args.collect();
    let mut out = Out::stdout();
    // clap refuses before anybody knows what was asked for, so this looks for itself.
    let json = args.iter().any(|arg| arg == "--json");
    let result = match Cli::try_parse_from(&args) {
        Ok(cli) => dispatch(&cli.verb, &mut out),
        Err(refusal) if refusal.use_stderr() => {
            if json {
                Err(usage(&refusal))
            } else {
                errors::show_usage(&refusal);
                Ok(Exit::Usage)
            }
        }
        Err(help) => {
            out.write(&help.render().ansi().to_string());
            Ok(Exit::Success)
        }
    };
    let exit = match result {
        Ok(exit) => exit,
        Err(error) => {
            errors::show(&error, json);
            error.exit()
        }
    };
    match out.finish() {
        // What was asked for is done; that nobody could be told is a failure of its own only then.
        Err(error) if exit == Exit::Success => {
            errors::show(&error, json);
            error.exit().code() as u8
        }
        _ => exit.code() as u8,
    }
}

/// A verb ends with an exit code that its output explains, or with an error that is still to be shown.
fn dispatch(verb: &Verb, out: &mut Out) -> Result<Exit, Error> {
    match verb {
        Verb::Run(args) => run::main(args, out),
        Verb::Resume(args) => resume::main(args, out),
        Verb::Check(args) => check::main(args, out),
        Verb::Replay(args) => replay::main(args, out),
        Verb::Runs(args) => runs::main(args, out),
        Verb::Status(args) => status::main(args, out),
        Verb::Journal(args) => journal::main(args, out),
        Verb::Validate(args) => validate::main(args, out),
        Verb::Completions(args) => completions::main(args, out),
    }
}

fn usage(refusal: &clap::Error) -> Error {
    let text = errors::usage_text(refusal);
    let what = text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
    Error::new(ErrorKind::Usage, what)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_definition_of_the_command_line_holds_together() {
        super::command().debug_assert();
    }
}

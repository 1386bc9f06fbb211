//! `rivet completions`

use super::output::Out;
use crate::error::{Error, Exit};

/// Print a completion script for a shell
///
/// Writes the script to standard output; put it where your shell looks for completions.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  rivet completions bash > /etc/bash_completion.d/rivet
  rivet completions zsh > ~/.zfunc/_rivet
  rivet completions fish > ~/.config/fish/completions/rivet.fish")]
pub struct Args {
    shell: clap_complete::Shell,
}

pub fn main(args: &Args, out: &mut Out) -> Result<Exit, Error> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut super::command(), "rivet", &mut script);
    out.write(&String::from_utf8_lossy(&script));
    Ok(Exit::Success)
}

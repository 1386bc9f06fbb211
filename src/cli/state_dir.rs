//! Where the journals are, for verbs that read them and need no valid configuration to do so.

use super::summary;
use crate::error::{Error, Result};
use std::path::{Path, PathBuf};

pub const CONFIG_FILE: &str = "rivet.yaml";

/// Where to look for journals.
#[derive(Debug, Clone, clap::Args)]
pub struct Place {
    /// Configuration file whose state directory is meant
    #[arg(short = 'c', long = "config", value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// State directory that holds the journals
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
}

impl Place {
    /// What it means that there is no journal in [`Place::resolve`]'s answer, which nobody named.
    pub fn nothing_yet(&self, missing: &Error) -> Error {
        let hint = match &self.config {
            Some(config) => {
                format!("`rivet run -c {}` begins; ", summary::shell_word(&config.display().to_string()))
            }
            None if Path::new(CONFIG_FILE).exists() => "`rivet run` begins; ".to_owned(),
            None => "`rivet run -c FILE` begins; ".to_owned(),
        };
        Error::new(missing.kind(), format!("nothing has run here yet: {}", missing.what()))
            .with_hint(format!("{hint}name the directory of journals that lie elsewhere with `--state-dir DIR`."))
    }

    /// The state directory: as given, else the one that the configuration names, else `.rivet` beside it.
    ///
    /// # Errors
    /// The file that was named is not there, or cannot be read as YAML.
    pub fn resolve(&self) -> Result<PathBuf> {
        if let Some(dir) = &self.state_dir {
            return Ok(dir.clone());
        }
        match &self.config {
            Some(config) => crate::config::state_dir_of(config),
            None if Path::new(CONFIG_FILE).exists() => crate::config::state_dir_of(Path::new(CONFIG_FILE)),
            None => Ok(PathBuf::from(".rivet")),
        }
    }
}

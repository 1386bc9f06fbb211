//! Where the journals are, for verbs that read them and need no valid configuration to do so.

use crate::error::Result;
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

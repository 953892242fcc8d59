//! A configuration file of a test, which goes with it.

use std::{fs, path::PathBuf};

use anyhow::Result;
use tempfile::TempDir;

use crate::firewall::Setup;

/// The file, in a directory of its own.
#[derive(Debug)]
pub struct Configuration(TempDir);

impl Configuration {
    pub fn new(text: &str) -> Result<Self> {
        let configuration = Self(tempfile::Builder::new().prefix("fw-config-").tempdir()?);
        fs::write(configuration.path(), text)?;
        Ok(configuration)
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("firewall.toml")
    }

    /// Has a firewall that is set up read it.
    #[must_use]
    pub fn given_to(&self, setup: Setup) -> Setup {
        setup.option("--config").option(&self.path().to_string_lossy())
    }
}

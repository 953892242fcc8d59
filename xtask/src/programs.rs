//! The test programs, all from one build: with one choice of packages every dependency is
//! compiled once.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::shell;

/// What cargo makes of the workspace's tests.
#[derive(Debug)]
pub(crate) struct Programs {
    /// They need no rights.
    pub(crate) units: Vec<Program>,
    /// Those of the loaded programs and of whole networks.
    pub(crate) scenarios: Vec<Program>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Program {
    path: PathBuf,
    /// Of its package: where cargo would run it.
    directory: PathBuf,
}

impl Programs {
    pub(crate) fn build() -> Result<Self> {
        let mut command = shell::cargo();
        command.args(["test", "--locked", "--no-run"]);
        command.args(["--message-format", "json-render-diagnostics"]).stderr(Stdio::inherit());
        eprintln!("+ {}", shell::display(&command));
        let output = command.output().context("cannot run cargo")?;
        if !output.status.success() {
            bail!("`{}` ended with {}", shell::display(&command), output.status);
        }
        let programs = read(&output.stdout)
            .context("cargo tells of what it built in a way that is not understood")?;
        let ours = shell::workspace().join("tests");
        let (scenarios, units): (Vec<_>, Vec<_>) =
            programs.into_iter().partition(|program| program.directory == ours);
        ensure!(!units.is_empty() && !scenarios.is_empty(), "cargo built no test");
        Ok(Self { units, scenarios })
    }
}

impl Program {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// What cargo made it of: the name without its hash.
    pub(crate) fn name(&self) -> String {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        name.rsplit_once('-').map_or(name.as_ref(), |(name, _)| name).to_owned()
    }

    /// To be run as whoever we are.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        command.current_dir(&self.directory);
        command
    }
}

fn read(messages: &[u8]) -> serde_json::Result<Vec<Program>> {
    serde_json::Deserializer::from_slice(messages)
        .into_iter::<serde_json::Value>()
        .filter_map(|message| message.map(|message| program(&message)).transpose())
        .collect()
}

/// The test program that a message of cargo tells of.
fn program(message: &serde_json::Value) -> Option<Program> {
    let is_test = message["profile"]["test"].as_bool()?;
    let manifest = Path::new(message["manifest_path"].as_str()?);
    is_test.then_some(Program {
        path: message["executable"].as_str()?.into(),
        directory: manifest.parent()?.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_of_tests_is_found_among_what_cargo_tells() {
        let told = br#"{"reason":"compiler-artifact","profile":{"test":true},
            "manifest_path":"/w/tests/Cargo.toml","executable":"/target/debug/deps/race-12ab"}"#;
        let found = read(told).unwrap();
        assert_eq!(found[0].name(), "race");
        assert_eq!(found[0].directory(), Path::new("/w/tests"));
    }

    #[test]
    fn libraries_and_the_end_of_the_build_are_no_programs() {
        let told = br#"
            {"reason":"compiler-artifact","profile":{"test":false},
             "manifest_path":"/x/Cargo.toml","executable":"/x/firewall"}
            {"reason":"compiler-artifact","profile":{"test":true},
             "manifest_path":"/x/Cargo.toml","executable":null}
            {"reason":"build-finished","success":true}"#;
        assert_eq!(read(told).unwrap(), []);
    }
}

//! The test programs of whole networks, several at a time: they wait more than they
//! compute, and each keeps to namespaces and pins of its own.

use std::{
    collections::VecDeque,
    ffi::OsString,
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::{Output, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::shell;

/// Programs that run at a time; each runs as many of its tests as there are CPUs.
const AT_A_TIME: usize = 3;

/// Builds the programs as whoever we are, and runs them as root in this environment.
pub(crate) fn run(environment: &[(&str, OsString)]) -> Result<()> {
    let waiting = Mutex::new(build()?);
    let failed = Mutex::new(Vec::new());
    // The lock lasts no longer than the call.
    let next = || lock(&waiting).pop_front();
    thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                while let Some(program) = next() {
                    if !passes(&program, environment) {
                        lock(&failed).push(name(&program));
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    ensure!(failed.is_empty(), "tests failed in: {}", failed.join(", "));
    Ok(())
}

/// The programs that cargo makes of the package `firewall-tests`.
fn build() -> Result<VecDeque<PathBuf>> {
    let mut command = shell::cargo();
    command.args(["test", "--locked", "--no-run", "-p", "firewall-tests"]);
    command.args(["--message-format", "json-render-diagnostics"]).stderr(Stdio::inherit());
    eprintln!("+ {}", shell::display(&command));
    let output = command.output().context("cannot run cargo")?;
    if !output.status.success() {
        bail!("`{}` ended with {}", shell::display(&command), output.status);
    }
    let messages = serde_json::Deserializer::from_slice(&output.stdout).into_iter();
    let programs = messages
        .map(|message| Ok(executable(&message?)))
        .filter_map(Result::transpose)
        .collect::<Result<VecDeque<_>, serde_json::Error>>()
        .context("cargo tells of what it built in a way that is not understood")?;
    ensure!(!programs.is_empty(), "cargo built no test");
    Ok(programs)
}

/// The test program that a message of cargo tells of.
fn executable(message: &serde_json::Value) -> Option<PathBuf> {
    let is_test = message["profile"]["test"].as_bool()?;
    is_test.then_some(message["executable"].as_str()?).map(PathBuf::from)
}

/// Runs a program and shows what it said, all at once.
fn passes(program: &Path, environment: &[(&str, OsString)]) -> bool {
    // sudo keeps no environment of its own accord.
    let mut command = shell::as_root("env");
    for (name, value) in environment {
        let mut assignment = OsString::from(*name);
        assignment.push("=");
        assignment.push(value);
        command.arg(assignment);
    }
    command.arg(program).current_dir(shell::workspace().join("tests"));
    match command.output() {
        Ok(output) => {
            show(program, &output);
            output.status.success()
        }
        Err(error) => {
            eprintln!("cannot run {}: {error}", program.display());
            false
        }
    }
}

fn show(program: &Path, output: &Output) {
    let mut out = io::stdout().lock();
    // Nobody reads on: the outcome still counts.
    let _ = writeln!(out, "     Running {}", name(program))
        .and_then(|()| out.write_all(&output.stdout))
        .and_then(|()| out.write_all(&output.stderr));
}

/// What cargo made the program of: the name without its hash.
fn name(program: &Path) -> String {
    let name = program.file_name().unwrap_or_default().to_string_lossy();
    name.rsplit_once('-').map_or(name.as_ref(), |(name, _)| name).to_owned()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_of_tests_is_found_among_what_cargo_tells() {
        let told = r#"{"reason":"compiler-artifact","profile":{"test":true},
            "executable":"/target/debug/deps/race-12ab"}"#;
        let found = executable(&serde_json::from_str(told).unwrap()).unwrap();
        assert_eq!(name(&found), "race");
    }

    #[test]
    fn libraries_and_the_end_of_the_build_are_no_programs() {
        for told in [
            r#"{"reason":"compiler-artifact","profile":{"test":false},"executable":"/x/firewall"}"#,
            r#"{"reason":"compiler-artifact","profile":{"test":true},"executable":null}"#,
            r#"{"reason":"build-finished","success":true}"#,
        ] {
            assert_eq!(executable(&serde_json::from_str(told).unwrap()), None, "{told}");
        }
    }
}

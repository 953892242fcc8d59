//! The test programs of whole networks, several at a time: they wait more than they
//! compute, and each keeps to namespaces and pins of its own.

use std::{
    collections::VecDeque,
    ffi::OsString,
    io::{self, Write as _},
    process::Output,
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
};

use anyhow::{Result, ensure};

use crate::{programs::Program, shell};

/// Programs that run at a time; each runs as many of its tests as there are CPUs.
const AT_A_TIME: usize = 3;

/// Runs them as root in this environment.
pub(crate) fn run(programs: Vec<Program>, environment: &[(&str, OsString)]) -> Result<()> {
    let waiting = Mutex::new(VecDeque::from(programs));
    let failed = Mutex::new(Vec::new());
    // The lock lasts no longer than the call.
    let next = || lock(&waiting).pop_front();
    thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                while let Some(program) = next() {
                    if !passes(&program, environment) {
                        lock(&failed).push(program.name());
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    ensure!(failed.is_empty(), "tests failed in: {}", failed.join(", "));
    Ok(())
}

/// Runs a program and shows what it said, all at once.
fn passes(program: &Program, environment: &[(&str, OsString)]) -> bool {
    // sudo keeps no environment of its own accord.
    let mut command = shell::as_root("env");
    for (name, value) in environment {
        let mut assignment = OsString::from(*name);
        assignment.push("=");
        assignment.push(value);
        command.arg(assignment);
    }
    command.arg(program.path()).current_dir(program.directory());
    match command.output() {
        Ok(output) => {
            show(program, &output);
            output.status.success()
        }
        Err(error) => {
            eprintln!("cannot run {}: {error}", program.path().display());
            false
        }
    }
}

fn show(program: &Program, output: &Output) {
    let mut out = io::stdout().lock();
    // Nobody reads on: the outcome still counts.
    let _ = writeln!(out, "     Running {}", program.name())
        .and_then(|()| out.write_all(&output.stdout))
        .and_then(|()| out.write_all(&output.stderr));
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

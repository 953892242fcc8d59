//! The running instance that a call under an old name works on.

use std::{
    env,
    fs::File,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use anyhow::bail;
use nix::fcntl::Flock;

use super::{
    failure::{ABSENT, Failure, OTHER, RESOURCE},
    program::Program,
};
use crate::{
    cli::args::DEFAULT_PIN,
    kernel::{maps::Maps, pins::Pins},
    preflight,
    rules::{Errors, Fault},
    ruleset::Edit,
};

/// How long to wait for others who change the rules (`-w`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    No,
    For(Duration),
    Forever,
}

/// The daemon takes the lock, too, to read the rules for a new interface: a call that
/// does not wait for others does not fail because of that.
const MOMENT: Duration = Duration::from_millis(250);

/// The instance's directory: `$FIREWALL_PIN`, else the default.
pub(super) fn pin() -> PathBuf {
    env::var_os("FIREWALL_PIN").map_or_else(|| DEFAULT_PIN.into(), PathBuf::from)
}

/// The maps of the instance.
///
/// # Errors
/// What is missing: rights, a bpffs, an instance.
pub(super) fn maps() -> anyhow::Result<Maps> {
    let pin = pin();
    preflight::check_access(&pin)?;
    let pins = Pins::new(pin);
    if !pins.exists() {
        bail!(
            "no firewall is loaded at {}: start one with `firewall run`, or name the directory \
             of a running one with FIREWALL_PIN",
            pins.root().display()
        );
    }
    Maps::open(&pins)
}

/// The rules in force, locked against every other change.
#[derive(Debug)]
pub(super) struct Locked {
    pub(super) maps: Maps,
    _lock: Flock<File>,
}

impl Locked {
    /// To look at them: waits as long as it takes, which is the time of one change.
    pub(super) fn to_read(program: Program) -> Result<Self, Failure> {
        Self::open(program, Wait::Forever)
    }

    /// To change them.
    pub(super) fn to_change(program: Program, wait: Wait) -> Result<Self, Failure> {
        let locked = Self::open(program, wait)?;
        let refused = |error: anyhow::Error| program.failed(RESOURCE, &format!("{error:#}"));
        locked.maps.refuse_trial().map_err(refused)?;
        Ok(locked)
    }

    fn open(program: Program, wait: Wait) -> Result<Self, Failure> {
        let absent = |error: anyhow::Error| program.failed(ABSENT, &format!("{error:#}"));
        let maps = maps().map_err(absent)?;
        let lock = match wait {
            Wait::Forever => maps.pins().lock_ruleset(),
            Wait::No => poll(&maps, MOMENT),
            Wait::For(time) => poll(&maps, time),
        };
        let lock = lock.map_err(absent)?.ok_or_else(|| is_locked(wait))?;
        Ok(Self { maps, _lock: lock })
    }

    pub(super) fn edit(&self, program: Program) -> Result<Edit<'_>, Failure> {
        Edit::begin(&self.maps).map_err(|error| program.failed(OTHER, &format!("{error:#}")))
    }
}

fn poll(maps: &Maps, time: Duration) -> anyhow::Result<Option<Flock<File>>> {
    let end = Instant::now() + time;
    loop {
        let lock = maps.pins().try_lock_ruleset()?;
        if lock.is_some() || Instant::now() >= end {
            return Ok(lock);
        }
        thread::sleep(Duration::from_millis(2));
    }
}

/// In the words of iptables(8), which scripts look for.
fn is_locked(wait: Wait) -> Failure {
    let holds = "Another app is currently holding the xtables lock";
    let message = match wait {
        Wait::For(time) => format!("{holds}. Stopped waiting after {}s.", time.as_secs()),
        Wait::No | Wait::Forever => format!("{holds}. Perhaps you want to use the -w option?"),
    };
    Failure { status: RESOURCE, message }
}

/// What kept a change from being made.
pub(super) fn not_changed(program: Program, error: &anyhow::Error) -> Failure {
    match error.downcast_ref::<Errors>() {
        Some(errors) if errors.0.iter().any(|one| one.problem.fault == Fault::AbsentSet) => {
            program.wrong_rule(errors)
        }
        Some(errors) => {
            let problems: Vec<_> = errors.0.iter().map(|one| one.problem.to_string()).collect();
            program.failed(OTHER, &problems.join("\n"))
        }
        None => program.failed(OTHER, &format!("{error:#}")),
    }
}

#[cfg(test)]
mod tests {
    use firewall_common::addr::Family;

    use super::*;
    use crate::rules::{self, BuiltinServices};

    #[test]
    fn a_set_that_is_not_there_is_wrong_usage() {
        let rules = "-A INPUT -m set --match-set nosuch src -j DROP";
        let rules = rules::parse("rules", rules, Family::Ipv4, &BuiltinServices).unwrap();
        let mut compiled = rules::compile(&rules, &rules::Ruleset::empty(Family::Ipv6)).unwrap();
        let errors = compiled.bind(&|_| None).unwrap_err();
        let program = Program { name: "iptables", family: Family::Ipv4 };
        let failure = not_changed(program, &errors.into());
        assert_eq!(failure.status, 2);
        assert!(failure.message.contains("there is no set 'nosuch'"), "{}", failure.message);
    }
}

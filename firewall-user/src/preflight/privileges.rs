//! What this process may do (capabilities(7)).

use std::fs;

use anyhow::{Context as _, Result};

use super::Problem;

/// The effective capabilities of a process, as the kernel's bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities(pub u64);

const SYS_ADMIN: u64 = 1 << 21;

/// What is needed, and why: to configure interfaces, to send held segments on,
/// to load programs, and to have the verifier allow pointer arithmetic.
const NEEDED: [(u64, &str); 4] = [
    (1 << 12, "CAP_NET_ADMIN"),
    (1 << 13, "CAP_NET_RAW"),
    (1 << 39 | SYS_ADMIN, "CAP_BPF"),
    (1 << 38 | SYS_ADMIN, "CAP_PERFMON"),
];

impl Capabilities {
    /// # Errors
    /// When /proc cannot be read.
    pub fn of_this_process() -> Result<Self> {
        let path = "/proc/self/status";
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?;
        Self::parse(&text).with_context(|| format!("no CapEff in {path}"))
    }

    fn parse(status: &str) -> Option<Self> {
        let value = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
        u64::from_str_radix(value.trim(), 16).ok().map(Self)
    }

    pub(super) fn check(self) -> Result<(), Problem> {
        let lacks = |&(any_of, _): &(u64, &str)| self.0 & any_of == 0;
        let missing: Vec<_> = NEEDED.into_iter().filter(lacks).map(|(_, name)| name).collect();
        if missing.is_empty() { Ok(()) } else { Err(Problem::Privileges(missing)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_may() {
        let status = "Name:\tfirewall\nCapEff:\t000001ffffffffff\n";
        assert_eq!(Capabilities::parse(status).unwrap().check(), Ok(()));
    }

    #[test]
    fn an_ordinary_user_is_told_of_root_and_of_the_capabilities() {
        let message = Capabilities(0).check().unwrap_err().to_string();
        assert_eq!(
            message,
            "not permitted: this needs root, or the capabilities CAP_NET_ADMIN, CAP_NET_RAW, \
             CAP_BPF, CAP_PERFMON: run it with sudo, or give them to the service with \
             AmbientCapabilities="
        );
    }

    #[test]
    fn only_what_is_missing_is_named() {
        let has = 1 << 12 | 1 << 38 | 1 << 39;
        let problem = Capabilities(has).check().unwrap_err();
        assert_eq!(problem, Problem::Privileges(vec!["CAP_NET_RAW"]));
    }
}

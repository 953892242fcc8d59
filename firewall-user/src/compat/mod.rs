//! The same binary under the names of iptables, conntrack-tools and ipset.
//!
//! Called by a link of such a name, or as `firewall iptables …`, it takes that
//! program's arguments, works on the running instance, and prints and exits as that
//! program does (iptables 1.8.9, conntrack-tools 1.4.7, ipset 7.17). The instance is that of
//! `$FIREWALL_PIN`, else the default one.
//!
//! A call is short: it starts no runtime and reads no more than the rules in force.

use std::{env, ffi::OsString, path::Path, process::ExitCode};

use firewall_common::addr::Family;

mod clock;
mod conntrack;
mod failure;
mod instance;
mod ipset;
mod iptables;
mod program;
mod restore;
mod save;

use failure::Failure;
use program::Program;

/// A name under which the binary is another program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OldName {
    Iptables(Family),
    Save(Family),
    Restore(Family),
    Conntrack,
    Ipset,
}

impl OldName {
    pub const ALL: [Self; 8] = [
        Self::Iptables(Family::Ipv4),
        Self::Save(Family::Ipv4),
        Self::Restore(Family::Ipv4),
        Self::Iptables(Family::Ipv6),
        Self::Save(Family::Ipv6),
        Self::Restore(Family::Ipv6),
        Self::Conntrack,
        Self::Ipset,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Iptables(Family::Ipv4) => "iptables",
            Self::Iptables(Family::Ipv6) => "ip6tables",
            Self::Save(Family::Ipv4) => "iptables-save",
            Self::Save(Family::Ipv6) => "ip6tables-save",
            Self::Restore(Family::Ipv4) => "iptables-restore",
            Self::Restore(Family::Ipv6) => "ip6tables-restore",
            Self::Conntrack => "conntrack",
            Self::Ipset => "ipset",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.name() == name)
    }

    /// The name by which the process was called, as a path or as the first argument,
    /// and the arguments that are left.
    ///
    /// `firewall conntrack` is a command of its own, so this name counts as a path only.
    fn of_process(mut arguments: Vec<OsString>) -> Option<(Self, Vec<OsString>)> {
        let called = Path::new(arguments.first()?).file_name()?.to_str()?;
        if let Some(name) = Self::from_name(called) {
            return Some((name, arguments.split_off(1)));
        }
        let name = Self::from_name(arguments.get(1)?.to_str()?)?;
        (name != Self::Conntrack).then(|| (name, arguments.split_off(2)))
    }

    fn run(self, arguments: &[String]) -> Result<(), Failure> {
        let name = self.name();
        match self {
            Self::Iptables(family) => iptables::run(Program { name, family }, arguments),
            Self::Save(family) => save::run(Program { name, family }, arguments),
            Self::Restore(family) => restore::run(Program { name, family }, arguments),
            Self::Conntrack => conntrack::run(arguments),
            Self::Ipset => ipset::run(arguments),
        }
    }
}

/// Does what the process was called for under an old name; `None` when its name is its
/// own.
pub fn from_process() -> Option<ExitCode> {
    let (name, arguments) = OldName::of_process(env::args_os().collect())?;
    let words: Result<Vec<String>, _> = arguments.into_iter().map(OsString::into_string).collect();
    let outcome = match words {
        Ok(words) => name.run(&words),
        Err(word) => {
            let message = format!("{}: the argument {word:?} is not UTF-8", name.name());
            Err(Failure { status: failure::USAGE, message })
        }
    };
    Some(match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { status, message }) => {
            if !message.is_empty() {
                eprintln!("{message}");
            }
            ExitCode::from(status)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str) -> Option<(&'static str, usize)> {
        let (name, rest) =
            OldName::of_process(line.split_whitespace().map(OsString::from).collect())?;
        Some((name.name(), rest.len()))
    }

    #[test]
    fn a_link_is_told_by_its_name_wherever_it_is() {
        assert_eq!(of("iptables -L"), Some(("iptables", 1)));
        assert_eq!(of("/usr/local/sbin/ip6tables-restore -n"), Some(("ip6tables-restore", 1)));
        assert_eq!(of("./conntrack"), Some(("conntrack", 0)));
    }

    #[test]
    fn the_first_argument_of_the_firewall_can_be_an_old_name() {
        assert_eq!(of("firewall iptables -A INPUT"), Some(("iptables", 2)));
        assert_eq!(of("firewall ipset -! restore"), Some(("ipset", 2)));
        assert_eq!(of("firewall rules"), None);
        assert_eq!(of("firewall conntrack list"), None);
        assert_eq!(of("firewall"), None);
    }
}

//! What the programs of iptables call themselves, and how they complain.

use firewall_common::addr::Family;

use super::failure::{ABSENT, Failure, OTHER, USAGE};
use crate::rules::{Errors, TableName};

/// The version of iptables whose arguments are taken and whose output is printed.
const IPTABLES: &str = "1.8.9";

/// One of iptables' programs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Program {
    pub(super) name: &'static str,
    pub(super) family: Family,
}

impl Program {
    /// `iptables v1.8.9 (firewall 0.1.0)`
    pub(super) fn version(self) -> String {
        format!("{} v{IPTABLES} (firewall {})", self.name, env!("CARGO_PKG_VERSION"))
    }

    /// `iptables: Chain already exists.`
    pub(super) fn refused(self, message: &str) -> Failure {
        Failure { status: OTHER, message: format!("{}: {message}", self.name) }
    }

    /// `iptables v1.8.9 (firewall 0.1.0): …`
    pub(super) fn failed(self, status: u8, message: &str) -> Failure {
        Failure { status, message: format!("{}: {message}", self.version()) }
    }

    /// Wrong arguments, with where to find the right ones.
    pub(super) fn usage(self, message: &str) -> Failure {
        let hint = format!("Try `{0} -h' or '{0} --help' for more information.", self.name);
        Failure { status: USAGE, message: format!("{}: {message}\n{hint}", self.version()) }
    }

    /// What is wrong with a rule of the command line.
    pub(super) fn wrong_rule(self, errors: &Errors) -> Failure {
        let problems: Vec<_> = errors.0.iter().map(|error| error.problem.to_string()).collect();
        self.usage(&problems.join("\n"))
    }

    pub(super) fn table(self, name: &str) -> Result<TableName, Failure> {
        TableName::from_name(name).ok_or_else(|| {
            let message = format!(
                "table '{name}' does not exist\nPerhaps {} or your kernel needs to be upgraded.",
                self.name
            );
            self.failed(ABSENT, &message)
        })
    }
}

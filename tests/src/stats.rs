//! What the kernel's TCP counted in a namespace.

use std::fs;

use anyhow::{Context as _, Result};

use crate::Netns;

/// Signs that a segment was lost, or came twice: all stay 0 where none was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpLoss {
    pub retransmitted: u64,
    pub timeouts: u64,
    pub syn_retransmitted: u64,
    /// Segments that had been received before.
    pub duplicates: u64,
}

impl TcpLoss {
    /// The counters since the namespace was made.
    pub fn of(netns: &Netns) -> Result<Self> {
        let read = |file: &str| {
            let path = format!("/proc/thread-self/net/{file}");
            netns.enter(|| fs::read_to_string(&path)).with_context(|| format!("cannot read {path}"))
        };
        let (snmp, netstat) = (read("snmp")?, read("netstat")?);
        Ok(Self {
            retransmitted: counter(&snmp, "Tcp:", "RetransSegs")?,
            timeouts: counter(&netstat, "TcpExt:", "TCPTimeouts")?,
            syn_retransmitted: counter(&netstat, "TcpExt:", "TCPSynRetrans")?,
            duplicates: counter(&netstat, "TcpExt:", "TCPDSACKOldSent")?,
        })
    }

    /// What was counted since an earlier reading.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Self {
        Self {
            retransmitted: self.retransmitted - earlier.retransmitted,
            timeouts: self.timeouts - earlier.timeouts,
            syn_retransmitted: self.syn_retransmitted - earlier.syn_retransmitted,
            duplicates: self.duplicates - earlier.duplicates,
        }
    }
}

/// A number from a table of two lines, names above values.
fn counter(table: &str, group: &str, name: &str) -> Result<u64> {
    let mut lines = table.lines().filter(|line| line.starts_with(group));
    let names = lines.next().unwrap_or_default().split_whitespace();
    let values = lines.next().unwrap_or_default().split_whitespace();
    let value = names.zip(values).find(|(column, _)| *column == name).map(|(_, value)| value);
    value.and_then(|value| value.parse().ok()).with_context(|| format!("no counter {group}{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_is_found_by_its_column() {
        let table = "Udp: A B\nUdp: 8 9\nTcp: A B\nTcp: 1 2\n";
        assert_eq!(counter(table, "Tcp:", "B").unwrap(), 2);
        assert!(counter(table, "Tcp:", "C").is_err());
    }
}

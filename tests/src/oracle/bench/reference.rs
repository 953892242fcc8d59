//! The kernel's side: nf_conntrack, and rules that write the ctstate of what goes on
//! into its DSCP.

use std::{fs, io::Write as _};

use anyhow::{Context as _, Result};
use firewall_common::flow::CtState;

use super::{
    clock,
    crossing::{Crossing, Until},
    datagram::Datagram,
    gateway::Site,
    listing,
};
use crate::{
    oracle::{Judgement, Settings, flow::Flow, hole::Hole},
    wire::End,
};

/// The DSCP of each state is its place here, counted from 1.
const STATES: [CtState; 5] =
    [CtState::New, CtState::Established, CtState::Related, CtState::Invalid, CtState::Untracked];

#[derive(Debug)]
pub(super) struct Reference<'a> {
    site: &'a Site,
    crossing: Crossing,
}

impl<'a> Reference<'a> {
    pub(super) fn start(site: &'a Site) -> Result<Self> {
        let mut rules = tempfile::NamedTempFile::new()?;
        rules.write_all(ruleset().as_bytes())?;
        site.gateway.run(&format!("nft -f {}", rules.path().display()))?;
        let reference = Self { site, crossing: Crossing::new(site.ports()?) };
        reference.set("acct", 1)?;
        for (name, seconds) in clock::sysctls() {
            reference.set(&name, seconds)?;
        }
        Ok(reference)
    }

    fn set(&self, name: &str, value: u64) -> Result<()> {
        self.site.gateway.set(&format!("netfilter/nf_conntrack_{name}"), &value.to_string())
    }

    pub(super) fn settle(&mut self, settings: Settings) -> Result<()> {
        self.site.gateway.run("conntrack -F")?;
        self.set("tcp_loose", settings.tcp_loose.into())?;
        self.set("tcp_be_liberal", settings.tcp_be_liberal.into())?;
        self.set("tcp_ignore_invalid_rst", settings.tcp_ignore_invalid_rst.into())?;
        self.set("tcp_max_retrans", settings.tcp_max_retrans.into())?;
        self.set("checksum", settings.checksum.into())?;
        self.crossing.drain()
    }

    pub(super) fn judge(&mut self, from: End, packet: &[u8]) -> Result<Judgement> {
        let arrived = self.crossing.cross(from, packet, Until::First)?;
        Ok(match &arrived[..] {
            [] => Judgement::Dropped,
            [arrived, ..] if !super::crossing::is_same(packet, arrived) => Judgement::Changed,
            [arrived, ..] => Judgement::Forwarded(state(arrived)),
        })
    }

    pub(super) fn judge_piece(
        &mut self,
        from: End,
        packet: &[u8],
        datagram: &mut Datagram,
    ) -> Result<()> {
        for arrived in self.crossing.cross(from, packet, Until::Silence)? {
            datagram.arrived(&arrived);
            if let Some(state) = state(&arrived) {
                datagram.judged(state);
            }
        }
        Ok(())
    }

    /// Has its helper read control connections to this port.
    pub(super) fn read_ftp(&self, port: u16) -> Result<()> {
        for iptables in ["iptables", "ip6tables"] {
            let rule = format!("-A PREROUTING -p tcp --dport {port} -j CT --helper ftp");
            self.site.gateway.run(&format!("{iptables} -t raw {rule}"))?;
        }
        Ok(())
    }

    /// The holes that stand, as `/proc` lists them:
    /// `299 l3proto = 2 proto=6 src=192.0.2.2 dst=198.51.100.2 sport=0 dport=40123 ftp`
    pub(super) fn holes(&self) -> Result<Vec<Hole>> {
        // Of the thread: the process stands in another namespace.
        let path = "/proc/thread-self/net/nf_conntrack_expect";
        let text = self.site.gateway.enter(|| fs::read_to_string(path)).context(path)?;
        text.lines().map(|line| hole(line).with_context(|| format!("{path}: {line}"))).collect()
    }

    pub(super) fn forget_holes(&self) -> Result<()> {
        self.site.gateway.run("conntrack -F expect").map(drop)
    }

    pub(super) fn flows(&self) -> Result<Vec<Flow>> {
        let mut flows = Vec::new();
        for family in ["ipv4", "ipv6"] {
            let text = self.site.gateway.run(&format!("conntrack -L -f {family}"))?;
            flows.extend(listing::parse(&text)?);
        }
        Ok(flows)
    }
}

fn hole(line: &str) -> Option<Hole> {
    let value = |name: &str| {
        let mut words = line.split_whitespace();
        words.find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
    };
    Some(Hole {
        src: value("src")?.parse().ok()?,
        dst: value("dst")?.parse().ok()?,
        dport: value("dport")?.parse().ok()?,
    })
}

fn ruleset() -> String {
    let rules = (1..).zip(STATES).flat_map(|(dscp, state): (u8, _)| {
        let state = state.name().to_lowercase();
        ["ip", "ip6"].map(|family| format!("    ct state {state} {family} dscp set {dscp}\n"))
    });
    let rules: String = rules.collect();
    format!(
        "table inet oracle {{\n  chain forward {{\n    type filter hook forward priority mangle\n\
         {rules}  }}\n}}\n"
    )
}

/// What the rules have written; `None` when they have not.
fn state(packet: &[u8]) -> Option<CtState> {
    let dscp = match packet.first()? >> 4 {
        4 => packet.get(1)? >> 2,
        _ => (packet.first()? & 15) << 2 | packet.get(1)? >> 6,
    };
    STATES.get(usize::from(dscp.checked_sub(1)?)).copied()
}

//! What the gateway between client and server translates: the rules for it, whom the client
//! calls then, and the ways past it that are taken away.
//!
//! ```text
//!   client 192.0.2.2 ── eth0  gateway  eth1 ── server 198.51.100.2
//!             192.0.2.1                 198.51.100.1
//! ```
//! *Masqueraded*, the client is inside, and the server has no way to it. *Forwarded*, the server
//! is inside; the client calls the gateway, and has no way to the server.

use std::net::IpAddr;

use anyhow::Result;

use crate::{Family, Firewall, Gateway, firewall::Setup};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Translation {
    None,
    /// MASQUERADE for clients.
    Masqueraded,
    /// DNAT to the server.
    Forwarded,
    Both,
}

impl Translation {
    pub const ALL: [Self; 4] = [Self::None, Self::Masqueraded, Self::Forwarded, Self::Both];
    /// Those that are one.
    pub const SOME: [Self; 3] = [Self::Masqueraded, Self::Forwarded, Self::Both];

    const fn is_masqueraded(self) -> bool {
        matches!(self, Self::Masqueraded | Self::Both)
    }

    const fn is_forwarded(self) -> bool {
        matches!(self, Self::Forwarded | Self::Both)
    }

    /// Rules that let FTP from the client to the server, and nothing else.
    pub fn rules(self, family: Family) -> String {
        format!(
            "{}*filter\n:INPUT DROP [0:0]\n:FORWARD DROP [0:0]\n:OUTPUT ACCEPT [0:0]\n\
             -A INPUT -p ipv6-icmp -j ACCEPT\n\
             -A FORWARD -m state --state RELATED,ESTABLISHED -j ACCEPT\n\
             -A FORWARD -i eth0 -o eth1 -p tcp --dport 21 -m state --state NEW -j ACCEPT\n\
             COMMIT\n",
            self.table_nat(family)
        )
    }

    fn table_nat(self, family: Family) -> String {
        if self == Self::None {
            return String::new();
        }
        let server = match family {
            Family::V4 => "198.51.100.2",
            Family::V6 => "[2001:db8:2::2]:21",
        };
        let mut table = "*nat\n".to_owned();
        if self.is_forwarded() {
            table += &format!(
                "-A PREROUTING -i eth0 -p tcp --dport 21 -j DNAT --to-destination {server}\n"
            );
        }
        if self.is_masqueraded() {
            table += "-A POSTROUTING -o eth1 -j MASQUERADE\n";
        }
        table + "COMMIT\n"
    }

    /// Whom the client calls.
    pub fn called(self, network: &Gateway, family: Family) -> IpAddr {
        match (self.is_forwarded(), family) {
            (false, _) => network.server_address(family),
            (true, Family::V4) => [192, 0, 2, 1].into(),
            (true, Family::V6) => "2001:db8:1::1".parse().expect("an address"),
        }
    }

    /// Takes away the ways past the translation.
    ///
    /// # Errors
    /// When a way is not there.
    pub fn hide(self, network: &Gateway) -> Result<()> {
        for (is_hidden, other) in
            [(self.is_masqueraded(), &network.server), (self.is_forwarded(), &network.client)]
        {
            if is_hidden {
                other.ip("route del default")?;
                other.ip("-6 route del default")?;
            }
        }
        Ok(())
    }

    /// Takes away the ways past the translation, and starts the firewall with this `--hook`.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start<'n>(self, network: &'n Gateway, hook: &str) -> Result<Firewall<'n>> {
        self.hide(network)?;
        Setup::on(&["eth0", "eth1"])
            .rules(&self.rules(Family::V4))
            .rules6(&self.rules(Family::V6))
            .option(&format!("--hook={hook}"))
            .start(network.gateway())
    }
}

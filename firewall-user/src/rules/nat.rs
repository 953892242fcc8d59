//! Targets of table nat: SNAT, DNAT, MASQUERADE, REDIRECT, NETMAP.

use std::net::IpAddr;

use firewall_common::{
    addr::Addr,
    nat::{
        Kind, Order,
        order::flag::{ADDRESSES, PERSISTENT, PORTS, RANDOM, RANDOM_FULLY, SHIFTED},
    },
    rule::PortRange,
};

use super::ast::Network;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nat {
    pub kind: Kind,
    /// Both ends belong to the range; of NETMAP the prefix and its mask.
    pub addresses: Option<(IpAddr, IpAddr)>,
    /// For ICMP the range of identifiers.
    pub ports: Option<PortRange>,
    /// DNAT: the port that becomes the first one of the range, and those behind it the others.
    pub base: Option<u16>,
    /// How one of them is chosen: bits of [`firewall_common::nat::order::flag`].
    pub choice: u8,
}

/// The words for the bits of [`Nat::choice`], in the order in which they are printed.
const CHOICES: [(u8, &str); 3] =
    [(RANDOM, "random"), (RANDOM_FULLY, "random-fully"), (PERSISTENT, "persistent")];

impl Nat {
    /// Without addresses, ports and a word about the choice.
    pub const fn new(kind: Kind) -> Self {
        Self { kind, addresses: None, ports: None, base: None, choice: 0 }
    }

    /// The kind that `-j NAME` stands for.
    pub fn kind_of(name: &str) -> Option<Kind> {
        Some(match name {
            "SNAT" => Kind::Source,
            "DNAT" => Kind::Destination,
            "MASQUERADE" => Kind::Masquerade,
            "REDIRECT" => Kind::Redirect,
            "NETMAP" => Kind::Netmap,
            _ => return None,
        })
    }

    /// As `-j` has it.
    pub const fn name(&self) -> &'static str {
        match self.kind {
            Kind::Source => "SNAT",
            Kind::Destination => "DNAT",
            Kind::Masquerade => "MASQUERADE",
            Kind::Redirect => "REDIRECT",
            Kind::Netmap => "NETMAP",
        }
    }

    /// The chains of table nat in which it works, with those that jump from them.
    pub const fn chains(&self) -> &'static [&'static str] {
        match self.kind {
            Kind::Source => &["POSTROUTING", "INPUT"],
            Kind::Destination => &["PREROUTING", "OUTPUT"],
            Kind::Masquerade => &["POSTROUTING"],
            // The kernel's in OUTPUT, too: what this host sends is judged where it leaves.
            Kind::Redirect => &["PREROUTING"],
            Kind::Netmap => &["PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"],
        }
    }

    /// As a line of iptables-save writes it behind `-j NAME`, with a blank before it.
    pub(crate) fn options(&self) -> String {
        let option = match self.kind {
            Kind::Source => " --to-source ",
            Kind::Destination => " --to-destination ",
            Kind::Masquerade | Kind::Redirect => " --to-ports ",
            Kind::Netmap => " --to ",
        };
        self.with_choice(option, " --")
    }

    /// What stands behind the addresses of a listing, with a blank before it.
    pub(crate) fn remark(&self) -> String {
        let word = match self.kind {
            Kind::Source | Kind::Destination | Kind::Netmap => " to:",
            Kind::Masquerade => " masq ports: ",
            Kind::Redirect => " redir ports ",
        };
        self.with_choice(word, " ")
    }

    fn with_choice(&self, before: &str, word: &str) -> String {
        let wish = self.wish();
        let mut text = if wish.is_empty() { wish } else { format!("{before}{wish}") };
        for (_, choice) in CHOICES.iter().filter(|(bit, _)| self.choice & bit != 0) {
            text += word;
            text += choice;
        }
        text
    }

    /// `192.0.2.1-192.0.2.9:1000-2000`, `[2001:db8::1]:80`, `192.0.2.0/24`; empty where
    /// nothing is said.
    fn wish(&self) -> String {
        let base = self.base.map(|base| format!("/{base}")).unwrap_or_default();
        let ports = self.ports.map(|PortRange { first, last }| match first == last {
            true => first.to_string(),
            false => format!("{first}-{last}{base}"),
        });
        let addresses = self.addresses.map(|(first, last)| match self.kind {
            Kind::Netmap => netmap(first, last),
            _ if first == last => first.to_string(),
            _ => format!("{first}-{last}"),
        });
        let is_v6 = self.addresses.is_some_and(|(first, _)| first.is_ipv6());
        match (self.kind, addresses, ports) {
            (Kind::Masquerade | Kind::Redirect, _, ports) => ports.unwrap_or_default(),
            (_, Some(addresses), Some(ports)) if is_v6 => format!("[{addresses}]:{ports}"),
            (_, addresses, Some(ports)) => format!("{}:{ports}", addresses.unwrap_or_default()),
            (_, addresses, None) => addresses.unwrap_or_default(),
        }
    }

    /// As the datapath reads it.
    pub(crate) fn order(&self) -> Order {
        let (first, last) = match self.addresses {
            Some((first, last)) => (first.into(), self.last(last)),
            None => (Addr::ANY, Addr::ANY),
        };
        let PortRange { first: first_port, last: last_port } =
            self.ports.unwrap_or(PortRange { first: 0, last: 0 });
        let ports = if self.ports.is_some() { PORTS } else { 0 };
        let addresses = if self.addresses.is_some() { ADDRESSES } else { 0 };
        let shifted = if self.base.is_some() { SHIFTED } else { 0 };
        let flags = ports | addresses | shifted | self.choice;
        let base = self.base.unwrap_or_default();
        Order { kind: self.kind, flags, first, last, first_port, last_port, base }
    }

    /// The end of the range, or the mask: all of IPv4 share the bits before the address.
    fn last(&self, last: IpAddr) -> Addr {
        match (self.kind, last) {
            (Kind::Netmap, IpAddr::V4(mask)) => {
                Addr::mask(firewall_common::addr::Family::Ipv4, mask.to_bits().leading_ones() as u8)
            }
            _ => last.into(),
        }
    }
}

fn netmap(address: IpAddr, mask: IpAddr) -> String {
    let length = Network::new(address, mask).prefix_length().unwrap_or_default();
    format!("{address}/{length}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(first: &str, last: &str, ports: Option<(u16, u16)>) -> Nat {
        Nat {
            addresses: Some((first.parse().unwrap(), last.parse().unwrap())),
            ports: ports.map(|(first, last)| PortRange { first, last }),
            ..Nat::new(Kind::Source)
        }
    }

    #[test]
    fn a_wish_is_written_as_iptables_does() {
        let one = ("192.0.2.1", "192.0.2.1");
        let v6 = ("2001:db8::1", "2001:db8::9");
        for (nat, text) in [
            (range(one.0, one.1, None), "192.0.2.1"),
            (range(one.0, "192.0.2.9", None), "192.0.2.1-192.0.2.9"),
            (range(one.0, one.1, Some((80, 80))), "192.0.2.1:80"),
            (range(v6.0, v6.1, None), "2001:db8::1-2001:db8::9"),
            (range(v6.0, v6.1, Some((80, 90))), "[2001:db8::1-2001:db8::9]:80-90"),
        ] {
            assert_eq!(nat.options(), format!(" --to-source {text}"));
            assert_eq!(nat.remark(), format!(" to:{text}"));
        }
    }

    #[test]
    fn a_shift_is_written_behind_its_range() {
        let nat = Nat {
            ports: Some(PortRange { first: 80, last: 90 }),
            base: Some(8_080),
            choice: RANDOM,
            ..Nat::new(Kind::Destination)
        };
        assert_eq!(nat.options(), " --to-destination :80-90/8080 --random");
        assert_eq!(nat.remark(), " to::80-90/8080 random");
    }

    #[test]
    fn what_masquerade_says_is_ports_and_how_they_are_chosen() {
        let ports = Some(PortRange { first: 1000, last: 2000 });
        let choice = RANDOM_FULLY | RANDOM;
        let nat = Nat { ports, choice, ..Nat::new(Kind::Masquerade) };
        assert_eq!(nat.options(), " --to-ports 1000-2000 --random --random-fully");
        assert_eq!(nat.remark(), " masq ports: 1000-2000 random random-fully");
        assert_eq!(Nat::new(Kind::Masquerade).options(), "");
    }

    #[test]
    fn the_mask_of_a_net_of_ipv4_holds_what_all_of_ipv4_share() {
        let nat = Nat {
            addresses: Some(("198.51.100.0".parse().unwrap(), "255.255.255.0".parse().unwrap())),
            ..Nat::new(Kind::Netmap)
        };
        assert_eq!(nat.order().last, Addr::mask(firewall_common::addr::Family::Ipv4, 24));
        assert_eq!(nat.options(), " --to 198.51.100.0/24");
    }
}

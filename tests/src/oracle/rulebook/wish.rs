//! What a rule asks of a packet, as far as a packet can be made so.
//!
//! A condition that is negated or not known here asks for nothing: packets are random
//! where no rule has a wish.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    ops::RangeInclusive,
};

use super::{draft::protocol, staging::INTERFACES};
use crate::{Family, wire::End};

/// Every part that is `None` or empty may be anything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    pub protocol: Option<u8>,
    pub sources: Vec<Network>,
    pub destinations: Vec<Network>,
    pub sports: Vec<RangeInclusive<u16>>,
    pub dports: Vec<RangeInclusive<u16>>,
    /// Type and code of ICMP or ICMPv6.
    pub icmp: Option<(u8, u8)>,
    /// Flags that are looked at, and those among them that are set.
    pub flags: Option<(u8, u8)>,
    pub incoming: Option<End>,
    pub outgoing: Option<End>,
    pub hops: Option<u8>,
    pub tos: Option<u8>,
    /// Bytes from the IP header on.
    pub length: Option<u16>,
    /// Headers between that of IPv6 and the transport's.
    pub extends: bool,
}

/// An address and how many of its first bits count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u32,
}

impl Wish {
    /// Reads the words of a rule behind its chain.
    pub fn parse(words: &[&str], family: Family) -> Self {
        let mut wish = Self::default();
        let mut words = words.iter().copied();
        while let Some(word) = words.next() {
            match word {
                // What is not wanted needs no wish.
                "!" => wish.extends |= words.next() == Some("--header"),
                "--syn" => wish.flags = Some((0x17, 2)),
                "--header" | "--rt-type" | "--rt-segsleft" => {
                    wish.extends = true;
                    words.next();
                }
                "--tcp-flags" => {
                    let masks = [words.next(), words.next()].map(|it| it.map_or(0, flags));
                    wish.flags = Some((masks[0], masks[1]));
                }
                option if option.starts_with('-') => wish.take(option, &mut words, family),
                _ => {}
            }
        }
        wish
    }

    fn take<'a>(
        &mut self,
        option: &str,
        words: &mut impl Iterator<Item = &'a str>,
        family: Family,
    ) {
        const KNOWN: [&str; 20] = [
            "-p",
            "-s",
            "-d",
            "-i",
            "-o",
            "--sport",
            "--sports",
            "--dport",
            "--dports",
            "--ports",
            "--icmp-type",
            "--icmpv6-type",
            "--ttl-eq",
            "--ttl-lt",
            "--hl-eq",
            "--hl-lt",
            "--dscp",
            "--length",
            "--src-range",
            "--dst-range",
        ];
        if !KNOWN.contains(&option) {
            return;
        }
        let Some(value) = words.next() else { return };
        let networks = || value.split(',').filter_map(Network::parse).collect();
        let first = || Network::parse(value.split('-').next()?);
        match option {
            "-p" => self.protocol = protocol_number(value, family),
            "-s" => self.sources = networks(),
            "-d" => self.destinations = networks(),
            "--src-range" => self.sources = first().into_iter().collect(),
            "--dst-range" => self.destinations = first().into_iter().collect(),
            "-i" => self.incoming = end(value),
            "-o" => self.outgoing = end(value),
            "--sport" | "--sports" => self.sports = ports(value),
            "--dport" | "--dports" | "--ports" => self.dports = ports(value),
            "--icmp-type" | "--icmpv6-type" => self.icmp = icmp(value, family),
            "--ttl-eq" | "--hl-eq" => self.hops = value.parse().ok(),
            "--ttl-lt" | "--hl-lt" => self.hops = value.parse().ok().map(|it: u8| it - 1),
            "--dscp" => self.tos = hexadecimal(value).map(|it| it << 2),
            _ => self.length = value.split(':').next().and_then(|it| it.parse().ok()),
        }
    }

    /// Takes from a rule on the way here what this one leaves open.
    pub fn inherit(&mut self, other: &Self) {
        fn fill<T: Clone>(own: &mut Option<T>, other: Option<&T>) {
            *own = own.take().or_else(|| other.cloned());
        }
        fn fill_list<T: Clone>(own: &mut Vec<T>, other: &[T]) {
            if own.is_empty() {
                *own = other.to_vec();
            }
        }
        fill(&mut self.protocol, other.protocol.as_ref());
        fill_list(&mut self.sources, &other.sources);
        fill_list(&mut self.destinations, &other.destinations);
        fill_list(&mut self.sports, &other.sports);
        fill_list(&mut self.dports, &other.dports);
        fill(&mut self.icmp, other.icmp.as_ref());
        fill(&mut self.flags, other.flags.as_ref());
        fill(&mut self.incoming, other.incoming.as_ref());
        fill(&mut self.outgoing, other.outgoing.as_ref());
        fill(&mut self.hops, other.hops.as_ref());
        fill(&mut self.tos, other.tos.as_ref());
        fill(&mut self.length, other.length.as_ref());
        self.extends |= other.extends;
    }

    /// Leaves one thing to chance, so that a packet misses by a little.
    pub fn forget(&mut self, dice: &mut fastrand::Rng) {
        match dice.u8(..8) {
            0 => self.protocol = None,
            1 => self.sources.clear(),
            2 => self.destinations.clear(),
            3 => self.dports.clear(),
            4 => self.sports.clear(),
            5 => (self.icmp, self.flags) = (None, None),
            6 => self.incoming = None,
            _ => (self.hops, self.tos, self.length) = (None, None, None),
        }
    }
}

impl Network {
    /// An address, `ADDRESS/BITS` or `ADDRESS/MASK`; masks with gaps are not read.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, mask) = text.split_once('/').unwrap_or((text, ""));
        let address: IpAddr = address.parse().ok()?;
        let all = if address.is_ipv4() { 32 } else { 128 };
        let bits = match mask.parse::<Ipv4Addr>() {
            Ok(mask) => Some(u32::from(mask).leading_ones()),
            Err(_) if mask.is_empty() => Some(all),
            Err(_) => mask.parse().ok(),
        };
        Some(Self { address, bits: bits.filter(|bits| *bits <= all)? })
    }

    pub fn holds(&self, address: IpAddr) -> bool {
        let same = |a: u128, b: u128, width: u32| {
            self.bits == 0 || a >> (width - self.bits) == b >> (width - self.bits)
        };
        match (self.address, address) {
            (IpAddr::V4(a), IpAddr::V4(b)) => same(u32::from(a).into(), u32::from(b).into(), 32),
            (IpAddr::V6(a), IpAddr::V6(b)) => same(a.into(), b.into(), 128),
            _ => false,
        }
    }

    /// One of its addresses.
    pub fn any(&self, dice: &mut fastrand::Rng) -> IpAddr {
        match self.address {
            IpAddr::V4(address) => {
                let free = u32::MAX.checked_shr(self.bits).unwrap_or(0);
                Ipv4Addr::from(u32::from(address) & !free | dice.u32(..) & free).into()
            }
            IpAddr::V6(address) => {
                let free = u128::MAX.checked_shr(self.bits).unwrap_or(0);
                // Few hosts in a wide network, so that they meet each other.
                let host = u128::from(dice.u16(1..)) & free;
                Ipv6Addr::from(u128::from(address) & !free | host).into()
            }
        }
    }
}

/// The end behind the interface of this name, where the name leaves no choice.
fn end(name: &str) -> Option<End> {
    let beginning = name.strip_suffix('+');
    let means =
        |interface: &str| beginning.map_or(interface == name, |it| interface.starts_with(it));
    match INTERFACES.map(means) {
        [true, false] => Some(End::Client),
        [false, true] => Some(End::Server),
        _ => None,
    }
}

fn protocol_number(name: &str, family: Family) -> Option<u8> {
    Some(match name {
        "tcp" => protocol::TCP,
        "udp" => protocol::UDP,
        "icmp" if family == Family::V4 => protocol::ICMP,
        "ipv6-icmp" | "icmpv6" | "icmp6" => protocol::ICMPV6,
        "igmp" => 2,
        "ipv6" => 41,
        "gre" => protocol::GRE,
        "esp" => 50,
        "ah" => 51,
        _ => return name.parse().ok(),
    })
}

fn ports(list: &str) -> Vec<RangeInclusive<u16>> {
    let range = |item: &str| {
        let (low, high) = item.split_once(':').unwrap_or((item, item));
        let low = if low.is_empty() { 0 } else { port(low)? };
        let high = if high.is_empty() { u16::MAX } else { port(high)? };
        Some(low..=high)
    };
    list.split(',').filter_map(range).collect()
}

fn port(name: &str) -> Option<u16> {
    Some(match name {
        "ftp" => 21,
        "ssh" => 22,
        "smtp" => 25,
        "domain" => 53,
        "http" => 80,
        "auth" => 113,
        "ntp" => 123,
        "https" => 443,
        "submission" => 587,
        "imaps" => 993,
        "pop3s" => 995,
        _ => return name.parse().ok(),
    })
}

fn icmp(name: &str, family: Family) -> Option<(u8, u8)> {
    let name_in = |list: &[(&str, (u8, u8))]| {
        list.iter().find(|(it, _)| *it == name).map(|(_, number)| *number)
    };
    let known = match family {
        Family::V4 => name_in(&[
            ("echo-reply", (0, 0)),
            ("destination-unreachable", (3, 1)),
            ("host-unreachable", (3, 1)),
            ("fragmentation-needed", (3, 4)),
            ("echo-request", (8, 0)),
            ("time-exceeded", (11, 0)),
            ("parameter-problem", (12, 0)),
        ]),
        Family::V6 => name_in(&[
            ("destination-unreachable", (1, 4)),
            ("packet-too-big", (2, 0)),
            ("time-exceeded", (3, 0)),
            ("ttl-zero-during-transit", (3, 0)),
            ("parameter-problem", (4, 1)),
            ("echo-request", (128, 0)),
            ("echo-reply", (129, 0)),
            ("router-advertisement", (134, 0)),
            ("neighbour-solicitation", (135, 0)),
            ("neighbour-advertisement", (136, 0)),
            ("redirect", (137, 0)),
        ]),
    };
    known.or_else(|| {
        let (kind, code) = name.split_once('/').unwrap_or((name, "0"));
        Some((kind.parse().ok()?, code.parse().ok()?))
    })
}

fn flags(names: &str) -> u8 {
    let bit = |name: &str| match name {
        "FIN" => 1,
        "SYN" => 2,
        "RST" => 4,
        "PSH" => 8,
        "ACK" => 16,
        "URG" => 32,
        "ALL" => 63,
        _ => 0,
    };
    names.split(',').map(bit).fold(0, |all, bit| all | bit)
}

fn hexadecimal(text: &str) -> Option<u8> {
    u8::from_str_radix(text.strip_prefix("0x")?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(rule: &str) -> Wish {
        Wish::parse(&rule.split(' ').collect::<Vec<_>>(), Family::V4)
    }

    #[test]
    fn a_rule_asks_for_what_it_names() {
        let asked = wish("-s 10.0.0.0/255.0.0.0 -i eth1 -p tcp -m multiport --dports 22,80:81");
        assert_eq!(asked.protocol, Some(protocol::TCP));
        assert_eq!(asked.incoming, Some(End::Server));
        assert_eq!(asked.dports, [22..=22, 80..=81]);
        assert!(asked.sources[0].holds("10.9.8.7".parse().unwrap()));
        assert!(!asked.sources[0].holds("11.0.0.1".parse().unwrap()));
    }

    #[test]
    fn a_rule_asks_for_nothing_by_what_it_excludes() {
        assert_eq!(wish("! -s 10.0.0.1 ! --dport 22 -j DROP"), Wish::default());
        assert_eq!(wish("! --tcp-flags SYN,ACK SYN -j DROP").flags, None);
    }

    #[test]
    fn what_a_rule_leaves_open_comes_from_the_way_to_it() {
        let mut asked = wish("--dport 22");
        asked.inherit(&wish("-p tcp --dport 80 -i eth0"));
        assert_eq!(asked, wish("-p tcp --dport 22 -i eth0"));
    }

    #[test]
    fn an_address_of_a_network_lies_in_it() {
        let mut dice = fastrand::Rng::with_seed(1);
        for text in ["192.0.2.7", "192.0.2.0/28", "0.0.0.0/0", "2001:db8::/64", "::/0"] {
            let network = Network::parse(text).unwrap();
            assert!(network.holds(network.any(&mut dice)), "{text}");
        }
    }
}

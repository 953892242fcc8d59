//! What the admin allows beyond what the two hosts negotiate.

use std::{fmt, net::IpAddr, num::NonZeroU16, str::FromStr};

use firewall_common::addr::{Addr, Family};

use super::port_range::PortRange;

/// The lowest port to which a hole is opened unless the policy says otherwise.
const UNPRIVILEGED: u16 = 1024;

/// A network in CIDR notation, a single host included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    prefix: Addr,
    mask: Addr,
    family: Family,
}

impl Network {
    /// Bits of `address` beyond `length` do not count; an over-long `length`
    /// means the single host.
    pub fn new(address: IpAddr, length: u8) -> Self {
        let family = family(address);
        let mask = Addr::mask(family, length);
        Self { prefix: Addr::from(address).and(mask), mask, family }
    }

    pub fn is_host(&self) -> bool {
        self.mask == Addr::mask(self.family, u8::MAX)
    }

    pub fn contains(&self, address: IpAddr) -> bool {
        family(address) == self.family && Addr::from(address).matches(self.prefix, self.mask)
    }
}

fn family(address: IpAddr) -> Family {
    if address.is_ipv4() { Family::Ipv4 } else { Family::Ipv6 }
}

/// A text that is no network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkError(String);

impl fmt::Display for NetworkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "'{}' is no network; wanted e.g. 192.0.2.0/24, 2001:db8::/32 or a host", self.0)
    }
}

impl std::error::Error for NetworkError {}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse_network(text).ok_or_else(|| NetworkError(text.to_owned()))
    }
}

fn parse_network(text: &str) -> Option<Network> {
    let (address, mask) = match text.split_once('/') {
        Some((address, mask)) => (address, Some(mask)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().ok()?;
    let bits = if address.is_ipv4() { 32 } else { 128 };
    let length = match mask {
        Some(mask) => mask.parse().ok().or_else(|| mask_length(address, mask))?,
        None => bits,
    };
    (length <= bits).then(|| Network::new(address, length))
}

/// The length of a mask that is written as an address: 255.255.255.0.
fn mask_length(address: IpAddr, mask: &str) -> Option<u8> {
    let mask: IpAddr = mask.parse().ok()?;
    let (ones, rest) = match mask {
        IpAddr::V4(mask) => (mask.to_bits().leading_ones(), mask.to_bits().count_ones()),
        IpAddr::V6(mask) => (mask.to_bits().leading_ones(), mask.to_bits().count_ones()),
    };
    (mask.is_ipv4() == address.is_ipv4() && ones == rest).then_some(ones as u8)
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ones: u32 = self.mask.words.iter().map(|word| word.count_ones()).sum();
        // IPv4 stands in the last word.
        let length = match self.family {
            Family::Ipv4 => ones - 96,
            Family::Ipv6 => ones,
        };
        write!(f, "{}/{length}", self.prefix.to_ip())
    }
}

/// The rules that hold for every control connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Who may name another host's address: clients in PORT and EPRT, servers
    /// in 227 and 229. Whoever stands here can open holes to third hosts (FXP,
    /// servers behind somebody else's NAT).
    pub loose: Vec<Network>,
    /// Ports below are refused.
    pub lowest_port: u16,
    /// So are these.
    pub refused_ports: Vec<PortRange>,
    /// Where the data connections of encrypted control connections go: open for them,
    /// from their client to their server, as long as they live.
    pub tls_passive_range: Option<PortRange>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            loose: Vec::new(),
            lowest_port: UNPRIVILEGED,
            refused_ports: Vec::new(),
            tls_passive_range: None,
        }
    }
}

impl Policy {
    /// Whether `speaker` may have a hole to `named` opened.
    pub fn admit(&self, speaker: IpAddr, named: IpAddr, port: NonZeroU16) -> Result<(), Refusal> {
        if named != speaker && !self.is_loose(speaker) {
            return Err(Refusal::OtherHost(named));
        }
        if named.is_ipv4() != speaker.is_ipv4() {
            return Err(Refusal::OtherFamily(named));
        }
        if port.get() < self.lowest_port {
            return Err(Refusal::PrivilegedPort(port.get()));
        }
        if self.refused_ports.iter().any(|range| range.contains(port.get())) {
            return Err(Refusal::ListedPort(port.get()));
        }
        Ok(())
    }

    fn is_loose(&self, speaker: IpAddr) -> bool {
        self.loose.iter().any(|network| network.contains(speaker))
    }
}

/// Why an announced endpoint gets no hole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    OtherHost(IpAddr),
    /// Allowed to differ, but the two hosts could not talk to each other.
    OtherFamily(IpAddr),
    PrivilegedPort(u16),
    /// The configuration names it.
    ListedPort(u16),
    AfterEpsvAll,
    /// The connection was forgotten for want of space and has come back, or something of it was
    /// lost for that and has not.
    Unwitnessed,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherHost(named) => {
                write!(f, "names another host {named}: not opened; see loose")
            }
            Self::OtherFamily(named) => {
                write!(f, "names {named}, of the other address family: not opened")
            }
            Self::PrivilegedPort(port) => {
                write!(f, "names the privileged port {port}: not opened")
            }
            Self::ListedPort(port) => {
                write!(f, "names the port {port}: not opened; see refused_ports")
            }
            Self::AfterEpsvAll => f.write_str("comes after EPSV ALL: not opened"),
            Self::Unwitnessed => f.write_str(
                "comes on a connection that was forgotten for want of space, or of which something \
                 was lost: not opened; see max_connections",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn port(number: u16) -> NonZeroU16 {
        NonZeroU16::new(number).unwrap()
    }

    #[test]
    fn a_host_may_name_itself_and_no_other() {
        let policy = Policy::default();
        assert_eq!(policy.admit(ip("192.0.2.1"), ip("192.0.2.1"), port(1024)), Ok(()));
        assert_eq!(
            policy.admit(ip("192.0.2.1"), ip("192.0.2.2"), port(4000)),
            Err(Refusal::OtherHost(ip("192.0.2.2")))
        );
    }

    #[test]
    fn a_loose_host_may_name_another_of_its_family() {
        let policy = Policy { loose: vec!["192.0.2.0/24".parse().unwrap()], ..Policy::default() };
        assert_eq!(policy.admit(ip("192.0.2.1"), ip("198.51.100.1"), port(4000)), Ok(()));
        assert_eq!(
            policy.admit(ip("192.0.2.1"), ip("2001:db8::1"), port(4000)),
            Err(Refusal::OtherFamily(ip("2001:db8::1")))
        );
        assert_eq!(
            policy.admit(ip("203.0.113.1"), ip("198.51.100.1"), port(4000)),
            Err(Refusal::OtherHost(ip("198.51.100.1")))
        );
    }

    #[test]
    fn privileged_ports_are_refused_even_to_a_loose_host() {
        let policy = Policy { loose: vec!["0.0.0.0/0".parse().unwrap()], ..Policy::default() };
        for number in [1, 21, 22, 1023] {
            assert_eq!(
                policy.admit(ip("192.0.2.1"), ip("192.0.2.1"), port(number)),
                Err(Refusal::PrivilegedPort(number))
            );
        }
    }

    #[test]
    fn ports_of_the_list_are_refused() {
        let refused_ports = vec!["3306".parse().unwrap(), "6000-6063".parse().unwrap()];
        let policy = Policy { refused_ports, ..Policy::default() };
        let host = ip("192.0.2.1");
        for number in [3306, 6000, 6063] {
            let refusal = Err(Refusal::ListedPort(number));
            assert_eq!(policy.admit(host, host, port(number)), refusal);
        }
        assert_eq!(policy.admit(host, host, port(6064)), Ok(()));
    }

    #[test]
    fn networks_are_read_in_both_families_and_do_not_mix_them() {
        let all_of_six: Network = "::/0".parse().unwrap();
        assert!(all_of_six.contains(ip("2001:db8::1")) && !all_of_six.contains(ip("192.0.2.1")));
        let host: Network = "192.0.2.9".parse().unwrap();
        assert!(host.contains(ip("192.0.2.9")) && !host.contains(ip("192.0.2.8")));
        for wrong in ["", "192.0.2.0/33", "192.0.2.0/-1", "2001:db8::/129", "192.0.2/24", "a/8"] {
            let error = wrong.parse::<Network>().unwrap_err().to_string();
            assert!(error.contains("wanted e.g. 192.0.2.0/24"), "{error}");
        }
    }
}

//! `-s` and `-d`: addresses, prefixes, masks, and lists of them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use firewall_common::addr::{Addr, Family};

use super::{
    lines::Word,
    values::{Parsed, list, number},
};
use crate::rules::{ast::Network, problem::Problem, services::Services};

/// `192.0.2.1`, `192.0.2.0/24`, `192.0.2.0/255.255.255.0`, with commas between.
/// A host's name stands for all its addresses.
pub(super) fn networks(
    word: &Word,
    family: Family,
    services: &dyn Services,
) -> Parsed<Vec<Network>> {
    let mut networks = Vec::new();
    for (text, span) in list(word) {
        let named = named(text, family, services).map_err(|problem| (span, problem))?;
        networks.extend(named);
    }
    Ok(networks)
}

/// The networks that an address or a name with or without mask stands for.
fn named(text: &str, family: Family, services: &dyn Services) -> Result<Vec<Network>, Problem> {
    let (name, mask) = match text.split_once('/') {
        Some((name, mask)) => (name, Some(mask)),
        None => (text, None),
    };
    if !looks_like_a_name(name) || name.parse::<IpAddr>().is_ok() {
        return Ok(vec![network(text, family)?]);
    }
    let mask = match mask {
        Some(mask) => parse_mask(mask, family)?,
        None => prefix_mask(bits(family), family),
    };
    let addresses = services.addresses(name, family).map_err(|why| {
        let this = match family {
            Family::Ipv4 => "IPv4",
            Family::Ipv6 => "IPv6",
        };
        Problem::new(format!("the host '{name}' has no {this} address: {why}"))
            .advise("write its address, or see that the name can be looked up")
    })?;
    let mut networks: Vec<Network> = Vec::new();
    for address in addresses {
        let network = Network::new(address, mask);
        if !networks.contains(&network) {
            networks.push(network);
        }
    }
    Ok(networks)
}

/// One network, as `--ctorigsrc` takes it.
pub(super) fn network_of(word: &Word, family: Family) -> Parsed<Network> {
    network(&word.text, family).map_err(|problem| (word.span(), problem))
}

/// `192.0.2.1-192.0.2.9`, or one address.
pub(super) fn range(word: &Word, family: Family) -> Parsed<(IpAddr, IpAddr)> {
    let (first, last) = word.text.split_once('-').unwrap_or((&word.text, &word.text));
    let one = |text| parse_address(text, family).map_err(|problem| (word.span(), problem));
    let (first, last) = (one(first)?, one(last)?);
    if first > last {
        let problem = Problem::new(format!("the range {} is empty", word.text));
        return Err((word.span(), problem.advise(format!("write {last}-{first}"))));
    }
    Ok((first, last))
}

fn network(text: &str, family: Family) -> Result<Network, Problem> {
    let (address, mask) = match text.split_once('/') {
        Some((address, mask)) => (address, Some(mask)),
        None => (text, None),
    };
    let address = parse_address(address, family)?;
    let mask = match mask {
        Some(mask) => parse_mask(mask, family)?,
        None => prefix_mask(bits(family), family),
    };
    Ok(Network::new(address, mask))
}

const fn bits(family: Family) -> u8 {
    match family {
        Family::Ipv4 => 32,
        Family::Ipv6 => 128,
    }
}

fn prefix_mask(length: u8, family: Family) -> IpAddr {
    match Addr::mask(family, length).to_ip() {
        IpAddr::V6(mask) if family == Family::Ipv4 => {
            let [.., a, b, c, d] = mask.octets();
            Ipv4Addr::new(a, b, c, d).into()
        }
        mask => mask,
    }
}

fn parse_address(text: &str, family: Family) -> Result<IpAddr, Problem> {
    match family {
        Family::Ipv4 => partial_v4(text).map(IpAddr::V4),
        Family::Ipv6 => text.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
    }
    .ok_or_else(|| bad_address(text, family))
}

/// Up to four octets; missing ones are zero, so that `10/8` and `0/0` work.
fn partial_v4(text: &str) -> Option<Ipv4Addr> {
    let mut octets = [0; 4];
    let mut pieces = text.split('.');
    let mut count = 0;
    for (octet, piece) in octets.iter_mut().zip(pieces.by_ref()) {
        let has_leading_zero = piece.len() > 1 && piece.starts_with('0');
        let value = number(piece).filter(|_| !piece.is_empty() && !has_leading_zero)?;
        *octet = u8::try_from(value).ok()?;
        count += 1;
    }
    (count > 0 && pieces.next().is_none()).then(|| Ipv4Addr::from(octets))
}

fn bad_address(text: &str, family: Family) -> Problem {
    let (this, other, option) = match family {
        Family::Ipv4 => ("IPv4", "IPv6", "give it to ip6tables, or in a file read with --rules6"),
        Family::Ipv6 => ("IPv6", "IPv4", "give it to iptables, or in a file read with --rules"),
    };
    if let Ok(address) = text.parse::<IpAddr>()
        && address.is_ipv6() == (family == Family::Ipv4)
    {
        return Problem::new(format!("'{text}' is an {other} address among {this} rules"))
            .advise(option);
    }
    if looks_like_a_name(text) {
        return Problem::new(format!("'{text}' is a host name"))
            .advise("write its address: names are looked up behind -s and -d only");
    }
    Problem::new(format!("'{text}' is not an {this} address")).advise(match family {
        Family::Ipv4 => "write four numbers from 0 to 255, as in 192.0.2.1",
        Family::Ipv6 => "write it as in 2001:db8::1",
    })
}

fn looks_like_a_name(text: &str) -> bool {
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    text.contains(|c: char| c.is_ascii_alphabetic()) && text.chars().all(is_name)
}

fn parse_mask(text: &str, family: Family) -> Result<IpAddr, Problem> {
    if let Some(length) = number(text).filter(|_| !text.is_empty()) {
        let length = u8::try_from(length).ok().filter(|length| *length <= bits(family));
        return length
            .map(|length| prefix_mask(length, family))
            .ok_or_else(|| too_long(text, family));
    }
    match (family, text.parse::<IpAddr>()) {
        (Family::Ipv4, Ok(mask @ IpAddr::V4(_))) | (Family::Ipv6, Ok(mask @ IpAddr::V6(_))) => {
            Ok(mask)
        }
        _ => Err(Problem::new(format!("'{text}' is no mask")).advise(match family {
            Family::Ipv4 => "write a length as /24, or a mask as /255.255.255.0",
            Family::Ipv6 => "write a length as /64",
        })),
    }
}

fn too_long(text: &str, family: Family) -> Problem {
    let (name, bits) = match family {
        Family::Ipv4 => ("IPv4", 32),
        Family::Ipv6 => ("IPv6", 128),
    };
    Problem::new(format!("/{text} is too many bits: an {name} address has {bits}"))
        .advise(format!("write a length from /0 to /{bits}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(text: &str) -> Result<(String, String), String> {
        let network = network(text, Family::Ipv4).map_err(|problem| problem.to_string())?;
        Ok((network.address.to_string(), network.mask.to_string()))
    }

    fn pair(address: &str, mask: &str) -> Result<(String, String), String> {
        Ok((address.into(), mask.into()))
    }

    #[test]
    fn lengths_masks_and_partial_addresses_are_understood() {
        assert_eq!(v4("192.0.2.77/24"), pair("192.0.2.0", "255.255.255.0"));
        assert_eq!(v4("192.0.2.0/255.255.255.0"), pair("192.0.2.0", "255.255.255.0"));
        assert_eq!(v4("10/8"), pair("10.0.0.0", "255.0.0.0"));
        assert_eq!(v4("0/0"), pair("0.0.0.0", "0.0.0.0"));
        assert_eq!(v4("10.9.8.7/255.0.255.0"), pair("10.0.8.0", "255.0.255.0"));
    }

    #[test]
    fn what_is_no_address_says_what_it_is() {
        assert!(v4("192.0.2.1/33").unwrap_err().starts_with("/33 is too many bits"));
        assert!(v4("2001:db8::1").unwrap_err().contains("is an IPv6 address among IPv4 rules"));
        assert!(v4("ftp.example.com").unwrap_err().contains("is a host name"));
        assert!(v4("192.0.2.256").unwrap_err().contains("is not an IPv4 address"));
        assert!(v4("192.0.2.1.5").unwrap_err().contains("is not an IPv4 address"));
        assert!(v4("").is_err() && v4("/24").is_err() && v4("10.0.0.0/").is_err());
    }

    #[test]
    fn ipv6_has_its_own_lengths() {
        let net = network("2001:db8::5/32", Family::Ipv6).unwrap();
        assert_eq!(net.address.to_string(), "2001:db8::");
        assert_eq!(net.prefix_length(), Some(32));
        let mapped = network("::ffff:192.0.2.1", Family::Ipv6).unwrap();
        assert!(mapped.is_host() && mapped.address.is_ipv6());
        assert!(network("2001:db8::/129", Family::Ipv6).is_err());
        assert!(network("192.0.2.1", Family::Ipv6).is_err());
    }
}

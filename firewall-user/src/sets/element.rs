//! Elements: `192.0.2.0/24,tcp:80`, from text to the keys that they stand for, and back.

use std::{
    fmt::Write as _,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use firewall_common::{
    addr::{Addr, Family},
    set::{EntryKey, HOST, Kind, SetHeader, prefix_of},
};

use super::{
    header::{bits, family, kind},
    names,
    refusal::Refusal,
    words::Word,
};
use crate::rules::{
    BuiltinServices, IcmpType, Services as _, TransportProtocol, names as rule_names,
};

/// What one text of an element stands for: addresses times ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Element {
    addresses: Addresses,
    protocol: u8,
    /// Both ends.
    ports: (u16, u16),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Addresses {
    /// The set has none.
    None,
    Network(IpAddr, u8),
    /// Both ends, of IPv4.
    Range(u32, u32),
}

impl Element {
    /// # Errors
    /// What the set cannot hold, by ipset's words.
    pub fn read(word: Word<'_>, header: &SetHeader) -> Result<Self, Refusal> {
        let kind = kind(header);
        let mut parts = word.text.split(',');
        let first = parts.next().unwrap_or_default();
        let second = parts.next();
        let name = names::kind_name(kind);
        if second.is_some() && !kind.has_both() {
            let message =
                format!("Elem separator in {}, but settype {name} supports none.", word.text);
            return Err(Refusal::syntax(word.column, message));
        }
        if parts.next().is_some() {
            let message = format!("Elem separator in {}: too many parts.", word.text);
            return Err(Refusal::syntax(word.column, message));
        }
        let at = |text| Word { text, ..word };
        let none = Self { addresses: Addresses::None, protocol: 0, ports: (0, 0) };
        if kind == Kind::BitmapPort {
            let (_, ports) = ports(at(first))?;
            if ports.0 < header.first || header.last < ports.1 {
                return Err(Refusal::new("Element is out of the range of the set"));
            }
            return Ok(Self { ports, ..none });
        }
        let addresses = addresses(at(first), header)?;
        match second {
            Some(text) => {
                let (protocol, ports) = ports(at(text))?;
                Ok(Self { addresses, protocol, ports })
            }
            None if kind.has_both() => {
                let message = format!("Second element is missing from {}.", word.text);
                Err(Refusal::syntax(word.column, message))
            }
            None => Ok(Self { addresses, ..none }),
        }
    }

    /// Calls `visit` for each key that it stands for, until that fails.
    ///
    /// # Errors
    /// That failure.
    pub fn each<E>(
        &self,
        header: &SetHeader,
        mut visit: impl FnMut(EntryKey) -> Result<(), E>,
    ) -> Result<(), E> {
        let with_ports = |key: EntryKey, visit: &mut dyn FnMut(EntryKey) -> Result<(), E>| {
            let (first, last) = self.ports;
            let mut each =
                (first..=last).map(|port| EntryKey { port, protocol: self.protocol, ..key });
            each.try_for_each(visit)
        };
        match self.addresses {
            Addresses::None => with_ports(EntryKey::default(), &mut visit),
            Addresses::Network(address, length) => with_ports(network(address, length), &mut visit),
            Addresses::Range(first, last) if kind(header).has_networks() => {
                networks(first, last, |address, length| {
                    with_ports(network(IpAddr::V4(address), length), &mut visit)
                })
            }
            Addresses::Range(first, last) => {
                let length = if header.netmask == 0 { 32 } else { header.netmask };
                let step = 1u64 << (32 - u32::from(length));
                let mut at = u64::from(first) & !(step - 1);
                while at <= u64::from(last) {
                    let address = IpAddr::V4(Ipv4Addr::from_bits(at as u32));
                    with_ports(network(address, length), &mut visit)?;
                    at += step;
                }
                Ok(())
            }
        }
    }

    /// Whether it is one address, for which `test` looks into networks, too.
    pub(super) fn is_host(&self) -> bool {
        matches!(self.addresses, Addresses::Network(address, length)
            if length == if address.is_ipv4() { 32 } else { 128 })
    }
}

/// The key of a network.
fn network(address: IpAddr, length: u8) -> EntryKey {
    let family = if address.is_ipv4() { Family::Ipv4 } else { Family::Ipv6 };
    let prefix = prefix_of(family, length);
    let address = Addr::from(address).and(Addr::mask(family, length));
    EntryKey { address, prefix, ..EntryKey::default() }
}

/// The networks that a range consists of, the fewest.
fn networks<E>(
    first: u32,
    last: u32,
    mut visit: impl FnMut(Ipv4Addr, u8) -> Result<(), E>,
) -> Result<(), E> {
    let mut at = u64::from(first);
    let end = u64::from(last) + 1;
    while at < end {
        let aligned = if at == 0 { 32 } else { at.trailing_zeros().min(32) };
        let fits = (end - at).ilog2();
        // There is no network of length 0.
        let size = aligned.min(fits).min(31);
        visit(Ipv4Addr::from_bits(at as u32), 32 - size as u8)?;
        at += 1 << size;
    }
    Ok(())
}

fn addresses(word: Word<'_>, header: &SetHeader) -> Result<Addresses, Refusal> {
    let text = word.text;
    let wanted = family(header);
    if let Some((first, last)) = text.split_once('-')
        && wanted == Family::Ipv4
    {
        let (first, last) = (ipv4(word, first)?, ipv4(word, last)?);
        if kind(header) == Kind::HashIp && first.min(last) == 0 {
            return Err(null());
        }
        return Ok(Addresses::Range(first.min(last), first.max(last)));
    }
    let (address, length) = match text.split_once('/') {
        Some((address, length)) => (address, Some(length)),
        None => (text, None),
    };
    let address = address_of(word, address, wanted)?;
    let length = match length {
        None => bits(header),
        Some(length) => {
            let read = length.parse::<u8>().ok().filter(|length| *length <= bits(header));
            read.ok_or_else(|| {
                let message = format!("'{length}' is out of range 0-{}", bits(header));
                Refusal::syntax(word.column, message)
            })?
        }
    };
    if length == 0 {
        return Err(bad_length());
    }
    if kind(header).has_networks() {
        return Ok(Addresses::Network(address, length));
    }
    hosts(address, length, header)
}

/// Of a set that holds single addresses, or as many bits of them as its netmask has.
fn hosts(address: IpAddr, length: u8, header: &SetHeader) -> Result<Addresses, Refusal> {
    let is_null = address.is_unspecified();
    if kind(header) == Kind::HashIp && is_null {
        return Err(null());
    }
    match address {
        IpAddr::V4(address) if length < 32 => {
            let size = 32 - u32::from(length);
            let first = address.to_bits() >> size << size;
            Ok(Addresses::Range(first, first | ((1u64 << size) - 1) as u32))
        }
        IpAddr::V6(_) if length < 128 => Err(bad_length()),
        _ if header.netmask != 0 => Ok(Addresses::Network(address, header.netmask)),
        _ => Ok(Addresses::Network(address, length)),
    }
}

fn null() -> Refusal {
    Refusal::new("Null-valued element, cannot be stored in a hash type of set")
}

fn bad_length() -> Refusal {
    Refusal::new("The value of the CIDR parameter of the IP address is invalid")
}

fn ipv4(word: Word<'_>, text: &str) -> Result<u32, Refusal> {
    match address_of(word, text, Family::Ipv4)? {
        IpAddr::V4(address) => Ok(address.to_bits()),
        IpAddr::V6(_) => Err(no_address(word, text, Family::Ipv4)),
    }
}

fn address_of(word: Word<'_>, text: &str, family: Family) -> Result<IpAddr, Refusal> {
    let read = match family {
        Family::Ipv4 => text.parse::<Ipv4Addr>().map(IpAddr::V4),
        Family::Ipv6 => text.parse::<Ipv6Addr>().map(IpAddr::V6),
    };
    // Packets with such an address are dropped before any rule.
    let is_mapped =
        |address: &IpAddr| matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some());
    read.ok().filter(|address| !is_mapped(address)).ok_or_else(|| no_address(word, text, family))
}

fn no_address(word: Word<'_>, text: &str, family: Family) -> Refusal {
    let family = if family == Family::Ipv4 { "IPv4" } else { "IPv6" };
    Refusal::syntax(
        word.column,
        format!("cannot parse {text}: resolving to {family} address failed"),
    )
}

/// `80`, `http`, `tcp:80-90`, `icmp:8/0`, `icmp:echo-request`, `gre:0`: the protocol and
/// both ends.
fn ports(word: Word<'_>) -> Result<(u8, (u16, u16)), Refusal> {
    let (protocol, text) = match word.text.split_once(':') {
        Some((protocol, text)) => {
            let number = names::protocol_of(protocol).ok_or_else(|| {
                let message = format!("cannot parse '{protocol}' as a protocol");
                Refusal::syntax(word.column, message)
            })?;
            (number, text)
        }
        None => (firewall_common::flow::protocol::TCP, word.text),
    };
    if let Some(family) = names::icmp_family(protocol) {
        let value = icmp(word, text, family)?;
        return Ok((protocol, (value, value)));
    }
    if !names::has_ports(protocol) {
        if text != "0" {
            let name = names::protocol_text(protocol);
            let message = format!("Protocol {name} can be used with pseudo port value 0 only.");
            return Err(Refusal::syntax(word.column, message));
        }
        return Ok((protocol, (0, 0)));
    }
    // A name may hold a dash: ftp-data.
    if let Ok(port) = port(word, text, protocol) {
        return Ok((protocol, (port, port)));
    }
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (port(word, first, protocol)?, port(word, last, protocol)?);
    Ok((protocol, (first.min(last), first.max(last))))
}

fn port(word: Word<'_>, text: &str, protocol: u8) -> Result<u16, Refusal> {
    let named = || {
        let transport = TransportProtocol::of(protocol)?;
        BuiltinServices.port(text, transport)
    };
    let number = text.parse::<u16>().ok().filter(|_| !text.starts_with('+'));
    number.or_else(named).ok_or_else(|| {
        let message = format!("cannot parse '{text}' as a {} port", names::protocol_text(protocol));
        Refusal::syntax(word.column, message)
    })
}

/// Type and code in one number.
fn icmp(word: Word<'_>, text: &str, family: Family) -> Result<u16, Refusal> {
    let number = |text: &str| text.parse::<u8>().ok();
    let given = match text.split_once('/') {
        Some((kind, code)) => number(kind).zip(number(code)),
        None => {
            let named = rule_names::icmp_types(family).iter().find(|(name, _)| *name == text);
            named.and_then(|(_, kind)| match kind {
                IcmpType::Type(kind) => Some((*kind, 0)),
                IcmpType::Code(kind, code) => Some((*kind, *code)),
                IcmpType::Any => None,
            })
        }
    };
    let (kind, code) = given.ok_or_else(|| {
        Refusal::syntax(word.column, format!("cannot parse '{text}' as an ICMP type/code"))
    })?;
    Ok(u16::from(kind) << 8 | u16::from(code))
}

/// The key of an element as text; `member` names the set of a slot.
pub(super) fn write(
    out: &mut String,
    key: &EntryKey,
    header: &SetHeader,
    member: &dyn Fn(u32) -> String,
) {
    let kind = kind(header);
    match kind {
        Kind::ListSet => {
            let [.., slot] = key.address.words;
            *out += &member(slot);
            return;
        }
        // Writing to a string cannot fail.
        Kind::BitmapPort => drop(write!(out, "{}", key.port)),
        _ => {
            let _ = write!(out, "{}", key.address.to_ip());
            if kind.has_networks() && key.prefix != HOST {
                let length = key.prefix - prefix_of(family(header), 0);
                let _ = write!(out, "/{length}");
            }
        }
    }
    if kind.has_both() {
        out.push(',');
        write_port(out, key);
    }
}

fn write_port(out: &mut String, key: &EntryKey) {
    let (protocol, port) = (key.protocol, key.port);
    let _ = write!(out, "{}:", names::protocol_text(protocol));
    let Some(family) = names::icmp_family(protocol) else {
        let _ = write!(out, "{port}");
        return;
    };
    let [kind, code] = port.to_be_bytes();
    let named = rule_names::icmp_types(family).iter().find(|(_, known)| match known {
        IcmpType::Type(known) => *known == kind && code == 0,
        IcmpType::Code(known, of) => (*known, *of) == (kind, code),
        IcmpType::Any => false,
    });
    let _ = match named {
        Some((name, _)) => write!(out, "{name}"),
        None => write!(out, "{kind}/{code}"),
    };
}

//! What a set is, from the options of `create`, and back.

use std::fmt::Write as _;

use bytemuck::Zeroable as _;
use firewall_common::set::{HOST, Kind, SetHeader, prefix_of, set_flag};

use super::{
    command::{MAX_TIMEOUT, number},
    names::kind_name,
    refusal::Refusal,
    words::Word,
};
use firewall_common::addr::Family;

const HASHSIZE: u32 = 1_024;
const MAXELEM: u32 = 65_536;
/// More than any machine has memory for.
const MOST_ELEMENTS: u64 = 1 << 26;
/// Of a list:set; it has no meaning any more.
const SIZE: u32 = 8;

/// The family of a set's addresses; for ports and lists it makes no difference.
pub(super) const fn family(header: &SetHeader) -> Family {
    if header.family == 6 { Family::Ipv6 } else { Family::Ipv4 }
}

/// As many bits as an address of the set has.
pub(super) const fn bits(header: &SetHeader) -> u8 {
    match family(header) {
        Family::Ipv4 => 32,
        Family::Ipv6 => 128,
    }
}

pub(super) fn kind(header: &SetHeader) -> Kind {
    Kind::from_byte(header.kind).unwrap_or(Kind::HashIp)
}

/// # Errors
/// An option that the type does not have, or a value that it does not take.
pub(super) fn read(kind: Kind, words: &[Word<'_>]) -> Result<SetHeader, Refusal> {
    let mut header = SetHeader::zeroed();
    header.kind = kind as u8;
    header.family = if kind.has_address() { 4 } else { 0 };
    header.hashsize = if kind == Kind::ListSet { SIZE } else { HASHSIZE };
    header.maxelem = MAXELEM;
    let mut has_range = false;
    let mut rest = words.iter().copied();
    while let Some(option) = rest.next() {
        let mut value = || {
            let message = format!("Missing mandatory argument of option `{}'", option.text);
            rest.next().ok_or_else(|| Refusal::usage(option.column, message))
        };
        match option.text {
            "timeout" => {
                header.timeout = number(value()?, 0, MAX_TIMEOUT.into())? as u32;
                header.flags |= set_flag::TIMEOUT;
            }
            "counters" => header.flags |= set_flag::COUNTERS,
            "comment" => header.flags |= set_flag::COMMENT,
            "family" if kind.has_address() => header.family = family_of(value()?)?,
            "-4" if kind.has_address() => header.family = 4,
            "-6" if kind.has_address() => header.family = 6,
            "hashsize" if kind.has_address() => {
                let wanted = number(value()?, 1, MOST_ELEMENTS)? as u32;
                header.hashsize = wanted.next_power_of_two().max(64);
            }
            "maxelem" if kind.has_address() => {
                header.maxelem = number(value()?, 1, MOST_ELEMENTS)? as u32;
            }
            "forceadd" if kind.has_address() => header.flags |= set_flag::FORCEADD,
            // Of the kernel's tables; here they have no meaning.
            "bucketsize" if kind.has_address() => drop(number(value()?, 2, 12)?),
            "initval" if kind.has_address() => drop(number(value()?, 0, u32::MAX.into())?),
            "netmask" if kind == Kind::HashIp => {
                header.netmask = number(value()?, 1, 128)? as u8;
            }
            "range" if kind == Kind::BitmapPort => {
                (header.first, header.last) = port_range(value()?)?;
                has_range = true;
            }
            "size" if kind == Kind::ListSet => {
                header.hashsize = number(value()?, 0, u32::MAX.into())? as u32;
            }
            "skbinfo" | "bitmask" | "markmask" => {
                let message = format!("{} is not supported", option.text);
                return Err(Refusal::syntax(option.column, message)
                    .advise("take it out: nothing here would read it"));
            }
            other => {
                return Err(Refusal::usage(option.column, format!("Unknown argument: `{other}'")));
            }
        }
    }
    if kind == Kind::BitmapPort && !has_range {
        return Err(Refusal::usage(0, "Mandatory option `range' is missing"));
    }
    finish(kind, header)
}

/// What follows from the options together.
fn finish(kind: Kind, mut header: SetHeader) -> Result<SetHeader, Refusal> {
    if header.netmask > bits(&header) {
        return Err(Refusal::new("The value of the netmask parameter is invalid"));
    }
    if header.netmask == bits(&header) {
        header.netmask = 0;
    }
    match kind {
        Kind::HashIp if header.netmask != 0 => {
            header.add_prefix(prefix_of(family(&header), header.netmask));
        }
        Kind::HashIp | Kind::HashIpPort => header.add_prefix(HOST),
        // Ports stand under no address.
        Kind::BitmapPort => {
            header.add_prefix(0);
            header.maxelem = u32::from(header.last - header.first) + 1;
        }
        Kind::ListSet => header.maxelem = firewall_common::set::MEMBERS as u32,
        Kind::HashNet | Kind::HashNetPort => {}
    }
    Ok(header)
}

fn family_of(word: Word<'_>) -> Result<u8, Refusal> {
    match word.text {
        "inet" | "ipv4" | "-4" => Ok(4),
        "inet6" | "ipv6" | "-6" => Ok(6),
        other => Err(Refusal::syntax(word.column, format!("unknown INET family {other}"))),
    }
}

fn port_range(word: Word<'_>) -> Result<(u16, u16), Refusal> {
    let text = word.text.rsplit_once(':').map_or(word.text, |(_, ports)| ports);
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let port = |text: &str| {
        let message =
            || Refusal::syntax(word.column, format!("'{text}' is invalid as port number"));
        text.parse::<u16>().map_err(|_| message())
    };
    let (first, last) = (port(first)?, port(last)?);
    Ok((first.min(last), first.max(last)))
}

/// The options behind `create NAME TYPE `, in the order of ipset.
pub(super) fn text(header: &SetHeader) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    match kind(header) {
        Kind::BitmapPort => drop(write!(text, "range {}-{}", header.first, header.last)),
        Kind::ListSet => drop(write!(text, "size {}", header.hashsize)),
        _ => {
            let family = if header.family == 6 { "inet6" } else { "inet" };
            let SetHeader { hashsize, maxelem, .. } = header;
            let _ = write!(text, "family {family} hashsize {hashsize} maxelem {maxelem}");
        }
    }
    if header.netmask != 0 {
        let _ = write!(text, " netmask {}", header.netmask);
    }
    if header.has(set_flag::TIMEOUT) {
        let _ = write!(text, " timeout {}", header.timeout);
    }
    for (flag, word) in [
        (set_flag::COUNTERS, " counters"),
        (set_flag::COMMENT, " comment"),
        (set_flag::FORCEADD, " forceadd"),
    ] {
        if header.has(flag) {
            text += word;
        }
    }
    text
}

/// The line that makes such a set.
pub(super) fn create_line(name: &str, header: &SetHeader) -> String {
    format!("create {name} {} {}", kind_name(kind(header)), text(header))
}

/// Whether `create -exist` finds what it wants: the same type and options.
pub(super) fn is_same(one: &SetHeader, other: &SetHeader) -> bool {
    let plain = |header: &SetHeader| SetHeader {
        prefixes: [0; 3],
        members: [0; firewall_common::set::MEMBERS],
        hashsize: 0,
        ..*header
    };
    plain(one) == plain(other)
}

/// The header of the same set, empty.
pub(super) fn emptied(header: &SetHeader) -> SetHeader {
    let mut empty =
        SetHeader { prefixes: [0; 3], members: [0; firewall_common::set::MEMBERS], ..*header };
    if !kind(header).has_networks() {
        empty.prefixes = header.prefixes;
    }
    empty
}

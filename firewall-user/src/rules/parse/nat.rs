//! The options of the targets of table nat.

use std::net::IpAddr;

use firewall_common::{
    addr::Family,
    flow::protocol,
    nat::{
        Kind,
        order::flag::{PERSISTENT, RANDOM, RANDOM_FULLY},
    },
    rule::PortRange,
};

use super::{
    Context, address,
    items::Item,
    lines::Word,
    matches::Protocol,
    options::Opt,
    values::{self, Parsed, wrong},
};
use crate::rules::{
    ast::TransportProtocol, nat::Nat, problem::Problem, services::Services, source::Span,
};

/// An option of one of these targets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::rules) enum Field {
    ToSource,
    ToDestination,
    ToPorts,
    /// Of NETMAP, and short for the one before that the target has.
    To,
    Random,
    RandomFully,
    Persistent,
}

impl Field {
    /// The targets that it belongs to.
    pub(super) const fn targets(self) -> &'static [&'static str] {
        match self {
            Self::ToSource => &["SNAT"],
            Self::ToDestination => &["DNAT"],
            Self::ToPorts => &["MASQUERADE", "REDIRECT"],
            Self::To => &["NETMAP", "SNAT", "DNAT", "MASQUERADE", "REDIRECT"],
            Self::Random => &["SNAT", "DNAT", "MASQUERADE", "REDIRECT"],
            Self::RandomFully => &["SNAT", "MASQUERADE"],
            Self::Persistent => &["SNAT", "DNAT"],
        }
    }

    /// The bit of a word about the choice; none for what is chosen from.
    const fn choice(self) -> u8 {
        match self {
            Self::Random => RANDOM,
            Self::RandomFully => RANDOM_FULLY,
            Self::Persistent => PERSISTENT,
            Self::ToSource | Self::ToDestination | Self::ToPorts | Self::To => 0,
        }
    }
}

/// What the options of a target of this kind mean. Those of other targets are reported
/// elsewhere, and are enough to report.
pub(super) fn read(
    context: &Context<'_, '_>,
    kind: Kind,
    span: Span,
    items: &[Item],
    protocol: Protocol,
) -> Parsed<Nat> {
    let mut nat = Nat::new(kind);
    let mut is_told = false;
    for item in items {
        let Opt::Nat(field) = item.opt else { continue };
        if !field.targets().contains(&nat.name()) {
            is_told |= field.choice() == 0;
            continue;
        }
        let choice = field.choice();
        if is_told && choice == 0 || nat.choice & choice != 0 {
            let problem = Problem::new(format!("{} is given twice", item.name));
            return Err((item.whole_span(), problem.advise("write one of them")));
        }
        nat.choice |= choice;
        if choice == 0 {
            is_told = true;
            wish(context, &mut nat, item)?;
            check_protocol(&nat, item, protocol, context.family)?;
        }
    }
    let option = match kind {
        Kind::Source => "--to-source ADDRESS",
        Kind::Destination => "--to-destination ADDRESS",
        Kind::Netmap => "--to NETWORK",
        Kind::Masquerade | Kind::Redirect => return Ok(nat),
    };
    if !is_told {
        let problem = Problem::new(format!("{} does nothing by itself", nat.name()));
        return Err((span, problem.advise(format!("write {option} behind it"))));
    }
    Ok(nat)
}

/// The argument of the option that says what becomes of the packet.
fn wish(context: &Context<'_, '_>, nat: &mut Nat, item: &Item) -> Parsed<()> {
    let (word, family) = (&item.args[0], context.family);
    match nat.kind {
        Kind::Netmap => nat.addresses = Some(net(word, family)?),
        Kind::Masquerade | Kind::Redirect => {
            let text = word.text.as_str();
            if text.contains('/') {
                let problem = Problem::new(format!("'{text}' shifts ports, which DNAT alone does"));
                return wrong(word, problem.advise("write a rule for each port"));
            }
            nat.ports = Some(ports(word, text, context.services)?);
        }
        Kind::Source | Kind::Destination => {
            let (addresses, port) = halves(word, family)?;
            if let Some(port) = port {
                (nat.ports, nat.base) = shifted(word, nat.kind, port, context.services)?;
            }
            if !addresses.is_empty() || port.is_none() {
                let part = Word { text: addresses.to_owned(), ..word.clone() };
                nat.addresses = Some(range(&part, family)?);
            }
        }
    }
    Ok(())
}

/// `192.0.2.1-192.0.2.9`: every address is written whole.
fn range(word: &Word, family: Family) -> Parsed<(IpAddr, IpAddr)> {
    let pieces = word.text.split('-');
    let is_short = |piece: &str| family == Family::Ipv4 && piece.split('.').count() != 4;
    match pieces.into_iter().find(|piece| is_short(piece)) {
        Some(short)
            if !short.is_empty()
                && short.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') =>
        {
            let problem = Problem::new(format!("'{short}' is not an IPv4 address"));
            wrong(word, problem.advise("write four numbers from 0 to 255, as in 192.0.2.1"))
        }
        _ => address::range(word, family),
    }
}

/// A prefix and its mask, which has no holes.
fn net(word: &Word, family: Family) -> Parsed<(IpAddr, IpAddr)> {
    let network = address::network_of(word, family)?;
    match network.prefix_length() {
        Some(_) => Ok((network.address, network.mask)),
        None => {
            let problem = Problem::new(format!("the mask of {} has holes", word.text));
            wrong(word, problem.advise("write a length behind the address, as in 192.0.2.0/24"))
        }
    }
}

/// What stands before the colon, and the ports behind it: `192.0.2.1:80`,
/// `[2001:db8::1]:80`, `:80`.
fn halves(word: &Word, family: Family) -> Parsed<(&str, Option<&str>)> {
    let text = word.text.as_str();
    if family == Family::Ipv4 {
        if text.matches(':').count() > 1 && text.parse::<IpAddr>().is_ok() {
            return Ok((text, None));
        }
        let split = text.split_once(':');
        return Ok(split.map_or((text, None), |(addresses, ports)| (addresses, Some(ports))));
    }
    let Some(inner) = text.strip_prefix('[') else {
        let is_port = text.starts_with(':') && !text.starts_with("::");
        return Ok(if is_port { ("", Some(&text[1..])) } else { (text, None) });
    };
    match inner.split_once(']') {
        Some((addresses, "")) => Ok((addresses, None)),
        Some((addresses, rest)) if rest.starts_with(':') => Ok((addresses, Some(&rest[1..]))),
        _ => {
            let problem = Problem::new(format!("'{text}' is no address with a port"));
            let advice = "write [2001:db8::1]:80, or [2001:db8::1-2001:db8::9]:1000-2000";
            wrong(word, problem.advise(advice))
        }
    }
}

/// The same, or `1000-2000/8080`: 8080 becomes 1000, and those behind it the others.
fn shifted(
    word: &Word,
    kind: Kind,
    text: &str,
    services: &dyn Services,
) -> Parsed<(Option<PortRange>, Option<u16>)> {
    let Some((range, base)) = text.split_once('/') else {
        return Ok((Some(ports(word, text, services)?), None));
    };
    if kind != Kind::Destination {
        let problem = Problem::new(format!("'{text}' shifts ports, which DNAT alone does"));
        return wrong(word, problem.advise("write a rule for each port"));
    }
    let range = ports(word, range, services)?;
    if range.first == range.last {
        let problem = Problem::new(format!("'{text}' shifts one port, not a range of them"));
        return wrong(word, problem.advise("write the port alone, or a range as 1000-2000/8080"));
    }
    match port(word, base, services)? {
        0 => {
            let problem = Problem::new("port 0 becomes no other");
            wrong(word, problem.advise("write 1 to 65535 behind the slash"))
        }
        base => Ok((Some(range), Some(base))),
    }
}

/// `80`, `http`, `1000-2000`.
fn ports(word: &Word, text: &str, services: &dyn Services) -> Parsed<PortRange> {
    if text.contains([':', ',']) {
        let problem = Problem::new(format!("'{text}' is no port or range of ports"));
        return wrong(word, problem.advise("write one as 1000, or a range as 1000-2000"));
    }
    let (first, last) = match text.split_once('-') {
        Some((first, last)) if values::number(first).is_some() => (first, last),
        _ => (text, text),
    };
    let one = |text: &str| port(word, text, services);
    let (first, last) = (one(first)?, one(last)?);
    if first > last {
        let problem = Problem::new(format!("the port range {text} is empty"));
        return wrong(word, problem.advise(format!("write {last}-{first}")));
    }
    Ok(PortRange { first, last })
}

fn port(word: &Word, text: &str, services: &dyn Services) -> Parsed<u16> {
    if text.is_empty() {
        let problem = Problem::new("a port is missing").advise("write a number or a name");
        return wrong(word, problem);
    }
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        let port = values::number(text).and_then(|number| u16::try_from(number).ok());
        let problem = || Problem::new(format!("port {text} is out of range"));
        return port.ok_or_else(|| (word.span(), problem().advise("write 0 to 65535")));
    }
    let named = [TransportProtocol::Tcp, TransportProtocol::Udp, TransportProtocol::Sctp];
    named.into_iter().find_map(|protocol| services.port(text, protocol)).ok_or_else(|| {
        let problem = Problem::new(format!("'{text}' is neither a port number nor a service"));
        (word.span(), problem.advise("write a number from 0 to 65535, or a name of /etc/services"))
    })
}

/// Ports are those of a protocol that has some; identifiers stand for them in ICMP.
fn check_protocol(nat: &Nat, item: &Item, protocol: Protocol, family: Family) -> Parsed<()> {
    const DCCP: u8 = 33;
    let is_known = match protocol {
        Protocol::Only(protocol::TCP | protocol::UDP) | Protocol::Wrong => true,
        Protocol::Only(protocol::ICMP) => family == Family::Ipv4,
        Protocol::Only(_) | Protocol::Any | Protocol::Not => false,
    };
    if nat.ports.is_none() || is_known {
        return Ok(());
    }
    let problem = match protocol {
        Protocol::Only(protocol::SCTP | DCCP) => {
            Problem::new("ports of sctp and dccp are not translated")
                .advise("leave them out: the address is")
        }
        _ => Problem::new("ports need a protocol that has them")
            .advise("add -p tcp or -p udp to the rule"),
    };
    Err((item.value_span(), problem))
}

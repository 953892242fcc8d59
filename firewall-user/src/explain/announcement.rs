//! What the FTP control connections between two hosts have announced: why a data
//! connection was not expected.

use std::{net::SocketAddr, ops::ControlFlow};

use anyhow::Result;
use firewall_common::{
    addr::{Addr, Family},
    conntrack::tcp,
    flow::{Flow, FlowKey, State, Tuple, helper, protocol, status},
    time::Nanos,
};

use super::tracking::endpoints;
use crate::kernel::{
    flows::FlowTables,
    maps::{Maps, SequenceShifts},
};

/// How long an announcement holds.
const LIFETIME: Nanos = Nanos::from_secs(300);
/// The port of control connections that is known without being told.
const FTP: u16 = 21;

/// An FTP control connection, as far as it can be told from the tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Control {
    /// In its original direction: from the client to the server.
    pub tuple: Tuple,
    /// What each of them takes it for, from the client to the server: of a connection that is
    /// not translated the same.
    pub faces: [Tuple; 2],
    pub created: Nanos,
    /// A helper reads it.
    pub is_read: bool,
    pub is_encrypted: bool,
    /// Its text is written anew, so that numbers are shifted.
    pub is_shifted: bool,
    pub last: Option<Announced>,
}

/// What a control connection has announced last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Announced {
    /// The host that was to connect, and where.
    pub src: Addr,
    /// As packets to it come in.
    pub to: (Addr, u16),
    /// Where they are led, which is what was announced.
    pub inside: (Addr, u16),
    pub end: End,
}

/// What became of an announcement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Nobody has used it yet; it was made so long ago.
    Waits(Nanos),
    Used(Nanos),
}

impl End {
    const fn age(self) -> Nanos {
        match self {
            Self::Waits(age) | Self::Used(age) => age,
        }
    }
}

/// Whether it is, or looks like, an open FTP control connection.
pub fn is_control(tuple: &Tuple, flow: &Flow) -> bool {
    tuple.protocol == protocol::TCP
        && !flow.has(status::EXPECTED)
        && (flow.helper == helper::FTP || tuple.dport == FTP)
        && State::from_byte(flow.state).is_some_and(tcp::is_open)
}

impl Control {
    /// A flow for which [`is_control`] holds.
    pub fn of(tuple: Tuple, flow: &Flow) -> Self {
        let (key, _) = FlowKey::of(&tuple);
        Self {
            tuple,
            faces: match flow.is_translated() {
                true => [flow.wire_original(&key), flow.wire_reply(&key).reversed()],
                false => [tuple; 2],
            },
            created: flow.created,
            is_read: flow.helper == helper::FTP,
            is_encrypted: flow.has(status::ENCRYPTED),
            is_shifted: false,
            last: None,
        }
    }

    /// Whether its ends are these two hosts, whichever is which, by the addresses that they
    /// have or by those that one of them knows.
    pub fn is_between(&self, a: Addr, b: Addr) -> bool {
        [self.tuple, self.faces[0], self.faces[1]]
            .iter()
            .any(|Tuple { src, dst, .. }| (*src, *dst) == (a, b) || (*src, *dst) == (b, a))
    }

    /// `192.0.2.7:39000 -> 198.51.100.9:21`, with what the server takes it for where that is
    /// something else.
    fn ends(&self) -> String {
        let [client, server] = self.faces.map(|face| endpoints(&face));
        if client == server { client } else { format!("{client}, to the server {server}") }
    }

    /// One sentence about it.
    pub fn sentence(&self, dport: u16) -> String {
        let shifted = if self.is_shifted { ", whose text is written anew" } else { "" };
        let subject = format!(
            "an FTP control connection between these hosts is open ({}){shifted}",
            self.ends()
        );
        if !self.is_read {
            return format!(
                "{subject}, but no helper reads it: assign one with -t raw … -j CT --helper ftp, or \
                 name its port in --ftp-ports"
            );
        }
        if self.is_encrypted {
            return format!(
                "{subject}, but it is encrypted (AUTH TLS): what it announces cannot be read, and \
                 [helper.ftp] tls_passive_range does not name this port"
            );
        }
        let Some(last) = self.last else {
            return format!(
                "{subject}; nothing that it announced is waited for or was used lately"
            );
        };
        let what = self.spelling(&last);
        let (to, inside) = (endpoint(last.to), endpoint(last.inside));
        let port = match (last.to.1 == dport, to == inside) {
            (true, true) => "this port".to_owned(),
            (false, true) => format!("port {}", last.to.1),
            (true, false) => format!("{inside}, told as this port of {}", last.to.0.to_ip()),
            (false, false) => format!("{inside}, told as {to},"),
        };
        match last.end {
            End::Waits(age) => format!(
                "{subject}; its last announcement ({what}) named {port} {} ago and is not used yet",
                seconds(age)
            ),
            End::Used(age) => format!(
                "{subject}; its last announcement ({what}) named {port} and was used {} ago",
                seconds(age)
            ),
        }
    }

    /// The commands that announce so: the client connects for a passive transfer, the
    /// server for an active one.
    fn spelling(&self, announced: &Announced) -> &'static str {
        match (announced.src == self.tuple.src, self.tuple.src.family()) {
            (true, Family::Ipv4) => "227 or 229",
            (true, Family::Ipv6) => "229",
            (false, Family::Ipv4) => "PORT or EPRT",
            (false, Family::Ipv6) => "EPRT",
        }
    }
}

/// `192.0.2.7:40000`
fn endpoint((address, port): (Addr, u16)) -> String {
    SocketAddr::new(address.to_ip(), port).to_string()
}

fn seconds(age: Nanos) -> String {
    format!("{} s", age.as_secs())
}

/// The open control connections of the tables, with what each has announced last.
///
/// # Errors
/// When a map cannot be read.
pub fn controls(
    maps: &Maps,
    now: Nanos,
    is_asked: impl Fn(&Control) -> bool,
) -> Result<Vec<Control>> {
    let mut controls = Vec::new();
    FlowTables::open(maps)?.for_each(now, |_, key, flow| {
        let tuple = key.tuple(flow.originator());
        if is_control(&tuple, flow) {
            controls.push(Control::of(tuple, flow));
        }
        ControlFlow::Continue(())
    })?;
    controls.retain(|control| is_asked(control));
    if controls.is_empty() {
        return Ok(controls);
    }
    let shifts = SequenceShifts::open(maps)?;
    for control in &mut controls {
        let found = shifts.get(&FlowKey::of(&control.tuple).0)?;
        control.is_shifted = found.is_some_and(|it| it.created == control.created);
    }
    for (key, expectation) in maps.expectations(now)? {
        if key.dport == 0 {
            // A range of ports is no announcement.
            continue;
        }
        let age = LIFETIME.since(expectation.expires.since(now));
        let to = (key.dst, key.dport);
        let inside = match expectation.leads_inside() {
            true => (expectation.inside, expectation.inside_port),
            false => to,
        };
        let announced = Announced { src: key.src, to, inside, end: End::Waits(age) };
        note(&mut controls, &expectation.master, expectation.master_created, announced);
    }
    for (key, master) in maps.masters()? {
        let flow = maps.flow(&key, now)?.map(|(_, flow)| flow);
        let own = flow.filter(|flow| flow.created == master.child_created);
        let Some(flow) = own else { continue };
        let tuple = key.tuple(flow.originator());
        let end = End::Used(now.since(master.child_created));
        let to = match flow.is_translated() {
            true => flow.wire_original(&key),
            false => tuple,
        };
        let announced = Announced {
            src: tuple.src,
            to: (to.dst, to.dport),
            inside: (tuple.dst, tuple.dport),
            end,
        };
        note(&mut controls, &master.tuple, Nanos::ZERO, announced);
    }
    Ok(controls)
}

/// Notes an announcement, unless a later one is known. The creation of its master is
/// zero where it is not known.
fn note(controls: &mut [Control], master: &Tuple, created: Nanos, announced: Announced) {
    let is_it = |control: &&mut Control| {
        control.tuple == *master && (created == Nanos::ZERO || control.created == created)
    };
    let Some(control) = controls.iter_mut().find(is_it) else { return };
    if control.last.is_none_or(|last| announced.end.age() <= last.end.age()) {
        control.last = Some(announced);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Addr {
        text.parse::<std::net::IpAddr>().unwrap().into()
    }

    fn control() -> Control {
        let tuple = Tuple {
            src: address("192.0.2.7"),
            dst: address("198.51.100.9"),
            sport: 39_000,
            dport: 21,
            protocol: protocol::TCP,
            ..Tuple::default()
        };
        Control {
            tuple,
            faces: [tuple; 2],
            created: Nanos(5),
            is_read: true,
            is_encrypted: false,
            is_shifted: false,
            last: None,
        }
    }

    fn passive(dport: u16, end: End) -> Announced {
        let to = (address("198.51.100.9"), dport);
        Announced { src: address("192.0.2.7"), to, inside: to, end }
    }

    #[test]
    fn the_last_announcement_is_told_with_its_port_and_end() {
        let mut controls = [control()];
        let used = passive(51_001, End::Used(Nanos::from_secs(12)));
        note(&mut controls, &control().tuple, Nanos::ZERO, used);
        let older = passive(50_000, End::Waits(Nanos::from_secs(40)));
        note(&mut controls, &control().tuple, Nanos(5), older);
        let text = controls[0].sentence(51_000);
        assert!(text.contains("(192.0.2.7:39000 -> 198.51.100.9:21)"), "{text}");
        assert!(text.ends_with("(227 or 229) named port 51001 and was used 12 s ago"), "{text}");
    }

    #[test]
    fn an_announcement_of_another_connection_with_these_endpoints_does_not_count() {
        let mut controls = [control()];
        note(&mut controls, &control().tuple, Nanos(4), passive(1_024, End::Waits(Nanos(0))));
        assert_eq!(controls[0].last, None);
    }

    #[test]
    fn a_server_that_connects_was_named_by_port() {
        let (src, to) = (address("198.51.100.9"), (address("192.0.2.7"), 40_000));
        let last = Announced { src, to, inside: to, end: End::Waits(Nanos::from_secs(3)) };
        let text = Control { last: Some(last), ..control() }.sentence(40_000);
        assert!(text.contains("(PORT or EPRT) named this port 3 s ago and is not used"), "{text}");
    }

    #[test]
    fn what_was_told_stands_beside_what_was_announced() {
        let wire = Tuple { src: address("203.0.113.1"), sport: 1_024, ..control().tuple };
        let inside = (address("192.0.2.7"), 40_000);
        let last = Announced {
            src: address("198.51.100.9"),
            to: (address("203.0.113.1"), 40_001),
            inside,
            end: End::Waits(Nanos::from_secs(3)),
        };
        let control = Control {
            faces: [control().tuple, wire],
            is_shifted: true,
            last: Some(last),
            ..control()
        };
        assert!(control.is_between(address("198.51.100.9"), address("203.0.113.1")));
        let text = control.sentence(9);
        assert!(text.contains("198.51.100.9:21, to the server 203.0.113.1:1024 -> "), "{text}");
        assert!(text.contains("named 192.0.2.7:40000, told as 203.0.113.1:40001, 3 s"), "{text}");
        assert!(text.contains("whose text is written anew"), "{text}");
        let text = control.sentence(40_001);
        assert!(text.contains("192.0.2.7:40000, told as this port of 203.0.113.1 3 s"), "{text}");
    }

    #[test]
    fn what_keeps_announcements_unread_comes_first() {
        let text = Control { is_read: false, ..control() }.sentence(1);
        assert!(text.contains("-j CT --helper ftp"), "{text}");
        let text = Control { is_encrypted: true, ..control() }.sentence(1);
        assert!(text.contains("AUTH TLS"), "{text}");
    }
}

//! What the ends and the gateway say to each other, made from what a rule asks for.
//!
//! No two talks have the same endpoints: the kernel lets a packet that a rule drops
//! change the flow that it belongs to, and the firewall does not, so that a talk ends
//! with the first packet that does not arrive.

use std::{collections::HashSet, net::IpAddr, ops::RangeInclusive};

use super::{
    book::{Book, Course},
    draft::{Content, Draft, flag, protocol},
    land,
    wish::{Network, Wish},
};
use crate::{Family, wire::End};

/// Who sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaker {
    /// What stands at an end of the bench.
    End(End),
    /// The gateway itself.
    Host,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    pub by: Speaker,
    pub draft: Draft,
    /// It acknowledges the last segment that the gateway has sent, whose number is its
    /// own choice.
    pub acknowledges_host: bool,
}

/// Protocols of which no checksum is expected.
const CHECKED_BY_NOBODY: [u8; 2] = [protocol::GRE, 50];

/// Makes talks.
#[derive(Debug)]
pub struct Talks<'a> {
    book: &'a Book,
    family: Family,
    dice: fastrand::Rng,
    /// Ports of the gateway where a server listens.
    services: Vec<u16>,
    /// Whether a control connection may be read: its data is held back a while.
    is_read: bool,
    /// Endpoints that were used.
    used: HashSet<(u8, [IpAddr; 2], [u16; 2])>,
}

/// Where a talk takes place.
#[derive(Clone, Copy, Debug)]
struct Scene {
    course: Course,
    from: End,
    to: End,
    source: IpAddr,
    destination: IpAddr,
}

impl<'a> Talks<'a> {
    pub fn new(
        book: &'a Book,
        family: Family,
        services: Vec<u16>,
        is_read: bool,
        seed: u64,
    ) -> Self {
        let dice = fastrand::Rng::with_seed(seed);
        Self { book, family, dice, services, is_read, used: HashSet::new() }
    }

    /// The next talk: one packet or more, in order.
    pub fn next_talk(&mut self) -> Vec<Step> {
        loop {
            let wished = if self.dice.u8(..10) == 0 { None } else { self.book.any(&mut self.dice) };
            let (course, wish) = wished.unwrap_or_else(|| (self.any_course(), Wish::default()));
            let Some(scene) = self.scene(course, &wish) else { continue };
            let Some(steps) = self.talk(scene, &wish) else { continue };
            return steps;
        }
    }

    fn any_course(&mut self) -> Course {
        [Course::In, Course::Through, Course::Out][self.dice.usize(..3)]
    }

    /// Chooses the addresses. `None` where no packet can go as the rule asks.
    fn scene(&mut self, course: Course, wish: &Wish) -> Option<Scene> {
        let end = if self.dice.bool() { End::Client } else { End::Server };
        let destination = self.one_of(&wish.destinations);
        match course {
            Course::In => {
                let source = self.one_of(&wish.sources);
                let from = source.map(land::side).or(wish.incoming).unwrap_or(end);
                let source = self.honest(source, from)?;
                let destination = self.own_destination(wish);
                Some(Scene { course, from, to: from, source, destination })
            }
            Course::Through => {
                let to = wish.outgoing.or_else(|| wish.incoming.map(End::other)).unwrap_or(end);
                let destination = destination.filter(|it| land::is_reachable(*it));
                let destination = destination.unwrap_or_else(|| self.somebody(to));
                let to = land::side(destination);
                let source = self.one_of(&wish.sources).filter(|it| !land::is_link_local(*it));
                let from = source.map(land::side).or(wish.incoming).unwrap_or_else(|| to.other());
                let source = self.honest(source, from).filter(|it| *it != destination)?;
                Some(Scene { course, from, to, source, destination })
            }
            Course::Out => {
                let to = wish.outgoing.unwrap_or(end);
                let destination = destination.filter(|it| land::is_reachable(*it));
                let destination = destination.unwrap_or_else(|| self.somebody(to));
                let to = land::side(destination);
                let source = land::own(to, self.family);
                Some(Scene { course, from: to, to, source, destination })
            }
        }
    }

    /// An address that the gateway takes in: one of its own, or one for many.
    fn own_destination(&mut self, wish: &Wish) -> IpAddr {
        let many: Vec<_> = wish.destinations.iter().flat_map(land::for_many).collect();
        if let Some(address) = many.get(self.dice.usize(..many.len().max(1))) {
            return *address;
        }
        let end = if self.dice.bool() { End::Client } else { End::Server };
        land::own(end, self.family)
    }

    fn somebody(&mut self, end: End) -> IpAddr {
        land::somebody(&mut self.dice, end, self.family)
    }

    /// The source, or somebody where there is none. Hosts send from the side where they
    /// are, so that the kernel's answers go there, too.
    fn honest(&mut self, source: Option<IpAddr>, from: End) -> Option<IpAddr> {
        match source {
            // The kernel knows no other neighbour there.
            Some(IpAddr::V6(source)) if source.is_unicast_link_local() => {
                Some(land::NEIGHBOUR.into())
            }
            Some(source) => Some(source).filter(|it| land::is_honest_source(*it)),
            None => Some(self.somebody(from)),
        }
    }

    fn one_of(&mut self, networks: &[Network]) -> Option<IpAddr> {
        let network = networks.get(self.dice.usize(..networks.len().max(1)))?;
        Some(network.any(&mut self.dice))
    }

    /// `None` when the endpoints were used already.
    fn talk(&mut self, scene: Scene, wish: &Wish) -> Option<Vec<Step>> {
        let number = wish.protocol.unwrap_or_else(|| self.any_protocol());
        let is_v4 = self.family == Family::V4;
        match number {
            protocol::TCP => self.tcp(scene, wish),
            protocol::UDP => self.udp(scene, wish),
            protocol::ICMP if is_v4 => self.icmp(scene, wish),
            protocol::ICMPV6 if !is_v4 => self.icmp(scene, wish),
            // Headers of their own, which tracking reads, and extension headers.
            protocol::ICMP
            | protocol::ICMPV6
            | protocol::UDPLITE
            | 0
            | 33
            | 43
            | 44
            | 59
            | 60
            | 132
            | 135
            | 139
            | 140 => self.udp(scene, wish),
            // For others the kernel's REJECT of IPv6 asks for a right checksum.
            number if !is_v4 && !CHECKED_BY_NOBODY.contains(&number) => self.udp(scene, wish),
            number => self.other(scene, wish, number),
        }
    }

    fn any_protocol(&mut self) -> u8 {
        let icmp = if self.family == Family::V4 { protocol::ICMP } else { protocol::ICMPV6 };
        match self.dice.u8(..20) {
            0..10 => protocol::TCP,
            10..16 => protocol::UDP,
            16..19 => icmp,
            _ if self.family == Family::V6 => CHECKED_BY_NOBODY[self.dice.usize(..2)],
            _ => [2, 41, protocol::GRE, 50, 89][self.dice.usize(..5)],
        }
    }

    fn tcp(&mut self, scene: Scene, wish: &Wish) -> Option<Vec<Step>> {
        const OPTIONS: [&[u8]; 5] = [
            &[],
            &[2, 4, 5, 180],
            &[2, 4, 2, 0],
            &[2, 4, 4, 0, 4, 2, 1, 0],
            &[1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0],
        ];
        let ports = self.ports(wish);
        self.claim(protocol::TCP, scene, ports)?;
        let options = OPTIONS[self.dice.usize(..OPTIONS.len())];
        let flags = self.flags(wish);
        let is_data = flags & flag::SYN == 0 && !self.is_read;
        let payload = if is_data { self.payload(wish, 40 + options.len(), 40) } else { 0 };
        let ack = if flags & flag::ACK == 0 { 0 } else { 7_001 };
        let content = Content::Tcp { ports, flags, seq: 1_000, ack, options, payload };
        let first = self.draft(scene, wish, content);
        if flags != flag::SYN {
            return Some(vec![step(scene, first)]);
        }
        Some(match scene.course {
            Course::In if self.services.contains(&ports[1]) => served(scene, &first, ports),
            Course::In => vec![step(scene, first)],
            Course::Out => vec![step(scene, first.clone()), answer(scene, &first, ports)],
            Course::Through => self.handshake(scene, &first, ports),
        })
    }

    /// A connection from its first segment to its last.
    fn handshake(&mut self, scene: Scene, first: &Draft, ports: [u16; 2]) -> Vec<Step> {
        let back = [ports[1], ports[0]];
        let payload = if self.is_read { 0 } else { self.dice.usize(..60) };
        let sent = payload as u32;
        let said = |flags, seq, ack, payload| Content::Tcp {
            ports,
            flags,
            seq,
            ack,
            options: &[],
            payload,
        };
        let replied = |flags, seq, ack| Content::Tcp {
            ports: back,
            flags,
            seq,
            ack,
            options: &[],
            payload: 0,
        };
        let on = |content| Draft { content, ..first.clone() };
        let reply = |content| first.back(content);
        let all = vec![
            step(scene, first.clone()),
            answer(scene, first, ports),
            step(scene, on(said(flag::ACK, 1_001, 5_001, 0))),
            step(scene, on(said(flag::ACK | flag::PSH, 1_001, 5_001, payload))),
            step_back(scene, reply(replied(flag::ACK, 5_001, 1_001 + sent))),
            step(scene, on(said(flag::ACK | flag::FIN, 1_001 + sent, 5_001, 0))),
            step_back(scene, reply(replied(flag::ACK | flag::FIN, 5_001, 1_002 + sent))),
            step(scene, on(said(flag::ACK, 1_002 + sent, 5_002, 0))),
        ];
        let length = if self.dice.bool() { all.len() } else { self.dice.usize(1..=all.len()) };
        all.into_iter().take(length).collect()
    }

    fn udp(&mut self, scene: Scene, wish: &Wish) -> Option<Vec<Step>> {
        let ports = self.ports(wish);
        self.claim(protocol::UDP, scene, ports)?;
        let payload = self.payload(wish, 28, 100);
        let first = self.draft(scene, wish, Content::Udp { ports, payload });
        let reply = first.back(Content::Udp { ports: [ports[1], ports[0]], payload: 12 });
        let mut steps = vec![step(scene, first.clone())];
        match (scene.course, self.dice.u8(..4)) {
            (Course::In, _) | (_, 0) => {}
            (_, 1) => steps.push(step_back(scene, self.error_about(&first, scene))),
            (_, 2) => steps.push(step_back(scene, reply)),
            _ => steps.extend([step_back(scene, reply), step(scene, first)]),
        }
        Some(steps)
    }

    fn icmp(&mut self, scene: Scene, wish: &Wish) -> Option<Vec<Step>> {
        let [ask, reply] = if self.family == Family::V4 { [8, 0] } else { [128, 129] };
        let (kind, code) = wish.icmp.unwrap_or((ask, 0));
        let id = self.dice.u16(..);
        self.claim(self.icmp_number(), scene, [id, id])?;
        let [high, low] = id.to_be_bytes();
        let payload = vec![b'.'; self.payload(wish, 28, 60)];
        let rest = [high, low, 0, 1];
        let first =
            self.draft(scene, wish, Content::Icmp { kind, code, rest, payload: payload.clone() });
        let mut steps = vec![step(scene, first.clone())];
        if (kind, code) == (ask, 0) && scene.course != Course::In && self.dice.bool() {
            let content = Content::Icmp { kind: reply, code: 0, rest, payload };
            steps.push(step_back(scene, first.back(content)));
            steps.push(step(scene, first));
        } else if is_error(kind, self.family) {
            // About a packet that nobody has sent.
            let quoted = first.back(Content::Udp { ports: [id, 53], payload: 8 }).bytes(1);
            steps[0].draft.content =
                Content::Icmp { kind, code, rest: [0, 0, 0, 0], payload: quoted };
        }
        Some(steps)
    }

    const fn icmp_number(&self) -> u8 {
        match self.family {
            Family::V4 => protocol::ICMP,
            Family::V6 => protocol::ICMPV6,
        }
    }

    fn other(&mut self, scene: Scene, wish: &Wish, number: u8) -> Option<Vec<Step>> {
        self.claim(number, scene, [0, 0])?;
        let payload = self.payload(wish, 20, 40).max(8);
        let first = self.draft(scene, wish, Content::Other { protocol: number, payload });
        Some(vec![step(scene, first)])
    }

    /// What a router on the way back says about a packet.
    fn error_about(&mut self, about: &Draft, scene: Scene) -> Draft {
        let (kind, code) = match (self.family, self.dice.u8(..3)) {
            (Family::V4, 0) => (3, 3),
            (Family::V4, 1) => (3, 1),
            (Family::V4, _) => (11, 0),
            (Family::V6, 0) => (1, 4),
            (Family::V6, 1) => (1, 0),
            (Family::V6, _) => (3, 0),
        };
        let router = self.somebody(scene.to);
        let payload = about.bytes(1);
        let content = Content::Icmp { kind, code, rest: [0; 4], payload };
        Draft { source: router, ..about.back(content) }
    }

    fn draft(&mut self, scene: Scene, wish: &Wish, content: Content) -> Draft {
        const HOPS: [u8; 6] = [3, 5, 64, 64, 128, 255];
        const SERVICES: [u8; 6] = [0, 0, 0, 0x10, 0xb8, 0xc0];
        // A forwarded packet is seen with one hop less.
        let seen = wish.hops.map(|it| it.saturating_add((scene.course == Course::Through).into()));
        let hops = seen.unwrap_or(HOPS[self.dice.usize(..HOPS.len())]).max(2);
        let tos = wish.tos.unwrap_or(SERVICES[self.dice.usize(..SERVICES.len())]);
        let Scene { source, destination, .. } = scene;
        let extensions = if wish.extends { self.extensions() } else { Vec::new() };
        Draft { source, destination, hops, tos, extensions, content }
    }

    /// Extension headers in an order that a receiver takes.
    fn extensions(&mut self) -> Vec<u8> {
        let all = [0, 60, protocol::ROUTING].into_iter();
        all.filter(|_| self.dice.bool()).collect()
    }

    /// So much that the packet has the length that is asked for.
    fn payload(&mut self, wish: &Wish, headers: usize, most: usize) -> usize {
        match wish.length {
            Some(length) => usize::from(length).saturating_sub(headers).min(1_200),
            None => self.dice.usize(..most),
        }
    }

    fn ports(&mut self, wish: &Wish) -> [u16; 2] {
        let source = self.port(&wish.sports).unwrap_or_else(|| self.dice.u16(1_024..));
        let known = [22, 25, 53, 80, 443, 8_080, 33_000];
        let destination =
            self.port(&wish.dports).unwrap_or_else(|| known[self.dice.usize(..known.len())]);
        [source, destination]
    }

    /// An end of a range, or something between.
    fn port(&mut self, ranges: &[RangeInclusive<u16>]) -> Option<u16> {
        let range = ranges.get(self.dice.usize(..ranges.len().max(1)))?.clone();
        Some(match self.dice.u8(..4) {
            0 => *range.start(),
            1 => *range.end(),
            _ => self.dice.u16(range),
        })
    }

    fn flags(&mut self, wish: &Wish) -> u8 {
        const USUAL: [u8; 8] = [2, 2, 2, 2, 16, 24, 4, 18];
        let usual = USUAL[self.dice.usize(..USUAL.len())];
        wish.flags.map_or(usual, |(mask, set)| usual & !mask | set)
    }

    fn claim(&mut self, number: u8, scene: Scene, ports: [u16; 2]) -> Option<()> {
        let Scene { source, destination, .. } = scene;
        let there = (number, [source, destination], ports);
        let back = (number, [destination, source], [ports[1], ports[0]]);
        (!self.used.contains(&back) && self.used.insert(there)).then_some(())
    }
}

const fn is_error(kind: u8, family: Family) -> bool {
    match family {
        Family::V4 => matches!(kind, 3 | 4 | 5 | 11 | 12),
        Family::V6 => kind < 128,
    }
}

const fn speaker(scene: Scene) -> Speaker {
    match scene.course {
        Course::In | Course::Through => Speaker::End(scene.from),
        Course::Out => Speaker::Host,
    }
}

const fn step(scene: Scene, draft: Draft) -> Step {
    Step { by: speaker(scene), draft, acknowledges_host: false }
}

const fn step_back(scene: Scene, draft: Draft) -> Step {
    Step { by: Speaker::End(scene.to), draft, acknowledges_host: false }
}

/// The SYN/ACK of the far end.
fn answer(scene: Scene, syn: &Draft, ports: [u16; 2]) -> Step {
    let content = Content::Tcp {
        ports: [ports[1], ports[0]],
        flags: flag::SYN | flag::ACK,
        seq: 5_000,
        ack: 1_001,
        options: &[2, 4, 5, 180],
        payload: 0,
    };
    step_back(scene, syn.back(content))
}

/// A connection to a server on the gateway, which the client resets.
fn served(scene: Scene, syn: &Draft, ports: [u16; 2]) -> Vec<Step> {
    let later = |flags| {
        let content = Content::Tcp { ports, flags, seq: 1_001, ack: 0, options: &[], payload: 0 };
        Step { acknowledges_host: true, ..step(scene, Draft { content, ..syn.clone() }) }
    };
    let later = [later(flag::ACK), later(flag::RST | flag::ACK)];
    [step(scene, syn.clone())].into_iter().chain(later).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn talks_meet_the_rules_and_never_have_the_same_endpoints() {
        let book = Book::parse(
            "-A INPUT -i eth0 -p tcp --dport 22\n-A FORWARD -s 10.0.0.0/8 -p udp --dport 53\n",
            Family::V4,
        );
        let mut talks = Talks::new(&book, Family::V4, vec![22], false, 7);
        let talks: Vec<_> = (0..500).map(|_| talks.next_talk()).collect();
        let meets = |number, port| {
            talks.iter().any(|steps| match &steps[0].draft.content {
                Content::Tcp { ports, .. } => number == protocol::TCP && ports[1] == port,
                Content::Udp { ports, .. } => number == protocol::UDP && ports[1] == port,
                _ => false,
            })
        };
        assert!(meets(protocol::TCP, 22) && meets(protocol::UDP, 53));
        assert!(talks.iter().any(|steps| steps.len() == 8), "no whole connection");
        assert!(talks.iter().any(|steps| steps[0].by == Speaker::Host), "nothing of the host");
    }
}

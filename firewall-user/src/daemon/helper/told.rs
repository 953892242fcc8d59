//! What the other side of a translated control connection is told of an endpoint, and that no
//! two are told the same.

use std::{collections::HashMap, net::IpAddr};

use super::Control;
use crate::helper::Hole;

/// Ports that are tried for one endpoint (nf_nat_ftp: as many).
const TRIES: usize = 128;
/// What stands for a port that somebody has chosen has to be unprivileged, too.
const LOWEST: u16 = 1_024;
/// Endpoints of each host of a control connection that are kept in mind: the one that is closed,
/// and the one that takes its place.
const KEPT: usize = 2;

/// An endpoint that was announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Told {
    /// As it is.
    hole: Hole,
    /// As it was told, and packets to it come in; `None` when it could not be told.
    wire: Option<Hole>,
}

/// Endpoints that were told, by their control connections, the latest last.
#[derive(Debug, Default)]
pub(super) struct Tellings {
    by_control: HashMap<Control, Vec<Told>>,
    by_wire: HashMap<Hole, Control>,
}

impl Tellings {
    /// Under which hole packets to this one come in: itself, where it was told as it is.
    /// `None` when nobody could be told.
    pub(super) fn wire(&self, control: &Control, hole: Hole) -> Option<Hole> {
        let told = self
            .by_control
            .get(control)
            .and_then(|all| all.iter().rev().find(|it| it.hole == hole));
        told.map_or(Some(hole), |told| told.wire)
    }

    /// Finds the port under which an endpoint is told with this address; its own is preferred.
    /// `is_free` says what else stands in the way. `None` when all that were tried are taken.
    pub(super) fn tell(
        &mut self,
        control: Control,
        hole: Hole,
        address: IpAddr,
        mut is_free: impl FnMut(&Hole) -> bool,
    ) -> Option<Hole> {
        let known = self.by_control.get(&control);
        let known = known.and_then(|all| all.iter().rev().find(|it| it.hole == hole)?.wire);
        if known.is_some_and(|wire| wire.dst == address) {
            return known;
        }
        let found = ports_from(hole.dport)
            .map(|dport| Hole { dst: address, dport, ..hole })
            .find(|wire| self.by_wire.get(wire).is_none_or(|it| *it == control) && is_free(wire));
        self.remember(control, hole, found);
        found
    }

    /// Notes that an endpoint was told as `wire`.
    pub(super) fn remember(&mut self, control: Control, hole: Hole, wire: Option<Hole>) {
        let all = self.by_control.entry(control).or_default();
        all.push(Told { hole, wire });
        let is_of_host = |told: &Told| told.hole.dst == hole.dst;
        let is_over = all.iter().filter(|it| is_of_host(it)).count() > KEPT;
        let first = all.iter().position(is_of_host).filter(|_| is_over);
        let gone = first.and_then(|first| all.remove(first).wire);
        let is_gone = gone.filter(|gone| all.iter().all(|it| it.wire != Some(*gone)));
        if let Some(gone) = is_gone {
            self.by_wire.remove(&gone);
        }
        if let Some(wire) = wire {
            self.by_wire.insert(wire, control);
        }
    }

    /// The control connection has ended.
    pub(super) fn forget(&mut self, control: &Control) {
        for told in self.by_control.remove(control).unwrap_or_default() {
            if let Some(wire) = told.wire {
                self.by_wire.remove(&wire);
            }
        }
    }
}

/// This port and those behind it, round and round.
fn ports_from(port: u16) -> impl Iterator<Item = u16> {
    std::iter::successors(Some(port), |port| {
        Some(port.checked_add(1).unwrap_or(LOWEST).max(LOWEST))
    })
    .take(TRIES)
}

#[cfg(test)]
mod tests {
    use firewall_common::{flow::Tuple, time::Nanos};

    use super::*;

    fn control(number: u64) -> Control {
        Control { flow: Tuple::default(), created: Nanos(number), helper: 1 }
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn hole(host: &str, port: u16) -> Hole {
        Hole::tcp(ip("198.51.100.2"), ip(host), port)
    }

    #[test]
    fn the_own_port_is_preferred_and_two_clients_are_told_apart() {
        let mut tellings = Tellings::default();
        let gateway = ip("203.0.113.1");
        let first = tellings.tell(control(1), hole("10.0.0.2", 4_000), gateway, |_| true);
        let second = tellings.tell(control(2), hole("10.0.0.3", 4_000), gateway, |_| true);
        assert_eq!([first, second].map(|it| it.unwrap().dport), [4_000, 4_001]);
        let again = tellings.tell(control(2), hole("10.0.0.3", 4_000), gateway, |_| false);
        assert_eq!(again, second);
        assert_eq!(tellings.wire(&control(1), hole("10.0.0.2", 4_000)), first);
        tellings.forget(&control(1));
        let third = tellings.tell(control(3), hole("10.0.0.4", 4_000), gateway, |_| true);
        assert_eq!(third, first);
    }

    #[test]
    fn the_ports_behind_the_last_are_the_first_unprivileged_ones() {
        let mut tellings = Tellings::default();
        let is_free = |wire: &Hole| wire.dport < 2_000;
        let told = tellings.tell(control(1), hole("10.0.0.2", 65_534), ip("203.0.113.1"), is_free);
        assert_eq!(told.unwrap().dport, 1_024);
    }

    #[test]
    fn what_cannot_be_told_is_no_hole_and_what_was_told_as_it_is_is_one() {
        let mut tellings = Tellings::default();
        let none = hole("10.0.0.2", 4_000);
        assert_eq!(tellings.tell(control(1), none, ip("203.0.113.1"), |_| false), None);
        assert_eq!(tellings.wire(&control(1), none), None);
        let plain = hole("10.0.0.2", 4_001);
        assert_eq!(tellings.wire(&control(1), plain), Some(plain));
    }

    #[test]
    fn what_a_server_says_line_by_line_is_not_told_in_its_clients_place() {
        let mut tellings = Tellings::default();
        let asked = hole("10.0.0.2", 4_000);
        let told = tellings.tell(control(1), asked, ip("203.0.113.1"), |_| true);
        for port in 5_000..5_010 {
            let line = Hole::tcp(ip("10.0.0.2"), ip("198.51.100.2"), port);
            tellings.tell(control(1), line, ip("192.0.2.1"), |_| true);
        }
        assert_eq!(tellings.wire(&control(1), asked), told);
        assert_eq!(tellings.by_control[&control(1)].len(), 1 + KEPT);
    }

    #[test]
    fn nothing_is_kept_of_what_was_told_long_ago() {
        let mut tellings = Tellings::default();
        for port in 2_000..3_000 {
            tellings.tell(control(1), hole("10.0.0.2", port), ip("203.0.113.1"), |_| true);
        }
        assert_eq!((tellings.by_control[&control(1)].len(), tellings.by_wire.len()), (KEPT, KEPT));
        tellings.forget(&control(1));
        assert!(tellings.by_control.is_empty() && tellings.by_wire.is_empty());
    }
}

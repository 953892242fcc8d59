//! The most recent drops, grouped: what `firewall why` asks for.

use std::collections::HashMap;

use firewall_common::{event::Event, time::Nanos};

use crate::{listing::event::Endpoints, watch::wire::Cause};

/// Groups that are kept; the one that was silent longest makes room.
const MOST: usize = 512;
/// Destination ports below are services, which are told apart; above are those of single
/// connections.
const SERVICES: u16 = 1024;

/// What drops have in common that are told as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Group {
    reason: u8,
    chain: u8,
    ctstate: u8,
    generation: u32,
    rule: u32,
    interfaces: (u32, u32),
    /// Protocol, hosts, and the port of a service.
    ends: Option<(u8, firewall_common::addr::Addr, firewall_common::addr::Addr, u16)>,
}

impl Group {
    fn of(event: &Event) -> Self {
        let ends = Endpoints::of(event).map(|ends| {
            let service = ends.ports.map(|(_, dport)| dport).filter(|port| *port < SERVICES);
            (ends.protocol, ends.src, ends.dst, service.unwrap_or(0))
        });
        Self {
            reason: event.reason,
            chain: event.chain,
            ctstate: event.ctstate,
            generation: event.generation,
            rule: event.rule,
            interfaces: (event.in_ifindex, event.out_ifindex),
            ends,
        }
    }
}

/// The groups of the most recent drops.
#[derive(Debug, Default)]
pub struct Memory(HashMap<Group, Cause>);

impl Memory {
    pub fn note(&mut self, event: &Event) {
        let group = Group::of(event);
        if let Some(cause) = self.0.get_mut(&group) {
            cause.event = *event;
            cause.count += 1;
            return;
        }
        if self.0.len() >= MOST {
            self.forget_the_oldest();
        }
        self.0.insert(group, Cause { event: *event, first: event.at, count: 1 });
    }

    fn forget_the_oldest(&mut self) {
        let at = |cause: &Cause| -> Nanos { cause.event.at };
        let oldest = self.0.iter().min_by_key(|(_, cause)| at(cause)).map(|(group, _)| *group);
        if let Some(group) = oldest {
            self.0.remove(&group);
        }
    }

    /// The latest first.
    pub fn causes(&self) -> Vec<Cause> {
        let mut causes: Vec<_> = self.0.values().copied().collect();
        causes.sort_by_key(|cause| std::cmp::Reverse(cause.event.at));
        causes
    }
}

#[cfg(test)]
mod tests {
    use bytemuck::Zeroable;

    use super::*;

    fn event(at: u64, rule: u32) -> Event {
        Event { at: Nanos(at), rule, ..Event::zeroed() }
    }

    #[test]
    fn drops_of_one_cause_are_counted_together() {
        let mut memory = Memory::default();
        for at in 1..=3 {
            memory.note(&event(at, 7));
        }
        memory.note(&event(9, 8));
        let causes = memory.causes();
        assert_eq!(causes.len(), 2);
        assert_eq!((causes[0].event.at, causes[0].count), (Nanos(9), 1));
        assert_eq!((causes[1].event.at, causes[1].first, causes[1].count), (Nanos(3), Nanos(1), 3));
    }

    #[test]
    fn what_was_silent_longest_makes_room() {
        let mut memory = Memory::default();
        for at in 0..=MOST as u32 {
            memory.note(&event(u64::from(at), at));
        }
        let causes = memory.causes();
        assert_eq!(causes.len(), MOST);
        assert_eq!(causes.last().unwrap().event.at, Nanos(1));
    }
}

//! The most recent drops, grouped, and what went wrong with the helpers: what `firewall why`
//! asks for.

use std::collections::HashMap;

use firewall_common::{event::Event, time::Nanos};

use crate::{
    listing::{
        event::Endpoints,
        helper_event::{HelperChange, HelperEvent},
    },
    watch::wire::{Cause, Trouble},
};

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

/// The groups of the most recent drops, and the helpers' troubles, one of each kind.
#[derive(Debug, Default)]
pub struct Memory {
    drops: HashMap<Group, Cause>,
    troubles: Vec<Trouble>,
}

impl Memory {
    pub fn note(&mut self, event: &Event) {
        let group = Group::of(event);
        if let Some(cause) = self.drops.get_mut(&group) {
            cause.event = *event;
            cause.count += 1;
            return;
        }
        if self.drops.len() >= MOST {
            self.forget_the_oldest();
        }
        self.drops.insert(group, Cause { event: *event, first: event.at, count: 1 });
    }

    /// Keeps the latest trouble of a kind, and counts them; nothing else that helpers tell.
    pub fn note_helper(&mut self, event: &HelperEvent) {
        if !matches!(event.change, HelperChange::Untold(..) | HelperChange::Early(_)) {
            return;
        }
        let is_alike = |trouble: &&mut Trouble| is_one_kind(&trouble.event.change, &event.change);
        if let Some(trouble) = self.troubles.iter_mut().find(is_alike) {
            trouble.event = event.clone();
            trouble.count += 1;
            return;
        }
        self.troubles.push(Trouble { event: event.clone(), count: 1 });
    }

    fn forget_the_oldest(&mut self) {
        let at = |cause: &Cause| -> Nanos { cause.event.at };
        let oldest = self.drops.iter().min_by_key(|(_, cause)| at(cause)).map(|(group, _)| *group);
        if let Some(group) = oldest {
            self.drops.remove(&group);
        }
    }

    /// The latest first.
    pub fn causes(&self) -> Vec<Cause> {
        let mut causes: Vec<_> = self.drops.values().copied().collect();
        causes.sort_by_key(|cause| std::cmp::Reverse(cause.event.at));
        causes
    }

    /// The latest first.
    pub fn troubles(&self) -> Vec<Trouble> {
        let mut troubles = self.troubles.clone();
        troubles.sort_by_key(|trouble| std::cmp::Reverse(trouble.event.at));
        troubles
    }
}

fn is_one_kind(one: &HelperChange, other: &HelperChange) -> bool {
    match (one, other) {
        (HelperChange::Untold(one, _), HelperChange::Untold(other, _)) => one == other,
        (HelperChange::Early(one), HelperChange::Early(other)) => one == other,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use bytemuck::Zeroable;
    use firewall_common::flow::helper;

    use super::*;
    use crate::listing::helper_event::{Early, Untold};

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
    fn the_latest_trouble_of_each_kind_is_kept_and_counted() {
        let mut memory = Memory::default();
        let event = |at, change| HelperEvent {
            at,
            helper: helper::FTP,
            client: "192.0.2.2:4000".parse().unwrap(),
            server: "198.51.100.2:21".parse().unwrap(),
            change,
        };
        for at in 1..=3 {
            let untold = HelperChange::Untold(Untold::NoPort, format!("{at}"));
            memory.note_helper(&event(at, untold));
            memory.note_helper(&event(10 * at, HelperChange::Early(Early::Overtook)));
            memory.note_helper(&event(at, HelperChange::Encrypted));
        }
        memory.note_helper(&event(2, HelperChange::Early(Early::Ahead)));
        let told = memory.troubles();
        let told: Vec<_> = told.iter().map(|it| (it.event.at, it.count)).collect();
        assert_eq!(told, [(30, 3), (3, 3), (2, 1)]);
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

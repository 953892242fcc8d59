//! `-m connlimit`: how many connections of an address or network there are.
//!
//! What a rule has seen stands in numbered places, one for each connection. Nothing is
//! counted up or down: each packet looks its rule's places up and asks the tables of
//! flows which of their connections still live, so that one which has ended, expired or
//! was recycled leaves its place to another, whoever ended it.

use core::mem::size_of;

use bytemuck::{Pod, Zeroable};

use super::{Asking, Extra, Facts};
use crate::{
    addr::Addr,
    flow::{Flow, FlowKey, State, protocol},
    tables::Rules,
    time::Nanos,
};

/// Places of all rules and addresses together.
pub const MAX_PLACES: u32 = 32_768;
/// The most that a rule can let through: as many places may be looked up for a packet.
pub const MAX_LIMIT: u32 = 4_096;

#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Pod, Zeroable)]
pub struct PlaceKey {
    /// Of the rule.
    pub rule: u64,
    /// Masked.
    pub address: Addr,
    /// Counted from 0.
    pub number: u32,
    pub _pad: u32,
}

/// A connection that a rule has seen.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Place {
    pub flow: FlowKey,
    /// When it began; another one with the same endpoints is another.
    pub created: Nanos,
    /// In the first place: the last number that was ever taken.
    pub last: u32,
    pub _pad: u32,
}

/// What is found in a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    Nothing,
    /// The connection of the packet, or a former one with the same endpoints: when it
    /// had begun.
    Own(Nanos),
    /// Another one that lives.
    Other,
    /// One that has ended: when it had begun.
    Ended(Nanos),
}

impl Place {
    /// `flow` is what the tables know under this key.
    #[inline(always)]
    pub fn find(&self, own: &FlowKey, flow: Option<&Flow>, now: Nanos) -> Found {
        if self.flow.is(own) {
            return Found::Own(self.created);
        }
        match flow {
            Some(flow)
                if flow.created.0 == self.created.0
                    && !is_over(flow, self.flow.protocol(), now) =>
            {
                Found::Other
            }
            _ => Found::Ended(self.created),
        }
    }
}

/// Whether a connection has ended, or only waits for stray segments.
#[inline(always)]
fn is_over(flow: &Flow, protocol: u8, now: Nanos) -> bool {
    const TIME_WAIT: u8 = State::TimeWait as u8;
    const CLOSE: u8 = State::Close as u8;
    flow.is_expired(now) || protocol == protocol::TCP && matches!(flow.state, TIME_WAIT | CLOSE)
}

/// How far the places of a rule have been counted.
#[repr(C)]
#[derive(Clone, Copy, Debug, Zeroable)]
pub struct Count {
    pub key: PlaceKey,
    /// The packet's own connection, as it is written down.
    own: Place,
    now: Nanos,
    /// Connections that live, the packet's own among them.
    pub alive: u32,
    /// More than that need not be counted.
    limit: u32,
    /// The last number that was ever taken.
    last: u32,
    /// A place that can be taken.
    free: u32,
    /// When the one began that stands there; 0 for an empty place.
    free_created: Nanos,
    has_own: u32,
    is_question: u32,
}

const NO_PLACE: u32 = u32::MAX;

impl Count {
    /// Before the first place. The arguments: the rule in two words, low word first; the
    /// limit; a word that is 0; the mask.
    #[inline(always)]
    pub fn begin(&mut self, extra: &Extra, facts: &Facts, asking: Asking) {
        let [low, high, limit, _, a, b, c, d] = extra.arguments;
        let address = facts.address(extra.subject).and(Addr { words: [a, b, c, d] });
        self.key = PlaceKey { rule: super::wide(high, low), address, number: 0, _pad: 0 };
        self.own.flow = facts.flow;
        self.own.created = facts.flow_created;
        self.own.last = 0;
        self.own._pad = 0;
        self.now = facts.now;
        self.alive = 0;
        self.limit = limit;
        self.last = 0;
        self.free = NO_PLACE;
        self.free_created = Nanos::ZERO;
        self.has_own = 0;
        self.is_question = u32::from(asking.is_question);
    }

    /// Looks one place up; `true` when all that matters is known.
    #[inline(always)]
    pub fn step<T: Rules>(&mut self, tables: &T) -> bool {
        let (found, last) = tables.connection(&self.key, &self.own.flow, self.now);
        if self.key.number == 0 {
            self.last = last;
        }
        match found {
            Found::Own(created) => {
                self.alive += 1;
                self.has_own = 1;
                if created.0 != self.own.created.0 && self.is_question == 0 {
                    tables.take_place(&self.key, created, &self.own);
                }
            }
            Found::Other => self.alive += 1,
            Found::Ended(created) => self.offer(created),
            Found::Nothing => self.offer(Nanos::ZERO),
        }
        self.key.number += 1;
        self.alive > self.limit || self.key.number > self.last
    }

    #[inline(always)]
    fn offer(&mut self, created: Nanos) {
        if self.free == NO_PLACE {
            self.free = self.key.number;
            self.free_created = created;
        }
    }

    /// Takes a place for the packet's own connection, which no place has; gives how many
    /// connections there are with it.
    #[inline(always)]
    pub fn finish<T: Rules>(&mut self, tables: &T) -> u32 {
        if self.has_own != 0 || self.alive > self.limit {
            return self.alive;
        }
        if self.is_question == 0 {
            let is_new = self.free == NO_PLACE;
            let number = if is_new { self.key.number } else { self.free };
            self.key.number = number;
            let before = if is_new { Nanos::ZERO } else { self.free_created };
            tables.take_place(&self.key, before, &self.own);
            if number > self.last {
                self.key.number = 0;
                tables.set_last_place(&self.key, number);
            }
        }
        self.alive + 1
    }
}

/// Whether there are more than the rule's limit, or not.
#[inline(always)]
pub fn holds<T: Rules>(tables: &T, extra: &Extra, count: &mut Count) -> bool {
    let [_, _, limit, ..] = extra.arguments;
    tables.count_places(count);
    (count.finish(tables) > limit) != (extra.invert != 0)
}

const _: () = assert!(size_of::<PlaceKey>() == 32);
const _: () = assert!(size_of::<Place>() == 56);

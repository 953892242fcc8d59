//! No two flows have one face: who wants one claims it, and tries other ports.

use bytemuck::Zeroable;

use super::{Desk, arrival::is_face_of, departure::comes_translated, mapping::mode};
use crate::{
    conntrack::find,
    flow::{Flow, protocol, status},
    scratch::Scratch,
    tables::Tables,
    time::Nanos,
    verdict::{DropReason, family},
};

/// A claim counts so long without its flow, which the same run of a program creates: some ticks
/// of the clock, so that the face of a connection that was deleted is free at once.
const FRESH: Nanos = Nanos::from_millis(100);

/// Ports that are tried for one flow.
pub const MAX_TRIES: u32 = 256;

/// What is looked for, as [`Ports::what`].
pub mod what {
    /// A source port behind which the reply's wire face is free; it is claimed.
    pub const WIRE: u32 = 0;
    /// A source port with which no flow is known inside.
    pub const INSIDE: u32 = 1;
}

/// The search for a free port, from [`Ports::first`] on, round and round.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Zeroable)]
pub struct Ports {
    pub first: u32,
    /// How many there are.
    pub count: u32,
    /// Where to begin, below `count`.
    pub offset: u32,
    pub tries: u32,
    /// One of [`what`].
    pub what: u32,
    /// 1 when the one in hand is free.
    pub is_found: u32,
    /// 1 when the client's port is not good enough.
    pub wants_another: u32,
    /// 1 when a port that a socket of this host has is none to give away.
    pub spares_sockets: u32,
    /// 1 when the claim failed for want of space.
    pub is_full: u32,
    /// One of [`mode`].
    pub mapping: u32,
    pub now: Nanos,
}

impl Ports {
    /// The ports that stand for a client's: as the kernel sorts them.
    #[inline(always)]
    pub const fn class_of(protocol: u8, port: u16) -> (u16, u16) {
        match protocol {
            protocol::ICMP | protocol::ICMPV6 => (0, 65_535),
            _ if port < 512 => (1, 511),
            _ if port < 1_024 => (600, 1_023),
            _ => (1_024, 65_535),
        }
    }

    #[inline(always)]
    pub const fn range(&mut self, first: u16, last: u16) {
        self.first = first as u32;
        self.count = (last as u32).saturating_sub(first as u32) + 1;
    }

    #[inline(always)]
    pub const fn contains(&self, port: u16) -> bool {
        (port as u32).wrapping_sub(self.first) < self.count
    }

    /// The next one to try.
    #[inline(always)]
    const fn next(&mut self) -> u16 {
        let port = self.first + self.offset;
        self.offset += 1;
        if self.offset >= self.count {
            self.offset = 0;
        }
        self.tries += 1;
        port as u16
    }
}

/// A number below `count` for any number.
#[inline(always)]
pub const fn scale(number: u32, count: u32) -> u32 {
    ((number as u64 * count as u64) >> 32) as u32
}

/// Whether packets of a protocol have a source port, or an identifier, that can be another.
/// The checksum of SCTP cannot follow.
#[inline(always)]
pub const fn has_changeable_ports(protocol: u8) -> bool {
    matches!(
        protocol,
        protocol::TCP | protocol::UDP | protocol::UDPLITE | protocol::ICMP | protocol::ICMPV6
    )
}

/// Tries the next port for `scratch.nat.claimed`; `true` ends the search.
#[inline(always)]
pub fn step<T: Tables>(tables: &T, scratch: &mut Scratch) -> bool {
    let ports = &mut scratch.nat.ports;
    if ports.tries >= ports.count {
        return true;
    }
    let port = ports.next();
    set_source_port(scratch, port);
    let is_free = tables.attempt(scratch);
    scratch.nat.ports.is_found = u32::from(is_free);
    is_free || scratch.nat.ports.is_full != 0
}

/// Tries the face in hand.
#[inline(always)]
pub fn attempt<T: Tables>(tables: &T, scratch: &mut Scratch) -> bool {
    match scratch.nat.ports.what {
        what::INSIDE => is_free_inside(tables, scratch),
        _ if scratch.nat.ports.spares_sockets != 0 && tables.has_socket(&scratch.nat.claimed) => {
            false
        }
        _ => is_unmapped(tables, scratch) && claim(tables, scratch),
    }
}

/// Whether the port in hand is no mapping's of another inside endpoint.
#[inline(always)]
fn is_unmapped<T: Tables>(tables: &T, scratch: &mut Scratch) -> bool {
    scratch.nat.ports.mapping == mode::IGNORE || tables.reserve_port(scratch)
}

/// The source's port in the face in hand: of a reply's face it is the destination's.
#[inline(always)]
const fn set_source_port(scratch: &mut Scratch, port: u16) {
    match scratch.nat.ports.what {
        what::INSIDE => scratch.nat.claimed.sport = port,
        _ => scratch.nat.claimed.dport = port,
    }
}

#[inline(always)]
fn is_free_inside<T: Tables>(tables: &T, scratch: &mut Scratch) -> bool {
    let Scratch { nat, .. } = scratch;
    tables.key_of(&nat.claimed, &mut nat.claimed_key);
    find(tables, &nat.claimed_key, nat.ports.now).is_none()
}

/// Claims the wire face `scratch.nat.claimed` as the way to `claimed_inside`; `false` when it
/// is another flow's. One that is the inside itself needs no entry.
#[inline(always)]
pub fn claim<T: Tables>(tables: &T, scratch: &mut Scratch) -> bool {
    let nat = &mut scratch.nat;
    let now = nat.ports.now;
    let sender = tables.key_of(&nat.claimed, &mut nat.claimed_key);
    tables.key_of(&nat.claimed_inside, &mut nat.owner_key);
    let is_inside = nat.claimed == nat.claimed_inside;
    // Who is known by these ends without any translation.
    if nat.claimed_key != nat.owner_key
        && let Some((_, flow)) = find(tables, &nat.claimed_key, now)
        && !comes_translated(flow, flow.direction(sender))
    {
        return false;
    }
    nat.translation.lead(sender, &nat.claimed_inside, now);
    let Some(found) = tables.translation(&nat.claimed_key) else {
        if is_inside || tables.add_translation(&nat.claimed_key, &nat.translation) {
            return true;
        }
        nat.ports.is_full = u32::from(tables.translation(&nat.claimed_key).is_none());
        return false;
    };
    let is_same = found.leads_to(&nat.translation);
    let was = found.claimed;
    if !is_same && (now.since(was).0 < FRESH.0 || is_alive(tables, scratch)) {
        return false;
    }
    if is_inside {
        return true;
    }
    let nat = &mut scratch.nat;
    let Some(found) = tables.translation(&nat.claimed_key) else { return false };
    if !tables.renew(&mut found.claimed, was, now) {
        return false;
    }
    *found = nat.translation;
    true
}

/// Whether the translation under the claimed key is that of a flow that lives.
#[inline(always)]
fn is_alive<T: Tables>(tables: &T, scratch: &mut Scratch) -> bool {
    let nat = &mut scratch.nat;
    let Some(found) = tables.translation(&nat.claimed_key) else { return false };
    nat.claimed_key.write_tuple(found.sender(), &mut nat.owner);
    found.apply(&mut nat.owner);
    let sender = tables.key_of(&nat.owner, &mut nat.owner_key);
    let Some((_, flow)) = find(tables, &nat.owner_key, nat.ports.now) else { return false };
    nat.claimed_key.write_tuple(found.sender(), &mut nat.owner);
    is_face_of(flow, flow.direction(sender), &nat.owner)
}

/// Why a search that is over has found nothing.
#[inline(always)]
pub const fn refusal(ports: &Ports) -> DropReason {
    if ports.is_full != 0 { DropReason::NatTableFull } else { DropReason::NatPortsExhausted }
}

/// Keeps the ways in of a flow that was confirmed, whose key is on the desk.
#[inline(always)]
pub fn keep<T: Tables>(tables: &T, scratch: &mut Scratch, flow: &Flow) {
    let Scratch { nat, key, .. } = scratch;
    if flow.has(status::DESTINATION_TRANSLATED) {
        flow.write_wire_original(key, &mut nat.claimed);
        tables.key_of(&nat.claimed, &mut nat.claimed_key);
        keep_one(tables, nat);
    }
    if flow.has(status::SOURCE_TRANSLATED) {
        flow.write_wire_reply(key, &mut nat.claimed);
        tables.key_of(&nat.claimed, &mut nat.claimed_key);
        keep_one(tables, nat);
    }
}

#[inline(always)]
fn keep_one<T: Tables>(tables: &T, nat: &Desk) {
    if !tables.keep_translation(&nat.claimed_key) {
        tables.count_flow(family::TRANSLATIONS_FULL, &nat.claimed_key);
    }
}

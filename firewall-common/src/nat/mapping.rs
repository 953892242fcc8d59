//! Endpoint-independent mapping of UDP (RFC 4787, REQ-1), on request: all flows of an inside
//! endpoint that leave by one outside address leave by one port, whatever their destination.
//!
//! A mapping has two entries. Under the inside endpoint stands the outside port, and until
//! when; under the outside endpoint stands whose it is. The latter keeps others away while the
//! former names it, or for a moment after it was made. So nothing must be removed when a mapping
//! ends, and its time need be written in one place.
//!
//! It ends a moment after the last of its flows. Those renew it not with each packet, but when
//! their own end has moved by a tick ([`tick`]).

use core::mem::size_of;

use bytemuck::{Pod, Zeroable};

use super::{Desk, translation::face};
use crate::{
    addr::Addr,
    flow::{Flow, FlowKey, Sender},
    hop::tick,
    scratch::Scratch,
    tables::Tables,
    time::Nanos,
    verdict::Stat,
};

/// An outside port is kept so long without an inside endpoint that names it, which it does a
/// moment later.
pub const FRESH: Nanos = Nanos::from_secs(1);

/// By how much a mapping outlives what its flows have told of their end: more than a tick.
const SLACK: Nanos = Nanos::from_secs(1);

/// How a search for a port goes by mappings, in [`super::claim::Ports::mapping`].
pub mod mode {
    pub const IGNORE: u32 = 0;
    /// Others' ports are spared.
    pub const SPARE: u32 = 1;
    /// And the port that is found becomes the inside endpoint's.
    pub const MAKE: u32 = 2;
}

/// One of the two ends of a mapping.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Pod, Zeroable)]
pub struct MappingKey {
    /// The address of the inside endpoint; any under the outside one.
    pub inside: Addr,
    pub outside: Addr,
    /// The port of that endpoint whose entry it is.
    pub port: u16,
    pub _pad: [u8; 6],
}

/// The other end.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Mapping {
    pub address: Addr,
    pub port: u16,
    pub _pad: [u8; 6],
    /// Under the outside endpoint: so long it is kept, whoever names it.
    pub until: Nanos,
}

impl MappingKey {
    /// Whether the entry is that of the inside endpoint.
    pub fn is_inside(&self) -> bool {
        self.inside != Addr::ANY
    }

    /// The key of the inside endpoint that has this outside one, as its entry says.
    #[inline(always)]
    pub const fn holder(&self, found: &Mapping) -> Self {
        Self { inside: found.address, outside: self.outside, port: found.port, _pad: [0; 6] }
    }
}

impl Mapping {
    #[inline(always)]
    pub fn is_same(&self, other: &Self) -> bool {
        self.port == other.port && self.address == other.address
    }

    /// Whether this entry of an inside endpoint makes it hold this port now.
    #[inline(always)]
    pub const fn names(&self, port: u16, now: Nanos) -> bool {
        self.port == port && self.until.is_after(now)
    }
}

impl Desk {
    /// The outside endpoint in hand, and whose it is to be.
    #[inline(always)]
    const fn look_outside(&mut self) {
        let Self { claimed, claimed_inside, mapping_key, mapping, ports, .. } = self;
        (mapping_key.inside, mapping_key.outside) = (Addr::ANY, claimed.dst);
        mapping_key.port = claimed.dport;
        (mapping.address, mapping.port) = (claimed_inside.dst, claimed_inside.dport);
        mapping.until = ports.now.after(FRESH);
        (mapping_key._pad, mapping._pad) = ([0; 6], [0; 6]);
    }

    /// The inside endpoint, and the outside one in hand.
    #[inline(always)]
    const fn look_inside(&mut self) {
        let Self { claimed, claimed_inside, mapping_key, mapping, .. } = self;
        (mapping_key.inside, mapping_key.outside) = (claimed_inside.dst, claimed.dst);
        mapping_key.port = claimed_inside.dport;
        (mapping.address, mapping.port) = (claimed.dst, claimed.dport);
        (mapping_key._pad, mapping._pad) = ([0; 6], [0; 6]);
    }
}

/// Puts the port into hand that the inside endpoint has, unless the rule has none of it to give;
/// `false` when it has no port.
#[inline(always)]
pub fn recall<T: Tables>(tables: &T, scratch: &mut Scratch) -> bool {
    let nat = &mut scratch.nat;
    nat.look_inside();
    let Some(found) = tables.mapping(&nat.mapping_key) else { return false };
    if !found.until.is_after(nat.ports.now) {
        return false;
    }
    if !nat.ports.contains(found.port) {
        nat.ports.mapping = mode::SPARE;
        return false;
    }
    nat.claimed.dport = found.port;
    true
}

/// Keeps the outside endpoint in hand for the inside one; `false` when it is another's.
#[inline(always)]
pub fn reserve<T: Tables>(tables: &T, scratch: &mut Scratch) -> bool {
    let nat = &mut scratch.nat;
    nat.look_outside();
    let Some(found) = tables.mapping(&nat.mapping_key) else {
        return nat.ports.mapping != mode::MAKE || add(tables, nat);
    };
    let (is_own, was) = (found.is_same(&nat.mapping), found.until);
    nat.holder_key = nat.mapping_key.holder(found);
    let (port, now) = (nat.mapping_key.port, nat.ports.now);
    let is_held = tables.mapping(&nat.holder_key).is_some_and(|holder| holder.names(port, now));
    if is_held || was.is_after(now) {
        return is_own;
    }
    if nat.ports.mapping != mode::MAKE {
        return true;
    }
    take_over(tables, nat, was)
}

/// Has the port in hand be the inside endpoint's from now on, until its flow ends; `false` when
/// another packet was faster.
#[inline(always)]
pub fn note<T: Tables>(tables: &T, scratch: &mut Scratch) -> bool {
    let nat = &mut scratch.nat;
    if nat.ports.mapping != mode::MAKE {
        return true;
    }
    nat.look_inside();
    nat.mapping.until = nat.ports.now.after(tables.timeouts().udp).after(SLACK);
    let is_noted = match tables.mapping(&nat.mapping_key) {
        None => add(tables, nat),
        Some(found) if found.until.is_after(nat.ports.now) => {
            let is_same = found.is_same(&nat.mapping);
            if is_same {
                prolong(tables, found, nat.mapping.until);
            }
            is_same
        }
        Some(found) => {
            let was = found.until;
            take_over(tables, nat, was)
        }
    };
    if is_noted && nat.ports.mapping == mode::MAKE {
        nat.faces.flags |= face::MAPPED;
    }
    is_noted
}

/// Makes the entry on the desk; `false` when another packet has. Where there is no space the
/// flow does without a mapping.
#[inline(always)]
fn add<T: Tables>(tables: &T, nat: &mut Desk) -> bool {
    if tables.add_mapping(&nat.mapping_key, &nat.mapping) {
        return true;
    }
    if tables.mapping(&nat.mapping_key).is_some() {
        return false;
    }
    nat.ports.mapping = mode::SPARE;
    tables.count(Stat::MappingsFull as u32);
    true
}

/// Makes the entry on the desk of one that has ended at this time; `false` when another packet
/// has.
#[inline(always)]
fn take_over<T: Tables>(tables: &T, nat: &Desk, was: Nanos) -> bool {
    let Some(found) = tables.mapping(&nat.mapping_key) else { return false };
    if !tables.renew(&mut found.until, was, nat.mapping.until) {
        return false;
    }
    (found.address, found.port) = (nat.mapping.address, nat.mapping.port);
    true
}

/// Whether a flow that ended at one time and ends at another now is to renew its mapping.
#[inline(always)]
pub const fn is_due(flow: &Flow, was: Nanos, expires: Nanos) -> bool {
    flow.faces.flags & face::MAPPED != 0 && tick(was) != tick(expires)
}

/// Has the mapping of a flow live as long as that.
#[inline(always)]
pub fn renew<T: Tables>(tables: &T, key: &FlowKey, flow: &Flow) {
    let (inside, port) = match flow.originator() {
        Sender::Low => key.low(),
        Sender::High => key.high(),
    };
    let [outside, _] = flow.faces.source;
    let key = MappingKey { inside, outside, port, _pad: [0; 6] };
    let Some(found) = tables.mapping(&key) else { return };
    let [face, _] = flow.faces.port;
    // It may have ended, and be another one.
    if found.port == face {
        prolong(tables, found, flow.expires.after(SLACK));
    }
}

/// Who is slower than another packet leaves it to the next one.
#[inline(always)]
fn prolong<T: Tables>(tables: &T, found: &mut Mapping, until: Nanos) {
    let was = found.until;
    if until.is_after(was) {
        let _ = tables.renew(&mut found.until, was, until);
    }
}

const _: () = assert!(size_of::<MappingKey>() == 40);
const _: () = assert!(size_of::<Mapping>() == 32);

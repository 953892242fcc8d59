//! `-j SET`: a packet puts what it has into a set, or takes it out.

use super::{Entry, EntryKey, HOST, Kind, SetHeader, Tick, ask, set_flag};
use crate::{
    addr::{Addr, Family},
    extra::{Asking, Facts, facts::number},
    tables::Rules,
};

/// What a rule changes: the arguments of the extra that its target names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Order {
    /// Slot, and as in [`ask::Question`] the sources and how many there are.
    pub add: Option<(u32, u32, u32)>,
    pub del: Option<(u32, u32, u32)>,
    /// What is there already begins anew.
    pub exist: bool,
    /// In seconds, instead of the set's own.
    pub timeout: Option<u32>,
}

const EXIST: u32 = 1 << 0;
const TIMEOUT: u32 = 1 << 1;

impl Order {
    pub const fn pack(&self) -> [u32; 8] {
        let [add, add_how] = pack_side(self.add);
        let [del, del_how] = pack_side(self.del);
        let (has_timeout, timeout) = match self.timeout {
            Some(timeout) => (TIMEOUT, timeout),
            None => (0, 0),
        };
        let flags = has_timeout | if self.exist { EXIST } else { 0 };
        [add, add_how, del, del_how, flags, timeout, 0, 0]
    }

    /// The inverse of [`Order::pack`].
    #[inline(always)]
    pub const fn unpack(words: &[u32; 8]) -> Self {
        let [add, add_how, del, del_how, flags, timeout, ..] = *words;
        Self {
            add: unpack_side(add, add_how),
            del: unpack_side(del, del_how),
            exist: flags & EXIST != 0,
            timeout: if flags & TIMEOUT != 0 { Some(timeout) } else { None },
        }
    }
}

/// The slot, then sources and dimensions; no dimensions for none.
const fn pack_side(side: Option<(u32, u32, u32)>) -> [u32; 2] {
    match side {
        Some((slot, sources, dimensions)) => [slot, sources & 0xff | dimensions << 8],
        None => [0, 0],
    }
}

#[inline(always)]
const fn unpack_side(slot: u32, how: u32) -> Option<(u32, u32, u32)> {
    if how >> 8 == 0 { None } else { Some((slot, how & 0xff, how >> 8)) }
}

/// Does what the extra with this index says.
#[inline(always)]
pub fn change<T: Rules>(tables: &T, index: u32, facts: &Facts, asking: Asking) {
    put_in(tables, index, facts, asking);
    take_out(tables, index, facts, asking);
}

/// What [`change`] does first.
#[inline(always)]
pub fn put_in<T: Rules>(tables: &T, index: u32, facts: &Facts, asking: Asking) {
    let Some(extra) = tables.extra(asking.slot, index) else { return };
    let order = Order::unpack(&extra.arguments);
    if let Some(side) = order.add {
        add(tables, side, &order, facts);
    }
}

/// What [`change`] does then.
#[inline(always)]
pub fn take_out<T: Rules>(tables: &T, index: u32, facts: &Facts, asking: Asking) {
    let Some(extra) = tables.extra(asking.slot, index) else { return };
    if let Some(side) = Order::unpack(&extra.arguments).del {
        remove(tables, side, facts);
    }
}

#[inline(always)]
fn add<T: Rules>(tables: &T, side: (u32, u32, u32), order: &Order, facts: &Facts) {
    let (slot, sources, dimensions) = side;
    let Some(store) = tables.set_store(slot) else { return };
    let Some(header) = tables.set_header(store) else { return };
    let Some(key) = element(tables, store, header, sources, dimensions, facts) else { return };
    let now = facts.now;
    let changes = tables.set_changes();
    let before = tables.set_entry(store, &key).filter(|entry| !entry.is_expired(now));
    if !order.exist && before.is_some() {
        return;
    }
    let seconds = match order.timeout {
        Some(seconds) => seconds,
        None => header.timeout,
    };
    let has_end = header.has(set_flag::TIMEOUT);
    let counts = header.has(set_flag::COUNTERS);
    let length = u64::from(facts.number(number::LENGTH, true));
    let entry = Entry {
        packets: u64::from(counts),
        bytes: if counts { length } else { 0 },
        expires: if has_end { Tick::after(now, seconds) } else { Tick::NEVER },
        flags: 0,
    };
    if key.prefix == HOST && header.prefixes[2] == 0 {
        tables.note_hosts(store);
    }
    if !tables.put_entry(store, &key, &entry) {
        return;
    }
    // What has an end is remembered by nobody, and that it has another one is nothing new: unless
    // it had gone meanwhile, or was about to.
    let is_known = before.is_some_and(|before| {
        before.flags == 0
            && before.expires.is_never() == entry.expires.is_never()
            && !before.is_expired(now.after(Tick::LENGTH))
            && tables.set_changes() == changes
    });
    if !is_known {
        tables.note_set_change();
    }
}

#[inline(always)]
fn remove<T: Rules>(tables: &T, side: (u32, u32, u32), facts: &Facts) {
    let (slot, sources, dimensions) = side;
    let Some(store) = tables.set_store(slot) else { return };
    let Some(header) = tables.set_header(store) else { return };
    if let Some(key) = element(tables, store, header, sources, dimensions, facts)
        && tables.remove_entry(store, &key)
    {
        tables.note_set_change();
    }
}

/// The element that the packet is: of the longest prefix that the set has, as in the
/// kernel, or the address itself.
#[inline(always)]
fn element<T: Rules>(
    tables: &T,
    store: u32,
    header: &SetHeader,
    sources: u32,
    dimensions: u32,
    facts: &Facts,
) -> Option<EntryKey> {
    let kind = Kind::from_byte(header.kind)?;
    if matches!(kind, Kind::ListSet)
        || dimensions < kind.dimensions()
        || !header.is_of(facts.family())
    {
        return None;
    }
    let mut key = ask::key_of(kind, header, facts, sources)?;
    if matches!(kind, Kind::HashIp) && is_nowhere(facts.family(), key.address) {
        return None;
    }
    key.prefix = match ask::longest(&tables.set_prefixes(store, header)) {
        Some(length) => length,
        None => HOST,
    };
    key.address = ask::cut(key.address, tables.prefix_mask(key.prefix));
    Some(key)
}

/// `0.0.0.0` and `::`, which hash:ip does not take.
#[inline(always)]
fn is_nowhere(family: Family, address: Addr) -> bool {
    let [a, b, c, d] = address.words;
    matches!(family, Family::Ipv4) && d == 0 || a | b | c | d == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_survives_its_words() {
        for order in [
            Order { add: Some((0, 0, 1)), del: None, exist: true, timeout: Some(0) },
            Order { add: None, del: Some((1_023, 0b11, 2)), exist: false, timeout: None },
        ] {
            assert_eq!(Order::unpack(&order.pack()), order);
        }
    }
}

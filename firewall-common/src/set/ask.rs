//! `-m set`: whether a packet is in a set, as xt_set and the types of ip_set see it.

use super::{Entry, EntryKey, HOST, Kind, MEMBERS, SetHeader, entry_flag, set_flag};
use crate::{
    addr::Addr,
    extra::{
        Asking, Facts,
        facts::{address, number},
    },
    flow::protocol,
    tables::Rules,
};

/// Bits of a question's options.
pub mod option {
    /// Holds for the exceptions of a set instead of its elements.
    pub const RETURN_NOMATCH: u32 = 1 << 0;
    /// The element's counters stay.
    pub const SKIP_COUNTERS: u32 = 1 << 1;
    /// Those in the members of a list:set stay.
    pub const SKIP_SUBCOUNTERS: u32 = 1 << 2;
}

/// How a counter is compared, as a number.
pub mod compare {
    pub const NONE: u32 = 0;
    pub const EQUAL: u32 = 1;
    pub const NOT_EQUAL: u32 = 2;
    pub const BELOW: u32 = 3;
    pub const ABOVE: u32 = 4;
}

/// What a rule asks of a set: the arguments of an extra with
/// [`crate::extra::Test::Set`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Question {
    pub slot: u32,
    /// Bit n: the nth of `src,dst` is `src`.
    pub sources: u32,
    /// How many of them there are.
    pub dimensions: u32,
    /// Bits of [`option`].
    pub options: u32,
    /// One of [`compare`], and with what.
    pub packets: (u32, u64),
    pub bytes: (u32, u64),
}

impl Question {
    #[inline(always)]
    pub const fn pack(&self) -> [u32; 8] {
        let how = self.sources & 0xff
            | (self.dimensions & 0xff) << 8
            | (self.options & 0xff) << 16
            | (self.packets.0 & 0xf) << 24
            | (self.bytes.0 & 0xf) << 28;
        let (packets, bytes) = (self.packets.1, self.bytes.1);
        let [p, q] = [packets as u32, (packets >> 32) as u32];
        let [b, c] = [bytes as u32, (bytes >> 32) as u32];
        [self.slot, how, p, q, b, c, 0, 0]
    }

    /// The inverse of [`Question::pack`].
    #[inline(always)]
    pub const fn unpack(words: &[u32; 8]) -> Self {
        let [slot, how, p, q, b, c, ..] = *words;
        Self {
            slot,
            sources: how & 0xff,
            dimensions: how >> 8 & 0xff,
            options: how >> 16 & 0xff,
            packets: (how >> 24 & 0xf, (q as u64) << 32 | p as u64),
            bytes: (how >> 28, (c as u64) << 32 | b as u64),
        }
    }
}

/// A search through a set, or through those of a list:set: one prefix length a step, the
/// longest first.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Search {
    question: Question,
    /// The prefix lengths of the set at hand that are left.
    prefixes: [u64; 3],
    /// Of the packet, all bits.
    address: Addr,
    key: EntryKey,
    /// The member at hand, as an element of the list.
    member: EntryKey,
    entry: Entry,
    /// The set at hand.
    store: u32,
    /// The list:set that it is a member of; 0 for none.
    list: u32,
    /// How many of the members had their turn.
    place: u32,
    /// Bits of [`option`] for the elements.
    options: u32,
    /// Of the set at hand, and of the list.
    flags: u8,
    list_flags: u8,
    /// Exceptions hold, and elements do not.
    is_inverted: u8,
    is_question: u8,
    /// 1 when the packet is in the set.
    answer: u32,
    /// 1 when an answer was given that time may change, or that counted the packet.
    is_fleeting: u32,
}

impl Search {
    /// More steps than any search has.
    pub const MAX_STEPS: u32 = (HOST as u32 + 2) * (MEMBERS as u32 + 1);

    /// Before the first step.
    #[inline(always)]
    pub fn begin<T: Rules>(
        &mut self,
        tables: &T,
        words: &[u32; 8],
        facts: &Facts,
        is_question: bool,
    ) {
        self.question = Question::unpack(words);
        self.prefixes = [0; 3];
        self.list = 0;
        self.place = 0;
        self.answer = 0;
        self.options = self.question.options;
        self.is_question = u8::from(is_question);
        let Some(store) = tables.set_store(self.question.slot) else { return };
        let Some(header) = tables.set_header(store) else { return };
        if header.kind == Kind::ListSet as u8 {
            self.list = store;
            self.list_flags = header.flags;
            if self.options & option::SKIP_SUBCOUNTERS != 0 {
                self.options |= option::SKIP_COUNTERS;
            }
        } else {
            self.enter(tables, store, facts);
        }
    }

    #[inline(always)]
    pub const fn holds(&self) -> bool {
        self.answer != 0
    }

    /// Whether an answer since this was asked before may be another one for the next packet,
    /// though nobody changes a set: an element was found that has an end, or that counts. Where
    /// nothing is found, only what is put in can change that.
    #[inline(always)]
    pub const fn take_fleeting(&mut self) -> bool {
        let is_fleeting = self.is_fleeting != 0;
        self.is_fleeting = 0;
        is_fleeting
    }

    /// Says when to stop.
    #[inline(always)]
    pub fn step<T: Rules>(&mut self, tables: &T, facts: &Facts) -> bool {
        match longest(&self.prefixes) {
            Some(length) => self.look(tables, length, facts),
            None => self.next_member(tables, facts),
        }
    }

    /// Begins with a set that is no list.
    #[inline(always)]
    fn enter<T: Rules>(&mut self, tables: &T, store: u32, facts: &Facts) {
        let Some(header) = tables.set_header(store) else { return };
        let Some(kind) = Kind::from_byte(header.kind) else { return };
        if self.question.dimensions < kind.dimensions()
            || !header.is_of(facts.family())
            || matches!(kind, Kind::ListSet)
        {
            return;
        }
        let Some(key) = key_of(kind, header, facts, self.question.sources) else { return };
        self.address = key.address;
        self.key = key;
        self.store = store;
        self.flags = header.flags;
        let is_inverted =
            kind.has_networks() && self.question.options & option::RETURN_NOMATCH != 0;
        self.is_inverted = u8::from(is_inverted);
        self.prefixes = tables.set_prefixes(store, header);
    }

    /// Looks for an element of this prefix length.
    #[inline(always)]
    fn look<T: Rules>(&mut self, tables: &T, length: u8, facts: &Facts) -> bool {
        self.take_out(length);
        self.key.prefix = length;
        self.key.address = cut(self.address, tables.prefix_mask(length));
        let Some(entry) = tables.set_entry(self.store, &self.key) else { return false };
        if entry.is_expired(facts.now) {
            return false;
        }
        self.entry = entry;
        let list_flags = if self.list == 0 { 0 } else { self.list_flags };
        if !entry.expires.is_never()
            || self.flags & set_flag::COUNTERS != 0
            || list_flags & (set_flag::COUNTERS | set_flag::TIMEOUT) != 0
        {
            self.is_fleeting = 1;
        }
        if self.flags & set_flag::COUNTERS != 0 && !self.is_counted(tables, facts) {
            return false;
        }
        let is_exception = u8::from(self.entry.flags & entry_flag::NOMATCH != 0);
        if is_exception != self.is_inverted || !self.is_member_counted(tables, facts) {
            // This set has answered.
            self.prefixes = [0; 3];
            return false;
        }
        self.answer = 1;
        true
    }

    #[inline(always)]
    const fn take_out(&mut self, length: u8) {
        if length == HOST {
            self.prefixes[2] = 0;
        } else {
            self.prefixes[(length >> 6) as usize & 1] &= !(1 << (length & 63));
        }
    }

    /// Goes on with the next set of the list; says to stop where there is none.
    #[inline(always)]
    fn next_member<T: Rules>(&mut self, tables: &T, facts: &Facts) -> bool {
        if self.list == 0 {
            return true;
        }
        let Some(header) = tables.set_header(self.list) else { return true };
        let Some(member) = header.members.get(self.place as usize) else { return true };
        if *member == 0 {
            return true;
        }
        self.place += 1;
        let slot = u32::from(*member) - 1;
        self.member = EntryKey::member(slot);
        if self.list_flags & set_flag::TIMEOUT != 0 {
            let Some(entry) = tables.set_entry(self.list, &self.member) else { return false };
            if entry.is_expired(facts.now) {
                return false;
            }
        }
        if let Some(store) = tables.set_store(slot) {
            self.enter(tables, store, facts);
        }
        false
    }

    /// Counts the packet at the element, whose counters fit then. With a list:set, those of
    /// the member are compared instead.
    #[inline(always)]
    fn is_counted<T: Rules>(&mut self, tables: &T, facts: &Facts) -> bool {
        if self.options & option::SKIP_COUNTERS == 0 {
            let length = self.add(facts);
            if self.is_question == 0 {
                tables.count_entry(self.store, &self.key, length);
            }
        }
        self.list != 0 || self.fits()
    }

    /// The same for the member in its list.
    #[inline(always)]
    fn is_member_counted<T: Rules>(&mut self, tables: &T, facts: &Facts) -> bool {
        if self.list == 0 || self.list_flags & set_flag::COUNTERS == 0 {
            return true;
        }
        let Some(entry) = tables.set_entry(self.list, &self.member) else { return false };
        self.entry = entry;
        if self.question.options & option::SKIP_COUNTERS == 0 {
            let length = self.add(facts);
            if self.is_question == 0 {
                tables.count_entry(self.list, &self.member, length);
            }
        }
        self.fits()
    }

    /// Adds the packet to what the element has counted; gives its length.
    #[inline(always)]
    const fn add(&mut self, facts: &Facts) -> u64 {
        let length = facts.number(number::LENGTH, true) as u64;
        self.entry.packets += 1;
        self.entry.bytes += length;
        length
    }

    #[inline(always)]
    const fn fits(&self) -> bool {
        fits(self.entry.packets, self.question.packets)
            && fits(self.entry.bytes, self.question.bytes)
    }
}

/// The highest bit that is set.
#[inline(always)]
pub(super) const fn longest(prefixes: &[u64; 3]) -> Option<u8> {
    let [low, high, whole] = *prefixes;
    if whole != 0 {
        Some(HOST)
    } else if high != 0 {
        Some(127 - high.leading_zeros() as u8)
    } else if low != 0 {
        Some(63 - low.leading_zeros() as u8)
    } else {
        None
    }
}

/// The first bits of an address.
#[inline(always)]
pub const fn cut(address: Addr, mask: Addr) -> Addr {
    let ([a, b, c, d], [k, l, m, n]) = (address.words, mask.words);
    Addr { words: [a & k, b & l, c & m, d & n] }
}

/// The mask of the first bits of an address, 0 to 128 of them, without a branch: to the
/// verifier each would be two ways. `opaque` gives a word back as it is, and keeps the
/// compiler from making a branch of it.
#[inline(always)]
pub fn mask(length: u8, opaque: impl Fn(u64) -> u64) -> Addr {
    let length = u64::from(length);
    // All ones where the length is below that of the half, or of the whole.
    let in_first = opaque(((length as i64 - 64) >> 63) as u64);
    let in_whole = opaque(((length as i64 - 128) >> 63) as u64);
    let first = (u64::MAX << 1) << (63u64.wrapping_sub(length) & 63);
    let second = (u64::MAX << 1) << (127u64.wrapping_sub(length) & 63);
    let first = first & in_first | !in_first;
    let second = (second & in_whole | !in_whole) & !in_first;
    let word = |value: u64| (value as u32).to_be();
    Addr { words: [word(first >> 32), word(first), word(second >> 32), word(second)] }
}

/// What a packet is for a set: the key of an element without its prefix length; `None`
/// where the packet has no such thing.
#[inline(always)]
pub(super) fn key_of(
    kind: Kind,
    header: &SetHeader,
    facts: &Facts,
    sources: u32,
) -> Option<EntryKey> {
    let side = |dimension: u32| sources >> dimension & 1 != 0;
    let mut key = EntryKey { address: Addr::ANY, port: 0, protocol: 0, prefix: 0 };
    if kind.has_address() {
        let place = if side(0) { address::SOURCE } else { address::DESTINATION };
        key.address = facts.address(place);
    }
    match kind {
        Kind::HashIpPort | Kind::HashNetPort => {
            key.port = facts.port(side(1));
            key.protocol = facts.protocol();
        }
        Kind::BitmapPort => {
            key.port = facts.port(side(0));
            let has_ports = matches!(facts.protocol(), protocol::TCP | protocol::UDP);
            if !has_ports || key.port < header.first || header.last < key.port {
                return None;
            }
        }
        Kind::HashIp | Kind::HashNet | Kind::ListSet => {}
    }
    Some(key)
}

/// Whether the extra with this index, a [`crate::extra::Test::Set`], holds.
#[inline(always)]
pub fn holds<T: Rules>(tables: &T, index: u32, facts: &Facts, asking: Asking) -> bool {
    let Some(extra) = tables.extra(asking.slot, index) else { return false };
    tables.ask_set(&extra.arguments, facts, asking.is_question) != (extra.invert != 0)
}

#[inline(always)]
const fn fits(value: u64, (how, with): (u32, u64)) -> bool {
    match how {
        compare::EQUAL => value == with,
        compare::NOT_EQUAL => value != with,
        compare::BELOW => value < with,
        compare::ABOVE => value > with,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::Family;

    #[test]
    fn masks_without_branches_are_those_of_addresses() {
        for length in 0..=128 {
            assert_eq!(mask(length, |word| word), Addr::mask(Family::Ipv6, length), "{length}");
        }
    }

    #[test]
    fn the_longest_prefix_is_found_first() {
        assert_eq!(longest(&[0, 0, 0]), None);
        assert_eq!(longest(&[1, 0, 0]), Some(0));
        assert_eq!(longest(&[1 << 63, 0, 0]), Some(63));
        assert_eq!(longest(&[7, 1, 0]), Some(64));
        assert_eq!(longest(&[7, 1 << 63, 0]), Some(127));
        assert_eq!(longest(&[7, 1, 1]), Some(128));
    }

    #[test]
    fn a_question_survives_its_words() {
        let question = Question {
            slot: 1_023,
            sources: 0b101,
            dimensions: 3,
            options: 0b111,
            packets: (compare::ABOVE, u64::MAX - 1),
            bytes: (compare::NOT_EQUAL, 1 << 40),
        };
        assert_eq!(Question::unpack(&question.pack()), question);
    }
}

//! What rules change of a packet they let pass: its mark, the mark of its connection, type
//! of service, hop limit, and the segment size that a SYN announces.
//!
//! A target changes the facts that later rules look at, as in the kernel. What has become
//! of them when the walk ends is the packet's [`Mangling`], which the adapters carry out.

pub mod parcel;
pub mod rewrite;

use core::mem::size_of;

use bytemuck::{Pod, Zeroable};

use crate::{
    control::is_reserved,
    extra::{Facts, facts::number},
    flow::protocol,
    headers::Headers,
    rule::Rule,
};

/// How [`crate::rule::Target::Hops`] changes the TTL, in [`Rule::mask`].
pub mod hops {
    pub const SET: u32 = 0;
    pub const ADD: u32 = 1;
    pub const SUBTRACT: u32 = 2;
}

/// The argument of [`crate::rule::Target::Mss`] for `--clamp-mss-to-pmtu`.
pub const CLAMP: u32 = u32::MAX;

/// Bits of [`Mangling::changes`].
pub mod change {
    pub const TOS: u8 = 1 << 0;
    /// The TTL, before the packet is routed.
    pub const TTL: u8 = 1 << 1;
    /// The TTL of a packet that is forwarded, on its way out: another than one less.
    pub const TTL_OUT: u8 = 1 << 2;
    pub const MSS: u8 = 1 << 3;
    /// The segment has no segment size, and gets one.
    pub const NEW_MSS: u8 = 1 << 4;
    /// The mark, before the packet is routed.
    pub const MARK: u8 = 1 << 5;
    /// The mark of a packet that is forwarded, on its way out.
    pub const MARK_OUT: u8 = 1 << 6;
    pub const CT_MARK: u8 = 1 << 7;

    /// Those that are written into the packet before it is routed.
    pub const IN_PACKET: u8 = TOS | TTL | MSS | NEW_MSS;
    /// Those that need the stack, and a hand at its end.
    pub const ON_ITS_WAY: u8 = TTL_OUT | MARK | MARK_OUT;
    /// Those that hold for the later fragments, too.
    pub const OF_FRAGMENTS: u8 = TOS | TTL | ON_ITS_WAY;
}

/// What is to become of a packet.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Mangling {
    pub mark: u32,
    pub mark_out: u32,
    pub ct_mark: u32,
    pub mss: u16,
    /// Bits of [`change`].
    pub changes: u8,
    /// Where the option with the segment size begins, from the first option on.
    pub mss_at: u8,
    pub tos: u8,
    pub ttl: u8,
    pub ttl_out: u8,
    pub _pad: [u8; 5],
}

impl Mangling {
    #[inline(always)]
    pub const fn has(&self, changes: u8) -> bool {
        self.changes & changes != 0
    }

    /// What a walk has made of its packet. One that is `on_its_way` is forwarded, and is yet
    /// to be routed by the stack.
    #[inline(always)]
    pub fn of(facts: &Facts, is_on_its_way: bool) -> Self {
        let (came, last) = (facts.came, facts.changeable());
        let routed = if is_on_its_way { facts.routed } else { last };
        let out = facts.number(number::TTL, true);
        let mut mangling = Self {
            mark: routed.mark,
            mark_out: last.mark,
            ct_mark: last.ct_mark,
            mss: last.mss as u16,
            mss_at: facts.options.mss_at,
            tos: last.tos as u8,
            ttl: routed.ttl as u8,
            ttl_out: out as u8,
            ..Self::default()
        };
        mangling.note(change::TOS, last.tos != came.tos);
        mangling.note(change::TTL, routed.ttl != came.ttl);
        let expected = routed.ttl.saturating_sub(facts.hops);
        mangling.note(change::TTL_OUT, is_on_its_way && out != expected);
        let has_changed = last.has_mss != came.has_mss || last.mss != came.mss;
        let was_there = came.has_mss != 0;
        mangling.note(change::MSS, has_changed && was_there);
        mangling.note(change::NEW_MSS, has_changed && !was_there);
        mangling.note(change::MARK, routed.mark != came.mark && !is_reserved(routed.mark));
        let is_new = is_on_its_way && last.mark != routed.mark;
        mangling.note(change::MARK_OUT, is_new && !is_reserved(last.mark));
        mangling.note(change::CT_MARK, last.ct_mark != came.ct_mark);
        mangling
    }

    /// The same, of a forwarded packet at whose end nobody of us stands: everything is done
    /// before the stack routes it.
    #[inline(always)]
    pub const fn at_once(&self) -> Self {
        let mut all = *self;
        if self.has(change::TTL_OUT) {
            all.ttl = self.ttl_out.saturating_add(1);
            all.changes |= change::TTL;
        }
        if self.has(change::MARK_OUT) {
            all.mark = self.mark_out;
            all.changes |= change::MARK;
        }
        all.changes &= !(change::TTL_OUT | change::MARK_OUT);
        all
    }

    /// The one mark of a packet that is held: the one by which it is routed, if rules have
    /// set one.
    #[inline(always)]
    pub const fn routing_mark(&self) -> u32 {
        match self.changes & (change::MARK | change::MARK_OUT) {
            0 => 0,
            change::MARK_OUT => self.mark_out,
            _ => self.mark,
        }
    }

    #[inline(always)]
    const fn note(&mut self, bit: u8, is_changed: bool) {
        if is_changed {
            self.changes |= bit;
        }
    }
}

/// MARK.
#[inline(always)]
pub(crate) const fn mark(facts: &mut Facts, rule: &Rule) {
    change(facts, number::MARK, rule);
}

/// CONNMARK `--set-xmark`.
#[inline(always)]
pub(crate) const fn ct_mark(facts: &mut Facts, rule: &Rule) {
    change(facts, number::CT_MARK, rule);
}

/// TOS and DSCP.
#[inline(always)]
pub(crate) const fn tos(facts: &mut Facts, rule: &Rule) {
    change(facts, number::TOS, rule);
}

#[inline(always)]
const fn change(facts: &mut Facts, place: u8, rule: &Rule) {
    let was = facts.number(place, false);
    facts.set_number(place, (was & !rule.mask) ^ rule.argument);
}

/// CONNMARK `--save-mark`.
#[inline(always)]
pub(crate) const fn save_mark(facts: &mut Facts, rule: &Rule) {
    let (mark, known) = (facts.number(number::MARK, false), facts.number(number::CT_MARK, false));
    facts.set_number(number::CT_MARK, (known & !rule.mask) ^ (mark & rule.argument));
}

/// CONNMARK `--restore-mark`.
#[inline(always)]
pub(crate) const fn restore_mark(facts: &mut Facts, rule: &Rule) {
    let (mark, known) = (facts.number(number::MARK, false), facts.number(number::CT_MARK, false));
    facts.set_number(number::MARK, (mark & !rule.argument) ^ (known & rule.mask));
}

/// TTL and HL: within 0 to 255.
#[inline(always)]
pub(crate) const fn hop_limit(facts: &mut Facts, rule: &Rule, is_routed: bool) {
    const MOST: u32 = 255;
    let was = facts.number(number::TTL, is_routed);
    let next = match rule.mask {
        hops::ADD => was + rule.argument,
        hops::SUBTRACT => was.saturating_sub(rule.argument),
        _ => rule.argument,
    };
    let next = if next > MOST { MOST } else { next };
    let taken = if is_routed { facts.hops } else { 0 };
    facts.set_number(number::TTL, next + taken);
}

/// TCPMSS: only lowers. A header without the option gets one, where there is space and
/// no data behind it; its sender then counts on no more than the default of RFC 9293
/// section 3.7.1 and RFC 8200 section 5.
#[inline(always)]
pub(crate) const fn segment_size(facts: &mut Facts, headers: &Headers, rule: &Rule) {
    if headers.tuple.protocol != protocol::TCP {
        return;
    }
    let is_v4 = headers.version == 4;
    let (least, default) = if is_v4 { (40, 536) } else { (60, 1_220) };
    let size = match rule.argument {
        CLAMP if facts.path_mtu <= least => return,
        CLAMP => facts.path_mtu - least,
        size => size,
    };
    if facts.has_number(number::MSS, true) {
        if size < facts.number(number::MSS, false) {
            facts.set_number(number::MSS, size);
        }
        return;
    }
    let header_len = headers.payload.wrapping_sub(headers.l4);
    if headers.payload_len != 0 || header_len > rewrite::LONGEST_TO_GROW {
        return;
    }
    facts.set_number(number::MSS, if size < default { size } else { default });
    let kinds = facts.number(number::TCP_OPTIONS, false);
    facts.set_number(number::TCP_OPTIONS, kinds | 1 << rewrite::MSS);
    let length = facts.number(number::LENGTH, false);
    facts.set_number(number::LENGTH, length + rewrite::MSS_LEN);
}

const _: () = assert!(size_of::<Mangling>() == 24);

//! What the short way does with an address of either family: IPv4 as its word, in the order of
//! memory, IPv6 as [`Halves`].

use crate::{
    addr::Addr,
    checksum::{Difference, Sum},
    flow::{Flow, FlowKey, Sender},
    ipv4_key::Ipv4Key,
    nat::Translation,
    tables::Tables,
};

use super::{
    Ends,
    hint::{Hint, Hint6, Mark, Part},
};

/// An address of one family: what it is in sums and keys, and which tables know it.
pub trait Address: Copy + PartialEq {
    /// Of the maps that hold this family.
    type Key;

    /// Of one that is known to be of this family.
    fn narrow(address: &Addr) -> Self;
    /// As the tables hold those of both families.
    fn wide(self) -> Addr;
    fn added(self, sum: Sum) -> Sum;
    /// What becomes of a sum when this one is written over another.
    fn instead_of(self, was: Self, change: Difference) -> Difference;

    /// The key of the flow with these ends, and which of its endpoints sends.
    fn key(ends: &Ends<Self>, protocol: u8) -> (Self::Key, Sender);
    /// Both addresses in two words, in which each of their bits has a part.
    fn mixed(src: Self, dst: Self) -> [u64; 2];

    /// Where packets of this mark were led the last time.
    fn hinted<T: Tables>(tables: &T, mark: Mark, wire: &Ends<Self>) -> Option<Ends<Self>>;
    fn note_hint<T: Tables>(tables: &T, mark: Mark, inside: &Ends<Self>);

    #[allow(clippy::mut_from_ref, reason = "flows live in memory shared by all CPUs")]
    fn confirmed<'t, T: Tables>(tables: &'t T, key: &Self::Key) -> Option<&'t mut Flow>;
    fn kept_translation<'t, T: Tables>(tables: &'t T, key: &Self::Key) -> Option<&'t Translation>;
    /// [`Tables::confirm`].
    fn confirm<T: Tables>(
        tables: &T,
        inside: &Ends<Self>,
        interfaces: (u32, u32),
        tick: u32,
    ) -> Option<u16>;
    fn renew_mapping<T: Tables>(tables: &T, key: &Self::Key, flow: &Flow);
}

impl Address for u32 {
    type Key = Ipv4Key;

    #[inline(always)]
    fn narrow(address: &Addr) -> Self {
        let [.., word] = address.words;
        word
    }

    #[inline(always)]
    fn wide(self) -> Addr {
        Addr::v4(self)
    }

    #[inline(always)]
    fn added(self, sum: Sum) -> Sum {
        sum.double_word(self)
    }

    #[inline(always)]
    fn instead_of(self, was: Self, change: Difference) -> Difference {
        change.double_word(was, self)
    }

    #[inline(always)]
    fn key(ends: &Ends<Self>, protocol: u8) -> (Ipv4Key, Sender) {
        let (sport, dport) = (u16::from_be(ends.sport), u16::from_be(ends.dport));
        Ipv4Key::between(protocol, (ends.src, sport), (ends.dst, dport))
    }

    #[inline(always)]
    fn mixed(src: Self, dst: Self) -> [u64; 2] {
        [u64::from(src) | u64::from(dst) << 32, 0]
    }

    #[inline(always)]
    fn hinted<T: Tables>(tables: &T, mark: Mark, wire: &Ends<Self>) -> Option<Ends<Self>> {
        tables.hint(mark, Part::First).inside(mark, wire)
    }

    #[inline(always)]
    fn note_hint<T: Tables>(tables: &T, mark: Mark, inside: &Ends<Self>) {
        tables.note_hint(mark, Part::First, &Hint::new(mark, inside));
    }

    #[inline(always)]
    fn confirmed<'t, T: Tables>(tables: &'t T, key: &Ipv4Key) -> Option<&'t mut Flow> {
        tables.confirmed(key)
    }

    #[inline(always)]
    fn kept_translation<'t, T: Tables>(tables: &'t T, key: &Ipv4Key) -> Option<&'t Translation> {
        tables.kept_translation(key)
    }

    #[inline(always)]
    fn confirm<T: Tables>(
        tables: &T,
        inside: &Ends<Self>,
        interfaces: (u32, u32),
        tick: u32,
    ) -> Option<u16> {
        tables.confirm(inside, interfaces, tick)
    }

    #[inline(always)]
    fn renew_mapping<T: Tables>(tables: &T, key: &Ipv4Key, flow: &Flow) {
        tables.renew_mapping(&key.wide(), flow);
    }
}

/// An address of IPv6 as two words in the order of memory: a program of the kernel has place for few
/// words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Halves(pub [u64; 2]);

impl Halves {
    #[inline(always)]
    const fn words(self) -> [u32; 4] {
        let [front, back] = self.0;
        [front as u32, (front >> 32) as u32, back as u32, (back >> 32) as u32]
    }
}

impl Address for Halves {
    type Key = FlowKey;

    #[inline(always)]
    fn narrow(address: &Addr) -> Self {
        let [a, b, c, d] = address.words;
        Self([u64::from(a) | u64::from(b) << 32, u64::from(c) | u64::from(d) << 32])
    }

    #[inline(always)]
    fn wide(self) -> Addr {
        Addr { words: self.words() }
    }

    #[inline(always)]
    fn added(self, sum: Sum) -> Sum {
        let [a, b, c, d] = self.words();
        sum.double_word(a).double_word(b).double_word(c).double_word(d)
    }

    #[inline(always)]
    fn instead_of(self, was: Self, change: Difference) -> Difference {
        let ([a, b, c, d], [e, f, g, h]) = (was.words(), self.words());
        change.double_word(a, e).double_word(b, f).double_word(c, g).double_word(d, h)
    }

    #[inline(always)]
    fn key(ends: &Ends<Self>, protocol: u8) -> (FlowKey, Sender) {
        let (sport, dport) = (u16::from_be(ends.sport), u16::from_be(ends.dport));
        FlowKey::between(protocol, (ends.src.0, sport), (ends.dst.0, dport))
    }

    #[inline(always)]
    fn mixed(src: Self, dst: Self) -> [u64; 2] {
        let ([a, b], [c, d]) = (src.0, dst.0);
        // Networks and hosts are often the same, and often small numbers.
        [a ^ c.rotate_left(29), b ^ d.rotate_left(29)]
    }

    #[inline(always)]
    fn hinted<T: Tables>(tables: &T, mark: Mark, wire: &Ends<Self>) -> Option<Ends<Self>> {
        let first = tables.hint(mark, Part::First);
        if !first.is_of(mark) {
            return None;
        }
        Hint6 { first, second: tables.hint(mark, Part::Second) }.inside(mark, wire)
    }

    #[inline(always)]
    fn note_hint<T: Tables>(tables: &T, mark: Mark, inside: &Ends<Self>) {
        let Hint6 { first, second } = Hint6::new(mark, inside);
        tables.note_hint(mark, Part::First, &first);
        tables.note_hint(mark, Part::Second, &second);
    }

    #[inline(always)]
    fn confirmed<'t, T: Tables>(tables: &'t T, key: &FlowKey) -> Option<&'t mut Flow> {
        tables.confirmed6(key)
    }

    #[inline(always)]
    fn kept_translation<'t, T: Tables>(tables: &'t T, key: &FlowKey) -> Option<&'t Translation> {
        tables.kept_translation6(key)
    }

    #[inline(always)]
    fn confirm<T: Tables>(
        tables: &T,
        inside: &Ends<Self>,
        interfaces: (u32, u32),
        tick: u32,
    ) -> Option<u16> {
        tables.confirm6(inside, interfaces, tick)
    }

    #[inline(always)]
    fn renew_mapping<T: Tables>(tables: &T, key: &FlowKey, flow: &Flow) {
        tables.renew_mapping(key, flow);
    }
}

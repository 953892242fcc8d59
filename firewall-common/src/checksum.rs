//! The Internet checksum (RFC 1071).

use bytemuck::Zeroable;

use crate::{
    addr::{Addr, Family},
    flow::protocol,
    headers::Headers,
    packet::Packet,
    wire::{Sctp, Tcp, Udp},
};

/// A running one's-complement sum of 16-bit words in network byte order, as
/// loaded from memory.
#[derive(Clone, Copy, Debug, Default, Zeroable)]
pub struct Sum(u64);

impl Sum {
    #[inline(always)]
    pub const fn word(self, word: u16) -> Self {
        Self(self.0 + word as u64)
    }

    #[inline(always)]
    pub const fn double_word(self, word: u32) -> Self {
        Self(self.0 + word as u64)
    }

    #[inline(always)]
    pub const fn addr(self, addr: Addr) -> Self {
        let [a, b, c, d] = addr.words;
        match addr.family() {
            Family::Ipv4 => self.double_word(d),
            Family::Ipv6 => self.double_word(a).double_word(b).double_word(c).double_word(d),
        }
    }

    /// Source, destination, length and protocol (RFC 9293 section 3.1, RFC 8200
    /// section 8.1).
    #[inline(always)]
    pub const fn pseudo_header(src: Addr, dst: Addr, protocol: u8, len: u32) -> Self {
        Self(0).addr(src).addr(dst).word((protocol as u16).to_be()).double_word(len.to_be())
    }

    #[inline(always)]
    pub const fn folded(self) -> u16 {
        // Halves of 32 bits first: most of what is added are words of that size.
        let sum = (self.0 & 0xffff_ffff) + (self.0 >> 32);
        let mut sum = (sum & 0xffff) + (sum >> 16 & 0xffff) + (sum >> 32);
        sum = (sum & 0xffff) + (sum >> 16);
        sum = (sum & 0xffff) + (sum >> 16);
        sum as u16
    }

    /// The value of the checksum field.
    #[inline(always)]
    pub const fn finish(self) -> u16 {
        !self.folded()
    }
}

/// What becomes of a sum when words that it covers change (RFC 1624 section 3).
#[derive(Clone, Copy, Debug, Default)]
pub struct Difference(Sum);

impl Difference {
    #[inline(always)]
    pub const fn word(self, was: u16, now: u16) -> Self {
        Self(self.0.word(!was).word(now))
    }

    #[inline(always)]
    pub const fn addr(self, was: &Addr, now: &Addr) -> Self {
        let ([a, b, c, d], [e, f, g, h]) = (was.words, now.words);
        match was.family() {
            Family::Ipv4 => self.double_word(d, h),
            Family::Ipv6 => {
                self.double_word(a, e).double_word(b, f).double_word(c, g).double_word(d, h)
            }
        }
    }

    #[inline(always)]
    pub const fn double_word(self, was: u32, now: u32) -> Self {
        Self(self.0.double_word(!was).double_word(now))
    }

    #[inline(always)]
    pub const fn and(self, other: Self) -> Self {
        Self(Sum(self.0.0 + other.0.0))
    }

    /// In one word, as functions of the kernel return it: the inverse of [`Difference::folded`].
    #[inline(always)]
    pub const fn of_word(word: u16) -> Self {
        Self(Sum(word as u64))
    }

    /// A checksum field behind the change.
    #[inline(always)]
    pub const fn applied(self, checksum: u16) -> u16 {
        Sum(self.0.0).word(!checksum).finish()
    }

    /// The checksum field of a transport header behind changes in the pseudo-header and in
    /// what it covers itself; `None` when it stays. One that is left to hardware is the sum of
    /// the pseudo-header, not turned over; UDP writes a sum of zero as all ones (RFC 768).
    #[inline(always)]
    pub const fn mended(
        field: u16,
        pseudo: Self,
        covered: Self,
        may_be_none: bool,
        is_unfinished: bool,
    ) -> Option<u16> {
        if is_unfinished {
            return Some(!pseudo.applied(!field));
        }
        if may_be_none && field == 0 {
            return None;
        }
        match pseudo.and(covered).applied(field) {
            0 if may_be_none => Some(0xffff),
            now => Some(now),
        }
    }

    /// As the kernel's helpers take it.
    #[inline(always)]
    pub const fn folded(self) -> u16 {
        self.0.folded()
    }
}

/// Whether a TCP or UDP checksum field holds the pseudo-header's sum alone: the
/// sender left the rest to hardware that the frame never met.
#[inline(always)]
pub const fn is_partial(headers: &Headers, field: u16) -> bool {
    let tuple = &headers.tuple;
    let len = headers.ip_len.wrapping_sub(headers.l4.wrapping_sub(headers.l3));
    Sum::pseudo_header(tuple.src, tuple.dst, tuple.protocol, len).folded() == field
}

/// Whether the sender of a whole packet left its transport checksum to hardware that
/// the frame never met, as a virtual peer does. SCTP leaves zero.
#[inline(always)]
pub fn is_left_to_hardware<P: Packet + ?Sized>(packet: &P, headers: &Headers) -> bool {
    let field = match headers.tuple.protocol {
        protocol::TCP => packet.read::<Tcp>(headers.l4).map(|tcp| tcp.checksum),
        protocol::UDP => packet.read::<Udp>(headers.l4).map(|udp| udp.checksum),
        protocol::SCTP => {
            return packet.read::<Sctp>(headers.l4).is_some_and(|sctp| sctp.checksum == 0);
        }
        _ => return false,
    };
    field.is_some_and(|field| is_partial(headers, field))
}

/// The longest transport header and payload whose sum is read: beyond it stands
/// what the stack has joined from segments that it has checked.
const MAX_VERIFIED: u32 = 2_048;

/// The checksum of a packet's transport header, while its bytes are summed up.
#[repr(C)]
#[derive(Clone, Copy, Debug, Zeroable)]
pub struct Verification {
    sum: Sum,
    at: u32,
    end: u32,
    /// The packet is too long, or not all of it can be read.
    is_unknown: bool,
}

impl Verification {
    #[inline(always)]
    pub const fn of(headers: &Headers) -> Self {
        let len = headers.ip_len.wrapping_sub(headers.l4.wrapping_sub(headers.l3));
        let tuple = &headers.tuple;
        let sum = match tuple.protocol {
            protocol::ICMP => Sum(0),
            _ => Sum::pseudo_header(tuple.src, tuple.dst, tuple.protocol, len),
        };
        let end = headers.l4.wrapping_add(len);
        Self { sum, at: headers.l4, end, is_unknown: len > MAX_VERIFIED }
    }

    /// Adds the next eight bytes or what is left of them; `true` when none are.
    #[inline(always)]
    pub fn step<P: Packet + ?Sized>(&mut self, packet: &P) -> bool {
        let left = self.end.wrapping_sub(self.at);
        if left == 0 || self.is_unknown {
            return true;
        }
        let step = if left >= 8 {
            let Some(words) = packet.read::<[u32; 2]>(self.at) else { return self.give_up() };
            self.sum = self.sum.double_word(words[0]).double_word(words[1]);
            8
        } else if left >= 2 {
            let Some(word) = packet.read::<u16>(self.at) else { return self.give_up() };
            self.sum = self.sum.word(word);
            2
        } else {
            let Some(byte) = packet.read::<u8>(self.at) else { return self.give_up() };
            self.sum = self.sum.word(u16::from_ne_bytes([byte, 0]));
            1
        };
        self.at = self.at.wrapping_add(step);
        false
    }

    #[inline(always)]
    const fn give_up(&mut self) -> bool {
        self.is_unknown = true;
        true
    }

    /// Whether the sum is right, or cannot be told.
    #[inline(always)]
    pub fn is_right<P: Packet + ?Sized>(
        &self,
        packet: &P,
        headers: &Headers,
        may_be_partial: bool,
    ) -> bool {
        if self.is_unknown || self.sum.folded() == 0xffff {
            return true;
        }
        let is_left_out = match headers.tuple.protocol {
            // A UDP may send none.
            protocol::UDP => packet.read::<Udp>(headers.l4).is_none_or(|udp| udp.checksum == 0),
            _ => false,
        };
        is_left_out || (may_be_partial && is_left_to_hardware(packet, headers))
    }
}

/// A checksum after one word that it covers has changed (RFC 1624 section 3).
#[inline(always)]
pub const fn replaced(checksum: u16, was: u16, now: u16) -> u16 {
    Sum(0).word(!checksum).word(!was).word(now).finish()
}

/// The IPv4 header checksum after the TTL went down by one (RFC 1624).
#[inline(always)]
pub const fn after_ttl_decrement(checksum: u16) -> u16 {
    let sum = checksum as u32 + 0x0100u16.to_be() as u32;
    (sum + (sum >= 0xffff) as u32) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 1071 section 3.
    #[test]
    fn the_sum_of_the_rfc_is_the_rfcs() {
        let sum = [0x0001u16, 0xf203, 0xf4f5, 0xf6f7]
            .iter()
            .fold(Sum::default(), |sum, word| sum.word(*word));
        assert_eq!(sum.folded(), 0xddf2);
    }

    #[test]
    fn a_decremented_ttl_keeps_the_header_checksum_right() {
        let header = |ttl: u8, checksum: u16| {
            [0x4500, 0x0054, 0x1234, 0x4000, u16::from(ttl) << 8 | 1, checksum, 0xc000, 0x0201]
                .map(|word: u16| word)
        };
        for ttl in [64u8, 2, 255] {
            let sum = |ttl| header(ttl, 0).iter().fold(Sum::default(), |s, w| s.word(w.to_be()));
            let before = sum(ttl).finish();
            assert_eq!(after_ttl_decrement(before), sum(ttl - 1).finish(), "ttl {ttl}");
        }
    }
}

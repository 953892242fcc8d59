//! Writing a [`Mangling`] into its packet, with the checksums that go with it (RFC 1624).

use super::{Mangling, change};
use crate::{
    addr::{Addr, Family},
    checksum::{Difference, replaced},
    headers::Headers,
    packet::Packet,
    wire::Tcp,
};

/// The kind and length of the option with the segment size (RFC 9293 section 3.2).
pub(crate) const MSS: u32 = 2;
pub(crate) const MSS_LEN: u32 = 4;
/// Bytes of a TCP header without options.
const FIXED: u32 = 20;
/// The longest TCP header that can take one more option.
pub(crate) const LONGEST_TO_GROW: u32 = 60 - MSS_LEN;

/// A packet that can be written to. Whatever fails has changed nothing.
pub trait Frame: Packet {
    /// Writes two bytes, as they stand in memory; a checksum in the packet makes the change
    /// good.
    fn write(&self, at: u32, word: u16) -> bool;

    /// The same for what no checksum covers.
    fn write_uncovered(&self, at: u32, word: u16) -> bool;

    /// Writes the first `len` bytes of `from`.
    fn paste(&self, at: u32, len: u32, from: &[u8; 64]) -> bool;

    /// Brings the frame to at least this length.
    fn grow(&self, len: u32) -> bool;

    /// Has the checksum of the transport header, which stands at `at`, follow a word of the
    /// header that has changed.
    fn follow(&self, headers: &Headers, at: u32, was: u16, now: u16) -> bool;

    /// The same for a word of the pseudo-header, which a sender that leaves its checksum to
    /// hardware has summed up.
    fn follow_pseudo(&self, headers: &Headers, at: u32, was: u16, now: u16) -> bool;

    /// Writes an address; `is_covered` when a checksum in the packet makes the change good.
    fn write_address(&self, at: u32, address: &Addr, is_covered: bool) -> bool;

    /// Whether the sender left the checksum to hardware, where the kernel does not know. The
    /// headers are those of the packet as it stands.
    fn is_unfinished(&self, headers: &Headers) -> bool;

    /// Has the checksum of the transport header, which stands at `at`, follow what has changed
    /// in the pseudo-header and in what it covers itself. One that `may_be_none` and is zero
    /// stays so; `is_unfinished` as it was before anything was written.
    fn mend(
        &self,
        at: u32,
        family: Family,
        pseudo: Difference,
        covered: Difference,
        may_be_none: bool,
        is_unfinished: bool,
    ) -> bool;
}

/// Writes what has changed; `desk` is room for the options of a TCP header. The headers are
/// those of the packet as it is then.
#[inline(always)]
pub fn rewrite<F: Frame + ?Sized>(
    frame: &F,
    headers: &mut Headers,
    mangling: &Mangling,
    desk: &mut [u8; 64],
) -> bool {
    (!mangling.has(change::TOS) || tos(frame, headers, mangling.tos))
        && (!mangling.has(change::TTL) || hop_limit(frame, headers, mangling.ttl))
        && (!mangling.has(change::MSS) || segment_size(frame, headers, mangling))
        && (!mangling.has(change::NEW_MSS) || add_segment_size(frame, headers, mangling.mss, desk))
}

/// The second byte of IPv4, the eight bits behind the version of IPv6.
#[inline(always)]
fn tos<F: Frame + ?Sized>(frame: &F, headers: &mut Headers, tos: u8) -> bool {
    let at = headers.l3;
    let Some(was) = frame.read::<u16>(at) else { return false };
    headers.tos = tos;
    match headers.family() {
        Family::Ipv4 => {
            let now = u16::from_be(was) & 0xff00 | u16::from(tos);
            in_header(frame, at, headers.l3, was, now.to_be())
        }
        Family::Ipv6 => {
            let now = u16::from_be(was) & 0xf00f | u16::from(tos) << 4;
            frame.write_uncovered(at, now.to_be())
        }
    }
}

/// TTL or hop limit.
#[inline(always)]
pub fn hop_limit<F: Frame + ?Sized>(frame: &F, headers: &mut Headers, ttl: u8) -> bool {
    let is_v4 = matches!(headers.family(), Family::Ipv4);
    let at = headers.l3 + if is_v4 { 8 } else { 6 };
    let Some(was) = frame.read::<u16>(at) else { return false };
    headers.ttl = ttl;
    let [first, second] = was.to_ne_bytes();
    match headers.family() {
        Family::Ipv4 => in_header(frame, at, headers.l3, was, u16::from_ne_bytes([ttl, second])),
        Family::Ipv6 => frame.write_uncovered(at, u16::from_ne_bytes([first, ttl])),
    }
}

/// Writes a word of the IPv4 header.
#[inline(always)]
fn in_header<F: Frame + ?Sized>(frame: &F, at: u32, l3: u32, was: u16, now: u16) -> bool {
    const CHECKSUM: u32 = 10;
    let Some(sum) = frame.read::<u16>(l3 + CHECKSUM) else { return false };
    frame.write(at, now) && frame.write(l3 + CHECKSUM, replaced(sum, was, now))
}

#[inline(always)]
fn checksum_at(headers: &Headers) -> u32 {
    headers.l4 + core::mem::offset_of!(Tcp, checksum) as u32
}

/// The segment size in the option that is there.
#[inline(always)]
fn segment_size<F: Frame + ?Sized>(frame: &F, headers: &Headers, mangling: &Mangling) -> bool {
    let at = headers.l4 + FIXED + u32::from(mangling.mss_at) + 2;
    let Some(was) = frame.read::<u16>(at) else { return false };
    let now = mangling.mss.to_be();
    // Behind an odd number of bytes it is summed up the other way round.
    let turn = |word: u16| if mangling.mss_at & 1 == 0 { word } else { word.swap_bytes() };
    frame.write(at, now) && frame.follow(headers, checksum_at(headers), turn(was), turn(now))
}

/// Puts the option in front of the others.
#[inline(always)]
fn add_segment_size<F: Frame + ?Sized>(
    frame: &F,
    headers: &mut Headers,
    size: u16,
    desk: &mut [u8; 64],
) -> bool {
    let first = headers.l4 + FIXED;
    let len = headers.payload.wrapping_sub(first);
    let end = headers.l3 + headers.ip_len + MSS_LEN;
    let sum = checksum_at(headers);
    let Some(offset) = frame.read::<u16>(headers.l4 + 12) else { return false };
    // The header's length is counted in words, in the uppermost bits.
    let longer = u16::from_be(offset).wrapping_add(1 << 12).to_be();
    let kind = ((MSS as u16) << 8 | MSS_LEN as u16).to_be();
    let l4_len = headers.l4_len();
    let is_moved = len == 0
        || len <= LONGEST_TO_GROW - FIXED
            && frame.copy(first, len, desk)
            && frame.grow(end)
            && frame.paste(first + MSS_LEN, len, desk);
    let is_written = is_moved
        && frame.grow(end)
        && frame.write(first, kind)
        && frame.write(first + 2, size.to_be())
        && frame.write(headers.l4 + 12, longer)
        && frame.follow(headers, sum, 0, kind)
        && frame.follow(headers, sum, 0, size.to_be())
        && frame.follow(headers, sum, offset, longer)
        && frame.follow_pseudo(
            headers,
            sum,
            (l4_len as u16).to_be(),
            ((l4_len + MSS_LEN) as u16).to_be(),
        )
        && lengthen(frame, headers);
    if is_written {
        headers.ip_len += MSS_LEN;
        headers.payload += MSS_LEN;
    }
    is_written
}

/// The length in the IP header.
#[inline(always)]
fn lengthen<F: Frame + ?Sized>(frame: &F, headers: &Headers) -> bool {
    let is_v4 = matches!(headers.family(), Family::Ipv4);
    let at = headers.l3 + if is_v4 { 2 } else { 4 };
    let Some(was) = frame.read::<u16>(at) else { return false };
    let now = u16::from_be(was).wrapping_add(MSS_LEN as u16).to_be();
    match headers.family() {
        Family::Ipv4 => in_header(frame, at, headers.l3, was, now),
        Family::Ipv6 => frame.write_uncovered(at, now),
    }
}

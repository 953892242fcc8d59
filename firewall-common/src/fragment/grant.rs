//! What the first fragment of a datagram was granted, and how much of the
//! datagram has passed.

use core::mem::size_of;

use bytemuck::{Pod, Zeroable};

use super::spans::{Fit, Spans};
use crate::{
    addr::Addr,
    flow::{CachedVerdict, Tuple},
    headers::{FRAGMENT_UNIT, Headers},
    mangle::Mangling,
    time::Nanos,
    wire::tcp_flag,
};

/// Identifies a datagram whose fragments are on the way (RFC 791, RFC 8200), on
/// its way in by one interface.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Pod, Zeroable)]
pub struct FragmentKey {
    pub src: Addr,
    pub dst: Addr,
    pub id: u32,
    /// 0 for packets of this host.
    pub ifindex: u32,
    /// 0 in IPv6, where the first fragment knows another number than the later ones.
    pub protocol: u8,
    pub _pad: [u8; 3],
}

impl FragmentKey {
    #[inline(always)]
    pub fn of(headers: &Headers, ifindex: u32) -> Self {
        Self {
            src: headers.tuple.src,
            dst: headers.tuple.dst,
            id: headers.fragment_id,
            ifindex,
            protocol: if headers.version == 4 { headers.tuple.protocol } else { 0 },
            _pad: [0; 3],
        }
    }
}

/// What the first fragment was granted; the later ones inherit it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct FragmentGrant {
    pub expires: Nanos,
    pub tuple: Tuple,
    /// Its stamp is the generation alone: the datagram is judged once, whatever becomes of the
    /// sets meanwhile.
    pub verdict: CachedVerdict,
    /// What rules have made of it.
    pub mangling: Mangling,
    /// TCP: the sequence number that the first byte of the header would have.
    pub stream: u32,
    /// What has passed.
    pub spans: Spans,
    /// The end of the datagram, in units of 8 bytes; 0 until the last fragment has
    /// told it.
    pub total: u16,
    /// The end of the hindmost fragment that has passed, in the same units.
    pub reach: u16,
    /// Fragments overlapped: none passes any more.
    pub is_broken: u8,
    /// There were more gaps than `spans` holds.
    pub is_untracked: u8,
    /// TCP: the segment ends the stream, which takes a number behind its last byte.
    pub has_fin: u8,
    /// A [`crate::rule::Chain`].
    pub chain: u8,
    /// The source that it left with, when `leaves` is not 0.
    pub source: Addr,
    pub leaves: u8,
    pub _pad: [u8; 7],
}

impl FragmentGrant {
    /// For the first fragment with these headers; lifetime and verdict are the
    /// caller's.
    #[inline(always)]
    pub fn of_first(headers: &Headers) -> Self {
        let syn = u32::from(headers.has_tcp_flag(tcp_flag::SYN));
        let header_len = headers.payload.wrapping_sub(headers.l4);
        Self {
            tuple: headers.tuple,
            stream: headers.seq.wrapping_add(syn).wrapping_sub(header_len),
            spans: Spans::begun_by(headers.fragment_end),
            reach: headers.fragment_end,
            has_fin: u8::from(headers.has_tcp_flag(tcp_flag::FIN)),
            ..Self::default()
        }
    }

    /// Whether one more first fragment was there already, or contradicts it.
    #[inline(always)]
    pub fn is_repeated(&mut self, first: &Headers) -> bool {
        if self.is_broken != 0 || self.is_untracked != 0 {
            return false;
        }
        match self.spans.fit(0, first.fragment_end) {
            Fit::Free => false,
            Fit::Repeated => true,
            Fit::Overlap => {
                self.is_broken = 1;
                true
            }
        }
    }

    /// Whether a later fragment fits what has passed, and notes that it passes.
    #[inline(always)]
    pub fn takes(&mut self, later: &Headers) -> bool {
        let (start, end) = (later.fragment_offset, later.fragment_end);
        let is_last = later.is_last_fragment != 0;
        let contradicts_the_end = (self.total != 0
            && (end > self.total || (is_last && end != self.total)))
            || (is_last && end < self.reach);
        if self.is_broken != 0 || contradicts_the_end {
            self.is_broken = 1;
            return false;
        }
        match self.spans.fit(start, end) {
            Fit::Free => {}
            Fit::Repeated => return false,
            Fit::Overlap => {
                self.is_broken = 1;
                return false;
            }
        }
        if is_last {
            self.total = end;
        }
        if end > self.reach {
            self.reach = end;
        }
        if self.is_untracked == 0 && !self.spans.add(start, end) {
            self.is_untracked = 1;
        }
        true
    }

    /// Whether every fragment of the datagram has passed.
    #[inline(always)]
    pub fn is_complete(&self) -> bool {
        self.total != 0 && self.spans.is_one_until(self.total)
    }

    /// TCP: the sequence number behind the last byte of a later fragment.
    #[inline(always)]
    pub const fn sequence_after(&self, later: &Headers) -> u32 {
        let end = later.fragment_offset as u32 * FRAGMENT_UNIT + later.l4_len();
        let fin = (later.is_last_fragment & self.has_fin) as u32;
        self.stream.wrapping_add(end).wrapping_add(fin)
    }
}

const _: () = assert!(size_of::<FragmentKey>() == 44);
const _: () = assert!(size_of::<FragmentGrant>() == 160);

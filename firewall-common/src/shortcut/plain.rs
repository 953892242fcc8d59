//! A packet as the short way reads it: its first words, in place.

use core::mem::size_of;

use crate::{
    checksum::Sum,
    conntrack::{tcp::Segment, window::Seen},
    flow::protocol,
    seq::Seq,
    wire::{Ethernet, Tcp, Udp, tcp_flag},
};

use super::{Address as _, Ends, Ip};

/// Two NOPs and a timestamp, as the first bytes of a header's options: what nearly every
/// segment carries.
const ONLY_TIMESTAMP: u32 = u32::from_ne_bytes([1, 1, 8, 10]);

/// The first bytes of a frame, as words in the order of memory.
#[derive(Clone, Copy, Debug)]
pub struct Plain<I> {
    /// The destination address, as [`crate::hop::station`] packs it.
    pub station: u64,
    pub ether_type: u16,
    pub ip: I,
    /// Of a UDP packet the first two are its header.
    pub tcp: [u32; 5],
    /// What follows, if the TCP header says that it has options.
    pub first_option: u32,
    /// Bytes from the IP header to the end of the frame; in XDP as far as they lie in one piece.
    pub available: u32,
}

impl<I: Ip> Plain<I> {
    /// Where the transport header stands in the frame.
    pub const L4: usize = size_of::<Ethernet>() + I::LEN as usize;
    /// Bytes that a frame must have to be read as one.
    pub const LEN: usize = Self::L4 + size_of::<Tcp>();

    #[inline(always)]
    pub fn tcp(&self) -> Tcp {
        bytemuck::cast(self.tcp)
    }

    #[inline(always)]
    pub fn udp(&self) -> Udp {
        let [ports, rest, ..] = self.tcp;
        bytemuck::cast([ports, rest])
    }

    #[inline(always)]
    pub fn is_tcp(&self) -> bool {
        self.ip.protocol() == protocol::TCP
    }

    /// Bytes from the IP header on, padding excluded.
    #[inline(always)]
    pub fn ip_len(&self) -> u32 {
        self.ip.total_len()
    }

    /// Bytes from the transport header on.
    #[inline(always)]
    fn transport_len(&self) -> u32 {
        self.ip_len().wrapping_sub(I::LEN)
    }

    /// Whether it is a whole packet with right headers, nothing in them that somebody must
    /// read, and no segment that begins or ends a connection.
    #[inline(always)]
    pub fn is_eligible(&self) -> bool {
        self.ether_type == I::ETHER_TYPE.to_be()
            && self.ip.is_bare()
            && self.ip.hop_limit() > 1
            && self.ip_len() <= self.available
            && match self.ip.protocol() {
                protocol::TCP => self.is_plain_segment(),
                protocol::UDP => self.is_datagram(),
                _ => false,
            }
            && self.ip.has_right_checksum()
    }

    #[inline(always)]
    fn is_plain_segment(&self) -> bool {
        const UNCOUNTED: u8 = tcp_flag::ECE | tcp_flag::CWR | tcp_flag::PSH;
        let tcp = self.tcp();
        tcp.flags & !UNCOUNTED == tcp_flag::ACK
            && self.has_usual_options()
            && I::LEN + tcp.header_len() <= self.ip_len()
    }

    #[inline(always)]
    fn is_datagram(&self) -> bool {
        const HEADER: u32 = size_of::<Udp>() as u32;
        let len = u32::from(u16::from_be(self.udp().len));
        I::LEN + HEADER <= self.ip_len()
            && len >= HEADER
            && len <= self.transport_len()
            && (I::MAY_LACK_CHECKSUM || self.udp().checksum != 0)
    }

    #[inline(always)]
    fn has_usual_options(&self) -> bool {
        match self.tcp().header_len() {
            Tcp::LEN => true,
            32 => self.first_option == ONLY_TIMESTAMP,
            _ => false,
        }
    }

    /// Whether the sender may have left the checksum to hardware that the frame never met.
    #[inline(always)]
    pub(super) fn may_be_unfinished(&self) -> bool {
        let sum = self.ip.source().added(Sum::default());
        let sum = self.ip.destination().added(sum);
        let sum = sum.word(u16::from(self.ip.protocol()).to_be());
        sum.double_word(self.transport_len().to_be()).folded() == self.checksum()
    }

    /// The checksum of the transport header.
    #[inline(always)]
    pub(super) fn checksum(&self) -> u16 {
        if self.is_tcp() { self.tcp().checksum } else { self.udp().checksum }
    }

    /// As it came; TCP and UDP have their ports in one place.
    #[inline(always)]
    pub fn ends(&self) -> Ends<I::Address> {
        let tcp = self.tcp();
        let (src, dst) = (self.ip.source(), self.ip.destination());
        Ends { src, dst, sport: tcp.sport, dport: tcp.dport }
    }

    /// What it tells of its window: as [`crate::conntrack::note`] has it.
    #[inline(always)]
    pub(super) fn seen(&self) -> Seen {
        let tcp = self.tcp();
        let payload = self.transport_len().wrapping_sub(tcp.header_len());
        let (seq, ack) = (Seq(u32::from_be(tcp.seq)), Seq(u32::from_be(tcp.ack)));
        Seen {
            segment: Segment::Ack,
            has_syn: false,
            has_ack: true,
            seq,
            end: seq.plus(payload),
            ack,
            sack: ack,
            window: u16::from_be(tcp.window),
            scale: 0,
            offers: 0,
            has_options: false,
        }
    }
}

//! Transport headers of which tracking needs the endpoints and little else: SCTP
//! (RFC 9260), UDP-Lite (RFC 3828), GRE (RFC 2784, RFC 2637).
//!
//! DCCP, ESP, AH and the rest have no endpoints here but their addresses: so it is
//! in nf_conntrack of Linux 6.18, which has lost its tracker of DCCP.

use crate::{
    flow::protocol,
    headers::{Fragment, Headers},
    packet::Packet,
    verdict::DropReason,
    wire::{Gre, GreCall, Sctp, UdpLite},
};

impl Headers {
    /// Gives the header's length, as those below do. The chunks are the payload.
    #[inline(always)]
    pub(crate) fn sctp<P: Packet + ?Sized>(&mut self, packet: &P) -> Result<u32, DropReason> {
        let sctp: Sctp = packet.read(self.l4).ok_or(DropReason::Truncated)?;
        self.tuple.sport = u16::from_be(sctp.sport);
        self.tuple.dport = u16::from_be(sctp.dport);
        Ok(Sctp::LEN)
    }

    /// The checksum must cover the header at least, and may not be left out.
    #[inline(always)]
    pub(crate) fn udplite<P: Packet + ?Sized>(&mut self, packet: &P) -> Result<u32, DropReason> {
        let udp: UdpLite = packet.read(self.l4).ok_or(DropReason::Truncated)?;
        let coverage = u32::from(u16::from_be(udp.coverage));
        let is_whole = self.fragment == Fragment::Whole as u8;
        let covers = coverage == 0 || (coverage >= UdpLite::LEN && coverage <= self.l4_len());
        if udp.checksum == 0 || (is_whole && !covers) {
            self.is_damaged = 1;
        }
        self.tuple.sport = u16::from_be(udp.sport);
        self.tuple.dport = u16::from_be(udp.dport);
        Ok(UdpLite::LEN)
    }

    /// A header of four bytes, whatever may follow it: rules do not look further.
    #[inline(always)]
    pub(crate) fn gre<P: Packet + ?Sized>(&mut self, packet: &P) -> u32 {
        let len = self.l4_len().min(Gre::LEN);
        if self.l4_len() < Gre::LEN + size_of::<GreCall>() as u32 {
            return len;
        }
        match gre_call(packet, self.l4) {
            Some(call) => self.tuple.dport = call,
            None => self.is_damaged = 1,
        }
        len
    }

    /// Whether the IP header says that nothing follows it: of such a packet nothing
    /// can be tracked.
    #[inline(always)]
    pub(crate) const fn has_no_transport(&self) -> bool {
        self.version == 6 && self.tuple.protocol == protocol::NO_NEXT_HEADER
    }
}

/// The call identifier of GRE version 1, 0 of any other and of what is cut off;
/// `None` when version 1 carries something else than PPP.
#[inline(always)]
pub fn gre_call<P: Packet + ?Sized>(packet: &P, l4: u32) -> Option<u16> {
    let Some(gre) = packet.read::<Gre>(l4) else { return Some(0) };
    if gre.version() != Gre::PPTP {
        return Some(0);
    }
    let Some(call) = packet.read::<GreCall>(l4 + Gre::LEN) else { return Some(0) };
    (gre.protocol == Gre::PPP.to_be()).then_some(u16::from_be(call.call_id))
}

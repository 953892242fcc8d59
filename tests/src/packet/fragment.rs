//! Packets cut into pieces: RFC 791 section 3.2 and RFC 8200 section 4.5.

use std::{net::IpAddr, ops::Range};

use super::{Packet, checksum, ipv4, ipv6, short};

const FRAGMENT_HEADER: u8 = 44;

impl Packet {
    /// The fragment that carries these bytes of the transport header and payload,
    /// from the IP header on. The one that ends with them is the last.
    ///
    /// # Panics
    /// Where the bytes begin at no multiple of 8, or end beyond the packet.
    pub fn fragment(&self, identification: u16, bytes: Range<usize>) -> Vec<u8> {
        assert!(bytes.start.is_multiple_of(8), "a fragment at {}", bytes.start);
        let header = if self.source.is_ipv4() { 20 } else { 40 };
        let ip = self.ip();
        let (ends, transport) = (&ip[if header == 20 { 12..20 } else { 8..40 }], &ip[header..]);
        let (offset, is_last) = (short(bytes.start), bytes.end == transport.len());
        let piece = &transport[bytes];
        match self.source.ip() {
            IpAddr::V4(_) => {
                let mut header = ipv4(self.protocol(), ends, piece.len());
                let place = (offset / 8) | (u16::from(!is_last) << 13);
                header[4..6].copy_from_slice(&identification.to_be_bytes());
                header[6..8].copy_from_slice(&place.to_be_bytes());
                header[10..12].fill(0);
                let sum = checksum(&[&header]);
                header[10..12].copy_from_slice(&sum.to_be_bytes());
                [&header, piece].concat()
            }
            IpAddr::V6(_) => {
                let place = (offset | u16::from(!is_last)).to_be_bytes();
                let identification = u32::from(identification).to_be_bytes();
                let header = ipv6(FRAGMENT_HEADER, ends, 8 + piece.len());
                [&header, &[self.protocol(), 0][..], &place, &identification, piece].concat()
            }
        }
    }
}

//! SYNs from endpoints that look random, of which none comes twice.

use std::net::{Ipv4Addr, SocketAddrV4};

use crate::{packet::Packet, wire::Wire};

const ETHERNET: usize = 14;
const IP_CHECKSUM: usize = ETHERNET + 10;
const SOURCE: usize = ETHERNET + 12;
const SOURCE_PORT: usize = ETHERNET + 20;
const TCP_CHECKSUM: usize = ETHERNET + 36;
const LENGTH: usize = ETHERNET + 40;

/// Counts nothing in a checksum.
const NOBODY: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0);
const NETWORK: u32 = u32::from_be_bytes([10, 128, 0, 0]);
const ADDRESS_BITS: u32 = 23;
/// Ports from 32,768 on.
const PORT_BITS: u32 = 15;
const BITS: u32 = ADDRESS_BITS + PORT_BITS;

pub type SynFrame = [u8; LENGTH];

/// Writes the frames of a flood, one after another.
#[derive(Debug)]
pub struct Syns {
    /// From [`NOBODY`].
    template: SynFrame,
    next: u64,
}

impl Syns {
    pub fn to(wire: &Wire, target: SocketAddrV4) -> Self {
        Self::like(wire.frame(&Packet::syn(NOBODY.into(), target.into())))
    }

    fn like(frame: Vec<u8>) -> Self {
        Self { template: frame.try_into().expect("a SYN without options"), next: 0 }
    }

    /// So many frames.
    pub fn take(&mut self, count: u32) -> Vec<SynFrame> {
        (0..count).map(|_| self.next()).collect()
    }

    pub(super) fn next(&mut self) -> SynFrame {
        let endpoint = scatter(self.next);
        self.next += 1;
        let address = NETWORK | (endpoint >> PORT_BITS) as u32;
        let port = 1 << PORT_BITS | (endpoint & ((1 << PORT_BITS) - 1)) as u16;
        let mut frame = self.template;
        frame[SOURCE..SOURCE + 4].copy_from_slice(&address.to_be_bytes());
        frame[SOURCE_PORT..SOURCE_PORT + 2].copy_from_slice(&port.to_be_bytes());
        let added = (address >> 16) + (address & 0xffff);
        add(&mut frame, IP_CHECKSUM, added);
        add(&mut frame, TCP_CHECKSUM, added + u32::from(port));
        frame
    }
}

/// A permutation of the numbers below `1 << BITS`: odd factors and the shift can each
/// be undone.
const fn scatter(number: u64) -> u64 {
    const MASK: u64 = (1 << BITS) - 1;
    let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) & MASK;
    let mixed = mixed ^ mixed >> (BITS / 2);
    mixed.wrapping_mul(0xbf58_476d_1ce4_e5b9) & MASK
}

/// Adds words to what a checksum covers (RFC 1624).
fn add(frame: &mut SynFrame, at: usize, words: u32) {
    let mut sum = u32::from(!u16::from_be_bytes([frame[at], frame[at + 1]])) + words;
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    frame[at..at + 2].copy_from_slice(&(!(sum as u16)).to_be_bytes());
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::packet::Seen;

    const TARGET: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(198, 51, 100, 78), 80);

    fn syns() -> Syns {
        Syns::like(Packet::syn(NOBODY.into(), TARGET.into()).frame([2; 6], [4; 6]))
    }

    #[test]
    fn checksums_are_right() {
        let mut syns = syns();
        for _ in 0..10_000 {
            let seen = Seen::read(&syns.next()).unwrap();
            assert!(seen.sound, "{seen:?}");
            assert_eq!(seen.packet, Packet::syn(seen.packet.source, TARGET.into()));
        }
    }

    #[test]
    fn no_endpoint_comes_twice() {
        let mut syns = syns();
        let frames: HashSet<_> = (0..100_000).map(|_| syns.next()).collect();
        assert_eq!(frames.len(), 100_000);
    }
}

//! What `cargo xtask bench` tells the programs that it measures with.

use core::mem::size_of;

use bytemuck::{Pod, Zeroable};

/// Bytes of a frame that are written anew for each packet: Ethernet, IPv4 and TCP, and those of IPv6 and
/// TCP as far as its checksum.
pub const TEMPLATE: usize = 56;
pub const TEMPLATE6: usize = 72;

/// Which endpoint differs from packet to packet, as [`Traffic::varies`].
pub mod varies {
    /// The source: packets from the clients.
    pub const SOURCE: u32 = 0;
    /// The destination: packets to the clients.
    pub const DESTINATION: u32 = 1;
}

/// How the next client is chosen, as [`Traffic::order`].
pub mod order {
    /// One after the other, from [`super::Traffic::next`] on.
    pub const IN_TURN: u32 = 0;
    pub const RANDOM: u32 = 1;
}

/// The frames to make: IPv4 without options, TCP or UDP; or IPv6 and TCP.
///
/// Client `n` has the address of the template plus `n >> PORT_BITS`, in the last word of IPv6, and its port
/// plus `n & (2^PORT_BITS - 1)`; the template holds those of client 0, and right checksums for
/// it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Traffic {
    pub template: [u8; TEMPLATE6],
    /// One of [`varies`].
    pub varies: u32,
    /// One of [`order`].
    pub order: u32,
    pub clients: u32,
    pub next: u32,
    /// Where the transport checksum stands, from the frame's first byte on.
    pub checksum_at: u32,
    /// The interface that the generator sends by.
    pub out_ifindex: u32,
}

/// How fast a generator sends. The kernel takes some 20 ms before the first packet and behind the
/// last one to put the generator in its place and away again, which no packet costs.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Pace {
    /// Packets so far.
    pub sent: u64,
    /// When the first one was sent, in nanoseconds of the clock that begins at boot.
    pub first: u64,
    /// When the newest one was sent of which [`PACE`] more than before had been.
    pub last: u64,
    /// How many had been sent before that one.
    pub until: u64,
}

impl Pace {
    /// The nanoseconds of a packet; `None` before there were more than [`PACE`].
    pub fn nanoseconds(&self) -> Option<f64> {
        (self.until != 0).then(|| (self.last - self.first) as f64 / self.until as f64)
    }
}

/// Packets from one look at the clock to the next.
pub const PACE: u64 = 64;

/// The low bits of a client's number, which make its port.
pub const PORT_BITS: u32 = 10;

/// The place in the program array of whatever is measured.
pub const MEASURED: u32 = 0;

/// What a sink has seen.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Seen {
    pub packets: u64,
    pub bytes: u64,
}

const _: () = assert!(size_of::<Traffic>() == 96 && TEMPLATE <= TEMPLATE6);

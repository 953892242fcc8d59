//! A packet to read.

use bytemuck::Pod;

use crate::{
    conntrack::quoted,
    event::EVENT_FRAME,
    flow::Tuple,
    headers::{Headers, Parsed},
    synproxy::header::HEADER_BYTES,
    verdict::DropReason,
};

/// One frame, from its first byte: the Ethernet header, or the IP header on
/// devices without one.
pub trait Packet {
    /// Bytes of the whole frame.
    fn len(&self) -> u32;

    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The `T` at `offset`, `None` when the frame ends before it does.
    fn read<T: Pod>(&self, offset: u32) -> Option<T>;

    /// Copies the first bytes of the frame; gives how many.
    fn capture(&self, into: &mut [u8; EVENT_FRAME]) -> u8;

    /// Copies `len` bytes, 20 to 60, from `offset` on; `false` when the frame ends
    /// before or the length is another.
    fn copy_header(&self, offset: u32, into: &mut [u8; HEADER_BYTES], len: u32) -> bool;

    /// Reads the packet's headers: [`Headers::parse`]. The kernel's programs do
    /// it in a function that the verifier checks by itself; so with the next one.
    ///
    /// # Errors
    /// As [`Headers::parse`].
    #[inline(always)]
    fn headers(&self, headers: &mut Headers, has_ethernet: bool) -> Result<Parsed, DropReason> {
        headers.parse(self, has_ethernet)
    }

    /// Reads the packet that an ICMP error quotes: [`quoted::read`].
    #[inline(always)]
    fn quoted(&self, headers: &Headers, tuple: &mut Tuple) -> bool {
        quoted::read(self, headers, tuple)
    }

    /// Whether the stack will cut this packet into segments later on, so that
    /// its length field may be zero (BIG TCP).
    fn is_gso(&self) -> bool {
        false
    }
}

impl Packet for [u8] {
    fn len(&self) -> u32 {
        u32::try_from(<[u8]>::len(self)).unwrap_or(u32::MAX)
    }

    fn read<T: Pod>(&self, offset: u32) -> Option<T> {
        let start = usize::try_from(offset).ok()?;
        let bytes = self.get(start..start.checked_add(size_of::<T>())?)?;
        Some(bytemuck::pod_read_unaligned(bytes))
    }

    fn capture(&self, into: &mut [u8; EVENT_FRAME]) -> u8 {
        let count = <[u8]>::len(self).min(EVENT_FRAME);
        into[..count].copy_from_slice(&self[..count]);
        count as u8
    }

    fn copy_header(&self, offset: u32, into: &mut [u8; HEADER_BYTES], len: u32) -> bool {
        let (start, len) = (offset as usize, len as usize);
        match self.get(start..start + len) {
            Some(bytes) if (20..=60).contains(&len) => {
                into[..len].copy_from_slice(bytes);
                true
            }
            _ => false,
        }
    }
}

//! The bytes of a packet that an event has captured. Reading past them, or past
//! the packet's end, gives `None`; nothing panics.

use firewall_common::{
    event::{EVENT_FRAME, Event},
    extra::text::Window,
    packet::Packet,
};

/// A part of a packet, from some header on.
#[derive(Clone, Copy, Debug)]
pub struct Bytes<'b> {
    captured: &'b [u8],
    /// Bytes that the packet has from here on, captured or not.
    len: usize,
}

impl<'b> Bytes<'b> {
    /// The whole frame.
    pub fn of(event: &'b Event) -> Self {
        let captured = event.frame.get(..usize::from(event.captured)).unwrap_or(&event.frame);
        Self { captured, len: event.frame_len as usize }
    }

    pub const fn len(&self) -> usize {
        self.len
    }

    /// What follows the first `count` bytes.
    pub fn behind(self, count: usize) -> Self {
        Self {
            captured: self.captured.get(count..).unwrap_or_default(),
            len: self.len.saturating_sub(count),
        }
    }

    /// The first `count` bytes of the packet, as far as there are so many.
    pub fn first(self, count: usize) -> Self {
        let end = count.min(self.captured.len());
        Self { captured: &self.captured[..end], len: self.len.min(count) }
    }

    /// Exactly these bytes.
    pub fn slice(&self, at: usize, count: usize) -> Option<&'b [u8]> {
        self.captured.get(at..at.checked_add(count)?)
    }

    pub fn u8(&self, at: usize) -> Option<u8> {
        self.captured.get(at).copied()
    }

    pub fn u16(&self, at: usize) -> Option<u16> {
        self.array(at).map(u16::from_be_bytes)
    }

    pub fn u32(&self, at: usize) -> Option<u32> {
        self.array(at).map(u32::from_be_bytes)
    }

    pub fn array<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        self.captured.get(at..)?.first_chunk().copied()
    }
}

/// The captured frame for the parser of headers. Its length is not to stand in
/// the way: what was dropped for being cut off is still to be told of.
#[derive(Clone, Copy, Debug)]
pub struct Captured<'e>(pub &'e Event);

impl Packet for Captured<'_> {
    fn len(&self) -> u32 {
        u32::MAX
    }

    fn read<T: bytemuck::Pod>(&self, offset: u32) -> Option<T> {
        let bytes = Bytes::of(self.0).slice(offset as usize, size_of::<T>())?;
        Some(bytemuck::pod_read_unaligned(bytes))
    }

    fn copy(&self, offset: u32, len: u32, into: &mut [u8; 64]) -> bool {
        let bytes = Bytes::of(self.0).slice(offset as usize, len as usize);
        let (Some(from), Some(into)) = (bytes, into.get_mut(..len as usize)) else { return false };
        into.copy_from_slice(from);
        true
    }

    fn keep(&self, _offset: u32, into: &mut Window) {
        // Nobody searches what was captured.
        into.len = 0;
    }

    fn capture(&self, into: &mut [u8; EVENT_FRAME]) -> u8 {
        *into = self.0.frame;
        self.0.captured
    }

    fn is_gso(&self) -> bool {
        true
    }
}

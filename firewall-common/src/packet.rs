//! A packet to read.

use bytemuck::Pod;

use crate::{
    checksum::Verification,
    conntrack::{
        association::{self, Association, Outcome},
        chunks::Sum,
        options::{self, TcpOptions},
        quoted,
    },
    event::EVENT_FRAME,
    extra::{facts, text::Window},
    flow::{Direction, Flow, Tuple},
    headers::{Headers, Parsed},
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

    /// Copies `len` bytes from `offset` on; `false` when the frame, or `into`, has
    /// not as many.
    fn copy(&self, offset: u32, len: u32, into: &mut [u8; 64]) -> bool;

    /// Copies bytes from `offset` on, as many as there are and fit.
    fn keep(&self, offset: u32, into: &mut Window);

    /// Copies the first bytes of the frame; gives how many.
    fn capture(&self, into: &mut [u8; EVENT_FRAME]) -> u8;

    /// Reads the packet's headers: [`Headers::parse`]. The kernel's programs do
    /// it in a function that the verifier checks by itself; so with the next one.
    ///
    /// # Errors
    /// As [`Headers::parse`].
    #[inline(always)]
    fn headers(&self, headers: &mut Headers, has_ethernet: bool) -> Result<Parsed, DropReason> {
        headers.parse(self, has_ethernet)
    }

    /// Reads one extension header of IPv6: [`Headers::extension_header`].
    ///
    /// # Errors
    /// As there.
    #[inline(always)]
    fn extension_header(&self, headers: &mut Headers) -> Result<(), DropReason> {
        headers.extension_header(self)
    }

    /// Reads the transport header: [`Headers::transport`].
    ///
    /// # Errors
    /// As there.
    #[inline(always)]
    fn transport(&self, headers: &mut Headers) -> Result<(), DropReason> {
        headers.transport(self)
    }

    /// Reads the packet that an ICMP error quotes: [`quoted::read`].
    #[inline(always)]
    fn quoted(&self, headers: &Headers, tuple: &mut Tuple) -> bool {
        quoted::read(self, headers, tuple)
    }

    /// Reads the options of a TCP segment into what [`TcpOptions::begin`] prepared.
    #[inline(always)]
    fn tcp_options(&self, headers: &Headers, options: &mut TcpOptions) {
        options::copy(self, headers.l4, headers.payload.wrapping_sub(headers.l4), options);
        while !options.step() {}
    }

    /// Judges an SCTP packet by its chunks, `flow` the one that it belongs to:
    /// [`association::judge`].
    #[inline(always)]
    fn judge_chunks(
        &self,
        flow: Option<&Flow>,
        headers: &Headers,
        association: &mut Association,
        direction: Direction,
        sum: Sum,
    ) -> Outcome {
        association::judge(self, flow, headers, association, direction, sum)
    }

    /// Whether the checksum of the transport header is right, as far as it can be
    /// told; `may_be_partial` where the sender may leave it to hardware that the
    /// frame never meets.
    #[inline(always)]
    fn has_right_checksum(
        &self,
        headers: &Headers,
        desk: &mut Verification,
        may_be_partial: bool,
    ) -> bool {
        *desk = Verification::of(headers);
        while !desk.step(self) {}
        desk.is_right(self, headers, may_be_partial)
    }

    /// The mark that the kernel's packet bears; 0 where there is none yet.
    fn mark(&self) -> u32 {
        0
    }

    /// To whom the frame is addressed: one of [`facts::packet_type`].
    #[inline(always)]
    fn packet_type(&self, headers: &Headers) -> u32 {
        facts::packet_type_of(headers)
    }

    /// The user whose socket sends the packet; `None` when no socket does.
    fn owner(&self) -> Option<u32> {
        None
    }

    /// The group of that user, as the socket was opened; `None` when no process sends it.
    fn group(&self) -> Option<u32> {
        None
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

    fn copy(&self, offset: u32, len: u32, into: &mut [u8; 64]) -> bool {
        let (start, len) = (offset as usize, len as usize);
        let (Some(from), Some(into)) = (self.get(start..start + len), into.get_mut(..len)) else {
            return false;
        };
        into.copy_from_slice(from);
        true
    }

    fn keep(&self, offset: u32, into: &mut Window) {
        let bytes = self.get(offset as usize..).unwrap_or_default();
        let count = bytes.len().min(into.bytes.len());
        into.bytes[..count].copy_from_slice(&bytes[..count]);
        into.len = count as u32;
    }

    fn capture(&self, into: &mut [u8; EVENT_FRAME]) -> u8 {
        let count = <[u8]>::len(self).min(EVENT_FRAME);
        into[..count].copy_from_slice(&self[..count]);
        count as u8
    }
}

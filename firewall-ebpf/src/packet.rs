//! Packets as the programs see them.

use core::ffi::c_void;

use aya_ebpf::{
    bindings::{__sk_buff, bpf_hdr_start_off::BPF_HDR_START_MAC, xdp_md},
    helpers::{
        bpf_get_socket_uid, bpf_skb_load_bytes, bpf_skb_load_bytes_relative, bpf_skb_pull_data,
        bpf_xdp_get_buff_len, bpf_xdp_load_bytes,
    },
};
use bytemuck::{Pod, Zeroable};
use firewall_common::{
    checksum::Verification,
    conntrack::{
        association::{Association, Outcome},
        chunks::Sum,
        options::TcpOptions,
    },
    event::EVENT_FRAME,
    extra::text::{WINDOW, Window},
    flow::{Direction, Flow, Tuple},
    headers::{Headers, Parsed},
    packet::Packet,
    verdict::DropReason,
    wire::Ethernet,
};

use crate::{chunks, owner, stage, verifier::opaque};

/// Headers lie below this offset, or the packet is not understood.
const REACH: usize = 0xfff;

/// Reads a `T` from the linear part of a packet.
#[inline(always)]
fn read<T: Pod>(data: usize, data_end: usize, offset: u32) -> Option<T> {
    if offset as usize > REACH {
        return None;
    }
    let start = opaque(data + (opaque(offset as usize) & REACH));
    if start + size_of::<T>() > data_end {
        return None;
    }
    // SAFETY: the bytes were just found to lie within the packet; the kernel
    // loads words from any address.
    Some(unsafe { *(start as *const T) })
}

/// Writes a `T` into the linear part of a packet.
#[inline(always)]
fn write<T: Pod>(data: usize, data_end: usize, offset: u32, value: T) -> bool {
    if offset as usize > REACH {
        return false;
    }
    let start = opaque(data + (opaque(offset as usize) & REACH));
    if start + size_of::<T>() > data_end {
        return false;
    }
    // SAFETY: as above.
    unsafe { *(start as *mut T) = value };
    true
}

/// A frame in XDP.
#[derive(Clone, Copy)]
pub struct XdpPacket {
    pub ctx: *mut xdp_md,
}

impl XdpPacket {
    #[inline(always)]
    pub fn data(&self) -> usize {
        // SAFETY: the kernel hands a valid context to the program.
        unsafe { core::ptr::read_volatile(&raw const (*self.ctx).data) as usize }
    }

    #[inline(always)]
    pub fn data_end(&self) -> usize {
        // SAFETY: as above.
        unsafe { core::ptr::read_volatile(&raw const (*self.ctx).data_end) as usize }
    }

    #[inline(always)]
    pub fn ifindex(&self) -> u32 {
        // SAFETY: as above.
        unsafe { (*self.ctx).ingress_ifindex }
    }

    /// Writes a `T` at `offset`; `false` when the frame ends before it does.
    #[inline(always)]
    pub fn write<T: Pod>(&self, offset: u32, value: T) -> bool {
        write(self.data(), self.data_end(), offset, value)
    }

    /// Copies `len` bytes, known not to be zero, from `offset` on.
    ///
    /// # Safety
    /// `into` has room for `len` bytes, and the verifier can see it.
    #[inline(always)]
    pub unsafe fn load(&self, offset: u32, into: *mut c_void, len: u32) -> bool {
        // SAFETY: by the caller.
        unsafe { bpf_xdp_load_bytes(self.ctx, offset, into, len) == 0 }
    }
}

impl Packet for XdpPacket {
    #[inline(always)]
    fn len(&self) -> u32 {
        // SAFETY: the context is the kernel's.
        unsafe { bpf_xdp_get_buff_len(self.ctx) as u32 }
    }

    #[inline(always)]
    fn read<T: Pod>(&self, offset: u32) -> Option<T> {
        read(self.data(), self.data_end(), offset)
    }

    #[inline(always)]
    fn copy(&self, offset: u32, len: u32, into: &mut [u8; 64]) -> bool {
        let len = copy_len(len);
        // SAFETY: `copy_len` gives at most the size of `into`.
        len != 0 && unsafe { self.load(offset, into.as_mut_ptr().cast(), len) }
    }

    #[inline(always)]
    fn keep(&self, offset: u32, into: &mut Window) {
        let len = window_len(self.len(), offset);
        // SAFETY: `window_len` gives at most the size of the window.
        let is_read = len != 0 && unsafe { self.load(offset, into.bytes.as_mut_ptr().cast(), len) };
        into.len = if is_read { len } else { 0 };
    }

    #[inline(always)]
    fn capture(&self, into: &mut [u8; EVENT_FRAME]) -> u8 {
        let len = capture_len(self.len());
        // SAFETY: `capture_len` gives at most the size of `into`.
        match unsafe { self.load(0, into.as_mut_ptr().cast(), len as u32) } {
            true => len as u8,
            false => 0,
        }
    }

    #[inline(always)]
    fn tcp_options(&self, headers: &Headers, options: &mut TcpOptions) {
        stage::xdp_tcp_options(self.ctx, headers, options);
    }

    #[inline(always)]
    fn has_right_checksum(
        &self,
        headers: &Headers,
        desk: &mut Verification,
        may_be_partial: bool,
    ) -> bool {
        stage::xdp_checksum(self.ctx, headers, desk, u32::from(may_be_partial)) != 0
    }

    #[inline(always)]
    fn judge_chunks(
        &self,
        flow: Option<&Flow>,
        headers: &Headers,
        association: &mut Association,
        direction: Direction,
        sum: Sum,
    ) -> Outcome {
        let flow = flow.map_or(core::ptr::null(), core::ptr::from_ref);
        let how = chunks::judge_how(direction, sum);
        Outcome::unpack(chunks::xdp_judge_chunks(self.ctx, flow, headers, association, how))
    }

    #[inline(always)]
    fn headers(&self, headers: &mut Headers, has_ethernet: bool) -> Result<Parsed, DropReason> {
        Parsed::unpack(stage::xdp_headers(self.ctx, headers, u32::from(has_ethernet)))
    }

    #[inline(always)]
    fn extension_header(&self, headers: &mut Headers) -> Result<(), DropReason> {
        stage::unpack(stage::xdp_extension_header(self.ctx, headers))
    }

    #[inline(always)]
    fn quoted(&self, headers: &Headers, tuple: &mut Tuple) -> bool {
        stage::xdp_quoted(self.ctx, headers, tuple) != 0
    }
}

/// A packet in TC.
#[derive(Clone, Copy)]
pub struct SkbPacket {
    pub skb: *mut __sk_buff,
}

impl SkbPacket {
    /// Bytes that must be linear for the headers to be read in place.
    const HEADERS: u32 = 192;

    /// Makes the headers readable, which they nearly always are.
    #[inline(always)]
    pub fn new(skb: *mut __sk_buff) -> Self {
        let packet = Self { skb };
        let wanted = packet.len().min(Self::HEADERS);
        if packet.data() + (wanted as usize) > packet.data_end() {
            // SAFETY: the context is the kernel's; no packet pointer is held.
            unsafe { bpf_skb_pull_data(skb, wanted) };
        }
        packet
    }

    #[inline(always)]
    pub fn data(&self) -> usize {
        // SAFETY: the kernel hands a valid context to the program.
        unsafe { core::ptr::read_volatile(&raw const (*self.skb).data) as usize }
    }

    #[inline(always)]
    pub fn data_end(&self) -> usize {
        // SAFETY: as above.
        unsafe { core::ptr::read_volatile(&raw const (*self.skb).data_end) as usize }
    }

    #[inline(always)]
    pub fn ifindex(&self) -> u32 {
        // SAFETY: as above.
        unsafe { (*self.skb).ifindex }
    }

    /// The interface by which a forwarded packet came in, 0 for the host's own.
    #[inline(always)]
    pub fn ingress_ifindex(&self) -> u32 {
        // SAFETY: as above.
        unsafe { (*self.skb).ingress_ifindex }
    }

    #[inline(always)]
    pub fn mark(&self) -> u32 {
        // SAFETY: as above.
        unsafe { (*self.skb).mark }
    }

    #[inline(always)]
    pub fn set_mark(&self, mark: u32) {
        // SAFETY: as above.
        unsafe { (*self.skb).mark = mark }
    }

    #[inline(always)]
    pub fn priority(&self) -> u32 {
        // SAFETY: as above.
        unsafe { (*self.skb).priority }
    }

    #[inline(always)]
    pub fn set_priority(&self, priority: u32) {
        // SAFETY: as above.
        unsafe { (*self.skb).priority = priority }
    }

    #[inline(always)]
    pub fn tc_index(&self) -> u32 {
        // SAFETY: as above.
        unsafe { (*self.skb).tc_index }
    }

    #[inline(always)]
    pub fn set_tc_index(&self, index: u32) {
        // SAFETY: as above.
        unsafe { (*self.skb).tc_index = index }
    }

    /// The Ethernet header, which on ingress may lie before what `data` points to:
    /// generic XDP leaves it so.
    #[inline(always)]
    pub fn ethernet(&self) -> Option<Ethernet> {
        let mut header = Ethernet::zeroed();
        // SAFETY: the helper writes as many bytes as there are.
        let answer = unsafe {
            bpf_skb_load_bytes_relative(
                self.skb.cast(),
                0,
                (&raw mut header).cast(),
                size_of::<Ethernet>() as u32,
                BPF_HDR_START_MAC,
            )
        };
        (answer == 0).then_some(header)
    }

    /// To whom the frame is addressed: `PACKET_*` of packet(7).
    #[inline(always)]
    pub fn packet_type(&self) -> u32 {
        // SAFETY: as above.
        unsafe { (*self.skb).pkt_type }
    }

    /// Whether the device has taken a VLAN tag out of the frame.
    #[inline(always)]
    pub fn has_tag(&self) -> bool {
        // SAFETY: as above.
        unsafe { (*self.skb).vlan_present != 0 }
    }

    #[inline(always)]
    pub fn gso_size(&self) -> u32 {
        // SAFETY: as above.
        unsafe { (*self.skb).gso_size }
    }

    /// Copies `len` bytes, known not to be zero, from `offset` on.
    ///
    /// # Safety
    /// `into` has room for `len` bytes, and the verifier can see it.
    #[inline(always)]
    pub unsafe fn load(&self, offset: u32, into: *mut c_void, len: u32) -> bool {
        // SAFETY: by the caller.
        unsafe { bpf_skb_load_bytes(self.skb.cast(), offset, into, len) == 0 }
    }
}

impl Packet for SkbPacket {
    #[inline(always)]
    fn len(&self) -> u32 {
        // SAFETY: the context is the kernel's.
        unsafe { (*self.skb).len }
    }

    #[inline(always)]
    fn read<T: Pod>(&self, offset: u32) -> Option<T> {
        read(self.data(), self.data_end(), offset)
    }

    #[inline(always)]
    fn copy(&self, offset: u32, len: u32, into: &mut [u8; 64]) -> bool {
        let len = copy_len(len);
        // SAFETY: `copy_len` gives at most the size of `into`.
        len != 0 && unsafe { self.load(offset, into.as_mut_ptr().cast(), len) }
    }

    #[inline(always)]
    fn tcp_options(&self, headers: &Headers, options: &mut TcpOptions) {
        stage::tc_tcp_options(self.skb, headers, options);
    }

    #[inline(always)]
    fn has_right_checksum(
        &self,
        headers: &Headers,
        desk: &mut Verification,
        may_be_partial: bool,
    ) -> bool {
        stage::tc_checksum(self.skb, headers, desk, u32::from(may_be_partial)) != 0
    }

    #[inline(always)]
    fn judge_chunks(
        &self,
        flow: Option<&Flow>,
        headers: &Headers,
        association: &mut Association,
        direction: Direction,
        sum: Sum,
    ) -> Outcome {
        let flow = flow.map_or(core::ptr::null(), core::ptr::from_ref);
        let how = chunks::judge_how(direction, sum);
        Outcome::unpack(chunks::tc_judge_chunks(self.skb, flow, headers, association, how))
    }

    #[inline(always)]
    fn keep(&self, offset: u32, into: &mut Window) {
        let len = window_len(self.len(), offset);
        // SAFETY: `window_len` gives at most the size of the window.
        let is_read = len != 0 && unsafe { self.load(offset, into.bytes.as_mut_ptr().cast(), len) };
        into.len = if is_read { len } else { 0 };
    }

    #[inline(always)]
    fn capture(&self, into: &mut [u8; EVENT_FRAME]) -> u8 {
        let len = capture_len(self.len());
        // SAFETY: `capture_len` gives at most the size of `into`.
        match unsafe { self.load(0, into.as_mut_ptr().cast(), len as u32) } {
            true => len as u8,
            false => 0,
        }
    }

    #[inline(always)]
    fn headers(&self, headers: &mut Headers, has_ethernet: bool) -> Result<Parsed, DropReason> {
        Parsed::unpack(stage::tc_headers(self.skb, headers, u32::from(has_ethernet)))
    }

    #[inline(always)]
    fn extension_header(&self, headers: &mut Headers) -> Result<(), DropReason> {
        stage::unpack(stage::tc_extension_header(self.skb, headers))
    }

    #[inline(always)]
    fn transport(&self, headers: &mut Headers) -> Result<(), DropReason> {
        stage::unpack(stage::tc_transport(self.skb, headers))
    }

    #[inline(always)]
    fn quoted(&self, headers: &Headers, tuple: &mut Tuple) -> bool {
        stage::tc_quoted(self.skb, headers, tuple) != 0
    }

    #[inline(always)]
    fn mark(&self) -> u32 {
        self.mark()
    }

    #[inline(always)]
    fn packet_type(&self, _headers: &Headers) -> u32 {
        // `PACKET_HOST`, `PACKET_BROADCAST` and `PACKET_MULTICAST` are the first three.
        1 << (self.packet_type() & 31)
    }

    #[inline(always)]
    fn owner(&self) -> Option<u32> {
        // SAFETY: as above; a context without a socket has a null pointer.
        let socket = unsafe { (*self.skb).__bindgen_anon_2.sk };
        if socket.is_null() {
            return None;
        }
        // SAFETY: as above.
        Some(unsafe { bpf_get_socket_uid(self.skb) })
    }

    #[inline(always)]
    fn group(&self) -> Option<u32> {
        match owner::group_of(self.skb) {
            owner::NOBODY => None,
            group => Some(group as u32),
        }
    }

    #[inline(always)]
    fn is_gso(&self) -> bool {
        self.gso_size() != 0
    }
}

/// How much of a packet is searched, 0 when there is nothing.
#[inline(always)]
fn window_len(len: u32, offset: u32) -> u32 {
    let len = opaque(len.saturating_sub(offset) as usize);
    if len > WINDOW { WINDOW as u32 } else { len as u32 }
}

/// How much of a frame an event carries: never nothing, as helpers demand.
#[inline(always)]
fn capture_len(len: u32) -> usize {
    let len = opaque(len as usize);
    if len == 0 || len > EVENT_FRAME { EVENT_FRAME } else { len }
}

/// The length of a TCP header, 0 for what is none.
#[inline(always)]
pub fn header_len(len: u32) -> usize {
    let len = opaque(len as usize);
    if len < 20 || len > 60 { 0 } else { len }
}

/// At most what [`Packet::copy`] has room for, and visibly so.
#[inline(always)]
fn copy_len(len: u32) -> u32 {
    opaque(len as usize) as u32 & 63
}

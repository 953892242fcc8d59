//! What user space tells the datapath: the active generation, options,
//! timeouts and devices.

use core::mem::size_of;

use bytemuck::{Pod, Zeroable};

use crate::time::Nanos;

/// Version of everything that is pinned: maps, their keys and values. The pin
/// directory carries it; a daemon that meets another version says what to do.
pub const LAYOUT_VERSION: u32 = 10;

/// The mark of a frame that the daemon sends on an interface to have it turned
/// back into that interface's ingress, where it was held. The whole word is
/// compared: the kernel's own frames carry stray mark bits.
pub const REINJECT_INGRESS_MARK: u32 = 0xf7b1_5c3e;
/// The mark of a frame that was judged and may leave: one that was held on
/// egress, or an answer of the firewall itself.
pub const REINJECT_EGRESS_MARK: u32 = 0xf7b1_5c3f;
/// The same of one that does not leave by where it was held: it was routed anew, by its
/// destination or its mark, and is once more.
pub const REINJECT_ELSEWHERE_MARK: u32 = 0xf7b1_5c40;

/// The marks of fragments that came before their first one and were held, on ingress
/// or on egress: they are judged now, and counted.
pub const FRAGMENT_WAITED_INGRESS_MARK: u32 = 0xf7b1_5c60;
pub const FRAGMENT_WAITED_EGRESS_MARK: u32 = 0xf7b1_5c61;
/// The same for those that there was no space to hold.
pub const FRAGMENT_NO_SPACE_INGRESS_MARK: u32 = 0xf7b1_5c62;
pub const FRAGMENT_NO_SPACE_EGRESS_MARK: u32 = 0xf7b1_5c63;

/// Whether a mark is one by which the daemon's frames are known: rules set no such mark.
#[inline(always)]
pub const fn is_reserved(mark: u32) -> bool {
    matches!(
        mark,
        REINJECT_INGRESS_MARK..=REINJECT_ELSEWHERE_MARK
            | FRAGMENT_WAITED_INGRESS_MARK..=FRAGMENT_NO_SPACE_EGRESS_MARK
    )
}

/// What leads from a socket to the group of whoever opened it: offsets in structs of the
/// running kernel, in bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct SocketLayout {
    /// `skc_listener` in `struct sock_common`, with which every socket begins.
    pub listener: u32,
    /// `sk_socket` in `struct sock`.
    pub socket: u32,
    /// `file` in `struct socket`.
    pub file: u32,
    /// `f_cred` in `struct file`.
    pub credentials: u32,
    /// `fsgid` in `struct cred`.
    pub group: u32,
    /// 0 when the kernel does not tell.
    pub is_known: u32,
}

/// Datagrams of which fragments are kept at once until their first one comes.
pub const MAX_AWAITED: u32 = 1_024;

/// A control-connection segment goes on unread when the daemon has not shown
/// itself for this long.
pub const HEARTBEAT_LIMIT: Nanos = Nanos::from_secs(2);

/// Bits of [`Control::options`].
pub mod option {
    /// `helper-failure = "closed"`: drop control segments while the daemon is
    /// away, instead of letting them pass unread.
    pub const HELPER_FAILURE_CLOSED: u32 = 1 << 0;
    /// Somebody watches the drops: report each on the events ring.
    pub const REPORT_DROPS: u32 = 1 << 1;
    /// Frames that are not IP are dropped instead of passed.
    pub const DROP_NON_IP: u32 = 1 << 2;
    /// A running TCP connection may be picked up in the middle (`tcp_loose`).
    pub const TCP_LOOSE: u32 = 1 << 3;
    /// Only a reset outside the window is INVALID (`tcp_be_liberal`).
    pub const TCP_BE_LIBERAL: u32 = 1 << 4;
    /// A reset below the highest acknowledgement is no reason to call it INVALID
    /// (`tcp_ignore_invalid_rst`).
    pub const TCP_IGNORE_INVALID_RST: u32 = 1 << 5;
    /// Segments that begin or end a connection must have a right checksum
    /// (`checksum`).
    pub const CHECKSUM: u32 = 1 << 6;
    /// Somebody watches the flows: report each that begins, changes or ends.
    pub const REPORT_FLOWS: u32 = 1 << 7;
    /// A daemon keeps the most recent drops: report some of them, watched or not.
    pub const REMEMBER_DROPS: u32 = 1 << 8;
    /// Expectations of a range of ports stand in the map: the passages of encrypted
    /// control connections.
    pub const PASSAGES: u32 = 1 << 16;
    /// Expectations of UDP stand there.
    pub const UDP_EXPECTED: u32 = 1 << 17;
    /// What an inside endpoint sends by UDP leaves from one outside port, whatever its
    /// destination (`udp_endpoint_independent`): [`crate::nat::mapping`].
    pub const UDP_ENDPOINT_INDEPENDENT: u32 = 1 << 10;
    /// A rehearsal for `firewall explain`: nothing that others share is changed.
    pub const REHEARSAL: u32 = 1 << 9;
}

/// The single value of the `options` map. Who changes it reads it first, and
/// holds the instance's lock for settings meanwhile.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Options {
    /// Bits of [`option`].
    pub bits: u32,
    /// The process that runs as daemon, for people.
    pub daemon_pid: u32,
    /// The Ethernet source of frames that come back to an interface with generic
    /// XDP, which sees no mark; random for each load.
    pub token: [u8; 6],
    /// After how many retransmissions a TCP flow gets a shorter time
    /// (`tcp_max_retrans`).
    pub tcp_max_retrans: u8,
    pub _pad: u8,
}

impl Options {
    #[inline(always)]
    pub const fn has(&self, bit: u32) -> bool {
        self.bits & bit != 0
    }
}

/// The slot of the ruleset maps that holds a generation, 0 or 1.
#[inline(always)]
pub const fn slot(generation: u32) -> u32 {
    generation & 1
}

/// How long a flow lives after its last packet, by protocol and state. The
/// names and defaults are nf_conntrack's.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Timeouts {
    /// Indexed by [`crate::flow::State`]; `None` and what lies behind the last
    /// state are unused.
    pub tcp: [Nanos; 16],
    /// TCP picked up in the middle, until an answer is seen (unacknowledged).
    pub tcp_unacknowledged: Nanos,
    /// TCP when one segment was sent again and again, or the window is closed.
    pub tcp_max_retrans: Nanos,
    /// Indexed by the state of SCTP, in the kernel's order.
    pub sctp: [Nanos; 16],
    pub udp: Nanos,
    pub udp_stream: Nanos,
    pub icmp: Nanos,
    pub icmpv6: Nanos,
    pub gre: Nanos,
    pub gre_stream: Nanos,
    pub generic: Nanos,
    /// A later fragment is accepted this long after its first one (ipfrag_time).
    pub fragment: Nanos,
}

impl Timeouts {
    pub const DEFAULT: Self = Self {
        tcp: [
            Nanos::ZERO,
            Nanos::from_secs(120),
            Nanos::from_secs(60),
            Nanos::from_secs(432_000),
            Nanos::from_secs(120),
            Nanos::from_secs(60),
            Nanos::from_secs(30),
            Nanos::from_secs(120),
            Nanos::from_secs(10),
            Nanos::from_secs(120),
            Nanos::ZERO,
            Nanos::ZERO,
            Nanos::ZERO,
            Nanos::ZERO,
            Nanos::ZERO,
            Nanos::ZERO,
        ],
        tcp_unacknowledged: Nanos::from_secs(300),
        tcp_max_retrans: Nanos::from_secs(300),
        sctp: [
            Nanos::from_secs(10),
            Nanos::from_secs(10),
            Nanos::from_secs(3),
            Nanos::from_secs(3),
            Nanos::from_secs(210),
            Nanos::from_secs(3),
            Nanos::from_secs(3),
            Nanos::from_secs(3),
            Nanos::from_secs(30),
            Nanos::ZERO,
            Nanos::ZERO,
            Nanos::ZERO,
            Nanos::ZERO,
            Nanos::ZERO,
            Nanos::ZERO,
            Nanos::ZERO,
        ],
        udp: Nanos::from_secs(30),
        udp_stream: Nanos::from_secs(120),
        icmp: Nanos::from_secs(30),
        icmpv6: Nanos::from_secs(30),
        gre: Nanos::from_secs(30),
        gre_stream: Nanos::from_secs(180),
        generic: Nanos::from_secs(600),
        fragment: Nanos::from_secs(30),
    };
}

/// Bits of [`Device::flags`].
pub mod device {
    /// Our programs judge what comes in here.
    pub const OURS: u32 = 1 << 0;
    /// Frames begin with an Ethernet header.
    pub const ETHERNET: u32 = 1 << 1;
    /// The driver sends frames that XDP redirects to it.
    pub const TAKES_REDIRECT: u32 = 1 << 2;
    /// Frames from here may carry an unfinished TCP or UDP checksum, as those of
    /// a virtual peer do: such a frame goes through the stack, which knows.
    pub const PARTIAL_CHECKSUMS: u32 = 1 << 3;
    /// XDP runs in generic mode here.
    pub const GENERIC: u32 = 1 << 4;
    /// Judged at TC ingress, not in XDP.
    pub const TC: u32 = 1 << 5;
    /// The daemon chose the hook by what the interface is to this host; for `firewall status`.
    pub const CHOSEN: u32 = 1 << 6;
    /// What comes in here may be forwarded, as far as the host's settings say; beside
    /// [`CHOSEN`].
    pub const FORWARDS: u32 = 1 << 7;
    /// What is forwarded from here goes through the stack, as no interface takes redirected
    /// frames; beside [`FORWARDS`].
    pub const STACK_ONLY: u32 = 1 << 9;
    /// In `first_devices`: there is an interface with this index.
    pub const THERE: u32 = 1 << 8;
}

/// Interfaces with an index below this, which most machines have alone, stand at that place of the
/// array `first_devices`, for a packet asks for interfaces half a dozen times; the others in the
/// map `devices`.
pub const FIRST_DEVICES: u32 = 256;

/// An interface, by its index: the value of `first_devices` and `devices`. Every interface
/// of the namespace has an entry, so that `-o` matches those that are not ours.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Device {
    /// Bit n: the name fits interface pattern n of the ruleset in that slot.
    pub patterns: [u64; 2],
    /// In one word with what follows: a program sees the old one or the new one.
    pub mac: [u8; 6],
    pub _pad: [u8; 2],
    /// Bits of [`device`].
    pub flags: u32,
    pub _rest: u32,
    /// As the interface is called in its network namespace, filled up with zero
    /// bytes: whoever changes the rules may be in another one.
    pub name: [u8; NAME],
}

/// Bytes of an interface's name (IFNAMSIZ).
pub const NAME: usize = 16;

impl Device {
    pub fn name(&self) -> &str {
        let end = self.name.iter().position(|byte| *byte == 0).unwrap_or(NAME);
        core::str::from_utf8(&self.name[..end]).unwrap_or_default()
    }

    /// Longer names, which no interface has, are cut.
    pub fn set_name(&mut self, name: &str) {
        self.name = [0; NAME];
        for (place, byte) in self.name.iter_mut().zip(name.bytes()) {
            *place = byte;
        }
    }
}

const _: () = assert!(size_of::<Options>() == 16);
const _: () = assert!(size_of::<Timeouts>() == 336);
const _: () = assert!(size_of::<Device>() == 48);

//! Records that the datapath writes to its two rings: `punts`, segments held
//! for the helper, and `events`, LOG lines and drops.

use core::mem::size_of;

use bytemuck::{Pod, Zeroable};

use crate::{flow::Tuple, time::Nanos};

/// Where a packet was when it was held: it is sent back there.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Hook {
    /// XDP or TC ingress.
    Ingress = 0,
    /// TC egress.
    Egress = 1,
}

impl Hook {
    pub const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Ingress),
            1 => Some(Self::Egress),
            _ => None,
        }
    }
}

/// A held segment of a control connection; the frame's bytes follow.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Punt {
    pub at: Nanos,
    /// [`crate::flow::Flow::created`] of the control connection.
    pub flow_created: Nanos,
    /// The control connection, in its original direction.
    pub flow: Tuple,
    pub ifindex: u32,
    /// TCP sequence number of the first payload byte.
    pub seq: u32,
    /// The next byte that the sender expects of the other direction.
    pub ack: u32,
    /// Bytes of the frame that follow this record.
    pub frame_len: u32,
    /// Maximum segment size when the frame is a GSO packet, else 0.
    pub gso_size: u32,
    /// Offsets within the frame; `l3` is 0 on devices without Ethernet header.
    pub l3: u16,
    pub l4: u16,
    pub payload: u16,
    /// Bytes of TCP payload; the rest of the frame is padding.
    pub payload_len: u16,
    /// A [`Hook`].
    pub hook: u8,
    /// A [`crate::flow::Direction`] as 0 or 1.
    pub direction: u8,
    /// One of [`crate::flow::helper`].
    pub helper: u8,
    /// 1 when the beginning of the connection was not seen.
    pub picked_up: u8,
    /// The mark that rules have set, 0 for none; of one that leaves else its own.
    pub mark: u32,
    /// 1 when it leaves by another way than that on which it was held.
    pub leaves_elsewhere: u8,
    pub _pad: [u8; 3],
}

/// What an [`Event`] reports.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// A rule with the LOG target matched; `rule` says which.
    Log = 0,
    /// The packet was dropped; `reason` says why.
    Drop = 1,
}

impl EventKind {
    pub const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Log),
            1 => Some(Self::Drop),
            _ => None,
        }
    }
}

/// How much of the packet an [`Event`] carries, from the start of the frame:
/// Ethernet, IPv6 and a TCP header with all its options.
pub const EVENT_FRAME: usize = 128;

/// [`Event::chain`] of a packet that was dropped before it reached one.
pub const NO_CHAIN: u8 = 255;

/// A packet worth telling of.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Event {
    pub at: Nanos,
    pub in_ifindex: u32,
    pub out_ifindex: u32,
    /// Ruleset generation, and the rule's index in it when one decided.
    pub generation: u32,
    pub rule: u32,
    /// Length of the whole frame.
    pub frame_len: u32,
    pub l3: u16,
    pub l4: u16,
    /// An [`EventKind`].
    pub kind: u8,
    /// A [`crate::verdict::DropReason`], for drops.
    pub reason: u8,
    /// A [`crate::rule::Chain`], or [`NO_CHAIN`].
    pub chain: u8,
    /// A [`crate::flow::CtState`] bit; 0 when it was not determined.
    pub ctstate: u8,
    /// How many bytes of `frame` are set.
    pub captured: u8,
    pub _pad: [u8; 3],
    pub frame: [u8; EVENT_FRAME],
}

const _: () = assert!(size_of::<Punt>() == 96);
const _: () = assert!(size_of::<Event>() == 168);

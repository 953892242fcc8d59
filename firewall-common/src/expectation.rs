//! Connections that a helper has announced: permissions for one use.

use core::mem::size_of;

use bytemuck::{Pod, Zeroable};

use crate::{addr::Addr, flow::Tuple, time::Nanos};

/// The exact destination that a helper announced, as packets to it come in; the source port is
/// free. Port 0 is
/// the key of a range of ports, which stands in the value.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Pod, Zeroable)]
pub struct ExpectationKey {
    pub src: Addr,
    pub dst: Addr,
    pub dport: u16,
    pub protocol: u8,
    pub _pad: u8,
}

/// A one-use permission: the next flow that fits its key is RELATED to `master`.
///
/// It holds until `expires`, and only as long as its master lives. One of a range of
/// ports is a permission for any number of uses.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Expectation {
    pub expires: Nanos,
    /// The control connection, in its original direction.
    pub master: Tuple,
    /// [`Flow::created`] of the master: a later connection with the same
    /// endpoints is another one.
    pub master_created: Nanos,
    /// One of [`crate::flow::helper`].
    pub helper: u8,
    pub _pad: u8,
    /// The ports of a range, both ends included; 0 and 0 where the key names the port.
    pub first_port: u16,
    pub last_port: u16,
    /// Where the host that its key names is translated to: the port inside, 0 for none. Ports of
    /// a range stay as they are.
    pub inside_port: u16,
    pub inside: Addr,
}

impl Expectation {
    /// Whether its destination is one that is translated.
    #[inline(always)]
    pub const fn leads_inside(&self) -> bool {
        self.inside_port != 0
    }

    /// The port inside of a packet to this one.
    #[inline(always)]
    pub const fn inside_port_of(&self, dport: u16) -> u16 {
        if self.last_port == 0 { self.inside_port } else { dport }
    }

    /// Whether it holds for this destination port, when its key was found.
    #[inline(always)]
    pub const fn is_for(&self, key: &ExpectationKey, dport: u16) -> bool {
        match key.dport {
            0 => self.first_port <= dport && dport <= self.last_port,
            named => named == dport,
        }
    }
}

/// The value of the `masters` map, whose key is the expected flow's.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Master {
    /// [`Flow::created`] of the expected flow that this entry describes.
    pub child_created: Nanos,
    /// The control connection, in its original direction.
    pub tuple: Tuple,
    pub helper: u8,
    pub _pad: [u8; 7],
}

const _: () = assert!(size_of::<ExpectationKey>() == 36);
const _: () = assert!(size_of::<Expectation>() == 80);
const _: () = assert!(size_of::<Master>() == 56);

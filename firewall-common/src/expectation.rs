//! Connections that a helper has announced: permissions for one use.

use core::mem::size_of;

use bytemuck::{Pod, Zeroable};

use crate::{addr::Addr, flow::Tuple, time::Nanos};

/// The exact destination that a helper announced; the source port is free.
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
/// It holds until `expires`, and only as long as its master lives.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Expectation {
    pub expires: Nanos,
    /// The control connection, in its original direction.
    pub master: Tuple,
    /// [`Flow::created`] of the master: a later connection with the same
    /// endpoints is another one.
    pub master_created: Nanos,
    /// One of [`helper`].
    pub helper: u8,
    pub _pad: [u8; 7],
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
const _: () = assert!(size_of::<Expectation>() == 64);
const _: () = assert!(size_of::<Master>() == 56);

//! What the kernel tells about the interfaces of this network namespace.
//!
//! Netlink is spoken directly: a request and its answer are a few fixed bytes
//! and a list of attributes, and what a newer kernel adds is stepped over.

pub mod links;
mod socket;
mod wire;
pub mod xdp_features;

#[cfg(test)]
mod scratch;

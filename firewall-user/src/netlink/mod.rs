//! What the kernel tells about the interfaces of this network namespace.

mod ask;
pub mod links;
pub mod xdp_features;

#[cfg(test)]
mod scratch;

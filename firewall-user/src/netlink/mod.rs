//! What the kernel tells about the interfaces and routes of this network namespace.

mod ask;
pub mod links;
pub mod routes;
pub mod xdp_features;

#[cfg(test)]
pub(crate) mod scratch;

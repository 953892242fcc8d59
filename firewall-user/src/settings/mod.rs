//! How connections are tracked, as people set it: the names, ranges and defaults
//! of nf_conntrack's sysctls, and where each stands in the maps.
//!
//! One list ([`ALL`]) serves the configuration file, `firewall conntrack set` and
//! `firewall conntrack settings`. Nothing here does I/O.

mod catalogue;
mod live;
mod name;
mod value;

pub use self::{
    catalogue::{ALL, Setting},
    live::{Chosen, Live},
    name::{Refused, find},
    value::{Kind, Value},
};

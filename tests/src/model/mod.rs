//! The loaded programs beside the model of them: the same frames through
//! firewall-common on tables in memory. They must agree about every frame and about
//! what is left in the tables.

mod bench;
mod gateway;

pub use bench::Bench;
pub use gateway::{Gateway, PORTS};

/// Which program judges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Xdp,
    TcIngress,
    /// Every frame is one of the gateway's own.
    TcEgress,
}

//! The oracle: the same frames through the kernel's nf_conntrack and through the
//! firewall, judged frame by frame and compared.
//!
//! ```text
//!   scenarios ─┐
//!   generator ─┼─► Script ─► bench ─┬─► gateway with nf_conntrack ─► judgements ─┐
//!   capture ───┘                    └─► gateway with the firewall ─► judgements ─┴─► Report
//! ```
//!
//! Captures with FTP are also played with the helpers of both on, at their own addresses:
//! which holes does each open ([`hole`], [`honesty`])?
//!
//! A [`Script`] is data: who sends which frame, without addresses. Whoever plays it
//! chooses a [`Place`] and has the bytes. Only [`bench`] knows namespaces, sockets
//! and the firewall; everything else runs anywhere.

pub mod bench;
pub mod campaign;
pub mod capture;
mod describe;
pub mod difference;
pub mod flow;
pub mod frame;
pub mod generator;
pub mod hole;
pub mod honesty;
pub mod judgement;
pub mod options;
pub mod place;
pub mod replay;
pub mod report;
pub mod rulebook;
pub mod scenarios;
pub mod script;
pub mod sctp;
pub mod settings;
pub mod shrink;
pub mod talk;

pub use difference::Difference;
pub use frame::{Content, Frame};
pub use judgement::Judgement;
pub use place::Place;
pub use report::Report;
pub use script::{Script, Step};
pub use settings::Settings;
pub use talk::Talk;

//! A translated control connection without a network: what tests and fuzz targets play
//! conversations through.
//!
//! ```text
//!   client ── near ── gateway ── far ── server
//! ```
//!
//! The [`Host`]s are ends of TCP, the [`Middle`] is what the daemon does with held segments, and
//! a [`Talk`] sends what the hosts say over links that lose, repeat and delay it. [`Trackers`]
//! judge every segment on both links, and within the gateway as the programs do.
//!
//! Whatever happens, the hosts check that no byte changes which they have had, and that nothing
//! is acknowledged which they have not sent.

mod host;
mod middle;
mod segment;
mod talk;
mod trackers;

pub use host::Host;
pub use middle::{Middle, Told};
pub use segment::Segment;
pub use talk::{Step, Talk, fate};
pub use trackers::Trackers;

//! Translation of addresses and ports.
//!
//! A translated connection has two faces. *Inside* is what its two hosts really are: the
//! client's own address and port, and those of the server that answers. Rules behind
//! routing, the flow tables and their keys know this one. The *wire* face is what each side
//! is made to believe: the client talks to the server's public address (DNAT), the server
//! answers to an address of the gateway (SNAT).
//!
//! What comes in has its destination put right at once, before it is routed and tracked; what
//! goes out has its source put right when it leaves. So everything in between is as without
//! translation:
//!
//! ```text
//! client 10.0.0.2:4000 ─► 198.51.100.1:80     (wire, original: what came in)
//!        10.0.0.2:4000 ─► 192.168.1.5:80      (inside: routed, judged, tracked)
//!    203.0.113.1:61000 ─► 192.168.1.5:80      (wire: what goes out)
//! ```
//!
//! The tables of translations hold the way in from each wire face that is no inside one. The
//! way out stands in the flow itself ([`translation::Faces`]).

pub mod order;
pub mod translation;

pub use order::{Kind, Order};
pub use translation::{Faces, Translation};

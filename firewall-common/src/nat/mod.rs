//! Translation of addresses and ports.
//!
//! A translated connection has two faces. *Inside* is what its two hosts really are: the
//! client's own address and port, and those of the server that answers. Rules behind
//! routing, the flow tables and their keys know this one. The *wire* face is what each side
//! is made to believe: the client talks to the server's public address (DNAT), the server
//! answers to an address of the gateway (SNAT).
//!
//! What comes in has its destination put right at once, before it is routed and tracked
//! ([`arrival`]); what goes out has its source put right when it leaves. So everything in
//! between is as without translation:
//!
//! ```text
//! client 10.0.0.2:4000 ─► 198.51.100.1:80     (wire, original: what came in)
//!        10.0.0.2:4000 ─► 192.168.1.5:80      (inside: routed, judged, tracked)
//!    203.0.113.1:61000 ─► 192.168.1.5:80      (wire: what goes out)
//! ```
//!
//! The first packet of a flow is shown to the rules of table nat and gets its faces
//! ([`birth`]); no two flows have the same one ([`claim`]). The tables of translations hold
//! the way in from each wire face that is no inside one; the way out stands in the flow
//! itself ([`translation::Faces`]). What was announced over a translated connection is translated
//! as that is, past table nat ([`follow`]). On request all flows of UDP that an inside endpoint
//! begins share one outside port ([`mapping`]).

pub mod arrival;
pub mod birth;
pub mod choice;
pub mod claim;
pub mod departure;
pub mod desk;
pub mod follow;
pub mod mapping;
pub mod order;
pub mod rewrite;
pub mod translation;

pub use desk::Desk;
pub use mapping::{Mapping, MappingKey};
pub use order::{Kind, Order};
pub use translation::{Faces, Translation, translations};

use crate::addr::Addr;

/// Words of the table `faces`.
pub const FACE_WORDS: u32 = 64;

/// The place of an address in the table `faces`: a word of 64 bits, and a bit of it. An
/// address without its bit is no destination that anything is translated from; some others
/// have the same.
#[inline(always)]
pub const fn face(address: &Addr) -> (u32, u64) {
    // The golden ratio of 2^32 spreads neighbours.
    const SPREAD: u32 = 0x9e37_79b1;
    let [a, b, c, d] = address.words;
    let hash = (a ^ b.rotate_left(8) ^ c.rotate_left(16) ^ d).wrapping_mul(SPREAD) >> 20;
    (hash >> 6 & (FACE_WORDS - 1), 1 << (hash & 63))
}

//! Where in the stream an endpoint was announced, for whoever must write another
//! one there: address translation.

use super::Hole;

/// A part of one direction's byte stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// TCP sequence number of its first byte. One that lies before the segment at
    /// hand says that the text began in a segment that has gone on.
    pub at: u32,
    /// Bytes.
    pub len: u16,
}

/// The beginning of what may become an announcement, at the end of what has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfinished {
    /// TCP sequence number of its first byte.
    pub at: u32,
    /// The byte before it.
    pub before: u8,
    pub bytes: Vec<u8>,
}

/// How the text at a place spells an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `h1,h2,h3,h4,p1,p2` (RFC 959 section 5.3.2).
    HostPort,
    /// `|1|192.0.2.1|40000|`, any delimiter (RFC 2428 section 2).
    Delimited,
    /// `|||40000|`, any delimiter (RFC 2428 section 3).
    PortOnly,
}

/// An endpoint that was announced, admitted, and stands readable in the stream. Its
/// hole may open later, when the other side accepts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Announced {
    pub form: Form,
    pub hole: Hole,
    pub place: Place,
}

//! What an admin is told about the port of a TFTP server.

use std::{fmt, net::IpAddr};

use super::request::NoRequest;

/// Something that opened nothing, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    /// A datagram to the server that asks for nothing.
    NoRequest { client: IpAddr, why: NoRequest },
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::NoRequest { client, why } = self;
        let why = match why {
            NoRequest::Opcode => "it neither reads nor writes",
            NoRequest::TooLong => "it is longer than 512 bytes",
            NoRequest::Text => "a name, a mode and options in pairs are wanted",
        };
        write!(f, "a datagram from {client} is no TFTP request: {why}; passed, not opened")
    }
}

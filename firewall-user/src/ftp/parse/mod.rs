//! FTP's lines as typed values: RFC 959, RFC 2228 (AUTH), RFC 2428 (EPRT, EPSV).
//!
//! The parser is strict about numbers and lenient about blanks: what a server
//! or client out there understands should be understood here, but a number out
//! of its range is an error and never wraps. It knows no connection and keeps
//! nothing but the code of an open multi-line reply.

mod address;
mod command;
mod cursor;
mod reply;

use std::{fmt, net::IpAddr, num::NonZeroU16};

pub use address::{MAX_SPELLING, Sight};
pub use command::{Command, CommandError, argument_of, begun_argument, command};
pub use reply::{Code, Named, Reply, ReplyReader};

/// Where a data connection is to go; without a host it is the speaker's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub host: Option<IpAddr>,
    pub port: NonZeroU16,
}

/// What is wrong with a line, and at which of its bytes, counted from zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParseError {
    pub position: usize,
    pub kind: ErrorKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The text ends where more was wanted.
    Incomplete,
    /// Something else stands where this was wanted.
    Wanted(&'static str),
    NumberAbove(u16),
    /// More than the six numbers of a host-port.
    TooManyNumbers,
    PortZero,
    /// RFC 2428 knows 1 (IPv4) and 2 (IPv6).
    UnknownProtocol,
    /// Not an address of the family that the protocol number says.
    BadAddress,
    /// Text after the end of the argument.
    Trailing,
    /// Not within [`MAX_SPELLING`] bytes.
    TooLong,
    /// No place in the text looks like an address.
    NoAddress,
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Incomplete => f.write_str("the line ends too early"),
            Self::Wanted(what) => write!(f, "wanted {what}"),
            Self::NumberAbove(limit) => write!(f, "number above {limit}"),
            Self::TooManyNumbers => f.write_str("more than six numbers"),
            Self::PortZero => f.write_str("port 0"),
            Self::UnknownProtocol => f.write_str("wanted protocol 1 (IPv4) or 2 (IPv6)"),
            Self::BadAddress => f.write_str("not an address of the stated protocol"),
            Self::Trailing => f.write_str("unexpected text behind the port"),
            Self::TooLong => write!(f, "not within {MAX_SPELLING} bytes"),
            Self::NoAddress => f.write_str("no address in it"),
        }
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at column {}", self.kind, self.position + 1)
    }
}

impl std::error::Error for ParseError {}

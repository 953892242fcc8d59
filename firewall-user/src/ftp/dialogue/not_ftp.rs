//! Why a connection is held not to be FTP.

use std::fmt;

use crate::ftp::parse::Code;

/// What it showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotFtp {
    ClientSpokeFirst,
    NoGreeting(Code),
    FirstLine,
    FirstLineUnseen,
    Http,
}

impl fmt::Display for NotFtp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClientSpokeFirst => f.write_str("the client spoke before the server's greeting"),
            Self::NoGreeting(code) => write!(f, "the server greeted with {}, not 220", code.get()),
            Self::FirstLine => f.write_str("the client's first line is no FTP command"),
            Self::FirstLineUnseen => f.write_str("the client's first line was not seen"),
            Self::Http => f.write_str("the client speaks HTTP"),
        }
    }
}

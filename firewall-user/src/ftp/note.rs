//! What an admin is told about a control connection.

use std::{fmt, net::IpAddr};

use super::{
    dialogue::NotFtp,
    parse::ParseError,
    policy::Refusal,
    stream::{Loss, MAX_LINE},
};

/// Where an endpoint for a data connection was named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Announcement {
    Port,
    Eprt,
    /// The reply to PASV.
    Passive,
    /// The reply to EPSV.
    ExtendedPassive,
}

impl Announcement {
    /// As it stands on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Port => "PORT",
            Self::Eprt => "EPRT",
            Self::Passive => "227",
            Self::ExtendedPassive => "229",
        }
    }
}

impl fmt::Display for Announcement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Something that opened nothing, or ended the following, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// Understood, and against the policy.
    Refused { sender: IpAddr, what: Announcement, why: Refusal },
    /// Not understood; it passed.
    Unparsed { sender: IpAddr, what: Announcement, error: ParseError },
    /// A 227 or 229 to which no PASV or EPSV had asked.
    Unasked { sender: IpAddr, what: Announcement },
    /// A line of more than [`MAX_LINE`] bytes was skipped.
    LineTooLong { sender: IpAddr },
    /// A part of the stream could not be read.
    Lost { sender: IpAddr, loss: Loss },
    /// More commands without a reply than are remembered.
    TooManyCommands { sender: IpAddr },
    /// The connection is not FTP; nothing on it is read any more.
    NotFtp { client: IpAddr, why: NotFtp },
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { sender, what, why } => write!(f, "{what} from {sender} {why}"),
            Self::Unparsed { sender, what, error } => {
                write!(f, "{what} from {sender} not understood: {error}; passed, not opened")
            }
            Self::Unasked { sender, what } => {
                let command = if *what == Announcement::Passive { "PASV" } else { "EPSV" };
                write!(f, "{what} from {sender} answers no {command}: not opened")
            }
            Self::LineTooLong { sender } => {
                write!(f, "a line from {sender} exceeds {MAX_LINE} bytes: passed, not read")
            }
            Self::Lost { sender, loss } => write!(f, "{loss} in the stream from {sender}: {}", {
                "reading goes on at the next line"
            }),
            Self::TooManyCommands { sender } => {
                write!(f, "too many commands from {sender} await a reply: {}", {
                    "those at the end open nothing"
                })
            }
            Self::NotFtp { client, why } => {
                write!(f, "the connection of {client} is not FTP: {why}; nothing will be opened")
            }
        }
    }
}

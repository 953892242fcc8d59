//! One line of the client as a command.

use std::ops::Range;

use super::{
    Endpoint, ParseError,
    address::{delimited, host_port},
    cursor::{Cursor, is_blank},
};
use crate::ftp::note::Announcement;

/// What the client wants, as far as data connections depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// PORT and EPRT: the server is to connect to this endpoint.
    Active(Announcement, Endpoint),
    Pasv,
    /// Also with a protocol number.
    Epsv,
    /// `EPSV ALL`: asks for no port, and gives up every other way to one.
    EpsvAll,
    /// What moves data, over a connection that was negotiated before.
    Transfer,
    /// AUTH (RFC 2228); `tls` for all names of TLS and SSL (RFC 4217).
    Auth {
        tls: bool,
    },
    /// USER, PASS and ACCT, any of which may log in.
    Login,
    /// REIN: log out, keep the connection.
    Reinitialize,
    Quit,
    /// Any other command of FTP.
    Other,
    /// An empty line; servers disagree whether it gets a reply.
    Empty,
    /// No command of FTP.
    Unknown,
    /// A request line of HTTP.
    Http,
}

/// A PORT or EPRT whose argument cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommandError {
    pub what: Announcement,
    pub error: ParseError,
}

/// RFC 959, 697, 737, 775, 1639, 2228, 2389, 2428, 2640, 3659 and 7151, and
/// what common servers add. Those that have a variant of their own are not here.
const OTHER: [&str; 76] = [
    "ABOR", "ADAT", "ALLO", "AVBL", "CCC", "CDUP", "CLNT", "COMB", "CONF", "CPSV", "CSID", "CWD",
    "DELE", "DSIZ", "ENC", "ESTA", "ESTP", "FEAT", "HASH", "HELP", "HOST", "LANG", "LPRT", "LPSV",
    "MACB", "MAIL", "MD5", "MDTM", "MFCT", "MFF", "MFMT", "MIC", "MKD", "MLFL", "MLST", "MMD5",
    "MODE", "MRCP", "MRSQ", "MSAM", "MSND", "MSOM", "NOOP", "OPTS", "PBSZ", "PROT", "PWD", "RANG",
    "REST", "RMD", "RMDA", "RNFR", "RNTO", "SITE", "SIZE", "SMNT", "SPSV", "SSCN", "STAT", "STRU",
    "SYST", "THMB", "TYPE", "XAUT", "XAUTH", "XCRC", "XCUP", "XCWD", "XDUP", "XMD5", "XMKD",
    "XPWD", "XRMD", "XSHA", "XSHA1", "XSHA256",
];

/// RFC 959 section 4.1.3 and RFC 3659 section 7.
const TRANSFERS: [&str; 7] = ["APPE", "LIST", "MLSD", "NLST", "RETR", "STOR", "STOU"];

const HTTP_METHODS: [&str; 9] =
    ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];

/// TELNET's "interpret as command" (RFC 854), by which clients announce ABOR.
const IAC: u8 = 255;
/// WILL, WONT, DO, DONT: one more byte follows.
const NEGOTIATION: std::ops::RangeInclusive<u8> = 251..=254;

/// Reads a line without its end. Case does not matter, nor do blanks in front.
///
/// # Errors
/// Only a PORT or EPRT with a bad argument; any other line is some command.
pub fn command(line: &[u8]) -> Result<Command, CommandError> {
    let mut cursor = Cursor::at(line, telnet_prefix(line));
    cursor.blanks();
    let verb = cursor.take_while(|byte| !is_blank(byte));
    let is = |name: &str| verb.eq_ignore_ascii_case(name.as_bytes());
    cursor.blanks();
    Ok(match verb {
        b"" => Command::Empty,
        _ if is("PORT") => active(Announcement::Port, cursor)?,
        _ if is("EPRT") => active(Announcement::Eprt, cursor)?,
        _ if is("PASV") => Command::Pasv,
        _ if is("EPSV") && argument(cursor).eq_ignore_ascii_case(b"ALL") => Command::EpsvAll,
        _ if is("EPSV") => Command::Epsv,
        _ if is("AUTH") => Command::Auth { tls: is_tls(argument(cursor)) },
        _ if is("USER") || is("PASS") || is("ACCT") => Command::Login,
        _ if is("REIN") => Command::Reinitialize,
        _ if is("QUIT") => Command::Quit,
        _ if TRANSFERS.into_iter().any(is) => Command::Transfer,
        _ if OTHER.into_iter().any(is) => Command::Other,
        _ if HTTP_METHODS.into_iter().any(is) && names_http(line) => Command::Http,
        _ => Command::Unknown,
    })
}

/// Where the argument of a command stands in its line, without the blanks around it.
pub fn argument_of(line: &[u8]) -> Range<usize> {
    let mut cursor = Cursor::at(line, telnet_prefix(line));
    cursor.blanks();
    cursor.take_while(|byte| !is_blank(byte));
    cursor.blanks();
    let start = cursor.position();
    start..start + line[start..].trim_ascii_end().len()
}

/// Where the argument of a PORT or EPRT begins of which no more than this has come; `None`
/// when it is none, or nothing of the argument is there.
pub fn begun_argument(line: &[u8]) -> Option<usize> {
    let mut cursor = Cursor::at(line, telnet_prefix(line));
    cursor.blanks();
    let verb = cursor.take_while(|byte| !is_blank(byte));
    let is_active = verb.eq_ignore_ascii_case(b"PORT") || verb.eq_ignore_ascii_case(b"EPRT");
    cursor.blanks();
    (is_active && cursor.position() < line.len()).then_some(cursor.position())
}

fn active(what: Announcement, mut cursor: Cursor<'_>) -> Result<Command, CommandError> {
    let grammar = if what == Announcement::Port { host_port } else { delimited };
    let endpoint = grammar(&mut cursor).and_then(|endpoint| cursor.end().map(|()| endpoint));
    endpoint
        .map(|endpoint| Command::Active(what, endpoint))
        .map_err(|error| CommandError { what, error })
}

fn argument(mut cursor: Cursor<'_>) -> &[u8] {
    cursor.take_while(|byte| !is_blank(byte))
}

/// RFC 4217 section 2 and the drafts before it.
fn is_tls(mechanism: &[u8]) -> bool {
    ["TLS", "TLS-C", "TLS-P", "SSL"]
        .into_iter()
        .any(|name| mechanism.eq_ignore_ascii_case(name.as_bytes()))
}

fn names_http(line: &[u8]) -> bool {
    line.rsplit(|byte| is_blank(*byte)).next().is_some_and(|last| last.starts_with(b"HTTP/"))
}

/// How many bytes of TELNET commands stand at the front.
fn telnet_prefix(line: &[u8]) -> usize {
    let mut at = 0;
    while let [IAC, command, ..] = line[at..] {
        at += if NEGOTIATION.contains(&command) { 3 } else { 2 };
        at = at.min(line.len());
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ftp::parse::ErrorKind;

    fn endpoint(host: &str, port: u16) -> Endpoint {
        Endpoint { host: Some(host.parse().unwrap()), port: port.try_into().unwrap() }
    }

    fn port(host: &str, number: u16) -> Result<Command, CommandError> {
        Ok(Command::Active(Announcement::Port, endpoint(host, number)))
    }

    fn eprt(host: &str, number: u16) -> Result<Command, CommandError> {
        Ok(Command::Active(Announcement::Eprt, endpoint(host, number)))
    }

    fn error(line: &[u8]) -> (usize, ErrorKind) {
        let CommandError { error, .. } = command(line).unwrap_err();
        (error.position, error.kind)
    }

    #[test]
    fn port_is_read_in_any_case_and_with_blanks_anywhere() {
        for line in [
            "PORT 192,0,2,7,156,65",
            "port 192,0,2,7,156,65",
            "PORT   192,0,2,7,156,65  ",
            "Port\t192, 0, 2, 7, 156, 65",
            " PORT 192 ,000,002 , 7,156,065",
        ] {
            assert_eq!(command(line.as_bytes()), port("192.0.2.7", 40_001), "{line}");
        }
    }

    #[test]
    fn port_with_too_few_or_too_many_numbers_says_where() {
        assert_eq!(error(b"PORT"), (4, ErrorKind::Incomplete));
        assert_eq!(error(b"PORT 1,2,3,4,5"), (14, ErrorKind::Incomplete));
        assert_eq!(error(b"PORT 1,2,3,4,5,"), (15, ErrorKind::Incomplete));
        assert_eq!(error(b"PORT 1,2,3,4,5,6,7"), (16, ErrorKind::TooManyNumbers));
    }

    #[test]
    fn the_argument_of_a_command_is_found_in_its_line() {
        for line in ["PORT 1,2,3,4,5,6", "  port\t1,2,3,4,5,6  ", "\u{1}PORT 1,2,3,4,5,6"] {
            assert_eq!(&line[argument_of(line.as_bytes())], "1,2,3,4,5,6", "{line}");
        }
        assert!(argument_of(b"PASV").is_empty() && argument_of(b"").is_empty());
    }

    #[test]
    fn the_argument_is_found_before_its_end() {
        for (line, at) in [("PORT 1", 5), (" eprt\t|1|", 6), ("PORT 1,2,3,4,5,6\r", 5)] {
            assert_eq!(begun_argument(line.as_bytes()), Some(at), "{line}");
        }
        for line in ["", "PORT", "PORT ", "PASV 1", "PORTAL 1"] {
            assert_eq!(begun_argument(line.as_bytes()), None, "{line}");
        }
    }

    #[test]
    fn numbers_never_wrap() {
        assert_eq!(error(b"PORT 1,2,3,256,5,6"), (11, ErrorKind::NumberAbove(255)));
        assert_eq!(error(b"PORT 1,2,3,4,5,99999999999"), (15, ErrorKind::NumberAbove(255)));
        assert_eq!(error(b"EPRT |1|192.0.2.7|65536|"), (18, ErrorKind::NumberAbove(65_535)));
        assert_eq!(error(b"EPRT |1|192.0.2.7|4294967297|"), (18, ErrorKind::NumberAbove(65_535)));
    }

    #[test]
    fn port_zero_and_text_instead_of_numbers_are_errors() {
        assert_eq!(error(b"PORT 1,2,3,4,0,0"), (13, ErrorKind::PortZero));
        assert_eq!(error(b"PORT 1,2,3,4,5,-6"), (15, ErrorKind::Wanted("a number")));
        assert_eq!(error(b"PORT 1.2.3.4,5,6"), (6, ErrorKind::Wanted("a comma")));
        assert_eq!(error(b"PORT 1,2,3,4,5,6 x"), (17, ErrorKind::Trailing));
        assert_eq!(error(b"EPRT |1|192.0.2.7|0|"), (18, ErrorKind::PortZero));
    }

    #[test]
    fn eprt_takes_any_delimiter_and_may_lack_the_last() {
        for line in ["EPRT |1|192.0.2.7|5000|", "eprt !1!192.0.2.7!5000!", "EPRT |1|192.0.2.7|5000"]
        {
            assert_eq!(command(line.as_bytes()), eprt("192.0.2.7", 5000), "{line}");
        }
        assert_eq!(command(b"EPRT |2|2001:db8::7|5000|"), eprt("2001:db8::7", 5000));
        assert_eq!(command(b"EPRT | 2 | 2001:db8::7 | 5000 |"), eprt("2001:db8::7", 5000));
        assert_eq!(command(b"EPRT |2|::ffff:192.0.2.7|5000|"), eprt("192.0.2.7", 5000));
    }

    #[test]
    fn eprt_with_a_wrong_protocol_or_address_says_where() {
        assert_eq!(error(b"EPRT |3|192.0.2.7|5000|"), (6, ErrorKind::UnknownProtocol));
        assert_eq!(error(b"EPRT |2|192.0.2.7|5000|"), (8, ErrorKind::BadAddress));
        assert_eq!(error(b"EPRT |1|192.0.2.700|5000|"), (8, ErrorKind::BadAddress));
        assert_eq!(error(b"EPRT |1|192.0.2.7"), (17, ErrorKind::Incomplete));
        assert_eq!(error(b"EPRT |1|192.0.2.7|5000|x"), (23, ErrorKind::Trailing));
        assert_eq!(error(b"EPRT"), (4, ErrorKind::Incomplete));
    }

    #[test]
    fn commands_without_an_endpoint_are_told_apart() {
        for (line, expected) in [
            ("pasv", Command::Pasv),
            ("EPSV", Command::Epsv),
            ("EPSV 2", Command::Epsv),
            ("epsv all", Command::EpsvAll),
            ("AUTH TLS", Command::Auth { tls: true }),
            ("auth tls-p", Command::Auth { tls: true }),
            ("AUTH GSSAPI", Command::Auth { tls: false }),
            ("USER anonymous", Command::Login),
            ("REIN", Command::Reinitialize),
            ("QUIT", Command::Quit),
            ("ABOR", Command::Other),
            ("STOR PORT 1,2,3,4,5,6", Command::Transfer),
            ("mlsd", Command::Transfer),
            ("MLST", Command::Other),
            ("PORTAL 1,2,3,4,5,6", Command::Unknown),
            ("  ", Command::Empty),
            ("GET / HTTP/1.1", Command::Http),
            ("GET /", Command::Unknown),
        ] {
            assert_eq!(command(line.as_bytes()), Ok(expected), "{line}");
        }
    }

    #[test]
    fn telnet_commands_in_front_are_passed_over() {
        assert_eq!(command(b"\xff\xf4\xff\xf2ABOR"), Ok(Command::Other));
        assert_eq!(command(b"\xff\xfd\x06pasv"), Ok(Command::Pasv));
        assert_eq!(command(b"\xff\xf4\xff\xfd"), Ok(Command::Empty));
        assert_eq!(command(b"\xff"), Ok(Command::Unknown));
    }
}

//! A request to read or to write (RFC 1350 section 5, options: RFC 2347).

/// The opcodes of requests.
const READ: u16 = 1;
const WRITE: u16 = 2;

/// The longest request (RFC 2347).
const MAX_REQUEST: usize = 512;
/// Modes of a transfer; case does not matter.
const MODES: [&[u8]; 3] = [b"netascii", b"octet", b"mail"];

/// What is no request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoRequest {
    Opcode,
    TooLong,
    /// A name, a zero byte, a mode and a zero byte are wanted.
    Text,
}

/// Checks a datagram from its first byte to its last.
///
/// # Errors
/// What is wrong with it.
pub fn check(datagram: &[u8]) -> Result<(), NoRequest> {
    let [high, low, text @ ..] = datagram else { return Err(NoRequest::Opcode) };
    if !matches!(u16::from_be_bytes([*high, *low]), READ | WRITE) {
        return Err(NoRequest::Opcode);
    }
    if datagram.len() > MAX_REQUEST {
        return Err(NoRequest::TooLong);
    }
    let mut words = text.split(|byte| *byte == 0);
    let (name, mode) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let is_mode = MODES.iter().any(|known| known.eq_ignore_ascii_case(mode));
    // Options and their values follow in the same form; the last byte is a zero.
    let is_whole =
        text.last() == Some(&0) && text.iter().filter(|byte| **byte == 0).count() % 2 == 0;
    if name.is_empty() || !is_mode || !is_whole { Err(NoRequest::Text) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_known_with_and_without_options() {
        for request in [
            &b"\0\x01boot/pxelinux.0\0octet\0"[..],
            b"\0\x02config\0NETASCII\0",
            b"\0\x01a\0octet\0blksize\x001428\0tsize\x000\0",
        ] {
            assert_eq!(check(request), Ok(()));
        }
    }

    #[test]
    fn what_is_no_request_says_why() {
        let long = [&b"\0\x01"[..], &[b'a'; 600], b"\0octet\0"].concat();
        for (datagram, why) in [
            (&b""[..], NoRequest::Opcode),
            (b"\0", NoRequest::Opcode),
            (b"\0\x03\0\x01data", NoRequest::Opcode),
            (b"\x01\0a\0octet\0", NoRequest::Opcode),
            (&long, NoRequest::TooLong),
            (b"\0\x01a\0octet", NoRequest::Text),
            (b"\0\x01\0octet\0", NoRequest::Text),
            (b"\0\x01a\0octets\0", NoRequest::Text),
            (b"\0\x01a\0octet\0blksize\0", NoRequest::Text),
        ] {
            assert_eq!(check(datagram), Err(why), "{datagram:?}");
        }
    }
}

//! Netlink messages and attributes (RFC 3549 section 2.2, linux/netlink.h).
//!
//! Numbers are in the machine's byte order, everything is padded to four bytes.
//! Reading never fails: it ends where the bytes do not hold what they promise.

/// `struct nlmsghdr`: length, kind, flags, sequence number, port.
const MESSAGE_HEADER: usize = 16;
/// `struct nlattr`: length, kind.
const ATTRIBUTE_HEADER: usize = 4;
/// The two upper bits of an attribute's kind are flags.
const ATTRIBUTE_KIND: u16 = 0x3fff;

/// One message of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'b> {
    pub kind: u16,
    pub flags: u16,
    pub body: &'b [u8],
}

/// One attribute: its kind without flags, and its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attribute<'b> {
    pub kind: u16,
    pub value: &'b [u8],
}

impl<'b> Attribute<'b> {
    pub fn u32(&self) -> Option<u32> {
        self.value.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
    }

    pub fn u64(&self) -> Option<u64> {
        self.value.first_chunk().map(|bytes| u64::from_ne_bytes(*bytes))
    }

    /// A string up to its NUL.
    pub fn text(&self) -> String {
        let end = self.value.iter().position(|&byte| byte == 0).unwrap_or(self.value.len());
        String::from_utf8_lossy(&self.value[..end]).into_owned()
    }

    /// The attributes nested in this one.
    pub fn nested(&self) -> impl Iterator<Item = Attribute<'b>> + use<'b> {
        attributes(self.value)
    }
}

/// The messages in one datagram.
pub fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let length = u32_at(bytes, 0)? as usize;
        let message = Message {
            kind: u16_at(bytes, 4)?,
            flags: u16_at(bytes, 6)?,
            body: bytes.get(MESSAGE_HEADER..length)?,
        };
        bytes = bytes.get(padded(length)..).unwrap_or_default();
        Some(message)
    })
}

/// The attributes in a message's body, behind its fixed part.
pub fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = Attribute<'_>> {
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(bytes, 0)?);
        let attribute = Attribute {
            kind: u16_at(bytes, 2)? & ATTRIBUTE_KIND,
            value: bytes.get(ATTRIBUTE_HEADER..length)?,
        };
        bytes = bytes.get(padded(length)..).unwrap_or_default();
        Some(attribute)
    })
}

/// A whole message; the kernel fills in the port.
pub fn message(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(MESSAGE_HEADER + body.len()).expect("a request is short");
    let mut bytes = Vec::with_capacity(MESSAGE_HEADER + body.len());
    bytes.extend(length.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend([0; 8]);
    bytes.extend(body);
    bytes
}

/// One attribute, padded.
pub fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(ATTRIBUTE_HEADER + value.len()).expect("a value is short");
    let mut bytes = Vec::with_capacity(padded(ATTRIBUTE_HEADER + value.len()));
    bytes.extend(length.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(padded(bytes.len()), 0);
    bytes
}

pub fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|bytes| u16::from_ne_bytes(*bytes))
}

pub fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
}

const fn padded(length: usize) -> usize {
    length.next_multiple_of(4)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_was_written_is_read_again() {
        let body = [attribute(2, b"netdev\0"), attribute(0x8007, &attribute(1, &[9, 0, 0, 0]))];
        let bytes = [message(16, 5, &body.concat()), message(3, 0, &[])].concat();
        let read: Vec<_> = messages(&bytes).collect();
        assert_eq!((read[0].kind, read[0].flags, read[1].kind), (16, 5, 3));
        let attributes: Vec<_> = attributes(read[0].body).collect();
        assert_eq!(attributes[0].text(), "netdev");
        assert_eq!(attributes[1].kind, 7);
        assert_eq!(attributes[1].nested().next().unwrap().u32(), Some(9));
    }

    #[test]
    fn a_length_that_promises_too_much_or_nothing_ends_the_reading() {
        assert_eq!(attributes(&[8, 0, 1, 0]).count(), 0);
        assert_eq!(attributes(&[0, 0, 1, 0]).count(), 0);
        assert_eq!(messages(&[0; 16]).count(), 0);
        assert_eq!(Attribute { kind: 1, value: &[1, 2] }.u32(), None);
    }

    proptest! {
        #[test]
        fn any_bytes_can_be_read(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(messages(&bytes).count() <= bytes.len());
            prop_assert!(attributes(&bytes).count() <= bytes.len());
        }
    }
}

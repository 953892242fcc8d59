//! TLS records that pass unread (RFC 8446 section 5.1), up to where they end.

/// Bytes of a record's header: type, version, length.
const HEADER: usize = 5;
/// The most that a record may hold (RFC 8446 section 5.2, RFC 5246 section 6.2.3).
const MAX_RECORD: u16 = (1 << 14) + 2048;

/// What follows the records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End<'b> {
    /// More of them, as far as one can tell.
    None,
    /// Text: the encryption has ended before it.
    Text(&'b [u8]),
    /// Neither.
    Unknown,
}

/// A place among records.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Records {
    header: [u8; HEADER],
    /// Bytes of the header that have come.
    have: usize,
    /// Bytes of the present record that have not.
    left: usize,
}

impl Records {
    /// Passes over records and parts of them.
    pub(super) fn pass<'b>(&mut self, mut bytes: &'b [u8]) -> End<'b> {
        loop {
            let skipped = self.left.min(bytes.len());
            bytes = &bytes[skipped..];
            self.left -= skipped;
            let Some((byte, rest)) = bytes.split_first() else { return End::None };
            if self.have == 0 && (byte.is_ascii_alphanumeric() || *byte == b' ') {
                return End::Text(bytes);
            }
            if !self.take(*byte) {
                return End::Unknown;
            }
            bytes = rest;
        }
    }

    /// Takes a byte of a header; `false` when no header has it.
    fn take(&mut self, byte: u8) -> bool {
        let is_possible = match self.have {
            0 => matches!(byte, 20..=24),
            1 => byte == 3,
            _ => true,
        };
        if !is_possible {
            return false;
        }
        self.header[self.have] = byte;
        self.have += 1;
        if self.have < HEADER {
            return true;
        }
        let [.., high, low] = self.header;
        let len = u16::from_be_bytes([high, low]);
        (self.have, self.left) = (0, usize::from(len));
        len <= MAX_RECORD
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORD: [u8; 8] = [23, 3, 3, 0, 3, b'P', b'O', b'R'];

    #[test]
    fn records_pass_in_any_pieces_and_text_behind_them_is_found() {
        let stream = [&RECORD[..], &RECORD[..], b"PASV\r\n"].concat();
        for cut in 0..2 * RECORD.len() {
            let mut records = Records::default();
            assert_eq!(records.pass(&stream[..cut]), End::None);
            assert_eq!(records.pass(&stream[cut..]), End::Text(b"PASV\r\n"));
        }
    }

    #[test]
    fn what_is_neither_a_record_nor_text_is_unknown() {
        for bytes in [&[0x80u8, 0x2e][..], &[22, 1], &[23, 3, 3, 0xff, 0xff]] {
            assert_eq!(Records::default().pass(bytes), End::Unknown);
        }
    }
}

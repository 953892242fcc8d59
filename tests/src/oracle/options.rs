//! TCP options as bytes (RFC 9293 section 3.1, RFC 7323, RFC 2018, RFC 7413).

/// An option of a segment; sequence numbers are those on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TcpOption {
    Mss(u16),
    Scale(u8),
    SackPermitted,
    /// Blocks from the first number to the one behind the last.
    Sack(Vec<(u32, u32)>),
    Timestamps {
        value: u32,
        echo: u32,
    },
    FastOpen(Vec<u8>),
    /// Bytes as they are, for what is broken.
    Raw(Vec<u8>),
}

/// The options' bytes, filled up to whole words with NOP as stacks do: timestamps
/// and SACK are aligned by two NOPs in front.
pub fn encode(options: &[TcpOption]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for option in options {
        push(&mut bytes, option);
    }
    while !bytes.len().is_multiple_of(4) {
        bytes.push(0);
    }
    bytes
}

fn push(bytes: &mut Vec<u8>, option: &TcpOption) {
    match option {
        TcpOption::Mss(size) => bytes.extend([&[2, 4][..], &size.to_be_bytes()].concat()),
        TcpOption::Scale(shift) => bytes.extend([1, 3, 3, *shift]),
        TcpOption::SackPermitted => bytes.extend([1, 1, 4, 2]),
        TcpOption::Sack(blocks) => {
            bytes.extend([1, 1, 5, 2 + 8 * blocks.len() as u8]);
            for (from, to) in blocks {
                bytes.extend(from.to_be_bytes());
                bytes.extend(to.to_be_bytes());
            }
        }
        TcpOption::Timestamps { value, echo } => {
            bytes.extend([1, 1, 8, 10]);
            bytes.extend(value.to_be_bytes());
            bytes.extend(echo.to_be_bytes());
        }
        TcpOption::FastOpen(cookie) => {
            bytes.extend([34, 2 + cookie.len() as u8]);
            bytes.extend(cookie);
        }
        TcpOption::Raw(raw) => bytes.extend(raw),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_end_on_a_whole_word() {
        let options = [TcpOption::Mss(1460), TcpOption::Scale(7), TcpOption::FastOpen(vec![])];
        assert_eq!(encode(&options), [2, 4, 5, 180, 1, 3, 3, 7, 34, 2, 0, 0]);
    }
}

//! SCTP packets (RFC 9260 section 3): a common header, and chunks.

/// A chunk; what the tracker does not look at is zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chunk {
    Data,
    /// With the tag by which the sender is to be called.
    Init(u32),
    InitAck(u32),
    Sack,
    Heartbeat,
    HeartbeatAck,
    Abort,
    Shutdown,
    ShutdownAck,
    CookieEcho,
    CookieAck,
    ShutdownComplete,
    Unknown(u8),
    /// Its length is less than its header's.
    Broken,
}

/// The packet from the common header on, checksum right.
pub fn packet([source, destination]: [u16; 2], tag: u32, chunks: &[Chunk]) -> Vec<u8> {
    let mut bytes = [source.to_be_bytes(), destination.to_be_bytes()].concat();
    bytes.extend(tag.to_be_bytes());
    bytes.extend([0; 4]);
    for chunk in chunks {
        chunk.push(&mut bytes);
    }
    let sum = crc32c(&bytes).to_le_bytes();
    bytes[8..12].copy_from_slice(&sum);
    bytes
}

impl Chunk {
    const fn kind(self) -> u8 {
        match self {
            Self::Data | Self::Broken => 0,
            Self::Init(_) => 1,
            Self::InitAck(_) => 2,
            Self::Sack => 3,
            Self::Heartbeat => 4,
            Self::HeartbeatAck => 5,
            Self::Abort => 6,
            Self::Shutdown => 7,
            Self::ShutdownAck => 8,
            Self::CookieEcho => 10,
            Self::CookieAck => 11,
            Self::ShutdownComplete => 14,
            Self::Unknown(kind) => kind,
        }
    }

    /// What stands behind type, flags and length: whole words.
    fn value(self) -> Vec<u8> {
        match self {
            Self::Init(tag) | Self::InitAck(tag) => {
                // Window, streams, first number.
                let rest = [0, 0, 0x80, 0, 0, 1, 0, 1, 0, 0, 0, 1];
                [&tag.to_be_bytes()[..], &rest].concat()
            }
            Self::Data => [&[0; 12][..], b"data"].concat(),
            Self::Sack => vec![0; 12],
            Self::Heartbeat | Self::HeartbeatAck => vec![0, 1, 0, 8, 0, 0, 0, 0],
            Self::Shutdown => vec![0; 4],
            Self::CookieEcho => b"cookie..".into(),
            Self::Unknown(_) => vec![0; 8],
            Self::Abort
            | Self::ShutdownAck
            | Self::CookieAck
            | Self::ShutdownComplete
            | Self::Broken => Vec::new(),
        }
    }

    fn push(self, bytes: &mut Vec<u8>) {
        /// A chunk of data that is not cut up.
        const WHOLE: u8 = 3;
        let value = self.value();
        let length = if self == Self::Broken { 3 } else { 4 + value.len() as u16 };
        let flags = if self == Self::Data { WHOLE } else { 0 };
        bytes.extend([self.kind(), flags]);
        bytes.extend(length.to_be_bytes());
        bytes.extend(value);
    }
}

/// CRC32c (RFC 9260 appendix A), bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            if crc & 1 == 1 { crc >> 1 ^ POLYNOMIAL } else { crc >> 1 }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_the_standard() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }
}

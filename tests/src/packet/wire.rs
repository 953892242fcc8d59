//! The parts of packets that are the same whatever they carry.

pub(crate) fn ipv4(protocol: u8, ends: &[u8], payload: usize) -> Vec<u8> {
    let [high, low] = short(20 + payload).to_be_bytes();
    let head = [0x45, 0, high, low, 0, 1, 0x40, 0, 64, protocol, 0, 0];
    let mut header = [&head[..], ends].concat();
    let sum = checksum(&[&header]);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    header
}

pub(crate) fn ipv6(protocol: u8, ends: &[u8], payload: usize) -> Vec<u8> {
    let [high, low] = short(payload).to_be_bytes();
    [&[0x60, 0, 0, 0, high, low, protocol, 64][..], ends].concat()
}

/// The pseudo-header of either version: what is summed is the same.
pub(crate) fn pseudo_header(protocol: u8, ends: &[u8], length: usize) -> Vec<u8> {
    let [high, low] = short(length).to_be_bytes();
    [ends, &[0, 0, high, low, 0, 0, 0, protocol]].concat()
}

/// The Internet checksum (RFC 1071) over parts of which all but the last are
/// of even length.
pub(crate) fn checksum(parts: &[&[u8]]) -> u16 {
    let words = parts.iter().flat_map(|part| part.chunks(2));
    let mut sum: u32 = words
        .map(|word| u32::from(word[0]) << 8 | u32::from(word.get(1).copied().unwrap_or(0)))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).expect("a folded sum")
}

pub(crate) fn short(length: usize) -> u16 {
    u16::try_from(length).expect("a packet of at most 64 KiB")
}

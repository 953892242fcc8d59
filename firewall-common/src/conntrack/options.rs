//! The options of a TCP header that tracking needs: window scale (RFC 7323),
//! selective acknowledgements permitted, and their blocks (RFC 2018).

use bytemuck::{Pod, Zeroable};

use crate::{flow::window, packet::Packet, seq::Seq};

/// Options are at most this long: a header has 15 words, five of them fixed.
const MAX_LEN: u32 = 40;
/// A larger shift counts as this one (RFC 7323 section 2.3).
const MAX_SCALE: u8 = 14;
/// Bytes of a block: its two edges.
const SACK_BLOCK: u32 = 8;
/// Two NOPs and a timestamp: what nearly every segment carries, and only that.
const ONLY_TIMESTAMP: [u8; 4] = [1, 1, 8, 10];
const TIMESTAMP_LEN: u32 = 12;

/// The kinds of options (IANA, TCP parameters).
mod kind {
    pub const END: u8 = 0;
    pub const NOP: u8 = 1;
    pub const WINDOW_SCALE: u8 = 3;
    pub const SACK_PERMITTED: u8 = 4;
    pub const SACK: u8 = 5;
}

/// The options of one segment: first their bytes, then what they say.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct TcpOptions {
    pub bytes: [u8; 64],
    pub len: u32,
    at: u32,
    /// The highest edge of a selective acknowledgement, else the acknowledgement.
    pub sack: Seq,
    /// The shift that is offered; 0 without [`window::SCALES`].
    pub scale: u8,
    /// [`window::SCALES`] and [`window::SACK`].
    pub flags: u8,
    has_blocks: u8,
    _pad: u8,
}

impl Default for TcpOptions {
    fn default() -> Self {
        Self::zeroed()
    }
}

impl TcpOptions {
    /// Forgets the segment before, and takes over the acknowledgement of this one.
    #[inline(always)]
    pub fn begin(&mut self, ack: Seq) {
        self.len = 0;
        self.at = 0;
        self.sack = ack;
        self.scale = 0;
        self.flags = 0;
        self.has_blocks = 0;
    }

    /// Whether there is more to read than the timestamp of every segment; `header`
    /// is where the TCP header begins, `len` its length.
    #[inline(always)]
    pub fn are_worth_reading<P: Packet + ?Sized>(packet: &P, header: u32, len: u32) -> bool {
        match len.saturating_sub(FIXED) {
            0 => false,
            TIMESTAMP_LEN => packet.read(header + FIXED) != Some(ONLY_TIMESTAMP),
            _ => true,
        }
    }

    /// Takes one option in; `true` when none is left, or what is left is none.
    #[inline(always)]
    pub fn step(&mut self) -> bool {
        let (at, len) = (self.at, self.len);
        if at >= len || at >= MAX_LEN {
            return true;
        }
        match self.byte(at) {
            kind::END => return true,
            kind::NOP => {
                self.at = at + 1;
                return false;
            }
            _ => {}
        }
        let size = u32::from(self.byte(at + 1));
        if at + 2 > len || size < 2 || at + size > len {
            return true;
        }
        self.take(at, size);
        self.at = at + size;
        false
    }

    #[inline(always)]
    fn take(&mut self, at: u32, size: u32) {
        match (self.byte(at), size) {
            (kind::SACK_PERMITTED, 2) => self.flags |= window::SACK,
            (kind::WINDOW_SCALE, 3) => {
                self.flags |= window::SCALES;
                self.scale = self.byte(at + 2).min(MAX_SCALE);
            }
            (kind::SACK, 10 | 18 | 26 | 34) if self.has_blocks == 0 => {
                self.has_blocks = 1;
                self.block(at, size, 0);
                self.block(at, size, 1);
                self.block(at, size, 2);
                self.block(at, size, 3);
            }
            _ => {}
        }
    }

    /// The block of this number, if the option has as many.
    #[inline(always)]
    fn block(&mut self, at: u32, size: u32, number: u32) {
        if size < 2 + SACK_BLOCK * (number + 1) {
            return;
        }
        let edge = at + 2 + SACK_BLOCK * number + 4;
        let bytes =
            [self.byte(edge), self.byte(edge + 1), self.byte(edge + 2), self.byte(edge + 3)];
        let edge = Seq(u32::from_be_bytes(bytes));
        if edge.is_after(self.sack) {
            self.sack = edge;
        }
    }

    #[inline(always)]
    const fn byte(&self, at: u32) -> u8 {
        self.bytes[(at & 63) as usize]
    }
}

/// Bytes of a TCP header before its options.
const FIXED: u32 = 20;

/// Reads the options of the segment whose header begins at `header` and has `len`
/// bytes, into what [`TcpOptions::begin`] has prepared.
#[inline(always)]
pub fn copy<P: Packet + ?Sized>(packet: &P, header: u32, len: u32, options: &mut TcpOptions) {
    let wanted = len.saturating_sub(FIXED);
    if wanted == 0 || wanted > MAX_LEN {
        return;
    }
    if packet.copy(header + FIXED, wanted, &mut options.bytes) {
        options.len = wanted;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8], ack: u32) -> TcpOptions {
        let mut segment = vec![0; 20];
        segment.extend_from_slice(bytes);
        let mut options = TcpOptions::default();
        options.begin(Seq(ack));
        copy(&segment[..], 0, segment.len() as u32, &mut options);
        while !options.step() {}
        options
    }

    #[test]
    fn a_linux_syn_says_what_it_can() {
        // MSS, SACK permitted, timestamp, NOP, window scale 7.
        let options = read(&[2, 4, 5, 180, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7], 0);
        assert_eq!((options.flags, options.scale), (window::SACK | window::SCALES, 7));
    }

    #[test]
    fn a_scale_beyond_the_limit_is_the_limit() {
        assert_eq!(read(&[3, 3, 200, 0], 0).scale, 14);
    }

    #[test]
    fn the_highest_edge_of_the_blocks_counts() {
        let block = |left: u32, right: u32| [left.to_be_bytes(), right.to_be_bytes()].concat();
        let mut bytes = vec![1, 1, 5, 18];
        bytes.extend(block(3_000, 4_000));
        bytes.extend(block(1_500, 2_000));
        assert_eq!(read(&bytes, 1_000).sack, Seq(4_000));
        assert_eq!(read(&bytes, 5_000).sack, Seq(5_000));
    }

    #[test]
    fn options_that_are_cut_off_say_nothing() {
        for bytes in [&[4u8, 0, 4, 2][..], &[3, 3], &[5, 10, 0, 0], &[4, 1], &[0, 4, 2, 0], &[3]] {
            let options = read(bytes, 9);
            assert_eq!((options.flags, options.sack), (0, Seq(9)), "{bytes:?}");
        }
    }

    fn sack(edges: &[u32]) -> Vec<u8> {
        let mut bytes = vec![5, 2 + 8 * edges.len() as u8];
        for edge in edges {
            bytes.extend([edge.wrapping_sub(1).to_be_bytes(), edge.to_be_bytes()].concat());
        }
        bytes
    }

    #[test]
    fn each_of_four_blocks_counts() {
        for highest in 0..4 {
            let mut edges = [1_100; 4];
            edges[highest] = 9_000;
            assert_eq!(read(&sack(&edges), 1_000).sack, Seq(9_000), "block {highest}");
        }
    }

    #[test]
    fn edges_are_compared_around_the_circle() {
        assert_eq!(read(&sack(&[5, u32::MAX - 2]), u32::MAX - 9).sack, Seq(5));
        assert_eq!(read(&sack(&[u32::MAX - 20]), 3).sack, Seq(3));
    }

    #[test]
    fn only_the_first_option_with_blocks_counts() {
        let bytes = [sack(&[2_000]), sack(&[3_000])].concat();
        assert_eq!(read(&bytes, 1_000).sack, Seq(2_000));
    }

    #[test]
    fn blocks_that_fill_the_longest_header_are_read_and_five_are_none() {
        let mut bytes = vec![1; 6];
        bytes.extend(sack(&[1_001, 1_002, 1_003, 1_004]));
        assert_eq!(bytes.len(), 40);
        assert_eq!(read(&bytes, 1_000).sack, Seq(1_004));
        let five = [5, 42].into_iter().chain([0xff; 38]).collect::<Vec<u8>>();
        assert_eq!(read(&five, 1_000).sack, Seq(1_000));
    }

    #[test]
    fn an_option_of_the_wrong_length_is_passed_over() {
        let scale = [3, 4, 7, 7, 4, 3, 0, 3, 3, 9];
        let options = read(&scale, 0);
        assert_eq!((options.flags, options.scale), (window::SCALES, 9));
        assert_eq!(read(&[5, 9, 0, 0, 0, 0, 255, 255, 255, 4, 2], 1).flags, window::SACK);
    }

    #[test]
    fn a_segment_says_nothing_about_the_one_before() {
        let mut options = read(&[4, 2, 3, 3, 7], 9);
        options.begin(Seq(5));
        assert_eq!((options.flags, options.scale, options.sack), (0, 0, Seq(5)));
        assert!(options.step(), "no byte of it is left");
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_within_as_many_steps(
            bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..41), ack: u32
        ) {
            let mut segment = vec![0; 20];
            segment.extend_from_slice(&bytes);
            let mut options = TcpOptions::default();
            options.begin(Seq(ack));
            copy(&segment[..], 0, segment.len() as u32, &mut options);
            let steps = (0..=bytes.len()).find(|_| options.step());
            proptest::prop_assert!(steps.is_some());
            proptest::prop_assert!(options.scale <= 14);
        }
    }

    #[test]
    fn a_timestamp_alone_is_not_worth_reading() {
        let mut segment = [0u8; 32];
        segment[20..24].copy_from_slice(&ONLY_TIMESTAMP);
        assert!(!TcpOptions::are_worth_reading(&segment[..], 0, 32));
        assert!(!TcpOptions::are_worth_reading(&segment[..], 0, 20));
        segment[22] = 5;
        assert!(TcpOptions::are_worth_reading(&segment[..], 0, 32));
    }
}

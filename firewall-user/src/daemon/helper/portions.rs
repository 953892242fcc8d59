//! Long segments in portions, which wait for their turns as segments do: one of 64 KiB may hold as
//! many lines, and whoever reads them in one go lets all others wait.

use firewall_common::{
    event::Punt,
    flow::{helper, protocol},
};

use crate::daemon::segment::Segment;

/// Bytes that are read in one turn. Few segments of a control connection have more.
const PORTION: usize = 4_096;

/// The records of a held segment's portions, if it is long; each with what is known of it.
pub(super) fn portions(punt: &Punt, frame: &[u8]) -> Option<Vec<(Punt, Vec<u8>)>> {
    let is_long = usize::from(punt.payload_len) > PORTION;
    if !is_long || helper::protocol(punt.helper) != Some(protocol::TCP) {
        return None;
    }
    let segment = Segment::read(punt, frame)?;
    let portion = |(at, frame): (usize, Vec<u8>)| {
        let len = frame.len() - usize::from(punt.payload);
        let punt = Punt {
            seq: punt.seq.wrapping_add(at as u32),
            frame_len: frame.len() as u32,
            payload_len: len as u16,
            // What is no longer needs no cutting.
            gso_size: if len > punt.gso_size as usize { punt.gso_size } else { 0 },
            ..*punt
        };
        (punt, [bytemuck::bytes_of(&punt), &frame].concat())
    };
    Some(segment.cut(PORTION).map(portion).collect())
}

#[cfg(test)]
mod tests {
    use firewall_common::{testing::frame::Frame, wire::tcp_flag::ACK};

    use super::{super::split, *};

    fn held(payload: &[u8]) -> (Punt, Vec<u8>) {
        let frame =
            Frame::between("192.0.2.2", "198.51.100.2").tcp_at(4_000, 21, ACK, 1_000, 5_000);
        let frame = frame.payload(payload).build();
        let punt = Punt {
            seq: 1_000,
            frame_len: frame.len() as u32,
            gso_size: 1_448,
            l3: 14,
            l4: 34,
            payload: 54,
            payload_len: payload.len() as u16,
            helper: helper::FTP,
            ..Punt::default()
        };
        (punt, frame)
    }

    #[test]
    fn a_segment_full_of_line_ends_is_read_a_few_at_a_time_and_all_of_them() {
        let text = b"\n".repeat(60_001);
        let (punt, frame) = held(&text);
        let portions = portions(&punt, &frame).expect("a long segment");
        let mut next = 1_000;
        for (known, record) in &portions {
            let (punt, frame) = split(record).expect("a record");
            assert_eq!((punt, punt.seq), (*known, next));
            let payload = &frame[usize::from(punt.payload)..];
            assert!(payload.len() <= PORTION && payload.len() == usize::from(punt.payload_len));
            assert_eq!(punt.gso_size != 0, payload.len() > 1_448);
            next += payload.len() as u32;
        }
        assert_eq!(next, 61_001);
    }

    #[test]
    fn a_line_is_one_portion() {
        let (punt, frame) = held(b"NOOP\r\n");
        assert!(portions(&punt, &frame).is_none());
    }
}

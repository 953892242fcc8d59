//! Segments that no end would send: shifted around the edges of the windows, with
//! other flags, or made up.

use fastrand::Rng;

use super::host::Host;
use crate::{
    oracle::{frame::Segment, options::TcpOption},
    packet::flag::{ACK, FIN, PSH, RST, SYN, URG},
};

/// Something that `own` did not say to `other`.
pub(super) fn forged(rng: &mut Rng, own: &Host, other: &Host) -> Segment {
    let mut segment = Segment { ack: believable_ack(rng, own), ..own.ack() };
    segment.payload = [0, 0, 1, 100, 1_460][rng.usize(..5)];
    segment.flags = flags(rng);
    if segment.flags & SYN != 0 {
        segment.options = syn_options(rng);
        if rng.bool() {
            segment.seq = rng.u32(..);
        }
    }
    if rng.u8(..4) != 0 {
        let edge = edge(rng, own, other);
        segment.seq = segment.seq.wrapping_add(edge);
    }
    if rng.u8(..3) == 0 {
        let edge = edge(rng, other, own);
        segment.ack = segment.ack.wrapping_add(edge);
    }
    if rng.u8(..4) == 0 {
        segment.window = [0, 1, 8_192, 65_535, rng.u16(..)][rng.usize(..5)];
    }
    if rng.u8(..8) == 0 {
        segment.options.push(sack(rng, own));
    }
    segment
}

fn believable_ack(rng: &mut Rng, own: &Host) -> u32 {
    match rng.u8(..8) {
        0 => own.heard.wrapping_sub(rng.u32(..2_000)),
        1 => 0,
        _ => own.heard,
    }
}

fn flags(rng: &mut Rng) -> u8 {
    const LIKELY: [u8; 10] =
        [ACK, ACK, ACK | PSH, RST, RST | ACK, SYN, SYN | ACK, FIN | ACK, ACK | URG, FIN];
    match rng.u8(..16) {
        0 => rng.u8(..),
        _ => LIKELY[rng.usize(..LIKELY.len())],
    }
}

/// Offsets at which trackers change their minds: windows above and below, by a byte
/// more or less, and the halves of the number space.
fn edge(rng: &mut Rng, own: &Host, other: &Host) -> u32 {
    let windows = [other.window, own.their_window, own.window, 66_000, 65_535];
    let window = windows[rng.usize(..windows.len())];
    let multiple = window.wrapping_mul(rng.u32(0..3));
    let distance = match rng.u8(..8) {
        0 => 0,
        1 => 0x8000_0000,
        2 => rng.u32(..),
        3 => own.next.wrapping_sub(own.unacknowledged),
        4 => rng.u32(..3_000),
        _ => multiple,
    };
    let distance = distance.wrapping_add(rng.u32(0..3)).wrapping_sub(1);
    if rng.bool() { distance } else { 0u32.wrapping_sub(distance) }
}

fn syn_options(rng: &mut Rng) -> Vec<TcpOption> {
    let mut options = Vec::new();
    if rng.bool() {
        options.push(TcpOption::Mss(rng.u16(..)));
    }
    if rng.bool() {
        options.push(TcpOption::Scale(rng.u8(..20)));
    }
    if rng.bool() {
        options.push(TcpOption::SackPermitted);
    }
    if rng.u8(..10) == 0 {
        let bytes = (0..rng.usize(1..8)).map(|_| rng.u8(..));
        options.push(TcpOption::Raw(bytes.collect()));
    }
    options
}

fn sack(rng: &mut Rng, own: &Host) -> TcpOption {
    let blocks = (0..rng.usize(1..4)).map(|_| {
        let from = own.heard.wrapping_add(rng.u32(..20_000)).wrapping_sub(5_000);
        (from, from.wrapping_add(rng.u32(..3_000)))
    });
    TcpOption::Sack(blocks.collect())
}

//! Between the numbers that the client was told in its cookie and those that the
//! server chose: sequence numbers, acknowledgements, SACK blocks (RFC 2018),
//! timestamps (RFC 7323) and the scale of windows.
//!
//! A header has one length before and after, and its checksum changes by what was
//! changed (RFC 1624).

use bytemuck::Zeroable;

use crate::{
    flow::{Direction, Flow},
    wire::tcp_flag::{ACK, SYN},
};

use super::header::TcpHeader;

/// Blocks that fit a header.
const MAX_SACK_BLOCKS: u32 = 4;

/// What is added to the numbers of a segment.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Zeroable)]
pub struct Translation {
    pub seq: u32,
    /// Also to the edges of SACK blocks.
    pub ack: u32,
    pub tsval: u32,
    pub tsecr: u32,
    /// Windows are this shift's, and become those of the other.
    pub scale_in: u8,
    pub scale_out: u8,
}

impl Translation {
    /// For the segments of one direction of a flow whose server has answered.
    #[inline(always)]
    pub const fn of(flow: &Flow, direction: Direction) -> Self {
        match direction {
            Direction::Reply => Self {
                seq: flow.shift,
                ack: 0,
                tsval: flow.clock_shift,
                tsecr: 0,
                scale_in: flow.server_scale,
                scale_out: flow.told_scale,
            },
            Direction::Original => Self {
                seq: 0,
                ack: flow.shift.wrapping_neg(),
                tsval: 0,
                tsecr: flow.clock_shift.wrapping_neg(),
                scale_in: 0,
                scale_out: 0,
            },
        }
    }
}

/// Rewrites all of a header but its checksum; gives the difference that the
/// checksum makes good, as a folded one's-complement sum in memory's order.
#[inline(always)]
pub fn translate(header: &mut TcpHeader, by: &Translation) -> u16 {
    let before = header.sum().folded();
    let [_, _, _, control, ..] = header.words;
    let flags = (u32::from_be(control) >> 16) as u8;
    header.words[1] = added(header.words[1], by.seq);
    if flags & ACK != 0 {
        header.words[2] = added(header.words[2], by.ack);
        sack(header, by.ack);
    }
    if flags & SYN == 0 && by.scale_in != by.scale_out {
        header.words[3] = rescaled(control, by);
    }
    timestamps(header, by);
    header.sum().word(!before).folded()
}

/// A checksum field after a difference.
#[inline(always)]
pub const fn after(field: u16, difference: u16) -> u16 {
    let sum = !field as u32 + difference as u32;
    !((sum & 0xffff) as u16).wrapping_add((sum >> 16) as u16)
}

#[inline(always)]
const fn added(word: u32, shift: u32) -> u32 {
    u32::from_be(word).wrapping_add(shift).to_be()
}

/// The window stands in the lower half of the fourth word.
#[inline(always)]
fn rescaled(word: u32, by: &Translation) -> u32 {
    let word = u32::from_be(word);
    let window = ((word & 0xffff) << (by.scale_in & 15)) >> (by.scale_out & 15);
    (word & 0xffff_0000 | window.min(0xffff)).to_be()
}

#[inline(always)]
fn sack(header: &mut TcpHeader, shift: u32) {
    if shift == 0 || header.sack_at == 0 {
        return;
    }
    for edge in 0..MAX_SACK_BLOCKS * 2 {
        if (edge + 1) * 4 > header.sack_len {
            return;
        }
        let at = header.sack_at + edge * 4;
        let number = header.number(at).wrapping_add(shift);
        header.set_number(at, number);
    }
}

#[inline(always)]
fn timestamps(header: &mut TcpHeader, by: &Translation) {
    let at = header.timestamps_at;
    if at == 0 {
        return;
    }
    header.set_number(at, header.options.tsval.wrapping_add(by.tsval));
    // Without an acknowledgement it says nothing, and is zero.
    if header.options.tsecr != 0 {
        header.set_number(at + 4, header.options.tsecr.wrapping_add(by.tsecr));
    }
}

//! Every written conversation in ten thousand random pieces: the same holes after each
//! turn, and no line lost.

use firewall_common::flow::Direction;

use super::{
    fixtures,
    numbers::Numbers,
    script::{Case, Wire},
};
use crate::{
    ftp::stream::{Read, Seq, Stream},
    helper::{Hole, Reader as _},
};

/// Segmentations of each conversation.
const SEGMENTATIONS: u32 = 500;
/// Cuts of each segmentation; a conversation is cut 10,000 times.
const CUTS: usize = 20;

/// The holes after each turn of a conversation whose turns come in pieces.
fn holes(
    case: &Case,
    turns: &[(Direction, Vec<u8>)],
    numbers: &mut Numbers,
    cuts: usize,
) -> Vec<Option<Hole>> {
    let mut wire = Wire::new(case, [u32::MAX - 50, 7]);
    let mut next = [u32::MAX - 50, 7u32];
    let each_turn = turns.iter().map(|(direction, text)| {
        for piece in numbers.pieces(text, cuts) {
            let seq = &mut next[direction.index()];
            wire.segment(*direction, *seq, piece);
            *seq = seq.wrapping_add(piece.len() as u32);
        }
        wire.conversation.hole()
    });
    each_turn.collect()
}

#[test]
fn ten_thousand_cuts_of_each_conversation_open_the_same_holes() {
    let plain = fixtures::all().into_iter().filter(|(_, case)| case.is_plain());
    for (_, case) in plain {
        let turns = case.turns();
        let mut numbers = Numbers::default();
        let whole = holes(&case, &turns, &mut numbers, 0);
        let cuts_a_turn = CUTS.div_ceil(turns.len());
        for _ in 0..SEGMENTATIONS {
            let cut = holes(&case, &turns, &mut numbers, cuts_a_turn);
            assert_eq!(cut, whole, "{}", case.title);
        }
    }
}

/// All that a stream reads of a text in pieces, as text.
fn lines(text: &[u8], numbers: &mut Numbers, cuts: usize) -> Vec<String> {
    let (mut stream, mut at, mut lines) = (Stream::new(true), Seq(u32::MAX - 9), Vec::new());
    for piece in numbers.pieces(text, cuts) {
        stream.segment(at, piece, &mut |read| {
            lines.push(match read {
                Read::Line(line) => format!("{} {}", line.at.0, line.text.escape_ascii()),
                other => format!("{other:?}"),
            });
        });
        at = at.plus(piece.len());
    }
    lines
}

#[test]
fn no_cut_loses_a_byte_of_a_line_or_its_place() {
    let mut numbers = Numbers(0x2545_f491_4f6c_dd1d);
    for (_, case) in fixtures::all() {
        let turns = case.turns();
        for (_, text) in &turns {
            let whole = lines(text, &mut numbers, 0);
            for _ in 0..20 {
                assert_eq!(lines(text, &mut numbers, CUTS), whole, "{}", case.title);
            }
        }
    }
}

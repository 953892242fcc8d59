//! Segmentation does not matter, memory is bounded, nothing panics.

use firewall_common::flow::Direction;
use proptest::{collection::vec, prelude::*, sample::Index};

use super::{
    fixtures,
    script::{Case, Wire},
};
use crate::helper::{Hole, Reader as _};

/// The holes after each turn, when every turn comes in one segment.
fn unsegmented(case: &Case) -> Vec<Option<Hole>> {
    let mut wire = Wire::new(case, [0, 0]);
    let mut next = [0u32; 2];
    let turns = case.turns();
    let holes = turns.iter().map(|(direction, text)| {
        let side = direction.index();
        wire.segment(*direction, next[side], text);
        next[side] += text.len() as u32;
        wire.conversation.hole()
    });
    holes.collect()
}

/// How a turn is cut, disordered and repeated.
#[derive(Clone, Debug)]
struct Cuts {
    at: Vec<Index>,
    swaps: Vec<(Index, Index)>,
    /// Segments to send again, each from this many bytes before its start to
    /// this many after.
    repeats: Vec<(Index, usize, usize)>,
}

prop_compose! {
    fn any_cuts()(
        at in vec(any::<Index>(), 0..8),
        swaps in vec(any::<(Index, Index)>(), 0..5),
        repeats in vec((any::<Index>(), 0..20usize, 0..20usize), 0..4),
    ) -> Cuts {
        Cuts { at, swaps, repeats }
    }
}

impl Cuts {
    /// Ranges of the text that cover it, in the order of their arrival.
    fn of(&self, len: usize, may_reorder: bool) -> Vec<(usize, usize)> {
        let mut bounds: Vec<usize> = self.at.iter().map(|at| at.index(len + 1)).collect();
        bounds.extend([0, len]);
        bounds.sort_unstable();
        let mut ranges: Vec<_> = bounds.windows(2).map(|pair| (pair[0], pair[1])).collect();
        for (segment, before, after) in &self.repeats {
            let at = segment.index(ranges.len());
            let (start, end) = ranges[at];
            ranges.insert(at + 1, (start.saturating_sub(*before), (end + after).min(len)));
        }
        for (a, b) in self.swaps.iter().filter(|_| may_reorder) {
            let (a, b) = (a.index(ranges.len()), b.index(ranges.len()));
            ranges.swap(a, b);
        }
        ranges
    }
}

proptest! {
    #[test]
    fn any_segmentation_opens_the_same_holes(
        cuts in vec(any_cuts(), 64), isn in any::<[u32; 2]>()
    ) {
        for (_, case) in fixtures::all().into_iter().filter(|(_, case)| case.is_plain()) {
            let mut wire = Wire::new(&case, isn);
            let mut next = isn;
            let turns = case.turns();
            for ((turn, holes), cuts) in turns.iter().zip(unsegmented(&case)).zip(cuts.iter().cycle()) {
                let (direction, text) = turn;
                let side = direction.index();
                for (start, end) in cuts.of(text.len(), case.may_reorder()) {
                    let seq = next[side].wrapping_add(start as u32);
                    wire.segment(*direction, seq, &text[start..end]);
                }
                next[side] = next[side].wrapping_add(text.len() as u32);
                prop_assert_eq!(wire.conversation.hole(), holes, "{}", case.title);
            }
        }
    }

    #[test]
    fn any_bytes_in_any_order_are_bounded_and_open_nothing_wide(
        segments in vec((any::<bool>(), any::<u16>(), vec(any::<u8>(), 0..300)), 0..80)
    ) {
        let (_, case) = fixtures::all().remove(0);
        let mut wire = Wire::new(&case, [0, 0]);
        for (original, seq, payload) in segments {
            let direction = if original { Direction::Original } else { Direction::Reply };
            wire.segment(direction, u32::from(seq), &payload);
        }
    }

    #[test]
    fn mutated_conversations_never_open_a_hole_to_another_host(
        which in any::<Index>(), mutations in vec((any::<Index>(), any::<Index>(), any::<u8>()), 1..12)
    ) {
        let strict: Vec<_> = fixtures::all().into_iter().filter(|(_, case)| case.is_strict()).collect();
        let (_, case) = which.get(&strict);
        let mut turns = case.turns();
        for (turn, at, byte) in mutations {
            let turn = turn.index(turns.len());
            let text = &mut turns[turn].1;
            let at = at.index(text.len());
            text[at] = byte;
        }
        let mut wire = Wire::new(case, [7, 7]);
        let mut next = [7u32; 2];
        for (direction, text) in turns {
            wire.segment(direction, next[direction.index()], &text);
            next[direction.index()] += text.len() as u32;
            if let Some(hole) = wire.conversation.hole() {
                prop_assert!(case.is_between_its_hosts(hole) && hole.dport >= 1024);
            }
        }
    }
}

//! The four conditions, each at its edge, and what a segment teaches.

use super::*;
use proptest::prelude::*;

const STAYS: Judgement = Judgement::To(State::Established);
const WIDE: u32 = WINDOW as u32;
/// The lag that an acknowledgement may always have.
const LAG: u32 = 66_000;

mod established {
    use super::*;

    #[test]
    fn data_may_begin_at_the_edge_of_the_window_and_one_further_is_not_believed() {
        for isn in BEGINNINGS {
            let talk = Talk::established(isn);
            let edge = talk.next[0].plus(WIDE);
            assert_eq!(talk.would(Original, at(talk.ack(Original), edge)), STAYS);
            let beyond = at(talk.ack(Original), edge.plus(1));
            assert_eq!(talk.would(Original, beyond), Judgement::Tolerated, "{isn:?}");
        }
    }

    /// As measured: window 8,192, 100 bytes, offsets 16,283 and 16,284.
    #[test]
    fn data_beyond_the_window_by_more_than_it_is_invalid() {
        for isn in BEGINNINGS {
            let talk = Talk::established(isn);
            let data = |offset| at(talk.data(Original, 100), talk.next[0].plus(offset));
            assert_eq!(talk.would(Original, data(16_283)), Judgement::Tolerated, "{isn:?}");
            assert_eq!(talk.would(Original, data(16_284)), Judgement::Invalid, "{isn:?}");
        }
    }

    #[test]
    fn what_overshoots_and_is_not_believed_may_still_be_acknowledged() {
        for isn in BEGINNINGS {
            let mut talk = Talk::established(isn);
            let beyond = at(talk.data(Original, 100), talk.next[0].plus(WIDE + 1));
            let answer = acknowledging(talk.ack(Reply), beyond.end);
            assert_eq!(talk.would(Reply, answer), Judgement::Invalid);
            assert_eq!(talk.send(Original, beyond), Judgement::Tolerated);
            assert_eq!(talk.send(Reply, answer), STAYS, "{isn:?}");
        }
    }

    #[test]
    fn data_as_old_as_the_window_is_taken_and_older_passes_unbelieved() {
        for isn in BEGINNINGS {
            let talk = Talk::established(isn);
            let edge = talk.next[0].minus(WIDE);
            assert_eq!(talk.would(Original, at(talk.ack(Original), edge)), STAYS);
            let older = at(talk.ack(Original), edge.minus(1));
            assert_eq!(talk.would(Original, older), Judgement::Tolerated, "{isn:?}");
        }
    }

    #[test]
    fn an_acknowledgement_of_what_was_not_sent_is_invalid() {
        for isn in BEGINNINGS {
            let talk = Talk::established(isn);
            let ack = |ack| acknowledging(talk.ack(Original), ack);
            assert_eq!(talk.would(Original, ack(talk.next[1])), STAYS);
            let unsent = ack(talk.next[1].plus(1));
            assert_eq!(talk.would(Original, unsent), Judgement::Invalid, "{isn:?}");
        }
    }

    #[test]
    fn an_acknowledgement_lags_behind_by_66000_and_an_older_one_is_not_believed() {
        for isn in BEGINNINGS {
            let talk = Talk::established(isn);
            let ack = |ack| acknowledging(talk.ack(Original), ack);
            assert_eq!(talk.would(Original, ack(talk.next[1].minus(LAG))), STAYS);
            let older = ack(talk.next[1].minus(LAG + 1));
            assert_eq!(talk.would(Original, older), Judgement::Tolerated, "{isn:?}");
        }
    }

    #[test]
    fn the_lag_grows_with_the_largest_window_announced() {
        for isn in BEGINNINGS {
            let talk = Talk::scaled(isn, [Some(7), Some(7)]);
            let lag = WIDE << 7;
            let ack = |ack| acknowledging(talk.ack(Original), ack);
            assert_eq!(talk.would(Original, ack(talk.next[1].minus(lag))), STAYS);
            let older = ack(talk.next[1].minus(lag + 1));
            assert_eq!(talk.would(Original, older), Judgement::Tolerated, "{isn:?}");
        }
    }

    #[test]
    fn a_liberal_firewall_takes_data_and_acknowledgements_anywhere() {
        for isn in BEGINNINGS {
            let mut talk = Talk::established(isn);
            talk.bits |= crate::control::option::TCP_BE_LIBERAL;
            let far = at(talk.data(Original, 100), talk.next[0].plus(1 << 30));
            assert_eq!(talk.would(Original, far), STAYS);
            let unsent = acknowledging(talk.ack(Original), talk.next[1].plus(1 << 30));
            assert_eq!(talk.would(Original, unsent), STAYS);
        }
    }

    #[test]
    fn data_that_ends_beyond_the_window_widens_what_the_receiver_is_thought_to_take() {
        for isn in BEGINNINGS {
            let mut talk = Talk::established(isn);
            let data = talk.data(Original, WIDE + 50);
            assert_eq!(talk.send(Original, data), STAYS);
            assert_eq!(talk.window(Reply).max_size, WIDE + 50);
        }
    }

    #[test]
    fn a_window_never_closes_behind_data_that_is_under_way() {
        for isn in BEGINNINGS {
            let mut talk = Talk::established(isn);
            let edge = talk.window(Original).max_end;
            let closed = Seen { window: 0, ..talk.ack(Reply) };
            assert_eq!(talk.send(Reply, closed), STAYS);
            assert_eq!(talk.window(Original).max_end, edge);
        }
    }

    #[test]
    fn a_closed_window_takes_a_probe_of_one_byte() {
        for isn in BEGINNINGS {
            let mut talk = Talk::established(isn);
            let data = talk.data(Original, WIDE);
            assert_eq!(talk.send(Original, data), STAYS);
            let closed = Seen { window: 0, ..talk.ack(Reply) };
            assert_eq!(talk.send(Reply, closed), STAYS);
            assert_eq!(talk.flow.last.window, 0);
            assert_eq!(talk.window(Original).max_end, talk.next[0].plus(1));
            let probe = |offset| at(talk.data(Original, 1), talk.next[0].plus(offset));
            assert_eq!(talk.would(Original, probe(1)), STAYS);
            assert_eq!(talk.would(Original, probe(2)), Judgement::Tolerated);
        }
    }

    #[test]
    fn data_is_unacknowledged_until_its_last_byte_is_acknowledged() {
        for isn in BEGINNINGS {
            let mut talk = Talk::established(isn);
            let data = talk.data(Original, 100);
            talk.send(Original, data);
            assert!(talk.window(Original).has(window::UNACKNOWLEDGED));
            let part = acknowledging(talk.ack(Reply), talk.next[0].minus(1));
            talk.send(Reply, part);
            assert!(talk.window(Original).has(window::UNACKNOWLEDGED));
            let all = talk.ack(Reply);
            talk.send(Reply, all);
            assert!(!talk.window(Original).has(window::UNACKNOWLEDGED));
        }
    }

    #[test]
    fn the_same_segment_again_is_counted_and_another_one_begins_anew() {
        let mut talk = Talk::established(BEGINNINGS[0]);
        let data = talk.data(Original, 100);
        for count in 0..4 {
            assert_eq!(talk.send(Original, data), STAYS);
            assert_eq!(talk.flow.last.retransmissions, count);
        }
        let wider = Seen { window: WINDOW + 1, ..data };
        let others = [
            (Original, talk.ack(Original)),
            (Original, wider),
            (Original, Seen { end: data.end.plus(1), ..data }),
            (Original, acknowledging(data, data.ack.minus(1))),
            (Reply, talk.ack(Reply)),
        ];
        for (direction, other) in others {
            let mut talk = talk.clone();
            assert_eq!(talk.send(direction, other), STAYS);
            assert_eq!(talk.flow.last.retransmissions, 0, "{other:?}");
        }
    }
}

mod scaling {
    use super::*;

    #[test]
    fn with_both_sides_the_window_is_shifted_by_its_senders_scale() {
        for isn in BEGINNINGS {
            let mut talk = Talk::scaled(isn, [Some(3), Some(2)]);
            for (direction, shift) in [(Original, 3), (Reply, 2)] {
                let ack = Seen { window: 40_000, ..talk.ack(direction) };
                assert_eq!(talk.send(direction, ack), STAYS);
                let other = direction.reversed();
                let edge = talk.next[other.index()].plus(40_000 << shift);
                assert_eq!(talk.window(other).max_end, edge, "{isn:?}");
                assert_eq!(talk.would(other, at(talk.ack(other), edge)), STAYS);
                let beyond = at(talk.ack(other), edge.plus(1));
                assert_eq!(talk.would(other, beyond), Judgement::Tolerated);
            }
        }
    }

    #[test]
    fn with_one_side_no_window_is_shifted() {
        for scales in [[Some(3), None], [None, Some(3)]] {
            let mut talk = Talk::scaled(BEGINNINGS[0], scales);
            for direction in [Original, Reply] {
                let ack = Seen { window: 60_000, ..talk.ack(direction) };
                assert_eq!(talk.send(direction, ack), STAYS);
                let other = direction.reversed();
                let edge = talk.next[other.index()].plus(60_000);
                assert_eq!(talk.window(other).max_end, edge, "{scales:?}");
            }
        }
    }

    #[test]
    fn the_window_of_a_syn_is_never_shifted() {
        let mut talk = Talk::new(BEGINNINGS[0]);
        let syn = talk.syn(Some(14));
        talk.send(Original, syn);
        let syn_ack = talk.syn_ack(Some(14));
        talk.send(Reply, syn_ack);
        assert_eq!(talk.window(Original).max_end, talk.next[0].plus(WIDE));
        assert_eq!(talk.window(Reply).max_size, WIDE);
    }

    #[test]
    fn a_syn_again_without_options_takes_no_offer_back() {
        let mut talk = Talk::new(BEGINNINGS[0]);
        let syn = talk.syn(Some(5));
        talk.send(Original, syn);
        let plain = Seen { has_options: false, scale: 0, offers: 0, ..at(syn, syn.seq.plus(9)) };
        assert_eq!(talk.send(Original, plain), Judgement::To(State::SynSent));
        assert_eq!(talk.window(Original).scale, 5);
        assert_eq!(talk.window(Original).end, plain.end);
    }
}

mod selective_acknowledgements {
    use super::*;

    /// Both sides have offered it.
    fn agreed(isn: [u32; 2]) -> Talk {
        let mut talk = Talk::established(isn);
        for side in &mut talk.flow.sides {
            side.window.flags |= window::SACK;
        }
        talk
    }

    #[test]
    fn a_block_says_nothing_where_the_other_side_did_not_offer_it() {
        for isn in BEGINNINGS {
            let mut talk = Talk::established(isn);
            let data = talk.data(Original, 300);
            talk.send(Original, data);
            let selective = Seen { sack: data.end.plus(1), ..talk.ack(Reply) };
            assert_eq!(talk.would(Reply, selective), STAYS);
        }
    }

    #[test]
    fn a_block_opens_the_window_from_its_edge_on() {
        for isn in BEGINNINGS {
            let mut talk = agreed(isn);
            let data = talk.data(Original, 300);
            talk.send(Original, data);
            let ack = acknowledging(talk.ack(Reply), data.seq);
            let selective = Seen { sack: data.end, ..ack };
            assert_eq!(talk.send(Reply, selective), STAYS);
            assert_eq!(talk.window(Original).max_end, data.end.plus(WIDE));
            assert_eq!(talk.window(Reply).max_size, WIDE + 300);
            assert_eq!(talk.window(Reply).max_ack, data.seq);
        }
    }

    #[test]
    fn a_block_of_what_was_not_sent_is_invalid() {
        for isn in BEGINNINGS {
            let mut talk = agreed(isn);
            let data = talk.data(Original, 300);
            talk.send(Original, data);
            let selective = Seen { sack: data.end.plus(1), ..talk.ack(Reply) };
            assert_eq!(talk.would(Reply, selective), Judgement::Invalid);
        }
    }
}

mod picked_up {
    use super::*;

    fn picked_up(isn: [u32; 2]) -> Talk {
        let mut talk = Talk::new(isn);
        let data = talk.data(Original, 100);
        assert_eq!(talk.send(Original, data), STAYS);
        talk
    }

    #[test]
    fn the_first_segment_needs_loose_tracking() {
        let mut talk = Talk::new(BEGINNINGS[0]);
        talk.bits = 0;
        assert_eq!(talk.would(Original, talk.data(Original, 100)), Judgement::Invalid);
    }

    #[test]
    fn windows_are_not_enforced_because_their_scale_is_unknown() {
        for isn in BEGINNINGS {
            let talk = picked_up(isn);
            for direction in [Original, Reply] {
                assert!(talk.window(direction).has(window::LIBERAL | window::SACK));
                let far = at(talk.data(direction, 1), talk.next[direction.index()].plus(1 << 24));
                assert_eq!(talk.would(direction, far), STAYS, "{isn:?}");
            }
        }
    }

    #[test]
    fn the_answer_to_a_keepalive_shows_the_byte_that_it_left_out() {
        for isn in BEGINNINGS {
            let mut talk = Talk::new(isn);
            let keepalive = talk.ack(Original);
            talk.send(Original, keepalive);
            let answer = acknowledging(talk.ack(Reply), keepalive.end.plus(1));
            assert_eq!(talk.send(Reply, answer), STAYS);
            assert_eq!(talk.window(Original).end, keepalive.end.plus(1));
        }
    }
}

/// A segment near the windows, by the distances of its numbers from the next ones.
#[derive(Clone, Debug)]
struct Near {
    direction: Direction,
    kind: Segment,
    seq: i32,
    ack: i32,
    len: u32,
    window: u16,
    scale: Option<u8>,
}

fn near() -> impl Strategy<Value = Near> {
    use Segment::{Ack, Fin, Rst, Syn, SynAck};
    let kinds = prop::sample::select(vec![Syn, SynAck, Ack, Ack, Ack, Fin, Rst]);
    let distance = || {
        prop_oneof![
            6 => Just(0),
            3 => -3..=3i32,
            1 => 8_190..=8_194i32,
            1 => -66_002..=-65_998i32,
            1 => -200_000..=200_000i32,
        ]
    };
    (any::<bool>(), kinds, distance(), distance(), 0..1_461u32, any::<u16>(), any::<Option<u8>>())
        .prop_map(|(from_client, kind, seq, ack, len, window, scale)| Near {
            direction: if from_client { Original } else { Reply },
            kind,
            seq,
            ack,
            len,
            window,
            scale: scale.map(|scale| scale % 15),
        })
}

impl Near {
    fn seen(&self, talk: &Talk) -> Seen {
        let (own, other) = (self.direction.index(), self.direction.reversed().index());
        let moved = |seq: Seq, by: i32| Seq(seq.0.wrapping_add_signed(by));
        let (seq, ack) = (moved(talk.next[own], self.seq), moved(talk.next[other], self.ack));
        let plain = match self.kind {
            Segment::Syn | Segment::SynAck => offering(self.kind, seq, ack, self.scale),
            Segment::Fin => segment(self.kind, seq, 1, ack),
            Segment::Ack => segment(self.kind, seq, self.len, ack),
            Segment::Rst => segment(self.kind, seq, 0, ack),
        };
        Seen { window: self.window, ..plain }
    }

    /// Zero says something else in a reset than any other number.
    fn is_special(&self, seen: &Seen) -> bool {
        self.kind == Segment::Rst && (seen.seq.0 == 0 || seen.ack.0 == 0)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    /// Once both sides are known: of a side that has sent nothing the kernel takes
    /// the numbers for zero.
    #[test]
    fn nothing_depends_on_where_the_numbers_begin(
        isn: [u32; 2], is_established: bool, segments in prop::collection::vec(near(), 1..24)
    ) {
        let mut talks = [[1 << 20, 1 << 21], isn].map(|isn| match is_established {
            true => Talk::established(isn),
            false => Talk::answered(isn),
        });
        for near in segments {
            let seen = talks.each_ref().map(|talk| near.seen(talk));
            if seen.iter().any(|seen| near.is_special(seen)) {
                break;
            }
            let [here, there] = &mut talks;
            let judgements = (here.send(near.direction, seen[0]), there.send(near.direction, seen[1]));
            prop_assert_eq!(judgements.0, judgements.1, "{:?}", near);
            let facts = |talk: &Talk| {
                talk.flow.sides.map(|side| (side.window.max_size, side.window.flags, side.window.scale))
            };
            prop_assert_eq!(facts(here), facts(there), "{:?}", near);
        }
    }
}

#[test]
fn segments_of_one_side_on_two_cpus_undo_nothing_of_each_other() {
    let mut talk = Talk::established(BEGINNINGS[0]);
    let first = talk.data(Original, 100);
    let second = at(talk.data(Original, 100), first.end);
    // Both are judged before either is noted; the later one is noted first.
    let [(_, early), (_, late)] = [first, second].map(|seen| talk.judge(Original, &seen));
    late.settle(&mut talk.flow, Original, Seq::advance);
    early.settle(&mut talk.flow, Original, Seq::advance);
    assert_eq!(talk.window(Original).end, second.end);
    let answer = acknowledging(talk.ack(Reply), second.end);
    assert_eq!(talk.would(Reply, answer), STAYS);
}

#[test]
fn a_segment_undoes_nothing_that_the_other_side_has_allowed_meanwhile() {
    let mut talk = Talk::established(BEGINNINGS[0]);
    let data = talk.data(Original, 100);
    let (_, judged) = talk.judge(Original, &data);
    let answer = Seen { window: 60_000, ..talk.ack(Reply) };
    talk.send(Reply, answer);
    let allowed = talk.window(Original).max_end;
    judged.settle(&mut talk.flow, Original, Seq::advance);
    assert_eq!((talk.window(Original).max_end, talk.window(Original).end), (allowed, data.end));
}

#[test]
fn a_segment_beyond_what_was_allowed_undoes_nothing_either() {
    let mut talk = Talk::established(BEGINNINGS[0]);
    let allowed = talk.window(Original).max_end;
    let sent = talk.window(Original).end;
    let beyond = talk.data(Original, allowed.since(sent) + 100);
    let next = at(talk.data(Original, 100), sent);
    let (_, judged) = talk.judge(Original, &beyond);
    // Meanwhile another segment, and an answer to it that allows more.
    talk.send(Original, next);
    let answer = Seen { window: 60_000, ..acknowledging(talk.ack(Reply), next.end) };
    talk.send(Reply, answer);
    let [before, other] = [Original, Reply].map(|side| *talk.window(side));
    judged.settle(&mut talk.flow, Original, Seq::advance);
    let [after, peer] = [Original, Reply].map(|side| *talk.window(side));
    assert_eq!((after.max_end, after.max_ack), (before.max_end, before.max_ack));
    assert_eq!((peer.end, peer.max_end, peer.max_ack), (other.end, other.max_end, other.max_ack));
    assert_eq!(
        (after.end, peer.max_size),
        (beyond.end, other.max_size.max(judged.receiver.max_size))
    );
}

#[test]
fn a_usual_segment_leaves_a_window_narrow_that_began_anew_meanwhile() {
    let mut talk = Talk::established(BEGINNINGS[0]);
    let (_, judged) = talk.judge(Original, &talk.data(Original, 100));
    talk.flow.sides[1].window.max_size = 1_000;
    judged.settle(&mut talk.flow, Original, Seq::advance);
    assert_eq!(talk.window(Reply).max_size, 1_000);
}

//! When a reset ends a connection, and when it may be forged (RFC 5961 section 3).

use super::*;
use crate::control::option::TCP_IGNORE_INVALID_RST;

const CLOSES: Judgement = Judgement::To(State::Close);

mod established {
    use super::*;

    #[test]
    fn one_at_the_very_number_that_is_expected_closes() {
        for isn in BEGINNINGS {
            for direction in [Original, Reply] {
                let talk = Talk::established(isn);
                let mut talk = both_have_acknowledged(talk);
                let rst = talk.rst(direction);
                assert_eq!(talk.send(direction, rst), CLOSES, "{isn:?} {direction:?}");
            }
        }
    }

    #[test]
    fn one_below_the_highest_acknowledgement_is_invalid_unless_that_is_ignored() {
        for isn in BEGINNINGS {
            let mut talk = both_have_acknowledged(Talk::established(isn));
            let below = at(talk.rst(Original), talk.next[0].minus(1));
            assert_eq!(talk.would(Original, below), Judgement::Invalid);
            talk.bits |= TCP_IGNORE_INVALID_RST;
            // It may be forged all the same: the connection lives on.
            assert_eq!(talk.would(Original, below), Judgement::To(State::Established));
        }
    }

    #[test]
    fn one_elsewhere_in_the_window_passes_and_the_connection_lives_on() {
        for isn in BEGINNINGS {
            let mut talk = both_have_acknowledged(Talk::established(isn));
            let inexact = at(talk.rst(Original), talk.next[0].plus(1));
            assert_eq!(talk.send(Original, inexact), Judgement::To(State::Established));
            assert!(talk.flow.has(status::ASSURED));
            let data = talk.data(Original, 100);
            assert_eq!(talk.would(Original, data), Judgement::To(State::Established));
        }
    }

    #[test]
    fn one_beyond_the_window_is_not_believed() {
        let talk = both_have_acknowledged(Talk::established(BEGINNINGS[0]));
        let edge = talk.window(Original).max_end;
        let beyond = at(talk.rst(Original), edge.plus(1));
        assert_eq!(talk.would(Original, beyond), Judgement::Tolerated);
        let far = at(talk.rst(Original), edge.plus(u32::from(WINDOW)));
        assert_eq!(talk.would(Original, far), Judgement::Invalid);
    }

    #[test]
    fn one_right_behind_the_last_segment_of_its_sender_closes() {
        for isn in BEGINNINGS {
            let mut talk = both_have_acknowledged(Talk::established(isn));
            let data = talk.data(Original, 100);
            talk.send(Original, data);
            let behind = talk.rst(Original);
            assert_eq!(talk.would(Original, behind), CLOSES, "{isn:?}");
            let ack = acknowledging(talk.ack(Reply), data.seq);
            talk.send(Reply, ack);
            // Now the last segment is the other side's.
            assert_eq!(talk.would(Original, behind), Judgement::To(State::Established));
        }
    }

    #[test]
    fn the_number_of_an_acknowledgement_may_be_left_out() {
        let talk = both_have_acknowledged(Talk::established([1_000, 0x4000_0000]));
        let rst = acknowledging(talk.rst(Original), Seq(0));
        assert_eq!(talk.would(Original, rst), CLOSES);
        let wrong = acknowledging(talk.rst(Original), talk.next[1].plus(1));
        assert_eq!(talk.would(Original, wrong), Judgement::Invalid);
    }

    fn both_have_acknowledged(mut talk: Talk) -> Talk {
        let ack = talk.ack(Reply);
        talk.send(Reply, ack);
        talk
    }
}

mod half_open {
    use super::*;

    #[test]
    fn one_without_a_number_that_answers_the_syn_closes() {
        for isn in BEGINNINGS {
            let mut talk = Talk::new(isn);
            let syn = talk.syn(None);
            talk.send(Original, syn);
            let refusal = segment(Segment::Rst, Seq(0), 0, syn.end);
            assert_eq!(talk.would(Reply, refusal), CLOSES, "{isn:?}");
            let unsent = acknowledging(refusal, syn.end.plus(2));
            assert_eq!(talk.would(Reply, unsent), Judgement::Invalid);
        }
    }

    #[test]
    fn one_anywhere_in_the_window_closes_what_is_not_assured() {
        for isn in BEGINNINGS {
            let mut talk = Talk::new(isn);
            let syn = talk.syn(None);
            talk.send(Original, syn);
            let syn_ack = talk.syn_ack(None);
            talk.send(Reply, syn_ack);
            let inexact = at(talk.rst(Original), talk.next[0].plus(7));
            assert_eq!(talk.would(Original, inexact), CLOSES, "{isn:?}");
        }
    }
}

mod closing {
    use super::*;

    #[test]
    fn the_windows_of_what_is_on_its_way_out_are_too_old_to_judge_one() {
        for isn in BEGINNINGS {
            let mut talk = Talk::established(isn);
            let fin = talk.fin(Original);
            talk.send(Original, fin);
            let far = at(talk.rst(Reply), talk.next[1].plus(1 << 30));
            assert_eq!(talk.would(Reply, far), CLOSES, "{isn:?}");
        }
    }
}

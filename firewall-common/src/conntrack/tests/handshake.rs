//! How a connection begins: alone, from both sides at once, and again.

use super::*;

mod simultaneous_open {
    use super::*;

    /// Both sides have sent a SYN.
    fn crossed(isn: [u32; 2]) -> Talk {
        let mut talk = Talk::new(isn);
        let [client, server] =
            [talk.syn(Some(2)), offering(Segment::Syn, talk.next[1], Seq(0), Some(3))];
        assert_eq!(talk.send(Original, client), Judgement::To(State::SynSent));
        assert_eq!(talk.send(Reply, server), Judgement::To(State::SynSent2));
        talk
    }

    fn answer(talk: &Talk, direction: Direction) -> Seen {
        let (own, other) = (direction.index(), direction.reversed().index());
        let syn = offering(Segment::SynAck, talk.next[own].minus(1), talk.next[other], Some(2));
        Seen { scale: 2 + own as u8, ..syn }
    }

    #[test]
    fn two_syns_and_the_answers_to_them_establish() {
        for isn in BEGINNINGS {
            let mut talk = crossed(isn);
            let from_client = answer(&talk, Original);
            assert_eq!(talk.send(Original, from_client), Judgement::To(State::SynRecv));
            let ack = talk.ack(Reply);
            assert_eq!(talk.send(Reply, ack), Judgement::To(State::Established), "{isn:?}");
        }
    }

    #[test]
    fn both_scales_hold() {
        let talk = crossed(BEGINNINGS[0]);
        assert_eq!((talk.window(Original).scale, talk.window(Reply).scale), (2, 3));
    }

    #[test]
    fn an_acknowledgement_before_the_answers_is_invalid_from_the_client() {
        let talk = crossed(BEGINNINGS[0]);
        assert_eq!(talk.would(Original, talk.ack(Original)), Judgement::Invalid);
    }
}

mod syn_sent {
    use super::*;

    fn called(isn: [u32; 2]) -> Talk {
        let mut talk = Talk::new(isn);
        let syn = talk.syn(None);
        talk.send(Original, syn);
        talk
    }

    #[test]
    fn a_syn_ack_of_another_number_is_invalid() {
        for isn in BEGINNINGS {
            let talk = called(isn);
            let ahead = acknowledging(talk.syn_ack(None), talk.next[0].plus(1));
            assert_eq!(talk.would(Reply, ahead), Judgement::Invalid, "{isn:?}");
        }
    }

    #[test]
    fn a_syn_again_with_a_later_number_moves_the_beginning() {
        for isn in BEGINNINGS {
            let mut talk = called(isn);
            let again = at(talk.syn(None), talk.next[0].plus(500));
            assert_eq!(talk.send(Original, again), Judgement::To(State::SynSent));
            let answer = talk.syn_ack(None);
            assert_eq!(answer.ack, again.end);
            assert_eq!(talk.send(Reply, answer), Judgement::To(State::SynRecv), "{isn:?}");
        }
    }

    #[test]
    fn a_segment_with_data_before_the_answer_is_invalid() {
        let talk = called(BEGINNINGS[0]);
        assert_eq!(talk.would(Original, talk.data(Original, 10)), Judgement::Invalid);
        assert_eq!(talk.would(Original, talk.fin(Original)), Judgement::Invalid);
        assert_eq!(talk.would(Reply, talk.fin(Reply)), Judgement::Invalid);
    }
}

mod nothing_known {
    use super::*;

    #[test]
    fn only_a_syn_begins_where_running_connections_are_not_picked_up() {
        let mut talk = Talk::new(BEGINNINGS[0]);
        talk.bits = 0;
        assert_eq!(talk.would(Original, talk.syn(None)), Judgement::To(State::SynSent));
        for other in
            [talk.ack(Original), talk.fin(Original), talk.rst(Original), talk.syn_ack(None)]
        {
            assert_eq!(talk.would(Original, other), Judgement::Invalid, "{other:?}");
        }
    }

    #[test]
    fn what_is_picked_up_begins_with_an_acknowledgement() {
        let talk = Talk::new(BEGINNINGS[0]);
        let ack = talk.would(Original, talk.ack(Original));
        assert_eq!(ack, Judgement::To(State::Established));
        for other in [talk.fin(Original), talk.rst(Original), talk.syn_ack(None)] {
            assert_eq!(talk.would(Original, other), Judgement::Invalid, "{other:?}");
        }
    }
}

mod over {
    use super::*;

    /// Closed by both, the client first.
    fn time_wait(isn: [u32; 2]) -> Talk {
        let mut talk = Talk::established(isn);
        for (direction, expected) in
            [(Original, State::FinWait), (Reply, State::LastAck), (Original, State::TimeWait)]
        {
            let seen = match expected {
                State::TimeWait => talk.ack(direction),
                _ => talk.fin(direction),
            };
            assert_eq!(talk.send(direction, seen), Judgement::To(expected));
        }
        talk
    }

    #[test]
    fn a_syn_from_either_side_reopens_what_both_have_closed() {
        for isn in BEGINNINGS {
            let talk = time_wait(isn);
            assert!(talk.window(Original).has(window::CLOSED_FIRST));
            assert!(!talk.window(Reply).has(window::CLOSED_FIRST));
            let syn = at(talk.syn(None), Seq(77));
            assert_eq!(talk.would(Original, syn), Judgement::Reopen);
            assert_eq!(talk.would(Reply, syn), Judgement::Reopen);
        }
    }

    #[test]
    fn a_syn_reopens_what_its_sender_has_reset() {
        let mut talk = Talk::established(BEGINNINGS[0]);
        let rst = talk.rst(Original);
        assert_eq!(talk.send(Original, rst), Judgement::To(State::Close));
        assert_eq!(talk.would(Original, at(talk.syn(None), Seq(9))), Judgement::Reopen);
    }

    #[test]
    fn a_syn_after_the_other_sides_reset_passes_and_is_believed_once_answered() {
        for isn in BEGINNINGS {
            let mut talk = Talk::established(isn);
            let rst = talk.rst(Reply);
            assert_eq!(talk.send(Reply, rst), Judgement::To(State::Close));
            let syn = at(talk.syn(None), Seq(isn[0]).plus(1 << 20));
            assert_eq!(talk.send(Original, syn), Judgement::Tolerated);
            assert_eq!(talk.state(), State::Close);
            let answer = acknowledging(at(talk.syn_ack(None), Seq(3)), syn.end);
            assert_eq!(talk.send(Reply, answer), Judgement::To(State::SynRecv), "{isn:?}");
        }
    }
}

//! Segments that pass without being believed, and the answers that decide
//! (RFC 5961 section 4).

use super::*;

mod established {
    use super::*;

    #[test]
    fn a_syn_of_a_client_that_forgot_passes_and_nothing_changes() {
        for isn in BEGINNINGS {
            let mut talk = Talk::established(isn);
            let windows = talk.flow.sides;
            let syn = at(talk.syn(None), Seq(isn[0]).plus(1 << 20));
            assert_eq!(talk.send(Original, syn), Judgement::Tolerated);
            assert_eq!((talk.state(), talk.flow.sides), (State::Established, windows));
        }
    }

    #[test]
    fn its_answer_begins_the_connection_anew_with_what_the_syn_offered() {
        for isn in BEGINNINGS {
            let mut talk = Talk::established(isn);
            let syn = at(talk.syn(Some(5)), Seq(isn[0]).plus(1 << 20));
            talk.send(Original, syn);
            let answer = acknowledging(at(talk.syn_ack(Some(4)), Seq(33)), syn.end);
            assert_eq!(talk.send(Reply, answer), Judgement::To(State::SynRecv), "{isn:?}");
            assert_eq!((talk.window(Original).scale, talk.window(Reply).scale), (5, 4));
            assert_eq!((talk.window(Original).end, talk.window(Reply).end), (syn.end, answer.end));
            let ack = segment(Segment::Ack, syn.end, 0, answer.end);
            assert_eq!(talk.send(Original, ack), Judgement::To(State::Established));
        }
    }

    #[test]
    fn an_answer_to_another_syn_passes_and_nothing_changes() {
        let mut talk = Talk::established(BEGINNINGS[0]);
        let syn = at(talk.syn(None), talk.next[0].plus(1 << 20));
        talk.send(Original, syn);
        for other in [syn.end.plus(1), syn.seq, talk.next[0]] {
            let answer = acknowledging(talk.syn_ack(None), other);
            let mut talk = talk.clone();
            assert_eq!(talk.send(Reply, answer), Judgement::Tolerated);
            assert_eq!(talk.state(), State::Established);
        }
    }

    #[test]
    fn the_reset_that_answers_the_challenge_closes() {
        let mut talk = Talk::established(BEGINNINGS[0]);
        let syn = at(talk.syn(None), talk.next[0].plus(1 << 20));
        talk.send(Original, syn);
        // The server has forgotten too.
        let rst = segment(Segment::Rst, Seq(0), 0, syn.end);
        assert_eq!(talk.would(Reply, rst), Judgement::To(State::Close));
    }

    #[test]
    fn a_syn_from_the_server_is_invalid() {
        let talk = Talk::established(BEGINNINGS[0]);
        let syn = offering(Segment::Syn, Seq(9), Seq(0), None);
        assert_eq!(talk.would(Reply, syn), Judgement::Invalid);
    }
}

mod last_ack {
    use super::*;

    fn last_ack(isn: [u32; 2]) -> Talk {
        let mut talk = Talk::established(isn);
        for direction in [Original, Reply] {
            let fin = talk.fin(direction);
            talk.send(direction, fin);
        }
        assert_eq!(talk.state(), State::LastAck);
        talk
    }

    #[test]
    fn an_acknowledgement_after_a_syn_is_its_challenge_and_the_next_one_the_last() {
        for isn in BEGINNINGS {
            let mut talk = last_ack(isn);
            let syn = at(talk.syn(None), Seq(isn[0]).plus(1 << 20));
            assert_eq!(talk.send(Original, syn), Judgement::Tolerated);
            let challenge = talk.ack(Reply);
            assert_eq!(talk.send(Reply, challenge), Judgement::Tolerated, "{isn:?}");
            assert_eq!(talk.state(), State::LastAck);
            assert_eq!(talk.send(Reply, challenge), Judgement::To(State::TimeWait));
        }
    }

    #[test]
    fn without_a_syn_the_acknowledgement_is_the_last_one() {
        let mut talk = last_ack(BEGINNINGS[0]);
        let ack = talk.ack(Original);
        assert_eq!(talk.send(Original, ack), Judgement::To(State::TimeWait));
    }
}

mod syn_sent {
    use super::*;

    #[test]
    fn a_challenge_passes_and_the_reset_that_answers_it_closes() {
        for isn in BEGINNINGS {
            let mut talk = Talk::new(isn);
            let syn = talk.syn(None);
            talk.send(Original, syn);
            // Of an older connection between the same endpoints.
            let old = Seq(isn[0]).minus(1 << 20);
            let challenge = segment(Segment::Ack, Seq(7), 0, old);
            assert_eq!(talk.send(Reply, challenge), Judgement::Tolerated);
            assert_eq!(talk.state(), State::SynSent);
            let answer = segment(Segment::Rst, old, 0, Seq(0));
            let answer = Seen { has_ack: false, ..answer };
            assert_eq!(talk.would(Original, answer), Judgement::To(State::Close), "{isn:?}");
        }
    }

    #[test]
    fn a_syn_is_still_answered_after_a_challenge() {
        for isn in BEGINNINGS {
            let mut talk = Talk::new(isn);
            let syn = talk.syn(None);
            talk.send(Original, syn);
            let challenge = segment(Segment::Ack, Seq(7), 0, Seq(isn[0]).minus(99));
            talk.send(Reply, challenge);
            let answer = talk.syn_ack(None);
            assert_eq!(talk.send(Reply, answer), Judgement::To(State::SynRecv), "{isn:?}");
        }
    }
}

//! The end of a connection, and doubts about whether it has come.

use super::*;

const MINUTES: Nanos = Nanos::from_secs(300);
const DAYS: Nanos = Nanos::from_secs(432_000);
const NOW: Nanos = Nanos::from_secs(1_000);

mod fin {
    use super::*;

    #[test]
    fn who_closes_first_is_noted_once() {
        for first in [Original, Reply] {
            let mut talk = Talk::established(BEGINNINGS[0]);
            for direction in [first, first.reversed()] {
                let fin = talk.fin(direction);
                talk.send(direction, fin);
            }
            assert!(talk.window(first).has(window::CLOSED_FIRST));
            assert!(!talk.window(first.reversed()).has(window::CLOSED_FIRST));
            assert_eq!(talk.state(), State::LastAck);
        }
    }

    #[test]
    fn one_in_the_middle_of_what_was_sent_closes_too() {
        for isn in BEGINNINGS {
            let mut talk = Talk::established(isn);
            let data = talk.data(Original, 100);
            talk.send(Original, data);
            let fin = segment(Segment::Fin, data.seq, 1, data.ack);
            assert_eq!(talk.send(Original, fin), Judgement::To(State::FinWait));
            assert_eq!(talk.window(Original).end, data.end, "the end never goes back");
        }
    }

    #[test]
    fn one_outside_the_window_is_invalid() {
        let talk = Talk::established(BEGINNINGS[0]);
        let far = at(talk.fin(Original), talk.next[0].plus(1 << 24));
        assert_eq!(talk.would(Original, far), Judgement::Invalid);
    }
}

mod doubt {
    use super::*;

    /// An assured flow with days to live.
    fn flow() -> Flow {
        let mut flow = Talk::established(BEGINNINGS[0]).flow;
        flow.expires = NOW.after(DAYS);
        flow
    }

    fn doubted(flow: &mut Flow, direction: Direction, kind: Segment) -> Nanos {
        connection::doubt(flow, direction, kind, MINUTES, NOW);
        flow.expires.since(NOW)
    }

    #[test]
    fn one_fin_or_reset_outside_the_windows_changes_no_time() {
        for kind in [Segment::Fin, Segment::Rst] {
            for direction in [Original, Reply] {
                let mut flow = flow();
                assert_eq!(doubted(&mut flow, direction, kind), DAYS);
                assert_eq!(doubted(&mut flow, direction, kind), DAYS, "again is no answer");
            }
        }
    }

    #[test]
    fn one_that_answers_another_leaves_the_flow_little_time() {
        for first in [Segment::Fin, Segment::Rst] {
            for second in [Segment::Fin, Segment::Rst] {
                let mut flow = flow();
                doubted(&mut flow, Original, first);
                assert_eq!(doubted(&mut flow, Reply, second), MINUTES);
            }
        }
    }

    #[test]
    fn time_is_never_added() {
        for left in [1, 119, 120, 299, 300] {
            let mut flow = flow();
            flow.expires = NOW.after(Nanos::from_secs(left));
            doubted(&mut flow, Original, Segment::Fin);
            assert_eq!(doubted(&mut flow, Reply, Segment::Rst), Nanos::from_secs(left));
        }
    }

    #[test]
    fn other_segments_and_flows_that_are_not_assured_raise_none() {
        for kind in [Segment::Syn, Segment::SynAck, Segment::Ack] {
            let mut flow = flow();
            let before = flow;
            doubted(&mut flow, Original, kind);
            assert_eq!(flow, before);
        }
        let mut flow = flow();
        flow.status &= !status::ASSURED;
        let before = flow;
        doubted(&mut flow, Original, Segment::Rst);
        doubted(&mut flow, Reply, Segment::Rst);
        assert_eq!(flow, before);
    }
}

//! TCP as a middlebox sees it: netfilter's states and transitions.
//!
//! A SYN from the originator begins a connection, a SYN/ACK answers it, and an
//! ACK from the originator confirms it. The rows follow nf_conntrack's table.

use bytemuck::Zeroable;

use crate::{
    flow::{Direction, State},
    wire::tcp_flag::{ACK, CWR, ECE, FIN, PSH, RST, SYN, URG},
};

/// A segment by the flag that counts.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Zeroable)]
pub enum Segment {
    Syn = 0,
    SynAck,
    Fin,
    Ack,
    Rst,
}

impl Segment {
    /// As [`crate::flow::Last::segment`] counts it: from 1.
    #[inline(always)]
    pub const fn number(self) -> u8 {
        self as u8 + 1
    }

    /// `None` for combinations that no TCP sends: NULL, XMAS, SYN+FIN, a FIN
    /// without ACK, and their like.
    #[inline(always)]
    pub const fn from_flags(flags: u8) -> Option<Self> {
        const SYN_ACK: u8 = SYN | ACK;
        const RST_ACK: u8 = RST | ACK;
        const FIN_ACK: u8 = FIN | ACK;
        const SYN_URG: u8 = SYN | URG;
        const FIN_ACK_URG: u8 = FIN | ACK | URG;
        const ACK_URG: u8 = ACK | URG;
        match flags & !(ECE | CWR | PSH) {
            SYN | SYN_URG => Some(Self::Syn),
            SYN_ACK => Some(Self::SynAck),
            RST | RST_ACK => Some(Self::Rst),
            FIN_ACK | FIN_ACK_URG => Some(Self::Fin),
            ACK | ACK_URG => Some(Self::Ack),
            _ => None,
        }
    }
}

/// What a segment does to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    To(State),
    /// Passes without changing anything: it may be a duplicate, or the other
    /// end will answer it with a challenge.
    Ignore,
    Invalid,
    /// The old connection is over: this SYN begins another one.
    Reopen,
}

/// The first segment of a connection.
#[inline(always)]
pub const fn first(segment: Segment, is_loose: bool) -> Option<State> {
    match segment {
        Segment::Syn => Some(State::SynSent),
        // A connection that was there before the firewall.
        Segment::Ack if is_loose => Some(State::Established),
        Segment::Ack | Segment::SynAck | Segment::Fin | Segment::Rst => None,
    }
}

/// A further segment.
#[inline(always)]
pub const fn next(direction: Direction, segment: Segment, state: State) -> Next {
    use Next::{Ignore, Invalid, Reopen, To};
    use State::{
        Close, CloseWait, Established, FinWait, LastAck, None, SynRecv, SynSent, SynSent2, TimeWait,
    };
    match direction {
        Direction::Original => match (segment, state) {
            // A SYN again, or the second half of a simultaneous open.
            (Segment::Syn, SynSent) => To(SynSent),
            (Segment::Syn, SynSent2) => To(SynSent2),
            // A late duplicate, or a client that forgot: the server answers
            // with a challenge ACK, which decides.
            (Segment::Syn, SynRecv | Established | FinWait | CloseWait | LastAck) => Ignore,
            (Segment::Syn, TimeWait | Close) => Reopen,
            // Only after a SYN from the other side.
            (Segment::SynAck, SynRecv | SynSent2) => To(SynRecv),
            (
                Segment::SynAck,
                SynSent | Established | FinWait | CloseWait | LastAck | TimeWait | Close,
            ) => Invalid,
            (Segment::Fin, SynRecv | Established) => To(FinWait),
            (Segment::Fin, FinWait | CloseWait) => To(LastAck),
            (Segment::Fin, LastAck) => To(LastAck),
            (Segment::Fin, TimeWait) => To(TimeWait),
            (Segment::Fin, Close) => To(Close),
            (Segment::Fin, SynSent | SynSent2) => Invalid,
            // No answer yet: what would it acknowledge?
            (Segment::Ack, SynSent | SynSent2) => Invalid,
            (Segment::Ack, SynRecv | Established) => To(Established),
            (Segment::Ack, FinWait | CloseWait) => To(CloseWait),
            (Segment::Ack, LastAck | TimeWait) => To(TimeWait),
            (Segment::Ack, Close) => To(Close),
            (
                Segment::Rst,
                SynSent | SynRecv | Established | FinWait | CloseWait | LastAck | TimeWait | Close
                | SynSent2,
            ) => To(Close),
            (Segment::Syn | Segment::SynAck | Segment::Fin | Segment::Ack | Segment::Rst, None) => {
                Invalid
            }
        },
        Direction::Reply => match (segment, state) {
            // Simultaneous open.
            (Segment::Syn, SynSent | SynSent2) => To(SynSent2),
            (Segment::Syn, TimeWait) => Reopen,
            // A server does not begin a connection inside one.
            (Segment::Syn, SynRecv | Established | FinWait | CloseWait | LastAck | Close) => {
                Invalid
            }
            (Segment::SynAck, SynSent | SynSent2) => To(SynRecv),
            // Sent again, or the answer to a SYN that was ignored.
            (
                Segment::SynAck,
                SynRecv | Established | FinWait | CloseWait | LastAck | TimeWait | Close,
            ) => Ignore,
            (Segment::Fin, SynRecv | Established) => To(FinWait),
            (Segment::Fin, FinWait | CloseWait) => To(LastAck),
            (Segment::Fin, LastAck) => To(LastAck),
            (Segment::Fin, TimeWait) => To(TimeWait),
            (Segment::Fin, Close) => To(Close),
            (Segment::Fin, SynSent | SynSent2) => Invalid,
            // The challenge of a host that holds an older connection.
            (Segment::Ack, SynSent | SynSent2) => Ignore,
            // Data before the handshake's last ACK has passed here.
            (Segment::Ack, SynRecv) => To(SynRecv),
            (Segment::Ack, Established) => To(Established),
            (Segment::Ack, FinWait | CloseWait) => To(CloseWait),
            (Segment::Ack, LastAck | TimeWait) => To(TimeWait),
            (Segment::Ack, Close) => To(Close),
            (
                Segment::Rst,
                SynSent | SynRecv | Established | FinWait | CloseWait | LastAck | TimeWait | Close
                | SynSent2,
            ) => To(Close),
            (Segment::Syn | Segment::SynAck | Segment::Fin | Segment::Ack | Segment::Rst, None) => {
                Invalid
            }
        },
    }
}

/// Whether a control connection in this state may still have announced a data
/// connection.
#[inline(always)]
pub const fn is_open(state: State) -> bool {
    match state {
        State::SynSent
        | State::SynSent2
        | State::SynRecv
        | State::Established
        | State::FinWait
        | State::CloseWait => true,
        State::None | State::LastAck | State::TimeWait | State::Close => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use Direction::{Original, Reply};
    use Next::{Ignore, Invalid, Reopen, To};

    #[test]
    fn only_segments_that_a_tcp_sends_count() {
        assert_eq!(Segment::from_flags(SYN | ECE | CWR), Some(Segment::Syn));
        assert_eq!(Segment::from_flags(ACK | PSH), Some(Segment::Ack));
        for flags in [0, FIN, FIN | PSH | URG, SYN | FIN, SYN | RST, URG, PSH] {
            assert_eq!(Segment::from_flags(flags), None, "{flags:#x}");
        }
    }

    mod nothing_known {
        use super::*;

        #[test]
        fn a_syn_begins_a_connection() {
            assert_eq!(first(Segment::Syn, false), Some(State::SynSent));
        }

        #[test]
        fn an_ack_does_only_when_loose() {
            assert_eq!(first(Segment::Ack, true), Some(State::Established));
            assert_eq!(first(Segment::Ack, false), None);
        }

        #[test]
        fn nothing_else_does() {
            for segment in [Segment::SynAck, Segment::Fin, Segment::Rst] {
                assert_eq!(first(segment, true), None);
            }
        }
    }

    mod syn_sent {
        use super::*;

        #[test]
        fn syn_ack_answers() {
            assert_eq!(next(Reply, Segment::SynAck, State::SynSent), To(State::SynRecv));
        }

        #[test]
        fn ack_before_syn_ack_is_invalid() {
            assert_eq!(next(Original, Segment::Ack, State::SynSent), Invalid);
        }

        #[test]
        fn rst_refuses() {
            assert_eq!(next(Reply, Segment::Rst, State::SynSent), To(State::Close));
        }

        #[test]
        fn syn_from_the_other_side_is_a_simultaneous_open() {
            assert_eq!(next(Reply, Segment::Syn, State::SynSent), To(State::SynSent2));
            assert_eq!(next(Original, Segment::SynAck, State::SynSent2), To(State::SynRecv));
        }
    }

    mod established {
        use super::*;

        #[test]
        fn syn_from_the_client_is_ignored_and_from_the_server_invalid() {
            assert_eq!(next(Original, Segment::Syn, State::Established), Ignore);
            assert_eq!(next(Reply, Segment::Syn, State::Established), Invalid);
        }

        #[test]
        fn the_four_way_close_ends_in_time_wait() {
            let mut state = State::Established;
            for (direction, segment) in [
                (Original, Segment::Fin),
                (Reply, Segment::Ack),
                (Reply, Segment::Fin),
                (Original, Segment::Ack),
            ] {
                let To(after) = next(direction, segment, state) else { panic!("{state:?}") };
                state = after;
            }
            assert_eq!(state, State::TimeWait);
        }
    }

    mod time_wait {
        use super::*;

        #[test]
        fn a_syn_from_either_side_reopens() {
            assert_eq!(next(Original, Segment::Syn, State::TimeWait), Reopen);
            assert_eq!(next(Reply, Segment::Syn, State::TimeWait), Reopen);
            assert_eq!(next(Original, Segment::Syn, State::Close), Reopen);
        }
    }
}

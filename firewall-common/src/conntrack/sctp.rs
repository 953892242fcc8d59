//! SCTP (RFC 9260) as a middlebox sees it: nf_conntrack's states and transitions.
//!
//! An INIT begins an association, INIT ACK and COOKIE ECHO confirm it, and COOKIE
//! ACK establishes it. A HEARTBEAT begins one on a further path of a host with
//! several addresses. The rows follow nf_conntrack_proto_sctp.c; which packets come
//! this far is told by [`super::association`].

use crate::flow::Direction;

/// The state of an association, as the byte in the map.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Of no flow: nothing was seen yet.
    None = 0,
    /// Also after an INIT that nobody has answered.
    Closed = 1,
    CookieWait = 2,
    CookieEchoed = 3,
    Established = 4,
    /// The originator shuts down.
    ShutdownSent = 5,
    /// The other side does.
    ShutdownRecd = 6,
    ShutdownAckSent = 7,
    /// A further path that nobody has confirmed.
    HeartbeatSent = 8,
}

impl State {
    #[inline(always)]
    pub const fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            0 => Self::None,
            1 => Self::Closed,
            2 => Self::CookieWait,
            3 => Self::CookieEchoed,
            4 => Self::Established,
            5 => Self::ShutdownSent,
            6 => Self::ShutdownRecd,
            7 => Self::ShutdownAckSent,
            8 => Self::HeartbeatSent,
            _ => return None,
        })
    }
}

/// The chunks that say something about an association (RFC 9260 section 3.2).
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chunk {
    Init = 1,
    InitAck = 2,
    Heartbeat = 4,
    HeartbeatAck = 5,
    Abort = 6,
    Shutdown = 7,
    ShutdownAck = 8,
    Error = 9,
    CookieEcho = 10,
    CookieAck = 11,
    ShutdownComplete = 14,
}

impl Chunk {
    /// `None` for DATA, SACK and all that only travels in an association.
    #[inline(always)]
    pub const fn from_type(chunk_type: u8) -> Option<Self> {
        Some(match chunk_type {
            1 => Self::Init,
            2 => Self::InitAck,
            4 => Self::Heartbeat,
            5 => Self::HeartbeatAck,
            6 => Self::Abort,
            7 => Self::Shutdown,
            8 => Self::ShutdownAck,
            9 => Self::Error,
            10 => Self::CookieEcho,
            11 => Self::CookieAck,
            14 => Self::ShutdownComplete,
            _ => return None,
        })
    }

    /// As a member of a set of types.
    pub const fn bit(self) -> u32 {
        1 << self as u32
    }
}

/// Where a chunk leads; `None` when it cannot come in this state.
#[inline(always)]
pub const fn next(direction: Direction, chunk: Chunk, state: State) -> Option<State> {
    match direction {
        Direction::Original => Some(from_originator(chunk, state)),
        Direction::Reply => from_other_side(chunk, state),
    }
}

#[inline(always)]
const fn from_originator(chunk: Chunk, state: State) -> State {
    use State::{
        Closed, CookieEchoed, CookieWait, Established, HeartbeatSent, None, ShutdownAckSent,
        ShutdownRecd, ShutdownSent,
    };
    match (chunk, state) {
        // Begins anew, unless the end of the old association is agreed on.
        (Chunk::Init, None | Closed | ShutdownSent | ShutdownRecd) => Closed,
        (Chunk::Init, CookieWait | CookieEchoed | Established | ShutdownAckSent) => state,
        // The further path becomes the first one.
        (Chunk::Init, HeartbeatSent) => CookieWait,
        (
            Chunk::Abort,
            None | Closed | CookieWait | CookieEchoed | Established | ShutdownSent | ShutdownRecd
            | ShutdownAckSent | HeartbeatSent,
        ) => Closed,
        (Chunk::Shutdown, Established) => ShutdownSent,
        // Out of the blue: SHUTDOWN COMPLETE answers it (RFC 9260 section 8.4).
        (Chunk::ShutdownAck, None | HeartbeatSent | ShutdownSent | ShutdownRecd) => ShutdownAckSent,
        (Chunk::CookieEcho, CookieWait) => CookieEchoed,
        // The originator was the one who was asked: both sent an INIT.
        (Chunk::CookieAck, CookieEchoed) => Established,
        (Chunk::ShutdownComplete, ShutdownAckSent) => Closed,
        (Chunk::Heartbeat, None) => HeartbeatSent,
        (Chunk::Heartbeat | Chunk::HeartbeatAck, HeartbeatSent) => HeartbeatSent,
        (
            Chunk::InitAck
            | Chunk::Shutdown
            | Chunk::Error
            | Chunk::CookieEcho
            | Chunk::CookieAck
            | Chunk::ShutdownComplete,
            None | HeartbeatSent,
        )
        | (Chunk::HeartbeatAck, None) => Closed,
        (
            Chunk::InitAck
            | Chunk::Shutdown
            | Chunk::ShutdownAck
            | Chunk::Error
            | Chunk::CookieEcho
            | Chunk::CookieAck
            | Chunk::ShutdownComplete
            | Chunk::Heartbeat
            | Chunk::HeartbeatAck,
            Closed | CookieWait | CookieEchoed | Established | ShutdownSent | ShutdownRecd
            | ShutdownAckSent,
        ) => state,
    }
}

#[inline(always)]
const fn from_other_side(chunk: Chunk, state: State) -> Option<State> {
    use State::{
        Closed, CookieEchoed, CookieWait, Established, HeartbeatSent, None as Nothing,
        ShutdownAckSent, ShutdownRecd, ShutdownSent,
    };
    Some(match (chunk, state) {
        (Chunk::Heartbeat, HeartbeatSent) => HeartbeatSent,
        (Chunk::HeartbeatAck, HeartbeatSent) => Established,
        // Nothing but heartbeats was asked on this path.
        (
            Chunk::Init
            | Chunk::InitAck
            | Chunk::Abort
            | Chunk::Shutdown
            | Chunk::ShutdownAck
            | Chunk::Error
            | Chunk::CookieEcho
            | Chunk::CookieAck
            | Chunk::ShutdownComplete,
            HeartbeatSent,
        )
        | (_, Nothing) => return None,
        (Chunk::InitAck, Closed) => CookieWait,
        (
            Chunk::Abort,
            Closed | CookieWait | CookieEchoed | Established | ShutdownSent | ShutdownRecd
            | ShutdownAckSent,
        ) => Closed,
        (Chunk::Shutdown, Established) => ShutdownRecd,
        (Chunk::ShutdownAck, ShutdownSent | ShutdownRecd) => ShutdownAckSent,
        // A stale cookie: the originator begins anew.
        (Chunk::Error, CookieEchoed) => Closed,
        // Both sent an INIT, and this side answered first.
        (Chunk::CookieEcho, CookieWait) => CookieEchoed,
        (Chunk::CookieAck, CookieEchoed) => Established,
        (Chunk::ShutdownComplete, ShutdownAckSent) => Closed,
        (
            Chunk::Init
            | Chunk::InitAck
            | Chunk::Shutdown
            | Chunk::ShutdownAck
            | Chunk::Error
            | Chunk::CookieEcho
            | Chunk::CookieAck
            | Chunk::ShutdownComplete
            | Chunk::Heartbeat
            | Chunk::HeartbeatAck,
            Closed | CookieWait | CookieEchoed | Established | ShutdownSent | ShutdownRecd
            | ShutdownAckSent,
        ) => state,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use Direction::{Original, Reply};

    /// Where chunks lead, one behind the other.
    fn after(mut state: State, chunks: &[(Direction, Chunk)]) -> State {
        for (direction, chunk) in chunks {
            state = next(*direction, *chunk, state).expect("a chunk that may come");
        }
        state
    }

    #[test]
    fn every_state_survives_the_map() {
        for byte in 0..=8 {
            assert_eq!(State::from_byte(byte).map(|state| state as u8), Some(byte));
        }
        assert_eq!(State::from_byte(9), None);
    }

    #[test]
    fn a_chunk_is_known_by_its_type() {
        let known = (0..=u8::MAX).filter_map(Chunk::from_type);
        assert!(known.clone().all(|chunk| Chunk::from_type(chunk as u8) == Some(chunk)));
        assert_eq!(known.count(), 11);
    }

    mod none {
        use super::*;

        #[test]
        fn an_init_is_closed_until_it_is_answered() {
            assert_eq!(after(State::None, &[(Original, Chunk::Init)]), State::Closed);
        }

        #[test]
        fn a_heartbeat_begins_a_further_path() {
            assert_eq!(after(State::None, &[(Original, Chunk::Heartbeat)]), State::HeartbeatSent);
        }

        #[test]
        fn nothing_answers_what_was_never_asked() {
            for chunk in (0..=u8::MAX).filter_map(Chunk::from_type) {
                assert_eq!(next(Reply, chunk, State::None), None, "{chunk:?}");
            }
        }
    }

    mod closed {
        use super::*;

        #[test]
        fn the_four_way_handshake_establishes() {
            let steps = [
                (Reply, Chunk::InitAck, State::CookieWait),
                (Original, Chunk::CookieEcho, State::CookieEchoed),
                (Reply, Chunk::CookieAck, State::Established),
            ];
            let mut state = State::Closed;
            for (direction, chunk, wanted) in steps {
                state = after(state, &[(direction, chunk)]);
                assert_eq!(state, wanted);
            }
        }

        #[test]
        fn an_init_again_changes_nothing() {
            assert_eq!(after(State::Closed, &[(Original, Chunk::Init)]), State::Closed);
        }
    }

    mod cookie_echoed {
        use super::*;

        #[test]
        fn a_stale_cookie_closes() {
            assert_eq!(after(State::CookieEchoed, &[(Reply, Chunk::Error)]), State::Closed);
            let own = after(State::CookieEchoed, &[(Original, Chunk::Error)]);
            assert_eq!(own, State::CookieEchoed);
        }
    }

    mod established {
        use super::*;

        #[test]
        fn an_init_of_either_side_changes_nothing() {
            for direction in [Original, Reply] {
                let state = after(State::Established, &[(direction, Chunk::Init)]);
                assert_eq!(state, State::Established);
            }
        }

        #[test]
        fn a_shutdown_of_either_side_ends_in_closed() {
            let [shutdown, ack, complete] =
                [Chunk::Shutdown, Chunk::ShutdownAck, Chunk::ShutdownComplete];
            for (one, other, between) in
                [(Original, Reply, State::ShutdownSent), (Reply, Original, State::ShutdownRecd)]
            {
                assert_eq!(after(State::Established, &[(one, shutdown)]), between);
                assert_eq!(after(between, &[(other, ack)]), State::ShutdownAckSent);
                assert_eq!(after(State::ShutdownAckSent, &[(one, complete)]), State::Closed);
            }
        }

        #[test]
        fn an_abort_closes() {
            for direction in [Original, Reply] {
                assert_eq!(after(State::Established, &[(direction, Chunk::Abort)]), State::Closed);
            }
        }
    }

    mod heartbeat_sent {
        use super::*;

        #[test]
        fn only_a_heartbeat_ack_confirms_the_path() {
            for chunk in (0..=u8::MAX).filter_map(Chunk::from_type) {
                let wanted = match chunk {
                    Chunk::Heartbeat => Some(State::HeartbeatSent),
                    Chunk::HeartbeatAck => Some(State::Established),
                    _ => None,
                };
                assert_eq!(next(Reply, chunk, State::HeartbeatSent), wanted, "{chunk:?}");
            }
        }
    }
}

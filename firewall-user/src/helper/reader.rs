//! What reads one control connection.

use std::fmt::Debug;

use firewall_common::flow::Direction;

use super::{Actions, Hole, Unfinished};

/// The reader of one control connection, for as long as that lives.
///
/// It is bounded, whatever the peers send ([`Reader::memory`]), changes no
/// segment and refuses none: what it does not understand opens nothing.
pub trait Reader: Debug + Send {
    /// Reads the payload of a segment or datagram. Its actions are due before it
    /// goes on. `seq` is TCP's; 0 where the protocol has none. One line announces one endpoint
    /// at most.
    fn segment(&mut self, direction: Direction, seq: u32, payload: &[u8]) -> Actions;

    /// What the sender of a direction has received of the other one, by TCP's
    /// acknowledgement number; before the segment that carries it.
    fn acknowledged(&mut self, _direction: Direction, _ack: u32) -> Actions {
        Actions::default()
    }

    /// What is told to have arrived next has not gone on from here: nothing is believed any
    /// more that depends on what the bytes that are missing were.
    fn doubt(&mut self) {}

    /// Whether nothing that was said since its reading began is in doubt.
    fn is_sure(&self) -> bool {
        true
    }

    /// The number of the byte that is read next in a direction, once one was.
    fn expects(&self, _direction: Direction) -> Option<u32> {
        None
    }

    /// What of an announcement has come in a direction, whose rest has not.
    fn unfinished(&self, _direction: Direction) -> Option<Unfinished> {
        None
    }

    /// The connection is over: its flow was closed, deleted or has expired.
    fn ended(&mut self) -> Actions;

    /// The hole that stands, unless a data connection has used it since.
    fn hole(&self) -> Option<Hole>;

    /// Takes over a hole that a former daemon has opened for this connection.
    fn restore_hole(&mut self, hole: Hole);

    /// Bytes held on the heap, beside the reader itself.
    fn heap(&self) -> usize;

    /// Lets go of buffered bytes, as if they had been lost on the way.
    fn shed(&mut self) {}

    /// One that has read the same.
    fn copy(&self) -> Box<dyn Reader>;
}

//! A datagram that is sent in pieces: the kernel judges it once, when it is whole.

use std::ops::Range;

use firewall_common::flow::CtState;

use crate::oracle::Judgement;

/// What has come out of a datagram so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Datagram {
    arrived: Vec<Range<usize>>,
    states: Vec<CtState>,
}

impl Datagram {
    /// Notes a packet that came out.
    pub(super) fn arrived(&mut self, packet: &[u8]) {
        self.arrived.extend(bytes(packet));
    }

    /// Notes that a rule for this state has seen a piece.
    pub(super) fn judged(&mut self, state: CtState) {
        if !self.states.contains(&state) {
            self.states.push(state);
        }
    }

    /// Whether every byte has come out.
    pub(super) fn is_whole(&mut self, length: usize) -> bool {
        self.covered() >= length
    }

    /// How many bytes have come out without a gap.
    fn covered(&mut self) -> usize {
        self.arrived.sort_by_key(|bytes| bytes.start);
        self.arrived
            .iter()
            .fold(0, |end, bytes| if bytes.start <= end { end.max(bytes.end) } else { end })
    }

    /// What became of the datagram of this length, when all its pieces were sent.
    pub(super) fn judgement(&mut self, length: usize) -> Judgement {
        if self.arrived.is_empty() {
            return Judgement::Dropped;
        }
        let is_whole = self.is_whole(length);
        match self.states[..] {
            _ if !is_whole => Judgement::Partly,
            [state] => Judgement::Forwarded(Some(state)),
            _ => Judgement::Forwarded(None),
        }
    }
}

/// Which bytes behind the IP header of its datagram a packet carries.
fn bytes(packet: &[u8]) -> Option<Range<usize>> {
    let half = |at: usize| Some(u16::from_be_bytes(packet.get(at..at + 2)?.try_into().ok()?));
    let (start, length) = match packet.first()? >> 4 {
        4 => {
            let header = usize::from(packet[0] & 15) * 4;
            (half(6)? << 3, usize::from(half(2)?) - header)
        }
        _ if packet.get(6) == Some(&44) => (half(42)? & !7, usize::from(half(4)?) - 8),
        _ => (0, half(4)?.into()),
    };
    let start = usize::from(start);
    Some(start..start + length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Family,
        oracle::{Content, Frame, Place, frame::Piece},
        wire::End,
    };

    #[test]
    fn a_datagram_is_whole_when_every_byte_has_come() {
        for family in [Family::V4, Family::V6] {
            let place = Place::numbered(family, 0);
            let piece = |bytes| Frame {
                piece: Some(Piece { datagram: 0, bytes }),
                ..Frame::new(End::Client, Content::Udp { payload: 100 })
            };
            let mut datagram = Datagram::default();
            datagram.judged(CtState::New);
            assert_eq!(datagram.judgement(108), Judgement::Dropped);
            datagram.arrived(&piece(64..108).ip(&place, 1, 1));
            assert_eq!(datagram.judgement(108), Judgement::Partly);
            datagram.arrived(&piece(0..64).ip(&place, 1, 1));
            assert_eq!(datagram.judgement(108), Judgement::Forwarded(Some(CtState::New)));
        }
    }
}

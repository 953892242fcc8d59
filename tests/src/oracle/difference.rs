//! Where the firewall does not say what nf_conntrack says, and whether it means to.
//!
//! `docs/differences.md` gives each deliberate difference an id in brackets. Here
//! stands, for each that the oracle can meet, how to recognise it. A difference that
//! is recognised by nobody is a mistake.

use std::fmt;

use firewall_common::flow::{CtState, protocol};

use super::{
    Content, Frame, Judgement, Script, flow::Flow, frame::Checksum, options, report::Shown,
};
use crate::packet::flag;

const DOCUMENT: &str = include_str!("../../../docs/differences.md");

/// One frame or flow about which the two disagree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    pub subject: Subject,
}

/// Of each pair the kernel's word stands first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    Frame {
        /// Among the script's frames.
        index: usize,
        pair: [Judgement; 2],
    },
    Flow(Box<[Option<Flow>; 2]>),
}

/// A difference that is meant.
#[derive(Debug)]
struct Deliberate {
    /// As it stands in the document, in brackets.
    id: &'static str,
    is_it: fn(&Script, &Subject) -> bool,
}

const DELIBERATE: &[Deliberate] = &[
    Deliberate { id: "fragments", is_it: is_unassembled },
    Deliberate { id: "overlap", is_it: ends_with_its_datagram },
    Deliberate { id: "tiny-fragment", is_it: has_half_a_header },
    Deliberate { id: "cut-off", is_it: is_cut_off },
    Deliberate { id: "data-checksum", is_it: is_damaged_data },
    Deliberate { id: "udp-lite", is_it: is_udp_lite },
];

impl Difference {
    pub(super) const fn new(subject: Subject) -> Self {
        Self { subject }
    }

    /// The id of the difference in `docs/differences.md`, if it is meant.
    pub fn documented(&self, script: &Script) -> Option<&'static str> {
        let known = DELIBERATE.iter().find(|known| (known.is_it)(script, &self.subject))?;
        is_in_document(known.id).then_some(known.id)
    }
}

pub(super) fn is_in_document(id: &str) -> bool {
    DOCUMENT.contains(&format!("[{id}]"))
}

/// Pieces go on one by one, without waiting for the whole: of a datagram whose
/// pieces overlap or do not all come, the sound ones arrive; a piece that comes
/// before its first does not.
fn is_unassembled(script: &Script, subject: &Subject) -> bool {
    let has_pieces = |frame: &Frame| frame.piece.is_some();
    match subject {
        Subject::Frame { index, pair } => {
            let partly = [[Judgement::Dropped, Judgement::Partly]];
            script.frames().nth(*index).is_some_and(has_pieces) && partly.contains(pair)
        }
        Subject::Flow(pair) => match &**pair {
            // Every piece counts as a packet with a header of its own.
            [Some(kernel), Some(ours)] => {
                let counted = Flow { packets: ours.packets, bytes: ours.bytes, ..kernel.clone() };
                script.frames().any(has_pieces) && counted == *ours
            }
            // The kernel never saw the whole of what began it.
            [None, Some(_)] => script.frames().all(has_pieces),
            _ => false,
        },
    }
}

/// A piece behind the end ends the datagram; the kernel's IPv6 overlooks it.
fn ends_with_its_datagram(script: &Script, subject: &Subject) -> bool {
    let pieces = || script.frames().filter_map(|frame| frame.piece.as_ref());
    let has_gap = pieces().any(|piece| {
        let start = piece.bytes.start;
        start != 0 && pieces().all(|other| other.bytes.end != start)
    });
    let is_poorer = match subject {
        Subject::Frame { pair, .. } => {
            matches!(pair, [Judgement::Forwarded(_), Judgement::Partly])
        }
        Subject::Flow(pair) => matches!(&**pair, [Some(_), Some(_)]),
    };
    has_gap && is_poorer
}

/// A first piece that ends within the TCP header is dropped.
fn has_half_a_header(script: &Script, subject: &Subject) -> bool {
    let is_tiny = |frame: &Frame| {
        let tcp = matches!(frame.content, Content::Tcp(_));
        tcp && frame
            .piece
            .as_ref()
            .is_some_and(|piece| piece.bytes.start == 0 && piece.bytes.end < 20)
    };
    let is_dropped = match subject {
        Subject::Frame { pair: [_, ours], .. } => *ours == Judgement::Dropped,
        Subject::Flow(pair) => pair[1].is_none(),
    };
    script.frames().any(is_tiny) && is_dropped
}

/// Headers that are not all there are dropped, not INVALID.
fn is_cut_off(script: &Script, subject: &Subject) -> bool {
    let Subject::Frame { index, pair } = subject else { return false };
    const MOST: usize = 40;
    let is_raw = |frame: &Frame| match &frame.content {
        Content::Other { .. } | Content::Raw(_) => true,
        // Longer than its header can say.
        Content::Tcp(segment) => options::encode(&segment.options).len() > MOST,
        Content::Udp { .. } | Content::Icmp(_) | Content::Error(_) => false,
    };
    let invalid = Judgement::Forwarded(Some(CtState::Invalid));
    script.frames().nth(*index).is_some_and(is_raw) && *pair == [invalid, Judgement::Dropped]
}

/// Data with a wrong checksum counts for us, and for what follows.
fn is_damaged_data(script: &Script, subject: &Subject) -> bool {
    let is_damaged = |frame: &Frame| {
        let is_data = match &frame.content {
            Content::Tcp(segment) => segment.flags & (flag::SYN | flag::FIN | flag::RST) == 0,
            Content::Udp { .. } => true,
            Content::Other { protocol: number, .. } => *number == protocol::SCTP,
            Content::Icmp(_) | Content::Error(_) | Content::Raw(_) => false,
        };
        frame.checksum == Checksum::Wrong && is_data
    };
    let until = match subject {
        Subject::Frame { index, .. } => index + 1,
        Subject::Flow(_) => usize::MAX,
    };
    script.frames().take(until).any(is_damaged)
}

fn is_udp_lite(script: &Script, _subject: &Subject) -> bool {
    let of_udp_lite = |frame: &Frame| matches!(&frame.content, Content::Other { protocol: number, .. } if *number == protocol::UDPLITE);
    script.frames().all(of_udp_lite)
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.subject {
            Subject::Frame { index, pair: [kernel, ours] } => {
                write!(f, "frame {}: kernel {kernel}, we {ours}", index + 1)
            }
            Subject::Flow(pair) => {
                let [kernel, ours] = &**pair;
                let (kernel, ours) = (Shown(kernel.as_ref()), Shown(ours.as_ref()));
                write!(f, "flow: kernel {kernel}; we {ours}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_deliberate_difference_is_documented() {
        for Deliberate { id, .. } in DELIBERATE {
            assert!(is_in_document(id), "docs/differences.md has no [{id}]");
        }
    }
}

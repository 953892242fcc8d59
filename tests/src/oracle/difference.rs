//! Where the firewall does not say what nf_conntrack says, and whether it means to.
//!
//! `docs/differences.md` gives each deliberate difference an id in brackets. Here
//! stands, for each that the oracle can meet, how to recognise it. A difference that
//! is recognised by nobody is a mistake.

use std::fmt;

use super::{Frame, Judgement, Script, flow::Flow, report::Shown};

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

const DELIBERATE: &[Deliberate] = &[Deliberate { id: "fragments", is_it: is_unassembled }];

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

fn is_in_document(id: &str) -> bool {
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
        // Every piece counts as a packet with a header of its own.
        Subject::Flow(pair) => {
            let [Some(kernel), Some(ours)] = &**pair else { return false };
            let counted = Flow { packets: ours.packets, bytes: ours.bytes, ..kernel.clone() };
            script.frames().any(has_pieces) && counted == *ours
        }
    }
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

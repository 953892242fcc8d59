//! Verdicts of SYNPROXY carried out on frames in memory, as the programs do it in the
//! kernel.

use bytemuck::{Zeroable, bytes_of, bytes_of_mut};

use crate::{
    reject::{Answer, HEADER_WORDS, QUOTED_WORDS},
    synproxy::{
        self, Proof,
        segment::{self, Segment},
        task, translate,
    },
    tables::Tables,
    testing::Memory,
    time::Nanos,
    verdict::Verdict,
    wire::Ethernet,
};

/// What becomes of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Carried {
    /// The last verdict: a right cookie has two.
    pub verdict: Verdict,
    /// What goes on, if anything does.
    pub onward: Option<Vec<u8>>,
    /// What goes back to its sender.
    pub back: Option<Vec<u8>>,
}

impl Memory {
    /// Judges a frame that comes in by the interface 1, and does what is to be done.
    pub fn carry(&self, frame: &[u8], now: Nanos) -> Carried {
        let verdict = self.filter(frame, now);
        let task = self.scratch().proxy.task;
        match verdict {
            Verdict::Cookie => Carried { verdict, onward: None, back: self.cookie(frame, now) },
            Verdict::Prove => self.prove(frame, now),
            Verdict::Accept(_) if task == task::ANNOUNCE => self.announce(frame, verdict),
            Verdict::Accept(_) if task == task::TRANSLATE => {
                Carried { verdict, onward: Some(self.translated(frame)), back: None }
            }
            Verdict::Accept(_) | Verdict::Pass(_) => {
                Carried { verdict, onward: Some(frame.to_vec()), back: None }
            }
            _ => Carried { verdict, onward: None, back: None },
        }
    }

    fn cookie(&self, frame: &[u8], now: Nanos) -> Option<Vec<u8>> {
        self.with_scratch(|scratch| {
            let is_made = self.read_header(frame, scratch) && synproxy::answer(self, scratch, now);
            is_made.then(|| build(frame, &scratch.proxy.segment))
        })
    }

    fn prove(&self, frame: &[u8], now: Nanos) -> Carried {
        let syn = self.with_scratch(|scratch| {
            assert!(self.read_header(frame, scratch));
            synproxy::prove(scratch);
            build(frame, &scratch.proxy.segment)
        });
        let verdict = self.filter(&syn, now);
        self.with_scratch(|scratch| scratch.proxy.proof = Proof::zeroed());
        let onward = matches!(verdict, Verdict::Accept(_)).then_some(syn);
        Carried { verdict, onward, back: None }
    }

    fn announce(&self, frame: &[u8], verdict: Verdict) -> Carried {
        self.with_scratch(|scratch| {
            assert!(self.read_header(frame, scratch));
            let (_, flow) = self.known(&scratch.key).expect("the flow of an accepted packet");
            // Tracking has the client's numbers; those of the frame are wanted.
            scratch.headers.seq = u32::from_be(scratch.proxy.header.words[1]);
            let (headers, header) = (&scratch.headers, &scratch.proxy.header);
            let back = build(frame, &synproxy::acknowledgement(headers, header, &flow));
            let onward = build(frame, &synproxy::announcement(headers, header, &flow));
            Carried { verdict, onward: Some(onward), back: Some(back) }
        })
    }

    fn translated(&self, frame: &[u8]) -> Vec<u8> {
        self.with_scratch(|scratch| {
            assert!(self.read_header(frame, scratch));
            let header = &mut scratch.proxy.header;
            let difference = translate::translate(header, &scratch.proxy.translation);
            header.set_checksum(translate::after(header.checksum(), difference));
            let (at, len) = (scratch.headers.l4 as usize, header.len as usize);
            let mut frame = frame.to_vec();
            frame[at..at + len].copy_from_slice(&bytes_of(&header.words)[..len]);
            frame
        })
    }
}

/// A frame with the Ethernet header of another.
fn build(frame: &[u8], segment: &Segment) -> Vec<u8> {
    const LINK: usize = size_of::<Ethernet>();
    let mut answer = Answer {
        _pad: [0; 2],
        ethernet: Ethernet::zeroed(),
        headers: [0; HEADER_WORDS],
        quoted: [0; QUOTED_WORDS],
    };
    bytes_of_mut(&mut answer.ethernet).copy_from_slice(&frame[..LINK]);
    let len = segment::write(&mut answer, segment, false) as usize;
    [bytes_of(&answer.ethernet), &bytes_of(&answer.headers)[..len]].concat()
}

//! The language in which scenarios are written.
//!
//! A [`Talk`] keeps the books of a TCP connection: what each end sends next, and what
//! it has heard. A segment says how it differs from what would come next:
//!
//! ```text
//! talk.open();
//! talk.client(data(100));
//! talk.server(ack().window(0));
//! talk.client(rst().seq(70_000));      // 70,000 behind what would come next
//! ```
//!
//! A segment that begins elsewhere than where its sender stands does not move it.

use std::{ops::Range, time::Duration};

use super::{
    Content, Frame, Script, Settings, Step,
    frame::{Checksum, Message, Piece, Report, Reporter, Segment},
    options::TcpOption,
};
use crate::{Family, packet::flag, wire::End};

/// The first sequence numbers, of client and server.
pub type Isns = [u32; 2];

#[derive(Clone, Debug)]
pub struct Talk {
    family: Family,
    settings: Settings,
    isns: Isns,
    /// Of client and server: the sequence number that follows what was sent.
    next: [u32; 2],
    flow: u16,
    steps: Vec<Step>,
}

/// A segment, by how it differs from the next one of its sender.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Say {
    flags: u8,
    /// Bytes behind what comes next; negative for what was sent before.
    seq: i64,
    ack: i64,
    window: u16,
    payload: usize,
    options: Vec<Choice>,
    checksum: Checksum,
    is_stray: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Choice {
    As(TcpOption),
    /// Blocks, counted from what the sender has heard.
    Sack(Vec<(i64, i64)>),
}

impl Choice {
    /// The option of an end that has heard everything before this number.
    fn option(self, heard: u32) -> TcpOption {
        let at = |offset: i64| heard.wrapping_add(offset as u32);
        match self {
            Self::As(option) => option,
            Self::Sack(blocks) => {
                TcpOption::Sack(blocks.into_iter().map(|(from, to)| (at(from), at(to))).collect())
            }
        }
    }
}

const WINDOW: u16 = 8192;

/// A segment with these flags.
pub const fn flags(flags: u8) -> Say {
    Say {
        flags,
        seq: 0,
        ack: 0,
        window: WINDOW,
        payload: 0,
        options: Vec::new(),
        checksum: Checksum::Right,
        is_stray: false,
    }
}

pub const fn syn() -> Say {
    flags(flag::SYN)
}

pub const fn syn_ack() -> Say {
    flags(flag::SYN | flag::ACK)
}

pub const fn ack() -> Say {
    flags(flag::ACK)
}

pub const fn data(length: usize) -> Say {
    let mut say = flags(flag::PSH | flag::ACK);
    say.payload = length;
    say
}

pub const fn fin() -> Say {
    flags(flag::FIN | flag::ACK)
}

/// A reset without acknowledgement.
pub const fn rst() -> Say {
    flags(flag::RST)
}

pub const fn rst_ack() -> Say {
    flags(flag::RST | flag::ACK)
}

impl Say {
    /// Begins so many bytes behind what the sender would send next.
    #[must_use]
    pub const fn seq(mut self, offset: i64) -> Self {
        self.seq = offset;
        self
    }

    /// Acknowledges so many bytes more than the sender has heard.
    #[must_use]
    pub const fn ack(mut self, offset: i64) -> Self {
        self.ack = offset;
        self
    }

    /// As it stands in the header, not scaled.
    #[must_use]
    pub const fn window(mut self, window: u16) -> Self {
        self.window = window;
        self
    }

    #[must_use]
    pub const fn len(mut self, length: usize) -> Self {
        self.payload = length;
        self
    }

    #[must_use]
    pub const fn and(mut self, flags: u8) -> Self {
        self.flags |= flags;
        self
    }

    /// Never arrives, as far as the ends are concerned: nobody moves.
    #[must_use]
    pub const fn stray(mut self) -> Self {
        self.is_stray = true;
        self
    }

    #[must_use]
    pub const fn wrong_checksum(mut self) -> Self {
        self.checksum = Checksum::Wrong;
        self.stray()
    }

    #[must_use]
    pub fn option(mut self, option: TcpOption) -> Self {
        self.options.push(Choice::As(option));
        self
    }

    #[must_use]
    pub fn mss(self, size: u16) -> Self {
        self.option(TcpOption::Mss(size))
    }

    #[must_use]
    pub fn scale(self, shift: u8) -> Self {
        self.option(TcpOption::Scale(shift))
    }

    #[must_use]
    pub fn sack_permitted(self) -> Self {
        self.option(TcpOption::SackPermitted)
    }

    #[must_use]
    pub fn timestamps(self, value: u32, echo: u32) -> Self {
        self.option(TcpOption::Timestamps { value, echo })
    }

    /// Acknowledges these blocks, counted from what the sender has heard: those that
    /// it has are negative.
    #[must_use]
    pub fn sack(mut self, blocks: &[(i64, i64)]) -> Self {
        self.options.push(Choice::Sack(blocks.into()));
        self
    }

    const fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// How far it moves its sender.
    const fn advance(&self) -> u32 {
        self.payload as u32 + self.has(flag::SYN) as u32 + self.has(flag::FIN) as u32
    }
}

impl Talk {
    pub const fn new(family: Family, settings: Settings, isns: Isns) -> Self {
        Self { family, settings, isns, next: isns, flow: 0, steps: Vec::new() }
    }

    pub const fn family(&self) -> Family {
        self.family
    }

    pub fn into_script(self, name: String) -> Script {
        Script { name, family: self.family, settings: self.settings, steps: self.steps }
    }

    pub fn client(&mut self, say: Say) {
        self.say(End::Client, say);
    }

    pub fn server(&mut self, say: Say) {
        self.say(End::Server, say);
    }

    fn say(&mut self, from: End, say: Say) {
        let [own, other] = [self.next[from as usize], self.next[from.other() as usize]];
        let segment = Segment {
            flags: say.flags,
            seq: own.wrapping_add(say.seq as u32),
            ack: if say.has(flag::ACK) { other.wrapping_add(say.ack as u32) } else { 0 },
            window: say.window,
            payload: say.payload,
            options: Vec::new(),
        };
        if say.seq == 0 && !say.is_stray {
            self.next[from as usize] = own.wrapping_add(say.advance());
        }
        let options = say.options.into_iter().map(|choice| choice.option(other));
        let segment = Segment { options: options.collect(), ..segment };
        let frame = Frame::new(from, Content::Tcp(segment));
        self.send(Frame { checksum: say.checksum, ..frame });
    }

    /// The handshake, without options.
    pub fn open(&mut self) {
        self.open_with(syn(), syn_ack());
    }

    /// The handshake of two ends that scale their windows.
    pub fn open_scaled(&mut self, client: u8, server: u8) {
        self.open_with(syn().mss(1460).scale(client), syn_ack().mss(1460).scale(server));
    }

    pub fn open_with(&mut self, syn: Say, syn_ack: Say) {
        self.client(syn);
        self.server(syn_ack);
        self.client(ack());
    }

    /// The four-way close, begun by the client.
    pub fn close(&mut self) {
        self.client(fin());
        self.server(ack());
        self.server(fin());
        self.client(ack());
    }

    /// Begins again with other first sequence numbers, on the same ports.
    pub fn restart(&mut self, client: i64, server: i64) {
        let shift = |isn: u32, by: i64| isn.wrapping_add(by as u32);
        self.next = [shift(self.isns[0], client), shift(self.isns[1], server)];
    }

    /// What follows belongs to another flow between the same addresses.
    pub const fn flow(&mut self, number: u16) {
        self.flow = number;
        self.next = self.isns;
    }

    pub fn pause(&mut self, span: Duration) {
        self.steps.push(Step::Pause(span));
    }

    pub fn udp(&mut self, from: End, payload: usize) {
        self.send(Frame::new(from, Content::Udp { payload }));
    }

    pub fn other(&mut self, from: End, protocol: u8, bytes: &[u8]) {
        self.send(Frame::new(from, Content::Other { protocol, bytes: bytes.into() }));
    }

    /// A message of ICMP or ICMPv6 with an identifier, number 1, and a payload.
    pub fn icmp(&mut self, from: End, kind: u8, identifier: u16) {
        let message =
            Message { kind, code: 0, rest: u32::from(identifier) << 16 | 1, payload: vec![7; 16] };
        self.send(Frame::new(from, Content::Icmp(message)));
    }

    /// An error about the last frame of the other end.
    ///
    /// # Panics
    /// When the other end has sent nothing.
    pub fn error(&mut self, from: End, kind: u8, code: u8) {
        self.error_by(Reporter::End, from, kind, code, 64);
    }

    pub fn error_by(&mut self, by: Reporter, from: End, kind: u8, code: u8, quote: usize) {
        let about = self.last_of(from.other());
        self.error_about(by, from, [kind, code], about, quote);
    }

    pub fn error_about(
        &mut self,
        by: Reporter,
        from: End,
        [kind, code]: [u8; 2],
        about: Frame,
        quote: usize,
    ) {
        let report = Report { kind, code, rest: 0, about: Box::new(about), quote, by };
        self.send(Frame::new(from, Content::Error(report)));
    }

    /// The last frame that this end has sent.
    ///
    /// # Panics
    /// When it has sent nothing.
    pub fn last_of(&self, from: End) -> Frame {
        let frames = self.steps.iter().rev().filter_map(|step| match step {
            Step::Send(frame) => Some(frame),
            Step::Pause(_) => None,
        });
        frames.clone().find(|frame| frame.from == from).expect("a frame of that end").clone()
    }

    /// Pieces of a datagram, in this order.
    pub fn pieces(&mut self, frame: &Frame, datagram: u16, pieces: &[Range<usize>]) {
        for bytes in pieces {
            self.piece(frame, datagram, bytes.clone());
        }
    }

    /// One piece of a datagram.
    pub fn piece(&mut self, frame: &Frame, datagram: u16, bytes: Range<usize>) {
        let piece = Piece { datagram, bytes };
        self.send(Frame { piece: Some(piece), ..frame.clone() });
    }

    /// A frame of the flow that is spoken in.
    pub fn send(&mut self, mut frame: Frame) {
        frame.flow = self.flow;
        self.steps.push(Step::Send(frame));
    }
}

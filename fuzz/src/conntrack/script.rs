//! What the endpoints do, and the frames that it comes to.
//!
//! ```text
//!   192.0.2.2       ── eth0 │ gateway │ eth1 ── 198.51.100.3
//!   2001:db8:1::2           │         │         2001:db8:2::3
//!                           192.0.2.4, 2001:db8:1::4
//! ```

use arbitrary::Arbitrary;
use firewall_common::{
    event::Hook,
    fragment::Visit,
    tables::Place,
    testing::Frame,
    time::Nanos,
    wire::tcp_flag::{ACK, FIN, PSH, RST, SYN},
};

use crate::ruleset;

/// Something that happens.
#[derive(Arbitrary, Clone, Debug)]
pub(super) enum Step {
    Tcp(Segment),
    Udp {
        lane: u8,
        from_client: bool,
        len: u8,
    },
    /// A query or its answer.
    Echo {
        lane: u8,
        from_client: bool,
        icmp_type: u8,
    },
    /// An error about an earlier packet, counted back from the last one.
    Error {
        lane: u8,
        from_client: bool,
        icmp_type: u8,
        code: u8,
        about: u8,
    },
    Other {
        lane: u8,
        from_client: bool,
        protocol: u8,
    },
    /// A fragment that is not the first.
    Later {
        lane: u8,
        from_client: bool,
        protocol: u8,
        offset: u8,
        id: u8,
    },
    Wait(u8),
}

#[derive(Arbitrary, Clone, Debug)]
pub(super) struct Segment {
    lane: u8,
    from_client: bool,
    flags: u8,
    seq: Number,
    ack: Number,
    window: u8,
    len: u16,
    options: u8,
    /// Bit 0: the checksum is wrong; bit 1: a first fragment, whose number follows.
    condition: u8,
}

/// A number by what the conversation has come to.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum Number {
    Next,
    Near(i8),
    /// By the largest unscaled window further.
    Window(i8),
    /// Where an acknowledgement begins to be too old.
    Lag(i8),
    Far(i32),
    Zero,
}

impl Number {
    /// `None` for zero, wherever the circle begins.
    const fn at(self, next: u32) -> Option<u32> {
        Some(match self {
            Self::Next => next,
            Self::Near(distance) => next.wrapping_add_signed(distance as i32),
            Self::Window(distance) => {
                next.wrapping_add(65_535).wrapping_add_signed(distance as i32)
            }
            Self::Lag(distance) => next.wrapping_sub(66_000).wrapping_add_signed(distance as i32),
            Self::Far(distance) => next.wrapping_add_signed(distance),
            Self::Zero => return None,
        })
    }
}

/// How far the numbers of client and server are moved around their circle.
#[derive(Clone, Copy, Debug)]
pub(super) struct Circle(pub(super) [u32; 2]);

impl Circle {
    pub(super) const HERE: Self = Self([0, 0]);
}

/// A packet on its way, before its numbers are written.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    pub(super) place: Place,
    frame: Frame,
    tcp: Option<Written>,
}

/// The parts of a segment that hold sequence numbers.
#[derive(Clone, Debug)]
struct Written {
    from_client: bool,
    ports: (u16, u16),
    flags: u8,
    seq: Option<u32>,
    ack: Option<u32>,
    /// The right edge of a SACK block.
    sack: Option<u32>,
    options: u8,
    window: u16,
}

impl Sent {
    pub(super) fn frame(&self, circle: Circle) -> Frame {
        let Some(tcp) = &self.tcp else { return self.frame.clone() };
        let (seq, ack) = tcp.numbers(circle);
        let (sport, dport) = tcp.ports;
        self.frame
            .clone()
            .tcp_at(sport, dport, tcp.flags, seq, ack)
            .window(tcp.window)
            .tcp_options(&tcp.options(circle))
    }

    /// Whether it is a reset with a number of zero.
    pub(super) fn has_zero(&self, circle: Circle) -> bool {
        self.tcp.as_ref().is_some_and(|tcp| {
            let (seq, ack) = tcp.numbers(circle);
            tcp.seq.is_none() || tcp.ack.is_none() || tcp.flags & RST != 0 && (seq == 0 || ack == 0)
        })
    }
}

impl Written {
    fn numbers(&self, Circle(by): Circle) -> (u32, u32) {
        let (own, other) = if self.from_client { (by[0], by[1]) } else { (by[1], by[0]) };
        let moved =
            |number: Option<u32>, by: u32| number.map_or(0, |number| number.wrapping_add(by));
        (moved(self.seq, own), moved(self.ack, other))
    }

    fn options(&self, Circle(by): Circle) -> Vec<u8> {
        let mut bytes = Vec::new();
        if self.options & 1 != 0 {
            bytes.extend([4, 2]);
        }
        if self.options & 2 != 0 {
            bytes.extend([3, 3, self.options >> 4]);
        }
        if self.options & 4 != 0 {
            bytes.extend([1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 1]);
        }
        if let Some(edge) = self.sack {
            let edge = edge.wrapping_add(by[usize::from(self.from_client)]);
            bytes.extend([5, 10]);
            bytes.extend(edge.wrapping_sub(10).to_be_bytes());
            bytes.extend(edge.to_be_bytes());
        }
        bytes
    }
}

/// Two connections of each kind, and what their sides have come to.
#[derive(Debug)]
pub(super) struct Script {
    /// By lane: what client and server will send next.
    next: [[u32; 2]; LANES],
    earlier: Vec<Frame>,
}

const LANES: usize = 6;

/// One client and one server.
struct Lane {
    hosts: [&'static str; 2],
    ports: [u16; 2],
    /// The server is the gateway itself.
    is_local: bool,
}

const V4: [&str; 2] = ["192.0.2.2", "198.51.100.3"];
const V6: [&str; 2] = ["2001:db8:1::2", "2001:db8:2::3"];
const LANE: [Lane; LANES] = [
    Lane { hosts: V4, ports: [40_000, 80], is_local: false },
    Lane { hosts: V4, ports: [40_001, 80], is_local: false },
    Lane { hosts: V4, ports: [40_000, 21], is_local: false },
    Lane { hosts: V6, ports: [40_000, 8_001], is_local: false },
    Lane { hosts: ["192.0.2.2", "192.0.2.4"], ports: [40_000, 22], is_local: true },
    Lane { hosts: ["2001:db8:1::2", "2001:db8:1::4"], ports: [40_000, 22], is_local: true },
];

impl Script {
    pub(super) const fn new(isn: [u32; 2]) -> Self {
        Self { next: [isn; LANES], earlier: Vec::new() }
    }

    /// The packet of a step, if it sends one; `now` may go on.
    pub(super) fn carry_out(&mut self, step: &Step, now: &mut Nanos) -> Option<Sent> {
        let sent = match step {
            Step::Wait(time) => {
                *now = now.after(span(*time));
                return None;
            }
            Step::Tcp(segment) => self.segment(segment),
            Step::Udp { lane, from_client, len } => {
                let (lane, sent) = on(*lane, *from_client);
                let (sport, dport) = ports(lane, *from_client);
                sent.with(|frame| frame.udp(sport, dport).payload(&vec![b'u'; usize::from(*len)]))
            }
            Step::Echo { lane, from_client, icmp_type } => {
                let (lane, sent) = on(*lane, *from_client);
                sent.with(|frame| frame.icmp(*icmp_type, 0, lane.ports[0]))
            }
            Step::Error { lane, from_client, icmp_type, code, about } => {
                let back = 1 + usize::from(about & 7);
                let quoted = self.earlier.get(self.earlier.len().checked_sub(back)?)?;
                let (_, sent) = on(*lane, *from_client);
                sent.with(|frame| frame.icmp_error(*icmp_type, *code, quoted))
            }
            Step::Other { lane, from_client, protocol } => {
                let (_, sent) = on(*lane, *from_client);
                sent.with(|frame| frame.protocol(*protocol).payload(&[7; 24]))
            }
            Step::Later { lane, from_client, protocol, offset, id } => {
                let (_, sent) = on(*lane, *from_client);
                let (offset, id) = (1 + u16::from(offset & 31), u32::from(id & 3));
                let protocol = [6, 17][usize::from(protocol & 1)];
                sent.with(|frame| {
                    frame.protocol(protocol).payload(&[b'y'; 16]).fragment(offset, id & 1 == 0, id)
                })
            }
        };
        self.earlier.push(sent.frame(Circle::HERE));
        Some(sent)
    }

    fn segment(&mut self, segment: &Segment) -> Sent {
        let (lane, mut sent) = on(segment.lane, segment.from_client);
        let (own, other) = if segment.from_client { (0, 1) } else { (1, 0) };
        let next = &mut self.next[usize::from(segment.lane) % LANES];
        let flags = flags(segment.flags);
        let len = if flags & SYN != 0 { 0 } else { segment.len % 1_461 };
        let (seq, ack) = (segment.seq.at(next[own]), segment.ack.at(next[other]));
        let has_block = segment.options & 8 != 0;
        sent.tcp = Some(Written {
            from_client: segment.from_client,
            ports: ports(lane, segment.from_client),
            flags,
            seq,
            ack,
            sack: has_block.then(|| next[other].wrapping_add(u32::from(segment.len))),
            options: segment.options,
            window: window(segment.window),
        });
        let phantom = u32::from(flags & SYN != 0) + u32::from(flags & FIN != 0);
        if let (Number::Next, Some(seq)) = (segment.seq, seq) {
            next[own] = seq.wrapping_add(u32::from(len)).wrapping_add(phantom);
        }
        let condition = segment.condition;
        sent.with(|frame| {
            let frame = frame.payload(&vec![b'x'; usize::from(len)]);
            let frame = if condition & 1 == 0 { frame } else { frame.wrong_checksum() };
            let id = u32::from(condition >> 2 & 3);
            if condition & 0x82 == 0x82 { frame.fragment(0, true, id) } else { frame }
        })
    }
}

impl Sent {
    fn with(mut self, change: impl FnOnce(Frame) -> Frame) -> Self {
        self.frame = change(self.frame);
        self
    }
}

/// An empty packet of a lane, from one of its ends.
fn on(lane: u8, from_client: bool) -> (&'static Lane, Sent) {
    let lane = &LANE[usize::from(lane) % LANES];
    let [client, server] = lane.hosts;
    let (src, dst) = if from_client { (client, server) } else { (server, client) };
    let is_leaving = lane.is_local && !from_client;
    let ifindex = if from_client || is_leaving { 1 } else { 2 };
    let hook = if is_leaving { Hook::Egress } else { Hook::Ingress };
    let place = Place { hook, ifindex, has_ethernet: true, visit: Visit::New };
    let frame = Frame::between(src, dst).macs([2, 0, 0, 0, 1, 1], ruleset::mac(ifindex));
    (lane, Sent { place, frame, tcp: None })
}

const fn ports(lane: &Lane, from_client: bool) -> (u16, u16) {
    let [client, server] = lane.ports;
    if from_client { (client, server) } else { (server, client) }
}

/// Mostly what a TCP sends.
fn flags(byte: u8) -> u8 {
    const USUAL: [u8; 8] = [SYN, SYN | ACK, ACK, ACK | PSH, FIN | ACK, RST, RST | ACK, SYN];
    USUAL.get(usize::from(byte & 0x1f)).copied().unwrap_or(if byte & 0x80 == 0 {
        ACK
    } else {
        byte
    })
}

fn window(byte: u8) -> u16 {
    const EDGES: [u16; 8] = [0, 1, 100, 1_460, 8_192, 32_768, 65_534, 65_535];
    EDGES[usize::from(byte & 7)]
}

fn span(byte: u8) -> Nanos {
    const MILLIS: [u64; 12] = [
        1,
        100,
        1_000,
        2_001,
        10_001,
        30_001,
        60_001,
        120_001,
        180_001,
        300_001,
        600_001,
        432_000_001,
    ];
    Nanos::from_millis(MILLIS[usize::from(byte) % MILLIS.len()])
}

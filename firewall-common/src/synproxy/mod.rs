//! SYNPROXY: the firewall answers a SYN in the server's place with a cookie (RFC
//! 4987 section 3.6), and the server hears of the connection only when the cookie
//! comes back. Until then nothing is remembered.
//!
//! ```text
//!   client                        firewall                        server
//!     │ SYN isn                      │                              │
//!     │─────────────────────────────►│ answer                       │
//!     │     SYN/ACK cookie, window 0 │                              │
//!     │◄─────────────────────────────│                              │
//!     │ ACK cookie+1                 │                              │
//!     │─────────────────────────────►│ question, prove      SYN isn │
//!     │                              │─────────────────────────────►│
//!     │                              │ settle       SYN/ACK own isn │
//!     │         ACK cookie+1, window │◄─────────────────────────────│
//!     │◄─────────────────────────────│ACK isn+1, own isn+1          │
//!     │                              │─────────────────────────────►│
//!     │◄────────────────────────────►│◄────────────────────────────►│
//!     │                              │ translate                    │
//! ```
//!
//! As the kernel's target of this name does it. The flow tables know the client's
//! numbers: what the server says is translated before it is tracked, what the
//! client says after.

pub mod cookie;
pub mod header;
pub mod offer;
pub mod segment;
pub mod translate;

use bytemuck::Zeroable;

use crate::{
    conntrack::{self, Effect, tcp::Segment as Kind},
    flow::{Direction, Flow, State, Tuple, protocol, status},
    headers::{Fragment, Headers},
    nat::desk::done,
    packet::Packet,
    scratch::Scratch,
    tables::Tables,
    time::Nanos,
    walk::{Outcome, Walk},
    wire::{
        Ethernet,
        tcp_flag::{ACK, CWR, ECE, FIN, PSH, RST, SYN, URG},
    },
};

use header::{Options, TcpHeader, has};
use offer::Offer;
use segment::Segment;
use translate::Translation;

/// What the proxy has to do with the packet at hand, as [`Proxy::task`].
pub mod task {
    pub const NONE: u8 = 0;
    /// Give it the numbers of the other side.
    pub const TRANSLATE: u8 = 1;
    /// The server's SYN/ACK: answer it, and open the client's window.
    pub const ANNOUNCE: u8 = 2;
}

/// The proxy's part of the desk.
#[repr(C)]
#[derive(Clone, Copy, Debug, Zeroable)]
pub struct Proxy {
    pub header: TcpHeader,
    pub segment: Segment,
    pub translation: Translation,
    pub proof: Proof,
    /// The sequence number of a server's first answer, as it stands in the packet.
    pub server_seq: u32,
    /// The Ethernet header of a packet that becomes two.
    pub link: Ethernet,
    /// One of [`task`].
    pub task: u8,
    /// The packet is the server's first answer.
    pub is_first: u8,
    /// The packet's endpoints have no connection: it may prove one.
    pub is_open: u8,
    /// The packet is the SYN that ends what is left of an earlier connection.
    pub reopens: u8,
}

/// What a right cookie has told of its client.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Zeroable)]
pub struct Proof {
    pub cookie: u32,
    /// The client's initial sequence number.
    pub isn: u32,
    /// The timestamp that the client was told, 0 when it was told none.
    pub stamp: u32,
    /// The class of its segment size: [`cookie::size_of_class`].
    pub class: u32,
    /// As it stood in the client's ACK.
    pub window: u16,
    /// The scale that the client was told; 0 until the rules have said it once more.
    pub told_scale: u8,
    /// The client was told a scale.
    pub is_scaled: u8,
    /// The SYN at hand is the firewall's own, for a client that is proven.
    pub is_proven: u8,
    pub _pad: [u8; 3],
}

/// What the cookie and the rules say of an ACK that belongs to no flow.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Its SYN would not have come to a SYNPROXY rule.
    NotAsked = 0,
    Right = 1,
    Wrong = 2,
}

impl Answer {
    #[inline(always)]
    pub const fn from_number(number: u32) -> Self {
        match number {
            1 => Self::Right,
            2 => Self::Wrong,
            _ => Self::NotAsked,
        }
    }
}

/// Takes a packet of a proxied flow for tracking: the numbers of a server become
/// those that the client knows. `false` when it does not belong there: before the
/// server has answered, only it can.
#[inline(always)]
pub fn receive(
    scratch: &mut Scratch,
    flow: &Flow,
    direction: Direction,
    kind: Kind,
    state: State,
) -> bool {
    let Scratch { proxy, headers, .. } = scratch;
    match (direction, state) {
        (Direction::Original, State::SynSent) => {
            proxy.is_open = 1;
            matches!(kind, Kind::Syn | Kind::Rst)
        }
        (Direction::Reply, State::SynSent) => {
            proxy.server_seq = headers.seq;
            proxy.is_first = 1;
            // A client that has been answered takes a reset at the next number.
            headers.seq = flow.shift.wrapping_add(u32::from(matches!(kind, Kind::Rst)));
            proxy.task = match kind {
                Kind::SynAck => task::ANNOUNCE,
                _ => task::TRANSLATE,
            };
            matches!(kind, Kind::SynAck | Kind::Rst)
        }
        // It begins another connection, or it has nothing to translate.
        _ if matches!(kind, Kind::Syn) => true,
        (Direction::Original, _) => {
            proxy.task = task::TRANSLATE;
            true
        }
        (Direction::Reply, _) => {
            headers.seq = headers.seq.wrapping_add(flow.shift);
            proxy.task = match kind {
                Kind::SynAck => task::ANNOUNCE,
                _ => task::TRANSLATE,
            };
            true
        }
    }
}

/// What the server's first answer does to the flow: the client has shaken hands
/// already, and a refusal still has to be translated.
#[inline(always)]
pub const fn effect(proxy: &Proxy, effect: Effect) -> Effect {
    const SYN_RECV: u8 = State::SynRecv as u8;
    match effect {
        Effect::Advance(SYN_RECV) if proxy.is_first != 0 => {
            Effect::Advance(State::Established as u8)
        }
        Effect::Forget if proxy.is_first != 0 => Effect::Advance(State::Close as u8),
        other => other,
    }
}

/// Whether a segment may bring a cookie back: an ACK of no flow, or of one that still
/// waits for its server. None of another flow may, living or over: two sides that have
/// said equally much acknowledge what would be a right cookie.
#[inline(always)]
pub const fn may_prove(headers: &Headers, proxy: &Proxy) -> bool {
    proxy.is_open != 0
        && headers.tcp_flags & (SYN | ACK | FIN | RST) == ACK
        && headers.fragment == Fragment::Whole as u8
}

/// Asks the kernel about an ACK's cookie, and where that is not right the rules about the SYN of
/// its sender. No counter moves. The proof stands on the desk when the answer is right: who
/// has a cookie has had an answer, and the rules will judge the SYN that it proves.
#[inline(always)]
pub fn question<T: Tables>(tables: &T, scratch: &mut Scratch) -> Answer {
    if is_right(tables, scratch) {
        return Answer::Right;
    }
    // What is known of the packet beside its rules.
    let Walk { ctstate, nat, order_in, order_out, .. } = scratch.walk;
    let is_asked = is_asked(tables, scratch);
    scratch.walk = Walk { ctstate, nat, order_in, order_out, ..scratch.walk.restarted() };
    if is_asked { Answer::Wrong } else { Answer::NotAsked }
}

/// Whether the rules bring the SYN of the sender to SYNPROXY.
#[inline(always)]
fn is_asked<T: Tables>(tables: &T, scratch: &mut Scratch) -> bool {
    let flags = core::mem::replace(&mut scratch.headers.tcp_flags, SYN);
    scratch.walk.ctstate = crate::flow::CtState::New.bit();
    scratch.walk.is_question = 1;
    let outcome = tables.judge(scratch);
    scratch.headers.tcp_flags = flags;
    matches!(outcome, Outcome::Proxy)
}

#[inline(always)]
fn is_right<T: Tables>(tables: &T, scratch: &mut Scratch) -> bool {
    let Scratch { headers, proxy, nat, .. } = scratch;
    // The client was answered by whom it had called.
    let tuple = if nat.has(done::CAME) { &nat.wire } else { &headers.tuple };
    let cookie = headers.ack.wrapping_sub(1);
    let mut isn = headers.seq.wrapping_sub(1);
    let mut class = cookie::check(tables, tuple, isn, cookie);
    if class.is_none() && headers.payload_len == 0 {
        // A client that asks whether the window is still closed begins one byte
        // before what it would send (RFC 9293 section 3.8.6.1).
        isn = headers.seq;
        class = cookie::check(tables, tuple, isn, cookie);
    }
    let Some(class) = class else { return false };
    proxy.proof = Proof { cookie, isn, class, window: headers.window, ..Proof::default() };
    true
}

/// The rules have brought the SYN of a proven client to SYNPROXY once more: what that offers is
/// what the client was told.
#[inline(always)]
pub const fn conclude(proof: &mut Proof, walk: &Walk) {
    if proof.is_scaled != 0 {
        proof.told_scale = Offer::unpack(walk.argument).scale & 15;
    }
}

/// The SYN/ACK to a client's SYN, whose header is on the desk; what is left of an
/// earlier connection of its endpoints ends. Its window is closed:
/// nobody could take what the client sends before the server has answered.
#[inline(always)]
pub fn answer<T: Tables>(tables: &T, scratch: &mut Scratch, now: Nanos) -> bool {
    if scratch.proxy.reopens != 0 {
        // The client's ACK must meet no flow that could take it for its own.
        conntrack::bury(tables, scratch, now);
    }
    let Scratch { headers, proxy, walk, .. } = scratch;
    let tuple = &headers.tuple;
    let mut client = proxy.header.options;
    if headers.tcp_flags & (ECE | CWR) == ECE | CWR {
        client.present |= has::ECN;
    }
    let offer = Offer::unpack(walk.argument);
    let common = offer.common(&client);
    let Some(cookie) = cookie::make(tables, tuple, headers.seq, client.mss) else { return false };
    client.present = common;
    let ecn = if common & has::ECN != 0 { ECE } else { 0 };
    proxy.segment = Segment {
        seq: cookie,
        ack: headers.seq.wrapping_add(1),
        flags: SYN | ACK | ecn,
        window: 0,
        ttl: TTL,
        tos: 0,
        options: Options {
            tsval: cookie::stamp(now, &client),
            tsecr: client.tsval,
            mss: offer.mss,
            scale: offer.scale,
            present: common | offer.present & has::MSS,
        },
        ..towards(&tuple.reversed())
    };
    true
}

/// The SYN that the server gets for a client with a right cookie, whose ACK's header
/// is on the desk: as the client once sent it, as far as the cookie tells.
#[inline(always)]
pub fn prove(scratch: &mut Scratch) {
    let Scratch { headers, proxy, .. } = scratch;
    let seen = proxy.header.options;
    let mut told = Options::default();
    // Who was told none has none (RFC 7323 section 3.2).
    if seen.has(has::TIMESTAMPS) {
        told = cookie::told_by(seen.tsecr);
        told.present |= has::TIMESTAMPS;
        proxy.proof.stamp = seen.tsecr;
    }
    let scales = told.has(has::SCALE);
    proxy.proof.is_scaled = u8::from(scales);
    let shift = if scales { told.scale & 15 } else { 0 };
    let window = u32::from(headers.window) << shift;
    let ecn = if told.has(has::ECN) { ECE | CWR } else { 0 };
    proxy.segment = Segment {
        seq: proxy.proof.isn,
        ack: 0,
        flags: SYN | ecn,
        window: window.min(0xffff) as u16,
        ttl: headers.ttl,
        tos: headers.tos,
        options: Options {
            tsval: seen.tsval,
            tsecr: 0,
            mss: cookie::size_of_class(headers.family(), proxy.proof.class),
            scale: told.scale,
            present: told.present | has::MSS,
        },
        ..towards(&headers.tuple)
    };
    proxy.proof.is_proven = 1;
}

/// Notes in a flow what its client was told; what is added is known when the server
/// answers.
#[inline(always)]
pub const fn begin(flow: &mut Flow, proof: &Proof) {
    flow.status |= status::PROXIED;
    flow.shift = proof.cookie;
    flow.clock_shift = proof.stamp;
    flow.client_window = proof.window;
    flow.told_scale = proof.told_scale;
    flow.server_scale = proof.told_scale;
}

/// Brings a flow up to date with the packet on the desk, which was accepted, and notes
/// what is to be added to the packet's numbers.
#[inline(always)]
pub fn settle<P: Packet + ?Sized, T: Tables>(
    packet: &P,
    tables: &T,
    scratch: &mut Scratch,
    flow: &mut Flow,
    direction: Direction,
) {
    let Scratch { proxy, headers, .. } = scratch;
    if proxy.proof.is_proven != 0 {
        begin(flow, &proxy.proof);
    }
    if proxy.is_first != 0 && proxy.header.read(packet, tables, headers) {
        answered(flow, headers, proxy);
    }
    proxy.translation = Translation::of(flow, direction);
}

/// Notes in a flow what is added to the server's numbers, now that its first answer
/// is there; its header is on the desk.
#[inline(always)]
fn answered(flow: &mut Flow, headers: &Headers, proxy: &Proxy) {
    let server = &proxy.header.options;
    flow.shift = headers.seq.wrapping_sub(proxy.server_seq);
    flow.clock_shift = match server.has(has::TIMESTAMPS) && flow.clock_shift != 0 {
        true => flow.clock_shift.wrapping_sub(server.tsval),
        false => 0,
    };
    if headers.has_tcp_flag(SYN) {
        flow.server_scale = if server.has(has::SCALE) { server.scale } else { 0 };
    }
}

/// The two packets that a server's SYN/ACK becomes, of which the first goes back: the
/// client's ACK.
#[inline(always)]
pub fn acknowledgement(headers: &Headers, header: &TcpHeader, flow: &Flow) -> Segment {
    let seen = header.options;
    Segment {
        seq: headers.ack,
        ack: headers.seq.wrapping_add(1),
        flags: ACK,
        window: flow.client_window,
        ttl: TTL,
        tos: 0,
        options: Options {
            tsval: seen.tsecr,
            tsecr: seen.tsval,
            present: seen.present & has::TIMESTAMPS,
            ..Options::default()
        },
        ..towards(&headers.tuple.reversed())
    }
}

/// The second one goes on: it opens the window that the cookie has closed.
#[inline(always)]
pub fn announcement(headers: &Headers, header: &TcpHeader, flow: &Flow) -> Segment {
    let seen = header.options;
    Segment {
        seq: headers.seq.wrapping_add(flow.shift).wrapping_add(1),
        ack: headers.ack,
        flags: ACK,
        // The window of a SYN/ACK is never scaled.
        window: headers.window >> (flow.told_scale & 15),
        ttl: headers.ttl,
        tos: headers.tos,
        options: Options {
            tsval: seen.tsval.wrapping_add(flow.clock_shift),
            tsecr: seen.tsecr,
            present: seen.present & has::TIMESTAMPS,
            ..Options::default()
        },
        ..towards(&headers.tuple)
    }
}

const TTL: u8 = 64;

/// An empty segment from the source of a tuple to its destination.
#[inline(always)]
fn towards(tuple: &Tuple) -> Segment {
    Segment {
        src: tuple.src,
        dst: tuple.dst,
        sport: tuple.sport,
        dport: tuple.dport,
        ..Segment::default()
    }
}

/// Whether a SYNPROXY rule acts on a packet: a SYN that begins a connection.
#[inline(always)]
pub const fn is_for_proxy(headers: &Headers) -> bool {
    headers.tuple.protocol == protocol::TCP
        && headers.tcp_flags & !(PSH | URG | ECE | CWR) == SYN
        && headers.fragment == Fragment::Whole as u8
}

//! Connection tracking: which flow a packet belongs to, its ctstate, and what
//! it will do to the flow once the rules have accepted it.
//!
//! The behaviour is nf_conntrack's. [`track`] looks; [`commit`] changes the tables,
//! so that a dropped packet leaves no trace. Only of an INVALID TCP segment does
//! [`track`] itself write down what the kernel does.

pub mod association;
pub mod chunks;
mod commit;
pub mod connection;
pub mod icmp;
pub mod options;
pub mod quoted;
pub mod sctp;
pub mod tcp;
#[cfg(test)]
mod tests;
pub mod window;

use crate::{
    control::{device, option},
    expectation::ExpectationKey,
    flow::{
        CtState, Direction, Flow, FlowKey, Sender, State, helper, protocol, status,
        window as window_flag,
    },
    headers::{Fragment, Headers},
    packet::Packet,
    scratch::Scratch,
    seq::Seq,
    synproxy,
    tables::{FlowTable, Tables},
    time::Nanos,
    wire::tcp_flag::{ACK, FIN, RST, SYN},
};

use association::Outcome;
use chunks::Sum;
pub use commit::{assigned_helper, bury, commit};
use connection::Judgement;
use icmp::Class;
use options::TcpOptions;
use tcp::Segment;
use window::Seen;

/// The byte of [`Flow::state`] in a protocol without states.
const NO_STATE: u8 = State::None as u8;

/// What an accepted packet does to the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// No flow is concerned: INVALID, UNTRACKED, or an error about a flow.
    Nothing,
    /// Begins a flow in this state, which is a byte as in [`Flow::state`].
    Create(u8),
    /// Counts, wins time, and takes the flow to this state.
    Advance(u8),
    /// Takes the flow to this state, and neither counts nor wins time: nobody knows
    /// yet what the packet means.
    Note(u8),
    /// The connection never came to be: forget it.
    Forget,
}

/// What [`track`] found.
#[derive(Debug)]
pub struct Tracked<'t> {
    pub ctstate: CtState,
    pub direction: Direction,
    pub sender: Sender,
    pub effect: Effect,
    pub flow: Option<(FlowTable, &'t mut Flow)>,
    /// A new flow that an expectation in `scratch` announced.
    pub is_expected: bool,
    /// The helper that announced the flow, for `-m helper`.
    pub announced_by: u8,
}

impl Tracked<'_> {
    /// Keeps what was found and loses how: for the verifier of the kernel, the
    /// hundreds of ways to get here become one.
    #[inline(always)]
    pub fn forget_how<T: Tables>(&mut self, tables: &T) {
        let known = Packed(tables.forget(Packed::of(self).0));
        self.ctstate = known.ctstate();
        self.direction = known.direction();
        self.sender = known.sender();
        self.effect = known.effect();
        self.is_expected = known.0 & Packed::EXPECTED != 0;
        self.announced_by = known.byte(Packed::HELPER);
    }

    /// What was found, without the flow itself, in one word: as a stage of the
    /// kernel's programs passes it to the next.
    #[inline(always)]
    pub fn pack(&self) -> u32 {
        let is_assured = matches!(self.flow, Some((FlowTable::Assured, _)));
        Packed::of(self).0 | (u32::from(is_assured) * Packed::ASSURED)
    }

    #[inline(always)]
    const fn without_flow(ctstate: CtState) -> Self {
        Self {
            ctstate,
            direction: Direction::Original,
            sender: Sender::Low,
            effect: Effect::Nothing,
            flow: None,
            is_expected: false,
            announced_by: helper::NONE,
        }
    }
}

impl<'t> Tracked<'t> {
    /// The inverse of [`Tracked::pack`].
    #[inline(always)]
    pub fn unpack(packed: u32, flow: Option<&'t mut Flow>) -> Self {
        let packed = Packed(packed);
        let table = match packed.0 & Packed::ASSURED {
            0 => FlowTable::Embryonic,
            _ => FlowTable::Assured,
        };
        Self {
            ctstate: packed.ctstate(),
            direction: packed.direction(),
            sender: packed.sender(),
            effect: packed.effect(),
            flow: match flow {
                Some(flow) => Some((table, flow)),
                None => None,
            },
            is_expected: packed.0 & Packed::EXPECTED != 0,
            announced_by: packed.byte(Packed::HELPER),
        }
    }
}

/// A [`Tracked`] without its flow, in one word.
#[derive(Clone, Copy)]
struct Packed(u32);

impl Packed {
    /// Where the bytes stand: ctstate, effect and flags, state, helper.
    const EFFECT: u32 = 8;
    const STATE: u32 = 16;
    const HELPER: u32 = 24;

    const NOTHING: u32 = 0;
    const CREATE: u32 = 1 << Self::EFFECT;
    const ADVANCE: u32 = 2 << Self::EFFECT;
    const NOTE: u32 = 3 << Self::EFFECT;
    const FORGET: u32 = 4 << Self::EFFECT;
    const EFFECTS: u32 = 7 << Self::EFFECT;

    const REPLY: u32 = 1 << 12;
    const FROM_HIGH: u32 = 1 << 13;
    const EXPECTED: u32 = 1 << 14;
    /// The flow stands in the assured table.
    const ASSURED: u32 = 1 << 15;

    #[inline(always)]
    fn of(tracked: &Tracked<'_>) -> Self {
        let effect = match tracked.effect {
            Effect::Nothing => Self::NOTHING,
            Effect::Create(state) => Self::CREATE | u32::from(state) << Self::STATE,
            Effect::Advance(state) => Self::ADVANCE | u32::from(state) << Self::STATE,
            Effect::Note(state) => Self::NOTE | u32::from(state) << Self::STATE,
            Effect::Forget => Self::FORGET,
        };
        let reply = u32::from(matches!(tracked.direction, Direction::Reply)) * Self::REPLY;
        let high = u32::from(matches!(tracked.sender, Sender::High)) * Self::FROM_HIGH;
        let expected = u32::from(tracked.is_expected) * Self::EXPECTED;
        let helper = u32::from(tracked.announced_by) << Self::HELPER;
        Self(u32::from(tracked.ctstate.bit()) | effect | reply | high | expected | helper)
    }

    #[inline(always)]
    const fn byte(self, at: u32) -> u8 {
        (self.0 >> at) as u8
    }

    #[inline(always)]
    fn ctstate(self) -> CtState {
        CtState::from_bit(self.byte(0)).unwrap_or(CtState::Invalid)
    }

    #[inline(always)]
    const fn direction(self) -> Direction {
        if self.0 & Self::REPLY == 0 { Direction::Original } else { Direction::Reply }
    }

    #[inline(always)]
    const fn sender(self) -> Sender {
        if self.0 & Self::FROM_HIGH == 0 { Sender::Low } else { Sender::High }
    }

    #[inline(always)]
    fn effect(self) -> Effect {
        let state = self.byte(Self::STATE);
        match self.0 & Self::EFFECTS {
            Self::CREATE => Effect::Create(state),
            Self::ADVANCE => Effect::Advance(state),
            Self::NOTE => Effect::Note(state),
            Self::FORGET => Effect::Forget,
            _ => Effect::Nothing,
        }
    }
}

/// Finds the flow of the packet whose headers stand in `scratch`.
#[inline(always)]
pub fn track<'t, P: Packet + ?Sized, T: Tables>(
    packet: &P,
    tables: &'t T,
    scratch: &mut Scratch,
    now: Nanos,
) -> Tracked<'t> {
    let headers = &scratch.headers;
    if headers.is_damaged != 0 || headers.has_no_transport() {
        return Tracked::without_flow(CtState::Invalid);
    }
    match headers.tuple.protocol {
        protocol::TCP => track_tcp(packet, tables, scratch, now),
        protocol::SCTP => track_sctp(packet, tables, scratch, now),
        protocol::ICMP | protocol::ICMPV6 => {
            match icmp::classify(headers.tuple.protocol, headers.icmp_type) {
                Class::Request => track_exchange(packet, tables, scratch, now, true),
                Class::Reply => track_exchange(packet, tables, scratch, now, false),
                Class::Error => track_error(packet, tables, scratch, now),
                Class::Untracked => Tracked::without_flow(CtState::Untracked),
                Class::Unknown => Tracked::without_flow(CtState::Invalid),
            }
        }
        _ => track_exchange(packet, tables, scratch, now, true),
    }
}

/// Whether the packet may change what is known of a connection, and is damaged: its
/// receiver will ignore it, so must we. The data of known flows is left to the
/// receiver: no sum is worth reading every segment for.
#[inline(always)]
fn is_unsound<P: Packet + ?Sized, T: Tables>(
    packet: &P,
    tables: &T,
    scratch: &mut Scratch,
    begins_a_flow: bool,
) -> bool {
    let headers = &scratch.headers;
    let matters = match headers.tuple.protocol {
        protocol::TCP => begins_a_flow || headers.has_tcp_flag(SYN | FIN | RST),
        protocol::UDP => begins_a_flow,
        protocol::ICMP | protocol::ICMPV6 => true,
        _ => false,
    };
    if !matters || headers.fragment != Fragment::Whole as u8 {
        return false;
    }
    let may_be_partial = match wanted_sum(tables, scratch) {
        Sum::Unread => return false,
        Sum::Right => false,
        Sum::RightOrPartial => true,
    };
    let Scratch { headers, verification, .. } = scratch;
    !packet.has_right_checksum(headers, verification, may_be_partial)
}

/// Whether checksums are read at all of packets that come the way of this one.
#[inline(always)]
fn wanted_sum<T: Tables>(tables: &T, scratch: &Scratch) -> Sum {
    if !tables.options().has(option::CHECKSUM) {
        return Sum::Unread;
    }
    // What this host sends may leave the sum to its hardware.
    match tables.device(scratch.walk.in_ifindex) {
        Some(from) if from.flags & device::OURS == 0 => Sum::Unread,
        Some(from) if from.flags & device::PARTIAL_CHECKSUMS != 0 => Sum::RightOrPartial,
        Some(_) => Sum::Right,
        None => Sum::Unread,
    }
}

/// A live flow of this key, the assured table first.
#[inline(always)]
pub fn find<'t, T: Tables>(
    tables: &'t T,
    key: &FlowKey,
    now: Nanos,
) -> Option<(FlowTable, &'t mut Flow)> {
    if let Some(flow) = tables.flow(FlowTable::Assured, key)
        && !flow.is_expired(now)
    {
        return Some((FlowTable::Assured, flow));
    }
    if let Some(flow) = tables.flow(FlowTable::Embryonic, key)
        && !flow.is_expired(now)
    {
        return Some((FlowTable::Embryonic, flow));
    }
    None
}

#[inline(always)]
fn track_tcp<'t, P: Packet + ?Sized, T: Tables>(
    packet: &P,
    tables: &'t T,
    scratch: &mut Scratch,
    now: Nanos,
) -> Tracked<'t> {
    let Some(segment) = Segment::from_flags(scratch.headers.tcp_flags) else {
        return Tracked::without_flow(CtState::Invalid);
    };
    let sender = tables.key_of(&scratch.headers.tuple, &mut scratch.key);
    let found = find(tables, &scratch.key, now);
    if is_unsound(packet, tables, scratch, found.is_none()) {
        return Tracked::without_flow(CtState::Invalid);
    }
    let Some((table, flow)) = found else {
        read(packet, scratch, segment, true);
        scratch.proxy.is_open = 1;
        return begin_tcp(tables, scratch, segment, sender, now);
    };
    let direction = flow.direction(sender);
    let was = State::from_byte(flow.state).unwrap_or(State::None);
    if flow.has(status::PROXIED) && !synproxy::receive(scratch, flow, direction, segment, was) {
        return Tracked::without_flow(CtState::Invalid);
    }
    let has_sack = flow.side(direction.reversed()).window.has(window_flag::SACK);
    read(packet, scratch, segment, has_sack);
    let mut judgement = tables.judge_segment(flow, scratch, direction);
    if let Judgement::Compare(next) = judgement {
        judgement = tables.compare_segment(scratch, direction, was, next);
        if matches!(judgement, Judgement::Invalid) {
            // As in the kernel, the first word of a side counts even when the rest of
            // the segment is wrong.
            if scratch.connection.is_rewritten != 0 {
                scratch.connection.settle(flow, direction);
            }
            let unacknowledged = tables.timeouts().tcp_unacknowledged;
            connection::doubt(flow, direction, segment, unacknowledged, now);
        }
    }
    let effect = match judgement {
        Judgement::Invalid | Judgement::Compare(_) => {
            return Tracked::without_flow(CtState::Invalid);
        }
        Judgement::Reopen => {
            scratch.proxy.reopens = 1;
            return begin_tcp(tables, scratch, segment, sender, now);
        }
        Judgement::Tolerated => Effect::Note(was as u8),
        // Refused or given up before anybody answered.
        Judgement::To(_) if matches!(segment, Segment::Rst) && !flow.has(status::SEEN_REPLY) => {
            Effect::Forget
        }
        // A SYN again wins no time, or a port could be held for ever.
        Judgement::To(state)
            if matches!((segment, was), (Segment::Syn, State::SynSent))
                && !flow.has(status::SEEN_REPLY) =>
        {
            Effect::Note(state as u8)
        }
        Judgement::To(state) => Effect::Advance(state as u8),
    };
    known(table, flow, direction, sender, effect)
}

/// Reads what the segment tells of its window; its options only if they may say
/// something new: those of a SYN, and of one that acknowledges selectively.
#[inline(always)]
fn read<P: Packet + ?Sized>(packet: &P, scratch: &mut Scratch, segment: Segment, has_sack: bool) {
    let Scratch { headers, options, seen, .. } = scratch;
    options.begin(Seq(headers.ack));
    let (l4, len) = (headers.l4, headers.payload.wrapping_sub(headers.l4));
    if headers.has_tcp_flag(SYN) || (has_sack && TcpOptions::are_worth_reading(packet, l4, len)) {
        packet.tcp_options(headers, options);
    }
    note(segment, headers, options, seen);
}

/// Notes the numbers of a segment; its options have been read.
#[inline(always)]
pub const fn note(segment: Segment, headers: &Headers, options: &TcpOptions, seen: &mut Seen) {
    let has_syn = headers.has_tcp_flag(SYN);
    // The FIN of a cut segment lies behind its last fragment.
    let has_end = headers.fragment == Fragment::Whole as u8;
    let phantom = has_syn as u32 + (has_end & headers.has_tcp_flag(FIN)) as u32;
    seen.segment = segment;
    seen.has_syn = has_syn;
    seen.has_ack = headers.has_tcp_flag(ACK);
    seen.seq = Seq(headers.seq);
    seen.end = Seq(headers.seq).plus(headers.payload_len).plus(phantom);
    seen.ack = Seq(headers.ack);
    seen.sack = options.sack;
    seen.window = headers.window;
    seen.scale = options.scale;
    seen.offers = options.flags;
    seen.has_options = options.len != 0;
}

#[inline(always)]
fn begin_tcp<'t, T: Tables>(
    tables: &'t T,
    scratch: &mut Scratch,
    segment: Segment,
    sender: Sender,
    now: Nanos,
) -> Tracked<'t> {
    let Judgement::Compare(next) = tables.judge_first(scratch) else {
        return Tracked::without_flow(CtState::Invalid);
    };
    let judgement = tables.compare_segment(scratch, Direction::Original, State::None, next);
    let Judgement::To(state) = judgement else {
        return Tracked::without_flow(CtState::Invalid);
    };
    let announced_by = match segment {
        Segment::Syn => expected(tables, scratch, now),
        Segment::SynAck | Segment::Fin | Segment::Ack | Segment::Rst => helper::NONE,
    };
    fresh(state as u8, sender, announced_by)
}

#[inline(always)]
fn track_sctp<'t, P: Packet + ?Sized, T: Tables>(
    packet: &P,
    tables: &'t T,
    scratch: &mut Scratch,
    now: Nanos,
) -> Tracked<'t> {
    let sender = tables.key_of(&scratch.headers.tuple, &mut scratch.key);
    let sum = wanted_sum(tables, scratch);
    let found = find(tables, &scratch.key, now);
    let Scratch { headers, association, .. } = scratch;
    let Some((table, flow)) = found else {
        let outcome = packet.judge_chunks(None, headers, association, Direction::Original, sum);
        return match outcome {
            Outcome::To(state) => fresh(state as u8, sender, helper::NONE),
            Outcome::Tolerated | Outcome::Invalid => Tracked::without_flow(CtState::Invalid),
        };
    };
    let direction = flow.direction(sender);
    let effect = match packet.judge_chunks(Some(flow), headers, association, direction, sum) {
        Outcome::To(state) => Effect::Advance(state as u8),
        Outcome::Tolerated => Effect::Note(flow.state),
        Outcome::Invalid => return Tracked::without_flow(CtState::Invalid),
    };
    known(table, flow, direction, sender, effect)
}

/// Protocols without states of their own: UDP, ICMP queries, any other.
#[inline(always)]
fn track_exchange<'t, P: Packet + ?Sized, T: Tables>(
    packet: &P,
    tables: &'t T,
    scratch: &mut Scratch,
    now: Nanos,
    may_begin: bool,
) -> Tracked<'t> {
    let sender = tables.key_of(&scratch.headers.tuple, &mut scratch.key);
    let found = find(tables, &scratch.key, now);
    if is_unsound(packet, tables, scratch, found.is_none()) {
        return Tracked::without_flow(CtState::Invalid);
    }
    match found {
        Some((table, flow)) => {
            let direction = flow.direction(sender);
            known(table, flow, direction, sender, Effect::Advance(NO_STATE))
        }
        None if may_begin => fresh(NO_STATE, sender, helper::NONE),
        None => Tracked::without_flow(CtState::Invalid),
    }
}

/// An ICMP error is RELATED to the live flow that it quotes a packet of, when it
/// is on its way to that packet's sender.
#[inline(always)]
fn track_error<'t, P: Packet + ?Sized, T: Tables>(
    packet: &P,
    tables: &'t T,
    scratch: &mut Scratch,
    now: Nanos,
) -> Tracked<'t> {
    if is_unsound(packet, tables, scratch, false)
        || !packet.quoted(&scratch.headers, &mut scratch.quoted)
        || scratch.quoted.src != scratch.headers.tuple.dst
    {
        return Tracked::without_flow(CtState::Invalid);
    }
    tables.key_of(&scratch.quoted, &mut scratch.key);
    match find(tables, &scratch.key, now) {
        Some(_) => Tracked::without_flow(CtState::Related),
        None => Tracked::without_flow(CtState::Invalid),
    }
}

#[inline(always)]
fn known<'t>(
    table: FlowTable,
    flow: &'t mut Flow,
    direction: Direction,
    sender: Sender,
    effect: Effect,
) -> Tracked<'t> {
    let is_expected = flow.has(status::EXPECTED);
    let ctstate = match direction {
        Direction::Reply => CtState::Established,
        Direction::Original if flow.has(status::SEEN_REPLY) => CtState::Established,
        Direction::Original if is_expected => CtState::Related,
        Direction::Original => CtState::New,
    };
    let announced_by = if is_expected { flow.helper } else { helper::NONE };
    Tracked {
        ctstate,
        direction,
        sender,
        effect,
        flow: Some((table, flow)),
        is_expected: false,
        announced_by,
    }
}

#[inline(always)]
const fn fresh<'t>(state: u8, sender: Sender, announced_by: u8) -> Tracked<'t> {
    let is_expected = announced_by != helper::NONE;
    Tracked {
        ctstate: if is_expected { CtState::Related } else { CtState::New },
        direction: Direction::Original,
        sender,
        effect: Effect::Create(state),
        flow: None,
        is_expected,
        announced_by,
    }
}

/// The helper that announced a flow with the packet's endpoints, if its
/// announcement still holds: not expired, and its master alive.
#[inline(always)]
fn expected<T: Tables>(tables: &T, scratch: &mut Scratch, now: Nanos) -> u8 {
    let tuple = &scratch.headers.tuple;
    scratch.expectation = ExpectationKey {
        src: tuple.src,
        dst: tuple.dst,
        dport: tuple.dport,
        protocol: tuple.protocol,
        _pad: 0,
    };
    let Some(expectation) = tables.expectation(&scratch.expectation) else {
        return helper::NONE;
    };
    if !expectation.expires.is_after(now) {
        return helper::NONE;
    }
    scratch.quoted = expectation.master;
    let (created, helper) = (expectation.master_created, expectation.helper);
    tables.key_of(&scratch.quoted, &mut scratch.master_key);
    match find(tables, &scratch.master_key, now) {
        Some((_, master)) if master.created == created && is_open(master) => helper,
        _ => helper::NONE,
    }
}

#[inline(always)]
fn is_open(master: &Flow) -> bool {
    State::from_byte(master.state).is_some_and(tcp::is_open)
}

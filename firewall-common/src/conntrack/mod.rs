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
mod tracked;
pub mod window;

use crate::{
    control::{device, option},
    expectation::ExpectationKey,
    flow::{
        CtState, Direction, Flow, FlowKey, Sender, State, helper, protocol, status,
        window as window_flag,
    },
    headers::{Fragment, Headers},
    nat::desk::done,
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
pub use commit::{assigned_helper, bury, commit, exchange_remaining, remaining};
use connection::Judgement;
use icmp::Class;
use options::TcpOptions;
use tcp::Segment;
pub use tracked::{Effect, Found, Tracked};
use tracked::{fresh, known};
use window::Seen;

/// The byte of [`Flow::state`] in a protocol without states.
const NO_STATE: u8 = State::None as u8;

/// Finds the flow of the packet whose headers stand in `scratch`.
#[inline(always)]
pub fn track<'t, P: Packet + ?Sized, T: Tables>(
    packet: &P,
    tables: &'t T,
    scratch: &mut Scratch,
    now: Nanos,
) -> Tracked<'t> {
    look(packet, tables, scratch, now).tracked(tables, &scratch.proxy)
}

#[inline(always)]
fn look<'t, P: Packet + ?Sized, T: Tables>(
    packet: &P,
    tables: &'t T,
    scratch: &mut Scratch,
    now: Nanos,
) -> Found<'t> {
    let headers = &scratch.headers;
    if headers.is_damaged != 0 || headers.has_no_transport() {
        return Found::without_flow(CtState::Invalid);
    }
    match headers.tuple.protocol {
        protocol::TCP => track_tcp(packet, tables, scratch, now),
        protocol::SCTP => track_sctp(packet, tables, scratch, now),
        protocol::ICMP | protocol::ICMPV6 => {
            match icmp::classify(headers.tuple.protocol, headers.icmp_type) {
                Class::Request => track_exchange(packet, tables, scratch, now, true),
                Class::Reply => track_exchange(packet, tables, scratch, now, false),
                Class::Error => track_error(packet, tables, scratch, now),
                Class::Untracked => Found::without_flow(CtState::Untracked),
                Class::Unknown => Found::without_flow(CtState::Invalid),
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
    tables.find(key, now)
}

/// The same, of what the two tables have.
#[inline(always)]
pub fn first_live<'t>(
    assured: Option<&'t mut Flow>,
    embryonic: impl FnOnce() -> Option<&'t mut Flow>,
    now: Nanos,
) -> Option<(FlowTable, &'t mut Flow)> {
    if let Some(flow) = assured
        && !flow.is_expired(now)
    {
        return Some((FlowTable::Assured, flow));
    }
    if let Some(flow) = embryonic()
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
) -> Found<'t> {
    let Some(segment) = Segment::from_flags(scratch.headers.tcp_flags) else {
        return Found::without_flow(CtState::Invalid);
    };
    scratch.seen.segment = segment;
    let sender = tables.key_of(&scratch.headers.tuple, &mut scratch.key);
    // Read back, the verifier has lost it: what follows is looked at for any segment at once.
    let segment = scratch.seen.segment;
    let found = find(tables, &scratch.key, now);
    if is_unsound(packet, tables, scratch, found.is_none()) {
        return Found::without_flow(CtState::Invalid);
    }
    let Some((table, flow)) = found else {
        read(packet, scratch, segment, true);
        scratch.proxy.is_open = 1;
        return Found::unpack(tables.begin_connection(scratch, sender, now));
    };
    let direction = flow.direction(sender);
    let was = State::from_byte(flow.state).unwrap_or(State::None);
    if flow.has(status::PROXIED) && !synproxy::receive(scratch, flow, direction, segment, was) {
        return Found::without_flow(CtState::Invalid);
    }
    let has_sack = flow.side(direction.reversed()).window.has(window_flag::SACK);
    read(packet, scratch, segment, has_sack);
    if flow.may_be_shifted() && scratch.nat.has(done::AT_ENTRANCE) {
        tables.receive_shifted(scratch, flow.created, direction);
    }
    let mut judgement = tables.judge_segment(flow, scratch, direction);
    if let Judgement::Compare(next) = judgement {
        judgement = tables.compare_segment(scratch, direction, was, next);
        if matches!(judgement, Judgement::Invalid) {
            // As in the kernel, the first word of a side counts even when the rest of
            // the segment is wrong.
            if scratch.connection.is_rewritten != 0 {
                scratch.connection.settle(flow, direction, |number, found, to| {
                    tables.advance(number, found, to);
                });
            }
            let unacknowledged = tables.timeouts().tcp_unacknowledged;
            connection::doubt(flow, direction, segment, unacknowledged, now);
        }
    }
    let effect = match judgement {
        Judgement::Invalid | Judgement::Compare(_) => {
            return Found::without_flow(CtState::Invalid);
        }
        Judgement::Reopen => {
            scratch.proxy.reopens = 1;
            return Found::unpack(tables.begin_connection(scratch, sender, now));
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

/// The first segment of a flow, which is on the desk; gives what [`Found::unpack`] reads.
#[inline(always)]
pub fn begin_connection<T: Tables>(
    tables: &T,
    scratch: &mut Scratch,
    sender: Sender,
    now: Nanos,
) -> u32 {
    begin_tcp(tables, scratch, sender, now).pack()
}

/// The packet on the desk, which only has the ends of a flow, begins another one.
#[inline(always)]
pub fn begin_anew<'t, T: Tables>(
    tables: &T,
    scratch: &mut Scratch,
    sender: Sender,
    now: Nanos,
) -> Tracked<'t> {
    let found = match scratch.headers.tuple.protocol {
        protocol::TCP => Found::unpack(tables.begin_connection(scratch, sender, now)),
        _ => fresh(NO_STATE, sender, announcer_of_datagram(tables, scratch, now)),
    };
    found.tracked(tables, &scratch.proxy)
}

#[inline(always)]
fn begin_tcp<'t, T: Tables>(
    tables: &T,
    scratch: &mut Scratch,
    sender: Sender,
    now: Nanos,
) -> Found<'t> {
    let Judgement::Compare(next) = tables.judge_first(scratch) else {
        return Found::without_flow(CtState::Invalid);
    };
    let judgement = tables.compare_segment(scratch, Direction::Original, State::None, next);
    let Judgement::To(state) = judgement else {
        return Found::without_flow(CtState::Invalid);
    };
    let announced_by = match scratch.seen.segment {
        Segment::Syn => tables.announcer(scratch, now),
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
) -> Found<'t> {
    let sender = tables.key_of(&scratch.headers.tuple, &mut scratch.key);
    let sum = wanted_sum(tables, scratch);
    let found = find(tables, &scratch.key, now);
    let Scratch { headers, association, .. } = scratch;
    let Some((table, flow)) = found else {
        let outcome = packet.judge_chunks(None, headers, association, Direction::Original, sum);
        return match outcome {
            Outcome::To(state) => fresh(state as u8, sender, helper::NONE),
            Outcome::Tolerated | Outcome::Invalid => Found::without_flow(CtState::Invalid),
        };
    };
    let direction = flow.direction(sender);
    let effect = match packet.judge_chunks(Some(flow), headers, association, direction, sum) {
        Outcome::To(state) => Effect::Advance(state as u8),
        Outcome::Tolerated => Effect::Note(flow.state),
        Outcome::Invalid => return Found::without_flow(CtState::Invalid),
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
) -> Found<'t> {
    let sender = tables.key_of(&scratch.headers.tuple, &mut scratch.key);
    let found = find(tables, &scratch.key, now);
    if is_unsound(packet, tables, scratch, found.is_none()) {
        return Found::without_flow(CtState::Invalid);
    }
    match found {
        Some((table, flow)) => {
            let direction = flow.direction(sender);
            known(table, flow, direction, sender, Effect::Advance(NO_STATE))
        }
        None if may_begin => fresh(NO_STATE, sender, announcer_of_datagram(tables, scratch, now)),
        None => Found::without_flow(CtState::Invalid),
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
) -> Found<'t> {
    if is_unsound(packet, tables, scratch, false)
        || !packet.quoted(&scratch.headers, &mut scratch.quoted)
        || scratch.quoted.src != scratch.headers.tuple.dst
    {
        return Found::without_flow(CtState::Invalid);
    }
    let sender = tables.key_of(&scratch.quoted, &mut scratch.key);
    let Some((_, flow)) = find(tables, &scratch.key, now) else {
        return Found::without_flow(CtState::Invalid);
    };
    // It goes the other way than the packet that it quotes.
    let direction = flow.direction(sender).reversed();
    if flow.is_translated() && !tables.go_out(scratch, flow, direction) {
        return Found::without_flow(CtState::Invalid);
    }
    Found::without_flow(CtState::Related)
}

/// Expectations of UDP are asked for once there has been one.
#[inline(always)]
fn announcer_of_datagram<T: Tables>(tables: &T, scratch: &mut Scratch, now: Nanos) -> u8 {
    let is_udp = scratch.headers.tuple.protocol == protocol::UDP;
    if is_udp && tables.options().has(option::UDP_EXPECTED) {
        tables.announcer(scratch, now)
    } else {
        helper::NONE
    }
}

/// The helper that announced a flow with the packet's endpoints, if its
/// announcement still holds: not expired, and its master alive.
#[inline(always)]
pub fn announcer<T: Tables>(tables: &T, scratch: &mut Scratch, now: Nanos) -> u8 {
    // What an announcement has led inside was announced by where it came to.
    let tuple = match scratch.nat.has(done::LED) {
        true => &scratch.nat.wire,
        false => &scratch.headers.tuple,
    };
    let dport = tuple.dport;
    scratch.expectation = ExpectationKey {
        src: tuple.src,
        dst: tuple.dst,
        dport: tuple.dport,
        protocol: tuple.protocol,
        _pad: 0,
    };
    let mut found = tables.expectation(&scratch.expectation);
    if found.is_none() && tables.options().has(option::PASSAGES) {
        scratch.expectation.dport = 0;
        found = tables.expectation(&scratch.expectation);
    }
    let Some(expectation) = found else { return helper::NONE };
    if !expectation.expires.is_after(now) || !expectation.is_for(&scratch.expectation, dport) {
        return helper::NONE;
    }
    scratch.quoted = expectation.master;
    let (created, helper) = (expectation.master_created, expectation.helper);
    tables.key_of(&scratch.quoted, &mut scratch.master_key);
    match find(tables, &scratch.master_key, now) {
        Some((_, master)) if master.created == created && is_open(master, helper) => helper,
        _ => helper::NONE,
    }
}

/// Whether the control connection of a helper goes on; one without states does as long
/// as it lives.
#[inline(always)]
fn is_open(master: &Flow, reader: u8) -> bool {
    !matches!(helper::protocol(reader), Some(protocol::TCP))
        || State::from_byte(master.state).is_some_and(tcp::is_open)
}

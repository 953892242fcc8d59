//! What an accepted packet changes in the tables.

use crate::{
    control::{Options, Timeouts},
    expectation::Master,
    flow::{Direction, Flow, Sender, State, helper, protocol, status, window},
    flow_event,
    headers::Headers,
    mangle::change,
    nat::mapping,
    scratch::Scratch,
    seq::Seq,
    synproxy,
    tables::{FlowTable, Tables},
    time::Nanos,
    verdict::{DropReason, Stat, family},
    wire::tcp_flag::RST,
};

use super::{Effect, Tracked, find};

/// A UDP flow that is still in use after this long is a stream.
const UDP_STREAM_AFTER: Nanos = Nanos::from_secs(2);

/// Carries out what the packet in `scratch` does, now that it is accepted.
///
/// # Errors
/// The reason to drop the packet after all: another one was faster, or there
/// is no space.
#[inline(always)]
pub fn commit<T: Tables>(
    tables: &T,
    scratch: &mut Scratch,
    tracked: &mut Tracked<'_>,
    now: Nanos,
) -> Result<(), DropReason> {
    match tracked.effect {
        Effect::Nothing => Ok(()),
        Effect::Create(state) => create(tables, scratch, tracked, state, now),
        Effect::Forget => {
            if let Some((table, flow)) = &mut tracked.flow {
                forget(tables, scratch, *table, flow, tracked.direction, now);
            }
            Ok(())
        }
        Effect::Note(state) => {
            if let Some((_, flow)) = &mut tracked.flow {
                note(tables, scratch, flow, tracked.direction, state, now);
            }
            Ok(())
        }
        Effect::Advance(state) => {
            if let Some((table, flow)) = &mut tracked.flow {
                advance(tables, scratch, *table, flow, tracked.direction, state, now);
            }
            Ok(())
        }
    }
}

#[inline(always)]
fn create<T: Tables>(
    tables: &T,
    scratch: &mut Scratch,
    tracked: &Tracked<'_>,
    state: u8,
    now: Nanos,
) -> Result<(), DropReason> {
    let reader = match tracked.is_expected {
        true => tracked.announced_by,
        false => assigned_helper(tables, scratch),
    };
    let Scratch { flow, headers, connection, association, proxy, nat, .. } = scratch;
    *flow = Flow::default();
    flow.created = now;
    flow.state = state;
    flow.helper = reader;
    flow.originator = match tracked.sender {
        Sender::Low => 0,
        Sender::High => 1,
    };
    if headers.tuple.protocol == protocol::TCP && state == State::Established as u8 {
        flow.status |= status::PICKED_UP;
    }
    if nat.status != 0 {
        flow.status |= nat.status;
        flow.faces = nat.faces;
    }
    if proxy.proof.is_proven != 0 {
        synproxy::begin(flow, &proxy.proof);
    }
    account(tables, flow, Direction::Original, headers.ip_len);
    match headers.tuple.protocol {
        protocol::TCP => connection.settle(flow, Direction::Original, Seq::advance),
        protocol::SCTP => association.settle(flow, Direction::Original),
        _ => {}
    }
    flow.expires = now.after(lifetime(tables, headers, flow, now));
    if tracked.is_expected {
        announce_child(tables, scratch, now)?;
    }
    if scratch.mangling.has(change::CT_MARK) {
        scratch.flow.mark = scratch.mangling.ct_mark;
    }
    // Two packets that come at once: the faces are those of the first.
    if scratch.nat.status != 0
        && scratch.proxy.reopens == 0
        && find(tables, &scratch.key, now).is_some()
    {
        return Err(DropReason::NatClash);
    }
    // What stands here has expired or is being reopened.
    let is_created = if flow_event::is_watched(tables) {
        tables.begin_watched(scratch, now)
    } else {
        tables.delete(FlowTable::Assured, &scratch.key);
        tables.create(&scratch.key, &scratch.flow)
    };
    if !is_created {
        return Err(DropReason::TableFull);
    }
    tables.count_flow(family::CREATED, &scratch.key);
    Ok(())
}

/// Writes down a segment that is let through: it may be an answer.
#[inline(always)]
fn note<T: Tables>(
    tables: &T,
    scratch: &mut Scratch,
    flow: &mut Flow,
    direction: Direction,
    state: u8,
    now: Nanos,
) {
    flow.state = state;
    settle(tables, scratch, flow, direction);
    if matches!(direction, Direction::Original) || flow.has(status::SEEN_REPLY) {
        return;
    }
    flow.status |= status::SEEN_REPLY;
    if flow_event::is_watched(tables) {
        tables.update_watched(scratch, now);
    }
}

/// Ends a flow that was refused; its end still counts the refusal.
#[inline(always)]
fn forget<T: Tables>(
    tables: &T,
    scratch: &mut Scratch,
    table: FlowTable,
    flow: &mut Flow,
    direction: Direction,
    now: Nanos,
) {
    if !flow_event::is_watched(tables) {
        return tables.delete(table, &scratch.key);
    }
    account(tables, flow, direction, scratch.headers.ip_len);
    flow.state = State::Close as u8;
    tables.end_watched(scratch, now);
}

/// Ends what is left of a connection, whose endpoints begin another.
#[inline(always)]
pub fn bury<T: Tables>(tables: &T, scratch: &mut Scratch, now: Nanos) {
    if flow_event::is_watched(tables) {
        return tables.end_watched(scratch, now);
    }
    tables.delete(FlowTable::Assured, &scratch.key);
    tables.delete(FlowTable::Embryonic, &scratch.key);
}

/// Uses up the expectation that `track` found, and notes its master.
#[inline(always)]
fn announce_child<T: Tables>(
    tables: &T,
    scratch: &mut Scratch,
    now: Nanos,
) -> Result<(), DropReason> {
    scratch.flow.status |= status::EXPECTED;
    if let Some((_, master)) = find(tables, &scratch.master_key, now) {
        scratch.flow.mark = master.mark;
    }
    scratch.master = Master {
        child_created: now,
        tuple: scratch.quoted,
        helper: scratch.flow.helper,
        _pad: [0; 7],
    };
    // A range of ports is for any number of connections.
    if scratch.expectation.dport != 0 && !tables.take_expectation(&scratch.expectation) {
        return Err(DropReason::ExpectationTaken);
    }
    tables.set_master(&scratch.key, &scratch.master);
    tables.count(Stat::ExpectationsUsed as u32);
    Ok(())
}

/// The helper of a new flow: by a CT rule, else by the configured ports.
#[inline(always)]
pub fn assigned_helper<T: Tables>(tables: &T, scratch: &Scratch) -> u8 {
    let tuple = &scratch.headers.tuple;
    match (scratch.walk.assigned, tuple.protocol) {
        (helper::NONE, protocol::TCP | protocol::UDP) => {
            tables.helper_of_port(tuple.protocol, tuple.dport)
        }
        (helper::FTP, protocol::TCP) => helper::FTP,
        (helper::TFTP, protocol::UDP) => helper::TFTP,
        _ => helper::NONE,
    }
}

#[inline(always)]
fn advance<T: Tables>(
    tables: &T,
    scratch: &mut Scratch,
    table: FlowTable,
    flow: &mut Flow,
    direction: Direction,
    state: u8,
    now: Nanos,
) {
    let headers = &scratch.headers;
    let (was, status_was) = (flow.state, flow.status);
    account(tables, flow, direction, headers.ip_len);
    flow.state = state;
    settle(tables, scratch, flow, direction);
    let confirms = confirms(scratch, flow, was, direction, now);
    let is_new = confirms && !flow.has(status::ASSURED);
    let ended = flow.expires;
    flow.expires = now.after(lifetime(tables, headers, flow, now));
    if mapping::is_due(flow, ended, flow.expires) {
        tables.renew_mapping(&scratch.key, flow);
    }
    if matches!(direction, Direction::Reply) {
        flow.status |= status::SEEN_REPLY;
    }
    if is_new && matches!(table, FlowTable::Embryonic) {
        assure(tables, scratch, flow);
    }
    // Looked up again there: an assured flow has moved.
    let has_changed = (flow.state, flow.status) != (was, status_was);
    if has_changed && flow_event::is_watched(tables) {
        tables.update_watched(scratch, now);
    }
}

/// Whether traffic in both directions has confirmed the flow, behind a packet of
/// this direction; the status is as before it, `was` the state.
#[inline(always)]
const fn confirms(
    scratch: &Scratch,
    flow: &Flow,
    was: u8,
    direction: Direction,
    now: Nanos,
) -> bool {
    let is_answered = flow.has(status::SEEN_REPLY);
    match scratch.headers.tuple.protocol {
        protocol::TCP => {
            is_answered
                && flow.state == State::Established as u8
                && (was == State::SynRecv as u8 || was == State::Established as u8)
        }
        protocol::UDP => is_answered && now.since(flow.created).is_after(UDP_STREAM_AFTER),
        // A side that makes up both halves of a handshake comes as far alone.
        protocol::SCTP => {
            scratch.association.is_established()
                && (is_answered || matches!(direction, Direction::Reply))
        }
        protocol::GRE | protocol::UDPLITE => is_answered,
        _ => false,
    }
}

/// Takes over what the packet told.
#[inline(always)]
fn settle<T: Tables>(tables: &T, scratch: &Scratch, flow: &mut Flow, direction: Direction) {
    match scratch.headers.tuple.protocol {
        protocol::TCP => {
            scratch.connection.settle(flow, direction, |number, found, to| {
                tables.advance(number, found, to);
            });
        }
        protocol::SCTP => {
            flow.state = scratch.association.state();
            scratch.association.settle(flow, direction);
        }
        _ => {}
    }
}

/// Moves a confirmed flow to the table where floods cannot reach it.
#[inline(always)]
fn assure<T: Tables>(tables: &T, scratch: &mut Scratch, flow: &mut Flow) {
    flow.status |= status::ASSURED;
    if tables.promote(&scratch.key, flow) {
        tables.count_flow(family::ASSURED, &scratch.key);
        if flow.is_translated() {
            tables.keep_faces(scratch, flow);
        }
    } else {
        flow.status &= !status::ASSURED;
        tables.count_flow(family::ASSURED_FULL, &scratch.key);
    }
}

#[inline(always)]
fn account<T: Tables>(tables: &T, flow: &mut Flow, direction: Direction, bytes: u32) {
    let side = flow.side_mut(direction);
    tables.add(&mut side.packets, 1);
    tables.add(&mut side.bytes, bytes.into());
}

/// How long a flow lives from now on, behind the packet with these headers.
#[inline(always)]
fn lifetime<T: Tables>(tables: &T, headers: &Headers, flow: &Flow, now: Nanos) -> Nanos {
    let timeouts = tables.timeouts();
    match headers.tuple.protocol {
        protocol::TCP => remaining(timeouts, tables.options(), headers.has_tcp_flag(RST), flow),
        protocol::UDP => exchange_remaining(timeouts, flow, now),
        protocol::SCTP => timeouts.sctp[usize::from(flow.state & 15)],
        // As soon as it is answered, unlike UDP.
        protocol::UDPLITE if flow.has(status::SEEN_REPLY) => timeouts.udp_stream,
        protocol::UDPLITE => timeouts.udp,
        protocol::GRE if flow.has(status::SEEN_REPLY) => timeouts.gre_stream,
        protocol::GRE => timeouts.gre,
        protocol::ICMP => timeouts.icmp,
        protocol::ICMPV6 => timeouts.icmpv6,
        _ => timeouts.generic,
    }
}

/// UDP: how long a flow lives from now on.
#[inline(always)]
pub const fn exchange_remaining(timeouts: &Timeouts, flow: &Flow, now: Nanos) -> Nanos {
    let is_stream =
        flow.has(status::SEEN_REPLY) && now.since(flow.created).is_after(UDP_STREAM_AFTER);
    if is_stream { timeouts.udp_stream } else { timeouts.udp }
}

/// A connection in which nothing moves, or whose data nobody acknowledges, is not
/// waited for as long as its state allows.
#[inline(always)]
pub const fn remaining(
    timeouts: &Timeouts,
    options: Options,
    is_reset: bool,
    flow: &Flow,
) -> Nanos {
    let whole = timeouts.tcp[(flow.state & 15) as usize];
    let flags = flow.sides[0].window.flags | flow.sides[1].window.flags;
    let time = if flow.last.retransmissions >= options.tcp_max_retrans
        && whole.is_after(timeouts.tcp_max_retrans)
    {
        timeouts.tcp_max_retrans
    } else if is_reset {
        timeouts.tcp[State::Close as usize]
    } else if flags & window::UNACKNOWLEDGED != 0 && whole.is_after(timeouts.tcp_unacknowledged) {
        timeouts.tcp_unacknowledged
    } else if flow.last.window == 0 && whole.is_after(timeouts.tcp_max_retrans) {
        timeouts.tcp_max_retrans
    } else {
        whole
    };
    // Picked up, and not answered yet.
    let is_alone = flow.state == State::Established as u8 && !flow.has(status::SEEN_REPLY);
    if is_alone && time.is_after(timeouts.tcp_unacknowledged) {
        return timeouts.tcp_unacknowledged;
    }
    time
}

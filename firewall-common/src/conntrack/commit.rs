//! What an accepted packet changes in the tables.

use crate::{
    expectation::Master,
    flow::{Direction, Flow, Sender, State, helper, protocol, status},
    scratch::Scratch,
    synproxy,
    tables::{FlowTable, Tables},
    time::Nanos,
    verdict::{DropReason, Stat},
};

use super::{Effect, Tracked};

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
            if let Some((table, _)) = tracked.flow {
                tables.delete(table, &scratch.key);
            }
            Ok(())
        }
        Effect::Count => {
            if let Some((_, flow)) = &mut tracked.flow {
                account(flow, tracked.direction, scratch.headers.ip_len);
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
    state: State,
    now: Nanos,
) -> Result<(), DropReason> {
    let reader = match tracked.is_expected {
        true => tracked.announced_by,
        false => assigned_helper(tables, scratch),
    };
    let flow = &mut scratch.flow;
    *flow = Flow::default();
    flow.created = now;
    flow.state = state as u8;
    flow.helper = reader;
    flow.originator = match tracked.sender {
        Sender::Low => 0,
        Sender::High => 1,
    };
    if matches!(state, State::Established) {
        flow.status |= status::PICKED_UP;
    }
    if scratch.proxy.proof.is_proven != 0 {
        synproxy::begin(flow, &scratch.proxy.proof);
    }
    account(flow, Direction::Original, scratch.headers.ip_len);
    flow.expires = now.after(lifetime(tables, scratch.headers.tuple.protocol, flow, now));
    if tracked.is_expected {
        announce_child(tables, scratch, now)?;
    }
    // What stands here has expired or is being reopened.
    tables.delete(FlowTable::Assured, &scratch.key);
    if !tables.create(&scratch.key, &scratch.flow) {
        return Err(DropReason::TableFull);
    }
    tables.count(Stat::FlowsCreated as u32);
    Ok(())
}

/// Uses up the expectation that `track` found, and notes its master.
#[inline(always)]
fn announce_child<T: Tables>(
    tables: &T,
    scratch: &mut Scratch,
    now: Nanos,
) -> Result<(), DropReason> {
    scratch.flow.status |= status::EXPECTED;
    scratch.master = Master {
        child_created: now,
        tuple: scratch.quoted,
        helper: scratch.flow.helper,
        _pad: [0; 7],
    };
    if !tables.take_expectation(&scratch.expectation) {
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
        (helper::NONE, protocol::TCP) => tables.helper_of_port(tuple.protocol, tuple.dport),
        (helper::NONE, _) => helper::NONE,
        (helper::FTP, protocol::TCP) => helper::FTP,
        _ => helper::NONE,
    }
}

#[inline(always)]
fn advance<T: Tables>(
    tables: &T,
    scratch: &Scratch,
    table: FlowTable,
    flow: &mut Flow,
    direction: Direction,
    state: State,
    now: Nanos,
) {
    let headers = &scratch.headers;
    let was = flow.state;
    account(flow, direction, headers.ip_len);
    flow.state = state as u8;
    let confirms = match headers.tuple.protocol {
        protocol::TCP => {
            state as u8 == State::Established as u8
                && (was == State::SynRecv as u8 || was == State::Established as u8)
        }
        protocol::UDP => now.since(flow.created).is_after(UDP_STREAM_AFTER),
        _ => false,
    };
    let is_new = confirms && flow.has(status::SEEN_REPLY) && !flow.has(status::ASSURED);
    if matches!(direction, Direction::Reply) {
        flow.status |= status::SEEN_REPLY;
    }
    flow.expires = now.after(lifetime(tables, headers.tuple.protocol, flow, now));
    if is_new && matches!(table, FlowTable::Embryonic) {
        assure(tables, scratch, flow);
    }
}

/// Moves a confirmed flow to the table where floods cannot reach it.
#[inline(always)]
fn assure<T: Tables>(tables: &T, scratch: &Scratch, flow: &mut Flow) {
    flow.status |= status::ASSURED;
    if tables.promote(&scratch.key, flow) {
        tables.count(Stat::FlowsAssured as u32);
    } else {
        flow.status &= !status::ASSURED;
        tables.count(Stat::AssuredFull as u32);
    }
}

#[inline(always)]
fn account(flow: &mut Flow, direction: Direction, bytes: u32) {
    let side = flow.side_mut(direction);
    side.packets += 1;
    side.bytes += u64::from(bytes);
}

/// How long a flow lives from now on.
#[inline(always)]
fn lifetime<T: Tables>(tables: &T, ip_protocol: u8, flow: &Flow, now: Nanos) -> Nanos {
    let timeouts = tables.timeouts();
    match ip_protocol {
        protocol::TCP => {
            let was_picked_up =
                flow.state == State::Established as u8 && !flow.has(status::SEEN_REPLY);
            if was_picked_up {
                return timeouts.tcp_unacknowledged;
            }
            timeouts.tcp[usize::from(flow.state & 15)]
        }
        protocol::UDP => {
            let is_stream =
                flow.has(status::SEEN_REPLY) && now.since(flow.created).is_after(UDP_STREAM_AFTER);
            if is_stream { timeouts.udp_stream } else { timeouts.udp }
        }
        protocol::ICMP => timeouts.icmp,
        protocol::ICMPV6 => timeouts.icmpv6,
        _ => timeouts.generic,
    }
}

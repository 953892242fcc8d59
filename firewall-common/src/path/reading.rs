//! Whether a helper reads a packet before it goes on, and what it is told of it.

use crate::{
    conntrack::{self, Effect, Tracked},
    control::{HEARTBEAT_LIMIT, option},
    event::Punt,
    flow::{Direction, Flow, helper, status},
    scratch::Scratch,
    tables::Tables,
    time::Nanos,
};

use super::is_untracked;

/// Whether a helper reads this packet before it goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    NotNeeded,
    Needed,
    /// The daemon is away and control traffic flows on.
    Skipped,
    /// The daemon is away and control traffic waits for it.
    Forbidden,
}

#[inline(always)]
pub(super) fn reading<T: Tables>(
    tables: &T,
    scratch: &Scratch,
    tracked: &Tracked<'_>,
    now: Nanos,
) -> Reading {
    if scratch.headers.payload_len == 0
        || is_untracked(scratch)
        || reader(tables, scratch, tracked) == helper::NONE
    {
        return Reading::NotNeeded;
    }
    if !now.since(tables.heartbeat()).is_after(HEARTBEAT_LIMIT) {
        return Reading::Needed;
    }
    let options = tables.options();
    let is_closed = options.has(option::HELPER_FAILURE_CLOSED) && !is_encrypted(tracked);
    if is_closed || scratch.renumbering.waits != 0 { Reading::Forbidden } else { Reading::Skipped }
}

/// Whether a helper can only look for the end of the encryption: nothing to wait for.
#[inline(always)]
fn is_encrypted(tracked: &Tracked<'_>) -> bool {
    matches!(&tracked.flow, Some((_, flow)) if flow.has(status::ENCRYPTED))
}

/// The helper of the packet's flow, which may begin with it: a connection that is
/// picked up in its middle.
#[inline(always)]
fn reader<T: Tables>(tables: &T, scratch: &Scratch, tracked: &Tracked<'_>) -> u8 {
    match &tracked.flow {
        Some((_, flow)) if flow.has(status::EXPECTED) => helper::NONE,
        Some((_, flow)) => flow.helper,
        None if matches!(tracked.effect, Effect::Create(_)) && !tracked.is_expected => {
            conntrack::assigned_helper(tables, scratch)
        }
        None => helper::NONE,
    }
}

/// Fills in what the helper is told of the segment, whose flow this is, or the new one on
/// the desk; the adapter adds where the frame was.
#[inline(always)]
pub fn describe(scratch: &mut Scratch, flow: Option<&Flow>, direction: Direction, now: Nanos) {
    let Scratch { punt, headers, key, flow: new, .. } = scratch;
    let flow = flow.unwrap_or(new);
    *punt = Punt {
        at: now,
        flow_created: flow.created,
        flow: key.tuple(flow.originator()),
        seq: headers.seq,
        ack: headers.ack,
        l3: headers.l3 as u16,
        l4: headers.l4 as u16,
        payload: headers.payload as u16,
        payload_len: headers.payload_len as u16,
        direction: direction as u8,
        helper: flow.helper,
        picked_up: u8::from(flow.has(status::PICKED_UP)),
        ..Punt::default()
    };
}

//! Fragments after the first: they have no ports, so they inherit what their
//! first fragment was granted (RFC 791 section 3.2, RFC 8200 section 4.5).
//!
//! One that comes before its first waits with the daemon, and is judged when the
//! first one has come: `docs/adr/0004`. Fragments that overlap make the whole
//! datagram worthless (RFC 5722), as in the kernel's reassembly.

mod early;
mod grant;
mod spans;

pub use early::{Early, EarlyKind, MAX_HELD_PER_SECOND, Visit};
pub use grant::{FragmentGrant, FragmentKey};
pub use spans::{Fit, Spans};

use crate::{
    conntrack,
    control::HEARTBEAT_LIMIT,
    flow::protocol,
    mangle::change,
    nat::desk::done,
    path,
    rule::Chain,
    scratch::Scratch,
    seq::Seq,
    tables::Tables,
    time::Nanos,
    verdict::{DropReason, Verdict},
};

/// How long the fragments of a refused first one are known for what they are.
/// Those that come later wait in vain.
const REFUSAL: Nanos = Nanos::from_secs(2);

/// The key of the datagram that the fragment in `scratch` belongs to.
#[inline(always)]
fn key(scratch: &Scratch) -> FragmentKey {
    let mut key = FragmentKey::of(&scratch.headers, scratch.walk.in_ifindex);
    // All fragments of a datagram come with the same addresses.
    if scratch.nat.has(done::CAME | done::TURNED) {
        (key.src, key.dst) = (scratch.nat.wire.src, scratch.nat.wire.dst);
    }
    key
}

/// Whether the first fragment in `scratch` repeats or contradicts one that was
/// granted, of a datagram that is still on its way.
#[inline(always)]
pub fn is_repeated<T: Tables>(tables: &T, scratch: &mut Scratch, now: Nanos) -> bool {
    scratch.fragment = key(scratch);
    match tables.fragment(&scratch.fragment) {
        Some(grant) if grant.expires.is_after(now) => grant.is_repeated(&scratch.headers),
        _ => false,
    }
}

/// Notes that the first fragment in `scratch` was accepted, and tells whoever
/// waits for it.
#[inline(always)]
pub fn grant<T: Tables>(tables: &T, scratch: &mut Scratch, now: Nanos) {
    scratch.fragment = key(scratch);
    scratch.grant = FragmentGrant::of_first(&scratch.headers);
    scratch.grant.expires = now.after(tables.timeouts().fragment);
    scratch.grant.verdict = path::verdict_to_remember(&scratch.walk);
    scratch.grant.verdict.stamp = scratch.walk.generation;
    scratch.grant.chain = scratch.walk.chain;
    scratch.grant.mangling = scratch.mangling;
    scratch.grant.mangling.changes &= change::OF_FRAGMENTS;
    scratch.grant.leaves = u8::from(scratch.nat.has(done::LEAVES));
    scratch.grant.source = scratch.nat.leaving.src;
    tables.grant_fragments(&scratch.fragment, &scratch.grant);
    tell(tables, scratch, EarlyKind::Granted, now);
}

/// Notes that the first fragment in `scratch` was dropped, and tells whoever waits
/// for it.
#[inline(always)]
pub fn refuse<T: Tables>(tables: &T, scratch: &mut Scratch, now: Nanos) {
    scratch.fragment = key(scratch);
    tables.refuse_fragments(&scratch.fragment, now.after(REFUSAL));
    tell(tables, scratch, EarlyKind::Refused, now);
}

/// The grant or refusal stands: whoever notes later that it waits will find it.
#[inline(always)]
fn tell<T: Tables>(tables: &T, scratch: &mut Scratch, kind: EarlyKind, now: Nanos) {
    if tables.is_awaited(&scratch.fragment) {
        scratch.early = Early::about(&scratch.fragment, kind, now);
        tables.tell_waiting(&scratch.early);
    }
}

/// What a later fragment gets of its first one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inherited {
    Accept,
    Wait,
    Drop(DropReason),
}

impl Inherited {
    const ACCEPT: u32 = 0;
    const WAIT: u32 = 1;
    const DROP: u32 = 2;

    /// As a number, as functions of the kernel return it.
    #[inline(always)]
    pub const fn pack(self) -> u32 {
        match self {
            Self::Accept => Self::ACCEPT,
            Self::Wait => Self::WAIT,
            Self::Drop(reason) => Self::DROP + reason as u32,
        }
    }

    /// The inverse of [`Inherited::pack`].
    #[inline(always)]
    pub fn unpack(packed: u32) -> Self {
        match packed {
            Self::ACCEPT => Self::Accept,
            Self::WAIT => Self::Wait,
            dropped => {
                let reason = DropReason::from_byte((dropped - Self::DROP) as u8);
                Self::Drop(reason.unwrap_or(DropReason::FragmentUnknown))
            }
        }
    }

    #[inline(always)]
    pub const fn verdict(self, chain: Chain) -> Verdict {
        match self {
            Self::Accept => Verdict::Accept(chain),
            Self::Wait => Verdict::Wait(chain),
            Self::Drop(reason) => Verdict::Drop(reason),
        }
    }
}

/// Judges a later fragment by what the first one was granted, on the same way
/// (`scratch.walk`), and counts it at the same rules and flow.
#[inline(always)]
pub fn inherit<T: Tables>(
    tables: &T,
    scratch: &mut Scratch,
    visit: Visit,
    now: Nanos,
) -> Inherited {
    scratch.fragment = key(scratch);
    let Some(grant) = tables.fragment(&scratch.fragment) else {
        return without_first(tables, scratch, visit, now);
    };
    if !grant.expires.is_after(now) {
        return without_first(tables, scratch, visit, now);
    }
    if grant.mangling.has(change::MARK | change::TOS) {
        // The whole datagram goes the way that these have chosen.
        scratch.walk.out_ifindex = grant.verdict.out_ifindex;
        scratch.walk.chain = grant.chain;
    }
    if grant.verdict.out_ifindex != scratch.walk.out_ifindex {
        return Inherited::Drop(DropReason::FragmentUnknown);
    }
    if !grant.takes(&scratch.headers) {
        return Inherited::Drop(DropReason::FragmentOverlap);
    }
    // Rules of an older generation have no counters any more.
    if grant.verdict.stamp == scratch.walk.generation {
        scratch.walk.hits = grant.verdict.hits;
        path::count_hits(tables, scratch);
    }
    scratch.mangling = grant.mangling;
    scratch.quoted = grant.tuple;
    if grant.leaves != 0 {
        scratch.nat.inside = scratch.headers.tuple;
        scratch.nat.leaving = scratch.headers.tuple;
        scratch.nat.leaving.src = grant.source;
        scratch.nat.done |= done::LEAVES;
    }
    account(tables, scratch, grant, now);
    if grant.is_complete() {
        tables.forget_fragments(&scratch.fragment);
    }
    Inherited::Accept
}

/// What becomes of a later fragment as long as there is no first one.
#[inline(always)]
fn without_first<T: Tables>(
    tables: &T,
    scratch: &mut Scratch,
    visit: Visit,
    now: Nanos,
) -> Inherited {
    let is_new = match visit {
        Visit::New => true,
        Visit::Waited => false,
        Visit::NoSpace => return Inherited::Drop(DropReason::FragmentOverflow),
    };
    let is_refused = tables.refusal(&scratch.fragment).is_some_and(|expires| expires.is_after(now));
    let is_daemon_away = now.since(tables.heartbeat()).is_after(HEARTBEAT_LIMIT);
    if !is_new || is_refused || is_daemon_away {
        return Inherited::Drop(DropReason::FragmentUnknown);
    }
    if !scratch.holds.spend(now, MAX_HELD_PER_SECOND) {
        return Inherited::Drop(DropReason::FragmentOverflow);
    }
    scratch.early = Early::about(&scratch.fragment, EarlyKind::Fragment, now);
    Inherited::Wait
}

#[inline(always)]
fn account<T: Tables>(tables: &T, scratch: &mut Scratch, grant: &FragmentGrant, now: Nanos) {
    let sender = tables.key_of(&scratch.quoted, &mut scratch.key);
    if let Some((_, flow)) = conntrack::find(tables, &scratch.key, now) {
        let direction = flow.direction(sender);
        let side = flow.side_mut(direction);
        side.packets += 1;
        side.bytes += u64::from(scratch.headers.ip_len);
        // A side without a window has no numbers yet.
        if scratch.quoted.protocol == protocol::TCP && side.window.max_size != 0 {
            let end = Seq(grant.sequence_after(&scratch.headers));
            if side.window.end.is_before(end) {
                side.window.end = end;
            }
        }
    }
}

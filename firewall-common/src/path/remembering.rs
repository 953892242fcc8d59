//! Verdicts that flows remember.

use crate::{
    conntrack::{Effect, Tracked},
    flow::{CachedVerdict, CtState},
    scratch::Scratch,
    tables::Tables,
    verdict::Stat,
    walk::{Outcome, Walk},
};

/// Whether the flow remembers a verdict that holds for this packet. Segments that begin or
/// end a connection walk the rules, which may ask for their flags.
#[inline(always)]
pub(super) fn is_remembered(tracked: &Tracked<'_>, scratch: &Scratch) -> bool {
    let Some((_, flow)) = &tracked.flow else { return false };
    if !matches!(tracked.ctstate, CtState::Established) || !scratch.headers.is_plain() {
        return false;
    }
    holds(&flow.side(tracked.direction).cached, &scratch.walk)
}

/// Whether a remembered verdict is of this ruleset and these sets, and between these interfaces.
#[inline(always)]
const fn holds(cached: &CachedVerdict, walk: &Walk) -> bool {
    walk.has_stamp(cached.stamp)
        && cached.in_ifindex == walk.in_ifindex
        && cached.out_ifindex == walk.out_ifindex
}

#[inline(always)]
pub(super) fn count_remembered<T: Tables>(
    tables: &T,
    scratch: &mut Scratch,
    tracked: &Tracked<'_>,
) -> Outcome {
    if let Some((_, flow)) = &tracked.flow {
        let sifted = scratch.walk.hit_count as usize;
        scratch.walk.hits = flow.side(tracked.direction).cached.hits;
        // Those of table raw stand first, and have counted if it was asked before.
        for (at, hit) in scratch.walk.hits.iter_mut().enumerate() {
            if at < sifted {
                *hit = 0;
            }
        }
        count_hits(tables, scratch);
    }
    tables.count(Stat::CacheHit as u32);
    Outcome::Accept
}

/// Moves the counters of the rules that the walk has noted.
#[inline(always)]
pub(crate) fn count_hits<T: Tables>(tables: &T, scratch: &Scratch) {
    for hit in scratch.walk.hits {
        if hit == 0 {
            continue;
        }
        let bytes = u64::from(scratch.headers.ip_len);
        tables.count_rule(scratch.walk.slot, u32::from(hit) - 1, bytes);
    }
}

/// Lets the next packets of an established direction skip the walk.
#[inline(always)]
pub(super) fn remember(scratch: &Scratch, tracked: &mut Tracked<'_>) {
    let Some((_, flow)) = &mut tracked.flow else { return };
    if !matches!(tracked.ctstate, CtState::Established)
        || !matches!(tracked.effect, Effect::Advance(_))
        || !scratch.headers.is_plain()
        || !scratch.walk.is_cacheable()
    {
        return;
    }
    let side = flow.side_mut(tracked.direction);
    if !holds(&side.cached, &scratch.walk) {
        side.cached = verdict_to_remember(&scratch.walk);
    }
}

#[inline(always)]
pub(crate) const fn verdict_to_remember(walk: &Walk) -> CachedVerdict {
    CachedVerdict {
        stamp: walk.stamp_to_remember(),
        in_ifindex: walk.in_ifindex,
        out_ifindex: walk.out_ifindex,
        hits: walk.hits,
    }
}

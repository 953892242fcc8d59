//! Fragments after the first: they have no ports, so they inherit what their
//! first fragment was granted (RFC 791 section 3.2, RFC 8200 section 4.5).

use crate::{
    flow::{Direction, FlowKey},
    path,
    scratch::Scratch,
    tables::{FragmentGrant, FragmentKey, Route, Tables},
    time::Nanos,
    verdict::{DropReason, Verdict},
};

use crate::conntrack;

/// Notes that the first fragment in `scratch` was accepted.
#[inline(always)]
pub fn grant<T: Tables>(tables: &T, scratch: &mut Scratch, now: Nanos) {
    scratch.fragment = key(scratch);
    scratch.grant = FragmentGrant {
        expires: now.after(tables.timeouts().fragment),
        tuple: scratch.headers.tuple,
        verdict: path::verdict_to_remember(&scratch.walk),
        end: u32::from(scratch.headers.fragment_offset),
    };
    tables.grant_fragments(&scratch.fragment, &scratch.grant);
}

/// Judges a later fragment by what the first one was granted, between the same
/// interfaces, and counts it at the same rules and flow.
#[inline(always)]
pub fn inherit<T: Tables>(tables: &T, scratch: &mut Scratch, route: &Route, now: Nanos) -> Verdict {
    scratch.fragment = key(scratch);
    let Some(grant) = tables.fragment(&scratch.fragment) else {
        return Verdict::Drop(DropReason::FragmentUnknown);
    };
    let is_same_way = grant.verdict.in_ifindex == route.in_ifindex
        && grant.verdict.out_ifindex == route.out_ifindex;
    if !grant.expires.is_after(now) || !is_same_way {
        return Verdict::Drop(DropReason::FragmentUnknown);
    }
    // It would rewrite what the first one was judged by (RFC 1858, RFC 5722).
    if u32::from(scratch.headers.fragment_offset) < grant.end {
        return Verdict::Drop(DropReason::FragmentOverlap);
    }
    // Rules of an older generation have no counters any more.
    if grant.verdict.generation == scratch.walk.generation {
        scratch.walk.hits = grant.verdict.hits;
        path::count_hits(tables, scratch);
    }
    scratch.quoted = grant.tuple;
    account(tables, scratch, now);
    Verdict::Accept(route.chain)
}

#[inline(always)]
fn account<T: Tables>(tables: &T, scratch: &mut Scratch, now: Nanos) {
    let (key, sender) = FlowKey::of(&scratch.quoted);
    scratch.key = key;
    if let Some((_, flow)) = conntrack::find(tables, &scratch.key, now) {
        let direction: Direction = flow.direction(sender);
        let side = flow.side_mut(direction);
        side.packets += 1;
        side.bytes += u64::from(scratch.headers.ip_len);
    }
}

#[inline(always)]
fn key(scratch: &Scratch) -> FragmentKey {
    let headers = &scratch.headers;
    FragmentKey {
        src: headers.tuple.src,
        dst: headers.tuple.dst,
        id: headers.fragment_id,
        // In IPv6 the first fragment knows another number than the later ones.
        protocol: if headers.version == 4 { headers.tuple.protocol } else { 0 },
        _pad: [0; 3],
    }
}

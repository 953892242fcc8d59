//! Targets that change packets and marks: random ones, and what they do by the plainest
//! means.

use firewall_common::{
    addr::Family,
    extra::{Facts, facts::number},
    flow::protocol,
};
use proptest::{prelude::*, sample::select};

use super::interpreter::Subject;
use crate::rules::{
    extra::Masked,
    mangle::{CtMark, Hops, Mangle, Masks, SegmentSize},
};

/// The MTU of every way here.
pub(super) const PATH_MTU: u32 = 1_000;

/// What rules have made of a packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Made {
    mark: u32,
    ct_mark: u32,
    ttl: u32,
    tos: u32,
    mss: Option<u32>,
}

impl Made {
    pub(super) fn of(facts: &Facts) -> Self {
        let has_mss = facts.has_number(number::MSS, true);
        Self {
            mark: facts.number(number::MARK, true),
            ct_mark: facts.number(number::CT_MARK, true),
            ttl: facts.number(number::TTL, true),
            tos: facts.number(number::TOS, true),
            mss: has_mss.then(|| facts.number(number::MSS, true)),
        }
    }

    pub(super) fn judged(subject: &Subject) -> Self {
        Self {
            mark: subject.seen.mark,
            ct_mark: subject.seen.ct_mark,
            ttl: subject.headers.ttl.into(),
            tos: subject.headers.tos.into(),
            mss: subject.seen.mss.map(u32::from),
        }
    }
}

pub(super) fn apply(mangle: &Mangle, subject: &mut Subject) {
    let is_tracked = subject.state & (1 | 2 | 4) != 0;
    let change = |was: u32, Masked { value, mask }: Masked| (was & !mask) ^ value;
    let seen = &mut subject.seen;
    match *mangle {
        Mangle::Mark(mark) => seen.mark = change(seen.mark, mark),
        Mangle::CtMark(_) if !is_tracked => {}
        Mangle::CtMark(CtMark::Set(mark)) => seen.ct_mark = change(seen.ct_mark, mark),
        Mangle::CtMark(CtMark::Save(Masks { packet, connection })) => {
            seen.ct_mark = (seen.ct_mark & !connection) ^ (seen.mark & packet);
        }
        Mangle::CtMark(CtMark::Restore(Masks { packet, connection })) => {
            seen.mark = (seen.mark & !packet) ^ (seen.ct_mark & connection);
        }
        Mangle::Dscp(dscp) => subject.headers.tos = subject.headers.tos & 3 | dscp << 2,
        Mangle::Tos(tos) => subject.headers.tos = change(subject.headers.tos.into(), tos) as u8,
        Mangle::Ttl(hops) | Mangle::HopLimit(hops) => {
            let ttl = subject.headers.ttl;
            subject.headers.ttl = match hops {
                Hops::Set(count) => count,
                Hops::Add(count) => ttl.saturating_add(count),
                Hops::Subtract(count) => ttl.saturating_sub(count),
            };
        }
        Mangle::SegmentSize(size) => segment_size(size, subject),
    }
}

fn segment_size(size: SegmentSize, subject: &mut Subject) {
    let (headers, least, default) = match subject.headers.family() {
        Family::Ipv4 => (40, PATH_MTU, 536),
        Family::Ipv6 => (60, PATH_MTU, 1_220),
    };
    let size = match size {
        SegmentSize::Set(size) => size,
        SegmentSize::Clamp => (least - headers) as u16,
    };
    match subject.seen.mss {
        _ if subject.headers.tuple.protocol != protocol::TCP => {}
        Some(mss) => subject.seen.mss = Some(mss.min(size)),
        None => {
            subject.seen.mss = Some(size.min(default));
            subject.seen.options.push(2);
            subject.headers.ip_len += 4;
        }
    }
}

fn masked(most: u32) -> impl Strategy<Value = Masked> {
    (0..4u32, select(vec![most, 1, 2, 0])).prop_map(|(value, mask)| Masked { value, mask })
}

/// One that may stand in any rule of table mangle.
pub(super) fn any(family: Family) -> BoxedStrategy<Mangle> {
    let masks = (select(vec![u32::MAX, 1, 2]), select(vec![u32::MAX, 1, 3]))
        .prop_map(|(packet, connection)| Masks { packet, connection });
    let ct_mark = prop_oneof![
        masked(u32::MAX).prop_map(CtMark::Set),
        masks.clone().prop_map(CtMark::Save),
        masks.prop_map(CtMark::Restore),
    ];
    let marks =
        prop_oneof![masked(u32::MAX).prop_map(Mangle::Mark), ct_mark.prop_map(Mangle::CtMark)];
    let hops = prop_oneof![
        (0..5u8).prop_map(Hops::Set),
        (1..5u8).prop_map(Hops::Add),
        (1..5u8).prop_map(Hops::Subtract)
    ]
    .prop_map(move |hops| match family {
        Family::Ipv4 => Mangle::Ttl(hops),
        Family::Ipv6 => Mangle::HopLimit(hops),
    });
    let bits =
        prop_oneof![(0..2u8).prop_map(Mangle::Dscp), masked(0xff).prop_map(Mangle::Tos), hops];
    prop_oneof![marks, bits].boxed()
}

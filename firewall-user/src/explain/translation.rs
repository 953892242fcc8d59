//! What becomes of a packet's ends: by a rule of table nat, or with its connection.

use firewall_common::{
    flow::{Direction, Flow, FlowKey, Sender, Tuple},
    nat::{Translation, desk::done},
    rule::NO_ENTRY,
    scratch::Scratch,
    tables::FlowTable,
    time::Nanos,
};

use anyhow::Result;

use super::{frame::Asked, tracking::endpoints};
use crate::kernel::maps::Maps;

/// Where a packet stands behind its translation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Inside {
    pub(super) ends: Tuple,
    /// The way in, where it comes from a wire face.
    pub(super) way: Option<(FlowKey, Translation)>,
}

impl Inside {
    /// By the translations of flows that live.
    pub(super) fn of(maps: &Maps, wire: &Tuple, now: Nanos) -> Result<Self> {
        let (key, sender) = FlowKey::of(wire);
        let mut ends = *wire;
        let way = maps.translation(&key)?.filter(|translation| translation.is_from(sender));
        if let Some(translation) = &way {
            translation.apply(&mut ends);
        }
        let inside = FlowKey::of(&ends).0;
        let has_face = maps.flow(&inside, now)?.is_some_and(|(_, flow)| {
            flow.is_translated()
                && [flow.wire_original(&inside), flow.wire_reply(&inside)].contains(wire)
        });
        match way.filter(|_| has_face) {
            Some(way) => Ok(Self { ends, way: Some((key, way)) }),
            None => Ok(Self { ends: *wire, way: None }),
        }
    }
}

/// A flow that a packet on the stage has begun, and which of its ends sends the next one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Begun {
    pub(super) table: FlowTable,
    pub(super) key: FlowKey,
    pub(super) flow: Flow,
    pub(super) sender: Sender,
}

/// The answer as whoever answers sends it: to whom the packet seemed to come from.
pub(super) fn answer(answer: Asked, asked: &Inside, flow: Option<(FlowKey, Flow)>) -> Asked {
    let Some((key, flow)) = flow.filter(|(_, flow)| flow.is_translated()) else { return answer };
    let (_, sender) = FlowKey::of(&asked.ends);
    let back = match flow.direction(sender) {
        Direction::Original => flow.wire_reply(&key),
        Direction::Reply => flow.wire_original(&key),
    };
    let icmp_id = back.sport | back.dport;
    Asked {
        src: back.src.to_ip(),
        dst: back.dst.to_ip(),
        sport: if answer.is_icmp() { answer.sport } else { back.sport },
        dport: if answer.is_icmp() { answer.dport } else { back.dport },
        icmp_id: if answer.is_icmp() { icmp_id } else { answer.icmp_id },
        ..answer
    }
}

/// What is said of it, one sentence each; `name` calls a compiled rule.
pub(super) fn notes(
    scratch: &Scratch,
    flow: Option<&Flow>,
    name: &dyn Fn(u32) -> String,
) -> Vec<String> {
    if let Some(flow) = flow {
        return known(scratch, flow).into_iter().collect();
    }
    let (desk, walk) = (&scratch.nat, &scratch.walk);
    let mut notes = Vec::new();
    if desk.has(done::TURNED) {
        let to = endpoints(&scratch.headers.tuple);
        notes.push(match walk.order_in {
            _ if desk.has(done::LED) => format!("its control connection makes it {to}"),
            NO_ENTRY => format!("another connection has its ends: it becomes {to}"),
            rule => format!("{} makes it {to}", name(rule)),
        });
    }
    if desk.has(done::LEAVES) {
        let by = match walk.order_out {
            _ if desk.has(done::FOLLOWS) => "its control connection: it".to_owned(),
            NO_ENTRY => "another connection has its ends: it".to_owned(),
            rule => format!("{}: it", name(rule)),
        };
        notes.push(format!("{by} leaves as {}", endpoints(&desk.leaving)));
    }
    notes
}

fn known(scratch: &Scratch, flow: &Flow) -> Option<String> {
    let (key, _) = FlowKey::of(&scratch.headers.tuple);
    flow.is_translated().then(|| {
        format!(
            "its connection is translated: {} goes on as {}",
            endpoints(&flow.wire_original(&key)),
            endpoints(&flow.wire_reply(&key).reversed())
        )
    })
}

//! What becomes of flows, told to whoever watches: they begin, change and end.
//!
//! Each beginning and each end is told once: whoever took the entry out of its
//! table tells of its end, and an entry can be taken out once. A change is told
//! once for each packet that moved the state or the status. Nothing is written,
//! and nothing but one bit looked at, while nobody watches
//! ([`option::REPORT_FLOWS`]).

use core::mem::size_of;

use bytemuck::{Pod, Zeroable};

use crate::{
    control::option,
    flow::{Flow, FlowKey},
    scratch::Scratch,
    tables::{FlowTable, Tables},
    time::Nanos,
};

/// What a [`FlowEvent`] tells, as conntrack(8) calls it.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FlowChange {
    /// The first packet was accepted.
    New = 0,
    /// A packet changed the protocol's state, or the flow was answered or assured.
    Update = 1,
    /// It is no longer tracked: refused, replaced, expired or deleted.
    Destroy = 2,
}

impl FlowChange {
    pub const ALL: [Self; 3] = [Self::New, Self::Update, Self::Destroy];

    pub const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::New),
            1 => Some(Self::Update),
            2 => Some(Self::Destroy),
            _ => None,
        }
    }
}

/// The record of the ring `flow_events`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct FlowEvent {
    pub at: Nanos,
    pub key: FlowKey,
    /// As it stands after the change; the last counters when it has ended.
    pub flow: Flow,
    /// A [`FlowChange`].
    pub change: u8,
    pub _pad: [u8; 7],
}

const _: () = assert!(size_of::<FlowEvent>() == 280);

/// Whether somebody wants to be told.
#[inline(always)]
pub fn is_watched<T: Tables>(tables: &T) -> bool {
    tables.options().has(option::REPORT_FLOWS)
}

/// Puts the flow in `scratch` into the embryonic table, in place of an expired or
/// closed one, and tells of both; `false` when there is no space.
#[inline(always)]
pub fn begin<T: Tables>(tables: &T, scratch: &mut Scratch, now: Nanos) -> bool {
    end(tables, scratch, now);
    if !tables.create_first(&scratch.key, &scratch.flow) {
        // Another CPU has begun it a moment ago, and told so; or there is no space.
        return tables.create(&scratch.key, &scratch.flow);
    }
    tables.copy_flow(&scratch.flow, &mut scratch.flow_event.flow);
    tell(tables, scratch, FlowChange::New, now);
    true
}

/// Tells how the flow with the key in `scratch` stands now.
#[inline(always)]
pub fn update<T: Tables>(tables: &T, scratch: &mut Scratch, now: Nanos) {
    let flow = match tables.flow(FlowTable::Assured, &scratch.key) {
        Some(flow) => flow,
        None => match tables.flow(FlowTable::Embryonic, &scratch.key) {
            Some(flow) => flow,
            None => return,
        },
    };
    tables.copy_flow(flow, &mut scratch.flow_event.flow);
    tell(tables, scratch, FlowChange::Update, now);
}

/// Takes what stands under the key in `scratch` out of the tables, and tells of it.
#[inline(always)]
pub fn end<T: Tables>(tables: &T, scratch: &mut Scratch, now: Nanos) {
    end_in(tables, FlowTable::Assured, scratch, now);
    end_in(tables, FlowTable::Embryonic, scratch, now);
}

#[inline(always)]
fn end_in<T: Tables>(tables: &T, table: FlowTable, scratch: &mut Scratch, now: Nanos) {
    let Some(flow) = tables.flow(table, &scratch.key) else { return };
    // Before it goes: its memory may serve another flow at once.
    tables.copy_flow(flow, &mut scratch.flow_event.flow);
    if tables.take(table, &scratch.key) {
        tell(tables, scratch, FlowChange::Destroy, now);
    }
}

#[inline(always)]
fn tell<T: Tables>(tables: &T, scratch: &mut Scratch, change: FlowChange, now: Nanos) {
    let event = &mut scratch.flow_event;
    event.at = now;
    event.key = scratch.key;
    event.change = change as u8;
    tables.report_flow(&scratch.flow_event);
}

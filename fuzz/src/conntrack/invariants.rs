//! What holds of every flow at every time.

use std::collections::HashMap;

use firewall_common::{
    flow::{Flow, FlowKey, Sender, State, protocol, status, window},
    tables::FlowTable,
    testing::Memory,
    time::Nanos,
};

/// All bits of [`window`].
const WINDOW_FLAGS: u8 = window::SCALES
    | window::SACK
    | window::CLOSED_FIRST
    | window::LIBERAL
    | window::UNACKNOWLEDGED
    | window::MAX_ACK_KNOWN;

/// Larger shifts are none (RFC 7323 section 2.3).
const MAX_SCALE: u8 = 14;

pub(super) fn hold(memory: &Memory, flows: &HashMap<FlowKey, (FlowTable, Flow)>, now: Nanos) {
    for (key, (table, flow)) in flows {
        of_flow(memory, key, *table, flow, now);
    }
    let in_table = |wanted| flows.values().filter(|(table, _)| *table == wanted).count();
    assert!(in_table(FlowTable::Assured) <= memory.assured_size);
    assert!(in_table(FlowTable::Embryonic) <= memory.embryonic_size);
}

fn of_flow(memory: &Memory, key: &FlowKey, table: FlowTable, flow: &Flow, now: Nanos) {
    assert!(flow.originator <= 1, "{flow:?}");
    let state = State::from_byte(flow.state).expect("a state");
    assert_eq!(state == State::None, key.protocol() != protocol::TCP, "{key:?} {flow:?}");
    assert_eq!(flow.has(status::ASSURED), table == FlowTable::Assured, "{flow:?}");
    if flow.has(status::ASSURED) {
        assert!(flow.has(status::SEEN_REPLY), "ASSURED without an answer: {flow:?}");
    }
    assert!(flow.created <= now && flow.expires <= now.after(longest(memory)), "{flow:?}");
    meets_its_reply(key);
    for side in flow.sides {
        assert!(side.window.scale <= MAX_SCALE, "{flow:?}");
        assert_eq!(side.window.flags & !WINDOW_FLAGS, 0, "{flow:?}");
        assert!(side.cached.stamp == 0 || side.cached.stamp == memory.generation);
        assert!(side.bytes >= side.packets * 20, "{flow:?}");
    }
    assert!(flow.last.segment <= 5 && flow.last.direction <= 1, "{flow:?}");
}

fn meets_its_reply(key: &FlowKey) {
    for sender in [Sender::Low, Sender::High] {
        let tuple = key.tuple(sender);
        assert_eq!(FlowKey::of(&tuple), (*key, sender));
        assert_eq!(FlowKey::of(&tuple.reversed()).0, *key);
    }
}

fn longest(memory: &Memory) -> Nanos {
    let timeouts = &memory.timeouts;
    let tcp = timeouts.tcp.into_iter().max().unwrap_or_default();
    tcp.max(timeouts.generic).max(timeouts.udp_stream)
}

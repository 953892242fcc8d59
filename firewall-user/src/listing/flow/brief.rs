//! A flow's beginning or end on one short line, beside the drops.

use std::time::SystemTime;

use firewall_common::{
    addr::{Addr, Family},
    flow::{Direction, Tuple, status},
    flow_event::FlowChange,
};

use super::{
    super::{
        line::Line,
        protocol::{self, Layout},
        time::rfc3339,
    },
    FlowView,
};

/// `2026-11-21T10:16:57.042Z NEW tcp 192.0.2.2:4000 -> 198.51.100.2:21 SYN_SENT
/// helper=ftp`, `… END tcp … TIME_WAIT [ASSURED] packets=6/5 bytes=334/318 after=12s`,
/// each on one line.
pub fn write(line: &mut Line, view: &FlowView, change: FlowChange, time: SystemTime) {
    line.text(&rfc3339(time)).text(match change {
        FlowChange::New => " NEW ",
        FlowChange::Update => " UPDATE ",
        FlowChange::Destroy => " END ",
    });
    endpoints(line, &view.original());
    translation(line, view);
    if !view.state().is_empty() {
        line.text(" ").text(view.state());
    }
    if view.flow.has(status::ASSURED) {
        line.text(" [ASSURED]");
    }
    match change {
        FlowChange::Destroy => result(line, view),
        FlowChange::New | FlowChange::Update => origin(line, view),
    }
}

/// What the server sees as the client, and who it is: ` src-nat=203.0.113.1:4000
/// dst-nat=192.0.2.9:80`.
fn translation(line: &mut Line, view: &FlowView) {
    let reply = view.reply();
    let has_ports = protocol::layout(reply.protocol) == Layout::Ports;
    let translations = view.translations();
    if translations & status::SOURCE_TRANSLATED != 0 {
        endpoint(line.text(" src-nat="), reply.dst, has_ports.then_some(reply.dport));
    }
    if translations & status::DESTINATION_TRANSLATED != 0 {
        endpoint(line.text(" dst-nat="), reply.src, has_ports.then_some(reply.sport));
    }
}

/// What is known from the beginning on.
fn origin(line: &mut Line, view: &FlowView) {
    if let Some(helper) = view.helper() {
        line.text(" helper=").text(helper);
    }
    if let Some(master) = &view.master {
        line.text(" master=");
        endpoint(line, master.src, Some(master.sport));
        line.text("->");
        endpoint(line, master.dst, Some(master.dport));
    }
}

/// Original and reply direction.
fn result(line: &mut Line, view: &FlowView) {
    let [original, reply] =
        [Direction::Original, Direction::Reply].map(|direction| view.flow.side(direction));
    line.text(" packets=").number(original.packets).text("/").number(reply.packets);
    line.text(" bytes=").number(original.bytes).text("/").number(reply.bytes);
    line.text(" after=").number(view.now.since(view.flow.created).as_secs()).text("s");
}

fn endpoints(line: &mut Line, tuple: &Tuple) {
    match protocol::name(tuple.protocol) {
        Some(name) => line.text(name),
        None => line.number(tuple.protocol),
    };
    let has_ports = protocol::layout(tuple.protocol) == Layout::Ports;
    line.text(" ");
    endpoint(line, tuple.src, has_ports.then_some(tuple.sport));
    line.text(" -> ");
    endpoint(line, tuple.dst, has_ports.then_some(tuple.dport));
    if protocol::layout(tuple.protocol) == Layout::Icmp {
        line.text(" type=").number(tuple.icmp_type);
        line.text(" id=").number(tuple.sport | tuple.dport);
    }
}

/// `192.0.2.2:21`, `[2001:db8::2]:21`, or the address alone.
fn endpoint(line: &mut Line, address: Addr, port: Option<u16>) {
    match (port, address.family()) {
        (None, _) => line.address(address),
        (Some(port), Family::Ipv4) => line.address(address).text(":").number(port),
        (Some(port), Family::Ipv6) => line.text("[").address(address).text("]:").number(port),
    };
}

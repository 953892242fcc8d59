//! A flow as a JSON object (DESIGN.md, contracts).
//!
//! It is written by hand: a million of them are printed in a second. No name in it
//! has a letter that JSON would escape.

use std::time::SystemTime;

use firewall_common::{
    flow::{Direction, Flow, Tuple, status},
    flow_event::FlowChange,
};

use super::{
    super::{
        json,
        line::Line,
        protocol::{self, Layout},
        time::rfc3339,
    },
    FlowView, Icmp,
};

const STATUS_NAMES: [(u8, &str); 6] = [
    (status::SEEN_REPLY, "SEEN_REPLY"),
    (status::ASSURED, "ASSURED"),
    (status::EXPECTED, "EXPECTED"),
    (status::ENCRYPTED, "ENCRYPTED"),
    (status::SOURCE_TRANSLATED, "SRC_NAT"),
    (status::DESTINATION_TRANSLATED, "DST_NAT"),
];

/// One JSON object. `state` is null where the protocol has none; an ICMP flow
/// has `type`, `code` and `id` in place of the ports; a protocol without a name
/// goes by its number, as text.
pub fn write(line: &mut Line, view: &FlowView) {
    line.text("{");
    members(line, view);
}

/// The same object behind `"event":"new"`, `"update"` or `"destroy"`, and `"time"`.
pub fn write_event(line: &mut Line, view: &FlowView, change: FlowChange, time: SystemTime) {
    let event = match change {
        FlowChange::New => "new",
        FlowChange::Update => "update",
        FlowChange::Destroy => "destroy",
    };
    line.text("{\"event\":\"").text(event).text("\",\"time\":\"").text(&rfc3339(time));
    line.text("\",");
    members(line, view);
}

fn members(line: &mut Line, view: &FlowView) {
    let original = view.original();
    line.text("\"family\":\"").text(json::family(original.src));
    line.text("\",\"protocol\":\"");
    match protocol::name(original.protocol) {
        Some(name) => line.text(name),
        None => line.number(original.protocol),
    };
    line.text("\",\"timeout\":").number(view.timeout());
    name_or_null(line.text(",\"state\":"), Some(view.state()).filter(|name| !name.is_empty()));
    side(line.text(",\"original\":"), &original, Direction::Original, &view.flow);
    side(line.text(",\"reply\":"), &view.reply(), Direction::Reply, &view.flow);
    status_names(line.text(",\"status\":"), view.status());
    line.text(",\"mark\":").number(view.flow.mark);
    name_or_null(line.text(",\"helper\":"), view.helper());
    master(line.text(",\"master\":"), view.master.as_ref());
    line.text("}");
}

fn name_or_null(line: &mut Line, name: Option<&str>) {
    match name {
        Some(name) => line.text("\"").text(name).text("\""),
        None => line.text("null"),
    };
}

fn side(line: &mut Line, tuple: &Tuple, direction: Direction, flow: &Flow) {
    addresses(line, tuple);
    match protocol::layout(tuple.protocol) {
        Layout::Ports => ports(line, tuple),
        Layout::Icmp => {
            let Icmp { kind, code, id } = Icmp::of(tuple, direction);
            line.text(",\"type\":").number(kind).text(",\"code\":").number(code);
            line.text(",\"id\":").number(id);
        }
        Layout::Keys | Layout::Nothing => {}
    }
    let side = flow.side(direction);
    line.text(",\"packets\":").number(side.packets).text(",\"bytes\":").number(side.bytes);
    line.text("}");
}

fn addresses(line: &mut Line, tuple: &Tuple) {
    line.text("{\"src\":\"").address(tuple.src);
    line.text("\",\"dst\":\"").address(tuple.dst).text("\"");
}

fn ports(line: &mut Line, tuple: &Tuple) {
    line.text(",\"sport\":").number(tuple.sport).text(",\"dport\":").number(tuple.dport);
}

fn status_names(line: &mut Line, status: u8) {
    let mut separator = "[";
    for (_, name) in STATUS_NAMES.into_iter().filter(|(bit, _)| status & bit != 0) {
        line.text(separator).text("\"").text(name).text("\"");
        separator = ",";
    }
    line.text(if separator == "[" { "[]" } else { "]" });
}

fn master(line: &mut Line, master: Option<&Tuple>) {
    match master {
        Some(tuple) => {
            addresses(line, tuple);
            ports(line, tuple);
            line.text("}");
        }
        None => {
            line.text("null");
        }
    }
}

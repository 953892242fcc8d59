//! A flow as conntrack(8) prints it.

use firewall_common::{
    addr::Family,
    flow::{Direction, Tuple, status},
    flow_event::FlowChange,
};

use super::{
    super::{
        line::Line,
        protocol::{self, Layout},
    },
    FlowView, Icmp,
};

/// Whether packets and bytes are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Counters {
    Shown,
    Hidden,
}

/// `tcp      6 431999 ESTABLISHED src=… [ASSURED] mark=0 helper=ftp use=1`
pub fn write(line: &mut Line, view: &FlowView) {
    connection(line, view, Counters::Shown);
    line.text("mark=").number(view.flow.mark);
    if let Some(helper) = view.helper_text() {
        line.text(" helper=").text(helper);
    }
    line.text(" use=1");
}

/// What conntrack(8) shows of a flow when `-o` asks for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Labels {
    /// `extended`: the family.
    pub family: bool,
    pub id: bool,
}

/// As [`write`], with what is asked for besides.
pub fn write_labelled(line: &mut Line, view: &FlowView, labels: Labels) {
    family(line, view, labels);
    write(line, view);
    identifier(line, view, labels);
}

fn family(line: &mut Line, view: &FlowView, labels: Labels) {
    if labels.family {
        line.text(match view.original().src.family() {
            Family::Ipv4 => "ipv4     2 ",
            Family::Ipv6 => "ipv6     10 ",
        });
    }
}

fn identifier(line: &mut Line, view: &FlowView, labels: Labels) {
    if labels.id {
        line.text(" id=").number(view.identifier());
    }
}

/// ` [UPDATE] tcp      6 60 SYN_RECV src=…`; as the kernel's events, it has counters
/// only at the flow's end, the helper at its beginning, and a mark that is not zero.
pub fn write_event(line: &mut Line, view: &FlowView, change: FlowChange, labels: Labels) {
    let counters = match change {
        FlowChange::New | FlowChange::Update => Counters::Hidden,
        FlowChange::Destroy => Counters::Shown,
    };
    line.text(match change {
        FlowChange::New => "    [NEW] ",
        FlowChange::Update => " [UPDATE] ",
        FlowChange::Destroy => "[DESTROY] ",
    });
    family(line, view, labels);
    connection(line, view, counters);
    if view.flow.mark != 0 {
        line.text("mark=").number(view.flow.mark).text(" ");
    }
    if let (Some(helper), FlowChange::New) = (view.helper(), change) {
        line.text("helper=").text(helper).text(" ");
    }
    line.without_last_blank();
    identifier(line, view, labels);
}

/// From the protocol to `[ASSURED]`; each word is followed by a blank.
fn connection(line: &mut Line, view: &FlowView, counters: Counters) {
    let original = view.original();
    protocol_name(line, original.protocol);
    line.number(original.protocol).text(" ").number(view.timeout()).text(" ");
    word(line, view.state());
    direction(line, view, &original, Direction::Original, counters);
    word_if(line, !view.flow.has(status::SEEN_REPLY), "[UNREPLIED]");
    direction(line, view, &view.reply(), Direction::Reply, counters);
    word_if(line, view.flow.has(status::ASSURED), "[ASSURED]");
}

/// In a column of eight letters.
fn protocol_name(line: &mut Line, number: u8) {
    let name = protocol::name(number).unwrap_or("unknown");
    line.text(name);
    for _ in name.len()..=8 {
        line.text(" ");
    }
}

fn word(line: &mut Line, word: &str) {
    word_if(line, !word.is_empty(), word);
}

fn word_if(line: &mut Line, is_wanted: bool, word: &str) {
    if is_wanted {
        line.text(word).text(" ");
    }
}

fn direction(
    line: &mut Line,
    view: &FlowView,
    tuple: &Tuple,
    direction: Direction,
    counters: Counters,
) {
    line.text("src=").address(tuple.src).text(" dst=").address(tuple.dst).text(" ");
    match protocol::layout(tuple.protocol) {
        Layout::Ports => {
            line.text("sport=").number(tuple.sport).text(" dport=").number(tuple.dport).text(" ");
        }
        Layout::Icmp => {
            let Icmp { kind, code, id } = Icmp::of(tuple, direction);
            line.text("type=").number(kind).text(" code=").number(code);
            line.text(" id=").number(id).text(" ");
        }
        Layout::Keys => {
            line.text("srckey=").hex(tuple.sport).text(" dstkey=").hex(tuple.dport).text(" ");
        }
        Layout::Nothing => {}
    }
    if counters == Counters::Shown {
        let side = view.flow.side(direction);
        line.text("packets=").number(side.packets).text(" bytes=").number(side.bytes).text(" ");
    }
}

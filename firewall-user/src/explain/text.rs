//! An explanation for people.

use std::{fmt::Write as _, net::SocketAddr};

use firewall_common::{flow::protocol, verdict::DropReason};

use super::{Ending, Explanation, chunk, frame::Asked, walk::flags};
use crate::listing::protocol::{self as names, Layout};

/// Rules in a row that did not match, beyond which only their number is told.
const MANY: usize = 24;

/// Several lines: the packet, its ctstate, the rules that were considered, the end.
pub fn text(it: &Explanation) -> String {
    let mut out = packet(&it.packet);
    for (name, value) in [("in", &it.input), ("out", &it.output)] {
        if !value.is_empty() {
            let _ = write!(out, " {name}={value}");
        }
    }
    let _ = writeln!(out, " ({})", it.hook);
    if let (Some(ctstate), Some(why)) = (it.ctstate, &it.why) {
        let _ = writeln!(out, "ctstate {}: {why}", ctstate.name());
    }
    for note in &it.notes {
        let _ = writeln!(out, "note: {note}");
    }
    if it.is_remembered {
        out.push_str("note: the flow remembers this verdict; its packets skip these rules\n");
    }
    rules(&mut out, it);
    let _ = writeln!(out, "{} {}", it.verdict(), ending(it));
    out
}

/// `tcp 192.0.2.7:40000 -> 198.51.100.9:51000 SYN`
pub fn packet(asked: &Asked) -> String {
    let name = names::json_name(asked.protocol);
    let mut text = match names::layout(asked.protocol) {
        Layout::Ports => format!(
            "{name} {} -> {}",
            SocketAddr::new(asked.src, asked.sport),
            SocketAddr::new(asked.dst, asked.dport)
        ),
        _ => format!("{name} {} -> {}", asked.src, asked.dst),
    };
    if asked.protocol == protocol::SCTP {
        let _ = write!(text, " {}", chunk::name(asked.flags));
    }
    if asked.protocol == protocol::TCP {
        let _ = write!(text, " {}", flags(asked.flags));
    }
    if asked.is_icmp() {
        let _ = write!(text, " type={} code={}", asked.icmp.0, asked.icmp.1);
    }
    text
}

fn rules(out: &mut String, it: &Explanation) {
    let mut skipped = 0;
    for (at, one) in it.considered.iter().enumerate() {
        let behind = &it.considered[at + 1..];
        // The beginning and the end of a long row are shown.
        let is_amid = at >= MANY && behind.len() >= MANY;
        if !one.matches && is_amid {
            skipped += 1;
            continue;
        }
        if skipped > 0 {
            let _ = writeln!(out, "  ... {skipped} more rules that do not match");
            skipped = 0;
        }
        let sign = if one.matches { "yes" } else { "no" };
        let _ =
            write!(out, "  {:<16} {sign:<3} {}", it.rule_name(one.index), it.rule_text(one.index));
        if let Some(because) = &one.because {
            let _ = write!(out, "  [{because}]");
        }
        if let Some(place) = it.rule_place(one.index) {
            let _ = write!(out, "  {place}");
        }
        out.push('\n');
    }
}

/// What stands behind the verdict's word.
pub fn ending(it: &Explanation) -> String {
    let by = match it.decided {
        Some(index) => {
            let place = it.rule_place(index).map(|place| format!(" ({place})")).unwrap_or_default();
            format!("by {}{place}", it.rule_name(index))
        }
        None => String::new(),
    };
    match it.ending {
        Ending::Accept => by,
        Ending::Held => format!("{by}, once the FTP helper has read it"),
        Ending::Unread => format!("{by}, unread: the daemon that would read it is away"),
        Ending::Cookie => format!("{by}: the sender is asked for a SYN cookie"),
        Ending::Drop(DropReason::Rule | DropReason::Policy | DropReason::Reject) => by,
        Ending::Drop(reason) => format!("because of {}", reason.name()),
        Ending::Pass(stat) => format!("without judgement ({})", stat.name()),
    }
}

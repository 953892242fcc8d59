//! An explanation for programs: one JSON object on one line.

use serde_json::{Value, json};

use super::{Ending, Explanation, chunk, walk::flags};
use crate::{
    listing::protocol::{self as names, Layout},
    rules::Part,
};

/// `{"verdict":"drop","reason":"policy","chain":"FORWARD","ctstate":"NEW", …}`
pub fn json(it: &Explanation) -> String {
    let (held, reason) = match it.ending {
        Ending::Drop(reason) => (false, Some(reason.name())),
        Ending::Held => (true, None),
        _ => (false, None),
    };
    let named = |name: &String| (!name.is_empty()).then(|| name.clone());
    json!({
        "packet": packet(it),
        "in": named(&it.input),
        "out": named(&it.output),
        "hook": it.hook,
        "verdict": it.verdict().to_lowercase(),
        "reason": reason,
        "held": held,
        "unread": it.ending == Ending::Unread,
        "chain": it.chain.map(chain),
        "ctstate": it.ctstate.map(firewall_common::flow::CtState::name),
        "why": it.why,
        "notes": it.notes,
        "remembered": it.is_remembered,
        "rule": it.decided.map(|index| rule(it, index)),
        "considered": it.considered.iter().map(|one| {
            let mut value = rule(it, one.index);
            value["matches"] = one.matches.into();
            value["because"] = one.because.clone().into();
            value
        }).collect::<Vec<_>>(),
    })
    .to_string()
}

const fn chain(chain: firewall_common::rule::Chain) -> &'static str {
    use firewall_common::rule::Chain;
    match chain {
        Chain::Input => "INPUT",
        Chain::Forward => "FORWARD",
        Chain::Output => "OUTPUT",
        Chain::RawPrerouting => "raw PREROUTING",
        Chain::RawOutput => "raw OUTPUT",
        Chain::ManglePrerouting => "mangle PREROUTING",
        Chain::MangleInput => "mangle INPUT",
        Chain::MangleForward => "mangle FORWARD",
        Chain::MangleOutput => "mangle OUTPUT",
        Chain::ManglePostrouting => "mangle POSTROUTING",
        Chain::NatPrerouting => "nat PREROUTING",
        Chain::NatInput => "nat INPUT",
        Chain::NatOutput => "nat OUTPUT",
        Chain::NatPostrouting => "nat POSTROUTING",
    }
}

fn packet(it: &Explanation) -> Value {
    let asked = &it.packet;
    let mut value = json!({
        "protocol": names::json_name(asked.protocol),
        "src": asked.src,
        "dst": asked.dst,
    });
    match names::layout(asked.protocol) {
        Layout::Ports => {
            value["sport"] = asked.sport.into();
            value["dport"] = asked.dport.into();
        }
        Layout::Icmp => {
            value["type"] = asked.icmp.0.into();
            value["code"] = asked.icmp.1.into();
        }
        Layout::Keys | Layout::Nothing => {}
    }
    if asked.protocol == firewall_common::flow::protocol::SCTP {
        value["chunk"] = chunk::name(asked.flags).into();
    }
    if asked.protocol == firewall_common::flow::protocol::TCP {
        value["flags"] = flags(asked.flags).into();
    }
    value
}

/// A rule or a policy: `number` is null for a policy, file and line with it.
fn rule(it: &Explanation, index: u32) -> Value {
    let Some(origin) = it.running.compiled.origins.get(index as usize) else { return Value::Null };
    let number = match origin.part {
        Part::Rule(number) => Some(number),
        Part::Policy | Part::End => None,
    };
    let written = it.running.rule(index).map(|rule| &rule.origin);
    json!({
        "table": origin.table.name(),
        "chain": &*origin.chain,
        "number": number,
        "rule": it.rule_text(index),
        "file": written.map(|origin| &*origin.file),
        "line": written.map(|origin| origin.line),
    })
}

//! The answer, for people and for programs.

use std::{fmt::Write as _, net::SocketAddr};

use firewall_common::{flow::CtState, time::Nanos, verdict::DropReason};
use serde_json::{Value, json};

use super::{Answer, Told, Troubled, diagnosis::Diagnosis};
use crate::listing::{protocol, time::rfc3339};

/// Each cause on a line, with what is likely to be wrong below.
pub fn text(answer: &Answer) -> Vec<String> {
    let mut lines = Vec::new();
    for told in &answer.causes {
        lines.push(cause(told));
        lines.extend(told.diagnosis.iter().flat_map(diagnosis));
    }
    for found in &answer.host {
        lines.push("no drop of the firewall:".into());
        lines.extend(diagnosis(found));
    }
    for troubled in &answer.helpers {
        lines.push(trouble(troubled));
        lines.extend(diagnosis(&troubled.diagnosis));
    }
    if lines.is_empty() {
        lines.push("nothing was dropped since the daemon was started".into());
    }
    lines
}

fn diagnosis(found: &Diagnosis) -> [String; 2] {
    [format!("  {}: {}", found.name, found.message), format!("  do: {}", found.advice)]
}

/// `3 drops, the last 12 s ago: policy FORWARD in=eth0 … tcp 192.0.2.7:40000 -> …`
fn cause(told: &Told) -> String {
    let count = match told.cause.count {
        1 => "1 drop".to_owned(),
        count => format!("{count} drops, the last"),
    };
    let reason = told.dropped.reason.map_or("unknown", DropReason::name);
    let mut line = format!("{count} {} ago: {reason}", age(told.age));
    let by = told.dropped.rule.as_deref().unwrap_or(told.dropped.chain);
    for (name, value) in [("by ", by), ("in=", &told.input), ("out=", &told.output)] {
        if !value.is_empty() {
            let _ = write!(line, " {name}{value}");
        }
    }
    if let Some(ctstate) = told.dropped.ctstate {
        let _ = write!(line, " ctstate={}", ctstate.name());
    }
    if let Some(ends) = &told.ends {
        let name = protocol::json_name(ends.protocol);
        let (src, dst) = (ends.src.to_ip(), ends.dst.to_ip());
        let _ = match ends.ports {
            Some((sport, dport)) => write!(
                line,
                " {name} {} -> {}",
                SocketAddr::new(src, sport),
                SocketAddr::new(dst, dport)
            ),
            None => write!(line, " {name} {src} -> {dst}"),
        };
    }
    line
}

/// `3 times in a helper, the last 12 s ago:`
fn trouble(told: &Troubled) -> String {
    let count = match told.trouble.count {
        1 => "once in a helper,".to_owned(),
        count => format!("{count} times in a helper, the last"),
    };
    format!("{count} {} ago:", age(told.age))
}

fn age(age: Nanos) -> String {
    match age.as_secs() {
        seconds @ 0..=119 => format!("{seconds} s"),
        seconds @ 120..=7_199 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3_600),
    }
}

/// One object for each cause, for each mistake that shows in no drop, and for each trouble of a
/// helper, whose `count` is of times instead of drops.
pub fn json(answer: &Answer) -> Vec<String> {
    let causes = answer.causes.iter().map(|told| {
        let ends = told.ends.as_ref();
        json!({
            "count": told.cause.count,
            "last": rfc3339(told.last),
            "reason": told.dropped.reason.map(DropReason::name),
            "chain": Some(told.dropped.chain).filter(|chain| !chain.is_empty()),
            "rule": told.dropped.rule,
            "ctstate": told.dropped.ctstate.map(CtState::name),
            "in": Some(&told.input).filter(|name| !name.is_empty()),
            "out": Some(&told.output).filter(|name| !name.is_empty()),
            "protocol": ends.map(|ends| protocol::json_name(ends.protocol)),
            "src": ends.map(|ends| ends.src.to_ip()),
            "dst": ends.map(|ends| ends.dst.to_ip()),
            "sport": ends.and_then(|ends| ends.ports).map(|(sport, _)| sport),
            "dport": ends.and_then(|ends| ends.ports).map(|(_, dport)| dport),
            "diagnosis": told.diagnosis.as_ref().map(object),
        })
    });
    let host = answer.host.iter().map(|found| json!({ "count": 0, "diagnosis": object(found) }));
    let helpers = answer.helpers.iter().map(|told| {
        let event = &told.trouble.event;
        json!({
            "count": told.trouble.count,
            "last": rfc3339(told.last),
            "control": {
                "src": event.client.ip(),
                "dst": event.server.ip(),
                "sport": event.client.port(),
                "dport": event.server.port(),
            },
            "diagnosis": object(&told.diagnosis),
        })
    });
    causes.chain(host).chain(helpers).map(|value| value.to_string()).collect()
}

fn object(found: &Diagnosis) -> Value {
    json!({ "name": found.name, "message": found.message, "advice": found.advice })
}

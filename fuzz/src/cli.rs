//! What the command line reads, and what it prints of flows.
//!
//! The first byte chooses what the rest is: arguments, separated by NUL or line
//! ends, or the key and the value of a flow as they stand in a map.

use bytemuck::pod_read_unaligned;
use clap::Parser;
use firewall_common::{
    flow::{Flow, FlowKey},
    time::Nanos,
};
use firewall_user::{
    cli::{Arguments, FlowFilter, FtpPorts, InterfaceName, Mark, Protocol},
    ftp::Network,
    listing::{
        flow::{self, FlowView},
        line::Line,
    },
};

#[derive(Parser, Debug)]
struct Filter {
    #[command(flatten)]
    filter: FlowFilter,
}

pub fn cli(data: &[u8]) {
    let [choice, rest @ ..] = data else { return };
    match choice % 4 {
        0 => arguments(rest),
        1 => filter(rest),
        2 => values(rest),
        _ => print(rest),
    }
}

fn words(bytes: &[u8]) -> Option<Vec<&str>> {
    let text = str::from_utf8(bytes).ok()?;
    Some(text.split(['\0', '\n']).collect())
}

/// A whole command line: it is understood, or refused with words.
fn arguments(bytes: &[u8]) {
    let Some(words) = words(bytes) else { return };
    if let Err(error) = Arguments::try_parse_from(["firewall"].iter().chain(&words)) {
        assert!(!error.to_string().is_empty());
    }
}

/// A filter is read, and decides about a flow.
fn filter(bytes: &[u8]) {
    const FLOW: usize = size_of::<FlowKey>() + size_of::<Flow>();
    let Some((flow, line)) = bytes.split_at_checked(FLOW) else { return };
    let Some(words) = words(line) else { return };
    let (key, flow) = stored(flow);
    match Filter::try_parse_from(["conntrack"].iter().chain(&words)) {
        Ok(Filter { filter }) => {
            assert!(filter.matches(&key, &flow) || !filter.is_empty());
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// What is read as a value prints as one that is read the same.
fn values(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    if let Ok(name) = text.parse::<InterfaceName>() {
        assert!(!name.as_str().is_empty() && name.as_str().len() <= 15);
        assert_eq!(name.to_string().parse(), Ok(name));
    }
    if let Ok(ports) = text.parse::<FtpPorts>() {
        assert_eq!(ports.to_string().parse(), Ok(ports));
    }
    if let Ok(mark) = text.parse::<Mark>() {
        assert!(mark.matches(mark.value));
    }
    match text.parse::<Network>() {
        Ok(network) => {
            let host = text.split('/').next().and_then(|host| host.parse().ok());
            assert!(host.is_some_and(|host| network.contains(host)));
        }
        Err(error) => assert!(error.to_string().contains(text)),
    }
    let _ = text.parse::<Protocol>();
}

/// Whatever stands in the map can be listed, each flow on one line.
fn print(bytes: &[u8]) {
    const FLOW: usize = size_of::<FlowKey>() + size_of::<Flow>();
    let Some((stored_flow, rest)) = bytes.split_at_checked(FLOW) else { return };
    let (key, flow) = stored(stored_flow);
    let now = rest.first_chunk().map_or(Nanos::ZERO, |bytes| Nanos(u64::from_le_bytes(*bytes)));
    let view = FlowView { key, flow, master: Some(key.tuple(flow.originator())), now };
    let mut line = Line::default();
    for write in [flow::text::write, flow::json::write] {
        line.clear();
        write(&mut line, &view);
        let text = str::from_utf8(line.as_bytes()).expect("lines are text");
        assert!(!text.is_empty() && !text.contains('\n'), "{text:?}");
    }
}

fn stored(bytes: &[u8]) -> (FlowKey, Flow) {
    let (key, flow) = bytes.split_at(size_of::<FlowKey>());
    (pod_read_unaligned(key), pod_read_unaligned(flow))
}

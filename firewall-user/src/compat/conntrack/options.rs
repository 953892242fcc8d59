//! Which options a command of conntrack(8) takes, and which it needs.

use super::call::Command;
use crate::{
    cli::FlowFilter,
    listing::protocol::{self, Layout},
};

/// Commands and options of conntrack(8) that have no counterpart here.
const NOT_OFFERED: &[&str] = &[
    "-I",
    "--create",
    "-A",
    "--add",
    "-U",
    "--update",
    "-R",
    "--load-file",
    "-w",
    "--zone",
    "--orig-zone",
    "--reply-zone",
    "-z",
    "--zero",
];

/// What is said of an option that is not taken.
pub(super) fn unknown(option: &str) -> String {
    if NOT_OFFERED.contains(&option) {
        return format!("`{option}' is not offered here: docs/old-names.md tells what is");
    }
    format!("unknown option `{option}'")
}

/// The options of a filter by their names, in conntrack(8)'s order, and whether they were
/// given.
pub(super) fn of_filter(filter: &FlowFilter) -> [(&'static str, bool); 19] {
    let FlowFilter {
        protocol,
        src,
        dst,
        reply_src,
        reply_dst,
        sport,
        dport,
        reply_port_src,
        reply_port_dst,
        src_nat,
        dst_nat,
        any_nat,
        family,
        state,
        status,
        mark,
        icmp_type,
        icmp_id,
        helper,
    } = filter;
    [
        ("--src", src.is_some()),
        ("--dst", dst.is_some()),
        ("--reply-src", reply_src.is_some()),
        ("--reply-dst", reply_dst.is_some()),
        ("--protonum", protocol.is_some()),
        ("--status", !status.is_empty()),
        ("--family", family.is_some()),
        ("--src-nat", src_nat.is_some()),
        ("--dst-nat", dst_nat.is_some()),
        ("--mark", mark.is_some()),
        ("--any-nat", any_nat.is_some()),
        ("--sport", sport.is_some()),
        ("--dport", dport.is_some()),
        ("--reply-port-src", reply_port_src.is_some()),
        ("--reply-port-dst", reply_port_dst.is_some()),
        ("--icmp-type", icmp_type.is_some()),
        ("--icmp-id", icmp_id.is_some()),
        ("--state", state.is_some()),
        ("--helper", helper.is_some()),
    ]
}

/// # Errors
/// The first option that the command does not take.
pub(super) fn check(command: Command, given: &[&'static str]) -> Result<(), String> {
    match given.iter().find(|option| !takes(command, option)) {
        Some(option) => Err(illegal(option)),
        None => Ok(()),
    }
}

fn takes(command: Command, option: &str) -> bool {
    match command {
        // What would be flushed is everything, whatever the filter says.
        Command::Flush => option == "--family",
        Command::Statistics => false,
        Command::Get => ![
            "--status",
            "--event-mask",
            "--family",
            "--src-nat",
            "--dst-nat",
            "--mark",
            "--any-nat",
            "--buffer-size",
        ]
        .contains(&option),
        _ => true,
    }
}

fn illegal(option: &str) -> String {
    format!("Illegal option `{option}' with this command")
}

/// `-G` means one flow, and no other.
///
/// # Errors
/// What is missing for that.
pub(super) fn check_one_flow(filter: &FlowFilter) -> Result<(), String> {
    let needs = |option| Err(format!("You need to supply the `{option}' option for this command"));
    let Some(protocol) = filter.protocol else { return needs("--protonum") };
    let is_network = |network: Option<crate::ftp::Network>| network.is_some_and(|it| !it.is_host());
    if is_network(filter.src) || is_network(filter.reply_src) {
        return Err(illegal("--mask-src"));
    }
    if is_network(filter.dst) || is_network(filter.reply_dst) {
        return Err(illegal("--mask-dst"));
    }
    let has_original = filter.src.is_some() && filter.dst.is_some();
    if !has_original && (filter.reply_src.is_none() || filter.reply_dst.is_none()) {
        return Err("you have to specify `--src' and `--dst'".into());
    }
    let has_ports = filter.sport.is_some() && filter.dport.is_some();
    let has_reply_ports = filter.reply_port_src.is_some() && filter.reply_port_dst.is_some();
    match protocol::layout(protocol.0) {
        Layout::Ports if !has_ports && !has_reply_ports => {
            Err("you have to specify `--sport' and `--dport'".into())
        }
        Layout::Icmp if filter.icmp_type.is_none() => needs("--icmp-type"),
        Layout::Icmp if filter.icmp_id.is_none() => needs("--icmp-id"),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser, Debug)]
    struct Line {
        #[command(flatten)]
        filter: FlowFilter,
    }

    fn one_flow(line: &str) -> Result<(), String> {
        let words = ["x"].into_iter().chain(line.split_whitespace());
        check_one_flow(&Line::try_parse_from(words).unwrap().filter)
    }

    #[test]
    fn one_flow_is_named_by_its_protocol_and_its_endpoints() {
        for line in [
            "-p tcp -s 192.0.2.1 -d 192.0.2.2 --sport 1 --dport 2",
            "-p 17 -r 2001:db8::1 -q 2001:db8::2 --reply-port-src 1 --reply-port-dst 2",
            "-p icmp -s 192.0.2.1 -d 192.0.2.2 --icmp-type 8 --icmp-id 7",
            "-p 50 -s 192.0.2.1/32 -d 192.0.2.2",
        ] {
            assert_eq!(one_flow(line), Ok(()), "{line}");
        }
    }

    #[test]
    fn what_is_missing_to_name_one_flow_is_told() {
        for (line, wanted) in [
            ("", "You need to supply the `--protonum' option for this command"),
            ("-s 192.0.2.1 -d 192.0.2.2", "`--protonum'"),
            ("-p tcp", "you have to specify `--src' and `--dst'"),
            ("-p tcp -s 192.0.2.1 --sport 1 --dport 2", "`--src' and `--dst'"),
            ("-p tcp -s 192.0.2.1 -d 192.0.2.2 --sport 1", "`--sport' and `--dport'"),
            ("-p icmp -s 192.0.2.1 -d 192.0.2.2", "`--icmp-type'"),
            ("-p icmp -s 192.0.2.1 -d 192.0.2.2 --icmp-type 8", "`--icmp-id'"),
            ("-p 50 -s 192.0.2.0/24 -d 192.0.2.2", "Illegal option `--mask-src'"),
            ("-p 50 -s 192.0.2.1 -d 192.0.2.0/24", "Illegal option `--mask-dst'"),
        ] {
            let message = one_flow(line).unwrap_err();
            assert!(message.contains(wanted), "{line}: {message}");
        }
    }
}

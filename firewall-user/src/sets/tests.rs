//! What is printed is read as the same again; what is wrong is told where.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use firewall_common::{
    addr::{Addr, Family},
    flow::protocol,
    set::{EntryKey, SetHeader, prefix_of},
};
use proptest::prelude::*;

use super::{
    command::{Action, read},
    element::{self, Element},
    header,
    words::Word,
};

fn header_of(options: &str) -> SetHeader {
    let line = format!("create x {options}");
    match read(&line).unwrap().action {
        Some(Action::Create { header, .. }) => *header,
        other => panic!("{other:?}"),
    }
}

fn keys(text: &str, header: &SetHeader) -> Result<Vec<EntryKey>, String> {
    let element = Element::read(Word { text, column: 1 }, header).map_err(|no| no.message)?;
    let mut keys = Vec::new();
    element
        .each(header, |key| {
            keys.push(key);
            Ok::<(), ()>(())
        })
        .unwrap();
    Ok(keys)
}

fn written(key: &EntryKey, header: &SetHeader) -> String {
    let mut text = String::new();
    element::write(&mut text, key, header, &|slot| format!("set{slot}"));
    text
}

/// The texts of all that one text stands for.
fn texts(text: &str, options: &str) -> Result<Vec<String>, String> {
    let header = header_of(options);
    Ok(keys(text, &header)?.iter().map(|key| written(key, &header)).collect())
}

fn options() -> impl Strategy<Value = String> {
    let kinds = ["hash:ip", "hash:net", "hash:ip,port", "hash:net,port"];
    (
        prop::sample::select(kinds.to_vec()),
        any::<bool>(),
        prop::option::of(0u32..2_147_483),
        1u32..1 << 26,
        any::<[bool; 3]>(),
    )
        .prop_map(|(kind, is_v6, timeout, maxelem, [counters, comment, forceadd])| {
            let family = if is_v6 { "inet6" } else { "inet" };
            let mut text = format!("{kind} family {family} hashsize 1024 maxelem {maxelem}");
            if let Some(timeout) = timeout {
                text += &format!(" timeout {timeout}");
            }
            for (is_given, word) in
                [(counters, " counters"), (comment, " comment"), (forceadd, " forceadd")]
            {
                text += if is_given { word } else { "" };
            }
            text
        })
}

fn key(header: &SetHeader, bits: u128, length: u8, port: u16, number: u8) -> EntryKey {
    let family = header::family(header);
    let kind = header::kind(header);
    let full = header::bits(header);
    let length = if kind.has_networks() { length % full + 1 } else { full };
    let address: IpAddr = match family {
        Family::Ipv4 => Ipv4Addr::from_bits(bits as u32 | 1).into(),
        // Not one of those that hold an IPv4 address.
        Family::Ipv6 => Ipv6Addr::from_bits(bits | 1 << 127 | 1).into(),
    };
    let (protocol, port) = match number {
        _ if !kind.has_both() => (0, 0),
        protocol::TCP | protocol::UDP | protocol::SCTP | protocol::UDPLITE => (number, port),
        protocol::ICMP | protocol::ICMPV6 => (number, port),
        0 => (protocol::TCP, port),
        other => (other, 0),
    };
    EntryKey {
        address: Addr::from(address).and(Addr::mask(family, length)),
        port,
        protocol,
        prefix: prefix_of(family, length),
    }
}

proptest! {
    #[test]
    fn what_create_prints_is_read_as_the_same_set(options in options()) {
        let header = header_of(&options);
        let line = header::create_line("x", &header);
        prop_assert_eq!(header_of(line.strip_prefix("create x ").unwrap()), header);
        prop_assert_eq!(line, format!("create x {options}"));
    }

    #[test]
    fn what_an_element_prints_is_read_as_the_same_element(
        options in options(),
        bits in any::<u128>(),
        length in any::<u8>(),
        port in any::<u16>(),
        number in any::<u8>(),
    ) {
        let header = header_of(&options);
        let key = key(&header, bits, length, port, number);
        let text = written(&key, &header);
        prop_assert_eq!(keys(&text, &header), Ok(vec![key]), "{}", text);
    }

    #[test]
    fn any_line_is_read_or_refused_within_it(line in "\\PC{0,60}") {
        if let Err(refusal) = read(&line) {
            prop_assert!(refusal.column as usize <= line.chars().count());
            prop_assert!(!refusal.message.is_empty());
        }
    }
}

mod elements {
    use super::*;

    #[test]
    fn networks_and_ranges_stand_for_their_addresses() {
        let four = ["192.0.2.16", "192.0.2.17", "192.0.2.18", "192.0.2.19"];
        assert_eq!(texts("192.0.2.16/30", "hash:ip").unwrap(), four);
        assert_eq!(texts("192.0.2.16-192.0.2.19", "hash:ip").unwrap(), four);
        assert_eq!(texts("192.0.2.77", "hash:ip netmask 24").unwrap(), ["192.0.2.0"]);
        assert_eq!(texts("192.0.2.7/24", "hash:net").unwrap(), ["192.0.2.0/24"]);
        assert_eq!(
            texts("198.51.100.3-198.51.100.9", "hash:net").unwrap(),
            ["198.51.100.3", "198.51.100.4/30", "198.51.100.8/31"]
        );
        assert_eq!(
            texts("0.0.0.0-255.255.255.255", "hash:net").unwrap(),
            ["0.0.0.0/1", "128.0.0.0/1"]
        );
    }

    #[test]
    fn ports_have_tcp_unless_they_say_otherwise() {
        assert_eq!(texts("192.0.2.1,http", "hash:ip,port").unwrap(), ["192.0.2.1,tcp:80"]);
        assert_eq!(
            texts("192.0.2.1,udp:100-102", "hash:ip,port").unwrap(),
            ["192.0.2.1,udp:100", "192.0.2.1,udp:101", "192.0.2.1,udp:102"]
        );
        assert_eq!(
            texts("192.0.2.1,icmp:8/0", "hash:ip,port").unwrap(),
            ["192.0.2.1,icmp:echo-request"]
        );
        assert_eq!(texts("192.0.2.1,gre:0", "hash:ip,port").unwrap(), ["192.0.2.1,gre:0"]);
        assert_eq!(texts("tcp:150", "bitmap:port range 100-200").unwrap(), ["150"]);
    }

    #[test]
    fn what_a_set_cannot_hold_is_refused_in_ipsets_words() {
        for (text, options, message) in [
            ("0.0.0.0", "hash:ip", "Null-valued element, cannot be stored in a hash type of set"),
            (
                "0.0.0.0/0",
                "hash:net",
                "The value of the CIDR parameter of the IP address is invalid",
            ),
            ("99", "bitmap:port range 100-200", "Element is out of the range of the set"),
            (
                "2001:db8::1",
                "hash:ip",
                "Syntax error: cannot parse 2001:db8::1: resolving to IPv4 address failed",
            ),
            (
                "192.0.2.1,80",
                "hash:ip",
                "Syntax error: Elem separator in 192.0.2.1,80, but settype hash:ip supports none.",
            ),
            (
                "192.0.2.1",
                "hash:ip,port",
                "Syntax error: Second element is missing from 192.0.2.1.",
            ),
            (
                "192.0.2.1,gre:5",
                "hash:ip,port",
                "Syntax error: Protocol gre can be used with pseudo port value 0 only.",
            ),
            (
                "::ffff:192.0.2.1",
                "hash:ip family inet6",
                "Syntax error: cannot parse ::ffff:192.0.2.1: resolving to IPv6 address failed",
            ),
        ] {
            assert_eq!(texts(text, options), Err(message.to_owned()), "{text}");
        }
    }
}

mod lines {
    use super::*;

    fn refused(line: &str) -> (String, u32, bool) {
        let refusal = read(line).unwrap_err();
        (refusal.to_string(), refusal.column, refusal.is_usage)
    }

    #[test]
    fn comments_blank_lines_and_commit_say_nothing() {
        for line in ["", "   ", "# add x y", "COMMIT"] {
            assert_eq!(read(line).unwrap().action, None, "{line}");
        }
        assert!(read("-exist add x 192.0.2.1").unwrap().exist);
        assert!(read("add x 192.0.2.1 -exist").unwrap().exist);
    }

    #[test]
    fn older_letters_and_types_are_taken() {
        for line in ["-N x iphash", "create x hash:ip", "--create x hash:ip"] {
            assert!(matches!(read(line).unwrap().action, Some(Action::Create { .. })), "{line}");
        }
        assert_eq!(read("-A  x 192.0.2.1").unwrap(), read("add x 192.0.2.1 ").unwrap());
    }

    #[test]
    fn a_mistake_has_its_column_and_says_whether_it_is_one_of_usage() {
        assert_eq!(
            refused("create x foo:bar"),
            ("Syntax error: typename 'foo:bar' is unknown".into(), 10, false)
        );
        assert_eq!(refused("create x hash:ip foo 3").1, 18);
        assert!(refused("create x hash:ip foo 3").2);
        assert_eq!(
            refused("create x hash:ip timeout 4294967"),
            ("Syntax error: '4294967' is out of range 0-2147483".into(), 26, false)
        );
        assert!(refused("create x hash:mac").0.contains("write a rule with -m mac"));
        assert!(refused("create x hash:ip skbinfo").0.contains("skbinfo is not supported"));
        assert!(refused("add x 192.0.2.1 skbmark 0x1").0.contains("skbmark is not supported"));
        assert!(refused("create x hash:net netmask 24").0.contains("netmask"));
        assert!(refused("create x bitmap:port").0.contains("range"));
        assert!(refused("add x").2);
        assert!(refused("frobnicate x").0.contains("frobnicate"));
        assert!(refused("add x 192.0.2.1 comment \"a").0.contains("close quote"));
    }
}

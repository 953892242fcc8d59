//! Rules that ask sets and change them, by whole packets on tables in memory.

use std::net::IpAddr;

use firewall_common::{
    addr::{Addr, Family},
    extra::{Extra, Test, need},
    flow::protocol,
    rule::{Rule, Target, flag},
    set::{
        Entry, EntryKey, HOST, Kind, Question, Tick,
        ask::{compare, option},
        change::Order,
        entry_flag, prefix_of, set_flag,
    },
    testing::{Frame, Memory},
    time::Nanos,
    verdict::Verdict,
    wire::tcp_flag::SYN,
};

const CLIENT: &str = "192.0.2.2";
const SERVER: &str = "198.51.100.2";
const NOW: Nanos = Nanos::from_secs(1_000);

fn syn() -> Frame {
    Frame::between(CLIENT, SERVER).tcp(40_000, 80, SYN)
}

/// One rule that counts what the question fits, and a policy of ACCEPT.
fn asking(question: Question, sets: impl FnOnce(&mut Memory)) -> Memory {
    let extra = Extra { test: Test::Set as u8, arguments: question.pack(), ..Extra::default() };
    ruled(
        Rule { extra_count: 1, flags: flag::PER_PACKET, chain_end: 1, ..Rule::default() },
        extra,
        sets,
    )
}

fn ruled(rule: Rule, extra: Extra, sets: impl FnOnce(&mut Memory)) -> Memory {
    Memory::with(|memory| {
        let policy = Rule {
            flags: flag::POLICY,
            target: Target::Accept as u8,
            chain_end: 1,
            ..Rule::default()
        };
        memory.rules = vec![rule, policy];
        memory.extras = vec![extra];
        memory.header.needs = need::FACTS | need::SETS;
        sets(memory);
    })
}

fn source(slot: u32) -> Question {
    Question { slot, sources: 0b11, dimensions: 1, ..Question::default() }
}

/// Source address, destination port.
fn both(slot: u32) -> Question {
    Question { slot, sources: 0b01, dimensions: 2, ..Question::default() }
}

/// Whether the rule counts the packet, which passes either way.
fn counts(memory: &Memory, frame: &Frame, now: Nanos) -> bool {
    let before = memory.rule_counter(0).packets;
    assert!(matches!(memory.filter(&frame.build(), now), Verdict::Accept(_)));
    memory.rule_counter(0).packets > before
}

fn network(text: &str, length: u8) -> EntryKey {
    let address: IpAddr = text.parse().unwrap();
    let family = if address.is_ipv4() { Family::Ipv4 } else { Family::Ipv6 };
    EntryKey {
        address: Addr::from(address).and(Addr::mask(family, length)),
        prefix: prefix_of(family, length),
        ..EntryKey::default()
    }
}

fn exception() -> Entry {
    Entry { flags: entry_flag::NOMATCH, ..Entry::default() }
}

mod addresses {
    use super::*;

    #[test]
    fn a_packet_is_in_a_set_by_the_side_that_the_rule_names() {
        let with = |sources| {
            let memory = asking(Question { sources, ..source(0) }, |memory| {
                let slot = memory.sets.add(Kind::HashIp, |_| {});
                memory.sets.insert(slot, network(CLIENT, 32), Entry::default());
            });
            counts(&memory, &syn(), NOW)
        };
        assert!(with(1));
        assert!(!with(0));
    }

    #[test]
    fn the_longest_network_decides_and_exceptions_are_none_of_the_set() {
        for (length, is_in) in [(8, true), (16, false), (24, true), (32, false)] {
            let mut memory = asking(source(0), |memory| {
                let slot = memory.sets.add(Kind::HashNet, |_| {});
                for wide in (8..=length).step_by(8) {
                    let entry = if wide % 16 == 0 { exception() } else { Entry::default() };
                    memory.sets.insert(slot, network(CLIENT, wide), entry);
                }
            });
            assert_eq!(counts(&memory, &syn(), NOW), is_in, "{length}");
            let asked = Question { options: option::RETURN_NOMATCH, ..source(0) };
            memory.extras = asking(asked, |_| {}).extras;
            assert_eq!(counts(&memory, &syn(), NOW), !is_in, "{length}, nomatch");
        }
    }

    #[test]
    fn a_set_of_one_family_holds_no_packet_of_the_other() {
        let memory = asking(source(0), |memory| {
            let slot = memory.sets.add(Kind::HashNet, |header| header.family = 6);
            memory.sets.insert(slot, network("::", 0), Entry::default());
        });
        assert!(!counts(&memory, &syn(), NOW));
        let v6 = Frame::between("2001:db8::1", "2001:db8::2").tcp(40_000, 80, SYN);
        assert!(counts(&memory, &v6, NOW));
    }

    #[test]
    fn an_element_past_its_time_is_not_there() {
        let memory = asking(source(0), |memory| {
            let slot = memory.sets.add(Kind::HashIp, |header| header.flags = set_flag::TIMEOUT);
            let entry = Entry { expires: Tick::after(NOW, 5), ..Entry::default() };
            memory.sets.insert(slot, network(CLIENT, 32), entry);
        });
        assert!(counts(&memory, &syn(), NOW));
        assert!(!counts(&memory, &syn(), NOW.after(Nanos::from_secs(6))));
    }
}

mod ports {
    use super::*;

    fn port(port: u16, protocol: u8) -> EntryKey {
        EntryKey { port, protocol, ..network(CLIENT, 32) }
    }

    #[test]
    fn address_and_port_are_compared_together() {
        let memory = asking(both(0), |memory| {
            let slot = memory.sets.add(Kind::HashIpPort, |_| {});
            memory.sets.insert(slot, port(80, protocol::TCP), Entry::default());
            memory.sets.insert(slot, port(53, protocol::UDP), Entry::default());
        });
        assert!(counts(&memory, &syn(), NOW));
        let udp = |dport| Frame::between(CLIENT, SERVER).udp(40_000, dport);
        assert!(counts(&memory, &udp(53), NOW));
        assert!(!counts(&memory, &udp(80), NOW));
    }

    #[test]
    fn fewer_sides_than_the_set_has_parts_fit_nothing() {
        let memory = asking(source(0), |memory| {
            let slot = memory.sets.add(Kind::HashIpPort, |_| {});
            memory.sets.insert(slot, port(80, protocol::TCP), Entry::default());
        });
        assert!(!counts(&memory, &syn(), NOW));
    }

    #[test]
    fn a_range_of_ports_holds_tcp_and_udp_of_both_families() {
        let memory = asking(Question { sources: 0, ..source(0) }, |memory| {
            let slot = memory.sets.add(Kind::BitmapPort, |header| {
                (header.first, header.last) = (1, 100);
            });
            let key = EntryKey { port: 80, prefix: 0, ..EntryKey::default() };
            memory.sets.insert(slot, key, Entry::default());
        });
        assert!(counts(&memory, &syn(), NOW));
        let v6 = Frame::between("2001:db8::1", "2001:db8::2").udp(40_000, 80);
        assert!(counts(&memory, &v6, NOW));
        assert!(!counts(&memory, &Frame::between(CLIENT, SERVER).udp(40_000, 81), NOW));
    }
}

mod counters {
    use super::*;

    fn counted(question: Question) -> (Memory, Vec<bool>) {
        let memory = asking(question, |memory| {
            let slot = memory.sets.add(Kind::HashIp, |header| header.flags = set_flag::COUNTERS);
            memory.sets.insert(slot, network(CLIENT, 32), Entry::default());
        });
        let fits = (0..4).map(|_| counts(&memory, &syn(), NOW)).collect();
        (memory, fits)
    }

    #[test]
    fn an_element_counts_what_asks_for_it_and_is_compared_with_that() {
        let (memory, fits) = counted(Question { packets: (compare::ABOVE, 2), ..source(0) });
        assert_eq!(fits, [false, false, true, true]);
        let entry = memory.sets.get(0, &network(CLIENT, 32)).unwrap();
        assert_eq!(entry.packets, 4);
        assert_eq!(entry.bytes % 4, 0);
    }

    #[test]
    fn a_rule_may_leave_them_as_they_are() {
        let (memory, fits) = counted(Question {
            options: option::SKIP_COUNTERS,
            bytes: (compare::EQUAL, 0),
            ..source(0)
        });
        assert_eq!(fits, [true; 4]);
        assert_eq!(memory.sets.get(0, &network(CLIENT, 32)).unwrap().packets, 0);
    }
}

mod lists {
    use super::*;

    #[test]
    fn the_members_of_a_list_are_asked_one_after_another() {
        let memory = asking(source(2), |memory| {
            let one = memory.sets.add(Kind::HashIp, |header| header.flags = set_flag::COUNTERS);
            let other = memory.sets.add(Kind::HashNet, |header| header.flags = set_flag::COUNTERS);
            memory.sets.add(Kind::ListSet, |header| header.members[..2].copy_from_slice(&[2, 1]));
            memory.sets.insert(one, network(CLIENT, 32), Entry::default());
            memory.sets.insert(other, network("192.0.2.0", 24), Entry::default());
        });
        assert!(counts(&memory, &syn(), NOW));
        assert_eq!(memory.sets.get(0, &network(CLIENT, 32)).unwrap().packets, 0);
        assert_eq!(memory.sets.get(1, &network("192.0.2.0", 24)).unwrap().packets, 1);
    }

    #[test]
    fn a_member_past_its_time_is_not_asked() {
        let memory = asking(source(1), |memory| {
            let one = memory.sets.add(Kind::HashIp, |_| {});
            memory.sets.insert(one, network(CLIENT, 32), Entry::default());
            let list = memory.sets.add(Kind::ListSet, |header| {
                header.members[0] = 1;
                header.flags = set_flag::TIMEOUT;
            });
            let entry = Entry { expires: Tick::after(NOW, 5), ..Entry::default() };
            memory.sets.insert(list, EntryKey::member(0), entry);
        });
        assert!(counts(&memory, &syn(), NOW));
        assert!(!counts(&memory, &syn(), NOW.after(Nanos::from_secs(6))));
    }
}

mod target {
    use super::*;

    fn changing(order: Order, kind: Kind) -> Memory {
        let rule = Rule {
            target: Target::Set as u8,
            flags: flag::PER_PACKET,
            chain_end: 1,
            ..Rule::default()
        };
        let extra = Extra { test: Test::Set as u8, arguments: order.pack(), ..Extra::default() };
        ruled(rule, extra, |memory| {
            memory.sets.add(kind, |header| {
                header.flags = set_flag::TIMEOUT | set_flag::COUNTERS;
                header.timeout = 10;
                header.add_prefix(HOST);
            });
        })
    }

    #[test]
    fn a_packet_is_put_in_and_its_time_begins_anew_only_on_request() {
        for exist in [false, true] {
            let memory =
                changing(Order { add: Some((0, 1, 1)), exist, ..Order::default() }, Kind::HashIp);
            assert!(counts(&memory, &syn(), NOW));
            let first = memory.sets.get(0, &network(CLIENT, 32)).unwrap();
            assert_eq!((first.packets, first.expires), (1, Tick::after(NOW, 10)));
            let later = NOW.after(Nanos::from_secs(5));
            assert!(counts(&memory, &syn(), later));
            let second = memory.sets.get(0, &network(CLIENT, 32)).unwrap();
            assert_eq!(second.expires == first.expires, !exist);
        }
    }

    #[test]
    fn a_packet_is_taken_out() {
        let memory = changing(Order { del: Some((0, 1, 1)), ..Order::default() }, Kind::HashIp);
        let put = |memory: &mut Memory| {
            memory.sets.insert(0, network(CLIENT, 32), Entry::default());
        };
        let mut memory = memory;
        put(&mut memory);
        assert!(counts(&memory, &syn(), NOW));
        assert_eq!(memory.sets.get(0, &network(CLIENT, 32)), None);
    }

    #[test]
    fn an_address_that_hash_ip_cannot_hold_is_left_out() {
        let memory = changing(Order { add: Some((0, 1, 1)), ..Order::default() }, Kind::HashIp);
        let nobody = Frame::between("0.0.0.0", SERVER).udp(68, 67);
        let _ = memory.filter(&nobody.build(), NOW);
        assert_eq!(memory.sets.get(0, &network("0.0.0.0", 32)), None);
    }
}

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
        Rule { extra_count: 1, flags: flag::ASKS_SETS, chain_end: 1, ..Rule::default() },
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

mod remembered {
    use firewall_common::{
        control::slot,
        generation::stamp,
        tables::Rules,
        verdict::Stat,
        wire::tcp_flag::{ACK, PSH},
    };

    use super::*;

    /// An established connection behind a rule that asks the set, of which this was put in.
    fn connected(change: impl FnOnce(&mut Memory)) -> Memory {
        let memory = asking(source(0), change);
        let there = |flags| Frame::between(CLIENT, SERVER).tcp(40_000, 80, flags);
        let back = Frame::between(SERVER, CLIENT).tcp(80, 40_000, SYN | ACK);
        for frame in [there(SYN), back, there(ACK)] {
            assert!(matches!(memory.filter(&frame.build(), NOW), Verdict::Accept(_)));
        }
        memory
    }

    fn data() -> Frame {
        Frame::between(CLIENT, SERVER).tcp(40_000, 80, ACK | PSH)
    }

    /// Whether the packet's verdict was remembered; counted is it either way, if it is to be.
    fn is_remembered(memory: &Memory, now: Nanos) -> bool {
        let before = memory.stat(Stat::CacheHit as u32);
        assert!(matches!(memory.filter(&data().build(), now), Verdict::Accept(_)));
        memory.stat(Stat::CacheHit as u32) > before
    }

    fn hosts(memory: &mut Memory, change: impl FnOnce(&mut firewall_common::set::SetHeader)) {
        memory.sets.add(Kind::HashIp, change);
    }

    #[test]
    fn is_a_verdict_of_who_is_in_no_set_until_a_set_changes() {
        let mut memory = connected(|memory| hosts(memory, |_| {}));
        is_remembered(&memory, NOW);
        assert!(is_remembered(&memory, NOW));
        memory.sets.insert(0, network(CLIENT, 32), Entry::default());
        memory.note_set_change();
        let before = memory.rule_counter(0).packets;
        assert!(!is_remembered(&memory, NOW));
        assert_eq!(memory.rule_counter(0).packets, before + 1, "and the rule sees who is listed");
        assert!(is_remembered(&memory, NOW), "who is in a set that forgets nobody is remembered");
        assert_eq!(memory.rule_counter(0).packets, before + 2);
    }

    #[test]
    fn is_none_of_an_element_that_has_an_end_or_counts() {
        let ending = Entry { expires: Tick::after(NOW, 600), ..Entry::default() };
        for (flags, entry) in [
            (set_flag::TIMEOUT, ending),
            (set_flag::COUNTERS, Entry::default()),
            (set_flag::TIMEOUT, Entry { flags: entry_flag::NOMATCH, ..ending }),
        ] {
            let memory = connected(|memory| {
                memory.sets.add(Kind::HashNet, |header| header.flags = flags);
                memory.sets.insert(0, network(CLIENT, 32), entry);
            });
            for _ in 0..3 {
                assert!(!is_remembered(&memory, NOW), "{flags} {entry:?}");
            }
        }
    }

    #[test]
    fn is_one_behind_an_element_whose_end_has_come() {
        let ended = Entry { expires: Tick::after(NOW, 1), ..Entry::default() };
        let memory = connected(|memory| {
            hosts(memory, |header| header.flags = set_flag::TIMEOUT);
            memory.sets.insert(0, network(CLIENT, 32), ended);
        });
        assert!(!is_remembered(&memory, NOW));
        let later = Nanos(NOW.0 + 3_000_000_000);
        is_remembered(&memory, later);
        assert!(is_remembered(&memory, later));
    }

    #[test]
    fn ends_when_a_packet_changes_a_set_and_not_when_it_renews_an_element() {
        let order = |exist| {
            let order = Order { add: Some((0, 1, 1)), exist, ..Order::default() };
            Extra { test: Test::Order as u8, arguments: order.pack(), ..Extra::default() }
        };
        let rule = Rule { target: Target::Set as u8, chain_end: 1, ..Rule::default() };
        for exist in [false, true] {
            let memory = ruled(rule, order(exist), |memory| {
                hosts(memory, |header| (header.flags, header.timeout) = (set_flag::TIMEOUT, 600));
            });
            assert_eq!(memory.set_changes(), 0);
            for _ in 0..3 {
                assert!(matches!(memory.filter(&syn().build(), NOW), Verdict::Accept(_)));
            }
            assert_eq!(memory.set_changes(), 1, "exist: {exist}");
        }
    }

    #[test]
    fn is_a_verdict_that_no_set_was_asked_for_whatever_changes_in_sets() {
        let mut memory = connected(|memory| hosts(memory, |_| {}));
        memory.rules[0].present = firewall_common::rule::condition::PROTOCOL;
        memory.rules[0].protocol = protocol::UDP;
        memory.generation += 2;
        for _ in 0..2 {
            is_remembered(&memory, NOW);
        }
        memory.note_set_change();
        assert!(is_remembered(&memory, NOW));
    }

    #[test]
    fn is_none_while_somebody_changes_sets() {
        let memory = connected(|memory| hosts(memory, |_| {}));
        is_remembered(&memory, NOW);
        assert!(is_remembered(&memory, NOW));
        let changes = memory.set_changes();
        memory.sets.changes.set(changes | stamp::IS_CHANGING);
        for _ in 0..3 {
            assert!(!is_remembered(&memory, NOW));
        }
        memory.sets.changes.set(changes + 1);
        assert!(!is_remembered(&memory, NOW));
        assert!(is_remembered(&memory, NOW));
    }

    #[test]
    fn ends_with_no_packet_for_which_a_set_has_no_room() {
        let order = Order { add: Some((0, 1, 1)), ..Order::default() };
        let extra = Extra { test: Test::Order as u8, arguments: order.pack(), ..Extra::default() };
        let rule = Rule { target: Target::Set as u8, chain_end: 1, ..Rule::default() };
        let memory = ruled(rule, extra, |memory| hosts(memory, |header| header.maxelem = 1));
        for source in ["192.0.2.2", "192.0.2.3", "192.0.2.4", "192.0.2.3"] {
            let syn = Frame::between(source, SERVER).tcp(40_000, 80, SYN);
            assert!(matches!(memory.filter(&syn.build(), NOW), Verdict::Accept(_)));
        }
        assert_eq!(memory.set_changes(), 1);
    }

    #[test]
    fn are_stamps_of_all_that_count_one_after_another_different() {
        // A trial that ends, and sets that change meanwhile.
        let all = [(5, 0), (6, 0), (6, 1), (5, 1), (5, 2), (8, 2)];
        let mut stamps: Vec<_> = all.map(|(a, b)| stamp::of_sets(a, b)).into();
        stamps.extend([5, 6, 8, 4_101].map(stamp::of_rules));
        let mut different = stamps.clone();
        different.sort_unstable();
        different.dedup();
        assert_eq!(different.len(), stamps.len());
        assert_eq!(slot(5), slot(7), "two slots take turns");
    }
}

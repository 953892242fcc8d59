//! What rules change of packets, by whole packets on tables in memory: what later rules see,
//! what is to be written, and that the checksums are right when it is.

use firewall_common::{
    checksum::Verification,
    event::Hook,
    expectation::{Expectation, ExpectationKey},
    extra::{Extra, Test, facts::number, need},
    flow::{CtState, FlowKey, helper},
    headers::Headers,
    mangle::{self, CLAMP, Mangling, change, rewrite},
    packet::Packet,
    rule::{Chain, PortRange, Rule, Target, condition, flag},
    testing::{Frame, Memory, Written},
    time::Nanos,
    verdict::Verdict,
    wire::tcp_flag::{ACK, SYN},
};

const CLIENT: &str = "192.0.2.2";
const SERVER: &str = "198.51.100.2";
const NOW: Nanos = Nanos::from_secs(1_000);
/// As the segment size of Ethernet.
const MSS: [u8; 4] = [2, 4, 5, 180];

fn syn() -> Frame {
    Frame::between(CLIENT, SERVER).tcp(40_000, 80, SYN)
}

fn rule(target: Target, argument: u32, mask: u32) -> Rule {
    Rule { target: target as u8, argument, mask, ..Rule::default() }
}

/// These rules in a chain, with a policy behind them; table filter accepts.
fn with(chain: Chain, rules: &[Rule]) -> Memory {
    Memory::with(|memory| {
        let policy = Rule { flags: flag::POLICY, target: Target::Accept as u8, ..Rule::default() };
        let first = memory.rules.len() as u32;
        memory.rules.extend_from_slice(rules);
        memory.rules.push(policy);
        let end = memory.rules.len() as u32 - 1;
        memory.rules[first as usize..].iter_mut().for_each(|rule| rule.chain_end = end);
        memory.header.entries.iter_mut().for_each(|of| of[chain as usize] = first);
        memory.header.needs = need::FACTS | need::TCP_OPTIONS | need::MANGLING | need::REROUTING;
    })
}

fn mangled(memory: &Memory, frame: &Frame) -> Mangling {
    let verdict = memory.filter(&frame.build(), NOW);
    assert!(matches!(verdict, Verdict::Accept(_)), "{verdict:?}");
    memory.scratch().mangling
}

/// The frame as it is written, whose checksums must be right, and its headers.
fn rewritten(frame: &Frame, mangling: &Mangling) -> (Vec<u8>, Headers) {
    let written = Written::of(frame.build());
    let mut headers = Headers::default();
    headers.parse(&written, true).unwrap();
    assert!(rewrite::rewrite(&written, &mut headers, mangling, &mut [0; 64]));
    let bytes = written.bytes.into_inner();
    let mut again = Headers::default();
    again.parse(&bytes[..], true).expect("an IP header with a right checksum");
    assert!(bytes[..].has_right_checksum(&again, &mut Verification::of(&again), false));
    let lengths = |headers: &Headers| (headers.ip_len, headers.payload, headers.ttl, headers.tos);
    assert_eq!(lengths(&again), lengths(&headers), "what is said is what was written");
    (bytes, again)
}

mod a_mark {
    use super::*;

    #[test]
    fn of_prerouting_is_seen_by_filter_and_set_before_routing() {
        let mut memory = with(Chain::ManglePrerouting, &[rule(Target::Mark, 5, u32::MAX)]);
        let extra = Extra {
            test: Test::Masked as u8,
            subject: number::MARK,
            arguments: [5, u32::MAX, 0, 0, 0, 0, 0, 0],
            ..Extra::default()
        };
        memory.extras = vec![extra];
        memory.rules[0] = Rule { extra_count: 1, ..memory.rules[0] };
        let mangling = mangled(&memory, &syn());
        assert_eq!((mangling.changes, mangling.mark), (change::MARK, 5));
        assert_eq!(memory.rule_counter(0).packets, 1);
    }

    #[test]
    fn of_forward_is_set_behind_routing_alone() {
        let memory = with(Chain::MangleForward, &[rule(Target::Mark, 5, u32::MAX)]);
        let mangling = mangled(&memory, &syn());
        assert_eq!((mangling.changes, mangling.mark_out), (change::MARK_OUT, 5));
        assert_eq!(mangling.at_once().mark, 5);
    }

    #[test]
    fn changes_under_its_mask() {
        let rules = [rule(Target::Mark, 0xff, u32::MAX), rule(Target::Mark, 0x105, 0x0f)];
        assert_eq!(mangled(&with(Chain::ManglePrerouting, &rules), &syn()).mark, 0x1f5);
    }

    #[test]
    fn of_the_daemon_is_never_set() {
        let reserved = rule(Target::Mark, 0xf7b1_5c3e, u32::MAX);
        assert_eq!(mangled(&with(Chain::ManglePrerouting, &[reserved]), &syn()).changes, 0);
    }

    #[test]
    fn of_a_connection_stays_with_it_and_is_taken_back() {
        let memory = with(
            Chain::MangleForward,
            &[
                rule(Target::RestoreMark, u32::MAX, u32::MAX),
                Rule {
                    states: CtState::New.bit(),
                    present: condition::STATES,
                    ..rule(Target::SetCtMark, 7, u32::MAX)
                },
            ],
        );
        assert_eq!(mangled(&memory, &syn()).changes, change::CT_MARK);
        let tuple = {
            let mut headers = Headers::default();
            headers.parse(&syn().build()[..], true).unwrap();
            headers.tuple
        };
        let (_, flow) = memory.known(&FlowKey::of(&tuple).0).unwrap();
        assert_eq!(flow.mark, 7);
        let answer = Frame::between(SERVER, CLIENT).tcp(80, 40_000, SYN | ACK);
        let mangling = mangled(&memory, &answer);
        assert_eq!((mangling.changes, mangling.mark_out), (change::MARK_OUT, 7));
    }

    #[test]
    fn of_a_control_connection_goes_over_to_what_it_announces() {
        let mut memory = with(
            Chain::MangleForward,
            &[
                Rule { extra_count: 1, ..Rule::default() },
                Rule {
                    present: condition::DPORT,
                    dport: PortRange { first: 21, last: 21 },
                    ..rule(Target::SetCtMark, 9, u32::MAX)
                },
            ],
        );
        memory.extras = vec![Extra {
            test: Test::Masked as u8,
            subject: number::CT_MARK,
            arguments: [9, u32::MAX, 0, 0, 0, 0, 0, 0],
            ..Extra::default()
        }];
        let counted = memory.header.entries[0][Chain::MangleForward as usize];
        let control = Frame::between(CLIENT, SERVER).tcp(40_000, 21, SYN);
        mangled(&memory, &control);
        mangled(&memory, &Frame::between(SERVER, CLIENT).tcp(21, 40_000, SYN | ACK));
        let [master, child] = [21, 40_123].map(|dport| {
            let mut headers = Headers::default();
            let frame = Frame::between(CLIENT, SERVER).tcp(40_000, dport, SYN);
            headers.parse(&frame.build()[..], true).unwrap();
            headers.tuple
        });
        let created = memory.known(&FlowKey::of(&master).0).unwrap().1.created;
        let key = ExpectationKey {
            src: child.src,
            dst: child.dst,
            dport: child.dport,
            protocol: child.protocol,
            _pad: 0,
        };
        let expectation = Expectation {
            expires: NOW.after(Nanos::from_secs(300)),
            master,
            master_created: created,
            helper: helper::FTP,
            ..Expectation::default()
        };
        memory.expectations.borrow_mut().insert(key, expectation);
        let before = memory.rule_counter(counted).packets;
        mangled(&memory, &Frame::between(CLIENT, SERVER).tcp(40_000, 40_123, SYN));
        assert_eq!(memory.rule_counter(counted).packets, before + 1, "rules see it at once");
        assert_eq!(memory.known(&FlowKey::of(&child).0).unwrap().1.mark, 9);
    }

    #[test]
    fn of_no_connection_is_not_set() {
        let memory = with(Chain::MangleForward, &[rule(Target::SetCtMark, 7, u32::MAX)]);
        let invalid = Frame::between(CLIENT, SERVER).tcp(40_000, 80, SYN | ACK);
        assert_eq!(mangled(&memory, &invalid).changes, 0);
    }
}

mod hops {
    use super::*;

    #[test]
    fn of_prerouting_are_counted_down_before_forward() {
        let memory = with(Chain::ManglePrerouting, &[rule(Target::Hops, 10, mangle::hops::SET)]);
        let mangling = mangled(&memory, &syn());
        assert_eq!((mangling.changes, mangling.ttl, mangling.ttl_out), (change::TTL, 10, 9));
    }

    #[test]
    fn of_postrouting_are_those_that_leave() {
        let rules = [rule(Target::Hops, 255, mangle::hops::ADD)];
        let mangling = mangled(&with(Chain::ManglePostrouting, &rules), &syn());
        assert_eq!((mangling.changes, mangling.ttl_out), (change::TTL_OUT, 255));
        assert_eq!(mangling.at_once().ttl, 255, "what the stack takes one from");
    }

    #[test]
    fn do_not_fall_below_none() {
        let rules = [rule(Target::Hops, 200, mangle::hops::SUBTRACT)];
        assert_eq!(mangled(&with(Chain::MangleInput, &rules), &syn()).changes, 0);
        let mut memory = with(Chain::MangleInput, &rules);
        memory.route = |_| (Chain::Input, 0);
        assert_eq!(mangled(&memory, &syn()).ttl, 0);
    }

    #[test]
    fn and_type_of_service_are_written_with_a_right_checksum() {
        let mangling = Mangling {
            changes: change::TTL | change::TOS,
            ttl: 1,
            tos: 0xb8,
            ..Mangling::default()
        };
        for frame in [syn(), Frame::between("2001:db8::1", "2001:db8::2").udp(1, 2).payload(b"odd")]
        {
            let (_, headers) = rewritten(&frame, &mangling);
            assert_eq!((headers.ttl, headers.tos), (1, 0xb8));
        }
    }
}

mod a_segment_size {
    use super::*;

    fn set(size: u32) -> [Rule; 1] {
        [rule(Target::Mss, size, 0)]
    }

    #[test]
    fn is_lowered_and_never_raised() {
        let frame = syn().tcp_options(&MSS);
        let mangling = mangled(&with(Chain::MangleForward, &set(1_300)), &frame);
        assert_eq!((mangling.changes, mangling.mss, mangling.mss_at), (change::MSS, 1_300, 0));
        let (bytes, _) = rewritten(&frame, &mangling);
        assert_eq!(&bytes[54..58], [2, 4, 5, 20]);
        assert_eq!(mangled(&with(Chain::MangleForward, &set(1_500)), &frame).changes, 0);
    }

    #[test]
    fn behind_an_odd_number_of_bytes_is_summed_up_rightly() {
        let frame = syn().tcp_options(&[1, 2, 4, 5, 180, 1, 1, 1]);
        let mangling = mangled(&with(Chain::MangleForward, &set(1_300)), &frame);
        assert_eq!((mangling.changes, mangling.mss_at), (change::MSS, 1));
        rewritten(&frame, &mangling);
    }

    #[test]
    fn is_added_where_there_is_none_in_front_of_the_others() {
        for (client, server, size) in [(CLIENT, SERVER, 536), ("2001:db8::1", "2001:db8::2", 1_220)]
        {
            for options in [&[][..], &[1, 3, 3, 7, 4, 2, 1, 1]] {
                let frame = Frame::between(client, server).tcp(1, 2, SYN).tcp_options(options);
                let memory = with(Chain::MangleForward, &set(1_400));
                let mangling = mangled(&memory, &frame);
                assert_eq!((mangling.changes, u32::from(mangling.mss)), (change::NEW_MSS, size));
                let (bytes, headers) = rewritten(&frame, &mangling);
                let at = headers.l4 as usize + 20;
                let [high, low] = mangling.mss.to_be_bytes();
                assert_eq!(&bytes[at..at + 4], [2, 4, high, low]);
                assert_eq!(&bytes[at + 4..headers.payload as usize], options);
            }
        }
    }

    #[test]
    fn is_not_added_before_data_nor_to_a_full_header() {
        let memory = with(Chain::MangleForward, &set(1_400));
        assert_eq!(mangled(&memory, &syn().payload(b"data")).changes, 0);
        let full = syn().tcp_options(&[1; 40]);
        assert_eq!(mangled(&with(Chain::MangleForward, &set(1_400)), &full).changes, 0);
    }

    #[test]
    fn is_left_alone_when_the_way_is_not_known() {
        let memory = with(Chain::MangleForward, &set(CLAMP));
        assert_eq!(mangled(&memory, &syn().tcp_options(&MSS)).changes, 0);
    }
}

#[test]
fn what_was_changed_of_a_first_fragment_is_changed_of_the_later_ones() {
    let memory = with(
        Chain::ManglePrerouting,
        &[rule(Target::Mark, 5, u32::MAX), rule(Target::Tos, 0xb8, 0xff)],
    );
    let fragment = |offset, more| {
        Frame::between(CLIENT, SERVER).udp(1, 2).payload(&[7; 24]).fragment(offset, more, 77)
    };
    let first = mangled(&memory, &fragment(0, true));
    let later = mangled(&memory, &fragment(4, false));
    assert_eq!(first.changes, change::MARK | change::TOS);
    assert_eq!((later.changes, later.mark, later.tos), (first.changes, 5, 0xb8));
}

#[test]
fn a_verdict_behind_a_target_that_acted_is_not_remembered() {
    let udp = rule(Target::Tos, 0xb8, 0xff);
    let memory =
        with(Chain::MangleForward, &[Rule { protocol: 17, present: condition::PROTOCOL, ..udp }]);
    let answer = Frame::between(SERVER, CLIENT).udp(2, 1);
    for frame in [Frame::between(CLIENT, SERVER).udp(1, 2), answer.clone(), answer.clone()] {
        assert_eq!(mangled(&memory, &frame).changes, change::TOS);
    }
    let place = memory.filter_at(Hook::Ingress, 1, &answer.build(), NOW);
    assert!(matches!(place, Verdict::Accept(_)));
    assert_eq!(memory.scratch().mangling.changes, change::TOS);
}

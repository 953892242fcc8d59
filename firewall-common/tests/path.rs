//! Whole packets through the whole path, on tables in memory: the verdict, the
//! flows, and every counter that moves.

use firewall_common::{
    control::{HEARTBEAT_LIMIT, device, option},
    event::{EventKind, Hook, NO_CHAIN},
    expectation::{Expectation, ExpectationKey},
    flow::{CtState, FlowKey, State, Tuple, helper, protocol, status},
    rule::{Chain, PortRange, PortSet, RejectKind, Rule, RulesetHeader, Target, condition, flag},
    tables::FlowTable,
    testing::{Frame, Memory},
    time::Nanos,
    unread::Unread,
    verdict::{DropReason, STATS, Stat, Verdict, drop_counter, is_verdict},
    wire::tcp_flag::{ACK, FIN, PSH, RST, SYN},
};

const CLIENT: &str = "192.0.2.2";
const SERVER: &str = "198.51.100.2";
const NOW: Nanos = Nanos::from_secs(1_000);

const FORWARDED: Verdict = Verdict::Accept(Chain::Forward);

fn to_server(flags: u8) -> Frame {
    Frame::between(CLIENT, SERVER).tcp(40_000, 80, flags)
}

fn to_client(flags: u8) -> Frame {
    Frame::between(SERVER, CLIENT).tcp(80, 40_000, flags)
}

fn send(memory: &Memory, frame: &Frame) -> Verdict {
    memory.filter(&frame.build(), NOW)
}

fn ctstate(memory: &Memory) -> Option<CtState> {
    CtState::from_bit(memory.scratch().walk.ctstate)
}

/// Sends a frame and gives its ctstate.
fn state_of(memory: &Memory, frame: &Frame) -> CtState {
    send(memory, frame);
    ctstate(memory).expect("a judged packet has a ctstate")
}

fn key(src: &str, dst: &str, sport: u16, dport: u16, protocol: u8) -> FlowKey {
    let [src, dst] = [src, dst].map(|text| text.parse::<std::net::IpAddr>().unwrap().into());
    FlowKey::of(&Tuple { src, dst, sport, dport, protocol, ..Tuple::default() }).0
}

fn connect(memory: &Memory) {
    assert_eq!(send(memory, &to_server(SYN)), FORWARDED);
    assert_eq!(send(memory, &to_client(SYN | ACK)), FORWARDED);
    assert_eq!(send(memory, &to_server(ACK)), FORWARDED);
}

/// A ruleset of one chain for all hooks: these rules, then a policy of DROP.
fn with_rules(rules: &[Rule]) -> Memory {
    let end = rules.len() as u32;
    let policy = Rule { flags: flag::POLICY, target: Target::Drop as u8, ..Rule::default() };
    let all = rules.iter().chain([&policy]);
    Memory::with(|memory| {
        memory.rules = all.map(|rule| Rule { chain_end: end, ..*rule }).collect();
    })
}

fn accept(states: &[CtState]) -> Rule {
    Rule {
        present: condition::STATES,
        states: states.iter().fold(0, |set, state| set | state.bit()),
        target: Target::Accept as u8,
        ..Rule::default()
    }
}

fn accept_new_to(port: u16) -> Rule {
    let rule = accept(&[CtState::New]);
    Rule {
        present: rule.present | condition::PROTOCOL | condition::DPORT,
        protocol: protocol::TCP,
        dport: PortRange { first: port, last: port },
        ..rule
    }
}

/// Judges a frame and asserts that the one verdict counter moved that belongs to
/// its verdict, and at most one rule's or policy's.
fn counted(memory: &Memory, frame: &Frame) -> Verdict {
    let before = memory.stats();
    let rules_before = packets(memory);
    let verdict = send(memory, frame);
    let moved: Vec<_> = (0..STATS as usize)
        .filter(|place| is_verdict(*place as u32) && memory.stats()[*place] != before[*place])
        .collect();
    assert_eq!(moved, [verdict.counter() as usize]);
    assert_eq!(memory.stats()[moved[0]], before[moved[0]] + 1);
    assert!(packets(memory) - rules_before <= 1);
    verdict
}

fn packets(memory: &Memory) -> u64 {
    (0..memory.rules.len()).map(|index| memory.rule_counter(index as u32).packets).sum()
}

mod tcp {
    use super::*;

    #[test]
    fn a_handshake_makes_one_assured_flow() {
        let memory = Memory::default();
        assert_eq!(state_of(&memory, &to_server(SYN)), CtState::New);
        assert_eq!(state_of(&memory, &to_client(SYN | ACK)), CtState::Established);
        assert_eq!(state_of(&memory, &to_server(ACK)), CtState::Established);

        let (table, flow) = memory.known(&key(CLIENT, SERVER, 40_000, 80, 6)).unwrap();
        assert_eq!(table, FlowTable::Assured);
        assert_eq!(flow.state, State::Established as u8);
        assert!(flow.has(status::SEEN_REPLY) && flow.has(status::ASSURED));
        assert_eq!(memory.flow_count(), 1);
        assert_eq!(memory.stat(Stat::FlowsCreated as u32), 1);
        assert_eq!(memory.stat(Stat::FlowsAssured as u32), 1);
    }

    #[test]
    fn a_dropped_syn_leaves_no_flow() {
        let memory = with_rules(&[]);
        assert_eq!(counted(&memory, &to_server(SYN)), Verdict::Drop(DropReason::Policy));
        assert_eq!(memory.flow_count(), 0);
    }

    #[test]
    fn a_syn_ack_out_of_nowhere_is_invalid() {
        let memory = Memory::default();
        assert_eq!(state_of(&memory, &to_client(SYN | ACK)), CtState::Invalid);
        assert_eq!(memory.flow_count(), 0);
    }

    #[test]
    fn a_running_connection_is_picked_up_only_when_loose() {
        let loose = Memory::default();
        assert_eq!(state_of(&loose, &to_server(ACK | PSH)), CtState::New);
        let strict = Memory::with(|memory| memory.options.bits &= !option::TCP_LOOSE);
        let other = Frame::between(CLIENT, SERVER).tcp(40_001, 80, ACK);
        assert_eq!(state_of(&strict, &other), CtState::Invalid);
    }

    #[test]
    fn a_refused_connection_is_forgotten() {
        let memory = Memory::default();
        send(&memory, &to_server(SYN));
        assert_eq!(state_of(&memory, &to_client(RST | ACK)), CtState::Established);
        assert_eq!(memory.flow_count(), 0);
    }

    #[test]
    fn a_closed_connection_may_be_opened_again_with_the_same_ports() {
        let memory = Memory::default();
        connect(&memory);
        for frame in [to_server(FIN | ACK), to_client(ACK), to_client(FIN | ACK), to_server(ACK)] {
            assert_eq!(state_of(&memory, &frame), CtState::Established);
        }
        let (_, flow) = memory.known(&key(CLIENT, SERVER, 40_000, 80, 6)).unwrap();
        assert_eq!(flow.state, State::TimeWait as u8);
        assert_eq!(state_of(&memory, &to_server(SYN)), CtState::New);
        assert_eq!(memory.flow_count(), 1);
    }

    #[test]
    fn an_expired_flow_is_not_there_though_nobody_swept_it() {
        let memory = Memory::default();
        connect(&memory);
        let later = NOW.after(Nanos::from_secs(432_001));
        memory.filter(&to_client(SYN | ACK).build(), later);
        assert_eq!(ctstate(&memory), Some(CtState::Invalid));
    }

    #[test]
    fn a_flood_of_syns_stays_out_of_the_assured_table() {
        let memory = Memory::with(|memory| memory.embryonic_size = 10);
        connect(&memory);
        for port in 1..=100 {
            send(&memory, &Frame::between("203.0.113.9", SERVER).tcp(port, 80, SYN));
        }
        assert_eq!(state_of(&memory, &to_client(ACK)), CtState::Established);
        assert_eq!(memory.stat(drop_counter(DropReason::TableFull)), 90);
    }

    #[test]
    fn with_the_assured_table_full_new_connections_still_work() {
        let memory = Memory::with(|memory| memory.assured_size = 0);
        connect(&memory);
        assert_eq!(state_of(&memory, &to_client(ACK | PSH)), CtState::Established);
        assert!(memory.stat(Stat::AssuredFull as u32) >= 1);
    }
}

mod other_protocols {
    use super::*;

    #[test]
    fn udp_is_new_until_the_answer_and_then_established() {
        let memory = Memory::default();
        let question = Frame::between(CLIENT, SERVER).udp(5_000, 53).payload(b"?");
        let answer = Frame::between(SERVER, CLIENT).udp(53, 5_000).payload(b"!");
        assert_eq!(state_of(&memory, &question), CtState::New);
        assert_eq!(state_of(&memory, &question), CtState::New);
        assert_eq!(state_of(&memory, &answer), CtState::Established);
        assert_eq!(state_of(&memory, &question), CtState::Established);
    }

    #[test]
    fn pings_pair_up_by_identifier_and_unasked_replies_are_invalid() {
        for (client, server, request, reply) in
            [(CLIENT, SERVER, 8, 0), ("2001:db8:1::2", "2001:db8:2::2", 128, 129)]
        {
            let memory = Memory::default();
            let ask = Frame::between(client, server).icmp(request, 0, 77);
            let answer = Frame::between(server, client).icmp(reply, 0, 77);
            let stray = Frame::between(server, client).icmp(reply, 0, 78);
            assert_eq!(state_of(&memory, &ask), CtState::New);
            assert_eq!(state_of(&memory, &answer), CtState::Established);
            assert_eq!(state_of(&memory, &stray), CtState::Invalid);
        }
    }

    #[test]
    fn neighbour_discovery_is_untracked() {
        let memory = Memory::default();
        let solicitation = Frame::between("fe80::1", "ff02::1:ff00:2").icmp(135, 0, 0);
        assert_eq!(state_of(&memory, &solicitation), CtState::Untracked);
    }

    #[test]
    fn any_protocol_is_tracked_by_its_addresses() {
        let memory = Memory::default();
        let there = Frame::between(CLIENT, SERVER).protocol(47).payload(&[0; 8]);
        let back = Frame::between(SERVER, CLIENT).protocol(47).payload(&[0; 8]);
        assert_eq!(state_of(&memory, &there), CtState::New);
        assert_eq!(state_of(&memory, &back), CtState::Established);
    }
}

mod icmp_errors {
    use super::*;

    #[test]
    fn about_a_known_flow_is_related_also_from_a_router_on_the_way() {
        let memory = Memory::default();
        send(&memory, &to_server(SYN));
        for (sender, icmp_type, code) in [(SERVER, 3, 3), ("203.0.113.1", 3, 4), (SERVER, 11, 0)] {
            let error = Frame::between(sender, CLIENT).icmp_error(icmp_type, code, &to_server(SYN));
            assert_eq!(state_of(&memory, &error), CtState::Related);
        }
    }

    #[test]
    fn about_an_unknown_flow_or_to_another_host_is_invalid() {
        let memory = Memory::default();
        send(&memory, &to_server(SYN));
        let unknown = Frame::between(CLIENT, SERVER).tcp(40_001, 80, SYN);
        let error = Frame::between(SERVER, CLIENT).icmp_error(3, 3, &unknown);
        assert_eq!(state_of(&memory, &error), CtState::Invalid);
        let astray = Frame::between(SERVER, "192.0.2.77").icmp_error(3, 3, &to_server(SYN));
        assert_eq!(state_of(&memory, &astray), CtState::Invalid);
    }

    #[test]
    fn in_ipv6_too() {
        let memory = Memory::default();
        let syn = Frame::between("2001:db8:1::2", "2001:db8:2::2").tcp(40_000, 80, SYN);
        send(&memory, &syn);
        let error = Frame::between("2001:db8:2::2", "2001:db8:1::2").icmp_error(1, 4, &syn);
        assert_eq!(state_of(&memory, &error), CtState::Related);
    }
}

mod rules {
    use super::*;

    #[test]
    fn an_established_direction_skips_the_rules_and_moves_their_counters() {
        let memory = with_rules(&[accept(&[CtState::Established]), accept_new_to(80)]);
        connect(&memory);
        let hits = memory.stat(Stat::CacheHit as u32);
        assert_eq!(counted(&memory, &to_server(ACK)), FORWARDED);
        assert_eq!(counted(&memory, &to_server(ACK)), FORWARDED);
        assert_eq!(memory.stat(Stat::CacheHit as u32), hits + 2);
        assert_eq!(memory.rule_counter(0).packets, 4);
        assert_eq!(memory.rule_counter(1).packets, 1);
    }

    #[test]
    fn a_new_generation_judges_established_flows_anew() {
        let mut memory = with_rules(&[accept(&[CtState::Established]), accept_new_to(80)]);
        connect(&memory);
        send(&memory, &to_server(ACK));
        memory.rules = with_rules(&[]).rules;
        memory.generation += 1;
        assert_eq!(counted(&memory, &to_server(ACK)), Verdict::Drop(DropReason::Policy));
    }

    #[test]
    fn a_log_rule_reports_every_packet_and_the_next_rule_decides() {
        let log = Rule { target: Target::Log as u8, flags: flag::PER_PACKET, ..Rule::default() };
        let memory = with_rules(&[log, accept(&[CtState::New, CtState::Established])]);
        connect(&memory);
        let events = memory.events.borrow();
        assert_eq!(events.len(), 3);
        assert!(events.iter().all(|event| event.kind == EventKind::Log as u8 && event.rule == 0));
        assert_eq!(memory.stat(Stat::CacheHit as u32), 0);
    }

    #[test]
    fn drops_are_reported_with_their_reason_when_somebody_watches() {
        let mut memory = with_rules(&[]);
        memory.options.bits |= option::REPORT_DROPS;
        send(&memory, &to_server(SYN));
        let events = memory.events.borrow();
        assert_eq!(events[0].kind, EventKind::Drop as u8);
        assert_eq!(DropReason::from_byte(events[0].reason), Some(DropReason::Policy));
    }

    #[test]
    fn drops_are_reported_to_be_remembered_only_while_a_daemon_lives() {
        let mut memory = with_rules(&[]);
        memory.options.bits |= option::REMEMBER_DROPS;
        send(&memory, &to_server(SYN));
        assert_eq!(memory.events.borrow().len(), 0);
        memory.heartbeat = NOW;
        send(&memory, &to_server(SYN));
        assert_eq!(memory.events.borrow().len(), 1);
        assert_eq!(memory.stat(Stat::EventsLost as u32), 0);
    }

    #[test]
    fn a_frame_that_cannot_be_read_is_reported_too() {
        let mut memory = Memory::default();
        memory.options.bits |= option::REPORT_DROPS;
        memory.filter(&to_server(SYN).build()[..30], NOW);
        let events = memory.events.borrow();
        assert_eq!(DropReason::from_byte(events[0].reason), Some(DropReason::Truncated));
        assert_eq!((events[0].chain, events[0].in_ifindex), (NO_CHAIN, 1));
    }

    #[test]
    fn a_jump_comes_back_and_a_goto_does_not() {
        let jump = |target, to| Rule { target: target as u8, argument: to, ..Rule::default() };
        let end = |at| Rule {
            target: Target::Return as u8,
            flags: flag::CHAIN_END,
            chain_end: at,
            ..Rule::default()
        };
        for (target, verdict) in
            [(Target::Jump, FORWARDED), (Target::Goto, Verdict::Drop(DropReason::Policy))]
        {
            let mut memory = with_rules(&[jump(target, 3), accept(&[CtState::New])]);
            memory.rules.push(end(3));
            assert_eq!(send(&memory, &to_server(SYN)), verdict);
        }
    }

    #[test]
    fn a_port_list_looks_at_the_side_that_it_names() {
        let mut set = PortSet { ranges: [PortRange::NONE; 15], side: 1, ..PortSet::default() };
        set.ranges[1] = PortRange { first: 80, last: 81 };
        let rule =
            Rule { present: condition::PORTS_0, target: Target::Accept as u8, ..Rule::default() };
        let mut memory = with_rules(&[rule]);
        memory.port_sets = vec![set];
        assert_eq!(counted(&memory, &to_server(SYN)), FORWARDED);
        let mirrored = Frame::between(CLIENT, SERVER).tcp(80, 40_000, SYN);
        assert_eq!(counted(&memory, &mirrored), Verdict::Drop(DropReason::Policy));
    }

    #[test]
    fn table_raw_comes_first_and_assigns_the_helper() {
        let assign = Rule {
            present: condition::DPORT,
            dport: PortRange { first: 2_121, last: 2_121 },
            target: Target::Helper as u8,
            argument: u32::from(helper::FTP),
            chain_end: 1,
            ..Rule::default()
        };
        let policy = Rule {
            flags: flag::POLICY,
            target: Target::Accept as u8,
            chain_end: 1,
            ..Rule::default()
        };
        let memory = Memory::with(|memory| {
            memory.rules = vec![assign, policy, Rule { chain_end: 2, ..policy }];
            memory.header = RulesetHeader::of_filter(2);
            memory.header.entries[0][Chain::RawPrerouting as usize] = 0;
        });
        send(&memory, &Frame::between(CLIENT, SERVER).tcp(40_000, 2_121, SYN));
        let (_, flow) = memory.known(&key(CLIENT, SERVER, 40_000, 2_121, 6)).unwrap();
        assert_eq!(flow.helper, helper::FTP);
    }

    #[test]
    fn a_rejected_packet_names_the_answer_and_leaves_no_flow() {
        let reject = Rule {
            target: Target::Reject as u8,
            argument: RejectKind::TcpReset as u32,
            ..Rule::default()
        };
        let memory = with_rules(&[reject]);
        assert_eq!(counted(&memory, &to_server(SYN)), Verdict::Reject(RejectKind::TcpReset));
        assert_eq!(memory.flow_count(), 0);
    }
}

mod ftp {
    use super::*;

    fn control(flags: u8) -> Frame {
        Frame::between(CLIENT, SERVER).tcp(40_000, 21, flags)
    }

    fn log_in(memory: &Memory) {
        send(memory, &control(SYN));
        send(memory, &Frame::between(SERVER, CLIENT).tcp(21, 40_000, SYN | ACK));
        send(memory, &control(ACK));
    }

    fn announce(memory: &Memory, port: u16) -> ExpectationKey {
        let control = key(CLIENT, SERVER, 40_000, 21, 6);
        let (_, master) = memory.known(&control).unwrap();
        let tuple = control.tuple(master.originator());
        let expected = ExpectationKey {
            src: tuple.src,
            dst: tuple.dst,
            dport: port,
            protocol: protocol::TCP,
            _pad: 0,
        };
        let expectation = Expectation {
            expires: NOW.after(Nanos::from_secs(300)),
            master: tuple,
            master_created: master.created,
            helper: helper::FTP,
            ..Expectation::default()
        };
        memory.expectations.borrow_mut().insert(expected, expectation);
        expected
    }

    fn data(flags: u8) -> Frame {
        Frame::between(CLIENT, SERVER).tcp(50_000, 40_123, flags)
    }

    #[test]
    fn payload_on_the_control_connection_waits_for_the_helper_and_acks_do_not() {
        let memory = Memory::with(|memory| memory.heartbeat = NOW);
        log_in(&memory);
        let verdict = counted(&memory, &control(ACK | PSH).payload(b"PASV\r\n"));
        assert_eq!(verdict, Verdict::Punt(Chain::Forward));
        assert_eq!(memory.scratch().punt.payload_len, 6);
        assert_eq!(counted(&memory, &control(ACK)), FORWARDED);
    }

    #[test]
    fn a_connection_that_is_picked_up_is_read_from_its_first_segment_on() {
        let memory = Memory::with(|memory| memory.heartbeat = NOW);
        let verdict = counted(&memory, &control(ACK | PSH).payload(b"PASV\r\n"));
        assert_eq!(verdict, Verdict::Punt(Chain::Forward));
        let punt = memory.scratch().punt;
        assert_eq!((punt.picked_up, punt.helper), (1, helper::FTP));
        assert_eq!((punt.flow.sport, punt.flow.dport), (40_000, 21));
    }

    #[test]
    fn without_a_daemon_control_traffic_flows_on_or_waits_as_configured() {
        let mut memory = Memory::default();
        log_in(&memory);
        let command = control(ACK | PSH).payload(b"PASV\r\n");
        let late = NOW.after(HEARTBEAT_LIMIT);
        assert_eq!(memory.filter(&command.build(), late), FORWARDED);
        assert_eq!(memory.stat(Stat::PuntSkipped as u32), 1);
        memory.options.bits |= option::HELPER_FAILURE_CLOSED;
        let verdict = memory.filter(&command.build(), late);
        assert_eq!(verdict, Verdict::Drop(DropReason::HelperAway));
    }

    #[test]
    fn what_flows_on_without_a_daemon_is_not_missing() {
        let memory = Memory::default();
        log_in(&memory);
        let command = control(ACK | PSH).payload(b"PASV\r\n");
        send(&memory, &command);
        let held = memory.scratch().punt;
        memory.unread.borrow_mut().insert(held.way(), Unread::of(&held));
        memory.filter(&command.build(), NOW.after(HEARTBEAT_LIMIT));
        assert_eq!(memory.unread.borrow()[&held.way()].seq.0, held.seq + 6);
    }

    #[test]
    fn the_announced_connection_is_related_once() {
        let memory = Memory::default();
        log_in(&memory);
        announce(&memory, 40_123);
        assert_eq!(state_of(&memory, &data(SYN)), CtState::Related);
        assert_eq!(memory.scratch().walk.announced_by, helper::FTP);
        let (_, flow) = memory.known(&key(CLIENT, SERVER, 50_000, 40_123, 6)).unwrap();
        assert!(flow.has(status::EXPECTED));
        assert!(memory.master(&key(CLIENT, SERVER, 50_000, 40_123, 6)).is_some());
        assert_eq!(memory.stat(Stat::ExpectationsUsed as u32), 1);
        let again = Frame::between(CLIENT, SERVER).tcp(50_001, 40_123, SYN);
        assert_eq!(state_of(&memory, &again), CtState::New);
    }

    #[test]
    fn a_dropped_syn_does_not_use_the_announcement_up() {
        let mut memory = Memory::default();
        log_in(&memory);
        announce(&memory, 40_123);
        memory.rules = with_rules(&[]).rules;
        memory.generation += 1;
        assert_eq!(send(&memory, &data(SYN)), Verdict::Drop(DropReason::Policy));
        assert_eq!(memory.expectations.borrow().len(), 1);
    }

    #[test]
    fn only_a_syn_from_the_announced_host_to_the_announced_port_is_related() {
        let memory = Memory::default();
        log_in(&memory);
        announce(&memory, 40_123);
        assert_eq!(state_of(&memory, &data(ACK)), CtState::New);
        let beside = Frame::between(CLIENT, SERVER).tcp(50_000, 40_124, SYN);
        assert_eq!(state_of(&memory, &beside), CtState::New);
        let other = Frame::between("192.0.2.3", SERVER).tcp(50_000, 40_123, SYN);
        assert_eq!(state_of(&memory, &other), CtState::New);
    }

    #[test]
    fn an_announcement_ends_with_its_control_connection_and_with_its_time() {
        let memory = Memory::default();
        log_in(&memory);
        announce(&memory, 40_123);
        let late = NOW.after(Nanos::from_secs(301));
        memory.filter(&data(SYN).build(), late);
        assert_eq!(ctstate(&memory), Some(CtState::New));

        let memory = Memory::default();
        log_in(&memory);
        announce(&memory, 40_123);
        send(&memory, &control(RST));
        assert_eq!(state_of(&memory, &data(SYN)), CtState::New);
    }
}

mod frames {
    use super::*;

    #[test]
    fn what_cannot_be_read_is_dropped_with_a_reason() {
        let memory = Memory::default();
        let whole = to_server(SYN).build();
        for len in 0..whole.len() {
            let verdict = memory.filter(&whole[..len], NOW);
            let is_refused =
                matches!(verdict, Verdict::Drop(DropReason::Truncated | DropReason::Malformed));
            assert!(is_refused || ctstate(&memory) == Some(CtState::Invalid), "{len}: {verdict:?}");
        }
        assert_eq!(memory.flow_count(), 0);
    }

    #[test]
    fn arp_passes_unless_configured_otherwise() {
        let mut memory = Memory::default();
        let mut arp = vec![0xff; 12];
        arp.extend([0x08, 0x06]);
        arp.extend([0; 46]);
        assert_eq!(memory.filter(&arp, NOW), Verdict::Pass(Stat::PassNonIp));
        memory.options.bits |= option::DROP_NON_IP;
        assert_eq!(memory.filter(&arp, NOW), Verdict::Drop(DropReason::NonIp));
    }

    #[test]
    fn tags_options_and_extension_headers_are_looked_behind() {
        let memory = Memory::default();
        let frames = [
            to_server(SYN).vlan(5),
            to_server(SYN).vlan(5).vlan(6),
            to_server(SYN).options(&[1, 1, 1]),
            Frame::between("2001:db8:1::2", "2001:db8:2::2").tcp(1, 80, SYN).extension(0),
            Frame::between("2001:db8:1::2", "2001:db8:2::2")
                .tcp(2, 80, SYN)
                .extension(0)
                .extension(43)
                .extension(60),
        ];
        for frame in frames {
            assert_eq!(counted(&memory, &frame), FORWARDED);
            assert_eq!(memory.scratch().headers.tuple.dport, 80);
        }
    }

    #[test]
    fn a_fragment_header_ends_within_its_packet() {
        let memory = Memory::default();
        let frame = Frame::between("2001:db8:1::2", "2001:db8:2::2").protocol(6);
        let mut bytes = frame.payload(&[b'y'; 32]).fragment(8, false, 7).build();
        for payload_len in 1..8 {
            bytes[14 + 4..14 + 6].copy_from_slice(&u16::to_be_bytes(payload_len));
            assert_eq!(memory.filter(&bytes, NOW), Verdict::Drop(DropReason::Malformed));
        }
    }

    #[test]
    fn an_ipv6_packet_with_ipv4_addresses_belongs_to_no_ipv4_flow() {
        let memory = Memory::default();
        connect(&memory);
        let mapped = [CLIENT, SERVER].map(|address| format!("::ffff:{address}"));
        for (src, dst) in [(&*mapped[0], &*mapped[1]), (&mapped[0], "2001:db8::1")] {
            let frame = Frame::between(src, dst).tcp(40_000, 80, ACK);
            assert_eq!(counted(&memory, &frame), Verdict::Drop(DropReason::Malformed));
            let frame = Frame::between(dst, src).tcp(80, 40_000, ACK);
            assert_eq!(counted(&memory, &frame), Verdict::Drop(DropReason::Malformed));
        }
    }

    #[test]
    fn an_ipv6_error_that_quotes_ipv4_addresses_is_related_to_no_ipv4_flow() {
        let memory = Memory::default();
        connect(&memory);
        let mapped = [CLIENT, SERVER].map(|address| format!("::ffff:{address}"));
        let quoted = Frame::between(&mapped[0], &mapped[1]).tcp(40_000, 80, ACK);
        let error = Frame::between("2001:db8::1", "2001:db8::2").icmp_error(1, 3, &quoted);
        assert_eq!(state_of(&memory, &error), CtState::Invalid);
        let quoted = Frame::between(CLIENT, SERVER).tcp(40_000, 80, ACK);
        let error = Frame::between("203.0.113.1", CLIENT).icmp_error(3, 1, &quoted);
        assert_eq!(state_of(&memory, &error), CtState::Related);
    }

    #[test]
    fn a_frame_for_another_station_is_left_to_the_stack() {
        let mut memory = Memory::default();
        memory.add_device(1, [2, 0, 0, 0, 0, 9]);
        assert_eq!(counted(&memory, &to_server(SYN)), Verdict::Pass(Stat::PassOtherHost));
        memory.add_device(1, [2, 0, 0, 0, 0, 2]);
        assert_eq!(counted(&memory, &to_server(SYN)), FORWARDED);
        assert_eq!(memory.devices[&1].flags & device::OURS, device::OURS);
    }

    #[test]
    fn a_frame_for_many_goes_no_further_than_to_this_host() {
        const ALL: [u8; 6] = [0xff; 6];
        let mut memory = Memory::default();
        let for_all = |flags| to_server(flags).macs([2, 0, 0, 0, 0, 1], ALL);
        let stopped = Verdict::Drop(DropReason::FrameForMany);
        assert_eq!(counted(&memory, &for_all(SYN)), stopped);
        assert_eq!((memory.flow_count(), packets(&memory)), (0, 0), "no rule has seen it");
        connect(&memory);
        let known = || memory.known(&key(CLIENT, SERVER, 40_000, 80, 6)).unwrap().1.sides;
        let (flow, seen) = (known(), packets(&memory));
        assert_eq!(counted(&memory, &for_all(ACK | PSH)), stopped);
        assert_eq!((known(), packets(&memory)), (flow, seen), "nor of a connection");

        // What the host sends to many it has been asked to send.
        let out = memory.filter_at(Hook::Egress, 2, &for_all(ACK).build(), NOW);
        assert_eq!(out, Verdict::Accept(Chain::Output));
        memory.route = |_| (Chain::Input, 0);
        assert_eq!(counted(&memory, &for_all(SYN)), Verdict::Accept(Chain::Input));
    }

    #[test]
    fn chains_are_told_apart_by_where_the_packet_goes() {
        let mut memory = Memory::default();
        memory.route = |_| (Chain::Input, 0);
        assert_eq!(counted(&memory, &to_server(SYN)), Verdict::Accept(Chain::Input));
        let frame = Frame::between(SERVER, CLIENT).udp(1, 2).build();
        let verdict = memory.filter_at(Hook::Egress, 2, &frame, NOW);
        assert_eq!(verdict, Verdict::Accept(Chain::Output));
    }
}

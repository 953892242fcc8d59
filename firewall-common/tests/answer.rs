//! The answers of REJECT on their way out: what OUTPUT and POSTROUTING say of them.

use firewall_common::{
    extra::need,
    flow::CtState,
    rule::{Chain, RejectKind, Rule, Target, condition, flag},
    testing::{Frame, Memory},
    time::Nanos,
    verdict::{DropReason, Verdict, drop_counter},
    wire::tcp_flag::{ACK, RST, SYN},
};

const CLIENT: &str = "192.0.2.2";
const SERVER: &str = "198.51.100.2";
const NOW: Nanos = Nanos::from_secs(1_000);
/// Rules of OUTPUT, which count by state; behind them the policy.
const RELATED: u32 = 2;
const INVALID: u32 = 3;
/// The rule of POSTROUTING in table nat.
const LEAVING: u32 = 5;

fn counting(state: CtState) -> Rule {
    Rule { present: condition::STATES, states: state.bit(), ..Rule::default() }
}

/// FORWARD rejects everything, and OUTPUT has this policy; the interface 1 is ours.
fn rejecting(policy: Target) -> Memory {
    Memory::with(|memory| {
        memory.add_device(1, [2, 0, 0, 0, 0, 2]);
        let ending = |target: Target, at: u32| Rule {
            target: target as u8,
            flags: flag::POLICY,
            chain_end: at,
            ..Rule::default()
        };
        let kind = RejectKind::TcpReset as u32;
        let reject = Rule { target: Target::Reject as u8, argument: kind, ..Rule::default() };
        let with_end = |rule: Rule, chain_end| Rule { chain_end, ..rule };
        memory.rules = vec![
            ending(Target::Accept, 0),
            with_end(reject, 1),
            with_end(counting(CtState::Related), 4),
            with_end(counting(CtState::Invalid), 4),
            ending(policy, 4),
            with_end(Rule::default(), 6),
            ending(Target::Accept, 6),
        ];
        for entries in &mut memory.header.entries {
            entries[Chain::Forward as usize] = 1;
            entries[Chain::Output as usize] = RELATED;
            entries[Chain::NatPostrouting as usize] = LEAVING;
        }
        memory.header.needs |= need::NAT;
    })
}

/// A segment of the client is rejected; whether the reset comes out.
fn answered(memory: &Memory, flags: u8) -> bool {
    let segment = Frame::between(CLIENT, SERVER).tcp(40_000, 80, flags).build();
    assert_eq!(memory.filter(&segment, NOW), Verdict::Reject(RejectKind::TcpReset));
    let reset = Frame::between(SERVER, CLIENT).tcp(80, 40_000, RST | ACK).build();
    memory.lets_out(&reset, NOW)
}

fn counted(memory: &Memory) -> [u64; 3] {
    [RELATED, INVALID, LEAVING].map(|rule| memory.rule_counter(rule).packets)
}

#[test]
fn the_answer_to_a_new_connection_is_related_and_is_shown_to_table_nat() {
    let memory = rejecting(Target::Accept);
    assert!(answered(&memory, SYN));
    assert_eq!(counted(&memory), [1, 0, 1]);
    assert_eq!(memory.flow_count(), 0);
}

#[test]
fn the_answer_to_what_belongs_to_no_connection_is_invalid() {
    let memory = rejecting(Target::Accept);
    assert!(answered(&memory, SYN | ACK));
    assert_eq!(counted(&memory), [0, 1, 0]);
}

#[test]
fn an_icmp_error_is_related_and_no_matter_of_table_nat() {
    let mut memory = rejecting(Target::Accept);
    let kind = RejectKind::PortUnreachable;
    memory.rules[1].argument = kind as u32;
    let segment = Frame::between(CLIENT, SERVER).tcp(40_000, 80, SYN).build();
    assert_eq!(memory.filter(&segment, NOW), Verdict::Reject(kind));
    let error = Frame::between("198.51.100.1", CLIENT).icmp(3, 3, 0).build();
    assert!(memory.lets_out(&error, NOW));
    assert_eq!(counted(&memory), [1, 0, 0]);
}

#[test]
fn output_may_drop_it_and_that_is_counted() {
    let memory = rejecting(Target::Drop);
    assert!(!answered(&memory, SYN));
    assert_eq!(counted(&memory), [1, 0, 0]);
    assert_eq!(memory.stat(drop_counter(DropReason::Reject)), 1);
    assert_eq!(memory.stat(drop_counter(DropReason::Policy)), 1);
}

#[test]
fn nobody_answers_an_answer() {
    let memory = rejecting(Target::Reject);
    assert!(!answered(&memory, SYN));
    assert_eq!(memory.stat(drop_counter(DropReason::Rule)), 1);
}

#[test]
fn what_leaves_by_an_interface_that_is_not_ours_is_not_judged() {
    let mut memory = rejecting(Target::Drop);
    memory.devices.clear();
    assert!(answered(&memory, SYN));
    assert_eq!(counted(&memory), [0, 0, 0]);
}

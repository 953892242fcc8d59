//! What watchers are told of flows: each beginning and end once, each change of
//! state or status once.

use firewall_common::{
    control::option,
    flow::{State, status},
    flow_event::{FlowChange, FlowEvent},
    testing::{Frame, Memory},
    time::Nanos,
    verdict::Verdict,
    wire::tcp_flag::{ACK, FIN, PSH, RST, SYN},
};

const CLIENT: &str = "192.0.2.2";
const SERVER: &str = "198.51.100.2";
const NOW: Nanos = Nanos::from_secs(1_000);

fn watched() -> Memory {
    Memory::with(|memory| memory.options.bits |= option::REPORT_FLOWS)
}

fn to_server(flags: u8) -> Frame {
    Frame::between(CLIENT, SERVER).tcp(40_000, 80, flags)
}

fn to_client(flags: u8) -> Frame {
    Frame::between(SERVER, CLIENT).tcp(80, 40_000, flags)
}

/// What is told when a frame is accepted.
fn told(memory: &Memory, frame: &Frame) -> Vec<FlowEvent> {
    told_at(memory, frame, NOW)
}

fn told_at(memory: &Memory, frame: &Frame, now: Nanos) -> Vec<FlowEvent> {
    memory.flow_events.borrow_mut().clear();
    assert!(matches!(memory.filter(&frame.build(), now), Verdict::Accept(_)), "{frame:?}");
    memory.flow_events.borrow().clone()
}

fn changes(events: &[FlowEvent]) -> Vec<FlowChange> {
    events.iter().map(|event| FlowChange::from_byte(event.change).expect("a change")).collect()
}

fn states(events: &[FlowEvent]) -> Vec<State> {
    events.iter().map(|event| State::from_byte(event.flow.state).expect("a state")).collect()
}

#[test]
fn a_connection_is_told_from_its_first_packet_to_time_wait() {
    let memory = watched();
    let frames = [
        (to_server(SYN), FlowChange::New, State::SynSent),
        (to_client(SYN | ACK), FlowChange::Update, State::SynRecv),
        (to_server(ACK), FlowChange::Update, State::Established),
        (to_server(FIN | ACK), FlowChange::Update, State::FinWait),
        (to_client(FIN | ACK), FlowChange::Update, State::LastAck),
        (to_server(ACK), FlowChange::Update, State::TimeWait),
    ];
    for (frame, change, state) in frames {
        let events = told(&memory, &frame);
        assert_eq!((changes(&events), states(&events)), (vec![change], vec![state]), "{frame:?}");
        assert_eq!(events[0].at, NOW);
    }
}

#[test]
fn the_status_is_that_after_the_change() {
    let memory = watched();
    assert_eq!(told(&memory, &to_server(SYN))[0].flow.status, 0);
    assert_eq!(told(&memory, &to_client(SYN | ACK))[0].flow.status, status::SEEN_REPLY);
    let assured = told(&memory, &to_server(ACK))[0].flow;
    assert_eq!(assured.status, status::SEEN_REPLY | status::ASSURED);
    assert_eq!((assured.sides[0].packets, assured.sides[1].packets), (2, 1));
}

#[test]
fn packets_that_change_nothing_are_not_told() {
    let memory = watched();
    for frame in [to_server(SYN), to_client(SYN | ACK), to_server(ACK)] {
        told(&memory, &frame);
    }
    for frame in [to_server(ACK | PSH), to_client(ACK), to_server(SYN)] {
        assert!(told(&memory, &frame).is_empty(), "{frame:?}");
    }
}

#[test]
fn a_refused_connection_ends_with_the_refusal_counted() {
    let memory = watched();
    told(&memory, &to_server(SYN));
    let events = told(&memory, &to_client(RST | ACK));
    assert_eq!(changes(&events), [FlowChange::Destroy]);
    let flow = events[0].flow;
    assert_eq!((flow.state, flow.status), (State::Close as u8, 0));
    assert_eq!((flow.sides[0].packets, flow.sides[1].packets), (1, 1));
    assert_eq!(memory.flow_count(), 0);
}

#[test]
fn a_reopened_connection_ends_the_closed_one_first() {
    let memory = watched();
    for frame in [to_server(SYN), to_client(SYN | ACK), to_server(ACK), to_server(RST)] {
        told(&memory, &frame);
    }
    let events = told(&memory, &to_server(SYN));
    assert_eq!(changes(&events), [FlowChange::Destroy, FlowChange::New]);
    assert_eq!(states(&events), [State::Close, State::SynSent]);
    assert_eq!((events[0].flow.sides[0].packets, events[0].flow.sides[1].packets), (3, 1));
}

#[test]
fn an_expired_flow_ends_when_another_takes_its_place() {
    let memory = watched();
    let question = Frame::between(CLIENT, SERVER).udp(5_000, 53).payload(b"question");
    assert_eq!(changes(&told(&memory, &question)), [FlowChange::New]);
    let later = NOW.after(Nanos::from_secs(31));
    let events = told_at(&memory, &question, later);
    assert_eq!(changes(&events), [FlowChange::Destroy, FlowChange::New]);
    assert_eq!((events[0].flow.created, events[1].flow.created), (NOW, later));
}

#[test]
fn an_answered_ping_is_told_twice() {
    let memory = watched();
    let ping = Frame::between(CLIENT, SERVER).icmp(8, 0, 77);
    let pong = Frame::between(SERVER, CLIENT).icmp(0, 0, 77);
    assert_eq!(changes(&told(&memory, &ping)), [FlowChange::New]);
    assert_eq!(changes(&told(&memory, &pong)), [FlowChange::Update]);
    assert!(told(&memory, &ping).is_empty());
}

#[test]
fn a_dropped_packet_is_no_news_of_a_flow() {
    let full = Memory::with(|memory| {
        memory.options.bits |= option::REPORT_FLOWS;
        memory.embryonic_size = 0;
    });
    assert!(matches!(full.filter(&to_server(SYN).build(), NOW), Verdict::Drop(_)));
    assert!(full.flow_events.borrow().is_empty());
}

#[test]
fn nobody_is_told_unless_somebody_watches() {
    let memory = Memory::default();
    for frame in [to_server(SYN), to_client(SYN | ACK), to_server(ACK), to_client(RST)] {
        assert!(told(&memory, &frame).is_empty());
    }
    told(&memory, &Frame::between(CLIENT, SERVER).tcp(40_001, 80, SYN));
    let refusal = Frame::between(SERVER, CLIENT).tcp(80, 40_001, RST | ACK);
    assert!(told(&memory, &refusal).is_empty());
    assert_eq!(memory.flow_count(), 1);
}

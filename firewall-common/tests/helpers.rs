//! What helpers announce beyond single TCP connections: a range of ports, and flows of UDP.

use firewall_common::{
    control::option,
    expectation::{Expectation, ExpectationKey},
    flow::{CtState, FlowKey, Tuple, helper, protocol, status},
    rule::Chain,
    tables::Tables as _,
    testing::{Frame, Memory},
    time::Nanos,
    verdict::Verdict,
    wire::tcp_flag::{ACK, PSH, RST, SYN},
};

const CLIENT: &str = "192.0.2.2";
const SERVER: &str = "198.51.100.2";
const NOW: Nanos = Nanos::from_secs(1_000);

fn state_of(memory: &Memory, frame: &Frame) -> CtState {
    memory.filter(&frame.build(), NOW);
    CtState::from_bit(memory.scratch().walk.ctstate).expect("a judged packet has a ctstate")
}

fn key(sport: u16, dport: u16, protocol: u8) -> FlowKey {
    let [src, dst] = [CLIENT, SERVER].map(|it| it.parse::<std::net::IpAddr>().unwrap().into());
    FlowKey::of(&Tuple { src, dst, sport, dport, protocol, ..Tuple::default() }).0
}

/// An entry for what the flow under a key announces; from its server when `is_reply`.
fn announce(memory: &Memory, control: &FlowKey, dport: u16, is_reply: bool, range: (u16, u16)) {
    let (_, master) = memory.known(control).unwrap();
    let tuple = control.tuple(master.originator());
    let way = if is_reply { tuple.reversed() } else { tuple };
    let (src, dst, protocol) = (way.src, way.dst, tuple.protocol);
    let key = ExpectationKey { src, dst, dport, protocol, _pad: 0 };
    let expectation = Expectation {
        expires: Nanos(u64::MAX),
        master: tuple,
        master_created: master.created,
        helper: master.helper,
        first_port: range.0,
        last_port: range.1,
        ..Expectation::default()
    };
    memory.expectations.borrow_mut().insert(key, expectation);
}

mod a_range_of_ports {
    use super::*;

    fn control(flags: u8) -> Frame {
        Frame::between(CLIENT, SERVER).tcp(40_000, 21, flags)
    }

    fn data(sport: u16, dport: u16) -> Frame {
        Frame::between(CLIENT, SERVER).tcp(sport, dport, SYN)
    }

    fn with_range() -> Memory {
        let memory = Memory::with(|memory| memory.options.bits |= option::PASSAGES);
        for frame in
            [control(SYN), Frame::between(SERVER, CLIENT).tcp(21, 40_000, SYN | ACK), control(ACK)]
        {
            memory.filter(&frame.build(), NOW);
        }
        announce(&memory, &key(40_000, 21, protocol::TCP), 0, false, (50_000, 50_100));
        memory
    }

    #[test]
    fn admits_any_number_of_connections_between_its_ends() {
        let memory = with_range();
        for (sport, dport) in [(1, 50_000), (2, 50_000), (3, 50_050), (4, 50_100)] {
            assert_eq!(state_of(&memory, &data(sport, dport)), CtState::Related, "{dport}");
            assert_eq!(memory.scratch().walk.announced_by, helper::FTP);
            let (_, flow) = memory.known(&key(sport, dport, protocol::TCP)).unwrap();
            assert!(flow.has(status::EXPECTED));
        }
        assert_eq!(memory.expectations.borrow().len(), 1);
    }

    #[test]
    fn admits_nothing_beside_it_nor_from_another_host() {
        let memory = with_range();
        for dport in [49_999, 50_101, 1, 65_535] {
            assert_eq!(state_of(&memory, &data(1, dport)), CtState::New, "{dport}");
        }
        let other = Frame::between("192.0.2.3", SERVER).tcp(1, 50_000, SYN);
        assert_eq!(state_of(&memory, &other), CtState::New);
        let back = Frame::between(SERVER, CLIENT).tcp(1, 50_000, SYN);
        assert_eq!(state_of(&memory, &back), CtState::New);
    }

    #[test]
    fn ends_with_its_control_connection() {
        let memory = with_range();
        memory.filter(&control(RST).build(), NOW);
        assert_eq!(state_of(&memory, &data(1, 50_000)), CtState::New);
    }

    #[test]
    fn an_encrypted_control_connection_is_read_for_the_end_of_that_and_waits_for_nobody() {
        let mut memory = Memory::with(|memory| memory.heartbeat = NOW);
        for frame in
            [control(SYN), Frame::between(SERVER, CLIENT).tcp(21, 40_000, SYN | ACK), control(ACK)]
        {
            memory.filter(&frame.build(), NOW);
        }
        let control_key = key(40_000, 21, protocol::TCP);
        let (table, _) = memory.known(&control_key).unwrap();
        memory.flow(table, &control_key).unwrap().status |= status::ENCRYPTED;
        let record = control(ACK | PSH).payload(b"\x17\x03\x03\0\x01x");
        assert_eq!(memory.filter(&record.build(), NOW), Verdict::Punt(Chain::Forward));
        memory.options.bits |= option::HELPER_FAILURE_CLOSED;
        let later = NOW.after(Nanos::from_secs(60));
        assert_eq!(memory.filter(&record.build(), later), Verdict::Accept(Chain::Forward));
    }
}

mod tftp {
    use super::*;

    fn request() -> Frame {
        Frame::between(CLIENT, SERVER).udp(2_070, 69).payload(b"\0\x01a\0octet\0")
    }

    fn with_helper() -> Memory {
        Memory::with(|memory| {
            memory.heartbeat = NOW;
            memory.helper_ports.insert(69, helper::TFTP);
        })
    }

    #[test]
    fn a_request_waits_for_the_helper_and_other_datagrams_do_not() {
        let memory = with_helper();
        assert_eq!(memory.filter(&request().build(), NOW), Verdict::Punt(Chain::Forward));
        let punt = memory.scratch().punt;
        assert_eq!((punt.helper, punt.payload_len), (helper::TFTP, 10));
        let other = Frame::between(CLIENT, SERVER).udp(2_070, 53).payload(b"x");
        assert_eq!(memory.filter(&other.build(), NOW), Verdict::Accept(Chain::Forward));
        // FTP is TCP's, TFTP is UDP's.
        let tcp = Frame::between(CLIENT, SERVER).tcp(2_070, 69, ACK | PSH).payload(b"x");
        assert_eq!(memory.filter(&tcp.build(), NOW), Verdict::Accept(Chain::Forward));
        let udp = Frame::between(CLIENT, SERVER).udp(2_070, 21).payload(b"x");
        assert_eq!(memory.filter(&udp.build(), NOW), Verdict::Accept(Chain::Forward));
    }

    #[test]
    fn the_servers_answer_is_related_once_it_was_announced() {
        let mut memory = with_helper();
        memory.filter(&request().build(), NOW);
        announce(&memory, &key(2_070, 69, protocol::UDP), 2_070, true, (0, 0));
        let answer = |port| Frame::between(SERVER, CLIENT).udp(port, 2_070).payload(b"data");
        assert_eq!(state_of(&memory, &answer(3_000)), CtState::New, "nobody has switched it on");
        memory.options.bits |= option::UDP_EXPECTED;
        assert_eq!(state_of(&memory, &answer(3_001)), CtState::Related);
        assert_eq!(memory.scratch().walk.announced_by, helper::TFTP);
        assert!(memory.expectations.borrow().is_empty());
        assert_eq!(state_of(&memory, &answer(3_002)), CtState::New);
        let back = Frame::between(CLIENT, SERVER).udp(2_070, 3_001).payload(b"ok");
        assert_eq!(state_of(&memory, &back), CtState::Established);
    }

    #[test]
    fn what_was_announced_ends_with_the_request() {
        let mut memory = with_helper();
        memory.options.bits |= option::UDP_EXPECTED;
        memory.filter(&request().build(), NOW);
        announce(&memory, &key(2_070, 69, protocol::UDP), 2_070, true, (0, 0));
        let answer = Frame::between(SERVER, CLIENT).udp(3_000, 2_070).payload(b"data");
        let later = NOW.after(Nanos::from_secs(60));
        memory.filter(&answer.build(), later);
        assert_eq!(CtState::from_bit(memory.scratch().walk.ctstate), Some(CtState::New));
    }
}

#[test]
fn a_port_may_have_a_helper_of_tcp_and_one_of_udp() {
    let entry = helper::with(helper::with(0, helper::FTP), helper::TFTP);
    assert_eq!(helper::of_port(entry, protocol::TCP), helper::FTP);
    assert_eq!(helper::of_port(entry, protocol::UDP), helper::TFTP);
    assert_eq!(helper::of_port(entry, protocol::SCTP), helper::NONE);
    assert_eq!(helper::of_port(helper::with(0, helper::TFTP), protocol::TCP), helper::NONE);
}

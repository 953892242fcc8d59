//! GRE, UDP-Lite and protocols without endpoints through the whole path, as
//! nf_conntrack of Linux 6.18 was seen to track them.

use firewall_common::{
    flow::{CtState, Flow, FlowKey, Tuple, protocol, status},
    testing::{Frame, Memory},
    time::Nanos,
    verdict::{DropReason, Verdict},
};

const CLIENT: &str = "192.0.2.2";
const SERVER: &str = "198.51.100.2";
const NOW: Nanos = Nanos::from_secs(1_000);

const DCCP: u8 = 33;
const ESP: u8 = 50;
const AH: u8 = 51;
const OSPF: u8 = 89;

fn state_of(memory: &Memory, frame: &Frame) -> CtState {
    memory.filter(&frame.build(), NOW);
    CtState::from_bit(memory.scratch().walk.ctstate).expect("a judged packet has a ctstate")
}

fn packets(number: u8, there: &[u8], back: &[u8]) -> (Frame, Frame) {
    (
        Frame::between(CLIENT, SERVER).protocol(number).payload(there),
        Frame::between(SERVER, CLIENT).protocol(number).payload(back),
    )
}

fn flow(memory: &Memory, protocol: u8, sport: u16, dport: u16) -> Flow {
    let [src, dst] = [CLIENT, SERVER].map(|text| text.parse::<std::net::IpAddr>().unwrap().into());
    let tuple = Tuple { src, dst, sport, dport, protocol, ..Tuple::default() };
    memory.known(&FlowKey::of(&tuple).0).expect("a flow").1
}

/// Seconds that the flow has left, and whether it is assured.
fn standing(flow: &Flow) -> (u64, bool) {
    (flow.expires.since(NOW).as_secs(), flow.has(status::ASSURED))
}

/// What a flow becomes by a packet there, one back, and one there again.
fn life(there: &Frame, back: &Frame, key: (u8, u16, u16)) -> [(u64, bool); 3] {
    let memory = Memory::default();
    let steps =
        [(there, CtState::New), (back, CtState::Established), (there, CtState::Established)];
    steps.map(|(frame, wanted)| {
        assert_eq!(state_of(&memory, frame), wanted);
        standing(&flow(&memory, key.0, key.1, key.2))
    })
}

mod gre {
    use super::*;

    const PLAIN: [u8; 8] = [0, 0, 8, 0, 1, 2, 3, 4];
    const WITH_KEY: [u8; 8] = [0x20, 0, 8, 0, 0, 0, 0, 9];

    fn pptp(protocol: u16, call: u16) -> Vec<u8> {
        let [a, b] = protocol.to_be_bytes();
        let [c, d] = call.to_be_bytes();
        vec![0x20, 1, a, b, 0, 4, c, d, 9, 9, 9, 9]
    }

    #[test]
    fn is_a_stream_from_the_packet_behind_the_first_answer() {
        let (there, back) = packets(protocol::GRE, &PLAIN, &PLAIN);
        assert_eq!(
            life(&there, &back, (protocol::GRE, 0, 0)),
            [(30, false), (30, false), (180, true)]
        );
    }

    #[test]
    fn keys_of_version_0_tell_no_flows_apart() {
        let memory = Memory::default();
        let (there, back) = packets(protocol::GRE, &PLAIN, &WITH_KEY);
        assert_eq!(state_of(&memory, &there), CtState::New);
        assert_eq!(state_of(&memory, &back), CtState::Established);
    }

    #[test]
    fn calls_of_version_1_are_flows_of_one_direction() {
        let memory = Memory::default();
        let (there, back) = packets(protocol::GRE, &pptp(0x880b, 7), &pptp(0x880b, 9));
        for frame in [&there, &back, &there, &back] {
            assert_eq!(state_of(&memory, frame), CtState::New);
        }
        assert_eq!(memory.flow_count(), 2);
        assert_eq!(standing(&flow(&memory, protocol::GRE, 0, 7)), (30, false));
    }

    #[test]
    fn version_1_with_anything_but_ppp_is_invalid() {
        let memory = Memory::default();
        let (there, _) = packets(protocol::GRE, &pptp(0x0800, 7), &[]);
        assert_eq!(state_of(&memory, &there), CtState::Invalid);
    }

    #[test]
    fn a_header_that_is_cut_off_has_no_key() {
        for body in [&[0x20u8, 1][..], &[0x20, 1, 0x88, 0x0b], &[]] {
            let memory = Memory::default();
            let (there, back) = packets(protocol::GRE, body, body);
            assert_eq!(state_of(&memory, &there), CtState::New);
            assert_eq!(state_of(&memory, &back), CtState::Established);
        }
    }

    #[test]
    fn an_error_about_a_call_is_related() {
        let memory = Memory::default();
        let (there, _) = packets(protocol::GRE, &pptp(0x880b, 7), &[]);
        let (other, _) = packets(protocol::GRE, &pptp(0x880b, 8), &[]);
        state_of(&memory, &there);
        for (quoted, wanted) in [(&there, CtState::Related), (&other, CtState::Invalid)] {
            let error = Frame::between(SERVER, CLIENT).icmp_error(3, 2, quoted);
            assert_eq!(state_of(&memory, &error), wanted);
        }
    }
}

mod udplite {
    use super::*;

    fn question() -> Frame {
        Frame::between(CLIENT, SERVER).udplite(5_000, 53).payload(b"hello")
    }

    fn ctstate_of_bytes(bytes: &[u8]) -> CtState {
        let memory = Memory::default();
        memory.filter(bytes, NOW);
        CtState::from_bit(memory.scratch().walk.ctstate).expect("a judged packet has a ctstate")
    }

    #[test]
    fn has_ports_and_is_a_stream_as_soon_as_it_is_answered() {
        let back = Frame::between(SERVER, CLIENT).udplite(53, 5_000).payload(b"hello");
        assert_eq!(
            life(&question(), &back, (protocol::UDPLITE, 5_000, 53)),
            [(30, false), (30, false), (120, true)]
        );
    }

    #[test]
    fn a_coverage_that_cannot_be_and_a_missing_checksum_are_invalid() {
        const COVERAGE: usize = 14 + 20 + 4;
        for (coverage, wanted) in [
            (0, CtState::New),
            (7, CtState::Invalid),
            (8, CtState::New),
            (13, CtState::New),
            (14, CtState::Invalid),
        ] {
            let mut bytes = question().build();
            bytes[COVERAGE + 1] = coverage;
            assert_eq!(ctstate_of_bytes(&bytes), wanted, "{coverage}");
        }
        let mut bytes = question().build();
        bytes[COVERAGE + 2..COVERAGE + 4].fill(0);
        assert_eq!(ctstate_of_bytes(&bytes), CtState::Invalid);
    }

    #[test]
    fn a_header_that_is_cut_off_is_dropped() {
        let (there, _) = packets(protocol::UDPLITE, &[0; 7], &[]);
        let verdict = Memory::default().filter(&there.build(), NOW);
        assert_eq!(verdict, Verdict::Drop(DropReason::Truncated));
    }
}

mod without_endpoints {
    use super::*;

    #[test]
    fn dccp_esp_ah_and_the_rest_go_by_addresses_and_are_never_assured() {
        for number in [DCCP, ESP, AH, OSPF, 4, 41, 255] {
            let (there, back) =
                packets(number, &[0, 5, 0, 6, 4, 0, 0, 0], &[0, 6, 0, 5, 4, 0, 0, 0]);
            assert_eq!(life(&there, &back, (number, 0, 0)), [(600, false); 3], "{number}");
        }
    }

    #[test]
    fn ipv6_with_nothing_behind_its_headers_is_invalid() {
        let memory = Memory::default();
        let nothing = Frame::between("2001:db8:1::2", "2001:db8:2::2").protocol(59);
        assert_eq!(state_of(&memory, &nothing), CtState::Invalid);
        assert_eq!(memory.flow_count(), 0);
    }
}

//! SCTP through the whole path: which packets belong to an association, and what
//! becomes of its flow. What was seen of nf_conntrack on Linux 6.18 is the measure.

use firewall_common::{
    conntrack::sctp::State,
    control::{Timeouts, device, option},
    flow::{CtState, Flow, FlowKey, Tuple, protocol, status},
    tables::FlowTable,
    testing::{Frame, Memory},
    time::Nanos,
};

const CLIENT: &str = "192.0.2.2";
const SERVER: &str = "198.51.100.2";
const NOW: Nanos = Nanos::from_secs(1_000);
/// The tags that packets to the client, and to the server, carry.
const CLIENTS_TAG: u32 = 0x0c11_0c11;
const SERVERS_TAG: u32 = 0x5e2f_5e2f;

const DATA: u8 = 0;
const INIT: u8 = 1;
const INIT_ACK: u8 = 2;
const SACK: u8 = 3;
const HEARTBEAT: u8 = 4;
const HEARTBEAT_ACK: u8 = 5;
const ABORT: u8 = 6;
const SHUTDOWN: u8 = 7;
const SHUTDOWN_ACK: u8 = 8;
const ERROR: u8 = 9;
const COOKIE_ECHO: u8 = 10;
const COOKIE_ACK: u8 = 11;
const SHUTDOWN_COMPLETE: u8 = 14;

fn chunk_with(chunk_type: u8, flags: u8, value: &[u8]) -> Vec<u8> {
    let mut chunk = vec![chunk_type, flags];
    chunk.extend((4 + value.len() as u16).to_be_bytes());
    chunk.extend(value);
    chunk.resize(chunk.len().next_multiple_of(4), 0);
    chunk
}

fn chunk(chunk_type: u8) -> Vec<u8> {
    chunk_with(chunk_type, 0, &[])
}

/// INIT or INIT ACK: the tag that its sender wants, window, streams, first number.
fn init(chunk_type: u8, tag: u32) -> Vec<u8> {
    let mut value = tag.to_be_bytes().to_vec();
    value.extend([0, 0, 0x80, 0, 0, 10, 0, 10, 0, 0, 0, 1]);
    chunk_with(chunk_type, 0, &value)
}

fn to_server(tag: u32, chunks: &[u8]) -> Frame {
    Frame::between(CLIENT, SERVER).sctp(40_000, 3_868, tag).payload(chunks)
}

fn to_client(tag: u32, chunks: &[u8]) -> Frame {
    Frame::between(SERVER, CLIENT).sctp(3_868, 40_000, tag).payload(chunks)
}

fn at(memory: &Memory, frame: &Frame, now: Nanos) -> CtState {
    memory.filter(&frame.build(), now);
    CtState::from_bit(memory.scratch().walk.ctstate).expect("a judged packet has a ctstate")
}

fn state_of(memory: &Memory, frame: &Frame) -> CtState {
    at(memory, frame, NOW)
}

fn flow(memory: &Memory) -> Option<(FlowTable, Flow)> {
    let [src, dst] = [CLIENT, SERVER].map(|text| text.parse::<std::net::IpAddr>().unwrap().into());
    let tuple = Tuple {
        src,
        dst,
        sport: 40_000,
        dport: 3_868,
        protocol: protocol::SCTP,
        ..Tuple::default()
    };
    memory.known(&FlowKey::of(&tuple).0)
}

/// The association's state, and whether it is assured.
fn association(memory: &Memory) -> (State, bool) {
    let (table, flow) = flow(memory).expect("a flow");
    assert_eq!(flow.has(status::ASSURED), table == FlowTable::Assured);
    (State::from_byte(flow.state).expect("a state of SCTP"), flow.has(status::ASSURED))
}

/// An INIT has passed.
fn begun() -> Memory {
    let memory = Memory::default();
    assert_eq!(state_of(&memory, &to_server(0, &init(INIT, CLIENTS_TAG))), CtState::New);
    memory
}

/// The server has answered.
fn answered() -> Memory {
    let memory = begun();
    let answer = to_client(CLIENTS_TAG, &init(INIT_ACK, SERVERS_TAG));
    assert_eq!(state_of(&memory, &answer), CtState::Established);
    memory
}

fn connected() -> Memory {
    let memory = answered();
    let echo =
        to_server(SERVERS_TAG, &[chunk_with(COOKIE_ECHO, 0, &[7; 30]), chunk(DATA)].concat());
    assert_eq!(state_of(&memory, &echo), CtState::Established);
    assert_eq!(association(&memory), (State::CookieEchoed, false));
    let ack = to_client(CLIENTS_TAG, &[chunk(COOKIE_ACK), chunk(SACK)].concat());
    assert_eq!(state_of(&memory, &ack), CtState::Established);
    memory
}

mod no_flow {
    use super::*;

    #[test]
    fn an_init_is_new_and_its_association_closed_until_it_is_answered() {
        let memory = begun();
        assert_eq!(association(&memory), (State::Closed, false));
    }

    #[test]
    fn an_init_that_carries_a_tag_or_is_cut_off_is_invalid() {
        let whole = init(INIT, CLIENTS_TAG);
        for frame in [to_server(1, &whole), to_server(0, &whole[..16]), to_server(0, &[])] {
            let memory = Memory::default();
            assert_eq!(state_of(&memory, &frame), CtState::Invalid, "{frame:?}");
            assert_eq!(memory.flow_count(), 0);
        }
    }

    #[test]
    fn what_only_travels_in_an_association_is_invalid() {
        for chunk_type in [
            DATA,
            INIT_ACK,
            SACK,
            ABORT,
            SHUTDOWN,
            ERROR,
            COOKIE_ECHO,
            COOKIE_ACK,
            SHUTDOWN_COMPLETE,
            13,
            192,
        ] {
            let memory = Memory::default();
            let body = init(chunk_type, 7);
            let stray = to_server(SERVERS_TAG, &body);
            assert_eq!(state_of(&memory, &stray), CtState::Invalid, "{chunk_type}");
            assert_eq!(memory.flow_count(), 0);
        }
    }

    #[test]
    fn a_shutdown_ack_out_of_the_blue_is_new_and_may_be_answered() {
        let memory = Memory::default();
        let stray = to_server(SERVERS_TAG, &chunk(SHUTDOWN_ACK));
        assert_eq!(state_of(&memory, &stray), CtState::New);
        assert_eq!(association(&memory), (State::ShutdownAckSent, false));
        // The answer reflects the tag, or carries it as its own.
        let answer = to_client(SERVERS_TAG, &chunk(SHUTDOWN_COMPLETE));
        assert_eq!(state_of(&memory, &answer), CtState::Established);
        assert_eq!(association(&memory), (State::Closed, false));
    }

    #[test]
    fn a_heartbeat_begins_a_further_path_that_its_ack_confirms() {
        let memory = Memory::default();
        let heartbeat = to_server(SERVERS_TAG, &chunk(HEARTBEAT));
        assert_eq!(state_of(&memory, &heartbeat), CtState::New);
        assert_eq!(association(&memory), (State::HeartbeatSent, false));
        let ack = to_client(CLIENTS_TAG, &chunk(HEARTBEAT_ACK));
        assert_eq!(state_of(&memory, &ack), CtState::Established);
        assert_eq!(association(&memory), (State::Established, true));
        let data = to_client(CLIENTS_TAG, &chunk(DATA));
        assert_eq!(state_of(&memory, &data), CtState::Established);
    }

    #[test]
    fn a_heartbeat_with_data_is_invalid() {
        let memory = Memory::default();
        let both = to_server(SERVERS_TAG, &[chunk(HEARTBEAT), chunk(DATA)].concat());
        assert_eq!(state_of(&memory, &both), CtState::Invalid);
    }
}

mod closed {
    use super::*;

    #[test]
    fn an_init_again_wins_no_time_and_is_not_counted() {
        let memory = begun();
        let later = NOW.after(Nanos::from_secs(2));
        let again = to_server(0, &init(INIT, CLIENTS_TAG));
        assert_eq!(at(&memory, &again, later), CtState::New);
        let (_, flow) = flow(&memory).unwrap();
        assert_eq!(flow.expires, NOW.after(Timeouts::DEFAULT.sctp[State::Closed as usize]));
        assert_eq!(flow.sides[0].packets, 1);
    }

    #[test]
    fn the_tag_of_an_init_again_counts() {
        let memory = begun();
        state_of(&memory, &to_server(0, &init(INIT, 99)));
        let late = to_client(CLIENTS_TAG, &init(INIT_ACK, SERVERS_TAG));
        assert_eq!(state_of(&memory, &late), CtState::Invalid);
        let right = to_client(99, &init(INIT_ACK, SERVERS_TAG));
        assert_eq!(state_of(&memory, &right), CtState::Established);
        assert_eq!(association(&memory), (State::CookieWait, false));
    }

    #[test]
    fn an_init_ack_with_another_tag_is_invalid() {
        let memory = begun();
        let forged = to_client(CLIENTS_TAG ^ 1, &init(INIT_ACK, SERVERS_TAG));
        assert_eq!(state_of(&memory, &forged), CtState::Invalid);
        assert_eq!(association(&memory), (State::Closed, false));
    }
}

mod cookie_wait {
    use super::*;

    #[test]
    fn a_cookie_echo_needs_the_tag_of_the_init_ack() {
        let memory = answered();
        let forged = to_server(CLIENTS_TAG, &chunk(COOKIE_ECHO));
        assert_eq!(state_of(&memory, &forged), CtState::Invalid);
        let right = to_server(SERVERS_TAG, &chunk(COOKIE_ECHO));
        assert_eq!(state_of(&memory, &right), CtState::Established);
        assert_eq!(association(&memory), (State::CookieEchoed, false));
    }

    #[test]
    fn the_state_has_its_own_timeout() {
        let memory = answered();
        let (_, flow) = flow(&memory).unwrap();
        assert_eq!(flow.expires, NOW.after(Nanos::from_secs(3)));
    }
}

mod established {
    use super::*;

    #[test]
    fn the_four_way_handshake_assures() {
        let memory = connected();
        assert_eq!(association(&memory), (State::Established, true));
        let (_, flow) = flow(&memory).unwrap();
        assert_eq!(flow.expires, NOW.after(Nanos::from_secs(210)));
    }

    #[test]
    fn data_with_another_tag_is_invalid() {
        let memory = connected();
        let data = [chunk(DATA), chunk(SACK)].concat();
        assert_eq!(state_of(&memory, &to_server(SERVERS_TAG, &data)), CtState::Established);
        assert_eq!(state_of(&memory, &to_client(CLIENTS_TAG, &data)), CtState::Established);
        assert_eq!(state_of(&memory, &to_server(CLIENTS_TAG, &data)), CtState::Invalid);
        assert_eq!(state_of(&memory, &to_client(0, &data)), CtState::Invalid);
    }

    #[test]
    fn a_shutdown_of_either_side_ends_in_closed() {
        for client_first in [true, false] {
            let memory = connected();
            let from = |is_client: bool, chunk_type| {
                let chunks = chunk(chunk_type);
                if is_client {
                    to_server(SERVERS_TAG, &chunks)
                } else {
                    to_client(CLIENTS_TAG, &chunks)
                }
            };
            let between = if client_first { State::ShutdownSent } else { State::ShutdownRecd };
            for (is_client, chunk_type, wanted) in [
                (client_first, SHUTDOWN, between),
                (!client_first, SHUTDOWN_ACK, State::ShutdownAckSent),
                (client_first, SHUTDOWN_COMPLETE, State::Closed),
            ] {
                let frame = from(is_client, chunk_type);
                assert_eq!(state_of(&memory, &frame), CtState::Established, "{chunk_type}");
                assert_eq!(association(&memory), (wanted, true));
            }
        }
    }

    #[test]
    fn an_abort_needs_the_tag_of_its_direction_or_reflects_the_other() {
        for (tag, flags, wanted) in [
            (SERVERS_TAG, 0, CtState::Established),
            (CLIENTS_TAG, 0, CtState::Invalid),
            (CLIENTS_TAG, 1, CtState::Established),
            (SERVERS_TAG, 1, CtState::Invalid),
        ] {
            let memory = connected();
            let abort = to_server(tag, &chunk_with(ABORT, flags, &[]));
            assert_eq!(state_of(&memory, &abort), wanted);
            let is_closed = association(&memory).0 == State::Closed;
            assert_eq!(is_closed, wanted == CtState::Established);
        }
    }

    #[test]
    fn an_init_again_takes_new_tags_only_with_its_answer() {
        let memory = connected();
        assert_eq!(state_of(&memory, &to_server(0, &init(INIT, 99))), CtState::Established);
        assert_eq!(association(&memory), (State::Established, true));
        let answer = to_client(99, &init(INIT_ACK, 88));
        assert_eq!(state_of(&memory, &answer), CtState::Established);
        assert_eq!(state_of(&memory, &to_server(88, &chunk(COOKIE_ECHO))), CtState::Established);
        assert_eq!(state_of(&memory, &to_server(SERVERS_TAG, &chunk(DATA))), CtState::Invalid);
    }

    #[test]
    fn a_heartbeat_with_another_tag_passes_alone_and_its_ack_makes_the_tag_right() {
        let memory = connected();
        let later = NOW.after(Nanos::from_secs(5));
        let heartbeat = to_server(77, &chunk(HEARTBEAT));
        assert_eq!(at(&memory, &heartbeat, later), CtState::Established);
        let (_, before) = flow(&memory).unwrap();
        assert_eq!(before.expires, NOW.after(Nanos::from_secs(210)), "it wins no time");
        // Not by the same side, and not with data.
        let own = to_server(66, &chunk(HEARTBEAT_ACK));
        assert_eq!(at(&memory, &own, later), CtState::Invalid);
        let loaded = to_client(66, &[chunk(HEARTBEAT_ACK), chunk(DATA)].concat());
        assert_eq!(at(&memory, &loaded, later), CtState::Invalid);
        let ack = to_client(66, &chunk(HEARTBEAT_ACK));
        assert_eq!(at(&memory, &ack, later), CtState::Established);
        assert_eq!(at(&memory, &to_client(66, &chunk(DATA)), later), CtState::Established);
        assert_eq!(at(&memory, &to_client(CLIENTS_TAG, &chunk(DATA)), later), CtState::Invalid);
    }

    #[test]
    fn an_expired_association_is_begun_anew_by_an_init_alone() {
        let memory = connected();
        let later = NOW.after(Nanos::from_secs(211));
        let data = to_server(SERVERS_TAG, &chunk(DATA));
        assert_eq!(at(&memory, &data, later), CtState::Invalid);
        assert_eq!(at(&memory, &to_server(0, &init(INIT, 5)), later), CtState::New);
    }
}

mod chunks {
    use super::*;

    #[test]
    fn those_that_must_stand_alone_or_first_make_the_packet_invalid_elsewhere() {
        for chunks in [
            [init(INIT_ACK, 1), chunk(DATA)],
            [chunk(DATA), init(INIT_ACK, 1)],
            [chunk(SHUTDOWN_COMPLETE), chunk(DATA)],
            [chunk(DATA), chunk(COOKIE_ACK)],
            [chunk(SACK), chunk(COOKIE_ECHO)],
            [chunk(DATA), vec![0, 0, 0, 0]],
        ] {
            let memory = connected();
            let frame = to_server(SERVERS_TAG, &chunks.concat());
            assert_eq!(state_of(&memory, &frame), CtState::Invalid, "{frame:?}");
            assert_eq!(association(&memory), (State::Established, true));
        }
    }

    #[test]
    fn a_chunk_after_hundreds_of_others_still_counts() {
        let memory = connected();
        let mut chunks: Vec<u8> = chunk(SACK).repeat(300);
        chunks.extend(chunk(SHUTDOWN));
        assert_eq!(state_of(&memory, &to_server(SERVERS_TAG, &chunks)), CtState::Established);
        assert_eq!(association(&memory), (State::ShutdownSent, true));
    }

    #[test]
    fn bytes_that_are_no_chunk_are_left_out() {
        let memory = connected();
        let mut chunks = chunk(DATA);
        chunks.extend([9, 9, 9]);
        assert_eq!(state_of(&memory, &to_server(SERVERS_TAG, &chunks)), CtState::Established);
    }
}

mod checksums {
    use super::*;

    /// Sums are read of what comes in by an interface of ours.
    fn strict(flags: u32) -> Memory {
        Memory::with(|memory| {
            memory.options.bits |= option::CHECKSUM;
            memory.add_device(1, [2, 0, 0, 0, 0, 2]);
            memory.devices.get_mut(&1).unwrap().flags |= flags;
        })
    }

    fn ctstate(memory: &Memory, frame: &[u8]) -> CtState {
        memory.filter(frame, NOW);
        CtState::from_bit(memory.scratch().walk.ctstate).expect("a judged packet has a ctstate")
    }

    /// Ethernet and IPv4 before it, ports and tag in it.
    const FIELD: usize = 14 + 20 + 8;

    #[test]
    fn a_wrong_one_begins_nothing() {
        let memory = strict(0);
        let mut frame = to_server(0, &init(INIT, CLIENTS_TAG)).build();
        assert_eq!(ctstate(&memory, &frame), CtState::New);
        let memory = strict(0);
        frame[FIELD] ^= 1;
        assert_eq!(ctstate(&memory, &frame), CtState::Invalid);
    }

    #[test]
    fn one_left_to_hardware_counts_where_there_is_a_virtual_peer() {
        let mut frame = to_server(0, &init(INIT, CLIENTS_TAG)).build();
        frame[FIELD..FIELD + 4].fill(0);
        assert_eq!(ctstate(&strict(0), &frame), CtState::Invalid);
        assert_eq!(ctstate(&strict(device::PARTIAL_CHECKSUMS), &frame), CtState::New);
    }

    #[test]
    fn of_data_the_receiver_tells() {
        let memory = strict(0);
        for frame in [
            to_server(0, &init(INIT, CLIENTS_TAG)),
            to_client(CLIENTS_TAG, &init(INIT_ACK, SERVERS_TAG)),
            to_server(SERVERS_TAG, &chunk_with(COOKIE_ECHO, 0, &[1; 333])),
            to_client(CLIENTS_TAG, &chunk(COOKIE_ACK)),
        ] {
            ctstate(&memory, &frame.build());
        }
        assert_eq!(association(&memory), (State::Established, true));
        let mut data = to_server(SERVERS_TAG, &chunk(DATA)).build();
        data[FIELD] ^= 1;
        assert_eq!(ctstate(&memory, &data), CtState::Established);
        let mut abort = to_server(SERVERS_TAG, &chunk(ABORT)).build();
        abort[FIELD] ^= 1;
        assert_eq!(ctstate(&memory, &abort), CtState::Invalid);
    }
}

mod icmp_errors {
    use super::*;

    #[test]
    fn about_a_packet_of_an_association_is_related() {
        let memory = begun();
        let quoted = to_server(0, &init(INIT, CLIENTS_TAG));
        let error = Frame::between("203.0.113.1", CLIENT).icmp_error(3, 1, &quoted);
        assert_eq!(state_of(&memory, &error), CtState::Related);
        let other = Frame::between(CLIENT, SERVER).sctp(40_001, 3_868, 0);
        let stray = Frame::between("203.0.113.1", CLIENT).icmp_error(3, 1, &other);
        assert_eq!(state_of(&memory, &stray), CtState::Invalid);
    }
}

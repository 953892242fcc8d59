//! Connections through SYNPROXY on tables in memory: the numbers of every segment on
//! both sides, the counters, and what is left in the tables.

use firewall_common::{
    checksum::Sum,
    flow::{FlowKey, State, Tuple, protocol, status},
    headers::Headers,
    rule::{PortRange, Rule, Target, condition, flag},
    synproxy::{
        header::{TcpHeader, has},
        offer::Offer,
        translate::{Translation, after, translate},
    },
    testing::{Frame, Memory, proxy::Carried},
    time::Nanos,
    verdict::{DropReason, Stat, Verdict, drop_counter},
    wire::tcp_flag::{ACK, CWR, ECE, FIN, PSH, RST, SYN},
};
use proptest::prelude::*;

const NOW: Nanos = Nanos::from_secs(1_000);
const PAIRS: [(&str, &str); 2] =
    [("192.0.2.2", "198.51.100.2"), ("2001:db8:1::2", "2001:db8:2::2")];
const CLIENT_ISN: u32 = 0xffff_fff0;
const SERVER_ISN: u32 = 77_000;
const CLIENT_CLOCK: u32 = 5_000_000;
const SERVER_CLOCK: u32 = 0xffff_ff00;

/// `ESTABLISHED -j ACCEPT`, then SYNPROXY for port 80, then DROP.
fn gateway(present: u8) -> Memory {
    let established = Rule {
        present: condition::STATES,
        states: 2,
        target: Target::Accept as u8,
        ..Rule::default()
    };
    let proxy = Rule {
        present: condition::PROTOCOL | condition::DPORT | condition::TCP_FLAGS | condition::STATES,
        protocol: protocol::TCP,
        dport: PortRange { first: 80, last: 80 },
        tcp_mask: SYN | ACK | FIN | RST,
        tcp_flags: SYN,
        states: 1,
        target: Target::Proxy as u8,
        argument: Offer { mss: 1_400, scale: 9, present }.pack(),
        ..Rule::default()
    };
    let policy = Rule { flags: flag::POLICY, target: Target::Drop as u8, ..Rule::default() };
    Memory::with(|memory| {
        memory.rules =
            [established, proxy, policy].map(|rule| Rule { chain_end: 2, ..rule }).to_vec();
        memory.header.has_proxy = 1;
    })
}

const ALL: u8 = has::MSS | has::SCALE | has::SACK_PERMITTED | has::TIMESTAMPS | has::ECN;

/// What a segment says.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Said {
    seq: u32,
    ack: u32,
    flags: u8,
    window: u16,
    header: Vec<u8>,
    mss: Option<u16>,
    scale: Option<u8>,
    sack: bool,
    clocks: Option<(u32, u32)>,
}

/// Reads a frame, whose checksums must be right.
fn read(frame: &[u8]) -> Said {
    let mut headers = Headers::default();
    headers.parse(frame, true).unwrap();
    let end = (headers.l3 + headers.ip_len) as usize;
    assert_eq!(end, frame.len(), "no more than the packet");
    let segment = &frame[headers.l4 as usize..end];
    let tuple = &headers.tuple;
    let pseudo = Sum::pseudo_header(tuple.src, tuple.dst, protocol::TCP, segment.len() as u32);
    let sum = segment.chunks(2).fold(pseudo, |sum, pair| {
        sum.word(u16::from_ne_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]))
    });
    assert_eq!(sum.finish(), 0, "the checksum of {headers:?}");
    let mut header = TcpHeader::default();
    assert!(header.read(frame, &Memory::default(), &headers));
    let options = header.options;
    Said {
        seq: headers.seq,
        ack: headers.ack,
        flags: headers.tcp_flags,
        window: headers.window,
        header: segment[..header.len as usize].to_vec(),
        mss: options.has(has::MSS).then_some(options.mss),
        scale: options.has(has::SCALE).then_some(options.scale),
        sack: options.has(has::SACK_PERMITTED),
        clocks: options.has(has::TIMESTAMPS).then_some((options.tsval, options.tsecr)),
    }
}

fn clocks(tsval: u32, tsecr: u32) -> Vec<u8> {
    [&[1, 1, 8, 10][..], &tsval.to_be_bytes(), &tsecr.to_be_bytes()].concat()
}

/// Client and server, with everything that Linux offers in a SYN.
struct Connection {
    memory: Memory,
    pair: (&'static str, &'static str),
    cookie: u32,
    stamp: u32,
}

impl Connection {
    fn to_server(&self, flags: u8, seq: u32, ack: u32) -> Frame {
        Frame::between(self.pair.0, self.pair.1).tcp_at(40_000, 80, flags, seq, ack)
    }

    fn to_client(&self, flags: u8, seq: u32, ack: u32) -> Frame {
        Frame::between(self.pair.1, self.pair.0).tcp_at(80, 40_000, flags, seq, ack)
    }

    fn carry(&self, frame: &Frame) -> Carried {
        self.memory.carry(&frame.build(), NOW)
    }

    fn key(&self) -> FlowKey {
        let [src, dst] =
            [self.pair.0, self.pair.1].map(|ip| ip.parse::<std::net::IpAddr>().unwrap().into());
        let tuple = Tuple {
            src,
            dst,
            sport: 40_000,
            dport: 80,
            protocol: protocol::TCP,
            ..Tuple::default()
        };
        FlowKey::of(&tuple).0
    }

    /// The client's SYN, answered.
    fn begin(pair: (&'static str, &'static str)) -> (Self, Said) {
        let mut connection = Self { memory: gateway(ALL), pair, cookie: 0, stamp: 0 };
        let options =
            [&[2, 4, 5, 180, 4, 2, 8, 10][..], &CLIENT_CLOCK.to_be_bytes(), &[0; 4], &[1, 3, 3, 7]]
                .concat();
        let syn = connection.to_server(SYN | ECE | CWR, CLIENT_ISN, 0).tcp_options(&options);
        let carried = connection.carry(&syn);
        assert_eq!((carried.verdict, carried.onward), (Verdict::Cookie, None));
        let said = read(&carried.back.unwrap());
        connection.cookie = said.seq;
        connection.stamp = said.clocks.unwrap().0;
        (connection, said)
    }

    fn first_ack(&self) -> Frame {
        let ack = self.cookie.wrapping_add(1);
        self.to_server(ACK, CLIENT_ISN.wrapping_add(1), ack)
            .window(502)
            .tcp_options(&clocks(CLIENT_CLOCK + 1, self.stamp))
    }

    fn syn_ack(&self) -> Frame {
        let options = [
            &[2, 4, 5, 180, 4, 2, 8, 10][..],
            &SERVER_CLOCK.to_be_bytes(),
            &(CLIENT_CLOCK + 1).to_be_bytes(),
            &[1, 3, 3, 7],
        ]
        .concat();
        self.to_client(SYN | ACK, SERVER_ISN, CLIENT_ISN.wrapping_add(1))
            .window(65_160)
            .tcp_options(&options)
    }

    /// Up to the server's answer.
    fn open(pair: (&'static str, &'static str)) -> Self {
        let (connection, _) = Self::begin(pair);
        assert!(connection.carry(&connection.first_ack()).onward.is_some());
        assert!(connection.carry(&connection.syn_ack()).back.is_some());
        connection
    }
}

mod a_syn {
    use super::*;

    #[test]
    fn is_answered_with_a_closed_window_and_leaves_nothing() {
        for pair in PAIRS {
            let (connection, said) = Connection::begin(pair);
            assert_eq!(said.flags, SYN | ACK | ECE);
            assert_eq!((said.ack, said.window), (CLIENT_ISN.wrapping_add(1), 0));
            assert_eq!((said.mss, said.scale, said.sack), (Some(1_400), Some(9), true));
            assert_eq!(said.clocks.unwrap().1, CLIENT_CLOCK);
            assert_eq!(connection.memory.flow_count(), 0);
            assert_eq!(connection.memory.stat(Stat::SynCookiesSent as u32), 1);
            assert_eq!(connection.memory.rule_counter(1).packets, 1);
        }
    }

    #[test]
    fn of_a_client_without_timestamps_is_offered_no_more_than_a_size() {
        let connection = Connection { memory: gateway(ALL), pair: PAIRS[0], cookie: 0, stamp: 0 };
        let syn = connection.to_server(SYN, 5, 0).tcp_options(&[2, 4, 5, 180, 4, 2, 1, 3, 3, 7]);
        let said = read(&connection.carry(&syn).back.unwrap());
        assert_eq!(
            (said.mss, said.scale, said.sack, said.clocks),
            (Some(1_400), None, false, None)
        );
        let ack = connection.to_server(ACK, 6, said.seq.wrapping_add(1));
        let syn = read(&connection.carry(&ack).onward.unwrap());
        assert_eq!((syn.mss, syn.scale, syn.sack, syn.clocks), (Some(1_460), None, false, None));
    }

    #[test]
    fn by_the_thousand_touches_no_table() {
        let memory = gateway(ALL);
        for number in 0..5_000u16 {
            let syn = Frame::between("192.0.2.9", "198.51.100.2").tcp(number, 80, SYN);
            assert_eq!(memory.carry(&syn.build(), NOW).verdict, Verdict::Cookie);
        }
        assert_eq!(memory.flow_count(), 0);
        assert_eq!(memory.stat(Stat::FlowsCreated as u32), 0);
    }
}

mod an_ack {
    use super::*;

    #[test]
    fn with_a_right_cookie_becomes_the_syn_that_the_client_sent() {
        for pair in PAIRS {
            let (connection, _) = Connection::begin(pair);
            let carried = connection.carry(&connection.first_ack());
            let said = read(&carried.onward.unwrap());
            assert_eq!((said.flags, said.seq, said.ack), (SYN | ECE | CWR, CLIENT_ISN, 0));
            assert_eq!(said.window, 502 << 7);
            let mss = if pair == PAIRS[0] { 1_460 } else { 1_440 };
            assert_eq!((said.mss, said.scale, said.sack), (Some(mss), Some(7), true));
            assert_eq!(said.clocks, Some((CLIENT_CLOCK + 1, 0)));
            let (_, flow) = connection.memory.known(&connection.key()).unwrap();
            assert_eq!(flow.state, State::SynSent as u8);
            assert!(flow.has(status::PROXIED));
            assert_eq!(connection.memory.stat(Stat::SynCookiesRight as u32), 1);
            // The question moves no counter: the SYN, and the SYN again.
            assert_eq!(connection.memory.rule_counter(1).packets, 2);
        }
    }

    #[test]
    fn with_a_wrong_cookie_is_dropped_and_begins_nothing() {
        let (connection, _) = Connection::begin(PAIRS[0]);
        for wrong in [0, 2, 77, 1 << 24] {
            let ack = connection.cookie.wrapping_add(1).wrapping_add(wrong);
            let frame = connection.to_server(
                ACK,
                CLIENT_ISN.wrapping_add(1 + u32::from(wrong == 0) * 9),
                ack,
            );
            let carried = connection.carry(&frame.payload(b"data"));
            assert_eq!(carried.verdict, Verdict::Drop(DropReason::SynCookieWrong));
        }
        assert_eq!(connection.memory.flow_count(), 0);
        let counter = drop_counter(DropReason::SynCookieWrong);
        assert_eq!(connection.memory.stat(counter), 4);
    }

    #[test]
    fn that_the_rules_would_not_proxy_is_judged_as_ever() {
        let memory = gateway(ALL);
        let ack = Frame::between("192.0.2.2", "198.51.100.2").tcp(40_000, 81, ACK);
        assert_eq!(memory.carry(&ack.build(), NOW).verdict, Verdict::Drop(DropReason::Policy));
    }

    #[test]
    fn that_is_said_again_says_the_syn_again() {
        let (connection, _) = Connection::begin(PAIRS[0]);
        let first = connection.carry(&connection.first_ack()).onward;
        let again = connection.carry(&connection.first_ack()).onward;
        assert_eq!(first, again);
        // A client that looks whether the window has opened begins one byte earlier.
        let look = connection
            .to_server(ACK, CLIENT_ISN, connection.cookie.wrapping_add(1))
            .tcp_options(&clocks(CLIENT_CLOCK + 9, connection.stamp));
        assert_eq!(read(&connection.carry(&look).onward.unwrap()).seq, CLIENT_ISN);
        let data = connection.first_ack().payload(b"GET / HTTP/1.0\r\n\r\n");
        let syn = read(&connection.carry(&data).onward.unwrap());
        assert_eq!((syn.flags & SYN, syn.seq), (SYN, CLIENT_ISN));
        assert_eq!(connection.memory.flow_count(), 1);
    }
}

mod a_look_at_the_window {
    use super::*;

    /// The client's first ACK was lost; it begins one byte earlier, where for the
    /// kernel's check a neighbour's cookie could be as right.
    #[test]
    fn says_the_syn_with_the_clients_own_number() {
        let (connection, _) = Connection::begin(PAIRS[0]);
        let look = connection
            .to_server(ACK, CLIENT_ISN, connection.cookie.wrapping_add(1))
            .tcp_options(&clocks(CLIENT_CLOCK + 9, connection.stamp));
        let syn = read(&connection.carry(&look).onward.unwrap());
        assert_eq!((syn.flags & SYN, syn.seq), (SYN, CLIENT_ISN));
    }
}

mod the_server {
    use super::*;

    #[test]
    fn is_acknowledged_and_its_window_is_told() {
        for pair in PAIRS {
            let (connection, _) = Connection::begin(pair);
            connection.carry(&connection.first_ack());
            let carried = connection.carry(&connection.syn_ack());
            let back = read(&carried.back.unwrap());
            assert_eq!((back.flags, back.window), (ACK, 502));
            assert_eq!((back.seq, back.ack), (CLIENT_ISN.wrapping_add(1), SERVER_ISN + 1));
            assert_eq!(back.clocks, Some((CLIENT_CLOCK + 1, SERVER_CLOCK)));
            let onward = read(&carried.onward.unwrap());
            assert_eq!((onward.flags, onward.window), (ACK, 65_160 >> 9));
            assert_eq!(onward.seq, connection.cookie.wrapping_add(1));
            assert_eq!(onward.ack, CLIENT_ISN.wrapping_add(1));
            assert_eq!(onward.clocks, Some((connection.stamp, CLIENT_CLOCK + 1)));
            let (_, flow) = connection.memory.known(&connection.key()).unwrap();
            assert_eq!(flow.state, State::Established as u8);
        }
    }

    #[test]
    fn that_answers_twice_is_acknowledged_twice() {
        let connection = Connection::open(PAIRS[0]);
        let again = connection.carry(&connection.syn_ack());
        assert_eq!(read(&again.back.unwrap()).ack, SERVER_ISN + 1);
    }

    #[test]
    fn that_refuses_is_believed_by_the_client() {
        let (connection, _) = Connection::begin(PAIRS[1]);
        connection.carry(&connection.first_ack());
        let reset = connection.to_client(RST | ACK, 0, CLIENT_ISN.wrapping_add(1));
        let said = read(&connection.carry(&reset).onward.unwrap());
        assert_eq!((said.flags, said.seq), (RST | ACK, connection.cookie.wrapping_add(1)));
        assert_eq!(said.ack, CLIENT_ISN.wrapping_add(1));
        let (_, flow) = connection.memory.known(&connection.key()).unwrap();
        assert_eq!(flow.state, State::Close as u8);
    }
}

mod an_open_connection {
    use super::*;

    #[test]
    fn has_the_servers_numbers_on_one_side_and_the_cookies_on_the_other() {
        for pair in PAIRS {
            let connection = Connection::open(pair);
            let (isn, told) = (CLIENT_ISN.wrapping_add(1), connection.cookie.wrapping_add(1));
            let request = connection
                .to_server(ACK | PSH, isn, told)
                .tcp_options(&clocks(CLIENT_CLOCK + 2, connection.stamp))
                .payload(b"GET /");
            let said = read(&connection.carry(&request).onward.unwrap());
            assert_eq!((said.seq, said.ack), (isn, SERVER_ISN + 1));
            assert_eq!(said.clocks, Some((CLIENT_CLOCK + 2, SERVER_CLOCK)));

            let answer = connection
                .to_client(ACK | PSH, SERVER_ISN + 1, isn.wrapping_add(5))
                .window(501)
                .tcp_options(&clocks(SERVER_CLOCK.wrapping_add(300), CLIENT_CLOCK + 2))
                .payload(b"hello, odd");
            let said = read(&connection.carry(&answer).onward.unwrap());
            assert_eq!((said.seq, said.ack), (told, isn.wrapping_add(5)));
            assert_eq!(said.clocks, Some((connection.stamp.wrapping_add(300), CLIENT_CLOCK + 2)));
            // The server scales by 7, the client was told 9.
            assert_eq!(said.window, 501 << 7 >> 9);
        }
    }

    #[test]
    fn tells_the_server_what_its_client_has_got_selectively() {
        let connection = Connection::open(PAIRS[0]);
        let told = connection.cookie.wrapping_add(1);
        let data = connection.to_client(ACK, SERVER_ISN + 1, CLIENT_ISN.wrapping_add(1));
        connection.carry(&data.payload(&[0; 2_000]));
        let edges = [told.wrapping_add(1_000), told.wrapping_add(2_000)];
        let mut options = clocks(CLIENT_CLOCK, connection.stamp);
        options.extend([1, 1, 5, 10]);
        options.extend(edges.iter().flat_map(|edge| edge.to_be_bytes()));
        let ack = connection.to_server(ACK, CLIENT_ISN.wrapping_add(1), told).tcp_options(&options);
        let said = read(&connection.carry(&ack).onward.unwrap());
        let edge = |at: usize| u32::from_be_bytes(said.header[at..at + 4].try_into().unwrap());
        assert_eq!([edge(36), edge(40)], [SERVER_ISN + 1_001, SERVER_ISN + 2_001]);
    }

    #[test]
    fn is_not_begun_anew_by_what_is_invalid_in_it() {
        let connection = Connection::open(PAIRS[0]);
        let told = connection.cookie.wrapping_add(1);
        // Acknowledges selectively what the server has not said.
        let mut options = vec![1, 1, 5, 10];
        options.extend(told.wrapping_add(1_000_000).to_be_bytes());
        options.extend(told.wrapping_add(1_000_100).to_be_bytes());
        let ack = connection.to_server(ACK, CLIENT_ISN.wrapping_add(1), told).tcp_options(&options);
        let verdict = connection.carry(&ack).verdict;
        assert_eq!(verdict, Verdict::Drop(DropReason::Policy));
        assert_eq!(connection.memory.stat(Stat::SynCookiesRight as u32), 1);
    }

    /// Both sides have said the same number of bytes, so the last acknowledgement is as
    /// far from the last number as the cookie was from the first.
    #[test]
    fn is_not_begun_anew_by_its_own_last_word() {
        let connection = Connection::open(PAIRS[0]);
        let (isn, told) = (CLIENT_ISN.wrapping_add(1), connection.cookie.wrapping_add(1));
        let close = connection.to_client(FIN | ACK, SERVER_ISN + 1, isn);
        assert!(connection.carry(&close).onward.is_some());
        let close = connection.to_server(FIN | ACK, isn, told);
        assert!(connection.carry(&close).onward.is_some());
        let close = connection.to_client(ACK, SERVER_ISN + 2, isn.wrapping_add(1));
        assert!(connection.carry(&close).onward.is_some());
        let last = connection.to_server(ACK, isn.wrapping_add(1), told.wrapping_add(1));
        let said = read(&connection.carry(&last).onward.unwrap());
        assert_eq!((said.flags, said.ack), (ACK, SERVER_ISN + 2));
        assert_eq!(connection.memory.stat(Stat::SynCookiesRight as u32), 1);
    }

    #[test]
    fn that_is_over_can_be_opened_anew_from_the_same_port() {
        let connection = Connection::open(PAIRS[0]);
        let isn = CLIENT_ISN.wrapping_add(1);
        let reset = connection.to_server(RST, isn, 0);
        connection.carry(&reset);
        let syn = connection.to_server(SYN, 123_456, 0);
        let cookie = read(&connection.carry(&syn).back.unwrap()).seq;
        let ack = connection.to_server(ACK, 123_457, cookie.wrapping_add(1));
        let said = read(&connection.carry(&ack).onward.unwrap());
        assert_eq!((said.flags, said.seq), (SYN, 123_456));
    }
}

mod any_segment {
    use super::*;

    /// An option area of any kinds, some of them broken.
    fn options() -> impl Strategy<Value = Vec<u8>> {
        let one = prop_oneof![
            Just(vec![1u8]),
            (any::<u32>(), 1..u32::MAX)
                .prop_map(|(a, b)| { [&[8, 10][..], &a.to_be_bytes(), &b.to_be_bytes()].concat() }),
            proptest::collection::vec(any::<u32>(), 2..5).prop_map(|edges| {
                let edges: Vec<u8> =
                    edges.chunks_exact(2).flatten().flat_map(|e| e.to_be_bytes()).collect();
                [&[5, edges.len() as u8 + 2][..], &edges].concat()
            }),
            proptest::collection::vec(any::<u8>(), 0..6),
        ];
        proptest::collection::vec(one, 0..5).prop_map(|all| {
            let mut bytes = all.concat();
            bytes.truncate(40);
            bytes
        })
    }

    proptest! {
        #[test]
        fn keeps_its_checksum_right_and_comes_back_as_it_was(
            options in options(),
            payload in proptest::collection::vec(any::<u8>(), 0..40),
            (seq, ack, flags) in (any::<u32>(), any::<u32>(), any::<u8>()),
            (a, b, c, d) in any::<(u32, u32, u32, u32)>(),
        ) {
            let frame = Frame::between("192.0.2.2", "198.51.100.2")
                .tcp_at(1, 2, flags, seq, ack).tcp_options(&options).payload(&payload).build();
            let there = Translation { seq: a, ack: b, tsval: c, tsecr: d, ..Translation::default() };
            let back = Translation {
                seq: a.wrapping_neg(), ack: b.wrapping_neg(),
                tsval: c.wrapping_neg(), tsecr: d.wrapping_neg(), ..Translation::default()
            };
            let moved = translated(&frame, &there);
            let said = read(&moved);
            prop_assert_eq!(said.seq, seq.wrapping_add(a));
            if flags & ACK != 0 {
                prop_assert_eq!(said.ack, ack.wrapping_add(b));
            }
            // An echo that became zero says nothing any more.
            if said.clocks.is_none_or(|(_, echo)| echo != 0) {
                prop_assert_eq!(translated(&moved, &back), frame);
            }
        }
    }

    fn translated(frame: &[u8], by: &Translation) -> Vec<u8> {
        let mut headers = Headers::default();
        headers.parse(frame, true).unwrap();
        let mut header = TcpHeader::default();
        assert!(header.read(frame, &Memory::default(), &headers));
        let difference = translate(&mut header, by);
        header.set_checksum(after(header.checksum(), difference));
        let bytes = header.words.map(u32::to_ne_bytes).concat();
        let (at, len) = (headers.l4 as usize, header.len as usize);
        [&frame[..at], &bytes[..len], &frame[at + len..]].concat()
    }
}

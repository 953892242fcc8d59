//! The short way of translated flows beside the long one: two gateways that begin alike, and
//! the same frames. What leaves must be the same to the last byte, and so must flows and
//! counters be in the end.

use std::{
    fmt::Debug,
    marker::PhantomData,
    net::{IpAddr, SocketAddr},
};

use firewall_common::{
    addr::Addr,
    control::{Device, device},
    event::Hook,
    extra::{Extra, need},
    flow::{Flow, FlowKey, helper, status},
    headers::Headers,
    hop::{self, Exit, Hop, Way, station},
    nat::{Kind, Order, desk::done, order::flag as wish, rewrite},
    rule::{Chain, Rule, RulesetHeader, Target, flag},
    shortcut::{
        Address, Ends, Halves,
        hint::{Hint, Mark, PLACE_BITS, Part},
    },
    tables::{FlowTable, Tables as _},
    testing::{Frame, Memory, Written},
    time::Nanos,
    verdict::{STAT_PLACES, Stat, Verdict},
    wire::tcp_flag::{ACK, FIN, PSH, RST, SYN},
};
use proptest::{collection::vec, prelude::*};

const OURS: [u8; 6] = [2, 0, 0, 0, 0, 2];
const NOW: Nanos = Nanos::from_secs(1_000);

/// The hosts, of either family.
#[derive(Debug)]
struct Net {
    client: &'static str,
    /// Whom the client talks to, and who that is where the destination is translated.
    server: &'static str,
    inner: &'static str,
    /// The gateway's address.
    public: &'static str,
    class: u8,
    /// Clients of whom several have a port, and two servers on one host.
    clients: [&'static str; 3],
    servers: [&'static str; 2],
    nobody: &'static str,
}

const V4: Net = Net {
    client: "10.0.0.2:4000",
    server: "192.0.2.80:8080",
    inner: "10.0.1.5:80",
    public: "203.0.113.1",
    class: 0,
    clients: ["10.0.0.2:4000", "10.0.0.3:4000", "10.0.0.3:61000"],
    servers: ["10.0.1.5:80", "10.0.1.5:81"],
    nobody: "10.0.0.2:4001",
};

/// Addresses that differ in each of their words, and some that do so in one alone.
const V6: Net = Net {
    client: "[fd00::a:0:0:2]:4000",
    server: "[2001:db8::80]:8080",
    inner: "[fd00:1::5]:80",
    public: "2001:db8:1::1",
    class: hop::IPV6,
    clients: ["[fd00::a:0:0:2]:4000", "[fd00::b:0:0:2]:4000", "[fd00:0:0:1:b::2]:61000"],
    servers: ["[fd00:1::5]:80", "[fd00:1::5]:81"],
    nobody: "[fd00::a:0:0:2]:4001",
};

/// An address as the short way has it, and the hosts of its family.
trait Of: Address + Debug {
    const NET: Net;
}

impl Of for u32 {
    const NET: Net = V4;
}

impl Of for Halves {
    const NET: Net = V6;
}

/// What table nat does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Nat {
    Masquerade,
    /// Another address and another port.
    Source,
    Destination,
    Both,
}

impl Nat {
    const ALL: [Self; 4] = [Self::Masquerade, Self::Source, Self::Destination, Self::Both];

    const fn has_destination(self) -> bool {
        matches!(self, Self::Destination | Self::Both)
    }
}

fn socket(text: &str) -> SocketAddr {
    text.parse().expect("an address and a port")
}

fn addr(text: &str) -> Addr {
    text.parse::<IpAddr>().expect("an address").into()
}

fn order(kind: Kind, to: &str, ports: Option<(u16, u16)>) -> Order {
    let (first_port, last_port) = ports.unwrap_or_default();
    let flags = wish::ADDRESSES | if ports.is_some() { wish::PORTS } else { 0 };
    Order { kind, flags, first: addr(to), last: addr(to), first_port, last_port, base: 0 }
}

fn masquerade(net: &Net) -> Order {
    Order { flags: 0, ..order(Kind::Masquerade, net.public, None) }
}

/// Adds a chain of table nat with one rule for everything, and a policy behind it.
fn add(memory: &mut Memory, chain: Chain, order: &Order) {
    let extra = memory.extras.len() as u16;
    memory.extras.push(Extra { arguments: order.words(), ..Extra::default() });
    let (argument, mask) = order.pack(extra);
    let first = memory.rules.len() as u32;
    let chain_end = first + 1;
    let target = Target::Translate as u8;
    memory.rules.push(Rule { target, argument, mask, chain_end, ..Rule::default() });
    let target = Target::Accept as u8;
    memory.rules.push(Rule { flags: flag::POLICY, target, chain_end, ..Rule::default() });
    memory.header.entries.iter_mut().for_each(|of| of[chain as usize] = first);
    memory.header.needs |= need::NAT;
}

fn gateway<A: Of>(nat: Nat) -> Memory {
    Memory::with(|memory| {
        memory.add_device(1, OURS);
        memory.own_address = |_| Some(addr(A::NET.public));
        // Nobody is behind the address that others stand for.
        memory.route = |to| match to == addr(A::NET.public) {
            true => (Chain::Input, 0),
            false => (Chain::Forward, 2),
        };
        memory.hop = Some(Hop {
            exit: Exit::Redirect as u8,
            station: station(OURS),
            in_ifindex: 1,
            out_ifindex: 2,
            mtu: 1_500,
            class: A::NET.class,
            ..Hop::default()
        });
        let accepts = Rule { target: Target::Accept as u8, ..Rule::default() };
        let policy = Rule { flags: flag::POLICY, target: Target::Drop as u8, ..Rule::default() };
        memory.rules = vec![accepts, policy];
        memory.header = RulesetHeader::of_filter(0);
        if nat.has_destination() {
            let inner = socket(A::NET.inner);
            let ports = Some((inner.port(), inner.port()));
            let order = order(Kind::Destination, &inner.ip().to_string(), ports);
            add(memory, Chain::NatPrerouting, &order);
        }
        match nat {
            Nat::Masquerade | Nat::Both => add(memory, Chain::NatPostrouting, &masquerade(&A::NET)),
            Nat::Source => {
                let order = order(Kind::Source, A::NET.public, Some((61_000, 61_010)));
                add(memory, Chain::NatPostrouting, &order);
            }
            Nat::Destination => {}
        }
    })
}

/// A frame of either protocol from one socket to the other.
fn between(from: SocketAddr, to: SocketAddr, step: &Step) -> Vec<u8> {
    let frame = Frame::between(&from.ip().to_string(), &to.ip().to_string()).ttl(step.ttl);
    let frame = match step.is_udp {
        true => frame.udp(from.port(), to.port()),
        false => {
            let flags = step.flags;
            frame.tcp_at(from.port(), to.port(), flags, step.seq, step.ack).window(step.window)
        }
    };
    frame.payload(&vec![7; step.len]).build()
}

/// Judges a frame on the long way; gives it as it leaves.
fn pass(memory: &Memory, frame: &[u8], now: Nanos) -> Result<Vec<u8>, Verdict> {
    let (verdict, bytes) = memory.cross(Hook::Ingress, 1, frame, now);
    if !matches!(verdict, Verdict::Accept(_)) {
        return Err(verdict);
    }
    let scratch = memory.scratch();
    let written = Written::of(bytes);
    if scratch.nat.has(done::LEAVES) {
        let nat = &scratch.nat;
        assert!(rewrite::ends(&written, &scratch.headers, &nat.inside, &nat.leaving));
    }
    Ok(written.bytes.into_inner())
}

/// The same on the short way, where that takes it.
fn pass_shortly(memory: &Memory, frame: &[u8], now: Nanos) -> Result<Vec<u8>, Verdict> {
    memory.follow_through(frame, now).map_or_else(|| pass(memory, frame, now), Ok)
}

/// The ends of a frame, source and destination.
fn ends(frame: &[u8]) -> (SocketAddr, SocketAddr) {
    let mut headers = Headers::default();
    headers.parse(frame, true).expect("a whole packet");
    let at = |address: &Addr, port| SocketAddr::new(address.to_ip(), port);
    let tuple = &headers.tuple;
    (at(&tuple.src, tuple.sport), at(&tuple.dst, tuple.dport))
}

/// The flows, but for what they remember of routes.
fn flows(memory: &Memory) -> Vec<(FlowTable, FlowKey, Flow)> {
    let mut flows = memory.flows();
    for (_, _, flow) in &mut flows {
        flow.sides.iter_mut().for_each(|side| side.way = Way::default());
    }
    flows
}

/// The counters; the adapter counts what leaves by redirect.
fn counters(memory: &Memory) -> [u64; STAT_PLACES] {
    let mut stats = memory.stats();
    for stat in [Stat::ForwardFast, Stat::ForwardShort, Stat::ForwardStack] {
        stats[stat as usize] = 0;
    }
    stats
}

/// The ends of a frame as its bytes have them, and their mark.
fn wire_of<A: Of>(frame: &[u8]) -> (Ends<A>, Mark) {
    let (from, to) = ends(frame);
    let wire = ends_between(from, to);
    let protocol = if from.is_ipv4() { frame[23] } else { frame[20] };
    (wire, Mark::of(&wire, protocol))
}

fn ends_between<A: Of>(from: SocketAddr, to: SocketAddr) -> Ends<A> {
    let (sport, dport) = (from.port().to_be(), to.port().to_be());
    let [src, dst] = [from, to].map(|socket| A::narrow(&socket.ip().into()));
    Ends { src, dst, sport, dport }
}

/// What somebody does to a hint between two packets.
#[derive(Clone, Debug)]
enum Mischief {
    Nothing,
    Clear,
    /// Anything stands in one of the places.
    Noise(Part, Hint),
    /// Of what stands in a place, the second word only is another: half of what two CPUs wrote.
    Torn(Part, u64),
    /// Of a lie, as below, one half: the other is as it was.
    Half(Part, usize),
    /// The next packet is said to have one of these ends inside, chosen by that number: those of
    /// other flows, of flows that are over, and of none.
    Lie(usize),
}

impl Mischief {
    fn be_done<A: Of>(&self, memory: &Memory, mark: Mark, lies: &[Ends<A>]) {
        match self {
            Self::Nothing => {}
            Self::Clear => memory.note_hint(mark, Part::First, &Hint::NONE),
            Self::Noise(part, hint) => memory.note_hint(mark, *part, hint),
            Self::Torn(part, inside) => {
                let hint = memory.hint(mark, *part);
                memory.note_hint(mark, *part, &Hint { inside: *inside, ..hint });
            }
            Self::Half(part, number) => {
                let other = if *part == Part::First { Part::Second } else { Part::First };
                let kept = memory.hint(mark, other);
                A::note_hint(memory, mark, &lies[number % lies.len()]);
                memory.note_hint(mark, other, &kept);
            }
            Self::Lie(number) => A::note_hint(memory, mark, &lies[number % lies.len()]),
        }
    }
}

fn part() -> impl Strategy<Value = Part> {
    prop::sample::select(&[Part::First, Part::Second][..])
}

fn mischief() -> impl Strategy<Value = Mischief> {
    prop_oneof![
        6 => Just(Mischief::Nothing),
        1 => Just(Mischief::Clear),
        1 => (part(), any::<(u64, u64)>())
            .prop_map(|(part, (mark, inside))| Mischief::Noise(part, Hint { mark, inside })),
        1 => (part(), any::<u64>()).prop_map(|(part, inside)| Mischief::Torn(part, inside)),
        1 => (part(), any::<usize>()).prop_map(|(part, number)| Mischief::Half(part, number)),
        2 => any::<usize>().prop_map(Mischief::Lie),
    ]
}

/// How many hints there are: in all but the last case one is another's.
fn hints() -> impl Strategy<Value = usize> {
    prop::sample::select(&[1, 2, 4, 1 << PLACE_BITS][..])
}

fn have(memory: &Memory, hints: usize) {
    memory.hints.borrow_mut().resize(hints, Hint::NONE);
}

/// A packet of a running connection, and where it is addressed to.
#[derive(Clone, Debug)]
struct Step {
    is_udp: bool,
    is_reply: bool,
    aim: Aim,
    flags: u8,
    seq: u32,
    ack: u32,
    window: u16,
    len: usize,
    ttl: u8,
    wait: u64,
}

impl Step {
    fn of(is_udp: bool, is_reply: bool, flags: u8) -> Self {
        let (seq, ack) = if is_reply { (5_001, 1_001) } else { (1_001, 5_001) };
        let aim = Aim::Right;
        Self { is_udp, is_reply, aim, flags, seq, ack, window: 8_192, len: 0, ttl: 64, wait: 0 }
    }
}

#[derive(Clone, Copy, Debug)]
enum Aim {
    /// As the sender knows the other side.
    Right,
    /// To the ends inside, whoever knows them.
    Inside,
    OtherPort,
}

/// Two hosts and how they know each other.
struct Talk<A> {
    client: SocketAddr,
    server: SocketAddr,
    /// Whom the server sees.
    seen: SocketAddr,
    memory: Memory,
    of: PhantomData<A>,
}

impl<A: Of> Talk<A> {
    /// Behind a handshake, the verdict of both directions remembered.
    fn new(nat: Nat, is_udp: bool) -> Self {
        let memory = gateway::<A>(nat);
        let client = socket(A::NET.client);
        let first = Step { seq: 1_000, ack: 0, ..Step::of(is_udp, false, SYN) };
        let first = between(client, socket(A::NET.server), &first);
        let (seen, server) = ends(&pass(&memory, &first, NOW).expect("accepted"));
        let talk = Self { client, server, seen, memory, of: PhantomData };
        let answer = Step { seq: 5_000, ..Step::of(is_udp, true, SYN | ACK) };
        let rest = [answer, Step::of(is_udp, false, ACK), Step::of(is_udp, true, ACK)];
        let again = [Step::of(is_udp, false, ACK), Step::of(is_udp, true, ACK)];
        let mut now = NOW;
        for step in rest.iter().chain(&again) {
            pass(&talk.memory, &talk.frame(step), now).expect("accepted");
            now = now.after(Nanos::from_millis(900));
        }
        talk
    }

    fn frame(&self, step: &Step) -> Vec<u8> {
        let (from, known, inside) = match step.is_reply {
            true => (self.server, self.seen, self.client),
            false => (self.client, socket(A::NET.server), self.server),
        };
        let to = match step.aim {
            Aim::Right => known,
            Aim::Inside => inside,
            Aim::OtherPort => SocketAddr::new(known.ip(), known.port() ^ 1),
        };
        between(from, to, step)
    }

    fn flows(&self) -> Vec<(FlowTable, FlowKey, Flow)> {
        flows(&self.memory)
    }

    fn counters(&self) -> [u64; STAT_PLACES] {
        counters(&self.memory)
    }

    /// All that the ends of a packet could be taken for.
    fn lies(&self) -> Vec<Ends<A>> {
        let [known, other] = [A::NET.server, A::NET.clients[1]].map(socket);
        let all = [self.client, self.server, self.seen, known, other];
        let pairs = all.into_iter().flat_map(|from| all.map(|to| ends_between(from, to)));
        pairs.collect()
    }

    /// Those of a step on the wire, and which hint the gateway has of it.
    fn wire(&self, step: &Step) -> (Ends<A>, Mark) {
        wire_of(&self.frame(step))
    }

    fn change(&self, change: impl FnOnce(&mut Flow)) {
        let (table, key, _) = self.memory.flows()[0];
        change(self.memory.flow(table, &key).expect("the only flow"));
    }
}

prop_compose! {
    fn step(is_udp: bool)(
        is_reply: bool,
        aim in prop_oneof![9 => Just(Aim::Right), 1 => Just(Aim::Inside), 1 => Just(Aim::OtherPort)],
        flags in prop_oneof![
            30 => Just(ACK),
            6 => Just(ACK | PSH),
            1 => prop_oneof![Just(FIN | ACK), Just(RST), Just(SYN), Just(SYN | ACK)],
        ],
        seq in prop_oneof![9 => 0_u32..6_000, 1 => any::<u32>()],
        ack in prop_oneof![9 => 0_u32..3_000, 1 => any::<u32>()],
        window: u16,
        len in prop_oneof![Just(0_usize), 1_usize..1_400],
        ttl in prop_oneof![9 => Just(64_u8), 1 => 0_u8..3],
        wait in prop_oneof![5 => 0_u64..10, 1 => 0_u64..4_000],
    ) -> Step {
        let base = if is_reply { (5_001, 1_001) } else { (1_001, 5_001) };
        let (seq, ack) = (seq.wrapping_add(base.0), ack.wrapping_add(base.1));
        Step { is_udp, is_reply, aim, flags, seq, ack, window, len, ttl, wait }
    }
}

fn talk_of_steps() -> impl Strategy<Value = (bool, Vec<(Step, Mischief)>)> {
    let steps = |is_udp| (Just(is_udp), vec((step(is_udp), mischief()), 1..40));
    any::<bool>().prop_flat_map(steps)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn the_short_way_leads_where_the_long_one_does(
        nat in prop::sample::select(&Nat::ALL[..]),
        (is_udp, steps) in talk_of_steps(),
        hints in hints(),
        is_ipv6: bool,
    ) {
        match is_ipv6 {
            false => compare::<u32>(nat, is_udp, &steps, hints)?,
            true => compare::<Halves>(nat, is_udp, &steps, hints)?,
        }
    }
}

fn compare<A: Of>(
    nat: Nat,
    is_udp: bool,
    steps: &[(Step, Mischief)],
    hints: usize,
) -> Result<(), TestCaseError> {
    let (short, long) = (Talk::<A>::new(nat, is_udp), Talk::<A>::new(nat, is_udp));
    have(&short.memory, hints);
    let lies = short.lies();
    let mut now = NOW.after(Nanos::from_secs(5));
    for (step, mischief) in steps {
        mischief.be_done(&short.memory, short.wire(step).1, &lies);
        now = now.after(Nanos::from_millis(step.wait));
        let frame = long.frame(step);
        prop_assert_eq!(&frame, &short.frame(step));
        let expected = pass(&long.memory, &frame, now);
        prop_assert_eq!(pass_shortly(&short.memory, &frame, now), expected, "{:?}", step);
        prop_assert_eq!(short.flows(), long.flows(), "{:?}", step);
        prop_assert_eq!(short.counters(), long.counters(), "{:?}", step);
    }
    Ok(())
}

/// A packet of several clients whom the gateway gives two ports, or of a server to one of these.
#[derive(Clone, Debug)]
struct Turn {
    client: usize,
    server: usize,
    is_reply: bool,
    port: u16,
    wait: Nanos,
    /// Somebody empties the table of flows before.
    is_flushed: bool,
}

impl Turn {
    const PORTS: (u16, u16) = (61_000, 61_001);

    fn gateway<A: Of>() -> Memory {
        let mut memory = gateway::<A>(Nat::Masquerade);
        let order = order(Kind::Source, A::NET.public, Some(Self::PORTS));
        memory.extras.clear();
        add(&mut memory, Chain::NatPostrouting, &order);
        memory
    }

    fn frame(&self, net: &Net) -> Vec<u8> {
        let step = Step { len: 30, ..Step::of(true, self.is_reply, ACK) };
        let (client, server) = (net.clients[self.client], net.servers[self.server]);
        let (client, server) = (socket(client), socket(server));
        let public = SocketAddr::new(addr(net.public).to_ip(), self.port);
        match self.is_reply {
            true => between(server, public, &step),
            false => between(client, server, &step),
        }
    }

    fn lies<A: Of>() -> Vec<Ends<A>> {
        let of = |from: &str, to: &str| ends_between(socket(from), socket(to));
        let Net { clients, servers, inner, client, nobody, .. } = A::NET;
        let known = servers.into_iter().flat_map(|from| clients.map(|to| of(from, to)));
        known.chain([of(inner, nobody), of(client, inner)]).collect()
    }
}

prop_compose! {
    fn turn()(
        client in 0..V4.clients.len(),
        server in 0..V4.servers.len(),
        is_reply: bool,
        port in Turn::PORTS.0..=Turn::PORTS.1,
        wait in prop_oneof![
            20 => (0_u64..1_500).prop_map(Nanos::from_millis),
            1 => (20_u64..200).prop_map(Nanos::from_secs),
        ],
        is_flushed in prop::bool::weighted(0.03),
    ) -> Turn {
        Turn { client, server, is_reply, port, wait, is_flushed }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Ports that were one client's become another's, while hints tell of the former.
    #[test]
    fn no_packet_is_led_to_another_client(
        turns in vec((turn(), mischief()), 1..80),
        hints in hints(),
        is_ipv6: bool,
    ) {
        match is_ipv6 {
            false => take_turns::<u32>(&turns, hints)?,
            true => take_turns::<Halves>(&turns, hints)?,
        }
    }
}

fn take_turns<A: Of>(turns: &[(Turn, Mischief)], hints: usize) -> Result<(), TestCaseError> {
    let (short, long) = (Turn::gateway::<A>(), Turn::gateway::<A>());
    have(&short, hints);
    let lies = Turn::lies::<A>();
    let mut now = NOW;
    for (turn, mischief) in turns {
        now = now.after(turn.wait);
        if turn.is_flushed {
            short.forget_flows();
            long.forget_flows();
        }
        let frame = turn.frame(&A::NET);
        mischief.be_done(&short, wire_of::<A>(&frame).1, &lies);
        let expected = pass(&long, &frame, now);
        prop_assert_eq!(pass_shortly(&short, &frame, now), expected, "{:?}", turn);
        prop_assert_eq!(flows(&short), flows(&long), "{:?}", turn);
        prop_assert_eq!(counters(&short), counters(&long), "{:?}", turn);
    }
    Ok(())
}

/// Runs a test of one family over both.
macro_rules! both_families {
    ($test:ident) => {
        mod $test {
            #[test]
            fn of_ipv4() {
                super::$test::<u32>();
            }

            #[test]
            fn of_ipv6() {
                super::$test::<super::Halves>();
            }
        }
    };
}

/// Whether the short way takes both directions of a connection.
fn takes<A: Of>(talk: &Talk<A>, is_udp: bool) -> [bool; 2] {
    let later = NOW.after(Nanos::from_secs(5));
    [false, true].map(|is_reply| {
        // No frame on a wire is shorter.
        let frame = talk.frame(&Step { len: 30, ..Step::of(is_udp, is_reply, ACK) });
        talk.memory.follow(&frame, later)
    })
}

both_families!(it_takes_both_directions_however_they_are_translated);
fn it_takes_both_directions_however_they_are_translated<A: Of>() {
    for (nat, is_udp) in Nat::ALL.into_iter().flat_map(|nat| [(nat, false), (nat, true)]) {
        let talk = Talk::<A>::new(nat, is_udp);
        assert_eq!(takes(&talk, is_udp), [true; 2], "{nat:?}, UDP: {is_udp}");
    }
}

both_families!(it_takes_neither_where_the_stack_sends_on);
fn it_takes_neither_where_the_stack_sends_on<A: Of>() {
    for (nat, is_udp) in Nat::ALL.into_iter().flat_map(|nat| [(nat, false), (nat, true)]) {
        let mut talk = Talk::<A>::new(nat, is_udp);
        talk.memory.exit = Exit::Stack;
        talk.memory.hop = talk.memory.hop.map(|hop| Hop { exit: Exit::Stack as u8, ..hop });
        assert_eq!(takes(&talk, is_udp), [false; 2], "{nat:?}, UDP: {is_udp}");
    }
}

both_families!(it_takes_nothing_that_is_addressed_past_the_wire_face);
fn it_takes_nothing_that_is_addressed_past_the_wire_face<A: Of>() {
    let cases = [(Nat::Masquerade, true), (Nat::Destination, false), (Nat::Both, true)];
    for (nat, is_reply) in cases {
        let talk = Talk::<A>::new(nat, false);
        let step = Step { aim: Aim::Inside, ..Step::of(false, is_reply, ACK) };
        assert!(!talk.memory.follow(&talk.frame(&step), NOW), "{nat:?}");
    }
}

both_families!(it_takes_nothing_of_a_connection_whose_numbers_may_be_shifted);
fn it_takes_nothing_of_a_connection_whose_numbers_may_be_shifted<A: Of>() {
    for nat in Nat::ALL {
        let talk = Talk::<A>::new(nat, false);
        talk.change(|flow| flow.helper = helper::FTP);
        assert_eq!(takes(&talk, false), [false; 2]);
        talk.change(|flow| flow.status |= status::EXPECTED);
        assert_eq!(takes(&talk, false), [true; 2]);
    }
}

both_families!(it_takes_nothing_that_leaves_by_an_interface_of_somebody_else);
fn it_takes_nothing_that_leaves_by_an_interface_of_somebody_else<A: Of>() {
    let mut talk = Talk::<A>::new(Nat::Masquerade, false);
    talk.memory.devices.insert(2, Device::default());
    assert_eq!(takes(&talk, false), [false, true]);
    talk.memory.devices.insert(2, Device { flags: device::OURS, ..Device::default() });
    // Whoever changes that tells of it.
    talk.memory.epoch += 1;
    assert_eq!(takes(&talk, false), [true; 2]);
}

mod hints {
    use super::*;

    /// What the gateway says of the server's packet a second after the one before, and how often it
    /// has looked for a translation.
    fn reply<A: Of>(talk: &Talk<A>, second: u64) -> (bool, u32) {
        let frame = talk.frame(&Step { len: 30, ..Step::of(false, true, ACK) });
        let asked = talk.memory.asked_translations.take();
        assert_eq!(asked, 0, "left over");
        let is_taken = talk.memory.follow(&frame, NOW.after(Nanos::from_secs(5 + second)));
        (is_taken, talk.memory.asked_translations.take())
    }

    both_families!(the_second_packet_to_a_wire_face_asks_for_no_translation);
    fn the_second_packet_to_a_wire_face_asks_for_no_translation<A: Of>() {
        let talk = Talk::<A>::new(Nat::Masquerade, false);
        assert_eq!(reply(&talk, 0), (true, 1));
        assert_eq!(reply(&talk, 1), (true, 0));
        assert_eq!(reply(&talk, 2), (true, 0));
    }

    both_families!(a_packet_to_no_wire_face_neither_asks_nor_is_noted);
    fn a_packet_to_no_wire_face_neither_asks_nor_is_noted<A: Of>() {
        let talk = Talk::<A>::new(Nat::Masquerade, false);
        let frame = talk.frame(&Step { len: 30, ..Step::of(false, false, ACK) });
        assert!(talk.memory.follow(&frame, NOW.after(Nanos::from_secs(5))));
        assert_eq!(talk.memory.asked_translations.get(), 0);
        assert!(talk.memory.hints.borrow().iter().all(|hint| *hint == Hint::NONE));
    }

    both_families!(a_wrong_one_is_cleared_and_the_next_packet_gets_a_right_one);
    fn a_wrong_one_is_cleared_and_the_next_packet_gets_a_right_one<A: Of>() {
        let talk = Talk::<A>::new(Nat::Masquerade, false);
        let step = Step::of(false, true, ACK);
        let (wire, mark) = talk.wire(&step);
        let right = Ends { dst: ends_between::<A>(talk.server, talk.client).dst, ..wire };
        let told = || A::hinted(&talk.memory, mark, &wire);
        assert_eq!(reply(&talk, 0), (true, 1));
        assert_eq!(told(), Some(right));
        for lie in talk.lies().iter().map(|lie| Ends { src: wire.src, ..*lie }) {
            if lie == right {
                continue;
            }
            A::note_hint(&talk.memory, mark, &lie);
            assert_eq!(reply(&talk, 0), (false, 0), "{lie:?}");
            assert_eq!(told(), None, "{lie:?}");
            assert_eq!(reply(&talk, 0), (true, 1), "{lie:?}");
            assert_eq!(told(), Some(right), "{lie:?}");
        }
    }

    both_families!(one_of_a_flow_with_another_face_is_not_followed);
    /// A client that had this port before, whose flow is there, has it no more.
    fn one_of_a_flow_with_another_face_is_not_followed<A: Of>() {
        let talk = Talk::<A>::new(Nat::Source, false);
        assert_eq!(reply(&talk, 0), (true, 1));
        talk.change(|flow| flow.faces.port[0] ^= 1);
        assert_eq!(reply(&talk, 1), (false, 0));
    }

    both_families!(one_of_a_flow_that_has_expired_is_cleared);
    fn one_of_a_flow_that_has_expired_is_cleared<A: Of>() {
        let talk = Talk::<A>::new(Nat::Masquerade, false);
        assert_eq!(reply(&talk, 0), (true, 1));
        talk.change(|flow| flow.expires = NOW);
        assert_eq!(reply(&talk, 1), (false, 0));
        let (_, mark) = talk.wire(&Step::of(false, true, ACK));
        assert_eq!(talk.memory.hint(mark, Part::First), Hint::NONE);
        assert_eq!(reply(&talk, 2), (false, 1));
        assert_eq!(talk.memory.hint(mark, Part::First), Hint::NONE);
    }

    both_families!(each_protocol_has_its_own);
    fn each_protocol_has_its_own<A: Of>() {
        let (wire, mark) = Talk::<A>::new(Nat::Masquerade, false).wire(&Step::of(false, true, ACK));
        assert_ne!(mark, Mark::of(&wire, 17));
        assert_eq!(mark, Mark::of(&wire, 6));
    }
}

/// Where a half of a hint is another's, the table of translations is asked, and the hint is whole again.
#[test]
fn a_hint_of_ipv6_whose_second_half_is_anothers_is_not_followed() {
    let talk = Talk::<Halves>::new(Nat::Masquerade, false);
    let (wire, mark) = talk.wire(&Step::of(false, true, ACK));
    let frame = talk.frame(&Step { len: 30, ..Step::of(false, true, ACK) });
    let later = NOW.after(Nanos::from_secs(5));
    assert!(talk.memory.follow(&frame, later));
    let inside = Halves::hinted(&talk.memory, mark, &wire).expect("a hint");
    for other in [Hint::NONE, Hint { mark: 1, inside: 2 }] {
        talk.memory.note_hint(mark, Part::Second, &other);
        assert_eq!(Halves::hinted(&talk.memory, mark, &wire), None);
        talk.memory.asked_translations.set(0);
        assert!(talk.memory.follow(&frame, later));
        assert_eq!(talk.memory.asked_translations.get(), 1);
        assert_eq!(Halves::hinted(&talk.memory, mark, &wire), Some(inside));
    }
}

//! The control connection is a byte stream: however PORT, EPRT, 227 and 229 are
//! cut into segments and spelled, the transfer works, and the port beside the
//! announced one stays shut.

use std::{
    io::Read as _,
    net::{SocketAddr, TcpListener, TcpStream},
    os::fd::OwnedFd,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use anyhow::{Context as _, Result, ensure};
use firewall_tests::{
    Family, Firewall, Gateway, Offload, capability,
    control::{Control, extended, host_port},
    conversation::Conversation,
    firewall::{FTP_RULES, Setup},
    ledger::refused_since,
    needs,
    packet::Packet,
    server::own::{self, Own, Script, contents},
    wait,
    wire::{End, Wires},
};
use nix::sys::socket::{getsockopt, sockopt::SocketError};

/// How a line, given without its end, becomes segments.
type Spelling = fn(&str) -> Vec<Vec<u8>>;

fn whole(line: &str) -> Vec<Vec<u8>> {
    vec![format!("{line}\r\n").into_bytes()]
}

/// Cuts a line in two; `None` when `at` is behind its end.
fn cut(line: &str, at: usize) -> Option<Vec<Vec<u8>>> {
    let line = format!("{line}\r\n").into_bytes();
    let (one, other) = line.split_at_checked(at).filter(|(_, other)| !other.is_empty())?;
    Some(vec![one.into(), other.into()])
}

fn letter_by_letter(line: &str) -> Vec<Vec<u8>> {
    whole(line).concat().into_iter().map(|letter| vec![letter]).collect()
}

fn line_feed_only(line: &str) -> Vec<Vec<u8>> {
    vec![format!("{line}\n").into_bytes()]
}

fn lower_case(line: &str) -> Vec<Vec<u8>> {
    vec![format!("{}\r\n", line.to_lowercase()).into_bytes()]
}

mod one_announcement_in_two_segments {
    use super::*;

    #[test]
    fn of_port_at_every_byte() {
        needs!(capability::firewall());
        of_a_command(Family::V4).unwrap();
    }

    #[test]
    fn of_eprt_at_every_byte() {
        needs!(capability::firewall());
        of_a_command(Family::V6).unwrap();
    }

    #[test]
    fn of_227_at_every_byte() {
        needs!(capability::firewall());
        of_a_reply(Family::V4).unwrap();
    }

    #[test]
    fn of_229_at_every_byte() {
        needs!(capability::firewall());
        of_a_reply(Family::V6).unwrap();
    }

    fn of_a_command(family: Family) -> Result<()> {
        let network = Gateway::new(Offload::Tuned)?;
        let mut session = Session::start(&network, family, Script::default())?;
        for at in 1.. {
            let Some(parts) = cut(&session.announcement(), at) else { break };
            session.active(&parts, 1).with_context(|| format!("cut at byte {at}"))?;
        }
        session.finish()
    }

    fn of_a_reply(family: Family) -> Result<()> {
        let network = Gateway::new(Offload::Tuned)?;
        let position = Arc::new(AtomicUsize::new(1));
        let at = Arc::clone(&position);
        let script = Script::default().wording(move |reply| {
            let parts = cut(&reply, at.load(Ordering::Relaxed));
            let parts = parts.filter(|_| is_announcement(&reply));
            parts.unwrap_or_else(|| whole(&reply))
        });
        let mut session = Session::start(&network, family, script)?;
        loop {
            let at = position.load(Ordering::Relaxed);
            let reply = session.passive(1).with_context(|| format!("cut at byte {at}"))?;
            if at > reply {
                return session.finish();
            }
            position.store(at + 1, Ordering::Relaxed);
        }
    }
}

/// Spellings of one command, and how many replies they bring.
const COMMANDS: &[(&str, Spelling, usize)] = &[
    ("letter by letter", letter_by_letter, 1),
    ("with a line feed only", line_feed_only, 1),
    ("in lower case", lower_case, 1),
    ("behind another", |line| vec![format!("TYPE I\r\n{line}\r\n").into_bytes()], 2),
    ("before another", |line| vec![format!("{line}\r\nNOOP\r\n").into_bytes()], 2),
    ("between parts of others", between_parts_of_others, 4),
];

fn between_parts_of_others(line: &str) -> Vec<Vec<u8>> {
    let (one, other) = line.split_at(line.len() / 2);
    let parts = ["NOOP\r\nNO".to_string(), format!("OP\r\n{one}"), format!("{other}\r\nNOOP\r\n")];
    parts.map(String::into_bytes).into()
}

#[test]
fn a_command_announces_however_it_is_spelled() {
    needs!(capability::firewall());
    for family in [Family::V4, Family::V6] {
        commands(family).unwrap();
    }
}

fn commands(family: Family) -> Result<()> {
    let network = Gateway::new(Offload::Tuned)?;
    let mut session = Session::start(&network, family, Script::default())?;
    for (name, spelling, replies) in COMMANDS {
        session.active(&spelling(&session.announcement()), *replies).with_context(|| *name)?;
    }
    session.finish()
}

/// Spellings of one reply.
const REPLIES: &[(&str, Spelling)] = &[
    ("letter by letter", letter_by_letter),
    ("with a line feed only", line_feed_only),
    ("as the last of several lines", last_of_several),
    ("as the last of several lines in several segments", last_of_several_apart),
];

fn last_of_several(reply: &str) -> Vec<Vec<u8>> {
    let (code, _) = reply.split_at(3);
    vec![format!("{code}-Now listen.\r\n to this:\r\n{reply}\r\n").into_bytes()]
}

fn last_of_several_apart(reply: &str) -> Vec<Vec<u8>> {
    let (code, _) = reply.split_at(3);
    let parts = [format!("{code}-Now list"), format!("en.\r\n{reply}\r\n")];
    parts.map(String::into_bytes).into()
}

#[test]
fn a_reply_announces_however_it_is_spelled() {
    needs!(capability::firewall());
    for family in [Family::V4, Family::V6] {
        replies(family).unwrap();
    }
}

fn replies(family: Family) -> Result<()> {
    let network = Gateway::new(Offload::Tuned)?;
    let chosen = Arc::new(AtomicUsize::new(0));
    let which = Arc::clone(&chosen);
    let script = Script::default().wording(move |reply| {
        let (_, spelling) = REPLIES[which.load(Ordering::Relaxed)];
        if is_announcement(&reply) { spelling(&reply) } else { whole(&reply) }
    });
    let mut session = Session::start(&network, family, script)?;
    for (number, (name, _)) in REPLIES.iter().enumerate() {
        chosen.store(number, Ordering::Relaxed);
        session.passive(1).with_context(|| *name)?;
    }
    session.finish()
}

fn is_announcement(reply: &str) -> bool {
    reply.starts_with("227") || reply.starts_with("229")
}

#[test]
fn a_reply_behind_another_in_one_segment_announces() {
    needs!(capability::firewall());
    for family in [Family::V4, Family::V6] {
        behind_another(family).unwrap();
    }
}

/// TYPE and PASV in one segment, 200 and 227 in one.
fn behind_another(family: Family) -> Result<()> {
    let network = Gateway::new(Offload::Tuned)?;
    let held = Arc::new(Mutex::new(String::new()));
    let script = Script::default().wording(move |reply| {
        let mut held = held.lock().expect("no session panics");
        if reply.starts_with("200") {
            held.push_str(&format!("{reply}\r\n"));
            return Vec::new();
        }
        whole(&format!("{}{reply}", std::mem::take(&mut *held)))
    });
    let mut session = Session::start(&network, family, script)?;
    session.passive_after("TYPE I\r\n", 2)?;
    session.finish()
}

/// A control connection through the gateway, and what was refused beside it.
struct Session<'a> {
    network: &'a Gateway,
    firewall: Firewall<'a>,
    _server: Own,
    control: Control,
    next_port: u16,
    /// Attempts beside announced ports.
    beside: u64,
}

impl<'a> Session<'a> {
    fn start(network: &'a Gateway, family: Family, script: Script) -> Result<Self> {
        let server = Own::start(&network.server, script)?;
        let firewall = Setup::on(&["eth0", "eth1"]).both(FTP_RULES).start(network.gateway())?;
        let address = SocketAddr::new(network.server_address(family), 21);
        let mut control = Control::open(&network.client, address)?;
        control.login(("a", "b"))?;
        Ok(Self { network, firewall, _server: server, control, next_port: 40_000, beside: 0 })
    }

    fn own(&self) -> SocketAddr {
        let address = self.control.local().expect("a connected socket").ip();
        SocketAddr::new(address, self.next_port)
    }

    /// The command that announces the next port.
    fn announcement(&self) -> String {
        match self.own() {
            own @ SocketAddr::V4(_) => format!("PORT {}", host_port(own)),
            own @ SocketAddr::V6(_) => format!("EPRT {}", extended(own)),
        }
    }

    /// Announces by these segments, hears so many replies, and fetches a file.
    fn active(&mut self, parts: &[Vec<u8>], replies: usize) -> Result<()> {
        let own = self.own();
        self.next_port += 2;
        let listener = self.network.client.enter(|| TcpListener::bind(own))?;
        self.control.write_apart(parts)?;
        for _ in 0..replies {
            let reply = self.control.reply()?;
            ensure!(reply.code == 200, "{reply:?}");
        }
        let server = SocketAddr::new(self.control.peer()?.ip(), 20);
        let beside = SocketAddr::new(own.ip(), own.port() + 1);
        let refused = self.network.server.enter(|| own::begin_to_connect(Some(server), beside))?;

        let begin = self.control.command("RETR file")?;
        ensure!(begin.code == 150, "{begin:?}");
        let (stream, peer) = listener.accept()?;
        ensure!(peer == server, "the data connection comes from {peer}");
        self.read_file(stream, &refused)
    }

    /// Asks, hears so many replies, and fetches a file; returns the length of the
    /// reply.
    fn passive(&mut self, replies: usize) -> Result<usize> {
        self.passive_after("", replies)
    }

    fn passive_after(&mut self, before: &str, replies: usize) -> Result<usize> {
        let server = self.control.peer()?.ip();
        let command = if server.is_ipv4() { "PASV" } else { "EPSV" };
        self.control.write(format!("{before}{command}\r\n").as_bytes())?;
        for _ in 1..replies {
            self.control.reply()?;
        }
        let reply = self.control.reply()?;
        let announced = SocketAddr::new(server, reply.port()?);
        let beside = SocketAddr::new(server, announced.port() ^ 1);
        let (refused, stream) = self.network.client.enter(|| {
            (
                own::begin_to_connect(None, beside),
                TcpStream::connect_timeout(&announced, wait::DEADLINE),
            )
        });
        self.control.write(b"RETR file\r\n")?;
        let begin = self.control.reply()?;
        ensure!(begin.code == 150, "{begin:?}");
        self.read_file(stream?, &refused?)?;
        Ok(reply.text.len())
    }

    fn read_file(&mut self, mut stream: TcpStream, refused: &OwnedFd) -> Result<()> {
        let mut arrived = String::new();
        stream.read_to_string(&mut arrived)?;
        ensure!(arrived == contents("file"), "arrived: {arrived:?}");
        let end = self.control.reply()?;
        ensure!(end.code == 226, "{end:?}");
        self.beside += 1;
        let answer = getsockopt(refused, SocketError)?;
        ensure!(answer == 0, "the port beside was answered: error {answer}");
        Ok(())
    }

    /// Every attempt beside an announced port was dropped by the policy.
    fn finish(self) -> Result<()> {
        let dropped = self.firewall.stat("policy")?;
        ensure!(dropped >= self.beside, "{dropped} of {} were dropped", self.beside);
        Ok(())
    }
}

/// Segments by hand, between ghosts.
mod on_the_wire {
    use super::*;

    const PORT: u16 = 40_000;

    struct Bench {
        network: Gateway,
        wires: Wires,
    }

    impl Bench {
        fn new() -> Result<Self> {
            let network = Gateway::new(Offload::Tuned)?;
            let wires = Wires::across(&network)?;
            Ok(Self { network, wires })
        }

        fn firewall(&self) -> Result<Firewall<'_>> {
            Setup::on(&["eth0", "eth1"]).both(FTP_RULES).start(self.network.gateway())
        }

        fn converse(&self) -> Result<Conversation<'_>> {
            let mut conversation = Conversation::open(&self.wires, Family::V4, 50_000)?;
            conversation.login()?;
            Ok(conversation)
        }

        /// The line that announces a port of this end.
        fn announcement(&self, end: End) -> Vec<u8> {
            let spelled = host_port(self.wires.at(end).endpoint(Family::V4, PORT));
            match end {
                End::Client => format!("PORT {spelled}\r\n"),
                End::Server => format!("227 Entering Passive Mode ({spelled}).\r\n"),
            }
            .into_bytes()
        }

        fn syn(&self, from: End, source_port: u16, port: u16) -> Packet {
            let source = self.wires.at(from).endpoint(Family::V4, source_port);
            Packet::syn(source, self.wires.at(from.other()).endpoint(Family::V4, port))
        }

        fn refuses(&self, firewall: &Firewall<'_>, from: End, syn: &Packet) -> Result<()> {
            let before = firewall.stat("policy")?;
            self.wires.at(from).send(syn)?;
            refused_since(firewall, before, &format!("{syn:?}"))?;
            self.wires.at(from.other()).has_not_seen(syn)
        }

        /// The port beside is shut, and the announced one admits one connection.
        fn admits_once(&self, firewall: &Firewall<'_>, from: End) -> Result<()> {
            self.refuses(firewall, from, &self.syn(from, 20, PORT + 1))?;
            self.wires.cross(from, &self.syn(from, 20, PORT)).context("the data connection")?;
            self.refuses(firewall, from, &self.syn(from, 22_222, PORT))
        }
    }

    /// How one end tells a line.
    type Telling = fn(&mut Conversation<'_>, End, &[u8]) -> Result<()>;

    const TELLINGS: &[(&str, Telling)] = &[
        ("sent twice", |conversation, end, line| {
            conversation.say(end, line)?;
            conversation.say_again(end, line.len() as u32, line)
        }),
        ("a first half, sent again with the rest", |conversation, end, line| {
            let half = line.len() / 2;
            conversation.say(end, &line[..half])?;
            conversation.say_again(end, half as u32, line)
        }),
        ("overlapping halves", |conversation, end, line| {
            let half = line.len() / 2;
            conversation.say(end, &line[..half + 4])?;
            conversation.say_again(end, 8, &line[half - 4..])
        }),
        ("halves in the wrong order", |conversation, end, line| {
            let (one, other) = line.split_at(line.len() / 2);
            conversation.say_early(end, one.len() as u32, other)?;
            conversation.say(end, one)?;
            conversation.skip(end, other.len() as u32)
        }),
        ("a second half lost behind us and sent again", |conversation, end, line| {
            let (one, other) = line.split_at(line.len() / 2);
            conversation.say_early(end, one.len() as u32, other)?;
            conversation.say(end, one)?;
            conversation.say(end, other)
        }),
    ];

    #[test]
    fn an_announcement_is_followed_in_whatever_segments_it_comes() {
        needs!(capability::firewall());
        all_tellings().unwrap();
    }

    /// PORT told in each manner, then 227, each on a connection of its own.
    fn all_tellings() -> Result<()> {
        let bench = Bench::new()?;
        let firewall = bench.firewall()?;
        for (name, tell) in TELLINGS {
            for end in [End::Client, End::Server] {
                firewall.text(&["conntrack", "flush"])?;
                told(&bench, &firewall, end, *tell).with_context(|| format!("{end:?}: {name}"))?;
            }
        }
        Ok(())
    }

    fn told(bench: &Bench, firewall: &Firewall<'_>, end: End, tell: Telling) -> Result<()> {
        let mut conversation = bench.converse()?;
        if end == End::Server {
            conversation.say(End::Client, b"PASV\r\n")?;
        }
        tell(&mut conversation, end, &bench.announcement(end))?;
        if end == End::Client {
            conversation.say(End::Server, b"200 fine\r\n")?;
        }
        bench.admits_once(firewall, end.other())
    }

    #[test]
    fn a_used_announcement_sent_again_opens_nothing() {
        needs!(capability::firewall());
        used_again().unwrap();
    }

    fn used_again() -> Result<()> {
        let bench = Bench::new()?;
        let firewall = bench.firewall()?;
        let mut conversation = bench.converse()?;
        let line = bench.announcement(End::Client);
        let reply = b"200 fine\r\n";
        conversation.say(End::Client, &line)?;
        conversation.say(End::Server, reply)?;
        bench.admits_once(&firewall, End::Server)?;
        conversation.say_again(End::Client, line.len() as u32, &line)?;
        conversation.say_again(End::Server, reply.len() as u32, reply)?;
        bench.refuses(&firewall, End::Server, &bench.syn(End::Server, 20_001, PORT))
    }

    #[test]
    fn a_greeting_whose_second_half_comes_first_is_one() {
        needs!(capability::firewall());
        greeted_in_the_wrong_order().unwrap();
    }

    fn greeted_in_the_wrong_order() -> Result<()> {
        let bench = Bench::new()?;
        let firewall = bench.firewall()?;
        let mut conversation = Conversation::open(&bench.wires, Family::V4, 50_000)?;
        let [one, other] = [&b"220 we"[..], b"lcome\r\n"];
        conversation.say_early(End::Server, one.len() as u32, other)?;
        conversation.say(End::Server, one)?;
        conversation.skip(End::Server, other.len() as u32)?;
        conversation.say(End::Client, b"PASV\r\n")?;
        conversation.say(End::Server, &bench.announcement(End::Server))?;
        bench.admits_once(&firewall, End::Client)
    }

    /// A page has a browser post text of which a segment begins with a command, and the server
    /// behind it has greeted as one of FTP does: the order of the segments makes no beginning.
    #[test]
    fn a_request_whose_second_half_comes_first_opens_nothing() {
        needs!(capability::firewall());
        posted_in_the_wrong_order().unwrap();
    }

    fn posted_in_the_wrong_order() -> Result<()> {
        let bench = Bench::new()?;
        let firewall = bench.firewall()?;
        let mut conversation = Conversation::open(&bench.wires, Family::V4, 50_000)?;
        conversation.say(End::Server, b"220 ready\r\n")?;
        let one = b"POST / HTTP/1.1\r\n\r\n";
        let other = [b"USER a\r\n", &bench.announcement(End::Client)[..]].concat();
        conversation.say_early(End::Client, one.len() as u32, &other)?;
        conversation.say(End::Client, one)?;
        conversation.skip(End::Client, other.len() as u32)?;
        conversation.say(End::Server, b"331 password\r\n230 welcome\r\n200 fine\r\n")?;
        bench.refuses(&firewall, End::Server, &bench.syn(End::Server, 20_000, PORT))
    }
}

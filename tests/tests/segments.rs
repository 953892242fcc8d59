//! The control connection is a byte stream: however PORT, EPRT, 227 and 229 are
//! cut into segments and spelled, the transfer works, and the port beside the
//! announced one stays shut.

use std::{
    io::Read as _,
    net::{SocketAddr, TcpListener, TcpStream},
    os::fd::OwnedFd,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use anyhow::{Context as _, Result, ensure};
use firewall_tests::{
    Family, Firewall, Gateway, Offload, capability,
    control::{Control, extended, host_port},
    conversation::Conversation,
    firewall::Setup,
    ledger::refused_since,
    needs,
    packet::Packet,
    server::own::{self, Own, Script, contents},
    wait,
    wire::{End, Wires},
};
use nix::sys::socket::{getsockopt, sockopt::SocketError};

const RULES: &str = "\
*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
-A FORWARD -m state --state ESTABLISHED,RELATED -j ACCEPT
-A FORWARD -i eth0 -p tcp --dport 21 -m state --state NEW -j ACCEPT
COMMIT
";

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
            let is_announcement = reply.starts_with("227") || reply.starts_with("229");
            let parts = cut(&reply, at.load(Ordering::Relaxed)).filter(|_| is_announcement);
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

mod a_command {
    use super::*;

    #[test]
    fn typed_letter_by_letter_announces() {
        needs!(capability::firewall());
        spelled(letter_by_letter, 1).unwrap();
    }

    #[test]
    fn that_ends_in_a_line_feed_only_announces() {
        needs!(capability::firewall());
        spelled(line_feed_only, 1).unwrap();
    }

    #[test]
    fn in_lower_case_announces() {
        needs!(capability::firewall());
        spelled(lower_case, 1).unwrap();
    }

    #[test]
    fn behind_another_in_one_segment_announces() {
        needs!(capability::firewall());
        spelled(|line| vec![format!("TYPE I\r\n{line}\r\n").into_bytes()], 2).unwrap();
    }

    #[test]
    fn before_another_in_one_segment_announces() {
        needs!(capability::firewall());
        spelled(|line| vec![format!("{line}\r\nNOOP\r\n").into_bytes()], 2).unwrap();
    }

    #[test]
    fn between_parts_of_others_announces() {
        needs!(capability::firewall());
        let spelling: Spelling = |line| {
            let (one, other) = line.split_at(line.len() / 2);
            let parts =
                ["NOOP\r\nNO".to_string(), format!("OP\r\n{one}"), format!("{other}\r\nNOOP\r\n")];
            parts.map(String::into_bytes).into()
        };
        spelled(spelling, 4).unwrap();
    }

    fn spelled(spelling: Spelling, replies: usize) -> Result<()> {
        for family in [Family::V4, Family::V6] {
            let network = Gateway::new(Offload::Tuned)?;
            let mut session = Session::start(&network, family, Script::default())?;
            session.active(&spelling(&session.announcement()), replies)?;
            session.finish()?;
        }
        Ok(())
    }
}

mod a_reply {
    use super::*;

    #[test]
    fn letter_by_letter_announces() {
        needs!(capability::firewall());
        spelled(letter_by_letter).unwrap();
    }

    #[test]
    fn that_ends_in_a_line_feed_only_announces() {
        needs!(capability::firewall());
        spelled(line_feed_only).unwrap();
    }

    #[test]
    fn of_several_lines_in_one_segment_announces() {
        needs!(capability::firewall());
        let spelling: Spelling = |reply| {
            let (code, _) = reply.split_at(3);
            vec![format!("{code}-Now listen.\r\n to this:\r\n{reply}\r\n").into_bytes()]
        };
        spelled(spelling).unwrap();
    }

    #[test]
    fn of_several_lines_in_several_segments_announces() {
        needs!(capability::firewall());
        let spelling: Spelling = |reply| {
            let (code, _) = reply.split_at(3);
            let parts = [format!("{code}-Now list"), format!("en.\r\n{reply}\r\n")];
            parts.map(String::into_bytes).into()
        };
        spelled(spelling).unwrap();
    }

    #[test]
    fn behind_another_in_one_segment_announces() {
        needs!(capability::firewall());
        behind_another().unwrap();
    }

    /// TYPE and PASV in one segment, 200 and 227 in one.
    fn behind_another() -> Result<()> {
        for family in [Family::V4, Family::V6] {
            let network = Gateway::new(Offload::Tuned)?;
            let held = Arc::new(std::sync::Mutex::new(String::new()));
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
            session.finish()?;
        }
        Ok(())
    }

    fn spelled(spelling: Spelling) -> Result<()> {
        for family in [Family::V4, Family::V6] {
            let network = Gateway::new(Offload::Tuned)?;
            let script = Script::default().wording(move |reply| {
                if reply.starts_with("22") { spelling(&reply) } else { whole(&reply) }
            });
            let mut session = Session::start(&network, family, script)?;
            session.passive(1)?;
            session.finish()?;
        }
        Ok(())
    }
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
        let firewall = Setup::on(&["eth0", "eth1"]).both(RULES).start(network.gateway())?;
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
            Setup::on(&["eth0", "eth1"]).both(RULES).start(self.network.gateway())
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

    type Telling = fn(&mut Conversation<'_>, End, &[u8]) -> Result<()>;

    /// PORT told in this manner, then 227.
    fn both_ways(tell: Telling) -> Result<()> {
        let bench = Bench::new()?;
        let firewall = bench.firewall()?;
        let mut conversation = bench.converse()?;
        tell(&mut conversation, End::Client, &bench.announcement(End::Client))?;
        conversation.say(End::Server, b"200 fine\r\n")?;
        bench.admits_once(&firewall, End::Server).context("PORT")?;

        conversation.say(End::Client, b"PASV\r\n")?;
        tell(&mut conversation, End::Server, &bench.announcement(End::Server))?;
        bench.admits_once(&firewall, End::Client).context("227")
    }

    #[test]
    fn an_announcement_sent_twice_announces_once() {
        needs!(capability::firewall());
        both_ways(|conversation, end, line| {
            conversation.say(end, line)?;
            conversation.say_again(end, line.len() as u32, line)
        })
        .unwrap();
    }

    #[test]
    fn a_first_half_sent_again_with_the_rest_announces() {
        needs!(capability::firewall());
        both_ways(|conversation, end, line| {
            let half = line.len() / 2;
            conversation.say(end, &line[..half])?;
            conversation.say_again(end, half as u32, line)
        })
        .unwrap();
    }

    #[test]
    fn overlapping_halves_announce() {
        needs!(capability::firewall());
        both_ways(|conversation, end, line| {
            let half = line.len() / 2;
            conversation.say(end, &line[..half + 4])?;
            conversation.say_again(end, 8, &line[half - 4..])
        })
        .unwrap();
    }

    #[test]
    fn halves_in_the_wrong_order_announce() {
        needs!(capability::firewall());
        both_ways(|conversation, end, line| {
            let (one, other) = line.split_at(line.len() / 2);
            conversation.say_early(end, one.len() as u32, other)?;
            conversation.say(end, one)?;
            conversation.skip(end, other.len() as u32)
        })
        .unwrap();
    }

    #[test]
    fn a_lost_half_announces_when_it_is_sent_again() {
        needs!(capability::firewall());
        both_ways(|conversation, end, line| {
            let (one, other) = line.split_at(line.len() / 2);
            conversation.say_early(end, one.len() as u32, other)?;
            conversation.say(end, one)?;
            conversation.say(end, other)
        })
        .unwrap();
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
}

//! Segments of control connections that are lost before the daemon has read them: whoever sends
//! them again goes on as if nothing had been, and whoever acknowledges what was lost gains
//! nothing by it.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use firewall_common::flow::Tuple;
use firewall_tests::{
    Family, Firewall, capability,
    conversation::Conversation,
    firewall::{FTP_RULES, Setup},
    needs,
    packet::{Packet, Segment, flag},
    wait,
    wire::{End, Wires, quiet_gateway},
};
use firewall_user::kernel::{maps::Maps, pins::Pins, unread::Losses};
use nix::sys::signal::Signal;

/// What a page makes a browser send.
const REQUEST: &[u8] = b"POST / HTTP/1.1\r\nContent-Length: 99999\r\n\r\n";
/// The client's address, port 40001.
const PORT: &[u8] = b"PORT 192,0,2,77,156,65\r\n";

fn setup() -> Setup {
    Setup::on(&["eth0", "eth1"]).both(FTP_RULES)
}

/// A connection that fills the daemon's ring, to a server that nobody finds: what the daemon
/// sends on ends there.
struct Flood<'a> {
    firewall: &'a Firewall<'a>,
    wires: &'a Wires,
    client: SocketAddr,
    server: SocketAddr,
}

impl<'a> Flood<'a> {
    /// Segments that fill the ring of 4 MiB in entries of 1,700 bytes, and then what is left of
    /// it in entries of 360.
    const LARGE: u64 = 2_600;
    const SMALL: u64 = 40;

    fn new(firewall: &'a Firewall<'a>, wires: &'a Wires, port: u16) -> Result<Self> {
        let client = wires.client.endpoint(Family::V4, port);
        let server = SocketAddr::from(([198, 51, 100, 99], 21));
        let flood = Self { firewall, wires, client, server };
        let begun = firewall.stat("flows-created")?;
        wires.client.send(&flood.segment(flag::SYN, Vec::new()))?;
        flood.count("flows-created", begun + 1)?;
        let answer =
            Segment { flags: flag::SYN | flag::ACK, seq: 5_000, ack: 1_001, payload: vec![] };
        wires.cross(End::Server, &Packet::tcp(server, client, answer))?;
        Ok(flood)
    }

    fn segment(&self, flags: u8, payload: Vec<u8>) -> Packet {
        let (seq, ack) = if flags == flag::SYN { (1_000, 0) } else { (1_001, 5_001) };
        Packet::tcp(self.client, self.server, Segment { flags, seq, ack, payload })
    }

    /// Has the daemon stand still, and its ring be full when `lose` sends one segment, which is
    /// lost.
    fn while_full(&self, lose: impl FnOnce() -> Result<()>) -> Result<()> {
        self.firewall.halt()?;
        let before = self.firewall.stat("punted")?;
        for (count, len) in [(Self::LARGE, 1_000), (Self::SMALL, 1)] {
            let segment = self.segment(flag::ACK | flag::PSH, vec![b'x'; len]);
            for _ in 0..count {
                self.wires.client.send(&segment)?;
            }
        }
        self.count("punted", before + Self::LARGE + Self::SMALL)?;
        let busy = self.firewall.stat("helper-busy")?;
        ensure!(busy > 0, "the ring is not full");
        lose()?;
        self.count("helper-busy", busy + 1)?;
        self.firewall.signal(Signal::SIGCONT)?;
        self.until_there_is_room()
    }

    /// Waits until the daemon has read the ring.
    fn until_there_is_room(&self) -> Result<()> {
        let segment = self.segment(flag::ACK | flag::PSH, b"x".to_vec());
        wait::until_true("room in the ring", || {
            let held = || -> Result<bool> {
                let lost = self.firewall.stat("helper-busy")?;
                let punted = self.firewall.stat("punted")?;
                self.wires.client.send(&segment)?;
                self.count("punted", punted + 1)?;
                Ok(self.firewall.stat("helper-busy")? == lost)
            };
            held().unwrap_or(false)
        })
    }

    fn count(&self, name: &str, wanted: u64) -> Result<()> {
        wait::until_true(name, || self.firewall.stat(name).is_ok_and(|count| count == wanted))
    }
}

/// Waits until the daemon has seen that what was lost of a direction has come.
fn nothing_is_missing(firewall: &Firewall<'_>, way: Tuple) -> Result<()> {
    let losses = Losses::open(&Maps::open(&Pins::new(firewall.pin()))?)?;
    wait::until_true("nothing to be missing", || losses.get(&way).is_ok_and(|it| it.is_none()))
}

/// With the next daemon.
fn restarted(firewall: &mut Firewall<'_>) -> Result<()> {
    firewall.restart()
}

/// As one does it: the server speaks first.
fn log_in(conversation: &mut Conversation<'_>) -> Result<()> {
    conversation.say(End::Server, b"220 ready\r\n")?;
    conversation.say(End::Client, b"USER a\r\n")?;
    conversation.say(End::Server, b"230 welcome\r\n")
}

/// Login and PORT; whether the firewall expects the server's connection then.
fn opens(firewall: &Firewall<'_>, conversation: &mut Conversation<'_>) -> Result<bool> {
    conversation.say(End::Client, b"USER a\r\n")?;
    conversation.say(End::Server, b"230 welcome\r\n")?;
    announces(firewall, conversation)
}

fn announces(firewall: &Firewall<'_>, conversation: &mut Conversation<'_>) -> Result<bool> {
    conversation.say(End::Client, PORT)?;
    conversation.say(End::Server, b"200 ok\r\n")?;
    Ok(firewall.text(&["expect", "list"])?.contains(" dport=40001 "))
}

mod a_request_that_the_server_acknowledges_all_the_same {
    use super::*;

    #[test]
    fn is_not_followed_by_anything_that_opens() {
        needs!(capability::firewall());
        acknowledged(|_| Ok(())).unwrap();
    }

    #[test]
    fn is_known_to_the_next_daemon() {
        needs!(capability::firewall());
        acknowledged(restarted).unwrap();
    }

    fn acknowledged(then: impl FnOnce(&mut Firewall<'_>) -> Result<()>) -> Result<()> {
        let (network, wires) = quiet_gateway()?;
        let mut firewall = setup().start(network.gateway())?;
        let mut conversation = Conversation::open(&wires, Family::V4, 1_025)?;
        let flood = Flood::new(&firewall, &wires, 2_000)?;
        flood.while_full(|| conversation.lose(End::Client, REQUEST))?;
        conversation.acknowledge(End::Server)?;
        then(&mut firewall)?;
        conversation.say(End::Server, b"220 ready\r\n")?;
        ensure!(!opens(&firewall, &mut conversation)?, "the next line counts as the first");
        Ok(())
    }

    #[test]
    fn proves_nothing_behind_the_greeting() {
        needs!(capability::firewall());
        behind_the_greeting().unwrap();
    }

    fn behind_the_greeting() -> Result<()> {
        let (network, wires) = quiet_gateway()?;
        let firewall = setup().start(network.gateway())?;
        let mut conversation = Conversation::open(&wires, Family::V4, 1_025)?;
        log_in(&mut conversation)?;
        let flood = Flood::new(&firewall, &wires, 2_000)?;
        // The file's name goes on.
        flood.while_full(|| conversation.lose(End::Client, b"STOR "))?;
        conversation.acknowledge(End::Server)?;
        ensure!(!announces(&firewall, &mut conversation)?, "a part of a line counts");
        ensure!(!announces(&firewall, &mut conversation)?, "a server that lies is believed");
        Ok(())
    }
}

mod a_segment_that_comes_again {
    use super::*;

    const LINE: &[u8] = b"NOOP\r\n";

    #[test]
    fn leaves_no_doubt() {
        needs!(capability::firewall());
        again(|_| Ok(())).unwrap();
    }

    #[test]
    fn leaves_the_next_daemon_no_doubt() {
        needs!(capability::firewall());
        again(restarted).unwrap();
    }

    #[test]
    fn leaves_no_doubt_when_the_daemon_changes_at_once() {
        needs!(capability::firewall());
        again_before_a_change().unwrap();
    }

    fn again_before_a_change() -> Result<()> {
        let (network, wires) = quiet_gateway()?;
        let mut firewall = setup().start(network.gateway())?;
        let mut conversation = Conversation::open(&wires, Family::V4, 1_025)?;
        log_in(&mut conversation)?;
        let flood = Flood::new(&firewall, &wires, 2_000)?;
        flood.while_full(|| conversation.lose(End::Client, LINE))?;
        conversation.say_again(End::Client, LINE.len() as u32, LINE)?;
        conversation.say(End::Server, b"200 ok\r\n")?;
        firewall.signal(Signal::SIGTERM)?;
        firewall.daemon().context("the daemon")?.wait(wait::DEADLINE)?;
        restarted(&mut firewall)?;
        ensure!(announces(&firewall, &mut conversation)?, "what came again is missed");
        Ok(())
    }

    #[test]
    fn unread_leaves_no_doubt() {
        needs!(capability::firewall());
        again_unread().unwrap();
    }

    /// While the daemon stands still, it goes on.
    fn again_unread() -> Result<()> {
        let (network, wires) = quiet_gateway()?;
        let firewall = setup().start(network.gateway())?;
        let mut conversation = Conversation::open(&wires, Family::V4, 1_025)?;
        log_in(&mut conversation)?;
        let flood = Flood::new(&firewall, &wires, 2_000)?;
        flood.while_full(|| conversation.lose(End::Client, LINE))?;
        while_unread(&firewall, &wires, || {
            conversation.say_again(End::Client, LINE.len() as u32, LINE)?;
            conversation.say(End::Server, b"200 ok\r\n")
        })?;
        ensure!(announces(&firewall, &mut conversation)?, "what came again unread is missed");
        Ok(())
    }

    /// First the greeting is lost, then the client's first line, then the announcement.
    fn again(mut then: impl FnMut(&mut Firewall<'_>) -> Result<()>) -> Result<()> {
        let (network, wires) = quiet_gateway()?;
        let mut firewall = setup().start(network.gateway())?;
        let mut conversation = Conversation::open(&wires, Family::V4, 1_025)?;
        let lines: [(End, &[u8]); 4] = [
            (End::Server, b"220 ready\r\n"),
            (End::Client, b"USER a\r\n"),
            (End::Server, b"230 welcome\r\n"),
            (End::Client, PORT),
        ];
        for (port, (from, line)) in (2_000..).zip(lines) {
            let flood = Flood::new(&firewall, &wires, port)?;
            flood.while_full(|| conversation.lose(from, line))?;
            then(&mut firewall)?;
            conversation.say_again(from, line.len() as u32, line)?;
            nothing_is_missing(&firewall, conversation.way(from))?;
        }
        conversation.say(End::Server, b"200 ok\r\n")?;
        let listed = firewall.text(&["expect", "list"])?;
        ensure!(listed.contains(" dport=40001 "), "what was lost is missed for ever: {listed:?}");
        Ok(())
    }
}

/// Has the daemon stand still for so long that segments go on unread.
fn while_unread(
    firewall: &Firewall<'_>,
    wires: &Wires,
    say: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let maps = Maps::open(&Pins::new(firewall.pin()))?;
    let other = Conversation::open(wires, Family::V4, 3_000)?;
    firewall.halt()?;
    let beaten = maps.heartbeat()?;
    wait::until_true("segments to go on unread", || {
        other.send(End::Client, b"NOOP\r\n").is_ok()
            && firewall.stat("punt-skipped").is_ok_and(|skipped| skipped > 0)
    })?;
    say()?;
    firewall.signal(Signal::SIGCONT)?;
    wait::until_true("the heart to beat", || maps.heartbeat().is_ok_and(|last| last != beaten))
}

#[test]
fn a_request_that_passes_while_the_daemon_stands_still_is_not_followed_by_another_first() {
    needs!(capability::firewall());
    standing_still().unwrap();
}

fn standing_still() -> Result<()> {
    let (network, wires) = quiet_gateway()?;
    let firewall = setup().start(network.gateway())?;
    let mut conversation = Conversation::open(&wires, Family::V4, 1_025)?;
    while_unread(&firewall, &wires, || conversation.say(End::Client, REQUEST))?;
    conversation.say(End::Server, b"220 ready\r\n")?;
    ensure!(!opens(&firewall, &mut conversation)?, "the next line counts as the first");
    Ok(())
}

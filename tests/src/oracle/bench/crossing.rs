//! One frame at a time through a gateway, and what came out.
//!
//! A virtual link delivers within the sender's system call, most of the time. Where
//! nothing has come, a sentinel is sent behind the frame: a datagram of a flow that
//! nobody answers, which always goes on. If it comes without the frame, the frame
//! was dropped.

use std::{
    net::IpAddr,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

use super::{gateway::index, port::Port};
use crate::{
    Family,
    oracle::{
        frame::{self, Content, Frame},
        place::Place,
    },
    wire::End,
};

const DEADLINE: Duration = Duration::from_secs(10);
/// How often one looks before sending a sentinel.
const PATIENCE: u32 = 3;

/// The ports of a gateway.
#[derive(Debug)]
pub(super) struct Crossing {
    ports: [Port; 2],
    sentinels: u32,
}

/// When to stop listening.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Until {
    /// One packet has come.
    First,
    /// Everything that the frame caused has come.
    Silence,
}

impl Crossing {
    pub(super) const fn new(ports: [Port; 2]) -> Self {
        Self { ports, sentinels: 0 }
    }

    /// How many sentinels were sent: each is an IPv4 packet of ctstate NEW.
    pub(super) const fn sentinels(&self) -> u32 {
        self.sentinels
    }

    /// Sends a packet and gives the packets of the same tag that come out opposite.
    pub(super) fn cross(&mut self, from: End, packet: &[u8], until: Until) -> Result<Vec<Vec<u8>>> {
        let Some(tag) = frame::tag(packet) else { bail!("a packet without IP header") };
        let version = packet[0] >> 4;
        self.ports[index(from)].send(packet)?;
        let far = &mut self.ports[index(from.other())];
        let mut arrived = Vec::new();
        for _ in 0..PATIENCE {
            while let Some(packet) = far.receive()? {
                if packet[0] >> 4 == version && frame::tag(packet) == Some(tag) {
                    arrived.push(packet.to_vec());
                }
            }
            if until == Until::First && !arrived.is_empty() {
                return Ok(arrived);
            }
            thread::yield_now();
        }
        self.wait_for_sentinel(from, |packet| {
            if packet[0] >> 4 == version && frame::tag(packet) == Some(tag) {
                arrived.push(packet.to_vec());
            }
        })?;
        Ok(arrived)
    }

    /// Packets of the same tag that have come out since.
    pub(super) fn late(&mut self, from: End, packet: &[u8]) -> Result<Vec<Vec<u8>>> {
        let Some(tag) = frame::tag(packet) else { bail!("a packet without IP header") };
        let far = &mut self.ports[index(from.other())];
        let mut arrived = Vec::new();
        while let Some(late) = far.receive()? {
            if late[0] >> 4 == packet[0] >> 4 && frame::tag(late) == Some(tag) {
                arrived.push(late.to_vec());
            }
        }
        Ok(arrived)
    }

    fn wait_for_sentinel(&mut self, from: End, mut other: impl FnMut(&[u8])) -> Result<()> {
        self.sentinels += 1;
        let tag = self.sentinels & 0xffff;
        let packet = sentinel(from).ip(&place(), tag, 0);
        self.ports[index(from)].send(&packet)?;
        let far = &mut self.ports[index(from.other())];
        let start = Instant::now();
        let mut is_there = false;
        // Once more after it has come: what takes another way may come behind it.
        for is_last in [false, true] {
            while is_last || !is_there {
                let Some(packet) = far.receive()? else {
                    if is_last {
                        break;
                    }
                    if start.elapsed() > DEADLINE {
                        bail!("a datagram that every rule accepts did not cross the gateway");
                    }
                    thread::yield_now();
                    continue;
                };
                if is_sentinel(packet) {
                    is_there |= frame::tag(packet) == Some(tag);
                } else {
                    other(packet);
                }
            }
            thread::yield_now();
        }
        Ok(())
    }

    /// Takes what has come to the ports and was not asked for.
    pub(super) fn drain(&mut self) -> Result<()> {
        for port in &mut self.ports {
            while port.receive()?.is_some() {}
        }
        Ok(())
    }
}

/// Both ends have a flow of their own, so that neither is answered by the other's.
fn sentinel(from: End) -> Frame {
    let flow = match from {
        End::Client => 1,
        End::Server => 2,
    };
    Frame { flow, ..Frame::new(from, Content::Udp { payload: 8 }) }
}

fn place() -> Place {
    const NUMBER: u16 = Place::COUNT + 1;
    Place::numbered(Family::V4, NUMBER)
}

fn is_sentinel(packet: &[u8]) -> bool {
    let ends = [place().client.ip(), place().server.ip()];
    let [client, server] = ends.map(|end| match end {
        IpAddr::V4(end) => end.octets(),
        IpAddr::V6(_) => unreachable!("sentinels are IPv4"),
    });
    let ends = packet.get(12..20).filter(|_| packet[0] >> 4 == 4);
    ends.is_some_and(|ends| {
        ends == [client, server].as_flattened() || ends == [server, client].as_flattened()
    })
}

/// Whether what came out is what was sent, but for what routers write into an IP
/// header.
pub(super) fn is_same(sent: &[u8], arrived: &[u8]) -> bool {
    const WRITTEN_V4: [usize; 4] = [1, 8, 10, 11];
    const WRITTEN_V6: [usize; 3] = [0, 1, 7];
    let written: &[usize] = if sent[0] >> 4 == 4 { &WRITTEN_V4 } else { &WRITTEN_V6 };
    let is_same =
        |(at, (sent, arrived)): (usize, (&u8, &u8))| sent == arrived || written.contains(&at);
    sent.len() == arrived.len() && sent.iter().zip(arrived).enumerate().all(is_same)
}

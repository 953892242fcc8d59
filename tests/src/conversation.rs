//! A control connection between two wires, of which every segment is the test's.

use anyhow::Result;
use firewall_common::flow::{Tuple, protocol};

use crate::{
    Family,
    packet::{Packet, Segment, flag},
    wire::{End, Wires},
};

/// An open connection from the client's wire to port 21 of the server's.
#[derive(Debug)]
pub struct Conversation<'a> {
    wires: &'a Wires,
    family: Family,
    client_port: u16,
    /// The next sequence number of client and server.
    next: [u32; 2],
}

impl<'a> Conversation<'a> {
    /// Shakes hands.
    pub fn open(wires: &'a Wires, family: Family, client_port: u16) -> Result<Self> {
        let mut conversation = Self { wires, family, client_port, next: [1000, 5000] };
        conversation.control(End::Client, flag::SYN)?;
        conversation.next[0] += 1;
        conversation.control(End::Server, flag::SYN | flag::ACK)?;
        conversation.next[1] += 1;
        conversation.control(End::Client, flag::ACK)?;
        Ok(conversation)
    }

    /// Greeting, user and password.
    pub fn login(&mut self) -> Result<()> {
        self.say(End::Server, b"220 ready\r\n")?;
        self.say(End::Client, b"USER a\r\n")?;
        self.say(End::Server, b"331 password\r\n")?;
        self.say(End::Client, b"PASS b\r\n")?;
        self.say(End::Server, b"230 welcome\r\n")
    }

    /// One segment, which the other end acknowledges.
    pub fn say(&mut self, from: End, bytes: &[u8]) -> Result<()> {
        self.say_again(from, 0, bytes)
    }

    /// A segment that begins `back` bytes before what comes next, as after a loss.
    pub fn say_again(&mut self, from: End, back: u32, bytes: &[u8]) -> Result<()> {
        let segment = self.segment(from, back, bytes);
        self.wires.cross(from, &segment)?;
        let end = self.next[from as usize] - back + bytes.len() as u32;
        let next = &mut self.next[from as usize];
        *next = (*next).max(end);
        self.acknowledge(from.other())
    }

    /// A segment that begins `ahead` bytes after what comes next; it crosses, and
    /// nothing is acknowledged.
    pub fn say_early(&self, from: End, ahead: u32, bytes: &[u8]) -> Result<()> {
        let segment = self.segment(from, ahead.wrapping_neg(), bytes);
        self.wires.cross(from, &segment).map(drop)
    }

    /// Moves on by bytes that the other end has had early.
    pub fn skip(&mut self, from: End, bytes: u32) -> Result<()> {
        self.next[from as usize] += bytes;
        self.acknowledge(from.other())
    }

    /// Sends what will not cross, again and again the same.
    pub fn send(&self, from: End, bytes: &[u8]) -> Result<()> {
        self.wires.at(from).send(&self.segment(from, 0, bytes))
    }

    /// Sends what will not cross, and goes on behind it.
    pub fn lose(&mut self, from: End, bytes: &[u8]) -> Result<()> {
        self.send(from, bytes)?;
        self.next[from as usize] += bytes.len() as u32;
        Ok(())
    }

    pub fn acknowledge(&self, from: End) -> Result<()> {
        self.control(from, flag::ACK)
    }

    /// What its packets from one end bear.
    pub fn way(&self, from: End) -> Tuple {
        let Packet { source, destination, .. } = self.packet(from, flag::ACK, 0, b"");
        Tuple {
            src: source.ip().into(),
            dst: destination.ip().into(),
            sport: source.port(),
            dport: destination.port(),
            protocol: protocol::TCP,
            ..Tuple::default()
        }
    }

    fn segment(&self, from: End, back: u32, bytes: &[u8]) -> Packet {
        self.packet(from, flag::PSH | flag::ACK, back, bytes)
    }

    fn control(&self, from: End, flags: u8) -> Result<()> {
        self.wires.cross(from, &self.packet(from, flags, 0, b"")).map(drop)
    }

    fn packet(&self, from: End, flags: u8, back: u32, bytes: &[u8]) -> Packet {
        let client = self.wires.client.endpoint(self.family, self.client_port);
        let server = self.wires.server.endpoint(self.family, 21);
        let (source, destination) = match from {
            End::Client => (client, server),
            End::Server => (server, client),
        };
        let segment = Segment {
            flags,
            seq: self.next[from as usize].wrapping_sub(back),
            ack: if flags & flag::ACK == 0 { 0 } else { self.next[from.other() as usize] },
            payload: bytes.into(),
        };
        Packet::tcp(source, destination, segment)
    }
}

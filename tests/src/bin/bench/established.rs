//! Connections of the firewall's, made packet by packet through its program alone.

use anyhow::{Result, ensure};
use aya::programs::ProgramFd;

use crate::{
    network::Network,
    peers::{Peers, Target},
    traffic::{Kind, Packets},
};

/// Of a minimal frame.
pub const LEN: usize = 46;

/// Answers of XDP programs.
pub mod action {
    pub const ABORTED: u32 = 0;
    pub const DROP: u32 = 1;
    pub const PASS: u32 = 2;
    pub const REDIRECT: u32 = 4;
}

/// Who makes them, and where; all runs in the gateway's namespace.
pub struct Established<'a> {
    pub network: &'a Network,
    /// The gateway's devices on the client's side, and on the server's.
    pub ports: [u32; 2],
    pub ours: &'a ProgramFd,
}

impl Established<'_> {
    pub fn packets(&self, kind: Kind, clients: u32) -> Packets {
        Packets::of(kind, LEN, clients, self.macs(kind))
    }

    /// The same over translated connections.
    pub fn hidden(&self, kind: Kind, clients: u32) -> Packets {
        Packets::hidden(kind, LEN, clients, self.macs(kind))
    }

    pub const fn macs(&self, kind: Kind) -> [[u8; 6]; 2] {
        if kind.is_original() { self.network.client_macs } else { self.network.server_macs }
    }

    /// The device where such packets come in.
    pub fn port(&self, kind: Kind) -> u32 {
        self.ports[usize::from(!kind.is_original())]
    }

    /// Brings so many connections to be: TCP, a part of UDP, one of ICMP.
    pub fn make(&self, peers: &mut Peers, flows: u32) -> Result<()> {
        self.shake_hands(peers, flows, |kind| self.packets(kind, flows))?;
        for kind in [Kind::Datagram, Kind::Answer] {
            let packets = self.packets(kind, flows).in_turn(0);
            self.play(peers, kind, &packets, 1.max(flows / 1_000))?;
        }
        for kind in [Kind::Echo, Kind::EchoReply] {
            self.play(peers, kind, &self.packets(kind, 1), 1)?;
        }
        Ok(())
    }

    /// The handshakes of so many clients.
    pub fn shake_hands(
        &self,
        peers: &mut Peers,
        flows: u32,
        packets: impl Fn(Kind) -> Packets,
    ) -> Result<()> {
        // In runs that the table of embryonic flows holds.
        const AT_ONCE: u32 = 10_000;
        for first in (0..flows).step_by(AT_ONCE as usize) {
            let count = AT_ONCE.min(flows - first);
            for kind in [Kind::Syn, Kind::SynAck, Kind::Ack] {
                self.play(peers, kind, &packets(kind).in_turn(first), count)?;
            }
        }
        Ok(())
    }

    /// One segment of each connection.
    pub fn touch(&self, peers: &mut Peers, flows: u32) -> Result<()> {
        let kind = Kind::Original;
        self.play(peers, kind, &self.packets(kind, flows).in_turn(0), flows)
    }

    /// Shows packets to the firewall, which must not refuse the last one.
    pub fn play(&self, peers: &mut Peers, kind: Kind, packets: &Packets, count: u32) -> Result<()> {
        peers.aim(&Target::Firewall(self.ours))?;
        peers.make(packets)?;
        let (_, action) = peers.run(packets, self.port(kind), count)?;
        let is_refused = matches!(action, action::ABORTED | action::DROP);
        ensure!(!is_refused, "{kind:?}: the firewall answers {action}");
        Ok(())
    }
}

//! The flood, and who talks through it.

use std::{
    collections::VecDeque,
    net::{Ipv4Addr, SocketAddrV4},
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};

use super::{
    burst::Burst,
    caller::{Caller, ESTABLISHED, NEWCOMERS},
    syns::{SynFrame, Syns},
};
use crate::{packet::Packet, wire::Wires};

const NOBODY: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(198, 51, 100, 78), 80);

/// SYNs that go out at once; behind each such burst one established connection
/// exchanges a word.
const BURST: u32 = 64;

/// How much of what.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Connections that are there before the flood.
    pub established: u16,
    /// Of the flood.
    pub syns: u32,
    /// Connections that begin during the flood, evenly spread.
    pub newcomers: u16,
    /// SYNs of the flood between a newcomer's SYN and its SYN-ACK.
    pub distance: u32,
    /// How often each SYN of the flood is sent; it counts once.
    pub copies: u32,
}

/// What was sent.
#[derive(Clone, Copy, Debug, Default)]
pub struct Course {
    /// Of the flood, with all copies.
    pub syns: u64,
    /// Words of established connections, in each direction.
    pub exchanges: u64,
    pub newcomers: u64,
    /// How often a link had no room.
    pub refused: u64,
    pub took: Duration,
}

impl Course {
    /// SYNs of the flood a second.
    pub fn rate(&self) -> f64 {
        self.syns as f64 / self.took.as_secs_f64()
    }
}

/// A flood through a gateway.
#[derive(Debug)]
pub struct Siege<'a> {
    plan: Plan,
    client: Burst<'a>,
    server: Burst<'a>,
    established: Vec<Caller>,
    syns: Syns,
}

impl<'a> Siege<'a> {
    pub fn new(wires: &'a Wires, plan: Plan) -> Self {
        Self {
            plan,
            client: Burst::new(&wires.client),
            server: Burst::new(&wires.server),
            established: (0..plan.established).map(|it| Caller::new(ESTABLISHED, it)).collect(),
            syns: Syns::to(&wires.client, NOBODY),
        }
    }

    /// Shakes hands for the established connections; each exchanges a word.
    pub fn establish(&mut self) -> Result<()> {
        for number in 0..self.established.len() {
            let caller = self.established[number];
            self.ask(&caller.syn())?;
            self.answer(&caller)?;
            self.exchange(number)?;
        }
        Ok(())
    }

    /// Sends everything of the plan, as fast as it goes.
    ///
    /// # Errors
    /// What a link said; that the flood is too short for the distance.
    pub fn run(&mut self) -> Result<Course> {
        let begun = Instant::now();
        let mut course = Course::default();
        let mut waiting = VecDeque::new();
        let mut burst: Vec<SynFrame> = Vec::new();
        for number in 0..self.plan.syns.div_ceil(BURST) {
            let sent = number * BURST;
            burst.clear();
            let size = BURST.min(self.plan.syns - sent);
            burst.extend((0..size).map(|_| self.syns.next()));
            for _ in 0..self.plan.copies {
                self.client.send(&burst)?;
                course.syns += u64::from(size);
            }
            if !self.established.is_empty() {
                self.exchange(number as usize % self.established.len())?;
                course.exchanges += 1;
            }
            self.welcome(sent + size, &mut waiting, &mut course)?;
        }
        ensure!(waiting.is_empty(), "{} newcomers were not answered", waiting.len());
        course.refused = self.client.refused() + self.server.refused();
        course.took = begun.elapsed();
        Ok(course)
    }

    /// Newcomers whose time it is begin; those that have waited are answered.
    fn welcome(
        &mut self,
        sent: u32,
        waiting: &mut VecDeque<(u32, Caller)>,
        course: &mut Course,
    ) -> Result<()> {
        // The last one is still answered within the flood.
        let end = self.plan.distance + BURST;
        let span = u64::from(self.plan.syns.saturating_sub(end).max(1));
        let due = u64::from(self.plan.newcomers) * u64::from(sent) / span;
        while course.newcomers < due.min(self.plan.newcomers.into()) {
            let caller = Caller::new(NEWCOMERS, course.newcomers as u16);
            self.ask(&caller.syn())?;
            waiting.push_back((sent, caller));
            course.newcomers += 1;
        }
        while let Some((begun, caller)) = waiting.front().copied()
            && sent >= begun + self.plan.distance
        {
            self.answer(&caller)?;
            waiting.pop_front();
        }
        Ok(())
    }

    /// The server's SYN-ACK and the client's ACK.
    fn answer(&mut self, caller: &Caller) -> Result<()> {
        self.server.send(&[self.server.wire().frame(&caller.syn_ack())])?;
        self.ask(&caller.ack())
    }

    fn exchange(&mut self, number: usize) -> Result<()> {
        let [question, answer] = self.established[number].exchange();
        self.ask(&question)?;
        self.server.send(&[self.server.wire().frame(&answer)])
    }

    fn ask(&mut self, packet: &Packet) -> Result<()> {
        self.client.send(&[self.client.wire().frame(packet)])
    }
}

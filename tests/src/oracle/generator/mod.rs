//! Random conversations over TCP: two ends that mean well, and a network that does
//! not always.
//!
//! Everything follows from the seed. The ends ([`host`]) keep real books of sequence
//! numbers, windows and options, so that conversations reach every state; the network
//! loses, repeats and reorders, and a forger ([`forgery`]) changes segments around the
//! edges that matter, or makes up his own.

mod forgery;
mod host;

use fastrand::Rng;

use self::host::Host;
use super::{
    Content, Frame, Script, Settings, Step,
    frame::{Checksum, Segment},
};
use crate::{Family, wire::End};

/// Frames of the longest conversation.
const LONGEST: usize = 100;

/// What the network does to frames, in percent.
#[derive(Clone, Copy, Debug)]
struct Weather {
    loss: u8,
    repetition: u8,
    reordering: u8,
    forgery: u8,
}

const WEATHERS: [Weather; 5] = [
    Weather { loss: 0, repetition: 0, reordering: 0, forgery: 0 },
    Weather { loss: 5, repetition: 3, reordering: 5, forgery: 0 },
    Weather { loss: 2, repetition: 1, reordering: 2, forgery: 4 },
    Weather { loss: 5, repetition: 5, reordering: 5, forgery: 12 },
    Weather { loss: 10, repetition: 10, reordering: 10, forgery: 40 },
];

/// Mostly the default.
const SETTINGS: [Settings; 10] = [
    Settings::DEFAULT,
    Settings::DEFAULT,
    Settings::DEFAULT,
    Settings::DEFAULT,
    Settings::DEFAULT,
    Settings::STRICT,
    Settings::LIBERAL,
    Settings::IGNORE_INVALID_RST,
    Settings::ONE_RETRANSMISSION,
    Settings::NO_CHECKSUM,
];

/// The conversation of this seed.
pub fn conversation(seed: u64) -> Script {
    let mut rng = Rng::with_seed(seed);
    let family = if rng.u8(..3) == 0 { Family::V6 } else { Family::V4 };
    let settings = SETTINGS[rng.usize(..SETTINGS.len())];
    let mut network = Network::new(rng);
    network.run();
    Script { name: format!("seed {seed}"), family, settings, steps: network.steps }
}

/// Two ends and what is between them.
#[derive(Debug)]
struct Network {
    rng: Rng,
    weather: Weather,
    hosts: [Host; 2],
    /// Of each end: a segment that the next one overtakes.
    late: [Option<Segment>; 2],
    /// What went by, to come once more.
    past: Vec<(End, Segment)>,
    steps: Vec<Step>,
}

impl Network {
    fn new(mut rng: Rng) -> Self {
        let weather = WEATHERS[rng.usize(..WEATHERS.len())];
        let mut hosts = [Host::new(&mut rng, true), Host::new(&mut rng, false)];
        if rng.u8(..8) == 0 {
            let [client, server] = &mut hosts;
            Host::have_talked(client, server);
        }
        Self { rng, weather, hosts, late: [None, None], past: Vec::new(), steps: Vec::new() }
    }

    fn run(&mut self) {
        let length = self.rng.usize(2..=LONGEST);
        // Ends that have nothing to say are asked again, but not for ever.
        for _ in 0..4 * LONGEST {
            if self.steps.len() >= length {
                break;
            }
            self.turn();
        }
    }

    fn turn(&mut self) {
        if self.happens(self.weather.repetition) && !self.past.is_empty() {
            let (from, segment) = self.past[self.rng.usize(..self.past.len())].clone();
            return self.carry(from, segment);
        }
        let from = if self.rng.bool() { End::Client } else { End::Server };
        if self.happens(self.weather.forgery) {
            return self.forge(from);
        }
        let Some(segment) = self.hosts[from as usize].speak(&mut self.rng) else { return };
        if self.happens(self.weather.reordering) && self.late[from as usize].is_none() {
            self.late[from as usize] = Some(segment);
            return;
        }
        self.carry(from, segment);
        if let Some(late) = self.late[from as usize].take() {
            self.carry(from, late);
        }
    }

    fn happens(&mut self, percent: u8) -> bool {
        self.rng.u8(..100) < percent
    }

    /// Through the gateway, and most often on to the other end.
    fn carry(&mut self, from: End, segment: Segment) {
        self.send(from, &segment, Checksum::Right);
        if !self.happens(self.weather.loss) {
            self.hosts[from.other() as usize].hear(&segment);
        }
        self.past.push((from, segment));
    }

    /// What an end would say, changed; the other end rarely believes it.
    fn forge(&mut self, from: End) {
        let [own, other] = [&self.hosts[from as usize], &self.hosts[from.other() as usize]];
        let segment = forgery::forged(&mut self.rng, own, other);
        let checksum = if self.rng.u8(..12) == 0 { Checksum::Wrong } else { Checksum::Right };
        self.send(from, &segment, checksum);
        if self.rng.u8(..6) == 0 {
            self.hosts[from.other() as usize].hear(&segment);
        }
    }

    fn send(&mut self, from: End, segment: &Segment, checksum: Checksum) {
        let frame = Frame::new(from, Content::Tcp(segment.clone()));
        self.steps.push(Step::Send(Frame { checksum, ..frame }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::flag::{ACK, FIN, RST, SYN};

    #[test]
    fn a_seed_gives_one_conversation() {
        for seed in 0..100 {
            assert_eq!(conversation(seed), conversation(seed));
            assert_ne!(conversation(seed).steps, conversation(seed + 1).steps);
        }
    }

    #[test]
    fn conversations_come_to_handshakes_closes_and_resets() {
        let mut counts = [0; 4];
        for seed in 0..300 {
            for frame in conversation(seed).frames() {
                let Content::Tcp(segment) = &frame.content else { panic!("not TCP") };
                for (count, flags) in counts.iter_mut().zip([SYN | ACK, FIN | ACK, RST, ACK]) {
                    *count += u32::from(segment.flags == flags);
                }
            }
        }
        assert!(counts.iter().all(|count| *count > 100), "{counts:?}");
    }
}

//! A link that loses, repeats and delays frames, always the same ones.
//!
//! ```text
//!   netns eth0 ──── near  wire  far ──── eth0 peer
//! ```
//! A thread carries frames between the two devices of the namespace in the middle. What becomes
//! of a frame follows from its number among those of TCP in its direction; all others pass.

use std::{
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use nix::{
    libc,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};

use crate::{Netns, wire};

/// How long the thread sleeps at most, in milliseconds: a frame that is held back, and its end.
const GLANCE: u16 = 5;
/// A frame that is held back goes on behind the next one, or after this.
const HELD: Duration = Duration::from_millis(30);
/// Longer than any frame of these links.
const FRAME: usize = 2_048;

/// The namespace in the middle and its thread, gone on drop.
#[derive(Debug)]
pub struct RoughLink {
    stop: Arc<AtomicBool>,
    carrier: Option<JoinHandle<()>>,
    fates: Arc<Fates>,
    _wire: Netns,
}

/// How many frames had which fate.
#[derive(Debug, Default)]
struct Fates {
    lost: AtomicU64,
    repeated: AtomicU64,
    delayed: AtomicU64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Passes,
    IsLost,
    Repeats,
    /// Until another has overtaken it.
    IsDelayed,
}

impl RoughLink {
    /// Joins two namespaces by devices of these names, which are up. What becomes of frames
    /// follows from the seed.
    ///
    /// # Errors
    /// When a device or a socket cannot be made.
    pub fn connect(
        netns: &Netns,
        interface: &str,
        peer: &Netns,
        peer_interface: &str,
        seed: u64,
    ) -> Result<Self> {
        let middle = Netns::new("wire")?;
        middle.set("ipv6/conf/default/disable_ipv6", "1")?;
        netns.connect(interface, &middle, "near")?;
        peer.connect(peer_interface, &middle, "far")?;
        for device in ["near", "far"] {
            // Redirected frames need somebody who polls, and must stay what they are.
            middle.run(&format!("ethtool -K {device} gro on tx off"))?;
            middle.ip(&format!("link set dev {device} gro_max_size 1"))?;
        }
        let ends = middle
            .enter(|| -> Result<[OwnedFd; 2]> { Ok([wire::open("near")?, wire::open("far")?]) });
        let ends = ends.context("cannot open the ends of a link")?;
        let (stop, fates) = (Arc::new(AtomicBool::new(false)), Arc::new(Fates::default()));
        let carrier = Carrier {
            ends,
            ways: [seed, seed + 1].map(Way::new),
            fates: Arc::clone(&fates),
            stop: Arc::clone(&stop),
        };
        let carrier = Some(std::thread::spawn(move || carrier.carry()));
        Ok(Self { stop, carrier, fates, _wire: middle })
    }

    /// Frames that were lost, repeated and delayed until now.
    pub fn fates(&self) -> [u64; 3] {
        let Fates { lost, repeated, delayed } = &*self.fates;
        [lost, repeated, delayed].map(|count| count.load(Ordering::Relaxed))
    }
}

impl Drop for RoughLink {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        drop(self.carrier.take().map(JoinHandle::join));
    }
}

/// One direction.
#[derive(Debug)]
struct Way {
    seed: u64,
    frames: u64,
    held: Option<(Vec<u8>, Instant)>,
}

impl Way {
    const fn new(seed: u64) -> Self {
        Self { seed, frames: 0, held: None }
    }

    /// Of eighteen frames one is lost, one repeated and one delayed.
    fn next_fate(&mut self) -> Fate {
        self.frames += 1;
        match fastrand::Rng::with_seed(self.seed << 32 | self.frames).u8(..18) {
            0 => Fate::IsLost,
            1 => Fate::Repeats,
            2 if self.held.is_none() => Fate::IsDelayed,
            _ => Fate::Passes,
        }
    }
}

struct Carrier {
    ends: [OwnedFd; 2],
    ways: [Way; 2],
    fates: Arc<Fates>,
    stop: Arc<AtomicBool>,
}

impl Carrier {
    fn carry(mut self) {
        let mut frame = vec![0; FRAME];
        while !self.stop.load(Ordering::Relaxed) {
            let mut polled = [0, 1].map(|end| {
                let end: &OwnedFd = &self.ends[end];
                PollFd::new(end.as_fd(), PollFlags::POLLIN)
            });
            // Whatever it says, what is there is read.
            let _ = poll(&mut polled, PollTimeout::from(GLANCE));
            for from in [0, 1] {
                while let Some(len) = receive(&self.ends[from], &mut frame) {
                    self.pass_on(from, &frame[..len]);
                }
                self.let_go(from, |since| since.elapsed() > HELD);
            }
        }
    }

    fn pass_on(&mut self, from: usize, frame: &[u8]) {
        let fate = if is_tcp(frame) { self.ways[from].next_fate() } else { Fate::Passes };
        let counted = match fate {
            Fate::Passes => None,
            Fate::IsLost => Some(&self.fates.lost),
            Fate::Repeats => Some(&self.fates.repeated),
            Fate::IsDelayed => Some(&self.fates.delayed),
        };
        if let Some(count) = counted {
            count.fetch_add(1, Ordering::Relaxed);
        }
        match fate {
            Fate::IsLost => return,
            Fate::IsDelayed => {
                self.ways[from].held = Some((frame.to_vec(), Instant::now()));
                return;
            }
            Fate::Passes => self.send(from, frame),
            Fate::Repeats => (0..2).for_each(|_| self.send(from, frame)),
        }
        self.let_go(from, |_| true);
    }

    /// Sends on what is held back, if it is time.
    fn let_go(&mut self, from: usize, is_time: impl Fn(Instant) -> bool) {
        if let Some((frame, _)) = self.ways[from].held.take_if(|(_, since)| is_time(*since)) {
            self.send(from, &frame);
        }
    }

    /// What the other end does not take is one more that is lost.
    fn send(&self, from: usize, frame: &[u8]) {
        let _ = nix::unistd::write(&self.ends[1 - from], frame);
    }
}

fn receive(end: &OwnedFd, frame: &mut [u8]) -> Option<usize> {
    // SAFETY: the buffer is as long as we say, and lives through the call.
    let read = unsafe {
        libc::recv(end.as_raw_fd(), frame.as_mut_ptr().cast(), frame.len(), libc::MSG_DONTWAIT)
    };
    usize::try_from(read).ok()
}

/// Of IPv4 or IPv6 in Ethernet, without tags and extension headers.
fn is_tcp(frame: &[u8]) -> bool {
    const TCP: u8 = libc::IPPROTO_TCP as u8;
    match frame.get(12..14) {
        Some([0x08, 0x00]) => frame.get(23) == Some(&TCP),
        Some([0x86, 0xdd]) => frame.get(20) == Some(&TCP),
        _ => false,
    }
}

//! A link without Ethernet: two tun devices, and threads that carry packets from
//! one to the other.

use std::{
    fs::{File, OpenOptions},
    io::{Read as _, Write as _},
    os::fd::{AsFd as _, AsRawFd as _},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use anyhow::{Context as _, Result, ensure};
use nix::{
    libc,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};

use crate::Netns;

/// How often the threads look whether they are to end, in milliseconds.
const GLANCE: u16 = 50;
/// More than any packet has.
const PACKET: usize = 65_600;

/// The devices and their threads, gone on drop.
#[derive(Debug)]
pub struct Tun {
    stop: Arc<AtomicBool>,
    carriers: Vec<JoinHandle<()>>,
}

impl Tun {
    /// Joins two namespaces by devices of these names, which are up.
    pub fn connect(
        netns: &Netns,
        interface: &str,
        peer: &Netns,
        peer_interface: &str,
    ) -> Result<Self> {
        let near = netns.enter(|| open(interface))?;
        let far = peer.enter(|| open(peer_interface))?;
        netns.ip(&format!("link set {interface} up"))?;
        peer.ip(&format!("link set {peer_interface} up"))?;
        let stop = Arc::new(AtomicBool::new(false));
        let ways = [(near.try_clone()?, far.try_clone()?), (far, near)];
        let carriers = ways.into_iter().map(|(from, to)| {
            let stop = Arc::clone(&stop);
            thread::spawn(move || carry(from, to, &stop))
        });
        Ok(Self { carriers: carriers.collect(), stop })
    }
}

impl Drop for Tun {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.carriers.drain(..).for_each(|carrier| drop(carrier.join()));
    }
}

/// A device that gives and takes bare IP packets (Documentation/networking/tuntap.rst).
fn open(interface: &str) -> Result<File> {
    let path = "/dev/net/tun";
    let device = OpenOptions::new().read(true).write(true).open(path);
    let device = device.with_context(|| format!("cannot open {path}"))?;
    ensure!(interface.len() < libc::IFNAMSIZ, "{interface} is too long a name");
    // SAFETY: all zeros is a valid request.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (place, byte) in request.ifr_name.iter_mut().zip(interface.bytes()) {
        *place = byte.cast_signed();
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
    // SAFETY: the request is of the type that the call wants, and outlives it.
    let made = unsafe { libc::ioctl(device.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
    if made < 0 {
        return Err(std::io::Error::last_os_error())
            .with_context(|| format!("cannot make the tun device {interface}"));
    }
    Ok(device)
}

/// A packet that the other device does not take is lost, as on any link.
fn carry(mut from: File, mut to: File, stop: &AtomicBool) {
    let mut packet = vec![0; PACKET];
    while !stop.load(Ordering::Relaxed) {
        let mut wait = [PollFd::new(from.as_fd(), PollFlags::POLLIN)];
        if poll(&mut wait, PollTimeout::from(GLANCE)).is_ok_and(|ready| ready > 0)
            && let Ok(length) = from.read(&mut packet)
        {
            let _ = to.write(&packet[..length]);
        }
    }
}

//! What passes an interface, in both directions and in its order, as a capture.

use std::{
    fs::File,
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

use anyhow::{Context as _, Result, ensure};
use nix::{
    libc,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};
use pcap_file::{
    DataLink,
    pcap::{PcapHeader, PcapPacket, PcapWriter},
};

use crate::{Netns, wire};

/// How often the thread looks whether it is to end, in milliseconds.
const GLANCE: u16 = 20;
const FRAME: usize = 65_600;

/// Records until it is asked for what it has.
#[derive(Debug)]
pub struct Recorder {
    stop: Arc<AtomicBool>,
    listener: JoinHandle<Vec<Vec<u8>>>,
}

impl Recorder {
    /// At an Ethernet interface.
    ///
    /// # Errors
    /// When a packet socket cannot be made.
    pub fn start(netns: &Netns, interface: &str) -> Result<Self> {
        let socket = netns.enter(|| wire::open_both_ways(interface));
        let socket = socket.context("cannot open a packet socket")?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let listener = std::thread::spawn(move || listen(&socket, &stopped));
        Ok(Self { stop, listener })
    }

    /// Writes a pcap file of what has passed until now, and gives the number of frames.
    ///
    /// # Errors
    /// When the file cannot be written, or nothing has passed.
    ///
    /// # Panics
    /// When the listening thread does.
    pub fn write(self, file: &Path) -> Result<usize> {
        self.stop.store(true, Ordering::Relaxed);
        let frames = self.listener.join().expect("no panic");
        ensure!(!frames.is_empty(), "nothing has passed the recorder");
        write(file, &frames)?;
        Ok(frames.len())
    }
}

/// Writes Ethernet frames as a pcap file.
///
/// # Errors
/// When the file cannot be written.
pub fn write(file: &Path, frames: &[Vec<u8>]) -> Result<()> {
    let header = PcapHeader { datalink: DataLink::ETHERNET, ..PcapHeader::default() };
    let mut writer = PcapWriter::with_header(File::create(file)?, header)?;
    for frame in frames {
        let length = frame.len() as u32;
        writer.write_packet(&PcapPacket::new(Default::default(), length, frame))?;
    }
    Ok(())
}

fn listen(socket: &OwnedFd, stop: &AtomicBool) -> Vec<Vec<u8>> {
    let (mut frames, mut frame) = (Vec::new(), vec![0; FRAME]);
    loop {
        // What came before the end was asked for is there by then.
        let is_last = stop.load(Ordering::Relaxed);
        let mut polled = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
        let _ = poll(&mut polled, PollTimeout::from(GLANCE));
        while let Some(len) = receive(socket, &mut frame) {
            frames.push(frame[..len].to_vec());
        }
        if is_last {
            return frames;
        }
    }
}

fn receive(socket: &OwnedFd, frame: &mut [u8]) -> Option<usize> {
    // SAFETY: the buffer is as long as we say, and lives through the call.
    let read = unsafe {
        libc::recv(socket.as_raw_fd(), frame.as_mut_ptr().cast(), frame.len(), libc::MSG_DONTWAIT)
    };
    usize::try_from(read).ok()
}

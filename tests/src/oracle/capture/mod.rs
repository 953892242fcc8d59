//! Recorded traffic as scripts: pcap and pcapng files, re-addressed.
//!
//! Each pair of hosts that talk gets a place of its own; whoever of them was heard
//! first stands on the client's side. Ports, sequence numbers and payloads stay. A
//! checksum that was right is right again, one that was wrong is wrong again.

mod file;
mod header;
mod link;
mod readdress;

use std::{
    collections::HashMap,
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};

use self::readdress::Readdress;
use super::{Content, Frame, Script, Settings, Step, frame::Piece, place};
use crate::{Family, wire::End};

/// A file, ready to be played.
#[derive(Debug)]
pub struct Capture {
    pub path: PathBuf,
    pub script: Script,
    /// The number in the file, from 1, of each of the script's frames.
    pub numbers: Vec<usize>,
    /// Frames that cannot be played, and why.
    pub skipped: Vec<(usize, &'static str)>,
}

/// The captures in a folder and below it, in the order of their names.
///
/// # Errors
/// When the folder cannot be read, or holds none.
pub fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    collect(folder, &mut found)?;
    found.sort();
    ensure!(
        !found.is_empty(),
        "no captures in {}: files are wanted that end in .pcap, .pcapng or .cap",
        folder.display()
    );
    Ok(found)
}

fn collect(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    let entries =
        fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        let extension = path.extension().and_then(|extension| extension.to_str());
        if path.is_dir() {
            collect(&path, found)?;
        } else if matches!(extension, Some("pcap" | "pcapng" | "cap")) {
            found.push(path);
        }
    }
    Ok(())
}

/// Reads a file; frames of more bytes than `mtu` are skipped.
///
/// # Errors
/// When it is no capture, or broken.
pub fn read(path: &Path, mtu: usize) -> Result<Capture> {
    let frames = file::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut reader = Reader::default();
    let mut capture = Capture {
        path: path.into(),
        script: Script {
            name: path.display().to_string(),
            family: Family::V4,
            settings: Settings::DEFAULT,
            steps: Vec::new(),
        },
        numbers: Vec::new(),
        skipped: Vec::new(),
    };
    for (number, frame) in (1..).zip(frames) {
        match reader.frame(&frame, mtu) {
            Ok(frame) => {
                capture.script.steps.push(Step::Send(frame));
                capture.numbers.push(number);
            }
            Err(reason) => capture.skipped.push((number, reason)),
        }
    }
    Ok(capture)
}

/// The packets of a file with the addresses that they have, each with its number in the file,
/// and those that cannot be played so, and why. Hosts that are heard first in a conversation
/// stand on the client's side.
///
/// # Errors
/// When it is no capture, or broken.
pub fn read_at_home(path: &Path, mtu: usize) -> Result<AtHome> {
    let frames = file::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut home = AtHome { path: path.into(), ..AtHome::default() };
    for (number, frame) in (1..).zip(frames) {
        match home.packet(&frame, mtu) {
            Ok((from, bytes)) => home.packets.push(Packet { number, from, bytes }),
            Err(reason) => home.skipped.push((number, reason)),
        }
    }
    Ok(home)
}

/// A file whose packets keep their addresses.
#[derive(Debug, Default)]
pub struct AtHome {
    pub path: PathBuf,
    pub packets: Vec<Packet>,
    /// Frames that cannot be played, and why.
    pub skipped: Vec<(usize, &'static str)>,
    /// On which side each host stands.
    pub hosts: HashMap<IpAddr, End>,
}

/// A packet from its IP header on.
#[derive(Debug)]
pub struct Packet {
    pub number: usize,
    pub from: End,
    pub bytes: Vec<u8>,
}

impl AtHome {
    fn packet(
        &mut self,
        captured: &file::Captured,
        mtu: usize,
    ) -> Result<(End, Vec<u8>), &'static str> {
        let packet = header::trimmed(link::packet(captured.link, &captured.bytes)?)?;
        if packet.len() > mtu {
            return Err("larger than the links of the bench");
        }
        if header::fragment(packet).is_some() {
            return Err("a piece of a datagram");
        }
        let [source, destination] = header::ends(packet).ok_or("without a whole IP header")?;
        if stays(source) || stays(destination) || source == destination {
            return Err("not from one host to another through a gateway");
        }
        if let Some((crate::oracle::frame::ICMPV6, at)) = header::transport(packet)
            && packet.get(at).is_some_and(|kind| NEIGHBOUR_DISCOVERY.contains(kind))
        {
            return Err("neighbour discovery");
        }
        let known = (self.hosts.get(&source), self.hosts.get(&destination));
        let from = match known {
            (Some(from), Some(to)) if from == to => return Err("between hosts of one side"),
            (Some(from), _) => *from,
            (None, Some(to)) => to.other(),
            (None, None) => End::Client,
        };
        self.hosts.insert(source, from);
        self.hosts.insert(destination, from.other());
        let mut bytes = packet.to_vec();
        readdress::live_on(&mut bytes);
        Ok((from, bytes))
    }
}

/// Types of ICMPv6 (RFC 4861 section 4).
const NEIGHBOUR_DISCOVERY: std::ops::RangeInclusive<u8> = 133..=137;

/// Whether no gateway forwards what has such an address.
fn stays(host: IpAddr) -> bool {
    let is_link_local = match host {
        IpAddr::V4(host) => host.is_link_local() || host.is_broadcast(),
        IpAddr::V6(host) => host.is_unicast_link_local(),
    };
    is_link_local || host.is_loopback() || host.is_multicast() || host.is_unspecified()
}

/// Ports and payload of a segment of TCP.
pub fn segment(packet: &[u8]) -> Option<([u16; 2], &[u8])> {
    let (protocol, at) = header::transport(packet)?;
    let offset = usize::from(packet.get(at + 12)? >> 4) * 4;
    let ports = [header::half(packet, at)?, header::half(packet, at + 2)?];
    (protocol == crate::oracle::frame::TCP).then_some((ports, packet.get(at + offset..)?))
}

/// Source and destination of a packet.
pub fn ends(packet: &[u8]) -> Option<[IpAddr; 2]> {
    header::ends(packet)
}

/// What is known of a file while it is read.
#[derive(Debug, Default)]
struct Reader {
    readdress: Readdress,
    /// By what identifies a datagram on the wire, its number.
    datagrams: HashMap<Vec<u8>, u16>,
}

impl Reader {
    fn frame(&mut self, captured: &file::Captured, mtu: usize) -> Result<Frame, &'static str> {
        let packet = link::packet(captured.link, &captured.bytes)?;
        let packet = header::trimmed(packet)?;
        if packet.len() > mtu {
            return Err("larger than the links of the bench");
        }
        let (packet, source) = self.readdress.packet(packet)?;
        let from = place::end(source).ok_or("an address that could not be mapped")?;
        let piece = header::fragment(&packet).map(|fragment| {
            let next = self.datagrams.len() as u16;
            let datagram = *self.datagrams.entry(fragment.identity).or_insert(next);
            Piece { datagram, bytes: fragment.bytes }
        });
        Ok(Frame { piece, ..Frame::new(from, Content::Raw(packet)) })
    }
}

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
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};

use self::readdress::Readdress;
use super::{Content, Frame, Script, Settings, Step, frame::Piece, place};
use crate::Family;

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

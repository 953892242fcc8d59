//! Frames out of pcap and pcapng files.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, bail};
use pcap_file::{
    DataLink,
    pcap::PcapReader,
    pcapng::{Block, PcapNgReader},
};

/// A frame as it was recorded.
#[derive(Clone, Debug)]
pub(super) struct Captured {
    pub(super) link: DataLink,
    pub(super) bytes: Vec<u8>,
}

/// The first word of a pcapng file.
const SECTION_HEADER: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];

pub(super) fn read(path: &Path) -> Result<Vec<Captured>> {
    let bytes = fs::read(path)?;
    if bytes.starts_with(&SECTION_HEADER) { pcapng(&bytes) } else { pcap(&bytes) }
}

fn pcap(bytes: &[u8]) -> Result<Vec<Captured>> {
    let mut reader = PcapReader::new(bytes).context("neither pcap nor pcapng")?;
    let link = reader.header().datalink;
    let mut frames = Vec::new();
    // As they are: nobody looks at the timestamps.
    while let Some(frame) = reader.next_raw_packet() {
        let frame = frame.with_context(|| format!("frame {}", frames.len() + 1))?;
        frames.push(Captured { link, bytes: frame.data.into_owned() });
    }
    Ok(frames)
}

fn pcapng(bytes: &[u8]) -> Result<Vec<Captured>> {
    let mut reader = PcapNgReader::new(bytes)?;
    let mut frames = Vec::new();
    let mut links = Vec::new();
    while let Some(block) = reader.next_block() {
        let block = block.with_context(|| format!("the block behind frame {}", frames.len()))?;
        let (interface, bytes) = match block {
            Block::SectionHeader(_) => {
                links.clear();
                continue;
            }
            Block::InterfaceDescription(interface) => {
                links.push(interface.linktype);
                continue;
            }
            Block::EnhancedPacket(packet) => (packet.interface_id as usize, packet.data),
            Block::Packet(packet) => (packet.interface_id.into(), packet.data),
            Block::SimplePacket(packet) => (0, packet.data),
            _ => continue,
        };
        let Some(link) = links.get(interface) else {
            bail!("frame {} is of an interface that is not described", frames.len() + 1);
        };
        frames.push(Captured { link: *link, bytes: bytes.into_owned() });
    }
    Ok(frames)
}

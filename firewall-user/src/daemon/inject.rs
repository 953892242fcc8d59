//! Sending a held frame on, from where it was held.
//!
//! Frames go out by packet sockets whose mark our TC program knows: it turns
//! those of an ingress hook back into the ingress, and lets those of an egress
//! hook leave, or leads them to where they were routed; fragments that waited are judged there. The mark that rules have set goes with
//! a held segment as its priority. The virtio header in front tells the stack of checksums
//! and segments that the sender left to hardware.

use std::{
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

use anyhow::{Context, Result};
use bytemuck::{Pod, Zeroable};
use firewall_common::{
    addr::Family,
    checksum,
    control::{
        FRAGMENT_NO_SPACE_EGRESS_MARK, FRAGMENT_NO_SPACE_INGRESS_MARK, FRAGMENT_WAITED_EGRESS_MARK,
        FRAGMENT_WAITED_INGRESS_MARK, REINJECT_EGRESS_MARK, REINJECT_ELSEWHERE_MARK,
        REINJECT_INGRESS_MARK, device,
    },
    event::{Hook, Punt},
    flow::protocol,
    fragment::{Early, Visit},
    headers::Headers,
    packet::Packet,
    wire::{Ethernet, Tcp, Udp},
};
use nix::libc;

use crate::kernel::maps::{Devices, Maps};

/// The source address of frames to an interface with generic XDP, which knows them
/// by that.
#[derive(Debug)]
pub struct Tokens {
    devices: Devices,
    token: [u8; 6],
}

impl Tokens {
    /// # Errors
    /// When the maps cannot be opened.
    pub fn open(maps: &Maps) -> Result<Self> {
        Ok(Self { devices: Devices::open(maps)?, token: maps.options()?.token })
    }

    /// The token for frames to this interface, if it needs one.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn of(&self, ifindex: u32) -> Result<Option<[u8; 6]>> {
        let found = self.devices.get(ifindex)?;
        let is_generic = found.is_some_and(|found| found.flags & device::GENERIC != 0);
        Ok(is_generic.then_some(self.token))
    }
}

/// The sockets for both hooks, and for what is to find its way once more.
#[derive(Debug)]
pub struct Injector {
    ingress: OwnedFd,
    egress: OwnedFd,
    elsewhere: OwnedFd,
}

/// `struct virtio_net_hdr` (virtio 1.2, section 5.1.6), in host byte order.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
struct Offload {
    flags: u8,
    gso_type: u8,
    header_len: u16,
    gso_size: u16,
    checksum_start: u16,
    checksum_offset: u16,
}

impl Offload {
    const NEEDS_CHECKSUM: u8 = 1;
    const GSO_TCP4: u8 = 1;
    const GSO_TCP6: u8 = 4;

    /// What the frame still needs, by its record and its checksum field.
    fn of(punt: &Punt, headers: &Headers, frame: &[u8]) -> Self {
        let (field, checksum_offset) = match headers.tuple.protocol {
            protocol::UDP => (
                frame.read::<Udp>(u32::from(punt.l4)).map(|udp| udp.checksum),
                std::mem::offset_of!(Udp, checksum) as u16,
            ),
            _ => (
                frame.read::<Tcp>(u32::from(punt.l4)).map(|tcp| tcp.checksum),
                std::mem::offset_of!(Tcp, checksum) as u16,
            ),
        };
        let is_partial = field.is_some_and(|field| checksum::is_partial(headers, field));
        if !is_partial && punt.gso_size == 0 {
            return Self::default();
        }
        let mut offload = Self {
            flags: Self::NEEDS_CHECKSUM,
            checksum_start: punt.l4,
            checksum_offset,
            ..Self::default()
        };
        if punt.gso_size != 0 {
            offload.gso_type = match headers.family() {
                Family::Ipv4 => Self::GSO_TCP4,
                Family::Ipv6 => Self::GSO_TCP6,
            };
            offload.header_len = punt.payload;
            offload.gso_size = punt.gso_size as u16;
        }
        offload
    }
}

impl Injector {
    /// # Errors
    /// When packet sockets cannot be made: CAP_NET_RAW is needed.
    pub fn new() -> Result<Self> {
        Ok(Self {
            ingress: socket(REINJECT_INGRESS_MARK)?,
            egress: socket(REINJECT_EGRESS_MARK)?,
            elsewhere: socket(REINJECT_ELSEWHERE_MARK)?,
        })
    }

    /// Sends a held frame on. `token` is the source address for an interface with
    /// generic XDP, which knows it by that.
    ///
    /// # Errors
    /// What the kernel said; TCP will send the segment again.
    pub fn send(&self, punt: &Punt, frame: &[u8], token: Option<[u8; 6]>) -> Result<()> {
        let mut headers = Headers::zeroed();
        let has_ethernet = punt.l3 != 0;
        if headers.parse(frame, has_ethernet).is_err() {
            anyhow::bail!("a held frame cannot be read");
        }
        let offload = Offload::of(punt, &headers, frame);
        let packet = with_offload(offload, frame, token.filter(|_| has_ethernet));
        let socket = match Hook::from_byte(punt.hook) {
            Some(Hook::Egress) if punt.leaves_elsewhere != 0 => &self.elsewhere,
            Some(Hook::Egress) => &self.egress,
            _ => &self.ingress,
        };
        set(socket, libc::SOL_SOCKET, libc::SO_PRIORITY, punt.mark as libc::c_int)?;
        send_to(socket, punt.ifindex, &headers, &packet)
            .with_context(|| format!("cannot send a held segment on, interface {}", punt.ifindex))
    }
}

/// The sockets by which early fragments go back to be judged.
#[derive(Debug)]
pub struct Judgement {
    /// Those that waited, on ingress and on egress.
    waited: [OwnedFd; 2],
    /// Those that there was no space for.
    no_space: [OwnedFd; 2],
}

impl Judgement {
    /// # Errors
    /// As [`Injector::new`].
    pub fn new() -> Result<Self> {
        Ok(Self {
            waited: [socket(FRAGMENT_WAITED_INGRESS_MARK)?, socket(FRAGMENT_WAITED_EGRESS_MARK)?],
            no_space: [
                socket(FRAGMENT_NO_SPACE_INGRESS_MARK)?,
                socket(FRAGMENT_NO_SPACE_EGRESS_MARK)?,
            ],
        })
    }

    /// Sends an early fragment back to where it was held; for `token` see
    /// [`Injector::send`]. On egress its priority tells by which interface it came
    /// in.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn send(
        &self,
        early: &Early,
        frame: &[u8],
        token: Option<[u8; 6]>,
        visit: Visit,
    ) -> Result<()> {
        let mut headers = Headers::zeroed();
        let has_ethernet = early.l3 != 0;
        if headers.parse(frame, has_ethernet).is_err() {
            anyhow::bail!("a held fragment cannot be read");
        }
        let packet = with_offload(Offload::default(), frame, token.filter(|_| has_ethernet));
        let [ingress, egress] = match visit {
            Visit::NoSpace => &self.no_space,
            Visit::New | Visit::Waited => &self.waited,
        };
        let socket = match Hook::from_byte(early.hook) {
            Some(Hook::Egress) => {
                let came_in_by = early.key.ifindex as libc::c_int;
                set(egress, libc::SOL_SOCKET, libc::SO_PRIORITY, came_in_by)?;
                egress
            }
            _ => ingress,
        };
        send_to(socket, early.ifindex, &headers, &packet).with_context(|| {
            format!("cannot send a held fragment back, interface {}", early.ifindex)
        })
    }
}

/// What is written to a socket for a frame: its virtio header, and the frame, from
/// `token` if there is one.
fn with_offload(offload: Offload, frame: &[u8], token: Option<[u8; 6]>) -> Vec<u8> {
    let mut packet = bytemuck::bytes_of(&offload).to_vec();
    packet.extend_from_slice(frame);
    if let Some(token) = token {
        const SOURCE: usize = std::mem::offset_of!(Ethernet, src);
        let start = size_of::<Offload>() + SOURCE;
        packet[start..start + token.len()].copy_from_slice(&token);
    }
    packet
}

/// A packet socket that only sends, with this mark.
fn socket(mark: u32) -> Result<OwnedFd> {
    // SAFETY: the call takes numbers.
    let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error()).context("cannot make a packet socket");
    }
    // SAFETY: the descriptor was just made and is nobody else's.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    set(&socket, libc::SOL_SOCKET, libc::SO_MARK, mark as libc::c_int)?;
    set(&socket, libc::SOL_PACKET, libc::PACKET_VNET_HDR, 1)?;
    Ok(socket)
}

fn set(socket: &OwnedFd, level: libc::c_int, name: libc::c_int, value: libc::c_int) -> Result<()> {
    // SAFETY: the value is an int of the given size and lives through the call.
    let answer = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            size_of::<libc::c_int>() as u32,
        )
    };
    if answer != 0 {
        return Err(io::Error::last_os_error()).context("cannot set up a packet socket");
    }
    Ok(())
}

fn send_to(socket: &OwnedFd, ifindex: u32, headers: &Headers, packet: &[u8]) -> io::Result<()> {
    let protocol = match headers.family() {
        Family::Ipv4 => libc::ETH_P_IP,
        Family::Ipv6 => libc::ETH_P_IPV6,
    };
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: (protocol as u16).to_be(),
        sll_ifindex: ifindex as i32,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 6,
        sll_addr: [0; 8],
    };
    // SAFETY: both buffers live through the call and have the given lengths.
    let sent = unsafe {
        libc::sendto(
            socket.as_raw_fd(),
            packet.as_ptr().cast(),
            packet.len(),
            0,
            (&raw const address).cast(),
            size_of::<libc::sockaddr_ll>() as u32,
        )
    };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

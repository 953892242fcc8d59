//! Packet sockets at the ends of a network, with addresses that no kernel owns.
//!
//! A *ghost* is an address on a link that nobody has: its neighbours are told a
//! permanent Ethernet address for it, so frames for it arrive at a [`Wire`] and
//! no TCP interferes.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::{errno::Errno, libc};

use crate::{
    Family, Gateway, Netns, Offload,
    packet::{Packet, Seen},
    wait,
};

/// Bytes of an Ethernet header.
const ETHERNET: usize = 14;
/// What the listening side of a kernel-made frame may at most be.
const FRAME: usize = 65_600;

/// A packet socket on one interface, and the neighbour that it sends to. On a link
/// without Ethernet the headers of frames are taken away, and put in front of what
/// comes in.
#[derive(Debug)]
pub struct Wire {
    socket: OwnedFd,
    own: [u8; 6],
    neighbour: [u8; 6],
    has_ethernet: bool,
    ghosts: [IpAddr; 2],
}

/// The two ends of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Client,
    Server,
}

impl End {
    pub const fn other(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

/// A wire at the client and one at the server, with the gateway between.
#[derive(Debug)]
pub struct Wires {
    pub client: Wire,
    pub server: Wire,
}

/// A gateway where no packet comes but those of the test.
pub fn quiet_gateway() -> Result<(Gateway, Wires)> {
    let network = Gateway::new(Offload::Tuned)?;
    let wires = Wires::across(&network)?;
    network.hush()?;
    Ok((network, wires))
}

impl Wires {
    /// Ghosts beside client and server, known to the gateway.
    pub fn across(network: &Gateway) -> Result<Self> {
        let (gateway, netns) = (network.gateway(), [&network.client, &network.server]);
        let [client, server] = netns;
        Ok(Self {
            client: Wire::ghost(client, gateway, "eth0", ["192.0.2.77", "2001:db8:1::77"])?,
            server: Wire::ghost(server, gateway, "eth1", ["198.51.100.77", "2001:db8:2::77"])?,
        })
    }

    pub const fn at(&self, end: End) -> &Wire {
        match end {
            End::Client => &self.client,
            End::Server => &self.server,
        }
    }

    /// Sends a packet at one end and waits for it at the other.
    pub fn cross(&self, from: End, packet: &Packet) -> Result<Seen> {
        self.at(from).send(packet)?;
        self.at(from.other()).expect(packet)
    }
}

impl Wire {
    /// At `netns`'s eth0, opposite `neighbour`'s `interface`.
    pub fn ghost(
        netns: &Netns,
        neighbour: &Netns,
        interface: &str,
        ghosts: [&str; 2],
    ) -> Result<Self> {
        if netns.has_ethernet("eth0")? {
            let lladdr = netns.mac("eth0")?.map(|byte| format!("{byte:02x}")).join(":");
            for ghost in ghosts {
                neighbour.ip(&format!(
                    "neigh replace {ghost} lladdr {lladdr} dev {interface} nud permanent"
                ))?;
            }
        }
        let ghosts = ghosts.map(|ghost| ghost.parse().expect("an address"));
        Self::open((netns, "eth0"), (neighbour, interface), ghosts)
    }

    /// At an interface of `netns`, opposite another one, for nobody's addresses: it
    /// only sends.
    pub fn opposite(
        netns: &Netns,
        interface: &str,
        neighbour: &Netns,
        neighbour_interface: &str,
    ) -> Result<Self> {
        let nobody = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
        Self::open((netns, interface), (neighbour, neighbour_interface), nobody)
    }

    fn open(
        (netns, interface): (&Netns, &str),
        (neighbour, neighbour_interface): (&Netns, &str),
        ghosts: [IpAddr; 2],
    ) -> Result<Self> {
        let has_ethernet = netns.has_ethernet(interface)?;
        let (own, opposite) = match has_ethernet {
            true => (netns.mac(interface)?, neighbour.mac(neighbour_interface)?),
            false => ([0; 6], [0; 6]),
        };
        let socket = netns.enter(|| open(interface)).context("cannot open a packet socket")?;
        hear_only(&socket, ghosts).context("cannot filter a packet socket")?;
        Ok(Self { socket, own, neighbour: opposite, has_ethernet, ghosts })
    }

    pub fn address(&self, family: Family) -> IpAddr {
        match family {
            Family::V4 => self.ghosts[0],
            Family::V6 => self.ghosts[1],
        }
    }

    pub fn endpoint(&self, family: Family, port: u16) -> SocketAddr {
        SocketAddr::new(self.address(family), port)
    }

    pub fn send(&self, packet: &Packet) -> Result<()> {
        self.send_frame(&self.frame(packet))
    }

    /// The frame that carries a packet to the neighbour.
    pub fn frame(&self, packet: &Packet) -> Vec<u8> {
        packet.frame(self.own, self.neighbour)
    }

    pub(crate) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Sends what begins with an IPv4 or IPv6 header, as it is.
    pub fn send_ip(&self, ip: &[u8]) -> Result<()> {
        self.send_frame(&[&self.neighbour[..], &self.own, &ether_type(ip), ip].concat())
    }

    /// Sends a frame, when the interface's queue has room for it.
    pub fn send_frame(&self, frame: &[u8]) -> Result<()> {
        let frame = if self.has_ethernet { frame } else { &frame[ETHERNET..] };
        let sent = wait::until("room in the queue of the interface", wait::DEADLINE, || {
            match nix::unistd::write(&self.socket, frame) {
                Err(Errno::ENOBUFS) => None,
                sent => Some(sent),
            }
        })?;
        sent.context("cannot send a frame").map(drop)
    }

    /// Waits for a packet that is this one, whatever else comes in before.
    pub fn expect(&self, packet: &Packet) -> Result<Seen> {
        let what = format!("{packet:?}");
        self.wait_for(&what, |seen| seen.packet == *packet)
    }

    /// Waits for a packet that the test describes.
    pub fn wait_for(&self, what: &str, mut is_it: impl FnMut(&Seen) -> bool) -> Result<Seen> {
        let mut others = Vec::new();
        let seen = wait::until(what, Duration::from_secs(8), || {
            self.pending().find(|seen| {
                let found = is_it(seen);
                if !found {
                    others.push(seen.clone());
                }
                found
            })
        });
        match seen {
            Ok(seen) if !seen.sound => bail!("{what} arrived with a wrong checksum"),
            Ok(seen) => Ok(seen),
            Err(error) => Err(error.context(format!("instead came: {others:?}"))),
        }
    }

    /// Fails if this packet has come in. Something that was sent or counted later
    /// must have been waited for.
    pub fn has_not_seen(&self, packet: &Packet) -> Result<()> {
        ensure!(!self.pending().any(|seen| seen.packet == *packet), "it arrived: {packet:?}");
        Ok(())
    }

    /// The packets that have come in since somebody looked.
    pub fn pending(&self) -> impl Iterator<Item = Seen> + '_ {
        self.frames().filter_map(|frame| Seen::read(&frame))
    }

    /// The same as bytes, whatever they are.
    pub fn frames(&self) -> impl Iterator<Item = Vec<u8>> + '_ {
        std::iter::from_fn(|| self.receive())
    }

    fn receive(&self) -> Option<Vec<u8>> {
        let mut frame = vec![0; FRAME];
        let flags = libc::MSG_DONTWAIT;
        // SAFETY: the buffer is as long as we say, and lives through the call.
        let read = unsafe {
            libc::recv(self.socket.as_raw_fd(), frame.as_mut_ptr().cast(), frame.len(), flags)
        };
        frame.truncate(usize::try_from(read).ok()?);
        if !self.has_ethernet {
            let kind = ether_type(&frame);
            frame.splice(..0, [&self.own[..], &self.neighbour, &kind].concat());
        }
        Some(frame)
    }
}

/// Of what begins with an IPv4 or IPv6 header.
fn ether_type(ip: &[u8]) -> [u8; 2] {
    let is_v6 = ip.first().is_some_and(|byte| byte >> 4 == 6);
    if is_v6 { [0x86, 0xdd] } else { [0x08, 0x00] }
}

/// A packet socket that hears what comes in on an interface.
pub(crate) fn open(interface: &str) -> io::Result<OwnedFd> {
    let socket = open_both_ways(interface)?;
    let yes: libc::c_int = 1;
    set_option(&socket, libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, &yes)?;
    Ok(socket)
}

/// One that also hears what goes out.
pub(crate) fn open_both_ways(interface: &str) -> io::Result<OwnedFd> {
    let every_protocol = (libc::ETH_P_ALL as u16).to_be();
    let index = nix::net::if_::if_nametoindex(interface)?;
    // SAFETY: a system call that takes numbers.
    let socket = unsafe {
        libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, every_protocol.into())
    };
    if socket < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new and ours alone.
    let socket = unsafe { OwnedFd::from_raw_fd(socket) };
    // SAFETY: all zeros is a valid address of this kind.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = every_protocol;
    address.sll_ifindex = index.cast_signed();
    // SAFETY: the address is of the type and length that we say.
    let bound = unsafe {
        libc::bind(
            socket.as_raw_fd(),
            (&raw const address).cast(),
            size_of::<libc::sockaddr_ll>() as libc::socklen_t,
        )
    };
    if bound == 0 { Ok(socket) } else { Err(io::Error::last_os_error()) }
}

/// Keeps everything but frames for the ghosts from a socket, so that its queue is
/// never full of what others say.
fn hear_only(socket: &OwnedFd, ghosts: [IpAddr; 2]) -> io::Result<()> {
    let mut filter = filter(ghosts);
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    set_option(socket, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)
}

fn set_option<T>(socket: &OwnedFd, level: i32, option: i32, value: &T) -> io::Result<()> {
    // SAFETY: the option is read from a value of the length that we say.
    let answer = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            std::ptr::from_ref(value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Takes frames whose IPv4 destination, or the last word of whose IPv6
/// destination, is a ghost's (classic BPF).
fn filter(ghosts: [IpAddr; 2]) -> [libc::sock_filter; 8] {
    let [v4, v6] = ghosts.map(|ghost| match ghost {
        IpAddr::V4(ghost) => u32::from(ghost),
        IpAddr::V6(ghost) => u128::from(ghost) as u32,
    });
    let instruction = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    let load_half = libc::BPF_LD | libc::BPF_H | libc::BPF_ABS;
    // What the kernel knows of the packet, and its bytes from the IP header on.
    let protocol = (libc::SKF_AD_OFF + libc::SKF_AD_PROTOCOL).cast_unsigned();
    let ip = libc::SKF_NET_OFF.cast_unsigned();
    let load_word = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    let equal = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    let answer = libc::BPF_RET | libc::BPF_K;
    [
        instruction(load_half, 0, 0, protocol),
        instruction(equal, 2, 0, 0x86dd),
        instruction(load_word, 0, 0, ip + 16),
        instruction(equal, 2, 3, v4),
        instruction(load_word, 0, 0, ip + 36),
        instruction(equal, 0, 1, v6),
        instruction(answer, 0, 0, u32::MAX),
        instruction(answer, 0, 0, 0),
    ]
}

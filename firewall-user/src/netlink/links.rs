//! The interfaces of this network namespace, and how they change
//! (rtnetlink(7): RTM_GETLINK, RTM_NEWLINK, RTM_DELLINK).

use std::{
    collections::VecDeque,
    fmt, io,
    os::fd::{AsRawFd, OwnedFd},
};

use nix::{
    errno::Errno,
    libc,
    sys::socket::{MsgFlags, SockProtocol, recv},
};
use tokio::io::unix::AsyncFd;

use super::{
    socket::{DATAGRAM, Socket},
    wire::{Attribute, Message, attribute, attributes, messages, u16_at, u32_at},
};

/// `struct ifinfomsg`.
const LINK_HEADER: usize = 16;
/// Leaves the statistics out of a dump (RTEXT_FILTER_SKIP_STATS).
const SKIP_STATS: u32 = 1 << 3;

/// An interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    pub index: u32,
    pub name: String,
    /// `None` where the hardware address is not one of six bytes.
    pub mac: Option<[u8; 6]>,
    /// In bytes, without the Ethernet header.
    pub mtu: u32,
    /// What made it: `veth`, `bridge`, `wireguard` …; `None` for hardware.
    pub kind: Option<String>,
    /// An `ARPHRD_` number.
    pub link_type: u16,
    /// Bits of `IFF_`.
    pub flags: u32,
    /// The XDP programs on it; more than one only when they differ in mode.
    pub xdp: Vec<XdpProgram>,
}

/// An XDP program on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct XdpProgram {
    /// The kernel's number of the program, as `bpftool prog show id` takes it.
    pub id: u32,
    pub mode: XdpMode,
}

/// Where an XDP program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XdpMode {
    Driver,
    Generic,
    Hardware,
}

impl XdpMode {
    /// As `ip link` spells it in `ip link set dev IF MODE off`.
    pub const fn keyword(self) -> &'static str {
        match self {
            Self::Driver => "xdp",
            Self::Generic => "xdpgeneric",
            Self::Hardware => "xdpoffload",
        }
    }
}

impl fmt::Display for XdpMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Driver => "native",
            Self::Generic => "generic",
            Self::Hardware => "hardware",
        })
    }
}

impl Link {
    /// Whether frames begin with an Ethernet header.
    pub const fn is_ethernet(&self) -> bool {
        self.link_type == libc::ARPHRD_ETHER
    }

    pub const fn is_loopback(&self) -> bool {
        self.flags & libc::IFF_LOOPBACK as u32 != 0
    }

    pub const fn is_up(&self) -> bool {
        self.flags & libc::IFF_UP as u32 != 0
    }

    /// Reads the body of an RTM_NEWLINK or RTM_DELLINK.
    fn parse(body: &[u8]) -> Option<Self> {
        let mut link = Self {
            index: u32_at(body, 4)?,
            name: String::new(),
            mac: None,
            mtu: 0,
            kind: None,
            link_type: u16_at(body, 2)?,
            flags: u32_at(body, 8)?,
            xdp: Vec::new(),
        };
        for attribute in attributes(body.get(LINK_HEADER..)?) {
            link.take(&attribute);
        }
        Some(link)
    }

    fn take(&mut self, attribute: &Attribute<'_>) {
        match attribute.kind {
            libc::IFLA_IFNAME => self.name = attribute.text(),
            libc::IFLA_ADDRESS => self.mac = attribute.value.try_into().ok(),
            libc::IFLA_MTU => self.mtu = attribute.u32().unwrap_or(0),
            libc::IFLA_LINKINFO => self.kind = kind(attribute),
            libc::IFLA_XDP => self.xdp = xdp_programs(attribute),
            _ => {}
        }
    }
}

fn kind(info: &Attribute<'_>) -> Option<String> {
    info.nested().find(|nested| nested.kind == libc::IFLA_INFO_KIND).map(|kind| kind.text())
}

/// The program ids stand in one attribute for each mode (linux/if_link.h).
fn xdp_programs(xdp: &Attribute<'_>) -> Vec<XdpProgram> {
    const DRIVER: u16 = 5;
    const GENERIC: u16 = 6;
    const HARDWARE: u16 = 7;
    let program = |nested: Attribute<'_>| {
        let mode = match nested.kind {
            DRIVER => XdpMode::Driver,
            GENERIC => XdpMode::Generic,
            HARDWARE => XdpMode::Hardware,
            _ => return None,
        };
        let id = nested.u32().filter(|&id| id != 0)?;
        Some(XdpProgram { id, mode })
    };
    xdp.nested().filter_map(program).collect()
}

/// The name of an interface; empty for index 0 and for one that is gone.
pub fn name(index: u32) -> String {
    match nix::net::if_::if_indextoname(index) {
        Ok(name) => name.to_string_lossy().into_owned(),
        Err(_) => String::new(),
    }
}

/// All interfaces of the calling thread's network namespace, by index.
///
/// # Errors
/// When the kernel cannot be asked.
pub fn all() -> io::Result<Vec<Link>> {
    let mut body = vec![0; LINK_HEADER];
    body.extend(attribute(libc::IFLA_EXT_MASK, &SKIP_STATS.to_ne_bytes()));
    let answers = Socket::open(SockProtocol::NetlinkRoute)?.dump(libc::RTM_GETLINK, &body)?;
    let links = answers.iter().filter(|answer| answer.kind == libc::RTM_NEWLINK);
    let mut links: Vec<_> = links.filter_map(|answer| Link::parse(&answer.body)).collect();
    links.sort_unstable_by_key(|link| link.index);
    Ok(links)
}

/// Something happened to the interfaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The interface is new, renamed, or changed in some other way.
    Present(Link),
    /// It was removed, or moved to another namespace.
    Gone { index: u32, name: String },
    /// Changes came faster than they were read: ask for [`all`] again.
    Missed,
}

/// The changes in one network namespace, from the moment of [`changes`] on.
#[derive(Debug)]
pub struct Changes {
    socket: AsyncFd<OwnedFd>,
    waiting: VecDeque<Change>,
}

/// Begins to listen in the calling thread's network namespace, within a tokio
/// runtime. Begin before [`all`] is called, and nothing is missed between.
///
/// # Errors
/// When the kernel gives no socket.
pub fn changes() -> io::Result<Changes> {
    let socket = Socket::listen(SockProtocol::NetlinkRoute, libc::RTMGRP_LINK as u32)?;
    // SAFETY: the socket owns its descriptor and is never replaced.
    let socket = unsafe { AsyncFd::register(socket) }?;
    Ok(Changes { socket, waiting: VecDeque::new() })
}

impl Changes {
    /// The next change. It may be dropped while it waits: no change is lost.
    ///
    /// # Errors
    /// When the socket fails for good.
    pub async fn next(&mut self) -> io::Result<Change> {
        loop {
            if let Some(change) = self.waiting.pop_front() {
                return Ok(change);
            }
            let mut ready = self.socket.readable().await?;
            let mut buffer = [0; DATAGRAM];
            let receive = |socket: &AsyncFd<OwnedFd>| {
                Ok(recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty())?)
            };
            match ready.try_io(receive) {
                Ok(Ok(length)) => {
                    self.waiting.extend(messages(&buffer[..length]).filter_map(|m| change(&m)));
                }
                Ok(Err(error)) if error.raw_os_error() == Some(Errno::ENOBUFS as i32) => {
                    self.waiting.push_back(Change::Missed);
                }
                Ok(Err(error)) => return Err(error),
                Err(_would_block) => {}
            }
        }
    }
}

/// What a message of the group says. A bridge's ports and wireless events use
/// the same messages for matters of their own.
fn change(message: &Message<'_>) -> Option<Change> {
    let is_link = message.body.first() == Some(&(libc::AF_UNSPEC as u8));
    let attributes = attributes(message.body.get(LINK_HEADER..)?);
    let is_wireless = { attributes }.any(|attribute| attribute.kind == libc::IFLA_WIRELESS);
    if !is_link || is_wireless {
        return None;
    }
    let link = Link::parse(message.body)?;
    match message.kind {
        libc::RTM_NEWLINK => Some(Change::Present(link)),
        libc::RTM_DELLINK => Some(Change::Gone { index: link.index, name: link.name }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{super::scratch::Namespace, *};

    fn named<'l>(links: &'l [Link], name: &str) -> &'l Link {
        links.iter().find(|link| link.name == name).expect(name)
    }

    #[test]
    fn interfaces_are_listed_with_what_the_firewall_needs() {
        let Some(namespace) = Namespace::new("links") else { return };
        namespace.ip("link add eth0 mtu 1400 type veth peer name eth1");
        namespace.ip("link set eth0 address 02:00:00:00:00:01 up");
        namespace.ip("tuntap add tun0 mode tun");
        let links = namespace.enter(all).unwrap();

        let eth0 = named(&links, "eth0");
        assert_eq!(eth0.mac, Some([2, 0, 0, 0, 0, 1]));
        assert_eq!((eth0.mtu, eth0.kind.as_deref()), (1400, Some("veth")));
        assert!(eth0.is_ethernet() && eth0.is_up() && eth0.xdp.is_empty());
        assert!(!named(&links, "eth1").is_up());
        let tun0 = named(&links, "tun0");
        assert!(!tun0.is_ethernet() && tun0.mac.is_none());
        assert!(named(&links, "lo").is_loopback());
    }

    #[test]
    fn an_interface_that_comes_is_renamed_and_goes_is_told_of() {
        let Some(namespace) = Namespace::new("changes") else { return };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        namespace.enter(|| {
            let _guard = runtime.enter();
            let mut changes = changes().unwrap();
            namespace.ip("link add eth0 type veth peer name eth1");
            namespace.ip("link set eth0 name wan0");
            namespace.ip("link del wan0");
            let mut until = async |wanted: fn(&Change) -> bool| {
                while !wanted(&changes.next().await.unwrap()) {}
            };
            let all = async {
                until(|c| matches!(c, Change::Present(link) if link.name == "eth0")).await;
                until(|c| matches!(c, Change::Present(link) if link.name == "wan0")).await;
                until(|c| matches!(c, Change::Gone { name, .. } if name == "wan0")).await;
            };
            runtime.block_on(async {
                tokio::time::timeout(Duration::from_secs(5), all).await.unwrap();
            });
        });
    }

    #[test]
    fn programs_of_each_mode_are_read() {
        let nested = [attribute(2, &[4]), attribute(5, &[7, 0, 0, 0]), attribute(6, &[9, 0, 0, 0])];
        let programs = xdp_programs(&Attribute { kind: 43, value: &nested.concat() });
        assert_eq!(programs[0], XdpProgram { id: 7, mode: XdpMode::Driver });
        assert_eq!(programs[1], XdpProgram { id: 9, mode: XdpMode::Generic });
    }

    #[test]
    fn a_port_that_leaves_its_bridge_is_not_gone() {
        let mut body = [0; LINK_HEADER];
        body[0] = libc::AF_BRIDGE as u8;
        let message = Message { kind: libc::RTM_DELLINK, flags: 0, body: &body };
        assert_eq!(change(&message), None);
    }
}

//! The interfaces of this network namespace, and how they change
//! (rtnetlink(7): RTM_GETLINK, RTM_NEWLINK, RTM_DELLINK).
//!
//! Of a message only those attributes are read that the firewall needs: one that
//! a newer kernel adds, or writes at another length, hides no interface.

use std::{collections::VecDeque, fmt, io};

use netlink_packet_core::{
    DecodeError, NLM_F_DUMP, NetlinkDeserializable, NetlinkHeader, NetlinkPayload, NlaBuffer,
    NlasIterator, Parseable, parse_u32,
};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    link::{LinkAttribute, LinkExtentMask, LinkHeader, LinkMessage, LinkXdp},
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use nix::{errno::Errno, libc};
use tokio::io::unix::AsyncFd;

use super::ask::{ask, messages};

/// The length of `struct ifinfomsg`.
const LINK_HEADER: usize = 16;

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

    fn parse(header: &LinkHeader, attributes: &[u8]) -> Result<Self, DecodeError> {
        let mut link = Self {
            index: header.index,
            name: String::new(),
            mac: None,
            mtu: 0,
            kind: None,
            link_type: header.link_layer_type.into(),
            flags: header.flags.bits(),
            xdp: Vec::new(),
        };
        for attribute in NlasIterator::new(attributes) {
            link.take(&attribute?);
        }
        Ok(link)
    }

    fn take(&mut self, attribute: &NlaBuffer<&[u8]>) {
        let value = attribute.value();
        match attribute.kind() {
            libc::IFLA_IFNAME => self.name = text(value),
            libc::IFLA_ADDRESS => self.mac = value.try_into().ok(),
            libc::IFLA_MTU => self.mtu = parse_u32(value).unwrap_or(0),
            libc::IFLA_LINKINFO => self.kind = kind(value),
            libc::IFLA_XDP => self.xdp = xdp_programs(value),
            _ => {}
        }
    }
}

/// A name up to its NUL; the kernel lets it be of any bytes.
fn text(value: &[u8]) -> String {
    let name = value.split(|&byte| byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(name).into_owned()
}

fn kind(info: &[u8]) -> Option<String> {
    let mut nested = NlasIterator::new(info).flatten();
    nested.find(|nested| nested.kind() == libc::IFLA_INFO_KIND).map(|kind| text(kind.value()))
}

/// The program ids stand in one attribute for each mode (linux/if_link.h).
fn xdp_programs(xdp: &[u8]) -> Vec<XdpProgram> {
    let program = |nested: NlaBuffer<&[u8]>| {
        let (id, mode) = match LinkXdp::parse(&nested).ok()? {
            LinkXdp::DrvProgId(id) => (id, XdpMode::Driver),
            LinkXdp::SkbProgId(id) => (id, XdpMode::Generic),
            LinkXdp::HwProgId(id) => (id, XdpMode::Hardware),
            _ => return None,
        };
        (id != 0).then_some(XdpProgram { id, mode })
    };
    NlasIterator::new(xdp).flatten().filter_map(program).collect()
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
    let mut request = LinkMessage::default();
    request.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
    let request = RouteNetlinkMessage::GetLink(request);
    let links = ask::<_, News>(NETLINK_ROUTE, request, NLM_F_DUMP)?.into_iter();
    let mut links: Vec<_> = links.filter_map(News::into_link).collect();
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

/// What a message says of the interfaces, if anything.
#[derive(Debug)]
struct News(Option<Change>);

impl News {
    fn into_link(self) -> Option<Link> {
        match self.0 {
            Some(Change::Present(link)) => Some(link),
            _ => None,
        }
    }
}

/// A bridge's ports and wireless events use the messages of interfaces for
/// matters of their own.
impl NetlinkDeserializable for News {
    type Error = DecodeError;

    fn deserialize(message: &NetlinkHeader, body: &[u8]) -> Result<Self, DecodeError> {
        let header = LinkHeader::parse(body)?;
        let attributes = body.get(LINK_HEADER..).unwrap_or_default();
        let mut kinds = NlasIterator::new(attributes).flatten().map(|attribute| attribute.kind());
        if header.interface_family != AddressFamily::Unspec
            || kinds.any(|kind| kind == libc::IFLA_WIRELESS)
        {
            return Ok(Self(None));
        }
        let link = Link::parse(&header, attributes)?;
        Ok(Self(match message.message_type {
            libc::RTM_NEWLINK => Some(Change::Present(link)),
            libc::RTM_DELLINK => Some(Change::Gone { index: link.index, name: link.name }),
            _ => None,
        }))
    }
}

/// The changes in one network namespace, from the moment of [`changes`] on.
#[derive(Debug)]
pub struct Changes {
    socket: AsyncFd<Socket>,
    waiting: VecDeque<Change>,
}

/// Begins to listen in the calling thread's network namespace, within a tokio
/// runtime. Begin before [`all`] is called, and nothing is missed between.
///
/// # Errors
/// When the kernel gives no socket.
pub fn changes() -> io::Result<Changes> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.set_non_blocking(true)?;
    socket.bind(&SocketAddr::new(0, libc::RTMGRP_LINK as u32))?;
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
            match ready.try_io(|socket| socket.get_ref().recv_from_full()) {
                Ok(Ok((datagram, _))) => self.waiting.extend(told(&datagram)),
                Ok(Err(error)) if error.raw_os_error() == Some(Errno::ENOBUFS as i32) => {
                    self.waiting.push_back(Change::Missed);
                }
                Ok(Err(error)) => return Err(error),
                Err(_would_block) => {}
            }
        }
    }
}

/// The changes that a datagram tells of; one that cannot be read is missed.
fn told(datagram: &[u8]) -> impl Iterator<Item = Change> {
    messages::<News>(datagram).filter_map(|message| match message.map(|message| message.payload) {
        Ok(NetlinkPayload::InnerMessage(news)) => news.0,
        Ok(_) => None,
        Err(_) => Some(Change::Missed),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use netlink_packet_core::{DefaultNla, Emitable};
    use proptest::{collection::vec, prelude::*};

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

    /// An attribute of up to four bytes.
    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let attribute = DefaultNla::new(kind, value.to_vec());
        let mut bytes = vec![0; attribute.buffer_len()];
        attribute.emit(&mut bytes);
        bytes
    }

    fn news(kind: u16, body: &[u8]) -> Option<Change> {
        let mut header = NetlinkHeader::default();
        header.message_type = kind;
        News::deserialize(&header, body).unwrap().0
    }

    /// A message's body: an `ifinfomsg` of interface 7, then attributes.
    fn body(family: i32, attributes: &[Vec<u8>]) -> Vec<u8> {
        let mut body = vec![0; LINK_HEADER];
        body[0] = family as u8;
        body[4] = 7;
        body.extend(attributes.concat());
        body
    }

    #[test]
    fn programs_of_each_mode_are_read() {
        let nested = [
            attribute(2, &[4]),
            attribute(5, &[7, 0, 0, 0]),
            attribute(6, &[9, 0, 0, 0]),
            attribute(7, &[0, 0, 0, 0]),
        ];
        let programs = xdp_programs(&nested.concat());
        let driver = XdpProgram { id: 7, mode: XdpMode::Driver };
        assert_eq!(programs, [driver, XdpProgram { id: 9, mode: XdpMode::Generic }]);
    }

    #[test]
    fn a_port_that_leaves_its_bridge_is_not_gone() {
        assert_eq!(news(libc::RTM_DELLINK, &body(libc::AF_BRIDGE, &[])), None);
    }

    #[test]
    fn a_wireless_event_is_no_change() {
        let attributes = [attribute(libc::IFLA_WIRELESS, &[0; 4])];
        assert_eq!(news(libc::RTM_NEWLINK, &body(libc::AF_UNSPEC, &attributes)), None);
    }

    #[test]
    fn an_attribute_that_is_unknown_or_of_another_length_hides_no_interface() {
        let attributes = [
            attribute(libc::IFLA_STATS64, &[1, 2]),
            attribute(0x3ff0, &[1]),
            attribute(libc::IFLA_MTU, &[1]),
            attribute(libc::IFLA_IFNAME, b"et\xff\0"),
        ];
        let Some(Change::Present(link)) =
            news(libc::RTM_NEWLINK, &body(libc::AF_UNSPEC, &attributes))
        else {
            panic!("no interface");
        };
        assert_eq!((link.index, link.name.as_str(), link.mtu), (7, "et\u{fffd}", 0));
    }

    #[test]
    fn what_cannot_be_read_is_told_as_missed() {
        let torn: Vec<_> = told(&[40, 0, 0, 0, 16, 0, 0, 0]).collect();
        assert_eq!(torn, [Change::Missed]);
    }

    proptest! {
        #[test]
        fn any_bytes_can_be_read(bytes in vec(any::<u8>(), 0..200)) {
            prop_assert!(told(&bytes).count() <= bytes.len());
            let mut message = body(libc::AF_UNSPEC, &[]);
            message.extend(&bytes);
            let mut header = NetlinkHeader::default();
            header.message_type = libc::RTM_NEWLINK;
            let _ = News::deserialize(&header, &message);
            prop_assert!(xdp_programs(&bytes).len() <= bytes.len());
        }
    }
}

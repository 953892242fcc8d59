//! What the drivers can do with XDP: the generic netlink family `netdev`
//! (Linux 6.3, Documentation/netlink/specs/netdev.yaml).

use std::{collections::BTreeMap, io};

use nix::{errno::Errno, libc, sys::socket::SockProtocol};

use super::{
    socket::Socket,
    wire::{attribute, attributes, u16_at},
};

/// `struct genlmsghdr`: command, version, two reserved bytes.
const GENERIC_HEADER: usize = 4;
const CONTROLLER: u16 = libc::GENL_ID_CTRL as u16;
const DEV_GET: u8 = 1;
const DEV_IFINDEX: u16 = 1;
const DEV_XDP_FEATURES: u16 = 3;

/// The abilities of one interface's driver at this moment: a veth takes
/// redirected frames only while its peer has GRO or an XDP program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct XdpFeatures(u64);

impl XdpFeatures {
    /// PASS, DROP, ABORTED and TX.
    pub const BASIC: Self = Self(1 << 0);
    /// Frames that come in here can be redirected elsewhere.
    pub const REDIRECT: Self = Self(1 << 1);
    /// Frames that are redirected here are sent.
    pub const NDO_XMIT: Self = Self(1 << 2);
    pub const XSK_ZEROCOPY: Self = Self(1 << 3);
    pub const HW_OFFLOAD: Self = Self(1 << 4);
    /// Frames of several buffers are handed to a program that takes them.
    pub const RX_SG: Self = Self(1 << 5);
    /// Frames of several buffers that are redirected here are sent.
    pub const NDO_XMIT_SG: Self = Self(1 << 6);

    const NAMES: [(Self, &str); 7] = [
        (Self::BASIC, "basic"),
        (Self::REDIRECT, "redirect"),
        (Self::NDO_XMIT, "ndo-xmit"),
        (Self::XSK_ZEROCOPY, "xsk-zerocopy"),
        (Self::HW_OFFLOAD, "hw-offload"),
        (Self::RX_SG, "rx-sg"),
        (Self::NDO_XMIT_SG, "ndo-xmit-sg"),
    ];

    /// Bits as the kernel gives them (`enum netdev_xdp_act`).
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// Whether all of `wanted` are there.
    pub const fn has(self, wanted: Self) -> bool {
        self.0 & wanted.0 == wanted.0
    }

    /// The kernel's names of the features that are there.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Self::NAMES.into_iter().filter(move |(bit, _)| self.has(*bit)).map(|(_, name)| name)
    }
}

/// The features of all interfaces of the calling thread's network namespace,
/// by index; `None` where the kernel does not tell.
///
/// # Errors
/// When the kernel cannot be asked.
pub fn all() -> io::Result<Option<BTreeMap<u32, XdpFeatures>>> {
    let socket = Socket::open(SockProtocol::NetlinkGeneric)?;
    let Some(family) = family(&socket, b"netdev\0")? else { return Ok(None) };
    let answers = socket.dump(family, &[DEV_GET, 1, 0, 0])?;
    Ok(Some(answers.iter().filter_map(|answer| features(&answer.body)).collect()))
}

/// The number of a generic netlink family; `None` when the kernel lacks it.
fn family(socket: &Socket, name: &[u8]) -> io::Result<Option<u16>> {
    let mut body = vec![libc::CTRL_CMD_GETFAMILY as u8, 1, 0, 0];
    body.extend(attribute(libc::CTRL_ATTR_FAMILY_NAME as u16, name));
    let answer = match socket.ask(CONTROLLER, &body) {
        Err(error) if error.raw_os_error() == Some(Errno::ENOENT as i32) => return Ok(None),
        answer => answer?,
    };
    let wanted = libc::CTRL_ATTR_FAMILY_ID as u16;
    let body = answer.body.get(GENERIC_HEADER..).unwrap_or_default();
    let id = attributes(body).find(|attribute| attribute.kind == wanted);
    Ok(id.and_then(|id| u16_at(id.value, 0)))
}

fn features(body: &[u8]) -> Option<(u32, XdpFeatures)> {
    let (mut index, mut bits) = (None, None);
    for attribute in attributes(body.get(GENERIC_HEADER..)?) {
        match attribute.kind {
            DEV_IFINDEX => index = attribute.u32(),
            DEV_XDP_FEATURES => bits = attribute.u64(),
            _ => {}
        }
    }
    Some((index?, XdpFeatures(bits?)))
}

#[cfg(test)]
mod tests {
    use super::{
        super::{links, scratch::Namespace},
        *,
    };

    #[test]
    fn a_veth_takes_redirected_frames_once_its_peer_has_gro() {
        let Some(namespace) = Namespace::new("features") else { return };
        namespace.ip("link add eth0 type veth peer name eth1");
        namespace.ip("link set eth0 up");
        namespace.ip("link set eth1 up");
        let of_eth0 = || {
            let links = links::all().unwrap();
            let eth0 = links.iter().find(|link| link.name == "eth0").unwrap();
            all().unwrap().map(|features| features[&eth0.index])
        };
        let Some(before) = namespace.enter(of_eth0) else {
            eprintln!("SKIP: this kernel has no netdev family");
            return;
        };
        assert!(before.has(XdpFeatures::BASIC) && before.has(XdpFeatures::REDIRECT));
        assert!(!before.has(XdpFeatures::NDO_XMIT));
        namespace.run("ethtool", "-K eth1 gro on");
        assert!(namespace.enter(of_eth0).unwrap().has(XdpFeatures::NDO_XMIT));
    }

    #[test]
    fn a_family_that_is_not_there_is_none() {
        let socket = Socket::open(SockProtocol::NetlinkGeneric).unwrap();
        assert_eq!(family(&socket, b"no-such-family\0").unwrap(), None);
    }

    #[test]
    fn features_are_named_as_the_kernel_names_them() {
        let names: Vec<_> = XdpFeatures::from_bits(0b10_0101).names().collect();
        assert_eq!(names, ["basic", "ndo-xmit", "rx-sg"]);
    }
}

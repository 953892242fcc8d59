//! What the drivers can do with XDP: the generic netlink family `netdev`
//! (Linux 6.3, Documentation/netlink/specs/netdev.yaml).

use std::{collections::BTreeMap, io};

use netlink_packet_core::{
    DecodeError, Emitable, NLM_F_DUMP, NlasIterator, ParseableParametrized, parse_u32, parse_u64,
};
use netlink_packet_generic::{
    GenlFamily, GenlHeader, GenlMessage,
    ctrl::{GenlCtrl, GenlCtrlCmd, nlas::GenlCtrlAttrs},
};
use netlink_sys::protocols::NETLINK_GENERIC;
use nix::errno::Errno;

use super::ask::ask;

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
    let Some(family) = family(DevGet::family_name())? else { return Ok(None) };
    let mut request = GenlMessage::from_payload(DevGet);
    request.set_resolved_family_id(family);
    let answers = ask::<_, GenlMessage<Device>>(NETLINK_GENERIC, request, NLM_F_DUMP)?;
    let features = |answer: GenlMessage<Device>| {
        let Device { index, features } = answer.payload;
        Some((index?, features?))
    };
    Ok(Some(answers.into_iter().filter_map(features).collect()))
}

/// The number of a generic netlink family; `None` when the kernel lacks it.
fn family(name: &str) -> io::Result<Option<u16>> {
    let request = GenlMessage::from_payload(GenlCtrl {
        cmd: GenlCtrlCmd::GetFamily,
        nlas: vec![GenlCtrlAttrs::FamilyName(name.to_owned())],
    });
    let answers = match ask::<_, GenlMessage<GenlCtrl>>(NETLINK_GENERIC, request, 0) {
        Err(error) if error.raw_os_error() == Some(Errno::ENOENT as i32) => return Ok(None),
        answers => answers?,
    };
    let attributes = answers.into_iter().flat_map(|answer| answer.payload.nlas);
    let id = |attribute| match attribute {
        GenlCtrlAttrs::FamilyId(id) => Some(id),
        _ => None,
    };
    Ok(attributes.into_iter().find_map(id))
}

/// The request `dev-get`; without attributes it asks for all interfaces.
#[derive(Debug)]
struct DevGet;

impl GenlFamily for DevGet {
    fn family_name() -> &'static str {
        "netdev"
    }

    fn command(&self) -> u8 {
        1
    }

    fn version(&self) -> u8 {
        1
    }
}

impl Emitable for DevGet {
    fn buffer_len(&self) -> usize {
        0
    }

    fn emit(&self, _buffer: &mut [u8]) {}
}

/// An answer to `dev-get`.
#[derive(Debug, Default)]
struct Device {
    index: Option<u32>,
    features: Option<XdpFeatures>,
}

impl ParseableParametrized<[u8], GenlHeader> for Device {
    fn parse_with_param(attributes: &[u8], _header: GenlHeader) -> Result<Self, DecodeError> {
        const IFINDEX: u16 = 1;
        const XDP_FEATURES: u16 = 3;
        let mut device = Self::default();
        for attribute in NlasIterator::new(attributes) {
            let attribute = attribute?;
            match attribute.kind() {
                IFINDEX => device.index = Some(parse_u32(attribute.value())?),
                XDP_FEATURES => {
                    device.features = Some(XdpFeatures(parse_u64(attribute.value())?));
                }
                _ => {}
            }
        }
        Ok(device)
    }
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
        assert_eq!(family("no-such-family").unwrap(), None);
    }

    #[test]
    fn features_are_named_as_the_kernel_names_them() {
        let names: Vec<_> = XdpFeatures::from_bits(0b10_0101).names().collect();
        assert_eq!(names, ["basic", "ndo-xmit", "rx-sg"]);
    }
}

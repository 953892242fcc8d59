//! What an interface is to this host, by which `--hook auto` chooses where its packets are
//! judged, and why.
//!
//! What XDP redirects never becomes a packet of the stack: that pays where packets are
//! forwarded. What goes to the stack pays for XDP with its receive offload: segments that GRO
//! would make one are judged one by one, and a driver with a program refuses to join them
//! itself (LRO). So an interface from which nothing is forwarded, or nothing redirected, is judged
//! at TC, behind GRO.

use std::{fs, io, path::Path};

use anyhow::{Context as _, Result};
use firewall_common::control::device;

use crate::netlink::links::Link;

/// What an interface is to this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// What comes in may be forwarded.
    Router,
    /// The same, but no interface takes redirected frames: all goes through the stack.
    StackRouter,
    /// What comes in is for this host, or for nobody.
    Host,
    /// Frames have no Ethernet header.
    Bare,
}

impl Role {
    /// # Errors
    /// When the settings of the interface are there and cannot be read, with the file.
    pub fn of(link: &Link) -> Result<Self> {
        Ok(match link.is_ethernet() {
            false => Self::Bare,
            true if forwards(&link.name)? => Self::Router,
            true => Self::Host,
        })
    }

    /// The role where it is known whether frames are redirected from or to the interface.
    pub const fn where_redirects(self, redirects: bool) -> Self {
        match self {
            Self::Router if !redirects => Self::StackRouter,
            role => role,
        }
    }

    /// Whether XDP is the place to judge.
    pub const fn is_for_xdp(self) -> bool {
        matches!(self, Self::Router)
    }

    /// As bits of [`device`], beside that for Ethernet.
    pub const fn bits(self) -> u32 {
        match self {
            Self::Router => device::CHOSEN | device::FORWARDS,
            Self::StackRouter => device::CHOSEN | device::FORWARDS | device::STACK_ONLY,
            Self::Host | Self::Bare => device::CHOSEN,
        }
    }
}

/// Whether this host forwards what comes in by an interface, by either protocol. The kernel
/// asks the interface's own setting for IPv4, and for IPv6 that of all interfaces, or its own
/// when it is there to overrule that (Documentation/networking/ip-sysctl.rst).
fn forwards(interface: &str) -> Result<bool> {
    let settings = Path::new("/proc/sys/net");
    let of = |family: &str, name: &str, setting: &str| {
        is_on(&settings.join(family).join("conf").join(name).join(setting))
    };
    Ok(of("ipv4", interface, "forwarding")?
        || of("ipv6", "all", "forwarding")?
        || of("ipv6", interface, "force_forwarding")?)
}

/// A setting that is not there is off: the kernel may be without that protocol, or older.
fn is_on(setting: &Path) -> Result<bool> {
    match fs::read_to_string(setting) {
        Ok(value) => Ok(value.trim() != "0"),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).with_context(|| {
            format!("cannot read {}: choose with --hook xdp or --hook tc", setting.display())
        }),
    }
}

/// Why an interface is judged where it is, by its bits of [`device`].
pub fn reason(flags: u32) -> &'static str {
    let has = |bit| flags & bit != 0;
    if !has(device::CHOSEN) {
        return "as --hook or the configuration asks";
    }
    if !has(device::ETHERNET) {
        return "auto: frames have no Ethernet header";
    }
    // Generic XDP redirects to any.
    if has(device::STACK_ONLY) && !has(device::GENERIC) {
        return match has(device::TC) {
            true => {
                "auto: packets are forwarded from here, but no interface takes redirected frames; \
                 receive offload stays whole"
            }
            false => {
                "auto: frames could be redirected from here when that was chosen; a restart \
                 chooses anew"
            }
        };
    }
    match (has(device::FORWARDS), has(device::TC), has(device::GENERIC)) {
        (false, true, _) => "auto: nothing is forwarded from here, and receive offload stays whole",
        (false, false, _) => {
            "auto: packets were forwarded from here when that was chosen; a restart chooses anew"
        }
        (true, false, false) => "auto: packets are forwarded from here",
        (true, false, true) => {
            "auto: packets are forwarded from here; XDP in the driver could not be attached"
        }
        (true, true, _) => {
            "auto: packets are forwarded from here, but XDP could not be attached; a restart tries \
             again"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::{links, scratch::Namespace};

    /// The role of eth0 after settings have been written.
    fn role(namespace: &Namespace, settings: &[(&str, &str)]) -> Role {
        namespace.enter(|| {
            for (setting, value) in settings {
                fs::write(Path::new("/proc/sys/net").join(setting), value).unwrap();
            }
            let links = links::all().unwrap();
            Role::of(links.iter().find(|link| link.name == "eth0").unwrap()).unwrap()
        })
    }

    #[test]
    fn an_interface_is_a_routers_when_either_protocol_forwards_from_it() {
        let Some(namespace) = Namespace::new("role") else { return };
        namespace.ip("link add eth0 type veth peer name eth1");
        assert_eq!(role(&namespace, &[("ipv4/ip_forward", "0")]), Role::Host);
        assert_eq!(role(&namespace, &[("ipv4/ip_forward", "1")]), Role::Router);
        // The others forward.
        assert_eq!(role(&namespace, &[("ipv4/conf/eth0/forwarding", "0")]), Role::Host);
        assert_eq!(role(&namespace, &[("ipv6/conf/all/forwarding", "1")]), Role::Router);
        // The kernel asks `all` for IPv6.
        assert_eq!(role(&namespace, &[("ipv6/conf/eth0/forwarding", "0")]), Role::Router);
    }

    #[test]
    fn a_device_without_ethernet_has_its_own_role() {
        let Some(namespace) = Namespace::new("bare") else { return };
        namespace.ip("tuntap add eth0 mode tun");
        assert_eq!(role(&namespace, &[("ipv4/ip_forward", "1")]), Role::Bare);
    }

    #[test]
    fn only_a_router_asks_whether_frames_are_redirected() {
        assert_eq!(Role::Router.where_redirects(true), Role::Router);
        assert_eq!(Role::Router.where_redirects(false), Role::StackRouter);
        assert_eq!(Role::Host.where_redirects(true), Role::Host);
        assert!(!Role::StackRouter.is_for_xdp());
    }

    #[test]
    fn each_choice_has_its_reason() {
        let ethernet = device::OURS | device::ETHERNET;
        let of = |role: Role, more: u32| reason(ethernet | role.bits() | more);
        assert_eq!(reason(ethernet | device::TC), "as --hook or the configuration asks");
        assert!(of(Role::Host, device::TC).contains("receive offload"));
        assert!(of(Role::Host, 0).contains("a restart chooses anew"));
        assert_eq!(of(Role::Router, 0), "auto: packets are forwarded from here");
        assert!(of(Role::Router, device::GENERIC).ends_with("in the driver could not be attached"));
        assert!(of(Role::Router, device::TC).contains("but XDP could not be attached"));
        assert!(of(Role::StackRouter, device::TC).contains("no interface takes"));
        assert!(of(Role::StackRouter, 0).contains("a restart chooses anew"));
        assert_eq!(of(Role::StackRouter, device::GENERIC), of(Role::Router, device::GENERIC));
        assert!(reason(device::OURS | Role::Bare.bits() | device::TC).contains("no Ethernet"));
    }
}

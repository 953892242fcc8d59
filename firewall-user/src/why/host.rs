//! What the host says of itself: addresses, sysctls, counters of its stack, all of the
//! caller's network namespace.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket},
    path::Path,
};

use anyhow::{Context, Result};
use nix::{ifaddrs::getifaddrs, net::if_::InterfaceFlags, sys::socket::SockaddrStorage};

/// The addresses of this host, each with its interface.
///
/// # Errors
/// When the kernel does not tell them.
pub fn addresses() -> Result<Vec<(IpAddr, String)>> {
    let all = getifaddrs().context("cannot list the addresses of this host")?;
    Ok(all
        .filter_map(|one| Some((one.address.as_ref().and_then(address)?, one.interface_name)))
        .collect())
}

/// Those of interfaces that are up.
///
/// # Errors
/// As above.
pub fn addresses_up() -> Result<Vec<IpAddr>> {
    let all = getifaddrs().context("cannot list the addresses of this host")?;
    let up = all.filter(|one| one.flags.contains(InterfaceFlags::IFF_UP));
    Ok(up.filter_map(|one| one.address.as_ref().and_then(address)).collect())
}

fn address(storage: &SockaddrStorage) -> Option<IpAddr> {
    match (storage.as_sockaddr_in(), storage.as_sockaddr_in6()) {
        (Some(v4), _) => Some(IpAddr::V4(v4.ip())),
        (_, Some(v6)) => Some(IpAddr::V6(v6.ip())),
        _ => None,
    }
}

/// The interface by which this host sends to an address; `None` without a route.
pub fn sends_by(to: IpAddr, own: &[(IpAddr, String)]) -> Option<String> {
    let any: IpAddr = match to {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    // Connecting a UDP socket asks the routes, and sends nothing.
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect((to, 9)).ok()?;
    let from = socket.local_addr().ok()?.ip();
    own.iter().find(|(address, _)| *address == from).map(|(_, name)| name.clone())
}

/// IPv4, IPv6.
///
/// # Errors
/// When a setting cannot be read.
pub fn forwards() -> Result<[bool; 2]> {
    let is_on =
        |setting: &str| Ok::<_, anyhow::Error>(sysctl(setting)?.is_some_and(|value| value != 0));
    Ok([is_on("ipv4/ip_forward")?, is_on("ipv6/conf/all/forwarding")?])
}

/// Those of the interfaces whose reverse path is checked strictly: the larger of their own
/// setting and that for all counts.
///
/// # Errors
/// As [`forwards`].
pub fn strict(interfaces: &[String]) -> Result<Vec<String>> {
    let rp_filter = |name: &str| sysctl(&format!("ipv4/conf/{name}/rp_filter"));
    let all = rp_filter("all")?.unwrap_or(0);
    let mut strict = Vec::new();
    for name in interfaces {
        if rp_filter(name)?.is_some_and(|own| own.max(all) == 1) {
            strict.push(name.clone());
        }
    }
    Ok(strict)
}

/// A setting below /proc/sys/net; `None` where the kernel has no such setting.
fn sysctl(setting: &str) -> Result<Option<u32>> {
    let path = Path::new("/proc/sys/net").join(setting);
    match fs::read_to_string(&path) {
        Ok(text) => {
            Ok(Some(text.trim().parse().with_context(|| format!("{}: {text}", path.display()))?))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// Packets that the kernel has discarded for their reverse path.
///
/// # Errors
/// When the counters cannot be read.
pub fn reverse_path_discards() -> Result<u64> {
    let text = fs::read_to_string("/proc/self/net/netstat").context("cannot read netstat")?;
    Ok(counter(&text, "TcpExt:", "IPReversePathFilter").unwrap_or(0))
}

/// A counter of two lines, names and values, which begin with `group`.
fn counter(text: &str, group: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().filter(|line| line.starts_with(group));
    let (names, values) = (lines.next()?, lines.next()?);
    let place = names.split_whitespace().position(|word| word == name)?;
    values.split_whitespace().nth(place)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_is_found_by_its_name_in_its_group() {
        let text = "IpExt: A B\nIpExt: 1 2\nTcpExt: A B\nTcpExt: 3 4\n";
        assert_eq!(counter(text, "TcpExt:", "B"), Some(4));
        assert_eq!(counter(text, "TcpExt:", "C"), None);
        assert_eq!(counter("", "TcpExt:", "B"), None);
    }

    #[test]
    fn this_host_sends_to_itself_by_its_own_interface() {
        let own = [(IpAddr::from(Ipv4Addr::LOCALHOST), "lo".to_owned())];
        assert_eq!(sends_by(Ipv4Addr::LOCALHOST.into(), &own).as_deref(), Some("lo"));
    }
}

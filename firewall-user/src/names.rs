//! What names mean on this machine: of ports, hosts, users and groups.
//!
//! Not every C library asks all whom the machine's nsswitch.conf(5) names (a directory of users, a
//! resolver of local names), and the one that the firewall is linked with may be such: what it does not
//! find, getent(1) is asked for, which speaks with the machine's own.

use std::{
    cell::OnceCell,
    collections::BTreeSet,
    net::{IpAddr, ToSocketAddrs as _},
    process::Command,
};

use firewall_common::addr::Family;
use nix::unistd::{Gid, Group, Uid, User};

use crate::rules::{EtcServices, Services, TransportProtocol};

/// The names of ports.
pub fn services() -> EtcServices {
    let text = std::fs::read_to_string("/etc/services").unwrap_or_default();
    EtcServices::parse(&text)
}

/// All names. Those of ports are read when one is asked for: most rules have none.
#[derive(Debug, Default)]
pub struct LocalNames(OnceCell<EtcServices>);

impl Services for LocalNames {
    fn port(&self, name: &str, protocol: TransportProtocol) -> Option<u16> {
        self.0.get_or_init(services).port(name, protocol)
    }

    fn name(&self, port: u16, protocol: TransportProtocol) -> Option<&str> {
        self.0.get_or_init(services).name(port, protocol)
    }

    fn addresses(&self, host: &str, family: Family) -> Result<Vec<IpAddr>, String> {
        let found = match (host, 0).to_socket_addrs() {
            Ok(found) => found.map(|address| address.ip()).collect(),
            Err(error) => from_getent("ahosts", host).ok_or_else(|| error.to_string())?,
        };
        let is_meant = |address: &IpAddr| address.is_ipv4() == (family == Family::Ipv4);
        let addresses: BTreeSet<IpAddr> = found.into_iter().filter(is_meant).collect();
        if addresses.is_empty() {
            return Err("it has addresses of the other family only".into());
        }
        Ok(addresses.into_iter().collect())
    }

    fn user(&self, name: &str) -> Option<u32> {
        let known = User::from_name(name).ok().flatten().map(|user| user.uid.as_raw());
        known.or_else(|| number_from_getent("passwd", name))
    }

    fn group(&self, name: &str) -> Option<u32> {
        let known = Group::from_name(name).ok().flatten().map(|group| group.gid.as_raw());
        known.or_else(|| number_from_getent("group", name))
    }

    fn user_name(&self, number: u32) -> Option<String> {
        let known = User::from_uid(Uid::from_raw(number)).ok().flatten().map(|user| user.name);
        known.or_else(|| name_from_getent("passwd", number))
    }

    fn group_name(&self, number: u32) -> Option<String> {
        let known = Group::from_gid(Gid::from_raw(number)).ok().flatten().map(|group| group.name);
        known.or_else(|| name_from_getent("group", number))
    }
}

/// The addresses at the beginning of the lines that getent(1) finds; `None` if there are none.
fn from_getent(database: &str, name: &str) -> Option<Vec<IpAddr>> {
    let addresses = |text: &str| -> Vec<IpAddr> {
        text.lines().filter_map(|line| line.split_whitespace().next()?.parse().ok()).collect()
    };
    Some(addresses(&getent(database, name)?)).filter(|found| !found.is_empty())
}

/// The number of a user or group.
fn number_from_getent(database: &str, name: &str) -> Option<u32> {
    // getent(1) takes a number for one, too, and whatever it can read as such.
    if !name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
        return None;
    }
    getent(database, name)?.lines().find_map(|line| number(line, name))
}

/// The name of a user or group.
fn name_from_getent(database: &str, number: u32) -> Option<String> {
    let line = getent(database, &number.to_string())?;
    line.split(':').next().filter(|name| !name.is_empty()).map(str::to_owned)
}

/// In a line of passwd(5) or group(5), if that is of this name.
fn number(line: &str, name: &str) -> Option<u32> {
    let mut fields = line.split(':');
    fields.next().filter(|first| *first == name)?;
    fields.nth(1)?.parse().ok()
}

/// What getent(1) prints; `None` if it finds nothing, or is not there.
fn getent(database: &str, name: &str) -> Option<String> {
    let output = Command::new("getent").args([database, "--", name]).output().ok()?;
    String::from_utf8(output.stdout).ok().filter(|_| output.status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_and_groups_have_a_number_in_the_third_field() {
        let ftp = "ftp:x:111:65534:ftp daemon:/srv/ftp:/usr/sbin/nologin";
        assert_eq!(number(ftp, "ftp"), Some(111));
        assert_eq!(number(ftp, "tftp"), None);
        assert_eq!(number("adm:x:4:syslog", "adm"), Some(4));
        assert_eq!(number("nothing", "nothing"), None);
    }

    #[test]
    fn the_machine_is_asked_for_what_the_library_does_not_find() {
        let loopback: IpAddr = [127, 0, 0, 1].into();
        if getent("passwd", "root").is_none() {
            eprintln!("skipped: needs getent");
            return;
        }
        assert_eq!(number_from_getent("passwd", "root"), Some(0));
        assert_eq!(name_from_getent("passwd", 0).as_deref(), Some("root"));
        assert_eq!(number_from_getent("group", "nobody-of-that-name"), None);
        for no_name in ["0", "+0", "4294967296", "5-10", "-i", ""] {
            assert_eq!(number_from_getent("passwd", no_name), None, "{no_name}");
        }
        assert_eq!(from_getent("ahosts", "127.0.0.1").map(|all| all[0]), Some(loopback));
        assert_eq!(from_getent("ahosts", "nobody.invalid"), None);
    }

    #[test]
    fn hosts_users_and_groups_are_known_by_their_names() {
        let names = LocalNames::default();
        let loopback: IpAddr = [127, 0, 0, 1].into();
        assert_eq!(names.addresses("localhost", Family::Ipv4), Ok(vec![loopback]));
        assert_eq!((names.user("root"), names.group("root")), (Some(0), Some(0)));
        assert_eq!(names.user("nobody-of-that-name"), None);
        assert_eq!(names.user_name(0).as_deref(), Some("root"));
        assert_eq!(names.group_name(0).as_deref(), Some("root"));
        assert_eq!(names.user_name(4_000_000_123), None);
    }
}

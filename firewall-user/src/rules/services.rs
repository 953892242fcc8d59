//! Names that stand for numbers: of ports (`ftp`, `domain`), hosts, users and groups.
//!
//! The text of /etc/services (services(5)) comes in as an argument; names that
//! it lacks, and machines without it, are served by a small built-in table.

use std::{collections::HashMap, fmt, net::IpAddr};

use firewall_common::addr::Family;

use super::ast::TransportProtocol;

/// Tells the port of a service's name and the name of a port, and what other names stand
/// for; one that tells nothing knows numbers only.
pub trait Services: fmt::Debug {
    fn port(&self, name: &str, protocol: TransportProtocol) -> Option<u16>;
    fn name(&self, port: u16, protocol: TransportProtocol) -> Option<&str>;

    /// All addresses of a host in this family, none twice.
    ///
    /// # Errors
    /// Why there is none, as the end of a sentence.
    fn addresses(&self, _host: &str, _family: Family) -> Result<Vec<IpAddr>, String> {
        Err("names of hosts are not looked up here".into())
    }

    /// The number of a user.
    fn user(&self, _name: &str) -> Option<u32> {
        None
    }

    /// The number of a group.
    fn group(&self, _name: &str) -> Option<u32> {
        None
    }

    fn user_name(&self, number: u32) -> Option<String> {
        (number == 0).then(|| "root".into())
    }

    fn group_name(&self, number: u32) -> Option<String> {
        (number == 0).then(|| "root".into())
    }
}

/// What firewall rules name most.
#[derive(Clone, Copy, Debug, Default)]
pub struct BuiltinServices;

const BUILTIN: &[(&str, u16)] = &[
    ("ftp-data", 20),
    ("ftp", 21),
    ("ssh", 22),
    ("telnet", 23),
    ("smtp", 25),
    ("domain", 53),
    ("bootps", 67),
    ("bootpc", 68),
    ("tftp", 69),
    ("http", 80),
    ("www", 80),
    ("pop3", 110),
    ("sunrpc", 111),
    ("auth", 113),
    ("nntp", 119),
    ("ntp", 123),
    ("netbios-ns", 137),
    ("netbios-dgm", 138),
    ("netbios-ssn", 139),
    ("imap", 143),
    ("imap2", 143),
    ("snmp", 161),
    ("snmp-trap", 162),
    ("irc", 194),
    ("ldap", 389),
    ("https", 443),
    ("microsoft-ds", 445),
    ("isakmp", 500),
    ("syslog", 514),
    ("submission", 587),
    ("ldaps", 636),
    ("ftps-data", 989),
    ("ftps", 990),
    ("imaps", 993),
    ("pop3s", 995),
    ("openvpn", 1194),
    ("nfs", 2049),
    ("mysql", 3306),
    ("sip", 5060),
    ("postgresql", 5432),
];

impl Services for BuiltinServices {
    fn port(&self, name: &str, _: TransportProtocol) -> Option<u16> {
        BUILTIN.iter().find(|(known, _)| *known == name).map(|(_, port)| *port)
    }

    fn name(&self, port: u16, _: TransportProtocol) -> Option<&str> {
        BUILTIN.iter().find(|(_, known)| *known == port).map(|(name, _)| *name)
    }
}

/// The names of /etc/services, then the built-in ones.
#[derive(Clone, Debug, Default)]
pub struct EtcServices {
    ports: HashMap<(String, TransportProtocol), u16>,
    names: HashMap<(u16, TransportProtocol), String>,
}

impl EtcServices {
    /// Reads the text of the file; lines that say nothing about a protocol with
    /// ports are passed over. The first line about a name or a port wins.
    pub fn parse(text: &str) -> Self {
        let mut services = Self::default();
        for line in text.lines() {
            services.line(line.split('#').next().unwrap_or_default());
        }
        services
    }

    /// `name port/protocol aliases…`
    fn line(&mut self, line: &str) -> Option<()> {
        let mut words = line.split_whitespace();
        let name = words.next()?;
        let (port, protocol) = words.next()?.split_once('/')?;
        let port = port.parse().ok()?;
        let protocol = match protocol {
            "tcp" => TransportProtocol::Tcp,
            "udp" => TransportProtocol::Udp,
            "sctp" => TransportProtocol::Sctp,
            "udplite" => TransportProtocol::UdpLite,
            _ => return None,
        };
        self.names.entry((port, protocol)).or_insert_with(|| name.to_owned());
        for name in [name].into_iter().chain(words) {
            self.ports.entry((name.to_owned(), protocol)).or_insert(port);
        }
        Some(())
    }
}

impl Services for EtcServices {
    fn port(&self, name: &str, protocol: TransportProtocol) -> Option<u16> {
        let known = self.ports.get(&(name.to_owned(), protocol)).copied();
        known.or_else(|| BuiltinServices.port(name, protocol))
    }

    fn name(&self, port: u16, protocol: TransportProtocol) -> Option<&str> {
        if self.names.is_empty() {
            return BUILTIN.iter().find(|(_, known)| *known == port).map(|(name, _)| *name);
        }
        self.names.get(&(port, protocol)).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn etc_services_gives_names_aliases_and_protocols() {
        let text = "ftp-data\t20/tcp\nhttp 80/tcp www # web\niprop 2121/tcp\nx 9/sctp\nbroken\n";
        let services = EtcServices::parse(text);
        assert_eq!(services.port("www", TransportProtocol::Tcp), Some(80));
        assert_eq!(services.port("iprop", TransportProtocol::Udp), None);
        assert_eq!(services.name(2121, TransportProtocol::Tcp), Some("iprop"));
        assert_eq!(services.name(80, TransportProtocol::Udp), None);
        assert_eq!(services.name(9, TransportProtocol::Sctp), Some("x"));
    }

    #[test]
    fn a_name_that_the_file_lacks_is_built_in() {
        let services = EtcServices::parse("");
        for (name, port) in [("ftp", 21), ("ftp-data", 20), ("domain", 53), ("tftp", 69)] {
            assert_eq!(services.port(name, TransportProtocol::Tcp), Some(port));
        }
        assert_eq!(services.port("nonsense", TransportProtocol::Tcp), None);
    }
}

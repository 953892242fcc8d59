//! Who enforces, where, under which rules: `firewall status`.

use std::{fmt::Write as _, path::PathBuf, time::SystemTime};

use serde::Serialize;

use super::{
    json,
    stats::{Fill, Tables},
    time::rfc3339,
};

/// What `firewall status` prints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusView {
    pub pin: PathBuf,
    /// The process that runs as daemon; `None` when there is none, and what it
    /// loaded goes on alone.
    pub daemon: Option<u32>,
    /// When the programs were loaded or taken over.
    pub since: Option<SystemTime>,
    pub interfaces: Vec<InterfaceStatus>,
    /// Ruleset generation, counted from 1; 0 while there is none.
    pub generation: u32,
    /// Rules of both families in it, policies not counted.
    pub rules: u32,
    /// A ruleset waits for `firewall confirm` until then.
    pub confirm_until: Option<SystemTime>,
    /// Ports whose connections are read as FTP control connections.
    pub ftp_ports: Vec<u16>,
    pub tftp_ports: Vec<u16>,
    pub tables: Tables,
}

/// An interface that is enforced on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InterfaceStatus {
    /// `None` when the interface is gone.
    pub name: Option<String>,
    pub index: u32,
    /// `xdp`, `xdp-generic`, `tc-ingress`, `tc-egress`
    pub hooks: Vec<&'static str>,
    /// Why it is judged there; `None` when the interface is gone.
    pub reason: Option<&'static str>,
}

/// One fact to a line, names aligned.
pub fn text(view: &StatusView) -> String {
    let mut text = String::new();
    let mut fact = |name: &str, value: &str| {
        let _ = writeln!(text, "{name:<14}{value}");
    };
    fact("daemon", &daemon(view));
    if let Some(since) = view.since {
        fact("since", &rfc3339(since));
    }
    fact("pinned at", &view.pin.display().to_string());
    for interface in &view.interfaces {
        fact("interface", &interface_text(interface));
    }
    if view.interfaces.is_empty() {
        fact("interface", "none: nothing is judged");
    }
    fact("ruleset", &ruleset(view));
    if let Some(until) = view.confirm_until {
        fact("confirm", &format!("`firewall confirm` before {}", rfc3339(until)));
    }
    fact("ftp ports", &ports(&view.ftp_ports));
    if !view.tftp_ports.is_empty() {
        fact("tftp ports", &ports(&view.tftp_ports));
    }
    for (name, Fill { used, size }) in view.tables.named() {
        fact(name.trim_start_matches("table-"), &format!("{used} of {size}"));
    }
    text.trim_end().to_owned()
}

fn daemon(view: &StatusView) -> String {
    match view.daemon {
        Some(pid) => format!("running, pid {pid}"),
        None if view.interfaces.is_empty() => "not running".into(),
        None => "not running; what it loaded goes on without it".into(),
    }
}

fn interface_text(interface: &InterfaceStatus) -> String {
    let name = interface.name.as_deref().unwrap_or("gone");
    let text = format!("{name} (index {}): {}", interface.index, interface.hooks.join(", "));
    match interface.reason {
        Some(reason) => format!("{text} ({reason})"),
        None => text,
    }
}

fn ruleset(view: &StatusView) -> String {
    match view.generation {
        0 => "none".into(),
        generation => format!("generation {generation}, {} rules", view.rules),
    }
}

fn ports(ports: &[u16]) -> String {
    let ports: Vec<_> = ports.iter().map(u16::to_string).collect();
    if ports.is_empty() { "none".into() } else { ports.join(", ") }
}

#[derive(Serialize)]
struct StatusJson<'v> {
    running: bool,
    pid: Option<u32>,
    since: Option<String>,
    pin: String,
    interfaces: &'v [InterfaceStatus],
    generation: u32,
    rules: u32,
    confirm_until: Option<String>,
    ftp_ports: &'v [u16],
    tftp_ports: &'v [u16],
    tables: &'v Tables,
}

/// One JSON object.
pub fn json(view: &StatusView) -> String {
    json::line(&StatusJson {
        running: view.daemon.is_some(),
        pid: view.daemon,
        since: view.since.map(rfc3339),
        pin: view.pin.display().to_string(),
        interfaces: &view.interfaces,
        generation: view.generation,
        rules: view.rules,
        confirm_until: view.confirm_until.map(rfc3339),
        ftp_ports: &view.ftp_ports,
        tftp_ports: &view.tftp_ports,
        tables: &view.tables,
    })
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    fn view() -> StatusView {
        let interface = |name: &str, index, hooks: &[&'static str]| InterfaceStatus {
            name: Some(name.into()),
            index,
            hooks: hooks.to_vec(),
            reason: Some("as --hook or the configuration asks"),
        };
        StatusView {
            pin: "/sys/fs/bpf/firewall".into(),
            daemon: Some(4711),
            since: Some(UNIX_EPOCH),
            interfaces: vec![
                interface("eth0", 2, &["xdp", "tc-egress"]),
                interface("tun0", 5, &["tc-ingress", "tc-egress"]),
            ],
            generation: 3,
            rules: 17,
            confirm_until: None,
            ftp_ports: vec![21, 2121],
            tftp_ports: vec![],
            tables: Tables {
                assured: Fill { used: 812, size: 262_144 },
                assured6: Fill { used: 4, size: 262_144 },
                embryonic: Fill { used: 3, size: 65_536 },
                embryonic6: Fill { used: 0, size: 16_384 },
                expectations: Fill { used: 1, size: 4_096 },
                translations: Fill { used: 2, size: 524_288 },
                translations6: Fill { used: 0, size: 524_288 },
            },
        }
    }

    #[test]
    fn the_facts_stand_one_to_a_line() {
        let expected = "\
daemon        running, pid 4711
since         1970-01-01T00:00:00.000Z
pinned at     /sys/fs/bpf/firewall
interface     eth0 (index 2): xdp, tc-egress (as --hook or the configuration asks)
interface     tun0 (index 5): tc-ingress, tc-egress (as --hook or the configuration asks)
ruleset       generation 3, 17 rules
ftp ports     21, 2121
assured       812 of 262144
assured6      4 of 262144
embryonic     3 of 65536
embryonic6    0 of 16384
expectations  1 of 4096
translations  2 of 524288
translations6 0 of 524288";
        assert_eq!(text(&view()), expected);
    }

    #[test]
    fn without_a_daemon_it_says_whether_anything_is_enforced() {
        let dead = StatusView { daemon: None, ..view() };
        assert!(text(&dead).starts_with("daemon        not running; what it loaded goes on"));
        let nothing = StatusView { interfaces: vec![], generation: 0, ..dead };
        let text = text(&nothing);
        assert!(text.starts_with("daemon        not running\n"), "{text}");
        assert!(text.contains("interface     none: nothing is judged\nruleset       none\n"));
    }

    #[test]
    fn a_ruleset_on_trial_shows_its_deadline() {
        let trial = StatusView { confirm_until: Some(UNIX_EPOCH), ..view() };
        assert!(text(&trial).contains("confirm       `firewall confirm` before 1970-01-01T"));
    }

    #[test]
    fn json_is_one_object_on_one_line() {
        let line = json(&view());
        assert!(!line.contains('\n'));
        assert!(line.starts_with(r#"{"running":true,"pid":4711,"since":"1970-01-01T"#), "{line}");
        assert!(line.contains(
            r#"{"name":"eth0","index":2,"hooks":["xdp","tc-egress"],"reason":"as --hook or the configuration asks"}"#
        ));
        assert!(
            line.contains(
                r#""ftp_ports":[21,2121],"tftp_ports":[],"tables":{"assured":{"used":812,"#
            )
        );
    }
}

//! A ruleset that packets are judged by: jumps, conditions, every target.

use std::sync::LazyLock;

use firewall_common::{
    addr::Family, control::device, rule::Chain, testing::Memory, walk::MAX_LOGS,
};
use firewall_user::rules::{self, BuiltinServices, Compiled, Ruleset};

/// Interfaces of the gateway: towards clients, and towards servers.
pub const INTERFACES: [(u32, &str); 2] = [(1, "eth0"), (2, "eth1")];

const RULES: &str = "\
*raw
:PREROUTING ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
-A PREROUTING -p tcp --dport 2121 -j CT --helper ftp
-A PREROUTING -p tcp --tcp-flags ALL NONE -j DROP
COMMIT
*filter
:INPUT DROP [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
:SERVICES - [0:0]
:RELATED - [0:0]
-A INPUT -m state --state INVALID -j LOG --log-prefix \"invalid \"
-A INPUT -m state --state ESTABLISHED,RELATED -j ACCEPT
-A INPUT -p tcp --dport 22 --syn -j ACCEPT
-A INPUT -p udp -j REJECT
-A FORWARD -m state --state INVALID -j DROP
-A FORWARD -m state --state ESTABLISHED -j ACCEPT
-A FORWARD -m state --state RELATED -j RELATED
-A FORWARD -i eth0 -o eth1 -m state --state NEW -j SERVICES
-A FORWARD -p tcp --dport 113 -j REJECT --reject-with tcp-reset
-A FORWARD -m state --state UNTRACKED -j ACCEPT
-A SERVICES -p tcp -m multiport --dports 21,80,2121,8000:8010 -j ACCEPT
-A SERVICES -p tcp --dport 443 --tcp-flags SYN,ACK SYN -j ACCEPT
-A SERVICES -p udp --dport 53 -j ACCEPT
-A SERVICES -p 47 -j ACCEPT
-A SERVICES -p 132 -j LOG
-A RELATED -m helper --helper ftp -j ACCEPT
-A RELATED -j ACCEPT
COMMIT
";

static COMPILED: LazyLock<Compiled> = LazyLock::new(|| {
    let [v4, v6] = [Family::Ipv4, Family::Ipv6].map(read);
    rules::compile(&v4, &v6).expect("the rules above compile")
});

/// Tables in memory with the rules above for both families.
pub fn strict_gateway() -> Memory {
    let mut memory = open_gateway();
    memory.header = COMPILED.header;
    memory.rules.clone_from(&COMPILED.rules);
    memory.port_sets.clone_from(&COMPILED.port_sets);
    memory.extras.clone_from(&COMPILED.extras);
    memory.patterns.clone_from(&COMPILED.texts);
    memory
}

/// Tables in memory whose chains accept everything.
pub fn open_gateway() -> Memory {
    Memory::with(|memory| {
        for (index, name) in INTERFACES {
            memory.add_device(index, mac(index));
            let found = memory.devices.get_mut(&index).expect("just added");
            found.patterns = [COMPILED.patterns_of(name); 2];
            found.flags |= device::TAKES_REDIRECT;
            found.set_name(name);
        }
        // By the last two bits: this host, or which of the interfaces leads there.
        memory.route = |destination| match destination.words[3].to_be() & 3 {
            0 => (Chain::Input, 0),
            1 | 3 => (Chain::Forward, 2),
            _ => (Chain::Forward, 1),
        };
    })
}

/// The Ethernet address of an interface.
pub const fn mac(index: u32) -> [u8; 6] {
    [2, 0, 0, 0, 0, index as u8]
}

fn read(family: Family) -> Ruleset {
    rules::parse("rules", RULES, family, &BuiltinServices).expect("the rules above are right")
}

/// Events that one packet may cause: LOG lines, and the drop.
pub const MAX_EVENTS: usize = MAX_LOGS + 1;

//! The same rules, as each of the compared reads them: so many that match nothing, and behind
//! them those that let the bench's clients in.

use std::fmt::Write as _;

/// Rules that are always there: two for known and for wrong packets, three that let clients in.
pub const FEWEST: usize = 5;

/// Network and port of a rule that no packet of the bench matches.
fn idle(number: usize) -> (usize, usize, usize) {
    (number >> 8, number & 0xff, 1_024 + number % 60_000)
}

/// So many rules of FORWARD, as iptables-save writes them.
pub fn iptables(count: usize) -> String {
    with_first(count, "")
}

/// The same behind another one.
pub fn with_first(count: usize, first: &str) -> String {
    let mut text = String::from("*filter\n:INPUT ACCEPT [0:0]\n:FORWARD DROP [0:0]\n");
    text += ":OUTPUT ACCEPT [0:0]\n";
    text += first;
    text += "-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n";
    text += "-A FORWARD -m conntrack --ctstate INVALID -j DROP\n";
    for number in 0..count.saturating_sub(FEWEST) {
        let (a, b, port) = idle(number);
        writeln!(text, "-A FORWARD -s 172.{a}.{b}.0/24 -p tcp -m tcp --dport {port} -j ACCEPT")
            .expect("text");
    }
    text + "-A FORWARD -s 10.0.0.0/8 -p tcp -m multiport --dports 80,443 -j ACCEPT\n\
            -A FORWARD -s 10.0.0.0/8 -p udp -m udp --dport 80 -j ACCEPT\n\
            -A FORWARD -s 10.0.0.0/8 -p icmp -j ACCEPT\nCOMMIT\n"
}

/// The same behind a rule of table raw, which comes before tracking.
pub fn with_raw(count: usize, rule: &str) -> String {
    format!(
        "*raw\n:PREROUTING ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n-A PREROUTING {rule}\nCOMMIT\n{}",
        iptables(count)
    )
}

/// Those of a gateway that hides its clients, each address behind another one.
pub fn hiding(count: usize) -> String {
    iptables(count)
        + "*nat\n:PREROUTING ACCEPT [0:0]\n:INPUT ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n\
           :POSTROUTING ACCEPT [0:0]\n-A POSTROUTING -o eth1 -j NETMAP --to 100.0.0.0/8\nCOMMIT\n"
}

/// Ten rules of FORWARD for IPv6, of a gateway that hides those of its clients that talk to port 443.
pub fn ipv6() -> String {
    let idle = (0..10 - FEWEST).map(|number| {
        format!("-A FORWARD -s 2001:db8:{number:x}00::/64 -p tcp --dport 1024 -j ACCEPT\n")
    });
    let idle: String = idle.collect();
    format!(
        "*nat\n-A POSTROUTING -o eth1 -p tcp --dport 443 -j NETMAP --to 2001:db8:64::/64\nCOMMIT\n\
         *filter\n:FORWARD DROP [0:0]\n\
         -A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n\
         -A FORWARD -m conntrack --ctstate INVALID -j DROP\n{idle}\
         -A FORWARD -s fd00::/8 -p tcp -m multiport --dports 80,443 -j ACCEPT\n\
         -A FORWARD -s fd00::/8 -p udp -m udp --dport 80 -j ACCEPT\n\
         -A FORWARD -s fd00::/8 -p ipv6-icmp -j ACCEPT\nCOMMIT\n"
    )
}

/// So many rules for `nft -f`, in place of those before.
pub fn nft(count: usize) -> String {
    let mut text = String::from(
        "table ip bench\ndelete table ip bench\ntable ip bench {\n chain forward {\n  \
         type filter hook forward priority 0; policy drop;\n  \
         ct state established,related counter accept\n  ct state invalid counter drop\n",
    );
    for number in 0..count.saturating_sub(FEWEST) {
        let (a, b, port) = idle(number);
        writeln!(text, "  ip saddr 172.{a}.{b}.0/24 tcp dport {port} counter accept")
            .expect("text");
    }
    text + "  ip saddr 10.0.0.0/8 tcp dport { 80, 443 } counter accept\n  \
            ip saddr 10.0.0.0/8 udp dport 80 counter accept\n  \
            ip saddr 10.0.0.0/8 ip protocol icmp counter accept\n }\n}\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_as_many_rules_as_were_asked_for() {
        for count in [FEWEST, 10, 1_000] {
            assert_eq!(iptables(count).matches("-A FORWARD").count(), count);
            assert_eq!(nft(count).matches("counter").count(), count);
        }
    }
}

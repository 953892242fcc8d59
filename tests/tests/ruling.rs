//! Rules of the field's styles judge random packets as iptables of this kernel does:
//! the same packets go on, the same to the byte, and every rule counts the same.
//!
//! `FIREWALL_RULING_PACKETS=100000` makes it as long as wanted, `FIREWALL_RULING_SEED=N`
//! plays other packets.

use std::env;

use anyhow::{Result, ensure};
use firewall_tests::{
    capability, needs,
    oracle::bench::{Hook, Sites, ruling},
};

/// Packets for each ruleset.
const PACKETS: usize = 3_000;

/// What a host's headers say.
const HEADERS: &str = "\
-A FORWARD -m ttl --ttl-lt 2 -j DROP
-A FORWARD -m ttl --ttl-eq 4
-A FORWARD -m ttl --ttl-gt 63
-A FORWARD -m ttl ! --ttl-eq 6
-A FORWARD -m length --length 60
-A FORWARD -m length ! --length 40:90
-A FORWARD -m tos --tos 0x10
-A FORWARD -m tos ! --tos Minimize-Delay
-A FORWARD -m dscp --dscp-class EF -j DROP
-A FORWARD -m dscp ! --dscp-class CS6
-A FORWARD -m iprange --src-range 198.18.0.1-198.18.0.2
-A FORWARD -m iprange ! --src-range 198.18.0.2-198.18.0.3 --dst-range 198.19.0.1-198.19.0.2
-A FORWARD -m mac --mac-source 00:00:5e:00:53:01
-A FORWARD -m mac ! --mac-source 00:00:5e:00:53:01
-A FORWARD -m pkttype --pkt-type unicast
-A FORWARD -m pkttype --pkt-type broadcast
-A FORWARD -m mark --mark 0
-A FORWARD -m mark ! --mark 0/0xff
-A FORWARD -m addrtype --dst-type UNICAST
-A FORWARD -m addrtype --dst-type LOCAL,BROADCAST
-A FORWARD -m addrtype ! --src-type MULTICAST ! --dst-type MULTICAST
-A FORWARD -f -j DROP
-A FORWARD ! -f
-A FORWARD -p tcp -m tcp --tcp-option 2
-A FORWARD -p tcp -m tcp ! --tcp-option 8
-A FORWARD -p tcp -m tcp --tcp-option 254 -j DROP
-A FORWARD -p tcp -m tcpmss --mss 1:540
-A FORWARD -p tcp -m tcpmss ! --mss 1460
-A FORWARD -p tcp -m tcp --tcp-flags SYN,RST SYN -m tcpmss ! --mss 536:65535
";

/// What tracking knows.
const CONNECTIONS: &str = "\
-A FORWARD -m conntrack --ctstate INVALID -j DROP
-A FORWARD -m conntrack --ctproto 6
-A FORWARD -m conntrack ! --ctproto 17
-A FORWARD -m conntrack --ctdir ORIGINAL
-A FORWARD -m conntrack --ctdir REPLY
-A FORWARD -m conntrack --ctorigsrc 198.18.0.1
-A FORWARD -m conntrack ! --ctorigdst 198.19.0.0/30
-A FORWARD -m conntrack --ctreplsrc 198.19.0.2
-A FORWARD -m conntrack --ctrepldst 198.18.0.4/31
-A FORWARD -p udp -m conntrack --ctorigdstport 53
-A FORWARD -p udp -m conntrack --ctreplsrcport 22:80
-A FORWARD -p tcp -m conntrack --ctorigsrcport 1024:40000 ! --ctrepldstport 1024
-A FORWARD -m conntrack --ctstate NEW --ctproto 6 --ctdir ORIGINAL
-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED --ctorigsrc 198.18.0.0/16
-A FORWARD -m conntrack --ctstatus SEEN_REPLY
-A FORWARD -m conntrack --ctstatus NONE
-A FORWARD -m conntrack ! --ctstatus EXPECTED
-A FORWARD -m conntrack --ctstatus CONFIRMED
-A FORWARD -m conntrack --ctstate SNAT -j DROP
-A FORWARD -m conntrack ! --ctstate DNAT
-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -p tcp -m tcp --dport 22 -m conntrack --ctstate NEW --ctdir ORIGINAL -j ACCEPT
-A FORWARD -p udp -m udp --dport 53 -j ACCEPT
-A FORWARD -p icmp -m icmp --icmp-type 8 -j ACCEPT
-A FORWARD -j DROP
";

/// What rules keep in mind: so rare that no time passes for them. No segment of TCP is
/// dropped but an INVALID one, as the kernel lets what it drops change a connection.
const LIMITS: &str = "\
:LOGDROP - [0:0]
-A FORWARD -p icmp -m limit --limit 1/hour --limit-burst 7
-A FORWARD -p udp -m udp --dport 22 -m limit --limit 2/hour --limit-burst 20 -j ACCEPT
-A FORWARD -p udp -m udp --dport 22 -j DROP
-A FORWARD -m statistic --mode nth --every 3 --packet 0
-A FORWARD -p udp -m statistic --mode nth --every 4 --packet 2 -j DROP
-A FORWARD -m length --length 60:80 -m statistic --mode nth ! --every 5 --packet 4
-A FORWARD -m statistic --mode random --probability 1
-A FORWARD -m statistic --mode random --probability 0
-A FORWARD -m conntrack --ctstate INVALID -j LOGDROP
-A LOGDROP -m limit --limit 3/hour --limit-burst 10
-A LOGDROP -j DROP
";

/// What changes packets and marks, and what looks at them then. No TTL ends here, as the
/// kernel refuses such a packet before FORWARD.
const MANGLE: &str = "\
:MARKED - [0:0]
-A PREROUTING -p udp -m udp --dport 53 -j MARK --set-xmark 0x5/0xff
-A PREROUTING -p tcp -j MARK --set-xmark 0x100/0x100
-A PREROUTING -p tcp -m tcp --dport 80 -j MARK --set-xmark 0x101/0x0
-A PREROUTING -m mark --mark 0x5
-A PREROUTING -m mark ! --mark 0x0/0x100
-A PREROUTING -m ttl --ttl-eq 64 -j TTL --ttl-dec 2
-A PREROUTING -m ttl --ttl-eq 7 -j TTL --ttl-set 40
-A PREROUTING -m ttl --ttl-eq 3 -j TTL --ttl-inc 3
-A PREROUTING -m ttl --ttl-eq 6
-A PREROUTING -m tos --tos 0x10/0xff -j TOS --set-tos 0x20/0xe0
-A PREROUTING -m dscp --dscp 0x0c
-A PREROUTING -m connmark --mark 0x22
-A FORWARD -m ttl --ttl-gt 60
-A FORWARD -m mark --mark 0x100/0x1ff
-A FORWARD -p tcp -m tcp --tcp-flags SYN,RST,ACK SYN -m tcpmss --mss 536 -j TCPMSS --set-mss 500
-A FORWARD -p tcp -m tcp --tcp-flags SYN,RST,ACK SYN -j TCPMSS --set-mss 1200
-A FORWARD -p tcp -m tcpmss --mss 1200
-A FORWARD -p tcp -m tcp --tcp-flags SYN,RST SYN -m tcpmss --mss 500:536
-A FORWARD -m length --length 44
-A FORWARD -p tcp -m tcp --tcp-option 2
-A FORWARD -p tcp -m tcp --tcp-flags SYN,ACK SYN,ACK -j TCPMSS --clamp-mss-to-pmtu
-A FORWARD -p tcp -m tcp --tcp-flags SYN,ACK SYN,ACK -m tcpmss --mss 1460
-A FORWARD -p tcp -m conntrack --ctstate NEW -m tcp --dport 22 -j CONNMARK --set-xmark 0x22/0xffffffff
-A FORWARD -m mark --mark 0x5 -j CONNMARK --save-mark --nfmask 0xff --ctmask 0xff
-A FORWARD -m connmark --mark 0x22
-A FORWARD -m connmark ! --mark 0x22/0xff
-A FORWARD -m connmark --mark 0x5/0xf -j MARKED
-A FORWARD -j CONNMARK --restore-mark --nfmask 0xff --ctmask 0xff
-A FORWARD -m mark --mark 0x22/0xff
-A POSTROUTING -m mark --mark 0x22/0xff -j TTL --ttl-set 65
-A POSTROUTING -m mark --mark 0x5/0xff -j DSCP --set-dscp 0x2e
-A POSTROUTING -m dscp --dscp-class EF
-A POSTROUTING -m ttl --ttl-eq 61 -j TTL --ttl-inc 200
-A POSTROUTING -m ttl --ttl-eq 255
-A POSTROUTING -m ttl --ttl-lt 5 -j TTL --ttl-set 255
-A POSTROUTING -p icmp -j TOS --set-tos 0x04/0x00
-A MARKED -m tos --tos 0x08 -j RETURN
-A MARKED -j TOS --set-tos 0x02/0x02
*filter
-A FORWARD -m conntrack --ctstate INVALID -j DROP
-A FORWARD -m mark --mark 0x5/0xff
-A FORWARD -m connmark --mark 0x22
-A FORWARD -m ttl --ttl-eq 39
-A FORWARD -p udp -m udp --dport 22 -m dscp --dscp 0x2e -j DROP
-A FORWARD -p udp -m udp --dport 80 -j DROP
-A FORWARD -p udp -m connmark --mark 0x0 -j CONNMARK --set-xmark 0x7/0xffffffff
-A FORWARD -p udp -m connmark --mark 0x7 -j MARK --set-xmark 0x70/0xffffffff
-A FORWARD -m mark --mark 0x70
";

/// Sets of every type, and with all that they keep.
const SETS: &str = "\
create ip hash:ip counters
add ip 198.18.0.1
add ip 198.18.0.3
create masked hash:ip netmask 31
add masked 198.18.0.2
create net hash:net counters
add net 198.18.0.0/24
add net 198.18.0.2 nomatch
add net 198.19.0.0/16
add net 198.19.0.0/30 nomatch
add net 198.19.0.2/31
create ipport hash:ip,port counters
add ipport 198.19.0.1,tcp:22
add ipport 198.19.0.2,udp:53
add ipport 198.18.0.2,icmp:8/0
create netport hash:net,port
add netport 198.19.0.0/30,tcp:80
add netport 198.19.0.1,tcp:80 nomatch
add netport 198.18.0.0/31,udp:40000
create ports bitmap:port range 20-1024
add ports 22
add ports 53
create six hash:net family inet6
add six 2001:db8::/32
create list list:set counters
add list ip
add list net
create seen hash:ip,port counters
create seennet hash:net counters
create gone hash:ip
add gone 198.18.0.1
add gone 198.18.0.2
";

const ASKING_SETS: &str = "\
-A FORWARD -m set --match-set ip src
-A FORWARD -m set ! --match-set ip src
-A FORWARD -m set --match-set ip src,dst
-A FORWARD -m set --match-set masked src
-A FORWARD -m set --match-set masked dst
-A FORWARD -m set --match-set net src
-A FORWARD -m set ! --match-set net dst
-A FORWARD -m set --match-set net src --return-nomatch
-A FORWARD -m set ! --match-set net dst --return-nomatch
-A FORWARD -m set --match-set ipport dst,dst
-A FORWARD -m set --match-set ipport src,dst
-A FORWARD -m set ! --match-set ipport dst,dst
-A FORWARD -m set --match-set ipport dst
-A FORWARD -m set --match-set netport dst,dst
-A FORWARD -m set --match-set netport src,src
-A FORWARD -m set --match-set netport dst,dst --return-nomatch
-A FORWARD -m set --match-set ports dst
-A FORWARD -m set ! --match-set ports src
-A FORWARD -m set --match-set list src
-A FORWARD -m set ! --match-set list src ! --update-counters
-A FORWARD -m set --match-set list src ! --update-subcounters
-A FORWARD -m set --match-set ip src --packets-gt 100
-A FORWARD -m set --match-set ip src ! --update-counters --packets-lt 500
-A FORWARD -m set --match-set net src ! --packets-eq 7 --bytes-gt 1000
-A FORWARD -m set --match-set net src --bytes-lt 9000 ! --update-counters
-A FORWARD -m set --match-set list src --packets-gt 50
-A FORWARD -j SET --add-set seen src,dst
-A FORWARD -p udp -j SET --add-set seennet src
-A FORWARD -p icmp -j SET --add-set seen dst,dst --exist
-A FORWARD -p udp -j SET --del-set gone src
-A FORWARD -m set --match-set gone src -j DROP
-A FORWARD -m set --match-set seen src,dst --packets-gt 40 -j DROP
";

/// Lists of addresses, shared by rules that ask for this and that.
const LISTS: &str = "\
:KNOWN - [0:0]
-A FORWARD -p icmp -m recent --set --name ping
-A FORWARD -m recent --rcheck --name ping
-A FORWARD -m recent ! --rcheck --name ping --hitcount 7
-A FORWARD -m recent --rcheck --seconds 3600 --hitcount 4 --name ping --rdest
-A FORWARD -p udp -m udp --dport 22 -m recent --remove --name ping
-A FORWARD -p udp -m udp --dport 53 -m recent --set --name net --mask 255.255.255.254
-A FORWARD -m recent --rcheck --name net --mask 255.255.255.254 --rsource -j KNOWN
-A FORWARD -m recent --rcheck --name net --mask 255.255.255.254 --rdest
-A FORWARD -p udp -m length --length 60:90 -m recent --update --seconds 3600 --reap --hitcount 20 --name net --mask 255.255.255.254
-A FORWARD -p udp -m udp --dport 80 -m recent ! --remove --name net --mask 255.255.255.254
-A FORWARD -p udp -m recent --set
-A FORWARD -p udp -m recent --rcheck --rttl --hitcount 3
-A FORWARD -p udp -m recent ! --update --rttl --seconds 3600 --name ping
-A FORWARD -m recent --rcheck --seconds 3600 --hitcount 200
-A KNOWN -m recent --rcheck --hitcount 40 --name net --mask 255.255.255.254
-A KNOWN -p udp -m statistic --mode nth --every 2 --packet 0 -j DROP
";

/// Buckets for each, so rarely filled that no time passes for them. Segments of TCP are
/// counted and not dropped, as above.
const BUCKETS: &str = "\
-A FORWARD -m conntrack --ctstate INVALID -j DROP
-A FORWARD -p udp -m hashlimit --hashlimit-upto 10/hour --hashlimit-burst 40 --hashlimit-mode srcip --hashlimit-name a -j ACCEPT
-A FORWARD -p udp -m hashlimit --hashlimit-above 9/hour --hashlimit-burst 9 --hashlimit-mode srcip,dstip,dstport --hashlimit-name b -j DROP
-A FORWARD -m hashlimit --hashlimit-upto 12/hour --hashlimit-burst 50 --hashlimit-mode dstip --hashlimit-dstmask 31 --hashlimit-name c
-A FORWARD -m hashlimit ! --hashlimit-upto 12/hour --hashlimit-burst 10 --hashlimit-mode srcip,srcport --hashlimit-srcmask 30 --hashlimit-name d
-A FORWARD -p icmp -m hashlimit --hashlimit-upto 10/hour --hashlimit-burst 30 --hashlimit-mode dstport --hashlimit-name e
-A FORWARD -m hashlimit --hashlimit-above 10/hour --hashlimit-burst 100 --hashlimit-name f
";

/// What a packet carries, and when.
const CONTENTS: &str = "\
-A FORWARD -m string --algo bm --hex-string |07070707| --to 60
-A FORWARD -m string --algo kmp --hex-string |0707| --from 29 --to 31
-A FORWARD -m string --algo bm ! --hex-string |0035|
-A FORWARD -m string --algo kmp --hex-string |000000| --from 40
-A FORWARD -m string --algo bm --string E --icase --to 4
-A FORWARD -m string --algo kmp --string e --icase
-A FORWARD -p icmp -m string --algo bm --hex-string |0800| -j DROP
-A FORWARD -m time --timestart 00:00 --timestop 23:59:59
-A FORWARD -m time --datestart 2020-01-01 --weekdays 1,2,3,4,5,6,7
-A FORWARD -m time --datestop 2020-01-01
-A FORWARD -m time --monthdays 1,3,5,7,9,11,13,15,17,19,21,23,25,27,29,31
-A FORWARD -m time --weekdays Sa,Su --kerneltz
-A FORWARD -j NFLOG --nflog-prefix x --nflog-group 3
";

fn number<T: std::str::FromStr>(name: &str, default: T) -> T {
    env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn agree(hook: Hook, rules: &str) -> Result<()> {
    let sites = Sites::new()?;
    let packets = number("FIREWALL_RULING_PACKETS", PACKETS);
    let seed = number("FIREWALL_RULING_SEED", 1);
    let found = ruling::compare(&sites, hook, rules, packets, seed)?;
    let is_same = found.counters.is_empty() && found.fates.is_empty() && found.bytes.is_empty();
    ensure!(is_same, "seed {seed}: {found:#?}");
    ensure!(found.used > 2 * found.unused, "the packets meet too few rules: {found:?}");
    Ok(())
}

/// Sets hold the same in the end, too.
fn agree_on_sets(hook: Hook) -> Result<()> {
    let sites = Sites::new()?;
    let packets = number("FIREWALL_RULING_PACKETS", PACKETS);
    let seed = number("FIREWALL_RULING_SEED", 1);
    let found = ruling::compare_with_sets(&sites, hook, SETS, ASKING_SETS, packets, seed)?;
    let is_same = found.counters.is_empty() && found.fates.is_empty() && found.elements.is_empty();
    ensure!(is_same, "seed {seed}: {found:#?}");
    ensure!(found.used > 2 * found.unused, "the packets meet too few rules: {found:?}");
    Ok(())
}

macro_rules! judged_as_iptables_does {
    ($($module:ident, $hook:expr;)*) => {$(
        mod $module {
            use super::*;

            #[test]
            fn headers_are_judged_as_iptables_does() {
                needs!(capability::firewall(), capability::oracle(), capability::program("iptables-restore"));
                agree($hook, HEADERS).unwrap();
            }

            #[test]
            fn connections_are_judged_as_iptables_does() {
                needs!(capability::firewall(), capability::oracle(), capability::program("iptables-restore"));
                agree($hook, CONNECTIONS).unwrap();
            }

            #[test]
            fn packets_and_marks_are_changed_as_iptables_does() {
                needs!(capability::firewall(), capability::oracle(), capability::program("iptables-restore"));
                agree($hook, MANGLE).unwrap();
            }

            #[test]
            fn sets_are_asked_and_changed_as_iptables_does() {
                needs!(capability::firewall(), capability::oracle(), capability::program("ipset"));
                agree_on_sets($hook).unwrap();
            }

            #[test]
            fn lists_are_kept_as_iptables_does() {
                needs!(capability::firewall(), capability::oracle(), capability::program("iptables-restore"));
                agree($hook, LISTS).unwrap();
            }

            #[test]
            fn buckets_are_kept_as_iptables_does() {
                needs!(capability::firewall(), capability::oracle(), capability::program("iptables-restore"));
                agree($hook, BUCKETS).unwrap();
            }

            #[test]
            fn contents_and_times_are_judged_as_iptables_does() {
                needs!(capability::firewall(), capability::oracle(), capability::program("iptables-restore"));
                agree($hook, CONTENTS).unwrap();
            }

            #[test]
            fn limits_are_kept_as_iptables_does() {
                needs!(capability::firewall(), capability::oracle(), capability::program("iptables-restore"));
                agree($hook, LIMITS).unwrap();
            }
        }
    )*};
}

judged_as_iptables_does! {
    native_xdp, Hook::Xdp;
    generic_xdp, Hook::XdpGeneric;
    tc, Hook::Tc;
}

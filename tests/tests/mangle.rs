//! What table mangle changes is seen where it matters: by the routing table, by the stack of
//! whoever receives it, and by the answers of a connection.

use std::{
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use firewall_tests::{
    Family, Firewall, Gateway, Netns, Offload, capability,
    exchange::{PORT, connect, exchange, serve},
    firewall::Setup,
    needs,
};

const HOOKS: [&str; 3] = ["xdp", "xdp-generic", "tc"];

fn start<'a>(network: &'a Gateway, hook: &str, mangle: &str, filter: &str) -> Result<Firewall<'a>> {
    let rules = format!(
        "*mangle\n{mangle}COMMIT\n*filter\n:INPUT ACCEPT [0:0]\n:FORWARD DROP [0:0]\n\
         :OUTPUT ACCEPT [0:0]\n{filter}COMMIT\n"
    );
    let setup = Setup::on(&["eth0", "eth1"]).option("--hook").option(hook);
    setup.both(&rules).start(network.gateway())
}

/// A network behind the server that only packets with mark 5 find.
fn with_policy_routing() -> Result<Gateway> {
    let network = Gateway::new(Offload::Tuned)?;
    network.server.ip("address add 203.0.113.2/32 dev lo")?;
    network.server.ip("-6 address add 2001:db8:9::2/128 dev lo")?;
    let gateway = network.gateway();
    gateway.ip("rule add fwmark 5 lookup 100")?;
    gateway.ip("-6 rule add fwmark 5 lookup 100")?;
    gateway.ip("route add 203.0.113.0/24 via 198.51.100.2 table 100")?;
    gateway.ip("-6 route add 2001:db8:9::/64 via 2001:db8:2::2 table 100")?;
    Ok(network)
}

/// The addresses in that network.
const HIDDEN: [&str; 2] = ["203.0.113.2", "2001:db8:9::2"];

/// Bytes both ways over a connection to the hidden network.
fn reaches(netns: &Netns, hidden: &str) -> Result<()> {
    let to = SocketAddr::new(hidden.parse()?, PORT);
    exchange(&connect(netns, to)?, 20_000, 20_000)
}

mod a_mark {
    use super::*;

    const FILTER: &str =
        "-A FORWARD -i eth1 -o eth0 -j ACCEPT\n-A FORWARD -i eth0 -o eth1 -j ACCEPT\n";

    #[test]
    fn of_prerouting_leads_a_forwarded_packet_its_way() {
        needs!(capability::firewall());
        for hook in HOOKS {
            forwarded(hook).with_context(|| hook).unwrap();
        }
    }

    fn forwarded(hook: &str) -> Result<()> {
        let network = with_policy_routing()?;
        serve(&network.server)?;
        let mangle = "-A PREROUTING -i eth0 -j MARK --set-mark 5\n";
        {
            let firewall = start(&network, hook, mangle, FILTER)?;
            for hidden in HIDDEN {
                reaches(&network.client, hidden)?;
            }
            let rules = firewall.text(&["save", "-c"])?;
            ensure!(rules.contains(":INPUT ACCEPT [0:0]\n:FORWARD DROP [0:0]"), "{rules}");
        }
        let _firewall = start(&network, hook, &mangle.replace('5', "6"), FILTER)?;
        for hidden in HIDDEN {
            ensure!(reaches(&network.client, hidden).is_err(), "{hidden} is reached by mark 6");
        }
        Ok(())
    }

    #[test]
    fn stays_with_a_segment_that_a_helper_reads() {
        needs!(capability::firewall());
        for hook in HOOKS {
            held(hook).with_context(|| hook).unwrap();
        }
    }

    fn held(hook: &str) -> Result<()> {
        let network = with_policy_routing()?;
        serve(&network.server)?;
        let rules = format!(
            "*mangle\n-A PREROUTING -i eth0 -j MARK --set-mark 5\nCOMMIT\n*filter\n\
             :FORWARD DROP [0:0]\n{FILTER}COMMIT\n"
        );
        let setup = Setup::on(&["eth0", "eth1"]).option("--hook").option(hook);
        let setup = setup.option(&format!("--ftp-ports={PORT}")).both(&rules);
        let firewall = setup.start(network.gateway())?;
        for hidden in HIDDEN {
            reaches(&network.client, hidden)?;
        }
        ensure!(firewall.stat("punted")? > 0, "no segment was held");
        Ok(())
    }

    #[test]
    fn leads_every_fragment_of_a_datagram_its_way() {
        needs!(capability::firewall());
        for hook in HOOKS {
            fragmented(hook).with_context(|| hook).unwrap();
        }
    }

    fn fragmented(hook: &str) -> Result<()> {
        const PORT: u16 = 9_000;
        let network = with_policy_routing()?;
        let mangle = "\
-A PREROUTING -i eth0 -p udp --dport 9000 -j MARK --set-mark 5
-A PREROUTING -i eth0 -p udp -j DSCP --set-dscp-class EF
";
        let _firewall = start(&network, hook, mangle, FILTER)?;
        for hidden in HIDDEN {
            let to = SocketAddr::new(hidden.parse()?, PORT);
            let from = SocketAddr::new(if to.is_ipv4() { "0.0.0.0" } else { "::" }.parse()?, 0);
            let server = network.server.enter(|| UdpSocket::bind(to))?;
            server.set_read_timeout(Some(Duration::from_secs(10)))?;
            let client = network.client.enter(|| UdpSocket::bind(from))?;
            let datagram: Vec<u8> = (0..4_000).map(|at: u32| at as u8).collect();
            client.send_to(&datagram, to)?;
            let mut read = vec![0; 8_000];
            let (count, _) = server.recv_from(&mut read).context("no datagram came")?;
            ensure!(read[..count] == datagram, "{hidden}: the datagram arrived changed");
        }
        Ok(())
    }

    #[test]
    fn leads_no_packet_for_many_away_from_the_host() {
        needs!(capability::firewall());
        for hook in HOOKS {
            for_many(hook).with_context(|| hook).unwrap();
        }
    }

    fn for_many(hook: &str) -> Result<()> {
        const GROUP: Ipv4Addr = Ipv4Addr::new(239, 255, 255, 250);
        /// The gateway's address towards the client.
        const OWN: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
        const PORT: u16 = 9_000;
        let network = with_policy_routing()?;
        network.gateway().ip("route add default via 198.51.100.2 table 100")?;
        network.client.ip("route add 239.0.0.0/8 dev eth0")?;
        let rules = "\
*mangle
-A PREROUTING -p udp --dport 9000 -j MARK --set-mark 5
COMMIT
*filter
-A INPUT -d 239.255.255.250 -j ACCEPT
COMMIT
";
        let setup = Setup::on(&["eth0", "eth1"]).option("--hook").option(hook).rules(rules);
        let firewall = setup.start(network.gateway())?;
        let member = network.gateway().enter(|| {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, PORT))?;
            socket.join_multicast_v4(&GROUP, &OWN)?;
            socket.set_read_timeout(Some(Duration::from_secs(10))).map(|()| socket)
        })?;
        let client = network.client.enter(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)))?;
        client.send_to(b"to all of you", (GROUP, PORT))?;
        let mut read = [0; 64];
        let (count, _) = member.recv_from(&mut read).context("no datagram came")?;
        ensure!(&read[..count] == b"to all of you");
        let rules = firewall.text(&["save", "-c"])?;
        ensure!(rules.contains("[1:41] -A INPUT -d 239.255.255.250/32 -j ACCEPT"), "{rules}");
        Ok(())
    }

    #[test]
    fn of_output_leads_a_packet_of_the_host_its_way() {
        needs!(capability::firewall());
        for hook in HOOKS {
            sent(hook).with_context(|| hook).unwrap();
        }
    }

    fn sent(hook: &str) -> Result<()> {
        let network = with_policy_routing()?;
        serve(&network.server)?;
        // The way without a mark leads to the client, which knows nothing of it.
        network.gateway().ip("route add 203.0.113.0/24 via 192.0.2.2 src 198.51.100.1")?;
        network.gateway().ip("-6 route add 2001:db8:9::/64 via 2001:db8:1::2 src 2001:db8:2::1")?;
        let mangle = "-A OUTPUT -p tcp -j MARK --set-mark 5\n";
        let filter = "-P OUTPUT DROP\n-A OUTPUT -o eth1 -j ACCEPT\n-A OUTPUT ! -p tcp -j ACCEPT\n";
        let _firewall = start(&network, hook, mangle, filter)?;
        for hidden in HIDDEN {
            reaches(network.gateway(), hidden)?;
        }
        Ok(())
    }

    #[test]
    fn is_saved_and_comes_back_with_the_answers() {
        needs!(capability::firewall());
        for hook in HOOKS {
            saved(hook).with_context(|| hook).unwrap();
        }
    }

    fn saved(hook: &str) -> Result<()> {
        let network = Gateway::new(Offload::Tuned)?;
        serve(&network.server)?;
        let mangle = "\
-A PREROUTING -j CONNMARK --restore-mark
-A PREROUTING -i eth0 -p tcp -m conntrack --ctstate NEW -m mark --mark 0 -j MARK --set-mark 0x17
-A POSTROUTING -o eth0 -p tcp -m mark --mark 0x17
-A POSTROUTING -p tcp -j CONNMARK --save-mark
";
        let firewall = start(&network, hook, mangle, FILTER)?;
        for family in [Family::V4, Family::V6] {
            let to = SocketAddr::new(network.server_address(family), PORT);
            exchange(&connect(&network.client, to)?, 20_000, 20_000)?;
            let known = firewall.text(&["conntrack", "list", "-p", "tcp", "-m", "0x17"])?;
            ensure!(known.contains("mark=23"), "{family:?}: {known}");
            let option = if family == Family::V6 {
                vec!["save", "-c", "--ipv6"]
            } else {
                vec!["save", "-c"]
            };
            let text = firewall.text(&option)?;
            let answers = text.lines().find(|line| line.contains("-o eth0")).context("the rule")?;
            ensure!(!answers.starts_with("[0:"), "{family:?}: {text}");
        }
        Ok(())
    }
}

mod a_segment_size {
    use super::*;

    #[test]
    fn is_clamped_to_the_narrow_link_of_the_way() {
        needs!(capability::firewall(), capability::program("iptables"));
        for hook in HOOKS {
            clamped(hook).with_context(|| hook).unwrap();
        }
    }

    fn clamped(hook: &str) -> Result<()> {
        let network = Gateway::new(Offload::Tuned)?;
        network.gateway().ip("link set eth1 mtu 1492")?;
        serve(&network.server)?;
        for program in ["iptables", "ip6tables"] {
            for size in [1_452, 1_432] {
                network.server.run(&format!(
                    "{program} -A INPUT -p tcp --syn -m tcpmss --mss {size} -j ACCEPT"
                ))?;
            }
        }
        let mangle = "-A FORWARD -p tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu\n";
        let _firewall = start(&network, hook, mangle, "-A FORWARD -j ACCEPT\n")?;
        for (family, program, size) in
            [(Family::V4, "iptables", 1_452), (Family::V6, "ip6tables", 1_432)]
        {
            let to = SocketAddr::new(network.server_address(family), PORT);
            exchange(&connect(&network.client, to)?, 300_000, 300_000)?;
            let counters = network.server.run(&format!("{program}-save -c"))?;
            let rule = counters.lines().find(|line| line.contains(&format!("--mss {size}")));
            let rule = rule.context("the server's rule")?;
            ensure!(rule.starts_with("[1:"), "{hook}, {family:?}: {counters}");
        }
        Ok(())
    }
}

mod a_ttl {
    use super::*;

    #[test]
    fn is_what_postrouting_says_on_every_packet_that_leaves() {
        needs!(capability::firewall(), capability::program("iptables"));
        for hook in HOOKS {
            set(hook).with_context(|| hook).unwrap();
        }
    }

    fn set(hook: &str) -> Result<()> {
        let network = Gateway::new(Offload::Tuned)?;
        serve(&network.server)?;
        network.server.run("iptables -A INPUT -p tcp -m ttl --ttl-eq 65")?;
        network.server.run("iptables -A INPUT -p tcp -m ttl ! --ttl-eq 65")?;
        let rules = "*mangle\n-A POSTROUTING -o eth1 -j TTL --ttl-set 65\nCOMMIT\n";
        let setup = Setup::on(&["eth0", "eth1"]).option("--hook").option(hook).rules(rules);
        let firewall = setup.start(network.gateway())?;
        let to = SocketAddr::new(network.server_address(Family::V4), PORT);
        for netns in [&network.client, network.gateway()] {
            exchange(&connect(netns, to)?, 100_000, 1_000)?;
        }
        let counters = network.server.run("iptables-save -c")?;
        let others = counters.lines().find(|line| line.contains("! --ttl-eq")).context("a rule")?;
        let set = counters.lines().find(|line| line.ends_with("-m ttl --ttl-eq 65"));
        ensure!(others.starts_with("[0:0]"), "{counters}");
        ensure!(set.is_some_and(|line| !line.starts_with("[0:")), "{counters}");
        ensure!(hook == "tc" || firewall.stat("forward-fast")? > 0, "nothing was redirected");
        Ok(())
    }
}

mod a_rule {
    use super::*;

    #[test]
    fn is_added_under_the_old_name_and_shown_everywhere() {
        needs!(capability::firewall());
        shown().unwrap();
    }

    fn shown() -> Result<()> {
        let network = Gateway::new(Offload::Tuned)?;
        let firewall = Setup::on(&["eth0", "eth1"]).start(network.gateway())?;
        let iptables = |line: &str| {
            firewall.text(
                &[&["iptables", "-t", "mangle"], &line.split(' ').collect::<Vec<_>>()[..]].concat(),
            )
        };
        iptables("-A PREROUTING -i eth0 -p tcp --dport 80 -j MARK --set-mark 5")?;
        iptables("-A FORWARD -p tcp --syn -j TCPMSS --clamp-mss-to-pmtu")?;
        let rule =
            "-A PREROUTING -i eth0 -p tcp -m tcp --dport 80 -j MARK --set-xmark 0x5/0xffffffff";
        ensure!(iptables("-S PREROUTING")?.contains(rule));
        ensure!(firewall.text(&["save"])?.contains(rule));
        ensure!(firewall.text(&["rules"])?.contains("MARK set 0x5"));
        let lines = firewall.json(&["rules"])?;
        let line = lines.iter().find(|line| line["target"] == "TCPMSS").context("a line")?;
        ensure!(line["table"] == "mangle" && line["chain"] == "FORWARD", "{line}");
        let to = network.server_address(Family::V4).to_string();
        let from = network.client_address(Family::V4).to_string();
        let asked = firewall.text(&[
            "explain", "-i", "eth0", "-p", "tcp", "-s", &from, "-d", &to, "--sport", "40000",
            "--dport", "80", "--syn",
        ])?;
        for told in ["mangle PREROUTING 1", "mangle FORWARD 1", "ACCEPT"] {
            ensure!(asked.contains(told), "{asked}");
        }
        iptables("-D PREROUTING 1")?;
        ensure!(!firewall.text(&["save"])?.contains("MARK"));
        Ok(())
    }
}

//! Rules that keep something in mind by address: lists, buckets, counts of connections.
//! Real connections meet them, and people look at what is kept and change it.

use std::net::{SocketAddr, TcpListener, TcpStream};

use anyhow::{Context as _, Result, ensure};
use firewall_tests::{
    Family, Firewall, Gateway, Offload, capability, exchange, firewall::Setup, needs, wait,
};

const PORT: u16 = 80;

struct Bench {
    network: Gateway,
    listener: TcpListener,
    to: SocketAddr,
}

impl Bench {
    fn new() -> Result<Self> {
        let network = Gateway::new(Offload::Tuned)?;
        let to = SocketAddr::new(network.server_address(Family::V4), PORT);
        let listener = network.server.enter(|| TcpListener::bind(to))?;
        Ok(Self { network, listener, to })
    }

    fn firewall(&self, rules: &str) -> Result<Firewall<'_>> {
        Setup::on(&["eth0", "eth1"]).rules(rules).start(self.network.gateway())
    }

    /// A connection, with the server's end of it; an error when it is refused.
    fn connect(&self) -> Result<[TcpStream; 2]> {
        let client = exchange::connect(&self.network.client, self.to)?;
        let (server, _) = self.listener.accept()?;
        Ok([client, server])
    }

    fn is_refused(&self) -> bool {
        self.connect().is_err()
    }
}

fn rules(lines: &str) -> String {
    format!(
        "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n{lines}COMMIT\n"
    )
}

/// Ends a connection from the client's side, so that it is closed everywhere.
fn close([client, server]: [TcpStream; 2]) {
    drop(client);
    drop(server);
}

mod connlimit {
    use super::*;

    const RULES: &str = "-A FORWARD -p tcp --dport 80 --syn -m connlimit --connlimit-above 2 \
        -j REJECT --reject-with tcp-reset\n";

    #[test]
    fn a_host_has_as_many_connections_as_it_may_and_another_when_one_has_ended() {
        needs!(capability::firewall());
        at_most_two().unwrap();
    }

    fn at_most_two() -> Result<()> {
        let bench = Bench::new()?;
        let firewall = bench.firewall(&rules(RULES))?;
        let (first, _second) = (bench.connect()?, bench.connect()?);
        ensure!(bench.is_refused(), "a third connection");
        let asked = ["explain", "-i", "eth0", "-p", "tcp", "--syn", "-s", "192.0.2.2", "-d"];
        let asked = [&asked[..], &["198.51.100.2", "--sport", "9", "--dport", "80"]].concat();
        let told = firewall.text(&asked)?;
        ensure!(told.contains("REJECT"), "{told}");
        close(first);
        wait::until_true("a place to be free", || !bench.is_refused())?;
        Ok(())
    }
}

mod recent {
    use super::*;

    const RULES: &str = "\
-A FORWARD -p tcp --dport 80 --syn -m recent --update --seconds 3600 --hitcount 3 --name web \
-j REJECT --reject-with tcp-reset
-A FORWARD -p tcp --dport 80 --syn -m recent --set --name web
";

    #[test]
    fn who_has_come_too_often_is_refused_until_somebody_forgives() {
        needs!(capability::firewall());
        three_times().unwrap();
    }

    fn three_times() -> Result<()> {
        let bench = Bench::new()?;
        let firewall = bench.firewall(&rules(RULES))?;
        for _ in 0..3 {
            bench.connect()?;
        }
        ensure!(bench.is_refused(), "the fourth time");
        ensure!(firewall.text(&["recent"])?.trim() == "web 1", "one entry in one list");
        let listed = firewall.text(&["recent", "web"])?;
        ensure!(listed.starts_with("src=192.0.2.2 ttl: 64 last_seen: "), "{listed}");
        let entry = firewall.json(&["recent", "web"])?.pop().context("an entry")?;
        ensure!(entry["count"] == 4 && entry["seen"].as_array().is_some_and(|s| s.len() == 4));
        // Other rules around it do not forget it.
        firewall.apply(&rules(&format!("-A FORWARD -p udp -j DROP\n{RULES}")))?;
        ensure!(bench.is_refused(), "after new rules");
        let told = firewall.text(&[
            "explain",
            "-i",
            "eth0",
            "-p",
            "tcp",
            "--syn",
            "-s",
            "192.0.2.2",
            "-d",
            "198.51.100.2",
            "--sport",
            "9",
            "--dport",
            "80",
        ])?;
        ensure!(told.contains("REJECT"), "{told}");
        firewall.text(&["recent", "web", "-192.0.2.2"])?;
        ensure!(!bench.is_refused(), "forgiven");
        firewall.text(&["recent", "web", "+2001:db8::7"])?;
        ensure!(firewall.text(&["recent", "web"])?.contains("2001:0db8:"), "put in by hand");
        firewall.text(&["recent", "web", "/"])?;
        ensure!(firewall.text(&["recent"])?.trim() == "web 0", "emptied");
        Ok(())
    }

    #[test]
    fn a_list_that_no_rule_names_is_gone_and_asking_for_it_tells_which_there_are() {
        needs!(capability::firewall());
        gone().unwrap();
    }

    fn gone() -> Result<()> {
        let bench = Bench::new()?;
        let firewall = bench.firewall(&rules(RULES))?;
        bench.connect()?;
        firewall.apply(&rules("-A FORWARD -m recent --set --name other\n"))?;
        let refused = firewall.cli(&["recent", "web"])?;
        ensure!(refused.stderr.contains("there is no list 'web': the rules name other"));
        firewall.apply(&rules(RULES))?;
        ensure!(firewall.text(&["recent"])?.trim() == "web 0", "it begins anew");
        Ok(())
    }
}

mod hashlimit {
    use super::*;

    const RULES: &str = "\
-A FORWARD -p tcp --dport 80 --syn -m hashlimit --hashlimit-upto 1/hour --hashlimit-burst 2 \
--hashlimit-mode srcip --hashlimit-name web -j ACCEPT
-A FORWARD -p tcp --dport 80 --syn -j REJECT --reject-with tcp-reset
";

    #[test]
    fn each_host_has_its_burst_and_new_rules_do_not_fill_it_again() {
        needs!(capability::firewall());
        burst().unwrap();
    }

    fn burst() -> Result<()> {
        let bench = Bench::new()?;
        let firewall = bench.firewall(&rules(RULES))?;
        bench.connect()?;
        bench.connect()?;
        ensure!(bench.is_refused(), "the burst is used up");
        firewall.apply(&rules(&format!("-A FORWARD -p udp -j DROP\n{RULES}")))?;
        ensure!(bench.is_refused(), "after new rules");
        bench.network.client.ip("address add 192.0.2.8/24 dev eth0")?;
        let other = bench.network.client.enter(|| {
            firewall_tests::server::own::connect_from("192.0.2.8:0".parse()?, bench.to)
                .map_err(anyhow::Error::from)
        });
        ensure!(other.is_ok(), "another host has its own");
        Ok(())
    }
}

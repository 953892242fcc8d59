//! What flows remember of their route: a new one is taken at once on the daemon's news, and
//! within a second without a daemon.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use bytemuck::Zeroable as _;
use firewall_common::{
    flow::{FlowKey, Tuple, protocol},
    hop::{NOWHERE, Way},
};
use firewall_tests::{
    Family, Firewall, Gateway, Netns, Offload, capability,
    firewall::Setup,
    needs,
    packet::{Packet, Segment, flag},
    wait,
    wire::{End, Wire, Wires},
};
use firewall_user::kernel::{
    maps::{Maps, now},
    pins::Pins,
};

const RULES: &str = "\
*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
-A FORWARD -p tcp -j ACCEPT
COMMIT
";

/// Behind the gateway's eth2 there is another way to the server's ghost.
const GHOSTS: [&str; 2] = ["198.51.100.77", "2001:db8:2::77"];
/// How long an answer of the routing table may be believed without news.
const A_SECOND: Duration = Duration::from_secs(1);

/// A network with two ways to the server.
struct Site {
    network: Gateway,
    wires: Wires,
    _detour: Netns,
    other: Wire,
}

impl Site {
    /// Without IPv6, so that nobody says anything of his own accord.
    fn new() -> Result<Self> {
        let site = Self::of_both_families()?;
        site.network.hush()?;
        Ok(site)
    }

    fn of_both_families() -> Result<Self> {
        let network = Gateway::new(Offload::Tuned)?;
        let gateway = network.gateway();
        let detour = Netns::new("detour")?;
        detour.connect("eth0", gateway, "eth2")?;
        detour.run("ethtool -K eth0 gro on tx off")?;
        gateway.address("eth2", "203.0.113.1/24")?;
        detour.address("eth0", "203.0.113.2/24")?;
        let other = Wire::ghost(&detour, gateway, "eth2", GHOSTS)?;
        let wires = Wires::across(&network)?;
        Ok(Self { network, wires, _detour: detour, other })
    }

    fn start(&self) -> Result<Firewall<'_>> {
        Setup::on(&["eth0", "eth1", "eth2"]).rules(RULES).start(self.network.gateway())
    }

    fn start6(&self) -> Result<Firewall<'_>> {
        Setup::on(&["eth0", "eth1", "eth2"]).rules6(RULES).start(self.network.gateway())
    }

    fn ip(&self, line: &str) -> Result<()> {
        self.network.gateway().ip(line).map(drop)
    }

    /// Leads the server's ghost by the detour.
    fn divert(&self) -> Result<()> {
        self.ip("route replace 198.51.100.77/32 dev eth2")
    }

    /// The same over IPv6, and back.
    fn divert6(&self) -> Result<()> {
        self.ip("-6 route replace 2001:db8:2::77/128 dev eth2 metric 1")
    }

    fn lead_back6(&self) -> Result<()> {
        self.ip("-6 route del 2001:db8:2::77/128 dev eth2 metric 1")
    }
}

/// One TCP connection between the ghosts; each segment of it is another one.
struct Talk<'a> {
    site: &'a Site,
    firewall: &'a Firewall<'a>,
    family: Family,
    sent: u32,
}

impl<'a> Talk<'a> {
    /// Begins a connection and goes on with it until it takes the short way.
    fn begin(site: &'a Site, firewall: &'a Firewall<'a>) -> Result<Self> {
        Self::over(Family::V4, site, firewall)
    }

    fn over(family: Family, site: &'a Site, firewall: &'a Firewall<'a>) -> Result<Self> {
        let mut talk = Self::begin_any(family, site, firewall)?;
        ensure!(talk.short(&site.wires.server)?, "the connection does not take the short way");
        Ok(talk)
    }

    /// The same, whichever way it takes.
    fn begin_any(family: Family, site: &'a Site, firewall: &'a Firewall<'a>) -> Result<Self> {
        let (client, server) = (&site.wires.client, &site.wires.server);
        let ends = [client.endpoint(family, 40_000), server.endpoint(family, 80)];
        let segment = |from: usize, flags, seq, ack| {
            let segment = Segment { flags, seq, ack, payload: Vec::new() };
            Packet::tcp(ends[from], ends[1 - from], segment)
        };
        site.wires.cross(End::Client, &segment(0, flag::SYN, 1_000, 0))?;
        site.wires.cross(End::Server, &segment(1, flag::SYN | flag::ACK, 5_000, 1_001))?;
        site.wires.cross(End::Client, &segment(0, flag::ACK, 1_001, 5_001))?;
        site.wires.cross(End::Server, &segment(1, flag::ACK, 5_001, 1_001))?;
        let mut talk = Self { site, firewall, family, sent: 0 };
        for _ in 0..3 {
            let next = talk.next();
            site.wires.cross(End::Client, &next)?;
        }
        Ok(talk)
    }

    fn next(&mut self) -> Packet {
        self.sent += 1;
        let [client, server] = [&self.site.wires.client, &self.site.wires.server];
        let segment = Segment {
            flags: flag::ACK | flag::PSH,
            seq: 1_000 + self.sent,
            ack: 5_001,
            payload: vec![b'.'],
        };
        let server = server.endpoint(self.family, 80);
        Packet::tcp(client.endpoint(self.family, 40_000), server, segment)
    }

    /// Sends a segment that must be refused.
    fn is_refused(&mut self) -> Result<()> {
        let before = self.firewall.stat("policy")?;
        let next = self.next();
        self.site.wires.client.send(&next)?;
        wait::until_true("the segment to be refused", || {
            self.firewall.stat("policy").is_ok_and(|now| now == before + 1)
        })
    }

    /// Sends a segment, which must arrive here.
    fn arrives(&mut self, at: &Wire) -> Result<()> {
        let next = self.next();
        self.site.wires.client.send(&next)?;
        at.expect(&next).map(drop)
    }

    /// Which way the flow remembers of what the client sends; the short way alone remembers any.
    fn way(&self) -> Result<Way> {
        let wires = &self.site.wires;
        let client = wires.client.endpoint(self.family, 40_000);
        let server = wires.server.endpoint(self.family, 80);
        let tuple = Tuple {
            src: client.ip().into(),
            dst: server.ip().into(),
            sport: client.port(),
            dport: server.port(),
            protocol: protocol::TCP,
            ..Tuple::zeroed()
        };
        let maps = Maps::open(&Pins::new(self.firewall.pin()))?;
        let (_, flow) = maps.flow(&FlowKey::of(&tuple).0, now())?.context("no flow")?;
        Ok(flow.sides[0].way)
    }

    /// The same; whether it took the short way.
    fn short(&mut self, at: &Wire) -> Result<bool> {
        let before = self.firewall.stat("forward-short")?;
        self.arrives(at)?;
        Ok(self.firewall.stat("forward-short")? == before + 1)
    }
}

/// Makes a change and waits until the datapath has been told that there is news.
fn told(firewall: &Firewall<'_>, change: impl FnOnce() -> Result<()>) -> Result<()> {
    let maps = Maps::open(&Pins::new(firewall.pin()))?;
    let before = maps.epoch()?;
    change()?;
    wait::until_true("news of the change", || maps.epoch().is_ok_and(|now| now != before))
}

mod with_a_daemon {
    use super::*;

    #[test]
    fn a_new_route_is_taken_at_once() {
        needs!(capability::firewall());
        new_route().unwrap();
    }

    fn new_route() -> Result<()> {
        let site = Site::new()?;
        let firewall = site.start()?;
        let mut talk = Talk::begin(&site, &firewall)?;
        for _ in 0..4 {
            told(&firewall, || site.divert())?;
            talk.arrives(&site.other).context("the new way")?;
            told(&firewall, || site.ip("route del 198.51.100.77/32 dev eth2"))?;
            talk.arrives(&site.wires.server).context("the old way again")?;
        }
        ensure!(talk.short(&site.wires.server)?, "the long way has become a habit");
        Ok(())
    }

    #[test]
    fn a_neighbour_with_another_address_gets_the_frames_at_once() {
        needs!(capability::firewall());
        new_neighbour().unwrap();
    }

    fn new_neighbour() -> Result<()> {
        let site = Site::new()?;
        let firewall = site.start()?;
        let mut talk = Talk::begin(&site, &firewall)?;
        let lladdr = "02:00:00:00:00:99";
        told(&firewall, || {
            site.ip(&format!("neigh replace 198.51.100.77 lladdr {lladdr} dev eth1 nud permanent"))
        })?;
        // What has come so far is of no interest.
        site.wires.server.frames().for_each(drop);
        let next = talk.next();
        site.wires.client.send(&next)?;
        let mut address = Vec::new();
        wait::until_true("the segment to arrive", || {
            let frame = site.wires.server.frames().next();
            address = frame.map(|frame| frame[..6].to_vec()).unwrap_or_default();
            !address.is_empty()
        })?;
        ensure!(address == [2, 0, 0, 0, 0, 0x99], "it was sent to {address:02x?}");
        Ok(())
    }

    #[test]
    fn nothing_leaves_by_a_link_that_is_down() {
        needs!(capability::firewall());
        link_down().unwrap();
    }

    fn link_down() -> Result<()> {
        let site = Site::new()?;
        let firewall = site.start()?;
        let mut talk = Talk::begin(&site, &firewall)?;
        told(&firewall, || site.ip("link set eth1 down"))?;
        let before = firewall.stat("forward-fast")?;
        let next = talk.next();
        site.wires.client.send(&next)?;
        // The other way is open, and shows that the segment before has passed the program.
        told(&firewall, || site.divert())?;
        talk.arrives(&site.other)?;
        ensure!(firewall.stat("forward-fast")? <= before + 1, "a segment was sent to nowhere");
        site.wires.server.has_not_seen(&next)
    }

    #[test]
    fn a_smaller_mtu_sends_long_packets_to_the_stack() {
        needs!(capability::firewall());
        smaller_mtu().unwrap();
    }

    fn smaller_mtu() -> Result<()> {
        let site = Site::new()?;
        let firewall = site.start()?;
        let mut talk = Talk::begin(&site, &firewall)?;
        let long = |talk: &mut Talk<'_>| {
            let mut next = talk.next();
            let firewall_tests::packet::Body::Tcp(segment) = &mut next.body else {
                unreachable!("a segment of TCP")
            };
            segment.payload = vec![b'.'; 1_000];
            talk.sent += 999;
            next
        };
        let next = long(&mut talk);
        site.wires.cross(End::Client, &next)?;
        told(&firewall, || site.ip("route replace 198.51.100.77/32 dev eth1 mtu lock 600"))?;
        let (fast, stack) = (firewall.stat("forward-fast")?, firewall.stat("forward-stack")?);
        let next = long(&mut talk);
        site.wires.client.send(&next)?;
        wait::until_true("the stack to be asked", || {
            firewall.stat("forward-stack").is_ok_and(|now| now > stack)
        })?;
        ensure!(firewall.stat("forward-fast")? == fast, "it was redirected");
        Ok(())
    }
}

mod without_a_daemon {
    use super::*;

    #[test]
    fn a_new_route_is_taken_within_a_second() {
        needs!(capability::firewall());
        new_route().unwrap();
    }

    fn new_route() -> Result<()> {
        let site = Site::new()?;
        let mut firewall = site.start()?;
        Talk::begin(&site, &firewall)?;
        firewall.kill();
        let mut talk = Talk { site: &site, firewall: &firewall, family: Family::V4, sent: 4 };
        for _ in 0..2 {
            site.divert()?;
            within_a_second(&mut talk, &site.other)?;
            site.ip("route del 198.51.100.77/32 dev eth2")?;
            within_a_second(&mut talk, &site.wires.server)?;
        }
        Ok(())
    }

    #[test]
    fn so_is_one_of_ipv6() {
        needs!(capability::firewall());
        new_route6().unwrap();
    }

    fn new_route6() -> Result<()> {
        let site = Site::of_both_families()?;
        let mut firewall = site.start6()?;
        Talk::over(Family::V6, &site, &firewall)?;
        firewall.kill();
        let family = Family::V6;
        let mut talk = Talk { site: &site, firewall: &firewall, family, sent: 4 };
        for _ in 0..2 {
            site.divert6()?;
            within_a_second(&mut talk, &site.other)?;
            site.lead_back6()?;
            within_a_second(&mut talk, &site.wires.server)?;
        }
        ensure!(talk.short(&site.wires.server)?, "the long way has become a habit");
        Ok(())
    }

    /// Segments go on all the while, so that the way is in use.
    fn within_a_second(talk: &mut Talk<'_>, to: &Wire) -> Result<()> {
        let until = Instant::now() + A_SECOND;
        while Instant::now() < until {
            let next = talk.next();
            talk.site.wires.client.send(&next)?;
            thread::sleep(Duration::from_millis(20));
        }
        talk.arrives(to)
    }

    #[test]
    fn the_short_way_goes_on() {
        needs!(capability::firewall());
        goes_on().unwrap();
    }

    fn goes_on() -> Result<()> {
        let site = Site::new()?;
        let mut firewall = site.start()?;
        Talk::begin(&site, &firewall)?;
        firewall.kill();
        let mut talk = Talk { site: &site, firewall: &firewall, family: Family::V4, sent: 4 };
        for _ in 0..3 {
            ensure!(talk.short(&site.wires.server)?, "it went the long way");
            thread::sleep(A_SECOND);
        }
        Ok(())
    }
}

mod at_tc {
    use super::*;

    /// Accepts what leaves by eth1 alone.
    const ONE_WAY: &str = "\
*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
-A FORWARD -p tcp ! -o eth2 -j ACCEPT
COMMIT
";

    #[test]
    fn what_took_the_short_way_is_judged_anew_where_it_leaves_elsewhere() {
        needs!(capability::firewall());
        judged_anew(Family::V4, Site::divert).unwrap();
    }

    #[test]
    fn so_it_is_over_ipv6() {
        needs!(capability::firewall());
        judged_anew(Family::V6, Site::divert6).unwrap();
    }

    fn judged_anew(family: Family, divert: fn(&Site) -> Result<()>) -> Result<()> {
        let site = Site::of_both_families()?;
        let setup = Setup::on(&["eth0", "eth1", "eth2"]).both(ONE_WAY).option("--hook=tc");
        let firewall = setup.start(site.network.gateway())?;
        let mut talk = Talk::begin_any(family, &site, &firewall)?;
        let way = talk.way()?;
        ensure!(way != Way::default() && way.hop() != NOWHERE, "it does not take the short way");
        let stack = firewall.stat("forward-stack")?;
        talk.arrives(&site.wires.server)?;
        ensure!(firewall.stat("forward-stack")? > stack, "the stack has not sent it on");
        told(&firewall, || divert(&site))?;
        talk.is_refused()
    }

    /// The long way asks the routing table for each packet.
    #[test]
    fn without_a_daemon_the_short_way_believes_a_route_for_a_moment() {
        needs!(capability::firewall());
        for_a_moment().unwrap();
    }

    fn for_a_moment() -> Result<()> {
        let site = Site::new()?;
        let setup = Setup::on(&["eth0", "eth1", "eth2"]).rules(ONE_WAY).option("--hook=tc");
        let mut firewall = setup.start(site.network.gateway())?;
        Talk::begin_any(Family::V4, &site, &firewall)?;
        firewall.kill();
        let mut talk = Talk { site: &site, firewall: &firewall, family: Family::V4, sent: 3 };
        // The moment may be over between two steps.
        for _ in 0..20 {
            talk.arrives(&site.wires.server)?;
            let verdicts = || -> Result<_> {
                Ok((firewall.stat("accept-forward")?, firewall.stat("policy")?))
            };
            let before = verdicts()?;
            let next = talk.next();
            site.divert()?;
            site.wires.client.send(&next)?;
            wait::until_true("a verdict", || verdicts().is_ok_and(|now| now != before))?;
            let is_accepted = verdicts()?.0 > before.0;
            site.ip("route del 198.51.100.77/32 dev eth2")?;
            if is_accepted {
                return site.other.expect(&next).map(drop);
            }
        }
        anyhow::bail!("no segment took the short way")
    }
}

mod over_ipv6 {
    use super::*;

    #[test]
    fn nothing_of_a_segment_changes_but_its_hop_limit_and_stations() {
        needs!(capability::firewall());
        unchanged().unwrap();
    }

    fn unchanged() -> Result<()> {
        const CLASS_AND_LABEL: [u8; 4] = [0x6b, 0x85, 0x12, 0x34];
        const HOP_LIMIT: usize = 21;
        let site = Site::of_both_families()?;
        let firewall = site.start6()?;
        let mut talk = Talk::over(Family::V6, &site, &firewall)?;
        let mut frame = site.wires.client.frame(&talk.next());
        frame[14..18].copy_from_slice(&CLASS_AND_LABEL);
        // What has come so far is of no interest.
        site.wires.server.frames().for_each(drop);
        let before = firewall.stat("forward-short")?;
        site.wires.client.send_frame(&frame)?;
        let mut left = Vec::new();
        wait::until_true("the segment to arrive", || {
            left = site.wires.server.frames().next().unwrap_or_default();
            !left.is_empty()
        })?;
        let mut expected = frame.clone();
        expected[..6].copy_from_slice(&site.network.server.mac("eth0")?);
        expected[6..12].copy_from_slice(&site.network.gateway().mac("eth1")?);
        expected[HOP_LIMIT] -= 1;
        ensure!(left == expected, "{left:02x?} left, not {expected:02x?}");
        ensure!(firewall.stat("forward-short")? == before + 1, "it went the long way");
        Ok(())
    }
}

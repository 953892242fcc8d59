//! What the first packet of a connection costs that an expectation admits: RELATED.

use std::net::Ipv4Addr;

use anyhow::{Context as _, Result, ensure};
use bytemuck::Zeroable as _;
use firewall_common::{
    addr::Addr,
    expectation::{Expectation, ExpectationKey},
    flow::{FlowKey, Tuple, helper, protocol},
    time::Nanos,
};
use firewall_tests::Firewall;
use firewall_user::kernel::{
    maps::{Expectations, Maps, now},
    pins::Pins,
};

use crate::{
    established::{Established, action},
    peers::{Peers, Target},
    program::{self, Case},
    report::Report,
    traffic::{Kind, SERVED, SERVER, client},
};

/// Expectations in a round: the table holds them, each for one packet.
const COUNT: u32 = 10_000;
const NAME: &str = "RELATED by expectation";

/// Announces connections of the server's to the clients, as active FTP does, and lets them
/// begin.
pub fn measure(
    report: &mut Report,
    rounds: usize,
    peers: &mut Peers,
    bench: &Established<'_>,
    firewall: &Firewall<'_>,
) -> Result<()> {
    let maps = Maps::open(&Pins::new(firewall.pin()))?;
    let mut expectations = Expectations::open(&maps)?;
    let (master, created) = master(&maps)?;
    for round in 0..=rounds as u32 {
        let first = round * COUNT;
        for number in first..first + COUNT {
            let key = ExpectationKey {
                src: server()?,
                dst: address(client(number).0),
                dport: client(number).1,
                protocol: protocol::TCP,
                _pad: 0,
            };
            let expectation = Expectation {
                expires: Nanos(now().0 + Nanos::from_secs(60).0),
                master,
                master_created: created,
                helper: helper::FTP,
                ..Expectation::zeroed()
            };
            expectations.insert(key, expectation)?;
        }
        let kind = Kind::Announced;
        let case = Case {
            name: NAME.into(),
            target: Target::Firewall(bench.ours),
            packets: bench.packets(kind, u32::MAX).in_turn(first),
            ifindex: bench.port(kind),
            action: action::PASS,
            count: COUNT,
        };
        let mut floor = program::floor(bench);
        floor.count = COUNT;
        let gateway = bench.network.gateway();
        let (passing, ns) =
            gateway.enter(|| -> Result<_> { Ok((floor.play(peers, 0)?, case.play(peers, 0)?)) })?;
        if round > 0 {
            report.note(program::PART, NAME, "ns", ns - passing);
        }
    }
    let left = maps.expectations(now())?.len();
    ensure!(left == 0, "{left} expectations were not used");
    Ok(())
}

fn address(address: Ipv4Addr) -> Addr {
    Addr::v4(u32::from(address).to_be())
}

fn server() -> Result<Addr> {
    Ok(address(SERVER.parse().context("the server's address")?))
}

/// The connection that has announced them: the first client's.
fn master(maps: &Maps) -> Result<(Tuple, Nanos)> {
    let (host, port) = client(0);
    let tuple = Tuple {
        src: address(host),
        dst: server()?,
        sport: port,
        dport: SERVED,
        protocol: protocol::TCP,
        ..Tuple::zeroed()
    };
    let known = maps.flow(&FlowKey::of(&tuple).0, now())?;
    let (_, flow) = known.context("the first client has no connection")?;
    Ok((tuple, flow.created))
}

use firewall_common::{control::*, flow::*, rule::*};
use firewall_user::{
    daemon::*,
    ftp::Policy,
    kernel::{attach::Hook, load::*, maps::*, pins::*, rings::Ring, ruleset::Image},
};
use nix::ifaddrs::getifaddrs;
#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let pins = Pins::new(args.next().unwrap());
    pins.create()?;
    let mut programs = Programs::load(&pins, TableSizes::default())?;
    let maps = Maps::open(&pins)?;
    maps.set_timeouts(Timeouts::DEFAULT)?;
    maps.set_options(Options {
        bits: option::TCP_LOOSE,
        daemon_pid: std::process::id(),
        token: [2, 1, 2, 3, 4, 5],
        _pad: [0; 2],
    })?;
    maps.set_helper_ports(&[(21, 1)])?;
    let fill = |mut r: Rule| {
        r.chain_end = 2;
        r
    };
    let accept = Target::Accept as u8;
    let rules = [
        fill(Rule { present: condition::STATES, states: 2 | 4, target: accept, ..Rule::default() }),
        fill(Rule {
            present: condition::STATES | condition::PROTOCOL | condition::DPORT,
            states: 1,
            protocol: 6,
            dport: PortRange { first: 21, last: 21 },
            target: accept,
            ..Rule::default()
        }),
        fill(Rule { flags: flag::POLICY, target: Target::Drop as u8, ..Rule::default() }),
        Rule { flags: flag::POLICY, target: accept, chain_end: 3, ..Rule::default() },
    ];
    let entries = [3, 0, 3, NO_ENTRY, NO_ENTRY];
    maps.install(
        Image {
            header: RulesetHeader { entries: [entries; 2] },
            rules: &rules,
            port_sets: &[],
            texts: ["", ""],
        },
        &|_| 0,
    )?;
    for name in args {
        let ifindex = nix::net::if_::if_nametoindex(name.as_str())?;
        let mac = getifaddrs()?
            .filter(|a| a.interface_name == name)
            .find_map(|a| a.address?.as_link_addr()?.addr())
            .unwrap();
        let mode = programs.attach_by(&pins, ifindex, true, Hook::Auto)?;
        println!("{name} {mode:?} {mac:x?}");
        maps.set_device(
            ifindex,
            Device {
                patterns: [0; 2],
                flags: device::OURS
                    | device::ETHERNET
                    | device::TAKES_REDIRECT
                    | device::PARTIAL_CHECKSUMS,
                mac,
                _pad: [0; 6],
            },
        )?;
    }
    let mut helper = Helper::new(maps.clone(), Injector::new()?, Policy::default())?;
    let mut ring = Ring::open(&pins, "punts")?;
    maps.set_heartbeat(now())?;
    println!("ready");
    let mut tick = tokio::time::interval(std::time::Duration::from_millis(250));
    loop {
        tokio::select! {
            _ = tick.tick() => { maps.set_heartbeat(now())?; let s = maps.stats()?; println!("{}", firewall_common::verdict::Stat::ALL.iter().map(|x| x.name()).chain(firewall_common::verdict::DropReason::ALL.iter().map(|x| x.name())).zip(s).filter(|x| x.1 != 0).map(|x| format!("{}={}", x.0, x.1)).collect::<Vec<_>>().join(" ")); }
            r = ring.drain(|record| { println!("punt {}", record.len()); helper.segment(record) }) => r?,
        }
    }
}

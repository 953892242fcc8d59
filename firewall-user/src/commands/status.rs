//! `firewall status`: who enforces, where, under which rules.

use std::{collections::BTreeMap, fs, time::SystemTime};

use anyhow::Result;
use firewall_common::{
    control::{Device, device},
    flow::helper,
};

use super::{maps, output::print, stats};
use crate::{
    cli::args::{Global, Output},
    kernel::{
        maps::Maps,
        pins::{LinkKind, Pins},
    },
    listing::status::{self, InterfaceStatus, StatusView},
    role,
    ruleset::Running,
};

pub fn status(global: &Global) -> Result<()> {
    let maps = maps(global)?;
    let running = Running::load(&maps)?;
    let view = StatusView {
        pin: maps.pins().root().to_owned(),
        daemon: daemon(&maps)?,
        since: since(maps.pins()),
        interfaces: interfaces(&maps)?,
        generation: running.generation,
        rules: running.rule_count(),
        confirm_until: maps.trial_until()?,
        ftp_ports: ports_of(&maps, helper::FTP)?,
        tftp_ports: ports_of(&maps, helper::TFTP)?,
        tables: stats::tables(&maps)?,
    };
    match global.output {
        Output::Text => print([status::text(&view)]),
        Output::Json => print([status::json(&view)]),
    }
}

fn ports_of(maps: &Maps, helper: u8) -> Result<Vec<u16>> {
    let ports = maps.helper_ports()?.into_iter().filter(|(_, one)| *one == helper);
    Ok(ports.map(|(port, _)| port).collect())
}

/// The process that holds the daemon's lock.
fn daemon(maps: &Maps) -> Result<Option<u32>> {
    Ok(if maps.pins().has_daemon()? { Some(maps.options()?.daemon_pid) } else { None })
}

/// When the instance was made: its pins keep the time.
fn since(pins: &Pins) -> Option<SystemTime> {
    fs::metadata(pins.map("generation")).ok()?.modified().ok()
}

fn interfaces(maps: &Maps) -> Result<Vec<InterfaceStatus>> {
    let devices: BTreeMap<u32, Device> = maps.devices()?.into_iter().collect();
    let mut hooks: BTreeMap<u32, Vec<&'static str>> = BTreeMap::new();
    for link in maps.pins().links()? {
        let flags = devices.get(&link.ifindex).map_or(0, |found| found.flags);
        hooks.entry(link.ifindex).or_default().push(match link.kind {
            LinkKind::Xdp if flags & device::GENERIC != 0 => "xdp-generic",
            LinkKind::Xdp => "xdp",
            LinkKind::Ingress => "tc-ingress",
            LinkKind::Egress => "tc-egress",
        });
    }
    let status = |(index, hooks): (u32, Vec<_>)| InterfaceStatus {
        name: devices.get(&index).map(|found| found.name().to_owned()),
        index,
        hooks,
        reason: devices.get(&index).map(|found| role::reason(found.flags)),
    };
    Ok(hooks.into_iter().map(status).collect())
}

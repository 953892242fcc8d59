//! `firewall why`: the most recent drops by their causes, and what is likely to be wrong.
//!
//! The daemon remembers the drops; flows, expectations, rules and the host's settings are
//! read when somebody asks. What they mean is decided in [`diagnosis`], which reads
//! nothing.

pub mod diagnosis;
pub(crate) mod host;
pub mod print;
pub mod trouble;

use std::{ops::ControlFlow, time::SystemTime};

use anyhow::Result;
use firewall_common::{
    control::{Device, device},
    flow::{CtState, Tuple, status},
    time::Nanos,
    verdict::DropReason,
    wire::tcp_flag,
};

use self::diagnosis::{Diagnosis, Dropped, Facts, Unanswered, of_drop, of_host};
use crate::{
    explain::announcement::controls,
    kernel::{
        flows::FlowTables,
        maps::{Maps, now, wall_time},
    },
    listing::event::{Endpoints, chain_name},
    ruleset::Running,
    watch::{
        client::Watching,
        wire::{Cause, Trouble},
    },
};

/// A cause of drops, and what is said of it.
#[derive(Clone, Debug)]
pub struct Told {
    pub cause: Cause,
    pub dropped: Dropped,
    pub ends: Option<Endpoints>,
    pub input: String,
    pub output: String,
    /// When it happened last.
    pub last: SystemTime,
    pub age: Nanos,
    pub diagnosis: Option<Diagnosis>,
}

/// The answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The latest first.
    pub causes: Vec<Told>,
    /// What goes wrong where the firewall drops nothing.
    pub host: Vec<Diagnosis>,
    /// What helpers could not do, or had to have repeated; the latest first.
    pub helpers: Vec<Troubled>,
}

/// A trouble of a helper, and what is said of it.
#[derive(Clone, Debug)]
pub struct Troubled {
    pub trouble: Trouble,
    /// When it happened last.
    pub last: SystemTime,
    pub age: Nanos,
    pub diagnosis: Diagnosis,
}

/// Unanswered flows that are looked at.
const MOST_UNANSWERED: usize = 1_000;

/// Asks the daemon what it remembers, and everything else what it means.
///
/// # Errors
/// When no daemon answers, or something cannot be read.
pub fn why(maps: &Maps) -> Result<Answer> {
    let (causes, troubles) = Watching::recall(maps.pins())?;
    let facts = facts(maps)?;
    let devices = maps.devices()?;
    let name = |ifindex: u32| {
        let found = devices.iter().find(|(index, _)| *index == ifindex);
        found.map(|(_, device)| device.name().to_owned()).unwrap_or_default()
    };
    let mut rulesets = Vec::new();
    let now = now();
    let told = |cause: Cause| {
        let dropped = dropped(maps, &mut rulesets, &cause);
        Told {
            ends: Endpoints::of(&cause.event),
            input: name(cause.event.in_ifindex),
            output: name(cause.event.out_ifindex),
            last: wall_time(cause.event.at),
            age: now.since(cause.event.at),
            diagnosis: of_drop(&dropped, &facts),
            dropped,
            cause,
        }
    };
    let causes = causes.into_iter().map(told).collect();
    let helpers = troubles.into_iter().filter_map(|trouble| troubled(trouble, now)).collect();
    Ok(Answer { causes, host: of_host(&facts), helpers })
}

fn troubled(trouble: Trouble, now: Nanos) -> Option<Troubled> {
    let at = Nanos(trouble.event.at);
    let diagnosis = trouble::of(&trouble.event)?;
    Some(Troubled { last: wall_time(at), age: now.since(at), diagnosis, trouble })
}

fn facts(maps: &Maps) -> Result<Facts> {
    let devices = maps.devices()?;
    let ours = devices.iter().filter(|(_, device)| device.flags & device::OURS != 0);
    let ours: Vec<_> = ours.map(|(_, device)| Device::name(device).to_owned()).collect();
    let own = host::addresses()?;
    Ok(Facts {
        controls: controls(maps, now(), |_| true)?,
        unanswered: unanswered(maps, &own)?,
        forwards: host::forwards()?,
        strict: host::strict(&ours)?,
        discarded: host::reverse_path_discards()?,
        own: own.into_iter().map(|(address, _)| address).collect(),
    })
}

fn unanswered(maps: &Maps, own: &[(std::net::IpAddr, String)]) -> Result<Vec<Unanswered>> {
    let mut found: Vec<Tuple> = Vec::new();
    FlowTables::open(maps)?.for_each(now(), |_, key, flow| {
        if !flow.has(status::SEEN_REPLY) {
            found.push(key.tuple(flow.originator()));
        }
        if found.len() < MOST_UNANSWERED {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    })?;
    let told = found.into_iter().map(|tuple| {
        let (src, dst) = (tuple.src.to_ip(), tuple.dst.to_ip());
        Unanswered { src, dst, returns_by: host::sends_by(src, own) }
    });
    Ok(told.collect())
}

/// The drop with the name of its rule. A generation that was replaced since has none.
fn dropped(maps: &Maps, rulesets: &mut Vec<(u32, Option<Running>)>, cause: &Cause) -> Dropped {
    let event = &cause.event;
    let reason = DropReason::from_byte(event.reason);
    let ends = Endpoints::of(event);
    let tuple = ends.map_or_else(Tuple::default, |ends| Tuple {
        src: ends.src,
        dst: ends.dst,
        sport: ends.ports.map_or(0, |(sport, _)| sport),
        dport: ends.ports.map_or(0, |(_, dport)| dport),
        protocol: ends.protocol,
        ..Tuple::default()
    });
    let chain = chain_name(event.chain).unwrap_or("");
    let rule = match reason {
        Some(DropReason::Policy) => Some(format!("the policy of {chain}")),
        Some(DropReason::Rule | DropReason::Reject) => {
            rule_name(maps, rulesets, event.generation, event.rule)
        }
        _ => None,
    };
    let flags = ends.map_or(0, |ends| ends.tcp_flags);
    Dropped {
        reason,
        ctstate: CtState::from_bit(event.ctstate),
        chain,
        rule,
        tuple,
        is_syn: flags & (tcp_flag::SYN | tcp_flag::ACK) == tcp_flag::SYN,
        at: event.at,
    }
}

/// `FORWARD 3 (/etc/iptables/rules.v4:12)`
fn rule_name(
    maps: &Maps,
    rulesets: &mut Vec<(u32, Option<Running>)>,
    generation: u32,
    index: u32,
) -> Option<String> {
    if !rulesets.iter().any(|(known, _)| *known == generation) {
        let running = Running::load_generation(maps, generation).ok().flatten();
        rulesets.push((generation, running));
    }
    let (_, running) = rulesets.iter().find(|(known, _)| *known == generation)?;
    let running = running.as_ref()?;
    let name = running.rule_name(index)?;
    let origin = &running.rule(index)?.origin;
    Some(format!("{name} ({}:{})", origin.file, origin.line))
}

//! `firewall run`: enforces in the foreground.

use std::{path::Path, sync::Arc};

use anyhow::{Context, Result};
use firewall_common::{control::option, flow::helper};

use super::source;
use crate::{
    cli::args::{self, Global, HelperFailure, HookChoice},
    config::{self, Wanted},
    daemon::{self, Config, helper::Helpers},
    ftp::Policy,
    helper::{Bounds, Readers},
    kernel::{
        attach::Hook,
        maps::Maps,
        pins::{LinkKind, Pins},
    },
    log, preflight,
    ruleset::Rulesets,
    settings::Chosen,
    state,
};

pub fn run(global: &Global, command: &args::Run) -> Result<()> {
    let wanted = Wanted::new(command, file(command)?)?;
    log::init(wanted.log_level);
    let config = config(global, wanted, command.state.as_deref())?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(daemon::run(config))
}

/// The configuration that the arguments name.
fn file(command: &args::Run) -> Result<config::File> {
    let file = match (&command.config, &command.state) {
        (Some(file), _) => file.clone(),
        (None, Some(directory)) => directory.join(state::CONFIGURATION),
        (None, None) => return Ok(config::File::default()),
    };
    let read = config::read(&file);
    match &command.state {
        Some(directory) if !file.exists() => read.with_context(|| {
            format!(
                "no state is saved in {}: start with -i and --rules, then \
                 `firewall save --all {0}`",
                directory.display()
            )
        }),
        _ => read,
    }
}

/// Everything that can be wrong is found here, before anything is changed.
fn config(global: &Global, mut wanted: Wanted, state: Option<&Path>) -> Result<Config> {
    let pins = Pins::new(&global.pin);
    if let Some(directory) = state
        && pins.exists()
    {
        tracing::info!(
            "an instance is loaded: its rules, sets and settings stay; those in {} are older",
            directory.display()
        );
        (wanted.rules, wanted.rules6, wanted.sets) = (None, None, None);
        wanted.settings = Chosen::all_of(&Maps::open(&pins)?.settings()?);
    }
    let links = pins.links()?.into_iter().filter(|link| link.kind == LinkKind::Xdp);
    let interfaces = preflight::check(&preflight::Request {
        pin: pins.root(),
        interfaces: &wanted.interfaces,
        hook: wanted.hook,
        ours: &links.map(|link| link.ifindex).collect(),
    })?;
    let mut rules = Vec::new();
    for (file, is_ipv6) in [(&wanted.rules, false), (&wanted.rules6, true)] {
        if let Some(file) = file {
            rules.push(source::read(file, is_ipv6)?);
        }
    }
    // Mistakes that show only in the whole.
    rules.iter().cloned().fold(Rulesets::default(), Rulesets::with).compile()?;
    let sets = wanted.sets.as_deref().map(|file| source::text(file, "sets")).transpose()?;
    let (helper_ports, helpers) = (helper_ports(&wanted), helpers(&wanted));
    Ok(Config {
        pins,
        told: config::print(&wanted.to_file()),
        keeps_counters: state.is_some(),
        interfaces,
        hook: match wanted.hook {
            HookChoice::Auto => Hook::Auto,
            HookChoice::Xdp => Hook::Xdp,
            HookChoice::XdpGeneric => Hook::XdpGeneric,
            HookChoice::Tc => Hook::Tc,
        },
        rules,
        sets,
        sizes: wanted.sizes,
        sizes_named: wanted.named,
        options: options(&wanted),
        settings: wanted.settings,
        helper_ports,
        helpers,
        unload_on_exit: wanted.unload_on_exit,
    })
}

fn helper_ports(wanted: &Wanted) -> Vec<(u16, u8)> {
    let ftp = wanted.ftp_ports.iter().map(|port| (port, helper::FTP));
    ftp.chain(wanted.tftp_ports.iter().map(|port| (port, helper::TFTP))).collect()
}

fn helpers(wanted: &Wanted) -> Helpers {
    let policy = Policy {
        loose: wanted.ftp_loose.clone(),
        refused_ports: wanted.ftp_refused_ports.clone(),
        tls_passive_range: wanted.tls_passive_range,
        ..Policy::default()
    };
    Helpers {
        readers: Readers { ftp: Arc::new(policy) },
        // A hole each: so many leave room for those of TCP.
        datagram_bounds: Bounds {
            connections: (wanted.sizes.expectations / 4) as usize,
            buffers: 0,
        },
        bounds: Bounds {
            connections: wanted.max_connections as usize,
            buffers: wanted.max_buffers as usize,
        },
        max_holes_per_host: wanted.max_holes_per_host as usize,
    }
}

fn options(wanted: &Wanted) -> u32 {
    let mut bits = 0;
    if wanted.helper_failure == HelperFailure::Closed {
        bits |= option::HELPER_FAILURE_CLOSED;
    }
    if wanted.drop_non_ip {
        bits |= option::DROP_NON_IP;
    }
    bits
}

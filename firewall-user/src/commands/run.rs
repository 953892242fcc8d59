//! `firewall run`: enforces in the foreground.

use anyhow::{Context, Result};
use firewall_common::{control::option, flow::helper};

use super::source;
use crate::{
    cli::args::{self, Global, HelperFailure, HookChoice},
    daemon::{self, Config},
    ftp::Policy,
    kernel::{
        attach::Hook,
        load::TableSizes,
        pins::{LinkKind, Pins},
    },
    log, preflight,
    ruleset::Rulesets,
};

pub fn run(global: &Global, command: &args::Run) -> Result<()> {
    log::init(command.log_level);
    let config = config(global, command)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(daemon::run(config))
}

/// Everything that can be wrong is found here, before anything is changed.
fn config(global: &Global, command: &args::Run) -> Result<Config> {
    let pins = Pins::new(&global.pin);
    let links = pins.links()?.into_iter().filter(|link| link.kind == LinkKind::Xdp);
    let interfaces = preflight::check(&preflight::Request {
        pin: pins.root(),
        interfaces: &command.interfaces,
        hook: command.hook,
        ours: &links.map(|link| link.ifindex).collect(),
    })?;
    let mut rules = Vec::new();
    for (file, is_ipv6) in [(&command.rules, false), (&command.rules6, true)] {
        if let Some(file) = file {
            rules.push(source::read(file, is_ipv6)?);
        }
    }
    // Mistakes that show only in the whole.
    rules.iter().cloned().fold(Rulesets::default(), Rulesets::with).compile()?;
    Ok(Config {
        pins,
        interfaces,
        hook: match command.hook {
            HookChoice::Auto => Hook::Auto,
            HookChoice::Xdp => Hook::Xdp,
            HookChoice::XdpGeneric => Hook::XdpGeneric,
            HookChoice::Tc => Hook::Tc,
        },
        rules,
        sizes: TableSizes {
            assured: command.tracking.max_flows,
            embryonic: command.tracking.max_embryonic,
        },
        options: options(command),
        helper_ports: command.helper.ftp_ports.iter().map(|port| (port, helper::FTP)).collect(),
        policy: Policy { loose: command.helper.ftp_loose.clone(), ..Policy::default() },
        unload_on_exit: command.unload_on_exit,
    })
}

fn options(command: &args::Run) -> u32 {
    let mut bits = 0;
    if command.helper.helper_failure == HelperFailure::Closed {
        bits |= option::HELPER_FAILURE_CLOSED;
    }
    if command.drop_non_ip {
        bits |= option::DROP_NON_IP;
    }
    if !command.tracking.no_loose {
        bits |= option::TCP_LOOSE;
    }
    bits
}

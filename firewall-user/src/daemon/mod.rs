//! What runs as long as the firewall is watched over: it reads control
//! connections, returns memory, and tells people what happens. Enforcement does
//! not need it: a daemon that ends, however it ends, leaves the gate as it is.

pub mod events;
mod helper;
mod inject;
mod interfaces;
mod logging;

use std::{
    io::{Write, stdout},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use firewall_common::{
    control::{Options, Timeouts},
    event::{Event, EventKind},
};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{Interval, MissedTickBehavior, interval},
};

use crate::{
    daemon::{
        events::Watchers, helper::Helper, inject::Injector, interfaces::Interfaces,
        logging::RuleLog,
    },
    ftp::Policy,
    kernel::{
        attach::{self, Hook, Mode, Target},
        load::{Programs, TableSizes},
        maps::{Maps, now},
        pins::{LinkKind, LinkName, Pins},
        rings::Ring,
    },
    netlink::links::{self, Link, XdpMode},
    notify,
    rules::Ruleset,
    ruleset::{Rulesets, Running},
};

/// What the daemon is to do; all of it has been checked.
#[derive(Debug)]
pub struct Config {
    pub pins: Pins,
    pub interfaces: Vec<Link>,
    pub hook: Hook,
    /// Of the families that were given; the others keep what they have.
    pub rules: Vec<Ruleset>,
    pub sizes: TableSizes,
    /// Bits of [`firewall_common::control::option`].
    pub options: u32,
    pub helper_ports: Vec<(u16, u8)>,
    pub policy: Policy,
    pub unload_on_exit: bool,
}

/// The datapath takes a daemon for gone after
/// [`firewall_common::control::HEARTBEAT_LIMIT`].
const HEARTBEAT: Duration = Duration::from_millis(250);
const SWEEP: Duration = Duration::from_secs(2);
/// How often the interfaces are looked at without news of them: their abilities
/// change silently.
const LOOK_AROUND: Duration = Duration::from_secs(5);

/// Enforces until SIGINT or SIGTERM.
///
/// # Errors
/// What went wrong; an instance that was running before still runs.
pub async fn run(config: Config) -> Result<()> {
    let is_first = !config.pins.exists();
    config.pins.create()?;
    let lock = config.pins.lock_daemon()?;
    if lock.is_none() {
        bail!(
            "another daemon{} enforces from {}: end it, or name another directory with --pin",
            other_daemon(&config.pins),
            config.pins.root().display()
        );
    }
    let started = start(&config);
    if started.is_err() && is_first {
        config.pins.remove().context("cannot clean up")?;
    }
    let mut daemon = started?;
    println!("ready");
    stdout().flush()?;
    notify::ready();
    let ended = daemon.serve().await;
    notify::stopping();
    if config.unload_on_exit {
        config.pins.remove().context("cannot unload")?;
    }
    ended
}

fn other_daemon(pins: &Pins) -> String {
    let pid = Maps::open(pins).and_then(|maps| maps.options()).map(|options| options.daemon_pid);
    pid.map(|pid| format!(" (process {pid})")).unwrap_or_default()
}

/// Loads the programs and attaches them, with the tables of a daemon before if
/// there was one.
fn start(config: &Config) -> Result<Daemon> {
    let mut programs = Programs::load(&config.pins, config.sizes)?;
    let maps = Maps::open(&config.pins)?;
    maps.set_timeouts(Timeouts::DEFAULT)?;
    maps.set_helper_ports(&config.helper_ports)?;
    maps.set_options(Options {
        bits: config.options,
        daemon_pid: std::process::id(),
        token: token()?,
        ..Options::default()
    })?;
    install_rules(config, &maps)?;

    // The interfaces are known before the first packet comes.
    let targets = targets(config)?;
    let mut interfaces = Interfaces::default();
    for target in &targets {
        interfaces
            .ours
            .extend(config.hook.modes(target).first().map(|mode| (target.ifindex, *mode)));
    }
    refresh(&interfaces, &maps)?;
    let mut ring = Ring::open(&config.pins, "punts")?;
    let mut helper = Helper::new(maps.clone(), Injector::new()?, config.policy.clone())?;
    ring.drain_now(|record| helper.segment(record));
    maps.set_heartbeat(now())?;
    for (link, target) in config.interfaces.iter().zip(&targets) {
        let mode = programs
            .attach_by(&config.pins, target, config.hook)
            .with_context(|| format!("cannot enforce on {}", link.name))?;
        interfaces.ours.insert(link.index, mode);
        tracing::info!("enforcing on {} by {}", link.name, mode.name());
    }
    refresh(&interfaces, &maps)?;
    leave_others(config)?;
    Ok(Daemon {
        events: Ring::open(&config.pins, "events")?,
        watchers: Watchers::listen(&maps)?,
        log: RuleLog::new(maps.clone()),
        maps,
        interfaces,
        ring,
        helper,
        _programs: programs,
    })
}

fn targets(config: &Config) -> Result<Vec<Target>> {
    let pinned = config.pins.links()?;
    let target = |link: &Link| {
        let name = LinkName { kind: LinkKind::Xdp, ifindex: link.index };
        let attached = link.xdp.first().filter(|_| pinned.contains(&name));
        Target {
            ifindex: link.index,
            has_ethernet: link.is_ethernet(),
            attached: attached.map(|program| match program.mode {
                XdpMode::Generic => Mode::Generic,
                XdpMode::Driver | XdpMode::Hardware => Mode::Native,
            }),
        }
    };
    Ok(config.interfaces.iter().map(target).collect())
}

/// Rules that were given replace those that are in force; rules that were not
/// given stay.
fn install_rules(config: &Config, maps: &Maps) -> Result<()> {
    let running = Running::load(maps)?;
    let is_new = running.generation == 0;
    let rulesets = config
        .rules
        .iter()
        .fold(running.rulesets, |rulesets: Rulesets, rules| rulesets.with(rules.clone()));
    if is_new && config.rules.is_empty() {
        tracing::warn!("no --rules: every packet is accepted until `firewall apply` brings some");
    }
    Running::install(maps, &rulesets)?;
    Ok(())
}

/// Detaches from interfaces that a former daemon enforced on and this one does
/// not.
fn leave_others(config: &Config) -> Result<()> {
    for link in config.pins.links()? {
        if !config.interfaces.iter().any(|wanted| wanted.index == link.ifindex) {
            tracing::info!("no longer enforcing on interface {}", link.ifindex);
            attach::detach(&config.pins, link)?;
        }
    }
    Ok(())
}

/// A random Ethernet address, locally administered.
fn token() -> Result<[u8; 6]> {
    let mut token = [0; 6];
    let file = std::fs::File::open("/dev/urandom").context("cannot open /dev/urandom")?;
    std::io::Read::read_exact(&mut &file, &mut token).context("cannot read /dev/urandom")?;
    token[0] = token[0] & !1 | 2;
    Ok(token)
}

fn refresh(interfaces: &Interfaces, maps: &Maps) -> Result<()> {
    let _lock = maps.pins().lock_ruleset()?;
    let running = Running::load(maps)?;
    interfaces.refresh(maps, &|name| running.patterns(name))
}

/// A daemon at work.
#[derive(Debug)]
struct Daemon {
    maps: Maps,
    interfaces: Interfaces,
    helper: Helper,
    ring: Ring,
    events: Ring,
    watchers: Watchers,
    log: RuleLog,
    /// Their descriptors; the programs live on by their pinned links.
    _programs: Programs,
}

impl Daemon {
    async fn serve(&mut self) -> Result<()> {
        let mut interrupted = Ended::listen()?;
        let mut changes = links::changes().context("cannot watch the interfaces")?;
        let mut heartbeat = every(HEARTBEAT);
        let mut sweep = every(SWEEP);
        let mut look_around = every(LOOK_AROUND);
        let Self { maps, interfaces, helper, ring, events, watchers, log, .. } = self;
        loop {
            tokio::select! {
                done = ring.drain(|record| helper.segment(record)) => {
                    done.context("cannot read held segments")?;
                }
                done = events.drain(|record| tell(watchers, log, record)) => {
                    done.context("cannot read events")?;
                }
                _ = heartbeat.tick() => maps.set_heartbeat(now())?,
                _ = sweep.tick() => {
                    return_memory(maps, helper);
                    log.tell_left_out();
                }
                _ = look_around.tick() => note(interfaces, maps),
                change = changes.next() => {
                    change.context("cannot watch the interfaces")?;
                    note(interfaces, maps);
                }
                name = interrupted.wait() => {
                    log.tell_left_out();
                    tracing::info!("ending on {name}");
                    return Ok(());
                }
            }
        }
    }
}

fn return_memory(maps: &Maps, helper: &mut Helper) {
    if let Err(error) = maps.sweep(now()).and_then(|_| helper.sweep()) {
        tracing::error!("cannot sweep: {error:#}");
    }
}

fn note(interfaces: &Interfaces, maps: &Maps) {
    if let Err(error) = refresh(interfaces, maps) {
        tracing::error!("cannot note the interfaces: {error:#}");
    }
}

fn tell(watchers: &Watchers, log: &mut RuleLog, record: &[u8]) {
    let Ok(event) = bytemuck::try_pod_read_unaligned::<Event>(record) else {
        tracing::error!("a record of {} bytes on the ring of events", record.len());
        return;
    };
    if EventKind::from_byte(event.kind) == Some(EventKind::Log) {
        log.line(&event);
    }
    watchers.tell(event);
}

/// Late ticks are not made up for.
fn every(period: Duration) -> Interval {
    let mut interval = interval(period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Skip);
    interval
}

/// The signals that end the daemon.
#[derive(Debug)]
struct Ended {
    interrupt: Signal,
    terminate: Signal,
}

impl Ended {
    fn listen() -> Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn wait(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
}

//! What runs as long as the firewall is watched over: it reads control
//! connections, returns memory, and tells people what happens. Enforcement does
//! not need it: a daemon that ends, however it ends, leaves the gate as it is.

mod attention;
pub mod events;
mod fragments;
pub mod helper;
mod homes;
mod inject;
mod interfaces;
mod logging;
mod memory;
mod segment;
mod sweeping;
mod takeover;
mod takers;
mod waiting;
mod watcher;

use std::{
    io::{Write, stdout},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use firewall_common::{
    control::{Options, option},
    event::{Event, EventKind},
    time::Nanos,
};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{Interval, MissedTickBehavior, interval},
};

use crate::{
    daemon::{
        attention::Attention,
        events::Watchers,
        fragments::Fragments,
        helper::{Helper, Helpers},
        inject::Injector,
        interfaces::Interfaces,
        logging::RuleLog,
        sweeping::{Sweeping, Watchman},
        takeover::Takeover,
    },
    kernel::{
        attach::Hook,
        load::{Programs, SizesNamed, TableSizes},
        maps::Maps,
        pins::Pins,
        rings::{self, Ring},
    },
    netlink::{
        links::{self, Changes, Link},
        routes::{self, News},
    },
    notify,
    rules::Ruleset,
    ruleset::{Rulesets, Running},
    sets,
    settings::Chosen,
};

/// What the daemon is to do; all of it has been checked.
#[derive(Debug)]
pub struct Config {
    pub pins: Pins,
    pub interfaces: Vec<Link>,
    pub hook: Hook,
    /// Of the families that were given; the others keep what they have.
    pub rules: Vec<Ruleset>,
    /// The rules begin with the counters that they carry, not with zero.
    pub keeps_counters: bool,
    /// All that follows, as a configuration file says it.
    pub told: String,
    /// Sets for an instance that has none yet: what a message calls the text, and the text.
    pub sets: Option<(String, String)>,
    pub sizes: TableSizes,
    /// Of the sizes, those that somebody has named.
    pub sizes_named: SizesNamed,
    /// Bits of [`firewall_common::control::option`] beside the settings.
    pub options: u32,
    /// The settings that somebody has named.
    pub settings: Chosen,
    pub helper_ports: Vec<(u16, u8)>,
    pub helpers: Helpers,
    pub unload_on_exit: bool,
}

/// The datapath takes a daemon for gone after
/// [`firewall_common::control::HEARTBEAT_LIMIT`].
const HEARTBEAT: Duration = Duration::from_millis(250);
/// How often watchers are told what they have missed, and fragments given up.
const LOOK_AT_LOSSES: Duration = Duration::from_millis(250);
/// How often the clock is told.
const TIDY: Duration = Duration::from_secs(2);
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
    let listening = Listening::begin()?;
    let started = start(&config);
    if started.is_err() && is_first {
        config.pins.remove().context("cannot clean up")?;
    }
    let mut daemon = started?;
    println!("ready");
    stdout().flush()?;
    notify::ready();
    let ended = daemon.serve(listening).await;
    notify::stopping();
    daemon.fragments.end();
    if config.unload_on_exit {
        config.pins.remove().context("cannot unload")?;
    } else {
        // From now on control connections are treated as `--helper-failure` says.
        daemon.maps.set_heartbeat(Nanos::ZERO)?;
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
    // Segments that a daemon before has left on the ring still count, if none has
    // passed it unread since.
    let takeover = Takeover::begin(&config.pins);
    let programs = Programs::load(&config.pins, config.sizes)?;
    let maps = Maps::open(&config.pins)?;
    maps.tell_clock()?;
    tell_other_sizes(config, &maps)?;
    let wanted = config.interfaces.iter().map(|link| link.name.clone()).collect();
    let mut interfaces = Interfaces::new(maps.clone(), programs, config.hook, wanted);
    if maps.generation()? == 0 {
        configure(config, &maps)?;
        interfaces.begin()?;
    } else {
        // What can fail comes before anything changes for those that are ours.
        interfaces.begin()?;
        configure(config, &maps)?;
    }
    interfaces.let_go()?;
    let watchers = Watchers::listen(&maps)?;
    let mut helper =
        Helper::new(maps.clone(), Injector::new()?, config.helpers.clone(), watchers.clone())?;
    let fragments = Fragments::new(maps.clone())?;
    // What waits since a daemon before is read and goes on. When that was long ago
    // its senders have sent it again, and it has passed unread.
    rings::take_all(&config.pins, "punts", |record| {
        if takeover.is_some() {
            helper.segment(record);
        }
    })?;
    helper.beat()?;
    drop(takeover);
    // Nobody waits any more for what a daemon before was to tell.
    rings::take_all(&config.pins, "flow_events", |_| {})?;
    Ok(Daemon {
        early: Ring::open(&config.pins, "early")?,
        fragments,
        events: Ring::open(&config.pins, "events")?,
        flow_events: Ring::open(&config.pins, "flow_events")?,
        watchman: Some(Watchman::new(maps.clone(), helper.refused(), watchers.clone())?),
        helper: Some(helper),
        watchers,
        log: RuleLog::new(maps.clone()),
        pins: config.pins.clone(),
        maps,
        interfaces,
    })
}

/// Tells the datapath what was asked for. Rules that were given replace those
/// that are in force; rules that were not given stay.
fn configure(config: &Config, maps: &Maps) -> Result<()> {
    maps.set_helper_ports(&config.helper_ports)?;
    maps.keep_configuration(&config.told)?;
    let token = token()?;
    maps.change_settings(|live| {
        let bits = config.options | option::REMEMBER_DROPS;
        let daemon_pid = std::process::id();
        live.options = Options { bits, daemon_pid, token, ..live.options };
        live.taken_over(&config.settings);
    })?;
    if maps.generation()? == 0 && config.rules.is_empty() {
        tracing::warn!("no --rules: every packet is accepted until `firewall apply` brings some");
    }
    if maps.generation()? == 0
        && let Some((name, text)) = &config.sets
    {
        sets::restore(maps, name, text)?;
    }
    if maps.former_generation()?.is_some() && !config.rules.is_empty() {
        tracing::warn!(
            "the rules of `firewall apply --confirm` wait to be confirmed: those of this start are \
             not applied"
        );
        return Ok(());
    }
    let with = if config.keeps_counters { Rulesets::with_counted } else { Rulesets::with };
    Running::change(maps, |running| config.rules.iter().cloned().fold(running, with))
}

/// The tables of a daemon before stay as they are, whatever was asked for.
fn tell_other_sizes(config: &Config, maps: &Maps) -> Result<()> {
    for (table, key, wanted) in config.sizes_named.named() {
        let size = maps.size(table)?;
        if size != wanted {
            tracing::warn!(
                "{key} stays {size}, not {wanted}: a table in use keeps its size; end the daemon \
                 and run `firewall unload` (every flow is forgotten) to change it"
            );
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

/// What is listened to from before the first look on, so that nothing is missed.
#[derive(Debug)]
struct Listening {
    interrupted: Ended,
    changes: Changes,
    routes: News,
}

impl Listening {
    fn begin() -> Result<Self> {
        Ok(Self {
            interrupted: Ended::listen()?,
            changes: links::changes().context("cannot watch the interfaces")?,
            routes: routes::news().context("cannot watch the routes")?,
        })
    }
}

/// A daemon at work.
#[derive(Debug)]
struct Daemon {
    pins: Pins,
    maps: Maps,
    interfaces: Interfaces,
    /// Until its thread has it.
    helper: Option<Helper>,
    fragments: Fragments,
    early: Ring,
    events: Ring,
    flow_events: Ring,
    watchers: Watchers,
    /// Until its thread has it.
    watchman: Option<Watchman>,
    log: RuleLog,
}

impl Daemon {
    async fn serve(&mut self, listening: Listening) -> Result<()> {
        let Listening { mut interrupted, mut changes, mut routes } = listening;
        let mut losses = every(LOOK_AT_LOSSES);
        let mut tidy = every(TIDY);
        let mut glance = every(LOOK_AROUND);
        let Self {
            pins,
            maps,
            interfaces,
            helper,
            fragments,
            early,
            events,
            flow_events,
            watchers,
            watchman,
            log,
        } = self;
        let _sweeping = watchman.take().map(Sweeping::start);
        let helper = helper.take().context("a daemon serves once")?;
        let mut attention = Attention::start(helper, pins.clone())?;
        loop {
            tokio::select! {
                error = attention.failed() => return Err(error),
                done = early.drain(|record| fragments.record(record)) => {
                    done.context("cannot read early fragments")?;
                }
                done = events.drain(|record| tell(watchers, log, record)) => {
                    done.context("cannot read events")?;
                }
                done = flow_events.drain(|record| watchers.flow(record)) => {
                    done.context("cannot read flow events")?;
                }
                _ = losses.tick() => {
                    report(watchers.tell_losses());
                    report(fragments.look_around());
                }
                _ = tidy.tick() => {
                    report(maps.tell_clock());
                    log.tell_left_out();
                }
                _ = glance.tick() => report(interfaces.look_around()),
                change = changes.next() => {
                    change.context("cannot watch the interfaces")?;
                    report(interfaces.look_around());
                }
                told = routes.next() => {
                    told.context("cannot watch the routes")?;
                    maps.raise_epoch()?;
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

/// The daemon goes on: what has failed will be tried again.
fn report(done: Result<()>) {
    if let Err(error) = done {
        tracing::error!("{error:#}");
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
    watchers.dropped(&event);
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

//! `firewall apply`: replaces the running rules, of both families and with their sets on
//! request, all at once.
//!
//! With `--confirm` they count for a time only, unless `firewall confirm` comes. The
//! programs themselves go back when it is over, whatever has become of this command and
//! of the daemon; the command waits to tell how it ended.

use std::{
    fmt::Display,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use firewall_common::control::device;
use nix::sys::{
    signal::{SigHandler, SigSet, Signal, signal},
    signalfd::{SfdFlags, SignalFd},
};
use serde::Serialize;

use super::{maps, output::print, source};
use crate::{
    cli::args::{self, Global, Output},
    kernel::{in_force::TrialEnd, maps::Maps, sets::SetTables},
    rules::{
        Ruleset,
        lint::{Cut, Lockout, lockout},
    },
    ruleset::{Rulesets, Running, bind, differences},
    session,
    sets::{self, Replacement},
};

pub fn apply(global: &Global, command: &args::Apply) -> Result<()> {
    let incoming = Incoming::read(command)?;
    if !command.force && !command.dry_run {
        incoming.ensure_has_filter()?;
    }
    let maps = maps(global)?;
    let cuts = incoming.cuts(&maps)?;
    if command.dry_run {
        return preview(global, &maps, &incoming, &cuts);
    }
    for (name, found) in cuts {
        if found.cut == Cut::Session && !command.force {
            bail!(
                "{name}: {}\n{}, or apply it all the same with --force",
                found.message,
                found.advice
            );
        }
        eprintln!("warning: {name}: {}", found.message);
    }
    match command.confirm {
        None => Running::change_with_sets(&maps, incoming.sets.as_ref(), |running| {
            with(running, incoming.rules())
        }),
        Some(time) => on_trial(&maps, &incoming, time),
    }
}

/// What the files say.
struct Incoming {
    /// With what messages call their files.
    rules: Vec<(String, Ruleset)>,
    /// Files that say nothing of table filter.
    without_filter: Vec<String>,
    sets: Option<sets::File>,
}

impl Incoming {
    fn read(command: &args::Apply) -> Result<Self> {
        let alone = command.file.as_deref();
        let is_ipv6 = alone.is_some_and(|file| source::is_ipv6(file, command.ipv6));
        let (v4, v6) = (command.rules.as_deref(), command.rules6.as_deref());
        let files = [(alone, is_ipv6), (v4, false), (v6, true)];
        let (mut rules, mut without_filter) = (Vec::new(), Vec::new());
        for (file, is_ipv6) in files {
            if let Some(path) = file {
                let (name, (parsed, has_filter)) =
                    (path.display().to_string(), source::read_whole(path, is_ipv6)?);
                if !has_filter {
                    without_filter.push(name.clone());
                }
                rules.push((name, parsed));
            }
        }
        let sets = match &command.sets {
            Some(path) => {
                let (name, text) = source::text(path, "sets")?;
                Some(sets::File { name, text })
            }
            None => None,
        };
        Ok(Self { rules, without_filter, sets })
    }

    /// A file that was cut short, or is another one than was meant, opens everything.
    fn ensure_has_filter(&self) -> Result<()> {
        let Some(name) = self.without_filter.first() else { return Ok(()) };
        bail!(
            "{name} has no table filter: applied, it takes away the rules and policies that are in \
             force there\nwrite *filter with its policies and COMMIT into it, add to what is there \
             with `iptables-restore --noflush`, or apply it all the same with --force"
        )
    }

    fn rules(&self) -> Vec<Ruleset> {
        self.rules.iter().map(|(_, rules)| rules.clone()).collect()
    }

    /// What the rules would do to the session by which the caller is here, by file.
    fn cuts(&self, maps: &Maps) -> Result<Vec<(&str, Lockout)>> {
        let mut found = Vec::new();
        for (name, rules) in &self.rules {
            found.extend(cut(maps, rules)?.map(|cut| (name.as_str(), cut)));
        }
        Ok(found)
    }
}

/// The running rules with those that came instead.
fn with(running: Rulesets, rules: Vec<Ruleset>) -> Rulesets {
    rules.into_iter().fold(running, Rulesets::with)
}

/// What the rules would do to the session by which the caller is here, if it comes by an
/// interface that is judged.
fn cut(maps: &Maps, rules: &Ruleset) -> Result<Option<Lockout>> {
    let Some(caller) = session::caller() else { return Ok(None) };
    let Some(name) = &caller.interface else { return Ok(None) };
    let is_judged = maps
        .devices()?
        .iter()
        .any(|(_, device)| device.name() == name && device.flags & device::OURS != 0);
    Ok(if is_judged { lockout(rules, &caller) } else { None })
}

/// What would change, without changing it.
fn preview(
    global: &Global,
    maps: &Maps,
    incoming: &Incoming,
    cuts: &[(&str, Lockout)],
) -> Result<()> {
    let running = Running::load(maps)?;
    let mut sets = match &incoming.sets {
        Some(file) => Some(Replacement::read(&SetTables::of(maps), file)?),
        None => None,
    };
    let mut compiled = with(running.rulesets.clone(), incoming.rules()).compile()?;
    bind(maps, sets.as_ref(), &mut compiled)?;
    let mut lines = Vec::new();
    for (_, rules) in &incoming.rules {
        for found in differences(running.rulesets.family(rules.family), rules) {
            lines.push(line(global, &found)?);
        }
    }
    if let Some(sets) = &mut sets {
        for found in sets.differences()? {
            lines.push(line(global, &found)?);
        }
    }
    if lines.is_empty() && global.output == Output::Text {
        lines.push("nothing changes".into());
    }
    lines.extend(cuts.iter().map(|(_, cut)| match global.output {
        Output::Text => format!("warning: {}", cut.message),
        Output::Json => {
            serde_json::json!({ "warning": cut.message, "advice": cut.advice }).to_string()
        }
    }));
    print(lines)
}

fn line(global: &Global, found: &(impl Display + Serialize)) -> Result<String> {
    Ok(match global.output {
        Output::Text => found.to_string(),
        Output::Json => serde_json::to_string(found)?,
    })
}

fn on_trial(maps: &Maps, incoming: &Incoming, time: Duration) -> Result<()> {
    let mut ended = Ended::catch()?;
    let generation = Running::try_out(maps, time, incoming.sets.as_ref(), |running| {
        with(running, incoming.rules())
    })?;
    let Some(generation) = generation else {
        eprintln!("these rules are in force already: there is nothing to confirm");
        return Ok(());
    };
    eprintln!("applied; back to the old rules in {} s unless `firewall confirm`", time.as_secs());
    let is_interrupted = wait(maps, generation, time, &mut ended)?;
    let _lock = maps.pins().lock_ruleset()?;
    if maps.was_confirmed(generation)? {
        eprintln!("confirmed");
        return Ok(());
    }
    let end = maps.end_trial().context("cannot go back to the old rules")?;
    let why = match end {
        TrialEnd::Now if is_interrupted => "interrupted".to_owned(),
        _ => format!("not confirmed in {} s", time.as_secs()),
    };
    bail!("{why}: the old rules are back")
}

/// Until the trial is over; gives whether this command was asked to end before.
fn wait(maps: &Maps, generation: u32, time: Duration, ended: &mut Ended) -> Result<bool> {
    // The programs' clock is coarse, and stands still while the machine sleeps.
    let end = Instant::now() + time;
    while maps.is_on_trial(generation)? {
        if ended.is_so() {
            return Ok(true);
        }
        let rest = end.saturating_duration_since(Instant::now());
        thread::sleep(rest.clamp(Duration::from_millis(5), Duration::from_millis(50)));
    }
    Ok(false)
}

/// The signals that ask the command to end. The one that its terminal is gone is
/// not among them: that may be the new rules' doing.
struct Ended(SignalFd);

impl Ended {
    fn catch() -> Result<Self> {
        for ignored in [Signal::SIGHUP, Signal::SIGPIPE] {
            // SAFETY: ignoring a signal runs no code of ours.
            unsafe { signal(ignored, SigHandler::SigIgn) }?;
        }
        let signals = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM]);
        signals.thread_block()?;
        Ok(Self(SignalFd::with_flags(&signals, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?))
    }

    fn is_so(&mut self) -> bool {
        matches!(self.0.read_signal(), Ok(Some(_)))
    }
}

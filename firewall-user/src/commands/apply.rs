//! `firewall apply`: replaces the running rules, all at once.
//!
//! With `--confirm` the rules count for a time only, unless `firewall confirm` comes. The
//! programs themselves go back when it is over, whatever has become of this command and
//! of the daemon; the command waits to tell how it ended.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use firewall_common::control::device;
use nix::sys::{
    signal::{SigHandler, SigSet, Signal, signal},
    signalfd::{SfdFlags, SignalFd},
};

use super::{maps, output::print, source};
use crate::{
    cli::args::{self, Global, Output},
    kernel::{in_force::TrialEnd, maps::Maps},
    rules::{
        Ruleset,
        lint::{Cut, Lockout, lockout},
    },
    ruleset::{Running, differences},
    session,
};

pub fn apply(global: &Global, command: &args::Apply) -> Result<()> {
    let rules = source::read(&command.file, command.ipv6)?;
    let maps = maps(global)?;
    let cut = cut(&maps, &rules)?;
    if command.dry_run {
        return preview(global, &maps, &rules, cut.as_ref());
    }
    match cut {
        Some(found) if found.cut == Cut::Session && !command.force => bail!(
            "{}: {}\n{}, or apply it all the same with --force",
            command.file.display(),
            found.message,
            found.advice
        ),
        Some(found) => eprintln!("warning: {}: {}", command.file.display(), found.message),
        None => {}
    }
    match command.confirm {
        None => Running::change(&maps, |running| running.with(rules)),
        Some(time) => on_trial(&maps, rules, time),
    }
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
fn preview(global: &Global, maps: &Maps, rules: &Ruleset, cut: Option<&Lockout>) -> Result<()> {
    let running = Running::load(maps)?;
    running.rulesets.clone().with(rules.clone()).compile()?;
    let found = differences(running.rulesets.family(rules.family), rules);
    let mut lines: Vec<String> = match global.output {
        Output::Text => found.iter().map(ToString::to_string).collect(),
        Output::Json => found.iter().map(serde_json::to_string).collect::<Result<_, _>>()?,
    };
    if global.output == Output::Text {
        if found.is_empty() {
            lines.push("nothing changes".into());
        }
        lines.extend(cut.map(|cut| format!("warning: {}", cut.message)));
    } else if let Some(cut) = cut {
        lines.push(serde_json::json!({ "warning": cut.message, "advice": cut.advice }).to_string());
    }
    print(lines)
}

fn on_trial(maps: &Maps, rules: Ruleset, time: Duration) -> Result<()> {
    let mut ended = Ended::catch()?;
    let generation = Running::try_out(maps, time, |running| running.with(rules))?;
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

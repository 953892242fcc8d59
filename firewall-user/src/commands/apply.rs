//! `firewall apply`: replaces the running rules, all at once.
//!
//! With `--confirm` the command waits, and goes back unless `firewall confirm`
//! comes in time. It outlives its terminal: rules that cut off whoever applied
//! them do not stay.

use std::{
    fs, io,
    path::PathBuf,
    thread,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, Result, bail};
use nix::sys::{
    signal::{SigHandler, SigSet, Signal, signal},
    signalfd::{SfdFlags, SignalFd},
};

use super::{maps, source};
use crate::{
    cli::args::{self, Global},
    daemon::events,
    kernel::pins::Pins,
    ruleset::Running,
};

pub fn apply(global: &Global, command: &args::Apply) -> Result<()> {
    let rules = source::read(&command.file, command.ipv6)?;
    let maps = maps(global)?;
    let pending = Pending::of(maps.pins());
    if pending.exists() {
        bail!(
            "an earlier `firewall apply --confirm` still waits: `firewall confirm` keeps its rules"
        );
    }
    let Some(time) = command.confirm else {
        Running::change(&maps, |running| running.with(rules))?;
        return Ok(());
    };
    // Whatever ends this command from here on, the way back is prepared.
    let mut ended = Ended::catch()?;
    pending.place(time)?;
    let before = Running::change(&maps, |running| running.with(rules));
    let before = before.inspect_err(|_| drop(pending.take()))?;
    eprintln!("applied; back to the old rules in {} s unless `firewall confirm`", time.as_secs());
    let why = match wait(&pending, time, &mut ended) {
        Outcome::Confirmed => {
            eprintln!("confirmed");
            return Ok(());
        }
        Outcome::TimeOver => format!("not confirmed in {} s", time.as_secs()),
        Outcome::Ended => "interrupted".to_owned(),
    };
    Running::change(&maps, |_| before).context("cannot go back to the old rules")?;
    bail!("{why}: the old rules are back")
}

/// How the wait for a confirmation ends.
enum Outcome {
    Confirmed,
    TimeOver,
    Ended,
}

fn wait(pending: &Pending, time: Duration, ended: &mut Ended) -> Outcome {
    let end = Instant::now() + time;
    while pending.exists() {
        let outcome = match (Instant::now() >= end, ended.is_so()) {
            (true, _) => Outcome::TimeOver,
            (_, true) => Outcome::Ended,
            _ => {
                thread::sleep(Duration::from_millis(50));
                continue;
            }
        };
        // A confirmation of this very moment counts.
        return if pending.take().unwrap_or(true) { outcome } else { Outcome::Confirmed };
    }
    Outcome::Confirmed
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

/// The file tells whole seconds, and going back takes a moment.
const GRACE: Duration = Duration::from_secs(2);

/// The sign that rules wait to be confirmed: a file that `firewall confirm` takes
/// away.
#[derive(Debug)]
pub struct Pending(PathBuf);

impl Pending {
    pub fn of(pins: &Pins) -> Self {
        Self(events::socket_path(pins).with_extension("pending"))
    }

    /// Whether rules wait; those whose time is over do not, whatever became of
    /// the command that was to go back.
    pub fn exists(&self) -> bool {
        self.until().is_some_and(|until| until + GRACE > SystemTime::now())
    }

    /// When the old rules come back.
    pub fn until(&self) -> Option<SystemTime> {
        let seconds: u64 = fs::read_to_string(&self.0).ok()?.trim().parse().ok()?;
        Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
    }

    /// The file says when the time is over, in seconds since 1970.
    fn place(&self, time: Duration) -> Result<()> {
        if let Some(directory) = self.0.parent() {
            fs::create_dir_all(directory)?;
        }
        let until = SystemTime::now() + time;
        let seconds = until.duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
        fs::write(&self.0, seconds.to_string())
            .with_context(|| format!("cannot write {}", self.0.display()))
    }

    /// `true` for the one who took it.
    pub fn take(&self) -> io::Result<bool> {
        match fs::remove_file(&self.0) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
}

//! `firewall apply`: replaces the running rules, all at once.
//!
//! With `--confirm` the command waits, and goes back unless `firewall confirm`
//! comes in time. It outlives its terminal: rules that cut off whoever applied
//! them do not stay.

use std::{
    fs, io,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{SigHandler, Signal, signal};

use super::{maps, source};
use crate::{
    cli::args::{self, Global},
    daemon::events,
    kernel::pins::Pins,
    ruleset::{Rulesets, Running},
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
    let before = Running::load(&maps)?.rulesets;
    let after = Rulesets { of: before.of.clone() }.with(rules);
    Running::install(&maps, &after)?;
    match command.confirm {
        Some(time) => wait(&pending, time, || Running::install(&maps, &before).map(drop)),
        None => Ok(()),
    }
}

fn wait(pending: &Pending, time: Duration, go_back: impl FnOnce() -> Result<()>) -> Result<()> {
    pending.place(time)?;
    ignore_the_terminal()?;
    eprintln!("applied; back to the old rules in {} s unless `firewall confirm`", time.as_secs());
    let end = Instant::now() + time;
    while pending.exists() {
        if Instant::now() >= end {
            // A confirmation of this very moment counts.
            if !pending.take()? {
                break;
            }
            go_back().context("cannot go back to the old rules")?;
            bail!("not confirmed in {} s: the old rules are back", time.as_secs());
        }
        thread::sleep(Duration::from_millis(100));
    }
    eprintln!("confirmed");
    Ok(())
}

/// Goes on when the terminal or the connection that it was typed on is gone.
fn ignore_the_terminal() -> Result<()> {
    for which in [Signal::SIGHUP, Signal::SIGPIPE] {
        // SAFETY: ignoring a signal runs no code of ours.
        unsafe { signal(which, SigHandler::SigIgn) }?;
    }
    Ok(())
}

/// The sign that rules wait to be confirmed: a file that `firewall confirm` takes
/// away.
#[derive(Debug)]
pub struct Pending(PathBuf);

impl Pending {
    pub fn of(pins: &Pins) -> Self {
        Self(events::socket_path(pins).with_extension("pending"))
    }

    pub fn exists(&self) -> bool {
        self.0.exists()
    }

    pub fn path(&self) -> &Path {
        &self.0
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

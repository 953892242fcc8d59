//! `firewall unload`: takes out of the kernel what this instance put there.

use anyhow::{Context, Result, bail};

use crate::{
    cli::args::Global,
    daemon::events,
    kernel::{maps::Maps, pins::Pins},
    preflight,
};

pub fn unload(global: &Global) -> Result<()> {
    preflight::check_access(&global.pin)?;
    let pins = Pins::new(&global.pin);
    if !pins.exists() {
        // What a start that failed has left.
        return pins.remove();
    }
    let lock = pins.lock_daemon()?;
    if lock.is_none() {
        let pid = Maps::open(&pins).and_then(|maps| maps.options()).map(|now| now.daemon_pid);
        bail!(
            "a daemon (process {}) enforces from {}: end it first, or start it with \
             --unload-on-exit",
            pid.unwrap_or_default(),
            pins.root().display()
        );
    }
    pins.remove().context("cannot unload")?;
    let _ = std::fs::remove_file(events::socket_path(&pins));
    Ok(())
}

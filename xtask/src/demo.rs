//! `cargo xtask demo`: FTP through the firewall, between namespaces, step by step.

use anyhow::Result;

use crate::{build, servers, setup, shell};

pub(crate) fn demo() -> Result<()> {
    setup::setup()?;
    let firewall = build::debug(&["demo"])?;
    let demo = shell::target().join("debug/demo");
    let mut command = shell::as_root("env");
    command.arg(format!("FIREWALL_BIN={}", firewall.display()));
    command.arg(format!("FIREWALL_SERVERS={}", servers::directory().display()));
    shell::run(command.arg(demo))
}

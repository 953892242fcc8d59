//! `cargo xtask oracle DIR`: recorded traffic through nf_conntrack and through the
//! firewall. A line of JSON for each frame on stdout, a summary on stderr, exit status
//! 1 when they differ.

use std::path::PathBuf;

use anyhow::Result;

use crate::{build, setup, shell};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Folder with pcap and pcapng files
    #[arg(value_name = "DIR")]
    folder: PathBuf,

    /// Where the firewall judges: xdp, xdp-generic or tc
    #[arg(long, value_name = "HOOK", default_value = "xdp")]
    hook: String,
}

pub(crate) fn oracle(arguments: &Arguments) -> Result<()> {
    setup::setup()?;
    let firewall = build::debug()?;
    let package = ["build", "--locked", "-p", "firewall-tests", "--bin", "oracle"];
    shell::run(shell::cargo().args(package))?;
    let mut command = shell::as_root("env");
    command.arg(format!("FIREWALL_BIN={}", firewall.display()));
    command.arg(shell::target().join("debug/oracle"));
    command.arg(&arguments.folder).arg(format!("--hook={}", arguments.hook));
    shell::run(&mut command)
}

//! `cargo xtask oracle DIR`: recorded traffic through nf_conntrack and through the
//! firewall. `cargo xtask oracle --rules DIR`: random packets under files of rules, in
//! iptables and in the firewall. A line of JSON for each frame or file on stdout, a summary
//! on stderr, exit status 1 when they differ.

use std::path::PathBuf;

use anyhow::{Result, bail};

use crate::{build, setup, shell};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Folder with pcap and pcapng files
    #[arg(value_name = "DIR", required_unless_present = "rules")]
    folder: Option<PathBuf>,

    /// Folder with rules files, NAME.v4 and NAME.v6, to play random packets with
    #[arg(long, value_name = "DIR", conflicts_with = "folder")]
    rules: Option<PathBuf>,

    /// Packets to play with each of these files
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    packets: usize,

    /// Where the firewall judges: xdp, xdp-generic or tc
    #[arg(long, value_name = "HOOK", default_value = "xdp")]
    hook: String,
}

pub(crate) fn oracle(arguments: &Arguments) -> Result<()> {
    setup::setup()?;
    let firewall = build::debug(&["oracle"])?;
    let mut command = shell::as_root("env");
    command.arg(format!("FIREWALL_BIN={}", firewall.display()));
    command.arg(shell::target().join("debug/oracle"));
    command.arg(format!("--hook={}", arguments.hook));
    match (&arguments.folder, &arguments.rules) {
        (Some(folder), _) => command.arg(folder),
        (None, Some(rules)) => {
            command.arg("--rules").arg(rules).arg(format!("--packets={}", arguments.packets))
        }
        (None, None) => bail!("name a folder with captures, or one with --rules"),
    };
    shell::run(&mut command)
}

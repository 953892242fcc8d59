//! `firewall monitor`: drops, as they happen.

use std::{
    io::{ErrorKind, Read, Write, stdout},
    os::unix::net::UnixStream,
};

use anyhow::{Context, Result, bail};
use firewall_common::{
    event::{Event, EventKind},
    verdict::DropReason,
};

use super::maps;
use crate::{
    cli::args::{Global, Output},
    daemon::events::socket_path,
    kernel::maps::{Maps, wall_time},
    listing::{
        event::{self, DropView},
        log_line::Interfaces,
    },
    netlink::links,
    ruleset::Running,
};

pub fn monitor(global: &Global) -> Result<()> {
    let maps = maps(global)?;
    let path = socket_path(maps.pins());
    let mut stream = UnixStream::connect(&path).with_context(|| {
        format!("no daemon answers at {}: `firewall run` starts one", path.display())
    })?;
    let mut bytes = [0; size_of::<Event>()];
    // The first record tells that from now on nothing is missed.
    receive(&mut stream, &mut bytes)?;
    eprintln!("watching; end with Ctrl-C");
    let mut rules = RuleNames { maps, running: None };
    while receive(&mut stream, &mut bytes)? {
        let event: Event = bytemuck::pod_read_unaligned(&bytes);
        if EventKind::from_byte(event.kind) == Some(EventKind::Drop)
            && !show(global.output, &event, &mut rules)?
        {
            return Ok(());
        }
    }
    bail!("the daemon has ended")
}

/// `false` when nobody reads any more.
fn show(output: Output, event: &Event, rules: &mut RuleNames) -> Result<bool> {
    let (input, out) = (links::name(event.in_ifindex), links::name(event.out_ifindex));
    let rule = rules.name(event);
    let view = DropView {
        event,
        time: wall_time(event.at),
        interfaces: Interfaces { input: &input, output: &out },
        rule: rule.as_deref(),
    };
    let line = match output {
        Output::Text => event::text(&view),
        Output::Json => event::json(&view),
    };
    let mut stdout = stdout().lock();
    match writeln!(stdout, "{line}").and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        other => Ok(other.map(|()| true)?),
    }
}

/// `false` at the end of the stream.
fn receive(stream: &mut UnixStream, bytes: &mut [u8]) -> Result<bool> {
    match stream.read_exact(bytes) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error).context("cannot read from the daemon"),
    }
}

/// What people call the rules of the generation at hand.
struct RuleNames {
    maps: Maps,
    running: Option<Running>,
}

impl RuleNames {
    /// The rule that dropped the packet: `FORWARD 3`.
    fn name(&mut self, event: &Event) -> Option<String> {
        let reason = DropReason::from_byte(event.reason)?;
        if !matches!(reason, DropReason::Rule | DropReason::Reject) {
            return None;
        }
        if self.running.as_ref().map(|running| running.generation) != Some(event.generation) {
            self.running = Running::load_generation(&self.maps, event.generation).ok();
        }
        self.running.as_ref()?.rule_name(event.rule)
    }
}

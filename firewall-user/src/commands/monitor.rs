//! `firewall monitor`: drops, new and ended flows, what the helper does, as it happens.

use std::ops::ControlFlow;

use anyhow::Result;
use firewall_common::{
    event::Event,
    flow::{Tuple, protocol},
    flow_event::{FlowChange, FlowEvent},
    time::Nanos,
    verdict::DropReason,
};

use super::{
    follow::{announce, follow},
    maps,
    output::Printer,
};
use crate::{
    cli::{
        args::{Global, Monitor, Output, Watched},
        watched::LineFilter,
    },
    explain::live::Reasons,
    kernel::{
        flows::Masters,
        maps::{Maps, wall_time},
    },
    listing::{
        event::{self, DropView},
        flow::{self, FlowView},
        helper_event::{self, HelperEvent},
        log_line::Interfaces,
        lost::{self, Loss},
        protocol::{Layout, layout},
    },
    netlink::links,
    ruleset::Running,
    watch::{
        client::Watching,
        wire::{Message, want},
    },
};

pub fn monitor(global: &Global, command: &Monitor) -> Result<()> {
    let maps = maps(global)?;
    let watching = Watching::begin(maps.pins(), wants(&command.only))?;
    let mut show = Show {
        output: global.output,
        filter: command.filter.clone(),
        masters: Masters::open(&maps)?,
        reasons: Reasons::open(&maps)?,
        rules: RuleNames { maps, running: None },
    };
    announce();
    follow(watching, |printer, message| show.message(printer, message))
}

fn wants(only: &[Watched]) -> u32 {
    let want = |watched: &Watched| match watched {
        Watched::Drops => want::DROPS,
        Watched::Flows => want::NEW | want::DESTROY,
        Watched::Helper => want::HELPER,
    };
    only.iter().map(want).fold(0, |all, one| all | one)
}

/// Prints what happens.
struct Show {
    output: Output,
    filter: LineFilter,
    reasons: Reasons,
    masters: Masters,
    rules: RuleNames,
}

impl Show {
    fn message(&mut self, printer: &mut Printer, message: &Message) -> Result<ControlFlow<()>> {
        match message {
            Message::Ready | Message::Cause(_) | Message::Trouble(_) => {
                Ok(ControlFlow::Continue(()))
            }
            Message::Drop(event) => self.dropped(printer, event),
            Message::Flow(event) => self.flow(printer, event),
            Message::Helper(event) => self.helper(printer, event),
            Message::Lost(loss) => self.lost(printer, loss),
        }
    }

    fn dropped(&mut self, printer: &mut Printer, event: &Event) -> Result<ControlFlow<()>> {
        let (input, out) = (links::name(event.in_ifindex), links::name(event.out_ifindex));
        if !self.filter.matches_drop(event, &input, &out) {
            return Ok(ControlFlow::Continue(()));
        }
        let rule = self.rules.name(event);
        let why = self.reasons.of(event)?;
        let view = DropView {
            event,
            time: wall_time(event.at),
            interfaces: Interfaces { input: &input, output: &out },
            rule: rule.as_deref(),
            why: why.as_deref(),
        };
        let text = match self.output {
            Output::Text => event::text(&view),
            Output::Json => event::json(&view),
        };
        printer.line(|line| {
            line.text(&text);
        })
    }

    fn flow(&self, printer: &mut Printer, event: &FlowEvent) -> Result<ControlFlow<()>> {
        let Some(change) = FlowChange::from_byte(event.change) else {
            return Ok(ControlFlow::Continue(()));
        };
        let tuple = event.flow.wire_original(&event.key);
        let has_ports = layout(tuple.protocol) == Layout::Ports;
        let ports = has_ports.then_some((tuple.sport, tuple.dport));
        let hosts = (tuple.src.to_ip(), tuple.dst.to_ip());
        if !self.filter.matches_other(tuple.protocol, hosts, ports) {
            return Ok(ControlFlow::Continue(()));
        }
        let master: Option<Tuple> = self.masters.of(&event.key, &event.flow)?;
        let view = FlowView { key: event.key, flow: event.flow, master, now: event.at };
        let (output, time) = (self.output, wall_time(event.at));
        printer.line(|line| match output {
            Output::Text => flow::brief::write(line, &view, change, time),
            Output::Json => flow::json::write_event(line, &view, change, time),
        })
    }

    fn helper(&self, printer: &mut Printer, event: &HelperEvent) -> Result<ControlFlow<()>> {
        let (client, server) = (event.client, event.server);
        let ports = Some((client.port(), server.port()));
        let hosts = (client.ip(), server.ip());
        if !self.filter.matches_other(protocol::TCP, hosts, ports) {
            return Ok(ControlFlow::Continue(()));
        }
        let write = match self.output {
            Output::Text => helper_event::text,
            Output::Json => helper_event::json,
        };
        printer.line(|line| write(line, event, wall_time(Nanos(event.at))))
    }

    fn lost(&self, printer: &mut Printer, loss: &Loss) -> Result<ControlFlow<()>> {
        let write = match self.output {
            Output::Text => lost::text,
            Output::Json => lost::json,
        };
        printer.line(|line| write(line, loss))
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
            self.running = Running::load_generation(&self.maps, event.generation).ok().flatten();
        }
        self.running.as_ref()?.rule_name(event.rule)
    }
}

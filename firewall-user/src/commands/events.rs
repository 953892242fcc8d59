//! `firewall conntrack events`: flows as they begin, change and end.

use std::{
    ops::ControlFlow,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::Result;
use firewall_common::{
    flow::{Tuple, status},
    flow_event::{FlowChange, FlowEvent},
};

use super::{
    follow::{announce, follow},
    maps,
    output::Printer,
};
use crate::{
    cli::{
        FlowFilter,
        args::{EventName, Events, Global, Output},
    },
    kernel::{
        flows::Masters,
        maps::{Maps, wall_time},
    },
    listing::{
        flow::{self, FlowView, text::Labels},
        line::Line,
        lost,
    },
    watch::{
        client::Watching,
        wire::{Message, want},
    },
};

pub fn events(global: &Global, command: &Events) -> Result<()> {
    watch(&maps(global)?, command, global.output, Labels::default(), announce)
}

/// As `conntrack -E`: what it shows and nothing else.
pub fn events_alone(maps: &Maps, command: &Events, labels: Labels) -> Result<()> {
    watch(maps, command, Output::Text, labels, || {})
}

fn watch(
    maps: &Maps,
    command: &Events,
    output: Output,
    labels: Labels,
    begun: impl FnOnce(),
) -> Result<()> {
    let watching = Watching::begin(maps.pins(), wants(&command.event_mask))?;
    let show = Show {
        output,
        has_timestamp: command.timestamp,
        labels,
        filter: &command.filter,
        masters: Masters::open(maps)?,
    };
    begun();
    follow(watching, |printer, message| show.message(printer, message))
}

fn wants(names: &[EventName]) -> u32 {
    let want = |name: &EventName| match name {
        EventName::All => want::FLOWS,
        EventName::New => want::NEW,
        EventName::Updates => want::UPDATE,
        EventName::Destroy => want::DESTROY,
    };
    names.iter().map(want).fold(0, |all, one| all | one)
}

/// Prints what the filter lets through.
struct Show<'f> {
    output: Output,
    has_timestamp: bool,
    labels: Labels,
    filter: &'f FlowFilter,
    masters: Masters,
}

impl Show<'_> {
    fn message(&self, printer: &mut Printer, message: &Message) -> Result<ControlFlow<()>> {
        match message {
            Message::Flow(event) => self.event(printer, event),
            Message::Lost(loss) => {
                let write = match self.output {
                    Output::Text => lost::text,
                    Output::Json => lost::json,
                };
                printer.line(|line| write(line, loss))
            }
            Message::Ready
            | Message::Drop(_)
            | Message::Helper(_)
            | Message::Cause(_)
            | Message::Trouble(_) => Ok(ControlFlow::Continue(())),
        }
    }

    fn event(&self, printer: &mut Printer, event: &FlowEvent) -> Result<ControlFlow<()>> {
        let Some(change) = FlowChange::from_byte(event.change) else {
            return Ok(ControlFlow::Continue(()));
        };
        if !self.filter.matches(&event.key, &event.flow) {
            return Ok(ControlFlow::Continue(()));
        }
        let master = self.master(event)?;
        let view = FlowView { key: event.key, flow: event.flow, master, now: event.at };
        let Self { output, has_timestamp, labels, .. } = *self;
        printer.line(|line| match output {
            Output::Text => {
                if has_timestamp {
                    timestamp(line, wall_time(event.at));
                }
                flow::text::write_event(line, &view, change, labels);
            }
            Output::Json => flow::json::write_event(line, &view, change, wall_time(event.at)),
        })
    }

    /// Only JSON tells it, and only an expected flow has one.
    fn master(&self, event: &FlowEvent) -> Result<Option<Tuple>> {
        match self.output {
            Output::Json if event.flow.has(status::EXPECTED) => {
                self.masters.of(&event.key, &event.flow)
            }
            _ => Ok(None),
        }
    }
}

/// `[1795256217.042000] `, as conntrack(8) prints it.
fn timestamp(line: &mut Line, time: SystemTime) {
    let since: Duration = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let micros = format!("{:06}", since.subsec_micros());
    line.text("[").number(since.as_secs()).text(".").text(&micros).text("]\t");
}

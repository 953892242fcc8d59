//! LOG rules: a line for each packet that reached one, with the prefix and at
//! the level that the rule gives.
//!
//! Floods are cut twice. The programs hand over at most
//! [`firewall_common::scratch::Budget::PER_SECOND`] events in a second on each
//! CPU; of these, at most [`BURST`] become lines at once and [`PER_SECOND`] in the
//! long run, whatever the rules. How many were left out is told every few
//! seconds while some are.

use std::collections::HashMap;

use firewall_common::event::Event;

use crate::{
    kernel::maps::Maps,
    listing::log_line::{self, Interfaces, LogFormat},
    log::{self, RateLimit},
    netlink::links,
    rules::Log,
    ruleset::Running,
};

/// Rulesets whose LOG rules are remembered: the one in force, and the one before
/// whose packets may still be on the ring.
const REMEMBERED: usize = 2;

/// Lines per second in the long run. The journal takes 10,000 messages of a
/// service in 30 s and drops what follows (journald.conf(5), RateLimitBurst=):
/// this and [`BURST`] leave 3,000 of them for what the daemon tells of itself.
const PER_SECOND: u32 = 200;
/// Lines at once: a scan of the well-known ports is seen as a whole.
const BURST: u32 = 1_000;

/// Turns events of LOG rules into lines.
#[derive(Debug)]
pub struct RuleLog {
    maps: Maps,
    generations: Vec<(u32, HashMap<u32, Log>)>,
    limit: RateLimit,
}

impl RuleLog {
    pub fn new(maps: Maps) -> Self {
        Self { maps, generations: Vec::new(), limit: RateLimit::new(PER_SECOND, BURST) }
    }

    /// Writes the line of an event, if there are not too many.
    pub fn line(&mut self, event: &Event) {
        if !self.limit.admit(event.at) {
            return;
        }
        let rule = self.rule(event.generation, event.rule);
        let (input, output) = (links::name(event.in_ifindex), links::name(event.out_ifindex));
        let format = LogFormat::new(&rule.prefix, rule.options);
        let interfaces = Interfaces { input: &input, output: &output };
        log::packet(rule.level, &log_line::text(event, &format, interfaces));
    }

    /// Tells how many lines were left out since this was called last, if any.
    pub fn tell_left_out(&mut self) {
        match self.limit.take_left_out() {
            0 => {}
            1 => tracing::warn!("1 line of LOG rules left out: too many at once"),
            lines => tracing::warn!("{lines} lines of LOG rules left out: too many at once"),
        }
    }

    /// A rule that is no longer known logs as one without options.
    fn rule(&mut self, generation: u32, index: u32) -> Log {
        if !self.generations.iter().any(|(known, _)| *known == generation) {
            self.remember(generation);
        }
        let known = self.generations.iter().find(|(known, _)| *known == generation);
        known.and_then(|(_, rules)| rules.get(&index)).cloned().unwrap_or_default()
    }

    fn remember(&mut self, generation: u32) {
        let rules = match Running::load_generation(&self.maps, generation) {
            Ok(running) => running.map(|running| running.logs()).unwrap_or_default(),
            Err(error) => {
                tracing::warn!("cannot tell the prefixes of LOG rules: {error:#}");
                HashMap::new()
            }
        };
        self.generations.truncate(REMEMBERED - 1);
        self.generations.insert(0, (generation, rules));
    }
}

//! LOG rules: a line for each packet that reached one, with the prefix and at
//! the level that the rule gives.

use std::collections::HashMap;

use firewall_common::event::Event;

use crate::{
    kernel::maps::Maps,
    listing::log_line::{self, Interfaces, LogFormat},
    log,
    netlink::links,
    rules::{Log, log_option},
    ruleset::Running,
};

/// Rulesets whose LOG rules are remembered: the one in force, and the one before
/// whose packets may still be on the ring.
const REMEMBERED: usize = 2;

/// Turns events of LOG rules into lines.
#[derive(Debug)]
pub struct RuleLog {
    maps: Maps,
    generations: Vec<(u32, HashMap<u32, Log>)>,
}

impl RuleLog {
    pub const fn new(maps: Maps) -> Self {
        Self { maps, generations: Vec::new() }
    }

    /// Writes the line of an event.
    pub fn line(&mut self, event: &Event) {
        let rule = self.rule(event.generation, event.rule);
        let (input, output) = (links::name(event.in_ifindex), links::name(event.out_ifindex));
        let format = LogFormat {
            prefix: &rule.prefix,
            tcp_sequence: rule.options & log_option::TCP_SEQUENCE != 0,
            tcp_options: rule.options & log_option::TCP_OPTIONS != 0,
            ip_options: rule.options & log_option::IP_OPTIONS != 0,
        };
        let interfaces = Interfaces { input: &input, output: &output };
        log::packet(rule.level, &log_line::text(event, &format, interfaces));
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
            Ok(running) => running.logs(),
            Err(error) => {
                tracing::warn!("cannot tell the prefixes of LOG rules: {error:#}");
                HashMap::new()
            }
        };
        self.generations.truncate(REMEMBERED - 1);
        self.generations.insert(0, (generation, rules));
    }
}

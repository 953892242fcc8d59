//! What the readers ask for, done.

use std::sync::atomic::Ordering;

use anyhow::{Context, Result};
use firewall_common::{
    control::option, expectation::Expectation, flow::protocol, helper_stats::HelperCount,
    time::Nanos,
};

use super::{Control, Helper};
use crate::{
    helper::{Action, Due, Hole, Note, Passage},
    kernel::maps::now,
    listing::helper_event::{HelperChange, HelperEvent},
};

/// How long an announcement holds (nf_conntrack_ftp: five minutes).
const EXPECTATION_LIFETIME: Nanos = Nanos::from_secs(300);
/// How long a passage does: its control connection ends it.
const FOREVER: Nanos = Nanos(u64::MAX);

impl Helper {
    pub(super) fn act_on(&mut self, control: Control, actions: impl IntoIterator<Item = Action>) {
        for action in actions {
            if let Err(error) = self.act(control, action) {
                tracing::error!(target: "helper", "{error:#}");
            }
        }
    }

    fn act(&mut self, control: Control, action: Action) -> Result<()> {
        match action {
            Action::Open(hole) => self.open(control, hole),
            Action::Close(hole) => self.close(control, hole),
            Action::Encrypted => self.mark(control, true),
            Action::Decrypted => self.mark(control, false),
            Action::Admit(passage) => self.admit(control, passage),
            Action::Dismiss(passage) => self.dismiss(control, passage),
            Action::Note(note) => {
                self.note(control, &note);
                Ok(())
            }
        }
    }

    /// Tells what opened nothing; the log gets some of a flood of it.
    fn note(&mut self, control: Control, note: &Note) {
        self.stats.count(HelperCount::Noted);
        if self.limit.admit(now()) {
            tracing::warn!(target: "helper", "{note}");
        }
        self.tell(control, HelperChange::Note(note.to_string()));
    }

    fn open(&mut self, control: Control, announced: Hole) -> Result<()> {
        let inside = self.behind_its_request(control, announced)?;
        // Nobody was told of it, and why was said then.
        let Some(hole) = self.tellings.wire(&control, announced) else { return Ok(()) };
        if hole.protocol == protocol::UDP && self.is_taken(control, hole)? {
            self.stats.count(HelperCount::Refused);
            let text = format!("{hole} is not opened: another request waits there");
            self.tell(control, HelperChange::Note(text));
            return Ok(());
        }
        let Self { ledger, expectations, .. } = self;
        let client = control.client().ip();
        let stands = |other: &Control, hole: &Hole| {
            let standing = expectations.get(&hole.key()).ok().flatten();
            standing.is_some_and(|standing| Control::behind(&standing) == *other)
        };
        if !ledger.admit(client, control, hole, stands) {
            self.stats.count(HelperCount::Refused);
            let max = self.max_holes_per_host;
            let text = format!(
                "{hole} is not opened: {client} has {max} holes that nobody has used; see \
                 max_holes_per_host"
            );
            if self.limit.admit(now()) {
                tracing::warn!(target: "helper", "{text}");
            }
            self.tell(control, HelperChange::Note(text));
            return Ok(());
        }
        if hole.protocol == protocol::UDP {
            self.switches.turn_on(option::UDP_EXPECTED)?;
        }
        let mut expectation = expectation(control, now().after(EXPECTATION_LIFETIME));
        if hole != inside {
            expectation.inside = inside.dst.into();
            expectation.inside_port = inside.dport;
        }
        tracing::debug!(target: "helper", "expects {hole}");
        self.expectations
            .insert(hole.key(), expectation)
            .inspect_err(|_| {
                self.refused.fetch_add(1, Ordering::Relaxed);
            })
            .with_context(|| format!("cannot expect {hole}: its transfer will fail"))?;
        self.stats.count(HelperCount::Opened);
        let Hole { src, dst, dport, .. } = hole;
        self.tell(control, HelperChange::Expects { src, dst, dport });
        Ok(())
    }

    /// Whether another's hole stands in the same place of the map.
    fn is_taken(&self, control: Control, hole: Hole) -> Result<bool> {
        let standing = self.expectations.get(&hole.key())?;
        match standing.filter(|it| it.expires.is_after(now())).map(|it| Control::behind(&it)) {
            Some(other) if other != control => self.is_alive(other),
            _ => Ok(false),
        }
    }

    /// Where a hole leads. What a datagram has asked for comes to where that came from, as its
    /// server knows it, and goes to who sent it: nothing has to be told.
    fn behind_its_request(&mut self, control: Control, hole: Hole) -> Result<Hole> {
        let key = control.key();
        let is_own = hole.protocol == protocol::UDP
            && (hole.dst, hole.dport) == (control.client().ip(), control.client().port());
        let flow = if is_own { self.flows.get(&key, now())? } else { None };
        let Some(flow) = flow.filter(|it| it.created == control.created && it.is_translated())
        else {
            return Ok(hole);
        };
        let (sent, seen) = (flow.wire_original(&key), flow.wire_reply(&key));
        let wire = Hole { dst: seen.dst.to_ip(), dport: seen.dport, ..hole };
        self.tellings.remember(control, hole, Some(wire));
        Ok(Hole { dst: sent.src.to_ip(), dport: sent.sport, ..hole })
    }

    fn close(&mut self, control: Control, hole: Hole) -> Result<()> {
        // What was told longest ago may be forgotten.
        let standing = self.ledger.remove(control.client().ip(), &control);
        let Some(hole) = standing.or_else(|| self.tellings.wire(&control, hole)) else {
            return Ok(());
        };
        let key = hole.key();
        let standing = self.expectations.get(&key)?;
        if standing.is_some_and(|standing| Control::behind(&standing) == control) {
            tracing::debug!(target: "helper", "no longer expects {hole}");
            if self.expectations.remove(&key)? {
                self.stats.count(HelperCount::Closed);
                let Hole { src, dst, dport, .. } = hole;
                self.tell(control, HelperChange::Withdraws { src, dst, dport });
            }
        }
        Ok(())
    }

    /// Opens a range of ports, or notes who else keeps it open.
    pub(super) fn admit(&mut self, control: Control, passage: Passage) -> Result<()> {
        self.stats.count(HelperCount::Admitted);
        let due = self.passages.admit(passage, control);
        self.tell(control, HelperChange::Admits(passage.to_string()));
        match due {
            Due::Insert(control) => self.keep_open(passage, control),
            Due::Nothing | Due::Remove => Ok(()),
        }
    }

    pub(super) fn dismiss(&mut self, control: Control, passage: Passage) -> Result<()> {
        let due = self.passages.dismiss(passage, control);
        self.tell(control, HelperChange::Dismisses(passage.to_string()));
        // Behind the same address there may be another server with the same range.
        let key = passage.key();
        let standing = self.expectations.get(&key)?;
        if standing.is_some_and(|it| super::passage(&key, &it) != Some(passage)) {
            return Ok(());
        }
        match due {
            Due::Nothing => Ok(()),
            Due::Insert(next) => self.keep_open(passage, next),
            Due::Remove => match self.passages.beside(&passage) {
                Some((other, control)) => self.keep_open(other, control),
                None => self.expectations.remove(&key).map(drop),
            },
        }
    }

    /// Writes down for whom a range of ports stands open.
    fn keep_open(&mut self, passage: Passage, control: Control) -> Result<()> {
        self.switches.turn_on(option::PASSAGES)?;
        let mut expectation = Expectation {
            first_port: passage.ports.first(),
            last_port: passage.ports.last(),
            ..expectation(control, FOREVER)
        };
        if let Some(inside) = passage.inside {
            expectation.inside = inside.into();
            expectation.inside_port = passage.ports.first();
        }
        self.expectations
            .insert(passage.key(), expectation)
            .with_context(|| format!("cannot open {passage}: its transfers will fail"))
    }

    pub(super) fn tell(&self, control: Control, change: HelperChange) {
        let (client, server) = (control.client(), control.server());
        let helper = control.helper;
        self.watchers.helper(HelperEvent { at: now().0, helper, client, server, change });
    }

    fn mark(&mut self, control: Control, is_encrypted: bool) -> Result<()> {
        let (client, server) = (control.client().ip(), control.server().ip());
        if is_encrypted {
            self.stats.count(HelperCount::Encrypted);
            tracing::info!(
                target: "helper",
                "{client} -> {server} is encrypted now: its data connections cannot be followed; \
                 see tls_passive_range"
            );
            self.tell(control, HelperChange::Encrypted);
        } else {
            self.stats.count(HelperCount::Decrypted);
            tracing::info!(target: "helper", "{client} -> {server} is in the clear again");
            self.tell(control, HelperChange::Decrypted);
        }
        self.maps.mark_encrypted(&control.key(), is_encrypted, now())
    }
}

fn expectation(control: Control, expires: Nanos) -> Expectation {
    Expectation {
        expires,
        master: control.flow,
        master_created: control.created,
        helper: control.helper,
        ..Expectation::default()
    }
}

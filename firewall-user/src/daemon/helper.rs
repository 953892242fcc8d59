//! The helper at work: held segments go to their conversations, what those ask
//! for is done, and the segments go on.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
};

use anyhow::{Context, Result};
use firewall_common::{
    conntrack::tcp,
    event::Punt,
    expectation::Expectation,
    flow::{Direction, Flow, FlowKey, State, Tuple, helper},
    time::Nanos,
};

use super::{
    events::Watchers,
    inject::{Injector, Tokens},
    sweeping::Refused,
};
use crate::{
    ftp::{Conversation, Policy},
    helper::{Action, Beginning, Hole, Reader as _},
    kernel::maps::{Expectations, Flows, Maps, now},
    listing::helper_event::{HelperChange, HelperEvent},
};

/// How long an announcement holds (nf_conntrack_ftp: five minutes).
const EXPECTATION_LIFETIME: Nanos = Nanos::from_secs(300);
/// Conversations held at once; beyond, the one that was silent longest is
/// forgotten and joined again in its middle when it speaks.
const MAX_CONVERSATIONS: usize = 65_536;

/// Which flow: a tuple may be used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Control {
    flow: Tuple,
    created: Nanos,
}

#[derive(Debug)]
struct Followed {
    conversation: Conversation,
    heard: Nanos,
}

/// All control connections that are followed.
#[derive(Debug)]
pub struct Helper {
    maps: Maps,
    expectations: Expectations,
    tokens: Tokens,
    flows: Flows,
    injector: Injector,
    policy: Arc<Policy>,
    watchers: Watchers,
    /// Connections made later, and not picked up in their middle, are known from
    /// their first segment on.
    known_since: Nanos,
    refused: Refused,
    followed: HashMap<Control, Followed>,
}

impl Helper {
    /// # Errors
    /// When the maps cannot be opened.
    pub fn new(maps: Maps, injector: Injector, policy: Policy, watchers: Watchers) -> Result<Self> {
        Ok(Self {
            expectations: Expectations::open(&maps)?,
            tokens: Tokens::open(&maps)?,
            flows: Flows::open(&maps)?,
            maps,
            injector,
            policy: Arc::new(policy),
            watchers,
            known_since: now(),
            refused: Refused::default(),
            followed: HashMap::new(),
        })
    }

    /// How many expectations found no room, for those who watch the tables.
    pub fn refused(&self) -> Refused {
        Arc::clone(&self.refused)
    }

    /// Reads one record of the ring and sends its frame on.
    pub fn segment(&mut self, record: &[u8]) {
        let Some((punt, frame)) = split(record) else {
            tracing::error!("a record of {} bytes on the ring of held segments", record.len());
            return;
        };
        let payload = frame
            .get(usize::from(punt.payload)..)
            .map(|rest| &rest[..rest.len().min(usize::from(punt.payload_len))])
            .unwrap_or_default();
        if punt.helper == helper::FTP {
            self.read(&punt, payload);
        }
        if let Err(error) = self.send(&punt, frame) {
            tracing::warn!("{error:#}; the sender will repeat it");
        }
    }

    fn send(&self, punt: &Punt, frame: &[u8]) -> Result<()> {
        self.injector.send(punt, frame, self.tokens.of(punt.ifindex)?)
    }

    fn read(&mut self, punt: &Punt, payload: &[u8]) {
        let control = Control { flow: punt.flow, created: punt.flow_created };
        let direction = match punt.direction {
            0 => Direction::Original,
            _ => Direction::Reply,
        };
        if !self.followed.contains_key(&control) {
            self.begin(control, punt.picked_up != 0);
        }
        let Some(followed) = self.followed.get_mut(&control) else { return };
        followed.heard = now();
        let gaps = followed.conversation.acknowledged(direction, punt.ack);
        let read = followed.conversation.segment(direction, punt.seq, payload);
        for action in gaps.into_iter().chain(read) {
            self.act(control, &action);
        }
    }

    fn begin(&mut self, control: Control, picked_up: bool) {
        if self.followed.len() >= MAX_CONVERSATIONS {
            self.forget_the_most_silent();
        }
        let (client, server) = (control.flow.src.to_ip(), control.flow.dst.to_ip());
        let start_seen = !picked_up && control.created.is_after(self.known_since);
        let beginning = if start_seen { Beginning::Seen } else { Beginning::Missed };
        let mut conversation =
            Conversation::new(client, server, beginning, Arc::clone(&self.policy));
        if !start_seen && let Some(hole) = self.standing_hole(control) {
            conversation.restore_hole(hole);
        }
        self.followed.insert(control, Followed { conversation, heard: now() });
    }

    /// What a former daemon has opened for this connection.
    fn standing_hole(&self, control: Control) -> Option<Hole> {
        let all = self.maps.expectations(now()).ok()?;
        let own = all.into_iter().find(|(_, expectation)| is_of(expectation, control));
        own.map(|(key, _)| Hole::from(key))
    }

    fn forget_the_most_silent(&mut self) {
        let silent = self.followed.iter().min_by_key(|(_, followed)| followed.heard);
        if let Some(control) = silent.map(|(control, _)| *control) {
            self.followed.remove(&control);
            // It may speak again: its beginning is then long past.
            self.known_since = now();
        }
    }

    fn act(&mut self, control: Control, action: &Action) {
        let done = match action {
            Action::Open(hole) => self.open(control, *hole),
            Action::Close(hole) => self.close(control, *hole),
            Action::Encrypted => self.mark_encrypted(control),
            // Nothing makes these yet: no configuration names a range, and what is
            // marked as encrypted is not read.
            Action::Decrypted | Action::Admit(_) | Action::Dismiss(_) => Ok(()),
            Action::Note(note) => {
                tracing::warn!(target: "ftp", "{note}");
                self.tell(control, HelperChange::Note(note.to_string()));
                Ok(())
            }
        };
        if let Err(error) = done {
            tracing::error!(target: "ftp", "{error:#}");
        }
    }

    fn open(&mut self, control: Control, hole: Hole) -> Result<()> {
        let expectation = Expectation {
            expires: now().after(EXPECTATION_LIFETIME),
            master: control.flow,
            master_created: control.created,
            helper: helper::FTP,
            ..Expectation::default()
        };
        tracing::debug!(target: "ftp", "expects {hole}");
        self.expectations
            .insert(hole.key(), expectation)
            .inspect_err(|_| {
                self.refused.fetch_add(1, Ordering::Relaxed);
            })
            .with_context(|| format!("cannot expect {hole}: its transfer will fail"))?;
        let Hole { src, dst, dport, .. } = hole;
        self.tell(control, HelperChange::Expects { src, dst, dport });
        Ok(())
    }

    fn close(&mut self, control: Control, hole: Hole) -> Result<()> {
        let key = hole.key();
        if self.expectations.get(&key)?.is_some_and(|standing| is_of(&standing, control)) {
            tracing::debug!(target: "ftp", "no longer expects {hole}");
            if self.expectations.remove(&key)? {
                let Hole { src, dst, dport, .. } = hole;
                self.tell(control, HelperChange::Withdraws { src, dst, dport });
            }
        }
        Ok(())
    }

    fn tell(&self, control: Control, change: HelperChange) {
        let Tuple { src, dst, sport, dport, .. } = control.flow;
        let client = SocketAddr::new(src.to_ip(), sport);
        let server = SocketAddr::new(dst.to_ip(), dport);
        self.watchers.helper(HelperEvent { at: now().0, client, server, change });
    }

    fn mark_encrypted(&self, control: Control) -> Result<()> {
        let flow = control.flow;
        tracing::info!(
            target: "ftp",
            "{} -> {} is encrypted now: its data connections cannot be followed",
            flow.src.to_ip(),
            flow.dst.to_ip()
        );
        self.tell(control, HelperChange::Encrypted);
        let (key, _) = FlowKey::of(&flow);
        self.maps.mark_encrypted(&key, now())
    }

    /// Lets go of the conversations whose connection is over, and of the holes
    /// that they leave behind.
    ///
    /// # Errors
    /// When the maps cannot be read.
    pub fn sweep(&mut self) -> Result<()> {
        let over: Vec<_> = {
            let controls = self.followed.keys();
            let over = controls.filter_map(|control| match self.is_over(*control) {
                Ok(true) => Some(Ok(*control)),
                Ok(false) => None,
                Err(error) => Some(Err(error)),
            });
            over.collect::<Result<_>>()?
        };
        for control in over {
            if let Some(mut followed) = self.followed.remove(&control) {
                for action in followed.conversation.ended() {
                    self.act(control, &action);
                }
            }
        }
        Ok(())
    }

    fn is_over(&self, control: Control) -> Result<bool> {
        let (key, _) = FlowKey::of(&control.flow);
        let flow = self.flows.get(&key, now())?;
        Ok(!flow.is_some_and(|flow| flow.created == control.created && is_open(&flow)))
    }
}

fn is_open(flow: &Flow) -> bool {
    State::from_byte(flow.state).is_some_and(tcp::is_open)
}

fn is_of(expectation: &Expectation, control: Control) -> bool {
    expectation.master == control.flow && expectation.master_created == control.created
}

/// A record of the ring: what is known of the frame, and the frame.
fn split(record: &[u8]) -> Option<(Punt, &[u8])> {
    let (head, rest) = record.split_at_checked(size_of::<Punt>())?;
    let punt: Punt = bytemuck::pod_read_unaligned(head);
    Some((punt, rest.get(..punt.frame_len as usize)?))
}

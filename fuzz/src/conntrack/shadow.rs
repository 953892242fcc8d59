//! What an onlooker knows of the flows: who was let through to whom.

use std::collections::HashMap;

use firewall_common::{
    conntrack::icmp::{Class, classify},
    flow::{CtState, Direction, Flow, FlowKey, Sender, protocol, status},
    headers::Headers,
    scratch::Scratch,
    tables::FlowTable,
    testing::Memory,
    time::Nanos,
    verdict::{DropReason, Stat, Verdict},
    wire::tcp_flag::RST,
};

use super::{invariants, script::Sent};
use crate::ledger::Ledger;

/// Who of a flow's endpoints has had a packet accepted, by key and time of creation.
#[derive(Debug, Default)]
pub(super) struct Shadow {
    heard: HashMap<FlowKey, (Nanos, [bool; 2])>,
}

type Flows = HashMap<FlowKey, (FlowTable, Flow)>;

/// A packet and what it met.
struct Seen<'m> {
    memory: &'m Memory,
    scratch: Scratch,
    verdict: Verdict,
    key: FlowKey,
    sender: Sender,
    /// The flow of the packet before it, if it was alive.
    was: Option<Flow>,
    /// What stood in the tables, alive or not.
    stood: Option<Flow>,
    is: Option<Flow>,
    has_created: bool,
    now: Nanos,
}

impl Shadow {
    /// Has a frame judged, and asserts what must hold behind it.
    pub(super) fn watch(
        &mut self,
        memory: &Memory,
        sent: &Sent,
        frame: &[u8],
        now: Nanos,
    ) -> Verdict {
        let before = flows(memory);
        let ledger = Ledger::of(memory);
        let verdict = memory.filter_from(sent.place, frame, now);
        let after = flows(memory);
        ledger.assert_one_packet(memory, verdict);
        invariants::hold(memory, &after, now);

        let scratch = memory.scratch();
        let headers = &scratch.headers;
        let (key, sender) = FlowKey::of(&headers.tuple);
        if headers.is_later_fragment() {
            only_counts(&before, &after);
            return verdict;
        }
        if is_error(headers) {
            assert_eq!(before, after, "an error changes no flow");
            return verdict;
        }
        others_stay(&before, &after, &key);
        let stood = before.get(&key).map(|(_, flow)| *flow);
        let seen = Seen {
            memory,
            scratch,
            verdict,
            key,
            sender,
            was: stood.filter(|flow| !flow.is_expired(now)),
            stood,
            is: after.get(&key).map(|(_, flow)| *flow),
            has_created: ledger.moved(memory, Stat::FlowsCreated) != 0,
            now,
        };
        seen.assert_no_trace_of_what_was_dropped();
        seen.assert_accounts();
        self.assert_established_only_after_both(&seen);
        self.hear(&seen);
        verdict
    }

    fn assert_established_only_after_both(&self, seen: &Seen<'_>) {
        if seen.ctstate() != Some(CtState::Established) {
            return;
        }
        let was = seen.was.unwrap_or_else(|| panic!("ESTABLISHED without a live flow"));
        let heard = self.heard.get(&seen.key).filter(|(created, _)| *created == was.created);
        let (_, heard) = heard.expect("a flow that an accepted packet began");
        let other = heard[usize::from(seen.sender == Sender::Low)];
        assert!(other, "ESTABLISHED before the other side said anything");
    }

    fn hear(&mut self, seen: &Seen<'_>) {
        let counts =
            matches!(seen.ctstate(), Some(CtState::New | CtState::Established | CtState::Related));
        let Some(is) = seen.is.filter(|_| seen.went_on() && counts) else { return };
        let heard = self.heard.entry(seen.key).or_default();
        if seen.has_created || heard.0 != is.created {
            *heard = (is.created, [false; 2]);
        }
        heard.1[usize::from(seen.sender == Sender::High)] = true;
    }
}

impl Seen<'_> {
    fn ctstate(&self) -> Option<CtState> {
        CtState::from_bit(self.scratch.walk.ctstate)
    }

    const fn went_on(&self) -> bool {
        matches!(self.verdict, Verdict::Accept(_) | Verdict::Punt(_))
    }

    /// What is not accepted, or INVALID, may make less of a flow, and nothing else.
    fn assert_no_trace_of_what_was_dropped(&self) {
        let is_believed = self.went_on()
            && !matches!(self.ctstate(), Some(CtState::Invalid | CtState::Untracked));
        if is_believed {
            return;
        }
        assert!(!self.has_created);
        // A connection that was over makes room even for one that finds none.
        if self.verdict == Verdict::Drop(DropReason::TableFull) && self.is.is_none() {
            return;
        }
        let (Some(stood), Some(is)) = (self.stood, self.is) else {
            assert_eq!(self.stood, self.is, "{:?}", self.verdict);
            return;
        };
        assert!(is.expires <= stood.expires, "{:?} wins time", self.verdict);
        let alike = Flow { expires: stood.expires, last: stood.last, ..is };
        assert_eq!(alike, stood, "{:?}", self.verdict);
    }

    /// An accepted packet counts once, in its direction, unless nobody knows yet
    /// what it means.
    fn assert_accounts(&self) {
        if self.has_created {
            return self.assert_begun();
        }
        if !self.went_on() {
            return;
        }
        let (Some(was), Some(is)) = (self.was, self.is) else {
            let is_refused = self.was.is_some_and(|was| !was.has(status::SEEN_REPLY))
                && self.scratch.headers.has_tcp_flag(RST);
            assert!(self.is == self.stood || is_refused, "a flow came or went");
            return;
        };
        let direction = is.direction(self.sender);
        let (own, other) = (was.side(direction), was.side(direction.reversed()));
        let counted = is.side(direction).packets - own.packets;
        let bytes = is.side(direction).bytes - own.bytes;
        assert!(counted <= 1, "counted {counted} times");
        assert_eq!(bytes, counted * u64::from(self.scratch.headers.ip_len));
        let still = is.side(direction.reversed());
        assert_eq!((still.packets, still.bytes), (other.packets, other.bytes));
        assert_eq!((is.created, is.originator), (was.created, was.originator));
        assert_eq!(is.status & was.status, was.status, "a status was taken back");
        let is_tracked = !matches!(self.ctstate(), Some(CtState::Invalid | CtState::Untracked));
        if self.key.protocol() != protocol::TCP {
            assert_eq!(counted, u64::from(is_tracked), "{:?}", self.ctstate());
        }
        if counted == 1 {
            assert!(is_tracked && is.expires > self.now);
        }
        if matches!(direction, Direction::Reply) && is_tracked {
            assert!(is.has(status::SEEN_REPLY));
        }
    }

    fn assert_begun(&self) {
        assert!(self.went_on(), "{:?} began a flow", self.verdict);
        assert!(matches!(self.ctstate(), Some(CtState::New | CtState::Related)));
        let is = self.is.expect("the flow that was created");
        let [original, reply] = is.sides;
        assert_eq!((original.packets, reply.packets, reply.bytes), (1, 0, 0));
        assert_eq!(original.bytes, u64::from(self.scratch.headers.ip_len));
        assert_eq!(is.created, self.now);
        assert_eq!(is.direction(self.sender), Direction::Original);
        assert!(!is.has(status::SEEN_REPLY | status::ASSURED) && is.expires > self.now);
        assert_eq!(
            self.memory.known(&self.key).map(|(table, _)| table),
            Some(FlowTable::Embryonic)
        );
    }
}

fn flows(memory: &Memory) -> Flows {
    let all = memory.flows();
    let count = all.len();
    let flows: Flows = all.into_iter().map(|(table, key, flow)| (key, (table, flow))).collect();
    assert_eq!(flows.len(), count, "a flow stands in both tables");
    flows
}

fn is_error(headers: &Headers) -> bool {
    let protocol = headers.tuple.protocol;
    matches!(protocol, protocol::ICMP | protocol::ICMPV6)
        && classify(protocol, headers.icmp_type) == Class::Error
}

fn others_stay(before: &Flows, after: &Flows, key: &FlowKey) {
    let count = |flows: &Flows| flows.len() - usize::from(flows.contains_key(key));
    assert_eq!(count(before), count(after), "another flow came or went");
    for (other, flow) in before.iter().filter(|(other, _)| *other != key) {
        assert_eq!(after.get(other), Some(flow), "a packet of {key:?} changed another flow");
    }
}

/// A later fragment is counted at most once, and moves nothing but the end of what
/// its sender has sent.
fn only_counts(before: &Flows, after: &Flows) {
    assert_eq!(before.len(), after.len());
    let mut counted = 0;
    for (key, (table, flow)) in before {
        let (table_after, mut changed) = after[key];
        assert_eq!(*table, table_after);
        for (side, former) in changed.sides.iter_mut().zip(&flow.sides) {
            counted += side.packets - former.packets;
            (side.packets, side.bytes) = (former.packets, former.bytes);
            if key.protocol() == protocol::TCP {
                assert!(!side.window.end.is_before(former.window.end), "{key:?}");
                side.window.end = former.window.end;
            }
        }
        assert_eq!(changed, *flow);
    }
    assert!(counted <= 1);
}

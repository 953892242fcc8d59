//! What one packet's judgement works on.
//!
//! The kernel gives a program 512 bytes of stack; this is its desk beside it,
//! one for each CPU and hook. Only its [`Budget`]s outlive the packet.

use bytemuck::Zeroable;

use crate::{
    checksum::Verification,
    classifier::Search,
    conntrack::{
        association::Association,
        options::TcpOptions,
        window::{Connection, Seen},
    },
    event::{Event, Punt},
    expectation::{ExpectationKey, Master},
    extra::Facts,
    flow::{Flow, FlowKey, Tuple},
    flow_event::FlowEvent,
    fragment::{Early, FragmentGrant, FragmentKey},
    headers::Headers,
    mangle::Mangling,
    nat::Desk,
    shift::Renumbering,
    synproxy::Proxy,
    time::Nanos,
    walk::Walk,
};

#[repr(C)]
#[derive(Clone, Copy, Debug, Zeroable)]
pub struct Scratch {
    pub headers: Headers,
    /// The packet that an ICMP error quotes.
    pub quoted: Tuple,
    pub key: FlowKey,
    /// Of the control connection that may have announced this flow.
    pub master_key: FlowKey,
    pub walk: Walk,
    /// Where the walk stands in the index, when its rules have one.
    pub search: Search,
    /// What the rules' extra conditions look at; gathered when they have any.
    pub facts: Facts,
    /// What the rules have made of the packet; for [`crate::verdict::Verdict::Accept`] and
    /// [`crate::verdict::Verdict::Punt`].
    pub mangling: Mangling,
    /// Room for the options of a TCP header that is written anew.
    pub options_desk: [u8; 64],
    pub verification: Verification,
    pub flow: Flow,
    /// The TCP options of the segment.
    pub options: TcpOptions,
    pub seen: Seen,
    /// The TCP connection as the segment will leave it.
    pub connection: Connection,
    /// The SCTP association as the packet will leave it.
    pub association: Association,
    pub expectation: ExpectationKey,
    pub master: Master,
    pub fragment: FragmentKey,
    pub grant: FragmentGrant,
    pub event: Event,
    pub flow_event: FlowEvent,
    /// Filled in for [`crate::verdict::Verdict::Punt`].
    pub punt: Punt,
    pub proxy: Proxy,
    /// What becomes of its numbers.
    pub renumbering: Renumbering,
    /// What becomes of its ends.
    pub nat: Desk,
    /// Filled in for [`crate::verdict::Verdict::Wait`].
    pub early: Early,
    /// For events.
    pub budget: Budget,
    /// For early fragments.
    pub holds: Budget,
    /// For drops that nobody watches.
    pub remembered: Budget,
}

/// How much of something a CPU may still do in this second.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Zeroable)]
pub struct Budget {
    pub since: Nanos,
    pub spent: u64,
}

impl Budget {
    /// Events in one second; LOG and drops share them.
    pub const PER_SECOND: u64 = 2_000;
    /// Drops in one second that are reported to be remembered.
    pub const REMEMBERED: u64 = 64;

    /// Whether one more of so many in a second fits, and takes it.
    #[inline(always)]
    pub fn spend(&mut self, now: Nanos, limit: u64) -> bool {
        if now.since(self.since).0 >= Nanos::from_secs(1).0 {
            *self = Self { since: now, spent: 0 };
        }
        if self.spent >= limit {
            return false;
        }
        self.spent += 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spent_budget_is_back_in_the_next_second() {
        let mut budget = Budget::default();
        let now = Nanos::from_secs(100);
        assert_eq!((0..5_000).filter(|_| budget.spend(now, 2_000)).count(), 2_000);
        assert!(budget.spend(now.after(Nanos::from_secs(1)), 2_000));
    }
}

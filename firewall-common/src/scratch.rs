//! What one packet's judgement works on.
//!
//! The kernel gives a program 512 bytes of stack; this is its desk beside it,
//! one for each CPU and hook. Only [`Budget`] outlives the packet.

use bytemuck::Zeroable;

use crate::{
    conntrack::{
        options::TcpOptions,
        window::{Connection, Seen},
    },
    event::{Event, Punt},
    expectation::{ExpectationKey, Master},
    flow::{Flow, FlowKey, Tuple},
    flow_event::FlowEvent,
    headers::Headers,
    synproxy::Proxy,
    tables::{FragmentGrant, FragmentKey},
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
    pub walk: Walk,
    pub flow: Flow,
    /// The TCP options of the segment.
    pub options: TcpOptions,
    pub seen: Seen,
    /// The TCP connection as the segment will leave it.
    pub connection: Connection,
    pub expectation: ExpectationKey,
    pub master: Master,
    pub fragment: FragmentKey,
    pub grant: FragmentGrant,
    pub event: Event,
    pub flow_event: FlowEvent,
    /// Filled in for [`crate::verdict::Verdict::Punt`].
    pub punt: Punt,
    pub proxy: Proxy,
    pub budget: Budget,
}

/// How many events a CPU may still report in this second.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Zeroable)]
pub struct Budget {
    pub since: Nanos,
    pub spent: u64,
}

impl Budget {
    /// Events in one second; LOG and drops share them.
    pub const PER_SECOND: u64 = 2_000;

    /// Whether one more event fits, and takes it.
    #[inline(always)]
    pub fn spend(&mut self, now: Nanos) -> bool {
        if now.since(self.since).0 >= Nanos::from_secs(1).0 {
            *self = Self { since: now, spent: 0 };
        }
        if self.spent >= Self::PER_SECOND {
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
        assert_eq!((0..5_000).filter(|_| budget.spend(now)).count(), 2_000);
        assert!(budget.spend(now.after(Nanos::from_secs(1))));
    }
}

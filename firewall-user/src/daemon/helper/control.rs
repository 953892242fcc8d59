//! One control connection, as the helper tells it from others.

use std::net::SocketAddr;

use firewall_common::{
    conntrack::tcp,
    event::Punt,
    expectation::Expectation,
    flow::{Flow, FlowKey, State, Tuple, helper, protocol},
    time::Nanos,
};

/// Which flow: a tuple may be used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Control {
    pub flow: Tuple,
    pub created: Nanos,
    /// One of [`helper`].
    pub helper: u8,
}

impl Control {
    pub const fn of(punt: &Punt) -> Self {
        Self { flow: punt.flow, created: punt.flow_created, helper: punt.helper }
    }

    /// The one whose flow this is.
    pub fn of_flow(key: &FlowKey, flow: &Flow) -> Self {
        let Flow { created, helper, .. } = *flow;
        Self { flow: key.tuple(flow.originator()), created, helper }
    }

    /// The one that an expectation names.
    pub const fn behind(expectation: &Expectation) -> Self {
        let Expectation { master, master_created, helper, .. } = *expectation;
        Self { flow: master, created: master_created, helper }
    }

    pub fn key(&self) -> FlowKey {
        FlowKey::of(&self.flow).0
    }

    pub fn client(&self) -> SocketAddr {
        SocketAddr::new(self.flow.src.to_ip(), self.flow.sport)
    }

    pub fn server(&self) -> SocketAddr {
        SocketAddr::new(self.flow.dst.to_ip(), self.flow.dport)
    }

    /// Whether what stands under its key now is this connection, and goes on.
    pub fn is_alive(&self, flow: Option<Flow>) -> bool {
        flow.is_some_and(|flow| flow.created == self.created && self.is_open(&flow))
    }

    fn is_open(&self, flow: &Flow) -> bool {
        helper::protocol(self.helper) != Some(protocol::TCP)
            || State::from_byte(flow.state).is_some_and(tcp::is_open)
    }
}

//! What a tracker has noted of a flow, in a form that both can be put into.

use std::{fmt, net::SocketAddr};

/// One connection, by its original direction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flow {
    pub id: FlowId,
    /// A protocol's state by its name; empty where it has none.
    pub state: String,
    pub seen_reply: bool,
    pub assured: bool,
    /// The name of the timeout that is running.
    pub timeout: &'static str,
    /// Packets and bytes of the original and the reply direction.
    pub packets: [u64; 2],
    pub bytes: [u64; 2],
}

/// What tells a flow from others: whoever began it stands first.
///
/// The ports of ICMP are the identifier and zero; `kind` is the request's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FlowId {
    pub protocol: u8,
    pub kind: u8,
    pub source: SocketAddr,
    pub destination: SocketAddr,
}

impl FlowId {
    /// The same for both directions.
    pub fn unordered(&self) -> Self {
        let (source, destination) =
            (self.source.min(self.destination), self.source.max(self.destination));
        Self { source, destination, ..*self }
    }
}

impl fmt::Display for FlowId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { protocol, source, destination, .. } = self;
        write!(f, "protocol {protocol} from {source} to {destination}")
    }
}

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { state, timeout, packets: [there, back], bytes, .. } = self;
        let state = if state.is_empty() { "-" } else { state };
        let replied = if self.seen_reply { "replied" } else { "UNREPLIED" };
        let assured = if self.assured { " ASSURED" } else { "" };
        write!(
            f,
            "{state} {replied}{assured} timeout {timeout}, {there} packets {} bytes there, \
             {back} packets {} bytes back",
            bytes[0], bytes[1]
        )
    }
}

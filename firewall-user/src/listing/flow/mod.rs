//! A flow, as conntrack(8) 1.4.7 prints it and as JSON.

use firewall_common::{
    flow::{Direction, Flow, FlowKey, Tuple, helper, status},
    time::Nanos,
};

use super::{protocol, state};

pub mod brief;
pub mod json;
pub mod text;

#[cfg(test)]
mod tests;

/// A flow, and what is needed to print it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowView {
    pub key: FlowKey,
    pub flow: Flow,
    /// The control connection that announced this one, in its original direction.
    pub master: Option<Tuple>,
    pub now: Nanos,
}

impl FlowView {
    /// As the client sends them.
    fn original(&self) -> Tuple {
        self.flow.wire_original(&self.key)
    }

    /// As the server sends them: where addresses are translated, not the reverse.
    fn reply(&self) -> Tuple {
        self.flow.wire_reply(&self.key)
    }

    /// How it is translated, as its packets show it.
    fn translations(&self) -> u8 {
        self.flow.translations(&self.key)
    }

    /// With that in the place of the bits by which the programs know it.
    fn status(&self) -> u8 {
        const KNOWN: u8 = status::SOURCE_TRANSLATED | status::DESTINATION_TRANSLATED;
        self.flow.status & !KNOWN | self.translations()
    }

    /// Seconds.
    fn timeout(&self) -> u64 {
        self.flow.expires.since(self.now).as_secs()
    }

    /// A number that stays with a flow (FNV-1a of its endpoints and its beginning). The
    /// kernel's is of the same kind, and as meaningless.
    fn identifier(&self) -> u32 {
        let created = bytemuck::bytes_of(&self.flow.created);
        let bytes = bytemuck::bytes_of(&self.key).iter().chain(created);
        bytes.fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
    }

    fn state(&self) -> &'static str {
        state::name(self.key.protocol(), self.flow.state)
    }

    /// The helper as conntrack(8) would print it; `ftp(tls)` where the connection is
    /// encrypted.
    fn helper_text(&self) -> Option<&'static str> {
        match (self.helper(), self.flow.has(status::ENCRYPTED)) {
            (Some("ftp"), true) => Some("ftp(tls)"),
            (helper, _) => helper,
        }
    }

    /// The helper that reads this connection, not the one that announced it.
    fn helper(&self) -> Option<&'static str> {
        helper::name(self.flow.helper).filter(|_| !self.flow.has(status::EXPECTED))
    }
}

/// What an ICMP flow has in place of ports.
#[derive(Clone, Copy, Debug)]
struct Icmp {
    kind: u8,
    code: u8,
    id: u16,
}

impl Icmp {
    /// The identifier stands in one port, the other is zero.
    const fn of(tuple: &Tuple, direction: Direction) -> Self {
        let kind = match direction {
            Direction::Original => tuple.icmp_type,
            Direction::Reply => protocol::icmp_reply(tuple.protocol, tuple.icmp_type),
        };
        Self { kind, code: tuple.icmp_code, id: tuple.sport | tuple.dport }
    }
}

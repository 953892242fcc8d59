//! Flows as conntrack(8) prints them, read back.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, Result, bail};

use super::clock;
use crate::oracle::flow::{Flow, FlowId};

/// What `conntrack -L` printed, one flow a line.
pub(super) fn parse(text: &str) -> Result<Vec<Flow>> {
    text.lines().map(|line| flow(line).with_context(|| format!("cannot read: {line}"))).collect()
}

/// `tcp 6 431999 ESTABLISHED src=… dst=… sport=1 dport=2 packets=1 bytes=60 [UNREPLIED]
/// src=… … [ASSURED] mark=0 use=1`
fn flow(line: &str) -> Result<Flow> {
    let mut words = line.split_whitespace().skip(1);
    let protocol = words.next().context("no protocol")?.parse()?;
    let remaining = words.next().context("no timeout")?.parse()?;
    let mut state = String::new();
    let mut sides = Vec::new();
    let (mut seen_reply, mut assured) = (true, false);
    for word in words {
        match (word, word.split_once('=')) {
            ("[UNREPLIED]", _) => seen_reply = false,
            ("[ASSURED]", _) => assured = true,
            (_, Some(("src", address))) => sides.push(Side::from(address.parse()?)),
            (_, Some((name, value))) => {
                sides.last_mut().context("a number before the addresses")?.set(name, value)?;
            }
            (word, None) => state = word.into(),
        }
    }
    let [original, reply] = sides[..] else { bail!("{} directions", sides.len()) };
    Ok(Flow {
        id: original.id(protocol)?,
        state,
        seen_reply,
        assured,
        timeout: clock::name(protocol, remaining),
        packets: [original.packets, reply.packets],
        bytes: [original.bytes, reply.bytes],
    })
}

#[derive(Clone, Copy)]
struct Side {
    source: IpAddr,
    destination: Option<IpAddr>,
    /// Ports, keys, or the identifier of ICMP.
    ports: [u16; 2],
    kind: u8,
    packets: u64,
    bytes: u64,
}

impl Side {
    const fn from(source: IpAddr) -> Self {
        Self { source, destination: None, ports: [0; 2], kind: 0, packets: 0, bytes: 0 }
    }

    fn set(&mut self, name: &str, value: &str) -> Result<()> {
        match name {
            "dst" => self.destination = Some(value.parse()?),
            "sport" | "id" => self.ports[0] = value.parse()?,
            "dport" => self.ports[1] = value.parse()?,
            "srckey" => self.ports[0] = key(value)?,
            "dstkey" => self.ports[1] = key(value)?,
            "type" => self.kind = value.parse()?,
            "packets" => self.packets = value.parse()?,
            "bytes" => self.bytes = value.parse()?,
            "code" | "mark" | "use" | "secctx" => {}
            _ => bail!("an unknown field `{name}`"),
        }
        Ok(())
    }

    fn id(&self, protocol: u8) -> Result<FlowId> {
        let destination = self.destination.context("no destination")?;
        Ok(FlowId {
            protocol,
            kind: self.kind,
            source: SocketAddr::new(self.source, self.ports[0]),
            destination: SocketAddr::new(destination, self.ports[1]),
        })
    }
}

fn key(value: &str) -> Result<u16> {
    let digits = value.strip_prefix("0x").context("a key without 0x")?;
    Ok(u16::from_str_radix(digits, 16)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_conntrack_is_read() {
        let line = "tcp      6 9999 ESTABLISHED src=198.18.0.1 dst=198.19.0.1 sport=40000 \
                    dport=5000 packets=2 bytes=120 src=198.19.0.1 dst=198.18.0.1 sport=5000 \
                    dport=40000 packets=1 bytes=60 [ASSURED] mark=0 use=1";
        let flow = flow(line).unwrap();
        assert_eq!(flow.state, "ESTABLISHED");
        assert!(flow.seen_reply && flow.assured);
        assert_eq!(flow.timeout, "established");
        assert_eq!(flow.packets, [2, 1]);
        assert_eq!(flow.id.source, "198.18.0.1:40000".parse().unwrap());
    }

    #[test]
    fn protocols_without_ports_and_states_are_read() {
        let line = "icmp     1 29 src=198.18.0.1 dst=198.19.0.1 type=8 code=0 id=77 packets=1 \
                    bytes=44 [UNREPLIED] src=198.19.0.1 dst=198.18.0.1 type=0 code=0 id=77 \
                    packets=0 bytes=0 mark=0 use=1";
        let ping = flow(line).unwrap();
        assert!(!ping.seen_reply);
        assert_eq!((ping.id.kind, ping.id.source.port()), (8, 77));
        let line = "gre      47 29 src=198.18.0.1 dst=198.19.0.1 srckey=0x0 dstkey=0x1f packets=1 \
                    bytes=44 [UNREPLIED] src=198.19.0.1 dst=198.18.0.1 srckey=0x1f dstkey=0x0 \
                    packets=0 bytes=0 mark=0 use=1";
        assert_eq!(flow(line).unwrap().id.destination.port(), 31);
    }
}

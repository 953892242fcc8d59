//! `firewall explain`: the packet that is asked about.

use std::net::IpAddr;

use clap::Args;
use firewall_common::{flow::protocol, wire::tcp_flag};

use super::value::{InterfaceName, Protocol};
use crate::explain::{Way, chunk, frame::Asked};

/// The port of a client that nobody has named.
const ANY_CLIENT: u16 = 40_000;

/// Say what would happen to a packet, at which rule, and why; nothing is sent or changed
#[derive(Args, Clone, Debug)]
pub struct Explain {
    /// Interface by which it comes in; without it this host sends the packet
    #[arg(
        short = 'i',
        long = "in-interface",
        value_name = "IF",
        required_unless_present = "output_if"
    )]
    pub input_if: Option<InterfaceName>,

    /// Interface by which it leaves: of this host's own packets, and of those that come in
    /// where the firewall does not judge
    #[arg(short = 'O', long = "out-interface", value_name = "IF")]
    pub output_if: Option<InterfaceName>,

    /// Protocol, by name or number: tcp, udp, sctp, icmp, 47
    #[arg(short = 'p', long = "proto", value_name = "PROTOCOL")]
    pub protocol: Protocol,

    /// Source address
    #[arg(short = 's', long = "src", value_name = "ADDRESS")]
    pub src: IpAddr,

    /// Destination address
    #[arg(short = 'd', long = "dst", value_name = "ADDRESS")]
    pub dst: IpAddr,

    /// Source port, of a protocol with ports; 40000 for a packet that begins a connection
    #[arg(long, value_name = "PORT")]
    pub sport: Option<u16>,

    /// Destination port, of a protocol with ports
    #[arg(long, value_name = "PORT")]
    pub dport: Option<u16>,

    /// TCP: the first segment of a connection
    #[arg(long, conflicts_with = "tcp_flags")]
    pub syn: bool,

    /// TCP: these flags, e.g. SYN,ACK or NONE [default: ACK]
    #[arg(long, value_name = "FLAGS", value_parser = tcp_flags)]
    pub tcp_flags: Option<u8>,

    /// TCP: sequence number [default: what the sender would say next]
    #[arg(long, value_name = "NUMBER")]
    pub seq: Option<u32>,

    /// TCP: acknowledgement number [default: all that the other side has sent]
    #[arg(long, value_name = "NUMBER")]
    pub ack: Option<u32>,

    /// SCTP: the packet's chunk, e.g. INIT, COOKIE_ECHO or DATA [default: INIT]
    #[arg(long, value_name = "TYPE", value_parser = chunk_type)]
    pub chunk_type: Option<u8>,

    /// ICMP, ICMPv6: type, or type/code [default: echo request]
    #[arg(long, value_name = "TYPE[/CODE]", value_parser = icmp_type)]
    pub icmp_type: Option<(u8, u8)>,

    /// ICMP, ICMPv6: identifier
    #[arg(long, value_name = "ID", default_value_t = 1)]
    pub icmp_id: u16,

    /// Bytes behind the transport header
    #[arg(long, value_name = "BYTES", default_value_t = 0, value_parser = clap::value_parser!(u16).range(..=1400))]
    pub payload: u16,

    /// Explain the answer to this packet, after it has passed itself
    #[arg(long)]
    pub as_reply: bool,
}

fn tcp_flags(text: &str) -> Result<u8, String> {
    let flag = |name: &str| {
        Ok(match name.to_ascii_uppercase().as_str() {
            "FIN" => tcp_flag::FIN,
            "SYN" => tcp_flag::SYN,
            "RST" => tcp_flag::RST,
            "PSH" => tcp_flag::PSH,
            "ACK" => tcp_flag::ACK,
            "URG" => tcp_flag::URG,
            "ECE" => tcp_flag::ECE,
            "CWR" => tcp_flag::CWR,
            "NONE" => 0,
            _ => return Err(format!("`{name}` is no flag; wanted e.g. SYN,ACK")),
        })
    };
    text.split(',').try_fold(0, |bits, name| Ok(bits | flag(name)?))
}

fn chunk_type(text: &str) -> Result<u8, String> {
    chunk::named(text)
        .ok_or_else(|| format!("`{text}` is no type of chunk; there are {}", chunk::names()))
}

fn icmp_type(text: &str) -> Result<(u8, u8), String> {
    let (kind, code) = text.split_once('/').unwrap_or((text, "0"));
    match (kind.parse(), code.parse()) {
        (Ok(kind), Ok(code)) => Ok((kind, code)),
        _ => Err("wanted are numbers: 8, or 3/1".into()),
    }
}

impl Explain {
    /// The packet.
    ///
    /// # Errors
    /// What contradicts itself, and what to write instead.
    pub fn asked(&self) -> Result<Asked, String> {
        let Protocol(number) = self.protocol;
        if self.src.is_ipv4() != self.dst.is_ipv4() {
            return Err("-s and -d are of two families".into());
        }
        match (number, self.src.is_ipv4()) {
            (protocol::ICMP, false) => return Err("over IPv6 it is -p icmpv6".into()),
            (protocol::ICMPV6, true) => return Err("over IPv4 it is -p icmp".into()),
            _ => {}
        }
        self.check_ports(number)?;
        let is_tcp = number == protocol::TCP;
        let has_tcp =
            self.syn || self.tcp_flags.is_some() || self.seq.is_some() || self.ack.is_some();
        if has_tcp && !is_tcp {
            return Err("--syn, --tcp-flags, --seq and --ack need -p tcp".into());
        }
        let is_sctp = number == protocol::SCTP;
        if self.chunk_type.is_some() && !is_sctp {
            return Err("--chunk-type needs -p sctp".into());
        }
        let is_icmp = matches!(number, protocol::ICMP | protocol::ICMPV6);
        if self.icmp_type.is_some() && !is_icmp {
            return Err("--icmp-type needs -p icmp or -p icmpv6".into());
        }
        let echo = if number == protocol::ICMP { (8, 0) } else { (128, 0) };
        let flags = if self.syn { tcp_flag::SYN } else { self.tcp_flags.unwrap_or(tcp_flag::ACK) };
        Ok(Asked {
            src: self.src,
            dst: self.dst,
            protocol: number,
            sport: self.sport.unwrap_or(if self.dport.is_some() { ANY_CLIENT } else { 0 }),
            dport: self.dport.unwrap_or(0),
            flags: match number {
                protocol::TCP => flags,
                protocol::SCTP => self.chunk_type.unwrap_or(chunk::INIT),
                _ => 0,
            },
            seq: self.seq,
            ack: self.ack,
            icmp: if is_icmp { self.icmp_type.unwrap_or(echo) } else { (0, 0) },
            icmp_id: self.icmp_id,
            payload: self.payload,
        })
    }

    fn check_ports(&self, number: u8) -> Result<(), String> {
        let has_ports =
            matches!(number, protocol::TCP | protocol::UDP | protocol::UDPLITE | protocol::SCTP);
        let begins = number != protocol::TCP || self.syn;
        match (has_ports, self.sport, self.dport) {
            (true, _, None) => Err("this protocol has ports: name --dport, and --sport".into()),
            (true, None, _) if !begins => {
                Err("without --syn it belongs to a connection: name its --sport".into())
            }
            (false, Some(_), _) | (false, _, Some(_)) => {
                Err("this protocol has no ports: leave --sport and --dport out".into())
            }
            _ => Ok(()),
        }
    }

    /// The way that it takes.
    pub fn way(&self) -> Way {
        match (&self.input_if, &self.output_if) {
            (Some(input), Some(output)) => Way::Through(input.clone(), output.clone()),
            (Some(input), None) => Way::In(input.clone()),
            (None, Some(output)) => Way::Out(output.clone()),
            (None, None) => unreachable!("clap wants one of them"),
        }
    }
}

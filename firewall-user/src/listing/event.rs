//! A dropped packet, as `firewall monitor` shows it.

use std::{
    fmt::Write as _,
    net::{IpAddr, SocketAddr},
    time::SystemTime,
};

use firewall_common::{
    addr::Addr, event::Event, flow::CtState, headers::Headers, rule::Chain, verdict::DropReason,
};
use serde::Serialize;

use super::{
    frame::Captured,
    json,
    log_line::Interfaces,
    protocol::{self, Layout},
    time::rfc3339,
};

/// A drop, and what is needed to print it.
#[derive(Clone, Copy, Debug)]
pub struct DropView<'e> {
    pub event: &'e Event,
    /// When it happened, by the wall clock.
    pub time: SystemTime,
    pub interfaces: Interfaces<'e>,
    /// The rule that decided, as people find it: `FORWARD 3`.
    pub rule: Option<&'e str>,
    /// Why it has its ctstate.
    pub why: Option<&'e str>,
}

/// What the captured bytes tell of the packet. Where they end too early, or
/// contradict themselves, the rest is not told.
#[derive(Clone, Copy, Debug)]
pub struct Endpoints {
    pub src: Addr,
    pub dst: Addr,
    pub protocol: u8,
    pub ports: Option<(u16, u16)>,
    /// Type and code.
    pub icmp: Option<(u8, u8)>,
    pub is_later_fragment: bool,
    /// 0 when it is no TCP.
    pub tcp_flags: u8,
}

impl Endpoints {
    /// What an event's captured bytes tell; `None` where there are no addresses.
    pub fn of(event: &Event) -> Option<Self> {
        let mut headers = Headers::default();
        let parsed = headers.parse(&Captured(event), event.l3 != 0);
        if headers.version == 0 {
            return None;
        }
        let tuple = headers.tuple;
        let layout = protocol::layout(tuple.protocol);
        let has_transport = parsed.is_ok() && !headers.is_later_fragment();
        Some(Self {
            src: tuple.src,
            dst: tuple.dst,
            protocol: tuple.protocol,
            ports: (has_transport && layout == Layout::Ports).then_some((tuple.sport, tuple.dport)),
            icmp: (has_transport && layout == Layout::Icmp)
                .then_some((headers.icmp_type, headers.icmp_code)),
            is_later_fragment: headers.is_later_fragment(),
            tcp_flags: if has_transport { headers.tcp_flags } else { 0 },
        })
    }
}

/// The name of an [`Event::chain`]; `None` when the packet reached none.
pub fn chain_name(chain: u8) -> Option<&'static str> {
    const CHAINS: [(Chain, &str); 5] = [
        (Chain::Input, "INPUT"),
        (Chain::Forward, "FORWARD"),
        (Chain::Output, "OUTPUT"),
        (Chain::RawPrerouting, "raw PREROUTING"),
        (Chain::RawOutput, "raw OUTPUT"),
    ];
    CHAINS.into_iter().find(|(known, _)| *known as u8 == chain).map(|(_, name)| name)
}

impl DropView<'_> {
    fn reason(&self) -> &'static str {
        DropReason::from_byte(self.event.reason).map_or("unknown", DropReason::name)
    }

    fn chain(&self) -> Option<&'static str> {
        chain_name(self.event.chain)
    }

    fn ctstate(&self) -> Option<&'static str> {
        CtState::from_bit(self.event.ctstate).map(CtState::name)
    }

    /// From the network header on, as a LOG line counts.
    fn length(&self) -> u32 {
        self.event.frame_len.saturating_sub(u32::from(self.event.l3))
    }
}

/// `2026-11-21T10:16:57.042Z DROP policy FORWARD in=eth0 out=eth1 ctstate=NEW
/// tcp 192.0.2.2:4000 -> 198.51.100.2:80 len=60`, on one line; what is not known
/// is left out.
pub fn text(view: &DropView<'_>) -> String {
    let mut line = format!("{} DROP {}", rfc3339(view.time), view.reason());
    push(&mut line, "", view.chain());
    push(&mut line, "rule=", view.rule.map(|rule| rule.replace(' ', ":")).as_deref());
    push(&mut line, "in=", Some(view.interfaces.input));
    push(&mut line, "out=", Some(view.interfaces.output));
    push(&mut line, "ctstate=", view.ctstate());
    if let Some(endpoints) = Endpoints::of(view.event) {
        push_endpoints(&mut line, &endpoints);
    }
    let _ = write!(line, " len={}", view.length());
    if let Some(why) = view.why {
        let _ = write!(line, " why=\"{why}\"");
    }
    line
}

fn push(line: &mut String, name: &str, value: Option<&str>) {
    if let Some(value) = value.filter(|value| !value.is_empty()) {
        let _ = write!(line, " {name}{value}");
    }
}

fn push_endpoints(line: &mut String, endpoints: &Endpoints) {
    let (src, dst) = (endpoints.src.to_ip(), endpoints.dst.to_ip());
    let _ = write!(line, " {} ", protocol::json_name(endpoints.protocol));
    let _ = match endpoints.ports {
        Some((sport, dport)) => {
            write!(line, "{} -> {}", SocketAddr::new(src, sport), SocketAddr::new(dst, dport))
        }
        None => write!(line, "{src} -> {dst}"),
    };
    if let Some((kind, code)) = endpoints.icmp {
        let _ = write!(line, " type={kind} code={code}");
    }
    if endpoints.is_later_fragment {
        line.push_str(" fragment");
    }
}

#[derive(Serialize)]
struct DropJson<'v> {
    event: &'static str,
    time: String,
    reason: &'static str,
    chain: Option<&'static str>,
    rule: Option<&'v str>,
    r#in: Option<&'v str>,
    out: Option<&'v str>,
    ctstate: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<&'v str>,
    #[serde(flatten)]
    packet: Option<PacketJson>,
    length: u32,
}

#[derive(Serialize)]
struct PacketJson {
    family: &'static str,
    protocol: String,
    src: IpAddr,
    dst: IpAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    sport: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dport: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    r#type: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<u8>,
}

impl PacketJson {
    fn of(endpoints: &Endpoints) -> Self {
        Self {
            family: json::family(endpoints.src),
            protocol: protocol::json_name(endpoints.protocol),
            src: endpoints.src.to_ip(),
            dst: endpoints.dst.to_ip(),
            sport: endpoints.ports.map(|(sport, _)| sport),
            dport: endpoints.ports.map(|(_, dport)| dport),
            r#type: endpoints.icmp.map(|(kind, _)| kind),
            code: endpoints.icmp.map(|(_, code)| code),
        }
    }
}

/// One JSON object, `"event":"drop"`.
pub fn json(view: &DropView<'_>) -> String {
    let named = |name| Some(name).filter(|name: &&str| !name.is_empty());
    json::line(&DropJson {
        event: "drop",
        time: rfc3339(view.time),
        reason: view.reason(),
        chain: view.chain(),
        rule: view.rule,
        r#in: named(view.interfaces.input),
        out: named(view.interfaces.output),
        ctstate: view.ctstate(),
        why: view.why,
        packet: Endpoints::of(view.event).as_ref().map(PacketJson::of),
        length: view.length(),
    })
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use firewall_common::event::EVENT_FRAME;
    use proptest::prelude::*;

    use super::{super::fixtures::*, *};

    const SYN: [u8; 20] = [0x0f, 0xa0, 0, 80, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 2, 0, 0, 0, 0, 0, 0];

    fn dropped(frame: &[u8]) -> Event {
        let mut event = event(frame);
        event.kind = 1;
        event.reason = DropReason::Policy as u8;
        event.chain = Chain::Forward as u8;
        event.ctstate = CtState::New.bit();
        event
    }

    fn view(event: &Event) -> DropView<'_> {
        let interfaces = Interfaces { input: "eth0", output: "eth1" };
        DropView { event, time: UNIX_EPOCH, interfaces, rule: None, why: None }
    }

    /// The line behind the time.
    fn line(frame: &[u8]) -> String {
        text(&view(&dropped(frame))).strip_prefix("1970-01-01T00:00:00.000Z ").unwrap().to_owned()
    }

    #[test]
    fn a_line_says_why_where_and_what() {
        assert_eq!(
            line(&ipv4(6, 1, &SYN)),
            "DROP policy FORWARD in=eth0 out=eth1 ctstate=NEW tcp 192.0.2.2:4000 -> 192.0.2.1:80 \
             len=40"
        );
    }

    #[test]
    fn over_ipv6_addresses_with_ports_stand_in_brackets() {
        let line = line(&ipv6(6, &SYN));
        assert!(line.contains(" tcp [2001:db8::2]:4000 -> [2001:db8::1]:80 len=60"), "{line}");
    }

    #[test]
    fn what_has_no_ports_has_none() {
        let ping = line(&ipv4(1, 1, &[8, 0, 0, 0, 0, 7, 0, 1]));
        assert!(ping.ends_with(" icmp 192.0.2.2 -> 192.0.2.1 type=8 code=0 len=28"), "{ping}");
        let ospf = line(&ipv4(89, 1, &[0; 8]));
        assert!(ospf.ends_with(" 89 192.0.2.2 -> 192.0.2.1 len=28"), "{ospf}");
        let mut later = ipv4(17, 1, &[0; 8]);
        later[21] = 9;
        assert!(line(&later).ends_with(" udp 192.0.2.2 -> 192.0.2.1 fragment len=28"));
    }

    #[test]
    fn what_is_not_known_is_left_out() {
        let mut event = dropped(&[0; 20]);
        (event.chain, event.ctstate, event.reason) = (255, 0, DropReason::Truncated as u8);
        let interfaces = Interfaces { input: "eth0", output: "" };
        let text = text(&DropView { interfaces, ..view(&event) });
        assert!(text.ends_with("Z DROP truncated in=eth0 len=6"), "{text}");
    }

    #[test]
    fn a_packet_that_was_cut_off_still_shows_its_addresses() {
        let mut event = dropped(&ipv4(6, 1, &SYN)[..40]);
        event.reason = DropReason::Truncated as u8;
        let text = text(&view(&event));
        assert!(text.ends_with(" tcp 192.0.2.2 -> 192.0.2.1 len=26"), "{text}");
    }

    #[test]
    fn the_rule_is_named_when_it_is_known() {
        let event = dropped(&ipv4(6, 1, &SYN));
        let view = DropView { rule: Some("FORWARD 3"), ..view(&event) };
        assert!(text(&view).contains(" FORWARD rule=FORWARD:3 in=eth0 "));
        assert!(json(&view).contains(r#""rule":"FORWARD 3""#));
    }

    #[test]
    fn the_reason_of_the_ctstate_stands_last() {
        let event = dropped(&ipv4(6, 1, &SYN));
        let view = DropView { why: Some("no flow has these endpoints"), ..view(&event) };
        assert!(text(&view).ends_with(" len=40 why=\"no flow has these endpoints\""));
        assert!(json(&view).contains(r#","why":"no flow has these endpoints","#));
    }

    #[test]
    fn json_has_the_same_facts() {
        assert_eq!(
            json(&view(&dropped(&ipv4(6, 1, &SYN)))),
            concat!(
                r#"{"event":"drop","time":"1970-01-01T00:00:00.000Z","reason":"policy","#,
                r#""chain":"FORWARD","rule":null,"in":"eth0","out":"eth1","ctstate":"NEW","#,
                r#""family":"ipv4","protocol":"tcp","src":"192.0.2.2","dst":"192.0.2.1","#,
                r#""sport":4000,"dport":80,"length":40}"#
            )
        );
    }

    proptest! {
        #[test]
        fn any_capture_makes_a_line(
            frame in proptest::collection::vec(any::<u8>(), EVENT_FRAME),
            version in prop_oneof![Just(0x45_u8), Just(0x4f), Just(0x60), any::<u8>()],
            numbers in any::<(u16, u8, u32, u8, u8, u8)>(),
        ) {
            let mut event = event(&frame);
            let ether_type = if version >> 4 == 6 { [0x86, 0xdd] } else { [8, 0] };
            event.frame[12..14].copy_from_slice(&ether_type);
            event.frame[14] = version;
            (event.l3, event.captured, event.frame_len, event.reason, event.chain, event.ctstate) =
                numbers;
            prop_assert!(text(&view(&event)).contains(" DROP "));
            let line = json(&view(&event));
            prop_assert!(line.contains("\"event\":\"drop\""));
        }
    }
}

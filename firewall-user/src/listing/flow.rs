//! A flow as conntrack(8) 1.4.7 prints it, and as a JSON line.

use std::{fmt::Write as _, net::IpAddr};

use firewall_common::{
    flow::{Direction, Flow, FlowKey, Side, State, Tuple, helper, status},
    time::Nanos,
};
use serde::Serialize;

use super::{
    json::{self, Master},
    protocol::{self, Layout},
};

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
    fn original(&self) -> Tuple {
        self.key.tuple(self.flow.originator())
    }

    fn timeout(&self) -> u64 {
        self.flow.expires.since(self.now).as_secs()
    }

    fn state(&self) -> &'static str {
        State::from_byte(self.flow.state).map_or("", State::name)
    }

    /// The helper that reads this connection, not the one that announced it.
    fn helper(&self) -> Option<&'static str> {
        helper::name(self.flow.helper).filter(|_| !self.flow.has(status::EXPECTED))
    }
}

/// `tcp      6 431999 ESTABLISHED src=… [ASSURED] mark=0 helper=ftp use=1`
pub fn text(view: &FlowView) -> String {
    let original = view.original();
    let name = protocol::name(original.protocol).unwrap_or("unknown");
    let mut line = format!("{name:<8} {} {} ", original.protocol, view.timeout());
    push_word(&mut line, view.state());
    push_direction(&mut line, &original, Direction::Original, view);
    push_if(&mut line, !view.flow.has(status::SEEN_REPLY), "[UNREPLIED]");
    push_direction(&mut line, &original.reversed(), Direction::Reply, view);
    push_if(&mut line, view.flow.has(status::ASSURED), "[ASSURED]");
    push_if(&mut line, view.flow.has(status::ENCRYPTED), "[ENCRYPTED]");
    let _ = write!(line, "mark={} ", view.flow.mark);
    if let Some(helper) = view.helper() {
        let _ = write!(line, "helper={helper} ");
    }
    line + "use=1"
}

fn push_word(line: &mut String, word: &str) {
    push_if(line, !word.is_empty(), word);
}

fn push_if(line: &mut String, is_wanted: bool, word: &str) {
    if is_wanted {
        line.push_str(word);
        line.push(' ');
    }
}

fn push_direction(line: &mut String, tuple: &Tuple, direction: Direction, view: &FlowView) {
    let _ = write!(line, "src={} dst={} ", tuple.src.to_ip(), tuple.dst.to_ip());
    match protocol::layout(tuple.protocol) {
        Layout::Ports => {
            let _ = write!(line, "sport={} dport={} ", tuple.sport, tuple.dport);
        }
        Layout::Icmp => {
            let icmp = IcmpJson::of(tuple, direction);
            let _ = write!(line, "type={} code={} id={} ", icmp.r#type, icmp.code, icmp.id);
        }
        Layout::Keys => {
            let _ = write!(line, "srckey={:#x} dstkey={:#x} ", tuple.sport, tuple.dport);
        }
        Layout::Nothing => {}
    }
    let Side { packets, bytes, .. } = view.flow.side(direction);
    let _ = write!(line, "packets={packets} bytes={bytes} ");
}

#[derive(Serialize)]
struct FlowJson {
    family: &'static str,
    protocol: String,
    timeout: u64,
    state: Option<&'static str>,
    original: SideJson,
    reply: SideJson,
    status: Vec<&'static str>,
    mark: u32,
    helper: Option<&'static str>,
    master: Option<Master>,
}

#[derive(Serialize)]
struct SideJson {
    src: IpAddr,
    dst: IpAddr,
    #[serde(flatten)]
    ports: Option<PortsJson>,
    #[serde(flatten)]
    icmp: Option<IcmpJson>,
    packets: u64,
    bytes: u64,
}

#[derive(Serialize)]
struct PortsJson {
    sport: u16,
    dport: u16,
}

#[derive(Serialize)]
struct IcmpJson {
    r#type: u8,
    code: u8,
    id: u16,
}

impl IcmpJson {
    /// The identifier stands in one port, the other is zero; the code is not
    /// part of a flow, and zero in every query.
    const fn of(tuple: &Tuple, direction: Direction) -> Self {
        let r#type = match direction {
            Direction::Original => tuple.icmp_type,
            Direction::Reply => protocol::icmp_reply(tuple.protocol, tuple.icmp_type),
        };
        Self { r#type, code: 0, id: tuple.sport | tuple.dport }
    }
}

impl SideJson {
    fn of(tuple: &Tuple, direction: Direction, flow: &Flow) -> Self {
        let layout = protocol::layout(tuple.protocol);
        let ports = PortsJson { sport: tuple.sport, dport: tuple.dport };
        let Side { packets, bytes, .. } = *flow.side(direction);
        Self {
            src: tuple.src.to_ip(),
            dst: tuple.dst.to_ip(),
            ports: (layout == Layout::Ports).then_some(ports),
            icmp: (layout == Layout::Icmp).then(|| IcmpJson::of(tuple, direction)),
            packets,
            bytes,
        }
    }
}

/// One JSON object. `state` is null where the protocol has none; an ICMP flow
/// has `type`, `code` and `id` in place of the ports; a protocol without a name
/// goes by its number, as text.
pub fn json(view: &FlowView) -> String {
    let original = view.original();
    json::line(&FlowJson {
        family: json::family(original.src),
        protocol: protocol::json_name(original.protocol),
        timeout: view.timeout(),
        state: Some(view.state()).filter(|state| !state.is_empty()),
        original: SideJson::of(&original, Direction::Original, &view.flow),
        reply: SideJson::of(&original.reversed(), Direction::Reply, &view.flow),
        status: status_names(&view.flow),
        mark: view.flow.mark,
        helper: view.helper(),
        master: view.master.as_ref().map(Master::of),
    })
}

fn status_names(flow: &Flow) -> Vec<&'static str> {
    const NAMES: [(u8, &str); 4] = [
        (status::SEEN_REPLY, "SEEN_REPLY"),
        (status::ASSURED, "ASSURED"),
        (status::EXPECTED, "EXPECTED"),
        (status::ENCRYPTED, "ENCRYPTED"),
    ];
    NAMES.into_iter().filter(|(bit, _)| flow.has(*bit)).map(|(_, name)| name).collect()
}

#[cfg(test)]
mod tests {
    use firewall_common::flow::protocol::{ICMP, ICMPV6, TCP, UDP};

    use super::{super::fixtures::*, *};

    /// Lines that conntrack(8) 1.4.7 printed on Linux 6.18.
    mod as_conntrack_prints {
        use super::*;

        #[test]
        fn a_control_connection() {
            let mut view = view(tuple(TCP, "192.0.2.2", 53592, "192.0.2.1", 21), 431_999);
            view.flow.state = State::Established as u8;
            view.flow.status = status::SEEN_REPLY | status::ASSURED;
            view.flow.helper = helper::FTP;
            count(&mut view, (6, 334), (5, 318));
            assert_eq!(
                text(&view),
                "tcp      6 431999 ESTABLISHED src=192.0.2.2 dst=192.0.2.1 sport=53592 dport=21 \
                 packets=6 bytes=334 src=192.0.2.1 dst=192.0.2.2 sport=21 dport=53592 packets=5 \
                 bytes=318 [ASSURED] mark=0 helper=ftp use=1"
            );
        }

        #[test]
        fn a_connection_over_ipv6() {
            let mut view = view(tuple(TCP, "2001:db8::2", 48870, "2001:db8::1", 21), 431_999);
            view.flow.state = State::Established as u8;
            view.flow.status = status::SEEN_REPLY | status::ASSURED;
            count(&mut view, (6, 454), (5, 405));
            assert_eq!(
                text(&view),
                "tcp      6 431999 ESTABLISHED src=2001:db8::2 dst=2001:db8::1 sport=48870 \
                 dport=21 packets=6 bytes=454 src=2001:db8::1 dst=2001:db8::2 sport=21 \
                 dport=48870 packets=5 bytes=405 [ASSURED] mark=0 use=1"
            );
        }

        #[test]
        fn an_unanswered_datagram() {
            let mut view = view(tuple(UDP, "192.0.2.2", 39486, "192.0.2.1", 54), 29);
            count(&mut view, (1, 29), (0, 0));
            assert_eq!(
                text(&view),
                "udp      17 29 src=192.0.2.2 dst=192.0.2.1 sport=39486 dport=54 packets=1 \
                 bytes=29 [UNREPLIED] src=192.0.2.1 dst=192.0.2.2 sport=54 dport=39486 packets=0 \
                 bytes=0 mark=0 use=1"
            );
        }

        #[test]
        fn pings_of_both_families() {
            let mut ping = tuple(ICMP, "192.0.2.2", 77, "192.0.2.1", 0);
            ping.icmp_type = 8;
            assert_eq!(
                text(&view(ping, 29)),
                "icmp     1 29 src=192.0.2.2 dst=192.0.2.1 type=8 code=0 id=77 packets=0 bytes=0 \
                 [UNREPLIED] src=192.0.2.1 dst=192.0.2.2 type=0 code=0 id=77 packets=0 bytes=0 \
                 mark=0 use=1"
            );
            let mut ping = tuple(ICMPV6, "2001:db8::2", 77, "2001:db8::1", 0);
            ping.icmp_type = 128;
            let mut view = view(ping, 29);
            view.flow.status = status::SEEN_REPLY;
            assert_eq!(
                text(&view),
                "icmpv6   58 29 src=2001:db8::2 dst=2001:db8::1 type=128 code=0 id=77 packets=0 \
                 bytes=0 src=2001:db8::1 dst=2001:db8::2 type=129 code=0 id=77 packets=0 bytes=0 \
                 mark=0 use=1"
            );
        }

        #[test]
        fn protocols_without_ports() {
            let mut ospf = view(tuple(89, "2001:db8::2", 0, "2001:db8::1", 0), 599);
            count(&mut ospf, (1, 64), (0, 0));
            assert_eq!(
                text(&ospf),
                "unknown  89 599 src=2001:db8::2 dst=2001:db8::1 packets=1 bytes=64 [UNREPLIED] \
                 src=2001:db8::1 dst=2001:db8::2 packets=0 bytes=0 mark=0 use=1"
            );
            let mut gre = view(tuple(47, "192.0.2.2", 0, "192.0.2.1", 0), 29);
            count(&mut gre, (1, 44), (0, 0));
            assert_eq!(
                text(&gre),
                "gre      47 29 src=192.0.2.2 dst=192.0.2.1 srckey=0x0 dstkey=0x0 packets=1 \
                 bytes=44 [UNREPLIED] src=192.0.2.1 dst=192.0.2.2 srckey=0x0 dstkey=0x0 packets=0 \
                 bytes=0 mark=0 use=1"
            );
        }
    }

    #[test]
    fn an_encrypted_control_connection_says_so() {
        let mut view = view(tuple(TCP, "192.0.2.2", 4000, "192.0.2.1", 21), 10);
        view.flow.status = status::SEEN_REPLY | status::ASSURED | status::ENCRYPTED;
        assert!(text(&view).contains(" [ASSURED] [ENCRYPTED] mark=0 "));
        assert!(json(&view).contains(r#""status":["SEEN_REPLY","ASSURED","ENCRYPTED"]"#));
    }

    #[test]
    fn the_original_direction_comes_first_whichever_end_has_the_lower_address() {
        for (src, dst) in [("192.0.2.1", "192.0.2.9"), ("192.0.2.9", "192.0.2.1")] {
            let line = text(&view(tuple(TCP, src, 9, dst, 8), 10));
            assert!(line.contains(&format!("src={src} dst={dst} sport=9 dport=8 packets=0")));
        }
    }

    #[test]
    fn a_flow_past_its_time_has_none_left() {
        let mut view = view(tuple(UDP, "192.0.2.1", 9, "192.0.2.2", 8), 10);
        view.now = Nanos(u64::MAX);
        assert!(text(&view).starts_with("udp      17 0 src="));
    }

    #[test]
    fn json_has_the_fields_and_the_order_of_the_contract() {
        let mut view = view(tuple(TCP, "192.0.2.2", 1, "198.51.100.2", 21), 431_999);
        view.flow.state = State::Established as u8;
        view.flow.status = status::SEEN_REPLY | status::ASSURED;
        view.flow.helper = helper::FTP;
        count(&mut view, (1, 60), (2, 120));
        assert_eq!(
            json(&view),
            concat!(
                r#"{"family":"ipv4","protocol":"tcp","timeout":431999,"state":"ESTABLISHED","#,
                r#""original":{"src":"192.0.2.2","dst":"198.51.100.2","sport":1,"dport":21,"#,
                r#""packets":1,"bytes":60},"#,
                r#""reply":{"src":"198.51.100.2","dst":"192.0.2.2","sport":21,"dport":1,"#,
                r#""packets":2,"bytes":120},"#,
                r#""status":["SEEN_REPLY","ASSURED"],"mark":0,"helper":"ftp","master":null}"#,
            )
        );
    }

    #[test]
    fn a_data_connection_names_its_master_and_has_no_helper_of_its_own() {
        let mut view = view(tuple(TCP, "192.0.2.2", 5000, "198.51.100.2", 40123), 120);
        view.flow.status = status::EXPECTED;
        view.flow.helper = helper::FTP;
        view.master = Some(tuple(TCP, "192.0.2.2", 4000, "198.51.100.2", 21));
        let line = json(&view);
        assert!(line.ends_with(concat!(
            r#""status":["EXPECTED"],"mark":0,"helper":null,"#,
            r#""master":{"src":"192.0.2.2","dst":"198.51.100.2","sport":4000,"dport":21}}"#
        )));
        assert!(!text(&view).contains("helper="));
    }

    #[test]
    fn a_ping_in_json_has_type_code_and_id_and_no_state() {
        let mut ping = tuple(ICMP, "192.0.2.2", 77, "192.0.2.1", 0);
        ping.icmp_type = 8;
        let line = json(&view(ping, 29));
        assert!(line.contains(r#""dst":"192.0.2.1","type":8,"code":0,"id":77,"packets":0"#));
        assert!(line.contains(r#""state":null"#));
    }
}

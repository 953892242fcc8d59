//! The printed forms of flows.

use std::{
    collections::HashMap,
    net::IpAddr,
    time::{SystemTime, UNIX_EPOCH},
};

use firewall_common::{
    addr::Addr,
    flow::{
        Sender, Side, State,
        protocol::{ICMP, ICMPV6, TCP, UDP},
    },
    flow_event::FlowChange,
    nat::Faces,
};
use proptest::prelude::*;

use super::{
    super::{fixtures::*, line::Line},
    *,
};

fn text(view: &FlowView) -> String {
    shown(|line| text::write(line, view))
}

fn json(view: &FlowView) -> String {
    shown(|line| json::write(line, view))
}

fn shown(write: impl FnOnce(&mut Line)) -> String {
    let mut line = Line::default();
    write(&mut line);
    String::from_utf8(line.as_bytes().to_vec()).unwrap()
}

/// Both ends of it are translated.
fn translated() -> FlowView {
    let address = |text: &str| text.parse::<IpAddr>().unwrap().into();
    let mut view = view(tuple(TCP, "198.51.100.7", 4001, "192.168.1.5", 80), 431_999);
    view.flow.state = State::Established as u8;
    view.flow.status = status::SEEN_REPLY
        | status::ASSURED
        | status::SOURCE_TRANSLATED
        | status::DESTINATION_TRANSLATED;
    view.flow.faces.source = [address("192.168.1.1"), address("203.0.113.1")];
    view.flow.faces.port = [1024, 8080];
    view.flow.faces.client_port = 4000;
    count(&mut view, (6, 334), (5, 318));
    view
}

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

    /// By a gateway with `-j DNAT --to-destination 192.168.1.5:80` and `-j MASQUERADE`.
    #[test]
    fn a_translated_connection() {
        assert_eq!(
            text(&translated()),
            "tcp      6 431999 ESTABLISHED src=198.51.100.7 dst=203.0.113.1 sport=4000 dport=8080 \
             packets=6 bytes=334 src=192.168.1.5 dst=192.168.1.1 sport=80 dport=1024 packets=5 \
             bytes=318 [ASSURED] mark=0 use=1"
        );
    }

    #[test]
    fn a_translated_ping() {
        let mut ping = tuple(ICMP, "192.168.1.9", 77, "198.51.100.7", 0);
        ping.icmp_type = 8;
        let mut view = view(ping, 29);
        view.flow.status = status::SEEN_REPLY | status::SOURCE_TRANSLATED;
        view.flow.faces.source[0] = "203.0.113.1".parse::<IpAddr>().unwrap().into();
        view.flow.faces.port[0] = 78;
        assert_eq!(
            text(&view),
            "icmp     1 29 src=192.168.1.9 dst=198.51.100.7 type=8 code=0 id=77 packets=0 bytes=0 \
             src=198.51.100.7 dst=203.0.113.1 type=0 code=0 id=78 packets=0 bytes=0 mark=0 use=1"
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
    view.flow.helper = helper::FTP;
    assert!(text(&view).ends_with(" [ASSURED] mark=0 helper=ftp(tls) use=1"));
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
fn a_translated_connection_in_json_has_two_faces_and_says_which_end_is_translated() {
    let json = json(&translated());
    for part in [
        r#""original":{"src":"198.51.100.7","dst":"203.0.113.1","sport":4000,"dport":8080,"#,
        r#""reply":{"src":"192.168.1.5","dst":"192.168.1.1","sport":80,"dport":1024,"#,
        r#""status":["SEEN_REPLY","ASSURED","SRC_NAT","DST_NAT"]"#,
    ] {
        assert!(json.contains(part), "{json}");
    }
}

#[test]
fn a_ping_in_json_has_type_code_and_id_and_no_state() {
    let mut ping = tuple(ICMP, "192.0.2.2", 77, "192.0.2.1", 0);
    ping.icmp_type = 8;
    let line = json(&view(ping, 29));
    assert!(line.contains(r#""dst":"192.0.2.1","type":8,"code":0,"id":77,"packets":0"#));
    assert!(line.contains(r#""state":null"#));
}

/// Lines that conntrack(8) 1.4.7 printed on Linux 6.18 for `conntrack -E`.
mod as_conntrack_prints_events {
    use super::*;

    fn event(view: &FlowView, change: FlowChange) -> String {
        shown(|line| text::write_event(line, view, change, text::Labels::default()))
    }

    #[test]
    fn of_a_connection_that_begins() {
        let mut view = view(tuple(TCP, "192.0.2.2", 38712, "198.51.100.2", 80), 120);
        view.flow.state = State::SynSent as u8;
        count(&mut view, (1, 60), (0, 0));
        assert_eq!(
            event(&view, FlowChange::New),
            "    [NEW] tcp      6 120 SYN_SENT src=192.0.2.2 dst=198.51.100.2 sport=38712 dport=80 \
             [UNREPLIED] src=198.51.100.2 dst=192.0.2.2 sport=80 dport=38712"
        );
    }

    #[test]
    fn with_family_and_number_where_they_are_asked_for() {
        let mut view = view(tuple(TCP, "192.0.2.2", 38712, "198.51.100.2", 80), 120);
        view.flow.state = State::SynSent as u8;
        let labels = text::Labels { family: true, id: true };
        let event = shown(|line| text::write_event(line, &view, FlowChange::New, labels));
        assert!(event.starts_with("    [NEW] ipv4     2 tcp      6 120 SYN_SENT src="), "{event}");
        let listed = shown(|line| text::write_labelled(line, &view, labels));
        assert!(listed.starts_with("ipv4     2 tcp      6 120 SYN_SENT src="), "{listed}");
        let number = |text: &str| text.rsplit_once(" id=").map(|(_, id)| id.to_owned());
        assert!(number(&event).is_some_and(|id| id.parse::<u32>().is_ok()), "{event}");
        assert_eq!(number(&event), number(&listed));
    }

    #[test]
    fn of_one_that_is_assured() {
        let mut view = view(tuple(TCP, "192.0.2.2", 38712, "198.51.100.2", 80), 432_000);
        view.flow.state = State::Established as u8;
        view.flow.status = status::SEEN_REPLY | status::ASSURED;
        assert_eq!(
            event(&view, FlowChange::Update),
            " [UPDATE] tcp      6 432000 ESTABLISHED src=192.0.2.2 dst=198.51.100.2 sport=38712 \
             dport=80 src=198.51.100.2 dst=192.0.2.2 sport=80 dport=38712 [ASSURED]"
        );
    }

    #[test]
    fn of_one_that_was_refused() {
        let mut view = view(tuple(TCP, "192.0.2.2", 43156, "198.51.100.2", 81), 119);
        view.flow.state = State::Close as u8;
        count(&mut view, (1, 60), (1, 40));
        assert_eq!(
            event(&view, FlowChange::Destroy),
            "[DESTROY] tcp      6 119 CLOSE src=192.0.2.2 dst=198.51.100.2 sport=43156 dport=81 \
             packets=1 bytes=60 [UNREPLIED] src=198.51.100.2 dst=192.0.2.2 sport=81 dport=43156 \
             packets=1 bytes=40"
        );
    }

    #[test]
    fn the_helper_is_told_once_and_a_mark_when_there_is_one() {
        let mut view = view(tuple(TCP, "192.0.2.2", 4000, "198.51.100.2", 21), 120);
        (view.flow.helper, view.flow.mark) = (helper::FTP, 7);
        assert!(event(&view, FlowChange::New).ends_with("dport=4000 mark=7 helper=ftp"));
        assert!(event(&view, FlowChange::Update).ends_with("dport=4000 mark=7"));
    }
}

#[test]
fn an_event_in_json_is_the_flow_behind_what_happened_and_when() {
    let view = view(tuple(UDP, "192.0.2.2", 5, "192.0.2.1", 53), 30);
    let object = shown(|line| json::write_event(line, &view, FlowChange::New, UNIX_EPOCH));
    let event = r#"{"event":"new","time":"1970-01-01T00:00:00.000Z","#;
    assert_eq!(object, format!("{event}{}", &json(&view)[1..]));
}

#[test]
fn in_brief_a_flow_is_told_on_one_short_line() {
    let brief = |view: &FlowView, change| {
        let line = shown(|line| brief::write(line, view, change, SystemTime::UNIX_EPOCH));
        line.strip_prefix("1970-01-01T00:00:00.000Z ").unwrap().to_owned()
    };
    assert_eq!(
        brief(&translated(), FlowChange::New),
        "NEW tcp 198.51.100.7:4000 -> 203.0.113.1:8080 src-nat=192.168.1.1:1024 \
         dst-nat=192.168.1.5:80 ESTABLISHED [ASSURED]"
    );
    let mut view = view(tuple(TCP, "2001:db8::2", 5000, "2001:db8::1", 40123), 120);
    view.flow.state = State::SynSent as u8;
    view.flow.status = status::EXPECTED;
    view.flow.helper = helper::FTP;
    view.master = Some(tuple(TCP, "2001:db8::2", 4000, "2001:db8::1", 21));
    assert_eq!(
        brief(&view, FlowChange::New),
        "NEW tcp [2001:db8::2]:5000 -> [2001:db8::1]:40123 SYN_SENT \
         master=[2001:db8::2]:4000->[2001:db8::1]:21"
    );
    view.flow.created = NOW;
    view.now = NOW.after(Nanos::from_secs(12));
    view.flow.state = State::TimeWait as u8;
    view.flow.status |= status::ASSURED;
    count(&mut view, (6, 334), (5, 318));
    assert_eq!(
        brief(&view, FlowChange::Destroy),
        "END tcp [2001:db8::2]:5000 -> [2001:db8::1]:40123 TIME_WAIT [ASSURED] packets=6/5 \
         bytes=334/318 after=12s"
    );
    let mut ping = tuple(ICMP, "192.0.2.2", 77, "192.0.2.1", 0);
    ping.icmp_type = 8;
    let ping = super::super::fixtures::view(ping, 30);
    assert_eq!(brief(&ping, FlowChange::New), "NEW icmp 192.0.2.2 -> 192.0.2.1 type=8 id=77");
}

fn any_address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<[u8; 4]>().prop_map(IpAddr::from),
        any::<[u16; 8]>().prop_map(IpAddr::from),
        (any::<u16>(), any::<u16>()).prop_map(|(a, b)| IpAddr::from([a, 0, 0, 0, b, 0, 0, 1])),
    ]
}

prop_compose! {
    fn any_view()(
        addresses in (any_address(), any_address()),
        ports in any::<(u16, u16)>(),
        protocol in prop_oneof![Just(TCP), Just(UDP), Just(ICMP), Just(47), Just(132), any::<u8>()],
        state in 0..12_u8,
        status in any::<u8>(),
        numbers in any::<[u64; 4]>(),
        seconds in 0..1_000_000_u64,
        mark in any::<u32>(),
        is_read in any::<bool>(),
        is_announced in any::<bool>(),
    ) -> FlowView {
        let (src, dst) = addresses;
        // Both of one family.
        let dst = if src.is_ipv4() == dst.is_ipv4() { dst } else { src };
        let mut original = tuple(protocol, "::", ports.0, "::", ports.1);
        (original.src, original.dst) = (Addr::from(src), Addr::from(dst));
        if protocol == ICMP || protocol == ICMPV6 {
            (original.icmp_type, original.dport) = (8, 0);
        }
        let (key, sender) = FlowKey::of(&original);
        let side = |packets, bytes| Side { packets, bytes, ..Side::default() };
        let flow = Flow {
            expires: NOW.after(Nanos::from_secs(seconds)),
            originator: u8::from(sender == Sender::High),
            state: if protocol == TCP { state.min(9) } else { 0 },
            status,
            mark,
            helper: u8::from(is_read),
            sides: [side(numbers[0], numbers[1]), side(numbers[2], numbers[3])],
            faces: Faces {
                source: [original.dst, original.src],
                port: [ports.1, original.dport],
                client_port: ports.0,
                ..Faces::default()
            },
            ..Flow::default()
        };
        let master = is_announced.then_some(tuple(TCP, "192.0.2.2", 4000, "198.51.100.2", 21));
        FlowView { key, flow, master, now: NOW }
    }
}

/// The words of a line: `name=value` by direction, the others as they stand.
fn read(line: &str) -> (Vec<String>, [HashMap<String, String>; 2]) {
    let mut words = Vec::new();
    let mut sides = [HashMap::new(), HashMap::new()];
    let mut direction = 0;
    for word in line.split_whitespace() {
        match word.split_once('=') {
            Some((name, value)) => {
                if name == "src" && sides[0].contains_key("src") {
                    direction = 1;
                }
                sides[direction].insert(name.to_owned(), value.to_owned());
            }
            None => words.push(word.to_owned()),
        }
    }
    (words, sides)
}

proptest! {
    #[test]
    fn a_line_reads_back_as_the_flow(view in any_view()) {
        let (words, sides) = read(&text(&view));
        prop_assert_eq!(&words[1], &view.key.protocol().to_string());
        prop_assert_eq!(&words[2], &view.timeout().to_string());
        let has = |word: &str| words.iter().any(|it| it == word);
        prop_assert_eq!(has("[UNREPLIED]"), !view.flow.has(status::SEEN_REPLY));
        prop_assert_eq!(has("[ASSURED]"), view.flow.has(status::ASSURED));
        prop_assert!(view.state().is_empty() || words[3] == view.state());
        for (direction, side) in [Direction::Original, Direction::Reply].into_iter().zip(&sides) {
            let tuple = match direction {
                Direction::Original => view.original(),
                Direction::Reply => view.reply(),
            };
            let counted = view.flow.side(direction);
            prop_assert_eq!(&side["src"], &tuple.src.to_ip().to_string());
            prop_assert_eq!(&side["dst"], &tuple.dst.to_ip().to_string());
            prop_assert_eq!(&side["packets"], &counted.packets.to_string());
            prop_assert_eq!(&side["bytes"], &counted.bytes.to_string());
            match protocol::layout(tuple.protocol) {
                protocol::Layout::Ports => {
                    prop_assert_eq!(&side["sport"], &tuple.sport.to_string());
                    prop_assert_eq!(&side["dport"], &tuple.dport.to_string());
                }
                protocol::Layout::Icmp => {
                    prop_assert_eq!(&side["id"], &(tuple.sport | tuple.dport).to_string());
                }
                protocol::Layout::Keys => {
                    prop_assert_eq!(&side["srckey"], &format!("{:#x}", tuple.sport));
                }
                protocol::Layout::Nothing => prop_assert!(!side.contains_key("sport")),
            }
        }
        prop_assert_eq!(&sides[1]["mark"], &view.flow.mark.to_string());
    }

    #[test]
    fn an_object_reads_back_as_the_flow(view in any_view()) {
        let value: serde_json::Value = serde_json::from_str(&json(&view)).unwrap();
        let original = view.original();
        prop_assert_eq!(value["timeout"].as_u64(), Some(view.timeout()));
        prop_assert_eq!(value["mark"].as_u64(), Some(view.flow.mark.into()));
        prop_assert_eq!(value["original"]["src"].as_str(), Some(&*original.src.to_ip().to_string()));
        prop_assert_eq!(value["reply"]["src"].as_str(), Some(&*view.reply().src.to_ip().to_string()));
        for (name, side) in ["original", "reply"].into_iter().zip(&view.flow.sides) {
            prop_assert_eq!(value[name]["packets"].as_u64(), Some(side.packets));
            prop_assert_eq!(value[name]["bytes"].as_u64(), Some(side.bytes));
        }
        let has_ports = protocol::layout(original.protocol) == protocol::Layout::Ports;
        let sport = has_ports.then_some(u64::from(original.sport));
        prop_assert_eq!(value["original"]["sport"].as_u64(), sport);
        let dport = has_ports.then_some(u64::from(view.reply().dport));
        prop_assert_eq!(value["reply"]["dport"].as_u64(), dport);
        let names = value["status"].as_array().unwrap();
        prop_assert_eq!(names.contains(&"ASSURED".into()), view.flow.has(status::ASSURED));
        prop_assert_eq!(value["state"].as_str().unwrap_or_default(), view.state());
        prop_assert_eq!(value["helper"].as_str(), view.helper());
        prop_assert_eq!(value["master"].is_null(), view.master.is_none());
    }
}

//! Lines that the LOG target wrote on Linux 6.18, without the trailing blank.

use firewall_common::event::EVENT_FRAME;
use proptest::prelude::*;

use super::*;
use crate::listing::fixtures::{event, ipv4, ipv6};

const ALL: LogFormat<'_> = LogFormat::new("PFX: ", 7);
const IN: Interfaces<'_> = Interfaces { input: "eth0", output: "" };

const MAC4: &str = "PFX: IN=eth0 OUT= MAC=02:00:00:00:00:01:02:00:00:00:00:02:08:00 ";
const MAC6: &str = "PFX: IN=eth0 OUT= MAC=02:00:00:00:00:01:02:00:00:00:00:02:86:dd ";
const HOSTS4: &str = "SRC=192.0.2.2 DST=192.0.2.1 ";
const HOSTS6: &str = "SRC=2001:0db8:0000:0000:0000:0000:0000:0002 \
                      DST=2001:0db8:0000:0000:0000:0000:0000:0001 ";

/// The line behind the addresses.
#[track_caller]
fn behind_hosts(event: &Event) -> String {
    let text = text(event, &ALL, IN);
    let (mac, hosts) = if event.frame[12] == 8 { (MAC4, HOSTS4) } else { (MAC6, HOSTS6) };
    text.strip_prefix(mac).and_then(|text| text.strip_prefix(hosts)).expect(&text).to_owned()
}

fn syn() -> Vec<u8> {
    [
        &[0x8d, 0x56, 0, 80][..],
        &2_293_976_967_u32.to_be_bytes(),
        &[0, 0, 0, 0, 0xa0, 0x02, 0xfa, 0xf0, 0, 0, 0, 0],
        &[0x02, 0x04, 0x05, 0xb4, 0x04, 0x02, 0x08, 0x0a, 0x8e, 0xfc, 0x39, 0xba, 0, 0, 0, 0],
        &[1, 3, 3, 0x0a],
    ]
    .concat()
}

const UDP: [u8; 8] = [0x03, 0xe8, 0x07, 0xd0, 0, 8, 0, 0];

/// A datagram of 192.0.2.1, quoted by an error.
fn quoted4() -> Vec<u8> {
    let mut packet = vec![0x45, 0, 0, 28, 0x12, 0x34, 0x40, 0, 0x40, 17, 0, 0];
    packet.extend([192, 0, 2, 1, 192, 0, 2, 9]);
    packet.extend(UDP);
    packet
}

const QUOTED4: &str = "[SRC=192.0.2.1 DST=192.0.2.9 LEN=28 TOS=0x00 PREC=0x00 TTL=64 ID=4660 DF \
                       PROTO=UDP SPT=1000 DPT=2000 LEN=8 ]";

mod over_ipv4 {
    use super::*;

    fn icmp(head: [u8; 8], body: &[u8]) -> String {
        let event = event(&ipv4(1, 47838, &[&head, body].concat()));
        let line = behind_hosts(&event);
        line.split_once("PROTO=ICMP ").expect(&line).1.to_owned()
    }

    #[test]
    fn a_syn_with_its_options() {
        assert_eq!(
            behind_hosts(&event(&ipv4(6, 43606, &syn()))),
            "LEN=60 TOS=0x00 PREC=0x00 TTL=64 ID=43606 DF PROTO=TCP SPT=36182 DPT=80 \
             SEQ=2293976967 ACK=0 WINDOW=64240 RES=0x00 SYN URGP=0 \
             OPT (020405B40402080A8EFC39BA000000000103030A)"
        );
    }

    #[test]
    fn without_options_of_the_rule_the_line_is_shorter() {
        let format = LogFormat::new("", 0);
        let line = text(&event(&ipv4(6, 43606, &syn())), &format, IN);
        assert!(line.starts_with("IN=eth0 OUT= MAC="), "{line}");
        assert!(line.ends_with("SPT=36182 DPT=80 WINDOW=64240 RES=0x00 SYN URGP=0"), "{line}");
    }

    #[test]
    fn what_the_host_sends_has_no_mac() {
        let interfaces = Interfaces { input: "", output: "eth0" };
        let line = text(&event(&ipv4(17, 7, &UDP)), &ALL, interfaces);
        assert!(line.starts_with("PFX: IN= OUT=eth0 SRC=192.0.2.2 "), "{line}");
    }

    #[test]
    fn a_device_without_ethernet_has_an_empty_mac() {
        let mut tunnelled = event(&ipv4(17, 7, &UDP)[14..]);
        tunnelled.l3 = 0;
        let line = text(&tunnelled, &ALL, IN);
        assert!(line.starts_with("PFX: IN=eth0 OUT= MAC= SRC=192.0.2.2 "), "{line}");
    }

    #[test]
    fn ip_options_stand_before_the_protocol() {
        let mut frame = ipv4(17, 35969, &[&[0x94, 4, 0, 0][..], &UDP].concat());
        frame[14] = 0x46;
        let line = behind_hosts(&event(&frame));
        assert!(line.ends_with("ID=35969 DF OPT (94040000) PROTO=UDP SPT=1000 DPT=2000 LEN=8"));
    }

    #[test]
    fn a_ping() {
        assert_eq!(icmp([8, 0, 0, 0, 0, 77, 0, 1], b"abcd"), "TYPE=8 CODE=0 ID=77 SEQ=1");
    }

    #[test]
    fn errors_quote_the_packet_in_brackets() {
        let quoted = quoted4();
        assert_eq!(
            icmp([3, 4, 0, 0, 0, 0, 0x05, 0x78], &quoted),
            format!("TYPE=3 CODE=4 {QUOTED4} MTU=1400")
        );
        assert_eq!(
            icmp([5, 1, 0, 0, 192, 0, 2, 254], &quoted),
            format!("TYPE=5 CODE=1 GATEWAY=192.0.2.254 {QUOTED4}")
        );
        assert_eq!(icmp([12, 0, 0, 0, 9, 0, 0, 0], &quoted), "TYPE=12 CODE=0 PARAMETER=9");
        assert_eq!(
            icmp([3, 3, 0, 0, 0, 0, 0, 0], &quoted[..20]),
            "TYPE=3 CODE=3 [SRC=192.0.2.1 DST=192.0.2.9 LEN=28 TOS=0x00 PREC=0x00 TTL=64 ID=4660 \
             DF PROTO=UDP INCOMPLETE [0 bytes] ]"
        );
    }

    #[test]
    fn a_message_that_ends_too_early_is_incomplete() {
        assert_eq!(
            icmp([13, 0, 0, 0, 0, 0, 0, 0], &[0; 4]),
            "TYPE=13 CODE=0 INCOMPLETE [12 bytes]"
        );
        for (protocol, bytes, expected) in [
            (6, &[0x12; 8][..], "PROTO=TCP INCOMPLETE [8 bytes]"),
            (17, &[0x12; 3], "PROTO=UDP INCOMPLETE [3 bytes]"),
        ] {
            let mut frame = ipv4(protocol, 13881, bytes);
            frame.extend([0; 18]);
            assert!(behind_hosts(&event(&frame)).ends_with(expected));
        }
    }

    #[test]
    fn other_protocols_go_by_their_number_and_ipsec_by_its_index() {
        let bytes = [0, 0, 0, 0, 0x12, 0x34, 0x56, 0x78];
        for (protocol, expected) in
            [(47, "PROTO=47"), (50, "PROTO=ESP SPI=0x0"), (51, "PROTO=AH SPI=0x12345678")]
        {
            let line = behind_hosts(&event(&ipv4(protocol, 1, &bytes)));
            assert!(line.ends_with(&format!("DF {expected}")), "{line}");
        }
    }

    #[test]
    fn a_later_fragment_has_no_ports() {
        let mut frame = ipv4(17, 5, &[0; 16]);
        (frame[20], frame[21]) = (0x20, 0xb9);
        assert!(behind_hosts(&event(&frame)).ends_with("ID=5 MF FRAG:185 PROTO=UDP"));
    }
}

mod over_ipv6 {
    use super::*;

    /// The datagram that the error quotes.
    fn quoted6() -> Vec<u8> {
        let mut packet = ipv6(17, &UDP)[14..].to_vec();
        packet[1..4].fill(0);
        packet[23] = 1;
        packet[39] = 9;
        packet
    }

    #[test]
    fn a_ping() {
        let ping = [128, 0, 0, 0, 0, 7, 0, 1];
        assert_eq!(
            behind_hosts(&event(&ipv6(58, &ping))),
            "LEN=48 TC=0 HOPLIMIT=64 FLOWLBL=252656 PROTO=ICMPv6 TYPE=128 CODE=0 ID=7 SEQ=1"
        );
    }

    #[test]
    fn errors_quote_the_packet_in_brackets() {
        let quoted = "[SRC=2001:0db8:0000:0000:0000:0000:0000:0001 \
                      DST=2001:0db8:0000:0000:0000:0000:0000:0009 LEN=48 TC=0 HOPLIMIT=64 \
                      FLOWLBL=0 PROTO=UDP SPT=1000 DPT=2000 LEN=8 ]";
        let too_big = [&[2, 0, 0, 0, 0, 0, 5, 0][..], &quoted6()].concat();
        let line = behind_hosts(&event(&ipv6(58, &too_big)));
        assert!(line.ends_with(&format!("TYPE=2 CODE=0 {quoted} MTU=1280")), "{line}");
        let problem = [&[4, 0, 0, 0, 0, 0, 0, 0x28][..], &quoted6()].concat();
        let line = behind_hosts(&event(&ipv6(58, &problem)));
        assert!(line.ends_with(&format!("TYPE=4 CODE=0 POINTER=00000028 {quoted}")), "{line}");
    }

    #[test]
    fn extension_headers_show_as_options() {
        let destination = [&[17, 0, 1, 4, 0, 0, 0, 0][..], &UDP].concat();
        let line = behind_hosts(&event(&ipv6(60, &destination)));
        assert!(line.ends_with("OPT ( ) PROTO=UDP SPT=1000 DPT=2000 LEN=8"), "{line}");
    }

    #[test]
    fn fragments_show_offset_and_identification() {
        let first = [&[17, 0, 0, 1, 0x75, 0x43, 0x22, 0x85][..], &UDP].concat();
        let line = behind_hosts(&event(&ipv6(44, &first)));
        let expected = "OPT ( FRAG:0 INCOMPLETE ID:75432285 ) PROTO=UDP SPT=1000 DPT=2000 LEN=8";
        assert!(line.ends_with(expected), "{line}");
        let later = [&[17, 0, 0x0b, 0x50, 0x75, 0x43, 0x22, 0x85][..], &UDP].concat();
        let line = behind_hosts(&event(&ipv6(44, &later)));
        assert!(line.ends_with("OPT ( FRAG:2896 ID:75432285 ) PROTO=UDP"), "{line}");
    }
}

proptest! {
    #[test]
    fn any_capture_makes_a_line(
        frame in proptest::collection::vec(any::<u8>(), EVENT_FRAME),
        version in prop_oneof![Just(0x45_u8), Just(0x4f), Just(0x60), any::<u8>()],
        l3 in 0_u16..200,
        captured in any::<u8>(),
        frame_len in any::<u32>(),
    ) {
        let mut event = event(&frame);
        if let Some(byte) = event.frame.get_mut(usize::from(l3)) {
            *byte = version;
        }
        (event.l3, event.captured, event.frame_len) = (l3, captured, frame_len);
        prop_assert!(text(&event, &ALL, IN).starts_with("PFX: IN=eth0"));
    }
}

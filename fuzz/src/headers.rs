//! Any frame: headers, quoted packets, options, and the whole path.
//!
//! The first byte chooses options of the datapath, the second one where the frame
//! is; the rest is the frame. Checksums that no mutation would find are put right,
//! unless the first byte says otherwise.

use bytemuck::Zeroable;
use firewall_common::{
    checksum::{Sum, Verification},
    conntrack::{options::TcpOptions, quoted},
    control::option,
    event::{Event, EventKind, Hook},
    flow::{CtState, Tuple},
    fragment::Visit,
    headers::{Fragment, Headers, Parsed},
    packet::Packet,
    rule::RejectKind,
    seq::Seq,
    tables::Place,
    testing::Memory,
    time::Nanos,
    verdict::{DropReason, Stat, Verdict},
};
use firewall_user::listing::{
    event::{self, DropView},
    log_line::{self, Interfaces, LogFormat},
};

use crate::{
    ledger::Ledger,
    ruleset::{self, MAX_EVENTS},
};

const NOW: Nanos = Nanos::from_secs(1_000);

/// Judges one frame twice, the second time with the flow that the first one may
/// have begun.
pub fn headers(data: &[u8]) {
    let [choice, place, frame @ ..] = data else { return };
    let place = place_of(*place);
    let mut frame = frame.to_vec();
    if choice & 0x80 == 0 {
        mend(&mut frame, place.has_ethernet);
    }
    read(&frame, place.has_ethernet);
    let mut memory = ruleset::strict_gateway();
    memory.options.bits = options_of(*choice);
    for _ in 0..2 {
        judge(&memory, place, &frame);
    }
}

const fn place_of(byte: u8) -> Place {
    Place {
        hook: if byte & 1 == 0 { Hook::Ingress } else { Hook::Egress },
        ifindex: 1 + (byte >> 1 & 1) as u32,
        has_ethernet: byte & 4 == 0,
        visit: Visit::New,
    }
}

/// Writes the checksum of an IPv4 header where one seems to be.
fn mend(frame: &mut [u8], has_ethernet: bool) {
    let Some(ip) = frame.get_mut(network_header(frame, has_ethernet)..) else { return };
    let Some(first) = ip.first().filter(|first| **first >> 4 == 4) else { return };
    let len = usize::from(first & 15) * 4;
    let Some(header) = ip.get_mut(..len).filter(|header| header.len() >= 20) else { return };
    header[10..12].fill(0);
    let sum = header
        .chunks_exact(2)
        .fold(Sum::default(), |sum, pair| sum.word(u16::from_ne_bytes([pair[0], pair[1]])));
    header[10..12].copy_from_slice(&sum.finish().to_ne_bytes());
}

/// Behind the tags of VLANs.
fn network_header(frame: &[u8], has_ethernet: bool) -> usize {
    const ETHERNET: usize = 14;
    if !has_ethernet {
        return 0;
    }
    let is_tag = |at: usize| matches!(frame.get(at..at + 2), Some([0x81, 0] | [0x88, 0xa8]));
    let tags = (0..2).take_while(|tag| is_tag(ETHERNET - 2 + tag * 4)).count();
    ETHERNET + tags * 4
}

fn options_of(byte: u8) -> u32 {
    let all = [
        option::TCP_LOOSE,
        option::DROP_NON_IP,
        option::CHECKSUM,
        option::TCP_BE_LIBERAL,
        option::HELPER_FAILURE_CLOSED,
        option::REPORT_DROPS,
    ];
    let chosen = all.iter().enumerate().filter(|(bit, _)| byte >> bit & 1 != 0);
    chosen.fold(0, |bits, (_, option)| bits | option)
}

/// The readers by themselves, also where the path would not call them.
fn read(frame: &[u8], has_ethernet: bool) {
    let mut headers = Headers::default();
    let outcome = headers.parse(frame, has_ethernet);
    assert_eq!(Parsed::unpack(Parsed::pack(outcome)), outcome);
    let mut tuple = Tuple::default();
    let is_read = quoted::read(frame, &headers, &mut tuple);
    assert!(is_read || tuple.dport == 0 && tuple.sport == 0, "{tuple:?}");
    let mut options = TcpOptions::zeroed();
    options.begin(Seq(headers.ack));
    frame.tcp_options(&headers, &mut options);
    assert!(options.scale <= 14);
    frame.has_right_checksum(&headers, &mut Verification::zeroed(), true);
    if outcome == Ok(Parsed::Ip) {
        lies_within(&headers, frame);
    }
}

fn lies_within(headers: &Headers, frame: &[u8]) {
    let end = headers.l3 + headers.ip_len;
    assert!(headers.l3 < headers.l4 && headers.l4 <= end, "{headers:?}");
    assert!(end as usize <= frame.len(), "{headers:?}");
    assert!(matches!(headers.version, 4 | 6));
    for address in [headers.tuple.src, headers.tuple.dst] {
        assert_eq!(address.family(), headers.family(), "{headers:?}");
    }
    if headers.fragment != Fragment::Later as u8 {
        assert!(headers.l4 <= headers.payload, "{headers:?}");
        assert!(headers.payload + headers.payload_len <= end, "{headers:?}");
    }
}

fn judge(memory: &Memory, place: Place, frame: &[u8]) {
    let before = Ledger::of(memory);
    let flows = memory.flow_count();
    memory.events.borrow_mut().clear();
    let verdict = memory.filter_from(place, frame, NOW);
    before.assert_one_packet(memory, verdict);
    agrees_with_headers(memory, place, frame, verdict);
    let scratch = memory.scratch();
    let went_on = matches!(verdict, Verdict::Accept(_) | Verdict::Punt(_));
    let created = before.moved(memory, Stat::FlowsCreated);
    assert!(created <= u64::from(went_on), "{verdict:?} left a flow");
    assert_eq!(memory.flow_count(), flows + created as usize);
    let ctstate = CtState::from_bit(scratch.walk.ctstate);
    if matches!(ctstate, Some(CtState::Invalid | CtState::Untracked)) {
        assert_eq!(created, 0, "{ctstate:?} begins no flow");
    }
    assert_ne!(verdict, Verdict::Drop(DropReason::RulesetBroken));
    tell(memory);
}

/// What could not be read goes nowhere, and only what is no IP passes unjudged.
fn agrees_with_headers(memory: &Memory, place: Place, frame: &[u8], verdict: Verdict) {
    let mut headers = Headers::default();
    match headers.parse(frame, place.has_ethernet) {
        Err(reason) => assert_eq!(verdict, Verdict::Drop(reason)),
        Ok(Parsed::NotIp) if memory.options.has(option::DROP_NON_IP) => {
            assert_eq!(verdict, Verdict::Drop(DropReason::NonIp));
        }
        Ok(Parsed::NotIp) => assert_eq!(verdict, Verdict::Pass(Stat::PassNonIp)),
        Ok(Parsed::Ip) => {
            assert_ne!(verdict, Verdict::Pass(Stat::PassNonIp));
            if let Verdict::Reject(kind) = verdict {
                assert!(RejectKind::from_byte(kind as u8) == Some(kind));
            }
        }
    }
}

/// What people are told of it can be printed.
fn tell(memory: &Memory) {
    let events = memory.events.borrow();
    assert!(events.len() <= MAX_EVENTS);
    for reported in events.iter() {
        print(reported);
    }
}

fn print(reported: &Event) {
    let interfaces = Interfaces { input: "eth0", output: "eth1" };
    let line = match EventKind::from_byte(reported.kind) {
        Some(EventKind::Log) => {
            log_line::text(reported, &LogFormat::new("prefix ", 0xff), interfaces)
        }
        _ => {
            let time = std::time::SystemTime::UNIX_EPOCH;
            let view = DropView {
                event: reported,
                time,
                interfaces,
                rule: Some("FORWARD 3"),
                why: Some("no flow"),
            };
            assert!(!event::json(&view).contains('\n'));
            event::text(&view)
        }
    };
    assert!(!line.is_empty() && !line.contains('\n'), "{line:?}");
}

//! Flows and packets for the tests of the listings.

use std::net::IpAddr;

use firewall_common::{
    event::{EVENT_FRAME, Event},
    flow::{Flow, FlowKey, Sender, Tuple},
    time::Nanos,
};

use super::flow::FlowView;

pub const NOW: Nanos = Nanos::from_secs(1_000);

pub fn tuple(protocol: u8, src: &str, sport: u16, dst: &str, dport: u16) -> Tuple {
    let address = |text: &str| text.parse::<IpAddr>().unwrap().into();
    Tuple { src: address(src), dst: address(dst), sport, dport, protocol, ..Tuple::default() }
}

/// A flow whose first packet had this tuple, with so many seconds to live.
pub fn view(original: Tuple, seconds: u64) -> FlowView {
    let (key, sender) = FlowKey::of(&original);
    let flow = Flow {
        expires: NOW.after(Nanos::from_secs(seconds)),
        originator: u8::from(sender == Sender::High),
        ..Flow::default()
    };
    FlowView { key, flow, master: None, now: NOW }
}

/// Packets and bytes of the two directions.
pub fn count(view: &mut FlowView, original: (u64, u64), reply: (u64, u64)) {
    for (side, (packets, bytes)) in view.flow.sides.iter_mut().zip([original, reply]) {
        (side.packets, side.bytes) = (packets, bytes);
    }
}

/// The event of a frame that came in, with the offsets of an Ethernet frame
/// without tags.
pub fn event(bytes: &[u8]) -> Event {
    let captured = bytes.len().min(EVENT_FRAME);
    let mut event = Event {
        frame_len: u32::try_from(bytes.len()).unwrap(),
        captured: u8::try_from(captured).unwrap(),
        l3: 14,
        frame: [0; EVENT_FRAME],
        ..bytemuck::Zeroable::zeroed()
    };
    event.frame[..captured].copy_from_slice(&bytes[..captured]);
    event
}

const MACS: [u8; 12] = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];

/// A frame from 192.0.2.2 to 192.0.2.1, DF, TTL 64.
pub fn ipv4(protocol: u8, id: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = [&MACS[..], &[8, 0, 0x45, 0]].concat();
    frame.extend(u16::try_from(20 + payload.len()).unwrap().to_be_bytes());
    frame.extend(id.to_be_bytes());
    frame.extend([0x40, 0, 64, protocol, 0, 0, 192, 0, 2, 2, 192, 0, 2, 1]);
    frame.extend(payload);
    frame
}

/// A frame from 2001:db8::2 to 2001:db8::1, flow label 252656.
pub fn ipv6(next_header: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = [&MACS[..], &[0x86, 0xdd, 0x60, 0x03, 0xda, 0xf0]].concat();
    frame.extend(u16::try_from(payload.len()).unwrap().to_be_bytes());
    frame.extend([next_header, 64]);
    for last in [2, 1] {
        frame.extend([0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
    }
    frame.extend(payload);
    frame
}

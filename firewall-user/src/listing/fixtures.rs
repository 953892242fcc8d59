//! Flows for the tests of the listings.

use std::net::IpAddr;

use firewall_common::{
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

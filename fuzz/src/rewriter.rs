//! Any text as what a client says behind NAT, sent in any pieces over a network that loses and
//! repeats them: the server gets the same bytes at the same places of its stream whatever
//! happens, in the end all of them, and the client learns that they have arrived.
//!
//! Four bytes are the first sequence number, the next says how many segments are sent before
//! everything is sent in order; three bytes say of each where it begins, how long it is, and
//! what becomes of it; the rest is the text.

use std::{net::SocketAddr, sync::Arc};

use firewall_common::{flow::Direction, seq::Seq, shift::Shift};
use firewall_user::{
    ftp::{Conversation, Policy},
    helper::{Beginning, Emission, Names, Reader, Replacement, Rewriter, emit, spell},
};

/// Bytes of an input's segment, once everything is sent in order.
const STEP: usize = 7;
/// Longer texts only take longer.
const MAX_TEXT: usize = 2_000;

/// Bits of a segment's third byte: what is lost or repeated.
mod fate {
    pub const LOST: u8 = 1 << 0;
    pub const REPEATED: u8 = 1 << 1;
    pub const ANSWER_LOST: u8 = 1 << 2;
}

pub fn rewriter(data: &[u8]) {
    let Some((isn, rest)) = data.split_first_chunk() else { return };
    let Some((count, rest)) = rest.split_first() else { return };
    let Some((steps, text)) = rest.split_at_checked(usize::from(*count) * 3) else { return };
    let text = &text[..text.len().min(MAX_TEXT)];
    let isn = u32::from_le_bytes(*isn);
    let undisturbed = converse(isn, &[], text);
    let disturbed = converse(isn, steps, text);
    assert_eq!(disturbed, undisturbed, "what is lost decides what is read");
}

/// What the server has in the end.
fn converse(isn: u32, steps: &[u8], text: &[u8]) -> Vec<u8> {
    let mut gateway = Gateway::new(isn);
    let mut server = Server { isn, stream: Vec::new() };
    let mut acknowledged = 0;
    for step in steps.chunks_exact(3) {
        let from = (acknowledged + usize::from(step[0])).saturating_sub(128).min(text.len());
        let to = (from + usize::from(step[1] % 64)).min(text.len());
        send(&mut gateway, &mut server, text, from..to, step[2], &mut acknowledged);
    }
    // Each segment may only repeat what waits for an acknowledgement.
    for _ in 0..=2 * text.len() {
        let range = acknowledged..(acknowledged + STEP).min(text.len());
        send(&mut gateway, &mut server, text, range, 0, &mut acknowledged);
    }
    server.finished(&gateway, acknowledged, text)
}

fn send(
    gateway: &mut Gateway,
    server: &mut Server,
    text: &[u8],
    range: std::ops::Range<usize>,
    fate: u8,
    acknowledged: &mut usize,
) {
    if range.is_empty() {
        return;
    }
    let seq = server.isn.wrapping_add(range.start as u32);
    let Some(emission) = gateway.segment(seq, &text[range]) else { return };
    if fate & fate::LOST != 0 {
        return;
    }
    let mut ack = server.segment(&emission);
    if fate & fate::REPEATED != 0 {
        ack = server.segment(&emission);
    }
    let ack = gateway.answer(ack);
    if fate & fate::ANSWER_LOST == 0 {
        *acknowledged = (*acknowledged).max(ack.wrapping_sub(server.isn) as usize);
        assert!(*acknowledged <= text.len(), "more was acknowledged than sent");
    }
}

/// The gateway, as the daemon does it.
struct Gateway {
    reader: Conversation,
    shift: Shift,
    acknowledged: Option<Seq>,
}

impl Gateway {
    fn new(isn: u32) -> Self {
        let [client, server] =
            ["10.0.0.2", "198.51.100.2"].map(|host| host.parse().expect("an address"));
        let names = Names { client: Some(told(0).ip()), server: None };
        let policy = Arc::<Policy>::default();
        let mut reader = Conversation::new(client, server, Beginning::Seen, policy).known_as(names);
        reader.starts_at(Direction::Original, isn);
        reader.segment(Direction::Reply, 1, b"220 ready\r\n");
        Self { reader, shift: Shift::default(), acknowledged: None }
    }

    /// What goes on in the place of a segment; `None` when nothing does.
    fn segment(&mut self, seq: u32, payload: &[u8]) -> Option<Emission> {
        let Self { reader, shift, acknowledged } = self;
        let has_room = Rewriter::new(shift, *acknowledged).has_room(seq);
        if let Some(acknowledged) = acknowledged {
            reader.acknowledged(Direction::Reply, acknowledged.0);
        }
        let expected = reader.expects(Direction::Original);
        if expected.is_some_and(|next| Seq(seq).is_after(Seq(next))) {
            return None;
        }
        if !has_room {
            let known = expected.map_or(0, |next| next.wrapping_sub(seq) as usize);
            let again = &payload[..known.min(payload.len())];
            return (!again.is_empty()).then(|| emit(shift, seq, again));
        }
        let read = reader.segment(Direction::Original, seq, payload);
        let replacements: Vec<_> = read
            .announced()
            .iter()
            .filter_map(|announced| {
                let text = spell(announced.form, b"|", told(announced.hole.dport))?;
                Some(Replacement { place: announced.place, text })
            })
            .collect();
        let unfinished = reader.unfinished(Direction::Original);
        Rewriter::new(shift, *acknowledged).revise(seq, &replacements, unfinished.as_ref());
        let mut emission = emit(shift, seq, payload);
        if emission.bytes.is_empty() {
            emission.nudge(unfinished.map(|begun| begun.before));
        }
        Some(emission)
    }

    /// An acknowledgement on its way to the client.
    fn answer(&mut self, ack: u32) -> u32 {
        let ack = self.shift.back(ack);
        if self.acknowledged.is_none_or(|before| Seq(ack).is_after(before)) {
            self.acknowledged = Some(Seq(ack));
        }
        ack
    }
}

/// What the gateway tells the server of a port.
fn told(port: u16) -> SocketAddr {
    SocketAddr::new([203, 0, 113, 117].into(), port ^ 0x1f0)
}

/// What the server has, in its numbers.
struct Server {
    isn: u32,
    stream: Vec<Option<u8>>,
}

impl Server {
    /// Gives its acknowledgement.
    fn segment(&mut self, emission: &Emission) -> u32 {
        // What it has acknowledged it does not look at.
        let acknowledged = self.received();
        for (number, byte) in (0..).zip(&emission.bytes) {
            let number = emission.seq.wrapping_add(number);
            let Ok(place) = usize::try_from(number.wrapping_sub(self.isn).cast_signed()) else {
                continue;
            };
            if place < acknowledged {
                continue;
            }
            if self.stream.len() <= place {
                self.stream.resize(place + 1, None);
            }
            let before = self.stream[place].replace(*byte);
            assert!(before.is_none_or(|before| before == *byte), "byte {place} has changed");
        }
        self.isn.wrapping_add(self.received() as u32)
    }

    fn received(&self) -> usize {
        self.stream.iter().take_while(|byte| byte.is_some()).count()
    }

    /// The whole stream, when the client has nothing left to send.
    fn finished(self, gateway: &Gateway, acknowledged: usize, text: &[u8]) -> Vec<u8> {
        assert_eq!(acknowledged, text.len(), "{:?}", gateway.shift.edits());
        self.stream.into_iter().map_while(|byte| byte).collect()
    }
}

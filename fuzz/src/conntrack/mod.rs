//! Any sequence of packets of few endpoints: what must hold of the flows.
//!
//! The same conversation runs a second time with all sequence numbers of each side
//! moved around their circle; nothing may depend on where it begins, once both sides
//! of a connection are known.

mod invariants;
mod script;
mod shadow;

use arbitrary::Unstructured;
use firewall_common::{
    control::option,
    flow::{Flow, FlowKey, protocol},
    headers::{Headers, Parsed},
    testing::Memory,
    time::Nanos,
    verdict::Verdict,
    wire::tcp_flag::{ACK, FIN, RST, SYN},
};

use crate::ruleset;
use script::{Circle, Script, Sent};
use shadow::Shadow;

/// Longer conversations find nothing that shorter ones do not.
const MAX_STEPS: usize = 64;

pub fn conntrack(data: &[u8]) {
    let mut input = Unstructured::new(data);
    let Ok(setting) = input.arbitrary::<Setting>() else { return };
    let mut script = Script::new(setting.isn);
    let mut here = Run::new(&setting);
    let mut elsewhere = Run::new(&setting);
    let moved = Circle(setting.shift);
    let mut comparable = true;
    let mut now = Nanos::from_secs(1_000);
    for _ in 0..MAX_STEPS {
        let Ok(step) = input.arbitrary() else { return };
        let Some(sent) = script.carry_out(&step, &mut now) else { continue };
        comparable &= here.is_anchored(&sent, now);
        let one = here.packet(&sent, Circle::HERE, now);
        // Zero means something in a reset: it cannot be moved.
        comparable &= !sent.has_zero(Circle::HERE) && !sent.has_zero(moved);
        if comparable {
            let other = elsewhere.packet(&sent, moved, now);
            assert_eq!(one, other, "{sent:?} moved by {:?}", setting.shift);
        }
    }
}

/// What holds for the whole conversation.
#[derive(arbitrary::Arbitrary, Debug)]
struct Setting {
    options: u8,
    /// Places in the tables.
    embryonic: u8,
    assured: u8,
    isn: [u32; 2],
    shift: [u32; 2],
}

impl Setting {
    fn memory(&self) -> Memory {
        let is_strict = self.options & 0x80 != 0;
        let mut memory =
            if is_strict { ruleset::strict_gateway() } else { ruleset::open_gateway() };
        let all = [
            option::TCP_LOOSE,
            option::TCP_BE_LIBERAL,
            option::TCP_IGNORE_INVALID_RST,
            option::CHECKSUM,
            option::REPORT_FLOWS,
        ];
        let chosen = all.iter().enumerate().filter(|(bit, _)| self.options >> bit & 1 != 0);
        memory.options.bits = chosen.fold(0, |bits, (_, option)| bits | option);
        memory.options.tcp_max_retrans = 3;
        memory.embryonic_size = 1 + usize::from(self.embryonic & 15);
        memory.assured_size = usize::from(self.assured & 7);
        memory
    }
}

/// One run of the conversation.
struct Run {
    memory: Memory,
    shadow: Shadow,
}

/// What a packet came to: the verdict, its ctstate, and what can be told of its
/// flow without naming a sequence number.
type Outcome = (Verdict, u8, Option<[u64; 7]>);

impl Run {
    fn new(setting: &Setting) -> Self {
        let memory = setting.memory();
        Self { memory, shadow: Shadow::default() }
    }

    /// Whether a packet's numbers are compared with numbers of its connection alone:
    /// those of a side that has sent nothing are zero, as in the kernel.
    fn is_anchored(&self, sent: &Sent, now: Nanos) -> bool {
        let mut headers = Headers::default();
        let frame = sent.frame(Circle::HERE).build();
        let is_read = headers.parse(&frame[..], true) == Ok(Parsed::Ip);
        if !is_read || headers.tuple.protocol != protocol::TCP || !headers.has_tcp_flag(ACK) {
            return true;
        }
        let (key, sender) = FlowKey::of(&headers.tuple);
        match self.memory.known(&key).filter(|(_, flow)| !flow.is_expired(now)) {
            Some((_, flow)) => flow.side(flow.direction(sender).reversed()).window.max_size != 0,
            None => headers.has_tcp_flag(SYN | FIN | RST),
        }
    }

    fn packet(&mut self, sent: &Sent, circle: Circle, now: Nanos) -> Outcome {
        let frame = sent.frame(circle).build();
        self.memory.flow_events.borrow_mut().clear();
        let verdict = self.shadow.watch(&self.memory, sent, &frame, now);
        let scratch = self.memory.scratch();
        let flow = self.memory.known(&scratch.key).map(|(_, flow)| facts(&flow));
        (verdict, scratch.walk.ctstate, flow)
    }
}

fn facts(flow: &Flow) -> [u64; 7] {
    [
        flow.state.into(),
        flow.status.into(),
        flow.expires.0,
        flow.sides[0].packets,
        flow.sides[1].packets,
        flow.sides[0].window.max_size.into(),
        flow.sides[1].window.max_size.into(),
    ]
}

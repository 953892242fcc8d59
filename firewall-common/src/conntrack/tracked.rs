//! What tracking found of a packet, and what the packet will do once it is accepted.

use crate::{
    flow::{CtState, Direction, Flow, Sender, helper, status},
    synproxy::{self, Proxy},
    tables::{FlowTable, Tables},
};

/// What an accepted packet does to the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// No flow is concerned: INVALID, UNTRACKED, or an error about a flow.
    Nothing,
    /// Begins a flow in this state, which is a byte as in [`Flow::state`].
    Create(u8),
    /// Counts, wins time, and takes the flow to this state.
    Advance(u8),
    /// Takes the flow to this state, and neither counts nor wins time: nobody knows
    /// yet what the packet means.
    Note(u8),
    /// The connection never came to be: forget it.
    Forget,
}

/// What [`track`] found.
#[derive(Debug)]
pub struct Tracked<'t> {
    pub ctstate: CtState,
    pub direction: Direction,
    pub sender: Sender,
    pub effect: Effect,
    pub flow: Option<(FlowTable, &'t mut Flow)>,
    /// A new flow that an expectation in `scratch` announced.
    pub is_expected: bool,
    /// The helper that announced the flow, for `-m helper`.
    pub announced_by: u8,
}

impl<'t> Tracked<'t> {
    /// What was found, without the flow itself, in one word: as a stage of the
    /// kernel's programs passes it to the next.
    #[inline(always)]
    pub fn pack(&self) -> u32 {
        let is_assured = matches!(self.flow, Some((FlowTable::Assured, _)));
        Packed::of(self).0 | (u32::from(is_assured) * Packed::ASSURED)
    }

    /// The flow, as a stage of the kernel's programs passes it to the next.
    #[inline(always)]
    pub const fn flow_or_null(&mut self) -> *mut Flow {
        match &mut self.flow {
            Some((_, flow)) => core::ptr::from_mut::<Flow>(flow),
            None => core::ptr::null_mut(),
        }
    }

    /// A packet that is none of the flow that it seemed to belong to.
    #[inline(always)]
    pub fn disown(&mut self) {
        self.ctstate = CtState::Invalid;
        self.effect = Effect::Nothing;
        self.flow = None;
        self.announced_by = helper::NONE;
    }

    /// The inverse of [`Tracked::pack`].
    #[inline(always)]
    pub fn unpack(packed: u32, flow: Option<&'t mut Flow>) -> Self {
        let packed = Packed(packed);
        let table = match packed.0 & Packed::ASSURED {
            0 => FlowTable::Embryonic,
            _ => FlowTable::Assured,
        };
        Self {
            ctstate: packed.ctstate(),
            direction: packed.direction(),
            sender: packed.sender(),
            effect: packed.effect(),
            flow: match flow {
                Some(flow) => Some((table, flow)),
                None => None,
            },
            is_expected: packed.0 & Packed::EXPECTED != 0,
            announced_by: packed.byte(Packed::HELPER),
        }
    }
}

/// What was found, on its way to [`Tracked`]: one word and the flow. Of each place where
/// tracking ends, and there are many, fields of their own would come to the stack.
#[derive(Debug)]
pub struct Found<'t> {
    packed: Packed,
    flow: Option<&'t mut Flow>,
}

impl<'t> Found<'t> {
    #[inline(always)]
    pub(super) const fn without_flow(ctstate: CtState) -> Self {
        Self { packed: Packed(ctstate.bit() as u32), flow: None }
    }

    /// The word of one that has no flow: [`Found::unpack`].
    #[inline(always)]
    pub const fn pack(&self) -> u32 {
        self.packed.0
    }

    /// One without a flow.
    #[inline(always)]
    pub const fn unpack(packed: u32) -> Self {
        Self { packed: Packed(packed), flow: None }
    }

    /// Keeps what was found and loses how: for the verifier of the kernel, the
    /// hundreds of ways to get here become one.
    #[inline(always)]
    pub(super) fn tracked<T: Tables>(self, tables: &T, proxy: &Proxy) -> Tracked<'t> {
        let effect = synproxy::effect(proxy, self.packed.effect());
        Tracked::unpack(tables.forget(self.packed.with(effect).0), self.flow)
    }
}

/// A [`Tracked`] without its flow, in one word.
#[derive(Clone, Copy, Debug)]
struct Packed(u32);

impl Packed {
    /// Where the bytes stand: ctstate, effect and flags, state, helper.
    const EFFECT: u32 = 8;
    const STATE: u32 = 16;
    const HELPER: u32 = 24;

    const NOTHING: u32 = 0;
    const CREATE: u32 = 1 << Self::EFFECT;
    const ADVANCE: u32 = 2 << Self::EFFECT;
    const NOTE: u32 = 3 << Self::EFFECT;
    const FORGET: u32 = 4 << Self::EFFECT;
    const EFFECTS: u32 = 7 << Self::EFFECT;

    const REPLY: u32 = 1 << 12;
    const FROM_HIGH: u32 = 1 << 13;
    const EXPECTED: u32 = 1 << 14;
    /// The flow stands in the assured table.
    const ASSURED: u32 = 1 << 15;

    #[inline(always)]
    fn of(tracked: &Tracked<'_>) -> Self {
        let reply = u32::from(matches!(tracked.direction, Direction::Reply)) * Self::REPLY;
        let high = u32::from(matches!(tracked.sender, Sender::High)) * Self::FROM_HIGH;
        let expected = u32::from(tracked.is_expected) * Self::EXPECTED;
        let helper = u32::from(tracked.announced_by) << Self::HELPER;
        Self(u32::from(tracked.ctstate.bit()) | reply | high | expected | helper)
            .with(tracked.effect)
    }

    /// With another effect.
    #[inline(always)]
    const fn with(self, effect: Effect) -> Self {
        const WHOLE: u32 = Packed::EFFECTS | 0xff << Packed::STATE;
        let (kind, state) = match effect {
            Effect::Nothing => (Self::NOTHING, 0),
            Effect::Create(state) => (Self::CREATE, state),
            Effect::Advance(state) => (Self::ADVANCE, state),
            Effect::Note(state) => (Self::NOTE, state),
            Effect::Forget => (Self::FORGET, 0),
        };
        Self(self.0 & !WHOLE | kind | (state as u32) << Self::STATE)
    }

    #[inline(always)]
    const fn byte(self, at: u32) -> u8 {
        (self.0 >> at) as u8
    }

    #[inline(always)]
    fn ctstate(self) -> CtState {
        CtState::from_bit(self.byte(0)).unwrap_or(CtState::Invalid)
    }

    #[inline(always)]
    const fn direction(self) -> Direction {
        if self.0 & Self::REPLY == 0 { Direction::Original } else { Direction::Reply }
    }

    #[inline(always)]
    const fn sender(self) -> Sender {
        if self.0 & Self::FROM_HIGH == 0 { Sender::Low } else { Sender::High }
    }

    #[inline(always)]
    fn effect(self) -> Effect {
        let state = self.byte(Self::STATE);
        match self.0 & Self::EFFECTS {
            Self::CREATE => Effect::Create(state),
            Self::ADVANCE => Effect::Advance(state),
            Self::NOTE => Effect::Note(state),
            Self::FORGET => Effect::Forget,
            _ => Effect::Nothing,
        }
    }
}

/// A packet of a flow that stands in the tables.
#[inline(always)]
pub(super) fn known<'t>(
    table: FlowTable,
    flow: &'t mut Flow,
    direction: Direction,
    sender: Sender,
    effect: Effect,
) -> Found<'t> {
    let is_expected = flow.has(status::EXPECTED);
    let ctstate = match direction {
        Direction::Reply => CtState::Established,
        Direction::Original if flow.has(status::SEEN_REPLY) => CtState::Established,
        Direction::Original if is_expected => CtState::Related,
        Direction::Original => CtState::New,
    };
    let announced_by = if is_expected { flow.helper } else { helper::NONE };
    let tracked = Tracked {
        ctstate,
        direction,
        sender,
        effect,
        flow: Some((table, flow)),
        is_expected: false,
        announced_by,
    };
    Found { packed: Packed(tracked.pack()), flow: tracked.flow.map(|(_, flow)| flow) }
}

/// A packet that begins a flow, in the state of this byte.
#[inline(always)]
pub(super) fn fresh<'t>(state: u8, sender: Sender, announced_by: u8) -> Found<'t> {
    let is_expected = announced_by != helper::NONE;
    let tracked = Tracked {
        ctstate: if is_expected { CtState::Related } else { CtState::New },
        direction: Direction::Original,
        sender,
        effect: Effect::Create(state),
        flow: None,
        is_expected,
        announced_by,
    };
    Found { packed: Packed(tracked.pack()), flow: None }
}

//! Where one packet's translation is worked out.

use bytemuck::Zeroable;

use super::{Faces, Mapping, MappingKey, Order, Translation, claim::Ports};
use crate::{
    addr::Addr,
    flow::{FlowKey, Tuple},
};

/// Bits of [`Desk::done`].
pub mod done {
    /// The packet came from a wire face, and bears the inside one now.
    pub const CAME: u8 = 1 << 0;
    /// It has begun a flow whose destination is another one than it came with, and bears
    /// that.
    pub const TURNED: u8 = 1 << 1;
    /// It leaves with the ends in [`super::Desk::leaving`].
    pub const LEAVES: u8 = 1 << 2;
    /// It begins a flow that was announced over a translated connection, and is to leave with
    /// the source of [`super::Desk::leaving`].
    pub const FOLLOWS: u8 = 1 << 3;
    /// It is where packets come in, from the network or from a socket: those of a translated
    /// flow come from its wire face.
    pub const AT_ENTRANCE: u8 = 1 << 4;
    /// It was taken for one of a translated flow, and is INVALID: it is judged anew, as it
    /// came. The one bit that is left for the next look at the packet.
    pub const STRANGER: u8 = 1 << 5;
    /// It was announced to come where it came, and bears the inside ends: it begins a flow.
    pub const LED: u8 = 1 << 6;
    /// It begins a flow with the ends that another has inside, which come to that from its wire
    /// face: this one gets another source port.
    pub const TWIN: u8 = 1 << 7;
}

/// The ends of a packet are its addresses and ports; those of an ICMP error are those of a
/// packet that answers the one which it quotes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Zeroable)]
pub struct Desk {
    /// The packet's ends as it came in.
    pub wire: Tuple,
    /// As it is judged: those that stand in the packet until it leaves.
    pub inside: Tuple,
    /// With [`done::LEAVES`]; before that its source address, with [`done::FOLLOWS`].
    pub leaving: Tuple,
    /// Of a flow that begins, and its status bits.
    pub faces: Faces,
    pub status: u8,
    /// Bits of [`done`].
    pub done: u8,
    /// A [`crate::verdict::DropReason`] plus one where translation failed.
    pub refusal: u8,
    /// [`done::TURNED`]: the endpoint of the key that sends, as a [`crate::flow::Sender`].
    pub sender: u8,
    /// The answer of [`crate::tables::Tables::own_address`].
    pub address: Addr,
    /// The rule that is carried out.
    pub order: OrderDesk,
    /// A wire face that is claimed, and what it leads to.
    pub claimed: Tuple,
    pub claimed_key: FlowKey,
    pub claimed_inside: Tuple,
    pub translation: Translation,
    /// Whose it may be.
    pub owner: Tuple,
    pub owner_key: FlowKey,
    pub ports: Ports,
    /// An entry that is looked for, what it is to be, and that of who has the port.
    pub mapping_key: MappingKey,
    pub mapping: Mapping,
    pub holder_key: MappingKey,
}

/// An [`Order`], if there is one.
#[repr(C)]
#[derive(Clone, Copy, Debug, Zeroable)]
pub struct OrderDesk {
    pub words: [u32; 8],
    pub argument: u32,
    pub mask: u32,
    pub base: u32,
}

impl OrderDesk {
    #[inline(always)]
    pub const fn read(&self) -> Option<Order> {
        Order::unpack(self.argument, self.mask, &self.words, self.base as u16)
    }
}

impl Desk {
    #[inline(always)]
    pub const fn has(&self, done: u8) -> bool {
        self.done & done != 0
    }

    /// Before a packet is looked at.
    #[inline(always)]
    pub const fn begin(&mut self) {
        self.done = 0;
        self.refusal = 0;
        self.status = 0;
    }
}

//! `-m connlimit`: how many connections an address or network may have.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnLimit {
    pub limit: u32,
    /// It holds for more than that, not for less.
    pub is_above: bool,
    /// Bits of the address that count.
    pub mask: u8,
    /// All bits of an address of the rule's family.
    pub whole: u8,
    pub is_destination: bool,
}

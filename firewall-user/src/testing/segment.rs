//! A segment of a control connection, in the numbers of the link that it is on.

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    pub seq: u32,
    pub ack: u32,
    /// Bytes that its sender takes behind what it acknowledges.
    pub window: u16,
    pub payload: Vec<u8>,
    /// Its sender has nothing more to say: FIN.
    pub is_last: bool,
}

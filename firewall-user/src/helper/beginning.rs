//! What is known of a control connection when its reading begins.

/// Whether the connection was read from its first byte on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beginning {
    /// The next payload of each direction is its first.
    Seen,
    /// It ran before anybody could read it: it was picked up in its middle, or is
    /// older than this daemon.
    Missed,
    /// It was read, and forgotten for want of space; or what came before was lost unread. Whoever caused that may have
    /// meant to: what it shows from now on proves nothing of its past.
    Forgotten,
    /// It ran before, and its flow says that it is encrypted: it stays unread.
    Encrypted,
}

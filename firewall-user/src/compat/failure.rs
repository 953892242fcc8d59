//! How a call under an old name ends when it does not do what it was asked.

/// Something went wrong that is neither of the following.
pub(super) const OTHER: u8 = 1;
/// Wrong arguments.
pub(super) const USAGE: u8 = 2;
/// What is asked for is not there: the instance, a table.
pub(super) const ABSENT: u8 = 3;
/// Somebody else holds the lock.
pub(super) const RESOURCE: u8 = 4;

/// An exit status of iptables(8) or conntrack(8), and what is said on stderr.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) status: u8,
    pub(super) message: String,
}

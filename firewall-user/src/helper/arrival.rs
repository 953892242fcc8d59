//! What of a stream has arrived that was not read.

use firewall_common::seq::Seq;

/// Up to where a reader goes on unread when a segment comes at `seq`: over what is missing before
/// that, as far as its receiver has it; in a stream that has not begun, where that begins.
///
/// What a receiver has is known as of now, not as of when the segment came: who claims to have
/// what it has not got could have that passed over. What comes is read, whatever is claimed.
pub fn passed_over(expected: Option<u32>, received: Option<Seq>, seq: u32) -> Option<u32> {
    let (received, seq) = (received?, Seq(seq));
    let is_missing = expected.is_none_or(|expected| seq.is_after(Seq(expected)));
    let reached = if received.is_after(seq) { seq } else { received };
    is_missing.then_some(reached.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_is_read_whatever_is_claimed() {
        assert_eq!(passed_over(Some(100), Some(Seq(150)), 100), None);
        assert_eq!(passed_over(Some(100), Some(Seq(150)), 90), None);
        assert_eq!(passed_over(None, Some(Seq(150)), 100), Some(100));
    }

    #[test]
    fn what_has_arrived_unread_is_passed_over() {
        assert_eq!(passed_over(Some(100), Some(Seq(150)), 150), Some(150));
        assert_eq!(passed_over(Some(100), Some(Seq(150)), 120), Some(120));
        assert_eq!(passed_over(Some(100), Some(Seq(100)), 120), Some(100));
        assert_eq!(passed_over(Some(100), None, 120), None);
    }

    #[test]
    fn a_stream_begins_where_its_receiver_waits_for_it() {
        assert_eq!(passed_over(None, Some(Seq(u32::MAX)), 20), Some(u32::MAX));
        assert_eq!(passed_over(None, None, 20), None);
    }
}

//! What a SYNPROXY rule offers to clients, as the rule's argument.

use super::header::{Options, has};

/// The options of `-j SYNPROXY`; what was not given is not offered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offer {
    /// `--mss`, with [`has::MSS`].
    pub mss: u16,
    /// `--wscale`, 0 to 14, with [`has::SCALE`].
    pub scale: u8,
    /// Bits of [`has`]: also `--sack-perm`, `--timestamp` and `--ecn`.
    pub present: u8,
}

impl Offer {
    pub const fn pack(self) -> u32 {
        self.mss as u32 | (self.scale as u32) << 16 | (self.present as u32) << 24
    }

    #[inline(always)]
    pub const fn unpack(argument: u32) -> Self {
        Self {
            mss: argument as u16,
            scale: (argument >> 16) as u8,
            present: (argument >> 24) as u8,
        }
    }

    /// What a client that can do this is told. Without timestamps nothing would
    /// remember the others.
    #[inline(always)]
    pub const fn common(self, client: &Options) -> u8 {
        let common = self.present & client.present;
        if common & has::TIMESTAMPS == 0 { 0 } else { common }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offer_survives_the_rule() {
        let offer = Offer { mss: 1_460, scale: 7, present: has::MSS | has::SCALE | has::ECN };
        assert_eq!(Offer::unpack(offer.pack()), offer);
    }

    #[test]
    fn without_timestamps_a_client_is_offered_nothing() {
        let all = has::SCALE | has::SACK_PERMITTED | has::TIMESTAMPS | has::ECN;
        let offer = Offer { present: all, ..Offer::default() };
        let client = |present| Options { present, ..Options::default() };
        assert_eq!(offer.common(&client(all)), all);
        assert_eq!(offer.common(&client(all & !has::TIMESTAMPS)), 0);
        let plain = Offer { present: all & !has::TIMESTAMPS, ..offer };
        assert_eq!(plain.common(&client(all)), 0);
    }
}

//! Which of the two rulesets counts, also one that is only on trial.
//!
//! A ruleset on trial stops to count by itself when its time is over: every packet
//! looks at the clock, and nobody has to be alive to bring the former rules back.

use core::mem::size_of;

use bytemuck::{Pod, Zeroable};

use crate::{control::slot, time::Nanos};

/// The single value of the `generation` map. Generations count from 1; 0 is none.
///
/// Readers take no lock. So whoever writes it changes `until` only while `current` and
/// `former` are the same, and then it does not matter: [`InForce::prepared`],
/// [`InForce::settled`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct InForce {
    pub current: u32,
    /// What counts again when the trial of `current` is over.
    pub former: u32,
    /// The end of the trial; zero when there is none.
    pub until: Nanos,
    /// What each slot of the ruleset maps holds.
    pub slots: [u32; 2],
    /// The last one that was kept after a trial.
    pub confirmed: u32,
    pub _pad: u32,
}

impl InForce {
    /// The generation that counts.
    #[inline(always)]
    pub const fn at(&self, now: Nanos) -> u32 {
        if self.until.0 == 0 || self.until.is_after(now) { self.current } else { self.former }
    }

    /// Whether rules are on trial.
    pub const fn is_trial(&self, now: Nanos) -> bool {
        self.current != self.former && self.until.is_after(now)
    }

    /// The number of the ruleset that is written next: one that no flow remembers, for
    /// the slot that does not count. Only while nothing is on trial.
    pub const fn next(&self) -> u32 {
        let [a, b] = self.slots;
        let next = if a > b { a + 1 } else { b + 1 };
        if slot(next) == slot(self.current) { next + 1 } else { next }
    }

    /// Before [`InForce::next`] counts, for good or (`until` is not zero) on trial.
    #[must_use]
    pub const fn prepared(&self, until: Nanos) -> Self {
        let mut slots = self.slots;
        let next = self.next();
        slots[slot(next) as usize & 1] = next;
        Self { until, slots, ..*self }
    }

    /// From [`InForce::prepared`]: the ruleset that was written counts.
    #[must_use]
    pub const fn switched(&self, next: u32) -> Self {
        let former = if self.until.0 == 0 { next } else { self.former };
        Self { current: next, former, ..*self }
    }

    /// What is on trial counts for good. Another step takes the time away.
    #[must_use]
    pub const fn kept(&self) -> Self {
        Self { former: self.current, confirmed: self.current, ..*self }
    }

    /// What was before the trial counts again. Another step takes the time away.
    #[must_use]
    pub const fn withdrawn(&self) -> Self {
        Self { current: self.former, ..*self }
    }

    /// From [`InForce::kept`] or [`InForce::withdrawn`]: nothing is on trial any more.
    #[must_use]
    pub const fn settled(&self) -> Self {
        Self { until: Nanos::ZERO, ..*self }
    }
}

/// What a remembered verdict is stamped with: it holds while its stamp is one of those that
/// count. 0 is none.
pub mod stamp {
    /// In the map `set_changes`: somebody is changing sets.
    pub const IS_CHANGING: u64 = 1 << 63;
    /// The stamp says how the sets were.
    const OF_SETS: u32 = 1 << 31;

    /// Of a verdict behind rules that asked no set.
    #[inline(always)]
    pub const fn of_rules(generation: u32) -> u32 {
        generation & !OF_SETS
    }

    /// Of one behind a rule that did; [`NONE`] while sets are being changed.
    ///
    /// Generations that count one after another are apart by fewer than 4,096, also where a
    /// trial ends; so two of these stamps are the same only half a million changes later.
    #[inline(always)]
    pub const fn of_sets(generation: u32, set_changes: u64) -> u32 {
        if set_changes & IS_CHANGING != 0 {
            return NONE;
        }
        OF_SETS | generation.wrapping_add((set_changes as u32) << 12)
    }

    /// Whether it is one of [`of_sets`].
    #[inline(always)]
    pub const fn is_of_sets(stamp: u32) -> bool {
        stamp & OF_SETS != 0
    }

    /// Nothing is to be remembered.
    pub const NONE: u32 = 0;
}

const _: () = assert!(size_of::<InForce>() == 32);

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Nanos = Nanos(1_000);
    const END: Nanos = Nanos(2_000);

    fn running() -> InForce {
        let prepared = InForce::default().prepared(Nanos::ZERO);
        prepared.switched(InForce::default().next())
    }

    fn on_trial() -> InForce {
        let next = running().next();
        running().prepared(END).switched(next)
    }

    #[test]
    fn the_first_ruleset_is_generation_one() {
        let wanted = InForce { current: 1, former: 1, slots: [0, 1], ..InForce::default() };
        assert_eq!(running(), wanted);
        assert_eq!(running().next(), 2);
    }

    #[test]
    fn a_trial_counts_until_its_end_and_the_former_rules_from_then_on() {
        let trial = on_trial();
        assert_eq!([trial.at(NOW), trial.at(END), trial.at(Nanos(u64::MAX))], [2, 1, 1]);
        assert!(trial.is_trial(NOW) && !trial.is_trial(END));
    }

    #[test]
    fn a_generation_that_failed_is_never_counted_again() {
        let back = on_trial().withdrawn().settled();
        assert_eq!(back.at(NOW), 1);
        assert_eq!(back.next(), 4);
        let after = back.prepared(Nanos::ZERO).switched(4);
        assert_eq!((after.at(NOW), after.next()), (4, 5));
    }

    #[test]
    fn no_step_on_the_way_counts_other_rules_than_the_old_or_the_new() {
        let prepared = running().prepared(END);
        assert_eq!([prepared.at(NOW), prepared.at(END)], [1, 1]);
        let kept = on_trial().kept();
        assert_eq!([kept.at(NOW), kept.at(END)], [2, 2]);
        assert!(!kept.is_trial(NOW));
        assert_eq!((kept.settled().at(END), kept.confirmed), (2, 2));
    }
}

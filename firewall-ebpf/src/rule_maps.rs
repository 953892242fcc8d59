//! The maps of the rules and of what their conditions ask.

use aya_ebpf::helpers::{bpf_get_prandom_u32, bpf_get_smp_processor_id};
use firewall_common::{
    addr::Addr,
    classifier::{Index, LINES_PER_GENERATION, Line},
    extra::{Asking, EXTRAS_PER_GENERATION, Extra, Facts, text::PATTERNS_PER_GENERATION},
    rule::{PORT_SETS_PER_GENERATION, PortSet, RULES_PER_GENERATION, Rule, counter_place},
    set::{Entry, EntryKey, SetHeader},
    tables::Rules,
};

use crate::{
    maps::{EXTRAS, PORT_SETS, RULE_COUNTERS, RULE_INDEX, RULES},
    memory, sets, stage,
};

/// The maps that the walk reads.
#[derive(Clone, Copy)]
pub struct RuleMaps;

impl RuleMaps {
    pub const SELF: &Self = &Self;
}

impl Rules for RuleMaps {
    #[inline(always)]
    fn rule(&self, slot: u32, index: u32) -> Option<&Rule> {
        RULES.get((slot & 1) * RULES_PER_GENERATION + index)
    }

    #[inline(always)]
    fn port_set(&self, slot: u32, index: u16) -> Option<&PortSet> {
        PORT_SETS.get((slot & 1) * PORT_SETS_PER_GENERATION + u32::from(index))
    }

    #[inline(always)]
    fn count_rule(&self, slot: u32, index: u32, bytes: u64) {
        // SAFETY: the helper takes nothing.
        let cpu = unsafe { bpf_get_smp_processor_id() };
        let place = counter_place(cpu, slot) + index;
        let Some(counter) = RULE_COUNTERS.get_ptr_mut(place) else { return };
        // SAFETY: this CPU's counter; nothing else holds it.
        let counter = unsafe { &mut *counter };
        counter.packets += 1;
        counter.bytes += bytes;
    }

    #[inline(always)]
    fn extra(&self, slot: u32, index: u32) -> Option<&Extra> {
        EXTRAS.get((slot & 1) * EXTRAS_PER_GENERATION + index)
    }

    #[inline(always)]
    fn extra_holds(&self, index: u32, facts: &Facts, asking: Asking) -> bool {
        stage::extra_holds(facts, index, asking.pack()) != 0
    }

    #[inline(always)]
    fn recent_holds(&self, extra: &Extra, facts: &Facts, asking: Asking) -> bool {
        stage::recent_holds(extra, facts, asking.pack()) != 0
    }

    #[inline(always)]
    fn bucket_holds(&self, extra: &Extra, facts: &Facts, asking: Asking) -> bool {
        stage::bucket_holds(extra, facts, asking.pack()) != 0
    }

    #[inline(always)]
    fn connections_hold(&self, extra: &Extra, facts: &Facts, asking: Asking) -> bool {
        stage::connections_hold(extra, facts, asking.pack()) != 0
    }

    #[inline(always)]
    fn contains(&self, slot: u32, pattern: u32, from: u32, to: u32) -> bool {
        stage::contains((slot & 1) * PATTERNS_PER_GENERATION + pattern, from, to) != 0
    }

    #[inline(always)]
    fn random(&self) -> u32 {
        // SAFETY: the helper takes nothing.
        unsafe { bpf_get_prandom_u32() }
    }

    #[inline(always)]
    fn remember(&self, asking: Asking, index: u32, change: impl Fn(u64) -> (u64, bool)) -> bool {
        memory::remember(asking, index, change)
    }

    #[inline(always)]
    fn set_store(&self, slot: u32) -> Option<u32> {
        sets::store(slot)
    }

    #[inline(always)]
    fn set_header(&self, store: u32) -> Option<&SetHeader> {
        sets::header(store)
    }

    #[inline(always)]
    fn set_entry(&self, store: u32, key: &EntryKey) -> Option<Entry> {
        sets::entry(store, key)
    }

    #[inline(always)]
    fn set_prefixes(&self, store: u32, header: &SetHeader) -> [u64; 3] {
        sets::prefixes(store, header)
    }

    #[inline(always)]
    fn note_hosts(&self, store: u32) {
        sets::note_hosts(store);
    }

    #[inline(always)]
    fn set_changes(&self) -> u64 {
        sets::changes()
    }

    #[inline(always)]
    fn note_set_change(&self) {
        sets::note_change();
    }

    #[inline(always)]
    fn take_fleeting(&self) -> bool {
        sets::take_fleeting()
    }

    #[inline(always)]
    fn count_entry(&self, store: u32, key: &EntryKey, bytes: u64) {
        sets::count(store, key, bytes);
    }

    #[inline(always)]
    fn put_entry(&self, store: u32, key: &EntryKey, entry: &Entry) -> bool {
        sets::put(store, key, entry)
    }

    #[inline(always)]
    fn remove_entry(&self, store: u32, key: &EntryKey) -> bool {
        sets::remove(store, key)
    }

    #[inline(always)]
    fn prefix_mask(&self, length: u8) -> Addr {
        sets::prefix_mask(length)
    }

    #[inline(always)]
    fn ask_set(&self, words: &[u32; 8], facts: &Facts, is_question: bool) -> bool {
        sets::ask(words, facts, is_question)
    }

    #[inline(always)]
    fn set_holds(&self, index: u32, facts: &Facts, asking: Asking) -> bool {
        stage::set_holds(facts, index, asking.pack()) != 0
    }

    #[inline(always)]
    fn change_sets(&self, index: u32, facts: &Facts, asking: Asking) {
        stage::put_in_set(facts, index, asking.pack());
        stage::take_out_of_set(facts, index, asking.pack());
    }
}

impl Index for RuleMaps {
    #[inline(always)]
    fn line(&self, slot: u32, line: u32) -> Option<&Line> {
        RULE_INDEX.get((slot & 1) * LINES_PER_GENERATION + line)
    }
}

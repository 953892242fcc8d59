//! `conntrack -S`: a line for each CPU.

use anyhow::Result;
use firewall_common::verdict::{DropReason, STAT_PLACES, Stat, drop_counter};

use crate::{commands::print, compat::instance};

/// What the kernel calls INVALID before it knows a protocol.
const INVALID: [DropReason; 4] = [
    DropReason::Truncated,
    DropReason::Malformed,
    DropReason::HeaderChecksum,
    DropReason::TooManyHeaders,
];

pub(super) fn show() -> Result<()> {
    let cpus = instance::maps()?.stats_by_cpu()?;
    print(cpus.iter().enumerate().map(|(cpu, counters)| line(cpu, counters)))
}

/// With the blanks of conntrack(8). What has no counterpart here never happens: 0.
fn line(cpu: usize, counters: &[u64; STAT_PLACES]) -> String {
    let dropped = |reason| counters[drop_counter(reason) as usize];
    let invalid: u64 = INVALID.into_iter().map(dropped).sum();
    format!(
        "cpu={cpu:<4}\tfound=0 invalid={invalid} insert={} insert_failed={} drop={} early_drop=0 \
         error=0 search_restart=0 clash_resolve=0 chaintoolong=0 ",
        counters[Stat::FlowsCreated as usize],
        counters[Stat::AssuredFull as usize],
        dropped(DropReason::TableFull),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_the_form_of_conntrack() {
        let mut counters = [0; STAT_PLACES];
        counters[Stat::FlowsCreated as usize] = 7;
        counters[drop_counter(DropReason::Malformed) as usize] = 2;
        assert_eq!(
            line(1, &counters),
            "cpu=1   \tfound=0 invalid=2 insert=7 insert_failed=0 drop=0 early_drop=0 error=0 \
             search_restart=0 clash_resolve=0 chaintoolong=0 "
        );
    }
}

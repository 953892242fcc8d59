//! Waiting until no program is under way that began before.
//!
//! The programs run with bottom halves disabled, so that no thread can take their CPU
//! from them: a thread that has run on every CPU has outlasted all that were running.
//! That takes microseconds, where the kernel's own grace periods take some ten
//! milliseconds. Kernels with PREEMPT_RT do take the CPU from them, and a container
//! may not reach every CPU: there the kernel is asked (membarrier(2)).

use std::{fs, io};

use nix::{
    libc,
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};

const ONLINE: &str = "/sys/devices/system/cpu/online";

/// This thread.
const SELF: Pid = Pid::from_raw(0);

/// Returns when no program runs that was running before: each sees from now on what
/// was written to the maps.
pub(crate) fn wait_for_programs() {
    if is_realtime() || visit_every_cpu().is_none() {
        membarrier();
    }
}

fn is_realtime() -> bool {
    fs::read_to_string("/sys/kernel/realtime").is_ok_and(|text| text.trim() == "1")
}

/// `None` when a CPU cannot be reached.
fn visit_every_cpu() -> Option<()> {
    let cpus = parse(&fs::read_to_string(ONLINE).ok()?)?;
    let home = sched_getaffinity(SELF).ok()?;
    // The call returns when this thread runs there.
    let visited = cpus.into_iter().try_for_each(|cpu| {
        let mut only = CpuSet::new();
        only.set(cpu).ok()?;
        sched_setaffinity(SELF, &only).ok()
    });
    if let Err(error) = sched_setaffinity(SELF, &home) {
        tracing::debug!("cannot go back to the CPUs from before: {error}");
    }
    visited
}

/// `0-3,6`
fn parse(list: &str) -> Option<Vec<usize>> {
    let mut cpus = Vec::new();
    for part in list.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        cpus.extend(first..=last);
    }
    Some(cpus)
}

fn membarrier() {
    const MEMBARRIER_CMD_GLOBAL: libc::c_int = 1;
    // SAFETY: the call takes numbers and changes no memory.
    let answer = unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) };
    if answer != 0 {
        tracing::debug!("membarrier: {}", io::Error::last_os_error());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_cpus_is_read_as_the_kernel_writes_it() {
        assert_eq!(parse("0\n"), Some(vec![0]));
        assert_eq!(parse("0-3,6,8-9\n"), Some(vec![0, 1, 2, 3, 6, 8, 9]));
        assert_eq!(parse(""), None);
    }

    #[test]
    fn the_thread_may_run_where_it_might_before() {
        let before = sched_getaffinity(SELF).unwrap();
        wait_for_programs();
        assert_eq!(sched_getaffinity(SELF).unwrap(), before);
    }
}

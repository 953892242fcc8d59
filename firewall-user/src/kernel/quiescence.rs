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

use super::cpus::online;

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
    let home = sched_getaffinity(SELF).ok()?;
    let cpus = online()?;
    let _urgency = Urgency::begin();
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

/// While it is there, this thread goes before all ordinary ones: on a busy CPU it would
/// wait for milliseconds. Where that is not allowed it waits.
struct Urgency(Option<Scheduling>);

impl Urgency {
    fn begin() -> Self {
        let urgent = Scheduling { policy: libc::SCHED_FIFO.into(), priority: 1 };
        Self(Scheduling::own().filter(|_| urgent.adopt()))
    }
}

impl Drop for Urgency {
    fn drop(&mut self) {
        if self.0.is_some_and(|before| !before.adopt()) {
            let error = io::Error::last_os_error();
            tracing::debug!("cannot go back to the scheduling from before: {error}");
        }
    }
}

/// How a thread is scheduled, as the kernel is told: not every C library has its calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Scheduling {
    policy: libc::c_long,
    priority: libc::c_int,
}

impl Scheduling {
    /// How this thread is.
    fn own() -> Option<Self> {
        let mut priority = 0;
        // SAFETY: the number lives through the call and is all that the kernel writes; 0 is this
        // thread.
        let (policy, answer) = unsafe {
            (
                libc::syscall(libc::SYS_sched_getscheduler, 0),
                libc::syscall(libc::SYS_sched_getparam, 0, &raw mut priority),
            )
        };
        (policy >= 0 && answer == 0).then_some(Self { policy, priority })
    }

    /// Whether this thread is scheduled so now.
    fn adopt(self) -> bool {
        let Self { policy, priority } = self;
        // SAFETY: the number lives through the call and is all that the kernel reads; 0 is this
        // thread.
        unsafe { libc::syscall(libc::SYS_sched_setscheduler, 0, policy, &raw const priority) == 0 }
    }
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
    fn the_thread_may_run_where_it_might_before() {
        let before = sched_getaffinity(SELF).unwrap();
        wait_for_programs();
        assert_eq!(sched_getaffinity(SELF).unwrap(), before);
    }

    #[test]
    fn the_thread_is_scheduled_as_before() {
        let before = Scheduling::own().unwrap();
        wait_for_programs();
        assert_eq!(Scheduling::own(), Some(before));
    }
}

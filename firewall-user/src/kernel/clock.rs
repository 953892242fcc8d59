//! How the wall clock stands to the clocks that programs can read.
//!
//! The kernel's atomic time (CLOCK_TAI) follows every change of the wall clock but the
//! seconds that it is ahead, which change once in years: what is told here stays right when
//! the clock is set, also while no daemon lives.

use std::{io, ptr};

use anyhow::{Context as _, Result};
use firewall_common::extra::calendar::Clock;
use nix::libc;

use super::maps::Maps;

/// `struct timezone`, of which the kernel's is asked: the C library's functions tell none.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct TimeZone {
    minutes_west: i32,
    dst: i32,
}

impl Maps {
    /// Tells the programs how the wall clock stands.
    ///
    /// # Errors
    /// When a clock cannot be read or the map not be written.
    pub fn tell_clock(&self) -> Result<()> {
        let tai_offset = tai_offset().context("cannot read the clock")?;
        let west = minutes_west().context("cannot read the time zone")?;
        let zone = west.wrapping_mul(-60).cast_unsigned();
        self.set_single("clock", Clock { tai_offset, zone })
    }
}

/// Seconds by which CLOCK_TAI is ahead of CLOCK_REALTIME.
fn tai_offset() -> io::Result<u32> {
    // SAFETY: zeroes are a value of it: a question that changes nothing.
    let mut state: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the structure lives through the call.
    match unsafe { libc::adjtimex(&raw mut state) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(state.tai.cast_unsigned()),
    }
}

/// As settimeofday(2) has told the kernel.
fn minutes_west() -> io::Result<i32> {
    let mut zone = TimeZone::default();
    // SAFETY: the structure lives through the call; no time is asked for.
    let answer = unsafe {
        libc::syscall(libc::SYS_gettimeofday, ptr::null_mut::<libc::timeval>(), &raw mut zone)
    };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(zone.minutes_west) }
}

//! `-m time`: when a rule holds.

use firewall_common::extra::calendar::{ALL_MONTHDAYS, ALL_WEEKDAYS, LAST_SECOND};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Time {
    /// First and last second since 1970.
    pub dates: [u32; 2],
    /// First and last second of the day; the last may be the smaller one.
    pub hours: [u32; 2],
    /// Bit 1 for the first.
    pub monthdays: u32,
    /// Bit 1 for Monday.
    pub weekdays: u32,
    /// By the kernel's time zone, not UTC.
    pub is_local: bool,
    /// What is past midnight belongs to the day before.
    pub is_contiguous: bool,
}

impl Default for Time {
    /// Always.
    fn default() -> Self {
        Self {
            dates: [0, Self::LAST_DATE],
            hours: [0, LAST_SECOND],
            monthdays: ALL_MONTHDAYS,
            weekdays: ALL_WEEKDAYS,
            is_local: false,
            is_contiguous: false,
        }
    }
}

impl Time {
    /// 2038-01-19T03:14:07, the last that iptables can write: no end.
    pub const LAST_DATE: u32 = 0x7fff_ffff;
}

pub(crate) const WEEKDAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

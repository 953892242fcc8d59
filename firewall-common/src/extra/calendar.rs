//! `-m time`: the time of day and the date, as xt_time judges them.
//!
//! The clock is the wall's, whole seconds since 1970 in UTC, or by the kernel's time zone.

use super::{Extra, Facts, facts::number};

const DAY: u32 = 24 * 60 * 60;

/// Bits of [`Extra::subject`].
pub mod flag {
    /// By the kernel's time zone.
    pub const LOCAL: u8 = 1 << 0;
    /// What is past midnight belongs to the day before.
    pub const CONTIGUOUS: u8 = 1 << 1;
}

/// Days of the month, bit 1 for the first.
pub const ALL_MONTHDAYS: u32 = 0xffff_fffe;
/// Days of the week, bit 1 for Monday and bit 7 for Sunday.
pub const ALL_WEEKDAYS: u32 = 0xfe;
/// The last second of a day.
pub const LAST_SECOND: u32 = DAY - 1;

/// What the wall clock says.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct Clock {
    /// Seconds by which the kernel's atomic time (CLOCK_TAI) is ahead of it.
    pub tai_offset: u32,
    /// Seconds that are added to UTC for the kernel's time zone, wrapping around.
    pub zone: u32,
}

impl Clock {
    /// Seconds since 1970, by nanoseconds of CLOCK_TAI.
    #[inline(always)]
    pub const fn seconds(self, tai: u64) -> u32 {
        ((tai / 1_000_000_000) as u32).wrapping_sub(self.tai_offset)
    }
}

/// Whether it is the time that is asked for. The arguments: first and last second of the
/// dates; first and last second of the day, which may lie beyond midnight; days of the
/// month; days of the week.
#[inline(always)]
pub fn holds(extra: &Extra, facts: &Facts) -> bool {
    let [date_first, date_last, first, last, monthdays, weekdays, ..] = extra.arguments;
    let has = |bit: u8| extra.subject & bit != 0;
    let place = if has(flag::LOCAL) { number::LOCAL_TIME } else { number::TIME };
    let mut now = facts.number(place, false);
    if now < date_first || now > date_last {
        return false;
    }
    let of_day = now % DAY;
    if first < last {
        if of_day < first || of_day > last {
            return false;
        }
    } else {
        if of_day < first && of_day > last {
            return false;
        }
        if has(flag::CONTIGUOUS) && of_day <= last {
            now = now.saturating_sub(DAY);
        }
    }
    let days = now / DAY;
    if weekdays >> weekday(days) & 1 == 0 {
        return false;
    }
    monthdays == ALL_MONTHDAYS || monthdays >> monthday(days) & 1 != 0
}

/// 1 for Monday to 7 for Sunday; the first of January 1970 was a Thursday.
#[inline(always)]
pub const fn weekday(days: u32) -> u32 {
    (days + 3) % 7 + 1
}

/// 1 to 31: years are counted from March on, so that a leap day is the last of its year,
/// in eras of 400 years.
#[inline(always)]
pub const fn monthday(days: u32) -> u32 {
    const BEFORE_1970: u32 = 719_468;
    const ERA: u32 = 146_097;
    let day = (days + BEFORE_1970) % ERA;
    let leaps = day / 1_460;
    let centuries = day / 36_524;
    let year = (day - leaps + centuries - day / (ERA - 1)) / 365;
    let of_year = day - (365 * year + year / 4 - year / 100);
    // Months from March on have 153 days in five.
    let month = (5 * of_year + 2) / 153;
    of_year - (153 * month + 2) / 5 + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn days_of(month: u32, year: u32) -> u32 {
        let is_leap =
            year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
        match month {
            2 if is_leap => 29,
            2 => 28,
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        }
    }

    #[test]
    fn days_are_those_of_the_calendar() {
        let mut day = 0;
        for year in 1970..2106 {
            for month in 1..=12 {
                for expected in 1..=days_of(month, year) {
                    assert_eq!(monthday(day), expected, "{year}-{month}");
                    assert_eq!(weekday(day), (day + 3) % 7 + 1);
                    day += 1;
                }
            }
        }
        // 2026-11-21 was a Saturday.
        assert_eq!((weekday(20_778), monthday(20_778)), (6, 21));
    }

    fn at(now: u32, subject: u8, arguments: [u32; 6]) -> bool {
        let mut facts = Facts::default();
        facts.set_number(number::TIME, now);
        let [a, b, c, d, e, f] = arguments;
        let arguments = [a, b, c, d, e, f, 0, 0];
        holds(&Extra { subject, arguments, ..Extra::default() }, &facts)
    }

    const ANY: [u32; 6] = [0, u32::MAX, 0, LAST_SECOND, ALL_MONTHDAYS, ALL_WEEKDAYS];
    const HOUR: u32 = 3_600;
    /// A Monday, at midnight.
    const MONDAY: u32 = 20_780 * DAY;

    #[test]
    fn hours_end_with_their_last_second() {
        let office = [ANY[0], ANY[1], 8 * HOUR, 18 * HOUR, ANY[4], ANY[5]];
        for (of_day, holds) in
            [(8 * HOUR - 1, false), (8 * HOUR, true), (18 * HOUR, true), (18 * HOUR + 1, false)]
        {
            assert_eq!(at(MONDAY + of_day, 0, office), holds, "{of_day}");
        }
    }

    #[test]
    fn a_night_that_is_contiguous_belongs_to_the_day_on_which_it_began() {
        let night = [ANY[0], ANY[1], 22 * HOUR, 6 * HOUR, ANY[4], 1 << 1];
        for (second, apart, together) in [
            (MONDAY + 5 * HOUR, true, false),
            (MONDAY + 12 * HOUR, false, false),
            (MONDAY + 23 * HOUR, true, true),
            (MONDAY + DAY + 5 * HOUR, false, true),
        ] {
            assert_eq!(at(second, 0, night), apart);
            assert_eq!(at(second, flag::CONTIGUOUS, night), together);
        }
    }

    #[test]
    fn the_clock_is_the_walls() {
        let clock = Clock { tai_offset: 37, zone: 0 };
        assert_eq!(clock.seconds(1_000_000_037_999_999_999), 1_000_000_000);
    }
}

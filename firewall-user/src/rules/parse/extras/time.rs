//! `-m time`: options that say something together only.

use firewall_common::extra::calendar::{ALL_MONTHDAYS, ALL_WEEKDAYS};

use super::{Field, together::only};
use crate::rules::{
    ast::Condition,
    extra::{Fact, Time, WEEKDAYS},
    parse::{
        items::Item,
        lines::Word,
        values::{Parsed, list, number, wrong},
    },
    problem::Problem,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::rules::parse) enum TimeField {
    Start,
    Stop,
    DateStart,
    DateStop,
    Monthdays,
    Weekdays,
    KernelZone,
    Utc,
    Contiguous,
}

/// What all options of one `-m time` ask for.
pub(super) fn time(items: &[Item]) -> Parsed<Condition<Fact>> {
    let one = |field| only(items, Field::Time(field));
    let always = Time::default();
    let hour = |field, default| match one(field)? {
        Some(item) => of_day(&item.args[0]),
        None => Ok(default),
    };
    let date = |field, default| match one(field)? {
        Some(item) => date(&item.args[0]),
        None => Ok(default),
    };
    let (zone, utc) = (one(TimeField::KernelZone)?, one(TimeField::Utc)?);
    if let (Some(_), Some(utc)) = (zone, utc) {
        let problem = Problem::new("--utc and --kerneltz exclude one another");
        return Err((utc.span, problem.advise("write one of them")));
    }
    let contiguous = one(TimeField::Contiguous)?;
    let value = Time {
        dates: [
            date(TimeField::DateStart, always.dates[0])?,
            date(TimeField::DateStop, always.dates[1])?,
        ],
        hours: [hour(TimeField::Start, always.hours[0])?, hour(TimeField::Stop, always.hours[1])?],
        monthdays: one(TimeField::Monthdays)?.map_or(Ok(always.monthdays), monthdays)?,
        weekdays: one(TimeField::Weekdays)?.map_or(Ok(always.weekdays), weekdays)?,
        is_local: zone.is_some(),
        is_contiguous: contiguous.is_some(),
    };
    if let Some(item) = contiguous.filter(|_| value.hours[0] < value.hours[1]) {
        let problem = Problem::new("--contiguous needs hours that go over midnight");
        let advice = "write a --timestop that is smaller than --timestart, or take it out";
        return Err((item.span, problem.advise(advice)));
    }
    Ok(Condition { negated: false, value: Fact::Time(value) })
}

/// Up to so many digits, below `most`.
fn digits(text: &str, count: usize, most: u32) -> Option<u32> {
    let is_short = (1..=count).contains(&text.len());
    let value = number(text).filter(|_| is_short)?;
    u32::try_from(value).ok().filter(|value| *value < most)
}

/// `8:00`, `08:00:30`: seconds since midnight.
fn clock(text: &str) -> Option<u32> {
    let pieces: Vec<_> = text.split(':').collect();
    let (hour, minute, second) = match pieces[..] {
        [hour, minute] => (hour, minute, "0"),
        [hour, minute, second] => (hour, minute, second),
        _ => return None,
    };
    Some(digits(hour, 2, 24)? * 3_600 + digits(minute, 2, 60)? * 60 + digits(second, 2, 60)?)
}

fn of_day(word: &Word) -> Parsed<u32> {
    clock(&word.text).ok_or_else(|| {
        let problem = Problem::new(format!("'{}' is no time of day", word.text));
        (word.span(), problem.advise("write 00:00 to 23:59, with or without seconds"))
    })
}

/// `2026`, `2026-11`, `2026-11-21`, `2026-11-21T17:30:00`.
fn date(word: &Word) -> Parsed<u32> {
    instant(&word.text).ok_or_else(|| {
        let problem = Problem::new(format!("'{}' is no date", word.text));
        (word.span(), problem.advise("write it as 2026-11-21T17:30:00, from 1970 to 2037"))
    })
}

fn instant(text: &str) -> Option<u32> {
    let (day, time) = match text.split_once('T') {
        Some((day, time)) => (day, Some(time)),
        None => (text, None),
    };
    let pieces: Vec<_> = day.split('-').collect();
    let (year, month, day) = match pieces[..] {
        [year] if time.is_none() => (year, "1", "1"),
        [year, month] if time.is_none() => (year, month, "1"),
        [year, month, day] => (year, month, day),
        _ => return None,
    };
    let year = digits(year, 4, 2_039).filter(|year| *year >= 1_970)?;
    let month = digits(month, 2, 13).filter(|month| *month > 0)?;
    let day = digits(day, 2, 32).filter(|day| *day > 0)?;
    let second = match time {
        None => 0,
        Some(time) if !time.contains(':') => digits(time, 2, 24)? * 3_600,
        Some(time) => clock(time)?,
    };
    let days = days_since_1970(year, month) + day - 1;
    (day <= days_of(year, month))
        .then(|| u64::from(days) * 86_400 + u64::from(second))
        .and_then(|at| u32::try_from(at).ok())
        .filter(|at| *at <= Time::LAST_DATE)
}

const fn is_leap(year: u32) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

const fn days_of(year: u32, month: u32) -> u32 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// To the first of the month.
fn days_since_1970(year: u32, month: u32) -> u32 {
    let years = (1_970..year).map(|year| if is_leap(year) { 366 } else { 365 });
    let months = (1..month).map(|month| days_of(year, month));
    years.sum::<u32>() + months.sum::<u32>()
}

fn monthdays(item: &Item) -> Parsed<u32> {
    let mut days = 0;
    for (text, span) in list(&item.args[0]) {
        let Some(day) = digits(text, 2, 32).filter(|day| *day > 0) else {
            let problem = Problem::new(format!("'{text}' is no day of a month"));
            return Err((span, problem.advise("write 1 to 31, with commas between")));
        };
        days |= 1 << day;
    }
    some(item, if item.negated { ALL_MONTHDAYS & !days } else { days })
}

fn weekdays(item: &Item) -> Parsed<u32> {
    let mut days = 0;
    for (text, span) in list(&item.args[0]) {
        let by_name = WEEKDAYS.iter().position(|day| {
            let beginning = day.get(..text.len()).unwrap_or_default();
            (2..=3).contains(&text.len()) && beginning.eq_ignore_ascii_case(text)
        });
        let day = by_name.map(|at| at + 1).or(digits(text, 1, 8).map(|day| day as usize));
        let Some(day) = day.filter(|day| *day > 0) else {
            let problem = Problem::new(format!("'{text}' is no day of the week"));
            return Err((
                span,
                problem.advise("write Mon, Tue, Wed, Thu, Fri, Sat, Sun or 1 to 7"),
            ));
        };
        days |= 1 << day;
    }
    some(item, if item.negated { ALL_WEEKDAYS & !days } else { days })
}

fn some(item: &Item, days: u32) -> Parsed<u32> {
    match days {
        0 => wrong(&item.args[0], Problem::new("no day is left").advise("take out the '!'")),
        days => Ok(days),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_read_as_far_as_they_are_written() {
        for (text, second) in [
            ("1970", 0),
            ("2024-01-01T17:00", 1_704_128_400),
            ("2024-02-29", 1_709_164_800),
            ("2026-11-21T10", 1_795_255_200),
            ("2038-01-19T03:14:07", Time::LAST_DATE),
        ] {
            assert_eq!(instant(text), Some(second), "{text}");
        }
        for text in ["", "24", "2023-02-29", "2024-13-01", "2024-1-1T24", "2040-01-01", "2024T1"] {
            assert_eq!(instant(text), None, "{text}");
        }
    }
}

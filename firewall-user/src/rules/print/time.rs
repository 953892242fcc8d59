//! `-m time`, as options and as a listing shows it.

use std::time::{Duration, UNIX_EPOCH};

use humantime::format_rfc3339_seconds;

use crate::rules::extra::{Time, WEEKDAYS};

/// Its options; none when it always holds.
pub(super) fn time(one: &Time) -> String {
    let always = Time::default();
    let mut options = Vec::new();
    if one.hours != always.hours {
        let [start, stop] = one.hours.map(clock);
        options.push(format!("--timestart {start} --timestop {stop}"));
    }
    if one.monthdays != always.monthdays {
        options.push(format!("--monthdays {}", monthdays(one.monthdays, |_| "")));
    }
    if one.weekdays != always.weekdays {
        options.push(format!("--weekdays {}", weekdays(one.weekdays)));
    }
    let [start, stop] = one.dates;
    if start != always.dates[0] {
        options.push(format!("--datestart {}", date(start)));
    }
    if stop != always.dates[1] {
        options.push(format!("--datestop {}", date(stop)));
    }
    options.extend(one.is_local.then(|| "--kerneltz".to_owned()));
    options.extend(one.is_contiguous.then(|| "--contiguous".to_owned()));
    options.join(" ")
}

/// As [`time`], for a listing.
pub(super) fn listed_time(one: &Time) -> String {
    let always = Time::default();
    let mut text = " TIME".to_owned();
    if one.hours != always.hours {
        let [start, stop] = one.hours.map(clock);
        text += &format!(" from {start} to {stop}");
    }
    if one.weekdays != always.weekdays {
        text += &format!(" on {}", weekdays(one.weekdays));
    }
    if one.monthdays != always.monthdays {
        text += &format!(" on {}", monthdays(one.monthdays, ordinal));
    }
    let [start, stop] = one.dates;
    if start != always.dates[0] {
        text += &format!(" starting from {}", date(start).replace('T', " "));
    }
    if stop != always.dates[1] {
        text += &format!(" until date {}", date(stop).replace('T', " "));
    }
    text += if one.is_local { "" } else { " UTC" };
    text + if one.is_contiguous { " contiguous" } else { "" }
}

fn clock(second: u32) -> String {
    format!("{:02}:{:02}:{:02}", second / 3_600, second / 60 % 60, second % 60)
}

fn date(second: u32) -> String {
    let at = UNIX_EPOCH + Duration::from_secs(second.into());
    format_rfc3339_seconds(at).to_string().trim_end_matches('Z').to_owned()
}

fn weekdays(days: u32) -> String {
    let set = WEEKDAYS.iter().zip(1..).filter(|(_, bit)| days >> bit & 1 != 0);
    set.map(|(name, _)| *name).collect::<Vec<_>>().join(",")
}

fn monthdays(days: u32, ending: fn(u32) -> &'static str) -> String {
    let set = (1..32).filter(|bit| days >> bit & 1 != 0);
    set.map(|day| format!("{day}{}", ending(day))).collect::<Vec<_>>().join(",")
}

const fn ordinal(day: u32) -> &'static str {
    match day {
        1 | 21 | 31 => "st",
        2 | 22 => "nd",
        3 | 23 => "rd",
        _ => "th",
    }
}

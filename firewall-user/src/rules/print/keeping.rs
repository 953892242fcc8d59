//! Matches that keep something in mind by key, as options and as a listing shows them.

use super::spec::Quoted;
use crate::rules::extra::{ConnLimit, HashLimit, KeyedTable, MODES, Recent};

/// `-m recent`'s options.
pub(super) fn recent(one: &Recent, not: &str) -> String {
    let mut text = format!("{not}--{}", one.action.option());
    if one.seconds != 0 {
        text += &format!(" --seconds {}", one.seconds);
    }
    text += if one.reap { " --reap" } else { "" };
    if one.hits != 0 {
        text += &format!(" --hitcount {}", one.hits);
    }
    text += if one.ttl { " --rttl" } else { "" };
    let side = if one.is_destination { "--rdest" } else { "--rsource" };
    text + &format!(" --name {} --mask {} {side}", Quoted(&one.name), one.mask)
}

/// As [`recent`], for a listing.
pub(super) fn listed_recent(one: &Recent, not: &str) -> String {
    let mut text = format!(" {not}recent: {}", one.action.word());
    if one.seconds != 0 {
        text += &format!(" seconds: {}", one.seconds);
    }
    text += if one.reap { " reap" } else { "" };
    if one.hits != 0 {
        text += &format!(" hit_count: {}", one.hits);
    }
    text += if one.ttl { " TTL-Match" } else { "" };
    let side = if one.is_destination { "dest" } else { "source" };
    text + &format!(" name: {} side: {side} mask: {}", one.name, one.mask)
}

/// `-m hashlimit`'s options.
pub(super) fn hashlimit(one: &HashLimit) -> String {
    let how = if one.is_above { "above" } else { "upto" };
    let mut text = format!("--hashlimit-{how} {}", one.rate.text());
    if let Some(burst) = one.rate.burst() {
        text += &format!(" --hashlimit-burst {burst}");
    }
    if one.mode != 0 {
        text += &format!(" --hashlimit-mode {}", modes(one.mode, ","));
    }
    text += &format!(" --hashlimit-name {}", Quoted(&one.name));
    for (name, value) in numbers(one) {
        text += &format!(" --hashlimit-{name} {value}");
    }
    text
}

/// As [`hashlimit`], for a listing.
pub(super) fn listed_hashlimit(one: &HashLimit) -> String {
    let how = if one.is_above { "above" } else { "up to" };
    let mut text = format!(" limit: {how} {}", one.rate.text());
    if let Some(burst) = one.rate.burst() {
        text += &format!(" burst {burst}");
    }
    if one.mode != 0 {
        text += &format!(" mode {}", modes(one.mode, "-"));
    }
    for (name, value) in numbers(one) {
        text += &format!(" {name} {value}");
    }
    text
}

fn modes(bits: u8, between: &str) -> String {
    let set = MODES.iter().filter(|(_, bit)| bits & bit != 0).map(|(name, _)| *name);
    set.collect::<Vec<_>>().join(between)
}

/// What is not as it is by default: the table, and masks that leave something out.
fn numbers(one: &HashLimit) -> impl Iterator<Item = (&'static str, u32)> {
    let KeyedTable { size, max, gcinterval, expire } = one.table;
    let mask = |bits: u8| (bits != one.whole).then_some(u32::from(bits));
    [
        ("htable-size", size),
        ("htable-max", max),
        ("htable-gcinterval", gcinterval),
        ("htable-expire", expire),
        ("srcmask", mask(one.src_mask)),
        ("dstmask", mask(one.dst_mask)),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name, value?)))
}

/// `-m connlimit`'s options.
pub(super) fn connlimit(one: ConnLimit) -> String {
    let how = if one.is_above { "above" } else { "upto" };
    let side = if one.is_destination { "daddr" } else { "saddr" };
    format!("--connlimit-{how} {} --connlimit-mask {} --connlimit-{side}", one.limit, one.mask)
}

/// As [`connlimit`], for a listing.
pub(super) fn listed_connlimit(one: ConnLimit) -> String {
    let side = if one.is_destination { "dst" } else { "src" };
    let how = if one.is_above { ">" } else { "<=" };
    format!(" #conn {side}/{} {how} {}", one.mask, one.limit)
}

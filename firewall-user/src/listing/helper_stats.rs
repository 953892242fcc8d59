//! How the helpers fared: what they counted, how full they are, and how long they held
//! what they read.

use std::fmt::Write as _;

use firewall_common::helper_stats::{HelperCount, HelperStats};
use serde::Serialize;

use super::json;

/// The parts of a thousand whose longest time is told.
const HALF: u64 = 500;
const NEARLY_ALL: u64 = 990;
const ALL: u64 = 1000;

/// Nanoseconds as people read them: `9.8 us`, `1.2 ms`.
fn time(nanoseconds: u64) -> String {
    let microseconds = nanoseconds as f64 / 1e3;
    match nanoseconds {
        0..1_000_000 => format!("{microseconds:.1} us"),
        _ => format!("{:.1} ms", microseconds / 1e3),
    }
}

/// Lines with a name and a value, and one for the hold times.
pub fn text(stats: &HelperStats) -> String {
    let mut text = String::new();
    let full = |used, most| format!("{used} of {most}");
    let mut rows = vec![
        ("helper-connections", full(stats.followed, stats.max_followed)),
        ("helper-buffers", full(stats.buffered, stats.max_buffered)),
    ];
    rows.extend(HelperCount::ALL.iter().map(|what| (what.name(), stats.of(*what).to_string())));
    rows.push(("hold-time", hold_time(stats)));
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    for (name, value) in rows {
        let _ = writeln!(text, "  {name:<width$} {value}");
    }
    text
}

/// `p50 9.8 us, p99 21.5 us, longest 60.0 us, of 1234 segments`.
fn hold_time(stats: &HelperStats) -> String {
    let at = |part| stats.hold_time(part).map(time);
    match (at(HALF), at(NEARLY_ALL), at(ALL)) {
        (Some(half), Some(nearly), Some(all)) => {
            let segments = stats.segments();
            format!("p50 {half}, p99 {nearly}, longest {all}, of {segments} segments")
        }
        _ => "no segment was held".into(),
    }
}

#[derive(Serialize)]
struct Count {
    name: &'static str,
    value: u64,
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
}

#[derive(Serialize)]
struct HoldTime {
    name: &'static str,
    value: u64,
    kind: &'static str,
    p50_ns: Option<u64>,
    p99_ns: Option<u64>,
    max_ns: Option<u64>,
}

/// JSON objects: `{"name":"helper-opened","value":3,"kind":"helper"}`; those with a bound
/// have `size`; the last is `{"name":"hold-time","value":SEGMENTS,"kind":"histogram",
/// "p50_ns":…,"p99_ns":…,"max_ns":…}`, null before the first segment. A time is up to an
/// eighth too long.
pub fn json(stats: &HelperStats) -> Vec<String> {
    let count = |name, value, size| json::line(&Count { name, value, kind: "helper", size });
    let mut lines = vec![
        count("helper-connections", stats.followed, Some(stats.max_followed)),
        count("helper-buffers", stats.buffered, Some(stats.max_buffered)),
    ];
    lines.extend(HelperCount::ALL.iter().map(|what| count(what.name(), stats.of(*what), None)));
    lines.push(json::line(&HoldTime {
        name: "hold-time",
        value: stats.segments(),
        kind: "histogram",
        p50_ns: stats.hold_time(HALF),
        p99_ns: stats.hold_time(NEARLY_ALL),
        max_ns: stats.hold_time(ALL),
    }));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stats() -> HelperStats {
        let mut stats = HelperStats { followed: 3, max_followed: 65_536, ..HelperStats::default() };
        stats.count(HelperCount::Opened);
        for _ in 0..99 {
            stats.held(10_000);
        }
        stats.held(3_000_000);
        stats
    }

    #[test]
    fn what_was_counted_and_how_long_it_took_is_told() {
        let text = text(&stats());
        assert!(text.contains("  helper-connections 3 of 65536\n"), "{text}");
        assert!(text.contains("  helper-opened      1\n"), "{text}");
        assert!(
            text.contains("hold-time          p50 10.2 us, p99 10.2 us, longest 3.1 ms, of 100"),
            "{text}"
        );
        let lines = json(&stats());
        assert_eq!(
            lines[0],
            r#"{"name":"helper-connections","value":3,"kind":"helper","size":65536}"#
        );
        let last = lines.last().unwrap();
        assert!(
            last.starts_with(
                r#"{"name":"hold-time","value":100,"kind":"histogram","p50_ns":10239,"#
            ),
            "{last}"
        );
    }

    #[test]
    fn before_the_first_segment_there_is_no_time() {
        assert!(text(&HelperStats::default()).contains("no segment was held"));
        let last = json(&HelperStats::default()).pop().unwrap();
        assert!(last.ends_with(r#""p50_ns":null,"p99_ns":null,"max_ns":null}"#), "{last}");
    }
}

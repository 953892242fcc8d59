//! How full a table or a ring is, how it fared, and who fills it.

use std::{fmt::Write as _, net::IpAddr, time::SystemTime};

use firewall_common::pressure::Bounded;
use serde::Serialize;

use super::{json, stats::Fill, time::rfc3339};

/// A table, in entries, or a ring, in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GaugeView {
    pub what: Bounded,
    pub fill: Fill,
    /// `None` while it is not full.
    pub full_since: Option<SystemTime>,
    /// When a daemon saw it full last.
    pub last_full: Option<SystemTime>,
    /// How often it became full.
    pub times_full: u64,
    /// What found no room in it, or lost its place there before its time.
    pub lost: u64,
}

/// Who began the flows of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourcesView {
    pub what: Bounded,
    /// All flows of the table.
    pub total: u64,
    /// The sources with most flows, and how many they have.
    pub top: Vec<(IpAddr, u64)>,
}

/// The name; none of them is the name of a counter.
pub const fn name(what: Bounded) -> &'static str {
    match what {
        Bounded::Assured => "table-assured",
        Bounded::Assured6 => "table-assured6",
        Bounded::Embryonic => "table-embryonic",
        Bounded::Embryonic6 => "table-embryonic6",
        Bounded::Expectations => "table-expectations",
        Bounded::Masters => "table-masters",
        Bounded::Fragments => "table-fragments",
        Bounded::Punts => "ring-punts",
        Bounded::Events => "ring-events",
        Bounded::Translations => "table-translations",
        Bounded::Translations6 => "table-translations6",
        Bounded::EmbryonicTranslations => "table-embryonic-nat",
        Bounded::EmbryonicTranslations6 => "table-embryonic-nat6",
        Bounded::Mappings => "table-mappings",
    }
}

/// What stands behind the number: ` of 16, full since …, 3 times, 7 lost`.
pub fn remark(view: &GaugeView) -> String {
    let mut text = format!(" of {}", view.fill.size);
    if matches!(view.what, Bounded::Punts | Bounded::Events) {
        text.push_str(" bytes");
    }
    match (view.full_since, view.last_full) {
        (Some(since), _) => drop(write!(text, ", full since {}", rfc3339(since))),
        (None, Some(last)) => drop(write!(text, ", last full {}", rfc3339(last))),
        (None, None) => {}
    }
    match view.times_full {
        0 => {}
        1 => text.push_str(", once"),
        times => drop(write!(text, ", {times} times")),
    }
    if view.lost > 0 {
        let _ = write!(text, ", {} lost", view.lost);
    }
    text
}

#[derive(Serialize)]
struct GaugeLine {
    name: &'static str,
    value: u64,
    kind: &'static str,
    size: u64,
    full_since: Option<String>,
    last_full: Option<String>,
    times_full: u64,
    lost: u64,
}

/// `{"name":"table-assured","value":7,"kind":"gauge","size":262144,"full_since":null,
/// "last_full":null,"times_full":0,"lost":0}`
pub fn json(view: &GaugeView) -> String {
    json::line(&GaugeLine {
        name: name(view.what),
        value: view.fill.used,
        kind: "gauge",
        size: view.fill.size,
        full_since: view.full_since.map(rfc3339),
        last_full: view.last_full.map(rfc3339),
        times_full: view.times_full,
        lost: view.lost,
    })
}

const fn sources_name(what: Bounded) -> &'static str {
    match what {
        Bounded::Assured => "sources-assured",
        Bounded::Assured6 => "sources-assured6",
        Bounded::Embryonic6 => "sources-embryonic6",
        _ => "sources-embryonic",
    }
}

/// A heading, and a line for each source: address, flows, percent of all.
pub fn sources_text(view: &SourcesView) -> String {
    let mut text = format!("top sources of {} ({} flows):", name(view.what), view.total);
    let address_width = view.top.iter().map(|(address, _)| address.to_string().len()).max();
    let count_width = view.top.first().map_or(0, |(_, count)| count.to_string().len());
    for (address, count) in &view.top {
        let percent = count * 100 / view.total.max(1);
        let address = address.to_string();
        let _ = write!(
            text,
            "\n  {address:<width$} {count:>count_width$} {percent:>3} %",
            width = address_width.unwrap_or(0)
        );
    }
    text
}

#[derive(Serialize)]
struct SourceLine {
    name: &'static str,
    value: u64,
    kind: &'static str,
    source: IpAddr,
}

/// One line for each source:
/// `{"name":"sources-embryonic","value":60000,"kind":"source","source":"192.0.2.7"}`.
pub fn sources_json(view: &SourcesView) -> Vec<String> {
    let line = |&(source, value): &(IpAddr, u64)| {
        json::line(&SourceLine { name: sources_name(view.what), value, kind: "source", source })
    };
    view.top.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    fn view() -> GaugeView {
        GaugeView {
            what: Bounded::Embryonic,
            fill: Fill { used: 60, size: 64 },
            full_since: Some(UNIX_EPOCH),
            last_full: Some(UNIX_EPOCH),
            times_full: 3,
            lost: 7,
        }
    }

    #[test]
    fn a_full_table_says_since_when_how_often_and_what_was_lost() {
        assert_eq!(remark(&view()), " of 64, full since 1970-01-01T00:00:00.000Z, 3 times, 7 lost");
        let over = GaugeView { full_since: None, times_full: 1, lost: 0, ..view() };
        assert_eq!(remark(&over), " of 64, last full 1970-01-01T00:00:00.000Z, once");
        let ring = GaugeView { what: Bounded::Punts, last_full: None, times_full: 0, ..over };
        assert_eq!(remark(&ring), " of 64 bytes");
    }

    #[test]
    fn json_has_every_field_always() {
        let calm = GaugeView { full_since: None, last_full: None, times_full: 0, ..view() };
        let expected = r#"{"name":"table-embryonic","value":60,"kind":"gauge","size":64,"full_since":null,"last_full":null,"times_full":0,"lost":7}"#;
        assert_eq!(json(&calm), expected);
    }

    #[test]
    fn sources_are_aligned_with_their_share() {
        let address = |text: &str| text.parse().unwrap();
        let view = SourcesView {
            what: Bounded::Assured,
            total: 1_000,
            top: vec![(address("192.0.2.77"), 900), (address("2001:db8::1"), 5)],
        };
        assert_eq!(
            sources_text(&view),
            "top sources of table-assured (1000 flows):\n  \
             192.0.2.77  900  90 %\n  \
             2001:db8::1   5   0 %"
        );
        let expected =
            r#"{"name":"sources-assured","value":900,"kind":"source","source":"192.0.2.77"}"#;
        assert_eq!(sources_json(&view)[0], expected);
    }
}

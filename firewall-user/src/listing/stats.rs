//! The counters of the datapath and the fill of its tables.

use std::fmt::Write as _;

use firewall_common::verdict::{DropReason, Stat, drop_counter};
use serde::Serialize;

use super::json;

/// What `firewall stats` prints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatsView {
    /// Sums over the CPUs, in the order of the `stats` map; what is missing at
    /// the end counts as zero.
    pub counters: Vec<u64>,
    pub tables: Tables,
}

/// The fill of the tables, in entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tables {
    pub assured: Fill,
    pub embryonic: Fill,
    pub expectations: Fill,
}

/// How full a table is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Fill {
    pub used: u64,
    pub size: u64,
}

impl Tables {
    /// The names of the gauges; none of them is the name of a counter.
    pub const fn named(&self) -> [(&'static str, Fill); 3] {
        [
            ("table-assured", self.assured),
            ("table-embryonic", self.embryonic),
            ("table-expectations", self.expectations),
        ]
    }
}

/// What a counter counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    /// Packets that went on; each packet moves one of these or a drop.
    Verdict,
    /// Packets that did not.
    Drop,
    /// Something else that happened, beside the verdict.
    Event,
    /// Not a counter: a number that goes up and down.
    Gauge,
}

impl Kind {
    const fn of(stat: Stat) -> Self {
        match stat {
            Stat::AcceptInput
            | Stat::AcceptForward
            | Stat::AcceptOutput
            | Stat::PassNonIp
            | Stat::PassOtherHost
            | Stat::SynCookiesSent => Self::Verdict,
            Stat::Reinjected
            | Stat::Punted
            | Stat::PuntSkipped
            | Stat::ForwardFast
            | Stat::ForwardStack
            | Stat::CacheHit
            | Stat::FlowsCreated
            | Stat::FlowsAssured
            | Stat::AssuredFull
            | Stat::ExpectationsUsed
            | Stat::SynCookiesRight
            | Stat::EventsLost
            | Stat::FlowEventsLost => Self::Event,
        }
    }

    const fn heading(self) -> &'static str {
        match self {
            Self::Verdict => "packets that went on",
            Self::Drop => "packets dropped",
            Self::Event => "events",
            Self::Gauge => "tables",
        }
    }
}

#[derive(Serialize)]
struct Line {
    name: &'static str,
    value: u64,
    kind: Kind,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
}

fn lines(view: &StatsView) -> Vec<Line> {
    let value = |index: u32| view.counters.get(index as usize).copied().unwrap_or(0);
    let stat = |&stat: &Stat| Line {
        name: stat.name(),
        value: value(stat as u32),
        kind: Kind::of(stat),
        size: None,
    };
    let reason = |&reason: &DropReason| Line {
        name: reason.name(),
        value: value(drop_counter(reason)),
        kind: Kind::Drop,
        size: None,
    };
    let gauge = |(name, Fill { used, size })| Line {
        name,
        value: used,
        kind: Kind::Gauge,
        size: Some(size),
    };
    let stats = Stat::ALL.iter().map(stat);
    let reasons = DropReason::ALL.iter().map(reason);
    stats.chain(reasons).chain(view.tables.named().map(gauge)).collect()
}

/// A table with a heading for each kind of counter.
pub fn text(view: &StatsView) -> String {
    let lines = lines(view);
    let name_width = lines.iter().map(|line| line.name.len()).max().unwrap_or(0);
    let value_width = lines.iter().map(|line| line.value.to_string().len()).max().unwrap_or(0);
    let mut text = String::new();
    for kind in [Kind::Verdict, Kind::Drop, Kind::Event, Kind::Gauge] {
        let _ = writeln!(text, "{}:", kind.heading());
        for line in lines.iter().filter(|line| line.kind == kind) {
            let _ = write!(text, "  {:<name_width$} {:>value_width$}", line.name, line.value);
            if let Some(size) = line.size {
                let _ = write!(text, " of {size}");
            }
            text.push('\n');
        }
    }
    text.trim_end().to_owned()
}

/// One JSON object to a line: `{"name":"accept-input","value":1,"kind":"verdict"}`;
/// a gauge (`"kind":"gauge"`) has the table's `size` too.
pub fn json(view: &StatsView) -> String {
    let lines: Vec<_> = lines(view).iter().map(json::line).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use firewall_common::verdict::STATS;

    use super::*;

    /// Each counter holds its own index plus one.
    fn numbered() -> StatsView {
        StatsView {
            counters: (1..=u64::from(STATS)).collect(),
            tables: Tables { assured: Fill { used: 7, size: 262_144 }, ..Tables::default() },
        }
    }

    #[test]
    fn every_counter_is_a_json_line_with_its_own_value() {
        let text = json(&numbered());
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), STATS as usize + 3);
        assert_eq!(lines[0], r#"{"name":"accept-input","value":1,"kind":"verdict"}"#);
        let first_drop = Stat::COUNT;
        let expected = format!(r#"{{"name":"rule","value":{},"kind":"drop"}}"#, first_drop + 1);
        assert_eq!(lines[first_drop], expected);
        let gauge = r#"{"name":"table-assured","value":7,"kind":"gauge","size":262144}"#;
        assert!(lines.contains(&gauge));
    }

    #[test]
    fn no_gauge_has_the_name_of_a_counter() {
        for (name, _) in Tables::default().named() {
            assert!(Stat::ALL.iter().all(|stat| stat.name() != name));
            assert!(DropReason::ALL.iter().all(|reason| reason.name() != name));
        }
    }

    #[test]
    fn the_table_is_aligned() {
        let text = text(&numbered());
        let lines: Vec<_> = text.lines().filter(|line| line.starts_with("  ")).collect();
        assert_eq!(lines.len(), STATS as usize + 3);
        assert_eq!(lines[0], "  accept-input        1");
        let widths = lines.iter().map(|line| line.split(" of ").next().unwrap().len());
        assert!({ widths }.all(|width| width == lines[0].len()), "{text}");
    }

    #[test]
    fn a_shorter_list_of_counters_counts_as_zero() {
        let view = StatsView { counters: vec![], tables: Tables::default() };
        assert!(json(&view).contains(r#"{"name":"events-lost","value":0,"kind":"event"}"#));
    }
}

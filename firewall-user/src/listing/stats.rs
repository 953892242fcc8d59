//! The counters of the datapath and the fill of its tables.

use std::fmt::Write as _;

use firewall_common::{
    helper_stats::HelperStats,
    verdict::{DropReason, Stat, drop_counter},
};
use serde::Serialize;

use super::{
    gauge::{self, GaugeView, SourcesView},
    helper_stats, json,
};

/// What `firewall stats` prints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatsView {
    /// Sums over the CPUs, in the order of the `stats` map; what is missing at
    /// the end counts as zero.
    pub counters: Vec<u64>,
    pub gauges: Vec<GaugeView>,
    pub sources: Vec<SourcesView>,
    pub helper: HelperStats,
}

/// The fill of the tables, in entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tables {
    pub assured: Fill,
    pub assured6: Fill,
    pub embryonic: Fill,
    pub embryonic6: Fill,
    pub expectations: Fill,
    /// Of confirmed connections.
    pub translations: Fill,
    pub translations6: Fill,
}

/// How full a table is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Fill {
    pub used: u64,
    pub size: u64,
}

impl Fill {
    pub fn percent(&self) -> u64 {
        (self.used * 100).checked_div(self.size).unwrap_or(0)
    }
}

impl Tables {
    /// The names of the gauges; none of them is the name of a counter.
    pub const fn named(&self) -> [(&'static str, Fill); 7] {
        [
            ("table-assured", self.assured),
            ("table-assured6", self.assured6),
            ("table-embryonic", self.embryonic),
            ("table-embryonic6", self.embryonic6),
            ("table-expectations", self.expectations),
            ("table-translations", self.translations),
            ("table-translations6", self.translations6),
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
            | Stat::FragmentsHeld
            | Stat::ForwardFast
            | Stat::ForwardShort
            | Stat::ForwardStack
            | Stat::CacheHit
            | Stat::FlowsCreated
            | Stat::FlowsCreated6
            | Stat::FlowsAssured
            | Stat::FlowsAssured6
            | Stat::AssuredFull
            | Stat::AssuredFull6
            | Stat::TranslationsFull
            | Stat::TranslationsFull6
            | Stat::FlowsForgotten
            | Stat::FlowsForgotten6
            | Stat::FlowsReplaced
            | Stat::FlowsReplaced6
            | Stat::ExpectationsUsed
            | Stat::SynCookiesRight
            | Stat::EventsLost
            | Stat::FlowEventsLost
            | Stat::MappingsFull => Self::Event,
        }
    }

    const fn heading(self) -> &'static str {
        match self {
            Self::Verdict => "packets that went on",
            Self::Drop => "packets dropped",
            Self::Event => "events",
        }
    }
}

#[derive(Serialize)]
struct Line {
    name: &'static str,
    value: u64,
    kind: Kind,
}

fn lines(view: &StatsView) -> Vec<Line> {
    let value = |index: u32| view.counters.get(index as usize).copied().unwrap_or(0);
    let stat =
        |&stat: &Stat| Line { name: stat.name(), value: value(stat as u32), kind: Kind::of(stat) };
    let reason = |&reason: &DropReason| Line {
        name: reason.name(),
        value: value(drop_counter(reason)),
        kind: Kind::Drop,
    };
    let stats = Stat::ALL.iter().map(stat);
    let reasons = DropReason::ALL.iter().map(reason);
    stats.chain(reasons).collect()
}

/// A table with a heading for each kind of counter, then the gauges, then who
/// fills the tables.
pub fn text(view: &StatsView) -> String {
    let lines = lines(view);
    let gauges = view.gauges.iter().map(|view| (gauge::name(view.what), view.fill.used));
    let numbers = || lines.iter().map(|line| (line.name, line.value)).chain(gauges.clone());
    let name_width = numbers().map(|(name, _)| name.len()).max().unwrap_or(0);
    let value_width = numbers().map(|(_, value)| value.to_string().len()).max().unwrap_or(0);
    let mut text = String::new();
    let row = |text: &mut String, name: &str, value: u64, remark: &str| {
        let _ = writeln!(text, "  {name:<name_width$} {value:>value_width$}{remark}");
    };
    for kind in [Kind::Verdict, Kind::Drop, Kind::Event] {
        heading(&mut text, kind.heading());
        for line in lines.iter().filter(|line| line.kind == kind) {
            row(&mut text, line.name, line.value, "");
        }
    }
    heading(&mut text, "tables");
    for view in &view.gauges {
        row(&mut text, gauge::name(view.what), view.fill.used, &gauge::remark(view));
    }
    for sources in &view.sources {
        text.push_str(&gauge::sources_text(sources));
        text.push('\n');
    }
    heading(&mut text, "helpers");
    text.push_str(&helper_stats::text(&view.helper));
    text.trim_end().to_owned()
}

fn heading(text: &mut String, heading: &str) {
    let _ = writeln!(text, "{heading}:");
}

/// One JSON object to a line: `{"name":"accept-input","value":1,"kind":"verdict"}`;
/// then the gauges (`"kind":"gauge"`), who fills the tables (`"kind":"source"`), and how
/// the helpers fared (`"kind":"helper"` and `"kind":"histogram"`).
pub fn json(view: &StatsView) -> String {
    let counters = lines(view).into_iter().map(|line| json::line(&line));
    let gauges = view.gauges.iter().map(gauge::json);
    let sources = view.sources.iter().flat_map(gauge::sources_json);
    let helpers = helper_stats::json(&view.helper);
    counters.chain(gauges).chain(sources).chain(helpers).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use firewall_common::{pressure::Bounded, verdict::STATS};

    use super::*;

    fn gauge(what: Bounded) -> GaugeView {
        GaugeView {
            what,
            fill: Fill { used: 7, size: 262_144 },
            full_since: None,
            last_full: None,
            times_full: 0,
            lost: 0,
        }
    }

    /// Each counter holds its own index plus one.
    fn numbered() -> StatsView {
        StatsView {
            counters: (1..=u64::from(STATS)).collect(),
            gauges: Bounded::ALL.map(gauge).into(),
            sources: Vec::new(),
            helper: HelperStats::default(),
        }
    }

    #[test]
    fn every_counter_is_a_json_line_with_its_own_value() {
        let text = json(&numbered());
        let lines: Vec<_> = text.lines().collect();
        let helpers = helper_stats::json(&HelperStats::default()).len();
        assert_eq!(lines.len(), STATS as usize + Bounded::ALL.len() + helpers);
        assert_eq!(lines[0], r#"{"name":"accept-input","value":1,"kind":"verdict"}"#);
        let first_drop = Stat::COUNT;
        let expected = format!(r#"{{"name":"rule","value":{},"kind":"drop"}}"#, first_drop + 1);
        assert_eq!(lines[first_drop], expected);
        let gauge = r#"{"name":"table-assured","value":7,"kind":"gauge","size":262144,"#;
        assert!(lines.iter().any(|line| line.starts_with(gauge)));
    }

    #[test]
    fn no_gauge_has_the_name_of_a_counter() {
        for name in Bounded::ALL.map(gauge::name) {
            assert!(Stat::ALL.iter().all(|stat| stat.name() != name));
            assert!(DropReason::ALL.iter().all(|reason| reason.name() != name));
        }
    }

    #[test]
    fn the_table_is_aligned() {
        let text = text(&numbered());
        let (text, _) = text.split_once("helpers:").unwrap();
        let lines: Vec<_> = text.lines().filter(|line| line.starts_with("  ")).collect();
        assert_eq!(lines.len(), STATS as usize + Bounded::ALL.len());
        assert_eq!(lines[0], "  accept-input          1");
        let widths = lines.iter().map(|line| line.split(" of ").next().unwrap().len());
        assert!({ widths }.all(|width| width == lines[0].len()), "{text}");
    }

    #[test]
    fn a_shorter_list_of_counters_counts_as_zero() {
        let view = StatsView {
            counters: vec![],
            gauges: vec![],
            sources: vec![],
            helper: HelperStats::default(),
        };
        assert!(json(&view).contains(r#"{"name":"events-lost","value":0,"kind":"event"}"#));
    }
}

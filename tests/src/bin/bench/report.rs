//! What was measured: figures with all their rounds, and the ratios that count.

use std::{fmt::Write as _, fs, path::Path};

use anyhow::{Context as _, Result};
use comfy_table::{Table, presets::NOTHING};
use serde::{Deserialize, Serialize};

/// One thing that was measured in every round.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Figure {
    pub part: String,
    pub name: String,
    pub unit: String,
    pub rounds: Vec<f64>,
}

impl Figure {
    pub fn median(&self) -> f64 {
        let mut sorted = self.rounds.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        match sorted.len() {
            0 => f64::NAN,
            len if len % 2 == 1 => sorted[middle],
            _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
        }
    }

    /// How many a second, of what takes nanoseconds.
    pub fn rate(&self) -> Option<f64> {
        (self.unit == "ns").then(|| 1e9 / self.median())
    }

    /// How far the rounds lie apart: half of them are so near the median, as a part of it.
    pub fn spread(&self) -> f64 {
        let median = self.median();
        let apart = self.rounds.iter().map(|one| (one - median).abs()).collect();
        let apart = Self { rounds: apart, ..self.clone() };
        if median == 0.0 { 0.0 } else { apart.median() / median }
    }
}

/// A ratio of two figures, and what it is to be.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ratio {
    pub what: String,
    pub value: f64,
    pub goal: Goal,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub enum Goal {
    AtMost(f64),
    AtLeast(f64),
}

impl Ratio {
    pub fn is_met(&self) -> bool {
        match self.goal {
            Goal::AtMost(most) => self.value <= most,
            Goal::AtLeast(least) => self.value >= least,
        }
    }
}

/// The machine, as far as it decides about figures.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Machine {
    pub kernel: String,
    pub cpu: String,
    pub cpus: usize,
    /// The load average of the last minute, before and behind the run.
    pub load: [f64; 2],
    /// The part of their time that the CPUs were taken away meanwhile.
    pub stolen: f64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    pub machine: Machine,
    pub figures: Vec<Figure>,
    pub ratios: Vec<Ratio>,
    /// What was not measured, and why.
    #[serde(default)]
    pub missing: Vec<String>,
    #[serde(skip)]
    began: Times,
}

impl Report {
    pub fn new() -> Result<Self> {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo")?;
        let cpu = cpuinfo.lines().find_map(|line| line.strip_prefix("model name"));
        let machine = Machine {
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().into(),
            cpu: cpu.unwrap_or("unknown").trim_start_matches([' ', '\t', ':']).into(),
            cpus: std::thread::available_parallelism()?.get(),
            load: [load()?, 0.0],
            stolen: 0.0,
        };
        Ok(Self {
            machine,
            figures: Vec::new(),
            ratios: Vec::new(),
            missing: Vec::new(),
            began: Times::now()?,
        })
    }

    /// A report that was written before.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path)
            .with_context(|| format!("cannot read the report {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("{} is no report", path.display()))
    }

    /// Adds one round's value to a figure, which begins with its first.
    pub fn note(&mut self, part: &str, name: &str, unit: &str, value: f64) {
        let known = self.figures.iter_mut().find(|one| one.part == part && one.name == name);
        match known {
            Some(figure) => figure.rounds.push(value),
            None => self.figures.push(Figure {
                part: part.into(),
                name: name.into(),
                unit: unit.into(),
                rounds: vec![value],
            }),
        }
    }

    pub fn median(&self, part: &str, name: &str) -> Option<f64> {
        let figure = self.figures.iter().find(|one| one.part == part && one.name == name)?;
        Some(figure.median())
    }

    pub fn compare(&mut self, what: &str, value: f64, goal: Goal) {
        self.ratios.push(Ratio { what: what.into(), value, goal });
    }

    /// Says that something is not measured.
    pub fn miss(&mut self, part: &str, what: &str, why: &str) {
        self.missing.push(format!("{part}: {what}: not measured: {why}"));
    }

    /// Behind the last round.
    pub fn finish(&mut self) -> Result<()> {
        self.machine.load[1] = load()?;
        // Parts that were measured side by side stand one behind the other.
        let mut parts: Vec<String> = Vec::new();
        for figure in &self.figures {
            if !parts.contains(&figure.part) {
                parts.push(figure.part.clone());
            }
        }
        self.figures.sort_by_key(|figure| parts.iter().position(|part| *part == figure.part));
        self.machine.stolen = Times::now()?.stolen_since(self.began);
        Ok(())
    }

    pub fn json(&self) -> Result<String> {
        Ok(serde_json::to_string_pretty(self)?)
    }

    /// For the terminal; beside the medians of an earlier report.
    pub fn table(&self, before: Option<&Self>) -> String {
        let mut text = self.machine.told();
        let mut table = Table::new();
        table.load_style(NOTHING);
        let mut head = vec!["", "", "median", "spread", "a second"];
        if before.is_some() {
            head.extend(["before", "change"]);
        }
        table.set_header(head);
        let mut part = "";
        for figure in &self.figures {
            let shown = if part == figure.part { "" } else { figure.part.as_str() };
            part = &figure.part;
            let mut row = vec![
                shown.to_owned(),
                figure.name.clone(),
                format!("{} {}", number(figure.median()), figure.unit),
                format!("{:.0} %", 100.0 * figure.spread()),
                figure.rate().map(rate).unwrap_or_default(),
            ];
            if let Some(was) = before.and_then(|it| it.median(&figure.part, &figure.name)) {
                row.push(number(was));
                row.push(format!("{:+.0} %", 100.0 * (figure.median() / was - 1.0)));
            }
            table.add_row(row);
        }
        writeln!(text, "{table}\n").expect("text");
        for line in self.missing.iter().cloned().chain(self.ratios.iter().map(Ratio::told)) {
            writeln!(text, "{line}").expect("text");
        }
        text
    }
}

impl Ratio {
    pub fn told(&self) -> String {
        let (word, goal) = match self.goal {
            Goal::AtMost(most) => ("at most", most),
            Goal::AtLeast(least) => ("at least", least),
        };
        let met = if self.is_met() { "met" } else { "NOT MET" };
        format!("{:8} {:.2} ({word} {goal}): {}", met, self.value, self.what)
    }
}

impl Machine {
    /// How far its figures are to be believed.
    pub fn told(&self) -> String {
        format!(
            "Linux {}, {} CPUs {}; load {:.1} before, {:.1} behind; {:.1} % of the CPU stolen\n\n",
            self.kernel,
            self.cpus,
            self.cpu,
            self.load[0],
            self.load[1],
            100.0 * self.stolen
        )
    }
}

/// Three digits that count.
pub fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// Millions and thousands as people read them.
pub fn rate(value: f64) -> String {
    match value {
        many if !many.is_finite() => String::new(),
        many if many >= 1e6 => format!("{} M", number(many / 1e6)),
        few => format!("{} k", number(few / 1e3)),
    }
}

fn load() -> Result<f64> {
    let text = fs::read_to_string("/proc/loadavg")?;
    let first = text.split(' ').next().context("/proc/loadavg is empty")?;
    Ok(first.parse()?)
}

/// Ticks of all CPUs since the machine started.
#[derive(Clone, Copy, Debug, Default)]
struct Times {
    all: u64,
    stolen: u64,
}

impl Times {
    fn now() -> Result<Self> {
        let text = fs::read_to_string("/proc/stat")?;
        let line = text.lines().next().context("/proc/stat is empty")?;
        let ticks: Vec<u64> = line.split_whitespace().skip(1).flat_map(str::parse).collect();
        // user, nice, system, idle, iowait, irq, softirq, steal; the rest is in user.
        Ok(Self {
            all: ticks.iter().take(8).sum(),
            stolen: ticks.get(7).copied().unwrap_or_default(),
        })
    }

    fn stolen_since(self, began: Self) -> f64 {
        let all = (self.all - began.all).max(1) as f64;
        (self.stolen - began.stolen) as f64 / all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(rounds: &[f64]) -> Figure {
        Figure { part: "p".into(), name: "n".into(), unit: "ns".into(), rounds: rounds.to_vec() }
    }

    #[test]
    fn the_median_does_not_care_for_one_bad_round() {
        assert_eq!(figure(&[10.0, 11.0, 900.0]).median(), 11.0);
        assert_eq!(figure(&[10.0, 11.0, 12.0, 900.0]).median(), 11.5);
        assert_eq!(figure(&[100.0, 110.0, 90.0]).spread(), 0.1);
        assert_eq!(figure(&[0.0, 0.0]).spread(), 0.0);
    }

    #[test]
    fn what_takes_nanoseconds_has_a_rate() {
        assert_eq!(figure(&[500.0]).rate().map(rate).as_deref(), Some("2.00 M"));
        assert_eq!(rate(45_600.0), "45.6 k");
        assert_eq!(rate(f64::INFINITY), "");
    }

    #[test]
    fn a_goal_is_met_or_not() {
        let ratio = |goal| Ratio { what: String::new(), value: 0.6, goal };
        assert!(ratio(Goal::AtMost(0.6)).is_met());
        assert!(!ratio(Goal::AtLeast(0.61)).is_met());
    }
}

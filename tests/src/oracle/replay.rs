//! Captures through both gateways, and what is printed of it.

use serde::Serialize;

use super::{Difference, Report, capture::Capture, difference::Subject, judgement::JudgementJson};

/// A frame of a capture, as a line of JSON.
#[derive(Debug, Serialize)]
struct FrameJson<'a> {
    file: &'a str,
    /// Counted from 1, as tools that show captures do.
    frame: usize,
    from: &'static str,
    kernel: JudgementJson,
    firewall: JudgementJson,
    agree: bool,
    /// The id in docs/differences.md when they differ on purpose.
    documented: Option<&'static str>,
}

#[derive(Debug, Serialize)]
struct SkippedJson<'a> {
    file: &'a str,
    frame: usize,
    skipped: &'a str,
}

#[derive(Debug, Serialize)]
struct FlowJson<'a> {
    file: &'a str,
    flow: String,
    kernel: String,
    firewall: String,
    documented: Option<&'static str>,
}

/// How often something happened in captures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub frames: usize,
    pub skipped: usize,
    /// Frames and flows that differ on purpose, and others.
    pub documented: usize,
    pub mistakes: usize,
}

impl Tally {
    pub const fn add(&mut self, other: Self) {
        self.frames += other.frames;
        self.skipped += other.skipped;
        self.documented += other.documented;
        self.mistakes += other.mistakes;
    }
}

/// The lines about a capture that was played: its frames in the file's order, and
/// the flows that differ.
pub fn lines(capture: &Capture, report: &Report) -> (Vec<String>, Tally) {
    let file = capture.path.display().to_string();
    let differences = report.differences();
    let mut lines: Vec<(usize, String)> = Vec::new();
    for (index, frame) in report.script.frames().enumerate() {
        let [kernel, firewall] = report.judgements[index];
        let about = |difference: &&Difference| matches!(difference.subject, Subject::Frame { index: it, .. } if it == index);
        let difference = differences.iter().find(about);
        let number = capture.numbers[index];
        let line = FrameJson {
            file: &file,
            frame: number,
            from: frame.sender(),
            kernel: kernel.into(),
            firewall: firewall.into(),
            agree: difference.is_none(),
            documented: difference.and_then(|it| it.documented(&report.script)),
        };
        lines.push((number, json(&line)));
    }
    for (frame, reason) in &capture.skipped {
        lines.push((*frame, json(&SkippedJson { file: &file, frame: *frame, skipped: reason })));
    }
    lines.sort_by_key(|(number, _)| *number);
    let mut lines: Vec<_> = lines.into_iter().map(|(_, line)| line).collect();
    lines.extend(differences.iter().filter_map(|difference| flow(&file, report, difference)));
    let mistakes = report.mistakes().len();
    let tally = Tally {
        frames: capture.numbers.len(),
        skipped: capture.skipped.len(),
        documented: differences.len() - mistakes,
        mistakes,
    };
    (lines, tally)
}

fn flow(file: &str, report: &Report, difference: &Difference) -> Option<String> {
    let Subject::Flow(pair) = &difference.subject else { return None };
    let id = pair.iter().flatten().next()?.id;
    let [kernel, firewall] = pair.each_ref().map(|flow| match flow {
        Some(flow) => format!("from {}: {flow}", flow.id.source),
        None => "no such flow".into(),
    });
    let documented = difference.documented(&report.script);
    Some(json(&FlowJson { file, flow: id.to_string(), kernel, firewall, documented }))
}

fn json(line: &impl Serialize) -> String {
    serde_json::to_string(line).expect("names and numbers")
}

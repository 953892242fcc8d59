//! A conversation about which the two disagree, cut down to what matters.

use anyhow::Result;

use super::{Difference, Report, Script, Step, bench::Bench, difference::Subject};

/// How many frames at most are tried without: a round for each.
const TRIALS: usize = 400;

/// The shortest script found that still shows a mistake: cut behind the first one,
/// then without every frame that is not needed for it.
///
/// # Errors
/// When a gateway fails.
pub fn shrink(bench: &mut Bench<'_>, report: Report) -> Result<Report> {
    let mut best = report;
    if let Some(shorter) = cut(&best) {
        best = first_mistake(bench, &[shorter])?.unwrap_or(best);
    }
    for _ in 0..TRIALS {
        let fewer = without_each(&best.script);
        match first_mistake(bench, &fewer)? {
            Some(shorter) => best = shorter,
            None => break,
        }
    }
    Ok(best)
}

/// The frames up to the first about which they disagree.
fn cut(report: &Report) -> Option<Script> {
    let first = report.mistakes().into_iter().find_map(|Difference { subject }| match subject {
        Subject::Frame { index, .. } => Some(index),
        Subject::Flow(_) => None,
    })?;
    let mut script = report.script.clone();
    let sends = |step: &Step| matches!(step, Step::Send(_));
    let last = script.steps.iter().enumerate().filter(|(_, step)| sends(step)).nth(first)?.0;
    script.steps.truncate(last + 1);
    Some(script)
}

/// The script without its first step, without its second, and so on.
fn without_each(script: &Script) -> Vec<Script> {
    (0..script.steps.len())
        .map(|left_out| {
            let mut fewer = script.clone();
            fewer.steps.remove(left_out);
            fewer
        })
        .collect()
}

fn first_mistake(bench: &mut Bench<'_>, scripts: &[Script]) -> Result<Option<Report>> {
    let reports = bench.play(scripts)?;
    Ok(reports.into_iter().find(|report| !report.mistakes().is_empty()))
}

//! Many random conversations, and the shortest ones about which the two disagree.

use anyhow::Result;

use super::{Report, Script, bench::Bench, generator, shrink::shrink};

/// Seeds whose conversations go through the gateways at once.
const AT_ONCE: u64 = 2_048;
/// Mistakes that are cut down and told in full.
const TOLD: usize = 3;

/// What came of a campaign.
#[derive(Debug, Default)]
pub struct Outcome {
    pub conversations: u64,
    pub frames: u64,
    /// The seeds whose conversations differ.
    pub seeds: Vec<u64>,
    /// The first of them, cut down.
    pub shrunk: Vec<Report>,
}

impl Outcome {
    pub const fn is_agreement(&self) -> bool {
        self.seeds.is_empty()
    }

    /// What to tell a person: each short conversation, and how to play it again.
    pub fn tell(&self) -> String {
        let told: String = self.shrunk.iter().map(|report| format!("{report}\n")).collect();
        let Self { conversations, seeds, .. } = self;
        let shown: Vec<_> = seeds.iter().take(20).map(ToString::to_string).collect();
        format!(
            "{told}{} of {conversations} conversations differ; seeds: {}; \
             one alone: FIREWALL_ORACLE_SEED=NUMBER",
            seeds.len(),
            shown.join(" ")
        )
    }
}

/// Plays conversations of consecutive seeds until so many frames have gone through,
/// or some conversations differ.
///
/// # Errors
/// When a gateway fails.
pub fn play_frames(bench: &mut Bench<'_>, first: u64, frames: u64) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let mut next = first;
    while outcome.frames < frames && outcome.is_agreement() {
        // Conversations have 50 frames on average; the last round is a smaller one.
        let rest = (frames - outcome.frames) / 50 + 1;
        let count = rest.min(AT_ONCE);
        play_seeds(bench, (0..count).map(|seed| next.wrapping_add(seed)), &mut outcome)?;
        next = next.wrapping_add(count);
    }
    Ok(outcome)
}

/// Plays the conversations of these seeds.
///
/// # Errors
/// When a gateway fails.
pub fn play_seeds(
    bench: &mut Bench<'_>,
    seeds: impl IntoIterator<Item = u64>,
    outcome: &mut Outcome,
) -> Result<()> {
    let seeds: Vec<_> = seeds.into_iter().collect();
    let scripts: Vec<Script> = seeds.iter().map(|seed| generator::conversation(*seed)).collect();
    let before = bench.frames();
    let reports = bench.play(&scripts)?;
    outcome.conversations += seeds.len() as u64;
    outcome.frames += bench.frames() - before;
    for (seed, report) in seeds.into_iter().zip(reports) {
        if report.mistakes().is_empty() {
            continue;
        }
        outcome.seeds.push(seed);
        if outcome.shrunk.len() < TOLD {
            outcome.shrunk.push(shrink(bench, report)?);
        }
    }
    Ok(())
}

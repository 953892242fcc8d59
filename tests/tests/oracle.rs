//! The firewall says of every frame what nf_conntrack says.
//!
//! `FIREWALL_ORACLE_FRAMES=1000000` makes the random part as long as wanted,
//! `FIREWALL_ORACLE_SEED=N` plays the conversation of one seed again.

use std::{env, time::Instant};

use anyhow::{Context as _, Result};
use firewall_tests::{
    capability, needs,
    oracle::{
        Report,
        bench::{Bench, Hook, Sites},
        campaign::{self, Outcome},
        scenarios,
    },
};

/// Frames of random conversations for each hook.
const FRAMES: u64 = 50_000;
/// Seeds that are always played.
const RECORDED: std::ops::Range<u64> = 0..300;

mod native_xdp {
    use super::*;

    #[test]
    fn judges_the_scenarios_as_the_kernel_does() {
        needs!(capability::firewall(), capability::oracle());
        agree_on_scenarios(Hook::Xdp).unwrap();
    }

    #[test]
    fn judges_random_conversations_as_the_kernel_does() {
        needs!(capability::firewall(), capability::oracle());
        agree_on_conversations(Hook::Xdp).unwrap();
    }
}

mod generic_xdp {
    use super::*;

    #[test]
    fn judges_the_scenarios_as_the_kernel_does() {
        needs!(capability::firewall(), capability::oracle());
        agree_on_scenarios(Hook::XdpGeneric).unwrap();
    }

    #[test]
    fn judges_random_conversations_as_the_kernel_does() {
        needs!(capability::firewall(), capability::oracle());
        agree_on_conversations(Hook::XdpGeneric).unwrap();
    }
}

mod tc {
    use super::*;

    #[test]
    fn judges_the_scenarios_as_the_kernel_does() {
        needs!(capability::firewall(), capability::oracle());
        agree_on_scenarios(Hook::Tc).unwrap();
    }

    #[test]
    fn judges_random_conversations_as_the_kernel_does() {
        needs!(capability::firewall(), capability::oracle());
        agree_on_conversations(Hook::Tc).unwrap();
    }
}

/// Whatever the kernel says twice it says alike: a difference would be the oracle's.
mod the_kernel {
    use super::*;

    #[test]
    fn agrees_with_itself() {
        needs!(capability::namespaces(), capability::oracle());
        agree_with_itself().unwrap();
    }

    fn agree_with_itself() -> Result<()> {
        let sites = Sites::new()?;
        let mut bench = Bench::of_kernels(&sites)?;
        agree_on_all_scenarios(&mut bench)?;
        agree_on_random(&mut bench, "kernels")
    }
}

fn agree_on_scenarios(hook: Hook) -> Result<()> {
    let sites = Sites::new()?;
    agree_on_all_scenarios(&mut Bench::start(&sites, hook)?)
}

fn agree_on_all_scenarios(bench: &mut Bench<'_>) -> Result<()> {
    let reports = bench.play(&scenarios::all())?;
    let wrong: Vec<_> = reports.iter().filter(|report| !report.mistakes().is_empty()).collect();
    let told: String = wrong.iter().copied().map(Report::to_string).collect();
    assert!(wrong.is_empty(), "{told}{} of {} scripts differ", wrong.len(), reports.len());
    Ok(())
}

fn agree_on_conversations(hook: Hook) -> Result<()> {
    let sites = Sites::new()?;
    agree_on_random(&mut Bench::start(&sites, hook)?, hook.name())
}

fn agree_on_random(bench: &mut Bench<'_>, name: &str) -> Result<()> {
    if let Some(seed) = number("FIREWALL_ORACLE_SEED")? {
        return agree_on_seed(bench, seed);
    }
    let mut recorded = Outcome::default();
    campaign::play_seeds(bench, RECORDED, &mut recorded)?;
    assert!(recorded.is_agreement(), "of the recorded seeds:\n{}", recorded.tell());

    let frames = number("FIREWALL_ORACLE_FRAMES")?.unwrap_or(FRAMES);
    let seed = fastrand::u64(..);
    let start = Instant::now();
    let outcome = campaign::play_frames(bench, seed, frames)?;
    let Outcome { conversations, frames, .. } = outcome;
    let took = start.elapsed();
    eprintln!(
        "{name}: {conversations} conversations from seed {seed}, {frames} frames in {took:?}"
    );
    assert!(outcome.is_agreement(), "{}", outcome.tell());
    Ok(())
}

fn agree_on_seed(bench: &mut Bench<'_>, seed: u64) -> Result<()> {
    let mut outcome = Outcome::default();
    campaign::play_seeds(bench, [seed], &mut outcome)?;
    assert!(outcome.is_agreement(), "{}", outcome.tell());
    Ok(())
}

/// A number from the environment.
fn number(variable: &str) -> Result<Option<u64>> {
    let Ok(text) = env::var(variable) else { return Ok(None) };
    let number = text.parse().with_context(|| format!("{variable}={text} is not a number"))?;
    Ok(Some(number))
}

//! Random packets under rules files, in iptables of this kernel and in the firewall.

use std::{io::Write as _, path::Path};

use anyhow::{Result, bail};
use firewall_tests::{
    capability,
    oracle::{
        bench::{
            Hook,
            stage::{Played, Stage, Theatre},
        },
        rulebook::{Expected, RulesFile, read_all},
    },
};
use serde_json::{Value, json};

/// Plays every file of a folder; whether both agreed about all. A file that one of them
/// does not load is told, and is no agreement; one that says at its head that it is not
/// accepted yet is passed over.
pub(crate) fn compare(folder: &Path, hook: Hook, packets: usize, seed: u64) -> Result<bool> {
    if let Err(reason) = capability::program("iptables-restore") {
        bail!("{reason}");
    }
    let files = read_all(folder)?;
    let theatre = Theatre::new()?;
    let mut stage = Stage::open(&theatre, hook)?;
    let (mut agreed, mut played, mut skipped) = (0, 0, 0);
    for file in &files {
        if file.expected != Expected::Accepted {
            skipped += 1;
            continue;
        }
        let outcome = stage.play(file, packets, seed);
        agreed += usize::from(outcome.as_ref().is_ok_and(|it| it.differences.is_empty()));
        played += 1;
        writeln!(std::io::stdout().lock(), "{}", told(file, outcome))?;
    }
    eprintln!("{agreed} of {played} files agree, {skipped} are not accepted yet");
    Ok(agreed == played)
}

/// The line about a file.
fn told(file: &RulesFile, outcome: Result<Played>) -> Value {
    match outcome {
        Ok(Played { packets, differences, met, rules, .. }) => json!({
            "file": file.path,
            "packets": packets,
            "rules": rules,
            "met": met,
            "differences": differences,
        }),
        Err(error) => json!({ "file": file.path, "error": format!("{error:#}") }),
    }
}

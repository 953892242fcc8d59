//! Rules files in the styles of the field: each loads, is saved, and loads again as the
//! same; what is refused is refused at its line; and what is accepted judges packets as
//! iptables of this kernel does.
//!
//! `FIREWALL_CORPUS_PACKETS=10000` plays so many packets with each file,
//! `FIREWALL_CORPUS_SEED=N` others, `FIREWALL_CORPUS_FILE=ufw/web` only these files,
//! `FIREWALL_CORPUS_HOOK=tc` by another hook.

use std::{env, path::Path};

use anyhow::{Context as _, Result, bail, ensure};
use firewall_tests::{
    Netns, capability,
    command::finish,
    firewall::binary,
    needs,
    oracle::{
        bench::{
            Hook,
            stage::{Stage, Theatre},
        },
        rulebook::{Expected, RulesFile, read_all},
    },
};

fn files() -> Result<Vec<RulesFile>> {
    let all = read_all(&Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/rules"))?;
    let wanted = env::var("FIREWALL_CORPUS_FILE").unwrap_or_default();
    Ok(all.into_iter().filter(|file| file.name.contains(&wanted)).collect())
}

fn number<T: std::str::FromStr>(name: &str, default: T) -> T {
    env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[test]
fn accepted_files_judge_as_iptables_does() {
    needs!(capability::firewall(), capability::oracle(), capability::program("iptables-restore"));
    compare().unwrap();
}

fn compare() -> Result<()> {
    let packets = number("FIREWALL_CORPUS_PACKETS", 100);
    let seed = number("FIREWALL_CORPUS_SEED", 1);
    let theatre = Theatre::new()?;
    let mut stage = Stage::open(&theatre, Hook::Xdp)?;
    let mut bad = 0;
    for file in files()?.iter().filter(|file| file.expected == Expected::Accepted) {
        let start = std::time::Instant::now();
        match stage.play(file, packets, seed) {
            Ok(played) => {
                eprintln!("{}: {} packets, {}/{} rules, {:?}", file.name, played.packets, played.met, played.rules, start.elapsed());
                for difference in &played.differences {
                    eprintln!("    {difference}");
                }
                bad += usize::from(!played.differences.is_empty());
            }
            Err(error) => { eprintln!("{}: ERROR {error:#}", file.name); bad += 1; }
        }
    }
    ensure!(bad == 0, "{bad} files differ");
    Ok(())
}

//! Rules files in the styles of the field: each loads, is saved, and loads again as the
//! same; what is refused is refused at its line; and what is accepted judges packets as
//! iptables of this kernel does.
//!
//! `FIREWALL_CORPUS_PACKETS=10000` plays so many packets with each file,
//! `FIREWALL_CORPUS_SEED=N` others, `FIREWALL_CORPUS_FILE=ufw/web` only the files whose
//! names hold that, `FIREWALL_CORPUS_HOOK=tc` by another hook.

use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use firewall_tests::{
    Family, Netns, capability,
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

/// Packets with each file.
const PACKETS: usize = 100;

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/rules")
}

/// The files in the folders of the styles; those beside them belong to other tests.
fn corpus() -> Result<Vec<RulesFile>> {
    let mut files = read_all(&directory())?;
    files.retain(|file| file.path.parent() != Some(&directory()));
    Ok(files)
}

/// The files that are wanted, and what is expected of them.
fn files(is_expected: impl Fn(&Expected) -> bool) -> Result<Vec<RulesFile>> {
    let wanted = env::var("FIREWALL_CORPUS_FILE").unwrap_or_default();
    let mut files = corpus()?;
    files.retain(|file| file.name.contains(&wanted) && is_expected(&file.expected));
    Ok(files)
}

fn number<T: std::str::FromStr>(name: &str, default: T) -> Result<T> {
    let Ok(text) = env::var(name) else { return Ok(default) };
    text.parse().ok().with_context(|| format!("{name}={text} is no number"))
}

fn hook() -> Result<Hook> {
    let Ok(wanted) = env::var("FIREWALL_CORPUS_HOOK") else { return Ok(Hook::Xdp) };
    let found = Hook::ALL.into_iter().find(|hook| hook.name() == wanted);
    found.with_context(|| format!("FIREWALL_CORPUS_HOOK={wanted} is no hook"))
}

/// All that went wrong, at once.
fn none(wrong: &[String]) -> Result<()> {
    ensure!(wrong.is_empty(), "{} findings:\n{}", wrong.len(), wrong.join("\n"));
    Ok(())
}

#[test]
fn the_corpus_holds_a_hundred_files_of_seven_styles_in_both_families() {
    let files = corpus().unwrap();
    let of_the_field: Vec<_> =
        files.iter().filter(|file| !matches!(file.expected, Expected::Refused(_))).collect();
    assert!(of_the_field.len() >= 100, "{} files", of_the_field.len());
    for style in ["ufw", "server", "docker", "openwrt", "fail2ban", "shorewall", "gateway"] {
        for family in [Family::V4, Family::V6] {
            let is_there = of_the_field
                .iter()
                .any(|file| file.name.starts_with(style) && file.family == family);
            assert!(is_there, "no {style} of {family:?}");
        }
    }
}

#[test]
fn what_files_wait_for_is_told_by_the_page_about_rules() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/rules.md");
    let page = fs::read_to_string(page).unwrap();
    let (_, refused) = page.split_once("## What is refused").expect("its last part");
    for file in corpus().unwrap() {
        let Expected::Waiting(places) = &file.expected else { continue };
        for (_, word) in places {
            assert!(refused.contains(word), "{}: docs/rules.md does not name {word}", file.name);
        }
    }
}

#[test]
fn accepted_files_come_back_as_they_were_and_judge_as_iptables_does() {
    needs!(capability::firewall(), capability::oracle(), capability::program("iptables-restore"));
    accepted().unwrap();
}

fn accepted() -> Result<()> {
    let packets = number("FIREWALL_CORPUS_PACKETS", PACKETS)?;
    let seed = number("FIREWALL_CORPUS_SEED", 1)?;
    let theatre = Theatre::new()?;
    let mut stage = Stage::open(&theatre, hook()?)?;
    let (mut wrong, mut met, mut rules) = (Vec::new(), 0, 0);
    for file in files(|expected| *expected == Expected::Accepted)? {
        let played = stage.play(&file, packets, seed).with_context(|| file.name.clone())?;
        let differences = played.differences.iter();
        wrong.extend(differences.map(|it| format!("{}, seed {seed}: {it}", file.name)));
        met += played.met;
        rules += played.rules;
        println!("{}: {} of {} rules met", file.name, played.met, played.rules);
    }
    none(&wrong)?;
    println!("{met} of {rules} rules met");
    ensure!(met * 2 > rules, "the packets meet {met} of {rules} rules: too few");
    Ok(())
}

#[test]
fn waiting_files_are_refused_at_the_lines_that_they_name_and_iptables_accepts_them() {
    needs!(capability::firewall(), capability::program("iptables-restore"));
    needs!(capability::program("ipset"));
    waiting().unwrap();
}

fn waiting() -> Result<()> {
    let netns = Netns::new("rules")?;
    let mut wrong = Vec::new();
    for file in files(|expected| matches!(expected, Expected::Waiting(_)))? {
        let Expected::Waiting(places) = &file.expected else { continue };
        wrong.extend(refusal(&file, places)?);
        if let Err(error) = load(&netns, &file) {
            wrong.push(format!("{}: iptables does not load it: {error:#}", file.name));
        }
    }
    none(&wrong)
}

#[test]
fn files_that_iptables_refuses_are_refused() {
    needs!(capability::firewall(), capability::program("iptables-restore"));
    refused().unwrap();
}

fn refused() -> Result<()> {
    let netns = Netns::new("rules")?;
    let mut wrong = Vec::new();
    for file in files(|expected| matches!(expected, Expected::Refused(_)))? {
        let Expected::Refused(places) = &file.expected else { continue };
        wrong.extend(refusal(&file, places)?);
        if load(&netns, &file).is_ok() {
            wrong.push(format!("{}: iptables loads it", file.name));
        }
    }
    none(&wrong)
}

/// Loads a file into the kernel's tables of a namespace.
fn load(netns: &Netns, file: &RulesFile) -> Result<()> {
    netns.run("nft flush ruleset")?;
    for line in &file.sets {
        netns.run(&format!("ipset -exist {line}"))?;
    }
    let restore = match file.family {
        Family::V4 => "iptables-restore",
        Family::V6 => "ip6tables-restore",
    };
    netns.run(&format!("{restore} {}", file.path.display())).map(drop)
}

/// What is wrong about the refusal of a file that is to be refused at these lines with
/// these words, and at no others.
fn refusal(file: &RulesFile, places: &[(usize, String)]) -> Result<Vec<String>> {
    let mut command = Command::new(binary()?);
    command.arg("check").arg(&file.path);
    let checked = finish(&mut command, Duration::from_secs(30))?;
    if checked.code() == 0 {
        return Ok(vec![format!(
            "{} loads now: take its `# waits for` lines out, so that it is compared with iptables",
            file.name
        )]);
    }
    let said = messages(&checked.stderr);
    let lines =
        |all: &[(usize, String)]| all.iter().map(|(line, _)| *line).collect::<BTreeSet<_>>();
    let mut wrong = Vec::new();
    if lines(&said) != lines(places) {
        wrong.push(format!("{}: refused at {:?}", file.name, lines(&said)));
    }
    let is_missing =
        |(_, words): &&(usize, String)| !said.iter().any(|(_, message)| message.contains(words));
    let missing: BTreeSet<_> = places.iter().filter(is_missing).map(|(_, words)| words).collect();
    wrong.extend(missing.iter().map(|words| format!("{}: nothing tells of {words}", file.name)));
    Ok(wrong)
}

/// `FILE:LINE:COLUMN: MESSAGE`, of the lines that have this form.
fn messages(stderr: &str) -> Vec<(usize, String)> {
    let message = |line: &str| {
        let (_, rest) = line.split_once(".v4:").or_else(|| line.split_once(".v6:"))?;
        let mut parts = rest.splitn(3, ':');
        let (number, _, message) = (parts.next()?, parts.next()?, parts.next()?);
        Some((number.parse().ok()?, message.to_owned()))
    };
    stderr.lines().filter_map(message).collect()
}

//! `firewall check` warns of rules that are likely to be wrong, and still succeeds unless
//! it is asked to be strict. Nothing here needs privileges.

use std::{fs, process::Command};

use anyhow::{Result, ensure};
use firewall_tests::{
    command::{Finished, finish},
    firewall::binary,
};
use serde_json::Value;

const RULES: &str = "\
*filter
:INPUT DROP [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
-A INPUT -p tcp --dport 80 -j ACCEPT
-A FORWARD -j LOG
-A FORWARD -m state --state ESTABLISHED,RELATED -j ACCEPT
-A FORWARD -p tcp --dport 21 -j ACCEPT
-A FORWARD -p tcp --sport 20 -j ACCEPT
-A FORWARD -j DROP
-A FORWARD -p udp -j ACCEPT
COMMIT
";

const FINDINGS: [(Option<u64>, &str); 5] = [
    (None, "locks-out"),
    (Some(7), "related-wide"),
    (Some(7), "established-late"),
    (Some(9), "sport-20"),
    (Some(11), "shadowed"),
];

/// As somebody runs it who is logged in over ssh.
fn check(rules: &str, options: &[&str]) -> Result<Finished> {
    let directory = tempfile::Builder::new().prefix("fw-lint-").tempdir()?;
    let file = directory.path().join("rules.v4");
    fs::write(&file, rules)?;
    let mut command = Command::new(binary()?);
    command.env("SSH_CONNECTION", "192.0.2.7 50000 198.51.100.1 22");
    command.arg("check").arg(file).args(options);
    finish(&mut command, std::time::Duration::from_secs(30))
}

#[test]
fn files_of_both_families_are_checked_together() {
    let directory = tempfile::Builder::new().prefix("fw-lint-").tempdir().unwrap();
    let [v4, v6] = ["rules.v4", "rules.v6"].map(|name| directory.path().join(name));
    fs::write(&v4, RULES).unwrap();
    fs::write(&v6, "*filter\n-A INPUT -m ipv6header --header hop --soft -j DROP\nCOMMIT\n")
        .unwrap();
    let run = |arguments: &[&std::ffi::OsStr]| {
        let mut command = Command::new(binary().unwrap());
        command.arg("check").args(arguments);
        finish(&mut command, std::time::Duration::from_secs(30)).unwrap()
    };
    let both = run(&["--rules".as_ref(), v4.as_ref(), "--rules6".as_ref(), v6.as_ref()]);
    let summary = |file: &std::path::Path, said: &str| format!("{}: {said}", file.display());
    assert_eq!(both.code(), 0, "{}", both.stderr);
    assert!(
        both.stdout.contains(&summary(&v4, "7 rules, no errors, 4 warnings")),
        "{}",
        both.stdout
    );
    assert!(both.stdout.contains(&summary(&v6, "1 rule, no errors")), "{}", both.stdout);
    // Those of IPv6 are told of, too, though those of IPv4 fail.
    let strict = run(&[
        "--strict".as_ref(),
        "--rules".as_ref(),
        v4.as_ref(),
        "--rules6".as_ref(),
        v6.as_ref(),
    ]);
    assert_eq!(strict.code(), 1);
    assert!(strict.stdout.contains(&summary(&v6, "1 rule,")), "{}", strict.stdout);
    // The name of a file says of which family it is; without one nothing is checked.
    assert_eq!(run(&[v6.as_ref()]).code(), 0);
    assert_eq!(run(&["--rules".as_ref(), v6.as_ref()]).code(), 1);
    assert_ne!(run(&[]).code(), 0);
}

#[test]
fn each_finding_has_a_name_a_line_and_advice() {
    findings().unwrap();
}

fn findings() -> Result<()> {
    let json = check(RULES, &["-o", "json"])?;
    ensure!(json.code() == 0, "{}", json.stderr);
    let lines: Vec<Value> =
        json.stdout.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let (summary, findings) = lines.split_last().expect("lines");
    ensure!(summary["rules"] == 7 && summary["warnings"] == 5, "{summary:#}");
    let found: Vec<_> = findings
        .iter()
        .map(|line| (line["line"].as_u64(), line["warning"].as_str().unwrap_or_default()))
        .collect();
    ensure!(found == FINDINGS, "{found:?}");
    ensure!(findings.iter().all(|line| line["advice"].as_str().is_some_and(|it| it.len() > 10)));
    let text = check(RULES, &[])?.stdout;
    ensure!(text.contains("rules.v4:11: warning: FORWARD 6 can never match: FORWARD 5"), "{text}");
    ensure!(text.contains("drops ssh from 192.0.2.7 to port 22: your connection is cut"), "{text}");
    ensure!(text.ends_with("rules.v4: 7 rules, no errors, 5 warnings\n"), "{text}");
    Ok(())
}

#[test]
fn strict_makes_a_warning_a_failure_and_nothing_else() {
    strict().unwrap();
}

fn strict() -> Result<()> {
    let refused = check(RULES, &["--strict"])?;
    ensure!(refused.code() == 1 && refused.stderr.contains("5 warnings (--strict)"), "{refused:?}");
    let good = check("-A FORWARD -p tcp --dport 80 -j ACCEPT\n", &["--strict"])?;
    ensure!(good.code() == 0 && good.stdout.ends_with("1 rule, no errors\n"), "{good:?}");
    Ok(())
}

#[test]
fn verbose_says_of_each_chain_what_is_remembered_and_what_prevents_it() {
    verbose().unwrap();
}

fn verbose() -> Result<()> {
    let text = check(RULES, &["--verbose"])?.stdout;
    let told: Vec<_> =
        text.lines().take(4).map(|line| &line[line.find("rules.v4").unwrap_or(0)..]).collect();
    let remembers = "established connections remember that they are accepted";
    ensure!(
        told == [
            format!("rules.v4: INPUT: {remembers}"),
            format!(
                "rules.v4: FORWARD: {remembers}, but for packets that fit the other conditions \
                 of 1 rule:"
            ),
            "rules.v4:6: FORWARD 1 reports each packet".into(),
            "  -A FORWARD -j LOG".into(),
        ],
        "{text}"
    );
    let json = check(RULES, &["-v", "-o", "json"])?.stdout;
    let lines: Vec<Value> =
        json.lines().take(3).map(serde_json::from_str).collect::<Result<_, _>>()?;
    let chains: Vec<_> = lines.iter().map(|line| line["chain"].as_str().unwrap_or("?")).collect();
    ensure!(chains == ["INPUT", "FORWARD", "OUTPUT"], "{json}");
    ensure!(lines[1]["not_remembered"][0]["line"] == 6, "{json}");
    ensure!(lines[2]["not_remembered"].as_array().is_some_and(Vec::is_empty), "{json}");
    Ok(())
}

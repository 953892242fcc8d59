//! How much the verifier looks at, and how long the programs are, beside what was recorded: a
//! rise shows before a start becomes slow, or impossible.
//!
//! `FIREWALL_RECORD=1 cargo test -p firewall-tests --test records` writes the record anew.

use std::{collections::BTreeMap, env, fmt::Write as _, fs, path::PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use aya::programs::ProgramInfo;
use firewall_tests::{Gateway, Offload, capability, firewall::Setup, needs};
use firewall_user::kernel::pins::Pins;

const PROGRAMS: [&str; 3] = ["firewall_egress", "firewall_ingress", "firewall_xdp"];
/// Per cent by which a number may rise before somebody must have looked at it.
const MAY_RISE: u64 = 5;

/// Numbers by what they are of: `PROGRAM verified`, `PROGRAM bytes`.
type Record = BTreeMap<String, u64>;

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("records/programs.txt")
}

#[test]
fn the_programs_have_not_grown_beyond_their_record() {
    needs!(capability::firewall());
    compare().unwrap();
}

fn compare() -> Result<()> {
    let now = measured()?;
    if env::var_os("FIREWALL_RECORD").is_some() {
        return fs::write(path(), written(&now)).context("cannot write the record");
    }
    let text = fs::read_to_string(path());
    let text = text.with_context(|| format!("cannot read {}", path().display()))?;
    let before = read(&text)?;
    let risen = risen(&before, &now);
    ensure!(
        risen.is_empty(),
        "more than {MAY_RISE} % above {}:\n{risen}If that is worth it, write the record anew: \
         FIREWALL_RECORD=1 cargo test -p firewall-tests --test records",
        path().display()
    );
    Ok(())
}

/// What the kernel says of the programs of a running instance.
fn measured() -> Result<Record> {
    let network = Gateway::new(Offload::Tuned)?;
    let firewall = Setup::on(&["eth0", "eth1"]).start(network.gateway())?;
    let pins = Pins::new(firewall.pin());
    let mut record = Record::new();
    for name in PROGRAMS {
        let info = ProgramInfo::from_pin(pins.program(name))?;
        let verified = info.verified_instruction_count();
        let verified = verified.context("the kernel does not tell what it has verified")?;
        let bytes = info.size_translated().context("the kernel does not tell the length")?;
        record.insert(format!("{name} verified"), verified.into());
        record.insert(format!("{name} bytes"), bytes.into());
    }
    Ok(record)
}

fn written(record: &Record) -> String {
    let mut text = String::from(
        "# Instructions that the verifier looks at, and bytes of the translated programs.\n\
         # Written by FIREWALL_RECORD=1 cargo test -p firewall-tests --test records\n",
    );
    for (what, number) in record {
        writeln!(text, "{what} {number}").expect("text");
    }
    text
}

fn read(text: &str) -> Result<Record> {
    let lines = text.lines().enumerate();
    let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|(at, line)| match line.rsplit_once(' ').map(|(what, n)| (what, n.parse())) {
            Some((what, Ok(number))) => Ok((what.to_owned(), number)),
            _ => bail!("line {}: wanted PROGRAM WHAT NUMBER, found {line:?}", at + 1),
        })
        .collect()
}

/// What lies too far above the record, or is missing in it; one a line.
fn risen(before: &Record, now: &Record) -> String {
    let mut text = String::new();
    for (what, number) in now {
        match before.get(what) {
            Some(was) if *number * 100 <= *was * (100 + MAY_RISE) => {}
            Some(was) => writeln!(text, "{what}: {number}, was {was}").expect("text"),
            None => writeln!(text, "{what}: {number}, not recorded").expect("text"),
        }
    }
    text
}

#[test]
fn a_rise_is_told_and_a_record_survives_the_file() {
    let of = |number| Record::from([("firewall_xdp verified".to_owned(), number)]);
    assert_eq!(risen(&of(100), &of(105)), "");
    assert_eq!(risen(&of(100), &of(106)), "firewall_xdp verified: 106, was 100\n");
    assert!(risen(&Record::new(), &of(1)).contains("not recorded"));
    assert_eq!(read(&written(&of(7))).unwrap(), of(7));
    assert!(read("firewall_xdp verified many").is_err());
}

//! What a flood of SYNs leaves of honest connections, beside nf_conntrack: both with the table
//! that they have by default.

use anyhow::Result;
use firewall_tests::{
    capability,
    firewall::Setup,
    flood::{Course, ESTABLISHED, NEWCOMERS, Plan, Siege, Site},
};

use crate::{
    report::{Goal, Report},
    site::feed,
};

const PART: &str = "SYN flood";
const KERNEL: &str = "nftables, nf_conntrack";
const OURS: &str = "firewall";
/// More SYNs than the tables hold; a newcomer is answered when a part of them has come since.
const PLAN: Plan =
    Plan { established: 1_000, syns: 600_000, newcomers: 500, distance: 100_000, copies: 1 };
const ACCEPTING: &str = "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n\
                         :OUTPUT ACCEPT [0:0]\nCOMMIT\n";
const TRACKING: &str = "table ip bench { chain forward { type filter hook forward priority 0; \
                        ct state established accept; }; }\n";

/// Measures both once: what counts is who is left, and hardly the time.
pub fn measure(report: &mut Report) -> Result<()> {
    let site = Site::new()?;
    let setup = Setup::on(&["eth0", "eth1"]).rules(ACCEPTING).option("--ftp-ports=none");
    let firewall = setup.start(site.gateway())?;
    let course = besiege(&site)?;
    let left = assured(&firewall.text(&["conntrack", "list"])?);
    note(report, OURS, &course, left);
    drop(firewall);
    match capability::oracle() {
        Err(missing) => report.miss(PART, KERNEL, &missing),
        Ok(()) => {
            let site = Site::new()?;
            feed(site.gateway(), "nft", &["-f"], TRACKING)?;
            let course = besiege(&site)?;
            let left = assured(&site.gateway().run("conntrack -L")?);
            note(report, KERNEL, &course, left);
        }
    }
    for (what, least) in [("newcomers that connect", 99.0), ("established that stay", 100.0)] {
        if let Some(ours) = report.median(PART, &format!("{what}: {OURS}")) {
            report.compare(&format!("SYN flood: per cent of {what}"), ours, Goal::AtLeast(least));
        }
    }
    Ok(())
}

fn besiege(site: &Site) -> Result<Course> {
    let mut siege = Siege::new(&site.wires, PLAN);
    siege.establish()?;
    siege.run()
}

/// Connections of each network that a list calls assured.
fn assured(list: &str) -> [usize; 2] {
    [ESTABLISHED, NEWCOMERS].map(|network| {
        let client = format!(" src=10.{network}.");
        let is_one = |line: &&str| line.contains(&client) && line.contains("[ASSURED]");
        list.lines().filter(is_one).count()
    })
}

fn note(report: &mut Report, who: &str, course: &Course, left: [usize; 2]) {
    let part = |left: usize, all: u64| 100.0 * left as f64 / all as f64;
    let figures = [
        ("established that stay", "%", part(left[0], PLAN.established.into())),
        ("newcomers that connect", "%", part(left[1], course.newcomers)),
        ("a SYN of the flood, sender and all", "ns", 1e9 / course.rate()),
    ];
    for (what, unit, value) in figures {
        report.note(PART, &format!("{what}: {who}"), unit, value);
    }
}

//! A flood of SYNs through the gateway: what is established stays, who is honest gets
//! through, and a table that is full of living flows loses none of them.
//!
//! `FIREWALL_FULL=1` sends five million SYNs. How nf_conntrack fares, and how many
//! newcomers survive in a table of which size, are measurements:
//! `cargo test -p firewall-tests --test flood -- --ignored --nocapture --test-threads 1`.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result, ensure};
use firewall_tests::{
    Firewall, capability,
    firewall::Setup,
    flood::{Burst, Caller, ConntrackMax, Course, ESTABLISHED, NEWCOMERS, Plan, Siege, Site},
    ledger::Ledger,
    needs, wait,
};
use nix::unistd::Pid;

const STATES: [&str; 5] = ["NEW", "ESTABLISHED", "RELATED", "INVALID", "UNTRACKED"];
/// Of the table of confirmed flows, and of nf_conntrack's.
const MAX_FLOWS: u32 = 65_536;
/// KiB that the daemon may need more after a flood.
const GROWTH: u64 = 8 << 10;

/// Rules that count every state of both directions of the honest networks.
fn ruleset() -> String {
    let rules = [ESTABLISHED, NEWCOMERS].into_iter().flat_map(|network| {
        ["-s", "-d"]
            .into_iter()
            .flat_map(move |side| STATES.map(move |state| rule(side, network, state) + "\n"))
    });
    let rules: String = rules.collect();
    format!(
        "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n{rules}COMMIT\n"
    )
}

/// From (`-s`) or to (`-d`) the clients of a network.
fn rule(side: &str, network: u8, state: &str) -> String {
    format!("-A FORWARD {side} 10.{network}.0.0/16 -m conntrack --ctstate {state}")
}

fn setup() -> Setup {
    Setup::on(&["eth0", "eth1"]).rules(&ruleset()).option("--ftp-ports=none")
}

/// What the rules counted of a network: clients' packets by state, then servers'.
fn judged(ledger: &Ledger, network: u8) -> [[u64; 5]; 2] {
    ["-s", "-d"].map(|side| {
        STATES.map(|state| ledger.rules.get(&rule(side, network, state)).copied().unwrap_or(0))
    })
}

/// Connections of a network that are listed as ASSURED.
fn assured(firewall: &Firewall<'_>, network: u8) -> Result<u64> {
    let clients = format!("10.{network}.0.0/16");
    let list = firewall.text(&["conntrack", "list", "-s", &clients, "-u", "ASSURED"])?;
    Ok(list.lines().count() as u64)
}

/// Memory of a process, in KiB.
fn resident(pid: Pid) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next()).context("no VmRSS")?;
    Ok(number.parse()?)
}

/// What a siege left behind.
struct Outcome {
    course: Course,
    moved: Ledger,
    /// Connections that were there before, and newcomers, that are ASSURED.
    assured: [u64; 2],
    /// Of the daemon, in KiB, before and after.
    resident: [u64; 2],
}

impl Outcome {
    fn of(setup: Setup, plan: Plan) -> Result<Self> {
        let site = Site::new()?;
        let mut firewall = setup.start(site.gateway())?;
        let mut siege = Siege::new(&site.wires, plan);
        siege.establish()?;
        ensure!(assured(&firewall, ESTABLISHED)? == u64::from(plan.established), "not assured");
        let daemon = firewall.daemon().context("the daemon")?.pid();
        let (before, memory) = (Ledger::read(&firewall)?, resident(daemon)?);
        let course = siege.run()?;
        let moved = Ledger::read(&firewall)?.since(&before);
        let assured = [assured(&firewall, ESTABLISHED)?, assured(&firewall, NEWCOMERS)?];
        let outcome = Self { course, moved, assured, resident: [memory, resident(daemon)?] };
        outcome.print(plan);
        Ok(outcome)
    }

    fn print(&self, plan: Plan) {
        let Course { syns, exchanges, newcomers, refused, took } = self.course;
        let [before, after] = self.resident;
        eprintln!(
            "{syns} SYNs in {took:.2?}, {:.0} a second, the link full {refused} times; {} of {} \
             established are assured, {exchanges} exchanges; {} of {newcomers} newcomers \
             completed after {} SYNs; daemon {before} KiB, then {after} KiB",
            self.course.rate(),
            self.assured[0],
            plan.established,
            self.assured[1],
            plan.distance,
        );
    }

    /// Every packet was judged and went on; those of established connections were
    /// ESTABLISHED, and all are still there.
    fn is_unharmed(&self, plan: Plan) -> Result<()> {
        let Course { syns, exchanges, newcomers, .. } = self.course;
        ensure!(self.moved.drops() == 0, "dropped: {:?}", self.moved.dropped);
        let sent = syns + 2 * exchanges + 3 * newcomers;
        ensure!(self.moved.accepted.get("accept-forward") == Some(&sent), "{:?}", self.moved);
        let expected = [[0, exchanges, 0, 0, 0]; 2];
        let judged = judged(&self.moved, ESTABLISHED);
        ensure!(judged == expected, "{judged:?} instead of {expected:?}");
        ensure!(self.assured[0] == u64::from(plan.established), "{} are left", self.assured[0]);
        let [before, after] = self.resident;
        ensure!(after < before + GROWTH, "{before} KiB before, {after} KiB after");
        Ok(())
    }
}

mod a_flood {
    use super::*;

    #[test]
    fn evicts_no_established_flow_and_harms_none_of_its_packets() {
        needs!(capability::firewall());
        let syns = if capability::full() { 5_000_000 } else { 300_000 };
        let plan = Plan { established: 1_000, syns, newcomers: 0, distance: 0, copies: 1 };
        let setup = setup().option(&format!("--max-flows={MAX_FLOWS}"));
        let outcome = Outcome::of(setup, plan).unwrap();
        outcome.is_unharmed(plan).unwrap();
    }

    #[test]
    fn lets_ninety_nine_of_a_hundred_newcomers_connect() {
        needs!(capability::firewall());
        let setup = setup().option(&format!("--max-flows={MAX_FLOWS}"));
        // Without --full an eighth of it: of the default table, and of the distance.
        let (setup, plan) = if capability::full() {
            (setup, NEWCOMERS_IN_A_FLOOD)
        } else {
            (setup.option("--max-embryonic=32768"), eighth(NEWCOMERS_IN_A_FLOOD))
        };
        let outcome = Outcome::of(setup, plan).unwrap();
        outcome.is_unharmed(plan).unwrap();
        most_have_connected(&outcome).unwrap();
    }

    fn eighth(plan: Plan) -> Plan {
        Plan { syns: 200_000, distance: plan.distance / 8, ..plan }
    }

    /// A SYN is NEW; the SYN-ACK and the ACK of who completes are ESTABLISHED, and make
    /// the flow ASSURED.
    fn most_have_connected(outcome: &Outcome) -> Result<()> {
        let (all, completed) = (outcome.course.newcomers, outcome.assured[1]);
        let [there, back] = judged(&outcome.moved, NEWCOMERS);
        let lost = all - completed;
        // Who lost his place: the SYN-ACK belongs to nothing, the ACK is picked up.
        ensure!(there == [all + lost, completed, 0, 0, 0], "{there:?}, {completed} completed");
        ensure!(back == [0, completed, 0, lost, 0], "{back:?}, {completed} completed");
        ensure!(completed * 100 >= all * 99, "{completed} of {all} newcomers completed");
        Ok(())
    }
}

const NEWCOMERS_IN_A_FLOOD: Plan =
    Plan { established: 1_000, syns: 5_000_000, newcomers: 1_250, distance: 100_000, copies: 1 };

mod a_table_full_of_living_flows {
    use super::*;

    const SIZE: u16 = 64;
    const MORE: u16 = 32;
    /// A table has room again after a while without being full.
    const CALM: Duration = Duration::from_secs(40);

    #[test]
    fn keeps_them_serves_more_and_has_room_when_they_end() {
        needs!(capability::firewall());
        full().unwrap();
    }

    fn full() -> Result<()> {
        let site = Site::new()?;
        let setup = setup().option(&format!("--max-flows={SIZE}"));
        let mut firewall = setup.start(site.gateway())?;
        firewall.text(&["conntrack", "set", "tcp_timeout_close", "1"])?;
        let mut client = Burst::new(&site.wires.client);
        let mut server = Burst::new(&site.wires.server);
        let mut talk = |caller: &mut Caller| -> Result<()> {
            let [question, answer] = caller.exchange();
            client.send(&[site.wires.client.frame(&question)])?;
            server.send(&[site.wires.server.frame(&answer)])
        };
        let connect = |caller: &Caller| -> Result<()> {
            site.wires.client.send(&caller.syn())?;
            site.wires.server.send(&caller.syn_ack())?;
            site.wires.client.send(&caller.ack())
        };

        let before = Ledger::read(&firewall)?;
        let mut first: Vec<_> = (0..SIZE).map(|it| Caller::new(ESTABLISHED, it)).collect();
        let mut more: Vec<_> = (0..MORE).map(|it| Caller::new(NEWCOMERS, it)).collect();
        first.iter().chain(&more).try_for_each(connect)?;
        first.iter_mut().chain(&mut more).try_for_each(&mut talk)?;
        let moved = Ledger::read(&firewall)?.since(&before);
        ensure!(moved.drops() == 0, "{:?}", moved.dropped);
        for (network, flows) in [(ESTABLISHED, SIZE), (NEWCOMERS, MORE)] {
            let flows = u64::from(flows);
            let expected = [[flows, 2 * flows, 0, 0, 0], [0, 2 * flows, 0, 0, 0]];
            ensure!(judged(&moved, network) == expected, "{:?}", judged(&moved, network));
        }
        ensure!(assured(&firewall, ESTABLISHED)? == u64::from(SIZE), "a living flow went");
        ensure!(assured(&firewall, NEWCOMERS)? == 0, "more than the table holds");
        is_reported(&mut firewall)?;

        // Half of the first ones end; the others take their places with their next packet.
        let (ended, kept) = first.split_at_mut(usize::from(MORE));
        ended.iter().try_for_each(|caller| site.wires.client.send(&caller.reset()))?;
        wait::until_true("the ended flows to go", || {
            assured(&firewall, ESTABLISHED).is_ok_and(|flows| flows == kept.len() as u64)
                && firewall.stat("table-assured").is_ok_and(|used| used == kept.len() as u64)
        })?;
        more.iter_mut().chain(&mut *kept).try_for_each(&mut talk)?;
        ensure!(assured(&firewall, NEWCOMERS)? == u64::from(MORE), "places stay free");
        ensure!(assured(&firewall, ESTABLISHED)? == kept.len() as u64, "a living flow went");

        // All end: a connection that begins then is assured at once.
        more.iter().chain(&*kept).try_for_each(|it| site.wires.client.send(&it.reset()))?;
        wait::until("room", CALM, || {
            let words = format!("confirmed IPv4 flows ({SIZE}) has room again");
            firewall.said().contains(&words).then_some(())
        })?;
        connect(&Caller::new(NEWCOMERS, 2 * MORE))?;
        ensure!(assured(&firewall, NEWCOMERS)? == 1, "a table with room takes nobody");
        Ok(())
    }

    fn is_reported(firewall: &mut Firewall<'_>) -> Result<()> {
        // A try with each packet of the client's behind the SYN, and each of the server's.
        let tries = firewall.stat("assured-full")?;
        ensure!(tries >= u64::from(MORE), "{tries} tries");
        wait::until_true("the statistics to tell", || {
            let stats = firewall.json(&["stats"]).unwrap_or_default();
            let gauge = stats.iter().find(|line| line["name"] == "table-assured");
            gauge.is_some_and(|gauge| {
                gauge["full_since"].is_string() && gauge["lost"] == tries && gauge["value"] == SIZE
            })
        })?;
        let words = format!("confirmed IPv4 flows ({SIZE}) is full: connections stay embryonic");
        wait::until_true("the daemon to say so", || firewall.said().contains(&words))
    }
}

mod measurements {
    use super::*;

    #[test]
    #[ignore = "a measurement: needs a quiet machine"]
    fn newcomers_that_complete_by_the_size_of_the_embryonic_table() {
        needs!(capability::firewall());
        // What is repeated is younger to the table than what came once.
        let once = [65_536, 98_304, 106_496, 131_072].map(|size| (1, size));
        let twice = [262_144, 196_608, 131_072].map(|size| (2, size));
        for (copies, size) in twice.into_iter().chain(once) {
            let plan = Plan { syns: 600_000, newcomers: 1_000, copies, ..NEWCOMERS_IN_A_FLOOD };
            eprint!("{size}, each SYN {copies} times: ");
            let setup = setup().option(&format!("--max-embryonic={size}"));
            Outcome::of(setup, plan).unwrap().is_unharmed(plan).unwrap();
        }
    }

    /// It changes a setting of the whole machine while it runs.
    #[test]
    #[ignore = "a measurement: needs a quiet machine"]
    fn the_same_flood_through_nf_conntrack() {
        needs!(capability::oracle());
        kernel().unwrap();
    }

    fn kernel() -> Result<()> {
        let plan = match capability::full() {
            true => NEWCOMERS_IN_A_FLOOD,
            false => Plan { syns: 1_000_000, ..NEWCOMERS_IN_A_FLOOD },
        };
        let _limit = ConntrackMax::set(MAX_FLOWS)?;
        let site = Site::new()?;
        for line in [
            "nft add table ip flood",
            "nft add chain ip flood forward { type filter hook forward priority 0 ; }",
            "nft add rule ip flood forward ct state established accept",
        ] {
            site.gateway().run(line)?;
        }
        let mut siege = Siege::new(&site.wires, plan);
        siege.establish()?;
        let course = siege.run()?;
        let list = site.gateway().run("conntrack -L -p tcp")?;
        let assured = [ESTABLISHED, NEWCOMERS].map(|network| {
            let client = format!(" src=10.{network}.");
            let is_one = |line: &&str| line.contains(&client) && line.contains("[ASSURED]");
            list.lines().filter(is_one).count()
        });
        eprintln!(
            "nf_conntrack ({MAX_FLOWS}): {} SYNs in {:.2?}, {:.0} a second, the link full {} \
             times; {} of {} established are assured; {} of {} newcomers completed after {} SYNs",
            course.syns,
            course.took,
            course.rate(),
            course.refused,
            assured[0],
            plan.established,
            assured[1],
            course.newcomers,
            plan.distance,
        );
        Ok(())
    }
}

//! Rules that come and go one by one, as scripts and fail2ban change them, beside the
//! kernel's own iptables.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use firewall_tests::{
    Firewall, Gateway, Netns, Offload, capability,
    command::finish,
    firewall::{Setup, binary},
    needs,
};
use nix::sys::{
    resource::{UsageWho, getrusage},
    time::TimeValLike as _,
};

const OPEN: &str = "*filter\n:INPUT ACCEPT\n:FORWARD ACCEPT\n:OUTPUT ACCEPT\nCOMMIT\n";
const DEADLINE: Duration = Duration::from_secs(300);

/// Both programs, each where its own rules are.
struct Both<'a> {
    firewall: &'a Firewall<'a>,
    kernel: Netns,
}

impl Both<'_> {
    /// A shell script that calls `$iptables`, in the firewall's namespace and in the
    /// kernel's; gives what it prints.
    fn run(&self, script: &str) -> Result<[String; 2]> {
        Ok([self.ours(script)?, self.theirs(script)?])
    }

    fn ours(&self, script: &str) -> Result<String> {
        let mut command = self.firewall.in_its_namespace("sh");
        let own = format!("{} iptables", binary()?.display());
        command.args(["-c", script]).env("iptables", own).env("FIREWALL_PIN", self.firewall.pin());
        done(finish(&mut command, DEADLINE)?, script)
    }

    fn theirs(&self, script: &str) -> Result<String> {
        let mut command = self.kernel.command("sh");
        command.args(["-c", script]).env("iptables", "iptables");
        done(finish(&mut command, DEADLINE)?, script)
    }
}

fn done(finished: firewall_tests::command::Finished, script: &str) -> Result<String> {
    ensure!(finished.code() == 0, "{script}: {}: {}", finished.code(), finished.stderr);
    Ok(finished.stdout)
}

fn with_both(test: impl FnOnce(&Both<'_>) -> Result<()>) {
    let run = || -> Result<()> {
        let network = Gateway::new(Offload::Tuned)?;
        network.hush()?;
        let firewall = Setup::on(&["eth0", "eth1"]).both(OPEN).start(network.gateway())?;
        test(&Both { firewall: &firewall, kernel: Netns::new("kernel")? })
    };
    run().unwrap();
}

/// So many calls, with `$a` and `$b` as parts of an address.
fn calls(first: usize, count: usize, call: &str) -> String {
    let end = first + count;
    format!(
        "i={first}; while [ $i -lt {end} ]; do a=$((i / 250)) b=$((i % 250)); $iptables {call} || \
         exit 1; i=$((i + 1)); done"
    )
}

#[test]
fn rules_that_come_and_go_one_by_one_end_as_the_kernels_do() {
    needs!(capability::firewall(), capability::program("iptables"));
    with_both(|both| {
        for script in [
            calls(0, 70, "-A INPUT -s 10.0.$a.$b/32 -j DROP"),
            calls(0, 40, "-I INPUT $((i + 1)) -p udp --dport $((i + 1)) -j ACCEPT"),
            calls(0, 10, "-R INPUT $((i * 3 + 1)) -d 10.1.$a.$b/32 -j RETURN"),
            calls(20, 30, "-D INPUT -s 10.0.$a.$b/32 -j DROP"),
            calls(0, 9, "-D INPUT $((i + 1))"),
            "$iptables -N guests && $iptables -A INPUT -i eth0 -j guests".to_owned(),
            calls(0, 9, "-A guests -s 10.2.$a.$b -m limit --limit 5/s -j ACCEPT"),
            calls(0, 40, "-A guests -s 10.3.$a.$b -j ACCEPT"),
            calls(0, 9, "-I INPUT -s 10.4.$a.$b -j ACCEPT"),
            "$iptables -D INPUT -i eth0 -j guests && $iptables -I FORWARD -j guests".to_owned(),
            "$iptables -t raw -A PREROUTING -s 10.5.0.1 -j DROP".to_owned(),
            calls(0, 9, "-t raw -A PREROUTING -s 10.5.$a.$b -j ACCEPT"),
            calls(0, 9, "-t raw -D PREROUTING 1"),
        ] {
            both.run(&script)?;
            for table in ["filter", "raw"] {
                let [ours, theirs] = both.run(&format!("$iptables -t {table} -S"))?;
                ensure!(ours == theirs, "after {script}:\n{ours}\nand not\n{theirs}");
            }
        }
        Ok(())
    });
}

#[test]
#[ignore = "a measurement: needs a quiet machine"]
fn a_thousand_rules_one_by_one_take_no_longer_than_with_iptables() {
    needs!(capability::firewall(), capability::program("iptables"));
    with_both(|both| {
        /// Calls of one program until the other has its turn.
        const TURN: usize = 50;
        const ALL: usize = 1_000;
        for (what, call) in [
            ("-A", "-A INPUT -s 10.0.$a.$b/32 -j DROP"),
            ("-I", "-I INPUT -s 10.1.$a.$b/32 -j DROP"),
            ("-R", "-R INPUT $((i + 1)) -s 10.2.$a.$b/32 -j DROP"),
            ("-D", "-D INPUT -s 10.2.$a.$b/32 -j DROP"),
        ] {
            let mut spent = [Duration::ZERO; 2];
            let mut taken = [Duration::ZERO; 2];
            for first in (0..ALL).step_by(TURN) {
                let script = calls(first, TURN, call);
                let began = Instant::now();
                spent[0] += cpu(|| both.ours(&script))?;
                taken[0] += began.elapsed();
                let began = Instant::now();
                spent[1] += cpu(|| both.theirs(&script))?;
                taken[1] += began.elapsed();
            }
            for (times, unit) in [(taken, "taken"), (spent, "of CPU")] {
                let [ours, theirs] = times.map(|time| time / ALL as u32);
                let ratio = ours.as_secs_f64() / theirs.as_secs_f64();
                eprintln!(
                    "{ALL} times {what}: {ours:?} {unit} each, iptables {theirs:?}: {ratio:.2}"
                );
            }
        }
        Ok(())
    });
}

/// What the children of this process have spent meanwhile.
fn cpu(work: impl FnOnce() -> Result<String>) -> Result<Duration> {
    let spent = || -> Result<i64> {
        let usage = getrusage(UsageWho::RUSAGE_CHILDREN).context("cannot ask for CPU time")?;
        Ok(usage.user_time().num_microseconds() + usage.system_time().num_microseconds())
    };
    let before = spent()?;
    work()?;
    Ok(Duration::from_micros((spent()? - before).unsigned_abs()))
}

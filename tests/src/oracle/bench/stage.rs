//! A whole file of rules in two gateways: in iptables of this kernel, and in the
//! firewall. Packets that its rules ask for come to both, go through both, and leave
//! both; what comes out must be the same, and so must every counter in the end.

use std::{
    net::IpAddr,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};

use super::{
    arrival::Arrival,
    faces::Faces,
    gateway::{Site, index},
    host::Host,
    peer,
    port::{Heard, Port},
    session::stay_on_this_cpu,
    subject::Hook,
    tally::Tally,
};
use crate::{
    Family, Firewall, Netns,
    firewall::Setup,
    oracle::rulebook::{self, Book, Content, Draft, RulesFile, Speaker, Step, Talks},
    wire::End,
};

/// Packets and counters that are told of a file; one often brings others.
const TOLD: usize = 5;
/// How many servers listen at a time.
const SERVERS: usize = 8;
const DEADLINE: Duration = Duration::from_secs(10);
/// How long is waited for a packet that has come out of the other gateway.
const GRACE: Duration = Duration::from_secs(1);
/// More than a tick of the kernel's clock, of which there are a hundred or more in a second:
/// within one, `connlimit` does not look whether what it counts has ended.
const TICK: Duration = Duration::from_millis(11);

/// What a ruleset without any rule looks like.
const NOTHING: &str = "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n\
    :OUTPUT ACCEPT [0:0]\nCOMMIT\n";
/// The two gateways; one of their networks serves any number of files.
#[derive(Debug)]
pub struct Theatre {
    sites: [Site; 2],
}

/// The two gateways, ready to be given rules.
#[derive(Debug)]
pub struct Stage<'a> {
    gateways: [&'a Netns; 2],
    firewall: Firewall<'a>,
    ports: [[Port; 2]; 2],
    hosts: [Host; 2],
    tag: u32,
    /// Of the file that was played last.
    family: Option<Family>,
}

/// What playing a file has shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Played {
    pub packets: usize,
    /// What was not the same, in words.
    pub differences: Vec<String>,
    /// Rules that have counted a packet, and all.
    pub met: usize,
    pub rules: usize,
}

impl Theatre {
    /// # Errors
    /// When a namespace cannot be made.
    pub fn new() -> Result<Self> {
        Ok(Self { sites: [Site::at_large()?, Site::at_large()?] })
    }
}

impl<'a> Stage<'a> {
    /// # Errors
    /// When the firewall does not start.
    pub fn open(theatre: &'a Theatre, hook: Hook) -> Result<Self> {
        stay_on_this_cpu()?;
        let [kernel, ours] = &theatre.sites;
        peer::prepare(&kernel.gateway)?;
        let firewall = Setup::on(&["eth0", "eth1"])
            .both(NOTHING)
            .option(&format!("--hook={}", hook.name()))
            .option("--ftp-ports=none")
            .start(&ours.gateway)?;
        let hosts = [Host::open(&kernel.gateway)?, Host::open(&ours.gateway)?];
        // The reports of the groups that the hosts have joined.
        thread::sleep(Duration::from_millis(100));
        Ok(Self {
            gateways: [&kernel.gateway, &ours.gateway],
            firewall,
            ports: [kernel.ports()?, ours.ports()?],
            hosts,
            tag: 0,
            family: None,
        })
    }

    /// Loads a file into both and plays at least so many packets of this seed.
    ///
    /// # Errors
    /// When one of them refuses the file, or no longer answers.
    pub fn play(&mut self, file: &RulesFile, packets: usize, seed: u64) -> Result<Played> {
        let text = file.staged();
        self.make_room(file.family)?;
        self.load(file, &text)?;
        let book = Book::parse(&text, file.family);
        let mut services = book.services();
        services.truncate(SERVERS);
        for (host, gateway) in self.hosts.iter_mut().zip(self.gateways) {
            host.serve(gateway, &services)?;
        }
        let is_read = text.contains("--helper");
        let pause = if text.contains("-m connlimit") { TICK } else { Duration::ZERO };
        let mut talks = Talks::new(&book, file.family, services, is_read, seed);
        let mut played = Played::default();
        while played.packets < packets {
            for ports in &mut self.ports {
                drain(ports)?;
            }
            thread::sleep(pause);
            self.talk(&talks.next_talk(), &mut played)?;
        }
        self.compare_counters(file.family, &mut played)?;
        Ok(played)
    }

    /// Plays a talk until one of its packets does not arrive.
    fn talk(&mut self, steps: &[Step], played: &mut Played) -> Result<()> {
        let (mut chosen, mut faces) = ([0; 2], [None; 2]);
        for step in steps {
            played.packets += 1;
            self.tag = self.tag % 0xffff + 1;
            let (mut alike, mut is_forwarded) = ([Vec::new(), Vec::new()], false);
            let mut sent = [None, None];
            for side in 0..2 {
                let draft = acknowledging(step, chosen[side]);
                let turned = faces[side].map_or(Some(draft.clone()), |it: Faces| it.turn(draft));
                let Some(draft) = turned else { return self.accept() };
                let arrivals = self.send(side, step.by, &draft)?;
                chosen[side] =
                    arrivals.iter().find_map(Arrival::chosen_number).unwrap_or(chosen[side]);
                let forwarded = arrivals.iter().find(|arrival| arrival.carries(self.tag, &draft));
                is_forwarded |= forwarded.is_some();
                faces[side] = faces[side].or(forwarded.map(|seen| Faces::new(&draft, seen)));
                alike[side] = without_choices(arrivals, step, &draft, self.tag);
                sent[side] = Some(draft);
            }
            for (side, draft) in sent.iter().enumerate() {
                let missing = alike[1 - side].len().saturating_sub(alike[side].len());
                if let Some(draft) = draft.as_ref().filter(|_| missing != 0) {
                    let late = self.hear_late(side, missing)?;
                    alike[side].extend(without_choices(late, step, draft, self.tag));
                }
            }
            if alike[0] != alike[1] {
                played.differences.push(format!(
                    "packet {}, {:?} sends {:?}: with iptables {:?}, with the firewall {:?}; dropped \
                     last: {}",
                    played.packets,
                    step.by,
                    step.draft,
                    alike[0],
                    alike[1],
                    self.firewall.text(&["why"])?.lines().next().unwrap_or_default()
                ));
            }
            if alike[0] != alike[1] || is_end(step, &alike[0], is_forwarded) {
                break;
            }
        }
        self.accept()
    }

    /// Takes the connections that servers on the gateways have.
    fn accept(&self) -> Result<()> {
        self.hosts.iter().try_for_each(Host::accept)
    }

    /// Sends a packet at one of the gateways, and gives what comes of it.
    fn send(&mut self, side: usize, by: Speaker, draft: &Draft) -> Result<Vec<Arrival>> {
        let packet = draft.bytes(self.tag);
        let ports = &mut self.ports[side];
        match by {
            Speaker::End(end) => ports[index(end)].send_to(draft.destination, &packet)?,
            Speaker::Host => self.hosts[side].send(draft.destination, &packet)?,
        }
        // Most of the time all is done before the system call returns.
        let mut arrivals = Vec::new();
        hear(ports, &mut arrivals)?;
        if arrivals.is_empty() {
            fence(ports, by, &mut arrivals)?;
        }
        Ok(arrivals)
    }

    /// What the probe of [`fence`] has overtaken, on another queue of a link.
    fn hear_late(&mut self, side: usize, missing: usize) -> Result<Vec<Arrival>> {
        let (mut arrivals, start) = (Vec::new(), Instant::now());
        while arrivals.len() < missing && start.elapsed() < GRACE {
            hear(&mut self.ports[side], &mut arrivals)?;
            thread::yield_now();
        }
        Ok(arrivals)
    }

    /// Takes away the rules of the other family. In the kernel whoever first names a list of
    /// `recent` gives it its mask, and one of IPv4 leaves of IPv6 the first 32 bits.
    fn make_room(&mut self, family: Family) -> Result<()> {
        let before = self.family.replace(family);
        let Some(before) = before.filter(|it| *it != family) else { return Ok(()) };
        let file = tempfile::NamedTempFile::new()?;
        std::fs::write(file.path(), NOTHING)?;
        let path = file.path().to_string_lossy();
        self.command(before, &["apply", &path])?;
        self.gateways[0].run(&format!("{} {path}", restore(before))).map(drop)
    }

    /// Puts the file's rules in the place of those before, in both. The firewall is given
    /// them as it saves them, which must be the same again, and something that iptables
    /// takes.
    fn load(&self, file: &RulesFile, text: &str) -> Result<()> {
        let suffix = match file.family {
            Family::V4 => "v4",
            Family::V6 => "v6",
        };
        let restore = restore(file.family);
        let folder = tempfile::tempdir()?;
        let write = |name: &str, text: &str| -> Result<String> {
            let path = folder.path().join(format!("{name}.{suffix}"));
            std::fs::write(&path, text)?;
            Ok(path.to_string_lossy().into_owned())
        };
        let [kernel, _] = self.gateways;
        let nothing = write("nothing", NOTHING)?;
        let apply = |path: &str| self.command(file.family, &["apply", path]);
        apply(&nothing)?;
        if !file.sets.is_empty() {
            kernel.run(&format!("{restore} {nothing}"))?;
            kernel.run("ipset destroy")?;
            self.firewall.text(&["ipset", "destroy"])?;
        }
        for line in &file.sets {
            kernel.run(&format!("ipset {line}"))?;
            let words: Vec<_> = line.split_whitespace().collect();
            self.firewall.text(&[&["ipset"], &words[..]].concat())?;
        }
        kernel.run(&format!("{restore} {}", write("whole", &peer::whole(text))?))?;
        kernel.run("conntrack -F")?;
        let rules = write("rules", text)?;
        apply(&rules).context("the firewall refuses the file as it is played")?;
        let saved = self.command(file.family, &["save"])?;
        let saved_file = write("saved", &saved)?;
        kernel
            .run(&format!("{restore} --test {saved_file}"))
            .context("iptables refuses what the firewall has saved")?;
        apply(&saved_file).context("the firewall refuses what it has saved")?;
        let again = self.command(file.family, &["save"])?;
        ensure!(without_date(&saved) == without_date(&again), "saved otherwise again:\n{again}");
        self.firewall.text(&["conntrack", "flush"]).map(drop)
    }

    /// What a command of the firewall about this family prints.
    fn command(&self, family: Family, words: &[&str]) -> Result<String> {
        let option: &[&str] = if family == Family::V6 { &["--ipv6"] } else { &[] };
        self.firewall.text(&[words, option].concat())
    }

    fn compare_counters(&self, family: Family, played: &mut Played) -> Result<()> {
        let save = if family == Family::V6 { "ip6tables-save" } else { "iptables-save" };
        let kernel = self.gateways[0].run(&format!("{save} -c"))?;
        let ours = self.command(family, &["save", "-c"])?;
        let [kernel, ours] = [Tally::parse(&kernel)?, Tally::parse(&ours)?];
        (played.met, played.rules) = kernel.met();
        played.differences.truncate(TOLD);
        played.differences.extend(kernel.differences(&ours).into_iter().take(TOLD));
        Ok(())
    }
}

/// The command that loads a file into the kernel.
const fn restore(family: Family) -> &'static str {
    match family {
        Family::V4 => "iptables-restore",
        Family::V6 => "ip6tables-restore",
    }
}

/// The lines that do not tell when they were written.
fn without_date(text: &str) -> Vec<&str> {
    text.lines().filter(|line| !line.starts_with('#')).collect()
}

/// The packet of a step, with the number that the gateway has chosen.
fn acknowledging(step: &Step, chosen: u32) -> Draft {
    let mut draft = step.draft.clone();
    if let (true, Content::Tcp { ack, .. }) = (step.acknowledges_host, &mut draft.content) {
        *ack = chosen.wrapping_add(1);
    }
    draft
}

/// Without what each gateway chooses for itself. What it forwards must be the same to the
/// last byte, but for a port that it chose because another connection had the packet's own.
fn without_choices(arrivals: Vec<Arrival>, step: &Step, sent: &Draft, tag: u32) -> Vec<Arrival> {
    let chooses = |arrival: &Arrival| step.acknowledges_host || arrival.chosen_number().is_some();
    let plain = |arrival: Arrival| match arrival.is(&step.draft) {
        true => arrival.without_free_port(sent),
        false if arrival.carries(tag, sent) => arrival.without_free_port(sent),
        false if chooses(&arrival) => arrival.without_numbers().told_in_words(),
        false => arrival.told_in_words(),
    };
    arrivals.into_iter().map(plain).collect()
}

/// Whether a talk cannot go on: its packet did not come to the one that it was for, as
/// far as one sees.
fn is_end(step: &Step, arrivals: &[Arrival], is_forwarded: bool) -> bool {
    let Draft { destination, .. } = step.draft;
    if rulebook::is_own(destination) {
        return arrivals.is_empty() && !step.acknowledges_host;
    }
    !is_forwarded
}

fn drain(ports: &mut [Port; 2]) -> Result<()> {
    for port in ports {
        while port.hear()?.is_some() {}
    }
    Ok(())
}

/// Notes the packets that have come to both ends.
fn hear(ports: &mut [Port; 2], arrivals: &mut Vec<Arrival>) -> Result<()> {
    for (port, end) in ports.iter_mut().zip([End::Client, End::Server]) {
        while let Some(heard) = port.hear()? {
            if let Heard::Packet(packet) = heard {
                arrivals.extend(Arrival::read(end, packet));
            }
        }
    }
    Ok(())
}

/// Waits until both ends have heard all that was under way: the gateway answers a probe
/// behind what it has done before.
fn fence(ports: &mut [Port; 2], by: Speaker, arrivals: &mut Vec<Arrival>) -> Result<()> {
    let end = match by {
        Speaker::End(end) => end,
        Speaker::Host => End::Client,
    };
    let IpAddr::V4(own) = rulebook::own(end, Family::V4) else { bail!("no address of IPv4") };
    ports[index(end)].probe(own)?;
    let start = Instant::now();
    loop {
        match ports[index(end)].hear()? {
            Some(Heard::Probe) => break,
            Some(Heard::Packet(packet)) => arrivals.extend(Arrival::read(end, packet)),
            Some(Heard::Other) => {}
            None if start.elapsed() > DEADLINE => bail!("the gateway does not answer a probe"),
            None => thread::yield_now(),
        }
    }
    hear(ports, arrivals)
}

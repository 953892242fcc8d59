//! Whole conversations through the loaded programs and through the model of them
//! (`BPF_PROG_TEST_RUN`): the written scenarios and random ones over TCP, legal and
//! not, in both families, under every setting that a script names.
//!
//! They must agree about the action and every counter of every frame, and in the end
//! about every flow: windows, last segment, state, status, time to live. The longest
//! segments are too long for the link that they leave by.

use std::{thread, time::Duration};

use anyhow::{Context as _, Result, ensure};
use firewall_common::control::{Options, option};
use firewall_tests::{
    capability,
    firewall::mount_bpffs,
    model::{Bench, Gateway, Way},
    needs,
    oracle::{Frame, Place, Script, Settings, Step, generator::conversation, scenarios},
    wire::End,
};
use firewall_user::kernel::pins::Pins;

/// Random conversations at each hook; they have some 40 frames each.
const CONVERSATIONS: u64 = 250;

/// What enters is counted by its state, and dropped when it is INVALID; what leaves
/// is only counted.
const RULES: &str = "\
*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
-A FORWARD -m conntrack --ctstate NEW
-A FORWARD -m conntrack --ctstate ESTABLISHED
-A FORWARD -m conntrack --ctstate RELATED
-A FORWARD -m conntrack --ctstate INVALID -j DROP
-A FORWARD -m conntrack --ctstate UNTRACKED
-A OUTPUT -m conntrack --ctstate NEW
-A OUTPUT -m conntrack --ctstate ESTABLISHED
-A OUTPUT -m conntrack --ctstate RELATED
-A OUTPUT -m conntrack --ctstate INVALID
-A OUTPUT -m conntrack --ctstate UNTRACKED
COMMIT
";

/// A script at its place, played up to a position.
struct Played {
    script: Script,
    place: Place,
    number: u16,
    position: usize,
}

impl Played {
    /// Plays on to the next pause, and gives its length; `None` at the end.
    fn play(&mut self, bench: &mut Bench) -> Result<Option<Duration>> {
        bench.set_options(options(self.script.settings))?;
        while let Some(step) = self.script.steps.get(self.position) {
            self.position += 1;
            match step {
                Step::Pause(pause) => return Ok(Some(*pause)),
                Step::Send(frame) => {
                    self.send(bench, frame)
                        .with_context(|| format!("{}, step {}", self.script.name, self.position))?;
                }
            }
        }
        Ok(None)
    }

    fn send(&self, bench: &mut Bench, frame: &Frame) -> Result<()> {
        let datagram = frame.piece.as_ref().map_or(0, |piece| piece.datagram);
        let id = u32::from(self.number) << 4 | u32::from(datagram);
        let packet = frame.ip(&self.place, id, id);
        let port = match frame.from {
            End::Client => 0,
            End::Server => 1,
        };
        let kind: [u8; 2] = if packet[0] >> 4 == 4 { [0x08, 0x00] } else { [0x86, 0xdd] };
        let bytes = [&bench.mac(port)[..], &[2, 0, 0, 0, 0, 1], &kind, &packet].concat();
        bench.compare(frame, &bytes, port).map(drop)
    }
}

fn options(settings: Settings) -> Options {
    let switches = [
        (option::TCP_LOOSE, settings.tcp_loose),
        (option::TCP_BE_LIBERAL, settings.tcp_be_liberal),
        (option::TCP_IGNORE_INVALID_RST, settings.tcp_ignore_invalid_rst),
        (option::CHECKSUM, settings.checksum),
    ];
    let bits = switches.iter().filter(|(_, is_on)| *is_on).fold(0, |bits, (bit, _)| bits | bit);
    Options { bits, tcp_max_retrans: settings.tcp_max_retrans, ..Options::default() }
}

/// Plays all scripts at once, so that they share their pauses.
fn play(bench: &mut Bench, scripts: Vec<Script>) -> Result<()> {
    let mut played: Vec<_> = (0..)
        .zip(scripts)
        .map(|(number, script)| {
            let place = Place::numbered(script.family, number);
            Played { script, place, number, position: 0 }
        })
        .collect();
    loop {
        let mut pause = None;
        for script in &mut played {
            pause = pause.max(script.play(bench)?);
        }
        match pause {
            Some(pause) => thread::sleep(pause),
            None => return Ok(()),
        }
    }
}

fn scripts() -> Vec<Script> {
    let written = scenarios::all().into_iter().filter(|script| !script.is_raw());
    written.chain((0..CONVERSATIONS).map(conversation)).collect()
}

fn agree(way: Way) {
    needs!(capability::namespaces(), capability::program("nft"));
    mount_bpffs().unwrap();
    let gateway = Gateway::new().unwrap();
    let netns = &gateway.netns;
    let pins = Pins::new(format!("/sys/fs/bpf/{}", netns.name()));
    let outcome = std::panic::catch_unwind(|| {
        netns.enter(|| {
            let mut bench = Bench::new(&pins, way, [RULES; 2], options(Settings::DEFAULT))?;
            play(&mut bench, scripts())?;
            let flows = bench.compare_tables()?;
            ensure!(flows > 100 && bench.frames() > 5_000, "{flows} flows of {}", bench.frames());
            Ok(())
        })
    });
    pins.remove().unwrap();
    outcome.unwrap().unwrap();
}

#[test]
fn xdp_and_the_model_agree_about_every_conversation() {
    agree(Way::Xdp);
}

#[test]
fn tc_ingress_and_the_model_agree_about_every_conversation() {
    agree(Way::TcIngress);
}

#[test]
fn tc_egress_and_the_model_agree_about_every_conversation() {
    agree(Way::TcEgress);
}

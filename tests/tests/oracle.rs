//! The firewall says of every frame what nf_conntrack says.
//!
//! `FIREWALL_ORACLE_FRAMES=1000000` makes the random part as long as wanted,
//! `FIREWALL_ORACLE_SEED=N` plays the conversation of one seed again.

use std::{collections::BTreeSet, env, path::Path, time::Instant};

use anyhow::{Context as _, Result, ensure};
use firewall_common::flow::CtState;
use firewall_tests::{
    capability, needs,
    oracle::{
        Judgement, Report, Script,
        bench::{Bench, Hook, MTU, Sites},
        campaign::{self, Outcome},
        capture, generator, scenarios,
    },
};

/// Frames of random conversations for each hook.
const FRAMES: u64 = 50_000;
/// Seeds that are always played.
const RECORDED: std::ops::Range<u64> = 0..300;

mod native_xdp {
    use super::*;

    #[test]
    fn judges_the_scenarios_as_the_kernel_does() {
        needs!(capability::firewall(), capability::oracle());
        agree_on_scenarios(Hook::Xdp).unwrap();
    }

    #[test]
    fn judges_random_conversations_as_the_kernel_does() {
        needs!(capability::firewall(), capability::oracle());
        agree_on_conversations(Hook::Xdp).unwrap();
    }
}

mod generic_xdp {
    use super::*;

    #[test]
    fn judges_the_scenarios_as_the_kernel_does() {
        needs!(capability::firewall(), capability::oracle());
        agree_on_scenarios(Hook::XdpGeneric).unwrap();
    }

    #[test]
    fn judges_random_conversations_as_the_kernel_does() {
        needs!(capability::firewall(), capability::oracle());
        agree_on_conversations(Hook::XdpGeneric).unwrap();
    }
}

mod tc {
    use super::*;

    #[test]
    fn judges_the_scenarios_as_the_kernel_does() {
        needs!(capability::firewall(), capability::oracle());
        agree_on_scenarios(Hook::Tc).unwrap();
    }

    #[test]
    fn judges_random_conversations_as_the_kernel_does() {
        needs!(capability::firewall(), capability::oracle());
        agree_on_conversations(Hook::Tc).unwrap();
    }
}

/// Whatever the kernel says twice it says alike: a difference would be the oracle's.
mod the_kernel {
    use super::*;

    #[test]
    fn agrees_with_itself() {
        needs!(capability::namespaces(), capability::oracle());
        agree_with_itself().unwrap();
    }

    fn agree_with_itself() -> Result<()> {
        let sites = Sites::new()?;
        let mut bench = Bench::of_kernels(&sites)?;
        agree_on_all_scenarios(&mut bench)?;
        agree_on_random(&mut bench, "kernels")
    }

    /// What the random conversations are worth: they come to every state, and the
    /// tracker is not always of their opinion.
    #[test]
    fn is_brought_to_every_state_by_random_conversations() {
        needs!(capability::namespaces(), capability::oracle());
        reach_every_state().unwrap();
    }

    fn reach_every_state() -> Result<()> {
        let sites = Sites::new()?;
        let mut bench = Bench::of_kernels(&sites)?;
        let scripts: Vec<_> = (0..1_000).map(generator::conversation).collect();
        let reports = bench.play(&scripts)?;
        let flows = || reports.iter().flat_map(|report| report.flows.iter().flatten().flatten());
        let states: BTreeSet<_> = flows().map(|flow| flow.state.clone()).collect();
        let timeouts: BTreeSet<_> = flows().map(|flow| flow.timeout).collect();
        for state in TCP_STATES {
            assert!(states.contains(state), "no {state} among {states:?}");
        }
        for timeout in ["max_retrans", "unacknowledged", "established", "time_wait"] {
            assert!(timeouts.contains(timeout), "no {timeout} among {timeouts:?}");
        }
        let judgements = || reports.iter().flat_map(|report| report.judgements.iter().flatten());
        let invalid = |of: &&Judgement| of.state() == Some(CtState::Invalid);
        let percent = 100 * judgements().filter(invalid).count() / judgements().count();
        assert!((3..40).contains(&percent), "{percent} % are INVALID");
        Ok(())
    }

    const TCP_STATES: [&str; 9] = [
        "SYN_SENT",
        "SYN_SENT2",
        "SYN_RECV",
        "ESTABLISHED",
        "FIN_WAIT",
        "CLOSE_WAIT",
        "LAST_ACK",
        "TIME_WAIT",
        "CLOSE",
    ];
}

/// The same conversation, recorded in every format and over every link.
mod captures {
    use firewall_tests::{
        Family,
        oracle::{
            Place, Settings, Talk,
            replay::{self, Tally},
            talk::{ack, data},
        },
        wire::End,
    };
    use pcap_file::{
        DataLink,
        pcap::{PcapHeader, PcapPacket, PcapWriter},
        pcapng::{
            PcapNgWriter,
            blocks::{
                enhanced_packet::EnhancedPacketBlock,
                interface_description::InterfaceDescriptionBlock,
            },
        },
    };

    use super::*;

    #[test]
    fn are_played_whatever_their_format() {
        needs!(capability::firewall(), capability::oracle());
        play_all().unwrap();
    }

    fn play_all() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let ethernet = [&[2; 12][..], &[0x08, 0x00]].concat();
        let tagged = [&[2; 12][..], &[0x81, 0x00, 0, 7, 0x08, 0x00]].concat();
        let cooked = [&[0; 14][..], &[0x08, 0x00]].concat();
        record(&folder.path().join("a.pcap"), DataLink::ETHERNET, &ethernet)?;
        record(&folder.path().join("b.pcap"), DataLink::ETHERNET, &tagged)?;
        record(&folder.path().join("c.cap"), DataLink::LINUX_SLL, &cooked)?;
        record_ng(&folder.path().join("d.pcapng"), DataLink::RAW)?;

        let sites = Sites::new()?;
        let mut bench = Bench::start(&sites, Hook::Xdp)?;
        let files = capture::files(folder.path())?;
        assert_eq!(files.len(), 4);
        for file in files {
            let capture = capture::read(&file, MTU)?;
            let report = bench.play(std::slice::from_ref(&capture.script))?.remove(0);
            let (lines, tally) = replay::lines(&capture, &report);
            assert_eq!(tally, Tally { frames: packets().len(), skipped: 1, ..Tally::default() });
            assert!(lines[0].contains(r#""frame":1,"from":"client""#), "{}", lines[0]);
            assert!(lines[0].contains(r#""kernel":{"forwarded":true,"ctstate":"NEW"}"#));
            assert!(lines[1].contains(r#""firewall":{"forwarded":true,"ctstate":"ESTABLISHED"}"#));
            assert!(lines.last().is_some_and(|line| line.contains(r#""skipped":"cut off"#)));
        }
        Ok(())
    }

    /// A connection from its beginning to its end, between other addresses than
    /// those of the bench.
    fn packets() -> Vec<Vec<u8>> {
        let mut talk = Talk::new(Family::V4, Settings::DEFAULT, [7, 77]);
        talk.open_scaled(7, 7);
        talk.client(data(100));
        talk.server(ack());
        talk.close();
        let place = Place {
            client: "10.1.2.3:50000".parse().expect("an endpoint"),
            server: "203.0.113.7:443".parse().expect("an endpoint"),
        };
        let script = talk.into_script("a connection".into());
        let clients = script.frames().filter(|frame| frame.from == End::Client);
        assert_ne!(clients.count(), 0);
        script.frames().map(|frame| frame.ip(&place, 1, 1)).collect()
    }

    /// The packets, and the beginning of one more.
    fn frames(link: &[u8]) -> Vec<Vec<u8>> {
        let mut packets = packets();
        packets.push(packets[0][..30].to_vec());
        packets.iter().map(|packet| [link, packet].concat()).collect()
    }

    fn record(file: &Path, datalink: DataLink, link: &[u8]) -> Result<()> {
        let header = PcapHeader { datalink, ..PcapHeader::default() };
        let mut writer = PcapWriter::with_header(std::fs::File::create(file)?, header)?;
        for frame in frames(link) {
            let length = frame.len() as u32;
            writer.write_packet(&PcapPacket::new(Default::default(), length, &frame))?;
        }
        Ok(())
    }

    fn record_ng(file: &Path, linktype: DataLink) -> Result<()> {
        let mut writer = PcapNgWriter::new(std::fs::File::create(file)?)?;
        writer.write_pcapng_block(InterfaceDescriptionBlock {
            linktype,
            snaplen: 65_535,
            options: vec![],
        })?;
        for frame in frames(&[]) {
            writer.write_pcapng_block(EnhancedPacketBlock {
                interface_id: 0,
                timestamp: Default::default(),
                original_len: frame.len() as u32,
                data: frame.into(),
                options: vec![],
            })?;
        }
        Ok(())
    }
}

/// Captures of control connections, beside the kernel's FTP helper.
mod with_helpers {
    use firewall_tests::{
        Gateway, Offload, Recorder,
        client::{Client, Manner, Mode, transfer},
        files::Load,
        oracle::{
            bench::Openings,
            hole::{Kind, Played},
            honesty::Dishonest,
        },
        packet::{Packet, Segment, flag},
        recorder,
        server::{Kind as Program, Server},
        wire::End,
    };

    use super::*;

    #[test]
    fn every_hole_of_the_kernel_for_real_programs_is_opened() {
        needs!(capability::firewall(), capability::oracle(), Program::Vsftpd.available());
        needs!(Program::Pyftpdlib.available());
        real_programs().unwrap();
    }

    fn real_programs() -> Result<()> {
        let folder = tempfile::tempdir()?;
        for kind in [Program::Vsftpd, Program::Pyftpdlib] {
            record(kind, &folder.path().join(format!("{}.pcap", kind.name())))?;
        }
        let sites = Sites::new()?;
        let mut openings = Openings::start(&sites, Hook::Xdp)?;
        for file in capture::files(folder.path())? {
            let played = play(&mut openings, &file)?;
            let told = played.lines("").join("\n");
            // Each file of each client had a data connection, and a hole of its own; FTP's
            // passive ports may come twice.
            ensure!(played.agreed() >= 8, "only {} holes:\n{told}", played.agreed());
            ensure!(played.mistakes() + played.deliberate() == 0, "{}:\n{told}", file.display());
        }
        Ok(())
    }

    /// Clients of both families in every mode, as a gateway without a firewall sees them.
    fn record(kind: Program, file: &Path) -> Result<()> {
        let network = Gateway::new(Offload::Tuned)?;
        let server = Server::start(kind, &network.server)?;
        let recorder = Recorder::start(network.gateway(), "eth0")?;
        for manner in Manner::all() {
            let client = match manner.mode {
                Mode::Active => Client::Ftplib,
                Mode::Passive => Client::Curl,
            };
            let address = network.server_address(manner.family);
            transfer(client, &network.client, &server, address, manner, Load::ONE_SMALL)?;
        }
        recorder.write(file).map(drop)
    }

    fn play(openings: &mut Openings<'_>, file: &Path) -> Result<Played> {
        let home = capture::read_at_home(file, MTU)?;
        ensure!(Openings::concern(&home), "{} has no control connection", file.display());
        let played = openings.play(&home)?;
        ensure!(played.read > 0 && played.frames == home.packets.len(), "not all was played");
        Ok(played)
    }

    #[test]
    fn holes_that_nobody_has_negotiated_are_the_kernels_alone() {
        needs!(capability::firewall(), capability::oracle());
        dishonest().unwrap();
    }

    fn dishonest() -> Result<()> {
        use End::{Client, Server};
        let folder = tempfile::tempdir()?;
        let sites = Sites::new()?;
        let mut openings = Openings::start(&sites, Hook::Tc)?;
        for (name, lines, port, because) in [
            (
                "privileged",
                &[(Client, "PORT 10,1,2,3,0,22\r\n"), (Server, "200 fine\r\n")][..],
                22,
                Dishonest::Privileged,
            ),
            (
                "unasked",
                &[(Client, "NOOP\r\n"), (Server, "227 Entering (203,0,113,7,200,1)\r\n")],
                51_201,
                Dishonest::Unasked,
            ),
            (
                "forsworn",
                &[
                    (Client, "EPSV ALL\r\n"),
                    (Server, "200 fine\r\n"),
                    (Client, "PORT 10,1,2,3,200,1\r\n"),
                    (Server, "200 fine\r\n"),
                ],
                51_201,
                Dishonest::Forsworn,
            ),
        ] {
            let file = folder.path().join(format!("{name}.pcap"));
            recorder::write(&file, &spoken(lines))?;
            let played = play(&mut openings, &file)?;
            let told = format!("{name}: {:?}\n{}", played, played.lines(name).join("\n"));
            let [opening] = &played.openings[..] else { anyhow::bail!("not one hole: {told}") };
            ensure!(opening.kernel.is_some() && opening.firewall.is_none(), "{told}");
            ensure!(opening.dishonest == Some(because) && opening.hole.dport == port, "{told}");
            ensure!(played.mistakes() == 0 && played.deliberate() == 1, "{told}");
        }
        Ok(())
    }

    #[test]
    fn a_hole_that_the_server_refuses_is_left_by_the_kernel_alone() {
        needs!(capability::firewall(), capability::oracle());
        refused().unwrap();
    }

    fn refused() -> Result<()> {
        use End::{Client, Server};
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("refused.pcap");
        let lines = [(Client, "PORT 10,1,2,3,200,1\r\n"), (Server, "500 no\r\n")];
        recorder::write(&file, &spoken(&lines))?;
        let sites = Sites::new()?;
        let played = play(&mut Openings::start(&sites, Hook::Xdp)?, &file)?;
        let told = format!("{played:?}");
        let [opening] = &played.openings[..] else { anyhow::bail!("not one hole: {told}") };
        ensure!(opening.dishonest == Some(Dishonest::NotAccepted), "{told}");
        ensure!(opening.left == [true, false] && played.mistakes() == 0, "{told}");
        Ok(())
    }

    #[test]
    fn a_reply_in_pieces_that_the_kernel_drops_is_read() {
        needs!(capability::firewall(), capability::oracle());
        in_pieces().unwrap();
    }

    fn in_pieces() -> Result<()> {
        use End::{Client, Server};
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("pieces.pcap");
        let lines = [
            (Client, "PASV\r\n"),
            (Server, "227 Entering Passive Mode (203,0,"),
            (Server, "113,7,200,1)\r\n"),
        ];
        recorder::write(&file, &spoken(&lines))?;
        let sites = Sites::new()?;
        let played = play(&mut Openings::start(&sites, Hook::XdpGeneric)?, &file)?;
        let told = format!("{played:?}");
        let [opening] = &played.openings[..] else { anyhow::bail!("not one hole: {told}") };
        ensure!(opening.kernel.is_none() && opening.firewall.is_some(), "{told}");
        let dropped = played.partings.iter().filter(|it| it.kind == Kind::Control).count();
        ensure!(dropped == 1 && played.mistakes() == 0, "{told}");
        Ok(())
    }

    /// A control connection on which both have said something before these lines, each in a
    /// segment of its own.
    fn spoken(lines: &[(End, &str)]) -> Vec<Vec<u8>> {
        let [client, server] =
            ["10.1.2.3:40000", "203.0.113.7:21"].map(|text| text.parse().expect("an endpoint"));
        let mut next = [1_000_u32, 5_000];
        let mut frames = Vec::new();
        let mut send = |from: End, flags: u8, payload: &[u8]| {
            let (source, destination) = match from {
                End::Client => (client, server),
                End::Server => (server, client),
            };
            let (seq, ack) = (next[from as usize], next[from.other() as usize]);
            let ack = if flags & flag::ACK == 0 { 0 } else { ack };
            let segment = Segment { flags, seq, ack, payload: payload.into() };
            frames.push(Packet::tcp(source, destination, segment).frame([2; 6], [4; 6]));
            next[from as usize] += payload.len() as u32 + u32::from(flags & flag::SYN != 0);
        };
        send(End::Client, flag::SYN, b"");
        send(End::Server, flag::SYN | flag::ACK, b"");
        send(End::Client, flag::ACK, b"");
        let login = [
            (End::Server, "220 ready\r\n"),
            (End::Client, "USER a\r\n"),
            (End::Server, "331 password\r\n"),
            (End::Client, "PASS b\r\n"),
            (End::Server, "230 welcome\r\n"),
        ];
        for (from, line) in login.iter().chain(lines) {
            send(*from, flag::PSH | flag::ACK, line.as_bytes());
            send(from.other(), flag::ACK, b"");
        }
        frames
    }
}

fn agree_on_scenarios(hook: Hook) -> Result<()> {
    let sites = Sites::new()?;
    agree_on_all_scenarios(&mut Bench::start(&sites, hook)?)
}

fn agree_on_all_scenarios(bench: &mut Bench<'_>) -> Result<()> {
    let mut scripts = scenarios::all();
    scripts.extend(recorded()?);
    let reports = bench.play(&scripts)?;
    let wrong: Vec<_> = reports.iter().filter(|report| !report.mistakes().is_empty()).collect();
    let told: String = wrong.iter().copied().map(Report::to_string).collect();
    assert!(wrong.is_empty(), "{told}{} of {} scripts differ", wrong.len(), reports.len());
    Ok(())
}

/// The captures that are kept with the tests.
fn recorded() -> Result<Vec<Script>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("captures");
    let scripts = capture::files(&folder)?.into_iter().map(|file| {
        let capture = capture::read(&file, MTU)?;
        ensure!(capture.script.frames().count() > 3, "{} is nearly empty", file.display());
        Ok(capture.script)
    });
    let scripts: Vec<_> = scripts.collect::<Result<_>>()?;
    ensure!(!scripts.is_empty(), "no captures in {}", folder.display());
    Ok(scripts)
}

fn agree_on_conversations(hook: Hook) -> Result<()> {
    let sites = Sites::new()?;
    agree_on_random(&mut Bench::start(&sites, hook)?, hook.name())
}

fn agree_on_random(bench: &mut Bench<'_>, name: &str) -> Result<()> {
    if let Some(seed) = number("FIREWALL_ORACLE_SEED")? {
        return agree_on_seed(bench, seed);
    }
    let mut recorded = Outcome::default();
    campaign::play_seeds(bench, RECORDED, &mut recorded)?;
    assert!(recorded.is_agreement(), "of the recorded seeds:\n{}", recorded.tell());

    let frames = number("FIREWALL_ORACLE_FRAMES")?.unwrap_or(FRAMES);
    let seed = fastrand::u64(..);
    let start = Instant::now();
    let outcome = campaign::play_frames(bench, seed, frames)?;
    let Outcome { conversations, frames, .. } = outcome;
    let took = start.elapsed();
    eprintln!(
        "{name}: {conversations} conversations from seed {seed}, {frames} frames in {took:?}"
    );
    assert!(outcome.is_agreement(), "{}", outcome.tell());
    Ok(())
}

fn agree_on_seed(bench: &mut Bench<'_>, seed: u64) -> Result<()> {
    let mut outcome = Outcome::default();
    campaign::play_seeds(bench, [seed], &mut outcome)?;
    assert!(outcome.is_agreement(), "{}", outcome.tell());
    Ok(())
}

/// A number from the environment.
fn number(variable: &str) -> Result<Option<u64>> {
    let Ok(text) = env::var(variable) else { return Ok(None) };
    let number = text.parse().with_context(|| format!("{variable}={text} is not a number"))?;
    Ok(Some(number))
}

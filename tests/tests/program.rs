//! The loaded programs, packet by packet (`BPF_PROG_TEST_RUN`), beside the
//! model: the same frames through firewall-common on tables in memory.
//!
//! They must agree about every frame: the action, each counter that moves, and
//! the flows that are left.
//!
//! ```text
//!   192.0.2.2 ── eth0 │ gateway │ eth1 ── 198.51.100.2
//!                192.0.2.1    198.51.100.1
//! ```

use anyhow::{Result, ensure};
use firewall_common::{
    control::{Options, option},
    testing::Frame,
    wire::tcp_flag::{ACK, FIN, PSH, RST, SYN},
};
use firewall_tests::{
    capability,
    firewall::mount_bpffs,
    model::{Bench, Gateway, Way},
    needs,
};
use firewall_user::kernel::pins::Pins;

const RULES: &str = "\
*filter
:INPUT DROP [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
:SERVICES - [0:0]
-A INPUT -p icmp -j ACCEPT
-A INPUT -m state --state ESTABLISHED,RELATED -j ACCEPT
-A INPUT -p tcp --dport 22 --syn -j ACCEPT
-A FORWARD -m state --state INVALID -j DROP
-A FORWARD -m state --state ESTABLISHED -j ACCEPT
-A FORWARD -m state --state RELATED -j ACCEPT
-A FORWARD -i eth0 -o eth1 -m state --state NEW -j SERVICES
-A FORWARD -s 192.0.2.0/24 -p udp -j REJECT
-A SERVICES -p tcp -m multiport --dports 21,80,8000:8010 -j ACCEPT
-A SERVICES -p udp --dport 53 -j ACCEPT
-A SERVICES -p sctp -m multiport --dports 53,80 -j ACCEPT
-A SERVICES -p udplite -m multiport --dports 53 -j ACCEPT
-A SERVICES -p icmp --icmp-type echo-request -j ACCEPT
-A SERVICES -p 47
COMMIT
";

/// Frames at each hook; each run starts at the seed that it names.
const FRAMES: usize = 4_000;

/// A small generator of numbers (splitmix64): the same seed, the same frames.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }
}

/// The tags that packets of SCTP carry which come in by each port, all of one
/// association or none.
const TAGS: [u32; 2] = [0x5e2f_0001, 0x0c11_0002];

/// One or two chunks; an INIT tells `tag`.
fn some_chunks(random: &mut Random, tag: u32) -> Vec<u8> {
    let mut chunks = Vec::new();
    for _ in 0..=random.below(5) / 4 {
        let kind = random.of(&[0, 1, 1, 2, 2, 3, 4, 5, 6, 7, 8, 9, 10, 10, 11, 11, 14, 192]);
        let mut value = tag.to_be_bytes().to_vec();
        value.resize(if matches!(kind, 1 | 2) { 16 } else { 4 }, 1);
        chunks.extend([kind, random.below(2) as u8, 0, 4 + value.len() as u8]);
        chunks.extend(value);
    }
    chunks
}

/// A frame of some conversation, and the port (0 or 1) that it comes in by.
fn some_frame(random: &mut Random, earlier: &[Frame]) -> (Frame, usize) {
    const CLIENTS: [&str; 2] = ["192.0.2.2", "192.0.2.3"];
    const SERVERS: [&str; 3] = ["198.51.100.2", "198.51.100.3", "192.0.2.1"];
    let (client, server) = (random.of(&CLIENTS), random.of(&SERVERS));
    let port = random.below(2) as usize;
    let (src, dst) = if port == 0 { (client, server) } else { (server, client) };
    let ephemeral = 40_000 + random.below(20) as u16;
    let service = random.of(&[21, 22, 53, 80, 8_005, 9_000]);
    let (sport, dport) = if port == 0 { (ephemeral, service) } else { (service, ephemeral) };
    let frame = Frame::between(src, dst);
    let frame = match random.below(15) {
        0 => frame.udp(sport, dport).payload(b"question"),
        1 => frame.icmp(random.of(&[0, 8, 13, 14, 5, 42]), 0, ephemeral),
        2 if !earlier.is_empty() => {
            let quoted = &earlier[random.below(earlier.len() as u64) as usize];
            frame.icmp_error(random.of(&[3, 11, 12]), random.of(&[0, 1, 3, 4]), quoted)
        }
        3 => frame.protocol(random.of(&[33, 50, 89])).payload(&[7; 24]),
        // GRE, plain and of PPTP with its call.
        11 => frame.protocol(47).payload(random.of(&[
            &[0, 0, 8, 0, 1, 2, 3, 4],
            &[0x20, 1, 0x88, 0x0b, 0, 0, 0, 7],
            &[0x20, 1, 8, 0, 0, 0, 0, 7],
        ])),
        4 => frame.tcp(sport, dport, ACK | PSH).payload(&[b'x'; 44]).fragment(
            0,
            true,
            ephemeral.into(),
        ),
        12 | 13 => {
            let tag = random.of(&[0, TAGS[port], TAGS[1 - port]]);
            let frame = frame.sctp(sport, dport, tag);
            let frame = frame.payload(&some_chunks(random, TAGS[1 - port]));
            if random.below(10) == 0 { frame.spoilt() } else { frame }
        }
        14 => frame.udplite(sport, dport).payload(b"question"),
        5 => frame.protocol(6).payload(&[b'y'; 32]).fragment(8, false, ephemeral.into()),
        _ => {
            let flags =
                random.of(&[SYN, SYN | ACK, ACK, ACK | PSH, FIN | ACK, RST, RST | ACK, 0, 0x3f]);
            frame.tcp(sport, dport, flags)
        }
    };
    (frame, port)
}

fn agree(way: Way) {
    // The other way through the code is that of flows that are watched.
    for reports in [0, option::REPORT_FLOWS] {
        agree_with(way, reports);
    }
}

fn agree_with(way: Way, reports: u32) {
    needs!(capability::namespaces(), capability::program("nft"));
    mount_bpffs().unwrap();
    let gateway = Gateway::new().unwrap();
    let pins = Pins::new(format!("/sys/fs/bpf/{}", gateway.netns.name()));
    let outcome = std::panic::catch_unwind(|| gateway.netns.enter(|| compare(way, reports, &pins)));
    pins.remove().unwrap();
    outcome.unwrap().unwrap();
}

fn compare(way: Way, reports: u32, pins: &Pins) -> Result<()> {
    let bits = option::TCP_LOOSE | option::CHECKSUM | reports;
    let options = Options { bits, ..Options::default() };
    let mut bench = Bench::new(pins, way, [RULES, ""], options)?;
    let mut random = Random(2_121);
    let mut earlier: Vec<Frame> = Vec::new();
    for _ in 0..FRAMES {
        let (frame, port) = some_frame(&mut random, &earlier);
        let bytes = frame.clone().macs([2, 0, 0, 0, 0, 1], bench.mac(port)).build();
        bench.compare(&frame, &bytes, port)?;
        earlier.push(frame);
    }
    let flows = bench.compare_tables()?;
    ensure!(flows > 50, "{flows} flows");
    if reports != 0 {
        let changes = bench.compare_flow_events(pins)?;
        ensure!(changes.iter().all(|count| *count > 10), "{changes:?}");
    }
    Ok(())
}

#[test]
fn xdp_and_the_model_agree_about_every_frame() {
    agree(Way::Xdp);
}

#[test]
fn tc_ingress_and_the_model_agree_about_every_frame() {
    agree(Way::TcIngress);
}

#[test]
fn tc_egress_and_the_model_agree_about_every_frame() {
    agree(Way::TcEgress);
}

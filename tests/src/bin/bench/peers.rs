//! The programs to measure with and against, loaded.

use std::path::Path;

use anyhow::{Context as _, Result};
use aya::{
    Ebpf, EbpfLoader, include_bytes_aligned,
    maps::{Array, HashMap, MapData, PerCpuArray, ProgramArray},
    programs::{ProgramFd, ProgramInfo, TestRun, TestRunAttrs, TestRunOptions, Xdp, XdpMode},
};
use bytemuck::{Pod, Zeroable};
use firewall_common::{
    bench::{MEASURED, PACE, Pace, Seen, Traffic},
    flow::Flow,
    ipv4_key::Ipv4Key,
    time::Nanos,
};

use firewall_user::kernel::pins::Pins;

use crate::traffic::Packets;

static OBJECT: &[u8] = include_bytes_aligned!(env!("FIREWALL_PEERS_OBJECT"));

/// What `shape` hands its packets to.
#[derive(Clone, Copy, Debug)]
pub enum Target<'a> {
    /// One of the bench's own.
    Peer(&'a str),
    /// The firewall's.
    Firewall(&'a ProgramFd),
}

/// A value whose bytes are all there is to it.
#[repr(transparent)]
#[derive(Clone, Copy, Debug)]
struct Raw<T>(T);

// SAFETY: `bytemuck::Pod` promises what aya asks for.
unsafe impl<T: Pod> aya::Pod for Raw<T> {}

/// The programs, with maps of their own.
#[derive(Debug)]
pub struct Peers {
    ebpf: Ebpf,
}

/// `struct xdp_md`.
#[repr(C)]
#[derive(Clone, Copy, Default, Pod, Zeroable)]
struct Context {
    data: u32,
    data_end: u32,
    data_meta: u32,
    ingress_ifindex: u32,
    rx_queue_index: u32,
    egress_ifindex: u32,
}

const PROGRAMS: [&str; 11] = [
    "shape", "shape6", "send", "sink", "pass", "drop_all", "parse", "look_up", "block", "router",
    "router6",
];

impl Peers {
    /// With room for so many flows and prefixes.
    pub fn load(flows: u32, prefixes: u32) -> Result<Self> {
        let mut ebpf = EbpfLoader::new()
            .map_max_entries("flows", flows)
            .map_max_entries("blocked", prefixes)
            .load(OBJECT)
            .context("cannot load the programs of the bench")?;
        for name in PROGRAMS {
            xdp(&mut ebpf, name)?.load().with_context(|| format!("cannot load {name}"))?;
        }
        Ok(Self { ebpf })
    }

    /// Flows for `look_up` to find.
    pub fn know(&mut self, keys: impl Iterator<Item = Ipv4Key>) -> Result<()> {
        let mut flows = HashMap::<_, Raw<Ipv4Key>, Raw<Flow>>::try_from(self.map("flows")?)?;
        for key in keys {
            flows.insert(Raw(key), Raw(Flow { expires: Nanos(1), ..Flow::zeroed() }), 0)?;
        }
        Ok(())
    }

    /// What the next packets are.
    pub fn make(&mut self, packets: &Packets) -> Result<()> {
        let mut traffic = Array::<_, Raw<Traffic>>::try_from(self.map("traffic")?)?;
        Ok(traffic.set(0, Raw(packets.traffic), 0)?)
    }

    /// Who gets them.
    pub fn aim(&mut self, target: &Target<'_>) -> Result<()> {
        let fd = match target {
            Target::Peer(name) => xdp(&mut self.ebpf, name)?.fd()?.try_clone()?,
            Target::Firewall(program) => program.try_clone()?,
        };
        let mut targets = ProgramArray::try_from(self.map("measured")?)?;
        Ok(targets.set(MEASURED, &fd, 0)?)
    }

    /// Makes so many packets, as if they came in by an interface of the calling thread's
    /// namespace, and hands them on; gives the nanoseconds for each, and what became of the
    /// last one.
    pub fn run(&mut self, packets: &Packets, ifindex: u32, count: u32) -> Result<(f64, u32)> {
        let context = Context {
            data_end: packets.frame.len() as u32,
            ingress_ifindex: ifindex,
            ..Context::default()
        };
        let run = xdp(&mut self.ebpf, packets.maker)?.test_run(TestRunOptions {
            data_in: Some(&packets.frame),
            ctx_in: Some(bytemuck::bytes_of(&context)),
            repeat: count,
            ..TestRunOptions::default()
        })?;
        Ok((run.duration.as_nanos() as f64, run.return_value))
    }

    /// Makes so many packets and sends them by the interface that they name; gives the nanoseconds
    /// for each, from the first one to the last batch of them.
    pub fn send(&mut self, packets: &Packets, count: u32) -> Result<f64> {
        /// What the kernel takes at once.
        const BATCH: u32 = PACE as u32;
        self.paces()?.set(0, Raw(Pace::default()), 0)?;
        let context = Context { data_end: packets.frame.len() as u32, ..Context::default() };
        xdp(&mut self.ebpf, packets.maker)?.test_run(TestRunOptions {
            data_in: Some(&packets.frame),
            ctx_in: Some(bytemuck::bytes_of(&context)),
            repeat: count,
            attrs: TestRunAttrs::new().xdp_live_frames(BATCH),
            ..TestRunOptions::default()
        })?;
        let pace = self.paces()?.get(&0, 0)?.0;
        pace.nanoseconds().with_context(|| format!("{} packets are too few", pace.sent))
    }

    fn paces(&mut self) -> Result<Array<&mut MapData, Raw<Pace>>> {
        Ok(Array::try_from(self.map("pace")?)?)
    }

    /// Attaches a program natively to an interface of the calling thread's namespace, until
    /// these programs go.
    pub fn attach(&mut self, name: &str, interface: &str) -> Result<()> {
        xdp(&mut self.ebpf, name)?
            .attach(interface, XdpMode::Driver)
            .with_context(|| format!("cannot attach {name} to {interface}"))?;
        Ok(())
    }

    /// What the sinks have seen so far.
    pub fn seen(&mut self) -> Result<Seen> {
        let counts = PerCpuArray::<_, Raw<Seen>>::try_from(self.map("seen")?)?;
        let mut all = Seen::default();
        for one in counts.get(&0, 0)?.iter() {
            all.packets += one.0.packets;
            all.bytes += one.0.bytes;
        }
        Ok(all)
    }

    fn map(&mut self, name: &str) -> Result<&mut aya::maps::Map> {
        self.ebpf.map_mut(name).with_context(|| format!("no map {name}"))
    }
}

/// The firewall's program, as it is pinned.
pub fn firewall(pin: &Path) -> Result<ProgramFd> {
    let path = Pins::new(pin).program("firewall_xdp");
    let info = ProgramInfo::from_pin(&path)
        .with_context(|| format!("the firewall has pinned no {}", path.display()))?;
    Ok(info.fd()?)
}

fn xdp<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp> {
    Ok(ebpf.program_mut(name).with_context(|| format!("no program {name}"))?.try_into()?)
}

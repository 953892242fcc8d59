//! The programs themselves on a stage of their own: what they would do with a packet,
//! without doing it.
//!
//! The rules, interfaces and ports with a helper are those in force; programs only read
//! them. Everything that programs write (flows, expectations, counters, rings, budgets)
//! is private to the rehearsal, and holds what [`Rehearsal::put_flow`] and the like have
//! put there. So the object that enforces also explains, byte for byte, and nothing that
//! it does here is seen anywhere else.

use anyhow::{Context, Result, bail};
use aya::{
    EbpfLoader,
    maps::{Array, HashMap, MapData, PerCpuArray, PerCpuValues},
    programs::Program,
};
use bytemuck::Zeroable;
use firewall_common::{
    control::{Options, option},
    event::Hook,
    expectation::{Expectation, ExpectationKey},
    extra::EXTRAS_PER_GENERATION,
    flow::{Flow, FlowKey},
    ipv4_key::Ipv4Key,
    nat::Translation,
    scratch::Scratch,
    tables::FlowTable,
    verdict::STAT_PLACES,
};

use super::{
    families::{Names, TRANSLATIONS, flow_names},
    load::{OBJECT, Programs, refused},
    maps::{Maps, cpus, get, zeroes},
    raw::Raw,
};

/// The maps of the instance: nothing that programs write, but in sets, of which
/// [`option::REHEARSAL`] says that they stay.
const SHARED: [&str; 19] = [
    "awaited",
    "clock",
    "devices",
    "extras",
    "first_devices",
    "generation",
    "heartbeat",
    "helper_ports",
    "patterns",
    "port_sets",
    "rule_index",
    "rules",
    "rulesets",
    "set_changes",
    "SET_ENTRIES",
    "set_hosts",
    "set_slots",
    "sets",
    "timeouts",
];

const TABLES: [FlowTable; 2] = [FlowTable::Assured, FlowTable::Embryonic];

/// Entries of a private table: one packet concerns a handful.
const FEW: u32 = 64;

/// As few hints as there can be, as the binary logarithm: nothing has been remembered here.
const HINT_BITS: u32 = 1;

/// A program's desk after the packet.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Desk(Scratch);

// SAFETY: the map holds what a program wrote as this type, or zeroes, which are a value
// of it.
unsafe impl aya::Pod for Desk {}

/// Which program sees the packet, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Xdp {
        ifindex: u32,
    },
    TcIngress {
        ifindex: u32,
    },
    /// `from` is the interface by which it came in, 0 for a packet of this host.
    TcEgress {
        ifindex: u32,
        from: u32,
    },
}

impl Stage {
    const fn program(self) -> &'static str {
        match self {
            Self::Xdp { .. } => "firewall_xdp",
            Self::TcIngress { .. } => "firewall_ingress",
            Self::TcEgress { .. } => "firewall_egress",
        }
    }

    /// The desk of that program.
    const fn desk(self) -> u32 {
        match self {
            Self::Xdp { .. } => 0,
            Self::TcIngress { .. } => 1,
            Self::TcEgress { .. } => 2,
        }
    }
}

/// What a packet has moved.
#[derive(Debug)]
pub struct Performance {
    /// By how much each place of the `stats` map.
    pub stats: [u64; STAT_PLACES],
    pub scratch: Box<Scratch>,
}

/// The programs, loaded once more and attached nowhere.
#[derive(Debug)]
pub struct Rehearsal {
    programs: Programs,
}

impl Rehearsal {
    /// Prepares the stage; programs are verified when they are first needed.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn prepare(maps: &Maps) -> Result<Self> {
        let mut loader = EbpfLoader::new();
        for name in SHARED {
            loader.map_pin_path(name, maps.pins().map(name));
        }
        let counted = maps.counted()?;
        let translations = TRANSLATIONS.concat();
        for name in ["expectations", "masters", "fragments"].iter().chain(&translations) {
            loader.map_max_entries(name, FEW);
        }
        loader.map_max_entries("hints", 1 << HINT_BITS);
        loader.override_global("HINT_BITS", &HINT_BITS, true);
        let mappings = maps.mappings()?;
        loader.map_max_entries("mappings", FEW + mappings.len() as u32);
        // And the connections that limits count.
        let flows = TABLES.map(flow_names).concat();
        for name in &flows {
            loader.map_max_entries(name, FEW + counted.len() as u32);
        }
        let ebpf = loader.load(OBJECT).context("cannot make the maps of a rehearsal")?;
        let mut rehearsal = Self { programs: Programs { ebpf } };
        let mut options = maps.options()?;
        // Nobody watches here.
        options.bits &= !(option::REPORT_DROPS | option::REPORT_FLOWS | option::REMEMBER_DROPS);
        // Sets are those in force, and stay as they are.
        options.bits |= option::REHEARSAL;
        rehearsal.array::<Options>("options")?.set(0, Raw(options), 0)?;
        // Limits and counts stand where they stand.
        let kept = maps.extra_memory(0, 2 * EXTRAS_PER_GENERATION as usize)?;
        for (at, word) in (0..).zip(kept).filter(|(_, word)| *word != 0) {
            rehearsal.array::<u64>("extra_memory")?.set(at, Raw(word), 0)?;
        }
        for (at, word) in (0..).zip(maps.faces()?) {
            rehearsal.array::<u64>("faces")?.set(at, Raw(word), 0)?;
        }
        for (key, mapping) in mappings {
            rehearsal.hash("mappings")?.insert(Raw(key), Raw(mapping), 0)?;
        }
        for (key, (place, flow)) in counted {
            rehearsal.hash("counted")?.insert(Raw(key), Raw(place), 0)?;
            if let Some((table, flow)) = flow {
                rehearsal.put_flow(table, place.flow, flow)?;
            }
        }
        for (key, spent) in maps.buckets()? {
            rehearsal.hash("buckets")?.insert(Raw(key), Raw(spent), 0)?;
        }
        for (key, entry) in maps.recent()? {
            rehearsal.hash("recent")?.insert(Raw(key), Raw(entry), 0)?;
        }
        Ok(rehearsal)
    }

    /// # Errors
    /// When the map cannot be written.
    pub fn put_flow(&mut self, table: FlowTable, key: FlowKey, flow: Flow) -> Result<()> {
        self.put_by_family(flow_names(table), key, flow)
    }

    /// # Errors
    /// As [`Rehearsal::put_flow`].
    pub fn put_expectation(&mut self, key: ExpectationKey, value: Expectation) -> Result<()> {
        Ok(self.hash("expectations")?.insert(Raw(key), Raw(value), 0)?)
    }

    /// The way in from a wire face.
    ///
    /// # Errors
    /// As [`Rehearsal::put_flow`].
    pub fn put_translation(&mut self, wire: FlowKey, way: Translation) -> Result<()> {
        let [confirmed, _] = TRANSLATIONS;
        self.put_by_family(confirmed, wire, way)
    }

    fn put_by_family<V: bytemuck::Pod>(
        &mut self,
        [ipv4, ipv6]: Names,
        key: FlowKey,
        value: V,
    ) -> Result<()> {
        match key.ipv4() {
            Some(key) => Ok(self.hash(ipv4)?.insert(Raw(*key), Raw(value), 0)?),
            None => Ok(self.hash(ipv6)?.insert(Raw(key), Raw(value), 0)?),
        }
    }

    /// A flow as the packets have left it.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn flow(&mut self, key: &FlowKey) -> Result<Option<(FlowTable, Flow)>> {
        for table in TABLES {
            let [ipv4, ipv6] = flow_names(table);
            let flow = match key.ipv4() {
                Some(key) => get(&self.hash::<Ipv4Key, Flow>(ipv4)?, key)?,
                None => get(&self.hash::<FlowKey, Flow>(ipv6)?, key)?,
            };
            if let Some(flow) = flow {
                return Ok(Some((table, flow)));
            }
        }
        Ok(None)
    }

    /// Shows a frame to a program, in the network namespace of the calling thread.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn play(&mut self, stage: Stage, frame: &[u8]) -> Result<Performance> {
        self.load(stage.program())?;
        let cpus = cpus()?;
        self.per_cpu::<Raw<[u64; STAT_PLACES]>>("stats")?.set(0, zeroes(cpus)?, 0)?;
        let blank = PerCpuValues::try_from(vec![Desk(Scratch::zeroed()); cpus])?;
        self.per_cpu::<Desk>("scratch")?.set(stage.desk(), blank, 0)?;
        match stage {
            Stage::Xdp { ifindex } => self.programs.try_xdp(frame, ifindex, 1)?,
            Stage::TcIngress { ifindex } => {
                self.programs.try_tc(Hook::Ingress, frame, ifindex, 1)?
            }
            Stage::TcEgress { ifindex, from } => {
                self.programs.try_tc_from(Hook::Egress, frame, ifindex, from, 1)?
            }
        };
        let mut stats = [0; STAT_PLACES];
        for cpu in self.per_cpu::<Raw<[u64; STAT_PLACES]>>("stats")?.get(&0, 0)?.iter() {
            for (sum, value) in stats.iter_mut().zip(cpu.0) {
                *sum += value;
            }
        }
        let desks = self.per_cpu::<Desk>("scratch")?.get(&stage.desk(), 0)?;
        let Some(desk) = desks.iter().find(|desk| desk.0.headers.version != 0) else {
            bail!("{} has not looked at the packet", stage.program());
        };
        Ok(Performance { stats, scratch: Box::new(desk.0) })
    }

    /// Has the kernel verify a program, once.
    fn load(&mut self, name: &str) -> Result<()> {
        let program = self.programs.ebpf.program_mut(name).context("a program of the object")?;
        let loaded = match program {
            Program::Xdp(program) if program.fd().is_err() => program.load(),
            Program::SchedClassifier(program) if program.fd().is_err() => program.load(),
            _ => Ok(()),
        };
        loaded.map_err(|error| refused(name, &error))
    }

    fn hash<K: bytemuck::Pod, V: bytemuck::Pod>(
        &mut self,
        name: &str,
    ) -> Result<HashMap<&mut MapData, Raw<K>, Raw<V>>> {
        Ok(self.map(name)?.try_into()?)
    }

    fn array<V: bytemuck::Pod>(&mut self, name: &str) -> Result<Array<&mut MapData, Raw<V>>> {
        Ok(self.map(name)?.try_into()?)
    }

    fn per_cpu<V: aya::Pod>(&mut self, name: &str) -> Result<PerCpuArray<&mut MapData, V>> {
        Ok(self.map(name)?.try_into()?)
    }

    fn map(&mut self, name: &str) -> Result<&mut aya::maps::Map> {
        self.programs.ebpf.map_mut(name).with_context(|| format!("the object lacks map {name}"))
    }
}

//! The pinned maps, by what stands in them. Whoever may read the pins can open
//! them: the daemon and each command alike.

use std::{
    borrow::Borrow,
    collections::BTreeMap,
    io,
    ops::ControlFlow,
    os::fd::OwnedFd,
    time::{Duration, SystemTime},
};

use anyhow::{Context, Result, bail};
use aya::maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray, PerCpuValues};
use bytemuck::Pod;
use firewall_common::{
    control::{Device, FIRST_DEVICES, Options, Timeouts, device},
    expectation::{Expectation, ExpectationKey, Master},
    flow::{Flow, FlowKey, helper, protocol, status},
    helper_stats::HelperStats,
    nat::{FACE_WORDS, Mapping, MappingKey, Translation},
    shift::Shifts,
    tables::FlowTable,
    time::Nanos,
    verdict::{STAT_PLACES, spread},
};
use nix::time::{ClockId, clock_gettime};

use super::{
    batch,
    families::{ByFamily, TRANSLATIONS, flow_names},
    flows::FlowTables,
    pins::Pins,
    raw::Raw,
};

/// The maps of an instance.
#[derive(Clone, Debug)]
pub struct Maps {
    pins: Pins,
}

/// The coarse monotonic clock, as the programs read it.
pub fn now() -> Nanos {
    read(ClockId::CLOCK_MONOTONIC_COARSE)
}

/// The same clock, to the nanosecond: what it tells differs from [`now`] by a tick.
pub fn precise_now() -> Nanos {
    read(ClockId::CLOCK_MONOTONIC)
}

/// When something happened, by the wall clock as it is set now. Both clocks step
/// together: two things of one moment have one time.
pub fn wall_time(at: Nanos) -> SystemTime {
    let age = now().since(at);
    SystemTime::UNIX_EPOCH + Duration::from_nanos(read(ClockId::CLOCK_REALTIME_COARSE).since(age).0)
}

fn read(clock: ClockId) -> Nanos {
    match clock_gettime(clock) {
        Ok(time) => Nanos(time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64),
        Err(_) => Nanos::ZERO,
    }
}

impl Maps {
    /// # Errors
    /// When no firewall has its maps there.
    pub fn open(pins: &Pins) -> Result<Self> {
        if !pins.exists() {
            bail!(
                "no firewall is loaded at {}: start one with `firewall run`, or name the \
                 directory of a running one with --pin or FIREWALL_PIN",
                pins.root().display()
            );
        }
        Ok(Self { pins: pins.clone() })
    }

    pub const fn pins(&self) -> &Pins {
        &self.pins
    }

    pub(super) fn data(&self, name: &str) -> Result<MapData> {
        MapData::from_pin(self.pins.map(name)).with_context(|| format!("cannot open map {name}"))
    }

    /// A map for those who need to know nothing about it, which saves a question.
    pub(super) fn open_map(&self, name: &str) -> Result<OwnedFd> {
        batch::open(&self.pins.map(name)).with_context(|| format!("cannot open map {name}"))
    }

    fn map(&self, name: &str) -> Result<Map> {
        Ok(Map::from_map_data(self.data(name)?)?)
    }

    pub(super) fn hash<K: Pod, V: Pod>(
        &self,
        name: &str,
    ) -> Result<HashMap<MapData, Raw<K>, Raw<V>>> {
        self.map(name)?.try_into().with_context(|| format!("map {name} is of another kind"))
    }

    pub(super) fn array<V: Pod>(&self, name: &str) -> Result<Array<MapData, Raw<V>>> {
        self.map(name)?.try_into().with_context(|| format!("map {name} is of another kind"))
    }

    pub(super) fn per_cpu<V: Pod>(&self, name: &str) -> Result<PerCpuArray<MapData, Raw<V>>> {
        self.map(name)?.try_into().with_context(|| format!("map {name} is of another kind"))
    }

    /// All entries of a hash map.
    pub(super) fn entries<K: Pod, V: Pod>(&self, name: &str) -> Result<Vec<(K, V)>> {
        let data = self.data(name)?;
        let mut entries = Vec::new();
        batch::for_each(data.fd(), |key: &K, value: &V| entries.push((*key, *value)))
            .with_context(|| format!("cannot read map {name}"))?;
        Ok(entries)
    }

    pub(super) fn single<V: Pod>(&self, name: &str) -> Result<V> {
        let value = batch::get(self.open_map(name)?, &0u32);
        let value = value.with_context(|| format!("cannot read map {name}"))?;
        value.with_context(|| format!("map {name} is empty"))
    }

    pub(super) fn set_single<V: Pod>(&self, name: &str, value: V) -> Result<()> {
        batch::put(self.open_map(name)?, &0u32, &value)
            .with_context(|| format!("cannot write map {name}"))
    }

    pub fn options(&self) -> Result<Options> {
        self.single("options")
    }

    /// Whoever is not alone with the instance uses [`Maps::change_options`].
    pub fn set_options(&self, options: Options) -> Result<()> {
        self.set_single("options", options)
    }

    pub fn heartbeat(&self) -> Result<Nanos> {
        self.single("heartbeat")
    }

    pub fn set_heartbeat(&self, at: Nanos) -> Result<()> {
        self.set_single("heartbeat", at)
    }

    /// Whoever is not alone with the instance uses [`Maps::change_settings`].
    pub fn set_timeouts(&self, timeouts: Timeouts) -> Result<()> {
        self.set_single("timeouts", timeouts)
    }

    pub fn timeouts(&self) -> Result<Timeouts> {
        self.single("timeouts")
    }

    /// Each port that has a helper, with that; one that has a helper of TCP and one of UDP
    /// stands here twice.
    pub fn helper_ports(&self) -> Result<Vec<(u16, u8)>> {
        let map = self.array::<u8>("helper_ports")?;
        let mut ports = Vec::new();
        for port in 0..=u16::MAX {
            let entry = map.get(&u32::from(port), 0)?.0;
            let helpers = [protocol::TCP, protocol::UDP].map(|it| helper::of_port(entry, it));
            ports.extend(helpers.into_iter().filter(|it| *it != helper::NONE).map(|it| (port, it)));
        }
        Ok(ports)
    }

    /// Gives each of these ports its helper, and no other port one.
    pub fn set_helper_ports(&self, ports: &[(u16, u8)]) -> Result<()> {
        let mut wanted = BTreeMap::new();
        for (port, helper) in ports {
            let entry = wanted.entry(*port).or_insert(helper::NONE);
            *entry = helper::with(*entry, *helper);
        }
        let mut map = self.array::<u8>("helper_ports")?;
        for (port, _) in self.helper_ports()? {
            wanted.entry(port).or_insert(helper::NONE);
        }
        for (port, entry) in wanted {
            map.set(u32::from(port), Raw(entry), 0)?;
        }
        Ok(())
    }

    /// How the helpers fared.
    pub fn helper_stats(&self) -> Result<HelperStats> {
        self.single("helper_stats")
    }

    /// Only the daemon does this.
    pub fn set_helper_stats(&self, stats: HelperStats) -> Result<()> {
        self.set_single("helper_stats", stats)
    }

    pub fn devices(&self) -> Result<Vec<(u32, Device)>> {
        let first = self.open_map("first_devices")?;
        let first: Vec<Device> = batch::read_array(first, 0, FIRST_DEVICES as usize, 1)
            .context("cannot read map first_devices")?;
        let first = (0..).zip(first).filter_map(|(ifindex, found)| Some((ifindex, there(found)?)));
        let mut all: Vec<_> = first.collect();
        batch::for_each_of_few(self.open_map("devices")?, |ifindex: &u32, device: &Device| {
            all.push((*ifindex, *device));
        })
        .context("cannot read map devices")?;
        Ok(all)
    }

    pub fn set_device(&self, ifindex: u32, mut device: Device) -> Result<()> {
        let mut name = "devices";
        if ifindex < FIRST_DEVICES {
            device.flags |= device::THERE;
            name = "first_devices";
        }
        batch::put(self.open_map(name)?, &ifindex, &device)
            .with_context(|| format!("cannot write map {name}"))
    }

    pub fn remove_device(&self, ifindex: u32) -> Result<()> {
        if ifindex < FIRST_DEVICES {
            let nobody = Device::default();
            return batch::put(self.open_map("first_devices")?, &ifindex, &nobody)
                .context("cannot write map first_devices");
        }
        remove(&mut self.hash::<u32, Device>("devices")?, ifindex).map(drop)
    }

    /// Has every flow ask the routing table again. The daemon alone calls it.
    pub fn raise_epoch(&self) -> Result<()> {
        self.set_single("epoch", self.epoch()?.wrapping_add(1))
    }

    /// How often that has happened.
    pub fn epoch(&self) -> Result<u32> {
        self.single("epoch")
    }

    /// The value of each place of the `stats` map, summed over the CPUs.
    pub fn stats(&self) -> Result<[u64; STAT_PLACES]> {
        let cpus = self.per_cpu::<[u64; STAT_PLACES]>("stats")?.get(&0, 0)?;
        let mut sums = [0u64; STAT_PLACES];
        for cpu in cpus.iter() {
            for (sum, value) in sums.iter_mut().zip(&cpu.0) {
                *sum = sum.wrapping_add(*value);
            }
        }
        spread(&mut sums);
        Ok(sums)
    }

    /// The value of each place of the `stats` map, for each CPU.
    pub fn stats_by_cpu(&self) -> Result<Vec<[u64; STAT_PLACES]>> {
        let cpus = self.per_cpu::<[u64; STAT_PLACES]>("stats")?.get(&0, 0)?;
        let mut cpus: Vec<_> = cpus.iter().map(|cpu| cpu.0).collect();
        cpus.iter_mut().for_each(spread);
        Ok(cpus)
    }

    /// The live flows of both tables.
    pub fn flows(&self, now: Nanos) -> Result<Vec<(FlowTable, FlowKey, Flow)>> {
        let mut flows = Vec::new();
        FlowTables::open(self)?.for_each(now, |table, key, flow| {
            flows.push((table, *key, *flow));
            ControlFlow::Continue(())
        })?;
        Ok(flows)
    }

    /// A live flow.
    pub fn flow(&self, key: &FlowKey, now: Nanos) -> Result<Option<(FlowTable, Flow)>> {
        for table in [FlowTable::Assured, FlowTable::Embryonic] {
            let found = ByFamily::<Flow>::open(self, flow_names(table))?.get(key)?;
            if let Some(flow) = found.filter(|flow| !flow.is_expired(now)) {
                return Ok(Some((table, flow)));
            }
        }
        Ok(None)
    }

    /// The way in under a wire face, whether its flow lives or not.
    pub fn translation(&self, wire: &FlowKey) -> Result<Option<Translation>> {
        for names in TRANSLATIONS {
            if let Some(translation) = ByFamily::open(self, names)?.get(wire)? {
                return Ok(Some(translation));
            }
        }
        Ok(None)
    }

    /// The outside ports that inside endpoints keep, and that they may have lost.
    pub(super) fn mappings(&self) -> Result<Vec<(MappingKey, Mapping)>> {
        self.entries("mappings")
    }

    /// The words of the table `faces`.
    pub(super) fn faces(&self) -> Result<Vec<u64>> {
        batch::read_array(self.data("faces")?.fd(), 0, FACE_WORDS as usize, 1)
            .context("cannot read map faces")
    }

    /// Notes whether this control connection is encrypted.
    pub fn mark_encrypted(&self, key: &FlowKey, is_encrypted: bool, now: Nanos) -> Result<()> {
        if let Some((table, mut flow)) = self.flow(key, now)? {
            match is_encrypted {
                true => flow.status |= status::ENCRYPTED,
                false => flow.status &= !status::ENCRYPTED,
            }
            // Its peers wait for the answer that is held: nothing changes it meanwhile.
            ByFamily::open(self, flow_names(table))?.replace(key, &flow)?;
        }
        Ok(())
    }

    pub fn expectations(&self, now: Nanos) -> Result<Vec<(ExpectationKey, Expectation)>> {
        let mut all = self.entries::<ExpectationKey, Expectation>("expectations")?;
        all.retain(|(_, expectation)| expectation.expires.is_after(now));
        Ok(all)
    }

    /// Announced flows with their control connections; an entry may outlive its flow.
    pub fn masters(&self) -> Result<Vec<(FlowKey, Master)>> {
        self.entries("masters")
    }

    /// Takes every expectation out.
    pub fn forget_expectations(&self) -> Result<()> {
        let data = self.data("expectations")?;
        batch::take_all(data.fd(), |_: &ExpectationKey, _: &Expectation| {})
            .context("cannot empty map expectations")
    }
}

/// The expectations, kept open for the helper.
#[derive(Debug)]
pub struct Expectations(HashMap<MapData, Raw<ExpectationKey>, Raw<Expectation>>);

impl Expectations {
    /// # Errors
    /// When the map cannot be opened.
    pub fn open(maps: &Maps) -> Result<Self> {
        Ok(Self(maps.hash("expectations")?))
    }

    pub fn get(&self, key: &ExpectationKey) -> Result<Option<Expectation>> {
        get(&self.0, key)
    }

    pub fn insert(&mut self, key: ExpectationKey, value: Expectation) -> Result<()> {
        insert(&mut self.0, key, value)
    }

    /// `false` when it was gone.
    pub fn remove(&mut self, key: &ExpectationKey) -> Result<bool> {
        remove(&mut self.0, *key)
    }
}

/// The shifts of control connections, kept open for the helper, which alone writes them.
#[derive(Debug)]
pub struct SequenceShifts(HashMap<MapData, Raw<FlowKey>, Raw<Shifts>>);

impl SequenceShifts {
    /// # Errors
    /// When the map cannot be opened.
    pub fn open(maps: &Maps) -> Result<Self> {
        Ok(Self(maps.hash("sequence_shifts")?))
    }

    pub fn get(&self, key: &FlowKey) -> Result<Option<Shifts>> {
        get(&self.0, key)
    }

    pub fn insert(&mut self, key: FlowKey, shifts: Shifts) -> Result<()> {
        insert(&mut self.0, key, shifts)
    }

    pub fn remove(&mut self, key: &FlowKey) -> Result<bool> {
        remove(&mut self.0, *key)
    }

    pub fn keys(&self) -> Result<Vec<FlowKey>> {
        self.0.keys().map(|key| Ok(key?.0)).collect()
    }
}

/// The flow tables, kept open for the helper.
#[derive(Debug)]
pub struct Flows([ByFamily<Flow>; 2]);

impl Flows {
    /// # Errors
    /// When the maps cannot be opened.
    pub fn open(maps: &Maps) -> Result<Self> {
        let open = |table| ByFamily::open(maps, flow_names(table));
        Ok(Self([open(FlowTable::Assured)?, open(FlowTable::Embryonic)?]))
    }

    /// A live flow.
    pub fn get(&self, key: &FlowKey, now: Nanos) -> Result<Option<Flow>> {
        for table in &self.0 {
            if let Some(flow) = table.get(key)?.filter(|flow| !flow.is_expired(now)) {
                return Ok(Some(flow));
            }
        }
        Ok(None)
    }
}

/// The interfaces, kept open for the helper.
#[derive(Debug)]
pub struct Devices {
    first: OwnedFd,
    others: HashMap<MapData, Raw<u32>, Raw<Device>>,
}

impl Devices {
    /// # Errors
    /// When the map cannot be opened.
    pub fn open(maps: &Maps) -> Result<Self> {
        Ok(Self { first: maps.open_map("first_devices")?, others: maps.hash("devices")? })
    }

    pub fn get(&self, ifindex: u32) -> Result<Option<Device>> {
        match ifindex < FIRST_DEVICES {
            true => Ok(batch::get(&self.first, &ifindex)?.and_then(there)),
            false => get(&self.others, &ifindex),
        }
    }
}

/// What stands at a place of `first_devices`, if there is such an interface.
fn there(mut found: Device) -> Option<Device> {
    let is_there = found.flags & device::THERE != 0;
    found.flags &= !device::THERE;
    is_there.then_some(found)
}

pub(super) fn get<T: Borrow<MapData>, K: Pod, V: Pod>(
    map: &HashMap<T, Raw<K>, Raw<V>>,
    key: &K,
) -> Result<Option<V>> {
    match map.get(&Raw(*key), 0) {
        Ok(value) => Ok(Some(value.0)),
        Err(MapError::KeyNotFound) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

pub(super) fn insert<K: Pod, V: Pod>(
    map: &mut HashMap<MapData, Raw<K>, Raw<V>>,
    key: K,
    value: V,
) -> Result<()> {
    Ok(map.insert(Raw(key), Raw(value), 0)?)
}

pub(super) fn remove<K: Pod, V: Pod>(
    map: &mut HashMap<MapData, Raw<K>, Raw<V>>,
    key: K,
) -> Result<bool> {
    match map.remove(&Raw(key)) {
        Ok(()) => Ok(true),
        Err(MapError::KeyNotFound) => Ok(false),
        Err(MapError::SyscallError(error)) if error.io_error.kind() == io::ErrorKind::NotFound => {
            Ok(false)
        }
        Err(error) => Err(error.into()),
    }
}

/// How many values a per-CPU map has in each place.
pub(super) fn cpus() -> Result<usize> {
    aya::util::nr_cpus().map_err(|(file, error)| {
        anyhow::anyhow!("cannot tell how many CPUs there are from {file}: {error}")
    })
}

pub(super) fn zeroes<V: Pod>(cpus: usize) -> Result<PerCpuValues<Raw<V>>> {
    Ok(PerCpuValues::try_from(vec![Raw(V::zeroed()); cpus])?)
}

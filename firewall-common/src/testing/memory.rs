//! The tables of the datapath in memory.

use std::{
    cell::{Cell, RefCell, UnsafeCell},
    collections::{HashMap, HashSet},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    mem::offset_of,
};

use bytemuck::{Pod, Zeroable, bytes_of};

use crate::{
    addr::{Addr, Family},
    answer,
    control::{Device, Options, Timeouts, device, option},
    event::{Event, Hook},
    expectation::{Expectation, ExpectationKey, Master},
    extra::{
        Asking, Extra, Facts, Lists,
        bucket::BucketKey,
        calendar::Clock,
        connections::{self, Count, Found, Place as Taken, PlaceKey},
        recent::{RecentEntry, RecentKey, Sightings},
        text::{self, Pattern, Window},
    },
    flow::{Flow, FlowKey, Tuple, helper},
    flow_event::FlowEvent,
    fragment::{Early, FragmentGrant, FragmentKey, Visit},
    headers::Headers,
    hop::{Exit, Hop, NOWHERE, station},
    ipv4_key::Ipv4Key,
    nat::{self, FACE_WORDS, Mapping, MappingKey, Translation},
    packet::Packet,
    path, report,
    rule::{Chain, Counter, PortSet, Rule, RulesetHeader, Target, flag},
    scratch::Scratch,
    set::{Entry, EntryKey, SetHeader},
    shift::{self, Shifts},
    shortcut::{
        self, Address as _, Ends, Halves, Ip, Ipv4, Ipv6, Plain, Turned,
        hint::{Hint, Mark, PLACE_BITS, Part},
    },
    tables::{FlowTable, Place, Route, Rules, Tables},
    time::Nanos,
    unread::Unread,
    verdict::{self, STAT_PLACES, Stat, Verdict, family},
    walk,
    wire::{Tcp, Udp},
};

use super::{sets::Sets, written::Written};

/// Flows stay where they are while references to them live.
type Flows = RefCell<HashMap<FlowKey, Box<UnsafeCell<Flow>>>>;

/// A ruleset, tables of flows, and a routing table of two answers.
#[derive(Debug)]
pub struct Memory {
    pub options: Options,
    /// Seconds since 1970 by the wall clock.
    pub wall: u32,
    pub heartbeat: Nanos,
    pub timeouts: Timeouts,
    pub devices: HashMap<u32, Device>,
    /// Protocol and port of this host's sockets, of any address.
    pub sockets: Vec<(u8, u16)>,
    pub generation: u32,
    pub header: RulesetHeader,
    pub rules: Vec<Rule>,
    pub port_sets: Vec<PortSet>,
    pub extras: Vec<Extra>,
    pub sets: Sets,
    pub patterns: Vec<Pattern>,
    window: Box<Cell<Window>>,
    pub helper_ports: HashMap<u16, u8>,
    /// Where packets that come in go, by their destination: the chain, and the
    /// interface they leave by.
    pub route: fn(Addr) -> (Chain, u32),
    /// The hop that packets may be redirected to, if any, and what has been heard of changes.
    pub hop: Option<Hop>,
    /// How packets leave that take the short way.
    pub exit: Exit,
    /// Whether any frame is redirected to it.
    pub redirects: bool,
    pub epoch: u16,
    /// How often the routing table was asked for a hop.
    pub confirmed: Cell<u32>,
    /// Places in the table of embryonic flows.
    pub embryonic_size: usize,
    /// Places in the table of assured flows.
    pub assured_size: usize,
    pub expectations: RefCell<HashMap<ExpectationKey, Expectation>>,
    /// The shifts of control connections.
    pub shifts: HashMap<FlowKey, Shifts>,
    pub events: RefCell<Vec<Event>>,
    pub flow_events: RefCell<Vec<FlowEvent>>,
    assured: Flows,
    embryonic: Flows,
    masters: RefCell<HashMap<FlowKey, Master>>,
    /// The frame that [`Memory::cross`] judges.
    pub frame: Written,
    is_writing: Cell<bool>,
    faces: RefCell<[u64; FACE_WORDS as usize]>,
    translations: RefCell<HashMap<FlowKey, Box<UnsafeCell<Translation>>>>,
    /// Places in the table of translations.
    pub translations_size: usize,
    /// How often the short way has asked for a translation.
    pub asked_translations: Cell<u32>,
    /// A power of two.
    pub hints: RefCell<Vec<Hint>>,
    mappings: RefCell<HashMap<MappingKey, Box<UnsafeCell<Mapping>>>>,
    /// Places in the table of mappings.
    pub mappings_size: usize,
    /// The address that the host uses towards another one.
    pub own_address: fn(Addr) -> Option<Addr>,
    /// Datagrams of which somebody keeps fragments.
    pub awaited: RefCell<HashSet<FragmentKey>>,
    /// What those who wait were told.
    pub told: RefCell<Vec<Early>>,
    fragments: RefCell<HashMap<FragmentKey, Box<UnsafeCell<FragmentGrant>>>>,
    refusals: RefCell<HashMap<FragmentKey, Nanos>>,
    rule_counters: RefCell<HashMap<u32, Counter>>,
    /// What extra conditions keep in mind.
    kept: RefCell<HashMap<u32, u64>>,
    /// The lists of `-m recent`.
    pub recent: RefCell<HashMap<RecentKey, RecentEntry>>,
    /// The buckets of `-m hashlimit`.
    pub buckets: RefCell<HashMap<BucketKey, u64>>,
    /// The connections of `-m connlimit`.
    pub places: RefCell<HashMap<PlaceKey, Taken>>,
    /// What was lost of control connections.
    pub unread: RefCell<HashMap<Tuple, Unread>>,
    /// The last random number.
    dice: Cell<u32>,
    stats: RefCell<[u64; STAT_PLACES]>,
    scratch: Box<Cell<Scratch>>,
}

impl Default for Memory {
    /// Every chain accepts; FTP's port is 21; a daemon is there; packets go to
    /// the interface 2.
    fn default() -> Self {
        let accept = Rule { target: Target::Accept as u8, flags: flag::POLICY, ..Rule::default() };
        Self {
            options: Options { bits: option::TCP_LOOSE, ..Options::default() },
            wall: 0,
            heartbeat: Nanos::ZERO,
            timeouts: Timeouts::DEFAULT,
            devices: HashMap::new(),
            sockets: Vec::new(),
            generation: 1,
            header: RulesetHeader::of_filter(0),
            rules: vec![accept],
            port_sets: Vec::new(),
            extras: Vec::new(),
            sets: Sets::default(),
            patterns: Vec::new(),
            window: Box::new(Cell::new(Window::zeroed())),
            helper_ports: HashMap::from([(21, helper::FTP)]),
            route: |_| (Chain::Forward, 2),
            hop: None,
            exit: Exit::Redirect,
            redirects: true,
            epoch: 0,
            confirmed: Cell::new(0),
            embryonic_size: usize::MAX,
            assured_size: usize::MAX,
            expectations: RefCell::default(),
            shifts: HashMap::new(),
            events: RefCell::default(),
            flow_events: RefCell::default(),
            assured: Flows::default(),
            embryonic: Flows::default(),
            masters: RefCell::default(),
            frame: Written::default(),
            is_writing: Cell::new(false),
            faces: RefCell::new([0; FACE_WORDS as usize]),
            translations: RefCell::default(),
            translations_size: usize::MAX,
            asked_translations: Cell::new(0),
            hints: RefCell::new(vec![Hint::NONE; 1 << PLACE_BITS]),
            mappings: RefCell::default(),
            mappings_size: usize::MAX,
            own_address: |_| None,
            awaited: RefCell::default(),
            told: RefCell::default(),
            fragments: RefCell::default(),
            refusals: RefCell::default(),
            rule_counters: RefCell::default(),
            kept: RefCell::default(),
            recent: RefCell::default(),
            buckets: RefCell::default(),
            places: RefCell::default(),
            unread: RefCell::default(),
            dice: Cell::new(1),
            stats: RefCell::new([0; STAT_PLACES]),
            scratch: Box::new(Cell::new(Scratch::zeroed())),
        }
    }
}

impl Memory {
    /// The default, changed.
    pub fn with(change: impl FnOnce(&mut Self)) -> Self {
        let mut memory = Self::default();
        change(&mut memory);
        memory
    }

    /// Judges a frame that comes in by the interface 1.
    pub fn filter(&self, frame: &[u8], now: Nanos) -> Verdict {
        self.filter_at(Hook::Ingress, 1, frame, now)
    }

    /// Judges a frame at a hook of an Ethernet interface.
    pub fn filter_at(&self, hook: Hook, ifindex: u32, frame: &[u8], now: Nanos) -> Verdict {
        self.filter_from(Place { hook, ifindex, has_ethernet: true, visit: Visit::New }, frame, now)
    }

    /// Judges a frame anywhere.
    pub fn filter_from(&self, place: Place, frame: &[u8], now: Nanos) -> Verdict {
        let verdict = self.with_scratch(|scratch| path::filter(frame, place, self, scratch, now));
        // The rings of what is held are never full here.
        match verdict {
            Verdict::Punt(_) => self.count(verdict.counter()),
            Verdict::Wait(_) => self.count(Stat::FragmentsHeld as u32),
            _ => {}
        }
        verdict
    }

    /// Has a frame that comes in by the interface 1 take the short way; `false` when it is
    /// to go the long one.
    pub fn follow(&self, frame: &[u8], now: Nanos) -> bool {
        self.follow_through(frame, now).is_some()
    }

    /// The same; gives the frame with the ends with which it leaves.
    pub fn follow_through(&self, frame: &[u8], now: Nanos) -> Option<Vec<u8>> {
        if let Some(words) = read(frame, 14)
            && let Some(left) = self.follow_as(Ipv4(words), frame, now)
        {
            return Some(left);
        }
        self.follow_as(Ipv6(&read(frame, 14)?), frame, now)
    }

    fn follow_as<I: Ip>(&self, ip: I, frame: &[u8], now: Nanos) -> Option<Vec<u8>> {
        let plain = plain(ip, frame).filter(Plain::is_eligible)?;
        let onward = shortcut::follow(&plain, 1, self.exit, self, now)?;
        let mut bytes = frame.to_vec();
        if !onward.ends.are(&plain.ends()) {
            write(&mut bytes, &plain, &Turned::of(&plain, onward.ends));
        }
        Some(bytes)
    }

    /// What the routing table says of packets to this address between two interfaces.
    fn hop_to(&self, to: Addr, (ingress, egress): (u32, u32)) -> Option<u16> {
        self.confirmed.set(self.confirmed.get() + 1);
        if !self.redirects {
            return Some(NOWHERE);
        }
        let hop = self.hop?;
        if (self.route)(to) != (Chain::Forward, egress) {
            return None;
        }
        (hop.in_ifindex == ingress && hop.out_ifindex == egress).then_some(0)
    }

    pub(super) fn with_scratch<R>(&self, task: impl FnOnce(&mut Scratch) -> R) -> R {
        let mut scratch = self.scratch.get();
        let answer = task(&mut scratch);
        self.scratch.set(scratch);
        answer
    }

    /// Judges a frame as [`Memory::filter_at`] does, and writes what is translated: gives the
    /// bytes as they were judged in the end.
    pub fn cross(&self, hook: Hook, ifindex: u32, frame: &[u8], now: Nanos) -> (Verdict, Vec<u8>) {
        *self.frame.bytes.borrow_mut() = frame.to_vec();
        self.is_writing.set(true);
        let place = Place { hook, ifindex, has_ethernet: true, visit: Visit::New };
        let judge = |scratch: &mut Scratch| path::filter(&self.frame, place, self, scratch, now);
        let mut verdict = self.with_scratch(judge);
        if matches!(verdict, Verdict::Again) {
            verdict = self.with_scratch(judge);
        }
        if matches!(verdict, Verdict::Punt(_)) {
            self.count(verdict.counter());
        }
        self.is_writing.set(false);
        (verdict, self.frame.bytes.take())
    }

    /// Whether the rules let out this answer to the packet that was judged last.
    pub fn lets_out(&self, answer: &[u8], now: Nanos) -> bool {
        let mut scratch = Scratch::zeroed();
        answer::may_leave(answer, self, &self.scratch.get(), &mut scratch, now)
    }

    /// What the last packet's judgement left on the desk.
    pub fn scratch(&self) -> Scratch {
        self.scratch.get()
    }

    pub fn stat(&self, counter: u32) -> u64 {
        self.stats()[counter as usize]
    }

    pub fn stats(&self) -> [u64; STAT_PLACES] {
        let mut stats = *self.stats.borrow();
        verdict::spread(&mut stats);
        stats
    }

    pub fn rule_counter(&self, index: u32) -> Counter {
        self.rule_counters.borrow().get(&index).copied().unwrap_or_default()
    }

    /// Adds an Ethernet interface with this address.
    pub fn add_device(&mut self, ifindex: u32, mac: [u8; 6]) {
        let flags = device::OURS | device::ETHERNET;
        self.devices.insert(ifindex, Device { flags, mac, ..Device::default() });
    }

    /// A copy of a flow and the table that it is in.
    pub fn known(&self, key: &FlowKey) -> Option<(FlowTable, Flow)> {
        [FlowTable::Assured, FlowTable::Embryonic]
            .into_iter()
            .find_map(|table| self.flow(table, key).map(|flow| (table, *flow)))
    }

    /// Copies of all flows, by table and key.
    pub fn flows(&self) -> Vec<(FlowTable, FlowKey, Flow)> {
        let mut all = Vec::with_capacity(self.flow_count());
        for table in [FlowTable::Assured, FlowTable::Embryonic] {
            let keys: Vec<FlowKey> = self.table(table).borrow().keys().copied().collect();
            let found =
                keys.into_iter().filter_map(|key| Some((table, key, *self.flow(table, &key)?)));
            all.extend(found);
        }
        all.sort_by_key(|(_, key, _)| *key);
        all
    }

    pub fn flow_count(&self) -> usize {
        self.assured.borrow().len() + self.embryonic.borrow().len()
    }

    /// As `conntrack -F`: what leads to them stays.
    pub fn forget_flows(&self) {
        self.assured.borrow_mut().clear();
        self.embryonic.borrow_mut().clear();
    }

    pub fn master(&self, key: &FlowKey) -> Option<Master> {
        self.masters.borrow().get(key).copied()
    }

    const fn table(&self, table: FlowTable) -> &Flows {
        match table {
            FlowTable::Assured => &self.assured,
            FlowTable::Embryonic => &self.embryonic,
        }
    }
}

/// The kernel adds a class of its own to a cookie, and takes each for right.
const KERNEL_CLASSES: u32 = 4;

/// A sum with the sequence number, as the kernel's cookies are.
fn cookie(tuple: &Tuple) -> u32 {
    let mut hasher = DefaultHasher::new();
    tuple.hash(&mut hasher);
    hasher.finish() as u32
}

/// The first words of a frame, as the adapter reads them.
fn plain<I: Ip>(ip: I, frame: &[u8]) -> Option<Plain<I>> {
    Some(Plain {
        station: station(read(frame, 0)?),
        ether_type: read(frame, 12)?,
        ip,
        tcp: read(frame, Plain::<I>::L4)?,
        first_option: read(frame, Plain::<I>::LEN).unwrap_or_default(),
        available: frame.len() as u32 - 14,
    })
}

fn read<T: Pod>(frame: &[u8], at: usize) -> Option<T> {
    frame.get(at..at + size_of::<T>()).map(bytemuck::pod_read_unaligned)
}

/// Where a mark's hint stands.
fn place(hints: &[Hint], mark: Mark, part: Part) -> usize {
    match hints.len().ilog2() {
        0 => 0,
        bits => mark.place(part, bits) as usize,
    }
}

/// Writes other ends into an eligible frame, as the adapter does.
fn write<I: Ip>(bytes: &mut [u8], plain: &Plain<I>, turned: &Turned<I::Address>) {
    const HEADER_CHECKSUM: usize = 24;
    let Ends { src, dst, sport, dport } = turned.ends;
    let (src, dst, l4) = (src.wide(), dst.wide(), Plain::<I>::L4);
    let mut put = |at: usize, from: &[u8]| bytes[at..at + from.len()].copy_from_slice(from);
    match I::FAMILY {
        Family::Ipv4 => {
            put(26, &bytes_of(&src)[12..]);
            put(30, &bytes_of(&dst)[12..]);
            put(HEADER_CHECKSUM, &turned.header_checksum.to_ne_bytes());
        }
        Family::Ipv6 => {
            put(22, bytes_of(&src));
            put(38, bytes_of(&dst));
        }
    }
    put(l4, &sport.to_ne_bytes());
    put(l4 + 2, &dport.to_ne_bytes());
    let within = if plain.is_tcp() { offset_of!(Tcp, checksum) } else { offset_of!(Udp, checksum) };
    put(l4 + within, &turned.checksum.to_ne_bytes());
}

impl Rules for Memory {
    fn set_store(&self, slot: u32) -> Option<u32> {
        self.sets.store(slot)
    }

    fn set_header(&self, store: u32) -> Option<&SetHeader> {
        self.sets.header(store)
    }

    fn set_entry(&self, store: u32, key: &EntryKey) -> Option<Entry> {
        self.sets.entry(store, key)
    }

    fn set_changes(&self) -> u64 {
        self.sets.changes.get()
    }

    fn note_set_change(&self) {
        self.sets.changes.set(self.sets.changes.get() + 1);
    }

    fn note_fleeting(&self) {
        self.sets.is_fleeting.set(true);
    }

    fn take_fleeting(&self) -> bool {
        self.sets.is_fleeting.take()
    }

    fn count_entry(&self, store: u32, key: &EntryKey, bytes: u64) {
        self.sets.count(store, key, bytes);
    }

    fn put_entry(&self, store: u32, key: &EntryKey, entry: &Entry) -> bool {
        self.sets.put(store, key, entry)
    }

    fn remove_entry(&self, store: u32, key: &EntryKey) -> bool {
        self.sets.remove(store, key)
    }

    fn rule(&self, _slot: u32, index: u32) -> Option<&Rule> {
        self.rules.get(index as usize)
    }

    fn port_set(&self, _slot: u32, index: u16) -> Option<&PortSet> {
        self.port_sets.get(usize::from(index))
    }

    fn count_rule(&self, _slot: u32, index: u32, bytes: u64) {
        let mut counters = self.rule_counters.borrow_mut();
        let counter = counters.entry(index).or_default();
        counter.packets += 1;
        counter.bytes += bytes;
    }

    fn extra(&self, _slot: u32, index: u32) -> Option<&Extra> {
        self.extras.get(index as usize)
    }

    /// A linear congruence (Numerical Recipes), the same for everybody who begins anew.
    fn random(&self) -> u32 {
        let next = self.dice.get().wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        self.dice.set(next);
        next
    }

    fn contains(&self, _slot: u32, pattern: u32, from: u32, to: u32) -> bool {
        let pattern = self.patterns.get(pattern as usize);
        pattern.is_some_and(|pattern| text::search(pattern, &self.window.get(), from, to))
    }

    fn connections_hold(&self, extra: &Extra, facts: &Facts, asking: Asking) -> bool {
        let mut count = Count::zeroed();
        count.begin(extra, facts, asking);
        connections::holds(self, extra, &mut count)
    }

    fn remember(&self, asking: Asking, index: u32, change: impl Fn(u64) -> (u64, bool)) -> bool {
        let mut kept = self.kept.borrow_mut();
        let (next, holds) = change(kept.get(&index).copied().unwrap_or_default());
        if !asking.is_question {
            kept.insert(index, next);
        }
        holds
    }
}

impl Lists for Memory {
    fn recent(&self, key: &RecentKey, hits: u32) -> Option<Sightings> {
        self.recent.borrow().get(key).map(|entry| entry.look(hits))
    }

    fn note_recent(&self, key: &RecentKey, tick: u32, ttl: u32) {
        let mut lists = self.recent.borrow_mut();
        lists.entry(*key).or_insert_with(RecentEntry::zeroed).note(tick, ttl);
    }

    fn forget_recent(&self, key: &RecentKey) {
        self.recent.borrow_mut().remove(key);
    }

    fn spend(&self, asking: Asking, key: &BucketKey, change: impl Fn(u64) -> (u64, bool)) -> bool {
        let mut buckets = self.buckets.borrow_mut();
        let (next, holds) = change(buckets.get(key).copied().unwrap_or_default());
        if !asking.is_question {
            buckets.insert(*key, next);
        }
        holds
    }

    fn connection(&self, key: &PlaceKey, own: &FlowKey, now: Nanos) -> (Found, u32) {
        let places = self.places.borrow();
        let Some(place) = places.get(key) else { return (Found::Nothing, 0) };
        let flow = [FlowTable::Assured, FlowTable::Embryonic]
            .into_iter()
            .find_map(|table| self.flow(table, &place.flow));
        (place.find(own, flow.as_deref(), now), place.last)
    }

    fn take_place(&self, key: &PlaceKey, _before: Nanos, place: &Taken) {
        let mut places = self.places.borrow_mut();
        let last = places.get(key).map_or(0, |place| place.last);
        places.insert(*key, Taken { last, ..*place });
    }

    fn set_last_place(&self, key: &PlaceKey, last: u32) {
        if let Some(place) = self.places.borrow_mut().get_mut(key) {
            place.last = last;
        }
    }
}

impl Tables for Memory {
    fn generation(&self, _now: Nanos) -> u32 {
        self.generation
    }

    fn options(&self) -> Options {
        self.options
    }

    fn keep_window<P: Packet + ?Sized>(&self, packet: &P, offset: u32) {
        let mut window = Window::zeroed();
        packet.keep(offset, &mut window);
        self.window.set(window);
    }

    fn clock(&self) -> Clock {
        Clock::default()
    }

    fn tai(&self) -> u64 {
        u64::from(self.wall) * 1_000_000_000
    }

    fn heartbeat(&self) -> Nanos {
        self.heartbeat
    }

    fn timeouts(&self) -> &Timeouts {
        &self.timeouts
    }

    fn device(&self, ifindex: u32) -> Option<&Device> {
        self.devices.get(&ifindex)
    }

    fn helper_of_port(&self, protocol: u8, port: u16) -> u8 {
        let helper = self.helper_ports.get(&port).copied().unwrap_or(helper::NONE);
        if helper::protocol(helper) == Some(protocol) { helper } else { helper::NONE }
    }

    fn route(&self, place: Place, headers: &Headers) -> Route {
        match place.hook {
            Hook::Egress => {
                Route { chain: Chain::Output, in_ifindex: 0, out_ifindex: place.ifindex }
            }
            Hook::Ingress => {
                let (chain, out_ifindex) = (self.route)(headers.tuple.dst);
                Route { chain, in_ifindex: place.ifindex, out_ifindex }
            }
        }
    }

    fn epoch(&self) -> u16 {
        self.epoch
    }

    fn hop(&self, number: u16) -> Option<&Hop> {
        self.hop.as_ref().filter(|_| number == 0)
    }

    fn confirm(&self, inside: &Ends<u32>, in_out: (u32, u32), _tick: u32) -> Option<u16> {
        self.hop_to(inside.dst.wide(), in_out)
    }

    fn confirm6(&self, inside: &Ends<Halves>, in_out: (u32, u32), _tick: u32) -> Option<u16> {
        self.hop_to(inside.dst.wide(), in_out)
    }

    /// The table of IPv6 holds no other.
    fn confirmed6(&self, key: &FlowKey) -> Option<&mut Flow> {
        let is_of_ipv6 = matches!(key.family(), Family::Ipv6);
        if is_of_ipv6 { self.flow(FlowTable::Assured, key) } else { None }
    }

    fn flow(&self, table: FlowTable, key: &FlowKey) -> Option<&mut Flow> {
        let flows = self.table(table).borrow();
        // SAFETY: the box stays where it is, one thread at a time is here, and the
        // path holds at most one reference to a flow while it changes it.
        flows.get(key).map(|flow| unsafe { &mut *flow.get() })
    }

    fn create(&self, key: &FlowKey, flow: &Flow) -> bool {
        let mut flows = self.embryonic.borrow_mut();
        if flows.len() >= self.embryonic_size {
            return false;
        }
        if flows.insert(*key, Box::new(UnsafeCell::new(*flow))).is_some() {
            self.count_flow(family::REPLACED, key);
        }
        true
    }

    fn create_first(&self, key: &FlowKey, flow: &Flow) -> bool {
        !self.embryonic.borrow().contains_key(key) && self.create(key, flow)
    }

    fn promote(&self, key: &FlowKey, flow: &Flow) -> bool {
        let mut flows = self.assured.borrow_mut();
        if flows.len() >= self.assured_size {
            return false;
        }
        flows.insert(*key, Box::new(UnsafeCell::new(*flow)));
        self.embryonic.borrow_mut().remove(key);
        true
    }

    fn take(&self, table: FlowTable, key: &FlowKey) -> bool {
        let was_there = self.table(table).borrow_mut().remove(key).is_some();
        if was_there && matches!(table, FlowTable::Embryonic) {
            self.count_flow(family::FORGOTTEN, key);
        }
        was_there
    }

    fn expectation(&self, key: &ExpectationKey) -> Option<&Expectation> {
        let expectations = self.expectations.borrow();
        let found = expectations.get(key).map(std::ptr::from_ref);
        // SAFETY: nothing inserts while the path looks at it.
        found.map(|found| unsafe { &*found })
    }

    fn take_expectation(&self, key: &ExpectationKey) -> bool {
        self.expectations.borrow_mut().remove(key).is_some()
    }

    fn set_master(&self, key: &FlowKey, master: &Master) {
        self.masters.borrow_mut().insert(*key, *master);
    }

    fn is_face(&self, address: &Addr) -> bool {
        let (word, bit) = nat::face(address);
        self.faces.borrow()[word as usize] & bit != 0
    }

    fn note_face(&self, address: &Addr) {
        let (word, bit) = nat::face(address);
        self.faces.borrow_mut()[word as usize] |= bit;
    }

    fn translation(&self, key: &FlowKey) -> Option<&mut Translation> {
        let translations = self.translations.borrow();
        // SAFETY: as for flows.
        translations.get(key).map(|found| unsafe { &mut *found.get() })
    }

    fn kept_translation(&self, key: &Ipv4Key) -> Option<&Translation> {
        self.asked_translations.set(self.asked_translations.get() + 1);
        self.translation(&key.wide()).map(|found| &*found)
    }

    fn kept_translation6(&self, key: &FlowKey) -> Option<&Translation> {
        self.asked_translations.set(self.asked_translations.get() + 1);
        self.translation(key).map(|found| &*found)
    }

    fn hint(&self, mark: Mark, part: Part) -> Hint {
        let hints = self.hints.borrow();
        hints[place(&hints, mark, part)]
    }

    fn note_hint(&self, mark: Mark, part: Part, hint: &Hint) {
        let mut hints = self.hints.borrow_mut();
        let place = place(&hints, mark, part);
        hints[place] = *hint;
    }

    fn add_translation(&self, key: &FlowKey, translation: &Translation) -> bool {
        let mut translations = self.translations.borrow_mut();
        if translations.contains_key(key) || translations.len() >= self.translations_size {
            return false;
        }
        translations.insert(*key, Box::new(UnsafeCell::new(*translation)));
        true
    }

    fn forget_translation(&self, key: &FlowKey) {
        self.translations.borrow_mut().remove(key);
    }

    fn renew(&self, time: &mut Nanos, was: Nanos, now: Nanos) -> bool {
        let is_there = *time == was;
        if is_there {
            *time = now;
        }
        is_there
    }

    fn mapping(&self, key: &MappingKey) -> Option<&mut Mapping> {
        let mappings = self.mappings.borrow();
        // SAFETY: as for flows.
        mappings.get(key).map(|found| unsafe { &mut *found.get() })
    }

    fn add_mapping(&self, key: &MappingKey, mapping: &Mapping) -> bool {
        let mut mappings = self.mappings.borrow_mut();
        if mappings.contains_key(key) || mappings.len() >= self.mappings_size {
            return false;
        }
        mappings.insert(*key, Box::new(UnsafeCell::new(*mapping)));
        true
    }

    fn turn(&self, headers: &Headers, from: &Tuple, to: &Tuple) -> bool {
        !self.is_writing.get() || nat::rewrite::ends(&self.frame, headers, from, to)
    }

    fn shifts(&self, key: &FlowKey) -> Option<&Shifts> {
        self.shifts.get(key)
    }

    fn renumber(&self, scratch: &mut Scratch) -> bool {
        !self.is_writing.get() || shift::renumber(&self.frame, self, scratch)
    }

    fn keep_translation(&self, key: &FlowKey) -> bool {
        self.translations.borrow().contains_key(key)
    }

    fn has_socket(&self, tuple: &Tuple) -> bool {
        self.sockets.contains(&(tuple.protocol, tuple.dport))
    }

    fn own_address(&self, scratch: &mut Scratch, towards_source: bool) -> bool {
        let Tuple { src, dst, .. } = scratch.headers.tuple;
        match (self.own_address)(if towards_source { src } else { dst }) {
            Some(address) => {
                scratch.nat.address = address;
                true
            }
            None => false,
        }
    }

    fn fragment(&self, key: &FragmentKey) -> Option<&mut FragmentGrant> {
        let fragments = self.fragments.borrow();
        // SAFETY: as for flows.
        fragments.get(key).map(|grant| unsafe { &mut *grant.get() })
    }

    fn grant_fragments(&self, key: &FragmentKey, grant: &FragmentGrant) {
        self.fragments.borrow_mut().insert(*key, Box::new(UnsafeCell::new(*grant)));
    }

    fn forget_fragments(&self, key: &FragmentKey) {
        self.fragments.borrow_mut().remove(key);
    }

    fn refusal(&self, key: &FragmentKey) -> Option<Nanos> {
        self.refusals.borrow().get(key).copied()
    }

    fn refuse_fragments(&self, key: &FragmentKey, until: Nanos) {
        self.refusals.borrow_mut().insert(*key, until);
    }

    fn is_awaited(&self, key: &FragmentKey) -> bool {
        self.awaited.borrow().contains(key)
    }

    fn tell_waiting(&self, early: &Early) {
        self.told.borrow_mut().push(*early);
    }

    fn ruleset(&self, _slot: u32) -> Option<&RulesetHeader> {
        Some(&self.header)
    }

    fn walk(&self, scratch: &mut Scratch) {
        const MAX_STEPS: usize = 1 << 20;
        for _ in 0..MAX_STEPS {
            if walk::step(self, &scratch.headers, &mut scratch.facts, &mut scratch.walk) {
                return;
            }
        }
    }

    fn make_cookie(&self, tuple: &Tuple, seq: u32) -> Option<u32> {
        Some(cookie(tuple).wrapping_add(seq).wrapping_add(KERNEL_CLASSES - 1))
    }

    fn check_cookie(&self, tuple: &Tuple, seq: u32, found: u32) -> bool {
        found.wrapping_sub(cookie(tuple)).wrapping_sub(seq) < KERNEL_CLASSES
    }

    fn forget(&self, value: u32) -> u32 {
        value
    }

    fn pass_unread(&self, scratch: &Scratch) {
        if let Some(unread) = self.unread.borrow_mut().get_mut(&scratch.punt.way()) {
            unread.pass(&scratch.punt);
        }
    }

    fn count(&self, counter: u32) {
        self.stats.borrow_mut()[counter as usize] += 1;
    }

    fn report(&self, event: &Event) {
        self.events.borrow_mut().push(*event);
    }

    fn report_flow(&self, event: &FlowEvent) {
        self.flow_events.borrow_mut().push(*event);
    }

    fn tell<P: Packet + ?Sized>(&self, packet: &P, scratch: &mut Scratch, now: Nanos) {
        report::tell(packet, self, scratch, now);
    }
}

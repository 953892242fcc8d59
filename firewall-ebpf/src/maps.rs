//! The maps, by the names under which they are pinned. Sizes marked so are set
//! by user space at load. A program may use 64 maps (the kernel's MAX_USED_MAPS), those of its
//! constants among them, and these do: who needs another one has to join two desks.
//!
//! Whoever changes the rules has those of a ruleset in its memory (`BPF_F_MMAPABLE`): a
//! system call for each rule would cost more than the change.

use aya_ebpf::{
    Global,
    bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC},
    macros::map,
    maps::{Array, HashMap, LruHashMap, PerCpuArray, RingBuf},
};
use firewall_common::{
    classifier::{LINES_PER_GENERATION, Line},
    control::{Device, FIRST_DEVICES, MAX_AWAITED, Options, SocketLayout, Timeouts},
    expectation::{Expectation, ExpectationKey, Master},
    extra::{
        EXTRAS_PER_GENERATION, Extra,
        bucket::{BucketKey, MAX_BUCKETS},
        calendar::Clock,
        connections::{Count, MAX_PLACES, Place, PlaceKey},
        recent::{self, RecentEntry, RecentKey},
        text::{self, PATTERNS_PER_GENERATION, Pattern},
    },
    flow::{Flow, FlowKey, Tuple},
    fragment::{FragmentGrant, FragmentKey},
    generation::InForce,
    helper_stats::HelperStats,
    hop::{HOPS as HOP_PLACES, Hop},
    ipv4_key::Ipv4Key,
    mangle::parcel::{PARCELS as PARCELS_AT_ONCE, Parcel},
    nat::{FACE_WORDS, Mapping, MappingKey, Translation},
    pressure::{PRESSURES, Pressure},
    rule::{Counter, PORT_SETS_PER_GENERATION, PortSet, RULES_PER_GENERATION, Rule, RulesetHeader},
    ruleset_text::{CHUNK, ChunkKey},
    scratch::Scratch,
    set::{self, SLOTS, STORES, SetHeader},
    shift::Shifts,
    shortcut::hint::{Hint, PLACE_BITS},
    time::Nanos,
    unread::{MAX_UNREAD, Unread},
    verdict::STAT_PLACES,
};

use firewall_common::reject::Answer;

use crate::{cookie::Quote, route::Delivery, tables::PROGRAMS};

/// Which ruleset counts; written when one is swapped.
#[map(name = "generation")]
pub static GENERATION: Array<InForce> = Array::with_max_entries(1, 0);

#[map(name = "options")]
pub static OPTIONS: Array<Options> = Array::with_max_entries(1, 0);

/// When the daemon last showed itself.
#[map(name = "heartbeat")]
pub static HEARTBEAT: Array<Nanos> = Array::with_max_entries(1, 0);

/// How the wall clock stands to the kernel's atomic time.
#[map(name = "clock")]
pub static CLOCK: Array<Clock> = Array::with_max_entries(1, 0);

#[map(name = "timeouts")]
pub static TIMEOUTS: Array<Timeouts> = Array::with_max_entries(1, 0);

/// Bit n: the nth setting was given its value while the instance ran. For the
/// daemon that takes over; the programs do not read it.
#[map(name = "by_hand")]
pub static BY_HAND: Array<u64> = Array::with_max_entries(1, 0);

/// For people, by [`firewall_common::pressure::Bounded`]; the programs do not
/// read it.
#[map(name = "pressure")]
pub static PRESSURE: Array<Pressure> = Array::with_max_entries(PRESSURES, 0);

/// How the helpers fared, for people; the programs do not read it.
#[map(name = "helper_stats")]
pub static HELPER_STATS: Array<HelperStats> = Array::with_max_entries(1, 0);

/// The interfaces with the first indexes, by them.
#[map(name = "first_devices")]
pub static FIRST: Array<Device> = Array::with_max_entries(FIRST_DEVICES, 0);

/// The others.
#[map(name = "devices")]
pub static DEVICES: HashMap<u32, Device> = HashMap::with_max_entries(4_096, BPF_F_NO_PREALLOC);

/// The next hops that flows remember.
#[map(name = "hops")]
pub static HOPS: Array<Hop> = Array::with_max_entries(HOP_PLACES, 0);

/// How often the daemon has heard of something that may lead elsewhere.
#[map(name = "epoch")]
pub static EPOCH: Array<u32> = Array::with_max_entries(1, 0);

/// Confirmed flows of IPv4. Size set at load.
#[map(name = "assured")]
pub static ASSURED: HashMap<Ipv4Key, Flow> = HashMap::with_max_entries(262_144, 0);

/// Those of IPv6, which take memory as they come. Size set at load.
#[map(name = "assured6")]
pub static ASSURED6: HashMap<FlowKey, Flow> = HashMap::with_max_entries(262_144, BPF_F_NO_PREALLOC);

/// Flows of IPv4 that nobody has confirmed. Size set at load.
#[map(name = "embryonic")]
pub static EMBRYONIC: LruHashMap<Ipv4Key, Flow> = LruHashMap::with_max_entries(65_536, 0);

/// Those of IPv6. Size set at load.
#[map(name = "embryonic6")]
pub static EMBRYONIC6: LruHashMap<FlowKey, Flow> = LruHashMap::with_max_entries(16_384, 0);

/// Size set at load.
#[map(name = "expectations")]
pub static EXPECTATIONS: HashMap<ExpectationKey, Expectation> =
    HashMap::with_max_entries(16_384, BPF_F_NO_PREALLOC);

/// Size set at load.
#[map(name = "masters")]
pub static MASTERS: LruHashMap<FlowKey, Master> = LruHashMap::with_max_entries(16_384, 0);

/// The ways from wire faces to the inside, of confirmed flows of IPv4. Size set at load.
#[map(name = "translations")]
pub static TRANSLATIONS: HashMap<Ipv4Key, Translation> =
    HashMap::with_max_entries(524_288, BPF_F_NO_PREALLOC);

/// The same of IPv6. Size set at load.
#[map(name = "translations6")]
pub static TRANSLATIONS6: HashMap<FlowKey, Translation> =
    HashMap::with_max_entries(524_288, BPF_F_NO_PREALLOC);

/// The same of flows of IPv4 that nobody has confirmed. Size set at load.
#[map(name = "embryonic_nat")]
pub static EMBRYONIC_TRANSLATIONS: LruHashMap<Ipv4Key, Translation> =
    LruHashMap::with_max_entries(65_536, 0);

/// The same of IPv6. Size set at load.
#[map(name = "embryonic_nat6")]
pub static EMBRYONIC_TRANSLATIONS6: LruHashMap<FlowKey, Translation> =
    LruHashMap::with_max_entries(16_384, 0);

/// Where packets to wire faces were led the last time, as the short way remembers it. Size set
/// at load.
#[map(name = "hints")]
pub static HINTS: Array<Hint> = Array::with_max_entries(1 << PLACE_BITS, 0);

/// How many that are, as the binary logarithm. Set at load.
#[unsafe(no_mangle)]
pub static HINT_BITS: Global<u32> = Global::new(PLACE_BITS);

/// The outside ports that inside endpoints of UDP keep, where that is asked for. Size set at
/// load.
#[map(name = "mappings")]
pub static MAPPINGS: HashMap<MappingKey, Mapping> =
    HashMap::with_max_entries(131_072, BPF_F_NO_PREALLOC);

/// Control connections of which text was written anew; only the daemon writes here, each time
/// a whole value.
#[map(name = "sequence_shifts")]
pub static SEQUENCE_SHIFTS: HashMap<FlowKey, Shifts> =
    HashMap::with_max_entries(65_536, BPF_F_NO_PREALLOC);

/// Directions of control connections of which a held segment was lost.
#[map(name = "unread")]
pub static UNREAD: HashMap<Tuple, Unread> =
    HashMap::with_max_entries(MAX_UNREAD, BPF_F_NO_PREALLOC);

/// When one was lost of which no entry there tells: it was full.
#[map(name = "unread_untold")]
pub static UNREAD_UNTOLD: Array<Nanos> = Array::with_max_entries(1, 0);

/// Bits of addresses that something is translated from: [`firewall_common::nat::face`].
#[map(name = "faces")]
pub static FACES: Array<u64> = Array::with_max_entries(FACE_WORDS, 0);

/// Size set at load.
#[map(name = "fragments")]
pub static FRAGMENTS: LruHashMap<FragmentKey, FragmentGrant> =
    LruHashMap::with_max_entries(8_192, 0);

/// Until when it is known that the first fragment was dropped. A table of its own:
/// forbidden fragments push nothing that was granted out.
#[map(name = "refusals")]
pub static REFUSALS: LruHashMap<FragmentKey, Nanos> = LruHashMap::with_max_entries(4_096, 0);

/// Datagrams of which the daemon keeps fragments; only it writes here.
#[map(name = "awaited")]
pub static AWAITED: HashMap<FragmentKey, u32> =
    HashMap::with_max_entries(MAX_AWAITED, BPF_F_NO_PREALLOC);

#[map(name = "rulesets")]
pub static RULESETS: Array<RulesetHeader> = Array::with_max_entries(2, 0);

#[map(name = "rules")]
pub static RULES: Array<Rule> = Array::with_max_entries(2 * RULES_PER_GENERATION, BPF_F_MMAPABLE);

/// Which rules a packet can match; see [`firewall_common::classifier`].
#[map(name = "rule_index")]
pub static RULE_INDEX: Array<Line> =
    Array::with_max_entries(2 * LINES_PER_GENERATION, BPF_F_MMAPABLE);

#[map(name = "port_sets")]
pub static PORT_SETS: Array<PortSet> =
    Array::with_max_entries(2 * PORT_SETS_PER_GENERATION, BPF_F_MMAPABLE);

#[map(name = "extras")]
pub static EXTRAS: Array<Extra> =
    Array::with_max_entries(2 * EXTRAS_PER_GENERATION, BPF_F_MMAPABLE);

/// What each of them keeps in mind.
#[map(name = "extra_memory")]
pub static EXTRA_MEMORY: Array<u64> =
    Array::with_max_entries(2 * EXTRAS_PER_GENERATION, BPF_F_MMAPABLE);

/// Where the kernel keeps the group of a socket's owner; written when the programs are loaded.
#[map(name = "socket_layout")]
pub static SOCKET_LAYOUT: Array<SocketLayout> = Array::with_max_entries(1, 0);

/// The socket that is looked at: one packet at a time on each CPU.
#[map(name = "socket")]
pub static SOCKET: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// The lists of `-m recent`.
#[map(name = "recent")]
pub static RECENT: LruHashMap<RecentKey, RecentEntry> =
    LruHashMap::with_max_entries(recent::MAX_ENTRIES, 0);

/// What an entry there begins as: nobody writes here.
#[map(name = "blank_recent")]
pub static BLANK_RECENT: Array<RecentEntry> = Array::with_max_entries(1, 0);

/// What limits are asked with: one packet at a time on each CPU. In one map, since a program may
/// have 64 of them.
#[map(name = "limit_desk")]
pub static LIMIT_DESK: PerCpuArray<LimitDesk> = PerCpuArray::with_max_entries(1, 0);

#[repr(C)]
pub struct LimitDesk {
    /// Whose bucket is asked for.
    pub bucket: BucketKey,
    /// Where connections are counted.
    pub count: Count,
}

/// What rules with `-m string` search for.
#[map(name = "patterns")]
pub static PATTERNS: Array<Pattern> =
    Array::with_max_entries(2 * PATTERNS_PER_GENERATION, BPF_F_MMAPABLE);

/// Where they search, the first bytes of the packet at hand on each CPU, and how far the search has
/// come: the verifier does not follow what stands in a map.
#[map(name = "text")]
pub static TEXT: PerCpuArray<text::Desk> = PerCpuArray::with_max_entries(1, 0);

/// The buckets of `-m hashlimit`.
#[map(name = "buckets")]
pub static BUCKETS: LruHashMap<BucketKey, u64> = LruHashMap::with_max_entries(MAX_BUCKETS, 0);

/// The connections that rules with `-m connlimit` have seen.
#[map(name = "counted")]
pub static COUNTED: LruHashMap<PlaceKey, Place> = LruHashMap::with_max_entries(MAX_PLACES, 0);

/// Of each CPU, both generations: [`firewall_common::rule::counter_place`]. Size set at
/// load. No per-CPU map, as user space cannot have that in its memory.
#[map(name = "rule_counters")]
pub static RULE_COUNTERS: Array<Counter> =
    Array::with_max_entries(2 * RULES_PER_GENERATION, BPF_F_MMAPABLE);

/// What each rule had counted under the generations before, in this one's slot; the
/// programs do not read it.
#[map(name = "rule_bases")]
pub static RULE_BASES: Array<Counter> =
    Array::with_max_entries(2 * RULES_PER_GENERATION, BPF_F_MMAPABLE);

/// The rules as text, for people and for a daemon that takes over; the programs
/// do not read it.
#[map(name = "ruleset_text")]
pub static RULESET_TEXT: HashMap<ChunkKey, [u8; CHUNK]> =
    HashMap::with_max_entries(8_192, BPF_F_NO_PREALLOC);

/// The store of each set, by its slot; 0 for none.
#[map(name = "set_slots")]
pub static SET_SLOTS: Array<u32> = Array::with_max_entries(SLOTS, 0);

/// What the set of each slot is called; the programs do not read it.
#[map(name = "set_names")]
pub static SET_NAMES: Array<[u8; set::NAME]> = Array::with_max_entries(SLOTS, 0);

/// Under which of the two rulesets a slot has its name, a bit for each; the programs do not
/// read it.
#[map(name = "set_worlds")]
pub static SET_WORLDS: Array<u64> = Array::with_max_entries(SLOTS, BPF_F_MMAPABLE);

/// How many rules of a generation name a slot; the programs do not read it.
#[map(name = "set_references")]
pub static SET_REFERENCES: Array<u64> = Array::with_max_entries(2 * SLOTS, BPF_F_MMAPABLE);

/// What the set of each store is.
#[map(name = "sets")]
pub static SETS: Array<SetHeader> = Array::with_max_entries(STORES, 0);

/// 1 where packets have brought single addresses into a set of networks.
#[map(name = "set_hosts")]
pub static SET_HOSTS: Array<u32> = Array::with_max_entries(STORES, 0);

/// How often the sets have changed, other than by time.
#[map(name = "set_changes")]
pub static SET_CHANGES: Array<u64> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// A look into a set, for each CPU.
#[map(name = "set_search")]
pub static SET_SEARCH: PerCpuArray<set::Search> = PerCpuArray::with_max_entries(1, 0);

#[map(name = "stats")]
pub static STATISTICS: PerCpuArray<[u64; STAT_PLACES]> = PerCpuArray::with_max_entries(1, 0);

/// Port number to helpers: see [`firewall_common::flow::helper::of_port`].
#[map(name = "helper_ports")]
pub static HELPER_PORTS: Array<u8> = Array::with_max_entries(65_536, 0);

/// A desk for each program, then one for the answers of each.
#[map(name = "scratch")]
pub static SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(2 * PROGRAMS, 0);

/// A word that the verifier does not follow, for each program.
#[map(name = "forgotten")]
pub static FORGOTTEN: PerCpuArray<u32> = PerCpuArray::with_max_entries(3, 0);

#[map(name = "delivery")]
pub static DELIVERY: PerCpuArray<Delivery> = PerCpuArray::with_max_entries(3, 0);

/// What goes with packets through the stack.
#[map(name = "parcels")]
pub static PARCELS: Array<Parcel> = Array::with_max_entries(PARCELS_AT_ONCE, 0);

/// How many there were.
#[map(name = "parcel_count")]
pub static PARCEL_COUNT: Array<u32> = Array::with_max_entries(1, 0);

#[map(name = "desk")]
pub static DESK: PerCpuArray<Answer> = PerCpuArray::with_max_entries(3, 0);

#[map(name = "cookies")]
pub static COOKIES: PerCpuArray<Quote> = PerCpuArray::with_max_entries(1, 0);

#[map(name = "punts")]
pub static PUNTS: RingBuf = RingBuf::with_byte_size(4 << 20, 0);

/// Fragments that came before their first, and what became of that.
#[map(name = "early")]
pub static EARLY: RingBuf = RingBuf::with_byte_size(2 << 20, 0);

#[map(name = "events")]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(1 << 20, 0);

/// Size set at load.
#[map(name = "flow_events")]
pub static FLOW_EVENTS: RingBuf = RingBuf::with_byte_size(1 << 20, 0);

//! The tables that the decision consults and changes: maps in the kernel,
//! plain memory in tests.

use crate::{
    addr::{Addr, Family},
    conntrack::{
        self, Tracked,
        connection::{self, Judgement},
    },
    control::{Device, Options, Timeouts},
    event::{Event, Hook},
    expectation::{Expectation, ExpectationKey, Master},
    extra::{
        self, Asking, Extra, Facts, Lists,
        bucket::BucketKey,
        calendar::Clock,
        options::{MAX_LEN, OptionKinds},
    },
    flow::{Direction, Flow, FlowKey, Sender, State, Tuple},
    flow_event::{self, FlowEvent},
    fragment::{self, Early, FragmentGrant, FragmentKey, Inherited, Visit},
    headers::Headers,
    hop::Hop,
    ipv4_key::Ipv4Key,
    nat::{self, Mapping, MappingKey, Translation},
    packet::Packet,
    path::{self, Sifted},
    report,
    rule::{Chain, PortSet, Rule, RulesetHeader},
    scratch::Scratch,
    seq::Seq,
    set::{self, Entry, EntryKey, Search, SetHeader},
    shift::{self, Shift, Shifts},
    shortcut::{
        Ends, Halves,
        hint::{Hint, Mark, Part},
    },
    synproxy::{
        self,
        header::{MAX_OPTIONS, TcpHeader},
    },
    time::Nanos,
    verdict::{DropReason, Stat, Verdict},
    walk::Outcome,
};

/// Where a packet is being judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub hook: Hook,
    /// The interface whose hook this is.
    pub ifindex: u32,
    /// Frames begin with an Ethernet header.
    pub has_ethernet: bool,
    /// Whether it has been held before.
    pub visit: Visit,
}

/// Where a packet is going.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    pub chain: Chain,
    /// Interface indexes as `-i` and `-o` see them; 0 for none.
    pub in_ifindex: u32,
    pub out_ifindex: u32,
}

/// The two flow tables: see ARCHITECTURE.md, "State".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlowTable {
    Assured,
    Embryonic,
}

/// The compiled rules and their counters, which the walk consults.
pub trait Rules: Lists {
    fn rule(&self, slot: u32, index: u32) -> Option<&Rule>;
    fn port_set(&self, slot: u32, index: u16) -> Option<&PortSet>;
    fn count_rule(&self, slot: u32, index: u32, bytes: u64);

    fn extra(&self, slot: u32, index: u32) -> Option<&Extra>;
    /// [`extra::holds`]. The kernel's programs ask it, and those that keep something in
    /// mind, in functions that the verifier checks by themselves.
    #[inline(always)]
    fn extra_holds(&self, index: u32, facts: &Facts, asking: Asking) -> bool
    where
        Self: Sized,
    {
        extra::holds(self, index, facts, asking)
    }
    /// [`extra::all_hold`].
    #[inline(always)]
    fn extras_hold(&self, rule: &Rule, facts: &Facts, asking: Asking) -> bool
    where
        Self: Sized,
    {
        let (first, count) = (rule.extra_first.into(), rule.extra_count.into());
        extra::all_hold(self, first, count, facts, asking)
    }
    /// [`extra::recent::holds`].
    #[inline(always)]
    fn recent_holds(&self, extra: &Extra, facts: &Facts, asking: Asking) -> bool
    where
        Self: Sized,
    {
        extra::recent::holds(self, extra, facts, asking)
    }
    /// [`extra::bucket::holds`].
    #[inline(always)]
    fn bucket_holds(&self, extra: &Extra, facts: &Facts, asking: Asking) -> bool
    where
        Self: Sized,
    {
        extra::bucket::holds(self, extra, facts, asking, &mut BucketKey::default())
    }
    /// [`extra::connections::holds`], on a desk of its own.
    fn connections_hold(&self, extra: &Extra, facts: &Facts, asking: Asking) -> bool;
    /// Whether the packet at hand contains a pattern of the ruleset, between two offsets:
    /// [`extra::text::search`].
    fn contains(&self, slot: u32, pattern: u32, from: u32, to: u32) -> bool;
    /// Any number, and another one the next time.
    fn random(&self) -> u32;
    /// Changes what an extra keeps in mind, unless the rules are only asked; gives
    /// whether it holds. Two CPUs do it one after the other.
    fn remember(&self, asking: Asking, index: u32, change: impl Fn(u64) -> (u64, bool)) -> bool
    where
        Self: Sized;

    /// The store of the set that has this slot; as the next ones, none where there are no
    /// sets.
    #[inline(always)]
    fn set_store(&self, _slot: u32) -> Option<u32> {
        None
    }
    #[inline(always)]
    fn set_header(&self, _store: u32) -> Option<&SetHeader> {
        None
    }
    /// An element, expired or not.
    #[inline(always)]
    fn set_entry(&self, _store: u32, _key: &EntryKey) -> Option<Entry> {
        None
    }
    /// The prefix lengths to look for: of the header, and what packets have brought.
    #[inline(always)]
    fn set_prefixes(&self, _store: u32, header: &SetHeader) -> [u64; 3] {
        header.prefixes
    }
    /// Notes that packets bring single addresses, in a set of networks.
    #[inline(always)]
    fn note_hosts(&self, _store: u32) {}
    /// How often a set has changed, other than by time, and
    /// [`crate::generation::stamp::IS_CHANGING`].
    fn set_changes(&self) -> u64;
    /// Counts one more there.
    #[inline(always)]
    fn note_set_change(&self) {}
    /// Notes that a set has answered what may be otherwise for the next packet.
    #[inline(always)]
    fn note_fleeting(&self) {}
    /// Whether one has, since this was asked before.
    #[inline(always)]
    fn take_fleeting(&self) -> bool {
        false
    }
    /// Moves the counters of an element.
    #[inline(always)]
    fn count_entry(&self, _store: u32, _key: &EntryKey, _bytes: u64) {}
    /// Puts an element in, over one that is there; `false` where there is no room.
    #[inline(always)]
    fn put_entry(&self, _store: u32, _key: &EntryKey, _entry: &Entry) -> bool {
        false
    }
    /// `false` where it was not there.
    #[inline(always)]
    fn remove_entry(&self, _store: u32, _key: &EntryKey) -> bool {
        false
    }
    /// [`set::mask`].
    #[inline(always)]
    fn prefix_mask(&self, length: u8) -> Addr {
        set::mask(length, |word| word)
    }
    /// Answers a packed [`set::Question`]: calls [`Search::step`] until it says to stop.
    #[inline(always)]
    fn ask_set(&self, words: &[u32; 8], facts: &Facts, is_question: bool) -> bool
    where
        Self: Sized,
    {
        let mut search = Search::default();
        search.begin(self, words, facts, is_question);
        for _ in 0..Search::MAX_STEPS {
            if search.step(self, facts) {
                break;
            }
        }
        if search.take_fleeting() {
            self.note_fleeting();
        }
        search.holds()
    }
    /// [`set::holds`], and the next [`set::change`]. The kernel's programs do both in
    /// functions that the verifier checks by themselves.
    #[inline(always)]
    fn set_holds(&self, index: u32, facts: &Facts, asking: Asking) -> bool
    where
        Self: Sized,
    {
        set::holds(self, index, facts, asking)
    }
    #[inline(always)]
    fn change_sets(&self, index: u32, facts: &Facts, asking: Asking)
    where
        Self: Sized,
    {
        set::change(self, index, facts, asking);
    }
}

/// What [`crate::path::filter`] needs beside the packet.
///
/// References to flows point into shared memory: another CPU may change the
/// same flow. Fields are plain words, so that a reader sees the old or the new
/// one.
pub trait Tables: Rules {
    /// The ruleset generation that counts now.
    fn generation(&self, now: Nanos) -> u32;
    fn options(&self) -> Options;
    /// How the wall clock stands to the kernel's atomic time.
    fn clock(&self) -> Clock;
    /// Keeps the first bytes of the packet for [`Rules::contains`], from an offset on.
    fn keep_window<P: Packet + ?Sized>(&self, packet: &P, offset: u32)
    where
        Self: Sized;
    /// Nanoseconds of the kernel's atomic time, CLOCK_TAI.
    fn tai(&self) -> u64;
    /// When the daemon last showed itself.
    fn heartbeat(&self) -> Nanos;
    fn timeouts(&self) -> &Timeouts;
    fn device(&self, ifindex: u32) -> Option<&Device>;
    /// The interface patterns of the ruleset in `slot` that an interface's name
    /// fits; none for index 0.
    #[inline(always)]
    fn patterns(&self, ifindex: u32, slot: u32) -> u64 {
        match self.device(ifindex) {
            Some(device) if slot == 0 => device.patterns[0],
            Some(device) => device.patterns[1],
            None => 0,
        }
    }
    /// One of [`crate::flow::helper`]: the one configured for this port.
    fn helper_of_port(&self, protocol: u8, port: u16) -> u8;

    /// The address of the interface, where nobody has told yet for whom a frame is.
    #[inline(always)]
    fn station(&self, place: Place) -> Option<[u8; 6]> {
        self.device(place.ifindex).map(|device| device.mac)
    }

    /// The interface by which a packet has come in, 0 for packets of this host.
    #[inline(always)]
    fn came_in_by(&self, place: Place) -> u32 {
        if matches!(place.hook, Hook::Ingress) { place.ifindex } else { 0 }
    }

    /// Where the packet is going: the routing table's answer on ingress.
    fn route(&self, place: Place, headers: &Headers) -> Route;

    /// How often something has changed that the routing table's answers may depend on, as
    /// far as the daemon has heard.
    #[inline(always)]
    fn epoch(&self) -> u16 {
        0
    }

    /// A hop that [`Tables::confirm`] has named.
    #[inline(always)]
    fn hop(&self, _number: u16) -> Option<&Hop> {
        None
    }

    /// Asks the routing table for the hop of the eligible packet at hand, which has these ends
    /// inside, and goes from one interface to the other; `None` where it needs the stack, or
    /// goes another way, [`crate::hop::NOWHERE`] where every packet between the two needs it.
    #[inline(always)]
    fn confirm(&self, _inside: &Ends<u32>, _in_out: (u32, u32), _tick: u32) -> Option<u16> {
        None
    }
    /// The same of IPv6.
    #[inline(always)]
    fn confirm6(&self, _inside: &Ends<Halves>, _in_out: (u32, u32), _tick: u32) -> Option<u16> {
        None
    }

    /// The key of a tuple's flow, and which of its endpoints sends: [`FlowKey::assign`].
    #[inline(always)]
    fn key_of(&self, tuple: &Tuple, key: &mut FlowKey) -> Sender {
        key.assign(tuple)
    }

    #[allow(clippy::mut_from_ref, reason = "flows live in memory shared by all CPUs")]
    fn flow(&self, table: FlowTable, key: &FlowKey) -> Option<&mut Flow>;
    /// A live flow of this key: [`conntrack::find`].
    #[allow(clippy::mut_from_ref, reason = "as for flows")]
    #[inline(always)]
    fn find(&self, key: &FlowKey, now: Nanos) -> Option<(FlowTable, &mut Flow)> {
        let assured = self.flow(FlowTable::Assured, key);
        conntrack::first_live(assured, || self.flow(FlowTable::Embryonic, key), now)
    }
    /// A flow of IPv4 in the assured table.
    #[allow(clippy::mut_from_ref, reason = "as for flows")]
    #[inline(always)]
    fn confirmed(&self, key: &Ipv4Key) -> Option<&mut Flow> {
        self.flow(FlowTable::Assured, &key.wide())
    }
    /// The same of IPv6.
    #[allow(clippy::mut_from_ref, reason = "as for flows")]
    #[inline(always)]
    fn confirmed6(&self, key: &FlowKey) -> Option<&mut Flow> {
        self.flow(FlowTable::Assured, key)
    }
    /// Puts a new flow into the embryonic table; `false` when there is no space.
    fn create(&self, key: &FlowKey, flow: &Flow) -> bool;
    /// As [`Tables::create`]; `false` also when one stands there.
    fn create_first(&self, key: &FlowKey, flow: &Flow) -> bool;
    /// Moves a flow into the assured table; `false` when that is full.
    fn promote(&self, key: &FlowKey, flow: &Flow) -> bool;
    /// Takes a flow out of its table; `true` for the one caller that did.
    fn take(&self, table: FlowTable, key: &FlowKey) -> bool;
    #[inline(always)]
    fn delete(&self, table: FlowTable, key: &FlowKey) {
        let _ = self.take(table, key);
    }

    fn expectation(&self, key: &ExpectationKey) -> Option<&Expectation>;
    /// Takes the expectation away; `true` for the one caller that did.
    fn take_expectation(&self, key: &ExpectationKey) -> bool;
    fn set_master(&self, key: &FlowKey, master: &Master);

    /// Whether anything may be translated that is addressed so: [`nat::face`].
    fn is_face(&self, address: &Addr) -> bool;
    fn note_face(&self, address: &Addr);
    /// The way in under a wire face.
    #[allow(clippy::mut_from_ref, reason = "as for flows")]
    fn translation(&self, key: &FlowKey) -> Option<&mut Translation>;
    /// The same, of a confirmed flow of IPv4.
    #[inline(always)]
    fn kept_translation(&self, key: &Ipv4Key) -> Option<&Translation> {
        self.translation(&key.wide()).map(|found| &*found)
    }
    /// The same of IPv6.
    #[inline(always)]
    fn kept_translation6(&self, key: &FlowKey) -> Option<&Translation> {
        self.translation(key).map(|found| &*found)
    }
    /// What stands in the place of a mark's hint, or beside it. It may be wrong, each of its words
    /// is whole.
    fn hint(&self, mark: Mark, part: Part) -> Hint;
    fn note_hint(&self, mark: Mark, part: Part, hint: &Hint);
    /// Puts one down where none stands.
    fn add_translation(&self, key: &FlowKey, translation: &Translation) -> bool;
    fn forget_translation(&self, key: &FlowKey);
    /// Writes a time where another one stands; `true` for the one caller that did.
    fn renew(&self, time: &mut Nanos, was: Nanos, now: Nanos) -> bool;
    /// Moves the way in of a flow that was confirmed to where floods cannot reach it; `false`
    /// when there is no space.
    fn keep_translation(&self, key: &FlowKey) -> bool;
    /// [`nat::claim::keep`].
    #[inline(always)]
    fn keep_faces(&self, scratch: &mut Scratch, flow: &Flow)
    where
        Self: Sized,
    {
        nat::claim::keep(self, scratch, flow);
    }
    /// One of the two entries of a mapping.
    #[allow(clippy::mut_from_ref, reason = "as for flows")]
    fn mapping(&self, key: &MappingKey) -> Option<&mut Mapping>;
    /// Puts one down where none stands.
    fn add_mapping(&self, key: &MappingKey, mapping: &Mapping) -> bool;
    /// [`nat::mapping::recall`]. The kernel's programs do it, and the next three, in functions
    /// that the verifier checks by themselves.
    #[inline(always)]
    fn recall_port(&self, scratch: &mut Scratch) -> bool
    where
        Self: Sized,
    {
        nat::mapping::recall(self, scratch)
    }
    /// [`nat::mapping::reserve`].
    #[inline(always)]
    fn reserve_port(&self, scratch: &mut Scratch) -> bool
    where
        Self: Sized,
    {
        nat::mapping::reserve(self, scratch)
    }
    /// [`nat::mapping::note`].
    #[inline(always)]
    fn note_mapping(&self, scratch: &mut Scratch) -> bool
    where
        Self: Sized,
    {
        nat::mapping::note(self, scratch)
    }
    /// [`nat::mapping::renew`].
    #[inline(always)]
    fn renew_mapping(&self, key: &FlowKey, flow: &Flow)
    where
        Self: Sized,
    {
        nat::mapping::renew(self, key, flow);
    }
    /// The address that this host would use towards the packet's source, or else its
    /// destination, into `scratch.nat.address`; `false` when there is none.
    fn own_address(&self, scratch: &mut Scratch, towards_source: bool) -> bool;
    /// Whether the next hop is known of a packet of this host that was routed anew.
    #[inline(always)]
    fn has_next_hop(&self) -> bool {
        true
    }
    /// Writes other ends into the packet at hand: [`nat::rewrite::ends`]; `false` when that is
    /// not possible. Where packets are only read the headers on the desk tell of them.
    #[inline(always)]
    fn turn(&self, _headers: &Headers, _from: &Tuple, _to: &Tuple) -> bool {
        true
    }

    /// The same of a packet that is no ICMP error.
    #[inline(always)]
    fn turn_plain(&self, headers: &Headers, from: &Tuple, to: &Tuple) -> bool {
        self.turn(headers, from, to)
    }

    /// [`nat::arrival::come_in`]. The kernel's programs do it, and the next ones, in functions
    /// that the verifier checks by themselves.
    #[inline(always)]
    fn come_in<P: Packet + ?Sized>(&self, packet: &P, scratch: &mut Scratch, now: Nanos) -> bool
    where
        Self: Sized,
    {
        nat::arrival::come_in(packet, self, scratch, now)
    }
    /// [`nat::departure::go_out`].
    #[inline(always)]
    fn go_out(&self, scratch: &mut Scratch, flow: &Flow, direction: Direction) -> bool {
        nat::departure::go_out(scratch, flow, direction)
    }
    /// [`nat::birth::begin`].
    #[inline(always)]
    fn begin_flow(&self, scratch: &mut Scratch, is_announced: bool, now: Nanos)
    where
        Self: Sized,
    {
        nat::birth::begin(self, scratch, is_announced, now);
    }
    /// [`nat::arrival::undo`].
    #[inline(always)]
    fn undo(&self, scratch: &mut Scratch) -> bool
    where
        Self: Sized,
    {
        nat::arrival::undo(self, scratch)
    }
    /// [`nat::birth::bind`].
    #[inline(always)]
    fn bind(&self, scratch: &mut Scratch) -> bool
    where
        Self: Sized,
    {
        nat::birth::bind(self, scratch)
    }
    /// Whether a socket of this host would receive a packet with these ends.
    #[inline(always)]
    fn has_socket(&self, _tuple: &Tuple) -> bool {
        false
    }
    /// [`nat::claim::attempt`].
    #[inline(always)]
    fn attempt(&self, scratch: &mut Scratch) -> bool
    where
        Self: Sized,
    {
        nat::claim::attempt(self, scratch)
    }
    /// Calls [`nat::claim::step`] until it says to stop, or so often as it may.
    #[inline(always)]
    fn search_port(&self, scratch: &mut Scratch)
    where
        Self: Sized,
    {
        for _ in 0..nat::claim::MAX_TRIES {
            if nat::claim::step(self, scratch) {
                return;
            }
        }
    }

    /// The shifts of a control connection, by the key of its flow.
    fn shifts(&self, key: &FlowKey) -> Option<&Shifts>;
    /// [`Shift::forward`]. The kernel's programs do it, and the next five, in functions that
    /// the verifier checks by themselves.
    #[inline(always)]
    fn forward(&self, shift: &Shift, number: u32) -> u32 {
        shift.forward(number)
    }
    /// [`Shift::back`].
    #[inline(always)]
    fn back(&self, shift: &Shift, number: u32) -> u32 {
        shift.back(number)
    }
    /// The folded sum of a header's words.
    #[inline(always)]
    fn sum_of(&self, header: &TcpHeader) -> u16 {
        header.sum().folded()
    }
    /// [`shift::turn_edge`].
    #[inline(always)]
    fn turn_edge(&self, header: &mut TcpHeader, other: &Shift, edge: u32) {
        shift::turn_edge(header, other, edge);
    }
    /// [`shift::receive`].
    #[inline(always)]
    fn receive_shifted(&self, scratch: &mut Scratch, created: Nanos, direction: Direction)
    where
        Self: Sized,
    {
        shift::receive(self, scratch, created, direction);
    }
    /// [`shift::renumber`], of the packet at hand. Where packets are only read the desk tells.
    #[inline(always)]
    fn renumber(&self, _scratch: &mut Scratch) -> bool {
        true
    }

    #[allow(clippy::mut_from_ref, reason = "as for flows")]
    fn fragment(&self, key: &FragmentKey) -> Option<&mut FragmentGrant>;
    fn grant_fragments(&self, key: &FragmentKey, grant: &FragmentGrant);
    fn forget_fragments(&self, key: &FragmentKey);
    /// Until when it is known that the first fragment was dropped.
    fn refusal(&self, key: &FragmentKey) -> Option<Nanos>;
    fn refuse_fragments(&self, key: &FragmentKey, until: Nanos);
    /// Whether the daemon keeps fragments of this datagram.
    fn is_awaited(&self, key: &FragmentKey) -> bool;
    /// Tells the daemon what became of a first fragment.
    fn tell_waiting(&self, early: &Early);

    fn ruleset(&self, slot: u32) -> Option<&RulesetHeader>;
    /// Calls [`crate::walk::step`] on `scratch` until it says to stop.
    fn walk(&self, scratch: &mut Scratch);

    /// What the rules say of the packet in `scratch`: [`path::judge`].
    #[inline(always)]
    fn judge(&self, scratch: &mut Scratch) -> Outcome
    where
        Self: Sized,
    {
        path::judge(self, scratch)
    }

    /// [`path::sift`]. The kernel's programs do it in a function that the verifier checks by
    /// itself.
    #[inline(always)]
    fn sift(&self, scratch: &mut Scratch, generation: u32, in_ifindex: u32, now: Nanos) -> Sifted
    where
        Self: Sized,
    {
        path::sift(self, scratch, generation, in_ifindex, now)
    }

    /// [`path::decide`], and with it the next two.
    #[inline(always)]
    fn decide(&self, scratch: &mut Scratch, place: Place) -> Outcome
    where
        Self: Sized,
    {
        path::decide(self, scratch, place)
    }

    /// What becomes of a packet that the rules accept: [`path::accept`].
    #[inline(always)]
    fn accept<P: Packet + ?Sized>(
        &self,
        packet: &P,
        scratch: &mut Scratch,
        tracked: &mut Tracked<'_>,
        chain: Chain,
        now: Nanos,
    ) -> Verdict
    where
        Self: Sized,
    {
        path::accept(packet, self, scratch, tracked, chain, now)
    }

    /// [`path::take_turn`].
    #[inline(always)]
    fn take_turn(&self, scratch: &mut Scratch, place: Place, needs: u32) -> bool
    where
        Self: Sized,
    {
        path::take_turn(self, scratch, place, needs)
    }

    /// The mark with which the packet at hand has come.
    #[inline(always)]
    fn own_mark(&self) -> u32 {
        0
    }

    /// Where a packet goes whose mark or type of service rules have changed, or its
    /// destination.
    #[inline(always)]
    fn reroute(&self, place: Place, headers: &Headers, _mark: u32) -> Route {
        self.route(place, headers)
    }

    /// The smallest MTU, in bytes, on the way of the packet in `scratch` and the way back;
    /// 0 when it is not known.
    fn path_mtu(&self, _place: Place, _scratch: &Scratch, _mark: u32) -> u32 {
        0
    }

    /// The SYN cookie for these endpoints and this sequence number, by the kernel's
    /// secret; `None` when it has none. To the kernel it is right for the three
    /// numbers that follow, too, and for none before.
    fn make_cookie(&self, tuple: &Tuple, seq: u32) -> Option<u32>;
    /// Whether it is one that was made not long ago: [`Tables::make_cookie`].
    fn check_cookie(&self, tuple: &Tuple, seq: u32, cookie: u32) -> bool;

    /// Judges the segment in `scratch` by its flow: [`connection::judge`].
    #[inline(always)]
    fn judge_segment(&self, flow: &Flow, scratch: &mut Scratch, direction: Direction) -> Judgement {
        let Scratch { seen, connection, .. } = scratch;
        connection::judge(flow, direction, seen, self.options().bits, connection)
    }

    /// Judges the segment in `scratch` as the first of its flow: [`connection::begin`].
    #[inline(always)]
    fn judge_first(&self, scratch: &mut Scratch) -> Judgement {
        let Scratch { seen, connection, .. } = scratch;
        connection::begin(seen, self.options().bits, connection)
    }

    /// The helper that announced the flow of the packet in `scratch`:
    /// [`conntrack::announcer`].
    #[inline(always)]
    fn announcer(&self, scratch: &mut Scratch, now: Nanos) -> u8
    where
        Self: Sized,
    {
        conntrack::announcer(self, scratch, now)
    }

    /// Compares the segment in `scratch` with its windows: [`connection::compare`].
    #[inline(always)]
    fn compare_segment(
        &self,
        scratch: &mut Scratch,
        direction: Direction,
        was: State,
        next: State,
    ) -> Judgement {
        let Scratch { seen, connection, .. } = scratch;
        connection::compare(direction, seen, was, next, self.options().bits, connection)
    }

    /// The first segment of a flow: [`conntrack::begin_connection`].
    #[inline(always)]
    fn begin_connection(&self, scratch: &mut Scratch, sender: Sender, now: Nanos) -> u32
    where
        Self: Sized,
    {
        conntrack::begin_connection(self, scratch, sender, now)
    }

    /// Changes the tables as an accepted packet does: [`conntrack::commit`].
    ///
    /// # Errors
    /// The reason to drop the packet after all.
    #[inline(always)]
    fn commit(
        &self,
        scratch: &mut Scratch,
        tracked: &mut Tracked<'_>,
        now: Nanos,
    ) -> Result<(), DropReason>
    where
        Self: Sized,
    {
        conntrack::commit(self, scratch, tracked, now)
    }

    /// Copies a flow. In the kernel's programs an assignment would take the stack
    /// for every word of it.
    #[inline(always)]
    fn copy_flow(&self, from: &Flow, to: &mut Flow) {
        *to = *from;
    }

    /// The same value. The kernel's verifier follows every value that a variable
    /// may have through all that comes after; here it loses the trace.
    fn forget(&self, value: u32) -> u32;

    /// Adds one to a counter of the `stats` map.
    fn count(&self, counter: u32);
    /// Counts something of the flow of this key, and what is of IPv6 among it once more.
    #[inline(always)]
    fn count_flow(&self, [all, of_ipv6]: [Stat; 2], key: &FlowKey) {
        self.count(all as u32);
        if matches!(key.family(), Family::Ipv6) {
            self.count(of_ipv6 as u32);
        }
    }
    fn report(&self, event: &Event);
    fn report_flow(&self, event: &FlowEvent);

    /// [`synproxy::question`], and the two after it: the kernel's programs do it in
    /// functions that the verifier checks by themselves.
    #[inline(always)]
    fn question(&self, scratch: &mut Scratch) -> synproxy::Answer
    where
        Self: Sized,
    {
        synproxy::question(self, scratch)
    }

    /// Calls [`TcpHeader::step`] until it says to stop.
    #[inline(always)]
    fn scan(&self, header: &mut TcpHeader) {
        for _ in 0..MAX_OPTIONS {
            if header.step() {
                return;
            }
        }
    }

    /// [`extra::gather`].
    #[inline(always)]
    fn gather<P: Packet + ?Sized>(
        &self,
        packet: &P,
        scratch: &mut Scratch,
        tracked: &Tracked<'_>,
        hook: Hook,
        now: Nanos,
    ) where
        Self: Sized,
    {
        let flow = tracked.flow.as_ref().map(|(_, flow)| &**flow);
        extra::gather(packet, self, scratch, flow, tracked.direction, hook, now);
    }

    /// Calls [`OptionKinds::step`] until it says to stop.
    #[inline(always)]
    fn scan_kinds(&self, options: &mut OptionKinds) {
        for _ in 0..=MAX_LEN {
            if options.step() {
                return;
            }
        }
    }

    /// [`synproxy::settle`].
    #[inline(always)]
    fn settle<P: Packet + ?Sized>(
        &self,
        packet: &P,
        scratch: &mut Scratch,
        flow: &mut Flow,
        direction: Direction,
    ) where
        Self: Sized,
    {
        synproxy::settle(packet, self, scratch, flow, direction);
    }

    /// Reads the TCP header of the packet whose headers are on the desk to
    /// `scratch.proxy.header`.
    #[inline(always)]
    fn read_header<P: Packet + ?Sized>(&self, packet: &P, scratch: &mut Scratch) -> bool
    where
        Self: Sized,
    {
        scratch.proxy.header.read(packet, self, &scratch.headers)
    }

    /// Notes what a helper is told of a segment: [`path::describe`].
    #[inline(always)]
    fn describe(
        &self,
        scratch: &mut Scratch,
        flow: Option<&Flow>,
        direction: Direction,
        now: Nanos,
    ) {
        path::describe(scratch, flow, direction, now);
    }

    /// [`Seq::advance`], whoever else does so on another CPU.
    #[inline(always)]
    fn advance(&self, number: &mut Seq, found: Seq, to: Seq) {
        number.advance(found, to);
    }

    /// Adds to what packets of one direction count on several CPUs at once.
    #[inline(always)]
    fn add(&self, counter: &mut u64, amount: u64) {
        *counter = counter.wrapping_add(amount);
    }

    /// Notes that the segment that was described goes on unread.
    fn pass_unread(&self, scratch: &Scratch);

    /// [`fragment::is_repeated`].
    #[inline(always)]
    fn is_repeated(&self, scratch: &mut Scratch, now: Nanos) -> bool
    where
        Self: Sized,
    {
        fragment::is_repeated(self, scratch, now)
    }

    /// [`fragment::grant`], or [`fragment::refuse`].
    #[inline(always)]
    fn settle_fragments(&self, scratch: &mut Scratch, is_granted: bool, now: Nanos)
    where
        Self: Sized,
    {
        if is_granted {
            fragment::grant(self, scratch, now);
        } else {
            fragment::refuse(self, scratch, now);
        }
    }

    /// Judges a later fragment: [`fragment::inherit`].
    #[inline(always)]
    fn inherit(&self, scratch: &mut Scratch, visit: Visit, now: Nanos) -> Inherited
    where
        Self: Sized,
    {
        fragment::inherit(self, scratch, visit, now)
    }

    /// Reports the packet as `scratch.walk` says: [`report::tell`].
    #[inline(always)]
    fn tell<P: Packet + ?Sized>(&self, packet: &P, scratch: &mut Scratch, now: Nanos)
    where
        Self: Sized,
    {
        report::tell(packet, self, scratch, now);
    }

    /// [`flow_event::begin`]. The kernel's programs do it in a function that the
    /// verifier checks by itself; so with the next two.
    #[inline(always)]
    fn begin_watched(&self, scratch: &mut Scratch, now: Nanos) -> bool
    where
        Self: Sized,
    {
        flow_event::begin(self, scratch, now)
    }

    /// [`flow_event::update`].
    #[inline(always)]
    fn update_watched(&self, scratch: &mut Scratch, now: Nanos)
    where
        Self: Sized,
    {
        flow_event::update(self, scratch, now);
    }

    /// [`flow_event::end`].
    #[inline(always)]
    fn end_watched(&self, scratch: &mut Scratch, now: Nanos)
    where
        Self: Sized,
    {
        flow_event::end(self, scratch, now);
    }
}

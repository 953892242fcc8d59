//! The maps as the tables of firewall-common.

use core::ffi::c_void;

use aya_ebpf::{
    EbpfContext,
    bindings::{__sk_buff, BPF_ANY, BPF_EXIST, BPF_NOEXIST, xdp_md},
    helpers::{
        bpf_ktime_get_coarse_ns, bpf_ktime_get_tai_ns, bpf_loop, generated::bpf_probe_read_kernel,
    },
};
use firewall_common::{
    addr::Addr,
    conntrack::{Tracked, connection::Judgement},
    control::{Device, FIRST_DEVICES, Options, Timeouts, device},
    event::{Event, Hook},
    expectation::{Expectation, ExpectationKey, Master},
    extra::{
        Asking, Extra, Facts,
        calendar::Clock,
        options::{MAX_LEN, OptionKinds},
    },
    flow::{Direction, Flow, FlowKey, Sender, State, Tuple, helper},
    flow_event::FlowEvent,
    fragment::{Early, FragmentGrant, FragmentKey, Inherited, Visit},
    headers::Headers,
    hop::Hop,
    ipv4_key::Ipv4Key,
    nat::{Mapping, MappingKey, Translation},
    packet::Packet,
    path::Sifted,
    rule::{Chain, PortSet, Rule, RulesetHeader},
    scratch::Scratch,
    seq::Seq,
    shift::{Shift, Shifts},
    shortcut::{
        Address as _, Ends, Halves,
        hint::{Hint, Mark, Part},
    },
    synproxy::{
        Answer,
        header::{MAX_OPTIONS, TcpHeader},
    },
    tables::{FlowTable, Place, Route, Rules, Tables},
    time::Nanos,
    verdict::{DropReason, Packed, STAT_PLACES, Stat, Verdict, family},
    walk::{self, Outcome},
};

use crate::{
    accept, cookie, decide,
    families::{CONFIRMED, Entries as _, NEW, find_live},
    hops,
    maps::{
        ASSURED, ASSURED6, AWAITED, CLOCK, DELIVERY, DEVICES, EARLY, EPOCH, EVENTS, EXPECTATIONS,
        FIRST, FLOW_EVENTS, FORGOTTEN, FRAGMENTS, GENERATION, HEARTBEAT, HELPER_PORTS, MASTERS,
        OPTIONS, REFUSALS, RULESETS, SCRATCH, STATISTICS, TEXT, TIMEOUTS,
    },
    memory, nat,
    packet::SkbPacket,
    rule_maps::RuleMaps,
    shift, stage,
    verifier::opaque,
};

/// The maps, as one of the programs sees them.
#[derive(Clone, Copy)]
pub struct Maps {
    /// The program's place in `scratch`, `delivery` and `desk`.
    pub program: Program,
    pub ctx: *mut c_void,
    /// The interface by which a forwarded packet came in; egress only.
    pub ingress_ifindex: u32,
}

/// The programs, each with its own desk: one may not disturb another.
#[derive(Clone, Copy)]
pub enum Program {
    Xdp = 0,
    TcIngress = 1,
    TcEgress = 2,
}

/// How many programs there are.
pub const PROGRAMS: u32 = 3;

impl EbpfContext for Maps {
    fn as_ptr(&self) -> *mut c_void {
        self.ctx
    }
}

impl Maps {
    #[inline(always)]
    pub fn of_xdp(ctx: *mut xdp_md) -> Self {
        Self { program: Program::Xdp, ctx: ctx.cast(), ingress_ifindex: 0 }
    }

    #[inline(always)]
    pub fn of_tc(skb: *mut __sk_buff, is_egress: bool) -> Self {
        let program = if is_egress { Program::TcEgress } else { Program::TcIngress };
        let ingress_ifindex = SkbPacket { skb }.ingress_ifindex();
        Self { program, ctx: skb.cast(), ingress_ifindex }
    }

    /// For stages that look at no packet.
    #[inline(always)]
    pub const fn without_packet() -> Self {
        Self { program: Program::Xdp, ctx: core::ptr::null_mut(), ingress_ifindex: 0 }
    }

    #[inline(always)]
    pub fn scratch(self) -> Option<&'static mut Scratch> {
        let scratch = SCRATCH.get_ptr_mut(self.program as u32)?;
        // SAFETY: one program runs on one CPU at a time, and it asks once.
        Some(unsafe { &mut *scratch })
    }

    /// The desk for the answer to a packet, whose own desk stays as it is.
    #[inline(always)]
    pub fn answers(self) -> Option<&'static mut Scratch> {
        let scratch = SCRATCH.get_ptr_mut(PROGRAMS + self.program as u32)?;
        // SAFETY: as above.
        Some(unsafe { &mut *scratch })
    }
}

/// The coarse monotonic clock.
#[inline(always)]
pub fn now() -> Nanos {
    // SAFETY: the helper takes nothing.
    Nanos(unsafe { bpf_ktime_get_coarse_ns() })
}

/// Whether our program judges what comes in by this interface.
#[inline(always)]
pub fn is_ours<T: Tables>(tables: &T, ifindex: u32) -> bool {
    tables.device(ifindex).is_some_and(|found| found.flags & device::OURS != 0)
}

/// More steps than any ruleset has: a chain may be walked from many places.
const MAX_STEPS: u32 = 1 << 20;

/// One step of the walk, for `bpf_loop`.
unsafe extern "C" fn walk_step(step: u32, desk: *mut c_void) -> i64 {
    // SAFETY: the caller passes a pointer to its pointer, and waits.
    let scratch = unsafe { &mut **desk.cast::<*mut Scratch>() };
    if step >= scratch.search.plain && stage::seek(scratch) == 0 {
        return 0;
    }
    i64::from(walk::step(&RuleMaps, &scratch.headers, &mut scratch.facts, &mut scratch.walk))
}

/// One option of a TCP header, for `bpf_loop`.
unsafe extern "C" fn scan_step(_step: u32, desk: *mut c_void) -> i64 {
    // SAFETY: as above.
    let header = unsafe { &mut **desk.cast::<*mut TcpHeader>() };
    i64::from(header.step())
}

/// One option of a TCP header, for the facts.
unsafe extern "C" fn kind_step(_step: u32, desk: *mut c_void) -> i64 {
    // SAFETY: as above.
    let options = unsafe { &mut **desk.cast::<*mut OptionKinds>() };
    i64::from(options.step())
}

impl Rules for Maps {
    #[inline(always)]
    fn rule(&self, slot: u32, index: u32) -> Option<&Rule> {
        RuleMaps::SELF.rule(slot, index)
    }

    #[inline(always)]
    fn port_set(&self, slot: u32, index: u16) -> Option<&PortSet> {
        RuleMaps::SELF.port_set(slot, index)
    }

    #[inline(always)]
    fn count_rule(&self, slot: u32, index: u32, bytes: u64) {
        RuleMaps.count_rule(slot, index, bytes);
    }

    #[inline(always)]
    fn extra(&self, slot: u32, index: u32) -> Option<&Extra> {
        RuleMaps::SELF.extra(slot, index)
    }

    #[inline(always)]
    fn connections_hold(&self, extra: &Extra, facts: &Facts, asking: Asking) -> bool {
        RuleMaps.connections_hold(extra, facts, asking)
    }

    #[inline(always)]
    fn contains(&self, slot: u32, pattern: u32, from: u32, to: u32) -> bool {
        RuleMaps.contains(slot, pattern, from, to)
    }

    #[inline(always)]
    fn set_changes(&self) -> u64 {
        RuleMaps.set_changes()
    }

    #[inline(always)]
    fn random(&self) -> u32 {
        RuleMaps.random()
    }

    #[inline(always)]
    fn remember(&self, asking: Asking, index: u32, change: impl Fn(u64) -> (u64, bool)) -> bool {
        RuleMaps.remember(asking, index, change)
    }
}

impl Tables for Maps {
    #[inline(always)]
    fn generation(&self, now: Nanos) -> u32 {
        GENERATION.get(0).map_or(0, |in_force| in_force.at(now))
    }

    #[inline(always)]
    fn options(&self) -> Options {
        OPTIONS.get(0).copied().unwrap_or_default()
    }

    #[inline(always)]
    fn keep_window<P: Packet + ?Sized>(&self, packet: &P, offset: u32) {
        let Some(desk) = TEXT.get_ptr_mut(0) else { return };
        // SAFETY: this CPU's, which one packet uses at a time.
        packet.keep(offset, unsafe { &mut (*desk).window });
    }

    #[inline(always)]
    fn clock(&self) -> Clock {
        CLOCK.get(0).copied().unwrap_or_default()
    }

    #[inline(always)]
    fn tai(&self) -> u64 {
        // SAFETY: the helper takes nothing.
        unsafe { bpf_ktime_get_tai_ns() }
    }

    #[inline(always)]
    fn heartbeat(&self) -> Nanos {
        HEARTBEAT.get(0).copied().unwrap_or_default()
    }

    #[inline(always)]
    fn timeouts(&self) -> &Timeouts {
        TIMEOUTS.get(0).unwrap_or(&Timeouts::DEFAULT)
    }

    #[inline(always)]
    fn device(&self, ifindex: u32) -> Option<&Device> {
        if ifindex < FIRST_DEVICES {
            return FIRST.get(ifindex).filter(|found| found.flags & device::THERE != 0);
        }
        // SAFETY: an entry that is replaced meanwhile is read as it was or is.
        unsafe { DEVICES.get(ifindex) }
    }

    #[inline(always)]
    fn helper_of_port(&self, ip_protocol: u8, port: u16) -> u8 {
        let entry = HELPER_PORTS.get(u32::from(port)).copied().unwrap_or(helper::NONE);
        helper::of_port(entry, ip_protocol)
    }

    #[inline(always)]
    fn station(&self, place: Place) -> Option<[u8; 6]> {
        match self.program {
            Program::Xdp => self.device(place.ifindex).map(|found| found.mac),
            // The stack has told: `skb->pkt_type`.
            Program::TcIngress | Program::TcEgress => None,
        }
    }

    #[inline(always)]
    fn came_in_by(&self, place: Place) -> u32 {
        match place.hook {
            Hook::Ingress => place.ifindex,
            Hook::Egress => self.ingress_ifindex,
        }
    }

    #[inline(always)]
    fn route(&self, place: Place, headers: &Headers) -> Route {
        let (chain, in_ifindex, out_ifindex) = match (place.hook, self.ingress_ifindex) {
            (Hook::Ingress, _) => {
                let (chain, out) = stage::route(self, headers, place.ifindex);
                (chain, place.ifindex, out)
            }
            (Hook::Egress, 0) => (Chain::Output, 0, place.ifindex),
            (Hook::Egress, ingress) => (Chain::Forward, ingress, place.ifindex),
        };
        Route { chain, in_ifindex, out_ifindex }
    }

    #[inline(always)]
    fn epoch(&self) -> u16 {
        EPOCH.get(0).map_or(0, |epoch| *epoch as u16)
    }

    #[inline(always)]
    fn hop(&self, number: u16) -> Option<&Hop> {
        hops::hop(number)
    }

    #[inline(always)]
    fn confirm(&self, inside: &Ends<u32>, (_, out): (u32, u32), tick: u32) -> Option<u16> {
        let (dst, ports) = (inside.dst, inside.ports());
        hops::number(match self.program {
            Program::Xdp => hops::xdp_confirm(self.ctx.cast(), out, tick, dst, ports),
            _ => hops::tc_confirm(self.ctx.cast(), out, tick, dst, ports),
        })
    }

    #[inline(always)]
    fn confirm6(&self, inside: &Ends<Halves>, (_, out): (u32, u32), tick: u32) -> Option<u16> {
        let (dst, ports) = (&inside.dst.wide(), inside.ports());
        hops::number(match self.program {
            Program::Xdp => hops::xdp_confirm6(self.ctx.cast(), out, tick, dst, ports),
            _ => hops::tc_confirm6(self.ctx.cast(), out, tick, dst, ports),
        })
    }

    #[inline(always)]
    fn key_of(&self, tuple: &Tuple, key: &mut FlowKey) -> Sender {
        if stage::key_of(tuple, key) == 0 { Sender::Low } else { Sender::High }
    }

    #[inline(always)]
    fn flow(&self, table: FlowTable, key: &FlowKey) -> Option<&mut Flow> {
        match table {
            FlowTable::Assured => CONFIRMED.find(key),
            FlowTable::Embryonic => NEW.find(key),
        }
    }

    #[inline(always)]
    fn find(&self, key: &FlowKey, now: Nanos) -> Option<(FlowTable, &mut Flow)> {
        find_live(key, now)
    }

    #[inline(always)]
    fn confirmed(&self, key: &Ipv4Key) -> Option<&mut Flow> {
        ASSURED.find(key)
    }

    #[inline(always)]
    fn confirmed6(&self, key: &FlowKey) -> Option<&mut Flow> {
        ASSURED6.find(key)
    }

    #[inline(always)]
    fn create(&self, key: &FlowKey, flow: &Flow) -> bool {
        if NEW.put(key, flow, BPF_NOEXIST) {
            return true;
        }
        if NEW.put(key, flow, BPF_EXIST) {
            self.count_flow(family::REPLACED, key);
            return true;
        }
        // What stood here has gone meanwhile, or there is no room.
        NEW.put(key, flow, BPF_ANY)
    }

    #[inline(always)]
    fn create_first(&self, key: &FlowKey, flow: &Flow) -> bool {
        NEW.put(key, flow, BPF_NOEXIST)
    }

    #[inline(always)]
    fn promote(&self, key: &FlowKey, flow: &Flow) -> bool {
        if !CONFIRMED.put(key, flow, BPF_NOEXIST) {
            return false;
        }
        let _ = NEW.take(key);
        true
    }

    #[inline(always)]
    fn take(&self, table: FlowTable, key: &FlowKey) -> bool {
        match table {
            FlowTable::Assured => CONFIRMED.take(key),
            FlowTable::Embryonic => {
                let was_there = NEW.take(key);
                if was_there {
                    self.count_flow(family::FORGOTTEN, key);
                }
                was_there
            }
        }
    }

    #[inline(always)]
    fn expectation(&self, key: &ExpectationKey) -> Option<&Expectation> {
        // SAFETY: as for devices.
        unsafe { EXPECTATIONS.get(key) }
    }

    #[inline(always)]
    fn take_expectation(&self, key: &ExpectationKey) -> bool {
        EXPECTATIONS.remove(key).is_ok()
    }

    #[inline(always)]
    fn set_master(&self, key: &FlowKey, master: &Master) {
        let _ = MASTERS.insert(key, master, u64::from(BPF_ANY));
    }

    #[inline(always)]
    fn is_face(&self, address: &Addr) -> bool {
        nat::is_face(address)
    }

    #[inline(always)]
    fn note_face(&self, address: &Addr) {
        nat::note_face(address);
    }

    #[inline(always)]
    fn translation(&self, key: &FlowKey) -> Option<&mut Translation> {
        nat::translation(key)
    }

    #[inline(always)]
    fn kept_translation(&self, key: &Ipv4Key) -> Option<&Translation> {
        nat::kept_translation(key)
    }

    #[inline(always)]
    fn kept_translation6(&self, key: &FlowKey) -> Option<&Translation> {
        nat::kept_translation6(key)
    }

    #[inline(always)]
    fn hint(&self, mark: Mark, part: Part) -> Hint {
        nat::hint(mark, part)
    }

    #[inline(always)]
    fn note_hint(&self, mark: Mark, part: Part, hint: &Hint) {
        nat::note_hint(mark, part, hint);
    }

    #[inline(always)]
    fn add_translation(&self, key: &FlowKey, translation: &Translation) -> bool {
        nat::add(key, translation)
    }

    #[inline(always)]
    fn forget_translation(&self, key: &FlowKey) {
        nat::forget(key);
    }

    #[inline(always)]
    fn renew(&self, time: &mut Nanos, was: Nanos, now: Nanos) -> bool {
        memory::exchange(&raw mut time.0, was.0, now.0)
    }

    #[inline(always)]
    fn mapping(&self, key: &MappingKey) -> Option<&mut Mapping> {
        nat::find_mapping(key)
    }

    #[inline(always)]
    fn add_mapping(&self, key: &MappingKey, mapping: &Mapping) -> bool {
        nat::add_mapping(key, mapping)
    }

    #[inline(always)]
    fn recall_port(&self, scratch: &mut Scratch) -> bool {
        nat::recall_port(scratch) != 0
    }

    #[inline(always)]
    fn reserve_port(&self, scratch: &mut Scratch) -> bool {
        nat::reserve_port(scratch) != 0
    }

    #[inline(always)]
    fn note_mapping(&self, scratch: &mut Scratch) -> bool {
        nat::note_mapping(scratch) != 0
    }

    #[inline(always)]
    fn renew_mapping(&self, key: &FlowKey, flow: &Flow) {
        nat::renew_mapping(key, flow);
    }

    #[inline(always)]
    fn keep_translation(&self, key: &FlowKey) -> bool {
        nat::keep(key)
    }

    #[inline(always)]
    fn keep_faces(&self, scratch: &mut Scratch, flow: &Flow) {
        nat::keep_faces(scratch, flow);
    }

    #[inline(always)]
    fn own_address(&self, scratch: &mut Scratch, towards_source: bool) -> bool {
        let towards = u32::from(towards_source);
        let answer = match self.program {
            Program::Xdp => nat::xdp::xdp_own_address(self.ctx.cast(), scratch, towards),
            _ => nat::tc::tc_own_address(self.ctx.cast(), scratch, towards),
        };
        answer != 0
    }

    #[inline(always)]
    fn has_next_hop(&self) -> bool {
        DELIVERY
            .get(self.program as u32)
            .is_some_and(|delivery| delivery.has_next_hop() || delivery.is_untold())
    }

    #[inline(always)]
    fn turn(&self, headers: &Headers, from: &Tuple, to: &Tuple) -> bool {
        if !headers.is_icmp_error() {
            return self.turn_plain(headers, from, to);
        }
        let answer = match self.program {
            Program::Xdp => nat::xdp::xdp_turn_error(self.ctx.cast(), headers, from, to),
            _ => nat::tc::tc_turn_error(self.ctx.cast(), headers, from, to),
        };
        answer != 0
    }

    #[inline(always)]
    fn turn_plain(&self, headers: &Headers, from: &Tuple, to: &Tuple) -> bool {
        let answer = match self.program {
            Program::Xdp => nat::xdp::xdp_turn(self.ctx.cast(), headers, from, to),
            _ => nat::tc::tc_turn(self.ctx.cast(), headers, from, to),
        };
        answer != 0
    }

    #[inline(always)]
    fn come_in<P: Packet + ?Sized>(&self, _packet: &P, scratch: &mut Scratch, now: Nanos) -> bool {
        let answer = match self.program {
            Program::Xdp => nat::xdp::xdp_come_in(self.ctx.cast(), scratch, now.0),
            _ => nat::tc::tc_come_in(self.ctx.cast(), scratch, now.0),
        };
        answer != 0
    }

    #[inline(always)]
    fn go_out(&self, scratch: &mut Scratch, flow: &Flow, direction: Direction) -> bool {
        nat::go_out(scratch, flow, direction as u32) != 0
    }

    #[inline(always)]
    fn begin_flow(&self, scratch: &mut Scratch, is_announced: bool, now: Nanos) {
        nat::begin_flow(scratch, u32::from(is_announced), now.0);
    }

    #[inline(always)]
    fn undo(&self, _scratch: &mut Scratch) -> bool {
        let answer = match self.program {
            Program::Xdp => nat::xdp::xdp_undo(self.ctx.cast()),
            Program::TcIngress => nat::tc::tc_undo(self.ctx.cast(), 0),
            Program::TcEgress => nat::tc::tc_undo(self.ctx.cast(), 1),
        };
        answer != 0
    }

    #[inline(always)]
    fn take_turn(&self, scratch: &mut Scratch, _place: Place, needs: u32) -> bool {
        let answer = match self.program {
            Program::Xdp => nat::xdp::xdp_take_turn(self.ctx.cast(), scratch, needs),
            Program::TcIngress => nat::tc::tc_take_turn(self.ctx.cast(), scratch, needs, 0),
            Program::TcEgress => nat::tc::tc_take_turn(self.ctx.cast(), scratch, needs, 1),
        };
        answer != 0
    }

    #[inline(always)]
    fn bind(&self, scratch: &mut Scratch) -> bool {
        let answer = match self.program {
            Program::Xdp => nat::xdp::xdp_bind(self.ctx.cast(), scratch),
            _ => nat::tc::tc_bind(self.ctx.cast(), scratch),
        };
        answer != 0
    }

    #[inline(always)]
    fn has_socket(&self, tuple: &Tuple) -> bool {
        let answer = match self.program {
            Program::Xdp => nat::xdp::xdp_has_socket(self.ctx.cast(), tuple),
            _ => nat::tc::tc_has_socket(self.ctx.cast(), tuple),
        };
        answer != 0
    }

    #[inline(always)]
    fn attempt(&self, scratch: &mut Scratch) -> bool {
        let answer = match self.program {
            Program::Xdp => nat::xdp::xdp_attempt(self.ctx.cast(), scratch),
            _ => nat::tc::tc_attempt(self.ctx.cast(), scratch),
        };
        answer != 0
    }

    #[inline(always)]
    fn search_port(&self, scratch: &mut Scratch) {
        match self.program {
            Program::Xdp => nat::xdp::xdp_search_port(self.ctx.cast(), scratch),
            _ => nat::tc::tc_search_port(self.ctx.cast(), scratch),
        };
    }

    #[inline(always)]
    fn shifts(&self, key: &FlowKey) -> Option<&Shifts> {
        shift::of(key)
    }

    #[inline(always)]
    fn forward(&self, shift: &Shift, number: u32) -> u32 {
        shift::shift_forward(shift, number)
    }

    #[inline(always)]
    fn back(&self, shift: &Shift, number: u32) -> u32 {
        shift::shift_back(shift, number)
    }

    #[inline(always)]
    fn sum_of(&self, header: &TcpHeader) -> u16 {
        shift::sum_of_header(header) as u16
    }

    #[inline(always)]
    fn turn_edge(&self, header: &mut TcpHeader, other: &Shift, edge: u32) {
        shift::shift_edge(header, other, edge);
    }

    #[inline(always)]
    fn receive_shifted(&self, scratch: &mut Scratch, created: Nanos, direction: Direction) {
        shift::receive_shifted(scratch, created.0, direction as u32);
    }

    #[inline(always)]
    fn renumber(&self, scratch: &mut Scratch) -> bool {
        let answer = match self.program {
            Program::Xdp => shift::xdp_renumber(self.ctx.cast(), scratch),
            _ => shift::tc_renumber(self.ctx.cast(), scratch),
        };
        answer != 0
    }

    #[inline(always)]
    fn fragment(&self, key: &FragmentKey) -> Option<&mut FragmentGrant> {
        let grant = FRAGMENTS.get_ptr_mut(key)?;
        // SAFETY: as for flows.
        Some(unsafe { &mut *grant })
    }

    #[inline(always)]
    fn grant_fragments(&self, key: &FragmentKey, grant: &FragmentGrant) {
        let _ = FRAGMENTS.insert(key, grant, u64::from(BPF_ANY));
    }

    #[inline(always)]
    fn forget_fragments(&self, key: &FragmentKey) {
        let _ = FRAGMENTS.remove(key);
    }

    #[inline(always)]
    fn refusal(&self, key: &FragmentKey) -> Option<Nanos> {
        // SAFETY: as for devices.
        unsafe { REFUSALS.get(key) }.copied()
    }

    #[inline(always)]
    fn refuse_fragments(&self, key: &FragmentKey, until: Nanos) {
        let _ = REFUSALS.insert(key, until, u64::from(BPF_ANY));
    }

    #[inline(always)]
    fn is_awaited(&self, key: &FragmentKey) -> bool {
        // SAFETY: as for devices.
        unsafe { AWAITED.get(key) }.is_some()
    }

    #[inline(always)]
    fn tell_waiting(&self, early: &Early) {
        // Where there is no space the daemon will look by itself.
        let _ = EARLY.output::<Early>(early, 0);
    }

    #[inline(always)]
    fn ruleset(&self, slot: u32) -> Option<&RulesetHeader> {
        RULESETS.get(slot)
    }

    #[inline(always)]
    fn walk(&self, scratch: &mut Scratch) {
        let Scratch { search, walk, headers, .. } = &mut *scratch;
        search.prepare(&RuleMaps, walk.slot, headers);
        let mut desk: *mut Scratch = scratch;
        // SAFETY: the callback has the signature that the helper wants, and its
        // argument lives on this stack.
        unsafe {
            bpf_loop(MAX_STEPS, walk_step as *mut c_void, (&raw mut desk).cast(), 0);
        }
    }

    #[inline(always)]
    fn judge(&self, scratch: &mut Scratch) -> Outcome {
        Outcome::from_byte(stage::judge_rules(scratch) as u8)
    }

    #[inline(always)]
    fn sift(&self, scratch: &mut Scratch, generation: u32, in_ifindex: u32, now: Nanos) -> Sifted {
        Sifted::from_number(stage::sift(scratch, generation, in_ifindex, now.0))
    }

    #[inline(always)]
    fn decide(&self, scratch: &mut Scratch, place: Place) -> Outcome {
        let is_egress = u32::from(matches!(place.hook, Hook::Egress));
        let outcome = match self.program {
            Program::Xdp => decide::xdp_decide(self.ctx.cast(), scratch),
            Program::TcIngress | Program::TcEgress => {
                decide::tc_decide(self.ctx.cast(), scratch, is_egress)
            }
        };
        Outcome::from_byte(outcome as u8)
    }

    #[inline(always)]
    fn accept<P: Packet + ?Sized>(
        &self,
        _packet: &P,
        scratch: &mut Scratch,
        tracked: &mut Tracked<'_>,
        chain: Chain,
        now: Nanos,
    ) -> Verdict {
        let found = accept::pack(tracked, chain);
        let flow = tracked.flow_or_null();
        let packed = match self.program {
            Program::Xdp => accept::xdp_accept(self.ctx.cast(), scratch, flow, found, now.0),
            Program::TcIngress => accept::tc_accept(self.ctx.cast(), scratch, flow, found, now.0),
            Program::TcEgress => {
                accept::tc_accept_leaving(self.ctx.cast(), scratch, flow, found, now.0)
            }
        };
        Packed(packed).verdict()
    }

    #[inline(always)]
    fn own_mark(&self) -> u32 {
        match self.program {
            Program::Xdp => 0,
            Program::TcIngress | Program::TcEgress => SkbPacket { skb: self.ctx.cast() }.mark(),
        }
    }

    #[inline(always)]
    fn reroute(&self, place: Place, headers: &Headers, mark: u32) -> Route {
        match (place.hook, self.ingress_ifindex) {
            (Hook::Ingress, _) => {
                let (chain, out) = decide::reroute(self, headers, place.ifindex, mark);
                Route { chain, in_ifindex: place.ifindex, out_ifindex: out }
            }
            (Hook::Egress, 0) => {
                let (chain, out) = decide::reroute(self, headers, place.ifindex, mark);
                let is_found = matches!(chain, Chain::Forward) && is_ours(self, out);
                let out_ifindex = if is_found { out } else { place.ifindex };
                Route { chain: Chain::Output, in_ifindex: 0, out_ifindex }
            }
            // The stack has routed it.
            (Hook::Egress, ingress) => {
                Route { chain: Chain::Forward, in_ifindex: ingress, out_ifindex: place.ifindex }
            }
        }
    }

    #[inline(always)]
    fn path_mtu(&self, _place: Place, scratch: &Scratch, mark: u32) -> u32 {
        decide::path_mtu(self, scratch, mark)
    }

    #[inline(always)]
    fn make_cookie(&self, tuple: &Tuple, seq: u32) -> Option<u32> {
        match cookie::make_cookie(tuple, seq) {
            cookie::NO_COOKIE => None,
            made => Some(made as u32),
        }
    }

    #[inline(always)]
    fn check_cookie(&self, tuple: &Tuple, seq: u32, cookie: u32) -> bool {
        cookie::check_cookie(tuple, seq, cookie) != 0
    }

    #[inline(always)]
    fn question(&self, scratch: &mut Scratch) -> Answer {
        Answer::from_number(stage::question(scratch))
    }

    #[inline(always)]
    fn scan(&self, header: &mut TcpHeader) {
        let mut desk: *mut TcpHeader = header;
        // SAFETY: as for the walk.
        unsafe {
            bpf_loop(MAX_OPTIONS, scan_step as *mut c_void, (&raw mut desk).cast(), 0);
        }
    }

    #[inline(always)]
    fn gather<P: Packet + ?Sized>(
        &self,
        _packet: &P,
        scratch: &mut Scratch,
        tracked: &Tracked<'_>,
        hook: Hook,
        now: Nanos,
    ) {
        let flow = match &tracked.flow {
            Some((_, flow)) => core::ptr::from_ref::<Flow>(flow),
            None => core::ptr::null(),
        };
        stage::gather(self, scratch, flow, tracked.direction, hook, now);
    }

    #[inline(always)]
    fn scan_kinds(&self, options: &mut OptionKinds) {
        let mut desk: *mut OptionKinds = options;
        // SAFETY: as for the walk.
        unsafe {
            bpf_loop(MAX_LEN + 1, kind_step as *mut c_void, (&raw mut desk).cast(), 0);
        }
    }

    #[inline(always)]
    fn settle<P: Packet + ?Sized>(
        &self,
        _packet: &P,
        scratch: &mut Scratch,
        flow: &mut Flow,
        direction: Direction,
    ) {
        stage::settle(self, scratch, flow, direction);
    }

    #[inline(always)]
    fn read_header<P: Packet + ?Sized>(&self, _packet: &P, scratch: &mut Scratch) -> bool {
        stage::read_header(self, scratch)
    }

    #[inline(always)]
    fn judge_segment(&self, flow: &Flow, scratch: &mut Scratch, direction: Direction) -> Judgement {
        Judgement::unpack(stage::judge_segment(flow, scratch, direction as u32))
    }

    #[inline(always)]
    fn compare_segment(
        &self,
        scratch: &mut Scratch,
        direction: Direction,
        was: State,
        next: State,
    ) -> Judgement {
        let (was, next) = (was as u32, next as u32);
        Judgement::unpack(stage::compare_segment(scratch, direction as u32, was, next))
    }

    #[inline(always)]
    fn judge_first(&self, scratch: &mut Scratch) -> Judgement {
        Judgement::unpack(stage::judge_first(scratch))
    }

    #[inline(always)]
    fn announcer(&self, scratch: &mut Scratch, now: Nanos) -> u8 {
        stage::announcer(scratch, now.0) as u8
    }

    #[inline(always)]
    fn begin_connection(&self, scratch: &mut Scratch, sender: Sender, now: Nanos) -> u32 {
        stage::begin_connection(scratch, sender as u32, now.0)
    }

    #[inline(always)]
    fn copy_flow(&self, from: &Flow, to: &mut Flow) {
        // SAFETY: both are flows, and the kernel reads as many bytes as one has.
        unsafe {
            bpf_probe_read_kernel(
                core::ptr::from_mut(to).cast(),
                size_of::<Flow>() as u32,
                core::ptr::from_ref(from).cast(),
            );
        }
    }

    #[inline(always)]
    fn commit(
        &self,
        scratch: &mut Scratch,
        tracked: &mut Tracked<'_>,
        now: Nanos,
    ) -> Result<(), DropReason> {
        let packed = tracked.pack();
        stage::unpack(stage::commit(tracked.flow_or_null(), scratch, packed, now.0))
    }

    #[inline(always)]
    fn forget(&self, value: u32) -> u32 {
        let Some(word) = FORGOTTEN.get_ptr_mut(self.program as u32) else { return 0 };
        // SAFETY: this CPU's word of this program. The verifier does not follow
        // what stands in a map.
        unsafe {
            word.write_volatile(value);
            word.read_volatile()
        }
    }

    #[inline(always)]
    fn count(&self, counter: u32) {
        let Some(counters) = STATISTICS.get_ptr_mut(0) else { return };
        let place = opaque(counter as usize) & (STAT_PLACES - 1);
        // SAFETY: this CPU's counters, and a place among them; nothing else holds them.
        unsafe { *counters.cast::<u64>().add(place) += 1 };
    }

    #[inline(always)]
    fn report(&self, event: &Event) {
        if EVENTS.output::<Event>(event, 0).is_err() {
            self.count(Stat::EventsLost as u32);
        }
    }

    #[inline(always)]
    fn report_flow(&self, event: &FlowEvent) {
        if FLOW_EVENTS.output::<FlowEvent>(event, 0).is_err() {
            self.count(Stat::FlowEventsLost as u32);
        }
    }

    #[inline(always)]
    fn describe(
        &self,
        scratch: &mut Scratch,
        flow: Option<&Flow>,
        direction: Direction,
        now: Nanos,
    ) {
        let flow = match flow {
            Some(flow) => core::ptr::from_ref(flow),
            None => core::ptr::null(),
        };
        stage::describe(scratch, flow, direction as u32, now.0);
    }

    #[inline(always)]
    fn advance(&self, number: &mut Seq, found: Seq, to: Seq) {
        memory::advance(number, found, to);
    }

    #[inline(always)]
    fn add(&self, counter: &mut u64, amount: u64) {
        memory::add(counter, amount);
    }

    #[inline(always)]
    fn pass_unread(&self, scratch: &Scratch) {
        stage::pass_unread(scratch);
    }

    #[inline(always)]
    fn is_repeated(&self, scratch: &mut Scratch, now: Nanos) -> bool {
        stage::is_repeated(scratch, now.0) != 0
    }

    #[inline(always)]
    fn settle_fragments(&self, scratch: &mut Scratch, is_granted: bool, now: Nanos) {
        stage::settle_fragments(scratch, u32::from(is_granted), now.0);
    }

    #[inline(always)]
    fn inherit(&self, scratch: &mut Scratch, visit: Visit, now: Nanos) -> Inherited {
        stage::inherit(scratch, visit, now)
    }

    #[inline(always)]
    fn tell<P: Packet + ?Sized>(&self, _packet: &P, scratch: &mut Scratch, now: Nanos) {
        stage::tell(self, scratch, now);
    }

    #[inline(always)]
    fn begin_watched(&self, scratch: &mut Scratch, now: Nanos) -> bool {
        stage::flow_begin(scratch, now.0) != 0
    }

    #[inline(always)]
    fn update_watched(&self, scratch: &mut Scratch, now: Nanos) {
        stage::flow_update(scratch, now.0);
    }

    #[inline(always)]
    fn end_watched(&self, scratch: &mut Scratch, now: Nanos) {
        stage::flow_end(scratch, now.0);
    }
}

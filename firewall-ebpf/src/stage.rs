//! Stages of the path as functions that the verifier checks once and by
//! themselves (its "global functions"), not along every way that leads there.
//!
//! It knows their arguments by type alone: the context, numbers, and pointers to
//! memory of the pointed-to type's size, which may be null. Hence the raw
//! pointers, a function for XDP and one for TC, and numbers as results.

use core::ffi::c_void;

use aya_ebpf::{
    bindings::{__sk_buff, xdp_md},
    helpers::bpf_loop,
};
use firewall_common::{
    checksum::Verification,
    classifier::{self, LEVELS, Next},
    conntrack::{
        self, Tracked,
        connection::{self, Judgement},
        options::{self, TcpOptions},
        quoted,
    },
    event::Hook,
    extra::{
        self, Asking, Extra, Facts,
        text::{self, Pattern, Search, Window},
    },
    flow::{Direction, Flow, FlowKey, Sender, State, Tuple, helper},
    flow_event,
    fragment::{self, Inherited, Visit},
    headers::{Headers, Parsed},
    mangle::{Mangling, change},
    nat::desk::done,
    packet::Packet,
    path::{self, Sifted},
    report,
    rule::Chain,
    scratch::Scratch,
    set,
    synproxy::{self, task},
    tables::Place,
    time::Nanos,
    verdict::{DropReason, Stat, Verdict},
    walk::Outcome,
};

use crate::{
    maps::{LIMIT_DESK, OPTIONS, PATTERNS, TEXT},
    packet::{SkbPacket, XdpPacket},
    punt, route,
    rule_maps::RuleMaps,
    tables::{Maps, Program, now},
};

/// What a program does with a packet: a verdict without its reasons.
pub mod decision {
    pub const PASS: u32 = 0;
    pub const FORWARD: u32 = 1;
    pub const HOLD: u32 = 2;
    pub const DROP: u32 = 3;
    pub const OTHER_STATION: u32 = 4;
    /// Answer with a SYN cookie.
    pub const COOKIE: u32 = 5;
    /// Make it the SYN that its cookie proves, and judge that.
    pub const PROVE: u32 = 6;
    /// A fragment that comes before its first.
    pub const WAIT: u32 = 7;
    /// To be judged once more, as it came.
    pub const AGAIN: u32 = 32;
    /// Plus the [`firewall_common::rule::RejectKind`].
    pub const REJECT: u32 = 8;

    /// With PASS, FORWARD or HOLD: the packet's numbers are to be translated.
    pub const PROXIED: u32 = 1 << 8;
    /// With PROXIED: the server's SYN/ACK, which becomes two packets.
    pub const ANNOUNCE: u32 = 1 << 9;
    /// With PASS, FORWARD or HOLD: rules have changed the packet, or it leaves translated.
    pub const MANGLED: u32 = 1 << 10;
    /// Less the three above.
    pub const ACTION: u32 = PROXIED - 1;
}

#[inline(always)]
const fn decision(verdict: Verdict, task: u8, mangling: &Mangling, is_translated: bool) -> u32 {
    let is_changed = mangling.has(!change::CT_MARK) || is_translated;
    let mangled = if is_changed { decision::MANGLED } else { 0 };
    let proxied = match task {
        task::TRANSLATE => decision::PROXIED,
        task::ANNOUNCE => decision::PROXIED | decision::ANNOUNCE,
        _ => 0,
    };
    match verdict {
        Verdict::Accept(Chain::Forward) => decision::FORWARD | proxied | mangled,
        Verdict::Pass(Stat::PassOtherHost) => decision::OTHER_STATION,
        Verdict::Accept(_) => decision::PASS | proxied | mangled,
        Verdict::Pass(_) => decision::PASS,
        Verdict::Punt(_) => decision::HOLD | proxied | mangled,
        Verdict::Wait(_) => decision::WAIT,
        Verdict::Cookie => decision::COOKIE,
        Verdict::Prove => decision::PROVE,
        Verdict::Again => decision::AGAIN,
        Verdict::Drop(_) => decision::DROP,
        Verdict::Reject(kind) => decision::REJECT + kind as u32,
    }
}

/// The whole path of a packet that XDP sees; gives one of [`decision`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn xdp_filter(ctx: *mut xdp_md) -> u32 {
    let maps = Maps::of_xdp(ctx);
    let packet = XdpPacket { ctx };
    let Some(scratch) = maps.scratch() else { return decision::DROP };
    let place = Place {
        hook: Hook::Ingress,
        ifindex: packet.ifindex(),
        has_ethernet: true,
        visit: Visit::New,
    };
    let verdict = path::filter(&packet, place, &maps, scratch, now());
    decision(verdict, scratch.proxy.task, &scratch.mangling, scratch.nat.has(done::LEAVES))
}

/// The whole path of a packet that TC sees coming in; gives one of [`decision`].
/// `visit` is a [`Visit`] as a number.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn tc_filter_ingress(skb: *mut __sk_buff, has_ethernet: u32, visit: u32) -> u32 {
    tc_filter(skb, has_ethernet, Hook::Ingress, visit)
}

/// The whole path of a packet that leaves; gives one of [`decision`]. A function of
/// its own: the verifier looks at half as many ways as with a hook that varies.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn tc_filter_egress(skb: *mut __sk_buff, has_ethernet: u32, visit: u32) -> u32 {
    tc_filter(skb, has_ethernet, Hook::Egress, visit)
}

#[inline(always)]
fn tc_filter(skb: *mut __sk_buff, has_ethernet: u32, hook: Hook, visit: u32) -> u32 {
    let mut maps = Maps::of_tc(skb, matches!(hook, Hook::Egress));
    let packet = SkbPacket { skb };
    let Some(scratch) = maps.scratch() else { return decision::DROP };
    let visit = Visit::from_number(visit);
    if matches!(hook, Hook::Egress) && !matches!(visit, Visit::New) {
        // The daemon has sent it: this is where it says by which one it came in.
        maps.ingress_ifindex = packet.priority();
    }
    let place = Place { hook, ifindex: packet.ifindex(), has_ethernet: has_ethernet != 0, visit };
    let verdict = path::filter(&packet, place, &maps, scratch, now());
    // What leaves for another destination than the stack knows is routed by us.
    let is_led = matches!(hook, Hook::Egress) && scratch.nat.has(done::CAME | done::TURNED);
    let is_translated = is_led || scratch.nat.has(done::LEAVES);
    decision(verdict, scratch.proxy.task, &scratch.mangling, is_translated)
}

/// Where the packet goes, and by which interface it will leave.
#[inline(always)]
pub fn route(maps: &Maps, headers: &Headers, ifindex: u32) -> (Chain, u32) {
    let answer = match maps.program {
        Program::Xdp => xdp_route(maps.ctx.cast(), headers, ifindex),
        Program::TcIngress | Program::TcEgress => tc_route(maps.ctx.cast(), headers, ifindex),
    };
    unpack_route(answer)
}

#[inline(always)]
pub fn tell(maps: &Maps, scratch: &mut Scratch, now: Nanos) {
    match maps.program {
        Program::Xdp => xdp_tell(maps.ctx.cast(), scratch, now.0),
        Program::TcIngress | Program::TcEgress => tc_tell(maps.ctx.cast(), scratch, now.0),
    };
}

#[inline(always)]
pub fn settle(maps: &Maps, scratch: &mut Scratch, flow: &mut Flow, direction: Direction) {
    let is_reply = direction as u32;
    match maps.program {
        Program::Xdp => xdp_settle(maps.ctx.cast(), scratch, flow, is_reply),
        Program::TcIngress | Program::TcEgress => {
            tc_settle(maps.ctx.cast(), scratch, flow, is_reply)
        }
    };
}

#[inline(always)]
pub fn read_header(maps: &Maps, scratch: &mut Scratch) -> bool {
    let is_read = match maps.program {
        Program::Xdp => xdp_header(maps.ctx.cast(), scratch),
        Program::TcIngress | Program::TcEgress => tc_header(maps.ctx.cast(), scratch),
    };
    is_read != 0
}

#[inline(always)]
pub fn gather(
    maps: &Maps,
    scratch: &mut Scratch,
    flow: *const Flow,
    direction: Direction,
    hook: Hook,
    now: Nanos,
) {
    let is_reply = direction as u32;
    match (maps.program, hook) {
        (Program::Xdp, _) => xdp_gather(maps.ctx.cast(), scratch, flow, is_reply, now.0),
        (_, Hook::Ingress) => tc_gather_ingress(maps.ctx.cast(), scratch, flow, is_reply, now.0),
        (_, Hook::Egress) => tc_gather_egress(maps.ctx.cast(), scratch, flow, is_reply, now.0),
    };
}

#[inline(always)]
pub fn inherit(scratch: &mut Scratch, visit: Visit, now: Nanos) -> Inherited {
    Inherited::unpack(inherit_fragment(scratch, visit as u32, now.0))
}

/// Marks the chain in what [`pack_route`] gives.
const FORWARD: u64 = 1 << 32;

#[inline(always)]
pub fn unpack_route(packed: u64) -> (Chain, u32) {
    let chain = if packed & FORWARD == 0 { Chain::Input } else { Chain::Forward };
    (chain, packed as u32)
}

#[inline(always)]
pub fn pack_route((chain, out): (Chain, u32)) -> u64 {
    u64::from(out) | if matches!(chain, Chain::Forward) { FORWARD } else { 0 }
}

#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn xdp_headers(ctx: *mut xdp_md, headers: *mut Headers, has_ethernet: u32) -> u32 {
    // SAFETY: null, or memory of this type that nobody else uses meanwhile.
    let Some(headers) = (unsafe { headers.as_mut() }) else { return refused() };
    Parsed::pack(headers.parse(&XdpPacket { ctx }, has_ethernet != 0))
}

#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn tc_headers(skb: *mut __sk_buff, headers: *mut Headers, has_ethernet: u32) -> u32 {
    // SAFETY: as above.
    let Some(headers) = (unsafe { headers.as_mut() }) else { return refused() };
    Parsed::pack(headers.parse(&SkbPacket { skb }, has_ethernet != 0))
}

/// One extension header of IPv6; gives 0, or what [`unpack`] reads.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn xdp_extension_header(ctx: *mut xdp_md, headers: *mut Headers) -> u32 {
    extension_header(&XdpPacket { ctx }, headers)
}

#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn tc_extension_header(skb: *mut __sk_buff, headers: *mut Headers) -> u32 {
    extension_header(&SkbPacket { skb }, headers)
}

#[inline(always)]
fn extension_header<P: Packet>(packet: &P, headers: *mut Headers) -> u32 {
    // SAFETY: as above.
    let Some(headers) = (unsafe { headers.as_mut() }) else { return pack(DropReason::Malformed) };
    match headers.extension_header(packet) {
        Ok(()) => 0,
        Err(reason) => pack(reason),
    }
}

/// The second half of [`tc_headers`]; gives 0, or what [`unpack`] reads. In XDP, where
/// a frame's length is one, both are looked at together for less.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn tc_transport(skb: *mut __sk_buff, headers: *mut Headers) -> u32 {
    // SAFETY: as above.
    let Some(headers) = (unsafe { headers.as_mut() }) else { return pack(DropReason::Malformed) };
    match headers.transport(&SkbPacket { skb }) {
        Ok(()) => 0,
        Err(reason) => pack(reason),
    }
}

#[inline(always)]
const fn refused() -> u32 {
    Parsed::pack(Err(DropReason::Malformed))
}

/// The key of a tuple's flow; gives the number of the endpoint that sends.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn key_of(tuple: *const Tuple, key: *mut FlowKey) -> u32 {
    // SAFETY: null, or memory of these types that nobody else uses meanwhile.
    let (tuple, key) = unsafe { (tuple.as_ref(), key.as_mut()) };
    let (Some(tuple), Some(key)) = (tuple, key) else { return 0 };
    key.assign(tuple) as u32
}

/// Judges a segment of a known flow; gives a packed [`Judgement`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn judge_segment(flow: *const Flow, scratch: *mut Scratch, direction: u32) -> u32 {
    const INVALID: u32 = Judgement::Invalid.pack();
    // SAFETY: null, or memory of these types; others may write the flow meanwhile,
    // of whose words each is read as it was or is.
    let (flow, scratch) = unsafe { (flow.as_ref(), scratch.as_mut()) };
    let (Some(flow), Some(scratch)) = (flow, scratch) else { return INVALID };
    let Scratch { seen, connection, .. } = scratch;
    connection::judge(flow, direction_of(direction), seen, option_bits(), connection).pack()
}

/// Compares a segment with its windows; gives a packed [`Judgement`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn compare_segment(
    scratch: *mut Scratch,
    direction: u32,
    was: u32,
    next: u32,
) -> u32 {
    const INVALID: u32 = Judgement::Invalid.pack();
    // SAFETY: null, or memory of this type that nobody else uses meanwhile.
    let Some(scratch) = (unsafe { scratch.as_mut() }) else { return INVALID };
    let (Some(was), Some(next)) = (State::from_byte(was as u8), State::from_byte(next as u8))
    else {
        return INVALID;
    };
    let Scratch { seen, connection, .. } = scratch;
    let direction = direction_of(direction);
    connection::compare(direction, seen, was, next, option_bits(), connection).pack()
}

#[inline(always)]
pub const fn direction_of(number: u32) -> Direction {
    if number == 0 { Direction::Original } else { Direction::Reply }
}

/// Judges the first segment of a flow; gives a packed [`Judgement`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn judge_first(scratch: *mut Scratch) -> u32 {
    const INVALID: u32 = Judgement::Invalid.pack();
    // SAFETY: null, or memory of this type that nobody else uses meanwhile.
    let Some(scratch) = (unsafe { scratch.as_mut() }) else { return INVALID };
    let Scratch { seen, connection, .. } = scratch;
    connection::begin(seen, option_bits(), connection).pack()
}

/// Which helper announced the packet's flow; one of [`firewall_common::flow::helper`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn announcer(scratch: *mut Scratch, now: u64) -> u32 {
    // SAFETY: null, or memory of this type that nobody else uses meanwhile.
    let Some(scratch) = (unsafe { scratch.as_mut() }) else { return u32::from(helper::NONE) };
    u32::from(conntrack::announcer(&Maps::without_packet(), scratch, Nanos(now)))
}

/// The first segment of a flow; gives a packed [`conntrack::Found`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn begin_connection(scratch: *mut Scratch, sender: u32, now: u64) -> u32 {
    // SAFETY: as above. A word of no state is taken for INVALID.
    let Some(scratch) = (unsafe { scratch.as_mut() }) else { return 0 };
    let sender = if sender == 0 { Sender::Low } else { Sender::High };
    conntrack::begin_connection(&Maps::without_packet(), scratch, sender, Nanos(now))
}

/// Changes the tables as an accepted packet does; gives 0, or what [`unpack`] reads.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn commit(flow: *mut Flow, scratch: *mut Scratch, packed: u32, now: u64) -> u32 {
    // SAFETY: null, or memory of these types; others may use the flow meanwhile, of
    // whose words each is read as it was or is.
    let (flow, scratch) = unsafe { (flow.as_mut(), scratch.as_mut()) };
    let Some(scratch) = scratch else { return pack(DropReason::Malformed) };
    let mut tracked = Tracked::unpack(packed, flow);
    match conntrack::commit(&Maps::without_packet(), scratch, &mut tracked, Nanos(now)) {
        Ok(()) => 0,
        Err(reason) => pack(reason),
    }
}

#[inline(always)]
const fn pack(reason: DropReason) -> u32 {
    reason as u32 + 1
}

/// The result of [`commit`], and of what packs a reason as it does.
#[inline(always)]
pub fn unpack(packed: u32) -> Result<(), DropReason> {
    match packed {
        0 => Ok(()),
        reason => Err(DropReason::from_byte((reason - 1) as u8).unwrap_or(DropReason::Malformed)),
    }
}

#[inline(always)]
fn option_bits() -> u32 {
    OPTIONS.get(0).map_or(0, |options| options.bits)
}

#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn xdp_tcp_options(
    ctx: *mut xdp_md,
    headers: *const Headers,
    options: *mut TcpOptions,
) -> u32 {
    // SAFETY: null, or memory of these types that nobody else uses meanwhile.
    let (headers, options) = unsafe { (headers.as_ref(), options.as_mut()) };
    let (Some(headers), Some(options)) = (headers, options) else { return 0 };
    read_options(&XdpPacket { ctx }, headers, options)
}

#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn tc_tcp_options(
    skb: *mut __sk_buff,
    headers: *const Headers,
    options: *mut TcpOptions,
) -> u32 {
    // SAFETY: as above.
    let (headers, options) = unsafe { (headers.as_ref(), options.as_mut()) };
    let (Some(headers), Some(options)) = (headers, options) else { return 0 };
    read_options(&SkbPacket { skb }, headers, options)
}

#[inline(always)]
fn read_options<P: Packet>(packet: &P, headers: &Headers, options: &mut TcpOptions) -> u32 {
    let len = headers.payload.wrapping_sub(headers.l4);
    options::copy(packet, headers.l4, len, options);
    let mut desk: *mut TcpOptions = options;
    // SAFETY: the callback has the signature that the helper wants, and its
    // argument lives on this stack.
    unsafe { bpf_loop(MAX_OPTIONS, option_step as *mut c_void, (&raw mut desk).cast(), 0) as u32 }
}

/// More than the bytes of all options.
const MAX_OPTIONS: u32 = 64;

unsafe extern "C" fn option_step(_step: u32, desk: *mut c_void) -> i64 {
    // SAFETY: the caller passes a pointer to its pointer, and waits.
    let options = unsafe { &mut **desk.cast::<*mut TcpOptions>() };
    i64::from(options.step())
}

#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn xdp_checksum(
    ctx: *mut xdp_md,
    headers: *const Headers,
    desk: *mut Verification,
    partial: u32,
) -> u32 {
    // SAFETY: null, or memory of these types that nobody else uses meanwhile.
    let (headers, desk) = unsafe { (headers.as_ref(), desk.as_mut()) };
    let (Some(headers), Some(desk)) = (headers, desk) else { return 1 };
    u32::from(has_right_sum(XdpPacket { ctx }, headers, desk, partial != 0))
}

#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn tc_checksum(
    skb: *mut __sk_buff,
    headers: *const Headers,
    desk: *mut Verification,
    partial: u32,
) -> u32 {
    // SAFETY: as above.
    let (headers, desk) = unsafe { (headers.as_ref(), desk.as_mut()) };
    let (Some(headers), Some(desk)) = (headers, desk) else { return 1 };
    u32::from(has_right_sum(SkbPacket { skb }, headers, desk, partial != 0))
}

/// What is summed up stands in a map, where the verifier does not follow it.
#[inline(always)]
fn has_right_sum<P: Packet>(
    packet: P,
    headers: &Headers,
    desk: &mut Verification,
    may_be_partial: bool,
) -> bool {
    *desk = Verification::of(headers);
    let mut context: (P, *mut Verification) = (packet, desk);
    // SAFETY: the callback has the signature that the helper wants, and its
    // argument lives on this stack.
    unsafe {
        bpf_loop(MAX_WORDS, sum_step::<P> as *mut c_void, (&raw mut context).cast(), 0);
    }
    desk.is_right(&context.0, headers, may_be_partial)
}

/// Steps in which the longest packet is summed up, and some more.
const MAX_WORDS: u32 = 300;

unsafe extern "C" fn sum_step<P: Packet>(_step: u32, context: *mut c_void) -> i64 {
    // SAFETY: the caller passes a pointer to its pair, and waits.
    let (packet, desk) = unsafe { &mut *context.cast::<(P, *mut Verification)>() };
    // SAFETY: nobody else uses it meanwhile.
    i64::from(unsafe { &mut **desk }.step(packet))
}

#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn xdp_quoted(ctx: *mut xdp_md, headers: *const Headers, tuple: *mut Tuple) -> u32 {
    // SAFETY: null, or memory of these types that nobody else uses meanwhile.
    let (headers, tuple) = unsafe { (headers.as_ref(), tuple.as_mut()) };
    let (Some(headers), Some(tuple)) = (headers, tuple) else { return 0 };
    u32::from(quoted::read(&XdpPacket { ctx }, headers, tuple))
}

#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn tc_quoted(
    skb: *mut __sk_buff,
    headers: *const Headers,
    tuple: *mut Tuple,
) -> u32 {
    // SAFETY: as above.
    let (headers, tuple) = unsafe { (headers.as_ref(), tuple.as_mut()) };
    let (Some(headers), Some(tuple)) = (headers, tuple) else { return 0 };
    u32::from(quoted::read(&SkbPacket { skb }, headers, tuple))
}

#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn xdp_route(ctx: *mut xdp_md, headers: *const Headers, ifindex: u32) -> u64 {
    // SAFETY: null, or memory of this type that nobody writes meanwhile.
    let Some(headers) = (unsafe { headers.as_ref() }) else { return 0 };
    pack_route(route::look_up(Program::Xdp, ctx.cast::<c_void>(), ifindex, headers))
}

#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn tc_route(skb: *mut __sk_buff, headers: *const Headers, ifindex: u32) -> u64 {
    // SAFETY: as above.
    let Some(headers) = (unsafe { headers.as_ref() }) else { return 0 };
    pack_route(route::look_up(Program::TcIngress, skb.cast::<c_void>(), ifindex, headers))
}

#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn xdp_tell(ctx: *mut xdp_md, scratch: *mut Scratch, now: u64) -> u32 {
    // SAFETY: null, or memory of this type that nobody else uses meanwhile.
    let Some(scratch) = (unsafe { scratch.as_mut() }) else { return 0 };
    let maps = Maps::of_xdp(ctx);
    report::tell(&XdpPacket { ctx }, &maps, scratch, Nanos(now));
    0
}

#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn tc_tell(skb: *mut __sk_buff, scratch: *mut Scratch, now: u64) -> u32 {
    // SAFETY: as above.
    let Some(scratch) = (unsafe { scratch.as_mut() }) else { return 0 };
    let maps = Maps::of_tc(skb, true);
    report::tell(&SkbPacket { skb }, &maps, scratch, Nanos(now));
    0
}

/// What the extra conditions of the rules may ask about the packet.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn xdp_gather(
    ctx: *mut xdp_md,
    scratch: *mut Scratch,
    flow: *const Flow,
    is_reply: u32,
    now: u64,
) -> u32 {
    collect(&XdpPacket { ctx }, scratch, flow, is_reply, Hook::Ingress, now)
}

#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn tc_gather_ingress(
    skb: *mut __sk_buff,
    scratch: *mut Scratch,
    flow: *const Flow,
    is_reply: u32,
    now: u64,
) -> u32 {
    collect(&SkbPacket { skb }, scratch, flow, is_reply, Hook::Ingress, now)
}

#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn tc_gather_egress(
    skb: *mut __sk_buff,
    scratch: *mut Scratch,
    flow: *const Flow,
    is_reply: u32,
    now: u64,
) -> u32 {
    collect(&SkbPacket { skb }, scratch, flow, is_reply, Hook::Egress, now)
}

#[inline(always)]
fn collect<P: Packet>(
    packet: &P,
    scratch: *mut Scratch,
    flow: *const Flow,
    is_reply: u32,
    hook: Hook,
    now: u64,
) -> u32 {
    // SAFETY: null, or memory of these types; others may write the flow meanwhile, of
    // whose words each is read as it was or is.
    let (scratch, flow) = unsafe { (scratch.as_mut(), flow.as_ref()) };
    let Some(scratch) = scratch else { return 0 };
    let (maps, direction) = (Maps::without_packet(), direction_of(is_reply));
    extra::gather(packet, &maps, scratch, flow, direction, hook, Nanos(now));
    0
}

/// Whether a condition about a list of addresses holds, `asking` an [`Asking`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn recent_holds(extra: *const Extra, facts: *const Facts, asking: u32) -> u32 {
    // SAFETY: as above.
    let (extra, facts) = unsafe { (extra.as_ref(), facts.as_ref()) };
    let (Some(extra), Some(facts)) = (extra, facts) else { return 0 };
    u32::from(extra::recent::holds(&RuleMaps, extra, facts, Asking::unpack(asking)))
}

/// Whether a condition about a bucket holds.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn bucket_holds(extra: *const Extra, facts: *const Facts, asking: u32) -> u32 {
    // SAFETY: as above.
    let (extra, facts) = unsafe { (extra.as_ref(), facts.as_ref()) };
    let (Some(extra), Some(facts)) = (extra, facts) else { return 0 };
    let Some(desk) = LIMIT_DESK.get_ptr_mut(0) else { return 0 };
    // SAFETY: this CPU's, which one packet uses at a time.
    let key = unsafe { &mut (*desk).bucket };
    u32::from(extra::bucket::holds(&RuleMaps, extra, facts, Asking::unpack(asking), key))
}

/// Whether a condition about how many connections there are holds.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn connections_hold(extra: *const Extra, facts: *const Facts, asking: u32) -> u32 {
    // SAFETY: as above.
    let (extra, facts) = unsafe { (extra.as_ref(), facts.as_ref()) };
    let (Some(extra), Some(facts)) = (extra, facts) else { return 0 };
    let Some(desk) = LIMIT_DESK.get_ptr_mut(0) else { return 0 };
    // SAFETY: this CPU's desk, which one packet uses at a time.
    let count = unsafe { &mut (*desk).count };
    count.begin(extra, facts, Asking::unpack(asking));
    u32::from(extra::connections::holds(&RuleMaps, extra, count))
}

/// Whether the packet at hand contains the pattern with this index.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn contains(index: u32, from: u32, to: u32) -> u32 {
    let (Some(pattern), Some(desk)) = (PATTERNS.get(index), TEXT.get_ptr_mut(0)) else {
        return 0;
    };
    // SAFETY: this CPU's, which one packet uses at a time.
    let text::Desk { search, window } = unsafe { &mut *desk };
    *search = Search::new(from, to, window);
    let mut context: (*mut Search, &Pattern, &Window) = (search, pattern, window);
    // SAFETY: the callback has the signature that the helper wants, and its argument lives
    // on this stack.
    unsafe {
        bpf_loop(Search::MAX_STEPS, search_step as *mut c_void, (&raw mut context).cast(), 0);
    }
    u32::from(search.has_found(pattern))
}

unsafe extern "C" fn search_step(_step: u32, context: *mut c_void) -> i64 {
    // SAFETY: the caller passes a pointer to its context, and waits.
    let (search, pattern, window) =
        unsafe { &mut *context.cast::<(*mut Search, &Pattern, &Window)>() };
    // SAFETY: nobody else uses it meanwhile.
    i64::from(unsafe { &mut **search }.step(pattern, window))
}

/// Whether one extra condition holds.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn extra_holds(facts: *const Facts, index: u32, asking: u32) -> u32 {
    // SAFETY: as above.
    let Some(facts) = (unsafe { facts.as_ref() }) else { return 0 };
    u32::from(extra::holds(&RuleMaps, index, facts, Asking::unpack(asking)))
}

/// Whether an extra condition that asks a set holds.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn set_holds(facts: *const Facts, index: u32, asking: u32) -> u32 {
    // SAFETY: as above.
    let Some(facts) = (unsafe { facts.as_ref() }) else { return 0 };
    u32::from(set::holds(&RuleMaps, index, facts, Asking::unpack(asking)))
}

/// Puts the packet into a set, if the target of a rule says so.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn put_in_set(facts: *const Facts, index: u32, asking: u32) -> u32 {
    // SAFETY: as above.
    let Some(facts) = (unsafe { facts.as_ref() }) else { return 0 };
    set::put_in(&RuleMaps, index, facts, Asking::unpack(asking));
    0
}

/// Takes it out of one.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn take_out_of_set(facts: *const Facts, index: u32, asking: u32) -> u32 {
    // SAFETY: as above.
    let Some(facts) = (unsafe { facts.as_ref() }) else { return 0 };
    set::take_out(&RuleMaps, index, facts, Asking::unpack(asking));
    0
}

/// What table raw says of the packet on the desk before anything else is asked; a
/// [`path::Sifted`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn sift(scratch: *mut Scratch, generation: u32, in_ifindex: u32, now: u64) -> u32 {
    // SAFETY: null, or memory of this type that nobody else uses meanwhile.
    let Some(scratch) = (unsafe { scratch.as_mut() }) else { return Sifted::Passes as u32 };
    path::sift(&Maps::without_packet(), scratch, generation, in_ifindex, Nanos(now)) as u32
}

/// What the rules say of the packet on the desk; an [`Outcome`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn judge_rules(scratch: *mut Scratch) -> u32 {
    // SAFETY: null, or memory of this type that nobody else uses meanwhile.
    let Some(scratch) = (unsafe { scratch.as_mut() }) else { return Outcome::Broken as u32 };
    path::judge(&Maps::without_packet(), scratch) as u32
}

/// Finds the class that the packet on the desk has of one field.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn classify(scratch: *mut Scratch, field: u32) -> u32 {
    // SAFETY: as above.
    let Some(scratch) = (unsafe { scratch.as_mut() }) else { return 0 };
    let Scratch { search, walk, headers, .. } = scratch;
    search.classify(&RuleMaps, walk.slot, headers, field);
    0
}

/// As [`classify`], for an address of IPv6, one level of the tree after another.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn classify_wide(scratch: *mut Scratch, field: u32, level: u32) -> u32 {
    // SAFETY: as above.
    let Some(scratch) = (unsafe { scratch.as_mut() }) else { return 0 };
    let Scratch { search, walk, headers, .. } = scratch;
    search.classify_wide(&RuleMaps, walk.slot, headers, field, level);
    0
}

/// Opens the list of rules of that class.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn open_list(scratch: *mut Scratch, field: u32) -> u32 {
    // SAFETY: as above.
    let Some(scratch) = (unsafe { scratch.as_mut() }) else { return 0 };
    let Scratch { search, walk, headers, .. } = scratch;
    search.open(&RuleMaps, walk.slot, headers, field);
    0
}

/// Moves the walk to the next rule that the packet may match; 0 to be asked again.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn seek(scratch: *mut Scratch) -> u32 {
    // SAFETY: as above.
    let Some(scratch) = (unsafe { scratch.as_mut() }) else { return 1 };
    let next = classifier::seek(
        &RuleMaps,
        scratch,
        |scratch, field| {
            if classifier::is_wide(&scratch.headers, field) {
                for level in 0..LEVELS as u32 {
                    classify_wide(scratch, field, level);
                }
            } else {
                classify(scratch, field);
            }
            open_list(scratch, field);
        },
        |scratch, field| {
            advance(scratch, field);
        },
    );
    u32::from(next != Next::NotYet)
}

/// Goes on in the list of one field.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn advance(scratch: *mut Scratch, field: u32) -> u32 {
    // SAFETY: as above.
    let Some(scratch) = (unsafe { scratch.as_mut() }) else { return 0 };
    scratch.search.advance(&RuleMaps, scratch.walk.slot, field);
    0
}

/// What the rules and the cookie say of an ACK; a [`synproxy::Answer`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn question(scratch: *mut Scratch) -> u32 {
    // SAFETY: as above.
    let Some(scratch) = (unsafe { scratch.as_mut() }) else { return 0 };
    synproxy::question(&Maps::without_packet(), scratch) as u32
}

#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn xdp_header(ctx: *mut xdp_md, scratch: *mut Scratch) -> u32 {
    // SAFETY: as above.
    let Some(scratch) = (unsafe { scratch.as_mut() }) else { return 0 };
    let Scratch { proxy, headers, .. } = scratch;
    u32::from(proxy.header.read(&XdpPacket { ctx }, &Maps::of_xdp(ctx), headers))
}

#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn tc_header(skb: *mut __sk_buff, scratch: *mut Scratch) -> u32 {
    // SAFETY: as above.
    let Some(scratch) = (unsafe { scratch.as_mut() }) else { return 0 };
    let Scratch { proxy, headers, .. } = scratch;
    u32::from(proxy.header.read(&SkbPacket { skb }, &Maps::of_tc(skb, true), headers))
}

#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn xdp_settle(
    ctx: *mut xdp_md,
    scratch: *mut Scratch,
    flow: *mut Flow,
    is_reply: u32,
) -> u32 {
    // SAFETY: null, or memory of these types; other CPUs may change the flow's words.
    let (scratch, flow) = unsafe { (scratch.as_mut(), flow.as_mut()) };
    let (Some(scratch), Some(flow)) = (scratch, flow) else { return 0 };
    let maps = Maps::of_xdp(ctx);
    synproxy::settle(&XdpPacket { ctx }, &maps, scratch, flow, direction_of(is_reply));
    0
}

#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn tc_settle(
    skb: *mut __sk_buff,
    scratch: *mut Scratch,
    flow: *mut Flow,
    is_reply: u32,
) -> u32 {
    // SAFETY: as above.
    let (scratch, flow) = unsafe { (scratch.as_mut(), flow.as_mut()) };
    let (Some(scratch), Some(flow)) = (scratch, flow) else { return 0 };
    let maps = Maps::of_tc(skb, true);
    synproxy::settle(&SkbPacket { skb }, &maps, scratch, flow, direction_of(is_reply));
    0
}

/// Tells of a flow that begins, and of one that it replaces; 0 when there is no
/// space for it.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn flow_begin(scratch: *mut Scratch, now: u64) -> u32 {
    // SAFETY: null, or memory of this type that nobody else uses meanwhile.
    let Some(scratch) = (unsafe { scratch.as_mut() }) else { return 0 };
    u32::from(flow_event::begin(&Maps::without_packet(), scratch, Nanos(now)))
}

/// Tells how a flow stands.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn flow_update(scratch: *mut Scratch, now: u64) -> u32 {
    // SAFETY: as above.
    let Some(scratch) = (unsafe { scratch.as_mut() }) else { return 0 };
    flow_event::update(&Maps::without_packet(), scratch, Nanos(now));
    0
}

/// Ends a flow, and tells so.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn flow_end(scratch: *mut Scratch, now: u64) -> u32 {
    // SAFETY: as above.
    let Some(scratch) = (unsafe { scratch.as_mut() }) else { return 0 };
    flow_event::end(&Maps::without_packet(), scratch, Nanos(now));
    0
}

/// Notes what a helper is told of the segment on the desk. `flow` is that of the packet, or
/// null: the new one on the desk.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn describe(
    scratch: *mut Scratch,
    flow: *const Flow,
    is_reply: u32,
    now: u64,
) -> u32 {
    // SAFETY: null, or memory of these types; others may write the flow meanwhile, of
    // whose words each is read as it was or is.
    let (scratch, flow) = unsafe { (scratch.as_mut(), flow.as_ref()) };
    let Some(scratch) = scratch else { return 0 };
    path::describe(scratch, flow, direction_of(is_reply), Nanos(now));
    0
}

/// Notes that the segment that was described goes on unread.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn pass_unread(scratch: *const Scratch) -> u32 {
    // SAFETY: as above.
    let Some(scratch) = (unsafe { scratch.as_ref() }) else { return 0 };
    punt::pass(&scratch.punt);
    0
}

/// Whether the first fragment on the desk repeats another. Of fragments, this and those
/// below, only maps are looked at: they serve every program.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn is_repeated(scratch: *mut Scratch, now: u64) -> u32 {
    // SAFETY: null, or memory of this type that nobody else uses meanwhile.
    let Some(scratch) = (unsafe { scratch.as_mut() }) else { return 0 };
    u32::from(fragment::is_repeated(&Maps::without_packet(), scratch, Nanos(now)))
}

/// The first fragment on the desk has been accepted, or else dropped.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn settle_fragments(scratch: *mut Scratch, is_granted: u32, now: u64) -> u32 {
    // SAFETY: as above.
    let Some(scratch) = (unsafe { scratch.as_mut() }) else { return 0 };
    if is_granted != 0 {
        fragment::grant(&Maps::without_packet(), scratch, Nanos(now));
    } else {
        fragment::refuse(&Maps::without_packet(), scratch, Nanos(now));
    }
    0
}

/// A later fragment.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn inherit_fragment(scratch: *mut Scratch, visit: u32, now: u64) -> u32 {
    // SAFETY: as above.
    let Some(scratch) = (unsafe { scratch.as_mut() }) else {
        return Inherited::Drop(DropReason::FragmentUnknown).pack();
    };
    fragment::inherit(&Maps::without_packet(), scratch, Visit::from_number(visit), Nanos(now))
        .pack()
}

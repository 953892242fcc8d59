//! TC: what leaves, what comes in where XDP cannot be, and what the daemon
//! sends back.

use aya_ebpf::{
    bindings::{__sk_buff, BPF_F_INGRESS, TC_ACT_SHOT},
    helpers::{bpf_redirect, bpf_redirect_neigh, bpf_skb_change_tail, bpf_skb_store_bytes},
    macros::classifier,
    programs::TcContext,
};
use firewall_common::{
    control::{REINJECT_EGRESS_MARK, REINJECT_ELSEWHERE_MARK, REINJECT_INGRESS_MARK, device},
    event::Hook,
    fragment::Visit,
    headers::Headers,
    mangle::change,
    nat::desk::done,
    packet::Packet,
    reject::{Answer, Lengths},
    rule::{Chain, RejectKind},
    scratch::Scratch,
    tables::Tables,
    verdict::Stat,
    wire::Ethernet,
};

use crate::{
    answer,
    mangle::{
        NUMBER,
        tc::{
            REROUTED, parcel_of, tc_carry, tc_lead, tc_mangled_egress, tc_mangled_ingress,
            tc_receive, tc_redirect, tc_send_off,
        },
    },
    nat,
    packet::SkbPacket,
    proxy, punt, shortcut,
    stage::{self, decision},
    tables::{Maps, is_ours},
    verifier::opaque,
    xdp::{note, parcel_in, token},
};

/// Goes on to the next program of the hook. Not `TC_ACT_OK`, which would end it
/// for those of the admin.
pub const NEXT: i32 = -1;
/// `skb->tc_index` of a packet that FORWARD has judged; the stack keeps it.
pub const FORWARDED: u32 = 0xf7b1;
/// `skb->pkt_type` of a frame to this host, and of one that the stack ignores.
const PACKET_HOST: u32 = 0;
const PACKET_OTHERHOST: u32 = 3;

#[classifier]
pub fn firewall_ingress(ctx: TcContext) -> i32 {
    ingress(ctx.skb.skb)
}

#[classifier]
pub fn firewall_egress(ctx: TcContext) -> i32 {
    egress(ctx.skb.skb)
}

#[inline(always)]
fn ingress(skb: *mut __sk_buff) -> i32 {
    let packet = SkbPacket::new(skb);
    let ifindex = packet.ifindex();
    let maps = Maps::of_tc(skb, false);
    if packet.mark() == REINJECT_INGRESS_MARK {
        maps.count(Stat::Reinjected as u32);
        if let Some(number) = parcel_of(packet.tc_index()) {
            return tc_receive(skb, number, 0);
        }
        packet.set_mark(0);
        packet.set_tc_index(FORWARDED);
        return NEXT;
    }
    let Some(found) = maps.device(ifindex) else { return NEXT };
    if let Some((visit, _)) = Visit::of_mark(packet.mark()) {
        packet.set_mark(0);
        return judge(&packet, &maps, tc_link(skb) & link::PRESENT, visit);
    }
    match read_note(&packet) {
        note::REFLECT => {
            packet.set_mark(REINJECT_EGRESS_MARK);
            // SAFETY: the helper only notes the interface.
            return unsafe { bpf_redirect(ifindex, 0) } as i32;
        }
        note::FORWARDED => {
            packet.set_tc_index(FORWARDED);
            return NEXT;
        }
        note::PROXIED => return translate(&packet, tc_link(skb)),
        parcel if parcel & !NUMBER == note::PARCEL => {
            return tc_receive(skb, parcel & NUMBER, tc_link(skb) & link::PRESENT);
        }
        _ => {}
    }
    let link = tc_link(skb);
    if found.flags & device::GENERIC != 0 && link & link::PARCEL != 0 {
        return tc_receive(skb, link >> link::NUMBER, link & link::PRESENT);
    }
    if found.flags & device::GENERIC != 0 && link & (link::PROXIED | link::FORWARDED) != 0 {
        if link & link::PROXIED != 0 {
            return translate(&packet, link);
        }
        // The daemon's frames have come round with theirs.
        if parcel_of(packet.tc_index()).is_none() {
            packet.set_tc_index(FORWARDED);
        }
        return NEXT;
    }
    // XDP has judged it, unless it was for another station then.
    if found.flags & device::TC == 0 && link & link::OTHER_MAC == 0 {
        return NEXT;
    }
    if packet.packet_type() == PACKET_OTHERHOST {
        maps.count(Stat::PassOtherHost as u32);
        return NEXT;
    }
    if link == link::PRESENT && takes_shortcut(&packet) {
        packet.set_tc_index(FORWARDED);
        return NEXT;
    }
    judge(&packet, &maps, link & link::PRESENT, Visit::New)
}

/// Whether the short way has judged the packet, which the stack is to send on.
#[inline(always)]
fn takes_shortcut(packet: &SkbPacket) -> bool {
    // A mark may lead it another way, and a tag that the device has taken out is not seen.
    if packet.mark() != 0 || packet.has_tag() {
        return false;
    }
    match shortcut::is_ipv6(packet) {
        true => shortcut::tc_shortcut6(packet.skb) != 0,
        false => shortcut::tc_shortcut(packet.skb) != 0,
    }
}

/// The whole path of what comes in.
#[inline(always)]
fn judge(packet: &SkbPacket, maps: &Maps, has_ethernet: u32, visit: Visit) -> i32 {
    let skb = packet.skb;
    let mut decided = stage::tc_filter_ingress(skb, has_ethernet, visit as u32);
    if decided == decision::AGAIN {
        decided = stage::tc_filter_ingress(skb, has_ethernet, visit as u32);
    }
    if decided == decision::PROVE {
        if proxy::tc::tc_prove(skb, 0) == 0 {
            return TC_ACT_SHOT;
        }
        decided = stage::tc_filter_ingress(skb, has_ethernet, Visit::New as u32);
        proxy::forget_proof(maps);
    }
    let is_mangled = decided & decision::MANGLED != 0;
    if is_mangled {
        let is_forwarded = u32::from(decided & decision::ACTION == decision::FORWARD);
        if tc_mangled_ingress(skb, is_forwarded) == 0 {
            return TC_ACT_SHOT;
        }
    }
    if decided & decision::PROXIED != 0 && proxy::tc::deliver(skb, 0, has_ethernet) != NEXT {
        return TC_ACT_SHOT;
    }
    if decided & (decision::MANGLED | decision::PROXIED) != 0 {
        decided &= decision::ACTION;
    }
    match decided {
        decision::PASS | decision::OTHER_STATION => NEXT,
        decision::FORWARD => {
            if !is_mangled {
                packet.set_tc_index(FORWARDED);
            }
            maps.count(Stat::ForwardStack as u32);
            NEXT
        }
        decision::HOLD => {
            tc_hold(skb, 0);
            TC_ACT_SHOT
        }
        decision::COOKIE => proxy::tc::tc_cookie(skb, 0),
        decision::WAIT => {
            tc_wait(skb, 0);
            TC_ACT_SHOT
        }
        decision::DROP | decision::PROVE | decision::AGAIN => TC_ACT_SHOT,
        reject => tc_reject(skb, reject - decision::REJECT, 0),
    }
}

#[inline(always)]
fn egress(skb: *mut __sk_buff) -> i32 {
    let packet = SkbPacket::new(skb);
    let ifindex = packet.ifindex();
    let ingress_ifindex = packet.ingress_ifindex();
    let maps = Maps::of_tc(skb, true);
    // Judged when it came in. What the stack forwards without FORWARD's consent,
    // by a way that only it knows, is judged here.
    if ingress_ifindex != 0 && packet.tc_index() == FORWARDED && is_ours(&maps, ingress_ifindex) {
        packet.set_tc_index(0);
        return NEXT;
    }
    let found = maps.device(ifindex);
    let has_ethernet = found.is_none_or(|found| found.flags & device::ETHERNET != 0);
    let has_ethernet = u32::from(has_ethernet);
    if let Some(number) = parcel_of(packet.tc_index())
        && ingress_ifindex != 0
        && is_ours(&maps, ingress_ifindex)
    {
        return tc_send_off(skb, number, has_ethernet);
    }
    // Judged at the interface that it was to leave by.
    if ingress_ifindex == 0 && packet.tc_index() == REROUTED {
        packet.set_tc_index(0);
        return NEXT;
    }
    let visit = match packet.mark() {
        REINJECT_INGRESS_MARK => return turn_back(&packet, &maps, has_ethernet),
        REINJECT_EGRESS_MARK => {
            // The mark of its own, where the daemon has sent it.
            packet.set_mark(packet.priority());
            packet.set_priority(0);
            return NEXT;
        }
        REINJECT_ELSEWHERE_MARK => return tc_lead(skb, has_ethernet),
        mark => match Visit::of_mark(mark) {
            // TC ingress judges it, by its mark.
            Some((_, Hook::Ingress)) => return to_ingress(ifindex),
            Some((visit, Hook::Egress)) => {
                packet.set_mark(0);
                visit
            }
            None => Visit::New,
        },
    };
    let mut decided = stage::tc_filter_egress(skb, has_ethernet, visit as u32);
    if decided == decision::AGAIN {
        decided = stage::tc_filter_egress(skb, has_ethernet, visit as u32);
    }
    if !matches!(visit, Visit::New) {
        packet.set_priority(0);
    }
    if decided == decision::PROVE {
        if proxy::tc::tc_prove(skb, 1) == 0 {
            return TC_ACT_SHOT;
        }
        decided = stage::tc_filter_egress(skb, has_ethernet, Visit::New as u32);
        proxy::forget_proof(&maps);
    }
    let is_mangled = decided & decision::MANGLED != 0;
    if is_mangled && tc_mangled_egress(skb) != NEXT {
        return TC_ACT_SHOT;
    }
    if decided & decision::PROXIED != 0 && proxy::tc::deliver(skb, 1, has_ethernet) != NEXT {
        return TC_ACT_SHOT;
    }
    // Until here it has been known by its inside ends.
    let leaves = is_mangled && maps.scratch().is_some_and(|desk| desk.nat.has(done::LEAVES));
    if leaves && nat::tc::tc_leave(skb, 1) == 0 {
        return TC_ACT_SHOT;
    }
    if decided & (decision::MANGLED | decision::PROXIED) != 0 {
        decided &= decision::ACTION;
    }
    match decided {
        decision::PASS if is_mangled && leaves_elsewhere(&maps, ifindex) => tc_redirect(skb),
        decision::PASS | decision::FORWARD | decision::OTHER_STATION => NEXT,
        decision::HOLD => {
            tc_hold(skb, 1);
            // To nowhere: the frame is gone, and its sender sees no failure, as it
            // would with a drop.
            // SAFETY: the helper only notes the interface.
            unsafe { bpf_redirect(0, 0) as i32 }
        }
        decision::COOKIE => proxy::tc::tc_cookie(skb, 1),
        decision::WAIT => {
            tc_wait(skb, 1);
            // SAFETY: as above.
            unsafe { bpf_redirect(0, 0) as i32 }
        }
        decision::DROP | decision::PROVE | decision::AGAIN => TC_ACT_SHOT,
        reject => tc_reject(skb, reject - decision::REJECT, 1),
    }
}

/// Whether rules have led a packet of this host to another interface, or to another host.
#[inline(always)]
fn leaves_elsewhere(maps: &Maps, ifindex: u32) -> bool {
    maps.scratch().is_some_and(|scratch| leads_elsewhere(scratch, ifindex))
}

#[inline(always)]
const fn leads_elsewhere(scratch: &Scratch, ifindex: u32) -> bool {
    let is_led = scratch.nat.has(done::CAME | done::TURNED);
    scratch.walk.chain == Chain::Output as u8 && (is_led || scratch.walk.out_ifindex != ifindex)
}

/// What XDP has judged and left to us to translate.
#[inline(always)]
fn translate(packet: &SkbPacket, link: u32) -> i32 {
    packet.set_tc_index(FORWARDED);
    proxy::tc::deliver(packet.skb, 0, link & link::PRESENT)
}

/// A frame that the daemon sends back to the ingress of this interface.
#[inline(always)]
fn turn_back(packet: &SkbPacket, maps: &Maps, has_ethernet: u32) -> i32 {
    let ifindex = packet.ifindex();
    // Only TC ingress needs the mark; the stack and the admin's rules do not.
    let flags = maps.device(ifindex).map_or(device::TC, |found| found.flags);
    if flags & device::TC == 0 {
        // The mark is the one that rules have set.
        tc_carry(packet.skb, has_ethernet, packet.priority());
        packet.set_mark(packet.priority());
        // Generic XDP counts it by its token.
        if flags & device::GENERIC == 0 {
            maps.count(Stat::Reinjected as u32);
        }
    } else {
        tc_carry(packet.skb, has_ethernet, packet.priority());
    }
    to_ingress(ifindex)
}

#[inline(always)]
fn to_ingress(ifindex: u32) -> i32 {
    // SAFETY: the helper only notes the interface.
    unsafe { bpf_redirect(ifindex, u64::from(BPF_F_INGRESS)) as i32 }
}

/// Copies the segment for the helper.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn tc_hold(skb: *mut __sk_buff, is_egress: u32) -> u32 {
    let packet = SkbPacket { skb };
    let maps = Maps::of_tc(skb, is_egress != 0);
    let Some(scratch) = maps.scratch() else { return 0 };
    scratch.punt.ifindex = packet.ifindex();
    scratch.punt.hook = if is_egress != 0 { Hook::Egress } else { Hook::Ingress } as u8;
    let leads_elsewhere = is_egress != 0 && leads_elsewhere(scratch, packet.ifindex());
    scratch.punt.leaves_elsewhere = u8::from(leads_elsewhere);
    scratch.punt.gso_size = packet.gso_size();
    // Its own mark leads it once more, where rules have set none.
    let own = opaque(packet.mark() as usize) as u32;
    if is_egress != 0 && !scratch.mangling.has(change::MARK | change::MARK_OUT) {
        scratch.punt.mark = own;
    }
    u32::from(punt::hold(&packet, &maps, scratch))
}

/// Copies the fragment to where it waits for its first.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn tc_wait(skb: *mut __sk_buff, is_egress: u32) -> u32 {
    let packet = SkbPacket { skb };
    let maps = Maps::of_tc(skb, is_egress != 0);
    let Some(scratch) = maps.scratch() else { return 0 };
    scratch.early.ifindex = packet.ifindex();
    scratch.early.hook = if is_egress != 0 { Hook::Egress } else { Hook::Ingress } as u8;
    u32::from(punt::keep(&packet, &maps, scratch))
}

/// What a frame's Ethernet header tells on ingress, as bits of [`tc_link`].
mod link {
    /// The frame's bytes begin with it: behind generic XDP they begin with the network
    /// header.
    pub const PRESENT: u32 = 1 << 0;
    /// Generic XDP has put our word for a note in the place of the sender's address.
    pub const FORWARDED: u32 = 1 << 1;
    pub const PROXIED: u32 = 1 << 2;
    /// To another address than XDP knows, and yet the stack takes it: the interface's
    /// address has just changed.
    pub const OTHER_MAC: u32 = 1 << 3;
    /// As FORWARDED, for a parcel, whose number stands in the bits from NUMBER on.
    pub const PARCEL: u32 = 1 << 4;
    pub const NUMBER: u32 = 16;
}

/// Bits of [`link`]; a function of its own, which has a stack of its own.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn tc_link(skb: *mut __sk_buff) -> u32 {
    let packet = &SkbPacket { skb };
    let maps = &Maps::of_tc(skb, false);
    let Some(found) = maps.device(packet.ifindex()) else { return 0 };
    if found.flags & device::ETHERNET == 0 {
        return 0;
    }
    let Some(header) = packet.ethernet() else { return 0 };
    let is_present = packet.read::<Ethernet>(0).is_some_and(|first| {
        first.dst == header.dst && first.src == header.src && first.ether_type == header.ether_type
    });
    let mut bits = if is_present { link::PRESENT } else { 0 };
    if header.src == token(maps, note::FORWARDED) {
        bits |= link::FORWARDED;
    }
    if header.src == token(maps, note::PROXIED) {
        bits |= link::PROXIED;
    }
    if let Some(number) = parcel_in(maps, header.src) {
        bits |= link::PARCEL | number << link::NUMBER;
    }
    if packet.packet_type() == PACKET_HOST && header.dst != found.mac {
        bits |= link::OTHER_MAC;
    }
    bits
}

/// What XDP has told of the frame, 0 for nothing.
#[inline(always)]
fn read_note(packet: &SkbPacket) -> u32 {
    // SAFETY: the word is read after it was found to lie before the packet.
    unsafe {
        let meta = core::ptr::read_volatile(&raw const (*packet.skb).data_meta) as usize;
        if meta + size_of::<u32>() <= packet.data() { *(meta as *const u32) } else { 0 }
    }
}

/// Turns the packet into its own answer and sends it to where it came from: out
/// of the interface that it came in by, or up again to a sender on this host.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn tc_reject(skb: *mut __sk_buff, kind: u32, is_egress: u32) -> i32 {
    let packet = SkbPacket { skb };
    let maps = Maps::of_tc(skb, is_egress != 0);
    let (Some(scratch), Some(kind)) = (maps.scratch(), RejectKind::from_byte(kind as u8)) else {
        return TC_ACT_SHOT;
    };
    // Its sender hears from whom it has spoken to.
    if nat::tc::tc_undo(skb, is_egress) == 0 {
        return TC_ACT_SHOT;
    }
    let from =
        if packet.ingress_ifindex() != 0 { packet.ingress_ifindex() } else { packet.ifindex() };
    let Some((written, lengths)) = answer::compose(&packet, &maps, scratch, from, kind) else {
        return TC_ACT_SHOT;
    };
    let is_own = is_egress != 0 && packet.ingress_ifindex() == 0;
    if is_own && maps.device(from).is_some_and(|found| found.flags & device::GENERIC != 0) {
        // Generic XDP will see it: this is how it knows.
        written.ethernet.src = maps.options().token;
    }
    if !write_over(&packet, &scratch.headers, written, lengths)
        || answer::tc_may_leave(skb, is_egress) == 0
    {
        return TC_ACT_SHOT;
    }
    send_back(&packet, is_egress != 0)
}

/// Sends an answer to where the packet came from; gives the action.
#[inline(always)]
pub fn send_back(packet: &SkbPacket, is_egress: bool) -> i32 {
    let from =
        if packet.ingress_ifindex() != 0 { packet.ingress_ifindex() } else { packet.ifindex() };
    let is_own = is_egress && packet.ingress_ifindex() == 0;
    packet.set_mark(if is_own { REINJECT_INGRESS_MARK } else { REINJECT_EGRESS_MARK });
    packet.set_priority(0);
    // SAFETY: the helpers only note the interface.
    unsafe {
        match (is_own, is_egress) {
            (true, _) => bpf_redirect(from, u64::from(BPF_F_INGRESS)) as i32,
            (false, false) => bpf_redirect(from, 0) as i32,
            // The stack has put this interface's addresses in front of it.
            (false, true) => bpf_redirect_neigh(from, core::ptr::null_mut(), 0, 0) as i32,
        }
    }
}

#[inline(always)]
fn write_over(
    packet: &SkbPacket,
    headers: &Headers,
    written: &mut Answer,
    lengths: Lengths,
) -> bool {
    let l3 = headers.l3;
    // SAFETY: each length is at most that of the piece; no packet pointer is
    // held across the calls.
    unsafe {
        bpf_skb_change_tail(packet.skb, l3 + lengths.headers + lengths.quoted, 0) == 0
            && answer::store(written, lengths, l3, |offset, from, len| {
                bpf_skb_store_bytes(packet.skb.cast(), offset, from, len, 0) == 0
            })
    }
}

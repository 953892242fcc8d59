//! Fragments through the whole path, on tables in memory: in order, out of order,
//! overlapping, tiny.

use firewall_common::{
    control::HEARTBEAT_LIMIT,
    event::Hook,
    flow::FlowKey,
    fragment::{EarlyKind, MAX_HELD_PER_SECOND, Visit},
    rule::{Chain, Rule, Target, flag},
    seq::Seq,
    tables::{FlowTable, Place, Tables as _},
    testing::{Frame, Memory},
    time::Nanos,
    verdict::{DropReason, STATS, Stat, Verdict, is_verdict},
    wire::tcp_flag::{ACK, FIN, PSH, SYN},
};

const CLIENT: &str = "192.0.2.2";
const SERVER: &str = "198.51.100.2";
const NOW: Nanos = Nanos::from_secs(1_000);

const FORWARDED: Verdict = Verdict::Accept(Chain::Forward);
const OVERLAP: Verdict = Verdict::Drop(DropReason::FragmentOverlap);
const WAITS: Verdict = Verdict::Wait(Chain::Forward);
const UNKNOWN: Verdict = Verdict::Drop(DropReason::FragmentUnknown);

/// Every chain accepts, and a daemon is there.
fn open() -> Memory {
    Memory::with(|memory| memory.heartbeat = NOW)
}

/// Every chain drops.
fn closed() -> Memory {
    let drop = Rule { target: Target::Drop as u8, flags: flag::POLICY, ..Rule::default() };
    Memory::with(|memory| {
        memory.heartbeat = NOW;
        memory.rules = vec![drop];
    })
}

fn to_server(flags: u8) -> Frame {
    Frame::between(CLIENT, SERVER).tcp(40_000, 80, flags)
}

fn send(memory: &Memory, frame: &Frame) -> Verdict {
    memory.filter(&frame.build(), NOW)
}

/// Sends a frame, which must move its verdict's counter and no other one.
fn counted(memory: &Memory, frame: &Frame) -> Verdict {
    let before = memory.stats();
    let verdict = send(memory, frame);
    let after = memory.stats();
    for counter in (0..STATS).filter(|counter| is_verdict(*counter)) {
        let moved = after[counter as usize] - before[counter as usize];
        assert_eq!(moved, u64::from(counter == verdict.counter()), "{frame:?}");
    }
    verdict
}

fn first() -> Frame {
    to_server(ACK | PSH).payload(&[b'x'; 44]).fragment(0, true, 99)
}

fn later(id: u32) -> Frame {
    Frame::between(CLIENT, SERVER).protocol(6).payload(&[b'y'; 32]).fragment(8, false, id)
}

#[test]
fn later_ones_follow_the_first() {
    let memory = open();
    assert_eq!(counted(&memory, &first()), FORWARDED);
    assert_eq!(counted(&memory, &later(99)), FORWARDED);
}

/// A later fragment of the datagram 99, in units of 8 bytes.
fn part(offset: u16, units: usize, has_more: bool) -> Frame {
    let payload = vec![b'z'; units * 8];
    let frame = Frame::between(CLIENT, SERVER).protocol(6).payload(&payload);
    frame.fragment(offset, has_more, 99)
}

fn again(memory: &Memory, visit: Visit, frame: &Frame) -> Verdict {
    let place = Place { hook: Hook::Ingress, ifindex: 1, has_ethernet: true, visit };
    memory.filter_from(place, &frame.build(), NOW)
}

#[test]
fn one_that_overlaps_ends_its_datagram() {
    for (offset, units) in [(1, 8), (4, 8), (7, 2), (15, 2), (11, 8)] {
        let memory = open();
        send(&memory, &first());
        assert_eq!(counted(&memory, &part(12, 4, true)), FORWARDED);
        assert_eq!(counted(&memory, &part(offset, units, true)), OVERLAP, "{offset}");
        assert_eq!(counted(&memory, &part(8, 4, true)), OVERLAP, "{offset}");
        // Its sender may begin anew.
        assert_eq!(counted(&memory, &first()), FORWARDED);
        assert_eq!(counted(&memory, &part(8, 4, true)), FORWARDED);
    }
}

#[test]
fn one_that_comes_twice_is_dropped_and_no_more() {
    let memory = open();
    send(&memory, &first());
    for repeated in [first(), part(8, 4, true), part(9, 2, true)] {
        if repeated.build() == part(8, 4, true).build() {
            assert_eq!(counted(&memory, &repeated), FORWARDED);
        }
        assert_eq!(counted(&memory, &repeated), OVERLAP);
    }
    assert_eq!(counted(&memory, &part(12, 4, false)), FORWARDED);
}

#[test]
fn none_comes_behind_the_last() {
    let memory = open();
    send(&memory, &first());
    assert_eq!(counted(&memory, &part(16, 4, false)), FORWARDED);
    assert_eq!(counted(&memory, &part(20, 4, true)), OVERLAP);
    let memory = open();
    send(&memory, &first());
    assert_eq!(counted(&memory, &part(20, 4, true)), FORWARDED);
    assert_eq!(counted(&memory, &part(12, 4, false)), OVERLAP);
}

#[test]
fn a_datagram_that_is_complete_is_forgotten() {
    let memory = open();
    for _ in 0..2 {
        assert_eq!(counted(&memory, &first()), FORWARDED);
        assert_eq!(counted(&memory, &part(12, 4, false)), FORWARDED);
        assert_eq!(counted(&memory, &part(8, 4, true)), FORWARDED);
    }
    assert_eq!(send(&memory, &part(8, 4, true)), WAITS);
}

#[test]
fn those_that_reassembly_refuses_are_malformed() {
    let memory = open();
    send(&memory, &first());
    let between = || Frame::between(CLIENT, SERVER).protocol(6);
    let refused = [
        ("nothing in it", between().fragment(8, true, 99)),
        ("half a unit, and more to come", between().payload(&[0; 12]).fragment(8, true, 99)),
        ("beyond the longest datagram", between().payload(&[0; 16]).fragment(8191, false, 99)),
    ];
    for (what, frame) in refused {
        let verdict = counted(&memory, &frame);
        assert_eq!(verdict, Verdict::Drop(DropReason::Malformed), "{what}");
    }
}

#[test]
fn the_stream_of_a_cut_segment_ends_where_its_last_fragment_does() {
    let memory = open();
    send(&memory, &to_server(SYN));
    let (key, sender) = FlowKey::of(&memory.scratch().headers.tuple);
    let side = |memory: &Memory| {
        let (_, flow) = memory.known(&key).unwrap();
        *flow.side(flow.direction(sender))
    };
    let flow = memory.flow(FlowTable::Embryonic, &key).unwrap();
    let direction = flow.direction(sender);
    flow.side_mut(direction).window.max_size = 1;
    flow.side_mut(direction).window.end = Seq(1_044);
    // The first one has 20 bytes of header and 44 of the stream, from 1,001 on.
    send(&memory, &to_server(FIN | ACK).payload(&[b'x'; 44]).fragment(0, true, 99));
    send(&memory, &part(12, 4, true));
    assert_eq!(side(&memory).window.end, Seq(1_001 + 12 * 8 + 32 - 20));
    send(&memory, &part(8, 4, true));
    assert_eq!(side(&memory).window.end, Seq(1_001 + 12 * 8 + 32 - 20), "it does not go back");
    let last = Frame::between(CLIENT, SERVER).protocol(6).payload(&[0; 5]);
    send(&memory, &last.fragment(16, false, 99));
    assert_eq!(side(&memory).window.end, Seq(1_001 + 16 * 8 + 5 - 20 + 1), "with the FIN");
}

#[test]
fn those_of_ipv6_follow_too_whatever_headers_the_first_one_has() {
    let memory = open();
    let between = || Frame::between("2001:db8:1::2", "2001:db8:2::2");
    let first = between().tcp(1, 80, SYN).payload(&[b'x'; 44]).fragment(0, true, 7);
    let later = between().protocol(60).payload(&[b'y'; 32]).fragment(8, false, 7);
    assert_eq!(counted(&memory, &first), FORWARDED);
    assert_eq!(counted(&memory, &later), FORWARDED);
}

#[test]
fn those_of_a_dropped_one_are_dropped() {
    let memory = closed();
    send(&memory, &first());
    assert_eq!(counted(&memory, &later(99)), UNKNOWN);
}

mod that_come_before_their_first {
    use super::*;

    #[test]
    fn wait_and_are_judged_when_they_come_again() {
        let memory = open();
        let before = memory.stats();
        assert_eq!(send(&memory, &later(99)), WAITS);
        let held = Stat::FragmentsHeld as usize;
        let moved = |place: usize| memory.stats()[place] - before[place];
        assert!((0..STATS as usize).all(|place| moved(place) == u64::from(place == held)));
        let key = memory.scratch().early.key;
        memory.awaited.borrow_mut().insert(key);
        assert_eq!(counted(&memory, &first()), FORWARDED);
        let told: Vec<_> =
            memory.told.borrow().iter().map(|early| (early.key, early.kind)).collect();
        assert_eq!(told, [(key, EarlyKind::Granted as u8)]);
        assert_eq!(again(&memory, Visit::Waited, &later(99)), FORWARDED);
    }

    #[test]
    fn are_told_when_it_was_dropped_or_could_not_be_read() {
        let tiny = Frame::between(CLIENT, SERVER).protocol(6).payload(&[0; 8]);
        for (memory, first) in [(closed(), first()), (open(), tiny.fragment(0, true, 99))] {
            send(&memory, &later(99));
            memory.awaited.borrow_mut().insert(memory.scratch().early.key);
            send(&memory, &first);
            let told: Vec<_> = memory.told.borrow().iter().map(|early| early.kind).collect();
            assert_eq!(told, [EarlyKind::Refused as u8]);
            assert_eq!(again(&memory, Visit::Waited, &later(99)), UNKNOWN);
        }
    }

    #[test]
    fn are_dropped_when_it_does_not_come_or_nobody_has_space_or_is_there() {
        let mut memory = open();
        assert_eq!(again(&memory, Visit::Waited, &later(99)), UNKNOWN);
        let overflow = Verdict::Drop(DropReason::FragmentOverflow);
        assert_eq!(again(&memory, Visit::NoSpace, &later(99)), overflow);
        let held = (0..30_000).filter(|_| send(&memory, &later(99)) == WAITS);
        assert_eq!(held.count() as u64, MAX_HELD_PER_SECOND);
        assert_eq!(counted(&memory, &later(99)), overflow);
        memory.heartbeat = Nanos::ZERO;
        let late = NOW.after(HEARTBEAT_LIMIT).after(HEARTBEAT_LIMIT);
        assert_eq!(memory.filter(&later(99).build(), late), UNKNOWN);
    }

    #[test]
    fn by_another_interface_are_of_another_datagram() {
        let memory = open();
        send(&memory, &first());
        let verdict = memory.filter_at(Hook::Ingress, 3, &later(99).build(), NOW);
        assert_eq!(verdict, WAITS);
    }
}

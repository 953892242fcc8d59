//! Which address, and which ports, an [`Order`] means for a packet.

use super::{
    Kind, Order,
    claim::{Ports, scale},
    order::flag,
};
use crate::{addr::Addr, flow::Tuple};

/// An address of the order's range. Who comes from one address to another gets the same one
/// again; with `--persistent` whoever comes from one address.
#[inline(always)]
pub fn address(order: &Order, tuple: &Tuple) -> Addr {
    let mut seed = mix(&tuple.src, u32::from(tuple.protocol));
    if !order.has(flag::PERSISTENT) {
        seed = mix(&tuple.dst, seed);
    }
    let mut chosen = order.first;
    let mut is_free = false;
    for word in 0..4 {
        let first = u32::from_be(order.first.words[word]);
        let last = u32::from_be(order.last.words[word]);
        let (from, count) = if is_free { (0, u32::MAX) } else { (first, last.wrapping_sub(first)) };
        // Behind a word below its bound the next may be any.
        let ahead = if count == u32::MAX { seed } else { scale(seed, count.wrapping_add(1)) };
        let value = from.wrapping_add(ahead);
        chosen.words[word] = value.to_be();
        is_free = is_free || value != last;
        seed = seed.wrapping_mul(SPREAD).rotate_left(13);
    }
    chosen
}

/// The golden ratio of 2^32.
const SPREAD: u32 = 0x9e37_79b1;

#[inline(always)]
fn mix(address: &Addr, seed: u32) -> u32 {
    let mut hash = seed;
    for word in address.words {
        hash = (hash ^ word).wrapping_mul(SPREAD);
        hash ^= hash >> 15;
    }
    hash
}

/// The same host in another network: NETMAP.
#[inline(always)]
pub const fn mapped(order: &Order, address: Addr) -> Addr {
    let [a, b, c, d] = address.words;
    let [k, l, m, n] = order.last.words;
    let [p, q, r, s] = order.first.words;
    Addr { words: [a & !k | p & k, b & !l | q & l, c & !m | r & m, d & !n | s & n] }
}

/// The destination that an order of PREROUTING or OUTPUT gives; `own` is the address that
/// REDIRECT means, `dice` any number.
#[inline(always)]
pub fn destination(order: &Order, tuple: &mut Tuple, own: Addr, dice: u32) {
    let chosen = match order.kind {
        Kind::Destination if order.has(flag::ADDRESSES) => address(order, tuple),
        Kind::Redirect => own,
        Kind::Netmap => mapped(order, tuple.dst),
        _ => tuple.dst,
    };
    tuple.dst = chosen;
    if order.has(flag::PORTS) {
        let mut ports = Ports::default();
        ports.range(order.first_port, order.last_port);
        if order.has(flag::SHIFTED) {
            let ahead = u32::from(tuple.dport.wrapping_sub(order.base));
            let ahead = ahead.checked_rem(ports.count).unwrap_or(0);
            tuple.dport = (ports.first + ahead) as u16;
        } else if order.has(flag::RANDOM | flag::RANDOM_FULLY) || !ports.contains(tuple.dport) {
            tuple.dport = (ports.first + scale(dice, ports.count)) as u16;
        }
    }
}

/// The source that an order of POSTROUTING or INPUT gives; its port is searched for then.
#[inline(always)]
pub fn source(order: &Order, tuple: &Tuple, own: Addr) -> Addr {
    match order.kind {
        Kind::Source if order.has(flag::ADDRESSES) => address(order, tuple),
        Kind::Masquerade => own,
        Kind::Netmap => mapped(order, tuple.src),
        _ => tuple.src,
    }
}

#[cfg(test)]
mod tests {
    use core::net::IpAddr;

    use super::*;
    use crate::addr::Family;

    fn addr(text: &str) -> Addr {
        text.parse::<IpAddr>().unwrap().into()
    }

    fn order(kind: Kind, first: &str, last: &str, flags: u8) -> Order {
        let (first, last) = (addr(first), addr(last));
        let flags = flags | flag::ADDRESSES;
        Order { kind, flags, first, last, first_port: 0, last_port: 0, base: 0 }
    }

    #[test]
    fn every_address_of_a_range_is_given_and_no_other() {
        let order = order(Kind::Source, "203.0.113.250", "203.0.114.4", 0);
        let mut given: Vec<IpAddr> = (0..2_000u32)
            .map(|host| {
                let src = Addr::v4((0x0a00_0000 + host).to_be());
                let tuple = Tuple { src, dst: addr("192.0.2.1"), ..Tuple::default() };
                address(&order, &tuple).to_ip()
            })
            .collect();
        given.sort_unstable();
        given.dedup();
        assert_eq!(given.len(), 11);
        assert_eq!(given[0].to_string(), "203.0.113.250");
        assert_eq!(given[10].to_string(), "203.0.114.4");
    }

    #[test]
    fn an_ipv6_range_stays_within_its_bounds() {
        let order = order(Kind::Source, "2001:db8::5", "2001:db8::1:2", 0);
        for host in 0..500u32 {
            let src = addr(&format!("2001:db8:1::{host:x}"));
            let tuple = Tuple { src, dst: addr("2001:db8:2::1"), ..Tuple::default() };
            let IpAddr::V6(given) = address(&order, &tuple).to_ip() else { panic!("no IPv6") };
            let given =
                u128::from(given) - u128::from("2001:db8::".parse::<std::net::Ipv6Addr>().unwrap());
            assert!((5..=0x1_0002).contains(&given), "{given:x}");
        }
    }

    #[test]
    fn a_persistent_address_does_not_depend_on_the_destination() {
        let order = order(Kind::Source, "203.0.113.1", "203.0.113.200", flag::PERSISTENT);
        let to = |dst: &str| Tuple { src: addr("10.0.0.7"), dst: addr(dst), ..Tuple::default() };
        let first = address(&order, &to("192.0.2.1"));
        assert!((2..100).all(|n| address(&order, &to(&format!("192.0.2.{n}"))) == first));
    }

    #[test]
    fn a_network_is_mapped_host_by_host() {
        let mut order = order(Kind::Netmap, "198.51.100.0", "0.0.0.0", 0);
        order.last = Addr::mask(Family::Ipv4, 24);
        assert_eq!(mapped(&order, addr("10.1.2.77")), addr("198.51.100.77"));
    }

    #[test]
    fn a_port_within_the_range_stays_and_another_gets_one_of_it() {
        let order = Order {
            kind: Kind::Destination,
            flags: flag::PORTS,
            first: Addr::ANY,
            last: Addr::ANY,
            first_port: 8_000,
            last_port: 8_009,
            base: 0,
        };
        let dst = addr("192.0.2.1");
        let mut tuple = Tuple { dst, dport: 8_003, ..Tuple::default() };
        destination(&order, &mut tuple, Addr::ANY, u32::MAX);
        assert_eq!((tuple.dst, tuple.dport), (dst, 8_003));
        for (dice, port) in [(0, 8_000), (u32::MAX, 8_009)] {
            let mut tuple = Tuple { dst, dport: 80, ..Tuple::default() };
            destination(&order, &mut tuple, Addr::ANY, dice);
            assert_eq!(tuple.dport, port);
        }
    }

    /// As nf_nat counts, in sixteen bits (NF_NAT_RANGE_PROTO_OFFSET).
    #[test]
    fn a_shifted_port_is_as_far_from_the_first_one_as_it_was_from_the_base() {
        let order = Order {
            kind: Kind::Destination,
            flags: flag::PORTS | flag::SHIFTED | flag::RANDOM,
            first: Addr::ANY,
            last: Addr::ANY,
            first_port: 5_000,
            last_port: 5_009,
            base: 8_080,
        };
        for (port, becomes) in [
            (8_080, 5_000),
            (8_089, 5_009),
            (8_090, 5_000),
            (5_003, 5_000 + (u32::from(5_003u16.wrapping_sub(8_080)) % 10) as u16),
            (8_079, 5_005),
        ] {
            let mut tuple = Tuple { dport: port, ..Tuple::default() };
            destination(&order, &mut tuple, Addr::ANY, u32::MAX);
            assert_eq!(tuple.dport, becomes, "{port}");
        }
    }
}

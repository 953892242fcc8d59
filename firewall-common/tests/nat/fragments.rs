//! Fragments of translated packets.

use super::*;

#[test]
fn later_ones_are_translated_as_their_first() {
    let order = to(Kind::Destination, INNER, INNER);
    let mut memory = gateway(Chain::NatPrerouting, &[(order, towards(PUBLIC, 53))]);
    add(
        &mut memory,
        Chain::NatPostrouting,
        &[(to(Kind::Source, "10.0.1.1", "10.0.1.1"), Rule::default())],
    );
    let first = Frame::between(SERVER, PUBLIC).udp(5_000, 53).payload(&[1; 16]);
    let later = Frame::between(SERVER, PUBLIC).protocol(17).payload(&[2; 20]);
    let out = pass(&memory, &first.fragment(0, true, 7).build()).unwrap();
    assert_eq!(ends(&out), "10.0.1.1:5000 > 10.0.1.5:53");
    let out = headers(&pass(&memory, &later.fragment(3, false, 7).build()).unwrap()).tuple;
    assert_eq!((out.src, out.dst), (addr("10.0.1.1"), addr(INNER)));
}

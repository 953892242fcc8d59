//! ICMP errors about translated packets.

use super::*;

const ROUTER: &str = "198.18.0.1";

#[test]
fn an_error_about_a_masqueraded_packet_reaches_its_client() {
    let memory = masquerading();
    let sent = Frame::between(CLIENT, SERVER).tcp(40_000, 80, SYN).payload(b"x");
    pass(&memory, &sent.build()).unwrap();
    let on_the_wire = Frame::between(PUBLIC, SERVER).tcp(40_000, 80, SYN).payload(b"x");
    let error = Frame::between(ROUTER, PUBLIC).icmp_error(3, 4, &on_the_wire).build();
    let back = pass(&memory, &error).unwrap();
    let outer = headers(&back);
    assert_eq!((outer.tuple.src, outer.tuple.dst), (addr(ROUTER), addr(CLIENT)));
    let mut inner = Headers::default();
    inner.parse(&back[outer.payload as usize..], false).unwrap();
    assert_eq!(text(&inner.tuple), "10.0.0.2:40000 > 192.0.2.80:80");
}

#[test]
fn an_error_of_an_inner_router_comes_as_from_the_public_address() {
    let order = with_ports(to(Kind::Destination, INNER, INNER), 8_080, 8_080);
    let memory = gateway(Chain::NatPrerouting, &[(order, Rule::default())]);
    let sent = Frame::between(SERVER, PUBLIC).udp(5_000, 80).payload(b"odd");
    pass(&memory, &sent.build()).unwrap();
    let inside = Frame::between(SERVER, INNER).udp(5_000, 8_080).payload(b"odd");
    let error = Frame::between("10.0.1.1", SERVER).icmp_error(3, 1, &inside).build();
    let back = pass(&memory, &error).unwrap();
    let outer = headers(&back);
    assert_eq!((outer.tuple.src, outer.tuple.dst), (addr(PUBLIC), addr(SERVER)));
    let mut inner = Headers::default();
    inner.parse(&back[outer.payload as usize..], false).unwrap();
    assert_eq!(text(&inner.tuple), "192.0.2.80:5000 > 203.0.113.1:80");
}

#[test]
fn an_ipv6_error_covers_what_it_quotes() {
    let order = to(Kind::Source, "2001:db8:f::1", "2001:db8:f::1");
    let memory = gateway(Chain::NatPostrouting, &[(order, Rule::default())]);
    let (client, server) = ("2001:db8:1::2", "2001:db8:2::80");
    let sent = |src| Frame::between(src, server).udp(5_000, 53).payload(b"data");
    pass(&memory, &sent(client).build()).unwrap();
    let error = Frame::between("2001:db8:3::1", "2001:db8:f::1");
    let error = error.icmp_error(2, 0, &sent("2001:db8:f::1")).build();
    let back = pass(&memory, &error).unwrap();
    let outer = headers(&back);
    assert_eq!(outer.tuple.dst, addr(client));
    let mut inner = Headers::default();
    inner.parse(&back[outer.payload as usize..], false).unwrap();
    assert_eq!(inner.tuple.src, addr(client));
}

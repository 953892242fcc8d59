//! How connections begin.

use super::{Scenario, scenario};
use crate::{
    oracle::{
        options::TcpOption,
        talk::{ack, data, fin, flags, rst, rst_ack, syn, syn_ack},
    },
    packet::flag::{ACK, CWR, ECE, PSH, SYN, URG},
};

pub(super) const SCENARIOS: &[Scenario] = &[
    scenario("SYN, SYN-ACK, ACK and data both ways", |talk| {
        talk.open();
        talk.client(data(100));
        talk.server(ack());
        talk.server(data(200));
        talk.client(ack());
    }),
    scenario("only a SYN", |talk| talk.client(syn())),
    scenario("a SYN that is sent again", |talk| {
        talk.client(syn());
        talk.client(syn().seq(-1));
        talk.client(syn().seq(-1));
        talk.server(syn_ack());
        talk.client(ack());
    }),
    scenario("a SYN again with another number", |talk| {
        talk.client(syn());
        talk.client(syn().seq(5_000));
        talk.server(syn_ack());
        talk.client(ack());
    }),
    scenario("a SYN-ACK that is sent again", |talk| {
        talk.client(syn());
        talk.server(syn_ack());
        talk.server(syn_ack().seq(-1));
        talk.client(ack());
        talk.server(syn_ack().seq(-1));
        talk.client(ack());
    }),
    scenario("no last ACK, but data of the client", |talk| {
        talk.client(syn());
        talk.server(syn_ack());
        talk.client(data(100));
        talk.server(ack());
    }),
    scenario("data of the server before the last ACK", |talk| {
        talk.client(syn());
        talk.server(syn_ack());
        talk.server(data(100));
        talk.client(ack());
        talk.client(ack());
    }),
    scenario("an ACK before the SYN-ACK", |talk| {
        talk.client(syn());
        talk.client(ack());
        talk.server(syn_ack());
        talk.client(ack());
    }),
    scenario("data before the SYN-ACK", |talk| {
        talk.client(syn());
        talk.client(data(10).stray());
        talk.server(syn_ack());
        talk.client(ack());
    }),
    scenario("a FIN before the SYN-ACK", |talk| {
        talk.client(syn());
        talk.client(fin().stray());
        talk.server(syn_ack());
        talk.client(ack());
    }),
    scenario("a SYN-ACK that acknowledges another SYN", |talk| {
        talk.client(syn());
        talk.server(syn_ack().ack(10_000).stray());
        talk.client(rst().seq(9_999));
        talk.server(syn_ack());
        talk.client(ack());
    }),
    scenario("a SYN-ACK that acknowledges nothing", |talk| {
        talk.client(syn());
        talk.server(syn_ack().ack(-1));
        talk.client(ack());
    }),
    scenario("refused", |talk| {
        talk.client(syn());
        talk.server(rst_ack());
    }),
    scenario("refused and tried again", |talk| {
        talk.client(syn());
        talk.server(rst_ack());
        talk.restart(64_000, 64_000);
        talk.open();
    }),
    scenario("refused with a number that nobody sent", |talk| {
        talk.client(syn());
        talk.server(rst_ack().ack(5_000));
        talk.server(syn_ack());
        talk.client(ack());
    }),
    scenario("given up by the client with RST", |talk| {
        talk.client(syn());
        talk.client(rst());
    }),
    scenario("given up after the SYN-ACK", |talk| {
        talk.client(syn());
        talk.server(syn_ack());
        talk.client(rst());
    }),
    scenario("an ACK of an older connection answers the SYN, and RST follows", |talk| {
        talk.client(syn());
        talk.server(ack().ack(-50_000).seq(70_000));
        talk.client(rst().seq(-50_001));
        talk.client(syn().seq(-1));
        talk.server(syn_ack());
        talk.client(ack());
    }),
    scenario("simultaneous open", |talk| {
        talk.client(syn());
        talk.server(syn().mss(1460));
        talk.client(syn_ack().seq(-1));
        talk.server(syn_ack().seq(-1));
        talk.client(data(10));
        talk.server(data(10));
    }),
    scenario("simultaneous open with one SYN-ACK and an ACK", |talk| {
        talk.client(syn());
        talk.server(syn());
        talk.server(syn_ack().seq(-1));
        talk.client(ack());
        talk.server(ack());
    }),
    scenario("simultaneous open, SYN of the client again", |talk| {
        talk.client(syn());
        talk.server(syn());
        talk.client(syn().seq(-1));
        talk.server(syn().seq(-1));
        talk.client(syn_ack().seq(-1));
        talk.server(ack());
        talk.client(ack());
    }),
    scenario("simultaneous open that ends with RST", |talk| {
        talk.client(syn());
        talk.server(syn());
        talk.client(rst());
    }),
    scenario("data in the SYN, acknowledged (fast open)", |talk| {
        let cookie = TcpOption::FastOpen(vec![1, 2, 3, 4, 5, 6, 7, 8]);
        talk.client(syn().len(300).option(cookie).mss(1460));
        talk.server(syn_ack().mss(1460));
        talk.client(ack());
        talk.client(data(50));
        talk.server(data(50));
    }),
    scenario("data in the SYN, not acknowledged", |talk| {
        talk.client(syn().len(300).option(TcpOption::FastOpen(vec![1, 2, 3, 4])));
        talk.server(syn_ack().ack(-300));
        talk.client(data(300).seq(-300));
        talk.server(ack());
    }),
    scenario("data in the SYN and in the SYN-ACK", |talk| {
        talk.client(syn().len(300));
        talk.server(syn_ack().len(1_000));
        talk.server(data(1_000));
        talk.client(ack());
    }),
    scenario("data in the SYN, and more before the answer", |talk| {
        talk.client(syn().len(300));
        talk.client(data(300));
        talk.server(syn_ack().ack(-300));
        talk.client(ack());
    }),
    scenario("explicit congestion notification is offered and taken", |talk| {
        talk.open_with(syn().and(ECE | CWR), syn_ack().and(ECE));
        talk.client(data(10).and(CWR));
        talk.server(ack().and(ECE));
    }),
    scenario("explicit congestion notification is offered and refused", |talk| {
        talk.open_with(syn().and(ECE | CWR), syn_ack());
        talk.client(data(10));
    }),
    scenario("a SYN with PSH and one with URG", |talk| {
        talk.client(flags(SYN | PSH));
        talk.server(syn_ack());
        talk.client(ack());
        talk.flow(1);
        talk.client(flags(SYN | URG));
        talk.server(flags(SYN | ACK | PSH));
        talk.client(ack());
    }),
    scenario("a SYN-ACK out of nothing", |talk| {
        talk.server(syn_ack());
        talk.client(rst());
    }),
    scenario("every option that stacks send", |talk| {
        talk.open_with(
            syn().mss(1460).sack_permitted().timestamps(1, 0).scale(7),
            syn_ack().mss(1460).sack_permitted().timestamps(9, 1).scale(8),
        );
        talk.client(data(500).timestamps(2, 9));
        talk.server(ack().timestamps(10, 2));
    }),
    scenario("options that end in the middle of one", |talk| {
        talk.open_with(
            syn().option(TcpOption::Raw(vec![3, 3, 7, 4])),
            syn_ack().option(TcpOption::Raw(vec![1, 1, 3, 9])),
        );
        talk.client(data(500));
        talk.server(data(500));
    }),
    scenario("an option of no length, and one of length one", |talk| {
        talk.open_with(
            syn().option(TcpOption::Raw(vec![8, 0, 3, 3, 7, 0, 0, 0])),
            syn_ack().option(TcpOption::Raw(vec![8, 1, 3, 3, 7, 0, 0, 0])),
        );
        talk.client(data(500));
        talk.server(data(500));
    }),
];

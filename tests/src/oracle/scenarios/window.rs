//! What fits into the windows, and what does not. The windows are 8192 bytes unless
//! the segments say otherwise.

use super::{Scenario, scenario};
use crate::oracle::talk::{ack, data, syn, syn_ack};

pub(super) const SCENARIOS: &[Scenario] = &[
    scenario("data that fills the window to its edge", |talk| {
        talk.open();
        talk.client(data(100).seq(8_092));
        talk.server(ack());
        talk.server(data(100).seq(8_092));
        talk.client(ack());
    }),
    scenario("data that overshoots the edge by a byte", |talk| {
        talk.open();
        talk.client(data(100).seq(8_093));
        talk.server(ack());
        talk.server(data(100).seq(8_093));
        talk.client(ack());
    }),
    scenario("data that overshoots by the largest window", |talk| {
        talk.open();
        talk.client(data(100).seq(16_283));
        talk.client(data(100));
        talk.server(ack());
        talk.server(data(100).seq(16_283));
        talk.server(data(100));
    }),
    scenario("data that overshoots by more than the largest window", |talk| {
        talk.open();
        talk.client(data(100).seq(16_284));
        talk.client(data(100));
        talk.server(data(100).seq(16_284));
        talk.server(data(100));
        talk.client(data(100).seq(1_000_000));
    }),
    scenario("data that begins at the edge, and one byte behind it", |talk| {
        talk.open();
        talk.client(data(100).seq(8_192));
        talk.client(data(1).seq(8_191));
        talk.client(ack().seq(8_192));
        talk.client(ack().seq(8_193));
        talk.client(ack().seq(16_384));
        talk.client(ack().seq(16_385));
    }),
    scenario("an ACK of what was overshot", |talk| {
        talk.open();
        talk.client(data(100).seq(9_000));
        talk.server(ack().ack(9_100));
        talk.client(data(100));
        talk.server(ack());
    }),
    scenario("data too old by the receiver's window and a byte", |talk| {
        talk.open();
        talk.client(data(1_000));
        talk.server(ack());
        for _ in 0..20 {
            talk.client(data(1_000));
            talk.server(ack());
        }
        talk.client(data(100).seq(-8_192));
        talk.client(data(100).seq(-8_292));
        talk.client(data(100).seq(-8_293));
        talk.client(ack().seq(-8_192));
        talk.client(ack().seq(-8_193));
        talk.client(ack().seq(-20_000));
        talk.client(data(100));
    }),
    scenario("data that is far too old", |talk| {
        talk.open();
        talk.client(data(100).seq(-200_000));
        talk.server(data(100).seq(-200_000));
        talk.client(data(100));
    }),
    scenario("an ACK of unsent data", |talk| {
        talk.open();
        talk.client(data(100));
        talk.server(ack().ack(1));
        talk.server(ack().ack(50_000));
        talk.server(data(100).ack(50_000).stray());
        talk.server(ack());
    }),
    scenario("an ACK that is too old", |talk| {
        talk.open();
        for _ in 0..100 {
            talk.client(data(1_000));
            talk.server(ack());
        }
        talk.server(ack().ack(-8_192));
        talk.server(ack().ack(-66_000));
        talk.server(ack().ack(-66_001));
        talk.server(ack().ack(-66_200));
        talk.server(ack().ack(-90_000));
        talk.server(data(10).ack(-90_000).stray());
        talk.server(ack());
    }),
    scenario("window updates", |talk| {
        talk.open();
        talk.server(ack().window(1_000));
        talk.client(data(1_000).stray());
        talk.client(data(100).seq(1_000));
        talk.server(ack().window(20_000));
        talk.client(data(1_000).seq(19_000));
        talk.client(data(1_000).seq(19_001));
        talk.server(ack().window(500));
        talk.client(data(1_000).seq(19_000));
        talk.client(data(100).seq(8_193));
    }),
    scenario("a zero window, probes, and an opening", |talk| {
        talk.open();
        talk.client(data(1_000));
        talk.server(ack().window(0));
        talk.client(data(1));
        talk.server(ack().ack(-1).window(0));
        talk.client(data(1).seq(-1));
        talk.server(ack().ack(-1).window(0));
        talk.server(ack().window(8_192));
        talk.client(data(1_000));
    }),
    scenario("a zero window to the end", |talk| {
        talk.open();
        talk.client(data(1_000));
        talk.server(ack().window(0));
    }),
    scenario("a zero window of the client, answered by data", |talk| {
        talk.open();
        talk.client(ack().window(0));
        talk.server(data(100));
        talk.client(ack().window(0));
        talk.server(data(1));
        talk.client(ack().window(0));
    }),
    scenario("a SYN with window zero", |talk| {
        talk.open_with(syn().window(0), syn_ack().window(0));
        talk.client(data(100));
        talk.server(data(100));
        talk.server(ack().window(100));
        talk.client(data(100));
    }),
    scenario("scaled windows", |talk| {
        talk.open_scaled(7, 3);
        // The client's windows are 128 times what they say, the server's 8 times.
        talk.client(ack());
        talk.server(ack());
        talk.client(data(100).seq(65_436));
        talk.client(data(100).seq(65_437));
        talk.client(data(100).seq(130_971));
        talk.client(data(100).seq(130_973));
        talk.server(data(100).seq(1_048_476));
        talk.server(data(100).seq(1_048_477));
        talk.server(data(100).seq(2_097_052));
        talk.server(data(100).seq(2_097_053));
    }),
    scenario("the windows of SYN and SYN-ACK are not scaled", |talk| {
        talk.client(syn().scale(7));
        talk.server(syn_ack().scale(7));
        talk.server(data(100).seq(8_092));
        talk.server(data(100).seq(8_093));
        talk.server(data(100).seq(16_284));
        talk.server(data(100).seq(16_285));
    }),
    scenario("a scale that only the client offers", |talk| {
        talk.open_with(syn().scale(7), syn_ack());
        talk.client(ack());
        talk.server(data(100).seq(8_092));
        talk.server(data(100).seq(16_283));
        talk.server(data(100).seq(16_284));
        talk.server(data(100).seq(100_000));
    }),
    scenario("a scale that only the server offers", |talk| {
        talk.open_with(syn(), syn_ack().scale(7));
        talk.server(ack());
        talk.client(data(100).seq(8_092));
        talk.client(data(100).seq(16_284));
        talk.client(data(100).seq(100_000));
    }),
    scenario("a scale above 14", |talk| {
        talk.open_scaled(15, 200);
        talk.server(ack());
        talk.client(ack());
        talk.client(data(100).seq(100_000_000));
        talk.server(data(100).seq(134_217_628));
        talk.server(data(100).seq(200_000_000));
        talk.server(data(100).seq(268_435_357));
    }),
    scenario("scales of zero", |talk| {
        talk.open_scaled(0, 0);
        talk.client(data(100).seq(16_283));
        talk.client(data(100).seq(16_284));
    }),
    scenario("a window beyond the largest there is", |talk| {
        talk.open_with(syn().window(65_535), syn_ack().window(65_535));
        talk.client(data(100).seq(131_000));
        talk.client(data(100).seq(130_970));
        talk.server(ack().window(65_535));
        talk.server(ack().window(1));
        talk.client(data(100).seq(131_000));
    }),
    scenario("many bytes each way, with ACKs behind", |talk| {
        talk.open_scaled(4, 4);
        for _ in 0..30 {
            talk.client(data(1_400));
            talk.client(data(1_400));
            talk.server(ack().ack(-1_400));
            talk.server(data(1_400));
            talk.client(ack());
        }
        talk.server(ack());
    }),
    scenario("data that wraps far around", |talk| {
        talk.open();
        talk.client(data(100).seq(0x7fff_ff00));
        talk.client(data(100).seq(0x8000_0000));
        talk.client(data(100).seq(-0x7fff_ff00));
        talk.client(ack().ack(0x7fff_ff00));
        talk.client(ack().ack(0x8000_0000));
        talk.client(data(100));
    }),
];

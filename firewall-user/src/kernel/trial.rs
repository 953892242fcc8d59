//! One packet through a loaded program, outside any traffic
//! (`BPF_PROG_TEST_RUN`). The maps move as they would for a real one.

use std::time::Duration;

use anyhow::{Context, Result};
use aya::programs::{TestRun, TestRunOptions};
use bytemuck::{Pod, Zeroable};

use super::load::{Programs, classifier, xdp};

/// What became of the packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trial {
    /// `XDP_*` or `TC_ACT_*`.
    pub action: u32,
    /// As the program left it.
    pub frame: Vec<u8>,
    /// Of one run, on average.
    pub duration: Duration,
}

/// `struct xdp_md`.
#[repr(C)]
#[derive(Clone, Copy, Default, Pod, Zeroable)]
struct XdpContext {
    data: u32,
    data_end: u32,
    data_meta: u32,
    ingress_ifindex: u32,
    rx_queue_index: u32,
    egress_ifindex: u32,
}

/// What a program may make of a frame.
const LONGEST: usize = 65_536;

impl Programs {
    /// A frame that comes in by an interface to which the program is attached,
    /// in the network namespace of the calling thread.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn try_xdp(&mut self, frame: &[u8], ifindex: u32, repeat: u32) -> Result<Trial> {
        let context = XdpContext {
            data_end: frame.len() as u32,
            ingress_ifindex: ifindex,
            ..XdpContext::default()
        };
        let mut after = vec![0; LONGEST];
        let run = xdp(&mut self.ebpf)?
            .test_run(TestRunOptions {
                data_in: Some(frame),
                data_out: Some(&mut after),
                ctx_in: Some(bytemuck::bytes_of(&context)),
                repeat,
                ..TestRunOptions::default()
            })
            .context("cannot try a packet in XDP")?;
        after.truncate(run.data_size_out as usize);
        Ok(Trial { action: run.return_value, frame: after, duration: run.duration })
    }

    /// A frame of this host that leaves; the kernel takes the loopback device for
    /// its interface.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn try_egress(&mut self, frame: &[u8], repeat: u32) -> Result<Trial> {
        let mut after = vec![0; LONGEST];
        let run = classifier(&mut self.ebpf, "firewall_egress")?
            .test_run(TestRunOptions {
                data_in: Some(frame),
                data_out: Some(&mut after),
                repeat,
                ..TestRunOptions::default()
            })
            .context("cannot try a packet in TC")?;
        after.truncate(run.data_size_out as usize);
        Ok(Trial { action: run.return_value, frame: after, duration: run.duration })
    }
}

//! One packet through a loaded program, outside any traffic
//! (`BPF_PROG_TEST_RUN`). The maps move as they would for a real one.

use std::time::Duration;

use anyhow::{Context, Result};
use aya::programs::{TestRun, TestRunOptions};
use bytemuck::{Pod, Zeroable};
use firewall_common::event::Hook;

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

/// `struct __sk_buff` up to the interface; the kernel takes the rest for zero, and
/// refuses what it would not look at.
#[repr(C)]
#[derive(Clone, Copy, Default, Pod, Zeroable)]
struct SkbContext {
    /// Length, type, mark, queue, protocol, VLAN and priority.
    _unset: [u32; 9],
    ingress_ifindex: u32,
    ifindex: u32,
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

    /// A frame at TC, as if it came in or left by an interface in the network
    /// namespace of the calling thread; one that leaves is of this host. Programs
    /// need not be attached.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn try_tc(&mut self, hook: Hook, frame: &[u8], ifindex: u32, repeat: u32) -> Result<Trial> {
        self.try_tc_from(hook, frame, ifindex, 0, repeat)
    }

    /// As [`Programs::try_tc`], of a frame that has come in by an interface.
    ///
    /// # Errors
    /// As there.
    pub fn try_tc_from(
        &mut self,
        hook: Hook,
        frame: &[u8],
        ifindex: u32,
        ingress_ifindex: u32,
        repeat: u32,
    ) -> Result<Trial> {
        let program = match hook {
            Hook::Ingress => "firewall_ingress",
            Hook::Egress => "firewall_egress",
        };
        let context = SkbContext { ingress_ifindex, ifindex, ..SkbContext::default() };
        let mut after = vec![0; LONGEST];
        let run = classifier(&mut self.ebpf, program)?
            .test_run(TestRunOptions {
                data_in: Some(frame),
                data_out: Some(&mut after),
                ctx_in: Some(bytemuck::bytes_of(&context)),
                repeat,
                ..TestRunOptions::default()
            })
            .with_context(|| format!("cannot try a packet in {program}"))?;
        after.truncate(run.data_size_out as usize);
        Ok(Trial { action: run.return_value, frame: after, duration: run.duration })
    }
}

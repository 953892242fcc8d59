//! TC: what leaves, what comes in where XDP cannot be, and what the daemon
//! sends back.

use aya_ebpf::{
    bindings::{
        __sk_buff, BPF_F_INGRESS, TC_ACT_OK, TC_ACT_SHOT, TC_ACT_STOLEN, bpf_skb_change_tail_flags,
    },
    helpers::{bpf_redirect, bpf_skb_change_tail, bpf_skb_store_bytes},
    macros::classifier,
    programs::TcContext,
};
use firewall_common::{
    control::{REINJECT_EGRESS_MARK, REINJECT_INGRESS_MARK, device},
    event::Hook,
    packet::Packet,
    path,
    rule::{Chain, RejectKind},
    scratch::Scratch,
    tables::{Place, Tables},
    verdict::{Stat, Verdict},
    wire::Ethernet,
};

use crate::{
    answer,
    packet::SkbPacket,
    punt,
    tables::{Maps, Program, is_ours, now},
    xdp::REFLECT,
};

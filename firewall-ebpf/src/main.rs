//! The firewall's programs for the kernel.
//!
//! They adapt: packets to [`firewall_common::packet::Packet`], maps to
//! [`firewall_common::tables::Tables`], a verdict to an action. What becomes of
//! a packet is decided in firewall-common.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]
#![feature(core_intrinsics)]
#![allow(internal_features, reason = "the way to the BPF instruction that compares and swaps")]

mod accept;
mod answer;
mod chunks;
mod cookie;
mod decide;
mod families;
mod hops;
mod lists;
mod mangle;
mod maps;
mod memory;
mod nat;
mod owner;
mod packet;
mod proxy;
mod punt;
mod route;
mod rule_maps;
mod sets;
mod shift;
mod shortcut;
mod stage;
mod tables;
mod tc;
mod verifier;
mod xdp;

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    // A reachable panic makes the program fail to load.
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

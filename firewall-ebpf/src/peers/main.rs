//! Programs to measure with, and to measure the firewall against.
//!
//! [`shape`] makes each packet anew from a template, with one of many clients, and hands it
//! to the program that is measured. What it costs itself is measured with [`pass`] behind
//! it. The others stand for what a firewall may be compared with.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod frame;
mod peer;
mod traffic;
#[path = "../verifier.rs"]
mod verifier;

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    // A reachable panic makes the program fail to load.
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

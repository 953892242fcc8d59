#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| firewall_fuzz::rewriter(data));

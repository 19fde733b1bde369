#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| strict25519_fuzz::ways(data));

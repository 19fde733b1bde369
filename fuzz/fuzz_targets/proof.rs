#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| passportd_fuzz::proof(data));

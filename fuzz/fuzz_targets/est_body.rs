#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| tegata_fuzz::est_body(data));

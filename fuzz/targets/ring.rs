//! Entry point of libFuzzer for [`consoleserver_fuzz::ring`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| consoleserver_fuzz::ring::run(data));

//! Entry point of libFuzzer for [`consoleserver_fuzz::certificates`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| consoleserver_fuzz::certificates::run(data));

//! libFuzzer's way to [`consoleserver_fuzz::certificates`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| consoleserver_fuzz::certificates::run(data));

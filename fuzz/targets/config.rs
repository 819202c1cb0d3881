//! Entry point of libFuzzer for [`consoleserver_fuzz::config`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| consoleserver_fuzz::config::run(data));

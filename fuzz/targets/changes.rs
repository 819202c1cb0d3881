//! Entry point of libFuzzer for [`consoleserver_fuzz::changes`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| consoleserver_fuzz::changes::run(data));

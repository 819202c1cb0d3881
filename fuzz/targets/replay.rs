//! Entry point of libFuzzer for [`consoleserver_fuzz::replay`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| consoleserver_fuzz::replay::run(data));

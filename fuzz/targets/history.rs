//! Entry point of libFuzzer for [`consoleserver_fuzz::history`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| consoleserver_fuzz::history::run(data));

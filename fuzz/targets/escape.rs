//! Entry point of libFuzzer for [`consoleserver_fuzz::escape`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| consoleserver_fuzz::escape::run(data));

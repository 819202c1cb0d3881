//! Entry point of libFuzzer for [`consoleserver_fuzz::triggers`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| consoleserver_fuzz::triggers::run(data));

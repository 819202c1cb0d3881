//! Entry point of libFuzzer for [`consoleserver_fuzz::exec`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| consoleserver_fuzz::exec::run(data));

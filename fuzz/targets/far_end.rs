//! Entry point of libFuzzer for [`consoleserver_fuzz::far_end`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| consoleserver_fuzz::far_end::run(data));

//! Entry point of libFuzzer for [`consoleserver_fuzz::encoders`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| consoleserver_fuzz::encoders::run(data));

//! Entry point of libFuzzer for [`consoleserver_fuzz::importers`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| consoleserver_fuzz::importers::run(data));

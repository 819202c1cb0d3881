//! Entry point of libFuzzer for [`consoleserver_fuzz::authorized_keys`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| consoleserver_fuzz::authorized_keys::run(data));

//! Entry point of libFuzzer for [`consoleserver_fuzz::auth_protocol`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| consoleserver_fuzz::auth_protocol::run(data));

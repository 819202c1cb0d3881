//! Entry point of libFuzzer for [`consoleserver_fuzz::attach_protocol`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| consoleserver_fuzz::attach_protocol::run(data));

//! Entry point of libFuzzer for [`consoleserver_fuzz::telnet`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| consoleserver_fuzz::telnet::run(data));

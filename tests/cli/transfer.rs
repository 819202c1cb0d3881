//! `consolectl transfer`: a file by lrzsz at both ends, over the local socket, to and from a device that is
//! another pseudo-terminal's end.

use std::fs;
use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::client::Client;
use crate::line_cable::{Cable, contents, ends_well};
use crate::rig::{Rig, sha256, until};

const MIB: usize = 1 << 20;

const SEED: u32 = 17;

/// Time for a file that takes ten seconds: XMODEM and YMODEM wait for the other end after each block, and so for every process between them.
const TRANSFER_TIMEOUT: Duration = Duration::from_secs(150);

struct Bench {
    rig: Rig,
    cable: Cable,
    there: PathBuf,
}

fn bench() -> Bench {
    let mut rig = Rig::new("baud = 1000000");
    let cable = Cable::plug_into(&rig);
    rig.start();
    rig.wait_for_status("8N1");
    let there = rig.path("there");
    fs::create_dir(&there).unwrap();
    Bench { rig, cable, there }
}

impl Bench {
    fn transfer(&self, words: &[&str]) -> Client {
        let words: Vec<&str> = ["transfer", "demo"].iter().chain(words).copied().collect();
        Client::start(self.rig.consolectl(&words))
    }
}

/// A file there and back again.
fn both_ways(size: usize, protocol: &str, [receiver, sender]: [&str; 2]) {
    let bench = bench();
    let contents = contents(SEED, size);
    let up = bench.rig.path("up");
    fs::write(&up, &contents).unwrap();
    let far = bench.cable.run(receiver, &bench.there);
    let mut near = bench.transfer(&["send", "--protocol", protocol, up.to_str().unwrap()]);
    near.ends_within(TRANSFER_TIMEOUT);
    ends_well("the receiver at the device", far);
    let there = fs::read(bench.there.join("up")).unwrap();
    assert!(there.len() - contents.len() < 128 && there.starts_with(&contents), "{}", sha256(&there));
    let said = String::from_utf8(near.shown()).unwrap();
    assert!(said.contains(&format!("up: {size} bytes sent by ")), "{said}");
    bench.rig.wait_for_status("0 attached");

    let down = bench.rig.path("down");
    let mut near = bench.transfer(&["receive", "--protocol", protocol, down.to_str().unwrap()]);
    bench.rig.wait_for_status("1 attached");
    fs::write(bench.there.join("evil"), &contents).unwrap();
    let far = bench.cable.run(sender, &bench.there);
    near.ends_within(TRANSFER_TIMEOUT);
    ends_well("the sender at the device", far);
    assert_eq!(sha256(&fs::read(&down).unwrap()), sha256(&contents));
    assert!(!bench.rig.path("evil").exists(), "the name of the far end is not used");
    let left: Vec<_> = fs::read_dir(bench.rig.dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .filter(|name| name.to_string_lossy().starts_with(".consolectl"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_mebibyte_goes_both_ways_by_ymodem() {
    both_ways(MIB, "y", ["rb --binary --quiet", "sb --quiet evil"]);
}

#[test]
fn a_mebibyte_goes_both_ways_by_zmodem() {
    both_ways(MIB, "zmodem", ["rz --binary --quiet", "sz --binary --quiet evil"]);
}

#[test]
fn a_file_goes_both_ways_by_xmodem() {
    // Whole blocks of 128 bytes, each with its own reply; a small number because each takes a round trip.
    both_ways(32 * 1024, "x", ["rx --binary --quiet up", "sx --quiet evil"]);
}

#[test]
fn a_file_that_exists_is_not_overwritten_and_what_is_no_file_is_not_sent() {
    let bench = bench();
    let there_is = bench.rig.path("there-is");
    fs::write(&there_is, "mine").unwrap();
    let mut near = bench.transfer(&["receive", there_is.to_str().unwrap()]);
    near.ends_with(1);
    assert!(
        near.aside().ends_with("there-is already exists: remove it, or use another name\n"),
        "{}",
        near.aside()
    );
    assert_eq!(fs::read(&there_is).unwrap(), b"mine");
    let mut near = bench.transfer(&["send", bench.there.to_str().unwrap()]);
    near.ends_with(1);
    assert!(near.aside().ends_with("there is not a file\n"), "{}", near.aside());
    bench.transfer(&["send", "--protocol", "kermit", "x"]).ends_with(2);
}

#[test]
fn a_port_that_is_in_use_is_left_alone_unless_forced() {
    let bench = bench();
    let mut writer = Client::start(bench.rig.consolectl(&["connect", "demo"]));
    bench.rig.wait_for_status("1 attached");
    let up = bench.rig.path("up");
    fs::write(&up, contents(SEED, MIB)).unwrap();
    let mut near = bench.transfer(&["send", up.to_str().unwrap()]);
    near.ends_with(1);
    assert!(
        near.aside().contains(" has write access at demo: transfer --force takes over"),
        "{}",
        near.aside()
    );
    let far = bench.cable.run("rz --binary --quiet", &bench.there);
    bench.transfer(&["send", "--force", up.to_str().unwrap()]).ends_with(0);
    ends_well("rz at the device", far);
    writer.end_input();
}

#[test]
fn an_interrupted_transfer_cancels_the_far_end() {
    let mut rig = Rig::new("");
    rig.start_plugged();
    let up = rig.path("up");
    fs::write(&up, contents(SEED, 1024)).unwrap();
    let mut near = Client::start(rig.consolectl(&["transfer", "demo", "send", up.to_str().unwrap()]));
    // sz queries a device that does not answer.
    until("ZRQINIT", || (rig.bytes_sent() > 0).then_some(()));
    near.signal(Signal::SIGINT);
    near.ends_with(1);
    assert!(
        near.aside().contains("interrupted: the cancel sequence was sent to the far end"),
        "{}",
        near.aside()
    );
    // CAN eight times: what ZMODEM's specification has receivers abort by (section 8.4).
    let mut sent = Vec::new();
    let mut device = rig.device();
    while !sent.ends_with(b"\x18\x18\x18\x18\x18\x18\x18\x18") {
        let mut byte = [0];
        device.read_exact(&mut byte).unwrap();
        sent.push(byte[0]);
    }
    rig.wait_for_status("0 attached");
}

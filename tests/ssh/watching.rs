//! Several people at a port: one writes, the rest watch and are told who.

use crate::client::Client;
use crate::rig::Rig;
use crate::{at_terminal, served};

const DEMO: &str = "demo (127.0.0.1)";

/// A writer and a watcher.
fn two(rig: &Rig) -> [Client; 2] {
    let mut writer = at_terminal(rig);
    let mut watcher = Client::start(rig.ssh(&["-tt", "demo@127.0.0.1"]));
    watcher.sees(&format!("[{DEMO} writes; you are watching; ^Eca to write]"));
    writer.sees(&format!("[{DEMO} attached, watching]"));
    [writer, watcher]
}

#[test]
fn a_watcher_sees_everything_and_cannot_type_and_is_told_so_once() {
    let rig = served("");
    let [mut writer, mut watcher] = two(&rig);
    watcher.type_in("x");
    watcher.sees(&format!("[{DEMO} writes; you are watching: what you type is not sent]"));
    watcher.type_in("yz");
    watcher.type_in("\x05cl0");
    // The answer to this comes after whatever those might have said.
    watcher.type_in("\x05cw");
    let meanwhile = watcher.sees("[demo here");
    assert_eq!(meanwhile.trim(), "", "told once, and no break");
    writer.type_in("mine");
    rig.expect_at_device(b"mine");
    rig.say(b"for both\r\n");
    writer.sees("for both");
    watcher.sees("for both");
    assert!(!rig.journal().contains("break"), "{}", rig.journal());
}

#[test]
fn writing_is_refused_while_somebody_writes() {
    let rig = served("");
    let [mut writer, mut watcher] = two(&rig);
    watcher.type_in("\x05ca");
    watcher.sees(&format!("[{DEMO} writes; f takes over]"));
    watcher.type_in("not this");
    watcher.sees("what you type is not sent]");
    writer.type_in("this");
    rig.expect_at_device(b"this");
}

#[test]
fn taking_over_makes_the_loser_a_watcher_who_is_told_by_whom() {
    let rig = served("");
    let [mut loser, mut taker] = two(&rig);
    taker.type_in("\x05cf");
    taker.sees("[you write]");
    loser.sees(&format!("[{DEMO} has taken over; you are watching]"));
    loser.type_in("lost");
    loser.sees("what you type is not sent]");
    taker.type_in("mine");
    rig.expect_at_device(b"mine");
}

#[test]
fn when_the_writer_leaves_nobody_is_promoted() {
    let rig = served("");
    let [mut writer, mut watcher] = two(&rig);
    writer.type_in("\x05c.");
    writer.ends_with(0);
    watcher.sees(&format!("[{DEMO} left; nobody writes now]"));
    watcher.type_in("not this");
    watcher.sees("[you are watching: what you type is not sent]");
    watcher.type_in("\x05ca");
    watcher.sees("[you write]");
    watcher.type_in("this");
    rig.expect_at_device(b"this");
}

#[test]
fn a_writer_may_only_watch_and_another_ask() {
    let rig = served("");
    let [mut first, mut second] = two(&rig);
    first.type_in("\x05cs");
    first.sees("[you are watching]");
    second.sees(&format!("[{DEMO} only watches now; nobody writes]"));
    second.type_in("\x05ca");
    second.sees("[you write]");
    first.sees(&format!("[{DEMO} writes now]"));
    second.type_in("\x05cw");
    second.sees("watching since");
    second.sees("writing  since");
    second.type_in("mine");
    rig.expect_at_device(b"mine");
}

#[test]
fn who_takes_over_during_a_paste_is_not_mixed_with_it() {
    let rig = served("");
    let [mut paster, mut taker] = two(&rig);
    // More than a device that does not read, the kernel and the hub take.
    paster.type_in("x".repeat(15_000));
    taker.type_in("\x05cf");
    paster.sees("has taken over");
    taker.sees("[you write]");
    taker.type_in("|mine|");
    let (pasted, after) = read_until(&rig, b"|mine|");
    assert!(pasted.iter().all(|byte| *byte == b'x'), "{}", String::from_utf8_lossy(&pasted));
    assert!(pasted.len() < 15_000, "all of the paste went before");
    paster.sees("bytes that you had typed were not sent]");
    assert_eq!(after, b"");
    taker.type_in("still mine");
    rig.expect_at_device(b"still mine");
}

/// What the device hears up to `end`, and behind it.
fn read_until(rig: &Rig, end: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let heard = crate::rig::collect(rig.device());
    crate::rig::until("the end of the paste", || {
        let heard = heard.lock().unwrap();
        let at = heard.windows(end.len()).position(|part| part == end)?;
        Some((heard[..at].to_vec(), heard[at + end.len()..].to_vec()))
    })
}

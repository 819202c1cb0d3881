//! Several sessions at a port: one has write access, the others are read-only and are notified which user has it.

use crate::client::Client;
use crate::rig::{Rig, collect, until};
use crate::{at_terminal, go_on, served, stop};

const DEMO: &str = "demo (127.0.0.1)";

/// A writer and a watcher.
fn two(rig: &Rig) -> [Client; 2] {
    let mut writer = at_terminal(rig);
    let mut watcher = Client::start(rig.ssh(&["-tt", "demo@127.0.0.1"]));
    watcher.sees(&format!("[{DEMO} has write access; you are read-only; ^Ecf to take over]"));
    writer.sees(&format!("[{DEMO} attached, read-only]"));
    [writer, watcher]
}

#[test]
fn a_read_only_session_gets_all_output_and_one_notice_that_input_is_discarded() {
    let rig = served("");
    let [mut writer, mut watcher] = two(&rig);
    watcher.type_in("x");
    watcher.sees(&format!("[{DEMO} has write access; you are read-only: input is discarded]"));
    watcher.type_in("yz");
    watcher.type_in("\x05cl0");
    // The reply to this arrives after any output of those.
    watcher.type_in("\x05cw");
    let shown = watcher.sees("[users attached to demo");
    assert_eq!(shown.trim(), "", "notified once, and no break");
    writer.type_in("mine");
    rig.expect_at_device(b"mine");
    rig.say(b"for both\r\n");
    writer.sees("for both");
    watcher.sees("for both");
    assert!(!rig.journal().contains("break"), "{}", rig.journal());
}

#[test]
fn the_banner_lists_other_read_only_sessions() {
    let rig = served("");
    let [_writer, _watcher] = two(&rig);
    let mut third = Client::start(rig.ssh(&["-tt", "demo@127.0.0.1"]));
    third.sees(&format!("[{DEMO} has write access; you are read-only; ^Ecf to take over]"));
    third.sees(&format!("[also attached, read-only: {DEMO}]"));
}

#[test]
fn write_access_is_denied_while_another_session_has_it() {
    let rig = served("");
    let [mut writer, mut watcher] = two(&rig);
    watcher.type_in("\x05ca");
    watcher.sees(&format!("[{DEMO} has write access; ^Ecf to take over]"));
    watcher.type_in("not this");
    watcher.sees("input is discarded]");
    writer.type_in("this");
    rig.expect_at_device(b"this");
}

#[test]
fn taking_over_makes_the_other_session_read_only_and_names_the_user() {
    let rig = served("");
    let [mut loser, mut taker] = two(&rig);
    taker.type_in("\x05cf");
    taker.sees("[you have write access]");
    loser.sees(&format!("[{DEMO} took over; you are now read-only]"));
    loser.type_in("lost");
    loser.sees("input is discarded]");
    taker.type_in("mine");
    rig.expect_at_device(b"mine");
}

#[test]
fn when_the_writer_detaches_no_other_session_gets_write_access() {
    let rig = served("");
    let [mut writer, mut watcher] = two(&rig);
    writer.type_in("\x05c.");
    writer.ends_with(0);
    watcher.sees(&format!("[{DEMO} detached; no client has write access]"));
    watcher.type_in("not this");
    watcher.sees("[you are read-only: input is discarded]");
    watcher.type_in("\x05ca");
    watcher.sees("[you have write access]");
    watcher.type_in("this");
    rig.expect_at_device(b"this");
}

#[test]
fn a_writer_may_only_watch_and_another_ask() {
    let rig = served("");
    let [mut first, mut second] = two(&rig);
    first.type_in("\x05cs");
    first.sees("[you are read-only]");
    second.sees(&format!("[{DEMO} is now read-only; no client has write access]"));
    second.type_in("\x05ca");
    second.sees("[you have write access]");
    first.sees(&format!("[{DEMO} now has write access]"));
    second.type_in("\x05cw");
    second.sees("read-only  since");
    second.sees("read-write since");
    second.type_in("mine");
    rig.expect_at_device(b"mine");
}

#[test]
fn taking_over_during_a_paste_discards_the_rest_of_it() {
    let rig = served("xonxoff = true");
    let [mut paster, mut taker] = two(&rig);
    stop(&rig, &mut paster);
    paster.type_in("x".repeat(15_000));
    // Its reply shows that all of it has arrived by then.
    paster.type_in("\x05cw");
    paster.sees("[users attached to demo");
    taker.type_in("\x05cf");
    paster.sees("took over");
    taker.sees("[you have write access]");
    taker.type_in("|mine|");
    go_on(&rig);
    let heard = collect(rig.device());
    let heard_until = |end: &[u8]| {
        until("the device to hear that", || {
            Some(heard.lock().unwrap().clone()).filter(|heard| heard.ends_with(end))
        })
    };
    let pasted = heard_until(b"|mine|").iter().filter(|byte| **byte == b'x').count();
    assert!(pasted < 15_000, "all of the paste went before");
    paster.sees("bytes of your input were not sent]");
    taker.type_in("still mine");
    let everything = heard_until(b"still mine");
    let wanted = ["x".repeat(pasted).as_bytes(), b"|mine|still mine"].concat();
    assert_eq!(everything, wanted, "{}", String::from_utf8_lossy(&everything));
}

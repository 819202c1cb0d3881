//! A client's settings of the line, DTR and RTS, are reverted however it ends; also at a port whose source is RFC 2217.

use std::io::Read;
use std::net::SocketAddr;

use crate::client::Client;
use crate::dialer::Dialers;
use crate::rig::modem::Adapter;
use crate::rig::{Rig, until};
use crate::ser2net::Ser2net;
use crate::{Pyserial, carries_everything, every_byte, plain, python_bytes, rate_is};

/// A port with a plain listener, and a device with modem lines.
pub fn with_modem_lines() -> (Rig, SocketAddr, Adapter) {
    let mut rig = Rig::new("");
    let rfc2217 = rig.listen_plain();
    rig.configure(&format!(
        "[ports.demo]\ngroups = [\"*\"]\ndevice = \"@DIR@/dev/demo\"\nrfc2217 = \"{rfc2217}\"\nremote_settings = true\n"
    ));
    let modem = rig.modem_lines();
    rig.start_plugged();
    (rig, rfc2217, modem)
}

fn levels_are(modem: &Adapter, levels: (bool, bool)) {
    until(&format!("DTR and RTS {levels:?}"), || (modem.levels() == levels).then_some(()));
}

const LOWER_BOTH: &str = "setattr(port, 'dtr', False) or setattr(port, 'rts', False)";

#[test]
fn dtr_and_rts_are_given_back_however_the_client_ends() {
    let (mut rig, rfc2217, modem) = with_modem_lines();
    let url = format!("rfc2217://{rfc2217}");
    let open = || {
        let mut port = Pyserial::open(&url, "115200, timeout=20");
        assert_eq!(port.answer(), "open");
        assert_eq!(port.does("(port.cts, port.dsr, port.cd, port.ri)"), "(True, True, False, False)");
        assert_eq!(port.does(LOWER_BOTH), "None");
        assert_eq!(modem.levels(), (false, false));
        port
    };
    let mut port = open();
    // CTS and DSR follow RTS and DTR, as wired; the client is notified within a second.
    until("CTS and DSR off", || (port.does("(port.cts, port.dsr)") == "(False, False)").then_some(()));
    assert_eq!(port.does("port.close()"), "None");
    levels_are(&modem, (true, true));
    rate_is(&rig, 9600);
    rig.wait_for_status("0 attached");
    // Killed.
    drop(open());
    levels_are(&modem, (true, true));
    rate_is(&rig, 9600);
    rig.wait_for_status("0 attached");
    // The port is restarted beneath it, and killed.
    let port = open();
    assert!(rig.stop().success());
    assert_eq!(modem.levels(), (true, true));
    rig.start();
    drop(port);
    let port = open();
    rig.kill();
    assert_eq!((modem.levels(), rig.line().c_ospeed), ((false, false), 115_200));
    rig.start();
    levels_are(&modem, (true, true));
    rate_is(&rig, 9600);
    drop(port);
    assert!(!rig.stored().contains(&"levels".to_owned()), "{:?}", rig.stored());
}

#[test]
fn a_client_that_loses_its_write_access_gives_dtr_and_rts_back() {
    let (rig, rfc2217, modem) = with_modem_lines();
    let mut port = Pyserial::open(&format!("rfc2217://{rfc2217}"), "115200, timeout=20");
    assert_eq!(port.answer(), "open");
    assert_eq!(port.does(LOWER_BOTH), "None");
    assert_eq!(modem.levels(), (false, false));
    let _writer = Client::start(rig.consolectl(&["connect", "--force", "demo"]));
    levels_are(&modem, (true, true));
    rate_is(&rig, 9600);
}

/// A port whose source is RFC 2217, with a plain listener of its own.
fn relay(far: SocketAddr) -> (Rig, Dialers, SocketAddr) {
    let mut rig = Rig::new("");
    let rfc2217 = rig.listen_plain();
    let source = format!("rfc2217:{far}");
    rig.configure(&format!(
        "[ports.demo]\ngroups = [\"*\"]\nsource = \"{source}\"\nrfc2217 = \"{rfc2217}\"\nremote_settings = true\n"
    ));
    let dialers = Dialers::new(&rig.path("run"), &[&source]);
    rig.start();
    rig.wait_for_status(&format!("connected to {source}"));
    (rig, dialers, rfc2217)
}

#[test]
fn what_a_client_sets_passes_on_to_an_rfc2217_source_and_is_given_back() {
    let server = Ser2net::start("telnet(rfc2217)");
    let (rig, _dialers, rfc2217) = relay(SocketAddr::from(([127, 0, 0, 1], server.port)));
    until("9600 baud at the line", || (server.rate() == 9600).then_some(()));
    let url = format!("rfc2217://{rfc2217}");
    let mut port = Pyserial::open(&url, "115200, timeout=20");
    assert_eq!(port.answer(), "open");
    assert_eq!(server.rate(), 115_200);
    assert_eq!(port.does("setattr(port, 'baudrate', 57600)"), "None");
    assert_eq!(server.rate(), 57_600);
    let mut line = server.line.try_clone().unwrap();
    let all = every_byte();
    assert_eq!(port.does(&format!("port.write({})", python_bytes(&all))), all.len().to_string());
    let mut sent = vec![0; all.len()];
    line.read_exact(&mut sent).unwrap();
    assert_eq!(sent, all);
    assert_eq!(port.does("port.close()"), "None");
    until("9600 baud at the line", || (server.rate() == 9600).then_some(()));
    rig.wait_for_status("0 attached");
}

#[test]
fn dtr_and_rts_of_an_rfc2217_source_are_set_and_given_back() {
    let (far, address, modem) = with_modem_lines();
    let (mut rig, _dialers, rfc2217) = relay(address);
    let url = format!("rfc2217://{rfc2217}");
    let open = || {
        let mut port = Pyserial::open(&url, "115200, timeout=20");
        assert_eq!(port.answer(), "open");
        until("CTS and DSR on", || (port.does("(port.cts, port.dsr)") == "(True, True)").then_some(()));
        assert_eq!(port.does(LOWER_BOTH), "None");
        levels_are(&modem, (false, false));
        until("CTS and DSR off", || (port.does("(port.cts, port.dsr)") == "(False, False)").then_some(()));
        port
    };
    let mut port = open();
    assert_eq!(far.line().c_ospeed, 115_200);
    assert_eq!(port.does("port.close()"), "None");
    levels_are(&modem, (true, true));
    rate_is(&far, 9600);
    rig.wait_for_status("0 attached");
    // The far end's line is a pty, which has no parity: the client is notified of what it rejects.
    let mut port = Pyserial::open(&url, "19200, parity='E'");
    let refused = port.answer();
    assert!(refused.contains("remote rejected value for option 'parity'"), "{refused}");
    rate_is(&far, 9600);
    assert!(!rig.log_text().contains("the far end set"), "{}", rig.log_text());
    rig.wait_for_status("0 attached");
    // The relay is killed during a client's session: the next process finds the connection and reverts everything.
    let port = open();
    rig.kill();
    rig.start();
    levels_are(&modem, (true, true));
    rate_is(&far, 9600);
    drop(port);
    // Without another connection to the far end.
    assert_eq!(far.log_text().matches(" attached, ").count(), 1, "{}", far.log_text());
}

/// ser2net as the client: settings of its own client pass through it to our listener.
#[test]
fn ser2nets_rfc2217_client_sets_the_line() {
    let (rig, rfc2217, _) = plain("remote_settings = true");
    let connector = format!("telnet(rfc2217),tcp,{},{}", rfc2217.ip(), rfc2217.port());
    let relay = Ser2net::relay("telnet(rfc2217)", &connector);
    let mut port = Pyserial::open(&format!("rfc2217://127.0.0.1:{}", relay.port), "115200, timeout=20");
    assert_eq!(port.answer(), "open");
    rate_is(&rig, 115_200);
    carries_everything(&rig, &mut port);
    assert_eq!(port.does("setattr(port, 'baudrate', 57600)"), "None");
    rate_is(&rig, 57_600);
    assert_eq!(port.does("port.close()"), "None");
    rate_is(&rig, 9600);
}

//! `learn`, with links as udev makes them in a /dev of the test's own; udev itself and adapters are in the VM.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::bus::Bus;
use crate::client::Client;

/// The directory that `consolectl` uses in place of `/dev/serial`.
fn serial(bus: &Bus) -> PathBuf {
    let serial = bus.path("serial");
    fs::create_dir_all(&serial).unwrap();
    serial
}

/// As udev does: the directory first, and the link by another name.
fn plug(bus: &Bus, name: &str, tty: &str) {
    let by_path = serial(bus).join("by-path");
    fs::create_dir_all(&by_path).unwrap();
    symlink(format!("../../{tty}"), by_path.join(".tmp")).unwrap();
    fs::rename(by_path.join(".tmp"), by_path.join(name)).unwrap();
}

fn unplug(bus: &Bus, name: &str) {
    let by_path = serial(bus).join("by-path");
    fs::remove_file(by_path.join(name)).unwrap();
    // As udev does: gone with its last link.
    let _ = fs::remove_dir(by_path);
}

/// `consolectl learn`, while it waits.
fn learning(bus: &Bus, words: &[&str]) -> Client {
    let own =
        "mount -t tmpfs none /dev && mkdir /dev/serial && mount --bind \"$0\" /dev/serial && exec \"$@\"";
    let mut command = Command::new("unshare");
    command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").envs(bus.environment());
    command.args(["--mount", "sh", "-c", own]).arg(serial(bus));
    command.arg(env!("CARGO_BIN_EXE_consolectl")).arg("learn").args(words);
    let client = Client::start(command);
    client.is_told("plug in the adapter for ");
    client
}

const PATH: &str = "/dev/serial/by-path/pci-0000:00:14.0-usb-0:1.4:1.0-port0";
const NAME: &str = "pci-0000:00:14.0-usb-0:1.4:1.0-port0";

fn device(bus: &Bus, port: &str) -> Value {
    let shown: Value = serde_json::from_str(&bus.done(&["show", port, "--json"])).unwrap();
    shown["candidate"]["device"].clone()
}

#[test]
fn the_next_adapter_is_bound_by_its_usb_socket() {
    let bus = Bus::new();
    let mut client = learning(&bus, &["core"]);
    plug(&bus, "pci-0000:00:14.0-usbv2-0:1.4:1.0-port0", "ttyUSB4");
    plug(&bus, NAME, "ttyUSB4");
    client.ends_with(0);
    let shown = String::from_utf8(client.shown()).unwrap();
    assert!(
        shown.ends_with(
            "core is bound to that USB socket, currently ttyUSB4: unknown adapter\n\
             it has no SSH port: `sshport core N` sets one\n\
             next: `reload core` applies it, `commit` makes it permanent\n"
        ),
        "{shown}"
    );
    assert_eq!(device(&bus, "core"), PATH);

    // A configured port whose adapter is unplugged and plugged in again.
    let mut client = learning(&bus, &["ttyUSB0"]);
    plug(&bus, "pci-0000:00:14.0-usb-0:2:1.0-port0", "ttyUSB5");
    client.ends_with(0);
    assert!(!String::from_utf8(client.shown()).unwrap().contains("it has no SSH port"));
    assert_eq!(device(&bus, "ttyUSB0"), "/dev/serial/by-path/pci-0000:00:14.0-usb-0:2:1.0-port0");

    // The port of the kernel's name has opened the tty.
    let mut client = learning(&bus, &["lab"]);
    plug(&bus, "pci-0000:00:14.0-usb-0:3:1.0-port0", "ttyUSB1");
    client.ends_with(0);
    let shown = String::from_utf8(client.shown()).unwrap();
    assert!(shown.contains("\nport ttyUSB1 releases the device when lab is reloaded\n"), "{shown}");

    // An adapter that belongs to core already is not assigned to another port.
    let mut client = learning(&bus, &["edge"]);
    unplug(&bus, NAME);
    plug(&bus, NAME, "ttyUSB4");
    client.ends_with(1);
    assert!(client.aside().contains(&format!("{PATH} is already the device of port core")));
    assert!(bus.refused(&["show", "edge"]).contains("there is no port edge"));
}

#[test]
fn two_ttys_at_once_are_listed_and_nothing_is_bound() {
    let bus = Bus::new();
    plug(&bus, "pci-0000:00:14.0-usb-0:9:1.0-port0", "ttyUSB0");
    let mut client = learning(&bus, &["core"]);
    plug(&bus, NAME, "ttyUSB1");
    plug(&bus, "pci-0000:00:14.0-usb-0:1.4:1.1-port0", "ttyUSB2");
    client.ends_with(1);
    let said = client.aside();
    assert!(said.contains("2 ttys appeared at once: "), "{said}");
    assert!(said.contains(&format!("{PATH} (ttyUSB1), ")) && said.contains("(ttyUSB2);"), "{said}");
    assert_eq!(bus.done(&["diff"]), "");
}

#[test]
fn a_timeout_an_interruption_and_missing_rights_change_nothing() {
    let bus = Bus::new();
    let mut client = learning(&bus, &["core", "--timeout", "1"]);
    client.ends_with(1);
    assert!(client.aside().ends_with("no adapter was plugged in within 1 s; nothing was changed\n"));

    let mut client = learning(&bus, &["core"]);
    client.signal(Signal::SIGINT);
    assert!(!client.ends().success());
    plug(&bus, NAME, "ttyUSB1");

    let mut command = Command::new("setpriv");
    command.args(["--reuid", "nobody", "--regid", "nogroup", "--clear-groups", "--"]);
    command.env_clear().env("PATH", "/usr/bin:/bin").envs(bus.environment()).arg(bus.program());
    let (code, shown, aside) = crate::bus::said(command.args(["learn", "core"]));
    assert_eq!((code, shown.as_str()), (1, ""));
    let wanted = "consolectl: you may not administer this console server; this requires root, or membership in the group sudo or root\n";
    assert_eq!(aside, wanted);
    assert_eq!(bus.done(&["diff"]), "");
}

//! The findings that can be made without a machine, one file of tests/golden/cli per group.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use snapbox::{assert_data_eq, file};

use super::finding::Finding;
use super::finding::tests::subject;
use super::observation::Observation;
use super::processes::Process;
use super::systemd::{self, Units};
use super::ttys::Ttys;
use super::*;
use crate::cli::bounded::Space;
use crate::ownership::Record;

fn text(findings: impl IntoIterator<Item = Finding>) -> String {
    let mut printed = Vec::new();
    for Finding { port, problem, fix } in findings {
        let label = port.map(|port| format!("{port}: ")).unwrap_or_default();
        printed.push(format!("{label}{problem}\n    {}\n", fix.replace('\n', "\n    ")));
    }
    printed.concat()
}

/// A machine with these units, each with properties, and processes.
fn observation(units: &[(&str, &[(&str, &str)])], processes: Vec<Process>, ttys: Ttys) -> Observation {
    let properties = |all: &[(&str, &str)]| -> BTreeMap<String, String> {
        all.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    };
    Observation {
        units: Units(units.iter().map(|(unit, all)| ((*unit).to_owned(), properties(all))).collect()),
        processes,
        running: Default::default(),
        ttys,
        claims: Default::default(),
        listeners: Default::default(),
    }
}

#[test]
fn findings_about_the_configuration() {
    let error = || Config::parse("[ports.core]\nbaud = \"fast\"\n", Path::new("config.toml")).unwrap_err();
    let config = Config::parse("[ports.core-switch]\n", Path::new("config.toml")).unwrap();
    let readers = config_file::READERS.map(|(reader, effect)| {
        config_file::unreadable(Path::new("/etc/consoleserver/config.toml"), reader, effect)
    });
    let findings = [
        stale(&error()),
        broken(&error()),
        unknown(&"core-swich".parse().unwrap(), &config),
        unknown(&"lab".parse().unwrap(), &config),
    ];
    let others = [
        config_file::loose(Path::new("/etc/consoleserver/config.toml")),
        config_file::not_read(Path::new("/etc/consoleserver/conf.d/rack.toml")),
        config_file::without_ports(Path::new("/etc/consoleserver/config.toml")),
    ];
    let findings = findings.into_iter().chain(readers).chain(others);
    assert_data_eq!(text(findings), file!["../../../tests/golden/cli/doctor-configuration.txt"].raw());
}

#[test]
fn findings_about_host_keys() {
    let findings = [
        host_keys::missing("no usable host key in /etc/consoleserver/hostkeys"),
        host_keys::ignored("/etc/consoleserver/hostkeys/hostkey_a: it is empty"),
    ];
    assert_data_eq!(text(findings), file!["../../../tests/golden/cli/doctor-host-keys.txt"].raw());
}

#[test]
fn findings_about_sources_of_public_keys() {
    let sshd = "authorizedkeyscommand /usr/bin/sss_ssh_authorizedkeys\nauthorizedkeyscommanduser nobody\n\
                authorizedkeysfile /etc/ssh/keys/%u\n";
    let findings = key_sources::compare(&Default::default(), &key_sources::parse(sshd), |_| false);
    assert_data_eq!(text(findings), file!["../../../tests/golden/cli/doctor-public-keys.txt"].raw());
}

#[test]
fn findings_about_the_log() {
    let now = "2026-11-24T12:00:00Z".parse().unwrap();
    let noise = format!("2026-11-24T11:59:01Z < {}\n", "a\\xff\\x00b".repeat(40));
    let samples = [
        noise.as_str(),
        "2026-11-24T11:00:00Z < a\n2026-11-24T10:00:00Z < b\n",
        "2026-11-24T15:00:00Z < a\n",
    ];
    let disks = [
        Ok(Some(Space { size: 1 << 30, free: 1 << 24 })),
        Err(bounded::NoAnswer::Timeout(Duration::from_secs(2))),
    ];
    let directory = Path::new("/var/log/consoleserver/demo");
    let findings = subject(|subject| {
        let disks = disks.iter().filter_map(|space| log::disk(directory, space, subject));
        let samples = samples.iter().flat_map(|sample| log::check(sample, now, subject));
        text(disks.chain(samples))
    });
    assert_data_eq!(findings, file!["../../../tests/golden/cli/doctor-log.txt"].raw());
}

#[test]
fn findings_about_units() {
    let state = |state| -> [(&str, &str); 2] { [("ActiveState", state), ("Result", "exit-code")] };
    let common = observation(
        &[
            ("consoleserver.target", &state("active")),
            ("console-logrotate.timer", &state("failed")),
            ("console-auth-port.socket", &state("inactive")),
            ("console-auth-cli.socket", &state("inactive")),
            ("console-logs.socket", &state("inactive")),
            ("console-admin.service", &state("failed")),
            ("console-trigger@demo.service", &state("failed")),
        ],
        Vec::new(),
        Ttys::default(),
    );
    let stopped = observation(&[("consoleserver.target", &state("inactive"))], Vec::new(), Ttys::default());
    let mut all = text(units::everywhere(&common).into_iter().chain(units::everywhere(&stopped)));
    let config =
        Config::parse("[server]\nssh_port = 8022\n[ports.demo]\n", Path::new("config.toml")).unwrap();
    let mut taken = observation(
        &[
            ("console-cli.socket", &state("failed")),
            ("console@demo.socket", &state("active")),
            ("console@old.socket", &state("active")),
            ("console@old.service", &state("active")),
        ],
        Vec::new(),
        Ttys::default(),
    );
    taken.listeners.insert(8022, "socket:[1]".to_owned());
    all.push_str(&text(units::admin_listener(&taken, &config)));
    all.push_str(&text(units::unconfigured(&taken, &config)));
    let failed = [
        ("ActiveState", "failed"),
        ("Result", "exit-code"),
        (
            "DropInPaths",
            "/run/systemd/generator/console@demo.service.d/10-port.conf /etc/systemd/system/console@demo.service.d/x.conf",
        ),
    ];
    let rejected = [
        ("ActiveState", "inactive"),
        ("LoadState", "bad-setting"),
        ("DropInPaths", "/etc/systemd/system/console@demo.service.d/x.conf"),
    ];
    let restarting = [("ActiveState", "activating"), ("Result", "success"), ("NRestarts", "7")];
    let no_user = [("ActiveState", "failed"), ("Result", "exit-code"), ("ExecMainStatus", "217")];
    let not_ready = [
        ("ActiveState", "activating"),
        ("Result", "success"),
        ("StateChangeTimestampMonotonic", "1"),
        ("FragmentPath", "/etc/systemd/system/console@.service"),
    ];
    for status in [&failed[..], &restarting, &rejected, &no_user, &not_ready] {
        let observed = observation(&[("console@demo.service", status)], Vec::new(), Ttys::default());
        all.push_str(&subject(|subject| text(units::check(&observed, subject))));
    }
    for status in [
        "no permission for /dev/ttyUSB0, 0 attached, 0 bytes in, 0 out",
        "9600 8N1, 0 attached, 9 bytes in, 0 out; cannot write the log /x: No space left on device (os error 28)",
        "9600 8N1, 0 attached, 9 bytes in, 0 out; another program reads /dev/ttyUSB0 too",
        "9600 8N1, 0 attached, 9 bytes in, 0 out; baud 6000000: the driver set 3000000",
        "9600 8N1, 0 attached, 500 bytes in, 0 out, 123 lost by the log",
        "9600 8N1, 0 attached, 5 bytes in, 0 out; SSH is not available: the login helper is unreachable at /x: Permission denied (os error 13)",
    ] {
        let path = "/etc/systemd/system/console@.service.d/override.conf";
        let properties = [("ActiveState", "active"), ("StatusText", status), ("DropInPaths", path)];
        let units = [
            ("console@demo.service", &properties[..]),
            ("console-auth-port.socket", &[("ActiveState", "active")]),
        ];
        let observed = observation(&units, Vec::new(), Ttys::default());
        all.push_str(&subject(|subject| text(units::check(&observed, subject))));
    }
    assert_data_eq!(all, file!["../../../tests/golden/cli/doctor-units.txt"].raw());
}

#[test]
fn findings_about_the_figures_for_prometheus() {
    let found = |state: &str, enabled: &str, listen: &str, has_listener: bool| {
        let properties = [("ActiveState", state), ("UnitFileState", enabled), ("Listen", listen)];
        let mut observed =
            observation(&[(systemd::METRICS_SOCKET, &properties)], Vec::new(), Ttys::default());
        if has_listener {
            observed.listeners.insert(9823, "socket:[1]".to_owned());
        }
        text(metrics::check(&observed))
    };
    let own = "127.0.0.1:9823 (Stream)";
    for well in [
        found("inactive", "disabled", own, true),
        found("active", "enabled", own, true),
        found("active", "enabled", "[::1]:9823 (Stream) /run/consoleserver/metrics (Stream)", true),
    ] {
        assert_eq!(well, "");
    }
    let all = [
        found("failed", "enabled", own, true),
        found("inactive", "enabled", own, false),
        found("failed", "disabled", own, false),
        found("active", "disabled", "127.0.0.1:9823 (Stream) [::]:9824 (Stream)", true),
    ];
    assert_data_eq!(all.concat(), file!["../../../tests/golden/cli/doctor-metrics.txt"].raw());
}

#[test]
fn findings_about_the_device() {
    let denied = |group: &str, is_pty| {
        subject(|subject| text([device::denied(subject, "root", group, 0o600, is_pty)]))
    };
    let mut all = [denied("root", false), denied("tty", false), denied("root", true)].concat();
    all.push_str(&subject(|subject| text([device::stray_file(subject), device::socket(subject)])));
    let process = |name: &str, group: &str| Process {
        pid: 4711,
        name: name.to_owned(),
        uid: 0,
        group: group.to_owned(),
        devices: Vec::new(),
        sockets: Vec::new(),
    };
    let enabled: &[_] = &[("UnitFileState", "enabled"), ("TriggeredBy", "gpsd.socket")];
    let holders = observation(&[("gpsd.service", enabled)], Vec::new(), Ttys::default());
    for (name, group) in [
        ("ModemManager", "/system.slice/ModemManager.service"),
        ("brltty", "/system.slice/brltty.service"),
        ("agetty", "/system.slice/login.service"),
        ("console-port", "/system.slice/console@old.service"),
        ("socat", "/system.slice/bridge.service"),
        ("gpsd", "/system.slice/gpsd.service"),
        (
            "node",
            "/system.slice/docker-3f2a9c01d2e4b5a697887766554433221100aabbccddeeff0011223344556677.scope",
        ),
        ("agetty", "/"),
        ("minicom", "/user.slice/user-1000.slice/session-1.scope"),
    ] {
        all.push_str(&subject(|subject| {
            text([holder::held(&holders, subject, &process(name, group), "ttyUSB0")])
        }));
    }
    all.push_str(&subject(|subject| text(holder::kernel_console("tty0 ttyS0\n", "ttyS0", subject))));
    assert_eq!(subject(|subject| holder::kernel_console("tty0 ttyS0\n", "ttyS", subject)), None);
    let properties = [("DevicePolicy", "closed"), ("DeviceAllow", "char-ttyS rw")];
    let observed = observation(&[("console@demo.service", &properties)], Vec::new(), Ttys::default());
    all.push_str(&subject(|subject| text(device::policy(&observed, subject, "ttyUSB"))));
    let observed = observation(
        &[("serial-getty@demo.service", &[("ActiveState", "active")])],
        Vec::new(),
        Ttys::default(),
    );
    all.push_str(&subject(|subject| text(holder::getty(&observed, "demo", subject))));
    all.push_str(&subject(|subject| text([firewall::blocked(subject, 8029)])));
    assert_data_eq!(all, file!["../../../tests/golden/cli/doctor-device.txt"].raw());
}

#[test]
fn findings_about_adapters() {
    let link = "/dev/serial/by-id/usb-FTDI_A1B2C3-if00-port0";
    let record = |path: &str| Record {
        serial_short: Some("A1B2C3".to_owned()),
        links: vec![link.into(), path.into()],
        ..Record::default()
    };
    let config = format!("[ports.demo]\ndevice = \"{link}\"\n");
    let config = Config::parse(&config, Path::new("config.toml")).unwrap();
    let (name, settings) = config.ports.iter().next().unwrap();
    let device = config.device(name, settings);
    let subject = Subject { name, unit: name, settings, device, named: true };
    let mut ttys = Ttys::default();
    ttys.records = vec![
        (1, record("/dev/serial/by-path/pci-0000:01:00.0-usb-0:1.1:1.0-port0")),
        (2, record("/dev/serial/by-path/pci-0000:01:00.0-usb-0:1.2:1.0-port0")),
    ];
    let clash = identity::clash(&ttys, &subject);
    ttys.records.pop();
    let elsewhere = identity::elsewhere(&observation(&[], Vec::new(), ttys), &subject);
    let findings = clash.into_iter().chain(elsewhere);
    assert_data_eq!(text(findings), file!["../../../tests/golden/cli/doctor-adapters.txt"].raw());
}

//! console-generator against directories of expected output, and the promise that no configuration gets more into a
//! unit than its grammar allows.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Component, Path, PathBuf};
use std::process::Command;

use consoleserver::config::{Address, Config, Groups, Port, Server};
use consoleserver::generator::{Entry, Machine, plan, write};
use consoleserver::port::PortName;
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;

/// Files and links below a directory, by relative path.
fn tree(top: &Path) -> BTreeMap<PathBuf, Entry> {
    let mut found = BTreeMap::new();
    let mut ahead = vec![top.to_owned()];
    while let Some(directory) = ahead.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let kind = fs::symlink_metadata(&path).unwrap().file_type();
            let entry = match () {
                () if kind.is_dir() => {
                    ahead.push(path);
                    continue;
                }
                () if kind.is_symlink() => Entry::Link(fs::read_link(&path).unwrap()),
                () => Entry::File(fs::read_to_string(&path).unwrap()),
            };
            found.insert(path.strip_prefix(top).unwrap().to_owned(), entry);
        }
    }
    found
}

/// `tests/generator/CASE`: `root` has the machine's files, `units` the output, `complaints` the messages.
/// With `BLESS=1` in the environment the results become the expected ones: review `git diff`.
fn golden(case: &str) {
    let case = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/generator").join(case);
    let out = tempfile::tempdir().unwrap();
    let directories = ["normal", "early", "late"].map(|name| out.path().join(name));
    directories.iter().for_each(|directory| fs::create_dir(directory).unwrap());
    let run = Command::new(env!("CARGO_BIN_EXE_console-generator"))
        .args(["--root".as_ref(), case.join("root").as_os_str()])
        .args(&directories)
        .output()
        .unwrap();
    let said = String::from_utf8(run.stderr).unwrap().replace(case.join("root").to_str().unwrap(), "");
    let made = tree(&directories[0]);
    if std::env::var_os("BLESS").is_some() {
        let _ = fs::remove_dir_all(case.join("units"));
        fs::create_dir(case.join("units")).unwrap();
        let config = consoleserver::generator::Plan { entries: made.clone(), warnings: Vec::new() };
        assert!(write(&config, &case.join("units")).is_empty());
        fs::write(case.join("complaints"), &said).unwrap();
    }
    assert!(run.status.success(), "{said}");
    assert_eq!(said, fs::read_to_string(case.join("complaints")).unwrap());
    // git keeps no empty directory.
    fs::create_dir_all(case.join("units")).unwrap();
    let expected = tree(&case.join("units"));
    for (path, entry) in &made {
        assert_eq!(Some(entry), expected.get(path), "{}", path.display());
    }
    assert_eq!(made.len(), expected.len(), "something is missing: {expected:#?}");
    assert!(tree(&directories[1]).is_empty() && tree(&directories[2]).is_empty());
}

#[test]
fn the_vendor_s_ports_listen_and_start_with_their_adapters() {
    golden("vendor");
}

#[test]
fn addresses_become_listeners_and_a_disabled_port_is_started_by_nothing() {
    golden("addresses");
}

#[test]
fn plain_listeners_stand_beside_that_of_ssh_and_without_one() {
    golden("plaintext");
}

#[test]
fn device_paths_and_on_board_ports_are_wanted_by_their_device_units() {
    golden("devices");
}

#[test]
fn a_monitored_directory_other_than_dev_is_watched_by_path_units() {
    golden("monitored-directory");
}

#[test]
fn the_last_good_file_replaces_one_with_syntax_errors() {
    golden("last-good");
}

#[test]
fn without_a_last_good_file_the_valid_tables_are_used() {
    golden("salvaged");
}

#[test]
fn ports_whose_listener_is_certain_listen_despite_other_errors() {
    golden("plain-listeners");
}

#[test]
fn an_invalid_default_opens_no_port_but_the_admin_cli() {
    golden("bad-defaults");
}

#[test]
fn an_address_that_cannot_be_bound_is_left_out() {
    golden("no-ipv6");
    golden("interfaces");
}

#[test]
fn a_driver_unknown_to_the_unit_is_allowed_for_the_port_that_uses_it() {
    golden("drivers");
}

#[test]
fn a_machine_without_a_configuration_boots_without_warnings() {
    golden("none");
}

/// Paths as hostile as possible, most of them impossible in a file.
fn path() -> impl Strategy<Value = PathBuf> {
    let piece = prop_oneof![
        Just("..".to_owned()),
        Just("ttyUSB0".to_owned()),
        Just("%i%%n".to_owned()),
        Just("a\nExecStart=/bin/sh".to_owned()),
        Just("\\".to_owned()),
        Just(" ".to_owned()),
        Just("x".repeat(300)),
        any::<String>(),
        "[a-zA-Z0-9.:_+-]{1,20}",
    ];
    let head = prop_oneof![Just("/dev/"), Just("/dev/serial/by-path/"), Just("/"), Just(""), Just("/srv/")];
    (head, vec(piece, 0..4)).prop_map(|(head, pieces)| PathBuf::from(format!("{head}{}", pieces.join("/"))))
}

fn port() -> impl Strategy<Value = Port> {
    let addresses = vec(any::<IpAddr>().prop_map(Address::from), 0..4);
    let groups = vec(any::<String>(), 0..3);
    (
        any::<bool>(),
        option::of(path()),
        option::of(any::<u16>()),
        option::of(addresses),
        (any::<String>(), any::<String>()),
        groups,
    )
        .prop_map(|(enabled, device, ssh_port, listen, (description, file), groups)| {
            let mut port = Port { enabled, device, ssh_port, listen, description, ..Port::default() };
            port.groups = Some(Groups::Members(groups));
            port.log.file = file;
            port
        })
}

fn config() -> impl Strategy<Value = Config> {
    let name = "[A-Za-z0-9_][A-Za-z0-9._-]{0,31}|ttyUSB[0-9]|ttyS0"
        .prop_map(|name: String| name.parse::<PortName>().unwrap());
    let monitor = prop_oneof![Just(PathBuf::from("/dev")), path()];
    let server = (option::of(any::<u16>()), vec(any::<IpAddr>().prop_map(Address::from), 0..4), monitor)
        .prop_map(|(ssh_port, listen, monitor)| Server { ssh_port, listen, monitor, ..Server::default() });
    (server, btree_map(name, port(), 0..5)).prop_map(|(server, ports)| Config {
        server,
        ports,
        ..Config::default()
    })
}

/// A valid value of `ListenStream=`.
fn listens(value: &str, tcp: Option<u16>, addresses: &[Address]) -> bool {
    let listed =
        |address: SocketAddr| Some(address.port()) == tcp && addresses.contains(&address.ip().into());
    value.parse().ok() == tcp && tcp.is_some() || value.parse().is_ok_and(listed)
}

/// Every line that may occur in a file for the port `name`, or for the admin CLI.
fn allowed(config: &Config, name: Option<&PortName>, line: &str) -> bool {
    let fixed = [
        "",
        "[Unit]",
        "[Socket]",
        "[Path]",
        "[Service]",
        "ListenStream=",
        "BindIPv6Only=both",
        "BindIPv6Only=ipv6-only",
        "PartOf=consoleserver.target",
        "SourcePath=/etc/consoleserver/config.toml",
        "# Generated by console-generator: changes are lost at the next daemon-reload.",
    ];
    if fixed.contains(&line) {
        return true;
    }
    let Some((directive, value)) = line.split_once('=') else { return false };
    let Some(name) = name else {
        return directive == "ListenStream" && listens(value, config.server.ssh_port, &config.server.listen);
    };
    let port = &config.ports[name];
    match directive {
        "Requires" => value == format!("console-attach@{name}.socket"),
        "Wants" | "PartOf" => value == format!("console@{name}.socket") && port.ssh_port.is_some(),
        "After" => {
            value == format!("console-attach@{name}.socket") || value == format!("console@{name}.socket")
        }
        "StartLimitIntervalSec" | "TriggerLimitIntervalSec" => value == "0",
        "DeviceAllow" => {
            let driver = value.strip_prefix("char-").and_then(|value| value.strip_suffix(" rw"));
            driver
                .is_some_and(|driver| driver.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'))
        }
        "Description" => value == format!("Device of serial console {name}"),
        "ListenStream" => listens(value, port.ssh_port, config.listen(port)),
        // Undoing systemd's specifiers gives the device and nothing else.
        "PathExists" => {
            let device = config.device(name, port);
            let lone = value.replace("%%", "").contains('%');
            !lone && Path::new(&value.replace("%%", "%")) == device && value.trim() == value
        }
        _ => false,
    }
}

/// The port that a path belongs to, by the unit in it.
fn port_of<'a>(config: &'a Config, path: &Path) -> Option<&'a PortName> {
    let named = |name: &&PortName| {
        path.iter().filter_map(|part| part.to_str()).any(|part| {
            let base = part.strip_suffix(".d").unwrap_or(part);
            ["socket", "service", "path"].iter().any(|kind| base == format!("console@{name}.{kind}"))
                || base == format!("console-attach@{name}.socket")
        })
    };
    config.ports.keys().find(named)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn no_configuration_gets_a_line_a_specifier_or_a_path_past_the_grammar(config in config()) {
        let machine = Machine::at(Path::new("/nowhere"));
        let plan = plan(&config, Some(Path::new("/etc/consoleserver/config.toml")), &machine);
        for (path, entry) in &plan.entries {
            prop_assert!(path.components().all(|part| matches!(part, Component::Normal(_))), "{:?}", path);
            prop_assert!(path.iter().all(|part| part.len() <= 255), "{:?}", path);
            prop_assert!(!path.to_str().unwrap().contains(char::is_control), "{:?}", path);
            let name = port_of(&config, path);
            let admin = path.iter().any(|part| part == "console-cli.socket" || part == "console-cli.socket.d");
            prop_assert!(name.is_some() != admin, "whose is {:?}?", path);
            match entry {
                Entry::Link(target) if admin => {
                    prop_assert!(config.server.ssh_port.is_some());
                    prop_assert_eq!(target, Path::new("/usr/lib/systemd/system/console-cli.socket"));
                }
                Entry::Link(target) => {
                    let name = name.unwrap();
                    prop_assert!(config.ports[name].enabled, "{:?} opens a disabled port", path);
                    let unit = path.file_name().unwrap().to_str().unwrap();
                    let own = Path::new("..").join(unit);
                    let template = unit.replacen(&format!("@{name}."), "@.", 1);
                    let vendor = Path::new("/usr/lib/systemd/system").join(template);
                    prop_assert!(*target == own && plan.entries.contains_key(Path::new(unit)) || *target == vendor);
                }
                Entry::File(text) => {
                    prop_assert!(text.ends_with('\n'));
                    for line in text.lines() {
                        prop_assert!(allowed(&config, name, line), "{:?}: {:?}", path, line);
                    }
                }
            }
        }
        let out = tempfile::tempdir().unwrap();
        let inside = out.path().join("generator");
        fs::create_dir(&inside).unwrap();
        let failed = write(&plan, &inside);
        prop_assert!(failed.is_empty(), "{:?}", failed);
        prop_assert_eq!(tree(&inside), plan.entries);
        prop_assert_eq!(fs::read_dir(out.path()).unwrap().count(), 1);
    }
}

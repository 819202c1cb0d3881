//! `import`: the files of others as a plan, and the plan in the candidate.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::Value;

use crate::bus::{Bus, said};

fn samples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli/samples")
}

fn import(bus: &Bus, words: &[&str]) -> (i32, String, String) {
    said(bus.consolectl(&[&["import"], words].concat()).current_dir(samples()).stdin(Stdio::null()))
}

#[test]
fn a_plan_lists_each_port_and_everything_that_is_not_imported() {
    // No service: a file can be looked at anywhere.
    let bus = Bus::empty();
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    for file in ["conserver.cf", "ser2net.yaml", "config.ini"] {
        let (code, shown, aside) = import(&bus, &["--dry-run", file]);
        assert_eq!((code, aside.as_str()), (0, ""), "{file}");
        let plan = samples().join(format!("{file}.plan"));
        if std::env::var_os("UPDATE_PLANS").is_some() {
            fs::write(&plan, shown.replace(&format!("not {}\n", host.trim()), "not @HOST@\n")).unwrap();
        }
        let wanted = fs::read_to_string(&plan).unwrap();
        assert_eq!(shown, wanted.replace("@HOST@", host.trim()), "{file}");
    }
}

/// Cases of tests/cli/import: a directory has the file, `input.*`, with those that it includes, and the plan of it.
fn cases() -> Vec<(PathBuf, String)> {
    let mut cases: Vec<_> = fs::read_dir(golden())
        .unwrap()
        .map(|case| {
            let directory = case.unwrap().path();
            let input = fs::read_dir(&directory)
                .unwrap()
                .map(|file| file.unwrap().file_name().into_string().unwrap())
                .find(|name| name.starts_with("input."))
                .unwrap_or_else(|| panic!("{directory:?} has no input"));
            (directory, input)
        })
        .collect();
    cases.sort();
    cases
}

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli/import")
}

#[test]
fn each_case_has_its_plan() {
    let bus = Bus::empty();
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let mut wrong = Vec::new();
    let cases = cases();
    assert!(cases.len() >= 42, "{cases:?}");
    for (directory, input) in &cases {
        let mut command = bus.consolectl(&["import", "--dry-run", input]);
        let (code, shown, aside) = said(command.current_dir(directory).stdin(Stdio::null()));
        assert_eq!((code, aside.as_str()), (0, ""), "{directory:?}");
        let shown = shown.replace(&format!("not {}\n", host.trim()), "not @HOST@\n");
        let shown = shown.replace(&format!("than {}\n", host.trim()), "than @HOST@\n");
        let plan = directory.join("plan");
        // UPDATE_PLANS=1 writes what there is, for a person to read before it is committed.
        if std::env::var_os("UPDATE_PLANS").is_some() {
            fs::write(&plan, &shown).unwrap();
        }
        if fs::read_to_string(&plan).unwrap_or_default() != shown {
            wrong.push(format!("{}\n{shown}", directory.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Ports of one case: name, rate with parity and bits, whether XON/XOFF, TCP port, addresses, groups that write.
type Expected =
    (&'static str, &'static str, bool, Option<&'static str>, Option<&'static str>, Option<&'static str>);

#[test]
fn each_serial_console_of_real_files_is_a_port_with_its_line_settings() {
    // Taken from the files by hand, according to conserver.cf(5), ser2net.yaml(5) and ser2net(8), and `conserver -S -S`.
    let here = Some("127.0.0.1 ::1");
    let all = Some("*");
    let wanted: [(&str, &[Expected]); 18] = [
        ("bom", &[("console", "115200N81", true, None, here, all)]),
        ("crlf", &[("console", "115200N81", true, None, here, all)]),
        (
            "capitals",
            &[("sw-core", "9600N81", true, None, here, all), ("sw-edge", "9600N81", false, None, here, all)],
        ),
        (
            "capitals-and-includes",
            &[
                ("pdu1", "19200N81", true, None, here, all),
                ("sw-core", "9600N81", true, None, here, all),
                ("sw-edge", "9600N81", false, None, here, all),
            ],
        ),
        // The file alone: conserver would not define its users, and no user has access.
        ("fragment", &[("pdu1", "19200N81", true, None, here, Some("\"\""))]),
        (
            "lab-devicesubst",
            &[
                ("ttyS0", "115200N81", false, None, here, all),
                ("ttyUSB0", "115200N81", false, None, here, all),
                ("ttyUSB1", "115200N81", false, None, here, all),
                ("ttyACM0", "115200N81", false, None, here, all),
                ("ttyACM1", "115200N81", false, None, here, all),
            ],
        ),
        (
            "lab-keepopen",
            &[
                ("con63001", "115200N81", false, Some("63001"), None, None),
                ("con63002", "115200N81", false, Some("63002"), None, None),
                ("con63003", "1200N82", false, Some("63003"), None, None),
            ],
        ),
        (
            "machine-room",
            &[
                ("node-a.example.net", "9600N81", true, None, here, Some("\"\"")),
                ("node-b.example.net", "9600N81", true, None, here, Some("\"\"")),
            ],
        ),
        (
            "old-words",
            &[
                ("projector", "9600N81", false, Some("4001"), None, None),
                ("meter", "19200E71", true, Some("4002"), None, None),
                ("scale", "2400N82", false, Some("4003"), None, None),
            ],
        ),
        (
            "one-bad-block",
            &[("good1", "9600N81", true, None, here, all), ("good2", "9600N81", true, None, here, all)],
        ),
        (
            "pi-wrapped",
            &[
                ("con0096", "9600N81", false, None, here, None),
                ("con1096", "115200N81", false, Some("2001"), Some("0.0.0.0"), None),
            ],
        ),
        (
            "quoted-host",
            &[
                ("a", "9600N81", false, Some("2000"), Some("192.0.2.5"), None),
                ("b", "9600N81", false, None, None, None),
                ("c", "9600N81", false, Some("2002"), Some("0.0.0.0"), None),
                ("d", "9600N81", false, Some("2003"), None, None),
                ("e", "9600N81", false, None, Some("127.0.0.1"), None),
                ("f", "9600N81", false, None, None, None),
            ],
        ),
        // The line at two rates is one console.
        (
            "rack-old",
            &[
                ("ttyEDGE-1", "9600N81", false, Some("4001"), None, None),
                ("ttyFW-2", "9600N81", false, Some("4002"), None, None),
                ("line1", "115200N81", false, Some("4101"), None, None),
                ("ttyS1", "19200E71", true, None, Some("127.0.0.1"), None),
            ],
        ),
        // As ser2net 4.6.4 reads them.
        (
            "ser2net-version-2",
            &[
                ("core", "19200E71", false, Some("3001"), None, None),
                ("edge", "9600N81", false, None, Some("127.0.0.1"), None),
                ("secret", "19200E71", false, None, None, None),
                ("aux", "1200N82", false, Some("3006"), None, None),
            ],
        ),
        (
            "ser2net-version-2-mistakes",
            &[
                ("first", "9600N81", false, Some("3001"), None, None),
                ("third", "9600N81", false, Some("3003"), None, None),
            ],
        ),
        // A console that is off gives way to another one on its device.
        (
            "ser2net-off",
            &[
                ("fast", "115200N81", false, Some("3002"), None, None),
                ("spare", "9600N81", false, Some("3003"), None, None),
            ],
        ),
        (
            "former-off",
            &[
                ("ttyS1", "115200N81", false, Some("4002"), None, None),
                ("ttyS5", "9600N81", false, Some("4005"), None, None),
            ],
        ),
        (
            "rotator-documented",
            &[
                ("con1", "9600N81", false, Some("2002"), None, None),
                ("con2", "9600N81", false, Some("2003"), None, None),
            ],
        ),
    ];
    let bus = Bus::empty();
    for (case, ports) in wanted {
        let input = cases().into_iter().find(|(directory, _)| directory.ends_with(case)).unwrap().1;
        let mut command = bus.consolectl(&["import", "--dry-run", &input]);
        let (code, plan, aside) = said(command.current_dir(golden().join(case)).stdin(Stdio::null()));
        assert_eq!((code, aside.as_str()), (0, ""), "{case}");
        let names: Vec<_> = plan
            .lines()
            .filter_map(|line| line.strip_prefix("port ")?.split(' ').next())
            .filter(|port| value(&plan, port, "source").is_none())
            .collect();
        let expected: Vec<_> = ports.iter().map(|port| port.0).collect();
        assert_eq!(names, expected, "{case}: {plan}");
        for (port, line, xonxoff, tcp, listen, groups) in ports {
            let of = |key: &str| value(&plan, port, key);
            let part = |key: &str| of(key).unwrap_or_else(|| panic!("{case} {port}: no {key}: {plan}"));
            let said = [part("baud"), part("parity"), part("bytesize"), part("stopbits")].concat();
            assert_eq!(said, *line, "{case} {port}");
            assert_eq!(part("xonxoff"), xonxoff.to_string(), "{case} {port}");
            assert_eq!(part("rtscts"), "false", "{case} {port}");
            assert_eq!(
                (of("ssh_port"), of("listen"), of("groups")),
                (*tcp, *listen, *groups),
                "{case} {port}"
            );
        }
    }
}

/// The value of a key in a plan.
fn value<'p>(plan: &'p str, port: &str, key: &str) -> Option<&'p str> {
    let begins = format!("port {port} (");
    let keys = plan.lines().skip_while(|line| !line.starts_with(&begins)).skip(1);
    let mut keys = keys.take_while(|line| line.starts_with("    ")).map(str::trim);
    keys.find_map(|line| line.strip_prefix(key)?.strip_prefix(' ').map(str::trim))
}

#[test]
fn consoles_of_conman_have_its_defaults() {
    // By conman.conf(5) of 0.3.1, and `parse_serial_opts` of its source.
    let plan = fs::read_to_string(golden().join("conman-defaults/plan")).unwrap();
    for (port, line) in
        [("rate", "115200E72"), ("global", "19200E72"), ("later", "9600E72"), ("bits", "2400E82")]
    {
        let part = |key| value(&plan, port, key).unwrap_or_else(|| panic!("{port}: no {key}: {plan}"));
        assert_eq!(
            [part("baud"), part("parity"), part("bytesize"), part("stopbits")].concat(),
            line,
            "{port}"
        );
    }
    for port in ["rate", "global", "later", "bits", "bmc", "socket"] {
        assert_eq!(value(&plan, port, "listen"), Some("127.0.0.1 ::1"), "{port}");
    }
    let open = fs::read_to_string(golden().join("conman-open/plan")).unwrap();
    assert_eq!(value(&open, "a", "listen"), None);
}

#[test]
fn a_file_of_none_of_the_formats_is_rejected_whatever_its_name() {
    let bus = Bus::empty();
    let directory = tempfile::tempdir().unwrap();
    for (name, text, is_known) in [
        ("deployment.yaml", "apiVersion: v1\nkind: Pod\nspec:\n  default: x\n", false),
        ("hardware.yml", "- connected: true\n  serial: /dev/ttyACM0\n", false),
        ("php.ini", "[PHP]\nengine = On\n", false),
        ("sendmail.cf", "V10/Berkeley\nDSrelay.example.net\n", false),
        ("passwd", "root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534::/:/dev/null\n", false),
        ("typo.conf", "4001:telent:600:/dev/ttyUSB0:9600\n", true),
        ("empty.yaml", "%YAML 1.1\n---\n# nothing yet\n", true),
        ("pasted.yaml", "  accepter: tcp,2001\n  connector: serialdev,/dev/ttyS1\n", true),
        (
            "flow.yaml",
            "{connections: {a: {accepter: 'tcp,2001', connector: 'serialdev,/dev/ttyS1'}}}\n",
            true,
        ),
        ("users.cf", "group staff { users alice; }\n", true),
        ("ports.ini", "[console1]\nbaudrate = 9600\n", true),
    ] {
        let file = directory.path().join(name);
        fs::write(&file, text).unwrap();
        let (code, shown, aside) = import(&bus, &["--dry-run", file.to_str().unwrap()]);
        assert_eq!(code, i32::from(!is_known), "{name}: {shown}{aside}");
        assert_eq!(aside.contains("unknown format"), !is_known, "{name}: {aside}");
    }
}

#[test]
fn consoles_of_conserver_equal_what_conserver_prints() {
    // The output of `conserver -S -S -C input.cf` (8.2.7) for each console: {NAME:MASTER:ALIASES:/:DEVICE,RATEp}
    let mut consoles = 0;
    for (directory, _) in cases() {
        let Ok(printed) = fs::read_to_string(directory.join("conserver.out")) else { continue };
        let plan = fs::read_to_string(directory.join("plan")).unwrap();
        let mut names = Vec::new();
        for line in printed.lines() {
            let line = line.trim_start_matches('{').trim_end_matches('}');
            let [name, _, _, kind, rest] = line.splitn(5, ':').collect::<Vec<_>>()[..] else {
                panic!("{line}")
            };
            names.push(name.to_owned());
            if kind != "/" {
                continue;
            }
            // A path with a substitution that was not made: conserver cannot open it either.
            if rest.contains('&') {
                continue;
            }
            let (device, line) = rest.split_once(',').unwrap();
            let (rate, parity) = line.split_at(line.len() - 1);
            let by_name = format!("/dev/{name}");
            let found = value(&plan, name, "device").unwrap_or(&by_name);
            assert_eq!(found, device, "{directory:?} {name}");
            assert_eq!(value(&plan, name, "baud"), Some(rate), "{directory:?} {name}");
            let parity = parity.to_ascii_uppercase();
            assert_eq!(value(&plan, name, "parity"), Some(parity.as_str()), "{directory:?} {name}");
            let bits = if parity == "N" { "8" } else { "7" };
            assert_eq!(value(&plan, name, "bytesize"), Some(bits), "{directory:?} {name}");
            consoles += 1;
        }
        let ports = plan.lines().filter_map(|line| line.strip_prefix("port ")?.split(' ').next());
        let more: Vec<_> = ports.filter(|port| !names.iter().any(|name| name == port)).collect();
        assert!(more.is_empty(), "{directory:?}: {more:?}");
    }
    assert!(consoles >= 40, "{consoles}");
}

#[test]
fn no_listener_is_wider_than_in_the_file() {
    let bus = Bus::empty();
    // Regardless of `--first-port`: a listener of the file that is not possible here stays closed.
    let numbered = |case: &str, input: &str| {
        let words = ["import", "--dry-run", "--first-port", "9000", input];
        let (code, shown, aside) =
            said(bus.consolectl(&words).current_dir(golden().join(case)).stdin(Stdio::null()));
        assert_eq!((code, aside.as_str()), (0, ""), "{case}");
        shown
    };
    // The listeners of ser2net 4.3.11 (ss -lntpe), except names and IPv6 alone, which are not supported.
    let plan = numbered("ser2net-accepters", "input.yaml");
    // A listener on loopback only stays without a login, and SSH gets a free TCP port at the same addresses.
    for (port, plain) in [
        ("loopback", "127.0.0.1:3009"),
        ("loopback-v4", "127.0.0.1:3010"),
        ("loopback-v6", "[::1]:3011"),
        ("number-v6", "[::1]:3012"),
    ] {
        assert_eq!(value(&plan, port, "raw"), Some(plain), "{port}");
    }
    for (port, tcp, listen) in [
        ("all", Some("3001"), None),
        ("all-bare", Some("3002"), None),
        ("all-telnet", Some("3003"), None),
        ("all-v6n4", Some("3004"), None),
        ("all-v4", Some("3005"), Some("0.0.0.0")),
        ("v4-zero", Some("3006"), Some("0.0.0.0")),
        ("v6-only", None, None),
        ("v6-only-any", None, None),
        ("loopback", Some("9000"), Some("127.0.0.1 ::1")),
        ("loopback-v4", Some("9001"), Some("127.0.0.1")),
        ("loopback-v6", Some("9002"), Some("::1")),
        ("number-v6", Some("9003"), Some("::1")),
        ("bare-host", Some("3013"), Some("192.0.2.7")),
        ("quoted", Some("3014"), Some("192.0.2.8")),
        ("two", Some("3015"), Some("127.0.0.1 192.0.2.9")),
        ("two-ports", Some("9004"), Some("127.0.0.1")),
        ("name", None, None),
        ("unix", None, None),
        ("udp", None, None),
        ("filters", Some("3020"), None),
        ("family", None, None),
        ("service", Some("9005"), Some("127.0.0.1 ::1")),
        ("none", None, None),
        ("last", None, None),
        ("last-open", Some("3023"), None),
    ] {
        assert!(plan.contains(&format!("port {port} (")), "{port}: {plan}");
        assert_eq!(value(&plan, port, "ssh_port"), tcp, "{port}");
        assert_eq!(value(&plan, port, "listen"), listen, "{port}");
    }
    let plan = numbered("quoted-host", "input.yaml");
    for (port, listen) in [
        ("a", Some("192.0.2.5")),
        ("b", None),
        ("c", Some("0.0.0.0")),
        ("d", None),
        ("e", Some("127.0.0.1")),
        ("f", None),
    ] {
        assert_eq!(value(&plan, port, "listen"), listen, "{port}: {plan}");
        let open = value(&plan, port, "ssh_port").is_some();
        assert_eq!(open, listen.is_some() || port == "d", "{port}: {plan}");
    }
    // conserver accepts clients of this machine, of a list of hosts, and without `access` of this machine again.
    for (case, port, tcp) in [
        ("lab-devicesubst", "ttyACM1", "9004"),
        ("machine-room", "node-b.example.net", "9003"),
        ("capitals", "sw-edge", "9001"),
    ] {
        let plan = numbered(case, "input.cf");
        assert_eq!(value(&plan, port, "listen"), Some("127.0.0.1 ::1"), "{plan}");
        assert_eq!(value(&plan, port, "ssh_port"), Some(tcp), "{plan}");
    }
    // defaultaccess allowed
    let plan = numbered("conserver-hosts", "input.cf");
    assert_eq!((value(&plan, "a", "listen"), value(&plan, "a", "ssh_port")), (None, Some("9000")), "{plan}");
    // Write-only clients: none.
    let plan = numbered("ser2net-options", "input.yaml");
    assert_eq!(
        (value(&plan, "every", "groups"), value(&plan, "every", "users")),
        (Some("\"\""), None),
        "{plan}"
    );
    // remaddr
    for (case, input, port) in
        [("ser2net-options", "input.yaml", "from-there"), ("former-keywords", "input.conf", "ttyS12")]
    {
        assert_eq!(value(&numbered(case, input), port, "listen"), Some("127.0.0.1 ::1"), "{case}");
    }
}

#[test]
fn listeners_and_connectors_of_ser2net_become_the_keys_that_serve_the_same_programs() {
    let bus = Bus::empty();
    let mut command = bus.consolectl(&["import", "--dry-run", "input.yaml"]);
    let (code, plan, aside) = said(command.current_dir(golden().join("ser2net-plain")).stdin(Stdio::null()));
    assert_eq!((code, aside.as_str()), (0, ""));
    for (port, key, wanted) in [
        ("rfc2217", "rfc2217", Some("127.0.0.1:5001")),
        ("rfc2217", "remote_settings", Some("true")),
        ("rfc2217", "ssh_port", None),
        ("telnet", "rfc2217", Some("127.0.0.1:5002")),
        ("telnet", "remote_settings", None),
        ("raw", "raw", Some("[::1]:5003")),
        // A login identifies users, and protects what a listener without one does not.
        ("users", "ssh_port", Some("5004")),
        ("users", "raw", None),
        ("watched", "ssh_port", Some("5005")),
        ("watched", "rfc2217", None),
        ("watched", "remote_settings", None),
        ("ssl", "ssh_port", Some("5006")),
        ("ssl", "raw", None),
        ("everybody", "ssh_port", Some("5007")),
        ("everybody", "rfc2217", None),
        ("to-tcp", "source", Some("tcp:ts1.example.com:4001")),
        ("to-telnet", "source", Some("telnet:192.0.2.1:23")),
        ("to-rfc2217", "source", Some("rfc2217:[2001:db8::1]:4001")),
        ("to-rfc2217", "raw", Some("127.0.0.1:5010")),
        ("to-unix", "source", Some("unix:/run/qemu/node17")),
    ] {
        assert!(plan.contains(&format!("port {port} (")), "{port}: {plan}");
        assert_eq!(value(&plan, port, key), wanted, "{port}.{key}: {plan}");
    }
    for left in
        ["connection to-ssl: its connector is ssl,tcp", "connection to-ipmi: its connector is ipmisol"]
    {
        assert!(plan.contains(left), "{left}: {plan}");
    }
}

#[test]
fn access_to_an_existing_port_is_replaced_by_that_of_the_file() {
    let bus = Bus::new();
    bus.done(&["set", "ttyUSB0", "users", "[\"root\"]"]);
    fs::write(bus.path("one.cf"), "console ttyUSB0 { type device; master localhost; device /dev/ttyUSB0; baud 9600; parity none; rw @staff; }\n").unwrap();
    let file = bus.path("one.cf").display().to_string();
    let (code, shown, aside) = import(&bus, &[&file]);
    assert_eq!((code, aside.as_str()), (0, ""), "{shown}");
    let shown: Value = serde_json::from_str(&bus.done(&["show", "ttyUSB0", "--json"])).unwrap();
    let candidate = &shown["candidate"];
    assert_eq!(candidate["groups"], serde_json::json!(["staff"]), "{candidate}");
    assert_eq!(candidate["users"].as_array().map_or(0, Vec::len), 0, "{candidate}");
}

#[test]
fn ports_are_put_into_the_candidate_only() {
    let bus = Bus::new();
    let before = bus.committed();
    let (code, shown, aside) = import(&bus, &["conserver.cf", "--first-port", "8022"]);
    assert_eq!((code, aside.as_str()), (0, ""), "{shown}");
    assert!(shown.contains("port ttyUSB0, which exists (conserver.cf:38)\n"), "{shown}");
    assert!(
        shown.ends_with(
            "ports: 6 to create, 1 to change; imported: see `diff`; `reload PORT` applies one, `commit` makes all permanent\n"
        ),
        "{shown}"
    );
    let of = |port: &str| -> Value {
        let shown: Value = serde_json::from_str(&bus.done(&["show", port, "--json"])).unwrap();
        shown["candidate"].clone()
    };
    let core = of("core-switch");
    assert_eq!(core["device"], "/dev/serial/by-path/pci-0-usb-0:1:1.0-port0");
    assert_eq!(
        (&core["baud"], &core["log.type"], &core["xonxoff"]),
        (&115200.into(), &"none".into(), &false.into())
    );
    // 8022 to 8024 are taken by existing ports.
    assert_eq!(core["ssh_port"], 8025);
    assert_eq!(of("ttyUSB0")["ssh_port"], 8023);
    let old = of("old-router");
    assert_eq!((&old["parity"], &old["bytesize"], &old["stopbits"]), (&"E".into(), &7.into(), &2.into()));
    assert_eq!(old["users"], serde_json::json!(["alice", "carol"]));
    assert_eq!(old["groups"], serde_json::json!([]));
    assert_eq!(bus.committed(), before);
    let changes = bus.done(&["diff", "--json"]);
    let (code, shown, aside) = import(&bus, &["conserver.cf"]);
    assert_eq!((code, aside.as_str()), (0, ""));
    assert!(shown.contains("ports: 0 to create, 7 to change; imported"), "{shown}");
    let count = |changes: &str| serde_json::from_str::<Value>(changes).unwrap().as_array().unwrap().len();
    assert_eq!(count(&bus.done(&["diff", "--json"])), count(&changes));
}

#[test]
fn standard_input_is_read_for_a_hyphen() {
    let bus = Bus::new();
    let mut command = bus.consolectl(&["import", "--from", "ser2net", "-"]);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let text = "connection: &lab\n  accepter: tcp,9100\n  connector: serialdev,/dev/ttyS9,115200\n";
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8(output.stdout).unwrap().contains("port lab (standard input:1)"));
    let lab: Value = serde_json::from_str(&bus.done(&["show", "lab", "--json"])).unwrap();
    assert_eq!((&lab["candidate"]["ssh_port"], &lab["candidate"]["baud"]), (&9100.into(), &115200.into()));
}

#[test]
fn an_unauthorized_user_imports_nothing() {
    let bus = Bus::new();
    let file = bus.path("ser2net.yaml");
    fs::copy(samples().join("ser2net.yaml"), &file).unwrap();
    let mut command = std::process::Command::new("setpriv");
    command.args(["--reuid", "nobody", "--regid", "nogroup", "--clear-groups", "--"]);
    command.env_clear().env("PATH", "/usr/bin:/bin").envs(bus.environment()).arg(bus.program());
    let (code, shown, aside) = said(command.arg("import").arg(&file));
    assert_eq!(code, 1);
    assert!(shown.contains("port con0 "), "{shown}");
    assert!(!shown.contains("imported: see"), "{shown}");
    assert!(aside.starts_with("consolectl: nobody may not administer this console server"), "{aside}");
    assert_eq!(bus.done(&["diff"]), "");
}

#[test]
fn a_file_that_cannot_be_read_is_reported_and_changes_nothing() {
    let bus = Bus::new();
    let at = |name: &str| bus.path(name).display().to_string();
    fs::write(at("long.ini"), "#".repeat(1024 * 1024 + 1)).unwrap();
    fs::write(at("two.yaml"), b"\xff\xfec\0o\0").unwrap();
    fs::write(at("conf"), "").unwrap();
    for (words, wanted) in [
        (vec![at("long.ini")], "more than 1048576 bytes".to_owned()),
        (vec![at("two.yaml")], format!("consolectl: {}: UTF-16", at("two.yaml"))),
        (vec![at("conf")], "use --from conserver, conman, ser2net or consoleserver".to_owned()),
        (vec!["/dev/zero".to_owned(), "--from=ser2net".to_owned()], "more than 1048576 bytes".to_owned()),
        (vec![at("root"), "--from=ser2net".to_owned()], "Is a directory".to_owned()),
    ] {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let (code, shown, aside) = import(&bus, &words);
        assert_eq!((code, shown.as_str()), (1, ""), "{words:?}: {aside}");
        assert!(aside.contains(&wanted) && aside.lines().count() == 1, "{words:?}: {aside}");
    }
    assert_eq!(bus.done(&["diff"]), "");
}

//! Every value that a file may have, the files that we ship, and what must hold for any text and any configuration.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use consoleserver::config::{
    Access, Address, Config, Endpoint, EscapePrefix, Groups, Initial, Keepalive, KeysCommand,
    KeysCommandUser, KeysFile, Log, LogType, Pattern, Port, RootLogin, Server, SshAlgorithms, Trigger,
    Writers, keys,
};
use consoleserver::port::{
    Baud, Breaks, ByteSize, LineLevel, LineSettings, Mapping, ModemLevels, Pacing, Parity, Pause, PortName,
    Sequence, Source, StopBits,
};
use proptest::collection::{btree_map, hash_set, vec};
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::select;

/// Sets a key of a port and returns the value as written back; `None` if the value is rejected.
fn put(key: &str, value: &str) -> Option<String> {
    let text = format!("[ports.a]\n{key} = {value}\n");
    let config = Config::parse(&text, Path::new("config.toml")).ok()?;
    let port = config.ports.values().next().unwrap();
    Some(keys::find(keys::PORT, key).unwrap().get(port).unwrap().to_string())
}

fn takes(key: &str, values: &[&str]) {
    for value in values {
        assert_eq!(put(key, value).as_deref(), Some(*value), "{key} = {value}");
    }
}

fn refuses(key: &str, values: &[&str]) {
    for value in values {
        assert_eq!(put(key, value), None, "{key} = {value}");
    }
}

#[test]
fn a_value_in_its_range_is_accepted_and_the_next_one_rejected() {
    takes("baud", &["1", "45", "250000", "6000000", "4294967295"]);
    for key in ["dtr", "rts"] {
        takes(key, &["\"leave\"", "\"on\"", "\"off\""]);
        refuses(key, &["true", "0", "\"up\"", "[\"on\"]"]);
    }
    for key in ["output_delay", "output_line_delay"] {
        takes(key, &["\"none\"", "\"1ms\"", "\"20ms\"", "\"10s\""]);
        refuses(key, &["20", "0.5", "true", "\"20\"", "\"11s\"", "\"1m\"", "[\"1s\"]"]);
    }
    for key in ["imap", "omap"] {
        takes(key, &["[]", "[\"lfcrlf\"]", "[\"crlf\", \"lfcr\", \"bsdel\", \"delbs\"]"]);
        refuses(key, &["1", "true", "[1]", "[\"INLCRNL\"]", "[\"crlf\", \"igncr\"]", "\"lfcrlf delbs\""]);
    }
    takes("reconnect", &["true", "false"]);
    refuses("reconnect", &["1", "\"no\"", "\"false\""]);
    takes("bytesize", &["5", "6", "7", "8"]);
    refuses("bytesize", &["4", "9", "\"8\""]);
    takes("parity", &["\"N\"", "\"E\"", "\"O\"", "\"M\"", "\"S\""]);
    takes("stopbits", &["1", "2"]);
    refuses("stopbits", &["0", "1.5", "3"]);
    takes("ssh_port", &["1", "65535", "\"none\""]);
    refuses("ssh_port", &["0", "65536", "-1", "\"8023\"", "[8023]"]);
    takes("timeout", &["0", "1", "31536000"]);
    refuses("timeout", &["-1", "31536001", "\"600\"", "\"0s\"", "\"1500ms\"", "\"366d\"", "\"\""]);
    // The notation is that of the other times, and of systemd.time(7).
    for (value, seconds) in [
        ("\"10m\"", "600"),
        ("\"1h 30min\"", "5400"),
        ("\"90s\"", "90"),
        ("\"2 hours\"", "7200"),
        ("\"365d\"", "31536000"),
        ("\"never\"", "0"),
        ("\"none\"", "0"),
    ] {
        assert_eq!(put("timeout", value).as_deref(), Some(seconds), "timeout = {value}");
    }
    takes("replay", &["0", "10000"]);
    refuses("replay", &["-1", "10001"]);
}

#[test]
fn times_and_sizes_have_units_and_limits() {
    takes("log.sync", &["\"10ms\"", "\"5s\"", "\"1m\"", "\"60m\"", "\"never\""]);
    refuses(
        "log.sync",
        &[
            "5",
            "\"5\"",
            "\"s\"",
            "\"9ms\"",
            "\"61m\"",
            "\"-1s\"",
            "\"5 s x\"",
            "\"99999999999999999m\"",
            "\"1m 5\"",
            "\"1.5s\"",
        ],
    );
    for (value, meant) in [
        ("\"5 s\"", "\"5s\""),
        ("\"1min\"", "\"1m\""),
        ("\"1m30s\"", "\"90s\""),
        ("\"500 msec\"", "\"500ms\""),
    ] {
        assert_eq!(put("log.sync", value).as_deref(), Some(meant), "log.sync = {value}");
    }
    let of_rule = |key: &str, value: &str| {
        let text = format!("[ports.a.triggers.x]\nmatch = \"x\"\n{key} = {value}\n");
        let config = Config::parse(&text, Path::new("config.toml")).ok()?;
        let rule = config.ports.values().next().unwrap().triggers.values().next().unwrap().clone();
        Some(keys::find(keys::TRIGGER, key).unwrap().get(&rule).unwrap().to_string())
    };
    for (key, value) in
        [("silence", "\"1s\""), ("cooldown", "\"5s\""), ("silence", "\"10080m\""), ("cooldown", "\"1440m\"")]
    {
        assert_eq!(of_rule(key, value).as_deref(), Some(value), "{key} = {value}");
    }
    for (key, value) in [
        ("silence", "\"0s\""),
        ("silence", "\"169h\""),
        ("cooldown", "\"4s\""),
        ("cooldown", "\"25h\""),
        ("cooldown", "60"),
    ] {
        assert_eq!(of_rule(key, value), None, "{key} = {value}");
    }
    takes("banner", &["\"/etc/issue.net\"", "\"none\""]);
    refuses("banner", &["\"issue.net\"", "\"\"", "\"/\"", "\"/etc/../issue\"", "true"]);
    takes("scrollback", &["\"64K\"", "\"256K\"", "\"16M\""]);
    refuses("scrollback", &["262144", "\"63K\"", "\"17M\"", "\"1G\"", "\"64k\"", "\"99999999999999999M\""]);
    assert_eq!(put("scrollback", "\"65K\"").as_deref(), Some("\"128K\""), "rounded up to what can be mapped");
}

#[test]
fn addresses_are_ip_addresses_and_a_covered_one_is_left_out() {
    takes("listen", &["[\"[::]\"]", "[\"127.0.0.1\", \"[::1]\"]"]);
    refuses(
        "listen",
        &["[]", "\"::\"", "[\"localhost\"]", "[\"[127.0.0.1]\"]", "[\"[::\"]", "[\"::1:8022]\"]", "[1]"],
    );
    for (value, meant) in [
        ("[\"::\"]", "[\"[::]\"]"),
        ("[\"0.0.0.0\", \"[::]\"]", "[\"[::]\"]"),
        ("[\"10.0.0.1\", \"::1\", \"0.0.0.0\"]", "[\"[::1]\", \"0.0.0.0\"]"),
        ("[\"::ffff:10.0.0.1\"]", "[\"10.0.0.1\"]"),
    ] {
        assert_eq!(put("listen", value).as_deref(), Some(meant), "{value}");
    }
}

#[test]
fn names_and_paths_cannot_escape_their_directory() {
    takes("device", &["\"/dev/serial/by-id/usb-x%i-port0\""]);
    refuses(
        "device",
        &["\"ttyUSB0\"", "\"/dev/../etc/shadow\"", "\"/dev/a\\nb\"", "\"/dev/ttyS0 \"", "\"/\"", "\"\"", "7"],
    );
    takes("log.file", &["\"console.log\"", "\"_-a.1\""]);
    refuses("log.file", &["\"\"", "\"../x\"", "\"a/b\"", "\".hidden\"", "\"a b\"", "\"%i\"", "\"ä\""]);
    refuses("log.file", &[&format!("\"{}\"", "x".repeat(65))]);
    takes("groups", &["[\"dialout\", \"domain users\"]", "[]", "[\"*\"]"]);
    refuses(
        "groups",
        &[
            "\"dialout\"",
            "[\"\"]",
            "[\"20\"]",
            "[\"%sudo\"]",
            "[\"dial*\"]",
            "[\"a\\nb\"]",
            "[\" a\"]",
            "[\"a:b\"]",
        ],
    );
    takes("description", &["\"core switch, Schränk 4\"", "\"\""]);
    refuses("description", &["\"a\\u001bb\"", &format!("\"{}\"", "x".repeat(81))]);
    takes("escape", &["\"^Ec\"", "\"^Xy\"", "\"none\""]);
    refuses("escape", &["\"\"", "\"ab\"", "\"^E\"", "\"None\""]);
}

#[test]
fn the_vendor_file_is_32_ports_at_9600_and_the_cli() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("units/config.toml");
    let config = Config::load_file(&path).unwrap().config;
    assert_eq!(config.server.ssh_port, Some(8022));
    assert_eq!(config.ports.len(), 32);
    for number in 0..32 {
        let port = &config.ports[&format!("ttyUSB{number}").parse::<PortName>().unwrap()];
        assert_eq!(port.ssh_port, Some(8023 + number), "ttyUSB{number}");
        assert_eq!(port.line.to_string(), "9600 8N1", "ttyUSB{number}");
        assert!(port.enabled && port.device.is_none(), "ttyUSB{number}");
    }
}

#[test]
fn the_manual_page_documents_every_key() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("man/consoleserver.toml.5");
    let page = fs::read_to_string(page).unwrap();
    let named = |key: &str| {
        assert!(
            page.lines().any(|line| line.starts_with(&format!(".It Ic {key} "))),
            "{key} is not in the page"
        );
    };
    keys::SERVER.iter().for_each(|key| named(key.name));
    keys::ACCESS.iter().for_each(|key| named(key.name));
    keys::PORT.iter().for_each(|key| named(key.name));
    keys::TRIGGER.iter().for_each(|key| named(&format!("triggers.RULE.{}", key.name)));
}

/// Text before an example of consoleserver.toml(5) that makes it a whole file.
const CONTEXTS: [&str; 9] = [
    "",
    "[server]\n",
    "[access]\n",
    "[access]\nauthorized_keys_command = \"/usr/bin/keys\"\n",
    "[access]\nauthorized_keys_command_user = \"nobody\"\n",
    "[templates.cisco]\n[ports.a]\n",
    "[ports.a]\nsource = \"unix:/run/a\"\n",
    "[ports.a.triggers.x]\n",
    "[ports.a.triggers.x]\nmatch = \"x\"\n",
];

#[test]
fn configurations_that_the_documentation_shows_are_valid() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |page: &str| fs::read_to_string(root.join(page)).unwrap();
    let mut shown = Vec::new();
    let pages = fs::read_dir(root.join("docs")).unwrap().map(|page| page.unwrap().path());
    let pages = pages.filter(|page| page.extension().is_some_and(|end| end == "md"));
    for page in pages.map(|page| fs::read_to_string(page).unwrap()).chain([read("README.md")]) {
        shown
            .extend(page.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()));
    }
    let manual = read("man/consoleserver.toml.5")
        .replace("\\(dq", "\"")
        .replace("\\(aq", "'")
        .replace("\\e", "\\")
        .replace("\\&", "");
    let one = manual.split("Example:\n.Ql ").skip(1).map(|rest| rest.lines().next().unwrap());
    shown.extend(one.map(|example| example.trim_end_matches([' ', '.', ',']).to_owned()));
    let blocks =
        manual.split(".Bd -literal -offset indent\n").skip(1).map(|rest| rest.split(".Ed").next().unwrap());
    shown.extend(blocks.filter(|block| !block.starts_with(['#', '/'])).map(str::to_owned));
    // The comments of the vendor's file that are keys and tables, as an administrator takes their marks away.
    let is_toml = |line: &&str| {
        let key = line.split(" = ").next().unwrap();
        line.starts_with('[')
            || key.trim().bytes().all(|byte| byte.is_ascii_lowercase() || b"_.".contains(&byte))
    };
    let bare = |line| str::trim_start(str::trim_start_matches(line, '#'));
    let vendors = read("units/config.toml");
    let uncommented: Vec<&str> = vendors.lines().map(bare).filter(is_toml).collect();
    let kept = vendors.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).count();
    assert!(uncommented.iter().filter(|line| !line.is_empty()).count() > kept + 25);
    shown.push(uncommented.join("\n"));

    let parse = |text: &str| Config::parse(text, Path::new("config.toml")).map_err(|error| error.to_string());
    for example in &shown {
        let accepted = CONTEXTS.iter().any(|before| parse(&format!("{before}{example}\n")).is_ok());
        assert!(accepted, "{example}\n{:?}", parse(example));
    }
    assert!(shown.len() > 55, "only {} examples were found", shown.len());
}

prop_compose! {
    fn addresses()(alternatives in select(vec![
        vec!["::"], vec!["0.0.0.0"], vec!["127.0.0.1", "::1"], vec!["192.0.2.7", "2001:db8::7", "fe80::1%eth0"],
    ])) -> Vec<Address> {
        alternatives.iter().map(|address| address.parse().unwrap()).collect()
    }
}

prop_compose! {
    fn line()(
        baud in 1u64..=u64::from(u32::MAX), bytesize in 5u64..=8, stopbits in 1u64..=2,
        parity in select(vec!["N", "E", "O", "M", "S"]), rtscts: bool, xonxoff: bool,
    ) -> LineSettings {
        LineSettings {
            baud: Baud::try_from(baud).unwrap(),
            bytesize: ByteSize::try_from(bytesize).unwrap(),
            parity: parity.parse::<Parity>().unwrap(),
            stopbits: StopBits::try_from(stopbits).unwrap(),
            rtscts,
            xonxoff,
        }
    }
}

prop_compose! {
    fn log()(
        kind in select(vec![LogType::None, LogType::Raw, LogType::Text, LogType::Hex, LogType::Both]),
        (input, journal, record) in any::<(bool, bool, bool)>(),
        file in "[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}",
        sync in of((10u64..=3_600_000).prop_map(Duration::from_millis)),
    ) -> Log {
        Log { kind, file, input, journal, record, sync }
    }
}

fn groups() -> impl Strategy<Value = Groups> {
    prop_oneof![
        Just(Groups::Everyone),
        vec("[A-Za-z_][A-Za-z0-9_. \\\\-]{0,20}[a-z]", 0..4).prop_map(Groups::Members),
    ]
}

prop_compose! {
    fn trigger()(
        pattern in of("[a-z. ]{1,20}(\\\\d|[+*?]|\\([a-z|]{1,9}\\))?\\$?".prop_map(|text| Pattern::new(&text).unwrap())),
        silence in (1u64..=604_800).prop_map(Duration::from_secs), start: bool,
        cooldown in (5_000u64..=86_400_000).prop_map(Duration::from_millis), both: bool,
    ) -> Trigger {
        let silence = (both || pattern.is_none()).then_some(silence);
        Trigger { pattern, silence, start, cooldown }
    }
}

prop_compose! {
    fn modem()(
        dtr in select(vec![LineLevel::Leave, LineLevel::On, LineLevel::Off]),
        rts in select(vec![LineLevel::Leave, LineLevel::On, LineLevel::Off]),
    ) -> ModemLevels {
        ModemLevels { dtr, rts }
    }
}

prop_compose! {
    fn pause()(time in of((1u64..=10_000).prop_map(Duration::from_millis))) -> Pause {
        Pause(time.unwrap_or_default())
    }
}

fn mapping() -> impl Strategy<Value = Mapping> {
    let words = vec!["crlf", "crcrlf", "igncr", "lfcr", "lfcrlf", "ignlf", "bsdel", "delbs"];
    vec(select(words), 0..4).prop_filter_map("contradicting words", |words| Mapping::of(words).ok())
}

prop_compose! {
    fn sequence()(parts in vec(select(vec!["~", "B", "#.", "\\r", "\\d", "\\d{600}", "\\z", "\\z{10}", "^B", "\\x80", "x{", "\\\\", "\\^", " "]), 1..8)) -> Sequence {
        parts.concat().parse().unwrap()
    }
}

prop_compose! {
    fn breaks()(sequences in vec(sequence(), 0..4)) -> Breaks {
        let mut breaks = Breaks::default();
        for (name, sequence) in ["1", "sysrq", "a-b_2", "zz"].into_iter().zip(sequences) {
            breaks.add(&format!("{name}={sequence}")).unwrap();
        }
        breaks
    }
}

prop_compose! {
    fn keepalive()(interval in of((1_000u64..=86_400_000).prop_map(Duration::from_millis)), text in sequence()) -> Keepalive {
        Keepalive { interval, text }
    }
}

prop_compose! {
    /// Steps are generated as TOML, since they have no other constructor.
    fn initial()(steps in vec(("[a-z]{1,8}[:$]", proptest::option::of(sequence()), of("[a-z]{1,8}"), 1u64..=600), 0..4)) -> Initial {
        let step = |(expect, send, credential, timeout): (String, Option<Sequence>, Option<String>, u64)| {
            let mut table = toml::Table::new();
            table.insert("expect".to_owned(), expect.into());
            send.map(|send| table.insert("send".to_owned(), send.to_string().into()));
            credential.map(|name| table.insert("credential".to_owned(), name.into()));
            table.insert("timeout".to_owned(), format!("{timeout}s").into());
            toml::Value::Table(table)
        };
        let mut port = Port::default();
        let key = keys::find(keys::PORT, "initial").unwrap();
        key.put(&mut port, &toml::Value::Array(steps.into_iter().map(step).collect())).unwrap();
        port.initial
    }
}

prop_compose! {
    /// A port, except keys that must differ from the others'.
    fn port()(
        (enabled, low_latency, reconnect) in any::<(bool, bool, bool)>(),
        (remote_settings, plaintext_beyond_loopback) in any::<(bool, bool)>(), line in line(), modem in modem(), log in log(),
        (character, line_pause, imap, omap) in (pause(), pause(), mapping(), mapping()),
        (break_sequence, breaks, keepalive, initial) in (sequence(), breaks(), keepalive(), initial()),
        listen in of(addresses()), banner in of(banner()), groups in of(groups()), read_only_groups in groups(),
        users in vec("[a-z_][a-z0-9_.-]{0,20}", 0..4), write in select(vec![Writers::One, Writers::Shared]),
        timeout in of((1u64..=31_536_000).prop_map(Duration::from_secs)),
        description in "[^\\p{Cc}]{0,80}", granules in 1usize..=256, replay in 0usize..=10_000,
        triggers in btree_map("[A-Za-z0-9][A-Za-z0-9_-]{0,31}".prop_map(|name| name.parse().unwrap()), trigger(), 0..4),
        escape in of((1u8..32, 0x21u8..0x7f).prop_map(|(first, second)| EscapePrefix([first, second]))),
    ) -> Port {
        Port {
            enabled, like: None, line, device: None, source: None, on_demand: false, break_sequence, breaks, keepalive, initial, ssh_port: None, listen, banner, groups, users, read_only_groups, write, timeout,
            log, description,
            scrollback: granules * 64 * 1024, low_latency, modem, escape, reconnect, replay, triggers,
            remote_settings, rfc2217: None, raw: None, plaintext_beyond_loopback,
            pacing: Pacing { character, line: line_pause }, imap, omap,
        }
    }
}

fn source() -> impl Strategy<Value = Source> {
    let addresses = prop_oneof![
        "unix:/[a-zA-Z0-9/ %\"\\\\-]{1,20}x",
        "(tcp|telnet|rfc2217):[a-z][a-z0-9-]{0,10}:[1-9][0-9]{0,3}",
        Just("unit".to_owned()),
    ];
    addresses.prop_map(|text| text.parse().unwrap())
}

fn banner() -> impl Strategy<Value = Option<PathBuf>> {
    of("/[a-zA-Z.%\"\\\\ ]{1,20}x".prop_map(PathBuf::from))
}

/// Only the keys of where public keys come from.
fn key_sources() -> impl Strategy<Value = Access> {
    let files = vec("/?[a-z.]{1,8}(/(%u|%U|%h|%%|[a-z \"'\\\\]{1,8})){0,3}", 0..4);
    let path = || proptest::option::of("/[a-z%\"\\\\ ]{1,12}x".prop_map(PathBuf::from));
    let principals = proptest::option::of("/[a-z]{1,8}/(%u|%U|%h|%%)");
    (files, proptest::option::of("/[a-z]{1,8}( (%u|%f|%k|%t|[a-z]{1,8})){0,3}"), path(), principals, path())
        .prop_map(|(files, command, user_ca, principals, revoked)| {
            let user = command.as_ref().map(|_| KeysCommandUser::parse("nobody").unwrap());
            Access {
                authorized_keys_files: files
                    .iter()
                    .filter_map(|file| KeysFile::parse(file).unwrap())
                    .collect(),
                authorized_keys_command: command.map(|command| KeysCommand::parse(&command).unwrap()),
                authorized_keys_command_user: user,
                user_ca,
                principals: principals.and_then(|file| KeysFile::parse(&file).unwrap()),
                revoked,
                ..Access::default()
            }
        })
}

prop_compose! {
    fn config()(
        ports in btree_map("[A-Za-z0-9_][A-Za-z0-9._-]{0,31}", port(), 0..5),
        numbers in hash_set(1u16.., 6), devices in hash_set("[a-zA-Z:\"'\\\\ %.]{1,20}x", 6),
        bare in vec(any::<(bool, bool)>(), 6), listen in addresses(), groups in groups(),
        sources in vec(of(source()), 6), on_demand: bool,
        root in select(vec![RootLogin::Key, RootLogin::Yes, RootLogin::No]),
        ssh_algorithms in select(SshAlgorithms::ALL.to_vec()), banner in banner(),
        keys in key_sources(),
    ) -> Config {
        let mut given: Vec<_> = numbers.into_iter().zip(devices).zip(bare).zip(sources).collect();
        let ssh_port = given.pop().and_then(|(((number, _), (bare, _)), _)| (!bare).then_some(number));
        let server = Server { ssh_port, listen, monitor: PathBuf::from("/srv/ports"), ssh_algorithms, banner };
        let ports = ports.into_iter().zip(given).map(|((name, port), (((number, device), (bare, by_name)), source))| {
            let device = (!by_name && source.is_none()).then(|| PathBuf::from(format!("/dev/{device}")));
            let on_demand = on_demand && source.is_some();
            let ssh_port = (!bare).then_some(number);
            // At the number that SSH does not have.
            let at = |address: &str| format!("{address}:{number}").parse::<Endpoint>().unwrap();
            let rfc2217 = (bare && by_name).then(|| at("[::1]"));
            let beyond = if port.plaintext_beyond_loopback { "192.0.2.1" } else { "127.0.0.1" };
            let raw = (bare && !by_name).then(|| at(beyond));
            (name.parse::<PortName>().unwrap(), Port { ssh_port, device, source, on_demand, rfc2217, raw, ..port })
        });
        let ports = ports.collect();
        Config { server, access: Access { groups, root, ..keys }, ports, ..Config::default() }
    }
}

/// Texts that get past the TOML parser more often than noise does.
fn texts() -> impl Strategy<Value = String> {
    let words = "server|access|defaults|templates|templates\\.x|like|ports|ports\\.a|ports\\.a\\.triggers|triggers|triggers\\.x|match|silence|baud|log|type|sync|listen|groups|device|ssh_port|\"\\PC{0,9}\"";
    let values = "\\{ ?\\}|\\[\\]|-?[0-9]{1,20}|\"\\PC{0,12}\"|true|1979-05-27|[0-9]\\.[0-9]e[0-9]{1,4}|inf|\"x\"|\\[\"[:.0-9]{1,9}\", 1\\]|\\{ type = \"raw\" \\}|\\{ match = \"\\PC{0,9}\" \\}";
    let line = prop_oneof![
        words.prop_map(|word| format!("[{word}]\n")),
        (words, values).prop_map(|(word, value)| format!("{word} = {value}\n")),
        "\\PC{0,20}\n",
    ];
    prop_oneof![3 => vec(line, 0..8).prop_map(|lines| lines.concat()), 1 => any::<String>()]
}

/// Without the table that states each key: the written file states each key at the port.
fn without_tables(config: Config) -> Config {
    Config { own: BTreeMap::new(), ..config }
}

proptest! {
    #[test]
    fn what_is_written_reads_back_as_the_same(config in config()) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("effective.toml");
        fs::write(&path, config.to_toml()).unwrap();
        prop_assert_eq!(without_tables(Config::load_file(&path).unwrap().config), config);
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in texts()) {
        match Config::parse(&text, Path::new("config.toml")) {
            Ok(config) => {
                let again = Config::parse(&config.to_toml(), Path::new("again")).unwrap();
                prop_assert_eq!(without_tables(again), without_tables(config));
            }
            Err(error) => {
                let reported = error.to_string();
                prop_assert!(!reported.is_empty() && !reported.chars().any(|c| c.is_control() && c != '\n'), "{:?}", reported);
            }
        }
    }
}

/// The texts are those of conserver.cf(5), ipmitool(1) (`~B`) and a Hayes modem (`+++`).
#[test]
fn breaks_and_keepalives_are_texts_in_the_notation_of_conserver() {
    takes("break", &[r#"'\z'"#, r#""~B""#, r#"'\r+++'"#, r#"'\r\d~\d^B'"#]);
    assert_eq!(
        put("break", r#""\r+++""#),
        Some(r#"'\r+++'"#.to_owned()),
        "a control character, by its escape"
    );
    takes("breaks", &[r#"["1=#.", 'sysrq=\z\dh']"#, "[]"]);
    for wrong in [r#"'\q'"#, "''", "5"] {
        assert_eq!(put("break", wrong), None, "{wrong}");
    }
    assert_eq!(put("breaks", "['sun=#.', 'sysrq=x']"), None, "one key after ^Ecl");
    takes("initial", &[r#"[{ expect = "login: $", send = '\r' }, { credential = "pw" }]"#, "[]"]);
    assert_eq!(put("initial", "[{}]"), None);
    let config = "[ports.a]\nkeepalive = { interval = \"5m\", text = '\\r' }\n";
    let config = Config::parse(config, Path::new("config.toml")).unwrap();
    let keepalive = &config.ports.values().next().unwrap().keepalive;
    assert_eq!(
        (keepalive.interval, keepalive.text.to_string()),
        (Some(Duration::from_secs(300)), "\\r".to_owned())
    );
}

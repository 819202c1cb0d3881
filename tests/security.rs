//! SECURITY.md is true where the files show it: the tests that it names exist, and none of our programs starts a
//! program except at the places listed here.

use std::fs;
use std::path::{Path, PathBuf};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The files that start a program, and which: nothing of these is reached from the network but `auth/run`, which starts `consolectl`.
const STARTS: [(&str, &str); 23] = [
    // authorized_keys_command, as root configured it, as its user
    ("src/auth/keys_command.rs", "Command::new(real)"),
    ("src/auth/run.rs", "Command::new(program)"),
    // The enabled ports whose devices are there, by `console-open.service`
    ("src/bin/console-generator.rs", "Command::new(\"systemctl\")"),
    // A disk that may hang is queried by these, which can be abandoned.
    ("src/cli/bounded.rs", "Command::new(\"ls\")"),
    ("src/cli/bounded.rs", "Command::new(\"stat\")"),
    ("src/cli/bounded.rs", "Command::new(\"stat\")"),
    // lrzsz's programs, as the user who transfers a file
    ("src/cli/commands/transfer.rs", "Command::new(program)"),
    // By root, as the users that read the configuration
    ("src/cli/doctor/config_file.rs", "Command::new(\"setpriv\")"),
    ("src/cli/doctor/device.rs", "Command::new(\"modprobe\")"),
    // What keys sshd takes, by sshd -T
    ("src/cli/doctor/key_sources.rs", "Command::new(SSHD)"),
    ("src/cli/doctor/systemd.rs", "Command::new(\"systemctl\")"),
    ("src/cli/doctor/systemd.rs", "Command::new(\"systemctl\")"),
    ("src/cli/doctor/systemd.rs", "Command::new(\"systemctl\")"),
    ("src/cli/local.rs", "Command::new(\"systemctl\")"),
    // Itself, for a command that Control-C ends.
    ("src/cli/program.rs", "Command::new(\"/proc/self/exe\")"),
    ("src/cli/units.rs", "Command::new(\"systemctl\")"),
    // The program of a port with `source = "unit"`, which the administrator's drop-in names
    ("src/dial/program.rs", "Command::new(path)"),
    // DNS, as `_console-directory`; and by a user, `consolectl -H`
    ("src/fleet/identity.rs", "Command::new(\"ssh-keyscan\")"),
    ("src/fleet/remote.rs", "Command::new(\"ssh\")"),
    ("src/fleet/update.rs", "Command::new(\"dig\")"),
    ("src/fleet/update.rs", "Command::new(\"timeout\")"),
    ("src/foreground/children.rs", "Command::new(\"/usr/bin/setpriv\")"),
    ("src/foreground/line.rs", "Command::new(\"/usr/bin/setsid\")"),
];

#[test]
fn every_test_that_it_names_is_there() {
    let text = fs::read_to_string(Path::new(ROOT).join("SECURITY.md")).unwrap();
    let named: Vec<_> = text.split('`').filter(|word| word.starts_with("tests/")).collect();
    assert!(named.len() > 20, "only {named:?}");
    for name in named {
        assert!(Path::new(ROOT).join(name).is_file(), "{name}");
    }
}

/// Versions by SemVer 2.0.0, item 9: a hyphen after the patch number is a pre-release. What follows a `+` is build metadata.
#[test]
fn every_pre_release_crate_is_named_with_its_version() {
    let lock: toml::Table = fs::read_to_string(format!("{ROOT}/Cargo.lock")).unwrap().parse().unwrap();
    let text = fs::read_to_string(format!("{ROOT}/SECURITY.md")).unwrap();
    let field = |package: &toml::Value, name: &str| package[name].as_str().unwrap().to_owned();
    let found: Vec<String> = lock["package"]
        .as_array()
        .unwrap()
        .iter()
        .map(|package| (field(package, "name"), field(package, "version")))
        .filter(|(_, version)| version.split('+').next().unwrap().contains('-'))
        .map(|(name, version)| format!("`{name}` {version}"))
        .collect();
    assert!(
        !found.is_empty(),
        "russh has only stable dependencies: remove the paragraph from SECURITY.md and this line"
    );
    for named in &found {
        assert!(text.contains(named), "SECURITY.md does not name {named}");
    }
    let listed = regex_automata::meta::Regex::new(r"`[a-z0-9-]+` [0-9.]+-[a-z]+[0-9a-z.]*[0-9a-z]").unwrap();
    for place in listed.find_iter(&text) {
        assert!(
            found.iter().any(|named| *named == text[place.range()]),
            "not in Cargo.lock: {}",
            &text[place.range()]
        );
    }
}

fn sources(directory: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, into);
        } else {
            into.push(path);
        }
    }
}

#[test]
fn programs_are_started_where_it_is_known_and_nowhere_else() {
    let mut files = Vec::new();
    sources(&Path::new(ROOT).join("src"), &mut files);
    let mut starts = Vec::new();
    for file in files {
        let name = file.strip_prefix(ROOT).unwrap().to_str().unwrap().to_owned();
        let text = fs::read_to_string(&file).unwrap();
        // The tests within a file may start anything.
        let text = text.split("#[cfg(test)]").next().unwrap();
        for line in text.lines().filter(|line| !line.trim_start().starts_with("//")) {
            assert!(
                !["execve", "execvp", "posix_spawn", "fork()"].iter().any(|call| line.contains(call)),
                "{name}: {line}"
            );
            if let Some(at) = line.find("Command::new(") {
                let call = &line[at..];
                // clap's commands are not programs.
                if !call.starts_with("Command::new(row.name)") {
                    starts.push((name.clone(), call[..=call.find(')').unwrap()].to_owned()));
                }
            }
        }
    }
    starts.sort();
    let known: Vec<_> = STARTS.iter().map(|(file, call)| ((*file).to_owned(), (*call).to_owned())).collect();
    assert_eq!(starts, known);
}

//! Texts that users read and that do not depend on the machine: help, usage errors and the descriptions that shells show beside completions. The texts are in
//! tests/golden/cli; SNAPSHOTS=overwrite renews them, for a review of the difference.

use std::process::Stdio;

use snapbox::{assert_data_eq, file};

use crate::bus::{Bus, said};

/// Standard output of a command line that succeeds, at 80 columns.
fn printed(bus: &Bus, words: &[&str]) -> String {
    let (code, shown, aside) = said(bus.consolectl(words).env("COLUMNS", "80").stdin(Stdio::null()));
    assert_eq!((code, aside.as_str()), (0, ""), "{words:?}");
    shown
}

/// The names of all commands, as `help` lists them, and the hidden one.
fn commands(bus: &Bus) -> Vec<String> {
    let help = printed(bus, &["help"]);
    let name = |line: &str| {
        let first = line.strip_prefix("  ")?.split(' ').next()?;
        (!first.is_empty()).then(|| first.to_owned())
    };
    let mut commands: Vec<String> = help.lines().filter_map(name).collect();
    assert!(commands.len() > 50, "{help}");
    commands.push("completions".to_owned());
    commands
}

#[test]
fn help_of_every_command() {
    let bus = Bus::empty();
    assert_data_eq!(printed(&bus, &["--help"]), file!["../golden/cli/help.txt"].raw());
    let mut all = String::new();
    for command in commands(&bus) {
        let help = printed(&bus, &[&command, "--help"]);
        all.push_str(&format!("$ consolectl {command} --help\n{}\n\n", help.trim_end()));
    }
    assert_data_eq!(all, file!["../golden/cli/help-of-commands.txt"].raw());
}

#[test]
fn usage_errors() {
    let bus = Bus::empty();
    let mut all = String::new();
    for line in [
        "lsit",
        "frobnicate",
        "st",
        "configure terminal",
        "no baud ttyUSB0",
        "restart ttyUSB0",
        "reboot",
        "journal",
        "show startup-config",
        "commit check",
        "commit comment x",
        "revert 3",
        "tio -b 115200 ttyUSB0",
        "log -f",
        "baud",
        "baud ttyUSB0",
        "baud ttyUSB0 9600 8N1",
        "parity a%b even",
        "reload -x",
        "break ttyUSB0 0",
        "learn",
        "learn ttyUSB0 --timeout 0",
        "commit confirm",
        "commit confirm 0",
        "commit ttyUSB0",
        "set baud=9600 ttyUSB0",
        "set ttyUSB0 baud",
        "disable",
        "send ttyUSB0",
        "send --output-delay 5 ttyUSB0 x",
        "expect ttyUSB0 '('",
        "grep '('",
        "log --since soon ttyUSB0",
        "log -n some ttyUSB0",
        "log -f --until now ttyUSB0",
        "list --unconfigured ttyUSB0",
        "connect --escape x ttyUSB0",
        "create p[1-",
        "show p[9-1]",
        "show templates.a%b",
        "ssh-config --host [::1]",
        "ssh-config --prefix -x",
        "ssh-config --user 'a b'",
        "import",
        "import --from minicom x",
        "import --first-port 0 x",
        "completions tcsh",
        "rename ttyUSB0",
        "--no-such-option",
    ] {
        let words = shlex::split(line).unwrap();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let (code, shown, aside) = said(bus.consolectl(&words).stdin(Stdio::null()));
        assert_eq!((code, shown.as_str(), aside.lines().count()), (2, "", 1), "{line}: {aside}");
        all.push_str(&format!("$ consolectl {line}\n{aside}"));
    }
    assert_data_eq!(all, file!["../golden/cli/usage-errors.txt"].raw());
}

#[test]
fn descriptions_of_completions() {
    let bus = Bus::empty();
    let mut all = String::new();
    for line in ["", "-", "list -", "log -", "grep -", "send -", "import -", "ssh-config -", "commit "] {
        let (words, last) = line.rsplit_once(' ').unwrap_or(("", line));
        let mut command = bus.consolectl(&["--", "consolectl"]);
        command.env("COMPLETE", "fish").args(words.split_whitespace()).arg(last);
        let (code, shown, aside) = said(command.stdin(Stdio::null()));
        assert_eq!((code, aside.as_str()), (0, ""), "{line}");
        all.push_str(&format!("$ consolectl {line}\n{}\n\n", shown.trim_end()));
    }
    assert_data_eq!(all, file!["../golden/cli/completions.txt"].raw());
}

/// A text without dates and times.
fn stable(text: &str) -> String {
    let shape = |word: &str| word.replace(|c: char| c.is_ascii_digit(), "9");
    let word = |word: &str| match shape(word.trim_end_matches([':', '.', ';', ','])).as_str() {
        "99:99:99" => word.replace(&word[..8], "HH:MM:SS"),
        "9999-99-99" => word.replace(&word[..10], "YYYY-MM-DD"),
        _ => word.to_owned(),
    };
    let line = |line: &str| line.split(' ').map(word).collect::<Vec<_>>().join(" ");
    text.lines().map(|text| line(text) + "\n").collect()
}

#[test]
fn answers_to_changes_and_their_journal() {
    let bus = Bus::new();
    let mut all = String::new();
    for line in [
        "baud ttyUSB0 115200",
        "baud ttyUSB0 115200",
        "baud ttyUSB0 fast",
        "set ttyUSB[0-1] parity=even bytesize=7",
        "set ttyUSB0 ssh_port=8024",
        "unset ttyUSB1 parity",
        "describe ttyUSB0 core switch",
        "timeout ttyUSB9 5",
        "diff",
        "reload ttyUSB0",
        "reload ttyUSB0",
        "commit confirm 5",
        "commit confirm 5",
        "commit",
        "confirm",
        "confirm",
        "commit",
        "stopbits ttyUSB0 2",
        "commit confirm 5",
        "revert",
        "stopbits ttyUSB0 2",
        "revert ttyUSB1",
        "revert ttyUSB0",
        "revert",
        "create core",
        "create core",
        "remove core",
        "remove ttyUSB9",
        "create rack-[01-20]",
        "revert",
        "rollback",
        "rollback 1",
        "commit",
    ] {
        let words = shlex::split(line).unwrap();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let (code, shown, aside) = said(bus.consolectl(&words).env("COLUMNS", "100").stdin(Stdio::null()));
        all.push_str(&format!("$ consolectl {line}\n{shown}{aside}"));
        if code != 0 {
            all.push_str(&format!("(exit status {code})\n"));
        }
    }
    assert_data_eq!(stable(&all), file!["../golden/admin/answers.txt"].raw());
    let journal = std::fs::read_to_string(bus.path("journal")).unwrap();
    let messages: Vec<_> = journal.lines().filter(|line| line.contains(" console-admin: ")).collect();
    assert_data_eq!(stable(&messages.join("\n")), file!["../golden/admin/journal.txt"].raw());
}

//! `ssh-config`, as OpenSSH reads it.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::bus::{Bus, said};
use crate::client::Client;
use crate::rig::Rig;

/// The values of these keywords that ssh uses for a name.
fn understood(file: &Path, name: &str, keywords: [&str; 4]) -> [String; 4] {
    let (code, shown, aside) = said(Command::new("ssh").arg("-G").arg("-F").arg(file).arg(name));
    assert_eq!(code, 0, "{name}: {aside}");
    keywords.map(|keyword| {
        let line = shown.lines().find_map(|line| line.strip_prefix(&format!("{keyword} ")));
        line.unwrap_or_default().to_owned()
    })
}

#[test]
fn openssh_resolves_each_console_and_the_admin_cli_by_name() {
    let bus = Bus::new();
    bus.done(&["create", "core"]);
    bus.done(&["sshport", "core", "8100"]);
    bus.done(&["device", "core", "/dev/null"]);
    bus.done(&["describe", "core", "ends here\\"]);
    let printed = bus.done(&["ssh-config", "--host", "fe80::1%eth0", "--prefix", "r1-", "--user", "bob"]);
    let file = bus.path("ssh_config");
    fs::write(&file, &printed).unwrap();
    let keywords = ["hostname", "port", "user", "hostkeyalias"];
    for (name, port) in
        [("r1-core", "8100"), ("r1-ttyUSB0", "8023"), ("r1-ttyUSB1", "8024"), ("r1-consolectl", "8022")]
    {
        let wanted = ["fe80::1%eth0", port, "bob", "fe80::1-eth0-consoles"];
        assert_eq!(understood(&file, name, keywords), wanted, "{name}: {printed}");
    }
    assert_eq!(printed.matches("\nHost ").count(), 4, "{printed}");

    let named = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let printed = bus.done(&["ssh-config"]);
    assert!(printed.contains(&format!("\n    HostName {}\n", named.trim())), "{printed}");
    assert!(!printed.contains("User"), "{printed}");
}

#[test]
fn words_that_could_inject_directives_are_usage_errors() {
    let bus = Bus::empty();
    for words in [["--host", "a b"], ["--host", "[::1]"], ["--prefix", "*"], ["--user", "a\nProxyCommand id"]]
    {
        let (code, shown, aside) = bus.says(&["ssh-config", words[0], words[1]]);
        assert_eq!((code, shown.as_str()), (2, ""), "{words:?}: {aside}");
        assert!(aside.contains("invalid value") && aside.contains("use "), "{words:?}: {aside}");
    }
}

#[test]
fn a_login_by_an_entry_reaches_the_console_and_stores_one_host_key() {
    let mut rig = Rig::new("");
    rig.serve_logins(true);
    rig.start_plugged();
    let bus = Bus::new();
    let config = format!(
        "[server]\nssh_port = 8022\n[ports.demo]\nssh_port = {}\nlisten = [\"127.0.0.1\"]\n",
        rig.tcp_port
    );
    fs::write(bus.path("root/etc/consoleserver/config.toml"), config).unwrap();
    let printed = bus.done(&["ssh-config", "--host", "127.0.0.1", "--user", "demo"]);
    assert!(printed.contains("# listens on loopback addresses only\nHost demo\n"), "{printed}");
    let (file, known) = (bus.path("ssh_config"), bus.path("known_hosts"));
    fs::write(&file, printed).unwrap();
    let mut command = Command::new("ssh");
    command.arg("-F").arg(&file).arg("-i").arg(rig.path("key"));
    command.arg("-o").arg(format!("UserKnownHostsFile={}", known.display()));
    command.args(["-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes"]);
    command.args(["-o", "StrictHostKeyChecking=accept-new", "demo"]);
    let mut client = Client::start(command);
    client.type_in("typed");
    rig.expect_at_device(b"typed");
    rig.say(b"the answer");
    client.sees("the answer");
    let known = fs::read_to_string(&known).unwrap();
    assert!(!known.is_empty());
    for line in known.lines() {
        assert_eq!(line.split(' ').next(), Some("127.0.0.1-consoles"), "{known}");
    }
}

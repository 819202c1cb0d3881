//! Text in another encoding than UTF-8, as from a terminal in Latin-1: sshd takes any bytes, and passes those of a password to PAM.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::process::Command;

use crate::accounts::Accounts;
use crate::client::Client;
use crate::rig::{Rig, until};
use crate::served;

const PASSWORD: &[u8] = b"s\xe9same";

#[test]
fn a_password_in_latin_1_is_accepted_and_a_user_name_is_denied() {
    let accounts = Accounts::enter();
    accounts.add("alice", None);
    accounts.set_password("alice", PASSWORD);
    accounts.run(&["usermod", "-aG", "dialout", "alice"]);
    let mut rig =
        Rig::with_config("[access]\ngroups = [\"dialout\"]\n[ports.demo]\ndevice = \"@DIR@/dev/demo\"\n");
    rig.serve_logins(false);
    rig.start_plugged();
    for method in ["password", "keyboard-interactive"] {
        let method = format!("PreferredAuthentications={method}");
        let ssh = rig.ssh(&["-o", &method, "-o", "NumberOfPasswordPrompts=1", "alice@127.0.0.1", "version"]);
        let mut command = Command::new("sshpass");
        command.arg("-p").arg(OsStr::from_bytes(PASSWORD)).arg(ssh.get_program()).args(ssh.get_args());
        Client::start(command).ends_with(0);
    }
    let mut command = rig.ssh(&["-o", "BatchMode=yes", "-l"]);
    command.arg(OsStr::from_bytes(b"al\xe9ce")).arg("127.0.0.1");
    let mut client = Client::start(command);
    client.ends_with(255);
    assert!(client.aside().contains("Permission denied"), "{}", client.aside());
    until("the denial", || {
        rig.login_journal().contains("login of \"al\u{fffd}ce\" to demo from 127.0.0.1: denied").then_some(())
    });
}

/// Debian's ssh_config sends LANG and LC_*.
#[test]
fn a_locale_and_a_terminal_in_latin_1_do_not_disconnect() {
    let rig = served("");
    let mut command = rig.ssh(&["-tt", "-o", "SendEnv=LC_NAME", "demo@127.0.0.1", "version"]);
    command.env("LC_NAME", OsStr::from_bytes(b"caf\xe9")).env("TERM", OsStr::from_bytes(b"x\xe9term"));
    Client::start(command).ends_with(0);
}

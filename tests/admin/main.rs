//! `console-admin` on a private dbus-daemon that it takes for the system bus. systemd's own bus name is served by a stand-in that
//! runs the real generator and records calls: the real one is in tests/boot.

#[path = "../support/accounts.rs"]
mod accounts;
#[path = "bench.rs"]
mod bench;
mod changes;
mod interface;
mod many;
mod people;
mod power;
mod triggers;

/// Makes the account of the ports.
fn port_account(accounts: &accounts::Accounts) {
    accounts.run(&[
        "sh",
        "-c",
        "getent passwd _console-port || useradd --system --no-log-init _console-port",
    ]);
}

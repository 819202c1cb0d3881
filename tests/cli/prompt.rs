//! The prompt, on a terminal that `expect` gives it.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::bus::{Bus, TIMEOUT};

/// Runs a script of `expect` with the prompt spawned: `await WORDS` waits for them, `type WORDS` types.
#[track_caller]
fn at_prompt(bus: &Bus, steps: &str) {
    let script = format!(
        "set timeout {}\n\
         set stty_init {{rows 40 columns 160 -echo}}\n\
         proc await {{words}} {{\n\
           expect -ex $words {{}} timeout {{ puts \"NOT SEEN: $words\"; exit 3 }} eof {{ puts \"ENDED BEFORE: $words\"; exit 4 }}\n\
         }}\n\
         proc type {{words}} {{ send -- $words }}\n\
         spawn -noecho {}\n\
         {steps}\n\
         expect eof {{}} timeout {{ puts \"DOES NOT END\"; exit 5 }}\n\
         exit [lindex [wait] 3]\n",
        TIMEOUT.as_secs(),
        env!("CARGO_BIN_EXE_consolectl"),
    );
    let mut command = Command::new("expect");
    command.env_clear().env("PATH", "/usr/bin:/bin").envs(bus.environment());
    let (code, shown, aside) = crate::bus::said(command.args(["-c", &script]));
    assert_eq!(code, 0, "{shown}\n{aside}");
}

#[test]
fn a_change_is_marked_until_it_is_committed() {
    let bus = Bus::new();
    at_prompt(
        &bus,
        r#"
        await "> "
        type "baud ttyUSB0 115200\r"
        await "115200 at ttyUSB0"
        await "1 uncommitted> "
        type "reboot\r"
        await "unknown command reboot"
        await "1 uncommitted> "
        type "commit confirm 5\r"
        await "1 change committed"
        await "confirm within "
        type "confirm\r"
        await "confirmed"
        await "> "
        type "parity ttyUSB0 E\r"
        await "1 uncommitted> "
        type "exit\r"
        await "1 change is uncommitted and will be lost at the next boot"
    "#,
    );
}

#[test]
fn tab_completes_and_control_c_clears_the_line() {
    let bus = Bus::new();
    at_prompt(
        &bus,
        r#"
        await "> "
        type "cre\tcore\r"
        await "core created"
        await "1 uncommitted> "
        type "pari\tcor\t\t\t"
        await "none"
        await "space"
        type "\003"
        await "\033\[?2004l"
        await "1 uncommitted> "
        type "set core log.s\t10s\r"
        await "10s"
        await "uncommitted> "
        type "\004"
        await "uncommitted and will be lost"
    "#,
    );
}

#[test]
fn history_is_kept_for_its_user_alone() {
    let bus = Bus::new();
    at_prompt(
        &bus,
        r#"
        await "> "
        type "show ttyUSB1\r"
        await "8024"
        await "> "
        type "\004"
    "#,
    );
    let history = bus.path("home/.local/state/consoleserver/history");
    assert_eq!(std::fs::metadata(&history).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(std::fs::read_to_string(&history).unwrap().contains("show ttyUSB1"));
    at_prompt(
        &bus,
        r#"
        await "> "
        type "\033\[A\r"
        await "8024"
        await "> "
        type "exit\r"
    "#,
    );
}

#[test]
fn the_prompt_works_without_a_writable_home() {
    let bus = Bus::new();
    std::fs::remove_dir(bus.path("home")).unwrap();
    std::fs::write(bus.path("home"), "a file").unwrap();
    at_prompt(&bus, "await \"> \"\ntype \"list\\r\"\nawait \"ttyUSB1\"\nawait \"> \"\ntype \"\\004\"");
}

#[test]
fn a_change_is_rejected_until_another_users_change_was_shown() {
    let bus = Bus::new();
    let other = format!(
        "exec env DBUS_SYSTEM_BUS_ADDRESS=unix:path={} {} baud ttyUSB1 19200",
        bus.path("bus").display(),
        env!("CARGO_BIN_EXE_consolectl")
    );
    at_prompt(
        &bus,
        &format!(
            r#"
        await "> "
        type "baud ttyUSB0 115200\r"
        await "1 uncommitted> "
        {other}
        type "remove ttyUSB2\r"
        await "ports.ttyUSB1.baud was changed by root at "
        await "2 uncommitted> "
        type "create rack\r"
        await "ports.ttyUSB1.baud was changed by root at "
        await "2 uncommitted> "
        type "parity ttyUSB0 E\r"
        await "ports.ttyUSB1.baud was changed by root at "
        await "review it and retry"
        await "2 uncommitted> "
        type "diff\r"
        await "19200"
        await "2 uncommitted> "
        type "parity ttyUSB0 E\r"
        await "3 uncommitted> "
        type "exit\r"
    "#
        ),
    );
}

#[test]
fn the_loss_of_power_is_confirmed_before_anything_is_done() {
    let bus = Bus::new();
    at_prompt(
        &bus,
        r#"
        await "> "
        type "power ttyUSB0 off\r"
        await "power off ttyUSB0: the device loses power. Continue? \[y/N\] "
        type "n\r"
        await "not confirmed"
        await "> "
        type "\004"
    "#,
    );
}

/// As in a shell, pasted lines, with brackets or without, are run one by one, and lines that are typed ahead are not lost.
#[test]
fn pasted_lines_are_run_one_after_the_other() {
    let bus = Bus::new();
    at_prompt(
        &bus,
        r#"
        await "> "
        type "baud ttyUSB0 19200\rbaud ttyUSB1 38400\rparity ttyUSB1 E\r"
        await "19200 at ttyUSB0"
        await "38400 at ttyUSB1"
        await "E at ttyUSB1"
        await "3 uncommitted> "
        type "\033\[200~describe ttyUSB0 rack 4\nnonsense\nstopbits ttyUSB0 2\n\033\[201~\r"
        await "rack 4 at ttyUSB0"
        await "unknown command nonsense"
        await "2 at ttyUSB0"
        await "5 uncommitted> "
        type "exit\r"
    "#,
    );
}

/// Half of a line must not be run: the rest of it could be another command.
#[test]
fn a_line_that_is_not_utf8_is_dropped_and_the_prompt_stays() {
    let bus = Bus::new();
    at_prompt(
        &bus,
        r#"
        await "> "
        fconfigure $spawn_id -encoding binary
        type "describe ttyUSB0 caf\351\rbaud ttyUSB0 19200\r"
        await "the line is not valid UTF-8, and was dropped"
        await "> "
        type "version\r"
        await "consolectl 0."
        await "> "
        type "exit\r"
    "#,
    );
    assert_eq!(bus.done(&["diff"]), "");
}

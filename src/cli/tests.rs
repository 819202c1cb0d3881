//! The error sentences of all commands, in tests/golden/cli/errors.txt.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::Arc;

use snapbox::{assert_data_eq, file};

use super::commands::autobaud::NotText;
use super::commands::check::CheckError;
use super::commands::learn::{Found, LearnError};
use super::commands::sessions::NoSession;
use super::commands::ssh_config::NoHostName;
use super::error::CommandError;
use super::former::FormerError;
use super::import::{ImportError, SourceLine};
use super::local::LocalError;
use super::service::ServiceError;
use super::units::SystemctlError;
use super::value::ValueError;
use crate::port::PortName;

fn port() -> PortName {
    "core".parse().unwrap()
}

fn absent() -> io::Error {
    io::Error::from_raw_os_error(nix::libc::ENOENT)
}

fn found(count: usize) -> Vec<Found> {
    let found = |n| Found { path: format!("/dev/serial/by-path/usb-{n}").into(), tty: format!("ttyUSB{n}") };
    (0..count).map(found).collect()
}

#[test]
fn error_sentences() {
    let text = str::to_owned;
    let line = || SourceLine { file: Arc::from("conserver.cf"), line: 12 };
    let failed = ExitStatus::from_raw(1 << 8);
    let path = || PathBuf::from("/dev/serial/by-path/usb-0");
    let errors: Vec<CommandError> = vec![
        CommandError::Foreground("/run/user/1000/consoleserver".into()),
        CommandError::OnePort { command: "connect", pattern: text("p*"), ports: text("2 ports (p1, p2)") },
        CommandError::NotServed(port()),
        CommandError::Interrupted,
        io::Error::from(io::ErrorKind::BrokenPipe).into(),
        ServiceError::NoBus(zbus::Error::from(absent())).into(),
        ServiceError::SilentBus.into(),
        ServiceError::Absent(text("the name is not activatable")).into(),
        ServiceError::Silent.into(),
        ServiceError::Denied(text("bob may not administer this console server")).into(),
        ServiceError::UnknownPort { port: port(), instead: text("did you mean cor?"), whole: None }.into(),
        ServiceError::Bus(zbus::Error::InvalidReply).into(),
        LocalError::NoPorts("/run/consoleserver/attach".into(), absent()).into(),
        LocalError::Systemctl(text("no answer within 0.5 s")).into(),
        LocalError::SystemctlFailed(failed, text("Failed to connect to bus: Host is down")).into(),
        FormerError::Denied(port(), "former port").into(),
        FormerError::Io(port(), "closed port", absent()).into(),
        FormerError::None(port(), "former port").into(),
        FormerError::NoTimes(port(), "former port").into(),
        FormerError::Output(absent()).into(),
        ValueError::UnknownKey { of: text("core"), key: text("buad"), instead: text("did you mean baud?") }
            .into(),
        ValueError::NotSent(text("1.5")).into(),
        ValueError::WholeTemplate(text("cisco")).into(),
        ValueError::Single(text("ssh_port")).into(),
        ValueError::Twice(text("baud")).into(),
        ValueError::NoAssignment(text("baud")).into(),
        ValueError::OfOne { key: text("device"), value: text("/dev/ttyS0"), ports: 3 }.into(),
        ValueError::OfOne { key: text("ssh_port"), value: text("8100"), ports: 3 }.into(),
        ValueError::Counts { key: text("ssh_port"), value: text("[8100-8101]"), values: 2, ports: 3 }.into(),
        ValueError::NotNames(text("p*")).into(),
        ValueError::NoMorePorts { first: 65_500, count: 48 }.into(),
        ValueError::Rejected {
            key: text("bytesize"),
            value: text("9"),
            reason: text("expected 5, 6, 7 or 8"),
        }
        .into(),
        LearnError::Watch(absent()).into(),
        LearnError::Nothing(60).into(),
        LearnError::Gone(60).into(),
        LearnError::Many(found(2)).into(),
        LearnError::Many(found(10)).into(),
        LearnError::Bound { path: path(), port: port() }.into(),
        CommandError::of_command(NotText(port())),
        CommandError::of_command(NoSession { user: text("bob"), ports: text("2 ports (p1, p2)") }),
        CommandError::of_command(NoHostName::Unreadable("/proc/sys/kernel/hostname", absent())),
        CommandError::of_command(NoHostName::Invalid(text("a b"))),
        CommandError::of_command(SystemctlError::NotRun(absent())),
        CommandError::of_command(SystemctlError::Failed(text("Unit not found."), failed)),
        CommandError::of_command(CheckError::Output(absent())),
        CommandError::of_command(ImportError::UnknownKind("consoles.conf".into())),
        CommandError::of_command(ImportError::Foreign("minirc.dfl".into(), "minicom", "use `create`")),
        CommandError::of_command(ImportError::Unreadable(text("conserver.cf"), absent())),
        CommandError::of_command(ImportError::TooLong(text("conserver.cf"), 1024 * 1024)),
        CommandError::of_command(ImportError::Utf16(text("ser2net.yaml"))),
        CommandError::of_command(ImportError::Syntax(line(), text("a list of more than 1024 words"))),
        CommandError::of_command(ImportError::TooMany(line(), 256)),
        CommandError::Several(vec![text("p1: bob has no session at p1"), text("p2: p2 is not open")]),
    ];
    let all: String = errors.iter().map(|error| format!("consolectl: {error}\n")).collect();
    assert_data_eq!(all, file!["../../tests/golden/cli/errors.txt"].raw());
}

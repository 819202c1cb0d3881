//! One serial port: reads the tty, logs its output, serves it by SSH and locally. Run by systemd as
//! `console@NAME.service`, or by `consoleserver`.
//!
//! Its arguments are parsed by lexopt, not by clap as those of the other programs: 48 of this process run, and users rarely start it.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use consoleserver::port::PortName;
use consoleserver::service::{Ended, Options};
use consoleserver::{service, system::journal};
use lexopt::prelude::*;
use nix::sys::prctl::set_name;

const HELP: &str = "\
Serve one serial port over SSH and locally, and log its output.

Usage: console-port [OPTIONS] PORT

Arguments:
  PORT             Name of the port in the configuration

Options:
      --config FILE    Read this configuration file only
      --root DIR       Root directory that contains etc/consoleserver and usr/lib/consoleserver [default: /]
      --bus            Report triggers to console-admin, and ask systemd about restarts, over the system bus
  -h, --help           Print help
  -V, --version        Print version
";

/// The unit is not restarted after this exit status (sysexits.h, and `RestartPreventExitStatus=` of console@.service).
const EX_CONFIG: u8 = 78;

/// After SIGTERM or SIGINT, as a shell reports it. systemd restarts the unit unless it was stopped (`RestartForceExitStatus=`).
const EX_TERMINATED: u8 = 128 + 15;

/// Command line.
enum Request {
    Serve(Options),
    Say(String),
}

fn main() -> ExitCode {
    let options = match parse_arguments() {
        Ok(Request::Serve(options)) => options,
        Ok(Request::Say(text)) => {
            return match write!(io::stdout(), "{text}") {
                Ok(()) => ExitCode::SUCCESS,
                Err(_) => ExitCode::FAILURE,
            };
        }
        Err(error) => {
            let _ = writeln!(
                io::stderr(),
                "error: {}\n\nUsage: console-port [OPTIONS] PORT\n\nFor more information, try '--help'.",
                consoleserver::printable::visible(&error.to_string())
            );
            return ExitCode::from(2);
        }
    };
    // If it is started by a descriptor, the kernel names it by that number.
    if let Err(error) = set_name(c"console-port") {
        let _ = writeln!(io::stderr(), "console-port: the process name cannot be set: {error}");
    }
    journal::init("console-port", Some(&options.port));
    match service::run(&options) {
        Ok(Ended::Idle) => ExitCode::SUCCESS,
        // The foreground program starts ports without `--bus`, and expects success.
        Ok(Ended::Stopped) if options.bus => ExitCode::from(EX_TERMINATED),
        Ok(Ended::Stopped) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            if error.is_of_configuration() { ExitCode::from(EX_CONFIG) } else { ExitCode::FAILURE }
        }
    }
}

fn parse_arguments() -> Result<Request, lexopt::Error> {
    let (mut config, mut root, mut bus, mut port) = (None, PathBuf::from("/"), false, None);
    let mut arguments = lexopt::Parser::from_env();
    while let Some(argument) = arguments.next()? {
        match argument {
            Long("config") => config = Some(PathBuf::from(arguments.value()?)),
            Long("root") => root = PathBuf::from(arguments.value()?),
            Long("bus") => bus = true,
            Short('h') | Long("help") => return Ok(Request::Say(HELP.to_owned())),
            Short('V') | Long("version") => {
                return Ok(Request::Say(format!("console-port {}\n", env!("CARGO_PKG_VERSION"))));
            }
            Value(name) if port.is_none() => port = Some(name.parse::<PortName>()?),
            other => return Err(other.unexpected()),
        }
    }
    let port = port.ok_or("missing PORT")?;
    Ok(Request::Serve(Options { port, config, root, bus }))
}

//! Connects one serial port to a far end that is not a tty. Run by systemd as `console-source@PORT.service`.
//!
//! Its arguments are read by lexopt, not by clap, as console-port's: there is one for each port that has a source.

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use consoleserver::dial::{self, DialError, Options};
use consoleserver::exec;
use consoleserver::port::{PortName, Source};
use lexopt::prelude::*;

const HELP: &str = "\
Connect one serial port to a unix socket, a TCP port or a program.

Usage: console-dial [OPTIONS] PORT SOURCE
       console-dial [OPTIONS] PORT unit PROGRAM [ARGUMENT]...

Arguments:
  PORT             The port, as its unit is called
  SOURCE           unix:PATH, tcp:HOST:PORT, telnet:HOST:PORT or rfc2217:HOST:PORT
  PROGRAM          A program by its absolute path, which gets a pseudo terminal

Options:
      --break TEXT  What is sent to PROGRAM as a break, with \\r, \\n, \\e and \\xHH
  -h, --help        Print help
  -V, --version     Print version
";

enum Request {
    Dial(Options),
    Print(String),
}

fn main() -> ExitCode {
    let options = match request() {
        Ok(Request::Dial(options)) => options,
        Ok(Request::Print(text)) => {
            return match write!(io::stdout(), "{text}") {
                Ok(()) => ExitCode::SUCCESS,
                Err(_) => ExitCode::FAILURE,
            };
        }
        Err(error) => {
            let _ = writeln!(
                io::stderr(),
                "error: {}\n\nUsage: console-dial [OPTIONS] PORT SOURCE\n\nFor more information, try '--help'.",
                consoleserver::printable::visible(&error.to_string())
            );
            return ExitCode::from(2);
        }
    };
    match dial::run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "{error}");
            match error {
                DialError::NotPassed => ExitCode::from(2),
                DialError::Port(_) | DialError::System(..) => ExitCode::FAILURE,
            }
        }
    }
}

fn request() -> Result<Request, lexopt::Error> {
    let (mut port, mut source, mut break_text) = (None, None, None);
    let mut program: Vec<OsString> = Vec::new();
    let mut arguments = lexopt::Parser::from_env();
    while let Some(argument) = arguments.next()? {
        match argument {
            Long("break") => break_text = Some(bytes_of(&arguments.value()?.string()?)?),
            Short('h') | Long("help") => return Ok(Request::Print(HELP.to_owned())),
            Short('V') | Long("version") => {
                return Ok(Request::Print(format!("console-dial {}\n", env!("CARGO_PKG_VERSION"))));
            }
            Value(name) if port.is_none() => port = Some(name.parse::<PortName>()?),
            Value(word) if source.is_none() => {
                let parsed = word.parse::<Source>()?;
                let is_unit = parsed == Source::Unit;
                source = Some(parsed);
                if is_unit {
                    // The rest is the program's, options included.
                    program = arguments.raw_args()?.collect();
                }
            }
            other => return Err(other.unexpected()),
        }
    }
    let port = port.ok_or("which port?")?;
    let source = source.ok_or("which source?")?;
    Ok(Request::Dial(Options { port, source, program, break_text }))
}

/// The bytes of a text with escapes.
fn bytes_of(text: &str) -> Result<Vec<u8>, lexopt::Error> {
    exec::unescape(text).map_err(|_| format!("--break {text:?}: use \\r, \\n, \\e, \\\\ and \\xHH").into())
}

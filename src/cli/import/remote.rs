//! Consoles of other programs that are not ttys: a host, a unix socket, a program, IPMI. They become ports with a `source`.

use super::error::{ImportError, SourceLine};
use super::plan::{Draft, Plan, quoted};
use crate::config::Value;

/// The far end of another program's console.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FarEnd {
    /// A TCP port that speaks telnet.
    Telnet(String, u16),
    /// A TCP port that carries plain bytes.
    Tcp(String, u16),
    /// A TCP port that speaks RFC 2217.
    Rfc2217(String, u16),
    Unix(String),
    Program(String),
    /// A BMC. (Its password stays in the file.)
    Ipmi(String),
}

/// The program of a command line: arguments may contain a password, such as that of ipmitool, and a report is copied into tickets.
fn program_of(command: &str) -> String {
    if command.starts_with('(') {
        return command.to_owned();
    }
    let mut words = command.split_whitespace();
    let program = words.next().unwrap_or_default();
    if words.next().is_some() { format!("{program} …") } else { program.to_owned() }
}

impl FarEnd {
    fn source(&self) -> String {
        let endpoint = |host: &str, port: u16| match host.contains(':') {
            true => format!("[{host}]:{port}"),
            false => format!("{host}:{port}"),
        };
        match self {
            Self::Telnet(host, port) => format!("telnet:{}", endpoint(host, *port)),
            Self::Tcp(host, port) => format!("tcp:{}", endpoint(host, *port)),
            Self::Rfc2217(host, port) => format!("rfc2217:{}", endpoint(host, *port)),
            Self::Unix(path) => format!("unix:{path}"),
            Self::Program(_) | Self::Ipmi(_) => "unit".to_owned(),
        }
    }

    /// A port for it; `None` if it cannot be, which is reported. What a program is to run is left to a drop-in: a file of another program must
    /// not decide what is started here.
    pub fn port(
        &self,
        plan: &mut Plan,
        word: &str,
        place: &SourceLine,
    ) -> Result<Option<Draft>, ImportError> {
        let source = self.source();
        let value: Value = source.as_str().into();
        if !Plan::accepts("source", &value) {
            let right = "left out: expected a host name or address with a TCP port, or an absolute path";
            plan.report(place, format_args!("console {}: {}", quoted(word), quoted(&source)), right);
            return Ok(None);
        }
        let Some(draft) = plan.port_on(word, "source", &source, place)? else { return Ok(None) };
        let unit =
            format!("systemctl edit console-source@{}.service, see console-source@.service(8)", draft.name);
        match self {
            Self::Program(command) => {
                let what = format!("console {}: exec {}", quoted(word), quoted(&program_of(command)));
                plan.report(place, what, format_args!("a drop-in defines the program: {unit}"));
            }
            Self::Ipmi(host) => {
                let what = format!("console {}: ipmi {}", quoted(word), quoted(host));
                plan.report(
                    place,
                    what,
                    format_args!("a drop-in runs ipmitool, with user and password: {unit}"),
                );
            }
            Self::Telnet(..) | Self::Tcp(..) | Self::Rfc2217(..) | Self::Unix(_) => {}
        }
        Ok(Some(draft))
    }
}

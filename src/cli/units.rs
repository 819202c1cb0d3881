//! Units by systemctl, for root on a machine where nobody can be asked to: without console-admin, or without polkit.

use std::path::Path;
use std::process::Command;

use crate::config::Instances;
use crate::port::PortName;
use crate::session::plain;

/// What is done to a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Its service, and by it its sockets.
    Start,
    /// Its sockets too, so that nobody wakes it.
    Stop,
    /// The settings that are committed, and those that run.
    Reload,
}

/// The words for systemctl, of a port whose units have this name.
fn words(verb: Verb, port: &PortName) -> Vec<String> {
    let service = format!("console@{port}.service");
    match verb {
        Verb::Start => vec!["start".to_owned(), service],
        Verb::Stop => {
            // The first as a pattern: most ports have no such unit, and a pattern that meets none is no error.
            let wakers = ["console@P.pat[h]", "console@P.socket", "console-attach@P.socket"];
            let wakers = wakers.map(|unit| unit.replace('P', port.as_str()));
            [vec!["stop".to_owned()], wakers.to_vec(), vec![service]].concat()
        }
        Verb::Reload => vec!["reload".to_owned(), service],
    }
}

/// Does it; what systemctl says is the error.
pub fn systemctl(verb: Verb, port: &PortName) -> Result<(), String> {
    let instances = Instances::running(Path::new("/"));
    let ran = Command::new("systemctl").args(words(verb, instances.of(port))).output();
    let output = ran.map_err(|error| format!("systemctl: {error}"))?;
    let said = plain(String::from_utf8_lossy(&output.stderr).trim());
    if output.status.success() { Ok(()) } else { Err(format!("systemctl: {said} ({})", output.status)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_is_stopped_is_not_woken_by_its_sockets() {
        let port: PortName = "ttyUSB0".parse().unwrap();
        assert_eq!(words(Verb::Start, &port), ["start", "console@ttyUSB0.service"]);
        let stop = [
            "stop",
            "console@ttyUSB0.pat[h]",
            "console@ttyUSB0.socket",
            "console-attach@ttyUSB0.socket",
            "console@ttyUSB0.service",
        ];
        assert_eq!(words(Verb::Stop, &port), stop);
    }
}

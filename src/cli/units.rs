//! Starts, stops and reloads units by systemctl, for root on a machine without console-admin or polkit.

use std::io;
use std::path::Path;
use std::process::{Command, ExitStatus};

use thiserror::Error;

use crate::config::Instances;
use crate::port::PortName;
use crate::printable::one_line;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// The service, which starts its sockets.
    Start,
    /// The service and the units that would activate it again.
    Stop,
    Reload,
}

/// Why systemctl did not do it.
#[derive(Debug, Error)]
pub enum SystemctlError {
    #[error("systemctl: {0}")]
    NotRun(io::Error),
    #[error("systemctl: {0} ({1})")]
    Failed(String, ExitStatus),
}

fn arguments(verb: Verb, port: &PortName) -> Vec<String> {
    let service = port.service();
    match verb {
        Verb::Start => vec!["start".to_owned(), service],
        Verb::Stop => {
            // The path unit as a pattern: most ports have none, and a pattern that matches nothing is not an error.
            let activators = [format!("console@{port}.pat[h]"), port.ssh_socket(), port.local_socket()];
            [vec!["stop".to_owned()], activators.to_vec(), vec![service]].concat()
        }
        Verb::Reload => vec!["reload".to_owned(), service],
    }
}

pub fn systemctl(verb: Verb, port: &PortName) -> Result<(), SystemctlError> {
    let instances = Instances::running(Path::new("/"));
    let ran = Command::new("systemctl").args(arguments(verb, instances.of(port))).output();
    let output = ran.map_err(SystemctlError::NotRun)?;
    let message = one_line(&String::from_utf8_lossy(&output.stderr));
    if output.status.success() { Ok(()) } else { Err(SystemctlError::Failed(message, output.status)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stop_includes_the_units_that_activate_the_service() {
        let port: PortName = "ttyUSB0".parse().unwrap();
        assert_eq!(arguments(Verb::Start, &port), ["start", "console@ttyUSB0.service"]);
        let stop = [
            "stop",
            "console@ttyUSB0.pat[h]",
            "console@ttyUSB0.socket",
            "console-attach@ttyUSB0.socket",
            "console@ttyUSB0.service",
        ];
        assert_eq!(arguments(Verb::Stop, &port), stop);
    }
}

//! Checks the socket where Prometheus scrapes. It is off until an administrator enables it, so a disabled socket is not a finding.

use std::net::SocketAddr;

use super::finding::Finding;
use super::observation::Observation;
use super::systemd::METRICS_SOCKET;
use super::units::{is_active, listener_name};

pub(super) fn check(observed: &Observation) -> Vec<Finding> {
    let of = |key| observed.units.property(METRICS_SOCKET, key).unwrap_or_default();
    let state = of("ActiveState");
    let addresses = || of("Listen").split_whitespace().filter_map(|word| word.parse::<SocketAddr>().ok());
    if is_active(state) {
        return addresses().filter(|address| !address.ip().is_loopback()).map(exposed).collect();
    }
    if state != "failed" && of("UnitFileState") != "enabled" {
        return Vec::new();
    }
    let user = |address: SocketAddr| Some((address, listener_name(observed, address.port())?));
    vec![match addresses().find_map(user) {
        Some((address, user)) => in_use(address, &user),
        None => stopped(state),
    }]
}

fn in_use(address: SocketAddr, user: &str) -> Finding {
    Finding::everywhere(
        format!("{METRICS_SOCKET} does not listen on {address}: {user} uses that TCP port"),
        format!(
            "exit that program, or set another address: systemctl edit {METRICS_SOCKET}, as console-metrics(8) shows\n\
             then: systemctl restart {METRICS_SOCKET}"
        ),
    )
}

fn stopped(state: &str) -> Finding {
    Finding::everywhere(
        format!("{METRICS_SOCKET} is {state}: Prometheus receives no figures"),
        format!(
            "see journalctl -u {METRICS_SOCKET}; then: systemctl restart {METRICS_SOCKET}\n\
             if no figures are wanted: systemctl disable --now {METRICS_SOCKET}"
        ),
    )
}

fn exposed(address: SocketAddr) -> Finding {
    Finding::everywhere(
        format!(
            "{METRICS_SOCKET} listens on {address}: every machine that reaches this address can read the figures without a login"
        ),
        format!(
            "systemctl edit {METRICS_SOCKET}: ListenStream=127.0.0.1:{}, or a unix socket behind a reverse proxy; see console-metrics(8)",
            address.port()
        ),
    )
}

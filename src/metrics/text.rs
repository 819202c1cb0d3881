//! The figures as text: OpenMetrics 1.0, or the older format of Prometheus, which node_exporter reads from files.

use std::fmt::Write;

use super::collect::{PortFigures, PortState, Snapshot};
use crate::attach::metrics::Metrics;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    OpenMetrics,
    /// Text format 0.0.4 of Prometheus.
    Prometheus,
}

impl Format {
    /// Value of `Content-Type:`.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }

    /// The format that a client accepts, by its `Accept:`.
    pub fn accepted(accept: &str) -> Self {
        match accept.contains("application/openmetrics-text") {
            true => Self::OpenMetrics,
            false => Self::Prometheus,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Gauge,
    Counter,
}

/// A metric with a value for each port: its kind, its name without `_total`, its help, and its values with further
/// labels; none if it does not apply to the port.
struct PortMetric(Kind, &'static str, &'static str, fn(&PortFigures) -> Vec<(&'static str, u64)>);

/// Every metric of a port, at most 12 values together.
const PORT_METRICS: &[PortMetric] = &[
    PortMetric(
        Kind::Gauge,
        "consoleserver_port_up",
        "Whether the device is open. Absent for a port with on_demand and no session.",
        |figures| match figures.state {
            PortState::Running(Metrics { is_open, .. }) => optional(is_open.map(u64::from)),
            PortState::Idle | PortState::Silent => single(0),
        },
    ),
    PortMetric(
        Kind::Gauge,
        "consoleserver_port_listening",
        "Whether the SSH socket of the port listens. Absent without ssh_port.",
        |figures| optional(figures.is_listening.map(u64::from)),
    ),
    PortMetric(Kind::Gauge, "consoleserver_port_sessions", "Attached sessions.", |figures| {
        running(figures, |metrics| metrics.sessions as u64)
    }),
    PortMetric(
        Kind::Counter,
        "consoleserver_port_received_bytes",
        "Bytes received from the device.",
        |figures| running(figures, |metrics| metrics.received),
    ),
    PortMetric(Kind::Counter, "consoleserver_port_sent_bytes", "Bytes sent to the device.", |figures| {
        running(figures, |metrics| metrics.sent)
    }),
    PortMetric(
        Kind::Counter,
        "consoleserver_port_line_errors",
        "Line errors that the driver has counted. Absent if it counts none.",
        |figures| match figures.state {
            PortState::Running(Metrics { errors: Some(errors), .. }) => vec![
                (",kind=\"framing\"", errors.framing.into()),
                (",kind=\"parity\"", errors.parity.into()),
                (",kind=\"overrun\"", errors.overruns.into()),
            ],
            _ => Vec::new(),
        },
    ),
    PortMetric(
        Kind::Gauge,
        "consoleserver_port_log_failing",
        "Whether the capture log cannot be written now.",
        |figures| running(figures, |metrics| metrics.is_log_failing.into()),
    ),
    PortMetric(
        Kind::Counter,
        "consoleserver_port_log_lost_bytes",
        "Bytes missing from the capture log.",
        |figures| running(figures, |metrics| metrics.log_lost),
    ),
    PortMetric(Kind::Counter, "consoleserver_port_triggers", "Triggers that have fired.", |figures| {
        running(figures, |metrics| metrics.triggers)
    }),
    PortMetric(
        Kind::Counter,
        "consoleserver_port_plug_events",
        "Times that the device was plugged in or unplugged while the process was running.",
        |figures| running(figures, |metrics| metrics.plug_events),
    ),
];

fn single(value: u64) -> Vec<(&'static str, u64)> {
    vec![("", value)]
}

fn optional(value: Option<u64>) -> Vec<(&'static str, u64)> {
    value.into_iter().flat_map(single).collect()
}

fn running(figures: &PortFigures, value: impl FnOnce(&Metrics) -> u64) -> Vec<(&'static str, u64)> {
    match &figures.state {
        PortState::Running(metrics) => single(value(metrics)),
        PortState::Idle | PortState::Silent => Vec::new(),
    }
}

pub fn render(snapshot: &Snapshot, format: Format) -> String {
    let mut text = String::new();
    let gauge = |text: &mut String, name, help, labels: &str, value: u64| {
        head(text, format, name, Kind::Gauge, help);
        line(text, name, labels, value);
    };
    let version = concat!("version=\"", env!("CARGO_PKG_VERSION"), "\"");
    gauge(&mut text, "consoleserver_build_info", "Version of consoleserver.", version, 1);
    let silent = snapshot.ports.values().filter(|figures| figures.state == PortState::Silent).count();
    let help = "Ports whose process runs and does not reply.";
    gauge(&mut text, "consoleserver_unresponsive_ports", help, "", silent as u64);
    let help = "Units of consoleserver that have failed.";
    gauge(&mut text, "consoleserver_failed_units", help, "", snapshot.failed_units as u64);
    if let Some(is_listening) = snapshot.is_cli_listening {
        let help = "Whether the SSH socket of the admin CLI listens.";
        gauge(&mut text, "consoleserver_cli_listening", help, "", is_listening.into());
    }
    for PortMetric(kind, name, help, values) in PORT_METRICS {
        head(&mut text, format, name, *kind, help);
        let suffix = if *kind == Kind::Counter { "_total" } else { "" };
        for (port, figures) in &snapshot.ports {
            for (labels, value) in values(figures) {
                // The name of a port has no character that a label would have to escape.
                line(&mut text, &format!("{name}{suffix}"), &format!("port=\"{port}\"{labels}"), value);
            }
        }
    }
    if format == Format::OpenMetrics {
        text.push_str("# EOF\n");
    }
    text
}

/// The comments before a metric. A counter has `_total` in the samples of both formats, and in the comments of the older one.
fn head(text: &mut String, format: Format, name: &str, kind: Kind, help: &str) {
    let suffix = if format == Format::Prometheus && kind == Kind::Counter { "_total" } else { "" };
    let kind = match kind {
        Kind::Gauge => "gauge",
        Kind::Counter => "counter",
    };
    // Writing to a String cannot fail.
    let _ = writeln!(text, "# HELP {name}{suffix} {help}\n# TYPE {name}{suffix} {kind}");
    if format == Format::OpenMetrics && name.ends_with("_bytes") {
        let _ = writeln!(text, "# UNIT {name} bytes");
    }
}

fn line(text: &mut String, name: &str, labels: &str, value: u64) {
    let _ = match labels {
        "" => writeln!(text, "{name} {value}"),
        labels => writeln!(text, "{name}{{{labels}}} {value}"),
    };
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    use super::*;
    use crate::attach::LineErrors;

    fn snapshot() -> Snapshot {
        let metrics = Metrics {
            is_open: Some(true),
            received: u64::MAX,
            sent: 1,
            errors: Some(LineErrors { framing: 1, parity: 2, overruns: 3, breaks: 4 }),
            sessions: 2,
            log_lost: 5,
            is_log_failing: true,
            triggers: 6,
            plug_events: 7,
        };
        let figures = |state| PortFigures { is_listening: Some(true), state };
        let on_demand = Metrics { is_open: None, errors: None, ..metrics };
        let ports = [
            ("full", figures(PortState::Running(metrics))),
            ("on-demand", figures(PortState::Running(on_demand))),
            ("idle", figures(PortState::Idle)),
            ("silent", PortFigures { is_listening: None, state: PortState::Silent }),
        ];
        let ports = ports.into_iter().map(|(name, figures)| (name.parse().unwrap(), figures)).collect();
        Snapshot { ports, is_cli_listening: Some(false), failed_units: 1 }
    }

    #[test]
    fn a_port_has_at_most_twelve_series() {
        let text = render(&snapshot(), Format::Prometheus);
        let of = |port: &str| text.lines().filter(|line| line.contains(&format!("port=\"{port}\""))).count();
        assert_eq!((of("full"), of("on-demand"), of("idle"), of("silent")), (12, 8, 2, 1), "{text}");
        assert!(text.contains("consoleserver_port_up{port=\"idle\"} 0\n"), "{text}");
        assert!(!text.contains("consoleserver_port_up{port=\"on-demand\"}"), "{text}");
        let received = "consoleserver_port_received_bytes_total{port=\"full\"} 18446744073709551615\n";
        assert!(text.contains(received), "{text}");
        assert!(text.contains("consoleserver_unresponsive_ports 1\n"), "{text}");
    }

    /// Runs Prometheus' own linter, from Debian's package.
    #[test]
    fn promtool_accepts_the_text() {
        let text = render(&snapshot(), Format::Prometheus);
        let mut promtool = Command::new("promtool")
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("promtool is in Debian's package prometheus");
        promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        let output = promtool.wait_with_output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        assert!(output.status.success(), "{}\n{text}", String::from_utf8_lossy(&said));
        assert!(said.is_empty(), "{}", String::from_utf8_lossy(&said));
    }

    /// OpenMetrics 1.0: `# UNIT` ends the name, `_total` only in samples, one `# EOF` at the end.
    #[test]
    fn the_comments_of_open_metrics_have_no_suffix() {
        let text = render(&snapshot(), Format::OpenMetrics);
        assert!(text.contains("# TYPE consoleserver_port_sent_bytes counter\n# UNIT consoleserver_port_sent_bytes bytes\nconsoleserver_port_sent_bytes_total{port=\"full\"} 1\n"), "{text}");
        assert!(text.ends_with("\n# EOF\n") && text.matches("# EOF").count() == 1, "{text}");
    }

    #[test]
    fn open_metrics_is_sent_to_those_who_accept_it() {
        // Prometheus 2.42 of Debian 12.
        let accept = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        assert_eq!(Format::accepted(accept), Format::OpenMetrics);
        assert_eq!(Format::accepted("*/*"), Format::Prometheus);
    }
}

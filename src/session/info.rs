//! The state of a port in rows, as `^Eci` and `ssh -p 8023 host status` print it.

use super::console::Console;
use super::roster::plain;
use crate::config::{self, LogType};
use crate::hub::{Condition, LineState};
use crate::port::{Pacing, Pause};
use crate::serial::{Counters, ModemLines};

/// The rows, each with its name; their text is printable.
pub fn status_rows(console: &Console, condition: &Condition) -> Vec<(&'static str, String)> {
    let settings = console.settings();
    let (received, sent) = console.hub.traffic();
    let line = console.hub.line().borrow().to_string();
    let open = matches!(*console.hub.line().borrow(), LineState::Open(_));
    let log = match settings.log.kind {
        LogType::None => "none".to_owned(),
        _ => settings.log.file.clone(),
    };
    let modem = match (condition.modem, &condition.modem_error) {
        (Some(lines), _) => modem_lines(lines),
        (None, Some(error)) => format!("cannot be read ({error})"),
        (None, None) => "no modem lines".to_owned(),
    };
    let refused = console.hub.refused().borrow().join("; ");
    let mut rows = vec![
        ("device", condition.path.display().to_string()),
        ("state", line),
        ("settings", settings_row(&settings)),
        ("bytes", format!("{received} in, {sent} out")),
        ("errors", condition.counters.map_or_else(|| "not reported by the driver".to_owned(), errors)),
        ("modem", modem),
        ("log", log),
        ("lost", format!("{} bytes missing from the log", console.hub.log_mark().lost)),
        ("sessions", console.roster().sessions().count().to_string()),
    ];
    if open && !refused.is_empty() {
        rows.insert(3, ("refused", refused));
    }
    if open && let Some(failure) = &*console.hub.initial_failure().borrow() {
        rows.insert(3, ("initial", failure.clone()));
    }
    rows.into_iter().map(|(what, value)| (what, plain(&value))).collect()
}

/// The line settings, delays and mappings.
fn settings_row(settings: &config::Port) -> String {
    let mut text = settings.line.to_string();
    let Pacing { character, line } = settings.pacing;
    for (key, pause) in [("output_delay", character), ("output_line_delay", line)] {
        if pause != Pause::default() {
            text.push_str(&format!(", {key} {pause}"));
        }
    }
    for (key, mapping) in [("imap", &settings.imap), ("omap", &settings.omap)] {
        if !mapping.is_empty() {
            text.push_str(&format!(", {key} {mapping}"));
        }
    }
    text
}

fn errors(counters: Counters) -> String {
    let Counters { frame, parity, overrun, buffer_overrun, breaks, .. } = counters;
    format!(
        "{frame} framing, {parity} parity, {} lost, {breaks} breaks",
        u64::from(overrun) + u64::from(buffer_overrun)
    )
}

fn modem_lines(lines: ModemLines) -> String {
    let ModemLines { dtr, rts, cts, dsr, dcd, ri } = lines;
    let lines = [("DTR", dtr), ("RTS", rts), ("CTS", cts), ("DSR", dsr), ("DCD", dcd), ("RI", ri)];
    lines.map(|(name, on)| format!("{name} {}", if on { "on" } else { "off" })).join(", ")
}

//! `options` of conserver.cf(5).

use std::collections::BTreeMap;

use super::consent;
use super::error::SourceLine;
use super::plan::{Draft, Plan, quoted};
use crate::config::Value;

/// Sets the line settings of a port, and reports other options.
pub fn apply(
    plan: &mut Plan,
    draft: &mut Draft,
    options: &BTreeMap<String, (bool, SourceLine)>,
    place: &SourceLine,
) {
    let on = |option: &str, default: bool| options.get(option).map_or(default, |(on, _)| *on);
    let at = |option: &str| options.get(option).map_or(place, |(_, at)| at);
    // The defaults of conserver(8) for a device.
    let (ixon, ixoff) = (on("ixon", true), on("ixoff", true));
    // The later one counts: a console follows its defaults.
    let flow = if options.get("ixon").map(|(_, at)| at) > options.get("ixoff").map(|(_, at)| at) {
        "ixon"
    } else {
        "ixoff"
    };
    if ixon != ixoff {
        let what = format!("port {}: {} alone", draft.name, if ixon { "ixon" } else { "ixoff" });
        plan.report(at(flow), what, "xonxoff sets both directions; it is off");
    }
    plan.set(draft, "xonxoff", (ixon && ixoff).into(), "options", at(flow));
    plan.set(draft, "rtscts", on("crtscts", false).into(), "options", at("crtscts"));
    let stopbits = if on("cstopb", false) { 2 } else { 1 };
    plan.set(draft, "stopbits", Value::Integer(stopbits), "options", at("cstopb"));
    for (option, (on, place)) in options {
        let why = match (option.as_str(), on) {
            ("ixon" | "ixoff" | "crtscts" | "cstopb", _) | ("autoreinit" | "login" | "reinitoncc", true) => {
                continue;
            }
            ("ixany" | "hupcl" | "ondemand" | "striphigh" | "reinitoncc" | "unloved", false) => continue,
            ("hupcl", true) => "DTR and RTS are left unchanged",
            ("ixany", true) => "output resumes at XON only",
            ("login", false) => {
                consent::deny_all(plan, draft, place);
                "no user may log in there, so no user may use the port here"
            }
            ("ondemand", true) => "an enabled port is open and logged while its device is present",
            ("autoreinit", false) => "a port reopens its device automatically",
            ("striphigh", true) => "all 8 bits are passed on",
            ("unloved", true) => "output is in the log, and with `log.journal` in the journal",
            _ => "conserver has no such option",
        };
        let not = if *on { "" } else { "!" };
        plan.report(place, format_args!("options {not}{}", quoted(option)), why);
    }
}

//! `options` of conserver.cf(5).

use std::collections::BTreeMap;

use super::plan::shown;
use super::{Draft, Plan, SourceLine, consent};
use crate::config::Value;

/// Sets a port's line by them; what else they say is reported.
pub fn apply(
    plan: &mut Plan,
    draft: &mut Draft,
    options: &BTreeMap<String, (bool, SourceLine)>,
    place: &SourceLine,
) {
    let on = |option: &str, default: bool| options.get(option).map_or(default, |(on, _)| *on);
    let at = |option: &str| options.get(option).map_or(place, |(_, at)| at);
    // What conserver(8) has set for a device if nothing is said.
    let (ixon, ixoff) = (on("ixon", true), on("ixoff", true));
    // The later one: a console says it behind its defaults.
    let flow = if options.get("ixon").map(|(_, at)| at) > options.get("ixoff").map(|(_, at)| at) {
        "ixon"
    } else {
        "ixoff"
    };
    if ixon != ixoff {
        let what = format!("port {}: {} alone", draft.name, if ixon { "ixon" } else { "ixoff" });
        plan.leave(at(flow), what, "xonxoff is both or none; it is off");
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
            ("hupcl", true) => "DTR and RTS stay as they are",
            ("ixany", true) => "xonxoff goes on at XON only",
            ("login", false) => {
                consent::nobody(plan, draft, place);
                "nobody may log in there, so nobody may use the port here"
            }
            ("ondemand", true) => "an enabled port is open, and logged, as long as its device is there",
            ("autoreinit", false) => "a port opens its device again by itself",
            ("striphigh", true) => "8 bits are passed on as they come",
            ("unloved", true) => "the log has it, `log.journal` the journal too",
            _ => "conserver has no such option",
        };
        let not = if *on { "" } else { "!" };
        plan.leave(place, format_args!("options {not}{}", shown(option)), why);
    }
}

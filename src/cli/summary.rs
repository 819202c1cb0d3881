//! Short forms of lists of ports and values.

use crate::port::PortName;

/// `p01`, `2 ports (p01, p02)` or `48 ports (p01 … p48)`
pub(super) fn counted(ports: &[PortName]) -> String {
    match ports {
        [] => "no port".to_owned(),
        [only] => only.to_string(),
        [one, other] => format!("2 ports ({one}, {other})"),
        [first, .., last] => format!("{} ports ({first} … {last})", ports.len()),
    }
}

/// One value, or the first and the last of different ones.
pub(super) fn span(values: &[String]) -> String {
    match values {
        [] => "-".to_owned(),
        [first, rest @ ..] => match rest.last() {
            Some(last) if rest.iter().any(|value| value != first) => format!("{first} … {last}"),
            _ => first.clone(),
        },
    }
}

//! Converts configuration values to and from D-Bus, and the status of a port to D-Bus.

use std::collections::HashMap;

use zbus::{OwnedVariant, Variant};

use super::bus::{Keys, RunningPort, Session};
use super::live::StatusResult;
use crate::attach::{LineErrors, Status, User};
use crate::config::Value;
use crate::config::keys::Key;
use crate::port::PortName;

/// Characters of a string that are accepted; the longest value is a path of 1024 bytes.
const MAX_TEXT: usize = 4096;
/// Elements of an array that are accepted: the limit of a group of ports; other lists have 32.
const MAX_LIST: usize = 1024;

/// A value from the bus. Integers of every width are numbers; `None` for types that no key has.
pub fn from_bus(value: &Variant<'_>) -> Option<Value> {
    Some(match value {
        Variant::Bool(flag) => Value::Boolean(*flag),
        Variant::U8(number) => Value::Integer((*number).into()),
        Variant::I16(number) => Value::Integer((*number).into()),
        Variant::U16(number) => Value::Integer((*number).into()),
        Variant::I32(number) => Value::Integer((*number).into()),
        Variant::U32(number) => Value::Integer((*number).into()),
        Variant::I64(number) => Value::Integer(*number),
        Variant::U64(number) => Value::Integer(i64::try_from(*number).ok()?),
        Variant::Str(text) if text.len() <= MAX_TEXT => Value::String(text.to_string()),
        Variant::Variant(inner) if !matches!(**inner, Variant::Variant(_)) => from_bus(inner)?,
        Variant::Array(list) if list.len() <= MAX_LIST => {
            Value::Array(list.iter().map(from_bus).collect::<Option<_>>()?)
        }
        _ => return None,
    })
}

/// A value for the bus: numbers as `u`, which holds every number of a key, and lists as `as`.
pub fn to_bus(value: &Value) -> Option<OwnedVariant> {
    let variant = match value {
        Value::Boolean(flag) => Variant::from(*flag),
        Value::Integer(number) => Variant::from(u32::try_from(*number).ok()?),
        Value::String(text) => Variant::from(text.as_str()),
        Value::Array(list) => Variant::from(list.iter().map(element).collect::<Option<Vec<_>>>()?),
        _ => return None,
    };
    OwnedVariant::try_from(variant).ok()
}

/// An element of a list; a table is passed as TOML.
fn element(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Table(_) => Some(value.to_string()),
        _ => None,
    }
}

/// Adds every one of these keys that has a value, with `prefix` before its name.
pub fn keys<T: 'static>(
    table: impl IntoIterator<Item = &'static Key<T>>,
    from: &T,
    prefix: &str,
    to: &mut Keys,
) {
    for key in table {
        if let Some(value) = key.get(from).as_ref().and_then(to_bus) {
            to.insert(format!("{prefix}{}", key.name), value);
        }
    }
}

pub fn session(user: User) -> Session {
    Session { user: user.name, from: user.from, since: user.since.to_string(), writes: user.writes }
}

/// The counters of a port by name.
pub fn counters(status: &Status) -> HashMap<String, u64> {
    let ours = [("received", status.received), ("sent", status.sent), ("log-lost", status.log_lost)];
    let drivers = status.errors.into_iter().flat_map(|errors| {
        let LineErrors { framing, parity, overruns, breaks } = errors;
        [("framing", framing), ("parity", parity), ("overruns", overruns), ("breaks", breaks)]
            .map(|(name, count)| (name, u64::from(count)))
    });
    ours.into_iter().chain(drivers).map(|(name, count)| (name.to_owned(), count)).collect()
}

/// A running port, as it is listed on the bus.
pub fn running(name: &PortName, status: StatusResult) -> RunningPort {
    let name = name.to_string();
    match status {
        Ok(status) => RunningPort {
            name,
            counters: counters(&status),
            state: status.state,
            sessions: status.users.into_iter().map(session).collect(),
        },
        Err(state) => RunningPort { name, state, counters: HashMap::new(), sessions: Vec::new() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_survives_the_bus_in_both_directions() {
        let list = Value::Array(vec!["[::]".into(), "127.0.0.1".into()]);
        for value in [true.into(), 115_200.into(), "text".into(), list, Value::Array(Vec::new())] {
            assert_eq!(from_bus(&to_bus(&value).unwrap()), Some(value));
        }
        assert_eq!(from_bus(&Variant::from(1.5)), None);
        assert_eq!(from_bus(&Variant::from("x".repeat(MAX_TEXT + 1))), None);
    }
}

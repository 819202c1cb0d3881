//! Converts configuration values to and from D-Bus.

use zbus::{OwnedVariant, Variant};

use super::bus::Keys;
use crate::config::Value;
use crate::config::keys::Key;

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

/// An element of a list; a table as TOML has it.
fn element(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Table(_) => Some(value.to_string()),
        _ => None,
    }
}

/// Adds every key of a table that has a value, with `prefix` before its name.
pub fn keys<T>(table: &'static [Key<T>], from: &T, prefix: &str, to: &mut Keys) {
    for key in table {
        if let Some(value) = key.get(from).as_ref().and_then(to_bus) {
            to.insert(format!("{prefix}{}", key.name), value);
        }
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

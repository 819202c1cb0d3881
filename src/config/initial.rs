//! `initial = [{ expect = "login: $", send = "root\\r" }]`: what a port sends, and waits for, after each connect.

use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use regex_automata::meta;
use toml::Table;

use super::Value;
use super::value::{show_time, time};
use crate::pattern::{Over, compile};
use crate::port::Sequence;
use crate::port::text::name_type;

/// Limit of steps: a login with a menu behind it.
pub const MAX_INITIAL_STEPS: usize = 16;
/// Timeout for an expected text, unless the step has its own.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
/// A terminal server takes seconds; a machine that boots takes minutes.
const TIMEOUT_RANGE: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(600);

#[derive(Debug, Clone, PartialEq, Default)]
pub struct Initial(Vec<InitialStep>);

/// One step: it waits for output, then sends the credential, then the text.
#[derive(Debug, Clone, PartialEq)]
pub struct InitialStep {
    /// Wait until the output matches.
    pub expect: Option<Expected>,
    pub timeout: Duration,
    /// Send the content of this systemd credential.
    pub credential: Option<CredentialName>,
    /// Send this, after a credential Return.
    pub send: Option<Sequence>,
}

/// A regular expression over the output of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected(String);

impl Expected {
    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The compiled form, which is made where it runs.
    pub fn compiled(&self) -> meta::Regex {
        compile(&self.0, Over::Stream).expect("it has compiled before")
    }
}

impl FromStr for Expected {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        compile(text, Over::Stream).map(|_| Self(text.to_owned()))
    }
}

name_type! {
    /// The name of a systemd credential: a file name in `$CREDENTIALS_DIRECTORY`.
    CredentialName, CredentialNameError,
    "invalid credential name {0:?}: use 1 to 64 characters of A-Z a-z 0-9 . _ -, not starting with a dot",
    |word| {
        (1..=64).contains(&word.len())
            && word.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
            && !word.starts_with('.')
    }
}

impl Initial {
    pub fn steps(&self) -> &[InitialStep] {
        &self.0
    }

    /// Reads a list of tables, or of their TOML texts: D-Bus has lists of texts.
    pub(super) fn read(list: &[Value]) -> Result<Self, String> {
        if list.len() > MAX_INITIAL_STEPS {
            return Err(format!("{} steps are too many", list.len()));
        }
        let step = |(index, value): (usize, &Value)| {
            let read = match value {
                Value::Table(table) => InitialStep::read(table),
                Value::String(text) => match text.parse::<Value>() {
                    Ok(Value::Table(table)) => InitialStep::read(&table),
                    _ => Err(NOT_A_TABLE.to_owned()),
                },
                _ => Err(NOT_A_TABLE.to_owned()),
            };
            read.map_err(|why| format!("step {}: {why}", index + 1))
        };
        list.iter().enumerate().map(step).collect::<Result<_, _>>().map(Self)
    }
}

const NOT_A_TABLE: &str = "expected a table such as { expect = \"login: $\", send = \"root\\\\r\" }";

impl InitialStep {
    fn read(table: &Table) -> Result<Self, String> {
        let mut step = Self { expect: None, timeout: DEFAULT_TIMEOUT, credential: None, send: None };
        for (key, value) in table {
            let wrong = |why: &str| format!("{key} = {value}: {why}");
            let word = || value.as_str().ok_or_else(|| wrong("expected a text"));
            match key.as_str() {
                "expect" => step.expect = Some(word()?.parse().map_err(|why: String| wrong(&why))?),
                "credential" => {
                    let name = word()?.parse::<CredentialName>();
                    step.credential = Some(name.map_err(|error| error.to_string())?);
                }
                "send" => {
                    let sequence = word()?.parse::<Sequence>();
                    step.send = Some(sequence.map_err(|error| wrong(&error.to_string()))?);
                }
                "timeout" => {
                    step.timeout = time(value, &TIMEOUT_RANGE)
                        .map_err(|_| wrong("expected a time from \"1s\" to \"10m\""))?;
                }
                _ => {
                    return Err(format!("unknown key {key:?}: expected expect, send, credential or timeout"));
                }
            }
        }
        match (&step.expect, &step.credential, &step.send) {
            (None, None, None) => Err("it needs expect, send or credential".to_owned()),
            _ => Ok(step),
        }
    }

    /// As a table of the file.
    pub(super) fn show(&self) -> Table {
        let mut table = Table::new();
        let mut put = |key: &str, value: Option<Value>| {
            if let Some(value) = value {
                table.insert(key.to_owned(), value);
            }
        };
        put("expect", self.expect.as_ref().map(|expected| expected.as_str().into()));
        put("credential", self.credential.as_ref().map(|name| name.to_string().into()));
        put("send", self.send.as_ref().map(|sequence| sequence.to_string().into()));
        put("timeout", (self.timeout != DEFAULT_TIMEOUT).then(|| show_time(self.timeout)));
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Initial, String> {
        let value: Value = text.parse().unwrap();
        Initial::read(value.as_array().unwrap())
    }

    #[test]
    fn steps_are_tables_or_their_texts_and_are_printed_as_they_are_read() {
        let login = r#"[{ expect = "login: $", send = '\r' }, { expect = "assword:", credential = "pw", timeout = "5m" }]"#;
        let initial = read(login).unwrap();
        assert_eq!(initial.steps().len(), 2);
        assert_eq!(initial.steps()[1].timeout, Duration::from_secs(300));
        let tables: Vec<Value> = initial.steps().iter().map(|step| step.show().into()).collect();
        assert_eq!(Initial::read(&tables), Ok(initial.clone()));
        let texts: Vec<Value> = tables.iter().map(|table| table.to_string().into()).collect();
        assert_eq!(Initial::read(&texts), Ok(initial));
    }

    #[test]
    fn a_wrong_step_is_reported_with_its_number() {
        for (text, wanted) in [
            ("[{}]", "step 1: it needs expect, send or credential"),
            ("[{ send = 'x' }, 5]", "step 2: expected a table"),
            ("['root']", "step 1: expected a table"),
            ("[{ expct = 'x' }]", "unknown key \"expct\""),
            ("[{ expect = 'a(' }]", "unclosed group"),
            ("[{ send = '\\q' }]", "invalid escape"),
            ("[{ credential = '../shadow' }]", "invalid credential name \"../shadow\""),
            ("[{ expect = 'x', timeout = '1h' }]", "expected a time from \"1s\" to \"10m\""),
        ] {
            let why = read(text).unwrap_err();
            assert!(why.contains(wanted), "{text}: {why}");
        }
        let many = vec![Value::Table("send = 'x'".parse().unwrap()); MAX_INITIAL_STEPS + 1];
        assert!(Initial::read(&many).is_err());
    }
}

//! What conserver sends to a device by itself or as a break: break sequences, the idle string, and the simple ones of the commands after
//! a connect.

use std::collections::BTreeMap;

use super::blocks::{Block, Statement};
use super::plan::{Draft, Plan, quoted};
use crate::config::Value;
use crate::port::Sequence;

/// A `break` block.
#[derive(Debug, Clone)]
struct Definition {
    string: String,
    /// Milliseconds of `\d`.
    delay: String,
    /// In the file, not only built into conserver.
    is_stated: bool,
}

pub(super) struct BreakSequences(BTreeMap<String, Definition>);

impl Default for BreakSequences {
    /// The built-in break sequences of conserver(8).
    fn default() -> Self {
        let built_in =
            [("1", "\\z", "250"), ("2", "\\r~^b", "250"), ("3", "#.", "250"), ("4", "\\r\\d~\\d^b", "600")];
        let definition = |(key, string, delay): (&str, &str, &str)| {
            (
                key.to_owned(),
                Definition { string: string.to_owned(), delay: delay.to_owned(), is_stated: false },
            )
        };
        Self(built_in.map(definition).into())
    }
}

impl BreakSequences {
    /// A `break` block: each keyword replaces what was there before.
    pub(super) fn define(&mut self, block: &Block) {
        let known = self.0.entry(block.name.clone()).or_insert_with(|| Definition {
            string: String::new(),
            delay: "250".to_owned(),
            is_stated: true,
        });
        known.is_stated = true;
        for statement in &block.statements {
            match statement.keyword {
                "string" => known.string.clone_from(&statement.value),
                "delay" => known.delay.clone_from(&statement.value),
                _ => {}
            }
        }
    }

    /// The keys `break` and `breaks` of a console. Without a `breaklist`, a console has all sequences; those that are only built into
    /// conserver are left out then.
    pub(super) fn apply(
        &self,
        plan: &mut Plan,
        draft: &mut Draft,
        usual: Option<&Statement>,
        list: Option<&Statement>,
    ) {
        if let Some(statement) = usual {
            let setting = statement.original();
            match self.0.get(&statement.value).map(Definition::sequence) {
                Some(Ok(sequence)) if sequence.is_serial_break() => {}
                Some(Ok(sequence)) => {
                    let value = sequence.to_string().into();
                    plan.set(draft, "break", value, &setting, &statement.place);
                }
                Some(Err(why)) => plan.report(&statement.place, quoted(&setting), why),
                None => plan.report(&statement.place, quoted(&setting), "there is no such break sequence"),
            }
        }
        let words = list.map(|statement| statement.value.as_str()).unwrap_or("*");
        let named = |key: &&String| words.split(',').any(|word| word.trim() == key.as_str());
        let wanted = self.0.iter().filter(|(key, definition)| match words.trim() {
            "*" => definition.is_stated,
            _ => named(key),
        });
        let (mut breaks, mut wrong) = (Vec::new(), Vec::new());
        for (key, definition) in wanted {
            match definition.sequence() {
                Ok(sequence) => breaks.push(Value::from(format!("{key}={sequence}"))),
                Err(why) => wrong.push(format!("break {key}: {why}")),
            }
        }
        let place = list.or(usual).map_or_else(|| draft.place.clone(), |statement| statement.place.clone());
        for why in wrong {
            plan.report(&place, format_args!("console {}", quoted(draft.name.as_str())), why);
        }
        if !breaks.is_empty() {
            let setting = list.map_or_else(|| "break".to_owned(), Statement::original);
            plan.set(draft, "breaks", Value::Array(breaks), &setting, &place);
        }
    }
}

impl Definition {
    /// In our notation, where each delay has a duration.
    fn sequence(&self) -> Result<Sequence, String> {
        let text = match self.delay.as_str() {
            "250" => self.string.clone(),
            delay => with_delay(&self.string, delay),
        };
        text.parse().map_err(|error: crate::port::SequenceError| error.to_string())
    }
}

/// `\d` with its milliseconds. A backslash before it escapes the backslash.
fn with_delay(text: &str, delay: &str) -> String {
    let mut out = String::new();
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        out.push(c);
        if c == '\\'
            && let Some(next) = rest.next()
        {
            out.push(next);
            if next == 'd' {
                out.push_str(&format!("{{{delay}}}"));
            }
        }
    }
    out
}

/// `idletimeout` and `idlestring`, which is a line feed unless the file has another one.
pub(super) fn keepalive(
    plan: &mut Plan,
    draft: &mut Draft,
    timeout: Option<&Statement>,
    string: Option<&Statement>,
) {
    let Some(timeout) = timeout.filter(|statement| statement.value != "0") else {
        if let Some(string) = string {
            plan.report(&string.place, quoted(&string.original()), "without idletimeout it is never sent");
        }
        return;
    };
    let time = match timeout.value.ends_with(|c: char| c.is_ascii_digit()) {
        true => format!("{}s", timeout.value),
        false => timeout.value.clone(),
    };
    plan.set(draft, "keepalive.interval", time.into(), &timeout.original(), &timeout.place);
    if let Some(string) = string {
        match string.value.parse::<Sequence>() {
            Ok(sequence) => {
                let value = sequence.to_string().into();
                plan.set(draft, "keepalive.text", value, &string.original(), &string.place);
            }
            Err(why) => plan.report(&string.place, quoted(&string.original()), why),
        }
    }
}

/// `initcmd`: a shell command whose standard output goes to the console. One that only prints a text becomes a step of `initial`.
pub(super) fn initial(plan: &mut Plan, draft: &mut Draft, command: &Statement, is_substituted: bool) {
    let why = "no programs are run for a port: `initial` can wait for a text and send one, see consoleserver.toml(5)";
    match printed(&command.value).filter(|_| !is_substituted) {
        Some(text) => {
            let mut step = toml::Table::new();
            step.insert("send".to_owned(), text.into());
            let value = Value::Array(vec![step.into()]);
            plan.set(draft, "initial", value, &command.original(), &command.place);
        }
        None => plan.report(&command.place, quoted(&command.original()), why),
    }
}

/// What `echo TEXT` or `printf TEXT` prints, in our notation; `None` if the shell would do anything else.
fn printed(command: &str) -> Option<String> {
    if command.contains([
        '|', '&', ';', '<', '>', '$', '`', '*', '?', '[', '#', '~', '=', '%', '(', ')', '{', '}', '!', '^',
        '\n',
    ]) {
        return None;
    }
    let words = shlex::split(command)?;
    let text = match words.as_slice() {
        [echo, rest @ ..] if echo == "echo" => match rest {
            [option, rest @ ..] if option == "-n" => escaped(&rest.join(" ")),
            // echo of a shell does or does not interpret these.
            rest if rest.iter().any(|word| word.starts_with('-') || word.contains('\\')) => return None,
            rest => escaped(&rest.join(" ")) + "\\n",
        },
        [printf, format] if printf == "printf" => format.clone(),
        _ => return None,
    };
    text.parse::<Sequence>().is_ok().then_some(text)
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('^', "\\^")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delay_is_stated_where_conserver_has_it_beside_the_string() {
        assert_eq!(with_delay("\\r\\d~\\d^b", "600"), "\\r\\d{600}~\\d{600}^b");
        assert_eq!(with_delay("\\\\d\\d", "5"), "\\\\d\\d{5}");
    }

    #[test]
    fn only_a_command_that_prints_a_text_becomes_a_step() {
        for (command, text) in [
            ("echo", Some("\\n")),
            ("echo hello there", Some("hello there\\n")),
            ("echo -n 'a b'", Some("a b")),
            (r"printf 'root\r'", Some("root\\r")),
            ("expect -f /etc/login.exp", None),
            ("echo $HOME", None),
            ("sleep 5; echo x", None),
            ("printf %s x", None),
        ] {
            assert_eq!(printed(command).as_deref(), text, "{command}");
        }
    }
}

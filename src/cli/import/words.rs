//! Line settings of ser2net and gensio(5): `115200n81`, `rtscts`, `local=false`, and those before 4.0, `8DATABITS`, `-XONXOFF`.

use super::error::SourceLine;
use super::plan::{Draft, Plan, quoted};
use crate::config::Value;

/// The line settings so far.
#[derive(Clone)]
pub struct Line {
    keys: [(&'static str, Value); 6],
}

impl Line {
    /// ser2net's defaults.
    pub fn new() -> Self {
        Self {
            keys: [
                ("baud", Value::Integer(9600)),
                ("bytesize", Value::Integer(8)),
                ("parity", "N".into()),
                ("rtscts", false.into()),
                ("stopbits", Value::Integer(1)),
                ("xonxoff", false.into()),
            ],
        }
    }

    /// Sets all line settings of a port, since defaults may differ here.
    pub fn give(self, plan: &mut Plan, draft: &mut Draft, place: &SourceLine) {
        for (key, value) in self.keys {
            plan.set(draft, key, value, key, place);
        }
    }

    fn set(&mut self, plan: &mut Plan, key: &'static str, value: Value, word: &str, place: &SourceLine) {
        match (Plan::accepts(key, &value), self.keys.iter_mut().find(|(name, _)| *name == key)) {
            (true, Some((_, slot))) => *slot = value,
            _ => plan.report(place, quoted(word), format_args!("{key}: invalid value")),
        }
    }

    /// Reads a word; `false` if it is not a line setting.
    pub fn word(&mut self, plan: &mut Plan, draft: &mut Draft, word: &str, place: &SourceLine) -> bool {
        let (bare, on) = word.strip_prefix('-').map_or((word, "true"), |bare| (bare, "false"));
        let (name, value) = bare.split_once('=').unwrap_or((bare, on));
        let is_off = flag(value) == Value::Boolean(false);
        let name = name.to_ascii_lowercase();
        let why = match name.as_str() {
            "" => return true,
            "speed" => return self.speed(plan, value, word, place),
            "none" | "even" | "odd" | "mark" | "space" => return self.parity(plan, &name, word, place),
            "parity" => return self.parity(plan, value, word, place),
            "databits" => {
                self.set(plan, "bytesize", number(value), word, place);
                return true;
            }
            "stopbits" => {
                self.set(plan, "stopbits", number(value), word, place);
                return true;
            }
            "xonxoff" | "rtscts" => {
                let key = if name == "rtscts" { "rtscts" } else { "xonxoff" };
                self.set(plan, key, flag(value), word, place);
                return true;
            }
            "dtr" | "rts" => {
                let key = if name == "dtr" { "dtr" } else { "rts" };
                match flag(value) {
                    Value::Boolean(on) => {
                        plan.set(draft, key, if on { "on" } else { "off" }.into(), word, place);
                    }
                    _ => plan.report(place, quoted(word), format_args!("{key}: expected on or off")),
                }
                return true;
            }
            name if name.starts_with(|c: char| c.is_ascii_digit()) => {
                let digits = name.len() - name.trim_start_matches(|c: char| c.is_ascii_digit()).len();
                let key = match &name[digits..] {
                    "databits" | "databit" => "bytesize",
                    "stopbit" | "stopbits" => "stopbits",
                    _ => return self.speed(plan, bare, word, place),
                };
                self.set(plan, key, number(&name[..digits]), word, place);
                return true;
            }
            "local" if !is_off => return true,
            "local" => "modem control lines are ignored",
            "nobreak" | "nouucplock" => return true,
            "hangup-when-done" | "hangup_when_done" | "custspeed" | "wronly" if is_off => return true,
            "rs485" if value.eq_ignore_ascii_case("off") => return true,
            "custspeed" | "readbuf" | "drain_time" | "char_drain_wait" => return true,
            "hangup-when-done" | "hangup_when_done" => "DTR and RTS are left unchanged",
            "wronly" => "the output of the device is quoted too",
            "rs485" => "RS-485 is set in the driver",
            _ => return false,
        };
        plan.report(place, quoted(word), why);
        true
    }

    fn parity(&mut self, plan: &mut Plan, parity: &str, word: &str, place: &SourceLine) -> bool {
        let letter = parity.chars().take(1).collect::<String>().to_ascii_uppercase();
        self.set(plan, "parity", letter.into(), word, place);
        true
    }

    /// `115200n81`, or a prefix of it.
    fn speed(&mut self, plan: &mut Plan, speed: &str, word: &str, place: &SourceLine) -> bool {
        let letters = speed.find(|c: char| !c.is_ascii_digit()).unwrap_or(speed.len());
        let (baud, rest) = speed.split_at(letters);
        let mut rest = rest.chars();
        let (parity, bits, stop, more) = (rest.next(), rest.next(), rest.next(), rest.next());
        let is = |c: Option<char>, of: &str| c.is_none_or(|c| of.contains(c.to_ascii_uppercase()));
        // `115200,8,n,1`: 8 and 1 are not speeds. The lowest one is 50 (termios(3)), and ser2net rejects others.
        let is_speed = baud.parse::<u32>().is_ok_and(|baud| baud >= 50);
        if !(is_speed && is(parity, "NEOMS") && is(bits, "5678") && is(stop, "12") && more.is_none()) {
            plan.report(place, quoted(word), "expected a speed such as 9600n81");
            return true;
        }
        self.set(plan, "baud", number(baud), word, place);
        if let Some(parity) = parity {
            self.parity(plan, &parity.to_string(), word, place);
        }
        for (key, count) in [("bytesize", bits), ("stopbits", stop)] {
            if let Some(count) = count {
                self.set(plan, key, number(&count.to_string()), word, place);
            }
        }
        true
    }
}

/// A number, or the word, which the key then rejects.
pub fn number(word: &str) -> Value {
    word.parse().map_or_else(|_| word.into(), Value::Integer)
}

/// Booleans of YAML 1.1 and ser2net.
pub fn flag(word: &str) -> Value {
    match word.to_ascii_lowercase().as_str() {
        "true" | "on" | "yes" | "1" => true.into(),
        "false" | "off" | "no" | "0" => false.into(),
        _ => word.into(),
    }
}

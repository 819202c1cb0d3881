//! Parses assignments from the words of a command: `KEY VALUE…`, or several `KEY=VALUE…`.

use super::value::ValueError;
use crate::port::PortName;
use crate::port::pattern::expand;

/// A key and the words of its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// `log.sync`
    pub key: String,
    /// One word, or several that form a text or a list.
    pub words: Vec<String>,
}

/// Splits `KEY=VALUE`. The characters of a key are restricted, so that an address or path with an equals sign is a value.
pub fn split(word: &str) -> Option<(&str, &str)> {
    let (key, value) = word.split_once('=')?;
    let is_key = key.starts_with(|c: char| c.is_ascii_alphabetic())
        && key.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    is_key.then_some((key, value))
}

pub fn of_set(key: &str, words: &[String]) -> Result<Vec<Assignment>, ValueError> {
    // `baud = 9600`, as in the file
    let words = match words {
        [equals, value @ ..] if equals == "=" && !value.is_empty() => value,
        words => words,
    };
    match split(key) {
        None => Ok(vec![Assignment { key: key.to_owned(), words: words.to_vec() }]),
        Some(_) => of_words(std::iter::once(key).chain(words.iter().map(String::as_str))),
    }
}

/// The assignments of `create`: a word without an equals sign continues the preceding value.
pub fn of_words<'a>(words: impl IntoIterator<Item = &'a str>) -> Result<Vec<Assignment>, ValueError> {
    let mut all: Vec<Assignment> = Vec::new();
    for word in words {
        match split(word) {
            Some((key, _)) if all.iter().any(|before| before.key == key) => {
                return Err(ValueError::Twice(key.to_owned()));
            }
            Some((key, value)) => {
                all.push(Assignment { key: key.to_owned(), words: vec![value.to_owned()] });
            }
            None => match all.last_mut() {
                Some(before) => before.words.push(word.to_owned()),
                None => return Err(ValueError::NoAssignment(word.to_owned())),
            },
        }
    }
    Ok(all)
}

impl Assignment {
    /// The words for each of several ports. Brackets in the value of a key that differs between ports are expanded to one value per port:
    /// `ssh_port=[8100-8147]` for 48 ports.
    pub fn for_ports(&self, ports: &[PortName]) -> Result<Vec<Vec<String>>, ValueError> {
        let own = ["device", "source", "ssh_port", "rfc2217", "raw", "description", "log.file"]
            .contains(&self.key.as_str());
        if let ([word], true) = (self.words.as_slice(), own && ports.len() > 1) {
            let unique = ["device", "source", "ssh_port", "rfc2217", "raw"].contains(&self.key.as_str());
            match expand(word) {
                Ok(values) if values.len() == ports.len() => {
                    return Ok(values.into_iter().map(|value| vec![value]).collect());
                }
                Ok(values) if unique && word.contains('[') => {
                    return Err(ValueError::Counts {
                        key: self.key.clone(),
                        value: word.clone(),
                        values: values.len(),
                        ports: ports.len(),
                    });
                }
                Ok(_) if unique && !["none", "off", "0"].contains(&word.as_str()) => {
                    return Err(ValueError::OfOne {
                        key: self.key.clone(),
                        value: word.clone(),
                        ports: ports.len(),
                    });
                }
                Err(error) if unique => return Err(error.into()),
                Ok(_) | Err(_) => {}
            }
        }
        Ok(vec![self.words.clone(); ports.len()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::port::PortPattern;

    fn parsed(words: &[&str]) -> Result<String, String> {
        let rest: Vec<String> = words[1..].iter().map(|word| (*word).to_owned()).collect();
        let show = |one: &Assignment| format!("{}: {}", one.key, one.words.join("|"));
        of_set(words[0], &rest)
            .map(|all| all.iter().map(show).collect::<Vec<_>>().join("; "))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn one_key_with_its_words_or_several_assignments_are_parsed() {
        for (words, wanted) in [
            (&["baud", "115200"][..], "baud: 115200"),
            (&["description", "a=b", "c"], "description: a=b|c"),
            (&["baud", "=", "9600"], "baud: 9600"),
            (&["description", "=", "a b"], "description: a b"),
            (&["description", "= a"], "description: = a"),
            (&["baud=115200", "parity=E"], "baud: 115200; parity: E"),
            (&["groups=adm", "sudo", "baud=9600"], "groups: adm|sudo; baud: 9600"),
            (&["description="], "description: "),
            (&["description=rack 4, top = left"], "description: rack 4, top = left"),
            (&["triggers.panic.match=Kernel panic"], "triggers.panic.match: Kernel panic"),
            (&["device=/dev/x", "/dev/y=z"], "device: /dev/x|/dev/y=z"),
        ] {
            assert_eq!(parsed(words).as_deref(), Ok(wanted), "{words:?}");
        }
        assert_eq!(parsed(&["baud=1", "baud=2"]).unwrap_err(), "baud is set twice");
        let none = of_words(["baud"]).unwrap_err().to_string();
        assert_eq!(none, "\"baud\": expected KEY=VALUE, such as baud=115200");
    }

    #[test]
    fn a_key_that_ports_cannot_share_takes_one_value_per_port() {
        let ports = "p[1-3]".parse::<PortPattern>().unwrap().names().unwrap();
        let values = |key: &str, word: &str, ports: &[PortName]| {
            let words = vec![word.to_owned()];
            let values = Assignment { key: key.to_owned(), words }.for_ports(ports);
            values.map(|all| all.concat().join(" ")).map_err(|error| error.to_string())
        };
        assert_eq!(values("ssh_port", "[8100-8102]", &ports).unwrap(), "8100 8101 8102");
        assert_eq!(values("device", "/dev/ttyS[4-6]", &ports).unwrap(), "/dev/ttyS4 /dev/ttyS5 /dev/ttyS6");
        assert_eq!(values("description", "rack [4]", &ports).unwrap(), "rack [4] rack [4] rack [4]");
        assert_eq!(values("ssh_port", "none", &ports).unwrap(), "none none none");
        assert_eq!(values("ssh_port", "8100", &ports[..1]).unwrap(), "8100");
        assert_eq!(
            values("ssh_port", "8100", &ports).unwrap_err(),
            "ssh_port 8100: 3 ports cannot share one value; use one per port, such as ssh_port=[8100-8147]"
        );
        assert_eq!(
            values("device", "/dev/ttyS[0-3]", &ports).unwrap_err(),
            "device /dev/ttyS[0-3]: 4 values for 3 ports"
        );
    }
}

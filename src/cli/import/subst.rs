//! `devicesubst` of conserver.cf(5): characters of a device path that are replaced by other settings of a console.

pub struct Values<'v> {
    pub console: &'v str,
    pub host: Option<&'v str>,
    pub replstring: Option<&'v str>,
    pub baud: Option<&'v str>,
    /// `port`
    pub port: Option<u16>,
    /// Computed from `portbase`, `portinc` and `port`.
    pub final_port: Option<u16>,
}

/// One `C=T[N]F`.
struct Rule {
    stands_for: char,
    of: char,
    width: usize,
    zeros: bool,
    format: char,
}

/// More than any device name needs; conserver has no limit.
const MAX_WIDTH: usize = 64;

/// Replaces the characters in a path.
pub fn substituted(path: &str, rules: &str, values: &Values<'_>) -> Result<String, String> {
    let rules = parsed(rules)?;
    let mut whole = String::new();
    for c in path.chars() {
        match rules.iter().find(|rule| rule.stands_for == c) {
            Some(rule) => whole.push_str(&rule.text(values)?),
            None => whole.push(c),
        }
    }
    Ok(whole)
}

fn parsed(rules: &str) -> Result<Vec<Rule>, String> {
    let mut all: Vec<Rule> = Vec::new();
    let mut rest = rules;
    loop {
        let wrong = || "expected C=TF[,C=TF...], such as &=pd".to_owned();
        let mut chars = rest.chars();
        let stands_for = chars.next().filter(|c| c.is_ascii_graphic() && *c != ',').ok_or_else(wrong)?;
        let of = (chars.next() == Some('=')).then(|| chars.next()).flatten().ok_or_else(wrong)?;
        let behind = chars.as_str();
        let digits = behind.len() - behind.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (width, behind) = behind.split_at(digits);
        let format = behind.chars().next().ok_or_else(wrong)?;
        let fits = match of {
            'c' | 'h' | 'r' => format == 's',
            // A number in the manual, a string in conserver.
            'b' => "sd".contains(format),
            'p' | 'P' => "dxXaA".contains(format),
            _ => false,
        };
        if !fits || all.iter().any(|rule| rule.stands_for == stands_for) {
            return Err(wrong());
        }
        all.push(Rule {
            stands_for,
            of,
            width: width.parse().unwrap_or(0).min(MAX_WIDTH),
            zeros: width.starts_with('0'),
            format,
        });
        match behind.get(1..) {
            Some("") | None => return Ok(all),
            Some(more) => rest = more.strip_prefix(',').ok_or_else(wrong)?,
        }
    }
}

impl Rule {
    fn text(&self, values: &Values<'_>) -> Result<String, String> {
        let missing = |what: &str| format!("it refers to {what}, which the console does not set");
        let text = match self.of {
            'c' => values.console.to_owned(),
            'h' => values.host.ok_or_else(|| missing("host"))?.to_owned(),
            'r' => values.replstring.unwrap_or_default().to_owned(),
            'b' => values.baud.unwrap_or_default().to_owned(),
            'p' => self.number(values.port.ok_or_else(|| missing("port"))?),
            _ => self.number(values.final_port.ok_or_else(|| missing("port"))?),
        };
        let missing = self.width.saturating_sub(text.chars().count());
        let fill = if self.zeros && "pP".contains(self.of) { "0" } else { " " };
        Ok(fill.repeat(missing) + &text)
    }

    fn number(&self, mut number: u16) -> String {
        let base = match self.format {
            'd' => 10,
            'x' | 'X' => 16,
            _ => 36,
        };
        let mut digits = Vec::new();
        loop {
            digits.extend(char::from_digit(u32::from(number % base), u32::from(base)));
            number /= base;
            if number == 0 {
                break;
            }
        }
        let text: String = digits.into_iter().rev().collect();
        if self.format.is_ascii_uppercase() { text.to_ascii_uppercase() } else { text }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_format_of_the_manual_is_substituted_as_in_conserver() {
        // Values as `conserver -S -S` 8.2.7 prints them (tests/cli/import holds whole files).
        let values = Values {
            console: "sw1",
            host: Some("ts1"),
            replstring: Some("rep"),
            baud: Some("9600"),
            port: Some(43),
            final_port: Some(2043),
        };
        for (path, rules, wanted) in [
            ("/dev/X", "X=cs", "/dev/sw1"),
            ("/dev/H-R", "H=hs,R=rs", "/dev/ts1-rep"),
            ("/dev/ttyM&", "&=pd", "/dev/ttyM43"),
            ("/dev/ttyM&", "&=p03d", "/dev/ttyM043"),
            ("/dev/ttyM&", "&=p4d", "/dev/ttyM  43"),
            ("/dev/&.@", "&=px,@=PX", "/dev/2b.7FB"),
            ("/dev/&.@", "&=pa,@=PA", "/dev/17.1KR"),
            ("/dev/B&", "&=bs", "/dev/B9600"),
            ("/dev/X", "X=c5s", "/dev/  sw1"),
        ] {
            assert_eq!(substituted(path, rules, &values).as_deref(), Ok(wanted), "{rules}");
        }
        for wrong in ["", "X", "X=", "X=c", "X=cd", "X=ps", "X=qs", "X=cs,", "X=cs;Y=hs", "X=cs,X=hs", ",=cs"]
        {
            assert!(substituted("/dev/X", wrong, &values).is_err(), "{wrong:?}");
        }
        let without = Values { port: None, final_port: None, host: None, ..values };
        assert!(substituted("/dev/&", "&=pd", &without).is_err());
        assert!(substituted("/dev/&", "&=hs", &without).is_err());
    }
}

//! Sources of a user's public keys: `authorized_keys_files` and `authorized_keys_command` of `[access]`,
//! parsed and expanded as sshd's `AuthorizedKeysFile` and `AuthorizedKeysCommand` (TOKENS in sshd_config(5)).
//! Pure.

use std::path::{Path, PathBuf};

use thiserror::Error;

/// sshd's default.
pub const DEFAULT_FILES: [&str; 2] = [".ssh/authorized_keys", ".ssh/authorized_keys2"];

/// Bytes of the longest command line or path.
const MAX_LENGTH: usize = 1024;

/// Why a file, a command or its user is rejected.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum KeySourceError {
    #[error("must have 1 to {MAX_LENGTH} bytes and no control characters")]
    Text,
    #[error("unknown token %{0}: {1} accepts {2}")]
    Token(char, &'static str, &'static str),
    #[error("trailing %: write %% for a percent sign")]
    Percent,
    #[error("unterminated quote")]
    Quote,
    #[error("the path of the program must be absolute")]
    Relative,
}

/// One of `authorized_keys_files`, or `principals`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeysFile(String);

/// `authorized_keys_command`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeysCommand {
    written: String,
    words: Vec<String>,
}

/// `authorized_keys_command_user`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeysCommandUser(String);

#[derive(Debug, Clone)]
pub struct Tokens<'a> {
    /// `%u`
    pub user: &'a str,
    /// `%U`
    pub uid: u32,
    /// `%h`
    pub home: &'a Path,
    /// The offered key, for a command.
    pub key: Option<KeyTokens<'a>>,
}

/// Values of the tokens about the offered key.
#[derive(Debug, Clone)]
pub struct KeyTokens<'a> {
    /// `%t`: `ssh-ed25519`
    pub kind: &'a str,
    /// `%f`: `SHA256:…`
    pub fingerprint: &'a str,
    /// `%k`
    pub base64: &'a str,
}

impl Tokens<'_> {
    fn value(&self, token: char) -> Option<String> {
        let key = self.key.as_ref();
        Some(match token {
            '%' => "%".to_owned(),
            'u' => self.user.to_owned(),
            'U' => self.uid.to_string(),
            'h' => self.home.to_string_lossy().into_owned(),
            't' => key?.kind.to_owned(),
            'f' => key?.fingerprint.to_owned(),
            'k' => key?.base64.to_owned(),
            _ => return None,
        })
    }

    /// The text with its tokens replaced. `parse` has checked them.
    fn expand(&self, text: &str) -> String {
        let mut expanded = String::with_capacity(text.len());
        let mut characters = text.chars();
        while let Some(character) = characters.next() {
            match (character, characters.clone().next().and_then(|token| self.value(token))) {
                ('%', Some(value)) => {
                    expanded.push_str(&value);
                    characters.next();
                }
                _ => expanded.push(character),
            }
        }
        expanded
    }
}

impl KeysFile {
    /// A path, absolute or below the home directory; `None` is sshd's word `none`.
    pub fn parse(text: &str) -> Result<Option<Self>, KeySourceError> {
        Self::parse_as("authorized_keys_files", text)
    }

    /// The same, for another key of the configuration.
    pub fn parse_as(key: &'static str, text: &str) -> Result<Option<Self>, KeySourceError> {
        check(text)?;
        check_tokens(text, key, "huU%", "%%, %h, %U and %u")?;
        Ok((!text.eq_ignore_ascii_case("none")).then(|| Self(text.to_owned())))
    }

    /// The text as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The path for a user: relative paths are below the home directory.
    pub fn expand(&self, tokens: &Tokens<'_>) -> PathBuf {
        tokens.home.join(tokens.expand(&self.0))
    }
}

impl KeysCommand {
    /// The absolute path of a program, and its arguments.
    pub fn parse(text: &str) -> Result<Self, KeySourceError> {
        check(text)?;
        let words = split(text).ok_or(KeySourceError::Quote)?;
        match words.first() {
            None => return Err(KeySourceError::Text),
            Some(program) if !program.starts_with('/') => return Err(KeySourceError::Relative),
            Some(_) => {}
        }
        for word in &words[1..] {
            check_tokens(word, "authorized_keys_command", "fhktUu%", "%%, %f, %h, %k, %t, %U and %u")?;
        }
        Ok(Self { written: text.to_owned(), words })
    }

    /// The text as it was written.
    pub fn as_str(&self) -> &str {
        &self.written
    }

    /// The program and its arguments; without arguments, the user's name (AuthorizedKeysCommand in
    /// sshd_config(5)).
    pub fn expand(&self, tokens: &Tokens<'_>) -> (PathBuf, Vec<String>) {
        let (program, arguments) = self.words.split_first().expect("parse rejects an empty command");
        let arguments = match arguments {
            [] => vec![tokens.user.to_owned()],
            arguments => arguments.iter().map(|word| tokens.expand(word)).collect(),
        };
        (PathBuf::from(program), arguments)
    }
}

impl KeysCommandUser {
    /// A login name, or `%u` for the user who logs in.
    pub fn parse(text: &str) -> Result<Self, KeySourceError> {
        check(text)?;
        check_tokens(text, "authorized_keys_command_user", "u%", "%% and %u")?;
        Ok(Self(text.to_owned()))
    }

    /// The text as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn expand(&self, tokens: &Tokens<'_>) -> String {
        tokens.expand(&self.0)
    }
}

fn check(text: &str) -> Result<(), KeySourceError> {
    let right = (1..=MAX_LENGTH).contains(&text.len()) && !text.contains(char::is_control);
    if right { Ok(()) } else { Err(KeySourceError::Text) }
}

fn check_tokens(
    text: &str,
    key: &'static str,
    accepted: &str,
    named: &'static str,
) -> Result<(), KeySourceError> {
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        if character == '%' {
            match characters.next() {
                None => return Err(KeySourceError::Percent),
                Some(token) if !accepted.contains(token) => {
                    return Err(KeySourceError::Token(token, key, named));
                }
                Some(_) => {}
            }
        }
    }
    Ok(())
}

/// Splits a command line as sshd does (argv_split in OpenSSH's misc.c): single and double quotes are equal,
/// and a backslash escapes a quote, a backslash and, outside quotes, a blank. `None`: unterminated quote.
fn split(line: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut characters = line.chars().peekable();
    while let Some(character) = characters.next() {
        match (character, quote) {
            (' ' | '\t', None) => words.extend(word.take()),
            ('\\', _) => {
                let escaped =
                    |next: &char| matches!(next, '\'' | '"' | '\\') || *next == ' ' && quote.is_none();
                let character = characters.next_if(escaped).unwrap_or('\\');
                word.get_or_insert_default().push(character);
            }
            ('\'' | '"', None) => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (character, Some(open)) if character == open => quote = None,
            (character, _) => word.get_or_insert_default().push(character),
        }
    }
    words.extend(word);
    quote.is_none().then_some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens() -> Tokens<'static> {
        let key = KeyTokens { kind: "ssh-ed25519", fingerprint: "SHA256:x/+", base64: "AAAA+/=" };
        Tokens { user: "alice", uid: 1001, home: Path::new("/home/alice"), key: Some(key) }
    }

    fn words(line: &str) -> Vec<String> {
        split(line).unwrap_or_else(|| panic!("{line} has a quote without an end"))
    }

    #[test]
    fn a_command_line_is_split_as_in_openssh() {
        // regress/unittests/misc/test_argv.c in OpenSSH.
        for (line, right) in [
            ("leamas", &["leamas"][..]),
            ("smiley leamas", &["smiley", "leamas"]),
            (r"leamas 'smiley\' leamas'", &["leamas", "smiley' leamas"]),
            (r#""smiley""#, &["smiley"]),
            (r#""smiley leamas""#, &["smiley leamas"]),
            (r#"\"smiley\ leamas\""#, &["\"smiley leamas\""]),
            (r#"'"smiley leamas"'"#, &["\"smiley leamas\""]),
            (r#""'smiley leamas'""#, &["'smiley leamas'"]),
            (r#"smiley \" leamas"#, &["smiley", "\"", "leamas"]),
            (r"smiley\nleamas", &[r"smiley\nleamas"]),
            ("leamas  \t smiley # x", &["leamas", "smiley", "#", "x"]),
            ("a '' b", &["a", "", "b"]),
        ] {
            assert_eq!(words(line), right, "{line}");
        }
        for line in ["smiley 'leamas", "smiley \"leamas", r#"smiley leamas""#, r"'smiley\'"] {
            assert_eq!(split(line), None, "{line}");
        }
    }

    #[test]
    fn tokens_are_those_of_sshd_config() {
        let command = KeysCommand::parse("/usr/bin/keys -u %u --uid=%U '%h/x y' %t %f %k 100%%").unwrap();
        let (program, arguments) = command.expand(&tokens());
        assert_eq!(program, Path::new("/usr/bin/keys"));
        let right =
            ["-u", "alice", "--uid=1001", "/home/alice/x y", "ssh-ed25519", "SHA256:x/+", "AAAA+/=", "100%"];
        assert_eq!(arguments, right);
        let (_, arguments) = KeysCommand::parse("/usr/bin/sss_ssh_authorizedkeys").unwrap().expand(&tokens());
        assert_eq!(arguments, ["alice"], "without arguments: the user");

        for (file, right) in [
            ("/etc/ssh/keys/%u", "/etc/ssh/keys/alice"),
            (".ssh/authorized_keys", "/home/alice/.ssh/authorized_keys"),
            ("%h/keys", "/home/alice/keys"),
            ("/keys/%U.%%u", "/keys/1001.%u"),
        ] {
            let file = KeysFile::parse(file).unwrap().unwrap();
            assert_eq!(file.expand(&tokens()), Path::new(right));
        }
        assert_eq!(KeysFile::parse("None"), Ok(None));
        assert_eq!(KeysCommandUser::parse("%u").unwrap().expand(&tokens()), "alice");
    }

    #[test]
    fn values_of_tokens_are_not_expanded_again() {
        let tokens = Tokens { user: "%h", ..tokens() };
        assert_eq!(KeysFile::parse("/k/%u").unwrap().unwrap().expand(&tokens), Path::new("/k/%h"));
    }

    #[test]
    fn what_sshd_rejects_is_rejected() {
        let command = |text| KeysCommand::parse(text).unwrap_err();
        assert_eq!(command("keys %u"), KeySourceError::Relative);
        assert_eq!(command("/usr/bin/keys 'x"), KeySourceError::Quote);
        assert_eq!(command("/usr/bin/keys %"), KeySourceError::Percent);
        assert!(
            command("/usr/bin/keys %i").to_string().starts_with("unknown token %i: authorized_keys_command")
        );
        for text in ["", " ", "/x\n", &"/x".repeat(600)] {
            assert_eq!(command(text), KeySourceError::Text, "{text:?}");
        }
        // The fingerprint is not available for file names.
        assert!(matches!(KeysFile::parse("/keys/%f"), Err(KeySourceError::Token('f', ..))));
        assert!(matches!(KeysCommandUser::parse("%h"), Err(KeySourceError::Token('h', ..))));
    }
}

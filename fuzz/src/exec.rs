//! Command lines at a port. Input: a line.

use std::str::FromStr;

use consoleserver::exec::{Command, Pattern, Request, parse, since, unescape};

/// Bytes of a line (`exec::parse`).
const LINE_MAX: usize = 4096;

/// See the module.
pub fn run(line: &[u8]) {
    match parse(line) {
        Ok(Request::Command(command)) => understood(line, &command),
        Ok(Request::Session(_)) => assert!(String::from_utf8_lossy(line).trim_start().starts_with("connect")),
        Err(error) => told(&error.to_string()),
    }
    let Ok(text) = std::str::from_utf8(line) else { return };
    match unescape(text) {
        Ok(bytes) => assert!(bytes.len() <= text.len()),
        Err(error) => told(&error.to_string()),
    }
    let by_numbers: String = line.iter().map(|byte| format!("\\x{byte:02x}")).collect();
    assert_eq!(unescape(&by_numbers).as_deref(), Ok(line), "every byte can be typed");
    let by_octal: String = line.iter().map(|byte| format!("\\{byte:03o}")).collect();
    assert_eq!(unescape(&by_octal).as_deref(), Ok(line));
    if let Err(error) = since(text) {
        told(&error.to_string());
    }
    if let Ok(pattern) = Pattern::from_str(text) {
        assert_eq!(pattern.to_string(), text);
        let found = pattern.end_in(line);
        assert_eq!(found.is_some(), pattern.is_in(line));
        assert!(found.is_none_or(|end| end <= line.len()));
        if let Ok(either) = pattern.ignoring_case() {
            assert!(!pattern.is_in(line) || either.is_in(line), "ignoring case matches more");
        }
    }
}

fn understood(line: &[u8], command: &Command) {
    assert!(line.len() <= LINE_MAX);
    if let Command::Send { bytes, .. } = command {
        assert!(!bytes.is_empty() && bytes.len() <= line.len());
    }
    // As `consolectl` sends it.
    let sent = serde_json::to_vec(command).expect("it can be sent");
    let received: Command = serde_json::from_slice(&sent).expect("it can be received");
    assert_eq!(&received, command);
    // (`--since 10m` is a moment later the second time.)
    if let Command::Log { since: None, .. } | Command::Status | Command::Break { .. } | Command::Help { .. } =
        command
    {
        assert_eq!(
            parse(&[b"  ", line, b" \n"].concat()).as_ref(),
            Ok(&Request::Command(command.clone())),
            "blanks around it are nothing"
        );
    }
}

/// One line, and nothing in it that a terminal obeys.
fn told(error: &str) {
    assert!(!error.is_empty() && !error.contains(char::is_control), "{error:?}");
}

//! Escaping for systemd: unit names, and directives with a path.

use std::fmt::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

/// Longest unit name (systemd's UNIT_NAME_MAX without NUL).
const LONGEST_NAME: usize = 255;

/// The device unit of a path: `/dev/serial/by-path/x` is `dev-serial-by\x2dpath-x.device` (`systemd-escape
/// --path`). `None` if the name would be too long, or the path contains `..`.
pub(super) fn device_unit(path: &Path) -> Option<String> {
    let mut unit = String::new();
    for part in path.components() {
        let name = match part {
            Component::RootDir | Component::CurDir => continue,
            Component::Normal(name) => name.as_bytes(),
            Component::ParentDir | Component::Prefix(_) => return None,
        };
        if !unit.is_empty() {
            unit.push('-');
        }
        for (index, byte) in name.iter().enumerate() {
            match byte {
                b'.' if index == 0 && unit.is_empty() => unit.push_str("\\x2e"),
                b':' | b'_' | b'.' => unit.push(char::from(*byte)),
                _ if byte.is_ascii_alphanumeric() => unit.push(char::from(*byte)),
                // Writing to a String cannot fail.
                _ => write!(unit, "\\x{byte:02x}").unwrap_or_default(),
            }
        }
    }
    // The longest derived name is that of its wants directory.
    let fits = unit.len() + ".device.wants".len() <= LONGEST_NAME;
    (path.is_absolute() && !unit.is_empty() && fits).then(|| unit + ".device")
}

/// The value of a directive that takes the rest of the line, such as `PathExists=`: percent signs are
/// doubled. `None` if it cannot be expressed: systemd strips spaces at the ends, joins lines at a backslash,
/// and requires UTF-8.
pub(super) fn path_value(path: &Path) -> Option<String> {
    let text = path.to_str()?;
    let whole = text.trim() == text && !text.ends_with('\\') && !text.contains(char::is_control);
    let clean = path.is_absolute() && !path.components().any(|part| part == Component::ParentDir);
    (whole && clean).then(|| text.replace('%', "%%"))
}

/// A word of a command line (systemd.service(5), "Command lines"): in double quotes, with specifiers and variables doubled. It has no
/// control characters.
pub(super) fn quoted(word: &str) -> String {
    let mut text = String::from("\"");
    for c in word.chars() {
        match c {
            '"' | '\\' => text.extend(['\\', c]),
            '%' | '$' => text.extend([c, c]),
            c => text.push(c),
        }
    }
    text + "\""
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_units_have_the_names_of_systemd_escape() {
        for (path, unit) in [
            ("/dev/ttyS0", "dev-ttyS0.device"),
            ("//dev/./ttyS0/", "dev-ttyS0.device"),
            ("/dev/serial/by-path/pci-0000:00:14.0", r"dev-serial-by\x2dpath-pci\x2d0000:00:14.0.device"),
            ("/dev/a b%i\n", r"dev-a\x20b\x25i\x0a.device"),
            ("/dev/ä", r"dev-\xc3\xa4.device"),
            ("/.dev/.x", r"\x2edev-.x.device"),
        ] {
            assert_eq!(device_unit(Path::new(path)).as_deref(), Some(unit), "{path}");
        }
        for path in ["/", "dev/ttyS0", "/dev/../etc", &format!("/dev/{}", "x".repeat(240))] {
            assert_eq!(device_unit(Path::new(path)), None, "{path}");
        }
    }

    #[test]
    fn a_word_of_a_command_line_is_one_word_without_specifiers() {
        assert_eq!(quoted("tcp:ts1:7001"), "\"tcp:ts1:7001\"");
        assert_eq!(quoted(r#"unix:/a b/%i $HOME "x" \n"#), r#""unix:/a b/%%i $$HOME \"x\" \\n""#);
    }

    #[test]
    fn a_path_that_systemd_would_read_differently_is_rejected() {
        assert_eq!(path_value(Path::new("/srv/50%/a b")).as_deref(), Some("/srv/50%%/a b"));
        for path in ["/a\\", "/a ", "/a\nb", "a", "/a/../b", "/a\u{85}"] {
            assert_eq!(path_value(Path::new(path)), None, "{path:?}");
        }
    }
}

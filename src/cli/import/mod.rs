//! `import`: ports out of another console server's configuration. Readers make a [`Plan`] of the ports that there would be and of
//! what has no place here; `conserver` reads conserver.cf(5) by `blocks`, `ser2net` reads ser2net.yaml(5) by `yaml`, and `ini`
//! config.ini of ConsoleServer. They see texts only, and get the texts of included files from whoever calls them; `carry` does what
//! the plan says.

mod blocks;
mod carry;
mod conserver;
mod ini;
mod plan;
mod ser2net;
mod yaml;

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, ValueEnum};
use thiserror::Error;

pub use blocks::Include;
pub use plan::{Draft, Place, Plan};

/// Of a file and all that it includes together: as much as is read of our own. The largest known of its kind is a tenth of that.
const MAX_BYTES: usize = 1024 * 1024;

/// What to import, and how.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Wish {
    /// conserver.cf, ser2net.yaml or config.ini; - is standard input
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Whose file it is, if its name does not say so
    #[arg(long, value_name = "PROGRAM")]
    pub from: Option<Program>,
    /// TCP ports for the consoles that have none in the file, from this one up
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub first_port: Option<u16>,
    /// Only print what would be done
    #[arg(long)]
    pub dry_run: bool,
}

/// Whose configuration it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Program {
    /// conserver.cf
    Conserver,
    /// ser2net.yaml
    Ser2net,
    /// config.ini
    Consoleserver,
}

/// Why nothing is imported.
#[derive(Debug, Error)]
pub enum ImportError {
    /// Its name says nothing.
    #[error(
        "{0:?}: is that a conserver.cf, a ser2net.yaml or a config.ini? Say it by --from conserver, ser2net or consoleserver"
    )]
    UnknownKind(PathBuf),
    /// It cannot be read.
    #[error("{0}: {1}")]
    Unreadable(String, io::Error),
    /// Too much.
    #[error("{0}: with it there are more than {MAX_BYTES} bytes: no configuration is so long")]
    TooLong(String),
    /// Bytes of some other encoding.
    #[error("{0}: not UTF-8: `iconv -f latin1 -t utf8` makes it so if it is Latin-1")]
    Encoding(Place),
    /// Not of its format.
    #[error("{0}: {1}")]
    Syntax(Place, String),
    /// A port more would be one too many.
    #[error("{0}: more than {max} ports", max = plan::MAX_PORTS)]
    TooMany(Place),
}

/// Reads files, no more than [`MAX_BYTES`] of all together.
struct Reader {
    left: usize,
}

impl Reader {
    fn read(&mut self, path: &Path) -> Result<Source, ImportError> {
        let standard_input = path == Path::new("-");
        let name = if standard_input { "standard input".to_owned() } else { path.display().to_string() };
        let mut bytes = Vec::new();
        let limit = u64::try_from(self.left).unwrap_or(u64::MAX) + 1;
        let read = match standard_input {
            true => io::stdin().lock().take(limit).read_to_end(&mut bytes),
            false => File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes)),
        };
        read.map_err(|error| ImportError::Unreadable(name.clone(), error))?;
        self.left = self.left.checked_sub(bytes.len()).ok_or_else(|| ImportError::TooLong(name.clone()))?;
        let name: Arc<str> = name.into();
        match String::from_utf8(bytes) {
            Ok(text) => Ok(Source { name, text }),
            Err(error) => {
                let right = &error.as_bytes()[..error.utf8_error().valid_up_to()];
                let line = right.iter().filter(|byte| **byte == b'\n').count() + 1;
                Err(ImportError::Encoding(Place { file: name, line }))
            }
        }
    }
}

/// A text and where it is from.
#[derive(Debug, Clone)]
pub struct Source {
    /// What its places are called by.
    pub name: Arc<str>,
    /// All of it.
    pub text: String,
}

/// Reads a file and makes a plan of it. `this_host` is this machine's name.
pub fn read(wish: &Wish, this_host: &str) -> Result<Plan, ImportError> {
    let by_name = || match wish.file.extension()?.to_str()? {
        "cf" => Some(Program::Conserver),
        "yaml" | "yml" => Some(Program::Ser2net),
        "ini" => Some(Program::Consoleserver),
        _ => None,
    };
    let program = wish.from.or_else(by_name).ok_or_else(|| ImportError::UnknownKind(wish.file.clone()))?;
    let mut reader = Reader { left: MAX_BYTES };
    let source = reader.read(&wish.file)?;
    plan(program, source, &mut |path| reader.read(path), this_host)
}

/// Makes a plan of a text, and of those that it includes.
pub fn plan(
    program: Program,
    source: Source,
    include: &mut Include<'_>,
    this_host: &str,
) -> Result<Plan, ImportError> {
    match program {
        Program::Conserver => conserver::plan(source, include, this_host),
        Program::Ser2net => ser2net::plan(&source),
        Program::Consoleserver => ini::plan(&source),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn source(text: &str) -> Source {
        Source { name: "f".into(), text: text.to_owned() }
    }

    fn conserver(text: &str) -> Result<Plan, ImportError> {
        // Whatever is included is the file itself.
        conserver::plan(source(text), &mut |_| Ok(source(text)), "rack1")
    }

    /// Texts of which a reader may make much.
    fn hostile() -> impl Strategy<Value = String> {
        let parts = prop::sample::select(vec![
            "console",
            "default",
            " * ",
            "{",
            "}",
            ";",
            "\"",
            "\\",
            "#",
            "\n",
            "include ",
            "#include x\n",
            "rw ",
            "!",
            "group",
            "users ",
            ",",
            "connection: ",
            "&a ",
            "*a",
            "*(a)",
            ": ",
            "- ",
            "[",
            "]",
            "%YAML 1.1\n---\n",
            "  ",
            "'",
            "define: ",
            "connector: serialdev,/dev/a,",
            "accepter: tcp,",
            "9600n81",
            "=",
            "[GLOBAL]\n",
            "sshport",
            "é",
            "\t",
            "|",
            "> ",
            "? ",
            "!!str ",
            "\0",
            "\u{feff}",
            "options:",
        ]);
        prop::collection::vec(parts, 0..40).prop_map(|parts| parts.concat())
    }

    proptest! {
        #[test]
        fn no_text_is_too_much_for_a_reader(text in hostile()) {
            // Right or wrong, there is an answer, and it can be said.
            for plan in [conserver(&text), ser2net::plan(&source(&text)), ini::plan(&source(&text))] {
                match plan {
                    Ok(mut plan) => {
                        plan.number(65_000, &crate::config::Config::default());
                        plan.fit(&crate::config::Config::default());
                        plan.show(&crate::config::Config::default(), &mut Vec::new()).unwrap();
                    }
                    Err(error) => assert!(!error.to_string().is_empty()),
                }
            }
        }
    }

    #[test]
    fn what_a_file_could_blow_up_to_is_bounded() {
        let mut doubled = "define: &a0 0123456789\n".to_owned();
        for n in 1..40 {
            doubled.push_str(&format!("define: &a{n} \"*(a{})*(a{})\"\n", n - 1, n - 1));
        }
        let doubled = ser2net::plan(&source(&doubled)).unwrap_err().to_string();
        assert_eq!(doubled, "f:12: a text of more than 16384 bytes");

        let deep = ser2net::plan(&source(&"[".repeat(100_000))).unwrap_err().to_string();
        assert!(deep.starts_with("f:1: "), "{deep}");

        let mut doubled = "default a { rw x; }\n".to_owned();
        for _ in 0..40 {
            doubled.push_str("default a { include a; include a; }\n");
        }
        let doubled = conserver(&doubled).unwrap_err().to_string();
        assert_eq!(doubled, "f:12: a list of more than 1024 words");

        let endless = conserver("#include x\n").unwrap_err().to_string();
        assert_eq!(endless, "f:1: #include: files in 10 files");

        let many: String = (0..300).map(|n| format!("[/dev/p{n}]\n")).collect();
        assert_eq!(ini::plan(&source(&many)).unwrap_err().to_string(), "f:257: more than 256 ports");
    }

    #[test]
    fn what_is_no_such_file_is_told_with_its_line() {
        for (text, wanted) in [
            ("console a {\n  baud 9600\n}\n", "f:2: expected KEYWORD VALUE;"),
            ("\nconsole a { baud 9600;\n", "f:2: a block that is not closed by }"),
            ("console a { motd \"x;\n}\n", "f:1: a quote that is not closed"),
            ("# x\nconsole { }\n", "f:2: expected console NAME {"),
            ("[GLOBAL]\n", "f:1: expected [GLOBAL] NAME {"),
            ("{ }\n", "f:1: expected BLOCK NAME { KEYWORD VALUE; }"),
            (
                "konsole a { }\n",
                "f:1: konsole: expected access, break, config, console, default, group or task",
            ),
            ("console a { include b; }\n", "f:1: include b: no default block of that name stands before it"),
        ] {
            assert_eq!(conserver(text).unwrap_err().to_string(), wanted, "{text:?}");
        }
        for (text, wanted) in [
            ("connection:\n  accepter: tcp,1\n", "f:1: a connection has a name: expected connection: &NAME"),
            ("connection: &a x\n", "f:1: expected accepter: and connector:"),
            ("x\n", "f:1: expected connection:, define: and so on"),
            ("define: &a b\nconnection: &c\n  x: '*(d)'\n", "f:3: *(d): not defined before"),
        ] {
            assert_eq!(ser2net::plan(&source(text)).unwrap_err().to_string(), wanted, "{text:?}");
        }
        let unknown = ser2net::plan(&source("a: b\nc: *d\n")).unwrap_err().to_string();
        assert!(unknown.starts_with("f:2: "), "{unknown}");
        let twice = ini::plan(&source("[/dev/a]\n[/dev/b/a]\n")).unwrap();
        assert_eq!(twice.ports.len(), 1);
        for (text, wanted) in [
            ("baudrate\n", "f:1: \"baudrate\": expected KEY = VALUE, or [NAME]"),
            ("\n[x\n", "f:2: \"[x\": expected [NAME]"),
        ] {
            assert_eq!(ini::plan(&source(text)).unwrap_err().to_string(), wanted, "{text:?}");
        }
    }
}

//! The words that STYLE.md replaces are gone from the sources, the manual, the units and what is packaged with them.

use std::fs;
use std::path::{Path, PathBuf};

use regex_automata::meta::Regex;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Files that are not read: this one, and tests of another project.
const EXCLUDED: [&str; 2] = ["tests/support/words.rs", "tests/support/pyserial"];

/// Files and directories that are read.
const READ: [&str; 24] = [
    "src",
    "man",
    "units",
    "udev",
    "polkit",
    "dbus",
    "debian",
    "completions",
    "cockpit/src",
    "cockpit/test",
    "tests",
    "fuzz/src",
    "fuzz/README.md",
    "benches/peers",
    "patches/README.md",
    "prometheus",
    "rsyslog",
    "docs",
    "Makefile",
    "CHANGELOG.md",
    "README.md",
    "ARCHITECTURE.md",
    "SECURITY.md",
    "CONTRIBUTING.md",
];

/// Words of prose, in comments, texts and names alike, ignoring case; and what to write instead.
const PROSE: &[(&str, &str)] = &[
    ("mend(s|ed|ing)?", "fix"),
    ("anew", "again, re-"),
    ("meanwhile", "in the meantime"),
    ("so long|so often", "the duration, the number"),
    ("for ?ever", "without limit"),
    ("who(so)?ever", "the subject: a client, a user, a reader"),
    ("somebody|everybody|anybody", "the subject: a user, every local user"),
    ("patience|patient", "deadline, timeout"),
    ("(what|whatever) hangs on", "the device attached to"),
    ("(has|have) rested|pass(ed|es|ing)? over", "suppressed, cooldown"),
    ("writes now|you write|may write that", "has write access, read-write, requires write access"),
    ("answered another question", "unexpected reply"),
    ("one thing at a time", "the previous command is still in progress"),
    ("of which it is|whatever the case", "the format; ignore case"),
    ("a look must", "querying status must"),
];

/// Names in the sources, as whole words; and what to write instead.
const NAMES: &[(&str, &str)] = &[
    ("Place|Places", "Slot, Target, Cursor, Endpoint, SourceLine, Paths"),
    ("Refusal|Refused", "Denied, Rejected, Conflict, Busy, InvalidKeyLine"),
    ("Wanted|Wish|Asked", "LineConfig, TimeRange, LogConfig, StartReason; Request"),
    (
        "PATIENCE|PIECE|ANSWERS|LAST_WORDS|MOMENT|LINE: [a-z]",
        "*_TIMEOUT, READ_CHUNK, REPLY_QUEUE, DRAIN_LIMIT",
    ),
    ("Visitor|Somebody|SomebodyElse|Member", "Login, Attached"),
    ("Ears|Heart|Herald|Sieve|Mover|Clerk|Door|Sight|House", "Notifications, Watchdog, LineFilter, PortMove"),
    ("mod (rest|hearing|awake|trip|places|typed|menu|facts|refused|from)", "what the file is about"),
    (
        "rests?_until|has_patience|passed_over|movers?|doors?|visitors?",
        "cooldown_until, suppressed, listeners",
    ),
];

/// Exceptions, where such a word is right: a part of the path or line, and the reason.
const RIGHT: &[(&str, &str)] = &[
    (":forever", "the word of ssh-keygen(1) for a certificate that does not expire"),
    ("ser2net-plain/", "the name of a connection in a sample"),
    ("tests/cli/import.rs", "the same"),
    ("\"alice\", \"whoever\"", "a user name"),
];

fn files(path: &Path, found: &mut Vec<PathBuf>) {
    if EXCLUDED.iter().any(|name| path.ends_with(name)) {
        return;
    }
    if path.is_file() {
        return found.push(path.to_owned());
    }
    // A build of the packages leaves its trees in debian/.
    let is_built = |entry: &Path| {
        let name = entry.file_name().unwrap().to_str().unwrap();
        path.ends_with("debian") && entry.is_dir() && !["source", "tests"].contains(&name)
    };
    // (Golden directories have links that lead nowhere.)
    for entry in fs::read_dir(path).into_iter().flatten().map(|entry| entry.unwrap().path()) {
        if !is_built(&entry) {
            files(&entry, found);
        }
    }
}

fn words(table: &[(&str, &str)], flags: &str) -> Vec<(Regex, String)> {
    // An underscore ends a word, too.
    let end = r"[\x00-/:-@\[-`\{-\x7f]";
    let regex = |words: &str| Regex::new(&format!("(?{flags}-u)(^|{end})({words})({end}|$)")).unwrap();
    // The first is all of them, for the lines without any.
    let all = table.iter().map(|(words, _)| *words).collect::<Vec<_>>().join("|");
    let each = table.iter().map(|(words, instead)| (regex(words), (*instead).to_owned()));
    std::iter::once((regex(&all), String::new())).chain(each).collect()
}

#[test]
fn words_that_the_style_replaces_are_gone() {
    let (prose, names) = (words(PROSE, "i"), words(NAMES, ""));
    let (mut left, mut used, mut read) = (Vec::new(), vec![false; RIGHT.len()], 0);
    for name in READ {
        let mut found = Vec::new();
        files(&Path::new(ROOT).join(name), &mut found);
        found.sort();
        for file in found {
            // Pictures are not text.
            let Ok(text) = fs::read_to_string(&file) else { continue };
            read += text.lines().count();
            let shown = file.strip_prefix(ROOT).unwrap().display().to_string();
            let tables = if name == "src" { vec![&prose, &names] } else { vec![&prose] };
            for (number, line) in text.lines().enumerate() {
                let Some(table) = tables.iter().find(|table| table[0].0.is_match(line)) else { continue };
                let (_, instead) = table[1..].iter().find(|(words, _)| words.is_match(line)).unwrap();
                let place = format!("{shown}:{}: {}", number + 1, line.trim());
                match RIGHT.iter().position(|(part, _)| place.contains(part)) {
                    Some(right) => used[right] = true,
                    None => left.push(format!("{place}\n    write: {instead}")),
                }
            }
        }
    }
    assert!(read > 50_000, "only {read} lines were read");
    assert!(left.is_empty(), "{} lines:\n{}", left.len(), left.join("\n"));
    let unused: Vec<_> = RIGHT.iter().zip(used).filter(|(_, used)| !used).collect();
    assert!(unused.is_empty(), "exceptions of nothing: {unused:?}");
}

//! Invariant I9 of ARCHITECTURE.md: a room imports only rooms above it in the table of its code map, and the table has every room.

use std::fs;
use std::path::{Path, PathBuf};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The rooms in the order of the table: those of one row from left to right.
fn table() -> Vec<String> {
    let text = fs::read_to_string(Path::new(ROOT).join("ARCHITECTURE.md")).unwrap();
    let map = text.split("\n## Code map\n").nth(1).expect("ARCHITECTURE.md has a code map");
    let map = map.split("\n##").next().unwrap();
    let rows = map.lines().filter_map(|line| line.strip_prefix("| `")?.split(" | ").next());
    let names =
        |row: &str| row.split(", ").map(|name| name.trim_matches(['`', '/']).to_owned()).collect::<Vec<_>>();
    rows.flat_map(names).filter(|name| name != "src/bin").collect()
}

/// The modules of `src/lib.rs`.
fn modules() -> Vec<String> {
    let text = fs::read_to_string(Path::new(ROOT).join("src/lib.rs")).unwrap();
    let module = |line: &str| Some(line.split_once("mod ")?.1.strip_suffix(';')?.to_owned());
    text.lines().filter(|line| !line.trim_start().starts_with("//")).filter_map(module).collect()
}

/// Every source file of a room. Tests stand in their own files or at the end of one, and may import anything.
fn sources(room: &str) -> Vec<PathBuf> {
    let src = Path::new(ROOT).join("src");
    let mut found = Vec::new();
    let mut directories = vec![src.join(room)];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") && !path.ends_with("tests.rs") {
                found.push(path);
            }
        }
    }
    found.extend(Some(src.join(format!("{room}.rs"))).filter(|path| path.is_file()));
    found
}

/// The rooms that a text imports, or names by a path: the word after each `crate::`, or all words of the braces there.
fn imports(text: &str) -> Vec<String> {
    let code = text.split("#[cfg(test)]\nmod ").next().unwrap();
    let lines: String =
        code.lines().map(|line| line.split("//").next().unwrap()).collect::<Vec<_>>().join("\n");
    let word = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let mut rooms = Vec::new();
    for after in lines.split("crate::").skip(1) {
        let Some(inside) = after.strip_prefix('{') else {
            rooms.push(word(after));
            continue;
        };
        let (mut depth, mut begins) = (0, true);
        for (at, c) in inside.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => begins = true,
                _ if begins && !c.is_whitespace() => {
                    rooms.push(word(&inside[at..]));
                    begins = false;
                }
                _ => {}
            }
        }
    }
    rooms
}

#[test]
fn imports_are_read_from_every_form_of_a_path() {
    let text = "use crate::hub;\nuse crate::{ring, serial::{self, tty},\n    port::PortName};\nlet a = crate::clock::now();\n\
                // crate::cli\n#[cfg(test)]\nmod tests { use crate::foreground; }";
    assert_eq!(imports(text), ["hub", "ring", "serial", "port", "clock"]);
}

#[test]
fn the_table_has_every_room() {
    let (mut table, mut modules) = (table(), modules());
    table.sort();
    modules.sort();
    assert_eq!(table, modules, "the code map in ARCHITECTURE.md (left) and src/lib.rs (right)");
}

#[test]
fn a_room_imports_only_rooms_above_it() {
    let table = table();
    let mut wrong = Vec::new();
    let mut seen = 0;
    for (row, room) in table.iter().enumerate() {
        let files = sources(room);
        assert!(!files.is_empty(), "{room} has no source file");
        for file in files {
            for import in imports(&fs::read_to_string(&file).unwrap()) {
                // A macro or an item of the crate's root is no room.
                let Some(place) = table.iter().position(|name| *name == import) else { continue };
                seen += 1;
                if place > row {
                    let file = file.strip_prefix(ROOT).unwrap().display().to_string();
                    wrong.push(format!("{file}: {room} imports {import}, which is below it"));
                }
            }
        }
    }
    assert!(seen > 300, "only {seen} imports were found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Files that are named as `hub/line.rs`, `src/hub/line.rs` or `tests/flood.rs`.
#[test]
fn files_that_the_documentation_names_are_there() {
    let mut named = 0;
    for page in ["ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md", "docs/decisions.md"] {
        let text = fs::read_to_string(Path::new(ROOT).join(page)).unwrap();
        for word in
            text.split('`').filter(|word| word.contains('/') && word.ends_with(".rs") && !word.contains(' '))
        {
            named += 1;
            let there = ["", "src/"].iter().any(|place| Path::new(ROOT).join(place).join(word).is_file());
            assert!(there, "{page} names {word}, which is not there");
        }
    }
    assert!(named > 60, "only {named} files are named");
}

//! Invariant I9 of ARCHITECTURE.md: a room imports only rooms above it in the table of its code map, and the table has every room.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

#[path = "support/words.rs"]
mod words;

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

/// Every source file of a room. Tests are in their own files or at the end of one, and may import anything.
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

/// A file without the tests at its end. (Tests in a file of their own are a line of it.)
fn code_of(text: &str) -> &str {
    let is_inline = |at: usize| {
        let next = text[at..].lines().nth(1).unwrap_or_default();
        next.contains("mod ") && next.contains('{')
    };
    let tests = text.match_indices("#[cfg(test)]\n").map(|(at, _)| at).find(|at| is_inline(*at));
    tests.map_or(text, |at| &text[..at])
}

/// The rooms that a text imports, or names by a path: the word after each `crate::`, or all words of the braces there.
fn imports(text: &str) -> Vec<String> {
    let lines: String =
        code_of(text).lines().map(|line| line.split("//").next().unwrap()).collect::<Vec<_>>().join("\n");
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
                // A macro or an item of the crate's root is not a room.
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

/// The modules of src/cli (`commands::show`; the empty name for `mod.rs`) with their code, without comments and tests.
fn cli_modules() -> BTreeMap<String, String> {
    let root = Path::new(ROOT).join("src/cli");
    let mut modules = BTreeMap::new();
    for file in sources("cli") {
        let name =
            file.strip_prefix(&root).unwrap().with_extension("").display().to_string().replace('/', "::");
        let name = name.strip_suffix("mod").map_or(name.as_str(), |parent| parent.trim_end_matches("::"));
        let text = fs::read_to_string(&file).unwrap();
        let code = code_of(&text)
            .lines()
            .map(|line| line.split("//").next().unwrap())
            .collect::<Vec<_>>()
            .join("\n");
        modules.insert(name.to_owned(), code);
    }
    modules
}

/// The first two words of each path at the start of a text: `a::b::c`, or `{a, b::c}`.
fn first_words(text: &str) -> Vec<Vec<String>> {
    let list = match text.strip_prefix('{') {
        Some(inside) => {
            let mut depth = 0;
            let end = inside.find(|c| match c {
                '{' => {
                    depth += 1;
                    false
                }
                '}' if depth == 0 => true,
                '}' => {
                    depth -= 1;
                    false
                }
                _ => false,
            });
            &inside[..end.unwrap_or(inside.len())]
        }
        None => text,
    };
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let words = |path: &str| -> Vec<String> {
        let path = path.trim_start();
        let end = path.find(|c| !is_word(c) && c != ':').unwrap_or(path.len());
        path[..end].split("::").filter(|word| !word.is_empty()).take(2).map(str::to_owned).collect()
    };
    match text.starts_with('{') {
        true => {
            let mut depth = 0;
            let parts = list.split(|c| {
                depth += i32::from(c == '{') - i32::from(c == '}');
                c == ',' && depth == 0
            });
            parts.map(words).filter(|words| !words.is_empty()).collect()
        }
        false => vec![words(list)],
    }
}

/// The modules of src/cli that each one imports.
fn cli_imports(modules: &BTreeMap<String, String>) -> BTreeMap<&str, BTreeSet<&str>> {
    let parent = |name: &str| name.rsplit_once("::").map_or(String::new(), |(parent, _)| parent.to_owned());
    let is_directory =
        |name: &str| name.is_empty() || modules.keys().any(|other| other.starts_with(&format!("{name}::")));
    let resolve = |base: &str, words: &[String]| {
        let path = |count: usize| {
            let words = words.iter().take(count).map(String::as_str);
            std::iter::once(base).filter(|base| !base.is_empty()).chain(words).collect::<Vec<_>>().join("::")
        };
        (0..=words.len())
            .rev()
            .find_map(|count| modules.get_key_value(&path(count)).map(|(name, _)| name.as_str()))
    };
    let mut imports: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (name, code) in modules {
        let found = imports.entry(name).or_default();
        for (at, _) in code.match_indices("super::").chain(code.match_indices("crate::cli::")) {
            let (before, mut rest) = code.split_at(at);
            if before.ends_with("::") {
                continue;
            }
            let mut base = String::new();
            match rest.strip_prefix("crate::cli::") {
                Some(after) => rest = after,
                None => {
                    base.clone_from(name);
                    while let Some(after) = rest.strip_prefix("super::") {
                        (base, rest) = (parent(&base), after);
                    }
                }
            }
            found.extend(first_words(rest).iter().filter_map(|words| resolve(&base, words)));
        }
        // A directory's `mod.rs` names its own modules without a prefix.
        if is_directory(name) {
            let children = modules.keys().filter(|child| !child.is_empty() && parent(child) == *name);
            let named = children.filter(|child| {
                let path = format!("{}::", child.rsplit("::").next().unwrap());
                code.match_indices(&path).any(|(at, _)| {
                    !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':')
                })
            });
            found.extend(named.map(String::as_str));
        }
        found.remove(name.as_str());
    }
    imports
}

#[test]
fn no_file_of_cli_imports_one_that_imports_it() {
    let modules = cli_modules();
    let mut imports = cli_imports(&modules);
    assert!(imports.values().map(BTreeSet::len).sum::<usize>() > 200, "{imports:?}");
    // Files that import none of the rest are removed, until those of a circle are left.
    loop {
        let leaves: Vec<&str> =
            imports.iter().filter(|(_, others)| others.is_empty()).map(|(name, _)| *name).collect();
        if leaves.is_empty() {
            break;
        }
        imports.retain(|name, _| !leaves.contains(name));
        imports.values_mut().for_each(|others| others.retain(|other| !leaves.contains(other)));
    }
    assert!(imports.is_empty(), "these import each other, or files that do: {imports:?}");
}

#[test]
fn imports_inside_a_room_are_resolved_to_files() {
    let text = |code: &str| code.to_owned();
    let modules = BTreeMap::from([
        (text(""), text("use tree::Command;\nmod tree;")),
        (text("tree"), text("use super::commands::show::Show;\nuse super::{words, help::all};")),
        (text("words"), text("fn a() { super::help::all() }")),
        (text("help"), text("use crate::cli::commands;")),
        (text("commands"), text("mod show;")),
        (text("commands::show"), text("use super::super::words::translate;\nuse crate::port::PortName;")),
    ]);
    let imports = cli_imports(&modules);
    let of = |name: &str| imports[name].iter().copied().collect::<Vec<_>>();
    assert_eq!(of(""), ["tree"]);
    assert_eq!(of("tree"), ["commands::show", "help", "words"]);
    assert_eq!(of("words"), ["help"]);
    assert_eq!(of("help"), ["commands"]);
    assert_eq!(of("commands::show"), ["words"]);
}

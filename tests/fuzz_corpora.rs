//! Every input that fuzzing has kept, once more: the coverage corpus (`fuzz/corpus`) and past findings (`fuzz/regressions`).
//! The bodies are those that libFuzzer calls (`make fuzz`).

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

#[path = "../fuzz/src/lib.rs"]
mod targets;

/// The kept inputs of a target.
fn inputs(of: &str, target: &str) -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(of).join(target);
    let Ok(entries) = fs::read_dir(&directory) else { return Vec::new() };
    entries.map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn what_was_kept_of_fuzzing_holds() {
    let mut failed = Vec::new();
    for (target, run) in targets::TARGETS {
        let corpus = inputs("corpus", target);
        assert!(!corpus.is_empty(), "{target} has no corpus");
        for path in corpus.into_iter().chain(inputs("regressions", target)) {
            let bytes = fs::read(&path).unwrap();
            if catch_unwind(AssertUnwindSafe(|| run(&bytes))).is_err() {
                failed.push(path);
            }
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn every_kept_input_has_its_target() {
    for of in ["corpus", "regressions"] {
        for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(of)).unwrap() {
            let name = entry.unwrap().file_name();
            assert!(targets::TARGETS.iter().any(|(target, _)| *target == name), "{name:?} is not a target");
        }
    }
    let listed = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/Cargo.toml")).unwrap();
    let listed = listed.lines().filter_map(|line| line.strip_prefix("path = \"targets/"));
    let listed: Vec<_> = listed.filter_map(|name| name.strip_suffix(".rs\"")).collect();
    assert_eq!(listed, targets::TARGETS.map(|(target, _)| target));
}

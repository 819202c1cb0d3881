//! Completion in the shells.

use std::process::Command;

use crate::bus::{Bus, said};

#[test]
fn bash_completes_commands_and_keys() {
    let bus = Bus::empty();
    let script = bus.done(&["completions", "bash"]);
    let file = bus.path("consolectl.bash");
    std::fs::write(&file, script).unwrap();
    let directory = std::path::Path::new(env!("CARGO_BIN_EXE_consolectl")).parent().unwrap();
    let ask = |words: &str, index: usize| {
        let line = format!(
            "source {}; COMP_WORDS=({words}); COMP_CWORD={index}; COMP_TYPE=9; \
             _clap_complete_consolectl consolectl \"${{COMP_WORDS[COMP_CWORD]}}\"; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            file.display()
        );
        let mut command = Command::new("bash");
        command.env("PATH", format!("{}:/usr/bin:/bin", directory.display()));
        let (_, shown, aside) = said(command.args(["--norc", "-c", &line]));
        assert_eq!(aside, "", "{words}");
        shown.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(ask("consolectl ba", 1), ["baud"]);
    assert_eq!(ask("consolectl set server mon", 3), ["monitor"]);
    assert_eq!(ask("consolectl parity core ''", 3), ["none", "even", "odd", "mark", "space"]);
    assert_eq!(ask("consolectl power core ''", 3), ["on", "off", "cycle", "status"]);
    assert_eq!(ask("consolectl commit ''", 2), ["confirm", "mine"]);
    assert_eq!(ask("consolectl sh ser", 2), ["server"], "an abbreviated command");
    // Options are offered after a hyphen: a lone --help would be inserted.
    assert_eq!(ask("consolectl disconnect core ''", 3), [""; 0]);
    assert_eq!(ask("consolectl list --j", 2), ["--json"]);
    assert_eq!(ask("consolectl --vers", 1), ["--version"]);
    assert_eq!(ask("consolectl log -n 5 core --fol", 5), ["--follow"]);
}

#[test]
fn the_packaged_scripts_equal_those_that_consolectl_prints() {
    let bus = Bus::empty();
    for (shell, file) in [("bash", "consolectl"), ("zsh", "_consolectl"), ("fish", "consolectl.fish")] {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("completions").join(file);
        let installed = std::fs::read_to_string(&path).unwrap();
        let said = bus.done(&["completions", shell]);
        assert_eq!(installed, said, "regenerate it: consolectl completions {shell} >completions/{file}");
    }
}

//! The files of others. Input: whose, then the text, which also is all that it includes.

use std::collections::BTreeSet;

use consoleserver::cli::import::{ImportError, Program, Source, plan};
use consoleserver::config::{Config, Port, keys};

/// Maximum size of a file with all that it includes.
const INCLUDED_MAX: usize = 64 * 1024;

/// See the module.
pub fn run(data: &[u8]) {
    let Some((which, text)) = data.split_first() else { return };
    let program = [Program::Conserver, Program::Ser2net, Program::Consoleserver][usize::from(*which % 3)];
    let Ok(text) = std::str::from_utf8(text) else { return };
    let source = || Source { name: "f".into(), text: text.to_owned() };
    let mut left = INCLUDED_MAX;
    let mut include = |_: &std::path::Path| {
        left =
            left.checked_sub(text.len()).ok_or_else(|| ImportError::TooLong("f".to_owned(), INCLUDED_MAX))?;
        Ok(vec![source()])
    };
    let mut plan = match plan(program, source(), &mut include, "rack1") {
        Ok(plan) => plan,
        Err(error) => {
            let error = error.to_string();
            assert!(!error.is_empty() && !error.contains(char::is_control), "{error:?}");
            return;
        }
    };
    plan.number(65_534, &Config::default());
    plan.resolve_conflicts(&Config::default());
    let mut shown = Vec::new();
    plan.show(&Config::default(), &mut shown).expect("it can be shown");
    let shown = String::from_utf8(shown).expect("text");
    assert!(!shown.contains(|c: char| c.is_control() && c != '\n'), "{shown:?}");

    let mut config = Config::default();
    for (name, (value, _)) in &plan.server {
        keys::find(keys::SERVER, name).expect("a key").put(&mut config.server, value).expect("it was taken");
    }
    let names: BTreeSet<_> = plan.ports.iter().map(|draft| &draft.name).collect();
    assert_eq!(names.len(), plan.ports.len(), "a name, a port");
    for draft in &plan.ports {
        let mut port = Port::default();
        for (name, (value, place)) in &draft.keys {
            // (YAML's lines may end with a CR alone.)
            assert!((1..=text.split(['\r', '\n']).count()).contains(&place.line));
            keys::find(keys::PORT, name).expect("a key").put(&mut port, value).expect("it was taken");
        }
        config.ports.insert(draft.name.clone(), port);
    }
    assert_eq!(config.conflicts(), [], "what cannot be is left out");
    let read = Config::parse(&config.to_toml(), "config.toml".as_ref()).expect("it is a configuration");
    // (What is written states each key at the port.)
    assert_eq!(Config { own: config.own.clone(), ..read }, config);
}

//! The catalog has one entry for each kind of event, and no other.

use std::collections::BTreeMap;

use consoleserver::event::Event;

const CATALOG: &str = include_str!("../units/consoleserver.catalog");

/// Text by id, as `journalctl --update-catalog` reads the file (`catalog_import_file`).
fn entries() -> BTreeMap<&'static str, &'static str> {
    let mut entries = BTreeMap::new();
    for entry in CATALOG.split("\n-- ").skip(1) {
        let (id, text) = entry.split_once('\n').unwrap();
        assert!(entries.insert(id, text).is_none(), "{id} is there twice");
    }
    entries
}

#[test]
fn each_event_has_an_id_of_its_own_and_one_entry() {
    let mut entries = entries();
    for event in Event::ALL {
        let id = event.id();
        assert!(
            id.len() == 32 && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')),
            "{event:?}: {id}"
        );
        assert!(entries.remove(id).is_some(), "{event:?} has no entry, or its id is another event's too");
    }
    assert!(entries.is_empty(), "entries without an event: {entries:#?}");
}

#[test]
fn each_entry_has_its_head_and_a_text_that_uses_only_what_events_carry() {
    for (id, entry) in entries() {
        let (head, text) = entry.split_once("\n\n").unwrap();
        let keys: Vec<_> = head.lines().map(|line| line.split_once(": ").unwrap().0).collect();
        assert_eq!(keys, ["Subject", "Defined-By", "Support"], "{id}");
        assert!(text.trim().len() > 80, "{id} tells nobody what to do");
        assert!(text.lines().all(|line| line.len() <= 100 && !line.starts_with('#')), "{id}: {text}");
        for (at, _) in entry.match_indices('@') {
            let name = entry[at + 1..].split(|c: char| c != '_' && !c.is_ascii_uppercase()).next().unwrap();
            let is_field = !name.is_empty() && entry[at + 1 + name.len()..].starts_with('@');
            assert!(!is_field || ["CONSOLE_PORT", "CONSOLE_USER"].contains(&name), "{id}: @{name}@");
        }
    }
}

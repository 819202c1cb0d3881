use super::*;
use crate::config::{Config, Text};

const TEXT: &str = "# head\n[ports.a] # first\nssh_port = 1001\nbaud = 9600 # slow\n\n[ports.a.triggers.up]\nmatch = \"x\"\n\n[ports.b]\nssh_port = 1002\n";

fn name(port: &str) -> PortName {
    port.parse().unwrap()
}

fn alice() -> Author {
    Author { who: "alice".to_owned(), when: jiff::Timestamp::UNIX_EPOCH }
}

fn over(text: &str) -> State {
    let committed = Text { text: text.to_owned(), path: "/etc/config.toml".into() };
    State::new(committed, None, Changes::default(), Changes::default(), 1, None)
}

impl State {
    /// On a machine with a /dev/ttyUSB1.
    fn renames_to(&self, from: &str, to: &str) -> Result<Self, Rejected> {
        let leads = |path: &Path| (path == Path::new("/dev/ttyUSB1")).then_some(1);
        State::rename(self, &name(from), &name(to), &alice(), leads)
    }

    fn named(&self, from: &str, to: &str) -> Self {
        self.renames_to(from, to).unwrap()
    }

    fn sets(&self, path: &str, value: impl Into<Value>) -> Self {
        self.set(path.parse().unwrap(), Some(value.into()), &alice()).unwrap()
    }

    fn runs(&self) -> Self {
        let next = self.reloaded(|_| true);
        next.check_running().unwrap();
        assert!(next.candidate.is_empty());
        next
    }
}

#[test]
fn a_renamed_port_keeps_its_place_in_the_file_and_its_device() {
    let named = over(TEXT).named("a", "core");
    let expected =
        TEXT.replace("ports.a", "ports.core").replace("9600 # slow\n", "9600 # slow\ndevice = \"/dev/a\"\n");
    assert_eq!(named.merged().unwrap(), expected);
    assert_eq!(named.running_config, over(TEXT).running_config, "not before the reload");
    let runs = named.runs();
    assert_eq!(runs.merged().unwrap(), expected);
    assert_eq!((runs.count(), runs.conflicts().len()), (2, 0), "the name and the device");
    assert_eq!(named.renames(|_| true), [(name("a"), name("core"))].into());
    assert_eq!(runs.renamed_back(), [(name("core"), name("a"))].into());
    // Reloaded by either of its names, and by no other.
    for (requested, is_named) in [("a", true), ("core", true), ("b", false)] {
        let runs = named.reloaded(|scope| *scope == Scope::Port(name(requested)));
        assert_eq!(runs.running_config.ports.contains_key(&name("core")), is_named, "{requested}");
        assert_eq!(runs.candidate.is_empty(), is_named, "{requested}");
    }
}

#[test]
fn changes_of_a_port_follow_its_rename() {
    let text = TEXT.replace("9600", "300").replace("1001", "1003").replace("ports.a", "ports.c");
    let text = text.replace("\n\n[ports.c.t", "\ndevice = \"/dev/a\"\n\n[ports.c.t");
    let at = over(TEXT).sets("ports.a.baud", 300).runs().sets("ports.a.ssh_port", 1003);
    let named = at.named("a", "b2").named("b2", "c");
    assert_eq!(named.merged().unwrap(), text);
    assert_eq!(named.runs().merged().unwrap(), text);
    let other = at.runs().named("a", "b2").runs().named("b2", "c").runs();
    assert_eq!(other.merged().unwrap(), text);
    assert_eq!(other.conflicts(), [""; 0]);
    assert_eq!(other.renamed_back(), [(name("c"), name("a"))].into());
    assert_eq!(other.sets("ports.c.baud", 9600).runs().merged().unwrap(), text.replace("300", "9600"));
    // The same key, edited by hand under the committed name.
    let edited = Text { text: TEXT.replace("9600", "1200"), path: "/etc/config.toml".into() };
    let conflicts = other.over(edited, None).conflicts();
    assert!(conflicts.len() == 1 && conflicts[0].starts_with("ports.c.baud was edited"), "{conflicts:?}");
    let edited = Text { text: TEXT.replace("[ports.b]", "[ports.b]\nbaud = 50"), path: "/etc/c".into() };
    assert_eq!(other.over(edited, None).conflicts(), [""; 0]);
}

#[test]
fn a_port_renamed_and_renamed_back_is_no_change() {
    let back = over(TEXT).named("a", "core").named("core", "a");
    assert!(back.candidate.is_empty(), "{:?}", back.candidate);
    let runs = over(TEXT).named("a", "core").runs();
    let back = runs.named("core", "a");
    assert_eq!(back.renames(|_| true), [(name("core"), name("a"))].into());
    assert!(back.runs().running.is_empty(), "{:?}", back.runs().running);
    assert_eq!(back.merged().unwrap(), TEXT);
}

#[test]
fn two_ports_swap_names_through_a_third_one() {
    let first = over(TEXT).named("a", "spare");
    let refused = first.renames_to("b", "a").unwrap_err().to_string();
    assert!(refused.starts_with("port a is renamed or removed"), "{refused}");
    let swapped = first.runs().named("b", "a").runs().named("spare", "b").runs();
    let back = [(name("a"), name("b")), (name("b"), name("a"))];
    assert_eq!(swapped.renamed_back(), back.into());
    let text = swapped.merged().unwrap();
    let ports = Config::parse(&text, Path::new("t")).unwrap().ports;
    let reported = |port: &str| (ports[&name(port)].ssh_port, ports[&name(port)].device.clone());
    assert_eq!(reported("a"), (Some(1002), Some("/dev/b".into())));
    assert_eq!(reported("b"), (Some(1001), Some("/dev/a".into())));
    assert!(text.starts_with("# head\n[ports.b] # first"), "{text}");
    assert_eq!(swapped.conflicts(), [""; 0]);
}

#[test]
fn a_created_port_can_be_renamed_before_it_is_committed() {
    let made = over(TEXT).create(&name("c"), &alice()).unwrap().sets("ports.c.ssh_port", 1003);
    let named = made.named("c", "d");
    assert_eq!((named.candidate_config.ports.len(), named.count()), (3, 3));
    let runs = made.runs().named("c", "d");
    assert_eq!(runs.renames(|_| true), [(name("c"), name("d"))].into());
    let runs = runs.runs();
    assert_eq!(runs.running_config.ports[&name("d")].ssh_port, Some(1003));
    assert!(!runs.merged().unwrap().contains("ports.c"));
}

#[test]
fn an_invalid_new_name_is_rejected_with_the_reason() {
    let refused = |from: &str, to: &str| over(TEXT).renames_to(from, to).unwrap_err().to_string();
    assert_eq!(refused("a", "b"), "port b already exists");
    assert_eq!(refused("x", "y"), "there is no port x: did you mean a or b?");
    assert_eq!(refused("a", "a"), "the port is already named a");
    assert_eq!(
        refused("a", "ttyUSB1"),
        "ttyUSB1 is a tty that is plugged in (/dev/ttyUSB1), but a has another device: use another name"
    );
    // The port's own tty: `device` is not needed.
    let own = over("[ports.core]\n").sets("ports.core.device", "/dev/ttyUSB1").runs();
    assert_eq!(own.named("core", "ttyUSB1").merged().unwrap(), "[ports.ttyUSB1]\n");
}

#[test]
fn a_port_that_was_removed_from_the_file_is_not_renamed() {
    let named = over(TEXT).named("a", "core").runs();
    let gone = Text { text: "[ports.b]\n".to_owned(), path: "/etc/c".into() };
    let refused = named.over(gone, None).merged().unwrap_err().to_string();
    assert_eq!(refused, "ports.a was renamed to core, but is no longer in the configuration");
    let made = Text { text: format!("{TEXT}[ports.core]\n"), path: "/etc/c".into() };
    let both = named.over(made, None);
    assert!(both.conflicts()[0].starts_with("ports.core was edited"), "{:?}", both.conflicts());
    assert!(both.running_config.ports.contains_key(&name("a")));
}

#[test]
fn a_service_that_is_killed_during_a_reload_does_not_rename_twice() {
    let named = over(TEXT).named("a", "core").sets("ports.b.baud", 300);
    let runs = named.reloaded(|scope| *scope == Scope::Port(name("a")));
    let State { committed, running, .. } = runs.clone();
    let killed =
        State::new(committed, None, running, named.candidate.clone(), 3, None).without_done_renames();
    assert_eq!(killed.running_config, runs.running_config);
    assert_eq!(killed.merged(), runs.merged());
    assert!(killed.renames(|_| true).is_empty());
}

/// The identity of a port under all its names: the name it was created with, and a sequence number.
type Identity = (&'static str, u32);
type Model = std::collections::BTreeMap<&'static str, Identity>;

/// The ports that are in both under different names.
fn moved(from: &Model, to: &Model) -> std::collections::BTreeMap<PortName, PortName> {
    let called = |identity: &Identity| to.iter().find(|(_, is)| *is == identity).map(|(name, _)| *name);
    from.iter()
        .filter_map(|(old, identity)| Some((*old, called(identity)?)))
        .filter(|(old, new)| old != new)
        .map(|(old, new)| (name(old), name(new)))
        .collect()
}

fn is_as(config: &Config, text: Option<&str>, model: &Model, story: &[String]) {
    let names: Vec<&str> = config.ports.keys().map(PortName::as_str).collect();
    assert_eq!(names, model.keys().copied().collect::<Vec<_>>(), "{story:?}");
    for (called, (made_as, number)) in model {
        let port = &config.ports[&name(called)];
        let tcp = (*number == 0).then_some(if *made_as == "a" { 1001 } else { 1002 });
        assert_eq!(port.ssh_port, tcp, "{called}: {story:?}");
        assert_eq!(
            config.device(&name(called), port),
            Path::new("/dev").join(made_as),
            "{called}: {story:?}"
        );
    }
    if let Some(text) = text {
        assert_eq!(&Config::parse(text, Path::new("t")).unwrap(), config, "{story:?}");
    }
}

#[test]
fn ports_keep_their_identity_through_any_sequence_of_edits() {
    const NAMES: [&str; 4] = ["a", "b", "c", "d"];
    // A pseudo-random sequence (Knuth, TAOCP 3.3.4, line 26).
    let mut seed = 1_u64;
    let mut any = |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize % below
    };
    let mut renamed = 0;
    for _ in 0..200 {
        let text = "[ports.a]\nssh_port = 1001\n[ports.b]\nssh_port = 1002\n";
        let mut state = over(text);
        let mut made = 0;
        let mut committed: Model = [("a", ("a", 0)), ("b", ("b", 0))].into();
        let (mut running, mut candidate) = (committed.clone(), committed.clone());
        let mut story = Vec::new();
        for _ in 0..12 {
            let (one, other) = (NAMES[any(4)], NAMES[any(4)]);
            match any(8) {
                0..4 => {
                    story.push(format!("{one} > {other}"));
                    let is_free = !candidate.contains_key(other)
                        && running.get(other).is_none_or(|runs| candidate.get(one) == Some(runs));
                    let next = state.renames_to(one, other);
                    // Its tty may be the `device` of a port that was renamed from it.
                    let shares = candidate.get(one).is_some_and(|(made_as, number)| {
                        let same = |is: &&Identity| is.0 == *made_as && is.1 != *number;
                        *made_as == one && candidate.values().any(|is| same(&is))
                    });
                    let is_right = candidate.contains_key(one) && is_free && !shares;
                    assert_eq!(next.is_ok(), is_right, "{story:?}: {next:?}");
                    if let Ok(next) = next {
                        state = next;
                        let identity = candidate.remove(one).unwrap();
                        candidate.insert(other, identity);
                        renamed += 1;
                    }
                }
                4 => {
                    story.push(format!("+{one}"));
                    if let Ok(next) = state.create(&name(one), &alice()) {
                        state = next;
                        made += 1;
                        assert_eq!(candidate.insert(one, (one, made)), None, "{story:?}");
                    }
                }
                5 => {
                    story.push(format!("-{one}"));
                    if let Ok(next) = state.remove(&name(one), &alice()) {
                        state = next;
                        assert!(candidate.remove(one).is_some(), "{story:?}");
                    }
                }
                6 => {
                    story.push("reload".to_owned());
                    assert_eq!(state.renames(|_| true), moved(&running, &candidate), "{story:?}");
                    state = state.runs();
                    running.clone_from(&candidate);
                    assert_eq!(state.renamed_back(), moved(&running, &committed), "{story:?}");
                }
                _ => {
                    story.push("commit".to_owned());
                    let text = state.runs().merged().unwrap();
                    state = state.settled(Text { text, path: "/etc/config.toml".into() });
                    committed.clone_from(&candidate);
                    running.clone_from(&candidate);
                }
            }
            assert_eq!(state.conflicts(), [""; 0], "{story:?}");
            is_as(&state.candidate_config, state.merged().ok().as_deref(), &candidate, &story);
            is_as(&state.running_config, None, &running, &story);
            is_as(&state.committed_config, None, &committed, &story);
        }
    }
    assert!(renamed > 150, "{renamed}");
}

#[test]
fn a_copy_has_all_keys_except_those_of_a_single_port() {
    let text = TEXT.replace("slow\n", "slow\ndevice = \"/dev/x\"\nlog = { type = \"raw\", sync = \"1s\" }\n");
    let copied = over(&text).sets("ports.a.parity", "E").copy(&name("a"), &name("c"), &alice()).unwrap();
    let ports = &copied.candidate_config.ports;
    let (port, copy) = (&ports[&name("a")], &ports[&name("c")]);
    assert_eq!((copy.ssh_port, &copy.device), (None, &None));
    let same = crate::config::Port { ssh_port: port.ssh_port, device: port.device.clone(), ..copy.clone() };
    assert_eq!(same, *port);
    // Two ports must not connect to one far end; a unit is each port's own.
    for (source, copied) in [("tcp:ts:4001", None), ("unit", Some("unit"))] {
        let text = TEXT.replace("slow\n", &format!("slow\nsource = \"{source}\"\nbreak = \"~B\"\n"));
        let state = over(&text).copy(&name("a"), &name("c"), &alice()).unwrap();
        let copy = &state.candidate_config.ports[&name("c")];
        assert_eq!(copy.source.as_ref().map(ToString::to_string).as_deref(), copied);
        assert_eq!(copy.break_sequence.to_string(), "~B");
    }
    let refused =
        |from: &str, to: &str| over(&text).copy(&name(from), &name(to), &alice()).unwrap_err().to_string();
    assert_eq!(refused("a", "b"), "port b already exists");
    assert_eq!(refused("x", "y"), "there is no port x: did you mean a or b?");
}

use super::*;
use crate::config::Groups;

const TEXT: &str = "[ports.a]\nssh_port = 1001\nbaud = 9600 # slow\n[ports.b]\nssh_port = 1002\n";

fn text(text: &str) -> Text {
    Text { text: text.to_owned(), path: "/etc/config.toml".into() }
}
fn state() -> State {
    State::new(text(TEXT), None, Changes::default(), Changes::default(), 1, None)
}
fn alice() -> Author {
    Author { who: "alice".to_owned(), when: Timestamp::UNIX_EPOCH }
}
fn name(port: &str) -> PortName {
    port.parse().unwrap()
}
impl State {
    fn to(&self, path: &str, value: impl Into<Value>) -> Self {
        self.set(path.parse().unwrap(), Some(value.into()), &alice()).unwrap()
    }
}

#[test]
fn a_change_is_set_then_reloaded_then_committed() {
    let tried = state().to("ports.a.baud", 300);
    assert_eq!(tried.revision, 2);
    assert_eq!(tried.candidate_config.ports[&name("a")].line.baud.get(), 300);
    assert_eq!(tried.running_config, tried.committed_config);
    let runs = tried.reloaded(|scope| *scope == Scope::Port(name("b")));
    assert!(runs.running.is_empty());
    let runs = tried.reloaded(|scope| *scope == Scope::Port(name("a")));
    assert!(runs.candidate.is_empty());
    assert_eq!(runs.running_config, tried.candidate_config);
    assert_eq!(runs.merged().unwrap(), TEXT.replace("9600", "300"));
}

#[test]
fn a_key_set_back_to_its_committed_value_is_no_change() {
    let back = state().to("ports.a.baud", 300).to("ports.a.baud", 9600);
    assert!(back.candidate.is_empty());
    let back = state().to("ports.a.baud", 300).reloaded(|_| true).to("ports.a.baud", 9600);
    assert_eq!((back.candidate.len(), back.pending().len()), (1, 0));
    assert!(back.reloaded(|_| true).running.is_empty());
}

#[test]
fn an_invalid_change_is_rejected_with_what_would_be_valid() {
    let refused = |path: &str, value: Value| {
        path.parse()
            .map_err(Rejected::from)
            .and_then(|path| state().set(path, Some(value), &alice()))
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        refused("ports.a.baud", "fast".into()),
        "ports.a.baud = \"fast\": expected a number from 1 to 4294967295"
    );
    assert_eq!(refused("ports.a.boud", 1.into()), "boud: unknown key: did you mean baud?");
    assert_eq!(
        refused("ports.a.ssh_port", 1002.into()),
        "ports.a.ssh_port = 1002: already used by ports.b.ssh_port; each listener needs its own TCP port"
    );
    assert_eq!(refused("ports.c.baud", 300.into()), "there is no port c: did you mean a or b?");
    assert_eq!(
        refused("defaults.ssh_port", 1.into()),
        "ssh_port applies to a single port: set it for a port"
    );
    assert_eq!(
        refused("baud", 1.into()),
        "unknown key \"baud\": expected server.KEY, access.KEY, defaults.KEY, groups.NAME, templates.NAME.KEY, or KEY of a port"
    );
}

#[test]
fn ports_are_created_and_removed() {
    let made = state().create(&name("c"), &alice()).unwrap().to("ports.c.baud", 300);
    assert!(made.create(&name("c"), &alice()).is_err());
    assert!(made.remove(&name("c"), &alice()).unwrap().candidate.is_empty());
    let gone = made.reloaded(|_| true).remove(&name("c"), &alice()).unwrap();
    assert!(gone.running_config.ports.contains_key(&name("c")));
    assert!(gone.reloaded(|_| true).running.is_empty());

    let gone = state().remove(&name("a"), &alice()).unwrap();
    assert!(!gone.candidate_config.ports.contains_key(&name("a")));
    let again = gone.create(&name("a"), &alice()).unwrap().to("ports.a.baud", 9600);
    assert_eq!(again.candidate_config.ports[&name("a")].ssh_port, None);
    assert_eq!(again.merged().unwrap(), "[ports.a]\nbaud = 9600\n[ports.b]\nssh_port = 1002\n");
    assert_eq!(again.reloaded(|_| true).merged(), again.merged());
}

#[test]
fn an_edit_by_hand_merges_with_other_keys_and_conflicts_with_the_same() {
    let tried = state().to("ports.a.baud", 300).reloaded(|_| true).to("ports.b.baud", 600);
    let other = tried.over(text(&TEXT.replace("1001", "1003")), None);
    assert_eq!(other.conflicts(), [""; 0]);
    assert_eq!(other.running_config.ports[&name("a")].line.baud.get(), 300);
    assert_eq!(other.merged().unwrap(), TEXT.replace("1001", "1003").replace("9600", "300") + "baud = 600\n");

    let same = tried.over(text(&TEXT.replace("9600", "1200")), None);
    assert_eq!(
        same.conflicts(),
        [
            "ports.a.baud was edited in /etc/config.toml in the meantime: the file has 1200, alice set 300: set it again, or revert"
        ]
    );
    assert_eq!(same.to("ports.a.baud", 300).conflicts(), [""; 0]);
}

#[test]
fn a_partial_reload_that_would_be_invalid_is_rejected() {
    let renamed = state().remove(&name("a"), &alice()).unwrap().create(&name("c"), &alice()).unwrap();
    let renamed = renamed.to("ports.c.ssh_port", 1001);
    let part = renamed.reloaded(|scope| *scope == Scope::Port(name("c"))).check_running().unwrap_err();
    assert!(part.to_string().contains("already used by ports.a.ssh_port"), "{part}");
    let first = renamed.reloaded(|scope| *scope == Scope::Port(name("a")));
    assert_eq!(first.check_running(), Ok(()));
    assert_eq!(first.reloaded(|_| true).check_running(), Ok(()));
}

#[test]
fn a_port_created_in_the_file_at_the_same_time_is_a_conflict_and_keeps_its_keys() {
    let made = state().create(&name("c"), &alice()).unwrap().to("ports.c.ssh_port", 1003);
    let both = made.over(text(&format!("{TEXT}[ports.c]\ngroups = [\"netadmin\"]\n")), None);
    assert_eq!(both.conflicts().len(), 1, "{:?}", both.conflicts());
    let runs = both.reloaded(|_| true);
    let Groups::Members(groups) = runs.running_config.ports[&name("c")].groups.clone().unwrap() else {
        panic!()
    };
    assert_eq!(groups, ["netadmin"]);
    // A running port that is created again starts empty.
    let again =
        made.reloaded(|_| true).remove(&name("c"), &alice()).unwrap().create(&name("c"), &alice()).unwrap();
    assert_eq!(again.candidate_config.ports[&name("c")].ssh_port, None);
}

#[test]
fn a_client_that_has_not_seen_a_revert_is_rejected() {
    let reverted = state().to("ports.a.baud", 300).reverted(text(TEXT), &alice());
    let stale = reverted.check_revision(2).unwrap_err().to_string();
    assert!(stale.starts_with("the whole configuration was changed by alice at "), "{stale}");
    assert_eq!(state().reverted(text(TEXT), &alice()).revision, 1);
}

#[test]
fn a_client_that_has_not_seen_the_last_change_is_told_its_author() {
    let changed = state().to("ports.a.baud", 300);
    assert_eq!(changed.check_revision(0), Ok(()));
    assert_eq!(changed.check_revision(2), Ok(()));
    let stale = changed.check_revision(1).unwrap_err().to_string();
    assert!(stale.starts_with("ports.a.baud was changed by alice at "), "{stale}");
    assert!(stale.ends_with(" in the meantime (revision 2): review it and retry"), "{stale}");
}

#[test]
fn no_change_is_accepted_while_the_committed_file_is_invalid() {
    let wrong = state().over(text(TEXT), Some("/etc/config.toml:3: no".to_owned()));
    let refused = wrong.set("ports.a.baud".parse().unwrap(), Some(300.into()), &alice()).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "the committed configuration is invalid, fix it first: /etc/config.toml:3: no"
    );
}

//! Templates and groups of ports on the bus: one change for many ports, reloaded and committed as one.

use zbus::Variant;

use crate::bench::{Bench, printed};

const TEXT: &str = "[groups]\ncore = [\"a\"] # one\n\n[templates.cisco] # switches\nbaud = 9600 # slow\n\n\
                    [ports.a]\nlike = \"cisco\"\n[ports.b]\nlike = \"cisco\"\n[ports.c]\n";

#[tokio::test]
async fn a_change_of_a_template_runs_at_all_its_ports_after_one_reload() {
    let bench = Bench::new(TEXT).await;
    let manager = bench.manager().await;
    manager.set("", "templates.cisco.baud", &Variant::from(115_200_u32), 0).await.unwrap();
    let changes = manager.changes().await.unwrap();
    let reported: Vec<_> = changes
        .iter()
        .map(|change| (change.key.as_str(), change.old.as_str(), change.new.as_str()))
        .collect();
    assert_eq!(reported, [("templates.cisco.baud", "9600", "115200")]);
    let runs = async |port: &str| {
        let running = bench.port(port).await.running().await.unwrap();
        u32::try_from(&running["baud"]).unwrap()
    };
    assert_eq!((runs("a").await, runs("b").await, runs("c").await), (9600, 9600, 9600));
    manager.reload().await.unwrap();
    assert_eq!((runs("a").await, runs("b").await, runs("c").await), (115_200, 115_200, 9600));
    manager.commit(0).await.unwrap();
    assert_eq!(bench.committed(), TEXT.replace("9600", "115200"));

    let origins = bench.port("a").await.origins().await.unwrap();
    let of = |key: &str| origins[key].as_str();
    assert_eq!((of("baud"), of("like"), of("parity")), ("template cisco", "port", "built-in"));
    let candidate = manager.candidate().await.unwrap();
    let list = |key: &str| Vec::<String>::try_from(candidate[key].clone()).unwrap();
    assert_eq!(
        (list("templates.cisco").join(" "), list("groups.core").join(" ")),
        ("a b".into(), "a".into())
    );
}

#[tokio::test]
async fn removing_a_template_in_use_is_rejected() {
    let bench = Bench::new(TEXT).await;
    let manager = bench.manager().await;
    let refused = printed(manager.unset("", "templates.cisco", 0).await.unwrap_err());
    assert!(refused.starts_with("template cisco is used by a, b: "), "{refused}");
    let refused = printed(manager.set("c", "like", &Variant::from("cisc"), 0).await.unwrap_err());
    assert!(refused.contains("there is no template cisc: did you mean cisco?"), "{refused}");
    // A port that is like a new template runs with it, not before it.
    manager.set("", "templates.junos.baud", &Variant::from(300_u32), 0).await.unwrap();
    manager.set("c", "like", &Variant::from("junos"), 0).await.unwrap();
    let refused = printed(bench.port("c").await.reload().await.unwrap_err());
    assert!(
        refused.contains("there is no template junos") && refused.contains("reload it first"),
        "{refused}"
    );
    manager.reload().await.unwrap();
    bench.port("c").await.reload().await.unwrap();
    manager.commit(0).await.unwrap();
    let text = bench.committed();
    assert!(text.contains("[ports.c]\nlike = \"junos\"\n"), "{text}");
    assert!(text.contains("[templates.junos]\nbaud = 300\n"), "{text}");
    // Removed and created again in one batch, it has none of its former values.
    for port in ["a", "b"] {
        manager.unset(port, "like", 0).await.unwrap();
    }
    manager.unset("", "templates.cisco", 0).await.unwrap();
    manager.set("", "templates.cisco.parity", &Variant::from("odd"), 0).await.unwrap();
    manager.commit(0).await.unwrap();
    let text = bench.committed();
    assert!(text.contains("parity = \"O\"") && !text.contains("9600"), "{text}");
}

#[tokio::test]
async fn a_group_is_set_and_unset_in_place() {
    let bench = Bench::new(TEXT).await;
    let manager = bench.manager().await;
    let members =
        |words: &[&str]| Variant::from(words.iter().map(|word| (*word).to_owned()).collect::<Vec<String>>());
    manager.set("", "groups.core", &members(&["a", "b*"]), 0).await.unwrap();
    manager.set("", "groups.\"rack.1\"", &members(&["@core"]), 0).await.unwrap();
    for (key, words, expected) in [
        ("groups.core", &["@-x"][..], "group name"),
        ("groups.core", &["@rack.1"], "a group cannot contain itself: core → rack.1 → core"),
        ("groups.x", &["@nosuch"], "there is no group nosuch"),
    ] {
        let refused = printed(manager.set("", key, &members(words), 0).await.unwrap_err());
        assert!(refused.contains(expected), "{key}: {refused}");
    }
    manager.commit(0).await.unwrap();
    let text = bench.committed();
    assert!(text.starts_with("[groups]\ncore = [\"a\", \"b*\"] # one\n\"rack.1\" = [\"@core\"]\n"), "{text}");
    let refused = printed(manager.unset("", "groups.core", 0).await.unwrap_err());
    assert!(refused.contains("there is no group core"), "{refused}");
    manager.unset("", "groups.\"rack.1\"", 0).await.unwrap();
    manager.unset("", "groups.core", 0).await.unwrap();
    manager.commit(0).await.unwrap();
    assert!(bench.committed().starts_with("[groups]\n\n[templates.cisco]"), "{}", bench.committed());
}

#[tokio::test]
async fn a_port_that_is_renamed_stays_in_its_groups() {
    let text = "[groups]\ncore = [\"p[1-3]\", \"x,p2\", \"p*\"]\nother = [\"x\"]\n[ports.p1]\n[ports.p2]\n[ports.p3]\n[ports.x]\n";
    let bench = Bench::new(text).await;
    let manager = bench.manager().await;
    manager.rename_port("p2", "edge", 0).await.unwrap();
    let candidate = manager.candidate().await.unwrap();
    let list = |key: &str| Vec::<String>::try_from(candidate[key].clone()).unwrap();
    assert_eq!(list("groups.core"), ["edge,p[1,3]", "x,edge", "p*"]);
    assert_eq!(list("groups.other"), ["x"]);
}

//! The bus, the authorizer's table, the D-Bus policy and the manual page know the same members.

use std::collections::BTreeSet;

use consoleserver::admin::authorization;
use zbus::fdo::IntrospectableProxy;

use crate::bench::Bench;

const MANUAL: &str = include_str!("../../man/org.consoleserver1.5");
const POLICY: &str = include_str!("../../dbus/org.consoleserver1.conf");

/// Interface and name.
type Members = BTreeSet<(String, String)>;

/// Every method, and every property that can be written; and all others.
fn members(xml: &str) -> (Members, Members) {
    let (mut asks, mut open) = (BTreeSet::new(), BTreeSet::new());
    let mut interface = String::new();
    for line in xml.lines().map(str::trim) {
        let name = line.split("name=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap_or_default();
        let member = (interface.clone(), name.to_owned());
        match line.split_whitespace().next().unwrap_or_default() {
            "<interface" => interface = name.to_owned(),
            "<method" => drop(asks.insert(member)),
            "<property" if line.contains("write") => drop(asks.insert(member)),
            "<property" | "<signal" => drop(open.insert(member)),
            _ => {}
        }
    }
    (asks, open)
}

#[tokio::test]
async fn each_member_on_the_bus_has_a_permission_a_rule_and_documentation() {
    let bench = Bench::new("[ports.a]\n").await;
    for path in ["/org/consoleserver1", "/org/consoleserver1/port/a"] {
        let object = IntrospectableProxy::builder(&bench.client)
            .destination("org.consoleserver1")
            .path(path)
            .build()
            .await
            .unwrap();
        let (asks, open) = members(&object.introspect().await.unwrap());
        assert!(asks.len() > 9 && open.len() > 5, "{asks:?} {open:?}");
        for (interface, member) in asks.iter().chain(&open) {
            assert!(
                POLICY.contains(&format!("send_interface=\"{interface}\"")),
                "the policy lacks {interface}"
            );
            if !interface.starts_with("org.consoleserver1") {
                continue;
            }
            assert!(MANUAL.contains(&format!(" {member}")), "the manual lacks {interface}.{member}");
        }
        for (interface, member) in &asks {
            let standard =
                ["Introspectable", "Peer", "Properties"].iter().any(|end| interface.ends_with(end));
            assert!(
                standard || authorization::needs(interface, member).is_some(),
                "{interface}.{member} has no row"
            );
        }
    }
    assert_eq!(authorization::needs("org.consoleserver1.Manager", "Shutdown"), None);
}

#[tokio::test]
async fn without_polkit_every_change_by_other_users_than_root_is_denied() {
    let bench = Bench::new("[ports.a]\n").await;
    std::os::unix::fs::chown(bench.room.path(), Some(65534), None).unwrap();
    let call = |words: &'static [&'static str]| {
        let address = bench.client_address();
        let done = std::process::Command::new("setpriv")
            .args([
                "--reuid=65534",
                "--regid=65534",
                "--clear-groups",
                "busctl",
                &format!("--address={address}"),
            ])
            .args(words)
            .output()
            .unwrap();
        (done.status.success(), String::from_utf8_lossy(&done.stderr).into_owned())
    };
    const MANAGER: [&str; 4] =
        ["call", "org.consoleserver1", "/org/consoleserver1", "org.consoleserver1.Manager"];
    let (done, printed) = call(&["call", MANAGER[1], MANAGER[2], MANAGER[3], "Changes"]);
    assert!(done, "{printed}");
    for words in [
        &["Set", "ssvt", "a", "baud", "u", "300", "0"][..],
        &["Commit", "t", "0"],
        &["Revert"],
        &["Reload"],
        &["CreatePort", "s", "b"],
        &["SetMany", "asa(ssv)t", "1", "b", "1", "a", "baud", "u", "300", "0"],
        &["UnsetMany", "a(ss)t", "1", "a", "baud", "0"],
        &["RemovePorts", "ast", "1", "a", "0"],
        &["ReloadPorts", "as", "1", "a"],
    ] {
        let all: Vec<&'static str> = MANAGER.iter().copied().chain(words.iter().copied()).collect();
        let (done, printed) = call(all.leak());
        assert!(!done && printed.contains("without it only root may"), "{words:?}: {printed}");
    }
    assert_eq!(bench.manager().await.uncommitted().await.unwrap(), 0);
}

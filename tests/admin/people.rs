//! More than one administrator: how each is notified of the others' changes, and whose changes a command affects.

use std::time::Duration;

use consoleserver::admin::bus::{Changed, ChangedStream, ManagerProxy};
use futures_util::StreamExt;
use zbus::Variant;

use crate::bench::{Bench, connect, printed, until};

const TEXT: &str = "[ports.a]\nssh_port = 21011\nbaud = 9600\n[ports.b]\nssh_port = 21012\n";
/// Timeout of one signal, on a loaded machine.
const TIMEOUT: Duration = Duration::from_secs(60);

async fn next(signals: &mut ChangedStream) -> Changed {
    tokio::time::timeout(TIMEOUT, signals.next()).await.expect("a signal").unwrap()
}

/// The action, the origin of its author, and the sentence that prompts print.
async fn reported(signals: &mut ChangedStream) -> (String, String, String) {
    let signal = next(signals).await;
    let reported = signal.args().unwrap();
    (reported.action().to_string(), reported.by().from.clone(), reported.text().to_string())
}

/// Changes to the files of console-admin count as another administrator's.
async fn as_carols(bench: &mut Bench) {
    bench.kill();
    let file = bench.room.path().join("run/consoleserver/admin/candidate.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("who = \"root\"", "who = \"carol\"")).unwrap();
    bench.restart().await;
}

async fn set(manager: &ManagerProxy<'_>, port: &str, key: &str, value: u32) -> Vec<String> {
    manager.set(port, key, &Variant::from(value), 0).await.unwrap()
}

#[tokio::test]
async fn each_step_is_signalled_with_author_origin_and_values() {
    let bench = Bench::new(TEXT).await;
    let manager = bench.manager().await;
    let other = connect(&bench.client_address()).await;
    let listener = ManagerProxy::new(&other).await.unwrap();
    let mut signals = listener.receive_changed().await.unwrap();

    let session = "console-auth-cli@3-812-997.service";
    *bench.callers_unit.lock().unwrap() = (session.to_owned(), "root from 192.0.2.7".to_owned());
    set(&manager, "a", "baud", 300).await;
    let signal = next(&mut signals).await;
    let first = signal.args().unwrap();
    let by = first.by();
    assert_eq!((*first.action(), by.who.as_str(), by.from.as_str()), ("set", "root", "192.0.2.7"));
    assert_eq!(by.session, session);
    assert_eq!(by.caller, bench.client.unique_name().unwrap().as_str());
    assert_eq!((*first.revision(), *first.count()), (manager.revision().await.unwrap(), 1));
    assert_eq!(*first.keys(), [("ports.a.baud".to_owned(), "9600".to_owned(), "300".to_owned())]);
    assert_eq!(*first.text(), "root (192.0.2.7) set ports.a.baud = 300 (was 9600)");

    // A STATUS about another user belongs to another process.
    *bench.callers_unit.lock().unwrap() = (session.to_owned(), "carol from 192.0.2.8".to_owned());
    manager.unset("a", "baud", 0).await.unwrap();
    let gone = reported(&mut signals).await;
    assert_eq!(gone.1, "local");
    assert_eq!(gone.2, "root unset ports.a.baud (was 300)");
    // Only that unit reports it.
    *bench.callers_unit.lock().unwrap() = ("evil.service".to_owned(), "root from 192.0.2.9".to_owned());
    manager.create_port("c").await.unwrap();
    assert_eq!(
        reported(&mut signals).await,
        ("create".to_owned(), "local".to_owned(), "root created ports.c".to_owned())
    );
    bench.callers_unit.lock().unwrap().0.clear();

    bench.port("c").await.reload().await.unwrap();
    assert_eq!(reported(&mut signals).await.2, "root reloaded c: 1 change took effect");
    manager.remove_port("c").await.unwrap();
    assert_eq!(reported(&mut signals).await.2, "root removed ports.c");
    manager.revert().await.unwrap();
    let (action, _, text) = reported(&mut signals).await;
    assert_eq!(action, "revert");
    assert!(text.starts_with("root discarded "), "{text}");

    // Thousands of keys are one signal of a bounded size.
    let names: Vec<String> = (0..300).map(|number| format!("p{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    manager.set_many(&names, &[], 0).await.unwrap();
    let signal = next(&mut signals).await;
    let many = signal.args().unwrap();
    assert_eq!((*many.action(), *many.count(), many.keys().len()), ("create", 300, 16));
    assert!(many.text().len() < 300, "{}", many.text());
    manager.revert().await.unwrap();
    next(&mut signals).await;

    set(&manager, "a", "baud", 300).await;
    next(&mut signals).await;
    manager.commit_confirmed(0, 600).await.unwrap();
    let (action, _, text) = reported(&mut signals).await;
    assert_eq!(action, "commit");
    assert!(text.starts_with("root committed 1 change; rolled back at "), "{text}");
    manager.confirm().await.unwrap();
    assert_eq!(reported(&mut signals).await.2, "root confirmed the commit");
    let (who, when, count) = manager.last_commit().await.unwrap();
    assert_eq!((who.as_str(), count), ("root", 1));
    assert!(when.parse::<jiff::Timestamp>().is_ok(), "{when}");

    set(&manager, "a", "baud", 600).await;
    next(&mut signals).await;
    let (key, who, _) = manager.last_change().await.unwrap();
    assert_eq!((key.as_str(), who.as_str()), ("ports.a.baud", "root"));
    manager.commit_confirmed(0, 1).await.unwrap();
    next(&mut signals).await;
    assert_eq!(
        reported(&mut signals).await,
        (
            "rollback".to_owned(),
            "local".to_owned(),
            "the last commit was rolled back, because it was not confirmed in time: its change is uncommitted again, see `diff`"
                .to_owned()
        )
    );
    assert_eq!(manager.changes().await.unwrap()[0].new, "600");
}

#[tokio::test]
async fn replaced_and_committed_changes_of_others_are_reported_and_one_s_own_can_be_committed_alone() {
    let mut bench = Bench::new(TEXT).await;
    {
        let manager = bench.manager().await;
        set(&manager, "a", "baud", 300).await;
        set(&manager, "b", "baud", 300).await;
        manager.create_port("c").await.unwrap();
    }
    as_carols(&mut bench).await;
    let manager = bench.manager().await;
    let replaced = set(&manager, "a", "baud", 600).await;
    assert_eq!(replaced.len(), 1);
    assert!(replaced[0].starts_with("replaced: carol changed ports.a.baud to 300 "), "{replaced:?}");
    assert_eq!(set(&manager, "a", "baud", 1200).await, [""; 0], "it is root's by now");

    let mine = manager.commit_mine(0, 0).await.unwrap();
    assert_eq!(mine, ["reloaded first: ports.a.baud", "2 changes of other users not committed"]);
    assert_eq!(bench.committed(), TEXT.replace("9600", "1200"));
    let left = manager.changes().await.unwrap();
    assert!(left.iter().all(|change| change.who == "carol") && left.len() == 2, "{left:?}");
    assert_eq!(
        manager.commit_mine(0, 0).await.unwrap(),
        ["you have nothing to commit: all 2 changes are other users'"]
    );

    // A change that depends on another administrator's is rejected whole, and nothing was done.
    set(&manager, "c", "baud", 300).await;
    let before = bench.committed();
    let refused = printed(manager.commit_mine(0, 0).await.unwrap_err());
    assert!(
        refused.starts_with("ports.c.baud depends on ports.c, which carol changed and did not commit"),
        "{refused}"
    );
    assert_eq!((bench.committed(), bench.runs()), (before, String::new()));

    let all = manager.commit(0).await.unwrap();
    assert!(all.contains(&"2 of 3 changes are carol's".to_owned()), "{all:?}");
    assert_eq!(manager.uncommitted().await.unwrap(), 0);
}

#[tokio::test]
async fn changes_made_while_a_commit_waited_survive_its_rollback_and_a_boot() {
    let mut bench = Bench::new(TEXT).await;
    {
        let manager = bench.manager().await;
        set(&manager, "a", "baud", 300).await;
        manager.commit_confirmed(0, 1000).await.unwrap();
    }
    // A boot: /run is empty, and the deadline belongs to another boot.
    bench.kill();
    let confirm = bench.room.path().join("var/lib/consoleserver/admin/confirm.toml");
    let record = std::fs::read_to_string(&confirm).unwrap();
    let line = record.lines().find(|line| line.starts_with("boot = ")).unwrap();
    std::fs::write(&confirm, record.replace(line, "boot = \"of yesterday\"")).unwrap();
    for entry in std::fs::read_dir(bench.room.path().join("run/consoleserver/admin")).unwrap() {
        std::fs::remove_file(entry.unwrap().path()).unwrap();
    }
    bench.restart().await;
    until(|| !confirm.exists()).await;
    assert_eq!(bench.committed(), TEXT);
    let manager = bench.manager().await;
    let changes = manager.changes().await.unwrap();
    assert_eq!((changes.len(), changes[0].who.as_str(), changes[0].new.as_str()), (1, "root", "300"));

    manager.commit_confirmed(0, 1000).await.unwrap();
    set(&manager, "b", "baud", 600).await;
    bench.port("b").await.reload().await.unwrap();
    let remarks = manager.revert().await.unwrap();
    assert!(remarks.iter().any(|remark| remark.ends_with("`revert` again to discard them")), "{remarks:?}");
    assert_eq!((bench.committed(), bench.runs()), (TEXT.to_owned(), String::new()));
    assert_eq!(manager.uncommitted().await.unwrap(), 2);
    manager.revert().await.unwrap();
    assert_eq!(manager.uncommitted().await.unwrap(), 0);
}

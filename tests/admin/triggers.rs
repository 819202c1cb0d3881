//! A port reports that a rule has fired: who may report it, what is accepted, and what it starts.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Output;

use futures_util::StreamExt;
use zbus::Variant;

use crate::accounts::Accounts;
use crate::bench::{Bench, printed};

const RULES: &str = "[ports.a.triggers]\npanic = { match = \"panic\", start = true, cooldown = \"5s\" }\nquiet = { silence = \"5m\" }\n";

/// The signal to which programs that react to triggers subscribe; none of ours does.
#[zbus::proxy(
    interface = "org.consoleserver1.Manager",
    default_service = "org.consoleserver1",
    default_path = "/org/consoleserver1"
)]
trait Subscriber {
    #[zbus(signal)]
    fn triggered(&self, port: &str, rule: &str, line: &str) -> zbus::Result<()>;
}

/// `Report` by that user.
async fn report(bench: &Bench, user: &str, words: [&str; 3]) -> Output {
    bench.watcher_call("Report", user, words).await
}

fn refused(output: &Output) -> String {
    assert!(!output.status.success(), "not refused");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

async fn bench() -> (Bench, Accounts) {
    let accounts = Accounts::enter();
    crate::port_account(&accounts);
    let bench = Bench::new(RULES).await;
    fs::create_dir(bench.room.path().join("run/consoleserver/trigger")).unwrap();
    bench.open_to_all();
    (bench, accounts)
}

#[tokio::test]
async fn a_report_is_accepted_once_per_cooldown_and_starts_the_hook_unit_with_the_line() {
    let (bench, _accounts) = bench().await;
    let subscriber = SubscriberProxy::new(&bench.client).await.unwrap();
    let mut signals = subscriber.receive_triggered().await.unwrap();
    let line = "Kernel panic - \"not\" $(syncing) %i";
    let done = report(&bench, "_console-port", ["a", "panic", line]).await;
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let signal = signals.next().await.unwrap();
    let reported = signal.args().unwrap();
    assert_eq!((*reported.port(), *reported.rule(), *reported.line()), ("a", "panic", line));
    assert_eq!(bench.requested(), ["start console-trigger@a:panic.service"]);
    let event = bench.room.path().join("run/consoleserver/trigger/a:panic");
    let text = fs::read_to_string(&event).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!((lines[0], lines[1], lines[3]), ("PORT=a", "TRIGGER=panic", format!("LINE={line}").as_str()));
    assert!(lines[2].starts_with("TIME=20") && lines.len() == 4, "{text}");
    assert_eq!(fs::metadata(&event).unwrap().permissions().mode() & 0o777, 0o600);

    for _ in 0..20 {
        let reported = refused(&report(&bench, "_console-port", ["a", "panic", "again"]).await);
        assert!(reported.contains("trigger panic of a is in its cooldown"), "{reported}");
    }
    assert_eq!(bench.requested(), [""; 0], "a storm of reports starts nothing");
    assert!(fs::read_to_string(&event).unwrap().contains("syncing"));

    // A rule that starts nothing is reported too.
    assert!(report(&bench, "_console-port", ["a", "quiet", "no output for 5 min"]).await.status.success());
    assert_eq!(*signals.next().await.unwrap().args().unwrap().rule(), "quiet");
    assert_eq!(bench.requested(), [""; 0]);
    // After half its cooldown it is accepted again: clocks differ.
    tokio::time::sleep(std::time::Duration::from_millis(2600)).await;
    assert!(report(&bench, "_console-port", ["a", "panic", "once more"]).await.status.success());
    assert_eq!(bench.requested(), ["start console-trigger@a:panic.service"]);
    // While its unit still runs, systemd would start nothing.
    bench.running.lock().unwrap().push("console-trigger@a:panic.service".to_owned());
    tokio::time::sleep(std::time::Duration::from_millis(2600)).await;
    assert!(report(&bench, "_console-port", ["a", "panic", "and again"]).await.status.success());
    assert_eq!(bench.requested(), [""; 0]);
}

#[tokio::test]
async fn only_ports_may_report_triggers_and_only_running_ones() {
    let (bench, _accounts) = bench().await;
    for user in ["root", "nobody", "daemon"] {
        let reported = refused(&report(&bench, user, ["a", "panic", "x"]).await);
        assert!(reported.contains(&format!("{user} is not _console-port")), "{reported}");
    }
    for (words, why) in [
        (["b", "panic", "x"], "b has no running trigger panic"),
        (["a", "none", "x"], "a has no running trigger none"),
        (["../a", "panic", "x"], "name"),
        (["a", "../panic", "x"], "invalid trigger name"),
        (["a", "panic", "x\nPORT=b"], "must be printable text"),
        (["a", "panic", &"x".repeat(5000)], "at most 4096 bytes"),
    ] {
        let reported = refused(&report(&bench, "_console-port", words).await);
        assert!(reported.contains(why), "{words:?}: {reported}");
    }
    assert_eq!(bench.requested(), [""; 0]);
    assert_eq!(fs::read_dir(bench.room.path().join("run/consoleserver/trigger")).unwrap().count(), 0);
}

#[tokio::test]
async fn triggers_are_set_reloaded_committed_and_unset_like_other_keys() {
    let text = "# mine\n[ports.a]\nbaud = 9600 # slow\n\n[ports.b]\nbaud = 300\n";
    let bench = Bench::new(text).await;
    let (manager, port) = (bench.manager().await, bench.port("a").await);
    let text_of = |words: &str| Variant::from(words.to_owned());
    let reported =
        printed(manager.set("a", "triggers.panic.start", &Variant::from(true), 0).await.unwrap_err());
    assert_eq!(
        reported,
        "ports.a.triggers.panic: expected match = \"a regular expression\", or silence = \"5m\", or both"
    );
    let reported = printed(manager.set("a", "triggers.panic.match", &text_of("a("), 0).await.unwrap_err());
    assert!(
        reported.starts_with("ports.a.triggers.panic.match = \"a(\": expected a regular expression"),
        "{reported}"
    );
    let reported = printed(manager.set("a", "triggers.panic", &text_of("x"), 0).await.unwrap_err());
    assert_eq!(
        reported,
        "ports.a.triggers.panic is a trigger rule: set its match, silence, cooldown or start"
    );
    let reported = printed(manager.set("a", "triggers.p.q.match", &text_of("x"), 0).await.unwrap_err());
    assert!(reported.contains("unknown key"), "{reported}");

    manager.set("a", "triggers.panic.match", &text_of("Kernel panic"), 0).await.unwrap();
    manager.set("a", "triggers.panic.start", &Variant::from(true), 0).await.unwrap();
    let shown = |keys: &consoleserver::admin::bus::Keys| format!("{:?}", keys.get("triggers.panic.match"));
    assert!(shown(&port.candidate().await.unwrap()).contains("Kernel panic"));
    assert_eq!(shown(&port.running().await.unwrap()), "None");
    assert_eq!(manager.changes().await.unwrap().len(), 2);
    assert_eq!(bench.committed(), text);
    port.reload().await.unwrap();
    assert!(shown(&port.running().await.unwrap()).contains("Kernel panic"));
    assert_eq!(bench.requested(), [""; 0], "rules do not concern systemd");
    manager.commit(0).await.unwrap();
    assert_eq!(
        bench.committed(),
        "# mine\n[ports.a]\nbaud = 9600 # slow\n\n[ports.a.triggers.panic]\nmatch = \"Kernel panic\"\nstart = true\n\n[ports.b]\nbaud = 300\n"
    );

    // Removed and created again with one of its former keys: nothing of the old rule is left.
    manager.unset("a", "triggers.panic", 0).await.unwrap();
    assert_eq!(shown(&port.candidate().await.unwrap()), "None");
    manager.set("a", "triggers.panic.match", &text_of("Kernel panic"), 0).await.unwrap();
    let keys = port.candidate().await.unwrap();
    assert!(shown(&keys).contains("Kernel panic"));
    assert!(format!("{:?}", keys.get("triggers.panic.start")).contains("false"), "{keys:?}");
    manager.commit(0).await.unwrap();
    assert!(!bench.committed().contains("start"), "{}", bench.committed());
    let reported = printed(manager.unset("a", "triggers.panic.match", 0).await.unwrap_err());
    assert!(reported.contains("ports.a.triggers.panic: expected match"), "{reported}");
    manager.unset("a", "triggers.panic", 0).await.unwrap();
    manager.commit(0).await.unwrap();
    assert_eq!(bench.committed(), text);

    // Signals of all ports.
    manager.set("", "defaults.triggers.oom.match", &text_of("Out of memory"), 0).await.unwrap();
    manager.reload().await.unwrap();
    let keys = bench.port("b").await.running().await.unwrap();
    assert!(format!("{:?}", keys.get("triggers.oom.match")).contains("Out of memory"), "{keys:?}");
    manager.commit(0).await.unwrap();
    assert!(
        bench.committed().ends_with("[defaults.triggers.oom]\nmatch = \"Out of memory\"\n"),
        "{}",
        bench.committed()
    );
}

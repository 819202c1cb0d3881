//! Try, reload, commit, revert: the files on disk and the calls to systemd.

use std::net::TcpListener;

use zbus::Variant;

use crate::bench::{Bench, printed, until};

const TEXT: &str =
    "# mine\n[ports.a]   # first\nssh_port = 21001\nbaud = 9600 # slow\n\n[ports.b]\nssh_port = 21002\n";

#[tokio::test]
async fn a_change_is_set_reloaded_and_committed_and_only_its_line_changes() {
    let bench = Bench::new(TEXT).await;
    let (manager, port) = (bench.manager().await, bench.port("a").await);
    manager.set("a", "baud", &Variant::from(115_200_u32), 1).await.unwrap();
    assert_eq!((port.baud().await.unwrap(), manager.uncommitted().await.unwrap()), (115_200, 1));
    assert_eq!((bench.runs(), bench.committed()), (String::new(), TEXT.to_owned()));
    let stale = printed(manager.set("a", "baud", &Variant::from(300_u32), 1).await.unwrap_err());
    assert!(stale.starts_with("ports.a.baud was changed by root at "), "{stale}");

    assert_eq!(port.reload().await.unwrap(), [""; 0]);
    assert!(bench.runs().contains("new = 115200"), "{}", bench.runs());
    assert_eq!(bench.committed(), TEXT);
    manager.commit(0).await.unwrap();
    assert_eq!(bench.committed(), TEXT.replace("9600", "115200"));
    assert_eq!((bench.runs(), manager.uncommitted().await.unwrap()), (String::new(), 0));
    assert_eq!(bench.requested(), [""; 0], "a line setting does not concern systemd");
}

#[tokio::test]
async fn a_listener_moves_after_the_new_address_was_probed_and_is_restored_on_failure() {
    let bench = Bench::new(TEXT).await;
    let port = bench.port("a").await;
    let taken = TcpListener::bind("[::]:0").unwrap();
    let number = taken.local_addr().unwrap().port();
    port.set_ssh_port(number).await.unwrap();
    let refused = printed(port.reload().await.unwrap_err());
    assert_eq!(refused, format!("[::]:{number} is in use by another program: nothing was changed"));
    assert_eq!((bench.requested(), bench.runs()), (Vec::new(), String::new()));

    drop(taken);
    port.reload().await.unwrap();
    assert_eq!(bench.requested(), ["daemon-reload", "restart console@a.socket"]);

    bench.broken.lock().unwrap().push("console@a.socket".to_owned());
    let before = bench.runs();
    port.set_ssh_port(number.wrapping_add(1).max(1024)).await.unwrap();
    let failed = printed(port.reload().await.unwrap_err());
    assert!(failed.starts_with("systemctl restart console@a.socket failed: failed"), "{failed}");
    assert_eq!(bench.runs(), before);
    assert_eq!(
        bench.requested(),
        ["daemon-reload", "restart console@a.socket", "daemon-reload", "restart console@a.socket"]
    );
}

#[tokio::test]
async fn ports_are_added_and_removed_with_their_objects_and_units() {
    let bench = Bench::new(TEXT).await;
    let manager = bench.manager().await;
    let path = manager.create_port("c-1").await.unwrap();
    assert_eq!(path.as_str(), "/org/consoleserver1/port/c_2d1");
    let port = bench.port("c-1").await;
    port.set_ssh_port(21_003).await.unwrap();
    assert_eq!(port.state().await.unwrap(), "not running");
    port.reload().await.unwrap();
    assert_eq!(
        bench.requested(),
        ["daemon-reload", "start console-attach@c-1.socket", "start console@c-1.socket"]
    );
    manager.remove_port("c-1").await.unwrap();
    port.reload().await.unwrap();
    assert_eq!(
        bench.requested(),
        [
            "daemon-reload",
            "stop console@c-1.socket",
            "stop console-attach@c-1.socket",
            "stop console@c-1.service"
        ]
    );
    assert_eq!(manager.changes().await.unwrap(), []);
    assert!(port.state().await.is_err(), "its object is gone with the next call");
}

#[tokio::test]
async fn an_edit_by_hand_merges_and_the_same_key_is_a_conflict() {
    let bench = Bench::new(TEXT).await;
    let manager = bench.manager().await;
    manager.set("a", "baud", &Variant::from("x"), 0).await.unwrap_err();
    manager.set("a", "baud", &Variant::from(300_u32), 0).await.unwrap();
    bench.edit(&TEXT.replace("9600", "1200").replace("21002", "21005"));
    let conflict = printed(manager.commit(0).await.unwrap_err());
    assert!(conflict.contains("the file has 1200, root set 300: set it again, or revert"), "{conflict}");
    assert_eq!(manager.conflicts().await.unwrap(), [conflict]);
    manager.set("a", "baud", &Variant::from(300_u32), 0).await.unwrap();
    manager.commit(0).await.unwrap();
    assert_eq!(bench.committed(), TEXT.replace("9600", "300").replace("21002", "21005"));
}

#[tokio::test]
async fn an_unconfirmed_commit_is_rolled_back_even_after_a_kill() {
    let mut bench = Bench::new(TEXT).await;
    let manager = bench.manager().await;
    manager.set("a", "baud", &Variant::from(300_u32), 0).await.unwrap();
    manager.commit_confirmed(0, 1000).await.unwrap();
    assert_eq!(bench.committed(), TEXT.replace("9600", "300"));
    let waits = printed(manager.commit(0).await.unwrap_err());
    assert!(waits.starts_with("a commit waits for confirmation until "), "{waits}");
    manager.confirm().await.unwrap();
    assert_eq!(printed(manager.confirm().await.unwrap_err()), "no commit waits for confirmation");
    assert_eq!(bench.committed(), TEXT.replace("9600", "300"));

    manager.set("a", "baud", &Variant::from(9600_u32), 0).await.unwrap();
    manager.commit_confirmed(0, 1000).await.unwrap();
    manager.revert().await.unwrap();
    assert_eq!(bench.committed(), TEXT.replace("9600", "300"));

    manager.set("a", "baud", &Variant::from(9600_u32), 0).await.unwrap();
    manager.commit_confirmed(0, 2).await.unwrap();
    assert_eq!(bench.committed(), TEXT);
    bench.kill();
    bench.restart().await;
    let file = bench.room.path().join("etc/consoleserver/config.toml");
    until(|| std::fs::read_to_string(&file).unwrap() == TEXT.replace("9600", "300")).await;
    until(|| !bench.room.path().join("var/lib/consoleserver/admin/confirm.toml").exists()).await;
    // The change is in the candidate again, and not in effect.
    let manager = bench.manager().await;
    let changes = manager.changes().await.unwrap();
    assert_eq!((changes.len(), changes[0].new.as_str()), (1, "9600"));
    assert_eq!(bench.runs(), "");
    assert_eq!(manager.conflicts().await.unwrap(), [""; 0]);
    manager.commit(0).await.unwrap();
    assert_eq!(bench.committed(), TEXT);
}

#[tokio::test]
async fn an_invalid_file_is_never_overwritten() {
    let bench = Bench::new(TEXT).await;
    let manager = bench.manager().await;
    let slip = TEXT.replace("9600", "\"fast\"");
    bench.edit(&slip);
    manager.revert().await.unwrap();
    let refused = printed(manager.set("a", "baud", &Variant::from(300_u32), 0).await.unwrap_err());
    assert!(refused.contains("expected a number from 1 to 4294967295"), "{refused}");
    let refused = printed(manager.set("nobody", "baud", &Variant::from(300_u32), 0).await.unwrap_err());
    assert!(refused.contains("expected a number from 1 to 4294967295"), "{refused}");
    assert!(manager.commit(0).await.is_err());
    assert_eq!(bench.committed(), slip);
    bench.edit(TEXT);
    manager.set("a", "baud", &Variant::from(300_u32), 0).await.unwrap();
}

#[tokio::test]
async fn edits_after_a_commit_that_is_rolled_back_are_kept() {
    let bench = Bench::new(TEXT).await;
    let manager = bench.manager().await;
    manager.set("a", "baud", &Variant::from(300_u32), 0).await.unwrap();
    manager.commit_confirmed(0, 1000).await.unwrap();
    let edited = format!("{}# mine\n", bench.committed());
    bench.edit(&edited);
    let remarks = manager.revert().await.unwrap();
    let kept = "/var/lib/consoleserver/admin/edited.toml";
    assert_eq!(
        remarks,
        [
            format!("the file was edited after the commit: the edited version is in {kept}"),
            "the last commit was rolled back: its change is uncommitted again, see `diff`; `revert` again to discard them".to_owned()
        ]
    );
    assert_eq!(std::fs::read_to_string(bench.room.path().join(&kept[1..])).unwrap(), edited);
    assert_eq!(bench.committed(), TEXT);
}

#[tokio::test]
async fn a_commit_is_rolled_back_even_if_the_file_is_unreadable() {
    let bench = Bench::new(TEXT).await;
    let manager = bench.manager().await;
    let file = bench.room.path().join("etc/consoleserver/config.toml");
    let aside = bench.room.path().join("etc/consoleserver/config.toml.unreadable");
    let spoil: [&dyn Fn(); 2] = [&|| std::fs::write(&file, b"# L\xf6we\n").unwrap(), &|| {
        std::fs::remove_file(&aside).unwrap();
        std::fs::remove_file(&file).unwrap();
        std::fs::create_dir(&file).unwrap();
    }];
    for spoil in spoil {
        manager.set("a", "baud", &Variant::from(300_u32), 0).await.unwrap();
        manager.commit_confirmed(0, 1000).await.unwrap();
        spoil();
        let remarks = manager.revert().await.unwrap();
        assert!(
            remarks
                .iter()
                .any(|remark| remark.ends_with("moved to /etc/consoleserver/config.toml.unreadable")),
            "{remarks:?}"
        );
        assert_eq!(bench.committed(), TEXT);
        assert!(aside.exists());
    }
}

#[tokio::test]
async fn an_interrupted_reload_is_continued() {
    let mut bench = Bench::new(TEXT).await;
    bench.kill();
    bench.requested();
    let under_way = bench.room.path().join("run/consoleserver/admin/under-way.toml");
    let plan = "probe = []\ndaemon_reload = true\nsteps = [{ Restart = \"console@a.socket\" }]\napply = []\nremarks = []\n";
    std::fs::write(&under_way, plan).unwrap();
    bench.restart().await;
    assert_eq!(bench.requested(), ["daemon-reload", "restart console@a.socket"]);
    assert!(!under_way.exists());
    // A reload that has ended leaves no record.
    let port = bench.port("a").await;
    port.set_ssh_port(21_006).await.unwrap();
    port.reload().await.unwrap();
    assert!(!under_way.exists());
}

#[tokio::test]
async fn a_killed_service_leaves_the_old_or_the_new_file_and_no_temporary_file() {
    let mut bench = Bench::new(TEXT).await;
    let texts = ["300", "600"].map(|baud| TEXT.replace("9600", baud));
    for round in 0..20_u32 {
        let manager = bench.manager().await;
        let baud = [300_u32, 600][(round % 2) as usize];
        manager.set("a", "baud", &Variant::from(baud), 0).await.unwrap();
        let commit = tokio::spawn(async move { manager.commit(0).await });
        tokio::time::sleep(std::time::Duration::from_micros(u64::from(round) * 300)).await;
        bench.kill();
        // Either it gets a reply or its service has exited: both are correct.
        let _ = commit.await.unwrap();
        let now = bench.committed();
        assert!(now == TEXT || texts.contains(&now), "torn: {now}");
        bench.restart().await;
        let left = std::fs::read_dir(bench.room.path().join("etc/consoleserver")).unwrap().count();
        assert_eq!(left, 1, "drafts stay");
    }
}

#[tokio::test]
async fn a_partial_reload_that_would_be_invalid_is_rejected_and_changes_nothing() {
    let bench = Bench::new(TEXT).await;
    let manager = bench.manager().await;
    manager.set("b", "baud", &Variant::from(300_u32), 0).await.unwrap();
    bench.port("b").await.reload().await.unwrap();
    manager.remove_port("a").await.unwrap();
    manager.create_port("heir").await.unwrap();
    manager.set("heir", "ssh_port", &Variant::from(21001_u32), 0).await.unwrap();
    bench.requested();
    let refused = printed(bench.port("heir").await.reload().await.unwrap_err());
    assert!(refused.contains("already used by ports.a.ssh_port"), "{refused}");
    assert!(refused.contains("reload it first, or use `commit`"), "{refused}");
    assert_eq!(bench.requested(), [""; 0]);
    bench.port("a").await.reload().await.unwrap();
    bench.port("heir").await.reload().await.unwrap();
    manager.commit(0).await.unwrap();
    assert!(bench.committed().contains("[ports.heir]"));
}

#[tokio::test]
async fn many_changes_are_made_all_or_none() {
    let bench = Bench::new(TEXT).await;
    let manager = bench.manager().await;
    let number = |number: u32| Variant::from(number);
    // Two ports that swap their TCP ports: each by itself would be a conflict.
    let (first, second, baud) = (number(21_001), number(21_002), number(19_200));
    let values = [("b", "ssh_port", &first), ("a", "ssh_port", &second), ("c", "baud", &baud)];
    manager.set_many(&["c"], &values, 1).await.unwrap();
    assert_eq!(manager.revision().await.unwrap(), 2);
    assert_eq!(bench.port("b").await.ssh_port().await.unwrap(), 21_001);
    assert_eq!(bench.port("c").await.baud().await.unwrap(), 19_200);
    let before = manager.uncommitted().await.unwrap();
    for (ports, values, revision, expected) in [
        (&["d"][..], [("d", "baud", &first), ("d", "stopbits", &first)], 0, "stopbits"),
        (
            &["d"],
            [("d", "baud", &first), ("e", "baud", &first)],
            0,
            "there is no port e: did you mean a, b or c?",
        ),
        (&["d"], [("d", "ssh_port", &first), ("d", "baud", &first)], 0, "ports.b.ssh_port"),
        (&["d", "a"], [("d", "baud", &first), ("a", "baud", &first)], 0, "port a already exists"),
        (&["d", "d"], [("d", "baud", &first), ("a", "baud", &first)], 0, "port d already exists"),
        (&["d"], [("d", "baud", &first), ("d", "baud", &first)], 1, "in the meantime"),
    ] {
        let refused = printed(manager.set_many(ports, &values, revision).await.unwrap_err());
        assert!(refused.contains(expected), "{refused}");
        assert_eq!(manager.uncommitted().await.unwrap(), before, "{refused}");
    }
}

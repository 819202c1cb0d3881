use super::*;

/// The steps between two files.
fn story(old: &str, new: &str, ports: &[&str], active: &[&str]) -> String {
    reported(old, new, ports, active, ports)
}

/// Likewise for a port that inherits a change and was not named by the user.
fn inherited(old: &str, new: &str, port: &str) -> String {
    reported(old, new, &[port], &[], &[])
}

fn reported(old: &str, new: &str, ports: &[&str], active: &[&str], requested: &[&str]) -> String {
    let parse = |text| Config::parse(text, Path::new("t")).unwrap();
    let (old, new) = (parse(old), parse(new));
    let names =
        |words: &[&str]| words.iter().map(|word| word.parse().unwrap()).collect::<BTreeSet<PortName>>();
    let now = Present {
        units: &generator::plan(
            &old,
            Some(Path::new("/etc/consoleserver/config.toml")),
            &Machine::at(Path::new("/")),
        ),
        config: &old,
        active: &names(active),
        up: &BTreeSet::new(),
        fresh: &|_| false,
        open: &|name| match name.as_str() {
            "stopped" => false,
            "started" => true,
            _ => old.ports.get(name).is_some_and(|port| port.enabled),
        },
        deaf: &|name| name.as_str() == "deaf",
        requested: &names(requested),
        leads: &|path| match path.strip_prefix("/dev").ok()?.to_str()? {
            "there" | "ttyUSB0" | "stopped" => Some(7),
            _ => None,
        },
    };
    let Plan { probe, release, daemon_reload, steps, apply, remarks } = plan(&now, &new, &names(ports));
    let mut lines: Vec<String> = probe.iter().map(|address| format!("probe {address}")).collect();
    lines.extend(release.iter().map(|port| format!("release {port}")));
    lines.extend(daemon_reload.then(|| "daemon-reload".to_owned()));
    lines.extend(steps.iter().map(|step| step.to_string().replace("systemctl ", "")));
    lines.extend(apply.iter().map(|port| format!("apply {port}")));
    lines.extend(remarks);
    lines.join("\n")
}

const A: &str = "[ports.a]\nssh_port = 1001\n";

#[test]
fn line_settings_are_taken_by_the_running_port() {
    let new = "[ports.a]\nssh_port = 1001\nbaud = 300\n";
    assert_eq!(story(A, new, &["a"], &["a"]), "apply a");
    assert_eq!(story(A, new, &["a"], &[]), "");
}

#[test]
fn a_listener_moves_with_its_socket_after_the_new_address_was_probed() {
    let new = "[ports.a]\nssh_port = 1002\n";
    assert_eq!(story(A, new, &["a"], &["a"]), "probe [::]:1002\ndaemon-reload\nrestart console@a.socket");
    // The same number at another address is in use by this server and cannot be probed.
    let local = "[ports.a]\nssh_port = 1001\nlisten = [\"127.0.0.1\"]\n";
    assert_eq!(story(A, local, &["a"], &[]), "daemon-reload\nrestart console@a.socket");
}

#[test]
fn a_listener_is_added_and_removed() {
    let without = "[ports.a]\n";
    assert_eq!(story(without, A, &["a"], &[]), "probe [::]:1001\ndaemon-reload\nstart console@a.socket");
    assert_eq!(
        story(without, A, &["a"], &["a"]),
        "probe [::]:1001\ndaemon-reload\nrestart console@a.service"
    );
    assert_eq!(
        story(A, without, &["a"], &["a"]),
        "daemon-reload\nstop console@a.socket\nrestart console@a.service"
    );
}

#[test]
fn ports_are_added_removed_enabled_and_disabled() {
    let two = format!("{A}[ports.b]\nssh_port = 1002\ndevice = \"/dev/there\"\n");
    assert_eq!(
        story(A, &two, &["b"], &["a"]),
        "probe [::]:1002\ndaemon-reload\nstart console-attach@b.socket\nstart console@b.socket\nstart console@b.service"
    );
    assert_eq!(
        story(&two, A, &["b"], &["a", "b"]),
        "daemon-reload\nstop console@b.socket\nstop console-attach@b.socket\nstop console@b.service"
    );
    let off = format!("{two}enabled = false\n");
    assert_eq!(
        story(&two, &off, &["b"], &["a", "b"]),
        "daemon-reload\nstop console@b.socket\nstop console-attach@b.socket\nstop console@b.service"
    );
    assert_eq!(
        story(&off, &two, &["b"], &[]),
        "daemon-reload\nstart console-attach@b.socket\nstart console@b.socket\nstart console@b.service"
    );
}

#[test]
fn a_started_port_keeps_running_and_a_stopped_one_stays_stopped() {
    let off = "[ports.started]\nenabled = false\nssh_port = 1001\n";
    let on = "[ports.started]\nssh_port = 1001\nbaud = 300\n";
    let moved = on.replace("1001", "1002");
    assert_eq!(
        story(off, on, &["started"], &["started"]),
        "daemon-reload\nstart console-attach@started.socket\napply started"
    );
    assert_eq!(
        story(off, &moved, &["started"], &["started"]),
        "probe [::]:1002\ndaemon-reload\nstart console-attach@started.socket\nrestart console@started.socket"
    );
    let still_off = off.replace("1001", "1002");
    assert_eq!(
        story(off, &still_off, &["started"], &[]),
        "probe [::]:1002\ndaemon-reload\nrestart console@started.socket"
    );
    assert_eq!(
        story(&off.replace("started", "a"), &still_off.replace("started", "a"), &["a"], &[]),
        "daemon-reload"
    );

    let stopped = "[ports.stopped]\nssh_port = 1001\ndevice = \"/dev/there\"\n";
    let inherits = format!("[defaults]\nlisten = [\"127.0.0.1\"]\n{stopped}");
    assert_eq!(inherited(stopped, &inherits, "stopped"), "daemon-reload");
    assert_eq!(
        inherited(&stopped.replace("stopped", "a"), &inherits.replace("stopped", "a"), "a"),
        "daemon-reload\nrestart console@a.socket"
    );
}

#[test]
fn a_socket_that_systemd_has_closed_is_restarted() {
    let deaf = "[ports.deaf]\nssh_port = 1001\n";
    assert_eq!(story(deaf, deaf, &["deaf"], &["deaf"]), "restart console@deaf.socket");
    assert_eq!(story(deaf, deaf, &["deaf"], &[]), "restart console@deaf.socket");
}

#[test]
fn a_source_comes_changes_and_goes() {
    let tcp = format!("{A}source = \"tcp:ts1:7001\"\n");
    assert_eq!(
        story("", &tcp, &["a"], &[]),
        "probe [::]:1001\ndaemon-reload\nstart console-attach@a.socket\nstart console@a.socket\nstart console@a.service"
    );
    assert_eq!(story(A, &tcp, &["a"], &[]), "daemon-reload\nstart console@a.service");
    assert_eq!(story(A, &tcp, &["a"], &["a"]), "daemon-reload\nstart console-source@a.socket\napply a");
    let other = tcp.replace("7001", "7002");
    assert_eq!(story(&tcp, &other, &["a"], &["a"]), "daemon-reload\napply a");
    assert_eq!(story(&tcp, A, &["a"], &["a"]), "daemon-reload\nstop console-source@a.socket\napply a");
    assert_eq!(
        story(&tcp, "", &["a"], &["a"]),
        "daemon-reload\nstop console@a.socket\nstop console-attach@a.socket\nstop console@a.service\n\
         stop console-source@a.socket"
    );
}

#[test]
fn a_device_changes() {
    let there = format!("{A}device = \"/dev/there\"\n");
    assert_eq!(story(A, &there, &["a"], &["a"]), "daemon-reload\napply a");
    assert_eq!(story(A, &there, &["a"], &[]), "daemon-reload\nstart console@a.service");
    let watched = format!("[server]\nmonitor = \"/srv\"\n{A}");
    assert_eq!(story(A, &watched, &["a"], &[]), "daemon-reload\nstart console@a.path");
    assert_eq!(story(&watched, A, &["a"], &[]), "daemon-reload\nstop console@a.path");
}

#[test]
fn a_port_releases_a_tty_that_another_port_claims_and_gets_it_back() {
    let named = "[ports.ttyUSB0]\n";
    let both = format!("{named}[ports.p1]\ndevice = \"/dev/there\"\n");
    assert_eq!(
        story(named, &both, &["p1"], &["ttyUSB0"]),
        "release ttyUSB0\ndaemon-reload\nstart console-attach@p1.socket\nstart console@p1.service"
    );
    let gone =
        "daemon-reload\nstop console@p1.socket\nstop console-attach@p1.socket\nstop console@p1.service";
    assert_eq!(story(&both, named, &["p1"], &["p1"]), format!("{gone}\nstart console@ttyUSB0.service"));
    assert_eq!(story(&both, named, &["p1"], &["p1", "ttyUSB0"]), format!("{gone}\napply ttyUSB0"));
    // A port that was stopped stays stopped.
    let (both, named) = (both.replace("ttyUSB0", "stopped"), "[ports.stopped]\n");
    assert_eq!(story(&both, named, &["p1"], &["p1"]), gone);
}

#[test]
fn ports_that_release_a_tcp_port_are_reloaded_before_ports_that_claim_it() {
    let two = "[ports.a]\nssh_port = 1001\n[ports.b]\nssh_port = 1002\n";
    let chain = "[ports.a]\nssh_port = 1002\n[ports.b]\nssh_port = 1003\n";
    assert_eq!(
        story(two, chain, &["a", "b"], &["a", "b"]),
        "probe [::]:1003\ndaemon-reload\nrestart console@b.socket\nrestart console@a.socket"
    );
    let cli = "[server]\nssh_port = 1001\n[ports.a]\nssh_port = 1004\n[ports.b]\nssh_port = 1002\n";
    assert_eq!(
        story(two, cli, &["a"], &[]),
        "probe [::]:1004\ndaemon-reload\nrestart console@a.socket\nrestart console-cli.socket"
    );
    let swapped = "[ports.a]\nssh_port = 1002\n[ports.b]\nssh_port = 1001\n";
    assert_eq!(
        story(two, swapped, &["a", "b"], &["a", "b"]),
        "daemon-reload\nstop console@a.socket\nrestart console@b.socket\nrestart console@a.socket\n\
         start console@a.service\na released its TCP port before it got the new one: its device was closed for a moment"
    );
    // The first port waits for a cycle that it is not part of: stopping it would not break the cycle.
    let three = "[ports.a]\nssh_port = 1001\n[ports.b]\nssh_port = 1002\n[ports.c]\nssh_port = 1003\n";
    let behind = "[ports.a]\nssh_port = 1002\nlisten = [\"192.0.2.1\"]\n[ports.b]\nssh_port = 1003\n\
                  [ports.c]\nssh_port = 1002\nlisten = [\"192.0.2.2\"]\n";
    assert_eq!(
        story(three, behind, &["a", "b", "c"], &[]),
        "daemon-reload\nstop console@b.socket\nrestart console@a.socket\nrestart console@c.socket\nrestart console@b.socket\n\
         b released its TCP port before it got the new one: its device was closed for a moment"
    );
}

#[test]
fn a_port_that_was_edited_in_the_file_keeps_listening() {
    let two = format!("{A}[ports.b]\nssh_port = 1002\n");
    let edited = format!("{A}baud = 300\n[ports.b]\nssh_port = 1003\n");
    assert_eq!(
        story(&two, &edited, &["a"], &["a"]),
        "probe [::]:1003\ndaemon-reload\nrestart console@b.socket\napply a\n\
         b: listener moved as configured by an edit of the file that was not reloaded before"
    );
}

/// The steps of a reload after the file was edited from `old` to `new`: the running configuration
/// follows the file.
fn by_hand(old: &str, new: &str, active: &[&str]) -> String {
    let parse = |text| Config::parse(text, Path::new("t")).unwrap();
    let (old, new) = (parse(old), parse(new));
    let active: BTreeSet<PortName> = active.iter().map(|name| name.parse().unwrap()).collect();
    let now = Present {
        units: &generator::plan(&old, None, &Machine::at(Path::new("/"))),
        config: &new,
        active: &active,
        up: &BTreeSet::new(),
        fresh: &|_| false,
        open: &|name| old.ports.contains_key(name),
        deaf: &|_| false,
        requested: &BTreeSet::new(),
        leads: &|path| (path == Path::new("/dev/there")).then_some(7),
    };
    let all = new.ports.keys().cloned().collect();
    let Plan { daemon_reload, steps, apply, remarks, .. } = plan(&now, &new, &all);
    let mut lines: Vec<String> = daemon_reload.then(|| "daemon-reload".to_owned()).into_iter().collect();
    lines.extend(steps.iter().map(|step| step.to_string().replace("systemctl ", "")));
    lines.extend(apply.iter().map(|port| format!("apply {port}")));
    lines.extend(remarks);
    lines.join("\n")
}

/// `apt` and other programs run a daemon-reload between the edit and the reload.
#[test]
fn a_daemon_reload_before_the_reload_changes_nothing() {
    let new = Config::parse("[ports.b]\nssh_port = 1002\ndevice = \"/dev/there\"\n", Path::new("t")).unwrap();
    let up = BTreeSet::from(["a".parse().unwrap()]);
    let now = Present {
        units: &generator::plan(&new, None, &Machine::at(Path::new("/"))),
        config: &new,
        active: &up,
        up: &up,
        fresh: &|name| name.as_str() == "b",
        open: &|name| name.as_str() == "a",
        deaf: &|_| false,
        requested: &BTreeSet::new(),
        leads: &|_| Some(7),
    };
    let Plan { steps, remarks, .. } = plan(&now, &new, &new.ports.keys().cloned().collect());
    let steps: Vec<_> = steps.iter().map(|step| step.to_string().replace("systemctl ", "")).collect();
    assert_eq!(
        steps,
        [
            "stop console@a.socket",
            "stop console-attach@a.socket",
            "stop console@a.service",
            "start console-attach@b.socket",
            "start console@b.socket",
            "start console@b.service"
        ]
    );
    assert_eq!(remarks, ["a stopped: it was removed from the file"]);
}

#[test]
fn a_port_added_to_or_removed_from_the_file_is_started_or_stopped() {
    let renamed = "[ports.b]\nssh_port = 1001\ndevice = \"/dev/there\"\n";
    assert_eq!(
        by_hand(A, renamed, &["a"]),
        "daemon-reload\nstop console@a.socket\nstop console-attach@a.socket\nstop console@a.service\n\
         start console-attach@b.socket\nstart console@b.socket\nstart console@b.service\n\
         a stopped: it was removed from the file"
    );
    let local = format!("{A}[ports.b]\n");
    assert_eq!(by_hand(A, &local, &["a"]), "daemon-reload\nstart console-attach@b.socket\napply a");
    let faster = format!("{A}baud = 300\n");
    assert_eq!(by_hand(A, &faster, &["a"]), "apply a");
}

//! The page of Cockpit in a real Chromium: `cockpit-ws --local-session`, a private bus with `console-admin`, and a port with a device that
//! is hostile on demand. What needs real logins and a real systemd is in `tests/boot/container.d/95-cockpit`.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Command, Stdio};

#[path = "admin/bench.rs"]
#[allow(dead_code)] // Each test program uses its own part of this.
mod bench;
#[path = "support/rig.rs"]
mod rig;

use bench::Bench;
use rig::{Rig, until};

const WS: &str = "/usr/lib/cockpit/cockpit-ws";

/// Ends with its test.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Attacks by a device: on the clipboard, the title, a hyperlink, HTML, and a megabyte without a line end.
fn attack() -> Vec<u8> {
    let mut text = b"\x1b]52;c;b3duZWQ=\x07\x1b]0;owned\x07\x1b]2;owned\x1b\\\x1b]8;;https://example.invalid/\x1b\\link\x1b]8;;\x1b\\\
        \x1bP$qm\x1b\\\x1b_owned\x1b\\\x1b^owned\x1b\\\r\n<script>window.owned = 1</script><img src=x onerror=\"window.owned = 1\">\r\n"
        .to_vec();
    text.extend(std::iter::repeat_n(b'x', 1 << 20));
    text.extend_from_slice(b"\x1b[0m\r\nthe attack is over\r\n");
    text
}

/// More lines than the page shows of a search.
fn flood() -> Vec<u8> {
    let lines: String = (0..30_000).map(|line| format!("line {line} of many\r\n")).collect();
    (lines + "the flood is over\r\n").into_bytes()
}

/// A TCP port that is free at the time of the call.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn a_browser_types_at_a_hostile_device_and_commits_a_change() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let built = Command::new("bash").arg(root.join("tests/tools/build-cockpit")).status().unwrap();
    assert!(built.success(), "tests/tools/build-cockpit (packages nodejs and npm)");

    let mut rig = Rig::new("");
    let port = format!(
        "[ports.demo]\ngroups = [\"*\"]\ndevice = \"{}\"\ndescription = '<b onmouseover=\"alert(1)\">core</b>'\n[ports.gone]\n",
        rig.path("dev/demo").display()
    );
    rig.configure(&port);
    rig.start_plugged();
    let mut device = rig.device();
    std::thread::spawn(move || {
        let (mut heard, mut piece) = (Vec::new(), [0; 4096]);
        while let Ok(count @ 1..) = device.read(&mut piece) {
            heard.extend_from_slice(&piece[..count]);
            let answer = match &heard[..] {
                heard if heard.ends_with(b"attack") => attack(),
                heard if heard.ends_with(b"flood") => flood(),
                _ => piece[..count].to_vec(),
            };
            if device.write_all(&answer).is_err() {
                return;
            }
        }
    });

    let tokio = tokio::runtime::Runtime::new().unwrap();
    let bench = tokio.block_on(Bench::new(&port));
    let room = bench.room.path();
    symlink(rig.path("run/attach"), room.join("run/consoleserver/attach")).unwrap();
    // The other one runs, as far as systemd knows, and does not answer.
    bench.running.lock().unwrap().extend(["demo", "gone"].map(|port| format!("console@{port}.service")));
    // Without this mark of a `consoleserver` in a terminal, consolectl takes the port for one of systemd's.
    fs::remove_dir_all(rig.path("run/running")).unwrap();
    // Packages of Cockpit are found in XDG_DATA_DIRS.
    fs::create_dir_all(room.join("share/cockpit")).unwrap();
    symlink(root.join("cockpit/dist"), room.join("share/cockpit/consoleserver")).unwrap();
    let programs = Path::new(env!("CARGO_BIN_EXE_consolectl")).parent().unwrap();
    let tcp = free_port();
    let _cockpit = Ended(
        // A /run of its own, in which the port's socket is where consolectl expects it.
        Command::new("unshare")
            .args(["--mount", "--kill-child", "--fork", "sh", "-e", "-c"])
            .arg("mount -t tmpfs tmpfs /run; mkdir /run/consoleserver; mount --bind \"$0\" /run/consoleserver; exec \"$@\"")
            .arg(rig.path("run"))
            .arg(WS)
            .args(["--no-tls", "--address=127.0.0.1", "--local-session=cockpit-bridge"])
            .arg(format!("--port={tcp}"))
            .env("DBUS_SYSTEM_BUS_ADDRESS", bench.client_address())
            .env("XDG_DATA_DIRS", format!("{}:/usr/share", room.join("share").display()))
            .env("PATH", format!("{}:{}", programs.display(), std::env::var("PATH").unwrap()))
            .env("HOME", room)
            .stdin(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{WS} (package cockpit-ws): {error}")),
    );
    until("cockpit-ws to listen", || TcpStream::connect(("127.0.0.1", tcp)).ok());

    let browsed = Command::new("node")
        .arg(root.join("cockpit/test/local.mjs"))
        .env("URL", format!("http://127.0.0.1:{tcp}"))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said =
        String::from_utf8_lossy(&browsed.stdout).into_owned() + &String::from_utf8_lossy(&browsed.stderr);
    println!("{said}");
    assert!(browsed.status.success(), "{said}");
    assert!(bench.committed().contains("bytesize = 7"), "{}", bench.committed());

    let ports = tokio.block_on(async { bench.manager().await.running_ports().await.unwrap() });
    let [demo, gone] = &ports[..] else { panic!("{ports:?}") };
    assert_eq!((&*demo.name, &*demo.state), ("demo", "open"));
    assert!(demo.counters["received"] > 1 << 20 && demo.counters["sent"] > 0, "{demo:?}");
    assert_eq!((&*gone.name, gone.counters.len(), gone.sessions.len()), ("gone", 0, 0));
    assert!(gone.state.contains("gone"), "{gone:?}");
}

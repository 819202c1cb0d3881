#![allow(dead_code)] // Each test program uses its own part of this.
//! systemd's part for the dialer of a bench: a listening socket at which the real `console-dial` is started for each process of the port, and
//! started again after it has ended.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use command_fds::{CommandFdExt, FdMapping};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket};

/// The listening socket, and the thread that starts the dialer.
pub struct Dialers {
    stop: Arc<AtomicBool>,
    child: Arc<Mutex<Option<Child>>>,
    /// How often a dialer was started.
    pub started: Arc<AtomicU32>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Dialers {
    /// Listens for the port `demo` of this bench. `arguments` follow the name of the port.
    pub fn new(run: &Path, arguments: &[&str]) -> Self {
        let directory = run.join("source/demo");
        std::fs::create_dir_all(&directory).unwrap();
        let path = directory.join("socket");
        let _ = std::fs::remove_file(&path);
        let listener =
            socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None).unwrap();
        bind(std::os::fd::AsRawFd::as_raw_fd(&listener), &UnixAddr::new(&path).unwrap()).unwrap();
        listen(&listener, Backlog::new(8).unwrap()).unwrap();
        let arguments: Vec<String> = arguments.iter().map(|&word| word.to_owned()).collect();
        let stop = Arc::new(AtomicBool::new(false));
        let child = Arc::new(Mutex::new(None));
        let started = Arc::new(AtomicU32::new(0));
        let thread = {
            let (stop, child, started) = (stop.clone(), child.clone(), started.clone());
            std::thread::spawn(move || activate(&listener, &arguments, &stop, &child, &started))
        };
        Self { stop, child, started, thread: Some(thread) }
    }

    pub fn kill(&self) {
        if let Some(child) = self.child.lock().unwrap().as_mut() {
            child.kill().unwrap();
        }
    }
}

impl Drop for Dialers {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.kill();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

fn activate(
    listener: &OwnedFd,
    arguments: &[String],
    stop: &AtomicBool,
    current: &Mutex<Option<Child>>,
    started: &AtomicU32,
) {
    while !stop.load(Ordering::Relaxed) {
        let running = match current.lock().unwrap().as_mut() {
            Some(child) => child.try_wait().unwrap().is_none(),
            None => false,
        };
        if running {
            std::thread::sleep(Duration::from_millis(5));
            continue;
        }
        *current.lock().unwrap() = None;
        let mut asked = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
        if poll(&mut asked, PollTimeout::from(20u8)).unwrap() > 0 {
            *current.lock().unwrap() = Some(start(listener, arguments).unwrap());
            started.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn start(listener: &OwnedFd, arguments: &[String]) -> io::Result<Child> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_console-dial"));
    command
        .arg("demo")
        .args(arguments)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("LISTEN_FDS", "1")
        .stdin(Stdio::null());
    let mapping = FdMapping { parent_fd: listener.try_clone()?, child_fd: 3 };
    command.fd_mappings(vec![mapping]).unwrap();
    command.spawn()
}

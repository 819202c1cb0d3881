#![allow(dead_code)] // Each test program uses its own part of this.
//! A client program: types input, and checks output and exit status.

use std::io::Write;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::rig::{collect, until};

/// Of the output of a client that a failed test prints.
const MAX_PRINTED_BYTES: usize = 4096;

/// A client program with pipes at its three ends. OpenSSH with `-tt` takes its `~` escapes from a pipe as well.
pub struct Client {
    child: Child,
    stdin: Option<ChildStdin>,
    shown: Arc<Mutex<Vec<u8>>>,
    aside: Arc<Mutex<Vec<u8>>>,
    /// How much of the output has been checked.
    seen: usize,
}

impl Client {
    pub fn start(mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let shown = collect(child.stdout.take().unwrap());
        let aside = collect(child.stderr.take().unwrap());
        Self { stdin: child.stdin.take(), child, shown, aside, seen: 0 }
    }

    pub fn type_in(&mut self, bytes: impl AsRef<[u8]>) {
        let stdin = self.stdin.as_mut().expect("its input has ended");
        stdin.write_all(bytes.as_ref()).unwrap();
        stdin.flush().unwrap();
    }

    /// Types into it from another thread.
    pub fn take_input(&mut self) -> ChildStdin {
        self.stdin.take().expect("its input has ended")
    }

    pub fn end_input(&mut self) {
        self.stdin = None;
    }

    /// Everything on standard output so far.
    pub fn shown(&self) -> Vec<u8> {
        self.shown.lock().unwrap().clone()
    }

    /// Everything on standard error so far.
    pub fn aside(&self) -> String {
        String::from_utf8_lossy(&self.aside.lock().unwrap()).into_owned()
    }

    /// Waits until `words` are shown after those of the last call; returns the text between them.
    #[track_caller]
    pub fn sees(&mut self, words: &str) -> String {
        let mut last = String::new();
        let caller = std::panic::Location::caller();
        let what = format!("{words:?} at the client ({caller})");
        let found = until(&what, || {
            let shown = self.shown.lock().unwrap();
            let new = &shown[self.seen..];
            last = String::from_utf8_lossy(new).into_owned();
            let at = new.windows(words.len()).position(|part| part == words.as_bytes())?;
            Some((String::from_utf8_lossy(&new[..at]).into_owned(), at + words.len()))
        });
        self.seen += found.1;
        found.0
    }

    /// Waits until `words` are on standard error.
    #[track_caller]
    pub fn is_told(&self, words: &str) {
        until(&format!("{words:?} on standard error"), || self.aside().contains(words).then_some(()));
    }

    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id() as i32)
    }

    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap();
    }

    /// Waits until it ends by itself, and until all its output is read.
    #[track_caller]
    pub fn ends(&mut self) -> ExitStatus {
        let child = &mut self.child;
        let status = until("the client to end", || child.try_wait().unwrap());
        // A thread that collects holds the other reference.
        let read = |into: &Arc<_>| Arc::strong_count(into) == 1;
        until("the end of its output", || (read(&self.shown) && read(&self.aside)).then_some(()));
        status
    }

    /// [`Self::ends_with`] 0, with a longer timeout.
    #[track_caller]
    pub fn ends_within(&mut self, time: std::time::Duration) {
        let deadline = std::time::Instant::now() + time;
        while !self.has_ended() && std::time::Instant::now() < deadline {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        self.ends_with(0);
    }

    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits until it ends with this exit status.
    #[track_caller]
    pub fn ends_with(&mut self, code: i32) {
        let status = self.ends();
        let shown = self.shown();
        let shown = String::from_utf8_lossy(&shown);
        assert_eq!(status.code(), Some(code), "shown: {shown}\naside: {}", self.aside());
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let shown = self.shown();
            let last = &shown[shown.len().saturating_sub(MAX_PRINTED_BYTES)..];
            // A client that was killed may have left standard error non-blocking: `eprintln!` would panic, and abort.
            let _ = writeln!(
                std::io::stderr(),
                "a client was shown {} bytes, at last {:?}, and told {:?}",
                shown.len(),
                String::from_utf8_lossy(last),
                self.aside()
            );
        }
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#![allow(unsafe_code)] // The union in which the kernel describes a system call.
//! A debugger's view of a process: it runs to a system call, then instruction by instruction, and is killed at any of them.
//! All threads are stepped, and the instructions of all are counted.

use std::collections::HashSet;
use std::fs;
use std::time::{Duration, Instant};

use nix::libc;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// No wait takes this long when it works.
const TIMEOUT: Duration = Duration::from_secs(30);
/// A process of which no thread runs for this long has finished: longer than its timers on the way of a byte.
const IDLE: Duration = Duration::from_millis(250);

/// A traced process. Only the thread that has seized it may make calls.
pub struct Stepper {
    leader: Pid,
    threads: HashSet<Pid>,
    /// Stopped at the system call that was waited for.
    held: Option<Pid>,
}

impl Stepper {
    /// Attaches to all threads of a running process, which continues.
    pub fn seize(leader: Pid) -> Self {
        let options = Options::PTRACE_O_TRACECLONE | Options::PTRACE_O_TRACESYSGOOD;
        let mut threads = HashSet::new();
        for entry in fs::read_dir(format!("/proc/{leader}/task")).unwrap() {
            let thread = Pid::from_raw(entry.unwrap().file_name().to_str().unwrap().parse().unwrap());
            // A thread of the pool may just have ended.
            if thread == leader || ptrace::seize(thread, options).is_ok() {
                threads.insert(thread);
            }
        }
        ptrace::seize(leader, options).unwrap();
        for thread in &threads {
            let _ = ptrace::interrupt(*thread);
        }
        Self { leader, threads, held: None }
    }

    /// Runs until a thread is about to make a system call that is `wanted`, by its number and arguments.
    #[track_caller]
    pub fn run_to(&mut self, what: &str, wanted: impl Fn(u64, [u64; 6]) -> bool) {
        let deadline = Instant::now() + TIMEOUT;
        while Instant::now() < deadline {
            let Some(status) = self.next(Duration::from_millis(100)) else { continue };
            if let WaitStatus::PtraceSyscall(thread) = status {
                let info = ptrace::syscall_info(thread).unwrap();
                if info.op == libc::PTRACE_SYSCALL_INFO_ENTRY {
                    // SAFETY: `op` selects the member of the union.
                    let entry = unsafe { info.u.entry };
                    if wanted(entry.nr, entry.args) {
                        self.held = Some(thread);
                        return;
                    }
                }
            }
            resume(status, ptrace::syscall);
        }
        panic!("waited {} s for {what}", TIMEOUT.as_secs());
    }

    /// Continues by that many instructions, or until nothing is left to do; returns their number.
    pub fn step(&mut self, most: u64) -> u64 {
        let mut steps = 0;
        if most == 0 {
            return 0;
        }
        if let Some(held) = self.held.take() {
            ptrace::step(held, None).unwrap();
        }
        while let Some(status) = self.next(IDLE) {
            steps += u64::from(matches!(status, WaitStatus::Stopped(_, Signal::SIGTRAP)));
            if steps == most {
                break;
            }
            resume(status, ptrace::step);
        }
        steps
    }

    /// `kill -9`, wherever it is. It is reaped here, since its parent could not before its threads are.
    pub fn kill(self) {
        drop(self);
    }

    fn next(&mut self, timeout: Duration) -> Option<WaitStatus> {
        // Waits for this thread's children and tracees only: others may have their own.
        let flags = WaitPidFlag::__WALL | WaitPidFlag::WNOHANG | WaitPidFlag::__WNOTHREAD;
        let began = Instant::now();
        let mut tries = 0;
        loop {
            match waitpid(None::<Pid>, Some(flags)).unwrap() {
                WaitStatus::StillAlive if began.elapsed() >= timeout => return None,
                WaitStatus::StillAlive if tries < 100 => {
                    tries += 1;
                    std::thread::yield_now();
                }
                WaitStatus::StillAlive => std::thread::sleep(Duration::from_micros(50)),
                WaitStatus::Exited(thread, _) | WaitStatus::Signaled(thread, ..) => {
                    assert!(thread != self.leader, "the process has ended by itself");
                    self.threads.remove(&thread);
                }
                status => {
                    self.threads.extend(status.pid());
                    return Some(status);
                }
            }
        }
    }
}

impl Drop for Stepper {
    fn drop(&mut self) {
        // Fails if it has ended by itself, which was reported.
        let _ = kill(self.leader, Signal::SIGKILL);
        let flags = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
        while let Ok(status) = waitpid(None::<Pid>, Some(flags)) {
            if matches!(status, WaitStatus::Exited(..) | WaitStatus::Signaled(..))
                && status.pid() == Some(self.leader)
            {
                break;
            }
        }
    }
}

/// Resumes a stopped thread, with the signal that it was stopped for.
fn resume(status: WaitStatus, how: fn(Pid, Option<Signal>) -> nix::Result<()>) {
    let (thread, signal) = match status {
        WaitStatus::Stopped(thread, Signal::SIGTRAP) => (thread, None),
        WaitStatus::Stopped(thread, signal) => (thread, Some(signal)),
        WaitStatus::PtraceEvent(thread, ..) | WaitStatus::PtraceSyscall(thread) => (thread, None),
        other => panic!("{other:?}"),
    };
    match how(thread, signal) {
        // Another thread is ending it.
        Ok(()) | Err(nix::Error::ESRCH) => {}
        Err(error) => panic!("{thread}: {error}"),
    }
}

//! `send` and `expect` at several ports: concurrency, and a line of result per port.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

use super::lines::{Lines, presentable};
use crate::attach::client::{self, AttachError};
use crate::cli::endpoint::Endpoint;
use crate::cli::error::CommandError;
use crate::cli::stdout::{Stdout, print_error};
use crate::exec::{Command, EXIT_DONE, EXIT_FAILED};
use crate::port::PortName;
use crate::port::pattern::fold;
use crate::session::plain;

/// Ports that run a command concurrently: each may have to be started for it.
const AT_ONCE: usize = 16;
/// Bytes of a port's output that are buffered until it is complete, so that the outputs of several ports are not interleaved.
const ANSWER_LIMIT: usize = 256 * 1024;

/// Calls `act` for each port on up to `at_once` threads, and `done` on this thread with each result as it arrives.
pub(super) fn each<T: Send>(
    ports: &[PortName],
    at_once: usize,
    act: impl Fn(&PortName) -> T + Sync,
    mut done: impl FnMut(&PortName, T) -> io::Result<()>,
) -> io::Result<()> {
    let (next, stopped) = (AtomicUsize::new(0), AtomicBool::new(false));
    let (answer, answers) = mpsc::sync_channel(at_once);
    thread::scope(|scope| {
        for _ in 0..ports.len().min(at_once) {
            let (answer, next, stopped, act) = (answer.clone(), &next, &stopped, &act);
            scope.spawn(move || {
                while !stopped.load(Ordering::Relaxed)
                    && let index = next.fetch_add(1, Ordering::Relaxed)
                    && let Some(port) = ports.get(index)
                {
                    if answer.send((index, act(port))).is_err() {
                        break;
                    }
                }
            });
        }
        drop(answer);
        let result = answers.iter().try_for_each(|(index, came)| done(&ports[index], came));
        stopped.store(true, Ordering::Relaxed);
        drop(answers);
        result
    })
}

struct Answer {
    output: Bounded,
    /// The standard error of the command.
    words: Vec<u8>,
    came: Result<u8, AttachError>,
}

/// Keeps the beginning of what is written to it.
#[derive(Default)]
struct Bounded {
    bytes: Vec<u8>,
    left_out: usize,
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let kept = bytes.len().min(ANSWER_LIMIT - self.bytes.len());
        self.bytes.extend_from_slice(&bytes[..kept]);
        self.left_out += bytes.len() - kept;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Runs `send` or `expect` at several ports, and prints for each a line of result and the output of the device: the exit code. `success`:
/// the result line of a port that succeeds.
pub(super) fn run(
    endpoint: &Endpoint,
    ports: &[PortName],
    command: &Command,
    success: &str,
) -> Result<u8, CommandError> {
    let mut stdout = Stdout::new();
    let mut failed = Vec::new();
    let ask = |port: &PortName| {
        let (mut output, mut words) = (Bounded::default(), Vec::new());
        let ran = client::run(&endpoint.runtime, port, command.clone(), &mut output, &mut words);
        Answer { output, words, came: ran.map(|ran| ran.status) }
    };
    each(ports, AT_ONCE, ask, |port, Answer { output, words, came }| {
        let words = String::from_utf8_lossy(&words);
        let words = words.lines().map(|line| without_name(line, port)).collect::<Vec<_>>().join("; ");
        let result = match came {
            Ok(EXIT_DONE) if words.is_empty() => success.to_owned(),
            Ok(EXIT_DONE) => format!("{success}; {words}"),
            Ok(_) => words,
            Err(ref error) => error.to_string(),
        };
        if !matches!(came, Ok(EXIT_DONE)) {
            failed.push(port.clone());
        }
        writeln!(stdout, "{port}: {}", plain(without_name(&result, port)))?;
        for line in readable(&output) {
            stdout.write_all(b"    ")?;
            stdout.write_all(&line)?;
            stdout.write_all(b"\n")?;
        }
        stdout.flush()
    })?;
    stdout.end()?;
    Ok(summary(&mut failed, ports.len()))
}

/// Reports the ports that failed: the exit code.
pub(super) fn summary(failed: &mut [PortName], of: usize) -> u8 {
    if failed.is_empty() {
        return EXIT_DONE;
    }
    failed.sort();
    print_error(&format_args!("consolectl: failed at {} of {of} ports: {}", failed.len(), fold(failed)));
    EXIT_FAILED
}

/// A message of a port without the port's name in front.
fn without_name<'w>(words: &'w str, port: &PortName) -> &'w str {
    words.strip_prefix(port.as_str()).and_then(|rest| rest.strip_prefix(": ")).unwrap_or(words)
}

fn readable(Bounded { bytes, left_out }: &Bounded) -> Vec<Vec<u8>> {
    let (mut lines, mut found) = (Lines::default(), Vec::new());
    lines.feed(bytes, &mut found);
    lines.end(&mut found);
    let mut shown: Vec<_> = found.iter().filter_map(|(_, line)| presentable(line, false)).collect();
    if *left_out > 0 {
        shown.push(format!("[{left_out} more bytes are in the log]").into_bytes());
    }
    shown
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    fn ports(count: usize) -> Vec<PortName> {
        (0..count).map(|number| format!("p{number}").parse().unwrap()).collect()
    }

    #[test]
    fn each_port_is_queried_once_and_concurrency_is_bounded() {
        let ports = ports(100);
        let (at_once, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let ask = |port: &PortName| {
            most.fetch_max(at_once.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            thread::yield_now();
            at_once.fetch_sub(1, Ordering::SeqCst);
            port.clone()
        };
        let results = Mutex::new(Vec::new());
        each(&ports, AT_ONCE, ask, |port, came| {
            assert_eq!(*port, came);
            results.lock().unwrap().push(came);
            Ok(())
        })
        .unwrap();
        let mut results = results.into_inner().unwrap();
        results.sort();
        assert_eq!(results, ports);
        assert!(most.into_inner() <= AT_ONCE);
    }

    #[test]
    fn a_closed_output_stops_the_remaining_ports() {
        let asked = AtomicUsize::new(0);
        let ask = |_: &PortName| asked.fetch_add(1, Ordering::SeqCst);
        let error =
            each(&ports(1000), AT_ONCE, ask, |_, _| Err(io::ErrorKind::BrokenPipe.into())).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        // Requests in progress, and those whose result was queued.
        assert!(asked.into_inner() <= 3 * AT_ONCE + 1);
    }

    #[test]
    fn output_is_bounded_and_printed_as_lines() {
        let mut answer = Bounded::default();
        answer.write_all(b"show clock\r\n\x1b[1m12:00\x1b[0m\r\nswitch#").unwrap();
        let lines = |answer: &Bounded| {
            readable(answer).into_iter().map(|line| String::from_utf8(line).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(lines(&answer), ["show clock", "12:00", "switch#"]);
        answer.write_all(&vec![b'x'; 2 * ANSWER_LIMIT]).unwrap();
        assert_eq!(answer.bytes.len(), ANSWER_LIMIT);
        let left_out = ANSWER_LIMIT + b"show clock\r\n\x1b[1m12:00\x1b[0m\r\nswitch#".len();
        assert_eq!(lines(&answer).pop().unwrap(), format!("[{left_out} more bytes are in the log]"));
    }
}

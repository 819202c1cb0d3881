//! `watch`: prints the output of several ports, each line prefixed with the name of its port. Each port has a read-only session, which is
//! re-attached with a notice when it ends.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Effects, Style};
use tokio::io::AsyncWriteExt;
use tokio::runtime::Builder;
use tokio::sync::{Semaphore, mpsc};

use super::denials::Denials;
use super::lines::{LINE_LIMIT, Lines, Mark, presentable};
use crate::attach::client::AttachError;
use crate::attach::watch::{WatchEvent, Watched};
use crate::cli::endpoint::Endpoint;
use crate::cli::error::CommandError;
use crate::cli::local;
use crate::cli::stdout::{end_if_closed, end_when_closed, print_error};
use crate::exec::EXIT_FAILED;
use crate::port::{PortName, PortPattern};
use crate::session::plain;
use crate::system::lock::Lock;

/// An incomplete line, such as a prompt, is printed after this much silence.
const FLUSH_AFTER: Duration = Duration::from_millis(500);
/// Lines that wait to be printed. While the output is blocked, the sessions are not read, and the ports skip ahead.
const LINE_QUEUE: usize = 64;
/// Concurrent attach requests: each may have to start its port.
const AT_ONCE: usize = 16;
/// Before a re-attach: the first delay and the longest.
const RETRY_BACKOFF: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(10)];

/// Colours of port names, so that neighbours differ.
const COLOURS: [AnsiColor; 6] = [
    AnsiColor::Cyan,
    AnsiColor::Green,
    AnsiColor::Yellow,
    AnsiColor::Magenta,
    AnsiColor::Blue,
    AnsiColor::BrightCyan,
];

#[derive(Debug)]
struct Printed {
    /// The index of the port.
    port: usize,
    mark: Mark,
    text: Vec<u8>,
}

/// Watches until interrupted, or until no port is left: the exit code.
pub fn run(endpoint: &Endpoint, ports: &[PortPattern], raw: bool) -> Result<u8, CommandError> {
    let all = ports.is_empty();
    let ports = match all {
        true => local::served(&endpoint.runtime)?,
        false => endpoint.selections(ports)?,
    };
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(watch(endpoint.runtime.clone(), ports, all, raw))
}

async fn watch(runtime: PathBuf, ports: Vec<PortName>, all: bool, raw: bool) -> Result<u8, CommandError> {
    let colour = AutoStream::choice(&io::stdout()) != ColorChoice::Never;
    let labels: Vec<String> =
        ports.iter().enumerate().map(|(number, port)| label(number, port, colour)).collect();
    let (to_print, mut queued) = mpsc::channel(LINE_QUEUE);
    let turns = Arc::new(Semaphore::new(AT_ONCE));
    let denials = Arc::new(Mutex::new(Denials::default()));
    for (number, port) in ports.into_iter().enumerate() {
        let follower = Follower {
            runtime: runtime.clone(),
            port,
            number,
            denials: all.then(|| denials.clone()),
            to_print: to_print.clone(),
            turns: turns.clone(),
        };
        tokio::spawn(follower.run(raw));
    }
    drop(to_print);
    let mut stdout = tokio::io::stdout();
    end_when_closed();
    while let Some(first) = queued.recv().await {
        let mut out = Vec::new();
        show(&labels, &first, &mut out);
        // Queued lines are written together.
        while out.len() < LINE_LIMIT
            && let Ok(next) = queued.try_recv()
        {
            show(&labels, &next, &mut out);
        }
        stdout.write_all(&out).await.map_err(end_if_closed)?;
        stdout.flush().await.map_err(end_if_closed)?;
    }
    match denials.locked().of_all(labels.len()) {
        Some(why) => print_error(&format_args!("consolectl: {why}")),
        None => print_error(&"consolectl: no ports left to watch"),
    }
    Ok(EXIT_FAILED)
}

fn label(number: usize, port: &PortName, colour: bool) -> String {
    let style = Style::new().fg_color(Some(COLOURS[number % COLOURS.len()].into())).effects(Effects::BOLD);
    if colour { format!("{style}{port}{style:#}") } else { port.to_string() }
}

fn show(labels: &[String], Printed { port, mark, text }: &Printed, out: &mut Vec<u8>) {
    out.extend_from_slice(labels[*port].as_bytes());
    out.extend_from_slice(mark.as_str().as_bytes());
    out.extend_from_slice(text);
    out.push(b'\n');
}

/// Follows one port.
struct Follower {
    runtime: PathBuf,
    port: PortName,
    number: usize,
    /// Where a denial is noted. If `None`, a denial is printed: the user named this port.
    denials: Option<Arc<Mutex<Denials>>>,
    to_print: mpsc::Sender<Printed>,
    turns: Arc<Semaphore>,
}

struct OutputClosed;

impl Follower {
    async fn run(self, raw: bool) {
        // The program ends with its output.
        let _: Result<(), OutputClosed> = self.follow(raw).await;
    }

    /// Runs until an administrator disconnects the session, or the port denies access.
    async fn follow(&self, raw: bool) -> Result<(), OutputClosed> {
        let mut trouble: Option<String> = None;
        let mut attached_before = false;
        let mut pause = RETRY_BACKOFF[0];
        loop {
            let attached = {
                let _turn = self.turns.acquire().await;
                Watched::attach(&self.runtime, &self.port).await
            };
            match attached {
                Ok(mut watched) => {
                    if attached_before || trouble.is_some() {
                        self.note("[re-attached]").await?;
                    }
                    (attached_before, trouble, pause) = (true, None, RETRY_BACKOFF[0]);
                    if let WatchEvent::Disconnected = self.session(&mut watched, raw).await? {
                        return Ok(());
                    }
                }
                // Retrying does not help against missing permission.
                Err(AttachError::Rejected(why)) if !attached_before => {
                    let Some(denials) = &self.denials else {
                        return self.note(&format!("[{why}]")).await;
                    };
                    denials.locked().add(why);
                    return Ok(());
                }
                Err(error) => {
                    let why = error.to_string();
                    if trouble.as_ref() != Some(&why) {
                        self.note(&format!("[{why}; retrying]")).await?;
                        trouble = Some(why);
                    }
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RETRY_BACKOFF[1]);
        }
    }

    /// Prints one session: how it ended.
    async fn session(&self, watched: &mut Watched, raw: bool) -> Result<WatchEvent, OutputClosed> {
        let mut lines = Lines::default();
        loop {
            let mut found = Vec::new();
            let next = match lines.is_unfinished() {
                true => tokio::time::timeout(FLUSH_AFTER, watched.next()).await.ok(),
                false => Some(watched.next().await),
            };
            let (words, over) = match next {
                None => {
                    lines.flush(&mut found);
                    (None, None)
                }
                Some(Ok(WatchEvent::Bytes(bytes))) => {
                    lines.feed(&bytes, &mut found);
                    (None, None)
                }
                Some(Ok(WatchEvent::Notice(words))) => {
                    lines.end(&mut found);
                    (Some(words), None)
                }
                Some(Ok(over)) => (None, Some(over)),
                Some(Err(error)) => (Some(format!("[{error}]")), Some(WatchEvent::Closed)),
            };
            if over.is_some() {
                lines.end(&mut found);
            }
            for (mark, line) in found {
                if let Some(text) = presentable(&line, raw) {
                    self.print(mark, text).await?;
                }
            }
            if let Some(words) = words {
                self.note(&words).await?;
            }
            if let Some(over) = over {
                return Ok(over);
            }
        }
    }

    async fn note(&self, words: &str) -> Result<(), OutputClosed> {
        self.print(Mark::Note, plain(words).into_bytes()).await
    }

    async fn print(&self, mark: Mark, text: Vec<u8>) -> Result<(), OutputClosed> {
        let queued = Printed { port: self.number, mark, text };
        self.to_print.send(queued).await.map_err(|_| OutputClosed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_are_coloured() {
        let port: PortName = "core".parse().unwrap();
        assert_eq!(label(0, &port, false), "core");
        assert_eq!(label(0, &port, true), "\x1b[1m\x1b[36mcore\x1b[0m");
        assert_ne!(label(0, &port, true), label(1, &port, true));
    }
}

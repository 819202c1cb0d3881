//! `watch`: what many ports say, each line behind the name of its port. A session a port, read-only; one that ends is begun again,
//! and that is printed. `lines` cuts a device's bytes into lines (pure).

use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Effects, Style};
use tokio::io::{AsyncWriteExt, Interest};
use tokio::runtime::Builder;
use tokio::sync::{Semaphore, mpsc};

use super::client::{CommandError, Place};
use super::local;
use super::stdout::complain;
use crate::attach::client::AttachError;
use crate::attach::watch::{Seen, Watched};
use crate::exec::FAILED;
use crate::port::PortName;
use crate::printable::{Visible, clean};
use crate::reactor;
use crate::session::plain;

/// A line that is not finished is shown after so much silence: a prompt, which never ends.
const FLUSH_AFTER: Duration = Duration::from_millis(500);
/// Bytes of a line that are kept; a longer one is shown in pieces. As in the text log.
const LINE_LIMIT: usize = 4096;
/// Lines that wait to be printed. While the output takes nothing, the ports' sessions wait, and skip ahead when they cannot any more.
const QUEUE: usize = 64;
/// Ports that are attached to at once: each may have to be started for it.
const AT_ONCE: usize = 16;
/// Before a session that has ended is begun again, at first and at last.
const RETRY: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(10)];

/// For the names of ports, so that neighbours differ.
const COLOURS: [AnsiColor; 6] = [
    AnsiColor::Cyan,
    AnsiColor::Green,
    AnsiColor::Yellow,
    AnsiColor::Magenta,
    AnsiColor::Blue,
    AnsiColor::BrightCyan,
];

/// What stands behind the name of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mark {
    /// A line, or its beginning.
    Line,
    /// A line goes on whose beginning was shown before it was finished.
    Continued,
    /// Words of the port's or of ours.
    Note,
}

impl Mark {
    fn as_str(self) -> &'static str {
        match self {
            Self::Line => ": ",
            Self::Continued => "+ ",
            Self::Note => "# ",
        }
    }
}

/// Something to print.
#[derive(Debug)]
struct Said {
    /// The number of the port among those that are watched.
    port: usize,
    mark: Mark,
    text: Vec<u8>,
}

/// Watches until the user leaves, or no port is left: the exit code.
pub fn run(place: &Place, ports: Vec<PortName>, raw: bool) -> Result<u8, CommandError> {
    let all = ports.is_empty();
    let ports = match all {
        true => local::served(&place.runtime)?,
        false => ports.iter().map(|port| place.whole(port)).collect::<Result<_, _>>()?,
    };
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(watch(place.runtime.clone(), ports, all, raw))
}

async fn watch(runtime: PathBuf, ports: Vec<PortName>, all: bool, raw: bool) -> Result<u8, CommandError> {
    let colour = AutoStream::choice(&io::stdout()) != ColorChoice::Never;
    let labels: Vec<String> =
        ports.iter().enumerate().map(|(number, port)| label(number, port, colour)).collect();
    let (to_print, mut said) = mpsc::channel(QUEUE);
    let turns = Arc::new(Semaphore::new(AT_ONCE));
    for (number, port) in ports.into_iter().enumerate() {
        let follower = Follower {
            runtime: runtime.clone(),
            port,
            number,
            quiet_if_refused: all,
            to_print: to_print.clone(),
            turns: turns.clone(),
        };
        tokio::spawn(follower.run(raw));
    }
    drop(to_print);
    let mut stdout = tokio::io::stdout();
    let closed = closed(io::stdout().as_fd().try_clone_to_owned()?);
    tokio::pin!(closed);
    loop {
        let next = tokio::select! {
            next = said.recv() => next,
            () = &mut closed => return Err(io::Error::from(io::ErrorKind::BrokenPipe).into()),
        };
        let Some(first) = next else { break };
        let mut out = Vec::new();
        show(&labels, &first, &mut out);
        // What waits besides is written with it.
        while out.len() < LINE_LIMIT
            && let Ok(next) = said.try_recv()
        {
            show(&labels, &next, &mut out);
        }
        stdout.write_all(&out).await?;
        stdout.flush().await?;
    }
    complain(&"consolectl: no port is left to watch");
    Ok(FAILED)
}

/// Resolves once nobody reads what is printed (a pipe); never for a file.
async fn closed(stdout: std::os::fd::OwnedFd) {
    match reactor::Watched::new(stdout, Interest::ERROR) {
        // The error of a pipe without a reader stays.
        Ok(stdout) => drop(stdout.ready(Interest::ERROR).await),
        Err(_) => std::future::pending().await,
    }
}

fn label(number: usize, port: &PortName, colour: bool) -> String {
    let style = Style::new().fg_color(Some(COLOURS[number % COLOURS.len()].into())).effects(Effects::BOLD);
    if colour { format!("{style}{port}{style:#}") } else { port.to_string() }
}

fn show(labels: &[String], Said { port, mark, text }: &Said, out: &mut Vec<u8>) {
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
    /// Whether it goes without saying that this user may not watch the port: all ports were meant, not this one.
    quiet_if_refused: bool,
    to_print: mpsc::Sender<Said>,
    turns: Arc<Semaphore>,
}

/// Nothing is printed any more.
struct OutputClosed;

impl Follower {
    async fn run(self, raw: bool) {
        // Closed: the program ends.
        let _: Result<(), OutputClosed> = self.follow(raw).await;
    }

    /// Until an administrator ends it, or the user may not watch the port.
    async fn follow(&self, raw: bool) -> Result<(), OutputClosed> {
        let mut trouble: Option<String> = None;
        let mut attached_before = false;
        let mut pause = RETRY[0];
        loop {
            let attached = {
                let _turn = self.turns.acquire().await;
                Watched::attach(&self.runtime, &self.port).await
            };
            match attached {
                Ok(mut watched) => {
                    if attached_before || trouble.is_some() {
                        self.note("[watched again]").await?;
                    }
                    (attached_before, trouble, pause) = (true, None, RETRY[0]);
                    if let Seen::Dismissed = self.session(&mut watched, raw).await? {
                        return Ok(());
                    }
                }
                // Without the right to it, waiting does not help.
                Err(AttachError::Refused(why)) if !attached_before => {
                    return if self.quiet_if_refused { Ok(()) } else { self.note(&format!("[{why}]")).await };
                }
                Err(error) => {
                    let why = error.to_string();
                    if trouble.as_ref() != Some(&why) {
                        self.note(&format!("[{why}; waiting for it]")).await?;
                        trouble = Some(why);
                    }
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RETRY[1]);
        }
    }

    /// One session: how it ended.
    async fn session(&self, watched: &mut Watched, raw: bool) -> Result<Seen, OutputClosed> {
        let mut lines = lines::Lines::default();
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
                Some(Ok(Seen::Bytes(bytes))) => {
                    lines.feed(&bytes, &mut found);
                    (None, None)
                }
                Some(Ok(Seen::Words(words))) => {
                    lines.end(&mut found);
                    (Some(words), None)
                }
                Some(Ok(over)) => (None, Some(over)),
                Some(Err(error)) => (Some(format!("[{error}]")), Some(Seen::Closed)),
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
        let said = Said { port: self.number, mark, text };
        self.to_print.send(said).await.map_err(|_| OutputClosed)
    }
}

/// A line as a person reads it, without anything that a terminal would obey; `None` if nothing of it can be read, as of one that
/// only sets the terminal's modes. As `log` shows a text log; `raw`: with the sequences, escaped.
fn presentable(line: &[u8], raw: bool) -> Option<Vec<u8>> {
    let read = if raw { line.to_vec() } else { clean(line) };
    if read.is_empty() && !line.is_empty() {
        return None;
    }
    let mut shown = Vec::with_capacity(read.len());
    let mut visible = Visible::default();
    visible.show(&read, &mut shown);
    visible.end(&mut shown);
    Some(shown)
}

mod lines {
    //! A device's bytes as lines. LF, CR LF and a CR alone end one: a progress bar and a device that ends its lines with CR send
    //! the same bytes.

    use super::{LINE_LIMIT, Mark};
    use crate::printable::unfinished;

    /// The line that is not finished.
    #[derive(Debug, Default)]
    pub(super) struct Lines {
        line: Vec<u8>,
        /// Whether the beginning of it was shown.
        shown: bool,
        /// Whether the last byte was a CR, which the next may belong to.
        after_cr: bool,
    }

    impl Lines {
        /// Whether there is something to show that waits for its end.
        pub(super) fn is_unfinished(&self) -> bool {
            !self.line.is_empty()
        }

        /// More has come: what can be shown now.
        pub(super) fn feed(&mut self, bytes: &[u8], found: &mut Vec<(Mark, Vec<u8>)>) {
            for &byte in bytes {
                match byte {
                    b'\n' => self.finish(found),
                    // A terminal does nothing for a NUL, and telnet sends one behind each CR.
                    b'\r' | 0 if self.after_cr => {}
                    b'\r' => self.after_cr = true,
                    _ => {
                        if self.after_cr {
                            self.finish(found);
                        }
                        self.line.push(byte);
                        if self.line.len() >= LINE_LIMIT {
                            self.flush(found);
                        }
                    }
                }
            }
        }

        /// Shows what there is of a line; the rest goes on behind it.
        pub(super) fn flush(&mut self, found: &mut Vec<(Mark, Vec<u8>)>) {
            // A character that is cut would be two wrong ones.
            let cut = self.line.len() - unfinished(&self.line);
            let cut = if cut == 0 { self.line.len() } else { cut };
            let rest = self.line.split_off(cut);
            let text = std::mem::replace(&mut self.line, rest);
            if !text.is_empty() {
                found.push((self.mark(), text));
                self.shown = true;
            }
        }

        /// Nothing follows in this line.
        pub(super) fn end(&mut self, found: &mut Vec<(Mark, Vec<u8>)>) {
            if !self.line.is_empty() {
                self.finish(found);
            }
            (self.shown, self.after_cr) = (false, false);
        }

        fn finish(&mut self, found: &mut Vec<(Mark, Vec<u8>)>) {
            let text = std::mem::take(&mut self.line);
            // Of a line that was shown as far as it went, only the end has come.
            if !self.shown || !text.is_empty() {
                found.push((self.mark(), text));
            }
            (self.shown, self.after_cr) = (false, false);
        }

        fn mark(&self) -> Mark {
            if self.shown { Mark::Continued } else { Mark::Line }
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        /// Lines as `watch` prints them, without their port.
        fn said(pieces: &[&[u8]], flushed: bool) -> String {
            let (mut lines, mut found) = (Lines::default(), Vec::new());
            for piece in pieces {
                lines.feed(piece, &mut found);
                if flushed {
                    lines.flush(&mut found);
                }
            }
            lines.end(&mut found);
            let show = |(mark, text): &(Mark, Vec<u8>)| {
                format!("{}{}\n", mark.as_str().trim_end(), String::from_utf8_lossy(text))
            };
            found.iter().map(show).collect()
        }

        #[test]
        fn lines_end_as_devices_end_them() {
            let text = b"one\r\ntwo\n\r\nthree\rfour\r\r\nfive\r\0six";
            let wanted = ":one\n:two\n:\n:three\n:four\n:five\n:six\n";
            assert_eq!(said(&[text], false), wanted);
            let single: Vec<&[u8]> = text.chunks(1).collect();
            assert_eq!(said(&single, false), wanted, "byte by byte");
        }

        #[test]
        fn a_line_that_is_shown_early_goes_on_and_ends_without_an_empty_one() {
            assert_eq!(said(&[b"login: ", b"root\r\n", b"ok\r\n"], true), ":login: \n+root\n:ok\n");
            assert_eq!(said(&[b"login: ", b"\r\n", b"ok"], true), ":login: \n:ok\n");
        }

        #[test]
        fn a_line_without_an_end_is_bounded_and_no_character_is_cut() {
            let endless = "é".repeat(LINE_LIMIT);
            let (mut lines, mut found) = (Lines::default(), Vec::new());
            // One byte before, so that the limit falls into a character.
            lines.feed(b"x", &mut found);
            for piece in endless.as_bytes().chunks(777) {
                lines.feed(piece, &mut found);
                assert!(lines.line.len() < LINE_LIMIT);
            }
            lines.end(&mut found);
            assert_eq!(found[0].0, Mark::Line);
            assert!(found[1..].iter().all(|(mark, _)| *mark == Mark::Continued));
            let text: String = found.iter().map(|(_, text)| std::str::from_utf8(text).unwrap()).collect();
            assert_eq!(text, format!("x{endless}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_not_shown() {
        let shown = |line: &[u8], raw| presentable(line, raw).map(|text| String::from_utf8(text).unwrap());
        assert_eq!(shown(b"[\x1b[0;32m  OK  \x1b[0m] C:\\temp", false).unwrap(), "[  OK  ] C:\\temp");
        assert_eq!(shown(b"\x1b[?2004l", false), None, "it only sets a mode");
        assert_eq!(shown(b"", false).unwrap(), "", "a line that is empty is one");
        assert_eq!(shown(b"a\x1b]0;title\x07b\x9b2J", false).unwrap(), "ab\\x9b2J");
        assert_eq!(shown("\u{202e}core: forged".as_bytes(), false).unwrap(), "\\u{202e}core: forged");
        assert_eq!(shown(b"\x1b[2Jx", true).unwrap(), "\\x1b[2Jx");
    }

    #[test]
    fn names_are_coloured_and_nothing_else() {
        let port: PortName = "core".parse().unwrap();
        assert_eq!(label(0, &port, false), "core");
        assert_eq!(label(0, &port, true), "\x1b[1m\x1b[36mcore\x1b[0m");
        assert_ne!(label(0, &port, true), label(1, &port, true));
    }
}

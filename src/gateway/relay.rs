//! Copies bytes between an SSH channel and its `consolectl`, on a terminal or on three pipes. Both directions have back-pressure: a client
//! that does not read stops reading from the program, and a program that does not read stops the client ([`Typed`]).

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;

use rustix::io::{Errno, ioctl_fionbio, read, write};
use rustix::termios::{SpecialCodeIndex, Winsize, tcgetattr, tcsetwinsize};
use tokio::io::Interest;
use tokio::sync::watch;

use crate::auth::client::{Ends, LoginError, Running};
use crate::auth::protocol::{Exit, WindowSize};
use crate::session::{Event, Gone, Outlet, QueuedInput};
use crate::ssh::{Screen, SshOutlet};
use crate::system::reactor::Watched;

/// Bytes sent at once: one SSH packet.
const READ_CHUNK: usize = 32 * 1024;

/// How the client's input ended.
enum Input {
    Gone,
    /// End of input, which detaches from a console.
    End,
}

/// Copies bytes until the program has ended and all its output was sent; `None` if the client disconnects before, which ends the program.
pub(super) async fn run(
    ends: Ends,
    mut running: Running,
    screen: &Option<Screen>,
    typed: QueuedInput,
    at_console: bool,
    outlet: SshOutlet,
) -> Option<Exit> {
    let begun = match ends {
        Ends::Terminal(terminal) => Relay::on_terminal(terminal),
        Ends::Pipes { input, output, aside } => Relay::on_pipes(input, output, aside),
    };
    let Relay { terminal, mut input, output, aside } = match begun {
        Ok(relay) => relay,
        Err(error) => {
            tracing::error!("session failed: {error}");
            return Some(Exit::Status(1));
        }
    };
    let output = terminal.as_ref().or(output.as_ref());
    let shown = async {
        // After the program has ended, the rest of its output is read. If the client disconnects, the program is ended.
        let all = tokio::try_join!(
            async { Ok(running.exited().await) },
            send_output(output, outlet.clone(), Stream::Output),
            send_output(aside.as_ref(), outlet.clone(), Stream::Aside),
        );
        all.ok().map(|(exit, (), ())| ended(exit))
    };
    tokio::select! {
        exit = shown => exit,
        end = send_input(terminal.as_ref(), &mut input, typed, at_console, outlet.clone()) => match end {
            Input::Gone => None,
            Input::End => Some(Exit::Status(0)),
        },
        () = follow(screen, terminal.as_ref()) => None,
    }
}

fn ended(exit: Result<Exit, LoginError>) -> Exit {
    exit.unwrap_or_else(|error| {
        tracing::error!("session failed: {error}");
        Exit::Status(1)
    })
}

/// Our ends of the program's descriptors.
struct Relay {
    terminal: Option<End>,
    input: Option<End>,
    output: Option<End>,
    aside: Option<End>,
}

impl Relay {
    fn on_terminal(terminal: OwnedFd) -> io::Result<Self> {
        Ok(Self { terminal: Some(End::new(terminal)?), input: None, output: None, aside: None })
    }

    fn on_pipes(input: OwnedFd, output: OwnedFd, aside: OwnedFd) -> io::Result<Self> {
        let [input, output, aside] = [input, output, aside].map(|end| End::new(end).map(Some));
        Ok(Self { terminal: None, input: input?, output: output?, aside: aside? })
    }
}

#[derive(Clone, Copy)]
enum Stream {
    Output,
    Aside,
}

/// Sends the program's output until it closes this end. Fails when the client has disconnected.
async fn send_output(end: Option<&End>, mut outlet: SshOutlet, stream: Stream) -> Result<(), Gone> {
    let Some(end) = end else { return Ok(()) };
    let mut piece = vec![0; READ_CHUNK];
    loop {
        let count = match end.read(&mut piece).await {
            Ok(count) => count,
            Err(error) => {
                tracing::warn!("cannot read from a session: {error}");
                0
            }
        };
        let bytes = piece[..count].to_vec();
        match stream {
            _ if bytes.is_empty() => return Ok(()),
            Stream::Output => outlet.send(bytes).await?,
            Stream::Aside => outlet.send_aside(bytes).await?,
        }
    }
}

/// Passes on the client's input, as fast as the program takes it. While the program takes none, input is still received, to detect that the
/// client disconnects: it waits here unsettled, which limits it.
async fn send_input(
    terminal: Option<&End>,
    input: &mut Option<End>,
    mut typed: QueuedInput,
    at_console: bool,
    mut outlet: SshOutlet,
) -> Input {
    let mut waiting = VecDeque::new();
    loop {
        let next = match waiting.pop_front() {
            Some(event) => Some(event),
            None => typed.next().await,
        };
        let Some(event) = next else { return Input::Gone };
        let weight = event.weight();
        match event {
            Event::Bytes(bytes) => {
                if let Some(end) = terminal.or(input.as_ref()) {
                    match while_receiving(&mut typed, &mut waiting, end.write_all(&bytes)).await {
                        Ok(Ok(())) => {}
                        // The program has closed its standard input, and may continue.
                        Ok(Err(_)) => *input = None,
                        Err(Gone) => return Input::Gone,
                    }
                }
            }
            Event::End => match terminal {
                Some(_) if at_console => return Input::End,
                Some(terminal) => {
                    if while_receiving(&mut typed, &mut waiting, terminal.type_end()).await.is_err() {
                        return Input::Gone;
                    }
                }
                None => *input = None,
            },
            Event::Break if at_console => {
                // A pty cannot pass a break to its program.
                let notice = "\r\n[an SSH break has no effect here: use the escape command l0]\r\n";
                let shown = match terminal {
                    Some(_) => outlet.send(notice.as_bytes().to_vec()).await,
                    None => outlet.notice(notice.to_owned()).await,
                };
                if shown.is_err() {
                    return Input::Gone;
                }
            }
            Event::Break | Event::TimedBreak(_) => {}
        }
        typed.settle(weight);
    }
}

/// Waits for the program, without limit, and receives input in the meantime. Fails when the client has disconnected.
async fn while_receiving<T>(
    typed: &mut QueuedInput,
    waiting: &mut VecDeque<Event>,
    done: impl Future<Output = T>,
) -> Result<T, Gone> {
    tokio::pin!(done);
    loop {
        tokio::select! {
            biased;
            done = &mut done => return Ok(done),
            event = typed.next() => waiting.push_back(event.ok_or(Gone)?),
        }
    }
}

/// Follows changes of the client's terminal size.
async fn follow(screen: &Option<Screen>, terminal: Option<&End>) {
    if let (Some(screen), Some(terminal)) = (screen, terminal) {
        let mut size: watch::Receiver<WindowSize> = screen.size.clone();
        while size.changed().await.is_ok() {
            let now = *size.borrow_and_update();
            terminal.resize(now);
        }
    }
    std::future::pending().await
}

/// A non-blocking descriptor.
struct End(Watched<OwnedFd>);

impl End {
    fn new(end: OwnedFd) -> io::Result<Self> {
        ioctl_fionbio(&end, true)?;
        Ok(Self(Watched::new(end, Interest::READABLE | Interest::WRITABLE)?))
    }

    /// Reads available bytes; 0 at the end, for which a terminal returns EIO.
    async fn read(&self, piece: &mut [u8]) -> io::Result<usize> {
        let read = self.0.async_io(Interest::READABLE, |end| match read(end, &mut *piece) {
            Err(Errno::IO) => Ok(0),
            read => Ok(read?),
        });
        read.await
    }

    async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let count = self.0.async_io(Interest::WRITABLE, |end| Ok(write(end, bytes)?)).await?;
            bytes = &bytes[count..];
        }
        Ok(())
    }

    /// Sends the terminal's end-of-file character, usually Ctrl-D.
    async fn type_end(&self) {
        if let Ok(modes) = tcgetattr(self.0.get_ref()) {
            // Fails if the program has ended.
            let _ = self.write_all(&[modes.special_codes[SpecialCodeIndex::VEOF]]).await;
        }
    }

    fn resize(&self, WindowSize { columns, rows }: WindowSize) {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        if let Err(error) = tcsetwinsize(self.0.get_ref(), size) {
            tracing::warn!("cannot resize a terminal: {error}");
        }
    }
}

//! Bytes between an SSH channel and the `consolectl` behind it, on a terminal or on three pipes. Both ways wait for the slower
//! side: a client that does not read stops the reading here, and a program that does not read stops the client
//! (`Typed`).

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;

use rustix::io::{Errno, ioctl_fionbio, read, write};
use rustix::termios::{SpecialCodeIndex, Winsize, tcgetattr, tcsetwinsize};
use tokio::io::Interest;
use tokio::sync::watch;

use crate::auth::client::{Ends, LoginError, Running};
use crate::auth::protocol::{Exit, WindowSize};
use crate::session::{Event, Gone, Outlet, Typed};
use crate::ssh::{Screen, SshOutlet};
use crate::system::reactor::Watched;

/// Bytes shown at once: one SSH packet.
const READ_CHUNK: usize = 32 * 1024;

/// What the client's side came to first.
enum Input {
    /// It is gone.
    Gone,
    /// It sends no more, which is how one leaves a console.
    Left,
}

/// Carries bytes until the program has ended and all that it said has been shown; `None` if the client is gone before. What is
/// dropped then ends the program.
pub(super) async fn run(
    ends: Ends,
    mut running: Running,
    screen: &Option<Screen>,
    typed: Typed,
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
            tracing::error!("a session is lost: {error}");
            return Some(Exit::Status(1));
        }
    };
    let output = terminal.as_ref().or(output.as_ref());
    let shown = async {
        // A program that has ended has said all that it will, but not all of it may have been read yet. One that goes on does so
        // for nobody, once there is nobody to show it to.
        let all = tokio::try_join!(
            async { Ok(running.exited().await) },
            show(output, outlet.clone(), Stream::Output),
            show(aside.as_ref(), outlet.clone(), Stream::Aside),
        );
        all.ok().map(|(exit, (), ())| ended(exit))
    };
    tokio::select! {
        exit = shown => exit,
        left = take(terminal.as_ref(), &mut input, typed, at_console, outlet.clone()) => match left {
            Input::Gone => None,
            Input::Left => Some(Exit::Status(0)),
        },
        () = follow(screen, terminal.as_ref()) => None,
    }
}

fn ended(exit: Result<Exit, LoginError>) -> Exit {
    exit.unwrap_or_else(|error| {
        tracing::error!("a session is lost: {error}");
        Exit::Status(1)
    })
}

/// Our sides of the program's descriptors.
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

/// Shows what the program says until it closes this end. An error is a client that is gone.
async fn show(end: Option<&End>, mut outlet: SshOutlet, stream: Stream) -> Result<(), Gone> {
    let Some(end) = end else { return Ok(()) };
    let mut piece = vec![0; READ_CHUNK];
    loop {
        let count = match end.read(&mut piece).await {
            Ok(count) => count,
            Err(error) => {
                tracing::warn!("a session cannot be read from any more: {error}");
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

/// Hands on what the client sends, as fast as the program takes it. While that takes nothing, the client is still heard, so that
/// its end is: what it has sent meanwhile waits here, and nothing of it is settled, which bounds it.
async fn take(
    terminal: Option<&End>,
    input: &mut Option<End>,
    mut typed: Typed,
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
                    match meanwhile(&mut typed, &mut waiting, end.write_all(&bytes)).await {
                        Ok(Ok(())) => {}
                        // It has closed that, and may go on without; so do we.
                        Ok(Err(_)) => *input = None,
                        Err(Gone) => return Input::Gone,
                    }
                }
            }
            Event::End => match terminal {
                Some(_) if at_console => return Input::Left,
                Some(terminal) => {
                    if meanwhile(&mut typed, &mut waiting, terminal.type_end()).await.is_err() {
                        return Input::Gone;
                    }
                }
                None => *input = None,
            },
            Event::Break if at_console => {
                // A terminal has no way to hand it on to the program behind it.
                let told =
                    "\r\n[a break of the SSH client goes no further here: use the escape command l0]\r\n";
                let shown = match terminal {
                    Some(_) => outlet.send(told.as_bytes().to_vec()).await,
                    None => outlet.aside(told.to_owned()).await,
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

/// Waits for what the program may never do, and hears the client until then. An error is a client that is gone.
async fn meanwhile<T>(
    typed: &mut Typed,
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

/// Makes the terminal as large as the client's, whenever that changes.
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

/// A descriptor that never blocks us.
struct End(Watched<OwnedFd>);

impl End {
    fn new(end: OwnedFd) -> io::Result<Self> {
        ioctl_fionbio(&end, true)?;
        Ok(Self(Watched::new(end, Interest::READABLE | Interest::WRITABLE)?))
    }

    /// What is there; 0 bytes at the end, which a terminal calls EIO.
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

    /// Types what means the end of input on this terminal, usually Ctrl-D.
    async fn type_end(&self) {
        if let Ok(modes) = tcgetattr(self.0.get_ref()) {
            // Fails if the program has ended, and then it needs none.
            let _ = self.write_all(&[modes.special_codes[SpecialCodeIndex::VEOF]]).await;
        }
    }

    fn resize(&self, WindowSize { columns, rows }: WindowSize) {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        if let Err(error) = tcsetwinsize(self.0.get_ref(), size) {
            tracing::warn!("a terminal cannot be resized: {error}");
        }
    }
}

//! `transfer PORT send|receive FILE`: a file by XMODEM, YMODEM or ZMODEM, by lrzsz at this end. It runs as
//! the user, who alone decides what is read and written; the port sees a session that writes.

use std::cell::RefCell;
use std::fs;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::client::{Client, Done};
use crate::attach::client;
use crate::attach::frame::{Frames, Kind};
use crate::port::PortName;
use crate::printable::{plain, visible};
use crate::session::{Escape, Options};

/// Bytes that ZMODEM may have on their way: what the line sends in two seconds. Without such a window lrzsz
/// hands the port up to 1 MiB at once, and gives up its wait for an answer, 60 s, while that is still being
/// sent.
const WINDOW_BYTES: std::ops::RangeInclusive<u64> = 1024..=65_536;
const WINDOW_SECONDS: u64 = 2;
/// Bytes relayed at once.
const RELAY_CHUNK: usize = 4096;
/// Bytes of lrzsz's own messages that are kept: its last words.
const MAX_MESSAGE: u64 = 4096;
/// How often the progress is shown.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);
/// Characters of the bar.
const BAR: usize = 30;
/// For the port to take the last bytes, and to say how the session ended.
const END_TIMEOUT: Duration = Duration::from_secs(10);
/// What ends a transfer at the far end: CAN eight times, and backspaces for a shell that reads them (ZMODEM's
/// specification, section 8.4).
const CANCEL: &[u8] = b"\x18\x18\x18\x18\x18\x18\x18\x18\x08\x08\x08\x08\x08\x08\x08\x08";

/// Which way a file goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Direction {
    /// To the device
    Send,
    /// From the device
    Receive,
}

/// The protocol that the device speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Protocol {
    /// Blocks of 128 bytes; a file that is received is padded to a whole block
    #[value(name = "xmodem", alias = "x")]
    X,
    /// Blocks of 1024 bytes, with name and size
    #[value(name = "ymodem", alias = "y")]
    Y,
    /// A stream with name and size
    #[value(name = "zmodem", alias = "z")]
    Z,
}

impl Protocol {
    fn name(self) -> &'static str {
        match self {
            Self::X => "XMODEM",
            Self::Y => "YMODEM",
            Self::Z => "ZMODEM",
        }
    }

    /// lrzsz's program.
    fn program(self, direction: Direction) -> &'static str {
        match (direction, self) {
            (Direction::Send, Self::X) => "sx",
            (Direction::Send, Self::Y) => "sb",
            (Direction::Send, Self::Z) => "sz",
            (Direction::Receive, Self::X) => "rx",
            (Direction::Receive, Self::Y) => "rb",
            (Direction::Receive, Self::Z) => "rz",
        }
    }
}

/// Why a file was not transferred.
#[derive(Debug, Error)]
pub enum TransferError {
    /// The file.
    #[error("{}: {cause}", .0.display(), cause = .1)]
    File(PathBuf, io::Error),
    /// Not a file.
    #[error("{} is not a file", .0.display())]
    NotAFile(PathBuf),
    /// Nothing is overwritten.
    #[error("{} exists: remove it, or give another name", .0.display())]
    Exists(PathBuf),
    /// lrzsz.
    #[error("{0} is not installed: apt install lrzsz")]
    NotInstalled(&'static str),
    /// It cannot be run.
    #[error("{0} cannot be run: {1}")]
    NotRun(&'static str, io::Error),
    /// The port.
    #[error("{0} has write access at {1}: transfer --force takes over")]
    Busy(String, PortName),
    /// The session.
    #[error("{0} has ended the session")]
    Ended(PortName),
    /// The socket or a pipe.
    #[error("the transfer has failed: {0}")]
    Failed(#[from] io::Error),
    /// lrzsz's own reason.
    #[error("{0}")]
    NotDone(String),
    /// Control-C.
    #[error("interrupted: the far end was sent the cancel sequence")]
    Interrupted,
    /// A batch.
    #[error("{0} files came, and none was kept: one at a time")]
    Several(usize),
}

/// A transfer, as it is asked for.
#[derive(Debug, Clone)]
pub struct Transfer {
    /// Which way.
    pub direction: Direction,
    /// How.
    pub protocol: Protocol,
    /// The file here.
    pub file: PathBuf,
    /// Whether to take over from the client that has write access.
    pub force: bool,
}

impl Client {
    /// Transfers a file.
    pub async fn transfer(&self, port: &PortName, transfer: &Transfer, to: &mut impl io::Write) -> Done {
        let port = &self.whole(port)?;
        let begun = Instant::now();
        let bytes = transfer.run(self.runtime(), port).await?;
        let Transfer { direction, protocol, file, .. } = transfer;
        let done = if *direction == Direction::Send { "sent" } else { "received" };
        let seconds = begun.elapsed().as_secs_f64();
        Ok(writeln!(
            to,
            "{}: {bytes} bytes {done} by {} in {seconds:.1} s, {:.0} bytes/s",
            plain(&file.display().to_string()),
            protocol.name(),
            bytes as f64 / seconds.max(0.001)
        )?)
    }
}

impl Transfer {
    /// Does it: the bytes of the file.
    async fn run(&self, runtime: &Path, port: &PortName) -> Result<u64, super::client::CommandError> {
        let size = self.size()?;
        let status = client::status(runtime, port)?;
        let shared = status.users.iter().filter(|user| user.writes).count();
        if let Some(writer) =
            status.users.iter().find(|user| user.writes).filter(|_| shared == 1 && !self.force)
        {
            return Err(TransferError::Busy(
                format!("{} ({})", plain(&writer.name), plain(&writer.from)),
                port.clone(),
            )
            .into());
        }
        let baud =
            status.settings.split(' ').next().and_then(|word| word.parse::<u64>().ok()).unwrap_or(9600);
        let window = (baud / 10 * WINDOW_SECONDS).clamp(*WINDOW_BYTES.start(), *WINDOW_BYTES.end());
        let options = Options { escape: Escape::Off, force: self.force, ..Options::default() };
        let stream = client::open(runtime, port, options)?;
        stream.set_nonblocking(true).map_err(TransferError::from)?;
        let stream = UnixStream::from_std(stream).map_err(TransferError::from)?;
        Ok(match self.direction {
            Direction::Send => {
                let child = self.start(&[&self.file], None, window)?;
                self.relay(stream, child, size, port).await?;
                size.unwrap_or(0)
            }
            Direction::Receive => self.receive(stream, port, window).await?,
        })
    }

    /// Of a file to be sent, its size.
    fn size(&self) -> Result<Option<u64>, TransferError> {
        match (self.direction, fs::metadata(&self.file)) {
            (Direction::Send, Ok(data)) if data.is_file() => Ok(Some(data.len())),
            (Direction::Send, Ok(_)) => Err(TransferError::NotAFile(self.file.clone())),
            (Direction::Send, Err(error)) => Err(TransferError::File(self.file.clone(), error)),
            (Direction::Receive, Ok(_)) => Err(TransferError::Exists(self.file.clone())),
            (Direction::Receive, Err(_)) => Ok(None),
        }
    }

    /// Receives into a directory of its own beside the file, and gives it its name when it is whole: the far
    /// end's name for it means nothing here.
    async fn receive(&self, stream: UnixStream, port: &PortName, window: u64) -> Result<u64, TransferError> {
        let failed = |error| TransferError::File(self.file.clone(), error);
        let beside =
            self.file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let inbox = Inbox::create(beside).map_err(failed)?;
        let name = Path::new("received");
        let names: &[&Path] = if self.protocol == Protocol::X { &[name] } else { &[] };
        let child = self.start(names, Some(&inbox.0), window)?;
        self.relay(stream, child, None, port).await?;
        let entries =
            fs::read_dir(&inbox.0).and_then(Iterator::collect::<io::Result<Vec<_>>>).map_err(failed)?;
        match entries.as_slice() {
            [] => Err(TransferError::NotDone("no file came".to_owned())),
            [entry] => {
                let size = entry.metadata().map_err(failed)?.len();
                // Fails if the file is there by now.
                renameat_with(CWD, entry.path(), CWD, &self.file, RenameFlags::NOREPLACE)
                    .map_err(|errno| failed(errno.into()))?;
                Ok(size)
            }
            several => Err(TransferError::Several(several.len())),
        }
    }

    fn start(&self, files: &[&Path], directory: Option<&Path>, window: u64) -> Result<Child, TransferError> {
        let program = self.protocol.program(self.direction);
        let mut command = Command::new(program);
        command.arg("--quiet");
        match (self.direction, self.protocol) {
            // sx and sb send every file as it is.
            (Direction::Send, Protocol::X | Protocol::Y) => &mut command,
            (Direction::Send, Protocol::Z) => command.args(["--binary", "--windowsize", &window.to_string()]),
            // No path of the far end's is followed.
            (Direction::Receive, _) => command.args(["--binary", "--restricted"]),
        };
        if self.direction == Direction::Send {
            command.arg("--");
        }
        command.args(files);
        if let Some(directory) = directory {
            command.current_dir(directory);
        }
        // Its own process group: Control-C is ours, which also cancels the far end.
        command.process_group(0).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => TransferError::NotInstalled(program),
            _ => TransferError::NotRun(program, error),
        })
    }

    /// Passes bytes between lrzsz and the port until lrzsz ends. Neither direction waits for the other.
    async fn relay(
        &self,
        stream: UnixStream,
        mut child: Child,
        size: Option<u64>,
        port: &PortName,
    ) -> Result<(), TransferError> {
        let (mut from_port, mut to_port) = stream.into_split();
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(mut to_child), Some(mut from_child), Some(messages)) = pipes else {
            return Err(TransferError::NotDone("lrzsz has no pipes".to_owned()));
        };
        let messages = tokio::spawn(last_words(messages));
        let progress = RefCell::new(Progress::new(size));
        let up = async {
            let mut buffer = [0; RELAY_CHUNK];
            loop {
                match from_child.read(&mut buffer).await? {
                    // All of its output has been passed on.
                    0 => return child.wait().await,
                    count => {
                        if self.direction == Direction::Send {
                            progress.borrow_mut().add(count);
                        }
                        to_port.write_all(&buffer[..count]).await?;
                    }
                }
            }
        };
        let down = async {
            let mut buffer = [0; RELAY_CHUNK];
            let mut frames = Frames::default();
            loop {
                match from_port.read(&mut buffer).await? {
                    0 => return Ok(()),
                    count => frames.receive(&buffer[..count]),
                }
                while let Some((kind, bytes)) = frames.next_frame()? {
                    match kind {
                        Kind::Output => {
                            if self.direction == Direction::Receive {
                                progress.borrow_mut().add(bytes.len());
                            }
                            // One that has ended needs no more, and says why it has.
                            let _ = to_child.write_all(&bytes).await;
                        }
                        Kind::Notice => {
                            progress.borrow_mut().end();
                            eprint!("{}", visible(&String::from_utf8_lossy(&bytes)));
                        }
                        _ => return Ok::<_, io::Error>(()),
                    }
                }
            }
        };
        let outcome = tokio::select! {
            status = up => Ok(status?),
            ended = down => {
                ended?;
                Err(TransferError::Ended(port.clone()))
            }
            _ = tokio::signal::ctrl_c() => Err(TransferError::Interrupted),
        };
        progress.borrow_mut().end();
        if let Err(TransferError::Interrupted) = outcome {
            // The far end waits for more otherwise. A line that takes nothing does not keep the user.
            let _ = timeout(END_TIMEOUT, to_port.write_all(CANCEL)).await;
        }
        let status = outcome?;
        if status.success() {
            Ok(())
        } else {
            Err(self.not_done(status, &messages.await.unwrap_or_default()))
        }
    }

    fn not_done(&self, status: ExitStatus, said: &str) -> TransferError {
        let program = self.protocol.program(self.direction);
        let last = said.lines().rev().map(str::trim).find(|line| !line.is_empty());
        TransferError::NotDone(match last {
            Some(line) => format!("not transferred: {program}: {}", plain(line)),
            None => format!("not transferred: {program} has failed ({status})"),
        })
    }
}

/// The end of what a program writes.
async fn last_words(mut from: impl tokio::io::AsyncRead + Unpin) -> String {
    let mut kept = Vec::new();
    let mut piece = [0; 512];
    while let Ok(count @ 1..) = from.read(&mut piece).await {
        kept.extend_from_slice(&piece[..count]);
        let more = kept.len().saturating_sub(MAX_MESSAGE as usize);
        kept.drain(..more);
    }
    String::from_utf8_lossy(&kept).into_owned()
}

/// A directory that goes with what is in it.
struct Inbox(PathBuf);

impl Inbox {
    fn create(beside: &Path) -> io::Result<Self> {
        use std::os::unix::fs::DirBuilderExt;
        let path = beside.join(format!(".consolectl-transfer-{}", std::process::id()));
        fs::DirBuilder::new().mode(0o700).create(&path)?;
        // lrzsz runs in it.
        Ok(Self(fs::canonicalize(path)?))
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("{}: not removed: {error}", self.0.display());
        }
    }
}

/// The bar on a terminal.
struct Progress {
    size: Option<u64>,
    bytes: u64,
    begun: Instant,
    shown: Option<Instant>,
    terminal: bool,
}

impl Progress {
    fn new(size: Option<u64>) -> Self {
        Self { size, bytes: 0, begun: Instant::now(), shown: None, terminal: io::stderr().is_terminal() }
    }

    fn add(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
        if self.terminal && self.shown.is_none_or(|shown| shown.elapsed() >= PROGRESS_INTERVAL) {
            self.shown = Some(Instant::now());
            eprint!("\r{}\x1b[K", bar(self.bytes, self.size, self.begun.elapsed()));
        }
    }

    /// The line is free again.
    fn end(&mut self) {
        if self.shown.take().is_some() {
            eprint!("\r\x1b[K");
        }
    }
}

/// `[###---] 50 %  10 of 20 KiB  1.0 KiB/s`. Headers and checksums count, so that the end is reached at 99 %.
fn bar(bytes: u64, size: Option<u64>, time: Duration) -> String {
    let kib = |bytes: u64| bytes.div_ceil(1024);
    let rate = bytes as f64 / 1024.0 / time.as_secs_f64().max(0.001);
    match size.filter(|size| *size > 0) {
        None => format!("{} KiB  {rate:.1} KiB/s", kib(bytes)),
        Some(size) => {
            let percent = (bytes.saturating_mul(100) / size).min(99);
            let full = percent as usize * BAR / 100;
            format!(
                "[{}{}] {percent} %  {} of {} KiB  {rate:.1} KiB/s",
                "#".repeat(full),
                "-".repeat(BAR - full),
                kib(bytes.min(size)),
                kib(size)
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_is_bounded_whatever_is_counted() {
        let second = Duration::from_secs(1);
        assert_eq!(
            bar(512, Some(1024), second),
            "[###############---------------] 50 %  1 of 1 KiB  0.5 KiB/s"
        );
        assert!(bar(u64::MAX, Some(1), second).starts_with("[#############################-] 99 %"));
        assert_eq!(bar(2048, None, Duration::from_secs(2)), "2 KiB  1.0 KiB/s");
        assert_eq!(bar(1024, Some(0), second), "1 KiB  1.0 KiB/s");
    }
}

//! `transfer PORT send|receive FILE`: transfers a file by XMODEM, YMODEM or ZMODEM. lrzsz runs on this side, as the
//! user, who decides which files are read and written; to the port it is a session with write access.

use std::cell::RefCell;
use std::fs;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::attach::client as attach;
use crate::attach::frame::{Frames, Kind};
use crate::cli::client::Client;
use crate::cli::error::{CommandError, Done};
use crate::port::{PortName, PortPattern};
use crate::printable::{plain, visible};
use crate::session::{Escape, Options};

/// Limits of ZMODEM's window, which is what the line sends in two seconds. Without a window, lrzsz writes up to 1 MiB
/// at once, and its 60 s timeout for a reply expires while that is still being sent.
const WINDOW_BYTES: std::ops::RangeInclusive<u64> = 1024..=65_536;
const WINDOW_SECONDS: u64 = 2;
/// Bytes relayed at once.
const RELAY_CHUNK: usize = 4096;
/// The end of lrzsz's messages that is kept, in bytes.
const MAX_MESSAGE: u64 = 4096;
const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);
/// Characters of the bar.
const BAR_WIDTH: usize = 30;
/// Time for the port to accept the cancel sequence.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(10);
/// Ends a transfer at the far end: CAN eight times, and backspaces for a shell that reads them (ZMODEM's
/// specification, section 8.4).
const CANCEL: &[u8] = b"\x18\x18\x18\x18\x18\x18\x18\x18\x08\x08\x08\x08\x08\x08\x08\x08";

/// Direction of a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Direction {
    /// To the device
    Send,
    /// From the device
    Receive,
}

/// Protocol of a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Protocol {
    /// Blocks of 128 bytes; a received file is padded to a whole block
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

#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Transfer {
    /// Port
    pub port: PortPattern,
    /// Direction
    pub direction: Direction,
    /// Protocol: xmodem, ymodem or zmodem, or the first letter
    #[arg(long, value_enum, default_value = "zmodem")]
    pub protocol: Protocol,
    /// Take over from the client that has write access
    #[arg(long)]
    pub force: bool,
    /// File to send, or the name of the file to receive
    #[arg(value_hint = clap::ValueHint::FilePath)]
    pub file: PathBuf,
}

/// Why a file was not transferred.
#[derive(Debug, Error)]
pub enum TransferError {
    #[error("{}: {cause}", .0.display(), cause = .1)]
    File(PathBuf, io::Error),
    #[error("{} is not a file", .0.display())]
    NotAFile(PathBuf),
    #[error("{} already exists: remove it, or use another name", .0.display())]
    Exists(PathBuf),
    #[error("{0} is not installed: apt install lrzsz")]
    NotInstalled(&'static str),
    #[error("cannot run {0}: {1}")]
    NotRun(&'static str, io::Error),
    #[error("{0} has write access at {1}: transfer --force takes over")]
    Busy(String, PortName),
    #[error("{0} ended the session")]
    Ended(PortName),
    #[error("the transfer failed: {0}")]
    Failed(#[from] io::Error),
    /// The reason is lrzsz's.
    #[error("{0}")]
    NotDone(String),
    #[error("interrupted: the cancel sequence was sent to the far end")]
    Interrupted,
    #[error("the far end sent {0} files, none of which was kept: transfer one file at a time")]
    Several(usize),
}

impl From<TransferError> for CommandError {
    fn from(error: TransferError) -> Self {
        Self::of_command(error)
    }
}

pub(in crate::cli) async fn run(transfer: Transfer, client: &Client, to: &mut impl io::Write) -> Done {
    let port = client.endpoint.one("transfer", &transfer.port)?;
    let begun = Instant::now();
    let bytes = transfer.transfer(&client.endpoint.runtime, &port).await?;
    let Transfer { direction, protocol, file, .. } = &transfer;
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

impl Transfer {
    /// Transfers the file. Returns its size in bytes.
    async fn transfer(&self, runtime: &Path, port: &PortName) -> Done<u64> {
        let size = self.size()?;
        let status = attach::status(runtime, port)?;
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
        let stream = attach::open(runtime, port, options)?;
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

    /// The size of a file to send.
    fn size(&self) -> Result<Option<u64>, TransferError> {
        match (self.direction, fs::metadata(&self.file)) {
            (Direction::Send, Ok(data)) if data.is_file() => Ok(Some(data.len())),
            (Direction::Send, Ok(_)) => Err(TransferError::NotAFile(self.file.clone())),
            (Direction::Send, Err(error)) => Err(TransferError::File(self.file.clone(), error)),
            (Direction::Receive, Ok(_)) => Err(TransferError::Exists(self.file.clone())),
            (Direction::Receive, Err(_)) => Ok(None),
        }
    }

    /// Receives into a temporary directory next to the file, and renames the complete file. The name that the far end
    /// sends is ignored.
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
            [] => Err(TransferError::NotDone("no file was received".to_owned())),
            [entry] => {
                let size = entry.metadata().map_err(failed)?.len();
                // Fails if the file was created in the meantime.
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
            // No paths of the far end.
            (Direction::Receive, _) => command.args(["--binary", "--restricted"]),
        };
        if self.direction == Direction::Send {
            command.arg("--");
        }
        command.args(files);
        if let Some(directory) = directory {
            command.current_dir(directory);
        }
        // In its own process group: this process handles Control-C, and cancels the far end.
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
        let messages = tokio::spawn(end_of(messages));
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
                            // If lrzsz has ended, its exit status is reported.
                            let _ = to_child.write_all(&bytes).await;
                        }
                        Kind::Notice => {
                            progress.borrow_mut().end();
                            report(&visible(&String::from_utf8_lossy(&bytes)));
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
            // Otherwise the far end waits for more. The timeout is for a line that accepts no input.
            let _ = timeout(CANCEL_TIMEOUT, to_port.write_all(CANCEL)).await;
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
            None => format!("not transferred: {program} failed ({status})"),
        })
    }
}

/// Reads all output of a program. Returns the end of it.
async fn end_of(mut from: impl tokio::io::AsyncRead + Unpin) -> String {
    let mut kept = Vec::new();
    let mut piece = [0; 512];
    while let Ok(count @ 1..) = from.read(&mut piece).await {
        kept.extend_from_slice(&piece[..count]);
        let more = kept.len().saturating_sub(MAX_MESSAGE as usize);
        kept.drain(..more);
    }
    String::from_utf8_lossy(&kept).into_owned()
}

/// A temporary directory, which is removed when this is dropped.
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
            report(&format!("cannot remove {}: {error}\n", self.0.display()));
        }
    }
}

/// Writes to standard error, which may be closed: the transfer continues without it.
fn report(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}

/// The progress bar, on a terminal only.
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
            report(&format!("\r{}\x1b[K", bar(self.bytes, self.size, self.begun.elapsed())));
        }
    }

    /// Clears the line.
    fn end(&mut self) {
        if self.shown.take().is_some() {
            report("\r\x1b[K");
        }
    }
}

/// `[###---] 50 %  10 of 20 KiB  1.0 KiB/s`. Headers and checksums are counted too, so it stops at 99 %.
fn bar(bytes: u64, size: Option<u64>, time: Duration) -> String {
    let kib = |bytes: u64| bytes.div_ceil(1024);
    let rate = bytes as f64 / 1024.0 / time.as_secs_f64().max(0.001);
    match size.filter(|size| *size > 0) {
        None => format!("{} KiB  {rate:.1} KiB/s", kib(bytes)),
        Some(size) => {
            let percent = (bytes.saturating_mul(100) / size).min(99);
            let full = percent as usize * BAR_WIDTH / 100;
            format!(
                "[{}{}] {percent} %  {} of {} KiB  {rate:.1} KiB/s",
                "#".repeat(full),
                "-".repeat(BAR_WIDTH - full),
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

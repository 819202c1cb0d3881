//! A session's output over SSH. A send waits while the client's window is full, and only that session waits.

use std::net::IpAddr;
use std::sync::Arc;

use nix::sys::signal::Signal;
use russh::server::{Handle, Msg};
use russh::{ChannelId, ChannelWriteHalf, Sig};

use crate::auth::protocol::Exit;
use crate::session::{Gone, Outlet};

/// Standard error (RFC 4254, section 5.2).
const STDERR: u32 = 1;

#[derive(Clone, Debug)]
pub struct SshOutlet {
    channel: Arc<ChannelWriteHalf<Msg>>,
    /// Our address, as the client sees it.
    local_address: IpAddr,
}

impl SshOutlet {
    /// The outlet to a channel of a client that is connected to `at`.
    pub fn new(channel: ChannelWriteHalf<Msg>, at: IpAddr) -> Self {
        Self { channel: Arc::new(channel), local_address: at }
    }

    pub async fn send_aside(&mut self, bytes: Vec<u8>) -> Result<(), Gone> {
        self.channel.extended_data_bytes(STDERR, bytes).await.map_err(|_| Gone)
    }
}

/// The channel's own write half waits for its window. russh's `Handle` would take the bytes at once, and until the client has read them
/// no other channel of the connection could send (0.65: `Session::run` takes no message while any channel's bytes wait).
impl Outlet for SshOutlet {
    async fn send(&mut self, bytes: Vec<u8>) -> Result<(), Gone> {
        self.channel.data_bytes(bytes).await.map_err(|_| Gone)
    }

    async fn notice(&mut self, text: String) -> Result<(), Gone> {
        self.send_aside(text.into_bytes()).await
    }

    fn reached_at(&self) -> Option<IpAddr> {
        Some(self.local_address)
    }
}

/// Prints PAM's messages, which are printable: on a terminal before the session, otherwise on standard error, since a program may read
/// the output.
pub async fn print_messages(outlet: &mut SshOutlet, on_terminal: bool, messages: &str) -> Result<(), Gone> {
    let lines: Vec<&str> = messages.lines().collect();
    match (lines.is_empty(), on_terminal) {
        (true, _) => Ok(()),
        (false, true) => outlet.send(format!("{}\r\n", lines.join("\r\n")).into_bytes()).await,
        (false, false) => outlet.notice(format!("{}\n", lines.join("\n"))).await,
    }
}

/// Closes a channel with the exit status of its session. The connection stays, for further sessions.
pub async fn finish(handle: &Handle, channel: ChannelId, exit: Option<Exit>) {
    // Fails if the client has disconnected.
    let _ = match exit {
        None => Ok(()),
        Some(Exit::Status(status)) => handle.exit_status_request(channel, status.into()).await,
        Some(Exit::Signal(number)) => {
            handle.exit_signal_request(channel, name(number), false, String::new(), String::new()).await
        }
    };
    let _ = handle.eof(channel).await;
    let _ = handle.close(channel).await;
}

/// SSH's name of a signal, without `SIG` (RFC 4254, section 6.10).
fn name(number: i32) -> Sig {
    match Signal::try_from(number) {
        Ok(Signal::SIGABRT) => Sig::ABRT,
        Ok(Signal::SIGALRM) => Sig::ALRM,
        Ok(Signal::SIGFPE) => Sig::FPE,
        Ok(Signal::SIGHUP) => Sig::HUP,
        Ok(Signal::SIGILL) => Sig::ILL,
        Ok(Signal::SIGINT) => Sig::INT,
        Ok(Signal::SIGKILL) => Sig::KILL,
        Ok(Signal::SIGPIPE) => Sig::PIPE,
        Ok(Signal::SIGQUIT) => Sig::QUIT,
        Ok(Signal::SIGSEGV) => Sig::SEGV,
        Ok(Signal::SIGTERM) => Sig::TERM,
        Ok(Signal::SIGUSR1) => Sig::USR1,
        Ok(other) => Sig::Custom(format!("{}@consoleserver", other.as_str().trim_start_matches("SIG"))),
        Err(_) => Sig::Custom(format!("{number}@consoleserver")),
    }
}

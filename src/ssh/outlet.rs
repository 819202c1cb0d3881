//! Where a session's words leave by SSH. A send waits while the client's window is full, and with it that one session.

use std::fmt;
use std::time::Duration;

use nix::sys::signal::Signal;
use russh::server::Handle;
use russh::{ChannelId, Disconnect, Sig};

use crate::auth::protocol::Exit;
use crate::session::{Gone, Outlet};

/// Standard error (RFC 4254, section 5.2).
const STDERR: u32 = 1;

/// A channel of a client.
#[derive(Clone)]
pub struct SshOutlet {
    handle: Handle,
    channel: ChannelId,
}

impl SshOutlet {
    /// The outlet to this channel.
    pub fn new(handle: Handle, channel: ChannelId) -> Self {
        Self { handle, channel }
    }

    /// What a program says on its standard error.
    pub async fn send_aside(&mut self, bytes: Vec<u8>) -> Result<(), Gone> {
        self.handle.extended_data(self.channel, STDERR, bytes).await.map_err(|_| Gone)
    }
}

impl fmt::Debug for SshOutlet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SshOutlet").field(&self.channel).finish()
    }
}

impl Outlet for SshOutlet {
    async fn send(&mut self, bytes: Vec<u8>) -> Result<(), Gone> {
        self.handle.data(self.channel, bytes).await.map_err(|_| Gone)
    }

    async fn aside(&mut self, text: String) -> Result<(), Gone> {
        self.send_aside(text.into_bytes()).await
    }
}

/// Shows what PAM has said to the user, which is printable: on a terminal above what follows, and else beside the bytes of the console,
/// which a program may read.
pub async fn show_said(outlet: &mut SshOutlet, on_terminal: bool, said: &str) -> Result<(), Gone> {
    let lines: Vec<&str> = said.lines().collect();
    match (lines.is_empty(), on_terminal) {
        (true, _) => Ok(()),
        (false, true) => outlet.send(format!("{}\r\n", lines.join("\r\n")).into_bytes()).await,
        (false, false) => outlet.aside(format!("{}\n", lines.join("\n"))).await,
    }
}

/// For a client to close its end after ours. OpenSSH takes a disconnect that comes before for an error.
const PATIENCE: Duration = Duration::from_secs(5);

/// Ends the connection as the session ended; `None` is a client that is gone.
pub async fn finish(handle: Handle, channel: ChannelId, exit: Option<Exit>) {
    // An error here means that the client is gone already, which is what this is about.
    let _ = match exit {
        None => return,
        Some(Exit::Status(status)) => handle.exit_status_request(channel, status.into()).await,
        Some(Exit::Signal(number)) => {
            handle.exit_signal_request(channel, name(number), false, String::new(), String::new()).await
        }
    };
    let _ = handle.eof(channel).await;
    let _ = handle.close(channel).await;
    tokio::time::sleep(PATIENCE).await;
    let _ = handle.disconnect(Disconnect::ByApplication, "bye".to_owned(), String::new()).await;
}

/// A signal as SSH calls it: without `SIG` (RFC 4254, section 6.10).
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

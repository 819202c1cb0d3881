//! Where a session's words leave by SSH. A send waits while the client's window is full, and with it that one session.

use std::time::Duration;

use russh::server::Handle;
use russh::{ChannelId, Disconnect};

use crate::session::{Ended, Gone, Outlet};

/// Standard error (RFC 4254, section 5.2).
const STDERR: u32 = 1;

/// A channel of a client.
pub struct SshOutlet {
    handle: Handle,
    channel: ChannelId,
}

impl SshOutlet {
    /// The outlet to this channel.
    pub fn new(handle: Handle, channel: ChannelId) -> Self {
        Self { handle, channel }
    }
}

impl Outlet for SshOutlet {
    async fn send(&mut self, bytes: Vec<u8>) -> Result<(), Gone> {
        self.handle.data(self.channel, bytes).await.map_err(|_| Gone)
    }

    async fn aside(&mut self, text: String) -> Result<(), Gone> {
        self.handle.extended_data(self.channel, STDERR, text.into_bytes()).await.map_err(|_| Gone)
    }
}

/// For a client to close its end after ours. OpenSSH takes a disconnect that comes before for an error.
const PATIENCE: Duration = Duration::from_secs(5);

/// Ends the connection as the session ended: exit status 0 if its user left, 1 if we closed it.
pub async fn finish(handle: Handle, channel: ChannelId, ended: Ended) {
    let status = match ended {
        // (It moves nobody: an SSH client is at one port.)
        Ended::Left | Ended::Moved(_) => 0,
        Ended::Closed(_) => 1,
        Ended::Gone => return,
    };
    // An error here means that the client is gone already, which is what this is about.
    let _ = handle.exit_status_request(channel, status).await;
    let _ = handle.eof(channel).await;
    let _ = handle.close(channel).await;
    tokio::time::sleep(PATIENCE).await;
    let _ = handle.disconnect(Disconnect::ByApplication, "bye".to_owned(), String::new()).await;
}
